/* test_stress_sql.c: the whole of daxlite under SQLite, from several threads on several databases.
 *
 * Each thread opens and closes SQLite connections, transfers between accounts in one statement or in
 * BEGIN ... COMMIT or ROLLBACK, inserts and deletes blobs of up to several pages, reads sums and an
 * index beside an open cursor, and asks dax_status, dax_pages, dax_checkpoint, PRAGMA wal_checkpoint
 * and integrity_check. In every statement's snapshot the balances add up to the same sum and the table
 * agrees with its index and with the counter that each insertion moves in the same transaction.
 *
 * Would catch: what test_stress.c catches, in the VFS and with SQLite's order of calls: rows of two
 * transactions in one snapshot, a phantom after a refusal, a cache that is not thrown away, a corrupt
 * b-tree.
 *
 * libsqlite3 is not compiled with the sanitizer: what it does itself is not looked at.
 *
 * DAX_TEST_SEED: of the choices. DAX_TEST_SECONDS: how long.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <time.h>

#include "include/daxlite.h"
#include "tests/seed.h"
#include "tests/unit/unit.h"
#include "vfs/vfs.h"

#define DATABASES 2u
#define THREADS 4u
#define ACCOUNTS 50
#define BALANCE 1000

#if defined(__SANITIZE_THREAD__)
#define SECONDS 20u
#elif defined(__SANITIZE_ADDRESS__)
#define SECONDS 8u
#else
#define SECONDS 10u
#endif

struct worker {
    pthread_t thread;
    uint64_t random;
};

static char paths[DATABASES][512];
static _Atomic bool over;
static _Atomic uint64_t transactions, refusals, queries, opens;

#define MUST(expr, ...)                                                                            \
    do {                                                                                           \
        if (!(expr))                                                                               \
            ck_abort_msg(__VA_ARGS__);                                                             \
    } while (0)

static uint64_t below(struct worker *w, uint64_t n)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return (w->random >> 11) % n;
}

static sqlite3 *open_one(struct worker *w, const char *path)
{
    char uri[700];
    snprintf(uri, sizeof uri, "file:%s?vfs=dax&dax_log_size=8388608%s", path,
             below(w, 4) ? "" : "&dax_zero_copy=off");
    sqlite3 *db;
    int rc = sqlite3_open_v2(
        uri, &db,
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL);
    MUST(rc == SQLITE_OK, "%s: %s", uri, sqlite3_errmsg(db));
    sqlite3_busy_timeout(db, (int)below(w, 2) * 2000);
    opens++;
    return db;
}

static bool is_refusal(int rc)
{
    return (rc & 0xff) == SQLITE_BUSY;
}

/* Runs SQL; false: refused. */
__attribute__((format(printf, 2, 3))) static bool run(sqlite3 *db, const char *format, ...)
{
    char sql[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(sql, sizeof sql, format, args);
    va_end(args);
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    MUST(rc == SQLITE_OK || is_refusal(rc), "%s: %d %s", sql, sqlite3_extended_errcode(db),
         sqlite3_errmsg(db));
    if (rc != SQLITE_OK)
        refusals++;
    return rc == SQLITE_OK;
}

static int64_t ask(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *st;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
    MUST(rc == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
    MUST(sqlite3_step(st) == SQLITE_ROW, "%s: %s", sql, sqlite3_errmsg(db));
    int64_t n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    queries++;
    return n;
}

static void must_be_ok(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *st;
    MUST(sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW,
         "%s: %s", sql, sqlite3_errmsg(db));
    const char *text = (const char *)sqlite3_column_text(st, 0);
    MUST(!strcmp(text, "ok"), "%s: %s", sql, text);
    sqlite3_finalize(st);
    queries++;
}

/* --- deeds ------------------------------------------------------------------------------------- */

static void transfer(struct worker *w, sqlite3 *db)
{
    int from = (int)below(w, ACCOUNTS), to = (int)below(w, ACCOUNTS), n = (int)below(w, 50);
    if (below(w, 2)) { /* one statement */
        if (run(db,
                "UPDATE account SET balance = balance + CASE id WHEN %d THEN -%d ELSE %d END "
                "WHERE id IN (%d, %d) AND %d <> %d",
                from, n, n, from, to, from, to))
            transactions++;
        return;
    }
    if (!run(db, below(w, 2) ? "BEGIN" : "BEGIN IMMEDIATE"))
        return;
    bool ok = run(db, "UPDATE account SET balance = balance - %d WHERE id = %d", n, from) &&
              run(db, "UPDATE account SET balance = balance + %d WHERE id = %d", n, to);
    if (ok && below(w, 5))
        ok = run(db, "COMMIT");
    else
        ok = false;
    if (ok)
        transactions++;
    else
        MUST(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL) == SQLITE_OK, "%s", sqlite3_errmsg(db));
}

/* Rows come and go, with the counter; the database grows and, by VACUUM, shrinks. */
static void churn(struct worker *w, sqlite3 *db)
{
    char sql[512];
    uint64_t what = below(w, 40);
    if (what == 0) {
        (void)run(db, "VACUUM");
        return;
    }
    if (what < 16)
        snprintf(sql, sizeof sql,
                 "DELETE FROM item WHERE id IN (SELECT id FROM item LIMIT %d);"
                 "UPDATE counter SET n = (SELECT count(*) FROM item)",
                 (int)below(w, 20));
    else
        snprintf(sql, sizeof sql,
                 "INSERT INTO item(k, b) VALUES(%d, zeroblob(%d));"
                 "UPDATE counter SET n = n + 1",
                 (int)below(w, 1000), (int)below(w, 20000));
    if (!run(db, "BEGIN IMMEDIATE"))
        return;
    MUST(run(db, "%s", sql), "refused within a transaction that holds the lock");
    MUST(run(db, "%s", below(w, 6) ? "COMMIT" : "ROLLBACK"), "the end was refused");
    transactions++;
}

static void check_sums(sqlite3 *db)
{
    int64_t sum = ask(db, "SELECT sum(balance) FROM account");
    MUST(sum == (int64_t)ACCOUNTS * BALANCE, "the sum is %lld", (long long)sum);
    int64_t gap = ask(db, "SELECT (SELECT n FROM counter) - (SELECT count(*) FROM item)");
    MUST(gap == 0, "the counter is %lld off", (long long)gap);
    gap = ask(db, "SELECT (SELECT sum(k) FROM item NOT INDEXED) IS NOT (SELECT sum(k) FROM item)");
    MUST(gap == 0, "the index and the table differ");
}

/* A cursor keeps its snapshot while others commit. */
static void check_cursor(struct worker *w, sqlite3 *db)
{
    sqlite3_stmt *st;
    MUST(sqlite3_prepare_v2(db, "SELECT balance FROM account ORDER BY id", -1, &st, NULL) ==
             SQLITE_OK,
         "%s", sqlite3_errmsg(db));
    int64_t sum = 0;
    int rows = 0, rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        sum += sqlite3_column_int64(st, 0);
        if (++rows % 16 == 0 && below(w, 2))
            check_sums(db); /* in the same snapshot */
    }
    MUST(rc == SQLITE_DONE && rows == ACCOUNTS && sum == (int64_t)ACCOUNTS * BALANCE,
         "%d rows, sum %lld: %s", rows, (long long)sum, sqlite3_errmsg(db));
    sqlite3_finalize(st);
}

