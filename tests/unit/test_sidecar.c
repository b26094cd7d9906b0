/* test_sidecar.c: would catch a damaged, foreign or half-made sidecar that is accepted or crashes
 * libpmemobj, a torn cursor slot that counts, a store over the slot that counts, a creation that
 * leaves a file behind, wrong permissions, and a pool that two processes use.
 */
#include "engine/sidecar.h"

#include <libpmemobj.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include "engine/hash.h"
#include "tests/unit/unit.h"

#define BYTES (8 * DAX_MIB)

/* libpmemobj 1.12 keeps what it has allocated when it finds a pool's heap larger than the file. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libpmemobj";
}

static struct stat like_root = {.st_mode = S_IFREG | 0600};

static void make(const char *path, struct sidecar *s)
{
    struct dax_err err;
    like_root.st_uid = geteuid();
    like_root.st_gid = getegid();
    unit_ok(sidecar_create(path, &like_root, BYTES, s, &err));
}

/* Make one with `n` cursor slots stored, close it; where its root is in the file. */
static uint64_t make_closed(const char *path, unsigned n)
{
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    make(path, &s);
    persist_init(&p, PERSIST_VOLATILE, -1);
    for (unsigned i = 1; i <= n; i++) {
        struct cursor_slot c = {.lsn = 1000 * i, .txid = i, .salt = 5, .nonce = 6};
        unit_ok(sidecar_cursor_write(&s, &p, &c, &err));
    }
    uint64_t at = (uint64_t)((uint8_t *)s.root - (uint8_t *)s.pool);
    sidecar_close(&s);
    return at;
}

/* --- create ----------------------------------------------------------------------------------- */

START_TEST(test_create_gives_an_aligned_ring_that_open_finds_again)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct dax_err err;
    uint64_t bytes = _i == 0 ? DAX_LOG_BYTES_MIN : _i == 1 ? DAX_LOG_BYTES_DEFAULT : 9000001;
    unit_ok(sidecar_create(path, &like_root, bytes, &s, &err));
    ck_assert_uint_eq(unit_file_size(path), (bytes + 4095) / 4096 * 4096);
    ck_assert_uint_eq(s.file_bytes, unit_file_size(path));
    ck_assert_str_eq(s.path, path);
    ck_assert_uint_eq((uintptr_t)s.ring % 4096, 0);
    ck_assert_uint_eq((uintptr_t)s.twin % 4096, 0);
    ck_assert_uint_eq((uintptr_t)s.ledger % 4096, 0);
    ck_assert_uint_eq((uintptr_t)s.root % DAX_LINE_BYTES, 0);
    ck_assert_uint_eq(s.ring_bytes % 4096, 0);
    ck_assert_uint_ge(s.ring_bytes + 9 * DAX_MIB / 2,
                      bytes); /* libpmemobj takes about 4 MiB, the ledger 256 KiB */
    ck_assert_uint_le((uint64_t)(s.ring - (uint8_t *)s.pool) + s.ring_bytes, s.file_bytes);
    s.ring[0] = 'a';
    s.ring[s.ring_bytes - 1] = 'z';
    uint64_t ring_bytes = s.ring_bytes;
    sidecar_close(&s);
    ck_assert_ptr_null(s.pool);
    ck_assert_ptr_null(s.path);

    unit_ok(sidecar_open(path, &s, &err));
    ck_assert_uint_eq(s.ring_bytes, ring_bytes);
    ck_assert_int_eq(s.ring[0], 'a');
    ck_assert_int_eq(s.ring[s.ring_bytes - 1], 'z');
    ck_assert_uint_eq(s.root->version, DAX_SIDECAR_VERSION);
    sidecar_close(&s);
}
END_TEST

START_TEST(test_create_copies_the_permissions_of_the_database)
{
    static const mode_t modes[] = {0600, 0644, 0660, 0666};
    struct sidecar s;
    struct dax_err err;
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        const char *path = unit_path("db-dax");
        struct stat like = {
            .st_mode = S_IFREG | modes[i], .st_uid = geteuid(), .st_gid = getegid()};
        struct stat st;
        if (geteuid() == 0) {
            like.st_uid = 12345;
            like.st_gid = 54321;
        }
        umask(077);
        unit_ok(sidecar_create(path, &like, BYTES, &s, &err));
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_uint_eq(st.st_mode & 07777, modes[i]);
        ck_assert_uint_eq(st.st_uid, like.st_uid);
        ck_assert_uint_eq(st.st_gid, like.st_gid);
        sidecar_close(&s);
        unlink(path);
    }
}
END_TEST

