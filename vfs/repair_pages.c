/* repair_pages.c: from what was decided to pages: the objects, the free list, the pointer map.
 *
 * The pages go straight into the running transaction of the engine, before SQLite has read anything
 * of it: to SQLite they are the state that it finds. All of them, what SQLite then adds, and the closing
 * of the entries are one commit.
 *
 * The free list is written anew as a whole: what was free, what objects gave up, and, if no hole is
 * left, what nobody names. Pages with bad bytes that stay bad can be in it, since SQLite does not read
 * free pages; but not as trunks.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vfs/repair.h"
#include "vfs/report.h"

#define LEAF_INDEX 0x0au
#define LEAF_TABLE 0x0du
#define INTERIOR_INDEX 0x02u
#define INTERIOR_TABLE 0x05u
#define HEADER_FREE_TRUNK 32u
#define HEADER_FREE_COUNT 36u
#define POINTER_BYTES 5u
/* Words of a trunk that SQLite leaves unused, for the sake of its versions before 3.6.0. */
#define TRUNK_SPARE_WORDS 8u

static void pages_put32(uint8_t *p, uint32_t v)
{
    for (int i = 3; i >= 0; i--, v >>= 8)
        p[i] = (uint8_t)v;
}

static void pages_put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

/* --- reading and writing ---------------------------------------------------------------------- */

bool repair_load(struct repair *r, uint32_t page, void *buf, uint32_t len)
{
    uint64_t offset = (uint64_t)(page - 1) * repair_page_size(r);
    dax_rc rc = conn_read_committed(r->c, buf, len, offset, &r->err);
    if (rc == DAX_OK || rc == DAX_SHORT_READ)
        return true;
    if (rc != DAX_IO_READ && rc != DAX_IO_MEDIA)
        repair_fail(r, report_code(REPORT_READ, rc), "%s", r->err.text);
    return false;
}

static struct repair_entry *pages_entry(const struct repair *r, uint64_t engine_page)
{
    uint32_t low = 0, high = r->open_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (r->open[mid]->media.page < engine_page)
            low = mid + 1;
        else
            high = mid;
    }
    return low < r->open_count && r->open[low]->media.page == engine_page ? r->open[low] : NULL;
}

bool repair_writable(const struct repair *r, uint32_t page)
{
    uint64_t size = repair_page_size(r), from = (page - UINT64_C(1)) * size;
    if (!r->bad[page])
        return true;
    if (r->bad[page] == REPAIR_BAD_ALONE)
        return false;
    for (uint64_t p = from / DAX_PAGE_BYTES; p <= (from + size - 1) / DAX_PAGE_BYTES; p++) {
        const struct repair_entry *e = pages_entry(r, p);
        if (e && !e->chosen)
            return false;
    }
    return true;
}

static bool pages_write(struct repair *r, const uint8_t *d, size_t len, uint64_t offset)
{
    uint64_t size = conn_size(r->c);
    if (offset >= size)
        return true;
    /* The last of the engine's pages may be in the database with a part of it, and is written whole
     * all the same. */
    dax_rc rc = conn_write(r->c, d, len, offset, &r->err);
    if (rc == DAX_OK && conn_size(r->c) > size)
        rc = conn_truncate(r->c, size, &r->err);
    if (rc == DAX_OK)
        return true;
    return repair_fail(r, r->err.rc == DAX_FULL ? SQLITE_FULL : SQLITE_IOERR_WRITE, "%s",
                       r->err.text);
}

bool repair_put(struct repair *r, uint32_t page, const uint8_t *d)
{
    uint32_t size = repair_page_size(r);
    uint64_t offset = (uint64_t)(page - 1) * size;
    if (!r->bad[page])
        return pages_write(r, d, size, offset);
    for (uint32_t at = 0; at < size;) {
        uint64_t engine_page = (offset + at) / DAX_PAGE_BYTES;
        uint32_t within = (uint32_t)((offset + at) % DAX_PAGE_BYTES);
        uint32_t n = DAX_PAGE_BYTES - within < size - at ? DAX_PAGE_BYTES - within : size - at;
        struct repair_entry *e = pages_entry(r, engine_page);
        if (e && (!e->chosen || !e->data))
            return repair_fail(r, SQLITE_INTERNAL, "page %u is not to be repaired", page);
        if (e)
            memcpy(e->data + within, d + at, n);
        else if (!pages_write(r, d + at, n, offset + at))
            return false;
        at += n;
    }
    return true;
}

