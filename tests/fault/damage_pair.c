/* damage_pair.c: crashed pairs of files with live log records of every kind.
 *
 * Made through the engine's interface by a child that copies both files while the database is open,
 * which is what kill -9 leaves. The database is pages of words that say page and version, so that a
 * mixture of two states cannot pass for either.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/conn.h"
#include "engine/hash.h"
#include "tests/fault/damage.h"

#define PAGE ((uint64_t)DAX_PAGE_BYTES)

/* --- a database of pages ---------------------------------------------------------------------- */

/* What the making child knows; the states are shared with the parent. */
struct maker {
    struct pair *pair;
    struct conn *conn;
    uint8_t *now; /* content as of the running transaction */
    uint64_t bytes;
    unsigned version;
};

static void ok(dax_rc rc, const struct dax_err *err)
{
    CHECK(rc == DAX_OK, "%s: %s", dax_rc_name(rc), err->text);
}

static void fill_line(uint8_t *line, uint64_t page, unsigned index, unsigned version)
{
    for (unsigned i = 0; i < 8; i++) {
        uint64_t w = (page * 1000003 + version * 97 + index * 8 + i) * UINT64_C(0x9E3779B97F4A7C15);
        memcpy(line + 8 * i, &w, 8);
    }
    if (page == 0 && index == 0)
        line[DAX_HEADER_WRITE_VERSION] = line[DAX_HEADER_READ_VERSION] = 1;
    if (page == 0 && index == 1)
        memset(line + DAX_HEADER_RESERVED - 64, 0, DAX_HEADER_RESERVED_BYTES);
}

static void begin(struct maker *m)
{
    struct dax_err err;
    ok(conn_begin_read(m->conn, &err), &err);
    ok(conn_begin_write(m->conn, &err), &err);
    m->version++;
}

/* Change `lines` lines of the page, from line `first` on. */
static void put(struct maker *m, uint64_t page, unsigned first, unsigned lines)
{
    struct dax_err err;
    uint8_t *content = m->now + page * PAGE;
    CHECK(page < PAIR_PAGES, "page %llu", (unsigned long long)page);
    for (unsigned i = first; i < first + lines; i++)
        fill_line(content + i * 64, page, i, m->version);
    ok(conn_write(m->conn, content + first * 64, lines * 64, page * PAGE + first * 64, &err), &err);
    if ((page + 1) * PAGE > m->bytes)
        m->bytes = (page + 1) * PAGE;
}

static void commit(struct maker *m)
{
    struct dax_err err;
    struct pair *p = m->pair;
    ok(conn_commit(m->conn, &err), &err);
    conn_end_write(m->conn);
    conn_end_read(m->conn);
    CHECK(p->states < PAIR_STATES, "too many states");
    struct image *s = &p->state[p->states++];
    s->bytes = m->bytes;
    memcpy(s->content, m->now, m->bytes);
}

static void checkpoint(struct maker *m)
{
    struct dax_err err;
    struct checkpoint_result result = {0};
    ok(conn_checkpoint(m->conn, CHECKPOINT_PASSIVE, NULL, NULL, &result, &err), &err);
}

static struct dax_options options(const struct pair *p)
{
    struct dax_options o = dax_options_default();
    o.log_bytes = DAX_LOG_BYTES_MIN;
    o.private_bytes = DAX_PRIVATE_BYTES_MIN;
    o.persist = p->msync ? MEDIUM_MSYNC : MEDIUM_AUTO;
    return o;
}

static struct conn *open_conn(struct pair *p, const char *path)
{
    struct dax_err err;
    struct dax_options o = options(p);
    struct conn *c;
    ok(conn_open(path, &o, &c, &err), &err);
    return c;
}

static void copy_away(struct pair *p, const char *path)
{
    file_copy(path, p->path);
    file_copy(test_printf("%s-dax", path), p->sidecar);
}

/* A database of n pages, in base, with an empty log. */
static void base_of(struct maker *m, unsigned pages)
{
    begin(m);
    for (unsigned i = 0; i < pages; i++)
        put(m, i, 0, 64);
    commit(m);
    checkpoint(m);
}

/* --- the kinds -------------------------------------------------------------------------------- */

/* A few lines of one or two pages each; one of them the header's. */
static void make_small(struct maker *m, const char *path)
{
    (void)path;
    base_of(m, 6);
    for (unsigned i = 0; i < 4; i++) {
        begin(m);
        put(m, 1 + i, 3 * i, 2);
        put(m, 0, i, 1);
        commit(m);
    }
}

static void make_one(struct maker *m, const char *path)
{
    (void)path;
    base_of(m, 3);
    begin(m);
    put(m, 1, 5, 1);
    put(m, 2, 63, 1);
    commit(m);
}

