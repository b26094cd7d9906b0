/* frames.h: version nodes and their frames: allocation, limbo, reclaim.
 *
 * Everything here needs the writer lock. The life of a node:
 *
 *   free -> private to the transaction (or made by a checkpoint) -> in a page's chain
 *        -> limbo: unlinked, no new pin can reach it, an old one may -> reclaimed: free
 *
 * A node that was never in a chain goes straight back to free. Limbo is zap, frames_reclaim is
 * drain and reclaim: it scans once and frees what nobody pins.
 *
 * A NODE_BASE marker has no use for its frame. So it is made of a node whose frame has no memory, and
 * counted apart (markers, not nodes_used): what old snapshots cost is one frame for each version.
 */
#ifndef DAX_FRAMES_H
#define DAX_FRAMES_H

#include "engine/scan.h"

/* A node whose frame nobody can see; content of the frame is undefined. 0: all are in use. */
uint32_t frames_take(struct region *r);

/* The same for a NODE_BASE marker, which it becomes here: its frame has no memory and is not to be touched. */
uint32_t frames_take_marker(struct region *r);

/* Give back a node that no reader can have seen. */
void frames_give(struct region *r, uint32_t node);

/* The same after its frame's content was applied to base: until the page or the frame changes, the frame
 * is a good copy of it. The page's word must have its new value. */
void frames_give_copy(struct region *r, uint32_t node, uint64_t page);

/* Is the free node's frame what base should hold of the page, whose word is w? To be asked again after
 * the frame has been read. Async-signal-safe; any thread. */
bool frames_is_copy(const struct region *r, uint32_t node, uint64_t page, uint64_t w);

/* A node that has just been unlinked from its chain (with a new generation of the page word). */
void frames_limbo(struct region *r, uint32_t node);

/* Free every node of limbo that no slot pins. s is overwritten. */
void frames_reclaim(struct region *r, struct scan *s, uint32_t self);

/* Give the memory of free frames above DAX_FRAMES_RETAIN back to the system. */
void frames_trim(struct region *r);

/* Recount free, limbo and used nodes and markers and compare with the counters; for tests and debug builds. */
bool frames_validate(const struct region *r);

#endif
