/* inject_vfs.c: the VFS below daxlite: SQLite's own, whose calls can be made to fail.
 *
 * Temporary files, statement journals, the nested connection that adopts a stock database, and
 * attached stock databases come through here.
 */
#include "tests/fault/inject.h"

#include <sqlite3.h>
#include <string.h>

#include "tests/system/harness.h"

struct shim_file {
    sqlite3_file base;
    sqlite3_io_methods methods; /* the real file's version, so that what it lacks is lacking here */
    sqlite3_file *real;         /* behind this struct */
};

static sqlite3_vfs *real;

#define REAL(file) (((struct shim_file *)(file))->real)

/* SQLITE_FULL and the like come from the test; for a class with one code of its own this is it. */
#define FAIL(class)                                                                                \
    do {                                                                                           \
        if (fault_hit(FAULT_##class))                                                              \
            return fault_code();                                                                   \
    } while (0)

static int shim_close(sqlite3_file *f)
{
    int rc = REAL(f)->pMethods->xClose(REAL(f));
    f->pMethods = NULL;
    return rc;
}

static int shim_read(sqlite3_file *f, void *buf, int n, sqlite3_int64 at)
{
    FAIL(VFS_READ);
    return REAL(f)->pMethods->xRead(REAL(f), buf, n, at);
}

static int shim_write(sqlite3_file *f, const void *buf, int n, sqlite3_int64 at)
{
    FAIL(VFS_WRITE);
    return REAL(f)->pMethods->xWrite(REAL(f), buf, n, at);
}

static int shim_truncate(sqlite3_file *f, sqlite3_int64 n)
{
    FAIL(VFS_TRUNCATE);
    return REAL(f)->pMethods->xTruncate(REAL(f), n);
}

static int shim_sync(sqlite3_file *f, int flags)
{
    FAIL(VFS_SYNC);
    return REAL(f)->pMethods->xSync(REAL(f), flags);
}

static int shim_size(sqlite3_file *f, sqlite3_int64 *out)
{
    FAIL(VFS_SIZE);
    return REAL(f)->pMethods->xFileSize(REAL(f), out);
}

static int shim_lock(sqlite3_file *f, int level)
{
    return REAL(f)->pMethods->xLock(REAL(f), level);
}

static int shim_unlock(sqlite3_file *f, int level)
{
    return REAL(f)->pMethods->xUnlock(REAL(f), level);
}

static int shim_reserved(sqlite3_file *f, int *out)
{
    return REAL(f)->pMethods->xCheckReservedLock(REAL(f), out);
}

static int shim_control(sqlite3_file *f, int op, void *arg)
{
    return REAL(f)->pMethods->xFileControl(REAL(f), op, arg);
}

static int shim_sector(sqlite3_file *f)
{
    return REAL(f)->pMethods->xSectorSize(REAL(f));
}

static int shim_characteristics(sqlite3_file *f)
{
    return REAL(f)->pMethods->xDeviceCharacteristics(REAL(f));
}

static int shim_shm_map(sqlite3_file *f, int i, int n, int extend, void volatile **out)
{
    return REAL(f)->pMethods->xShmMap(REAL(f), i, n, extend, out);
}

static int shim_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    return REAL(f)->pMethods->xShmLock(REAL(f), offset, n, flags);
}

static void shim_shm_barrier(sqlite3_file *f)
{
    REAL(f)->pMethods->xShmBarrier(REAL(f));
}

static int shim_shm_unmap(sqlite3_file *f, int delete)
{
    return REAL(f)->pMethods->xShmUnmap(REAL(f), delete);
}

static const sqlite3_io_methods shim_methods = {
    .iVersion = 2,
    .xClose = shim_close,
    .xRead = shim_read,
    .xWrite = shim_write,
    .xTruncate = shim_truncate,
    .xSync = shim_sync,
    .xFileSize = shim_size,
    .xLock = shim_lock,
    .xUnlock = shim_unlock,
    .xCheckReservedLock = shim_reserved,
    .xFileControl = shim_control,
    .xSectorSize = shim_sector,
    .xDeviceCharacteristics = shim_characteristics,
    .xShmMap = shim_shm_map,
    .xShmLock = shim_shm_lock,
    .xShmBarrier = shim_shm_barrier,
    .xShmUnmap = shim_shm_unmap,
};

static int shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    (void)vfs;
    struct shim_file *f = (struct shim_file *)file;
    memset(f, 0, sizeof *f);
    FAIL(VFS_OPEN);
    f->real = (sqlite3_file *)(f + 1);
    int rc = real->xOpen(real, name, f->real, flags, out);
    if (f->real->pMethods) {
        f->methods = shim_methods;
        if (f->real->pMethods->iVersion < 2)
            f->methods.iVersion = 1;
        f->base.pMethods = &f->methods;
    }
    return rc;
}

static int shim_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
    (void)vfs;
    FAIL(VFS_DELETE);
    return real->xDelete(real, name, sync);
}

static int shim_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
    (void)vfs;
    FAIL(VFS_ACCESS);
    return real->xAccess(real, name, flags, out);
}

void fault_register_vfs(void)
{
    static sqlite3_vfs shim;
    real = sqlite3_vfs_find(NULL);
    shim = *real; /* methods that are not ours ignore their first argument in the unix VFS */
    shim.zName = "shim";
    shim.szOsFile = (int)sizeof(struct shim_file) + real->szOsFile;
    shim.xOpen = shim_open;
    shim.xDelete = shim_delete;
    shim.xAccess = shim_access;
    CHECK(sqlite3_vfs_register(&shim, 1) == SQLITE_OK, "shim");
}
