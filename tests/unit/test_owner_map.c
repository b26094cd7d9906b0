/* test_owner_map.c: dax_owner(), dax_owner_sqlite() and the owners in dax_pages, on real databases.
 *
 * Catches: an owner that is not the one of the state that the connection reads, be it an old snapshot,
 * within a transaction, or while another connection writes; a map that is not renewed, or made anew for
 * each row; children of a page with a media error that are lost although the map before, or the pointer
 * map, knows them; a map that stays broken when the page is whole again; numbers of dax_pages taken for
 * SQLite's; JSON whose members changed; a walk that cannot be interrupted; a query of dax_pages that
 * walks trees without need.
 */
#include <limits.h>
#include <pthread.h>
#include <time.h>

#include "engine/conn.h"
#include "engine/pageword.h"
#include "include/daxlite.h"
#include "tests/unit/mix.h"
#include "tests/unit/unit.h"
#include "vfs/owner_map.h"
#include "vfs/vfs.h"

static uint64_t seed;

static void setup(void)
{
    unit_setup();
    ck_assert_int_eq(daxlite_register(0), SQLITE_OK);
}

/* --- helpers ------------------------------------------------------------------------------------ */

static sqlite3 *dax_open(const char *name)
{
    char uri[2 * PATH_MAX];
    sqlite3 *db;
    snprintf(uri, sizeof uri, "file:%s/%s.db?vfs=dax", unit_dir, name);
    int rc = sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
                             NULL);
    ck_assert_msg(rc == SQLITE_OK, "%s: %s", uri, sqlite3_errmsg(db));
    sqlite3_busy_timeout(db, 10000);
    return db;
}

static void dax_close(sqlite3 *db)
{
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

static void run(sqlite3 *db, const char *sql)
{
    char *message = NULL;
    int rc = sqlite3_exec(db, sql, NULL, NULL, &message);
    ck_assert_msg(rc == SQLITE_OK, "%s: %s", sql, message);
}

/* Rows of sql, columns joined by '|', rows by ' '; "ERROR: text" if it fails. */
static const char *ask(sqlite3 *db, const char *sql)
{
    static char answers[4][65536];
    static unsigned turn;
    char *out = answers[turn++ % 4];
    size_t room = sizeof answers[0], used = 0;
    sqlite3_stmt *stmt;
    out[0] = '\0';
    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK)
        while (sqlite3_step(stmt) == SQLITE_ROW)
            for (int i = 0; i < sqlite3_column_count(stmt); i++) {
                const char *text = (const char *)sqlite3_column_text(stmt, i);
                used += (size_t)snprintf(out + used, room - used, "%s%s",
                                         i      ? "|"
                                         : used ? " "
                                                : "",
                                         text ? text : "NULL");
                ck_assert_uint_lt(used, room);
            }
    if (sqlite3_finalize(stmt) != SQLITE_OK || sqlite3_errcode(db) != SQLITE_OK)
        snprintf(out, room, "ERROR: %s", sqlite3_errmsg(db));
    return out;
}

#define EXPECT(db, sql, answer) ck_assert_str_eq(ask(db, sql), answer)

static void expect_error(sqlite3 *db, const char *sql, int code, const char *part)
{
    const char *text = ask(db, sql);
    ck_assert_msg(strncmp(text, "ERROR: ", 7) == 0 && strstr(text, part), "%s: %s", sql, text);
    ck_assert_int_eq(sqlite3_errcode(db), code);
}

static struct owner_map *map_of(sqlite3 *db)
{
    struct owner_map *map;
    char *why;
    int rc = owner_map_of_schema(db, "main", &map, &why);
    ck_assert_msg(rc == SQLITE_OK, "no map: %d %s", rc, why);
    return map;
}

