/* page_cache.c: what are daxlite's page cache and jemalloc worth to a program that embeds daxlite?
 *
 * Of dax-embedded only. SQLite takes its page cache and its allocator once, so each configuration has a
 * process of its own and a database of its own, and they take turns, workload by workload and round by round,
 * one at a time. The first round is not counted. What the library links is not the program's malloc(): that is
 * the C library's in each.
 *
 *   config=sqlite       SQLite's page cache and malloc(): what the others are compared with
 *   config=page_cache   daxlite's page cache alone
 *   config=jemalloc     jemalloc as SQLite's allocator alone
 *   config=both         what daxlite_initialize() does by default
 *   config=uncounted    both, and SQLite does not count its allocations
 *
 *   WORKLOAD, config=C                 cpu us/op (whole tables: one operation; nothing here waits for a disk);
 *                                      ratio: over that of config=sqlite in the same round
 *   KIND, config=C;connections=N       memory B: anonymous memory (/proc/self/smaps_rollup) of N connections that
 *                                      have each read a row, updated one, or scanned 3 MB with dax_zero_copy=off,
 *                                      in a fresh process, beyond that with one connection, which brings the
 *                                      store. connections_released: after that scan,
 *                                      sqlite3_db_release_memory() and daxlite_page_cache_shrink()
 *
 * For a profiler: DAX_BENCH_CONFIG=page_cache page_cache-embedded --workloads scan ... has no other process.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/common/alone.h"
#include "bench/common/clock.h"
#include "bench/common/process.h"
#include "bench/common/report.h"
#include "bench/common/subject.h"

#ifdef BENCH_EMBEDDED
#include "include/daxlite.h"

#define ROW_BYTES 100
#define FOOTPRINT_ROWS 30000u /* more than fits into SQLite's default cache */
#define CONNECTIONS 100u
#define ROUNDS_MAX 9u

static const struct config {
    const char *name;
    bool initialize;
    int page_cache, allocator, memory_status;
} configs[] = {
    {"sqlite", false, 0, 0, 1}, {"page_cache", true, 1, 0, 1}, {"jemalloc", true, 0, 1, 1},
    {"both", true, 1, 1, 1},    {"uncounted", true, 1, 1, 0},
};

#define CONFIGS ((int)(sizeof configs / sizeof *configs))

static const struct bench *bench;
static unsigned rows; /* of each database */

/* --- in a configuration's process -------------------------------------------------------------- */

static void config_take(const struct config *c)
{
    const char *why = "";
    struct daxlite_config config = DAXLITE_CONFIG_DEFAULT;
    config.page_cache = c->page_cache;
    config.allocator = c->allocator;
    config.memory_status = c->memory_status;
    if (c->initialize && daxlite_initialize(&config, &why) != SQLITE_OK)
        bench_die(c->name, why);
    if (daxlite_register(0) != SQLITE_OK)
        bench_die(c->name, "daxlite_register");
}

/* Database and statements of one kind of connection, opened when it is first used. */
struct place {
    const char *suffix; /* of the configuration's name; NULL: :memory: */
    const char *parameters;
    sqlite3 *db;
    sqlite3_stmt *update, *select, *insert, *sum, *begin, *commit;
};

static struct place dax = {.suffix = ""},
                    copying = {.suffix = "-copying", .parameters = "dax_zero_copy=off"},
                    in_memory = {.suffix = NULL};

static void place_prepare(struct place *p)
{
    sql_run(p->db, "CREATE TABLE t(id INTEGER PRIMARY KEY, k INTEGER, v BLOB);"
                   "CREATE TABLE w(id INTEGER PRIMARY KEY, v BLOB)");
    p->update = sql_prepare(p->db, "UPDATE t SET v = ?1 WHERE id = ?2");
    p->select = sql_prepare(p->db, "SELECT v FROM t WHERE id = ?1");
    p->insert = sql_prepare(p->db, "INSERT INTO w(v) VALUES (?1)");
    p->sum = sql_prepare(p->db, "SELECT sum(length(v)) FROM t");
    p->begin = sql_prepare(p->db, "BEGIN IMMEDIATE");
    p->commit = sql_prepare(p->db, "COMMIT");
}