/* --- pages of trees --------------------------------------------------------------------------- */

bool repair_chain(struct repair *r, const struct dbformat_ref *ref, uint32_t owner,
                  uint32_t *broken_out)
{
    const struct walk_map *m = r->map;
    uint64_t left = ref->overflow_bytes, each = m->header.usable - 4;
    uint32_t page = ref->overflow, before = owner; /* no page owns itself */
    uint8_t next[4];
    while (left) {
        enum walk_role role = page >= 2 && page <= m->pages ? walk_role(m, page) : WALK_LOCK_BYTE;
        *broken_out = page;
        if ((!walk_is_overflow(role) && role != WALK_NONE) || r->bad[page] ||
            !repair_load(r, page, next, sizeof next))
            return false;
        if (owner) {
            r->fate[page] = FATE_USED;
            repair_map_set(r, page, before == owner ? MAP_OVERFLOW_FIRST : MAP_OVERFLOW, before);
            before = page;
        }
        left -= left < each ? left : each;
        page = dbformat_u32(next);
    }
    return true;
}

/* A page without an owner, of the same kind of tree. Those that the table keeps are FATE_USED by now. */
static bool pages_is_own_kind(struct repair *r, const struct repair_tree *t, uint32_t page)
{
    uint8_t type;
    if (r->bad[page] || !repair_load(r, page, &type, 1))
        return false;
    return t->means == MEANS_KEYS ? type == INTERIOR_INDEX || type == LEAF_INDEX
                                  : type == INTERIOR_TABLE || type == LEAF_TABLE;
}

uint32_t repair_take_page(struct repair *r, const struct repair_tree *t, uint32_t *from)
{
    const struct walk_map *m = r->map;
    for (uint32_t p = *from; p <= m->pages; p++) {
        bool own = r->fate[p] == FATE_FREE && walk_root_of(m, p) == t->root;
        if (own && repair_writable(r, p)) {
            *from = p + 1;
            return p;
        }
    }
    *from = m->pages + 1;
    for (uint32_t p = 2; p <= m->pages; p++) {
        enum walk_role role = walk_role(m, p);
        bool is_free = (role == WALK_FREE || role == WALK_TRUNK) && r->fate[p] == FATE_OLD;
        bool own =
            role == WALK_NONE && t->adopts && r->fate[p] != FATE_USED && pages_is_own_kind(r, t, p);
        if ((is_free || own) && repair_writable(r, p))
            return p;
    }
    repair_fail(r, SQLITE_FULL, "table \"%s\" needs a page, and none is free", t->object->name);
    return 0;
}

void repair_page_begin(struct repair *r, struct repair_page *p, uint8_t *d, uint8_t type)
{
    bool leaf = type == LEAF_INDEX || type == LEAF_TABLE;
    memset(d, 0, repair_page_size(r));
    d[0] = type;
    *p = (struct repair_page){d, leaf ? 8 : 12, 0, r->map->header.usable};
}

void repair_page_add(struct repair_page *p, uint32_t child, const uint8_t *cell, uint32_t length)
{
    uint32_t before = child ? 4 : 0, whole = before + length;
    p->content -= whole < 4 ? 4 : whole;
    if (child)
        pages_put32(p->d + p->content, child);
    memcpy(p->d + p->content + before, cell, length);
    pages_put16(p->d + p->header + 2 * p->cells++, p->content);
}

void repair_page_last(struct repair_page *p, uint32_t child)
{
    pages_put32(p->d + 8, child);
}

void repair_page_end(struct repair_page *p)
{
    pages_put16(p->d + 3, p->cells);
    pages_put16(p->d + 5, p->content & 0xffff); /* 65536 is 0 */
}

/* --- an index --------------------------------------------------------------------------------- */

static void pages_empty_index(struct repair *r, const struct repair_tree *t)
{
    const struct walk_map *m = r->map;
    uint32_t content = m->header.usable;
    for (uint32_t p = 2; p <= m->pages; p++)
        if (p != t->root && walk_root_of(m, p) == t->root)
            r->fate[p] = FATE_FREE;
    memset(r->buf, 0, m->header.page_size);
    r->buf[0] = LEAF_INDEX;
    r->buf[5] = (uint8_t)(content >> 8); /* 65536 is 0 */
    r->buf[6] = (uint8_t)content;
    (void)repair_put(r, t->root, r->buf);
}

