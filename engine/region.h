/* region.h: the state that all connections of a store share, in one position-independent mapping.
 *
 * Layout, in this order: header; reader slots; page words; pages to flush; version nodes; frames; and in
 * a second mapping, at a place of its own, the lines to flush. Everything is named by index. The mapping reserves address space for the limits of limits.h and costs memory
 * only where it has been touched. It is anonymous memory of one process today; nothing in it is a
 * pointer or means something in one process only, so it can become a shared file.
 *
 * Who may write what:
 *   slots[i]                     the connection that owns slot i: whoever has set `claimed`
 *   last_committed, commits,     the holder of the writer lock; read by everybody
 *   words, nodes, frames
 *   header.guarded               the holder of the writer lock; status reads are approximate
 *   unflushed, unflushed_lines   the holder of the writer lock; nobody else looks
 *
 * Memory order: the four loads and stores that form the two Dekker pairs (reader: snapshot or pin,
 * then last_committed or page word; writer: the other way round) are sequentially consistent. Each
 * place names its partner.
 */
#ifndef DAX_REGION_H
#define DAX_REGION_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "engine/rc.h"

#define REGION_MAGIC UINT64_C(0x314e4f4947455244)
#define REGION_VERSION 1u

/* One reader. Four lines: what a scan reads first; two of pins; counters that nobody else needs in
 * a hurry. */
struct slot {
    alignas(64) _Atomic uint64_t snapshot; /* txid; 0: idle, and then no pin is set */
    _Atomic uint64_t since_ns;             /* CLOCK_MONOTONIC_COARSE when the snapshot was taken */
    _Atomic uint64_t number;               /* of the connection, from 1 */
    _Atomic uint64_t owner_start;          /* start time of the owner process */
    _Atomic int32_t owner_pid;
    _Atomic int32_t tid;     /* thread of the last conn_begin_read */
    _Atomic uint32_t claimed; /* 0 free, 1 owned */
    _Atomic uint32_t turn;    /* writer.h: ticket of one who waits; 0: does not. Anybody may clear it */
    alignas(64) _Atomic uint64_t pins[DAX_SLOT_PINS]; /* pin.h */
    alignas(64) _Atomic uint64_t reads_copied; /* counters: the owner adds, status reads */
    _Atomic uint64_t pinned_base;
    _Atomic uint64_t pinned_frame;
    _Atomic uint64_t pins_refused;
    _Atomic uint64_t read_retries;
};
static_assert(sizeof(struct slot) == 256, "four lines a slot");

/* A version of a page that is not, or not only, what base holds implicitly. Node i owns frame i. */
struct node {
    _Atomic uint64_t txid;    /* 0: older than every snapshot */
    _Atomic uint64_t storage; /* NODE_FRAME, NODE_BASE, or the file page of a scratch copy */
    _Atomic uint32_t older;   /* next older version, 0: none */
    _Atomic uint32_t page;
    uint32_t next;            /* list of heads, limbo or free list: writer lock */
    uint32_t prev;            /* list of heads: writer lock */
};
static_assert(sizeof(struct node) == 32, "two nodes a line");

#define NODE_FRAME UINT64_C(0)
#define NODE_BASE UINT64_C(1)
#define NODE_COPY UINT64_C(2) /* of a free node: its frame may still equal base (frames_is_copy) */

struct commit_entry {
    _Atomic uint64_t txid; /* 0 while the entry is being changed */
    _Atomic uint64_t size_bytes;
};

