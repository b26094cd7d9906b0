/* page_cache.c: one cache of pages: what SQLite calls.
 *
 * A page is *pinned* from xFetch to xUnpin, however often it is fetched in between; SQLite may use
 * its buffer and extra space only then. Unpinned pages are kept until the cache is full
 * (xCachesize), the limit over all caches is met, or somebody asks for memory. Pages of a cache
 * that is not purgeable are the only copy there is (an in-memory database): they go when SQLite
 * says so.
 *
 * What SQLite asks for, beyond its documentation (pcache.c): it clears its part of the extra space
 * itself when the first 8 bytes of it are 0, so that a new page needs no more than that; and after
 * a refused createFlag 1 it spills a changed page and comes again with 2. Refusing in time is what
 * makes it spill: at nine tenths of the cache in use, as SQLite's own does.
 *
 * Owner and claimer. `busy` is 1 while the owner is inside. Whoever wants pages of an idle cache
 * sets CACHE_CLAIMED, then looks at `busy`; the owner sets `busy`, then looks at `attention`. Each
 * stores before it loads what the other stores, so that one of them sees the other and stays out.
 * The owner does this a million times a second and the claimer hardly ever: the owner's store and
 * load are kept in order for the compiler only, and the claimer's membarrier() makes every CPU
 * execute the fence. Where the kernel has none, the owner's store is an exchange.
 *
 * Invariants: C1 pages and unpinned count the entries of the table. C2 an entry is in the table, in
 * `spare`, or the pool's. Q1, Q2: page_cache_queue.c. T1, T2: page_cache_table.h.
 */
#include "vfs/page_cache.h"

#include <string.h>

#include "vfs/memory.h"
#include "vfs/page_cache_table.h"

/* Pages that a cache may have before SQLite says how many. */
#define CACHE_PAGES_DEFAULT 100

#define unlikely(x) __builtin_expect(!!(x), 0)

static void cache_shrink(struct sqlite3_pcache *c);

/* --- entry and exit
 * -------------------------------------------------------------------------------- */

/* Somebody wants something of us, or not. */
static void cache_attend(struct sqlite3_pcache *c)
{
    /* Acquire, here and below: whoever had claimed it may have gone since cache_try_enter looked. Pairs with
     * pool_unclaim_all. */
    if (atomic_load_explicit(&c->attention, memory_order_acquire) & CACHE_CLAIMED) {
        /* Pairs with pool_owner_is_outside: the claimer may have it. */
        atomic_store_explicit(&c->busy, 0, memory_order_seq_cst);
        pool_enter_slowly(c);
    }
    if (atomic_load_explicit(&c->attention, memory_order_acquire) & CACHE_SHRINK) {
        atomic_fetch_and_explicit(&c->attention, ~CACHE_SHRINK, memory_order_relaxed);
        cache_shrink(c);
    }
}

/* False: somebody wants something of us; busy is set all the same. */
static inline bool cache_try_enter(struct sqlite3_pcache *c)
{
    if (unlikely(c->fenced)) {
        atomic_exchange_explicit(&c->busy, 1, memory_order_seq_cst);
    } else {
        /* Pairs with membarrier() in pool_claim_all. */
        atomic_store_explicit(&c->busy, 1, memory_order_relaxed);
        atomic_signal_fence(memory_order_seq_cst);
    }
    /* Acquire: pairs with pool_unclaim_all. */
    return !atomic_load_explicit(&c->attention, memory_order_acquire);
}

static inline void cache_enter(struct sqlite3_pcache *c)
{
    if (unlikely(!cache_try_enter(c)))
        cache_attend(c);
}

/* Release: pairs with pool_owner_is_outside. */
static inline void cache_leave(struct sqlite3_pcache *c)
{
    atomic_store_explicit(&c->busy, 0, memory_order_release);
}

/* --- pages
 * ------------------------------------------------------------------------------------------- */

/* The entry is out of its queue. It is nobody's then. */
static void cache_forget(struct sqlite3_pcache *c, struct entry *e)
{
    table_remove(c, e);
    if (!entry_is(e, ENTRY_PINNED))
        count_set(&c->unpinned, c->unpinned - 1);
}

static void cache_keep_spare(struct sqlite3_pcache *c, struct entry *e)
{
    if (c->spares < CACHE_SPARE_MAX) {
        e->next = c->spare;
        c->spare = e;
        c->spares++;
    } else {
        e->next = NULL;
        pool_give(c->pool, e);
    }
}

