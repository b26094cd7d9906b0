/* one_row.c: what does one durable one-row transaction, and one point read, cost?
 *
 * The same prepared statements run against three databases in one directory (a tmpfs, so that no
 * disk is measured): stock SQLite in WAL mode with synchronous=FULL, `:memory:`, and the dax VFS of
 * the real loadable extension. 100 000 rows of 100 bytes; an update replaces one row by rowid in a
 * transaction of its own, a read fetches one by rowid; connections without mutex. Rounds are
 * interleaved, so that a slow moment of the machine hits all three, and medians are compared.
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

#define ROW_BYTES 100
#define MAX_ROUNDS 99

enum subject_kind {
    STOCK_WAL,
    IN_MEMORY,
    DAX,
    SUBJECTS
};

struct subject {
    const char *name;
    sqlite3 *db;
    sqlite3_stmt *update;
    sqlite3_stmt *select;
    double update_us[MAX_ROUNDS];
    double select_us[MAX_ROUNDS];
    double update_median_us;
    double select_median_us;
};

static char scratch_directory[PATH_MAX];

struct options {
    const char *extension;
    const char *directory;
    const char *json;
    unsigned rounds;
    unsigned rows;
    unsigned updates;
    unsigned selects;
};

/* What the marks are: a ratio, its bound, and on which side of it is good. */
struct mark {
    const char *name;
    double value;
    double bound;
    bool at_most;
};