static void look(struct worker *w, sqlite3 *db)
{
    static const char *const modes[] = {"PASSIVE", "FULL", "RESTART", "TRUNCATE"};
    char sql[100];
    const char *mode = modes[below(w, 4)];
    switch (below(w, 6)) {
    case 0: MUST(ask(db, "SELECT length(dax_status())") > 10, "dax_status"); break;
    case 1: MUST(ask(db, "SELECT count(*) FROM dax_pages") > 0, "dax_pages"); break;
    case 2:
        snprintf(sql, sizeof sql, "SELECT dax_checkpoint('%s') IS NOT NULL", mode);
        (void)ask(db, sql);
        break;
    case 3: (void)run(db, "PRAGMA wal_checkpoint(%s)", mode); break;
    default: must_be_ok(db, "PRAGMA integrity_check");
    }
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    while (!atomic_load(&over)) {
        sqlite3 *db = open_one(w, paths[below(w, DATABASES)]);
        for (uint64_t n = 1 + below(w, 60); n-- > 0;) {
            uint64_t what = below(w, 32);
            if (what < 12)
                transfer(w, db);
            else if (what < 20)
                churn(w, db);
            else if (what < 25)
                check_sums(db);
            else if (what < 29)
                check_cursor(w, db);
            else
                look(w, db);
        }
        MUST(sqlite3_close(db) == SQLITE_OK, "close");
    }
    return NULL;
}

