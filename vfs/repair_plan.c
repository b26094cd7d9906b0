/* repair_plan.c: what is bad, whose it is, what can be done about it and what that costs.
 *
 * An object is repaired as a whole: an index with any bad page is emptied and filled again; a table
 * with rowids keeps every leaf that can be read, and what is above the leaves is built anew; one WITHOUT
 * ROWID keeps every row (repair_keys.c). So a bad interior page costs nothing, or its own rows, provided
 * that all leaves are known. They are if
 *   - the map before, or a pointer map that can be read, says what hung below the bad page; or
 *   - all pages that nobody names can only be this table's (repair_orphans.c).
 *
 * What an object no longer uses becomes free, and so does what nobody names, if no hole is left below
 * which it may hang (repair_pages.c).
 *
 * An entry is closed if everything in it is put right: with pages below 4096 bytes it may have
 * several owners.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "vfs/repair.h"

/* The least that a cell and its pointer take. */
#define PLAN_CELL_LEAST 6u

/* The map knows what hangs below a bad page: it was made before the page was bad, or kept that. */
static bool plan_knows(const struct repair *r, uint32_t page)
{
    return !(r->map->role[page] & WALK_LOST) || (r->map->role[page] & WALK_KEPT);
}

bool repair_is_bad_hole(const struct repair *r, uint32_t page)
{
    enum walk_role role = walk_role(r->map, page);
    bool names = walk_is_tree(role) || walk_is_overflow(role) || role == WALK_TRUNK;
    return r->bad[page] && names && !plan_knows(r, page) && !r->map_complete;
}

struct repair_tree *repair_tree_of(const struct repair *r, uint32_t root)
{
    for (uint32_t i = 0; root && i < r->tree_count; i++)
        if (r->trees[i].root == root)
            return &r->trees[i];
    return NULL;
}

/* The object that the page belongs to, or may belong to, if it has bad pages. */
static struct repair_tree *plan_tree_for(const struct repair *r, uint64_t page)
{
    if (page < 1 || page > r->map->pages)
        return NULL;
    if (walk_role(r->map, (uint32_t)page) != WALK_NONE)
        return repair_tree_of(r, walk_root_of(r->map, (uint32_t)page));
    for (uint32_t i = 0; i < r->tree_count; i++)
        if (r->trees[i].adopts)
            return &r->trees[i];
    return NULL;
}

/* --- what is bad ------------------------------------------------------------------------------ */

static bool plan_is_open(const struct repair_entry *e)
{
    return e->media.part == MEDIA_BASE && e->media.status == MEDIA_QUARANTINED &&
           e->done == REPAIR_NOTHING;
}

static int plan_compare_pages(const void *a, const void *b)
{
    const struct repair_entry *x = *(struct repair_entry *const *)a;
    const struct repair_entry *y = *(struct repair_entry *const *)b;
    return x->media.page < y->media.page ? -1 : x->media.page > y->media.page;
}

static void plan_sort_open(struct repair *r)
{
    for (uint32_t i = 0; i < r->entry_count; i++)
        if (plan_is_open(&r->entries[i]))
            r->open[r->open_count++] = &r->entries[i];
    qsort(r->open, r->open_count, sizeof(struct repair_entry *), plan_compare_pages);
}

