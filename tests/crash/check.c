/* check.c: opens a crash image through the real recovery and looks at what it finds.
 *
 * In place, for most states: recovery by conn_open, every byte compared with the states that are
 * allowed, page words and log, and for some a transaction, the close, and the file at rest.
 * The rest (check_sql.c) is done on copies.
 */
#include "check.h"

#include <stdarg.h>
#include <string.h>

#include "check_sql.h"
#include "engine/chain.h"
#include "engine/conn.h"
#include "engine/frames.h"
#include "engine/hash.h"
#include "engine/lines.h"
#include "engine/log.h"

struct check_setup check_setup;

/* So many in-place checks: one is ended by a close instead of a crash. Which one is a matter of the
 * state, so that it is the same when the state is repeated. */
#define CLOSE_EVERY 16u

/* So many states without a sidecar, which a write would make: one is copied for that. */
#define COPY_EVERY 8u

/* Message without the directory's name. */
static bool check_bad(char *what, size_t bytes, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    size_t n = 0, dir = strlen(image.dir);
    for (const char *p = text; *p && n + 1 < bytes;) {
        if (strncmp(p, image.dir, dir) == 0 && p[dir] == '/')
            p += dir + 1;
        else
            what[n++] = *p++;
    }
    what[n] = 0;
    return false;
}

bool check_in_place(void)
{
    if (image.name[FILE_BASE] != NAME_OWN)
        return false;
    return image.name[FILE_SIDE] != NAME_OWN ||
           (hooks.pool_cached && image.own_hash == check_setup.own_hash &&
            image.size[FILE_SIDE] == check_setup.own_size);
}

static struct dax_options check_options(void)
{
    struct dax_options o = dax_options_default();
    o.log_bytes = DAX_LOG_BYTES_MIN;
    o.private_bytes = DAX_PRIVATE_BYTES_MIN;
    return o;
}

static uint8_t *check_buffer(uint64_t size)
{
    static uint8_t *buffer;
    static uint64_t space;
    if (size > space) {
        free(buffer);
        space = size * 2;
        buffer = malloc(space);
        hooks_must(buffer, "no memory");
    }
    return buffer;
}

/* --- contents ------------------------------------------------------------------------------------- */

bool check_same(const uint8_t *got, uint64_t size, const struct golden *g)
{
    return size == g->size && memcmp(got, g->bytes, size) == 0;
}

bool check_content(const struct requirement *r, const uint8_t *got, uint64_t size,
                   const struct golden **found, char *what, size_t bytes)
{
    const struct trace *t = r->trace;
    const struct golden *want = &t->goldens[r->acked];
    if (check_same(got, size, want)) {
        *found = want;
        return true;
    }
    if (r->in_flight && r->acked + 1 < t->golden_count &&
        check_same(got, size, &t->goldens[r->acked + 1])) {
        *found = &t->goldens[r->acked + 1];
        return true;
    }
    for (size_t k = 0; k < t->golden_count; k++)
        if (k < r->acked && check_same(got, size, &t->goldens[k]))
            return check_bad(
                what, bytes,
                "transaction %zu was acknowledged and is lost: the state is that after "
                "transaction %zu",
                r->acked, k);
    uint64_t at = 0;
    while (at < size && at < want->size && got[at] == want->bytes[at])
        at++;
    return check_bad(
        what, bytes,
        "the database is a mixture: %llu bytes (expected %llu%s), the first difference "
        "from transaction %zu at byte %llu of page %llu",
        (unsigned long long)size, (unsigned long long)want->size,
        r->in_flight ? ", or the transaction in flight" : "", r->acked,
        (unsigned long long)(at % DAX_PAGE_BYTES), (unsigned long long)(at / DAX_PAGE_BYTES));
}

/* --- invariants ------------------------------------------------------------------------------------ */

/* After recovery: nothing in the log, every page in base and only there. */
static bool check_recovered(struct store *s, char *what, size_t bytes)
{
    const struct region_guarded *g = &s->region.header->guarded;
    if (GUARDED_GET(g->lsn_cursor) != GUARDED_GET(g->lsn_tail))
        return check_bad(what, bytes, "the log is not empty after recovery");
    if (GUARDED_GET(g->nodes_used) != 0 || GUARDED_GET(g->markers) != 0 ||
        GUARDED_GET(g->pages_versioned) != 0 || GUARDED_GET(g->heads) != 0)
        return check_bad(what, bytes, "versions of pages exist after recovery");
    for (uint64_t page = 0; page < pages_of(store_size(s)); page++) {
        uint64_t w = pageword_load(&s->region, page);
        if (pageword_state(w) != PAGE_MAPPED || pageword_node(w) != 0)
            return check_bad(what, bytes, "page %llu is not simply in base after recovery",
                             (unsigned long long)page);
    }
    if (store_size(s) > s->base.file_bytes)
        return check_bad(what, bytes, "the file is shorter than the database");
    return true;
}

