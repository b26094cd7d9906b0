/* walker.c: who owns each page of an SQLite database, found by walking its b-trees.
 *
 * The order of one walk says who is believed when two name the same page:
 *   1. the header: pointer-map pages, the lock-byte page, page 1
 *   2. sqlite_schema, then every root that its rows name, then tree after tree
 *   3. the free list
 *   4. what the map before knew to hang below pages that are the same and cannot be read now
 *   5. pages that are damaged in themselves, as far as their pointers are possible
 *   6. the pointer map, for what only an unreadable or damaged page could have named
 * What nobody names then stays WALK_NONE: it is not guessed.
 *
 * Whatever the pages contain:
 *   H1 a page is claimed once. So cycles end, lists are no longer than the database has pages, and
 *      the time is in proportion to the database. Only a claim on something that turned out to be no
 *      b-tree page gives way to another one.
 *   H2 no recursion: pages wait in a list, with their depth; trees end at DBFORMAT_DEPTH_MAX.
 *   H3 nothing is read outside a page: dbformat.c.
 *   H4 what is inconsistent is flagged WALK_DAMAGED on the page where it was seen, and listed.
 */
#include "vfs/walker.h"

#include <stdlib.h>
#include <string.h>

#include "vfs/walker_state.h"

/* Between two questions whether to give up: so many pages read, or as much time of others. */
#define STOP_EVERY (512u * WALK_COST_READ)

/* --- lists, problems, pages ------------------------------------------------------------------- */

bool walk_push(struct walk *w, struct walk_list *list, struct walk_item item)
{
    if (list->count == list->room) {
        uint32_t room = list->room ? list->room * 2 : 256;
        struct walk_item *grown = realloc(list->items, (size_t)room * sizeof *grown);
        if (!grown) {
            w->failed = WALK_NOMEM;
            return false;
        }
        list->items = grown;
        list->room = room;
    }
    list->items[list->count++] = item;
    return true;
}

void walk_trouble(struct walk *w, uint32_t page, enum walk_trouble trouble, uint32_t other)
{
    struct walk_map *m = w->map;
    if (trouble != TROUBLE_UNREADABLE && page <= m->pages)
        m->role[page] |= WALK_DAMAGED;
    m->trouble_count++;
    if (m->problem_count == WALK_PROBLEMS_MAX)
        return;
    if ((m->problem_count & (m->problem_count - 1)) == 0) { /* room is a power of two */
        size_t room = m->problem_count ? (size_t)m->problem_count * 2 : 1;
        struct walk_problem *grown = realloc(m->problems, room * sizeof *grown);
        if (!grown) {
            w->failed = WALK_NOMEM;
            return;
        }
        m->problems = grown;
    }
    m->problems[m->problem_count++] = (struct walk_problem){page, other, trouble};
}

bool walk_same(const struct walk *w, uint32_t page)
{
    return w->before && page <= w->before->pages && w->map->stamp[page] &&
           w->map->stamp[page] == w->before->stamp[page];
}

void walk_stamp(struct walk *w, uint32_t page)
{
    const struct walk_source *s = w->source;
    uint32_t size = w->map->header.page_size;
    if (s->stamp)
        w->map->stamp[page] = s->stamp(s->arg, (uint64_t)(page - 1) * size, size);
}

bool walk_go_on(struct walk *w, uint32_t cost)
{
    const struct walk_source *s = w->source;
    w->cost += cost;
    if (w->failed == WALK_OK && w->cost >= STOP_EVERY) {
        w->cost = 0;
        if (s->stop && s->stop(s->arg))
            w->failed = WALK_GIVEN_UP;
    }
    return w->failed == WALK_OK;
}

/* The first `len` bytes of a page. */
static bool walk_load_part(struct walk *w, uint32_t page, uint8_t *buf, uint32_t len)
{
    const struct walk_source *s = w->source;
    uint32_t size = w->map->header.page_size;
    if (!walk_go_on(w, WALK_COST_READ))
        return false;
    w->map->pages_read++;
    walk_stamp(w, page);
    switch (s->read(s->arg, (uint64_t)(page - 1) * size, len, buf)) {
    case WALK_READ: return true;
    case WALK_UNREADABLE: break;
    case WALK_STOPPED: w->failed = WALK_GIVEN_UP; return false;
    }
    w->map->role[page] |= WALK_LOST;
    walk_trouble(w, page, TROUBLE_UNREADABLE, 0);
    bool known =
        walk_same(w, page) && (w->before->role[page] & (WALK_LOST | WALK_KEPT)) != WALK_LOST;
    if (!known)
        w->map->stamp[page] = 0;
    return false;
}