/* --- the test ---------------------------------------------------------------------------------- */

static void create(struct worker *w, unsigned number)
{
    char name[32];
    snprintf(name, sizeof name, "stress%u.db", number);
    snprintf(paths[number], sizeof paths[number], "%s", unit_path(name));
    sqlite3 *db = open_one(w, paths[number]);
    MUST(run(db, "PRAGMA page_size = %u", number ? 1024 : 4096), "page_size");
    MUST(run(db,
             "CREATE TABLE account(id INTEGER PRIMARY KEY, balance INT);"
             "CREATE TABLE item(id INTEGER PRIMARY KEY, k INT, b BLOB);"
             "CREATE INDEX item_k ON item(k);"
             "CREATE TABLE counter(n INT); INSERT INTO counter VALUES(0);"
             "WITH RECURSIVE i(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n < %d)"
             "INSERT INTO account SELECT n, %d FROM i",
             ACCOUNTS - 1, BALANCE),
         "create");
    MUST(sqlite3_close(db) == SQLITE_OK, "close");
}

START_TEST(test_every_snapshot_of_every_connection_adds_up)
{
    const char *seconds_text = getenv("DAX_TEST_SECONDS");
    uint64_t seed = test_seed_given();
    unsigned seconds = seconds_text && *seconds_text ? (unsigned)atoi(seconds_text) : SECONDS;
    struct worker w[THREADS];
    printf("DAX_TEST_SEED=%llu\n", (unsigned long long)seed);
    ck_assert_int_eq(daxlite_register(0), SQLITE_OK);
    for (unsigned i = 0; i < THREADS; i++)
        w[i].random = (seed + 1) * 0x9E3779B97F4A7C15u + i * 0xBF58476D1CE4E5B9u;
    for (unsigned i = 0; i < DATABASES; i++)
        create(&w[0], i);
    for (unsigned i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&w[i].thread, NULL, worker_main, &w[i]), 0);
    struct timespec rest = {(time_t)seconds, 0};
    while (nanosleep(&rest, &rest) != 0)
        ;
    atomic_store(&over, true);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(w[i].thread, NULL);
    for (unsigned i = 0; i < DATABASES; i++) { /* stock SQLite has the file now */
        sqlite3 *db;
        ck_assert_int_eq(sqlite3_open(paths[i], &db), SQLITE_OK);
        check_sums(db);
        must_be_ok(db, "PRAGMA integrity_check");
        sqlite3_close(db);
    }
    ck_assert_uint_gt(transactions, 0);
    printf("%llu transactions, %llu refusals, %llu queries, %llu opens\n",
           (unsigned long long)transactions, (unsigned long long)refusals,
           (unsigned long long)queries, (unsigned long long)opens);
    printf("figure: stress operations through SQLite: %llu\n",
           (unsigned long long)(transactions + refusals + queries + opens));
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("stress_sql");
    tcase_add_checked_fixture(tc, unit_setup, NULL);
    tcase_set_timeout(tc, 3600);
    tcase_add_test(tc, test_every_snapshot_of_every_connection_adds_up);
    Suite *suite = suite_create("stress_sql");
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
