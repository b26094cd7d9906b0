/* test_uncached.c: would catch a record that is not where it belongs in the file, or not in the mapping; bytes
 * beside it that changed; a block taken from the buffer that others have stored to; a sync that waits for the
 * page cache when there is nothing in it, or does not when there is; a write that was cut short; an error that
 * is lost; a file system that refuses O_DIRECT; a file made longer again that somebody has cut; a descriptor of
 * another file.
 *
 * On the tmpfs of other tests, and in the working directory, which is on a disk as a rule: only there is a
 * write with O_DIRECT another way than through the page cache.
 */
#include "engine/uncached.h"

#include <signal.h>
#include <sys/mman.h>

#include "engine/limits.h"
#include "engine/persist.h"
#include "tests/seed.h"
#include "tests/unit/unit.h"

#define LEAD (2 * 4096 + 256) /* of the file, in front of the ring */
#define RING (64 * 4096)
#define BYTES (LEAD + RING + 4096 - 256)

/* --- between the engine and the kernel -------------------------------------------------------------- */

static struct {
    int fd;   /* whose pwrites are counted, and not as they should be: */
    int fail; /* with this errno */
    size_t short_by;
    bool trickles; /* a sector a time */
    unsigned writes;
    unsigned fdatasyncs;
} kernel;

ssize_t __real_pwrite(int fd, const void *from, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *from, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *from, size_t n, off_t at)
{
    if (fd != kernel.fd)
        return __real_pwrite(fd, from, n, at);
    kernel.writes++;
    if (kernel.fail) {
        errno = kernel.fail;
        return -1;
    }
    size_t less = kernel.trickles ? 512 : kernel.short_by < n ? n - kernel.short_by : n;
    kernel.short_by = 0; /* once */
    /* Whole blocks, as O_DIRECT wants them; so what is said to be written may be less. */
    ssize_t done = __real_pwrite(fd, from, (less + 4095) & ~(size_t)4095, at);
    return done < 0 ? done : (ssize_t)less;
}

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
    kernel.fdatasyncs++;
    return __real_fdatasync(fd);
}

/* --- a sidecar -------------------------------------------------------------------------------------- */

struct side {
    struct persist p;
    struct dax_err err;
    int fd;
    uint8_t *map;
    uint8_t model[BYTES]; /* what has to be in the file */
    char path[600];
};

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

static struct side *side_make(bool disk)
{
    static struct side s;
    struct dax_err err;
    memset(&s, 0, sizeof s);
    snprintf(s.path, sizeof s.path, "%s", disk ? "./uncached-XXXXXX" : unit_path("side-XXXXXX"));
    s.fd = mkostemp(s.path, O_CLOEXEC);
    ck_assert_int_ge(s.fd, 0);
    for (size_t i = 0; i < BYTES; i++)
        s.model[i] = (uint8_t)(i * 31 + i / 4096);
    ck_assert_int_eq(write(s.fd, s.model, BYTES), BYTES);
    s.map = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, s.fd, 0);
    ck_assert_ptr_ne(s.map, MAP_FAILED);
    unit_ok(guard_install(&err));
    unit_ok(guard_map_add(s.map, BYTES, 0, &owner, &err));
    persist_init(&s.p, PERSIST_MSYNC, -1);
    persist_set_sidecar(&s.p, s.fd, s.map, BYTES, s.map + LEAD, RING);
    persist_bypass_cache(&s.p, s.path);
    kernel.fd = s.p.uncached.buffer ? s.p.uncached.fd : -1;
    kernel.fail = 0;
    kernel.short_by = 0;
    if (!s.p.uncached.buffer)
        fprintf(stderr, "SKIPPED, no O_DIRECT here: %s\n", s.path);
    return &s;
}

static void side_drop(struct side *s)
{
    guard_map_remove(s->map);
    persist_set_sidecar(&s->p, -1, NULL, 0, NULL, 0);
    ck_assert_ptr_null(s->p.uncached.buffer);
    munmap(s->map, BYTES);
    close(s->fd);
    unlink(s->path);
}

