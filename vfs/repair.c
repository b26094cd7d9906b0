/* repair.c: the SQL function dax_repair([page [, 'allow-loss' [, schema]]]).
 *
 * First what the engine can do by itself: a frame, or the file, still has the page. For the rest a
 * SQLite connection of its own is opened, without triggers, foreign keys and the user's settings:
 *
 *   BEGIN IMMEDIATE     the file takes snapshot and writer lock at once and then calls repair_locked:
 *                       the map is made, the plan, and its pages are written (repair_pages.c), before
 *                       SQLite has read anything of the transaction
 *   REINDEX ...         what SQLite does best
 *   COMMIT              one commit of the engine: pages, indexes, entries of the ledger
 *
 * A crash or a failure before the commit leaves everything as it was. Others read and are not waited
 * for; they see the new state with their next transaction.
 *
 * The connection has none of the user's collations and functions: it borrows them (repair_borrow.c).
 *
 * In a database with auto_vacuum=FULL, this commit does not vacuum: that would read pages which may
 * still be bad. The next one does.
 */
#include "vfs/repair.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "vfs/file.h"
#include "vfs/schema.h"
#include "vfs/vfs.h"

/* Functions of the user's that one statement may need. */
#define REPAIR_BORROWED_MAX 64u

bool repair_fail(struct repair *r, int code, const char *fmt, ...)
{
    if (r->code != SQLITE_OK)
        return false;
    char text[sizeof r->err.text]; /* an argument may be err.text itself */
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    memcpy(r->err.text, text, sizeof text);
    r->code = code;
    return false;
}

/* --- the connection --------------------------------------------------------------------------- */

bool repair_sql(struct repair *r, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *sql = sqlite3_vmprintf(fmt, args);
    va_end(args);
    if (!sql)
        return repair_fail(r, SQLITE_NOMEM, "no memory");
    int rc = SQLITE_OK;
    unsigned borrowed = 0;
    if (r->code == SQLITE_OK)
        do
            rc = sqlite3_exec(r->db, sql, NULL, NULL, NULL);
        while (rc == SQLITE_ERROR && borrowed++ < REPAIR_BORROWED_MAX && repair_borrow_function(r));
    if (rc != SQLITE_OK)
        repair_fail(r, rc, "%s: %s", sql, sqlite3_errmsg(r->db));
    sqlite3_free(sql);
    return r->code == SQLITE_OK;
}

static int repair_progress(void *arg)
{
    struct repair *r = arg;
    return interrupt_asked(&r->interrupt);
}

static char *repair_uri(const char *path)
{
    sqlite3_str *s = sqlite3_str_new(NULL);
    sqlite3_str_appendall(s, "file:");
    for (const unsigned char *p = (const unsigned char *)path; *p; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                     (*p >= '0' && *p <= '9') || strchr("/._-", *p);
        sqlite3_str_appendf(s, plain ? "%c" : "%%%02x", *p);
    }
    sqlite3_str_appendall(s, "?vfs=" DAX_VFS_NAME);
    return sqlite3_str_finish(s);
}

