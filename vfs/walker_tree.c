/* walker_tree.c: looking at the pages of one b-tree after the other.
 *
 * A page that is damaged in itself (cells that do not lie within it, pointers to where nothing is) waits
 * until all sound pages have claimed what is theirs. All leaves of a tree have one depth: that tells
 * what a page is that cannot be read, and that a pointer leads astray.
 */
#include <string.h>

#include "vfs/walker_state.h"

#define LEAF_DEPTH_UNKNOWN 255u
#define LEAF_DEPTH_ANY 254u /* pages of several trees are mixed */

static enum walk_role walk_tree_role(bool root, bool leaf)
{
    if (root)
        return leaf ? WALK_ROOT_LEAF : WALK_ROOT_INTERIOR;
    return leaf ? WALK_LEAF : WALK_INTERIOR;
}

/* All leaves of a tree have one depth. */
static void walk_leaf_depth(struct walk *w, struct walk_item item)
{
    if (w->leaf_depth == LEAF_DEPTH_UNKNOWN)
        w->leaf_depth = item.depth;
    else if (w->leaf_depth != LEAF_DEPTH_ANY && w->leaf_depth != item.depth)
        walk_trouble(w, item.page, TROUBLE_DEPTH, 0);
}

/* The page is as the map before saw it: a leaf to which nothing belongs. */
static bool walk_skip(struct walk *w, struct walk_item item)
{
    const struct walk_map *b = w->before;
    if (!b || w->schema || w->weak || item.page > b->pages || !b->stamp[item.page] ||
        (b->role[item.page] & (WALK_PLAIN | WALK_LOST | WALK_DAMAGED)) != WALK_PLAIN)
        return false;
    walk_stamp(w, item.page);
    if (!walk_same(w, item.page) || !walk_go_on(w, WALK_COST_SAME))
        return false;
    walk_set_role(w->map, item.page,
                  walk_tree_role(walk_is_root(walk_role(w->map, item.page)), true));
    w->map->role[item.page] |= WALK_PLAIN;
    walk_leaf_depth(w, item);
    return true;
}

/* The page cannot be read, or what is read is damaged; but nobody has changed it since the map before
 * saw it whole. */
static bool walk_keep(struct walk *w, struct walk_item item)
{
    struct walk_map *m = w->map;
    if (!walk_same(w, item.page) ||
        (w->before->role[item.page] & (WALK_DAMAGED | WALK_KEPT)) == WALK_DAMAGED)
        return false;
    enum walk_role was = walk_role(w->before, item.page);
    bool leaf = was == WALK_ROOT_LEAF || was == WALK_LEAF;
    if (!leaf && was != WALK_ROOT_INTERIOR && was != WALK_INTERIOR)
        return false;
    walk_set_role(w->map, item.page, walk_tree_role(walk_is_root(walk_role(m, item.page)), leaf));
    m->role[item.page] |= w->before->role[item.page] & WALK_PLAIN;
    walk_set_kept(w, item.page);
    if (leaf)
        walk_leaf_depth(w, item);
    if (w->schema)
        walk_schema_keep(w, item.page);
    return true;
}

/* The page cannot be read. */
static void walk_unread(struct walk *w, struct walk_item item)
{
    if (walk_keep(w, item))
        return;
    w->schema_holes |= w->schema;
    (void)walk_push(w, &w->unread, item);
}

/* What the depth of a tree says about its pages that could not be read. */
static void walk_unread_roles(struct walk *w)
{
    for (uint32_t i = 0; i < w->unread.count; i++) {
        struct walk_item item = w->unread.items[i];
        enum walk_role role = walk_role(w->map, item.page);
        if (w->leaf_depth >= LEAF_DEPTH_ANY || item.depth > w->leaf_depth ||
            (role != WALK_TREE && role != WALK_ROOT))
            continue;
        walk_set_role(w->map, item.page,
                      walk_tree_role(role == WALK_ROOT, item.depth == w->leaf_depth));
    }
    w->unread.count = 0;
}

/* A pointer that leads nowhere makes the page a damaged one. */
static bool walk_pointers_ok(struct walk *w, uint32_t page)
{
    const struct dbformat_tree_page *t = w->tree;
    for (uint32_t i = 0; i < t->count; i++) {
        bool interior = !t->leaf, chain = t->refs[i].overflow_bytes != 0;
        for (int k = 0; k < 2; k++) {
            uint32_t to = k ? t->refs[i].overflow : t->refs[i].child;
            if (!(k ? chain : interior) || (walk_exists(w, to) && !walk_reserved(w, to)))
                continue;
            walk_trouble(w, page, walk_exists(w, to) ? TROUBLE_RESERVED : TROUBLE_POINTER, to);
            return false;
        }
    }
    return true;
}

