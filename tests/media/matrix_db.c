/* matrix_db.c: databases that have a page of every kind, and where these pages are.
 *
 * Positions are found by stock SQLite (dbstat) and by reading headers by hand, never with daxlite's own
 * walker. The row that needs a page is found by trying: with the page zeroed in a copy, stock SQLite
 * cannot read it any more, or reads it differently.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/layout.h"
#include "engine/limits.h"
#include "tests/media/matrix.h"

/* Keys in another order than the rows; 246 characters, so that the trees are three levels high. */
#define KEY "printf('%%06d', (%s * 7919) %% 100003) || hex(zeroblob(120))"
#define ROWS 1700
#define STEP 10

const char *const matrix_query[MATRIX_QUERIES] = {
    "SELECT id, v FROM z ORDER BY id",
    "SELECT id, k, v FROM t ORDER BY id",
    "SELECT k FROM t INDEXED BY t_k ORDER BY k",
    "SELECT k, v FROM w ORDER BY k",
    "SELECT id, v FROM o ORDER BY id",
    "SELECT type, name, sql FROM sqlite_schema ORDER BY type, name",
};

/* --- statements ------------------------------------------------------------------------------------ */

static char *key_of(int64_t id)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)id);
    return test_printf(KEY, text);
}

char *matrix_point(enum matrix_object object, int64_t id)
{
    long long n = id;
    switch (object) {
    case OBJECT_T: return test_printf("SELECT v FROM t WHERE id = %lld", n);
    case OBJECT_T_K: return test_printf("SELECT k FROM t INDEXED BY t_k WHERE k = %s", key_of(id));
    case OBJECT_W: return test_printf("SELECT v FROM w WHERE k = %s", key_of(id));
    case OBJECT_O: return test_printf("SELECT v FROM o WHERE id = %lld", n);
    case OBJECT_SCHEMA: return test_printf("SELECT sql FROM sqlite_schema WHERE name = 's%lld'", n);
    default: return test_printf("SELECT v FROM z WHERE id = %lld", n % 7);
    }
}

static char *insert_into(enum matrix_object object, int64_t id)
{
    long long n = id + 1;
    switch (object) {
    case OBJECT_T:
    case OBJECT_T_K:
        return test_printf("INSERT INTO t VALUES(%lld, %s || 'a', printf('new %%0900d', 1))", n,
                           key_of(id));
    case OBJECT_W:
        return test_printf("INSERT INTO w VALUES(%s || 'a', printf('new %%0700d', 1))", key_of(id));
    case OBJECT_SCHEMA: return test_printf("CREATE TABLE new(a, b)");
    default: return test_printf("INSERT INTO o VALUES(%lld, printf('%%030000d', 5))", 1000 + n);
    }
}

static char *update_of(enum matrix_object object, int64_t id)
{
    long long n = id;
    switch (object) {
    case OBJECT_T:
        return test_printf("UPDATE t SET v = 'changed' || substr(v, 8) WHERE id = %lld", n);
    case OBJECT_T_K: return test_printf("UPDATE t SET k = '9' || substr(k, 2) WHERE id = %lld", n);
    case OBJECT_W:
        return test_printf("UPDATE w SET v = 'changed' || substr(v, 8) WHERE k = %s", key_of(id));
    case OBJECT_SCHEMA: return test_printf("ALTER TABLE s%lld RENAME TO renamed", n ? n : 1);
    default:
        return test_printf("UPDATE o SET v = '%s' || substr(v, 8) WHERE id = %lld",
                           object == OBJECT_O ? "changed" : "another", n ? n : 3);
    }
}

static char *delete_from(enum matrix_object object, int64_t id)
{
    long long n = id;
    switch (object) {
    case OBJECT_T:
    case OBJECT_T_K: return test_printf("DELETE FROM t WHERE id = %lld", n);
    case OBJECT_W: return test_printf("DELETE FROM w WHERE k = %s", key_of(id));
    case OBJECT_SCHEMA: return test_printf("DROP TABLE s%lld", n ? n : 1);
    default: return test_printf("DELETE FROM o WHERE id = %lld", n ? n : 3);
    }
}

/* More pages than the free list has; more than a transaction may have in DRAM. */
static char *large_statement(enum matrix_object object)
{
    return object == OBJECT_END ? test_printf("INSERT INTO o VALUES(5000, printf('%%0600000d', 5))")
                                : test_printf("UPDATE t SET v = 'changed' || substr(v, 8)");
}

