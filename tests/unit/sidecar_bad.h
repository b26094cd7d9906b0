/* sidecar_bad.h: a sidecar with bad pages, for tests of what is done about them.
 *
 * Bad pages of the file: pread fails there. Bad pages of the mapping: another file, an empty one, is
 * mapped over them, so that any access is a SIGBUS. Linked with --wrap of what stands at the top.
 */
#ifndef DAX_TESTS_UNIT_SIDECAR_BAD_H
#define DAX_TESTS_UNIT_SIDECAR_BAD_H

#include <libpmemobj.h>
#include <signal.h>
#include <sys/mman.h>

#include "engine/guard.h"
#include "engine/hash.h"
#include "engine/ledger.h"
#include "engine/media.h"
#include "engine/sidecar.h"
#include "tests/unit/unit.h"

#define BYTES (8 * DAX_MIB)
#define PAGE ((uint64_t)DAX_PAGE_BYTES)

/* libpmemobj 1.12 keeps what it has allocated when it finds a pool's heap larger than the file. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libpmemobj";
}

/* --- system calls that fail ----------------------------------------------------------------------- */

#define NONE UINT64_MAX

static uint64_t bad_page = NONE; /* of the file */
static uint64_t bytes_read, pools_opened, punched, synced;
static int pwrite_error; /* until a hole is punched, or for ever */
static bool punch_helps;
static size_t torn_at =
    SIZE_MAX; /* pwrite of a page: keep a copy of the file when so much is stored */
static const char *torn_from, *torn_copy;

ssize_t __real_pread(int fd, void *buf, size_t len, off_t offset);
ssize_t __wrap_pread(int fd, void *buf, size_t len, off_t offset);
ssize_t __real_pwrite(int fd, const void *buf, size_t len, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t offset);
int __real_fallocate(int fd, int mode, off_t offset, off_t len);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t len);
int __real_msync(void *at, size_t len, int flags);
int __wrap_msync(void *at, size_t len, int flags);
PMEMobjpool *__real_pmemobj_open(const char *path, const char *layout);
PMEMobjpool *__wrap_pmemobj_open(const char *path, const char *layout);

ssize_t __wrap_pread(int fd, void *buf, size_t len, off_t offset)
{
    uint64_t from = (uint64_t)offset;
    if (bad_page != NONE && from < (bad_page + 1) * PAGE && from + len > bad_page * PAGE) {
        errno = EIO;
        return -1;
    }
    bytes_read += len;
    return __real_pread(fd, buf, len, offset);
}

static inline void copy_file(const char *from, const char *to)
{
    uint64_t bytes = unit_file_size(from);
    uint8_t *all = malloc(bytes);
    int fd = open(from, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(read(fd, all, bytes), (ssize_t)bytes);
    close(fd);
    unit_write_file(to, all, bytes);
    free(all);
}

ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    if (pwrite_error) {
        errno = pwrite_error;
        return -1;
    }
    if (torn_at <= len && torn_from && torn_copy) {
        ck_assert_int_eq(__real_pwrite(fd, buf, torn_at, offset), (ssize_t)torn_at);
        const char *from = torn_from;
        torn_from = NULL;
        copy_file(from, torn_copy);
    }
    return __real_pwrite(fd, buf, len, offset);
}

int __wrap_fallocate(int fd, int mode, off_t offset, off_t len)
{
    if (mode & 0x02) {
        punched++;
        if (punch_helps)
            pwrite_error = 0;
    }
    return __real_fallocate(fd, mode, offset, len);
}

int __wrap_msync(void *at, size_t len, int flags)
{
    synced++;
    return __real_msync(at, len, flags);
}

PMEMobjpool *__wrap_pmemobj_open(const char *path, const char *layout)
{
    pools_opened++;
    return __real_pmemobj_open(path, layout);
}

/* --- a sidecar with bad pages ------------------------------------------------------------------------ */

static inline bool no_rescue(struct guard_owner *o, uint64_t offset, const struct guard_fault *fault)
{
    (void)o, (void)offset, (void)fault;
    return false;
}

static struct sidecar *noting; /* whose last words a fatal fault is */

static inline void last_words(struct guard_owner *o, uint64_t offset, const struct guard_fault *fault)
{
    (void)o;
    sidecar_note_fault(noting, MEDIA_SIDECAR, offset / PAGE, MEDIA_SIGBUS, fault->code, 4711);
}

static struct guard_owner owner = {no_rescue, last_words};

static inline void watch(struct sidecar *s)
{
    struct dax_err err;
    unit_ok(guard_install(&err));
    unit_ok(guard_map_add(s->pool, s->file_bytes, 0, &owner, &err));
}

static inline void drop(struct sidecar *s)
{
    guard_map_remove(s->pool);
    sidecar_close(s);
}

static inline void put_cursor(struct sidecar *s, struct persist *p, uint64_t i)
{
    struct dax_err err;
    struct cursor_slot c = {.lsn = i * 64, .txid = i, .size_bytes = 4096, .salt = 5, .nonce = 6};
    unit_ok(sidecar_cursor_write(s, p, &c, &err));
}

/* With n cursors and n seals (of salt 5, at 64, 128, ...), open and watched. */
static inline void make(const char *path, uint64_t n, struct sidecar *s, struct persist *p)
{
    struct dax_err err;
    struct stat like = {.st_mode = S_IFREG | 0600, .st_uid = geteuid(), .st_gid = getegid()};
    unit_ok(sidecar_create(path, &like, BYTES, s, &err));
    watch(s);
    persist_init(p, PERSIST_VOLATILE, -1);
    for (uint64_t i = 1; i <= n; i++) {
        put_cursor(s, p, i);
        unit_ok(sidecar_seal(s, p, 5, i * 64, &err));
    }
}

static inline void reopen(const char *path, struct sidecar *s)
{
    struct dax_err err;
    unit_ok(sidecar_open(path, s, &err));
    watch(s);
}

/* Any access to the page of the mapping is a SIGBUS from here on. */
static inline void spoil(void *at)
{
    void *page = (void *)((uintptr_t)at & ~(uintptr_t)(PAGE - 1));
    int fd = open(unit_path("nothing"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_ptr_eq(mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0), page);
    close(fd);
}

static inline void heal(struct sidecar *s, void *at)
{
    uint8_t *page = (uint8_t *)((uintptr_t)at & ~(uintptr_t)(PAGE - 1));
    off_t offset = page - (uint8_t *)s->pool;
    ck_assert_ptr_eq(
        mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s->fd, offset), page);
}

#endif
