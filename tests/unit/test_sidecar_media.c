/* test_sidecar_media.c: would catch a sidecar that libpmemobj is given although it would die of it; an
 * unreadable ring, twin or ledger that keeps the sidecar from being opened; an older cursor that counts
 * because the newer one cannot be read; a store that takes a slot down with it; a root or a twin that is
 * mended wrong, or lost by a crash while it is; a fault note that is lost, torn or made up.
 *
 * Bad pages of the file: pread fails there. Bad pages of the mapping: another file, an empty one, is
 * mapped over them, so that any access is a SIGBUS.
 */
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

static void copy_file(const char *from, const char *to)
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
    if (torn_at <= len && torn_from) {
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

static bool no_rescue(struct guard_owner *o, uint64_t offset, const struct guard_fault *fault)
{
    (void)o, (void)offset, (void)fault;
    return false;
}

static struct sidecar *noting; /* whose last words a fatal fault is */

static void last_words(struct guard_owner *o, uint64_t offset, const struct guard_fault *fault)
{
    (void)o;
    sidecar_note_fault(noting, MEDIA_SIDECAR, offset / PAGE, MEDIA_SIGBUS, fault->code, 4711);
}

static struct guard_owner owner = {no_rescue, last_words};

static void watch(struct sidecar *s)
{
    struct dax_err err;
    unit_ok(guard_install(&err));
    unit_ok(guard_map_add(s->pool, s->file_bytes, 0, &owner, &err));
}

static void drop(struct sidecar *s)
{
    guard_map_remove(s->pool);
    sidecar_close(s);
}

static void put_cursor(struct sidecar *s, struct persist *p, uint64_t i)
{
    struct dax_err err;
    struct cursor_slot c = {.lsn = i * 64, .txid = i, .size_bytes = 4096, .salt = 5, .nonce = 6};
    unit_ok(sidecar_cursor_write(s, p, &c, &err));
}

/* With n cursors and n seals (of salt 5, at 64, 128, ...), open and watched. */
static void make(const char *path, uint64_t n, struct sidecar *s, struct persist *p)
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

static void reopen(const char *path, struct sidecar *s)
{
    struct dax_err err;
    unit_ok(sidecar_open(path, s, &err));
    watch(s);
}

/* Any access to the page of the mapping is a SIGBUS from here on. */
static void spoil(void *at)
{
    void *page = (void *)((uintptr_t)at & ~(uintptr_t)(PAGE - 1));
    int fd = open(unit_path("nothing"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_ptr_eq(mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0), page);
    close(fd);
}

static void heal(struct sidecar *s, void *at)
{
    uint8_t *page = (uint8_t *)((uintptr_t)at & ~(uintptr_t)(PAGE - 1));
    off_t offset = page - (uint8_t *)s->pool;
    ck_assert_ptr_eq(
        mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, s->fd, offset), page);
}

/* --- before libpmemobj is called ---------------------------------------------------------------------- */

static bool is_data(const char *path, uint64_t page)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t at = lseek(fd, (off_t)(page * PAGE), SEEK_DATA);
    close(fd);
    return at == (off_t)(page * PAGE);
}

/* Every page that libpmemobj may touch, and no other: one at a time cannot be read. */
START_TEST(test_an_unreadable_page_keeps_libpmemobj_from_being_called_and_nothing_else_does)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got;
    uint64_t theirs = 0, ours = 0, roots = 0;
    make(path, 3, &s, &p);
    const uint8_t *pool = s.pool;
    const uint64_t own[3][2] = {
        {(uint64_t)(s.ring - pool) / PAGE, s.ring_bytes / PAGE},
        {(uint64_t)((uint8_t *)s.twin - pool) / PAGE, 1},
        {(uint64_t)((uint8_t *)s.ledger - pool) / PAGE, sizeof *s.ledger / PAGE}, /* whole pages */
    };
    uint64_t root = (uint64_t)((uint8_t *)s.root - pool) / PAGE;
    memset(s.ring, 1, s.ring_bytes); /* no holes where the ring is */
    drop(&s);
    for (uint64_t page = 0; page < BYTES / PAGE; page++) {
        bool mine = false;
        for (int i = 0; i < 3; i++)
            mine |= page >= own[i][0] && page < own[i][0] + own[i][1];
        /* Many of the ring's are alike. */
        if (mine && page > own[0][0] + 3 && page < own[1][0] - 3 && page % 61 != 0)
            continue;
        if (!is_data(path, page))
            continue;
        bad_page = page;
        uint64_t before = pools_opened;
        if (mine) {
            unit_ok(sidecar_open(path, &s, &err));
            sidecar_close(&s);
            ours++;
        } else {
            char part[32];
            snprintf(part, sizeof part, "page %llu of the log", (unsigned long long)page);
            unit_fails(sidecar_open(path, &s, &err), DAX_IO_MEDIA, part);
            ck_assert_ptr_nonnull(strstr(err.text, path));
            ck_assert_ptr_nonnull(strstr(err.text, "move the log away"));
            ck_assert_uint_eq(pools_opened, before);
            unit_ok(sidecar_open_bare(path, &s, &err));
            unit_ok(sidecar_cursor_read(&s, &got, &err));
            ck_assert_uint_eq(got.txid, 3);
            ck_assert_uint_eq(sidecar_sealed(&s, 5), 3 * 64);
            ck_assert_ptr_nonnull(s.ledger);
            sidecar_close(&s);
            ck_assert_uint_eq(pools_opened, before);
            theirs++;
            roots += page == root;
        }
    }
    bad_page = NONE;
    unit_ok(sidecar_open(path, &s, &err));
    sidecar_close(&s);
    ck_assert_uint_gt(ours, 40);
    ck_assert_uint_gt(theirs, 40);
    ck_assert_uint_eq(roots, 1);
}
END_TEST

