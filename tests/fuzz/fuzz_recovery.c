/* fuzz_recovery.c: opening a database and a sidecar with anything in them.
 *
 * The input names a crashed database (recovery_template.c) and changes to its two files, hashes made to
 * fit or not (recovery_change.c). Then it is opened, as a connection of the engine or of SQLite.
 *
 * Would catch: a crash, a SIGBUS, a hang, a leak or a huge allocation on any bytes; an error without a
 * text; a refused open that has changed a file; an untouched database whose state is not exactly the
 * committed one; one that opens and then cannot be read to its end, written, closed and opened again
 * with the same content.
 *
 * What a refused open may change: base, with dax_damaged_log=skip (docs/architecture.md, Recovery).
 * libpmemobj's own structures are taken as good: it trusts what it maps.
 */
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daxlite.h"
#include "engine/conn.h"
#include "engine/hash.h"
#include "tests/fuzz/pool.h"
#include "tests/fuzz/recovery_input.h"

#define READ_MAX (UINT64_C(16) << 20)

enum option {
    OPTION_SKIP = 1,
    OPTION_MSYNC = 2,
    OPTION_READ_ONLY = 4,
    OPTION_SQLITE = 8,
    OPTION_CRASH_AGAIN = 16,
    OPTION_JOURNAL = 32, /* a file of stock SQLite lies beside it */
    OPTION_WAL = 64
};

static char path[FUZZ_PATH_BYTES], sidecar_path[FUZZ_PATH_BYTES];
static struct dax_err err;

/* What is opened, and where it comes from. */
struct files {
    const struct template *from;
    bool untouched;
    struct image db, sidecar;
};

struct content {
    uint64_t size;
    uint64_t hash;  /* of the first READ_MAX bytes, as a reader sees them */
    uint8_t *bytes; /* these, owned */
};

static void content_free(struct content *c)
{
    free(c->bytes);
    *c = (struct content){0};
}

static struct dax_options recovery_options(uint8_t options)
{
    struct dax_options o = dax_options_default();
    o.log_bytes = DAX_LOG_BYTES_MIN;
    o.skip_damaged_log = options & OPTION_SKIP;
    o.persist = options & OPTION_MSYNC ? MEDIUM_MSYNC : MEDIUM_AUTO;
    o.read_only = options & OPTION_READ_ONLY;
    o.create = false;
    return o;
}

/* Everything that a reader sees, up to READ_MAX, and the last page. */
static void read_all(struct conn *c, struct content *out)
{
    uint8_t last[DAX_PAGE_BYTES];
    FUZZ_CHECK(conn_begin_read(c, &err) == DAX_OK, "begin_read: %s", err.text);
    out->size = conn_size(c);
    uint64_t n = out->size < READ_MAX ? out->size : READ_MAX;
    out->bytes = malloc(n + 1);
    FUZZ_CHECK(n == 0 || conn_read(c, out->bytes, n, 0, &err) == DAX_OK, "read: %s", err.text);
    if (out->size > READ_MAX)
        FUZZ_CHECK(conn_read(c, last, sizeof last, out->size - sizeof last, &err) == DAX_OK,
                   "read at the end: %s", err.text);
    out->hash = hash_bytes(out->bytes, n);
    conn_end_read(c);
}

/* Bytes that daxlite shows as its mark says; a log record may bring another mark along. */
static bool is_mark_byte(uint64_t i)
{
    return i == DAX_HEADER_WRITE_VERSION || i == DAX_HEADER_READ_VERSION ||
           i - DAX_HEADER_RESERVED < DAX_HEADER_RESERVED_BYTES;
}

static void check_same(const struct content *a, const struct content *b, const char *when)
{
    FUZZ_CHECK(a->size == b->size, "%s: %llu bytes, were %llu", when, (unsigned long long)b->size,
               (unsigned long long)a->size);
    for (uint64_t i = 0; a->hash != b->hash && i < a->size && i < READ_MAX; i++)
        FUZZ_CHECK(a->bytes[i] == b->bytes[i] || is_mark_byte(i), "%s: byte %llu is %02x, was %02x",
                   when, (unsigned long long)i, b->bytes[i], a->bytes[i]);
}

