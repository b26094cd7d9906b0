/* disk_full.c: a disk that is full at any step of growth is SQLITE_FULL, and only that.
 *
 * Catches: a store into a page that has no space behind it (SIGBUS); a growth that stopped half-way
 * and left the file longer, the sidecar half made, or the connection unusable; a transaction that
 * was refused and is there, or was acknowledged and is not; reading that needs space.
 *
 * Each operation runs on a tmpfs that has so and so much space left: none, then 64 KiB
 * more with each try, until it passes. Wherever two neighbours fail differently, the sizes between
 * them are tried in steps of 4 KiB, the file system's own unit, so that every point of growth is met
 * exactly. (tests/system/bad_space.c does the same with random operations and on ext4.)
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "tests/system/harness.h"

#define SKIP 77
#define COARSE_KIB 64
#define FINE_KIB 4

#define SMALL "dax_log_size=8m"
#define ROWS(n, bytes)                                                                             \
    "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < " #n                 \
    ") INSERT INTO t(x) SELECT printf('%.*c', " #bytes ", char(65 + i % 26)) FROM s"
#define SCHEMA "CREATE TABLE t(id INTEGER PRIMARY KEY, x);"

struct operation {
    const char *name;
    const char *params;
    const char *files; /* set that each try begins with; NULL: go on with the open database */
    const char *sql;
    bool stock_adopts; /* stock SQLite has its part in it, and its own words */
};

static const struct operation operations[] = {
    {"create", SMALL, "none", SCHEMA, false},
    {"create in msync mode", SMALL "&dax_persist=msync", "none", SCHEMA, false},
    {"first write to a plain file", SMALL, "plain", "UPDATE t SET x = 'u' WHERE id = 5", false},
    {"first write to a file with holes", SMALL, "holes", "UPDATE t SET x = 'u' WHERE id = 1",
     false},
    {"reading a file with holes", SMALL "&mode=ro", "holes", "SELECT sum(length(x)) FROM t", false},
    {"growth", SMALL, "plain", ROWS(20, 90000), false},
    {"further growth", SMALL, NULL, ROWS(30, 100000), false},
    {"growth by small rows", SMALL, NULL, ROWS(3000, 300), false},
    {"an index", SMALL, NULL, "CREATE INDEX ix ON t(x)", false},
    {"a vacuum", SMALL, NULL, "VACUUM", false},
    {"scratch", SMALL "&dax_private_size=256k", "large", "UPDATE t SET x = lower(x)", false},
    {"scratch again", SMALL "&dax_private_size=256k", NULL,
     "BEGIN; UPDATE t SET x = upper(x) || '.'; DELETE FROM t WHERE id > 950; COMMIT", false},
    {"a sort", SMALL, NULL,
     "PRAGMA temp_store = FILE; PRAGMA cache_size = 10;"
     "SELECT count(*) FROM (SELECT x, id FROM t ORDER BY x, id DESC LIMIT -1 OFFSET 5)",
     true},
    {"recovery of sparse copies", SMALL, "crashed", "INSERT INTO t(x) VALUES('after')", false},
    {"recovery with scratch", SMALL "&dax_private_size=256k", "crashed-scratch",
     "INSERT INTO t(x) VALUES('after')", false},
    {"a hot journal", SMALL, "journal", "INSERT INTO t(x) VALUES('after')", true},
};
#define OPERATIONS (sizeof operations / sizeof *operations)

static struct counts {
    uint64_t sizes, refused;
} * counts;

struct work {
    const struct operation *o;
    char *path;
    sqlite3 *db;
    uint64_t before, after; /* content; after: of the first try that passed */
    bool passed;
    char *said; /* by the last try that failed */
};

/* --- files ------------------------------------------------------------------------------------ */

static const char *const suffixes[] = {"", "-journal", "-wal", "-dax"};

/* cp that leaves holes wherever there are zeros, as backups do. */
static void copy_sparse(const char *from, const char *to)
{
    char *command = test_printf("cp --sparse=always '%s' '%s'", from, to);
    CHECK(system(command) == 0, "%s", command);
}

/* Sets are outside of the small file system. */
static void keep_files(const char *path, const char *set)
{
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        char *from = test_printf("%s%s", path, suffixes[i]);
        if (file_exists(from))
            copy_sparse(from, test_path("%s.set%s", set, suffixes[i]));
    }
}

static void put_files(const char *set, const char *path)
{
    file_remove_db(path);
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        char *from = test_path("%s.set%s", set, suffixes[i]);
        if (file_exists(from))
            file_copy(from, test_printf("%s%s", path, suffixes[i]));
    }
}

