/* adopt.c: takes over a database that stock SQLite has used.
 *
 * A transaction that stock SQLite did not finish is in `PATH-journal` (to be rolled back) or
 * `PATH-wal` (to be copied into the file). Both are stock SQLite's formats and stock SQLite's
 * business: a nested connection through the real VFS recovers them before the engine locks the
 * file.
 *
 * A journal is *hot* if it begins with its magic; one that is empty, or whose beginning has been
 * zeroed (journal_mode=PERSIST or TRUNCATE), is finished. A WAL counts if it is not empty. A file
 * that carries daxlite's mark cannot have been written by stock SQLite since, so a hot journal or a
 * WAL beside it belongs to something else; it is neither used nor deleted.
 *
 * Locking: called by the engine while it opens a store, with no lock of ours on the file. The
 * nested connection does not share its cache: SQLite may hold its lock on shared caches here
 * already.
 */
#include "vfs/adopt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vfs/sqlite.h"
#include "vfs/vfs.h"

/* What lies beside the database. */
struct leftovers {
    char *journal; /* path, owned */
    char *wal;
    bool journal_hot;
    bool wal_full;
};

/* What cannot be examined must not be ignored. */
static dax_rc adopt_examine_error(const char *path, int e, struct dax_err *err)
{
    dax_rc rc = e == ENOMEM ? DAX_NOMEM : e == EIO ? DAX_IO_READ : DAX_CANT_OPEN;
    return dax_err_set(err, rc, e, "cannot examine \"%s\", which stock SQLite may have left", path);
}

/* Does the file begin with a journal's magic? Where it is no readable file, stock SQLite is to say
 * what is wrong with it: that counts as hot. */
static dax_rc adopt_journal_hot(const char *path, bool *hot_out, struct dax_err *err)
{
    static const unsigned char magic[8] = {0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7};
    unsigned char start[sizeof magic];
    int fd;
    do
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    while (fd < 0 && errno == EINTR);
    *hot_out = fd < 0 && errno != ENOENT;
    if (fd < 0)
        return errno == ENOENT || errno == EACCES || errno == EPERM || errno == ELOOP
                   ? DAX_OK
                   : adopt_examine_error(path, errno, err);
    ssize_t n;
    do
        n = read(fd, start, sizeof start);
    while (n < 0 && errno == EINTR);
    int e = errno;
    close(fd);
    if (n < 0 && e != EISDIR)
        return adopt_examine_error(path, e, err);
    *hot_out = n < 0 || (n == (ssize_t)sizeof start && memcmp(start, magic, sizeof magic) == 0);
    return DAX_OK;
}

static dax_rc adopt_not_empty(const char *path, bool *full_out, struct dax_err *err)
{
    struct stat st;
    bool there = lstat(path, &st) == 0;
    *full_out = there && st.st_size > 0;
    return there || errno == ENOENT ? DAX_OK : adopt_examine_error(path, errno, err);
}

static dax_rc leftovers_look(const char *path, struct leftovers *out, struct dax_err *err)
{
    if (asprintf(&out->journal, "%s-journal", path) < 0)
        out->journal = NULL;
    if (asprintf(&out->wal, "%s-wal", path) < 0)
        out->wal = NULL;
    if (!out->journal || !out->wal)
        return dax_err_set(err, DAX_NOMEM, 0, "no memory to open \"%s\"", path);
    dax_rc rc = adopt_journal_hot(out->journal, &out->journal_hot, err);
    return rc == DAX_OK ? adopt_not_empty(out->wal, &out->wal_full, err) : rc;
}

static bool leftovers_any(const struct leftovers *l)
{
    return l->journal_hot || l->wal_full;
}

static const char *leftovers_name(const struct leftovers *l)
{
    return l->journal_hot ? l->journal : l->wal;
}

static void leftovers_free(struct leftovers *l)
{
    free(l->journal);
    free(l->wal);
}

/* --- recovery by stock SQLite ----------------------------------------------------------------- */

