/* pages_table.c: the table dax_pages, a look at the state of every page.
 *
 *     SELECT * FROM dax_pages WHERE page BETWEEN 8 AND 15 AND refcount > 0;
 *     SELECT * FROM dax_pages('aux');
 *
 * Eponymous: it is there on every connection, without CREATE VIRTUAL TABLE. A row is read when the
 * query reaches it and shows that moment; rows of one query are not a snapshot.
 *
 * A constraint on page becomes the bounds of the walk. Bounds are only ever too wide (for values
 * that are not integers): SQLite checks every row again.
 *
 * Owners of pages (owner, type, role, virtual_table) are looked up in a map of the whole database,
 * which is made when the first row's is asked for: owner_map.h. It is of one state, the one that the
 * connection reads, for all rows of a scan. Queries that do not name these columns make no map.
 *
 * A cursor keeps the database's name, not its connection: a DETACH can come between two rows.
 */
#include <string.h>

#include "vfs/owner_map.h"
#include "vfs/schema.h"
#include "vfs/vfs.h"

enum pages_column {
    COLUMN_PAGE,
    COLUMN_STATE,
    COLUMN_REFCOUNT,
    COLUMN_VERSIONS,
    COLUMN_FLAGS,
    COLUMN_GENERATION,
    COLUMN_OWNER,
    COLUMN_TYPE,
    COLUMN_ROLE,
    COLUMN_VIRTUAL_TABLE,
    COLUMN_SCHEMA /* hidden; the argument of dax_pages(...) */
};

/* Of these, the ones that need the map of owners. */
#define OWNER_COLUMNS                                                                              \
    ((1ull << COLUMN_OWNER) | (1ull << COLUMN_TYPE) | (1ull << COLUMN_ROLE) |                      \
     (1ull << COLUMN_VIRTUAL_TABLE))

static const char pages_declaration[] =
    "CREATE TABLE dax_pages(page INTEGER, state TEXT, refcount INTEGER, versions INTEGER,"
    " flags TEXT, generation INTEGER, owner TEXT, type TEXT, role TEXT, virtual_table TEXT,"
    " schema TEXT HIDDEN)";

/* Constraints that a walk uses. The bit of each in idxNum is its index; its value in xFilter's
 * arguments comes in this order. */
enum pages_bound {
    BOUND_EQ,
    BOUND_LT,
    BOUND_LE,
    BOUND_GT,
    BOUND_GE,
    BOUND_SCHEMA,
    BOUND_COUNT
};

static const char *const bound_text[BOUND_COUNT] = {"page=?", "page<?",  "page<=?",
                                                    "page>?", "page>=?", "schema=?"};

struct pages_table {
    sqlite3_vtab base;
    sqlite3 *db;
};

struct pages_cursor {
    sqlite3_vtab_cursor base;
    char *schema; /* owned */
    sqlite3_int64 page;
    sqlite3_int64 last; /* of the walk */
    bool eof;
    struct page_info info;    /* of page */
    struct owner_map *owners; /* NULL: not asked for yet */
};

static int pages_connect(sqlite3 *db, void *aux, int argc, const char *const *argv,
                         sqlite3_vtab **table_out, char **err_out)
{
    (void)aux, (void)argc, (void)argv, (void)err_out;
    int rc = sqlite3_declare_vtab(db, pages_declaration);
    if (rc != SQLITE_OK)
        return rc;
    struct pages_table *t = sqlite3_malloc(sizeof *t);
    if (!t)
        return SQLITE_NOMEM;
    memset(t, 0, sizeof *t);
    t->db = db;
    *table_out = &t->base;
    return SQLITE_OK;
}

static int pages_disconnect(sqlite3_vtab *table)
{
    sqlite3_free(table);
    return SQLITE_OK;
}

/* --- planning --------------------------------------------------------------------------------- */

