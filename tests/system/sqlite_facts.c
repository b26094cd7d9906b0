/* sqlite_facts.c: what daxlite's VFS takes for granted of SQLite, asked of the SQLite that is there.
 *
 * Catches: a newer SQLite in which a refused commit behaves differently (phantom rows where none are
 * expected, or none where daxlite's codes per place are chosen to avoid them), calls that come in
 * another order or number, other ways of using xFetch, other journal records. A failure here is no
 * defect of daxlite by itself: it says which assumption to look at.
 *
 * The refusal table: two connections, the second commits while the first one is writing; then the
 * first one's commit is refused at one of five places with one of four codes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/system/harness.h"
#include "tests/system/probe.h"

/* --- the refusal table -------------------------------------------------------------------------- */

enum outcome {
    CLEAN,       /* no transaction left; what is committed is seen; writing goes on */
    PHANTOM,     /* the loser sees its own row, and not the winner's */
    OPEN_LOSES,  /* the transaction stays; the second COMMIT says OK, and the row is gone */
    OPEN_REPEATS /* the transaction stays; the second COMMIT is good, the row is there */
};
static const char *const outcome_names[] = {"clean", "phantom", "stays open, loses the row",
                                            "stays open, can be repeated"};

struct place {
    enum probe_call call;
    const char *name;
    bool late; /* SQLite has declared its cache clean by then */
};
static const struct place places[] = {{PROBE_PHASETWO, "PHASETWO", true},
                                      {PROBE_UNLOCK_SHARED, "xUnlock(SHARED)", true},
                                      {PROBE_SYNC, "FCNTL_SYNC", false},
                                      {PROBE_LOCK_EXCLUSIVE, "xLock(EXCLUSIVE)", false}};

static const struct {
    int code;
    const char *name;
} codes[] = {{SQLITE_BUSY, "BUSY"},
             {SQLITE_BUSY_SNAPSHOT, "BUSY_SNAPSHOT"},
             {SQLITE_IOERR_WRITE, "IOERR_WRITE"},
             {SQLITE_FULL, "FULL"}};

static enum outcome documented(bool late, int code, bool explicit_commit)
{
    if (code == SQLITE_BUSY && explicit_commit)
        return late ? OPEN_LOSES : OPEN_REPEATS;
    /* The change counter is the same in both writers' pages, so the loser's cache passes for good; an
     * I/O error makes the pager drop it. A COMMIT refused with BUSY_SNAPSHOT is rolled back, but at
     * that time there is nothing left that the pager would roll back. */
    if (late && (code == SQLITE_BUSY || code == SQLITE_BUSY_SNAPSHOT))
        return PHANTOM;
    return CLEAN;
}

static void insert_winner(void *db)
{
    db_exec(db, "INSERT INTO t VALUES('winner')");
}

static bool has(sqlite3 *db, const char *row)
{
    return db_int(db, "SELECT count(*) FROM t WHERE x = '%s'", row) == 1;
}

/* Without a cache that may be wrong. */
static bool is_committed(const char *row)
{
    int number;
    sqlite3 *db = probe_open("pair", &number);
    bool is = has(db, row);
    db_check_integrity(db, "after a refusal");
    db_close(db);
    return is;
}

static enum outcome observe(sqlite3 *a)
{
    if (!sqlite3_get_autocommit(a)) {
        int rc = db_try(a, "COMMIT");
        CHECK(rc == SQLITE_OK, "the second COMMIT: %d %s", rc, sqlite3_errmsg(a));
        return is_committed("loser") ? OPEN_REPEATS : OPEN_LOSES;
    }
    CHECK(!is_committed("loser") && is_committed("winner"), "what was refused is committed");
    if (has(a, "loser")) {
        CHECK(!has(a, "winner"), "both rows are seen");
        return PHANTOM;
    }
    CHECK(has(a, "winner") && has(a, "base"), "committed rows are not seen");
    db_exec(a, "INSERT INTO t VALUES('again')");
    CHECK(is_committed("again") && is_committed("winner"), "writing does not go on");
    return CLEAN;
}

static void start_pair(sqlite3 **a, int *a_number, sqlite3 **b)
{
    int b_number;
    probe_forget("pair");
    *a = probe_open("pair", a_number);
    *b = probe_open("pair", &b_number);
    db_exec(*a, "CREATE TABLE t(x); INSERT INTO t VALUES('base')");
    CHECK(has(*a, "base") && has(*b, "base"), "both caches are filled");
}