static void make_stock(const char *set, const char *sql)
{
    char *path = test_path("make.db");
    sqlite3 *db = db_open_stock(path);
    if (strcmp(set, "holes") == 0) /* of pages that are mostly zeros */
        db_exec(db, "PRAGMA page_size = 65536");
    db_exec(db, "%s", SCHEMA);
    db_exec(db, "%s", sql);
    db_close(db);
    keep_files(path, set);
    file_remove_db(path);
}

static int make_crashed(void *arg)
{
    (void)arg;
    char *path = test_path("make.db");
    sqlite3 *db = db_open(path, SMALL);
    db_exec(db, "%s", SCHEMA ROWS(40, 5000));
    db_exec(db, "INSERT INTO t(x) VALUES(zeroblob(400000)); UPDATE t SET x = 'last' WHERE id = 3");
    keep_files(path, "crashed");
    return 0;
}

static int make_crashed_scratch(void *arg)
{
    (void)arg;
    char *path = test_path("make.db");
    put_files("large", path);
    sqlite3 *db = db_open(path, SMALL "&dax_private_size=256k"), *reader = db_open(path, SMALL);
    db_exec(reader, "BEGIN; SELECT count(*) FROM t");
    db_exec(db, "UPDATE t SET x = lower(x)");
    keep_files(path, "crashed-scratch");
    return 0;
}

static int make_journal(void *arg)
{
    (void)arg;
    char *path = test_path("make.db");
    sqlite3 *db = db_open_stock(path);
    db_exec(db, "%s", SCHEMA ROWS(400, 200));
    db_exec(db, "PRAGMA cache_size = 2; PRAGMA cache_spill = 2; BEGIN; UPDATE t SET x = 'half'");
    keep_files(path, "journal");
    return 0;
}

static void make_files(void)
{
    make_stock("plain", ROWS(50, 1000));
    make_stock("holes", "INSERT INTO t(x) VALUES('x'), (zeroblob(3000000)), ('y')");
    make_stock("large", ROWS(1000, 3000));
    int (*const dying[])(void *) = {make_crashed, make_crashed_scratch, make_journal};
    for (size_t i = 0; i < sizeof dying / sizeof *dying; i++) {
        CHECK(child_wait(child_start(dying[i], NULL)) == 0, "making files");
        file_remove_db(test_path("make.db"));
    }
}

/* --- space ------------------------------------------------------------------------------------ */

static void set_size(uint64_t kib)
{
    char *options = test_printf("size=%lluk", (unsigned long long)kib);
    CHECK(mount(NULL, test_path("mnt"), NULL, MS_REMOUNT, options) == 0, "remount %s: %s", options,
          strerror(errno));
}

static void leave_free(uint64_t kib)
{
    struct statfs fs;
    CHECK(statfs(test_path("mnt"), &fs) == 0, "statfs");
    uint64_t used = (uint64_t)(fs.f_blocks - fs.f_bfree) * (uint64_t)fs.f_bsize / 1024;
    uint64_t size = used + kib;
    set_size(size ? size : 4); /* 0 is without limit */
}

static void leave_plenty(void)
{
    set_size(512 * 1024);
}

/* --- one try ---------------------------------------------------------------------------------- */

static bool is_full(const struct operation *o, int rc)
{
    return (rc & 0xff) == SQLITE_FULL || (rc & 0xff) == SQLITE_CANTOPEN ||
           (o->stock_adopts && (rc & 0xff) == SQLITE_IOERR);
}

/* What the message is about, without numbers: two tries that fail alike say the same. */
static char *without_numbers(const char *text)
{
    char *s = test_printf("%s", text), *to = s;
    for (const char *c = s; *c; c++)
        if (*c < '0' || *c > '9')
            *to++ = *c;
    *to = 0;
    return s;
}

static void check_content(struct work *w, uint64_t want, const char *when)
{
    CHECK(db_content_hash(w->db, "main") == want, "%s: the content has changed", when);
    db_check_integrity(w->db, when);
}

/* Open where it is not open, run the SQL; the code. */
static int run(struct work *w)
{
    int rc = SQLITE_OK;
    if (!w->db)
        rc = db_try_open(w->path, w->o->params, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &w->db);
    if (rc == SQLITE_OK)
        rc = db_try(w->db, "%s", w->o->sql);
    return rc;
}

