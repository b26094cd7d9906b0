/* fuzz_engine.c: any sequence of engine calls against a model that is an array of bytes.
 *
 * Would catch: a call that in some order does something else than engine.h says; a wrong order that is
 * not DAX_MISUSE or has an effect; a snapshot or a pin whose bytes change; lost, torn or resurrected
 * bytes after a commit, an abort, a checkpoint, a close, or a crash at any operation on persistent
 * memory (as kill -9 leaves it: all stores arrive); a size or a file at rest that is not the model's.
 *
 * Input: a byte of options, then operations of a few bytes each (enum op). Connections are four, in one
 * process and thread, so a lock that somebody else holds is DAX_BUSY. The ring is small, so that it
 * wraps and checkpoints within a few transactions.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/chain.h"
#include "engine/conn.h"
#include "engine/frames.h"
#include "tests/fuzz/engine_model.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/image.h"
#include "tests/fuzz/pool.h"

#define CONNS 4u
#define PINS DAX_SLOT_PINS_SHARED
#define STEPS_MAX 160u

struct pin {
    void *at;
    uint64_t offset;
    struct state *of; /* the snapshot it was taken in, which a commit of its own leaves behind */
};

struct user {
    struct conn *conn; /* NULL: closed */
    bool read_only, reading, writing;
    struct state *seen;    /* while reading */
    struct state *working; /* while a transaction has begun, else NULL */
    size_t pin_len;
    struct pin pins[PINS];
};

static struct {
    char path[FUZZ_PATH_BYTES], sidecar[FUZZ_PATH_BYTES];
    char crash_path[FUZZ_PATH_BYTES], crash_sidecar[FUZZ_PATH_BYTES];
    struct user users[CONNS];
    struct state *committed;
    bool active; /* the store has been written to since it was opened */
    bool failed; /* a failed check: writes are refused */
    bool marked; /* the file has to be recovered */
    bool closing;
    enum medium_choice persist;
    struct dax_err err;
    struct image base, side; /* of the crash */
    long countdown;          /* operations until the crash, -1: none */
    bool crashed;            /* base and side were taken */
    const struct persist_ops *real;
    struct persist_ops ops;
} m;

/* --- expectations ---------------------------------------------------------------------------------- */

/* The call has answered rc; want is what engine.h says. */
static void expect(dax_rc rc, dax_rc want, const char *call)
{
    fuzz_trace("  %s: %s%s%s", call, dax_rc_name(rc), rc ? ": " : "", rc ? m.err.text : "");
    FUZZ_CHECK(rc == want, "%s: %s, should be %s: %s", call, dax_rc_name(rc), dax_rc_name(want),
               m.err.text);
    if (rc != DAX_OK && rc != DAX_SHORT_READ)
        fuzz_check_error(rc, &m.err, call);
    memset(&m.err, 0, sizeof m.err);
}

static struct user *other_writer(const struct user *u)
{
    for (unsigned i = 0; i < CONNS; i++)
        if (&m.users[i] != u && m.users[i].conn && m.users[i].writing)
            return &m.users[i];
    return NULL;
}

static unsigned open_count(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < CONNS; i++)
        n += m.users[i].conn != NULL;
    return n;
}

static struct store *the_store(void)
{
    for (unsigned i = 0; i < CONNS; i++)
        if (m.users[i].conn)
            return m.users[i].conn->store;
    return NULL;
}

/* What u reads now. */
static struct state *view_of(const struct user *u)
{
    return u->working ? u->working : u->reading ? u->seen : m.committed;
}

/* --- crashes -------------------------------------------------------------------------------------- */

static void crash_take(void)
{
    image_load(&m.base, m.path);
    image_load(&m.side, m.sidecar);
    m.crashed = true;
}

static void crash_step(void)
{
    if (m.countdown >= 0 && m.countdown-- == 0)
        crash_take();
}

static void step_store(struct persist *p, void *dst, const void *src, size_t len)
{
    crash_step();
    m.real->store(p, dst, src, len);
}

static void step_zero(struct persist *p, void *dst, size_t len)
{
    crash_step();
    m.real->zero(p, dst, len);
}

static void step_store_cached(struct persist *p, void *dst, const void *src, size_t len)
{
    crash_step();
    m.real->store_cached(p, dst, src, len);
}

static void step_flush(struct persist *p, const void *addr, size_t len)
{
    crash_step();
    m.real->flush(p, addr, len);
}

