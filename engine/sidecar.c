/* sidecar.c: creates, checks and opens the libpmemobj pool, and alternates the cursor slots.
 *
 * Format. The pool (layout name "daxlite") has one root object, in which struct sidecar_root lies
 * at the first multiple of 64, and one object of type SIDECAR_RING_TYPE that is as large as the
 * pool allows. The ring begins at the object's first multiple of 256. Offsets are the pool's.
 *
 * Creation goes on under the name "...-dax-new": the file, libpmemobj's pool, root and ring, the root
 * persisted. A crash leaves that file, which the next creation removes. Then it gets its own name,
 * which is never that of something half-made: a sidecar whose cursor slots are both unused.
 *
 * The twin is the page behind the ring, in the ring's object: copies of the cursor slots, and the
 * seals.
 *
 * Cursor (L4). The slots' seq grows by one with each P4; the valid slot with the greater one
 * counts. A store goes to the other slot, so that whatever becomes of it, one valid slot remains.
 * Root and twin get the same slot before P4: torn, the other slot is whole in both; damaged later in
 * one of them, the other has it. A crash in between leaves one copy, which is made two before anything
 * else is stored to a slot. (Falling back to the older slot would replay history over what has
 * been stored since.)
 *
 * Seals (L6). After a record is durable (P2) and before anything of it is stored into base (P7), a
 * seal says that it was whole. Without it the damage of the very last record could not be told from
 * a record that was being stored when the power went. A torn seal is none; the one before it is in
 * another line.
 *
 * libpmemobj trusts what it maps, so what can be told from outside is checked before it is called:
 * an empty file would be a SIGBUS in it, a file that begins with a pool set's signature would make
 * it open other files. It locks the pool with flock on a descriptor that it closes: the mapping
 * holds the lock, nothing leaks into an exec'ed child, a forked one keeps the lock while it lives.
 */
#include "engine/sidecar.h"
#include "engine/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <libpmemobj.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/base.h"
#include "engine/medium.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef FALLOC_FL_KEEP_SIZE
#define FALLOC_FL_KEEP_SIZE 0x01
#endif

#define SIDECAR_RING_TYPE 1u
#define SIDECAR_RING_ALIGN 256u
#define SIDECAR_PROBE_STEP (64 * DAX_KIB)
#define SIDECAR_FILL_STEP ((off_t)(2 * DAX_MIB))

/* Room to align the root in its object. */
#define SIDECAR_ROOT_BYTES (sizeof(struct sidecar_root) + DAX_LINE_BYTES)

/* First bytes of every libpmemobj pool, with the zero that ends them. */
static const char pool_signature[8] = "PMEMOBJ";

static_assert(DAX_LOG_BYTES_MIN >= PMEMOBJ_MIN_POOL, "least pool is libpmemobj's");
static_assert(DAX_LOG_BYTES_MAX - PMEMOBJ_MAX_ALLOC_SIZE < 8 * DAX_MIB, "the ring is one object");

static uint64_t sidecar_root_hash(const struct sidecar_root *root)
{
    return hash_bytes(root, offsetof(struct sidecar_root, hash));
}

static uint64_t sidecar_slot_hash(const struct cursor_slot *c)
{
    return hash_bytes(c, offsetof(struct cursor_slot, hash));
}

static uint64_t sidecar_seal_hash(const struct seal *seal)
{
    return hash_bytes(seal, offsetof(struct seal, hash));
}

