/* walker_mend.c: owners of pages that a walk does not reach, because what names them cannot be read.
 *
 * From the map before: a page that is the same since (by its stamp) still names what it named then.
 * Its children are looked at anew; they may have changed, but not gone elsewhere.
 *
 * From the pointer map, where the database has one: its entry for a page says who names it. It is
 * believed where that is a page which cannot be read or is damaged, and so on up; where the one that
 * it names can be read and does not name the page, the two contradict each other and nothing is
 * known. Each page is tried once, so loops end.
 */
#include <stdlib.h>

#include "vfs/walker_state.h"

/* --- the map before ----------------------------------------------------------------------------- */

static uint8_t mend_depth(const struct walk_map *m, uint32_t page)
{
    uint8_t depth = 0;
    while (depth <= DBFORMAT_DEPTH_MAX && page && !walk_is_root(walk_role(m, page))) {
        page = m->parent[page];
        depth++;
    }
    return depth;
}

/* `page` hung below `parent`. */
static void mend_keep(struct walk *w, uint32_t page, uint32_t parent)
{
    enum walk_role was = walk_role(w->before, page), above = walk_role(w->map, parent);
    if (was == WALK_TRUNK && (above == WALK_TRUNK || parent == 1)) {
        walk_free_list(w, page, parent);
    } else if (was == WALK_FREE && above == WALK_TRUNK) {
        (void)walk_claim(w, page, parent, WALK_FREE);
    } else if (walk_is_overflow(was) && walk_is_tree(above)) {
        (void)walk_chain(w, page, parent, was, UINT64_MAX, NULL, NULL);
    } else if (walk_is_tree(was) && walk_is_tree(above)) {
        if (walk_claim(w, page, parent, WALK_TREE))
            (void)walk_push(
                w, &w->todo,
                (struct walk_item){page, (uint8_t)(mend_depth(w->map, parent) + 1), KIND_ANY});
    }
}

void walk_mend_kept(struct walk *w)
{
    struct walk_map *m = w->map;
    const struct walk_map *b = w->before;
    uint64_t troubles;
    if (!w->kept)
        return;
    do { /* again as long as that finds more unreadable pages */
        troubles = m->trouble_count;
        uint32_t last = !b ? 0 : b->pages < m->pages ? b->pages : m->pages;
        for (uint32_t p = 2; p <= last && w->failed == WALK_OK; p++) {
            uint32_t parent = b->parent[p];
            if (parent && parent <= m->pages && walk_role(m, p) == WALK_NONE &&
                (m->role[parent] & WALK_KEPT))
                mend_keep(w, p, parent);
        }
        walk_drain(w);
    } while (m->trouble_count != troubles && w->failed == WALK_OK);
}

/* --- the pointer map ---------------------------------------------------------------------------- */

/* Roles of pages while this pass runs. */
#define MEND_PENDING ((enum walk_role)13)
#define MEND_TRIED ((enum walk_role)14)
_Static_assert(WALK_ROLES <= 13, "two roles are free");

struct mend_step {
    uint32_t page;
    uint32_t parent;
    uint8_t type;
};

struct mend {
    struct mend_step *steps; /* owned: from a page up */
    uint32_t count;
    uint32_t room;
};

static bool mend_entry(struct walk *w, uint32_t page, struct mend_step *out)
{
    const struct dbformat_header *h = &w->map->header;
    uint32_t map = dbformat_map_page(h, page);
    if (page <= map || map > w->map->pages)
        return false;
    if (w->map_page != map) {
        w->map_page = 0;
        if (!walk_load(w, map, w->map_buf))
            return false;
        w->map_page = map;
    }
    uint32_t at = 5 * (page - map - 1);
    if (at + 5 > h->usable)
        return false;
    *out = (struct mend_step){page, dbformat_u32(w->map_buf + at + 1), w->map_buf[at]};
    return true;
}

static bool mend_push(struct walk *w, struct mend *s, struct mend_step step)
{
    if (s->count == s->room) {
        uint32_t room = s->room ? s->room * 2 : 64;
        struct mend_step *grown = realloc(s->steps, (size_t)room * sizeof *grown);
        if (!grown) {
            w->failed = WALK_NOMEM;
            return false;
        }
        s->steps = grown;
        s->room = room;
    }
    s->steps[s->count++] = step;
    return true;
}