/* --- the free list ---------------------------------------------------------------------------- */

static bool pages_was_free(const struct repair *r, uint32_t page)
{
    enum walk_role role = walk_role(r->map, page);
    return role == WALK_FREE || role == WALK_TRUNK;
}

static bool pages_is_free(const struct repair *r, uint32_t page)
{
    if (r->fate[page] != FATE_OLD)
        return r->fate[page] == FATE_FREE;
    return pages_was_free(r, page) || (walk_role(r->map, page) == WALK_NONE && !r->hole_left);
}

/* Has the free list to be written? If nothing becomes or ceases to be free, and its trunks are good,
 * it has not. */
static bool pages_list_changes(const struct repair *r)
{
    for (uint32_t p = 2; p <= r->map->pages; p++)
        if (pages_is_free(r, p) != pages_was_free(r, p) ||
            (r->bad[p] && walk_role(r->map, p) == WALK_TRUNK))
            return !r->damaged;
    return false;
}

/* The free pages, trunks first; *trunks_out: how many. */
static uint32_t *pages_collect_free(struct repair *r, uint32_t *count_out, uint32_t *trunks_out)
{
    uint32_t count = 0, cap = r->map->header.usable / 4 - TRUNK_SPARE_WORDS, trunks = 0, leaves;
    for (uint32_t p = 2; p <= r->map->pages; p++)
        count += pages_is_free(r, p);
    uint32_t want = (count + cap) / (cap + 1);
    uint32_t *list = malloc(((size_t)count + 1) * sizeof *list);
    if (!list) {
        repair_fail(r, SQLITE_NOMEM, "no memory");
        return NULL;
    }
    leaves = want;
    for (uint32_t p = 2; p <= r->map->pages; p++) {
        if (!pages_is_free(r, p))
            continue;
        bool trunk = trunks < want && repair_writable(r, p);
        if (!trunk && leaves == count) {
            repair_fail(r, SQLITE_FULL, "no free page can hold the free list");
            free(list);
            return NULL;
        }
        list[trunk ? trunks++ : leaves++] = p;
        if (!pages_was_free(r, p))
            repair_map_set(r, p, MAP_FREE, 0);
    }
    *count_out = count;
    *trunks_out = trunks;
    return list;
}

static void pages_free_list(struct repair *r)
{
    uint32_t count, trunks, cap = r->map->header.usable / 4 - TRUNK_SPARE_WORDS;
    uint32_t *list = pages_collect_free(r, &count, &trunks);
    if (!list)
        return;
    for (uint32_t i = 0, leaf = trunks; i < trunks && r->code == SQLITE_OK; i++) {
        uint32_t n = count - leaf < cap ? count - leaf : cap;
        memset(r->buf, 0, repair_page_size(r));
        pages_put32(r->buf, i + 1 < trunks ? list[i + 1] : 0);
        pages_put32(r->buf + 4, n);
        for (uint32_t k = 0; k < n; k++)
            pages_put32(r->buf + 8 + 4 * k, list[leaf + k]);
        leaf += n;
        (void)repair_put(r, list[i], r->buf);
    }
    if (r->code == SQLITE_OK && repair_load(r, 1, r->buf, repair_page_size(r))) {
        if (r->schema_bad && !r->schema_left)
            repair_schema_page_one(r, r->buf);
        pages_put32(r->buf + HEADER_FREE_TRUNK, count ? list[0] : 0);
        pages_put32(r->buf + HEADER_FREE_COUNT, count);
        (void)repair_put(r, 1, r->buf);
    } else {
        repair_fail(r, SQLITE_IOERR_READ, "page 1 cannot be read");
    }
    free(list);
}

/* --- the pointer map -------------------------------------------------------------------------- */

void repair_map_set(struct repair *r, uint32_t page, enum dbformat_map_type type, uint32_t parent)
{
    if (!r->map->header.pointer_map)
        return;
    r->map_type[page] = (uint8_t)type;
    r->map_parent[page] = parent;
}

