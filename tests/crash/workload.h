/* workload.h: what is run before the crash.
 */
#ifndef DAX_CRASH_WORKLOAD_H
#define DAX_CRASH_WORKLOAD_H

#include "hooks.h"

struct workload {
    const char *name, *what;
    uint64_t ring_bytes; /* 0: all that the pool has */
    const char *prepare; /* SQL for stock SQLite, or NULL: there is no file */
    bool earlier_life;   /* and a sidecar is there, from an earlier life */
    bool lost;           /* the database has been deleted since */
    bool no_sql;         /* contents are no database */
    unsigned part;       /* of the samples: larger states, fewer of them */
    void (*run)(void);
};
extern const struct workload workloads[];
extern const size_t workload_count;

/* Make the files, run it, and leave its trace in *out and the files as they are at its end. What
 * fails without a power failure is in walk.violation. */
void workload_record(const struct workload *w, uint64_t seed, struct trace *out,
                     struct image_copy *before);

#endif
