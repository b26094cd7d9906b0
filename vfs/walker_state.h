/* walker_state.h: what the files of the walker share while one walk runs.
 */
#ifndef DAX_WALKER_STATE_H
#define DAX_WALKER_STATE_H

#include "vfs/walker.h"

/* A tree page that has been named and is to be looked at. */
struct walk_item {
    uint32_t page;
    uint8_t depth;
    uint8_t kind; /* enum dbformat_kind */
};

struct walk_list {
    struct walk_item *items; /* owned */
    uint32_t count;
    uint32_t room;
};

struct walk {
    const struct walk_source *source;
    const struct walk_map *before; /* may be NULL */
    struct walk_map *map;
    enum walk_result failed; /* WALK_OK while all is well */
    struct walk_list todo;
    struct walk_list damaged; /* pages whose own claims count less than those of sound ones */
    struct walk_list unread;  /* pages of the running tree whose role their depth may tell */
    bool kept;                /* some page has WALK_KEPT */
    bool weak;                /* the damaged ones' turn */
    bool schema;              /* the running tree is sqlite_schema */
    bool schema_holes;        /* rows of it are not known */
    bool free_holes;          /* the free list is not known to its end */
    uint8_t leaf_depth;       /* of the running tree, 255: not known */
    uint32_t cost;            /* since the source was asked whether to stop */
    uint32_t object_room;
    uint32_t map_page; /* in map_buf; 0: none */
    uint8_t *page_buf; /* owned: page_size bytes each */
    uint8_t *chain_buf;
    uint8_t *map_buf;
    uint8_t *row_buf;                /* owned: WALK_ROW_MAX bytes, the payload of a schema row */
    struct dbformat_tree_page *tree; /* owned */
};

/* As much of a row of sqlite_schema is looked at: names and the beginning of the SQL. */
#define WALK_ROW_MAX 65536u

static inline bool walk_exists(const struct walk *w, uint32_t page)
{
    return page >= 1 && page <= w->map->pages;
}

/* Of no object, ever. */
static inline bool walk_reserved(const struct walk *w, uint32_t page)
{
    return walk_exists(w, page) && walk_role(w->map, page) >= WALK_POINTER_MAP;
}

static inline void walk_set_role(struct walk_map *m, uint32_t page, enum walk_role role)
{
    m->role[page] = (uint8_t)((m->role[page] & ~WALK_ROLE_MASK) | role);
}

static inline void walk_set_kept(struct walk *w, uint32_t page)
{
    w->map->role[page] |= WALK_KEPT;
    w->kept = true;
}

/* Time of one step, in that of a page whose stamp is the same. */
#define WALK_COST_SAME 1u
#define WALK_COST_READ 16u

/* walker.c */
/* False: the walk is over. Asks the source now and then. */
bool walk_go_on(struct walk *w, uint32_t cost);
bool walk_push(struct walk *w, struct walk_list *list, struct walk_item item);
void walk_trouble(struct walk *w, uint32_t page, enum walk_trouble trouble, uint32_t other);
/* Page `page` into buf. False: not readable (its flag is set), or the walk has failed. */
bool walk_load(struct walk *w, uint32_t page, uint8_t *buf);
/* `parent` names `page`. False: it cannot be, or belongs to somebody else. */
bool walk_claim(struct walk *w, uint32_t page, uint32_t parent, enum walk_role role);
/* The bytes of `page` are those of the map before. */
bool walk_same(const struct walk *w, uint32_t page);
/* Follow a chain that begins with `page`: `bytes` long; UINT64_MAX: to its last page. Up to *room
 * bytes of it go to `to`; *room becomes what was left. False: broken. */
bool walk_chain(struct walk *w, uint32_t page, uint32_t owner, enum walk_role role, uint64_t bytes,
                uint8_t *to, uint32_t *room);
void walk_free_list(struct walk *w, uint32_t trunk, uint32_t parent);
/* Ask for the stamp of `page`. */
void walk_stamp(struct walk *w, uint32_t page);

/* walker_tree.c */
/* Look at everything on the list. */
void walk_drain(struct walk *w);
void walk_tree(struct walk *w, uint32_t root, enum dbformat_kind kind);
/* After sound pages have had their say: what the map before knew, then the damaged ones. */
void walk_settle(struct walk *w);

/* walker_schema.c */
/* A row of sqlite_schema on page `page`: `have` bytes of its payload in row_buf. */
void walk_schema_row(struct walk *w, uint32_t page, uint32_t have);
/* The rows that the map before found on a page that is the same and cannot be read now. */
void walk_schema_keep(struct walk *w, uint32_t page);
bool walk_object_add(struct walk *w, const struct walk_object *object);
void walk_object_drop(struct walk_object *object);
/* All objects are there: put them in order, find whom shadow tables serve. */
void walk_schema_finish(struct walk *w);

/* walker_mend.c */
/* What hangs below unreadable pages, from the map before. */
void walk_mend_kept(struct walk *w);
/* The same from the pointer map. */
void walk_mend_pointer_map(struct walk *w);

#endif
