/* test_model.c: random work against a model that is an array of bytes.
 *
 * Would catch: a snapshot that changes, a pin whose bytes move, a version dropped too early, a lost
 * or half-replayed commit after a crash at any store or fence, a checkpoint or a cut of the file
 * that loses something, a counter of frames that drifts.
 *
 * One run is a function of its seed: DAX_TEST_SEED (default 1) is the first, DAX_TEST_RUNS how many
 * follow. A crash is a copy of database and sidecar between two operations on persistent memory in
 * which what was not durable has arrived or not (crash_medium.h); odd seeds go by the rules of msync
 * mode, even ones by those of cache-line modes. The copies are opened by a process of their own,
 * since libpmemobj opens no two copies of one pool in the same process.
 */
#include "unit.h"

#include <sys/types.h>

#include "crash_medium.h"

#include "engine/conn.h"
#include "engine/frames.h"
#include "engine/chain.h"
#include "engine/snapshot.h"

#define MODEL_PAGES 320u
#define MODEL_BYTES (MODEL_PAGES * DAX_PAGE_BYTES)
#define MODEL_READERS 4
#define MODEL_PINS 5
#define MODEL_STEPS 100

struct state {
    uint64_t size;
    uint8_t *bytes; /* MODEL_BYTES, zeros beyond size */
};

struct model_pin {
    void *at;
    uint64_t offset;
    size_t len;
};

struct reader {
    struct conn *conn;
    bool reading;
    size_t pin_len; /* one for all pins of a read, as SQLite's page size is */
    struct state seen;
    struct model_pin pins[MODEL_PINS];
};

struct model {
    uint64_t seed, random;
    struct conn *writer;
    struct reader readers[MODEL_READERS];
    struct state committed, working;
    char path[512], crash_path[512];
};

static struct dax_err err;
static uint64_t model_crashes;

/* --- small things -------------------------------------------------------------------------------- */

static uint64_t model_random(struct model *m, uint64_t below)
{
    m->random ^= m->random << 13;
    m->random ^= m->random >> 7;
    m->random ^= m->random << 17;
    return (m->random >> 11) % below;
}

static void state_copy(struct state *to, const struct state *from)
{
    to->size = from->size;
    memcpy(to->bytes, from->bytes, MODEL_BYTES);
}

/* What SQLite sees of the bytes that the mark covers. */
static void state_normalize(struct state *s)
{
    if (s->size > DAX_HEADER_READ_VERSION)
        s->bytes[DAX_HEADER_WRITE_VERSION] = s->bytes[DAX_HEADER_READ_VERSION] = 1;
    if (s->size > DAX_HEADER_RESERVED)
        memset(s->bytes + DAX_HEADER_RESERVED, 0, DAX_HEADER_RESERVED_BYTES);
    memset(s->bytes + s->size, 0, MODEL_BYTES - s->size);
}

static void model_same(struct model *m, const uint8_t *got, const struct state *want,
                       uint64_t offset, size_t len, const char *who)
{
    if (memcmp(got, want->bytes + offset, len) == 0)
        return;
    for (size_t i = 0; i < len; i++)
        ck_assert_msg(got[i] == want->bytes[offset + i],
                      "seed %llu: %s: byte %llu (page %llu) is %02x, should be %02x",
                      (unsigned long long)m->seed, who, (unsigned long long)(offset + i),
                      (unsigned long long)((offset + i) / DAX_PAGE_BYTES), got[i],
                      want->bytes[offset + i]);
}

static void model_check_all(struct model *m, struct conn *c, const struct state *want,
                            const char *who)
{
    static uint8_t buf[MODEL_BYTES];
    ck_assert_msg(conn_size(c) == want->size, "seed %llu: %s: size %llu, should be %llu",
                  (unsigned long long)m->seed, who, (unsigned long long)conn_size(c),
                  (unsigned long long)want->size);
    if (want->size == 0)
        return;
    unit_ok(conn_read(c, buf, want->size, 0, &err));
    model_same(m, buf, want, 0, want->size, who);
}

static struct conn *model_open(const char *path, struct model *m)
{
    struct dax_options o = dax_options_default();
    struct conn *c;
    o.log_bytes = DAX_LOG_BYTES_MIN;
    o.private_bytes = DAX_PRIVATE_BYTES_MIN;
    o.persist = m->seed % 2 ? MEDIUM_MSYNC : MEDIUM_AUTO;
    dax_rc rc = conn_open(path, &o, &c, &err);
    ck_assert_msg(rc == DAX_OK, "seed %llu: open: %s", (unsigned long long)m->seed, err.text);
    return c;
}

