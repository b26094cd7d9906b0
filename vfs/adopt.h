/* adopt.h: takes over a database that stock SQLite has used.
 */
#ifndef DAX_VFS_ADOPT_H
#define DAX_VFS_ADOPT_H

#include "engine/engine.h"

/* dax_adopt_fn. Before the file is locked: what stock SQLite left beside it, a hot journal or a
 * WAL, is brought into the file by stock SQLite itself, through the VFS that ours wraps.
 * Afterwards: checks that nothing of the kind has come since. arg is not used. */
dax_rc adopt_stock(void *arg, const char *path, enum dax_adopt_phase phase, bool marked,
                   struct dax_err *err);

#endif
