/* sidecar.c: makes the sidecar: a libpmemobj pool with root, ledger, ring and twin.
 *
 * Format. The pool (layout name "daxlite") has one root object, in which struct sidecar_root lies at the
 * first multiple of 64; one object of type SIDECAR_LEDGER_TYPE with the ledger of media errors at its
 * first multiple of 4096 (ledger.c); and one of type SIDECAR_RING_TYPE that is as large as the pool
 * then allows. The ring begins at that one's first multiple of 4096, and behind it, in a page of the
 * file, is the twin: copies of the cursor slots, seals, and a fault note (sidecar_twin.c). Offsets are
 * the pool's, which are the file's.
 *
 * Pages: a device takes back whole pages of the file only, so what must be rewritten after a media
 * error (ring, twin, ledger) shares none with libpmemobj's structures.
 *
 * Creation goes on under the name "...-dax-new": the file, libpmemobj's pool, root, ledger and ring, the
 * root persisted. A crash leaves that file, which the next creation removes. Then it gets its own name,
 * which is never that of something half-made: a sidecar whose cursor slots are both unused.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/badblocks.h"
#include "engine/base.h"
#include "engine/guard.h"
#include "engine/medium.h"
#include "engine/sidecar_pool.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define SIDECAR_PROBE_STEP (64 * DAX_KIB)

/* The ledger's object: a chunk of libpmemobj's heap but for the object's header, so that the chunk is
 * the object's alone. Anything else up to a few chunks comes from a run that is made for many objects of
 * that size: megabytes, of which nothing is left for the ring. */
#define SIDECAR_LEDGER_OBJECT (256 * DAX_KIB - DAX_LINE_BYTES)
static_assert(sizeof(struct sidecar_ledger) + DAX_PAGE_BYTES <= SIDECAR_LEDGER_OBJECT,
              "the ledger fits, wherever its object begins");

static_assert(DAX_LOG_BYTES_MIN >= PMEMOBJ_MIN_POOL, "least pool is libpmemobj's");
static_assert(DAX_LOG_BYTES_MAX - PMEMOBJ_MAX_ALLOC_SIZE < 8 * DAX_MIB, "the ring is one object");

