/* bad_sidecar.c: a sidecar that is missing, foreign, cut or damaged is reported; the data stays.
 *
 * Catches: a database shown as of its last checkpoint because its log was not there; a log replayed
 * into a database that it does not belong to; a damaged record taken for the end of the log with
 * valid ones behind it; a refused open that changes anything; a crash over bytes that are not ours.
 *
 * Each case starts from the same crashed database: N transactions, all of them live in the log. In
 * the end the right sidecar is put back and everything must be there.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/layout.h"
#include "tests/system/harness.h"

#define TRANSACTIONS 12

static char *good, *good_dax; /* the crashed pair */
static char *path, *path_dax; /* the copy that is tried */
static char *path_before;     /* and as it was before */

static int child_crash(void *arg)
{
    sqlite3 *db = db_open(arg, "dax_log_size=8m");
    db_exec(db, "CREATE TABLE t(n INTEGER PRIMARY KEY, x); INSERT INTO t VALUES(0, zeroblob(300))");
    db_exec(db, "PRAGMA wal_checkpoint(TRUNCATE)");
    for (int i = 1; i <= TRANSACTIONS; i++)
        db_exec(
            db,
            "BEGIN; INSERT INTO t VALUES(%d, zeroblob(%d)); UPDATE t SET x = 'tx %d' WHERE n = 0;"
            " COMMIT",
            i, i * 100, i);
    return kill(getpid(), SIGKILL);
}

static void make_crashed(const char *name)
{
    CHECK(child_wait(child_start(child_crash, test_path("%s", name))) == -SIGKILL, "crash");
}

static void reset(void)
{
    file_remove_db(path);
    file_copy(good, path);
    file_copy(good_dax, path_dax);
}

/* Transactions that are there, in order and whole. */
static int transactions(sqlite3 *db)
{
    int n = (int)db_int(db, "SELECT count(*) - 1 FROM t");
    CHECK(db_int(db, "SELECT max(n) FROM t") == n, "a transaction in the middle is missing");
    if (n > 0) {
        char *x = db_text(db, "SELECT x FROM t WHERE n = 0");
        CHECK(atoi(x + 3) == n, "%d transactions, the last one is '%s'", n, x);
    }
    db_check_integrity(db, "after recovery");
    return n;
}

static void check_good(void)
{
    reset();
    sqlite3 *db = db_open(path, "");
    CHECK(transactions(db) == TRANSACTIONS, "lost transactions");
    db_close(db);
    stock_check(path);
}

/* Must be refused, the log line has all words, both files stay as they are. */
#define REFUSED(code, ...)                                                                         \
    do {                                                                                           \
        sqlite3 *r_db;                                                                             \
        file_copy(path, path_before);                                                              \
        int64_t bytes = file_bytes(path_dax);                                                      \
        log_clear();                                                                               \
        int r_rc = db_try_open(path, "", SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &r_db);       \
        if (r_rc == SQLITE_OK)                                                                     \
            r_rc = db_try(r_db, "SELECT * FROM t");                                                \
        CHECK((r_rc & 0xff) == (code), "code %d \"%s\", wanted %d\n%s", r_rc,                      \
              sqlite3_errmsg(r_db), code, log_text());                                             \
        sqlite3_close(r_db);                                                                       \
        CHECK(log_has(__VA_ARGS__, NULL), "the reason is not in the log:\n%s", log_text());        \
        CHECK(file_same(path, path_before), "a refused open changed the database:\n%s",            \
              log_text());                                                                         \
        CHECK(file_bytes(path_dax) == bytes, "a refused open changed the sidecar's size");         \
        sqlite3 *r_stock = db_open_stock(path);                                                    \
        r_rc = db_try(r_stock, "SELECT * FROM t");                                                 \
        CHECK(r_rc == SQLITE_NOTADB, "stock SQLite reads an unrecovered database: %d", r_rc);      \
        db_close(r_stock);                                                                         \
    } while (0)

/* --- the sidecar's structure ------------------------------------------------------------------ */