static uint64_t sidecar_round_up(uint64_t n, uint64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* A signal may interrupt open. */
static int sidecar_open_fd(const char *path, int flags, mode_t mode)
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

static struct sidecar_root *sidecar_root_address(PMEMobjpool *pool, PMEMoid oid)
{
    uint64_t offset = sidecar_round_up(oid.off, DAX_LINE_BYTES);
    return (struct sidecar_root *)(void *)((uint8_t *)pool + offset);
}

static dax_rc sidecar_make_pool(struct sidecar *s, struct dax_err *err)
{
    s->pool = sidecar_pmemobj_create(s->path);
    if (!s->pool)
        return dax_err_set(err, errno == ENOMEM ? DAX_NOMEM : DAX_CANT_OPEN, errno,
                           "cannot make the log \"%s\": %s", s->path, pmemobj_errormsg());
    PMEMoid root = pmemobj_root(s->pool, SIDECAR_ROOT_BYTES);
    if (OID_IS_NULL(root))
        return dax_err_set(err, DAX_CANT_OPEN, errno, "cannot make the log \"%s\": %s", s->path,
                           pmemobj_errormsg());
    PMEMoid ring;
    dax_rc rc = sidecar_allocate_ring(s, &ring, err);
    if (rc != DAX_OK)
        return rc;

    uint64_t ring_offset = sidecar_round_up(ring.off, SIDECAR_RING_ALIGN);
    uint64_t usable = pmemobj_alloc_usable_size(ring) - (ring_offset - ring.off);
    uint64_t ring_bytes = (usable / DAX_PAGE_BYTES - 1) * DAX_PAGE_BYTES;
    struct sidecar_root fresh = {
        .version = DAX_SIDECAR_VERSION,
        .ring_offset = ring_offset,
        .ring_bytes = ring_bytes,
        .twin_offset = ring_offset + ring_bytes,
    };
    memcpy(fresh.magic, DAX_SIDECAR_MAGIC, sizeof fresh.magic);
    fresh.hash = sidecar_root_hash(&fresh);
    s->root = sidecar_root_address(s->pool, root);
    s->twin = (struct sidecar_twin *)(void *)((uint8_t *)s->pool + fresh.twin_offset);
    pmemobj_memset_persist(s->pool, s->twin, 0, sizeof *s->twin);
    pmemobj_memcpy_persist(s->pool, s->root, &fresh, sizeof fresh);
    s->ring = (uint8_t *)s->pool + fresh.ring_offset;
    s->ring_bytes = fresh.ring_bytes;
    return DAX_OK;
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

/* Take the first page faults of the ring now, where they are cheap to take and dear under commits.
 * Only a matter of speed: a store that meets the fault later is as good. */
static void sidecar_populate(const struct sidecar *s)
{
    if (s->mode == PERSIST_MSYNC)
        return;
    uint64_t lead = (uintptr_t)s->ring % DAX_PAGE_BYTES;
    uint64_t bytes =
        s->ring_bytes < DAX_LOG_POPULATE_BYTES ? s->ring_bytes : DAX_LOG_POPULATE_BYTES;
    (void)madvise(s->ring - lead, bytes + lead, MADV_POPULATE_WRITE);
}

static dax_rc sidecar_init(struct sidecar *s, int fd, const char *path, struct dax_err *err)
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
    return dax_err_set(err, full ? DAX_FULL : DAX_CANT_OPEN, errno, "cannot create the log \"%s\"", path);
}

dax_rc sidecar_create(const char *path, const struct stat *like, uint64_t bytes,
                      struct sidecar *out, struct dax_err *err)
{
    struct sidecar s = {.file_bytes = sidecar_round_up(bytes, DAX_PAGE_BYTES)};
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
        rc = sidecar_make_pool(&s, err);
    if (rc == DAX_OK)
        rc = sidecar_give_name(&s, fd, unfinished, path, err);
    if (rc == DAX_OK) {
        rc = sidecar_sync(fd, path, err);
        if (rc != DAX_OK)
            unlink(path);
    }
    if (rc == DAX_OK) {
        sidecar_populate(&s);
        *out = s;
    } else {
        sidecar_close(&s);
        if (fd >= 0)
            unlink(unfinished);
    }
    if (fd >= 0)
        close(fd);
    free(unfinished);
    return rc;
}

/* --- open ------------------------------------------------------------------------------------- */

static dax_rc sidecar_open_error(const char *path, int e, struct dax_err *err)
{
    switch (e) {
    case ENOENT:
        return dax_err_set(err, DAX_CANT_OPEN, e,
                           "the log \"%s\" is missing: put back the file that belongs to the "
                           "database",
                           path);
    case EACCES:
    case EPERM:
        return dax_err_set(err, DAX_CANT_OPEN, e,
                           "no permission to read and write the log \"%s\": give it the "
                           "database's owner and permissions",
                           path);
    case EROFS:
        return dax_err_set(err, DAX_CANT_OPEN, e,
                           "the log \"%s\" cannot be opened for writing: mount its file system "
                           "read-write",
                           path);
    default: return dax_err_set(err, DAX_CANT_OPEN, e, "cannot open the log \"%s\"", path);
    }
}

static dax_rc sidecar_not_ours(const char *path, const char *why, struct dax_err *err)
{
    return dax_err_set(err, DAX_CORRUPT, 0,
                       "\"%s\" is not a usable daxlite log (%s): put back the file that belongs to "
                       "the database",
                       path, why);
}

/* A store into a hole of a sparse copy would be a SIGBUS on a full disk. In pieces, since a signal
 * ends fallocate without effect. 0 or an errno. */
static int sidecar_fill(int fd, off_t bytes)
{
    off_t at = lseek(fd, 0, SEEK_HOLE);
    while (at >= 0 && at < bytes) {
        off_t piece = bytes - at < SIDECAR_FILL_STEP ? bytes - at : SIDECAR_FILL_STEP;
        if (fallocate(fd, FALLOC_FL_KEEP_SIZE, at, piece) == 0)
            at += piece;
        else if (errno != EINTR)
            return errno;
    }
    return 0;
}

/* What can be told without libpmemobj. */
static dax_rc sidecar_precheck(int fd, const char *path, uint64_t *bytes_out, struct dax_err *err)
{
    struct stat st;
    char head[sizeof pool_signature];
    if (fstat(fd, &st) != 0)
        return dax_err_set(err, DAX_CANT_OPEN, errno, "cannot examine the log \"%s\"", path);
    if (!S_ISREG(st.st_mode))
        return sidecar_not_ours(path, "not a regular file", err);
    if (st.st_size == 0)
        return sidecar_not_ours(path, "it is empty", err);
    ssize_t n;
    do {
        n = pread(fd, head, sizeof head, 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return dax_err_set(err, DAX_IO_READ, errno, "cannot read the log \"%s\"", path);
    static const char zeros[sizeof head];
    if (n == sizeof head && memcmp(head, zeros, sizeof head) == 0)
        return sidecar_not_ours(path, "it was not completely made", err);
    if (n < (ssize_t)sizeof head || memcmp(head, pool_signature, sizeof head) != 0)
        return sidecar_not_ours(path, "it is something else", err);
    if ((uint64_t)st.st_size < PMEMOBJ_MIN_POOL)
        return sidecar_not_ours(path, "it is truncated", err);

    int e = sidecar_fill(fd, st.st_size);
    if (e == ENOSPC || e == EDQUOT)
        return dax_err_set(err, DAX_FULL, e, "cannot allocate the %llu bytes of the log \"%s\"",
                           (unsigned long long)st.st_size, path);
    *bytes_out = (uint64_t)st.st_size;
    return DAX_OK;
}

static dax_rc sidecar_open_pool(struct sidecar *s, struct dax_err *err)
{
    s->pool = pmemobj_open(s->path, DAX_SIDECAR_LAYOUT);
    if (s->pool)
        return DAX_OK;
    switch (errno) {
    case EAGAIN:
        return dax_err_set(err, DAX_CANT_OPEN, errno,
                           "the log \"%s\" is in use by another process, or by a child that it "
                           "forked: end it and try again",
                           s->path);
    case EACCES:
    case EPERM:
    case EROFS: return sidecar_open_error(s->path, errno, err);
    case ENOMEM: return dax_err_set(err, DAX_NOMEM, errno, "cannot map the log \"%s\"", s->path);
    case EMFILE:
    case ENFILE:
    case EIO:
        return dax_err_set(err, DAX_CANT_OPEN, errno, "cannot open the log \"%s\"", s->path);
    default: return sidecar_not_ours(s->path, pmemobj_errormsg(), err);
    }
}

/* The line of the seal with the greatest LSN, of whatever life: the one not to be overwritten next. */
static unsigned sidecar_newest_seal(const struct sidecar_twin *twin)
{
    unsigned newest = 0;
    uint64_t lsn = 0;
    for (unsigned i = 0; i < DAX_SEALS; i++)
        if (twin->seal[i].lsn > lsn && twin->seal[i].hash == sidecar_seal_hash(&twin->seal[i])) {
            lsn = twin->seal[i].lsn;
            newest = i;
        }
    return newest;
}

static dax_rc sidecar_check_root(struct sidecar *s, struct dax_err *err)
{
    uint64_t root_bytes = pmemobj_root_size(s->pool);
    if (root_bytes < SIDECAR_ROOT_BYTES)
        return sidecar_not_ours(s->path, "it was not completely made", err);
    errno = 0;
    PMEMoid oid = pmemobj_root(s->pool, root_bytes);
    if (OID_IS_NULL(oid) && errno != 0 && errno != EINVAL)
        return dax_err_set(err, errno == ENOMEM ? DAX_NOMEM : DAX_CANT_OPEN, errno,
                           "cannot open the log \"%s\"", s->path);
    if (OID_IS_NULL(oid))
        return sidecar_not_ours(s->path, pmemobj_errormsg(), err);
    struct sidecar_root *root = sidecar_root_address(s->pool, oid);
    static const char zeros[sizeof root->magic];
    if (memcmp(root->magic, zeros, sizeof zeros) == 0 && root->hash == 0)
        return sidecar_not_ours(s->path, "it was not completely made", err);
    /* The hash covers the same bytes in every version, so that it tells newer from damaged. */
    if (memcmp(root->magic, DAX_SIDECAR_MAGIC, sizeof root->magic) != 0 ||
        root->hash != sidecar_root_hash(root))
        return sidecar_not_ours(s->path, "its root is damaged", err);
    if (root->version != DAX_SIDECAR_VERSION)
        return dax_err_set(err, DAX_CANT_OPEN, 0,
                           "the log \"%s\" has format %u, made by %s daxlite (this one knows %u): "
                           "open and close the database with that one, then move the log away",
                           s->path, root->version,
                           root->version > DAX_SIDECAR_VERSION ? "a newer" : "an older",
                           DAX_SIDECAR_VERSION);
    if (root->ring_offset % SIDECAR_RING_ALIGN != 0 || root->ring_offset < DAX_PAGE_BYTES ||
        root->ring_bytes == 0 || root->ring_bytes % DAX_PAGE_BYTES != 0 ||
        root->ring_offset > s->file_bytes || root->ring_bytes > s->file_bytes - root->ring_offset)
        return sidecar_not_ours(s->path, "its ring lies outside the file", err);
    if (root->twin_offset % DAX_LINE_BYTES != 0 ||
        root->twin_offset < root->ring_offset + root->ring_bytes ||
        s->file_bytes < sizeof *s->twin || root->twin_offset > s->file_bytes - sizeof *s->twin)
        return sidecar_not_ours(s->path, "its twin lies outside the file", err);
    s->root = root;
    s->twin = (struct sidecar_twin *)(void *)((uint8_t *)s->pool + root->twin_offset);
    s->ring = (uint8_t *)s->pool + root->ring_offset;
    s->ring_bytes = root->ring_bytes;
    s->next_seal = sidecar_newest_seal(s->twin) + 1;
    return DAX_OK;
}

dax_rc sidecar_open(const char *path, struct sidecar *out, struct dax_err *err)
{
    struct sidecar s = {0};
    memset(out, 0, sizeof *out);
    int fd = sidecar_open_fd(path, O_RDWR | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0 && errno == EISDIR)
        return sidecar_not_ours(path, "it is a directory", err);
    if (fd < 0)
        return sidecar_open_error(path, errno, err);
    dax_rc rc = sidecar_precheck(fd, path, &s.file_bytes, err);
    if (rc == DAX_OK)
        rc = sidecar_init(&s, fd, path, err);
    if (rc == DAX_OK)
        rc = sidecar_open_pool(&s, err);
    if (rc == DAX_OK)
        rc = sidecar_check_root(&s, err);
    if (rc == DAX_OK) {
        sidecar_populate(&s);
        *out = s;
    } else {
        sidecar_close(&s);
    }
    close(fd);
    return rc;
}

void sidecar_close(struct sidecar *s)
{
    if (s->pool)
        pmemobj_close(s->pool);
    free(s->path);
    memset(s, 0, sizeof *s);
}

/* --- cursor ----------------------------------------------------------------------------------- */

/* The slot that counts and its index, in root or twin; NULL: there is none. */
static const struct cursor_slot *sidecar_cursor_newest(const struct sidecar *s, int *index_out)
{
    const struct cursor_slot *newest = NULL;
    for (int i = 0; i < 4; i++) {
        const struct cursor_slot *c = i < 2 ? &s->root->cursor[i] : &s->twin->cursor[i - 2];
        /* Greater as seen from there: even the greatest seq has a next one. */
        if (c->seq != 0 && c->hash == sidecar_slot_hash(c) &&
            (!newest || (int64_t)(c->seq - newest->seq) > 0)) {
            newest = c;
            *index_out = i % 2;
        }
    }
    return newest;
}

static bool sidecar_cursor_unused(const struct sidecar *s)
{
    return s->root->cursor[0].seq == 0 && s->root->cursor[1].seq == 0 &&
           s->twin->cursor[0].seq == 0 && s->twin->cursor[1].seq == 0;
}

dax_rc sidecar_cursor_read(const struct sidecar *s, struct cursor_slot *out, struct dax_err *err)
{
    int index;
    const struct cursor_slot *newest = sidecar_cursor_newest(s, &index);
    if (!newest)
        return dax_err_set(err, DAX_CORRUPT, 0, "the log \"%s\" has no valid cursor: %s", s->path,
                           sidecar_cursor_unused(s) ? "it was never used"
                                                    : "all copies of its slots are damaged");
    *out = *newest;
    return DAX_OK;
}

/* A crash between the two stores of a slot leaves one copy of what counts. It is there twice again
 * before a store to the other slot, which may be torn, makes it the only one. */
static dax_rc sidecar_cursor_mend(struct sidecar *s, struct persist *p, int index,
                                  const struct cursor_slot *newest, struct dax_err *err)
{
    struct cursor_slot *root = &s->root->cursor[index], *twin = &s->twin->cursor[index];
    if (memcmp(root, twin, sizeof *root) == 0)
        return DAX_OK;
    struct cursor_slot *other = newest == root ? twin : root;
    persist_store(p, other, newest, sizeof *newest);
    return persist_point(p, PERSIST_P4_CURSOR, other, sizeof *other, err);
}

dax_rc sidecar_cursor_write(struct sidecar *s, struct persist *p, struct cursor_slot *c,
                            struct dax_err *err)
{
    int index = 1;
    const struct cursor_slot *newest = sidecar_cursor_newest(s, &index);
    struct cursor_slot *slot = &s->root->cursor[1 - index], *twin = &s->twin->cursor[1 - index];
    dax_rc rc = newest ? sidecar_cursor_mend(s, p, index, newest, err) : DAX_OK;
    if (rc != DAX_OK)
        return rc;
    c->seq = newest ? newest->seq + 1 : 1;
    if (c->seq == 0) /* never used */
        c->seq = 1;
    c->hash = sidecar_slot_hash(c);
    persist_store(p, slot, c, sizeof *c);
    persist_store(p, twin, c, sizeof *c);
    rc = persist_point(p, PERSIST_P4_CURSOR, slot, sizeof *slot, err);
    if (rc == DAX_OK && p->mode == PERSIST_MSYNC) /* elsewhere a point is a fence, for both */
        rc = persist_point(p, PERSIST_P4_CURSOR, twin, sizeof *twin, err);
    /* It may be durable or not. Take it back, or the next write would go over the older slot, which
     * is the one that is sure to be. */
    if (rc != DAX_OK) {
        persist_zero(p, slot, sizeof *slot);
        persist_zero(p, twin, sizeof *twin);
    }
    return rc;
}

/* --- seals ------------------------------------------------------------------------------------ */

dax_rc sidecar_seal(struct sidecar *s, struct persist *p, uint64_t salt, uint64_t lsn,
                    struct dax_err *err)
{
    struct seal seal = {.lsn = lsn, .salt = salt};
    seal.hash = sidecar_seal_hash(&seal);
    struct seal *line = &s->twin->seal[s->next_seal++ % DAX_SEALS];
    persist_store(p, line, &seal, sizeof seal);
    return persist_point(p, PERSIST_P7_SEAL, line, sizeof *line, err);
}

uint64_t sidecar_sealed(const struct sidecar *s, uint64_t salt)
{
    uint64_t lsn = 0;
    for (unsigned i = 0; i < DAX_SEALS; i++) {
        const struct seal *seal = &s->twin->seal[i];
        if (seal->salt == salt && seal->lsn > lsn && seal->hash == sidecar_seal_hash(seal))
            lsn = seal->lsn;
    }
    return lsn;
}
