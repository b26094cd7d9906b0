/* errors_table.c: the table dax_errors: media errors of a database, a row each.
 *
 *     SELECT * FROM dax_errors WHERE status = 'quarantined';
 *     SELECT * FROM dax_errors('aux');
 *     SELECT * FROM dax_errors('/data/app.db');     -- open in this process, by any connection
 *
 * The last form is for a database whose schema cannot be read: SQLite, which reads the schema before it
 * looks for any table, prepares it on a connection to another one, as ':memory:'.
 *
 * Eponymous: it is there on every connection, without CREATE VIRTUAL TABLE. All rows of one query are
 * of one moment, the one at which it began; errors without a name get theirs then.
 *
 * A cursor keeps the rows and the database's name, not its connection: a DETACH may come meanwhile.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vfs/media_callback.h"
#include "vfs/report.h"
#include "vfs/schema.h"
#include "vfs/vfs.h"

enum errors_column {
    COLUMN_ID,
    COLUMN_TIME,
    COLUMN_PAGE,
    COLUMN_BYTES,
    COLUMN_PART,
    COLUMN_KIND,
    COLUMN_TYPE,
    COLUMN_OBJECT,
    COLUMN_ROLE,
    COLUMN_STATUS,
    COLUMN_CHANGED,
    COLUMN_DETAIL,
    COLUMN_SCHEMA /* hidden; the schema or path that is the argument of dax_errors(...) */
};

static const char errors_declaration[] =
    "CREATE TABLE dax_errors(id INTEGER, time TEXT, page INTEGER, bytes INTEGER, part TEXT,"
    " kind TEXT, type TEXT, object TEXT, role TEXT, status TEXT, changed TEXT, detail TEXT,"
    " schema TEXT HIDDEN)";

struct errors_table {
    sqlite3_vtab base;
    sqlite3 *db;
};

struct errors_cursor {
    sqlite3_vtab_cursor base;
    char *schema;             /* owned; or a path */
    struct media_batch *rows; /* owned; NULL: none */
    size_t row;
};

static int errors_connect(sqlite3 *db, void *aux, int argc, const char *const *argv,
                          sqlite3_vtab **table_out, char **err_out)
{
    (void)aux, (void)argc, (void)argv, (void)err_out;
    int rc = sqlite3_declare_vtab(db, errors_declaration);
    if (rc != SQLITE_OK)
        return rc;
    struct errors_table *t = sqlite3_malloc(sizeof *t);
    if (!t)
        return SQLITE_NOMEM;
    memset(t, 0, sizeof *t);
    t->db = db;
    *table_out = &t->base;
    return SQLITE_OK;
}

static int errors_disconnect(sqlite3_vtab *table)
{
    sqlite3_free(table);
    return SQLITE_OK;
}

/* idxNum 1: the schema is the only argument. */
static int errors_best_index(sqlite3_vtab *table, sqlite3_index_info *info)
{
    (void)table;
    info->estimatedRows = 100;
    info->estimatedCost = 100;
    for (int i = 0; i < info->nConstraint; i++) {
        const struct sqlite3_index_constraint *c = &info->aConstraint[i];
        if (c->iColumn != COLUMN_SCHEMA || c->op != SQLITE_INDEX_CONSTRAINT_EQ)
            continue;
        if (!c->usable)
            return SQLITE_CONSTRAINT; /* without it the rows would be of another database */
        info->aConstraintUsage[i].argvIndex = 1;
        info->aConstraintUsage[i].omit = 1;
        info->idxNum = 1;
        return SQLITE_OK;
    }
    return SQLITE_OK;
}

static int errors_open(sqlite3_vtab *table, sqlite3_vtab_cursor **cursor_out)
{
    (void)table;
    struct errors_cursor *cur = sqlite3_malloc(sizeof *cur);
    if (!cur)
        return SQLITE_NOMEM;
    memset(cur, 0, sizeof *cur);
    *cursor_out = &cur->base;
    return SQLITE_OK;
}

static void errors_forget(struct errors_cursor *cur)
{
    sqlite3_free(cur->rows);
    sqlite3_free(cur->schema);
    cur->rows = NULL;
    cur->schema = NULL;
    cur->row = 0;
}

static int errors_close(sqlite3_vtab_cursor *cursor)
{
    errors_forget((struct errors_cursor *)cursor);
    sqlite3_free(cursor);
    return SQLITE_OK;
}

/* All rows of a database of t->db. *why_out: for sqlite3_free. */
static struct media_batch *errors_of_schema(struct errors_table *t, const char *schema,
                                            char **name_out, char **why_out)
{
    struct conn *c = schema_find(t->db, schema, name_out, why_out);
    if (!c)
        return NULL;
    (void)sqlite3_file_control(t->db, *name_out, DAX_FCNTL_NAME_MEDIA, NULL);
    return media_batch_take(c, "");
}