struct anatomy {
    int64_t root_at; /* file offset */
    struct sidecar_root root;
    struct cursor_slot cursor;
    int64_t record_at[TRANSACTIONS + 1]; /* file offsets, in order */
    uint32_t record_bytes[TRANSACTIONS + 1];
    int count; /* record_at[count]: where the next one would be */
};

static void dissect(const char *file, struct anatomy *a)
{
    int64_t bytes = file_bytes(file);
    uint8_t *all = malloc((size_t)bytes);
    CHECK(all, "malloc");
    file_peek(file, 0, all, (size_t)bytes);
    memset(a, 0, sizeof *a);
    for (int64_t at = 0; at + (int64_t)sizeof a->root <= bytes; at += 8) {
        memcpy(&a->root, all + at, sizeof a->root);
        if (!memcmp(a->root.magic, DAX_SIDECAR_MAGIC, 8) &&
            a->root.hash == XXH3_64bits(&a->root, 56)) {
            a->root_at = at;
            break;
        }
    }
    CHECK(a->root_at, "no root in the sidecar");
    a->cursor = a->root.cursor[a->root.cursor[1].seq > a->root.cursor[0].seq];
    uint64_t lsn = a->cursor.lsn;
    for (;;) {
        struct record_header h;
        int64_t at = (int64_t)(a->root.ring_offset + lsn % a->root.ring_bytes);
        memcpy(&h, all + at, sizeof h);
        if (h.lsn != lsn || h.salt != a->cursor.salt || a->count == TRANSACTIONS)
            break;
        a->record_at[a->count] = at;
        a->record_bytes[a->count++] = h.length_lines * DAX_LINE_BYTES;
        lsn += (uint64_t)h.length_lines * DAX_LINE_BYTES;
        a->record_at[a->count] = (int64_t)(a->root.ring_offset + lsn % a->root.ring_bytes);
    }
    CHECK(a->count == TRANSACTIONS, "%d records in the log, wanted %d", a->count, TRANSACTIONS);
    free(all);
}

static void flip(const char *file, int64_t at)
{
    uint8_t b;
    file_peek(file, at, &b, 1);
    b ^= 0x5a;
    file_poke(file, at, &b, 1);
}

/* --- cases ------------------------------------------------------------------------------------ */

static void test_missing(void)
{
    reset();
    CHECK(rename(path_dax, test_path("aside")) == 0, "rename");
    REFUSED(SQLITE_CANTOPEN, "app.db-dax", "missing");
    CHECK(!file_exists(path_dax), "a refused open made a sidecar");
    CHECK(rename(test_path("aside"), path_dax) == 0, "rename");
    sqlite3 *db = db_open(path, "");
    CHECK(transactions(db) == TRANSACTIONS, "lost transactions");
    db_close(db);
    test_say("sidecar missing: ok");
}

/* Opened for reading only: recovered all the same, or refused with the reason; never as it lies. */
static void test_read_only(void)
{
    reset();
    sqlite3 *db;
    log_clear();
    int rc = db_try_open(path, "mode=ro", SQLITE_OPEN_READONLY, &db);
    if (rc == SQLITE_OK && (rc = db_try(db, "SELECT * FROM t")) == SQLITE_OK)
        CHECK(transactions(db) == TRANSACTIONS, "reading only: lost transactions");
    else
        CHECK(log_has("app.db", NULL), "reading only: %d without a reason", rc);
    sqlite3_close(db);
    db = db_open(path, "");
    CHECK(transactions(db) == TRANSACTIONS, "after reading only: lost transactions");
    db_close(db);
    stock_check(path);
    test_say("crashed database opened for reading only: %s",
             rc == SQLITE_OK ? "recovered" : "refused");
}

