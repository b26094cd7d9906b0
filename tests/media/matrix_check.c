/* matrix_check.c: is it the right data, or the right error.
 *
 * Right is what stock SQLite reads from a copy that nothing ever happened to.
 */
#include <stdio.h>
#include <string.h>

#include "tests/media/matrix.h"

static bool uses_killed(const struct matrix_run *r)
{
    return r->op == OP_RECOVER || r->at.file == FILE_SIDECAR;
}

sqlite3 *reference_open(const struct matrix_run *r, const char *sql)
{
    sqlite3 *db;
    char *path = test_path("before-%u.db", r->page_size);
    CHECK(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, "unix-none") == SQLITE_OK, "%s", path);
    db_exec(db, "PRAGMA cache_spill = OFF; PRAGMA journal_mode = MEMORY; BEGIN");
    if (uses_killed(r)) {
        static char script[65536];
        file_peek(test_path("killed-%u.sql", r->page_size), 0, script,
                  (size_t)file_bytes(test_path("killed-%u.sql", r->page_size)));
        db_exec(db, "%s", script);
    }
    if (sql)
        db_exec(db, "%s", sql);
    return db;
}

/* --- rows ------------------------------------------------------------------------------------------- */

static bool same_row(sqlite3_stmt *a, sqlite3_stmt *b)
{
    int n = sqlite3_column_count(a);
    for (int i = 0; i < n; i++) {
        const void *x = sqlite3_column_blob(a, i), *y = sqlite3_column_blob(b, i);
        int len = sqlite3_column_bytes(a, i);
        if (sqlite3_column_type(a, i) != sqlite3_column_type(b, i) ||
            len != sqlite3_column_bytes(b, i) || (len && memcmp(x, y, (size_t)len) != 0))
            return false;
    }
    return n == sqlite3_column_count(b);
}

static char *row_text(sqlite3_stmt *st)
{
    const char *first = (const char *)sqlite3_column_text(st, 0);
    return test_printf("%.40s (%d bytes)", first ? first : "NULL", sqlite3_column_bytes(st, 0));
}

static bool is_error_of_media(int rc)
{
    return (rc & 0xff) == SQLITE_IOERR;
}

enum check_result check_query(sqlite3 *db, sqlite3 *reference, const char *sql, char **why)
{
    sqlite3_stmt *a = NULL, *b = NULL;
    enum check_result result = CHECK_SAME;
    int64_t row = 0;
    *why = "";
    int rc = sqlite3_prepare_v2(db, sql, -1, &a, NULL);
    CHECK(sqlite3_prepare_v2(reference, sql, -1, &b, NULL) == SQLITE_OK, "reference: %s: %s", sql,
          sqlite3_errmsg(reference));
    if (rc == SQLITE_OK) {
        while ((rc = sqlite3_step(a)) == SQLITE_ROW) {
            row++;
            if (sqlite3_step(b) != SQLITE_ROW || !same_row(a, b)) {
                *why = test_printf("%.80s: row %lld is wrong: %s, not %s", sql, (long long)row,
                                   row_text(a), row_text(b));
                result = CHECK_WRONG;
                break;
            }
        }
        if (result == CHECK_SAME && rc == SQLITE_DONE && sqlite3_step(b) != SQLITE_DONE) {
            *why = test_printf("%.80s: ends after row %lld, before %s", sql, (long long)row,
                               row_text(b));
            result = CHECK_WRONG;
        }
    }
    if (result == CHECK_SAME && rc != SQLITE_DONE) {
        *why = test_printf("%.80s: row %lld: %d %s", sql, (long long)row, rc, sqlite3_errmsg(db));
        result = is_error_of_media(rc) ? CHECK_ERROR : CHECK_WRONG;
    }
    sqlite3_finalize(a);
    sqlite3_finalize(b);
    return result;
}

enum check_result check_all(sqlite3 *db, sqlite3 *reference, char **why)
{
    enum check_result all = CHECK_SAME;
    char *one;
    *why = "";
    for (unsigned i = 0; i < MATRIX_QUERIES; i++) {
        enum check_result result = check_query(db, reference, matrix_query[i], &one);
        if (result > all) {
            all = result;
            *why = one;
        }
    }
    return all;
}

