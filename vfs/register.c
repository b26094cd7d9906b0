/* register.c: registration with SQLite, for the process; the public C functions of the libraries.
 */
#include "include/daxlite.h"
#include "vfs/media_callback.h"
#include "vfs/vfs.h"

int register_all(bool make_default)
{
    int rc = vfs_install(make_default);
    if (rc == SQLITE_OK)
        rc = autoload_install();
    return rc;
}

#ifndef DAXLITE_EXTENSION

const char *daxlite_version(void)
{
    return DAXLITE_VERSION;
}

int daxlite_register(int make_default)
{
    int rc = sqlite3_initialize();
    return rc == SQLITE_OK ? register_all(make_default != 0) : rc;
}

void daxlite_media_callback(daxlite_media_fn fn, void *arg)
{
    media_callback_set(fn, arg);
}

#endif
