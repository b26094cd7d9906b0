/* hooks.c: takes over what the engine does to persistence.
 *
 * Addresses become offsets in the files, system calls on their descriptors become operations of the
 * trace. In a process that records, the real calls are made as well, but for syncs, which mean
 * nothing on the tests' own file system. For the cache-line rules there is a table of persist operations here;
 * in msync mode everything is a system call, so the engine's own table runs, page cache and what goes past it
 * included.
 *
 * Forced here: the persistence mode that the rules are for (a tmpfs would be "volatile", and leave
 * out the syncs of sizes), random numbers from a seed, and on request a ring that is a part of what
 * the pool has, so that it wraps soon and is searched fast.
 */
#include "hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <libpmemobj.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/medium.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define FDS 1024

enum fd_role {
    FD_OTHER,
    FD_BASE,
    FD_SIDE,
    FD_DIR
};

struct hooks hooks = {.drop = DROP_NONE};

static uint8_t fd_roles[FDS];
static int fd_flags[FDS];     /* of its open */
static int current_tag = -1;  /* point that is being passed */
static bool current_drop;     /* it is to be left out: what it stores is stored, and not durable */
static int current_mark = -1; /* DROP_MARK_..., while the mark is being changed */

int __real_open(const char *path, int flags, ...);
int __real_close(int fd);
ssize_t __real_pwrite(int fd, const void *buf, size_t len, off_t offset);
off_t __real_lseek(int fd, off_t offset, int whence);
int __real_madvise(void *addr, size_t len, int advice);
int __real_ftruncate(int fd, off_t size);
int __real_fallocate(int fd, int mode, off_t offset, off_t len);
int __real_rename(const char *from, const char *to);
int __real_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __real_unlink(const char *path);
PMEMobjpool *__real_pmemobj_open(const char *path, const char *layout);
void __real_pmemobj_close(PMEMobjpool *pool);
void __real_persist_init(struct persist *p, enum persist_mode mode, int base_fd);
void __real_persist_visible(struct persist *p);
dax_rc __real_persist_point(struct persist *p, enum persist_tag tag, struct dax_err *err);
dax_rc __real_mark_set(struct persist *p, uint8_t *header, const struct mark *m,
                       struct dax_err *err);
dax_rc __real_mark_sweep(struct persist *p, uint8_t *header, struct dax_err *err);
dax_rc __real_mark_clear(struct persist *p, uint8_t *header, const struct mark *m,
                         struct dax_err *err);
dax_rc __real_medium_detect(int fd, const char *path, enum medium_choice choice, struct medium *out,
                            struct dax_err *err);
dax_rc __real_base_map(struct base *b, bool map_sync, uint64_t map_bytes_min, struct dax_err *err);
dax_rc __real_sidecar_create(const char *path, const struct stat *like, uint64_t bytes,
                             struct sidecar *out, struct dax_err *err);
dax_rc __real_sidecar_open(const char *path, struct sidecar *out, struct dax_err *err);
dax_rc __real_sidecar_check_pool(int fd, const char *path, uint64_t bytes, uint64_t *bad_page_out,
                                 struct dax_err *err);

int hooks_real_open(const char *path, int flags)
{
    return __real_open(path, flags, 0600);
}

void hooks_real_close(int fd)
{
    (void)__real_close(fd);
}

const char *hooks_drop_name(int drop)
{
    static char tag[16];
    static const char *const names[] = {[DROP_MARK_SET_FENCE - PERSIST_TAGS] = "mark-set-fence",
                                        [DROP_MARK_WIPE_FENCE - PERSIST_TAGS] = "mark-wipe-fence",
                                        [DROP_BASE_SIZE - PERSIST_TAGS] = "base-size",
                                        [DROP_SIDE_CONTENT - PERSIST_TAGS] = "sidecar-content",
                                        [DROP_DIRECTORY - PERSIST_TAGS] = "directory"};
    if (drop >= PERSIST_TAGS)
        return names[drop - PERSIST_TAGS];
    snprintf(tag, sizeof tag, "P%d", drop + 1);
    return tag;
}

