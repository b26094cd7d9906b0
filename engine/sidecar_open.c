/* sidecar_open.c: checks a sidecar and opens it.
 *
 * libpmemobj trusts what it maps, so what can be told from outside is checked before it is called:
 * an empty file would be a SIGBUS in it, a file that begins with a pool set's signature would make
 * it open other files, and so would a page of its structures that cannot be read. Those are read
 * first, with pread, and through a mapping inside the guard, which may fail alone. They are everything but ring, twin and ledger, a few MiB in a file of any size;
 * where these three lie says the root, which is found by its magic and hash. (Without libpmemobj,
 * that is: a wrong root means at most that less is read.)
 *
 * A root whose hash fits could still put ring, twin or ledger over libpmemobj's own structures, and what
 * is stored there would make the next pmemobj_open crash. All that it reads there lies in front of the
 * root's object: pool header, lanes, the headers of heap, zone and chunks (a pool of at most 16 GiB has
 * one zone), and the run of small objects that begins with the root, the first one that was made. So
 * these three must lie behind it. (Asking libpmemobj which objects there are, pmemobj_first and
 * pmemobj_next, is no better: it walks over the run's bitmap, and a single bit turned over there keeps
 * it walking for ever. Opening alone does not look at it.)
 *
 * libpmemobj locks the pool with flock on a descriptor that it closes: the mapping holds the lock,
 * nothing leaks into an exec'ed child, a forked one keeps the lock while it lives.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/guard.h"
#include "engine/sidecar_pool.h"

#ifndef FALLOC_FL_KEEP_SIZE
#define FALLOC_FL_KEEP_SIZE 0x01
#endif

#define SIDECAR_FILL_STEP ((off_t)(2 * DAX_MIB))

/* Where libpmemobj's structures are in a file whose root is not found. */
#define SIDECAR_READ_ALL_BYTES (64 * DAX_MIB)
#define SIDECAR_READ_FIRST_BYTES (8 * DAX_MIB)
#define SIDECAR_READ_LAST_BYTES (1 * DAX_MIB)
#define SIDECAR_READ_STEP (64 * DAX_KIB)

/* Multiple of ring and twin in files of version 2. */
#define SIDECAR_RING_ALIGN_OLD 256u

/* First bytes of every libpmemobj pool, with the zero that ends them. */
static const char pool_signature[8] = "PMEMOBJ";

dax_rc sidecar_open_error(const char *path, int e, struct dax_err *err)
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

dax_rc sidecar_not_ours(const char *path, const char *why, struct dax_err *err)
{
    return dax_err_set(err, DAX_CORRUPT, 0,
                       "\"%s\" is not a usable daxlite log (%s): put back the file that belongs to "
                       "the database",
                       path, why);
}

static dax_rc sidecar_unreadable(const char *path, uint64_t page, int e, struct dax_err *err)
{
    if (e != EIO && e != EHWPOISON)
        return dax_err_set(err, DAX_IO_READ, e, "cannot read the log \"%s\"", path);
    return dax_err_set(
        err, DAX_IO_MEDIA, e,
        "page %llu of the log \"%s\" cannot be read, and the log not be opened "
        "without it. If the database was closed cleanly, move the log away: a new one "
        "is made. If not, what was committed since the last checkpoint is only in the "
        "log: copy the file with what can be read, or restore a backup",
        (unsigned long long)page, path);
}

/* While nobody else owns the mapping. All loads are inside the guard, which ends them. */
static bool sidecar_no_rescue(struct guard_owner *o, uint64_t offset,
                              const struct guard_fault *fault)
{
    (void)o;
    (void)offset;
    (void)fault;
    return false;
}

static void sidecar_no_words(struct guard_owner *o, uint64_t offset,
                             const struct guard_fault *fault)
{
    (void)sidecar_no_rescue(o, offset, fault);
}

static struct guard_owner sidecar_opening = {sidecar_no_rescue, sidecar_no_words};

/* --- before libpmemobj is called -------------------------------------------------------------------- */

/* Reading what libpmemobj will touch. */
struct sidecar_look {
    int fd;
    const char *path;
    uint64_t bytes; /* of the file */
    bool root_known;
    struct {
        uint64_t from, to; /* pages that are not libpmemobj's */
    } own[3];
    uint8_t *buffer; /* SIDECAR_READ_STEP */
    const uint8_t *map; /* of the whole file */
    uint64_t bad_page;
};