char *matrix_statement(const struct matrix_run *r, enum matrix_op op)
{
    if (r->at.object == OBJECT_END || r->at.object == OBJECT_SCRATCH)
        return large_statement(r->at.object);
    switch (op) {
    case OP_INSERT: return insert_into(r->at.object, r->at.target);
    case OP_DELETE: return delete_from(r->at.object, r->at.target);
    default: return update_of(r->at.object, r->at.target);
    }
}

/* --- templates --------------------------------------------------------------------------------------- */

static void fill(sqlite3 *db)
{
    db_exec(db, "BEGIN");
    db_exec(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, k TEXT, v TEXT)");
    db_exec(db, "CREATE TABLE w(k TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID");
    db_exec(db, "CREATE TABLE o(id INTEGER PRIMARY KEY, v TEXT)");
    db_exec(db, "CREATE TABLE z(id INTEGER PRIMARY KEY, v TEXT)");
    db_exec(db, "CREATE TABLE y(id INTEGER PRIMARY KEY, a INT, b INT)");
    db_exec(db, "CREATE TABLE gone(v)");
    for (int i = 1; i <= 12; i++) /* long texts: sqlite_schema has interior pages */
        db_exec(db, "CREATE TABLE s%d(a /* %0900d */)", i, i);
    db_exec(db,
            "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < %d)"
            " INSERT INTO t SELECT i * %d, " KEY ", printf('row %%d %%0950d', i, i * i) FROM s",
            ROWS, STEP, "(i * 10)");
    db_exec(db, "CREATE INDEX t_k ON t(k)");
    db_exec(db,
            "INSERT INTO w SELECT " KEY ", printf('w %%d %%0200d', id, id) FROM t WHERE id <= 6000",
            "id");
    db_exec(db, "INSERT INTO o SELECT id / 10, printf('o %%d %%021000d', id, id) FROM t ORDER BY "
                "t.id LIMIT 12");
    db_exec(db, "INSERT INTO z SELECT id / 10, printf('z %%d', id) FROM t ORDER BY t.id LIMIT %d",
            MATRIX_BYSTANDERS);
    db_exec(db, "INSERT INTO y SELECT id, 0, 0 FROM z");
    db_exec(db, "INSERT INTO gone SELECT printf('%%0120000d', 1)");
    db_exec(db, "COMMIT");
    db_exec(db, "DROP TABLE gone"); /* its pages are the free list */
}

static int kill_with_log(void *arg)
{
    const struct matrix_run *r = arg;
    unsigned page_size = r[0].page_size;
    sqlite3 *db = db_open(test_path("killed-%u.db", page_size), "dax_log_size=8m");
    FILE *script = fopen(test_path("killed-%u.sql", page_size), "w");
    CHECK(script, "the script cannot be made");
    /* One change in each object: where the rows that positions name are. */
    for (unsigned i = 0; i < MATRIX_POSITIONS; i++) {
        if (!r[i].page_size)
            continue;
        char *sql = matrix_statement(&r[i], OP_UPDATE);
        db_exec(db, "%s", sql);
        fprintf(script, "%s;\n", sql);
    }
    fputc(0, script);
    fclose(script);
    _exit(0);
}

/* As after a crash that has lost every line which was stored to base since: recovery has to bring them all. (The
 * first page has the mark.) */
static void undo_base(const char *before, const char *killed)
{
    static uint8_t bytes[POISON_PAGE_BYTES];
    int64_t end = file_bytes(before);
    for (int64_t at = sizeof bytes; at < end; at += (int64_t)sizeof bytes) {
        size_t n = end - at < (int64_t)sizeof bytes ? (size_t)(end - at) : sizeof bytes;
        file_peek(before, at, bytes, n);
        file_poke(killed, at, bytes, n);
    }
}

void matrix_make(unsigned page_size)
{
    char *before = test_path("before-%u.db", page_size),
         *killed = test_path("killed-%u.db", page_size);
    sqlite3 *db;
    CHECK(sqlite3_open_v2(before, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "unix") ==
              SQLITE_OK,
          "%s", before);
    db_exec(db, "PRAGMA page_size = %u", page_size);
    db_exec(db, "PRAGMA auto_vacuum = INCREMENTAL");
    db_exec(db, "PRAGMA synchronous = OFF");
    fill(db);
    db_check_integrity(db, "made");
    db_close(db);
    static struct matrix_run changes[MATRIX_POSITIONS];
    static struct matrix_position at[MATRIX_POSITIONS];
    file_copy(before, killed);
    unsigned n = matrix_positions(page_size, at);
    for (unsigned i = 0; i < n; i++)
        changes[i] = (struct matrix_run){
            .at = at[i],
            .page_size = at[i].object >= OBJECT_T && at[i].object <= OBJECT_O ? page_size : 0};
    changes[0].page_size = page_size;
    CHECK(child_wait(child_start(kill_with_log, changes)) == 0, "the template cannot be made");
    undo_base(before, killed);
}

