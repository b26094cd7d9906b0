/* inject.c: see inject.h. Each __wrap_ function stands between the engine or the VFS and the
 * function of that name. */
#include "tests/fault/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <libpmemobj.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "engine/frames.h"

static struct {
    bool armed;
    struct fault fault;
    uint64_t calls; /* of the class, while armed */
    uint64_t hits;
} now;

static struct fault_balance balance;
static uint64_t calls[FAULT_CLASS_COUNT];

const char *fault_class_text(enum fault_class c)
{
    static const char *const text[FAULT_CLASS_COUNT] = {
#define FAULT_TEXT(name, words) [FAULT_##name] = words,
        FAULT_CLASSES(FAULT_TEXT)
#undef FAULT_TEXT
    };
    return c < FAULT_CLASS_COUNT ? text[c] : "nothing";
}

void fault_arm(const struct fault *f)
{
    now.fault = *f;
    now.calls = now.hits = 0;
    now.armed = true;
}

uint64_t fault_disarm(void)
{
    now.armed = false;
    return now.hits;
}

bool fault_hit(enum fault_class c)
{
    calls[c] += now.armed;
    if (!now.armed || now.fault.class != c)
        return false;
    now.calls++;
    bool hit = now.fault.sticky ? now.calls >= now.fault.nth : now.calls == now.fault.nth;
    if (hit) {
        now.hits++;
        errno = now.fault.code;
    }
    return hit;
}

uint64_t fault_calls(enum fault_class c)
{
    return calls[c];
}

int fault_code(void)
{
    return now.fault.code;
}

struct fault_balance fault_balance(void)
{
    return balance;
}

/* --- heap ------------------------------------------------------------------------------------- */

static void *counted(void *p)
{
    if (p)
        balance.allocations++;
    return p;
}

void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n)
{
    return fault_hit(FAULT_HEAP) ? NULL : counted(malloc(n));
}

void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
    return fault_hit(FAULT_HEAP) ? NULL : counted(calloc(n, size));
}

void *__wrap_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n)
{
    if (fault_hit(FAULT_HEAP))
        return NULL;
    return p ? realloc(p, n) : counted(malloc(n));
}

void *__wrap_aligned_alloc(size_t align, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n)
{
    return fault_hit(FAULT_HEAP) ? NULL : counted(aligned_alloc(align, n));
}

char *__wrap_strdup(const char *s);
char *__wrap_strdup(const char *s)
{
    return fault_hit(FAULT_HEAP) ? NULL : counted(strdup(s));
}

char *__wrap_strndup(const char *s, size_t n);
char *__wrap_strndup(const char *s, size_t n)
{
    return fault_hit(FAULT_HEAP) ? NULL : counted(strndup(s, n));
}

int __wrap_asprintf(char **out, const char *fmt, ...);
int __wrap_asprintf(char **out, const char *fmt, ...)
{
    if (fault_hit(FAULT_HEAP)) {
        *out = (char *)(uintptr_t)0x51; /* undefined after a failure */
        return -1;
    }
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(out, fmt, ap);
    va_end(ap);
    if (n >= 0)
        counted(*out);
    return n;
}

char *__wrap_realpath(const char *path, char *out);
char *__wrap_realpath(const char *path, char *out)
{
    if (fault_hit(FAULT_HEAP))
        return NULL;
    char *p = realpath(path, out);
    return out ? p : counted(p);
}

void __wrap_free(void *p);
void __wrap_free(void *p)
{
    if (p)
        balance.allocations--;
    free(p);
}

static sqlite3_mem_methods sqlite_heap;

static void *sqlite_malloc(int n)
{
    return fault_hit(FAULT_SQLITE_HEAP) ? NULL : sqlite_heap.xMalloc(n);
}

static void *sqlite_realloc(void *p, int n)
{
    return fault_hit(FAULT_SQLITE_HEAP) ? NULL : sqlite_heap.xRealloc(p, n);
}

void fault_init(void)
{
    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &sqlite_heap);
    sqlite3_mem_methods failing = sqlite_heap;
    failing.xMalloc = sqlite_malloc;
    failing.xRealloc = sqlite_realloc;
    sqlite3_config(SQLITE_CONFIG_MALLOC, &failing);
    /* Every allocation is one of the heap. */
    sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0);
}

uint32_t __wrap_frames_take(struct region *r);
uint32_t __wrap_frames_take(struct region *r)
{
    return fault_hit(FAULT_FRAMES) ? 0 : frames_take(r);
}

uint32_t __wrap_frames_take_marker(struct region *r);
uint32_t __wrap_frames_take_marker(struct region *r)
{
    return fault_hit(FAULT_FRAMES) ? 0 : frames_take_marker(r);
}

/* --- files ------------------------------------------------------------------------------------ */

