/* alone.c: see alone.h. */
#define _GNU_SOURCE
#include "bench/common/alone.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/subject.h"

static struct {
    bool is;         /* between the two calls */
    cpu_set_t cores; /* what it was before, and the next two */
    int policy;
    struct sched_param priority;
} alone; /* of the one thread that is measured */

/* The last core that it may use: interrupts tend to go to the first. */
static void last_core(const cpu_set_t *allowed, cpu_set_t *out)
{
    CPU_ZERO(out);
    for (int i = CPU_SETSIZE - 1; i >= 0; i--)
        if (CPU_ISSET(i, allowed)) {
            CPU_SET(i, out);
            return;
        }
}

void alone_begin(void)
{
    cpu_set_t one;
    struct sched_param first = {.sched_priority = 1};
    alone.policy = sched_getscheduler(0);
    if (alone.policy < 0 || sched_getparam(0, &alone.priority) != 0 ||
        sched_getaffinity(0, sizeof alone.cores, &alone.cores) != 0)
        bench_die("alone_begin", strerror(errno));
    /* The two go together: bound to a core without the priority it would wait for that one. */
    if (getenv("DAX_BENCH_SHARED") || sched_setscheduler(0, SCHED_RR, &first) != 0)
        return;
    last_core(&alone.cores, &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0)
        bench_die("sched_setaffinity", strerror(errno));
    alone.is = true;
}

void alone_end(void)
{
    if (!alone.is)
        return;
    alone.is = false;
    if (sched_setscheduler(0, alone.policy, &alone.priority) != 0 ||
        sched_setaffinity(0, sizeof alone.cores, &alone.cores) != 0)
        bench_die("alone_end", strerror(errno));
}