static void walk_ref(struct walk *w, struct walk_item item, const struct dbformat_ref *ref)
{
    bool row = w->schema && w->tree->leaf;
    uint32_t left = WALK_ROW_MAX;
    uint8_t *to = w->row_buf;
    if (!w->tree->leaf && walk_claim(w, ref->child, item.page, WALK_TREE))
        (void)walk_push(w, &w->todo,
                        (struct walk_item){ref->child, (uint8_t)(item.depth + 1), w->tree->kind});
    if (row) { /* a page is no larger than row_buf */
        memcpy(to, w->page_buf + ref->local_at, ref->local_bytes);
        to += ref->local_bytes;
        left -= ref->local_bytes;
    }
    if (ref->overflow_bytes)
        (void)walk_chain(w, ref->overflow, item.page, WALK_OVERFLOW_FIRST, ref->overflow_bytes, to,
                         row ? &left : NULL);
    if (row && w->failed == WALK_OK)
        walk_schema_row(w, item.page, WALK_ROW_MAX - left);
}

/* refs[0] of an interior page is its rightmost child: visited last, so pushed first. */
static void walk_refs(struct walk *w, struct walk_item item)
{
    const struct dbformat_tree_page *t = w->tree;
    if (!t->leaf && t->count)
        walk_ref(w, item, &t->refs[0]);
    for (uint32_t i = t->count; i > (t->leaf ? 0u : 1u) && w->failed == WALK_OK; i--)
        walk_ref(w, item, &t->refs[i - 1]);
}

static void walk_visit(struct walk *w, struct walk_item item)
{
    struct walk_map *m = w->map;
    struct dbformat_tree_page *t = w->tree;
    if (item.depth > DBFORMAT_DEPTH_MAX) {
        walk_trouble(w, item.page, TROUBLE_DEPTH, 0);
        return;
    }
    if (walk_skip(w, item))
        return;
    if (!walk_load(w, item.page, w->page_buf)) {
        if (w->failed == WALK_OK)
            walk_unread(w, item);
        return;
    }
    if (!dbformat_tree_page(&m->header, item.page, w->page_buf, w->schema, t) ||
        (item.kind != KIND_ANY && t->kind != (enum dbformat_kind)item.kind)) {
        walk_trouble(w, item.page, TROUBLE_NO_TREE_PAGE, 0);
        w->schema_holes |= !walk_keep(w, item) && w->schema;
        return;
    }
    bool deferred = !w->weak && (t->damaged || !walk_pointers_ok(w, item.page));
    if (deferred) {
        if (t->damaged)
            walk_trouble(w, item.page, TROUBLE_CELLS, 0);
        if (walk_keep(w, item))
            return;
        w->schema_holes |= w->schema;
        (void)walk_push(w, &w->damaged, item);
    }
    walk_set_role(w->map, item.page,
                  walk_tree_role(walk_is_root(walk_role(m, item.page)), t->leaf));
    if (t->leaf)
        walk_leaf_depth(w, item);
    if (t->leaf && t->count == 0 && !t->damaged)
        m->role[item.page] |= WALK_PLAIN;
    if (!deferred)
        walk_refs(w, item);
}

void walk_drain(struct walk *w)
{
    while (w->todo.count && w->failed == WALK_OK)
        walk_visit(w, w->todo.items[--w->todo.count]);
}

void walk_settle(struct walk *w)
{
    w->leaf_depth = LEAF_DEPTH_ANY;
    w->unread.count = 0;
    walk_mend_kept(w);
    w->weak = true;
    while (w->damaged.count && w->failed == WALK_OK) {
        walk_visit(w, w->damaged.items[--w->damaged.count]);
        walk_drain(w);
    }
    w->weak = false;
    walk_mend_kept(w);
    w->unread.count = 0;
}

void walk_tree(struct walk *w, uint32_t root, enum dbformat_kind kind)
{
    w->leaf_depth = LEAF_DEPTH_UNKNOWN;
    if (walk_push(w, &w->todo, (struct walk_item){root, 0, (uint8_t)kind}))
        walk_drain(w);
    walk_unread_roles(w);
}
