/* rehome.h: moving newest versions from frames and scratch into base.
 */
#ifndef DAX_REHOME_H
#define DAX_REHOME_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/rc.h"

struct store;

/* Trim the chains of all pages and rehome those whose newest version is not in base. Pages whose
 * base is pinned are left as they are; their numbers are the first *deferred_out entries of
 * s->pages. pages_out: how many were rehomed. Writer lock.
 * With yield it ends early when a writer waits for the lock: *complete_out says so.
 * Errors: DAX_NOMEM (work list), DAX_CORRUPT (a failed check). */
DAX_CHECKED dax_rc rehome_all(struct store *s, bool yield, size_t *pages_out, size_t *deferred_out,
                              bool *complete_out, struct dax_err *err);

#endif
