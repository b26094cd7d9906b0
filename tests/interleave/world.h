/* world.h: a store in a few kilobytes for the explorer's programs, and what every reader must see.
 *
 * Page p in version v says so in its lines 1 and 3; the rest of it never changes. The oracle knows for
 * each transaction which version every page has and how many pages there are: it is told before the
 * transaction is committed. Thread i is connection i, slot i.
 */
#ifndef TESTS_INTERLEAVE_WORLD_H
#define TESTS_INTERLEAVE_WORLD_H

#include "tests/interleave/explore.h"

#include "engine/conn.h"

#define WORLD_PAGES 8u /* room for them */
#define WORLD_SEEN_BYTES 256u /* of each page and frame: the lines that ever differ */
#define WORLD_TXIDS 12u

extern struct store *world_store;
extern struct conn *world_conn; /* [IL_THREADS] */

/* Before world_setup: anybody may flag a page word, not the holder of the lock alone. */
extern bool world_has_flags;

/* A database of so many pages, version 1, txid 1, with a log and one connection per slot. */
void world_setup(unsigned pages);

/* Connection k gets a slot that was never used; its old one stays idle. */
void world_claim(unsigned k);

/* Connection k reads: a snapshot, of the oracle's size. */
void world_begin(unsigned k);
void world_end(unsigned k);

/* The same for one whose last write was refused: it waits for its turn. */
void world_begin_in_turn(unsigned k);

/* Look at one page by a pin and twice through it; by a copy; by a pin over two pages. */
void world_pin(unsigned k, unsigned page);
void world_copy(unsigned k, unsigned page);
void world_pin_two(unsigned k, unsigned page);

/* snapshot_newest: txid and size belong together. */
void world_newest(void);

/* A pin that is kept: look, and give back. */
const uint8_t *world_take(unsigned k, unsigned page);
void world_look(unsigned k, unsigned page, const uint8_t *at);
void world_drop(unsigned k, unsigned page, const uint8_t *at);

/* One transaction: a snapshot (the one that k has, or a new one), the pages' next versions, the commit; the write ends, the snapshot stays.
 * resize: new page count, 0: as it is. Tries again when another writer was first. */
void world_write(unsigned k, unsigned page_mask, unsigned resize);

/* The same, and k keeps the writer lock. */
void world_commit_keeping_lock(unsigned k, unsigned page_mask);

/* The same, and the read ends as well. */
void world_commit(unsigned k, unsigned page_mask, unsigned resize);

/* A checkpoint that waits for nobody. */
void world_checkpoint(unsigned k, enum checkpoint_mode mode);

/* Chains, lists, counts; newest state through connection k. With all_home: no version is left. */
void world_finish(unsigned k, bool all_home);

/* Make the versions that nobody needs go away, as the next reader's end would. */
void world_tidy(void);

unsigned world_nodes_used(void);

/* Is this what connection k's snapshot has of the page? */
void world_check(unsigned k, unsigned page, const uint8_t *at, const char *how);

/* Where a byte of the file is in memory. */
uint8_t *world_file_at(uint64_t at);

#endif