int sidecar_open_fd(const char *path, int flags, mode_t mode)
{
    int fd;
    do {
        fd = open(path, flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

/* --- create ----------------------------------------------------------------------------------- */

/* Permissions and, for root, the owner of the database, so that who may use it may recover it. */
static dax_rc sidecar_adopt_rights(int fd, const char *path, const struct stat *like,
                                   struct dax_err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return dax_err_set(err, DAX_CANT_OPEN, errno, "cannot examine \"%s\"", path);
    if (geteuid() == 0 && (st.st_uid != like->st_uid || st.st_gid != like->st_gid)) {
        /* Refused in a user namespace that does not know the owner: root can recover it then. */
        if (fchown(fd, like->st_uid, like->st_gid) != 0 && errno != EPERM && errno != EINVAL)
            return dax_err_set(err, DAX_CANT_OPEN, errno, "cannot change the owner of \"%s\"",
                               path);
    }
    if (fchmod(fd, like->st_mode & 0777) != 0)
        return dax_err_set(err, DAX_CANT_OPEN, errno, "cannot set the permissions of \"%s\"", path);
    return DAX_OK;
}

static dax_rc sidecar_make_file(const char *path, const struct stat *like, uint64_t bytes,
                                int *fd_out, struct dax_err *err)
{
    int fd = sidecar_open_fd(path, O_RDWR | O_CREAT | O_EXCL, like->st_mode & 0777);
    if (fd < 0) {
        bool full = errno == ENOSPC || errno == EDQUOT;
        return dax_err_set(err, full ? DAX_FULL : DAX_CANT_OPEN, errno,
                           "cannot create the log \"%s\" (%llu bytes) next to the database", path,
                           (unsigned long long)bytes);
    }
    *fd_out = fd;
    dax_rc rc = sidecar_adopt_rights(fd, path, like, err);
    if (rc != DAX_OK)
        return rc;
    int e = base_allocate(fd, 0, bytes);
    if (e == 0)
        return DAX_OK;
    bool full = e == ENOSPC || e == EDQUOT || e == EFBIG;
    return dax_err_set(err, full ? DAX_FULL : DAX_IO_WRITE, e,
                       "cannot allocate the log \"%s\": it needs %llu bytes (dax_log_size)", path,
                       (unsigned long long)bytes);
}

/* pmemobj_create without the dirty-shutdown counter: on a device that has none, newer libraries
 * refuse to create, and the log's own hashes do not need it. The setting is the whole process's,
 * so it is put back; the lock orders us among ourselves (a leaf: nothing is locked under it). */
static PMEMobjpool *sidecar_pmemobj_create(const char *path)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    int before = 0;
    int off = 0;
    pthread_mutex_lock(&lock);
    bool known = pmemobj_ctl_get(NULL, "sds.at_create", &before) == 0 &&
                 pmemobj_ctl_set(NULL, "sds.at_create", &off) == 0;
    PMEMobjpool *pool = pmemobj_create(path, DAX_SIDECAR_LAYOUT, 0, 0600);
    int e = errno;
    if (known)
        (void)pmemobj_ctl_set(NULL, "sds.at_create", &before);
    pthread_mutex_unlock(&lock);
    errno = e;
    return pool;
}

/* In msync mode: blocks that are only allocated cost the sync of the first record in each of them a commit
 * of the file system's journal, for as long as the ring is on its first lap. */
static dax_rc sidecar_fill_blocks(const struct sidecar *s, int fd, struct dax_err *err)
{
    int e = s->mode == PERSIST_MSYNC ? base_write_zeros(fd, 0, s->file_bytes) : 0;
    if (e == 0)
        return DAX_OK;
    bool full = e == ENOSPC || e == EDQUOT || e == EFBIG;
    return dax_err_set(err, full ? DAX_FULL : DAX_IO_WRITE, e,
                       "cannot write the log \"%s\": it needs %llu bytes (dax_log_size)", s->path,
                       (unsigned long long)s->file_bytes);
}

/* The largest object that the empty pool can hold. */
static dax_rc sidecar_allocate_ring(struct sidecar *s, PMEMoid *ring_out, struct dax_err *err)
{
    uint64_t bytes = s->file_bytes;
    if (bytes > PMEMOBJ_MAX_ALLOC_SIZE)
        bytes = PMEMOBJ_MAX_ALLOC_SIZE;
    for (; bytes > SIDECAR_PROBE_STEP; bytes -= SIDECAR_PROBE_STEP)
        if (pmemobj_alloc(s->pool, ring_out, bytes, SIDECAR_RING_TYPE, NULL, NULL) == 0)
            return DAX_OK;
    return dax_err_set(err, DAX_CANT_OPEN, 0, "no room for a log in \"%s\": %s", s->path,
                       pmemobj_errormsg());
}

static dax_rc sidecar_make_ring(struct sidecar *s, struct sidecar_root *root, struct dax_err *err)
{
    PMEMoid ring;
    dax_rc rc = sidecar_allocate_ring(s, &ring, err);
    if (rc != DAX_OK)
        return rc;
    root->ring_offset = sidecar_round_up(ring.off, DAX_PAGE_BYTES);
    uint64_t usable = pmemobj_alloc_usable_size(ring) - (root->ring_offset - ring.off);
    root->ring_bytes = (usable / DAX_PAGE_BYTES - 1) * DAX_PAGE_BYTES;
    root->twin_offset = root->ring_offset + root->ring_bytes;
    s->ring = (uint8_t *)s->pool + root->ring_offset;
    s->ring_bytes = root->ring_bytes;
    s->twin = (struct sidecar_twin *)(void *)((uint8_t *)s->pool + root->twin_offset);
    s->has_note = s->has_places = true;
    s->seal_lines = DAX_SEALS;
    return DAX_OK;
}

/* Without a seed: all entries free, the hash of each fitting. */
static dax_rc sidecar_make_ledger(struct sidecar *s, const struct sidecar_seed *seed,
                                  struct sidecar_root *root, struct dax_err *err)
{
    PMEMoid oid;
    if (pmemobj_alloc(s->pool, &oid, SIDECAR_LEDGER_OBJECT, SIDECAR_LEDGER_TYPE, NULL, NULL) != 0)
        return dax_err_set(err, DAX_CANT_OPEN, 0, "no room for a ledger in \"%s\": %s", s->path,
                           pmemobj_errormsg());
    struct sidecar_ledger *fresh = calloc(1, sizeof *fresh);
    if (!fresh)
        return dax_err_set(err, DAX_NOMEM, 0, "no memory to make the log \"%s\"", s->path);
    fresh->head.hash = hash_bytes(&fresh->head, offsetof(struct ledger_head, hash));
    fresh->head_again = fresh->head;
    for (unsigned i = 0; i < DAX_LEDGER_ENTRIES; i++)
        fresh->entry[i].hash = hash_bytes(&fresh->entry[i], offsetof(struct ledger_entry, hash));
    root->ledger_offset = sidecar_round_up(oid.off, DAX_PAGE_BYTES);
    root->ledger_bytes = sizeof *fresh;
    s->ledger = (struct sidecar_ledger *)(void *)((uint8_t *)s->pool + root->ledger_offset);
    pmemobj_memcpy_persist(s->pool, s->ledger, seed->ledger ? seed->ledger : fresh, sizeof *fresh);
    free(fresh);
    return DAX_OK;
}

static dax_rc sidecar_make_pool(struct sidecar *s, const struct sidecar_seed *seed,
                                struct dax_err *err)
{
    s->pool = sidecar_pmemobj_create(s->path);
    if (!s->pool)
        return dax_err_set(err, errno == ENOMEM ? DAX_NOMEM : DAX_CANT_OPEN, errno,
                           "cannot make the log \"%s\": %s", s->path, pmemobj_errormsg());
    PMEMoid root = pmemobj_root(s->pool, SIDECAR_ROOT_BYTES);
    if (OID_IS_NULL(root))
        return dax_err_set(err, DAX_CANT_OPEN, errno, "cannot make the log \"%s\": %s", s->path,
                           pmemobj_errormsg());
    struct sidecar_root fresh = {.version = DAX_SIDECAR_VERSION};
    memcpy(fresh.magic, DAX_SIDECAR_MAGIC, sizeof fresh.magic);
    dax_rc rc =
        sidecar_make_ledger(s, seed, &fresh, err); /* first: the ring takes all that is left */
    if (rc == DAX_OK)
        rc = sidecar_make_ring(s, &fresh, err);
    if (rc != DAX_OK)
        return rc;
    fresh.hash = sidecar_root_hash(&fresh);
    s->root = sidecar_root_address(s->pool, root);
    struct sidecar_twin twin = {.cursor = {{.seq = 0}}};
    if (seed->cursor) {
        fresh.cursor[0] = *seed->cursor;
        fresh.cursor[0].seq = 1;
        fresh.cursor[0].hash = sidecar_slot_hash(&fresh.cursor[0]);
        twin.cursor[0] = fresh.cursor[0];
    }
    sidecar_places_of(s, &twin.places);
    pmemobj_memcpy_persist(s->pool, s->twin, &twin, sizeof twin);
    pmemobj_memcpy_persist(s->pool, s->root, &fresh, sizeof fresh);
    return sidecar_keep_root_page(s, err);
}

/* libpmemobj refuses pools on whose blocks the kernel's list of bad ones has anything, be it in the free
 * part of the ring; what is bad is ours to cope with. The feature is a bit of the pool's header (PMDK 1.12,
 * set.h and pool_hdr.h: compat features at byte 12, Fletcher-64 of the page at 4088), and is taken out
 * where the header is what is described here: the checksum must come out before it is changed. */
static uint64_t sidecar_header_checksum(const uint8_t header[DAX_PAGE_BYTES])
{
    uint32_t low = 0, high = 0;
    for (size_t at = 0; at < DAX_PAGE_BYTES; at += sizeof(uint32_t)) {
        uint32_t word;
        memcpy(&word, header + at, sizeof word);
        low += at < DAX_PAGE_BYTES - sizeof(uint64_t) ? word : 0;
        high += low;
    }
    return (uint64_t)high << 32 | low;
}

static void sidecar_take_bad_blocks_over(int fd)
{
    enum { COMPAT = 12, CHECK_BAD_BLOCKS = 1, CHECKSUM = DAX_PAGE_BYTES - sizeof(uint64_t) };
    uint8_t header[DAX_PAGE_BYTES];
    uint64_t sum;
    if (pread(fd, header, sizeof header, 0) != (ssize_t)sizeof header)
        return;
    memcpy(&sum, header + CHECKSUM, sizeof sum);
    if (sum != sidecar_header_checksum(header) || !(header[COMPAT] & CHECK_BAD_BLOCKS))
        return;
    header[COMPAT] &= (uint8_t)~CHECK_BAD_BLOCKS;
    sum = sidecar_header_checksum(header);
    memcpy(header + CHECKSUM, &sum, sizeof sum);
    (void)!pwrite(fd, header, sizeof header, 0); /* not durable before the file has its name */
}

/* A file may be given blocks that the kernel lists as bad: storing whole pages there clears them. */
static void sidecar_clear_blocks(void *arg, uint64_t offset, uint64_t bytes)
{
    static const uint8_t zeros[DAX_PAGE_BYTES];
    for (uint64_t at = 0; at < bytes; at += DAX_PAGE_BYTES)
        (void)!pwrite(*(const int *)arg, zeros, sizeof zeros, (off_t)(offset + at));
}

static void sidecar_clear_bad_blocks(int fd, const char *path)
{
    struct badblocks *list = NULL;
    struct dax_err err = {0};
    if (badblocks_open(fd, path, &list, &err) == DAX_OK)
        (void)!badblocks_read(list, sidecar_clear_blocks, &fd, &err);
    badblocks_close(list);
}

/* File and name durable: a mark in the database must never outlive them. */
static dax_rc sidecar_sync(int fd, const char *path, struct dax_err *err)
{
    int e = base_fsync(fd);
    if (e != 0)
        return dax_err_set(err, DAX_IO_WRITE, e, "cannot sync the log \"%s\"", path);
    e = base_sync_directory(path);
    if (e == ENOMEM)
        return dax_err_set(err, DAX_NOMEM, e, "no memory to make the log \"%s\"", path);
    if (e != 0)
        return dax_err_set(err, DAX_IO_WRITE, e, "cannot sync the directory of the log \"%s\"",
                           path);
    return DAX_OK;
}

/* Only a matter of speed: a store that meets the fault later is as good. */
void sidecar_populate(const struct sidecar *s)
{
    if (s->mode == PERSIST_MSYNC)
        return;
    uint64_t lead = (uintptr_t)s->ring % DAX_PAGE_BYTES;
    uint64_t bytes =
        s->ring_bytes < DAX_LOG_POPULATE_BYTES ? s->ring_bytes : DAX_LOG_POPULATE_BYTES;
    (void)madvise(s->ring - lead, bytes + lead, MADV_POPULATE_WRITE);
}

dax_rc sidecar_init(struct sidecar *s, int fd, const char *path, struct dax_err *err)
{
    struct medium medium;
    dax_rc rc = medium_detect(fd, path, MEDIUM_AUTO, &medium, err);
    if (rc != DAX_OK)
        return rc;
    s->mode = medium.mode;
    s->path = strdup(path);
    if (!s->path)
        return dax_err_set(err, DAX_NOMEM, 0, "no memory to open the log \"%s\"", path);
    return DAX_OK;
}

/* The finished file gets its own name, unless a file has it already. */
static dax_rc sidecar_give_name(struct sidecar *s, int fd, const char *unfinished, const char *path,
                                struct dax_err *err)
{
    int e = base_fsync(fd);
    if (e != 0)
        return dax_err_set(err, DAX_IO_WRITE, e, "cannot sync the log \"%s\"", unfinished);
    char *name = strdup(path);
    if (!name)
        return dax_err_set(err, DAX_NOMEM, 0, "no memory to make the log \"%s\"", path);
    free(s->path);
    s->path = name;
    if (renameat2(AT_FDCWD, unfinished, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
        return DAX_OK;
    /* File systems that cannot refuse to replace: nobody else writes here, the database is locked. */
    if (errno == EINVAL && access(path, F_OK) != 0 && rename(unfinished, path) == 0)
        return DAX_OK;
    bool full = errno == ENOSPC || errno == EDQUOT;
    return dax_err_set(err, full ? DAX_FULL : DAX_CANT_OPEN, errno, "cannot create the log \"%s\"",
                       path);
}

/* The finished file in place of the one that has the name, which gets another one. */
static dax_rc sidecar_take_place(struct sidecar *s, int fd, const char *unfinished,
                                 const char *path, bool *kept_out, struct dax_err *err)
{
    char *aside = NULL;
    int e = base_fsync(fd);
    if (e != 0)
        return dax_err_set(err, DAX_IO_WRITE, e, "cannot sync the log \"%s\"", unfinished);
    char *name = strdup(path);
    if (!name || asprintf(&aside, "%s-bad", path) < 0) {
        free(name);
        return dax_err_set(err, DAX_NOMEM, 0, "no memory to make the log \"%s\"", path);
    }
    free(s->path);
    s->path = name;
    (void)unlink(aside);
    *kept_out = link(path, aside) == 0;
    free(aside);
    if (rename(unfinished, path) == 0)
        return DAX_OK;
    return dax_err_set(err, DAX_CANT_OPEN, errno, "cannot put a new log in place of \"%s\"", path);
}

/* kept_out: NULL where no file may have the name. */
static dax_rc sidecar_make(const char *path, const struct stat *like, uint64_t bytes,
                           const struct sidecar_seed *seed, bool *kept_out, struct sidecar *out,
                           struct dax_err *err)
{
    struct sidecar s = {.file_bytes = sidecar_round_up(bytes, DAX_PAGE_BYTES), .fd = -1};
    int fd = -1;
    memset(out, 0, sizeof *out);
    if (bytes < DAX_LOG_BYTES_MIN || bytes > DAX_LOG_BYTES_MAX)
        return dax_err_set(err, DAX_MISUSE, 0,
                           "a log of %llu bytes is not possible: dax_log_size is %llu to %llu",
                           (unsigned long long)bytes, (unsigned long long)DAX_LOG_BYTES_MIN,
                           (unsigned long long)DAX_LOG_BYTES_MAX);
    char *unfinished = NULL;
    if (asprintf(&unfinished, "%s-new", path) < 0)
        return dax_err_set(err, DAX_NOMEM, 0, "no memory to make the log \"%s\"", path);
    (void)unlink(unfinished); /* of a creation that was interrupted; else there is none */
    dax_rc rc = sidecar_make_file(unfinished, like, s.file_bytes, &fd, err);
    if (rc == DAX_OK)
        rc = sidecar_init(&s, fd, unfinished, err);
    if (rc == DAX_OK)
        rc = sidecar_fill_blocks(&s, fd, err);
    if (rc == DAX_OK)
        sidecar_clear_bad_blocks(fd, unfinished);
    if (rc == DAX_OK)
        rc = sidecar_make_pool(&s, seed, err);
    if (rc == DAX_OK)
        sidecar_take_bad_blocks_over(fd);
    if (rc == DAX_OK)
        rc = kept_out ? sidecar_take_place(&s, fd, unfinished, path, kept_out, err)
                      : sidecar_give_name(&s, fd, unfinished, path, err);
    if (rc == DAX_OK) {
        rc = sidecar_sync(fd, path, err);
        if (rc != DAX_OK && !kept_out)
            unlink(path);
    }
    if (rc == DAX_OK) {
        sidecar_populate(&s);
        s.fd = fd;
        *out = s;
    } else {
        sidecar_close(&s);
        if (fd >= 0) {
            unlink(unfinished);
            close(fd);
        }
    }
    free(unfinished);
    return rc;
}

dax_rc sidecar_create(const char *path, const struct stat *like, uint64_t bytes,
                      struct sidecar *out, struct dax_err *err)
{
    static const struct sidecar_seed nothing;
    return sidecar_make(path, like, bytes, &nothing, NULL, out, err);
}

dax_rc sidecar_replace(const char *path, const struct stat *like, uint64_t bytes,
                       const struct sidecar_seed *seed, bool *kept_out, struct sidecar *out,
                       struct dax_err *err)
{
    *kept_out = false;
    return sidecar_make(path, like, bytes, seed, kept_out, out, err);
}

/* --- close ------------------------------------------------------------------------------------ */

/* libpmemobj keeps its own variables in the descriptor's page. */
void sidecar_closing(struct sidecar *s)
{
    s->dead = s->pool && !s->bare && !guard_probe(s->pool, 2 * DAX_PAGE_BYTES, NULL);
}

void sidecar_close(struct sidecar *s)
{
    if (s->pool) {
        if (s->bare)
            munmap(s->pool, s->file_bytes);
        else if (s->dead) /* the file and its lock are let go; the addresses stay libpmemobj's */
            (void)mmap(s->pool, s->file_bytes, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
        else
            pmemobj_close(s->pool);
        if (s->fd >= 0)
            close(s->fd);
    }
    free(s->path);
    free(s->root_page);
    memset(s, 0, sizeof *s);
}
