/* test_walker.c: the b-tree walker on plain buffers, against SQLite's own dbstat.
 *
 * Catches: a page that is given to the wrong object or role, for any page size, auto_vacuum mode and
 * text encoding; a refreshed map that differs from a new one; owners that are lost, or invented, when
 * pages cannot be read; a shadow table that does not name its virtual table.
 *
 * DAX_TEST_RUNS multiplies the number of random databases.
 */
#include "tests/unit/image.h"
#include "vfs/walker.h"

START_TEST(every_page_has_the_owner_that_dbstat_says)
{
    unsigned compared = 0;
    for (unsigned salt = 0; salt < runs(2); salt++) {
        for (unsigned i = 0; i < 8 * 3; i++) {
            struct mix mix;
            sqlite3 *db = mix_memory(&mix, page_sizes[i / 3], i % 3, salt * 100 + i);
            struct walk_map *before = NULL;
            for (unsigned round = 0; round < 6; round++) {
                struct image im;
                for (unsigned k = 0; k < 12; k++)
                    mix_step(&mix);
                image_take(&im, db);
                struct walk_map *m = image_walk(&im, NULL, false);
                image_check_sound(&im, m, "a new map");
                walk_map_free(m);
                m = image_walk(&im, before, true);
                image_check_sound(&im, m, "a refreshed map");
                walk_map_free(before);
                before = m;
                compared += im.oracle.count;
                image_free(&im);
            }
            walk_map_free(before);
            sqlite3_close(db);
        }
    }
    printf("figure: pages whose owner was compared with dbstat: %u\n", compared);
}
END_TEST

START_TEST(a_refresh_reads_what_has_changed)
{
    struct mix mix;
    struct image im;
    sqlite3 *db = mix_memory(&mix, 4096, 0, 1);
    mix_run(&mix, "CREATE TABLE big(a INTEGER PRIMARY KEY, b);"
                  "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
                  " INSERT INTO big SELECT i, 'some text' || i FROM n");
    image_take(&im, db);
    struct walk_map *before = image_walk(&im, NULL, true);
    uint64_t all = before->pages_read;
    ck_assert_uint_gt(all, 500);
    image_free(&im);
    mix_run(&mix, "UPDATE big SET b = 'new' WHERE a = 50000");
    image_take(&im, db);
    struct walk_map *m = image_walk(&im, before, true);
    image_check_sound(&im, m, "refreshed");
    ck_assert_msg(m->pages_read < all / 20, "%llu pages read of %llu",
                  (unsigned long long)m->pages_read, (unsigned long long)all);
    ck_assert_int_eq(memcmp(m->parent, before->parent, (m->pages + 1) * sizeof *m->parent), 0);
    walk_map_free(m);
    walk_map_free(before);
    image_free(&im);
    sqlite3_close(db);
}
END_TEST

/* --- pages that cannot be read ------------------------------------------------------------------ */

START_TEST(children_of_an_unreadable_page_are_known_from_the_map_before)
{
    unsigned tried = 0;
    for (unsigned i = 0; i < 6; i++) {
        struct image im;
        image_make(&im, page_sizes[i], i % 3, i, 60);
        struct walk_map *before = image_walk(&im, NULL, true);
        for (unsigned p = 1; p <= im.oracle.count; p += 1 + im.oracle.count / 150) {
            im.lost[p] = 1;
            struct walk_map *m = image_walk(&im, before, true);
            image_check(&im, m, "one page unreadable");
            /* And again from a map that had it from the one before. */
            struct walk_map *again = image_walk(&im, m, true);
            image_check(&im, again, "still unreadable");
            walk_map_free(again);
            walk_map_free(m);
            im.lost[p] = 0;
            tried++;
        }
        for (unsigned k = 0; k < 20; k++) { /* several at once */
            for (unsigned p = 1; p <= im.oracle.count; p++)
                im.lost[p] = (seed + p * 2654435761u + k) % 10 == 0;
            struct walk_map *m = image_walk(&im, before, true);
            image_check(&im, m, "many pages unreadable");
            walk_map_free(m);
        }
        walk_map_free(before);
        image_free(&im);
    }
    printf("figure: pages made unreadable, with a map before: %u\n", tried);
}
END_TEST

