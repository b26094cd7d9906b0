/* fuzz_sql.c: the same SQL on daxlite and on stock SQLite in WAL mode, compared.
 *
 * Three connections each, interleaved by the input: transactions, savepoints, changes of data and
 * schema, VACUUM, attached databases, open cursors, close and open, checkpoints, and crashes (the files
 * are copied while open, and both sides go on with the copies).
 *
 * Would catch: another result code (the primary one), another row, autocommit state, count of changes;
 * at each crash and at the end another content; a database that fails its integrity check, or that
 * stock SQLite does not read when daxlite has closed it.
 *
 * What differs by design (docs/uri-and-sql.md) is not compared but has its own expectation: journal_mode
 * always answers "wal" and wal_checkpoint one column, only asked of daxlite; page_size followed by VACUUM
 * changes the file of daxlite alone, so no statement looks at page counts.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daxlite.h"
#include "engine/hash.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/image.h"
#include "tests/fuzz/pool.h"
#include "tests/fuzz/sql_statements.h"

#define CONNS 3u
#define STEPS_MAX 80u
#define FILES 8u

enum side {
    DAX,
    STOCK,
    SIDES
};

enum op {
    OP_CURSOR_OPEN = SQL_COMMON,
    OP_CURSOR_STEP,
    OP_CURSOR_CLOSE,
    OP_REOPEN,
    OP_CRASH,
    OP_CHECKPOINT,
    OP_MODE, /* of the journal, of locking */
    OP_DAX_TABLES,
    OP_CACHE_FLUSH,
    OP_BACKUP,
    OP_COUNT
};

struct pair {
    sqlite3 *db[SIDES]; /* NULL: not open */
    sqlite3_stmt *cursor[SIDES];
};

static struct {
    struct pair conns[CONNS];
    /* main and aux of each side */
    char path[SIDES][2][FUZZ_PATH_BYTES];
    struct pair *only; /* in locking_mode=EXCLUSIVE: the others are closed */
    bool small_private;
} f;

static const char load_schema[] = "SELECT count(*) FROM sqlite_schema";

/* What a statement did. */
struct outcome {
    int rc; /* primary */
    unsigned rows;
    uint64_t hash; /* of all rows */
    char first[64];
    char error[160];
};

/* --- files ---------------------------------------------------------------------------------------- */

static const char *const suffixes[] = {"", "-dax", "-wal", "-journal"};

static void file_name(char out[FUZZ_PATH_BYTES + 16], unsigned i, unsigned suffix)
{
    snprintf(out, FUZZ_PATH_BYTES + 16, "%s%s", f.path[i / 2][i % 2], suffixes[suffix]);
}

/* Empty files: daxlite keeps descriptors by inode, so the databases themselves stay. */
static void files_clear(void)
{
    static const struct image empty = {.there = true};
    char name[FUZZ_PATH_BYTES + 16];
    for (unsigned i = 0; i < 4; i++)
        for (unsigned s = 0; s < 4; s++) {
            file_name(name, i, s);
            if (s == 0)
                image_store(&empty, name);
            else
                unlink(name);
        }
}

/* --- connections ---------------------------------------------------------------------------------- */

static void exec(sqlite3 *db, const char *sql)
{
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    FUZZ_CHECK(rc == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
}

static void open_uri(char out[FUZZ_PATH_BYTES + 96], enum side side, unsigned aux)
{
    snprintf(out, FUZZ_PATH_BYTES + 96, "file:%s?vfs=%s%s", f.path[side][aux],
             side == DAX ? "dax&dax_log_size=8m" : "unix",
             side == DAX && f.small_private ? "&dax_private_size=256k" : "");
}

static sqlite3 *open_one(enum side side, unsigned aux)
{
    char uri[FUZZ_PATH_BYTES + 96];
    sqlite3 *db;
    open_uri(uri, side, aux);
    int rc = sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI, NULL);
    FUZZ_CHECK(rc == SQLITE_OK, "open: %s", sqlite3_errmsg(db));
    return db;
}

static void open_pair(struct pair *p)
{
    if (p->db[DAX])
        return;
    for (unsigned side = 0; side < SIDES; side++) {
        p->db[side] = open_one(side, 0);
        exec(p->db[side], load_schema);
    }
}