/* The map that db gets now, against dbstat on `stat`. */
static unsigned check_owners(sqlite3 *db, sqlite3 *stat, const char *when)
{
    struct mix_oracle o;
    mix_ask(&o, stat);
    struct owner_map *map = map_of(db);
    unsigned free_pages = 0;
    for (unsigned p = 1; p <= o.count; p++) {
        const struct mix_page *want = &o.pages[p];
        struct owner got;
        owner_of_sqlite_page(map, p, &got);
        bool right = want->role[0] ? strcmp(got.role, want->role) == 0 && got.name &&
                                         strcmp(got.name, want->name) == 0
                                   : !got.name && (strncmp(got.role, "free ", 5) == 0 ||
                                                   strcmp(got.role, "pointer map") == 0);
        ck_assert_msg(right && !got.damaged && !got.unreadable && !got.detail[0],
                      "seed %llu, %s: page %u of %u is %s of %s (%s), dbstat says %s of \"%s\"",
                      (unsigned long long)seed, when, p, o.count, got.role,
                      got.name ? got.name : "nothing", got.detail, want->role, want->name);
        free_pages += strncmp(got.role, "free ", 5) == 0;
    }
    ck_assert_uint_eq(free_pages, o.free_pages);
    struct owner beyond;
    owner_of_sqlite_page(map, o.count + 1, &beyond);
    ck_assert_str_eq(beyond.role, "beyond the end");
    owner_map_release(map);
    mix_forget(&o);
    return o.count;
}

/* Flag or unflag a page of the file, as the engine does where it meets a media error. */
static void set_poison(sqlite3 *db, uint64_t page, bool on)
{
    struct region *r = &vfs_conn_of(db, "main")->store->region;
    uint64_t w = pageword_load(r, page);
    ck_assert_int_eq(pageword_state(w), PAGE_MAPPED);
    atomic_store(&r->words[page], on ? w | PAGEWORD_POISONED : w & ~PAGEWORD_POISONED);
}

static unsigned find_page(sqlite3 *db, const char *name, const char *role)
{
    struct owner_map *map = map_of(db);
    unsigned count = (unsigned)mix_number(db, "PRAGMA page_count"), found = 0;
    for (unsigned p = 1; p <= count && !found; p++) {
        struct owner o;
        owner_of_sqlite_page(map, p, &o);
        if (strcmp(o.role, role) == 0 && (!name || (o.name && strcmp(o.name, name) == 0)))
            found = p;
    }
    owner_map_release(map);
    ck_assert_msg(found, "no %s page of %s", role, name);
    return found;
}

/* Three levels of table and index in pages of 4096 bytes, and a row of many pages. */
static sqlite3 *big_database(unsigned auto_vacuum)
{
    char sql[800];
    sqlite3 *db = dax_open("big");
    snprintf(sql, sizeof sql,
             "PRAGMA page_size=4096; PRAGMA auto_vacuum=%u; PRAGMA cache_size=5;"
             "CREATE TABLE big(a INTEGER PRIMARY KEY, b); CREATE INDEX big_b ON big(b);"
             "CREATE TABLE long(a, b); INSERT INTO long VALUES(1, zeroblob(100000));"
             "CREATE TABLE gone(a); INSERT INTO gone VALUES(zeroblob(10000000));"
             "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)"
             " INSERT INTO big SELECT i, printf('%%060d', i) FROM n; DROP TABLE gone",
             auto_vacuum);
    run(db, sql);
    return db;
}

/* --- the right answers ---------------------------------------------------------------------------- */

START_TEST(owners_are_those_of_dbstat_after_any_ddl_and_dml)
{
    static const unsigned sizes[] = {512, 1024, 4096, 8192, 65536};
    static const char *const encodings[] = {"UTF-8", "UTF-16le", "UTF-16be"};
    unsigned compared = 0;
    for (unsigned i = 0; i < 15; i++) {
        struct mix mix;
        char name[16];
        snprintf(name, sizeof name, "mix%u", i);
        sqlite3 *db = dax_open(name);
        mix_start(&mix, db, seed + i, sizes[i / 3], i % 3, encodings[i % 3]);
        for (unsigned round = 0; round < 5; round++) {
            for (unsigned k = 0; k < 12; k++)
                mix_step(&mix);
            compared += check_owners(db, db, "between statements");
        }
        EXPECT(db, "PRAGMA integrity_check", "ok");
        dax_close(db);
    }
    printf("figure: pages of dax databases whose owner was compared with dbstat: %u\n", compared);
}
END_TEST

