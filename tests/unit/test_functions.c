/* test_functions.c: the SQL functions, the table dax_pages and the set-up of connections, on real
 * databases.
 *
 * Catches: JSON that does not parse (a quote or a stray byte in a path), a member that was renamed or
 * lost, a function that answers about the wrong database, an error that does not say what to do, a
 * constraint on page that is scanned for, a table that survives DETACH of what it shows, a connection
 * that reads by copying because nobody set mmap_size, a second load that fails.
 */
#include <check.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "include/daxlite.h"
#include "tests/unit/unit.h"
#include "vfs/vfs.h"

/* Counts the rows that dax_pages reads (linked with --wrap). */
static unsigned page_infos;
void __real_conn_page_info(struct conn *c, uint64_t page, struct page_info *out);
void __wrap_conn_page_info(struct conn *c, uint64_t page, struct page_info *out);
void __wrap_conn_page_info(struct conn *c, uint64_t page, struct page_info *out)
{
    page_infos++;
    __real_conn_page_info(c, page, out);
}

static sqlite3 *dax; /* main.db in the test's directory, through the VFS */

/* --- helpers ----------------------------------------------------------------------------------- */

static sqlite3 *open_uri(const char *format, ...)
{
    char uri[3 * PATH_MAX];
    va_list ap;
    va_start(ap, format);
    vsnprintf(uri, sizeof uri, format, ap);
    va_end(ap);
    sqlite3 *db;
    int rc = sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
                             NULL);
    ck_assert_msg(rc == SQLITE_OK, "%s: %s", uri, sqlite3_errmsg(db));
    return db;
}

/* Rows of sql, columns joined by '|', rows by ' '; "ERROR: text" if it fails. Static storage, four
 * answers deep. */
static const char *ask(sqlite3 *db, const char *sql)
{
    static char answers[4][16384];
    static unsigned turn;
    char *out = answers[turn++ % 4];
    size_t room = sizeof answers[0], used = 0;
    sqlite3_stmt *stmt;
    out[0] = 0;
    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK) {
        snprintf(out, room, "ERROR: %s", sqlite3_errmsg(db));
        return out;
    }
    int rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        for (int i = 0; i < sqlite3_column_count(stmt); i++) {
            const char *text = (const char *)sqlite3_column_text(stmt, i);
            used += (size_t)snprintf(out + used, room - used, "%s%s",
                                     i      ? "|"
                                     : used ? " "
                                            : "",
                                     text ? text : "NULL");
            ck_assert_uint_lt(used, room);
        }
    }
    if (rc != SQLITE_DONE)
        snprintf(out, room, "ERROR: %s", sqlite3_errmsg(db));
    sqlite3_finalize(stmt);
    return out;
}

static long long number(sqlite3 *db, const char *sql)
{
    const char *text = ask(db, sql);
    char *end;
    long long value = strtoll(text, &end, 10);
    ck_assert_msg(*text && !*end, "%s: %s", sql, text);
    return value;
}

static void run(sqlite3 *db, const char *sql)
{
    char *message = NULL;
    int rc = sqlite3_exec(db, sql, NULL, NULL, &message);
    ck_assert_msg(rc == SQLITE_OK, "%s: %s", sql, message);
}

#define EXPECT(db, sql, answer) ck_assert_str_eq(ask(db, sql), answer)

static void expect_error(sqlite3 *db, const char *sql, int code, const char *part)
{
    const char *text = ask(db, sql);
    ck_assert_msg(strncmp(text, "ERROR: ", 7) == 0 && strstr(text, part), "%s: %s", sql, text);
    ck_assert_int_eq(sqlite3_errcode(db), code);
}

static void setup(void)
{
    unit_setup();
    ck_assert_int_eq(daxlite_register(0), SQLITE_OK);
    dax = open_uri("file:%s/main.db?vfs=dax", unit_dir);
    run(dax, "PRAGMA page_size=4096; CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB);"
             "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)"
             "INSERT INTO t SELECT i, randomblob(1000) FROM n");
}