/* The bound that a constraint gives, or BOUND_COUNT. */
static enum pages_bound pages_bound_of(const struct sqlite3_index_constraint *c)
{
    if (c->iColumn == COLUMN_SCHEMA)
        return c->op == SQLITE_INDEX_CONSTRAINT_EQ ? BOUND_SCHEMA : BOUND_COUNT;
    if (c->iColumn != COLUMN_PAGE && c->iColumn != -1) /* -1: rowid, which is the page */
        return BOUND_COUNT;
    switch (c->op) {
    case SQLITE_INDEX_CONSTRAINT_EQ: return BOUND_EQ;
    case SQLITE_INDEX_CONSTRAINT_LT: return BOUND_LT;
    case SQLITE_INDEX_CONSTRAINT_LE: return BOUND_LE;
    case SQLITE_INDEX_CONSTRAINT_GT: return BOUND_GT;
    case SQLITE_INDEX_CONSTRAINT_GE: return BOUND_GE;
    default: return BOUND_COUNT;
    }
}

static void pages_estimate(sqlite3_index_info *info, const int used[BOUND_COUNT])
{
    bool below = used[BOUND_LT] >= 0 || used[BOUND_LE] >= 0;
    bool above = used[BOUND_GT] >= 0 || used[BOUND_GE] >= 0;
    if (used[BOUND_EQ] >= 0) {
        info->estimatedRows = 1;
        info->idxFlags = SQLITE_INDEX_SCAN_UNIQUE;
    } else {
        info->estimatedRows = below && above ? 1000 : below || above ? 100000 : 1000000;
    }
    info->estimatedCost = (double)info->estimatedRows;
}

static int pages_best_index(sqlite3_vtab *table, sqlite3_index_info *info)
{
    (void)table;
    int used[BOUND_COUNT];
    for (int b = 0; b < BOUND_COUNT; b++)
        used[b] = -1;
    for (int i = 0; i < info->nConstraint; i++) {
        enum pages_bound b = pages_bound_of(&info->aConstraint[i]);
        if (b == BOUND_COUNT)
            continue;
        if (info->aConstraint[i].usable)
            used[b] = i;
        else if (b == BOUND_SCHEMA)
            return SQLITE_CONSTRAINT; /* without it the walk would be of another database */
    }
    sqlite3_str *text = sqlite3_str_new(NULL);
    int args = 0;
    for (int b = 0; b < BOUND_COUNT; b++) {
        if (used[b] < 0)
            continue;
        info->idxNum |= 1 << b;
        info->aConstraintUsage[used[b]].argvIndex = ++args;
        info->aConstraintUsage[used[b]].omit = b == BOUND_SCHEMA;
        sqlite3_str_appendf(text, "%s%s", args > 1 ? " " : "", bound_text[b]);
    }
    if (args == 0)
        sqlite3_str_appendall(text, "every page");
    if (info->colUsed & OWNER_COLUMNS) /* for people who read plans */
        sqlite3_str_appendall(text, " with owners");
    info->idxStr = sqlite3_str_finish(text);
    info->needToFreeIdxStr = 1;
    if (!info->idxStr)
        return SQLITE_NOMEM;
    pages_estimate(info, used);
    info->orderByConsumed =
        info->nOrderBy == 1 && !info->aOrderBy[0].desc &&
        (info->aOrderBy[0].iColumn == COLUMN_PAGE || info->aOrderBy[0].iColumn == -1);
    return SQLITE_OK;
}

/* --- walking ---------------------------------------------------------------------------------- */

static int pages_open(sqlite3_vtab *table, sqlite3_vtab_cursor **cursor_out)
{
    (void)table;
    struct pages_cursor *cur = sqlite3_malloc(sizeof *cur);
    if (!cur)
        return SQLITE_NOMEM;
    memset(cur, 0, sizeof *cur);
    cur->eof = true;
    *cursor_out = &cur->base;
    return SQLITE_OK;
}

static int pages_close(sqlite3_vtab_cursor *cursor)
{
    struct pages_cursor *cur = (struct pages_cursor *)cursor;
    owner_map_release(cur->owners);
    sqlite3_free(cur->schema);
    sqlite3_free(cur);
    return SQLITE_OK;
}