/* --- after a loss -------------------------------------------------------------------------------------- */

/* Rows of db's query are found, in order, among those of the reference; how many of these are left out. Of a
 * table whose entry in the schema is gone, which may_be_gone allows: all. */
static int64_t subset_of_query(sqlite3 *db, sqlite3 *reference, const char *sql, bool may_be_gone)
{
    sqlite3_stmt *a, *b;
    int64_t missing = 0;
    int rc = sqlite3_prepare_v2(db, sql, -1, &a, NULL);
    if (rc == SQLITE_ERROR && may_be_gone) {
        const char *name = strstr(sqlite3_errmsg(db), "no such table: ");
        CHECK(name, "%s: %s", sql, sqlite3_errmsg(db));
        CHECK(db_int(db, "SELECT count(*) FROM sqlite_schema WHERE '%s' IN (name, tbl_name)",
                     test_printf("%s", name + strlen("no such table: "))) == 0,
              "%s: it is in sqlite_schema", sql);
        return db_int(reference, "SELECT count(*) FROM (%s)", sql);
    }
    CHECK(rc == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
    CHECK(sqlite3_prepare_v2(reference, sql, -1, &b, NULL) == SQLITE_OK, "%s", sql);
    while ((rc = sqlite3_step(a)) == SQLITE_ROW) {
        int more;
        while ((more = sqlite3_step(b)) == SQLITE_ROW && !same_row(a, b))
            missing++;
        CHECK(more == SQLITE_ROW, "%s: a row that was never there: %s", sql, row_text(a));
    }
    CHECK(rc == SQLITE_DONE, "%s: %d %s", sql, rc, sqlite3_errmsg(db));
    while (sqlite3_step(b) == SQLITE_ROW)
        missing++;
    sqlite3_finalize(a);
    sqlite3_finalize(b);
    return missing;
}

/* A page of the schema has the entries of neighbours: these may be gone, and no others. */
static void check_entries(sqlite3 *db, sqlite3 *reference)
{
    enum {
        BEFORE,
        GONE,
        BEHIND
    } at = BEFORE;
    unsigned kept = 0;
    sqlite3_stmt *st;
    CHECK(sqlite3_prepare_v2(reference,
                             "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid",
                             -1, &st, NULL) == SQLITE_OK,
          "%s", sqlite3_errmsg(reference));
    while (sqlite3_step(st) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(st, 0);
        bool there = db_int(db, "SELECT count(*) FROM sqlite_schema WHERE name = '%s'", name) == 1;
        kept += there;
        CHECK(there || at != BEHIND, "the entry of %s was on another page, and is gone", name);
        at = there ? (at == BEFORE ? BEFORE : BEHIND) : GONE;
    }
    CHECK(kept > 0, "the entries of all tables are gone");
    sqlite3_finalize(st);
}

int64_t check_subset(const struct matrix_run *r, sqlite3 *db, sqlite3 *reference)
{
    /* Whose rows may be gone, by matrix_query. */
    static const enum matrix_object of_query[] = {OBJECT_NONE, OBJECT_T, OBJECT_T,
                                                  OBJECT_W,    OBJECT_O, OBJECT_SCHEMA};
    enum matrix_object object = r->at.object == OBJECT_SCRATCH ? OBJECT_T
                                : r->at.object == OBJECT_END   ? OBJECT_O
                                                               : r->at.object;
    int64_t missing = 0;
    bool schema = object == OBJECT_SCHEMA;
    db_check_integrity(db, "after the repair");
    if (schema)
        check_entries(db, reference);
    for (unsigned i = 0; i < MATRIX_QUERIES; i++) {
        int64_t n = subset_of_query(db, reference, matrix_query[i], schema);
        CHECK(n == 0 || r->page_size < POISON_PAGE_BYTES || of_query[i] == object || schema,
              "%lld rows of another object are gone: %s", (long long)n, matrix_query[i]);
        if (i != 2)
            missing += n;
    }
    return missing;
}

/* --- dax_errors ------------------------------------------------------------------------------------------ */

static bool says(sqlite3_stmt *st, int column, const char *expected)
{
    const char *text = (const char *)sqlite3_column_text(st, column);
    return !expected[0] || (text && strstr(text, expected));
}

static const char *kinds_of(enum matrix_way way)
{
    return way == WAY_CUT ? "truncated" : way == WAY_SIGBUS ? "sigbus" : "poison io";
}

void check_errors(const struct matrix_run *r, sqlite3 *db, bool must_have)
{
    static const char sql[] = "SELECT page, part, kind, coalesce(type, ''), coalesce(object, ''), "
                              "coalesce(role, ''), bytes,"
                              " detail FROM dax_errors ORDER BY id";
    sqlite3_stmt *st;
    unsigned found = 0;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
    if (rc != SQLITE_OK && (r->at.object == OBJECT_SCHEMA || r->way == WAY_CUT)) {
        /* SQLite reads the schema before any table; functions still work. */
        CHECK(is_error_of_media(rc), "dax_errors: %d %s", rc, sqlite3_errmsg(db));
        CHECK(!must_have || errors_open(db) > 0, "%lld errors", (long long)errors_open(db));
        return;
    }
    CHECK(rc == SQLITE_OK, "dax_errors: %s", sqlite3_errmsg(db));
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        uint64_t page = (uint64_t)sqlite3_column_int64(st, 0);
        const char *part = (const char *)sqlite3_column_text(st, 1);
        const char *kind = (const char *)sqlite3_column_text(st, 2);
        const char *all =
            test_printf("page %llu of the %s, %s: %s, %s, %s; %s", (unsigned long long)page, part,
                        kind, sqlite3_column_text(st, 3), sqlite3_column_text(st, 4),
                        sqlite3_column_text(st, 5), sqlite3_column_text(st, 7));
        bool in_db = strcmp(part, "database") == 0;
        uint64_t pages = (uint64_t)sqlite3_column_int64(st, 6) / POISON_PAGE_BYTES;
        CHECK(in_db == (r->at.file == FILE_DB), "reported: %s", all);
        /* A process that died of it could not ask the file any more. */
        CHECK(strstr(kinds_of(r->way), kind) || (r->next && strcmp(kind, "sigbus") == 0),
              "of that kind: %s", all);
        found++;
        if (r->way == WAY_CUT) {
            CHECK(page >= r->at.page, "reported: %s", all);
            continue;
        }
        /* What was committed in scratch and cannot be read is a page of its table that is lost. */
        if (page != r->at.page && r->at.object == OBJECT_SCRATCH) {
            CHECK(pages == 1 && text_has(all, "committed changes of the page were") &&
                      (says(st, 4, "t") || r->page_size < POISON_PAGE_BYTES),
                  "reported: %s", all);
            continue;
        }
        CHECK(page == r->at.page && pages == 1, "reported: %s", all);
        CHECK(says(st, 3, r->at.type) && says(st, 4, r->at.owner) && says(st, 5, r->at.role),
              "named wrongly, not %s, %s, %s: %s", r->at.type, r->at.owner, r->at.role, all);
    }
    sqlite3_finalize(st);
    CHECK(rc == SQLITE_DONE, "dax_errors: %d %s", rc, sqlite3_errmsg(db));
    /* The first page's entry is closed at the open if pread has the page; recovery may then find the mapping
     * bad. */
    bool again = r->next && r->at.page == 0 && r->way == WAY_SIGBUS && found == 2;
    CHECK(found <= 1 || again || r->way == WAY_CUT || r->at.object == OBJECT_SCRATCH,
          "%u entries for one error", found);
    CHECK(found || !must_have, "dax_errors does not have page %llu",
          (unsigned long long)r->at.page);
}

int64_t errors_open(sqlite3 *db)
{
    return db_status(db, "media.errors_open");
}
