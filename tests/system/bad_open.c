/* bad_open.c: what cannot be opened is refused with a reason, and nothing is lost by the attempt.
 *
 * Catches: an error without file and cause; a file, sidecar or mark left behind by a refused open;
 * a second process that gets in or cannot tell who is there; a forked child that releases what its
 * parent holds; a misspelt option without effect; a limit that crashes instead of answering.
 */
#include "tests/system/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ_WRITE (SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)

/* Open and read the schema: what an application does before it can do anything. */
static int try_use(const char *path, const char *params, int flags, sqlite3 **db)
{
    log_clear();
    int rc = db_try_open(path, params, flags, db);
    return rc == SQLITE_OK ? db_try(*db, "SELECT count(*) FROM sqlite_schema") : rc;
}

/* Must be refused with `code`, and error text or log must have all words of the list. */
#define REFUSED(path, params, flags, code, ...)                                                    \
    do {                                                                                           \
        sqlite3 *r_db;                                                                             \
        int r_rc = try_use(path, params, flags, &r_db);                                            \
        CHECK((r_rc & 0xff) == (code), "%s (%s): code %d \"%s\", wanted %d", path, params, r_rc,   \
              sqlite3_errmsg(r_db), code);                                                         \
        sqlite3_close(r_db);                                                                       \
        CHECK(log_has(__VA_ARGS__, NULL), "%s (%s): the reason is not in the log:\n%s", path,      \
              params, log_text());                                                                 \
    } while (0)

static char *make_database(const char *name, int rows)
{
    char *path = test_path("%s", name);
    sqlite3 *db = db_open(path, "");
    db_exec(db, "CREATE TABLE IF NOT EXISTS t(x)");
    for (int i = 0; i < rows; i++)
        db_exec(db, "INSERT INTO t VALUES(%d)", i);
    db_close(db);
    return path;
}

static void check_rows(const char *path, int rows)
{
    sqlite3 *db = db_open(path, "");
    CHECK(db_int(db, "SELECT count(*) FROM t") == rows, "%s: rows", path);
    db_check_integrity(db, "after a refusal");
    db_close(db);
    stock_check(path);
}

static void become_nobody(void)
{
    if (getuid() == 0)
        CHECK(setgid(65534) == 0 && setuid(65534) == 0, "setuid: %s", strerror(errno));
}

/* --- places ----------------------------------------------------------------------------------- */

static void test_places(void)
{
    char *missing = test_path("nosuch/app.db");
    REFUSED(missing, "", READ_WRITE, SQLITE_CANTOPEN, "nosuch/app.db", "directory");
    char *absent = test_path("absent.db");
    REFUSED(absent, "", SQLITE_OPEN_READWRITE, SQLITE_CANTOPEN, "absent.db", "missing");
    REFUSED(absent, "", SQLITE_OPEN_READONLY, SQLITE_CANTOPEN, "absent.db", "missing");
    CHECK(!file_exists(absent), "a refused open made a file");
    char *dir = test_path("directory.db");
    CHECK(mkdir(dir, 0755) == 0, "mkdir");
    REFUSED(dir, "", READ_WRITE, SQLITE_CANTOPEN, "directory.db", "is a directory");
    char *through = test_path("plain/app.db");
    FILE *f = fopen(test_path("plain"), "we");
    CHECK(f && fclose(f) == 0, "fopen");
    REFUSED(through, "", READ_WRITE, SQLITE_CANTOPEN, "plain/app.db"); /* SQLite's own words */
    char *fifo = test_path("fifo.db");
    CHECK(mkfifo(fifo, 0644) == 0, "mkfifo");
    REFUSED(fifo, "", READ_WRITE, SQLITE_CANTOPEN, "fifo.db", "regular");
    REFUSED("/dev/null", "", READ_WRITE, SQLITE_CANTOPEN, "/dev/null", "regular");
    test_say("places: ok");
}

