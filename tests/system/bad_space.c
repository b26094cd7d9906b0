/* bad_space.c: a full disk is SQLITE_FULL at every point where the files grow, and never SIGBUS.
 *
 * Catches: a sparse file that faults when a page has no space behind it; a commit that fails after
 * it was published; a sidecar half made; an error that leaves the connection or the file unusable,
 * or that goes on once there is space again.
 *
 * Each step runs in a child with a tmpfs of its own, or an ext4 in an image file, a little larger
 * than the one before, so that space runs out at the sidecar, at the first growth, at later ones,
 * within a transaction, in scratch.
 */
#include "tests/system/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

struct step {
    bool ext4; /* in an image, else a tmpfs */
    unsigned size_kib;
    const char *params;
};

#define SKIP 77

static bool is_full(int rc)
{
    return (rc & 0xff) == SQLITE_FULL || (rc & 0xff) == SQLITE_CANTOPEN;
}

/* An error for want of space must say so, in its text or in the log. */
static void check_says_full(sqlite3 *db, int rc, const char *when)
{
    CHECK(is_full(rc), "%s: %d %s", when, rc, sqlite3_errmsg(db));
    CHECK(text_has(sqlite3_errmsg(db), "full") || log_has("space", NULL) || log_has("full", NULL),
          "%s: nothing says that the disk is full: %d %s\n%s", when, rc, sqlite3_errmsg(db),
          log_text());
}

static void check_state(sqlite3 *db, int64_t rows, const char *when)
{
    CHECK(db_int(db, "SELECT count(*) FROM t") == rows, "%s: rows", when);
    CHECK(db_int(db, "SELECT count(*) FROM t WHERE length(x) <> n") == 0, "%s: torn rows", when);
    db_check_integrity(db, when);
}

/* Insert until nothing fits any more; returns the rows that were committed. */
static int64_t fill(sqlite3 *db, struct rng *r, int64_t rows)
{
    for (;;) {
        log_clear();
        unsigned n = 1 + rng_below(r, 400), bytes = 1 + rng_below(r, 6000);
        int rc = db_try(db, "BEGIN");
        if (rc == SQLITE_OK)
            rc = db_try(
                db,
                "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < %u)"
                " INSERT INTO t SELECT %u, zeroblob(%u) FROM s",
                n, bytes, bytes);
        if (rc == SQLITE_OK)
            rc = db_try(db, "COMMIT");
        if (rc != SQLITE_OK) {
            check_says_full(db, rc, "filling");
            if (!sqlite3_get_autocommit(db))
                db_exec(db, "ROLLBACK");
            check_state(db, rows, "after a failed transaction");
            return rows;
        }
        rows += n;
    }
}

static int64_t use(const char *path, const struct step *s, struct rng *r)
{
    sqlite3 *db;
    log_clear();
    int rc = db_try_open(path, s->params, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &db);
    if (rc == SQLITE_OK)
        rc = db_try(db, "CREATE TABLE t(n INT, x)");
    if (rc != SQLITE_OK) {
        check_says_full(db, rc, "the first write");
        sqlite3_close(db);
        return -1;
    }
    int64_t rows = fill(db, r, 0);
    /* Small ones may still fit; one that needs the most cannot. */
    rc = db_try(db, "PRAGMA cache_size = 10; INSERT INTO t SELECT n, x FROM t; INSERT INTO t "
                    "SELECT n, x FROM t;"
                    "INSERT INTO t SELECT n, x FROM t; INSERT INTO t SELECT n, x FROM t");
    if (rc == SQLITE_OK)
        rows *= 16;
    else
        rows = db_int(db, "SELECT count(*) FROM t"); /* how many of the four, is for check_state */
    check_state(db, rows, "after doubling");
    rc = db_try(db, "VACUUM");
    CHECK(rc == SQLITE_OK || is_full(rc) || (rc & 0xff) == SQLITE_IOERR, "VACUUM: %d", rc);
    check_state(db, rows, "after VACUUM");
    rc = db_try(db, "CREATE INDEX ix ON t(n, x)");
    CHECK(rc == SQLITE_OK || is_full(rc) || (rc & 0xff) == SQLITE_IOERR, "CREATE INDEX: %d", rc);
    check_state(db, rows, "after CREATE INDEX");
    if (rng_below(r, 2)) {
        db_close(db);
        stock_check(path);
        db = db_open(path, s->params);
        check_state(db, rows, "after close and open on a full disk");
    }
    rows = fill(db, r, rows);
    db_close(db);
    stock_check(path);
    return rows;
}