bool walk_load(struct walk *w, uint32_t page, uint8_t *buf)
{
    return walk_load_part(w, page, buf, w->map->header.page_size);
}

/* --- claims ----------------------------------------------------------------------------------- */

/* Somebody else leads to an overflow page. Whose the rest of its chain is, is as doubtful. */
static void walk_chain_doubtful(struct walk *w, uint32_t page)
{
    uint8_t next[4];
    while (walk_is_overflow(walk_role(w->map, page)) &&
           walk_load_part(w, page, next, sizeof next)) {
        page = dbformat_u32(next);
        if (!walk_exists(w, page) || (w->map->role[page] & WALK_DAMAGED))
            return; /* the end, or the rest has been seen to */
        w->map->role[page] |= WALK_DAMAGED;
    }
}

bool walk_claim(struct walk *w, uint32_t page, uint32_t parent, enum walk_role role)
{
    struct walk_map *m = w->map;
    if (!walk_exists(w, page) || walk_reserved(w, page)) {
        if (!w->weak)
            walk_trouble(w, parent, walk_exists(w, page) ? TROUBLE_RESERVED : TROUBLE_POINTER,
                         page);
        return false;
    }
    enum walk_role is = walk_role(m, page);
    bool gives_way = is == WALK_TREE && (m->role[page] & WALK_DAMAGED);
    if (is != WALK_NONE && !gives_way) {
        if (!w->weak) {
            bool first = !(m->role[page] & WALK_DAMAGED);
            walk_trouble(w, page, TROUBLE_NAMED_TWICE, parent);
            walk_trouble(w, parent, TROUBLE_NAMES_TAKEN, page);
            if (first)
                walk_chain_doubtful(w, page);
        }
        return false;
    }
    if (gives_way && !w->weak)
        walk_trouble(w, m->parent[page], TROUBLE_NAMES_TAKEN, page);
    if (gives_way)
        m->role[page] = 0; /* the one that named it was wrong, not the page */
    m->role[page] = (uint8_t)((m->role[page] & ~WALK_ROLE_MASK) | role);
    m->parent[page] = walk_is_root(role) ? 0 : parent;
    return true;
}

/* --- chains and the free list ----------------------------------------------------------------- */

/* A page of a chain cannot be read. The rest of the chain is known if neither it nor the page with
 * the cell has changed. */
static void walk_chain_lost(struct walk *w, uint32_t page, uint32_t owner)
{
    if (w->failed == WALK_OK && walk_same(w, page) && walk_same(w, owner)) {
        walk_set_kept(w, page);
        walk_set_kept(w, owner);
    }
}

bool walk_chain(struct walk *w, uint32_t page, uint32_t owner, enum walk_role role, uint64_t bytes,
                uint8_t *to, uint32_t *room)
{
    uint32_t each = w->map->header.usable - 4;
    while (bytes) {
        if (!walk_claim(w, page, owner, role))
            return false;
        if (!walk_load_part(w, page, w->chain_buf, room ? w->map->header.page_size : 4)) {
            walk_chain_lost(w, page, owner);
            return false;
        }
        uint32_t here = bytes < each ? (uint32_t)bytes : each;
        uint32_t copy = room && *room < here ? *room : here;
        if (room) {
            memcpy(to, w->chain_buf + 4, copy);
            to += copy;
            *room -= copy;
        }
        uint32_t next = dbformat_u32(w->chain_buf);
        if (bytes == UINT64_MAX) {
            if (next == 0 || !walk_exists(w, next) || walk_role(w->map, next) != WALK_NONE)
                return true;
        } else {
            bytes -= here;
            if (bytes && next == 0) {
                walk_trouble(w, page, TROUBLE_CHAIN, owner);
                return false;
            }
        }
        page = next;
        role = WALK_OVERFLOW;
    }
    return true;
}

