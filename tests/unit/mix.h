/* mix.h: databases made by random but repeatable DDL and DML, and what SQLite says of their pages.
 *
 * A mix has up to MIX_TABLES tables of all kinds: with rowid, AUTOINCREMENT, WITHOUT ROWID, FTS4,
 * FTS5, R*Tree; with indexes, automatic ones, views, triggers, statistics; rows from nothing to
 * several pages; definitions that overflow; tables that are emptied, dropped and made again.
 *
 * The oracle is dbstat, which walks the trees with SQLite's own cursors: name and kind of each page
 * that belongs to a tree. It leaves out the free list, the pointer map and the lock-byte page.
 */
#ifndef DAX_TESTS_MIX_H
#define DAX_TESTS_MIX_H

#include <check.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/seed.h"

#define MIX_TABLES 9u

enum mix_kind {
    MIX_NONE,
    MIX_ROWID,
    MIX_AUTOINCREMENT,
    MIX_WITHOUT_ROWID,
    MIX_FTS5,
    MIX_FTS4,
    MIX_RTREE,
    MIX_KINDS
};

struct mix {
    sqlite3 *db;
    uint64_t seed;
    uint64_t state;
    enum mix_kind kind[MIX_TABLES];
    unsigned rows; /* given out so far */
    unsigned page_size;
    bool in_transaction; /* of the test: no VACUUM then */
};