static void place_close(struct place *p)
{
    sqlite3_stmt *const all[] = {p->update, p->select, p->insert, p->sum, p->begin, p->commit};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        sqlite3_finalize(all[i]);
    sql_close(p->db);
    p->db = NULL;
}

static void place_fill(struct place *p, unsigned count)
{
    unsigned char row[ROW_BYTES];
    uint64_t random = bench->seed;
    sqlite3_stmt *insert = sql_prepare(p->db, "INSERT INTO t VALUES (?1, ?2, ?3)");
    sql_step(p->begin);
    for (unsigned id = 1; id <= count; id++) {
        random_fill(&random, row, sizeof row);
        sqlite3_bind_int64(insert, 1, id);
        sqlite3_bind_int64(insert, 2, (sqlite3_int64)random_below(&random, 1000000));
        sqlite3_bind_blob(insert, 3, row, ROW_BYTES, SQLITE_STATIC);
        sql_step(insert);
    }
    sql_step(p->commit);
    sqlite3_finalize(insert);
}

static void place_open(struct place *p, const struct config *c, unsigned count)
{
    char name[64];
    struct bench b = *bench;
    if (!p->suffix)
        b.subject = SUBJECT_MEMORY;
    snprintf(name, sizeof name, "%s%s", c->name, p->suffix ? p->suffix : "");
    p->db = subject_open_with(&b, name, p->parameters);
    place_prepare(p);
    place_fill(p, count);
}

/* --- workloads --------------------------------------------------------------------------------- */

static void update_rows(struct place *p, uint64_t count, uint64_t *random)
{
    unsigned char row[ROW_BYTES] = {0};
    for (uint64_t i = 0; i < count; i++) {
        random_fill(random, row + i % 80, sizeof *random);
        sqlite3_bind_blob(p->update, 1, row, ROW_BYTES, SQLITE_STATIC);
        sqlite3_bind_int64(p->update, 2, (sqlite3_int64)random_below(random, rows) + 1);
        sql_step(p->update);
    }
}

static void insert_rows(struct place *p, uint64_t count, uint64_t *random)
{
    unsigned char row[ROW_BYTES] = {0};
    for (uint64_t i = 0; i < count; i++) {
        random_fill(random, row + i % 80, sizeof *random);
        sqlite3_bind_blob(p->insert, 1, row, ROW_BYTES, SQLITE_STATIC);
        sql_step(p->insert);
    }
}

/* Skewed: nine of ten reads go to a tenth of the pages, spread over the table. */
static void read_rows(struct place *p, uint64_t count, bool skewed, uint64_t *random)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t id = random_below(random, rows);
        if (skewed && random_below(random, 10))
            id = (id / 30 * 300 + id % 30) % rows;
        sqlite3_bind_int64(p->select, 1, (sqlite3_int64)id + 1);
        sql_step(p->select);
    }
}

static void one_row_updates(struct place *p, uint64_t count, uint64_t random)
{
    update_rows(p, count, &random);
}

static void one_row_inserts(struct place *p, uint64_t count, uint64_t random)
{
    insert_rows(p, count, &random);
}

static void transactions(struct place *p, uint64_t count, uint64_t random)
{
    for (; count; count -= count < 1000 ? count : 1000) {
        sql_step(p->begin);
        update_rows(p, count < 1000 ? count : 1000, &random);
        sql_step(p->commit);
    }
}

static void load(struct place *p, uint64_t count, uint64_t random)
{
    sql_step(p->begin);
    insert_rows(p, count, &random);
    sql_step(p->commit);
}

