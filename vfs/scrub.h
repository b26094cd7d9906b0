/* scrub.h: reading every page of a database and its sidecar, so that errors are found before the pages
 * are needed.
 */
#ifndef DAX_SCRUB_H
#define DAX_SCRUB_H

#include <stdbool.h>
#include <stdint.h>

#include "vfs/json.h"

/* The scrub of one database file: shared by all that have it open. */
struct scrub;

/* A database file of this VFS has been opened, at `path` (symbolic links resolved). NULL: no memory.
 * Any thread. */
struct scrub *scrub_attach(const char *path);
/* It is about to be closed; its engine connection still stands. The last one ends the thread and waits
 * for it, so that this connection is the store's last. NULL: no effect. */
void scrub_detach(struct scrub *s);

/* The member "scrub" of dax_status. s may be NULL. */
void scrub_write(struct json *j, struct scrub *s);

#endif
