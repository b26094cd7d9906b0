/* walk.h: all the states in which a crash could leave what a trace did.
 */
#ifndef DAX_CRASH_WALK_H
#define DAX_CRASH_WALK_H

#include "hooks.h"
#include "trace.h"

/* What recovery must find: the state after `acked` transactions, or the one after it if it was in
 * flight. */
struct requirement {
    const struct trace *trace;
    size_t acked;
    bool in_flight;
    /* Where the newest record is, to damage it: offset in the sidecar, 0 while there is none. */
    uint64_t record, record_len;
    /* Of the walk that this one is within: what was right before the recovery. */
    const struct requirement *outer;
};

struct walk_options {
    uint64_t exhaustive;   /* all subsets where there are at most so many */
    uint64_t samples;      /* drawn ones at each operation besides */
    unsigned part;         /* of both, for workloads with large states */
    uint64_t slow_every;   /* so many new states: one is copied, opened for real, queried by SQL */
    uint64_t damage_every; /* so many new states: again with a bit of log or cursor turned over */
    uint64_t deep_every;   /* so many new states: crashes during and after its recovery, too */
    uint64_t seed;
    uint64_t states_max; /* of a walk; 0: no limit */
    bool progress;
    /* Only this state; SIZE_MAX: all. [1]: of the walk within the check of [0]. */
    size_t only_op[2], only_state[2]; /* op: its number */
};

struct walk_counts {
    uint64_t generated; /* subsets, many of which give the same image */
    uint64_t images;    /* distinct ones */
    uint64_t checks;    /* distinct pairs of image and requirement */
    uint64_t deep;      /* distinct images of crashes during or after a recovery */
    uint64_t deep_runs; /* recoveries that were recorded */
    uint64_t damaged;   /* states with a bit turned over */
    uint64_t slow;      /* states opened by SQLite with nothing cached */
    uint64_t points;    /* operations at which states were made */
};

struct walk_context {
    const char *workload;
    struct walk_options options;
    struct walk_counts counts;
    char violation[4096]; /* "": none */
    /* The same in short. */
    char violation_where[128];
    char violation_what[512];
};
extern struct walk_context walk;

/* Walk t over the image as it is now (which it leaves as it was). outer: NULL, or the requirement of
 * the state whose recovery t is. false: a violation, described in walk.violation. */
bool walk_trace(const struct trace *t, const struct requirement *outer);

/* Begin a run: nothing counted, no violation. Images seen in earlier runs are not counted again. */
void walk_reset(void);

#endif