static struct op *hooks_record(enum op_kind kind, enum image_file f, uint64_t offset, uint64_t len,
                               const void *bytes)
{
    static struct op ignored;
    return hooks.record ? trace_add(hooks.record, kind, f, offset, len, bytes) : &ignored;
}

/* To be left out? */
static bool hooks_drops(int what)
{
    hooks.drops += hooks.drop == what;
    return hooks.drop == what;
}

/* --- persist operations ---------------------------------------------------------------------------- */

static struct store *hooks_store_of(struct persist *p)
{
    return (struct store *)((char *)p - offsetof(struct store, persist));
}

static void hooks_locate(const struct store *s, const uint8_t *at, enum image_file *file,
                         uint64_t *offset)
{
    const uint8_t *base = atomic_load(&s->base.addr), *pool = s->sidecar.pool;
    if (base && at >= base && at < base + atomic_load(&s->base.map_bytes)) {
        *file = FILE_BASE;
        *offset = (uint64_t)(at - base);
        return;
    }
    if (pool && at >= pool && at < pool + s->sidecar.file_bytes) {
        *file = FILE_SIDE;
        *offset = (uint64_t)(at - pool);
        return;
    }
    for (unsigned i = 0; s->base.scratch_start && i < BASE_SCRATCH_CHUNKS; i++) {
        const uint8_t *chunk = atomic_load(&s->base.scratch_chunks[i]);
        if (chunk && at >= chunk && at < chunk + DAX_SCRATCH_CHUNK_BYTES) {
            *file = FILE_BASE;
            *offset = s->base.scratch_start + i * DAX_SCRATCH_CHUNK_BYTES + (uint64_t)(at - chunk);
            return;
        }
    }
    hooks_must(false, "a store that hits neither file");
}

static void model_store_as(enum op_kind kind, struct persist *p, void *dst, const void *src, size_t len)
{
    struct store *s = hooks_store_of(p);
    if (s == hooks.store && len > 0) {
        enum image_file f;
        uint64_t offset;
        hooks_locate(s, dst, &f, &offset);
        if (hooks.undo)
            image_note(f, offset, len);
        hooks_record(kind, f, offset, len, src);
    }
    memcpy(dst, src, len);
}

static void model_store(struct persist *p, void *dst, const void *src, size_t len)
{
    model_store_as(OP_STORE, p, dst, src, len);
}

static void model_store_cached(struct persist *p, void *dst, const void *src, size_t len)
{
    model_store_as(OP_CACHED, p, dst, src, len);
}

static void model_flush(struct persist *p, const void *addr, size_t len)
{
    struct store *s = hooks_store_of(p);
    enum image_file f;
    uint64_t offset;
    if (s != hooks.store || len == 0)
        return;
    hooks_locate(s, addr, &f, &offset);
    hooks_record(OP_FLUSH, f, offset, len, NULL);
}

static void model_zero(struct persist *p, void *dst, size_t len)
{
    static const uint8_t zeros[DAX_PAGE_BYTES];
    for (size_t at = 0, n; at < len; at += n) {
        n = len - at < sizeof zeros ? len - at : sizeof zeros;
        model_store(p, (uint8_t *)dst + at, zeros, n);
    }
}

static void model_fence(struct persist *p)
{
    if (hooks_store_of(p) == hooks.store && !current_drop)
        hooks_record(OP_FENCE, FILE_BASE, 0, 0, NULL)->tag = current_tag;
}

static int model_sync(struct persist *p)
{
    model_fence(p);
    return 0;
}

static const struct persist_ops model_ops = {
    .store = model_store,
    .zero = model_zero,
    .store_cached = model_store_cached,
    .flush = model_flush,
    .fence = model_fence,
    .sync_log = model_sync,
    .sync_base = model_sync,
};

/* The engine's own operations of msync mode. The newest record is told of: a write of whole blocks has
 * more in it. */
