/* base.h: the database file, its mappings and its space.
 *
 * The file is mapped once, with address space to spare beyond its end, so that growth needs no new
 * mapping and pointers stay good; a file that outgrows the mapping is mapped again, larger, and the
 * old mapping stays until close. Space is always allocated before it is stored to.
 */
#ifndef DAX_BASE_H
#define DAX_BASE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "engine/guard.h"
#include "engine/persist.h"

#define BASE_OLD_MAPS 32

struct base_map {
    uint8_t *addr;
    uint64_t bytes;
};

struct base {
    int fd;
    bool read_only; /* mapped PROT_READ: the file or the file system is read-only */
    char *path;     /* owned */
    struct persist *persist;
    struct guard_owner *owner; /* of faults in the mappings; NULL: nobody asks (tests) */
    _Atomic(uint8_t *) addr;    /* newest mapping; written under the writer lock */
    _Atomic uint64_t map_bytes; /* of it; stored after addr, so load it first (acquire) */
    uint64_t file_bytes;        /* size of the low part of the file; writer lock */
    uint64_t filled_bytes;      /* of it, from 0: known to be allocated; writer lock */
    uint64_t leftover_bytes;    /* gap and scratch of before a crash, above file_bytes; 0: none */
    uint64_t map_bytes_min;     /* as base_map was told, for mapping again */
    bool map_sync;
    dev_t dev;        /* identity of the file, where base_open opened it */
    ino_t ino;
    bool sync_failed; /* a sync of this file has failed: sticky; writer lock */
    struct base_map old[BASE_OLD_MAPS]; /* kept until close */
    unsigned old_count;
    /* Scratch: file bytes from scratch_start on, mapped in chunks; all under the writer lock except
     * the chunk addresses, which readers of published scratch versions load (acquire). */
    uint64_t scratch_start;             /* 0: none */
    uint64_t scratch_bytes;             /* allocated */
    _Atomic(uint8_t *) *scratch_chunks; /* BASE_SCRATCH_CHUNKS of them */
};

#define BASE_SCRATCH_CHUNKS 8192u /* 8 TiB of scratch */

/* Open path. create: make it if it is missing (0644 and umask, as SQLite does). A file that cannot
 * be opened for writing is opened for reading and read_only is set, unless must_write is set; with
 * want_read_only a writable file is still opened O_RDWR if possible (read_only stays false: the
 * caller may be upgraded later). Nothing is mapped yet. Errors: DAX_CANT_OPEN (missing directory,
 * missing file, no permission, is a directory), DAX_READONLY. */
DAX_CHECKED dax_rc base_open(struct base *b, const char *path, bool create, bool must_write,
                             struct dax_err *err);

/* The same with a descriptor of the file that exists already; owned by b on success. */
DAX_CHECKED dax_rc base_open_with(struct base *b, const char *path, int fd, bool read_only,
                                  struct dax_err *err);

/* Take the descriptor out of b, so that base_close does not close it. */
int base_take_fd(struct base *b);

/* Has the file become shorter than what is known of it? Somebody else has cut it. */
bool base_is_cut(const struct base *b);

/* Map the file; map_sync as the medium says. b->persist must be set. map_bytes_min: least address
 * space (DAX_MAP_BYTES_MIN; tests use less). file_bytes is set from the file's size, without
 * scratch that a crash left above its gap: that is leftover_bytes, can be read with pread until
 * recovery is over, and is given back by the first base_cut, base_scratch_drop,
 * base_scratch_reserve or growing base_reserve. */
DAX_CHECKED dax_rc base_map(struct base *b, bool map_sync, uint64_t map_bytes_min,
                            struct dax_err *err);

/* Address of byte `offset`. The caller knows that it is below map_bytes. Any thread. */
static inline uint8_t *base_at(const struct base *b, uint64_t offset)
{
    return atomic_load_explicit(&b->addr, memory_order_acquire) + offset;
}

/* Make sure that [0, bytes) is allocated on the file system and mapped. Grows in 2 MiB-aligned
 * steps (limits.h) while space allows and by just what is asked for otherwise; new space reads as
 * zeros; the new size is durable on return except in volatile mode. Holes below `bytes` in a file
 * that somebody else made are filled, too, when it is first asked for them: call it with the
 * database's size before the first store. Errors: DAX_FULL, DAX_IO_WRITE, DAX_READONLY, DAX_IO_MEDIA
 * (somebody has cut the file below `bytes`: growing would put zeros where data was); nothing has changed
 * then. Writer lock. */
DAX_CHECKED dax_rc base_reserve(struct base *b, uint64_t bytes, struct dax_err *err);

/* Give the file's holes their space now, where reading them would take it. For a file that may be
 * changed only by whoever else has it (exclusive is false), reading takes it here, with an error instead of
 * a signal. DAX_FULL. Writer lock, or nobody else has the base yet. */
DAX_CHECKED dax_rc base_fill_holes(struct base *b, bool exclusive, struct dax_err *err);

/* For base_reserve and the sidecar: allocate [from, to) of a file that holds no data there, so that
 * storing to it cannot fail for want of space. Extends the file. A file system that cannot allocate
 * gets zeros written. 0 or an errno (ENOSPC, EDQUOT, EFBIG: no space; what was allocated by then
 * is the caller's to give back). */
int base_allocate(int fd, uint64_t from, uint64_t to);

/* Write zeros over [from, to). 0 or an errno. */
int base_write_zeros(int fd, uint64_t from, uint64_t to);

/* End of the file as it is on the file system, scratch of a crash included. */
uint64_t base_end(const struct base *b);

/* fsync, repeated after a signal. 0 or an errno. */
int base_fsync(int fd);

/* Make the directory entry of `path` durable. 0 or an errno (ENOMEM: no memory). */
int base_sync_directory(const char *path);

/* Give an empty file its first page, at once: whoever looks finds no file content or all of it. Page,
 * size and the file's name are durable on return except in volatile mode. */
DAX_CHECKED dax_rc base_first_page(struct base *b, const uint8_t page[DAX_PAGE_BYTES],
                                   struct dax_err *err);

/* Cut the file to `bytes` (and drop any scratch beyond). The caller guarantees that no pin reaches
 * beyond. Size durable on return except in volatile mode. DAX_IO_MEDIA as above: what somebody else
 * has cut beyond `bytes` does not matter. Writer lock. */
DAX_CHECKED dax_rc base_cut(struct base *b, uint64_t bytes, struct dax_err *err);

/* Scratch. base_scratch_reserve makes [0, bytes) of scratch allocated and mapped, at file offset
 * scratch_start, which it chooses (in use end rounded up + DAX_SCRATCH_GAP_BYTES) when there was
 * none; DAX_IO_MEDIA if the file is cut anywhere. base_scratch_at: address of file page number `page` (>= scratch_start's page), any thread
 * that has seen the page number published. base_scratch_drop: give all of it back; no pin, no live
 * record may name it. */
DAX_CHECKED dax_rc base_scratch_reserve(struct base *b, uint64_t in_use_bytes, uint64_t bytes,
                                        struct dax_err *err);
uint8_t *base_scratch_at(const struct base *b, uint64_t page);
DAX_CHECKED dax_rc base_scratch_drop(struct base *b, struct dax_err *err);

/* Unmap everything and close fd (which drops the owner locks). Safe on {0} with fd -1. */
void base_close(struct base *b);

#endif
