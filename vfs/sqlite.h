/* sqlite.h: one include for both ways of being compiled.
 *
 * Every file of vfs/ is compiled twice: for the loadable extension (DAXLITE_EXTENSION, all calls go
 * through the host's sqlite3_api table) and for the libraries that link libsqlite3. Only
 * entry_extension.c defines the table's pointer.
 */
#ifndef DAX_VFS_SQLITE_H
#define DAX_VFS_SQLITE_H

#ifdef DAXLITE_EXTENSION
#include <sqlite3ext.h>
extern const sqlite3_api_routines *sqlite3_api;
#else
#include <sqlite3.h>
#endif

#endif
