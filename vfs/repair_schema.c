/* repair_schema.c: sqlite_schema with a bad page beyond page 1 goes on with the entries that can be read.
 *
 * These are read by hand, and its tree is emptied; SQLite then inserts them again, with their rowids. What
 * no entry names any more becomes free: the trees of objects whose entries are lost. With the entry of a
 * table go those of its indexes and triggers, without which it SQLite takes no schema. The index that SQLite
 * itself makes for a UNIQUE or PRIMARY KEY is made anew where only its entry is lost, sqlite_sequence
 * likewise; which there must be, a database in memory with the same CREATE statements says.
 *
 * Refused while another bad page hides what hangs below it: its pages would become free as well.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "vfs/repair.h"

#define PAGE_ONE_TREE 100u
#define HEADER_LARGEST_ROOT 52u
#define LEAF_TABLE 0x0du
/* A row that is longer was not made by SQLite's limits of a statement. */
#define SCHEMA_ROW_MAX (UINT32_C(1) << 30)

/* --- reading entries -------------------------------------------------------------------------- */

static void schema_row_free(struct repair_schema_row *row)
{
    free(row->type);
    free(row->name);
    free(row->table);
    free(row->sql);
}

void repair_schema_free(struct repair *r)
{
    for (uint32_t i = 0; i < r->schema_count; i++)
        schema_row_free(&r->schema_rows[i]);
    free(r->schema_rows);
    free(r->lost_objects);
}

/* The whole payload of a cell, malloc'ed; NULL: a piece of it cannot be read, or no memory. */
static uint8_t *schema_payload(struct repair *r, const uint8_t *d, const struct dbformat_ref *ref)
{
    uint64_t have = ref->local_bytes, each = r->map->header.usable - 4;
    uint32_t page = ref->overflow, broken;
    if (ref->payload > SCHEMA_ROW_MAX || (ref->overflow_bytes && !repair_chain(r, ref, 0, &broken)))
        return NULL;
    uint8_t *out = malloc(ref->payload + 1), *link = malloc(r->map->header.page_size);
    if (out && link) {
        memcpy(out, d + ref->local_at, ref->local_bytes);
        while (have < ref->payload && repair_load(r, page, link, r->map->header.page_size)) {
            uint64_t n = ref->payload - have < each ? ref->payload - have : each;
            memcpy(out + have, link + 4, n);
            have += n;
            page = dbformat_u32(link);
        }
    }
    if (!out || !link)
        repair_fail(r, SQLITE_NOMEM, "no memory");
    free(link);
    if (out && have == ref->payload)
        return out;
    free(out);
    return NULL;
}

/* False: it is no entry. */
static bool schema_decode(struct repair *r, const uint8_t *payload, uint32_t bytes,
                          struct repair_schema_row *row)
{
    struct dbformat_value v[SCHEMA_COLUMNS];
    enum dbformat_encoding encoding = r->map->header.encoding;
    if (!dbformat_record(payload, bytes, v, SCHEMA_COLUMNS))
        return false;
    for (unsigned i = 0; i < SCHEMA_COLUMNS; i++)
        if (!v[i].whole)
            return false;
    row->type = dbformat_text(&v[SCHEMA_TYPE], encoding);
    row->name = dbformat_text(&v[SCHEMA_NAME], encoding);
    row->table = dbformat_text(&v[SCHEMA_TABLE], encoding);
    row->sql =
        v[SCHEMA_SQL].storage == STORAGE_TEXT ? dbformat_text(&v[SCHEMA_SQL], encoding) : NULL;
    row->root = v[SCHEMA_ROOT].number;
    return row->type && row->name && row->table;
}

static void schema_add(struct repair *r, const struct repair_schema_row *row)
{
    if ((r->schema_count & (r->schema_count - 1)) == 0) { /* room is a power of two */
        size_t room = r->schema_count ? (size_t)r->schema_count * 2 : 1;
        struct repair_schema_row *grown = realloc(r->schema_rows, room * sizeof *grown);
        if (!grown) {
            repair_fail(r, SQLITE_NOMEM, "no memory");
            return;
        }
        r->schema_rows = grown;
    }
    r->schema_rows[r->schema_count++] = *row;
}

