/* page_cache.c: what are daxlite's page cache and jemalloc worth to a program that embeds daxlite?
 *
 * One process for each configuration, since SQLite takes its page cache and its allocator once:
 * SQLite's own of both, each of daxlite's alone, both, and both without SQLite's counting of its
 * memory. All of them work on databases of their own in one directory (a tmpfs); the parent lets
 * them take turns, workload by workload and round by round, one at a time, so that a slow moment of
 * the machine hits all. Medians are compared, as ratios to SQLite's own. What the library links is
 * not the program's malloc(): that is the C library's in each.
 *
 * Memory is what a fresh process of each configuration has more (anonymous memory, from
 * /proc/self/smaps_rollup) once it has opened 100 connections and done something with each.
 */
#define _GNU_SOURCE
#include <daxlite.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_ROUNDS 99
#define ROWS 100000
#define ROW_BYTES 100
#define CONNECTIONS 100

static const struct subject {
    const char *name;
    bool initialize;
    int page_cache, allocator, memory_status;
} subjects[] = {
    {"sqlite", false, 0, 0, 1}, {"page_cache", true, 1, 0, 1},     {"jemalloc", true, 0, 1, 1},
    {"both", true, 1, 1, 1},    {"both_uncounted", true, 1, 1, 0},
};

enum {
    SUBJECTS = sizeof subjects / sizeof subjects[0]
};

static char directory[PATH_MAX];

static _Noreturn void die(const char *what, const char *detail)
{
    fprintf(stderr, "page_cache: %s: %s\n", what, detail);
    exit(1);
}

/* Of the processor's time of this process: nothing here waits for a disk, and other programs' turns
 * do not count. */
static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* splitmix64: the same sequence for every subject. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* --- in a subject's process
 * ------------------------------------------------------------------------- */

/* Database and statements of one kind of connection. Opened when it is first used: a profiler's
 * address space has room for one region of daxlite's. */
struct place {
    const char *uri; /* with the directory and the subject's name to fill in */
    sqlite3 *db;
    sqlite3_stmt *update, *select, *insert, *sum, *begin, *commit;
};

static struct place dax = {.uri = "file:%s/%s.db?vfs=dax"},
                    copying = {.uri = "file:%s/%s-copying.db?vfs=dax&dax_zero_copy=off"},
                    memory_db = {.uri = ":memory:"};

static void check(sqlite3 *db, int rc, const char *what)
{
    if (rc != SQLITE_OK && rc != SQLITE_DONE && rc != SQLITE_ROW)
        die(what, db ? sqlite3_errmsg(db) : sqlite3_errstr(rc));
}

static void run_sql(sqlite3 *db, const char *sql)
{
    check(db, sqlite3_exec(db, sql, NULL, NULL, NULL), sql);
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt = NULL;
    check(db, sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL), sql);
    return stmt;
}

static void run(struct place *p, sqlite3_stmt *stmt)
{
    int rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW)
        ;
    check(p->db, rc, "step");
    check(p->db, sqlite3_reset(stmt), "reset");
}

static sqlite3 *open_uri(const char *uri)
{
    sqlite3 *db = NULL;
    check(db,
          sqlite3_open_v2(uri, &db,
                          SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI |
                              SQLITE_OPEN_NOMUTEX,
                          NULL),
          uri);
    return db;
}

static void open_place(struct place *p, const char *uri)
{
    p->db = open_uri(uri);
    run_sql(p->db, "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, k INTEGER, v BLOB);"
                   "CREATE TABLE IF NOT EXISTS w(id INTEGER PRIMARY KEY, v BLOB)");
    p->update = prepare(p->db, "UPDATE t SET v = ?1 WHERE id = ?2");
    p->select = prepare(p->db, "SELECT v FROM t WHERE id = ?1");
    p->insert = prepare(p->db, "INSERT INTO w(v) VALUES (?1)");
    p->sum = prepare(p->db, "SELECT sum(length(v)) FROM t");
    p->begin = prepare(p->db, "BEGIN IMMEDIATE");
    p->commit = prepare(p->db, "COMMIT");
}

static void fill_place(struct place *p, unsigned rows)
{
    unsigned char row[ROW_BYTES] = {0};
    uint64_t random = 1;
    sqlite3_stmt *insert = prepare(p->db, "INSERT INTO t VALUES (?1, ?2, ?3)");
    run(p, p->begin);
    for (unsigned id = 1; id <= rows; id++) {
        uint64_t r = next_random(&random);
        memcpy(row + id % 90, &r, sizeof r);
        sqlite3_bind_int64(insert, 1, id);
        sqlite3_bind_int64(insert, 2, (sqlite3_int64)(r % 1000000));
        sqlite3_bind_blob(insert, 3, row, ROW_BYTES, SQLITE_STATIC);
        run(p, insert);
    }
    run(p, p->commit);
    sqlite3_finalize(insert);
}

