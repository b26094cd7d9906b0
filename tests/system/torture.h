/* torture.h: the database that is tortured, its invariants, and what child and parent say.
 *
 * Every transaction n moves money between accounts (their sum is constant), adds rows to work,
 * a row (n, rows, sum) to txlog, and sets counter to n - or is none of these. Old transactions are
 * pruned from txlog and work together.
 */
#ifndef TESTS_SYSTEM_TORTURE_H
#define TESTS_SYSTEM_TORTURE_H

#include "tests/system/harness.h"

#define TORTURE_ACCOUNTS 300
#define TORTURE_BALANCE 1000

/* What the child tells through the pipe. */
enum torture_say {
    SAY_OPENING,   /* about to open: recovery comes next */
    SAY_FOUND,     /* n: counter as found */
    SAY_COMMITTED, /* n: COMMIT of transaction n has returned */
    SAY_CLOSING,
    SAY_CLOSED
};
struct torture_message {
    uint64_t say;
    int64_t n;
};

struct torture_life {
    unsigned page_size;
    int auto_vacuum;
    bool readers;       /* threads that check while the writer works */
    const char *params; /* of the URI */
};

/* Create the database. */
void torture_create(const char *path, const struct torture_life *life);

/* Check every invariant in one snapshot; returns the counter. quick: without integrity_check. */
int64_t torture_verify(sqlite3 *db, bool quick, const char *when);

/* The child: verify, work until killed, or for `limit` transactions, then close. */
int torture_child(const char *path, const struct torture_life *life, int pipe_fd, uint64_t seed,
                  int limit);

#endif