START_TEST(a_transaction_sees_the_state_that_it_began_with)
{
    struct mix mix;
    sqlite3 *db = dax_open("t");
    mix_start(&mix, db, seed, 1024, 0, "UTF-8");
    for (unsigned k = 0; k < 30; k++)
        mix_step(&mix);
    sqlite3 *other = dax_open("t");
    run(db, "PRAGMA cache_size=1; BEGIN"); /* changed pages go to the engine at once */
    run(db, "SELECT count(*) FROM sqlite_schema");
    mix.in_transaction = true;
    for (unsigned k = 0; k < 20; k++)
        mix_step(&mix);
    check_owners(db, other, "own changes, not committed");
    check_owners(other, other, "seen by another connection");
    run(db, "COMMIT");
    check_owners(db, db, "committed");
    run(db, "BEGIN; DROP TABLE IF EXISTS t0; CREATE TABLE t77(a)");
    check_owners(db, other, "own changes, again");
    run(db, "ROLLBACK");
    check_owners(db, db, "rolled back");
    dax_close(other);
    dax_close(db);
}
END_TEST

START_TEST(an_old_snapshot_has_its_own_owners)
{
    struct mix mix;
    sqlite3 *db = dax_open("t"), *reader = dax_open("t");
    mix_start(&mix, db, seed + 5, 4096, 1, "UTF-8");
    for (unsigned k = 0; k < 40; k++)
        mix_step(&mix);
    run(reader, "BEGIN; SELECT count(*) FROM sqlite_schema");
    for (unsigned k = 0; k < 10; k++)
        mix_step(&mix);
    for (unsigned k = 0; k < 10; k++) {
        check_owners(reader, reader, "an old snapshot");
        check_owners(db, db, "the newest");
        mix_step(&mix);
    }
    run(db, "SELECT dax_checkpoint()");
    check_owners(reader, reader, "an old snapshot, after a checkpoint");
    /* Both maps are kept: neither of the two questions reads pages. */
    const char *copied = "SELECT dax_status() ->> '$.counters.reads_copied'";
    struct owner_map *old = map_of(reader), *new = map_of(db);
    int64_t before = mix_number(db, copied);
    owner_map_release(map_of(reader));
    owner_map_release(map_of(db));
    ck_assert_int_lt(mix_number(db, copied) - before, 8);
    ck_assert_uint_lt(owner_map_txid(old), owner_map_txid(new));
    owner_map_release(old);
    owner_map_release(new);
    run(reader, "COMMIT");
    check_owners(reader, reader, "the newest, at last");
    dax_close(reader);
    dax_close(db);
}
END_TEST

struct writing {
    pthread_t thread;
    struct mix mix;
    _Atomic bool over;
};

static void *write_on(void *arg)
{
    struct writing *w = arg;
    while (!atomic_load(&w->over)) {
        mix_step(&w->mix);
        sched_yield(); /* the processor, to readers as well */
    }
    return NULL;
}

static void *read_on(void *arg)
{
    const unsigned *rounds = arg;
    sqlite3 *reader = dax_open("t");
    for (unsigned k = 0; k < *rounds; k++) {
        run(reader, "BEGIN; SELECT count(*) FROM sqlite_schema");
        check_owners(reader, reader, "while another connection writes");
        run(reader, "COMMIT");
    }
    dax_close(reader);
    return NULL;
}

START_TEST(owners_are_right_while_other_threads_write_and_ask)
{
    struct writing w = {0};
    pthread_t other;
    unsigned rounds = 40;
    sqlite3 *db = dax_open("t");
    mix_start(&w.mix, db, seed + 9, 2048, 2, "UTF-8");
    for (unsigned k = 0; k < 30; k++)
        mix_step(&w.mix);
    pthread_create(&w.thread, NULL, write_on, &w);
    pthread_create(&other, NULL, read_on, &rounds);
    read_on(&rounds);
    pthread_join(other, NULL);
    atomic_store(&w.over, true);
    pthread_join(w.thread, NULL);
    check_owners(db, db, "in the end");
    dax_close(db);
}
END_TEST

/* --- SQL ------------------------------------------------------------------------------------------- */

