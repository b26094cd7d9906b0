/* test_base.c: would catch space that is stored to before it is allocated (SIGBUS on a full disk),
 * a failed growth that leaves something behind, pointers that go bad when the file is mapped again,
 * a cut or a dropped scratch that keeps or loses bytes, and an open error that does not say why.
 */
#include "engine/base.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "tests/unit/unit.h"

#define MAP_MIN (4 * DAX_MIB) /* small, so that files outgrow it */

static struct persist persist;

/* The engine's calls of fallocate come here: a disk that fills half-way (as ext4 leaves it, tmpfs
 * would undo it), and a signal during every call that takes long. */
static enum {
    DISK_AS_IS,
    DISK_FILLS,
    DISK_INTERRUPTED
} disk;
static unsigned disk_calls;

int fallocate(int fd, int mode, off_t at, off_t bytes)
{
    disk_calls++;
    if (disk == DISK_INTERRUPTED && bytes > (off_t)(2 * DAX_MIB)) {
        errno = EINTR;
        return -1;
    }
    bool fills = disk == DISK_FILLS && mode == 0;
    if (syscall(SYS_fallocate, fd, mode, at, fills ? bytes / 2 : bytes) != 0)
        return -1;
    if (!fills)
        return 0;
    errno = ENOSPC;
    return -1;
}

static void open_mapped(struct base *b, const char *path, enum persist_mode mode, uint64_t map_min)
{
    struct dax_err err;
    unit_ok(base_open(b, path, true, true, &err));
    persist_init(&persist, mode, b->fd);
    b->persist = &persist;
    unit_ok(base_map(b, false, map_min, &err));
}