static enum outcome refuse_at(const struct place *place, int code, bool explicit_commit)
{
    sqlite3 *a, *b;
    int number;
    start_pair(&a, &number, &b);
    if (explicit_commit)
        db_exec(a, "BEGIN");
    else
        probe_refuse(number, place->call, code);
    probe_at_reserved(number, false, insert_winner, b);
    int rc = db_try(a, "INSERT INTO t VALUES('loser')");
    if (explicit_commit) {
        CHECK(rc == SQLITE_OK, "INSERT: %d", rc);
        probe_refuse(number, place->call, code);
        rc = db_try(a, "COMMIT");
    }
    CHECK(rc == code, "refused with %d, answered %d: %s", code, rc, sqlite3_errmsg(a));
    enum outcome seen = observe(a);
    db_close(a);
    db_close(b);
    return seen;
}

static void test_refusals(void)
{
    int cells = 0;
    for (unsigned p = 0; p < sizeof places / sizeof *places; p++)
        for (unsigned c = 0; c < sizeof codes / sizeof *codes; c++)
            for (int explicit_commit = 0; explicit_commit < 2; explicit_commit++, cells++) {
                enum outcome want = documented(places[p].late, codes[c].code, explicit_commit);
                enum outcome seen = refuse_at(&places[p], codes[c].code, explicit_commit);
                CHECK(seen == want, "%s, %s, %s: %s, not %s", places[p].name, codes[c].name,
                      explicit_commit ? "COMMIT" : "autocommit", outcome_names[seen],
                      outcome_names[want]);
            }
    test_say("refused commits: %d cells as documented", cells);
}

/* Refused before anything was written: the only place that daxlite refuses at. */
static void test_refused_at_reserved(void)
{
    sqlite3 *a, *b;
    int number;
    start_pair(&a, &number, &b);
    probe_at_reserved(number, true, insert_winner, b);
    probe_refuse(number, PROBE_LOCK_RESERVED, SQLITE_BUSY_SNAPSHOT);
    int rc = db_try(a, "INSERT INTO t VALUES('loser')");
    CHECK(rc == SQLITE_BUSY, "without a read before: %d, not plain BUSY", rc);
    CHECK(observe(a) == CLEAN, "autocommit");
    db_close(a);
    db_close(b);

    start_pair(&a, &number, &b);
    db_exec(a, "BEGIN; SELECT * FROM t");
    probe_at_reserved(number, true, insert_winner, b);
    probe_refuse(number, PROBE_LOCK_RESERVED, SQLITE_BUSY_SNAPSHOT);
    rc = db_try(a, "INSERT INTO t VALUES('loser')");
    CHECK(rc == SQLITE_BUSY_SNAPSHOT, "with a read transaction: %d, not BUSY_SNAPSHOT", rc);
    CHECK(!sqlite3_get_autocommit(a), "the read transaction has ended");
    CHECK(has(a, "base") && !has(a, "winner") && !has(a, "loser"), "its snapshot has changed");
    db_exec(a, "COMMIT");
    CHECK(observe(a) == CLEAN, "after the read");
    db_close(a);
    db_close(b);
}

/* An I/O error throws the page cache away, BUSY keeps it. (Another writer has committed, so the change
 * counter that SQLite compares is the one that it expects.) */
static void test_which_codes_drop_the_cache(void)
{
    for (unsigned i = 0; i < sizeof codes / sizeof *codes; i++) {
        sqlite3 *a, *b;
        int number, n, pages = 0;
        start_pair(&a, &number, &b);
        probe_at_reserved(number, false, insert_winner, b);
        probe_refuse(number, PROBE_PHASETWO, codes[i].code);
        CHECK(db_try(a, "INSERT INTO t VALUES('loser')") == codes[i].code, "%s", codes[i].name);
        probe_clear();
        (void)db_int(a, "SELECT count(*) FROM t");
        const struct probe_event *e = probe_events(&n);
        for (int k = 0; k < n; k++)
            pages += e[k].call == PROBE_READ && e[k].file == number && e[k].b > 16;
        bool error = codes[i].code == SQLITE_IOERR_WRITE || codes[i].code == SQLITE_FULL;
        CHECK((pages > 0) == error, "%s: %d pages read again", codes[i].name, pages);
        db_close(a);
        db_close(b);
    }
}

