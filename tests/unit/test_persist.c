/* test_persist.c: would catch a store that copies the wrong bytes at some length or alignment, an
 * ordering point that syncs the wrong file, makes a system call in a cache-line mode, is
 * not counted, or loses an error; a store that is counted for the wrong file or with the wrong lines;
 * one of msync mode that makes more of the page cache dirty than its blocks, that makes a file longer which
 * somebody has cut, or goes on after a write that was refused.
 */
#include "engine/persist.h"

#include <signal.h>
#include <sys/mman.h>

#include "tests/unit/unit.h"

static const enum persist_mode modes[] = {PERSIST_PMEM, PERSIST_MSYNC, PERSIST_VOLATILE};

/* --- files that are mapped -------------------------------------------------------------------- */

/* What stands for a database file, or for a sidecar. */
struct file {
    uint8_t *map;
    size_t bytes;
    uint64_t from; /* of the file, where the mapping begins */
    int fd;
};

static bool file_find(const void *arg, const void *addr, uint64_t *offset_out)
{
    const struct file *f = arg;
    *offset_out = f->from + (uintptr_t)addr - (uintptr_t)f->map;
    return (uintptr_t)addr - (uintptr_t)f->map < f->bytes;
}

static void file_make(struct file *f, const char *name, size_t bytes, uint64_t from)
{
    *f = (struct file){.bytes = bytes, .from = from};
    f->fd = open(unit_path(name), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(f->fd, 0);
    ck_assert_int_eq(ftruncate(f->fd, (off_t)(from + bytes)), 0);
    f->map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, (off_t)from);
    ck_assert_ptr_ne(f->map, MAP_FAILED);
}

static void file_drop(struct file *f)
{
    munmap(f->map, f->bytes);
    close(f->fd);
}

/* A store of `bytes` bytes of database, as base tells it. */
static void file_init(struct persist *p, enum persist_mode mode, struct file *f, size_t bytes)
{
    file_make(f, "base", bytes, 0);
    persist_init(p, mode, f->fd);
    persist_set_base(p, file_find, f);
}

START_TEST(test_modes_have_the_names_that_users_see)
{
    ck_assert_str_eq(persist_mode_name(PERSIST_PMEM), "pmem");
    ck_assert_str_eq(persist_mode_name(PERSIST_MSYNC), "msync");
    ck_assert_str_eq(persist_mode_name(PERSIST_VOLATILE), "volatile");
}
END_TEST

/* Every alignment within a line, every length up to past the non-temporal threshold. */
START_TEST(test_store_and_zero_touch_exactly_their_bytes)
{
    static _Alignas(4096) uint8_t want[2048], src[2048];
    struct persist p;
    struct file f;
    file_init(&p, modes[_i], &f, sizeof want);
    uint8_t *dst = f.map;
    for (size_t i = 0; i < sizeof src; i++)
        src[i] = (uint8_t)(i * 7 + 1);
    for (size_t at = 0; at < 64; at++) {
        for (size_t len = 0; len <= 700; len = len < 300 ? len + 1 : len + 61) {
            memset(dst, 0xEE, sizeof want);
            memset(want, 0xEE, sizeof want);
            persist_store(&p, dst + 128 + at, src + at % 3, len);
            persist_visible(&p);
            memcpy(want + 128 + at, src + at % 3, len);
            ck_assert_msg(memcmp(dst, want, sizeof want) == 0, "store at %zu, %zu bytes", at, len);
            persist_zero(&p, dst + 128 + at, len);
            persist_visible(&p);
            memset(want + 128 + at, 0, len);
            ck_assert_msg(memcmp(dst, want, sizeof want) == 0, "zero at %zu, %zu bytes", at, len);
        }
    }
    file_drop(&f);
}
END_TEST

START_TEST(test_points_of_cache_line_modes_need_no_file)
{
    struct persist p;
    struct dax_err err;
    persist_init(&p, modes[_i], -1);
    if (modes[_i] == PERSIST_MSYNC)
        return;
    for (int tag = 0; tag < PERSIST_TAGS; tag++) {
        unit_ok(persist_point(&p, (enum persist_tag)tag, &err));
        ck_assert_uint_eq(p.points[tag], 1);
    }
}
END_TEST

/* --- which operation a point uses ------------------------------------------------------------- */

struct recorder {
    struct persist p; /* first: the operations get its address */
    int logs, bases;
    uint64_t points_seen; /* sum of the counters, within the operation */
    int fail_with;
};

static uint64_t points_sum(const struct persist *p)
{
    uint64_t sum = 0;
    for (int i = 0; i < PERSIST_TAGS; i++)
        sum += p->points[i];
    return sum;
}

static int record_log(struct persist *p)
{
    struct recorder *r = (struct recorder *)p;
    r->logs++;
    r->points_seen = points_sum(p);
    return r->fail_with;
}