static void cursor_close(struct pair *p)
{
    int a = sqlite3_finalize(p->cursor[DAX]), b = sqlite3_finalize(p->cursor[STOCK]);
    p->cursor[DAX] = p->cursor[STOCK] = NULL;
    FUZZ_CHECK((a & 0xff) == (b & 0xff), "finalize: %d, stock %d", a, b);
}

static void close_pair(struct pair *p)
{
    cursor_close(p);
    if (f.only == p)
        f.only = NULL;
    for (unsigned side = 0; side < SIDES; side++) {
        int rc = sqlite3_close(p->db[side]);
        FUZZ_CHECK(rc == SQLITE_OK, "close: %d", rc);
        p->db[side] = NULL;
    }
}

static void close_all(void)
{
    for (unsigned i = 0; i < CONNS; i++)
        close_pair(&f.conns[i]);
}

/* --- running and comparing ------------------------------------------------------------------------- */

static void outcome_row(struct outcome *o, sqlite3_stmt *s)
{
    if (o->rows++ == 0)
        snprintf(o->first, sizeof o->first, "%s", (const char *)sqlite3_column_text(s, 0));
    for (int i = 0; i < sqlite3_column_count(s); i++) {
        int type = sqlite3_column_type(s, i);
        const void *bytes = sqlite3_column_blob(s, i);
        uint64_t parts[3] = {o->hash, (uint64_t)type * 31,
                             hash_bytes(bytes ? bytes : "", (size_t)sqlite3_column_bytes(s, i))};
        o->hash = hash_bytes(parts, sizeof parts);
    }
}

static struct outcome run_one(sqlite3 *db, const char *sql)
{
    struct outcome o = {0};
    sqlite3_stmt *s = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
    if (rc == SQLITE_OK) {
        while (sqlite3_step(s) == SQLITE_ROW)
            outcome_row(&o, s);
        rc = sqlite3_finalize(s);
    }
    o.rc = rc & 0xff;
    if (rc != SQLITE_OK)
        snprintf(o.error, sizeof o.error, "%s", sqlite3_errmsg(db));
    return o;
}

static void compare(const struct outcome *a, const struct outcome *b, const char *sql)
{
    fuzz_trace("  %s\n    dax   %d %u rows %s %s\n    stock %d %u rows %s %s", sql, a->rc, a->rows,
               a->first, a->error, b->rc, b->rows, b->first, b->error);
    FUZZ_CHECK(a->rc == b->rc, "%s: %d (%s), stock %d (%s)", sql, a->rc, a->error, b->rc, b->error);
    FUZZ_CHECK(a->rows == b->rows && a->hash == b->hash, "%s: %u rows (%s), stock %u (%s)", sql,
               a->rows, a->first, b->rows, b->first);
}

static void compare_state(const struct pair *p, const char *when)
{
    sqlite3 *a = p->db[DAX], *b = p->db[STOCK];
    FUZZ_CHECK(sqlite3_get_autocommit(a) == sqlite3_get_autocommit(b),
               "autocommit %d, stock %d: %s", sqlite3_get_autocommit(a), sqlite3_get_autocommit(b),
               when);
    FUZZ_CHECK(sqlite3_total_changes(a) == sqlite3_total_changes(b) &&
                   sqlite3_changes(a) == sqlite3_changes(b),
               "changes %d of %d, stock %d of %d: %s", sqlite3_changes(a), sqlite3_total_changes(a),
               sqlite3_changes(b), sqlite3_total_changes(b), when);
    FUZZ_CHECK(sqlite3_last_insert_rowid(a) == sqlite3_last_insert_rowid(b), "rowid: %s", when);
}

static void run_both(struct pair *p, const char *sql)
{
    struct outcome a = run_one(p->db[DAX], sql), b = run_one(p->db[STOCK], sql);
    compare(&a, &b, sql);
    compare_state(p, sql);
}

/* Schema and every row of one database, on two connections. */
static void compare_content(sqlite3 *a, sqlite3 *b, const char *when)
{
    static const char schema[] =
        "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 1, 2";
    struct outcome x = run_one(a, schema), y = run_one(b, schema);
    fuzz_trace("content: %s", when);
    compare(&x, &y, schema);
    FUZZ_CHECK(x.rc == SQLITE_OK, "%s: %s", when, x.error);
    sqlite3_stmt *s;
    int rc =
        sqlite3_prepare_v2(b, "SELECT name FROM sqlite_schema WHERE type = 'table'", -1, &s, NULL);
    FUZZ_CHECK(rc == SQLITE_OK, "%s: %s", when, sqlite3_errmsg(b));
    while (sqlite3_step(s) == SQLITE_ROW) {
        char sql[128];
        snprintf(sql, sizeof sql, "SELECT * FROM \"%s\" ORDER BY 1", sqlite3_column_text(s, 0));
        x = run_one(a, sql), y = run_one(b, sql);
        compare(&x, &y, sql);
    }
    sqlite3_finalize(s);
    x = run_one(a, "PRAGMA integrity_check");
    FUZZ_CHECK(x.rc == SQLITE_OK && strcmp(x.first, "ok") == 0, "%s: integrity: %s %s", when,
               x.first, x.error);
}

