/* measure.h: one operation, over and over: how long it takes, how that is distributed, what it stores.
 *
 * Time is taken of a whole stretch of operations, so that checkpoints and whatever else happens now and
 * then is in it; taking each operation's time would add to it, so latencies come from a stretch of
 * their own. An operation that must be undone (an insert) is measured in turn with its opposite (a
 * delete), each in batches, each under its own name.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stdint.h>

#include "bench/common/subject.h"

/* The i-th operation. The same i may come again; of an operation with an opposite, after that. */
typedef void (*measure_fn)(void *arg, uint64_t i);

struct measure {
    const char *workload;
    const char *parameter; /* may be NULL */
    measure_fn op;
    void *arg;
    const char *undo_workload; /* NULL: nothing is to be undone */
    measure_fn undo;
    uint64_t batch; /* at most so many operations before they are undone; 0: any number */
    uint64_t rows;  /* results are for one row of so many that an operation has; 0: 1 */
};

/* Reports time, cpu, p50, p99, p99.9, max. wall_ms: for each of the two stretches and directions, after
 * half as long that is not measured; all of it alone (alone.h). */
void measure_time(const struct measure *m, uint64_t wall_ms);

/* Reports what operations store, see stores.h: `count` of them, or as many as wall_ms allows, but a few.
 * db: the subject's connection, NULL for lmdb. */
void measure_stores(const struct bench *b, const struct measure *m, sqlite3 *db, uint64_t count,
                    uint64_t wall_ms);

#endif