static void teardown(void)
{
    ck_assert_int_eq(sqlite3_close(dax), SQLITE_OK);
}

/* --- dax_version ------------------------------------------------------------------------------- */

START_TEST(version_is_the_librarys_on_every_connection)
{
    sqlite3 *memory = open_uri(":memory:");
    EXPECT(memory, "SELECT dax_version()", DAXLITE_VERSION);
    EXPECT(dax, "SELECT dax_version()", DAXLITE_VERSION);
    ck_assert_str_eq(daxlite_version(), DAXLITE_VERSION);
    sqlite3_close(memory);
}
END_TEST

/* --- dax_status -------------------------------------------------------------------------------- */

START_TEST(status_has_every_documented_member_in_order)
{
    EXPECT(dax, "SELECT json_valid(dax_status())", "1");
    EXPECT(dax, "SELECT group_concat(key) FROM json_each(dax_status())",
           "version,schema,path,sidecar,mode,why,file_system,read_only,active,failed,mmap_size,"
            "bytes,txid,txid_oldest,log,frames,connections,snapshots,pins,counters,medium,"
            "recovered,media,scrub,memory,holders");
    EXPECT(dax, "SELECT group_concat(key) FROM json_each(dax_status(), '$.bytes')",
           "database,file,mapped,scratch,sidecar,private_budget");
    EXPECT(dax, "SELECT group_concat(key) FROM json_each(dax_status(), '$.log')",
           "ring,live,cursor,tail");
    EXPECT(dax, "SELECT group_concat(key) FROM json_each(dax_status(), '$.frames')",
           "used,free,pages_versioned");
    EXPECT(dax, "SELECT group_concat(key) FROM json_each(dax_status(), '$.counters')",
           "reads_copied,reads_pinned_base,reads_pinned_frame,pins_refused,read_retries,commits,"
           "aborts,pages_committed,lines_logged,log_bytes,pages_applied,pages_pushed,pages_direct,"
           "pages_scratch,checkpoints,pages_rehomed,pages_relogged");
    EXPECT(dax, "SELECT group_concat(key) FROM json_each(dax_status(), '$.medium')",
           "log_bytes,base_bytes,sidecar_bytes,flushes,fences,syncs,syncs_uncached");
    EXPECT(dax, "SELECT group_concat(key) FROM json_each(dax_status(), '$.recovered')",
           "records,pages");
    EXPECT(dax, "SELECT group_concat(key) FROM json_each(dax_status(), '$.media')",
           "errors_open,errors_total,repaired,cleared,lost,newest");
    EXPECT(dax, "SELECT group_concat(key) FROM json_each(dax_status(), '$.memory')",
           "allocator,heap,allocated,resident,page_cache");
    EXPECT(dax, "SELECT json_type(dax_status(), '$.memory.page_cache')", "null");
}
END_TEST

START_TEST(status_values_are_those_of_the_database)
{
    char expected[2 * PATH_MAX];
    snprintf(expected, sizeof expected, "%s/main.db|%s/main.db-dax|main", unit_dir, unit_dir);
    EXPECT(dax,
           "SELECT dax_status() ->> '$.path', dax_status() ->> '$.sidecar',"
           " dax_status() ->> '$.schema'",
           expected);
    EXPECT(dax,
           "SELECT s ->> '$.mode' IN ('pmem', 'msync', 'volatile'),"
           " (s ->> '$.mode' = 'volatile') = (s ->> '$.file_system' IN ('tmpfs', 'ramfs')),"
           " length(s ->> '$.why') > 0 FROM (SELECT dax_status() AS s)",
           "1|1|1");
    EXPECT(dax, "SELECT dax_status() ->> '$.read_only', dax_status() ->> '$.active'", "0|1");
    EXPECT(dax, "SELECT json_type(dax_status(), '$.failed')", "null");
    EXPECT(dax,
           "SELECT dax_status() ->> '$.bytes.database' = c.page_count * s.page_size"
           " FROM pragma_page_count c, pragma_page_size s",
           "1");
    long long commits = number(dax, "SELECT dax_status() ->> '$.counters.commits'");
    long long txid = number(dax, "SELECT dax_status() ->> '$.txid'");
    run(dax, "UPDATE t SET b = zeroblob(10) WHERE a = 7");
    ck_assert_int_eq(number(dax, "SELECT dax_status() ->> '$.counters.commits'"), commits + 1);
    ck_assert_int_eq(number(dax, "SELECT dax_status() ->> '$.txid'"), txid + 1);
}
END_TEST