static int record_base(struct persist *p)
{
    struct recorder *r = (struct recorder *)p;
    r->bases++;
    r->points_seen = points_sum(p);
    return r->fail_with;
}

static const struct persist_ops record_ops = {.sync_log = record_log, .sync_base = record_base};

static const struct {
    enum persist_tag tag;
    bool log;
    const char *name;
} tags[] = {
    {PERSIST_P1_DIRECT, false, "P1"},    {PERSIST_P2_RECORD, true, "P2"},
    {PERSIST_P3_BASE, false, "P3"},      {PERSIST_P4_CURSOR, true, "P4"},
    {PERSIST_P5_MARK_BODY, false, "P5"}, {PERSIST_P6_MARK_BYTE, false, "P6"},
    {PERSIST_P7_SEAL, true, "P7"},
};

static_assert(sizeof tags / sizeof *tags == PERSIST_TAGS, "every point");

START_TEST(test_a_point_syncs_its_file_is_counted_first_and_reports_its_name)
{
    struct recorder r = {0};
    struct dax_err err;
    persist_init(&r.p, PERSIST_MSYNC, -1);
    r.p.ops = &record_ops;
    unit_ok(persist_point(&r.p, tags[_i].tag, &err));
    ck_assert_int_eq(r.logs, tags[_i].log);
    ck_assert_int_eq(r.bases, !tags[_i].log);
    ck_assert_uint_eq(r.points_seen, 1);
    ck_assert_uint_eq(r.p.points[tags[_i].tag], 1);
    r.fail_with = EIO;
    unit_fails(persist_point(&r.p, tags[_i].tag, &err), DAX_IO_WRITE,
               tags[_i].name);
    ck_assert_int_eq(err.sys_errno, EIO);
    ck_assert_uint_eq(r.p.points[tags[_i].tag], 2);
}
END_TEST

/* --- what is counted -------------------------------------------------------------------------- */

/* A sidecar of 4 KiB with its ring in the second half. */
START_TEST(test_bytes_are_counted_for_the_file_that_they_go_to)
{
    static uint8_t from[512];
    struct persist p;
    struct dax_err err;
    struct file f, side;
    file_init(&p, modes[_i], &f, 4096);
    file_make(&side, "sidecar", 4096, 0);
    uint8_t *sidecar = side.map, *base = f.map;
    persist_set_sidecar(&p, side.fd, sidecar, side.bytes, sidecar + 2048, 1024);
    persist_store(&p, sidecar, from, 1);              /* the first byte of each range, and the last */
    persist_store(&p, sidecar + 2047, from, 1);
    persist_store(&p, sidecar + 2048, from, 300);
    persist_store(&p, sidecar + 2048 + 1023, from, 1);
    persist_zero(&p, sidecar + 2048 + 1024, 10);
    persist_store(&p, base, from, 64);
    persist_zero(&p, base + 100, 512);
    persist_store(&p, base, from, 0);
    ck_assert_uint_eq(p.counts.log_bytes, 301);
    ck_assert_uint_eq(p.counts.sidecar_bytes, 12);
    ck_assert_uint_eq(p.counts.base_bytes, 576);
    bool cache_line = modes[_i] != PERSIST_MSYNC;
    ck_assert_uint_eq(p.counts.flushes, cache_line ? 4 : 0);
    persist_visible(&p);
    ck_assert_uint_eq(p.counts.fences, cache_line);
    ck_assert_uint_eq(p.counts.syncs, 0);
    if (cache_line)
        unit_ok(persist_point(&p, PERSIST_P2_RECORD, &err));
    else
        unit_ok(persist_point(&p, PERSIST_P3_BASE, &err));
    ck_assert_uint_eq(p.counts.fences, cache_line ? 2 : 0);
    ck_assert_uint_eq(p.counts.syncs, !cache_line);
    file_drop(&side);
    file_drop(&f);
}
END_TEST

/* Lines that a small store touches, at every place within a line; whole lines and 256 bytes need no
 * write-back. */
START_TEST(test_small_stores_are_counted_by_the_lines_that_they_touch)
{
    static _Alignas(64) uint8_t to[1024], from[512];
    for (size_t at = 0; at < 64; at++) {
        for (size_t len = 1; len <= 256; len++) {
            struct persist p;
            uint64_t lines = 0;
            persist_init(&p, PERSIST_VOLATILE, -1);
            persist_store(&p, to + at, from, len);
            for (size_t line = 0; line < sizeof to; line += 64)
                lines += line < at + len && line + 64 > at;
            bool streamed = len == 256 || (at == 0 && len % 64 == 0);
            ck_assert_uint_eq(p.counts.flushes, streamed ? 0 : lines);
        }
    }
}
END_TEST