/* Functions that answer -1 and set errno. */
#define WRAP(class, name, parameters, arguments)                                                   \
    int __wrap_##name parameters;                                                                  \
    int __wrap_##name parameters                                                                   \
    {                                                                                              \
        return fault_hit(FAULT_##class) ? -1 : name arguments;                                     \
    }

WRAP(FALLOCATE, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n))
WRAP(FTRUNCATE, ftruncate, (int fd, off_t n), (fd, n))
WRAP(MADVISE, madvise, (void *p, size_t n, int advice), (p, n, advice))
WRAP(FSYNC, fsync, (int fd), (fd))
WRAP(FDATASYNC, fdatasync, (int fd), (fd))
WRAP(RENAME, rename, (const char *a, const char *b), (a, b))
WRAP(RENAME, renameat2, (int da, const char *a, int db, const char *b, unsigned flags),
     (da, a, db, b, flags))
WRAP(UNLINK, unlink, (const char *path), (path))
WRAP(STAT, stat, (const char *path, struct stat *st), (path, st))
WRAP(STAT, lstat, (const char *path, struct stat *st), (path, st))
WRAP(STAT, fstat, (int fd, struct stat *st), (fd, st))
WRAP(STAT, fstatfs, (int fd, struct statfs *st), (fd, st))
WRAP(RIGHTS, fchmod, (int fd, mode_t mode), (fd, mode))
WRAP(RIGHTS, fchown, (int fd, uid_t user, gid_t group), (fd, user, group))

off_t __wrap_lseek(int fd, off_t at, int whence);
off_t __wrap_lseek(int fd, off_t at, int whence)
{
    return fault_hit(FAULT_LSEEK) ? -1 : lseek(fd, at, whence);
}

ssize_t __wrap_read(int fd, void *buf, size_t n);
ssize_t __wrap_read(int fd, void *buf, size_t n)
{
    return fault_hit(FAULT_READ) ? -1 : read(fd, buf, n);
}

ssize_t __wrap_pread(int fd, void *buf, size_t n, off_t at);
ssize_t __wrap_pread(int fd, void *buf, size_t n, off_t at)
{
    return fault_hit(FAULT_READ) ? -1 : pread(fd, buf, n, at);
}

ssize_t __wrap_pwrite(int fd, const void *buf, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *buf, size_t n, off_t at)
{
    return fault_hit(FAULT_PWRITE) ? -1 : pwrite(fd, buf, n, at);
}

int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return fault_hit(FAULT_OPEN) ? -1 : open(path, flags, mode);
}

int __wrap_fcntl(int fd, int cmd, ...);
int __wrap_fcntl(int fd, int cmd, ...)
{
    va_list ap;
    va_start(ap, cmd);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    bool unlock = cmd == F_OFD_SETLK && ((struct flock *)arg)->l_type == F_UNLCK;
    return !unlock && fault_hit(FAULT_LOCK) ? -1 : fcntl(fd, cmd, arg);
}

void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
    if (fault_hit(FAULT_MMAP))
        return MAP_FAILED;
    void *p = mmap(at, n, prot, flags, fd, offset);
    if (p != MAP_FAILED && !(flags & MAP_FIXED))
        balance.mapped_bytes += (int64_t)n;
    return p;
}

int __wrap_munmap(void *p, size_t n);
int __wrap_munmap(void *p, size_t n)
{
    balance.mapped_bytes -= (int64_t)n;
    return munmap(p, n);
}

/* --- libpmemobj ------------------------------------------------------------------------------- */

PMEMobjpool *__wrap_pmemobj_create(const char *path, const char *layout, size_t n, mode_t mode);
PMEMobjpool *__wrap_pmemobj_create(const char *path, const char *layout, size_t n, mode_t mode)
{
    return fault_hit(FAULT_PMEMOBJ) ? NULL : pmemobj_create(path, layout, n, mode);
}

PMEMobjpool *__wrap_pmemobj_open(const char *path, const char *layout);
PMEMobjpool *__wrap_pmemobj_open(const char *path, const char *layout)
{
    return fault_hit(FAULT_PMEMOBJ) ? NULL : pmemobj_open(path, layout);
}

PMEMoid __wrap_pmemobj_root(PMEMobjpool *pool, size_t n);
PMEMoid __wrap_pmemobj_root(PMEMobjpool *pool, size_t n)
{
    return fault_hit(FAULT_PMEMOBJ) ? OID_NULL : pmemobj_root(pool, n);
}

int __wrap_pmemobj_alloc(PMEMobjpool *pool, PMEMoid *out, size_t n, uint64_t type,
                         pmemobj_constr constructor, void *arg);
int __wrap_pmemobj_alloc(PMEMobjpool *pool, PMEMoid *out, size_t n, uint64_t type,
                         pmemobj_constr constructor, void *arg)
{
    return fault_hit(FAULT_PMEMOBJ) ? -1 : pmemobj_alloc(pool, out, n, type, constructor, arg);
}

WRAP(PMEMOBJ, pmemobj_ctl_get, (PMEMobjpool * pool, const char *name, void *arg), (pool, name, arg))
WRAP(PMEMOBJ, pmemobj_ctl_set, (PMEMobjpool * pool, const char *name, void *arg), (pool, name, arg))
