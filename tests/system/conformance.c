/* conformance.c: the same script gives the same answers through stock SQLite and through daxlite.
 *
 * Catches: any wrong row, error code, error text, change count or rowid; a cache that is stale
 * after another connection's commit; a savepoint or statement rollback that restores the wrong
 * bytes; page sizes below and above 4096 that miss or tear a page; wrong file size (page_count);
 * files that stock SQLite finds damaged after the close; content lost by close and reopen.
 *
 * Usage: conformance PAGE_SIZE [STATEMENTS]. Runs the script for auto_vacuum none, full and
 * incremental. Two sides, statement by statement; the first difference ends the run and names the
 * line; DAX_TEST_SCRIPT=FILE keeps the script.
 */
#include "tests/system/conformance_script.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct text {
    char *s;
    size_t len, room;
};

struct side {
    const char *name;
    const char *vfs;
    char *dir;
    sqlite3 *db[SCRIPT_CONNECTIONS];
    sqlite3_stmt *cursor[SCRIPT_CURSORS];
    struct text out; /* what the last line answered */
};

/* --- answers ---------------------------------------------------------------------------------- */

static void put(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void put_bytes(struct text *t, const char *s, size_t n)
{
    if (t->len + n + 1 > t->room) {
        t->room = (t->len + n + 1) * 2;
        t->s = realloc(t->s, t->room);
        if (!t->s)
            abort();
    }
    memcpy(t->s + t->len, s, n);
    t->len += n;
    t->s[t->len] = 0;
}

static void put(struct text *t, const char *fmt, ...)
{
    char *s;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&s, fmt, ap) < 0)
        abort();
    va_end(ap);
    put_bytes(t, s, strlen(s));
    free(s);
}

/* Long values by length and hash, so that answers stay readable. */
static void put_row(struct text *t, sqlite3_stmt *st)
{
    for (int i = 0; i < sqlite3_column_count(st); i++) {
        int type = sqlite3_column_type(st, i);
        const unsigned char *v =
            type == SQLITE_BLOB ? sqlite3_column_blob(st, i) : sqlite3_column_text(st, i);
        int n = sqlite3_column_bytes(st, i);
        put(t, "|%d:", type);
        if (n > 400 || type == SQLITE_BLOB) {
            uint64_t h = UINT64_C(0xcbf29ce484222325);
            for (int k = 0; k < n; k++)
                h = (h ^ v[k]) * UINT64_C(0x100000001b3);
            put(t, "<%d bytes %016llx>", n, (unsigned long long)h);
        } else if (n) {
            put_bytes(t, (const char *)v, (size_t)n);
        }
    }
    put(t, "\n");
}

static void put_state(struct side *s, int conn, int rc)
{
    sqlite3 *db = s->db[conn];
    put(&s->out, "rc %d errcode %d", rc, sqlite3_extended_errcode(db));
    if (rc != SQLITE_OK && rc != SQLITE_ROW && rc != SQLITE_DONE)
        put(&s->out, " \"%s\"", sqlite3_errmsg(db));
    put(&s->out, " changes %d total %d rowid %lld autocommit %d\n", sqlite3_changes(db),
        sqlite3_total_changes(db), sqlite3_last_insert_rowid(db), sqlite3_get_autocommit(db));
}

/* --- one line --------------------------------------------------------------------------------- */

static unsigned char *make_blob(unsigned bytes, uint64_t seed)
{
    unsigned char *b = malloc(bytes + 8);
    if (!b)
        abort();
    struct rng r = {seed};
    for (unsigned i = 0; i < bytes; i += 8) {
        uint64_t v = rng_next(&r);
        memcpy(b + i, &v, 8);
    }
    return b;
}

/* @T{name} and @S{name} become quoted URIs below the side's directory. */
static char *expand(const struct side *s, const char *sql)
{
    struct text t = {0};
    put(&t, "%s", "");
    for (const char *p = sql; *p;) {
        const char *end;
        if (p[0] == '@' && (p[1] == 'T' || p[1] == 'S') && p[2] == '{' && (end = strchr(p, '}'))) {
            put(&t, "'file:%s/%.*s?vfs=%s'", s->dir, (int)(end - p - 3), p + 3,
                p[1] == 'T' ? s->vfs : "unix");
            p = end + 1;
        } else {
            put_bytes(&t, p++, 1);
        }
    }
    return t.s;
}

