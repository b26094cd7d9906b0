/* test_versions.c: would catch a connection that goes on with cached pages after another one has committed, and
 * one that drops its cache although nobody has: after its own commits, after rollbacks that SQLite makes from the
 * journal or from its cache alone, after reads of an unchanged state. Also what hangs on SQLite's noticing:
 * PRAGMA data_version, a backup that starts over, a database that another connection has just made, and
 * transactions under locking_mode=EXCLUSIVE, of which SQLite's change counter counts only the first.
 *
 * Without zero-copy reads, so that every page that is read is in the cache.
 */
#include <check.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/daxlite.h"
#include "tests/unit/unit.h"
#include "vfs/vfs.h"

#define SUM "SELECT total(length(b)) + total(c) FROM t"

static sqlite3 *a, *b; /* two connections to one database */

static sqlite3 *open_one(void)
{
    char uri[PATH_MAX];
    sqlite3 *db;
    snprintf(uri, sizeof uri, "file:%s/main.db?vfs=dax&dax_zero_copy=off", unit_dir);
    int rc = sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
                             NULL);
    ck_assert_msg(rc == SQLITE_OK, "%s: %s", uri, sqlite3_errmsg(db));
    return db;
}

static void run(sqlite3 *db, const char *sql)
{
    char *message = NULL;
    int rc = sqlite3_exec(db, sql, NULL, NULL, &message);
    ck_assert_msg(rc == SQLITE_OK, "%s: %s", sql, message);
}

static double number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt;
    ck_assert_msg(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK, "%s: %s", sql,
                  sqlite3_errmsg(db));
    ck_assert_msg(sqlite3_step(stmt) == SQLITE_ROW, "%s: %s", sql, sqlite3_errmsg(db));
    double value = sqlite3_column_double(stmt, 0);
    sqlite3_finalize(stmt);
    return value;
}

/* Pages that were not in the cache, since the last call. */
static int misses(sqlite3 *db)
{
    int now, high;
    ck_assert_int_eq(sqlite3_db_status(db, SQLITE_DBSTATUS_CACHE_MISS, &now, &high, 1), SQLITE_OK);
    return now;
}

static void setup(void)
{
    unit_setup();
    ck_assert_int_eq(daxlite_register(0), SQLITE_OK);
    a = open_one();
    b = open_one();
}

/* 100 rows, four to a page. */
static void fill(void)
{
    run(a, "CREATE TABLE t(i INTEGER PRIMARY KEY, b BLOB, c INTEGER);"
           "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)"
           "INSERT INTO t SELECT i, randomblob(900), 0 FROM n");
    ck_assert_double_eq(number(a, SUM), 90000);
    ck_assert_double_eq(number(b, SUM), 90000);
    misses(a);
    misses(b);
}

static void teardown(void)
{
    ck_assert_int_eq(sqlite3_close(a), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(b), SQLITE_OK);
}

START_TEST(test_own_commits_and_idle_reads_keep_the_cache)
{
    fill();
    for (int i = 1; i <= 5; i++) {
        run(a, "UPDATE t SET c = c + 1 WHERE i = 50");
        ck_assert_double_eq(number(a, SUM), 90000 + i);
        ck_assert_double_eq(number(a, SUM), 90000 + i);
        ck_assert_int_eq(misses(a), 0);
    }
    run(a, "CREATE TABLE u(a); INSERT INTO u VALUES(1)");
    misses(a);
    ck_assert_double_eq(number(a, SUM), 90005);
    ck_assert_int_eq(misses(a), 0);
}
END_TEST

START_TEST(test_commits_of_others_are_seen_each_time)
{
    fill();
    for (int i = 1; i <= 20; i++) {
        run(i % 3 ? b : a, "UPDATE t SET c = c + 1 WHERE i % 10 = 5");
        ck_assert_double_eq(number(a, SUM), 90000 + 10 * i);
        ck_assert_double_eq(number(b, SUM), 90000 + 10 * i);
        if (i % 3)
            ck_assert_int_gt(misses(a), 25);
        else
            ck_assert_int_gt(misses(b), 25);
        misses(a);
        misses(b);
    }
}
END_TEST

/* A writer that has not committed: the other one sees nothing of it, and keeps its cache. */
START_TEST(test_what_was_not_committed_makes_nobody_drop_a_cache)
{
    fill();
    run(b, "BEGIN; UPDATE t SET c = 7");
    ck_assert_double_eq(number(a, SUM), 90000);
    ck_assert_double_eq(number(b, SUM), 90700);
    run(b, "ROLLBACK");
    ck_assert_double_eq(number(a, SUM), 90000);
    ck_assert_int_eq(misses(a), 0);
    ck_assert_double_eq(number(b, SUM), 90000);
    ck_assert_int_eq(misses(b), 0);
}
END_TEST

