/* uncached.h: storing to the log ring past the page cache.
 *
 * In msync mode a commit waits for one write and one flush of the disk. Through the page cache that is
 * a pwrite and an fdatasync; as one write with O_DIRECT and O_DSYNC it is the same for the disk and less
 * for the kernel (62 against 79 us a record of 448 bytes: ext4, virtio, Linux 6.18), and where the disk
 * can write through its cache (FUA) no flush at all.
 *
 * Such a write is of whole blocks, so what lies before and behind a record in its blocks is written
 * with it. One buffer has the blocks of the last record, as they are or will be in the file: the next
 * record begins in the last of them.
 */
#ifndef DAX_UNCACHED_H
#define DAX_UNCACHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One per store; writer lock. All zero: not open. */
struct uncached {
    uint8_t *buffer; /* owned, a block's alignment; NULL: everything goes through the page cache */
    int fd;          /* owned: O_DIRECT and O_DSYNC */
    uint64_t from;   /* offset in the file of its first byte */
    uint64_t bytes;  /* of the file that it has: whole blocks */
    bool dirty;      /* not in the file yet, all of it */
};

/* Open the file a second time, by its path. false: this file system does not do O_DIRECT, there is no memory
 * or no descriptor, or the path names another file than fd by now. *u is all zero then. */
bool uncached_open(struct uncached *u, const char *path, int fd);

/* What is dirty is gone. */
void uncached_close(struct uncached *u);

/* Store len bytes to the file's place `offset`: into the buffer, from where uncached_sync brings them there.
 * [low, high) is the part of the file that can be stored to in this way, `map` its first byte in memory: blocks
 * that src does not fill are loaded from it, which may fault (the buffer is as before then, but for bytes of this
 * store). false: the store has to go through the page cache, after uncached_forget. */
bool uncached_store(struct uncached *u, uint64_t offset, const void *src, size_t len, uint64_t low,
                    uint64_t high, const uint8_t *map);

/* What is dirty is in the file and durable. 0 or an errno: what of it is in the file is unknown then; it stays
 * dirty, and the next call tries again. EINVAL: the file system refuses O_DIRECT. */
int uncached_sync(struct uncached *u);

/* The buffer has nothing: somebody else has stored what was dirty, or stores to the same blocks. */
void uncached_forget(struct uncached *u);

#endif
