/* concurrency.c: do readers go on beside a busy writer, and what do writers that contend do together?
 *
 * `readers`: 0 .. 8 threads fetch random rows, each read a transaction of its own. Phases of a tenth of
 * a second alternate: readers alone, readers beside one thread that updates a random row per
 * transaction without a pause. `writers`: 1 .. 8 threads do such updates, phases with one of them
 * alternate with phases of all, half a second each, so that one who waits is seen to wait. What is
 * compared with each other so meets the same moments of the machine. `pausing` (full runs): four writers,
 * each of which rests a tenth of a millisecond after each update, as programs do that have other work: so
 * there is room for four, and a store that keeps the lock for one of them wastes it.
 * Writers use the connections' busy timeout of ten seconds, as applications do; a statement that still
 * ends with SQLITE_BUSY is counted and repeated.
 *
 *   readers, readers=N;writer=0|1   rate op/s per reader; cpu us/op of its thread: where there are more
 *                                   threads than cores, only this tells waiting for a core from work
 *   readers, readers=N              kept: rate beside the writer / alone; cpu_kept the same by CPU time;
 *                                   writer_rate op/s beside these readers
 *   writers, writers=N              rate op/s of all together; kept: to the phases with one;
 *                                   p50 p99 p99.9 max us of an update, waiting for the others included;
 *                                   cpu us/op over all of them; fairness: the slowest writer / the mean;
 *                                   busy 1/op
 *   pausing, writers=4              the same
 *
 * Each value read must be one that was stored whole: its first and last word are the same.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bench/common/clock.h"
#include "bench/common/kv.h"
#include "bench/common/report.h"
#include "bench/common/subject.h"
#include "bench/draw.h"

#define THREADS_MAX 8
#define VALUE_WORDS 13 /* 104 bytes */
#define VALUE_BYTES (VALUE_WORDS * sizeof(uint64_t))

/* Two kinds of phases alternate, and each worker has its sums of both. */
enum {
    FEW,  /* without the writer (its number is `writer` in results); one writer */
    MANY, /* with the writer; all writers */
    KINDS
};

struct sum {
    uint64_t operations; /* finished within the phase */
    uint64_t busy;
    uint64_t cpu_ns;
    struct latency latency; /* writers', unfinished ones of the phase's end included */
};

struct arena {
    const struct bench *bench;
    uint64_t rows;
    /* Written by the main thread between barriers, read by workers between them: kind, end. `stop` ends
     * a phase; relaxed, since the barrier that follows orders everything else. */
    unsigned kind;
    bool end;
    uint64_t pause_ns; /* of a writer after an update */
    uint64_t wall_ns[KINDS]; /* of all phases, main thread only */
    atomic_bool stop;
    pthread_barrier_t begin;
    pthread_barrier_t done;
};

struct worker {
    struct arena *arena;
    bool writes;
    bool active[KINDS];
    struct sum sums[KINDS];
    struct kv *kv;
    sqlite3_stmt *update; /* SQL: its SQLITE_BUSY is counted instead of fatal */
    struct draw draw;
    uint64_t value[VALUE_WORDS];
    pthread_t thread;
};

static void fill_value(struct worker *w)
{
    random_fill(&w->draw.state, w->value, VALUE_BYTES);
    w->value[VALUE_WORDS - 1] = w->value[0];
}

static void read_row(struct worker *w)
{
    uint64_t key = (uint64_t)draw_between(&w->draw, 1, (int64_t)w->arena->rows);
    if (kv_get(w->kv, key, w->value, VALUE_BYTES) != VALUE_BYTES)
        bench_die("read", "a row is missing or has another size");
    if (w->value[0] != w->value[VALUE_WORDS - 1])
        bench_die("read", "half of one update and half of another");
}

/* false: busy. */
static bool update_row(struct worker *w)
{
    uint64_t key = (uint64_t)draw_between(&w->draw, 1, (int64_t)w->arena->rows);
    fill_value(w);
    if (!w->update) {
        kv_update(w->kv, key, w->value, VALUE_BYTES);
        return true;
    }
    sqlite3_bind_int64(w->update, 1, (sqlite3_int64)key);
    sqlite3_bind_blob(w->update, 2, w->value, VALUE_BYTES, SQLITE_STATIC);
    sqlite3_step(w->update);
    int rc = sqlite3_reset(w->update);
    if (rc != SQLITE_OK && (rc & 0xFF) != SQLITE_BUSY)
        bench_die("update", sqlite3_errmsg(kv_sqlite(w->kv)));
    return rc == SQLITE_OK;
}

