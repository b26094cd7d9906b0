/* repair_answer.c: what dax_repair answers: a JSON array with one object for each error.
 *
 * The members and their order are part of the interface.
 */
#include <string.h>
#include <strings.h>

#include "vfs/json.h"
#include "vfs/repair.h"

static void answer_page(struct json *j, const struct repair *r, uint64_t page)
{
    struct owner o;
    owner_of_sqlite_page(r->owners, page, &o);
    json_object_open(j, NULL);
    json_number_or_null(j, "page", page);
    json_text(j, "type", o.type);
    json_text(j, "name", o.name);
    json_text(j, "virtual_table", o.virtual_table);
    json_text(j, "role", o.role);
    json_object_close(j);
}

/* "-9223372036854775808" is no number to json_number. */
static void answer_rowid(struct json *j, const char *name, bool known, int64_t rowid)
{
    if (!known) {
        json_null(j, name);
        return;
    }
    sqlite3_str_appendf(j->out, "%s\"%s\":%lld", j->first ? "" : ",", name, (long long)rowid);
    j->first = false;
}

static void answer_loss(struct json *j, const struct repair *r, const struct repair_loss *loss)
{
    if (loss->pages == 0) {
        json_null(j, "loss");
        return;
    }
    json_object_open(j, "loss");
    json_number(j, "rows", loss->rows);
    json_number(j, "rows_most", loss->rows_most);
    answer_rowid(j, "rowid_from", loss->has_from, loss->from);
    answer_rowid(j, "rowid_to", loss->has_to, loss->to);
    json_text_or_null(j, "key_after", loss->key_after);
    json_text_or_null(j, "key_before", loss->key_before);
    if (loss->entries && r->lost_objects)
        json_text(j, "objects",
                  r->lost_objects[0] ? r->lost_objects : "their names were on this page");
    json_object_close(j);
}

/* A bad page's entry, in the engine's numbers. */
static bool answer_entry_page(const struct repair *r, uint32_t page, uint64_t *out)
{
    if (!r->bad[page] || r->bad[page] == REPAIR_BAD_ALONE)
        return false;
    *out = r->entries[r->bad[page] - 1].media.page;
    return true;
}

/* The page for which allow-loss would help this entry. */
static bool answer_lossy_page(const struct repair *r, const struct repair_entry *e, uint64_t *out)
{
    bool loses = false;
    *out = e->media.page;
    for (uint32_t k = 0; r->map && k < e->count; k++) {
        uint64_t p = e->first + k;
        const struct repair_tree *t =
            p <= r->map->pages ? repair_tree_of(r, walk_root_of(r->map, (uint32_t)p)) : NULL;
        if (!t && p <= r->map->pages && walk_role(r->map, (uint32_t)p) == WALK_NONE)
            for (uint32_t i = 0; i < r->tree_count; i++)
                t = r->trees[i].adopts ? &r->trees[i] : t;
        if (t && t->means == MEANS_NONE)
            return false;
        if (t && t->needs) {
            const struct repair_tree *table = repair_tree_of(r, walk_root_of(r->map, t->needs));
            if (!table || table->means == MEANS_NONE)
                return false;
            (void)answer_entry_page(r, t->needs, out);
            loses = true;
        }
        loses |= t && (t->loses || t->gives_up);
    }
    return loses;
}

static void answer_call(struct json *j, const struct repair *r, const struct repair_entry *e)
{
    uint64_t page;
    bool can =
        e->done == REPAIR_NOTHING && e->media.part == MEDIA_BASE && answer_lossy_page(r, e, &page);
    char *text = NULL;
    if (can && sqlite3_stricmp(r->schema, "main") == 0)
        text = sqlite3_mprintf("SELECT dax_repair(%lld, 'allow-loss')", (sqlite3_int64)page);
    else if (can)
        text = sqlite3_mprintf("SELECT dax_repair(%lld, 'allow-loss', %Q)", (sqlite3_int64)page,
                               r->schema);
    json_text(j, "call", text);
    sqlite3_free(text);
}

