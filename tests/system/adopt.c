/* adopt.c: what stock SQLite left is recovered first, and stock SQLite gets a plain file back.
 *
 * Catches: a hot journal or a left-over WAL ignored (lost or half transactions); a WAL-mode header
 * that stays legacy or shows as WAL inside; a file that stock SQLite opens while the log holds
 * newer pages (stale rows); a journal replayed into a database whose state is in our log; lock
 * bytes that a live stock process holds and we do not see.
 */
#include "tests/system/harness.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct shape {
    unsigned page_size;
    int auto_vacuum;
    bool wal;
};

/* Rows 1..n, the sum of v is n(n+1)/2 whatever else happened. */
static void check_rows(sqlite3 *db, int n, const char *when)
{
    CHECK(db_int(db, "SELECT count(*) FROM t") == n, "%s: %lld rows, wanted %d", when,
          (long long)db_int(db, "SELECT count(*) FROM t"), n);
    CHECK(db_int(db, "SELECT coalesce(sum(v), 0) FROM t") == (int64_t)n * (n + 1) / 2, "%s: sum",
          when);
    db_check_integrity(db, when);
}

static void check_version_bytes(const char *path, const struct shape *s, const char *when)
{
    unsigned char v[2], want = s->wal ? 2 : 1;
    file_peek(path, 18, v, 2);
    CHECK(v[0] == want && v[1] == want, "%s: header versions are %u %u, wanted %u", when, v[0],
          v[1], want);
}

static sqlite3 *make_stock(const char *path, const struct shape *s, int rows)
{
    sqlite3 *db = db_open_stock(path);
    db_exec(db, "PRAGMA page_size = %u; PRAGMA auto_vacuum = %d", s->page_size, s->auto_vacuum);
    if (s->wal)
        db_exec(db, "PRAGMA journal_mode = wal");
    db_exec(db,
            "CREATE TABLE t(n INTEGER PRIMARY KEY, v INT, x); CREATE INDEX tx ON t(v, x);"
            "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < %d)"
            " INSERT INTO t SELECT i, i, zeroblob(i %% 700) FROM s",
            rows);
    return db;
}

static void add_row(sqlite3 *db, int n)
{
    db_exec(db, "INSERT INTO t VALUES(%d, %d, zeroblob(%d))", n, n, n % 700);
}

/* Through dax: n rows are there, one more goes in; at rest, stock sees it, and adds one itself. */
static void check_adopted(const char *path, const struct shape *s, int n, const char *what)
{
    sqlite3 *db = db_open(path, "");
    check_rows(db, n, what);
    CHECK(!strcmp(db_text(db, "PRAGMA journal_mode"), "wal"), "%s: journal_mode", what);
    CHECK(db_int(db, "PRAGMA page_size") == s->page_size, "%s: page size", what);
    add_row(db, n + 1);
    check_rows(db, n + 1, what);
    db_close(db);
    check_version_bytes(path, s, what);
    CHECK(!file_exists(test_printf("%s-journal", path)), "%s: a journal is left", what);
    db = db_open_stock(path);
    check_rows(db, n + 1, what);
    CHECK(!strcmp(db_text(db, "PRAGMA journal_mode"), s->wal ? "wal" : "delete"),
          "%s: stock's mode", what);
    add_row(db, n + 2);
    db_close(db);
    db = db_open(path, "");
    check_rows(db, n + 2, "daxlite once more");
    db_close(db);
    check_version_bytes(path, s, "after the second time");
    stock_check(path);
}

/* --- clean files ------------------------------------------------------------------------------ */

static void test_clean(const struct shape *s)
{
    char *path = test_path("clean.db");
    db_close(make_stock(path, s, 1000));
    check_adopted(path, s, 1000, "a clean database");
    /* Opened and closed without a write: not a byte has changed. */
    sqlite3 *stock = db_open_stock(path);
    uint64_t before = db_content_hash(stock, "main");
    db_close(stock);
    int64_t bytes = file_bytes(path);
    char *copy = test_path("clean.copy");
    file_copy(path, copy);
    sqlite3 *db = db_open(path, "");
    CHECK(db_content_hash(db, "main") == before, "content");
    db_close(db);
    CHECK(file_bytes(path) == bytes, "reading changed the size");
    CHECK(file_same(path, copy), "reading changed the file");
    file_remove_db(path);
    file_remove_db(copy);
}