/* One commit: its record in the ring, its lines home (at once in the cache-line modes), a seal, and a wait. */
START_TEST(status_counts_what_a_commit_stores)
{
    static const char *const members[] = {"counters.log_bytes", "medium.log_bytes",
                                          "medium.base_bytes",  "medium.sidecar_bytes",
                                          "medium.fences",      "medium.syncs"};
    long long before[6] = {0}, added[6];
    char sql[128];
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < 6; i++) {
            snprintf(sql, sizeof sql, "SELECT dax_status() ->> '$.%s'", members[i]);
            long long now = number(dax, sql);
            added[i] = now - before[i] * pass;
            before[i] = now;
        }
        if (pass == 0)
            run(dax, "UPDATE t SET b = zeroblob(11) WHERE a = 7");
    }
    bool msync = number(dax, "SELECT dax_status() ->> '$.mode' = 'msync'");
    ck_assert_int_gt(added[0], 0);
    ck_assert_int_eq(added[1], added[0]);
    ck_assert_int_ge(added[2] + (msync ? 64 : 0), 64);
    ck_assert_int_eq(added[2] % 64, 0);
    ck_assert_int_ge(added[3], msync ? 0 : 64);
    ck_assert_int_ge(added[msync ? 5 : 4], 1);
    ck_assert_int_eq(added[msync ? 4 : 5], 0);
}
END_TEST

START_TEST(status_names_who_holds_a_snapshot)
{
    EXPECT(dax, "SELECT json_array_length(dax_status(), '$.holders')", "0");
    sqlite3 *reader = open_uri("file:%s/main.db?vfs=dax", unit_dir);
    run(reader, "BEGIN; SELECT count(*) FROM t");
    EXPECT(dax, "SELECT dax_status() ->> '$.connections', dax_status() ->> '$.snapshots'", "2|1");
    char expected[64];
    snprintf(expected, sizeof expected, "%d|%d|0|0", getpid(), gettid());
    EXPECT(dax,
           "SELECT dax_status() ->> '$.holders[0].pid', dax_status() ->> '$.holders[0].tid',"
           " dax_status() ->> '$.holders[0].self', dax_status() ->> '$.holders[0].writer'",
           expected);
    EXPECT(dax, "SELECT group_concat(key) FROM json_each(dax_status(), '$.holders[0]')",
           "connection,pid,tid,self,writer,snapshot,age_ms,pins,page");
    EXPECT(dax, "SELECT dax_status() ->> '$.holders[0].snapshot' = dax_status() ->> '$.txid'", "1");
    EXPECT(reader, "SELECT dax_status() ->> '$.holders[0].self'", "1");
    run(reader, "COMMIT");
    EXPECT(dax, "SELECT json_array_length(dax_status(), '$.holders')", "0");
    sqlite3_close(reader);
}
END_TEST

START_TEST(status_is_json_whatever_the_path_holds)
{
    sqlite3 *db = open_uri("file:%s/a%%22b%%5Cc%%0Ad%%C3%%A9.db?vfs=dax", unit_dir);
    EXPECT(db, "SELECT json_valid(dax_status())", "1");
    char expected[2 * PATH_MAX];
    snprintf(expected, sizeof expected, "%s/a\"b\\c\nd\xc3\xa9.db", unit_dir);
    EXPECT(db, "SELECT dax_status() ->> '$.path'", expected);
    sqlite3_close(db);

    db = open_uri("file:%s/x%%FF%%C3y.db?vfs=dax", unit_dir); /* not UTF-8 */
    EXPECT(db, "SELECT json_valid(dax_status())", "1");
    snprintf(expected, sizeof expected, "%s/x\xef\xbf\xbd\xef\xbf\xbdy.db", unit_dir);
    EXPECT(db, "SELECT dax_status() ->> '$.path'", expected);
    sqlite3_close(db);
}
END_TEST

