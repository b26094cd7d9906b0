/* report.c: result lines, and the histogram behind percentiles. */
#include "bench/common/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench/common/subject.h"

void report(const char *workload, const char *parameter, const char *metric, double value,
            const char *unit)
{
    if (!parameter)
        parameter = "-";
    const char *const fields[] = {workload, parameter, metric, unit};
    for (unsigned i = 0; i < 4; i++)
        if (!fields[i][0] || strpbrk(fields[i], ",\n"))
            bench_die("a field of a result is empty or has a comma", workload);
    if (!isfinite(value) || value < 0)
        bench_die("a result is not a number", metric);
    printf("result,%s,%s,%s,%.9g,%s\n", workload, parameter, metric, value, unit);
    fflush(stdout);
}

/* Below 64 each number has its own bucket; above, the first six bits name it. */
static unsigned bucket_of(uint64_t ns)
{
    if (ns < 64)
        return (unsigned)ns;
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - 5u;
    unsigned bucket = shift * 32u + (unsigned)(ns >> shift);
    return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1;
}

/* The middle of a bucket. */
static double bucket_ns(unsigned bucket)
{
    if (bucket < 64)
        return bucket;
    unsigned shift = bucket / 32u - 1u;
    return (double)((uint64_t)(bucket - shift * 32u) << shift) + (double)(1ull << shift) / 2;
}

void latency_add(struct latency *l, uint64_t ns)
{
    l->count++;
    l->bucket[bucket_of(ns)]++;
    if (ns > l->max_ns)
        l->max_ns = ns;
}

void latency_merge(struct latency *into, const struct latency *from)
{
    into->count += from->count;
    if (from->max_ns > into->max_ns)
        into->max_ns = from->max_ns;
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
        into->bucket[i] += from->bucket[i];
}

double latency_ns(const struct latency *l, double part)
{
    uint64_t rank = (uint64_t)ceil((double)l->count * part), seen = 0;
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
        seen += l->bucket[i];
        if (seen >= rank && seen)
            return bucket_ns(i) < (double)l->max_ns ? bucket_ns(i) : (double)l->max_ns;
    }
    return 0;
}

void report_latency(const char *workload, const char *parameter, const struct latency *l)
{
    report(workload, parameter, "p50", latency_ns(l, 0.5) / 1e3, "us");
    report(workload, parameter, "p99", latency_ns(l, 0.99) / 1e3, "us");
    report(workload, parameter, "p99.9", latency_ns(l, 0.999) / 1e3, "us");
    report(workload, parameter, "max", (double)l->max_ns / 1e3, "us");
}
