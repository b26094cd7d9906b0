/* file.c: sqlite3_io_methods of a main database: SQLite's calls as engine calls.
 *
 * SQLite runs in rollback mode. xLock(SHARED) begins a snapshot and xUnlock(NONE) ends it; RESERVED
 * takes the writer lock, PENDING and EXCLUSIVE mean nothing more, because readers need not leave. Where
 * RESERVED was refused, the next SHARED waits for its turn (engine/writer.h): SQLite starts over with it.
 * FCNTL_COMMIT_PHASETWO commits (file_control.c); xUnlock(SHARED) without it aborts. In
 * locking_mode=EXCLUSIVE neither xUnlock is called, so there the writer lock comes with SHARED: a
 * snapshot that is never renewed must not become stale.
 *
 * SQLite never enters its own WAL mode here: page 1 is shown as a legacy one, and the methods for
 * shared memory are absent, which is what the pager asks before it tries. (Methods that fail would
 * be worse: PRAGMA journal_mode=WAL of another database's connection reaches attached ones
 * without a file control, and would write WAL's version numbers into the header first.)
 *
 * Nothing on the paths of a warm transaction (xLock, xRead, xFetch, xWrite, xUnlock) makes a system
 * call or allocates.
 */
#include "vfs/file.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/layout.h"
#include "vfs/adopt.h"
#include "vfs/media_names.h"
#include "vfs/names.h"
#include "vfs/uri.h"

/* SQLite's header fields: what it compares to find out whether its cache is still good, and the
 * read version, which is 2 in a WAL-mode file. */
#define HEADER_VERSIONS_OFFSET 24
#define HEADER_VERSIONS_BYTES 16
#define WAL_READ_VERSION 2

int file_failure(struct file *f, enum report_place place, dax_rc rc, const struct dax_err *err)
{
    f->last_errno = err->sys_errno;
    if (rc == DAX_IO_MEDIA && media_names_settle(f) > 0)
        return report_quietly(place, rc, err); /* its line names the table */
    return report_failure(place, rc, err);
}

/* --- reading ---------------------------------------------------------------------------------- */

/* The bytes that SQLite compares, at the beginning of each read, with those of its cached page 1, and drops
 * its cache if they differ. All that they are to say is whether the cache stands for this snapshot, which its own
 * change counter does not always tell: under locking_mode=EXCLUSIVE it counts the first transaction only, since
 * nobody else could read then. Here they do. So nothing is read: SQLite gets what it has, or the opposite. */
static void file_answer_versions(struct file *f, uint8_t *out)
{
    uint64_t snapshot = conn_snapshot(f->conn);
    uint8_t differ = snapshot == f->cached_txid ? 0 : 0xff;
    for (size_t i = 0; i < HEADER_VERSIONS_BYTES; i++)
        out[i] = f->versions[i] ^ differ;
    f->cached_txid = snapshot;
}

/* SQLite has page 1, or writes it. */
static void file_note_versions(struct file *f, const void *page_one, int amount,
                               sqlite3_int64 offset)
{
    if (offset == 0 && amount >= HEADER_VERSIONS_OFFSET + HEADER_VERSIONS_BYTES)
        memcpy(f->versions, (const uint8_t *)page_one + HEADER_VERSIONS_OFFSET,
               HEADER_VERSIONS_BYTES);
}

static int file_read(sqlite3_file *file, void *buf, int amount, sqlite3_int64 offset)
{
    struct file *f = (struct file *)file;
    struct dax_err err;
    if (offset == HEADER_VERSIONS_OFFSET && amount == HEADER_VERSIONS_BYTES &&
        conn_snapshot(f->conn) != 0) {
        file_answer_versions(f, buf);
        return SQLITE_OK;
    }
    dax_rc rc = conn_read(f->conn, buf, (size_t)amount, (uint64_t)offset, report_clear(&err));
    if (rc != DAX_OK)
        return file_failure(f, REPORT_READ, rc, &err);
    file_note_versions(f, buf, amount, offset);
    /* Page 1 itself: the first read of a connection does without the comparison. */
    if (offset == 0 && amount >= (int)DAX_HEADER_BYTES && !conn_is_writer(f->conn))
        f->cached_txid = conn_snapshot(f->conn);
    return SQLITE_OK;
}