START_TEST(status_without_schema_finds_the_first_dax_database)
{
    char attach[2 * PATH_MAX];
    sqlite3 *db = open_uri("file:%s/stock.db", unit_dir);
    expect_error(db, "SELECT dax_status()", SQLITE_ERROR, "file:PATH?vfs=dax");
    snprintf(attach, sizeof attach, "ATTACH 'file:%s/other.db?vfs=dax' AS other", unit_dir);
    run(db, attach);
    EXPECT(db, "SELECT dax_status() ->> '$.schema'", "other");
    EXPECT(db, "SELECT dax_status(NULL) ->> '$.schema'", "other");
    EXPECT(db, "SELECT dax_status('OTHER') ->> '$.path' LIKE '%/other.db'", "1");
    expect_error(db, "SELECT dax_status('main')", SQLITE_ERROR,
                 "database \"main\" is not open through the VFS \"dax\"");
    expect_error(db, "SELECT dax_status('nope')", SQLITE_ERROR, "no such database: \"nope\"");
    expect_error(db, "SELECT dax_status('main', 'x')", SQLITE_ERROR, "wrong number of arguments");
    sqlite3_close(db);
}
END_TEST

/* --- dax_checkpoint ------------------------------------------------------------------------------ */

START_TEST(checkpoint_empties_the_log_and_answers_json)
{
    ck_assert_int_gt(number(dax, "SELECT dax_status() ->> '$.log.live'"), 0);
    const char *json = ask(dax, "SELECT dax_checkpoint()");
    char sql[20000];
    snprintf(sql, sizeof sql, "SELECT group_concat(key) FROM json_each('%s')", json);
    EXPECT(dax, sql, "schema,busy,log_before,log_after,rehomed,relogged,holder");
    snprintf(sql, sizeof sql,
             "SELECT j ->> '$.schema', j ->> '$.busy', j ->> '$.log_before' > 0,"
             " j ->> '$.log_after', j ->> '$.holder' FROM (SELECT '%s' AS j)",
             json);
    EXPECT(dax, sql, "main|0|1|0|NULL");
    EXPECT(dax, "SELECT dax_status() ->> '$.log.live'", "0");
}
END_TEST

START_TEST(checkpoint_takes_every_mode_and_names_a_wrong_one)
{
    static const char *const modes[] = {"passive", "full", "restart", "truncate", "TRUNCATE"};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        char sql[100];
        run(dax, "UPDATE t SET b = randomblob(100) WHERE a = 5");
        snprintf(sql, sizeof sql, "SELECT dax_checkpoint('%s') ->> '$.busy'", modes[i]);
        EXPECT(dax, sql, "0");
        EXPECT(dax, "SELECT dax_status() ->> '$.log.live'", "0");
    }
    expect_error(dax, "SELECT dax_checkpoint('fast')", SQLITE_ERROR, "unknown mode \"fast\"");
    expect_error(dax, "SELECT dax_checkpoint('full', 'nope')", SQLITE_ERROR,
                 "no such database: \"nope\"");
    EXPECT(dax, "SELECT dax_checkpoint(NULL, 'main') ->> '$.schema'", "main");
}
END_TEST

