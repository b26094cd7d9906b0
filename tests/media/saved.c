/* saved.c: both pages with the log's cursor go bad under an open database, for good.
 *
 * Nobody but this process knows any more which records count, so it says: save it now. Catches: a message that
 * does not come, or comes for the wrong thing; a commit that reports success from then on although no later open
 * can find it; a row that is committed and cannot be read; and above all advice that does not work: VACUUM INTO
 * a file of daxlite's or of stock SQLite's, the backup API, to either, with a reader's snapshot open meanwhile; a
 * close that says nothing; a next open that shows an older state instead of refusing.
 */
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/layout.h"
#include "tests/media/bad_pages.h"
#include "tests/media/poison.h"
#include "tests/system/harness.h"

#define ROWS 2000
#define WAYS (BAD_MAPPED | BAD_READ | BAD_STUCK)

static char *side;

/* Of root and twin, in pages. */
static void find_pages(uint64_t *root_out, uint64_t *twin_out)
{
    static uint8_t page[DAX_PAGE_BYTES];
    for (int64_t at = 0; at < file_bytes(side); at += DAX_PAGE_BYTES) {
        file_peek(side, at, page, sizeof page);
        for (size_t line = 0; line < sizeof page; line += DAX_LINE_BYTES) {
            struct sidecar_places places;
            memcpy(&places, page + line, sizeof places);
            if (memcmp(places.magic, DAX_PLACES_MAGIC, sizeof places.magic) != 0 ||
                places.twin_offset != (uint64_t)at)
                continue;
            *root_out = places.root_offset / DAX_PAGE_BYTES;
            *twin_out = places.twin_offset / DAX_PAGE_BYTES;
            return;
        }
    }
    CHECK(false, "no places in %s", side);
}

static void backup_into(sqlite3 *db, sqlite3 *to)
{
    sqlite3_backup *backup = sqlite3_backup_init(to, "main", db, "main");
    CHECK(backup, "%s", sqlite3_errmsg(to));
    CHECK_RC(to, sqlite3_backup_step(backup, -1), SQLITE_DONE);
    CHECK_RC(to, sqlite3_backup_finish(backup), SQLITE_OK);
    db_close(to);
}

/* All that was committed is in the copy, for stock SQLite. */
static void check_copy(const char *path, const char *how, uint64_t hash)
{
    test_context("%s", how);
    stock_check(path);
    sqlite3 *db = db_open_stock(path);
    CHECK(db_int(db, "SELECT count(*) FROM t") == ROWS, "rows are missing");
    CHECK(db_int(db, "SELECT sum(n) FROM t") == ROWS, "an update is missing");
    CHECK(db_content_hash(db, "main") == hash, "another content");
    db_close(db);
}

static int run(const char *params)
{
    char *path = test_path("app.db");
    sqlite3 *db = db_open(path, params), *reader;
    side = test_printf("%s-dax", path);
    test_context("%s", params);
    db_exec(db,
            "CREATE TABLE t(i INTEGER PRIMARY KEY, n INTEGER, b TEXT); CREATE INDEX x ON t(n, b);"
            "WITH w(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM w WHERE i < %d)"
            "INSERT INTO t SELECT i, 0, hex(randomblob(100)) FROM w",
            ROWS);
    for (int i = 1; i <= ROWS; i += 10)
        db_exec(db, "UPDATE t SET n = n + 1 WHERE i BETWEEN %d AND %d", i, i + 9);
    uint64_t hash = db_content_hash(db, "main");
    reader = db_open(path, params);
    db_exec(reader, "BEGIN; SELECT count(*) FROM t");

    uint64_t root, twin;
    find_pages(&root, &twin);
    bad_page_add(side, root, WAYS);
    bad_page_add(side, twin, WAYS);
    log_clear();
    int rc = db_try(db, "SELECT dax_checkpoint('full')");
    CHECK(rc != SQLITE_OK, "a checkpoint has succeeded");
    CHECK(text_has(sqlite3_errmsg(db), "save it now"), "%s", sqlite3_errmsg(db));
    /* The first commits may still be possible in msync mode; from the first that is not on, none is. */
    bool refused = false;
    for (int i = 0; i < 3; i++) {
        log_clear();
        rc = db_try(
            db, "UPDATE t SET n = n WHERE i = 1; UPDATE t SET n = n + 0, b = b || '' WHERE i = 1");
        CHECK(!refused || rc != SQLITE_OK, "a commit behind one that was refused");
        CHECK(rc == SQLITE_OK || log_has("save it now", NULL), "a commit is refused with %s",
              log_text());
        refused |= rc != SQLITE_OK;
    }
    CHECK(refused || strstr(params, "msync"), "commits go on");

    CHECK(db_content_hash(db, "main") == hash, "the database reads differently");
    db_check_integrity(db, "with root and twin gone");
    db_exec(db, "VACUUM INTO '%s'", test_path("vacuum-dax.db"));
    db_exec(db, "VACUUM INTO 'file:%s?vfs=unix'", test_path("vacuum-stock.db"));
    backup_into(db, db_open(test_path("backup-dax.db"), ""));
    backup_into(db, db_open_stock(test_path("backup-stock.db")));
    CHECK(db_content_hash(reader, "main") == hash, "the reader's snapshot reads differently");
    backup_into(reader, db_open_stock(test_path("backup-reader.db")));
    db_exec(reader, "COMMIT");
    check_copy(test_path("vacuum-dax.db"), "VACUUM INTO a file of daxlite's", hash);
    check_copy(test_path("vacuum-stock.db"), "VACUUM INTO a file of stock SQLite's", hash);
    check_copy(test_path("backup-dax.db"), "backup to a file of daxlite's", hash);
    check_copy(test_path("backup-stock.db"), "backup to a file of stock SQLite's", hash);
    check_copy(test_path("backup-reader.db"), "backup of a reader's snapshot", hash);

    test_context("%s, at the close", params);
    log_clear();
    db_close(reader);
    db_close(db);
    CHECK(log_has("cannot be opened again", NULL), "the close says: %s", log_text());
    rc = db_try_open(path, params, SQLITE_OPEN_READWRITE, &db);
    if (rc == SQLITE_OK)
        rc = db_try(db, "SELECT count(*) FROM t");
    CHECK(rc != SQLITE_OK, "it is opened again, with %s rows",
          db_text(db, "SELECT count(*) || ' and ' || sum(n) FROM t"));
    sqlite3_close(db);
    return 0;
}

static int in_cache_lines(void *arg)
{
    (void)arg;
    return run("");
}

static int in_msync(void *arg)
{
    (void)arg;
    return run("dax_persist=msync");
}

int main(void)
{
    test_start("saved");
    const char *why = poison_refused(test_dir());
    if (why) {
        test_say("SKIPPED: %s", why);
        return 77;
    }
    int (*const modes[])(void *) = {in_cache_lines, in_msync};
    for (int i = 0; i < 2; i++) {
        int status;
        CHECK(waitpid(child_start(modes[i], NULL), &status, 0) > 0, "no child");
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "mode %d: status %#x", i, status);
        const char *const names[] = {"app",        "vacuum-dax",   "vacuum-stock",
                                     "backup-dax", "backup-stock", "backup-reader"};
        for (size_t n = 0; n < sizeof names / sizeof names[0]; n++)
            file_remove_db(test_path("%s.db", names[n]));
    }
    return test_finish();
}