static int file_fetch(sqlite3_file *file, sqlite3_int64 offset, int amount, void **out)
{
    struct file *f = (struct file *)file;
    *out = NULL;
    if (!f->zero_copy || f->mmap_limit <= 0)
        return SQLITE_OK;
    struct dax_err err;
    dax_rc rc = conn_pin(f->conn, (uint64_t)offset, (size_t)amount, out, report_clear(&err));
    return rc == DAX_OK ? SQLITE_OK : file_failure(f, REPORT_READ, rc, &err);
}

static int file_unfetch(sqlite3_file *file, sqlite3_int64 offset, void *ptr)
{
    /* NULL says that the whole file may have changed. Pins are of one snapshot: nothing to do. */
    if (ptr)
        conn_unpin(((struct file *)file)->conn, (uint64_t)offset, ptr);
    return SQLITE_OK;
}

static int file_size(sqlite3_file *file, sqlite3_int64 *size_out)
{
    *size_out = (sqlite3_int64)conn_size(((struct file *)file)->conn);
    return SQLITE_OK;
}

/* --- writing ---------------------------------------------------------------------------------- */

void file_abandon(struct file *f)
{
    conn_end_write(f->conn);
    f->writer_lost = true;
    f->wrote_wal_header = false;
}

/* The writer lock that file_abandon gave up. */
static dax_rc file_regain_writer(struct file *f, struct dax_err *err)
{
    dax_rc rc = conn_begin_write(f->conn, err);
    if (rc == DAX_OK)
        f->writer_lost = false;
    return rc;
}

/* A write that fails is rolled back from the journal; but SQLite ends the journal before it cuts
 * the file and commits, and what fails then is not. */
static int file_write_failure(struct file *f, dax_rc rc, const struct dax_err *err)
{
    if (!f->journal_open || journal_is_over(&f->journal))
        file_abandon(f);
    return file_failure(f, REPORT_WRITE, rc, err);
}

static int file_write(sqlite3_file *file, const void *buf, int amount, sqlite3_int64 offset)
{
    struct file *f = (struct file *)file;
    struct dax_err err;
    report_clear(&err);
    dax_rc rc = f->writer_lost ? file_regain_writer(f, &err) : DAX_OK;
    if (rc == DAX_OK)
        rc = conn_write(f->conn, buf, (size_t)amount, (uint64_t)offset, &err);
    if (rc != DAX_OK)
        return file_write_failure(f, rc, &err);
    file_note_versions(f, buf, amount, offset);
    /* A backup of a WAL-mode database brings its header along. The engine shows it as legacy to
     * whoever reads it, but this connection has it in its cache and would look for a WAL. */
    if (offset == 0 && amount > (int)DAX_HEADER_BYTES)
        f->wrote_wal_header = ((const uint8_t *)buf)[DAX_HEADER_READ_VERSION] == WAL_READ_VERSION;
    return SQLITE_OK;
}

static int file_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    struct file *f = (struct file *)file;
    struct dax_err err;
    report_clear(&err);
    dax_rc rc = f->writer_lost ? file_regain_writer(f, &err) : DAX_OK;
    if (rc == DAX_OK)
        rc = conn_truncate(f->conn, (uint64_t)size, &err);
    return rc == DAX_OK ? SQLITE_OK : file_write_failure(f, rc, &err);
}

static int file_sync(sqlite3_file *file, int flags)
{
    /* FCNTL_COMMIT_PHASETWO makes the transaction durable, whatever `synchronous` says. */
    (void)file, (void)flags;
    return SQLITE_OK;
}

/* --- locks ------------------------------------------------------------------------------------ */

/* Snapshot and writer lock at once. Somebody may commit between the two; then the snapshot, which
 * nobody has read from, is renewed. */
static dax_rc file_lock_exclusively(struct file *f, struct dax_err *err)
{
    dax_rc rc = conn_begin_write(f->conn, err);
    for (int tries = 0; rc == DAX_BUSY_SNAPSHOT && tries < 8; tries++) {
        conn_end_read(f->conn);
        rc = conn_begin_read_in_turn(f->conn, err);
        if (rc == DAX_OK)
            rc = conn_begin_write(f->conn, err);
    }
    if (rc == DAX_BUSY_SNAPSHOT)
        rc = DAX_BUSY;
    return rc;
}

