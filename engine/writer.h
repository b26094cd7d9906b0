/* writer.h: the writer lock of a store.
 *
 * One futex word in the region: 0 free, else the owner's slot + 1, with a bit that says somebody
 * sleeps on it. It is not a pthread robust mutex, because such a mutex belongs to a thread, and an
 * SQLite connection may begin a transaction in one thread and end it in another; the owner here is
 * the slot, which names its process by pid and start time, so that a later version that shares the
 * region between processes can find a dead owner.
 *
 * Acquire pairs with the release in writer_unlock: all that the previous holder stored is visible.
 * Rank: above store_registry_lock, which no holder of the writer lock waits for.
 */
#ifndef DAX_WRITER_H
#define DAX_WRITER_H

#include "engine/region.h"

/* One attempt, no waiting. */
bool writer_trylock(struct region *r, uint32_t slot);

/* Wait up to wait_ns; false: still held by somebody else. No system call when the lock is free. */
bool writer_lock(struct region *r, uint32_t slot, uint64_t wait_ns);

/* Release; wakes one waiter if there is any. */
void writer_unlock(struct region *r, uint32_t slot);

/* Does somebody sleep on the lock? For a holder whose work can be left to the next one. */
bool writer_is_wanted(const struct region *r);

/* Slot that holds the lock, or UINT32_MAX. */
uint32_t writer_owner(const struct region *r);

#endif