static void update_rows(struct place *p, unsigned count, uint64_t *random)
{
    unsigned char row[ROW_BYTES] = {0};
    for (unsigned i = 0; i < count; i++) {
        uint64_t r = next_random(random);
        memcpy(row + i % 90, &r, sizeof r);
        sqlite3_bind_blob(p->update, 1, row, ROW_BYTES, SQLITE_STATIC);
        sqlite3_bind_int64(p->update, 2, (sqlite3_int64)(r % ROWS) + 1);
        run(p, p->update);
    }
}

static void insert_rows(struct place *p, unsigned count, uint64_t *random)
{
    unsigned char row[ROW_BYTES] = {0};
    for (unsigned i = 0; i < count; i++) {
        uint64_t r = next_random(random);
        memcpy(row + i % 90, &r, sizeof r);
        sqlite3_bind_blob(p->insert, 1, row, ROW_BYTES, SQLITE_STATIC);
        run(p, p->insert);
    }
}

/* Reads of which some rows come far more often than others. */
static void read_rows(struct place *p, unsigned count, bool skewed, uint64_t *random)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t r = next_random(random), id = r % ROWS;
        if (skewed) /* nine of ten reads go to a tenth of the pages, spread over the table */
            id = (r >> 40) % 10 ? (id / 30 * 300 + id % 30) % ROWS : id;
        sqlite3_bind_int64(p->select, 1, (sqlite3_int64)id + 1);
        run(p, p->select);
    }
}

static void one_row_updates(uint64_t seed)
{
    update_rows(&dax, 10000, &seed);
}

static void one_row_updates_memory(uint64_t seed)
{
    update_rows(&memory_db, 20000, &seed);
}

static void one_row_inserts(uint64_t seed)
{
    insert_rows(&dax, 10000, &seed);
}

static void transactions_of_1000(uint64_t seed)
{
    for (unsigned i = 0; i < 10; i++) {
        run(&dax, dax.begin);
        update_rows(&dax, 1000, &seed);
        run(&dax, dax.commit);
    }
}

static void bulk_load(uint64_t seed)
{
    run(&dax, dax.begin);
    insert_rows(&dax, 60000, &seed);
    run(&dax, dax.commit);
}

static void empty_w(void)
{
    run_sql(dax.db, "DELETE FROM w");
}

static void create_index(uint64_t seed)
{
    (void)seed;
    run_sql(dax.db, "CREATE INDEX tk ON t(k)");
}

static void drop_index(void)
{
    run_sql(dax.db, "DROP INDEX tk");
}

static void indexed_deletes(uint64_t seed)
{
    (void)seed;
    run_sql(dax.db, "CREATE TABLE d(a, b); CREATE INDEX da ON d(a); CREATE INDEX db ON d(b);"
                    "INSERT INTO d SELECT k, id FROM t WHERE id <= 20000;"
                    "DELETE FROM d WHERE b % 3 = 0; UPDATE d SET a = a + 1 WHERE b % 3 = 1;"
                    "DROP TABLE d");
}

static void scan_copying(uint64_t seed)
{
    (void)seed;
    run(&copying, copying.sum);
}

static void reads_copying(uint64_t seed)
{
    read_rows(&copying, 20000, false, &seed);
}

static void skewed_copying(uint64_t seed)
{
    read_rows(&copying, 20000, true, &seed);
}

static void skewed_and_scans_copying(uint64_t seed)
{
    for (unsigned i = 0; i < 4; i++) {
        read_rows(&copying, 5000, true, &seed);
        run(&copying, copying.sum);
    }
}

static void reads_zero_copy(uint64_t seed)
{
    read_rows(&dax, 30000, false, &seed);
}

static void grouping(uint64_t seed)
{
    (void)seed;
    run_sql(dax.db, "SELECT k % 5000, count(*), max(v) FROM t GROUP BY 1 ORDER BY 2");
}