static void empty_w(struct place *p)
{
    sql_run(p->db, "DELETE FROM w");
}

static void create_index(struct place *p, uint64_t count, uint64_t random)
{
    (void)count, (void)random;
    sql_run(p->db, "CREATE INDEX tk ON t(k)");
}

static void drop_index(struct place *p)
{
    sql_run(p->db, "DROP INDEX tk");
}

static void indexed(struct place *p, uint64_t count, uint64_t random)
{
    (void)count, (void)random;
    sql_run(p->db, "CREATE TABLE d(a, b); CREATE INDEX da ON d(a); CREATE INDEX db ON d(b);"
                   "INSERT INTO d SELECT k, id FROM t WHERE id <= 20000;"
                   "DELETE FROM d WHERE b % 3 = 0; UPDATE d SET a = a + 1 WHERE b % 3 = 1;"
                   "DROP TABLE d");
}

static void scan(struct place *p, uint64_t count, uint64_t random)
{
    (void)random;
    while (count--)
        sql_step(p->sum);
}

static void reads(struct place *p, uint64_t count, uint64_t random)
{
    read_rows(p, count, false, &random);
}

static void skewed_reads(struct place *p, uint64_t count, uint64_t random)
{
    read_rows(p, count, true, &random);
}

/* Of which a scan should not push out what is used. */
static void skewed_and_scans(struct place *p, uint64_t count, uint64_t random)
{
    for (unsigned i = 0; i < 4; i++) {
        read_rows(p, count / 4, true, &random);
        sql_step(p->sum);
    }
}

static void grouping(struct place *p, uint64_t count, uint64_t random)
{
    (void)count, (void)random;
    sql_run(p->db, "SELECT k % 5000, count(*), max(v) FROM t GROUP BY 1 ORDER BY 2");
}

static const struct workload {
    const char *name;
    struct place *place;
    void (*run)(struct place *p, uint64_t count, uint64_t random);
    void (*after)(struct place *p); /* not timed */
    uint64_t count;                 /* operations of a run; 1 in tiny runs stays 1 */
} workloads[] = {
    {"update", &dax, one_row_updates, NULL, 10000},
    {"insert", &dax, one_row_inserts, empty_w, 10000},
    {"transaction", &dax, transactions, NULL, 10000},
    {"load", &dax, load, empty_w, 60000},
    {"create_index", &dax, create_index, drop_index, 1},
    {"indexed", &dax, indexed, NULL, 1},
    {"update_memory", &in_memory, one_row_updates, NULL, 20000},
    {"scan_copying", &copying, scan, NULL, 2},
    {"select_copying", &copying, reads, NULL, 20000},
    {"skewed_copying", &copying, skewed_reads, NULL, 20000},
    {"skewed_scans_copying", &copying, skewed_and_scans, NULL, 20000},
    {"select", &dax, reads, NULL, 30000},
    {"group_by", &dax, grouping, NULL, 1},
};

#define WORKLOADS ((int)(sizeof workloads / sizeof *workloads))

static uint64_t count_of(const struct workload *w)
{
    return bench->size == BENCH_TINY && w->count > 100 ? w->count / 100 : w->count;
}

/* Nanoseconds of the processor's time. */
static uint64_t workload_run(const struct config *c, const struct workload *w, uint64_t random)
{
    if (!w->place->db)
        place_open(w->place, c, rows);
    alone_begin();
    uint64_t cpu = cpu_ns();
    w->run(w->place, count_of(w), random);
    cpu = cpu_ns() - cpu;
    alone_end();
    if (w->after)
        w->after(w->place);
    return cpu;
}

/* --- memory of connections --------------------------------------------------------------------- */

