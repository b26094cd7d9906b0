/* zero_copy.c: reads are pointers into base or frames, and what readers hold costs only themselves.
 *
 * Catches: reads that fall back to copying without anybody noticing; a newer version that is served
 * from base or by copy; a log that grows with a reader's age; frames that are not given back; a
 * checkpoint that waits for ever, or not at all, or cannot say for whom; a file cut under a pin.
 */
#include "tests/system/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fill(sqlite3 *db, unsigned page_size, int rows)
{
    db_exec(db, "PRAGMA page_size = %u; PRAGMA auto_vacuum = 0; PRAGMA cache_size = 20", page_size);
    db_exec(db,
            "CREATE TABLE t(id INTEGER PRIMARY KEY, n INT, x TEXT);"
            "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < %d)"
            " INSERT INTO t SELECT i, i, printf('%%.200c', 'x') FROM s",
            rows);
}

static int64_t scan(sqlite3 *db)
{
    return db_int(db, "SELECT sum(n) + sum(length(x)) FROM t");
}

/* Pages of dax_pages that have frames. */
static int64_t versioned(sqlite3 *db)
{
    return db_status(db, "frames.pages_versioned");
}

struct reads {
    int64_t base, frame, copied, refused;
};

static struct reads reads_now(sqlite3 *db)
{
    return (struct reads){
        db_status(db, "counters.reads_pinned_base"), db_status(db, "counters.reads_pinned_frame"),
        db_status(db, "counters.reads_copied"), db_status(db, "counters.pins_refused")};
}

/* What one scan of t by db has cost. The status is asked by another connection. */
static struct reads reads_of_scan(sqlite3 *db, sqlite3 *watch, int64_t want)
{
    struct reads a = reads_now(watch), b = reads_now(watch);
    struct reads idle = {b.base - a.base, b.frame - a.frame, b.copied - a.copied,
                         b.refused - a.refused};
    int64_t got = scan(db);
    CHECK(got == want, "a scan finds %lld, wanted %lld", (long long)got, (long long)want);
    struct reads c = reads_now(watch);
    return (struct reads){c.base - b.base - idle.base, c.frame - b.frame - idle.frame,
                          c.copied - b.copied - idle.copied, c.refused - b.refused - idle.refused};
}

static void test_scan(unsigned page_size)
{
    char *path = test_path("scan%u.db", page_size);
    sqlite3 *db = db_open(path, ""), *watch = db_open(path, "");
    fill(db, page_size, 20000);
    int64_t want = scan(db);
    db_exec(db, "PRAGMA wal_checkpoint(TRUNCATE)");
    int64_t pages = db_int(db, "SELECT count(*) FROM dbstat WHERE name = 't'");
    db_exec(watch, "PRAGMA mmap_size");
    db_close(db);
    db = db_open(path, "");
    db_exec(db, "SELECT count(*) FROM sqlite_schema");
    struct reads r = reads_of_scan(db, watch, want);
    CHECK(r.base >= pages, "page size %u: %lld of %lld pages from base", page_size,
          (long long)r.base, (long long)pages);
    CHECK(r.frame == 0 && r.refused == 0, "page size %u: %lld frames, %lld refused", page_size,
          (long long)r.frame, (long long)r.refused);
    CHECK(r.copied <= 4, "page size %u: %lld reads copied in a scan", page_size,
          (long long)r.copied);

    /* A reader of the old state makes versions; new snapshots get those in place. */
    sqlite3 *old = db_open(path, "");
    db_exec(old, "BEGIN; SELECT count(*) FROM t");
    db_exec(db, "UPDATE t SET n = n + 1 WHERE id %% 1000 = 0");
    int64_t chains = versioned(watch);
    CHECK(chains > 0, "page size %u: no page has a version", page_size);
    sqlite3 *fresh = db_open(path, "");
    db_exec(fresh, "SELECT count(*) FROM sqlite_schema");
    r = reads_of_scan(fresh, watch, want + 20);
    CHECK(r.frame > 0 || page_size > 4096, "page size %u: no page from a frame", page_size);
    /* A page of several parts is refused, and copied, where they lie apart. */
    unsigned parts = page_size > 4096 ? page_size / 4096 : 0;
    CHECK(r.copied <= 4 + r.refused * parts, "page size %u: %lld copied, %lld refused", page_size,
          (long long)r.copied, (long long)r.refused);
    CHECK(r.refused <= chains, "page size %u: %lld refused with %lld versions", page_size,
          (long long)r.refused, (long long)chains);
    if (!parts)
        CHECK(r.base + r.frame >= pages && r.refused == 0,
              "page size %u: %lld + %lld of %lld pages", page_size, (long long)r.base,
              (long long)r.frame, (long long)pages);
    r = reads_of_scan(old, watch, want);
    CHECK(r.base >= pages - 1 && r.copied <= 4, "page size %u: the old snapshot's scan", page_size);
    db_exec(old, "COMMIT");
    db_close(old);
    db_close(fresh);
    db_exec(db, "PRAGMA wal_checkpoint(TRUNCATE)");
    CHECK(versioned(watch) == 0, "versions are left: %lld", (long long)versioned(watch));
    db_close(db);
    db_close(watch);
    stock_check(path);
    test_say("page size %u: %lld pages of the table, %lld versions", page_size, (long long)pages,
             (long long)chains);
}