static void schema_leaf(struct repair *r, struct repair_tree *t, uint32_t page, const uint8_t *d)
{
    const struct dbformat_header *h = &r->map->header;
    uint32_t at = page == 1 ? PAGE_ONE_TREE : 0;
    if (!dbformat_tree_page(h, page, d, true, r->tree) || !r->tree->leaf || r->tree->damaged)
        return;
    uint32_t count = r->tree->count;
    t->leaves_seen++;
    t->rows_seen += count;
    for (uint32_t i = 0; i < count && r->code == SQLITE_OK; i++) {
        const struct dbformat_ref ref = r->tree->refs[i];
        struct repair_schema_row row = {0};
        uint32_t cell = dbformat_u16(d + at + 8 + 2 * i);
        uint64_t payload_bytes, rowid = 0;
        unsigned n = dbformat_varint(d + cell, h->usable - cell, &payload_bytes);
        (void)dbformat_varint(d + cell + n, h->usable - cell - n, &rowid);
        row.rowid = (int64_t)rowid;
        uint8_t *payload = schema_payload(r, d, &ref);
        if (payload && schema_decode(r, payload, (uint32_t)ref.payload, &row)) {
            schema_add(r, &row);
        } else {
            schema_row_free(&row);
            t->rows_lost++;
        }
        free(payload);
    }
}

/* --- what goes with what is lost --------------------------------------------------------------- */

static bool schema_has_table(const struct repair *r, const char *name)
{
    for (uint32_t i = 0; i < r->schema_count; i++) {
        const struct repair_schema_row *row = &r->schema_rows[i];
        bool holds = strcasecmp(row->type, "table") == 0 || strcasecmp(row->type, "view") == 0;
        if (holds && strcasecmp(row->name, name) == 0)
            return true;
    }
    return strcasecmp(name, "sqlite_schema") == 0 || strcasecmp(name, "sqlite_master") == 0;
}

bool repair_schema_names(const struct repair *r, uint32_t root)
{
    for (uint32_t i = 0; i < r->schema_count; i++)
        if (r->schema_rows[i].root == root)
            return true;
    return false;
}

static void schema_say(sqlite3_str *lost, const char *type, const char *name)
{
    sqlite3_str_appendf(lost, "%s%s \"%s\"", sqlite3_str_length(lost) ? ", " : "", type, name);
}

/* Indexes and triggers of tables that are gone. */
static void schema_drop_dependents(struct repair *r, sqlite3_str *lost)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->schema_count; i++) {
        struct repair_schema_row row = r->schema_rows[i];
        bool depends = strcasecmp(row.type, "index") == 0 || strcasecmp(row.type, "trigger") == 0;
        r->schema_rows[i].dropped = depends && !schema_has_table(r, row.table);
    }
    for (uint32_t i = 0; i < r->schema_count; i++) {
        struct repair_schema_row row = r->schema_rows[i];
        if (!row.dropped) {
            r->schema_rows[kept++] = row;
            continue;
        }
        char *of =
            sqlite3_mprintf("%s (of table \"%s\", whose entry is lost)", row.name, row.table);
        schema_say(lost, row.type, of ? of : row.name);
        sqlite3_free(of);
        schema_row_free(&row);
    }
    r->schema_count = kept;
}

/* Names that the map knows. */
static void schema_name_lost(struct repair *r, sqlite3_str *lost)
{
    for (uint32_t i = 0; i < r->map->object_count; i++) {
        const struct walk_object *o = &r->map->objects[i];
        bool there = o->root == 1;
        for (uint32_t k = 0; k < r->schema_count; k++)
            there |= strcasecmp(r->schema_rows[k].name, o->name) == 0;
        if (!there)
            schema_say(lost, o->module ? "virtual table" : o->index ? "index" : "table", o->name);
    }
}

/* Rows of trees that no entry names any more: of tables, as far as leaves can be read. */
static void schema_count_rows(struct repair *r, struct repair_tree *t)
{
    for (uint32_t p = 2; p <= r->map->pages && r->code == SQLITE_OK; p++) {
        uint8_t head[5];
        enum walk_role role = walk_role(r->map, p);
        uint32_t root = walk_root_of(r->map, p);
        bool gone = role == WALK_NONE || (root > 1 && !repair_schema_names(r, root));
        if (gone && !walk_is_overflow(role) && !r->bad[p] && repair_load(r, p, head, sizeof head) &&
            head[0] == LEAF_TABLE)
            t->given_up += dbformat_u16(head + 3);
    }
}