static void run_sql(struct side *s, int conn, const char *text, const void *blob, int blob_bytes)
{
    char *sql = expand(s, text);
    const char *tail = sql;
    int rc = SQLITE_OK;
    while (*tail && (rc == SQLITE_OK || rc == SQLITE_DONE)) {
        sqlite3_stmt *st = NULL;
        rc = sqlite3_prepare_v2(s->db[conn], tail, -1, &st, &tail);
        if (!st)
            break;
        if (blob)
            sqlite3_bind_blob(st, 1, blob, blob_bytes, SQLITE_STATIC);
        while ((rc = sqlite3_step(st)) == SQLITE_ROW)
            put_row(&s->out, st);
        rc = sqlite3_finalize(st);
    }
    put_state(s, conn, rc);
    free(sql);
}

static void run_bind(struct side *s, int conn, const char *line)
{
    unsigned bytes, seed;
    int at = 0;
    if (sscanf(line, ".bind %u %u %n", &bytes, &seed, &at) < 2)
        abort();
    unsigned char *b = make_blob(bytes, seed);
    run_sql(s, conn, line + at, b, (int)bytes);
    free(b);
}

static void run_blob(struct side *s, int conn, const char *line)
{
    char table[32], column[32];
    unsigned id, off, len, write, seed;
    if (sscanf(line, ".blob %31s %31s %u %u %u %u %u", table, column, &id, &off, &len, &write,
               &seed) != 7)
        abort();
    sqlite3_blob *b = NULL;
    int rc = sqlite3_blob_open(s->db[conn], "main", table, column, id, (int)write, &b);
    if (rc == SQLITE_OK) {
        put(&s->out, "blob of %d bytes\n", sqlite3_blob_bytes(b));
        unsigned char *buf = make_blob(len, seed);
        if (write)
            rc = sqlite3_blob_write(b, buf, (int)len, (int)off);
        else
            rc = sqlite3_blob_read(b, buf, (int)len, (int)off);
        uint64_t h = 0;
        for (unsigned i = 0; i < len && rc == SQLITE_OK; i++)
            h = h * 31 + buf[i];
        put(&s->out, "rc %d hash %llx, reopen %d\n", rc, (unsigned long long)h,
            sqlite3_blob_reopen(b, id + 1));
        free(buf);
    }
    rc = sqlite3_blob_close(b);
    put_state(s, conn, rc);
}

static void run_cursor(struct side *s, int conn, const char *line)
{
    int n, at = 0, rows;
    if (sscanf(line, ".cursor %d %n", &n, &at) == 1 && at) {
        sqlite3_finalize(s->cursor[n]);
        s->cursor[n] = NULL;
        int rc = sqlite3_prepare_v2(s->db[conn], line + at, -1, &s->cursor[n], NULL);
        put(&s->out, "cursor %d\n", rc);
    } else if (sscanf(line, ".step %d %d", &n, &rows) == 2) {
        int rc = SQLITE_MISUSE;
        while (s->cursor[n] && rows-- > 0 && (rc = sqlite3_step(s->cursor[n])) == SQLITE_ROW)
            put_row(&s->out, s->cursor[n]);
        put(&s->out, "step %d\n", rc);
        if (rc != SQLITE_ROW) {
            sqlite3_finalize(s->cursor[n]);
            s->cursor[n] = NULL;
        }
    } else if (sscanf(line, ".close %d", &n) == 1) {
        put(&s->out, "close %d\n", sqlite3_finalize(s->cursor[n]));
        s->cursor[n] = NULL;
    }
}

static sqlite3 *open_at(const struct side *s, const char *name, const char *vfs)
{
    char *uri = test_printf("file:%s/%s?vfs=%s", s->dir, name, vfs);
    sqlite3 *db;
    int rc = sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
                             NULL);
    CHECK(rc == SQLITE_OK, "open %s: %d %s", uri, rc, sqlite3_errmsg(db));
    return db;
}