/* dax_zero_copy=off and mmap_size=0 copy, and say so by their counters. */
static void test_off(void)
{
    char *path = test_path("off.db");
    sqlite3 *watch = db_open(path, "");
    fill(watch, 4096, 5000);
    int64_t want = scan(watch);
    sqlite3 *off = db_open(path, "dax_zero_copy=off"), *none = db_open(path, "");
    db_exec(none, "PRAGMA mmap_size = 0");
    db_exec(off, "SELECT count(*) FROM sqlite_schema");
    db_exec(none, "SELECT count(*) FROM sqlite_schema");
    struct reads a = reads_of_scan(off, watch, want), b = reads_of_scan(none, watch, want);
    CHECK(a.base == 0 && a.copied > 200, "dax_zero_copy=off: %lld pinned", (long long)a.base);
    CHECK(b.base == 0 && b.copied > 200, "mmap_size=0: %lld pinned", (long long)b.base);
    db_close(off);
    db_close(none);
    db_close(watch);
}

/* --- long-running readers --------------------------------------------------------------------- */

static void test_long_reader(void)
{
    char *path = test_path("long.db");
    sqlite3 *w = db_open(path, "dax_log_size=8m&dax_private_size=1m"), *r = db_open(path, "");
    fill(w, 4096, 20000);
    db_exec(w, "PRAGMA wal_checkpoint(TRUNCATE)");
    int64_t want = scan(w), ring = db_status(w, "log.ring");
    db_exec(r, "BEGIN; SELECT count(*) FROM t");
    sqlite3_stmt *pinned; /* and one that holds pins in the middle of the table */
    sqlite3 *p = db_open(path, "");
    CHECK_RC(p, sqlite3_prepare_v2(p, "SELECT id, n FROM t ORDER BY id", -1, &pinned, NULL),
             SQLITE_OK);
    for (int i = 0; i < 10000; i++)
        CHECK(sqlite3_step(pinned) == SQLITE_ROW, "step");
    CHECK(db_status(w, "pins") > 0, "an open SELECT holds no pins");

    int64_t start = db_status(w, "counters.log_bytes"), most = 0, commits = 0;
    struct rng rng = {test_seed()};
    while (db_status(w, "counters.log_bytes") - start < 4 * ring) {
        for (int i = 0; i < 50; i++, commits++)
            db_exec(w, "UPDATE t SET n = n + 1, x = printf('%%.200c', '%c') WHERE id %% 400 = %u",
                    'a' + (int)rng_below(&rng, 26), rng_below(&rng, 400));
        int64_t live = db_status(w, "log.live");
        CHECK(live <= ring, "%lld bytes of log live in a ring of %lld", (long long)live,
              (long long)ring);
        most = live > most ? live : most;
    }
    int64_t used = db_status(w, "frames.used"), anon = proc_status_kib(getpid(), "RssAnon:");
    CHECK(scan(r) == want, "the long-running reader's snapshot has moved");
    for (int i = 10000; i < 20000; i++) {
        CHECK(sqlite3_step(pinned) == SQLITE_ROW, "step");
        CHECK(sqlite3_column_int64(pinned, 1) == i + 1, "row %d of an open SELECT is %lld", i + 1,
              sqlite3_column_int64(pinned, 1));
    }
    CHECK(sqlite3_step(pinned) == SQLITE_DONE, "step");
    sqlite3_finalize(pinned);
    db_exec(r, "COMMIT");
    db_close(r);
    db_close(p);
    db_exec(w, "PRAGMA wal_checkpoint(TRUNCATE)");
    CHECK(db_status(w, "log.live") == 0, "log after a checkpoint");
    CHECK(db_status(w, "frames.used") == 0, "%lld frames are still used",
          (long long)db_status(w, "frames.used"));
    CHECK(db_status(w, "snapshots") <= 1 && db_status(w, "pins") == 0,
          "snapshots or pins are left");
    test_say("long reader: %lld commits, ring %lld, at most %lld live, %lld frames, RssAnon %lld "
             "KiB then,"
             " %lld KiB now, %lld pages relogged",
             (long long)commits, (long long)ring, (long long)most, (long long)used, (long long)anon,
             (long long)proc_status_kib(getpid(), "RssAnon:"),
             (long long)db_status(w, "counters.pages_relogged"));
    db_close(w);
    stock_check(path);
}

