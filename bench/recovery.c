/* recovery.c: how long does it take to open a database whose process was killed?
 *
 * A child process opens the database and updates one row per transaction until as many bytes of log are
 * live as wanted; a sidecar somewhat larger, or checkpoints of the WAL that are off, see to it that nothing
 * is cut before. It is killed by SIGKILL where it stands. Then this process opens the
 * file, reads one row, and counts the time until it has it. Before that it copies as many bytes, from one
 * file of the same directory to another, both mapped: less than that no replay can take. Afterwards every
 * update that the child had reported must be there, and the database must pass its check.
 *
 *   recovery, database=MB;log=MB   open s; of it cpu s, of that kernel s; faults 1 (of pages); copy s (of
 *                                  log_live bytes); log_live B; commits 1 (in the log); clean s: opening
 *                                  again after a clean close; replay ratio: open - clean to copy
 *
 *   recovery, database=MB;log=MB;updated=MB   the same, where updates reach only the first so many MB: the log of a
 *                                  small database beside a large one. Anywhere in a large database they change
 *                                  more pages, and each is a page fault or a part of one.
 *
 * The same bytes of log are ten times as many commits for dax as for a WAL: see commits.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/common/alone.h"
#include "bench/common/clock.h"
#include "bench/common/report.h"
#include "bench/common/subject.h"
#include "bench/draw.h"

#define VALUE_BYTES 100
#define ROW_BYTES 110 /* with SQLite's own bytes, to make databases of about the size wanted */
/* Added to each number, so that it always takes six bytes and no row changes its size. */
#define NUMBER_BASE (INT64_C(1) << 40)
#define LOOK_EVERY 64 /* commits between two looks at the log */

struct recovery {
    const struct bench *bench;
    uint64_t database_mib;
    uint64_t log_mib;     /* live */
    uint64_t updated_mib; /* of the table, from its beginning */
    char name[64];
    char parameters[64]; /* of the URI */
};

/* What the child tells: shared memory, since it is killed. */
struct told {
    uint64_t commits; /* in the log */
    uint64_t updates; /* since the table was made: the last one's number is in its row */
    uint64_t live;    /* bytes of log */
};

static uint64_t recovery_rows(uint64_t mib)
{
    return (mib << 20) / ROW_BYTES;
}

static sqlite3 *open_database(const struct recovery *r)
{
    return subject_open_with(r->bench, r->name, r->parameters);
}

/* ---------------------------------------------------------------- the child */

/* Made by a child of its own and closed cleanly. */
static void make_database(const struct recovery *r)
{
    unsigned char value[VALUE_BYTES];
    struct draw d = draw_stream(r->bench->seed, 0);
    sqlite3 *db = open_database(r);
    sql_run(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, number INTEGER, v BLOB)");
    sql_run(db, "BEGIN");
    sqlite3_stmt *insert = sql_prepare(db, "INSERT INTO t VALUES(?, ?, ?)");
    uint64_t rows = recovery_rows(r->database_mib);
    for (uint64_t id = 1; id <= rows; id++) {
        random_fill(&d.state, value, VALUE_BYTES);
        sqlite3_bind_int64(insert, 1, (sqlite3_int64)id);
        sqlite3_bind_int64(insert, 2, NUMBER_BASE);
        sqlite3_bind_blob(insert, 3, value, VALUE_BYTES, SQLITE_STATIC);
        sql_step(insert);
    }
    sqlite3_finalize(insert);
    sql_run(db, "COMMIT");
    sql_close(db);
}

static uint64_t log_live(const struct recovery *r, sqlite3 *db)
{
    if (subject_is_dax(r->bench->subject))
        return (uint64_t)sql_number(db, "SELECT dax_status() ->> '$.log.live'");
    return subject_file_size(r->bench, r->name, "-wal");
}

static bool log_is_full(const struct recovery *r, sqlite3 *db, struct told *told)
{
    uint64_t live = log_live(r, db), before = told->live;
    if (live < before)
        bench_die("the log", "was cut before it was full: a larger sidecar is needed");
    told->live = live;
    return live >= r->log_mib << 20;
}