/* --- order of calls ------------------------------------------------------------------------------ */

static void test_order_of_a_commit(void)
{
    int f;
    sqlite3 *db = probe_open("order", &f);
    db_exec(db, "PRAGMA auto_vacuum = FULL; CREATE TABLE t(x)");
    db_exec(db, "INSERT INTO t VALUES(zeroblob(100000))");
    probe_clear();
    db_exec(db, "DELETE FROM t");
    int lock = probe_first(f, PROBE_LOCK_RESERVED), sync = probe_first(f, PROBE_SYNC),
        closed = probe_first(f, PROBE_JOURNAL_CLOSE), gone = probe_first(f, PROBE_JOURNAL_DELETE),
        cut = probe_first(f, PROBE_TRUNCATE), two = probe_first(f, PROBE_PHASETWO),
        unlock = probe_first(f, PROBE_UNLOCK_SHARED), none = probe_first(f, PROBE_UNLOCK_NONE);
    CHECK(
        lock >= 0 && lock < sync && sync < closed && closed < gone && gone < cut && cut < two &&
            two < unlock && unlock < none,
        "RESERVED %d, SYNC %d, journal closed %d, deleted %d, cut %d, PHASETWO %d, unlocked %d, %d",
        lock, sync, closed, gone, cut, two, unlock, none);
    db_close(db);
}

static void test_exclusive_mode(void)
{
    int f;
    sqlite3 *db = probe_open("exclusive", &f);
    db_exec(db, "CREATE TABLE t(x); PRAGMA locking_mode = EXCLUSIVE");
    probe_clear();
    for (int i = 0; i < 5; i++)
        db_exec(db, "INSERT INTO t VALUES(%d)", i);
    CHECK(probe_count(f, PROBE_PHASETWO) == 5, "%d PHASETWO", probe_count(f, PROBE_PHASETWO));
    CHECK(probe_count(f, PROBE_UNLOCK_SHARED) == 0, "%d xUnlock(SHARED)",
          probe_count(f, PROBE_UNLOCK_SHARED));
    db_close(db);
}

static void test_when_sync_and_phasetwo_come(void)
{
    int f;
    sqlite3 *db = probe_open("sync", &f);
    db_exec(db, "CREATE TABLE t(x)");
    for (int level = 0; level < 4; level++) {
        db_exec(db, "PRAGMA synchronous = %d", level);
        probe_clear();
        db_exec(db, "INSERT INTO t VALUES(1)");
        CHECK(probe_count(f, PROBE_SYNC) == 1 && probe_count(f, PROBE_PHASETWO) == 1,
              "synchronous=%d: %d SYNC, %d PHASETWO", level, probe_count(f, PROBE_SYNC),
              probe_count(f, PROBE_PHASETWO));
    }
    probe_clear();
    db_exec(db, "BEGIN IMMEDIATE; COMMIT");
    CHECK(probe_count(f, PROBE_SYNC) == 0 && probe_count(f, PROBE_PHASETWO) == 1,
          "nothing is dirty: %d SYNC, %d PHASETWO", probe_count(f, PROBE_SYNC),
          probe_count(f, PROBE_PHASETWO));
    probe_clear();
    db_exec(db, "BEGIN; INSERT INTO t VALUES(1); ROLLBACK");
    CHECK(probe_count(f, PROBE_PHASETWO) == 0, "ROLLBACK: %d PHASETWO",
          probe_count(f, PROBE_PHASETWO));

    db_close(db);
}

/* A backup sends FCNTL_SYNC once, after its last write, also into larger pages, where its phase one
 * comes without it. */
