/* test_walker_damage.c: the b-tree walker on damaged databases.
 *
 * Catches: a wrong pointer, a cycle, an absurd count or plain noise that makes the walker crash, hang,
 * read outside a page (under the address sanitizer), or give a page to the wrong owner without saying
 * "damaged" of it or of a page that names it.
 *
 * DAX_TEST_RUNS multiplies the number of damages.
 */
#include "tests/unit/image.h"
#include "vfs/walker.h"

/* --- damage --------------------------------------------------------------------------------------- */

/* Whoever is wrong says so: the page, or one that names it on the way to its root. */
static bool admits(const struct walk_map *m, unsigned page)
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

static uint64_t noise_state;
static uint32_t noise(uint32_t n)
{
    struct mix m = {.state = noise_state};
    uint32_t r = mix_below(&m, n);
    noise_state = m.state;
    return r;
}

/* Change something on one page; what it was is in `saved`. */
static void damage_page(struct image *im, const struct walk_map *whole, unsigned page,
                        unsigned header)
{
    uint8_t *d = image_page(im, page);
    unsigned n = im->page_size - header;
    switch (noise(6)) {
    case 0: /* one byte */ d[header + noise(n)] = (uint8_t)noise(256); break;
    case 1: /* a run of noise */
        for (unsigned at = noise(n), k = 0; k < 64 && at < n; k++, at++)
            d[header + at] = (uint8_t)noise(256);
        break;
    case 2: memset(d + header, noise(2) ? 0 : 0xff, n); break;
    case 3: /* another page's content */
        memcpy(d + header, image_page(im, 1 + noise(whole->pages)) + header, n);
        break;
    case 4: /* a pointer to another page: the right child, or a chain's next */
        put32(d + header + (noise(2) ? 8 : 0), 1 + noise(whole->pages));
        break;
    default: /* one bit in the page header */ d[header + noise(12)] ^= (uint8_t)(1u << noise(8));
    }
}

START_TEST(a_wrong_owner_is_never_given_without_saying_damaged)
{
    unsigned wrong = 0, tried = 0;
    noise_state = seed;
    for (unsigned i = 0; i < 8; i++) {
        struct image im;
        image_make(&im, page_sizes[i % 5], i % 3, i, 60);
        struct walk_map *whole = image_walk(&im, NULL, true);
        uint8_t *saved = malloc(im.page_size);
        for (unsigned k = 0; k < runs(250); k++) {
            unsigned page = 2 + noise(whole->pages - 1);
            if (walk_root_of(whole, page) == 1)
                continue; /* names would be wrong, and nothing tells */
            memcpy(saved, image_page(&im, page), im.page_size);
            damage_page(&im, whole, page, 0);
            struct walk_map *m = image_walk(&im, NULL, false);
            for (unsigned q = 1; q <= m->pages; q++) {
                bool is_wrong = walk_root_of(m, q) != walk_root_of(whole, q);
                wrong += is_wrong;
                ck_assert_msg(!is_wrong || admits(m, q),
                              "seed %llu: page %u (%s) is given to %u instead of %u, with page %u "
                              "(%s) damaged",
                              (unsigned long long)seed, q, role_name(m, q), walk_root_of(m, q),
                              walk_root_of(whole, q), page, role_name(whole, page));
            }
            walk_map_free(m);
            memcpy(image_page(&im, page), saved, im.page_size);
            tried++;
        }
        free(saved);
        walk_map_free(whole);
        image_free(&im);
    }
    ck_assert_uint_gt(wrong, 0);
    printf("figure: damaged pages walked over: %u\n", tried);
}
END_TEST

START_TEST(noise_anywhere_ends_the_walk)
{
    noise_state = seed + 1;
    for (unsigned i = 0; i < 8; i++) {
        struct image im;
        image_make(&im, page_sizes[i], i % 3, i, 30);
        uint8_t *saved = malloc(im.size);
        memcpy(saved, im.bytes, im.size);
        struct walk_map *whole = image_walk(&im, NULL, true), *before = whole;
        for (unsigned k = 0; k < runs(60); k++) {
            for (unsigned n = 1 + noise(20); n; n--)
                damage_page(&im, whole, 1 + noise(whole->pages), 0);
            if (noise(4)) /* usually the header is one, and then all the rest of it is noise */
                memcpy(im.bytes, saved, 16 + noise(85));
            if (noise(8) == 0)
                im.bytes[20] = (uint8_t)noise(256);
            uint64_t size = im.size;
            im.size = noise(4) ? size : noise((uint32_t)size);
            struct walk_map *m = image_walk(&im, before, noise(2));
            ck_assert_uint_le(m->pages_read, 4 * (uint64_t)m->pages + 16);
            im.size = size;
            if (before != whole)
                walk_map_free(before);
            before = m;
            if (noise(3) == 0)
                memcpy(im.bytes, saved, im.size);
        }
        if (before != whole)
            walk_map_free(before);
        walk_map_free(whole);
        free(saved);
        image_free(&im);
    }
}
END_TEST