/* With so much space. Returns whether it passed. */
static bool try_at(struct work *w, uint64_t kib)
{
    test_context("%s with %llu KiB free", w->o->name, (unsigned long long)kib);
    if (w->o->files) {
        if (w->db)
            db_close(w->db);
        w->db = NULL;
        put_files(w->o->files, w->path);
    }
    leave_free(kib);
    log_clear();
    int rc = run(w);
    counts->sizes++;
    if (rc == SQLITE_OK)
        return true;
    counts->refused++;
    CHECK(is_full(w->o, rc), "%d %s", rc, w->db ? sqlite3_errmsg(w->db) : "");
    CHECK(log_has("space", NULL) || log_has("full", NULL) || w->o->stock_adopts,
          "nothing says that the disk is full: %d", rc);
    w->said = without_numbers(log_text());
    bool opened = w->db && sqlite3_get_autocommit(w->db) >= 0 &&
                  db_try(w->db, "SELECT count(*) FROM sqlite_schema") == SQLITE_OK;
    if (w->db && !sqlite3_get_autocommit(w->db))
        db_exec(w->db, "ROLLBACK");
    /* Reading goes on without space. */
    if (opened)
        check_content(w, w->before, "with the disk still full");
    leave_plenty();
    if (!w->o->files)
        return false;
    sqlite3_close(w->db);
    w->db = db_open(w->path, w->o->params);
    check_content(w, w->before, "opened with space again");
    return false;
}

static void check_passed(struct work *w)
{
    uint64_t h = db_content_hash(w->db, "main");
    if (!w->passed)
        w->after = h;
    w->passed = true;
    CHECK(h == w->after, "another content than with more space");
    db_check_integrity(w->db, "after it passed");
    leave_plenty();
}

/* --- all sizes -------------------------------------------------------------------------------- */

static void fine_steps(struct work *w, uint64_t from, uint64_t to)
{
    for (uint64_t kib = from + FINE_KIB; kib < to; kib += FINE_KIB)
        if (try_at(w, kib)) {
            check_passed(w);
            if (!w->o->files) /* it is done, and cannot be done again */
                return;
        }
}

static void run_operation(struct work *w)
{
    char *said = NULL;
    if (w->o->files) {
        if (w->db)
            db_close(w->db);
        put_files(w->o->files, w->path);
        w->db = db_open(w->path, w->o->params);
    }
    w->before = db_content_hash(w->db, "main");
    w->passed = false;
    uint64_t started = counts->sizes;
    for (uint64_t kib = 0;; kib += COARSE_KIB) {
        CHECK(kib < 300 * 1024, "%s does not pass with 300 MiB", w->o->name);
        bool passed = try_at(w, kib);
        if (passed)
            check_passed(w);
        bool differs = kib > 0 && (passed || !said || strcmp(said, w->said) != 0);
        said = w->said;
        if (differs && (w->o->files || !passed))
            fine_steps(w, kib - COARSE_KIB, kib);
        if (passed || w->passed)
            break;
        said = w->said;
    }
    test_say("%s: %llu sizes", w->o->name, (unsigned long long)(counts->sizes - started));
    if (w->o->files) { /* what follows goes on from here, with space */
        db_close(w->db);
        put_files(w->o->files, w->path);
        w->db = db_open(w->path, w->o->params);
        db_exec(w->db, "%s", w->o->sql);
    }
    if (!strstr(w->o->params, "mode=ro"))
        db_exec(w->db, "INSERT INTO t(x) VALUES('more')");
}

static int child_all(void *arg)
{
    (void)arg;
    char *mnt = test_path("mnt");
    if (unshare(getuid() ? CLONE_NEWUSER | CLONE_NEWNS : CLONE_NEWNS) != 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", mnt, "tmpfs", 0, "size=512m") != 0) {
        test_say("SKIPPED, a tmpfs cannot be mounted here: %s", strerror(errno));
        return SKIP;
    }
    sqlite3_temp_directory = sqlite3_mprintf("%s", mnt);
    struct work w = {.path = test_path("mnt/app.db")};
    for (size_t i = 0; i < OPERATIONS; i++) {
        w.o = &operations[i];
        run_operation(&w);
    }
    db_close(w.db);
    stock_check(w.path);
    sqlite3_free(sqlite3_temp_directory);
    sqlite3_temp_directory = NULL;
    return 0;
}

int main(void)
{
    test_start("disk_full");
    counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(counts != MAP_FAILED, "mmap");
    char *mkdir_mnt = test_path("mnt");
    CHECK(mkdir(mkdir_mnt, 0755) == 0, "mkdir");
    make_files();
    int rc = child_wait(child_start(child_all, NULL));
    CHECK(rc == 0 || rc == SKIP, "the child ended with %d", rc);
    printf("figure: sizes of a full disk: %llu\n", (unsigned long long)counts->sizes);
    printf("figure: operations that a full disk refused: %llu\n",
           (unsigned long long)counts->refused);
    int result = test_finish();
    return rc == SKIP ? SKIP : result;
}
