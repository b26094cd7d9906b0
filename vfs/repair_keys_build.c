/* repair_keys_build.c: from the sequence of leaves and cells that is left of a table WITHOUT ROWID
 * (repair_keys.c) to pages.
 *
 *   1. Between two leaves there has to be exactly one cell, or room for more leaves: cell, leaf, cell.
 *      Where that is not so, the leaf in front is taken apart into cells, until it is.
 *   2. Loose cells between leaves are packed into new leaves.
 *   3. The cells between the leaves go into interior pages, filled from the left.
 *
 * Leaves that are not beside what is lost stay as they are. A cell moves as it is: how much of its
 * payload is on the page is the same for leaves and interior pages of this kind.
 */
#include <stdlib.h>
#include <string.h>

#include "vfs/repair.h"

#define LEAF_HEADER 8u
#define INTERIOR_HEADER 12u
#define INTERIOR_INDEX 0x02u
#define LEAF_INDEX 0x0au

/* --- step 1: a sequence that can be a tree ----------------------------------------------------- */

/* Whole leaves that are marked, by their number in the sequence, become cells. */
static bool keys_take_apart(struct repair *r, struct repair_items *list, const uint8_t *marked)
{
    struct repair_items out = {0};
    for (uint32_t i = 0; i < list->count && r->code == SQLITE_OK; i++) {
        struct repair_item item = list->item[i];
        if (!marked[i]) {
            (void)repair_items_add(r, &out, item);
            continue;
        }
        if (!repair_load(r, item.page, r->buf, repair_page_size(r)))
            repair_fail(r, SQLITE_IOERR_READ, "page %u cannot be read", item.page);
        for (uint32_t k = 0, n = dbformat_u16(r->buf + 3); k < n && r->code == SQLITE_OK; k++)
            (void)repair_items_add(r, &out, (struct repair_item){item.page, k});
    }
    free(list->item);
    *list = out;
    return r->code == SQLITE_OK;
}

/* So many loose cells between two leaves (or beside one, or none): is there a way to arrange them? */
static bool keys_run_fits(uint32_t cells, bool leaf_before, bool leaf_behind)
{
    if (leaf_before && leaf_behind)
        return cells == 1 || cells >= 3;
    if (leaf_before || leaf_behind)
        return cells == 0 || cells >= 2;
    return true;
}

/* Mark leaves that have to be taken apart. False: none. */
static bool keys_mark(const struct repair_items *list, uint8_t *marked)
{
    uint32_t from = 0, leaf = UINT32_MAX;
    bool any = false;
    for (uint32_t i = 0; i <= list->count; i++) {
        bool end = i == list->count;
        if (!end && list->item[i].cell != ITEM_LEAF)
            continue;
        bool before = leaf != UINT32_MAX;
        if (!keys_run_fits(i - from, before, !end)) {
            marked[before ? leaf : i] = 1;
            any = true;
        }
        if (end)
            break;
        leaf = i;
        from = i + 1;
    }
    if (list->count == 1 && leaf == 0) /* it becomes the root */
        marked[0] = any = true;
    return any;
}

static void keys_settle(struct repair *r, struct repair_items *list)
{
    for (bool any = true; any && r->code == SQLITE_OK && list->count;) {
        uint8_t *marked = calloc(list->count, 1);
        if (!marked) {
            repair_fail(r, SQLITE_NOMEM, "no memory");
            return;
        }
        any = keys_mark(list, marked);
        if (any)
            (void)keys_take_apart(r, list, marked);
        free(marked);
    }
}

/* --- steps 2 and 3: pages ---------------------------------------------------------------------- */

/* Pages of one level; cell i is between the pages i and i + 1. */
struct keys_level {
    uint32_t *page;           /* owned */
    struct repair_item *cell; /* owned */
    uint32_t count;
};

struct keys_build {
    struct repair *r;
    struct repair_tree *t;
    uint8_t *source; /* owned: page_size bytes of source_page */
    uint32_t source_page;
    uint32_t from; /* where to look for the next page */
    struct keys_level level, above;
};

/* The bytes of a cell, without a child. */
static const uint8_t *keys_bytes(struct keys_build *b, struct repair_item item,
                                 uint32_t *length_out, struct dbformat_ref *ref)
{
    struct repair *r = b->r;
    if (b->source_page != item.page && !repair_load(r, item.page, b->source, repair_page_size(r)))
        repair_fail(r, SQLITE_IOERR_READ, "page %u cannot be read", item.page);
    b->source_page = item.page;
    bool leaf = b->source[0] == LEAF_INDEX;
    uint32_t at = dbformat_u16(b->source + (leaf ? LEAF_HEADER : INTERIOR_HEADER) + 2 * item.cell);
    at += leaf ? 0 : 4;
    repair_key_cell(r, b->source, item.cell, ref);
    *length_out = ref->local_at + ref->local_bytes + (ref->overflow_bytes ? 4 : 0) - at;
    return b->source + at;
}

