/* test_repair_keys.c: dax_repair() with the loss of pages of tables WITHOUT ROWID: exactly the rows of the
 * page are gone, and they lie between the keys that were named.
 *
 * Catches: a row lost that was on another page, one that came back after it had been deleted, one that is
 * not what it was (a DESC key, a collation, a generated column, one added later, REAL, NULL, blobs); a row
 * in the wrong place; an index that does not fit; overflow of a row that moved and lost it; a key range
 * that is not the page's; leaves of an index taken for those of a table.
 */
#include "tests/unit/repair.h"
#include "vfs/owner_map.h"

static uint64_t seed;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define THIN 8u
#else
#define THIN 1u
#endif

/* Keys so long that there are four rows a page, and trees of four levels; some rows have overflow, in
 * leaves and in interior pages. */
static sqlite3 *make_db(unsigned page_size, unsigned auto_vacuum)
{
    sqlite3 *db = open_with(unit_path("template.db"), "dax");
    run(db,
        "PRAGMA page_size=%u; PRAGMA auto_vacuum=%u; BEGIN;"
        "CREATE TABLE w(k TEXT, r REAL, g AS (n * 2) STORED, v, n INT, c CHECK (c > 0),"
        " PRIMARY KEY(k)) WITHOUT ROWID;"
        "WITH s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 400) INSERT INTO "
        "w(k,r,v,n,c)"
        " SELECT printf('%%0*d', %u, i * 7919 %% 100003), CASE i %% 3 WHEN 0 THEN i ELSE i / 8.0 "
        "END,"
        " CASE WHEN i %% 41 = 0 THEN zeroblob(%u) WHEN i %% 5 = 0 THEN NULL ELSE x'00ff' END, i, 1"
        " FROM s;"
        "CREATE INDEX w_n ON w(n, v); CREATE UNIQUE INDEX w_k ON w(k COLLATE NOCASE DESC);"
        "ALTER TABLE w ADD COLUMN late DEFAULT 'then'; UPDATE w SET late = n WHERE n %% 7 = 0;"
        "CREATE TABLE d(a, b COLLATE NOCASE, c, PRIMARY KEY(b DESC, a)) WITHOUT ROWID;"
        "INSERT INTO d SELECT n, k || 'x', v FROM w;"
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b); INSERT INTO t SELECT n, k FROM w;"
        "COMMIT; PRAGMA ignore_check_constraints=1; UPDATE w SET c = 0 WHERE n %% 50 = 0",
        page_size, auto_vacuum, page_size / 5, page_size * 3);
    return db;
}

struct place {
    uint32_t page, cells;
    bool tree;
    char name[8];
};
static struct place places[4000];
static unsigned place_count;

