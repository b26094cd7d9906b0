/* pageword.c: the table of edges, and the one function that takes them. */
#include "engine/pageword.h"

/* edge[from][to]; everything else is a programming error. */
static const bool pageword_edges[4][4] = {
    [PAGE_ABSENT] = {[PAGE_MAPPED] = true},   /* first commit that contains the page */
    [PAGE_MAPPED] = {[PAGE_ZAPPED] = true,    /* somebody wants its base storage */
                     [PAGE_MAPPED] = true},   /* a version was pushed or dropped */
    [PAGE_ZAPPED] = {[PAGE_MAPPED] = true,    /* reclaimed, or not drained in time */
                     [PAGE_TRUNCATED] = true}, /* shrink: no snapshot, no pin */
    [PAGE_TRUNCATED] = {[PAGE_ABSENT] = true, /* the file has been cut */
                        [PAGE_MAPPED] = true}, /* the database grew again before that */
};

bool pageword_edge_ok(enum page_state from, enum page_state to)
{
    return pageword_edges[from][to];
}

/* Generation 0 belongs to the untouched word. */
static uint32_t pageword_next_generation(uint64_t w)
{
    uint32_t generation = pageword_generation(w) + 1;
    return generation ? generation : 1;
}

bool pageword_set(struct region *r, uint64_t page, enum page_state to, uint32_t node)
{
    uint64_t raw = atomic_load_explicit(&r->words[page], memory_order_relaxed), next;
    do {
        uint64_t w = pageword_shown(r, page, raw);
        if (!pageword_edge_ok(pageword_state(w), to))
            return false;
        uint64_t flags = w & (PAGEWORD_POISONED | PAGEWORD_PROBED);
        if (to == PAGE_ABSENT) /* when it comes back, it is another block that nobody has looked at */
            flags &= ~PAGEWORD_PROBED;
        next = (uint64_t)to | flags | (uint64_t)node << 8 |
               (uint64_t)pageword_next_generation(w) << 32;
        /* Fails where a reader has set a flag in between: that flag is kept. */
    } while (!atomic_compare_exchange_weak_explicit(&r->words[page], &raw, next,
                                                    memory_order_seq_cst, memory_order_relaxed));
    return true;
}

void pageword_flag(struct region *r, uint64_t page, uint64_t set, uint64_t clear)
{
    uint64_t raw = atomic_load_explicit(&r->words[page], memory_order_relaxed), next;
    do {
        uint64_t w = pageword_shown(r, page, raw);
        next = (w | set) & ~clear;
        if (next == w)
            return;
        if (w & ~next & PAGEWORD_POISONED)
            next = (next & UINT32_MAX) | (uint64_t)pageword_next_generation(w) << 32;
    } while (!atomic_compare_exchange_weak_explicit(&r->words[page], &raw, next,
                                                    memory_order_seq_cst, memory_order_relaxed));
}

const char *page_state_name(enum page_state s)
{
    switch (s) {
    case PAGE_ABSENT: return "ABSENT";
    case PAGE_MAPPED: return "MAPPED";
    case PAGE_ZAPPED: return "ZAPPED";
    case PAGE_TRUNCATED: return "TRUNCATED";
    }
    return "?";
}
