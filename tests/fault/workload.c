/* workload.c: the workloads, and the files that they begin with.
 *
 * The sets "crashed..." are pairs of files copied while the database was open: what is left when a
 * process is killed. Content is a function of the SQL alone, so that runs can be compared.
 */
#include "tests/fault/workload.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/system/harness.h"

#define SMALL "dax_log_size=8m"
#define BIG "dax_log_size=8m&dax_private_size=256k"
#define MSYNC "&dax_persist=msync"

/* n rows of a page each / of about `bytes`. */
#define ROWS(table, first, last, bytes)                                                            \
    "WITH RECURSIVE s(i) AS (SELECT " #first " UNION ALL SELECT i + 1 FROM s WHERE i < " #last     \
    ") INSERT INTO " #table " SELECT i, printf('%.*c', " #bytes ", char(65 + i % 26)) FROM s"

#define SCHEMA                                                                                     \
    "BEGIN; CREATE TABLE t(id INTEGER PRIMARY KEY, x); CREATE TABLE u(id INTEGER PRIMARY KEY, x);" \
    "CREATE INDEX ux ON u(x); COMMIT;"

#define CREATE                                                                                     \
    {                                                                                              \
        {STEP_FILES, 0, "none"}, {STEP_OPEN, 0, NULL}, {STEP_DO, 0, SCHEMA},                       \
            {STEP_DO, 0, ROWS(t, 1, 20, 100)}, {STEP_CLOSE, 0, NULL}, {STEP_FILES, 0, NULL},       \
            {STEP_OPEN, 0, NULL}, {STEP_ASK, 0, "SELECT * FROM t"},                                \
            {STEP_DO, 0, "DELETE FROM t WHERE id = 3"}, {STEP_CLOSE, 0, NULL},                     \
    }

#define SMALL_STEPS                                                                                \
    {                                                                                              \
        {STEP_FILES, 0, "plain"}, {STEP_OPEN, 0, NULL}, {STEP_OPEN, 1, NULL},                      \
            {STEP_DO, 0, "INSERT INTO t VALUES(1001, 'one')"},                                     \
            {STEP_DO, 1, "UPDATE t SET x = x || '!' WHERE id % 7 = 0"},                            \
            {STEP_DO, 0,                                                                           \
             "BEGIN; INSERT INTO u VALUES(2001, 'a'); SAVEPOINT s; UPDATE u SET x = 'gone';"       \
             "ROLLBACK TO s; INSERT INTO u VALUES(2002, 'b'); RELEASE s; COMMIT"},                 \
            {STEP_DO, 1, "BEGIN IMMEDIATE; DELETE FROM t WHERE id < 9; DELETE FROM u; ROLLBACK"},  \
            {STEP_DO, 0, "UPDATE OR ROLLBACK u SET x = upper(x) WHERE id % 3 = 0"},                \
            {STEP_ASK, 1, "SELECT count(*), sum(length(x)) FROM t; SELECT max(id) FROM u"},        \
            {STEP_DO, 0, "DROP INDEX ux"}, {STEP_DO, 0, "CREATE INDEX ux ON u(x)"},                \
            {STEP_DO, 0, "PRAGMA wal_checkpoint(TRUNCATE)"}, {STEP_CLOSE, 1, NULL},                \
            {STEP_CLOSE, 0, NULL},                                                                 \
    }

#define GROW_STEPS                                                                                 \
    {                                                                                              \
        {STEP_FILES, 0, "plain"}, {STEP_OPEN, 0, NULL}, {STEP_DO, 0, ROWS(t, 1001, 1020, 90000)},  \
            {STEP_DO, 0, ROWS(t, 1021, 1060, 90000)},                                              \
            {STEP_DO, 0, "BEGIN; DELETE FROM t; ROLLBACK"},                                        \
            {STEP_DO, 0, "DELETE FROM t WHERE id > 1030"},                                         \
            {STEP_DO, 0, "UPDATE t SET x = x || x WHERE id = 1001"}, {STEP_CLOSE, 0, NULL},        \
    }

#define BIG_STEPS                                                                                  \
    {                                                                                              \
        {STEP_FILES, 0, "large"}, {STEP_OPEN, 0, NULL},                                            \
            {STEP_DO, 0, "UPDATE t SET x = x || '.' WHERE id % 2"},                                \
            {STEP_DO, 0,                                                                           \
             "BEGIN; UPDATE t SET x = lower(x); SAVEPOINT s; DELETE FROM t;"                       \
             "ROLLBACK TO s; COMMIT"},                                                             \
            {STEP_DO, 0, "BEGIN; UPDATE t SET x = upper(x); ROLLBACK"}, {STEP_SNAPSHOT, 1, NULL},  \
            {STEP_DO, 0, "UPDATE t SET x = replace(x, 'a', 'b')"},                                 \
            {STEP_DO, 0, "PRAGMA wal_checkpoint"}, {STEP_LEAVE, 1, NULL}, {STEP_DO, 0, "VACUUM"},  \
            {STEP_CLOSE, 1, NULL}, {STEP_CLOSE, 0, NULL},                                          \
    }