/* --- pins and checkpoints --------------------------------------------------------------------- */

struct handler {
    int calls;
    sqlite3_stmt *reset; /* at the third call */
};

static int busy_handler(void *p, int count)
{
    struct handler *h = p;
    h->calls++;
    if (count >= 2 && h->reset) {
        sqlite3_reset(h->reset);
        h->reset = NULL;
    }
    return count < 8;
}

static void test_checkpoint_waits(void)
{
    char *path = test_path("waits.db");
    sqlite3 *w = db_open(path, ""), *r = db_open(path, "");
    fill(w, 4096, 20000);
    db_exec(w, "PRAGMA wal_checkpoint(TRUNCATE)");
    struct handler h = {0};
    sqlite3_busy_handler(w, busy_handler, &h);
    sqlite3_stmt *st;
    CHECK_RC(r, sqlite3_prepare_v2(r, "SELECT id, n, x FROM t ORDER BY id", -1, &st, NULL),
             SQLITE_OK);
    CHECK(sqlite3_step(st) == SQLITE_ROW, "step");
    db_exec(w, "UPDATE t SET n = n + 1 WHERE id < 200");
    char *answer = db_text(w, "SELECT dax_checkpoint('truncate')");
    CHECK(db_int(w, "SELECT json_extract('%s', '$.busy')", answer) == 1, "not busy: %s", answer);
    CHECK(h.calls == 9, "the busy handler was called %d times", h.calls);
    char *holder = db_text(w, "SELECT json_extract('%s', '$.holder')", answer);
    CHECK(text_has(holder, test_printf("%d", (int)getpid())), "the holder is not named: %s",
          answer);
    CHECK(text_has(holder, "page"), "the page is not named: %s", answer);
    CHECK(db_int(w, "SELECT json_extract('%s', '$.relogged')", answer) > 0, "nothing relogged: %s",
          answer);
    h = (struct handler){0};
    CHECK(db_int(w, "PRAGMA wal_checkpoint(TRUNCATE)") == 1, "the pragma does not say busy");
    CHECK(h.calls > 0, "the pragma does not ask the busy handler");
    h = (struct handler){0};
    CHECK(db_int(w, "PRAGMA wal_checkpoint(PASSIVE)") >= 0 && h.calls == 0, "PASSIVE waits");
    CHECK(sqlite3_step(st) == SQLITE_ROW && sqlite3_column_int64(st, 1) == 2, "the SELECT goes on");

    h = (struct handler){.reset = st}; /* it ends while we wait */
    answer = db_text(w, "SELECT dax_checkpoint('truncate')");
    CHECK(db_int(w, "SELECT json_extract('%s', '$.busy')", answer) == 0, "busy after a reset: %s",
          answer);
    CHECK(h.calls == 3, "waited %d times for a SELECT that ended at the third", h.calls);
    CHECK(db_status(w, "log.live") == 0, "log");
    sqlite3_finalize(st);
    db_close(r);
    db_close(w);
    stock_check(path);
    test_say("checkpoint and pins: ok");
}