/* At rest the file is the content, but for what daxlite shows otherwise (versions, bytes 72 - 91). */
static void check_at_rest(const struct content *want)
{
    struct image rest = {0};
    image_load(&rest, path);
    FUZZ_CHECK(rest.size == want->size, "at rest: %llu bytes, should be %llu",
               (unsigned long long)rest.size, (unsigned long long)want->size);
    uint64_t n = want->size < READ_MAX ? want->size : READ_MAX;
    uint8_t *b = malloc(n + 1);
    image_read(&rest, b, n, 0);
    for (uint64_t i = 0; i < n; i++)
        FUZZ_CHECK(b[i] == want->bytes[i] || is_mark_byte(i),
                   "at rest: byte %llu is %02x, should be %02x", (unsigned long long)i, b[i],
                   want->bytes[i]);
    free(b);
    image_free(&rest);
}

/* A small transaction. false: refused, with a reason. */
static bool write_something(struct conn *c)
{
    static const uint8_t bytes[64] = "changed";
    FUZZ_CHECK(conn_begin_read(c, &err) == DAX_OK, "begin_read: %s", err.text);
    uint64_t size = conn_size(c);
    dax_rc rc = conn_begin_write(c, &err);
    if (rc == DAX_OK)
        rc = conn_write(c, bytes, sizeof bytes, size > 8192 ? 4096 + 100 : size + 4096, &err);
    if (rc == DAX_OK)
        rc = conn_commit(c, &err);
    if (rc != DAX_OK)
        fuzz_check_error(rc, &err, "writing after recovery");
    conn_end_write(c);
    conn_end_read(c);
    return rc == DAX_OK;
}

static void close_conn(struct conn *c, bool must)
{
    dax_rc rc = conn_close(c, &err);
    FUZZ_CHECK(rc == DAX_OK || !must, "close: %s", err.text);
    if (rc != DAX_OK)
        fuzz_check_error(rc, &err, "close");
}

/* Opened again it is the same. */
static void check_reopened(uint8_t options, const struct content *want, const char *when)
{
    struct dax_options o = recovery_options(options & ~OPTION_READ_ONLY);
    struct content now = {0};
    struct conn *c;
    dax_rc rc = conn_open(path, &o, &c, &err);
    FUZZ_CHECK(rc == DAX_OK, "%s: %s", when, err.text);
    read_all(c, &now);
    check_same(want, &now, when);
    close_conn(c, true);
    content_free(&now);
}

/* The files as they were before: refused is refused. */
static void check_unchanged(const struct files *before, bool base_may)
{
    struct image now = {0};
    image_load(&now, sidecar_path);
    uint64_t at = image_difference(&before->sidecar, &now);
    if (pool_real && side_same(&before->from->sidecar, &before->sidecar, &now))
        at = UINT64_MAX;
    FUZZ_CHECK(at == UINT64_MAX || base_may, "a refused open has changed the sidecar at %llu",
               (unsigned long long)at);
    image_load(&now, path);
    at = image_difference(&before->db, &now);
    FUZZ_CHECK(at == UINT64_MAX || base_may, "a refused open has changed the database at %llu",
               (unsigned long long)at);
    image_free(&now);
}

/* A record may replace page 0 by anything: then the mark is gone and with it the right to the log. */
static bool is_marked(const struct image *db, uint64_t *nonce_out)
{
    uint8_t header[DAX_HEADER_BYTES];
    struct mark m;
    image_read(db, header, sizeof header, 0);
    bool set = mark_read(header, &m) == MARK_SET;
    *nonce_out = set ? m.nonce : 0;
    return set;
}

/* It was opened: a marked file with the sidecar that names its nonce. One whose root is damaged may have
 * been read without it, and made anew (salvage.c); then the old file is kept. */