static void plan_mark_bad(struct repair *r)
{
    const struct walk_map *m = r->map;
    for (uint32_t p = 1; p <= m->pages; p++) {
        if (m->role[p] & WALK_LOST)
            r->bad[p] = REPAIR_BAD_ALONE;
        if ((m->role[p] & WALK_DAMAGED) && !r->damaged)
            r->damaged = p;
    }
    for (uint32_t i = 0; i < r->entry_count; i++) {
        struct repair_entry *e = &r->entries[i];
        if (!plan_is_open(e))
            continue;
        e->count = owner_pages_within(r->owners, e->media.page, &e->first);
        for (uint32_t k = 0; k < e->count; k++) {
            uint64_t p = e->first + k;
            if (p <= m->pages && (!r->bad[p] || r->bad[p] == REPAIR_BAD_ALONE))
                r->bad[p] = i + 1;
        }
    }
    r->map_complete = m->header.pointer_map;
    for (uint32_t p = 2; p <= m->pages; p++) {
        uint8_t *below = &r->below[m->parent[p] <= m->pages ? m->parent[p] : 0];
        if (walk_is_tree(walk_role(m, p)))
            *below |= BELOW_TREE;
        if (r->bad[p] && walk_is_overflow(walk_role(m, p)))
            *below |= BELOW_BAD_OVERFLOW;
        if (r->bad[p] && walk_role(m, p) == WALK_POINTER_MAP)
            r->map_complete = false;
        if (r->bad[p] && walk_root_of(m, p) == 1)
            r->schema_bad = true;
    }
    r->schema_bad |= r->bad[1] != 0;
}

/* --- objects ---------------------------------------------------------------------------------- */

/* Columns of the primary key of a table WITHOUT ROWID, 0: it is none. */
static unsigned plan_key_columns(const struct repair *r, const struct walk_object *o)
{
    for (const struct repair_key *k = r->keys; k && k->name; k++)
        if (strcasecmp(k->name, o->name) == 0)
            return k->columns;
    return 0;
}

static struct repair_tree *plan_add_tree(struct repair *r, uint32_t root)
{
    struct repair_tree *grown = realloc(r->trees, (r->tree_count + 1) * sizeof *grown);
    if (!grown) {
        repair_fail(r, SQLITE_NOMEM, "no memory");
        return NULL;
    }
    r->trees = grown;
    struct repair_tree *t = &r->trees[r->tree_count++];
    memset(t, 0, sizeof *t);
    t->root = root;
    t->object = walk_object_of(r->map, root);
    if (r->damaged)
        snprintf(t->why, sizeof t->why,
                 "page %u of the database is damaged (PRAGMA integrity_check says more): restore a "
                 "backup, or use .recover",
                 r->damaged);
    else if (root == 1 && !r->bad[1])
        t->means = MEANS_SCHEMA;
    else if (root == 1 || r->schema_bad)
        snprintf(t->why, sizeof t->why,
                 "%s cannot be read, and without it nothing is known of tables: %s",
                 r->bad[1] ? "page 1, where sqlite_schema begins," : "a page of sqlite_schema",
                 r->bad[1] ? "restore a backup, or use .recover" : "repair that first");
    else if (!t->object)
        snprintf(t->why, sizeof t->why, "nobody knows what object it belongs to");
    else if (t->object->index)
        t->means = MEANS_REINDEX;
    else if ((t->key_columns = plan_key_columns(r, t->object)) != 0)
        t->means = MEANS_KEYS;
    else
        t->means = MEANS_ROWS;
    return t;
}

/* A bad page of a tree: of which kind, and does the map know what hangs below it? */
static void plan_tree_page(struct repair *r, struct repair_tree *t, uint32_t page)
{
    const struct walk_map *m = r->map;
    enum walk_role role = walk_role(m, page);
    bool leaf = role == WALK_LEAF || role == WALK_ROOT_LEAF;
    bool interior = role == WALK_INTERIOR || role == WALK_ROOT_INTERIOR;
    bool known = plan_knows(r, page) || r->map_complete;
    if (walk_is_overflow(role))
        return;
    if (leaf || (!interior && known && !(r->below[page] & BELOW_TREE))) {
        t->leaves_bad++;
        t->reshape = true;
    } else {
        t->reshape = true;
        t->open += !known;
        t->vague += !known && !interior && !(r->below[page] & BELOW_TREE);
    }
}

static void plan_trees(struct repair *r)
{
    for (uint32_t p = 1; p <= r->map->pages && r->code == SQLITE_OK; p++) {
        uint32_t root = r->bad[p] ? walk_root_of(r->map, p) : 0;
        if (!root)
            continue;
        struct repair_tree *t = repair_tree_of(r, root);
        if (!t)
            t = plan_add_tree(r, root);
        if (t)
            plan_tree_page(r, t, p);
    }
}

