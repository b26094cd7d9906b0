/* recovery.h: from a marked file and its sidecar to the newest committed state.
 */
#ifndef DAX_RECOVERY_H
#define DAX_RECOVERY_H

#include <stdbool.h>

#include "engine/rc.h"

struct store;

/* The file carries the mark s->mark. Open the sidecar, replay, and leave the store with an empty log
 * of a new salt; *txid_out and *size_out are the newest committed state. skip: leave damaged
 * records out. Errors, each with file and advice: sidecar missing, damaged, of another
 * database; database file shorter than its log says; a damaged record followed by good ones.
 * Nothing is lost by an error: the next call starts at the same cursor. */
DAX_CHECKED dax_rc recovery_run(struct store *s, bool skip, uint64_t *txid_out,
                                uint64_t *size_out, struct dax_err *err);

#endif