/* Updates until the log is full, then waits to be killed. */
static _Noreturn void run_child(const struct recovery *r, struct told *told, int ready)
{
    unsigned char value[VALUE_BYTES];
    struct draw d =
        draw_stream(r->bench->seed, 1 + told->updates); /* not what the last one wrote */
    sqlite3 *db = open_database(r);
    if (!subject_is_dax(r->bench->subject))
        sql_run(db, "PRAGMA wal_autocheckpoint = 0");
    int64_t rows = (int64_t)recovery_rows(r->updated_mib);
    sqlite3_stmt *update = sql_prepare(db, "UPDATE t SET number = ?2, v = ?3 WHERE id = ?1");
    uint64_t since = told->updates;
    told->live = 0;
    do {
        for (int i = 0; i < LOOK_EVERY; i++) {
            random_fill(&d.state, value, VALUE_BYTES);
            sqlite3_bind_int64(update, 1, draw_between(&d, 1, rows));
            sqlite3_bind_int64(update, 2, NUMBER_BASE + (sqlite3_int64)told->updates + 1);
            sqlite3_bind_blob(update, 3, value, VALUE_BYTES, SQLITE_STATIC);
            sql_step(update);
            told->updates++;
        }
    } while (!log_is_full(r, db, told));
    told->commits = told->updates - since;
    if (write(ready, "", 1) != 1)
        bench_die("pipe", strerror(errno));
    for (;;)
        pause();
}

/* Runs `make` in a child, so that this process never had the database open. */
static void run_maker(const struct recovery *r)
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        make_database(r);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        bench_die("fork", "the child that makes the database failed");
}

static void run_and_kill(const struct recovery *r, struct told *told)
{
    int ends[2], status;
    char byte;
    fflush(NULL);
    if (pipe(ends) != 0)
        bench_die("pipe", strerror(errno));
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        run_child(r, told, ends[1]);
    }
    close(ends[1]);
    if (child < 0 || read(ends[0], &byte, 1) != 1)
        bench_die("fork", "the child that writes failed");
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    close(ends[0]);
}

/* ---------------------------------------------------------------- this process */

static void *map_file(const struct recovery *r, const char *suffix, uint64_t bytes,
                      char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s/%s.%s", r->bench->dir, r->name, suffix);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || posix_fallocate(fd, 0, (off_t)bytes) != 0)
        bench_die(path, strerror(errno));
    void *addr = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (addr == MAP_FAILED)
        bench_die(path, strerror(errno));
    return addr;
}

/* Seconds to copy so many bytes between files that have just been mapped, as a log and a database are. */
static double time_copy(const struct recovery *r, uint64_t bytes)
{
    char from_path[PATH_MAX], to_path[PATH_MAX];
    uint64_t state = 1;
    unsigned char *fill = map_file(r, "copy-from", bytes, from_path);
    random_fill(&state, fill, bytes);
    munmap(fill, bytes);
    fill = map_file(r, "copy-to", bytes, to_path);
    memset(fill, 1, bytes);
    munmap(fill, bytes);
    uint64_t begin = wall_ns();
    void *from = map_file(r, "copy-from", bytes, from_path);
    void *to = map_file(r, "copy-to", bytes, to_path);
    memcpy(to, from, bytes);
    msync(to, bytes, MS_SYNC);
    double seconds = (double)(wall_ns() - begin) / 1e9;
    munmap(from, bytes);
    munmap(to, bytes);
    unlink(from_path);
    unlink(to_path);
    return seconds;
}

/* Until the first row is there. */
static double time_open(const struct recovery *r, sqlite3 **db_out)
{
    alone_begin();
    uint64_t begin = wall_ns();
    *db_out = open_database(r);
    if (sql_number(*db_out, "SELECT id FROM t WHERE id = 1") != 1)
        bench_die("SELECT", "the first row is not there");
    uint64_t took = wall_ns() - begin;
    alone_end();
    return (double)took / 1e9;
}

static void check_newest(sqlite3 *db, const struct told *told)
{
    if (sql_number(db, "SELECT max(number) FROM t") != NUMBER_BASE + (int64_t)told->updates)
        bench_die("recovery", "the newest committed update is gone");
}

static void check_pages(sqlite3 *db)
{
    if (sql_number(db, "SELECT count(*) FROM pragma_integrity_check"
                       " WHERE integrity_check <> 'ok'") != 0)
        bench_die("recovery", "the integrity check has something to say");
}

static double system_seconds(const struct rusage *u)
{
    return (double)u->ru_stime.tv_sec + (double)u->ru_stime.tv_usec / 1e6;
}