/* Pages [from, to) of overflow: the page before each in its chain. */
static bool pages_map_chains(struct repair *r, uint8_t *d, uint32_t from, uint32_t to)
{
    const struct walk_map *m = r->map;
    uint8_t next[4];
    for (uint32_t p = 2; p <= m->pages && r->code == SQLITE_OK; p++) {
        if (!walk_is_overflow(walk_role(m, p)) || r->bad[p] || r->fate[p] == FATE_FREE ||
            !repair_load(r, p, next, sizeof next))
            continue;
        uint32_t to_page = dbformat_u32(next);
        if (to_page >= from && to_page < to && walk_role(m, to_page) == WALK_OVERFLOW)
            pages_put32(d + POINTER_BYTES * (to_page - from) + 1, p);
    }
    for (uint32_t p = from; p < to && r->code == SQLITE_OK; p++)
        if (walk_role(m, p) == WALK_OVERFLOW && !r->map_type[p] &&
            !dbformat_u32(d + POINTER_BYTES * (p - from) + 1))
            return repair_fail(r, SQLITE_IOERR_READ,
                               "the pointer map cannot be built while pages of overflow cannot be "
                               "read: repair the tables first");
    return r->code == SQLITE_OK;
}

/* What the trees say. */
static bool pages_map_anew(struct repair *r, uint8_t *d, uint32_t from, uint32_t to)
{
    const struct walk_map *m = r->map;
    memset(d, 0, m->header.page_size);
    for (uint32_t p = from; p < to; p++) {
        uint8_t *at = d + POINTER_BYTES * (p - from);
        enum walk_role role = walk_role(m, p);
        if (role == WALK_TRUNK || role == WALK_FREE)
            at[0] = MAP_FREE;
        else if (walk_is_root(role))
            at[0] = MAP_ROOT;
        else if (walk_is_tree(role))
            at[0] = MAP_TREE;
        else if (role == WALK_OVERFLOW_FIRST)
            at[0] = MAP_OVERFLOW_FIRST;
        else if (role == WALK_OVERFLOW)
            at[0] = MAP_OVERFLOW;
        if (at[0] == MAP_TREE || at[0] == MAP_OVERFLOW_FIRST)
            pages_put32(at + 1, m->parent[p]);
    }
    return pages_map_chains(r, d, from, to);
}

static void pages_map_page(struct repair *r, uint32_t page)
{
    const struct walk_map *m = r->map;
    uint32_t from = page + 1, to = from + m->header.usable / POINTER_BYTES;
    bool anew = r->bad[page] != 0, changed = anew;
    if (to > m->pages + 1)
        to = m->pages + 1;
    for (uint32_t p = from; p < to; p++)
        changed |= r->map_type[p] != 0;
    if (!changed || !repair_writable(r, page))
        return; /* one that stays bad is built when it is repaired */
    if (anew ? !pages_map_anew(r, r->buf, from, to)
             : !repair_load(r, page, r->buf, m->header.page_size)) {
        repair_fail(r, SQLITE_IOERR_READ, "page %u cannot be read", page);
        return;
    }
    for (uint32_t p = from; p < to; p++) {
        if (!r->map_type[p])
            continue;
        r->buf[POINTER_BYTES * (p - from)] = r->map_type[p];
        pages_put32(r->buf + POINTER_BYTES * (p - from) + 1, r->map_parent[p]);
    }
    (void)repair_put(r, page, r->buf);
}

/* --- the whole -------------------------------------------------------------------------------- */

static void pages_say(struct repair_entry *e, const char *what, const char *type, const char *name)
{
    char text[sizeof e->how];
    snprintf(text, sizeof text, "%s%s%.60s%s%s", type, *type ? " \"" : "", name, *type ? "\" " : "",
             what);
    if (strstr(e->how, text))
        return;
    size_t used = strlen(e->how);
    snprintf(e->how + used, sizeof e->how - used, "%s%s", used ? "; " : "", text);
}

