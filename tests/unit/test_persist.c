/* test_persist.c: would catch a store that copies the wrong bytes at some length or alignment, an
 * ordering point that syncs the wrong file or range, makes a system call in a cache-line mode, is
 * not counted, or loses an error; a store that is counted for the wrong file or with the wrong lines.
 */
#include "engine/persist.h"

#include <sys/mman.h>

#include "tests/unit/unit.h"

static const enum persist_mode modes[] = {PERSIST_PMEM, PERSIST_MSYNC, PERSIST_VOLATILE};

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
    static _Alignas(4096) uint8_t dst[2048], want[2048], src[2048];
    struct persist p;
    persist_init(&p, modes[_i], -1);
    for (size_t i = 0; i < sizeof src; i++)
        src[i] = (uint8_t)(i * 7 + 1);
    for (size_t at = 0; at < 64; at++) {
        for (size_t len = 0; len <= 700; len = len < 300 ? len + 1 : len + 61) {
            memset(dst, 0xEE, sizeof dst);
            memset(want, 0xEE, sizeof want);
            persist_store(&p, dst + 128 + at, src + at % 3, len);
            persist_visible(&p);
            memcpy(want + 128 + at, src + at % 3, len);
            ck_assert_msg(memcmp(dst, want, sizeof dst) == 0, "store at %zu, %zu bytes", at, len);
            persist_zero(&p, dst + 128 + at, len);
            persist_visible(&p);
            memset(want + 128 + at, 0, len);
            ck_assert_msg(memcmp(dst, want, sizeof dst) == 0, "zero at %zu, %zu bytes", at, len);
        }
    }
}
END_TEST

START_TEST(test_points_of_cache_line_modes_need_no_file_and_no_range)
{
    struct persist p;
    struct dax_err err;
    persist_init(&p, modes[_i], -1);
    if (modes[_i] == PERSIST_MSYNC)
        return;
    for (int tag = 0; tag < PERSIST_TAGS; tag++) {
        unit_ok(persist_point(&p, (enum persist_tag)tag, NULL, 0, &err));
        ck_assert_uint_eq(p.points[tag], 1);
    }
}
END_TEST

/* --- which operation a point uses ------------------------------------------------------------- */