static void run_backup(struct side *s, int conn, const char *line)
{
    char name[64], vfs;
    unsigned page_size = 0;
    bool out = sscanf(line, ".backup_out %63s %c %u", name, &vfs, &page_size) == 3;
    if (!out && sscanf(line, ".backup_in %63s %c", name, &vfs) != 2)
        abort();
    sqlite3 *other = open_at(s, name, vfs == 'T' ? s->vfs : "unix");
    if (out) {
        char *pragma = test_printf("PRAGMA page_size = %u", page_size);
        sqlite3_exec(other, pragma, NULL, NULL, NULL);
    }
    sqlite3_backup *b = out ? sqlite3_backup_init(other, "main", s->db[conn], "main")
                            : sqlite3_backup_init(s->db[conn], "main", other, "main");
    int rc = SQLITE_ERROR, steps = 0;
    while (b && (rc = sqlite3_backup_step(b, 7)) == SQLITE_OK)
        steps++;
    put(&s->out, "backup %d steps, %d", steps, rc);
    if (b)
        put(&s->out, " then %d of %d, finish %d\n", sqlite3_backup_remaining(b),
            sqlite3_backup_pagecount(b), sqlite3_backup_finish(b));
    if (rc == SQLITE_DONE) {
        put(&s->out, "content %016llx, page size %lld\n",
            (unsigned long long)db_content_hash(other, "main"),
            (long long)db_int(other, "PRAGMA page_size"));
        db_check_integrity(other, "of the backup's other side");
    }
    db_close(other);
    put_state(s, conn, SQLITE_OK);
}

static void setup_connection(struct side *s, int conn)
{
    /* One connection copies what it reads, so that SQLite's own cache is in play as well. */
    bool copies = conn == 1 && !strcmp(s->vfs, "dax");
    s->db[conn] = open_at(s, "main.db", copies ? "dax&dax_zero_copy=off" : s->vfs);
    sqlite3_extended_result_codes(s->db[conn], 1);
    db_exec(s->db[conn], "PRAGMA foreign_keys = on");
}

static void close_cursors(struct side *s)
{
    for (int i = 0; i < SCRIPT_CURSORS; i++) {
        sqlite3_finalize(s->cursor[i]);
        s->cursor[i] = NULL;
    }
}

static void run_line(struct side *s, const char *line)
{
    int conn = line[0] - '0';
    const char *text = line + 2;
    s->out.len = 0;
    put(&s->out, "%s", "");
    if (!strncmp(text, ".bind ", 6)) {
        run_bind(s, conn, text);
    } else if (!strncmp(text, ".blob ", 6)) {
        run_blob(s, conn, text);
    } else if (!strncmp(text, ".reopen", 7)) {
        close_cursors(s);
        db_close(s->db[conn]);
        setup_connection(s, conn);
    } else if (!strncmp(text, ".backup_", 8)) {
        run_backup(s, conn, text);
    } else if (text[0] == '.') {
        run_cursor(s, conn, text);
    } else {
        run_sql(s, conn, text, NULL, 0);
    }
}

/* --- a run ------------------------------------------------------------------------------------ */

/* Another connection may only be used when this one is out of its transaction: what they do to each
 * other in stock SQLite's rollback mode is no measure for snapshots. */
