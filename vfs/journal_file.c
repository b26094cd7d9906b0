/* journal_file.c: the journal of a main database as an sqlite3_file.
 *
 * It exists from xOpen to xClose and nowhere but in memory. There is never one to be found by
 * another connection, nor by this one later: what a transaction did that has not committed, the
 * engine forgets by itself. SQLite uses it for ROLLBACK and for savepoints, and, in
 * locking_mode=EXCLUSIVE where it keeps the journal open, as a hot journal after a failed commit.
 *
 * Errors are those of a write at every place, reads included, since SQLite drops its cache for
 * IOERR and FULL alone, and a journal that cannot be read leaves in it what was to be rolled back.
 */
#include <string.h>

#include "vfs/file.h"

static struct journal *journal_of(sqlite3_file *file)
{
    return &((struct journal_file *)file)->main->journal;
}

static int journal_failure(sqlite3_file *file, dax_rc rc, const struct dax_err *err)
{
    return file_failure(((struct journal_file *)file)->main, REPORT_WRITE, rc, err);
}

dax_rc journal_file_image(void *arg, void *buf, size_t len, uint64_t offset, struct dax_err *err)
{
    /* A database that ends within a page reads as zeros from there on, as it did when SQLite
     * wrote the image. */
    dax_rc rc = conn_read_committed(arg, buf, len, offset, err);
    return rc == DAX_SHORT_READ ? DAX_OK : rc;
}

static int journal_close(sqlite3_file *file)
{
    struct journal_file *jf = (struct journal_file *)file;
    journal_reset(&jf->main->journal);
    jf->main->journal_open = false;
    return SQLITE_OK;
}

static int journal_read_at(sqlite3_file *file, void *buf, int amount, sqlite3_int64 offset)
{
    struct dax_err err;
    dax_rc rc =
        journal_read(journal_of(file), buf, (size_t)amount, (uint64_t)offset, report_clear(&err));
    if (rc == DAX_OK)
        return SQLITE_OK;
    return rc == DAX_SHORT_READ ? SQLITE_IOERR_SHORT_READ : journal_failure(file, rc, &err);
}

static int journal_write_at(sqlite3_file *file, const void *buf, int amount, sqlite3_int64 offset)
{
    struct dax_err err;
    dax_rc rc =
        journal_write(journal_of(file), buf, (size_t)amount, (uint64_t)offset, report_clear(&err));
    return rc == DAX_OK ? SQLITE_OK : journal_failure(file, rc, &err);
}

static int journal_truncate_to(sqlite3_file *file, sqlite3_int64 size)
{
    struct dax_err err;
    dax_rc rc = journal_truncate(journal_of(file), (uint64_t)size, report_clear(&err));
    return rc == DAX_OK ? SQLITE_OK : journal_failure(file, rc, &err);
}

static int journal_sync(sqlite3_file *file, int flags)
{
    (void)file, (void)flags;
    return SQLITE_OK;
}

static int journal_size(sqlite3_file *file, sqlite3_int64 *size_out)
{
    *size_out = (sqlite3_int64)journal_of(file)->size;
    return SQLITE_OK;
}

static int journal_lock(sqlite3_file *file, int level)
{
    (void)file, (void)level;
    return SQLITE_OK;
}

static int journal_reserved(sqlite3_file *file, int *reserved_out)
{
    (void)file;
    *reserved_out = 0;
    return SQLITE_OK;
}

static int journal_control(sqlite3_file *file, int op, void *arg)
{
    (void)file, (void)op, (void)arg;
    return SQLITE_NOTFOUND;
}

static int journal_sector_size(sqlite3_file *file)
{
    (void)file;
    return DAX_PAGE_BYTES;
}

static int journal_characteristics(sqlite3_file *file)
{
    (void)file;
    return SQLITE_IOCAP_SAFE_APPEND | SQLITE_IOCAP_SEQUENTIAL | SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static const sqlite3_io_methods journal_methods = {
    .iVersion = 1,
    .xClose = journal_close,
    .xRead = journal_read_at,
    .xWrite = journal_write_at,
    .xTruncate = journal_truncate_to,
    .xSync = journal_sync,
    .xFileSize = journal_size,
    .xLock = journal_lock,
    .xUnlock = journal_lock,
    .xCheckReservedLock = journal_reserved,
    .xFileControl = journal_control,
    .xSectorSize = journal_sector_size,
    .xDeviceCharacteristics = journal_characteristics,
};

int journal_file_open(struct journal_file *jf, struct file *main, int flags, int *out_flags)
{
    if (main->journal_open) {
        struct dax_err err = {0};
        dax_rc rc = dax_err_set(&err, DAX_CANT_OPEN, 0,
                                "the rollback journal of \"%s\" is open twice", main->path);
        return file_failure(main, REPORT_OPEN, rc, &err);
    }
    main->journal_open = true;
    jf->main = main;
    jf->base.pMethods = &journal_methods;
    if (out_flags)
        *out_flags = flags;
    return SQLITE_OK;
}
