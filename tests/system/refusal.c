/* refusal.c: who may not write is told so at RESERVED, and nothing of it is ever seen or lost.
 *
 * Catches: a refusal after SQLite has changed its cache (phantom rows); a COMMIT that says OK for a
 * transaction that is not there; a stale snapshot that is allowed to write (lost updates); a busy
 * handler that is not asked, or asked where waiting cannot help; a refusal that ends the reader's
 * snapshot; locking_mode=EXCLUSIVE that defers commits or lets another writer in.
 *
 * The model is a copy of the committed rows per connection. It is right for stock SQLite in WAL
 * mode, too (DAX_TEST_VFS=unix), whose answers daxlite's are meant to be.
 *
 * Usage: refusal [STEPS]; default 60000 per page size.
 */
#include "tests/system/harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEYS 24
#define CONNECTIONS 4
#define SAVEPOINTS 3

struct rows {
    int64_t v[KEYS]; /* -1: no row */
};

struct side {
    sqlite3 *db;
    bool in_txn;       /* BEGIN has been run */
    bool has_snapshot; /* a read has begun in it */
    bool writer;
    bool dirty;       /* has changed a row, whatever became of it */
    uint64_t version; /* of the snapshot */
    struct rows view; /* what it must see, if it has a snapshot */
    struct rows saved[SAVEPOINTS];
    int saves;
    sqlite3_stmt *cursor; /* an open SELECT, outside BEGIN */
    struct rows cursor_view;
    int cursor_key;
};

struct model {
    struct side side[CONNECTIONS];
    struct rows committed;
    uint64_t version;
    struct rng rng;
    unsigned busy, stale, commits, rollbacks;
};

static struct side *writer_of(struct model *m)
{
    for (int i = 0; i < CONNECTIONS; i++)
        if (m->side[i].writer)
            return &m->side[i];
    return NULL;
}

/* --- what a connection sees ------------------------------------------------------------------- */

static void take_snapshot(struct model *m, struct side *s)
{
    if (s->has_snapshot)
        return;
    s->has_snapshot = true;
    s->view = m->committed;
    s->version = m->version;
}

static void check_view(sqlite3 *db, const struct rows *want, const char *when)
{
    struct rows got;
    memset(&got, 0xff, sizeof got);
    sqlite3_stmt *st;
    CHECK_RC(db, sqlite3_prepare_v2(db, "SELECT k, v FROM kv", -1, &st, NULL), SQLITE_OK);
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        int64_t k = sqlite3_column_int64(st, 0);
        CHECK(k >= 0 && k < KEYS, "%s: key %lld", when, (long long)k);
        got.v[k] = sqlite3_column_int64(st, 1);
    }
    CHECK_RC(db, rc, SQLITE_DONE);
    sqlite3_finalize(st);
    for (int k = 0; k < KEYS; k++)
        CHECK(got.v[k] == want->v[k], "%s: key %d is %lld, must be %lld", when, k,
              (long long)got.v[k], (long long)want->v[k]);
}

static void do_read(struct model *m, struct side *s)
{
    if (s->in_txn) {
        take_snapshot(m, s);
        check_view(s->db, &s->view, "within a transaction");
    } else if (!s->cursor) {
        check_view(s->db, &m->committed, "a read by itself");
    }
}

/* --- steps ------------------------------------------------------------------------------------ */

static void do_begin(struct model *m, struct side *s)
{
    if (s->in_txn || s->cursor)
        return;
    unsigned kind = rng_below(&m->rng, 4);
    if (kind < 2) {
        db_exec(s->db, "BEGIN");
        s->in_txn = true;
        return;
    }
    int rc = db_try(s->db, kind == 2 ? "BEGIN IMMEDIATE" : "BEGIN EXCLUSIVE");
    if (writer_of(m)) {
        CHECK(rc == SQLITE_BUSY, "BEGIN IMMEDIATE beside a writer: %d %s", rc,
              sqlite3_errmsg(s->db));
        CHECK(sqlite3_get_autocommit(s->db), "a refused BEGIN IMMEDIATE left a transaction");
        m->busy++;
        return;
    }
    CHECK(rc == SQLITE_OK, "BEGIN IMMEDIATE: %d %s", rc, sqlite3_errmsg(s->db));
    s->in_txn = s->writer = true;
    take_snapshot(m, s);
}