static void cache_discard(struct sqlite3_pcache *c, struct entry *e)
{
    queue_remove(c, e);
    cache_forget(c, e);
    cache_keep_spare(c, e);
}

static struct entry *cache_evict(struct sqlite3_pcache *c)
{
    struct entry *e = queue_evict(c, true);
    if (e) {
        cache_forget(c, e);
        count_one(&c->evictions);
    }
    return e;
}

struct entry *cache_give_up(struct sqlite3_pcache *c, uint32_t most, uint32_t *count_out)
{
    struct entry *list = c->spare, *e;
    c->spare = NULL;
    c->spares = 0;
    for (*count_out = 0; *count_out < most && (e = queue_evict(c, false)); ++*count_out) {
        cache_forget(c, e);
        count_one(&c->evictions);
        e->next = list;
        list = e;
    }
    return list;
}

static void cache_shrink(struct sqlite3_pcache *c)
{
    uint32_t count;
    pool_give(c->pool, cache_give_up(c, UINT32_MAX, &count));
    queue_forget(c);
    table_fit(c);
}

/* Down to what SQLite suggests, and below the limit, as far as pages are unpinned. */
static void cache_trim(struct sqlite3_pcache *c)
{
    struct entry *e;
    while (c->pages > c->max && (e = cache_evict(c)))
        cache_keep_spare(c, e);
    while (pool_above_limit()) {
        uint32_t count;
        struct entry *list = cache_give_up(c, 1, &count);
        if (!list)
            return; /* all that is left is in use */
        pool_give(c->pool, list);
    }
    c->over = c->pages > c->max && c->purgeable;
}

/* An entry for a new page, where the limit does not allow one more. */
static struct entry *cache_take_above_limit(struct sqlite3_pcache *c, int create)
{
    struct entry *e = NULL;
    if (pool_has_share(c) && (e = cache_evict(c)))
        return e;
    if (pool_take_from_others(c) && (e = pool_take(c->pool, false)))
        return e;
    if ((e = cache_evict(c)))
        return e;
    if (create == 1 && c->purgeable)
        return NULL; /* SQLite has changed pages to spill, perhaps */
    c->over = true;
    return pool_take(c->pool, true);
}

static struct entry *cache_take(struct sqlite3_pcache *c, int create)
{
    struct entry *e = NULL;
    if (c->purgeable && c->pages >= c->max && (e = cache_evict(c)))
        return e;
    e = c->spare;
    if (e) {
        c->spare = e->next;
        c->spares--;
        return e;
    }
    e = pool_take(c->pool, false);
    return e ? e : cache_take_above_limit(c, create);
}

static struct entry *cache_make_page(struct sqlite3_pcache *c, uint32_t key, int create)
{
    if (create == 1 && c->purgeable && c->pages - c->unpinned >= c->max_pinned)
        return NULL;
    count_one(&c->misses);
    if (!table_reserve(c))
        return NULL;
    struct entry *e = cache_take(c, create);
    if (!e)
        return NULL;
    e->key = key;
    memset(e->page.pExtra, 0, sizeof(void *));
    table_insert(c, e);
    queue_add(c, e);
    c->window = c->pages / 20;
    if (unlikely(c->pages > c->max))
        c->over = c->purgeable;
    return e;
}

/* A page that is not here; leaves the cache. */
static __attribute__((noinline)) sqlite3_pcache_page *cache_create_page(struct sqlite3_pcache *c,
                                                                        uint32_t key, int create)
{
    struct entry *e = cache_make_page(c, key, create);
    cache_leave(c);
    return (sqlite3_pcache_page *)e; /* its first member */
}

static inline void cache_use(struct sqlite3_pcache *c, struct entry *e)
{
    uint32_t bits = e->bits;
    count_one(&c->hits);
    if (!(bits & ENTRY_PINNED)) {
        bits |= ENTRY_PINNED;
        e->bits = bits;
        count_set(&c->unpinned, c->unpinned - 1);
    }
    if ((bits & ENTRY_USES) != ENTRY_USES && ((c->clock - bits) & ENTRY_CLOCK) > c->window)
        e->bits = ((bits & ~ENTRY_CLOCK) + ENTRY_USE) | (c->clock & ENTRY_CLOCK);
}