static const struct persist_ops *msync_ops;

static void msync_store(struct persist *p, void *dst, const void *src, size_t len)
{
    if ((uintptr_t)dst - p->ring < p->ring_bytes && hooks_store_of(p) == hooks.store)
        hooks_record(OP_RECORD, FILE_SIDE, (uintptr_t)dst - p->sidecar, len, NULL);
    msync_ops->store(p, dst, src, len);
}

void __wrap_persist_init(struct persist *p, enum persist_mode mode, int base_fd)
{
    static struct persist_ops told;
    __real_persist_init(p, mode, base_fd);
    if (hooks.rules == RULES_MSYNC) {
        hooks_must(mode == PERSIST_MSYNC, "not in msync mode");
        told = *p->ops;
        msync_ops = p->ops;
        told.store = msync_store;
        p->ops = &told;
    } else {
        p->ops = &model_ops;
    }
    struct store *s = hooks_store_of(p);
    if (s->base.path && strcmp(s->base.path, image.path[FILE_BASE]) == 0)
        hooks.store = s;
    else if (hooks.store == s)
        hooks.store = NULL;
}

void __wrap_persist_visible(struct persist *p)
{
    if (current_mark < 0 || !hooks_drops(current_mark))
        __real_persist_visible(p);
}

dax_rc __wrap_persist_point(struct persist *p, enum persist_tag tag, struct dax_err *err)
{
    current_drop = hooks_drops((int)tag);
    current_tag = (int)tag;
    dax_rc rc = __real_persist_point(p, tag, err);
    current_tag = -1;
    p->sidecar_dirty |= current_drop; /* the next point's turn, if it is another one */
    current_drop = false;
    return rc;
}

dax_rc __wrap_mark_set(struct persist *p, uint8_t *header, const struct mark *m,
                       struct dax_err *err)
{
    current_mark = DROP_MARK_SET_FENCE;
    dax_rc rc = __real_mark_set(p, header, m, err);
    current_mark = -1;
    return rc;
}

dax_rc __wrap_mark_clear(struct persist *p, uint8_t *header, const struct mark *m,
                         struct dax_err *err)
{
    current_mark = DROP_MARK_WIPE_FENCE;
    dax_rc rc = __real_mark_clear(p, header, m, err);
    current_mark = -1;
    return rc;
}

dax_rc __wrap_mark_sweep(struct persist *p, uint8_t *header, struct dax_err *err)
{
    current_mark = DROP_MARK_WIPE_FENCE;
    dax_rc rc = __real_mark_sweep(p, header, err);
    current_mark = -1;
    return rc;
}

/* --- modes and sizes ------------------------------------------------------------------------------- */

dax_rc __wrap_medium_detect(int fd, const char *path, enum medium_choice choice, struct medium *out,
                            struct dax_err *err)
{
    dax_rc rc = __real_medium_detect(fd, path, choice, out, err);
    if (rc == DAX_OK)
        out->mode = hooks.rules == RULES_FENCE ? PERSIST_PMEM : PERSIST_MSYNC;
    return rc;
}

/* A tmpfs has no MAP_SYNC. */
dax_rc __wrap_base_map(struct base *b, bool map_sync, uint64_t map_bytes_min, struct dax_err *err)
{
    (void)map_sync;
    return __real_base_map(b, false, map_bytes_min, err);
}

static void hooks_note_sidecar(struct sidecar *s)
{
    const uint8_t *pool = s->pool;
    hooks.root_from = (uint64_t)((const uint8_t *)s->root - pool);
    hooks.root_to = hooks.root_from + sizeof *s->root;
    hooks.ring_from = (uint64_t)(s->ring - pool);
    hooks.twin_from = (uint64_t)((const uint8_t *)s->twin - pool);
    hooks.twin_to = hooks.twin_from + sizeof *s->twin;
    hooks_must(hooks.twin_from == hooks.ring_from + s->ring_bytes,
               "the twin is not behind the ring");
    if (hooks.ring_bytes_max && hooks.ring_bytes_max < s->ring_bytes)
        s->ring_bytes = hooks.ring_bytes_max;
}

