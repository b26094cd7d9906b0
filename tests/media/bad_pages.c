/* bad_pages.c: the list of bad pages, and libc's calls with it in mind.
 *
 * The calls are plain functions of the program, which the dynamic linker finds before libc's. They go
 * on to the next definition (libc's or a sanitizer's) and so change nothing for files without bad pages.
 */
#include "tests/media/bad_pages.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/media/poison.h"

/* --- the list -------------------------------------------------------------------------------------- */

static struct bad {
    dev_t dev;
    ino_t ino;
    uint64_t page;
    unsigned ways; /* 0: free */
    char path[512];
} list[BAD_PAGES_MAX];

static unsigned listed; /* looked at without the lock: usually 0 */
static struct bad_counts counts;
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;

static struct bad *bad_find(dev_t dev, ino_t ino, uint64_t page)
{
    for (unsigned i = 0; i < BAD_PAGES_MAX; i++)
        if (list[i].ways && list[i].page == page && list[i].ino == ino && list[i].dev == dev)
            return &list[i];
    return NULL;
}

static struct bad *bad_find_path(const char *path, uint64_t page)
{
    struct stat st;
    if (stat(path, &st) == 0)
        return bad_find(st.st_dev, st.st_ino, page);
    return NULL;
}

static void bad_drop(struct bad *b)
{
    if (b->ways & BAD_MAPPED)
        poison_heal_file_page(b->path, b->page);
    b->ways = 0;
    __atomic_fetch_sub(&listed, 1, __ATOMIC_SEQ_CST);
}

static struct bad *bad_new(const char *path, uint64_t page)
{
    struct stat st;
    for (unsigned i = 0; i < BAD_PAGES_MAX && stat(path, &st) == 0; i++) {
        if (list[i].ways)
            continue;
        list[i] = (struct bad){.dev = st.st_dev, .ino = st.st_ino, .page = page};
        snprintf(list[i].path, sizeof list[i].path, "%s", path);
        __atomic_fetch_add(&listed, 1, __ATOMIC_SEQ_CST);
        return &list[i];
    }
    fprintf(stderr, "no room for bad page %llu of %s\n", (unsigned long long)page, path);
    abort();
}

/* The kernel poisons no address behind the file's end: such a page waits for the file to grow. */
static bool bad_in_file(const struct bad *b, const struct stat *st)
{
    return b->page < (uint64_t)st->st_size / POISON_PAGE_BYTES;
}

void bad_page_add(const char *path, uint64_t page, unsigned ways)
{
    struct stat st;
    pthread_mutex_lock(&list_lock);
    struct bad *b = bad_find_path(path, page);
    if (!b)
        b = bad_new(path, page);
    b->ways = ways;
    if ((ways & BAD_MAPPED) && stat(path, &st) == 0 && bad_in_file(b, &st))
        poison_file_page(path, page);
    pthread_mutex_unlock(&list_lock);
}

void bad_page_remove(const char *path, uint64_t page)
{
    pthread_mutex_lock(&list_lock);
    struct bad *b = bad_find_path(path, page);
    if (b)
        bad_drop(b);
    pthread_mutex_unlock(&list_lock);
}

bool bad_page_is(const char *path, uint64_t page)
{
    pthread_mutex_lock(&list_lock);
    bool is = bad_find_path(path, page) != NULL;
    pthread_mutex_unlock(&list_lock);
    return is;
}

void bad_pages_count(struct bad_counts *out)
{
    pthread_mutex_lock(&list_lock);
    *out = counts;
    pthread_mutex_unlock(&list_lock);
}

/* --- what a call meets ------------------------------------------------------------------------------ */

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define IN_FRONT __attribute__((visibility("default")))

static void (*_Atomic watcher)(const char *, uint64_t);

void bad_pages_watch(void (*fn)(const char *call, uint64_t page))
{
    atomic_store(&watcher, fn);
}

static bool bad_any(int fd, struct stat *st)
{
    return __atomic_load_n(&listed, __ATOMIC_SEQ_CST) != 0 && fstat(fd, st) == 0;
}

/* Tell the watcher of the pages of the list that lie in [offset, offset + len). */
static void bad_tell(const char *call, const struct stat *st, uint64_t offset, uint64_t len)
{
    uint64_t pages[BAD_PAGES_MAX];
    unsigned n = 0;
    void (*fn)(const char *, uint64_t) = atomic_load(&watcher);
    if (!fn)
        return;
    pthread_mutex_lock(&list_lock);
    for (unsigned i = 0; i < BAD_PAGES_MAX; i++) {
        uint64_t at = list[i].page * POISON_PAGE_BYTES;
        if (list[i].ways && list[i].ino == st->st_ino && list[i].dev == st->st_dev &&
            at < offset + len && offset < at + POISON_PAGE_BYTES)
            pages[n++] = list[i].page;
    }
    pthread_mutex_unlock(&list_lock);
    if (n == 0)
        return;
    atomic_store(&watcher, NULL);
    for (unsigned i = 0; i < n; i++)
        fn(call, pages[i]);
    atomic_store(&watcher, fn);
}

/* Is there a page that cannot be read in [offset, offset + len)? */
static bool bad_read(int fd, uint64_t offset, size_t len)
{
    struct stat st;
    if (!bad_any(fd, &st))
        return false;
    bad_tell("pread", &st, offset, len);
    pthread_mutex_lock(&list_lock);
    bool bad = false;
    for (unsigned i = 0; i < BAD_PAGES_MAX; i++) {
        uint64_t at = list[i].page * POISON_PAGE_BYTES;
        bad |= (list[i].ways & BAD_READ) && list[i].ino == st.st_ino && list[i].dev == st.st_dev &&
               at < offset + len && offset < at + POISON_PAGE_BYTES && at < (uint64_t)st.st_size;
    }
    counts.read += bad;
    pthread_mutex_unlock(&list_lock);
    return bad;
}