/* Make message the table's error text; it is owned by the table from now on. */
static int pages_error(sqlite3_vtab *table, char *message)
{
    sqlite3_free(table->zErrMsg);
    table->zErrMsg = message;
    return message ? SQLITE_ERROR : SQLITE_NOMEM;
}

/* Largest integer <= r (up false) or smallest >= r (up true), clamped to 64 bits. */
static sqlite3_int64 pages_round(double r, bool up)
{
    if (r >= 9223372036854775807.0)
        return INT64_MAX;
    if (r <= -9223372036854775808.0)
        return INT64_MIN;
    sqlite3_int64 i = (sqlite3_int64)r;
    if (up)
        return (double)i < r ? i + 1 : i;
    return (double)i > r ? i - 1 : i;
}

/* Narrow [*first, *last] by one constraint. */
static void pages_narrow(enum pages_bound b, sqlite3_value *value, sqlite3_int64 *first,
                         sqlite3_int64 *last)
{
    sqlite3_int64 low, high; /* the value, rounded up and down */
    switch (sqlite3_value_numeric_type(value)) {
    case SQLITE_NULL: *last = -1; return; /* no comparison with NULL is true */
    case SQLITE_INTEGER: low = high = sqlite3_value_int64(value); break;
    case SQLITE_FLOAT:
        low = pages_round(sqlite3_value_double(value), true);
        high = pages_round(sqlite3_value_double(value), false);
        break;
    default: return; /* text that is no number sorts after every page: SQLite checks the rows */
    }
    bool below = b == BOUND_EQ || b == BOUND_LT || b == BOUND_LE;
    bool above = b == BOUND_EQ || b == BOUND_GT || b == BOUND_GE;
    if (below && high < *last)
        *last = high;
    if (above && low > *first)
        *first = low;
}

/* Load the row of cur->page, or notice the end. */
static int pages_load(struct pages_cursor *cur)
{
    struct pages_table *t = (struct pages_table *)cur->base.pVtab;
    struct conn *c = vfs_conn_of(t->db, cur->schema);
    if (!c)
        return pages_error(&t->base,
                           sqlite3_mprintf("dax_pages: database \"%s\" was detached", cur->schema));
    cur->eof = cur->page > cur->last || (uint64_t)cur->page >= conn_page_count(c);
    if (!cur->eof)
        conn_page_info(c, (uint64_t)cur->page, &cur->info);
    return SQLITE_OK;
}

static int pages_filter(sqlite3_vtab_cursor *cursor, int bounds, const char *text, int argc,
                        sqlite3_value **argv)
{
    (void)text, (void)argc;
    struct pages_cursor *cur = (struct pages_cursor *)cursor;
    struct pages_table *t = (struct pages_table *)cursor->pVtab;
    const char *schema = NULL;
    sqlite3_int64 first = 0, last = INT64_MAX;
    int arg = 0;
    for (int b = 0; b < BOUND_COUNT; b++) {
        if (!(bounds & (1 << b)))
            continue;
        sqlite3_value *value = argv[arg++];
        if (b == BOUND_SCHEMA)
            schema = (const char *)sqlite3_value_text(value);
        else
            pages_narrow((enum pages_bound)b, value, &first, &last);
    }
    cur->eof = true;
    owner_map_release(cur->owners);
    cur->owners = NULL;
    sqlite3_free(cur->schema);
    cur->schema = NULL;
    char *why;
    if (!schema_find(t->db, schema, &cur->schema, &why)) {
        char *message = why ? sqlite3_mprintf("dax_pages: %s", why) : NULL;
        sqlite3_free(why);
        return pages_error(cursor->pVtab, message);
    }
    cur->page = first;
    cur->last = last;
    return pages_load(cur);
}

static int pages_next(sqlite3_vtab_cursor *cursor)
{
    struct pages_cursor *cur = (struct pages_cursor *)cursor;
    cur->page++;
    return pages_load(cur);
}

static int pages_eof(sqlite3_vtab_cursor *cursor)
{
    return ((struct pages_cursor *)cursor)->eof;
}

static const char *pages_flags(const struct page_info *info)
{
    if (info->probed)
        return info->poisoned ? "probed,poisoned" : "probed";
    return info->poisoned ? "poisoned" : "";
}

