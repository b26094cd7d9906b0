/* repair_keys.c: a table WITHOUT ROWID keeps the rows that can be read: looking for them, and what is
 * lost.
 *
 * Its b-tree is that of an index: interior pages have rows, too, each between two of their children. So
 * every bad page costs rows. What is left is a sequence of *items* in the order of the key: a whole leaf,
 * or one loose cell (of an interior page, or of a leaf that has lost a row). repair_keys_build.c makes
 * pages of it.
 *
 * Below an interior page that is bad, the order of what hangs there is not known, and nobody here can
 * compare keys. Then the sequence becomes a sound tree in a wrong order: SQLite, which scans without
 * comparing, copies the rows out and inserts them again (repair_sort in repair.c).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vfs/repair.h"

#define LEAF_HEADER 8u
#define INTERIOR_HEADER 12u
#define INTERIOR_INDEX 0x02u
#define LEAF_INDEX 0x0au
/* The least that a cell and its pointer take. */
#define LEAF_CELL_LEAST 6u
#define INTERIOR_CELL_LEAST 8u
/* Of a key, so many columns are said, and of each so many characters. */
#define KEY_COLUMNS 4u
#define KEY_CHARACTERS 40

static void keys_refuse(struct repair_tree *t, uint32_t page, const char *what)
{
    t->means = MEANS_NONE;
    t->chosen = false;
    snprintf(t->why, sizeof t->why, "page %u %s: restore a backup, or use .recover", page, what);
}

bool repair_items_add(struct repair *r, struct repair_items *list, struct repair_item item)
{
    if (list->count == list->room) {
        uint32_t room = list->room ? list->room * 2 : 64;
        struct repair_item *grown = realloc(list->item, (size_t)room * sizeof *grown);
        if (!grown)
            return repair_fail(r, SQLITE_NOMEM, "no memory");
        list->item = grown;
        list->room = room;
    }
    list->item[list->count++] = item;
    return true;
}

/* Chains of the page's cells are to be followed: some are broken, or nobody has followed them. */
static bool keys_has_chains(const struct repair *r, uint32_t page)
{
    return (r->below[page] & BELOW_BAD_OVERFLOW) || walk_role(r->map, page) == WALK_NONE;
}

/* Cell i of the page in d. */
void repair_key_cell(const struct repair *r, const uint8_t *d, uint32_t i, struct dbformat_ref *out)
{
    bool leaf = d[0] == LEAF_INDEX;
    uint32_t at = dbformat_u16(d + (leaf ? LEAF_HEADER : INTERIOR_HEADER) + 2 * i);
    if (!dbformat_cell(&r->map->header, d, at, leaf, KIND_INDEX, out))
        memset(out, 0, sizeof *out); /* the page was looked at: it does not happen */
}

static bool keys_cell_whole(struct repair *r, const uint8_t *d, uint32_t i)
{
    struct dbformat_ref ref;
    uint32_t broken;
    repair_key_cell(r, d, i, &ref);
    return !ref.overflow_bytes || repair_chain(r, &ref, 0, &broken);
}

/* --- looking ---------------------------------------------------------------------------------- */

static void keys_visit(struct repair *r, struct repair_tree *t, uint32_t page, unsigned depth);

/* Cell i of a page that is not kept whole. */
static void keys_loose(struct repair *r, struct repair_tree *t, uint32_t page, const uint8_t *d,
                       uint32_t i)
{
    if (keys_has_chains(r, page) && !keys_cell_whole(r, d, i))
        t->rows_lost++;
    else
        (void)repair_items_add(r, &t->items, (struct repair_item){page, i});
}

static void keys_leaf(struct repair *r, struct repair_tree *t, uint32_t page, const uint8_t *d)
{
    uint32_t count = dbformat_u16(d + 3);
    bool whole = true;
    t->leaves_seen++;
    t->rows_seen += count;
    for (uint32_t i = 0; i < count && keys_has_chains(r, page) && whole; i++)
        whole = keys_cell_whole(r, d, i);
    if (whole && count) {
        (void)repair_items_add(r, &t->items, (struct repair_item){page, ITEM_LEAF});
        return;
    }
    for (uint32_t i = 0; i < count && r->code == SQLITE_OK; i++)
        keys_loose(r, t, page, d, i);
}