static void test_foreign(void)
{
    make_crashed("other.db");
    reset();
    file_copy(test_path("other.db-dax"), path_dax);
    REFUSED(SQLITE_CANTOPEN, "app.db-dax", "another database");
    check_good();

    /* No mark: the log is irrelevant, whatever it holds. */
    file_remove_db(path);
    sqlite3 *stock = db_open_stock(path);
    db_exec(stock, "CREATE TABLE t(n INTEGER PRIMARY KEY, x); INSERT INTO t VALUES(0, 'backup')");
    db_close(stock);
    file_copy(good_dax, path_dax);
    sqlite3 *db = db_open(path, "");
    CHECK(db_int(db, "SELECT count(*) FROM t WHERE x = 'backup'") == 1,
          "another file's log was replayed");
    db_exec(db, "INSERT INTO t VALUES(1, 'new')");
    db_close(db);
    stock_check(path);
    test_say("sidecar of another database: ok");
}

/* The database is open, everything is there, the sidecar is a new one, and the old one was kept. */
static void check_salvaged(const char *what)
{
    char *bad = test_printf("%s-bad", path_dax), *was = test_path("was");
    unlink(bad);
    file_copy(path_dax, was);
    log_clear();
    sqlite3 *db = db_open(path, "");
    CHECK(transactions(db) == TRANSACTIONS, "%s: lost transactions", what);
    CHECK(log_has("without libpmemobj", "made anew", "-dax-bad", NULL), "%s: not said: %s", what,
          log_text());
    CHECK(db_int(db, "SELECT count(*) FROM dax_errors WHERE part IN ('sidecar', 'log')") > 0,
          "%s: no entry", what);
    CHECK(db_int(db, "SELECT count(*) FROM dax_errors WHERE status <> 'repaired'") == 0,
          "%s: left open", what);
    CHECK(file_bytes(bad) == file_bytes(was), "%s: the old sidecar was not kept", what);
    db_exec(db, "INSERT INTO t VALUES(1000, 'afterwards')");
    db_close(db);
    stock_check(path);
    log_clear();
    db = db_open(path, "");
    db_exec(db, "DELETE FROM t WHERE n = 1000");
    CHECK(!log_has("made anew", NULL), "%s: once more: %s", what, log_text());
    CHECK(db_int(db, "SELECT count(*) FROM dax_errors") > 0, "%s: its entry is gone", what);
    db_close(db);
    unlink(bad);
    unlink(was);
}

static void test_truncated(const struct anatomy *a)
{
    /* Behind the live records: what is cut off is not needed. */
    int64_t behind = a->record_at[TRANSACTIONS] + 64 * 1024;
    const int64_t cuts[] = {0, 1, 4095, 4096, 8192, 1 << 20, a->root_at, behind, -1, -4096};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        reset();
        int64_t bytes = file_bytes(path_dax);
        CHECK(truncate(path_dax, cuts[i] < 0 ? bytes + cuts[i] : cuts[i]) == 0, "truncate");
        if (cuts[i] < 0 || cuts[i] == behind)
            check_salvaged(test_printf("cut to %lld", (long long)cuts[i]));
        else
            REFUSED(SQLITE_CORRUPT, "app.db-dax");
    }
    /* Within them: what was cut off is lost with it, and nobody is to find out by himself. */
    reset();
    CHECK(truncate(path_dax, (a->record_at[TRANSACTIONS - 1] & ~(int64_t)4095)) == 0, "truncate");
    if (a->record_at[TRANSACTIONS - 1] / 4096 > a->record_at[0] / 4096)
        REFUSED(SQLITE_IOERR, "app.db-dax", "cannot be read", "dax_damaged_log=skip");
    check_good();
    test_say("sidecar truncated: ok");
}

static void test_newer(const struct anatomy *a)
{
    reset();
    struct sidecar_root root = a->root;
    root.version = DAX_SIDECAR_VERSION + 1;
    root.hash = XXH3_64bits(&root, 56);
    file_poke(path_dax, a->root_at, &root, 56 + 8);
    REFUSED(SQLITE_CANTOPEN, "app.db-dax", "newer");

    reset(); /* the mark itself is of a newer format */
    struct mark_bytes m;
    file_peek(path, DAX_HEADER_RESERVED, &m, sizeof m);
    m.format = DAX_MARK_FORMAT + 1;
    m.check = (uint32_t)XXH3_64bits(&m, 16);
    file_poke(path, DAX_HEADER_RESERVED, &m, sizeof m);
    REFUSED(SQLITE_NOTADB, "app.db");

    reset(); /* a record with a flag that we do not know, and with the right hash */
    uint8_t *record = malloc(a->record_bytes[3]);
    CHECK(record, "malloc");
    file_peek(path_dax, a->record_at[3], record, a->record_bytes[3]);
    struct record_header *h = (struct record_header *)(void *)record;
    h->flags |= 0x4000;
    h->hash = XXH3_64bits(record + 8, a->record_bytes[3] - 8);
    file_poke(path_dax, a->record_at[3], record, a->record_bytes[3]);
    free(record);
    REFUSED(SQLITE_CORRUPT, "app.db");
    check_good();
    test_say("newer formats: ok");
}

