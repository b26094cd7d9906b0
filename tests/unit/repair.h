/* repair.h: what the tests of dax_repair share: connections, questions, pages that are bad.
 *
 * A page is flagged as damaged (conn_media_add): then every read of it fails, as with a real error, and
 * nothing of its old content can come back.
 */
#ifndef DAX_TESTS_REPAIR_H
#define DAX_TESTS_REPAIR_H

#include <sqlite3.h>
#include <stdarg.h>
#include <time.h>

#include "engine/media.h"
#include "include/daxlite.h"
#include "tests/unit/mix.h"
#include "tests/unit/unit.h"
#include "vfs/owner_map.h"
#include "vfs/vfs.h"

static struct dax_err err;

static inline void setup(void)
{
    unit_setup();
    ck_assert_int_eq(daxlite_register(0), SQLITE_OK);
}

static inline sqlite3 *open_with(const char *path, const char *vfs)
{
    char uri[600];
    sqlite3 *db;
    snprintf(uri, sizeof uri, "file:%s?vfs=%s", path, vfs);
    int rc = sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
                             NULL);
    ck_assert_msg(rc == SQLITE_OK, "%s: %s", uri, sqlite3_errmsg(db));
    sqlite3_busy_timeout(db, 10000);
    return db;
}

static inline void run(sqlite3 *db, const char *fmt, ...)
{
    char *message = NULL;
    va_list args;
    va_start(args, fmt);
    char *sql = sqlite3_vmprintf(fmt, args);
    va_end(args);
    int rc = sqlite3_exec(db, sql, NULL, NULL, &message);
    ck_assert_msg(rc == SQLITE_OK, "%s: %s", sql, message);
    sqlite3_free(sql);
}

/* The first column of the first row; "ERROR n: text" if that fails; for one statement. */
static inline const char *ask(sqlite3 *db, const char *fmt, ...)
{
    static char answers[64][60000];
    static unsigned turn;
    char *out = answers[turn++ % 64];
    sqlite3_stmt *stmt;
    va_list args;
    va_start(args, fmt);
    char *sql = sqlite3_vmprintf(fmt, args);
    va_end(args);
    snprintf(out, sizeof answers[0], "nothing");
    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(stmt, 0);
        snprintf(out, sizeof answers[0], "%s", text ? text : "NULL");
    }
    if (sqlite3_finalize(stmt) != SQLITE_OK || sqlite3_errcode(db) != SQLITE_OK)
        snprintf(out, sizeof answers[0], "ERROR %d: %s", sqlite3_errcode(db), sqlite3_errmsg(db));
    sqlite3_free(sql);
    return out;
}

static inline long long number(sqlite3 *db, const char *sql)
{
    const char *text = ask(db, "%s", sql);
    ck_assert_msg(text[0] != 'E' && text[0] != 'n', "%s: %s", sql, text);
    return atoll(text);
}

static inline void copy_file(const char *from, const char *to)
{
    static char buf[1 << 16];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    ck_assert_int_ge(in, 0);
    ck_assert_int_ge(out, 0);
    for (ssize_t n; (n = read(in, buf, sizeof buf)) > 0;)
        ck_assert_int_eq(write(out, buf, (size_t)n), n);
    close(in);
    close(out);
}

/* Flag 4096 bytes of main. */
static inline void damage(sqlite3 *db, uint64_t page)
{
    struct conn *c = vfs_conn_of(db, "main");
    unit_ok(conn_media_add(c, MEDIA_BASE, page, MEDIA_DAMAGED, "by the test", &err));
}

static inline unsigned open_entries(sqlite3 *db)
{
    static struct media_entry all[4096];
    size_t n = conn_media_list(vfs_conn_of(db, "main"), all, 4096);
    unsigned open = 0;
    ck_assert_uint_le(n, 4096);
    for (size_t i = 0; i < n; i++)
        open += all[i].status == MEDIA_QUARANTINED;
    return open;
}

#endif