/* --- positions ------------------------------------------------------------------------------------------ */

struct finder {
    unsigned page_size, count;
    sqlite3 *db;
    struct matrix_position *out;
};

/* Does a copy in which the file page is zeros still answer as the original? */
static int64_t find_target(struct finder *f, enum matrix_object object, uint64_t page)
{
    static uint8_t zeros[POISON_PAGE_BYTES], saved[POISON_PAGE_BYTES];
    char *spare = test_path("spare-%u.db", f->page_size);
    int64_t found = 0, last = object == OBJECT_O        ? 12
                              : object == OBJECT_SCHEMA ? 12
                              : object == OBJECT_W      ? 6000
                                                        : ROWS * STEP;
    if (!file_exists(spare))
        file_copy(test_path("before-%u.db", f->page_size), spare);
    file_peek(spare, (int64_t)(page * POISON_PAGE_BYTES), saved, sizeof saved);
    file_poke(spare, (int64_t)(page * POISON_PAGE_BYTES), zeros, sizeof zeros);
    sqlite3 *bad = db_open_stock(spare);
    for (int64_t id = last <= 12 ? 1 : STEP; id <= last && !found; id += last <= 12 ? 1 : STEP) {
        char *why;
        if (check_query(bad, f->db, matrix_point(object, id), &why) != CHECK_SAME)
            found = id;
    }
    db_close(bad);
    file_poke(spare, (int64_t)(page * POISON_PAGE_BYTES), saved, sizeof saved);
    CHECK(found, "no row of object %d needs page %llu of %s", object, (unsigned long long)page,
          spare);
    return found;
}

static struct matrix_position *add(struct finder *f, const char *name, enum matrix_object object,
                                   uint64_t sqlite_page, const char *type, const char *owner,
                                   const char *role)
{
    if (!sqlite_page && f->page_size > POISON_PAGE_BYTES)
        return NULL; /* the tree is lower */
    CHECK(sqlite_page && f->count < MATRIX_POSITIONS, "%s: there is no such page", name);
    struct matrix_position *p = &f->out[f->count++];
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "%s", name);
    p->object = object;
    p->page = (sqlite_page - 1) * f->page_size / POISON_PAGE_BYTES;
    /* A file page with several SQLite pages has several owners. */
    if (f->page_size >= POISON_PAGE_BYTES) {
        snprintf(p->type, sizeof p->type, "%s", type);
        snprintf(p->owner, sizeof p->owner, "%s", owner);
        snprintf(p->role, sizeof p->role, "%s", role);
    }
    if (object != OBJECT_NONE)
        p->target = find_target(f, object, p->page);
    return p;
}

/* The middle one of an object's pages of a kind. */
static uint64_t page_of(struct finder *f, const char *object, const char *kind, bool root)
{
    return (uint64_t)db_int(
        f->db,
        "SELECT coalesce((SELECT pageno FROM (SELECT pageno, row_number() OVER "
        "(ORDER BY path) AS n, count(*) OVER () AS c FROM dbstat WHERE name = '%s' "
        "AND pagetype = '%s' AND (path = '/') = %d) WHERE n = (c + 1) / 2), 0)",
        object, kind, root);
}

static void add_tree(struct finder *f, const char *name, enum matrix_object object,
                     const char *type)
{
    add(f, test_printf("%s root", name), object, page_of(f, name, "internal", true), type, name,
        "root");
    add(f, test_printf("%s interior", name), object, page_of(f, name, "internal", false), type,
        name, "interior");
    add(f, test_printf("%s leaf", name), object, page_of(f, name, "leaf", false), type, name,
        "leaf");
}

