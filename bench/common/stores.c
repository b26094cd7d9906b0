/* stores.c: a VFS between stock SQLite and "unix" that counts what is stored and synced.
 *
 * It passes everything on, the shared memory of WAL and memory-mapped reads included: SQLite stores
 * only by xWrite. (The WAL index is no part of what has to be durable and is not counted.)
 */
#include "bench/common/stores.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "bench/common/process.h"
#include "bench/common/report.h"

static struct {
    _Atomic uint64_t log_bytes, base_bytes, syncs; /* any thread, relaxed */
} counted;

struct counted_file {
    sqlite3_file base;
    _Atomic uint64_t *bytes; /* where its writes are counted */
    sqlite3_file *real;      /* in the memory behind this struct */
};

static sqlite3_file *real_of(sqlite3_file *f)
{
    return ((struct counted_file *)f)->real;
}

static int counted_close(sqlite3_file *f)
{
    return real_of(f)->pMethods->xClose(real_of(f));
}

static int counted_read(sqlite3_file *f, void *to, int bytes, sqlite3_int64 at)
{
    return real_of(f)->pMethods->xRead(real_of(f), to, bytes, at);
}

static int counted_write(sqlite3_file *f, const void *from, int bytes, sqlite3_int64 at)
{
    struct counted_file *c = (struct counted_file *)f;
    atomic_fetch_add_explicit(c->bytes, (uint64_t)bytes, memory_order_relaxed);
    return c->real->pMethods->xWrite(c->real, from, bytes, at);
}

static int counted_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    return real_of(f)->pMethods->xTruncate(real_of(f), size);
}

static int counted_sync(sqlite3_file *f, int flags)
{
    atomic_fetch_add_explicit(&counted.syncs, 1, memory_order_relaxed);
    return real_of(f)->pMethods->xSync(real_of(f), flags);
}

static int counted_file_size(sqlite3_file *f, sqlite3_int64 *size)
{
    return real_of(f)->pMethods->xFileSize(real_of(f), size);
}

static int counted_lock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xLock(real_of(f), level);
}

static int counted_unlock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xUnlock(real_of(f), level);
}

static int counted_check_reserved(sqlite3_file *f, int *out)
{
    return real_of(f)->pMethods->xCheckReservedLock(real_of(f), out);
}

static int counted_control(sqlite3_file *f, int op, void *arg)
{
    return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}

static int counted_sector_size(sqlite3_file *f)
{
    return real_of(f)->pMethods->xSectorSize(real_of(f));
}

static int counted_characteristics(sqlite3_file *f)
{
    return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}

static int counted_shm_map(sqlite3_file *f, int region, int bytes, int extend, void volatile **out)
{
    return real_of(f)->pMethods->xShmMap(real_of(f), region, bytes, extend, out);
}

static int counted_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    return real_of(f)->pMethods->xShmLock(real_of(f), offset, n, flags);
}

static void counted_shm_barrier(sqlite3_file *f)
{
    real_of(f)->pMethods->xShmBarrier(real_of(f));
}

static int counted_shm_unmap(sqlite3_file *f, int remove)
{
    return real_of(f)->pMethods->xShmUnmap(real_of(f), remove);
}

static int counted_fetch(sqlite3_file *f, sqlite3_int64 at, int bytes, void **out)
{
    return real_of(f)->pMethods->xFetch(real_of(f), at, bytes, out);
}

static int counted_unfetch(sqlite3_file *f, sqlite3_int64 at, void *page)
{
    return real_of(f)->pMethods->xUnfetch(real_of(f), at, page);
}

static const sqlite3_io_methods counted_methods = {
    .iVersion = 3,
    .xClose = counted_close,
    .xRead = counted_read,
    .xWrite = counted_write,
    .xTruncate = counted_truncate,
    .xSync = counted_sync,
    .xFileSize = counted_file_size,
    .xLock = counted_lock,
    .xUnlock = counted_unlock,
    .xCheckReservedLock = counted_check_reserved,
    .xFileControl = counted_control,
    .xSectorSize = counted_sector_size,
    .xDeviceCharacteristics = counted_characteristics,
    .xShmMap = counted_shm_map,
    .xShmLock = counted_shm_lock,
    .xShmBarrier = counted_shm_barrier,
    .xShmUnmap = counted_shm_unmap,
    .xFetch = counted_fetch,
    .xUnfetch = counted_unfetch,
};