/* The user decides to go without the damaged record. What it has changed is not known, so the state
 * need not be sound, and the log says to check it; but the file is open, and plain afterwards. */
static void go_without(void)
{
    log_clear();
    sqlite3 *db = db_open(path, "dax_damaged_log=skip");
    CHECK(log_has("damaged", "check", NULL), "no warning: %s", log_text());
    db_try(db, "PRAGMA integrity_check");
    db_try(db, "SELECT * FROM t");
    db_close(db);
    db = db_open_stock(path);
    int rc = db_try(db, "SELECT count(*) FROM sqlite_schema");
    CHECK(rc == SQLITE_OK || (rc & 0xff) == SQLITE_CORRUPT, "not a plain file afterwards: %d", rc);
    db_close(db);
}

static void test_damaged_record(const struct anatomy *a)
{
    for (int i = 0; i < TRANSACTIONS; i++) {
        for (int where = 0; where < 4; where++) {
            /* hash, LSN, length, last byte */
            static const int64_t offset[] = {0, 8, 40, -1};
            reset();
            int64_t in = offset[where] < 0 ? a->record_bytes[i] - 1 : offset[where];
            flip(path_dax, a->record_at[i] + in);
            REFUSED(SQLITE_CORRUPT, "app.db", "damaged");
            if (where == 0)
                go_without();
        }
    }
    /* A last record that no seal calls whole is one that was not finished. */
    reset();
    flip(path_dax, a->record_at[TRANSACTIONS - 1] + 70);
    struct sidecar_twin twin;
    file_peek(path_dax, (int64_t)a->root.twin_offset, &twin, sizeof twin);
    unsigned newest = 0;
    for (unsigned k = 1; k < DAX_SEALS; k++)
        if (twin.seal[k].lsn > twin.seal[newest].lsn)
            newest = k;
    memset(&twin.seal[newest], 0, sizeof twin.seal[newest]);
    file_poke(path_dax, (int64_t)a->root.twin_offset, &twin, sizeof twin);
    sqlite3 *db = db_open(path, "");
    CHECK(transactions(db) == TRANSACTIONS - 1, "a torn last record");
    db_close(db);
    check_good();
    test_say("damaged records: ok");
}

/* A copy of a cursor slot gone: the other copy counts; all of them: reported. */
static void test_cursor(const struct anatomy *a)
{
    int64_t slots[] = {a->root_at + (int64_t)offsetof(struct sidecar_root, cursor),
                       (int64_t)a->root.twin_offset};
    for (int i = 0; i < 4; i++) {
        reset();
        flip(path_dax, slots[i / 2] + i % 2 * 64 + 9);
        sqlite3 *db = db_open(path, "");
        CHECK(transactions(db) == TRANSACTIONS, "copy %d of a cursor slot is damaged", i);
        db_close(db);
    }
    reset();
    for (int i = 0; i < 4; i++)
        flip(path_dax, slots[i / 2] + i % 2 * 64 + 9);
    REFUSED(SQLITE_CORRUPT, "app.db-dax");
    reset();
    /* The root's other words are in the twin as well; lost in both places: reported. */
    flip(path_dax, a->root_at + 30);
    check_salvaged("root");
    reset();
    flip(path_dax, a->root_at + 30);
    flip(path_dax, (int64_t)(a->root.twin_offset + offsetof(struct sidecar_twin, places) + 30));
    REFUSED(SQLITE_CORRUPT, "app.db-dax");
    check_good();
    test_say("cursor slots and root: ok");
}