static void sleep_ns(uint64_t ns)
{
    struct timespec t = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    nanosleep(&t, NULL);
}

static void run_phase(struct worker *w, struct sum *sum)
{
    uint64_t cpu = cpu_ns();
    for (;;) {
        bool done = true;
        if (w->writes) {
            uint64_t begin = wall_ns();
            done = update_row(w);
            latency_add(&sum->latency, wall_ns() - begin);
            if (w->arena->pause_ns)
                sleep_ns(w->arena->pause_ns);
        } else {
            read_row(w);
        }
        if (atomic_load_explicit(&w->arena->stop, memory_order_relaxed))
            break;
        sum->operations += done;
        sum->busy += !done;
    }
    sum->cpu_ns += cpu_ns() - cpu;
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    w->kv = kv_open(w->arena->bench, "concurrency");
    if (w->writes && kv_sqlite(w->kv))
        w->update = sql_prepare(kv_sqlite(w->kv), "UPDATE t SET v = ?2 WHERE id = ?1");
    for (;;) {
        pthread_barrier_wait(&w->arena->begin);
        if (w->arena->end)
            break;
        if (w->active[w->arena->kind])
            run_phase(w, &w->sums[w->arena->kind]);
        pthread_barrier_wait(&w->arena->done);
    }
    sqlite3_finalize(w->update);
    kv_close(w->kv);
    return NULL;
}

/* Runs all workers through `pairs` phases of both kinds, after one pair that is not counted. */
static void run_workers(struct arena *a, struct worker *workers, unsigned count, uint64_t pairs,
                        uint64_t phase_ns)
{
    a->end = false;
    if (pthread_barrier_init(&a->begin, NULL, count + 1) != 0 ||
        pthread_barrier_init(&a->done, NULL, count + 1) != 0)
        bench_die("pthread_barrier_init", "failed");
    for (unsigned i = 0; i < count; i++)
        if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0)
            bench_die("pthread_create", "failed");
    for (uint64_t phase = 0; phase < 2 * (pairs + 1); phase++) {
        a->kind = phase % KINDS;
        atomic_store_explicit(&a->stop, false, memory_order_relaxed);
        for (unsigned i = 0; i < count && phase == KINDS; i++)
            memset(workers[i].sums, 0, sizeof(workers[i].sums));
        if (phase == KINDS)
            memset(a->wall_ns, 0, sizeof(a->wall_ns));
        pthread_barrier_wait(&a->begin);
        uint64_t begin = wall_ns();
        sleep_ns(phase_ns);
        atomic_store_explicit(&a->stop, true, memory_order_relaxed);
        a->wall_ns[a->kind] += wall_ns() - begin;
        pthread_barrier_wait(&a->done);
    }
    a->end = true;
    pthread_barrier_wait(&a->begin);
    for (unsigned i = 0; i < count; i++)
        pthread_join(workers[i].thread, NULL);
    pthread_barrier_destroy(&a->begin);
    pthread_barrier_destroy(&a->done);
}

/* Operations per second in phases of a kind. */
static double rate_of(const struct arena *a, unsigned kind, const struct sum *s)
{
    return (double)s->operations * 1e9 / (double)a->wall_ns[kind];
}

/* CPU microseconds of one operation. */
static double cpu_of(const struct sum *s)
{
    return s->operations ? (double)s->cpu_ns / 1e3 / (double)s->operations : 0;
}

static struct sum sum_of(const struct worker *workers, unsigned count, unsigned kind)
{
    struct sum all = {0};
    for (unsigned i = 0; i < count; i++) {
        all.operations += workers[i].sums[kind].operations;
        all.busy += workers[i].sums[kind].busy;
        all.cpu_ns += workers[i].sums[kind].cpu_ns;
        latency_merge(&all.latency, &workers[i].sums[kind].latency);
    }
    return all;
}