/* Where the parts are says the root, else the twin, else nobody. */
START_TEST(test_a_sidecar_is_opened_without_libpmemobj_as_long_as_root_or_twin_is_there)
{
    const char *path = unit_path("db-dax");
    struct sidecar s, bare;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got;
    static const char nothing[DAX_LINE_BYTES];
    make(path, 3, &s, &p);
    uint64_t root_at = (uint64_t)((uint8_t *)s.root - (uint8_t *)s.pool);
    uint64_t places_at = (uint64_t)((uint8_t *)&s.twin->places - (uint8_t *)s.pool);
    unit_fails(sidecar_open_bare(path, &bare, &err), DAX_CANT_OPEN, "in use"); /* by this process */
    uint64_t ring = (uint64_t)(s.ring - (uint8_t *)s.pool), ring_bytes = s.ring_bytes;
    uint64_t ledger = (uint64_t)((uint8_t *)s.ledger - (uint8_t *)s.pool);
    drop(&s);
    for (unsigned lost = 0; lost < 3; lost++) {
        if (lost == 1)
            unit_file_patch(path, root_at, nothing, sizeof nothing);
        if (lost == 2)
            unit_file_patch(path, places_at, nothing, sizeof nothing);
        if (lost == 2) {
            unit_fails(sidecar_open_bare(path, &bare, &err), DAX_CORRUPT, "can be found");
            break;
        }
        unit_ok(sidecar_open_bare(path, &bare, &err));
        const uint8_t *pool = bare.pool;
        ck_assert_uint_eq((uint64_t)((uint8_t *)bare.root - pool), root_at);
        ck_assert_uint_eq((uint64_t)(bare.ring - pool), ring);
        ck_assert_uint_eq(bare.ring_bytes, ring_bytes);
        ck_assert_uint_eq((uint64_t)((uint8_t *)bare.ledger - pool), ledger);
        unit_ok(sidecar_cursor_read(&bare, &got, &err));
        ck_assert_uint_eq(got.txid, 3);
        ck_assert_uint_eq(sidecar_sealed(&bare, 5), 3 * 64);
        unit_ok(sidecar_seal(&bare, &p, 5, 4 * 64, &err));
        ck_assert_uint_eq(sidecar_sealed(&bare, 5), 4 * 64);
        unit_ok(sidecar_seal(&bare, &p, 5, 3 * 64, &err)); /* for the next round */
        unit_fails(sidecar_open_bare(path, &s, &err), DAX_CANT_OPEN, "in use");
        sidecar_close(&bare);
        unit_file_patch(path, places_at - (DAX_SEALS - 3) * sizeof(struct seal), nothing,
                        sizeof nothing); /* the fourth seal */
    }
}
END_TEST

/* A file that was cut: what is missing is a fault and no end of a mapping; and it stays as it is. */
START_TEST(test_of_a_cut_sidecar_what_is_there_can_be_read)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got;
    make(path, 3, &s, &p);
    uint64_t twin_at = (uint64_t)((uint8_t *)s.twin - (uint8_t *)s.pool);
    drop(&s);
    ck_assert_int_eq(truncate(path, (off_t)(twin_at - 64 * PAGE)), 0);
    unit_ok(sidecar_open_bare(path, &s, &err));
    watch(&s);
    unit_ok(sidecar_cursor_read(&s, &got, &err));
    ck_assert_uint_eq(got.txid, 3);
    ck_assert(!sidecar_twin_whole(&s));
    ck_assert_uint_eq(sidecar_sealed(&s, 5), 0);
    unit_fails(sidecar_seal(&s, &p, 5, 64, &err), DAX_IO_MEDIA, path);
    ck_assert(guard_probe(s.ring, PAGE, NULL));
    ck_assert(!guard_probe(s.ring + s.ring_bytes - PAGE, PAGE, NULL));
    drop(&s);
    ck_assert_uint_eq(unit_file_size(path), twin_at - 64 * PAGE);
}
END_TEST