/* --- choosing --------------------------------------------------------------------------------- */

static struct repair_tree *plan_table_of(struct repair *r, const struct walk_object *index)
{
    for (uint32_t i = 0; i < r->tree_count; i++) {
        const struct walk_object *o = r->trees[i].object;
        if (o && !o->index && strcasecmp(o->name, index->table) == 0)
            return &r->trees[i];
    }
    return NULL;
}

static uint32_t plan_bad_page_of(const struct repair *r, uint32_t root)
{
    for (uint32_t p = 1; p <= r->map->pages; p++)
        if (r->bad[p] && walk_root_of(r->map, p) == root)
            return p;
    return root;
}

static void plan_costs(struct repair *r)
{
    for (uint32_t i = 0; i < r->tree_count && r->code == SQLITE_OK; i++) {
        struct repair_tree *t = &r->trees[i];
        if (t->means == MEANS_ROWS)
            repair_table_scan(r, t);
        else if (t->means == MEANS_KEYS)
            repair_keys_scan(r, t);
        else if (t->means == MEANS_SCHEMA)
            repair_schema_scan(r, t);
        t->loses = t->means == MEANS_KEYS ||
                   (t->means == MEANS_SCHEMA && (t->leaves_bad || t->open || t->rows_lost)) ||
                   (t->means == MEANS_ROWS &&
                    (t->leaves_bad || t->orphans_bad || t->rows_lost || t->gives_up));
    }
    /* An index is filled from its table. */
    for (uint32_t i = 0; i < r->tree_count; i++) {
        struct repair_tree *t = &r->trees[i];
        struct repair_tree *table = t->means == MEANS_REINDEX ? plan_table_of(r, t->object) : NULL;
        if (table && (table->loses || table->means == MEANS_NONE))
            t->needs = plan_bad_page_of(r, table->root);
    }
}

static void plan_choose_with_table(struct repair *r, struct repair_tree *t)
{
    t->chosen = true;
    for (uint32_t i = 0; i < r->tree_count; i++) {
        struct repair_tree *x = &r->trees[i];
        bool with = x->means == MEANS_REINDEX && plan_table_of(r, x->object) == t;
        if (!x->chosen && (with || (t->gives_up && x->gives_up)))
            plan_choose_with_table(r, x);
    }
}

/* Those who give up what cannot be told apart do so together: what one left behind, another one would take
 * for its own. */
static bool plan_group_possible(struct repair *r)
{
    for (uint32_t i = 0; i < r->tree_count; i++) {
        struct repair_tree *t = &r->trees[i];
        struct repair_tree *table = t->means == MEANS_REINDEX ? plan_table_of(r, t->object) : NULL;
        if (t->gives_up && (t->means == MEANS_NONE || (t->needs && !(table && table->gives_up))))
            return false;
    }
    return true;
}

static bool plan_possible(struct repair *r, const struct repair_tree *t, bool allow_loss)
{
    if (t->means == MEANS_NONE || (!allow_loss && (t->loses || t->gives_up)))
        return false;
    return t->gives_up ? plan_group_possible(r) : !t->needs;
}

static bool plan_entry_has(const struct repair *r, const struct repair_entry *e, uint32_t root)
{
    for (uint32_t k = 0; k < e->count; k++) {
        uint64_t p = e->first + k;
        if (p <= r->map->pages && walk_root_of(r->map, (uint32_t)p) == root)
            return true;
    }
    return false;
}

