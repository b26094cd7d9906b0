/* big.c: transactions far larger than log and memory: done, bounded, or not at all.
 *
 * Catches: a transaction that must fit the sidecar or DRAM; memory that grows with the transaction;
 * a log entry per page of a VACUUM; scratch space that is kept; half of a big transaction after a
 * kill; recovery that copies from scratch pages which were reused.
 *
 * DAX_TEST_BIG_MB sets the size; without it 2048 where directory and memory have room for that,
 * else 256. The sidecar has its default size. Each step runs in a child whose memory (everything
 * but the mapped files) is watched; then a child is killed half-way through the same step.
 */
#include "tests/system/harness.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The private-page budget, the log record of it, SQLite's caches and sorter, code, and 2 GB of page
 * words and version nodes. */
#define MEMORY_KIB (192 * 1024)
#define ROW_BYTES 4000

static char *path;
static unsigned size_mb;

struct step {
    const char *name;
    const char *sql; /* NULL: insert */
};

static const struct step steps[] = {
    {"INSERT", NULL},
    {"UPDATE", "UPDATE t SET n = n + 1, x = zeroblob(3990) || x'aa' WHERE id % 4 = 0"},
    {"CREATE INDEX", "CREATE INDEX big ON t(n, substr(x, 1, 300))"},
    {"VACUUM", "VACUUM"},
    {"DELETE", "DELETE FROM t WHERE id % 3"},
    {"VACUUM into less", "VACUUM"},
};

/* --- memory ----------------------------------------------------------------------------------- */

/* KiB resident in all mappings but those of files below the test's directory, which are the page
 * cache's; -1: the process is gone. */
static int64_t memory_kib(pid_t pid)
{
    char name[64], line[4096];
    snprintf(name, sizeof name, "/proc/%d/smaps", (int)pid);
    FILE *f = fopen(name, "re");
    if (!f)
        return -1;
    int64_t sum = -1;
    bool file = false;
    while (fgets(line, sizeof line, f)) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
            file = strstr(line, test_dir()) != NULL;
            sum = sum < 0 ? 0 : sum;
        } else if (!file && !strncmp(line, "Rss:", 4)) {
            sum += strtoll(line + 4, NULL, 10);
        }
    }
    fclose(f);
    return sum;
}

/* --- the steps -------------------------------------------------------------------------------- */

static sqlite3 *open_big(void)
{
    sqlite3 *db = db_open(path, "");
    setenv("SQLITE_TMPDIR", test_dir(), 1);
    return db;
}

/* SIGUSR1 says that the step begins. */
static int child_step(void *arg)
{
    const struct step *s = arg;
    sqlite3 *db = open_big();
    kill(getppid(), SIGUSR1);
    if (s->sql) {
        db_exec(db, "%s", s->sql);
    } else {
        int64_t rows = (int64_t)size_mb * 1024 * 1024 / ROW_BYTES;
        unsigned char *body = malloc(ROW_BYTES);
        sqlite3_stmt *st;
        CHECK(body, "malloc");
        db_exec(db, "BEGIN");
        CHECK_RC(db, sqlite3_prepare_v2(db, "INSERT INTO t VALUES(?1, ?2, ?3)", -1, &st, NULL),
                 SQLITE_OK);
        for (int64_t i = 1; i <= rows; i++) {
            memset(body, (int)(i % 251), ROW_BYTES);
            sqlite3_bind_int64(st, 1, i);
            sqlite3_bind_int64(st, 2, i * 7 % 1000003);
            sqlite3_bind_blob(st, 3, body, ROW_BYTES - (int)(i % 50), SQLITE_STATIC);
            CHECK_RC(db, sqlite3_step(st), SQLITE_DONE);
            sqlite3_reset(st);
        }
        sqlite3_finalize(st);
        db_exec(db, "COMMIT");
    }
    db_close(db);
    return 0;
}

struct state {
    int64_t rows, sum, lengths, schema;
};

static struct state look(sqlite3 *db)
{
    return (struct state){db_int(db, "SELECT count(*) FROM t"),
                          db_int(db, "SELECT coalesce(sum(n), 0) FROM t"),
                          db_int(db, "SELECT coalesce(sum(length(x)), 0) FROM t"),
                          db_int(db, "SELECT count(*) FROM sqlite_schema")};
}

static bool same(const struct state *a, const struct state *b)
{
    return a->rows == b->rows && a->sum == b->sum && a->lengths == b->lengths &&
           a->schema == b->schema;
}

static struct state look_and_check(const char *when)
{
    sqlite3 *db = open_big();
    struct state s = look(db);
    char *answer = db_text(db, "PRAGMA quick_check");
    CHECK(!strcmp(answer, "ok"), "%s: %s", when, answer);
    if (test_on_dax())
        CHECK(db_status(db, "bytes.scratch") == 0, "%s: %lld bytes of scratch are kept", when,
              (long long)db_status(db, "bytes.scratch"));
    db_close(db);
    return s;
}