static void test_backup(void)
{
    for (int larger = 0; larger < 2; larger++) {
        int f, g, n;
        sqlite3 *from = probe_open(test_printf("from%d", larger), &f);
        sqlite3 *to = probe_open(test_printf("to%d", larger), &g);
        db_exec(from, "PRAGMA page_size = 1024; CREATE TABLE t(x);"
                      "INSERT INTO t VALUES(zeroblob(20000))");
        db_exec(to, "PRAGMA page_size = %d; CREATE TABLE u(x)", larger ? 4096 : 1024);
        probe_clear();
        sqlite3_backup *b = sqlite3_backup_init(to, "main", from, "main");
        CHECK(b && sqlite3_backup_step(b, -1) == SQLITE_DONE, "backup: %s", sqlite3_errmsg(to));
        CHECK_RC(to, sqlite3_backup_finish(b), SQLITE_OK);
        const struct probe_event *e = probe_events(&n);
        int locked = probe_first(g, PROBE_LOCK_EXCLUSIVE), sync = probe_first(g, PROBE_SYNC),
            two = probe_first(g, PROBE_PHASETWO), before = 0, after = 0;
        for (int k = locked; k < n; k++) {
            bool writes =
                e[k].file == g && (e[k].call == PROBE_WRITE || e[k].call == PROBE_TRUNCATE);
            before += writes && k < sync;
            after += writes && k > sync;
        }
        CHECK(probe_count(g, PROBE_SYNC) == 1 && probe_count(g, PROBE_PHASETWO) == 1 && sync < two,
              "%d FCNTL_SYNC, %d PHASETWO", probe_count(g, PROBE_SYNC),
              probe_count(g, PROBE_PHASETWO));
        CHECK(before > 0 && after == 0, "%d writes before FCNTL_SYNC, %d after", before, after);
        db_close(from);
        db_close(to);
    }
}