void walk_free_list(struct walk *w, uint32_t trunk, uint32_t parent)
{
    uint32_t most = w->map->header.usable / 4 - 2;
    while (trunk) {
        if (!walk_claim(w, trunk, parent, WALK_TRUNK)) {
            w->free_holes = true;
            return;
        }
        if (!walk_load(w, trunk, w->chain_buf)) {
            if (w->failed == WALK_OK && walk_same(w, trunk))
                walk_set_kept(w, trunk);
            w->free_holes = true;
            return;
        }
        uint32_t next = dbformat_u32(w->chain_buf), leaves = dbformat_u32(w->chain_buf + 4);
        if (leaves > most) {
            walk_trouble(w, trunk, TROUBLE_TRUNK, leaves);
            w->free_holes = true;
            return;
        }
        for (uint32_t i = 0; i < leaves; i++)
            (void)walk_claim(w, dbformat_u32(w->chain_buf + 8 + 4 * i), trunk, WALK_FREE);
        parent = trunk;
        trunk = next;
    }
}

/* --- the whole -------------------------------------------------------------------------------- */

static void walk_reserve(struct walk *w)
{
    struct walk_map *m = w->map;
    uint32_t lock = dbformat_lock_page(m->header.page_size);
    if (lock <= m->pages)
        m->role[lock] = WALK_LOCK_BYTE;
    if (!m->header.pointer_map)
        return;
    uint32_t each = m->header.usable / 5 + 1;
    for (uint64_t page = 2; page <= m->pages; page += each) {
        uint32_t map = dbformat_map_page(&m->header, (uint32_t)page);
        if (map <= m->pages)
            m->role[map] = WALK_POINTER_MAP;
    }
}

static void walk_schema(struct walk *w)
{
    w->schema = true;
    (void)walk_claim(w, 1, 0, WALK_ROOT);
    walk_tree(w, 1, KIND_TABLE);
    walk_settle(w);
    w->schema = false;
    if (w->failed == WALK_OK)
        walk_schema_finish(w);
}

static void walk_trees(struct walk *w)
{
    struct walk_map *m = w->map;
    for (int pass = 0; pass < 2; pass++) { /* all roots are known before any tree is walked */
        for (uint32_t i = 0; i < m->object_count && w->failed == WALK_OK; i++) {
            const struct walk_object *o = &m->objects[i];
            if (o->root < 2 || !walk_exists(w, o->root)) {
                if (pass == 0 && o->root != 1 && !o->module)
                    walk_trouble(w, o->schema_page, TROUBLE_POINTER, o->root);
            } else if (pass == 0) {
                (void)walk_claim(w, o->root, o->schema_page, WALK_ROOT);
            } else if (walk_role(m, o->root) == WALK_ROOT) {
                walk_tree(w, o->root, o->index ? KIND_INDEX : KIND_ANY);
            }
        }
    }
}

static void walk_free_pages(struct walk *w)
{
    struct walk_map *m = w->map;
    walk_free_list(w, m->header.free_trunk, 1);
    uint64_t count = 0;
    for (uint32_t p = 2; p <= m->pages; p++)
        count += walk_role(m, p) == WALK_TRUNK || walk_role(m, p) == WALK_FREE;
    if (w->failed == WALK_OK && !w->free_holes && count != m->header.free_pages)
        walk_trouble(w, 1, TROUBLE_FREE_COUNT, m->header.free_pages);
}

/* Pages that name others and could not be followed. */
static void walk_count_holes(struct walk_map *m)
{
    for (uint32_t p = m->pages; p >= 1; p--) {
        uint8_t r = m->role[p];
        bool lost = (r & WALK_LOST) && !(r & WALK_KEPT);
        if (walk_role(m, p) != WALK_FREE && (lost || (r & WALK_DAMAGED))) {
            m->holes++;
            m->hole = p;
        }
    }
}

/* The header, from page 1 or from the map before. False: nothing more can be known. */
static bool walk_header(struct walk *w)
{
    struct walk_map *m = w->map;
    const struct walk_source *s = w->source;
    const struct walk_map *b = w->before;
    uint8_t header[DBFORMAT_HEADER_BYTES];
    if (s->bytes == 0)
        return false;
    enum walk_read rc = s->read(s->arg, 0, sizeof header, header);
    if (rc == WALK_STOPPED) {
        w->failed = WALK_GIVEN_UP;
        return false;
    }
    m->header_lost = rc == WALK_UNREADABLE;
    bool kept = m->header_lost && b && b->pages && s->stamp && b->stamp[1] &&
                b->stamp[1] == s->stamp(s->arg, 0, b->header.page_size);
    if (kept)
        m->header = b->header;
    else if (m->header_lost || !dbformat_header(header, &m->header))
        m->no_header = true;
    return !m->no_header;
}