dax_rc __wrap_sidecar_create(const char *path, const struct stat *like, uint64_t bytes,
                             struct sidecar *out, struct dax_err *err)
{
    dax_rc rc = __real_sidecar_create(path, like, bytes, out, err);
    if (rc == DAX_OK)
        hooks_note_sidecar(out);
    return rc;
}

dax_rc __wrap_sidecar_open(const char *path, struct sidecar *out, struct dax_err *err)
{
    dax_rc rc = __real_sidecar_open(path, out, err);
    if (rc == DAX_OK)
        hooks_note_sidecar(out);
    return rc;
}

/* Never 0, never the same twice in a run. */
ssize_t __wrap_getrandom(void *buf, size_t len, unsigned flags)
{
    (void)flags;
    for (size_t i = 0; i < len; i++) {
        hooks.random = hooks.random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        ((uint8_t *)buf)[i] = (uint8_t)(hooks.random >> 56);
    }
    return (ssize_t)len;
}

/* --- the pool -------------------------------------------------------------------------------------- */

void hooks_open_pool(void)
{
    bool hidden = image.name[FILE_SIDE] != NAME_OWN;
    hooks.pool = __real_pmemobj_open(hidden ? image.hidden[FILE_SIDE] : image.path[FILE_SIDE],
                                     DAX_SIDECAR_LAYOUT);
    hooks_must(hooks.pool, "pmemobj_open: %s", pmemobj_errormsg());
    hooks.pool_cached = true;
    hooks.pool_checked = false;
}

void hooks_close_pool(void)
{
    hooks.pool_cached = false;
    if (hooks.pool)
        __real_pmemobj_close(hooks.pool);
    hooks.pool = NULL;
}

PMEMobjpool *__wrap_pmemobj_open(const char *path, const char *layout)
{
    if (hooks.pool_cached && strcmp(path, image.path[FILE_SIDE]) == 0)
        return hooks.pool;
    return __real_pmemobj_open(path, layout);
}

void __wrap_pmemobj_close(PMEMobjpool *pool)
{
    if (!hooks.pool || pool != hooks.pool)
        __real_pmemobj_close(pool);
}

/* --- system calls ---------------------------------------------------------------------------------- */

static bool hooks_is_unfinished(const char *path)
{
    size_t n = strlen(image.path[FILE_SIDE]);
    return strncmp(path, image.path[FILE_SIDE], n) == 0 && strcmp(path + n, "-new") == 0;
}

static enum fd_role hooks_role(const char *path)
{
    if (strcmp(path, image.path[FILE_BASE]) == 0)
        return FD_BASE;
    if (strcmp(path, image.path[FILE_SIDE]) == 0 || hooks_is_unfinished(path))
        return FD_SIDE;
    return strcmp(path, image.dir) == 0 ? FD_DIR : FD_OTHER;
}

static enum fd_role hooks_fd(int fd)
{
    return fd >= 0 && fd < FDS ? (enum fd_role)fd_roles[fd] : FD_OTHER;
}

static enum image_file hooks_file(enum fd_role role)
{
    return role == FD_BASE ? FILE_BASE : FILE_SIDE;
}

int __wrap_open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    int mode = flags & O_CREAT ? va_arg(ap, int) : 0;
    va_end(ap);
    enum fd_role role = hooks_role(path);
    bool made = flags & O_CREAT && role != FD_OTHER && access(path, F_OK) != 0;
    hooks_must(!made || !hooks.undo, "a state that is checked in place makes %s", path);
    /* Not every tmpfs does O_DIRECT; what it changes is taken down here. */
    int fd = __real_open(path, role == FD_SIDE ? flags & ~O_DIRECT : flags, mode);
    if (fd < 0)
        return fd;
    hooks_must(fd < FDS, "too many descriptors");
    fd_roles[fd] = (uint8_t)role;
    fd_flags[fd] = flags;
    if (made)
        hooks_record(OP_NAME, hooks_file(role),
                     hooks_is_unfinished(path) ? NAME_UNFINISHED : NAME_OWN, 0, NULL);
    return fd;
}

