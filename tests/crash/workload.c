/* workload.c: small programs that make the engine take each of its ways to persistent memory.
 *
 * Each is SQL through the VFS, with engine calls where SQL has no words (pins, a crash in between).
 * tx() is one transaction: it notes when it may be on the medium and when it has to be, and what
 * the database is afterwards. After each, and after each checkpoint, base and log are compared with
 * what readers see (L1).
 */
#include "workload.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "engine/chain.h"
#include "engine/conn.h"
#include "engine/mark.h"
#include "vfs/vfs.h"

static sqlite3 *db;
static uint64_t seed;

/* --- words for workloads ---------------------------------------------------------------------------- */

/* What a workload meets although nothing is wrong with it. It ends there. */
static jmp_buf workload_ends;

static void workload_violation(const char *what)
{
    size_t done = hooks.record ? hooks.record->golden_count - 1 : 0;
    snprintf(walk.violation_what, sizeof walk.violation_what, "%s", what);
    snprintf(walk.violation_where, sizeof walk.violation_where, "none: no power failure is needed");
    snprintf(walk.violation, sizeof walk.violation,
             "workload %s, seed %llu: after transaction %zu: %s\n", walk.workload,
             (unsigned long long)seed, done, what);
    longjmp(workload_ends, 1);
}

static void must_exec(sqlite3 *on, const char *sql)
{
    char *message = NULL, what[400];
    if (sqlite3_exec(on, sql, NULL, NULL, &message) == SQLITE_OK)
        return;
    snprintf(what, sizeof what, "%.100s: %.200s", sql, message ? message : "?");
    workload_violation(what);
}

static void must_vexec(sqlite3 *on, const char *fmt, va_list ap)
{
    char sql[1024];
    vsnprintf(sql, sizeof sql, fmt, ap);
    must_exec(on, sql);
}

static void open_db(void)
{
    char uri[IMAGE_PATH + 64], what[400];
    snprintf(uri, sizeof uri, "file:%s?vfs=dax&dax_log_size=8m&dax_private_size=256k",
             image.path[FILE_BASE]);
    if (sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
                        NULL) == SQLITE_OK)
        return;
    snprintf(what, sizeof what, "a killed process's database cannot be opened: %s",
             sqlite3_errmsg(db));
    workload_violation(what);
}

static void close_db(void)
{
    hooks_must(sqlite3_close(db) == SQLITE_OK, "close");
    db = NULL;
}

/* The process is gone, what it stored is not. */
static void kill_db(void)
{
    struct conn *c = vfs_conn_of(db, "main");
    atomic_store(&c->store->failed, 2);
    close_db();
}

static void look_at(struct store *s)
{
    char what[256];
    if (!check_store(s, what, sizeof what))
        workload_violation(what);
}

/* What a reader that begins now would see. */
static void note_golden(struct conn *c)
{
    struct store *s = c->store;
    uint64_t size = store_size(s);
    uint8_t *bytes = malloc(size + DAX_PAGE_BYTES);
    for (uint64_t page = 0; page < pages_of(size); page++) {
        struct version v;
        chain_newest(s, page, &v);
        memcpy(bytes + page * DAX_PAGE_BYTES, chain_address(s, page, &v), DAX_PAGE_BYTES);
    }
    mark_hide(bytes, 0, size, &s->mark);
    if (hooks.record)
        trace_add_golden(hooks.record, bytes, size);
    free(bytes);
    look_at(s);
}

static void note(enum op_kind kind)
{
    if (hooks.record)
        trace_add(hooks.record, kind, FILE_BASE, hooks.record->golden_count, 0, NULL);
}

/* A part of a transaction. */
static void exec(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    must_vexec(db, fmt, ap);
    va_end(ap);
}

static void tx(const char *fmt, ...)
{
    va_list ap;
    note(OP_BEGIN);
    va_start(ap, fmt);
    must_vexec(db, fmt, ap);
    va_end(ap);
    note(OP_ACK);
    note_golden(vfs_conn_of(db, "main"));
}

static void checkpoint(const char *mode)
{
    char sql[64];
    snprintf(sql, sizeof sql, "PRAGMA wal_checkpoint(%s)", mode);
    must_exec(db, sql);
    look_at(vfs_conn_of(db, "main")->store);
}