/* Pages of the two tables, by SQLite itself. */
static void look(void)
{
    sqlite3 *db = open_with(unit_path("template.db"), "unix");
    sqlite3_stmt *st;
    place_count = 0;
    ck_assert_int_eq(sqlite3_prepare_v2(db,
                                        "SELECT pageno, ncell, pagetype, name FROM dbstat"
                                        " WHERE name IN ('w', 'd')",
                                        -1, &st, NULL),
                     SQLITE_OK);
    while (sqlite3_step(st) == SQLITE_ROW) {
        struct place *p = &places[place_count++];
        ck_assert_uint_lt(place_count, 4000);
        p->page = (uint32_t)sqlite3_column_int(st, 0);
        p->cells = (uint32_t)sqlite3_column_int(st, 1);
        p->tree = strcmp((const char *)sqlite3_column_text(st, 2), "overflow") != 0;
        snprintf(p->name, sizeof p->name, "%s", (const char *)sqlite3_column_text(st, 3));
    }
    ck_assert_int_eq(sqlite3_finalize(st), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

/* The keys that are gone lie where the answer has said. */
static void check_range(sqlite3 *db, const char *answer, const char *context)
{
    static const char *const ends[] = {"key_after", "key_before"};
    for (unsigned i = 0; i < 2; i++) {
        const char *key = ask(db, "SELECT %Q ->> '$[0].loss.%s'", answer, ends[i]);
        if (strcmp(key, "NULL") == 0)
            continue;
        /* 40 characters of it, of which those that are not 0 come last. */
        ck_assert_msg(key[0] == '\'' && strstr(key, "'..."), "%s: %s", context, key);
    }
}

static void check_place(unsigned page_size, const struct place *p, bool known, const char *context)
{
    sqlite3 *db = open_copy_beside(known);
    uint64_t page = (uint64_t)(p->page - 1) * page_size / 4096;
    damage(db, page);
    const char *answer = ask(db, "SELECT dax_repair(%llu)", (unsigned long long)page);
    const char *call = ask(db, "SELECT %Q ->> '$[0].call'", answer);
    ck_assert_msg(strstr(call, "allow-loss"), "%s: %s", context, answer);
    ck_assert_str_eq(ask(db, "SELECT %Q ->> '$[0].done'", answer), "nothing");
    ck_assert_uint_eq(open_entries(db), 1);
    check_range(db, answer, context);
    const char *again = ask(db, "%s", call);
    ck_assert_msg(strstr(again, "\"done\":\"lost\""), "%s: %s", context, again);
    const char *check = ask(db, "PRAGMA main.integrity_check");
    /* A row that breaks its CHECK was there before. */
    ck_assert_msg(strcmp(check, "ok") == 0 || strstr(check, "CHECK constraint"), "%s: %s", context,
                  check);
    long long gone = missing_from(db, p->name, context), want = p->tree ? p->cells : 1;
    ck_assert_msg(gone == want, "%s: %lld rows are missing, not %lld: %s", context, gone, want,
                  again);
    long long most = atoll(ask(db, "SELECT %Q ->> '$[0].loss.rows_most'", answer));
    ck_assert_msg(gone <= most, "%s: %lld rows are missing: %s", context, gone, answer);
    ck_assert_int_eq(missing_from(db, strcmp(p->name, "w") ? "w" : "d", context), 0);
    ck_assert_int_eq(missing_from(db, "t", context), 0);
    ck_assert_uint_eq(open_entries(db), 0);
    /* Each row is where its key is looked for. */
    ck_assert_str_eq(ask(db,
                         "SELECT (SELECT count(v.n) FROM ref.w r CROSS JOIN main.w v ON v.k = r.k)"
                         " - (SELECT count(*) FROM main.w)"),
                     "0");
    ck_assert_str_eq(ask(db,
                         "SELECT (SELECT count(v.a) FROM ref.d r CROSS JOIN main.d v ON v.b = r.b"
                         " AND v.a = r.a) - (SELECT count(*) FROM main.d)"),
                     "0");
    /* The indexes find what is there, and what is not can be there again. */
    run(db, "PRAGMA ignore_check_constraints=1;"
            "INSERT INTO main.w(k, r, v, n, c, late) SELECT k, r, v, n, c, late FROM ref.w"
            " WHERE k NOT IN (SELECT k FROM main.w);"
            "INSERT INTO main.d SELECT * FROM ref.d WHERE b NOT IN (SELECT b FROM main.d)");
    ck_assert_int_eq(missing_from(db, p->name, context), 0);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    db = open_with(unit_path("work.db"), "unix");
    run(db, "PRAGMA ignore_check_constraints=1");
    check = ask(db, "PRAGMA integrity_check");
    ck_assert_msg(strcmp(check, "ok") == 0, "%s: closed: %s", context, check);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

static const struct {
    unsigned page_size, auto_vacuum;
} forms[] = {{4096, 0}, {4096, 1}, {8192, 2}};

START_TEST(exactly_the_rows_of_the_page_are_lost)
{
    unsigned page_size = forms[_i].page_size, interior = 0, checked = 0;
    uint64_t state = seed + (uint64_t)_i;
    ck_assert_int_eq(sqlite3_close(make_db(page_size, forms[_i].auto_vacuum)), SQLITE_OK);
    look();
    for (unsigned i = 0; i < place_count; i++) {
        const struct place *p = &places[i];
        char context[160];
        state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
        bool few = p->tree && p->cells < 4; /* mostly interior pages and the roots */
        if ((state >> 33) % (THIN * (few ? 3 : 12)))
            continue;
        snprintf(context, sizeof context, "seed %llu, form %d, page %u of %s, %s",
                 (unsigned long long)seed, _i, p->page, p->name,
                 (state >> 40) % 2 ? "known" : "unknown");
        check_place(page_size, p, (state >> 40) % 2, context);
        interior += few;
        checked++;
    }
    printf("page_size %u: %u of %u pages\n", page_size, checked, place_count);
    ck_assert_uint_gt(checked, 2);
}
END_TEST

/* The root of a tree of several levels, whose children only the map before knows, or nobody. */
START_TEST(a_root_is_lost_with_its_own_rows_only)
{
    ck_assert_int_eq(sqlite3_close(make_db(4096, (unsigned)_i / 2)), SQLITE_OK);
    look();
    sqlite3 *db = open_with(unit_path("template.db"), "dax");
    uint32_t root = (uint32_t)number(db, "SELECT rootpage FROM sqlite_schema WHERE name = 'd'");
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    for (unsigned i = 0; i < place_count; i++)
        if (places[i].page == root)
            check_place(4096, &places[i], _i % 2, _i % 2 ? "root, known" : "root, unknown");
}
END_TEST

/* The key of each row that is lost, and of no other one, lies between the two that are said. */
START_TEST(lost_keys_lie_between_the_two_that_are_named)
{
    sqlite3 *db = open_with(unit_path("t.db"), "dax");
    run(db, "CREATE TABLE w(k INT, j TEXT, v, PRIMARY KEY(k DESC, j)) WITHOUT ROWID; BEGIN;"
            "WITH s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 900)"
            " INSERT INTO w SELECT i * 10, 'it''s', zeroblob(600) FROM s; COMMIT;"
            "CREATE TEMP TABLE was AS SELECT k FROM w");
    uint64_t pages[400];
    unsigned count = 0;
    struct owner_map *map;
    char *why;
    ck_assert_int_eq(owner_map_of_schema(db, "main", &map, &why), SQLITE_OK);
    for (unsigned p = 2; p <= (unsigned)number(db, "PRAGMA main.page_count"); p++) {
        struct owner o;
        owner_of_sqlite_page(map, p, &o);
        if (o.name && strcmp(o.name, "w") == 0 && strcmp(o.role, "leaf") == 0 && count < 400)
            pages[count++] = p - 1;
    }
    owner_map_release(map);
    ck_assert_uint_gt(count, 100);
    unsigned turns = 0;
    for (unsigned i = 5; i < count; i += 40 * (THIN > 1 ? 3 : 1), turns++) {
        damage(db, pages[i]);
        const char *answer = ask(db, "SELECT dax_repair(%d)", (int)pages[i]);
        const char *after = ask(db, "SELECT %Q ->> '$[0].loss.key_after'", answer);
        const char *before = ask(db, "SELECT %Q ->> '$[0].loss.key_before'", answer);
        ck_assert_msg(strstr(after, ", 'it''s'") && strstr(before, ", 'it''s'"), "%s", answer);
        ck_assert_ptr_nonnull(strstr(ask(db, "SELECT dax_repair(%d, 'allow-loss')", (int)pages[i]),
                                     "\"done\":\"lost\""));
        long long high = atoll(after), low = atoll(before); /* the key is a falling one */
        ck_assert_int_gt(number(db, "SELECT count(*) FROM was WHERE k NOT IN (SELECT k FROM w)"),
                         0);
        ck_assert_str_eq(ask(db,
                             "SELECT count(*) FROM was WHERE k NOT IN (SELECT k FROM w) AND"
                             " NOT (k < %lld AND k > %lld)",
                             high, low),
                         "0");
        ck_assert_str_eq(ask(db, "SELECT count(*) FROM w WHERE k < %lld AND k > %lld", high, low),
                         "0");
        run(db, "DELETE FROM was WHERE k NOT IN (SELECT k FROM w)");
        EXPECT(db, "PRAGMA main.integrity_check", "ok");
    }
    ck_assert_uint_gt(turns, 0);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

/* Pages that were deleted look like those that hang below a bad one, if the list of free pages is bad. */
START_TEST(deleted_rows_do_not_come_back)
{
    bool keys = _i;
    sqlite3 *db = open_with(unit_path("t.db"), "dax");
    run(db,
        "PRAGMA secure_delete=0; CREATE TABLE w(a INTEGER PRIMARY KEY, b)%s; BEGIN;"
        "WITH s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 900)"
        " INSERT INTO w SELECT i, zeroblob(900) FROM s; COMMIT; DELETE FROM w WHERE a > 700;"
        "PRAGMA wal_checkpoint(truncate)",
        keys ? " WITHOUT ROWID" : "");
    long long root = number(db, "SELECT rootpage FROM sqlite_schema WHERE name = 'w'");
    uint8_t trunk[4];
    int fd = open(unit_path("t.db"), O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, trunk, 4, 32), 4);
    close(fd);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    db = open_with(unit_path("t.db"), "dax");
    damage(db, (uint64_t)root - 1);
    damage(db, ((uint64_t)trunk[0] << 24 | trunk[1] << 16 | trunk[2] << 8 | trunk[3]) - 1);
    /* Not even page by page: first the list, then the table. */
    for (int i = 0; i < 2; i++) {
        const char *answer = ask(db, "SELECT dax_repair()");
        ck_assert_msg(strstr(answer, "cannot be told apart"), "%s", answer);
        ck_assert_uint_eq(open_entries(db), 2);
    }
    const char *answer = ask(db, "SELECT dax_repair(%d, 'allow-loss')", (int)root - 1);
    ck_assert_msg(strstr(answer, "\"lost\""), "%s", answer);
    EXPECT(db, "SELECT dax_repair() ->> '$[0].done'", "repaired");
    ck_assert_uint_eq(open_entries(db), 0);
    EXPECT(db, "PRAGMA integrity_check", "ok");
    EXPECT(db, "SELECT count(*) FROM w WHERE a > 700", "0");
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

/* An index whose pages below a bad one are not known is filled again beside a table that stays bad: what
 * it leaves behind is nobody's, not the next table's. */
START_TEST(pages_of_an_index_are_not_taken_for_rows)
{
    sqlite3 *db = open_with(unit_path("t.db"), "dax");
    run(db,
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b); CREATE INDEX t_b ON t(b, a);"
        "CREATE TABLE w(b, a, PRIMARY KEY(b)) WITHOUT ROWID; BEGIN;"
        "WITH s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 900)"
        " INSERT INTO t SELECT i, printf('%%0800d', i) FROM s; INSERT INTO w SELECT 'w' || b, a "
        "FROM t;"
        "COMMIT; PRAGMA wal_checkpoint(truncate)");
    long long index = number(db, "SELECT rootpage FROM sqlite_schema WHERE name = 't_b'");
    long long w = number(db, "SELECT rootpage FROM sqlite_schema WHERE name = 'w'");
    bool at_once = _i;
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    db = open_with(unit_path("t.db"), "dax");
    damage(db, (uint64_t)index - 1);
    if (at_once)
        damage(db, (uint64_t)w - 1);
    const char *answer = ask(db, "SELECT dax_repair()");
    ck_assert_msg(open_entries(db) == (at_once ? 2 : 0), "%s", answer);
    if (!at_once)
        damage(db, (uint64_t)w - 1);
    answer = ask(db, "SELECT dax_repair(%d, 'allow-loss')", (int)w - 1);
    ck_assert_msg(open_entries(db) == 0, "%s", answer);
    EXPECT(db, "PRAGMA integrity_check", "ok");
    EXPECT(db, "SELECT count(*) || ' ' || count(b) FROM t", "900 900");
    EXPECT(db, "SELECT count(*) FROM t WHERE b > ''", "900");
    EXPECT(db, "SELECT count(*) FROM w WHERE b <> printf('w%0800d', a)", "0");
    if (!at_once)
        ck_assert_int_gt(number(db, "SELECT count(*) FROM w"), 890);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

int main(void)
{
    seed = mix_seed();
    Suite *suite = suite_create("repair_keys");
    TCase *tc = tcase_create("repair_keys");
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_set_timeout(tc, 600);
    tcase_add_loop_test(tc, exactly_the_rows_of_the_page_are_lost, 0, 3);
    tcase_add_loop_test(tc, a_root_is_lost_with_its_own_rows_only, 0, 4);
    tcase_add_test(tc, lost_keys_lie_between_the_two_that_are_named);
    tcase_add_loop_test(tc, deleted_rows_do_not_come_back, 0, 2);
    tcase_add_loop_test(tc, pages_of_an_index_are_not_taken_for_rows, 0, 2);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