/* The engine's code for what the nested connection says, and a text. */
static dax_rc adopt_failure(sqlite3 *db, int rc, const char *path, const char *name,
                            struct dax_err *err)
{
    const char *why = db ? sqlite3_errmsg(db) : sqlite3_errstr(rc);
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return dax_err_set(
            err, DAX_LOCKED, 0,
            "\"%s\" is in use by a connection without vfs=dax, which has \"%s\" open: "
            "close it first",
            path, name);
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
        return dax_err_set(err, DAX_CANT_OPEN, 0,
                           "\"%s\" has unfinished business of stock SQLite in \"%s\", and bringing "
                           "it into the database needs permission to write both files and their "
                           "directory: %s",
                           path, name, why);
    case SQLITE_NOMEM: return dax_err_set(err, DAX_NOMEM, 0, "no memory to recover \"%s\"", path);
    case SQLITE_FULL:
        return dax_err_set(err, DAX_FULL, 0, "no space to recover \"%s\" from \"%s\": %s", path,
                           name, why);
    case SQLITE_NOTADB: return dax_err_set(err, DAX_NOT_A_DATABASE, 0, "\"%s\": %s", path, why);
    case SQLITE_CORRUPT: return dax_err_set(err, DAX_CORRUPT, 0, "\"%s\": %s", path, why);
    default:
        return dax_err_set(err, DAX_IO_READ, 0,
                           "stock SQLite cannot recover \"%s\" from \"%s\": %s", path, name, why);
    }
}

/* Open, read (which rolls a hot journal back), checkpoint, close (which deletes the WAL). */
static dax_rc adopt_recover(const char *path, const struct leftovers *l, struct dax_err *err)
{
    static const char read_sql[] = "SELECT count(*) FROM sqlite_master";
    static const char checkpoint_sql[] = "PRAGMA wal_checkpoint(TRUNCATE)";
    sqlite3 *db = NULL;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_NOMUTEX;
    int rc = sqlite3_open_v2(path, &db, flags, vfs_real()->zName);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, read_sql, NULL, NULL, NULL);
    if (rc == SQLITE_OK && l->wal_full)
        rc = sqlite3_exec(db, checkpoint_sql, NULL, NULL, NULL);
    dax_rc result = DAX_OK;
    if (rc != SQLITE_OK)
        result = adopt_failure(db, rc, path, leftovers_name(l), err);
    else
        dax_log(DAX_OK, "\"%s\": recovered from \"%s\"", path, leftovers_name(l));
    rc = sqlite3_close(db);
    if (rc != SQLITE_OK && result == DAX_OK)
        result = adopt_failure(NULL, rc, path, leftovers_name(l), err);
    return result;
}

static dax_rc adopt_before_lock(const char *path, const struct leftovers *l, struct dax_err *err)
{
    if (!leftovers_any(l))
        return DAX_OK;
    dax_rc rc = adopt_recover(path, l, err);
    if (rc != DAX_OK)
        return rc;
    struct leftovers now = {0};
    rc = leftovers_look(path, &now, err);
    if (rc == DAX_OK && leftovers_any(&now))
        rc = dax_err_set(
            err, DAX_LOCKED, 0,
            "\"%s\" is in use by a connection without vfs=dax, which keeps \"%s\": close "
            "it first",
            path, leftovers_name(&now));
    leftovers_free(&now);
    return rc;
}

dax_rc adopt_stock(void *arg, const char *path, enum dax_adopt_phase phase, bool marked,
                   struct dax_err *err)
{
    (void)arg;
    struct leftovers l = {0};
    dax_rc rc = leftovers_look(path, &l, err);
    if (rc == DAX_OK && marked && leftovers_any(&l))
        rc = dax_err_set(
            err, DAX_CANT_OPEN, 0,
            "\"%s\" belongs to daxlite, but \"%s\" lies beside it, which stock SQLite made "
            "for another state of the file: if you did not put that back from a backup "
            "by mistake, move it away and open again",
            path, leftovers_name(&l));
    else if (rc == DAX_OK && phase == DAX_ADOPT_BEFORE_LOCK)
        rc = adopt_before_lock(path, &l, err);
    else if (rc == DAX_OK && leftovers_any(&l))
        rc = dax_err_set(
            err, DAX_LOCKED, 0,
            "\"%s\" was written to without vfs=dax while it was being opened (\"%s\" has "
            "appeared): try again",
            path, leftovers_name(&l));
    leftovers_free(&l);
    return rc;
}
