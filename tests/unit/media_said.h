/* media_said.h: what the tests of the names and reports of media errors share: a database with everything in
 * it, what was logged and what the callback was told, and faults between the VFS and the engine (the program
 * is linked with --wrap, tests/CMakeLists.txt).
 */
#ifndef DAX_TESTS_UNIT_MEDIA_SAID_H
#define DAX_TESTS_UNIT_MEDIA_SAID_H

#include <limits.h>
#include <pthread.h>
#include <stdarg.h>

#include "engine/conn.h"
#include "engine/media.h"
#include "include/daxlite.h"
#include "tests/unit/mix.h"
#include "tests/unit/unit.h"
#include "vfs/owner_map.h"
#include "vfs/vfs.h"

#define IOERR_DATA (SQLITE_IOERR | (32 << 8))
#define IOERR_IN_PAGE (SQLITE_IOERR | (34 << 8))

static _Thread_local struct dax_err err;

/* --- between the VFS and what it calls (--wrap) --------------------------------------------------- */

static struct {
    _Atomic int refusals; /* so many calls fail */
    _Atomic int code;
    _Atomic unsigned calls;
} map_fault;

int __real_owner_map_get(struct owner_cache *cache, struct conn *c, sqlite3 *db,
                         struct owner_map **out, struct dax_err *e);
int __wrap_owner_map_get(struct owner_cache *cache, struct conn *c, sqlite3 *db,
                         struct owner_map **out, struct dax_err *e);
int __wrap_owner_map_get(struct owner_cache *cache, struct conn *c, sqlite3 *db,
                         struct owner_map **out, struct dax_err *e)
{
    map_fault.calls++;
    if (map_fault.refusals > 0) {
        map_fault.refusals--;
        *out = NULL;
        snprintf(e->text, sizeof e->text, "the test refuses it");
        return map_fault.code;
    }
    return __real_owner_map_get(cache, c, db, out, e);
}

/* Pages that turn out to be bad when they are read for the map. */
static struct {
    bool armed;
    uint64_t first, count;
} walk_fault;

dax_rc __real_conn_read_committed(struct conn *c, void *buf, size_t len, uint64_t at,
                                  struct dax_err *e);
dax_rc __wrap_conn_read_committed(struct conn *c, void *buf, size_t len, uint64_t at,
                                  struct dax_err *e);
dax_rc __wrap_conn_read_committed(struct conn *c, void *buf, size_t len, uint64_t at,
                                  struct dax_err *e)
{
    uint64_t page = at / DAX_PAGE_BYTES;
    if (walk_fault.armed && page >= walk_fault.first &&
        page < walk_fault.first + walk_fault.count) {
        struct dax_err other;
        ck_assert_int_eq(conn_media_add(c, MEDIA_BASE, page, MEDIA_IO, "", &other), DAX_OK);
    }
    return __real_conn_read_committed(c, buf, len, at, e);
}

static int fake_version; /* 0: the real one */
int __real_sqlite3_libversion_number(void);
int __wrap_sqlite3_libversion_number(void);
int __wrap_sqlite3_libversion_number(void)
{
    return fake_version ? fake_version : __real_sqlite3_libversion_number();
}

/* --- what is said ---------------------------------------------------------------------------------- */

static pthread_mutex_t said_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_text[65536]; /* lines with "media error" or "cannot be read" */
static unsigned media_lines; /* of those that name an object */
static int media_code;

static inline void on_log(void *arg, int code, const char *text)
{
    (void)arg;
    if (!strstr(text, "daxlite: "))
        return;
    pthread_mutex_lock(&said_lock);
    if (strstr(text, ": media error (")) {
        media_lines++;
        media_code = code;
    }
    size_t used = strlen(log_text);
    snprintf(log_text + used, sizeof log_text - used, "%s\n", text);
    pthread_mutex_unlock(&said_lock);
}

struct call {
    char path[PATH_MAX], part[16], kind[16], type[16], object[128], role[64], status[16],
        detail[192];
    uint64_t id, page, bytes;
    long long time_us;
    size_t size;
    pthread_t thread;
    void *arg;
};
static struct call calls[64];
static unsigned call_count;

#define KEEP(to, from) snprintf(to, sizeof to, "%s", from)

static inline void on_error(void *arg, const struct daxlite_media_error *e)
{
    pthread_mutex_lock(&said_lock);
    struct call *c = &calls[call_count++ % 64];
    *c = (struct call){.id = e->id,
                       .page = e->page,
                       .bytes = e->bytes,
                       .time_us = e->time_us,
                       .size = e->size,
                       .thread = pthread_self(),
                       .arg = arg};
    KEEP(c->path, e->path);
    KEEP(c->part, e->part);
    KEEP(c->kind, e->kind);
    KEEP(c->type, e->type);
    KEEP(c->object, e->object);
    KEEP(c->role, e->role);
    KEEP(c->status, e->status);
    KEEP(c->detail, e->detail);
    pthread_mutex_unlock(&said_lock);
}

/* --- helpers ---------------------------------------------------------------------------------------- */

static inline void setup(void)
{
    unit_setup();
    ck_assert_int_eq(daxlite_register(0), SQLITE_OK);
    daxlite_media_callback(on_error, calls);
}

static inline sqlite3 *dax_open_with(const char *name, const char *options)
{
    char uri[2 * PATH_MAX];
    sqlite3 *db;
    snprintf(uri, sizeof uri, "file:%s/%s.db?vfs=dax%s", unit_dir, name, options);
    int rc = sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
                             NULL);
    ck_assert_msg(rc == SQLITE_OK, "%s: %s", uri, sqlite3_errmsg(db));
    sqlite3_busy_timeout(db, 10000);
    return db;
}

static inline sqlite3 *dax_open(const char *name)
{
    return dax_open_with(name, "");
}

