/* schema.c: finds the database that a function or table is asked about.
 *
 * Through PRAGMA database_list, because hosts before 3.39 have no call that names the databases.
 */
#include "vfs/schema.h"

#include <string.h>

static const char how_to_open[] =
    "open one with file:PATH?vfs=" DAX_VFS_NAME ", or ATTACH 'file:PATH?vfs=" DAX_VFS_NAME "'";

/* Whether db has a database of this name at all, for the wording of an error. */
static bool schema_exists(sqlite3 *db, const char *name)
{
    sqlite3_stmt *list;
    if (sqlite3_prepare_v2(db, "PRAGMA database_list", -1, &list, NULL) != SQLITE_OK)
        return false;
    bool found = false;
    while (!found && sqlite3_step(list) == SQLITE_ROW) {
        const char *each = (const char *)sqlite3_column_text(list, 1);
        found = each && sqlite3_stricmp(each, name) == 0;
    }
    sqlite3_finalize(list);
    return found;
}

/* First database that is ours; main comes first in the list. */
static struct conn *schema_first(sqlite3 *db, char **name_out, char **err_out)
{
    sqlite3_stmt *list;
    if (sqlite3_prepare_v2(db, "PRAGMA database_list", -1, &list, NULL) != SQLITE_OK) {
        *err_out = sqlite3_mprintf("%s", sqlite3_errmsg(db));
        return NULL;
    }
    struct conn *c = NULL;
    while (!c && sqlite3_step(list) == SQLITE_ROW) {
        const char *each = (const char *)sqlite3_column_text(list, 1);
        c = each ? vfs_conn_of(db, each) : NULL;
        if (c)
            *name_out = sqlite3_mprintf("%s", each);
    }
    sqlite3_finalize(list);
    if (!c)
        *err_out = sqlite3_mprintf("no database here is open through the VFS \"%s\"; %s",
                                   DAX_VFS_NAME, how_to_open);
    return c;
}

struct conn *schema_find(sqlite3 *db, const char *name, char **name_out, char **err_out)
{
    *name_out = NULL;
    *err_out = NULL;
    struct conn *c = vfs_conn_of(db, name ? name : "main");
    if (c)
        *name_out = sqlite3_mprintf("%s", name ? name : "main");
    else if (!name)
        c = schema_first(db, name_out, err_out);
    else if (schema_exists(db, name))
        *err_out = sqlite3_mprintf("database \"%s\" is not open through the VFS \"%s\"; %s", name,
                                   DAX_VFS_NAME, how_to_open);
    else
        *err_out = sqlite3_mprintf("no such database: \"%s\"", name);
    return c && *name_out ? c : NULL;
}
