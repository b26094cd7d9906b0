/* quiet.c: a warm point SELECT or one-row UPDATE makes no system call, and daxlite no allocation.
 *
 * Catches: a lock, clock, stat or access call on the hot path; a buffer allocated per transaction;
 * in msync mode, anything beyond the one pwrite and the one fdatasync of a commit.
 *
 * System calls: this program runs itself under strace; the calls between two marks are counted.
 * Allocations: malloc and its like are defined here, and count. SQLite gets an allocator of its own
 * that counts only what the extension asks of it.
 */
#include "tests/system/harness.h"

#include <errno.h>
#include <execinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROWS 20000
#define ITERATIONS 1000
#define MARK_BEGIN "dax-bracket-begin"
#define MARK_END "dax-bracket-end"

/* --- counting --------------------------------------------------------------------------------- */

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t m);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_memalign(size_t align, size_t n);
extern void __libc_free(void *p);

/* Seen by all shared objects of the process, or they would not be counted. */
#define EXPORTED __attribute__((visibility("default")))

static bool counting; /* one thread */
static unsigned heap_calls, sqlite_calls, sqlite_calls_ours;
static char *ours_from, *ours_to; /* where the extension's code lies */

/* SQLite's allocator is asked: by the extension, if that is the first caller outside SQLite. */
static void count_sqlite_call(void)
{
    void *at[6];
    if (!counting)
        return;
    sqlite_calls++;
    for (int n = backtrace(at, 6), i = 0; i < n; i++) {
        if ((char *)at[i] >= ours_from && (char *)at[i] < ours_to) {
            sqlite_calls_ours++;
            return;
        }
    }
}

static void find_extension(void)
{
    FILE *f = fopen("/proc/self/maps", "re");
    char line[4096];
    while (f && fgets(line, sizeof line, f)) {
        void *from, *to;
        if (strstr(line, "/daxlite.so") && strstr(line, "r-xp") &&
            sscanf(line, "%p-%p", &from, &to) == 2) {
            ours_from = from;
            ours_to = to;
        }
    }
    CHECK(f && (ours_from || !test_on_dax()), "the extension's code is not mapped");
    fclose(f);
}

EXPORTED void *malloc(size_t n)
{
    heap_calls += counting;
    return __libc_malloc(n);
}

EXPORTED void *calloc(size_t n, size_t m)
{
    heap_calls += counting;
    return __libc_calloc(n, m);
}

EXPORTED void *realloc(void *p, size_t n)
{
    heap_calls += counting;
    return __libc_realloc(p, n);
}

EXPORTED void free(void *p)
{
    heap_calls += counting;
    __libc_free(p);
}

EXPORTED void *aligned_alloc(size_t align, size_t n)
{
    heap_calls += counting;
    return __libc_memalign(align, n);
}

EXPORTED int posix_memalign(void **out, size_t align, size_t n)
{
    heap_calls += counting;
    *out = __libc_memalign(align, n);
    return *out ? 0 : ENOMEM;
}

/* SQLite's: the size is kept in front. */
static void *sq_malloc(int n)
{
    count_sqlite_call();
    size_t *p = __libc_malloc((size_t)n + 16);
    if (!p)
        return NULL;
    p[0] = (size_t)n;
    return p + 2;
}

static void sq_free(void *p)
{
    __libc_free((size_t *)p - 2);
}

static void *sq_realloc(void *p, int n)
{
    count_sqlite_call();
    size_t *q = __libc_realloc((size_t *)p - 2, (size_t)n + 16);
    if (!q)
        return NULL;
    q[0] = (size_t)n;
    return q + 2;
}

static int sq_size(void *p)
{
    return p ? (int)((size_t *)p)[-2] : 0;
}

static int sq_roundup(int n)
{
    return (n + 7) & ~7;
}

static int sq_init(void *p)
{
    (void)p;
    return SQLITE_OK;
}

static void sq_shutdown(void *p)
{
    (void)p;
}

/* --- the traced process ----------------------------------------------------------------------- */

static void mark(const char *text)
{
    if (write(-1, text, strlen(text)) >= 0) /* shows in the trace, does nothing */
        abort();
}

