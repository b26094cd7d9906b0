/* txn.h: the pages of the running write transaction.
 *
 * Three places for a page that the transaction has changed:
 *   private  a frame of DRAM, copied from the committed version at the first write;
 *   scratch  a page of the file far above everything in use, when the private budget is spent or
 *            the commit record would be too large;
 *   direct   base itself, for a page beyond the committed end that no live log record names (L2).
 * Nothing of it is visible to anybody else, nothing has to be undone.
 *
 * All of it is guarded by the writer lock. Warm, nothing here allocates.
 */
#ifndef DAX_TXN_H
#define DAX_TXN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/rc.h"

struct store;

struct txn_page {
    uint32_t page;
    uint32_t node;     /* private: its frame; scratch: the version node it will be */
    uint64_t scratch;  /* file page, 0: private */
    uint64_t bitmap;   /* changed lines, from txn_prepare or before (compared); private only */
    bool compared;     /* bitmap is right as the page stands */
    bool dropped;      /* truncated away within the transaction */
    bool applied;      /* commit's own notes: the content is in base, */
    uint32_t marker;   /* and this node will say so; 0: none, or the chain's head does */
};

struct txn {
    bool active;
    bool prepared;
    uint32_t slot;        /* of the writer */
    uint64_t snapshot;    /* state that it started from: the newest */
    uint64_t size_old;
    uint64_t size_bytes;  /* as the transaction sees it */
    uint64_t file_bytes_old; /* allocated size of the file at the start */
    uint64_t pages_old;   /* of size_old */
    uint64_t pages_kept;  /* lowest page count that it ever had: content above it is not the old one */
    struct txn_page *pages; /* in order of first write */
    uint32_t page_count;
    uint32_t page_capacity;
    uint64_t *table;        /* page -> index: epoch << 32 | index + 1; open addressing */
    uint32_t table_mask;
    uint32_t epoch;
    uint32_t private_count; /* frames in use */
    uint32_t private_limit;
    uint32_t scratch_count;
    uint64_t *direct;       /* bitmap: pages from direct_from on that were stored to base */
    uint64_t direct_from;
    uint64_t direct_words;  /* allocated */
    uint64_t direct_high;   /* pages at or above it are not direct */
    uint64_t direct_count;
    bool direct_dirty;      /* base or scratch stored to since P1 */
    /* from txn_prepare */
    uint64_t log_pages;
    uint64_t log_lines;
    uint64_t log_pairs;
    bool log_listed;
    uint64_t list_page;
    uint64_t list_hash;
};

/* Begin, for the slot that holds the writer lock. */
void txn_begin(struct store *s, uint32_t slot);

/* Forget everything. */
void txn_abort(struct store *s);

/* After the commit has taken all pages over. */
void txn_reset(struct store *s);

/* Entry of a page, NULL: not changed (or direct). */
struct txn_page *txn_find(struct txn *t, uint64_t page);
bool txn_is_direct(const struct txn *t, uint64_t page);

/* Bytes of a changed page. */
uint8_t *txn_address(const struct store *s, const struct txn_page *p);

DAX_CHECKED dax_rc txn_write(struct store *s, const void *buf, size_t len, uint64_t offset,
                             struct dax_err *err);
DAX_CHECKED dax_rc txn_truncate(struct store *s, uint64_t size_bytes, struct dax_err *err);

/* Copy from within one page, as the transaction sees it. */
DAX_CHECKED dax_rc txn_read(struct store *s, void *buf, size_t len, uint64_t page, size_t at,
                            struct dax_err *err);

/* Everything that can fail: fill holes, find the changed lines, move to scratch what would make the
 * record too large, make room in the ring (by a checkpoint if need be). Idempotent. */
DAX_CHECKED dax_rc txn_prepare(struct store *s, struct dax_err *err);

/* Is there anything to commit? Valid after txn_prepare. */
bool txn_is_empty(const struct txn *t);

void txn_destroy(struct store *s);

#endif