static void step_fence(struct persist *p)
{
    crash_step();
    m.real->fence(p);
}

static void steps_install(struct store *s)
{
    m.real = s->persist.ops;
    m.ops = *m.real;
    m.ops.store = step_store;
    m.ops.zero = step_zero;
    m.ops.store_cached = step_store_cached;
    m.ops.flush = step_flush;
    m.ops.fence = step_fence;
    s->persist.ops = &m.ops;
}

static struct dax_options model_options(void)
{
    struct dax_options o = dax_options_default();
    o.log_bytes = DAX_LOG_BYTES_MIN;
    o.private_bytes = DAX_PRIVATE_BYTES_MIN;
    o.persist = m.persist;
    return o;
}

/* Is the database at path in this state? */
static bool crash_is(struct conn *c, const struct state *s)
{
    static uint8_t buf[BYTES];
    if (conn_size(c) != s->size)
        return false;
    if (s->size == 0)
        return true;
    return conn_read(c, buf, s->size, 0, &m.err) == DAX_OK && memcmp(buf, s->bytes, s->size) == 0;
}

static void check_at_rest(const char *path, const struct state *want, const char *when)
{
    static uint8_t buf[BYTES];
    struct image rest = {0};
    image_load(&rest, path);
    FUZZ_CHECK(rest.there && rest.size == want->size, "%s: %llu bytes at rest, should be %llu",
               when, (unsigned long long)rest.size, (unsigned long long)want->size);
    image_read(&rest, buf, want->size, 0);
    state_compare(want, buf, 0, want->size, when);
    image_free(&rest);
}

/* The files of the crash recover to a or to b, twice, and are then a plain file of that state. */
static void crash_check(struct state *a, struct state *b)
{
    struct dax_options o = model_options();
    image_store(&m.base, m.crash_path);
    image_store(&m.side, m.crash_sidecar);
    m.crashed = false;
    struct state *is = NULL;
    for (int round = 0; round < 2; round++) {
        struct conn *c = NULL;
        expect(conn_open(m.crash_path, &o, &c, &m.err), DAX_OK, "open after a crash");
        expect(conn_begin_read(c, &m.err), DAX_OK, "begin_read after a crash");
        bool is_a = crash_is(c, a), is_b = crash_is(c, b);
        FUZZ_CHECK(is_a || is_b,
                   "after a crash: neither the old state (%llu bytes) nor the new one "
                   "(%llu): %llu",
                   (unsigned long long)a->size, (unsigned long long)b->size,
                   (unsigned long long)conn_size(c));
        FUZZ_CHECK(!is || (is == a ? is_a : is_b),
                   "after a crash: another state when opened again");
        is = is_a ? a : b;
        conn_end_read(c);
        expect(conn_close(c, &m.err), DAX_OK, "close after a crash");
    }
    check_at_rest(m.crash_path, is, "after a crash");
}

/* --- opening and closing ---------------------------------------------------------------------------- */

static void op_open(struct user *u, struct input *in)
{
    struct dax_options o = model_options();
    o.read_only = input_below(in, 6) == 0;
    if (u->conn)
        return;
    bool first = open_count() == 0;
    dax_rc rc = conn_open(m.path, &o, &u->conn, &m.err);
    if (first && m.marked && o.read_only) {
        expect(rc, DAX_CANT_OPEN, "open for reading what has to be recovered");
        return;
    }
    expect(rc, DAX_OK, "open");
    u->read_only = o.read_only;
    if (first) {
        m.failed = false;
        m.active = m.marked;
        m.marked = false;
        steps_install(u->conn->store);
    }
    FUZZ_CHECK(conn_size(u->conn) == m.committed->size, "size after open");
    FUZZ_CHECK(conn_is_read_only(u->conn) == u->read_only, "read_only after open");
}

static void forget(struct user *u)
{
    state_drop(&u->seen);
    state_drop(&u->working);
    memset(u, 0, sizeof *u);
}

static void unpin(struct user *u, struct pin *p)
{
    if (!p->at)
        return;
    state_compare(p->of, p->at, p->offset, u->pin_len, "pinned bytes");
    conn_unpin(u->conn, p->offset, p->at);
    state_drop(&p->of);
    p->at = NULL;
}

static void op_unpin_all(struct user *u)
{
    for (unsigned i = 0; i < PINS; i++)
        unpin(u, &u->pins[i]);
}