START_TEST(json_has_every_documented_member_in_order)
{
    sqlite3 *db = big_database(0);
    EXPECT(db, "SELECT group_concat(key) FROM json_each(dax_owner(0))",
           "schema,txid,page_size,page,pages,owners");
    EXPECT(db, "SELECT group_concat(key) FROM json_each(dax_owner_sqlite(1), '$.owners[0]')",
           "page,type,name,table,virtual_table,role,root,parent,readable,damaged,below,detail");
    EXPECT(db,
           "SELECT dax_owner(0) = dax_owner_sqlite(1), dax_owner(1) = dax_owner_sqlite(2),"
           " dax_owner(0) ->> '$.txid' = dax_status() ->> '$.txid'",
           "1|1|1");
    EXPECT(db, "SELECT dax_owner(0) -> '$.owners'",
           "[{\"page\":1,\"type\":\"schema\",\"name\":\"sqlite_schema\",\"table\":"
           "\"sqlite_schema\",\"virtual_table\":null,\"role\":\"root\",\"root\":1,\"parent\":null,"
           "\"readable\":true,\"damaged\":false,\"below\":null,\"detail\":null}]");
    EXPECT(db, "SELECT dax_owner(NULL), dax_owner_sqlite(NULL)", "NULL|NULL");
    EXPECT(db, "SELECT dax_owner(1000000) ->> '$.owners[0].role'", "beyond the end");
    EXPECT(db, "SELECT dax_owner('2') ->> '$.page'", "2");
    expect_error(db, "SELECT dax_owner(-1)", SQLITE_ERROR,
                 "dax_owner: -1 is no page number; pages are counted from 0");
    expect_error(db, "SELECT dax_owner_sqlite(0)", SQLITE_ERROR,
                 "dax_owner_sqlite: 0 is no page number; pages are counted from 1");
    expect_error(db, "SELECT dax_owner('x')", SQLITE_ERROR, "x is no page number");
    expect_error(db, "SELECT dax_owner(9223372036854775807)", SQLITE_ERROR, "is no page number");
    expect_error(db, "SELECT dax_owner(0, 'nope')", SQLITE_ERROR,
                 "dax_owner: no such database: \"nope\"");
    EXPECT(db, "SELECT DISTINCT dax_owner_sqlite(pageno) ->> '$.owners[0].name' = name FROM dbstat",
           "1");
    EXPECT(db,
           "SELECT DISTINCT dax_owner_sqlite(pageno) ->> '$.owners[0].table' FROM dbstat"
           " WHERE name = 'big_b'",
           "big");
    dax_close(db);
    sqlite3 *memory;
    ck_assert_int_eq(sqlite3_open(":memory:", &memory), SQLITE_OK);
    expect_error(memory, "SELECT dax_owner(0)", SQLITE_ERROR, "file:PATH?vfs=dax");
    sqlite3_close(memory);
}
END_TEST

START_TEST(small_pages_share_an_engine_page_and_large_ones_span_several)
{
    sqlite3 *db = dax_open("small");
    run(db, "PRAGMA page_size=1024; CREATE TABLE a(x); CREATE TABLE b(x); CREATE INDEX bi ON b(x);"
            "CREATE VIRTUAL TABLE f USING fts5(x); CREATE TABLE z(x); DROP TABLE z");
    EXPECT(db,
           "SELECT value ->> '$.page', value ->> '$.type', value ->> '$.name', value ->> '$.role'"
           " FROM json_each(dax_owner(0), '$.owners')",
           "1|schema|sqlite_schema|root 2|table|a|root 3|table|b|root 4|index|bi|root");
    EXPECT(db, "SELECT page, owner, type, role, virtual_table FROM dax_pages WHERE page < 2",
           "0|sqlite_schema, a, b, bi|schema, table, index|root|NULL"
           " 1|f_data, f_idx, f_content, f_docsize|table|root|f");
    EXPECT(db, "SELECT dax_owner_sqlite(6) ->> '$.page', dax_owner_sqlite(6) ->> '$.pages'", "1|1");
    EXPECT(db,
           "SELECT json_array_length(dax_owner_sqlite(6), '$.owners'),"
           " dax_owner_sqlite(6) ->> '$.owners[0].name'",
           "1|f_idx");
    EXPECT(db, "SELECT owner, type, role FROM dax_pages WHERE page = 2",
           "f_config|table|root, free trunk");
    dax_close(db);
    db = dax_open("large");
    run(db, "PRAGMA page_size=16384; CREATE TABLE a(x)");
    EXPECT(db, "SELECT page, owner, role FROM dax_pages",
           "0|sqlite_schema|root 1|sqlite_schema|root 2|sqlite_schema|root 3|sqlite_schema|root"
           " 4|a|root 5|a|root 6|a|root 7|a|root");
    EXPECT(db, "SELECT dax_owner_sqlite(2) ->> '$.page', dax_owner_sqlite(2) ->> '$.pages'", "4|4");
    EXPECT(db, "SELECT dax_owner(6) ->> '$.page', dax_owner(6) ->> '$.owners[0].page'", "6|2");
    dax_close(db);
}
END_TEST

