/* guest_hwpoison.c: the signal of a machine check for a 2 MiB mapping leads to one page of it.
 *
 * madvise(MADV_HWPOISON) makes the kernel treat memory as it does after a machine check: the mapping
 * of 2 MiB goes, and the calling thread gets BUS_MCEERR_AR with si_addr_lsb 21. The page concerned is on
 * the kernel's list of bad blocks as well, as it would be after a real one. The call is made where
 * a load would have met the error: within the engine's probe of a page that a statement needs.
 *
 * Action optional: another process meets the error first, and this one has asked to hear of such
 * (PR_MCE_KILL_EARLY). The signal comes at any time, here within a guarded call that is about another page:
 * it must be remembered, and the call go on.
 *
 * Catches: a report that flags all 2 MiB, or the page that the signal's address says rather than
 * the bad one; neighbours that cannot be read any more.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/guard.h"
#include "tests/vm/guest.h"

#define PARAMS "dax_log_size=8388608"

/* What the next probe of this address does instead, once. One thread. */
static const uint8_t *armed;
static struct guard_fault seen;

static void machine_check(void *arg)
{
    /* From the mapping's first byte, as some kernels say it in the signal. */
    uint8_t *head = (uint8_t *)((uintptr_t)arg & ~(uintptr_t)(GUEST_HUGE - 1));
    if (madvise(head, GUEST_PAGE, MADV_HWPOISON) != 0)
        perror("MADV_HWPOISON");
}

/* --- action optional -------------------------------------------------------------------------------- */

static struct {
    const uint8_t *armed; /* the probe of this address waits for the other process */
    const char *path;
    uint64_t page;
    bool jumped;
} early;

/* In the other process: the kernel ends it, which is right for who was reading there. */
static int other_process(void)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    signal(SIGBUS, SIG_DFL);
    int fd = open(early.path, O_RDWR);
    uint8_t *map =
        mmap(NULL, GUEST_PAGE, PROT_READ, MAP_SHARED, fd, (off_t)(early.page * GUEST_PAGE));
    if (fd < 0 || map == MAP_FAILED)
        return 1;
    (void)*(volatile uint8_t *)map; /* before the block is listed */
    poison_add(early.path, early.page * GUEST_PAGE);
    return madvise(map, GUEST_PAGE, MADV_HWPOISON) == 0 ? 0 : 2;
}

static void wait_for_other_process(void *arg)
{
    (void)arg;
    int status = 0;
    pid_t pid = fork();
    if (pid == 0)
        _exit(other_process());
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!WIFSIGNALED(status))
        fprintf(stderr, "the other process: status %d\n", WEXITSTATUS(status));
}

static bool probe_early(void)
{
    early.armed = NULL;
    bool done = guard_call(wait_for_other_process, NULL, NULL);
    early.jumped = !done;
    return done;
}

/* --- the engine's probe ---------------------------------------------------------------------------------- */

bool __real_guard_probe(const void *addr, size_t len, struct guard_fault *fault);
bool __wrap_guard_probe(const void *addr, size_t len, struct guard_fault *fault);
bool __wrap_guard_probe(const void *addr, size_t len, struct guard_fault *fault)
{
    if (early.armed && (const uint8_t *)addr == early.armed)
        return probe_early() && __real_guard_probe(addr, len, fault);
    if (!armed || (const uint8_t *)addr != armed)
        return __real_guard_probe(addr, len, fault);
    armed = NULL;
    struct guard_fault f = {0};
    if (guard_call(machine_check, (void *)(uintptr_t)addr, &f))
        return true;
    seen = f;
    if (fault)
        *fault = f;
    return false;
}

/* Where the file is mapped. */
static uint8_t *mapping_of(const char *path)
{
    char line[4400];
    unsigned long from = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    CHECK(f, "maps");
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (strlen(line) > strlen(path) && !strcmp(line + strlen(line) - strlen(path), path))
            break;
    }
    CHECK(sscanf(line, "%lx-", &from) == 1, "%s is not mapped", path);
    fclose(f);
    return (uint8_t *)from;
}

static int64_t page_of_row(sqlite3 *db, int id)
{
    /* Rows of 3000 bytes: one a page, in order. */
    return db_int(db,
                  "SELECT pageno - 1 FROM dbstat WHERE name = 't' AND pagetype = 'leaf'"
                  " ORDER BY pageno LIMIT 1 OFFSET %d",
                  id - 1);
}

static void make(const char *path)
{
    sqlite3 *db = db_open(path, PARAMS);
    db_exec(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB);"
                "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 1600)"
                " INSERT INTO t SELECT i, randomblob(3000) FROM s");
    db_close(db);
}

/* Asked of stock SQLite, while nobody has the database open. */
static uint64_t find(const char *path, int row)
{
    sqlite3 *stock = db_open_stock(path);
    uint64_t page = (uint64_t)page_of_row(stock, row);
    db_close(stock);
    return page;
}