static void op_close(struct user *u)
{
    if (!u->conn)
        return;
    op_unpin_all(u);
    bool last = open_count() == 1;
    dax_rc rc = conn_close(u->conn, &m.err);
    expect(rc, last && m.failed && m.active ? DAX_CORRUPT : DAX_OK, "close");
    forget(u);
    if (!last)
        return;
    if (m.failed && m.active)
        m.marked = true;
    else
        check_at_rest(m.path, m.committed, "closed");
    m.failed = false;
}

/* --- reading -------------------------------------------------------------------------------------- */

static void op_begin_read(struct user *u, struct input *in)
{
    static const size_t lens[] = {4096, 4096, 4096, 512, 1024, 8192, 32768, 65536};
    size_t pin_len = lens[input_below(in, 8)];
    expect(conn_begin_read(u->conn, &m.err), u->reading ? DAX_MISUSE : DAX_OK, "begin_read");
    if (u->reading)
        return;
    u->reading = true;
    u->pin_len = pin_len;
    u->seen = state_ref(m.committed);
}

static void op_end_write(struct user *u)
{
    conn_end_write(u->conn);
    u->writing = false;
    state_drop(&u->working);
}

static void op_end_read(struct user *u)
{
    op_unpin_all(u);
    conn_end_read(u->conn);
    state_drop(&u->working);
    state_drop(&u->seen);
    u->reading = u->writing = false;
}

/* A failed check, as engine.h says: the store refuses to write from then on. */
static void op_end_read_pinned(struct user *u)
{
    bool pinned = false;
    for (unsigned i = 0; i < PINS; i++) {
        pinned |= u->pins[i].at != NULL;
        state_drop(&u->pins[i].of);
        u->pins[i].at = NULL;
    }
    op_end_read(u);
    m.failed |= pinned;
}

static void read_range(struct user *u, uint64_t offset, size_t len, bool committed)
{
    static uint8_t buf[BYTES + 4096];
    memset(buf, 0x5a, len);
    dax_rc rc = committed ? conn_read_committed(u->conn, buf, len, offset, &m.err)
                          : conn_read(u->conn, buf, len, offset, &m.err);
    const char *call = committed ? "read_committed" : "read";
    uint64_t end = offset + len < offset ? UINT64_MAX : offset + len;
    if (!u->reading && (committed || end > DAX_HEADER_BYTES)) {
        expect(rc, DAX_MISUSE, call);
        return;
    }
    const struct state *want = committed ? u->seen : view_of(u);
    expect(rc, len > 0 && end > want->size ? DAX_SHORT_READ : DAX_OK, call);
    size_t there = offset >= want->size ? 0 : want->size - offset;
    if (there > len)
        there = len;
    state_compare(want, buf, offset, there, call);
    for (size_t i = there; i < len; i++)
        FUZZ_CHECK(buf[i] == 0, "%s: a byte beyond the end is %02x", call, buf[i]);
}

static void op_read(struct user *u, struct input *in, bool committed)
{
    uint64_t offset = input_bytes(in, 3) % BYTES;
    size_t len = input_u16(in) % 20000;
    if (len % 16 == 15) /* where a sum of both is more than 64 bits */
        offset = UINT64_MAX - offset % 40000;
    read_range(u, offset, len, committed);
}

static void op_pin(struct user *u, struct input *in)
{
    unsigned i = input_below(in, PINS);
    size_t len = u->pin_len ? u->pin_len : DAX_PAGE_BYTES;
    uint64_t offset = input_u16(in) * len % BYTES;
    void *at = NULL;
    if (offset / DAX_PAGE_BYTES % 32 == 31)
        offset = 0 - (uint64_t)len; /* ends where 64 bits do */
    if (u->pins[i].at)
        return;
    dax_rc rc = conn_pin(u->conn, offset, len, &at, &m.err);
    expect(rc, u->reading ? DAX_OK : DAX_MISUSE, "pin");
    if (!at)
        return;
    FUZZ_CHECK(offset <= u->seen->size - u->pin_len, "a pin beyond the end");
    u->pins[i] = (struct pin){at, offset, state_ref(u->seen)};
    state_compare(u->seen, at, offset, u->pin_len, "fresh pin");
}

static void op_unpin(struct user *u, struct input *in)
{
    unpin(u, &u->pins[input_below(in, PINS)]);
}

/* --- writing -------------------------------------------------------------------------------------- */

