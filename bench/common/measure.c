/* measure.c: see measure.h. */
#include "bench/common/measure.h"

#include <stdlib.h>
#include <string.h>

#include "bench/common/alone.h"
#include "bench/common/clock.h"
#include "bench/common/report.h"
#include "bench/common/stores.h"

struct totals {
    uint64_t count, wall, cpu;
};

static uint64_t run_batch(measure_fn op, void *arg, uint64_t first, uint64_t count,
                          struct totals *totals)
{
    uint64_t cpu = cpu_ns(), wall = wall_ns();
    for (uint64_t i = first; i < first + count; i++)
        op(arg, i);
    wall = wall_ns() - wall;
    totals->cpu += cpu_ns() - cpu;
    totals->wall += wall;
    totals->count += count;
    return wall;
}

/* Of each operation its own time. */
static void run_timed(measure_fn op, void *arg, uint64_t first, uint64_t count, struct latency *l)
{
    uint64_t start = wall_ns();
    for (uint64_t i = first; i < first + count; i++) {
        op(arg, i);
        uint64_t end = wall_ns();
        latency_add(l, end - start);
        start = end;
    }
}

/* A batch that is not measured. */
static uint64_t run_warm(const struct measure *m, uint64_t *first, uint64_t count,
                         struct totals *warm)
{
    uint64_t wall = run_batch(m->op, m->arg, *first, count, warm);
    if (m->undo)
        run_batch(m->undo, m->arg, *first, count, warm);
    *first += count;
    return wall;
}

/* As many operations as take about a tenth of the time; *first moves on. */
static uint64_t find_batch(const struct measure *m, uint64_t budget, uint64_t *first,
                           struct totals *warm)
{
    for (uint64_t count = 1;; count *= 2) {
        if (m->batch && count >= m->batch)
            return m->batch;
        uint64_t wall = run_warm(m, first, count, warm);
        if (wall >= budget / 20)
            return wall >= budget / 5 ? count : count * 2;
    }
}

/* Updates of :memory: become faster for about as long as it takes to come by each page ten times. */
static uint64_t warm_up(const struct measure *m, uint64_t budget, uint64_t *first)
{
    struct totals warm = {0};
    uint64_t batch = find_batch(m, budget, first, &warm);
    while (warm.wall < budget / 2)
        run_warm(m, first, batch, &warm);
    return batch;
}

/* Where a slow medium leaves too few operations for an average, up to ten times as long. */
static bool measure_more(const struct totals *done, uint64_t budget)
{
    return done->wall < budget || (done->count < 100 && done->wall < 10 * budget);
}

static void report_times(const char *workload, const struct measure *m, const struct totals *t,
                         const struct latency *l)
{
    double n = (double)(t->count * (m->rows ? m->rows : 1)) * 1e3;
    report(workload, m->parameter, "time", (double)t->wall / n, "us/op");
    report(workload, m->parameter, "cpu", (double)t->cpu / n, "us/op");
    if (!m->rows || m->rows == 1)
        report_latency(workload, m->parameter, l);
}

void measure_time(const struct measure *m, uint64_t wall_ms)
{
    uint64_t budget = wall_ms * 1000000, first = 0;
    struct totals done = {0}, undone = {0};
    struct latency *l = calloc(2, sizeof *l);
    if (!l)
        bench_die("measure_time", "no memory");
    alone_begin();
    uint64_t batch = warm_up(m, budget, &first);
    for (; measure_more(&done, budget); first += batch) {
        run_batch(m->op, m->arg, first, batch, &done);
        if (m->undo)
            run_batch(m->undo, m->arg, first, batch, &undone);
    }
    for (uint64_t end = wall_ns() + budget * (m->undo ? 2 : 1); wall_ns() < end; first += batch) {
        run_timed(m->op, m->arg, first, batch, &l[0]);
        if (m->undo)
            run_timed(m->undo, m->arg, first, batch, &l[1]);
    }
    alone_end();
    report_times(m->workload, m, &done, &l[0]);
    if (m->undo)
        report_times(m->undo_workload, m, &undone, &l[1]);
    free(l);
}

/* On a slow medium fewer: there every operation costs the same, and none waits for a checkpoint. */
#define STORES_AT_LEAST 20

static uint64_t count_stores(const struct bench *b, const char *workload, const struct measure *m,
                             measure_fn op, sqlite3 *db, uint64_t count, uint64_t wall_ms)
{
    struct stores before, after;
    uint64_t i = 0, end = wall_ns() + wall_ms * 1000000;
    stores_read(b, db, &before);
    for (; i < count && (i < STORES_AT_LEAST || wall_ns() < end); i++)
        op(m->arg, i);
    stores_read(b, db, &after);
    stores_report(workload, m->parameter, &before, &after, i * (m->rows ? m->rows : 1));
    return i;
}

void measure_stores(const struct bench *b, const struct measure *m, sqlite3 *db, uint64_t count,
                    uint64_t wall_ms)
{
    if (m->batch && count > m->batch)
        count = m->batch;
    count = count_stores(b, m->workload, m, m->op, db, count, wall_ms);
    if (m->undo)
        count_stores(b, m->undo_workload, m, m->undo, db, count, UINT64_MAX / 2000000);
}