/* What the running transaction has goes to the engine and is prepared, as by a commit that is refused
 * behind it; SQLite then goes on. It keeps page 1 back until it commits. */
static void prepare(void)
{
    struct conn *c = vfs_conn_of(db, "main");
    struct dax_err err;
    uint8_t first[DAX_PAGE_BYTES];
    hooks_must(sqlite3_db_cacheflush(db) == SQLITE_OK, "cacheflush");
    hooks_must(conn_read(c, first, sizeof first, 0, &err) == DAX_OK, "%s", err.text);
    first[63]++; /* of the user version */
    hooks_must(conn_write(c, first, sizeof first, 0, &err) == DAX_OK &&
                   conn_prepare(c, &err) == DAX_OK,
               "%s", err.text);
}

/* Another connection that holds pages from `first` on; the caller drops it before the close. */
struct pinned {
    struct conn *conn;
    uint64_t first;
    unsigned count;
    void *at[DAX_SLOT_PINS_SHARED];
};

static struct pinned pin_pages(uint64_t first, unsigned count)
{
    struct dax_options o = dax_options_default();
    struct dax_err err;
    struct pinned p = {.first = first};
    hooks_must(conn_open(image.path[FILE_BASE], &o, &p.conn, &err) == DAX_OK &&
                   conn_begin_read(p.conn, &err) == DAX_OK,
               "%s", err.text);
    for (; p.count < count; p.count++) {
        void **at = &p.at[p.count];
        uint64_t offset = (first + p.count) * DAX_PAGE_BYTES;
        hooks_must(conn_pin(p.conn, offset, DAX_PAGE_BYTES, at, &err) == DAX_OK, "%s", err.text);
        if (!*at)
            break; /* not in the database */
    }
    return p;
}

static void unpin(struct pinned *p)
{
    for (unsigned i = 0; i < p->count; i++)
        conn_unpin(p->conn, (p->first + i) * DAX_PAGE_BYTES, p->at[i]);
    conn_end_read(p->conn);
    hooks_must(conn_close(p->conn, NULL) == DAX_OK, "close");
    p->conn = NULL;
}

/* A reader ends while the transaction runs: its pages have versions when it commits. */
static void tx_that_outlives(struct pinned *reader, const char *sql)
{
    note(OP_BEGIN);
    must_exec(db, "BEGIN IMMEDIATE");
    must_exec(db, sql);
    unpin(reader);
    must_exec(db, "COMMIT");
    note(OP_ACK);
    note_golden(vfs_conn_of(db, "main"));
}

/* --- workloads ---------------------------------------------------------------------------------------- */

#define ROWS(n) "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<" #n ") "

static void run_single(void)
{
    open_db();
    tx("INSERT INTO t VALUES(1,'first %llu')", (unsigned long long)seed);
    tx("UPDATE t SET v='second' WHERE k=1");
    tx("INSERT INTO t VALUES(2,'third')");
    tx("DELETE FROM t WHERE k=1");
    close_db();
}

static void run_multi(void)
{
    open_db();
    tx("INSERT INTO t " ROWS(40) "SELECT i, 'row '||i||' %llu'||hex(zeroblob(60)) FROM n",
       (unsigned long long)seed);
    tx("UPDATE t SET v='x'||v WHERE k%%5=0");
    tx("BEGIN; CREATE INDEX iv ON t(v); DELETE FROM t WHERE k<10; COMMIT");
    tx("UPDATE t SET v=substr(v,2)||k");
    close_db();
}

static void run_create(void)
{
    open_db();
    tx("CREATE TABLE t(k INTEGER PRIMARY KEY, v)");
    tx("INSERT INTO t VALUES(1,'%llu')", (unsigned long long)seed);
    close_db();
}

static void run_grow(void)
{
    open_db();
    tx("INSERT INTO t VALUES(1000, zeroblob(30000))");
    tx("INSERT INTO t VALUES(1001, 'small')");
    tx("INSERT INTO t VALUES(1002, zeroblob(9000))");
    checkpoint("PASSIVE");
    tx("UPDATE t SET v='y' WHERE k=1001");
    close_db();
}

