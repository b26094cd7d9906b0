/* guest_media.c: real bad blocks under every kind of page: the statement that needs the page fails and
 * names the right object, everything else works, and a repair makes the block good again.
 *
 * Where pages are is asked of stock SQLite (dbstat), not of daxlite. An untouched copy says what rows
 * there were. Each kind of page is tried with the block bad before the database is opened, when the
 * kernel's list tells of it, and going bad while it is open, when the first load of it does.
 *
 * Catches: an error with another code, or of another table; a page next to the bad one that cannot be
 * read either; a wrong or missing row; a repair after which the block is still listed, or that loses
 * what it need not.
 */
#include "tests/vm/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PARAMS "dax_log_size=8388608"

struct kind {
    const char *name;
    const char *where;                /* the page, asked of stock SQLite */
    const char *needs;                /* fails; NULL: nothing has to */
    const char *type, *object, *role; /* of dax_errors; NULL: not asked */
    bool loses;                       /* rows, and only where they are given up */
    bool at_open;                     /* needed to open or prepare: not tried on an open database */
};

static const struct kind kinds[] = {
    {"table leaf",
     "SELECT pageno FROM dbstat WHERE name='orders' AND pagetype='leaf' ORDER BY 1 LIMIT 1 OFFSET "
     "40",
     "SELECT sum(length(note)) FROM orders", "table", "orders", "leaf", true, false},
    {"table interior",
     "SELECT pageno FROM dbstat WHERE name='orders' AND pagetype='internal' AND path<>'/' LIMIT 1",
     "SELECT sum(length(note)) FROM orders", "table", "orders", "interior", false, false},
    {"index leaf",
     "SELECT pageno FROM dbstat WHERE name='orders_customer' AND pagetype='leaf' LIMIT 1 OFFSET 5",
     "SELECT count(customer) FROM orders INDEXED BY orders_customer WHERE customer > ''", "index",
     "orders_customer", "leaf", false, false},
    {"overflow",
     "SELECT pageno FROM dbstat WHERE name='letters' AND pagetype='overflow' LIMIT 1 OFFSET 3",
     "SELECT sum(length(hex(body))) FROM letters", "table", "letters", "overflow", true, false},
    {"free page",
     "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n, pragma_page_count"
     " WHERE i < page_count) SELECT i FROM n WHERE i NOT IN (SELECT pageno FROM dbstat)"
     " ORDER BY i DESC LIMIT 1 OFFSET 2",
     NULL, NULL, NULL, "free", false, false},
    {"schema leaf", "SELECT pageno FROM dbstat WHERE name='sqlite_schema' AND pageno > 1 LIMIT 1",
     "SELECT count(*) FROM orders", "schema", NULL, "leaf", true, true},
    {"page 1", "SELECT 1", "SELECT count(*) FROM orders", NULL, NULL, NULL, true, true},
};

static void run_stock(sqlite3 *db)
{
    db_exec(db, "PRAGMA journal_mode=off; PRAGMA page_size=4096; BEGIN;"
                "CREATE TABLE orders(id INTEGER PRIMARY KEY, customer TEXT, note BLOB);"
                "CREATE TABLE letters(id INTEGER PRIMARY KEY, body BLOB);"
                "CREATE TABLE other(id INTEGER PRIMARY KEY, v INT);"
                "CREATE TABLE scratch(v); CREATE TABLE gone(body BLOB);"
                "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 2400)"
                " INSERT INTO orders SELECT i, hex(randomblob(16)), randomblob(850) FROM s;"
                "INSERT INTO letters SELECT id, randomblob(20000) FROM orders LIMIT 10;"
                "INSERT INTO other SELECT id, id * 3 FROM orders LIMIT 500;"
                "INSERT INTO gone VALUES(zeroblob(60000));"
                "CREATE INDEX orders_customer ON orders(customer)");
    for (int i = 0; i < 60; i++)
        db_exec(db,
                "CREATE TABLE extra%d(id INTEGER PRIMARY KEY, a TEXT DEFAULT 'a default text', b)",
                i);
    db_exec(db, "DROP TABLE gone; COMMIT");
}