static const struct footprint {
    const char *name;
    const char *parameters;
    const char *sql;
    bool release; /* at the end */
} footprints[] = {
    {"connections_read", NULL, "SELECT v FROM t WHERE id = 4711", false},
    {"connections_updated", NULL, "UPDATE t SET k = k + 1 WHERE id = abs(random() % 30000) + 1",
     false},
    {"connections_scanned", "dax_zero_copy=off", "SELECT sum(length(v)) FROM t", false},
    {"connections_released", "dax_zero_copy=off", "SELECT sum(length(v)) FROM t", true},
};

#define FOOTPRINTS ((int)(sizeof footprints / sizeof *footprints))

static const unsigned connection_counts[] = {1, 10, CONNECTIONS};

#define COUNTS (sizeof connection_counts / sizeof *connection_counts)

struct footprint_bytes {
    double of[COUNTS];
};

static double footprint_now(const struct config *c, const struct footprint *f, sqlite3 **all,
                            unsigned open)
{
    for (unsigned i = 0; f->release && i < open; i++)
        sqlite3_db_release_memory(all[i]);
    if (f->release && c->page_cache)
        daxlite_page_cache_shrink();
    return (double)process_anonymous_bytes();
}

/* In a process that does nothing else. */
static struct footprint_bytes footprint_measure(const struct config *c, const struct footprint *f)
{
    static sqlite3 *all[CONNECTIONS + 1];
    struct footprint_bytes bytes = {{0}};
    struct place first = {.suffix = "-footprint", .parameters = f->parameters};
    char name[64];
    unsigned open = 0;
    config_take(c);
    place_open(&first, c, FOOTPRINT_ROWS);
    snprintf(name, sizeof name, "%s-footprint", c->name);
    all[open++] = subject_open_with(bench, name, f->parameters);
    sql_run(all[0], f->sql);
    double before = footprint_now(c, f, all, open);
    for (unsigned k = 0; k < COUNTS; k++) {
        while (open <= connection_counts[k]) {
            all[open] = subject_open_with(bench, name, f->parameters);
            sql_run(all[open++], f->sql);
        }
        double now = footprint_now(c, f, all, open);
        bytes.of[k] = now > before ? now - before : 0;
    }
    while (open)
        sql_close(all[--open]);
    place_close(&first);
    return bytes;
}

/* --- in the parent ------------------------------------------------------------------------------ */

struct command {
    int workload;
    uint64_t random;
};

struct child {
    pid_t pid;
    int commands, answers;
};

/* Until the parent has no further command. */
static void config_serve(const struct config *c, int commands, int answers)
{
    struct command command;
    config_take(c);
    while (read(commands, &command, sizeof command) == sizeof command) {
        uint64_t taken = workload_run(c, &workloads[command.workload], command.random);
        if (write(answers, &taken, sizeof taken) != sizeof taken)
            bench_die(c->name, "nobody waits for its answer");
    }
}

static void child_start(struct child *child, const struct config *c)
{
    int to[2], from[2];
    if (pipe(to) != 0 || pipe(from) != 0)
        bench_die("pipe", strerror(errno));
    fflush(stdout);
    child->pid = fork();
    if (child->pid < 0)
        bench_die("fork", strerror(errno));
    if (child->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(to[1]);
        close(from[0]);
        config_serve(c, to[0], from[1]);
        _exit(0);
    }
    close(to[0]);
    close(from[1]);
    child->commands = to[1];
    child->answers = from[0];
}

