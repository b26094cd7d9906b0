/* guest_sidecar.c: real bad blocks under the parts of the sidecar, under the log while it is in use, and
 * under a record that a recovery needs; and under a page whose newest version is in DRAM.
 *
 * Where the parts are is read from the file itself.
 *
 * Catches: a commit that fails or is lost because a part of the ring is bad that holds nothing; a cursor
 * that cannot be read in one place and is not taken from the other, or not made two again; a database that
 * cannot be used because the list of old errors is gone; a recovery that goes on without a record, or
 * spoils it, so that the record's content is of no use when it is back; base rewritten from anything but
 * the newest version.
 */
#include "tests/vm/guest.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/layout.h"
#include "tests/system/torture.h"

#define PARAMS "dax_log_size=8388608"

/* --- where things are --------------------------------------------------------------------------- */

struct places {
    uint64_t twin, ledger; /* bytes of the file */
    uint64_t ring, ring_bytes;
    uint64_t cursor; /* LSN */
};

static struct places places_of(const char *side)
{
    struct places p = {0, 0, 0, 0, 0};
    int64_t end = file_bytes(side);
    for (int64_t at = 0; at < end && !p.ring; at += DAX_LINE_BYTES) {
        struct sidecar_root root;
        file_peek(side, at, &root, sizeof root);
        if (memcmp(root.magic, DAX_SIDECAR_MAGIC, sizeof root.magic) != 0 || !root.twin_offset)
            continue;
        const struct cursor_slot *c = &root.cursor[root.cursor[1].seq > root.cursor[0].seq];
        p = (struct places){root.twin_offset, root.ledger_offset, root.ring_offset, root.ring_bytes,
                            c->lsn};
    }
    CHECK(p.ring && p.ledger, "%s has no root", side);
    return p;
}

/* The block that has this LSN. */
static uint64_t ring_block(const struct places *p, uint64_t lsn)
{
    return (p->ring + lsn % p->ring_bytes) / GUEST_PAGE * GUEST_PAGE;
}

static sqlite3 *make(const char *path)
{
    sqlite3 *db = db_open(path, PARAMS);
    db_exec(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB); INSERT INTO t VALUES(1, x'01')");
    return db;
}

static char *errors_text(sqlite3 *db)
{
    return db_text(db, "SELECT coalesce(group_concat(page || ' ' || part || ' ' || kind || ' ' ||"
                       " status || ' (' || detail || ')', '; '), 'none') FROM dax_errors");
}

/* One entry, of this block. */
static void check_entry(sqlite3 *db, const char *part, uint64_t at, const char *status)
{
    CHECK(db_int(db, "SELECT count(*) FROM dax_errors") == 1, "dax_errors: %s", errors_text(db));
    CHECK(db_int(db,
                 "SELECT count(*) FROM dax_errors WHERE part = '%s' AND page = %lld AND"
                 " kind = 'poison' AND status IN (%s)",
                 part, (long long)(at / GUEST_PAGE), status) == 1,
          "not one of %s, page %llu, %s: %s", part, (unsigned long long)(at / GUEST_PAGE), status,
          errors_text(db));
}

static void check_rows_and_close(sqlite3 *db, const char *path, int rows)
{
    CHECK(db_int(db, "SELECT count(*) FROM t WHERE length(v) > 0") == rows, "%lld rows, not %d",
          (long long)db_int(db, "SELECT count(*) FROM t"), rows);
    db_check_integrity(db, "before the close");
    db_close(db);
    stock_check(path);
}

/* --- the cursor's twin ---------------------------------------------------------------------------- */

static void try_twin(bool open)
{
    char *path = test_path("twin%d.db", open), *side = test_printf("%s-dax", path);
    test_context("the cursor's twin, bad %s", open ? "while it is open" : "before the open");
    sqlite3 *db = make(path);
    uint64_t twin = places_of(side).twin;
    if (!open)
        db_close(db);
    poison_add(side, twin);
    if (open)
        forget_mappings(side);
    else
        db = db_open(path, PARAMS);
    for (int i = 2; i <= 20; i++)
        db_exec(db, "INSERT INTO t VALUES(%d, randomblob(3000))", i);
    db_exec(db, "SELECT dax_checkpoint('truncate')"); /* moves the cursor */
    test_say("twin, bad %s: %s", open ? "while open" : "before", errors_text(db));
    check_entry(db, "sidecar", twin, "'quarantined', 'repaired'");
    db_text(db, "SELECT dax_repair()");
    check_entry(db, "sidecar", twin, "'repaired'");
    CHECK(poison_count(side) == 0, "the twin's block is still bad");
    check_rows_and_close(db, path, 20);
    db = db_open(path, PARAMS);
    check_entry(db, "sidecar", twin, "'repaired'");
    check_rows_and_close(db, path, 20);
}

void scenario_media_twin(void)
{
    try_twin(false);
    try_twin(true);
}

/* --- the ledger ------------------------------------------------------------------------------------ */