/* With pages that have left the cache for the file, and a change of the schema, so that page 1 goes there too. */
START_TEST(test_a_rollback_of_what_was_written_is_the_state_before)
{
    fill();
    run(a, "PRAGMA cache_size = 5");
    for (int i = 0; i < 3; i++) {
        run(a, "BEGIN; CREATE TABLE v(a); UPDATE t SET b = randomblob(901), c = 1; ROLLBACK");
        ck_assert_double_eq(number(a, SUM), 90000 + i);
        ck_assert_double_eq(number(b, SUM), 90000 + i);
        ck_assert_double_eq(number(a, "SELECT count(*) FROM sqlite_schema"), 1);
        run(i % 2 ? b : a, "UPDATE t SET c = c + 1 WHERE i = 1");
        ck_assert_double_eq(number(a, SUM), 90001 + i);
        ck_assert_double_eq(number(b, SUM), 90001 + i);
    }
    run(a, "SAVEPOINT s; UPDATE t SET c = 100; ROLLBACK TO s; UPDATE t SET c = c + 1 WHERE i = 2; "
           "RELEASE s");
    ck_assert_double_eq(number(a, SUM), 90004);
    ck_assert_double_eq(number(b, SUM), 90004);
}
END_TEST

START_TEST(test_data_version_changes_with_the_commits_of_others_only)
{
    fill();
    double first = number(a, "PRAGMA data_version");
    run(a, "UPDATE t SET c = 1 WHERE i = 1");
    ck_assert_double_eq(number(a, "PRAGMA data_version"), first);
    run(b, "UPDATE t SET c = 2 WHERE i = 1");
    double second = number(a, "PRAGMA data_version");
    ck_assert_double_ne(second, first);
    ck_assert_double_eq(number(a, "PRAGMA data_version"), second);
}
END_TEST

START_TEST(test_a_database_that_another_has_made_is_found)
{
    run(a, "SELECT * FROM sqlite_schema");
    run(b, "SELECT * FROM sqlite_schema");
    run(a, "SELECT * FROM sqlite_schema");
    run(b, "CREATE TABLE t(i INTEGER PRIMARY KEY, b BLOB, c INTEGER); INSERT INTO t VALUES(1, "
           "x'00', 5)");
    ck_assert_double_eq(number(a, SUM), 6);
    run(a, "DROP TABLE t");
    ck_assert_double_eq(number(b, "SELECT count(*) FROM sqlite_schema"), 0);
}
END_TEST

START_TEST(test_transactions_of_an_exclusive_connection_are_seen)
{
    fill();
    run(b, "PRAGMA locking_mode = EXCLUSIVE");
    for (int i = 1; i <= 4; i++) {
        run(b, "UPDATE t SET c = c + 1 WHERE i = 9");
        ck_assert_double_eq(number(a, SUM), 90000 + i);
        ck_assert_double_eq(number(b, SUM), 90000 + i);
    }
    run(b, "PRAGMA locking_mode = NORMAL; SELECT count(*) FROM t");
    run(a, "UPDATE t SET c = c + 1 WHERE i = 9");
    ck_assert_double_eq(number(b, SUM), 90005);
}
END_TEST

/* As many steps as there are pages, with a commit of another connection between any two of the first. */
START_TEST(test_a_backup_starts_over_when_its_source_changes)
{
    fill();
    sqlite3 *to;
    ck_assert_int_eq(sqlite3_open(":memory:", &to), SQLITE_OK);
    sqlite3_backup *backup = sqlite3_backup_init(to, "main", a, "main");
    ck_assert_ptr_nonnull(backup);
    int rc, steps = 0;
    while ((rc = sqlite3_backup_step(backup, 3)) == SQLITE_OK)
        if (++steps < 8)
            run(b, "UPDATE t SET c = c + 1");
    ck_assert_int_eq(rc, SQLITE_DONE);
    ck_assert_int_eq(sqlite3_backup_finish(backup), SQLITE_OK);
    ck_assert_double_eq(number(to, SUM), 90700);
    ck_assert_double_eq(
        number(to, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"), 1);
    sqlite3_close(to);
}
END_TEST

/* What stock SQLite finds in the closed file has a change counter of its own, greater than before. */
START_TEST(test_the_change_counter_grows)
{
    uint8_t before[4], after[4];
    char path[PATH_MAX];
    fill();
    snprintf(path, sizeof path, "%s/main.db", unit_dir);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(sqlite3_close(a), SQLITE_OK);
        ck_assert_int_eq(sqlite3_close(b), SQLITE_OK);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ck_assert_int_eq(pread(fd, i ? after : before, 4, 24), 4);
        close(fd);
        a = open_one();
        b = open_one();
        ck_assert_double_eq(number(a, "SELECT count(*) FROM t"), 100);
        run(b, "UPDATE t SET c = 1 WHERE i = 1");
        run(a, "UPDATE t SET c = 2 WHERE i = 1");
    }
    ck_assert_int_gt(memcmp(after, before, 4), 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_own_commits_and_idle_reads_keep_the_cache,
        test_commits_of_others_are_seen_each_time,
        test_what_was_not_committed_makes_nobody_drop_a_cache,
        test_a_rollback_of_what_was_written_is_the_state_before,
        test_data_version_changes_with_the_commits_of_others_only,
        test_a_database_that_another_has_made_is_found,
        test_transactions_of_an_exclusive_connection_are_seen,
        test_a_backup_starts_over_when_its_source_changes,
        test_the_change_counter_grows,
    };
    Suite *suite = suite_create("versions");
    TCase *tc = tcase_create("versions");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 120);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
        tcase_add_test(tc, tests[i]);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