static void keys_add_cell(struct keys_build *b, struct repair_page *p, uint32_t page,
                          struct repair_item item, uint32_t child)
{
    uint32_t length, broken;
    struct dbformat_ref ref;
    const uint8_t *bytes = keys_bytes(b, item, &length, &ref);
    if (b->r->code == SQLITE_OK)
        repair_page_add(p, child, bytes, length);
    if (ref.overflow_bytes && b->r->code == SQLITE_OK)
        (void)repair_chain(b->r, &ref, page, &broken);
}

/* How many of the items [first, end) fit on a leaf. */
static uint32_t keys_fit_leaf(struct keys_build *b, uint32_t first, uint32_t end)
{
    uint32_t room = b->r->map->header.usable - LEAF_HEADER, n = 0, length;
    struct dbformat_ref ref;
    for (; first + n < end && b->r->code == SQLITE_OK; n++) {
        (void)keys_bytes(b, b->t->items.item[first + n], &length, &ref);
        uint32_t takes = 2 + (length < 4 ? 4 : length);
        if (takes > room)
            break;
        room -= takes;
    }
    return n;
}

/* How many children from `first` on fit on an interior page. */
static uint32_t keys_fit_interior(struct keys_build *b, uint32_t first)
{
    uint32_t room = b->r->map->header.usable - INTERIOR_HEADER, n = 1, length;
    const struct keys_level *l = &b->level;
    struct dbformat_ref ref;
    while (first + n < l->count && b->r->code == SQLITE_OK) {
        (void)keys_bytes(b, l->cell[first + n - 1], &length, &ref);
        if (2 + 4 + length > room)
            break;
        room -= 2 + 4 + length;
        n++;
    }
    if (first + n + 1 == l->count && n > 2)
        n--; /* none is left alone: an interior page has two children at least */
    return n;
}

static void keys_put_leaf(struct keys_build *b, uint32_t page, uint32_t first, uint32_t count)
{
    struct repair_page p;
    repair_page_begin(b->r, &p, b->r->buf2, LEAF_INDEX);
    for (uint32_t i = 0; i < count && b->r->code == SQLITE_OK; i++)
        keys_add_cell(b, &p, page, b->t->items.item[first + i], 0);
    repair_page_end(&p);
    (void)repair_put(b->r, page, b->r->buf2);
}

static void keys_put_interior(struct keys_build *b, uint32_t page, uint32_t first, uint32_t count)
{
    struct repair_page p;
    const struct keys_level *l = &b->level;
    repair_page_begin(b->r, &p, b->r->buf2, INTERIOR_INDEX);
    for (uint32_t i = 0; i < count && b->r->code == SQLITE_OK; i++) {
        repair_map_set(b->r, l->page[first + i], MAP_TREE, page);
        if (i + 1 < count)
            keys_add_cell(b, &p, page, l->cell[first + i], l->page[first + i]);
        else
            repair_page_last(&p, l->page[first + i]);
    }
    repair_page_end(&p);
    (void)repair_put(b->r, page, b->r->buf2);
}

static uint32_t keys_take(struct keys_build *b)
{
    uint32_t page = repair_take_page(b->r, b->t, &b->from);
    if (page)
        b->r->fate[page] = FATE_USED;
    return page;
}

/* Items [first, end): leaf, cell, leaf, ..., leaf. */
static void keys_pack(struct keys_build *b, uint32_t first, uint32_t end)
{
    struct keys_level *l = &b->level;
    while (first < end && b->r->code == SQLITE_OK) {
        uint32_t n = keys_fit_leaf(b, first, end), page = keys_take(b);
        if (!page)
            return;
        if (first + n + 1 == end && n > 1)
            n--; /* a cell between leaves has a leaf behind it */
        keys_put_leaf(b, page, first, n);
        l->page[l->count++] = page;
        first += n;
        if (first < end)
            l->cell[l->count - 1] = b->t->items.item[first++];
    }
}