static void test_not_a_database(void)
{
    char *text = test_path("text.db");
    FILE *f = fopen(text, "we");
    for (int i = 0; i < 1000; i++)
        fprintf(f, "this is not a database, line %d\n", i);
    CHECK(fclose(f) == 0, "fclose");
    int64_t bytes = file_bytes(text);
    REFUSED(text, "", READ_WRITE, SQLITE_NOTADB, "");
    CHECK(file_bytes(text) == bytes, "a refused file was changed");
    CHECK(!file_exists(test_path("text.db-dax")), "a refused file got a sidecar");
    char line[8];
    file_peek(text, 0, line, 8);
    CHECK(!memcmp(line, "this is ", 8), "a refused file was changed");

    char *newer = make_database("newer.db", 3); /* a version that SQLite itself does not know */
    file_poke(newer, 19, "\x03", 1);
    REFUSED(newer, "", READ_WRITE, SQLITE_NOTADB, "");
    file_poke(newer, 19, "\x01", 1);
    check_rows(newer, 3);

    char *empty = test_path("empty.db");
    f = fopen(empty, "we");
    CHECK(f && fclose(f) == 0, "fopen");
    sqlite3 *db = db_open(empty, "");
    db_exec(db, "CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    db_close(db);
    check_rows(empty, 1);
    test_say("not a database: ok");
}

static void test_options(void)
{
    char *path = make_database("options.db", 2);
    REFUSED(path, "dax_lgo_size=1m", READ_WRITE, SQLITE_CANTOPEN, "dax_lgo_size", "unknown");
    REFUSED(path, "dax_log_size=abc", READ_WRITE, SQLITE_CANTOPEN, "dax_log_size", "abc");
    REFUSED(path, "dax_log_size=1", READ_WRITE, SQLITE_CANTOPEN, "dax_log_size", "between");
    REFUSED(path, "dax_log_size=99999999999999999999", READ_WRITE, SQLITE_CANTOPEN, "dax_log_size");
    REFUSED(path, "dax_log_size=-5", READ_WRITE, SQLITE_CANTOPEN, "dax_log_size");
    REFUSED(path, "dax_log_size=", READ_WRITE, SQLITE_CANTOPEN, "dax_log_size");
    REFUSED(path, "dax_persist=fast", READ_WRITE, SQLITE_CANTOPEN, "dax_persist", "fast", "msync");
    REFUSED(path, "dax_zero_copy=maybe", READ_WRITE, SQLITE_CANTOPEN, "dax_zero_copy", "maybe");
    REFUSED(path, "dax_private_size=3", READ_WRITE, SQLITE_CANTOPEN, "dax_private_size");
    REFUSED(path, "dax_persist=auto&dax_persist=msync", READ_WRITE, SQLITE_CANTOPEN, "twice");
    REFUSED(path, "DAX_PERSIST=auto", READ_WRITE, SQLITE_CANTOPEN, "DAX_PERSIST");
    REFUSED(path, "immutable=1", READ_WRITE, SQLITE_CANTOPEN, "immutable");
    REFUSED(path, "nolock=1", READ_WRITE, SQLITE_CANTOPEN, "nolock");
    check_rows(path, 2);

    /* Wrong order, wrong arguments of the functions. */
    sqlite3 *db = db_open_stock(path);
    CHECK(db_try(db, "SELECT dax_status()") == SQLITE_ERROR &&
              text_has(sqlite3_errmsg(db), "vfs=dax"),
          "dax_status() on a stock database: %s", sqlite3_errmsg(db));
    CHECK(db_try(db, "SELECT dax_checkpoint()") == SQLITE_ERROR, "dax_checkpoint() on stock");
    db_close(db);
    db = db_open(path, "");
    CHECK(db_try(db, "SELECT dax_checkpoint('sometimes')") == SQLITE_ERROR &&
              text_has(sqlite3_errmsg(db), "sometimes"),
          "bad mode: %s", sqlite3_errmsg(db));
    CHECK(db_try(db, "SELECT dax_status('nosuch')") == SQLITE_ERROR &&
              text_has(sqlite3_errmsg(db), "nosuch"),
          "bad schema: %s", sqlite3_errmsg(db));
    /* Within a transaction that has changed pages already (the small cache has spilled). */
    db_exec(db, "PRAGMA cache_size = 1; BEGIN; INSERT INTO t VALUES(zeroblob(1000000))");
    CHECK(db_try(db, "SELECT dax_checkpoint()") != SQLITE_OK, "checkpoint in a write transaction");
    CHECK(text_has(sqlite3_errmsg(db), "transaction"), "no reason: %s", sqlite3_errmsg(db));
    CHECK(db_try(db, "PRAGMA wal_checkpoint") != SQLITE_OK, "checkpoint in a write transaction");
    db_exec(db, "ROLLBACK");
    db_close(db);
    test_say("options: ok");
}

/* --- permissions ------------------------------------------------------------------------------ */

/* Readable, not writable: reads work, writes say so, nothing is put beside the file. */
static void expect_read_only(const char *path, const char *why)
{
    sqlite3 *db;
    CHECK_RC(db, try_use(path, "", READ_WRITE, &db), SQLITE_OK);
    CHECK(db_int(db, "SELECT count(*) FROM t") == 5, "%s: rows", why);
    CHECK(db_status(db, "active") == 0, "%s: marked", why);
    int rc = db_try(db, "INSERT INTO t VALUES(1)");
    CHECK((rc & 0xff) == SQLITE_READONLY, "%s: INSERT says %d %s", why, rc, sqlite3_errmsg(db));
    CHECK(db_int(db, "SELECT count(*) FROM t") == 5, "%s: rows after a refused INSERT", why);
    db_exec(db, "CREATE TEMP TABLE tt(x); INSERT INTO tt SELECT x FROM t");
    db_close(db);
    CHECK(!file_exists(test_printf("%s-dax", path)), "%s: a sidecar was made", why);
}

static int child_permissions(void *arg)
{
    (void)arg;
    become_nobody();
    REFUSED(test_path("secret.db"), "", READ_WRITE, SQLITE_CANTOPEN, "secret.db", "permission");
    REFUSED(test_path("closed/new.db"), "", READ_WRITE, SQLITE_CANTOPEN, "new.db", "permission");
    expect_read_only(test_path("readonly.db"), "a read-only file");
    /* The file may be written, its directory not: no place for a sidecar. */
    sqlite3 *db;
    char *path = test_path("closed/open.db");
    CHECK_RC(db, try_use(path, "", READ_WRITE, &db), SQLITE_OK);
    CHECK(db_int(db, "SELECT count(*) FROM t") == 5, "rows");
    log_clear();
    int rc = db_try(db, "INSERT INTO t VALUES(1)");
    CHECK(rc != SQLITE_OK, "INSERT without a sidecar");
    CHECK(log_has("open.db-dax", "ermi", NULL), "no reason: %d %s\n%s", rc, sqlite3_errmsg(db),
          log_text());
    CHECK(db_int(db, "SELECT count(*) FROM t") == 5, "rows after a refused INSERT");
    db_close(db);
    return 0;
}

static void test_permissions(void)
{
    chmod(test_dir(), 0755);
    CHECK(mkdir(test_path("closed"), 0755) == 0, "mkdir");
    char *secret = make_database("secret.db", 5), *ro = make_database("readonly.db", 5);
    char *open_db = make_database("closed/open.db", 5);
    sqlite3 *db = db_open(open_db, "");
    db_close(db);
    unlink(test_path("closed/open.db-dax"));
    unlink(test_path("readonly.db-dax"));
    chmod(secret, 0);
    chmod(ro, 0444);
    chmod(open_db, 0666);
    chmod(test_path("closed"), 0555);
    CHECK(child_wait(child_start(child_permissions, NULL)) == 0, "the child has failed");
    chmod(test_path("closed"), 0755);
    chmod(secret, 0644);
    chmod(ro, 0644);
    check_rows(secret, 5);
    check_rows(ro, 5);
    check_rows(open_db, 5);

    /* Asked for reading only: the same, of a file that could be written. */
    unlink(test_path("readonly.db-dax"));
    CHECK_RC(db, try_use(ro, "mode=ro", SQLITE_OPEN_READWRITE, &db), SQLITE_OK);
    CHECK((db_try(db, "INSERT INTO t VALUES(1)") & 0xff) == SQLITE_READONLY, "mode=ro");
    db_close(db);
    CHECK(!file_exists(test_path("readonly.db-dax")), "mode=ro made a sidecar");
    test_say("permissions: ok");
}

static int child_read_only_fs(void *arg)
{
    (void)arg;
    char *mnt = test_path("mnt");
    if (unshare(getuid() ? CLONE_NEWUSER | CLONE_NEWNS : CLONE_NEWNS) != 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", mnt, "tmpfs", 0, "size=64m") != 0) {
        test_say("read-only file system: SKIPPED, cannot mount a tmpfs here: %s", strerror(errno));
        return 77;
    }
    char *path = make_database("mnt/app.db", 5);
    char *crashed = test_path("mnt/crashed.db");
    unlink(test_path("mnt/app.db-dax"));
    file_copy(test_path("crash.db"), crashed);
    file_copy(test_path("crash.db-dax"), test_path("mnt/crashed.db-dax"));
    CHECK(mount(NULL, mnt, NULL, MS_REMOUNT | MS_RDONLY, "size=64m") == 0, "remount: %s",
          strerror(errno));
    expect_read_only(path, "a read-only file system");
    REFUSED(test_path("mnt/new.db"), "", READ_WRITE, SQLITE_CANTOPEN, "new.db");
    /* What needs recovery cannot be read there, and must not be shown as it lies. */
    sqlite3 *db;
    log_clear();
    int rc = try_use(crashed, "", READ_WRITE, &db);
    CHECK(rc != SQLITE_OK, "an unrecovered database on a read-only file system was opened");
    CHECK(log_has("crashed.db", NULL), "no reason: %d %s", rc, log_text());
    sqlite3_close(db);
    CHECK(mount(NULL, mnt, NULL, MS_REMOUNT, "size=64m") == 0, "remount: %s", strerror(errno));
    check_rows(crashed, 5);
    check_rows(path, 5);
    return 0;
}

static int child_crash(void *arg)
{
    sqlite3 *db = db_open(arg, "");
    db_exec(db, "CREATE TABLE t(x)");
    for (int i = 0; i < 5; i++)
        db_exec(db, "INSERT INTO t VALUES(%d)", i);
    return kill(getpid(), SIGKILL);
}

static void test_read_only_fs(void)
{
    CHECK(mkdir(test_path("mnt"), 0755) == 0, "mkdir");
    CHECK(child_wait(child_start(child_crash, test_path("crash.db"))) == -SIGKILL, "crash");
    int rc = child_wait(child_start(child_read_only_fs, NULL));
    CHECK(rc == 0 || rc == 77, "the child has failed: %d", rc);
    check_rows(test_path("crash.db"), 5);
    if (rc == 0)
        test_say("read-only file system: ok");
}

/* --- names ------------------------------------------------------------------------------------ */

/* A file has one store, whatever it is called; names that URIs must escape do as well. */
static void test_names(void)
{
    char *path = make_database("named.db", 5), *link = test_path("link.db");
    CHECK(symlink("named.db", link) == 0 && mkdir(test_path("sub"), 0755) == 0, "symlink, mkdir");
    char *round = test_path("sub/../named.db");
    sqlite3 *a = db_open(path, ""), *b = db_open(link, ""), *c = db_open(round, "");
    db_exec(a, "INSERT INTO t VALUES(5)");
    CHECK(db_int(b, "SELECT count(*) FROM t") == 6, "through a symbolic link");
    db_exec(b, "BEGIN IMMEDIATE; INSERT INTO t VALUES(6)");
    CHECK(db_try(c, "BEGIN IMMEDIATE") == SQLITE_BUSY, "two writers of one file");
    db_exec(b, "COMMIT");
    CHECK(db_int(c, "SELECT count(*) FROM t") == 7, "through a detour");
    CHECK(!file_exists(test_path("link.db-dax")), "a sidecar beside the link");
    char *hard = test_path("hard.db"); /* cannot be told from a file of its own by its name */
    CHECK(unlink(hard) != 0 && !symlink("x", test_path("dangling.db")), "setup");
    if (linkat(AT_FDCWD, path, AT_FDCWD, hard, 0) == 0) {
        sqlite3 *d;
        int rc = try_use(hard, "", READ_WRITE, &d);
        CHECK(rc == SQLITE_OK || (rc & 0xff) == SQLITE_BUSY, "a hard link: %d", rc);
        if (rc == SQLITE_OK) {
            CHECK(db_int(d, "SELECT count(*) FROM t") == 7, "through a hard link");
            db_exec(b, "BEGIN IMMEDIATE");
            CHECK(db_try(d, "BEGIN IMMEDIATE") == SQLITE_BUSY, "two writers through a hard link");
            db_exec(b, "COMMIT");
        }
        sqlite3_close(d);
    }
    db_close(a);
    db_close(b);
    db_close(c);
    unlink(hard);
    check_rows(path, 7);

    static const char *const odd[][2] = {{"a b%c?d#e.db", "a%20b%25c%3fd%23e.db"},
                                         {"\xc3\xa4\xe6\xbc\xa2.db", "\xc3\xa4\xe6\xbc\xa2.db"},
                                         {"x&vfs=unix.db", "x&vfs=unix.db"},
                                         {"'quote\".db", "'quote\".db"}};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        char *uri = test_path("%s", odd[i][1]), *file = test_path("%s", odd[i][0]);
        sqlite3 *db = db_open(uri, "");
        db_exec(db, "CREATE TABLE t(x); INSERT INTO t VALUES(1)");
        CHECK(file_exists(file) && file_exists(test_printf("%s-dax", file)), "%s: not there", file);
        db_close(db);
        db = db_open(uri, "");
        CHECK(db_int(db, "SELECT count(*) FROM t") == 1, "%s: rows", file);
        db_close(db);
    }
    REFUSED(test_path("dangling.db"), "", SQLITE_OPEN_READWRITE, SQLITE_CANTOPEN, "missing");
    test_say("names: ok");
}

