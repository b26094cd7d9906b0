/* first_pin.c: what does it cost to load every line of a page before SQLite gets its address?
 *
 * With dax_probe=on (the default) the first pin of a page since the database was opened loads all of
 * it inside the guard, so that a bad line is an error there and not a signal in SQLite's hands. Two
 * tables are scanned whole, each a database of its own: `dense`, 100-byte rows, where a scan touches
 * nearly every line of a page anyway, and `sparse`, 3000-byte rows of which it reads one column,
 * where it touches two lines of 64: the worst case. Three subjects read the same file: the probe on,
 * off, and dax_zero_copy=off, which copies each page inside the guard every time.
 *
 * A cold scan is the first one after opening: no page has been pinned, none is mapped yet, and none
 * is in the CPU's cache. A warm scan is the one after it on the same connection. Times are the
 * thread's CPU time, page faults included: a scan waits for nothing, and what else runs on the machine
 * would be measured with it. Rounds are interleaved and the order turns with each round; a ratio is the
 * median of the rounds' ratios, since two scans of one round meet the same moment of the machine. The directory should be a tmpfs, or a DAX file system.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_ROUNDS 99

enum {
    PROBE_ON,
    PROBE_OFF,
    COPY,
    SUBJECTS
};

static const struct {
    const char *name;
    const char *parameters; /* of the URI */
    bool pins;
} subjects[SUBJECTS] = {{"probe_on", "dax_probe=on", true},
                        {"probe_off", "dax_probe=off", true},
                        {"zero_copy_off", "dax_zero_copy=off", false}};

/* One table, and what was measured of it. */
struct shape {
    const char *name;
    unsigned row_bytes;
    char path[PATH_MAX];
    int64_t pages;
    int64_t sum; /* of column n */
    double cold_ms[SUBJECTS][MAX_ROUNDS];
    double warm_ms[SUBJECTS][MAX_ROUNDS];
    double cold_median_ms[SUBJECTS];
    double warm_median_ms[SUBJECTS];
    double cold_ratio[SUBJECTS]; /* to probe_off */
    double warm_ratio[SUBJECTS];
    double probe_ns; /* for a page */
};

static char scratch_directory[PATH_MAX - 64];
static char last_log[1024]; /* says more than an error code does */

struct options {
    const char *extension;
    const char *directory;
    const char *json;
    unsigned rounds;
    unsigned megabytes;
};

static _Noreturn void die(const char *what, const char *detail)
{
    fprintf(stderr, "first_pin: %s: %s\n", what, detail);
    if (last_log[0])
        fprintf(stderr, "first_pin: %s\n", last_log);
    exit(1);
}

static void keep_log(void *arg, int code, const char *text)
{
    (void)arg;
    (void)code;
    snprintf(last_log, sizeof(last_log), "%s", text);
}

static void check(sqlite3 *db, int rc, const char *what)
{
    if (rc != SQLITE_OK && rc != SQLITE_DONE && rc != SQLITE_ROW)
        die(what, db ? sqlite3_errmsg(db) : sqlite3_errstr(rc));
}

static void run_sql(sqlite3 *db, const char *sql)
{
    check(db, sqlite3_exec(db, sql, NULL, NULL, NULL), sql);
}

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void load_extension(const char *path)
{
    sqlite3 *db = NULL;
    char *error = NULL;
    check(db, sqlite3_open(":memory:", &db), "open :memory:");
    check(db, sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, NULL), "db_config");
    if (sqlite3_load_extension(db, path, NULL, &error) != SQLITE_OK)
        die(path, error ? error : "cannot be loaded");
    sqlite3_close(db);
}

static sqlite3 *open_database(const char *path, const char *parameters)
{
    char uri[PATH_MAX + 128];
    sqlite3 *db = NULL;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX;
    snprintf(uri, sizeof(uri), "file:%s?vfs=dax%s%s", path, parameters ? "&" : "",
             parameters ? parameters : "");
    check(db, sqlite3_open_v2(uri, &db, flags, NULL), uri);
    return db;
}

/* The first two columns of one row. */
static void query(sqlite3 *db, const char *sql, int64_t *first, int64_t *second)
{
    sqlite3_stmt *stmt = NULL;
    check(db, sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), sql);
    if (sqlite3_step(stmt) != SQLITE_ROW || sqlite3_column_type(stmt, 0) != SQLITE_INTEGER)
        die(sql, sqlite3_errmsg(db));
    *first = sqlite3_column_int64(stmt, 0);
    if (second)
        *second = sqlite3_column_int64(stmt, 1);
    check(db, sqlite3_finalize(stmt), sql);
}