START_TEST(test_a_sidecar_that_takes_anothers_place_begins_with_what_it_was_given)
{
    const char *path = unit_path("db-dax"), *aside = unit_path("db-dax-bad");
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct stat like = {.st_mode = S_IFREG | 0640, .st_uid = geteuid(), .st_gid = getegid()};
    struct stat old, now, kept_file;
    struct cursor_slot got, c = {.lsn = 640, .txid = 7, .size_bytes = 8192, .salt = 8, .nonce = 9};
    struct media_entry entries[2] = {{.id = 3, .page = 30, .bytes = PAGE, .status = MEDIA_CLEARED},
                                     {.id = 5, .page = 50, .bytes = PAGE}};
    static struct sidecar_ledger ledger;
    ledger_make(&ledger, entries, 2, 11);
    struct sidecar_seed seed = {&c, &ledger};
    bool kept;
    unit_write_file(aside, "x", 1); /* an earlier one */
    make(path, 3, &s, &p);
    drop(&s);
    ck_assert_int_eq(stat(path, &old), 0);
    unit_ok(sidecar_replace(path, &like, 2 * BYTES, &seed, &kept, &s, &err));
    ck_assert(kept);
    for (int again = 0; again < 2; again++) {
        struct media_entry *list;
        size_t count, damaged;
        watch(&s);
        unit_ok(sidecar_cursor_read(&s, &got, &err));
        ck_assert_uint_eq(got.lsn, 640);
        ck_assert_uint_eq(got.txid, 7);
        ck_assert_uint_eq(got.nonce, 9);
        unit_ok(ledger_load(&s, &list, &count, &damaged, &err));
        ck_assert_uint_eq(count, 2);
        ck_assert_uint_eq(damaged, 0);
        ck_assert_uint_eq(list[0].page, 30);
        ck_assert_uint_eq(list[1].page, 50);
        ck_assert_uint_eq(ledger_last_id(&s), 11);
        free(list);
        drop(&s);
        if (again == 0)
            unit_ok(sidecar_open(path, &s, &err));
    }
    ck_assert_int_eq(stat(path, &now), 0);
    ck_assert_int_eq(stat(aside, &kept_file), 0);
    ck_assert(kept_file.st_ino == old.st_ino && now.st_ino != old.st_ino);
    ck_assert_int_eq(access(unit_path("db-dax-new"), F_OK), -1);
}
END_TEST

/* 256 entries: all that are open, and of the others the newest. */
START_TEST(test_a_ledger_that_is_made_of_too_many_entries_keeps_those_that_are_open)
{
    static struct sidecar_ledger ledger;
    static struct media_entry entries[300];
    for (unsigned i = 0; i < 300; i++)
        entries[i] = (struct media_entry){.id = i + 1,
                                          .page = i,
                                          .bytes = PAGE,
                                          .status = i % 2 ? MEDIA_QUARANTINED : MEDIA_REPAIRED};
    ledger_make(&ledger, entries, 300, 300);
    char path[] = "none";
    struct sidecar s = {.ledger = &ledger, .path = path};
    struct dax_err err;
    struct media_entry *list;
    size_t count, damaged, open = 0;
    unit_ok(ledger_load(&s, &list, &count, &damaged, &err));
    ck_assert_uint_eq(count, DAX_LEDGER_ENTRIES);
    for (size_t i = 0; i < count; i++) {
        open += list[i].status == MEDIA_QUARANTINED;
        ck_assert(list[i].status == MEDIA_QUARANTINED || list[i].id > 300 - 2 * 106);
    }
    ck_assert_uint_eq(open, 150);
    free(list);
}
END_TEST