/* Pages that are logged whole, a record without pages, and a file that grows. */
static void make_pages(struct maker *m, const char *path)
{
    (void)path;
    base_of(m, 8);
    begin(m);
    for (unsigned i = 1; i < 4; i++)
        put(m, i, 0, 64);
    commit(m);
    begin(m);
    put(m, 8, 0, 64); /* direct: named by no record */
    commit(m);
    begin(m);
    put(m, 8, 7, 3);
    put(m, 2, 1, 1);
    commit(m);
}

static void make_relog(struct maker *m, const char *path)
{
    struct dax_err err;
    void *pinned;
    base_of(m, 6);
    struct conn *reader = open_conn(m->pair, path);
    ok(conn_begin_read(reader, &err), &err);
    ok(conn_pin(reader, 2 * PAGE, PAGE, &pinned, &err), &err);
    CHECK(pinned, "no pin");
    for (unsigned i = 0; i < 2; i++) {
        begin(m);
        put(m, 2, 4 + i, 2);
        put(m, 3, i, 1);
        commit(m);
    }
    checkpoint(m);
    begin(m);
    put(m, 2, 30, 1);
    commit(m);
}

/* A transaction above its DRAM budget: its record names pages in scratch. The checkpoint that would
 * follow at once is left out, as by a crash in front of it. */
static void make_pairs(struct maker *m, const char *path)
{
    (void)path;
    base_of(m, 120);
    pair_without_checkpoint = true;
    begin(m);
    for (unsigned i = 1; i < 100; i++)
        put(m, i, 0, 64);
    commit(m);
    begin(m);
    put(m, 9, 9, 1);
    commit(m);
}

/* So many pages are pinned that the relogged ones are in scratch, with their list. */
static void make_list(struct maker *m, const char *path)
{
    struct dax_err err;
    void *pinned;
    base_of(m, 241);
    struct conn *reader = open_conn(m->pair, path);
    ok(conn_begin_read(reader, &err), &err);
    for (unsigned i = 0; i < 15; i++) {
        ok(conn_pin(reader, (1 + 16 * i) * PAGE, 16 * PAGE, &pinned, &err), &err);
        CHECK(pinned, "no pin");
    }
    for (unsigned i = 0; i < 4; i++) {
        begin(m);
        for (unsigned k = 0; k < 60; k++)
            put(m, 1 + 60 * i + k, 0, 64);
        commit(m);
    }
    checkpoint(m);
    begin(m);
    put(m, 5, 30, 1);
    commit(m);
}

/* An old reader has left behind the last commit, and what it kept has gone home. */
static void make_tidied(struct maker *m, const char *path)
{
    struct dax_err err;
    base_of(m, 6);
    begin(m);
    put(m, 1, 0, 2);
    put(m, 2, 0, 2);
    commit(m);
    struct conn *reader = open_conn(m->pair, path);
    ok(conn_begin_read(reader, &err), &err);
    begin(m);
    put(m, 2, 0, 1);
    commit(m);
    conn_end_read(reader);
}

/* Two lives of the log: the other cursor slot is of the first one, whose records are still in the
 * ring and would put old lines over new ones. */
static void make_second_life(struct maker *m, const char *path)
{
    base_of(m, 6);
    begin(m);
    put(m, 1, 0, 8);
    put(m, 2, 0, 2);
    commit(m);
    /* Crash and recovery. */
    char *again = test_printf("%s-again", path);
    file_copy(path, again);
    file_copy(test_printf("%s-dax", path), test_printf("%s-dax", again));
    struct dax_err err;
    ok(conn_close(m->conn, &err), &err);
    m->conn = open_conn(m->pair, again);
    begin(m);
    put(m, 1, 0, 4);
    commit(m);
    begin(m);
    put(m, 1, 2, 4);
    put(m, 3, 1, 1);
    commit(m);
    copy_away(m->pair, again);
}

static const struct kind {
    const char *name;
    void (*make)(struct maker *m, const char *path);
    bool copies; /* the files by itself */
} kinds[] = {
    {"small records", make_small, false},    {"one record", make_one, false},
    {"whole pages", make_pages, false},      {"relog", make_relog, false},
    {"pairs in scratch", make_pairs, false}, {"list in scratch", make_list, false},
    {"tidied", make_tidied, false},          {"second life", make_second_life, true},
};

unsigned pair_count(void)
{
    return sizeof kinds / sizeof *kinds;
}

