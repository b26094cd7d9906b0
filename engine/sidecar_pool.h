/* sidecar_pool.h: what the three files of the sidecar share: sidecar.c makes it, sidecar_open.c checks
 * and opens it, sidecar_twin.c is cursors, seals and notes.
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

/* Take the first page faults of the ring now, where they are cheap to take and dear under commits. */
void sidecar_populate(const struct sidecar *s);

/* The line of the seal with the greatest LSN, of whatever life: the one not to be overwritten next. */
unsigned sidecar_newest_seal(const struct sidecar *s);

/* DAX_IO_MEDIA for the place of the mapping. */
dax_rc sidecar_media_error(const struct sidecar *s, const void *at, struct dax_err *err);

#endif
