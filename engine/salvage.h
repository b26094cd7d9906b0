/* salvage.h: a sidecar that libpmemobj cannot be given: its log is replayed without, and a new one made.
 */
#ifndef DAX_SALVAGE_H
#define DAX_SALVAGE_H

#include "engine/store.h"

/* sidecar_open has failed for s with rc and *err. Where it is the sidecar's structure that is unreadable or
 * damaged, open it without libpmemobj (s->sidecar.bare), and enter what is bad. Otherwise, and where that
 * cannot be done either: the error, which says what is bad and what may be lost. */
DAX_CHECKED dax_rc salvage_open(struct store *s, dax_rc rc, struct dax_err *err);

/* Base is durable and holds everything up to *c: put a new sidecar with that cursor and an empty log in
 * place of the bare one, with all that is known of media errors. On an error the old one is still there,
 * and opening the database again repeats all of it. */
DAX_CHECKED dax_rc salvage_renew(struct store *s, const struct cursor_slot *c, struct dax_err *err);

/* The same for a database without a mark, whose log means nothing: sidecar_open has failed with rc. A file
 * that is no sidecar at all is left where it is. *before_out: the cursor of the old one's last life, zeros
 * if it is lost. */
DAX_CHECKED dax_rc salvage_replace(struct store *s, dax_rc rc, struct cursor_slot *before_out,
                                   struct dax_err *err);

/* At the close, the log empty: a new sidecar if the old one could not take all entries. A failure is logged:
 * the data does not need it. */
void salvage_at_close(struct store *s);

#endif