void repair_schema_scan(struct repair *r, struct repair_tree *t)
{
    uint8_t *d = malloc(repair_page_size(r));
    for (uint32_t p = 2; p <= r->map->pages; p++)
        if (repair_is_bad_hole(r, p) && walk_root_of(r->map, p) != 1 &&
            walk_role(r->map, p) != WALK_TRUNK && t->means) {
            t->means = MEANS_NONE;
            snprintf(
                t->why, sizeof t->why,
                "a page of sqlite_schema, and page %u, below which others hang, cannot be read: "
                "restore a backup, or use .recover",
                p);
        }
    for (uint32_t p = 1; d && t->means && p <= r->map->pages && r->code == SQLITE_OK; p++) {
        enum walk_role role = walk_role(r->map, p);
        bool leaf = role == WALK_LEAF || role == WALK_ROOT_LEAF;
        if (leaf && !r->bad[p] && (p == 1 || walk_root_of(r->map, p) == 1) &&
            repair_load(r, p, d, repair_page_size(r)))
            schema_leaf(r, t, p, d);
    }
    if (!d)
        repair_fail(r, SQLITE_NOMEM, "no memory");
    free(d);
    if (r->code != SQLITE_OK || !t->means)
        return;
    sqlite3_str *lost = sqlite3_str_new(NULL);
    schema_name_lost(r, lost);
    schema_drop_dependents(r, lost);
    char *text = sqlite3_str_finish(lost);
    r->lost_objects = strdup(text ? text : "");
    sqlite3_free(text);
    schema_count_rows(r, t);
}

/* --- the pages -------------------------------------------------------------------------------- */

void repair_schema_apply(struct repair *r)
{
    const struct walk_map *m = r->map;
    for (uint32_t p = 2; p <= m->pages; p++) {
        enum walk_role role = walk_role(m, p);
        uint32_t root = walk_is_tree(role) || walk_is_overflow(role) ? walk_root_of(m, p) : 0;
        if (root == 1 || (root && !repair_schema_names(r, root)))
            r->fate[p] = FATE_FREE;
    }
}

void repair_schema_page_one(const struct repair *r, uint8_t *d)
{
    const struct dbformat_header *h = &r->map->header;
    int64_t largest = 1;
    memset(d + PAGE_ONE_TREE, 0, h->page_size - PAGE_ONE_TREE);
    d[PAGE_ONE_TREE] = LEAF_TABLE;
    d[PAGE_ONE_TREE + 5] = (uint8_t)(h->usable >> 8); /* 65536 is 0 */
    d[PAGE_ONE_TREE + 6] = (uint8_t)h->usable;
    for (uint32_t i = 0; i < r->schema_count; i++)
        if (r->schema_rows[i].root > largest)
            largest = r->schema_rows[i].root;
    for (int i = 3; h->pointer_map && i >= 0; i--, largest >>= 8)
        d[HEADER_LARGEST_ROOT + (unsigned)i] = (uint8_t)largest;
}

/* --- by SQLite -------------------------------------------------------------------------------- */

static void schema_insert(struct repair *r)
{
    static const char sql[] =
        "INSERT INTO main.sqlite_master(rowid, type, name, tbl_name, rootpage,"
        " sql) VALUES(?, ?, ?, ?, ?, ?)";
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(r->db, sql, -1, &st, NULL);
    for (uint32_t i = 0; i < r->schema_count && rc == SQLITE_OK; i++) {
        const struct repair_schema_row *row = &r->schema_rows[i];
        sqlite3_bind_int64(st, 1, row->rowid);
        sqlite3_bind_text(st, 2, row->type, -1, SQLITE_STATIC);
        sqlite3_bind_text(st, 3, row->name, -1, SQLITE_STATIC);
        sqlite3_bind_text(st, 4, row->table, -1, SQLITE_STATIC);
        sqlite3_bind_int64(st, 5, row->root);
        sqlite3_bind_text(st, 6, row->sql, -1, SQLITE_STATIC);
        sqlite3_step(st);
        rc = sqlite3_reset(st);
    }
    if (rc != SQLITE_OK)
        repair_fail(r, rc, "sqlite_schema: %s", sqlite3_errmsg(r->db));
    sqlite3_finalize(st);
}

