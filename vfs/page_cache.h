/* page_cache.h: the page cache for programs that embed daxlite: SQLite's PCACHE2 module.
 */
#ifndef DAX_PAGE_CACHE_H
#define DAX_PAGE_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "vfs/sqlite.h"

/* For SQLITE_CONFIG_PCACHE2. */
extern const sqlite3_pcache_methods2 page_cache_methods;

/* All caches together. Any thread. */
struct page_cache_status {
    uint64_t limit;     /* bytes, of `used`; 0: none */
    uint64_t used;      /* bytes of pages with their extra space, and of tables */
    uint64_t used_most; /* the most that `used` has been */
    uint64_t
        allocated;   /* bytes taken from the allocator: what `used` stands in, and what is free */
    uint64_t caches; /* one per database file of a connection, and per temporary table */
    uint64_t pages;  /* in them */
    uint64_t pages_in_use; /* of these, those that SQLite holds at the moment */
    uint64_t hits, misses; /* a miss: SQLite wanted the page to be made */
    uint64_t evictions;    /* pages given up for other pages, or for the limit */
    uint64_t taken;        /* of these, those taken from idle caches of other connections */
    uint64_t over_limit;   /* pages made above the limit, since nothing could be given up */
};

void page_cache_status(struct page_cache_status *out);

/* 0: none. Takes effect as caches go on working. */
void page_cache_set_limit(uint64_t bytes);
uint64_t page_cache_limit(void);

/* Give up every page that SQLite does not hold; memory goes back to the kernel. A cache that is
 * being used at this moment does so with its next call. Bytes by which `allocated` has become less.
 * */
uint64_t page_cache_shrink(void);

/* How many caches there are. */
uint64_t page_cache_count(void);

/* For tests: recount everything of one cache (which no other thread is using), and of the pools.
 * NULL, or what is wrong. */
const char *page_cache_validate(const sqlite3_pcache *cache);

/* For tests: use full fences, as where the kernel has no membarrier(). Before the first cache. */
void page_cache_without_membarrier(void);

#endif