/* One change to one or several rows; the same in the model. */
static char *make_change(struct model *m, const struct rows *before, struct rows *after)
{
    int k = (int)rng_below(&m->rng, KEYS);
    int64_t v = (int64_t)rng_below(&m->rng, 1000000);
    *after = *before;
    switch (rng_below(&m->rng, 4)) {
    case 0: after->v[k] = -1; return test_printf("DELETE FROM kv WHERE k = %d", k);
    case 1:
        for (int i = 0; i < KEYS; i++)
            if (after->v[i] >= 0)
                after->v[i]++;
        return test_printf("UPDATE kv SET v = v + 1");
    default:
        after->v[k] = v;
        return test_printf("INSERT OR REPLACE INTO kv VALUES(%d, %lld, zeroblob(%u))", k,
                           (long long)v, rng_below(&m->rng, 3000));
    }
}

static void do_change(struct model *m, struct side *s)
{
    struct side *w = writer_of(m);
    bool held = s->cursor || (s->in_txn && s->has_snapshot);
    bool stale = held && !s->writer && s->version != m->version;
    struct rows after;
    char *sql = make_change(m, held ? &s->view : &m->committed, &after);
    int rc = db_try(s->db, "%s", sql);
    if (w && w != s) {
        CHECK(rc == SQLITE_BUSY || (stale && rc == SQLITE_BUSY_SNAPSHOT),
              "%s beside a writer: %d %s", sql, rc, sqlite3_errmsg(s->db));
        m->busy++;
        if (s->in_txn) /* the statement's read has begun the snapshot, or has not */
            CHECK(!sqlite3_get_autocommit(s->db), "a refused statement ended its transaction");
    } else if (stale || (held && rc == SQLITE_BUSY_SNAPSHOT && !test_on_dax())) {
        /* Stock WAL also calls a snapshot stale when a rolled back writer has restarted the log. */
        CHECK(rc == SQLITE_BUSY_SNAPSHOT, "%s with a stale snapshot: %d %s", sql, rc,
              sqlite3_errmsg(s->db));
        m->stale++;
    } else {
        CHECK(rc == SQLITE_OK, "%s: %d %s", sql, rc, sqlite3_errmsg(s->db));
        bool dirty = sqlite3_changes(s->db) > 0; /* nothing changed: no new version */
        if (s->in_txn) {
            take_snapshot(m, s);
            s->writer = true;
            s->dirty |= dirty;
            s->view = after;
        } else {
            m->committed = s->view = after;
            s->version = m->version += dirty;
            m->commits++;
        }
    }
    do_read(m, s);
}

static void do_end(struct model *m, struct side *s)
{
    if (!s->in_txn)
        return;
    bool commit = rng_below(&m->rng, 3) != 0;
    db_exec(s->db, commit ? "COMMIT" : "ROLLBACK");
    if (s->writer && commit) {
        m->committed = s->view;
        m->version += s->dirty;
        m->commits++;
    } else if (s->writer) {
        m->rollbacks++;
    }
    s->in_txn = s->has_snapshot = s->writer = s->dirty = false;
    s->saves = 0;
    do_read(m, s);
}

static void do_savepoint(struct model *m, struct side *s)
{
    if (!s->writer)
        return;
    if (s->saves < SAVEPOINTS && rng_below(&m->rng, 2)) {
        db_exec(s->db, "SAVEPOINT p%d", s->saves);
        s->saved[s->saves++] = s->view;
    } else if (s->saves > 0) {
        int to = (int)rng_below(&m->rng, (uint32_t)s->saves);
        if (rng_below(&m->rng, 2)) {
            db_exec(s->db, "ROLLBACK TO p%d", to);
            s->view = s->saved[to];
            s->saves = to + 1;
        } else {
            db_exec(s->db, "RELEASE p%d", to);
            s->saves = to;
        }
        do_read(m, s);
    }
}