static void measure_readers(struct arena *a, unsigned readers, uint64_t pairs, uint64_t phase_ns)
{
    static struct worker workers[THREADS_MAX + 1];
    char parameter[64];
    memset(workers, 0, sizeof(workers));
    for (unsigned i = 0; i <= readers; i++) {
        workers[i].arena = a;
        workers[i].writes = i == readers;
        workers[i].active[FEW] = i < readers;
        workers[i].active[MANY] = true;
        workers[i].draw = draw_stream(a->bench->seed, readers * 16 + i);
    }
    run_workers(a, workers, readers + 1, pairs, phase_ns);
    struct sum alone = sum_of(workers, readers, FEW), beside = sum_of(workers, readers, MANY);
    for (unsigned writer = 0; writer < 2 && readers; writer++) {
        const struct sum *s = writer ? &beside : &alone;
        snprintf(parameter, sizeof(parameter), "readers=%u;writer=%u", readers, writer);
        report("readers", parameter, "rate", rate_of(a, writer, s) / readers, "op/s");
        report("readers", parameter, "cpu", cpu_of(s), "us/op");
    }
    snprintf(parameter, sizeof(parameter), "readers=%u", readers);
    if (readers && alone.operations && beside.operations) {
        report("readers", parameter, "kept", rate_of(a, MANY, &beside) / rate_of(a, FEW, &alone),
               "ratio");
        report("readers", parameter, "cpu_kept", cpu_of(&alone) / cpu_of(&beside), "ratio");
    }
    report("readers", parameter, "writer_rate", rate_of(a, MANY, &workers[readers].sums[MANY]),
           "op/s");
}

static void measure_writers(struct arena *a, const char *workload, unsigned writers, uint64_t pairs,
                            uint64_t phase_ns)
{
    static struct worker workers[THREADS_MAX];
    char parameter[64];
    uint64_t slowest = UINT64_MAX;
    memset(workers, 0, sizeof(workers));
    for (unsigned i = 0; i < writers; i++) {
        workers[i].arena = a;
        workers[i].writes = true;
        workers[i].active[FEW] = i == 0;
        workers[i].active[MANY] = true;
        workers[i].draw = draw_stream(a->bench->seed, 1000 + writers * 16 + i);
    }
    run_workers(a, workers, writers, pairs, phase_ns);
    struct sum all = sum_of(workers, writers, MANY);
    double one = rate_of(a, FEW, &workers[0].sums[FEW]), together = rate_of(a, MANY, &all);
    for (unsigned i = 0; i < writers; i++)
        if (workers[i].sums[MANY].operations < slowest)
            slowest = workers[i].sums[MANY].operations;
    if (one == 0 || all.operations == 0)
        bench_die("writers", "not one update was done: a longer run is needed");
    snprintf(parameter, sizeof(parameter), "writers=%u", writers);
    report(workload, parameter, "rate", together, "op/s");
    report(workload, parameter, "kept", together / one, "ratio");
    report(workload, parameter, "cpu", cpu_of(&all), "us/op");
    report_latency(workload, parameter, &all.latency);
    report(workload, parameter, "fairness", (double)slowest * writers / (double)all.operations,
           "ratio");
    report(workload, parameter, "busy", (double)all.busy / (double)all.operations, "1/op");
}

static void load_rows(struct arena *a)
{
    struct kv *kv = kv_open(a->bench, "concurrency");
    struct worker w = {.draw = draw_stream(a->bench->seed, 0)};
    kv_begin(kv, true);
    for (uint64_t key = 1; key <= a->rows; key++) {
        fill_value(&w);
        kv_insert(kv, key, w.value, VALUE_BYTES);
    }
    kv_commit(kv);
    kv_close(kv);
}

int main(int argc, char **argv)
{
    struct bench b;
    bench_start(&b, argc, argv);
    if (subject_is_alone(b.subject))
        bench_skip("there is no second connection to it, or none that may write");
    struct arena a = {.bench = &b, .rows = bench_scale(&b, 100000, 100000, 2000)};
    uint64_t pairs = bench_scale(&b, 5, 2, 2);
    uint64_t phase_ns = bench_scale(&b, 100, 50, 10) * UINT64_C(1000000);
    bool sparse = b.size != BENCH_FULL;
    load_rows(&a);
    if (bench_wants(&b, "readers"))
        for (unsigned readers = 0; readers <= THREADS_MAX; readers = readers ? readers * 2 : 1)
            if (!sparse || readers == 1 || readers == 4)
                measure_readers(&a, readers, pairs, phase_ns);
    if (bench_wants(&b, "writers"))
        for (unsigned writers = 1; writers <= THREADS_MAX; writers *= 2)
            if (!sparse || writers == 4)
                measure_writers(&a, "writers", writers, pairs / 2, phase_ns * 5);
    a.pause_ns = 100000;
    if (bench_wants(&b, "pausing") && b.size != BENCH_QUICK)
        measure_writers(&a, "pausing", 4, pairs / 2, phase_ns * 5);
    return 0;
}