START_TEST(test_of_a_large_sidecar_a_few_mib_are_read)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct dax_err err;
    struct stat like = {.st_mode = S_IFREG | 0600, .st_uid = geteuid(), .st_gid = getegid()};
    unit_ok(sidecar_create(path, &like, 96 * DAX_MIB, &s, &err));
    uint64_t root_at = (uint64_t)((uint8_t *)s.root - (uint8_t *)s.pool);
    uint64_t twin_at = (uint64_t)((uint8_t *)s.twin - (uint8_t *)s.pool);
    memset(s.ring, 1, s.ring_bytes);
    sidecar_close(&s);
    bytes_read = 0;
    unit_ok(sidecar_open(path, &s, &err));
    sidecar_close(&s);
    ck_assert_uint_lt(bytes_read, 9 * DAX_MIB);
    printf("figure: bytes of a sidecar of 96 MiB read before libpmemobj maps it: %llu\n",
           (unsigned long long)bytes_read);
    /* Where the root is not found nobody knows where the ring is. */
    unit_file_patch(path, root_at, "DAXLITE?", 8);
    bytes_read = 0;
    unit_fails(sidecar_open(path, &s, &err), DAX_CORRUPT, "root is damaged");
    ck_assert_uint_lt(bytes_read, 13 * DAX_MIB);
    bad_page = twin_at / PAGE; /* in the last MiB: it could be anything */
    unit_fails(sidecar_open(path, &s, &err), DAX_IO_MEDIA, "page ");
    bad_page = twin_at / PAGE / 2;
    unit_fails(sidecar_open(path, &s, &err), DAX_CORRUPT, "root is damaged");
    bad_page = NONE;
}
END_TEST

/* libpmemobj believes them without a checksum, and dies of what is wrong there. */
START_TEST(test_a_wrong_word_in_the_head_of_a_lanes_log_keeps_libpmemobj_from_being_called)
{
    enum {
        LANE = 3072,
        NEXT = 8,
        CAPACITY = 16,
        FLAGS = 32
    };
    static const off_t log_at[] = {0, 64 + 192, 64 + 192 + 64 + 640};
    static const off_t words[] = {NEXT, CAPACITY, FLAGS};
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got;
    uint64_t place[3], good, wrong; /* lanes, how many, heap */
    make(path, 3, &s, &p);
    drop(&s);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(__real_pread(fd, place, sizeof place, 4096 + 1024), (ssize_t)sizeof place);
    ck_assert_uint_eq((place[2] - place[0]) / LANE, place[1]);
    const uint64_t lanes[] = {0, 1, 64, place[1] - 1};
    uint64_t opened = pools_opened;
    for (unsigned i = 0; i < 36; i++) {
        off_t at = (off_t)(place[0] + lanes[i % 4] * LANE) + log_at[i / 4 % 3] + words[i / 12];
        ck_assert_int_eq(__real_pread(fd, &good, sizeof good, at), (ssize_t)sizeof good);
        wrong = good ^ UINT64_C(0x1000);
        ck_assert_int_eq(__real_pwrite(fd, &wrong, sizeof wrong, at), (ssize_t)sizeof wrong);
        unit_fails(sidecar_open(path, &s, &err), DAX_CORRUPT, "damaged");
        ck_assert_uint_eq(s.bad_page, (place[0] + lanes[i % 4] * LANE) / PAGE);
        unit_ok(sidecar_open_bare(path, &s, &err)); /* which needs none of it */
        watch(&s);
        unit_ok(sidecar_cursor_read(&s, &got, &err));
        ck_assert_uint_eq(got.txid, 3);
        drop(&s);
        ck_assert_int_eq(__real_pwrite(fd, &good, sizeof good, at), (ssize_t)sizeof good);
    }
    close(fd);
    ck_assert_uint_eq(pools_opened, opened);
    reopen(path, &s);
    drop(&s);
}
END_TEST

/* --- cursor ------------------------------------------------------------------------------------------- */

START_TEST(test_a_cursor_that_cannot_be_read_in_one_place_is_read_in_the_other)
{
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got;
    uint64_t n = (uint64_t)_i + 1;
    make(unit_path("db-dax"), n, &s, &p);
    for (unsigned lost = 0; lost < 4; lost++) { /* bit 0: root, bit 1: twin */
        if (lost & 1)
            spoil(s.root);
        if (lost & 2)
            spoil(s.twin);
        ck_assert_int_eq(sidecar_twin_whole(&s), !(lost & 2));
        if (lost == 3) {
            unit_fails(sidecar_cursor_read(&s, &got, &err), DAX_IO_MEDIA, "cannot be read");
        } else {
            unit_ok(sidecar_cursor_read(&s, &got, &err));
            ck_assert_uint_eq(got.txid, n);
        }
        ck_assert_uint_eq(sidecar_sealed(&s, 5), lost & 2 ? 0 : n * 64);
        if (lost) {
            struct cursor_slot c = {.lsn = 999, .txid = 999};
            unit_fails(sidecar_cursor_write(&s, &p, &c, &err), DAX_IO_MEDIA, s.path);
            if (lost & 2)
                unit_fails(sidecar_seal(&s, &p, 5, 6400, &err), DAX_IO_MEDIA, s.path);
        }
        heal(&s, s.root);
        heal(&s, s.twin);
        unit_ok(sidecar_cursor_read(&s, &got, &err));
        ck_assert_uint_eq(got.txid, n); /* what failed has left nothing */
    }
    drop(&s);
}
END_TEST