START_TEST(test_a_cached_store_copies_its_bytes_and_is_flushed_by_the_line)
{
    static _Alignas(64) uint8_t from[512], want[1024];
    struct persist p;
    struct file f;
    bool cache_line = modes[_i] != PERSIST_MSYNC;
    memset(from, 0x5A, sizeof from);
    file_init(&p, modes[_i], &f, sizeof want);
    uint8_t *to = f.map;
    persist_store_cached(&p, to + 100, from, 300);
    memcpy(want + 100, from, 300);
    ck_assert_mem_eq(to, want, sizeof want);
    ck_assert_uint_eq(p.counts.base_bytes, 300);
    ck_assert_uint_eq(p.counts.flushes, 0);
    persist_flush(&p, to + 127, 2); /* two lines */
    persist_flush(&p, to + 64, 64);
    ck_assert_mem_eq(to, want, sizeof want);
    ck_assert_uint_eq(p.counts.flushes, cache_line ? 3 : 0);
    file_drop(&f);
}
END_TEST

/* --- msync on real files ---------------------------------------------------------------------- */

/* Both files, one of them mapped from its second page on, stores across pages included. */
START_TEST(test_msync_stores_go_to_their_place_in_their_file)
{
    struct persist p;
    struct dax_err err;
    struct file f, side;
    file_make(&f, "base", 3 * 4096, 4096);
    file_make(&side, "sidecar", 3 * 4096, 0);
    persist_init(&p, PERSIST_MSYNC, f.fd);
    persist_set_base(&p, file_find, &f);
    persist_set_sidecar(&p, side.fd, side.map, side.bytes, side.map + 4096, 4096);
    static const size_t at[] = {0, 1, 4095, 4096, 4097, 8191};
    for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
        char got[64], want[64];
        memset(want, 'a' + (int)i, sizeof want);
        persist_store(&p, f.map + at[i], want, sizeof want);
        unit_ok(persist_point(&p, PERSIST_P3_BASE, &err));
        ck_assert_int_eq(pread(f.fd, got, 64, (off_t)(4096 + at[i])), 64);
        ck_assert_mem_eq(got, want, 64);
        ck_assert_mem_eq(f.map + at[i], want, 64);
        persist_store(&p, side.map + at[i], want, sizeof want);
        unit_ok(persist_point(&p, PERSIST_P2_RECORD, &err));
        ck_assert_int_eq(pread(side.fd, got, 64, (off_t)at[i]), 64);
        ck_assert_mem_eq(got, want, 64);
    }
    static const char zero[5000];
    persist_zero(&p, f.map + 100, sizeof zero);
    ck_assert_mem_eq(f.map + 100, zero, sizeof zero);
    file_drop(&side);
    file_drop(&f);
}
END_TEST

START_TEST(test_msync_errors_come_back_with_their_errno)
{
    struct persist p;
    struct dax_err err;
    persist_init(&p, PERSIST_MSYNC, -1);
    unit_fails(persist_point(&p, PERSIST_P3_BASE, &err), DAX_IO_WRITE, "P3");
    ck_assert_int_eq(err.sys_errno, EBADF);
    ck_assert(strstr(err.text, "fdatasync of the database"));
    unit_fails(persist_point(&p, PERSIST_P4_CURSOR, &err), DAX_IO_WRITE, "P4");
    ck_assert_int_eq(err.sys_errno, EBADF);
    ck_assert(strstr(err.text, "sync of the log"));
    /* Each its own. */
    struct file f;
    file_make(&f, "one", 4096, 0);
    persist_set_sidecar(&p, f.fd, f.map, f.bytes, f.map, f.bytes);
    unit_fails(persist_point(&p, PERSIST_P3_BASE, &err), DAX_IO_WRITE, "P3");
    unit_ok(persist_point(&p, PERSIST_P4_CURSOR, &err));
    persist_init(&p, PERSIST_MSYNC, f.fd);
    unit_fails(persist_point(&p, PERSIST_P4_CURSOR, &err), DAX_IO_WRITE, "P4");
    unit_ok(persist_point(&p, PERSIST_P3_BASE, &err));
    file_drop(&f);
}
END_TEST

/* --- stores that cannot be made ----------------------------------------------------------------- */

static bool owner_rescue(struct guard_owner *o, uint64_t offset, const struct guard_fault *fault)
{
    (void)o, (void)offset, (void)fault;
    return false;
}

static void owner_fatal(struct guard_owner *o, uint64_t offset, const struct guard_fault *fault)
{
    (void)owner_rescue(o, offset, fault);
}

static struct guard_owner owner = {owner_rescue, owner_fatal};