/* A SELECT that stays open outside BEGIN: it holds a snapshot, too. */
static void do_cursor(struct model *m, struct side *s)
{
    if (s->in_txn)
        return;
    if (!s->cursor) {
        CHECK_RC(s->db,
                 sqlite3_prepare_v2(s->db, "SELECT k, v FROM kv ORDER BY k", -1, &s->cursor, NULL),
                 SQLITE_OK);
        s->cursor_view = s->view = m->committed;
        s->version = m->version;
        s->cursor_key = 0;
        if (sqlite3_step(s->cursor) != SQLITE_ROW) {
            sqlite3_finalize(s->cursor);
            s->cursor = NULL;
        }
        return;
    }
    /* Own writes within an open SELECT may or may not be seen by it; other ones never. */
    bool own = memcmp(&s->view, &s->cursor_view, sizeof s->view) != 0;
    int k = s->cursor_key, rc = SQLITE_ROW;
    while (rc == SQLITE_ROW) {
        int64_t got_k = sqlite3_column_int64(s->cursor, 0);
        for (; k < got_k; k++)
            CHECK(own || s->cursor_view.v[k] < 0, "an open SELECT misses key %d", k);
        CHECK(own || s->cursor_view.v[k] == sqlite3_column_int64(s->cursor, 1),
              "an open SELECT sees %lld for key %d, must be %lld",
              sqlite3_column_int64(s->cursor, 1), k, (long long)s->cursor_view.v[k]);
        k++;
        rc = sqlite3_step(s->cursor);
    }
    CHECK_RC(s->db, rc, SQLITE_DONE);
    sqlite3_finalize(s->cursor);
    s->cursor = NULL;
    do_read(m, s);
}

static void model_step(struct model *m)
{
    struct side *s = &m->side[rng_below(&m->rng, CONNECTIONS)];
    switch (rng_below(&m->rng, 16)) {
    case 0:
    case 1: do_begin(m, s); break;
    case 2:
    case 3:
    case 4:
    case 5: do_change(m, s); break;
    case 6:
    case 7:
    case 8: do_end(m, s); break;
    case 9: do_savepoint(m, s); break;
    case 10: do_cursor(m, s); break;
    case 11:
        if (rng_below(&m->rng, 20) == 0 && !s->in_txn && !s->cursor) {
            int rc = db_try(s->db, "PRAGMA wal_checkpoint(PASSIVE)");
            CHECK(rc == SQLITE_OK || rc == SQLITE_BUSY || rc == SQLITE_LOCKED, "checkpoint: %d",
                  rc);
        }
        break;
    default: do_read(m, s); break;
    }
}

static void test_interleavings(unsigned page_size, unsigned steps)
{
    struct model m = {.rng = {test_seed() + page_size}};
    char *path = test_path("model%u.db", page_size);
    memset(&m.committed, 0xff, sizeof m.committed);
    for (int i = 0; i < CONNECTIONS; i++) {
        /* Two connections copy what they read: SQLite's cache must be told of every commit. */
        int rc = db_try_open(path, i < 2 ? "" : "dax_zero_copy=off",
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &m.side[i].db);
        CHECK_RC(m.side[i].db, rc, SQLITE_OK);
        if (i == 0) {
            db_exec(m.side[0].db, "PRAGMA page_size = %u", page_size);
            if (!test_on_dax())
                db_exec(m.side[0].db, "PRAGMA journal_mode = wal");
            db_exec(m.side[0].db, "CREATE TABLE kv(k INTEGER PRIMARY KEY, v INT, pad)");
        }
        db_exec(m.side[i].db, "PRAGMA cache_size = %d", i % 2 ? 10 : -2000);
    }
    for (unsigned i = 0; i < steps; i++)
        model_step(&m);
    for (int i = 0; i < CONNECTIONS; i++) {
        sqlite3_finalize(m.side[i].cursor);
        if (m.side[i].in_txn)
            db_exec(m.side[i].db, "ROLLBACK");
        check_view(m.side[i].db, &m.committed, "at the end");
    }
    for (int i = 0; i < CONNECTIONS; i++)
        db_close(m.side[i].db);
    sqlite3 *stock = db_open_stock(path);
    check_view(stock, &m.committed, "by stock SQLite");
    db_close(stock);
    stock_check(path);
    CHECK(m.busy && m.stale && m.commits && m.rollbacks, "the run did not meet every case");
    test_say("page size %u: %u commits, %u rollbacks, %u refused as busy, %u as stale", page_size,
             m.commits, m.rollbacks, m.busy, m.stale);
    file_remove_db(path);
}

