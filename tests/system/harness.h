/* harness.h: what every system test needs: seed, directory, extension, connections, verdicts.
 *
 * Environment:
 *   DAX_TEST_SEED       seed of the run (decimal); without it, always the same one. Always printed.
 *   DAX_TEST_DIR        where the test makes its own directory; default /dev/shm.
 *   DAX_TEST_EXTENSION  the extension, path without ".so".
 *   DAX_TEST_VFS        "dax" (default), or "unix": run the same test on stock SQLite in WAL mode,
 *                       which shows that the test itself is right. What only daxlite can answer
 *                       is left out then.
 *   DAX_TEST_KEEP       if set, the directory stays.
 *
 * A check that fails prints where, what and the seed, and ends the process with status 1.
 */
#ifndef TESTS_SYSTEM_HARNESS_H
#define TESTS_SYSTEM_HARNESS_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* --- start and end ---------------------------------------------------------------------------- */

/* Read the environment, print the seed, make the directory, load the extension. */
void test_start(const char *name);

/* A program that is linked with daxlite defines this: called instead of loading the extension, when
 * SQLite has been configured and initialized. */
__attribute__((weak)) void test_register(void);

/* What a failure's message says about where in the test it happened. */
void test_context(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* As test_start in a process that another test process has started on an existing directory. */
void test_start_child(const char *name, const char *dir, uint64_t seed);

/* Remove the directory, say ok. Returns the exit status of main. */
int test_finish(void);

/* Load the extension into this process (test_start does). entry NULL: the default entry point. */
void test_load_extension(const char *entry);

/* In a forked child: failures leave the directory alone from now on. */
void test_disown_directory(void);

uint64_t test_seed(void);
bool test_on_dax(void);
const char *test_dir(void);

/* Path below the test's directory. Strings that the harness returns live until the process ends. */
char *test_path(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
char *test_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A line of progress. */
void test_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

__attribute__((noreturn, format(printf, 4, 5))) void
test_fail(const char *file, int line, const char *what, const char *fmt, ...);

#define CHECK(cond, ...)                                                                           \
    do {                                                                                           \
        if (!(cond))                                                                               \
            test_fail(__FILE__, __LINE__, #cond, __VA_ARGS__);                                     \
    } while (0)

/* rc of a call on db must be `want` (extended codes are compared by their primary one if want is
 * primary). */
#define CHECK_RC(db, rc, want)                                                                     \
    do {                                                                                           \
        int check_rc_ = (rc);                                                                      \
        if (check_rc_ != (want) && (check_rc_ & 0xff) != (want))                                   \
            test_fail(__FILE__, __LINE__, #rc, "rc %d (%s), wanted %d", check_rc_,                 \
                      (db) ? sqlite3_errmsg(db) : sqlite3_errstr(check_rc_), (want));              \
    } while (0)

/* --- randomness ------------------------------------------------------------------------------- */

struct rng {
    uint64_t s;
};
static inline uint64_t rng_next(struct rng *r)
{
    uint64_t z = (r->s += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}
/* 0 .. n-1 */
static inline uint32_t rng_below(struct rng *r, uint32_t n)
{
    return (uint32_t)((rng_next(r) >> 32) * n >> 32);
}

/* --- SQLite's log lines ----------------------------------------------------------------------- */

/* Is there a log line since the last log_clear that contains all words of the NULL-terminated list
 * (any case)? */
bool log_has(const char *word, ...) __attribute__((sentinel));
void log_clear(void);
/* The lines, for messages. Not for other threads. */
const char *log_text(void);

/* Does text contain the word, any case? */
bool text_has(const char *text, const char *word);

/* --- connections ------------------------------------------------------------------------------ */

/* URI of a file for the VFS under test; params: "" or "dax_x=1&..." (left out on stock). */
char *db_uri(const char *path, const char *params);

/* Open for the VFS under test; on stock, journal_mode=wal is set. Must succeed. */
sqlite3 *db_open(const char *path, const char *params);
/* The same, may fail: the code, and *out is to be closed by the caller in any case. */
int db_try_open(const char *path, const char *params, int flags, sqlite3 **out);
/* Open with SQLite's own VFS, as other programs do. Must succeed. */
sqlite3 *db_open_stock(const char *path);
void db_close(sqlite3 *db);

/* Run SQL (rows are thrown away). The first must succeed, the second returns the extended code. */
void db_exec(sqlite3 *db, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int db_try(sqlite3 *db, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* First column of the first row; must succeed and have a row. db_text: "" for NULL. */
int64_t db_int(sqlite3 *db, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *db_text(sqlite3 *db, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A number out of dax_status() of the main database, by its JSON key. Must be there. */
int64_t db_status(sqlite3 *db, const char *key);

/* PRAGMA integrity_check and foreign_key_check must be clean. */
void db_check_integrity(sqlite3 *db, const char *when);

/* Stock SQLite opens the file and finds it sound. Nobody may have it open. */
void stock_check(const char *path);

/* Hash of the content of database `schema`: every row of its schema and of every table. */
uint64_t db_content_hash(sqlite3 *db, const char *schema);

/* --- files and processes ---------------------------------------------------------------------- */

void file_copy(const char *from, const char *to);
bool file_exists(const char *path);
bool file_same(const char *a, const char *b);
int64_t file_bytes(const char *path);
/* Overwrite len bytes at offset; a negative offset counts from the end. */
void file_poke(const char *path, int64_t offset, const void *bytes, size_t len);
void file_peek(const char *path, int64_t offset, void *bytes, size_t len);
void file_remove_db(const char *path); /* and its -journal, -wal, -shm, -dax */

/* fork, run fn(arg) in the child, exit with its result. */
pid_t child_start(int (*fn)(void *arg), void *arg);
/* Wait; the exit status, or -signal. */
int child_wait(pid_t pid);

/* Value of a field like "VmHWM:" or "RssAnon:" of /proc/PID/status in KiB, -1 if it is gone. */
int64_t proc_status_kib(pid_t pid, const char *field);

#endif