START_TEST(checkpoint_in_a_write_transaction_is_harmless)
{
    /* What is changed is still in SQLite's cache: there is nothing in the way. */
    run(dax, "BEGIN IMMEDIATE; UPDATE t SET b = 'kept' WHERE a = 1");
    EXPECT(dax, "SELECT dax_checkpoint() ->> '$.log_after'", "0");
    run(dax, "COMMIT");
    EXPECT(dax, "SELECT b FROM t WHERE a = 1", "kept");

    /* The cache has spilled: pages of the transaction are with the engine. */
    run(dax, "PRAGMA cache_size=1; BEGIN; UPDATE t SET b = randomblob(2000)");
    expect_error(dax, "SELECT dax_checkpoint()", SQLITE_LOCKED, "dax_checkpoint: ");
    run(dax, "ROLLBACK");
    EXPECT(dax, "SELECT count(*) FROM t WHERE length(b) = 1000", "99");
    EXPECT(dax, "PRAGMA integrity_check", "ok");
}
END_TEST

START_TEST(checkpoint_waits_for_no_snapshot)
{
    sqlite3 *reader = open_uri("file:%s/main.db?vfs=dax", unit_dir);
    run(reader, "BEGIN; SELECT count(*) FROM t");
    const char *before = ask(reader, "SELECT hex(b) FROM t WHERE a = 3");
    run(dax, "UPDATE t SET b = 'new' WHERE a = 3");
    EXPECT(dax, "SELECT dax_checkpoint() ->> '$.log_after'", "0");
    EXPECT(reader, "SELECT hex(b) FROM t WHERE a = 3", before);
    run(reader, "COMMIT");
    EXPECT(reader, "SELECT b FROM t WHERE a = 3", "new");
    sqlite3_close(reader);
}
END_TEST

START_TEST(checkpoint_waits_for_the_writer_as_long_as_the_busy_timeout)
{
    sqlite3 *writer = open_uri("file:%s/main.db?vfs=dax", unit_dir);
    run(writer, "BEGIN IMMEDIATE; UPDATE t SET b = 'x' WHERE a = 1");
    EXPECT(dax, "SELECT dax_checkpoint('full') ->> '$.busy'", "1");
    EXPECT(dax, "SELECT dax_checkpoint('full') ->> '$.holder' IS NOT NULL", "1");
    sqlite3_busy_timeout(dax, 50);
    EXPECT(dax, "SELECT dax_checkpoint('full') ->> '$.busy'", "1");
    run(writer, "COMMIT");
    EXPECT(dax, "SELECT dax_checkpoint('full') ->> '$.busy'", "0");
    sqlite3_close(writer);
}
END_TEST

/* Gives up at the third time; counts[0] is the number of calls, counts[1] of those out of turn. */
static int handle_busy(void *arg, int times)
{
    int *counts = arg;
    counts[1] += times != counts[0];
    return ++counts[0] < 3;
}

START_TEST(checkpoint_asks_the_connections_own_busy_handler)
{
    int counts[2] = {0, 0};
    sqlite3 *writer = open_uri("file:%s/main.db?vfs=dax", unit_dir);
    run(writer, "BEGIN IMMEDIATE; UPDATE t SET b = 'x' WHERE a = 1");
    sqlite3_busy_handler(dax, handle_busy, counts);
    EXPECT(dax, "SELECT dax_checkpoint('full') ->> '$.busy'", "1");
    ck_assert_int_eq(counts[0], 3);
    ck_assert_int_eq(counts[1], 0);
    EXPECT(dax, "SELECT dax_checkpoint('passive') ->> '$.busy'", "1");
    ck_assert_int_eq(counts[0], 3);
    sqlite3_close(writer);
}
END_TEST

START_TEST(checkpoint_cannot_be_hidden_in_a_view)
{
    run(dax, "CREATE VIEW v AS SELECT dax_checkpoint() AS c");
    expect_error(dax, "SELECT c FROM v", SQLITE_ERROR, "unsafe use of dax_checkpoint()");
}
END_TEST

/* --- dax_pages ----------------------------------------------------------------------------------- */