START_TEST(test_create_touches_no_existing_file)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct dax_err err;
    unit_write_file(path, "precious", 8);
    unit_fails(sidecar_create(path, &like_root, BYTES, &s, &err), DAX_CANT_OPEN, path);
    ck_assert_int_eq(err.sys_errno, EEXIST);
    ck_assert_uint_eq(unit_file_size(path), 8);
    ck_assert_ptr_null(s.pool);
    unlink(path);
    ck_assert_int_eq(symlink("elsewhere", path), 0);
    unit_fails(sidecar_create(path, &like_root, BYTES, &s, &err), DAX_CANT_OPEN, path);
    ck_assert(!unit_exists(unit_path("elsewhere")));
}
END_TEST

START_TEST(test_create_refuses_sizes_out_of_range_and_missing_directories)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct dax_err err;
    unit_fails(sidecar_create(path, &like_root, DAX_LOG_BYTES_MIN - 1, &s, &err), DAX_MISUSE,
               "dax_log_size");
    unit_fails(sidecar_create(path, &like_root, DAX_LOG_BYTES_MAX + 1, &s, &err), DAX_MISUSE,
               "dax_log_size");
    ck_assert(!unit_exists(path));
    unit_fails(sidecar_create(unit_path("no/db-dax"), &like_root, BYTES, &s, &err), DAX_CANT_OPEN,
               "no/db-dax");
    ck_assert_int_eq(err.sys_errno, ENOENT);
}
END_TEST

START_TEST(test_create_on_a_full_disk_says_how_much_it_needs_and_leaves_nothing)
{
    struct sidecar s;
    struct dax_err err;
    if (!unit_mount("tmpfs", "size=6m"))
        return;
    const char *path = unit_path("db-dax");
    unit_fails(sidecar_create(path, &like_root, BYTES, &s, &err), DAX_FULL, "8388608 bytes");
    ck_assert_int_eq(err.sys_errno, ENOSPC);
    ck_assert(!unit_exists(path));
}
END_TEST

START_TEST(test_create_above_the_file_size_limit_is_an_error_not_a_signal)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct dax_err err;
    struct rlimit limit = {.rlim_cur = DAX_MIB, .rlim_max = DAX_MIB};
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    unit_fails(sidecar_create(path, &like_root, BYTES, &s, &err), DAX_FULL, path);
    ck_assert(!unit_exists(path));
}
END_TEST

/* On the disk that the tests are run on: a directory of its own, gone before anything is checked. */
START_TEST(test_on_a_disk_no_block_of_a_new_sidecar_is_still_unwritten)
{
    char dir[] = "test_sidecar-XXXXXX", path[64];
    struct sidecar s;
    struct dax_err err;
    struct {
        struct fiemap head;
        struct fiemap_extent extent[256];
    } map = {.head = {.fm_length = BYTES, .fm_extent_count = 256}};
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/db-dax", dir);
    like_root.st_uid = geteuid();
    like_root.st_gid = getegid();
    dax_rc rc = sidecar_create(path, &like_root, BYTES, &s, &err);
    unlink(path);
    rmdir(dir);
    unit_ok(rc);
    if (s.mode != PERSIST_MSYNC || ioctl(s.fd, FS_IOC_FIEMAP, &map) != 0) {
        fprintf(stderr, "SKIPPED, no disk here that says what it has of a file\n");
        sidecar_close(&s);
        return;
    }
    uint64_t bytes = 0;
    for (unsigned i = 0; i < map.head.fm_mapped_extents; i++) {
        ck_assert_uint_eq(map.extent[i].fe_flags & FIEMAP_EXTENT_UNWRITTEN, 0);
        bytes += map.extent[i].fe_length;
    }
    ck_assert_uint_eq(bytes, BYTES);
    sidecar_close(&s);
}
END_TEST

/* The setting for dirty-shutdown counters is the process's, not ours. */
START_TEST(test_create_puts_the_settings_of_libpmemobj_back)
{
    struct sidecar s;
    int before, after;
    for (int set = 0; set < 2; set++) {
        ck_assert_int_eq(pmemobj_ctl_set(NULL, "sds.at_create", &set), 0);
        ck_assert_int_eq(pmemobj_ctl_get(NULL, "sds.at_create", &before), 0);
        make(unit_path(set ? "a-dax" : "b-dax"), &s);
        sidecar_close(&s);
        ck_assert_int_eq(pmemobj_ctl_get(NULL, "sds.at_create", &after), 0);
        ck_assert_int_eq(before, after);
    }
}
END_TEST