static void sidecar_look_own(struct sidecar_look *l, unsigned i, uint64_t offset, uint64_t bytes)
{
    if (offset > l->bytes || bytes > l->bytes - offset)
        return; /* a lie: nothing is left out */
    l->own[i].from = sidecar_round_up(offset, DAX_PAGE_BYTES);
    l->own[i].to = (offset + bytes) & ~(uint64_t)(DAX_PAGE_BYTES - 1);
}

static void sidecar_look_for_root(struct sidecar_look *l, size_t len)
{
    struct sidecar_root root;
    for (size_t at = 0; at + DAX_LINE_BYTES <= len && !l->root_known; at += DAX_LINE_BYTES) {
        if (memcmp(l->buffer + at, DAX_SIDECAR_MAGIC, sizeof root.magic) != 0)
            continue;
        memcpy(&root, l->buffer + at, DAX_LINE_BYTES);
        if (root.hash != sidecar_root_hash(&root))
            continue;
        l->root_known = true;
        sidecar_look_own(l, 0, root.ring_offset, root.ring_bytes);
        sidecar_look_own(l, 1, root.twin_offset, sizeof(struct sidecar_twin));
        sidecar_look_own(l, 2, root.ledger_offset, root.ledger_bytes);
    }
}

/* The first place from `from` on that is libpmemobj's and no hole, and how many bytes from there on
 * are to be read; 0: none in front of `to`. */
static uint64_t sidecar_look_next(const struct sidecar_look *l, uint64_t *from, uint64_t to)
{
    /* A hole cannot be bad. A file system that does not know of holes has none. */
    off_t data = lseek(l->fd, (off_t)*from, SEEK_DATA);
    if (data < 0 && errno == ENXIO)
        return 0;
    if (data > (off_t)*from)
        *from = (uint64_t)data & ~(uint64_t)(DAX_PAGE_BYTES - 1);
    for (unsigned i = 0; i < 3; i++) /* they come in any order */
        for (unsigned k = 0; k < 3; k++)
            if (*from >= l->own[k].from && *from < l->own[k].to)
                *from = l->own[k].to;
    if (*from >= to)
        return 0;
    uint64_t end = to - *from > SIDECAR_READ_STEP ? *from + SIDECAR_READ_STEP : to;
    for (unsigned k = 0; k < 3; k++)
        if (l->own[k].from > *from && l->own[k].from < end && l->own[k].to > l->own[k].from)
            end = l->own[k].from;
    return end - *from;
}

static dax_rc sidecar_look_at(struct sidecar_look *l, uint64_t from, uint64_t to,
                              struct dax_err *err)
{
    uint64_t most = SIDECAR_READ_STEP, len;
    struct guard_fault fault;
    while (from < to && (len = sidecar_look_next(l, &from, to)) > 0) {
        ssize_t n = pread(l->fd, l->buffer, len < most ? len : most, (off_t)from);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && most > DAX_PAGE_BYTES) {
            most = DAX_PAGE_BYTES; /* which page is it? */
            continue;
        }
        if (n < 0) {
            l->bad_page = from / DAX_PAGE_BYTES;
            return sidecar_unreadable(l->path, l->bad_page, errno, err);
        }
        if (n == 0)
            break; /* cut meanwhile: libpmemobj will notice */
        if (!guard_probe(l->map + from, (size_t)n, &fault)) {
            l->bad_page = fault.offset / DAX_PAGE_BYTES;
            return sidecar_unreadable(l->path, l->bad_page, EIO, err);
        }
        if (!l->root_known)
            sidecar_look_for_root(l, (size_t)n);
        from += (uint64_t)n;
    }
    return DAX_OK;
}