/* Is it an ancestor of the page, or the page itself, for the map of the whole database? */
static bool hangs_below(const struct walk_map *m, unsigned page, unsigned above)
{
    if (walk_role(m, page) == WALK_TRUNK || walk_role(m, page) == WALK_FREE)
        return walk_role(m, above) == WALK_TRUNK || above == 1;
    for (unsigned steps = 0; page && steps < 40; steps++) {
        if (page == above)
            return true;
        if (walk_is_root(walk_role(m, page)))
            return hangs_below(m, walk_object_of(m, page)->schema_page, above) && page != 1;
        page = m->parent[page];
    }
    return false;
}

START_TEST(children_of_an_unreadable_page_are_unknown_otherwise)
{
    for (unsigned i = 0; i < 4; i++) {
        struct image im;
        image_make(&im, page_sizes[i], 0, i, 60);
        struct walk_map *whole = image_walk(&im, NULL, true);
        for (unsigned p = 2; p <= im.oracle.count; p += 1 + im.oracle.count / 150) {
            im.lost[p] = 1;
            struct walk_map *m = image_walk(&im, NULL, true);
            bool overflow = walk_is_overflow(walk_role(whole, p));
            unsigned unknown = 0;
            for (unsigned q = 1; q <= m->pages; q++) {
                bool right = page_is_right(&im, m, q);
                if (!right && q != p) {
                    bool may = hangs_below(whole, q, overflow ? whole->parent[p] : p);
                    ck_assert_msg(may && walk_role(m, q) == WALK_NONE,
                                  "seed %llu: page %u (%s of \"%s\") with page %u unreadable",
                                  (unsigned long long)seed, q, role_name(m, q), object_name(m, q),
                                  p);
                    unknown++;
                }
            }
            ck_assert_str_eq(object_name(m, p), object_name(whole, p));
            ck_assert(m->role[p] & WALK_LOST || walk_role(whole, p) == WALK_FREE ||
                      walk_role(whole, p) == WALK_POINTER_MAP);
            if (unknown) {
                ck_assert_uint_eq(m->holes, 1);
                ck_assert_uint_eq(m->hole, p);
            }
            walk_map_free(m);
            im.lost[p] = 0;
        }
        walk_map_free(whole);
        image_free(&im);
    }
}
END_TEST

START_TEST(children_of_an_unreadable_page_are_known_from_the_pointer_map)
{
    unsigned tried = 0;
    for (unsigned i = 0; i < 6; i++) {
        struct image im;
        image_make(&im, page_sizes[i], 1 + i % 2, i, 60);
        struct walk_map *whole = image_walk(&im, NULL, true);
        for (unsigned p = 2; p <= im.oracle.count; p += 1 + im.oracle.count / 150) {
            bool schema = walk_root_of(whole, p) == 1;
            im.lost[p] = 1;
            struct walk_map *m = image_walk(&im, NULL, true);
            for (unsigned q = 1; q <= m->pages; q++) {
                if (schema && walk_root_of(whole, q) != 1) {
                    /* The trees are there, their names may be gone. */
                    ck_assert_int_eq(walk_root_of(m, q), walk_root_of(whole, q));
                } else if (walk_role(whole, q) == WALK_FREE || walk_role(whole, q) == WALK_TRUNK) {
                    ck_assert_str_eq(role_name(m, q), "free");
                } else if (q != p) {
                    ck_assert_msg(page_is_right(&im, m, q), "seed %llu: page %u with %u unreadable",
                                  (unsigned long long)seed, q, p);
                }
            }
            walk_map_free(m);
            im.lost[p] = 0;
            tried++;
        }
        walk_map_free(whole);
        image_free(&im);
    }
    printf("figure: pages made unreadable, with a pointer map: %u\n", tried);
}
END_TEST

START_TEST(changes_below_an_unreadable_page_are_seen)
{
    struct mix mix;
    struct image im;
    sqlite3 *db = mix_memory(&mix, 512, 0, 3);
    mix_run(&mix, "CREATE TABLE big(a INTEGER PRIMARY KEY, b);"
                  "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
                  " INSERT INTO big SELECT i, 'some text' || i FROM n");
    image_take(&im, db);
    struct walk_map *before = image_walk(&im, NULL, true);
    unsigned root = (unsigned)mix_number(db, "SELECT rootpage FROM sqlite_schema"
                                             " WHERE name = 'big'");
    ck_assert_int_eq(walk_role(before, root), WALK_ROOT_INTERIOR);
    image_free(&im);
    /* Rows grow within the tree's middle: pages split there, the root stays as it is. */
    mix_run(&mix, "UPDATE big SET b = mix_blob(150) WHERE a BETWEEN 2000 AND 2020");
    image_take(&im, db);
    ck_assert_uint_eq(image_stamp(&im, (uint64_t)(root - 1) * 512, 512), before->stamp[root]);
    ck_assert_uint_gt(im.oracle.count, before->pages);
    im.lost[root] = 1;
    struct walk_map *m = image_walk(&im, before, true);
    image_check(&im, m, "grown below an unreadable root");
    walk_map_free(m);
    walk_map_free(before);
    image_free(&im);
    sqlite3_close(db);
}
END_TEST

