/* repair_table.c: a table with rowids keeps the leaves that can be read; above them it is built anew.
 *
 * The leaves are put in order by their rowids; a range that is in two of them means that they are not
 * what they seem, and nothing is done. Interior pages are filled from the left with what fits, so they
 * are no more than before. A row of which a page of overflow is bad is taken out of its leaf. A table
 * of one leaf has it as its root; one without any is empty.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vfs/repair.h"

#define LEAF_HEADER 8u
#define INTERIOR_HEADER 12u
/* The least that a cell and its pointer take. */
#define CELL_LEAST 6u
#define LEAF_TABLE 0x0du
#define INTERIOR_TABLE 0x05u

static void table_refuse(struct repair_tree *t, uint32_t page, const char *what)
{
    t->means = MEANS_NONE;
    t->chosen = false;
    snprintf(t->why, sizeof t->why, "page %u %s: restore a backup, or use .recover", page, what);
}

static bool table_is_leaf(const struct repair *r, const struct repair_tree *t, uint32_t page)
{
    enum walk_role role = walk_role(r->map, page);
    if (r->bad[page])
        return false;
    if (role == WALK_NONE)
        return t->adopts;
    return (role == WALK_LEAF || role == WALK_ROOT_LEAF) && walk_root_of(r->map, page) == t->root;
}

/* Where the cell of refs[i] of a leaf begins, its length, its rowid. */
static uint32_t table_cell(const struct dbformat_header *h, const uint8_t *d, uint32_t i,
                           const struct dbformat_ref *ref, uint32_t *length_out, int64_t *rowid_out)
{
    uint32_t at = dbformat_u16(d + LEAF_HEADER + 2 * i);
    uint64_t payload, rowid = 0;
    unsigned n = dbformat_varint(d + at, h->usable - at, &payload);
    (void)dbformat_varint(d + at + n, h->usable - at - n, &rowid);
    *length_out = ref->local_at + ref->local_bytes + (ref->overflow_bytes ? 4 : 0) - at;
    *rowid_out = (int64_t)rowid;
    return at;
}

/* --- looking ---------------------------------------------------------------------------------- */

static bool table_leaf_add(struct repair *r, struct repair_tree *t, struct repair_leaf leaf)
{
    if (t->leaf_count == t->leaf_room) {
        uint32_t room = t->leaf_room ? t->leaf_room * 2 : 64;
        struct repair_leaf *grown = realloc(t->leaves, (size_t)room * sizeof *grown);
        if (!grown)
            return repair_fail(r, SQLITE_NOMEM, "no memory");
        t->leaves = grown;
        t->leaf_room = room;
    }
    t->leaves[t->leaf_count++] = leaf;
    return true;
}

/* Chains of this leaf are to be followed: some are broken, or nobody has followed them. */
static bool table_leaf_chains(const struct repair *r, uint32_t page)
{
    return (r->below[page] & BELOW_BAD_OVERFLOW) || walk_role(r->map, page) == WALK_NONE;
}

static void table_scan_leaf(struct repair *r, struct repair_tree *t, uint32_t page)
{
    const struct dbformat_header *h = &r->map->header;
    struct dbformat_tree_page *p = r->tree;
    struct repair_leaf leaf = {page, 0, 0};
    uint32_t kept = 0, length, broken;
    if (!repair_load(r, page, r->buf, h->page_size))
        return;
    bool orphan = walk_role(r->map, page) == WALK_NONE;
    if (orphan && r->buf[0] != LEAF_TABLE)
        return;
    if (!dbformat_tree_page(h, page, r->buf, true, p) || !p->leaf || p->kind != KIND_TABLE ||
        p->damaged) {
        table_refuse(t, page, "is no leaf of a table with rowids");
        return;
    }
    for (uint32_t i = 0; i < p->count && r->code == SQLITE_OK; i++) {
        int64_t rowid;
        (void)table_cell(h, r->buf, i, &p->refs[i], &length, &rowid);
        if (p->refs[i].overflow_bytes && table_leaf_chains(r, page) &&
            !repair_chain(r, &p->refs[i], 0, &broken)) {
            t->rows_lost++;
            continue;
        }
        if (kept && rowid <= leaf.max) {
            table_refuse(t, page, "has rowids that do not rise");
            return;
        }
        leaf.min = kept++ ? leaf.min : rowid;
        leaf.max = rowid;
    }
    t->leaves_seen++;
    t->rows_seen += p->count;
    if (kept)
        (void)table_leaf_add(r, t, leaf);
    else
        t->reshape = true;
}