/* --- two processes ---------------------------------------------------------------------------- */

struct holder {
    const char *path;
    bool stock;
    int ready[2], end[2];
};

static int child_hold(void *arg)
{
    struct holder *h = arg;
    char c;
    sqlite3 *db = h->stock ? db_open_stock(h->path) : db_open(h->path, "");
    db_exec(db,
            h->stock ? "BEGIN IMMEDIATE; INSERT INTO t VALUES(100)" : "INSERT INTO t VALUES(100)");
    CHECK(write(h->ready[1], "r", 1) == 1 && read(h->end[0], &c, 1) == 1, "pipe");
    if (h->stock)
        db_exec(db, "ROLLBACK");
    db_close(db);
    return 0;
}

static void test_second_process(bool stock_first)
{
    char c, *path = make_database(stock_first ? "held_stock.db" : "held.db", 5);
    struct holder h = {.path = path, .stock = stock_first};
    CHECK(pipe(h.ready) == 0 && pipe(h.end) == 0, "pipe");
    pid_t pid = child_start(child_hold, &h);
    CHECK(read(h.ready[0], &c, 1) == 1, "pipe");
    char *who = test_printf("%d", (int)pid);
    REFUSED(path, "", READ_WRITE, SQLITE_BUSY, "locked", "held", who);
    REFUSED(path, "", READ_WRITE, SQLITE_BUSY, "locked", who); /* the refusal has broken nothing */
    if (!stock_first) {
        sqlite3 *db = db_open_stock(path);
        int rc = db_try(db, "SELECT count(*) FROM t");
        CHECK(rc == SQLITE_BUSY || rc == SQLITE_NOTADB, "stock beside a live daxlite: %d", rc);
        rc = db_try(db, "INSERT INTO t VALUES(1)");
        CHECK(rc == SQLITE_BUSY || rc == SQLITE_NOTADB, "stock writes beside a live daxlite: %d",
              rc);
        db_close(db);
    }
    CHECK(write(h.end[1], "e", 1) == 1, "pipe");
    CHECK(child_wait(pid) == 0, "the holder has failed");
    check_rows(path, stock_first ? 5 : 6);
    test_say("second process, the first is %s: ok", stock_first ? "stock SQLite" : "daxlite");
}

