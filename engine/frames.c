/* frames.c: free lists of version nodes.
 *
 * The free list is last in, first out, so that a transaction's private copies reuse frames that are
 * still in the CPU cache. Nodes whose frames have no memory, because it was given back to the system or
 * because they were markers, are on a second list, used after the first is empty and before nodes that
 * were never used. Markers are taken from there.
 */
#include "engine/frames.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "engine/pageword.h"

/* The node in front of the free list, which is not empty. */
static uint32_t frames_pop_free(struct region *r)
{
    struct region_guarded *g = &r->header->guarded;
    uint32_t node = GUARDED_GET(g->free);
    GUARDED_SET(g->free, r->nodes[node].next);
    GUARDED_ADD(g->free_count, -1);
    return node;
}

/* A node whose frame has no memory; 0: none. */
static uint32_t frames_pop_cold(struct region *r)
{
    struct region_guarded *g = &r->header->guarded;
    uint32_t node = GUARDED_GET(g->cold);
    if (node) {
        GUARDED_SET(g->cold, r->nodes[node].next);
        return node;
    }
    node = GUARDED_GET(g->fresh);
    if (node >= DAX_MAX_NODES)
        return 0;
    GUARDED_SET(g->fresh, node + 1);
    return node;
}

static void frames_push_cold(struct region *r, uint32_t node)
{
    struct region_guarded *g = &r->header->guarded;
    r->nodes[node].next = GUARDED_GET(g->cold);
    GUARDED_SET(g->cold, node);
}

uint32_t frames_take(struct region *r)
{
    struct region_guarded *g = &r->header->guarded;
    uint32_t node = GUARDED_GET(g->free) ? frames_pop_free(r) : frames_pop_cold(r);
    if (!node)
        return 0;
    struct node *n = &r->nodes[node];
    n->next = n->prev = 0;
    /* An exchange, so that the frame is not stored to before: pairs with the loads around a copy of it
     * (media_signal.c). */
    if (GUARDED_GET(n->storage) == NODE_COPY)
        (void)atomic_exchange(&n->storage, NODE_FRAME);
    else
        GUARDED_SET(n->storage, NODE_FRAME);
    GUARDED_ADD(g->nodes_used, 1);
    return node;
}

uint32_t frames_take_marker(struct region *r)
{
    struct region_guarded *g = &r->header->guarded;
    uint32_t node = frames_pop_cold(r);
    if (node) {
        r->nodes[node].next = r->nodes[node].prev = 0;
    } else { /* one of the last: its frame keeps the memory that it has */
        node = frames_take(r);
        if (!node)
            return 0;
        GUARDED_ADD(g->nodes_used, -1);
    }
    GUARDED_SET(r->nodes[node].storage, NODE_BASE);
    GUARDED_ADD(g->markers, 1);
    return node;
}

/* Back on the list of its kind, whatever it was before. */
static void frames_free(struct region *r, uint32_t node)
{
    struct region_guarded *g = &r->header->guarded;
    if (GUARDED_GET(r->nodes[node].storage) == NODE_BASE) {
        frames_push_cold(r, node);
        GUARDED_ADD(g->markers, -1);
        return;
    }
    if (GUARDED_GET(r->nodes[node].storage) > NODE_COPY)
        GUARDED_ADD(g->scratch_nodes, -1);
    r->nodes[node].next = GUARDED_GET(g->free);
    GUARDED_SET(g->free, node);
    GUARDED_ADD(g->free_count, 1);
    GUARDED_ADD(g->nodes_used, -1);
}

void frames_give(struct region *r, uint32_t node)
{
    frames_free(r, node);
}

void frames_give_copy(struct region *r, uint32_t node, uint64_t page)
{
    struct node *n = &r->nodes[node];
    frames_free(r, node);
    GUARDED_SET(n->page, (uint32_t)page);
    atomic_store_explicit(&n->older, pageword_generation(pageword_load(r, page)),
                          memory_order_relaxed);
    /* Release: who finds the mark finds the rest, and a frame that is filled. */
    atomic_store_explicit(&n->storage, NODE_COPY, memory_order_release);
}