/* In words what happens to the entry's pages. */
static void pages_describe(struct repair *r, struct repair_entry *e)
{
    for (uint32_t k = 0; k < e->count; k++) {
        uint64_t page = e->first + k;
        enum walk_role role =
            page >= 1 && page <= r->map->pages ? walk_role(r->map, (uint32_t)page) : WALK_FREE;
        struct repair_tree *t =
            page <= r->map->pages ? repair_tree_of(r, walk_root_of(r->map, (uint32_t)page)) : NULL;
        if (t && t->means == MEANS_REINDEX)
            pages_say(e, "filled again from its table", "index", t->object->name);
        else if (t && t->means == MEANS_SCHEMA)
            pages_say(e,
                      t->loses ? "sqlite_schema goes on without the entries that were lost"
                               : "sqlite_schema written anew",
                      "", "");
        else if (t && t->loses)
            pages_say(e, "goes on without the rows that were lost", "table", t->object->name);
        else if (t)
            pages_say(e, "built anew above its leaves", "table", t->object->name);
        else if (role == WALK_TRUNK)
            pages_say(e, "free list built anew", "", "");
        else if (role == WALK_POINTER_MAP)
            pages_say(e, "pointer map built anew from the trees", "", "");
        else if (role == WALK_LOCK_BYTE)
            pages_say(e, "lock byte page emptied", "", "");
        else if (role == WALK_NONE && e->loss.pages)
            pages_say(e, "page of an unknown owner emptied", "", "");
        else
            pages_say(e, "free page emptied", "", "");
        if ((t && t->loses) || (role == WALK_NONE && e->loss.pages))
            e->done = REPAIR_LOST;
    }
}

/* What is gone, for whoever reads the entry later: as the answer has it, in words. */
static void pages_describe_loss(const struct repair *r, struct repair_entry *e)
{
    const struct repair_loss *l = &e->loss;
    char where[2 * sizeof l->key_after + 40] = "";
    if (l->entries)
        snprintf(where, sizeof where, ", of %.150s",
                 r->lost_objects && r->lost_objects[0] ? r->lost_objects : "unknown tables");
    else if (l->has_from && l->has_to && l->from == l->to)
        snprintf(where, sizeof where, ", rowid %lld", (long long)l->from);
    else if (l->has_from && l->has_to)
        snprintf(where, sizeof where, ", rowid %lld to %lld", (long long)l->from, (long long)l->to);
    else if (l->has_from || l->has_to)
        snprintf(where, sizeof where, ", rowid %s %lld", l->has_from ? "from" : "up to",
                 (long long)(l->has_from ? l->from : l->to));
    else if (l->key_after[0] || l->key_before[0])
        snprintf(where, sizeof where, ", key%s%s%s%s", l->key_after[0] ? " after " : "",
                 l->key_after, l->key_before[0] ? " before " : "", l->key_before);
    size_t used = strlen(e->how);
    snprintf(e->how + used, sizeof e->how - used, " (%s%llu of them%s)",
             l->rows == l->rows_most ? "" : "about ", (unsigned long long)l->rows, where);
}

static void pages_close(struct repair *r, struct repair_entry *e)
{
    enum media_status status = MEDIA_REPAIRED;
    pages_describe(r, e);
    if (e->done == REPAIR_LOST && e->loss.pages)
        pages_describe_loss(r, e);
    if (e->done == REPAIR_LOST)
        status = MEDIA_LOST;
    else
        e->done = REPAIR_REPAIRED;
    if (conn_media_close(r->c, e->media.page, status, e->how, &r->err) != DAX_OK)
        repair_fail(r, SQLITE_IOERR_WRITE, "%s", r->err.text);
}

void repair_apply(struct repair *r)
{
    const struct walk_map *m = r->map;
    for (uint32_t i = 0; i < r->entry_count; i++) {
        struct repair_entry *e = &r->entries[i];
        if (e->chosen && !(e->data = calloc(1, DAX_PAGE_BYTES)))
            repair_fail(r, SQLITE_NOMEM, "no memory");
    }
    for (uint32_t i = 0; i < r->tree_count && r->code == SQLITE_OK; i++) {
        struct repair_tree *t = &r->trees[i];
        if (t->chosen && t->means == MEANS_REINDEX)
            pages_empty_index(r, t);
        else if (t->chosen && t->means == MEANS_SCHEMA)
            repair_schema_apply(r);
        else if (t->chosen && t->means == MEANS_KEYS)
            repair_keys_apply(r, t);
        else if (t->chosen)
            repair_table_apply(r, t);
    }
    if (r->code == SQLITE_OK && pages_list_changes(r))
        pages_free_list(r);
    for (uint32_t p = 2; p <= m->pages && m->header.pointer_map && r->code == SQLITE_OK; p++)
        if (walk_role(m, p) == WALK_POINTER_MAP)
            pages_map_page(r, p);
    for (uint32_t i = 0; i < r->entry_count && r->code == SQLITE_OK; i++) {
        struct repair_entry *e = &r->entries[i];
        if (e->chosen && pages_write(r, e->data, DAX_PAGE_BYTES, e->media.page * DAX_PAGE_BYTES))
            pages_close(r, e);
    }
}