/* --- threads ---------------------------------------------------------------------------------- */

struct thread_arg {
    const char *path;
    struct rng rng;
    int number;
    int64_t counted; /* increments whose COMMIT said OK */
    unsigned refused;
};

#define THREAD_ROUNDS 600

static bool is_refusal(int rc)
{
    return rc == SQLITE_BUSY || rc == SQLITE_BUSY_SNAPSHOT;
}

/* Read, then write what was read plus one: loses an update unless stale writers are refused. */
static bool increment_deferred(sqlite3 *db, int number)
{
    db_exec(db, "BEGIN");
    int64_t n = db_int(db, "SELECT n FROM counter WHERE id = 0");
    int64_t own = db_int(db, "SELECT n FROM counter WHERE id = %d", number);
    int rc = db_try(db, "UPDATE counter SET n = %lld WHERE id = 0", (long long)n + 1);
    if (rc == SQLITE_OK)
        rc = db_try(db, "UPDATE counter SET n = %lld WHERE id = %d", (long long)own + 1, number);
    if (rc != SQLITE_OK) {
        CHECK(is_refusal(rc), "UPDATE: %d %s", rc, sqlite3_errmsg(db));
        CHECK(db_int(db, "SELECT n FROM counter WHERE id = 0") == n,
              "a refused writer's view moved");
        db_exec(db, "ROLLBACK");
        return false;
    }
    db_exec(db, "COMMIT");
    return true;
}

static bool increment_otherwise(sqlite3 *db, int number, unsigned kind)
{
    static const char *const sql[] = {
        "UPDATE counter SET n = n + 1 WHERE id IN (0, %d)",
        "BEGIN IMMEDIATE; UPDATE counter SET n = n + 1 WHERE id IN (0, %d); COMMIT",
        "INSERT INTO counter VALUES(0, 1), (%d, 1) ON CONFLICT DO UPDATE SET n = n + 1"};
    char text[256];
    snprintf(text, sizeof text, sql[kind], number);
    int rc = db_try(db, "%s", text);
    CHECK(rc == SQLITE_OK || is_refusal(rc), "%s: %d %s", text, rc, sqlite3_errmsg(db));
    if (rc != SQLITE_OK)
        db_try(db, "ROLLBACK");
    return rc == SQLITE_OK;
}

static void *writer_main(void *p)
{
    struct thread_arg *a = p;
    sqlite3 *db = db_open(a->path, "");
    sqlite3_busy_timeout(db, a->number % 2 ? 20000 : 0);
    for (int i = 0; i < THREAD_ROUNDS; i++) {
        unsigned kind = rng_below(&a->rng, 4);
        bool ok = kind == 3 ? increment_deferred(db, a->number)
                            : increment_otherwise(db, a->number, kind);
        a->counted += ok;
        a->refused += !ok;
        int64_t own = db_int(db, "SELECT n FROM counter WHERE id = %d", a->number);
        CHECK(own == a->counted, "thread %d sees %lld of its %lld increments", a->number,
              (long long)own, (long long)a->counted);
    }
    db_close(db);
    return NULL;
}

