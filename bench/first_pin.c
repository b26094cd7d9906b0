/* first_pin.c: what does it cost to load every line of a page before SQLite gets its address?
 *
 * With dax_probe=on (the default) the first pin of a page since the database was opened loads all of
 * it inside the guard, so that a bad line is an error there and not a signal in SQLite's hands. Two
 * tables are scanned whole, each a database of its own: `dense`, 100-byte rows, where a scan touches
 * nearly every line of a page anyway, and `sparse`, 3000-byte rows of which it reads one column,
 * where it touches two lines of 64: the worst case. Three ways of opening the same file: the probe on,
 * off, and dax_zero_copy=off (`copy`), which copies each page inside the guard every time.
 *
 *   cold, warm; shape=dense|sparse;probe=on|off|copy   cpu ms of a scan; ratio: to probe=off
 *   probe, shape=...                                   page ns: on - off of the cold scan, for a page
 *
 * A cold scan is the first one after opening: no page has been pinned, none is mapped yet, and none
 * is in the CPU's cache. A warm scan is the one after it on the same connection. Times are the
 * thread's CPU time, page faults included: a scan waits for nothing, and what else runs on the machine
 * would be measured with it. The order turns with each round; each round reports its own ratios, since two
 * scans of one round meet the same moment of the machine.
 */
#include <inttypes.h>
#include <stdio.h>

#include "bench/common/alone.h"
#include "bench/common/clock.h"
#include "bench/common/report.h"
#include "bench/common/subject.h"

enum {
    PROBE_ON,
    PROBE_OFF,
    COPY,
    WAYS
};

static const struct {
    const char *name;
    const char *parameters; /* of the URI */
    bool pins;
} ways[WAYS] = {{"on", "dax_probe=on", true},
                {"off", "dax_probe=off", true},
                {"copy", "dax_zero_copy=off", false}};

/* One table, a database of its own. */
struct shape {
    const char *name;
    unsigned row_bytes;
    int64_t pages;
    int64_t sum; /* of column n */
};

static void make_database(const struct bench *b, struct shape *s, uint64_t bytes)
{
    char sql[512];
    sqlite3 *db = subject_open(b, s->name);
    sql_run(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, v BLOB)");
    /* A row's own overhead is about 12 bytes; of the sparse ones one fits on a page. */
    uint64_t count = s->row_bytes > 2000 ? bytes / 4096 : bytes / (s->row_bytes + 12);
    snprintf(sql, sizeof(sql),
             "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < %" PRIu64 ")"
             " INSERT INTO t SELECT i, i * 7919 %% 65536, zeroblob(%u) FROM c",
             count, s->row_bytes);
    sql_run(db, sql);
    if (sql_number(db, "SELECT count(*) FROM t") != (int64_t)count)
        bench_die(s->name, "not all rows are there");
    s->sum = sql_number(db, "SELECT sum(n) FROM t");
    s->pages = sql_number(db, "PRAGMA page_count");
    sql_close(db);
}

/* Milliseconds of one scan, which must have read the file in its way. */
static double time_scan(sqlite3 *db, const struct shape *s, int way)
{
    const char *counter = ways[way].pins ? "SELECT dax_status() ->> '$.counters.reads_pinned_base'"
                                         : "SELECT dax_status() ->> '$.counters.reads_copied'";
    int64_t reads = sql_number(db, counter);
    alone_begin();
    uint64_t start = cpu_ns();
    int64_t sum = sql_number(db, "SELECT sum(n) FROM t");
    uint64_t ns = cpu_ns() - start;
    alone_end();
    reads = sql_number(db, counter) - reads;
    if (sum != s->sum)
        bench_die(s->name, "another result than before");
    if (reads < s->pages * 9 / 10)
        bench_die(ways[way].name, "the pages were not read in this way");
    return (double)ns / 1e6;
}

static void report_scans(const struct shape *s, const char *workload, const double *ms)
{
    char parameter[64];
    for (int i = 0; i < WAYS; i++) {
        snprintf(parameter, sizeof parameter, "shape=%s;probe=%s", s->name, ways[i].name);
        report(workload, parameter, "cpu", ms[i], "ms");
        report(workload, parameter, "ratio", ms[i] / ms[PROBE_OFF], "ratio");
    }
}

static void measure_round(const struct bench *b, const struct shape *s, unsigned round)
{
    double cold[WAYS], warm[WAYS];
    char parameter[64];
    for (int i = 0; i < WAYS; i++) {
        int way = (i + (int)round) % WAYS;
        sqlite3 *db = subject_open_with(b, s->name, ways[way].parameters);
        /* The whole file in SQLite's own cache would answer the warm scan. */
        sql_run(db, "PRAGMA cache_size = 100");
        cold[way] = time_scan(db, s, way);
        warm[way] = time_scan(db, s, way);
        sql_close(db);
    }
    report_scans(s, "cold", cold);
    report_scans(s, "warm", warm);
    double page_ns = (cold[PROBE_ON] - cold[PROBE_OFF]) * 1e6 / (double)s->pages;
    snprintf(parameter, sizeof parameter, "shape=%s", s->name);
    report("probe", parameter, "page", page_ns > 0 ? page_ns : 0, "ns");
}

int main(int argc, char **argv)
{
    struct shape shapes[] = {{.name = "dense", .row_bytes = 100},
                             {.name = "sparse", .row_bytes = 3000}};
    struct bench b;
    bench_start(&b, argc, argv);
    if (!subject_is_dax(b.subject) || subject_is_alone(b.subject))
        bench_skip("has no probe, or that of dax");
    uint64_t bytes = bench_scale(&b, 300, 50, 1) << 20, rounds = bench_scale(&b, 9, 5, 1);
    for (unsigned k = 0; k < 2; k++)
        make_database(&b, &shapes[k], bytes);
    for (unsigned round = 0; round < rounds; round++)
        for (unsigned k = 0; k < 2; k++)
            measure_round(&b, &shapes[k], round);
    return 0;
}
