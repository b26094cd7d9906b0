/* uncached.c: a buffer of blocks, and one O_DIRECT write of it.
 *
 * Persist order. A record is in DRAM until uncached_sync, which is P2: before, a crash finds the ring as it was;
 * during, any part of the sectors; after, the record. Records before it in its first block are written again
 * with the bytes that they have, as they are when the page cache writes the page: a sector holds what it held
 * or what it is to hold, which for their bytes is the same.
 *
 * The mapping. The kernel drops the pages of the page cache that such a write goes past, so a load through the
 * mapping finds what is in the file. Pages of the ring are never dirty there: stores that do not come here
 * are pwrites, and the kernel writes those out before a direct write of the same place.
 */
#include "engine/uncached.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/limits.h"

/* A block of any file system and disk that daxlite can be on is this or a part of it. */
#define UNCACHED_BLOCK ((uint64_t)DAX_PAGE_BYTES)
/* Records that are larger, or lie in more blocks, go through the page cache: there the copy is what counts. */
#define UNCACHED_BYTES (64 * DAX_KIB)

/* A file system that will not write a whole block says so by an error the next time it is asked. */
#define UNCACHED_IDLE_WRITES 3u

static uint64_t uncached_floor(uint64_t at)
{
    return at & ~(UNCACHED_BLOCK - 1);
}

static bool uncached_same_file(int a, int b)
{
    struct stat x, y;
    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

bool uncached_open(struct uncached *u, const char *path, int fd)
{
    memset(u, 0, sizeof *u);
    do {
        u->fd = open(path, O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC);
    } while (u->fd < 0 && errno == EINTR);
    if (u->fd < 0)
        return false;
    u->buffer = aligned_alloc(UNCACHED_BLOCK, UNCACHED_BYTES);
    /* Some file systems open what they then refuse to transfer. */
    if (u->buffer && uncached_same_file(u->fd, fd) &&
        pread(u->fd, u->buffer, UNCACHED_BLOCK, 0) == (ssize_t)UNCACHED_BLOCK)
        return true;
    close(u->fd);
    free(u->buffer);
    memset(u, 0, sizeof *u);
    return false;
}

void uncached_close(struct uncached *u)
{
    if (u->buffer)
        close(u->fd);
    free(u->buffer);
    memset(u, 0, sizeof *u);
}

/* Only the blocks from `block` on are needed any more. */
static void uncached_trim(struct uncached *u, uint64_t block)
{
    bool has = block >= u->from && block < u->from + u->bytes;
    if (has)
        memmove(u->buffer, u->buffer + (block - u->from), u->from + u->bytes - block);
    u->bytes = has ? u->from + u->bytes - block : 0;
    u->from = block;
}

bool uncached_store(struct uncached *u, uint64_t offset, const void *src, size_t len, uint64_t low,
                    uint64_t high, const uint8_t *map)
{
    uint64_t first = uncached_floor(offset);
    uint64_t end = uncached_floor(offset + len + UNCACHED_BLOCK - 1);
    if (!u->buffer || len > UNCACHED_BYTES || first < low || end > high)
        return false;
    uint64_t from = u->dirty ? u->from : first;
    if (first < from || first > from + (u->dirty ? u->bytes : 0) || end - from > UNCACHED_BYTES)
        return false;
    if (!u->dirty)
        uncached_trim(u, first);
    for (uint64_t block = u->from + u->bytes; block < end; block += UNCACHED_BLOCK)
        if (block < offset || block + UNCACHED_BLOCK > offset + len)
            memcpy(u->buffer + (block - u->from), map + (block - low), UNCACHED_BLOCK);
    memcpy(u->buffer + (offset - u->from), src, len);
    if (end - u->from > u->bytes)
        u->bytes = end - u->from;
    u->dirty = true;
    return true;
}

int uncached_sync(struct uncached *u)
{
    unsigned idle = 0; /* writes in a row of less than a block, which say nothing of why */
    for (uint64_t done = 0; u->dirty && done < u->bytes;) {
        ssize_t n = pwrite(u->fd, u->buffer + done, u->bytes - done, (off_t)(u->from + done));
        if (n < 0 && errno != EINTR)
            return errno;
        uint64_t blocks = uncached_floor(n > 0 ? (uint64_t)n : 0);
        idle = blocks || n < 0 ? 0 : idle + 1;
        if (idle == UNCACHED_IDLE_WRITES)
            return EIO;
        done += blocks;
    }
    u->dirty = false;
    return 0;
}

void uncached_forget(struct uncached *u)
{
    u->bytes = 0;
    u->dirty = false;
}