/* All that the walk needs, by the page size and the page count. False: no memory. */
static bool walk_allocate(struct walk *w)
{
    struct walk_map *m = w->map;
    size_t n = (size_t)m->pages + 1;
    m->role = calloc(n, sizeof *m->role);
    m->parent = calloc(n, sizeof *m->parent);
    m->stamp = calloc(n, sizeof *m->stamp);
    w->page_buf = malloc(m->header.page_size);
    w->chain_buf = malloc(m->header.page_size);
    w->map_buf = malloc(m->header.page_size);
    w->row_buf = malloc(WALK_ROW_MAX);
    w->tree = malloc(sizeof *w->tree);
    bool ok = m->role && m->parent && m->stamp && w->page_buf && w->chain_buf && w->map_buf &&
              w->row_buf && w->tree;
    if (!ok)
        w->failed = WALK_NOMEM;
    return ok;
}

static bool walk_begin(struct walk *w)
{
    struct walk_map *m = w->map;
    if (!walk_header(w))
        return false;
    uint64_t pages = (w->source->bytes + m->header.page_size - 1) / m->header.page_size;
    m->pages = pages > UINT32_MAX - 1 ? UINT32_MAX - 1 : (uint32_t)pages;
    if (m->header.pages && m->header.pages < m->pages)
        m->pages = m->header.pages;
    if (w->before && w->before->header.page_size != m->header.page_size)
        w->before = NULL;
    if (!walk_allocate(w))
        return false;
    if (m->header.pages > m->pages)
        walk_trouble(w, 1, TROUBLE_SIZE, m->header.pages);
    return w->failed == WALK_OK;
}

enum walk_result walk_run(const struct walk_source *source, const struct walk_map *previous,
                          struct walk_map **out)
{
    struct walk w = {.source = source, .before = previous, .failed = WALK_OK};
    *out = NULL;
    w.map = calloc(1, sizeof *w.map);
    if (!w.map)
        return WALK_NOMEM;
    if (walk_begin(&w)) {
        walk_reserve(&w);
        walk_schema(&w);
        if (w.failed == WALK_OK)
            walk_trees(&w);
        if (w.failed == WALK_OK)
            walk_free_pages(&w);
        if (w.failed == WALK_OK)
            walk_settle(&w);
        if (w.failed == WALK_OK && w.map->header.pointer_map)
            walk_mend_pointer_map(&w);
        if (w.failed == WALK_OK)
            walk_count_holes(w.map);
    }
    free(w.todo.items);
    free(w.damaged.items);
    free(w.unread.items);
    free(w.page_buf);
    free(w.chain_buf);
    free(w.map_buf);
    free(w.row_buf);
    free(w.tree);
    if (w.failed != WALK_OK) {
        walk_map_free(w.map);
        w.map = NULL;
    }
    *out = w.map;
    return w.failed;
}

void walk_map_free(struct walk_map *map)
{
    if (!map)
        return;
    for (uint32_t i = 0; i < map->object_count; i++)
        walk_object_drop(&map->objects[i]);
    free(map->objects);
    free(map->problems);
    free(map->role);
    free(map->parent);
    free(map->stamp);
    free(map);
}

/* --- answers ---------------------------------------------------------------------------------- */

uint32_t walk_root_of(const struct walk_map *m, uint32_t page)
{
    /* Trees are no deeper; what the pointer map says may be. */
    for (unsigned step = 0; step < DBFORMAT_DEPTH_MAX * 2 && page && page <= m->pages; step++) {
        enum walk_role r = walk_role(m, page);
        if (walk_is_root(r))
            return page;
        if (!walk_is_tree(r) && !walk_is_overflow(r))
            return 0;
        page = m->parent[page];
    }
    return 0;
}

const struct walk_object *walk_object_of(const struct walk_map *m, uint32_t root)
{
    uint32_t low = 0, high = m->object_count;
    while (low < high) { /* the first of those with this root: the one that got it */
        uint32_t mid = low + (high - low) / 2;
        if (m->objects[mid].root < root)
            low = mid + 1;
        else
            high = mid;
    }
    return root && low < m->object_count && m->objects[low].root == root ? &m->objects[low] : NULL;
}
