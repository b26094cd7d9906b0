/* checkpoint.h: rehoming pages, cutting the log, cutting the file.
 *
 * All of it needs the writer lock. The caller's transaction, if there is one, has not published
 * anything; its private and scratch pages are left alone.
 */
#ifndef DAX_CHECKPOINT_H
#define DAX_CHECKPOINT_H

#include "engine/engine.h"

struct store;

/* Rehome every page, relog what is pinned, advance the cursor, cut what the database has left. wait
 * (NULL: never) is asked while pins of slots other than `slot` are in the way. */
DAX_CHECKED dax_rc checkpoint_run(struct store *s, uint32_t slot, enum checkpoint_mode mode,
                                  dax_wait_fn wait, void *wait_arg,
                                  struct checkpoint_result *result, struct dax_err *err);

/* For a committer: make room for a record of need_bytes, and free frames. DAX_FULL if even that does
 * not make room (it always does unless a single record is too large for the ring). */
DAX_CHECKED dax_rc checkpoint_inline(struct store *s, uint32_t slot, uint64_t need_bytes,
                                     struct dax_err *err);

/* After a transaction that used scratch: copy its pages home and give scratch back, as far as
 * readers allow. A failure is logged: the transaction is committed, the next checkpoint tries
 * again. */
void checkpoint_after_scratch(struct store *s, uint32_t slot);

/* Drop versions that nobody sees any more and rehome the rest, without touching the log. For when
 * a reader has ended. false: not finished, because a writer waits for the lock. */
bool checkpoint_tidy(struct store *s);

/* Give scratch back if neither a version nor a live record is in it. */
void checkpoint_drop_scratch(struct store *s);

/* The writer has aborted: give back scratch and what the file has grown since it had file_bytes. No
 * committed page is beyond them. */
void checkpoint_after_abort(struct store *s, uint64_t file_bytes);

/* Before the store closes, no reader being left: everything in base, log empty, file cut to the
 * exact size. */
DAX_CHECKED dax_rc checkpoint_close(struct store *s, struct dax_err *err);

#endif