/* Nobody has them open: daxlite, and then stock SQLite on daxlite's file, against stock. */
static void check_content(const char *when)
{
    for (unsigned aux = 0; aux < 2; aux++)
        for (unsigned plain = 0; plain < 2; plain++) {
            char uri[FUZZ_PATH_BYTES + 96];
            snprintf(uri, sizeof uri, "file:%s?vfs=unix", f.path[DAX][aux]);
            sqlite3 *a = NULL, *b = open_one(STOCK, aux);
            if (!plain)
                a = open_one(DAX, aux);
            else
                FUZZ_CHECK(sqlite3_open_v2(uri, &a, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI,
                                           NULL) == SQLITE_OK,
                           "%s: at rest: %s", when, sqlite3_errmsg(a));
            compare_content(a, b, plain ? "at rest" : when);
            sqlite3_close(a);
            sqlite3_close(b);
        }
}

/* --- operations of our own ------------------------------------------------------------------------- */

static void op_attach(struct pair *p)
{
    struct outcome o[SIDES];
    for (unsigned side = 0; side < SIDES; side++) {
        char uri[FUZZ_PATH_BYTES + 96], sql[FUZZ_PATH_BYTES + 128];
        open_uri(uri, side, 1);
        snprintf(sql, sizeof sql, "ATTACH '%s' AS aux", uri);
        o[side] = run_one(p->db[side], sql);
    }
    compare(&o[DAX], &o[STOCK], "ATTACH");
}

static void op_cursor_open(struct pair *p, struct input *in)
{
    char sql[64];
    uint8_t v = input_u8(in);
    cursor_close(p);
    snprintf(sql, sizeof sql, "SELECT a, b, c FROM t%u%s", v % 4, v & 4 ? " ORDER BY b, a" : "");
    int a = sqlite3_prepare_v2(p->db[DAX], sql, -1, &p->cursor[DAX], NULL);
    int b = sqlite3_prepare_v2(p->db[STOCK], sql, -1, &p->cursor[STOCK], NULL);
    fuzz_trace("  cursor %s: %d, stock %d", sql, a, b);
    FUZZ_CHECK((a & 0xff) == (b & 0xff), "prepare %s: %d, stock %d", sql, a, b);
}

static void op_cursor_step(struct pair *p, struct input *in)
{
    for (unsigned n = 1 + input_below(in, 30); n > 0 && p->cursor[DAX]; n--) {
        struct outcome o[SIDES] = {0};
        for (unsigned side = 0; side < SIDES; side++) {
            int rc = sqlite3_step(p->cursor[side]);
            o[side].rc = rc & 0xff;
            if (rc == SQLITE_ROW)
                outcome_row(&o[side], p->cursor[side]);
            else if (rc != SQLITE_DONE)
                snprintf(o[side].error, sizeof o[side].error, "%s", sqlite3_errmsg(p->db[side]));
        }
        compare(&o[DAX], &o[STOCK], "step");
        if (o[DAX].rc != SQLITE_ROW) {
            cursor_close(p);
            return;
        }
    }
}

/* The files as they are now, as kill -9 would leave them; both sides go on with them. */
static void op_crash(void)
{
    struct image images[4][4] = {0};
    char name[FUZZ_PATH_BYTES + 16];
    for (unsigned i = 0; i < 4; i++)
        for (unsigned s = 0; s < 4; s++) {
            file_name(name, i, s);
            image_load(&images[i][s], name);
        }
    close_all();
    for (unsigned i = 0; i < 4; i++)
        for (unsigned s = 0; s < 4; s++) {
            file_name(name, i, s);
            image_store(&images[i][s], name);
            image_free(&images[i][s]);
        }
    check_content("after a crash");
}

