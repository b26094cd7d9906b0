/* guest_hwpoison.c: the signal of a machine check for a 2 MiB mapping leads to one page of it.
 *
 * madvise(MADV_HWPOISON) makes the kernel treat memory as it does after a machine check: the mapping
 * of 2 MiB goes, and the calling thread gets BUS_MCEERR_AR with si_addr_lsb 21. The page concerned is on
 * the kernel's list of bad blocks as well, as it would be after a real one. The call is made where
 * a load would have met the error: within the engine's probe of a page that a statement needs.
 *
 * Catches: a report that flags all 2 MiB, or the page that the signal's address says rather than
 * the bad one; neighbours that cannot be read any more.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

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

bool __real_guard_probe(const void *addr, size_t len, struct guard_fault *fault);
bool __wrap_guard_probe(const void *addr, size_t len, struct guard_fault *fault);
bool __wrap_guard_probe(const void *addr, size_t len, struct guard_fault *fault)
{
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

void scenario_hwpoison(void)
{
    char *path = test_path("hw.db");
    sqlite3 *db = db_open(path, PARAMS);
    db_exec(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB);"
                "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 1600)"
                " INSERT INTO t SELECT i, randomblob(3000) FROM s");
    db_close(db);
    sqlite3 *stock = db_open_stock(path);
    int bad_row = 700;
    uint64_t bad = (uint64_t)page_of_row(stock, bad_row);
    db_close(stock);
    CHECK(bad > 512 && bad < 1024 && bad % 512, "page %llu: the test wants the second 2 MiB",
          (unsigned long long)bad);

    db = db_open(path, PARAMS);
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