static void keys_build_leaves(struct keys_build *b)
{
    const struct repair_items *list = &b->t->items;
    struct keys_level *l = &b->level;
    for (uint32_t i = 0, from = 0; i <= list->count && b->r->code == SQLITE_OK; i++) {
        bool end = i == list->count, before = l->count != 0;
        if (!end && list->item[i].cell != ITEM_LEAF)
            continue;
        uint32_t first = from, last = i; /* loose cells */
        if (before && first < last)
            l->cell[l->count - 1] = list->item[first++];
        if (first < last) {
            keys_pack(b, first, end ? last : last - 1);
            if (!end && l->count)
                l->cell[l->count - 1] = list->item[last - 1];
        }
        if (!end)
            l->page[l->count++] = list->item[i].page;
        from = i + 1;
    }
}

static void keys_build_interior(struct keys_build *b)
{
    struct repair *r = b->r;
    while (r->code == SQLITE_OK && keys_fit_interior(b, 0) < b->level.count) {
        b->above.count = 0;
        for (uint32_t first = 0; first < b->level.count && r->code == SQLITE_OK;) {
            uint32_t n = keys_fit_interior(b, first), page = keys_take(b);
            if (!page)
                return;
            keys_put_interior(b, page, first, n);
            first += n;
            b->above.page[b->above.count] = page;
            if (first < b->level.count)
                b->above.cell[b->above.count] = b->level.cell[first - 1];
            b->above.count++;
        }
        struct keys_level swap = b->level;
        b->level = b->above;
        b->above = swap;
    }
    if (r->code == SQLITE_OK)
        keys_put_interior(b, b->t->root, 0, b->level.count);
}

static bool keys_level_room(struct keys_level *l, uint32_t count)
{
    l->page = calloc((size_t)count + 1, sizeof *l->page);
    l->cell = calloc((size_t)count + 1, sizeof *l->cell);
    return l->page && l->cell;
}

/* Which pages are no longer in use: everything but the leaves that are kept and their overflow. That of
 * cells that move is marked as they do. */
static void keys_give_up(struct repair *r, struct repair_tree *t)
{
    const struct walk_map *m = r->map;
    for (uint32_t p = 2; p <= m->pages; p++)
        if (p != t->root && walk_is_tree(walk_role(m, p)) && walk_root_of(m, p) == t->root)
            r->fate[p] = FATE_FREE;
    for (uint32_t i = 0; i < t->items.count; i++)
        if (t->items.item[i].cell == ITEM_LEAF)
            r->fate[t->items.item[i].page] = FATE_USED;
    for (uint32_t p = 2; p <= m->pages; p++)
        if (walk_is_overflow(walk_role(m, p)) && walk_root_of(m, p) == t->root)
            r->fate[p] = r->fate[m->parent[p]] == FATE_USED && m->parent[p] != t->root ? FATE_USED
                                                                                       : FATE_FREE;
}

/* Overflow of what is kept, and is not of a leaf that stays as it was: before pages are taken. (Whose
 * it is, is said again when the cell moves.) */
static void keys_keep_chains(struct keys_build *b)
{
    struct repair *r = b->r;
    uint32_t broken, length;
    for (uint32_t i = 0; i < b->t->items.count && r->code == SQLITE_OK; i++) {
        struct repair_item item = b->t->items.item[i];
        struct dbformat_ref ref;
        bool leaf = item.cell == ITEM_LEAF;
        if (leaf && walk_role(r->map, item.page) != WALK_NONE)
            continue;
        if (leaf)
            item.cell = 0;
        do {
            (void)keys_bytes(b, item, &length, &ref);
            if (ref.overflow_bytes && r->code == SQLITE_OK)
                (void)repair_chain(r, &ref, item.page, &broken);
        } while (leaf && r->code == SQLITE_OK && ++item.cell < dbformat_u16(b->source + 3));
    }
}

static bool keys_all_loose(const struct repair_items *list)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (list->item[i].cell == ITEM_LEAF)
            return false;
    return true;
}

void repair_keys_apply(struct repair *r, struct repair_tree *t)
{
    struct keys_build b = {.r = r, .t = t, .from = 2};
    keys_settle(r, &t->items);
    if (r->code != SQLITE_OK)
        return;
    keys_give_up(r, t);
    uint32_t count = t->items.count;
    b.source = malloc(repair_page_size(r));
    if (b.source && keys_level_room(&b.level, count) && keys_level_room(&b.above, count)) {
        keys_keep_chains(&b);
        if (keys_all_loose(&t->items) && keys_fit_leaf(&b, 0, count) == count) {
            keys_put_leaf(&b, t->root, 0, count);
        } else {
            keys_build_leaves(&b);
            keys_build_interior(&b);
        }
    } else {
        repair_fail(r, SQLITE_NOMEM, "no memory");
    }
    free(b.source);
    free(b.level.page);
    free(b.level.cell);
    free(b.above.page);
    free(b.above.cell);
}