static void add_free(struct finder *f)
{
    uint8_t header[100], trunk[12];
    file_peek(test_path("before-%u.db", f->page_size), 0, header, sizeof header);
    uint64_t first = (uint64_t)header[32] << 24 | header[33] << 16 | header[34] << 8 | header[35];
    file_peek(test_path("before-%u.db", f->page_size), (int64_t)((first - 1) * f->page_size), trunk,
              sizeof trunk);
    uint64_t leaf = (uint64_t)trunk[8] << 24 | trunk[9] << 16 | trunk[10] << 8 | trunk[11];
    add(f, "free trunk", OBJECT_NONE, first, "", "", "trunk");
    add(f, "free leaf", OBJECT_NONE, leaf, "", "", "free");
}

/* Pages that are not there yet when the database is opened. */
static void add_beyond(struct finder *f)
{
    static const struct {
        const char *name;
        enum matrix_object object;
        uint64_t from, distance;
    } beyond[] = {
        {"past the end", OBJECT_END, 1, 3},
        {"scratch", OBJECT_SCRATCH, DAX_GROW_BYTES_MIN,
         DAX_SCRATCH_GAP_BYTES / POISON_PAGE_BYTES + 5},
    };
    uint64_t bytes = (uint64_t)file_bytes(test_path("before-%u.db", f->page_size));
    for (unsigned i = 0; i < 2; i++) {
        CHECK(f->count < MATRIX_POSITIONS, "too many positions");
        struct matrix_position *p = &f->out[f->count++];
        uint64_t end = (bytes + beyond[i].from - 1) / beyond[i].from * beyond[i].from;
        memset(p, 0, sizeof *p);
        snprintf(p->name, sizeof p->name, "%s", beyond[i].name);
        p->object = beyond[i].object;
        p->page = end / POISON_PAGE_BYTES + beyond[i].distance;
    }
}

static void add_sidecar_page(struct finder *f, const char *name, uint64_t offset)
{
    struct matrix_position *p = &f->out[f->count++];
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "%s", name);
    p->file = FILE_SIDECAR;
    p->page = offset / POISON_PAGE_BYTES;
}

static void add_sidecar(struct finder *f)
{
    char *path = test_path("killed-%u.db-dax", f->page_size);
    static uint8_t bytes[8 << 20];
    if (!file_exists(path))
        return; /* when it is being made */
    file_peek(path, 0, bytes, sizeof bytes);
    for (size_t at = 0; at < sizeof bytes; at += DAX_LINE_BYTES) {
        struct sidecar_root root;
        memcpy(&root, bytes + at, sizeof root);
        if (memcmp(root.magic, DAX_SIDECAR_MAGIC, sizeof root.magic) != 0 || !root.twin_offset)
            continue;
        const struct cursor_slot *c = &root.cursor[root.cursor[1].seq > root.cursor[0].seq];
        add_sidecar_page(f, "pool header", 0);
        add_sidecar_page(f, "sidecar root", at);
        add_sidecar_page(f, "sidecar twin", root.twin_offset);
        add_sidecar_page(f, "ring live", root.ring_offset + c->lsn % root.ring_bytes);
        add_sidecar_page(f, "ring next", root.ring_offset + (c->lsn + 64 * 1024) % root.ring_bytes);
        add_sidecar_page(f, "ring free",
                         root.ring_offset + (c->lsn + root.ring_bytes / 2) % root.ring_bytes);
        if (root.ledger_offset)
            add_sidecar_page(f, "ledger", root.ledger_offset);
        return;
    }
    CHECK(false, "%s has no root", path);
}

unsigned matrix_positions(unsigned page_size, struct matrix_position *out)
{
    struct finder f = {page_size, 0, db_open_stock(test_path("before-%u.db", page_size)), out};
    add_tree(&f, "t", OBJECT_T, "table");
    add_tree(&f, "t_k", OBJECT_T_K, "index");
    add_tree(&f, "w", OBJECT_W, "table");
    add(&f, "overflow", OBJECT_O, page_of(&f, "o", "overflow", false), "table", "o", "overflow");
    if (page_of(&f, "sqlite_schema", "leaf", false))
        add(&f, "schema leaf", OBJECT_SCHEMA, page_of(&f, "sqlite_schema", "leaf", false), "schema",
            "", "leaf");
    struct matrix_position *p = add(&f, "page 1", OBJECT_NONE, 1, "", "", "");
    p->object = OBJECT_SCHEMA;
    p->target = 1;
    add_free(&f);
    add(&f, "pointer map", OBJECT_NONE, 2, "", "", "pointer map");
    add_beyond(&f);
    add_sidecar(&f);
    db_close(f.db);
    return f.count;
}
