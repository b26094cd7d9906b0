/* recovery_template.c: crashed databases to start from, each made by SQLite on the engine.
 *
 * A crash is a copy of both files: at rest, or (armed) in the first operation on persistent memory
 * after the next commit record is durable, when nothing of it has been applied.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daxlite.h"
#include "engine/conn.h"
#include "tests/fuzz/pool.h"
#include "tests/fuzz/recovery_input.h"
#include "vfs/vfs.h"

static struct {
    char path[FUZZ_PATH_BYTES], sidecar[FUZZ_PATH_BYTES];
    sqlite3 *db;
    struct template *t;
    bool taken;
    uint64_t records; /* P2 passed when it was armed */
    const struct persist_ops *real;
    struct persist_ops ops;
} make;

static void make_sql(sqlite3 *db, const char *sql)
{
    FUZZ_CHECK(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK, "template: %s: %s", sql,
               sqlite3_errmsg(db));
}

static sqlite3 *make_open(const char *params)
{
    char uri[FUZZ_PATH_BYTES + 64];
    sqlite3 *db;
    snprintf(uri, sizeof uri, "file:%s?vfs=dax&dax_log_size=8m%s", make.path, params);
    int rc = sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
                             NULL);
    FUZZ_CHECK(rc == SQLITE_OK, "template: open: %s", sqlite3_errmsg(db));
    return db;
}

static void make_take(void)
{
    image_load(&make.t->db, make.path);
    image_load(&make.t->sidecar, make.sidecar);
    make.taken = true;
}

static void make_watch(struct persist *p)
{
    if (!make.taken && p->points[PERSIST_P2_RECORD] > make.records)
        make_take();
}

static void make_store(struct persist *p, void *dst, const void *src, size_t len)
{
    make_watch(p);
    make.real->store(p, dst, src, len);
}

static void make_store_cached(struct persist *p, void *dst, const void *src, size_t len)
{
    make_watch(p);
    make.real->store_cached(p, dst, src, len);
}

static void make_fence(struct persist *p)
{
    make_watch(p);
    make.real->fence(p);
}

/* Copy the files as soon as the next record is durable. */
static void make_arm(void)
{
    struct persist *p = &vfs_conn_of(make.db, "main")->store->persist;
    make.records = p->points[PERSIST_P2_RECORD];
    make.real = p->ops;
    make.ops = *p->ops;
    make.ops.store = make_store;
    make.ops.store_cached = make_store_cached;
    make.ops.fence = make_fence;
    p->ops = &make.ops;
}

/* What the database holds now. */
static void make_note_state(void)
{
    struct dax_options o = dax_options_default();
    struct dax_err err = {0};
    struct conn *c;
    o.read_only = true;
    FUZZ_CHECK(conn_open(make.path, &o, &c, &err) == DAX_OK, "template: %s", err.text);
    FUZZ_CHECK(conn_begin_read(c, &err) == DAX_OK, "template: %s", err.text);
    make.t->size = conn_size(c);
    make.t->bytes = malloc(make.t->size + 1);
    FUZZ_CHECK(make.t->size == 0 || conn_read(c, make.t->bytes, make.t->size, 0, &err) == DAX_OK,
               "template: %s", err.text);
    conn_end_read(c);
    (void)!conn_close(c, &err);
}

static const char fill_sql[] =
    "CREATE TABLE t(a INTEGER PRIMARY KEY, b);"
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
    "WHERE i < 60) INSERT INTO t SELECT i, printf('%.3000c', 'x') FROM n;";

static void make_lines(void)
{
    make_sql(make.db, "CREATE TABLE t(a INTEGER PRIMARY KEY, b);"
                      "INSERT INTO t VALUES(1, 'one'); INSERT INTO t VALUES(2, 'two');"
                      "INSERT INTO t VALUES(3, zeroblob(5000)); CREATE INDEX i ON t(b);"
                      "UPDATE t SET b = 'three' WHERE a = 3; INSERT INTO t VALUES(4, 'four')");
}

static void make_shrunk(void)
{
    make_sql(make.db, fill_sql);
    make_sql(make.db, "DELETE FROM t WHERE a > 5; VACUUM; INSERT INTO t VALUES(100, 'after')");
}

/* Enough pages that the record does not hold them. */
static void make_pairs(void)
{
    make_sql(make.db, fill_sql);
    make_sql(make.db, "PRAGMA wal_checkpoint");
    make_arm();
    make_sql(make.db, "UPDATE t SET b = replace(b, 'x', 'y')");
}