/* --- crashes --------------------------------------------------------------------------------------- */

/* Copy a file with its holes. */
static void model_copy_file(const char *from, const char *to)
{
    static uint8_t buf[1 << 16];
    unlink(to);
    int in = open(from, O_RDONLY);
    if (in < 0)
        return;
    int out = open(to, O_RDWR | O_CREAT | O_EXCL, 0600);
    ck_assert_int_ge(out, 0);
    struct stat st;
    fstat(in, &st);
    ck_assert_int_eq(ftruncate(out, st.st_size), 0);
    for (off_t at = 0; (at = lseek(in, at, SEEK_DATA)) >= 0;) {
        off_t end = lseek(in, at, SEEK_HOLE);
        while (at < end) {
            size_t n = end - at < (off_t)sizeof buf ? (size_t)(end - at) : sizeof buf;
            ck_assert_int_eq(pread(in, buf, n, at), (ssize_t)n);
            ck_assert_int_eq(pwrite(out, buf, n, at), (ssize_t)n);
            at += (off_t)n;
        }
    }
    close(in);
    close(out);
}

static void model_copy_files(struct model *m)
{
    static const unsigned percents[] = {100, 0, 10, 50, 90};
    char from[560], to[560];
    model_copy_file(m->path, m->crash_path);
    snprintf(from, sizeof from, "%s-dax", m->path);
    snprintf(to, sizeof to, "%s-dax", m->crash_path);
    model_copy_file(from, to);
    /* How much arrives of what is not durable: all (kill -9), nothing, or something. */
    unsigned percent = percents[m->random / 64 % (sizeof percents / sizeof *percents)];
    int base_fd = open(m->crash_path, O_RDWR), sidecar_fd = open(to, O_RDWR);
    crash_forget(base_fd, sidecar_fd, percent, m->random);
    close(base_fd);
    if (sidecar_fd >= 0)
        close(sidecar_fd);
}

static void model_save_state(struct model *m, const char *name, const struct state *s)
{
    char path[560];
    snprintf(path, sizeof path, "%s.%s", m->crash_path, name);
    unit_write_file(path, s->bytes, s->size);
}

/* The copies recover to one of two states; then they are at rest a plain file of that state. */
static void model_check_copies(struct model *m, const struct state *a, const struct state *b)
{
    model_crashes++;
    model_save_state(m, "a", a);
    model_save_state(m, "b", b);
    char seed[32], how[2] = {(char)('0' + model_random(m, 4)), 0};
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)m->seed);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        execl("/proc/self/exe", "test_model", "--check", m->crash_path, seed, how, (char *)NULL);
        _exit(127);
    }
    ck_assert_msg(unit_wait(pid) == 0, "seed %llu: the state after a crash is wrong, see above",
                  (unsigned long long)m->seed);
}

static size_t check_load(const char *path, const char *suffix, uint8_t *buf)
{
    char full[600];
    snprintf(full, sizeof full, "%s%s", path, suffix);
    FILE *f = fopen(full, "rb");
    if (!f)
        return SIZE_MAX;
    memset(buf, 0, MODEL_BYTES);
    size_t n = fread(buf, 1, MODEL_BYTES, f);
    fclose(f);
    return n;
}

static int check_differ(const char *seed, const char *when, const uint8_t *got, size_t got_size,
                        const uint8_t *b, size_t b_size)
{
    fprintf(stderr, "seed %s: %s: neither the old nor the new state: %zu bytes, new state %zu\n",
            seed, when, got_size, b_size);
    for (size_t i = 0; i < got_size && i < b_size; i++)
        if (got[i] != b[i]) {
            fprintf(stderr, "first difference from the new state: byte %zu (page %zu): %02x, %02x\n",
                    i, i / DAX_PAGE_BYTES, got[i], b[i]);
            break;
        }
    return 1;
}

/* The other process: exit status 0 if the copies hold state a or b. how: '0' ends like a crash, and
 * looks again. */