static const struct workload {
    const char *name;
    struct place *place;
    void (*run)(uint64_t seed);
    void (*after)(void); /* not timed */
} workloads[] = {
    {"one-row updates", &dax, one_row_updates, NULL},
    {"one-row inserts", &dax, one_row_inserts, empty_w},
    {"updates, 1000 a transaction", &dax, transactions_of_1000, NULL},
    {"load of 60000 rows", &dax, bulk_load, empty_w},
    {"CREATE INDEX", &dax, create_index, drop_index},
    {"two indexes: insert, delete, update", &dax, indexed_deletes, NULL},
    {"one-row updates, :memory:", &memory_db, one_row_updates_memory, NULL},
    {"scan, zero_copy=off", &copying, scan_copying, NULL},
    {"point reads, zero_copy=off", &copying, reads_copying, NULL},
    {"skewed reads, zero_copy=off", &copying, skewed_copying, NULL},
    {"skewed reads and scans, zero_copy=off", &copying, skewed_and_scans_copying, NULL},
    {"point reads, in place", &dax, reads_zero_copy, NULL},
    {"GROUP BY, ORDER BY", &dax, grouping, NULL},
};

enum {
    WORKLOADS = sizeof workloads / sizeof workloads[0]
};

static void subject_configure(const struct subject *s)
{
    const char *why = "";
    struct daxlite_config config = DAXLITE_CONFIG_DEFAULT;
    config.page_cache = s->page_cache;
    config.allocator = s->allocator;
    config.memory_status = s->memory_status;
    if (s->initialize && daxlite_initialize(&config, &why) != SQLITE_OK)
        die(s->name, why);
    if (daxlite_register(0) != SQLITE_OK)
        die(s->name, "daxlite_register");
}

/* Microseconds. */
static double workload_run(const struct subject *s, const struct workload *w, uint64_t seed)
{
    char uri[PATH_MAX + 100];
    if (!w->place->db) {
        snprintf(uri, sizeof uri, w->place->uri, directory, s->name);
        open_place(w->place, uri);
        fill_place(w->place, ROWS);
    }
    double start = now_us();
    w->run(seed);
    double us = now_us() - start;
    if (w->after)
        w->after();
    return us;
}

/* Commands: a workload's number; answers: microseconds. */
static _Noreturn void subject_serve(const struct subject *s, int commands, int answers)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    subject_configure(s);
    struct {
        int workload;
        uint64_t seed;
    } command;
    while (read(commands, &command, sizeof command) == sizeof command) {
        double us = workload_run(s, &workloads[command.workload], command.seed);
        if (write(answers, &us, sizeof us) != sizeof us)
            break;
    }
    _exit(0);
}

/* --- memory of 100 connections
 * ------------------------------------------------------------------------- */

static double anonymous_kib(void)
{
    char line[200];
    double kib = -1;
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "Anonymous:", 10) == 0)
            kib = strtod(line + 10, NULL);
    }
    if (!f || kib < 0)
        die("/proc/self/smaps_rollup", "cannot be read");
    fclose(f);
    return kib;
}

static void touch_read(sqlite3 *db)
{
    run_sql(db, "SELECT v FROM t WHERE id = 4711");
}

static void touch_write(sqlite3 *db)
{
    run_sql(db, "UPDATE t SET k = k + 1 WHERE id = abs(random() % 100000) + 1");
}

static void touch_scan(sqlite3 *db)
{
    run_sql(db, "SELECT sum(length(v)) FROM t");
}

static const struct footprint {
    const char *name;
    const char *options;
    void (*touch)(sqlite3 *db);
    bool shrink; /* at the end */
} footprints[] = {
    {"a row read", "", touch_read, false},
    {"a row updated", "", touch_write, false},
    {"a scan, zero_copy=off", "&dax_zero_copy=off", touch_scan, false},
    {"the same, then released", "&dax_zero_copy=off", touch_scan, true},
};

enum {
    FOOTPRINTS = sizeof footprints / sizeof footprints[0]
};

/* KiB more, in this process. The first connection is not counted: it brings the store. */
static double footprint_measure(const struct subject *s, const struct footprint *f)
{
    static sqlite3 *connections[CONNECTIONS + 1];
    char uri[PATH_MAX + 100];
    double before = 0;
    subject_configure(s);
    snprintf(uri, sizeof uri, "file:%s/%s-footprint.db?vfs=dax%s", directory, s->name, f->options);
    struct place first;
    open_place(&first, uri);
    fill_place(&first, ROWS);
    for (unsigned i = 0; i <= CONNECTIONS; i++) {
        if (i == 1)
            before = anonymous_kib();
        connections[i] = open_uri(uri);
        f->touch(connections[i]);
    }
    for (unsigned i = 0; i <= CONNECTIONS && f->shrink; i++)
        sqlite3_db_release_memory(connections[i]);
    if (f->shrink && s->page_cache)
        daxlite_page_cache_shrink();
    return anonymous_kib() - before;
}