static void settle(struct side *s, int conn)
{
    close_cursors(s);
    if (!sqlite3_get_autocommit(s->db[conn]) &&
        sqlite3_exec(s->db[conn], "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
        sqlite3_exec(s->db[conn], "ROLLBACK", NULL, NULL, NULL);
}

static void side_open(struct side *s, const struct script_options *o, const char *encoding)
{
    sqlite3 *db = open_at(s, "main.db", s->vfs);
    db_exec(db,
            "PRAGMA page_size = %u; PRAGMA auto_vacuum = %d; PRAGMA encoding = '%s';"
            "CREATE TABLE first(x)",
            o->page_size, o->auto_vacuum, encoding);
    db_close(db);
    for (int i = 0; i < SCRIPT_CONNECTIONS; i++)
        setup_connection(s, i);
}

static void side_close(struct side *s)
{
    close_cursors(s);
    for (int i = 0; i < SCRIPT_CONNECTIONS; i++)
        db_close(s->db[i]);
}

static void compare(const struct side *a, const struct side *b, const char *line, size_t n)
{
    if (a->out.len == b->out.len && !memcmp(a->out.s, b->out.s, a->out.len))
        return;
    CHECK(false, "line %zu differs: %.300s\n--- %s:\n%.1500s--- %s:\n%.1500s", n, line, a->name,
          a->out.s, b->name, b->out.s);
}

static uint64_t content_at(const struct side *s, const char *name, const char *vfs)
{
    sqlite3 *db = open_at(s, name, vfs);
    db_check_integrity(db, "after the close");
    uint64_t h = db_content_hash(db, "main");
    db_close(db);
    return h;
}

static void compare_files(const struct side *ref, const struct side *sut)
{
    static const char *const names[] = {"main.db", "other0.db", "other1.db", "stock0.db",
                                        "stock1.db"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = test_printf("%s/%s", ref->dir, names[i]);
        if (file_exists(path)) {
            uint64_t want = content_at(ref, names[i], "unix");
            CHECK(content_at(sut, names[i], "unix") == want, "%s: stock reads other content",
                  names[i]);
            CHECK(content_at(sut, names[i], sut->vfs) == want, "%s: %s reads other content",
                  names[i], sut->vfs);
            CHECK(content_at(sut, names[i], "unix") == want, "%s: stock, once more", names[i]);
        }
    }
}

static void run_script(const struct script_options *o, const char *encoding, unsigned run)
{
    struct script script;
    uint64_t seed = test_seed() + run;
    script_generate(&script, o, seed);
    const char *keep = getenv("DAX_TEST_SCRIPT");
    if (keep) {
        FILE *f = fopen(keep, "we");
        for (size_t i = 0; f && i < script.count; i++)
            fprintf(f, "%zu %s\n", i, script.line[i]);
        if (f)
            fclose(f);
    }
    struct side ref = {.name = "stock", .vfs = "unix", .dir = test_path("ref%u", run)};
    struct side sut = {
        .name = "daxlite", .vfs = test_on_dax() ? "dax" : "unix", .dir = test_path("sut%u", run)};
    char *mkdirs = test_printf("mkdir -p %s %s", ref.dir, sut.dir);
    CHECK(system(mkdirs) == 0, "%s", mkdirs);
    side_open(&ref, o, encoding);
    side_open(&sut, o, encoding);
    size_t errors = 0;
    for (size_t i = 0; i < script.count; i++) {
        if (i && script.line[i][0] != script.line[i - 1][0]) {
            settle(&ref, script.line[i - 1][0] - '0');
            settle(&sut, script.line[i - 1][0] - '0');
        }
        run_line(&ref, script.line[i]);
        run_line(&sut, script.line[i]);
        compare(&ref, &sut, script.line[i], i);
        errors += strstr(ref.out.s, " \"") != NULL;
    }
    settle(&ref, 0);
    settle(&sut, 0);
    int64_t pages = db_int(ref.db[0], "PRAGMA page_count");
    CHECK(db_int(sut.db[0], "PRAGMA page_count") == pages, "page_count at the end");
    side_close(&ref);
    side_close(&sut);
    compare_files(&ref, &sut);
    test_say("page size %u, auto_vacuum %d, %s: %zu statements, %zu of them errors, %lld pages",
             o->page_size, o->auto_vacuum, encoding, script.count, errors, (long long)pages);
    script_free(&script);
    free(ref.out.s);
    free(sut.out.s);
    char *clean = test_printf("rm -rf %s %s", ref.dir, sut.dir);
    CHECK(system(clean) == 0, "%s", clean);
}

int main(int argc, char **argv)
{
    unsigned page_size = argc > 1 ? (unsigned)atoi(argv[1]) : 4096;
    size_t statements = argc > 2 ? (size_t)atoi(argv[2]) : 6000;
    static const char *const encodings[] = {"UTF-8", "UTF-8", "UTF-16le"};
    char name[64];
    snprintf(name, sizeof name, "conformance_%u", page_size);
    test_start(name);
    for (int av = 0; av < 3; av++) {
        struct script_options o = {.statements = statements,
                                   .page_size = page_size,
                                   .auto_vacuum = av,
                                   .resize = page_size == 4096 || av == 0};
        run_script(&o, encodings[av], (unsigned)av);
    }
    return test_finish();
}