bool frames_is_copy(const struct region *r, uint32_t node, uint64_t page, uint64_t w)
{
    const struct node *n = &r->nodes[node];
    return atomic_load_explicit(&n->storage, memory_order_acquire) == NODE_COPY &&
           GUARDED_GET(n->page) == page && GUARDED_GET(n->older) == pageword_generation(w) &&
           pageword_generation(w) != 0;
}

void frames_limbo(struct region *r, uint32_t node)
{
    struct region_guarded *g = &r->header->guarded;
    r->nodes[node].next = GUARDED_GET(g->limbo);
    r->nodes[node].prev = 0;
    GUARDED_SET(g->limbo, node);
    GUARDED_ADD(g->limbo_count, 1);
}

void frames_reclaim(struct region *r, struct scan *s, uint32_t self)
{
    struct region_guarded *g = &r->header->guarded;
    uint32_t node = GUARDED_GET(g->limbo);
    if (!node)
        return;
    /* Seen by readers before this scan looks at them: one whose pin keeps a node here finds, when it
     * ends, that there is something to tidy. Pairs with snapshot_end and conn_tidy. */
    atomic_store_explicit(&g->limbo_count, GUARDED_GET(g->limbo_count), memory_order_seq_cst);
    /* The unlinking stores came before this scan: who is not seen here cannot reach the nodes. */
    scan_take(s, r, self, false);
    uint32_t keep = 0, kept = 0;
    while (node) {
        uint32_t next = r->nodes[node].next;
        if (s->pin_count && scan_node_pinned(s, node)) {
            r->nodes[node].next = keep;
            keep = node;
            kept++;
        } else {
            frames_free(r, node);
        }
        node = next;
    }
    GUARDED_SET(g->limbo, keep);
    GUARDED_SET(g->limbo_count, kept);
}

static int frames_compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

void frames_trim(struct region *r)
{
    struct region_guarded *g = &r->header->guarded;
    uint32_t batch[DAX_FRAMES_TRIM_BATCH];
    while (GUARDED_GET(g->free_count) > DAX_FRAMES_RETAIN + DAX_FRAMES_TRIM_BATCH) {
        for (uint32_t i = 0; i < DAX_FRAMES_TRIM_BATCH; i++) {
            batch[i] = frames_pop_free(r);
            /* No copy any more, before its memory goes: as in frames_take, and for the same reader. */
            if (GUARDED_GET(r->nodes[batch[i]].storage) == NODE_COPY)
                (void)atomic_exchange(&r->nodes[batch[i]].storage, NODE_FRAME);
        }
        qsort(batch, DAX_FRAMES_TRIM_BATCH, sizeof *batch, frames_compare);
        for (uint32_t i = 0; i < DAX_FRAMES_TRIM_BATCH;) {
            uint32_t n = 1;
            while (i + n < DAX_FRAMES_TRIM_BATCH && batch[i + n] == batch[i] + n)
                n++;
            /* Failure only means that the memory stays. */
            (void)madvise(region_frame(r, batch[i]), (size_t)n * DAX_PAGE_BYTES, MADV_DONTNEED);
            i += n;
        }
        for (uint32_t i = 0; i < DAX_FRAMES_TRIM_BATCH; i++)
            frames_push_cold(r, batch[i]);
    }
}

static uint32_t frames_list_length(const struct region *r, uint32_t node)
{
    uint32_t n = 0;
    for (; node; node = r->nodes[node].next)
        n++;
    return n;
}

bool frames_validate(const struct region *r)
{
    const struct region_guarded *g = &r->header->guarded;
    uint32_t free_count = frames_list_length(r, GUARDED_GET(g->free));
    uint32_t cold = frames_list_length(r, GUARDED_GET(g->cold));
    return free_count == GUARDED_GET(g->free_count) &&
           frames_list_length(r, GUARDED_GET(g->limbo)) == GUARDED_GET(g->limbo_count) &&
           free_count + cold + GUARDED_GET(g->nodes_used) + GUARDED_GET(g->markers) + 1 ==
               GUARDED_GET(g->fresh);
}