START_TEST(test_nothing_is_printed)
{
    const char *path = unit_path("db-dax");
    const char *printed = unit_path("printed");
    struct sidecar s;
    struct dax_err err;
    int fd = open(printed, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int out = dup(1), err_fd = dup(2);
    dup2(fd, 1);
    dup2(fd, 2);
    make_closed(path, 1);
    dax_rc rc = sidecar_create(path, &like_root, BYTES, &s, &err);
    ck_assert_int_ne(rc, DAX_OK);
    unit_file_patch(path, 4096, "other", 6);
    rc = sidecar_open(path, &s, &err);
    ck_assert_int_ne(rc, DAX_OK);
    fflush(NULL);
    dup2(out, 1);
    dup2(err_fd, 2);
    ck_assert_uint_eq(unit_file_size(printed), 0);
}
END_TEST

/* --- open what is not right ------------------------------------------------------------------- */

START_TEST(test_open_without_a_file_or_a_right_to_it)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct dax_err err;
    unit_fails(sidecar_open(path, &s, &err), DAX_CANT_OPEN, "missing");
    ck_assert_int_eq(err.sys_errno, ENOENT);
    ck_assert_ptr_nonnull(strstr(err.text, path));
    ck_assert_int_eq(mkdir(path, 0700), 0);
    unit_fails(sidecar_open(path, &s, &err), DAX_CORRUPT, "directory");
    rmdir(path);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    unit_fails(sidecar_open(path, &s, &err), DAX_CORRUPT, "not a regular file");
    unlink(path);

    make_closed(path, 1);
    chmod(path, 0400);
    unit_rights_drop();
    unit_fails(sidecar_open(path, &s, &err), DAX_CANT_OPEN, "no permission");
    ck_assert_int_eq(err.sys_errno, EACCES);
    unit_rights_back();
}
END_TEST

START_TEST(test_truncated_sidecars_are_corrupt)
{
    static const uint64_t sizes[] = {
        0,
        1,
        7,
        8,
        100,
        4095,
        4096,
        8192,
        DAX_MIB,
        BYTES / 2,
        BYTES - 4096,
        BYTES - 1,
        BYTES,
        BYTES + DAX_MIB - 1,
    };
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct dax_err err;
    like_root.st_uid = geteuid();
    unit_ok(sidecar_create(path, &like_root, BYTES + DAX_MIB, &s, &err));
    sidecar_close(&s);
    ck_assert_int_eq(truncate(path, (off_t)sizes[_i]), 0);
    unit_fails(sidecar_open(path, &s, &err), DAX_CORRUPT, path);
    ck_assert_ptr_null(s.pool);
    ck_assert_ptr_null(s.path);
}
END_TEST

START_TEST(test_foreign_files_are_corrupt)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct dax_err err;
    uint8_t *buf = calloc(1, BYTES);

    unit_write_file(path, buf, BYTES); /* zeros: a crash before libpmemobj's part of the creation */
    unit_fails(sidecar_open(path, &s, &err), DAX_CORRUPT, "not completely made");

    for (uint64_t i = 0; i < BYTES; i++)
        buf[i] = (uint8_t)(i * 2654435761u >> 13);
    unit_write_file(path, buf, BYTES);
    unit_fails(sidecar_open(path, &s, &err), DAX_CORRUPT, "something else");

    memcpy(buf, "PMEMOBJ", 8); /* only the signature is right */
    unit_write_file(path, buf, BYTES);
    unit_fails(sidecar_open(path, &s, &err), DAX_CORRUPT, path);

    static const char set[] = "PMEMPOOLSET\n8M /etc/passwd\n";
    unit_write_file(path, set, sizeof set - 1);
    unit_fails(sidecar_open(path, &s, &err), DAX_CORRUPT, "something else");
    free(buf);
}
END_TEST

START_TEST(test_pools_of_other_programs_are_corrupt)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct dax_err err;
    PMEMobjpool *pool = pmemobj_create(path, "other", BYTES, 0600);
    ck_assert_ptr_nonnull(pool);
    pmemobj_close(pool);
    unit_fails(sidecar_open(path, &s, &err), DAX_CORRUPT, "layout");
    unlink(path);

    /* Our layout, no root: a crash in the middle of the creation. */
    pool = pmemobj_create(path, DAX_SIDECAR_LAYOUT, BYTES, 0600);
    pmemobj_close(pool);
    unit_fails(sidecar_open(path, &s, &err), DAX_CORRUPT, "not completely made");

    /* A root that was not published. */
    pool = pmemobj_open(path, DAX_SIDECAR_LAYOUT);
    pmemobj_root(pool, 256);
    pmemobj_close(pool);
    unit_fails(sidecar_open(path, &s, &err), DAX_CORRUPT, "not completely made");
}
END_TEST