/* The objects of an entry, if that is possible for all of them. */
static void plan_choose_entry(struct repair *r, struct repair_entry *e)
{
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t k = 0; k < e->count; k++) {
            struct repair_tree *t = plan_tree_for(r, e->first + k);
            if (!t)
                continue;
            struct repair_tree *table =
                t->means == MEANS_REINDEX ? plan_table_of(r, t->object) : NULL;
            bool with_table = table && plan_entry_has(r, e, table->root);
            if (pass == 0 && (with_table ? !plan_possible(r, table, r->allow_loss)
                                         : !plan_possible(r, t, r->allow_loss)))
                return;
            if (pass == 1)
                plan_choose_with_table(r, t);
            if (pass == 1 && table)
                plan_choose_with_table(r, table);
        }
}

static void plan_choose_trees(struct repair *r)
{
    if (r->all) {
        for (uint32_t i = 0; i < r->tree_count; i++)
            r->trees[i].chosen = plan_possible(r, &r->trees[i], false);
        return;
    }
    for (uint32_t i = 0; i < r->entry_count; i++)
        if (r->entries[i].asked && plan_is_open(&r->entries[i]))
            plan_choose_entry(r, &r->entries[i]);
}

/* Is the page's new content known? Else e->how says why not. */
static bool plan_resolved(struct repair *r, struct repair_entry *e, uint64_t page)
{
    const struct walk_map *m = r->map;
    if (page < 1 || page > m->pages)
        return true;
    uint32_t p = (uint32_t)page;
    struct repair_tree *t = plan_tree_for(r, p);
    switch (walk_role(m, p)) {
    case WALK_TRUNK:
        if (!r->damaged && repair_is_bad_hole(r, p) && (r->rows_open || r->keys_open)) {
            snprintf(e->how, sizeof e->how,
                     "free pages that it names cannot be told apart from what hangs below pages of "
                     "tables: repair these first");
            return false;
        }
        if (!r->damaged)
            return true;
        snprintf(e->how, sizeof e->how,
                 "page %u of the database is damaged: restore a backup, or "
                 "use .recover",
                 r->damaged);
        return false;
    case WALK_POINTER_MAP:
        if (!r->chain_left && !r->schema_left && !r->damaged)
            return true;
        snprintf(e->how, sizeof e->how,
                 "the pointer map is built from the trees, and pages of tables cannot be read: "
                 "repair these first");
        return false;
    case WALK_FREE:
    case WALK_LOCK_BYTE: return true;
    case WALK_NONE:
        if (!r->hole_left && !r->damaged && !r->schema_left)
            return true;
        snprintf(e->how, sizeof e->how, "its owner is not known while page %u cannot be read",
                 r->hole ? r->hole : r->damaged);
        return false;
    default: break;
    }
    if (t && t->chosen)
        return true;
    if (t && t->needs)
        snprintf(e->how, sizeof e->how,
                 "an index is filled from its table, and page %u of table \"%.80s\" has to be "
                 "repaired first",
                 t->needs, t->object->table);
    else if (t && t->why[0])
        snprintf(e->how, sizeof e->how, "%s", t->why);
    else if (t && t->loses && t->means == MEANS_SCHEMA)
        snprintf(e->how, sizeof e->how,
                 "entries of sqlite_schema would be lost, and with them the tables and indexes "
                 "themselves: loss says which, as far as it is known");
    else if (t && t->loses)
        snprintf(e->how, sizeof e->how, "rows of table \"%.80s\" would be lost", t->object->name);
    else if (t)
        snprintf(e->how, sizeof e->how, "other pages in these 4096 bytes cannot be repaired");
    else
        snprintf(e->how, sizeof e->how, "nobody knows what object it belongs to");
    return false;
}

