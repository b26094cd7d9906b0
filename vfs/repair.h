/* repair.h: what the files of dax_repair share while one repair runs.
 *
 * Words: an *entry* is one of the engine's media errors, 4096 bytes of the file; *pages* are SQLite's.
 * A page is *bad* if an open entry has bytes of it. A *hole* is a bad page that names others which
 * nobody else names.
 */
#ifndef DAX_REPAIR_H
#define DAX_REPAIR_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/media.h"
#include "vfs/interrupt.h"
#include "vfs/owner_map.h"
#include "vfs/sqlite.h"
#include "vfs/walker.h"

enum repair_done {
    REPAIR_NOTHING,
    REPAIR_REPAIRED,
    REPAIR_CLEARED,
    REPAIR_LOST
};

/* What goes, or went, with bad pages. */
struct repair_loss {
    uint32_t pages; /* that lose anything */
    uint64_t rows;  /* about how many */
    uint64_t rows_most;
    bool has_from, has_to;
    int64_t from, to; /* rowids, both inclusive */
    /* Of a table WITHOUT ROWID: the keys between which they lie, both exclusive; "": not known. */
    char key_after[160], key_before[160];
    bool entries; /* of sqlite_schema, and with them the rows: r->lost_objects */
};

struct repair_entry {
    struct media_entry media;
    uint64_t first; /* SQLite's pages in it */
    uint32_t count;
    bool asked;    /* the answer is about it */
    bool chosen;   /* is closed by this repair */
    bool lossless; /* so far as its own pages go */
    enum repair_done done;
    struct repair_loss loss;
    char how[192]; /* what was done, or why nothing was */
    uint8_t *data; /* owned: its 4096 new bytes, once chosen */
};

enum repair_means {
    MEANS_NONE,    /* see why */
    MEANS_REINDEX, /* empty it, let SQLite fill it */
    MEANS_ROWS,    /* of a table with rowids: keep the leaves, build what is above them */
    MEANS_KEYS,    /* of a table WITHOUT ROWID: keep the rows */
    MEANS_SCHEMA   /* of sqlite_schema: keep the entries, empty it, let SQLite fill it */
};

/* An entry of sqlite_schema that is kept; texts are owned. */
struct repair_schema_row {
    int64_t rowid, root;
    char *type, *name, *table, *sql; /* sql: may be NULL */
    bool dropped;                    /* while the list is made */
};

/* A table WITHOUT ROWID. */
struct repair_key {
    char *name; /* owned; NULL: the end of a list */
    unsigned columns;
};

/* A leaf that is kept. */
struct repair_leaf {
    uint32_t page;
    int64_t min, max;
};

/* A cell of a page of a table WITHOUT ROWID, or all cells of a leaf. */
struct repair_item {
    uint32_t page;
    uint32_t cell;
};
#define ITEM_LEAF UINT32_MAX

struct repair_items {
    struct repair_item *item; /* owned */
    uint32_t count, room;
};

/* An object with bad pages. */
struct repair_tree {
    uint32_t root;
    const struct walk_object *object; /* of the map */
    enum repair_means means;
    bool chosen;
    bool loses;
    bool reshape;         /* other leaves than before, or bad interior pages */
    uint32_t open;        /* bad pages that are, or may be, interior, and whose children the map
                          * does not know */
    uint32_t vague;       /* of these, the ones that may be leaves */
    uint32_t leaves_bad;  /* bad leaves */
    uint32_t orphans_bad; /* bad pages without an owner that may be its leaves */
    uint32_t needs;       /* page that has to be repaired first, 0: none */
    bool adopts;          /* leaves without an owner are its own */
    bool gives_up;        /* they may be, and nobody can say; see why */
    uint64_t given_up;    /* rows on them */
    char why[192];
    struct repair_leaf *leaves; /* owned */
    uint32_t leaf_count, leaf_room;
    uint32_t leaves_seen; /* that can be read ... */
    uint64_t rows_seen;   /* ... and their rows */
    uint64_t rows_lost;   /* a piece of them is bad */
    /* of a table WITHOUT ROWID */
    unsigned key_columns;
    struct repair_items items; /* what is kept, in the order of the key */
    struct repair_items
        gaps;          /* bad pages; cell: how many items come before, ITEM_LEAF: not known */
    uint32_t in_order; /* so many items are of its own pages */
    bool unordered;    /* no, in another order */
};