static char *template_make(void)
{
    char *path = test_path("template.db");
    sqlite3 *db = db_open_stock(path);
    run_stock(db);
    db_close(db);
    return path;
}

/* The engine's number of the page: from 0. */
static uint64_t page_of(const char *template, const char *sql)
{
    sqlite3 *db = db_open_stock(template);
    int64_t page = db_int(db, "%s", sql);
    db_close(db);
    return (uint64_t)page - 1;
}

static int media_code(void)
{
    return sqlite3_libversion_number() >= 3043000 ? SQLITE_IOERR | 34 << 8 : SQLITE_IOERR_DATA;
}

/* --- what must hold ---------------------------------------------------------------------------- */

static void check_fails(sqlite3 *db, const char *sql)
{
    int rc = db_try(db, "%s", sql);
    CHECK(rc == media_code(), "\"%s\" gave %d (%s)", sql, rc, sqlite3_errmsg(db));
}

/* What has nothing to do with the page. */
static void check_others(sqlite3 *db)
{
    CHECK(db_int(db, "SELECT sum(v) FROM other") == 3 * 500 * 501 / 2, "table \"other\"");
    CHECK(db_int(db, "SELECT length(note) FROM orders WHERE id = 2399") == 850, "another leaf");
    db_exec(db, "INSERT INTO scratch VALUES(1)");
}

static char *errors_text(sqlite3 *db)
{
    return db_text(db, "SELECT coalesce(group_concat(page || ' ' || part || ' ' || kind || ' ' ||"
                       " coalesce(type, '-') || ' ' || coalesce(object, '-') || ' ' ||"
                       " coalesce(role, '-') || ' ' || status, '; '), 'none') FROM dax_errors");
}

static void check_entry(sqlite3 *db, const struct kind *k, uint64_t page)
{
    char *all = errors_text(db);
    CHECK(db_int(db, "SELECT count(*) FROM dax_errors") == 1, "dax_errors: %s", all);
    CHECK(db_int(db, "SELECT page FROM dax_errors") == (int64_t)page, "dax_errors: %s", all);
    CHECK(!strcmp(db_text(db, "SELECT kind || ' ' || part || ' ' || status FROM dax_errors"),
                  "poison database quarantined"),
          "dax_errors: %s", all);
    if (k->object)
        CHECK(!strcmp(db_text(db, "SELECT object FROM dax_errors"), k->object), "dax_errors: %s",
              all);
    if (k->type)
        CHECK(!strcmp(db_text(db, "SELECT type FROM dax_errors"), k->type), "dax_errors: %s", all);
    if (k->role)
        CHECK(text_has(db_text(db, "SELECT role FROM dax_errors"), k->role), "dax_errors: %s", all);
}

static void check_rows(sqlite3 *db, const char *template, const char *table, bool may_lose)
{
    int64_t wrong = db_int(db,
                           "SELECT count(*) FROM (SELECT * FROM main.%s EXCEPT"
                           " SELECT * FROM good.%s)",
                           table, table);
    int64_t lost = db_int(
        db, "SELECT (SELECT count(*) FROM good.%s) - (SELECT count(*) FROM main.%s)", table, table);
    CHECK(wrong == 0, "%s: %lld rows that %s does not have", table, (long long)wrong, template);
    CHECK(lost == 0 || (may_lose && lost > 0 && lost <= 20), "%s: %lld rows are lost", table,
          (long long)lost);
}

static void check_content(sqlite3 *db, const struct kind *k, const char *template)
{
    db_check_integrity(db, "after the repair");
    db_exec(db, "ATTACH 'file:%s?vfs=unix&mode=ro' AS good", template);
    const char *const tables[] = {"orders", "letters", "other"};
    for (unsigned i = 0; i < 3; i++)
        check_rows(db, template, tables[i], k->loses && k->object && !strcmp(k->object, tables[i]));
    db_exec(db, "DETACH good");
}

/* --- repair ------------------------------------------------------------------------------------- */

static char *repair(sqlite3 *db, uint64_t page, const char *more)
{
    return db_text(db, "SELECT json_extract(dax_repair(%lld%s), '$[0].done')", (long long)page,
                   more);
}