static void make_relog(void)
{
    make_sql(make.db, fill_sql);
    sqlite3 *reader = make_open("");
    sqlite3_stmt *scan;
    sqlite3_prepare_v2(reader, "SELECT a, b FROM t", -1, &scan, NULL);
    FUZZ_CHECK(sqlite3_step(scan) == SQLITE_ROW, "template: scan: %s", sqlite3_errmsg(reader));
    make_sql(make.db, "UPDATE t SET b = 'changed' WHERE a < 3; PRAGMA wal_checkpoint;"
                      "INSERT INTO t VALUES(200, 'later')");
    make_take();
    sqlite3_finalize(scan);
    sqlite3_close(reader);
}

static void make_wrapped(void)
{
    struct side s;
    make_sql(make.db, "CREATE TABLE t(a INTEGER PRIMARY KEY, b)");
    for (int i = 0; i < 2000; i++) {
        make_sql(make.db, "INSERT INTO t(b) VALUES(zeroblob(100))");
        if (i < 20 && pool_real)
            make_sql(make.db, "UPDATE t SET b = zeroblob(100 + a)");
        make_take();
        if (side_open(&s, &make.t->sidecar) && s.record_count > 1 &&
            s.end / s.root.ring_bytes > s.records[0] / s.root.ring_bytes)
            return;
        if (pool_real && i > 30) /* its ring is large: as good a log as any */
            return;
    }
}

static void make_all(enum template_kind kind)
{
    switch (kind) {
    case TEMPLATE_LINES: make_lines(); break;
    case TEMPLATE_SHRUNK: make_shrunk(); break;
    case TEMPLATE_PAIRS:
    case TEMPLATE_LIST: make_pairs(); break;
    case TEMPLATE_RELOG: make_relog(); break;
    case TEMPLATE_WRAPPED: make_wrapped(); break;
    case TEMPLATE_CLOSED: make_lines(); break;
    case TEMPLATE_EMPTY: make_sql(make.db, "BEGIN IMMEDIATE"); break;
    default: break;
    }
    if (!make.taken)
        make_take();
    make_note_state();
}

/* The stand-in's templates are what their names say. */
static void make_check(enum template_kind kind)
{
    struct side s;
    struct record_header h = {0};
    FUZZ_CHECK(side_open(&s, &make.t->sidecar), "template %d: no root", (int)kind);
    if (s.record_count > 0)
        side_read(&s, &h, sizeof h, s.records[0]);
    bool pairs = h.pair_count > 50, listed = h.flags & DAX_RECORD_LIST_IN_SCRATCH;
    FUZZ_CHECK(kind != TEMPLATE_LINES || s.record_count > 5, "template: %u records",
               s.record_count);
    FUZZ_CHECK(kind != TEMPLATE_PAIRS || (pairs && !listed), "template: no pairs");
    FUZZ_CHECK(kind != TEMPLATE_LIST || (pairs && listed), "template: no list");
    FUZZ_CHECK(kind != TEMPLATE_RELOG || h.flags & DAX_RECORD_RELOG, "template: nothing relogged");
    FUZZ_CHECK(kind != TEMPLATE_WRAPPED ||
                   s.end / s.root.ring_bytes > s.records[0] / s.root.ring_bytes,
               "template: does not wrap");
    FUZZ_CHECK(kind != TEMPLATE_EMPTY || make.t->size == 0, "template: not empty");
}

const struct template *template_get(enum template_kind kind, bool real)
{
    static struct template templates[TEMPLATES][2];
    struct template *t = &templates[kind][real];
    if (t->bytes)
        return t;
    bool before = pool_real;
    pool_real = real;
    pool_ring_bytes = (kind == TEMPLATE_LIST      ? 4096
                       : kind == TEMPLATE_WRAPPED ? 16384
                                                  : 32768) +
                      8192;
    fuzz_path(make.path, "template.db");
    fuzz_path(make.sidecar, "template.db-dax");
    unlink(make.path);
    unlink(make.sidecar);
    make.t = t;
    make.taken = false;
    make.db = make_open("&dax_private_size=256k");
    make_all(kind);
    sqlite3_close(make.db);
    if (kind == TEMPLATE_CLOSED)
        make_take();
    if (!real)
        make_check(kind);
    unlink(make.path);
    unlink(make.sidecar);
    pool_real = before;
    return t;
}