/* FTS5 needs some rows of its shadow tables before it takes any command: those of an empty index, and the
 * version of its format. */
static char *answer_fts5(const char *name, const char *shadow)
{
    const char *suffix = strlen(shadow) > strlen(name) ? shadow + strlen(name) : "";
    char *first = NULL, *all;
    if (strcasecmp(suffix, "_data") == 0)
        first = sqlite3_mprintf("INSERT OR IGNORE INTO \"%w\"(id, block)"
                                " VALUES(1, X''), (10, X'00000000000000'); ",
                                shadow);
    else if (strcasecmp(suffix, "_config") == 0)
        first =
            sqlite3_mprintf("INSERT OR IGNORE INTO \"%w\"(k, v) VALUES('version', 4); ", shadow);
    all = sqlite3_mprintf("%sINSERT INTO \"%w\"(\"%w\") VALUES('rebuild')", first ? first : "",
                          name, name);
    sqlite3_free(first);
    return all;
}

/* A virtual table whose shadow table has lost rows does not know of it. */
static char *answer_advice(const struct repair *r, const struct repair_entry *e)
{
    const char *name = NULL, *shadow = NULL, *module = "";
    for (uint32_t k = 0; r->map && k < e->count && !name && e->loss.pages; k++) {
        struct owner o;
        owner_of_sqlite_page(r->owners, e->first + k, &o);
        name = o.virtual_table;
        shadow = o.table;
    }
    if (!name || !shadow)
        return NULL;
    for (uint32_t i = 0; i < r->map->object_count; i++)
        if (r->map->objects[i].module && strcasecmp(r->map->objects[i].name, name) == 0)
            module = r->map->objects[i].module;
    if (strcasecmp(module, "fts5") == 0)
        return answer_fts5(name, shadow);
    if (strncasecmp(module, "fts", 3) == 0)
        return sqlite3_mprintf("INSERT INTO \"%w\"(\"%w\") VALUES('rebuild')", name, name);
    if (strncasecmp(module, "rtree", 5) == 0 || strcasecmp(module, "geopoly") == 0)
        return sqlite3_mprintf("SELECT rtreecheck(%Q, %Q)", r->schema, name);
    return sqlite3_mprintf("-- check the virtual table \"%w\" (%s)", name, module);
}

static void answer_entry(struct json *j, const struct repair *r, const struct repair_entry *e)
{
    static const char *const done[] = {[REPAIR_NOTHING] = "nothing",
                                       [REPAIR_REPAIRED] = "repaired",
                                       [REPAIR_CLEARED] = "cleared",
                                       [REPAIR_LOST] = "lost"};
    json_object_open(j, NULL);
    json_number(j, "id", e->media.id);
    json_text(j, "part", media_part_name((enum media_part)e->media.part));
    json_number(j, "page", e->media.page);
    json_array_open(j, "owners");
    if (r->owners && e->count)
        for (uint32_t k = 0; k < e->count; k++)
            answer_page(j, r, e->first + k);
    else if (e->media.named) {
        json_object_open(j, NULL);
        json_null(j, "page");
        json_text_or_null(j, "type", e->media.type);
        json_text_or_null(j, "name", e->media.name);
        json_null(j, "virtual_table");
        json_text_or_null(j, "role", e->media.role);
        json_object_close(j);
    }
    json_array_close(j);
    json_text(j, "done", done[e->done]);
    json_text_or_null(j, "how", e->how);
    answer_loss(j, r, &e->loss);
    answer_call(j, r, e);
    char *advice = answer_advice(r, e);
    json_text(j, "then", advice);
    sqlite3_free(advice);
    json_object_close(j);
}

void repair_answer(sqlite3_context *ctx, struct repair *r)
{
    struct json j = {sqlite3_str_new(r->user), true};
    json_array_open(&j, NULL);
    for (uint32_t i = 0; i < r->entry_count; i++)
        if (r->entries[i].asked || r->entries[i].chosen)
            answer_entry(&j, r, &r->entries[i]);
    json_array_close(&j);
    json_result(ctx, &j);
}