static void run_shrink(void)
{
    open_db();
    tx("UPDATE t SET v='before' WHERE k=1");
    tx("DELETE FROM t WHERE k>1");
    tx("PRAGMA incremental_vacuum");
    checkpoint("TRUNCATE");
    tx("INSERT INTO t VALUES(2, zeroblob(20000))");
    tx("DELETE FROM t WHERE k=2");
    tx("VACUUM");
    tx("INSERT INTO t VALUES(3, zeroblob(9000))");
    close_db();
}

static void run_big(void)
{
    open_db();
    tx("UPDATE t SET v='other '||v");
    tx("UPDATE t SET v='one' WHERE k=1");
    tx("UPDATE t SET v=replace(v,'0','1')"); /* no new page: scratch alone */
    tx("BEGIN; UPDATE t SET v=v||'!'; INSERT INTO t SELECT k+1000, v FROM t WHERE k<200; COMMIT");
    tx("UPDATE t SET v='two' WHERE k=2");
    close_db();
}

/* Page 0 and others are changed again behind a prepare that has moved them to scratch, or could leave them
 * where they were. */
static void run_prepared(void)
{
    static const char *const rows[] = {"", " WHERE k=1"};
    open_db();
    for (int i = 0; i < 4; i++) {
        note(OP_BEGIN);
        exec("BEGIN; UPDATE t SET v='%d'||v%s", i, rows[i % 2]);
        prepare();
        if (i >= 2) {
            exec("UPDATE t SET v='again %d' WHERE k=2", i);
            prepare();
        }
        exec("COMMIT");
        note(OP_ACK);
        note_golden(vfs_conn_of(db, "main"));
    }
    close_db();
}

static void run_pinned(void)
{
    open_db();
    tx("UPDATE t SET v='a' WHERE k=1");
    struct pinned reader = pin_pages(1, 2), other = pin_pages(3, 1);
    tx("UPDATE t SET v='bb'||v WHERE k%%3=0");
    checkpoint("PASSIVE");
    unpin(&other);
    tx("UPDATE t SET v='ccc' WHERE k=5");
    checkpoint("FULL"); /* relogs fewer pages than before */
    tx("UPDATE t SET v='dddd'||v WHERE k%%4=0");
    checkpoint("RESTART");
    unpin(&reader);
    checkpoint("PASSIVE");
    tx("UPDATE t SET v='eeeee' WHERE k=6");
    reader = pin_pages(1, 3);
    tx("UPDATE t SET v='ffffff' WHERE k=7");
    tx_that_outlives(&reader, "UPDATE t SET v='ggggggg' WHERE k=8");
    close_db();
}

/* A reader of the first state stays. After a checkpoint its pages are in frames, and commits store to base
 * although it reads: straight away, or over what base is behind of, since somebody else had it pinned. */
static void run_kept(void)
{
    open_db();
    struct pinned old = pin_pages(0, 0);
    tx("UPDATE t SET v='a'||v WHERE k%%3=0");
    checkpoint("PASSIVE");
    struct store *s = vfs_conn_of(db, "main")->store;
    struct region_guarded *g = &s->region.header->guarded;
    uint64_t applied = GUARDED_GET(g->pages_applied);
    tx("UPDATE t SET v='bb'||v WHERE k%%6=0");
    hooks_must(s->persist.mode == PERSIST_MSYNC || GUARDED_GET(g->pages_applied) > applied,
               "a page that was to be stored to was pushed");
    struct pinned other = pin_pages(1, 4);
    tx("UPDATE t SET v='ccc'||v WHERE k%%9=0");
    unpin(&other);
    applied = GUARDED_GET(g->pages_applied);
    tx("UPDATE t SET v='d' WHERE k%%12=0");
    hooks_must(s->persist.mode == PERSIST_MSYNC || GUARDED_GET(g->pages_applied) > applied,
               "a page that was to be stored to was pushed");
    checkpoint("PASSIVE");
    tx("UPDATE t SET v='eeeee' WHERE k=6");
    tx_that_outlives(&old, "UPDATE t SET v='ffffff' WHERE k=9");
    close_db();
}

static void run_wrap(void)
{
    open_db();
    for (int i = 0; i < 24; i++)
        tx("UPDATE t SET v='turn %d %llu' WHERE k%%7=%d", i, (unsigned long long)seed, i % 7);
    struct pinned reader = pin_pages(1, 2);
    for (int i = 0; i < 12; i++)
        tx("UPDATE t SET v='held %d' WHERE k%%7=%d", i, i % 7);
    unpin(&reader);
    for (int i = 0; i < 12; i++)
        tx("UPDATE t SET v='free %d' WHERE k%%7=%d", i, i % 7);
    close_db();
}