static int repair_busy_timeout(sqlite3 *user)
{
    sqlite3_stmt *stmt;
    int ms = 0;
    if (sqlite3_prepare_v2(user, "PRAGMA busy_timeout", -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW)
        ms = sqlite3_column_int(stmt, 0);
    sqlite3_finalize(stmt);
    return ms;
}

/* SQLite opens no file whose header cannot be read. */
static bool repair_header_bad(struct repair *r)
{
    bool bad = false;
    for (uint32_t i = 0; i < r->entry_count; i++)
        bad |= r->entries[i].media.part == MEDIA_BASE && r->entries[i].media.page == 0 &&
               r->entries[i].done == REPAIR_NOTHING;
    for (uint32_t i = 0; i < r->entry_count && bad; i++)
        if (r->entries[i].done == REPAIR_NOTHING && !r->entries[i].how[0])
            snprintf(r->entries[i].how, sizeof r->entries[i].how,
                     "the first page of the database cannot be read: restore a backup, or use "
                     ".recover");
    return bad;
}

static bool repair_open(struct repair *r)
{
    static const struct {
        int option, value;
    } settings[] = {
        {SQLITE_DBCONFIG_ENABLE_FKEY, 0},
        {SQLITE_DBCONFIG_ENABLE_TRIGGER, 0},
        {SQLITE_DBCONFIG_DEFENSIVE, 0},
        {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 1},
    };
    const char *path = sqlite3_db_filename(r->user, r->schema);
    char *uri = path ? repair_uri(path) : NULL;
    if (!uri)
        return repair_fail(r, SQLITE_NOMEM, "no memory");
    int rc = sqlite3_open_v2(uri, &r->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI, NULL);
    sqlite3_free(uri);
    if (rc != SQLITE_OK && repair_header_bad(r))
        return false;
    if (rc != SQLITE_OK)
        return repair_fail(r, rc, "cannot open a connection for the repair: %s",
                           r->db ? sqlite3_errmsg(r->db) : sqlite3_errstr(rc));
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        sqlite3_db_config(r->db, settings[i].option, settings[i].value, NULL);
    sqlite3_busy_timeout(r->db, repair_busy_timeout(r->user));
    sqlite3_exec(r->db, "PRAGMA ignore_check_constraints=1", NULL, NULL, NULL);
    sqlite3_progress_handler(r->db, 10000, repair_progress, r);
    sqlite3_collation_needed(r->db, r, repair_borrow_collation);
    if (!vfs_conn_of(r->db, "main") ||
        sqlite3_file_control(r->db, "main", DAX_FCNTL_OWNERS, &r->cache) != SQLITE_OK || !r->cache)
        return repair_fail(r, SQLITE_NOMEM, "no memory");
    return true;
}

/* The tables WITHOUT ROWID: index_xinfo has rows for these tables only. */
static void repair_find_keys(struct repair *r)
{
    static const char sql[] =
        "SELECT name, (SELECT count(*) FROM pragma_index_xinfo(s.name) WHERE key) AS columns"
        " FROM sqlite_master AS s WHERE type = 'table' AND rootpage > 0 AND columns > 0";
    sqlite3_stmt *stmt;
    size_t count = 0;
    if (sqlite3_prepare_v2(r->db, sql, -1, &stmt, NULL) != SQLITE_OK)
        return; /* sqlite_schema cannot be read: then nothing is done to tables */
    while (sqlite3_step(stmt) == SQLITE_ROW) {
        struct repair_key *grown = realloc(r->keys, (count + 2) * sizeof *grown);
        const char *name = (const char *)sqlite3_column_text(stmt, 0);
        char *copy = name ? strdup(name) : NULL;
        if (grown)
            r->keys = grown;
        if (!grown || !copy) {
            free(copy);
            repair_fail(r, SQLITE_NOMEM, "no memory");
            break;
        }
        r->keys[count++] = (struct repair_key){copy, (unsigned)sqlite3_column_int(stmt, 1)};
        r->keys[count].name = NULL;
    }
    sqlite3_finalize(stmt);
}

static void repair_close(struct repair *r)
{
    interrupt_end(&r->interrupt);
    sqlite3_close(r->db); /* what was not committed is forgotten */
    for (struct repair_key *k = r->keys; k && k->name; k++)
        free(k->name);
    free(r->keys);
    repair_schema_free(r);
    repair_plan_free(r);
}

/* --- entries ---------------------------------------------------------------------------------- */

/* One for each page of an error's range: the bytes of most are one page. */
static bool repair_list_pages(struct repair *r, const struct media_entry *m)
{
    uint64_t pages = (m->bytes + DAX_PAGE_BYTES - 1) / DAX_PAGE_BYTES;
    for (uint64_t i = 0; i < (pages ? pages : 1); i++) {
        if ((r->entry_count & (r->entry_count - 1)) == 0) { /* room is a power of two */
            size_t room = r->entry_count ? (size_t)r->entry_count * 2 : 1;
            struct repair_entry *grown = realloc(r->entries, room * sizeof *grown);
            if (!grown)
                return repair_fail(r, SQLITE_NOMEM, "no memory");
            r->entries = grown;
        }
        struct repair_entry *e = &r->entries[r->entry_count++];
        memset(e, 0, sizeof *e);
        e->media = *m;
        e->media.page = m->page + i;
        e->asked = r->all || e->media.page == r->page;
    }
    return true;
}

static bool repair_list(struct repair *r)
{
    size_t room = conn_media_list(r->c, NULL, 0) + 16; /* a few may come meanwhile */
    struct media_entry *all = calloc(room, sizeof *all);
    if (!all)
        return repair_fail(r, SQLITE_NOMEM, "no memory");
    size_t there = conn_media_list(r->c, all, room);
    for (size_t i = 0; i < there && i < room; i++)
        if (all[i].status == MEDIA_QUARANTINED && !repair_list_pages(r, &all[i]))
            break;
    free(all);
    return r->code == SQLITE_OK;
}

/* What loses nothing and needs nobody but the engine. A page that somebody is reading is left for another
 * time, and with it whatever would be done about it here: it might lose what only has to wait. */
static void repair_by_engine(struct repair *r)
{
    struct dax_err busy = {0};
    for (uint32_t i = 0; i < r->entry_count && r->code == SQLITE_OK; i++) {
        struct repair_entry *e = &r->entries[i];
        enum media_status status = MEDIA_QUARANTINED;
        if (!e->asked)
            continue;
        dax_rc rc = conn_media_repair(r->c, (enum media_part)e->media.part, e->media.page, &status,
                                      &r->err);
        if (rc == DAX_BUSY) {
            busy = r->err;
        } else if (rc != DAX_OK) {
            repair_fail(r, report_code(REPORT_ANY, rc), "%s", r->err.text);
        } else if (status != MEDIA_QUARANTINED) {
            e->done = status == MEDIA_REPAIRED ? REPAIR_REPAIRED : REPAIR_CLEARED;
            snprintf(e->how, sizeof e->how, "%s",
                     status == MEDIA_REPAIRED
                         ? "its newest content was still there, in memory or in the file"
                         : "the page holds nothing, or was good");
        } else if (e->media.part != MEDIA_BASE) {
            snprintf(e->how, sizeof e->how,
                     "it is needed as it is: a sidecar is made anew when the database is closed by "
                     "all and opened again");
        }
    }
    if (busy.rc != DAX_OK && r->code == SQLITE_OK)
        repair_fail(r, report_code(REPORT_ANY, busy.rc), "%s", busy.text);
}

/* --- the transaction -------------------------------------------------------------------------- */

/* Called by the file once it has the snapshot and the writer lock. */
static void repair_locked(void *arg, struct conn *c)
{
    struct repair *r = arg;
    r->c = c;
    int rc = owner_map_get(r->cache, c, r->user, &r->owners, &r->err);
    if (rc != SQLITE_OK) {
        repair_fail(r, rc, "%s", r->err.text[0] ? r->err.text : sqlite3_errstr(rc));
        return;
    }
    r->map = owner_map_walk(r->owners);
    repair_plan(r);
    if (r->code == SQLITE_OK && r->changes)
        repair_apply(r);
}

/* Take back what the entries say: it has not happened. */
static void repair_undone(struct repair *r)
{
    for (uint32_t i = 0; i < r->entry_count; i++)
        if (r->entries[i].chosen)
            r->entries[i].done = REPAIR_NOTHING;
}

/* Of a table WITHOUT ROWID; all for sqlite3_free. */
struct repair_columns {
    char *names;  /* that can be inserted, as SQL lists them */
    char *copies; /* as many: c0, c1, ... */
    char *key;    /* the index that is the table */
};

static bool repair_columns(struct repair *r, const char *table, struct repair_columns *out)
{
    static const char sql[] =
        "SELECT group_concat(printf('\"%w\"', name)), group_concat('c' || cid),"
        " (SELECT printf('\"%w\"', name) FROM pragma_index_list(?1, 'main') WHERE origin = 'pk')"
        " FROM pragma_table_xinfo(?1, 'main') WHERE hidden = 0";
    sqlite3_stmt *stmt = NULL;
    memset(out, 0, sizeof *out);
    if (sqlite3_prepare_v2(r->db, sql, -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_bind_text(stmt, 1, table, -1, SQLITE_TRANSIENT) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW) {
        out->names = sqlite3_mprintf("%s", sqlite3_column_text(stmt, 0));
        out->copies = sqlite3_mprintf("%s", sqlite3_column_text(stmt, 1));
        out->key = sqlite3_mprintf("%s", sqlite3_column_text(stmt, 2));
    }
    if (sqlite3_finalize(stmt) != SQLITE_OK || !out->names || !out->copies || !out->key)
        repair_fail(r, SQLITE_NOMEM, "the columns of table \"%s\" cannot be listed: %s", table,
                    sqlite3_errmsg(r->db));
    return r->code == SQLITE_OK;
}

/* A table WITHOUT ROWID whose rows are in a wrong order: a scan reads them without looking at that (of
 * the table itself: another index that has all columns is empty, and NOT INDEXED would not keep SQLite
 * from it), and a DELETE of all empties the tree and its indexes as they are. */
static void repair_sort(struct repair *r, const char *table)
{
    struct repair_columns c;
    if (repair_columns(r, table, &c)) {
        (void)repair_sql(r, "CREATE TEMP TABLE dax_repair_rows(%s)", c.copies);
        (void)repair_sql(
            r, "INSERT INTO temp.dax_repair_rows SELECT %s FROM main.\"%w\" INDEXED BY %s", c.names,
            table, c.key);
        (void)repair_sql(r, "DELETE FROM main.\"%w\"", table);
        (void)repair_sql(r, "INSERT INTO main.\"%w\"(%s) SELECT %s FROM temp.dax_repair_rows",
                         table, c.names, c.copies);
        (void)repair_sql(r, "DROP TABLE temp.dax_repair_rows");
    }
    sqlite3_free(c.names);
    sqlite3_free(c.copies);
    sqlite3_free(c.key);
}

static void repair_reindex(struct repair *r)
{
    for (uint32_t i = 0; i < r->tree_count; i++) {
        const struct repair_tree *t = &r->trees[i];
        if (!t->chosen)
            continue;
        if (t->means == MEANS_REINDEX)
            (void)repair_sql(r, "REINDEX main.\"%w\"", t->object->name);
        if (t->unordered) {
            repair_sort(r, t->object->name);
            continue; /* it has filled the indexes as well */
        }
        for (uint32_t k = 0; t->loses && k < r->map->object_count; k++) {
            const struct walk_object *o = &r->map->objects[k];
            const struct repair_tree *x = repair_tree_of(r, o->root);
            if (o->index && strcasecmp(o->table, t->object->name) == 0 && !(x && x->chosen))
                (void)repair_sql(r, "REINDEX main.\"%w\"", o->name);
        }
    }
}

/* Prepared and not run: SQLite then does not vacuum at the commit, and the file says nothing of it. */
static void repair_no_vacuum(struct repair *r)
{
    sqlite3_stmt *stmt;
    if (r->map->header.pointer_map &&
        sqlite3_prepare_v2(r->db, "PRAGMA main.auto_vacuum=2", -1, &stmt, NULL) == SQLITE_OK)
        sqlite3_finalize(stmt);
}

static void repair_touch(struct repair *r)
{
    sqlite3_stmt *stmt;
    int version = 0;
    if (sqlite3_prepare_v2(r->db, "PRAGMA main.user_version", -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW)
        version = sqlite3_column_int(stmt, 0);
    if (sqlite3_finalize(stmt) != SQLITE_OK)
        repair_fail(r, sqlite3_errcode(r->db), "%s", sqlite3_errmsg(r->db));
    (void)repair_sql(r, "PRAGMA main.user_version=%d",
                     version); /* SQLite commits its own changes only */
}

static void repair_transaction(struct repair *r)
{
    struct file_hook hook = {repair_locked, r};
    if (!repair_open(r))
        return;
    repair_find_keys(r);
    if (sqlite3_file_control(r->db, "main", DAX_FCNTL_HOOK, &hook) != SQLITE_OK)
        repair_fail(r, SQLITE_INTERNAL, "no such file control");
    (void)repair_sql(r, "BEGIN IMMEDIATE");
    if (r->map && r->schema_bad && (r->code & 0xff) == SQLITE_IOERR)
        r->code = SQLITE_OK; /* SQLite cannot read page 1: the entries say so */
    if (r->code != SQLITE_OK || !r->changes)
        return;
    repair_no_vacuum(r);
    if (r->schema_bad && !r->schema_left)
        repair_schema_write(r);
    repair_reindex(r);
    repair_touch(r);
    (void)repair_sql(r, "COMMIT");
}

/* --- the function ----------------------------------------------------------------------------- */

static void repair_run(struct repair *r)
{
    bool left = false;
    if (!sqlite3_get_autocommit(r->user)) {
        repair_fail(r, SQLITE_LOCKED, "a transaction is open on this connection: end it first");
        return;
    }
    if (!repair_list(r))
        return;
    repair_by_engine(r);
    for (uint32_t i = 0; i < r->entry_count; i++)
        left |= r->entries[i].asked && r->entries[i].done == REPAIR_NOTHING &&
                r->entries[i].media.part == MEDIA_BASE;
    if (left && r->code == SQLITE_OK)
        repair_transaction(r);
    if (r->code != SQLITE_OK)
        repair_undone(r);
}

static bool repair_arguments(struct repair *r, int argc, sqlite3_value **argv)
{
    const char *how = argc > 1 ? (const char *)sqlite3_value_text(argv[1]) : NULL;
    r->all = argc < 1 || sqlite3_value_type(argv[0]) == SQLITE_NULL;
    if (!r->all) {
        sqlite3_int64 page = sqlite3_value_int64(argv[0]);
        if (sqlite3_value_numeric_type(argv[0]) != SQLITE_INTEGER || page < 0)
            return repair_fail(r, SQLITE_ERROR, "%.60s is no page number; pages are counted from 0",
                               (const char *)sqlite3_value_text(argv[0]));
        r->page = (uint64_t)page;
    }
    r->allow_loss = how && sqlite3_stricmp(how, "allow-loss") == 0;
    if (how && !r->allow_loss)
        return repair_fail(r, SQLITE_ERROR, "unknown word \"%.60s\"; it can be allow-loss", how);
    if (r->all && r->allow_loss)
        return repair_fail(r, SQLITE_ERROR, "allow-loss is for one page: name it");
    return true;
}

static void repair_error(sqlite3_context *ctx, const struct repair *r)
{
    char text[sizeof r->err.text + 16];
    snprintf(text, sizeof text, "dax_repair: %s", r->err.text);
    if (r->code == SQLITE_NOMEM) {
        sqlite3_result_error_nomem(ctx);
        return;
    }
    sqlite3_result_error(ctx, text, -1);
    sqlite3_result_error_code(ctx, r->code);
}

static void dax_repair(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    sqlite3 *db = sqlite3_context_db_handle(ctx);
    struct repair *r = calloc(1, sizeof *r);
    char *schema = NULL, *why = NULL;
    if (!r) {
        sqlite3_result_error_nomem(ctx);
        return;
    }
    r->user = r->interrupt.db = db;
    if (repair_arguments(r, argc, argv)) {
        r->c = schema_find(db, argc > 2 ? (const char *)sqlite3_value_text(argv[2]) : NULL, &schema,
                           &why);
        if (!r->c)
            repair_fail(r, why ? SQLITE_ERROR : SQLITE_NOMEM, "%s", why ? why : "no memory");
        r->schema = schema;
        if (r->code == SQLITE_OK)
            repair_run(r);
    }
    if (r->code == SQLITE_OK)
        repair_answer(ctx, r);
    else
        repair_error(ctx, r);
    repair_close(r);
    sqlite3_free(schema);
    sqlite3_free(why);
    free(r);
}

int repair_functions_register(sqlite3 *db)
{
    int rc = SQLITE_OK;
    for (int argc = 0; argc <= 3 && rc == SQLITE_OK; argc++)
        rc = sqlite3_create_function(db, "dax_repair", argc, SQLITE_UTF8 | SQLITE_DIRECTONLY, NULL,
                                     dax_repair, NULL, NULL);
    return rc;
}