START_TEST(pages_walks_trees_only_for_the_columns_of_owners)
{
    sqlite3 *db = big_database(0);
    const char *copied = "SELECT dax_status() ->> '$.counters.reads_copied'";
    int64_t pages = mix_number(db, "PRAGMA page_count"), before = mix_number(db, copied);
    EXPECT(db,
           "SELECT count(*) FROM dax_pages WHERE state = 'MAPPED' AND refcount + generation < 0",
           "0");
    ck_assert_int_lt(mix_number(db, copied) - before, 8);
    before = mix_number(db, copied);
    EXPECT(db, "SELECT sum(role = 'interior') > 2, sum(owner = 'long') > 20 FROM dax_pages", "1|1");
    int64_t read = mix_number(db, copied) - before;
    ck_assert_int_gt(read, pages / 3); /* not free leaves */
    ck_assert_int_lt(read, pages + 20);
    before = mix_number(db, copied);
    EXPECT(db, "SELECT count(DISTINCT dax_owner(page)) > 500 FROM dax_pages WHERE page < 600", "1");
    ck_assert_int_lt(mix_number(db, copied) - before,
                     9 * 600); /* each is read to see if it can be */
    const char *plan = ask(db, "EXPLAIN QUERY PLAN SELECT owner FROM dax_pages WHERE page = 3");
    ck_assert_msg(strstr(plan, "1:page=? with owners"), "%s", plan);
    plan = ask(db, "EXPLAIN QUERY PLAN SELECT page FROM dax_pages");
    ck_assert_msg(!strstr(plan, "owners"), "%s", plan);
    dax_close(db);
}
END_TEST

START_TEST(owners_of_an_attached_and_of_an_empty_database)
{
    char attach[2 * PATH_MAX];
    sqlite3 *db = dax_open("t");
    EXPECT(db, "SELECT dax_owner(0) ->> '$.owners[0].role'", "beyond the end");
    EXPECT(db, "SELECT count(*) FROM dax_pages WHERE owner = 'x'", "0");
    snprintf(attach, sizeof attach, "ATTACH 'file:%s/other.db?vfs=dax' AS other", unit_dir);
    run(db, attach);
    run(db, "CREATE TABLE other.u(a); CREATE VIEW other.v AS SELECT 1; CREATE TEMP TABLE w(a)");
    EXPECT(db, "SELECT dax_owner(1, 'other') ->> '$.owners[0].name'", "u");
    EXPECT(db, "SELECT group_concat(owner) FROM dax_pages('other')", "sqlite_schema,u");
    EXPECT(db, "SELECT dax_owner(0, 'OTHER') ->> '$.schema'", "OTHER");
    run(db, "DETACH other");
    expect_error(db, "SELECT dax_owner(1, 'other')", SQLITE_ERROR, "no such database");
    dax_close(db);
}
END_TEST

static int stop_now(void *arg)
{
    (*(unsigned *)arg)++;
    return 1;
}

static void interrupt_now(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    (void)argc, (void)argv;
    sqlite3_interrupt(sqlite3_context_db_handle(ctx));
    sqlite3_result_int(ctx, 0);
}

START_TEST(a_walk_ends_when_the_connection_is_interrupted)
{
    sqlite3 *db = big_database(0);
    unsigned called = 0;
    sqlite3_create_function(db, "interrupt_now", 0, SQLITE_UTF8, NULL, interrupt_now, NULL, NULL);
    expect_error(db, "SELECT dax_owner(interrupt_now())", SQLITE_INTERRUPT, "interrupted");
    expect_error(db, "SELECT owner FROM dax_pages WHERE page = interrupt_now()", SQLITE_INTERRUPT,
                 "interrupted");
    sqlite3_progress_handler(db, 40, stop_now, &called);
    expect_error(db, "SELECT dax_owner(0)", SQLITE_INTERRUPT, "interrupted");
    ck_assert_uint_ge(called, 1);
    sqlite3_progress_handler(db, 0, NULL, NULL);
    EXPECT(db, "SELECT dax_owner(0) ->> '$.owners[0].name'", "sqlite_schema");
    EXPECT(db, "SELECT dax_status() ->> '$.snapshots'", "0"); /* none was left behind */
    dax_close(db);
}
END_TEST

