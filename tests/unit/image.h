/* image.h: a database as a plain buffer for the walker, and its answers held against dbstat's.
 */
#ifndef DAX_TESTS_IMAGE_H
#define DAX_TESTS_IMAGE_H

#include <time.h>

#include "tests/unit/mix.h"
#include "tests/unit/unit.h"
#include "vfs/walker.h"

struct image {
    uint8_t *bytes; /* owned */
    uint64_t size;
    unsigned page_size;
    uint8_t *lost; /* owned: pages that cannot be read; [0 .. oracle.count] */
    struct mix_oracle oracle;
    uint64_t reads;
};

static uint64_t seed;

static inline unsigned runs(unsigned n)
{
    const char *text = getenv("DAX_TEST_RUNS");
    return text ? n * (unsigned)atoi(text) : n;
}

/* --- images ------------------------------------------------------------------------------------- */

static inline enum walk_read image_read(void *arg, uint64_t offset, uint32_t len, uint8_t *buf)
{
    struct image *im = arg;
    im->reads++;
    memset(buf, 0, len);
    for (uint64_t p = offset / im->page_size; im->lost && p <= (offset + len - 1) / im->page_size;
         p++)
        if (p < im->oracle.count && im->lost[p + 1])
            return WALK_UNREADABLE;
    if (offset < im->size)
        memcpy(buf, im->bytes + offset, len < im->size - offset ? len : im->size - offset);
    return WALK_READ;
}

/* Of the true content, readable or not. */
static inline uint32_t image_stamp(void *arg, uint64_t offset, uint32_t len)
{
    const struct image *im = arg;
    uint64_t h = 0, word;
    for (uint64_t at = offset; at + 8 <= offset + len && at + 8 <= im->size; at += 8) {
        memcpy(&word, im->bytes + at, sizeof word);
        h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 29;
    }
    return (uint32_t)h | 1;
}

static inline void image_take(struct image *im, sqlite3 *db)
{
    sqlite3_int64 size;
    memset(im, 0, sizeof *im);
    im->page_size = (unsigned)mix_number(db, "PRAGMA page_size");
    uint8_t *bytes = sqlite3_serialize(db, "main", &size, 0);
    ck_assert_ptr_nonnull(bytes);
    im->bytes = malloc((size_t)size);
    memcpy(im->bytes, bytes, (size_t)size);
    im->size = (uint64_t)size;
    sqlite3_free(bytes);
    mix_ask(&im->oracle, db);
    im->lost = calloc(im->oracle.count + 1, 1);
}

static inline void image_free(struct image *im)
{
    free(im->bytes);
    free(im->lost);
    im->lost = NULL;
    mix_forget(&im->oracle);
}

static inline struct walk_map *image_walk(struct image *im, const struct walk_map *before,
                                          bool stamps)
{
    struct walk_source source = {
        .arg = im, .bytes = im->size, .read = image_read, .stamp = stamps ? image_stamp : NULL};
    struct walk_map *m;
    im->reads = 0;
    ck_assert_int_eq(walk_run(&source, before, &m), WALK_OK);
    return m;
}

static inline uint8_t *image_page(struct image *im, unsigned page)
{
    return im->bytes + (uint64_t)(page - 1) * im->page_size;
}

static inline void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* --- comparing ---------------------------------------------------------------------------------- */

static inline const char *role_name(const struct walk_map *m, uint32_t page)
{
    static const char *const names[WALK_ROLES] = {
        [WALK_NONE] = "none",         [WALK_TREE] = "tree",
        [WALK_ROOT] = "root",         [WALK_ROOT_INTERIOR] = "root",
        [WALK_ROOT_LEAF] = "root",    [WALK_INTERIOR] = "interior",
        [WALK_LEAF] = "leaf",         [WALK_OVERFLOW_FIRST] = "overflow",
        [WALK_OVERFLOW] = "overflow", [WALK_TRUNK] = "free",
        [WALK_FREE] = "free",         [WALK_POINTER_MAP] = "map",
        [WALK_LOCK_BYTE] = "lock",
    };
    return names[walk_role(m, page)];
}

static inline const char *object_name(const struct walk_map *m, uint32_t page)
{
    const struct walk_object *o = walk_object_of(m, walk_root_of(m, page));
    return o ? o->name : "";
}

static inline bool is_map_page(const struct image *im, const struct walk_map *m, unsigned page)
{
    (void)im;
    return m->header.pointer_map && page >= 2 && dbformat_map_page(&m->header, page) == page;
}

/* Does the map say of the page what dbstat says? */
static inline bool page_is_right(const struct image *im, const struct walk_map *m, unsigned page)
{
    const struct mix_page *want = &im->oracle.pages[page];
    if (want->role[0]) {
        enum walk_role r = walk_role(m, page);
        bool leaf_right = r != WALK_ROOT_INTERIOR && r != WALK_ROOT_LEAF
                              ? true
                              : want->leaf == (r == WALK_ROOT_LEAF);
        return strcmp(role_name(m, page), want->role) == 0 && leaf_right &&
               strcmp(object_name(m, page), want->name) == 0;
    }
    if (is_map_page(im, m, page))
        return walk_role(m, page) == WALK_POINTER_MAP;
    return walk_role(m, page) == WALK_TRUNK || walk_role(m, page) == WALK_FREE;
}

static inline void image_check(const struct image *im, const struct walk_map *m, const char *what)
{
    unsigned free_pages = 0;
    ck_assert_msg(m->pages == im->oracle.count, "seed %llu: %u pages, not %u",
                  (unsigned long long)seed, m->pages, im->oracle.count);
    for (unsigned p = 1; p <= m->pages; p++) {
        const struct mix_page *want = &im->oracle.pages[p];
        ck_assert_msg(page_is_right(im, m, p),
                      "seed %llu, %s: page %u of %u is %s of \"%s\", dbstat says %s of \"%s\"",
                      (unsigned long long)seed, what, p, m->pages, role_name(m, p),
                      object_name(m, p), want->role, want->name);
        free_pages += strcmp(role_name(m, p), "free") == 0;
    }
    ck_assert_uint_eq(free_pages, im->oracle.free_pages);
}

static inline void image_check_sound(const struct image *im, const struct walk_map *m,
                                     const char *what)
{
    image_check(im, m, what);
    if (m->trouble_count == 0)
        return;
    ck_abort_msg("seed %llu, %s: trouble %d of page %u (%u)", (unsigned long long)seed, what,
                 (int)m->problems[0].trouble, m->problems[0].page, m->problems[0].other);
}

/* --- databases ---------------------------------------------------------------------------------- */

static const unsigned page_sizes[] = {512, 1024, 2048, 4096, 8192, 16384, 32768, 65536};
static const char *const encodings[] = {"UTF-8", "UTF-16le", "UTF-16be"};

static inline sqlite3 *mix_memory(struct mix *m, unsigned page_size, unsigned auto_vacuum,
                                  unsigned salt)
{
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open(":memory:", &db), SQLITE_OK);
    mix_start(m, db, seed + salt, page_size, auto_vacuum, encodings[salt % 3]);
    return db;
}

static inline void image_make(struct image *im, unsigned page_size, unsigned auto_vacuum,
                              unsigned salt, unsigned steps)
{
    struct mix m;
    sqlite3 *db = mix_memory(&m, page_size, auto_vacuum, salt);
    for (unsigned i = 0; i < steps; i++)
        mix_step(&m);
    image_take(im, db);
    sqlite3_close(db);
}

#endif