/* An entry without a parent: does it explain why nobody names the page? */
static bool mend_top(struct walk *w, const struct mend_step *step)
{
    if (step->type == MAP_ROOT && w->schema_holes) {
        walk_set_role(w->map, step->page, WALK_ROOT); /* of an object whose name is not known */
    } else if (step->type == MAP_FREE && w->free_holes) {
        walk_set_role(w->map, step->page, WALK_FREE);
    } else {
        return false;
    }
    w->map->role[step->page] |= WALK_KEPT;
    return true;
}

/* Up from `page` to one that has an owner. False: there is none, or it contradicts. */
static bool mend_climb(struct walk *w, struct mend *s, uint32_t page)
{
    struct walk_map *m = w->map;
    for (;;) {
        struct mend_step step;
        if (!mend_entry(w, page, &step))
            return false;
        if (step.type == MAP_ROOT || step.type == MAP_FREE)
            return mend_top(w, &step);
        if (step.type < MAP_OVERFLOW_FIRST || step.type > MAP_TREE || step.parent < 1 ||
            step.parent > m->pages || !mend_push(w, s, step))
            return false;
        walk_set_role(m, page, MEND_PENDING);
        if (walk_role(m, step.parent) != WALK_NONE)
            return true;
        page = step.parent;
    }
}

/* The page of a b-tree that the pointer map has put below `parent`. */
static void mend_tree_page(struct walk *w, uint32_t page, uint32_t parent)
{
    struct walk_map *m = w->map;
    enum walk_role role = WALK_TREE;
    if (walk_load(w, page, w->page_buf)) {
        if (dbformat_tree_page(&m->header, page, w->page_buf, false, w->tree))
            role = w->tree->leaf ? WALK_LEAF : WALK_INTERIOR;
        else
            walk_trouble(w, page, TROUBLE_NO_TREE_PAGE, 0);
    }
    walk_set_role(m, page, role);
    m->parent[page] = parent;
}

/* One step down again. False: its parent is not what the entry says. */
static bool mend_place(struct walk *w, const struct mend_step *step)
{
    struct walk_map *m = w->map;
    enum walk_role above = walk_role(m, step->parent);
    if (!(m->role[step->parent] & (WALK_LOST | WALK_DAMAGED | WALK_KEPT)))
        return false;
    if (step->type == MAP_TREE && walk_is_tree(above) && above != WALK_LEAF &&
        above != WALK_ROOT_LEAF) {
        mend_tree_page(w, step->page, step->parent);
    } else if (step->type == MAP_OVERFLOW_FIRST && walk_is_tree(above)) {
        walk_set_role(m, step->page, WALK_OVERFLOW_FIRST);
        m->parent[step->page] = step->parent;
    } else if (step->type == MAP_OVERFLOW && walk_is_overflow(above)) {
        walk_set_role(m, step->page, WALK_OVERFLOW);
        m->parent[step->page] = m->parent[step->parent];
        m->role[step->page] |= m->role[step->parent] & WALK_DAMAGED; /* whose chain is it? */
    } else {
        return false;
    }
    m->role[step->page] |= WALK_KEPT; /* so that pages below it may follow */
    return true;
}

static void mend_page(struct walk *w, struct mend *s, uint32_t page)
{
    s->count = 0;
    bool ok = mend_climb(w, s, page);
    while (s->count) {
        const struct mend_step *step = &s->steps[--s->count];
        ok = ok && mend_place(w, step);
        if (!ok)
            walk_set_role(w->map, step->page, MEND_TRIED);
    }
    if (walk_role(w->map, page) == WALK_NONE)
        walk_set_role(w->map, page, MEND_TRIED);
}

static bool mend_needed(const struct walk *w)
{
    for (uint32_t p = 1; p <= w->map->pages; p++)
        if (w->map->role[p] & (WALK_LOST | WALK_DAMAGED))
            return true;
    return false;
}

void walk_mend_pointer_map(struct walk *w)
{
    struct walk_map *m = w->map;
    struct mend s = {0};
    if (!mend_needed(w))
        return;
    for (uint32_t p = 2; p <= m->pages && w->failed == WALK_OK; p++)
        if (walk_role(m, p) == WALK_NONE)
            mend_page(w, &s, p);
    for (uint32_t p = 2; p <= m->pages; p++)
        if (walk_role(m, p) >= WALK_ROLES)
            walk_set_role(m, p, WALK_NONE);
    free(s.steps);
}