/* Pages of [offset, offset + len) are given new content, or their storage back. Returns an errno, or 0
 * and the pages are good. */
static int bad_write(int fd, uint64_t offset, uint64_t len, bool punched)
{
    struct stat st;
    int error = 0;
    if (!bad_any(fd, &st))
        return 0;
    bad_tell(punched ? "punch" : "pwrite", &st, offset, len);
    pthread_mutex_lock(&list_lock);
    for (unsigned i = 0; i < BAD_PAGES_MAX; i++) {
        struct bad *b = &list[i];
        uint64_t at = b->page * POISON_PAGE_BYTES;
        if (!b->ways || b->ino != st.st_ino || b->dev != st.st_dev || at >= offset + len ||
            offset >= at + POISON_PAGE_BYTES)
            continue;
        bool whole = offset <= at && at + POISON_PAGE_BYTES <= offset + len;
        if (!punched && (b->ways & BAD_STUCK))
            error = EIO;
        else if (!whole && !punched && (b->ways & BAD_READ))
            error = EFAULT;
        else if (whole) {
            bad_drop(b);
            counts.healed++;
        }
    }
    counts.written += error != 0;
    pthread_mutex_unlock(&list_lock);
    return error;
}

/* --- libc's calls ------------------------------------------------------------------------------------- */

static void *bad_map(void *map, size_t len, int prot, int flags, int fd, off_t offset)
{
    struct stat st;
    if (map == MAP_FAILED || fd < 0 || (flags & MAP_ANONYMOUS) || prot == PROT_NONE ||
        !bad_any(fd, &st))
        return map;
    pthread_mutex_lock(&list_lock);
    for (unsigned i = 0; i < BAD_PAGES_MAX; i++) {
        uint64_t at = list[i].page * POISON_PAGE_BYTES;
        if (!(list[i].ways & BAD_MAPPED) || list[i].ino != st.st_ino || list[i].dev != st.st_dev ||
            at < (uint64_t)offset || at - (uint64_t)offset >= len || !bad_in_file(&list[i], &st))
            continue;
        if (!poison_address((char *)map + (at - (uint64_t)offset))) {
            fprintf(stderr, "a new mapping cannot be poisoned: %s\n", strerror(errno));
            abort();
        }
        counts.mapped++;
    }
    pthread_mutex_unlock(&list_lock);
    return map;
}

IN_FRONT void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    void *map = NEXT(mmap)(addr, len, prot, flags, fd, offset);
    return bad_map(map, len, prot, flags, fd, offset);
}

IN_FRONT void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off64_t offset)
{
    return mmap(addr, len, prot, flags, fd, offset);
}

IN_FRONT ssize_t pread(int fd, void *buf, size_t len, off_t offset)
{
    if (bad_read(fd, (uint64_t)offset, len)) {
        errno = EIO;
        return -1;
    }
    return NEXT(pread)(fd, buf, len, offset);
}

IN_FRONT ssize_t pread64(int fd, void *buf, size_t len, off64_t offset)
{
    return pread(fd, buf, len, offset);
}

IN_FRONT ssize_t read(int fd, void *buf, size_t len)
{
    struct stat st;
    if (bad_any(fd, &st) && S_ISREG(st.st_mode)) {
        off_t at = lseek(fd, 0, SEEK_CUR);
        if (at >= 0 && bad_read(fd, (uint64_t)at, len)) {
            errno = EIO;
            return -1;
        }
    }
    return NEXT(read)(fd, buf, len);
}

/* The page is good before it is written, as seen through its mappings: nobody else may be looking. */
IN_FRONT ssize_t pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    int error = bad_write(fd, (uint64_t)offset, len, false);
    if (error) {
        errno = error;
        return -1;
    }
    return NEXT(pwrite)(fd, buf, len, offset);
}

IN_FRONT ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t offset)
{
    return pwrite(fd, buf, len, offset);
}

/* The file has grown: onto bad pages? They are in its mappings now. */
static void bad_grown(int fd, const struct stat *before)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || st.st_size <= before->st_size)
        return;
    pthread_mutex_lock(&list_lock);
    for (unsigned i = 0; i < BAD_PAGES_MAX; i++)
        if ((list[i].ways & BAD_MAPPED) && list[i].ino == st.st_ino && list[i].dev == st.st_dev &&
            bad_in_file(&list[i], &st) && !bad_in_file(&list[i], before))
            poison_file_page(list[i].path, list[i].page);
    pthread_mutex_unlock(&list_lock);
}

IN_FRONT int fallocate(int fd, int mode, off_t offset, off_t len)
{
    struct stat before;
    bool any = bad_any(fd, &before);
    int rc = NEXT(fallocate)(fd, mode, offset, len);
    if (rc == 0 && (mode & FALLOC_FL_PUNCH_HOLE))
        (void)bad_write(fd, (uint64_t)offset, (uint64_t)len, true);
    else if (rc == 0 && any)
        bad_grown(fd, &before);
    return rc;
}

IN_FRONT int fallocate64(int fd, int mode, off64_t offset, off64_t len)
{
    return fallocate(fd, mode, offset, len);
}