/* Of a file that somebody in this process has open. It names its own errors. */
static struct media_batch *errors_of_file(const char *path, char **why_out)
{
    struct dax_options options = dax_options_default();
    struct media_batch *rows = NULL;
    struct conn *c;
    struct dax_err err;
    char *resolved = realpath(path, NULL);
    options.create = false;
    options.read_only = options.join = true;
    if (!resolved) {
        *why_out = sqlite3_mprintf("\"%s\": neither a database of this connection nor a file (%s)",
                                   path, strerror(errno));
        return NULL;
    }
    if (conn_open(resolved, &options, &c, report_clear(&err)) == DAX_OK) {
        rows = media_batch_take(c, "");
        if (conn_close(c, report_clear(&err)) != DAX_OK)
            dax_log(err.rc, "%s", err.text);
    } else {
        *why_out = sqlite3_mprintf("%s", err.text);
    }
    free(resolved);
    return rows;
}

static int errors_filter(sqlite3_vtab_cursor *cursor, int with_schema, const char *text, int argc,
                         sqlite3_value **argv)
{
    (void)text, (void)argc;
    struct errors_cursor *cur = (struct errors_cursor *)cursor;
    struct errors_table *t = (struct errors_table *)cursor->pVtab;
    char *why = NULL;
    errors_forget(cur);
    const char *given = with_schema ? (const char *)sqlite3_value_text(argv[0]) : NULL;
    /* A path has a slash, so that none is taken for a database that was misspelt. */
    if (given && strchr(given, '/')) {
        cur->rows = errors_of_file(given, &why);
        cur->schema = sqlite3_mprintf("%s", given);
    } else {
        cur->rows = errors_of_schema(t, given, &cur->schema, &why);
    }
    if (cur->rows && cur->schema)
        return SQLITE_OK;
    sqlite3_free(t->base.zErrMsg);
    t->base.zErrMsg = why ? sqlite3_mprintf("dax_errors: %s", why) : NULL;
    sqlite3_free(why);
    return t->base.zErrMsg ? SQLITE_ERROR : SQLITE_NOMEM;
}

static int errors_next(sqlite3_vtab_cursor *cursor)
{
    ((struct errors_cursor *)cursor)->row++;
    return SQLITE_OK;
}

static int errors_eof(sqlite3_vtab_cursor *cursor)
{
    const struct errors_cursor *cur = (const struct errors_cursor *)cursor;
    return !cur->rows || cur->row >= cur->rows->count;
}

/* As SQLite's date functions take it: 2026-11-24T17:55:00.123Z */
static void errors_time(sqlite3_context *ctx, uint64_t us)
{
    char text[64];
    struct tm tm;
    time_t seconds = (time_t)(us / 1000000);
    if (!gmtime_r(&seconds, &tm))
        return; /* NULL: damaged in the ledger */
    sqlite3_snprintf(sizeof text, text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900,
                     tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                     (int)(us / 1000 % 1000));
    sqlite3_result_text(ctx, text, -1, SQLITE_TRANSIENT);
}

/* "" is NULL. */
static void errors_text(sqlite3_context *ctx, const char *text)
{
    if (text[0])
        sqlite3_result_text(ctx, text, -1, SQLITE_TRANSIENT);
}

static int errors_column(sqlite3_vtab_cursor *cursor, sqlite3_context *ctx, int column)
{
    const struct errors_cursor *cur = (const struct errors_cursor *)cursor;
    const struct media_entry *e = &cur->rows->entries[cur->row];
    switch ((enum errors_column)column) {
    case COLUMN_ID: sqlite3_result_int64(ctx, (sqlite3_int64)e->id); break;
    case COLUMN_TIME: errors_time(ctx, e->found_us); break;
    case COLUMN_PAGE: sqlite3_result_int64(ctx, (sqlite3_int64)e->page); break;
    case COLUMN_BYTES: sqlite3_result_int64(ctx, (sqlite3_int64)e->bytes); break;
    case COLUMN_PART: errors_text(ctx, media_part_name((enum media_part)e->part)); break;
    case COLUMN_KIND: errors_text(ctx, media_kind_name((enum media_kind)e->kind)); break;
    case COLUMN_TYPE: errors_text(ctx, e->type); break;
    case COLUMN_OBJECT: errors_text(ctx, e->name); break;
    case COLUMN_ROLE: errors_text(ctx, e->role); break;
    case COLUMN_STATUS: errors_text(ctx, media_status_name((enum media_status)e->status)); break;
    case COLUMN_CHANGED: errors_time(ctx, e->changed_us); break;
    case COLUMN_DETAIL: errors_text(ctx, e->detail); break;
    case COLUMN_SCHEMA: errors_text(ctx, cur->schema); break;
    }
    return SQLITE_OK;
}

static int errors_rowid(sqlite3_vtab_cursor *cursor, sqlite3_int64 *rowid_out)
{
    const struct errors_cursor *cur = (const struct errors_cursor *)cursor;
    *rowid_out = (sqlite3_int64)cur->rows->entries[cur->row].id;
    return SQLITE_OK;
}

int errors_table_register(sqlite3 *db)
{
    static const sqlite3_module module = {
        .xConnect = errors_connect, /* no xCreate: eponymous only */
        .xBestIndex = errors_best_index,
        .xDisconnect = errors_disconnect,
        .xOpen = errors_open,
        .xClose = errors_close,
        .xFilter = errors_filter,
        .xNext = errors_next,
        .xEof = errors_eof,
        .xColumn = errors_column,
        .xRowid = errors_rowid,
    };
    return sqlite3_create_module(db, "dax_errors", &module, NULL);
}