static void keys_interior(struct repair *r, struct repair_tree *t, uint32_t page, const uint8_t *d,
                          unsigned depth)
{
    uint32_t count = dbformat_u16(d + 3);
    bool orphan = walk_role(r->map, page) == WALK_NONE; /* its children come by themselves */
    for (uint32_t i = 0; i <= count && r->code == SQLITE_OK && t->means; i++) {
        uint32_t at = i < count ? dbformat_u16(d + INTERIOR_HEADER + 2 * i) : 8;
        if (!orphan)
            keys_visit(r, t, dbformat_u32(d + at), depth + 1);
        if (i < count && r->code == SQLITE_OK)
            keys_loose(r, t, page, d, i);
    }
}

/* What is below it, as far as the map knows, in an order that nobody knows. */
static void keys_bad(struct repair *r, struct repair_tree *t, uint32_t page, unsigned depth)
{
    const struct walk_map *m = r->map;
    bool between = page != t->root && !r->bad[m->parent[page]];
    (void)repair_items_add(r, &t->gaps,
                           (struct repair_item){page, between ? t->items.count : ITEM_LEAF});
    if (!(r->below[page] & BELOW_TREE))
        return;
    t->unordered = true;
    for (uint32_t p = 2; p <= m->pages && r->code == SQLITE_OK && t->means; p++)
        if (m->parent[p] == page && walk_is_tree(walk_role(m, p)) && !walk_is_root(walk_role(m, p)))
            keys_visit(r, t, p, depth + 1);
}

static void keys_visit(struct repair *r, struct repair_tree *t, uint32_t page, unsigned depth)
{
    const struct dbformat_header *h = &r->map->header;
    if (page < 2 || page > r->map->pages || depth > DBFORMAT_DEPTH_MAX) {
        keys_refuse(t, page, "is no page of the table");
        return;
    }
    if (r->bad[page]) {
        keys_bad(r, t, page, depth);
        return;
    }
    if (interrupt_asked(&r->interrupt)) {
        repair_fail(r, SQLITE_INTERRUPT, "interrupted");
        return;
    }
    uint8_t *d = malloc(h->page_size);
    if (!d)
        repair_fail(r, SQLITE_NOMEM, "no memory");
    else if (!repair_load(r, page, d, h->page_size))
        keys_refuse(t, page, "cannot be read");
    else if (!dbformat_tree_page(h, page, d, true, r->tree) || r->tree->kind != KIND_INDEX ||
             r->tree->damaged)
        keys_refuse(t, page, "is no page of a table WITHOUT ROWID");
    else if (r->tree->leaf)
        keys_leaf(r, t, page, d);
    else
        keys_interior(r, t, page, d, depth);
    free(d);
}

void repair_keys_scan(struct repair *r, struct repair_tree *t)
{
    uint8_t type;
    keys_visit(r, t, t->root, 0);
    t->in_order = t->items.count;
    for (uint32_t p = 2; t->adopts && p <= r->map->pages && r->code == SQLITE_OK && t->means; p++) {
        if (walk_role(r->map, p) != WALK_NONE || r->bad[p] || !repair_load(r, p, &type, 1) ||
            (type != LEAF_INDEX && type != INTERIOR_INDEX))
            continue;
        t->unordered = true;
        keys_visit(r, t, p, 0);
    }
}

/* --- what is lost ----------------------------------------------------------------------------- */