static void check_repair(sqlite3 *db, const struct kind *k, const char *path, uint64_t page)
{
    char *done = repair(db, page, "");
    if (k->loses) {
        CHECK(!strcmp(done, "nothing"), "a repair that loses rows was not asked for: %s", done);
        CHECK(poison_listed(path, page * GUEST_PAGE), "nothing was done, and the block is good");
        done = repair(db, page, ", 'allow-loss'");
        CHECK(!strcmp(done, "lost"), "allow-loss: %s", done);
    } else {
        CHECK(!strcmp(done, "repaired") || !strcmp(done, "cleared"), "repair: %s", done);
    }
    CHECK(db_int(db, "SELECT count(*) FROM dax_errors WHERE status = 'quarantined'") == 0,
          "dax_errors: %s", errors_text(db));
}

/* Somebody puts a good copy of the page back: what is left where nothing can be repaired. */
static void put_back(const char *path, const char *template, uint64_t page)
{
    uint8_t bytes[GUEST_PAGE];
    file_peek(template, (int64_t)(page * GUEST_PAGE), bytes, sizeof bytes);
    file_poke(path, (int64_t)(page * GUEST_PAGE), bytes, sizeof bytes);
}

/* --- one kind of page -------------------------------------------------------------------------- */

static void try_kind(const struct kind *k, const char *template, bool before_open)
{
    char *path = test_path("media.db");
    uint64_t page = page_of(template, k->where);
    test_context("%s (page %llu), bad %s", k->name, (unsigned long long)page,
                 before_open ? "before the database is opened" : "while it is open");
    file_copy(template, path);
    if (before_open)
        poison_add(path, page * GUEST_PAGE);
    sqlite3 *db = db_open(path, PARAMS);
    if (!before_open) {
        check_others(db);
        poison_add(path, page * GUEST_PAGE);
        forget_mappings(path);
    }
    if (k->needs)
        check_fails(db, k->needs);
    check_others(db);
    if (k->needs || before_open)
        check_entry(db, k, page);
    check_repair(db, k, path, page);
    check_content(db, k, template);
    db_close(db);
    CHECK(poison_count(path) == 0, "the block is still bad after the repair and a close");
    stock_check(path);
    test_say("%s, bad %s: ok", k->name, before_open ? "before" : "while open");
    file_remove_db(path);
}

/* Nothing can be read without the page: errors until a good copy is put back, and no other harm. */
static void try_needed_to_open(const struct kind *k, const char *template)
{
    char *path = test_path("media.db");
    uint64_t page = page_of(template, k->where);
    test_context("%s (page %llu)", k->name, (unsigned long long)page);
    file_copy(template, path);
    poison_add(path, page * GUEST_PAGE);
    sqlite3 *db;
    int rc = db_try_open(path, PARAMS, SQLITE_OPEN_READWRITE, &db);
    if (rc == SQLITE_OK)
        rc = db_try(db, "%s", k->needs);
    CHECK((rc & 0xff) == SQLITE_IOERR, "rc %d: %s", rc, sqlite3_errmsg(db));
    test_say("%s: %s", k->name, sqlite3_errmsg(db));
    sqlite3_close(db);
    CHECK(poison_listed(path, page * GUEST_PAGE), "cleared without a copy");
    put_back(path, template, page);
    CHECK(poison_count(path) == 0, "put back, and still bad");
    db = db_open(path, PARAMS);
    check_others(db);
    check_content(db, k, template);
    db_close(db);
    stock_check(path);
    test_say("%s: ok", k->name);
    file_remove_db(path);
}

void scenario_media(void)
{
    char *template = template_make();
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].at_open)
            try_needed_to_open(&kinds[i], template);
        else
            for (int before = !kinds[i].needs; before < 2; before++) /* nobody would notice */
                try_kind(&kinds[i], template, before);
}