static int table_compare(const void *a, const void *b)
{
    const struct repair_leaf *x = a, *y = b;
    return x->min < y->min ? -1 : x->min > y->min;
}

void repair_table_scan(struct repair *r, struct repair_tree *t)
{
    for (uint32_t p = 2; p <= r->map->pages && r->code == SQLITE_OK && t->means; p++)
        if (table_is_leaf(r, t, p)) {
            table_scan_leaf(r, t, p);
            if (p % 256 == 0 && interrupt_asked(&r->interrupt))
                repair_fail(r, SQLITE_INTERRUPT, "interrupted");
        }
    if (t->leaf_count)
        qsort(t->leaves, t->leaf_count, sizeof *t->leaves, table_compare);
    for (uint32_t i = 1; i < t->leaf_count && t->means; i++)
        if (t->leaves[i].min <= t->leaves[i - 1].max)
            table_refuse(t, t->leaves[i].page, "has rowids of another page");
}

/* --- what is lost ----------------------------------------------------------------------------- */

/* Bounds of the rowids below `page`, from interior pages that can be read. */
static void table_range(struct repair *r, const struct repair_tree *t, uint32_t page,
                        struct repair_loss *part)
{
    const struct walk_map *m = r->map;
    uint32_t usable = m->header.usable;
    for (unsigned step = 0; step < DBFORMAT_DEPTH_MAX && page && page != t->root; step++) {
        uint32_t up = m->parent[page];
        if (up && up <= m->pages && !r->bad[up] &&
            repair_load(r, up, r->buf, m->header.page_size) && r->buf[0] == INTERIOR_TABLE) {
            uint32_t cells = dbformat_u16(r->buf + 3), i = 0;
            uint64_t key = 0, before = 0;
            bool found = false;
            for (; i < cells && INTERIOR_HEADER + 2 * i + 2 <= usable && !found; i++) {
                uint32_t at = dbformat_u16(r->buf + INTERIOR_HEADER + 2 * i);
                before = key;
                if (at + 5 > usable || !dbformat_varint(r->buf + at + 4, usable - at - 4, &key))
                    return;
                found = dbformat_u32(r->buf + at) == page;
            }
            bool has_before = found ? i > 1 : i > 0;
            if (!part->has_to && found) {
                part->has_to = true;
                part->to = (int64_t)key;
            }
            if (!part->has_from && has_before && (int64_t)(found ? before : key) < INT64_MAX) {
                part->has_from = true;
                part->from = (int64_t)(found ? before : key) + 1;
            }
        }
        page = up;
    }
}

/* The row with the page of overflow. */
static void table_row(struct repair *r, uint32_t page, struct repair_loss *part)
{
    const struct dbformat_header *h = &r->map->header;
    uint32_t leaf = r->map->parent[page], length, broken;
    if (!leaf || r->bad[leaf] || !repair_load(r, leaf, r->buf, h->page_size) ||
        !dbformat_tree_page(h, leaf, r->buf, true, r->tree) || r->tree->damaged)
        return;
    for (uint32_t i = 0; i < r->tree->count; i++) {
        const struct dbformat_ref *ref = &r->tree->refs[i];
        if (!ref->overflow_bytes || repair_chain(r, ref, 0, &broken) || broken != page)
            continue;
        (void)table_cell(h, r->buf, i, ref, &length, &part->from);
        part->to = part->from;
        part->has_from = part->has_to = true;
    }
}