static inline void dax_close(sqlite3 *db)
{
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

static inline void run(sqlite3 *db, const char *sql)
{
    char *message = NULL;
    int rc = sqlite3_exec(db, sql, NULL, NULL, &message);
    ck_assert_msg(rc == SQLITE_OK, "%s: %s", sql, message);
}

/* Rows of sql, columns joined by '|', rows by ' '; "ERROR: text" if it fails. */
static inline const char *ask(sqlite3 *db, const char *sql, ...)
{
    static char answers[4][65536];
    static unsigned turn;
    char *out = answers[turn++ % 4];
    size_t room = sizeof answers[0], used = 0;
    sqlite3_stmt *stmt;
    va_list ap;
    va_start(ap, sql);
    char *text = sqlite3_vmprintf(sql, ap);
    va_end(ap);
    out[0] = '\0';
    if (sqlite3_prepare_v2(db, text, -1, &stmt, NULL) == SQLITE_OK)
        while (sqlite3_step(stmt) == SQLITE_ROW)
            for (int i = 0; i < sqlite3_column_count(stmt); i++) {
                const char *value = (const char *)sqlite3_column_text(stmt, i);
                used += (size_t)snprintf(out + used, room - used, "%s%s",
                                         i      ? "|"
                                         : used ? " "
                                                : "",
                                         value ? value : "NULL");
                ck_assert_uint_lt(used, room);
            }
    if (sqlite3_finalize(stmt) != SQLITE_OK || sqlite3_errcode(db) != SQLITE_OK)
        snprintf(out, room, "ERROR: %s", sqlite3_errmsg(db));
    sqlite3_free(text);
    return out;
}

#define EXPECT(db, sql, answer) ck_assert_str_eq(ask(db, "%s", sql), answer)

/* The last occurrence. */
static inline const char *strrstr(const char *text, const char *part)
{
    const char *found = NULL;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at++)
        found = at;
    return found;
}

static inline int64_t number(sqlite3 *db, const char *sql)
{
    return mix_number(db, sql);
}

static inline void add(struct conn *c, enum media_part part, uint64_t page, enum media_kind kind,
                       const char *detail)
{
    unit_ok(conn_media_add(c, part, page, kind, detail, &err));
}

/* An error that nobody has met: no call of SQLite's is under way. */
static inline void add_to(sqlite3 *db, uint64_t page)
{
    add(vfs_conn_of(db, "main"), MEDIA_BASE, page, MEDIA_POISON, "");
}

/* The nth page (of the engine's) of an object in a role. */
static inline uint64_t nth_page(sqlite3 *db, const char *object, const char *role, unsigned n)
{
    const char *page = ask(db,
                           "SELECT page FROM dax_pages WHERE owner %s %Q AND role = %Q"
                           " LIMIT 1 OFFSET %u",
                           object ? "=" : "IS", object, role, n);
    ck_assert_msg(page[0] >= '0' && page[0] <= '9', "no %s page of %s: %s", role,
                  object ? object : "nothing", page);
    return strtoull(page, NULL, 10);
}

static inline uint64_t find_page(sqlite3 *db, const char *object, const char *role)
{
    return nth_page(db, object, role, 0);
}

/* The first child in the file of an interior page. */
static inline uint64_t child_page(sqlite3 *db, const char *object, uint64_t interior)
{
    const char *page = ask(db,
                           "SELECT page FROM dax_pages WHERE owner = %Q AND role = 'leaf' AND"
                           " dax_owner(page) ->> '$.owners[0].parent' = %lld LIMIT 1",
                           object, (long long)interior + 1);
    ck_assert_msg(page[0] >= '1' && page[0] <= '9', "no child: %s", page);
    return strtoull(page, NULL, 10);
}

/* Tables with everything: pages of 4096 bytes, so SQLite's page N is N - 1. */
static inline sqlite3 *orders_database(const char *name, unsigned auto_vacuum)
{
    char sql[2000];
    sqlite3 *db = dax_open(name);
    snprintf(
        sql, sizeof sql,
        "PRAGMA page_size=4096; PRAGMA auto_vacuum=%u; PRAGMA cache_size=20; BEGIN;"
        "CREATE TABLE orders(a INTEGER PRIMARY KEY, b); CREATE INDEX orders_b ON orders(b);"
        "CREATE TABLE small(a); INSERT INTO small VALUES(42);"
        "CREATE TABLE wide(a, b, PRIMARY KEY(a)) WITHOUT ROWID;"
        "CREATE TABLE long(a); INSERT INTO long VALUES(zeroblob(30000));"
        "CREATE VIRTUAL TABLE docs USING fts5(t); CREATE VIRTUAL TABLE boxes USING rtree(i,x,y);"
        "CREATE INDEX docs_content_i ON docs_content(c0);"
        "CREATE TABLE gone(a); INSERT INTO gone VALUES(zeroblob(9000000));"
        "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)"
        " INSERT INTO orders SELECT i, printf('%%060d', i) FROM n;"
        "INSERT INTO wide SELECT b, a FROM orders WHERE a < 4000;"
        "INSERT INTO docs SELECT b || ' x' || a FROM orders WHERE a < 2000;"
        "INSERT INTO boxes SELECT a, a, a + 1 FROM orders WHERE a < 2000;"
        "DROP TABLE gone; COMMIT",
        auto_vacuum);
    run(db, sql);
    return db;
}

/* A case of these tests, whose log goes to on_log. */
static inline TCase *said_case(const char *name)
{
    TCase *tc = tcase_create(name);
    tcase_set_timeout(tc, 300);
    tcase_add_checked_fixture(tc, setup, NULL);
    sqlite3_config(SQLITE_CONFIG_LOG, on_log, NULL);
    return tc;
}

#endif
