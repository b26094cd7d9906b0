/* test_vfs_faults.c: whatever the engine refuses, and wherever, no connection sees what did not
 * commit.
 *
 * Every engine call behind a transaction fails once, at its first, second, ... time, with every
 * code, in transactions of several shapes, with and without locking_mode=EXCLUSIVE. Catches: an
 * error code that SQLite does not understand at that place, after which its cache keeps rows that
 * were never committed (a phantom) or a COMMIT reports success for lost ones; a transaction that
 * stays behind in the engine after SQLite has given it up; a journal that does not bring a page
 * back; a lock that is not released, so that the next transaction fails.
 */
#include "tests/unit/unit.h"

#include <sqlite3.h>

#include "engine/engine.h"
#include "include/daxlite.h"

enum call {
    BEGIN_READ,
    READ,
    BEGIN_WRITE,
    WRITE,
    TRUNCATE,
    READ_COMMITTED,
    PREPARE,
    COMMIT,
    CALLS
};

static const char *const call_names[CALLS] = {
    "conn_begin_read_in_turn", "conn_read",           "conn_begin_write", "conn_write",
    "conn_truncate",           "conn_read_committed", "conn_prepare",     "conn_commit",
};

/* What fails next: call, after so many that do not, with this code. */
static struct {
    bool armed;
    enum call call;
    int after;
    dax_rc rc;
} fault;

static bool fault_strikes(enum call call, struct dax_err *err)
{
    if (!fault.armed || fault.call != call || fault.after-- > 0)
        return false;
    fault.armed = false;
    (void)dax_err_set(err, fault.rc, 0, "%s fails because the test wants it", call_names[call]);
    return true;
}

/* The linker sends the VFS's calls here (--wrap). */
#define WRAP(name, call, parameters, arguments)                                                    \
    dax_rc __real_##name parameters;                                                               \
    dax_rc __wrap_##name parameters;                                                               \
    dax_rc __wrap_##name parameters                                                                \
    {                                                                                              \
        return fault_strikes(call, err) ? fault.rc : __real_##name arguments;                      \
    }

WRAP(conn_begin_read_in_turn, BEGIN_READ, (struct conn * c, struct dax_err *err), (c, err))
WRAP(conn_read, READ, (struct conn * c, void *buf, size_t len, uint64_t at, struct dax_err *err),
     (c, buf, len, at, err))
WRAP(conn_begin_write, BEGIN_WRITE, (struct conn * c, struct dax_err *err), (c, err))
WRAP(conn_write, WRITE,
     (struct conn * c, const void *buf, size_t len, uint64_t at, struct dax_err *err),
     (c, buf, len, at, err))
WRAP(conn_truncate, TRUNCATE, (struct conn * c, uint64_t size, struct dax_err *err), (c, size, err))
WRAP(conn_read_committed, READ_COMMITTED,
     (struct conn * c, void *buf, size_t len, uint64_t at, struct dax_err *err),
     (c, buf, len, at, err))
WRAP(conn_prepare, PREPARE, (struct conn * c, struct dax_err *err), (c, err))
WRAP(conn_commit, COMMIT, (struct conn * c, struct dax_err *err), (c, err))

/* --- the database ----------------------------------------------------------------------------- */

static char answer[1024]; /* of the last run */

static int collect(void *arg, int n, char **values, char **names)
{
    (void)arg, (void)names;
    for (int i = 0; i < n; i++) {
        size_t used = strlen(answer);
        snprintf(answer + used, sizeof answer - used, "%s|", values[i] ? values[i] : "NULL");
    }
    return 0;
}

/* SQLITE_OK or the extended code. */
static int run(sqlite3 *db, const char *sql)
{
    answer[0] = '\0';
    int rc = sqlite3_exec(db, sql, collect, NULL, NULL);
    return rc == SQLITE_OK ? rc : sqlite3_extended_errcode(db);
}

static void must(sqlite3 *db, const char *sql)
{
    int rc = run(db, sql);
    ck_assert_msg(rc == SQLITE_OK, "%s: %d %s", sql, rc, sqlite3_errmsg(db));
}

static sqlite3 *open_db(void)
{
    char uri[600];
    sqlite3 *db;
    snprintf(uri, sizeof uri, "file:%s?vfs=dax&dax_log_size=8m", unit_path("a.db"));
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI;
    ck_assert_int_eq(sqlite3_open_v2(uri, &db, flags, NULL), SQLITE_OK);
    return db;
}

#define STATE "SELECT count(*), sum(length(b)), min(b), max(b), sum(a) FROM t"

static void state_of(sqlite3 *db, char out[1024])
{
    must(db, STATE);
    memcpy(out, answer, sizeof answer);
}