void scenario_early(void)
{
    char *path = test_path("early.db");
    int bad_row = 800;
    struct guard_counts counts;
    make(path);
    early.path = path;
    early.page = find(path, bad_row);
    uint64_t far = find(path, bad_row + 300);
    CHECK(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0) == 0, "PR_MCE_KILL");
    sqlite3 *db = db_open(path, PARAMS);
    CHECK(db_int(db, "SELECT length(body) FROM t WHERE id = %d", bad_row) == 3000, "the row");
    /* A page far away, which nobody has probed: the signal comes while it is. */
    early.armed = mapping_of(path) + far * GUEST_PAGE;
    CHECK(db_int(db, "SELECT length(body) FROM t WHERE id = %d", bad_row + 300) == 3000,
          "a statement that has nothing to do with the error: %s", sqlite3_errmsg(db));
    CHECK(!early.armed, "the page was not probed");
    CHECK(!early.jumped, "a guarded call was left for an error that was not its own");
    guard_count(&counts);
    test_say("action optional: %llu signals remembered", (unsigned long long)counts.late);
    CHECK(counts.late > 0, "no signal has come: the test is about nothing");
    test_say("entry: %s",
             db_text(db, "SELECT group_concat(page || ' ' || detail, '; ') FROM dax_errors"));
    CHECK(db_int(db, "SELECT count(*) FROM dax_errors") == 1, "one page is bad");
    CHECK(db_int(db, "SELECT page FROM dax_errors WHERE kind = 'poison' AND object = 't'") ==
              (int64_t)early.page,
          "another page is reported");
    int rc = db_try(db, "SELECT length(body) FROM t WHERE id = %d", bad_row);
    CHECK((rc & 0xff) == SQLITE_IOERR, "the row: %d", rc);
    CHECK(db_int(db, "SELECT count(length(body)) FROM t WHERE id >= %d", bad_row + 1) ==
              1600 - bad_row,
          "neighbours of the bad page");
    db_text(db, "SELECT dax_repair(%lld, 'allow-loss')", (long long)early.page);
    CHECK(db_int(db, "SELECT sum(length(body)) FROM t") == 1599 * 3000, "rows after the repair");
    db_check_integrity(db, "after the repair");
    db_close(db);
    CHECK(poison_count(path) == 0, "the block is still bad");
    stock_check(path);
}

void scenario_hwpoison(void)
{
    char *path = test_path("hw.db");
    int bad_row = 700;
    make(path);
    uint64_t bad = find(path, bad_row);
    CHECK(bad > 512 && bad < 1024 && bad % 512, "page %llu: the test wants the second 2 MiB",
          (unsigned long long)bad);

    sqlite3 *db = db_open(path, PARAMS);
    CHECK(db_int(db, "SELECT length(body) FROM t WHERE id = %d", bad_row + 1) == 3000, "neighbour");
    poison_add(path, bad * GUEST_PAGE);
    armed = mapping_of(path) + bad * GUEST_PAGE;
    int rc = db_try(db, "SELECT length(body) FROM t WHERE id = %d", bad_row);
    CHECK(!armed, "the page was not probed");
    CHECK((rc & 0xff) == SQLITE_IOERR, "rc %d", rc);
    test_say("signal: si_code %d, %llu bytes around offset %#llx, for page %llu", seen.code,
             (unsigned long long)seen.bytes, (unsigned long long)seen.offset,
             (unsigned long long)bad);
    CHECK(seen.code == BUS_MCEERR_AR, "si_code %d", seen.code);
    CHECK(seen.bytes == GUEST_HUGE, "the mapping was not of 2 MiB: %llu bytes",
          (unsigned long long)seen.bytes);
    CHECK(db_int(db, "SELECT count(*) FROM dax_errors") == 1, "one page is bad, %lld are reported",
          (long long)db_int(db, "SELECT count(*) FROM dax_errors"));
    CHECK(db_int(db, "SELECT page FROM dax_errors WHERE bytes = 4096 AND object = 't'") ==
              (int64_t)bad,
          "page %s", db_text(db, "SELECT page || ' ' || bytes || ' ' || object FROM dax_errors"));
    /* Up to the page before it, and from the one after it: a scan would need it. */
    CHECK(db_int(db, "SELECT count(length(body)) FROM (SELECT body FROM t LIMIT %d)",
                 bad_row - 1) == bad_row - 1 &&
              db_int(db, "SELECT count(length(body)) FROM t WHERE id >= %d", bad_row + 1) ==
                  1600 - bad_row,
          "neighbours of the bad page");
    db_text(db, "SELECT dax_repair(%lld, 'allow-loss')", (long long)bad);
    CHECK(db_int(db, "SELECT sum(length(body)) FROM t") == 1599 * 3000, "rows after the repair");
    db_check_integrity(db, "after the repair");
    db_close(db);
    CHECK(poison_count(path) == 0, "the block is still bad");
    stock_check(path);
}