/* --- any damage at all ------------------------------------------------------------------------ */

static int child_open(void *arg)
{
    (void)arg;
    sqlite3 *db;
    int rc = db_try_open(path, "", SQLITE_OPEN_READWRITE, &db);
    if (rc == SQLITE_OK)
        rc = db_try(db, "SELECT count(*) FROM t");
    if (rc != SQLITE_OK) {
        CHECK(*log_text(), "an error without a log line");
        return 100;
    }
    int n = transactions(db);
    db_close(db);
    stock_check(path);
    return n;
}

/* Anywhere in what libpmemobj has put there for itself: nobody else needs it. The words that it believes
 * without a checksum (descriptor, heads of the lanes' logs), each of them; and others. */
static void test_damage_of_libpmemobj(const struct anatomy *a)
{
    struct rng r = {test_seed()};
    for (int i = 0; i < 60; i++) {
        uint32_t lane = rng_below(&r, 1024), log = rng_below(&r, 3), word = 1 + rng_below(&r, 4);
        static const uint32_t log_at[3] = {0, 256, 960};
        int64_t at;
        if (i < 5)
            at = 4096 + 2048 + i * 8 + rng_below(&r, 8);
        else if (i < 35)
            at = 8192 + lane * 3072 + log_at[log] + word * 8 + rng_below(&r, 8);
        else
            at = rng_below(&r, (uint32_t)(a->root_at & ~(int64_t)63));
        reset();
        flip(path_dax, at);
        int rc = child_wait(child_start(child_open, NULL));
        CHECK(rc == TRANSACTIONS, "byte %lld: the child ended with %d", (long long)at, rc);
    }
    unlink(test_printf("%s-bad", path_dax));
    check_good();
    test_say("any damage of libpmemobj's: ok");
}

/* Anywhere in what daxlite itself has put there, and in the pool's header. */
static void test_any_damage(const struct anatomy *a)
{
    struct rng r = {test_seed()};
    int refused = 0, whole = 0;
    int64_t live =
        a->record_at[TRANSACTIONS - 1] + a->record_bytes[TRANSACTIONS - 1] - a->record_at[0];
    for (int i = 0; i < 150; i++) {
        reset();
        if (i % 4 == 0)
            flip(path_dax,
                 (int64_t)a->root.twin_offset + rng_below(&r, sizeof(struct sidecar_twin)));
        for (unsigned k = i % 4 ? 1 + rng_below(&r, 3) : 0; k > 0; k--) {
            switch (rng_below(&r, 4)) {
            case 0: flip(path_dax, rng_below(&r, 4096)); break; /* the pool's header */
            case 1: flip(path_dax, a->root_at + rng_below(&r, sizeof a->root)); break;
            case 2: flip(path_dax, a->record_at[0] + rng_below(&r, (uint32_t)live)); break;
            case 3:
                flip(path_dax,
                     (int64_t)a->root.ring_offset + rng_below(&r, (uint32_t)a->root.ring_bytes));
                break;
            }
        }
        int rc = child_wait(child_start(child_open, NULL));
        CHECK(rc == 100 || rc == TRANSACTIONS, "round %d: the child ended with %d", i, rc);
        refused += rc == 100;
        whole += rc == TRANSACTIONS;
    }
    check_good();
    test_say("any damage: %d refused, %d without effect", refused, whole);
}

int main(void)
{
    test_start("bad_sidecar");
    good = test_path("good.db");
    good_dax = test_path("good.db-dax");
    path = test_path("app.db");
    path_dax = test_path("app.db-dax");
    path_before = test_path("before.db");
    make_crashed("good.db");
    struct anatomy a;
    dissect(good_dax, &a);
    check_good();
    test_missing();
    test_read_only();
    test_foreign();
    test_truncated(&a);
    test_newer(&a);
    test_damaged_record(&a);
    test_cursor(&a);
    test_any_damage(&a);
    test_damage_of_libpmemobj(&a);
    return test_finish();
}