/* Documented for daxlite alone: the codes and the answer's form. */
static void op_checkpoint(struct pair *p, struct input *in)
{
    static const char *const modes[] = {"passive", "full", "restart", "truncate"};
    char sql[64];
    uint8_t v = input_u8(in);
    bool pragma = v & 4;
    snprintf(sql, sizeof sql, pragma ? "PRAGMA wal_checkpoint(%s)" : "SELECT dax_checkpoint('%s')",
             modes[v % 4]);
    struct outcome o = run_one(p->db[DAX], sql);
    fuzz_trace("  %s: %d %s %s", sql, o.rc, o.first, o.error);
    FUZZ_CHECK(o.rc == SQLITE_OK || o.rc == SQLITE_LOCKED, "%s: %d %s", sql, o.rc, o.error);
    FUZZ_CHECK(o.rc != SQLITE_LOCKED || sqlite3_txn_state(p->db[DAX], "main") == SQLITE_TXN_WRITE,
               "%s: locked outside a write transaction", sql);
    FUZZ_CHECK(o.rc != SQLITE_OK || o.rows == 1, "%s: %u rows", sql, o.rows);
    if (pragma && o.rc == SQLITE_OK)
        FUZZ_CHECK(strcmp(o.first, "0") == 0 || strcmp(o.first, "1") == 0, "%s: %s", sql, o.first);
    /* Not RESTART and TRUNCATE: they begin stock's WAL anew, and to a snapshot that is open then its
     * writer says BUSY_SNAPSHOT although nobody has committed. */
    if (v & 8)
        (void)sqlite3_wal_checkpoint_v2(p->db[STOCK], "main", (int)(v % 2), NULL, NULL);
}

/* Stock locks everybody out then, daxlite only writers: so there is nobody, until it is closed. Not
 * while a read is open: its snapshot stays, and where it is an old one, daxlite refuses to write
 * (file_lock_reserved says what to do). */
static void op_exclusive(struct pair *p)
{
    cursor_close(p);
    if (!sqlite3_get_autocommit(p->db[STOCK]))
        return;
    for (unsigned i = 0; i < CONNS; i++)
        if (&f.conns[i] != p)
            close_pair(&f.conns[i]);
    f.only = p;
    run_both(p, "PRAGMA locking_mode=EXCLUSIVE");
}

static void op_mode(struct pair *p, struct input *in)
{
    static const char *const modes[] = {"", "=delete", "=wal", "=off", "=memory", "=truncate"};
    char sql[64];
    unsigned v = input_below(in, 8);
    if (v >= 6) {
        op_exclusive(p);
        return;
    }
    snprintf(sql, sizeof sql, "PRAGMA main.journal_mode%s", modes[v]);
    struct outcome o = run_one(p->db[DAX], sql);
    FUZZ_CHECK(o.rc == SQLITE_OK && o.rows == 1 && strcmp(o.first, "wal") == 0, "%s: %d %s %s", sql,
               o.rc, o.first, o.error);
}

static void op_dax_tables(struct pair *p)
{
    struct outcome o = run_one(p->db[DAX], "SELECT count(*), sum(refcount) FROM dax_pages");
    FUZZ_CHECK(o.rc == SQLITE_OK && o.rows == 1, "dax_pages: %d %s", o.rc, o.error);
    o = run_one(p->db[DAX], "SELECT dax_status() ->> '$.failed'");
    FUZZ_CHECK(o.rc == SQLITE_OK && strcmp(o.first, "(null)") == 0, "dax_status: %d %s %s", o.rc,
               o.first, o.error);
}

static void op_cache_flush(struct pair *p)
{
    int a = sqlite3_db_cacheflush(p->db[DAX]), b = sqlite3_db_cacheflush(p->db[STOCK]);
    fuzz_trace("  cacheflush: %d, stock %d", a, b);
    FUZZ_CHECK((a & 0xff) == (b & 0xff), "cacheflush: %d, stock %d", a, b);
    sqlite3_db_release_memory(p->db[DAX]);
}

/* The database of one connection over that of another file. */
static void op_backup(struct pair *p)
{
    int rc[SIDES];
    if (f.only)
        return;
    for (unsigned side = 0; side < SIDES; side++) {
        sqlite3 *to = open_one(side, 1);
        sqlite3_backup *b = sqlite3_backup_init(to, "main", p->db[side], "main");
        FUZZ_CHECK(b, "backup_init: %s", sqlite3_errmsg(to));
        (void)sqlite3_backup_step(b, -1);
        rc[side] = sqlite3_backup_finish(b);
        sqlite3_close(to);
    }
    fuzz_trace("  backup: %d, stock %d", rc[DAX], rc[STOCK]);
    /* Stock cannot change the page size of a database in WAL mode. */
    FUZZ_CHECK((rc[DAX] & 0xff) == (rc[STOCK] & 0xff), "backup: %d, stock %d", rc[DAX], rc[STOCK]);
}