int __wrap_close(int fd)
{
    if (fd >= 0 && fd < FDS)
        fd_roles[fd] = FD_OTHER;
    return __real_close(fd);
}

/* Past the page cache. What was in it of the same place is written out first, so a sector that is written as it
 * is there is no news. */
static void hooks_record_direct(int fd, const uint8_t *bytes, size_t len, uint64_t offset)
{
    const uint8_t *now = hooks.store->sidecar.pool + offset;
    const size_t sector = 512;
    hooks_must(hooks_fd(fd) == FD_SIDE && offset % sector == 0 && len % sector == 0,
               "a direct write that is not of sectors, or not of the sidecar's");
    for (size_t at = 0; at < len; at += sector)
        if (memcmp(now + at, bytes + at, sector) != 0)
            hooks_record(OP_WRITE, FILE_SIDE, offset + at, sector, bytes + at);
    if (fd_flags[fd] & O_DSYNC && !current_drop)
        hooks_record(OP_SYNC_LOG, FILE_SIDE, offset, len, NULL)->tag = current_tag;
}

ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    enum fd_role role = hooks_fd(fd);
    struct stat st;
    if (role == FD_BASE || role == FD_SIDE) {
        hooks_must(fstat(fd, &st) == 0, "fstat");
        bool extends = offset + (off_t)len > st.st_size;
        hooks_must(!extends || offset == st.st_size, "a pwrite that leaves a gap");
        if (hooks.undo && !extends)
            image_note(hooks_file(role), (uint64_t)offset, len);
        else if (hooks.undo)
            image_note_size((uint64_t)offset + len);
        if (extends)
            hooks_record(OP_SIZE, hooks_file(role), (uint64_t)offset + len, len, buf);
        else if (fd_flags[fd] & O_DIRECT)
            hooks_record_direct(fd, buf, len, (uint64_t)offset);
        else
            hooks_record(OP_WRITE, hooks_file(role), (uint64_t)offset, len, buf);
    }
    return __real_pwrite(fd, buf, len, offset);
}

/* The files of an image that is checked in place have been stored to everywhere, and every page of them
 * can be read: no holes to fill, and no bad pages of libpmemobj's to look for, which would read all of its
 * part (what is read there is used for nothing else). And there are no page faults to take ahead. All of
 * that would be two thirds of the time of a check. */
off_t __wrap_lseek(int fd, off_t offset, int whence)
{
    if (hooks.undo && whence == SEEK_HOLE && hooks_fd(fd) == FD_SIDE)
        return (off_t)image.size[FILE_SIDE];
    if (hooks.undo && whence == SEEK_DATA && hooks_fd(fd) == FD_SIDE) {
        errno = ENXIO;
        return -1;
    }
    return __real_lseek(fd, offset, whence);
}

int __wrap_madvise(void *addr, size_t len, int advice)
{
    return hooks.undo && advice == MADV_POPULATE_WRITE ? 0 : __real_madvise(addr, len, advice);
}

/* An image is checked in place only while libpmemobj's part is what the open pool had: once is enough. */
dax_rc __wrap_sidecar_check_pool(int fd, const char *path, uint64_t bytes, uint64_t *bad_page_out,
                                 struct dax_err *err)
{
    bool in_place = hooks.undo && hooks.pool_cached && hooks_fd(fd) == FD_SIDE;
    if (in_place && hooks.pool_checked)
        return DAX_OK;
    dax_rc rc = __real_sidecar_check_pool(fd, path, bytes, bad_page_out, err);
    hooks.pool_checked |= in_place && rc == DAX_OK;
    return rc;
}

