/* sidecar_bare.c: a sidecar that libpmemobj cannot be given, opened without it.
 *
 * libpmemobj dies of a page of its own structures that cannot be read, and refuses or dies of one that is
 * damaged. What recovery needs is none of them: cursor slots (twice, in root and twin), seals, ring,
 * ledger. Where these are says the root or, if that is lost, the twin. So the file is mapped as it is, and
 * everything in it is loaded inside the guard, as it is otherwise.
 *
 * It is for reading the log once: after recovery the sidecar is made anew (salvage.c). Only seals are
 * stored to it, since recovery must be repeatable (L6); the file never gets longer and no page of it is
 * rewritten, or a part of the ring that is missing would pass for an empty one the next time.
 *
 * The mapping reaches as far as the sidecar's parts should, beyond the end of a file that was cut: there,
 * too, a load is a fault.
 *
 * The lock is libpmemobj's own (flock), so that a pool which somebody has open is left alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/guard.h"
#include "engine/sidecar_pool.h"

#ifndef MAP_SYNC
#define MAP_SYNC 0x080000
#define MAP_SHARED_VALIDATE 0x03
#endif

static dax_rc bare_find(struct sidecar *s, int fd, struct sidecar_root *root, uint64_t *root_at,
                        struct dax_err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return dax_err_set(err, DAX_CANT_OPEN, errno, "cannot examine the log \"%s\"", s->path);
    if (!S_ISREG(st.st_mode))
        return sidecar_not_ours(s->path, "not a regular file", err);
    uint64_t bytes = (uint64_t)st.st_size;
    if (!sidecar_find(fd, bytes, root, root_at))
        return sidecar_not_ours(s->path, "neither its root nor its twin can be found", err);
    uint64_t end = root->twin_offset + sizeof(struct sidecar_twin);
    if (end < root->twin_offset || end > DAX_LOG_BYTES_MAX || *root_at > bytes ||
        bytes > DAX_LOG_BYTES_MAX)
        return sidecar_not_ours(s->path, "its twin lies where no twin can be", err);
    s->file_bytes = sidecar_round_up(bytes > end ? bytes : end, DAX_PAGE_BYTES);
    s->heap_from = *root_at + sizeof *root;
    return sidecar_check_places(s, root, err);
}

dax_rc sidecar_open_bare(const char *path, struct sidecar *out, struct dax_err *err)
{
    struct sidecar s = {.fd = -1, .bare = true};
    struct sidecar_root root;
    uint64_t root_at = 0;
    memset(out, 0, sizeof *out);
    int fd = sidecar_open_fd(path, O_RDWR | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0)
        return sidecar_open_error(path, errno, err);
    dax_rc rc = DAX_OK;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        rc = dax_err_set(
            err, DAX_CANT_OPEN, errno,
            "the log \"%s\" is in use by another process, or by a child that it forked: "
            "end it and try again",
            path);
    if (rc == DAX_OK)
        rc = sidecar_init(&s, fd, path, err);
    if (rc == DAX_OK)
        rc = bare_find(&s, fd, &root, &root_at, err);
    if (rc == DAX_OK) {
        int share = s.mode == PERSIST_PMEM ? MAP_SHARED_VALIDATE | MAP_SYNC : MAP_SHARED;
        void *at = mmap(NULL, s.file_bytes, PROT_READ | PROT_WRITE, share, fd, 0);
        s.pool = at == MAP_FAILED ? NULL : at;
        if (!s.pool)
            rc = dax_err_set(err, DAX_NOMEM, errno, "cannot map the log \"%s\"", path);
    }
    if (rc == DAX_OK)
        rc = sidecar_guard(&s, err);
    if (rc != DAX_OK) {
        close(fd);
        s.fd = -1;
        sidecar_close(&s);
        return rc;
    }
    s.fd = fd;
    s.root = (struct sidecar_root *)(void *)((uint8_t *)s.pool + root_at);
    sidecar_take_places(&s, &root);
    guard_map_remove(s.pool);
    *out = s;
    return DAX_OK;
}
