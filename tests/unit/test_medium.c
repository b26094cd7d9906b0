/* test_medium.c: would catch a network, cluster or FUSE file system being accepted, a mode that
 * promises more than the medium gives, a refusal without its reason, and a test that leaves
 * something behind or changes the file.
 */
#include "engine/medium.h"

#include <dirent.h>
#include <sys/vfs.h>

#include "tests/unit/unit.h"

#define TMPFS 0x01021994
#define RAMFS 0x858458F6
#define EXT4 0xEF53
#define XFS 0x58465342
#define OVERLAYFS 0x794C7630

static const struct {
    long magic;
    const char *name;
} refused[] = {
    {0x6969, "nfs"},       {0x517B, "smb"},      {0xFF534D42, "cifs"},   {0xFE534D42, "smb2"},
    {0x65735546, "fuse"},  {0x01021997, "9p"},   {0x00C36400, "ceph"},   {0x5346414F, "afs"},
    {0x73757245, "coda"},  {0x564C, "ncpfs"},    {0x0BD00BD0, "lustre"}, {0x47504653, "gpfs"},
    {0x7461636F, "ocfs2"}, {0x01161970, "gfs2"}, {0x19830326, "beegfs"}, {0x786F4256, "vboxsf"},
};

START_TEST(test_file_systems_that_others_share_are_refused_whatever_is_asked)
{
    struct medium m;
    struct dax_err err;
    for (int choice = MEDIUM_AUTO; choice <= MEDIUM_MSYNC; choice++) {
        for (int granted = 0; granted < 2; granted++) {
            unit_fails(medium_judge(refused[_i].magic, granted ? 0 : EOPNOTSUPP, "/x/app.db",
                                    (enum medium_choice)choice, &m, &err),
                       DAX_CANT_OPEN, refused[_i].name);
            ck_assert_ptr_nonnull(strstr(err.text, "\"/x/app.db\""));
            ck_assert_ptr_nonnull(
                strstr(err.text, "memory-mapped commits need a local file system"));
        }
    }
}
END_TEST

START_TEST(test_the_mode_follows_from_file_system_and_MAP_SYNC)
{
    static const struct {
        long magic;
        int map_sync_errno;
        enum medium_choice choice;
        enum persist_mode mode;
        const char *fs, *why;
    } t[] = {
        {XFS, 0, MEDIUM_AUTO, PERSIST_PMEM, "xfs", "MAP_SYNC granted by xfs"},
        {EXT4, 0, MEDIUM_PMEM, PERSIST_PMEM, "ext4", "MAP_SYNC granted by ext4"},
        {EXT4, 0, MEDIUM_MSYNC, PERSIST_MSYNC, "ext4", "dax_persist=msync"},
        {EXT4, EOPNOTSUPP, MEDIUM_AUTO, PERSIST_MSYNC, "ext4", "MAP_SYNC refused by ext4"},
        {EXT4, EINVAL, MEDIUM_AUTO, PERSIST_MSYNC, "ext4", "MAP_SYNC refused"},
        {OVERLAYFS, EOPNOTSUPP, MEDIUM_AUTO, PERSIST_MSYNC, "overlayfs", "refused by overlayfs"},
        {0x12345, EOPNOTSUPP, MEDIUM_AUTO, PERSIST_MSYNC, "0x12345", "refused by 0x12345"},
        {0x12345, 0, MEDIUM_AUTO, PERSIST_PMEM, "0x12345", "granted by 0x12345"},
        {TMPFS, EOPNOTSUPP, MEDIUM_AUTO, PERSIST_VOLATILE, "tmpfs", "power loss"},
        {TMPFS, EOPNOTSUPP, MEDIUM_PMEM, PERSIST_VOLATILE, "tmpfs", "power loss"},
        {TMPFS, EOPNOTSUPP, MEDIUM_MSYNC, PERSIST_MSYNC, "tmpfs", "dax_persist=msync"},
        {(long)RAMFS, EOPNOTSUPP, MEDIUM_AUTO, PERSIST_VOLATILE, "ramfs", "power loss"},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct medium m;
        struct dax_err err;
        unit_ok(medium_judge(t[i].magic, t[i].map_sync_errno, "/x", t[i].choice, &m, &err));
        ck_assert_msg(m.mode == t[i].mode, "case %zu: %s", i, persist_mode_name(m.mode));
        ck_assert_str_eq(m.fs_name, t[i].fs);
        ck_assert_msg(strstr(m.why, t[i].why) != NULL, "case %zu: %s", i, m.why);
    }
}
END_TEST