static void make_database(struct shape *s, const struct options *o)
{
    char sql[512];
    int64_t rows;
    uint64_t bytes = (uint64_t)o->megabytes << 20;
    snprintf(s->path, sizeof(s->path), "%s/%s.db", scratch_directory, s->name);
    sqlite3 *db = open_database(s->path, NULL);
    run_sql(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, v BLOB)");
    /* A row's own overhead is about 12 bytes; of the sparse ones one fits on a page. */
    uint64_t count = s->row_bytes > 2000 ? bytes / 4096 : bytes / (s->row_bytes + 12);
    snprintf(sql, sizeof(sql),
             "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < %" PRIu64 ")"
             " INSERT INTO t SELECT i, i * 7919 %% 65536, zeroblob(%u) FROM c",
             count, s->row_bytes);
    run_sql(db, sql);
    query(db, "SELECT count(*), sum(n) FROM t", &rows, &s->sum);
    query(db, "SELECT page_count FROM pragma_page_count", &s->pages, NULL);
    if (rows != (int64_t)count)
        die(s->path, "not all rows are there");
    check(db, sqlite3_close(db), "close");
}

/* Milliseconds of one scan, which must have read the file in the subject's way. */
static double time_scan(sqlite3 *db, const struct shape *s, int subject)
{
    static const char *const pinned =
        "SELECT json_extract(dax_status(), '$.counters.reads_pinned_base'),"
        " json_extract(dax_status(), '$.counters.reads_copied')";
    int64_t rows, sum, pins, copies, pins_after, copies_after;
    query(db, pinned, &pins, &copies);
    double start = cpu_ms();
    query(db, "SELECT count(*), sum(n) FROM t", &rows, &sum);
    double ms = cpu_ms() - start;
    query(db, pinned, &pins_after, &copies_after);
    if (sum != s->sum)
        die(s->path, "another result than before");
    int64_t reads = subjects[subject].pins ? pins_after - pins : copies_after - copies;
    if (reads < s->pages * 9 / 10)
        die(subjects[subject].name, "the pages were not read in this way");
    return ms;
}

static void measure_round(struct shape *s, unsigned round)
{
    for (int i = 0; i < SUBJECTS; i++) {
        int subject = (i + (int)round) % SUBJECTS;
        sqlite3 *db = open_database(s->path, subjects[subject].parameters);
        /* The whole file in SQLite's own cache would answer the warm scan. */
        run_sql(db, "PRAGMA cache_size = 100");
        s->cold_ms[subject][round] = time_scan(db, s, subject);
        s->warm_ms[subject][round] = time_scan(db, s, subject);
        check(db, sqlite3_close(db), "close");
    }
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, unsigned count)
{
    qsort(values, count, sizeof(*values), compare_doubles);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* Before the rounds' own order is lost to sorting: take ratios and differences first. */
static void take_medians(struct shape *s, unsigned rounds)
{
    double cold[MAX_ROUNDS], warm[MAX_ROUNDS], probe[MAX_ROUNDS];
    for (int i = 0; i < SUBJECTS; i++) {
        for (unsigned k = 0; k < rounds; k++) {
            cold[k] = s->cold_ms[i][k] / s->cold_ms[PROBE_OFF][k];
            warm[k] = s->warm_ms[i][k] / s->warm_ms[PROBE_OFF][k];
        }
        s->cold_ratio[i] = median(cold, rounds);
        s->warm_ratio[i] = median(warm, rounds);
    }
    for (unsigned k = 0; k < rounds; k++)
        probe[k] = (s->cold_ms[PROBE_ON][k] - s->cold_ms[PROBE_OFF][k]) * 1e6 / (double)s->pages;
    s->probe_ns = median(probe, rounds);
    for (int i = 0; i < SUBJECTS; i++) {
        s->cold_median_ms[i] = median(s->cold_ms[i], rounds);
        s->warm_median_ms[i] = median(s->warm_ms[i], rounds);
    }
}

static void print_shape(const struct shape *s)
{
    printf("%s: rows of %u bytes, %" PRId64 " pages\n", s->name, s->row_bytes, s->pages);
    for (int i = 0; i < SUBJECTS; i++)
        printf("  %-16s cold %9.1f ms  %5.2f x probe_off    warm %9.1f ms  %5.2f x probe_off\n",
               subjects[i].name, s->cold_median_ms[i], s->cold_ratio[i], s->warm_median_ms[i],
               s->warm_ratio[i]);
    printf("  the probe takes %.0f ns for a page, once\n\n", s->probe_ns);
}

static void write_json(const struct options *o, const struct shape *shapes, size_t count)
{
    FILE *f = fopen(o->json, "w");
    if (!f)
        die(o->json, strerror(errno));
    fprintf(f, "{\"bench\":\"first_pin\",\"sqlite\":\"%s\",\"rounds\":%u", sqlite3_libversion(),
            o->rounds);
    for (size_t k = 0; k < count; k++) {
        const struct shape *s = &shapes[k];
        fprintf(f, ",\"%s\":{\"row_bytes\":%u,\"pages\":%" PRId64, s->name, s->row_bytes, s->pages);
        for (int i = 0; i < SUBJECTS; i++)
            fprintf(f, ",\"%s\":{\"cold_ms\":%.3f,\"warm_ms\":%.3f}", subjects[i].name,
                    s->cold_median_ms[i], s->warm_median_ms[i]);
        fprintf(f,
                ",\"cold_probe_over_none\":%.4f,\"warm_probe_over_none\":%.4f,\"probe_ns\":%.1f}",
                s->cold_ratio[PROBE_ON], s->warm_ratio[PROBE_ON], s->probe_ns);
    }
    fprintf(f, "}\n");
    if (fclose(f) != 0)
        die(o->json, strerror(errno));
}

static unsigned number_of(const char *text, const char *option, unsigned max)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno || *end || end == text || value < 1 || value > max)
        die(option, "not a number in its range");
    return (unsigned)value;
}