/* --- places without a tree ------------------------------------------------------------------------- */

START_TEST(the_lock_byte_page_and_pointer_maps_are_where_sqlite_puts_them)
{
    for (unsigned i = 0; i < 8; i++) {
        struct image im;
        image_make(&im, page_sizes[i], 1, i, 5);
        /* The file goes on to beyond 1 GiB, in zeros. */
        uint32_t lock = (1u << 30) / im.page_size + 1, pages = lock + 100;
        put32(im.bytes + 28, pages);
        uint64_t size = im.size;
        struct walk_source source = {
            .arg = &im, .bytes = (uint64_t)pages * im.page_size, .read = image_read};
        struct walk_map *m;
        ck_assert_int_eq(walk_run(&source, NULL, &m), WALK_OK);
        ck_assert_uint_eq(m->pages, pages);
        ck_assert_int_eq(walk_role(m, lock), WALK_LOCK_BYTE);
        uint32_t maps = 0, each = im.page_size / 5 + 1;
        for (uint32_t p = 1; p <= pages; p++)
            maps += walk_role(m, p) == WALK_POINTER_MAP;
        ck_assert_uint_eq(maps, (pages - 2) / each + 1);
        if ((lock - 2) % each == 0)
            ck_assert_int_eq(walk_role(m, lock + 1), WALK_POINTER_MAP);
        im.size = size;
        walk_map_free(m);
        image_free(&im);
    }
    /* Layouts in which the two meet, by the bytes reserved on each page. */
    unsigned met = 0;
    for (unsigned i = 0; i < 8 * 33; i++) {
        struct dbformat_header h = {.page_size = page_sizes[i / 33],
                                    .usable = page_sizes[i / 33] - i % 33,
                                    .pointer_map = true};
        uint32_t lock = (1u << 30) / h.page_size + 1;
        if ((lock - 2) % (h.usable / 5 + 1) != 0)
            continue;
        ck_assert_uint_eq(dbformat_map_page(&h, lock), lock + 1);
        ck_assert_uint_eq(dbformat_map_page(&h, lock + 1), lock + 1);
        ck_assert_uint_eq(dbformat_map_page(&h, lock + 2), lock + 1);
        met++;
    }
    ck_assert_uint_gt(met, 0);
}
END_TEST

/* --- names ------------------------------------------------------------------------------------------ */

static const char *serves(const struct walk_map *m, const char *name)
{
    for (uint32_t i = 0; i < m->object_count; i++)
        if (strcmp(m->objects[i].name, name) == 0)
            return m->objects[i].serves ? m->objects[i].serves : "";
    ck_abort_msg("no object %s", name);
}

START_TEST(shadow_tables_name_the_virtual_table_that_they_serve)
{
    static const char *const cases[][2] = {
        {"docs_data", "docs"},
        {"docs_idx", "docs"},
        {"docs_content", "docs"},
        {"docs_docsize", "docs"},
        {"docs_config", "docs"},
        {"docs_other", ""},
        {"docs_more_content", "docs_more"},
        {"docs_more_segments", "docs_more"},
        {"docs_more_segdir", "docs_more"},
        {"docs_more_docsize", "docs_more"},
        {"docs_more_stat", "docs_more"},
        {"sqlite_autoindex_docs_more_segdir_1", "docs_more"},
        {"Box_node", "Box"},
        {"Box_rowid", "Box"},
        {"Box_parent", "Box"},
        {"BOX_other", ""},
        {"vec_chunks", "vec"},
        {"vec_vector_chunks00", "vec"},
        {"vec_i", "vec"},
        {"vecx_chunks", ""},
        {"say \"hi\"_data", "say \"hi\""},
        {"odd_config", "odd"},
        {"odd_node", ""},
        {"first", ""},
        {"sqlite_schema", ""},
    };
    struct mix mix;
    struct image im;
    for (unsigned i = 0; i < 3; i++) {
        sqlite3 *db = mix_memory(&mix, 1024, 0, i);
        mix_run(
            &mix,
            "CREATE VIRTUAL TABLE docs USING fts5(a); CREATE TABLE docs_other(a);"
            "CREATE VIRTUAL TABLE docs_more USING fts4(a);"
            "CREATE VIRTUAL TABLE Box USING rtree(a, b, c); CREATE TABLE vec_chunks(a);"
            "CREATE TABLE vec_vector_chunks00(a); CREATE INDEX vec_i ON vec_chunks(a);"
            "CREATE TABLE vecx_chunks(a); CREATE VIRTUAL TABLE \"say \"\"hi\"\"\" USING fts5(a);"
            "CREATE TABLE BOX_other(a); CREATE TABLE odd_node(a);"
            "CREATE VIRTUAL TABLE odd /* using rtree */ --x\n USING /**/ [fts5](a);"
            "PRAGMA writable_schema=1; INSERT INTO sqlite_schema VALUES('table', 'vec', 'vec',"
            " 0, 'CREATE VIRTUAL TABLE vec USING vec0(a)')");
        image_take(&im, db);
        struct walk_map *m = image_walk(&im, NULL, true);
        image_check_sound(&im, m, "virtual tables");
        for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++)
            ck_assert_str_eq(serves(m, cases[k][0]), cases[k][1]);
        walk_map_free(m);
        image_free(&im);
        sqlite3_close(db);
    }
}
END_TEST

