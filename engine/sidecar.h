/* sidecar.h: app.db-dax, the libpmemobj pool that holds cursor slots, log ring and ledger.
 *
 * libpmemobj owns its structure: pool header, root, allocation. The hot path touches only the bytes
 * of the ring (one object, allocated once) and the two cursor slots. That pools cannot grow and are
 * locked to one process shows in no other file.
 */
#ifndef DAX_SIDECAR_H
#define DAX_SIDECAR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "engine/layout.h"
#include "engine/persist.h"

/* The pool is mapped as one piece from `pool` on: offsets in it are those in the file. Bytes there may
 * be unreadable (guard.h); this file's functions say so with DAX_IO_MEDIA. */
struct sidecar {
    void *pool;                    /* PMEMobjpool *, or with `bare` a mapping; NULL: not open */
    bool bare;                     /* opened by sidecar_open_bare */
    bool dead;                     /* libpmemobj cannot be called any more, not even to close */
    struct sidecar_root *root;     /* mapped */
    struct sidecar_twin *twin;     /* mapped */
    struct sidecar_ledger *ledger; /* mapped; NULL: made before there was one */
    unsigned next_seal;            /* modulo DAX_SEALS: line of the next seal; writer lock */
    unsigned seal_lines;           /* in the twin: DAX_SEALS, or more in older versions */
    bool has_note;                 /* the twin's last line is a fault note, not a seal of version 2 */
    bool has_places;               /* the line before it says where everything is */
    _Atomic bool noted;            /* by this process: the first note stays */
    uint8_t *ring;                 /* mapped, 256-byte aligned */
    uint64_t ring_bytes;
    uint64_t file_bytes;
    uint8_t *root_page; /* owned: the root's page as of the open; NULL: bare, or two pages */
    uint64_t bad_page; /* after sidecar_open has said DAX_IO_MEDIA: which page of the file it was */
    uint64_t heap_from; /* behind the root's object: nothing of libpmemobj's own from there on */
    enum persist_mode mode; /* what the sidecar's own file allows (medium.h): it may be less than
                                * the database's, where DAX is an attribute of single files */
    int fd;                 /* owned, while the pool is open */
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
 *   DAX_CORRUPT    truncated, not a sidecar, its root does not fit its hash, or says that ring,
 *                  twin or ledger lie where they cannot be;
 *   DAX_IO_READ    what libpmemobj needs cannot be read: it is not called then;
 *   DAX_FULL       it has holes (a sparse copy) and there is no space to fill them. */
DAX_CHECKED dax_rc sidecar_open(const char *path, struct sidecar *out, struct dax_err *err);

/* Open a sidecar that sidecar_open has refused (DAX_IO_MEDIA, DAX_CORRUPT) without libpmemobj, as far as
 * recovery needs it: to read cursor, seals, ring, ledger and note, and to store seals. Nothing else may be
 * called on it but sidecar_close. Parts of it may be unreadable, or beyond the end of the file. Errors:
 *   DAX_CANT_OPEN  no permission, or in use by another process;
 *   DAX_CORRUPT    neither root nor twin says where the parts are. */
DAX_CHECKED dax_rc sidecar_open_bare(const char *path, struct sidecar *out, struct dax_err *err);

/* What a sidecar that takes the place of another one begins with. */
struct sidecar_seed {
    const struct cursor_slot *cursor;    /* seq and hash are filled in; NULL: slots unused */
    const struct sidecar_ledger *ledger; /* NULL: empty */
};

/* As sidecar_create, in place of the file `path`, which must exist: whoever opens the name finds the old
 * sidecar or all of the new one, whenever the power goes. The old one is kept as "...-dax-bad", in place
 * of an earlier one of that name; *kept_out: false where the file system has no hard links. */
DAX_CHECKED dax_rc sidecar_replace(const char *path, const struct stat *like, uint64_t bytes,
                                   const struct sidecar_seed *seed, bool *kept_out,
                                   struct sidecar *out, struct dax_err *err);

/* A copy of the ledger of a sidecar that is not open; owned by the caller (free). NULL: there is none, or
 * none that can be found. Reads only. */
struct sidecar_ledger *sidecar_peek_ledger(const char *path);

/* Before sidecar_close, while faults in the mapping are still guarded: finds out whether libpmemobj would die
 * of closing the pool. */
void sidecar_closing(struct sidecar *s);

/* Unmap and unlock; *s is as after {0}. Nothing is flushed that was not durable before. */
void sidecar_close(struct sidecar *s);

/* The newest valid cursor slot. DAX_CORRUPT: neither is valid. DAX_IO_MEDIA: both copies of a slot
 * cannot be read, so that nobody knows which one is the newest. */
DAX_CHECKED dax_rc sidecar_cursor_read(const struct sidecar *s, struct cursor_slot *out,
                                       struct dax_err *err);

/* P4: store *c (its seq and hash are filled in) into the slot that is not the newest one, in root and
 * twin, and make both durable. On an error the older slot still counts. DAX_IO_MEDIA: there is no
 * storing to root or twin; see sidecar_mend_root and sidecar_mend_twin. Writer lock. */
DAX_CHECKED dax_rc sidecar_cursor_write(struct sidecar *s, struct persist *p, struct cursor_slot *c,
                                        struct dax_err *err);

/* P7: a seal of the log's life `salt` up to lsn, durable on return. DAX_IO_MEDIA: there is no storing
 * to the twin; see sidecar_mend_twin. Writer lock. */
DAX_CHECKED dax_rc sidecar_seal(struct sidecar *s, struct persist *p, uint64_t salt, uint64_t lsn,
                                struct dax_err *err);

/* The greatest LSN that a seal of this life says, 0: there is none that can be read. */
uint64_t sidecar_sealed(const struct sidecar *s, uint64_t salt);

/* Can every line of the twin be read? If not, there may have been greater seals. */
bool sidecar_twin_whole(const struct sidecar *s);

/* Rewrite the page of a root that cannot be read or stored to, in the way of sidecar_mend_twin: as it was
 * when the sidecar was opened, with the cursor slots as the twin has them. Under the writer lock, and not in
 * place of a failed sidecar_cursor_write. A crash in between: the twin's slots count, of which the newest
 * must be whole; what else is torn is libpmemobj's, and the open goes on without it (sidecar_open_bare).
 * Errors: DAX_IO_MEDIA (the twin unreadable as well, or the medium does not take the page back),
 * DAX_IO_WRITE. */
DAX_CHECKED dax_rc sidecar_mend_root(struct sidecar *s, struct persist *p, struct dax_err *err);

/* Rewrite a twin that cannot be read or stored to: with the cursor slots as the root has them, what
 * lines of the twin can still be read, and, unless lsn is 0, a fresh seal. The file is written, a
 * medium that needs it gets another block, and the mapping is renewed where it does not recover.
 *
 * When: under the writer lock, and only if every record of the life `salt` up to `lsn` is whole and
 * durable (P2 was passed, or recovery has just checked it); lsn 0 is right only while nothing of an
 * unsealed record is in base, as in an unmarked database. Not while another thread may seal or store
 * a cursor, and not in place of a failed sidecar_cursor_write: call that again afterwards.
 *
 * A crash in between: the root's slots count (the newest must be whole there, which is checked), and
 * lines that could be read are stored as they were, so that a torn page loses only what the error had
 * taken. Errors: DAX_IO_MEDIA (root unreadable as well, or the medium does not take it back; in
 * sidecars of version 2 the twin shares its pages with the ring), DAX_IO_WRITE. */
DAX_CHECKED dax_rc sidecar_mend_twin(struct sidecar *s, struct persist *p, uint64_t salt, uint64_t lsn,
                                     struct dax_err *err);

/* Leave a note about a fault, durable on return; the first one of the process stays. For a signal
 * handler: stores, cache-line flushes, msync. Not in sidecars of version 2. */
void sidecar_note_fault(struct sidecar *s, uint32_t part, uint64_t page, uint32_t kind, int code,
                        uint64_t time_us);

/* Is there a note? Its part and kind are in their enums (media.h); its page is anything. */
DAX_CHECKED bool sidecar_take_note(const struct sidecar *s, struct fault_note *out);

/* The note is in the ledger. Writer lock. */
DAX_CHECKED dax_rc sidecar_clear_note(struct sidecar *s, struct persist *p, struct dax_err *err);

#endif
