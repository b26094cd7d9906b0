/* repair.h: what the tests of dax_repair share: connections, questions, copies of a template, bad pages.
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

#define EXPECT(db, sql, answer) ck_assert_str_eq(ask(db, "%s", sql), answer)

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

/* --- a copy of a template, and what it is compared with ------------------------------------------- */

/* The database as it was, as "ref", read by stock SQLite. */
static inline void attach_template(sqlite3 *db)
{
    run(db, "ATTACH 'file:%s?vfs=unix' AS ref", unit_path("template.db"));
}

/* template.db as work.db, in which something is to be bad; known: with the map made before it is. */
static inline sqlite3 *open_copy(bool known)
{
    const char *path = unit_path("work.db");
    copy_file(unit_path("template.db"), path);
    unlink(unit_path("work.db-dax"));
    sqlite3 *db = open_with(path, "dax");
    if (known)
        ck_assert_str_ne(ask(db, "SELECT dax_owner(0)"), "nothing");
    return db;
}

/* The same with the template attached. */
static inline sqlite3 *open_copy_beside(bool known)
{
    sqlite3 *db = open_copy(known);
    attach_template(db);
    return db;
}

/* Rows of a table that the template has and main has not; fails if main has one that is wrong. */
static inline long long missing_from(sqlite3 *db, const char *table, const char *context)
{
    const char *wrong =
        ask(db, "SELECT count(*) FROM (SELECT * FROM main.%s EXCEPT SELECT * FROM ref.%s)", table,
            table);
    ck_assert_msg(strcmp(wrong, "0") == 0, "%s: %s has %s wrong rows", context, table, wrong);
    const char *gone = ask(
        db, "SELECT (SELECT count(*) FROM ref.%s) - (SELECT count(*) FROM main.%s)", table, table);
    ck_assert_msg(gone[0] >= '0' && gone[0] <= '9', "%s: %s: %s", context, table, gone);
    return atoll(gone);
}

/* --- bad pages ------------------------------------------------------------------------------------- */

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