static int check_main(const char *path, const char *seed, const char *how)
{
    static uint8_t got[MODEL_BYTES], a[MODEL_BYTES], b[MODEL_BYTES];
    size_t a_size = check_load(path, ".a", a), b_size = check_load(path, ".b", b);
    struct dax_options o = dax_options_default();
    struct conn *c;
    for (int round = *how == '0' ? 0 : 1; round < 2; round++) {
        if (conn_open(path, &o, &c, &err) != DAX_OK || conn_begin_read(c, &err) != DAX_OK) {
            fprintf(stderr, "seed %s: after a crash: %s\n", seed, err.text);
            return 1;
        }
        size_t size = conn_size(c);
        memset(got, 0, sizeof got);
        if (size > sizeof got || (size && conn_read(c, got, size, 0, &err) != DAX_OK)) {
            fprintf(stderr, "seed %s: after a crash: %zu bytes: %s\n", seed, size, err.text);
            return 1;
        }
        if (!(size == a_size && memcmp(got, a, size) == 0) &&
            !(size == b_size && memcmp(got, b, size) == 0))
            return check_differ(seed, "after a crash", got, size, b, b_size);
        if (round == 0) {
            /* As if killed: the next process recovers again. */
            char round_two[2] = "1";
            fflush(NULL);
            execl("/proc/self/exe", "test_model", "--check", path, seed, round_two, (char *)NULL);
            return 127;
        }
        conn_end_read(c);
        if (conn_close(c, &err) != DAX_OK) {
            fprintf(stderr, "seed %s: close after a crash: %s\n", seed, err.text);
            return 1;
        }
        memcpy(a, got, sizeof a);
        size_t rest = check_load(path, "", got);
        if (rest != size || memcmp(got, a, sizeof a) != 0)
            return check_differ(seed, "at rest after a crash", got, rest, a, size);
    }
    return 0;
}

/* A countdown of stores and fences; the files are copied when it ends. */
static long crash_countdown = -1;
static struct model *crash_model;

static void crash_step(void)
{
    if (crash_countdown >= 0 && crash_countdown-- == 0)
        model_copy_files(crash_model);
}

static void crash_arm(struct model *m, long countdown)
{
    crash_model = m;
    crash_countdown = countdown;
}

/* true: the copies have been made. */
static bool crash_disarm(void)
{
    bool made = crash_countdown < 0;
    crash_countdown = -1;
    return made;
}

/* --- the writer -------------------------------------------------------------------------------------- */

static void model_write(struct model *m, uint64_t offset, size_t len)
{
    static uint8_t buf[MODEL_BYTES];
    uint8_t fill = (uint8_t)model_random(m, 256);
    bool same = model_random(m, 4) == 0; /* lines that do not change */
    for (size_t i = 0; i < len; i++)
        buf[i] = same ? m->working.bytes[offset + i] : (uint8_t)(fill + i * 7 + offset);
    for (size_t i = 0; i < len; i++) {
        uint64_t at = offset + i;
        if (at == DAX_HEADER_WRITE_VERSION || at == DAX_HEADER_READ_VERSION)
            buf[i] = 1;
        if (at - DAX_HEADER_RESERVED < DAX_HEADER_RESERVED_BYTES)
            buf[i] = 0;
    }
    unit_ok(conn_write(m->writer, buf, len, offset, &err));
    memcpy(m->working.bytes + offset, buf, len);
    if (offset + len > m->working.size)
        m->working.size = offset + len;
    state_normalize(&m->working);
}

static void model_change(struct model *m)
{
    uint64_t pages = m->working.size / DAX_PAGE_BYTES;
    switch (model_random(m, 10)) {
    case 0: /* a whole page, maybe new */
    case 1: {
        uint64_t page = model_random(m, pages + 3);
        if (page < MODEL_PAGES)
            model_write(m, page * DAX_PAGE_BYTES, DAX_PAGE_BYTES);
        break;
    }
    case 2: { /* grow by some */
        uint64_t n = 1 + model_random(m, 40);
        for (uint64_t i = 0; i < n && pages + i < MODEL_PAGES; i++)
            model_write(m, (pages + i) * DAX_PAGE_BYTES, DAX_PAGE_BYTES);
        break;
    }
    case 3: { /* size */
        uint64_t size = model_random(m, 4) ? model_random(m, m->working.size + 1)
                                           : model_random(m, MODEL_BYTES);
        size -= size % 512;
        unit_ok(conn_truncate(m->writer, size, &err));
        m->working.size = size;
        state_normalize(&m->working);
        break;
    }
    case 4: { /* many pages: scratch */
        uint64_t from = model_random(m, MODEL_PAGES / 2), n = model_random(m, 120);
        for (uint64_t i = 0; i < n && from + i < MODEL_PAGES; i++)
            model_write(m, (from + i) * DAX_PAGE_BYTES, DAX_PAGE_BYTES);
        break;
    }
    case 5: { /* a small SQLite page */
        uint64_t at = model_random(m, MODEL_BYTES / 512) * 512;
        if (at <= m->working.size)
            model_write(m, at, 512);
        break;
    }
    default: /* some bytes */
        if (m->working.size > 300)
            model_write(m, model_random(m, m->working.size - 300), 1 + model_random(m, 300));
    }
}