/* --- the end of the file ---------------------------------------------------------------------- */

static void test_shrink(void)
{
    char *path = test_path("shrink.db");
    sqlite3 *w = db_open(path, ""), *r = db_open(path, "");
    fill(w, 4096, 60000);
    db_exec(w, "PRAGMA wal_checkpoint(TRUNCATE)");
    int64_t before = file_bytes(path);
    sqlite3_stmt *st;
    CHECK_RC(
        r,
        sqlite3_prepare_v2(r, "SELECT id, x FROM t WHERE id >= 59000 ORDER BY id", -1, &st, NULL),
        SQLITE_OK);
    CHECK(sqlite3_step(st) == SQLITE_ROW, "step");
    db_exec(w, "DELETE FROM t WHERE id > 100; VACUUM");
    db_exec(w, "PRAGMA wal_checkpoint(TRUNCATE)");
    int64_t beyond = db_int(w, "SELECT count(*) FROM dax_pages WHERE refcount > 0");
    CHECK(beyond > 0, "no page is pinned");
    int rows = 1;
    while (sqlite3_step(st) == SQLITE_ROW) {
        rows++;
        CHECK(sqlite3_column_bytes(st, 1) == 200, "a row of the old snapshot");
    }
    CHECK(rows == 1001, "the old snapshot has %d rows", rows);
    sqlite3_finalize(st);
    CHECK(db_int(r, "SELECT count(*) FROM t") == 100, "rows");
    db_exec(w, "PRAGMA wal_checkpoint(TRUNCATE)");
    int64_t after = file_bytes(path);
    CHECK(after < before / 2, "the file had %lld bytes and has %lld", (long long)before,
          (long long)after);
    CHECK(db_int(w, "SELECT count(*) FROM dax_pages WHERE state = 'ZAPPED'") == 0,
          "pages left zapped");
    db_exec(w, "WITH RECURSIVE s(i) AS (SELECT 101 UNION ALL SELECT i + 1 FROM s WHERE i < 30000)"
               " INSERT INTO t SELECT i, i, printf('%%.200c', 'y') FROM s");
    CHECK(db_int(r, "SELECT count(*) FROM t") == 30000, "grown again");
    db_check_integrity(r, "grown again");
    db_close(r);
    db_close(w);
    stock_check(path);
    test_say("shrink and grow: %lld, then %lld bytes", (long long)before, (long long)after);
}

int main(void)
{
    test_start("zero_copy");
    if (!test_on_dax())
        return test_finish();
    static const unsigned page_sizes[] = {512, 1024, 2048, 4096, 8192, 65536};
    for (size_t i = 0; i < sizeof page_sizes / sizeof *page_sizes; i++)
        test_scan(page_sizes[i]);
    test_off();
    test_long_reader();
    test_checkpoint_waits();
    test_shrink();
    return test_finish();
}
