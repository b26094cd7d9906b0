/* large.c: a database of more than 4 GiB.
 *
 * Catches: a byte offset or page number cut to 32 bits anywhere between xWrite and the mapping; a
 * mapping that ends; fetches refused or wrong beyond 2 GiB, where PRAGMA mmap_size has its cap.
 *
 * DAX_TEST_LARGE_MB sets the size, 4608 without it; where the directory or memory has no room for
 * it, the test says so and is skipped (status 77).
 */
#include "tests/system/harness.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define ROW_MB 16

static unsigned size_mb = 4608;

static void insert(sqlite3 *db, int64_t id)
{
    static unsigned char *body;
    if (!body)
        body = malloc(ROW_MB << 20);
    CHECK(body, "malloc");
    for (size_t i = 0; i < ROW_MB << 20;
         i += 4096) /* each page of it can be told from all others */
        memcpy(body + i, &(int64_t){id << 32 | (int64_t)i}, 8);
    sqlite3_stmt *st;
    CHECK_RC(db, sqlite3_prepare_v2(db, "INSERT INTO t VALUES(?1, ?2)", -1, &st, NULL), SQLITE_OK);
    sqlite3_bind_int64(st, 1, id);
    sqlite3_bind_blob(st, 2, body, ROW_MB << 20, SQLITE_STATIC);
    CHECK_RC(db, sqlite3_step(st), SQLITE_DONE);
    sqlite3_finalize(st);
}

static void check_rows(sqlite3 *db, int64_t rows, const char *when)
{
    for (int64_t id = 1; id <= rows; id++) {
        sqlite3_blob *b;
        CHECK_RC(db, sqlite3_blob_open(db, "main", "t", "x", id, 0, &b), SQLITE_OK);
        CHECK(sqlite3_blob_bytes(b) == ROW_MB << 20, "%s: size of row %lld", when, (long long)id);
        for (int i = 0; i < ROW_MB << 20; i += 1 << 18) {
            int64_t got;
            CHECK_RC(db, sqlite3_blob_read(b, &got, 8, i), SQLITE_OK);
            CHECK(got == (id << 32 | i), "%s: row %lld at %d is of row %lld at %lld", when,
                  (long long)id, i, (long long)(got >> 32), (long long)(got & 0xffffffff));
        }
        sqlite3_blob_close(b);
    }
    CHECK(db_int(db, "SELECT count(*) FROM small") == 1000, "%s: rows beyond", when);
    CHECK(db_int(db, "SELECT sum(v) FROM small") == 500500, "%s: sum beyond", when);
}

static int child_crash(void *arg)
{
    sqlite3 *db = db_open(arg, "");
    db_exec(db, "UPDATE small SET v = v + 1; UPDATE small SET v = v - 1");
    return kill(getpid(), SIGKILL);
}

int main(void)
{
    test_start("large");
    if (getenv("DAX_TEST_LARGE_MB"))
        size_mb = (unsigned)atoi(getenv("DAX_TEST_LARGE_MB"));
    struct statvfs v;
    CHECK(statvfs(test_dir(), &v) == 0, "statvfs: %s", strerror(errno));
    if (v.f_bavail * v.f_frsize < ((uint64_t)size_mb + 512) << 20) {
        test_say("SKIPPED: %u MiB do not fit into %s", size_mb + 512, test_dir());
        test_finish();
        return 77;
    }
    char *path = test_path("large.db");
    int64_t rows = size_mb / ROW_MB;
    sqlite3 *db = db_open(path, "");
    db_exec(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB)");
    for (int64_t id = 1; id <= rows;) {
        db_exec(db, "BEGIN");
        for (int i = 0; i < 6 && id <= rows; i++)
            insert(db, id++);
        db_exec(db, "COMMIT");
    }
    db_exec(db, "CREATE TABLE small(id INTEGER PRIMARY KEY, v INT);"
                "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 1000)"
                " INSERT INTO small SELECT i, i FROM s; CREATE INDEX sv ON small(v)");
    int64_t pages = db_int(db, "PRAGMA page_count");
    CHECK(pages * 4096 > (int64_t)size_mb << 20, "%lld pages", (long long)pages);
    check_rows(db, rows, "at first");
    if (test_on_dax()) {
        int64_t copied = db_status(db, "counters.reads_copied");
        CHECK(db_int(db, "SELECT count(*) FROM small, small AS b WHERE b.v = small.v") == 1000,
              "join");
        CHECK(db_status(db, "counters.reads_copied") - copied < 30,
              "reads beyond 4 GiB are copied");
    }
    db_close(db);
    CHECK(child_wait(child_start(child_crash, path)) == -SIGKILL, "crash");
    db = db_open(path, "");
    check_rows(db, rows, "after a crash");
    db_exec(db, "UPDATE small SET v = v + 1; UPDATE small SET v = v - 1; ANALYZE");
    db_close(db);
    CHECK(file_bytes(path) < ((int64_t)size_mb + 128) << 20, "the file has %lld bytes",
          (long long)file_bytes(path));
    db = db_open_stock(path);
    check_rows(db, rows, "by stock SQLite");
    char *answer = db_text(db, "PRAGMA quick_check");
    CHECK(!strcmp(answer, "ok"), "quick_check: %s", answer);
    db_close(db);
    return test_finish();
}