static void run_statement(sqlite3 *db, sqlite3_stmt *st, int i)
{
    sqlite3_bind_int(st, 1, i % ROWS + 1);
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW)
        ;
    CHECK_RC(db, rc, SQLITE_DONE);
    sqlite3_reset(st);
}

static void bracket(sqlite3 *db, const char *sql, const char *name)
{
    sqlite3_stmt *st;
    CHECK_RC(db, sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL), SQLITE_OK);
    for (int i = 0; i < 3 * ITERATIONS; i++)
        run_statement(db, st, i % ITERATIONS * 17);
    counting = true; /* libc's calls count, so those of any shared object do */
    heap_calls = 0;
    test_printf("%s", name);
    counting = false;
    CHECK(heap_calls > 0, "calls of the heap are not counted");
    find_extension();
    void *warm[6];
    backtrace(warm, 6);
    heap_calls = sqlite_calls = sqlite_calls_ours = 0;
    mark(MARK_BEGIN);
    counting = true;
    for (int i = 0; i < ITERATIONS; i++)
        run_statement(db, st, i * 17);
    counting = false;
    mark(MARK_END);
    printf("%s heap %u sqlite %u %u\n", name, heap_calls, sqlite_calls, sqlite_calls_ours);
    sqlite3_finalize(st);
}

static int traced(const char *dir, const char *kind, const char *params)
{
    static const sqlite3_mem_methods methods = {sq_malloc,  sq_free, sq_realloc,  sq_size,
                                                sq_roundup, sq_init, sq_shutdown, NULL};
    CHECK(sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) == SQLITE_OK, "SQLITE_CONFIG_MALLOC");
    CHECK(sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0) == SQLITE_OK, "SQLITE_CONFIG_MEMSTATUS");
    test_start_child("quiet_traced", dir, 0);
    char *path = test_path("%s.db", kind);
    char *uri = !strcmp(kind, "memory")  ? test_printf(":memory:")
                : !strcmp(kind, "stock") ? test_printf("file:%s?vfs=unix", path)
                                         : db_uri(path, params);
    sqlite3 *db;
    int rc = sqlite3_open_v2(
        uri, &db,
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL);
    CHECK_RC(db, rc, SQLITE_OK);
    if (!strcmp(kind, "stock"))
        db_exec(db, "PRAGMA journal_mode = wal");
    db_exec(db,
            "CREATE TABLE t(id INTEGER PRIMARY KEY, n INT, x TEXT);"
            "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < %d)"
            " INSERT INTO t SELECT i, 0, printf('%%.100c', 'x') FROM s",
            ROWS);
    db_exec(db, "PRAGMA wal_checkpoint(TRUNCATE)");
    bool dax = strcmp(kind, "memory") && strcmp(kind, "stock") && test_on_dax();
    printf("mode %s\n", dax ? db_text(db, "SELECT json_extract(dax_status(), '$.mode')") : kind);
    bracket(db, "SELECT n, x FROM t WHERE id = ?1", "select");
    bracket(db, "UPDATE t SET n = n + 1 WHERE id = ?1", "update");
    bracket(db, "SELECT n, x FROM t WHERE id = ?1", "select-again");
    CHECK(db_int(db, "SELECT sum(n) FROM t") == 4 * ITERATIONS, "updates");
    db_close(db);
    return 0;
}

/* --- the one that traces ---------------------------------------------------------------------- */

#define BRACKETS 3
static const char *const bracket_names[BRACKETS] = {"select", "update", "select-again"};

struct counts {
    unsigned syscalls[BRACKETS], pwrites[BRACKETS], syncs[BRACKETS], seeks[BRACKETS];
    unsigned heap[BRACKETS], sqlite[BRACKETS], ours[BRACKETS];
    char first[BRACKETS][200]; /* an example */
    char mode[16];
};