/* pwrite would make it as long as before, and zeros of what was lost. */
START_TEST(test_an_msync_store_behind_the_end_of_a_file_that_was_cut_is_a_fault)
{
    struct persist p;
    struct dax_err err;
    struct file f;
    struct guard_fault fault;
    struct stat st;
    unit_ok(guard_install(&err));
    file_init(&p, PERSIST_MSYNC, &f, 4 * 4096);
    unit_ok(guard_map_add(f.map, f.bytes, 0, &owner, &err));
    ck_assert(persist_try_store(&p, f.map + 2 * 4096, "x", 1, &fault));
    ck_assert_int_eq(ftruncate(f.fd, 4096), 0);
    ck_assert(persist_try_store(&p, f.map + 4095, "x", 1, &fault));
    ck_assert(!persist_try_store(&p, f.map + 2 * 4096, "x", 1, &fault));
    ck_assert_int_eq(fault.code, BUS_ADRERR);
    ck_assert_uint_eq(fault.offset, 2 * 4096);
    ck_assert(!persist_try_store(&p, f.map + 4096, NULL, 100, &fault));
    static const char across[128];
    ck_assert(!persist_try_store(&p, f.map + 4096 - 64, across, sizeof across, &fault));
    ck_assert_uint_eq(fault.offset, 4096);
    ck_assert_int_eq(fstat(f.fd, &st), 0);
    ck_assert_int_eq(st.st_size, 4096);
    guard_map_remove(f.map);
    file_drop(&f);
}
END_TEST

/* A descriptor that refuses, and a source that faults. */
START_TEST(test_an_msync_store_that_the_kernel_refuses_is_a_fault_with_its_errno)
{
    struct persist p;
    struct dax_err err;
    struct file f, from;
    struct guard_fault fault;
    static const uint8_t zero[4096];
    unit_ok(guard_install(&err));
    file_init(&p, PERSIST_MSYNC, &f, 4096);
    unit_ok(guard_map_add(f.map, f.bytes, 0, &owner, &err));
    p.base_fd = open(unit_path("base"), O_RDONLY | O_CLOEXEC);
    ck_assert(!persist_try_store(&p, f.map + 64, "x", 1, &fault));
    ck_assert_int_eq(fault.code, -EBADF);
    ck_assert_ptr_eq(fault.addr, f.map + 64);
    ck_assert_uint_eq(fault.offset, 64);
    ck_assert_uint_eq(fault.bytes, 4096);
    close(p.base_fd);
    p.base_fd = f.fd;

    file_make(&from, "from", 2 * 4096, 0);
    unit_ok(guard_map_add(from.map, from.bytes, 0, &owner, &err));
    ck_assert_int_eq(ftruncate(from.fd, 4096), 0);
    ck_assert(!persist_try_store(&p, f.map, from.map + 4096, 64, &fault));
    ck_assert_int_eq(fault.code, BUS_ADRERR);
    ck_assert_ptr_eq(fault.addr, from.map + 4096);
    ck_assert_mem_eq(f.map, zero, sizeof zero);
    guard_map_remove(from.map);
    guard_map_remove(f.map);
    file_drop(&from);
    file_drop(&f);
}
END_TEST

/* An address that no file has, and one outside of a guard: there is nobody to be told. */
START_TEST(test_an_msync_store_to_nowhere_ends_the_process)
{
    struct persist p;
    struct file f;
    file_init(&p, PERSIST_MSYNC, &f, 4096);
    persist_store(&p, f.map + 4096, "x", 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("persist");
    TCase *tc = tcase_create("persist");
    tcase_add_checked_fixture(tc, unit_setup, NULL);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_modes_have_the_names_that_users_see);
    tcase_add_loop_test(tc, test_store_and_zero_touch_exactly_their_bytes, 0, 3);
    tcase_add_loop_test(tc, test_points_of_cache_line_modes_need_no_file, 0, 3);
    tcase_add_loop_test(tc, test_a_point_syncs_its_file_is_counted_first_and_reports_its_name, 0,
                        PERSIST_TAGS);
    tcase_add_loop_test(tc, test_bytes_are_counted_for_the_file_that_they_go_to, 0, 3);
    tcase_add_test(tc, test_small_stores_are_counted_by_the_lines_that_they_touch);
    tcase_add_loop_test(tc, test_a_cached_store_copies_its_bytes_and_is_flushed_by_the_line, 0, 3);
    tcase_add_test(tc, test_msync_stores_go_to_their_place_in_their_file);
    tcase_add_test(tc, test_msync_errors_come_back_with_their_errno);
    tcase_add_test(tc, test_an_msync_store_behind_the_end_of_a_file_that_was_cut_is_a_fault);
    tcase_add_test(tc, test_an_msync_store_that_the_kernel_refuses_is_a_fault_with_its_errno);
    tcase_add_test_raise_signal(tc, test_an_msync_store_to_nowhere_ends_the_process, SIGABRT);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