static double footprint(const struct subject *s, const struct footprint *f)
{
    int pipes[2];
    double kib = -1;
    if (pipe(pipes) != 0)
        die("pipe", strerror(errno));
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        kib = footprint_measure(s, f);
        _exit(write(pipes[1], &kib, sizeof kib) == sizeof kib ? 0 : 1);
    }
    close(pipes[1]);
    if (pid < 0 || read(pipes[0], &kib, sizeof kib) != sizeof kib)
        die(s->name, "memory was not measured");
    close(pipes[0]);
    waitpid(pid, NULL, 0);
    char path[PATH_MAX + 100];
    snprintf(path, sizeof path, "%s/%s-footprint.db", directory, s->name);
    unlink(path);
    strcat(path, "-dax");
    unlink(path);
    return kib;
}

/* --- in the parent
 * --------------------------------------------------------------------------------------- */

struct child {
    pid_t pid;
    int commands, answers;
};

static void child_start(struct child *c, const struct subject *s)
{
    int to[2], from[2];
    if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0)
        die("pipe", strerror(errno));
    c->pid = fork();
    if (c->pid < 0)
        die("fork", strerror(errno));
    if (c->pid == 0) {
        close(to[1]);
        close(from[0]);
        subject_serve(s, to[0], from[1]);
    }
    close(to[0]);
    close(from[1]);
    c->commands = to[1];
    c->answers = from[0];
}

static double child_run(const struct child *c, int workload, uint64_t seed)
{
    struct {
        int workload;
        uint64_t seed;
    } command = {workload, seed};
    double us;
    if (write(c->commands, &command, sizeof command) != sizeof command ||
        read(c->answers, &us, sizeof us) != sizeof us)
        die(workloads[workload].name, "a subject has died");
    return us;
}