/* --- killed stock processes ------------------------------------------------------------------- */

struct crash {
    const char *path;
    const struct shape *shape;
    bool in_transaction;
};

static int child_crash(void *arg)
{
    struct crash *c = arg;
    sqlite3 *db = make_stock(c->path, c->shape, 1000);
    db_exec(db, "PRAGMA wal_autocheckpoint = 0");
    for (int n = 1001; n <= 1100; n++)
        add_row(db, n);
    if (c->in_transaction) { /* spills into the file, or uncommitted into the WAL */
        db_exec(db, "PRAGMA cache_size = 5; BEGIN;"
                    "UPDATE t SET v = v + 1000, x = zeroblob(900); DELETE FROM t WHERE n %% 3");
        if (!c->shape->wal)
            CHECK(file_bytes(test_printf("%s-journal", c->path)) > 512, "the journal is not hot");
    }
    return kill(getpid(), SIGKILL);
}

static void test_crashed(const struct shape *s, bool in_transaction)
{
    char *path = test_path("crashed.db");
    struct crash c = {path, s, in_transaction};
    CHECK(child_wait(child_start(child_crash, &c)) == -SIGKILL, "crash");
    if (s->wal)
        CHECK(file_bytes(test_printf("%s-wal", path)) > 1000, "no WAL is left over");
    char *what = test_printf("a left-over %s, page size %u%s", s->wal ? "WAL" : "journal",
                             s->page_size, in_transaction ? ", killed within a transaction" : "");
    check_adopted(path, s, 1100, what);
    file_remove_db(path);

    /* The same, with the first open being one that only reads. */
    CHECK(child_wait(child_start(child_crash, &c)) == -SIGKILL, "crash");
    sqlite3 *db;
    int rc = db_try_open(path, "mode=ro", SQLITE_OPEN_READONLY, &db);
    if (rc == SQLITE_OK)
        check_rows(db, 1100, what);
    sqlite3_close(db);
    check_adopted(path, s, 1100, what);
    file_remove_db(path);
}

/* --- beside a live or crashed daxlite --------------------------------------------------------- */

struct visit {
    const char *path;
    int rows; /* newest committed */
};

/* Another process tries with stock SQLite. 0: refused; 1: got in and saw the newest state. */
static int child_visit(void *arg)
{
    struct visit *v = arg;
    sqlite3 *db = db_open_stock(v->path);
    int rc = db_try(db, "SELECT count(*) FROM t"), result = 0;
    if (rc == SQLITE_OK) {
        check_rows(db, v->rows, "stock SQLite beside daxlite");
        result = 1;
    } else {
        CHECK(rc == SQLITE_BUSY || rc == SQLITE_NOTADB, "stock SQLite beside daxlite: %d %s", rc,
              sqlite3_errmsg(db));
    }
    rc = db_try(db, "INSERT INTO t VALUES(999999, 0, 0)");
    CHECK(rc == SQLITE_BUSY || rc == SQLITE_NOTADB, "stock SQLite writes beside daxlite: %d", rc);
    rc = db_try(db, "PRAGMA journal_mode = %s", "truncate");
    db_close(db);
    return result;
}

static int visit(const char *path, int rows)
{
    struct visit v = {path, rows};
    int rc = child_wait(child_start(child_visit, &v));
    CHECK(rc == 0 || rc == 1, "the visitor has failed: %d", rc);
    return rc;
}

static int child_dax_crash(void *arg)
{
    sqlite3 *db = db_open(arg, "");
    for (int n = 101; n <= 150; n++)
        add_row(db, n);
    return kill(getpid(), SIGKILL);
}