/* Put the record in the log's buffer onto a copy of base. */
static void check_replay(struct store *s, uint8_t *copy, uint64_t pages)
{
    const uint8_t *b = s->log.buffer;
    struct record_header h;
    memcpy(&h, b, sizeof h);
    bool listed = h.flags & DAX_RECORD_LIST_IN_SCRATCH;
    uint64_t lines_total = 0;
    for (uint32_t i = 0; i < h.page_count; i++) {
        struct record_page d;
        memcpy(&d, b + sizeof h + i * sizeof d, sizeof d);
        lines_total += (uint64_t)__builtin_popcountll(d.bitmap);
    }
    const uint8_t *lines =
        b + (uint64_t)h.length_lines * DAX_LINE_BYTES - lines_total * DAX_LINE_BYTES;
    for (uint32_t i = 0; i < h.page_count; i++) {
        struct record_page d;
        memcpy(&d, b + sizeof h + i * sizeof d, sizeof d);
        for (uint64_t bits = d.bitmap; bits; bits &= bits - 1, lines += DAX_LINE_BYTES)
            if (d.page < pages)
                memcpy(copy + d.page * DAX_PAGE_BYTES +
                           (unsigned)__builtin_ctzll(bits) * DAX_LINE_BYTES,
                       lines, DAX_LINE_BYTES);
    }
    for (uint32_t i = 0; i < h.pair_count; i++) {
        struct record_pair d;
        uint64_t at = i * sizeof d;
        const uint8_t *from =
            listed ? base_scratch_at(&s->base, h.list_page + (at >> DAX_PAGE_SHIFT)) +
                         at % DAX_PAGE_BYTES
                   : b + sizeof h + h.page_count * sizeof(struct record_page) + at;
        memcpy(&d, from, sizeof d);
        if (d.page < pages)
            memcpy(copy + d.page * DAX_PAGE_BYTES, base_scratch_at(&s->base, d.scratch),
                   DAX_PAGE_BYTES);
    }
}

static bool check_l1(struct store *s, char *what, size_t bytes)
{
    const struct region_guarded *g = &s->region.header->guarded;
    uint64_t pages = pages_of(store_size(s)), end = GUARDED_GET(g->lsn_tail);
    uint8_t *copy = malloc(pages * DAX_PAGE_BYTES + 1);
    bool good = true;
    hooks_must(copy, "no memory");
    memcpy(copy, base_at(&s->base, 0), pages * DAX_PAGE_BYTES);
    for (uint64_t lsn = GUARDED_GET(g->lsn_cursor); good && lsn < end;) {
        bool valid;
        struct dax_err err;
        struct record_header h;
        good = log_read(s, lsn, &valid, &err) == DAX_OK && valid;
        if (!good) {
            check_bad(what, bytes, "a live record is not valid");
            break;
        }
        check_replay(s, copy, pages);
        memcpy(&h, s->log.buffer, sizeof h);
        lsn += (uint64_t)h.length_lines * DAX_LINE_BYTES;
    }
    for (uint64_t page = 0; good && page < pages; page++) {
        struct version v;
        chain_newest(s, page, &v);
        if (memcmp(copy + page * DAX_PAGE_BYTES, chain_address(s, page, &v), DAX_PAGE_BYTES) != 0)
            good = check_bad(what, bytes,
                             "L1: base and the live records do not give the newest version of page "
                             "%llu",
                             (unsigned long long)page);
    }
    free(copy);
    return good;
}

bool check_store(struct store *s, char *what, size_t bytes)
{
    if (!atomic_load(&s->active))
        return true;
    for (uint64_t page = 0; page < pages_of(store_size(s)); page++)
        if (!chain_validate(s, page))
            return check_bad(what, bytes, "the chain of page %llu is not in order",
                             (unsigned long long)page);
    if (!frames_validate(&s->region))
        return check_bad(what, bytes, "the counters of frames do not add up");
    return check_l1(s, what, bytes);
}

/* --- one state ------------------------------------------------------------------------------------- */

/* As a process that is killed. */
static void check_abandon(struct conn *c)
{
    atomic_store(&c->store->failed, 2);
    snprintf(c->store->failed_text, sizeof c->store->failed_text, "abandoned");
    (void)conn_close(c, NULL);
}

/* One more transaction, as good as any: changes a word of the first and of the last page. `content`
 * becomes what it leaves. */
