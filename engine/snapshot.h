/* snapshot.h: reader slots, and which committed state a reader sees.
 *
 * A snapshot is a txid in the reader's slot. As long as it is there, no version that it sees is
 * dropped. It costs two loads and one store: no lock, no system call.
 */
#ifndef DAX_SNAPSHOT_H
#define DAX_SNAPSHOT_H

#include "engine/region.h"

/* The calling thread's id, as the slots of the snapshots that it begins have it. */
int32_t snapshot_thread(void);

/* In a child process after fork: the calling thread's cached id is the parent's. */
void snapshot_forget_thread(void);

/* Claim a slot for a new connection: index, or UINT32_MAX if all DAX_MAX_SLOTS are taken. */
uint32_t snapshot_claim_slot(struct region *r);
void snapshot_release_slot(struct region *r, uint32_t slot);

/* Take the newest snapshot into the slot: its txid, and the size that belongs to it. */
uint64_t snapshot_begin(struct region *r, uint32_t slot, uint64_t *size_bytes_out);

/* Move the slot's snapshot forward to txid, which this slot has just published. */
void snapshot_advance(struct region *r, uint32_t slot, uint64_t txid);

/* Give it up; all pins of the slot must be clear. */
void snapshot_end(struct region *r, uint32_t slot);

/* Make txid with its size the newest committed state. Writer lock; everything that the new state
 * consists of is in place, or ZAPPED. */
void snapshot_publish(struct region *r, uint64_t txid, uint64_t size_bytes);

/* Newest committed txid and its size. */
uint64_t snapshot_newest(const struct region *r, uint64_t *size_bytes_out);

/* Oldest snapshot in use, or the newest committed txid if there is none. */
uint64_t snapshot_oldest(const struct region *r);

#endif