/* --- damage that is made on purpose --------------------------------------------------------------- */

static struct image plain; /* pages of 512 bytes: big (three levels), long (a chain), a free list */

static unsigned plain_find(const struct walk_map *m, const char *name, enum walk_role role)
{
    for (unsigned p = 1; p <= m->pages; p++)
        if (walk_role(m, p) == role && (!name || strcmp(object_name(m, p), name) == 0))
            return p;
    ck_abort_msg("no page of role %d in %s", (int)role, name ? name : "it");
}

static struct walk_map *plain_make(unsigned auto_vacuum)
{
    struct mix mix;
    sqlite3 *db = mix_memory(&mix, 512, auto_vacuum, 0);
    mix_run(
        &mix,
        "CREATE TABLE big(a INTEGER PRIMARY KEY, b); CREATE INDEX big_b ON big(b);"
        "CREATE TABLE long(a); CREATE TABLE gone(a); CREATE TABLE late(a); INSERT INTO long"
        " VALUES(zeroblob(20000)); INSERT INTO gone VALUES(zeroblob(100000));"
        "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
        " INSERT INTO big SELECT i, 'some text' || i FROM n; INSERT INTO late SELECT b FROM big;"
        "DROP TABLE gone");
    image_take(&plain, db);
    sqlite3_close(db);
    struct walk_map *m = image_walk(&plain, NULL, true);
    image_check_sound(&plain, m, "before the damage");
    return m;
}

static bool has_trouble(const struct walk_map *m, unsigned page, enum walk_trouble trouble)
{
    for (uint32_t i = 0; i < m->problem_count; i++)
        if (m->problems[i].page == page && m->problems[i].trouble == trouble)
            return true;
    return false;
}

/* Walks, expects this trouble of this page, and puts the page back. */
static void plain_expect(const struct walk_map *whole, unsigned page, const uint8_t saved[512],
                         unsigned at, enum walk_trouble trouble)
{
    struct walk_map *m = image_walk(&plain, NULL, true);
    ck_assert_msg(has_trouble(m, at, trouble), "no trouble %d of page %u", (int)trouble, at);
    for (unsigned q = 1; q <= m->pages; q++)
        ck_assert_msg(walk_root_of(m, q) == walk_root_of(whole, q) || admits(m, q), "page %u", q);
    walk_map_free(m);
    memcpy(image_page(&plain, page), saved, 512);
}

START_TEST(cycles_are_found_and_named)
{
    struct walk_map *whole = plain_make(0);
    unsigned root = plain_find(whole, "big", WALK_ROOT_INTERIOR);
    unsigned interior = plain_find(whole, "big", WALK_INTERIOR);
    unsigned chain = plain_find(whole, "long", WALK_OVERFLOW_FIRST);
    unsigned trunk = plain_find(whole, NULL, WALK_TRUNK);
    uint8_t saved[512];

#define DAMAGE(page, change, at, trouble)                                                          \
    do {                                                                                           \
        uint8_t *d = image_page(&plain, page);                                                     \
        memcpy(saved, d, 512);                                                                     \
        change;                                                                                    \
        plain_expect(whole, page, saved, at, trouble);                                             \
    } while (0)

    DAMAGE(interior, put32(d + 8, interior), interior, TROUBLE_NAMED_TWICE);
    DAMAGE(interior, put32(d + 8, root), interior, TROUBLE_NAMES_TAKEN);
    DAMAGE(interior, put32(d + 8, 1), interior, TROUBLE_NAMES_TAKEN);
    DAMAGE(interior, put32(d + 8, 0), interior, TROUBLE_POINTER);
    DAMAGE(interior, put32(d + 8, 0xffffffff), interior, TROUBLE_POINTER);
    DAMAGE(interior, put32(d + 8, whole->pages + 1), interior, TROUBLE_POINTER);
    DAMAGE(interior, put32(d + 8, trunk), interior, TROUBLE_NAMES_TAKEN);
    DAMAGE(interior, put32(d + 8, chain), interior, TROUBLE_NAMES_TAKEN);
    DAMAGE(interior, d[3] = 0xff, interior, TROUBLE_CELLS);
    DAMAGE(interior, d[0] = 2, interior, TROUBLE_NO_TREE_PAGE);
    DAMAGE(interior, d[0] = 13, interior, TROUBLE_CELLS);
    DAMAGE(interior, memset(d + 12, 0xff, 2), interior, TROUBLE_CELLS);
    DAMAGE(chain, put32(d, chain), chain, TROUBLE_NAMED_TWICE);
    DAMAGE(chain, put32(d, 0), chain, TROUBLE_CHAIN);
    DAMAGE(trunk, put32(d, trunk), trunk, TROUBLE_NAMED_TWICE);
    DAMAGE(trunk, put32(d + 4, 0xffffffff), trunk, TROUBLE_TRUNK);
    DAMAGE(trunk, put32(d + 8, root), root, TROUBLE_NAMED_TWICE);
    DAMAGE(1, put32(d + 36, 3), 1, TROUBLE_FREE_COUNT);
    DAMAGE(1, put32(d + 28, whole->pages + 7), 1, TROUBLE_SIZE);
    walk_map_free(whole);
    image_free(&plain);
}
END_TEST