static sqlite3_vfs counted_vfs;

static int counted_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *f, int flags,
                        int *out_flags)
{
    sqlite3_vfs *unix_vfs = vfs->pAppData;
    struct counted_file *c = (struct counted_file *)f;
    c->base.pMethods = NULL;
    c->bytes = flags & SQLITE_OPEN_MAIN_DB ? &counted.base_bytes : &counted.log_bytes;
    c->real = (sqlite3_file *)(c + 1);
    int rc = unix_vfs->xOpen(unix_vfs, name, c->real, flags, out_flags);
    if (c->real->pMethods)
        c->base.pMethods = &counted_methods;
    return rc;
}

const char *stores_vfs(void)
{
    if (!counted_vfs.zName) {
        sqlite3_vfs *unix_vfs = sqlite3_vfs_find("unix");
        if (!unix_vfs)
            bench_die("sqlite3_vfs_find", "no VFS of the name unix");
        counted_vfs = *unix_vfs;
        counted_vfs.pNext = NULL;
        counted_vfs.pAppData = unix_vfs;
        counted_vfs.szOsFile = (int)sizeof(struct counted_file) + unix_vfs->szOsFile;
        counted_vfs.xOpen = counted_open;
        counted_vfs.zName = "counted";
        if (sqlite3_vfs_register(&counted_vfs, 0) != SQLITE_OK)
            bench_die("sqlite3_vfs_register", "failed");
    }
    return counted_vfs.zName;
}

static void read_dax(sqlite3 *db, struct stores *out)
{
    sqlite3_stmt *stmt = sql_prepare(
        db, "SELECT m ->> 'log_bytes', m ->> 'base_bytes', m ->> 'sidecar_bytes', m ->> 'fences',"
            " m ->> 'flushes', m ->> 'syncs' FROM (SELECT dax_status() -> 'medium' AS m)");
    uint64_t *const to[] = {&out->log_bytes, &out->base_bytes, &out->other_bytes,
                            &out->fences,    &out->flushes,    &out->syncs};
    if (sqlite3_step(stmt) != SQLITE_ROW)
        bench_die("dax_status()", sqlite3_errmsg(db));
    for (int i = 0; i < 6; i++) {
        if (sqlite3_column_type(stmt, i) != SQLITE_INTEGER)
            bench_die("dax_status()", "a counter of its medium is missing");
        *to[i] = (uint64_t)sqlite3_column_int64(stmt, i);
    }
    sqlite3_finalize(stmt);
}

void stores_read(const struct bench *b, sqlite3 *db, struct stores *out)
{
    memset(out, 0, sizeof *out);
    if (subject_is_dax(b->subject)) {
        read_dax(db, out);
    } else if (b->subject == SUBJECT_LMDB) {
        out->base_bytes = process_number("/proc/self/io", "wchar");
    } else if (!subject_keeps_nothing(b->subject)) {
        if (!b->counted)
            bench_die("stores_read", "stock SQLite is counted with b->counted only");
        out->log_bytes = atomic_load_explicit(&counted.log_bytes, memory_order_relaxed);
        out->base_bytes = atomic_load_explicit(&counted.base_bytes, memory_order_relaxed);
        out->syncs = atomic_load_explicit(&counted.syncs, memory_order_relaxed);
    }
}

void stores_report(const char *workload, const char *parameter, const struct stores *before,
                   const struct stores *after, uint64_t operations)
{
    double n = (double)operations;
    double log = (double)(after->log_bytes - before->log_bytes) / n;
    double base = (double)(after->base_bytes - before->base_bytes) / n;
    double other = (double)(after->other_bytes - before->other_bytes) / n;
    report(workload, parameter, "log_bytes", log, "B/op");
    report(workload, parameter, "base_bytes", base, "B/op");
    report(workload, parameter, "other_bytes", other, "B/op");
    report(workload, parameter, "stored_bytes", log + base + other, "B/op");
    report(workload, parameter, "fences", (double)(after->fences - before->fences) / n, "1/op");
    report(workload, parameter, "flushes", (double)(after->flushes - before->flushes) / n, "1/op");
    report(workload, parameter, "syncs", (double)(after->syncs - before->syncs) / n, "1/op");
}
