/* owner_map.h: which object of the database owns a page: maps of snapshots, kept per database file.
 *
 * A map says it for every page of one committed state. It is made at the first question, shared by
 * all connections to the file, and made anew, from the pages that have changed, when somebody asks
 * about another state. It takes 9 bytes a page.
 */
#ifndef DAX_OWNER_MAP_H
#define DAX_OWNER_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "vfs/sqlite.h"

/* --- maps of one file ------------------------------------------------------------------------- */

struct owner_cache;
struct media_reader;
struct owner_map;
struct walk_map;

/* The maps of the file at `path` (symbolic links resolved): shared by all that have it open. To be
 * opened after the connection to its store and closed before it, since maps know states by their
 * txids. NULL: no memory. Any thread. */
struct owner_cache *owner_cache_open(const char *path);
/* NULL: no effect. */
void owner_cache_close(struct owner_cache *cache);

/* The map of what c reads: of its snapshot, or of the newest state if it has none. What a running
 * transaction has changed is not in it. db: its interrupt and progress handler end the work; may be
 * NULL. *out is for owner_map_release. SQLITE_OK, SQLITE_NOMEM, SQLITE_INTERRUPT, or the code of an
 * error of the store, which err describes. Used by one thread at a time, as c is. */
int owner_map_get(struct owner_cache *cache, struct conn *c, sqlite3 *db, struct owner_map **out,
                  struct dax_err *err);
/* NULL: no effect. */
void owner_map_release(struct owner_map *map);

/* The same for database `schema` of db, as SQL functions ask. *why: the error's text, for
 * sqlite3_free. Call with db's mutex held. */
int owner_map_of_schema(sqlite3 *db, const char *schema, struct owner_map **out, char **why);

/* --- questions -------------------------------------------------------------------------------- */

/* Texts belong to the map. */
struct owner {
    uint64_t page;             /* SQLite's number, from 1; 0: the page size is not known */
    const char *type;          /* "schema", "table", "index"; NULL: no object's page, or unknown */
    const char *name;          /* of the object, or NULL */
    const char *table;         /* that the object belongs to; a table's is its own name */
    const char *virtual_table; /* that this shadow table serves, or NULL */
    const char *role;          /* never NULL */
    uint32_t root;             /* of the tree, 0: none */
    uint32_t parent;           /* the page that names it, 0: none */
    bool unreadable;           /* when the walker last read it */
    bool damaged;
    uint32_t below;   /* owner unknown because this page cannot be followed; 0: no such */
    char detail[320]; /* what is wrong with it or why its owner is not known; "" */
};

uint64_t owner_map_txid(const struct owner_map *map);
/* 0: not known (no header). */
uint32_t owner_map_page_size(const struct owner_map *map);
/* Pages that were read to make it. */
uint64_t owner_map_pages_read(const struct owner_map *map);
/* What the walker has found; it belongs to the map. */
const struct walk_map *owner_map_walk(const struct owner_map *map);

/* SQLite's page `page` (>= 1). */
void owner_of_sqlite_page(const struct owner_map *map, uint64_t page, struct owner *out);

/* SQLite's pages in the 4096 bytes of an engine page: from *first, their number. At least 1. */
uint32_t owner_pages_within(const struct owner_map *map, uint64_t engine_page, uint64_t *first);

/* --- in a signal handler ------------------------------------------------------------------------ */

/* Whose an engine page is: ` (table "orders", leaf)` into at most max bytes, without a terminator; returns how
 * many. (Of several small pages: the first.) From a map of the file at `path` if there is one at hand, else by
 * a search through r (last_words.h), unless it is NULL. Async-signal-safe. */
size_t owner_last_words(const char *path, uint64_t page, const struct media_reader *r, char *to,
                        size_t max);

#endif