static bool mount_small(const struct step *s, const char *mnt)
{
    if (unshare(getuid() ? CLONE_NEWUSER | CLONE_NEWNS : CLONE_NEWNS) != 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return false;
    if (!s->ext4)
        return mount("tmpfs", mnt, "tmpfs", 0, test_printf("size=%uk", s->size_kib)) == 0;
    char *image = test_path("image"); /* gone with the directory */
    char *command =
        test_printf("rm -f %s && truncate -s %uk %s && mkfs.ext4 -q -F -m 0 %s > /dev/null 2>&1 &&"
                    " mount -o loop %s %s 2> /dev/null",
                    image, s->size_kib, image, image, image, mnt);
    return system(command) == 0;
}

static int child_step(void *arg)
{
    const struct step *s = arg;
    char *mnt = test_path("mnt");
    if (!mount_small(s, mnt)) {
        test_say("%s: SKIPPED, cannot be mounted here: %s", s->ext4 ? "ext4" : "tmpfs",
                 strerror(errno));
        return SKIP;
    }
    struct rng r = {test_seed() + s->size_kib};
    char *path = test_path("mnt/app.db");
    /* Something on the disk that can be deleted, so that there is space again. */
    int fd = open(test_path("mnt/ballast"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    CHECK(fd >= 0 && posix_fallocate(fd, 0, s->size_kib * 1024ll / 4) == 0, "ballast");
    close(fd);
    int64_t rows = use(path, s, &r);
    if (rows >= 0 || s->ext4)
        CHECK(unlink(test_path("mnt/ballast")) == 0, "unlink");
    else
        CHECK(mount(NULL, mnt, NULL, MS_REMOUNT, "size=64m") == 0, "remount: %s", strerror(errno));
    if (rows < 0 && s->ext4) /* still too small */
        return 0;
    sqlite3 *db = db_open(path, s->params);
    if (rows < 0) {
        db_exec(db, "CREATE TABLE t(n INT, x)");
        rows = 0;
    }
    check_state(db, rows, "with space again");
    db_exec(db,
            "BEGIN; INSERT INTO t VALUES(3, 'abc'); DELETE FROM t WHERE rowid %% 20 = 0; COMMIT");
    rows = db_int(db, "SELECT count(*) FROM t");
    check_state(db, rows, "after a transaction with space again");
    db_close(db);
    stock_check(path);
    return 0;
}

/* Returns the sizes that were tried; 0: cannot be mounted here. */
static unsigned run_steps(bool ext4, struct rng *r)
{
    static const char *const params[] = {"", "dax_log_size=8m&dax_private_size=256k",
                                         "dax_log_size=8m&dax_persist=msync", "dax_log_size=12m"};
    unsigned steps = 0, kib = !test_on_dax() ? 12000 : ext4 ? 9000 : 1024;
    for (; kib < 60000; kib += kib / 16 + rng_below(r, kib / 8), steps++) {
        struct step s = {.ext4 = ext4, .size_kib = kib & ~3u, .params = params[rng_below(r, 4)]};
        int rc = child_wait(child_start(child_step, &s));
        if (rc == SKIP)
            return 0;
        CHECK(rc == 0, "%s of %u KiB (%s): the child ended with %d", ext4 ? "ext4" : "tmpfs",
              s.size_kib, s.params, rc);
    }
    test_say("%s: %u sizes of disk", ext4 ? "ext4" : "tmpfs", steps);
    return steps;
}

int main(void)
{
    test_start("bad_space");
    CHECK(mkdir(test_path("mnt"), 0755) == 0, "mkdir");
    struct rng r = {test_seed()};
    bool any = run_steps(false, &r);
    any |= run_steps(true, &r);
    test_finish();
    return any ? 0 : SKIP;
}