START_TEST(test_asking_for_pmem_without_MAP_SYNC_says_what_to_do)
{
    struct medium m;
    struct dax_err err;
    unit_fails(medium_judge(EXT4, EOPNOTSUPP, "/x/app.db", MEDIUM_PMEM, &m, &err), DAX_CANT_OPEN,
               "ext4 refuses MAP_SYNC");
    ck_assert_int_eq(err.sys_errno, EOPNOTSUPP);
    ck_assert_ptr_nonnull(strstr(err.text, "-o dax"));
}
END_TEST

/* ENOMEM, ENODEV: nothing is known about MAP_SYNC, and mapping will not work. */
START_TEST(test_a_file_that_cannot_be_mapped_at_all_is_refused)
{
    struct medium m;
    struct dax_err err;
    unit_fails(medium_judge(EXT4, ENODEV, "/x/app.db", MEDIUM_AUTO, &m, &err), DAX_CANT_OPEN,
               "cannot be mapped");
    ck_assert_int_eq(err.sys_errno, ENODEV);
}
END_TEST

static unsigned entries(const char *dir)
{
    unsigned n = 0;
    DIR *d = opendir(dir);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* What the kernel of this machine says about the file system of `dir`. */
static void detect_in(const char *dir)
{
    struct statfs fs;
    ck_assert_int_eq(statfs(dir, &fs), 0);
    for (int kind = 0; kind < 3; kind++) { /* empty; one byte; one byte, read-only */
        char path[512];
        snprintf(path, sizeof path, "%s/daxlite-medium-%d-%d", dir, (int)getpid(), kind);
        unit_write_file(path, "x", kind == 0 ? 0 : 1);
        int fd = open(path, (kind == 2 ? O_RDONLY : O_RDWR) | O_CLOEXEC);
        unsigned before = entries(dir);
        struct medium m;
        struct dax_err err;
        unit_ok(medium_detect(fd, path, MEDIUM_AUTO, &m, &err));
        bool tmpfs = fs.f_type == TMPFS;
        ck_assert_msg(tmpfs ? m.mode == PERSIST_VOLATILE : m.mode != PERSIST_VOLATILE, "%s: %s",
                      persist_mode_name(m.mode), m.why);
        ck_assert_uint_eq(unit_file_size(path), kind == 0 ? 0 : 1);
        ck_assert_uint_eq(entries(dir), before);
        unit_ok(medium_detect(fd, path, MEDIUM_MSYNC, &m, &err));
        ck_assert_int_eq(m.mode, PERSIST_MSYNC);
        close(fd);
        unlink(path);
    }
}

START_TEST(test_detection_in_the_test_directory_leaves_the_file_alone)
{
    detect_in(unit_path(""));
}
END_TEST

START_TEST(test_detection_on_a_disk_leaves_the_file_alone)
{
    struct statfs fs;
    if (statfs("/var/tmp", &fs) != 0 || access("/var/tmp", W_OK) != 0) {
        fprintf(stderr, "SKIPPED, /var/tmp cannot be used: %s\n", strerror(errno));
        return;
    }
    detect_in("/var/tmp");
}
END_TEST

START_TEST(test_what_is_not_a_regular_file_is_refused)
{
    struct medium m;
    struct dax_err err;
    int fd = open(unit_path(""), O_RDONLY | O_CLOEXEC);
    unit_fails(medium_detect(fd, "/x", MEDIUM_AUTO, &m, &err), DAX_CANT_OPEN, "regular file");
    close(fd);
    fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
    unit_fails(medium_detect(fd, "/dev/zero", MEDIUM_AUTO, &m, &err), DAX_CANT_OPEN,
               "regular file");
    close(fd);
    unit_fails(medium_detect(-1, "/x", MEDIUM_AUTO, &m, &err), DAX_CANT_OPEN, "examine");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("medium");
    TCase *tc = tcase_create("medium");
    tcase_add_checked_fixture(tc, unit_setup, NULL);
    tcase_add_loop_test(tc, test_file_systems_that_others_share_are_refused_whatever_is_asked, 0,
                        sizeof refused / sizeof refused[0]);
    tcase_add_test(tc, test_the_mode_follows_from_file_system_and_MAP_SYNC);
    tcase_add_test(tc, test_asking_for_pmem_without_MAP_SYNC_says_what_to_do);
    tcase_add_test(tc, test_a_file_that_cannot_be_mapped_at_all_is_refused);
    tcase_add_test(tc, test_detection_in_the_test_directory_leaves_the_file_alone);
    tcase_add_test(tc, test_detection_on_a_disk_leaves_the_file_alone);
    tcase_add_test(tc, test_what_is_not_a_regular_file_is_refused);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