static dax_rc begin_write_wants(const struct user *u)
{
    if (!u->reading || u->writing)
        return DAX_MISUSE;
    if (u->read_only)
        return DAX_READONLY;
    if (m.failed)
        return DAX_CORRUPT;
    if (u->seen != m.committed)
        return DAX_BUSY_SNAPSHOT;
    return other_writer(u) ? DAX_BUSY : DAX_OK;
}

static bool op_begin_write(struct user *u)
{
    dax_rc want = begin_write_wants(u);
    expect(conn_begin_write(u->conn, &m.err), want, "begin_write");
    if (want == DAX_OK)
        u->writing = m.active = true;
    FUZZ_CHECK(conn_is_writer(u->conn) == u->writing, "is_writer after begin_write");
    return want == DAX_OK;
}

/* What writing answers, apart from space. */
static dax_rc write_wants(struct user *u)
{
    if (!u->writing)
        return DAX_MISUSE;
    return m.failed ? DAX_CORRUPT : DAX_OK;
}

static struct state *working_of(struct user *u)
{
    if (!u->working)
        u->working = state_new(u->seen);
    return u->working;
}

static void write_range(struct user *u, uint64_t offset, size_t len, uint8_t fill)
{
    static uint8_t buf[BYTES];
    dax_rc want = write_wants(u);
    const struct state *now = view_of(u);
    for (size_t i = 0; i < len; i++) /* a quarter of the fills change nothing */
        buf[i] = fill < 64 ? now->bytes[offset + i] : (uint8_t)(fill + i * 7 + offset);
    expect(conn_write(u->conn, buf, len, offset, &m.err), want, "write");
    if (want != DAX_OK)
        return;
    struct state *w = working_of(u);
    memcpy(w->bytes + offset, buf, len);
    if (len && offset + len > w->size)
        w->size = offset + len;
    state_normalize(w, w->size);
}

static void op_write_small(struct user *u, struct input *in)
{
    uint64_t offset = input_bytes(in, 3) % (BYTES - 512);
    size_t len = input_below(in, 2) ? input_below(in, 250) : 512;
    if (offset + len < 512 && view_of(u)->size == 0)
        len = 512; /* a database has a header or nothing */
    write_range(u, offset, len, input_u8(in));
}

static void op_write_pages(struct user *u, struct input *in)
{
    uint64_t page = input_below(in, PAGES);
    uint64_t n = 1 + input_u8(in) % 96;
    uint8_t fill = input_u8(in);
    for (uint64_t i = 0; i < n && page + i < PAGES; i++)
        write_range(u, (page + i) * DAX_PAGE_BYTES, DAX_PAGE_BYTES, (uint8_t)(fill + i));
}

/* Beyond every limit: refused, and nothing has changed. */
static void op_write_far(struct user *u, struct input *in)
{
    static const uint8_t buf[4096];
    uint64_t offset = UINT64_MAX >> input_below(in, 28);
    size_t len = 1 + input_u16(in) % sizeof buf;
    dax_rc want = write_wants(u);
    if (want == DAX_OK)
        want = DAX_FULL;
    if (input_below(in, 3))
        expect(conn_write(u->conn, buf, len, offset - input_u16(in), &m.err), want, "write far");
    else
        expect(conn_truncate(u->conn, offset, &m.err), want, "truncate far");
    if (want == DAX_FULL)
        (void)working_of(u);
}

static void op_truncate(struct user *u, struct input *in)
{
    uint64_t size = input_bytes(in, 3) % BYTES;
    if (input_below(in, 4) == 0)
        size = 0;
    else if (size < DAX_PAGE_BYTES)
        size = DAX_PAGE_BYTES;
    dax_rc want = write_wants(u);
    expect(conn_truncate(u->conn, size, &m.err), want, "truncate");
    if (want != DAX_OK)
        return;
    struct state *w = working_of(u);
    uint64_t before = w->size;
    w->size = size;
    state_normalize(w, before);
}

static void op_prepare(struct user *u)
{
    bool nothing = !u->writing || !u->working;
    expect(conn_prepare(u->conn, &m.err), nothing || !m.failed ? DAX_OK : DAX_CORRUPT, "prepare");
}