void repair_table_loss(struct repair *r, const struct repair_tree *t, uint32_t page,
                       struct repair_loss *part)
{
    enum walk_role role = walk_role(r->map, page);
    bool leaf = role == WALK_LEAF || role == WALK_ROOT_LEAF || role == WALK_NONE ||
                ((role == WALK_ROOT || role == WALK_TREE) && !(r->below[page] & BELOW_TREE));
    part->pages = part->rows = part->rows_most = 1;
    if (walk_is_overflow(role)) {
        table_row(r, page, part);
    } else if (leaf) {
        part->rows_most = (r->map->header.usable - LEAF_HEADER) / CELL_LEAST;
        part->rows = t->leaves_seen ? t->rows_seen / t->leaves_seen : part->rows_most;
        table_range(r, t, page, part);
        uint64_t wide = (uint64_t)part->to - (uint64_t)part->from + 1;
        if (part->has_from && part->has_to && wide && wide < part->rows_most)
            part->rows_most = wide;
        if (part->rows > part->rows_most)
            part->rows = part->rows_most;
    } else {
        part->pages = 0;
    }
}

/* --- building --------------------------------------------------------------------------------- */

static unsigned table_varint(uint64_t v, uint8_t *to)
{
    uint8_t reversed[9];
    unsigned n = 0;
    if (v >> 56) {
        to[8] = (uint8_t)v;
        v >>= 8;
        for (int i = 7; i >= 0; i--, v >>= 7)
            to[i] = (uint8_t)(0x80 | (v & 0x7f));
        return 9;
    }
    do {
        reversed[n++] = (uint8_t)(0x80 | (v & 0x7f));
        v >>= 7;
    } while (v);
    reversed[0] &= 0x7f;
    for (unsigned i = 0; i < n; i++)
        to[i] = reversed[n - 1 - i];
    return n;
}

/* Without the rows that are lost, into r->buf2; pages of overflow that stay are marked. *changed_out:
 * rows were left out. */
static bool table_leaf_filter(struct repair *r, uint32_t page, bool *changed_out)
{
    const struct dbformat_header *h = &r->map->header;
    struct repair_page b;
    *changed_out = false;
    if (!repair_load(r, page, r->buf, h->page_size) ||
        !dbformat_tree_page(h, page, r->buf, true, r->tree))
        return repair_fail(r, SQLITE_CORRUPT, "page %u has changed", page);
    repair_page_begin(r, &b, r->buf2, LEAF_TABLE);
    for (uint32_t i = 0; i < r->tree->count && r->code == SQLITE_OK; i++) {
        const struct dbformat_ref *ref = &r->tree->refs[i];
        uint32_t length, broken;
        int64_t rowid;
        uint32_t at = table_cell(h, r->buf, i, ref, &length, &rowid);
        bool follow = ref->overflow_bytes && table_leaf_chains(r, page);
        if (follow && !repair_chain(r, ref, 0, &broken)) {
            *changed_out = true;
            continue;
        }
        repair_page_add(&b, 0, r->buf + at, length);
        if (follow)
            (void)repair_chain(r, ref, page, &broken);
    }
    repair_page_end(&b);
    return r->code == SQLITE_OK;
}

/* How many children from `first` on fit on one interior page. */
static uint32_t table_fit(const struct repair *r, const struct repair_leaf *c, uint32_t first,
                          uint32_t count)
{
    uint8_t varint[9];
    uint32_t room = r->map->header.usable - INTERIOR_HEADER, n = 1;
    while (first + n < count) {
        uint32_t cell = 2 + 4 + table_varint((uint64_t)c[first + n - 1].max, varint);
        if (cell > room)
            break;
        room -= cell;
        n++;
    }
    if (first + n + 1 == count && n > 2)
        n--; /* none is left alone: an interior page has two children at least */
    return n;
}

