/* workload.h: what is done while something fails: workloads as tables of steps. */
#ifndef TESTS_FAULT_WORKLOAD_H
#define TESTS_FAULT_WORKLOAD_H

#define WORKLOAD_CONNS 3
#define WORKLOAD_STEPS 40

enum step_kind {
    STEP_END, /* of the table */
    STEP_FILES, /* sql: name of the set of files that each attempt of the next STEP_OPEN begins with */
    STEP_OPEN,  /* sql: more URI parameters, or NULL */
    STEP_CLOSE, /* with a transaction in the log */
    STEP_DO,    /* statements; all of them or none take effect, because they are one transaction */
    STEP_ASK,   /* the same, and the rows that they return are compared with a run without faults */
    STEP_PREPARE,  /* as STEP_DO, without faults */
    STEP_SNAPSHOT, /* a reader begins; it must see this state until STEP_LEAVE */
    STEP_PIN,      /* a reader stops in the middle of the query `sql` */
    STEP_LEAVE     /* the reader ends */
};

struct step {
    enum step_kind kind;
    unsigned conn;
    const char *sql;
};

struct workload {
    const char *name;
    const char *params;
    struct step steps[WORKLOAD_STEPS];
};

extern const struct workload workloads[];
extern const unsigned workload_count;

/* Make every set of files that a STEP_FILES names, in the test's directory. */
void workload_make_files(void);

/* The database of a workload as the set says: it and its journals and sidecar. */
void workload_put_files(const char *set, const char *path);

#endif