static bool same_state(const struct state *a, const struct state *b)
{
    return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

static void op_commit(struct user *u)
{
    bool nothing = !u->writing || !u->working;
    uint64_t before = conn_snapshot(u->conn);
    dax_rc want = nothing || !m.failed ? DAX_OK : DAX_CORRUPT;
    expect(conn_commit(u->conn, &m.err), want, "commit");
    uint64_t after = conn_snapshot(u->conn);
    if (nothing || want != DAX_OK) {
        FUZZ_CHECK(before == after, "a commit of nothing has changed the snapshot");
        return;
    }
    if (m.crashed)
        crash_check(m.committed, u->working);
    if (after == before) {
        FUZZ_CHECK(same_state(u->working, m.committed), "a changed transaction was not committed");
        state_drop(&u->working);
        return;
    }
    state_drop(&m.committed);
    state_drop(&u->seen);
    m.committed = u->working;
    u->working = NULL;
    u->seen = state_ref(m.committed);
}

/* A whole transaction, by whoever may. */
static void op_transaction(struct user *u, struct input *in)
{
    if (!u->reading)
        op_begin_read(u, in);
    if (!u->writing && !op_begin_write(u))
        return;
    for (unsigned n = 1 + input_below(in, 4); n > 0; n--) {
        switch (input_below(in, 4)) {
        case 0: op_write_pages(u, in); break;
        case 1: op_truncate(u, in); break;
        default: op_write_small(u, in);
        }
    }
    if (input_below(in, 8))
        op_commit(u);
    if (input_below(in, 4)) {
        op_end_write(u);
        op_end_read(u);
    }
}

/* --- checkpoint, looking ---------------------------------------------------------------------------- */

static bool wait_twice(void *arg, unsigned count)
{
    (void)arg;
    return count < 2;
}

static void op_checkpoint(struct user *u, struct input *in)
{
    struct checkpoint_result result;
    enum checkpoint_mode mode = input_below(in, 4);
    dax_rc rc = conn_checkpoint(u->conn, mode, input_below(in, 2) ? wait_twice : NULL, NULL,
                                &result, &m.err);
    if (m.failed && m.active) {
        if (rc != DAX_OK)
            fuzz_check_error(rc, &m.err, "checkpoint of a failed store");
        memset(&m.err, 0, sizeof m.err);
        if (rc == DAX_OK && u->working && same_state(u->working, m.committed))
            state_drop(&u->working);
        return;
    }
    dax_rc want = DAX_OK;
    if (u->working && (rc == DAX_LOCKED || !same_state(u->working, m.committed)))
        want = DAX_LOCKED; /* one that has written what was there may count as changed or not */
    else if (m.active && u->read_only)
        want = DAX_READONLY;
    expect(rc, want, "checkpoint");
    if (rc == DAX_OK && u->working)
        state_drop(&u->working);
    if (rc != DAX_OK || !m.active)
        return;
    FUZZ_CHECK(!other_writer(u) || result.busy, "a checkpoint past another writer");
    FUZZ_CHECK(result.busy == (result.holder[0] != '\0'), "busy %d and \"%s\"", result.busy,
               result.holder);
    fuzz_trace("busy: %s", result.holder);
    if (m.crashed)
        crash_check(m.committed, m.committed);
}

static void op_look(struct user *u)
{
    struct store_status st;
    struct holder_info holders[CONNS];
    conn_status(u->conn, &st);
    FUZZ_CHECK(st.size_bytes == m.committed->size, "status: size %llu, should be %llu",
               (unsigned long long)st.size_bytes, (unsigned long long)m.committed->size);
    FUZZ_CHECK(st.connections == open_count(), "status: connections");
    FUZZ_CHECK((st.failed[0] != 0) == m.failed, "status: failed is \"%s\"", st.failed);
    FUZZ_CHECK(st.active == m.active, "status: active");
    FUZZ_CHECK(st.log_bytes <= st.ring_bytes, "status: log larger than its ring");
    uint64_t reading = 0;
    for (unsigned i = 0; i < CONNS; i++)
        reading += m.users[i].reading;
    FUZZ_CHECK(st.snapshots == reading, "status: snapshots");
    FUZZ_CHECK(conn_holders(u->conn, holders, CONNS) == reading, "holders");
    uint64_t pages = conn_page_count(u->conn);
    FUZZ_CHECK(pages >= pages_of(m.committed->size), "page count");
    for (uint64_t page = 0; page < pages && page < 2 * PAGES; page++) {
        struct page_info info;
        conn_page_info(u->conn, page, &info);
    }
}

/* Invariants of the shared state, as far as one thread can look at them. */
static void validate(void)
{
    struct store *s = the_store();
    if (!s)
        return;
    FUZZ_CHECK(frames_validate(&s->region), "frames");
    for (uint64_t page = 0; page < PAGES; page++)
        FUZZ_CHECK(chain_validate(s, page), "chain of page %llu", (unsigned long long)page);
    FUZZ_CHECK((atomic_load(&s->failed) != 0) == m.failed, "the store has failed: %s",
               s->failed_text);
}

/* --- the whole ------------------------------------------------------------------------------------- */

static void step(struct user *u, enum op op, struct input *in)
{
    if (op == OP_OPEN || (!u->conn && op != OP_CRASH)) {
        op_open(u, in);
        return;
    }
    switch (op) {
    case OP_CLOSE: op_close(u); break;
    case OP_BEGIN_READ: op_begin_read(u, in); break;
    case OP_END_READ: op_end_read(u); break;
    case OP_BEGIN_WRITE: op_begin_write(u); break;
    case OP_END_WRITE: op_end_write(u); break;
    case OP_WRITE_SMALL: op_write_small(u, in); break;
    case OP_WRITE_PAGES: op_write_pages(u, in); break;
    case OP_WRITE_FAR: op_write_far(u, in); break;
    case OP_TRUNCATE: op_truncate(u, in); break;
    case OP_PREPARE: op_prepare(u); break;
    case OP_COMMIT: op_commit(u); break;
    case OP_PIN: op_pin(u, in); break;
    case OP_UNPIN: op_unpin(u, in); break;
    case OP_READ: op_read(u, in, false); break;
    case OP_READ_ALL: read_range(u, 0, BYTES, false); break;
    case OP_READ_COMMITTED: op_read(u, in, true); break;
    case OP_CHECKPOINT: op_checkpoint(u, in); break;
    case OP_CRASH:
        if (!pool_real) {
            crash_take();
            crash_check(m.committed, m.committed);
        }
        break;
    case OP_ARM_CRASH: m.countdown = pool_real ? -1 : (long)input_below(in, 120); break;
    case OP_TRANSACTION: op_transaction(u, in); break;
    case OP_LOOK: op_look(u); break;
    case OP_END_READ_PINNED: op_end_read_pinned(u); break;
    default: break;
    }
}

void fuzz_start(void)
{
    fuzz_path(m.path, "engine.db");
    fuzz_path(m.sidecar, "engine.db-dax");
    fuzz_path(m.crash_path, "crash.db");
    fuzz_path(m.crash_sidecar, "crash.db-dax");
}

static void start(struct input *in)
{
    static const uint64_t rings[] = {64 << 10, 16 << 10, 32 << 10, 256 << 10};
    static const struct image empty = {.there = true};
    uint8_t options = input_u8(in);
    m.persist = options & 1 ? MEDIUM_MSYNC : MEDIUM_AUTO;
    pool_ring_bytes = rings[options >> 1 & 3] + 8192;
    image_store(&empty, m.path);
    unlink(m.sidecar);
    m.committed = state_new(NULL);
    m.countdown = -1;
    m.crashed = m.active = m.failed = m.marked = false;
}

/* A state that is at hand when a crash fires outside a commit: nothing has been committed there. */
static void crash_if_taken(void)
{
    if (m.crashed)
        crash_check(m.committed, m.committed);
}

void fuzz_one(const uint8_t *data, size_t bytes)
{
    struct input in = {data, data + bytes};
    start(&in);
    for (unsigned n = 0; n < STEPS_MAX && input_left(&in); n++) {
        uint8_t op = input_u8(&in);
        struct user *u = &m.users[op / OP_COUNT % CONNS];
        fuzz_trace("%u: op %u, connection %u", n, op % OP_COUNT, (unsigned)(u - m.users));
        step(u, op % OP_COUNT, &in);
        crash_if_taken();
        validate();
    }
    m.countdown = -1;
    for (unsigned i = 0; i < CONNS; i++)
        op_close(&m.users[i]);
    if (m.marked) { /* left by a failed check: the next open recovers it */
        struct input none = {0};
        struct dax_options o = model_options();
        (void)none;
        expect(conn_open(m.path, &o, &m.users[0].conn, &m.err), DAX_OK,
               "open after a failed check");
        FUZZ_CHECK(conn_size(m.users[0].conn) == m.committed->size, "size after a failed check");
        m.failed = false;
        op_close(&m.users[0]);
    }
    state_drop(&m.committed);
    image_free(&m.base);
    image_free(&m.side);
    unlink(m.crash_path);
    unlink(m.crash_sidecar);
    FUZZ_CHECK(pool_count() == 0, "a sidecar is still open");
}
