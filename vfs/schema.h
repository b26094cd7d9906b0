/* schema.h: which of a connection's databases a function or table is asked about.
 */
#ifndef DAX_SCHEMA_H
#define DAX_SCHEMA_H

#include "vfs/vfs.h"

/* Engine connection behind database `name` of db; with NULL: behind main if that is of this VFS,
 * else behind the first attached one that is. *name_out: its name, for sqlite3_free. NULL: there is
 * none; *err_out says why, for sqlite3_free (NULL if there was no memory for it). Call with db's
 * mutex held. The connection may go with any DETACH: look it up again rather than keep it. */
struct conn *schema_find(sqlite3 *db, const char *name, char **name_out, char **err_out);

#endif