/* The twin goes while a slot is being stored, at any of the stores. */
static unsigned stores_left;
static struct sidecar *storing;
static const struct persist_ops *real_ops;

static void store_then_spoil(struct persist *p, void *dst, const void *src, size_t len)
{
    if (stores_left-- == 0)
        spoil(storing->twin);
    real_ops->store(p, dst, src, len);
}

START_TEST(test_a_twin_that_goes_while_a_cursor_is_stored_takes_no_slot_with_it)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got, c = {.lsn = 999 * 64, .txid = 999, .salt = 5, .nonce = 6};
    make(path, 4, &s, &p);
    real_ops = p.ops;
    struct persist_ops spoiling = *p.ops;
    spoiling.store = store_then_spoil;
    storing = &s;
    stores_left = (unsigned)_i;
    p.ops = &spoiling;
    unit_fails(sidecar_cursor_write(&s, &p, &c, &err), DAX_IO_MEDIA, path);
    p.ops = real_ops;
    unit_ok(sidecar_cursor_read(&s, &got, &err));
    ck_assert_uint_eq(got.txid, 4);
    unit_ok(sidecar_mend_twin(&s, &p, 5, 256, &err));
    unit_ok(sidecar_cursor_read(&s, &got, &err));
    ck_assert_uint_eq(got.txid, 4);
    put_cursor(&s, &p, 5);
    drop(&s);
    reopen(path, &s);
    unit_ok(sidecar_cursor_read(&s, &got, &err));
    ck_assert_uint_eq(got.txid, 5);
    drop(&s);
}
END_TEST

/* --- mending ------------------------------------------------------------------------------------------ */

START_TEST(test_a_mended_twin_has_the_cursors_of_the_root_and_a_fresh_seal)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got;
    make(path, 5, &s, &p);
    spoil(s.twin);
    unit_fails(sidecar_seal(&s, &p, 5, 320, &err), DAX_IO_MEDIA, path);
    unit_ok(sidecar_mend_twin(&s, &p, _i ? 5 : 0, _i ? 384 : 0, &err));
    for (int again = 0; again < 2; again++) {
        ck_assert(sidecar_twin_whole(&s));
        ck_assert_int_eq(memcmp(s.twin->cursor, s.root->cursor, sizeof s.root->cursor), 0);
        ck_assert_uint_eq(sidecar_sealed(&s, 5), _i ? 384 : 0);
        unit_ok(sidecar_cursor_read(&s, &got, &err));
        ck_assert_uint_eq(got.txid, 5);
        drop(&s);
        reopen(path, &s);
    }
    unit_ok(sidecar_seal(&s, &p, 5, 448, &err)); /* and is used on, by this mapping and the next */
    put_cursor(&s, &p, 6);
    spoil(s.twin);
    unit_ok(sidecar_mend_twin(&s, &p, 5, 512, &err));
    put_cursor(&s, &p, 7);
    unit_ok(sidecar_seal(&s, &p, 5, 576, &err));
    drop(&s);
    reopen(path, &s);
    ck_assert_uint_eq(sidecar_sealed(&s, 5), 576);
    unit_ok(sidecar_cursor_read(&s, &got, &err));
    ck_assert_uint_eq(got.txid, 7);
    drop(&s);
}
END_TEST

/* Where it can be read nothing of it changes but the line of the fresh seal. */
START_TEST(test_mending_keeps_what_can_be_read)
{
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct fault_note note;
    make(unit_path("db-dax"), 5, &s, &p);
    sidecar_note_fault(&s, MEDIA_BASE, 77, MEDIA_POISON, 4, 123);
    struct sidecar_twin before = *s.twin;
    s.root->cursor[0].hash++; /* the newest is only in the twin */
    unit_ok(sidecar_mend_twin(&s, &p, 5, 0, &err));
    ck_assert_int_eq(memcmp(&before, s.twin, sizeof before), 0);
    ck_assert_int_eq(memcmp(s.twin->cursor, s.root->cursor, sizeof s.root->cursor), 0);
    unit_ok(sidecar_mend_twin(&s, &p, 5, 999 * 64, &err));
    unsigned differ = 0;
    for (unsigned i = 0; i < DAX_SEALS; i++)
        differ += memcmp(&before.seal[i], &s.twin->seal[i], sizeof before.seal[i]) != 0;
    ck_assert_uint_eq(differ, 1);
    ck_assert_uint_eq(sidecar_sealed(&s, 5), 999 * 64);
    ck_assert(sidecar_take_note(&s, &note));
    ck_assert_uint_eq(note.page, 77);
    drop(&s);
}
END_TEST