static void side_store(struct side *s, size_t at, const uint8_t *from, size_t len)
{
    struct guard_fault fault;
    ck_assert(persist_try_store(&s->p, s->map + at, from, len, &fault));
    memcpy(s->model + at, from, len);
}

static void side_sync(struct side *s, enum persist_tag tag)
{
    struct dax_err err;
    unit_ok(persist_point(&s->p, tag, &err));
}

/* The whole file, past the buffer, and as it is mapped. */
static void side_check(const struct side *s, const char *what, unsigned step)
{
    static uint8_t got[BYTES];
    ck_assert_int_eq(pread(s->fd, got, BYTES, 0), BYTES);
    size_t i = 0;
    if (memcmp(got, s->model, BYTES) != 0 || memcmp(s->map, s->model, BYTES) != 0)
        while (got[i] == s->model[i] && s->map[i] == s->model[i])
            i++;
    else
        return;
    ck_abort_msg("%s, step %u: byte %zu is %u in the file, %u in the mapping, not %u", what, step,
                 i, got[i], s->map[i], s->model[i]);
}

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 11) % n;
}

static const uint8_t *record_of(size_t bytes)
{
    static uint8_t record[RING];
    for (size_t i = 0; i < bytes; i++)
        record[i] = (uint8_t)random_below(256);
    return record;
}

/* --- records ---------------------------------------------------------------------------------------- */

/* As log.c does it: whole lines at growing places, two pieces where the ring ends, a point for each. */
START_TEST(test_records_are_in_the_file_and_nothing_beside_them_has_changed)
{
    struct side *s = side_make(_i);
    uint64_t lsn = 640, cached = 0, passed = 0;
    random_state = test_seed_given() * 2654435769u + 1;
    for (unsigned step = 0; step < 1500; step++) {
        /* Mostly small; some of many blocks, and more than the buffer can have. */
        size_t lines = random_below(20)  ? 1 + random_below(20)
                       : random_below(3) ? 1 + random_below(300)
                                         : 1000 + random_below(400);
        size_t bytes = lines * 64, place = lsn % RING;
        size_t first = RING - place < bytes ? RING - place : bytes;
        const uint8_t *record = record_of(bytes);
        unsigned syncs = kernel.fdatasyncs;
        uint64_t uncached = s->p.counts.syncs_uncached;
        side_store(s, LEAD + place, record, first);
        if (first < bytes)
            side_store(s, LEAD, record + first, bytes - first);
        side_sync(s, PERSIST_P2_RECORD);
        if (first < bytes)
            side_sync(s, PERSIST_P2_RECORD);
        uncached = s->p.counts.syncs_uncached - uncached;
        bool inside =
            LEAD + place >= 3 * 4096 && LEAD + place + bytes <= (LEAD + RING) / 4096 * 4096;
        if (s->p.uncached.buffer && inside && bytes <= 32768) {
            ck_assert_uint_eq(uncached, 1);
            ck_assert_uint_eq(kernel.fdatasyncs, syncs);
            passed++;
        } else if (uncached == 0) {
            ck_assert_uint_gt(kernel.fdatasyncs, syncs);
            cached++;
        }
        if (random_below(10) == 0) { /* a cursor, in front of the ring or behind it */
            side_store(s, random_below(2) ? 4096 : LEAD + RING, record_of(64), 64);
            syncs = kernel.fdatasyncs;
            side_sync(s, PERSIST_P4_CURSOR);
            ck_assert_uint_eq(kernel.fdatasyncs, syncs + 1);
        }
        if (random_below(30) == 0) { /* a record that is given up, and its successor */
            side_store(s, LEAD + place, record_of(64), 64);
            side_sync(s, PERSIST_P2_RECORD);
        }
        if (step % 16 == 0 || bytes > 4096)
            side_check(s, "a record", step);
        lsn += bytes;
    }
    side_check(s, "at the end", 0);
    ck_assert_uint_gt(lsn, 3 * RING);
    ck_assert_uint_gt(cached, 0);
    ck_assert(!s->p.uncached.buffer || passed > 500);
    side_drop(s);
}
END_TEST