/* --- fork ------------------------------------------------------------------------------------- */

static int child_after_fork(void *arg)
{
    sqlite3 *db = arg;
    log_clear();
    int rc = db_try(db, "SELECT count(*) FROM t");
    CHECK(rc != SQLITE_OK, "a connection works in a forked child");
    CHECK(log_has("fork", NULL), "no reason: %s", log_text());
    CHECK(db_try(db, "INSERT INTO t VALUES(1)") != SQLITE_OK, "a forked child may write");
    CHECK(db_try(db, "PRAGMA wal_checkpoint(TRUNCATE)") != SQLITE_OK, "a forked child checkpoints");
    sqlite3_close_v2(db);
    /* The parent has it: a new connection of the child is refused like any other process. */
    sqlite3 *own;
    rc = try_use(test_path("fork.db"), "", READ_WRITE, &own);
    CHECK((rc & 0xff) == SQLITE_BUSY, "a forked child opens its parent's database: %d", rc);
    sqlite3_close(own);
    own = db_open(test_path("fork_own.db"), "");
    db_exec(own, "CREATE TABLE IF NOT EXISTS t(x); DELETE FROM t; INSERT INTO t VALUES(1)");
    db_close(own);
    return 0;
}

static int child_intruder(void *arg)
{
    sqlite3 *db;
    int rc = try_use(arg, "", READ_WRITE, &db);
    return (rc & 0xff) == SQLITE_BUSY ? 0 : 1;
}