START_TEST(test_a_crash_while_the_twin_is_mended_finds_the_newest_cursor)
{
    char *path = strdup(unit_path("db-dax")), *copy = strdup(unit_path("copy-dax"));
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got;
    make(path, 5, &s, &p);
    for (size_t at = 0; at <= PAGE; at += 8 * (1 + at / 512 * 7)) {
        /* The file has anything where the bad page was. */
        uint8_t *junk = malloc(PAGE);
        memset(junk, (int)at | 1, PAGE);
        ck_assert_int_eq(__real_pwrite(s.fd, junk, PAGE, (uint8_t *)s.twin - (uint8_t *)s.pool),
                         (ssize_t)PAGE);
        free(junk);
        spoil(s.twin);
        torn_at = at;
        torn_from = path;
        torn_copy = copy;
        unit_ok(sidecar_mend_twin(&s, &p, 5, 320, &err));
        ck_assert_ptr_null(torn_from);
        drop(&s); /* libpmemobj opens no two copies of a pool */
        reopen(copy, &s);
        unit_ok(sidecar_cursor_read(&s, &got, &err));
        ck_assert_uint_eq(got.txid, 5);
        uint64_t sealed = sidecar_sealed(&s, 5);
        ck_assert(sealed == 0 || sealed == 320);
        put_cursor(&s, &p, 6);
        drop(&s);
        reopen(path, &s);
    }
    drop(&s);
    free(path);
    free(copy);
}
END_TEST

START_TEST(test_a_medium_that_does_not_take_the_twin_back_gets_another_block_or_it_is_an_error)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    make(path, 5, &s, &p);
    spoil(s.twin);
    pwrite_error = EIO;
    unit_fails(sidecar_mend_twin(&s, &p, 5, 320, &err), DAX_IO_MEDIA, path);
    ck_assert_uint_eq(punched, 1);
    pwrite_error = ENOSPC;
    unit_fails(sidecar_mend_twin(&s, &p, 5, 320, &err), DAX_IO_WRITE, path);
    pwrite_error = EIO;
    punch_helps = true;
    unit_ok(sidecar_mend_twin(&s, &p, 5, 320, &err));
    ck_assert(sidecar_twin_whole(&s));
    ck_assert_uint_eq(sidecar_sealed(&s, 5), 320);
    spoil(s.root);
    spoil(s.twin);
    unit_fails(sidecar_mend_twin(&s, &p, 5, 320, &err), DAX_IO_MEDIA, "either");
    drop(&s);
}
END_TEST

/* The rest of the page is libpmemobj's. The cursors were others when the sidecar was opened. */
START_TEST(test_a_mended_root_has_the_cursors_of_the_twin_and_all_that_was_in_its_page)
{
    char *path = strdup(unit_path("db-dax")); /* spoil() takes names, too */
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got;
    uint8_t before[PAGE];
    make(path, 5, &s, &p);
    for (uint64_t n = 5; n < 9; n++) {
        uint64_t at = ((uint64_t)((uint8_t *)s.root - (uint8_t *)s.pool)) & ~(PAGE - 1);
        const uint8_t *page = (uint8_t *)s.pool + at;
        memcpy(before, page, PAGE);
        spoil(s.root);
        unit_ok(sidecar_seal(&s, &p, 5, n * 64, &err)); /* needs no root */
        unit_ok(sidecar_mend_root(&s, &p, &err));
        ck_assert_int_eq(memcmp(before, page, PAGE), 0);
        spoil(s.twin);
        unit_ok(sidecar_cursor_read(&s, &got, &err));
        ck_assert_uint_eq(got.txid, n);
        unit_ok(sidecar_mend_twin(&s, &p, 5, n * 64, &err));
        put_cursor(&s, &p, n + 1);
        if (_i) {
            drop(&s);
            reopen(path, &s);
        }
    }
    drop(&s);
    reopen(path, &s);
    unit_ok(sidecar_cursor_read(&s, &got, &err));
    ck_assert_uint_eq(got.txid, 9);
    drop(&s);
    free(path);
}
END_TEST