/* One crash. The child goes on where the one before was killed, with an empty log. */
static void measure_once(const struct recovery *r, struct told *told)
{
    char parameter[64];
    sqlite3 *db;
    run_and_kill(r, told);
    double copy = time_copy(r, told->live);
    struct rusage before, after;
    getrusage(RUSAGE_THREAD, &before);
    uint64_t cpu = cpu_ns();
    double crashed = time_open(r, &db);
    cpu = cpu_ns() - cpu;
    getrusage(RUSAGE_THREAD, &after);
    check_newest(db, told);
    sql_close(db);
    double clean = time_open(r, &db);
    sql_close(db);
    int n = snprintf(parameter, sizeof(parameter), "database=%llu;log=%llu",
                     (unsigned long long)r->database_mib, (unsigned long long)r->log_mib);
    if (r->updated_mib != r->database_mib)
        snprintf(parameter + n, sizeof(parameter) - (size_t)n, ";updated=%llu",
                 (unsigned long long)r->updated_mib);
    report("recovery", parameter, "open", crashed, "s");
    report("recovery", parameter, "cpu", (double)cpu / 1e9, "s");
    report("recovery", parameter, "kernel", system_seconds(&after) - system_seconds(&before), "s");
    report("recovery", parameter, "faults", (double)(after.ru_minflt - before.ru_minflt), "1");
    report("recovery", parameter, "clean", clean, "s");
    report("recovery", parameter, "copy", copy, "s");
    report("recovery", parameter, "replay", crashed > clean ? (crashed - clean) / copy : 0,
           "ratio");
    report("recovery", parameter, "log_live", (double)told->live, "B");
    report("recovery", parameter, "commits", (double)told->commits, "1");
}

/* few_mib: repeated with updates of no more than the first so many MiB; 0: not. */
static void measure(const struct bench *b, uint64_t database_mib, uint64_t log_mib, uint64_t few_mib,
                    uint64_t repeats)
{
    struct recovery r = {.bench = b,
                         .database_mib = database_mib,
                         .log_mib = log_mib,
                         .updated_mib = database_mib};
    snprintf(r.name, sizeof(r.name), "recovery-%llu-%llu", (unsigned long long)database_mib,
             (unsigned long long)log_mib);
    /* libpmemobj takes 4.3 MiB of a sidecar; a committer checkpoints when six sevenths of what is left
     * are used. */
    uint64_t sidecar_mib = log_mib < 4 ? 8 : log_mib + log_mib / 4 + 5;
    snprintf(r.parameters, sizeof(r.parameters), "dax_log_size=%llum",
             (unsigned long long)sidecar_mib);
    struct told *told =
        mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (told == MAP_FAILED)
        bench_die("mmap", strerror(errno));
    run_maker(&r);
    for (uint64_t i = 0; i < repeats; i++)
        measure_once(&r, told);
    r.updated_mib = few_mib;
    for (uint64_t i = 0; few_mib && i < repeats; i++)
        measure_once(&r, told);
    sqlite3 *db = open_database(&r);
    check_pages(db);
    sql_close(db);
    munmap(told, sizeof(*told));
}

int main(int argc, char **argv)
{
    /* MiB: each database with the smallest log, then one of them with each log. */
    static const uint64_t databases[] = {10, 100, 1000}, logs[] = {16, 64};
    struct bench b;
    bench_start(&b, argc, argv);
    if (subject_keeps_nothing(b.subject))
        bench_skip("nothing is left to recover");
    if (b.subject == SUBJECT_LMDB)
        bench_skip("has no log");
    if (b.subject == SUBJECT_ROLLBACK)
        bench_skip("its journal never has more than one transaction");
    uint64_t repeats = bench_scale(&b, 3, 3, 1);
    uint64_t database_count = bench_scale(&b, 3, 2, 0), log_count = bench_scale(&b, 2, 1, 0);
    if (b.size == BENCH_TINY)
        measure(&b, 2, 1, 1, 1);
    for (uint64_t i = 0; i < database_count; i++)
        measure(&b, databases[i], 8, i > 0 ? databases[0] : 0, repeats);
    for (uint64_t i = 0; i < log_count; i++)
        measure(&b, databases[0], logs[i], 0, repeats);
    return 0;
}
