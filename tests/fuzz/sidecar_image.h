/* sidecar_image.h: what a fuzz target knows of the sidecar's layout: the only place that does.
 *
 * Finds root, cursor slots and records in the image of a sidecar, and stores them back with hashes
 * that fit (so that a search gets behind them) or not. Structures are engine/layout.h's.
 */
#ifndef TESTS_FUZZ_SIDECAR_IMAGE_H
#define TESTS_FUZZ_SIDECAR_IMAGE_H

#include "engine/layout.h"
#include "tests/fuzz/image.h"

#define SIDE_RECORDS_MAX 64u

struct side {
    struct image *image;
    uint64_t root_at;         /* offset of struct sidecar_root in the file */
    struct sidecar_root root; /* with the cursor slots of the twin where these are newer */
    unsigned newest;          /* cursor slot that counts, 0 if none does */
    uint64_t records[SIDE_RECORDS_MAX]; /* LSNs of the live records, as far as they are whole */
    unsigned record_count;
    uint64_t end;  /* LSN behind the last */
    uint64_t txid; /* of the last, or the cursor's */
};

/* false: no root in it. */
bool side_open(struct side *s, struct image *image);

/* Make the hash of a root fit, whatever it says. */
void side_fit_root(struct image *image);

/* Store the root's own fields, without the cursor slots; fit: with its hash made to fit. */
void side_store_root(struct side *s, bool fit);
/* copies: 1 in the root, 2 in the twin, 3 in both. */
void side_store_cursor(struct side *s, unsigned slot, struct cursor_slot *c, bool fit,
                       unsigned copies);
void side_read_seal(const struct side *s, unsigned line, struct seal *out);
void side_store_seal(struct side *s, unsigned line, struct seal *seal, bool fit);

/* Bytes of the ring, by LSN, wrapping around. */
void side_read(const struct side *s, void *to, size_t len, uint64_t lsn);
void side_write(struct side *s, const void *from, size_t len, uint64_t lsn);

/* Make the hash of the record at lsn fit what is there now, if its length is possible. */
void side_fit_record(struct side *s, uint64_t lsn);

/* Are root, ring and twin the same in both, at their places in `like`? (What libpmemobj keeps for
 * itself may change.) */
bool side_same(const struct image *like, const struct image *a, const struct image *b);

/* Does a whole cursor slot name this nonce, wherever it lies? (A root that is damaged does not say where
 * the twin is, which may be all that recovery had.) */
bool side_names(const struct image *image, uint64_t nonce);

#endif
