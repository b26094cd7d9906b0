/* owner_functions.c: the SQL functions dax_owner(page [, schema]) and dax_owner_sqlite(page [, schema]).
 *
 * Both answer in JSON with the owners of a piece of the file: dax_owner of the 4096 bytes that
 * dax_pages calls `page`, dax_owner_sqlite of the page that SQLite calls so. The members and their
 * order are part of the interface (docs/uri-and-sql.md).
 */
#include <string.h>

#include "engine/limits.h"
#include "vfs/json.h"
#include "vfs/owner_map.h"
#include "vfs/report.h"
#include "vfs/schema.h"
#include "vfs/vfs.h"

/* How pages are numbered: sqlite3_user_data points to one of these. */
struct owner_numbers {
    const char *function;
    bool sqlite;
};

static const struct owner_numbers owner_engine = {"dax_owner", false};
static const struct owner_numbers owner_sqlite = {"dax_owner_sqlite", true};

static void owner_error(sqlite3_context *ctx, int code, char *why)
{
    const struct owner_numbers *n = sqlite3_user_data(ctx);
    char *text = why ? sqlite3_mprintf("%s: %s", n->function, why) : NULL;
    if (code == SQLITE_NOMEM || !text) {
        sqlite3_result_error_nomem(ctx);
    } else {
        sqlite3_result_error(ctx, text, -1);
        sqlite3_result_error_code(ctx, code);
    }
    sqlite3_free(text);
    sqlite3_free(why);
}

/* Can these bytes be read now? In the snapshot of c, or the newest. */
static bool owner_readable(struct conn *c, uint64_t offset, uint64_t bytes)
{
    uint8_t buf[512];
    struct dax_err err;
    bool own_snapshot = conn_snapshot(c) == 0;
    if (own_snapshot && conn_begin_read(c, report_clear(&err)) != DAX_OK)
        return false;
    bool ok = true;
    for (uint64_t at = 0; at < bytes && ok; at += sizeof buf) {
        dax_rc rc = conn_read_committed(c, buf, sizeof buf, offset + at, report_clear(&err));
        ok = rc == DAX_OK || rc == DAX_SHORT_READ;
    }
    if (own_snapshot)
        conn_end_read(c);
    return ok;
}

static void owner_write(struct json *j, const struct owner *o, bool readable)
{
    json_object_open(j, NULL);
    json_number_or_null(j, "page", o->page);
    json_text(j, "type", o->type);
    json_text(j, "name", o->name);
    json_text(j, "table", o->table);
    json_text(j, "virtual_table", o->virtual_table);
    json_text(j, "role", o->role);
    json_number_or_null(j, "root", o->root);
    json_number_or_null(j, "parent", o->parent);
    json_bool(j, "readable", readable);
    json_bool(j, "damaged", o->damaged);
    json_number_or_null(j, "below", o->below);
    json_text_or_null(j, "detail", o->detail);
    json_object_close(j);
}

static void owner_answer(sqlite3_context *ctx, const struct owner_map *map, struct conn *c,
                         const char *schema, uint64_t page, bool sqlite)
{
    uint32_t size = owner_map_page_size(map), count = 1;
    uint64_t first = page;
    if (!sqlite)
        count = owner_pages_within(map, page, &first);
    struct json j = {sqlite3_str_new(sqlite3_context_db_handle(ctx)), true};
    json_object_open(&j, NULL);
    json_text(&j, "schema", schema);
    json_number(&j, "txid", owner_map_txid(map));
    json_number_or_null(&j, "page_size", size);
    if (sqlite && size == 0)
        json_null(&j, "page");
    else
        json_number(&j, "page", sqlite ? (page - 1) * size / DAX_PAGE_BYTES : page);
    json_number(&j, "pages", sqlite && size > DAX_PAGE_BYTES ? size / DAX_PAGE_BYTES : 1);
    json_array_open(&j, "owners");
    for (uint32_t i = 0; i < count; i++) {
        struct owner o;
        uint64_t bytes = size ? size : DAX_PAGE_BYTES;
        owner_of_sqlite_page(map, first + i, &o);
        bool sure = size || (sqlite ? page == 1 : true);
        uint64_t offset = size ? (first + i - 1) * size : sqlite ? 0 : page * DAX_PAGE_BYTES;
        owner_write(&j, &o, sure && owner_readable(c, offset, bytes));
    }
    json_array_close(&j);
    json_object_close(&j);
    json_result(ctx, &j);
}

/* The page number. False: there is none, and the answer has been given. */
static bool owner_argument(sqlite3_context *ctx, sqlite3_value *value, uint64_t *page_out)
{
    const struct owner_numbers *n = sqlite3_user_data(ctx);
    int type = sqlite3_value_numeric_type(value);
    sqlite3_int64 page = sqlite3_value_int64(value);
    if (type == SQLITE_NULL)
        return false;
    if (type != SQLITE_INTEGER || page < (n->sqlite ? 1 : 0) || page > (INT64_MAX >> 16)) {
        owner_error(ctx, SQLITE_ERROR,
                    sqlite3_mprintf("%s is no page number; pages are counted from %d",
                                    sqlite3_value_text(value), n->sqlite ? 1 : 0));
        return false;
    }
    *page_out = (uint64_t)page;
    return true;
}

static void owner_function(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    const struct owner_numbers *n = sqlite3_user_data(ctx);
    sqlite3 *db = sqlite3_context_db_handle(ctx);
    const char *name = argc > 1 ? (const char *)sqlite3_value_text(argv[1]) : NULL;
    uint64_t page;
    char *schema, *why;
    if (!owner_argument(ctx, argv[0], &page))
        return;
    struct conn *c = schema_find(db, name, &schema, &why);
    struct owner_map *map = NULL;
    int rc = SQLITE_ERROR;
    if (c)
        rc = owner_map_of_schema(db, schema, &map, &why);
    if (rc == SQLITE_OK)
        owner_answer(ctx, map, c, schema, page, n->sqlite);
    else
        owner_error(ctx, rc, why);
    owner_map_release(map);
    sqlite3_free(schema);
}

int owner_functions_register(sqlite3 *db)
{
    const struct owner_numbers *const both[] = {&owner_engine, &owner_sqlite};
    int rc = SQLITE_OK;
    for (int i = 0; i < 4 && rc == SQLITE_OK; i++)
        rc = sqlite3_create_function(db, both[i / 2]->function, i % 2 + 1, SQLITE_UTF8,
                                     (void *)(uintptr_t)both[i / 2], owner_function, NULL, NULL);
    return rc;
}
