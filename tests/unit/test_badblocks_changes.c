/* test_badblocks_changes.c: would catch a change of the list that goes unnoticed or is noticed for
 * ever, a short, interrupted or failing system call that loses a part of the list, and a made-up
 * kernel that is not like the real one.
 *
 * The kernel's notification is a real one where control groups can be made: their events file is of the
 * same make as a file of sysfs. So are the extents of the last test: ext4 on a loop device answers, and
 * the bytes that lie where the list points to are compared with the file's.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>

#include "tests/unit/badblocks_fake.h"

START_TEST(test_failures_of_the_system_are_errors_that_name_the_file)
{
    struct badblocks *b = NULL;
    fake_extents(three_extents, 3);
    whole_device("2400 8\n4000 8\n");
    static const struct {
        int sys_errno;
        dax_rc rc;
    } errors[] = {{EIO, DAX_IO_READ}, {ENOMEM, DAX_NOMEM}};
    for (size_t i = 0; i < 2; i++) {
        fake.fail_errno = errors[i].sys_errno;
        unit_fails(badblocks_open(file_fd, "/x/app.db", &b, &err), errors[i].rc, "/x/app.db");
        fake.fail_errno = 0;
        fake.read_errno = errors[i].sys_errno;
        unit_fails(badblocks_open(file_fd, "/x/app.db", &b, &err), errors[i].rc, "/x/app.db");
        fake.read_errno = 0;
        ck_assert_ptr_null(b);
    }
    struct rlimit before, none = {0, 0};
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    none.rlim_max = before.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    unit_fails(badblocks_open(file_fd, "/x/app.db", &b, &err), DAX_CANT_OPEN, "Too many open");
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    unit_fails(badblocks_open(-1, "/x/app.db", &b, &err), DAX_IO_READ, "/x/app.db");

    b = open_list();
    read_list(b);
    ck_assert(!badblocks_changed(b));
    fake.read_errno = EIO;
    unit_fails(badblocks_read(b, tell, told, &err), DAX_IO_READ, "/x/app.db");
    ck_assert(badblocks_changed(b)); /* so that somebody tries again */
    ck_assert(badblocks_differs(b));
    fake.read_errno = 0;
    read_list(b);
    EXPECT("afterwards", 10, 1, 20, 1);
    ck_assert(!badblocks_changed(b) && !badblocks_differs(b));

    /* FIEMAP fails after the first extent: what it said before is told. */
    fake.calls = 0;
    fake.most = 1;
    fake.fail_call = 2;
    fake.fail_errno = EIO;
    told_count = 0;
    unit_fails(badblocks_read(b, tell, told, &err), DAX_IO_READ, "/x/app.db");
    EXPECT("what was found before the failure", 10, 1);
    ck_assert(badblocks_changed(b) && badblocks_differs(b));
    fake.fail_errno = ENOMEM;
    unit_fails(badblocks_read(b, tell, told, &err), DAX_NOMEM, "/x/app.db");
    badblocks_close(b);
}
END_TEST

START_TEST(test_a_device_that_goes_is_one_error_and_no_change_forever)
{
    fake_extents(one_extent, 1);
    whole_device("8000 8\n");
    struct badblocks *b = open_list();
    read_list(b);
    fake.notified = true; /* as the kernel does for a file of sysfs that was removed */
    fake.read_errno = ENODEV;
    ck_assert(badblocks_changed(b));
    ck_assert(badblocks_differs(b));
    unit_fails(badblocks_read(b, tell, told, &err), DAX_IO_READ, "No such device");
    ck_assert(!badblocks_changed(b));
    ck_assert(!badblocks_differs(b));
    badblocks_close(b);
}
END_TEST

static void interrupt(enum fake_call call, unsigned times)
{
    memset(fake.interrupted, 0, sizeof fake.interrupted);
    fake.interrupted[call] = times;
}