int __wrap_ftruncate(int fd, off_t size)
{
    enum fd_role role = hooks_fd(fd);
    if (role == FD_BASE || role == FD_SIDE) {
        if (hooks.undo)
            image_note_size((uint64_t)size);
        hooks_record(OP_SIZE, hooks_file(role), (uint64_t)size, 0, NULL);
    }
    return __real_ftruncate(fd, size);
}

/* In place, space is not allocated ahead of the stores: what is only allocated reads like a hole, and
 * the pages would be half of the time of a check. */
int __wrap_fallocate(int fd, int mode, off_t offset, off_t len)
{
    enum fd_role role = hooks_fd(fd);
    struct stat st;
    if (role != FD_BASE && role != FD_SIDE)
        return __real_fallocate(fd, mode, offset, len);
    hooks_must(fstat(fd, &st) == 0, "fstat");
    hooks_must(!(mode & FALLOC_FL_PUNCH_HOLE), "a growth that failed is not modelled");
    bool grows = mode == 0 && offset + len > st.st_size;
    int e = 0;
    if (!hooks.undo) {
        e = __real_fallocate(fd, mode, offset, len);
    } else if (grows) {
        image_note_size((uint64_t)(offset + len));
        e = __real_ftruncate(fd, offset + len);
    }
    if (e == 0 && grows)
        hooks_record(OP_SIZE, hooks_file(role), (uint64_t)(offset + len), 0, NULL);
    return e;
}

/* What libpmemobj has stored since: page by page, whatever is not zero. */
static void hooks_record_pool(int fd)
{
    static const uint8_t zeros[DAX_PAGE_BYTES];
    uint8_t page[DAX_PAGE_BYTES];
    for (off_t at = 0; pread(fd, page, sizeof page, at) == (ssize_t)sizeof page;
         at += (off_t)sizeof page)
        if (memcmp(page, zeros, sizeof page) != 0)
            hooks_record(OP_POOL, FILE_SIDE, (uint64_t)at, sizeof page, page);
}

static int hooks_fsync(int fd, int drop)
{
    enum fd_role role = hooks_fd(fd);
    if (role == FD_OTHER || !hooks.record || current_drop || (drop != DROP_NONE && hooks_drops(drop)))
        return 0;
    if (role == FD_DIR)
        hooks_record(OP_FSYNC_DIR, FILE_BASE, 0, 0, NULL);
    else
        hooks_record(OP_FSYNC, hooks_file(role), 0, 0, NULL)->tag = current_tag;
    return 0;
}

static bool hooks_pool_recorded;

int __wrap_fsync(int fd)
{
    enum fd_role role = hooks_fd(fd);
    if (role == FD_SIDE && hooks.record && !hooks_pool_recorded) {
        hooks_record_pool(fd);
        hooks_pool_recorded = true;
    }
    return hooks_fsync(fd, role == FD_BASE   ? DROP_BASE_SIZE
                           : role == FD_SIDE ? DROP_SIDE_CONTENT
                                             : DROP_DIRECTORY);
}

int __wrap_fdatasync(int fd)
{
    return hooks_fsync(fd, DROP_NONE);
}

static void hooks_renamed(const char *from, const char *to)
{
    if (hooks_role(from) == FD_SIDE && hooks_role(to) == FD_SIDE)
        hooks_record(OP_NAME, FILE_SIDE, NAME_OWN, 0, NULL);
}

int __wrap_rename(const char *from, const char *to)
{
    int e = __real_rename(from, to);
    if (e == 0)
        hooks_renamed(from, to);
    return e;
}

int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    int e = __real_renameat2(from_fd, from, to_fd, to, flags);
    if (e == 0)
        hooks_renamed(from, to);
    return e;
}

int __wrap_unlink(const char *path)
{
    if (hooks_is_unfinished(path))
        hooks_pool_recorded = false;
    int e = __real_unlink(path);
    if (e == 0 && hooks_role(path) == FD_SIDE)
        hooks_record(OP_NAME, FILE_SIDE, NAME_ABSENT, 0, NULL);
    return e;
}
