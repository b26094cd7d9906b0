/* commit_tail.c: how are the times of durable commits distributed, checkpoints included?
 *
 * One-row updates all over a table, one transaction each, each timed; nobody checkpoints for them, so the
 * committer does, whenever its system thinks it is time. Then the same beside a reader whose snapshot is
 * renewed every thousand updates: versions must be kept, and go home later. Many small checkpoints show in
 * the percentiles, few large ones in the maximum. What else runs on the machine shows there as well: the
 * thread's CPU time of each update is measured around its wall time, where it does not (nor does waiting
 * for a disk).
 *
 *   commit_tail, readers=0|1           p50 p99 p99.9 max us; tail ratio: p99.9 / p50; checkpoints 1 (dax
 *                                      only); written B/op: folios of the page cache that became dirty,
 *                                      log and database (0 on tmpfs); of them less may be written
 *   commit_tail, readers=0|1;clock=cpu p50 p99 p99.9 max us, tail ratio: the same by CPU time
 */
#include <stdio.h>
#include <string.h>

#include "bench/common/alone.h"
#include "bench/common/clock.h"
#include "bench/common/kv.h"
#include "bench/common/process.h"
#include "bench/common/report.h"
#include "bench/common/subject.h"
#include "bench/draw.h"

#define VALUE_BYTES 100
#define READER_RENEWED 1000

struct tail {
    const struct bench *bench;
    struct kv *writer;
    struct kv *reader;
    uint64_t rows;
    uint64_t updates;
    uint64_t limit_ns;
    struct draw draw;
    uint64_t clock_ns; /* that measuring adds to the CPU time of an update */
    struct latency wall;
    struct latency cpu;
    unsigned char value[VALUE_BYTES];
};

static void update_row(struct tail *t)
{
    random_fill(&t->draw.state, t->value, VALUE_BYTES);
    kv_update(t->writer, (uint64_t)draw_between(&t->draw, 1, (int64_t)t->rows), t->value,
              VALUE_BYTES);
}

static void load_rows(struct tail *t)
{
    kv_begin(t->writer, true);
    for (uint64_t key = 1; key <= t->rows; key++) {
        random_fill(&t->draw.state, t->value, VALUE_BYTES);
        kv_insert(t->writer, key, t->value, VALUE_BYTES);
    }
    kv_commit(t->writer);
}

/* A new snapshot for the reader; not part of any time. */
static void renew_reader(struct tail *t, bool first)
{
    unsigned char value[VALUE_BYTES];
    if (!first)
        kv_commit(t->reader);
    kv_begin(t->reader, false);
    if (kv_get(t->reader, 1, value, VALUE_BYTES) != VALUE_BYTES)
        bench_die("read", "the row is not there");
}

static int64_t checkpoints(struct tail *t)
{
    return subject_is_dax(t->bench->subject)
               ? sql_number(kv_sqlite(t->writer),
                            "SELECT dax_status() ->> '$.counters.checkpoints'")
               : 0;
}

/* The least that the clocks themselves take, as they are nested in measure(). */
static uint64_t measure_clocks(void)
{
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 10000; i++) {
        uint64_t cpu = cpu_ns();
        (void)wall_ns();
        (void)wall_ns();
        cpu = cpu_ns() - cpu;
        least = cpu < least ? cpu : least;
    }
    return least;
}

static void report_tail(const char *parameter, const struct latency *l)
{
    report_latency("commit_tail", parameter, l);
    report("commit_tail", parameter, "tail", latency_ns(l, 0.999) / latency_ns(l, 0.5), "ratio");
}

static void measure(struct tail *t, unsigned readers)
{
    char parameter[64];
    int64_t before = checkpoints(t);
    uint64_t written = process_number("/proc/self/io", "write_bytes");
    memset(&t->wall, 0, sizeof(t->wall));
    memset(&t->cpu, 0, sizeof(t->cpu));
    alone_begin();
    uint64_t end = wall_ns() + t->limit_ns;
    for (uint64_t i = 0; i < t->updates; i++) {
        if (readers && i % READER_RENEWED == 0)
            renew_reader(t, i == 0);
        uint64_t cpu = cpu_ns(), begin = wall_ns();
        update_row(t);
        uint64_t now = wall_ns();
        cpu = cpu_ns() - cpu;
        latency_add(&t->wall, now - begin);
        latency_add(&t->cpu, cpu > t->clock_ns ? cpu - t->clock_ns : 0);
        if (now > end)
            break;
    }
    alone_end();
    if (readers)
        kv_commit(t->reader);
    snprintf(parameter, sizeof(parameter), "readers=%u", readers);
    report_tail(parameter, &t->wall);
    report("commit_tail", parameter, "written",
           (double)(process_number("/proc/self/io", "write_bytes") - written) /
               (double)t->wall.count,
           "B/op");
    if (subject_is_dax(t->bench->subject))
        report("commit_tail", parameter, "checkpoints", (double)(checkpoints(t) - before), "1");
    snprintf(parameter, sizeof(parameter), "readers=%u;clock=cpu", readers);
    report_tail(parameter, &t->cpu);
}

int main(int argc, char **argv)
{
    struct bench b;
    static struct tail t;
    bench_start(&b, argc, argv);
    t.bench = &b;
    t.rows = bench_scale(&b, 100000, 100000, 1000);
    t.updates = bench_scale(&b, 1000000, 100000, 2000);
    t.limit_ns = bench_scale(&b, 4, 1, 1) * UINT64_C(1000000000);
    t.draw = draw_stream(b.seed, 0);
    t.clock_ns = measure_clocks();
    t.writer = kv_open(&b, "commit_tail");
    load_rows(&t);
    measure(&t, 0);
    /* A reader keeps a rollback journal's writer out. */
    if (!subject_is_alone(b.subject) && b.subject != SUBJECT_ROLLBACK) {
        t.reader = kv_open(&b, "commit_tail");
        measure(&t, 1);
        kv_close(t.reader);
    }
    kv_close(t.writer);
    return 0;
}