static void read_trace(const char *file, struct counts *c)
{
    FILE *f = fopen(file, "re");
    CHECK(f, "%s: %s", file, strerror(errno));
    char line[4096];
    int at = -1;
    bool inside = false;
    while (fgets(line, sizeof line, f)) {
        if (strstr(line, MARK_BEGIN)) {
            inside = true;
            at++;
            CHECK(at < BRACKETS, "too many brackets");
        } else if (strstr(line, MARK_END)) {
            inside = false;
        } else if (inside && strchr(line, '(')) {
            c->syscalls[at]++;
            c->pwrites[at] += strstr(line, "pwrite64(") != NULL;
            c->syncs[at] += strstr(line, "fdatasync(") != NULL;
            c->seeks[at] += strstr(line, "lseek(") != NULL;
            if (!*c->first[at])
                snprintf(c->first[at], sizeof c->first[at], "%.150s", line);
        }
    }
    fclose(f);
    CHECK(at == BRACKETS - 1 && !inside, "the trace has %d brackets", at + 1);
}

static struct counts trace(const char *self, const char *kind, const char *params)
{
    struct counts c = {0};
    char *out = test_path("%s.trace", kind), *numbers = test_path("%s.out", kind);
    char *command = test_printf("strace -f -qq -s 40 -o %s %s traced %s %s '%s' > %s", out, self,
                                test_dir(), kind, params, numbers);
    CHECK(system(command) == 0, "%s", command);
    read_trace(out, &c);
    FILE *f = fopen(numbers, "re");
    CHECK(f && fscanf(f, "mode %15s\n", c.mode) == 1, "%s", numbers);
    for (int i = 0; i < BRACKETS; i++) {
        char name[32];
        CHECK(fscanf(f, "%31s heap %u sqlite %u %u\n", name, &c.heap[i], &c.sqlite[i],
                     &c.ours[i]) == 4,
              "%s", numbers);
        test_say(
            "%-8s %-12s: %4u system calls, %4u of the heap, %4u of SQLite's allocator, %u of these"
            " by daxlite",
            kind, bracket_names[i], c.syscalls[i], c.heap[i], c.sqlite[i], c.ours[i]);
    }
    fclose(f);
    return c;
}

/* Nothing at all; in msync mode an UPDATE has its one pwrite, and fdatasync behind it or, where records go past
 * the page cache, lseek before it. */
static void check_counts(const struct counts *c)
{
    for (int i = 0; i < BRACKETS; i++) {
        unsigned each = i == 1 && !strcmp(c->mode, "msync") ? ITERATIONS : 0;
        CHECK(c->pwrites[i] == each && c->syscalls[i] == 2 * each &&
                  (c->syncs[i] ? c->syncs[i] == each && !c->seeks[i] : c->seeks[i] == each),
              "%s mode, %d times %s: %u system calls, of them %u pwrite, %u fdatasync, %u lseek, "
              "e.g. %s",
              c->mode, ITERATIONS, bracket_names[i], c->syscalls[i], c->pwrites[i], c->syncs[i],
              c->seeks[i], c->first[i]);
        CHECK(!c->heap[i] && !c->ours[i],
              "%s mode, %d times %s: %u heap calls, %u of SQLite's allocator", c->mode, ITERATIONS,
              bracket_names[i], c->heap[i], c->ours[i]);
    }
}

int main(int argc, char **argv)
{
    if (argc == 5 && !strcmp(argv[1], "traced"))
        return traced(argv[2], argv[3], argv[4]);
    test_start("quiet");
    CHECK(system("strace -V > /dev/null 2>&1") == 0, "there is no strace: apt-get install strace");
    if (system("strace -o /dev/null true > /dev/null 2>&1") != 0) {
        test_say("SKIPPED: this system does not let a process be traced");
        return 77;
    }
    /* Controls: the counting itself, and what SQLite needs on its own. */
    struct counts memory = trace(argv[0], "memory", "");
    for (int i = 0; i < BRACKETS; i++)
        CHECK(!memory.syscalls[i] && !memory.heap[i], ":memory: %s", bracket_names[i]);
    struct counts stock = trace(argv[0], "stock", "");
    CHECK(stock.syscalls[1] >= ITERATIONS,
          "stock UPDATEs make no system calls: nothing is counted");
    if (!test_on_dax())
        return test_finish();

    struct counts c = trace(argv[0], "auto", "");
    check_counts(&c);
    if (strcmp(c.mode, "msync")) {
        c = trace(argv[0], "msync", "dax_persist=msync");
        check_counts(&c);
    }
    return test_finish();
}