static void children_stop(struct child *children)
{
    /* All of them first: a later child has the pipes of those before. */
    for (int i = 0; i < SUBJECTS; i++)
        close(children[i].commands);
    for (int i = 0; i < SUBJECTS; i++)
        waitpid(children[i].pid, NULL, 0);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, unsigned count)
{
    qsort(values, count, sizeof *values, compare_doubles);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static double times[WORKLOADS][SUBJECTS][MAX_ROUNDS];
static double medians[WORKLOADS][SUBJECTS], ratios[WORKLOADS][SUBJECTS];
static double kib[FOOTPRINTS][SUBJECTS];

/* The ratio is the median of each round's ratio. */
static void measure_times(unsigned rounds, const char *only)
{
    struct child children[SUBJECTS];
    for (int s = 0; s < SUBJECTS; s++)
        child_start(&children[s], &subjects[s]);
    for (unsigned round = 0; round <= rounds; round++) { /* the first is not counted */
        for (int w = 0; w < WORKLOADS; w++) {
            for (int i = 0; i < SUBJECTS && (!only || strstr(workloads[w].name, only)); i++) {
                int s = (i + (int)round) % SUBJECTS;
                double us = child_run(&children[s], w, 1000 * round + (unsigned)w);
                if (round)
                    times[w][s][round - 1] = us;
            }
        }
    }
    children_stop(children);
    for (int w = 0; w < WORKLOADS; w++) {
        for (int s = 0; s < SUBJECTS; s++) {
            double ratio[MAX_ROUNDS];
            for (unsigned round = 0; round < rounds; round++)
                ratio[round] = times[w][s][round] / times[w][0][round];
            ratios[w][s] = median(ratio, rounds);
        }
        for (int s = 0; s < SUBJECTS; s++)
            medians[w][s] = median(times[w][s], rounds);
    }
}

static void print_row(const char *name, const double *values, const double *relative,
                      const char *unit)
{
    printf("  %-38s", name);
    printf("%10.0f %s ", values[0], unit);
    for (int s = 1; s < SUBJECTS; s++)
        printf("%15.3f", relative[s]);
    printf("\n");
}

static void print_results(const char *only)
{
    printf("  %-38s%13s ", "", subjects[0].name);
    for (int s = 1; s < SUBJECTS; s++)
        printf("%15s", subjects[s].name);
    printf("\n");
    for (int w = 0; w < WORKLOADS; w++) {
        if (!only || strstr(workloads[w].name, only))
            print_row(workloads[w].name, medians[w], ratios[w], "us");
    }
    if (only)
        return;
    printf("\n  memory of %d more connections\n", CONNECTIONS);
    for (int f = 0; f < FOOTPRINTS; f++) {
        double relative[SUBJECTS];
        for (int s = 0; s < SUBJECTS; s++)
            relative[s] = kib[f][s] / kib[f][0];
        print_row(footprints[f].name, kib[f], relative, "KiB");
    }
}

static void write_json(const char *path, unsigned rounds)
{
    FILE *f = fopen(path, "w");
    if (!f)
        die(path, strerror(errno));
    fprintf(f, "{\"bench\":\"page_cache\",\"sqlite\":\"%s\",\"rounds\":%u,\"microseconds\":{",
            sqlite3_libversion(), rounds);
    for (int w = 0; w < WORKLOADS; w++) {
        fprintf(f, "%s\"%s\":{", w ? "," : "", workloads[w].name);
        for (int s = 0; s < SUBJECTS; s++)
            fprintf(f, "%s\"%s\":%.1f", s ? "," : "", subjects[s].name, medians[w][s]);
        fprintf(f, "}");
    }
    fprintf(f, "},\"ratios\":{");
    for (int w = 0; w < WORKLOADS; w++) {
        fprintf(f, "%s\"%s\":{", w ? "," : "", workloads[w].name);
        for (int s = 0; s < SUBJECTS; s++)
            fprintf(f, "%s\"%s\":%.4f", s ? "," : "", subjects[s].name, ratios[w][s]);
        fprintf(f, "}");
    }
    fprintf(f, "},\"kib_of_100_connections\":{");
    for (int i = 0; i < FOOTPRINTS; i++) {
        fprintf(f, "%s\"%s\":{", i ? "," : "", footprints[i].name);
        for (int s = 0; s < SUBJECTS; s++)
            fprintf(f, "%s\"%s\":%.0f", s ? "," : "", subjects[s].name, kib[i][s]);
        fprintf(f, "}");
    }
    fprintf(f, "}}\n");
    if (fclose(f) != 0)
        die(path, strerror(errno));
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *w)
{
    (void)st, (void)flag, (void)w;
    return remove(path);
}

static void remove_directory(void)
{
    nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* In this process, for callgrind. */
static void profile_run(const char *subject, const char *only, unsigned rounds)
{
    const struct subject *s = subjects;
    while (s < subjects + SUBJECTS && strcmp(s->name, subject) != 0)
        s++;
    if (s == subjects + SUBJECTS || !only)
        die("--profile", "takes a subject's name, and --only");
    subject_configure(s);
    for (unsigned round = 0; round < rounds; round++) {
        for (int w = 0; w < WORKLOADS; w++) {
            if (strstr(workloads[w].name, only))
                workload_run(s, &workloads[w], round);
        }
    }
}

int main(int argc, char **argv)
{
    static const struct option known[] = {
        {"directory", required_argument, NULL, 'd'}, {"json", required_argument, NULL, 'j'},
        {"rounds", required_argument, NULL, 'r'},    {"only", required_argument, NULL, 'o'},
        {"profile", required_argument, NULL, 'p'},   {NULL, 0, NULL, 0}};
    const char *where = "/dev/shm", *json = NULL, *only = NULL, *profile = NULL;
    unsigned rounds = 9;
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 'd': where = optarg; break;
        case 'j': json = optarg; break;
        case 'r': rounds = (unsigned)atoi(optarg); break;
        case 'o': only = optarg; break;
        case 'p': profile = optarg; break;
        default:
            fprintf(stderr,
                    "usage: page_cache [--directory DIR] [--json FILE] [--rounds N]"
                    " [--only PART_OF_A_WORKLOAD'S_NAME]\n"
                    "       page_cache --profile SUBJECT --only ...   (under a profiler)\n");
            return 2;
        }
    }
    if (rounds < 1 || rounds > MAX_ROUNDS)
        die("--rounds", "1 to 99");
    if (snprintf(directory, sizeof directory, "%s/daxlite-bench-XXXXXX", where) >=
            (int)sizeof directory ||
        !mkdtemp(directory))
        die(where, strerror(errno));
    atexit(remove_directory);
    if (profile) {
        profile_run(profile, only, rounds);
        return 0;
    }
    measure_times(rounds, only);
    for (int f = 0; f < FOOTPRINTS && !only; f++) {
        for (int s = 0; s < SUBJECTS; s++)
            kib[f][s] = footprint(&subjects[s], &footprints[f]);
    }
    printf("SQLite %s, %u rounds, medians: SQLite's own page cache and malloc(), then the others' "
           "time or"
           " memory as a part of that\n\n",
           sqlite3_libversion(), rounds);
    print_results(only);
    if (json)
        write_json(json, rounds);
    return 0;
}
