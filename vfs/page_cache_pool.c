/* page_cache_pool.c: where entries and page buffers come from; the limit over all caches; memory of
 * idle caches.
 *
 * A pool holds the pages of one size (and one size of extra space). It takes slabs from the
 * allocator, from an arena that nothing else uses:
 *
 *   | struct slab | entry 0 | entry 1 | ... | pad | buffer 0 | buffer 1 | ...   aligned to its size
 *
 * Entry i always has buffer i. Entries that were never used are not touched, so a slab of 256 KiB
 * costs what its used pages cost. A slab that is free as a whole goes back, but for one of each
 * pool.
 *
 * The limit is on what caches have taken (`used`). A cache that wants a page above it gives up one
 * of its own; one that has less than its share (the limit divided by the number of caches) takes
 * unused pages from caches whose owners are not inside. What SQLite holds cannot be given up: only
 * such pages make `used` exceed the limit.
 *
 * Locking: pool_lock (leaf; held over calls of the allocator) guards pools, slabs, the list of
 * caches and `used`, which is read without it. Whoever holds it never waits for a cache's owner.
 * The protocol between owner and claimer is in page_cache.c.
 *
 * Invariants: M1 a slab is in its pool's list if and only if it has a free entry. M2 slab.used
 * counts its entries that a cache has. M3 `used` is the sum over slabs of used entries, and over
 * caches of their `bytes`. M4 `allocated` is the sum of slabs' and tables' bytes as the allocator
 * counts them.
 */
#include <linux/membarrier.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vfs/memory.h"
#include "vfs/page_cache.h"
#include "vfs/page_cache_state.h"

#define SLAB_BYTES_MIN ((size_t)256 << 10)
#define SLAB_PAGES_MIN                                                                             \
    15 /* so that what a slab's start takes of it is little, for large pages too */

/* Pages that are taken from other caches at once, at least; from one cache, at most. */
#define TAKE_AT_ONCE 32
#define TAKE_FROM_ONE 16

struct slab {
    struct pool *pool;
    struct slab *next, *prev; /* in pool->slabs, if it has a free entry */
    struct entry *free;
    uint32_t used;  /* entries that caches have */
    uint32_t fresh; /* entries from here on were never used */
};

struct pool {
    uint32_t page_bytes, extra_bytes;
    uint32_t stride; /* of entries */
    uint32_t slots;  /* in a slab */
    size_t slab_bytes;
    size_t buffers_at; /* from the slab's start */
    struct slab *slabs;
    uint32_t empty; /* slabs of which no entry is used: in the list */
    struct pool *next;
};

static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;

/* Guarded by pool_lock; atomics are read without. */
static struct pool *pools;
static struct sqlite3_pcache *caches, *hand; /* list; where the search for unused pages goes on */
static unsigned arena;
static uint64_t slab_bytes_total, table_bytes_total;
static uint64_t used_most, taken, over_limit;
static uint64_t gone_hits, gone_misses, gone_evictions; /* of caches that are gone */
static _Atomic uint64_t used, limit, cache_count;

bool pool_asymmetric;
static bool membarrier_off;

static void pool_fork_lock(void)
{
    pthread_mutex_lock(&pool_lock);
}

static void pool_fork_unlock(void)
{
    pthread_mutex_unlock(&pool_lock);
}

static bool pool_membarrier(int command)
{
    return syscall(SYS_membarrier, command, 0, 0) == 0;
}

int pool_start(void)
{
    static bool fork_safe;
    if (!fork_safe && pthread_atfork(pool_fork_lock, pool_fork_unlock, pool_fork_unlock) != 0)
        return SQLITE_NOMEM;
    fork_safe = true;
    if (!arena)
        arena = memory_arena_create();
    if (!arena && memory_is_jemalloc())
        return SQLITE_NOMEM;
    pool_asymmetric = !membarrier_off && pool_membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
    return SQLITE_OK;
}

void page_cache_without_membarrier(void)
{
    membarrier_off = true;
    pool_asymmetric = false;
}

/* --- slabs
 * ------------------------------------------------------------------------------------------- */

static struct entry *slab_entry(const struct slab *s, uint32_t i)
{
    return (struct entry *)((char *)s + CACHE_LINE + (size_t)i * s->pool->stride);
}

static struct slab *slab_of(const struct pool *p, const struct entry *e)
{
    return (struct slab *)((uintptr_t)e & ~(uintptr_t)(p->slab_bytes - 1));
}

static void slab_link(struct slab *s)
{
    struct pool *p = s->pool;
    s->prev = NULL;
    s->next = p->slabs;
    if (p->slabs)
        p->slabs->prev = s;
    p->slabs = s;
}