enum repair_fate {
    FATE_OLD, /* as the map says */
    FATE_FREE,
    FATE_USED
};

/* Bad, without an entry. */
#define REPAIR_BAD_ALONE UINT32_MAX

/* What has the page as its parent: a page of a tree, a bad page of overflow. */
#define BELOW_TREE 1u
#define BELOW_BAD_OVERFLOW 2u

struct repair {
    /* asked for */
    sqlite3 *user;
    const char *schema;
    bool all; /* no page was given */
    uint64_t page;
    bool allow_loss;
    struct owner_cache *cache;
    /* the connection that does it */
    sqlite3 *db;
    struct conn *c;
    struct interrupt interrupt;
    struct repair_key *keys; /* owned: the tables WITHOUT ROWID */
    /* what is known, once the writer lock is held */
    struct owner_map *owners;
    const struct walk_map *map;   /* of owners; NULL: not looked at yet */
    struct repair_entry *entries; /* owned */
    uint32_t entry_count;
    struct repair_entry **open; /* owned: entries of the database that are open, by page */
    uint32_t open_count;
    uint32_t *bad;  /* owned, of each page: 0, or its (first) entry's number + 1, or BAD_ALONE */
    uint8_t *below; /* owned, of each page: BELOW_... */
    struct repair_tree *trees; /* owned */
    uint32_t tree_count;
    uint32_t damaged;                      /* a page that is, 0: none */
    bool schema_bad;                       /* sqlite_schema has bad pages */
    bool schema_left;                      /* and they stay bad */
    struct repair_schema_row *schema_rows; /* owned */
    uint32_t schema_count;
    char *lost_objects; /* owned: what has lost its entry, as far as it is known */
    bool map_complete;  /* there is a pointer map and all of it can be read */
    bool chain_left;    /* a bad page of overflow stays bad */
    bool sound;         /* what has no owner can be known */
    bool rows_open;     /* a table with rowids that stays bad may have pages without an owner */
    bool keys_open;     /* the same of a table WITHOUT ROWID */
    bool hole_left;     /* a hole remains: what nobody owns may hang below it */
    uint32_t hole;
    bool changes; /* something is to be committed */
    /* the new state */
    uint8_t *fate;        /* owned, of each page */
    uint8_t *map_type;    /* owned, of each page: new entry of the pointer map, 0: the old one */
    uint32_t *map_parent; /* owned */
    uint8_t *buf;         /* owned: page_size bytes, for whoever needs it */
    uint8_t *buf2;
    struct dbformat_tree_page *tree; /* owned */
    /* failure */
    int code; /* SQLite's, SQLITE_OK: none */
    struct dax_err err;
};

static inline uint32_t repair_page_size(const struct repair *r)
{
    return r->map->header.page_size;
}

/* --- repair.c --------------------------------------------------------------------------------- */

