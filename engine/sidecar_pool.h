/* sidecar_pool.h: what the files of the sidecar share: sidecar.c makes it, sidecar_open.c checks and
 * opens it, sidecar_bare.c opens it without libpmemobj, sidecar_peek.c finds its parts in the file,
 * sidecar_twin.c is cursors, seals and notes.
 */
#ifndef DAX_SIDECAR_POOL_H
#define DAX_SIDECAR_POOL_H

#include <libpmemobj.h>

#include "engine/hash.h"
#include "engine/sidecar.h"

/* Types of the pool's objects. */
#define SIDECAR_RING_TYPE 1u
#define SIDECAR_LEDGER_TYPE 2u

/* Room to align the root in its object. */
#define SIDECAR_ROOT_BYTES (sizeof(struct sidecar_root) + DAX_LINE_BYTES)

static inline uint64_t sidecar_root_hash(const struct sidecar_root *root)
{
    return hash_bytes(root, offsetof(struct sidecar_root, hash));
}

static inline uint64_t sidecar_places_hash(const struct sidecar_places *places)
{
    return hash_bytes(places, offsetof(struct sidecar_places, hash));
}

static inline uint64_t sidecar_slot_hash(const struct cursor_slot *c)
{
    return hash_bytes(c, offsetof(struct cursor_slot, hash));
}

static inline uint64_t sidecar_round_up(uint64_t n, uint64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static inline struct sidecar_root *sidecar_root_address(PMEMobjpool *pool, PMEMoid oid)
{
    uint64_t offset = sidecar_round_up(oid.off, DAX_LINE_BYTES);
    return (struct sidecar_root *)(void *)((uint8_t *)pool + offset);
}

/* open(2) with O_CLOEXEC; a signal may interrupt it. */
int sidecar_open_fd(const char *path, int flags, mode_t mode);

/* Mode and path of *s. */
DAX_CHECKED dax_rc sidecar_init(struct sidecar *s, int fd, const char *path, struct dax_err *err);

/* The errors of a file that cannot be opened (e: errno), and of one that is not what it should be. */
DAX_CHECKED dax_rc sidecar_open_error(const char *path, int e, struct dax_err *err);
DAX_CHECKED dax_rc sidecar_not_ours(const char *path, const char *why, struct dax_err *err);

/* Read the file for root, or else places, and put together what the root says; *root_at: where it is.
 * Believed by its hash. false: there is none of the versions known, or none that can be read. */
DAX_CHECKED bool sidecar_find(int fd, uint64_t bytes, struct sidecar_root *out, uint64_t *root_at);

/* Do ring, twin and ledger lie in the file, behind s->heap_from, and over nothing else? */
DAX_CHECKED dax_rc sidecar_check_places(const struct sidecar *s, const struct sidecar_root *root,
                                        struct dax_err *err);

/* Before libpmemobj is given the pool of so many bytes: DAX_CORRUPT, and *bad_page_out says where, if it
 * would die of it. */
DAX_CHECKED dax_rc sidecar_check_pool(int fd, const char *path, uint64_t bytes,
                                      uint64_t *bad_page_out, struct dax_err *err);

/* Fill in what the root says; the pool is mapped, and guarded. */
void sidecar_take_places(struct sidecar *s, const struct sidecar_root *root);

/* Keep the root's page, for sidecar_mend_root: the sidecar is whole, and nothing in the page but the
 * cursor slots changes from here on. DAX_IO_MEDIA, with bad_page: it cannot be read. */
DAX_CHECKED dax_rc sidecar_keep_root_page(struct sidecar *s, struct dax_err *err);

/* Faults in the mapping end guarded calls, until guard_map_remove: while it is being opened. */
DAX_CHECKED dax_rc sidecar_guard(const struct sidecar *s, struct dax_err *err);

/* The line of the twin, for *s. */
void sidecar_places_of(const struct sidecar *s, struct sidecar_places *out);

/* Take the first page faults of the ring now, where they are cheap to take and dear under commits. */
void sidecar_populate(const struct sidecar *s);

/* The line of the seal with the greatest LSN, of whatever life: the one not to be overwritten next. */
unsigned sidecar_newest_seal(const struct sidecar *s);

/* Put content into the file and see it in the mapping: write it, map the page again, or give it another
 * block. `at` is a page that is daxlite's alone. DAX_IO_MEDIA: the medium does not take it back. */
DAX_CHECKED dax_rc sidecar_renew_page(struct sidecar *s, void *at, const void *content,
                                      struct dax_err *err);

/* Can everything be loaded that libpmemobj touches in a transaction? *bad_out: a place that cannot. */
DAX_CHECKED bool sidecar_probe_pool(const struct sidecar *s, const void **bad_out);

/* DAX_IO_MEDIA for the place of the mapping. */
dax_rc sidecar_media_error(const struct sidecar *s, const void *at, struct dax_err *err);

#endif