static void child_wait(pid_t pid, const char *what)
{
    int status;
    if (waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        bench_die(what, "its process has failed");
}

static uint64_t child_run(const struct child *child, int workload, uint64_t random)
{
    struct command command = {workload, random};
    uint64_t taken;
    if (write(child->commands, &command, sizeof command) != sizeof command ||
        read(child->answers, &taken, sizeof taken) != sizeof taken)
        bench_die(workloads[workload].name, "a configuration's process has ended");
    return taken;
}

static void report_round(const struct workload *w, const uint64_t *taken)
{
    char parameter[64];
    double n = (double)count_of(w) * 1e3;
    for (int c = 0; c < CONFIGS; c++) {
        snprintf(parameter, sizeof parameter, "config=%s", configs[c].name);
        report(w->name, parameter, "cpu", (double)taken[c] / n, "us/op");
        report(w->name, parameter, "ratio", (double)taken[c] / (double)taken[0], "ratio");
    }
}

static void measure_times(unsigned rounds)
{
    struct child children[CONFIGS];
    for (int c = 0; c < CONFIGS; c++)
        child_start(&children[c], &configs[c]);
    for (unsigned round = 0; round <= rounds; round++)
        for (int w = 0; w < WORKLOADS; w++) {
            uint64_t taken[CONFIGS];
            if (!bench_wants(bench, workloads[w].name))
                continue;
            for (int i = 0; i < CONFIGS; i++) {
                int c = (i + (int)round) % CONFIGS;
                taken[c] =
                    child_run(&children[c], w, bench->seed * 1000 + round * 16 + (unsigned)w);
            }
            if (round)
                report_round(&workloads[w], taken);
        }
    /* All of them first: a later child has the pipes of those before. */
    for (int c = 0; c < CONFIGS; c++)
        close(children[c].commands);
    for (int c = 0; c < CONFIGS; c++)
        child_wait(children[c].pid, configs[c].name);
}

static void measure_footprint(const struct config *c, const struct footprint *f)
{
    char parameter[64], name[64];
    int pipes[2];
    struct footprint_bytes bytes;
    if (pipe(pipes) != 0)
        bench_die("pipe", strerror(errno));
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        bench_die("fork", strerror(errno));
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        bytes = footprint_measure(c, f);
        _exit(write(pipes[1], &bytes, sizeof bytes) == sizeof bytes ? 0 : 1);
    }
    close(pipes[1]);
    bool answered = read(pipes[0], &bytes, sizeof bytes) == sizeof bytes;
    close(pipes[0]);
    child_wait(pid, f->name);
    if (!answered)
        bench_die(f->name, "memory was not measured");
    for (unsigned k = 0; k < COUNTS; k++) {
        snprintf(parameter, sizeof parameter, "config=%s;connections=%u", c->name,
                 connection_counts[k]);
        report(f->name, parameter, "memory", bytes.of[k], "B");
    }
    snprintf(name, sizeof name, "%s-footprint", c->name);
    subject_remove(bench, name);
}

static void profile(const char *name, unsigned rounds)
{
    const struct config *c = configs;
    while (c < configs + CONFIGS && strcmp(c->name, name) != 0)
        c++;
    if (c == configs + CONFIGS)
        bench_die("DAX_BENCH_CONFIG names no configuration", name);
    config_take(c);
    for (unsigned round = 0; round <= rounds; round++)
        for (int w = 0; w < WORKLOADS; w++)
            if (bench_wants(bench, workloads[w].name))
                (void)workload_run(c, &workloads[w], bench->seed + round);
}

static void measure(const struct bench *b)
{
    bench = b;
    rows = (unsigned)bench_scale(b, 100000, 100000, 2000);
    unsigned rounds = (unsigned)bench_scale(b, ROUNDS_MAX, 3, 1);
    if (getenv("DAX_BENCH_CONFIG")) {
        profile(getenv("DAX_BENCH_CONFIG"), rounds);
        return;
    }
    measure_times(rounds);
    for (int f = 0; f < FOOTPRINTS; f++)
        for (int c = 0; c < CONFIGS && bench_wants(b, footprints[f].name); c++)
            measure_footprint(&configs[c], &footprints[f]);
}
#else
static void measure(const struct bench *b)
{
    (void)b;
    bench_skip(
        "a page cache of its own can be given to SQLite only by a program that links daxlite");
}
#endif

int main(int argc, char **argv)
{
    struct bench b;
    bench_start_bare(&b, argc, argv);
    measure(&b);
    return 0;
}