/* Note a failure, the first one stays. Always false. */
bool repair_fail(struct repair *r, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Run statements on r->db, with the user's functions where they are needed. */
bool repair_sql(struct repair *r, const char *fmt, ...);

/* --- repair_borrow.c -------------------------------------------------------------------------- */

/* For sqlite3_collation_needed; arg is a struct repair. */
void repair_borrow_collation(void *arg, sqlite3 *db, int encoding, const char *name);
/* If r->db has just said that there is no such function: take it from the user's connection. False: it
 * did not, or that failed. */
bool repair_borrow_function(struct repair *r);

/* --- repair_plan.c: what is bad, what it costs, what is done about it --------------------------- */

/* c holds the writer lock and a snapshot. Fills everything up to `changes`. */
void repair_plan(struct repair *r);
struct repair_tree *repair_tree_of(const struct repair *r, uint32_t root);
void repair_plan_free(struct repair *r);
/* The page is bad, and names others that nobody else does. */
bool repair_is_bad_hole(const struct repair *r, uint32_t page);

/* --- repair_orphans.c: pages that nobody names --------------------------------------------------- */

/* Before anything is chosen: who adopts, who has to give up? Sets r->sound and that of the trees. */
void repair_adopt(struct repair *r);
/* After that: those that can be nobody's become free. */
void repair_free_orphans(struct repair *r);

/* --- repair_pages.c: pages of the committed state, and new ones --------------------------------- */

/* A page, or the beginning of one, as committed. False: unreadable, or r->code is set. */
bool repair_load(struct repair *r, uint32_t page, void *buf, uint32_t len);
/* The page's new content: page_size bytes. Bad bytes of it belong to chosen entries. */
bool repair_put(struct repair *r, uint32_t page, const uint8_t *d);
/* Are the bad bytes of the page, if any, in chosen entries? */
bool repair_writable(const struct repair *r, uint32_t page);
void repair_map_set(struct repair *r, uint32_t page, enum dbformat_map_type type, uint32_t parent);
/* Can all pages of the cell's overflow be read? owner != 0: they stay in use, of a cell of that page.
 * *broken_out: the first that cannot. */
bool repair_chain(struct repair *r, const struct dbformat_ref *ref, uint32_t owner,
                  uint32_t *broken_out);
/* A page for the table: one that it gives up, else a free one. *from: where to begin to look, 2 at
 * first. 0: there is none, r->code is set. */
uint32_t repair_take_page(struct repair *r, const struct repair_tree *t, uint32_t *from);

/* A b-tree page that is being filled: cells from its end, their pointers from its beginning. */
struct repair_page {
    uint8_t *d;
    uint32_t header;
    uint32_t cells;
    uint32_t content;
};
/* d: page_size bytes. type: as in the file format. */
void repair_page_begin(struct repair *r, struct repair_page *p, uint8_t *d, uint8_t type);
/* child 0: a leaf. It fits. */
void repair_page_add(struct repair_page *p, uint32_t child, const uint8_t *cell, uint32_t length);
void repair_page_last(struct repair_page *p, uint32_t child);
void repair_page_end(struct repair_page *p);
/* Write the new state: r->chosen trees, free list, pointer map, entries. */
void repair_apply(struct repair *r);

/* --- repair_table.c: tables with rowids --------------------------------------------------------- */

/* Look at the table's leaves: which are kept, and what is lost. Sets t->why and MEANS_NONE where it
 * cannot be repaired. */
void repair_table_scan(struct repair *r, struct repair_tree *t);
/* Write the table anew as far as it has to be. */
void repair_table_apply(struct repair *r, struct repair_tree *t);
/* What is lost with the bad page `page` of the tree: part->pages is 0 if nothing. *part is zeros. */
void repair_table_loss(struct repair *r, const struct repair_tree *t, uint32_t page,
                       struct repair_loss *part);

/* --- repair_keys.c, repair_keys_build.c: tables WITHOUT ROWID: the same -------------------------- */

void repair_keys_scan(struct repair *r, struct repair_tree *t);
void repair_keys_apply(struct repair *r, struct repair_tree *t);
void repair_keys_loss(struct repair *r, const struct repair_tree *t, uint32_t page,
                      struct repair_loss *part);
/* False: no memory. */
bool repair_items_add(struct repair *r, struct repair_items *list, struct repair_item item);
/* Cell i of a page in d that was looked at. */
void repair_key_cell(const struct repair *r, const uint8_t *d, uint32_t i,
                     struct dbformat_ref *out);

/* --- repair_schema.c: sqlite_schema beyond page 1 ------------------------------------------------- */

void repair_schema_scan(struct repair *r, struct repair_tree *t);
/* Is there an entry with this root? */
bool repair_schema_names(const struct repair *r, uint32_t root);
/* Give up its pages, and those of what is lost. */
void repair_schema_apply(struct repair *r);
/* d is page 1: empty its tree. */
void repair_schema_page_one(const struct repair *r, uint8_t *d);
/* In the transaction: the entries. */
void repair_schema_write(struct repair *r);
void repair_schema_free(struct repair *r);

/* --- repair_answer.c ---------------------------------------------------------------------------- */

void repair_answer(sqlite3_context *ctx, struct repair *r);

#endif