START_TEST(a_damaged_page_takes_nothing_from_sound_ones)
{
    struct walk_map *whole = plain_make(0);
    unsigned interior = plain_find(whole, "big", WALK_INTERIOR);
    unsigned leaf = plain_find(whole, "late", WALK_LEAF);
    ck_assert_uint_lt(walk_root_of(whole, interior), walk_root_of(whole, leaf)); /* walked first */
    uint8_t saved[512], *d = image_page(&plain, interior);
    memcpy(saved, d, 512);
    for (int i = 0; i < 2; i++) {
        put32(d + 8, leaf);
        if (i == 0)
            memset(d + 12, 0xff, 2); /* a cell that lies nowhere */
        else
            put32(d + dbformat_u16(d + 12), whole->pages + 1); /* a child that does not exist */
        struct walk_map *m = image_walk(&plain, NULL, true);
        ck_assert_uint_eq(walk_root_of(m, leaf), walk_root_of(whole, leaf));
        ck_assert(!(m->role[leaf] & WALK_DAMAGED));
        ck_assert(m->role[interior] & WALK_DAMAGED);
        /* What only it names is still found. */
        unsigned children = 0;
        for (unsigned p = 2; p <= m->pages; p++)
            children += m->parent[p] == interior && walk_role(m, p) == WALK_LEAF;
        ck_assert_uint_gt(children, 5);
        walk_map_free(m);
        memcpy(d, saved, 512);
    }
    walk_map_free(whole);
    image_free(&plain);
}
END_TEST

START_TEST(a_loop_in_the_pointer_map_ends)
{
    struct walk_map *whole = plain_make(1);
    unsigned interior = plain_find(whole, "big", WALK_INTERIOR), child = 0;
    for (unsigned p = 2; p <= whole->pages && !child; p++)
        if (whole->parent[p] == interior && walk_role(whole, p) == WALK_LEAF)
            child = p;
    unsigned map = dbformat_map_page(&whole->header, child);
    uint8_t *entry = image_page(&plain, map) + 5 * (child - map - 1);
    ck_assert_uint_eq(dbformat_u32(entry + 1), interior);
    put32(entry + 1, child);
    plain.lost[interior] = 1;
    struct walk_map *m = image_walk(&plain, NULL, true);
    ck_assert_int_eq(walk_role(m, child), WALK_NONE);
    /* An entry that names a sound page which does not name the child is not believed. */
    put32(entry + 1, plain_find(whole, "big_b", WALK_INTERIOR));
    walk_map_free(m);
    m = image_walk(&plain, NULL, true);
    ck_assert_int_eq(walk_role(m, child), WALK_NONE);
    walk_map_free(m);
    walk_map_free(whole);
    image_free(&plain);
}
END_TEST

START_TEST(a_tree_without_end_is_cut_at_its_depth)
{
    struct walk_map *whole = plain_make(0);
    unsigned root = plain_find(whole, "big", WALK_ROOT_INTERIOR), page = root, depth = 0;
    /* Every page of the database in one line: no cells, the next as the right child. */
    for (unsigned p = 2; p <= whole->pages; p++) {
        if (walk_is_root(walk_role(whole, p)) || walk_root_of(whole, p) == 1)
            continue;
        uint8_t *d = image_page(&plain, page);
        memset(d, 0, 512);
        d[0] = 5;
        put32(d + 8, p);
        page = p;
        depth++;
    }
    ck_assert_uint_gt(depth, 100);
    struct walk_map *m = image_walk(&plain, NULL, true);
    unsigned named = 0;
    for (unsigned p = 1; p <= m->pages; p++)
        named += walk_root_of(m, p) == root;
    ck_assert_uint_eq(named, DBFORMAT_DEPTH_MAX + 2); /* the last one is not looked into */
    walk_map_free(m);
    walk_map_free(whole);
    image_free(&plain);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_wrong_owner_is_never_given_without_saying_damaged,
        noise_anywhere_ends_the_walk,
        cycles_are_found_and_named,
        a_damaged_page_takes_nothing_from_sound_ones,
        a_loop_in_the_pointer_map_ends,
        a_tree_without_end_is_cut_at_its_depth,
    };
    seed = mix_seed();
    Suite *suite = suite_create("walker damage");
    TCase *tcase = tcase_create("damage");
    tcase_set_timeout(tcase, 600);
    tcase_add_checked_fixture(tcase, unit_setup, NULL);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    return unit_main(suite);
}