/* The root of the copy is torn, and what the tear has left is junk: then it is opened without libpmemobj. */
START_TEST(test_a_crash_while_the_root_is_mended_finds_the_newest_cursor)
{
    char *path = strdup(unit_path("db-dax")), *copy = strdup(unit_path("copy-dax"));
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got;
    unsigned whole = 0, bare = 0;
    make(path, 5, &s, &p);
    uint64_t offset = (uint64_t)((uint8_t *)s.root - (uint8_t *)s.pool),
             page = offset & ~(PAGE - 1);
    for (size_t at = 0; at <= PAGE; at += at / 256 == offset % PAGE / 256 ? 16 : 256) {
        uint8_t junk[PAGE];
        memset(junk, (int)at | 1, PAGE);
        ck_assert_int_eq(__real_pwrite(s.fd, junk, PAGE, (off_t)page), (ssize_t)PAGE);
        spoil(s.root);
        torn_at = at;
        torn_from = path;
        torn_copy = copy;
        unit_ok(sidecar_mend_root(&s, &p, &err));
        ck_assert_ptr_null(torn_from);
        drop(&s); /* libpmemobj opens no two copies of a pool */
        dax_rc rc = sidecar_open(copy, &s, &err);
        if (rc == DAX_OK)
            watch(&s);
        whole += rc == DAX_OK;
        if (rc != DAX_OK) {
            bare++;
            ck_assert_msg(rc == DAX_CORRUPT, "%s: %s", dax_rc_name(rc), err.text);
            unit_ok(sidecar_open_bare(copy, &s, &err));
            watch(&s);
        }
        unit_ok(sidecar_cursor_read(&s, &got, &err));
        ck_assert_uint_eq(got.txid, 5);
        ck_assert_uint_eq(sidecar_sealed(&s, 5), 320);
        drop(&s);
        reopen(path, &s);
        unit_ok(sidecar_cursor_read(&s, &got, &err));
        ck_assert_uint_eq(got.txid, 5);
    }
    ck_assert_uint_gt(whole, 1);
    ck_assert_uint_gt(bare, 1);
    drop(&s);
    free(path);
    free(copy);
}
END_TEST

START_TEST(test_a_root_that_cannot_be_mended_is_an_error_and_the_twin_keeps_the_cursor)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got;
    make(path, 5, &s, &p);
    spoil(s.root);
    pwrite_error = EIO;
    unit_fails(sidecar_mend_root(&s, &p, &err), DAX_IO_MEDIA, path);
    ck_assert_uint_eq(punched, 1);
    pwrite_error = ENOSPC;
    unit_fails(sidecar_mend_root(&s, &p, &err), DAX_IO_WRITE, path);
    unit_ok(sidecar_cursor_read(&s, &got, &err));
    ck_assert_uint_eq(got.txid, 5);
    pwrite_error = EIO;
    punch_helps = true;
    unit_ok(sidecar_mend_root(&s, &p, &err));
    put_cursor(&s, &p, 6);
    spoil(s.root);
    spoil(s.twin);
    unit_fails(sidecar_mend_root(&s, &p, &err), DAX_IO_MEDIA, "either");
    drop(&s);
}
END_TEST

/* --- note --------------------------------------------------------------------------------------------- */

START_TEST(test_a_note_is_found_at_the_next_open_until_it_is_cleared)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct fault_note note;
    make(path, 1, &s, &p);
    ck_assert(!sidecar_take_note(&s, &note));
    s.mode = _i ? PERSIST_MSYNC : PERSIST_VOLATILE;
    synced = 0;
    sidecar_note_fault(&s, MEDIA_BASE, 8841, MEDIA_POISON, BUS_MCEERR_AR, 1234567);
    ck_assert_uint_eq(synced, (uint64_t)_i);
    sidecar_note_fault(&s, MEDIA_LOG, 1, MEDIA_IO, BUS_ADRERR, 1); /* the first one stays */
    for (int again = 0; again < 3; again++) {
        ck_assert(sidecar_take_note(&s, &note));
        ck_assert_uint_eq(note.part, MEDIA_BASE);
        ck_assert_uint_eq(note.page, 8841);
        ck_assert_uint_eq(note.kind, MEDIA_POISON);
        ck_assert_int_eq(note.code, BUS_MCEERR_AR);
        ck_assert_uint_eq(note.time_us, 1234567);
        for (uint64_t i = 1; i <= 2 * DAX_SEALS; i++) /* seals do not reach it */
            unit_ok(sidecar_seal(&s, &p, 5, i * 64, &err));
        drop(&s);
        reopen(path, &s);
    }
    unit_ok(sidecar_clear_note(&s, &p, &err));
    ck_assert(!sidecar_take_note(&s, &note));
    sidecar_note_fault(&s, MEDIA_LOG, 1, MEDIA_IO, BUS_ADRERR, 1);
    ck_assert(sidecar_take_note(&s, &note));
    ck_assert_uint_eq(note.part, MEDIA_LOG);
    spoil(s.twin);
    ck_assert(!sidecar_take_note(&s, &note));
    unit_fails(sidecar_clear_note(&s, &p, &err), DAX_IO_MEDIA, path);
    drop(&s);
}
END_TEST