static int child_make(void *arg)
{
    struct pair *p = arg;
    const struct kind *k = kinds;
    while (k->name != p->name)
        k++;
    struct maker m = {.pair = p, .now = calloc(PAIR_PAGES, PAGE)};
    char *path = test_printf("%s-make", p->path);
    m.conn = open_conn(p, path);
    k->make(&m, path);
    if (!k->copies)
        copy_away(p, path);
    return 0;
}

/* --- anatomy ---------------------------------------------------------------------------------- */

static uint8_t *map_file(const char *path, size_t *bytes)
{
    struct stat st;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0 && fstat(fd, &st) == 0, "%s: %s", path, strerror(errno));
    if (*bytes == 0)
        *bytes = (size_t)st.st_size;
    void *at = mmap(NULL, *bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(at != MAP_FAILED, "mmap %s", path);
    close(fd);
    return at;
}

static const struct cursor_slot *newest_cursor(const struct pair *p)
{
    const struct cursor_slot *c = p->root->cursor;
    return &c[c[1].seq > c[0].seq];
}

static void find_list(struct pair *p, const struct record_header *h)
{
    if (!(h->flags & DAX_RECORD_LIST_IN_SCRATCH))
        return;
    p->list_offset = h->list_page << DAX_PAGE_SHIFT;
    int fd = open(p->path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0, "open");
    p->list.bytes = h->pair_count * sizeof(struct record_pair);
    p->list.at =
        mmap(NULL, p->list.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)p->list_offset);
    CHECK(p->list.at != MAP_FAILED, "mmap of the list");
    p->list.name = "list in scratch";
    p->list.record = p->records;
    close(fd);
}

static void dissect(struct pair *p)
{
    for (size_t at = 0; at + sizeof *p->root <= p->pool_bytes && !p->root; at += DAX_LINE_BYTES) {
        struct sidecar_root *root = (struct sidecar_root *)(void *)(p->pool + at);
        if (memcmp(root->magic, DAX_SIDECAR_MAGIC, sizeof root->magic) == 0 &&
            root->hash == hash_bytes(root, offsetof(struct sidecar_root, hash)))
            p->root = root;
    }
    CHECK(p->root, "%s: no root", p->name);
    p->twin = (struct sidecar_twin *)(void *)(p->pool + p->root->twin_offset);
    p->ring = p->pool + p->root->ring_offset;
    const struct cursor_slot *c = newest_cursor(p);
    uint64_t lsn = c->lsn, txid = c->txid;
    for (;;) {
        uint8_t *at = p->ring + lsn % p->root->ring_bytes;
        struct record_header h;
        memcpy(&h, at, sizeof h);
        if (h.lsn != lsn || h.salt != c->salt)
            break;
        CHECK(p->records < PAIR_RECORDS, "too many records");
        size_t bytes = h.length_lines * DAX_LINE_BYTES;
        CHECK(at + bytes <= p->ring + p->root->ring_bytes, "it wraps");
        find_list(p, &h);
        p->record[p->records] = (struct area){at, bytes, "record", p->records};
        /* A relogged record repeats the state that it was made in. */
        txid = h.txid;
        p->state_of_record[p->records++] = (int)(txid - 2);
        lsn += bytes;
    }
    CHECK(p->records > 0, "%s: no live record", p->name);
    CHECK(p->state_of_record[p->records - 1] == p->states - 1, "%s: %d states, %d in the log",
          p->name, p->states, p->state_of_record[p->records - 1]);
    for (unsigned i = 0; i < DAX_SEALS; i++)
        if (p->twin->seal[i].salt == c->salt && p->twin->seal[i].lsn > p->sealed)
            p->sealed = p->twin->seal[i].lsn;
}

struct pair *pair_make(unsigned number, bool msync)
{
    struct pair *p =
        mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED, "mmap");
    p->name = kinds[number].name;
    p->msync = msync;
    snprintf(p->path, sizeof p->path, "%s/pair-%u-%d.db", test_dir(), number, msync);
    snprintf(p->sidecar, sizeof p->sidecar, "%s-dax", p->path);
    for (unsigned i = 0; i < PAIR_STATES; i++) {
        p->state[i].content = mmap(NULL, PAIR_PAGES * PAGE, PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(p->state[i].content != MAP_FAILED, "mmap");
    }
    int rc = child_wait(child_start(child_make, p));
    CHECK(rc == 0, "making \"%s\": %d", p->name, rc);
    p->file_bytes = (uint64_t)file_bytes(p->path);
    p->base_bytes = (p->state[p->states - 1].bytes + PAGE - 1) / PAGE * PAGE;
    p->base = map_file(p->path, &p->base_bytes);
    p->pool = map_file(p->sidecar, &p->pool_bytes);
    dissect(p);
    return p;
}
