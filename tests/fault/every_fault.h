/* every_fault.h: one workload under one plan of faults. */
#ifndef TESTS_FAULT_EVERY_FAULT_H
#define TESTS_FAULT_EVERY_FAULT_H

#include <sqlite3.h>

#include "tests/fault/inject.h"
#include "tests/fault/workload.h"
#include "tests/system/harness.h"

/* What an application may be told. */
enum {
    SAYS_NOMEM = 1,
    SAYS_FULL = 2,
    SAYS_IOERR = 4,
    SAYS_CANTOPEN = 8,
    SAYS_BUSY = 16,
    SAYS_MOVED = 32, /* SQLITE_READONLY_DBMOVED: stat cannot find the file, as stock SQLite says */
    SAYS_NOTHING = 0 /* the fault must not be seen at all */
};

struct plan {
    enum fault_class class;
    int code;
    bool sticky;
    bool long_only;
    unsigned says;
    /* A sync that fails may leave the store unusable until it is reopened, and says then whether
     * the transaction is there. */
    bool may_fail_store;
};

struct reader {
    enum step_kind kind; /* STEP_SNAPSHOT, STEP_PIN or STEP_END: none */
    const char *sql;
    sqlite3_stmt *statement;
    uint64_t hash; /* what it must see */
    int64_t rows;  /* rows of the statement still to come */
};

/* What a run without faults has found. */
struct reference {
    uint64_t state[WORKLOAD_STEPS + 1]; /* content after step i - 1; [0]: no database */
    uint64_t rows[WORKLOAD_STEPS];      /* hash of what STEP_ASK returned */
    uint64_t calls[FAULT_CLASS_COUNT];
};

struct run {
    struct reference *expect; /* shared by all plans of a workload */
    const struct workload *w;
    const struct plan *plan;
    char *path;
    char *params;
    sqlite3 *db[WORKLOAD_CONNS];
    const char *open_params[WORKLOAD_CONNS];
    struct reader reader[WORKLOAD_CONNS];
    const char *files;
    unsigned step;
    bool reference;                /* recording, nothing fails */
    uint64_t next[WORKLOAD_STEPS]; /* first N that is still to be tried */
    bool done[WORKLOAD_STEPS];
    uint64_t injected, refused;
    unsigned open_readers_pins, open_readers_snapshots;
};

/* --- verify.c --------------------------------------------------------------------------------- */

/* The content of a database as a new connection sees it. */
uint64_t verify_content(struct run *r);

/* After a step that failed with rc: the database is in the state before it (or, where the plan
 * allows, behind it), nothing of the failed step is held, and everything can be written. Returns
 * whether the step took effect. */
bool verify_failed(struct run *r, int rc, const char *text);

/* After a step that succeeded although something failed. */
void verify_succeeded(struct run *r);

void readers_start(struct run *r, unsigned conn, const struct step *s);
void readers_leave(struct run *r, unsigned conn);

/* Open a connection of the workload, without faults. */
void run_open(struct run *r, unsigned conn);

/* Files, descriptors and memory as before the first open. */
struct held {
    int descriptors;
    int maps;
    struct fault_balance balance;
    int64_t sqlite_bytes;
};
struct held held_now(void);
void held_compare(const struct held *before, const char *when);

#endif