#define RELOG_STEPS                                                                                \
    {                                                                                              \
        {STEP_FILES, 0, "plain"}, {STEP_OPEN, 0, NULL}, {STEP_OPEN, 1, NULL},                      \
            {STEP_PIN, 1, "SELECT id, x FROM t"}, {STEP_DO, 0, "UPDATE t SET x = 'p' || x"},       \
            {STEP_DO, 0, "PRAGMA wal_checkpoint(PASSIVE)"},                                        \
            {STEP_DO, 0, "UPDATE t SET x = 'q' || x WHERE id < 5"},                                \
            {STEP_DO, 0, "SELECT dax_checkpoint('passive')"},                                      \
            {STEP_DO, 0, "INSERT INTO u VALUES(3001, 'relog')"},                                   \
            {STEP_DO, 0, "PRAGMA wal_checkpoint(PASSIVE)"}, {STEP_LEAVE, 1, NULL},                 \
            {STEP_DO, 0, "PRAGMA wal_checkpoint(FULL)"}, {STEP_CLOSE, 1, NULL},                    \
            {STEP_CLOSE, 0, NULL},                                                                 \
    }

#define RECOVER_STEPS                                                                              \
    {                                                                                              \
        {STEP_FILES, 0, "crashed"}, {STEP_OPEN, 0, NULL}, {STEP_CLOSE, 0, NULL},                   \
            {STEP_FILES, 0, "crashed-big"}, {STEP_OPEN, 0, NULL},                                  \
            {STEP_DO, 0, "INSERT INTO t VALUES(9000, 'after')"}, {STEP_CLOSE, 0, NULL},            \
            {STEP_FILES, 0, "crashed-relog"}, {STEP_OPEN, 0, NULL}, {STEP_OPEN, 1, NULL},          \
            {STEP_DO, 1, "DELETE FROM t WHERE id = 4"}, {STEP_CLOSE, 0, NULL},                     \
            {STEP_CLOSE, 1, NULL},                                                                 \
    }

