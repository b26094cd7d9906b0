/* vfs.c: the VFS "dax": registration, and which of SQLite's calls are ours.
 *
 * Ours are named main databases and their journals. Everything else (temporary files,
 * super-journals, directories, time, randomness, dynamic libraries) goes to the VFS that was the
 * default one when ours was registered, with its own sqlite3_vfs, so that it finds its own data
 * there; it fills the same sqlite3_file, which is large enough for either.
 */
#include "vfs/vfs.h"

#include <pthread.h>
#include <string.h>

#include "vfs/file.h"
#include "vfs/media_names.h"
#include "vfs/names.h"
#include "vfs/report.h"

/* Set once by vfs_install before ours is registered, constant afterwards. */
static sqlite3_vfs *real;

sqlite3_vfs *vfs_real(void)
{
    return real;
}

int vfs_code(dax_rc rc)
{
    return report_code(REPORT_ANY, rc);
}

struct conn *vfs_conn_of(sqlite3 *db, const char *schema)
{
    struct conn *c = NULL;
    int rc = sqlite3_file_control(db, schema, DAX_FCNTL_CONN, &c);
    return rc == SQLITE_OK ? c : NULL;
}

/* --- files ------------------------------------------------------------------------------------ */

static int vfs_open_journal(const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    struct file *owner = names_journal_owner(name);
    if (owner)
        return journal_file_open((struct journal_file *)file, owner, flags, out_flags);
    struct dax_err err;
    report_clear(&err);
    dax_rc rc = dax_err_set(&err, DAX_CANT_OPEN, 0, "the database of \"%s\" cannot be found", name);
    return report_failure(REPORT_OPEN, rc, &err);
}

/* A WAL of ours would be a second log that the engine knows nothing of. */
static int vfs_refuse_wal(const char *name)
{
    struct dax_err err;
    report_clear(&err);
    dax_rc rc =
        dax_err_set(&err, DAX_CANT_OPEN, 0,
                    "\"%s\": a database with vfs=dax has no WAL; close and open it again", name);
    return report_failure(REPORT_OPEN, rc, &err);
}

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                    int *out_flags)
{
    (void)vfs;
    file->pMethods = NULL;
    if (name) {
        if (flags & SQLITE_OPEN_MAIN_DB)
            return file_open((struct file *)file, name, flags, out_flags);
        if (flags & SQLITE_OPEN_MAIN_JOURNAL)
            return vfs_open_journal(name, file, flags, out_flags);
        if ((flags & SQLITE_OPEN_WAL) && names_kind(name) == NAME_WAL)
            return vfs_refuse_wal(name);
    }
    report_forget();
    return real->xOpen(real, name, file, flags, out_flags);
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync_directory)
{
    (void)vfs;
    switch (names_kind(name)) {
    case NAME_JOURNAL: return SQLITE_OK; /* gone since its xClose */
    case NAME_WAL: return SQLITE_IOERR_DELETE_NOENT;
    default: report_forget(); return real->xDelete(real, name, sync_directory);
    }
}

static int vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
    (void)vfs;
    if (names_kind(name) != NAME_OTHER) {
        *out = 0;
        return SQLITE_OK;
    }
    return real->xAccess(real, name, flags, out);
}

static int vfs_full_pathname(sqlite3_vfs *vfs, const char *name, int room, char *out)
{
    (void)vfs;
    return real->xFullPathname(real, name, room, out);
}

/* --- everything else -------------------------------------------------------------------------- */

static void *vfs_dl_open(sqlite3_vfs *vfs, const char *name)
{
    (void)vfs;
    return real->xDlOpen(real, name);
}

static void vfs_dl_error(sqlite3_vfs *vfs, int room, char *text)
{
    (void)vfs;
    real->xDlError(real, room, text);
}

static void (*vfs_dl_sym(sqlite3_vfs *vfs, void *library, const char *symbol))(void)
{
    (void)vfs;
    return real->xDlSym(real, library, symbol);
}

static void vfs_dl_close(sqlite3_vfs *vfs, void *library)
{
    (void)vfs;
    real->xDlClose(real, library);
}

static int vfs_randomness(sqlite3_vfs *vfs, int bytes, char *out)
{
    (void)vfs;
    return real->xRandomness(real, bytes, out);
}