START_TEST(test_a_note_that_is_torn_damaged_or_of_nothing_known_is_none)
{
    struct sidecar s;
    struct persist p;
    struct fault_note note;
    make(unit_path("db-dax"), 1, &s, &p);
    sidecar_note_fault(&s, MEDIA_SIDECAR, 5, MEDIA_DAMAGED, 2, 9);
    struct fault_note *line = &s.twin->note, good = *line;
    ck_assert(sidecar_take_note(&s, &note));
    for (unsigned mask = 0; mask < 255; mask++) {
        for (unsigned w = 0; w < 8; w++)
            ((uint64_t *)line)[w] = mask >> w & 1 ? ((uint64_t *)&good)[w] : 0;
        ck_assert(sidecar_take_note(&s, &note) == (memcmp(line, &good, sizeof good) == 0));
    }
    for (unsigned bit = 0; bit < 512; bit++) {
        *line = good;
        ((uint8_t *)line)[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert(!sidecar_take_note(&s, &note));
    }
    for (int field = 0; field < 3; field++) {
        *line = good;
        if (field == 0)
            line->part = MEDIA_SIDECAR + 1;
        else if (field == 1)
            line->kind = MEDIA_DAMAGED + 1;
        else
            line->magic++;
        line->hash = hash_bytes(line, offsetof(struct fault_note, hash));
        ck_assert(!sidecar_take_note(&s, &note));
    }
    drop(&s);
}
END_TEST

/* As it happens: a thread meets a bad page outside of any guard, and the process ends. */
START_TEST(test_a_process_that_dies_of_a_fault_leaves_its_note)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct persist p;
    struct fault_note note;
    make(path, 1, &s, &p);
    uint64_t page = (uint64_t)(s.ring - (uint8_t *)s.pool) / PAGE + 3;
    drop(&s);
    pid_t pid = fork();
    if (pid == 0) {
        reopen(path, &s);
        noting = &s;
        spoil(s.ring + 3 * PAGE);
        ((volatile uint8_t *)s.ring)[3 * PAGE + 100]++;
        _exit(1);
    }
    ck_assert_int_eq(unit_wait(pid), 128 + SIGBUS);
    reopen(path, &s);
    ck_assert(sidecar_take_note(&s, &note));
    ck_assert_uint_eq(note.page, page);
    ck_assert_uint_eq(note.part, MEDIA_SIDECAR);
    ck_assert_int_eq(note.code, BUS_ADRERR);
    ck_assert_uint_eq(note.time_us, 4711);
    drop(&s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sidecar_media");
    TCase *tc = tcase_create("sidecar_media");
    tcase_add_checked_fixture(tc, unit_setup, NULL);
    tcase_set_timeout(tc, 300);
    tcase_add_test(
        tc, test_an_unreadable_page_keeps_libpmemobj_from_being_called_and_nothing_else_does);
    tcase_add_test(tc,
                   test_a_sidecar_is_opened_without_libpmemobj_as_long_as_root_or_twin_is_there);
    tcase_add_test(tc, test_of_a_cut_sidecar_what_is_there_can_be_read);
    tcase_add_test(tc, test_a_sidecar_that_takes_anothers_place_begins_with_what_it_was_given);
    tcase_add_test(tc, test_a_ledger_that_is_made_of_too_many_entries_keeps_those_that_are_open);
    tcase_add_test(tc, test_of_a_large_sidecar_a_few_mib_are_read);
    tcase_add_test(tc,
                   test_a_wrong_word_in_the_head_of_a_lanes_log_keeps_libpmemobj_from_being_called);
    tcase_add_loop_test(tc, test_a_cursor_that_cannot_be_read_in_one_place_is_read_in_the_other, 0,
                        4);
    tcase_add_loop_test(tc, test_a_twin_that_goes_while_a_cursor_is_stored_takes_no_slot_with_it, 0,
                        2);
    tcase_add_loop_test(tc, test_a_mended_twin_has_the_cursors_of_the_root_and_a_fresh_seal, 0, 2);
    tcase_add_test(tc, test_mending_keeps_what_can_be_read);
    tcase_add_test(tc, test_a_crash_while_the_twin_is_mended_finds_the_newest_cursor);
    tcase_add_test(
        tc, test_a_medium_that_does_not_take_the_twin_back_gets_another_block_or_it_is_an_error);
    tcase_add_loop_test(
        tc, test_a_mended_root_has_the_cursors_of_the_twin_and_all_that_was_in_its_page, 0, 2);
    tcase_add_test(tc, test_a_crash_while_the_root_is_mended_finds_the_newest_cursor);
    tcase_add_test(tc, test_a_root_that_cannot_be_mended_is_an_error_and_the_twin_keeps_the_cursor);
    tcase_add_loop_test(tc, test_a_note_is_found_at_the_next_open_until_it_is_cleared, 0, 2);
    tcase_add_test(tc, test_a_note_that_is_torn_damaged_or_of_nothing_known_is_none);
    tcase_add_test(tc, test_a_process_that_dies_of_a_fault_leaves_its_note);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