static bool schema_has(const struct repair *r, const char *name)
{
    for (uint32_t i = 0; i < r->schema_count; i++)
        if (strcasecmp(r->schema_rows[i].name, name) == 0)
            return true;
    return false;
}

/* An index that SQLite makes by itself: made under another name, and renamed. */
static void schema_make_index(struct repair *r, const char *name, const char *table,
                              const char *columns)
{
    (void)repair_sql(r, "CREATE UNIQUE INDEX main.dax_repair_index ON \"%w\"(%s)", table, columns);
    (void)repair_sql(r, "PRAGMA writable_schema=ON");
    (void)repair_sql(r,
                     "UPDATE main.sqlite_master SET name = %Q, sql = NULL"
                     " WHERE name = 'dax_repair_index'",
                     name);
    (void)repair_sql(r, "PRAGMA writable_schema=RESET");
}

/* What SQLite makes beside the tables that are left. */
static void schema_complete(struct repair *r, sqlite3 *model)
{
    static const char sql[] =
        "SELECT s.name, s.tbl_name, (SELECT group_concat(printf('\"%w\" COLLATE \"%w\"%s', i.name,"
        " i.coll, CASE WHEN i.desc THEN ' DESC' ELSE '' END)) FROM pragma_index_xinfo(s.name) AS i"
        " WHERE i.key) FROM sqlite_master AS s WHERE (s.type = 'index' AND s.sql IS NULL)"
        " OR s.name = 'sqlite_sequence'";
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(model, sql, -1, &st, NULL);
    while (rc == SQLITE_OK && r->code == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(st, 0);
        if (schema_has(r, name))
            continue;
        if (sqlite3_column_type(st, 2) == SQLITE_NULL) {
            (void)repair_sql(
                r, "CREATE TABLE main.dax_repair_table(a INTEGER PRIMARY KEY AUTOINCREMENT)");
            (void)repair_sql(r, "DROP TABLE main.dax_repair_table");
        } else {
            schema_make_index(r, name, (const char *)sqlite3_column_text(st, 1),
                              (const char *)sqlite3_column_text(st, 2));
        }
    }
    if (sqlite3_finalize(st) != SQLITE_OK || rc != SQLITE_OK)
        repair_fail(r, SQLITE_ERROR, "sqlite_schema: %s", sqlite3_errmsg(model));
}

static void schema_model(struct repair *r)
{
    sqlite3 *model = NULL;
    if (sqlite3_open_v2(":memory:", &model, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
        repair_fail(r, SQLITE_NOMEM, "no memory");
    else
        sqlite3_collation_needed(model, r, repair_borrow_collation);
    for (uint32_t i = 0; i < r->schema_count && r->code == SQLITE_OK; i++) {
        const struct repair_schema_row *row = &r->schema_rows[i];
        bool table = strcasecmp(row->type, "table") == 0 && row->root > 0 && row->sql &&
                     strncasecmp(row->name, "sqlite_", 7) != 0;
        if (table && sqlite3_exec(model, row->sql, NULL, NULL, NULL) != SQLITE_OK)
            repair_fail(r, SQLITE_ERROR, "table \"%.80s\": %s", row->name, sqlite3_errmsg(model));
    }
    if (r->code == SQLITE_OK)
        schema_complete(r, model);
    sqlite3_close(model);
}

void repair_schema_write(struct repair *r)
{
    sqlite3_stmt *st = NULL;
    int version = 0;
    (void)repair_sql(r, "PRAGMA writable_schema=ON");
    if (r->code == SQLITE_OK)
        schema_insert(r);
    (void)repair_sql(r, "PRAGMA writable_schema=RESET");
    if (r->code == SQLITE_OK)
        schema_model(r);
    if (r->code == SQLITE_OK &&
        sqlite3_prepare_v2(r->db, "PRAGMA main.schema_version", -1, &st, NULL) == SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW)
        version = sqlite3_column_int(st, 0);
    sqlite3_finalize(st);
    /* Other connections have to read it again. */
    (void)repair_sql(r, "PRAGMA main.schema_version=%d", version + 1);
}