/* Several stores before the point, in any order: what does not fit to the buffer goes the other way. */
START_TEST(test_stores_that_are_not_records_get_there_as_well)
{
    struct side *s = side_make(_i);
    random_state = test_seed_given() * 40503u + 7;
    for (unsigned step = 0; step < 400; step++) {
        for (unsigned n = 1 + random_below(4); n > 0; n--) {
            size_t bytes = (1 + random_below(200)) * 64;
            size_t at = random_below((BYTES - (uint32_t)bytes) / 64) * 64;
            side_store(s, at, record_of(bytes), bytes);
        }
        side_sync(s, PERSIST_P2_RECORD);
        side_check(s, "some stores", step);
    }
    side_drop(s);
}
END_TEST

/* --- what the kernel may answer ------------------------------------------------------------------------ */

START_TEST(test_a_write_that_is_cut_short_goes_on)
{
    struct side *s = side_make(_i);
    random_state = 3;
    static const size_t by[] = {4096, 1, 4095, 4097, 3 * 4096};
    for (unsigned i = 0; i < sizeof by / sizeof by[0]; i++) {
        kernel.short_by = by[i];
        kernel.writes = 0;
        side_store(s, 5 * 4096 + 64, record_of(4 * 4096), 4 * 4096);
        side_sync(s, PERSIST_P2_RECORD);
        side_check(s, "cut short", i);
        ck_assert(!s->p.uncached.buffer || kernel.writes > 1);
    }
    side_drop(s);
}
END_TEST

START_TEST(test_an_error_is_the_points_and_the_next_one_tries_again)
{
    struct side *s = side_make(_i);
    struct dax_err err;
    random_state = 4;
    if (!s->p.uncached.buffer) {
        side_drop(s);
        return;
    }
    static const int codes[] = {EIO, ENOSPC, EBADF, EDQUOT};
    for (unsigned i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        kernel.fail = codes[i];
        unsigned syncs = kernel.fdatasyncs;
        side_store(s, 6 * 4096 + 640, record_of(448), 448);
        bool full = codes[i] == ENOSPC || codes[i] == EDQUOT;
        unit_fails(persist_point(&s->p, PERSIST_P2_RECORD, &err),
                   full ? DAX_FULL : DAX_IO_WRITE,
                   full ? "no space to write the log's blocks at P2"
                        : "the sync of the log failed");
        ck_assert_int_eq(err.sys_errno, codes[i]);
        unit_fails(persist_point(&s->p, PERSIST_P2_RECORD, &err),
                   full ? DAX_FULL : DAX_IO_WRITE, "P2");
        kernel.fail = 0;
        side_store(s, 6 * 4096 + 640, record_of(64), 64); /* log.c makes it invalid */
        side_sync(s, PERSIST_P2_RECORD);
        ck_assert_uint_eq(kernel.fdatasyncs,
                          syncs + (i == 0)); /* the first sync of all is one of everything */
        side_check(s, "behind an error", i);
    }
    side_drop(s);
}
END_TEST

START_TEST(test_writes_that_do_not_get_on_are_an_error)
{
    struct side *s = side_make(_i);
    struct dax_err err;
    random_state = 6;
    if (s->p.uncached.buffer) {
        kernel.trickles = true;
        kernel.writes = 0;
        side_store(s, 5 * 4096 + 64, record_of(448), 448);
        unit_fails(persist_point(&s->p, PERSIST_P2_RECORD, &err), DAX_IO_WRITE, "P2");
        ck_assert_int_eq(err.sys_errno, EIO);
        ck_assert_uint_le(kernel.writes, 10);
        kernel.trickles = false;
        side_sync(s, PERSIST_P2_RECORD);
        side_check(s, "after a trickle", 0);
    }
    side_drop(s);
}
END_TEST