static void table_interior(struct repair *r, uint32_t page, const struct repair_leaf *c,
                           uint32_t count)
{
    struct repair_page b;
    uint8_t varint[9];
    repair_page_begin(r, &b, r->buf2, INTERIOR_TABLE);
    for (uint32_t i = 0; i < count; i++) {
        repair_map_set(r, c[i].page, MAP_TREE, page);
        if (i + 1 < count)
            repair_page_add(&b, c[i].page, varint, table_varint((uint64_t)c[i].max, varint));
        else
            repair_page_last(&b, c[i].page);
    }
    repair_page_end(&b);
    (void)repair_put(r, page, r->buf2);
}

/* One leaf, or none: it is the root itself. */
static void table_single(struct repair *r, struct repair_tree *t)
{
    struct repair_page b;
    bool changed;
    if (t->leaf_count == 0) {
        repair_page_begin(r, &b, r->buf2, LEAF_TABLE);
        repair_page_end(&b);
    } else {
        uint32_t leaf = t->leaves[0].page;
        if (!table_leaf_filter(r, leaf, &changed))
            return;
        for (uint32_t i = 0; i < r->tree->count && leaf != t->root; i++)
            if (r->tree->refs[i].overflow_bytes &&
                (!table_leaf_chains(r, leaf) || r->fate[r->tree->refs[i].overflow] == FATE_USED))
                repair_map_set(r, r->tree->refs[i].overflow, MAP_OVERFLOW_FIRST, t->root);
        if (leaf != t->root)
            r->fate[leaf] = FATE_FREE;
    }
    (void)repair_put(r, t->root, r->buf2);
}

static void table_build(struct repair *r, struct repair_tree *t)
{
    struct repair_leaf *c = t->leaves;
    uint32_t count = t->leaf_count, from = 2;
    while (count > 1 && r->code == SQLITE_OK && table_fit(r, c, 0, count) < count) {
        uint32_t above = 0;
        for (uint32_t first = 0; first < count && r->code == SQLITE_OK;) {
            uint32_t n = table_fit(r, c, first, count), page = repair_take_page(r, t, &from);
            if (!page)
                return;
            r->fate[page] = FATE_USED;
            table_interior(r, page, c + first, n);
            first += n;
            c[above++] = (struct repair_leaf){page, 0, c[first - 1].max};
        }
        count = above;
    }
    if (count > 1 && r->code == SQLITE_OK)
        table_interior(r, t->root, c, count);
}

/* --- the whole -------------------------------------------------------------------------------- */

/* Which of the table's pages are no longer in use? Marks; pages of overflow of leaves whose chains
 * are followed come back in table_leaf_filter. */
static void table_give_up(struct repair *r, struct repair_tree *t)
{
    const struct walk_map *m = r->map;
    for (uint32_t p = 2; t->reshape && p <= m->pages; p++)
        if (walk_is_tree(walk_role(m, p)) && walk_root_of(m, p) == t->root && p != t->root)
            r->fate[p] = FATE_FREE;
    for (uint32_t i = 0; t->reshape && i < t->leaf_count; i++)
        r->fate[t->leaves[i].page] = FATE_USED;
    for (uint32_t p = 2; p <= m->pages; p++) {
        uint32_t up = m->parent[p];
        if (walk_is_overflow(walk_role(m, p)) && walk_root_of(m, p) == t->root &&
            (r->bad[p] || r->bad[up] || r->fate[up] == FATE_FREE ||
             (r->below[up] & BELOW_BAD_OVERFLOW)))
            r->fate[p] = FATE_FREE;
    }
}

void repair_table_apply(struct repair *r, struct repair_tree *t)
{
    bool single = t->reshape && t->leaf_count < 2;
    table_give_up(r, t);
    for (uint32_t i = 0; i < t->leaf_count && r->code == SQLITE_OK && !single; i++) {
        bool changed;
        uint32_t page = t->leaves[i].page;
        if (!table_leaf_chains(r, page))
            continue;
        if (table_leaf_filter(r, page, &changed) && changed)
            (void)repair_put(r, page, r->buf2);
    }
    if (single)
        table_single(r, t);
    else if (t->reshape && r->code == SQLITE_OK)
        table_build(r, t);
}