static void parse_options(int argc, char **argv, struct options *o)
{
    static const struct option known[] = {
        {"extension", required_argument, NULL, 'e'}, {"directory", required_argument, NULL, 'd'},
        {"json", required_argument, NULL, 'j'},      {"rounds", required_argument, NULL, 'r'},
        {"megabytes", required_argument, NULL, 'm'}, {NULL, 0, NULL, 0}};
    const char *directory = getenv("DAX_BENCH_DIR");
    *o = (struct options){
        .directory = directory ? directory : "/dev/shm", .rounds = 9, .megabytes = 300};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 'e': o->extension = optarg; break;
        case 'd': o->directory = optarg; break;
        case 'j': o->json = optarg; break;
        case 'r': o->rounds = number_of(optarg, "--rounds", MAX_ROUNDS); break;
        case 'm': o->megabytes = number_of(optarg, "--megabytes", 1000000); break;
        default:
            fprintf(stderr, "usage: first_pin --extension PATH [--directory DIR] [--json FILE]"
                            " [--rounds N] [--megabytes N]\n");
            exit(2);
        }
    }
    if (!o->extension)
        die("--extension", "the path of daxlite.so, without .so, is needed");
}

static void remove_files(void)
{
    static const char *const files[] = {"dense.db", "dense.db-dax", "sparse.db", "sparse.db-dax"};
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof(path), "%s/%s", scratch_directory, files[i]);
        unlink(path);
    }
    rmdir(scratch_directory);
}

int main(int argc, char **argv)
{
    static struct shape shapes[] = {{.name = "dense", .row_bytes = 100},
                                    {.name = "sparse", .row_bytes = 3000}};
    const size_t count = sizeof(shapes) / sizeof(*shapes);
    struct options o;
    parse_options(argc, argv, &o);
    sqlite3_config(SQLITE_CONFIG_LOG, keep_log, NULL);
    int length = snprintf(scratch_directory, sizeof(scratch_directory), "%s/daxlite-bench-XXXXXX",
                          o.directory);
    if (length >= (int)sizeof(scratch_directory) || !mkdtemp(scratch_directory))
        die(o.directory, strerror(errno));
    atexit(remove_files);
    load_extension(o.extension);
    for (size_t k = 0; k < count; k++)
        make_database(&shapes[k], &o);
    for (unsigned round = 0; round < o.rounds; round++)
        for (size_t k = 0; k < count; k++)
            measure_round(&shapes[k], round);
    printf("SQLite %s, %u rounds, medians, CPU time; count and sum over a table of %u MiB\n\n",
           sqlite3_libversion(), o.rounds, o.megabytes);
    for (size_t k = 0; k < count; k++) {
        take_medians(&shapes[k], o.rounds);
        print_shape(&shapes[k]);
    }
    if (o.json)
        write_json(&o, shapes, count);
    return 0;
}