/* What is lost is the list of old errors; the advice of docs/media-errors.md makes a new one. */
void scenario_media_ledger(void)
{
    char *path = test_path("ledger.db"), *side = test_printf("%s-dax", path);
    test_context("the ledger");
    sqlite3 *db = make(path);
    uint64_t ledger = places_of(side).ledger;
    db_close(db);
    poison_add(side, ledger);
    db = db_open(path, PARAMS);
    db_exec(db, "INSERT INTO t VALUES(2, x'02')");
    test_say("ledger: %s", errors_text(db));
    /* Written anew at once; what it held is lost with it. */
    check_entry(db, "sidecar", ledger, "'lost', 'repaired'");
    test_say("ledger: %s", db_text(db, "SELECT dax_repair()"));
    db_exec(db, "INSERT INTO t VALUES(3, x'03')");
    log_clear();
    check_rows_and_close(db, path, 3);
    CHECK(!log_has("stays marked", NULL), "log: %s", log_text());
    file_poke(side, (int64_t)ledger, (uint8_t[GUEST_PAGE]){0}, GUEST_PAGE); /* the device is good */
    CHECK(unlink(side) == 0, "unlink");
    db = db_open(path, PARAMS);
    db_exec(db, "INSERT INTO t VALUES(4, x'04')");
    CHECK(db_int(db, "SELECT count(*) FROM dax_errors") == 0, "dax_errors: %s", errors_text(db));
    check_rows_and_close(db, path, 4);
}

/* --- the ring ------------------------------------------------------------------------------------------ */

/* Just ahead of the tail, while commits go on. */
void scenario_media_ring_open(void)
{
    char *path = test_path("ahead.db"), *side = test_printf("%s-dax", path);
    test_context("the ring ahead of the tail, while it is open");
    sqlite3 *db = make(path);
    struct places p = places_of(side);
    uint64_t bad = ring_block(&p, (uint64_t)db_status(db, "log.tail") + 2 * GUEST_PAGE);
    poison_add(side, bad);
    forget_mappings(side);
    for (int i = 2; i <= 60; i++)
        db_exec(db, "INSERT INTO t VALUES(%d, randomblob(3000))", i);
    test_say("ring: %s", errors_text(db));
    check_entry(db, "log", bad, "'quarantined', 'repaired'");
    db_text(db, "SELECT dax_repair()");
    check_entry(db, "log", bad, "'repaired'");
    CHECK(poison_count(side) == 0, "the log's block is still bad");
    check_rows_and_close(db, path, 60);
}

/* --- a record that is needed ---------------------------------------------------------------------------- */

/* After the machine has stopped in mid-commit: the first live record cannot be read. */
void scenario_media_live(void)
{
    char *path = test_path("stop.db"), *side = test_printf("%s-dax", path);
    uint8_t content[GUEST_PAGE];
    struct places p = places_of(side);
    uint64_t bad = ring_block(&p, p.cursor);
    test_context("the first live record, page %llu of the sidecar",
                 (unsigned long long)(bad / GUEST_PAGE));
    file_peek(side, (int64_t)bad, content, sizeof content);
    poison_add(side, bad);
    for (int again = 0; again < 2; again++) { /* the first refusal spoils nothing */
        sqlite3 *db;
        log_clear();
        int rc = db_try_open(path, PARAMS, SQLITE_OPEN_READWRITE, &db);
        if (rc == SQLITE_OK)
            rc = db_try(db, "PRAGMA schema_version");
        test_say("open: %d, %s", rc, log_text());
        CHECK((rc & 0xff) == SQLITE_IOERR || (rc & 0xff) == SQLITE_CORRUPT, "rc %d", rc);
        CHECK(log_has("stop.db-dax", NULL), "log: %s", log_text());
        sqlite3_close(db);
        CHECK(poison_listed(side, bad), "a record that is needed has been written over");
    }
    file_poke(side, (int64_t)bad, content, sizeof content);
    CHECK(poison_count(side) == 0, "put back, and still bad");
    sqlite3 *db = db_open(path, PARAMS);
    test_say("%s", log_text());
    int64_t n = torture_verify(db, false, "after the record was back");
    db_close(db);
    stock_check(path);
    test_say("found %lld", (long long)n);
}

/* --- a page whose newest version is in DRAM ----------------------------------------------------------- */

void scenario_media_frame(void)
{
    char *path = test_path("frame.db");
    test_context("a page with a frame");
    sqlite3 *db = make(path), *reader = db_open(path, PARAMS);
    db_exec(db, "WITH RECURSIVE s(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM s WHERE i < 200)"
                " INSERT INTO t SELECT i, zeroblob(3000) FROM s");
    db_exec(db, "SELECT dax_checkpoint('truncate')");
    db_exec(reader, "BEGIN; SELECT count(*) FROM t WHERE id = 1");
    db_exec(db, "UPDATE t SET v = randomblob(3000) WHERE id = 100");
    char *hash = db_text(db, "SELECT hex(v) FROM t WHERE id = 100");
    uint64_t page = (uint64_t)db_int(db, "SELECT page FROM dax_pages WHERE versions > 0 AND"
                                         " owner = 't' AND role = 'leaf'");
    poison_add(path, page * GUEST_PAGE);
    forget_mappings(path);
    /* Who needs the newest version has it; the old one is gone. */
    CHECK(!strcmp(db_text(db, "SELECT hex(v) FROM t WHERE id = 100"), hash), "the newest version");
    int rc = db_try(reader, "SELECT hex(v) FROM t WHERE id = 100");
    CHECK((rc & 0xff) == SQLITE_IOERR, "the old version, which is bad: %d", rc);
    CHECK(db_int(reader, "SELECT length(v) FROM t WHERE id = 150") == 3000, "a neighbour");
    /* With the error SQLite has ended the reader's transaction: nobody needs the old version any more. */
    check_entry(db, "database", page * GUEST_PAGE, "'quarantined', 'repaired'");
    db_exec(db, "SELECT dax_checkpoint('full')");
    check_entry(db, "database", page * GUEST_PAGE, "'repaired'");
    CHECK(poison_count(path) == 0, "the block is still bad");
    CHECK(!strcmp(db_text(db, "SELECT hex(v) FROM t WHERE id = 100"), hash), "the rewritten page");
    db_close(reader);
    check_rows_and_close(db, path, 200);
}
