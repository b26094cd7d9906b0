/* walker.h: who owns each page of an SQLite database, found by walking its b-trees.
 *
 * Reads pages through a callback, so it works on a snapshot of the engine as on a plain buffer, and
 * needs no SQLite: it answers where SQLite would only say that the file is malformed. Every byte is
 * hostile input: see walker.c for what holds whatever the pages contain.
 */
#ifndef DAX_WALKER_H
#define DAX_WALKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vfs/dbformat.h"

enum walk_read {
    WALK_READ,
    WALK_UNREADABLE, /* this page; others may be fine */
    WALK_STOPPED     /* give up */
};

/* Where pages come from. */
struct walk_source {
    void *arg;
    uint64_t bytes; /* of the database */
    /* [offset, offset + len) into buf; what is beyond the end is zeros. */
    enum walk_read (*read)(void *arg, uint64_t offset, uint32_t len, uint8_t *buf);
    /* A number that stays the same only while the bytes there do; 0: not known. May be NULL. Asked
     * before the bytes are read. */
    uint32_t (*stamp)(void *arg, uint64_t offset, uint32_t len);
    /* Asked now and then. May be NULL. */
    bool (*stop)(void *arg);
};

enum walk_role {
    WALK_NONE, /* nobody names it */
    WALK_TREE, /* its parent names it: of a b-tree, but not readable or no b-tree page */
    WALK_ROOT, /* the same of a root */
    WALK_ROOT_INTERIOR,
    WALK_ROOT_LEAF,
    WALK_INTERIOR,
    WALK_LEAF,
    WALK_OVERFLOW_FIRST,
    WALK_OVERFLOW,
    WALK_TRUNK,
    WALK_FREE,
    WALK_POINTER_MAP,
    WALK_LOCK_BYTE,
    WALK_ROLES
};

/* A page's byte: its role, and what else is known of it. */
#define WALK_ROLE_MASK 0x0fu
#define WALK_PLAIN 0x10u   /* a leaf without overflow */
#define WALK_KEPT 0x20u    /* what hangs below it is of the map before, or of the pointer map */
#define WALK_LOST 0x40u    /* could not be read */
#define WALK_DAMAGED 0x80u /* see the problems */

enum walk_trouble {
    TROUBLE_UNREADABLE,
    TROUBLE_NO_TREE_PAGE, /* its first byte, or of another kind of tree than its parent */
    TROUBLE_CELLS,        /* cells that do not lie within it */
    TROUBLE_POINTER,      /* names `other`, which does not exist */
    TROUBLE_RESERVED,     /* names `other`, which is a pointer-map or the lock-byte page */
    TROUBLE_NAMED_TWICE,  /* by its owner and by `other` */
    TROUBLE_NAMES_TAKEN,  /* names `other`, which has another owner */
    TROUBLE_DEPTH,        /* too far from its root, or a leaf at another depth than others */
    TROUBLE_CHAIN,        /* its chain of overflow pages ends too soon */
    TROUBLE_TRUNK,        /* more leaves than fit */
    TROUBLE_FREE_COUNT,   /* the header counts `other` free pages, there are more or fewer */
    TROUBLE_SCHEMA_ROW,   /* a row of sqlite_schema is no record */
    TROUBLE_SIZE          /* the header counts `other` pages, there are fewer */
};

struct walk_problem {
    uint32_t page;
    uint32_t other;
    enum walk_trouble trouble;
};

/* Problems of one walk that are listed; more are counted. */
#define WALK_PROBLEMS_MAX 4096u

struct walk_object {
    uint32_t root;        /* 0: a virtual table */
    uint32_t schema_page; /* with its row */
    bool index;
    char *name;         /* owned */
    char *table;        /* owned: the table that it indexes; of a table: its own name */
    char *module;       /* owned: of a virtual table, else NULL */
    const char *serves; /* the virtual table whose shadow table it is, or is an index of; or NULL */
};

/* The map. Immutable once walk_run has returned it. Arrays have pages + 1 entries. */
struct walk_map {
    struct dbformat_header header;
    bool no_header;   /* page 1 is no header, or could not be read: nothing is known */
    bool header_lost; /* it could not be read */
    uint32_t pages;
    uint8_t *role;    /* and flags */
    uint32_t *parent; /* of overflow pages: the b-tree page; of free pages: the trunk; roots: 0 */
    uint32_t *stamp;  /* of the bytes that were read, 0: none */
    struct walk_object *objects; /* by root; objects[0] is sqlite_schema, unless no_header */
    uint32_t object_count;
    struct walk_problem *problems;
    uint32_t problem_count; /* listed */
    uint64_t trouble_count; /* found */
    uint32_t holes;         /* pages below which others may be unknown */
    uint32_t hole;          /* one of them */
    uint64_t pages_read;    /* by this walk */
};

enum walk_result {
    WALK_OK,
    WALK_NOMEM,
    WALK_GIVEN_UP /* the source said so */
};

/* previous: a map of another or the same state whose stamps are comparable, or NULL. Pages that are
 * the same are not read again, and what hung below one that has become unreadable is kept.
 * *out is freed with walk_map_free. */
enum walk_result walk_run(const struct walk_source *source, const struct walk_map *previous,
                          struct walk_map **out);
void walk_map_free(struct walk_map *map);

static inline enum walk_role walk_role(const struct walk_map *m, uint32_t page)
{
    return (enum walk_role)(m->role[page] & WALK_ROLE_MASK);
}

static inline bool walk_is_tree(enum walk_role r)
{
    return r >= WALK_TREE && r <= WALK_LEAF;
}

static inline bool walk_is_overflow(enum walk_role r)
{
    return r == WALK_OVERFLOW_FIRST || r == WALK_OVERFLOW;
}

static inline bool walk_is_root(enum walk_role r)
{
    return r >= WALK_ROOT && r <= WALK_ROOT_LEAF;
}

/* The root of the tree that the page (of a tree, or of overflow) belongs to, 0: none. */
uint32_t walk_root_of(const struct walk_map *m, uint32_t page);

/* The object with this root, or NULL. */
const struct walk_object *walk_object_of(const struct walk_map *m, uint32_t root);

#endif
