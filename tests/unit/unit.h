/* unit.h: what the unit tests share: a directory of their own, files in it, small file systems.
 *
 * Each test gets a fresh directory under $DAX_TEST_DIR (default /dev/shm), named by unit_path(""),
 * and each program removes all of its directories at its end, also after a failed test: Check runs
 * tests in forked children, and the parent cleans up.
 */
#ifndef DAX_TESTS_UNIT_H
#define DAX_TESTS_UNIT_H

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/rc.h"

static char unit_root[256]; /* of the program */
static char unit_dir[288];  /* of the running test */

/* Succeeds, or the test fails with the engine's text. */
#define unit_ok(call)                                                                              \
    do {                                                                                           \
        err.text[0] = '\0';                                                                        \
        dax_rc unit_rc = (call);                                                                   \
        ck_assert_msg(unit_rc == DAX_OK, "%s: %s: %s", #call, dax_rc_name(unit_rc), err.text);     \
    } while (0)

/* Fails with this code, and err says so, with a text that contains `part`. */
#define unit_fails(call, code, part)                                                               \
    do {                                                                                           \
        err = (struct dax_err){0};                                                                 \
        dax_rc unit_rc = (call);                                                                   \
        ck_assert_msg(unit_rc == (code), "%s: %s, not %s: %s", #call, dax_rc_name(unit_rc),        \
                      dax_rc_name(code), err.text);                                                \
        ck_assert_int_eq(err.rc, (code));                                                          \
        ck_assert_msg(strstr(err.text, (part)) != NULL, "\"%s\" does not say \"%s\"", err.text,    \
                      (part));                                                                     \
    } while (0)

static inline int unit_remove_one(const char *path, const struct stat *st, int flag, struct FTW *w)
{
    (void)st;
    (void)flag;
    (void)w;
    return remove(path);
}

static inline void unit_remove_root(void)
{
    if (unit_root[0])
        nftw(unit_root, unit_remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* A fixture of every test case, run in the test's own process. */
static inline void unit_setup(void)
{
    snprintf(unit_dir, sizeof unit_dir, "%s/XXXXXX", unit_root);
    ck_assert_ptr_nonnull(mkdtemp(unit_dir));
}

/* Path of `name` in the test's directory; one of the thread's eight buffers in turn. */
static inline const char *unit_path(const char *name)
{
    static _Thread_local char path[8][512];
    static _Thread_local unsigned next;
    char *p = path[next++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", unit_dir, name);
    return p;
}

static inline void unit_write_file(const char *path, const void *data, size_t bytes)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, data, bytes), (ssize_t)bytes);
    close(fd);
}

static inline uint64_t unit_file_size(const char *path)
{
    struct stat st;
    ck_assert_msg(stat(path, &st) == 0, "stat %s: %s", path, strerror(errno));
    return (uint64_t)st.st_size;
}

static inline bool unit_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static inline void unit_file_patch(const char *path, uint64_t at, const void *data, size_t bytes)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, data, bytes, (off_t)at), (ssize_t)bytes);
    close(fd);
}

/* Mount an empty file system on the test's directory, for this test process alone: it goes with it.
 * false, with a line that says so: not permitted here. */
static inline bool unit_mount(const char *type, const char *options)
{
    bool root = geteuid() == 0;
    if (unshare(root ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER) == 0 &&
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("none", unit_dir, type, 0, options) == 0)
        return true;
    fprintf(stderr, "SKIPPED, mounting a %s is not permitted here: %s\n", type, strerror(errno));
    return false;
}

/* Go on as a user without rights to files of root, so that refusals can be seen; and back. */
static inline void unit_rights_drop(void)
{
    if (geteuid() != 0)
        return;
    ck_assert_int_eq(chmod(unit_root, 0755), 0);
    ck_assert_int_eq(chmod(unit_dir, 0755), 0);
    ck_assert_int_eq(seteuid(65534), 0);
}

static inline void unit_rights_back(void)
{
    if (getuid() == 0)
        ck_assert_int_eq(seteuid(0), 0);
    prctl(PR_SET_DUMPABLE, 1); /* lost with the rights; a leak checker needs it */
}

/* Exit status of a child that the test forked. */
static inline int unit_wait(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        ck_assert_int_eq(errno, EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Run the suite; the program's exit status. */
static inline int unit_main(Suite *suite)
{
    const char *where = getenv("DAX_TEST_DIR");
    snprintf(unit_root, sizeof unit_root, "%s/daxlite-unit-XXXXXX", where ? where : "/dev/shm");
    if (!mkdtemp(unit_root)) {
        fprintf(stderr, "cannot make %s: %s\n", unit_root, strerror(errno));
        return EXIT_FAILURE;
    }
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    unit_remove_root();
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