struct recorder {
    struct persist p; /* first: the operations get its address */
    int logs, bases;
    const void *addr;
    size_t len;
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

static int record_log(struct persist *p, const void *addr, size_t len)
{
    struct recorder *r = (struct recorder *)p;
    r->logs++;
    r->addr = addr;
    r->len = len;
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
    uint8_t bytes[10];
    persist_init(&r.p, PERSIST_MSYNC, -1);
    r.p.ops = &record_ops;
    unit_ok(persist_point(&r.p, tags[_i].tag, bytes, sizeof bytes, &err));
    ck_assert_int_eq(r.logs, tags[_i].log);
    ck_assert_int_eq(r.bases, !tags[_i].log);
    if (tags[_i].log) {
        ck_assert_ptr_eq(r.addr, bytes);
        ck_assert_uint_eq(r.len, sizeof bytes);
    }
    ck_assert_uint_eq(r.points_seen, 1);
    ck_assert_uint_eq(r.p.points[tags[_i].tag], 1);
    r.fail_with = EIO;
    unit_fails(persist_point(&r.p, tags[_i].tag, bytes, sizeof bytes, &err), DAX_IO_WRITE,
               tags[_i].name);
    ck_assert_int_eq(err.sys_errno, EIO);
    ck_assert_uint_eq(r.p.points[tags[_i].tag], 2);
}
END_TEST

/* --- what is counted -------------------------------------------------------------------------- */

/* A sidecar of 4 KiB with its ring in the second half, all in memory that is no file. */
START_TEST(test_bytes_are_counted_for_the_file_that_they_go_to)
{
    static _Alignas(4096) uint8_t sidecar[4096], base[4096], from[512];
    struct persist p;
    struct dax_err err;
    persist_init(&p, modes[_i], -1);
    persist_set_sidecar(&p, sidecar, sizeof sidecar, sidecar + 2048, 1024);
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
        unit_ok(persist_point(&p, PERSIST_P2_RECORD, sidecar, 64, &err));
    else
        unit_fails(persist_point(&p, PERSIST_P3_BASE, NULL, 0, &err), DAX_IO_WRITE, "P3");
    ck_assert_uint_eq(p.counts.fences, cache_line ? 2 : 0);
    ck_assert_uint_eq(p.counts.syncs, !cache_line);
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
    static _Alignas(64) uint8_t to[1024], from[512], want[1024];
    struct persist p;
    bool cache_line = modes[_i] != PERSIST_MSYNC;
    memset(from, 0x5A, sizeof from);
    persist_init(&p, modes[_i], -1);
    persist_store_cached(&p, to + 100, from, 300);
    memcpy(want + 100, from, 300);
    ck_assert_mem_eq(to, want, sizeof want);
    ck_assert_uint_eq(p.counts.base_bytes, 300);
    ck_assert_uint_eq(p.counts.flushes, 0);
    persist_flush(&p, to + 127, 2); /* two lines */
    persist_flush(&p, to + 64, 64);
    ck_assert_mem_eq(to, want, sizeof want);
    ck_assert_uint_eq(p.counts.flushes, cache_line ? 3 : 0);
}
END_TEST

/* --- msync on real files ---------------------------------------------------------------------- */

START_TEST(test_msync_points_take_any_range_of_a_mapping)
{
    struct persist p;
    struct dax_err err;
    const char *path = unit_path("f");
    static const uint8_t zeros[3 * 4096];
    unit_write_file(path, zeros, sizeof zeros);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t *map = mmap(NULL, sizeof zeros, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(map, MAP_FAILED);
    persist_init(&p, PERSIST_MSYNC, fd);
    static const size_t at[] = {0, 1, 4095, 4096, 4097, 8191};
    for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
        persist_store(&p, map + at[i], "x", 1);
        unit_ok(persist_point(&p, PERSIST_P2_RECORD, map + at[i], 64, &err));
        unit_ok(persist_point(&p, PERSIST_P3_BASE, NULL, 0, &err));
        char got;
        ck_assert_int_eq(pread(fd, &got, 1, (off_t)at[i]), 1);
        ck_assert_int_eq(got, 'x');
    }
    munmap(map, sizeof zeros);
    close(fd);
}
END_TEST

START_TEST(test_msync_errors_come_back_with_their_errno)
{
    struct persist p;
    struct dax_err err;
    persist_init(&p, PERSIST_MSYNC, -1);
    unit_fails(persist_point(&p, PERSIST_P3_BASE, NULL, 0, &err), DAX_IO_WRITE, "P3");
    ck_assert_int_eq(err.sys_errno, EBADF);
    void *gone = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(gone, 4096);
    unit_fails(persist_point(&p, PERSIST_P4_CURSOR, gone, 64, &err), DAX_IO_WRITE, "P4");
    ck_assert_int_eq(err.sys_errno, ENOMEM);
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
    tcase_add_loop_test(tc, test_points_of_cache_line_modes_need_no_file_and_no_range, 0, 3);
    tcase_add_loop_test(tc, test_a_point_syncs_its_file_is_counted_first_and_reports_its_name, 0,
                        PERSIST_TAGS);
    tcase_add_loop_test(tc, test_bytes_are_counted_for_the_file_that_they_go_to, 0, 3);
    tcase_add_test(tc, test_small_stores_are_counted_by_the_lines_that_they_touch);
    tcase_add_loop_test(tc, test_a_cached_store_copies_its_bytes_and_is_flushed_by_the_line, 0, 3);
    tcase_add_test(tc, test_msync_points_take_any_range_of_a_mapping);
    tcase_add_test(tc, test_msync_errors_come_back_with_their_errno);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