bool check_write(struct conn *c, uint8_t *content, uint64_t *size, char *what, size_t bytes)
{
    struct dax_err err = {0};
    uint8_t word[8] = "another", page[DAX_PAGE_BYTES] = {0};
    page[DAX_HEADER_WRITE_VERSION] = page[DAX_HEADER_READ_VERSION] = 1;
    dax_rc rc = conn_begin_write(c, &err);
    if (rc == DAX_OK && *size == 0) {
        rc = conn_write(c, page, sizeof page, 0, &err);
        memcpy(content, page, sizeof page);
        *size = sizeof page;
    }
    const uint64_t at[] = {2000, *size - 64};
    for (int i = 0; rc == DAX_OK && i < 2; i++) {
        rc = conn_write(c, word, sizeof word, at[i], &err);
        memcpy(content + at[i], word, sizeof word);
    }
    if (rc == DAX_OK)
        rc = conn_commit(c, &err);
    conn_end_write(c);
    return rc == DAX_OK || check_bad(what, bytes, "not writable afterwards: %s", err.text);
}

/* Close; the file is a plain database with this content. */
static bool check_close(struct conn *c, const uint8_t *content, uint64_t size, char *what,
                        size_t bytes)
{
    struct dax_err err = {0};
    uint8_t header[DAX_HEADER_BYTES];
    if (conn_close(c, &err) != DAX_OK)
        return check_bad(what, bytes, "the close after recovery fails: %s", err.text);
    if (image.size[FILE_BASE] != size)
        return check_bad(what, bytes, "at rest the file has %llu bytes, expected %llu",
                         (unsigned long long)image.size[FILE_BASE], (unsigned long long)size);
    if (size == 0)
        return true;
    memcpy(header, content, sizeof header);
    header[DAX_HEADER_WRITE_VERSION] = check_setup.versions[0];
    header[DAX_HEADER_READ_VERSION] = check_setup.versions[1];
    if (memcmp(image.low[FILE_BASE], header, sizeof header) != 0)
        return check_bad(what, bytes, "at rest the header is not plain");
    if (memcmp(image.low[FILE_BASE] + sizeof header, content + sizeof header,
               size - sizeof header) != 0)
        return check_bad(what, bytes, "at rest the file is not the database");
    return true;
}

static bool check_open(struct conn **c, char *what, size_t bytes)
{
    struct dax_options o = check_options();
    struct dax_err err = {0};
    dax_rc rc = conn_open(image.path[FILE_BASE], &o, c, &err);
    if (rc == DAX_OK)
        rc = conn_begin_read(*c, &err);
    return rc == DAX_OK ||
           check_bad(what, bytes, "recovery refuses: %s: %s", dax_rc_name(rc), err.text);
}

static bool check_read(struct conn *c, uint8_t **content, uint64_t *size, char *what, size_t bytes)
{
    struct dax_err err = {0};
    *size = conn_size(c);
    if (*size > IMAGE_LOW_BYTES)
        return check_bad(what, bytes, "the database has %llu bytes", (unsigned long long)*size);
    *content = check_buffer(*size + DAX_PAGE_BYTES);
    if (*size && conn_read(c, *content, *size, 0, &err) != DAX_OK)
        return check_bad(what, bytes, "it cannot be read: %s", err.text);
    return true;
}

/* Writing here would make a sidecar: on a copy only. */
static bool check_may_write(void)
{
    return image.name[FILE_SIDE] == NAME_OWN;
}

static bool check_fast(const struct requirement *r, bool all, char *what, size_t bytes)
{
    struct conn *c;
    uint8_t *content;
    uint64_t size;
    const struct golden *found;
    uint64_t draw = image_draw() >> 16;
    bool ends = all || draw % CLOSE_EVERY == 0;
    if (!check_open(&c, what, bytes))
        return false;
    bool good = check_read(c, &content, &size, what, bytes) &&
                check_content(r, content, size, &found, what, bytes) &&
                (!atomic_load(&c->store->active) || check_recovered(c->store, what, bytes));
    if (good && ends && check_may_write() && (all || draw % (2 * CLOSE_EVERY) == 0))
        good = check_write(c, content, &size, what, bytes) && check_store(c->store, what, bytes);
    if (!good || !ends) {
        check_abandon(c);
        return good;
    }
    return check_close(c, content, size, what, bytes);
}

bool check_state(const struct requirement *r, bool all, bool whole, char *what, size_t bytes)
{
    static uint64_t unwritable;
    bool in_place = check_in_place(), good = true;
    if (in_place && all && !check_may_write())
        whole |= unwritable++ % COPY_EVERY == 0;
    if (in_place) {
        struct image_mark mark = image_mark();
        hooks.undo = true;
        hooks.random = image_draw();
        good = check_fast(r, all, what, bytes);
        hooks.undo = false;
        image_undo(&mark);
    }
    if (good && (whole || !in_place)) {
        walk.counts.slow++;
        good = check_copy(r, what, bytes);
    }
    return good;
}