static void check_pairing(struct files *files)
{
    struct side s;
    uint64_t nonce;
    char kept[PATH_MAX];
    if (!is_marked(&files->db, &nonce))
        return;
    FUZZ_CHECK(side_names(&files->sidecar, nonce), "opened with the sidecar of another database");
    if (side_open(&s, &files->sidecar))
        return;
    snprintf(kept, sizeof kept, "%s-bad", sidecar_path);
    FUZZ_CHECK(access(kept, F_OK) == 0, "opened with a sidecar that has no root, and not made anew");
}

/* As if the process had ended here, and the next one opened the files. */
static void crash_again(struct conn *c, uint8_t options, const struct content *want)
{
    struct image db = {0}, sidecar = {0};
    image_load(&db, path);
    image_load(&sidecar, sidecar_path);
    bool active = atomic_load(&c->store->active);
    uint64_t nonce;
    close_conn(c, true);
    image_store(&db, path);
    image_store(&sidecar, sidecar_path);
    if (!active || is_marked(&db, &nonce))
        check_reopened(options, want, "recovered again");
    image_free(&db);
    image_free(&sidecar);
}

static void use_conn(struct conn *c, uint8_t options, const struct template *exact)
{
    struct content content = {0};
    read_all(c, &content);
    if (exact) {
        struct content want = {exact->size, hash_bytes(exact->bytes, exact->size), exact->bytes};
        check_same(&want, &content, "an untouched database");
    }
    bool store_is_ours = c->store->owner_writer;
    if (options & OPTION_CRASH_AGAIN) {
        crash_again(c, options, &content);
        content_free(&content);
        return;
    }
    if (write_something(c)) {
        content_free(&content);
        read_all(c, &content);
    }
    bool active = atomic_load(&c->store->active);
    close_conn(c, true);
    if (active)
        check_at_rest(&content);
    if (store_is_ours)
        check_reopened(options, &content, "opened again");
    content_free(&content);
}

static void run_engine(uint8_t options, struct files *files)
{
    struct dax_options o = recovery_options(options);
    struct conn *c;
    dax_rc rc = conn_open(path, &o, &c, &err);
    fuzz_trace("open: %s %s", dax_rc_name(rc), rc == DAX_OK ? "" : err.text);
    if (rc == DAX_OK) {
        check_pairing(files);
        use_conn(c, options, files->untouched ? files->from : NULL);
        return;
    }
    fuzz_check_error(rc, &err, "open");
    FUZZ_CHECK(!files->untouched || (options & OPTION_READ_ONLY), "an untouched database: %s",
               err.text);
    check_unchanged(files, options & OPTION_SKIP);
}

/* The content may be no database at all: any error that SQLite has a text for will do. */
static void sql(sqlite3 *db, const char *text)
{
    int rc = sqlite3_exec(db, text, NULL, NULL, NULL);
    fuzz_trace("%s: %s", text, rc ? sqlite3_errmsg(db) : "ok");
    FUZZ_CHECK(rc != SQLITE_MISUSE && rc != SQLITE_INTERNAL, "%s: %s", text, sqlite3_errmsg(db));
    FUZZ_CHECK(rc == SQLITE_OK || strlen(sqlite3_errmsg(db)) > 3, "%s: %d without a text", text,
               rc);
}

/* Begins as stock SQLite's do; what follows is the input's last bytes. */
static void leave_stock_file(const char *suffix, const void *magic, size_t bytes,
                             const struct input *rest)
{
    struct image im = {0};
    char name[FUZZ_PATH_BYTES + 16];
    snprintf(name, sizeof name, "%s-%s", path, suffix);
    image_write(&im, magic, bytes, 0);
    image_write(&im, rest->at, input_left(rest), bytes);
    image_cut(&im, 2048);
    image_store(&im, name);
    image_free(&im);
}

/* true: it was there. */
static bool remove_stock_file(const char *suffix)
{
    char name[FUZZ_PATH_BYTES + 16];
    snprintf(name, sizeof name, "%s-%s", path, suffix);
    return unlink(name) == 0;
}