/* --- pages with media errors ------------------------------------------------------------------------- */

START_TEST(below_an_unreadable_page_the_map_before_still_answers)
{
    static const char *const roles[] = {"root", "interior", "leaf"};
    sqlite3 *db = big_database(0);
    run(db, "SELECT dax_checkpoint()");
    sqlite3 *other = dax_open("big");
    struct mix_oracle o;
    owner_map_release(map_of(db)); /* the last good one */
    for (unsigned i = 0; i < 3; i++) {
        unsigned bad = find_page(db, "big", roles[i]);
        set_poison(db, bad - 1, true);
        /* A commit elsewhere: the map must be made anew. */
        run(other, "INSERT INTO long VALUES(2, 'x')");
        expect_error(db, "SELECT sum(a) FROM big", SQLITE_IOERR, "disk I/O error");
        struct owner_map *map = map_of(db);
        struct owner got;
        owner_of_sqlite_page(map, bad, &got);
        ck_assert_str_eq(got.name, "big");
        ck_assert_str_eq(got.role, roles[i]);
        if (i < 2) { /* a leaf that is the same is not read again */
            ck_assert(got.unreadable);
            ck_assert_str_eq(got.detail, "cannot be read");
        }
        set_poison(db, bad - 1, false);
        mix_ask(&o, db);
        for (unsigned p = 1; p <= o.count; p++) {
            owner_of_sqlite_page(map, p, &got);
            ck_assert_msg(!o.pages[p].role[0] ||
                              (got.name && strcmp(got.name, o.pages[p].name) == 0 &&
                               strcmp(got.role, o.pages[p].role) == 0),
                          "page %u with page %u unreadable", p, bad);
        }
        mix_forget(&o);
        owner_map_release(map);
        check_owners(db, db, "readable again");
    }
    dax_close(other);
    dax_close(db);
}
END_TEST

START_TEST(below_an_unreadable_page_nothing_is_guessed)
{
    char sql[300];
    sqlite3 *db = big_database(0);
    unsigned bad = find_page(db, "big", "interior"), leaf = find_page(db, "big", "leaf");
    dax_close(db);
    db = dax_open("big"); /* no map is left */
    set_poison(db, bad - 1, true);
    snprintf(sql, sizeof sql,
             "SELECT o ->> '$.name', o ->> '$.role', o ->> '$.readable', o ->> '$.detail' FROM"
             " (SELECT dax_owner_sqlite(%u) -> '$.owners[0]' AS o)",
             bad);
    EXPECT(db, sql, "big|interior|0|cannot be read");
    snprintf(sql, sizeof sql,
             "SELECT o ->> '$.name', o ->> '$.role', o ->> '$.readable', o ->> '$.below' = %u,"
             " o ->> '$.detail' FROM (SELECT dax_owner_sqlite(%u) -> '$.owners[0]' AS o)",
             bad, leaf);
    char want[300];
    snprintf(want, sizeof want,
             "NULL|unknown|1|1|unknown below page %u (interior of \"big\"), which cannot be read",
             bad);
    EXPECT(db, sql, want);
    snprintf(sql, sizeof sql, "SELECT owner, type, role, flags FROM dax_pages WHERE page = %u",
             bad - 1);
    ck_assert_ptr_nonnull(strstr(ask(db, sql), "big|table|interior|poisoned"));
    EXPECT(db, "SELECT count(*) > 100 FROM dax_pages WHERE role = 'unknown' AND owner IS NULL",
           "1");
    /* The page becomes whole, without a commit. */
    set_poison(db, bad - 1, false);
    EXPECT(db, "SELECT count(*) FROM dax_pages WHERE role = 'unknown'", "0");
    check_owners(db, db, "readable again");
    dax_close(db);
}
END_TEST