static _Noreturn void die(const char *what, const char *detail)
{
    fprintf(stderr, "one_row: %s: %s\n", what, detail);
    exit(1);
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

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* splitmix64: the same sequence of rows for every subject. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static void fill_row(unsigned char row[ROW_BYTES], uint64_t *state)
{
    for (unsigned i = 0; i < ROW_BYTES; i += 4) {
        uint32_t word = (uint32_t)next_random(state);
        memcpy(row + i, &word, sizeof(word));
    }
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

static void open_subject(struct subject *s, const char *uri)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX;
    check(s->db, sqlite3_open_v2(uri, &s->db, flags, NULL), uri);
}

static void fill_subject(struct subject *s, const struct options *o)
{
    unsigned char row[ROW_BYTES];
    uint64_t random = 1;
    sqlite3_stmt *insert = NULL;
    run_sql(s->db, "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)");
    run_sql(s->db, "BEGIN");
    check(s->db, sqlite3_prepare_v2(s->db, "INSERT INTO t VALUES(?, ?)", -1, &insert, NULL),
          "prepare");
    for (unsigned id = 1; id <= o->rows; id++) {
        fill_row(row, &random);
        sqlite3_bind_int64(insert, 1, id);
        sqlite3_bind_blob(insert, 2, row, ROW_BYTES, SQLITE_STATIC);
        check(s->db, sqlite3_step(insert), "insert");
        check(s->db, sqlite3_reset(insert), "insert");
    }
    sqlite3_finalize(insert);
    run_sql(s->db, "COMMIT");
    check(s->db,
          sqlite3_prepare_v3(s->db, "UPDATE t SET v = ? WHERE id = ?", -1,
                             SQLITE_PREPARE_PERSISTENT, &s->update, NULL),
          "prepare");
    check(s->db,
          sqlite3_prepare_v3(s->db, "SELECT v FROM t WHERE id = ?", -1, SQLITE_PREPARE_PERSISTENT,
                             &s->select, NULL),
          "prepare");
}

/* Microseconds per one-row transaction. */
static double time_updates(struct subject *s, const struct options *o, uint64_t seed)
{
    unsigned char row[ROW_BYTES];
    fill_row(row, &seed);
    double start = now_us();
    for (unsigned i = 0; i < o->updates; i++) {
        uint64_t r = next_random(&seed);
        memcpy(row + i % (ROW_BYTES - sizeof(r)), &r, sizeof(r));
        sqlite3_bind_blob(s->update, 1, row, ROW_BYTES, SQLITE_STATIC);
        sqlite3_bind_int64(s->update, 2, (sqlite3_int64)(r % o->rows) + 1);
        if (sqlite3_step(s->update) != SQLITE_DONE || sqlite3_reset(s->update) != SQLITE_OK)
            die("update", sqlite3_errmsg(s->db));
    }
    return (now_us() - start) / o->updates;
}

/* Microseconds per point read. */
static double time_selects(struct subject *s, const struct options *o, uint64_t seed)
{
    uint64_t sum = 0;
    double start = now_us();
    for (unsigned i = 0; i < o->selects; i++) {
        sqlite3_bind_int64(s->select, 1, (sqlite3_int64)(next_random(&seed) % o->rows) + 1);
        if (sqlite3_step(s->select) != SQLITE_ROW)
            die("select", sqlite3_errmsg(s->db));
        sum += *(const unsigned char *)sqlite3_column_blob(s->select, 0);
        if (sqlite3_reset(s->select) != SQLITE_OK)
            die("select", sqlite3_errmsg(s->db));
    }
    double us = (now_us() - start) / o->selects;
    if (sum == 0)
        die("select", "every row began with a zero byte");
    return us;
}

/* A counter of dax_status(). */
static int64_t status_counter(sqlite3 *db, const char *name)
{
    sqlite3_stmt *stmt = NULL;
    int64_t value;
    check(db,
          sqlite3_prepare_v2(db, "SELECT json_extract(dax_status(), '$.counters.' || ?)", -1, &stmt,
                             NULL),
          "dax_status");
    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    if (sqlite3_step(stmt) != SQLITE_ROW || sqlite3_column_type(stmt, 0) != SQLITE_INTEGER)
        die("dax_status() has no number of this name", name);
    value = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return value;
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

static void write_json(const struct options *o, const struct subject *subjects,
                       const struct mark *marks, size_t mark_count)
{
    FILE *f = fopen(o->json, "w");
    if (!f)
        die(o->json, strerror(errno));
    fprintf(f,
            "{\"bench\":\"one_row\",\"sqlite\":\"%s\",\"rounds\":%u,\"rows\":%u,\"updates\":%u,"
            "\"selects\":%u",
            sqlite3_libversion(), o->rounds, o->rows, o->updates, o->selects);
    for (int i = 0; i < SUBJECTS; i++)
        fprintf(f, ",\"%s\":{\"update_us\":%.4f,\"select_us\":%.4f}", subjects[i].name,
                subjects[i].update_median_us, subjects[i].select_median_us);
    for (size_t i = 0; i < mark_count; i++)
        fprintf(f, ",\"%s\":%.4f", marks[i].name, marks[i].value);
    fprintf(f, "}\n");
    if (fclose(f) != 0)
        die(o->json, strerror(errno));
}

static void print_results(const struct options *o, const struct subject *subjects,
                          const struct mark *marks, size_t mark_count)
{
    printf("SQLite %s, %u rounds, medians; %u updates and %u reads per round, %u rows of %d"
           " bytes\n\n",
           sqlite3_libversion(), o->rounds, o->updates, o->selects, o->rows, ROW_BYTES);
    printf("  %-28s %16s %16s\n", "", "one-row update", "point read");
    for (int i = 0; i < SUBJECTS; i++)
        printf("  %-28s %13.2f us %13.2f us\n", subjects[i].name, subjects[i].update_median_us,
               subjects[i].select_median_us);
    printf("\n");
    for (size_t i = 0; i < mark_count; i++) {
        bool met =
            marks[i].at_most ? marks[i].value <= marks[i].bound : marks[i].value >= marks[i].bound;
        printf("  %-36s %8.2f   mark: %s %.4g   %s\n", marks[i].name, marks[i].value,
               marks[i].at_most ? "at most" : "at least", marks[i].bound, met ? "met" : "MISSED");
    }
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
        {"rows", required_argument, NULL, 'n'},      {"updates", required_argument, NULL, 'u'},
        {"selects", required_argument, NULL, 's'},   {NULL, 0, NULL, 0}};
    *o = (struct options){
        .directory = "/dev/shm", .rounds = 15, .rows = 100000, .updates = 20000, .selects = 50000};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 'e': o->extension = optarg; break;
        case 'd': o->directory = optarg; break;
        case 'j': o->json = optarg; break;
        case 'r': o->rounds = number_of(optarg, "--rounds", MAX_ROUNDS); break;
        case 'n': o->rows = number_of(optarg, "--rows", 100000000); break;
        case 'u': o->updates = number_of(optarg, "--updates", 100000000); break;
        case 's': o->selects = number_of(optarg, "--selects", 100000000); break;
        default:
            fprintf(stderr, "usage: one_row --extension PATH [--directory DIR] [--json FILE]"
                            " [--rounds N] [--rows N] [--updates N] [--selects N]\n");
            exit(2);
        }
    }
    if (!o->extension)
        die("--extension", "the path of daxlite.so, without .so, is needed");
}