static void plan_find_holes(struct repair *r)
{
    r->chain_left = r->hole_left = r->rows_open = r->keys_open = false;
    for (uint32_t i = 0; i < r->tree_count; i++) {
        const struct repair_tree *t = &r->trees[i];
        r->rows_open |= t->open && !t->chosen && (t->means == MEANS_ROWS || t->means == MEANS_NONE);
        r->keys_open |= t->open && !t->chosen && (t->means == MEANS_KEYS || t->means == MEANS_NONE);
    }
    for (uint32_t p = 1; p <= r->map->pages; p++) {
        struct repair_tree *t = r->bad[p] ? plan_tree_for(r, p) : NULL;
        bool stays = r->bad[p] && !(t && t->chosen);
        r->chain_left |= stays && walk_is_overflow(walk_role(r->map, p));
        /* The free list is written anew in any case. */
        if (stays && !r->hole_left && walk_role(r->map, p) != WALK_TRUNK &&
            repair_is_bad_hole(r, p)) {
            r->hole_left = true;
            r->hole = p;
        }
    }
    struct repair_tree *schema = repair_tree_of(r, 1);
    r->schema_left = r->schema_bad && !(schema && schema->chosen);
    r->hole_left |= r->schema_left || r->damaged;
}

/* Nobody's any more, because of what is repaired: it takes no part in the free list unless it is good. */
static bool plan_becomes_free(const struct repair *r, uint64_t page)
{
    if (page < 1 || page > r->map->pages || walk_role(r->map, (uint32_t)page) != WALK_NONE)
        return false;
    for (uint32_t i = 0; i < r->tree_count && !r->hole_left; i++)
        if (r->trees[i].chosen)
            return true;
    return false;
}

static void plan_choose_one(struct repair *r, struct repair_entry *e)
{
    bool resolved = plan_is_open(e), touches = e->asked;
    e->chosen = false;
    for (uint32_t k = 0; k < e->count && plan_is_open(e); k++) {
        struct repair_tree *t = plan_tree_for(r, e->first + k);
        resolved = resolved && plan_resolved(r, e, e->first + k);
        touches |= t ? t->chosen : plan_becomes_free(r, e->first + k);
    }
    if (!resolved || !touches)
        return;
    e->chosen = true;
    e->how[0] = '\0';
}

static void plan_choose_entries(struct repair *r)
{
    for (uint32_t i = 0; i < r->entry_count; i++)
        plan_choose_one(r, &r->entries[i]);
}

/* The root of an object stays where it is. Where it shares 4096 bytes with what cannot be repaired,
 * nor can the object. False: nothing had to be taken back. */
static bool plan_take_back(struct repair *r)
{
    bool any = false;
    for (uint32_t i = 0; i < r->tree_count; i++) {
        struct repair_tree *t = &r->trees[i];
        struct repair_tree *table = t->means == MEANS_REINDEX ? plan_table_of(r, t->object) : NULL;
        if (!t->chosen || repair_writable(r, t->root))
            continue;
        any = true;
        t->chosen = false;
        if (table && table->loses)
            table->chosen = false; /* its indexes have to be filled again */
    }
    return any;
}

static void plan_choose(struct repair *r)
{
    plan_choose_trees(r);
    do {
        plan_find_holes(r);
        plan_choose_entries(r);
    } while (plan_take_back(r));
    for (uint32_t i = 0; i < r->entry_count; i++)
        r->changes |= r->entries[i].chosen;
    for (uint32_t i = 0; i < r->tree_count; i++)
        r->changes |= r->trees[i].chosen;
}

static void plan_add_loss(struct repair_loss *loss, const struct repair_loss *part)
{
    if (part->pages == 0)
        return;
    if (loss->pages == 0) {
        *loss = *part;
        return;
    }
    loss->pages++;
    loss->entries |= part->entries;
    loss->rows += part->rows;
    loss->rows_most += part->rows_most;
    loss->has_from &= part->has_from;
    loss->has_to &= part->has_to;
    loss->from = part->from < loss->from ? part->from : loss->from;
    loss->to = part->to > loss->to ? part->to : loss->to;
    /* Which key is the greater one, only the table's collations know. */
    loss->key_after[0] = loss->key_before[0] = '\0';
}

static struct repair_loss plan_loss_of_leaf(const struct repair *r)
{
    uint64_t most = r->map->header.usable / PLAN_CELL_LEAST;
    return (struct repair_loss){.pages = 1, .rows = most, .rows_most = most};
}