/* An image whose walk ends after `left` questions. */
struct stopper {
    struct image im; /* first: image_read takes it */
    unsigned left;
};

static bool stop_soon(void *arg)
{
    struct stopper *s = arg;
    return s->left-- == 0;
}

static enum walk_read read_zeros(void *arg, uint64_t offset, uint32_t len, uint8_t *buf)
{
    (void)arg, (void)offset;
    memset(buf, 0, len);
    return WALK_READ;
}

START_TEST(what_is_no_database_has_no_map)
{
    struct walk_map *m;
    struct walk_source nothing = {.read = read_zeros},
                       zeros = {.bytes = 1 << 20, .read = read_zeros};
    ck_assert_int_eq(walk_run(&nothing, NULL, &m), WALK_OK);
    ck_assert(!m->no_header && m->pages == 0);
    walk_map_free(m);
    ck_assert_int_eq(walk_run(&zeros, NULL, &m), WALK_OK);
    ck_assert(m->no_header && !m->header_lost && m->pages == 0);
    walk_map_free(m);
}
END_TEST

START_TEST(a_walk_can_be_stopped)
{
    struct stopper s = {.left = 1};
    struct walk_map *m;
    struct mix mix;
    sqlite3 *db = mix_memory(&mix, 512, 0, 0);
    mix_run(&mix, "CREATE TABLE big AS WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
                  " WHERE i < 20000) SELECT zeroblob(400) FROM n");
    image_take(&s.im, db);
    sqlite3_close(db);
    struct walk_source source = {
        .arg = &s, .bytes = s.im.size, .read = image_read, .stop = stop_soon};
    ck_assert_int_eq(walk_run(&source, NULL, &m), WALK_GIVEN_UP);
    ck_assert_ptr_null(m);
    ck_assert_uint_le(s.im.reads, 1200); /* it is asked every 512 pages */
    s.left = 1000000;
    source.stamp = image_stamp;
    ck_assert_int_eq(walk_run(&source, NULL, &m), WALK_OK);
    struct walk_map *again; /* a walk that hardly reads can be stopped as well */
    s.left = 1;
    ck_assert_int_eq(walk_run(&source, m, &again), WALK_GIVEN_UP);
    ck_assert_ptr_null(again);
    walk_map_free(m);
    image_free(&s.im);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        every_page_has_the_owner_that_dbstat_says,
        a_refresh_reads_what_has_changed,
        children_of_an_unreadable_page_are_known_from_the_map_before,
        children_of_an_unreadable_page_are_unknown_otherwise,
        children_of_an_unreadable_page_are_known_from_the_pointer_map,
        changes_below_an_unreadable_page_are_seen,
        the_lock_byte_page_and_pointer_maps_are_where_sqlite_puts_them,
        shadow_tables_name_the_virtual_table_that_they_serve,
        what_is_no_database_has_no_map,
        a_walk_can_be_stopped,
    };
    seed = mix_seed();
    Suite *suite = suite_create("walker");
    TCase *tcase = tcase_create("walker");
    tcase_set_timeout(tcase, 600);
    tcase_add_checked_fixture(tcase, unit_setup, NULL);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    return unit_main(suite);
}