static void remove_files(void)
{
    static const char *const files[] = {"stock.db", "stock.db-wal", "stock.db-shm", "dax.db",
                                        "dax.db-dax"};
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        char path[PATH_MAX + 32];
        snprintf(path, sizeof(path), "%s/%s", scratch_directory, files[i]);
        unlink(path);
    }
    rmdir(scratch_directory);
}

static void open_subjects(struct subject *s, const struct options *o)
{
    char stock_uri[PATH_MAX + 64], dax_uri[PATH_MAX + 64];
    int length = snprintf(scratch_directory, sizeof(scratch_directory), "%s/daxlite-bench-XXXXXX",
                          o->directory);
    if (length >= (int)sizeof(scratch_directory) || !mkdtemp(scratch_directory))
        die(o->directory, strerror(errno));
    atexit(remove_files);
    snprintf(stock_uri, sizeof(stock_uri), "file:%s/stock.db", scratch_directory);
    snprintf(dax_uri, sizeof(dax_uri), "file:%s/dax.db?vfs=dax", scratch_directory);
    load_extension(o->extension);
    open_subject(&s[STOCK_WAL], stock_uri);
    open_subject(&s[IN_MEMORY], ":memory:");
    open_subject(&s[DAX], dax_uri);
    run_sql(s[STOCK_WAL].db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
    for (int i = 0; i < SUBJECTS; i++)
        fill_subject(&s[i], o);
}

static void close_subjects(struct subject *s)
{
    for (int i = 0; i < SUBJECTS; i++) {
        sqlite3_finalize(s[i].update);
        sqlite3_finalize(s[i].select);
        check(s[i].db, sqlite3_close(s[i].db), "close");
    }
}

/* All rounds and their medians; returns the log bytes of one update. */
static double measure(struct subject *s, const struct options *o)
{
    for (int i = 0; i < SUBJECTS; i++) {
        time_updates(&s[i], o, 42); /* warm, not counted */
        time_selects(&s[i], o, 42);
    }
    int64_t commits = status_counter(s[DAX].db, "commits");
    int64_t log_bytes = status_counter(s[DAX].db, "log_bytes");
    for (unsigned round = 0; round < o->rounds; round++) {
        for (int i = 0; i < SUBJECTS; i++)
            s[i].update_us[round] = time_updates(&s[i], o, 1000 + round);
        for (int i = 0; i < SUBJECTS; i++)
            s[i].select_us[round] = time_selects(&s[i], o, 2000 + round);
    }
    commits = status_counter(s[DAX].db, "commits") - commits;
    log_bytes = status_counter(s[DAX].db, "log_bytes") - log_bytes;
    if (commits != (int64_t)o->rounds * o->updates)
        die("dax_status()", "the number of commits is not that of the updates");
    for (int i = 0; i < SUBJECTS; i++) {
        s[i].update_median_us = median(s[i].update_us, o->rounds);
        s[i].select_median_us = median(s[i].select_us, o->rounds);
    }
    return (double)log_bytes / (double)commits;
}

int main(int argc, char **argv)
{
    struct options o;
    struct subject s[SUBJECTS] = {[STOCK_WAL] = {.name = "stock_wal_full"},
                                  [IN_MEMORY] = {.name = "memory"},
                                  [DAX] = {.name = "dax"}};
    parse_options(argc, argv, &o);
    open_subjects(s, &o);
    double log_bytes = measure(s, &o);
    const struct mark marks[] = {
        {"update_dax_over_memory", s[DAX].update_median_us / s[IN_MEMORY].update_median_us, 1.7,
         true},
        {"update_stock_wal_over_dax", s[STOCK_WAL].update_median_us / s[DAX].update_median_us, 3,
         false},
        {"select_dax_over_memory", s[DAX].select_median_us / s[IN_MEMORY].select_median_us, 1.3,
         true},
        {"log_bytes_per_update", log_bytes, 640, true}};
    print_results(&o, s, marks, sizeof(marks) / sizeof(*marks));
    if (o.json)
        write_json(&o, s, marks, sizeof(marks) / sizeof(*marks));
    close_subjects(s);
    return 0;
}