START_TEST(test_any_damaged_byte_of_the_root_is_corrupt)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct dax_err err;
    uint64_t at = make_closed(path, 1);
    for (uint64_t i = 0; i < offsetof(struct sidecar_root, cursor); i++) {
        uint8_t byte;
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ck_assert_int_eq(pread(fd, &byte, 1, (off_t)(at + i)), 1);
        close(fd);
        byte ^= 0x10;
        unit_file_patch(path, at + i, &byte, 1);
        unit_fails(sidecar_open(path, &s, &err), DAX_CORRUPT, "damaged");
        byte ^= 0x10;
        unit_file_patch(path, at + i, &byte, 1);
    }
    unit_ok(sidecar_open(path, &s, &err));
    sidecar_close(&s);
}
END_TEST

/* Store a root whose hash fits. */
static void patch_root(const char *path, uint64_t at, struct sidecar_root *root)
{
    root->hash = hash_bytes(root, offsetof(struct sidecar_root, hash));
    unit_file_patch(path, at, root, offsetof(struct sidecar_root, cursor));
}

START_TEST(test_a_newer_format_and_an_impossible_ring_are_told_apart_from_damage)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct dax_err err;
    struct sidecar_root good, bad;
    uint64_t at = make_closed(path, 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, &good, sizeof good, (off_t)at), sizeof good);
    close(fd);

    bad = good;
    bad.version = DAX_SIDECAR_VERSION + 1;
    patch_root(path, at, &bad);
    unit_fails(sidecar_open(path, &s, &err), DAX_CANT_OPEN, "newer daxlite");
    bad.version = DAX_SIDECAR_VERSION_OLDEST - 1;
    patch_root(path, at, &bad);
    unit_fails(sidecar_open(path, &s, &err), DAX_CANT_OPEN, "older daxlite");

    static const struct {
        uint64_t offset, bytes; /* differences */
    } t[] = {{64, 0}, {0, 1}, {0, BYTES}, {BYTES, 0}, {256 * DAX_TIB, 0}, {0, UINT64_MAX - 4095}};
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        bad = good;
        bad.ring_offset += t[i].offset;
        bad.ring_bytes += t[i].bytes;
        if (i + 1 == sizeof t / sizeof t[0])
            bad.ring_bytes = t[i].bytes;
        patch_root(path, at, &bad);
        unit_fails(sidecar_open(path, &s, &err), DAX_CORRUPT, "ring");
    }
    bad = good;
    bad.ring_bytes = 0;
    patch_root(path, at, &bad);
    unit_fails(sidecar_open(path, &s, &err), DAX_CORRUPT, "ring");
    const uint64_t twins[] = {
        good.twin_offset + 1, good.twin_offset - 64, BYTES - 4032, BYTES, UINT64_MAX - 63, 0};
    for (size_t i = 0; i < sizeof twins / sizeof *twins; i++) {
        bad = good;
        bad.twin_offset = twins[i];
        patch_root(path, at, &bad);
        unit_fails(sidecar_open(path, &s, &err), DAX_CORRUPT, "twin");
    }
    patch_root(path, at, &good);
    unit_ok(sidecar_open(path, &s, &err));
    sidecar_close(&s);
}
END_TEST

/* A root whose hash fits, so that somebody must have made it: libpmemobj's own structures, what is outside
 * of the file, and one another's place are no place for anything. */