static dax_rc sidecar_look_at_all(int fd, const char *path, uint64_t bytes, uint64_t *bad_page_out,
                                  struct dax_err *err)
{
    struct sidecar_look l = {.fd = fd, .path = path, .bytes = bytes};
    uint64_t first = bytes < SIDECAR_READ_FIRST_BYTES ? bytes : SIDECAR_READ_FIRST_BYTES;
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    l.buffer = malloc(SIDECAR_READ_STEP);
    dax_rc rc = DAX_OK;
    if (!l.buffer || map == MAP_FAILED)
        rc = dax_err_set(err, DAX_NOMEM, 0, "no memory to open the log \"%s\"", path);
    if (rc == DAX_OK)
        rc = guard_map_add(map, bytes, 0, &sidecar_opening, err);
    l.map = map;
    if (rc == DAX_OK)
        rc = sidecar_look_at(&l, 0, first, err);
    if (!l.root_known && bytes > SIDECAR_READ_ALL_BYTES)
        first = bytes - SIDECAR_READ_LAST_BYTES;
    if (rc == DAX_OK)
        rc = sidecar_look_at(&l, first, bytes, err);
    free(l.buffer);
    if (map != MAP_FAILED) {
        guard_map_remove(map);
        munmap(map, bytes);
    }
    *bad_page_out = l.bad_page;
    return rc;
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
static dax_rc sidecar_precheck(int fd, const char *path, struct sidecar *s, struct dax_err *err)
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
        return sidecar_unreadable(path, 0, errno, err);
    static const char zeros[sizeof head];
    if (n == sizeof head && memcmp(head, zeros, sizeof head) == 0)
        return sidecar_not_ours(path, "it was not completely made", err);
    if (n < (ssize_t)sizeof head || memcmp(head, pool_signature, sizeof head) != 0)
        return sidecar_not_ours(path, "it is something else", err);
    if ((uint64_t)st.st_size < PMEMOBJ_MIN_POOL)
        return sidecar_not_ours(path, "it is truncated", err);
    dax_rc rc = sidecar_look_at_all(fd, path, (uint64_t)st.st_size, &s->bad_page, err);
    if (rc == DAX_OK)
        rc = sidecar_check_pool(fd, path, (uint64_t)st.st_size, &s->bad_page, err);
    if (rc != DAX_OK)
        return rc;

    int e = sidecar_fill(fd, st.st_size);
    if (e == ENOSPC || e == EDQUOT)
        return dax_err_set(err, DAX_FULL, e, "cannot allocate the %llu bytes of the log \"%s\"",
                           (unsigned long long)st.st_size, path);
    s->file_bytes = (uint64_t)st.st_size;
    return DAX_OK;
}

/* --- after it ------------------------------------------------------------------------------------ */

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
    case EIO: return dax_err_set(err, DAX_CANT_OPEN, errno, "cannot open the log \"%s\"", s->path);
    default: return sidecar_not_ours(s->path, pmemobj_errormsg(), err);
    }
}

/* In the file, and behind what libpmemobj has there. */
static bool sidecar_is_place(const struct sidecar *s, uint64_t offset, uint64_t bytes)
{
    return offset >= s->heap_from && offset <= s->file_bytes && bytes <= s->file_bytes - offset;
}

dax_rc sidecar_check_places(const struct sidecar *s, const struct sidecar_root *root,
                            struct dax_err *err)
{
    uint64_t align =
        root->version > DAX_SIDECAR_VERSION_OLDEST ? DAX_PAGE_BYTES : SIDECAR_RING_ALIGN_OLD;
    if (root->ring_offset % align != 0 || root->ring_bytes == 0 ||
        root->ring_bytes % DAX_PAGE_BYTES != 0 ||
        !sidecar_is_place(s, root->ring_offset, root->ring_bytes))
        return sidecar_not_ours(s->path, "its ring lies where no ring can be", err);
    if (root->twin_offset % align != 0 ||
        root->twin_offset < root->ring_offset + root->ring_bytes ||
        !sidecar_is_place(s, root->twin_offset, sizeof *s->twin))
        return sidecar_not_ours(s->path, "its twin lies where no twin can be", err);
    if (root->version == DAX_SIDECAR_VERSION_OLDEST || root->ledger_offset == 0)
        return DAX_OK;
    uint64_t end = root->twin_offset + sizeof *s->twin;
    if (root->ledger_offset % DAX_PAGE_BYTES != 0 || root->ledger_bytes != sizeof *s->ledger ||
        !sidecar_is_place(s, root->ledger_offset, root->ledger_bytes) ||
        (root->ledger_offset < end && root->ledger_offset + root->ledger_bytes > root->ring_offset))
        return sidecar_not_ours(s->path, "its ledger lies where no ledger can be", err);
    return DAX_OK;
}