START_TEST(test_interrupted_and_short_system_calls_lose_nothing)
{
    fake_extents(three_extents, 3);
    make_partition("16\n");
    list_set("2416 8\n4016 8\n");
    for (int call = 0; call < FAKE_CALLS; call++) {
        for (unsigned times = 0; times < 4; times++) {
            for (size_t most = 0; most < 5; most++) {
                fake.read_most = 0;
                interrupt(call, times);
                struct badblocks *b = open_list();
                fake.read_most = most;
                fake.most = 1;
                interrupt(call, times);
                read_list(b);
                EXPECT("interrupted", 10, 1, 20, 1);
                interrupt(call, times);
                ck_assert(!badblocks_differs(b));
                interrupt(call, times);
                ck_assert(!badblocks_changed(b));
                fake.notified = true;
                interrupt(call, times);
                ck_assert(badblocks_changed(b));
                fake.notified = false;
                badblocks_close(b);
            }
        }
    }
}
END_TEST

START_TEST(test_a_list_that_was_written_to_differs_until_it_is_read)
{
    fake_extents(one_extent, 1);
    whole_device("8000 8\n");
    struct badblocks *b = open_list();
    ck_assert(badblocks_changed(b) && badblocks_differs(b)); /* nobody has read it */
    read_list(b);
    EXPECT("first", 0, 1);
    for (int i = 0; i < 3; i++)
        ck_assert(!badblocks_changed(b) && !badblocks_differs(b));
    static const char *const lists[] = {"8000 9\n", "", "8008 8\n", "8000 8\n", "8000 8\n8160 1\n"};
    static const uint64_t pages[][6] = {{0, 2}, {0, 0}, {1, 1}, {0, 1}, {0, 1, 20, 1}};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        list_set(lists[i]);
        ck_assert(!badblocks_changed(b)); /* nobody has notified */
        ck_assert(badblocks_differs(b));
        ck_assert(badblocks_differs(b));
        ck_assert(badblocks_changed(b)); /* what the one has seen, the other does not forget */
        read_list(b);
        expect_pages(lists[i], pages[i]);
        ck_assert(!badblocks_changed(b) && !badblocks_differs(b));
    }
    fake.notified = true;
    ck_assert(badblocks_changed(b));
    badblocks_close(b);
}
END_TEST

/* FIEMAP costs a walk of the file's extents: an empty list saves it. */
START_TEST(test_an_empty_list_asks_the_file_system_nothing)
{
    fake_extents(one_extent, 1);
    whole_device("");
    struct badblocks *b = open_list();
    fake.calls = 0;
    read_list(b);
    ck_assert_uint_eq(fake.calls, 0);
    list_set("8000 8\n");
    read_list(b);
    ck_assert_uint_eq(fake.calls, 1); /* and once where the last extent is marked so */
    badblocks_close(b);
}
END_TEST

static unsigned descriptors(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

START_TEST(test_no_descriptor_and_no_memory_is_left_behind)
{
    fake_extents(one_extent, 1);
    make_partition("0\n");
    list_set("8000 8\n");
    const unsigned before = descriptors();
    for (int i = 0; i < 3; i++) {
        struct badblocks *b = open_list();
        read_list(b);
        badblocks_close(b);
        fake.fail_errno = i % 2 ? EIO : EOPNOTSUPP;
        b = NULL;
        dax_rc rc = badblocks_open(file_fd, "/x/app.db", &b, &err);
        ck_assert_int_eq(rc, i % 2 ? DAX_IO_READ : DAX_OK);
        fake.fail_errno = 0;
        fake.read_errno = EIO;
        ck_assert_int_eq(badblocks_open(file_fd, "/x/app.db", &b, &err), DAX_IO_READ);
        fake.read_errno = 0;
        list_set("\n");
        open_finds_none();
        list_set("8000 8\n");
    }
    ck_assert_uint_eq(descriptors(), before); /* the file's is the caller's */
}
END_TEST

/* --- threads ---------------------------------------------------------------------------------------- */

static atomic_bool threads_stop;

static void *threads_watch(void *arg)
{
    struct badblocks *b = arg;
    uintptr_t changes = 0;
    while (!atomic_load(&threads_stop))
        changes += badblocks_changed(b);
    return (void *)changes;
}

START_TEST(test_any_thread_may_ask_for_changes_while_one_reads)
{
    pthread_t threads[2];
    fake_extents(one_extent, 1);
    whole_device("8000 8\n");
    struct badblocks *b = open_list();
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, threads_watch, b), 0);
    for (int i = 0; i < 2000; i++) {
        read_list(b);
        EXPECT("while others look", 0, 1);
        ck_assert(!badblocks_differs(b));
    }
    atomic_store(&threads_stop, true);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    badblocks_close(b);
}
END_TEST

