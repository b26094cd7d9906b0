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

#include <stddef.h>

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
 * the tables dax_pages and dax_errors for every connection opened from now on.
 *
 * make_default: not 0 makes "dax" the default VFS, so that databases opened without `vfs=` use it.
 *   In-memory databases and temporary files are not affected.
 * Returns SQLITE_OK, SQLITE_NOMEM, or SQLITE_ERROR if SQLite has no default VFS to build on.
 * Calling it again is harmless, and may only add make_default. Any thread; calls sqlite3_initialize().
 */
DAXLITE_API int daxlite_register(int make_default);

/* A media error: a page of a database file or of its sidecar that cannot be read, or that holds what
 * cannot be true. One row of the table dax_errors (docs/uri-and-sql.md). Texts are never NULL ("":
 * not known); they and the struct are good until the callback returns. */
struct daxlite_media_error {
    size_t size;              /* of this struct: a later version may have fields behind these */
    const char *path;         /* of the database file, symbolic links resolved */
    unsigned long long id;    /* dax_errors.id */
    unsigned long long page;  /* in 4096 bytes, from 0, of the file that `part` says */
    unsigned long long bytes; /* that cannot be read, from there */
    const char *part;         /* "database", or "log" or "sidecar": the file `path`-dax */
    const char *kind;         /* "poison", "sigbus", "truncated", "io", "damaged" */
    const char *type;         /* "table", "index", "schema", "several", "log", "sidecar"; "" */
    const char *object;       /* name of the table or index; of a shadow table: its virtual table */
    const char *role;         /* "root", "interior", "leaf", "overflow", "free leaf", ... */
    const char *status;       /* "quarantined", "repaired", "cleared", "lost" */
    const char *detail;       /* in words */
    long long time_us;        /* when it was found: microseconds since 1970, UTC */
};

typedef void (*daxlite_media_fn)(void *arg, const struct daxlite_media_error *error);

/* Have fn(arg, error) called for each media error of any database of this process, once, when it is
 * known which table it belongs to. NULL: no more calls. One function per process; a new one takes the
 * place of the old. Errors found before are not repeated: ask dax_errors for these.
 *
 * fn runs outside of signal context, on the thread that met the error or, if that could not tell whom
 * the page belongs to, on the next one that uses the database, while SQLite's mutex of the connection
 * is held and a statement, an open or a close of it is under way. So:
 *   - do not use that connection in fn (which is not told); note the error, wake somebody up, return;
 *   - other connections may be used, of other databases or opened for the purpose, as long as nobody
 *     who holds their mutex waits for this thread. An error that this meets is delivered when fn has
 *     returned: fn is not called within itself, but several threads may be in it at once;
 *   - do not leave it by longjmp or an exception.
 *
 * When daxlite_media_callback() returns, the old fn is not running and is not called again, so arg can
 * be freed: it waits for calls under way. Therefore do not hold a lock that fn takes. Called from within
 * fn it does not wait for that call nor for those of other threads; fn is not called again once these
 * have returned.
 * Any thread, at any time, before or after daxlite_register(). */
DAXLITE_API void daxlite_media_callback(daxlite_media_fn fn, void *arg);

#ifdef __cplusplus
}
#endif

#endif