/* --- SQLite's methods
 * ---------------------------------------------------------------------------------- */

static int cache_init(void *arg)
{
    (void)arg;
    return pool_start();
}

static void cache_shutdown(void *arg)
{
    (void)arg;
    pool_stop();
}

static sqlite3_pcache *cache_new(int page_bytes, int extra_bytes, int purgeable)
{
    struct pool *pool = pool_find((uint32_t)page_bytes, (uint32_t)extra_bytes);
    struct sqlite3_pcache *c = pool ? memory_allocate(sizeof *c) : NULL;
    if (!c)
        return NULL;
    memset(c, 0, sizeof *c);
    c->pool = pool;
    c->purgeable = purgeable != 0;
    c->max = CACHE_PAGES_DEFAULT;
    c->max_pinned = CACHE_PAGES_DEFAULT * 9 / 10;
    c->fenced = !pool_asymmetric;
    table_begin(c);
    pool_join(c);
    return c;
}

static void cache_set_size(sqlite3_pcache *c, int pages)
{
    cache_enter(c);
    c->max = pages > 0 ? (uint32_t)pages : 0;
    c->max_pinned = c->max - c->max / 10;
    if (c->purgeable)
        cache_trim(c);
    cache_leave(c);
}

static int cache_page_count(sqlite3_pcache *c)
{
    cache_enter(c);
    int pages = (int)c->pages;
    cache_leave(c);
    return pages;
}

static sqlite3_pcache_page *cache_fetch_after_attending(sqlite3_pcache *c, unsigned key, int create)
{
    cache_attend(c);
    struct entry *e = table_find(c, key);
    if (!e && create)
        return cache_create_page(c, key, create);
    if (e)
        cache_use(c, e);
    cache_leave(c);
    return (sqlite3_pcache_page *)e;
}

static sqlite3_pcache_page *cache_fetch(sqlite3_pcache *c, unsigned key, int create)
{
    if (unlikely(!cache_try_enter(c)))
        return cache_fetch_after_attending(c, key, create);
    struct entry *e = table_find(c, key);
    if (!e && create)
        return cache_create_page(c, key, create);
    if (e)
        cache_use(c, e);
    cache_leave(c);
    return (sqlite3_pcache_page *)e; /* its first member */
}

static __attribute__((noinline)) void cache_unpin_slowly(sqlite3_pcache *c, struct entry *e,
                                                         int discard)
{
    cache_attend(c);
    if (discard) {
        cache_discard(c, e);
    } else {
        e->bits &= ~ENTRY_PINNED;
        count_set(&c->unpinned, c->unpinned + 1);
        if (!entry_is(e, ENTRY_LINKED))
            queue_return(c, e);
        if (c->over && c->purgeable)
            cache_trim(c);
    }
    cache_leave(c);
}

static void cache_unpin(sqlite3_pcache *c, sqlite3_pcache_page *page, int discard)
{
    struct entry *e = (struct entry *)page;
    if (unlikely(!cache_try_enter(c)) || discard || !entry_is(e, ENTRY_LINKED) || c->over) {
        cache_unpin_slowly(c, e, discard);
        return;
    }
    e->bits &= ~ENTRY_PINNED;
    count_set(&c->unpinned, c->unpinned + 1);
    cache_leave(c);
}

static void cache_rekey(sqlite3_pcache *c, sqlite3_pcache_page *page, unsigned old_key,
                        unsigned new_key)
{
    struct entry *e = (struct entry *)page;
    (void)old_key;
    cache_enter(c);
    struct entry *there = table_find(c, new_key);
    if (there && there != e)
        cache_discard(c, there);
    table_rekey(c, e, new_key);
    cache_leave(c);
}

/* To the spare entries while there is room, else to the list. */
static struct entry *cache_put_away(struct sqlite3_pcache *c, struct entry *e, struct entry *list)
{
    if (c->spares < CACHE_SPARE_MAX) {
        cache_keep_spare(c, e);
        return list;
    }
    e->next = list;
    return e;
}

/* Every page. It happens whenever another connection has committed, if there are pages. */
static void cache_clear(struct sqlite3_pcache *c)
{
    struct entry *list = NULL;
    size_t slots = (size_t)c->table_mask + 1;
    for (size_t i = 0; i < slots; i++) {
        if (c->table[i])
            list = cache_put_away(c, table_entry(c->table[i]), list);
    }
    memset(c->queues, 0, sizeof c->queues);
    count_set(&c->unpinned, 0);
    table_clear(c);
    pool_give(c->pool, list);
}