/* --- the kernel itself ------------------------------------------------------------------------------ */

static const char *const group_roots[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
static char group[64]; /* named for the program, which removes it */

static bool group_write(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", group, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = write(fd, text, strlen(text));
    close(fd);
    return n == (ssize_t)strlen(text);
}

static void group_remove(pid_t program)
{
    for (size_t i = 0; i < sizeof group_roots / sizeof group_roots[0]; i++) {
        snprintf(group, sizeof group, "%s/daxlite-unit-%d", group_roots[i], (int)program);
        rmdir(group);
    }
}

static bool group_make(void)
{
    for (size_t i = 0; i < sizeof group_roots / sizeof group_roots[0]; i++) {
        char path[128];
        snprintf(group, sizeof group, "%s/daxlite-unit-%d", group_roots[i], (int)getppid());
        if (mkdir(group, 0755) != 0)
            continue;
        snprintf(path, sizeof path, "%s/cgroup.events", group);
        if (unit_exists(path))
            return true;
        rmdir(group);
    }
    group[0] = '\0';
    return false;
}

START_TEST(test_a_change_that_the_kernel_notifies_is_noticed_once)
{
    char target[128], path[640];
    if (!group_make()) {
        fprintf(stderr, "SKIPPED, control groups cannot be made here: %s\n", strerror(errno));
        return;
    }
    fake_extents(one_extent, 1);
    link_device(file_dev(), "nd/region0/pmem0");
    snprintf(target, sizeof target, "%s/cgroup.events", group);
    snprintf(path, sizeof path, "%s/badblocks", device);
    ck_assert_int_eq(symlink(target, path), 0);
    dax_log_set(log_capture); /* its lines are no sectors */
    struct badblocks *b = open_list();
    for (int frozen = 1; frozen >= 0; frozen--) {
        read_list(b);
        ck_assert(!badblocks_changed(b));
        ck_assert(group_write("cgroup.freeze", frozen ? "1" : "0"));
        while (!badblocks_changed(b)) /* the kernel takes its time between two notifications */
            usleep(1000);
        ck_assert(badblocks_changed(b)); /* until it is read */
        ck_assert(badblocks_differs(b));
        ck_assert(badblocks_changed(b));
    }
    read_list(b);
    ck_assert(!badblocks_changed(b) && !badblocks_differs(b));
    ck_assert_int_eq(rmdir(group), 0);
    ck_assert(badblocks_changed(b)); /* the file is gone: so it is with a device */
    unit_fails(badblocks_read(b, tell, told, &err), DAX_IO_READ, "No such device");
    ck_assert(!badblocks_changed(b));
    badblocks_close(b);
}
END_TEST

/* A file of an ext4 on a loop device, in pieces, with a hole. false: not possible here. */
static bool real_file(unsigned pages)
{
    char command[1200];
    const char *mount_at = unit_path("mnt");
    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return false;
    ck_assert_int_eq(mkdir(mount_at, 0755), 0);
    snprintf(command, sizeof command,
             "truncate -s 64M %s && mkfs.ext4 -q -F -b 4096 -m 0 %s > /dev/null 2>&1 &&"
             " mount -o loop %s %s 2> /dev/null",
             unit_path("image"), unit_path("image"), unit_path("image"), mount_at);
    if (system(command) != 0)
        return false;
    close(file_fd);
    file_fd = open(unit_path("mnt/app.db"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    int other = open(unit_path("mnt/other"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    ck_assert(file_fd >= 0 && other >= 0);
    for (unsigned page = 0; page < pages; page++) {
        uint8_t data[PAGE];
        if (page % 10 == 9)
            continue;                          /* a hole */
        for (unsigned i = 0; i < PAGE; i += 4) /* no two pages alike */
            memcpy(data + i, &(uint32_t){page * 4096 + i}, 4);
        ck_assert_int_eq(pwrite(file_fd, data, PAGE, (off_t)page * PAGE), PAGE);
        if (page % 4 == 3) { /* allocated at once, so that the two files lie in turns */
            ck_assert_int_eq(fsync(file_fd), 0);
            ck_assert_int_eq(pwrite(other, data, PAGE, (off_t)page * PAGE), PAGE);
            ck_assert_int_eq(fsync(other), 0);
        }
    }
    ck_assert_int_eq(fsync(file_fd), 0);
    close(other);
    return true;
}

START_TEST(test_what_lies_on_a_listed_sector_is_the_page_that_is_told)
{
    enum {
        PAGES = 200
    };
    static uint8_t on_device[8 * SECTOR], in_file[PAGE];
    char text[64];
    if (!real_file(PAGES)) {
        fprintf(stderr, "SKIPPED, an ext4 on a loop device cannot be made here\n");
        return;
    }
    whole_device("");
    struct stat st;
    ck_assert_int_eq(fstat(file_fd, &st), 0);
    snprintf(text, sizeof text, "/dev/block/%u:%u", major(st.st_dev), minor(st.st_dev));
    int raw = open(text, O_RDONLY | O_CLOEXEC);
    if (raw < 0) { /* without udev */
        ck_assert_int_eq(mknod(unit_path("raw"), S_IFBLK | 0600, st.st_dev), 0);
        raw = open(unit_path("raw"), O_RDONLY | O_CLOEXEC);
    }
    ck_assert_msg(raw >= 0, "%s: %s", text, strerror(errno));
    struct badblocks *b = open_list();
    unsigned found = 0;
    for (uint64_t sector = 0; sector < 64 * DAX_MIB / SECTOR; sector += 8) {
        if (sector % 1024 == 0) { /* pass over what is not of the file at all */
            snprintf(text, sizeof text, "%llu 1024\n", (unsigned long long)sector);
            list_set(text);
            read_list(b);
            if (told_count == 0) {
                sector += 1024 - 8;
                continue;
            }
        }
        snprintf(text, sizeof text, "%llu 1\n", (unsigned long long)(sector + sector / 8 % 8));
        list_set(text);
        read_list(b);
        if (told_count == 0)
            continue;
        ck_assert_uint_eq(told_count, 1);
        ck_assert_uint_eq(told[0].bytes, PAGE);
        ck_assert_int_eq(pread(file_fd, in_file, PAGE, (off_t)told[0].offset), PAGE);
        ck_assert_int_eq(pread(raw, on_device, PAGE, (off_t)(sector * SECTOR)), PAGE);
        ck_assert_msg(memcmp(in_file, on_device, PAGE) == 0, "sector %llu is not page %llu",
                      (unsigned long long)sector, (unsigned long long)(told[0].offset / PAGE));
        found++;
    }
    ck_assert_uint_eq(found, PAGES - PAGES / 10); /* each page once, holes never */
    list_set("0 131072\n");
    read_list(b);
    ck_assert_uint_eq(told_count, PAGES / 10);
    for (unsigned i = 0; i < PAGES / 10; i++)
        ck_assert(told[i].offset == i * 10 * PAGE && told[i].bytes == 9 * PAGE);
    badblocks_close(b);
    close(raw);
    close(file_fd);
    ck_assert_int_eq(umount(unit_path("mnt")), 0);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("badblocks_changes");
    tcase_add_test(tc, test_failures_of_the_system_are_errors_that_name_the_file);
    tcase_add_test(tc, test_a_device_that_goes_is_one_error_and_no_change_forever);
    tcase_add_test(tc, test_interrupted_and_short_system_calls_lose_nothing);
    tcase_add_test(tc, test_a_list_that_was_written_to_differs_until_it_is_read);
    tcase_add_test(tc, test_an_empty_list_asks_the_file_system_nothing);
    tcase_add_test(tc, test_no_descriptor_and_no_memory_is_left_behind);
    tcase_add_test(tc, test_any_thread_may_ask_for_changes_while_one_reads);
    tcase_add_test(tc, test_a_change_that_the_kernel_notifies_is_noticed_once);
    tcase_add_test(tc, test_what_lies_on_a_listed_sector_is_the_page_that_is_told);
    int status = fake_main("badblocks_changes", tc);
    group_remove(getpid()); /* of a test that failed */
    return status;
}