static void test_threads(void)
{
    char *path = test_path("threads.db");
    sqlite3 *db = db_open(path, "");
    db_exec(db, "CREATE TABLE counter(id INTEGER PRIMARY KEY, n INT);"
                "INSERT INTO counter VALUES(0, 0), (1, 0), (2, 0), (3, 0), (4, 0)");
    struct thread_arg arg[4];
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) {
        arg[i] = (struct thread_arg){
            .path = path, .rng = {test_seed() + 100 + (uint64_t)i}, .number = i + 1};
        CHECK(pthread_create(&thread[i], NULL, writer_main, &arg[i]) == 0, "pthread_create");
    }
    int64_t sum = 0, refused = 0;
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], NULL);
        sum += arg[i].counted;
        refused += arg[i].refused;
    }
    int64_t n = db_int(db, "SELECT n FROM counter WHERE id = 0");
    CHECK(n == sum, "counter is %lld after %lld commits", (long long)n, (long long)sum);
    db_close(db);
    stock_check(path);
    test_say("threads: %lld commits, %lld refusals", (long long)sum, (long long)refused);
}

/* --- busy handler ----------------------------------------------------------------------------- */

struct handler {
    int calls;
    sqlite3 *release; /* commits at the third call */
};

static int busy_handler(void *p, int count)
{
    struct handler *h = p;
    h->calls++;
    if (count == 2 && h->release)
        db_exec(h->release, "COMMIT");
    return count < 5;
}