/* With a journal or a WAL beside it. A marked file is daxlite's: what lies there is not for it, it is
 * refused, and both stay. To any other file stock SQLite does with it what it does. */
static void run_leftovers(uint8_t options, const struct files *files, const struct input *rest)
{
    static const uint8_t journal[] = {0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7};
    static const uint8_t wal[] = {0x37, 0x7f, 0x06, 0x82, 0x00, 0x2d, 0xe2, 0x18};
    char uri[FUZZ_PATH_BYTES + 64];
    sqlite3 *db = NULL;
    if (options & OPTION_JOURNAL)
        leave_stock_file("journal", journal, sizeof journal, rest);
    if (options & OPTION_WAL)
        leave_stock_file("wal", wal, sizeof wal, rest);
    snprintf(uri, sizeof uri, "file:%s?vfs=dax&mode=rw&dax_log_size=8m", path);
    int rc = sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI, NULL);
    fuzz_trace("sqlite3_open: %d", rc);
    uint64_t nonce;
    bool marked = is_marked(&files->db, &nonce);
    FUZZ_CHECK(!marked || rc == SQLITE_CANTOPEN, "a marked file with leftovers: %d", rc);
    if (rc == SQLITE_OK)
        sql(db, "INSERT INTO t(b) VALUES('fuzz')");
    FUZZ_CHECK(sqlite3_close(db) == SQLITE_OK, "close");
    if (marked)
        check_unchanged(files, false);
    bool journal_left = remove_stock_file("journal"), wal_left = remove_stock_file("wal");
    (void)remove_stock_file("shm");
    FUZZ_CHECK(!marked || (journal_left == !!(options & OPTION_JOURNAL) &&
                           wal_left == !!(options & OPTION_WAL)),
               "what lay beside a marked file has gone");
}

static void run_sqlite(uint8_t options, const struct files *files)
{
    char uri[FUZZ_PATH_BYTES + 128];
    sqlite3 *db = NULL;
    snprintf(uri, sizeof uri, "file:%s?vfs=dax&mode=%s&dax_log_size=8m%s%s", path,
             options & OPTION_READ_ONLY ? "ro" : "rw",
             options & OPTION_SKIP ? "&dax_damaged_log=skip" : "",
             options & OPTION_MSYNC ? "&dax_persist=msync" : "");
    int rc = sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI, NULL);
    fuzz_trace("sqlite3_open: %d", rc);
    if (rc != SQLITE_OK) {
        FUZZ_CHECK(strlen(sqlite3_errmsg(db)) > 3, "open: %d without a text", rc);
        FUZZ_CHECK(!files->untouched || (options & OPTION_READ_ONLY), "an untouched database: %d",
                   rc);
        sqlite3_close(db);
        check_unchanged(files, options & OPTION_SKIP);
        return;
    }
    sql(db, "PRAGMA integrity_check(10)");
    sql(db, "SELECT count(*), sum(length(b)) FROM t");
    sql(db, "INSERT INTO t(b) VALUES('fuzz')");
    sql(db, "SELECT dax_status(), dax_checkpoint('truncate')");
    sql(db, "SELECT sum(refcount) FROM (SELECT refcount FROM dax_pages LIMIT 10000)");
    rc = sqlite3_close(db);
    FUZZ_CHECK(rc == SQLITE_OK, "close: %d", rc);
}

void fuzz_start(void)
{
    fuzz_path(path, "recovery.db");
    fuzz_path(sidecar_path, "recovery.db-dax");
    FUZZ_CHECK(daxlite_register(0) == SQLITE_OK, "register");
    sqlite3_soft_heap_limit64(64 << 20);
}