START_TEST(test_ring_twin_and_ledger_lie_over_nothing_else)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct dax_err err;
    struct sidecar_root good, bad;
    uint64_t at = make_closed(path, 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, &good, sizeof good, (off_t)at), sizeof good);
    close(fd);
    uint64_t ring = good.ring_offset, twin = good.twin_offset, ledger = good.ledger_offset;
    const struct {
        const char *what;
        uint64_t ring_offset, ring_bytes, twin_offset, ledger_offset, ledger_bytes;
    } t[] = {
        {"ring", 4096, 4096, twin, ledger, sizeof *s.ledger},        /* pool descriptor, lanes */
        {"ring", 4096, ring - 4096, twin, ledger, sizeof *s.ledger}, /* all in front of the ring */
        {"ring", at / 4096 * 4096, 4096, twin, ledger, sizeof *s.ledger}, /* the root itself */
        {"ring", ring, good.ring_bytes + 2 * DAX_MIB, twin, ledger, sizeof *s.ledger},
        {"twin", ring, good.ring_bytes, twin - 4096, ledger, sizeof *s.ledger}, /* in the ring */
        {"twin", ring, good.ring_bytes, BYTES, ledger, sizeof *s.ledger},
        {"ledger", ledger, 4096, twin, ledger, sizeof *s.ledger}, /* under the ring */
        {"ledger", ring, good.ring_bytes, twin, 4096, sizeof *s.ledger},
        {"ledger", ring, good.ring_bytes, twin, at / 4096 * 4096, sizeof *s.ledger},
        {"ledger", ring, good.ring_bytes, twin, ring, sizeof *s.ledger},
        {"ledger", ring, good.ring_bytes, twin, twin, sizeof *s.ledger},
        {"ledger", ring, good.ring_bytes, twin, ledger + 131072, sizeof *s.ledger},
        {"ledger", ring, good.ring_bytes, twin, ledger + 64, sizeof *s.ledger},
        {"ledger", ring, good.ring_bytes, twin, UINT64_MAX - 4095, sizeof *s.ledger},
        {"ledger", ring, good.ring_bytes, twin, BYTES, sizeof *s.ledger},
        {"ledger", ring, good.ring_bytes, twin, ledger, 0},
        {"ledger", ring, good.ring_bytes, twin, ledger, sizeof *s.ledger - 512},
        {"ledger", ring, good.ring_bytes, twin, ledger, UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        char part[64];
        bad = good;
        bad.ring_offset = t[i].ring_offset;
        bad.ring_bytes = t[i].ring_bytes;
        bad.twin_offset = t[i].twin_offset;
        bad.ledger_offset = t[i].ledger_offset;
        bad.ledger_bytes = t[i].ledger_bytes;
        patch_root(path, at, &bad);
        snprintf(part, sizeof part, "its %s lies where", t[i].what);
        unit_fails(sidecar_open(path, &s, &err), DAX_CORRUPT, part);
        ck_assert_ptr_null(s.pool);
    }
    patch_root(path, at, &good);
    unit_ok(sidecar_open(path, &s, &err));
    sidecar_close(&s);
}
END_TEST

/* libpmemobj's bitmap of small objects lies in front of the root and is not looked at by an open:
 * whatever is in it, opening ends, and finds daxlite's things where they are. */
START_TEST(test_damage_of_what_an_open_does_not_need_does_not_stop_it)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct dax_err err;
    struct cursor_slot got;
    uint64_t at = make_closed(path, 3),
             run = 0x382400; /* the chunk that the root is in: 1.12's place */
    ck_assert(at > run && at < run + 256 * DAX_KIB);
    for (uint64_t i = 0; i < 128; i++) {
        uint8_t byte, other;
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ck_assert_int_eq(pread(fd, &byte, 1, (off_t)(run + i)), 1);
        close(fd);
        other = byte ^ 1;
        unit_file_patch(path, run + i, &other, 1);
        unit_ok(sidecar_open(path, &s, &err));
        unit_ok(sidecar_cursor_read(&s, &got, &err));
        ck_assert_uint_eq(got.txid, 3);
        sidecar_close(&s);
        unit_file_patch(path, run + i, &byte, 1);
    }
}
END_TEST

/* As daxlite made it before there was a ledger: the twin's last line is a seal. */
START_TEST(test_a_sidecar_of_version_2_opens_as_before)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct sidecar_root root;
    struct fault_note note;
    uint64_t at = make_closed(path, 2);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, &root, sizeof root, (off_t)at), sizeof root);
    close(fd);
    root.version = DAX_SIDECAR_VERSION_OLDEST;
    root.ledger_offset = root.ledger_bytes = 0;
    root.ring_offset += 256;
    root.ring_bytes -= 4096;
    root.twin_offset = root.ring_offset + root.ring_bytes;
    patch_root(path, at, &root);
    struct sidecar_twin twin = {.cursor = {root.cursor[0], root.cursor[1]}};
    struct seal last = {.lsn = 64000, .salt = 5};
    last.hash = hash_bytes(&last, offsetof(struct seal, hash));
    memcpy(&twin.note, &last, sizeof last);
    unit_file_patch(path, root.twin_offset, &twin, sizeof twin);

    persist_init(&p, PERSIST_VOLATILE, -1);
    unit_ok(sidecar_open(path, &s, &err));
    ck_assert_ptr_null(s.ledger);
    ck_assert_uint_eq(sidecar_sealed(&s, 5), 64000);
    sidecar_note_fault(&s, 0, 7, 0, 2, 1); /* has no place here: the seal stays */
    ck_assert(!sidecar_take_note(&s, &note));
    unit_ok(sidecar_clear_note(&s, &p, &err));
    ck_assert_uint_eq(sidecar_sealed(&s, 5), 64000);
    unit_fails(sidecar_mend_twin(&s, &p, 5, 64000, &err), DAX_IO_MEDIA,
               path); /* ring in its page */
    for (uint64_t i = 1; i <= 2 * DAX_SEALS; i++) {
        unit_ok(sidecar_seal(&s, &p, 5, 64000 + i * 64, &err));
        ck_assert_uint_eq(sidecar_sealed(&s, 5), 64000 + i * 64);
    }
    struct cursor_slot got;
    unit_ok(sidecar_cursor_read(&s, &got, &err));
    ck_assert_uint_eq(got.txid, 2);
    sidecar_close(&s);
}
END_TEST