static void run_lives(void)
{
    for (int life = 0; life < 3; life++) {
        open_db();
        tx("INSERT INTO t VALUES(%d, 'life')", life * 10 + 1000);
        tx("UPDATE t SET v='changed' WHERE k=%d", life * 10 + 1000);
        close_db();
    }
}

static void run_again(void)
{
    open_db();
    tx("INSERT INTO t VALUES(1000, 'before the crash')");
    tx("UPDATE t SET v='still before it' WHERE k=1");
    kill_db();
    open_db();
    tx("UPDATE t SET v='after it' WHERE k=2");
    kill_db();
    open_db();
    tx("INSERT INTO t VALUES(1001, zeroblob(9000))");
    kill_db();
    open_db();
    close_db();
}

/* One lock for many transactions. */
static void run_exclusive(void)
{
    open_db();
    must_exec(db, "PRAGMA locking_mode=EXCLUSIVE");
    tx("INSERT INTO t VALUES(1000, 'first')");
    tx("UPDATE t SET v='second' WHERE k=1000");
    tx("INSERT INTO t VALUES(1001, zeroblob(9000))");
    checkpoint("TRUNCATE");
    tx("UPDATE t SET v='third' WHERE k=1000");
    close_db();
}

/* A database of no bytes: the mark goes with its page. */
static void run_empty(void)
{
    struct dax_options o = dax_options_default();
    struct dax_err err;
    struct conn *c;
    uint8_t page[DAX_PAGE_BYTES] = "SQLite format 3";
    o.log_bytes = DAX_LOG_BYTES_MIN;
    page[DAX_HEADER_WRITE_VERSION] = page[DAX_HEADER_READ_VERSION] = 1;
    for (int life = 0; life < 2; life++) {
        hooks_must(conn_open(image.path[FILE_BASE], &o, &c, &err) == DAX_OK, "%s", err.text);
        for (int step = 0; step < 4; step++) {
            note(OP_BEGIN);
            hooks_must(conn_begin_read(c, &err) == DAX_OK && conn_begin_write(c, &err) == DAX_OK,
                       "%s", err.text);
            page[200]++;
            dax_rc rc =
                step % 2 ? conn_truncate(c, 0, &err) : conn_write(c, page, sizeof page, 0, &err);
            hooks_must(rc == DAX_OK && conn_commit(c, &err) == DAX_OK, "%s", err.text);
            conn_end_write(c);
            conn_end_read(c);
            note(OP_ACK);
            note_golden(c);
        }
        hooks_must(conn_close(c, &err) == DAX_OK, "%s", err.text);
    }
}

/* --- anything, by the seed ---------------------------------------------------------------------- */

static uint64_t random_state;

static unsigned below(unsigned n)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(random_state >> 33) % n;
}

static void random_tx(void)
{
    unsigned k = below(40);
    switch (below(11)) {
    case 0: tx("INSERT OR REPLACE INTO t VALUES(%u, 'new %u')", k, below(1000)); break;
    case 1: tx("INSERT OR REPLACE INTO t VALUES(%u, zeroblob(%u))", k, below(30000)); break;
    case 2: tx("UPDATE t SET v='u%u' WHERE k=%u", below(1000), k); break;
    case 3: tx("UPDATE t SET v=hex(k)||'%u' WHERE k%%%u=0", below(1000), 1 + below(5)); break;
    case 4: tx("DELETE FROM t WHERE k>%u", 10 + k / 2); break;
    case 5: tx("PRAGMA incremental_vacuum(%u)", 1 + below(8)); break;
    case 6:
        tx("BEGIN; UPDATE t SET v=v||'!' WHERE k<%u; DELETE FROM t WHERE k=%u; COMMIT", k, k);
        break;
    case 7: tx("INSERT OR IGNORE INTO t SELECT k+%u, v FROM t WHERE k<8", k + 8); break;
    case 8: tx("BEGIN; INSERT INTO t VALUES(NULL, zeroblob(%u)); ROLLBACK", below(60000)); break;
    case 9:
        tx("BEGIN; SAVEPOINT s; INSERT INTO t VALUES(NULL, zeroblob(%u)); ROLLBACK TO s; "
           "DELETE FROM t WHERE k%%9=1; RELEASE s; COMMIT",
           below(30000));
        break;
    default:
        tx("BEGIN; UPDATE t SET v='gone'; ROLLBACK; UPDATE t SET v='stays' WHERE k=%u", k);
        break;
    }
}