static void test_fork(void)
{
    char *path = make_database("fork.db", 5);
    sqlite3 *db = db_open(path, "");
    db_exec(db, "INSERT INTO t VALUES(5)");
    sqlite3_stmt *open_read;
    CHECK_RC(db, sqlite3_prepare_v2(db, "SELECT x FROM t", -1, &open_read, NULL), SQLITE_OK);
    CHECK(sqlite3_step(open_read) == SQLITE_ROW, "step");
    /* The child inherits a snapshot and pins; then a transaction. */
    CHECK(child_wait(child_start(child_after_fork, db)) == 0, "the child has failed");
    CHECK(sqlite3_step(open_read) == SQLITE_ROW, "the parent's SELECT goes on");
    sqlite3_finalize(open_read);
    db_exec(db, "BEGIN; INSERT INTO t VALUES(6)");
    CHECK(child_wait(child_start(child_after_fork, db)) == 0, "the child has failed");
    db_exec(db, "COMMIT");
    CHECK(db_int(db, "SELECT count(*) FROM t") == 7, "rows");
    /* A child that was never told of the database at all: the lock must still be there. */
    CHECK(child_wait(child_start(child_intruder, path)) == 0, "the lock went with the child");
    db_close(db);
    check_rows(path, 7);
    check_rows(test_path("fork_own.db"), 1);
    test_say("fork: ok");
}