static void model_transaction(struct model *m)
{
    struct conn *w = m->writer;
    unit_ok(conn_begin_read(w, &err));
    model_check_all(m, w, &m->committed, "writer before it writes");
    bool crash = model_random(m, 6) == 0;
    bool activate = !atomic_load(&w->store->active);
    if (crash)
        crash_arm(m, (long)model_random(m, activate ? 30 : 400));
    unit_ok(conn_begin_write(w, &err));
    state_copy(&m->working, &m->committed);
    uint64_t changes = 1 + model_random(m, 6);
    for (uint64_t i = 0; i < changes; i++) {
        model_change(m);
        if (model_random(m, 6) == 0)
            unit_ok(conn_prepare(w, &err));
    }
    model_check_all(m, w, &m->working, "writer in its transaction");
    if (crash && model_random(m, 2) && crash_countdown > 0)
        crash_countdown = (long)model_random(m, 60); /* within the commit */
    bool commit = model_random(m, 5) != 0;
    if (commit) {
        unit_ok(conn_commit(w, &err));
        model_check_all(m, w, &m->working, "writer after its commit");
    }
    conn_end_write(w);
    if (crash && crash_disarm())
        model_check_copies(m, &m->committed, commit ? &m->working : &m->committed);
    if (commit)
        state_copy(&m->committed, &m->working);
    model_check_all(m, w, commit ? &m->committed : &m->committed, "writer afterwards");
    conn_end_read(w);
}

/* --- readers ---------------------------------------------------------------------------------------- */

static void reader_unpin(struct model *m, struct reader *r, struct model_pin *p)
{
    if (!p->at)
        return;
    model_same(m, p->at, &r->seen, p->offset, p->len, "pinned bytes");
    conn_unpin(r->conn, p->offset, p->at);
    p->at = NULL;
}

static void reader_end(struct model *m, struct reader *r)
{
    if (!r->reading)
        return;
    for (unsigned i = 0; i < MODEL_PINS; i++)
        reader_unpin(m, r, &r->pins[i]);
    conn_end_read(r->conn);
    r->reading = false;
}

static void reader_step(struct model *m, struct reader *r)
{
    if (!r->reading) {
        unit_ok(conn_begin_read(r->conn, &err));
        r->reading = true;
        r->pin_len = DAX_PAGE_BYTES << (model_random(m, 3) ? 0 : model_random(m, 4));
        state_copy(&r->seen, &m->committed);
        ck_assert_uint_eq(conn_size(r->conn), r->seen.size);
        return;
    }
    struct model_pin *p = &r->pins[model_random(m, MODEL_PINS)];
    switch (model_random(m, 6)) {
    case 0: reader_end(m, r); break;
    case 1: model_check_all(m, r->conn, &r->seen, "reader"); break;
    case 2: reader_unpin(m, r, p); break;
    default: {
        uint64_t pages = r->seen.size / DAX_PAGE_BYTES;
        if (p->at || pages < 2)
            break;
        p->len = r->pin_len;
        p->offset = (1 + model_random(m, pages - 1)) * DAX_PAGE_BYTES;
        if (p->offset + p->len > r->seen.size)
            break;
        unit_ok(conn_pin(r->conn, p->offset, p->len, &p->at, &err));
        if (p->at)
            model_same(m, p->at, &r->seen, p->offset, p->len, "fresh pin");
    }
    }
}

/* --- the whole ---------------------------------------------------------------------------------------- */

static void model_checkpoint(struct model *m)
{
    struct reader *r = &m->readers[model_random(m, MODEL_READERS)];
    struct conn *c = model_random(m, 2) ? m->writer : r->conn;
    struct checkpoint_result result;
    bool crash = model_random(m, 4) == 0;
    if (crash)
        crash_arm(m, (long)model_random(m, 80));
    unit_ok(conn_checkpoint(c, (enum checkpoint_mode)model_random(m, 4), NULL, NULL, &result, &err));
    if (crash && crash_disarm())
        model_check_copies(m, &m->committed, &m->committed);
}

static void model_validate(struct model *m)
{
    struct store *s = m->writer->store;
    ck_assert_msg(frames_validate(&s->region), "seed %llu: frames", (unsigned long long)m->seed);
    for (uint64_t page = 0; page < MODEL_PAGES; page++)
        if (!chain_validate(s, page))
            ck_abort_msg("seed %llu: chain of page %llu", (unsigned long long)m->seed,
                         (unsigned long long)page);
    ck_assert_msg(!atomic_load(&s->failed), "seed %llu: %s", (unsigned long long)m->seed,
                  s->failed_text);
}