static void test_busy_handler(void)
{
    char *path = test_path("busy.db");
    sqlite3 *a = db_open(path, ""), *b = db_open(path, "");
    struct handler h = {0};
    db_exec(a, "CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    sqlite3_busy_handler(b, busy_handler, &h);

    db_exec(a, "BEGIN IMMEDIATE; INSERT INTO t VALUES(2)");
    CHECK(db_try(b, "BEGIN IMMEDIATE") == SQLITE_BUSY, "beside a writer");
    CHECK(h.calls == 6, "busy handler called %d times", h.calls);
    CHECK(db_int(b, "SELECT count(*) FROM t") == 1, "readers do not wait");
    CHECK(h.calls == 6, "a reader called the busy handler");

    h = (struct handler){.release = a};
    db_exec(b, "INSERT INTO t VALUES(3)");
    CHECK(h.calls == 3, "waited %d times for a writer that ended at the third", h.calls);
    CHECK(db_int(b, "SELECT count(*) FROM t") == 3, "both rows");

    /* Waiting does not make a stale snapshot new: no call. */
    h = (struct handler){0};
    db_exec(b, "BEGIN; SELECT * FROM t");
    db_exec(a, "INSERT INTO t VALUES(4)");
    int rc = db_try(b, "INSERT INTO t VALUES(5)");
    CHECK(rc == SQLITE_BUSY_SNAPSHOT, "stale: %d %s", rc, sqlite3_errmsg(b));
    CHECK(h.calls == 0, "stale: busy handler called %d times", h.calls);
    CHECK(db_int(b, "SELECT count(*) FROM t") == 3, "still its snapshot");
    rc = db_try(b, "INSERT INTO t VALUES(5)");
    CHECK(rc == SQLITE_BUSY_SNAPSHOT, "stale, again: %d", rc);
    db_exec(b, "COMMIT; INSERT INTO t VALUES(5)");
    CHECK(db_int(a, "SELECT count(*) FROM t") == 5, "after the read ended");
    db_close(a);
    db_close(b);
}

/* --- locking_mode, pragmas -------------------------------------------------------------------- */

/* params: of the connection beside. SQLite counts only the first change of an exclusive owner in the
 * header, since nobody else could read then; here they do, with caches of their own. */
static void test_exclusive_mode(const char *params)
{
    char *path = test_path("exclusive.db");
    file_remove_db(path);
    sqlite3 *a = db_open(path, ""), *b = db_open(path, params);
    db_exec(a, "CREATE TABLE t(x)");
    db_exec(a, "PRAGMA locking_mode = EXCLUSIVE");
    for (int i = 1; i <= 5; i++) {
        db_exec(a, "INSERT INTO t VALUES(%d)", i);
        CHECK(db_int(b, "SELECT count(*) FROM t") == i, "commit %d is not visible", i);
        int rc = db_try(b, "INSERT INTO t VALUES(100)");
        CHECK(rc == SQLITE_BUSY, "a second writer: %d %s", rc, sqlite3_errmsg(b));
        CHECK(db_int(b, "SELECT count(*) FROM t") == i, "phantom row after a refusal");
    }
    db_exec(a, "BEGIN; INSERT INTO t VALUES(6); ROLLBACK");
    CHECK(db_int(a, "SELECT count(*) FROM t") == 5, "rollback in exclusive mode");
    db_exec(a, "BEGIN; INSERT INTO t VALUES(6)");
    CHECK(db_int(b, "SELECT count(*) FROM t") == 5, "not committed, not visible");
    db_exec(a, "COMMIT");
    CHECK(db_int(b, "SELECT count(*) FROM t") == 6, "committed");
    db_exec(a, "PRAGMA locking_mode = NORMAL; SELECT * FROM t");
    db_exec(b, "INSERT INTO t VALUES(7)");
    CHECK(db_int(a, "SELECT count(*) FROM t") == 7, "normal again");
    db_close(a);
    db_close(b);
    stock_check(path);
}

static void check_text(sqlite3 *db, const char *sql, const char *want)
{
    char *got = db_text(db, "%s", sql);
    CHECK(!strcmp(got, want), "%s answers %s, must be %s", sql, got, want);
}

static void test_pragmas(void)
{
    char *path = test_path("pragmas.db");
    sqlite3 *db = db_open(path, "");
    check_text(db, "PRAGMA journal_mode", "wal");
    db_exec(db, "CREATE TABLE t(x); INSERT INTO t VALUES(zeroblob(100000))");
    check_text(db, "PRAGMA journal_mode", "wal");
    check_text(db, "PRAGMA journal_mode = wal", "wal");
    check_text(db, "PRAGMA journal_mode = delete", "wal");
    check_text(db, "PRAGMA journal_mode = off", "wal");
    check_text(db, "PRAGMA main.journal_mode", "wal");
    db_exec(db, "BEGIN; DELETE FROM t; ROLLBACK");
    CHECK(db_int(db, "SELECT count(*) FROM t") == 1,
          "ROLLBACK works whatever journal_mode was set");
    db_exec(db, "PRAGMA wal_checkpoint");
    CHECK(db_int(db, "PRAGMA wal_checkpoint(TRUNCATE)") == 0, "checkpoint says it was in the way");
    int log = -1, done = -1;
    CHECK_RC(db, sqlite3_wal_checkpoint_v2(db, "main", SQLITE_CHECKPOINT_PASSIVE, &log, &done),
             SQLITE_OK);
    CHECK(db_int(db, "PRAGMA mmap_size") > 0, "mmap_size is not set by the auto-extension");
    CHECK(db_int(db, "PRAGMA mmap_size = 0") == 0, "mmap_size cannot be set to 0");
    CHECK(db_int(db, "SELECT length(x) FROM t") == 100000, "reading without mmap");
    CHECK(db_int(db, "PRAGMA mmap_size = 1000000000") > 0, "mmap_size cannot be set back");
    for (int level = 0; level < 4; level++) {
        db_exec(db, "PRAGMA synchronous = %d", level);
        CHECK(db_int(db, "PRAGMA synchronous") == level, "synchronous");
        db_exec(db, "INSERT INTO t VALUES(1)");
    }
    db_close(db);
    stock_check(path);
    db = db_open_stock(path);
    check_text(db, "PRAGMA journal_mode", "delete");
    CHECK(db_int(db, "SELECT count(*) FROM t") == 5, "rows");
    db_close(db);
}

int main(int argc, char **argv)
{
    unsigned steps = argc > 1 ? (unsigned)atoi(argv[1]) : 60000;
    test_start("refusal");
    static const unsigned page_sizes[] = {512, 1024, 4096, 16384};
    for (size_t i = 0; i < sizeof page_sizes / sizeof *page_sizes; i++)
        test_interleavings(page_sizes[i], steps);
    test_threads();
    test_busy_handler();
    if (test_on_dax()) {
        test_exclusive_mode("");
        test_exclusive_mode("dax_zero_copy=off");
        test_pragmas();
    }
    return test_finish();
}