const struct workload workloads[] = {
    {"create", SMALL, CREATE},
    {"create-msync", SMALL MSYNC, CREATE},
    {"adopt",
     SMALL,
     {{STEP_FILES, 0, "wal"},
      {STEP_OPEN, 0, NULL},
      {STEP_DO, 0, "INSERT INTO t VALUES(1, 'first')"},
      {STEP_CLOSE, 0, NULL},
      {STEP_FILES, 0, "journal"},
      {STEP_OPEN, 0, NULL},
      {STEP_DO, 0, "INSERT INTO t VALUES(5001, 'after')"},
      {STEP_CLOSE, 0, NULL},
      {STEP_FILES, 0, "sparse"},
      {STEP_OPEN, 0, NULL},
      {STEP_DO, 0, "UPDATE t SET x = 'changed' WHERE id = 2"},
      {STEP_CLOSE, 0, NULL}}},
    {"small", SMALL, SMALL_STEPS},
    {"small-msync", SMALL MSYNC, SMALL_STEPS},
    {"grow", SMALL, GROW_STEPS},
    {"grow-msync", SMALL MSYNC, GROW_STEPS},
    {"shrink",
     SMALL,
     {{STEP_FILES, 0, "incremental"},
      {STEP_OPEN, 0, NULL},
      {STEP_OPEN, 1, NULL},
      {STEP_DO, 0, "PRAGMA incremental_vacuum(100)"},
      {STEP_SNAPSHOT, 1, NULL},
      {STEP_DO, 0, "PRAGMA incremental_vacuum"},
      {STEP_DO, 0, "PRAGMA wal_checkpoint"},
      {STEP_DO, 0, ROWS(u, 7001, 7200, 300)},
      {STEP_LEAVE, 1, NULL},
      {STEP_DO, 0, "PRAGMA wal_checkpoint(TRUNCATE)"},
      {STEP_DO, 0, "DELETE FROM u WHERE id > 7050"},
      {STEP_DO, 0, "VACUUM"},
      {STEP_DO, 0, "SELECT dax_checkpoint('truncate')"},
      {STEP_CLOSE, 1, NULL},
      {STEP_CLOSE, 0, NULL}}},
    {"big", BIG, BIG_STEPS},
    {"big-msync", BIG MSYNC, BIG_STEPS},
    {"relog", SMALL, RELOG_STEPS},
    {"relog-msync", SMALL MSYNC, RELOG_STEPS},
    {"snapshot",
     SMALL,
     {{STEP_FILES, 0, "plain"},
      {STEP_OPEN, 0, NULL},
      {STEP_OPEN, 1, NULL},
      {STEP_OPEN, 2, NULL},
      {STEP_SNAPSHOT, 1, NULL},
      {STEP_DO, 0, "UPDATE t SET x = 'v1' || x"},
      {STEP_SNAPSHOT, 2, NULL},
      {STEP_DO, 0, "BEGIN; UPDATE t SET x = 'v2' || x; DELETE FROM u WHERE id % 2; COMMIT"},
      {STEP_DO, 0, "PRAGMA wal_checkpoint(PASSIVE)"},
      {STEP_DO, 0, "UPDATE t SET x = 'v3' || x WHERE id < 200"},
      {STEP_LEAVE, 2, NULL},
      {STEP_DO, 0, "UPDATE t SET x = 'v4' || x WHERE id < 20"},
      {STEP_LEAVE, 1, NULL},
      {STEP_ASK, 1, "SELECT count(*), sum(length(x)) FROM t"},
      {STEP_CLOSE, 2, NULL},
      {STEP_CLOSE, 1, NULL},
      {STEP_CLOSE, 0, NULL}}},
    {"recover", BIG, RECOVER_STEPS},
    {"recover-msync", BIG MSYNC, RECOVER_STEPS},
    {"temporary",
     SMALL,
     {{STEP_FILES, 0, "large"},
      {STEP_OPEN, 0, NULL},
      {STEP_PREPARE, 0, "PRAGMA temp_store = FILE; PRAGMA cache_size = 10"},
      {STEP_ASK, 0, "SELECT count(*) FROM (SELECT x, id FROM t ORDER BY x, id DESC)"},
      {STEP_DO, 0,
       "BEGIN; CREATE TEMP TABLE w AS SELECT * FROM t WHERE id < 300; DROP TABLE w; COMMIT"},
      {STEP_DO, 0,
       "BEGIN; UPDATE t SET id = id + 1000 WHERE id > 500; UPDATE OR FAIL t SET x = "
       "x || 'z' WHERE id < 9; COMMIT"},
      {STEP_DO, 0, "VACUUM"},
      {STEP_DO, 0, "PRAGMA cache_spill = 1; DELETE FROM t WHERE id % 2"},
      {STEP_CLOSE, 0, NULL}}},
    {"attach",
     SMALL,
     {{STEP_FILES, 0, "plain"},
      {STEP_OPEN, 0, NULL},
      {STEP_PREPARE, 0,
       "ATTACH 'file:@DIR@/other.db?vfs=shim' AS m;"
       "CREATE TABLE IF NOT EXISTS m.c(x)"},
      {STEP_DO, 0, "BEGIN; INSERT INTO t VALUES(6001, 'both'); INSERT INTO m.c VALUES(1); COMMIT"},
      {STEP_PREPARE, 0, "DETACH m"},
      {STEP_CLOSE, 0, NULL}}},
    {"exclusive",
     SMALL,
     {{STEP_FILES, 0, "plain"},
      {STEP_OPEN, 0, NULL},
      {STEP_DO, 0, "PRAGMA locking_mode = EXCLUSIVE; INSERT INTO t VALUES(1001, 'ex')"},
      {STEP_DO, 0, "UPDATE t SET x = x || '-' WHERE id < 40"},
      {STEP_DO, 0, "BEGIN; DELETE FROM u; SAVEPOINT s; DELETE FROM t; ROLLBACK TO s; ROLLBACK"},
      {STEP_DO, 0, "PRAGMA locking_mode = NORMAL; SELECT count(*) FROM t"},
      {STEP_CLOSE, 0, NULL}}},
};
const unsigned workload_count = sizeof workloads / sizeof *workloads;

/* --- files ------------------------------------------------------------------------------------ */

static const char *const suffixes[] = {"", "-journal", "-wal", "-dax"};

static void keep_files(const char *path, const char *set)
{
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        char *from = test_printf("%s%s", path, suffixes[i]);
        if (file_exists(from))
            file_copy(from, test_path("%s.set%s", set, suffixes[i]));
    }
}

