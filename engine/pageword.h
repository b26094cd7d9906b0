/* pageword.h: the 64-bit word that says everything about a page, and the edges between its states.
 *
 *   bits 0-1   state
 *   bit  2     POISONED
 *   bit  3     PROBED
 *   bits 8-31  newest version's node, 0: base is the only version
 *   bits 32-63 generation: every change of the page's state or chain increments it
 *
 * A word of 0 has not been touched since the store was opened: MAPPED below the pages that the
 * database had then, ABSENT above. State, chain and generation are changed by the holder of the writer
 * lock only; the flags by whoever has found something out. Both by sequentially consistent exchanges,
 * which pair with the reader's second load in pin.c, and of which none undoes the other.
 */
#ifndef DAX_PAGEWORD_H
#define DAX_PAGEWORD_H

#include "engine/engine.h"
#include "engine/region.h"

#define PAGEWORD_POISONED UINT64_C(4)
#define PAGEWORD_PROBED UINT64_C(8)

static inline enum page_state pageword_state(uint64_t w)
{
    return (enum page_state)(w & 3);
}

static inline uint32_t pageword_node(uint64_t w)
{
    return (uint32_t)(w >> 8) & 0xffffffu;
}

/* MAPPED, base its only version, not POISONED; with probed: and PROBED. */
static inline bool pageword_is_base(uint64_t w, bool probed)
{
    uint64_t asked = probed ? PAGEWORD_PROBED : 0;
    return (w & (UINT64_C(0xffffff03) | PAGEWORD_POISONED | asked)) == ((uint64_t)PAGE_MAPPED | asked);
}

static inline uint32_t pageword_generation(uint64_t w)
{
    return (uint32_t)(w >> 32);
}

/* What a stored word means. */
static inline uint64_t pageword_shown(const struct region *r, uint64_t page, uint64_t w)
{
    return w == 0 && page < r->header->initial_pages ? (uint64_t)PAGE_MAPPED : w;
}

/* Sequentially consistent: the reader's second load pairs with pageword_set. */
static inline uint64_t pageword_load(const struct region *r, uint64_t page)
{
    return pageword_shown(r, page, atomic_load_explicit(&r->words[page], memory_order_seq_cst));
}

/* Is from -> to an edge of the table in DESIGN.md section 2? An edge to the same state changes the
 * chain only and is allowed in MAPPED. */
bool pageword_edge_ok(enum page_state from, enum page_state to);

/* Move a page to `to` with the newest version `node`: new generation, flags kept, but PROBED not in
 * ABSENT. An edge that is
 * not in the table is not taken and answers false: the caller fails the store. Writer lock. */
DAX_CHECKED bool pageword_set(struct region *r, uint64_t page, enum page_state to, uint32_t node);

/* Set and clear flags. Clearing POISONED is a new generation: the page may have another content. Setting
 * it is not: what the page held, it holds still, to whoever knew it before (conn_page_stamp). Any
 * thread. */
void pageword_flag(struct region *r, uint64_t page, uint64_t set, uint64_t clear);

#endif