static int file_lock_shared(struct file *f)
{
    struct dax_err err;
    dax_rc rc = conn_begin_read_in_turn(f->conn, report_clear(&err));
    if (rc == DAX_OK && (f->exclusive || f->hook.fn) && !conn_is_read_only(f->conn)) {
        rc = file_lock_exclusively(f, &err);
        if (rc == DAX_OK)
            f->exclusive_lock = true;
        else
            conn_end_read(f->conn);
    }
    if (rc != DAX_OK)
        return file_failure(f, REPORT_LOCK, rc, &err);
    f->level = SQLITE_LOCK_SHARED;
    names_remember(f);
    if (f->hook.fn && f->exclusive_lock) {
        struct file_hook hook = f->hook;
        f->hook.fn = NULL;
        hook.fn(hook.arg, f->conn);
        f->cached_txid = 0; /* SQLite may have pages of before */
    }
    return SQLITE_OK;
}

static int file_lock_reserved(struct file *f)
{
    struct dax_err err;
    report_clear(&err);
    dax_rc rc = conn_is_writer(f->conn) ? DAX_OK : conn_begin_write(f->conn, &err);
    if (rc == DAX_BUSY_SNAPSHOT && f->exclusive)
        dax_err_set(&err, rc, 0,
                    "\"%s\": locking_mode=EXCLUSIVE was set while a read was open, and another "
                    "connection has committed since: set locking_mode=NORMAL, read, set it again",
                    f->path);
    if (rc != DAX_OK)
        return file_failure(f, REPORT_LOCK, rc, &err);
    names_remember(f);
    return SQLITE_OK;
}

static int file_lock(sqlite3_file *file, int level)
{
    struct file *f = (struct file *)file;
    int rc = SQLITE_OK;
    if (level <= f->level)
        return SQLITE_OK;
    if (f->level < SQLITE_LOCK_SHARED)
        rc = file_lock_shared(f);
    if (rc == SQLITE_OK && level >= SQLITE_LOCK_RESERVED && f->level < SQLITE_LOCK_RESERVED)
        rc = file_lock_reserved(f);
    if (rc == SQLITE_OK)
        f->level = level;
    return rc;
}

static int file_unlock(sqlite3_file *file, int level)
{
    struct file *f = (struct file *)file;
    if (level >= f->level)
        return SQLITE_OK;
    if (f->level > SQLITE_LOCK_SHARED || f->exclusive_lock) {
        conn_end_write(f->conn);
        f->writer_lost = false;
        f->wrote_wal_header = false;
    }
    if (level == SQLITE_LOCK_NONE) {
        conn_end_read(f->conn);
        /* In EXCLUSIVE mode SQLite would have kept the lock: the PRAGMA has been taken back, or was
         * about another database of this connection. */
        if (f->exclusive_lock)
            f->exclusive = false;
    }
    f->exclusive_lock = false;
    f->level = level;
    if (level == SQLITE_LOCK_NONE)
        media_names_look(f); /* of the newest state: there is no snapshot any more */
    return SQLITE_OK;
}

static int file_check_reserved(sqlite3_file *file, int *reserved_out)
{
    /* Asked only about a journal that looks hot; here none can be left by another connection. */
    (void)file;
    *reserved_out = 0;
    return SQLITE_OK;
}

/* --- the medium ------------------------------------------------------------------------------- */

static int file_sector_size(sqlite3_file *file)
{
    (void)file;
    return DAX_PAGE_BYTES;
}

static int file_characteristics(sqlite3_file *file)
{
    /* SAFE_APPEND keeps SQLite from rewriting journal headers, SEQUENTIAL from syncing the journal,
     * POWERSAFE_OVERWRITE from journaling a sector's other pages. Not ATOMIC: it would make SQLite
     * change pages without a journal and thereby lose ROLLBACK of statements. */
    (void)file;
    int flags =
        SQLITE_IOCAP_SAFE_APPEND | SQLITE_IOCAP_SEQUENTIAL | SQLITE_IOCAP_POWERSAFE_OVERWRITE;
#ifdef SQLITE_IOCAP_SUBPAGE_READ
    flags |= SQLITE_IOCAP_SUBPAGE_READ;
#endif
    return flags;
}

