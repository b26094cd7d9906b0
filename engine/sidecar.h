/* sidecar.h: app.db-dax, the libpmemobj pool that holds cursor slots, log ring and ledger.
 *
 * libpmemobj owns its structure: pool header, root, allocation. The hot path touches only the bytes
 * of the ring (one object, allocated once) and the two cursor slots. That pools cannot grow and are
 * locked to one process shows in no other file.
 */
#ifndef DAX_SIDECAR_H
#define DAX_SIDECAR_H

#include <sys/stat.h>

#include "engine/layout.h"
#include "engine/persist.h"

struct sidecar {
    void *pool;                /* PMEMobjpool *, NULL: not open */
    struct sidecar_root *root; /* mapped */
    struct sidecar_twin *twin; /* mapped */
    unsigned next_seal;        /* modulo DAX_SEALS: line of the next seal; writer lock */
    uint8_t *ring;             /* mapped, 256-byte aligned */
    uint64_t ring_bytes;
    uint64_t file_bytes;
    enum persist_mode mode; /* what the sidecar's own file allows (medium.h): it may be less than
                                * the database's, where DAX is an attribute of single files */
    char *path;             /* owned */
};

/* Create the file `path` of `bytes` bytes (rounded up to 4096, fully allocated, durable with its
 * name in the directory on return), with the permissions and, where allowed, the owner of `like`
 * (the database). An existing file is an error: sidecar_open first. Nothing is left behind on
 * failure. The cursor slots are unused (sidecar_cursor_read: CORRUPT). Errors: DAX_FULL (says
 * how much is needed), DAX_CANT_OPEN. */
DAX_CHECKED dax_rc sidecar_create(const char *path, const struct stat *like, uint64_t bytes,
                                  struct sidecar *out, struct dax_err *err);

/* Open an existing sidecar. Errors, each with the path and what to do:
 *   DAX_CANT_OPEN  missing (sys_errno ENOENT), no permission, in use by another process,
 *                  made by a newer daxlite;
 *   DAX_CORRUPT    truncated, not a sidecar, its root does not fit its hash;
 *   DAX_FULL       it has holes (a sparse copy) and there is no space to fill them. */
DAX_CHECKED dax_rc sidecar_open(const char *path, struct sidecar *out, struct dax_err *err);

/* Unmap and unlock; *s is as after {0}. Nothing is flushed that was not durable before. */
void sidecar_close(struct sidecar *s);

/* The newest valid cursor slot. DAX_CORRUPT: neither is valid. */
DAX_CHECKED dax_rc sidecar_cursor_read(const struct sidecar *s, struct cursor_slot *out,
                                       struct dax_err *err);

/* P4: store *c (its seq and hash are filled in) into the slot that is not the newest one, in root and
 * twin, and make both durable. On an error the older slot still counts. Writer lock. */
DAX_CHECKED dax_rc sidecar_cursor_write(struct sidecar *s, struct persist *p, struct cursor_slot *c,
                                        struct dax_err *err);

/* P7: a seal of the log's life `salt` up to lsn, durable on return. Writer lock. */
DAX_CHECKED dax_rc sidecar_seal(struct sidecar *s, struct persist *p, uint64_t salt, uint64_t lsn,
                                struct dax_err *err);

/* The greatest LSN that a seal of this life says, 0: there is none. */
uint64_t sidecar_sealed(const struct sidecar *s, uint64_t salt);

#endif