static void slab_unlink(struct slab *s)
{
    if (s->prev)
        s->prev->next = s->next;
    else
        s->pool->slabs = s->next;
    if (s->next)
        s->next->prev = s->prev;
}

static struct slab *slab_create(struct pool *p)
{
    struct slab *s = memory_arena_allocate(arena, p->slab_bytes, p->slab_bytes);
    if (!s)
        return NULL;
    if ((uintptr_t)s + p->slab_bytes > (uintptr_t)1
                                           << 48) { /* slots of tables have no room for it */
        memory_arena_free(arena, s, p->slab_bytes, p->slab_bytes);
        return NULL;
    }
    *s = (struct slab){.pool = p};
    slab_bytes_total += p->slab_bytes;
    p->empty++;
    slab_link(s);
    return s;
}

static void slab_destroy(struct slab *s)
{
    struct pool *p = s->pool;
    slab_unlink(s);
    p->empty--;
    slab_bytes_total -= p->slab_bytes;
    memory_arena_free(arena, s, p->slab_bytes, p->slab_bytes);
}

static struct entry *slab_take(struct slab *s)
{
    struct pool *p = s->pool;
    struct entry *e = s->free;
    if (e) {
        s->free = e->next;
    } else {
        uint32_t i = s->fresh++;
        e = slab_entry(s, i);
        *e = (struct entry){.page = {(char *)s + p->buffers_at + (size_t)i * p->page_bytes, e + 1}};
    }
    p->empty -= s->used == 0;
    s->used++;
    if (s->used == p->slots)
        slab_unlink(s);
    return e;
}

static void slab_give(struct slab *s, struct entry *e)
{
    struct pool *p = s->pool;
    e->next = s->free;
    s->free = e;
    if (s->used == p->slots)
        slab_link(s);
    s->used--;
    if (s->used > 0)
        return;
    p->empty++;
    if (p->empty > 1)
        slab_destroy(s);
}

/* --- pools
 * ------------------------------------------------------------------------------------------- */

static void pool_lay_out(struct pool *p)
{
    size_t header = (sizeof(struct entry) + p->extra_bytes + 7) & ~(size_t)7;
    p->stride = (uint32_t)((header + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1));
    p->slab_bytes = SLAB_BYTES_MIN;
    while (p->slab_bytes < (size_t)(SLAB_PAGES_MIN + 1) * p->page_bytes)
        p->slab_bytes *= 2;
    size_t align = p->page_bytes < 4096 ? p->page_bytes : 4096;
    for (p->slots = (uint32_t)(p->slab_bytes / p->page_bytes);; p->slots--) {
        p->buffers_at = (CACHE_LINE + (size_t)p->slots * p->stride + align - 1) & ~(align - 1);
        if (p->buffers_at + (size_t)p->slots * p->page_bytes <= p->slab_bytes)
            return;
    }
}

struct pool *pool_find(uint32_t page_bytes, uint32_t extra_bytes)
{
    pthread_mutex_lock(&pool_lock);
    struct pool *p = pools;
    while (p && (p->page_bytes != page_bytes || p->extra_bytes != extra_bytes))
        p = p->next;
    if (!p) {
        p = memory_allocate(sizeof *p);
        if (p) {
            *p = (struct pool){.page_bytes = page_bytes, .extra_bytes = extra_bytes, .next = pools};
            pool_lay_out(p);
            pools = p;
        }
    }
    pthread_mutex_unlock(&pool_lock);
    return p;
}

uint32_t pool_page_bytes(const struct pool *p)
{
    return p->page_bytes + p->stride;
}

static void pool_count_used(int64_t bytes)
{
    uint64_t now = atomic_load_explicit(&used, memory_order_relaxed) + (uint64_t)bytes;
    atomic_store_explicit(&used, now, memory_order_relaxed);
    if (now > used_most)
        used_most = now;
}

static bool pool_fits(uint64_t bytes)
{
    uint64_t most = atomic_load_explicit(&limit, memory_order_relaxed);
    return !most || atomic_load_explicit(&used, memory_order_relaxed) + bytes <= most;
}

bool pool_above_limit(void)
{
    return !pool_fits(0);
}

struct entry *pool_take(struct pool *p, bool force)
{
    struct entry *e = NULL;
    pthread_mutex_lock(&pool_lock);
    bool fits = pool_fits(pool_page_bytes(p));
    if (fits || force) {
        struct slab *s = p->slabs ? p->slabs : slab_create(p);
        if (s) {
            e = slab_take(s);
            pool_count_used(pool_page_bytes(p));
            over_limit += !fits;
        }
    }
    pthread_mutex_unlock(&pool_lock);
    return e;
}

/* Under pool_lock. */
static void pool_give_locked(struct pool *p, struct entry *list)
{
    while (list) {
        struct entry *next = list->next;
        pool_count_used(-(int64_t)pool_page_bytes(p));
        slab_give(slab_of(p, list), list);
        list = next;
    }
}

