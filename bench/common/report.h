/* report.h: results as lines on stdout, and latencies as a histogram.
 *
 *   result,WORKLOAD,PARAMETER,METRIC,VALUE,UNIT
 *
 * No field has a comma; a parameter that does not exist is "-". Parameters are NAME=VALUE, several
 * joined by a semicolon ("indexes=4;rows=10"). Metrics that occur in several programs have the same name
 * and unit everywhere:
 *
 *   time us/op (or s for one long operation), rate op/s, p50 p99 p99.9 max us
 *   log_bytes base_bytes other_bytes stored_bytes B/op    what went to the medium (stores.h)
 *   fences flushes syncs syscalls instructions 1/op
 *   memory file_bytes log_live B
 *
 * One line is one sample; the runner takes medians and spreads over samples and rounds.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <stdint.h>

/* NULL as parameter: "-". Exits where the line could not be read back. */
void report(const char *workload, const char *parameter, const char *metric, double value,
            const char *unit);

/* Whole nanoseconds, in buckets of 1/32 of a power of two: percentiles are good to 3 %. One thread. */
#define LATENCY_BUCKETS (60 * 32)

struct latency {
    uint64_t count;
    uint64_t max_ns;
    uint64_t bucket[LATENCY_BUCKETS];
};

void latency_add(struct latency *l, uint64_t ns);
void latency_merge(struct latency *into, const struct latency *from);
/* The latency that `part` (0.99) of all did not exceed; 0 of none. */
double latency_ns(const struct latency *l, double part);
/* p50, p99, p99.9 and max, in us. */
void report_latency(const char *workload, const char *parameter, const struct latency *l);

#endif