START_TEST(test_a_second_process_is_refused_while_the_first_one_lives)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct dax_err err;
    int pipe_fds[2];
    char c;
    make_closed(path, 1);
    ck_assert_int_eq(pipe(pipe_fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (sidecar_open(path, &s, &err) != DAX_OK || write(pipe_fds[1], "r", 1) != 1)
            _exit(1);
        pause();
        _exit(2);
    }
    ck_assert_int_eq(read(pipe_fds[0], &c, 1), 1);
    unit_fails(sidecar_open(path, &s, &err), DAX_CANT_OPEN, "in use by another process");
    kill(pid, SIGKILL);
    ck_assert_int_eq(unit_wait(pid), 128 + SIGKILL);
    unit_ok(sidecar_open(path, &s, &err));
    struct cursor_slot got;
    unit_ok(sidecar_cursor_read(&s, &got, &err));
    ck_assert_uint_eq(got.lsn, 1000);
    sidecar_close(&s);
}
END_TEST

START_TEST(test_a_sparse_copy_is_filled_or_refused_when_opened)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct dax_err err;
    struct stat st;
    if (!unit_mount("tmpfs", "size=13m"))
        return;
    make_closed(path, 1);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(fallocate(fd, 0x03, (off_t)(BYTES - 3 * DAX_MIB), (off_t)(2 * DAX_MIB)), 0);
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_uint_lt((uint64_t)st.st_blocks * 512, BYTES);
    unit_ok(sidecar_open(path, &s, &err));
    sidecar_close(&s);
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_uint_ge((uint64_t)st.st_blocks * 512, BYTES);

    ck_assert_int_eq(fallocate(fd, 0x03, (off_t)(BYTES - 3 * DAX_MIB), (off_t)(2 * DAX_MIB)), 0);
    close(fd);
    fd = open(unit_path("ballast"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    for (off_t at = 0; fallocate(fd, 0, at, 4096) == 0; at += 4096)
        continue;
    close(fd);
    unit_fails(sidecar_open(path, &s, &err), DAX_FULL, path);
}
END_TEST

/* --- cursor ----------------------------------------------------------------------------------- */

START_TEST(test_an_unused_cursor_is_corrupt_and_slots_alternate)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got;
    make(path, &s);
    persist_init(&p, PERSIST_VOLATILE, -1);
    unit_fails(sidecar_cursor_read(&s, &got, &err), DAX_CORRUPT, "never used");
    for (uint64_t i = 1; i <= 9; i++) {
        struct cursor_slot other = s.root->cursor[i % 2]; /* the one that counts, from i == 2 on */
        struct cursor_slot c = {
            .lsn = i * 64, .txid = i, .size_bytes = 4096, .salt = 3, .nonce = 4};
        unit_ok(sidecar_cursor_write(&s, &p, &c, &err));
        ck_assert_uint_eq(c.seq, i);
        unit_ok(sidecar_cursor_read(&s, &got, &err));
        ck_assert_int_eq(memcmp(&got, &c, sizeof c), 0);
        ck_assert_int_eq(memcmp(&other, &s.root->cursor[i % 2], sizeof other), 0);
        ck_assert_int_eq(memcmp(s.root->cursor, s.twin->cursor, sizeof s.root->cursor), 0);
        ck_assert_uint_eq(p.points[PERSIST_P4_CURSOR], i);
        if (i % 3 == 0) {
            sidecar_close(&s);
            unit_ok(sidecar_open(path, &s, &err));
        }
    }
    sidecar_close(&s);
}
END_TEST