/* --- transactions ----------------------------------------------------------------------------- */

/* With a page cache of 4 pages the larger ones spill before they commit. */
static const char *const transactions[] = {
    "INSERT INTO t VALUES(100, 'new')",
    "BEGIN; INSERT INTO t VALUES(100, 'new'); UPDATE t SET b = 'u' || b; COMMIT",
    ("BEGIN; UPDATE t SET b = 's' || b; SAVEPOINT s; DELETE FROM t WHERE a % 2; ROLLBACK TO s; "
     "INSERT INTO t VALUES(101, zeroblob(20000)); COMMIT"),
    "BEGIN; UPDATE t SET b = 'r' || b; ROLLBACK",
    "DELETE FROM t WHERE a > 3",
    "VACUUM",
};
#define TRANSACTIONS (sizeof transactions / sizeof transactions[0])

static const dax_rc codes[] = {DAX_BUSY,    DAX_BUSY_SNAPSHOT, DAX_LOCKED,   DAX_FULL,
                               DAX_NOMEM,   DAX_IO_READ,       DAX_IO_WRITE, DAX_IO_MEDIA,
                               DAX_CORRUPT, DAX_MISUSE};
#define CODES (sizeof codes / sizeof codes[0])

static const char refill[] =
    "BEGIN; DELETE FROM t; WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT "
    "60) "
    "INSERT INTO t SELECT i, 'row' || i || hex(zeroblob(60)) FROM s; COMMIT";

/* One fault in one transaction. True: it struck. */
static bool one_fault(sqlite3 *other, size_t t, bool exclusive)
{
    char before[1024], mine[1024], theirs[1024], what[256];
    must(other, refill);
    sqlite3 *db = open_db();
    must(db, "PRAGMA cache_size = 4");
    if (exclusive)
        must(db, "PRAGMA main.locking_mode = EXCLUSIVE");
    state_of(db, before);
    snprintf(what, sizeof what, "%s, number %d, %s, %s: %.60s", call_names[fault.call], fault.after,
             dax_rc_name(fault.rc), exclusive ? "exclusive" : "normal", transactions[t]);
    fault.armed = true;
    int rc = run(db, transactions[t]);
    bool struck = !fault.armed;
    fault.armed = false;
    if (!sqlite3_get_autocommit(db))
        must(db, "ROLLBACK");
    state_of(db, mine);
    state_of(other, theirs);
    ck_assert_msg(strcmp(mine, theirs) == 0, "%s: rc %d: a phantom: %.80s, not %.80s", what, rc,
                  mine, theirs);
    if (rc != SQLITE_OK)
        ck_assert_msg(strcmp(mine, before) == 0, "%s: rc %d, but %.80s became %.80s", what, rc,
                      before, mine);
    must(db, "PRAGMA integrity_check");
    ck_assert_msg(strcmp(answer, "ok|") == 0, "%s: %s", what, answer);
    must(db, "INSERT INTO t VALUES(999, 'next')");
    state_of(db, mine);
    state_of(other, theirs);
    ck_assert_msg(strcmp(mine, theirs) == 0, "%s: the next transaction: %.80s, not %.80s", what,
                  mine, theirs);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    return struck;
}

/* _i: a call, and whether locking is exclusive. */
START_TEST(test_a_refused_call_leaves_no_phantom_and_no_lock)
{
    enum call call = (enum call)(_i / 2);
    bool exclusive = _i % 2;
    int struck = 0;
    ck_assert_int_eq(daxlite_register(0), SQLITE_OK);
    sqlite3 *other = open_db();
    must(other, "PRAGMA page_size = 1024; PRAGMA auto_vacuum = 1; CREATE TABLE t(a, b); "
                "CREATE INDEX i ON t(b)");
    for (size_t t = 0; t < TRANSACTIONS; t++) {
        for (size_t code = 0; code < CODES; code++) {
            for (int after = 0; after < 10; after += after < 3 ? 1 : 3) {
                fault.call = call;
                fault.rc = codes[code];
                fault.after = after;
                struck += one_fault(other, t, exclusive);
            }
        }
    }
    /* Under EXCLUSIVE locking both locks are there before the transaction. */
    bool can_strike = !exclusive || (call != BEGIN_READ && call != BEGIN_WRITE);
    ck_assert_msg(struck > 0 || !can_strike, "no fault struck in %s", call_names[call]);
    ck_assert_int_eq(sqlite3_close(other), SQLITE_OK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vfs_faults");
    TCase *tc = tcase_create("vfs_faults");
    tcase_add_checked_fixture(tc, unit_setup, NULL);
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, test_a_refused_call_leaves_no_phantom_and_no_lock, 0, 2 * CALLS);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