/* --- many connections ------------------------------------------------------------------------- */

#define MANY 1000
#define TOO_MANY 4200

static void test_many_connections(void)
{
    struct rlimit r;
    CHECK(getrlimit(RLIMIT_NOFILE, &r) == 0, "getrlimit");
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
    char *path = make_database("many.db", 5);
    static sqlite3 *db[TOO_MANY];
    for (int i = 0; i < MANY; i++) {
        db[i] = db_open(path, "");
        CHECK(db_int(db[i], "SELECT count(*) FROM t") == 5, "connection %d", i);
    }
    for (int i = 0; i < MANY; i++)
        db_exec(db[i], "BEGIN; SELECT * FROM t");
    sqlite3 *w = db_open(path, "");
    for (int i = 0; i < 50; i++)
        db_exec(w, "INSERT INTO t VALUES(%d)", i);
    CHECK(db_status(w, "snapshots") >= MANY, "snapshots");
    for (int i = 0; i < MANY; i++) {
        CHECK(db_int(db[i], "SELECT count(*) FROM t") == 5, "snapshot of connection %d", i);
        db_exec(db[i], "COMMIT");
        CHECK(db_int(db[i], "SELECT count(*) FROM t") == 55, "connection %d", i);
    }
    db_close(w);
    int n = MANY, rc = SQLITE_OK;
    log_clear();
    while (n < TOO_MANY && (rc = db_try_open(path, "", READ_WRITE, &db[n])) == SQLITE_OK)
        n++;
    if (rc != SQLITE_OK) {
        sqlite3_close(db[n]);
        CHECK(log_has("connections", NULL) || log_has("open files", NULL),
              "refused at %d without a reason: %d %s", n, rc, log_text());
    }
    CHECK(db_int(db[n - 1], "SELECT count(*) FROM t") == 55, "the last connection");
    while (n > 0)
        db_close(db[--n]);
    check_rows(path, 55);
    test_say("many connections: ok");
}

int main(void)
{
    test_start("bad_open");
    test_places();
    test_not_a_database();
    test_options();
    test_permissions();
    test_read_only_fs();
    test_names();
    test_second_process(false);
    test_second_process(true);
    test_fork();
    test_many_connections();
    return test_finish();
}