static void test_read_transaction(void)
{
    int f;
    sqlite3 *db = probe_open("read", &f);
    db_exec(db, "CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    (void)db_int(db, "SELECT x FROM t");
    for (int i = 0; i < 3; i++) {
        probe_clear();
        (void)db_int(db, "SELECT x FROM t");
        int n, asked[2] = {0, 0};
        const struct probe_event *e = probe_events(&n);
        for (int k = 0; k < n; k++)
            if (e[k].call == PROBE_ACCESS) {
                asked[0] += e[k].a == 1;
                asked[1] += e[k].b == 1;
            }
        CHECK(probe_count(f, PROBE_ACCESS) == 2 && asked[0] == 1 && asked[1] == 1,
              "xAccess: %d of -journal, %d of -wal", asked[0], asked[1]);
        int at = probe_first(f, PROBE_READ);
        CHECK(probe_count(f, PROBE_READ) == 1 && e[at].a == 24 && e[at].b == 16,
              "%d reads, the first of %lld bytes at %lld", probe_count(f, PROBE_READ),
              (long long)e[at].b, (long long)e[at].a);
        CHECK(probe_count(f, PROBE_SIZE) == 1, "xFileSize: %d", probe_count(f, PROBE_SIZE));
        CHECK(probe_count(f, PROBE_LOCK_SHARED) == 1 && probe_count(f, PROBE_UNLOCK_NONE) == 1,
              "locks");
    }
    db_close(db);
}

/* --- journals ------------------------------------------------------------------------------------ */

static void test_journal_records(void)
{
    int f;
    sqlite3 *db = probe_open("journal", &f);
    db_exec(db, "CREATE TABLE t(x); INSERT INTO t VALUES(zeroblob(20000))");
    probe_clear();
    db_exec(db, "UPDATE t SET x = randomblob(20000)");
    int n, records = 0;
    const struct probe_event *e = probe_events(&n);
    const struct probe_event *w[3] = {0};
    for (int k = 0, have = 0; k < n; k++) {
        if (e[k].call != PROBE_JOURNAL_WRITE)
            continue;
        w[have++ % 3] = &e[k];
        const struct probe_event *first = w[have % 3], *second = w[(have + 1) % 3];
        if (have < 3 || e[k].b != 4 || first->b != 4 || second->b != 4096)
            continue;
        CHECK(second->a == first->a + 4 && e[k].a == second->a + 4096, "a record has gaps");
        records++;
    }
    CHECK(records >= 5, "%d records of 4 + 4096 + 4 bytes in three writes", records);
    db_close(db);
}

static void test_super_journal(void)
{
    static const struct {
        const char *mode;
        bool super;
    } modes[] = {
        {"delete", true}, {"truncate", true}, {"persist", true}, {"memory", false}, {"off", false}};
    for (unsigned i = 0; i < sizeof modes / sizeof *modes; i++) {
        int f;
        sqlite3 *db = probe_open("super1", &f);
        db_exec(db, "ATTACH 'super2' AS two");
        db_exec(db, "CREATE TABLE IF NOT EXISTS t(x); CREATE TABLE IF NOT EXISTS two.t(x)");
        db_exec(db, "PRAGMA main.journal_mode = %s", modes[i].mode);
        db_exec(db, "PRAGMA two.journal_mode = %s", modes[i].mode);
        probe_clear();
        db_exec(db, "BEGIN; INSERT INTO main.t VALUES(1); INSERT INTO two.t VALUES(1); COMMIT");
        CHECK((probe_count(0, PROBE_SUPER_OPEN) > 0) == modes[i].super, "journal_mode=%s: %d",
              modes[i].mode, probe_count(0, PROBE_SUPER_OPEN));
        db_close(db);
    }
}

/* A statement that fails half-way leaves what it has done, and ROLLBACK ends open SELECTs. */
static void test_journal_mode_off(void)
{
    int f;
    sqlite3 *db = probe_open("off", &f);
    db_exec(db,
            "CREATE TABLE t(x UNIQUE); WITH RECURSIVE i(n) AS "
            "(SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 50) INSERT INTO t SELECT n FROM i");
    db_exec(db, "PRAGMA journal_mode = OFF");
    sqlite3_stmt *st;
    CHECK_RC(db, sqlite3_prepare_v2(db, "SELECT x FROM t NOT INDEXED", -1, &st, NULL), SQLITE_OK);
    CHECK_RC(db, sqlite3_step(st), SQLITE_ROW);
    db_exec(db, "BEGIN; INSERT INTO t VALUES(100); ROLLBACK");
    int rc = sqlite3_step(st);
    CHECK(rc != SQLITE_ROW && rc != SQLITE_DONE, "the SELECT goes on: %d", rc);
    sqlite3_finalize(st);
    db_close(db);
}

/* --- xFetch -------------------------------------------------------------------------------------- */

static sqlite3 *open_mapped(const char *name, int *f)
{
    sqlite3 *db = probe_open(name, f);
    /* Small pages, so that the tree has three levels. */
    db_exec(db, "PRAGMA page_size = 1024; CREATE TABLE t(k INTEGER PRIMARY KEY, v TEXT, w INT);"
                "WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i "
                "WHERE n < 2000) INSERT INTO t SELECT n, printf('%%0200d', n), n FROM i");
    db_close(db);
    return probe_open(name, f);
}

static void test_fetch(void)
{
    int f, g;
    sqlite3 *db = open_mapped("fetch", &f);
    probe_clear();
    (void)db_int(db, "SELECT sum(w) FROM t");
    CHECK(probe_count(f, PROBE_FETCH) == 0, "mmap_size is not 0 by default");

    db_exec(db, "PRAGMA mmap_size = 1000000000");
    sqlite3_stmt *st;
    CHECK_RC(db, sqlite3_prepare_v2(db, "SELECT sum(w) FROM t", -1, &st, NULL), SQLITE_OK);
    int fetched[2];
    for (int i = 0; i < 2; i++) {
        probe_clear();
        CHECK_RC(db, sqlite3_step(st), SQLITE_ROW);
        sqlite3_reset(st);
        fetched[i] = probe_count(f, PROBE_FETCH);
        int n;
        const struct probe_event *e = probe_events(&n);
        for (int k = 0; k < n; k++)
            CHECK(e[k].call != PROBE_FETCH || e[k].a >= 1024, "page 1 is fetched");
        CHECK(probe_pins(f) == 0, "%d pins after a scan", probe_pins(f));
    }
    CHECK(fetched[0] > 100 && fetched[1] == fetched[0], "%d and %d pages fetched by the same scan",
          fetched[0], fetched[1]);
    test_say("pins in a scan: %d", probe_pins_most(f));
    CHECK(probe_pins_most(f) == 3, "%d pins in a scan", probe_pins_most(f));
    sqlite3_finalize(st);

    probe_clear();
    (void)db_int(db, "SELECT count(*) FROM t a, t b WHERE a.k = b.w AND b.k = a.w");
    test_say("pins in a self-join: %d", probe_pins_most(f));
    CHECK(probe_pins_most(f) == 6, "%d pins in a self-join", probe_pins_most(f));

    /* A SELECT that stands on a row; then a write beside it, on the same connection. */
    CHECK_RC(db, sqlite3_prepare_v2(db, "SELECT v FROM t WHERE k = 700", -1, &st, NULL), SQLITE_OK);
    CHECK_RC(db, sqlite3_step(st), SQLITE_ROW);
    test_say("pins of a SELECT that was not reset: %d", probe_pins(f));
    CHECK(probe_pins(f) == 3, "%d pins of a SELECT that was not reset", probe_pins(f));
    const void *text = sqlite3_column_text(st, 0);
    CHECK(!probe_owns(f, text), "column_text is zero-copy");
    probe_clear();
    db_exec(db, "INSERT INTO t(v, w) VALUES('x', 0)");
    int n;
    const struct probe_event *e = probe_events(&n);
    CHECK(probe_first(f, PROBE_PHASETWO) >= 0 && e[probe_first(f, PROBE_PHASETWO)].a == 0,
          "%lld pins at PHASETWO", (long long)e[probe_first(f, PROBE_PHASETWO)].a);
    sqlite3_finalize(st);
    e = probe_events(&n);
    for (int k = 0; k < n; k++)
        CHECK(e[k].call != PROBE_UNLOCK_NONE || e[k].a == 0, "%lld pins at xUnlock(NONE)",
              (long long)e[k].a);

    /* Another connection commits: what was mapped is forgotten. */
    sqlite3 *other = probe_open("fetch", &g);
    db_exec(other, "INSERT INTO t(v, w) VALUES('y', 0)");
    probe_clear();
    (void)db_int(db, "SELECT count(*) FROM t");
    e = probe_events(&n);
    int nulls = 0;
    for (int k = 0; k < n; k++)
        nulls += e[k].call == PROBE_UNFETCH && e[k].file == f && !e[k].b;
    CHECK(nulls == 1, "%d xUnfetch(NULL) after another connection's commit", nulls);
    db_close(other);
    db_close(db);
}

static void test_mmap_cap(void)
{
    sqlite3 *db = db_open_stock(test_path("cap.db"));
    int64_t cap = db_int(db, "PRAGMA mmap_size = 100000000000");
    CHECK(cap == 2147418112, "mmap_size is capped at %lld", (long long)cap);
    db_close(db);
    CHECK(sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0) == SQLITE_MISUSE,
          "sqlite3_config works while SQLite runs");
}

