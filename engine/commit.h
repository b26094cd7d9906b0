/* commit.h: from private pages to a durable, published transaction.
 */
#ifndef DAX_COMMIT_H
#define DAX_COMMIT_H

#include "engine/rc.h"

struct store;

/* Commit the running transaction of the writer; prepares it if need be. On DAX_OK the transaction is
 * over, *txid_out is the newest committed txid (unchanged if there was nothing to commit) and the
 * writer's slot has it as its snapshot. On an error the transaction is as before. Writer lock. */
DAX_CHECKED dax_rc commit_run(struct store *s, uint64_t *txid_out, struct dax_err *err);

#endif