static void test_beside(const struct shape *s)
{
    char *path = test_path("beside.db");
    db_close(make_stock(path, s, 100));
    sqlite3 *db = db_open(path, "");
    check_rows(db, 100, "before");
    visit(path, 100); /* nothing written yet: may be let in to read */
    db_exec(db, "BEGIN IMMEDIATE; DELETE FROM t");
    CHECK(visit(path, 100) == 0, "stock SQLite got in while daxlite writes");
    db_exec(db, "ROLLBACK");
    CHECK(visit(path, 100) == 0, "stock SQLite got in");
    db_exec(db, "PRAGMA wal_checkpoint(TRUNCATE)");
    CHECK(visit(path, 100) == 0, "stock SQLite got in after a checkpoint");
    check_rows(db, 100, "daxlite after the visits");
    db_close(db);
    CHECK(child_wait(child_start(child_dax_crash, path)) == -SIGKILL, "crash");
    CHECK(visit(path, 150) == 0, "stock SQLite reads a crashed database");
    char *copy = test_path("copy_of_crashed.db"); /* without the sidecar, like a careless backup */
    file_copy(path, copy);
    CHECK(visit(copy, 150) == 0, "stock SQLite reads a copy of a crashed database");
    /* A journal that somebody puts beside it is neither replayed nor passed over. */
    char *journal = test_printf("%s-journal", path);
    FILE *f = fopen(journal, "we");
    static const unsigned char magic[] = {0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1,
                                          0x63, 0xd7, 0,    0,    0,    1};
    CHECK(f && fwrite(magic, 1, sizeof magic, f) == sizeof magic && fclose(f) == 0, "fwrite");
    CHECK(truncate(journal, 512 + s->page_size + 8) == 0, "truncate");
    log_clear();
    int rc = db_try_open(path, "", SQLITE_OPEN_READWRITE, &db);
    CHECK((rc & 0xff) == SQLITE_CANTOPEN, "a journal beside a marked file: %d", rc);
    CHECK(log_has("beside.db-journal", NULL), "no reason: %s", log_text());
    sqlite3_close(db);
    CHECK(file_exists(journal) && unlink(journal) == 0, "the journal is gone");
    check_adopted(path, s, 150, "a crashed daxlite");
    file_remove_db(path);
    file_remove_db(copy);
}

/* A stock process has it: not even to look at. */
struct live {
    const char *path;
    const struct shape *shape;
    int ready[2], end[2];
};

static int child_live(void *arg)
{
    struct live *l = arg;
    char c;
    sqlite3 *db = db_open_stock(l->path);
    db_exec(db, "SELECT count(*) FROM t; BEGIN; INSERT INTO t VALUES(5000, 5000, 0)");
    CHECK(write(l->ready[1], "r", 1) == 1 && read(l->end[0], &c, 1) == 1, "pipe");
    db_exec(db, "ROLLBACK");
    db_close(db);
    return 0;
}

static void test_live_stock(const struct shape *s)
{
    char c, *path = test_path("live.db");
    db_close(make_stock(path, s, 100));
    struct live l = {.path = path, .shape = s};
    CHECK(pipe(l.ready) == 0 && pipe(l.end) == 0, "pipe");
    pid_t pid = child_start(child_live, &l);
    CHECK(read(l.ready[0], &c, 1) == 1, "pipe");
    sqlite3 *db;
    log_clear();
    int rc = db_try_open(path, "", SQLITE_OPEN_READWRITE, &db);
    if (rc == SQLITE_OK)
        rc = db_try(db, "SELECT count(*) FROM t");
    CHECK((rc & 0xff) == SQLITE_BUSY, "beside a live stock writer: %d %s", rc, sqlite3_errmsg(db));
    CHECK(log_has("locked", test_printf("%d", (int)pid), NULL), "the log does not say by whom:\n%s",
          log_text());
    sqlite3_close(db);
    CHECK(write(l.end[1], "e", 1) == 1, "pipe");
    CHECK(child_wait(pid) == 0, "the stock process was disturbed");
    check_adopted(path, s, 100, "after the stock process");
    file_remove_db(path);
}

int main(void)
{
    test_start("adopt");
    static const struct shape shapes[] = {{4096, 0, false}, {4096, 0, true},   {1024, 1, false},
                                          {512, 2, true},   {65536, 2, false}, {8192, 1, true}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const struct shape *s = &shapes[i];
        test_clean(s);
        test_crashed(s, false);
        test_crashed(s, true);
        test_beside(s);
        test_live_stock(s);
        test_say("page size %u, auto_vacuum %d, %s: ok", s->page_size, s->auto_vacuum,
                 s->wal ? "WAL" : "rollback journal");
    }
    return test_finish();
}