/* Every page from `from` on. A slot that is emptied is filled from behind: it is looked at again.
 * */
static void cache_cut(struct sqlite3_pcache *c, uint32_t from)
{
    struct entry *list = NULL;
    size_t slots = (size_t)c->table_mask + 1;
    for (size_t i = 0; i < slots;) {
        struct entry *e = table_entry(c->table[i]);
        if (!e || e->key < from) {
            i++;
            continue;
        }
        queue_remove(c, e);
        cache_forget(c, e);
        list = cache_put_away(c, e, list);
    }
    pool_give(c->pool, list);
    c->max_key = from - 1;
}

static void cache_truncate(sqlite3_pcache *c, unsigned limit)
{
    cache_enter(c);
    if (limit <= 1 && c->pages)
        cache_clear(c);
    else if (limit <= c->max_key)
        cache_cut(c, limit);
    cache_leave(c);
}

static void cache_destroy(sqlite3_pcache *c)
{
    cache_enter(c);
    c->spares = CACHE_SPARE_MAX; /* no more are kept */
    cache_clear(c);
    pool_give(c->pool, c->spare);
    queue_forget(c);
    if (c->table != c->small_table)
        pool_free(c, c->table);
    pool_leave(c); /* from here on nobody can find it */
    memory_free(c);
}

static void cache_shrink_now(sqlite3_pcache *c)
{
    cache_enter(c);
    if (c->purgeable)
        cache_shrink(c);
    cache_leave(c);
}

const sqlite3_pcache_methods2 page_cache_methods = {
    .iVersion = 1,
    .xInit = cache_init,
    .xShutdown = cache_shutdown,
    .xCreate = cache_new,
    .xCachesize = cache_set_size,
    .xPagecount = cache_page_count,
    .xFetch = cache_fetch,
    .xUnpin = cache_unpin,
    .xRekey = cache_rekey,
    .xTruncate = cache_truncate,
    .xDestroy = cache_destroy,
    .xShrink = cache_shrink_now,
};

/* --- for tests
 * ------------------------------------------------------------------------------------------- */

static const char *cache_validate_queue(const struct sqlite3_pcache *c, enum queue_name name)
{
    uint32_t count = 0;
    const struct entry *before = NULL;
    for (const struct entry *e = c->queues[name].head; e; before = e, e = e->next) {
        count++;
        if (e->prev != before || entry_is(e, ENTRY_MAIN) != (name == QUEUE_MAIN) ||
            !entry_is(e, ENTRY_LINKED) || table_find(c, e->key) != e)
            return "a queue holds what does not belong there";
    }
    if (before != c->queues[name].tail || count != c->queues[name].count)
        return "Q2: a queue's count or tail is wrong";
    return NULL;
}

const char *page_cache_validate(const sqlite3_pcache *c)
{
    uint32_t pages = 0, unpinned = 0, linked = 0;
    for (size_t i = 0; i <= c->table_mask; i++) {
        if (c->table[i] == 0)
            continue;
        const struct entry *e = table_entry(c->table[i]);
        pages++;
        unpinned += !entry_is(e, ENTRY_PINNED);
        linked += entry_is(e, ENTRY_LINKED);
        if (table_find(c, e->key) != e)
            return "T1: an entry is not found where it is";
        if (c->purgeable ? !entry_is(e, ENTRY_PINNED | ENTRY_LINKED) : entry_is(e, ENTRY_LINKED))
            return "Q1: an unpinned page is in no queue, or one that must stay is in one";
        if (e->key > c->max_key)
            return "a key is above max_key";
    }
    if (pages != c->pages || unpinned != c->unpinned)
        return "C1: pages are not those that are counted";
    if ((size_t)pages * 4 > ((size_t)c->table_mask + 1) * 3)
        return "T2: the table is too full";
    if (linked != c->queues[QUEUE_SMALL].count + c->queues[QUEUE_MAIN].count)
        return "Q2: what is linked is not in the queues";
    for (int name = 0; name < QUEUES; name++) {
        const char *wrong = cache_validate_queue(c, name);
        if (wrong)
            return wrong;
    }
    return pool_validate();
}