/* From then on everything goes through the page cache. */
START_TEST(test_a_file_system_that_refuses_is_asked_once)
{
    struct side *s = side_make(_i & 1);
    random_state = 5;
    if (!s->p.uncached.buffer) {
        side_drop(s);
        return;
    }
    side_store(s, 6 * 4096, record_of(448), 448);
    side_sync(s, PERSIST_P2_RECORD);
    ck_assert_uint_eq(s->p.counts.syncs_uncached, 1);
    kernel.fail = _i & 2 ? EINVAL : EOPNOTSUPP;
    kernel.writes = kernel.fdatasyncs = 0;
    for (unsigned i = 1; i < 4; i++) {
        side_store(s, 6 * 4096 + i * 448, record_of(448), 448);
        side_sync(s, PERSIST_P2_RECORD);
        side_check(s, "refused", i);
        ck_assert_uint_eq(kernel.writes, 1);
        ck_assert_uint_eq(kernel.fdatasyncs, i);
    }
    ck_assert_uint_eq(s->p.counts.syncs_uncached, 1);
    side_drop(s);
}
END_TEST

/* Also in a block that the buffer has, and whose page is in no page cache. */
START_TEST(test_a_file_that_was_cut_is_not_made_longer_again)
{
    struct side *s = side_make(_i);
    struct guard_fault fault;
    struct stat st;
    random_state = 6;
    side_store(s, 40 * 4096, record_of(448), 448);
    side_sync(s, PERSIST_P2_RECORD);
    ck_assert_int_eq(ftruncate(s->fd, (off_t)20 * 4096), 0);
    ck_assert(!persist_try_store(&s->p, s->map + 40 * 4096 + 448, record_of(448), 448, &fault));
    ck_assert_int_eq(fault.code, BUS_ADRERR);
    ck_assert_uint_eq(fault.offset, 40 * 4096 + 448);
    ck_assert(!persist_try_store(&s->p, s->map + 41 * 4096, record_of(64), 64, &fault));
    ck_assert_int_eq(fstat(s->fd, &st), 0);
    ck_assert_int_eq(st.st_size, 20 * 4096);
    side_drop(s);
}
END_TEST

START_TEST(test_another_file_under_the_name_is_not_stored_to)
{
    struct uncached u = {0};
    struct side *s = side_make(_i);
    char other[700];
    snprintf(other, sizeof other, "%s-other", s->path);
    int fd = open(other, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, s->model, BYTES), BYTES);
    ck_assert(uncached_open(&u, other, fd) == (s->p.uncached.buffer != NULL));
    uncached_close(&u);
    ck_assert(!uncached_open(&u, other, s->fd));
    ck_assert_ptr_null(u.buffer);
    uncached_close(&u);
    ck_assert_int_eq(unlink(other), 0);
    ck_assert(!uncached_open(&u, other, fd));
    uncached_close(&u);
    close(fd);
    side_drop(s);
}
END_TEST

/* In the other modes there is no page cache to go past. */
START_TEST(test_cache_line_modes_have_none)
{
    struct persist p;
    struct side *s = side_make(false);
    persist_init(&p, _i ? PERSIST_PMEM : PERSIST_VOLATILE, -1);
    persist_set_sidecar(&p, s->fd, s->map, BYTES, s->map + LEAD, RING);
    persist_bypass_cache(&p, s->path);
    ck_assert_ptr_null(p.uncached.buffer);
    side_drop(s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("uncached");
    TCase *tc = tcase_create("uncached");
    tcase_add_checked_fixture(tc, unit_setup, NULL);
    tcase_set_timeout(tc, 240);
    tcase_add_loop_test(tc, test_records_are_in_the_file_and_nothing_beside_them_has_changed, 0, 2);
    tcase_add_loop_test(tc, test_stores_that_are_not_records_get_there_as_well, 0, 2);
    tcase_add_loop_test(tc, test_a_write_that_is_cut_short_goes_on, 0, 2);
    tcase_add_loop_test(tc, test_an_error_is_the_points_and_the_next_one_tries_again, 0, 2);
    tcase_add_loop_test(tc, test_writes_that_do_not_get_on_are_an_error, 0, 2);
    tcase_add_loop_test(tc, test_a_file_system_that_refuses_is_asked_once, 0, 4);
    tcase_add_loop_test(tc, test_a_file_that_was_cut_is_not_made_longer_again, 0, 2);
    tcase_add_loop_test(tc, test_another_file_under_the_name_is_not_stored_to, 0, 2);
    tcase_add_loop_test(tc, test_cache_line_modes_have_none, 0, 2);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