/* --- open and close --------------------------------------------------------------------------- */

static int file_close(sqlite3_file *file)
{
    struct file *f = (struct file *)file;
    struct dax_err err;
    media_names_look(f);
    names_remove(f);
    scrub_detach(f->scrub);
    owner_cache_close(f->owners); /* before the store may be another one */
    struct conn *c = f->conn;
    f->conn = NULL; /* what the close meets is named by the next open */
    dax_rc rc = conn_close(c, report_clear(&err));
    int code = rc == DAX_OK ? SQLITE_OK : file_failure(f, REPORT_WRITE, rc, &err);
    journal_free(&f->journal);
    free(f->path);
    f->base.pMethods = NULL;
    return code;
}

static const sqlite3_io_methods file_methods = {
    .iVersion = 3,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_check_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector_size,
    .xDeviceCharacteristics = file_characteristics,
    .xFetch = file_fetch,
    .xUnfetch = file_unfetch,
};

/* Absolute path of name with symbolic links resolved, malloc'ed; the file itself need not exist. */
static dax_rc file_resolve(const char *name, char **path_out, struct dax_err *err)
{
    *path_out = realpath(name, NULL);
    if (*path_out)
        return DAX_OK;
    if (errno != ENOENT)
        return dax_err_set(err, errno == ENOMEM ? DAX_NOMEM : DAX_CANT_OPEN, errno,
                           "cannot open \"%s\"", name);
    const char *slash = strrchr(name, '/');
    char *directory = slash ? strndup(name, (size_t)(slash - name) + 1) : strdup(".");
    char *resolved = directory ? realpath(directory, NULL) : NULL;
    dax_rc rc = DAX_OK;
    if (!resolved) {
        rc = dax_err_set(err, errno == ENOMEM ? DAX_NOMEM : DAX_CANT_OPEN, errno,
                         "cannot open \"%s\": directory \"%s\"", name, directory ? directory : "");
        goto out;
    }
    const char *separator = strcmp(resolved, "/") == 0 ? "" : "/";
    if (asprintf(path_out, "%s%s%s", resolved, separator, slash ? slash + 1 : name) < 0) {
        *path_out = NULL;
        rc = dax_err_set(err, DAX_NOMEM, 0, "no memory for the path of \"%s\"", name);
    }
out:
    free(directory);
    free(resolved);
    return rc;
}

static dax_rc file_open_engine(struct file *f, const char *name, int flags, struct dax_err *err)
{
    struct uri_options options;
    dax_rc rc = uri_parse(name, &options, err);
    if (rc == DAX_OK)
        rc = file_resolve(name, &f->path, err);
    if (rc != DAX_OK)
        return rc;
    f->zero_copy = options.zero_copy;
    options.engine.create = (flags & SQLITE_OPEN_CREATE) != 0;
    options.engine.read_only = (flags & SQLITE_OPEN_READONLY) != 0;
    options.engine.adopt = adopt_stock;
    rc = conn_open(f->path, &options.engine, &f->conn, err);
    if (rc != DAX_OK)
        return rc;
    struct stat st;
    if (stat(f->path, &st) == 0) {
        f->dev = st.st_dev;
        f->ino = st.st_ino;
    }
    return DAX_OK;
}

int file_open(struct file *f, const char *name, int flags, int *out_flags)
{
    struct dax_err err;
    memset(f, 0, sizeof *f);
    dax_rc rc = file_open_engine(f, name, flags, report_clear(&err));
    if (rc != DAX_OK) {
        free(f->path);
        f->path = NULL;
        return report_failure(REPORT_OPEN, rc, &err);
    }
    f->owners = owner_cache_open(f->path);
    f->scrub = scrub_attach(f->path);
    f->journal_name = sqlite3_filename_journal(name);
    f->wal_name = sqlite3_filename_wal(name);
    f->journal.image = journal_file_image;
    f->journal.image_arg = f->conn;
    if (out_flags) {
        *out_flags = flags;
        if (conn_is_read_only(f->conn))
            *out_flags =
                (flags & ~(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)) | SQLITE_OPEN_READONLY;
    }
    f->base.pMethods = &file_methods;
    names_add(f);
    media_names_look(f);
    return SQLITE_OK;
}
