/* heap.h: SQLite's heap on jemalloc, for programs that embed daxlite.
 */
#ifndef DAX_VFS_HEAP_H
#define DAX_VFS_HEAP_H

#include "vfs/sqlite.h"

/* For SQLITE_CONFIG_MALLOC. Only where memory_is_jemalloc(). */
extern const sqlite3_mem_methods heap_methods;

#endif