/* --- the header ----------------------------------------------------------------------------------- */

static void test_header(void)
{
    int f;
    int64_t size;
    sqlite3 *db = probe_open("header", &f);
    db_exec(db, "CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    unsigned char *header = probe_bytes("header", &size);
    for (int i = 72; i < 92; i++)
        CHECK(header[i] == 0, "byte %d is %d", i, header[i]);
    db_close(db);
    memset(header + 72, 0xA5, 20);
    db = probe_open("header", &f);
    db_exec(db, "INSERT INTO t VALUES(2)");
    db_check_integrity(db, "with bytes 72 - 91 in use");
    db_close(db);
    for (int i = 72; i < 92; i++)
        CHECK(header[i] == 0xA5, "byte %d has been changed to %d", i, header[i]);

    header[18] = 3; /* write version */
    db = probe_open("header", &f);
    CHECK(db_int(db, "SELECT count(*) FROM t") == 2, "a newer write version cannot be read");
    CHECK((db_try(db, "INSERT INTO t VALUES(3)") & 0xff) == SQLITE_READONLY, "it can be written");
    db_close(db);
    header[18] = 1;
    header[19] = 3; /* read version */
    db = probe_open("header", &f);
    CHECK(db_try(db, "SELECT count(*) FROM t") == SQLITE_NOTADB, "a newer read version is read");
    db_close(db);
}

int main(void)
{
    setenv("DAX_TEST_VFS", "unix", 1); /* facts about SQLite: the extension stays out */
    test_start("sqlite_facts");
    probe_install();
    test_say("SQLite %s", sqlite3_libversion());
    test_refusals();
    test_refused_at_reserved();
    test_which_codes_drop_the_cache();
    test_order_of_a_commit();
    test_exclusive_mode();
    test_when_sync_and_phasetwo_come();
    test_backup();
    test_read_transaction();
    test_journal_records();
    test_super_journal();
    test_journal_mode_off();
    test_fetch();
    test_mmap_cap();
    test_header();
    return test_finish();
}