static double now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static volatile sig_atomic_t begun;

static void on_begun(int sig)
{
    (void)sig;
    begun = 1;
}

/* Watch a child until it ends, or kill it after kill_after seconds of its step. Returns what
 * child_wait says. */
static int watch(pid_t pid, double kill_after, int64_t *peak_kib, double *seconds)
{
    double start = 0, sampled = 0;
    for (;;) {
        int status;
        pid_t done = waitpid(pid, &status, WNOHANG);
        if (begun && !start)
            start = now();
        *seconds = start ? now() - start : 0;
        if (done == pid)
            return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
        if (start && *seconds >= kill_after) {
            kill(pid, SIGKILL);
            return child_wait(pid);
        }
        if (now() - sampled > 0.05) {
            int64_t kib = memory_kib(pid);
            *peak_kib = kib > *peak_kib ? kib : *peak_kib;
            sampled = now();
        }
        usleep(2000);
    }
}

/* Kill a child half-way; what is there then is the state before. A child that was through before it
 * was killed says how long the step takes: then once more, from a copy. Returns the seconds. */
static double kill_half_way(const struct step *s, const struct state *before, struct rng *r,
                            double guess)
{
    char *copy = test_path("before.db");
    file_copy(path, copy);
    for (int tries = 0;; tries++) {
        CHECK(tries < 8, "%s cannot be killed half-way", s->name);
        int64_t peak = 0;
        double seconds;
        begun = 0;
        double after = guess * (0.2 + rng_below(r, 60) / 100.0);
        int rc = watch(child_start(child_step, (void *)(uintptr_t)s), after, &peak, &seconds);
        CHECK(rc == 0 || rc == -SIGKILL, "%s: the child ended with %d", s->name, rc);
        CHECK(peak < MEMORY_KIB, "%s: %lld KiB of memory", s->name, (long long)peak);
        if (rc == -SIGKILL) {
            struct state half = look_and_check("after a kill half-way");
            if (same(&half, before)) {
                unlink(copy);
                return seconds;
            }
        }
        guess = seconds;
        file_remove_db(path);
        file_copy(copy, path);
    }
}

static void run_step(const struct step *s, struct rng *r, double *guess)
{
    struct state before = look_and_check("before");
    double killed_at = kill_half_way(s, &before, r, *guess);
    int64_t peak = 0;
    begun = 0;
    int rc = watch(child_start(child_step, (void *)(uintptr_t)s), 1e9, &peak, guess);
    CHECK(rc == 0, "%s: the child ended with %d", s->name, rc);
    CHECK(peak < MEMORY_KIB, "%s: %lld KiB of memory", s->name, (long long)peak);
    struct state after = look_and_check(s->name);
    int64_t rows = (int64_t)size_mb * 1024 * 1024 / ROW_BYTES;
    bool fewer = !strcmp(s->name, "DELETE") || !strcmp(s->name, "VACUUM into less");
    CHECK(after.rows == (fewer ? rows / 3 : rows), "%s: %lld rows", s->name, (long long)after.rows);
    test_say("%-16s: killed after %.1f s; then %.1f s, at most %lld MiB of memory, file %lld MiB",
             s->name, killed_at, *guess, (long long)peak / 1024, (long long)file_bytes(path) >> 20);
}

static unsigned choose_size(void)
{
    if (getenv("DAX_TEST_BIG_MB"))
        return (unsigned)atoi(getenv("DAX_TEST_BIG_MB"));
    struct statvfs v;
    CHECK(statvfs(test_dir(), &v) == 0, "statvfs: %s", strerror(errno));
    FILE *f = fopen("/proc/meminfo", "re");
    char line[256];
    long long available = 0;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %lld", &available) == 1)
            break;
    if (f)
        fclose(f);
    bool room = v.f_bavail * v.f_frsize >= 11ull << 30 && available >= 12ll << 20;
    if (!room)
        test_say("not enough room for 2048 MB (needs 11 GiB of disk and 12 GiB of memory): 256 MB");
    return room ? 2048 : 256;
}

int main(void)
{
    test_start("big");
    signal(SIGUSR1, on_begun);
    size_mb = choose_size();
    path = test_path("big.db");
    struct rng r = {test_seed()};
    sqlite3 *db = open_big();
    db_exec(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, n INT, x BLOB)");
    db_close(db);
    /* How long a step takes is only known by doing it; the first guess only aims the first kill. */
    double guess = size_mb / 400.0;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        run_step(&steps[i], &r, &guess);
    stock_check(path);
    return test_finish();
}