static inline uint64_t mix_next(struct mix *m)
{
    uint64_t z = (m->state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline unsigned mix_below(struct mix *m, unsigned n)
{
    return (unsigned)((mix_next(m) >> 32) * n >> 32);
}

/* Of tests/seed.h; printed. */
static inline uint64_t mix_seed(void)
{
    uint64_t seed = test_seed_given();
    printf("seed: DAX_TEST_SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    return seed;
}

static inline void mix_run(struct mix *m, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    char *sql = sqlite3_vmprintf(format, ap), *message = NULL;
    va_end(ap);
    int rc = sqlite3_exec(m->db, sql, NULL, NULL, &message);
    ck_assert_msg(rc == SQLITE_OK, "seed %llu: %s: %s", (unsigned long long)m->seed, sql, message);
    sqlite3_free(sql);
}

/* mix_blob(n): n bytes that only the seed determines. */
static inline void mix_blob(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    struct mix *m = sqlite3_user_data(ctx);
    (void)argc;
    int bytes = sqlite3_value_int(argv[0]);
    uint8_t *blob = sqlite3_malloc(bytes + 8);
    for (int i = 0; i < bytes; i += 8) {
        uint64_t r = mix_next(m);
        memcpy(blob + i, &r, sizeof r);
    }
    sqlite3_result_blob(ctx, blob, bytes, sqlite3_free);
}

/* db is empty. encoding: "UTF-8", "UTF-16le" or "UTF-16be". */
static inline void mix_start(struct mix *m, sqlite3 *db, uint64_t seed, unsigned page_size,
                             unsigned auto_vacuum, const char *encoding)
{
    *m = (struct mix){.db = db, .seed = seed, .state = seed, .page_size = page_size};
    sqlite3_create_function(db, "mix_blob", 1, SQLITE_UTF8, m, mix_blob, NULL, NULL);
    mix_run(m, "PRAGMA page_size=%u; PRAGMA auto_vacuum=%u; PRAGMA encoding='%s'", page_size,
            auto_vacuum, encoding);
    mix_run(m, "CREATE TABLE first(a)");
}

static inline void mix_create(struct mix *m, unsigned t)
{
    static const char *const bodies[MIX_KINDS] = {
        [MIX_ROWID] = "TABLE t%u(a INTEGER PRIMARY KEY, b, c UNIQUE /*%s*/)",
        [MIX_AUTOINCREMENT] = "TABLE t%u(a INTEGER PRIMARY KEY AUTOINCREMENT, b, c /*%s*/)",
        [MIX_WITHOUT_ROWID] = "TABLE t%u(a, b, c, PRIMARY KEY(a, b) /*%s*/) WITHOUT ROWID",
        [MIX_FTS5] = "VIRTUAL TABLE \"t%u\" USING fts5(b, c /*%s*/)",
        [MIX_FTS4] = "VIRTUAL TABLE t%u /*%s*/ USING Fts4(b, c)",
        [MIX_RTREE] = "VIRTUAL TABLE t%u USING rtree(a, b, c /*%s*/)",
    };
    char comment[2001];
    unsigned length = mix_below(m, 4) == 0 ? mix_below(m, 2000) : 0;
    memset(comment, 'x', length);
    comment[length] = '\0';
    m->kind[t] = (enum mix_kind)(1 + mix_below(m, MIX_KINDS - 1));
    char *body = sqlite3_mprintf(bodies[m->kind[t]], t, comment);
    mix_run(m, "CREATE %s", body);
    sqlite3_free(body);
    if (m->kind[t] <= MIX_WITHOUT_ROWID && mix_below(m, 3) == 0)
        mix_run(m,
                "CREATE VIEW v%u AS SELECT b FROM t%u;"
                "CREATE TRIGGER tr%u AFTER DELETE ON t%u BEGIN SELECT 1; END",
                t, t, t, t);
}

/* Bytes of a value: mostly few, sometimes several pages. */
static inline unsigned mix_bytes(struct mix *m)
{
    switch (mix_below(m, 8)) {
    case 0: return mix_below(m, 4 * m->page_size < 40000 ? 4 * m->page_size : 40000);
    case 1: return mix_below(m, m->page_size);
    default: return mix_below(m, 60);
    }
}

static inline void mix_insert(struct mix *m, unsigned t)
{
    unsigned count = 1 + mix_below(m, mix_below(m, 4) ? 30 : 300), bytes = mix_bytes(m);
    if ((uint64_t)count * bytes > 300000)
        count = 300000 / bytes + 1;
    const char *values = "i, mix_blob(%u), i || 'c'";
    if (m->kind[t] == MIX_WITHOUT_ROWID)
        values = "i, mix_blob(%u), 'c'";
    else if (m->kind[t] == MIX_FTS5 || m->kind[t] == MIX_FTS4)
        values = "hex(mix_blob(%u)), 'word' || (i %% 50)";
    else if (m->kind[t] == MIX_RTREE)
        values = "i, i %% 1000, i %% 1000 + %u %% 7";
    char *list = sqlite3_mprintf(values, m->kind[t] >= MIX_FTS5 ? bytes / 4 : bytes);
    mix_run(m,
            "WITH n(i) AS (SELECT %u UNION ALL SELECT i + 1 FROM n WHERE i < %u)"
            " INSERT INTO t%u%s SELECT %s FROM n",
            m->rows, m->rows + count - 1, t,
            m->kind[t] == MIX_FTS5 || m->kind[t] == MIX_FTS4 ? "(b, c)" : "", list);
    sqlite3_free(list);
    m->rows += count;
}

static inline void mix_change(struct mix *m, unsigned t)
{
    bool fts = m->kind[t] == MIX_FTS5 || m->kind[t] == MIX_FTS4;
    const char *key = fts ? "rowid" : "a";
    unsigned each = 1 + mix_below(m, 9), which = mix_below(m, each);
    if (mix_below(m, 2))
        mix_run(m, "DELETE FROM t%u WHERE %s %% %u = %u", t, key, each, which);
    else if (fts)
        mix_run(m, "UPDATE t%u SET b = hex(mix_blob(20)) WHERE rowid %% %u = %u", t, each, which);
    else if (m->kind[t] == MIX_RTREE)
        mix_run(m, "UPDATE t%u SET b = b - 1 WHERE a %% %u = %u", t, each, which);
    else
        mix_run(m, "UPDATE t%u SET b = mix_blob(%u) WHERE a %% %u = %u AND a > %u", t, mix_bytes(m),
                each, which, m->rows > 50 ? m->rows - 50 : 0);
}

/* One change of the database, committed unless the test holds a transaction. */
static inline void mix_step(struct mix *m)
{
    unsigned t = mix_below(m, MIX_TABLES);
    if (m->kind[t] == MIX_NONE) {
        mix_create(m, t);
        return;
    }
    switch (mix_below(m, 20)) {
    case 0:
        mix_run(m, "DROP VIEW IF EXISTS v%u; DROP TABLE t%u", t, t);
        m->kind[t] = MIX_NONE;
        break;
    case 1:
        if (m->kind[t] <= MIX_WITHOUT_ROWID)
            mix_run(m, "CREATE INDEX IF NOT EXISTS t%u_i%u ON t%u(b, c)", t, mix_below(m, 3), t);
        break;
    case 2: mix_run(m, "DROP INDEX IF EXISTS t%u_i%u", t, mix_below(m, 3)); break;
    case 3:
        if (!m->in_transaction && mix_below(m, 4) == 0)
            mix_run(m, "VACUUM");
        break;
    case 4: mix_run(m, "PRAGMA incremental_vacuum(%u)", 1 + mix_below(m, 30)); break;
    case 5: mix_run(m, "ANALYZE"); break;
    case 6:
    case 7:
    case 8:
    case 9: mix_change(m, t); break;
    default: mix_insert(m, t); break;
    }
}

/* --- the oracle --------------------------------------------------------------------------------- */

struct mix_page {
    char name[64];
    char role[16]; /* "root", "interior", "leaf", "overflow"; "" where dbstat does not go */
    bool leaf;
};

struct mix_oracle {
    struct mix_page *pages; /* owned: [0 .. count] */
    unsigned count;
    unsigned free_pages;
};

static inline sqlite3_int64 mix_number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt;
    ck_assert_msg(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK, "%s: %s", sql,
                  sqlite3_errmsg(db));
    ck_assert_msg(sqlite3_step(stmt) == SQLITE_ROW, "%s: %s", sql, sqlite3_errmsg(db));
    sqlite3_int64 value = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return value;
}

static inline void mix_ask(struct mix_oracle *o, sqlite3 *db)
{
    sqlite3_stmt *stmt;
    o->count = (unsigned)mix_number(db, "PRAGMA page_count");
    o->free_pages = (unsigned)mix_number(db, "PRAGMA freelist_count");
    o->pages = calloc(o->count + 1, sizeof *o->pages);
    ck_assert_ptr_nonnull(o->pages);
    int rc =
        sqlite3_prepare_v2(db, "SELECT pageno, name, pagetype, path FROM dbstat", -1, &stmt, NULL);
    ck_assert_msg(rc == SQLITE_OK, "this SQLite has no dbstat: %s", sqlite3_errmsg(db));
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        unsigned page = (unsigned)sqlite3_column_int(stmt, 0);
        const char *type = (const char *)sqlite3_column_text(stmt, 2);
        const char *path = (const char *)sqlite3_column_text(stmt, 3);
        ck_assert_uint_le(page, o->count);
        struct mix_page *p = &o->pages[page];
        snprintf(p->name, sizeof p->name, "%s", sqlite3_column_text(stmt, 1));
        p->leaf = strcmp(type, "leaf") == 0;
        const char *role = strcmp(path, "/") == 0          ? "root"
                           : strcmp(type, "internal") == 0 ? "interior"
                                                           : type;
        snprintf(p->role, sizeof p->role, "%s", role);
    }
    ck_assert_msg(rc == SQLITE_DONE, "dbstat: %s", sqlite3_errmsg(db));
    sqlite3_finalize(stmt);
}

static inline void mix_forget(struct mix_oracle *o)
{
    free(o->pages);
    o->pages = NULL;
}

#endif
