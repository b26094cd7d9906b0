/* page_cache_state.h: what the files of the page cache share.
 *
 *   page_cache.c        one cache: what SQLite calls
 *   page_cache_table.h  its hash table, page number -> entry
 *   page_cache_queue.c  which page goes: S3-FIFO
 *   page_cache_pool.c   where entries and page buffers come from; the limit; memory of idle caches
 *
 * An *entry* describes a page: SQLite's pair of pointers first, its extra space behind. The page's
 * buffer is apart, aligned to its size. Both lie in one *slab*: entries at its start, buffers
 * behind.
 *
 * Locking. A cache belongs to one connection, whose mutex SQLite holds when it calls: its fields
 * are the owner's (O). What all caches share is guarded by pool_lock (L). Another thread may take
 * unused pages out of an idle cache: it *claims* the cache, under pool_lock, and is then its owner
 * until it lets go. Owner and claimer are a Dekker pair, and the owner's side costs no fence
 * (page_cache.c, cache_enter).
 */
#ifndef DAX_PAGE_CACHE_STATE_H
#define DAX_PAGE_CACHE_STATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vfs/sqlite.h"

#define CACHE_LINE 64

/* Free entries that a cache keeps for its next pages. */
#define CACHE_SPARE_MAX 8

/* Slots of the table that a new cache has; those are in the cache itself. */
#define CACHE_TABLE_MIN 16

enum queue_name {
    QUEUE_SMALL, /* pages on probation */
    QUEUE_MAIN,
    QUEUES
};

/* 40 bytes: with the 216 of SQLite 3.40 behind them that is 4 cache lines. */
struct entry {
    sqlite3_pcache_page page; /* first: SQLite hands it back */
    struct entry *next,
        *prev; /* in a queue, towards its tail and head; `next` alone in free lists */
    uint32_t key;
    uint32_t bits; /* ENTRY_ ... */
};

#define ENTRY_CLOCK 0x00FFFFFFu  /* of the cache, when the page was last counted as used */
#define ENTRY_USES 0x03000000u   /* since it came, at most 3 */
#define ENTRY_USE 0x01000000u    /* one of them */
#define ENTRY_MAIN 0x04000000u   /* in the main queue, or on its return; else the small one */
#define ENTRY_LINKED 0x08000000u /* in that queue; always if unpinned and purgeable */
#define ENTRY_PINNED 0x10000000u /* SQLite holds it */

static inline bool entry_is(const struct entry *e, uint32_t bits)
{
    return (e->bits & bits) != 0;
}

struct queue {
    struct entry *head, *tail; /* come in at the head, go at the tail */
    uint32_t count;
};

/* A page that was evicted from the small queue, and when. */
struct ghost {
    uint32_t key; /* 0: none */
    uint32_t time;
};

struct sqlite3_pcache {
    /* What every call looks at: one line. */
    _Atomic uint32_t busy;      /* 1: the owner is inside. Written by the owner */
    _Atomic uint32_t attention; /* CACHE_CLAIMED, CACHE_SHRINK. Written under L */
    uint64_t *table;            /* slots: see page_cache_table.h */
    uint32_t table_mask;        /* slots - 1 */
    uint32_t table_shift;       /* 32 - log2 (slots) */
    uint32_t pages;             /* entries in the table (count_set) */
    uint32_t unpinned;          /* of these (count_set) */
    uint32_t clock;             /* counts pages that came */
    uint32_t window;            /* uses within so many others count once */
    _Atomic uint64_t hits;      /* written by the owner, read by anybody */
    bool over;   /* above `max`, or has made `used` exceed the limit: give up unpinned pages */
    bool fenced; /* the owner has to fence by itself: there is no membarrier() */
    bool purgeable;

    uint32_t max;        /* pages, as SQLite suggests */
    uint32_t max_pinned; /* with so many in use, SQLite is to spill */
    uint32_t max_key;    /* no key above it is in the table */
    struct pool *pool;
    struct entry *spare; /* free entries, linked by next */
    uint32_t spares;
    struct queue queues[QUEUES];
    struct ghost *ghosts; /* NULL until a page was evicted from the small queue */
    uint32_t ghost_bits;
    uint32_t ghost_time; /* counts evictions from the small queue */
    uint64_t bytes;      /* of the struct, the table and the ghosts, as the allocator counts */
    _Atomic uint64_t misses, evictions;
    struct sqlite3_pcache *next, *prev; /* list of all caches (L) */
    uint64_t small_table[CACHE_TABLE_MIN];
};

#define CACHE_CLAIMED 1u /* another thread has it */
#define CACHE_SHRINK 2u  /* the owner is asked to shrink it */

/* Numbers with one writer, the owner, that page_cache_status reads. */
static inline void count_one(_Atomic uint64_t *counter)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

static inline void count_set(uint32_t *counter, uint32_t value)
{
    __atomic_store_n(counter, value, __ATOMIC_RELAXED);
}

/* --- page_cache_queue.c: which page goes ---------------------------------------------------------
 * */

/* A page has come; it is pinned. Sets its bits. */
void queue_add(struct sqlite3_pcache *c, struct entry *e);

/* It goes, or is to go elsewhere. */
void queue_remove(struct sqlite3_pcache *c, struct entry *e);

/* SQLite has let go of a page that is not linked. */
void queue_return(struct sqlite3_pcache *c, struct entry *e);

/* The page to give up, taken from its queue; NULL: all are pinned. remember: that it was here. */
struct entry *queue_evict(struct sqlite3_pcache *c, bool remember);

/* Forget which pages were evicted. */
void queue_forget(struct sqlite3_pcache *c);

/* --- page_cache_pool.c: memory -------------------------------------------------------------------
 * */

int pool_start(void);
void pool_stop(void);

/* The pool for such pages; NULL: no memory. Pools stay until pool_stop. */
struct pool *pool_find(uint32_t page_bytes, uint32_t extra_bytes);

/* What one page of it takes, with its entry. */
uint32_t pool_page_bytes(const struct pool *pool);

/* A cache begins, and ends: it has given back its entries. */
void pool_join(struct sqlite3_pcache *c);
void pool_leave(struct sqlite3_pcache *c);

/* An entry with its buffer. force: also above the limit. NULL: the limit, or no memory. */
struct entry *pool_take(struct pool *pool, bool force);

/* A list of entries, linked by next. */
void pool_give(struct pool *pool, struct entry *list);

/* Memory of tables: counted. NULL: no memory. */
void *pool_allocate(struct sqlite3_pcache *c, size_t bytes);
void pool_free(struct sqlite3_pcache *c, void *block);

/* Are all caches together above the limit? */
bool pool_above_limit(void);

/* Has c its share of the limit, so that it should give up pages of its own? */
bool pool_has_share(const struct sqlite3_pcache *c);

/* Take unused pages from caches that nobody is using, until one of c's would fit. */
bool pool_take_from_others(struct sqlite3_pcache *c);

/* Wait until nobody has claimed c, and enter it. */
void pool_enter_slowly(struct sqlite3_pcache *c);

/* For tests. */
unsigned pool_arena(void);

/* M1 and M2: NULL, or what is wrong. */
const char *pool_validate(void);

/* May the owner leave out its fence? */
extern bool pool_asymmetric;

/* --- page_cache.c: for the pool, under L ---------------------------------------------------------
 * */

/* Take the spare entries and at most `most` unpinned pages out of c; they are linked by next.
 * *count_out: how many pages. Takes no lock. */
struct entry *cache_give_up(struct sqlite3_pcache *c, uint32_t most, uint32_t *count_out);

#endif
