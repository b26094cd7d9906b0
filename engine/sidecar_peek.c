/* sidecar_peek.c: reads the file of a sidecar: where its parts are, and what its ledger says.
 *
 * A database that was closed cleanly opens its sidecar at the first write. What is known of its bad pages
 * must be known before that. libpmemobj is not asked, since it would lock the pool, and write to it: the
 * root is found by its magic and believed by its hash, as everything behind it is. Where the root cannot
 * be read, or is damaged, the line of the twin that says the same is looked for from the file's end on.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/sidecar_pool.h"

/* libpmemobj puts the root object into the first zone, behind its lanes. */
#define PEEK_BYTES (8 * DAX_MIB)
#define PEEK_STEP (256 * DAX_KIB)

/* false: not all of it, for whatever reason. */
static bool peek_read(int fd, void *to, size_t len, uint64_t offset)
{
    for (size_t got = 0; got < len;) {
        ssize_t n = pread(fd, (uint8_t *)to + got, len - got, (off_t)(offset + got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    return true;
}

static bool peek_root(const uint8_t *bytes, size_t len, struct sidecar_root *out, size_t *at_out)
{
    for (size_t at = 0; at + DAX_LINE_BYTES <= len; at += DAX_LINE_BYTES) {
        if (memcmp(bytes + at, DAX_SIDECAR_MAGIC, sizeof out->magic) != 0)
            continue;
        memcpy(out, bytes + at, DAX_LINE_BYTES);
        *at_out = at;
        if (out->hash == sidecar_root_hash(out) && out->version >= DAX_SIDECAR_VERSION_OLDEST &&
            out->version <= DAX_SIDECAR_VERSION)
            return true;
    }
    return false;
}

static bool peek_find_root(int fd, uint64_t bytes, struct sidecar_root *out, uint64_t *root_at)
{
    uint8_t *buffer = malloc(PEEK_STEP);
    bool found = false;
    size_t in = 0;
    for (uint64_t at = 0; buffer && !found && at < bytes && at < PEEK_BYTES; at += PEEK_STEP) {
        size_t len = bytes - at < PEEK_STEP ? bytes - at : PEEK_STEP;
        /* A part that cannot be read is gone through page by page. */
        size_t step = peek_read(fd, buffer, len, at) ? len : DAX_PAGE_BYTES;
        for (size_t k = 0; k < len && !found; k += step)
            if (step == len || peek_read(fd, buffer, step, at + k)) {
                found = peek_root(buffer, step, out, &in);
                *root_at = at + k + in;
            }
    }
    free(buffer);
    return found;
}

static bool peek_find_places(int fd, uint64_t bytes, struct sidecar_root *out, uint64_t *root_at)
{
    struct sidecar_places p;
    for (uint64_t at = bytes & ~(uint64_t)(DAX_PAGE_BYTES - 1); at >= DAX_PAGE_BYTES;) {
        at -= DAX_PAGE_BYTES;
        if (!peek_read(fd, &p, sizeof p, at + offsetof(struct sidecar_twin, places)) ||
            memcmp(p.magic, DAX_PLACES_MAGIC, sizeof p.magic) != 0 ||
            p.hash != sidecar_places_hash(&p) || p.twin_offset != at ||
            p.version < DAX_SIDECAR_VERSION_PLACES || p.version > DAX_SIDECAR_VERSION)
            continue;
        *out = (struct sidecar_root){.version = p.version,
                                     .ring_offset = p.ring_offset,
                                     .ring_bytes = p.ring_bytes,
                                     .ledger_offset = p.ledger_offset,
                                     .twin_offset = p.twin_offset};
        memcpy(out->magic, DAX_SIDECAR_MAGIC, sizeof out->magic);
        out->ledger_bytes = p.ledger_offset ? sizeof(struct sidecar_ledger) : 0;
        *root_at = p.root_offset;
        return true;
    }
    return false;
}

bool sidecar_find(int fd, uint64_t bytes, struct sidecar_root *out, uint64_t *root_at)
{
    return peek_find_root(fd, bytes, out, root_at) || peek_find_places(fd, bytes, out, root_at);
}

struct sidecar_ledger *sidecar_peek_ledger(const char *path)
{
    struct stat st;
    struct sidecar_root root;
    uint64_t root_at;
    int fd = sidecar_open_fd(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    struct sidecar_ledger *ledger = NULL;
    if (fd < 0)
        return NULL;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
        sidecar_find(fd, (uint64_t)st.st_size, &root, &root_at) &&
        root.version > DAX_SIDECAR_VERSION_OLDEST && root.ledger_offset != 0 &&
        root.ledger_bytes >= sizeof *ledger)
        ledger = malloc(sizeof *ledger);
    /* Page by page: what cannot be read is an entry whose hash does not fit. */
    for (size_t at = 0; ledger && at < sizeof *ledger; at += DAX_PAGE_BYTES) {
        size_t len = sizeof *ledger - at < DAX_PAGE_BYTES ? sizeof *ledger - at : DAX_PAGE_BYTES;
        if (!peek_read(fd, (uint8_t *)ledger + at, len, root.ledger_offset + at))
            memset((uint8_t *)ledger + at, 0, len);
    }
    close(fd);
    return ledger;
}