static dax_rc sidecar_find_root(struct sidecar *s, struct sidecar_root *copy, struct dax_err *err)
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
    s->root = sidecar_root_address(s->pool, oid);
    s->heap_from = oid.off + root_bytes;
    if (!guard_copy(copy, s->root, offsetof(struct sidecar_root, cursor), NULL)) {
        s->bad_page = (uint64_t)((uint8_t *)s->root - (uint8_t *)s->pool) / DAX_PAGE_BYTES;
        return sidecar_media_error(s, s->root, err);
    }
    return DAX_OK;
}

static dax_rc sidecar_check_root(struct sidecar *s, struct dax_err *err)
{
    struct sidecar_root root = {0};
    dax_rc rc = sidecar_find_root(s, &root, err);
    if (rc != DAX_OK)
        return rc;
    static const char zeros[sizeof root.magic];
    if (memcmp(root.magic, zeros, sizeof zeros) == 0 && root.hash == 0)
        return sidecar_not_ours(s->path, "it was not completely made", err);
    /* The hash covers the same bytes in every version, so that it tells newer from damaged. */
    if (memcmp(root.magic, DAX_SIDECAR_MAGIC, sizeof root.magic) != 0 ||
        root.hash != sidecar_root_hash(&root))
        return sidecar_not_ours(s->path, "its root is damaged", err);
    if (root.version < DAX_SIDECAR_VERSION_OLDEST || root.version > DAX_SIDECAR_VERSION)
        return dax_err_set(err, DAX_CANT_OPEN, 0,
                           "the log \"%s\" has format %u, made by %s daxlite (this one knows %u to "
                           "%u): open and close the database with that one, then move the log away",
                           s->path, root.version,
                           root.version > DAX_SIDECAR_VERSION ? "a newer" : "an older",
                           DAX_SIDECAR_VERSION_OLDEST, DAX_SIDECAR_VERSION);
    rc = sidecar_check_places(s, &root, err);
    if (rc == DAX_OK)
        sidecar_take_places(s, &root);
    return rc == DAX_OK ? sidecar_keep_root_page(s, err) : rc;
}

void sidecar_take_places(struct sidecar *s, const struct sidecar_root *root)
{
    uint8_t *pool = s->pool;
    s->twin = (struct sidecar_twin *)(void *)(pool + root->twin_offset);
    s->ring = pool + root->ring_offset;
    s->ring_bytes = root->ring_bytes;
    s->has_note = root->version > DAX_SIDECAR_VERSION_OLDEST;
    s->has_places = root->version >= DAX_SIDECAR_VERSION_PLACES;
    s->seal_lines = DAX_SEALS + !s->has_places + !s->has_note;
    if (s->has_note && root->ledger_offset != 0)
        s->ledger = (struct sidecar_ledger *)(void *)(pool + root->ledger_offset);
    s->next_seal = sidecar_newest_seal(s) + 1;
}

dax_rc sidecar_guard(const struct sidecar *s, struct dax_err *err)
{
    return guard_map_add(s->pool, s->file_bytes, 0, &sidecar_opening, err);
}

dax_rc sidecar_open(const char *path, struct sidecar *out, struct dax_err *err)
{
    struct sidecar s = {.fd = -1};
    memset(out, 0, sizeof *out);
    int fd = sidecar_open_fd(path, O_RDWR | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0 && errno == EISDIR)
        return sidecar_not_ours(path, "it is a directory", err);
    if (fd < 0)
        return sidecar_open_error(path, errno, err);
    dax_rc rc = sidecar_precheck(fd, path, &s, err);
    if (rc == DAX_OK)
        rc = sidecar_init(&s, fd, path, err);
    if (rc == DAX_OK)
        rc = sidecar_open_pool(&s, err);
    if (rc != DAX_OK) {
        uint64_t bad_page = s.bad_page;
        sidecar_close(&s);
        close(fd);
        out->bad_page = bad_page;
        return rc;
    }
    s.fd = fd;
    rc = sidecar_guard(&s, err);
    if (rc == DAX_OK)
        rc = sidecar_check_root(&s, err);
    guard_map_remove(s.pool);
    if (rc == DAX_OK) {
        sidecar_populate(&s);
        *out = s;
    } else {
        uint64_t bad_page = s.bad_page;
        sidecar_close(&s);
        out->bad_page = bad_page;
    }
    return rc;
}