void workload_put_files(const char *set, const char *path)
{
    char from[512], to[512];
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        snprintf(from, sizeof from, "%s/%s.set%s", test_dir(), set, suffixes[i]);
        snprintf(to, sizeof to, "%s%s", path, suffixes[i]);
        unlink(to);
        if (file_exists(from))
            file_copy(from, to);
    }
}

/* A database made by stock SQLite. */
static void make_stock(const char *set, const char *before, const char *sql)
{
    char *path = test_path("%s.make", set);
    sqlite3 *db = db_open_stock(path);
    db_exec(db, "%s", before);
    db_exec(db, "%s", SCHEMA);
    db_exec(db, "%s", sql);
    db_close(db);
    keep_files(path, set);
    file_remove_db(path);
}

static int make_wal(void *arg)
{
    char *path = arg;
    sqlite3 *db = db_open_stock(path);
    db_exec(db, "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0");
    db_exec(db, "%s", SCHEMA ROWS(u, 1, 50, 100));
    keep_files(path, "wal");
    return 0;
}

static int make_journal(void *arg)
{
    char *path = arg;
    sqlite3 *db = db_open_stock(path);
    db_exec(db, "%s", SCHEMA ROWS(t, 1, 400, 200));
    /* Spilled: pages are in the file, their images in the journal. */
    db_exec(db, "PRAGMA cache_size = 2; PRAGMA cache_spill = 2; BEGIN; UPDATE t SET x = 'half'");
    keep_files(path, "journal");
    return 0;
}

static int make_crashed(void *arg)
{
    char *path = arg;
    workload_put_files("plain", path);
    sqlite3 *db = db_open(path, SMALL);
    db_exec(db, "INSERT INTO t VALUES(8001, 'a')");
    db_exec(db, "BEGIN; INSERT INTO u SELECT id + 8000, x FROM t WHERE id < 100; COMMIT");
    db_exec(db, "UPDATE t SET x = 'last' WHERE id = 5");
    keep_files(path, "crashed");
    return 0;
}

static int make_crashed_big(void *arg)
{
    char *path = arg;
    workload_put_files("large", path);
    sqlite3 *db = db_open(path, BIG);
    /* A reader keeps the scratch pages from going home before the copy is made. */
    sqlite3 *reader = db_open(path, BIG);
    db_exec(reader, "BEGIN");
    (void)db_int(reader, "SELECT count(*) FROM t");
    db_exec(db, "UPDATE t SET x = lower(x)");
    db_exec(db, "INSERT INTO t VALUES(8001, 'b')");
    keep_files(path, "crashed-big");
    return 0;
}

static int make_crashed_relog(void *arg)
{
    char *path = arg;
    workload_put_files("plain", path);
    sqlite3 *db = db_open(path, SMALL), *reader = db_open(path, SMALL);
    sqlite3_stmt *st;
    CHECK(sqlite3_prepare_v2(reader, "SELECT id, x FROM t", -1, &st, NULL) == SQLITE_OK, "pin");
    CHECK(sqlite3_step(st) == SQLITE_ROW, "pin");
    db_exec(db, "UPDATE t SET x = 'r' || x");
    db_exec(db, "PRAGMA wal_checkpoint(PASSIVE)");
    CHECK(db_status(db, "counters.pages_relogged") > 0, "no page was relogged");
    db_exec(db, "INSERT INTO t VALUES(8001, 'c')");
    keep_files(path, "crashed-relog");
    return 0;
}

void workload_make_files(void)
{
    make_stock("plain", "", ROWS(t, 1, 300, 50) ";" ROWS(u, 1, 60, 20));
    make_stock("large", "", ROWS(t, 1, 900, 3000));
    make_stock("incremental", "PRAGMA auto_vacuum = INCREMENTAL",
               ROWS(t, 1, 700, 5000) "; DELETE FROM t WHERE id % 4");
    /* Pages of zeros, which file_copy leaves as holes. */
    make_stock("sparse", "", "INSERT INTO t VALUES(1, zeroblob(600000)), (2, 'x')");
    static const struct {
        const char *name;
        int (*make)(void *);
    } dying[] = {
        {"wal", make_wal},
        {"journal", make_journal},
        {"crashed", make_crashed},
        {"crashed-big", make_crashed_big},
        {"crashed-relog", make_crashed_relog},
    };
    for (size_t i = 0; i < sizeof dying / sizeof *dying; i++) {
        char *name = test_path("%s.make", dying[i].name);
        int rc = child_wait(child_start(dying[i].make, name));
        CHECK(rc == 0, "making \"%s\": %d", dying[i].name, rc);
        file_remove_db(name);
    }
}