START_TEST(test_a_torn_slot_loses_to_the_other)
{
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got;
    make(unit_path("db-dax"), &s);
    persist_init(&p, PERSIST_VOLATILE, -1);
    for (uint64_t i = 1; i <= 2; i++) {
        struct cursor_slot c = {.lsn = i * 64, .txid = i, .salt = 3};
        unit_ok(sidecar_cursor_write(&s, &p, &c, &err));
    }
    struct cursor_slot *newest = &s.root->cursor[1], saved = *newest;
    ck_assert_uint_eq(newest->seq, 2);
    struct cursor_slot *twin = &s.twin->cursor[1];
    for (unsigned bit = 0; bit < sizeof *newest * 8; bit++) {
        for (unsigned copies = 1; copies <= 3;
             copies++) { /* bit 0: the root's, bit 1: the twin's */
            ((uint8_t *)newest)[bit / 8] ^= (uint8_t)((copies & 1) << bit % 8);
            ((uint8_t *)twin)[bit / 8] ^= (uint8_t)((copies >> 1) << bit % 8);
            unit_ok(sidecar_cursor_read(&s, &got, &err));
            ck_assert_uint_eq(got.seq, copies == 3 ? 1 : 2);
            *newest = *twin = saved;
        }
    }
    /* 8-byte words of a new slot over the old one, any subset: one of the two neighbours. */
    struct cursor_slot c = {.lsn = 999 * 64, .txid = 3, .salt = 3};
    struct cursor_slot *target = &s.root->cursor[0], before = *target;
    unit_ok(sidecar_cursor_write(&s, &p, &c, &err));
    struct cursor_slot after = *target;
    for (unsigned mask = 0; mask < 1u << 16; mask++) { /* in both copies at once */
        for (unsigned w = 0; w < 8; w++) {
            ((uint64_t *)target)[w] = ((uint64_t *)(mask >> w & 1 ? &after : &before))[w];
            ((uint64_t *)&s.twin->cursor[0])[w] =
                ((uint64_t *)(mask >> (w + 8) & 1 ? &after : &before))[w];
        }
        unit_ok(sidecar_cursor_read(&s, &got, &err));
        bool whole = memcmp(target, &after, sizeof after) == 0 ||
                     memcmp(&s.twin->cursor[0], &after, sizeof after) == 0;
        ck_assert_uint_eq(got.seq, whole ? 3 : 2);
    }
    for (unsigned i = 0; i < 2; i++) {
        s.root->cursor[i].hash++;
        s.twin->cursor[i].hash++;
    }
    unit_fails(sidecar_cursor_read(&s, &got, &err), DAX_CORRUPT, "damaged");
    sidecar_close(&s);
}
END_TEST

/* A crash may leave the newest slot in one place only: before the next one is stored, which a crash can
 * tear, it is in both again. */
START_TEST(test_the_slot_that_counts_is_in_both_places_before_the_other_one_is_stored_to)
{
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got, zero = {0};
    make(unit_path("db-dax"), &s);
    persist_init(&p, PERSIST_VOLATILE, -1);
    for (uint64_t i = 1; i <= 8; i++) {
        struct cursor_slot c = {.lsn = i * 64, .txid = i, .salt = 3};
        unit_ok(sidecar_cursor_write(&s, &p, &c, &err));
        struct cursor_slot *root = &s.root->cursor[i % 2], *twin = &s.twin->cursor[i % 2];
        if (i > 1) {
            ck_assert_uint_eq(root->txid, i - 1);
            ck_assert_int_eq(memcmp(root, twin, sizeof *root), 0);
        }
        unit_ok(sidecar_cursor_read(&s, &got, &err));
        ck_assert_uint_eq(got.txid, i);
        *(i % 4 < 2 ? &s.root->cursor[1 - i % 2] : &s.twin->cursor[1 - i % 2]) = zero;
    }
    sidecar_close(&s);
}
END_TEST

static int sync_fails(struct persist *p)
{
    (void)p;
    return EIO;
}

START_TEST(test_a_failed_sync_leaves_the_older_slot_and_spares_it_again)
{
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got, c = {.lsn = 64, .txid = 1};
    make(unit_path("db-dax"), &s);
    persist_init(&p, PERSIST_MSYNC, -1);
    persist_set_sidecar(&p, s.fd, s.pool, s.file_bytes, s.ring, s.ring_bytes);
    unit_ok(sidecar_cursor_write(&s, &p, &c, &err));
    struct persist_ops failing = *p.ops;
    const struct persist_ops *working = p.ops;
    failing.sync_log = sync_fails;
    p.ops = &failing;
    c.lsn = 128;
    unit_fails(sidecar_cursor_write(&s, &p, &c, &err), DAX_IO_WRITE, "P4");
    unit_ok(sidecar_cursor_read(&s, &got, &err));
    ck_assert_uint_eq(got.lsn, 64);
    struct cursor_slot safe = s.root->cursor[0];
    p.ops = working;
    c.lsn = 192;
    unit_ok(sidecar_cursor_write(&s, &p, &c, &err));
    ck_assert_int_eq(memcmp(&safe, &s.root->cursor[0], sizeof safe), 0);
    unit_ok(sidecar_cursor_read(&s, &got, &err));
    ck_assert_uint_eq(got.lsn, 192);
    sidecar_close(&s);
}
END_TEST

