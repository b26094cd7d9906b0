/* check.h: is the state that the image holds one that a crash may leave?
 */
#ifndef DAX_CRASH_CHECK_H
#define DAX_CRASH_CHECK_H

#include "walk.h"

/* What is the same for all states of a workload. */
struct check_setup {
    uint8_t versions[2]; /* bytes 18 and 19 of the database at rest */
    uint64_t own_hash;   /* of the sidecar whose libpmemobj part is all there */
    uint64_t own_size;
};
extern struct check_setup check_setup;

/* Recover what the image holds and look at it. all: also write, close, and compare the file at rest;
 * whole: also on a copy, by SQLite, with nothing cached. The image has to be undone afterwards.
 * false: `what` says what is wrong. */
bool check_state(const struct requirement *r, bool all, bool whole, char *what, size_t bytes);

/* The same state after a bit of it has been turned over on the medium, in the newest record or in a
 * cursor slot: recovery finds what is required or says that the log is damaged, and never anything else.
 */
bool check_damage(const struct requirement *r, char *what, size_t bytes);

/* Can this state be checked without a copy? */
bool check_in_place(void);

/* Record the recovery of the image's state, one more transaction, and a close. false: it failed,
 * described in walk.violation. */
bool check_record(const struct requirement *r, struct trace *out);

/* PRAGMA integrity_check of every golden state, by stock SQLite. */
bool check_goldens(const struct trace *t, char *what, size_t bytes);

/* Of a store that is open: base and the live records give the newest version of every page (L1),
 * chains and frames are in order. */
bool check_store(struct store *s, char *what, size_t bytes);

#endif
