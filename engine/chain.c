/* chain.c: version chains. */
#include "engine/chain.h"

#include "engine/frames.h"
#include "engine/store.h"

static uint64_t chain_txid(const struct region *r, uint32_t node)
{
    return atomic_load_explicit(&r->nodes[node].txid, memory_order_relaxed);
}

static uint64_t chain_storage(const struct region *r, uint32_t node)
{
    return atomic_load_explicit(&r->nodes[node].storage, memory_order_relaxed);
}

static uint32_t chain_older(const struct region *r, uint32_t node)
{
    /* Acquire: a node that was put into the middle of the chain (rehome.c) is filled. */
    return atomic_load_explicit(&r->nodes[node].older, memory_order_acquire);
}

bool chain_find(const struct region *r, uint64_t w, uint64_t snapshot, struct version *out)
{
    uint32_t node = pageword_node(w);
    for (unsigned steps = 0; node; steps++) {
        if (steps > CHAIN_STEPS_MAX || node >= DAX_MAX_NODES)
            return false;
        uint64_t txid = chain_txid(r, node);
        if (txid <= snapshot) {
            *out = (struct version){node, txid, chain_storage(r, node)};
            return true;
        }
        node = chain_older(r, node);
    }
    *out = (struct version){0, 0, NODE_BASE};
    return true;
}

uint8_t *chain_address(const struct store *s, uint64_t page, const struct version *v)
{
    if (v->storage == NODE_BASE)
        return base_at(&s->base, page << DAX_PAGE_SHIFT);
    if (v->storage == NODE_FRAME)
        return region_frame(&s->region, v->node);
    return base_scratch_at(&s->base, v->storage);
}

void chain_newest(const struct store *s, uint64_t page, struct version *out)
{
    uint32_t node = pageword_node(pageword_load(&s->region, page));
    *out = node ? (struct version){node, chain_txid(&s->region, node),
                                   chain_storage(&s->region, node)}
                : (struct version){0, 0, NODE_BASE};
}

void chain_link_head(struct region *r, uint32_t node)
{
    struct region_guarded *g = &r->header->guarded;
    uint32_t first = GUARDED_GET(g->heads);
    r->nodes[node].prev = 0;
    r->nodes[node].next = first;
    if (first)
        r->nodes[first].prev = node;
    GUARDED_SET(g->heads, node);
    GUARDED_ADD(g->pages_versioned, 1);
}

void chain_unlink_head(struct region *r, uint32_t node)
{
    struct region_guarded *g = &r->header->guarded;
    struct node *n = &r->nodes[node];
    if (n->prev)
        r->nodes[n->prev].next = n->next;
    else
        GUARDED_SET(g->heads, n->next);
    if (n->next)
        r->nodes[n->next].prev = n->prev;
    n->next = n->prev = 0;
    GUARDED_ADD(g->pages_versioned, -1);
}

bool chain_push(struct store *s, uint64_t page, uint32_t node)
{
    struct region *r = &s->region;
    uint32_t head = pageword_node(pageword_load(r, page));
    DAX_ASSERT(!head || chain_txid(r, head) < chain_txid(r, node));
    GUARDED_SET(r->nodes[node].page, (uint32_t)page);
    /* Published by the sequentially consistent store of the word. */
    atomic_store_explicit(&r->nodes[node].older, head, memory_order_relaxed);
    if (!pageword_set(r, page, PAGE_MAPPED, node))
        return false;
    /* In this order, here and in rehome.c: a reader that ends goes by pages_versioned, without the
     * lock, and must not find 0 in between (conn_tidy). */
    chain_link_head(r, node);
    if (head)
        chain_unlink_head(r, head);
    return true;
}

bool chain_trim(struct store *s, uint64_t page, const struct scan *scan)
{
    struct region *r = &s->region;
    uint64_t w = pageword_load(r, page);
    uint32_t newer = pageword_node(w);
    if (!newer)
        return true;
    uint32_t dropped = 0; /* list through next */
    for (uint32_t node = chain_older(r, newer); node;) {
        uint32_t older = chain_older(r, node);
        if (scan_sees(scan, chain_txid(r, node), chain_txid(r, newer))) {
            newer = node;
        } else {
            atomic_store_explicit(&r->nodes[newer].older, older, memory_order_relaxed);
            r->nodes[node].next = dropped;
            dropped = node;
        }
        node = older;
    }
    if (!dropped)
        return true;
    /* New generation: a reader that walked over a dropped node starts over. */
    if (!pageword_set(r, page, pageword_state(w), pageword_node(w)))
        return false;
    while (dropped) {
        uint32_t next = r->nodes[dropped].next;
        frames_limbo(r, dropped);
        dropped = next;
    }
    return true;
}

bool chain_base_unseen(const struct store *s, uint64_t page, uint64_t txid, const struct scan *scan)
{
    const struct region *r = &s->region;
    uint64_t newer = txid;
    uint32_t node = pageword_node(pageword_load(r, page));
    while (node && chain_storage(r, node) != NODE_BASE) {
        newer = chain_txid(r, node);
        node = chain_older(r, node);
    }
    return !scan_sees(scan, node ? chain_txid(r, node) : 0, newer);
}

bool chain_rebase(struct store *s, uint64_t page, uint64_t txid, uint32_t marker,
                  const struct scan *scan)
{
    struct region *r = &s->region;
    if (marker) {
        /* Where the chain has another one further down, it is dropped below: nobody sees it. */
        GUARDED_SET(r->nodes[marker].txid, txid);
        if (!chain_push(s, page, marker))
            return false;
    } else {
        marker = pageword_node(pageword_load(r, page));
        GUARDED_SET(r->nodes[marker].txid, txid); /* C3 */
        if (!pageword_set(r, page, PAGE_MAPPED, marker))
            return false;
    }
    if (!chain_trim(s, page, scan))
        return false;
    return chain_older(r, marker) != 0 || chain_clear(s, page, PAGE_MAPPED);
}

bool chain_clear(struct store *s, uint64_t page, enum page_state to)
{
    struct region *r = &s->region;
    uint32_t node = pageword_node(pageword_load(r, page));
    if (!pageword_set(r, page, to, 0))
        return false;
    if (node)
        chain_unlink_head(r, node);
    while (node) {
        uint32_t older = chain_older(r, node);
        frames_limbo(r, node);
        node = older;
    }
    return true;
}

bool chain_validate(const struct store *s, uint64_t page)
{
    const struct region *r = &s->region;
    uint32_t head = pageword_node(pageword_load(r, page)), markers = 0, steps = 0;
    uint64_t newer = UINT64_MAX;
    for (uint32_t node = head; node; node = chain_older(r, node)) {
        if (++steps > CHAIN_STEPS_MAX || chain_txid(r, node) >= newer ||
            GUARDED_GET(r->nodes[node].page) != page)
            return false;
        newer = chain_txid(r, node);
        markers += chain_storage(r, node) == NODE_BASE;
    }
    if (markers > 1)
        return false;
    for (uint32_t node = GUARDED_GET(r->header->guarded.heads); node && head;
         node = r->nodes[node].next)
        if (node == head)
            return true;
    return head == 0;
}