static void run(const uint8_t *data, size_t bytes, bool real)
{
    struct input in = {data, data + bytes};
    uint8_t kind = input_u8(&in), options = input_u8(&in);
    struct files files = {.from = template_get(kind % TEMPLATES, real)};
    image_copy(&files.db, &files.from->db);
    image_copy(&files.sidecar, &files.from->sidecar);
    files.untouched = !recovery_change(&in, &files.db, &files.sidecar);
    image_store(&files.db, path);
    image_store(&files.sidecar, sidecar_path);
    pool_real = real;
    pool_ring_bytes = 40 << 10;
    if (options & (OPTION_JOURNAL | OPTION_WAL))
        run_leftovers(options, &files, &in);
    else if (options & OPTION_SQLITE)
        run_sqlite(options, &files);
    else
        run_engine(options, &files);
    FUZZ_CHECK(pool_count() == 0, "a sidecar is still open");
    pool_real = false;
    image_free(&files.db);
    image_free(&files.sidecar);
    FUZZ_CHECK(truncate(path, 0) == 0, "truncate");
    unlink(sidecar_path);
}

/* A sample, one in 64 or in what DAX_FUZZ_REAL says, runs on libpmemobj itself as well. */
void fuzz_one(const uint8_t *data, size_t bytes)
{
    static unsigned long part;
    if (part == 0) {
        const char *env = getenv("DAX_FUZZ_REAL");
        part = env ? strtoul(env, NULL, 10) : 64;
        FUZZ_CHECK(part > 0, "DAX_FUZZ_REAL=%s", env);
    }
    run(data, bytes, false);
    if (hash_bytes(data, bytes) % part == 0)
        run(data, bytes, true);
}

/* Each field of a record, a cursor slot, a seal and the root, with its limits; hashes fit. */
static void seed_fields(fuzz_seed_fn seed, unsigned change, unsigned which, unsigned fields)
{
    static const uint8_t kinds[][2] = {{0, 0}, {4, 1}, {5, 1}, {7, 0}, {8, 1}};
    for (unsigned field = 0; field < fields; field++)
        for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
            struct seed s = {0};
            char name[40];
            seed_put(&s, i % 2 ? TEMPLATE_LINES : TEMPLATE_LIST, 1);
            seed_put(&s, i % 3 ? OPTION_CRASH_AGAIN : 0, 1);
            seed_put(&s, change, 1);
            if (which)
                seed_put(&s, which, 1);
            seed_put(&s, field, 1);
            seed_put(&s, kinds[i][0], 1);
            seed_put(&s, kinds[i][1], 1);
            snprintf(name, sizeof name, "field-%u-%u-%u", change, field, i);
            seed(name, s.data, s.bytes);
        }
}

void fuzz_seeds(fuzz_seed_fn seed)
{
    seed_fields(seed, 1, 4, 10); /* record: the first of one, of several some other */
    seed_fields(seed, 3, 2, 8);  /* the cursor slot that counts */
    seed_fields(seed, 4, 1, 2);  /* a seal */
    seed_fields(seed, 5, 0, 8);  /* root */
    for (unsigned kind = 0; kind < TEMPLATES; kind++)
        for (unsigned options = 0; options < 32; options += 8) {
            struct seed s = {0};
            char name[32];
            seed_put(&s, kind, 1);
            seed_put(&s, options, 1);
            snprintf(name, sizeof name, "untouched-%u-%u", kind, options);
            seed(name, s.data, s.bytes);
        }
    for (unsigned kind = 0; kind < TEMPLATES; kind += 6)
        for (unsigned options = 32; options < 128; options += 32) {
            struct seed s = {0};
            char name[32];
            seed_put(&s, kind, 1);
            seed_put(&s, options, 1);
            snprintf(name, sizeof name, "leftover-%u-%u", kind, options);
            seed(name, s.data, s.bytes);
        }
    for (unsigned change = 0; change < 14; change++) {
        struct seed s = {0};
        char name[32];
        seed_put(&s, change % TEMPLATES, 1);
        seed_put(&s, change % 2, 1);
        seed_put(&s, change, 1);
        seed_put(&s, UINT64_C(0x0102030401000200), 8);
        seed_put(&s, UINT64_C(0x0403020100010203), 8);
        snprintf(name, sizeof name, "change-%u", change);
        seed(name, s.data, s.bytes);
    }
}