START_TEST(test_the_greatest_seal_of_a_life_counts_and_a_torn_one_loses_to_the_one_before_it)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    make(path, &s);
    persist_init(&p, PERSIST_VOLATILE, -1);
    ck_assert_uint_eq(sidecar_sealed(&s, 5), 0);
    for (uint64_t i = 1; i <= 3 * DAX_SEALS; i++) {
        uint64_t before = sidecar_sealed(&s, 5);
        struct sidecar_twin twin = *s.twin;
        unit_ok(sidecar_seal(&s, &p, 5, i * 128, &err));
        ck_assert_uint_eq(p.points[PERSIST_P7_SEAL], i);
        ck_assert_uint_eq(sidecar_sealed(&s, 5), i * 128);
        ck_assert_uint_eq(sidecar_sealed(&s, 6), 0);
        unsigned line = 0;
        while (memcmp(&twin.seal[line], &s.twin->seal[line], sizeof twin.seal[line]) == 0)
            line++;
        struct seal after = s.twin->seal[line];
        for (unsigned mask = 0; mask < 255; mask++) {
            for (unsigned w = 0; w < 8; w++)
                ((uint64_t *)&s.twin->seal[line])[w] =
                    ((uint64_t *)(mask >> w & 1 ? &after : &twin.seal[line]))[w];
            uint64_t got = sidecar_sealed(&s, 5);
            ck_assert(got == before ||
                      (got == i * 128 && memcmp(&s.twin->seal[line], &after, sizeof after) == 0));
        }
        s.twin->seal[line] = after;
        if (i % 7 == 0) { /* the newest one's line is not the next */
            sidecar_close(&s);
            unit_ok(sidecar_open(path, &s, &err));
        }
    }
    sidecar_close(&s);
}
END_TEST

START_TEST(test_close_is_safe_on_what_was_never_open)
{
    struct sidecar s = {0};
    sidecar_close(&s);
    ck_assert_ptr_null(s.pool);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sidecar");
    TCase *tc = tcase_create("sidecar");
    tcase_add_checked_fixture(tc, unit_setup, NULL);
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, test_create_gives_an_aligned_ring_that_open_finds_again, 0, 3);
    tcase_add_test(tc, test_create_copies_the_permissions_of_the_database);
    tcase_add_test(tc, test_create_touches_no_existing_file);
    tcase_add_test(tc, test_create_refuses_sizes_out_of_range_and_missing_directories);
    tcase_add_test(tc, test_create_on_a_full_disk_says_how_much_it_needs_and_leaves_nothing);
    tcase_add_test(tc, test_create_above_the_file_size_limit_is_an_error_not_a_signal);
    tcase_add_test(tc, test_on_a_disk_no_block_of_a_new_sidecar_is_still_unwritten);
    tcase_add_test(tc, test_create_puts_the_settings_of_libpmemobj_back);
    tcase_add_test(tc, test_nothing_is_printed);
    tcase_add_test(tc, test_open_without_a_file_or_a_right_to_it);
    tcase_add_loop_test(tc, test_truncated_sidecars_are_corrupt, 0, 14);
    tcase_add_test(tc, test_foreign_files_are_corrupt);
    tcase_add_test(tc, test_pools_of_other_programs_are_corrupt);
    tcase_add_test(tc, test_any_damaged_byte_of_the_root_is_corrupt);
    tcase_add_test(tc, test_a_newer_format_and_an_impossible_ring_are_told_apart_from_damage);
    tcase_add_test(tc, test_ring_twin_and_ledger_lie_over_nothing_else);
    tcase_add_test(tc, test_damage_of_what_an_open_does_not_need_does_not_stop_it);
    tcase_add_test(tc, test_a_sidecar_of_version_2_opens_as_before);
    tcase_add_test(tc, test_a_second_process_is_refused_while_the_first_one_lives);
    tcase_add_test(tc, test_a_sparse_copy_is_filled_or_refused_when_opened);
    tcase_add_test(tc, test_an_unused_cursor_is_corrupt_and_slots_alternate);
    tcase_add_test(tc, test_a_torn_slot_loses_to_the_other);
    tcase_add_test(tc,
                   test_the_slot_that_counts_is_in_both_places_before_the_other_one_is_stored_to);
    tcase_add_test(tc, test_a_failed_sync_leaves_the_older_slot_and_spares_it_again);
    tcase_add_test(
        tc, test_the_greatest_seal_of_a_life_counts_and_a_torn_one_loses_to_the_one_before_it);
    tcase_add_test(tc, test_close_is_safe_on_what_was_never_open);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