/* A device that cannot clear a block: the repair has to take another one. */
void scenario_media_stays(void)
{
    char *template = template_make();
    for (unsigned i = 0; i < 3; i++) {
        char *path = test_path("media%u.db", i);
        const struct kind *k = &kinds[i];
        uint64_t page = page_of(template, k->where), bad;
        test_context("%s (page %llu), a block that stays bad", k->name, (unsigned long long)page);
        file_copy(template, path);
        poison_add(path, page * GUEST_PAGE);
        bad = file_physical(path, page * GUEST_PAGE);
        unsigned listed = poison_count(path);
        sqlite3 *db = db_open(path, PARAMS);
        check_fails(db, k->needs);
        check_entry(db, k, page);
        check_repair(db, k, path, page);
        check_content(db, k, template);
        db_close(db);
        CHECK(poison_count(path) == listed, "the device has cleared a block");
        CHECK(file_physical(path, page * GUEST_PAGE) != bad,
              "the database still has the bad block");
        stock_check(path);
        test_say("%s: ok", k->name);
    }
}

/* --- the log ------------------------------------------------------------------------------------ */

static sqlite3 *log_database(const char *path)
{
    sqlite3 *db = db_open(path, PARAMS);
    db_exec(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB); INSERT INTO t VALUES(1, x'01')");
    return db;
}

/* A bad block in the ring holds nothing that is needed: the log goes on, and clears it. */
void scenario_media_ring(void)
{
    char *path = test_path("ring.db"), *side = test_printf("%s-dax", path);
    test_context("a bad block in the ring");
    db_close(log_database(path));
    poison_add(side, (uint64_t)file_bytes(side) / 4 * 3 / GUEST_PAGE * GUEST_PAGE);
    sqlite3 *db = db_open(path, PARAMS);
    for (int i = 2; i < 400; i++)
        db_exec(db, "INSERT INTO t VALUES(%d, randomblob(20000))", i);
    test_say("errors: %s", errors_text(db));
    CHECK(db_int(db, "SELECT count(*) FROM dax_errors WHERE part = 'log'") == 1, "dax_errors: %s",
          errors_text(db));
    db_text(db, "SELECT dax_repair()");
    CHECK(db_int(db, "SELECT count(*) FROM dax_errors WHERE status = 'quarantined'") == 0,
          "dax_errors: %s", errors_text(db));
    CHECK(poison_count(side) == 0, "the log's block is still bad");
    CHECK(db_int(db, "SELECT sum(length(v)) FROM t") == 1 + 398 * 20000, "rows");
    db_check_integrity(db, "with a bad log");
    db_close(db);
    stock_check(path);
}

static void check_readable(const char *path)
{
    uint8_t page[GUEST_PAGE];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0, "%s: %s", path, strerror(errno));
    for (off_t at = 0; at < (off_t)file_bytes(path); at += (off_t)sizeof page)
        CHECK(pread(fd, page, sizeof page, at) == (ssize_t)sizeof page, "%s at %lld: %s", path,
              (long long)at, strerror(errno));
    close(fd);
}

/* libpmemobj cannot do without its own, and everybody else can: a new sidecar takes the place of the bad one. */
void scenario_media_log(void)
{
    char *path = test_path("pool.db"), *side = test_printf("%s-dax", path);
    test_context("a bad block in the pool's header");
    db_close(log_database(path));
    poison_add(side, 0);
    log_clear();
    sqlite3 *db = db_open(path, PARAMS);
    db_exec(db, "INSERT INTO t VALUES(2, x'02')");
    CHECK(log_has("made anew", NULL), "log: %s", log_text());
    CHECK(db_int(db,
                 "SELECT count(*) FROM dax_errors WHERE part = 'sidecar' AND status = 'repaired'") >
              0,
          "dax_errors: %s", errors_text(db));
    char *away = test_printf("%s-bad", side);
    /* The device still has its bad block, and the old file has it. */
    CHECK(poison_count(away) > 0, "the bad block has been given away");
    check_readable(side);
    CHECK(db_int(db, "SELECT count(*) FROM t") == 2, "rows");
    db_close(db);
    stock_check(path);
    uint8_t zeros[GUEST_PAGE] = {0};
    file_poke(away, 0, zeros, sizeof zeros); /* the next scenario's device is good */
}
