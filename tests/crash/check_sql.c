/* check_sql.c: copies of a state, opened as a program would open them. */
#include "check_sql.h"

#include <fcntl.h>
#include <libpmemobj.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "engine/conn.h"
#include "vfs/vfs.h"

static bool sql_bad(char *what, size_t bytes, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, bytes, fmt, ap);
    va_end(ap);
    return false;
}

/* The first column of the first row is `want`. */
static bool sql_expect(sqlite3 *db, const char *sql, const char *want, const char *who, char *what,
                       size_t bytes)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    const char *got = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
    bool good = got ? strcmp(got, want) == 0 : !*want && rc == SQLITE_DONE;
    if (!good)
        sql_bad(what, bytes, "%s: %s: %s", who, sql, got ? got : sqlite3_errmsg(db));
    sqlite3_finalize(stmt);
    return good;
}

static bool sql_pool(const char *base, const char *when, char *what, size_t bytes)
{
    char path[IMAGE_PATH];
    snprintf(path, sizeof path, "%.400s-dax", base);
    if (access(path, F_OK) != 0)
        return true;
    return pmemobj_check(path, DAX_SIDECAR_LAYOUT) == 1 ||
           sql_bad(what, bytes, "%s: pmemobj_check: %.300s", when, pmemobj_errormsg());
}

static bool sql_content(const struct requirement *r, sqlite3 *db, char *what, size_t bytes)
{
    struct conn *c = vfs_conn_of(db, "main");
    struct dax_err err = {0};
    const struct golden *found;
    if (!c || conn_begin_read(c, &err) != DAX_OK)
        return sql_bad(what, bytes, "no snapshot through SQLite: %.200s", err.text);
    uint64_t size = conn_size(c);
    uint8_t *content = malloc(size + 1);
    bool good = !size || conn_read(c, content, size, 0, &err) == DAX_OK;
    conn_end_read(c);
    good = good ? check_content(r, content, size, &found, what, bytes)
                : sql_bad(what, bytes, "reading through SQLite: %.200s", err.text);
    free(content);
    return good;
}

static bool sql_through_vfs(const struct requirement *r, const char *path, char *what, size_t bytes)
{
    char uri[IMAGE_PATH + 64];
    sqlite3 *db = NULL;
    snprintf(uri, sizeof uri, "file:%s?vfs=dax&dax_log_size=8m", path);
    int rc = sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
                             NULL);
    bool good =
        rc == SQLITE_OK || sql_bad(what, bytes, "SQLite cannot open it: %s", sqlite3_errmsg(db));
    good = good && sql_content(r, db, what, bytes) &&
           sql_expect(db, "PRAGMA integrity_check", "ok", "through the VFS", what, bytes) &&
           sql_expect(db, "CREATE TABLE crash_probe(x)", "", "through the VFS", what, bytes) &&
           sql_expect(db, "INSERT INTO crash_probe VALUES('kept')", "", "through the VFS", what,
                      bytes);
    rc = sqlite3_close(db);
    return good && (rc == SQLITE_OK || sql_bad(what, bytes, "sqlite3_close: %d", rc));
}

static bool sql_plain_header(const char *path, char *what, size_t bytes)
{
    uint8_t header[DAX_HEADER_BYTES];
    static const uint8_t zeros[DAX_HEADER_RESERVED_BYTES];
    int fd = hooks_real_open(path, O_RDONLY | O_CLOEXEC);
    bool good = fd >= 0 && pread(fd, header, sizeof header, 0) == (ssize_t)sizeof header &&
                header[DAX_HEADER_READ_VERSION] <= 2 &&
                memcmp(header + DAX_HEADER_RESERVED, zeros, sizeof zeros) == 0;
    if (fd >= 0)
        hooks_real_close(fd);
    return good || sql_bad(what, bytes, "at rest the copy's header is not plain");
}

static bool sql_stock(const char *path, char *what, size_t bytes)
{
    sqlite3 *db = NULL;
    if (!sql_plain_header(path, what, bytes))
        return false;
    int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, "unix");
    bool good = (rc == SQLITE_OK ||
                 sql_bad(what, bytes, "stock SQLite cannot open it: %s", sqlite3_errmsg(db))) &&
                sql_expect(db, "PRAGMA integrity_check", "ok", "stock SQLite", what, bytes) &&
                sql_expect(db, "SELECT x FROM crash_probe", "kept", "stock SQLite", what, bytes);
    sqlite3_close(db);
    return good;
}

bool check_copy(const struct requirement *r, char *what, size_t bytes)
{
    char path[IMAGE_PATH], wal[IMAGE_PATH];
    snprintf(path, sizeof path, "%.400s/copy.db", image.dir);
    image_copy_files(path);
    /* libpmemobj opens no two copies of a pool in one process. */
    bool cached = hooks.pool_cached;
    if (cached)
        hooks_close_pool();
    hooks.random = image_draw() + 2;
    bool good = sql_pool(path, "after the crash", what, bytes) &&
                sql_through_vfs(r, path, what, bytes) &&
                sql_pool(path, "after the close", what, bytes) && sql_stock(path, what, bytes);
    if (cached)
        hooks_open_pool();
    static const char *const suffixes[] = {"", "-dax", "-dax-new", "-wal", "-shm", "-journal"};
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        snprintf(wal, sizeof wal, "%s%s", path, suffixes[i]);
        unlink(wal);
    }
    return good;
}

static bool sql_golden(const struct golden *g, char *what, size_t bytes)
{
    char path[IMAGE_PATH];
    sqlite3 *db = NULL;
    snprintf(path, sizeof path, "%.400s/golden.db", image.dir);
    int fd = hooks_real_open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC);
    hooks_must(fd >= 0 && pwrite(fd, g->bytes, g->size, 0) == (ssize_t)g->size, "write %s", path);
    hooks_real_close(fd);
    bool good = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, "unix") == SQLITE_OK &&
                sql_expect(db, "PRAGMA integrity_check", "ok",
                           "stock SQLite on a state between "
                           "transactions",
                           what, bytes);
    sqlite3_close(db);
    unlink(path);
    return good;
}

bool check_goldens(const struct trace *t, char *what, size_t bytes)
{
    for (size_t i = 0; i < t->golden_count; i++)
        if (!sql_golden(&t->goldens[i], what, bytes))
            return false;
    return true;
}