/* --- the whole ------------------------------------------------------------------------------------- */

static void step(struct pair *p, unsigned op, struct input *in)
{
    char sql[SQL_TEXT];
    open_pair(p);
    /* What only daxlite is asked may load the schema or begin a read, as any SELECT does: then stock
     * has them, too. (With its old schema, a write that finds the table gone keeps the write lock.) */
    if (op >= OP_CHECKPOINT && op <= OP_DAX_TABLES)
        run_both(p, load_schema);
    switch (op) {
    case SQL_ATTACH: op_attach(p); break;
    case OP_CURSOR_OPEN: op_cursor_open(p, in); break;
    case OP_CURSOR_STEP: op_cursor_step(p, in); break;
    case OP_CURSOR_CLOSE: cursor_close(p); break;
    case OP_REOPEN: close_pair(p); break;
    case OP_CRASH: op_crash(); break;
    case OP_CHECKPOINT: op_checkpoint(p, in); break;
    case OP_MODE: op_mode(p, in); break;
    case OP_DAX_TABLES: op_dax_tables(p); break;
    case OP_CACHE_FLUSH: op_cache_flush(p); break;
    case OP_BACKUP: op_backup(p); break;
    default: sql_make(sql, op, in); run_both(p, sql);
    }
}

/* Tables in both files of both sides; stock in WAL mode. */
static void create(uint8_t v)
{
    files_clear();
    for (unsigned side = 0; side < SIDES; side++)
        for (unsigned aux = 0; aux < 2; aux++) {
            char sql[256];
            sqlite3 *db = open_one(side, aux);
            snprintf(sql, sizeof sql, "PRAGMA page_size=%u; PRAGMA auto_vacuum=%u;%s",
                     512u << v % 8, v / 8 % 3, side == STOCK ? "PRAGMA journal_mode=wal;" : "");
            exec(db, sql);
            exec(db, "CREATE TABLE t0(a INTEGER PRIMARY KEY, b, c);"
                     "CREATE TABLE t1(a INTEGER PRIMARY KEY, b, c); CREATE INDEX i0 ON t1(b);"
                     "INSERT INTO t1(a, b) VALUES(1, 1), (2, 2), (3, 3)");
            sqlite3_close(db);
        }
}

/* As create, from memory the second time. */
static void start(uint8_t v)
{
    static struct image made[128][4][4];
    char name[FUZZ_PATH_BYTES + 16];
    struct image(*files)[4] = made[v % 128];
    bool fresh = !files[0][0].there;
    f.small_private = v & 128;
    pool_ring_bytes = (v & 64 ? 256 << 10 : 32 << 10) + 8192;
    if (fresh)
        create(v);
    for (unsigned i = 0; i < 4; i++)
        for (unsigned s = 0; s < 4; s++) {
            file_name(name, i, s);
            if (fresh)
                image_load(&files[i][s], name);
            else
                image_store(&files[i][s], name);
        }
}

void fuzz_start(void)
{
    FUZZ_CHECK(daxlite_register(0) == SQLITE_OK, "register");
    fuzz_path(f.path[DAX][0], "dax.db");
    fuzz_path(f.path[DAX][1], "dax-aux.db");
    fuzz_path(f.path[STOCK][0], "stock.db");
    fuzz_path(f.path[STOCK][1], "stock-aux.db");
}

void fuzz_one(const uint8_t *data, size_t bytes)
{
    struct input in = {data, data + bytes};
    start(input_u8(&in));
    for (unsigned n = 0; n < STEPS_MAX && input_left(&in); n++) {
        uint8_t op = input_u8(&in);
        struct pair *p = &f.conns[op / OP_COUNT % CONNS];
        if (f.only)
            p = f.only;
        fuzz_trace("%u: op %u, connection %u", n, op % OP_COUNT, (unsigned)(p - f.conns));
        step(p, op % OP_COUNT, &in);
    }
    close_all();
    check_content("at the end");
    FUZZ_CHECK(pool_count() == 0, "a sidecar is still open");
}

