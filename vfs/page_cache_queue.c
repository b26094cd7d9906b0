/* page_cache_queue.c: which page goes: S3-FIFO.
 *
 * Juncheng Yang, Yazhuo Zhang, Ziyue Qiu, Yao Yue, Rashmi Vinayak: "FIFO queues are all you need
 * for cache eviction", SOSP 2023. A page comes into a small queue, a tenth of the cache. At its
 * tail, a page that was used again moves to the main queue; any other goes, and its number is
 * remembered for as long as the main queue would have kept it: if it comes back meanwhile, it goes
 * into the main queue at once. At the tail of the main queue, a page that was used goes round
 * again, with one use less.
 *
 * So a scan passes through a tenth of the cache and leaves the rest alone, and a hit moves
 * nothing: it costs no list, no neighbour's cache line. And a scan's pages go through the same few
 * buffers, which stay in the CPU's cache.
 *
 * Two things differ from the paper:
 *   - SQLite comes to a page many times in a row (once for each row that a join finds there). Uses
 *     count only when `window` other pages have come in between, and one such use is enough to stay.
 *   - A pinned page at the tail is taken out of its queue (ENTRY_LINKED), and comes back at the head
 *     of it when SQLite lets go. So a long transaction's pages are passed over once, not at each
 *     eviction.
 *
 * Invariants: Q1 an unpinned page of a purgeable cache is linked; a page of another cache never is.
 * Q2 queues[].count counts what is linked in it.
 */
#include <string.h>

#include "vfs/page_cache_table.h"

/* --- numbers of pages that were evicted ----------------------------------------------------------
 * */

/* One page in each bucket, the last one: a collision forgets a page too early. */
static inline struct ghost *ghost_bucket(const struct sqlite3_pcache *c, uint32_t key)
{
    return &c->ghosts[key * 0x9E3779B1u >> (32 - c->ghost_bits)];
}

/* As many as there are pages, at least; without memory, as many as there were. */
static __attribute__((noinline)) void ghost_grow(struct sqlite3_pcache *c)
{
    uint32_t bits = 4;
    while (bits < 28 && (1u << bits) < c->pages)
        bits++;
    size_t bytes = ((size_t)1 << bits) * sizeof(struct ghost);
    struct ghost *ghosts = pool_allocate(c, bytes);
    if (!ghosts)
        return;
    memset(ghosts, 0, bytes);
    if (c->ghosts)
        pool_free(c, c->ghosts);
    c->ghosts = ghosts;
    c->ghost_bits = bits;
}

static inline void ghost_add(struct sqlite3_pcache *c, uint32_t key)
{
    if (!c->ghosts || (c->pages > 1u << c->ghost_bits && c->ghost_bits < 28))
        ghost_grow(c);
    if (c->ghosts)
        *ghost_bucket(c, key) = (struct ghost){key, c->ghost_time++};
}

/* Was the page evicted a short time ago? It is forgotten with that. */
static inline bool ghost_take(struct sqlite3_pcache *c, uint32_t key)
{
    if (!c->ghosts)
        return false;
    struct ghost *g = ghost_bucket(c, key);
    bool found = g->key == key && c->ghost_time - g->time <= c->pages;
    if (found)
        g->key = 0;
    return found;
}

void queue_forget(struct sqlite3_pcache *c)
{
    if (c->ghosts)
        pool_free(c, c->ghosts);
    c->ghosts = NULL;
}

/* --- queues
 * ------------------------------------------------------------------------------------------ */

static inline struct queue *queue_of(struct sqlite3_pcache *c, const struct entry *e)
{
    return &c->queues[entry_is(e, ENTRY_MAIN) ? QUEUE_MAIN : QUEUE_SMALL];
}

static inline void queue_push(struct sqlite3_pcache *c, struct entry *e)
{
    struct queue *q = queue_of(c, e);
    e->bits |= ENTRY_LINKED;
    e->prev = NULL;
    e->next = q->head;
    if (q->head)
        q->head->prev = e;
    else
        q->tail = e;
    q->head = e;
    q->count++;
}

void queue_remove(struct sqlite3_pcache *c, struct entry *e)
{
    if (!entry_is(e, ENTRY_LINKED))
        return;
    struct queue *q = queue_of(c, e);
    if (e->prev)
        e->prev->next = e->next;
    else
        q->head = e->next;
    if (e->next)
        e->next->prev = e->prev;
    else
        q->tail = e->prev;
    q->count--;
    e->bits &= ~ENTRY_LINKED;
}

void queue_add(struct sqlite3_pcache *c, struct entry *e)
{
    e->bits = ENTRY_PINNED | (c->clock++ & ENTRY_CLOCK);
    if (!c->purgeable)
        return;
    if (ghost_take(c, e->key))
        e->bits |= ENTRY_MAIN;
    queue_push(c, e);
}

void queue_return(struct sqlite3_pcache *c, struct entry *e)
{
    if (c->purgeable)
        queue_push(c, e);
}

static inline struct entry *queue_pop(struct queue *q)
{
    struct entry *e = q->tail;
    q->tail = e->prev;
    if (e->prev)
        e->prev->next = NULL;
    else
        q->head = NULL;
    q->count--;
    e->bits &= ~ENTRY_LINKED;
    return e;
}

struct entry *queue_evict(struct sqlite3_pcache *c, bool remember)
{
    struct queue *small = &c->queues[QUEUE_SMALL], *main = &c->queues[QUEUE_MAIN];
    while (c->unpinned) {
        bool from_small = small->count > c->pages / 10 || !main->count;
        struct entry *e = queue_pop(from_small ? small : main);
        if (entry_is(e, ENTRY_PINNED))
            continue;
        if (entry_is(e, ENTRY_USES)) {
            e->bits = from_small ? e->bits & ~ENTRY_USES : e->bits - ENTRY_USE;
            e->bits |= ENTRY_MAIN;
            queue_push(c, e);
            continue;
        }
        if (from_small && remember)
            ghost_add(c, e->key);
        return e;
    }
    return NULL;
}