static int vfs_sleep(sqlite3_vfs *vfs, int us)
{
    (void)vfs;
    return real->xSleep(real, us);
}

static int vfs_current_time(sqlite3_vfs *vfs, double *out)
{
    (void)vfs;
    return real->xCurrentTime(real, out);
}

static int vfs_current_time_int64(sqlite3_vfs *vfs, sqlite3_int64 *out)
{
    (void)vfs;
    return real->xCurrentTimeInt64(real, out);
}

static int vfs_get_last_error(sqlite3_vfs *vfs, int room, char *text)
{
    (void)vfs;
    int sys_errno;
    if (report_last(room, text, &sys_errno))
        return sys_errno;
    return real->xGetLastError ? real->xGetLastError(real, room, text) : 0;
}

static int vfs_set_system_call(sqlite3_vfs *vfs, const char *name, sqlite3_syscall_ptr call)
{
    (void)vfs;
    return real->xSetSystemCall(real, name, call);
}

static sqlite3_syscall_ptr vfs_get_system_call(sqlite3_vfs *vfs, const char *name)
{
    (void)vfs;
    return real->xGetSystemCall(real, name);
}

static const char *vfs_next_system_call(sqlite3_vfs *vfs, const char *name)
{
    (void)vfs;
    return real->xNextSystemCall(real, name);
}

/* --- registration ----------------------------------------------------------------------------- */

/* Filled in by vfs_install; SQLite links it into its list. */
static sqlite3_vfs dax_vfs = {
    .zName = DAX_VFS_NAME,
    .xOpen = vfs_open,
    .xDelete = vfs_delete,
    .xAccess = vfs_access,
    .xFullPathname = vfs_full_pathname,
    .xDlOpen = vfs_dl_open,
    .xDlError = vfs_dl_error,
    .xDlSym = vfs_dl_sym,
    .xDlClose = vfs_dl_close,
    .xRandomness = vfs_randomness,
    .xSleep = vfs_sleep,
    .xCurrentTime = vfs_current_time,
    .xGetLastError = vfs_get_last_error,
};

static int max_int(int a, int b)
{
    return a > b ? a : b;
}

/* Take what depends on the VFS below: sizes, and the methods that it has. */
static void vfs_fit(sqlite3_vfs *below)
{
    int ours = max_int(sizeof(struct file), sizeof(struct journal_file));
    real = below;
    dax_vfs.iVersion = below->iVersion < 3 ? below->iVersion : 3;
    dax_vfs.szOsFile = max_int(ours, below->szOsFile);
    dax_vfs.mxPathname = below->mxPathname;
    if (below->iVersion >= 2 && below->xCurrentTimeInt64)
        dax_vfs.xCurrentTimeInt64 = vfs_current_time_int64;
    if (below->iVersion >= 3 && below->xSetSystemCall) {
        dax_vfs.xSetSystemCall = vfs_set_system_call;
        dax_vfs.xGetSystemCall = vfs_get_system_call;
        dax_vfs.xNextSystemCall = vfs_next_system_call;
    }
}

static int vfs_install_first(void)
{
    sqlite3_vfs *below = sqlite3_vfs_find(NULL);
    if (!below)
        return SQLITE_ERROR;
    if (sqlite3_vfs_find(DAX_VFS_NAME)) {
        sqlite3_log(SQLITE_ERROR,
                    "daxlite: another copy of daxlite has registered the VFS \"%s\" "
                    "in this process: use that one",
                    DAX_VFS_NAME);
        return SQLITE_ERROR;
    }
    if (names_init() != 0 || media_names_init() != 0)
        return SQLITE_NOMEM;
    vfs_fit(below);
    dax_log_set(report_log);
    return SQLITE_OK;
}

int vfs_install(bool make_default)
{
    /* Connections of several threads may load the extension at once. */
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    int rc = real ? SQLITE_OK : vfs_install_first();
    bool registered = rc == SQLITE_OK && sqlite3_vfs_find(DAX_VFS_NAME) == &dax_vfs;
    if (rc == SQLITE_OK && (!registered || make_default))
        rc = sqlite3_vfs_register(&dax_vfs, make_default);
    pthread_mutex_unlock(&lock);
    return rc;
}