static void model_open_all(struct model *m)
{
    m->writer = model_open(m->path, m);
    crash_install(m->writer->store, m->seed % 2 ? CRASH_SYNC : CRASH_FENCE, crash_step);
    for (unsigned i = 0; i < MODEL_READERS; i++)
        m->readers[i].conn = model_open(m->path, m);
}

static void model_close_all(struct model *m)
{
    for (unsigned i = 0; i < MODEL_READERS; i++)
        reader_end(m, &m->readers[i]);
    struct store *s = m->writer->store;
    ck_assert_msg(GUARDED_GET(s->region.header->guarded.nodes_used) == 0 ||
                      GUARDED_GET(s->region.header->guarded.pages_versioned) != 0,
                  "seed %llu: no version is left but %u nodes are in use",
                  (unsigned long long)m->seed,
                  GUARDED_GET(s->region.header->guarded.nodes_used));
    for (unsigned i = 0; i < MODEL_READERS; i++)
        unit_ok(conn_close(m->readers[i].conn, &err));
    bool crash = model_random(m, 2) == 0;
    if (crash)
        crash_arm(m, (long)model_random(m, 40));
    unit_ok(conn_close(m->writer, &err));
    crash_remove();
    if (crash && crash_disarm())
        model_check_copies(m, &m->committed, &m->committed);
    static uint8_t buf[MODEL_BYTES + 1];
    FILE *f = fopen(m->path, "rb");
    ck_assert_ptr_nonnull(f);
    size_t got = fread(buf, 1, sizeof buf, f);
    fclose(f);
    ck_assert_msg(got == m->committed.size, "seed %llu: %zu bytes at rest, should be %llu",
                  (unsigned long long)m->seed, got, (unsigned long long)m->committed.size);
    model_same(m, buf, &m->committed, 0, got, "at rest");
}

static void model_run(struct model *m, uint64_t seed)
{
    m->seed = seed;
    m->random = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    m->committed.size = 0;
    memset(m->committed.bytes, 0, MODEL_BYTES);
    unlink(m->path);
    char sidecar[560];
    snprintf(sidecar, sizeof sidecar, "%s-dax", m->path);
    unlink(sidecar);
    model_open_all(m);
    unsigned steps = 20 + (unsigned)model_random(m, MODEL_STEPS);
    for (unsigned i = 0; i < steps; i++) {
        uint64_t what = model_random(m, 20);
        if (what < 7) {
            model_transaction(m);
        } else if (what < 17) {
            reader_step(m, &m->readers[model_random(m, MODEL_READERS)]);
        } else if (what < 19) {
            model_checkpoint(m);
        } else if (model_random(m, 2) == 0) {
            model_close_all(m);
            model_open_all(m);
        } else {
            model_copy_files(m);
            model_check_copies(m, &m->committed, &m->committed);
        }
        model_validate(m);
    }
    model_close_all(m);
}

static uint64_t model_env(const char *name, uint64_t otherwise)
{
    const char *v = getenv(name);
    return v && *v ? strtoull(v, NULL, 10) : otherwise;
}

START_TEST(every_state_is_the_models_state)
{
    struct model m = {0};
    m.committed.bytes = malloc(MODEL_BYTES);
    m.working.bytes = malloc(MODEL_BYTES);
    for (unsigned i = 0; i < MODEL_READERS; i++)
        m.readers[i].seen.bytes = malloc(MODEL_BYTES);
    snprintf(m.path, sizeof m.path, "%s", unit_path("model.db"));
    snprintf(m.crash_path, sizeof m.crash_path, "%s", unit_path("crash.db"));
    uint64_t first = model_env("DAX_TEST_SEED", 1), runs = model_env("DAX_TEST_RUNS", 300);
    printf("seeds %llu to %llu\n", (unsigned long long)first,
           (unsigned long long)(first + runs - 1));
    for (uint64_t seed = first; seed < first + runs; seed++)
        model_run(&m, seed);
    printf("figure: random runs against a model: %llu\n", (unsigned long long)runs);
    printf("figure: crashes in them: %llu\n", (unsigned long long)model_crashes);
    free(m.committed.bytes);
    free(m.working.bytes);
    for (unsigned i = 0; i < MODEL_READERS; i++)
        free(m.readers[i].seen.bytes);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "--check") == 0)
        return check_main(argv[2], argv[3], argv[4]);
    TCase *t = tcase_create("model");
    tcase_add_checked_fixture(t, unit_setup, NULL);
    tcase_set_timeout(t, 7200);
    tcase_add_test(t, every_state_is_the_models_state);
    Suite *suite = suite_create("model");
    suite_add_tcase(suite, t);
    return unit_main(suite);
}