static void run_random(void)
{
    static const char *const modes[] = {"PASSIVE", "FULL", "TRUNCATE"};
    struct pinned reader = {0};
    random_state = seed * 77 + 5;
    open_db();
    for (unsigned i = 0, steps = 12 + below(12); i < steps; i++) {
        unsigned what = below(16);
        if (what < 10) {
            random_tx();
        } else if (what < 12) {
            checkpoint(modes[below(3)]);
        } else if (what < 14) {
            if (reader.conn)
                unpin(&reader);
            else
                reader = pin_pages(1, below(3));
        } else if (!reader.conn) {
            if (below(2))
                kill_db();
            else
                close_db();
            open_db();
        }
        if (below(3) == 0 && reader.conn)
            unpin(&reader);
    }
    if (reader.conn)
        unpin(&reader);
    close_db();
}

#define TABLE "CREATE TABLE t(k INTEGER PRIMARY KEY, v);"

const struct workload workloads[] = {
    {"single", "one row at a time", 65536, TABLE, true, false, false, 1, run_single},
    {"multi", "many pages in a transaction", 65536, TABLE, true, false, false, 1, run_multi},
    {"create", "no file at first", 65536, NULL, false, false, false, 1, run_create},
    {"adopt", "a plain file, no sidecar", 65536, TABLE "INSERT INTO t VALUES(1,'x'),(2,'y');",
     false, false, false, 1, run_lives},
    {"lives", "a plain file and an earlier life's sidecar; three lives", 65536,
     "PRAGMA journal_mode=WAL;" TABLE "INSERT INTO t VALUES(1,'x'),(2,'y');", true, false, false, 1,
     run_lives},
    {"lost", "the sidecar of a database that is gone", 65536, TABLE, true, true, false, 1,
     run_create},
    {"grow", "new pages, across a step of the file's growth", 65536,
     TABLE "INSERT INTO t VALUES(0, zeroblob(2060000));", true, false, false, 4, run_grow},
    {"shrink", "vacuum, incremental vacuum, the file is cut", 65536,
     "PRAGMA auto_vacuum=INCREMENTAL;" TABLE
     "INSERT INTO t VALUES(1,'x'),(2, zeroblob(2200000)),(3,'z');",
     true, false, false, 4, run_shrink},
    {"big", "transactions through scratch", 65536,
     TABLE ROWS(400) "INSERT INTO t SELECT i, i||hex(zeroblob(400)) FROM n;", true, false, false, 4,
     run_big},
    {"big_listed", "the same with the list of pages in scratch", 4096,
     TABLE ROWS(400) "INSERT INTO t SELECT i, i||hex(zeroblob(400)) FROM n;", true, false, false, 4,
     run_big},
    {"prepared", "pages that are written again behind a prepare", 65536,
     TABLE ROWS(200) "INSERT INTO t SELECT i, i||hex(zeroblob(400)) FROM n;", true, false, false, 2,
     run_prepared},
    {"pinned", "checkpoints with pinned pages, relogged", 262144,
     TABLE ROWS(60) "INSERT INTO t SELECT i, i||hex(zeroblob(90)) FROM n;", true, false, false, 1,
     run_pinned},
    {"pinned_listed", "the same, relogged through scratch", 8192,
     TABLE ROWS(60) "INSERT INTO t SELECT i, i||hex(zeroblob(90)) FROM n;", true, false, false, 2,
     run_pinned},
    {"kept", "commits that store to base beside a reader that stays", 65536,
     TABLE ROWS(60) "INSERT INTO t SELECT i, i||hex(zeroblob(90)) FROM n;", true, false, false, 1,
     run_kept},
    {"wrap", "the ring goes round", 8192,
     TABLE ROWS(30) "INSERT INTO t SELECT i, i||hex(zeroblob(90)) FROM n;", true, false, false, 1,
     run_wrap},
    {"again", "crash, recover, go on, crash", 65536, TABLE "INSERT INTO t VALUES(1,'x'),(2,'y');",
     true, false, false, 1, run_again},
    {"empty", "a database of no bytes", 65536, NULL, false, false, true, 1, run_empty},
    {"random", "anything, by the seed", 16384,
     "PRAGMA auto_vacuum=INCREMENTAL;" TABLE ROWS(
         30) "INSERT INTO t SELECT i, i||hex(zeroblob(150)) "
             "FROM n;",
     true, false, false, 2, run_random},
    {"random_512", "the same, eight pages of SQLite in one of the file system", 16384,
     "PRAGMA page_size=512; PRAGMA auto_vacuum=INCREMENTAL;" TABLE ROWS(
         30) "INSERT INTO t SELECT i, i||hex(zeroblob(50)) FROM n;",
     true, false, false, 2, run_random},
    {"random_64k", "the same, sixteen pages of the file system in one of SQLite", 65536,
     "PRAGMA page_size=65536; PRAGMA auto_vacuum=INCREMENTAL;" TABLE ROWS(
         30) "INSERT INTO t SELECT i, i||hex(zeroblob(150)) FROM n;",
     true, false, false, 4, run_random},
    {"exclusive", "one lock for many transactions", 65536,
     TABLE ROWS(30) "INSERT INTO t SELECT i, i||hex(zeroblob(90)) FROM n;", true, false, false, 1,
     run_exclusive},
    {"ring", "one row at a time, all of the pool's ring", 0, TABLE, true, false, false, 8,
     run_single},
};
const size_t workload_count = sizeof workloads / sizeof *workloads;