/* --- damage ---------------------------------------------------------------------------------------- */

/* The state before the newest transaction that changed anything. */
static bool check_one_less(const struct requirement *r, const uint8_t *content, uint64_t size)
{
    const struct golden *g = r->trace->goldens;
    size_t k = r->acked;
    while (k > 0 && check_same(g[k].bytes, g[k].size, &g[k - 1]))
        k--;
    return hooks.rules == RULES_MSYNC && k > 0 && check_same(content, size, &g[k - 1]);
}

/* After damage of the newest record: the state before it is also right where nothing durable says
 * that it was whole. Its transaction has not been acknowledged then, but in msync mode, which seals at
 * checkpoints (L6). */
static bool check_damaged_content(const struct requirement *r, struct conn *c, bool record,
                                  char *what, size_t bytes)
{
    uint8_t *content;
    uint64_t size;
    const struct golden *found;
    if (!check_read(c, &content, &size, what, bytes))
        return false;
    if (record && check_one_less(r, content, size))
        return true;
    /* The record may have been replayed by a recovery that the damage has undone. */
    if (record && r->outer && r->acked == 0 &&
        (check_one_less(r->outer, content, size) ||
         check_content(r->outer, content, size, &found, what, bytes)))
        return true;
    return check_content(r, content, size, &found, what, bytes);
}

bool check_damage(const struct requirement *r, char *what, size_t bytes)
{
    struct dax_options o = check_options();
    struct dax_err err = {0};
    struct conn *c = NULL;
    char text[256];
    hooks.random = image_draw() + 3;
    uint64_t x = hooks.random * UINT64_C(0x9E3779B97F4A7C15) >> 16;
    bool record = r->record && x % 4;
    /* One of the four copies of a cursor slot, or a byte of the record. */
    uint64_t slots = x & 0x100 ? hooks.twin_from : hooks.root_from + DAX_LINE_BYTES;
    uint64_t at =
        record ? r->record + (x >> 10) % r->record_len : slots + (x >> 10) % (2 * DAX_LINE_BYTES);
    uint8_t byte = image.low[FILE_SIDE][at] ^ (uint8_t)(1 << (x >> 40) % 8);
    image_write(FILE_SIDE, at, &byte, 1);
    hooks.undo = true;
    dax_rc rc = conn_open(image.path[FILE_BASE], &o, &c, &err);
    bool good = record && rc == DAX_CORRUPT;
    if (rc == DAX_OK) {
        good = conn_begin_read(c, &err) == DAX_OK &&
               check_damaged_content(r, c, record, text, sizeof text);
        check_abandon(c);
    } else {
        snprintf(text, sizeof text, "%s: %.200s", dax_rc_name(rc), err.text);
    }
    hooks.undo = false;
    return good || check_bad(what, bytes, "with a bit of the %s turned over (sidecar %#llx): %s",
                             record ? "newest record" : "cursor", (unsigned long long)at, text);
}

/* --- a run to be explored ---------------------------------------------------------------------------- */

static bool check_session(const struct requirement *r, struct trace *t, char *what, size_t bytes)
{
    uint64_t state = image_draw() >> 16;
    struct conn *c;
    uint8_t *content;
    uint64_t size;
    const struct golden *found;
    if (!check_open(&c, what, bytes))
        return false;
    bool good = check_read(c, &content, &size, what, bytes) &&
                check_content(r, content, size, &found, what, bytes);
    if (good)
        trace_add_golden(t, content, size);
    if (good && check_may_write()) {
        trace_add(t, OP_BEGIN, FILE_BASE, 1, 0, NULL);
        good = check_write(c, content, &size, what, bytes);
        trace_add(t, OP_ACK, FILE_BASE, 1, 0, NULL);
        trace_add_golden(t, content, size);
    }
    if (!good || state % 2) {
        check_abandon(c);
        return good;
    }
    return check_close(c, content, size, what, bytes);
}

bool check_record(const struct requirement *r, struct trace *out)
{
    char what[512] = "";
    hooks.undo = true;
    hooks.record = out;
    hooks.random = image_draw() + 1;
    bool good = check_session(r, out, what, sizeof what);
    hooks.record = NULL;
    hooks.undo = false;
    if (!good) {
        snprintf(walk.violation, sizeof walk.violation,
                 "workload %s, seed %llu: a recovery, recorded: %s\n", walk.workload,
                 (unsigned long long)walk.options.seed, what);
        snprintf(walk.violation_what, sizeof walk.violation_what, "%s", what);
    }
    return good;
}
