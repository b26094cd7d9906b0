/* autoload.c: prepares every connection that is opened after daxlite was loaded.
 *
 * Two things: the SQL functions and the tables dax_pages and dax_errors, on every connection; and zero-copy reads,
 * on connections whose main database is of this VFS. SQLite calls xFetch only where the
 * connection's mmap_size is above 0, its default is 0, and the VFS cannot change that by itself:
 * the pager decides from the connection's setting before it asks the file.
 *
 * The setting is made without a schema name: then it holds for main and for what is attached later.
 * A connection whose main database is not ours is left as it is: mapping stock databases is their
 * owner's decision. A database of ours that is attached there is read by copying, until the user
 * says PRAGMA schema.mmap_size.
 */
#include "vfs/vfs.h"

/* The largest value that every host passes on unchanged. Only whether it is above 0 matters: the
 * VFS maps the whole file in any case. */
#define AUTOLOAD_MMAP "PRAGMA mmap_size=2147418112"

/* What sqlite3_auto_extension takes. */
typedef void (*autoload_entry)(void);

int autoload_install(void)
{
    return sqlite3_auto_extension((autoload_entry)autoload_connection);
}

/* Must return int: SQLite takes the value, whatever it is, for a result code. */
int autoload_connection(sqlite3 *db, char **err_out, const struct sqlite3_api_routines *api)
{
    (void)api;
    const char *what = "SQL functions";
    int rc = functions_register(db);
    if (rc == SQLITE_BUSY)
        return SQLITE_OK; /* a statement is running, and everything is there already */
    if (rc == SQLITE_OK)
        rc = owner_functions_register(db);
    if (rc == SQLITE_OK)
        rc = repair_functions_register(db);
    if (rc == SQLITE_OK)
        rc = scrub_functions_register(db);
    if (rc == SQLITE_OK) {
        what = "table dax_pages";
        rc = pages_table_register(db);
    }
    if (rc == SQLITE_OK) {
        what = "table dax_errors";
        rc = errors_table_register(db);
    }
    if (rc == SQLITE_OK && vfs_conn_of(db, "main")) {
        what = "mmap_size";
        rc = sqlite3_exec(db, AUTOLOAD_MMAP, NULL, NULL, NULL);
    }
    if (rc != SQLITE_OK && err_out)
        *err_out = sqlite3_mprintf("daxlite cannot set up this connection (%s): %s", what,
                                   sqlite3_errmsg(db));
    return rc;
}
