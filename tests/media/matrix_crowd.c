/* matrix_crowd.c: other threads of the process, at work while one meets the bad page.
 *
 * One reads a table, one commits to another and reads back what it has committed; neither needs the page.
 * Whatever happens to the thread that does, they get the right data and no error, and both get on. Their
 * commits find frames of the bad page to be checkpointed and entries of it, as those of a server would.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/media/matrix.h"

#define PAUSE_NS (200 * 1000) /* the machine is there for others, too */

static struct {
    pthread_t reader, writer;
    sqlite3 *reader_db, *writer_db;
    atomic_bool stop;
    atomic_uint reads, commits;
    bool running;
} crowd;

/* sqlite3 calls only: the harness's strings belong to the thread of the test. */
static sqlite3_stmt *crowd_prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *st;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
    CHECK(rc == SQLITE_OK, "another thread: %s: %d %s", sql, rc, sqlite3_errmsg(db));
    return st;
}

static void crowd_pause(void)
{
    nanosleep(&(struct timespec){0, PAUSE_NS}, NULL);
}

static void *crowd_read(void *arg)
{
    (void)arg;
    sqlite3_stmt *st = crowd_prepare(crowd.reader_db, "SELECT id, v FROM z ORDER BY id");
    while (!atomic_load(&crowd.stop)) {
        int rc, id = 0;
        while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
            const char *v = (const char *)sqlite3_column_text(st, 1);
            id++;
            CHECK(sqlite3_column_int(st, 0) == id && v && strncmp(v, "z ", 2) == 0 &&
                      atoi(v + 2) == 10 * id,
                  "another thread reads a wrong row: %d, %s", sqlite3_column_int(st, 0), v);
        }
        CHECK(rc == SQLITE_DONE, "another thread cannot read a table that is good: %d %s", rc,
              sqlite3_errmsg(crowd.reader_db));
        CHECK(id == MATRIX_BYSTANDERS, "another thread reads %d rows", id);
        sqlite3_reset(st);
        atomic_fetch_add(&crowd.reads, 1);
        crowd_pause();
    }
    sqlite3_finalize(st);
    return NULL;
}

static void *crowd_write(void *arg)
{
    (void)arg;
    sqlite3_stmt *update = crowd_prepare(crowd.writer_db, "UPDATE y SET a = a + 1, b = b + 1");
    sqlite3_stmt *select =
        crowd_prepare(crowd.writer_db, "SELECT count(*), min(a), max(a), min(b), max(b) FROM y");
    for (int n = 1; !atomic_load(&crowd.stop); n++) {
        int rc = sqlite3_step(update);
        CHECK(rc == SQLITE_DONE, "another thread cannot change a table that is good: %d %s", rc,
              sqlite3_errmsg(crowd.writer_db));
        sqlite3_reset(update);
        rc = sqlite3_step(select);
        CHECK(rc == SQLITE_ROW, "another thread cannot read what it has committed: %d %s", rc,
              sqlite3_errmsg(crowd.writer_db));
        CHECK(sqlite3_column_int(select, 0) == MATRIX_BYSTANDERS, "%d rows",
              sqlite3_column_int(select, 0));
        for (int c = 1; c <= 4; c++)
            CHECK(sqlite3_column_int(select, c) == n, "commit %d of another thread: it reads %d", n,
                  sqlite3_column_int(select, c));
        sqlite3_reset(select);
        atomic_fetch_add(&crowd.commits, 1);
        crowd_pause();
    }
    sqlite3_finalize(update);
    sqlite3_finalize(select);
    return NULL;
}

void crowd_start(const char *path, const char *params)
{
    crowd.reader_db = db_open(path, params);
    crowd.writer_db = db_open(path, params);
    sqlite3_busy_timeout(crowd.reader_db, MATRIX_BUSY_MS);
    sqlite3_busy_timeout(crowd.writer_db, MATRIX_BUSY_MS);
    db_exec(crowd.writer_db, "UPDATE y SET a = 0, b = 0");
    CHECK(pthread_create(&crowd.reader, NULL, crowd_read, NULL) == 0 &&
              pthread_create(&crowd.writer, NULL, crowd_write, NULL) == 0,
          "threads");
    crowd.running = true;
    crowd_advance();
}

void crowd_advance(void)
{
    if (!crowd.running)
        return;
    unsigned reads = atomic_load(&crowd.reads), commits = atomic_load(&crowd.commits);
    /* A thread that fails ends the process, one that hangs has MATRIX_RUN_LIMIT_S. */
    while (atomic_load(&crowd.reads) < reads + 2 || atomic_load(&crowd.commits) < commits + 2)
        crowd_pause();
}

void crowd_stop(void)
{
    if (!crowd.running)
        return;
    atomic_store(&crowd.stop, true);
    pthread_join(crowd.reader, NULL);
    pthread_join(crowd.writer, NULL);
    crowd.running = false;
    CHECK(sqlite3_close(crowd.reader_db) == SQLITE_OK &&
              sqlite3_close(crowd.writer_db) == SQLITE_OK,
          "close of the other threads' connections");
}