/* --- seeds ---------------------------------------------------------------------------------------- */

static void seed_op(struct seed *s, unsigned conn, unsigned op, uint64_t args, unsigned bytes)
{
    seed_put(s, conn * OP_COUNT + op, 1);
    seed_put(s, args, bytes);
}

/* Pages that have left the cache for the file are put back from the journal. */
static void seed_spill(fuzz_seed_fn seed, unsigned options, bool flush)
{
    struct seed s = {0};
    char name[32];
    seed_put(&s, options, 1);
    seed_op(&s, 0, SQL_INSERT_MANY, 0x0100640000, 5);
    seed_op(&s, 0, SQL_CACHE_SIZE, 3, 1);
    seed_op(&s, 0, SQL_BEGIN, 0, 0);
    seed_op(&s, 0, SQL_UPDATE, 0x070500, 3);
    seed_op(&s, 0, SQL_SAVEPOINT, 1, 1);
    seed_op(&s, 0, SQL_UPDATE_MANY, 0x050300, 3);
    if (flush)
        seed_op(&s, 0, OP_CACHE_FLUSH, 0, 0);
    seed_op(&s, 0, SQL_SELECT_SUM, 0, 2);
    seed_op(&s, 0, SQL_ROLLBACK_TO, 1, 1);
    seed_op(&s, 0, SQL_SELECT_SUM, 0, 2);
    seed_op(&s, 0, SQL_COMMIT, 0, 0);
    seed_op(&s, 1, SQL_SELECT_SUM, 0, 2);
    seed_op(&s, 1, OP_CRASH, 0, 0);
    snprintf(name, sizeof name, "spill-%u-%d", options, flush);
    seed(name, s.data, s.bytes);
}

void fuzz_seeds(fuzz_seed_fn seed)
{
    seed_spill(seed, 3, true);
    seed_spill(seed, 0x80, false);
    seed_spill(seed, 6, false);
    static const uint8_t options[] = {3, 0, 7, 0x83, 0xcb, 0x53};
    for (unsigned i = 0; i < sizeof options; i++) {
        struct seed s = {0};
        char name[32];
        seed_put(&s, options[i], 1);
        seed_op(&s, 0, SQL_INSERT_MANY, 0x0100640000, 5);
        seed_op(&s, 1, OP_CURSOR_OPEN, 0, 1);
        seed_op(&s, 1, OP_CURSOR_STEP, 2, 1);
        seed_op(&s, 0, SQL_BEGIN, 0, 0);
        seed_op(&s, 0, SQL_UPDATE_MANY, 0x400500, 3);
        seed_op(&s, 0, SQL_SAVEPOINT, 1, 1);
        seed_op(&s, 0, SQL_DELETE_MANY, 0x100500, 3);
        seed_op(&s, 0, SQL_ROLLBACK_TO, 1, 1);
        seed_op(&s, 2, SQL_INSERT, 0x010108, 3);
        seed_op(&s, 0, i & 1 ? SQL_COMMIT : SQL_ROLLBACK, 0, 0);
        seed_op(&s, 1, OP_CURSOR_STEP, 20, 1);
        seed_op(&s, 1, SQL_INSERT, 0x020208, 3);
        seed_op(&s, 2, i & 2 ? SQL_VACUUM : SQL_CREATE_INDEX, 0x0100, i & 2 ? 0 : 2);
        seed_op(&s, 0, OP_CHECKPOINT, i, 1);
        seed_op(&s, 1, OP_CRASH, 0, 0);
        seed_op(&s, 1, SQL_ATTACH, 0, 0);
        seed_op(&s, 1, SQL_INSERT, 0x0909ff & ~8u, 3);
        seed_op(&s, 1, i & 4 ? OP_BACKUP : SQL_SELECT, 0, i & 4 ? 0 : 2);
        if (i & 1) {
            seed_op(&s, 2, OP_MODE, 6, 1);
            seed_op(&s, 2, SQL_INSERT_MANY, 0x0040280000, 5);
            seed_op(&s, 2, SQL_DELETE_MANY, 0x100500, 3);
            seed_op(&s, 2, OP_CHECKPOINT, i, 1);
            seed_op(&s, 2, OP_REOPEN, 0, 0);
            seed_op(&s, 0, SQL_SELECT_SUM, 0, 2);
        }
        snprintf(name, sizeof name, "script-%u", i);
        seed(name, s.data, s.bytes);
    }
}
