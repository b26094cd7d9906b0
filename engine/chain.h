/* chain.h: the versions of a page, newest first.
 *
 * A chain starts at the node in the page word and follows `older`. Its last version is base,
 * implicitly, unless the chain has a NODE_BASE marker: then base holds the marker's version, which
 * is newer than what follows the marker. (A checkpoint leaves that behind where an old snapshot
 * still needs what base held before. From then on commits of the page can go to base again, and the
 * marker says whose version it is: chain_rebase.) A marker that nobody sees is dropped as any other
 * version. Then base holds what no snapshot in use finds, since each finds one in the chain.
 *
 * Invariants:
 *   C1  txids fall strictly along a chain.
 *   C2  At most one marker, and then every snapshot in use finds a version in the chain.
 *   C3  A node's txid, storage and page do not change while it is in a chain; `older` may, when a
 *       version in the middle is dropped, with a new generation of the page word. But for a marker's
 *       txid, which may rise while no snapshot in use lies between the old and the new one: whoever
 *       walks compares it with its own snapshot, and both have the same answer.
 *   C4  The head of every chain is on the list of heads, and nothing else is.
 * All changes need the writer lock. Readers walk without one (pin.c): they may see a node that has
 * been reused meanwhile, walk a bounded number of steps, and notice by the generation.
 */
#ifndef DAX_CHAIN_H
#define DAX_CHAIN_H

#include "engine/pageword.h"
#include "engine/scan.h"

struct store;

/* Steps after which a walk gives up and starts over; longer chains do not exist (chain_trim keeps
 * at most one version for each snapshot in use). */
#define CHAIN_STEPS_MAX (DAX_MAX_SLOTS + 64)

/* Where a version lives. */
struct version {
    uint32_t node;    /* 0: base, implicitly */
    uint64_t txid;    /* 0 if implicit */
    uint64_t storage; /* NODE_FRAME, NODE_BASE, scratch page; NODE_BASE if implicit */
};

/* Newest version with txid <= snapshot, starting from page word w. false: walked too far. */
bool chain_find(const struct region *r, uint64_t w, uint64_t snapshot, struct version *out);

/* Address of a version's bytes. */
uint8_t *chain_address(const struct store *s, uint64_t page, const struct version *v);

/* Newest committed version. Writer lock. */
void chain_newest(const struct store *s, uint64_t page, struct version *out);

/* Make `node` (txid, storage set by the caller) the newest version of page; state becomes MAPPED.
 * false: a failed check. */
DAX_CHECKED bool chain_push(struct store *s, uint64_t page, uint32_t node);

/* Drop versions of the page that no snapshot in scan sees (and none that begins later can): they go
 * to limbo. The newest one always stays. */
DAX_CHECKED bool chain_trim(struct store *s, uint64_t page, const struct scan *scan);

/* Does no snapshot in scan see what base holds, if the page's newest version is txid from now on? */
bool chain_base_unseen(const struct store *s, uint64_t page, uint64_t txid,
                       const struct scan *scan);

/* Does base hold the newest version? Writer lock. */
static inline bool chain_is_home(const struct region *r, uint64_t page)
{
    uint32_t node = pageword_node(pageword_load(r, page));
    return node == 0 || GUARDED_GET(r->nodes[node].storage) == NODE_BASE;
}

/* Base holds version txid now, which is the newest, in place of one that is unseen (above). The page is
 * ZAPPED and becomes MAPPED. marker: of frames_take_marker, or 0 if the chain's head is a marker.
 * Versions that no snapshot in scan sees are dropped, and the marker if it would be the last one. */
DAX_CHECKED bool chain_rebase(struct store *s, uint64_t page, uint64_t txid, uint32_t marker,
                              const struct scan *scan);

/* Empty the chain: all nodes to limbo, state `to`. Base must hold the newest version. */
DAX_CHECKED bool chain_clear(struct store *s, uint64_t page, enum page_state to);

/* Put the chain's head on, take it off the list of heads. */
void chain_link_head(struct region *r, uint32_t node);
void chain_unlink_head(struct region *r, uint32_t node);

/* C1, C2 and C4 for one page; for tests and debug builds. */
bool chain_validate(const struct store *s, uint64_t page);

#endif