void pool_give(struct pool *p, struct entry *list)
{
    if (!list)
        return;
    pthread_mutex_lock(&pool_lock);
    pool_give_locked(p, list);
    pthread_mutex_unlock(&pool_lock);
}

void *pool_allocate(struct sqlite3_pcache *c, size_t bytes)
{
    void *block = memory_allocate(bytes);
    if (!block)
        return NULL;
    uint64_t real = memory_bytes(block);
    pthread_mutex_lock(&pool_lock);
    table_bytes_total += real;
    pool_count_used((int64_t)real);
    c->over = c->over || !pool_fits(0);
    pthread_mutex_unlock(&pool_lock);
    c->bytes += real;
    return block;
}

void pool_free(struct sqlite3_pcache *c, void *block)
{
    uint64_t real = memory_bytes(block);
    c->bytes -= real;
    pthread_mutex_lock(&pool_lock);
    table_bytes_total -= real;
    pool_count_used(-(int64_t)real);
    pthread_mutex_unlock(&pool_lock);
    memory_free(block);
}

/* --- caches
 * ------------------------------------------------------------------------------------------ */

void pool_join(struct sqlite3_pcache *c)
{
    uint64_t real = memory_bytes(c);
    c->bytes = real;
    pthread_mutex_lock(&pool_lock);
    table_bytes_total += real;
    pool_count_used((int64_t)real);
    c->prev = NULL;
    c->next = caches;
    if (caches)
        caches->prev = c;
    caches = c;
    atomic_fetch_add_explicit(&cache_count, 1, memory_order_relaxed);
    pthread_mutex_unlock(&pool_lock);
}

void pool_leave(struct sqlite3_pcache *c)
{
    pthread_mutex_lock(&pool_lock);
    if (hand == c)
        hand = c->next;
    if (c->prev)
        c->prev->next = c->next;
    else
        caches = c->next;
    if (c->next)
        c->next->prev = c->prev;
    table_bytes_total -= c->bytes;
    pool_count_used(-(int64_t)c->bytes);
    gone_hits += atomic_load_explicit(&c->hits, memory_order_relaxed);
    gone_misses += atomic_load_explicit(&c->misses, memory_order_relaxed);
    gone_evictions += atomic_load_explicit(&c->evictions, memory_order_relaxed);
    atomic_fetch_sub_explicit(&cache_count, 1, memory_order_relaxed);
    pthread_mutex_unlock(&pool_lock);
}

bool pool_has_share(const struct sqlite3_pcache *c)
{
    uint64_t count = atomic_load_explicit(&cache_count, memory_order_relaxed);
    uint64_t share = atomic_load_explicit(&limit, memory_order_relaxed) / (count ? count : 1);
    return c->bytes + (uint64_t)c->pages * pool_page_bytes(c->pool) >= share;
}

/* Claims are set for all caches at once, since what makes them visible is dear. False: no claim is
 * good. Under pool_lock. */
static bool pool_claim_all(const struct sqlite3_pcache *self)
{
    for (struct sqlite3_pcache *c = caches; c; c = c->next) {
        if (c != self)
            atomic_fetch_or_explicit(&c->attention, CACHE_CLAIMED, memory_order_seq_cst);
    }
    /* Pairs with the compiler barrier in cache_enter: on every CPU that runs a thread of ours there
     * is a full fence between here and the loads of `busy`. Without it the owners have fences of
     * their own. */
    return !pool_asymmetric || pool_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) ||
           (pool_membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) && /* a child, after fork */
            pool_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED));
}

/* Release: pairs with the acquire load of `attention` in cache_enter, or with pool_lock. */
static void pool_unclaim_all(const struct sqlite3_pcache *self)
{
    for (struct sqlite3_pcache *c = caches; c; c = c->next) {
        if (c != self)
            atomic_fetch_and_explicit(&c->attention, ~CACHE_CLAIMED, memory_order_release);
    }
}

/* A claimed cache is ours if its owner is outside. Acquire: pairs with cache_leave. */
static bool pool_owner_is_outside(struct sqlite3_pcache *c)
{
    return atomic_load_explicit(&c->busy, memory_order_seq_cst) == 0;
}

void pool_enter_slowly(struct sqlite3_pcache *c)
{
    pthread_mutex_lock(&pool_lock);
    atomic_store_explicit(&c->busy, 1, memory_order_seq_cst);
    pthread_mutex_unlock(&pool_lock);
}