START_TEST(pages_lists_every_page_once)
{
    EXPECT(dax,
           "SELECT count(*) = max(c.page_count), min(page), max(page) + 1 = max(c.page_count),"
           " count(DISTINCT page) = count(*) FROM dax_pages, pragma_page_count c",
           "1|0|1|1");
    run(dax, "SELECT dax_checkpoint()");
    EXPECT(dax, "SELECT DISTINCT state, refcount, versions FROM dax_pages", "MAPPED|0|0");
    EXPECT(dax, "SELECT count(*) FROM dax_pages WHERE flags LIKE '%poisoned%'", "0");
    EXPECT(dax, "SELECT count(*) FROM dax_pages WHERE rowid <> page", "0");
}
END_TEST

START_TEST(pages_with_a_constraint_on_page_reads_only_those)
{
    static const struct {
        const char *where, *pages;
        unsigned reads;
    } cases[] = {
        {"page = 3", "3", 1},
        {"3 = page", "3", 1},
        {"rowid = 3", "3", 1},
        {"page = '3'", "3", 1},
        {"page = 3.0", "3", 1},
        {"page = 3.5", "", 0},
        {"page = NULL", "", 0},
        {"page = -1", "", 0},
        {"page = 1000000", "", 0},
        {"page = 9223372036854775807", "", 0},
        {"page < 3", "0 1 2", 4},
        {"page <= 3", "0 1 2 3", 4},
        {"page < 2.5", "0 1 2", 3},
        {"page <= -1e300", "", 0},
        {"page > 1e300", "", 0},
        {"page > 2 AND page < 5", "3 4", 4},
        {"page >= 2 AND page <= 5", "2 3 4 5", 4},
        {"page BETWEEN 1.5 AND 3.5", "2 3", 2},
        {"page > 5 AND page < 5", "", 1},
        {"page IN (7, 2, 7)", "2 7", 2},
        {"page = 3 AND page = 4", "", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char sql[200];
        snprintf(sql, sizeof sql, "SELECT page FROM dax_pages WHERE %s", cases[i].where);
        page_infos = 0;
        const char *pages = ask(dax, sql);
        ck_assert_msg(strcmp(pages, cases[i].pages) == 0, "%s: %s", sql, pages);
        ck_assert_msg(page_infos <= cases[i].reads, "%s: %u reads", sql, page_infos);
    }
    EXPECT(dax, "SELECT count(*) FROM dax_pages WHERE page < 'text'",
           ask(dax, "SELECT count(*) FROM dax_pages"));
    EXPECT(dax, "SELECT count(*) FROM dax_pages WHERE page = 'text' OR page = x'33'", "0");
}
END_TEST

START_TEST(pages_plan_names_the_constraints_in_use)
{
    static const struct {
        const char *query, *plan;
    } cases[] = {
        {"SELECT * FROM dax_pages", "0:every page"},
        {"SELECT * FROM dax_pages WHERE page = 3", "1:page=?"},
        {"SELECT * FROM dax_pages WHERE page > 3 AND page <= 9", "12:page<=? page>?"},
        {"SELECT * FROM dax_pages('main') WHERE page = 3", "33:page=? schema=?"},
        {"SELECT * FROM dax_pages WHERE refcount = 3", "0:every page"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char sql[200];
        snprintf(sql, sizeof sql, "EXPLAIN QUERY PLAN %s", cases[i].query);
        const char *plan = ask(dax, sql);
        ck_assert_msg(strstr(plan, cases[i].plan), "%s: %s", sql, plan);
    }
    ck_assert_ptr_null(
        strstr(ask(dax, "EXPLAIN QUERY PLAN SELECT page FROM dax_pages ORDER BY page"), "B-TREE"));
    const char *last = ask(dax, "SELECT max(page) FROM dax_pages");
    EXPECT(dax, "SELECT page FROM dax_pages ORDER BY page DESC LIMIT 1", last);
}
END_TEST

START_TEST(pages_of_a_schema)
{
    char attach[2 * PATH_MAX];
    snprintf(attach, sizeof attach,
             "ATTACH 'file:%s/other.db' AS other; CREATE TABLE other.u(a);"
             "ATTACH 'file:%s/stock.db?vfs=unix' AS stock; CREATE TABLE stock.u(a)",
             unit_dir, unit_dir);
    run(dax, attach);
    EXPECT(dax, "SELECT count(*), schema FROM dax_pages('other')", "2|other");
    EXPECT(dax,
           "SELECT l.name, (SELECT count(*) FROM dax_pages p WHERE p.schema = l.name)"
           " FROM pragma_database_list l WHERE l.name = 'other'",
           "other|2");
    expect_error(dax, "SELECT * FROM dax_pages('stock')", SQLITE_ERROR,
                 "dax_pages: database \"stock\" is not open through");
    expect_error(dax, "SELECT * FROM dax_pages('nope')", SQLITE_ERROR, "no such database");
    sqlite3 *memory = open_uri(":memory:");
    expect_error(memory, "SELECT * FROM dax_pages", SQLITE_ERROR, "file:PATH?vfs=dax");
    sqlite3_close(memory);
}
END_TEST

START_TEST(pages_survives_a_detach_in_the_middle)
{
    char attach[2 * PATH_MAX];
    snprintf(attach, sizeof attach, "ATTACH 'file:%s/other.db' AS other; CREATE TABLE other.u(a)",
             unit_dir);
    run(dax, attach);
    sqlite3_stmt *stmt;
    ck_assert_int_eq(
        sqlite3_prepare_v2(dax, "SELECT page FROM dax_pages('other')", -1, &stmt, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(stmt), SQLITE_ROW);
    if (sqlite3_exec(dax, "DETACH other", NULL, NULL, NULL) == SQLITE_OK) {
        ck_assert_int_eq(sqlite3_step(stmt), SQLITE_ERROR);
        ck_assert_ptr_nonnull(strstr(sqlite3_errmsg(dax), "\"other\" was detached"));
    }
    sqlite3_finalize(stmt);
}
END_TEST

START_TEST(pages_shows_the_pins_of_an_open_scan)
{
    run(dax, "SELECT dax_checkpoint()");
    sqlite3_stmt *scan;
    ck_assert_int_eq(sqlite3_prepare_v2(dax, "SELECT a FROM t", -1, &scan, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(scan), SQLITE_ROW);
    ck_assert_int_gt(number(dax, "SELECT sum(refcount) FROM dax_pages"), 0);
    ck_assert_int_eq(number(dax, "SELECT sum(refcount) FROM dax_pages"),
                     number(dax, "SELECT dax_status() ->> '$.pins'"));
    sqlite3_finalize(scan);
    ck_assert_int_eq(number(dax, "SELECT sum(refcount) FROM dax_pages"), 0);
}
END_TEST

/* --- set-up of connections ------------------------------------------------------------------------- */

START_TEST(connection_to_dax_reads_in_place)
{
    ck_assert_int_gt(number(dax, "PRAGMA mmap_size"), 0);
    ck_assert_int_gt(number(dax, "SELECT dax_status() ->> '$.mmap_size'"), 0);
    run(dax, "SELECT dax_checkpoint()");
    sqlite3 *reader = open_uri("file:%s/main.db?vfs=dax", unit_dir);
    long long pinned = number(reader, "SELECT dax_status() ->> '$.counters.reads_pinned_base'");
    EXPECT(reader, "SELECT count(*) FROM t WHERE length(b) = 1000", "100");
    ck_assert_int_gt(number(reader, "SELECT dax_status() ->> '$.counters.reads_pinned_base'"),
                     pinned);
    sqlite3_close(reader);
}
END_TEST

START_TEST(connection_with_dax_attached_later_reads_it_in_place)
{
    char attach[2 * PATH_MAX];
    snprintf(attach, sizeof attach, "ATTACH 'file:%s/other.db?vfs=dax' AS other", unit_dir);
    run(dax, attach);
    ck_assert_int_gt(number(dax, "PRAGMA other.mmap_size"), 0);
}
END_TEST

START_TEST(connection_to_a_stock_database_is_left_as_it_was)
{
    char attach[2 * PATH_MAX];
    sqlite3 *stock = open_uri("file:%s/stock.db", unit_dir);
    run(stock, "CREATE TABLE u(a)");
    EXPECT(stock, "PRAGMA mmap_size", "0");
    snprintf(attach, sizeof attach, "ATTACH 'file:%s/other.db?vfs=dax' AS other", unit_dir);
    run(stock, attach);
    EXPECT(stock, "PRAGMA main.mmap_size", "0");
    ck_assert_int_gt(number(stock, "PRAGMA other.mmap_size=268435456"), 0);
    EXPECT(stock, "PRAGMA main.mmap_size", "0");
    sqlite3_close(stock);
}
END_TEST

START_TEST(connection_can_be_set_up_again_under_a_running_statement)
{
    sqlite3_stmt *scan;
    ck_assert_int_eq(sqlite3_prepare_v2(dax, "SELECT page FROM dax_pages", -1, &scan, NULL),
                     SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(scan), SQLITE_ROW);
    ck_assert_int_eq(daxlite_register(0), SQLITE_OK);
    ck_assert_int_eq(autoload_connection(dax, NULL, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(scan), SQLITE_ROW);
    sqlite3_finalize(scan);
    ck_assert_int_eq(autoload_connection(dax, NULL, NULL), SQLITE_OK);
    EXPECT(dax, "SELECT dax_version()", DAXLITE_VERSION);
    EXPECT(dax, "SELECT count(*) FROM dax_pages WHERE page = 0", "1");
}
END_TEST

START_TEST(default_vfs_only_where_asked)
{
    ck_assert_str_ne(sqlite3_vfs_find(NULL)->zName, "dax");
    ck_assert_int_eq(daxlite_register(1), SQLITE_OK);
    ck_assert_str_eq(sqlite3_vfs_find(NULL)->zName, "dax");
    ck_assert_int_eq(daxlite_register(0), SQLITE_OK); /* takes nothing back */
    ck_assert_str_eq(sqlite3_vfs_find(NULL)->zName, "dax");
    sqlite3 *db = open_uri("file:%s/default.db", unit_dir);
    EXPECT(db, "SELECT dax_status() ->> '$.schema'", "main");
    sqlite3_close(db);
    db = open_uri(":memory:");
    run(db, "CREATE TABLE u(a); CREATE TEMP TABLE v(a); INSERT INTO v VALUES(1)");
    expect_error(db, "SELECT dax_status()", SQLITE_ERROR, "no database here");
    sqlite3_close(db);
}
END_TEST

static Suite *functions_suite(void)
{
    const TTest *const tests[] = {
        version_is_the_librarys_on_every_connection,
        status_has_every_documented_member_in_order,
        status_values_are_those_of_the_database,
        status_counts_what_a_commit_stores,
        status_names_who_holds_a_snapshot,
        status_is_json_whatever_the_path_holds,
        status_without_schema_finds_the_first_dax_database,
        checkpoint_empties_the_log_and_answers_json,
        checkpoint_takes_every_mode_and_names_a_wrong_one,
        checkpoint_in_a_write_transaction_is_harmless,
        checkpoint_waits_for_no_snapshot,
        checkpoint_waits_for_the_writer_as_long_as_the_busy_timeout,
        checkpoint_asks_the_connections_own_busy_handler,
        checkpoint_cannot_be_hidden_in_a_view,
        pages_lists_every_page_once,
        pages_with_a_constraint_on_page_reads_only_those,
        pages_plan_names_the_constraints_in_use,
        pages_of_a_schema,
        pages_survives_a_detach_in_the_middle,
        pages_shows_the_pins_of_an_open_scan,
        connection_to_dax_reads_in_place,
        connection_with_dax_attached_later_reads_it_in_place,
        connection_to_a_stock_database_is_left_as_it_was,
        connection_can_be_set_up_again_under_a_running_statement,
        default_vfs_only_where_asked,
    };
    Suite *suite = suite_create("functions");
    TCase *tcase = tcase_create("functions");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, setup, teardown);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return unit_main(functions_suite());
}