static void keys_value(const struct repair *r, sqlite3_str *out, const struct dbformat_value *v)
{
    const char *rest = v->whole ? "" : "...";
    char *text = NULL;
    switch (v->storage) {
    case STORAGE_NULL: sqlite3_str_appendall(out, "NULL"); break;
    case STORAGE_INTEGER: sqlite3_str_appendf(out, "%lld", (sqlite3_int64)v->number); break;
    case STORAGE_REAL: sqlite3_str_appendf(out, "%!.15g", v->real); break;
    case STORAGE_BLOB: sqlite3_str_appendf(out, "a blob of %u bytes%s", v->length, rest); break;
    case STORAGE_TEXT:
        text = dbformat_text(v, r->map->header.encoding);
        if (text)
            sqlite3_str_appendf(out, "%!.*Q%s", KEY_CHARACTERS, text,
                                strlen(text) > KEY_CHARACTERS ? "..." : rest);
        free(text);
        break;
    }
}

/* The key of a cell, in the order of the primary key's columns, as SQL would write it; "": not known. */
static void keys_text(struct repair *r, const struct repair_tree *t, struct repair_item item,
                      char *to, size_t max)
{
    struct dbformat_value v[KEY_COLUMNS];
    struct dbformat_ref ref;
    unsigned columns = t->key_columns < KEY_COLUMNS ? t->key_columns : KEY_COLUMNS;
    to[0] = '\0';
    if (item.cell == ITEM_LEAF || !repair_load(r, item.page, r->buf, repair_page_size(r)))
        return;
    repair_key_cell(r, r->buf, item.cell, &ref);
    if (!dbformat_record(r->buf + ref.local_at, ref.local_bytes, v, columns))
        return;
    sqlite3_str *out = sqlite3_str_new(NULL);
    for (unsigned i = 0; i < columns; i++) {
        if (i)
            sqlite3_str_appendall(out, ", ");
        keys_value(r, out, &v[i]);
    }
    if (columns < t->key_columns)
        sqlite3_str_appendall(out, ", ...");
    char *text = sqlite3_str_finish(out);
    sqlite3_snprintf((int)max, to, "%s", text ? text : "");
    sqlite3_free(text);
}

/* Rows of a bad interior page: one less than its children, where these are known. */
static uint64_t keys_interior_rows(const struct repair *r, uint32_t page)
{
    const struct walk_map *m = r->map;
    uint64_t children = 0;
    for (uint32_t p = 2; p <= m->pages; p++)
        children +=
            m->parent[p] == page && walk_is_tree(walk_role(m, p)) && !walk_is_root(walk_role(m, p));
    return children ? children - 1 : 0;
}

void repair_keys_loss(struct repair *r, const struct repair_tree *t, uint32_t page,
                      struct repair_loss *part)
{
    enum walk_role role = walk_role(r->map, page);
    uint32_t usable = r->map->header.usable;
    bool interior =
        role == WALK_INTERIOR || role == WALK_ROOT_INTERIOR || (r->below[page] & BELOW_TREE);
    uint64_t average = t->leaves_seen ? t->rows_seen / t->leaves_seen : 0;
    part->pages = part->rows = part->rows_most = 1;
    if (walk_is_overflow(role))
        return;
    if (interior) {
        part->rows_most = (usable - INTERIOR_HEADER) / INTERIOR_CELL_LEAST;
        part->rows = keys_interior_rows(r, page);
        if (r->below[page] & BELOW_TREE)
            part->rows_most = part->rows;
        else
            part->rows = average && average < part->rows_most ? average : part->rows_most;
        return;
    }
    part->rows_most = (usable - LEAF_HEADER) / LEAF_CELL_LEAST;
    part->rows = average && average < part->rows_most ? average : part->rows_most;
    for (uint32_t i = 0; i < t->gaps.count; i++) {
        uint32_t at = t->gaps.item[i].cell;
        if (t->gaps.item[i].page != page || at == ITEM_LEAF)
            continue;
        if (at > 0)
            keys_text(r, t, t->items.item[at - 1], part->key_after, sizeof part->key_after);
        if (at < t->in_order)
            keys_text(r, t, t->items.item[at], part->key_before, sizeof part->key_before);
    }
}
