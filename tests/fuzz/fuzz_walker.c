/* fuzz_walker.c: databases with anything in them, under the b-tree walker.
 *
 * Input: which of a few databases, how to walk it (with a map before, with stamps that know of the
 * damage or not), then changes: bytes, numbers, pages that cannot be read, the size of the file.
 *
 * Would catch: a read outside a page, a walk that does not end or reads pages again and again, a map
 * that contradicts itself (a page without the one that named it, a climb that ends nowhere); and, where
 * one page alone was changed, a page given to the wrong owner without "damaged" on it or on its way to
 * the root.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "vfs/walker.h"

#define CHANGES_MAX 48
#define LAYOUTS 4u

enum change {
    CHANGE_BYTE,
    CHANGE_NUMBER,  /* four bytes, big-endian */
    CHANGE_POINTER, /* the same, a page of the database */
    CHANGE_FILL,
    CHANGE_COPY, /* another page's content */
    CHANGE_UNREADABLE,
    CHANGE_KINDS
};

static const struct {
    unsigned page_size, auto_vacuum;
} layouts[LAYOUTS] = {{512, 0}, {512, 1}, {1024, 2}, {4096, 0}};

struct database {
    uint8_t *bytes;
    uint32_t size;
    uint32_t page_size;
    struct walk_map *map; /* as it was made */
};

static struct database made[LAYOUTS];

static struct {
    const struct database *of;
    uint8_t *bytes;
    uint64_t size;
    uint8_t lost[256]; /* pages, by number */
    bool stamps_know;
} now;

/* --- pages ---------------------------------------------------------------------------------------- */

static enum walk_read fuzz_read(void *arg, uint64_t offset, uint32_t len, uint8_t *buf)
{
    (void)arg;
    FUZZ_CHECK(len <= DBFORMAT_PAGE_MAX && offset < now.size, "%u bytes at %llu", len,
               (unsigned long long)offset);
    uint64_t page = offset / now.of->page_size + 1;
    if (page < sizeof now.lost && now.lost[page])
        return WALK_UNREADABLE;
    memset(buf, 0, len);
    if (offset < now.of->size)
        memcpy(buf, now.bytes + offset, len < now.of->size - offset ? len : now.of->size - offset);
    return WALK_READ;
}

static uint32_t fuzz_stamp(void *arg, uint64_t offset, uint32_t len)
{
    (void)arg;
    const uint8_t *from = now.stamps_know ? now.bytes : now.of->bytes;
    uint64_t h = 0, word;
    for (uint64_t at = offset; at + 8 <= offset + len && at + 8 <= now.of->size; at += 8) {
        memcpy(&word, from + at, sizeof word);
        h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 29;
    }
    return (uint32_t)h | 1;
}

static struct walk_map *walk(const struct walk_map *before, bool stamps)
{
    struct walk_source source = {
        .bytes = now.size, .read = fuzz_read, .stamp = stamps ? fuzz_stamp : NULL};
    struct walk_map *m;
    enum walk_result rc = walk_run(&source, before, &m);
    FUZZ_CHECK(rc == WALK_OK && m, "walk: %d", (int)rc);
    return m;
}

static void make(struct database *d, unsigned page_size, unsigned auto_vacuum)
{
    static const char sql[] =
        "CREATE TABLE a(x INTEGER PRIMARY KEY, y, z UNIQUE); CREATE INDEX ay ON a(y);"
        "CREATE TABLE b(x, y, PRIMARY KEY(x, y)) WITHOUT ROWID; CREATE TABLE c(x); CREATE VIEW v AS"
        " SELECT 1; CREATE VIRTUAL TABLE f USING fts5(t); CREATE TABLE gone(x);"
        "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120)"
        " INSERT INTO a SELECT i, i || 'some text', i FROM n;"
        "INSERT INTO b SELECT x, zeroblob(x * 7 % 200) FROM a WHERE x < 40;"
        "INSERT INTO c VALUES(zeroblob(5000)), (1), (zeroblob(3000));"
        "INSERT INTO f VALUES('one two three'); INSERT INTO gone SELECT zeroblob(400) FROM a"
        " WHERE x < 30; DROP TABLE gone";
    sqlite3 *db;
    sqlite3_int64 size;
    char pragmas[100];
    snprintf(pragmas, sizeof pragmas, "PRAGMA page_size=%u; PRAGMA auto_vacuum=%u", page_size,
             auto_vacuum);
    FUZZ_CHECK(sqlite3_open(":memory:", &db) == SQLITE_OK, "open");
    FUZZ_CHECK(sqlite3_exec(db, pragmas, NULL, NULL, NULL) == SQLITE_OK &&
                   sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK,
               "%s", sqlite3_errmsg(db));
    uint8_t *bytes = sqlite3_serialize(db, "main", &size, 0);
    d->bytes = malloc((size_t)size);
    memcpy(d->bytes, bytes, (size_t)size);
    d->size = (uint32_t)size;
    d->page_size = page_size;
    sqlite3_free(bytes);
    sqlite3_close(db);
    now.of = d;
    now.bytes = d->bytes;
    now.size = d->size;
    d->map = walk(NULL, true);
    FUZZ_CHECK(d->map->trouble_count == 0 && d->map->pages < sizeof now.lost, "a sound database");
}

/* --- what holds ----------------------------------------------------------------------------------- */