START_TEST(below_an_unreadable_page_the_pointer_map_answers)
{
    sqlite3 *db = big_database(2);
    unsigned bad = find_page(db, "big", "interior"), chain = find_page(db, "long", "overflow");
    struct mix_oracle o;
    mix_ask(&o, db);
    dax_close(db);
    db = dax_open("big");
    set_poison(db, bad - 1, true);
    set_poison(db, chain - 1, true);
    struct owner_map *map = map_of(db);
    for (unsigned p = 1; p <= o.count; p++) {
        struct owner got;
        owner_of_sqlite_page(map, p, &got);
        ck_assert_msg(!o.pages[p].role[0] || (got.name && strcmp(got.name, o.pages[p].name) == 0 &&
                                              strcmp(got.role, o.pages[p].role) == 0),
                      "page %u (%s) with pages %u and %u unreadable", p, got.detail, bad, chain);
    }
    owner_map_release(map);
    set_poison(db, bad - 1, false);
    set_poison(db, chain - 1, false);
    mix_forget(&o);
    dax_close(db);
}
END_TEST

START_TEST(an_unreadable_first_page_is_the_schema)
{
    sqlite3 *db = big_database(0);
    dax_close(db);
    db = dax_open("big");
    set_poison(db, 0, true);
    EXPECT(db,
           "SELECT o ->> '$.page', o ->> '$.name', o ->> '$.role', o ->> '$.readable',"
           " o ->> '$.detail' FROM (SELECT dax_owner(0) -> '$.owners[0]' AS o)",
           "1|sqlite_schema|root|0|page 1 cannot be read");
    EXPECT(db, "SELECT dax_owner(5) ->> '$.owners[0].role', dax_owner(5) ->> '$.owners[0].detail'",
           "unknown|page 1 cannot be read");
    set_poison(db, 0, false);
    EXPECT(db, "SELECT dax_owner(0) ->> '$.owners[0].readable'", "1");
    check_owners(db, db, "readable again");
    /* With a map before, everything is known. */
    set_poison(db, 0, true);
    EXPECT(db, "SELECT count(*) FROM dax_pages WHERE role = 'unknown'", "0");
    set_poison(db, 0, false);
    dax_close(db);
}
END_TEST

START_TEST(owners_are_known_where_sqlite_calls_the_schema_malformed)
{
    sqlite3 *db = big_database(0);
    struct mix_oracle o;
    mix_ask(&o, db);
    dax_close(db);
    const char *path = unit_path("big.db");
    static uint8_t first[4096];
    FILE *f = fopen(path, "r+");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fread(first, 1, sizeof first, f), sizeof first);
    uint8_t *sql = memmem(first, sizeof first, "CREATE TABLE long", 17);
    ck_assert_ptr_nonnull(sql);
    ck_assert_int_eq(fseek(f, sql - first, SEEK_SET), 0);
    ck_assert_int_eq(fputs("CRXATE", f) < 0, 0);
    fclose(f);
    db = dax_open("big");
    expect_error(db, "SELECT count(*) FROM big", SQLITE_CORRUPT, "malformed database schema");
    for (unsigned p = 1; p <= o.count; p += 10) {
        char ask_owner[200];
        snprintf(ask_owner, sizeof ask_owner,
                 "SELECT ifnull(dax_owner_sqlite(%u) ->> '$.owners[0].name', '')", p);
        EXPECT(db, ask_owner, o.pages[p].name);
    }
    mix_forget(&o);
    dax_close(db);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        owners_are_those_of_dbstat_after_any_ddl_and_dml,
        a_transaction_sees_the_state_that_it_began_with,
        an_old_snapshot_has_its_own_owners,
        owners_are_right_while_other_threads_write_and_ask,
        json_has_every_documented_member_in_order,
        small_pages_share_an_engine_page_and_large_ones_span_several,
        pages_walks_trees_only_for_the_columns_of_owners,
        owners_of_an_attached_and_of_an_empty_database,
        a_walk_ends_when_the_connection_is_interrupted,
        below_an_unreadable_page_the_map_before_still_answers,
        below_an_unreadable_page_nothing_is_guessed,
        below_an_unreadable_page_the_pointer_map_answers,
        an_unreadable_first_page_is_the_schema,
        owners_are_known_where_sqlite_calls_the_schema_malformed,
    };
    seed = mix_seed();
    Suite *suite = suite_create("owner map");
    TCase *tcase = tcase_create("owner map");
    tcase_set_timeout(tcase, 600);
    tcase_add_checked_fixture(tcase, setup, NULL);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    return unit_main(suite);
}