/* Of one of several objects, nobody can say of which. */
static bool plan_may_be_leaf(const struct repair *r, uint32_t page)
{
    bool may = false;
    for (uint32_t i = 0; i < r->tree_count; i++)
        may |= r->trees[i].orphans_bad != 0;
    return may && walk_role(r->map, page) == WALK_NONE;
}

static void plan_losses(struct repair *r)
{
    for (uint32_t i = 0; i < r->entry_count; i++) {
        struct repair_entry *e = &r->entries[i];
        for (uint32_t k = 0; k < e->count && plan_is_open(e) && r->code == SQLITE_OK; k++) {
            uint64_t p = e->first + k;
            if (p > r->map->pages)
                continue;
            struct repair_tree *t = plan_tree_for(r, p);
            struct repair_loss part = {0};
            if (t && t->means == MEANS_ROWS && t->loses)
                repair_table_loss(r, t, (uint32_t)p, &part);
            else if (t && t->means == MEANS_KEYS)
                repair_keys_loss(r, t, (uint32_t)p, &part);
            else if (t && t->means == MEANS_SCHEMA && t->loses)
                part = (struct repair_loss){
                    .pages = 1, .rows = t->given_up, .rows_most = t->given_up, .entries = true};
            else if (!t && r->bad[p] && plan_may_be_leaf(r, (uint32_t)p))
                part = plan_loss_of_leaf(r);
            if (t && t->gives_up && t->means != MEANS_REINDEX &&
                repair_is_bad_hole(r, (uint32_t)p)) {
                part.pages = 1;
                part.rows += t->given_up;
                part.rows_most += t->given_up;
            }
            plan_add_loss(&e->loss, &part);
        }
    }
}

/* --- the whole -------------------------------------------------------------------------------- */

static bool plan_allocate(struct repair *r)
{
    size_t n = (size_t)r->map->pages + 1, size = repair_page_size(r);
    r->open = calloc((size_t)r->entry_count + 1, sizeof(struct repair_entry *));
    r->bad = calloc(n, sizeof *r->bad);
    r->below = calloc(n, 1);
    r->fate = calloc(n, 1);
    r->map_type = calloc(r->map->header.pointer_map ? n : 1, 1);
    r->map_parent = calloc(r->map->header.pointer_map ? n : 1, sizeof *r->map_parent);
    r->buf = malloc(size);
    r->buf2 = malloc(size);
    r->tree = malloc(sizeof *r->tree);
    if (r->open && r->bad && r->below && r->fate && r->map_type && r->map_parent && r->buf &&
        r->buf2 && r->tree)
        return true;
    return repair_fail(r, SQLITE_NOMEM, "no memory");
}

void repair_plan(struct repair *r)
{
    if (r->map->no_header) {
        for (uint32_t i = 0; i < r->entry_count; i++)
            if (plan_is_open(&r->entries[i]))
                snprintf(r->entries[i].how, sizeof r->entries[i].how,
                         "the first page of the database cannot be read: restore a backup, or use "
                         ".recover");
        return;
    }
    if (!plan_allocate(r))
        return;
    plan_sort_open(r);
    plan_mark_bad(r);
    plan_trees(r);
    repair_adopt(r);
    plan_costs(r);
    plan_choose(r);
    repair_free_orphans(r);
    plan_losses(r);
}

void repair_plan_free(struct repair *r)
{
    for (uint32_t i = 0; i < r->entry_count; i++)
        free(r->entries[i].data);
    for (uint32_t i = 0; i < r->tree_count; i++) {
        free(r->trees[i].leaves);
        free(r->trees[i].items.item);
        free(r->trees[i].gaps.item);
    }
    free(r->entries);
    free(r->trees);
    free(r->open);
    free(r->bad);
    free(r->below);
    free(r->fate);
    free(r->map_type);
    free(r->map_parent);
    free(r->buf);
    free(r->buf2);
    free(r->tree);
    owner_map_release(r->owners);
}
