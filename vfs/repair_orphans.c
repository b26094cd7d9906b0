/* repair_orphans.c: pages that nobody names: whose are they?
 *
 * Below a bad interior page whose children the map does not know, there are leaves without an owner. They
 * are one table's if they can be no other's: no other object of its kind has such a bad page, nor has the
 * free list (pages of deleted rows look the same), nothing is damaged, and sqlite_schema is whole. Then
 * that table *adopts* those of its kind. (Pages of overflow cannot be taken for such: they begin with the
 * number of a page, which is below ADOPT_PAGES_MAX.)
 *
 * Where they cannot be told apart, all objects concerned give them up, together, which is a loss.
 *
 * Once no object is left whose they could be, they become free. Left behind they would be taken for those
 * of the next object that has lost some.
 */
#include <stdio.h>
#include <string.h>

#include "vfs/repair.h"

/* The first byte of a page's number below this is none of a b-tree page (2, 5, 10, 13). */
#define ADOPT_PAGES_MAX UINT32_C(0x02000000)

static bool orphans_is(struct repair *r, uint32_t page, bool keys)
{
    uint8_t type;
    if (walk_role(r->map, page) != WALK_NONE || r->bad[page] || !repair_load(r, page, &type, 1))
        return false;
    return keys ? type == 0x0a || type == 0x02 : type == 0x0d;
}

/* No page that can be read may hang below a bad one of these objects: those that may be leaves are, and
 * the others have lost what hung there. Bad pages without an owner may be theirs. */
static void orphans_none(struct repair *r, enum repair_means means, uint32_t orphans_bad)
{
    for (uint32_t i = 0; i < r->tree_count; i++) {
        struct repair_tree *t = &r->trees[i];
        if (t->means != means || !t->open)
            continue;
        t->leaves_bad += t->vague;
        t->open = t->vague = 0;
        t->orphans_bad = orphans_bad;
    }
}

/* A page of the free list whose leaves nobody knows: what was deleted must not come back. */
static bool orphans_trunk_open(const struct repair *r)
{
    for (uint32_t p = 2; p <= r->map->pages; p++)
        if (walk_role(r->map, p) == WALK_TRUNK && repair_is_bad_hole(r, p))
            return true;
    return false;
}

/* Pages that nobody names and that hang below something. */
struct orphans {
    uint32_t rows, keys,
        bad; /* leaves of tables; pages of indexes and tables WITHOUT ROWID; unreadable */
    uint64_t row_cells, key_cells;
};

static struct orphans orphans_count(struct repair *r)
{
    struct orphans o = {0};
    for (uint32_t p = 2; p <= r->map->pages && r->code == SQLITE_OK; p++) {
        uint8_t head[5];
        o.bad += walk_role(r->map, p) == WALK_NONE && r->bad[p];
        bool rows = orphans_is(r, p, false), keys = orphans_is(r, p, true);
        if (!(rows || keys) || !repair_load(r, p, head, sizeof head))
            continue;
        o.rows += rows;
        o.keys += keys;
        *(rows ? &o.row_cells : &o.key_cells) += dbformat_u16(head + 3);
    }
    return o;
}

static uint32_t orphans_count_open(const struct repair *r, enum repair_means means)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < r->tree_count; i++)
        count += r->trees[i].open && r->trees[i].means == means;
    return count;
}

/* Who gives up is said before: it is done together. */
static void orphans_say(struct repair *r)
{
    char names[90] = "";
    for (uint32_t i = 0; i < r->tree_count; i++) {
        const struct repair_tree *t = &r->trees[i];
        size_t used = strlen(names);
        if (t->gives_up && t->means != MEANS_REINDEX)
            snprintf(names + used, sizeof names - used, "%s\"%.40s\"", used ? ", " : "",
                     t->object->name);
    }
    for (uint32_t i = 0; i < r->tree_count; i++)
        if (r->trees[i].gives_up)
            snprintf(
                r->trees[i].why, sizeof r->trees[i].why,
                "what hangs below it cannot be told apart: restore a backup, or it is given up, "
                "by all at once: %s",
                names);
}

/* Who adopts, and who has to give up what hangs below it, since it may be somebody else's? An index that
 * is filled again needs its pages no more; but they are not to be taken for those of a table WITHOUT
 * ROWID. */
void repair_adopt(struct repair *r)
{
    bool sound = !r->schema_bad && !r->damaged && r->map->pages < ADOPT_PAGES_MAX;
    struct orphans o = sound ? orphans_count(r) : (struct orphans){0};
    if (sound && !o.rows)
        orphans_none(r, MEANS_ROWS, o.bad);
    if (sound && !o.keys)
        orphans_none(r, MEANS_KEYS, o.bad);
    r->sound = sound;
    uint32_t rows = orphans_count_open(r, MEANS_ROWS), keys = orphans_count_open(r, MEANS_KEYS);
    uint32_t indexes = orphans_count_open(r, MEANS_REINDEX);
    bool clear = sound && !orphans_trunk_open(r) && !(o.bad && rows && keys);
    bool rows_adopt = clear && rows == 1, keys_adopt = clear && keys == 1 && !indexes;
    for (uint32_t i = 0; i < r->tree_count; i++) {
        struct repair_tree *t = &r->trees[i];
        if (!t->open || t->means == MEANS_NONE)
            continue;
        t->adopts =
            (t->means == MEANS_ROWS && rows_adopt) || (t->means == MEANS_KEYS && keys_adopt);
        t->orphans_bad = t->adopts ? o.bad : 0;
        if (t->adopts || (t->means == MEANS_REINDEX && (!keys || keys_adopt)))
            continue;
        if (sound) {
            t->gives_up = true;
            t->given_up = t->means == MEANS_ROWS ? o.row_cells : o.key_cells;
        } else if (t->means != MEANS_REINDEX) {
            t->means = MEANS_NONE;
        }
        if (!sound)
            snprintf(t->why, sizeof t->why,
                     "what hangs below it is not known, and cannot be told apart from what hangs "
                     "below other pages: restore a backup, or use .recover");
    }
    orphans_say(r);
}

void repair_free_orphans(struct repair *r)
{
    for (uint32_t p = 2; r->changes && r->sound && p <= r->map->pages; p++)
        if ((!r->rows_open && orphans_is(r, p, false)) || (!r->keys_open && orphans_is(r, p, true)))
            r->fate[p] = FATE_FREE;
}
