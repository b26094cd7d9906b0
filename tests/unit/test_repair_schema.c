/* test_repair_schema.c: dax_repair() with the loss of pages of sqlite_schema beyond page 1: what has its
 * entry elsewhere stays, whole and of use; what has lost it is named where somebody knows its name, and its
 * pages are free.
 *
 * Catches: a schema that SQLite does not take (an index without its table, a table without the index that
 * SQLite made for it, sqlite_sequence gone); a page that belongs to nobody; a row of another table that is
 * lost or wrong; other connections that go on with the old schema; a repair while another bad page hides
 * pages, which would be given away.
 */
#include "tests/unit/repair.h"
#include "vfs/owner_map.h"

#define TABLES 24u

static void make_template(unsigned page_size, unsigned auto_vacuum)
{
    sqlite3 *db = open_with(unit_path("template.db"), "dax");
    run(db, "PRAGMA page_size=%u; PRAGMA auto_vacuum=%u; BEGIN", page_size, auto_vacuum);
    for (unsigned i = 0; i < TABLES; i++) {
        run(db,
            "CREATE TABLE s%u(a INTEGER PRIMARY KEY%s, b TEXT COLLATE NOCASE UNIQUE, c, UNIQUE(c, "
            "b DESC)"
            " /* %0*d */)",
            i, i % 3 == 0 ? " AUTOINCREMENT" : "", (int)page_size / 8, i);
        run(db, "CREATE INDEX s%u_c ON s%u(c, a)", i, i);
        run(db,
            "INSERT INTO s%u(a, b, c) WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE"
            " i < 40) SELECT i, 'x' || i, zeroblob(%u) FROM n",
            i, page_size / 10);
        if (i % 4 == 0)
            run(db,
                "CREATE TRIGGER s%u_t AFTER DELETE ON s%u BEGIN SELECT 1; END;"
                "CREATE VIEW s%u_v AS SELECT a FROM s%u",
                i, i, i, i);
        if (i % 8 == 1)
            run(db,
                "CREATE TABLE w%u(k, v, PRIMARY KEY(k)) WITHOUT ROWID; INSERT INTO w%u SELECT b, c"
                " FROM s%u",
                i, i, i);
    }
    run(db,
        "CREATE VIRTUAL TABLE ft USING fts5(t); INSERT INTO ft SELECT b FROM s0;"
        "CREATE TABLE long(a /* %0*d */); INSERT INTO long VALUES(1); COMMIT",
        (int)page_size * 3, 7);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

/* SQLite's pages of sqlite_schema, without page 1. */
static unsigned schema_pages(uint32_t *out, unsigned max)
{
    sqlite3 *db = open_with(unit_path("template.db"), "unix");
    sqlite3_stmt *st;
    unsigned count = 0;
    ck_assert_int_eq(sqlite3_prepare_v2(db,
                                        "SELECT pageno FROM dbstat WHERE name = 'sqlite_schema' AND"
                                        " pageno > 1 ORDER BY pageno",
                                        -1, &st, NULL),
                     SQLITE_OK);
    while (sqlite3_step(st) == SQLITE_ROW && count < max)
        out[count++] = (uint32_t)sqlite3_column_int(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return count;
}

/* What is there is as it was, and can be used. Returns tables that are gone. */
static long long check_tables(sqlite3 *db, const char *context)
{
    attach_template(db);
    EXPECT(db,
           "SELECT count(*) FROM (SELECT type, name, tbl_name, sql FROM main.sqlite_schema EXCEPT"
           " SELECT type, name, tbl_name, sql FROM ref.sqlite_schema)",
           "0");
    long long gone =
        number(db, "SELECT count(*) FROM ref.sqlite_schema WHERE type = 'table' AND name NOT"
                   " IN (SELECT name FROM main.sqlite_schema)");
    for (unsigned i = 0; i < TABLES; i++) {
        char name[16];
        snprintf(name, sizeof name, "s%u", i);
        if (strcmp(ask(db, "SELECT count(*) FROM main.sqlite_schema WHERE name = %Q", name), "0") ==
            0)
            continue;
        const char *wrong = ask(
            db,
            "SELECT (SELECT count(*) FROM (SELECT * FROM main.%s EXCEPT SELECT * FROM ref.%s)) +"
            " 40 - (SELECT count(*) FROM main.%s) + (SELECT count(*) FROM main.%s WHERE b ="
            " 'X7') - 1",
            name, name, name, name);
        ck_assert_msg(strcmp(wrong, "0") == 0, "%s: %s: %s", context, name, wrong);
        const char *twice = ask(db, "INSERT INTO main.%s(b, c) VALUES('X9', 2)", name);
        ck_assert_msg(strstr(twice, "UNIQUE"), "%s: %s: %s", context, name, twice);
        run(db, "INSERT INTO main.%s(b, c) VALUES('new', 2); DELETE FROM main.%s WHERE b = 'new'",
            name, name);
    }
    run(db, "DETACH ref");
    return gone;
}

static void check_page(unsigned page_size, uint32_t page, bool known)
{
    char context[100];
    uint64_t at = (uint64_t)(page - 1) * page_size / 4096;
    sqlite3 *db = open_copy(known), *other = open_with(unit_path("work.db"), "dax");
    snprintf(context, sizeof context, "page_size %u, page %u, %s", page_size, page,
             known ? "known" : "unknown");
    if (known)
        EXPECT(other, "SELECT count(*) > 30 FROM sqlite_schema", "1"); /* has a schema of its own */
    damage(db, at);
    char *answer = strdup(ask(db, "SELECT dax_repair(%llu)", (unsigned long long)at));
    const char *call = ask(other, "SELECT %Q ->> '$[0].call'", answer);
    ck_assert_msg(answer[0] == '[', "%s: %s", context, answer);
    if (strstr(answer, "\"done\":\"nothing\"")) {
        ck_assert_msg(strstr(call, "allow-loss"), "%s: %s", context, answer);
        ck_assert_uint_eq(open_entries(db), 1);
        const char *again = ask(db, "%s", call);
        ck_assert_msg(strstr(again, "\"done\":\"lost\""), "%s: %s", context, again);
    }
    ck_assert_msg(open_entries(db) == 0, "%s: %s", context, answer);
    const char *check = ask(db, "PRAGMA main.integrity_check");
    ck_assert_msg(strcmp(check, "ok") == 0, "%s: %s", context, check);
    long long gone = check_tables(db, context);
    ck_assert_msg(gone < 20, "%s: %lld tables are gone", context, gone);
    const char *objects = ask(db, "SELECT %Q ->> '$[0].loss.objects'", answer);
    if (known && gone)
        ck_assert_msg(strstr(objects, "table \""), "%s: %s", context, answer);
    free(answer);
    /* Who had the old schema has the new one. */
    ck_assert_str_eq(ask(other, "SELECT count(*) FROM sqlite_schema"),
                     ask(db, "SELECT count(*) FROM sqlite_schema"));
    run(db, "CREATE TABLE fresh(a UNIQUE); INSERT INTO fresh VALUES(1); PRAGMA incremental_vacuum; "
            "VACUUM");
    EXPECT(db, "PRAGMA main.integrity_check", "ok");
    ck_assert_int_eq(sqlite3_close(other), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    db = open_with(unit_path("work.db"), "unix");
    EXPECT(db, "PRAGMA integrity_check", "ok");
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define THIN 4u
#else
#define THIN 1u
#endif

START_TEST(what_has_its_entry_elsewhere_stays)
{
    unsigned page_size = _i < 3 ? 4096 : 16384, checked = 0;
    uint32_t pages[200];
    make_template(page_size, (unsigned)_i % 3);
    unsigned count = schema_pages(pages, 200);
    ck_assert_uint_gt(count, 4);
    for (unsigned i = 0; i < count; i += THIN)
        for (int known = 0; known < 2; known++, checked++)
            check_page(page_size, pages[i], known);
    printf("page_size %u, auto_vacuum %d: %u pages of sqlite_schema\n", page_size, _i % 3, checked);
}
END_TEST

START_TEST(while_other_pages_are_hidden_it_is_refused)
{
    uint32_t pages[200];
    make_template(4096, 0);
    unsigned count = schema_pages(pages, 200);
    sqlite3 *db = open_copy(false);
    run(db,
        "CREATE TABLE big(a INTEGER PRIMARY KEY, b); WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1"
        " FROM n WHERE i < 100) INSERT INTO big SELECT i, zeroblob(1000) FROM n");
    long long root = number(db, "SELECT rootpage FROM sqlite_schema WHERE name = 'big'");
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    db = open_with(unit_path("work.db"), "dax");
    damage(db, pages[count / 2] - 1);
    damage(db, (uint64_t)root - 1);
    const char *answer = ask(db, "SELECT dax_repair(%u, 'allow-loss')", pages[count / 2] - 1);
    ck_assert_msg(strstr(answer, "\"nothing\"") && strstr(answer, "\"call\":null"), "%s", answer);
    ck_assert_uint_eq(open_entries(db), 2);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("repair_schema");
    TCase *tc = tcase_create("repair_schema");
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_set_timeout(tc, 600);
    tcase_add_loop_test(tc, what_has_its_entry_elsewhere_stays, 0, 6);
    tcase_add_test(tc, while_other_pages_are_hidden_it_is_refused);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