/* Writer lock only; status reads them without it (each is one relaxed atomic). */
struct region_guarded {
    _Atomic uint64_t lsn_cursor;
    _Atomic uint64_t lsn_tail;
    _Atomic uint64_t salt;
    _Atomic uint64_t nonce;
    _Atomic uint64_t tail_txid;    /* of the last record */
    _Atomic uint64_t sealed_lsn;   /* end of the last sealed record: log.h, L6 */
    _Atomic uint64_t sealed_txid;  /* versions up to it may be stored into base */
    _Atomic uint64_t log_high;     /* live records name no page at or above it as target */
    _Atomic uint64_t relog_start;  /* where the newest relog record begins and ends */
    _Atomic uint64_t relog_end;
    _Atomic uint64_t relog_turn;         /* area of the newest record whose list is in scratch */
    _Atomic uint64_t relog_area[2];      /* first file page */
    _Atomic uint64_t relog_area_pages[2]; /* 0: none */
    _Atomic uint64_t scratch_lsn;  /* end of the newest transaction that copies from scratch */
    _Atomic uint64_t relog_lsn;    /* end of the newest relog record that does */
    _Atomic uint64_t scratch_next; /* scratch pages handed out */
    _Atomic uint64_t scratch_nodes; /* versions that live in scratch */
    _Atomic uint64_t fresh_from;   /* base pages from here on have never been stored to: zeros */
    _Atomic uint64_t shrunk_high;  /* pages at or above it are ABSENT, apart from committed ones */
    _Atomic uint64_t shrink_txid;  /* newest transaction that made the database smaller */
    _Atomic uint32_t heads;        /* list of chain heads, through node.next/prev */
    _Atomic uint32_t limbo;        /* nodes out of every chain, maybe still pinned */
    _Atomic uint32_t free;         /* free nodes, last in first out: their frames are warm */
    _Atomic uint32_t cold;         /* free nodes whose frames were given back */
    _Atomic uint32_t fresh;        /* first node never used */
    _Atomic uint32_t pages_versioned;
    _Atomic uint32_t limbo_count;
    _Atomic uint32_t free_count;
    _Atomic uint32_t nodes_kept;   /* nodes_used that the last checkpoint had to leave */
    _Atomic uint32_t nodes_used;   /* in chains, limbo, or private to a transaction; no markers */
    _Atomic uint32_t markers;      /* NODE_BASE markers in chains and limbo */
    /* counters */
    _Atomic uint64_t commits, aborts, pages_committed, lines_logged, log_bytes_total;
    _Atomic uint64_t pages_applied, pages_pushed, pages_direct, pages_scratch;
    _Atomic uint64_t checkpoints, pages_rehomed, pages_relogged;
    _Atomic uint64_t recovered_records, recovered_pages;
};

struct region_header {
    uint64_t magic;
    uint32_t version;
    uint64_t initial_pages; /* page words of pages below it that are 0 mean MAPPED; set before use */
    alignas(64) _Atomic uint64_t last_committed;
    alignas(64) struct commit_entry commits[DAX_COMMIT_RING];
    alignas(64) _Atomic uint32_t writer;       /* writer.h */
    _Atomic uint32_t tidy_wanted;              /* versions may have become invisible */
    _Atomic uint32_t turn_wanted;              /* writer.c: is a slot's `turn` set? */
    _Atomic uint32_t turn_tickets;             /* the last one given out */
    _Atomic uint64_t turn_ends;                /* CLOCK_MONOTONIC ns: not handed over before */
    _Atomic uint64_t turns_given, turns_stolen, turns_missed; /* counters */
    alignas(64) _Atomic uint32_t slot_high;    /* slots at or above it were never claimed */
    _Atomic uint32_t connections;
    _Atomic uint64_t connection_numbers;
    alignas(64) struct region_guarded guarded;
};

/* writeback.h: a ring of pages. */
struct region_unflushed {
    uint32_t first, count;
    uint32_t pages[DAX_UNFLUSHED_PAGES];
};

/* Process-local view of a region. */
struct region {
    void *map;
    size_t map_bytes;
    struct region_header *header;
    struct slot *slots;
    _Atomic uint64_t *words;
    struct region_unflushed *unflushed;
    uint64_t *unflushed_lines; /* bitmaps, by page */
    struct node *nodes;
    uint8_t *frames;
};

/* Reserve and lay out a region with everything zero. DAX_NOMEM: no address space. */
DAX_CHECKED dax_rc region_create(struct region *r, struct dax_err *err);
void region_destroy(struct region *r);

static inline uint8_t *region_frame(const struct region *r, uint32_t node)
{
    return r->frames + (size_t)node * DAX_PAGE_BYTES;
}

/* Relaxed access to what the writer lock guards: atomic only so that status may look. */
#define GUARDED_GET(f) atomic_load_explicit(&(f), memory_order_relaxed)
#define GUARDED_SET(f, v) atomic_store_explicit(&(f), (v), memory_order_relaxed)
#define GUARDED_ADD(f, v) GUARDED_SET(f, GUARDED_GET(f) + (v))

#endif
