/* daxlite.h: SQLite on persistent memory, for programs that embed it.
 *
 * daxlite is a VFS named "dax". A program that links libdaxlite calls daxlite_register() once and
 * then opens databases with the VFS of that name:
 *
 *     #include <daxlite.h>
 *     #include <sqlite3.h>
 *
 *     sqlite3 *db;
 *     if (daxlite_register(0) != SQLITE_OK) ...
 *     sqlite3_open_v2("file:app.db?vfs=dax", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
 *                     SQLITE_OPEN_URI, 0);
 *
 * Programs that do not link it load the extension instead (`.load ./daxlite`).
 *
 * Caveats, before anything else:
 *   - One process at a time owns a database; a second one gets "database is locked".
 *   - A connection does not survive fork(): in the child every call on it fails, and closing it
 *     releases nothing. Open the database again after fork, in whichever process does not have it.
 *   - On tmpfs nothing survives power loss; `SELECT dax_status()` says which persistence mode a
 *     database is in, and why.
 *
 * URI parameters and SQL functions are described in docs/uri-and-sql.md.
 */
#ifndef DAXLITE_H
#define DAXLITE_H

#ifdef __cplusplus
extern "C" {
#endif

#define DAXLITE_VERSION "0.1.0"

#if defined(__GNUC__)
#define DAXLITE_API __attribute__((visibility("default")))
#else
#define DAXLITE_API
#endif

/* Version of the library that is running, e.g. "0.1.0". Static storage; any thread, any time. */
DAXLITE_API const char *daxlite_version(void);

/* Register the VFS "dax" with the SQLite library that this program uses, and the SQL functions and
 * the table dax_pages for every connection opened from now on.
 *
 * make_default: not 0 makes "dax" the default VFS, so that databases opened without `vfs=` use it.
 *   In-memory databases and temporary files are not affected.
 * Returns SQLITE_OK, SQLITE_NOMEM, or SQLITE_ERROR if SQLite has no default VFS to build on.
 * Calling it again is harmless, and may only add make_default. Any thread; calls sqlite3_initialize().
 */
DAXLITE_API int daxlite_register(int make_default);

#ifdef __cplusplus
}
#endif

#endif
