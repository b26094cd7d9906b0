/* limits.h: every limit of the engine, with its reason.
 *
 * A number that bounds memory, disk space, waiting or an on-media field stands here and nowhere
 * else. Checks that two of them fit together are static_asserts at the end.
 */
#ifndef DAX_LIMITS_H
#define DAX_LIMITS_H

#include <assert.h>
#include <stdint.h>

#define DAX_KIB (UINT64_C(1) << 10)
#define DAX_MIB (UINT64_C(1) << 20)
#define DAX_GIB (UINT64_C(1) << 30)
#define DAX_TIB (UINT64_C(1) << 40)

/* Units of the data path. A page is one DAX page; a line is one cache line, the unit of logging. */
#define DAX_PAGE_BYTES 4096u
#define DAX_PAGE_SHIFT 12
#define DAX_LINE_BYTES 64u
#define DAX_PAGE_LINES 64u

/* Pages a database may have (8 TiB). Page words are reserved address space, 8 bytes each, and a
 * pin names its page in 32 bits. */
#define DAX_MAX_PAGES (UINT64_C(1) << 31)

/* Version nodes, and as many frames (32 GiB of frames). A page word names a node in 24 bits. */
#define DAX_MAX_NODES (UINT32_C(1) << 23)

/* Connections to one store at a time: each owns one slot from open to close. */
#define DAX_MAX_SLOTS 4096u

/* Pins of one slot. SQLite holds 6 in a self-join; the last one is the engine's own, for reads that
 * copy. 15 + 1 fill two cache lines. */
#define DAX_SLOT_PINS 16u
#define DAX_SLOT_PINS_SHARED 15u

/* Pages one base pin may span: SQLite's largest page is 64 KiB. */
#define DAX_PIN_PAGES 16u

/* Transactions are numbered from 1 in each life of a log. No database gets this far, a damaged number does:
 * it is refused where it is read, so that none ever wraps around to 0, which means "no snapshot". */
#define DAX_TXID_MAX (UINT64_MAX >> 1)

/* Recent commits whose file size a starting snapshot can still look up; one that takes longer than
 * so many commits between two loads starts over. Power of two. */
#define DAX_COMMIT_RING 64u

/* Size of the sidecar file. libpmemobj's own structures take about 4 MiB of it, the ring the rest;
 * the least is libpmemobj's, the most is what one object of it can hold. */
#define DAX_LOG_BYTES_DEFAULT (16 * DAX_MIB)
#define DAX_LOG_BYTES_MIN (8 * DAX_MIB)
#define DAX_LOG_BYTES_MAX (16 * DAX_GIB)

/* So much of the ring has its page faults taken when the sidecar is opened: more would make opening
 * slow, and a fault per 4 KiB of log is little. */
#define DAX_LOG_POPULATE_BYTES (64 * DAX_MIB)

/* One part in so many of the ring is kept for records that log truncation itself needs (relogging);
 * a transaction's record takes at most one part in four. */
#define DAX_RING_RESERVE_PART 8u
#define DAX_RING_RECORD_PART 4u

/* DRAM for one transaction's private copies; pages beyond it go to scratch. */
#define DAX_PRIVATE_BYTES_DEFAULT (32 * DAX_MIB)
#define DAX_PRIVATE_BYTES_MIN (256 * DAX_KIB)
#define DAX_PRIVATE_BYTES_MAX (16 * DAX_GIB)

/* Frames in use (64 MiB) at which a committer rehomes pages before it goes on. */
#define DAX_FRAMES_HIGH 16384u

/* Frames kept warm when free; the memory of further ones goes back to the system. */
#define DAX_FRAMES_RETAIN 8192u

/* Frames given back in one go: bounds the pause. */
#define DAX_FRAMES_TRIM_BATCH 4096u

/* Address space of the base mapping: at least this, and four times the file; a file that outgrows
 * it is mapped again, larger, and the old mapping stays for the pins in it. */
#define DAX_MAP_BYTES_MIN (16 * DAX_GIB)

/* Space is reserved in steps of this (a 2 MiB mapping), doubling with the file up to the second. */
#define DAX_GROW_BYTES_MIN (2 * DAX_MIB)
#define DAX_GROW_BYTES_MAX (64 * DAX_MIB)

/* Scratch begins this far above everything in use, so that the database can grow under it, by up to
 * half of that, within the same transaction; the file is sparse in between. Mapped in chunks. */
#define DAX_SCRATCH_GAP_BYTES DAX_TIB
#define DAX_SCRATCH_CHUNK_BYTES DAX_GIB

/* Pages whose applied lines wait to be flushed: more than one filling of the default ring names, so that
 * none is flushed before its checkpoint. A power of two; 4 bytes each. */
#define DAX_UNFLUSHED_PAGES 65536u

/* Pages zapped, fenced and scanned for at once. */
#define DAX_BATCH_PAGES 128u

/* How long a writer waits for the writer lock by itself before SQLite's busy handler takes over. */
#define DAX_WRITER_WAIT_NS (1 * 1000 * 1000)

/* How long one connection may go on committing while others wait for their turn. SQLite drops its
 * cache when another connection has committed, and fills it again page by page: four writers on a
 * table of 12 MB commit 0.7 of what one does with turns of 1 ms, 0.9 with 20. */
#define DAX_WRITER_TURN_NS (20 * 1000 * 1000)

/* How soon those who wait for their turn look whether the present one is made use of; half as often with
 * each time that it is. A timer costs the one who writes as much as 50 us in a virtual machine: eight writers
 * commit 0.88 of what one does, and 0.82 where all look each millisecond. */
#define DAX_WRITER_LOOK_NS (100 * 1000)

/* How long a soft hold is left to its owner, which may have to wait for a core. */
#define DAX_WRITER_SOFT_NS (1 * 1000 * 1000)

/* How long a connection that was refused waits for its turn before it reads without the lock. Bounds what
 * a mere reader loses that was refused a write before. */
#define DAX_WRITER_AWAIT_NS (20 * 1000 * 1000)

/* How often it waits twice as long as the last time, if it is refused again: up to eight turns of others.
 * Each wait in vain costs the one whose turn it is some wake-ups: four writers commit 0.94 of what one
 * does where all wait for 80 ms (or for longer each time), and 0.92 where they begin anew each 20 ms. */
#define DAX_WRITER_AWAIT_DOUBLED 3u

/* Length of an error text, with its end. */
#define DAX_ERR_TEXT 512u

static_assert(DAX_PAGE_BYTES == 1u << DAX_PAGE_SHIFT, "page shift");
static_assert(DAX_PAGE_LINES * DAX_LINE_BYTES == DAX_PAGE_BYTES, "a bitmap of 64 bits names a page");
static_assert(DAX_MAX_NODES <= UINT32_C(1) << 24, "a page word has 24 bits for a node");
static_assert(DAX_SLOT_PINS_SHARED + 1 == DAX_SLOT_PINS, "one pin is the engine's");
static_assert((DAX_UNFLUSHED_PAGES & (DAX_UNFLUSHED_PAGES - 1)) == 0, "ring index is a mask");
static_assert((DAX_COMMIT_RING & (DAX_COMMIT_RING - 1)) == 0, "ring index is a mask");

#endif
