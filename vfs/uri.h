/* uri.h: URI parameters of a database, `file:app.db?vfs=dax&dax_log_size=64m`.
 */
#ifndef DAX_VFS_URI_H
#define DAX_VFS_URI_H

#include "engine/engine.h"

/* What the parameters say; the engine's part and ours. */
struct uri_options {
    struct dax_options engine;
    bool zero_copy; /* xFetch hands out pointers */
};

/* Read the parameters behind name, which must be one that SQLite passes to xOpen (or made with
 * sqlite3_create_filename). What is not given has its default. Parameters:
 *   dax_log_size=BYTES[k|m|g]      size of a sidecar made now
 *   dax_private_size=BYTES[k|m|g]  DRAM for one transaction's changed pages
 *   dax_persist=auto|pmem|msync
 *   dax_zero_copy=on|off
 *   dax_probe=on|off               load every line of a page before SQLite gets a pointer to it
 *   dax_damaged_log=refuse|skip
 * DAX_MISUSE with key and value in the text: an unknown key that begins with "dax_", one given
 * twice, a bad value, or SQLite's immutable=1 or nolock=1, which cannot be honoured. */
DAX_CHECKED dax_rc uri_parse(const char *name, struct uri_options *out, struct dax_err *err);

#endif