/* --- recording ---------------------------------------------------------------------------------------- */

/* A life that is over: it leaves a sidecar. */
static void workload_earlier_life(void)
{
    struct trace *t = hooks.record;
    int drop = hooks.drop;
    hooks.record = NULL;
    hooks.drop = DROP_NONE;
    open_db();
    must_exec(db, "CREATE TABLE earlier(x); INSERT INTO earlier VALUES(1); DROP TABLE earlier");
    close_db();
    hooks.drop = drop;
    hooks.record = t;
}

static void workload_prepare(const struct workload *w)
{
    static const char *const suffixes[] = {"", "-dax", "-dax-new"};
    char path[IMAGE_PATH + 16];
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        snprintf(path, sizeof path, "%s%s", image.path[FILE_BASE], suffixes[i]);
        unlink(path);
    }
    if (w->prepare) {
        sqlite3 *stock;
        hooks_must(sqlite3_open_v2(image.path[FILE_BASE], &stock,
                                   SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "unix") == SQLITE_OK,
                   "stock open");
        must_exec(stock, w->prepare);
        hooks_must(sqlite3_close(stock) == SQLITE_OK, "stock close");
    }
    if (w->earlier_life)
        workload_earlier_life();
    if (w->lost)
        unlink(image.path[FILE_BASE]);
}

void workload_record(const struct workload *w, uint64_t use_seed, struct trace *out,
                     struct image_copy *before)
{
    seed = use_seed;
    memset(before, 0, sizeof *before);
    if (setjmp(workload_ends) != 0) {
        hooks.record = NULL;
        return;
    }
    hooks.random = seed * UINT64_C(0x9E3779B97F4A7C15) + 12345;
    hooks.ring_bytes_max = w->ring_bytes;
    workload_prepare(w);
    image_save(before);

    /* Transaction 0: what the file says, as SQLite sees it. */
    uint64_t size = before->size[FILE_BASE];
    const uint8_t *bytes = before->bytes[FILE_BASE];
    struct mark plain = {0, 1, 1};
    uint8_t *shown = calloc(1, size + DAX_PAGE_BYTES);
    if (size) {
        memcpy(shown, bytes, size);
        plain.write_version = bytes[DAX_HEADER_WRITE_VERSION];
        plain.read_version = bytes[DAX_HEADER_READ_VERSION];
        mark_hide(shown, 0, size, &plain);
    }
    trace_add_golden(out, shown, size);
    free(shown);
    check_setup.versions[0] = plain.write_version;
    check_setup.versions[1] = plain.read_version;

    hooks.record = out;
    w->run();
    hooks.record = NULL;
}