static void check_map(const struct walk_map *m)
{
    FUZZ_CHECK(m->pages_read <= 6 * (uint64_t)m->pages + 16, "%llu reads of %u pages",
               (unsigned long long)m->pages_read, m->pages);
    FUZZ_CHECK(m->problem_count <= WALK_PROBLEMS_MAX && m->problem_count <= m->trouble_count,
               "%u problems", m->problem_count);
    for (uint32_t p = 1; p <= m->pages; p++) {
        enum walk_role r = walk_role(m, p);
        uint32_t parent = m->parent[p];
        FUZZ_CHECK(r < WALK_ROLES, "page %u: role %d", p, (int)r);
        FUZZ_CHECK(parent <= m->pages && parent != p, "page %u: parent %u", p, parent);
        if (walk_is_root(r) || r == WALK_NONE)
            FUZZ_CHECK(parent == 0, "page %u: parent %u", p, parent);
        else if (walk_is_tree(r) || walk_is_overflow(r))
            FUZZ_CHECK(walk_is_tree(walk_role(m, parent)), "page %u: parent %u is none", p, parent);
        uint32_t root = walk_root_of(m, p);
        FUZZ_CHECK(root == 0 || walk_is_root(walk_role(m, root)), "page %u: root %u", p, root);
    }
    for (uint32_t i = 0; i < m->object_count; i++) {
        const struct walk_object *o = &m->objects[i];
        FUZZ_CHECK(o->name && o->table && (!o->module || o->root == 0), "object %u", i);
        FUZZ_CHECK(i == 0 || m->objects[i - 1].root <= o->root, "objects in order");
    }
}

static bool admits(const struct walk_map *m, uint32_t page)
{
    for (unsigned steps = 0; page && steps < 64; steps++) {
        if (m->role[page] & WALK_DAMAGED || walk_role(m, page) == WALK_NONE)
            return true;
        if (walk_is_root(walk_role(m, page)))
            return false;
        page = m->parent[page];
    }
    return false;
}

/* One page alone was changed, and it is neither of the schema nor of the pointer map. */
static void check_owners(const struct walk_map *m, const struct walk_map *whole)
{
    for (uint32_t p = 1; p <= m->pages && p <= whole->pages; p++)
        FUZZ_CHECK(walk_root_of(m, p) == walk_root_of(whole, p) || admits(m, p),
                   "page %u: tree %u instead of %u", p, walk_root_of(m, p), walk_root_of(whole, p));
}

/* --- one input ------------------------------------------------------------------------------------ */

static void put32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void change(struct input *in, uint32_t page)
{
    uint32_t size = now.of->page_size, pages = now.of->size / size;
    uint8_t *d = now.bytes + (page - 1) * size;
    enum change kind = (enum change)(input_u8(in) % CHANGE_KINDS);
    uint32_t at = input_u16(in) % (size - 3);
    fuzz_trace("page %u at %u: change %d", page, at, (int)kind);
    switch (kind) {
    case CHANGE_BYTE: d[at] = input_u8(in); break;
    case CHANGE_NUMBER: put32(d + at, input_u32(in)); break;
    case CHANGE_POINTER: put32(d + at, 1 + input_u8(in) % (pages + 1)); break;
    case CHANGE_FILL: memset(d + at, input_u8(in), (size - at) / (1 + input_u8(in) % 8)); break;
    case CHANGE_COPY: memmove(d, now.of->bytes + input_u8(in) % pages * size, size); break;
    default: now.lost[page] = 1; break;
    }
}

void fuzz_start(void)
{
    for (unsigned i = 0; i < LAYOUTS; i++)
        make(&made[i], layouts[i].page_size, layouts[i].auto_vacuum);
}

void fuzz_one(const uint8_t *data, size_t bytes)
{
    struct input in = {data, data + bytes};
    uint8_t how = input_u8(&in), only = input_u8(&in);
    const struct database *d = &made[how % LAYOUTS];
    uint32_t pages = d->size / d->page_size;
    bool one_page = how & 4, before = how & 8, stamps = how & 16, cut = how & 64;
    memset(&now, 0, sizeof now);
    now.of = d;
    now.size = d->size;
    now.stamps_know = how & 32;
    now.bytes = malloc(d->size);
    memcpy(now.bytes, d->bytes, d->size);
    only = (uint8_t)(2 + only % (pages - 1));
    for (unsigned n = 0; n < CHANGES_MAX && input_left(&in); n++)
        change(&in, one_page ? only : 1 + input_u8(&in) % pages);
    if (cut)
        now.size = 1 + (uint64_t)only * d->size / 64;
    struct walk_map *m = walk(before ? d->map : NULL, stamps);
    check_map(m);
    if (one_page && !cut && walk_root_of(d->map, only) != 1 &&
        walk_role(d->map, only) != WALK_POINTER_MAP)
        check_owners(m, d->map);
    struct walk_map *again = walk(m, true); /* from a map of the damaged one */
    check_map(again);
    walk_map_free(again);
    walk_map_free(m);
    free(now.bytes);
}

/* --- seeds ---------------------------------------------------------------------------------------- */

void fuzz_seeds(fuzz_seed_fn seed)
{
    for (unsigned how = 0; how < 64; how += 3) {
        struct seed s = {0};
        char name[32];
        seed_put(&s, how, 1);
        seed_put(&s, how * 5, 1);
        for (unsigned n = 0; n < 3; n++) {
            if (!(how & 4))
                seed_put(&s, how * 7 + n * 13, 1);
            seed_put(&s, how + n, 1);
            seed_put(&s, n ? 8 : 0, 2);
            seed_put(&s, how * 3 + n, (how + n) % CHANGE_KINDS == CHANGE_NUMBER ? 4 : 1);
        }
        snprintf(name, sizeof name, "%u", how);
        seed(name, s.data, s.bytes);
    }
}