bool pool_take_from_others(struct sqlite3_pcache *self)
{
    uint32_t count = 0, want = TAKE_AT_ONCE;
    pthread_mutex_lock(&pool_lock);
    uint64_t rounds = 0;
    if (pool_claim_all(self))
        rounds = atomic_load_explicit(&cache_count, memory_order_relaxed);
    for (; rounds && count < want; rounds--) {
        struct sqlite3_pcache *c = hand ? hand : caches;
        hand = c->next;
        if (c == self || !c->purgeable || !pool_owner_is_outside(c))
            continue;
        uint32_t got = 0;
        struct entry *list = cache_give_up(c, TAKE_FROM_ONE, &got);
        count += got;
        pool_give_locked(c->pool, list);
    }
    taken += count;
    pool_unclaim_all(self);
    bool fits = pool_fits(pool_page_bytes(self->pool));
    pthread_mutex_unlock(&pool_lock);
    return fits;
}

/* --- the whole
 * ----------------------------------------------------------------------------------------- */

void page_cache_set_limit(uint64_t bytes)
{
    atomic_store_explicit(&limit, bytes, memory_order_relaxed);
}

uint64_t page_cache_limit(void)
{
    return atomic_load_explicit(&limit, memory_order_relaxed);
}

uint64_t page_cache_count(void)
{
    return atomic_load_explicit(&cache_count, memory_order_relaxed);
}

/* Under pool_lock. */
static void pool_release_empty(void)
{
    for (struct pool *p = pools; p; p = p->next) {
        for (struct slab *s = p->slabs, *next; s; s = next) {
            next = s->next;
            if (s->used == 0)
                slab_destroy(s);
        }
    }
}

uint64_t page_cache_shrink(void)
{
    pthread_mutex_lock(&pool_lock);
    uint64_t before = slab_bytes_total + table_bytes_total;
    bool claimed = pool_claim_all(NULL);
    for (struct sqlite3_pcache *c = caches; c; c = c->next) {
        uint32_t got;
        if (!c->purgeable)
            continue;
        if (claimed && pool_owner_is_outside(c))
            pool_give_locked(c->pool, cache_give_up(c, UINT32_MAX, &got));
        else
            atomic_fetch_or_explicit(&c->attention, CACHE_SHRINK, memory_order_relaxed);
    }
    pool_unclaim_all(NULL);
    pool_release_empty();
    uint64_t after = slab_bytes_total + table_bytes_total;
    pthread_mutex_unlock(&pool_lock);
    memory_arena_purge(arena);
    return before - after;
}

void page_cache_status(struct page_cache_status *out)
{
    *out = (struct page_cache_status){0};
    pthread_mutex_lock(&pool_lock);
    out->limit = page_cache_limit();
    out->used = atomic_load_explicit(&used, memory_order_relaxed);
    out->used_most = used_most;
    out->allocated = slab_bytes_total + table_bytes_total;
    out->caches = page_cache_count();
    out->hits = gone_hits;
    out->misses = gone_misses;
    out->evictions = gone_evictions;
    out->taken = taken;
    out->over_limit = over_limit;
    for (struct sqlite3_pcache *c = caches; c; c = c->next) {
        uint32_t pages = __atomic_load_n(&c->pages, __ATOMIC_RELAXED);
        uint32_t unpinned = __atomic_load_n(&c->unpinned, __ATOMIC_RELAXED);
        out->pages += pages;
        out->pages_in_use += pages > unpinned ? pages - unpinned : 0;
        out->hits += atomic_load_explicit(&c->hits, memory_order_relaxed);
        out->misses += atomic_load_explicit(&c->misses, memory_order_relaxed);
        out->evictions += atomic_load_explicit(&c->evictions, memory_order_relaxed);
    }
    pthread_mutex_unlock(&pool_lock);
}

void pool_stop(void)
{
    pthread_mutex_lock(&pool_lock);
    pool_release_empty();
    for (struct pool *p = pools, *next; p && !caches; p = next) {
        next = p->next;
        memory_free(p);
        pools = next;
    }
    pthread_mutex_unlock(&pool_lock);
    memory_arena_purge(arena);
}

unsigned pool_arena(void)
{
    return arena;
}

const char *pool_validate(void)
{
    const char *wrong = NULL;
    pthread_mutex_lock(&pool_lock);
    for (struct pool *p = pools; p; p = p->next) {
        uint32_t empty = 0;
        for (struct slab *s = p->slabs; s; s = s->next) {
            uint32_t free = p->slots - s->fresh;
            for (struct entry *e = s->free; e; e = e->next) {
                free++;
                if (slab_of(p, e) != s)
                    wrong = "a free entry is in another slab's list";
            }
            if (free == 0 || free != p->slots - s->used)
                wrong = "a slab's free entries are not those that it counts";
            empty += s->used == 0;
        }
        if (empty != p->empty)
            wrong = "a pool's empty slabs are not those that it counts";
    }
    pthread_mutex_unlock(&pool_lock);
    return wrong;
}
