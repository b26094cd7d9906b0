/* entry_extension.c: what SQLite calls when it loads daxlite.so.
 *
 * A pool of connections loads an extension once per connection, so both entry points may run any
 * number of times and from several threads. They return SQLITE_OK_LOAD_PERMANENTLY: the VFS
 * outlives the connection that brought it.
 *
 * Locking: api_lock (leaf) orders the stores to sqlite3_api. Everybody else reads it without a
 * lock: it is set before anything is registered that could, and never changes afterwards.
 */
#include <pthread.h>

#include "include/daxlite.h"
#include "vfs/vfs.h"

SQLITE_EXTENSION_INIT1

/* sqlite3_uri_key and SQLITE_DIRECTONLY came with 3.31. An older host's table is shorter than ours:
 * calling past its end is a jump into nowhere. */
#define ENTRY_MIN_VERSION 3031000

static pthread_mutex_t api_lock = PTHREAD_MUTEX_INITIALIZER;

/* Use this host's SQLite from now on. Errors are allocated by it, since it frees them. */
static int entry_adopt_host(const sqlite3_api_routines *host, char **err_out)
{
    if (host->libversion_number() < ENTRY_MIN_VERSION) {
        if (err_out)
            *err_out = host->mprintf("daxlite %s needs SQLite 3.31.0 or newer; this is %s",
                                     DAXLITE_VERSION, host->libversion());
        return SQLITE_ERROR;
    }
    int rc = SQLITE_OK;
    pthread_mutex_lock(&api_lock);
    if (!sqlite3_api) {
        SQLITE_EXTENSION_INIT2(host);
    } else if (sqlite3_api != host) {
        rc = SQLITE_ERROR;
        if (err_out)
            *err_out = host->mprintf("daxlite is already in use by another copy of SQLite in this "
                                     "process (version %s, this is %s); give this one a copy of "
                                     "daxlite.so of its own",
                                     sqlite3_api->libversion(), host->libversion());
    }
    pthread_mutex_unlock(&api_lock);
    return rc;
}

static int entry_run(sqlite3 *db, char **err_out, const sqlite3_api_routines *host,
                     bool make_default)
{
    int rc = entry_adopt_host(host, err_out);
    if (rc != SQLITE_OK)
        return rc;
    rc = register_all(make_default);
    if (rc != SQLITE_OK) {
        if (err_out)
            *err_out = sqlite3_mprintf("daxlite cannot register its VFS: %s", sqlite3_errstr(rc));
        return rc;
    }
    rc = autoload_connection(db, err_out, host);
    return rc == SQLITE_OK ? SQLITE_OK_LOAD_PERMANENTLY : rc;
}

/* The two names that the extension exports; the first is the one SQLite looks for in daxlite.so. */
DAXLITE_API int sqlite3_daxlite_init(sqlite3 *db, char **err_out, const sqlite3_api_routines *host);
DAXLITE_API int sqlite3_daxlitedefault_init(sqlite3 *db, char **err_out,
                                            const sqlite3_api_routines *host);

int sqlite3_daxlite_init(sqlite3 *db, char **err_out, const sqlite3_api_routines *host)
{
    return entry_run(db, err_out, host, false);
}

/* For hosts without URI file names: "dax" becomes the default VFS. */
int sqlite3_daxlitedefault_init(sqlite3 *db, char **err_out, const sqlite3_api_routines *host)
{
    return entry_run(db, err_out, host, true);
}