static uint64_t allocated(const char *path)
{
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

static void fill_disk(void)
{
    int fd = open(unit_path("ballast"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    off_t at = lseek(fd, 0, SEEK_END);
    for (; fallocate(fd, 0, at, 4096) == 0; at += 4096)
        continue;
    ck_assert_int_eq(errno, ENOSPC);
    close(fd);
}

/* --- open ------------------------------------------------------------------------------------- */

START_TEST(test_open_errors_say_what_is_wrong)
{
    struct base b;
    struct dax_err err;
    unit_fails(base_open(&b, unit_path("no"), false, true, &err), DAX_CANT_OPEN, "is missing");
    ck_assert_int_eq(err.sys_errno, ENOENT);
    ck_assert_int_eq(b.fd, -1);
    unit_fails(base_open(&b, unit_path("no/db"), true, true, &err), DAX_CANT_OPEN,
               "directory is missing");
    unit_fails(base_open(&b, unit_path(""), true, false, &err), DAX_CANT_OPEN, "is a directory");
    unit_write_file(unit_path("file"), "x", 1);
    unit_fails(base_open(&b, unit_path("file/db"), true, false, &err), DAX_CANT_OPEN,
               "not a directory");
    ck_assert_int_eq(mkfifo(unit_path("fifo"), 0600), 0);
    unit_fails(base_open(&b, unit_path("fifo"), false, false, &err), DAX_CANT_OPEN, "regular file");
    base_close(&b);
}
END_TEST

START_TEST(test_rights_decide_between_writing_reading_and_nothing)
{
    struct base b;
    struct dax_err err;
    unit_write_file(unit_path("ro"), "x", 1);
    unit_write_file(unit_path("none"), "x", 1);
    ck_assert_int_eq(mkfifo(unit_path("fifo"), 0444), 0);
    chmod(unit_path("ro"), 0444);
    chmod(unit_path("none"), 0);
    unit_rights_drop();

    unit_ok(base_open(&b, unit_path("ro"), false, false, &err));
    ck_assert(b.read_only);
    persist_init(&persist, PERSIST_VOLATILE, b.fd);
    b.persist = &persist;
    unit_ok(base_map(&b, false, MAP_MIN, &err));
    ck_assert_int_eq(*base_at(&b, 0), 'x');
    unit_fails(base_reserve(&b, 4096, &err), DAX_READONLY, "ro");
    unit_fails(base_cut(&b, 0, &err), DAX_READONLY, "ro");
    unit_fails(base_scratch_reserve(&b, 0, 4096, &err), DAX_READONLY, "ro");
    base_close(&b);

    unit_fails(base_open(&b, unit_path("ro"), false, true, &err), DAX_READONLY, "for writing");
    ck_assert_int_eq(b.fd, -1);
    unit_fails(base_open(&b, unit_path("none"), false, false, &err), DAX_CANT_OPEN,
               "no permission");
    unit_fails(base_open(&b, unit_path("new"), true, false, &err), DAX_CANT_OPEN, "no permission");
    ck_assert_int_eq(err.sys_errno, EACCES);
    /* A FIFO that can only be read must not make the open wait for a writer. */
    unit_fails(base_open(&b, unit_path("fifo"), false, false, &err), DAX_CANT_OPEN, "regular file");
    unit_rights_back();
}
END_TEST

START_TEST(test_a_read_only_file_system_allows_reading)
{
    struct base b;
    struct dax_err err;
    if (!unit_mount("tmpfs", "size=1m"))
        return;
    unit_write_file(unit_path("db"), "x", 1);
    ck_assert_int_eq(mount("none", unit_dir, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    unit_ok(base_open(&b, unit_path("db"), true, false, &err));
    ck_assert(b.read_only);
    base_close(&b);
    unit_fails(base_open(&b, unit_path("new"), true, false, &err), DAX_CANT_OPEN, "Read-only");
}
END_TEST

START_TEST(test_open_keeps_away_from_standard_descriptors_and_exec)
{
    struct base b;
    struct dax_err err;
    int saved = dup(0);
    close(0);
    dax_rc rc = base_open(&b, unit_path("db"), true, true, &err);
    int fd = b.fd, flags = fcntl(b.fd, F_GETFD), low = fcntl(0, F_GETFD);
    dup2(saved, 0);
    ck_assert_int_eq(rc, DAX_OK);
    ck_assert_int_ge(fd, 3);
    ck_assert_int_eq(low, -1);
    ck_assert_int_ne(flags & FD_CLOEXEC, 0);
    base_close(&b);
}
END_TEST

/* --- growth ----------------------------------------------------------------------------------- */

static const enum persist_mode modes[] = {PERSIST_PMEM, PERSIST_MSYNC, PERSIST_VOLATILE};

START_TEST(test_growth_is_stepped_allocated_zero_and_storable)
{
    struct base b;
    struct dax_err err;
    const char *path = unit_path("db");
    open_mapped(&b, path, modes[_i], MAP_MIN);
    ck_assert_uint_eq(b.file_bytes, 0);
    ck_assert_uint_eq((uintptr_t)base_at(&b, 0) % (2 * DAX_MIB), 0);
    unit_ok(base_reserve(&b, 0, &err));
    ck_assert_uint_eq(b.file_bytes, 0);

    uint64_t size = 0;
    for (uint64_t want = 1; want < 120 * DAX_MIB; want = want * 3 + 4095) {
        unit_ok(base_reserve(&b, want, &err));
        ck_assert_uint_ge(b.file_bytes, want);
        ck_assert_uint_eq(b.file_bytes % (2 * DAX_MIB), 0);
        ck_assert_uint_le(b.file_bytes, want + 2 * DAX_MIB + size / 8);
        ck_assert_uint_eq(unit_file_size(path), b.file_bytes);
        ck_assert_uint_ge(allocated(path), b.file_bytes);
        ck_assert_uint_ge(atomic_load(&b.map_bytes), b.file_bytes);
        for (uint64_t at = size; at < b.file_bytes; at += 4096 * 16 + 64)
            ck_assert_uint_eq(*base_at(&b, at), 0);
        *base_at(&b, b.file_bytes - 1) = 1;
        size = b.file_bytes;
    }
    /* A step that has to be synced is an eighth; one that takes memory from others is less. */
    unit_ok(base_reserve(&b, size + 1, &err));
    if (modes[_i] == PERSIST_VOLATILE)
        ck_assert_uint_le(b.file_bytes - size, size / 16);
    else
        ck_assert_uint_gt(b.file_bytes - size, size / 16);
    size = b.file_bytes;
    /* What is there already costs nothing and changes nothing. */
    unit_ok(base_reserve(&b, 1, &err));
    unit_ok(base_reserve(&b, size, &err));
    ck_assert_uint_eq(unit_file_size(path), size);
    base_close(&b);
    ck_assert_int_eq(b.fd, -1);
}
END_TEST

START_TEST(test_pointers_stay_good_when_the_file_outgrows_its_mapping)
{
    struct base b;
    struct dax_err err;
    open_mapped(&b, unit_path("db"), PERSIST_VOLATILE, MAP_MIN);
    unit_ok(base_reserve(&b, 4096, &err));
    uint8_t *first = base_at(&b, 0);
    first[0] = 'f';
    uint8_t *pointers[8];
    unsigned n = 0;
    for (uint64_t bytes = MAP_MIN; n < 4; bytes *= 3) {
        unit_ok(base_reserve(&b, bytes + 1, &err));
        ck_assert_uint_ge(atomic_load(&b.map_bytes), bytes + 1);
        pointers[n] = base_at(&b, 0);
        ck_assert_uint_eq((uintptr_t)pointers[n] % (2 * DAX_MIB), 0);
        pointers[n][n + 1] = (uint8_t)('0' + n);
        n++;
    }
    ck_assert_uint_gt(b.old_count, 1);
    /* All mappings are the same bytes, old ones included. */
    ck_assert_int_eq(memcmp(first, "f0123", 5), 0);
    for (unsigned i = 0; i < n; i++)
        ck_assert_int_eq(memcmp(pointers[i], "f0123", 5), 0);
    base_close(&b);
}
END_TEST

START_TEST(test_an_odd_sized_file_gets_its_last_page_before_it_is_stored_to)
{
    struct base b;
    struct dax_err err;
    const char *path = unit_path("db");
    static uint8_t data[6000];
    memset(data, 'd', sizeof data);
    unit_write_file(path, data, sizeof data);
    open_mapped(&b, path, PERSIST_VOLATILE, MAP_MIN);
    ck_assert_uint_eq(b.file_bytes, 6000);
    for (unsigned i = 6000; i < 8192; i++)
        ck_assert_uint_eq(*base_at(&b, i), 0);
    unit_ok(base_reserve(&b, 5000, &err));
    ck_assert_uint_ge(b.file_bytes, 8192);
    ck_assert_uint_eq(b.file_bytes % 4096, 0);
    *base_at(&b, 8191) = 'e';
    ck_assert_int_eq(memcmp(base_at(&b, 0), data, sizeof data), 0);
    unit_ok(base_cut(&b, 6000, &err));
    base_close(&b);
    ck_assert_uint_eq(unit_file_size(path), 6000);
}
END_TEST

/* The growth that fails is one of many pages; then one page still fits, then nothing does. */
START_TEST(test_a_full_disk_is_an_error_that_changes_nothing)
{
    struct base b;
    struct dax_err err;
    const char *path = unit_path("db");
    if (!unit_mount("tmpfs", "size=8m"))
        return;
    open_mapped(&b, path, modes[_i], MAP_MIN);
    unit_ok(base_reserve(&b, 3 * DAX_MIB, &err));
    ck_assert_uint_eq(b.file_bytes, 4 * DAX_MIB);
    memset(base_at(&b, 0), 'd', 4 * DAX_MIB);
    unit_fails(base_reserve(&b, 100 * DAX_MIB, &err), DAX_FULL, path);
    ck_assert_int_eq(err.sys_errno, ENOSPC);
    ck_assert_ptr_nonnull(strstr(err.text, "allocate"));
    ck_assert_uint_eq(b.file_bytes, 4 * DAX_MIB);
    ck_assert_uint_eq(unit_file_size(path), 4 * DAX_MIB);
    ck_assert_uint_le(allocated(path), 4 * DAX_MIB);

    /* No room for a step, but for what is asked. */
    int fd = open(unit_path("ballast"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct statvfs fs;
    ck_assert_int_eq(statvfs(unit_dir, &fs), 0);
    ck_assert_int_eq(fallocate(fd, 0, 0, (off_t)((fs.f_bfree - 20) * fs.f_bsize)), 0);
    close(fd);
    unit_ok(base_reserve(&b, 4 * DAX_MIB + 1, &err));
    ck_assert_uint_eq(b.file_bytes, 4 * DAX_MIB + 4096);
    *base_at(&b, 4 * DAX_MIB) = 'e';

    fill_disk();
    unit_fails(base_reserve(&b, b.file_bytes + 1, &err), DAX_FULL, path);
    unit_fails(base_scratch_reserve(&b, b.file_bytes, 1, &err), DAX_FULL, path);
    ck_assert_uint_eq(b.scratch_start, 0);
    ck_assert_uint_eq(unit_file_size(path), 4 * DAX_MIB + 4096);
    for (uint64_t at = 0; at < 4 * DAX_MIB; at += 4096)
        ck_assert_uint_eq(*base_at(&b, at), 'd');
    base_close(&b);
}
END_TEST

START_TEST(test_holes_of_a_file_made_by_others_are_filled_before_they_are_stored_to)
{
    struct base b;
    struct dax_err err;
    const char *path = unit_path("db");
    if (!unit_mount("tmpfs", "size=8m"))
        return;
    unit_write_file(path, "d", 1);
    ck_assert_int_eq(truncate(path, 6 * DAX_MIB), 0);
    unit_file_patch(path, 3 * DAX_MIB, "e", 1);
    ck_assert_uint_lt(allocated(path), DAX_MIB);
    open_mapped(&b, path, PERSIST_VOLATILE, MAP_MIN);
    ck_assert_uint_eq(b.file_bytes, 6 * DAX_MIB);
    unit_ok(base_reserve(&b, 6 * DAX_MIB, &err));
    ck_assert_uint_eq(b.file_bytes, 6 * DAX_MIB);
    ck_assert_uint_ge(allocated(path), 6 * DAX_MIB);
    fill_disk();
    memset(base_at(&b, 0) + 1, 'f', 3 * DAX_MIB - 1); /* SIGBUS if it were not so */
    ck_assert_int_eq(*base_at(&b, 0), 'd');
    ck_assert_int_eq(*base_at(&b, 3 * DAX_MIB), 'e');
    base_close(&b);

    /* No room for the holes. */
    unlink(path);
    unlink(unit_path("ballast"));
    unit_write_file(path, "d", 1);
    ck_assert_int_eq(truncate(path, 6 * DAX_MIB), 0);
    fill_disk();
    open_mapped(&b, path, PERSIST_VOLATILE, MAP_MIN);
    unit_ok(base_reserve(&b, 4096, &err)); /* its one page is there */
    unit_fails(base_reserve(&b, 6 * DAX_MIB, &err), DAX_FULL, "holes");
    ck_assert_uint_eq(unit_file_size(path), 6 * DAX_MIB);
    base_close(&b);
}
END_TEST

/* They make the count of a tmpfs larger than the file, however large its holes are. */
START_TEST(test_blocks_behind_the_end_do_not_hide_a_hole)
{
    struct base b;
    struct dax_err err;
    const char *path = unit_path("db");
    static const uint8_t page[4096] = {1};
    if (!unit_mount("tmpfs", "size=8m"))
        return;
    for (int behind = 0; behind < 2; behind++) {
        unlink(path);
        unit_write_file(path, "d", 1);
        for (off_t at = 0; at < 16; at++)
            if (at != 5 && at != 6)
                unit_file_patch(path, (uint64_t)at * 4096, page, sizeof page);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        if (behind)
            ck_assert_int_eq(fallocate(fd, FALLOC_FL_KEEP_SIZE, 16 * 4096, 3 * 4096), 0);
        close(fd);
        uint64_t before = allocated(path);
        ck_assert_uint_eq(before, (behind ? 17 : 14) * 4096);
        open_mapped(&b, path, PERSIST_VOLATILE, MAP_MIN);
        ck_assert_uint_eq(b.file_bytes, 16 * 4096);
        if (_i)
            unit_ok(base_fill_holes(&b, true, &err));
        else
            unit_ok(base_reserve(&b, 16 * 4096, &err));
        ck_assert_uint_eq(allocated(path), before + 2 * 4096);
        base_close(&b);
    }
}
END_TEST

/* ramfs has no fallocate. */
START_TEST(test_a_file_system_that_cannot_allocate_gets_zeros)
{
    struct base b;
    struct dax_err err;
    const char *path = unit_path("db");
    if (!unit_mount("ramfs", NULL))
        return;
    unit_write_file(path, "data", 4);
    open_mapped(&b, path, PERSIST_VOLATILE, MAP_MIN);
    unit_ok(base_reserve(&b, DAX_MIB + 5, &err));
    ck_assert_uint_eq(unit_file_size(path), 2 * DAX_MIB);
    ck_assert_int_eq(memcmp(base_at(&b, 0), "data\0\0", 6), 0);
    unit_ok(base_scratch_reserve(&b, b.file_bytes, 4096, &err));
    *base_scratch_at(&b, b.scratch_start >> DAX_PAGE_SHIFT) = 's';
    unit_ok(
        base_reserve(&b, 2 * DAX_MIB + 1, &err)); /* below scratch: the file does not end there */
    *base_at(&b, 4 * DAX_MIB - 1) = 'x';
    ck_assert_int_eq(*base_scratch_at(&b, b.scratch_start >> DAX_PAGE_SHIFT), 's');
    ck_assert_int_eq(memcmp(base_at(&b, 0), "data\0\0", 6), 0);
    base_close(&b);
}
END_TEST

START_TEST(test_limits_of_the_process_are_errors_not_signals)
{
    struct base b;
    struct dax_err err;
    const char *path = unit_path("db");
    open_mapped(&b, path, PERSIST_VOLATILE, MAP_MIN);
    struct rlimit limit = {.rlim_cur = 3 * DAX_MIB, .rlim_max = RLIM_INFINITY};
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    unit_ok(base_reserve(&b, DAX_MIB, &err));
    unit_ok(base_reserve(&b, 2 * DAX_MIB + 1, &err)); /* no step, just the page */
    ck_assert_uint_eq(b.file_bytes, 2 * DAX_MIB + 4096);
    unit_fails(base_reserve(&b, 3 * DAX_MIB + 1, &err), DAX_FULL, path);
    ck_assert_int_eq(err.sys_errno, EFBIG);
    unit_fails(base_scratch_reserve(&b, b.file_bytes, 4096, &err), DAX_FULL, path);
    ck_assert_uint_eq(unit_file_size(path), 2 * DAX_MIB + 4096);
    base_close(&b);
}
END_TEST

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
START_TEST(test_little_address_space_gives_a_smaller_mapping_then_an_error)
{
    struct base b;
    struct dax_err err;
    struct rlimit limit = {.rlim_cur = 2 * DAX_GIB, .rlim_max = 2 * DAX_GIB};
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
    open_mapped(&b, unit_path("db"), PERSIST_VOLATILE, DAX_MAP_BYTES_MIN);
    ck_assert_uint_lt(atomic_load(&b.map_bytes), 2 * DAX_GIB);
    unit_ok(base_reserve(&b, DAX_MIB, &err));
    *base_at(&b, 0) = 1;
    unit_fails(base_reserve(&b, 3 * DAX_GIB, &err), DAX_FULL, "address space");
    ck_assert_uint_eq(b.file_bytes, 2 * DAX_MIB);
    base_close(&b);
}
END_TEST
#endif

START_TEST(test_the_largest_database_is_a_limit_with_a_text)
{
    struct base b;
    struct dax_err err;
    open_mapped(&b, unit_path("db"), PERSIST_VOLATILE, MAP_MIN);
    uint64_t most = DAX_MAX_PAGES * DAX_PAGE_BYTES;
    unit_fails(base_reserve(&b, most + 1, &err), DAX_FULL, "limit");
    unit_fails(base_reserve(&b, UINT64_MAX - 5000, &err), DAX_FULL, "limit");
    unit_fails(base_reserve(&b, UINT64_MAX, &err), DAX_FULL, "limit");
    unit_fails(base_scratch_reserve(&b, 0, UINT64_MAX - 1, &err), DAX_FULL, "too large");
    ck_assert_uint_eq(b.file_bytes, 0);
    base_close(&b);
}
END_TEST

static void on_alarm(int sig)
{
    (void)sig;
}

/* A host that signals its threads every fraction of a millisecond (profilers, some runtimes). */
START_TEST(test_growth_comes_through_a_storm_of_signals)
{
    struct base b;
    struct dax_err err;
    struct sigaction act = {.sa_handler = on_alarm}; /* without SA_RESTART */
    open_mapped(&b, unit_path("db"), PERSIST_VOLATILE, MAP_MIN);
    sigaction(SIGALRM, &act, NULL);
    struct itimerval timer = {{0, 3000}, {0, 3000}};
    setitimer(ITIMER_REAL, &timer, NULL);
    unit_ok(base_reserve(&b, 256 * DAX_MIB, &err));
    timer = (struct itimerval){{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &timer, NULL);
    ck_assert_uint_ge(allocated(unit_path("db")), 256 * DAX_MIB);
    base_close(&b);
}
END_TEST

/* --- cutting and scratch ---------------------------------------------------------------------- */

START_TEST(test_cut_bytes_are_gone_and_come_back_as_zeros)
{
    struct base b;
    struct dax_err err;
    const char *path = unit_path("db");
    open_mapped(&b, path, modes[_i], MAP_MIN);
    unit_ok(base_reserve(&b, 6 * DAX_MIB, &err));
    memset(base_at(&b, 0), 'd', 6 * DAX_MIB);
    uint8_t *before = base_at(&b, 0);
    unit_ok(base_cut(&b, 5000, &err));
    ck_assert_uint_eq(unit_file_size(path), 5000);
    ck_assert_uint_eq(b.file_bytes, 5000);
    ck_assert_ptr_eq(base_at(&b, 0), before);
    unit_ok(base_cut(&b, 6 * DAX_MIB, &err)); /* never longer */
    ck_assert_uint_eq(unit_file_size(path), 5000);
    unit_ok(base_reserve(&b, 6 * DAX_MIB, &err));
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < 6 * DAX_MIB; i++)
        wrong += before[i] != (i < 5000 ? 'd' : 0);
    ck_assert_uint_eq(wrong, 0);
    unit_ok(base_cut(&b, 0, &err));
    ck_assert_uint_eq(unit_file_size(path), 0);
    unit_ok(base_reserve(&b, 1, &err));
    before[0] = 1;
    base_close(&b);
}
END_TEST

START_TEST(test_scratch_lies_far_above_and_the_file_grows_below_it)
{
    struct base b;
    struct dax_err err;
    const char *path = unit_path("db");
    open_mapped(&b, path, modes[_i], MAP_MIN);
    unit_ok(base_reserve(&b, 2 * DAX_MIB, &err));
    memset(base_at(&b, 0), 'd', 2 * DAX_MIB);
    unit_ok(base_scratch_reserve(&b, 3 * DAX_MIB, 5 * DAX_MIB, &err));
    ck_assert_uint_ge(b.scratch_start, 3 * DAX_MIB + DAX_SCRATCH_GAP_BYTES);
    ck_assert_uint_eq(b.scratch_start % (2 * DAX_MIB), 0);
    ck_assert_uint_ge(b.scratch_bytes, 5 * DAX_MIB);
    ck_assert_uint_eq(b.file_bytes, 2 * DAX_MIB);
    ck_assert_uint_lt(allocated(path), 16 * DAX_MIB); /* nothing in the gap */
    uint64_t first = b.scratch_start >> DAX_PAGE_SHIFT;
    memset(base_scratch_at(&b, first), 's', 4096);
    memset(base_scratch_at(&b, first + 5 * 256 - 1), 't', 4096);

    unit_ok(base_reserve(&b, 9 * DAX_MIB, &err));
    memset(base_at(&b, 8 * DAX_MIB), 'e', DAX_MIB);
    ck_assert_uint_ge(allocated(path), b.file_bytes + 5 * DAX_MIB);
    unit_fails(base_reserve(&b, b.scratch_start + 1, &err), DAX_FULL, "transaction");

    /* More of it, into the next chunk; what was there stays where it was. */
    uint8_t *at = base_scratch_at(&b, first);
    uint64_t start = b.scratch_start;
    unit_ok(base_scratch_reserve(&b, 9 * DAX_MIB, 1, &err));
    unit_ok(base_scratch_reserve(&b, 9 * DAX_MIB, 30 * DAX_MIB, &err));
    ck_assert_uint_eq(b.scratch_start, start);
    ck_assert_ptr_eq(base_scratch_at(&b, first), at);
    ck_assert_int_eq(at[4095], 's');
    ck_assert_int_eq(*base_scratch_at(&b, first + 5 * 256 - 1), 't');

    char got[2];
    ck_assert_int_eq(pread(b.fd, got, 2, (off_t)start + 4095), 2);
    ck_assert_int_eq(memcmp(got, "s\0", 2), 0);

    unit_ok(base_scratch_drop(&b, &err));
    ck_assert_uint_eq(b.scratch_start, 0);
    ck_assert_uint_eq(b.scratch_bytes, 0);
    ck_assert_uint_eq(unit_file_size(path), b.file_bytes);
    ck_assert_int_eq(*base_at(&b, 0), 'd');
    ck_assert_int_eq(*base_at(&b, 9 * DAX_MIB - 1), 'e');
    unit_ok(base_scratch_drop(&b, &err));

    /* Again, elsewhere, zeros; dropped by a cut this time. */
    unit_ok(base_scratch_reserve(&b, 9 * DAX_MIB, 4096, &err));
    ck_assert_int_eq(*base_scratch_at(&b, b.scratch_start >> DAX_PAGE_SHIFT), 0);
    unit_ok(base_cut(&b, 4096, &err));
    ck_assert_uint_eq(b.scratch_start, 0);
    ck_assert_uint_eq(unit_file_size(path), 4096);
    base_close(&b);
}
END_TEST

START_TEST(test_scratch_spans_chunks)
{
    struct base b;
    struct dax_err err;
    struct statvfs fs;
    ck_assert_int_eq(statvfs(unit_dir, &fs), 0);
    if (fs.f_bavail * fs.f_bsize < 4 * DAX_GIB) {
        fprintf(stderr, "SKIPPED, less than 4 GiB free in the test directory\n");
        return;
    }
    open_mapped(&b, unit_path("db"), PERSIST_MSYNC, MAP_MIN); /* not populated: no DRAM needed */
    unit_ok(base_scratch_reserve(&b, 0, DAX_SCRATCH_CHUNK_BYTES - 4096, &err));
    uint64_t last = (b.scratch_start + DAX_SCRATCH_CHUNK_BYTES) / 4096 - 1;
    memset(base_scratch_at(&b, last - 1), 'a', 4096);
    unit_ok(base_scratch_reserve(&b, 0, DAX_SCRATCH_CHUNK_BYTES + 8192, &err));
    memset(base_scratch_at(&b, last), 'b', 4096);
    memset(base_scratch_at(&b, last + 2), 'c', 4096);
    static char got[4 * 4096];
    ck_assert_int_eq(pread(b.fd, got, sizeof got, (off_t)((last - 1) * 4096)), sizeof got);
    ck_assert_int_eq(got[0], 'a');
    ck_assert_int_eq(got[4096], 'b');
    ck_assert_int_eq(got[2 * 4096], 0);
    ck_assert_int_eq(got[3 * 4096], 'c');
    unit_ok(base_scratch_drop(&b, &err));
    base_close(&b);
}
END_TEST

START_TEST(test_a_full_disk_under_scratch_changes_nothing)
{
    struct base b;
    struct dax_err err;
    const char *path = unit_path("db");
    if (!unit_mount("tmpfs", "size=12m"))
        return;
    open_mapped(&b, path, PERSIST_VOLATILE, MAP_MIN);
    unit_ok(base_reserve(&b, 2 * DAX_MIB, &err));
    unit_ok(base_scratch_reserve(&b, 2 * DAX_MIB, 2 * DAX_MIB, &err));
    uint64_t end = b.scratch_start + b.scratch_bytes, page = b.scratch_start >> DAX_PAGE_SHIFT;
    memset(base_scratch_at(&b, page), 's', b.scratch_bytes);
    uint64_t used = allocated(path);
    unit_fails(base_scratch_reserve(&b, 2 * DAX_MIB, 90 * DAX_MIB, &err), DAX_FULL, "scratch");
    ck_assert_uint_eq(unit_file_size(path), end);
    ck_assert_uint_le(allocated(path), used);
    unit_fails(base_reserve(&b, 90 * DAX_MIB, &err), DAX_FULL, path);
    ck_assert_uint_eq(unit_file_size(path), end);
    ck_assert_uint_le(allocated(path), used);
    ck_assert_uint_eq(b.file_bytes, 2 * DAX_MIB);
    ck_assert_int_eq(base_scratch_at(&b, page)[b.scratch_bytes - 1], 's');
    unit_ok(base_reserve(&b, 4 * DAX_MIB, &err));
    base_close(&b);
}
END_TEST

START_TEST(test_a_growth_that_stops_half_way_is_undone)
{
    struct base b;
    struct dax_err err;
    const char *path = unit_path("db");
    open_mapped(&b, path, modes[_i], MAP_MIN);
    unit_ok(base_reserve(&b, 2 * DAX_MIB, &err));
    memset(base_at(&b, 0), 'd', 2 * DAX_MIB);
    uint64_t size = unit_file_size(path), used = allocated(path);
    disk = DISK_FILLS;
    unit_fails(base_reserve(&b, 9 * DAX_MIB, &err), DAX_FULL, path);
    ck_assert_uint_eq(unit_file_size(path), size);
    ck_assert_uint_le(allocated(path), used);
    unit_fails(base_scratch_reserve(&b, 0, 9 * DAX_MIB, &err), DAX_FULL, "scratch");
    ck_assert_uint_eq(unit_file_size(path), size);
    ck_assert_uint_le(allocated(path), used);

    disk = DISK_AS_IS;
    unit_ok(base_scratch_reserve(&b, 0, 2 * DAX_MIB, &err));
    uint64_t page = b.scratch_start >> DAX_PAGE_SHIFT;
    memset(base_scratch_at(&b, page), 's', 2 * DAX_MIB);
    size = unit_file_size(path);
    used = allocated(path);
    disk = DISK_FILLS;
    unit_fails(base_reserve(&b, 9 * DAX_MIB, &err), DAX_FULL, path);
    unit_fails(base_scratch_reserve(&b, 0, 9 * DAX_MIB, &err), DAX_FULL, "scratch");
    ck_assert_uint_eq(unit_file_size(path), size);
    ck_assert_uint_le(allocated(path), used);
    ck_assert_uint_eq(b.file_bytes, 2 * DAX_MIB);
    ck_assert_uint_eq(b.scratch_bytes, 2 * DAX_MIB);
    ck_assert_int_eq(*base_at(&b, 2 * DAX_MIB - 1), 'd');
    ck_assert_int_eq(*base_scratch_at(&b, page + 511), 's');
    base_close(&b);
}
END_TEST

START_TEST(test_growth_in_small_pieces_ends_where_large_ones_are_interrupted)
{
    struct base b;
    struct dax_err err;
    open_mapped(&b, unit_path("db"), PERSIST_VOLATILE, MAP_MIN);
    disk = DISK_INTERRUPTED;
    unit_ok(base_reserve(&b, 64 * DAX_MIB, &err));
    ck_assert_uint_ge(allocated(unit_path("db")), 64 * DAX_MIB);
    ck_assert_uint_lt(disk_calls, 64);
    base_close(&b);
}
END_TEST

/* What recovery finds: the low part with its true size, also where nothing was stored to it or it
 * grew below scratch, and scratch readable at its place in the file. msync mode: not populated. */
START_TEST(test_scratch_that_a_crash_left_is_told_from_the_low_part_and_given_back)
{
    struct base b;
    struct dax_err err;
    const char *path = unit_path("db");
    enum {
        CUT,
        DROP,
        SCRATCH,
        GROW
    };
    for (int how = CUT; how <= GROW; how++) {
        for (int grown = 0; grown < 2; grown++) {
            unlink(path);
            open_mapped(&b, path, modes[_i], MAP_MIN);
            unit_ok(base_reserve(&b, 2 * DAX_MIB, &err));
            *base_at(&b, 0) = 'd';
            unit_ok(base_scratch_reserve(&b, 3 * DAX_MIB, 4096, &err));
            uint64_t start = b.scratch_start;
            memset(base_scratch_at(&b, start >> DAX_PAGE_SHIFT), 's', 4096);
            if (grown)
                unit_ok(base_reserve(&b, 50 * DAX_MIB, &err));
            uint64_t low = b.file_bytes;
            base_close(&b);

            open_mapped(&b, path, modes[_i], MAP_MIN);
            ck_assert_uint_eq(b.file_bytes, low);
            ck_assert_uint_eq(b.file_bytes + b.leftover_bytes, unit_file_size(path));
            ck_assert_uint_lt(atomic_load(&b.map_bytes), DAX_GIB);
            char got = 0;
            ck_assert_int_eq(pread(b.fd, &got, 1, (off_t)start + 4095), 1);
            ck_assert_int_eq(got, 's');
            unit_ok(base_reserve(&b, low, &err)); /* fills no gap, cuts nothing */
            ck_assert_uint_lt(allocated(path), low + 8 * DAX_MIB);
            ck_assert_uint_ne(b.leftover_bytes, 0);

            if (how == CUT)
                unit_ok(base_cut(&b, low, &err));
            else if (how == DROP)
                unit_ok(base_scratch_drop(&b, &err));
            else if (how == GROW)
                unit_ok(base_reserve(&b, low + 1, &err));
            else
                unit_ok(base_scratch_reserve(&b, low, 4096, &err));
            ck_assert_uint_eq(b.leftover_bytes, 0);
            ck_assert_int_eq(*base_at(&b, 0), 'd');
            if (how == SCRATCH)
                ck_assert_int_eq(*base_scratch_at(&b, b.scratch_start >> DAX_PAGE_SHIFT), 0);
            else
                ck_assert_uint_eq(unit_file_size(path), b.file_bytes);
            base_close(&b);
        }
    }
}
END_TEST

/* Whatever the low part's last byte is, making it count as data keeps it. */
START_TEST(test_scratch_changes_nothing_in_the_low_part)
{
    struct base b;
    struct dax_err err;
    const char *path = unit_path("db");
    static uint8_t data[6000];
    memset(data, 'd', sizeof data);
    unit_write_file(path, data, sizeof data);
    open_mapped(&b, path, modes[_i], MAP_MIN);
    unit_ok(base_scratch_reserve(&b, 8192, 4096, &err));
    unit_ok(base_reserve(&b, 100000, &err));
    ck_assert_int_eq(memcmp(base_at(&b, 0), data, sizeof data), 0);
    for (uint64_t i = sizeof data; i < b.file_bytes; i++)
        if (*base_at(&b, i) != 0)
            ck_abort_msg("byte %d", (int)i);
    base_close(&b);
    unlink(path);
    open_mapped(&b, path, modes[_i], MAP_MIN); /* an empty file */
    unit_ok(base_scratch_reserve(&b, 0, 4096, &err));
    base_close(&b);
    open_mapped(&b, path, modes[_i], MAP_MIN);
    ck_assert_uint_eq(b.file_bytes, 0);
    unit_ok(base_scratch_drop(&b, &err));
    ck_assert_uint_eq(unit_file_size(path), 0);
    base_close(&b);
}
END_TEST

START_TEST(test_the_first_page_comes_whole)
{
    struct base b;
    struct dax_err err;
    const char *path = unit_path("db");
    uint8_t page[4096];
    memset(page, 'p', sizeof page);
    open_mapped(&b, path, modes[_i], MAP_MIN);
    unit_ok(base_first_page(&b, page, &err));
    ck_assert_uint_eq(unit_file_size(path), 4096);
    ck_assert_uint_eq(b.file_bytes, 4096);
    ck_assert_int_eq(memcmp(base_at(&b, 0), page, sizeof page), 0);
    unit_ok(base_reserve(&b, 8192, &err));
    ck_assert_int_eq(memcmp(base_at(&b, 0), page, sizeof page), 0);
    ck_assert_int_eq(*base_at(&b, 4096), 0);
    base_close(&b);
}
END_TEST

START_TEST(test_close_is_safe_on_what_was_never_open)
{
    struct base b = {.fd = -1};
    base_close(&b);
    base_close(&b);
    ck_assert_int_eq(b.fd, -1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base");
    TCase *tc = tcase_create("base");
    tcase_add_checked_fixture(tc, unit_setup, NULL);
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, test_open_errors_say_what_is_wrong);
    tcase_add_test(tc, test_rights_decide_between_writing_reading_and_nothing);
    tcase_add_test(tc, test_a_read_only_file_system_allows_reading);
    tcase_add_test(tc, test_open_keeps_away_from_standard_descriptors_and_exec);
    tcase_add_loop_test(tc, test_growth_is_stepped_allocated_zero_and_storable, 0, 3);
    tcase_add_test(tc, test_pointers_stay_good_when_the_file_outgrows_its_mapping);
    tcase_add_test(tc, test_an_odd_sized_file_gets_its_last_page_before_it_is_stored_to);
    tcase_add_loop_test(tc, test_a_full_disk_is_an_error_that_changes_nothing, 0, 3);
    tcase_add_test(tc, test_holes_of_a_file_made_by_others_are_filled_before_they_are_stored_to);
    tcase_add_loop_test(tc, test_blocks_behind_the_end_do_not_hide_a_hole, 0, 2);
    tcase_add_test(tc, test_a_file_system_that_cannot_allocate_gets_zeros);
    tcase_add_test(tc, test_limits_of_the_process_are_errors_not_signals);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    tcase_add_test(tc, test_little_address_space_gives_a_smaller_mapping_then_an_error);
#endif
    tcase_add_test(tc, test_the_largest_database_is_a_limit_with_a_text);
    tcase_add_test(tc, test_growth_comes_through_a_storm_of_signals);
    tcase_add_loop_test(tc, test_a_growth_that_stops_half_way_is_undone, 0, 3);
    tcase_add_test(tc, test_growth_in_small_pieces_ends_where_large_ones_are_interrupted);
    tcase_add_loop_test(tc, test_cut_bytes_are_gone_and_come_back_as_zeros, 0, 3);
    tcase_add_loop_test(tc, test_scratch_lies_far_above_and_the_file_grows_below_it, 0, 3);
    tcase_add_test(tc, test_scratch_spans_chunks);
    tcase_add_test(tc, test_a_full_disk_under_scratch_changes_nothing);
    tcase_add_loop_test(tc, test_scratch_that_a_crash_left_is_told_from_the_low_part_and_given_back,
                        0, 3);
    tcase_add_loop_test(tc, test_scratch_changes_nothing_in_the_low_part, 0, 3);
    tcase_add_loop_test(tc, test_the_first_page_comes_whole, 0, 3);
    tcase_add_test(tc, test_close_is_safe_on_what_was_never_open);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