/* --- owners ------------------------------------------------------------------------------------- */

static const char *pages_owner_text(const struct owner *o, enum pages_column column)
{
    switch (column) {
    case COLUMN_OWNER: return o->name;
    case COLUMN_TYPE: return o->type;
    case COLUMN_ROLE: return o->role;
    default: return o->virtual_table;
    }
}

/* SQLite's pages may be smaller: then each text once, in the order of the pages. */
static int pages_owner_column(struct pages_cursor *cur, sqlite3_context *ctx,
                              enum pages_column column)
{
    struct pages_table *t = (struct pages_table *)cur->base.pVtab;
    if (!cur->owners) {
        char *why;
        int rc = owner_map_of_schema(t->db, cur->schema, &cur->owners, &why);
        if (rc != SQLITE_OK) {
            if (why)
                (void)pages_error(&t->base, sqlite3_mprintf("dax_pages: %s", why));
            sqlite3_free(why);
            return rc;
        }
    }
    const char *texts[DAX_PAGE_BYTES / 512];
    uint64_t first;
    uint32_t count = owner_pages_within(cur->owners, (uint64_t)cur->page, &first), found = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct owner o;
        owner_of_sqlite_page(cur->owners, first + i, &o);
        const char *text = pages_owner_text(&o, column);
        uint32_t k = 0;
        while (text && k < found && strcmp(texts[k], text) != 0)
            k++;
        if (text && k == found)
            texts[found++] = text;
    }
    if (found == 0)
        return SQLITE_OK; /* NULL */
    sqlite3_str *all = sqlite3_str_new(t->db);
    for (uint32_t k = 0; k < found; k++)
        sqlite3_str_appendf(all, "%s%s", k ? ", " : "", texts[k]);
    char *text = sqlite3_str_finish(all);
    if (!text)
        return SQLITE_NOMEM;
    sqlite3_result_text(ctx, text, -1, sqlite3_free);
    return SQLITE_OK;
}

static int pages_column(sqlite3_vtab_cursor *cursor, sqlite3_context *ctx, int column)
{
    struct pages_cursor *cur = (struct pages_cursor *)cursor;
    const struct page_info *info = &cur->info;
    switch ((enum pages_column)column) {
    case COLUMN_OWNER:
    case COLUMN_TYPE:
    case COLUMN_ROLE:
    case COLUMN_VIRTUAL_TABLE: return pages_owner_column(cur, ctx, (enum pages_column)column);
    case COLUMN_PAGE: sqlite3_result_int64(ctx, cur->page); break;
    case COLUMN_STATE:
        sqlite3_result_text(ctx, page_state_name(info->state), -1, SQLITE_STATIC);
        break;
    case COLUMN_REFCOUNT: sqlite3_result_int64(ctx, info->refcount); break;
    case COLUMN_VERSIONS: sqlite3_result_int64(ctx, info->versions); break;
    case COLUMN_FLAGS: sqlite3_result_text(ctx, pages_flags(info), -1, SQLITE_STATIC); break;
    case COLUMN_GENERATION: sqlite3_result_int64(ctx, info->generation); break;
    case COLUMN_SCHEMA: sqlite3_result_text(ctx, cur->schema, -1, SQLITE_TRANSIENT); break;
    }
    return SQLITE_OK;
}

static int pages_rowid(sqlite3_vtab_cursor *cursor, sqlite3_int64 *rowid_out)
{
    *rowid_out = ((const struct pages_cursor *)cursor)->page;
    return SQLITE_OK;
}

int pages_table_register(sqlite3 *db)
{
    static const sqlite3_module module = {
        .xConnect = pages_connect, /* no xCreate: eponymous only */
        .xBestIndex = pages_best_index,
        .xDisconnect = pages_disconnect,
        .xOpen = pages_open,
        .xClose = pages_close,
        .xFilter = pages_filter,
        .xNext = pages_next,
        .xEof = pages_eof,
        .xColumn = pages_column,
        .xRowid = pages_rowid,
    };
    return sqlite3_create_module(db, "dax_pages", &module, NULL);
}
