/* test_page_cache_sql.c: SQLite itself over daxlite's page cache: the same statements give the same
 * answers as over SQLite's own cache.
 *
 * Random statements on two connections of one database and on an attached one in memory: rows
 * inserted, changed and deleted, with indexes, overflow pages, temporary tables, savepoints,
 * rollbacks, VACUUM and auto-vacuum (which renumbers pages), in caches of few pages, so that
 * changed pages are spilled and pages come and go. Every answer goes into a hash; one run with each
 * cache. The database is then read by stock SQLite and checked.
 *
 * Would catch: what test_page_cache.c would, where SQLite notices; and what SQLite wants of a cache
 * that its documentation does not say.
 */
#include <sqlite3.h>

#include "include/daxlite.h"
#include "tests/seed.h"
#include "tests/unit/unit.h"
#include "vfs/memory.h"

enum {
    STATEMENTS = 1000
};

struct run {
    sqlite3 *db[2];
    bool alone; /* the second connection does nothing */
    uint64_t random;
    uint64_t hash; /* of all answers */
};

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static void hash_bytes(struct run *run, const void *data, size_t bytes)
{
    const unsigned char *at = data;
    for (size_t i = 0; i < bytes; i++)
        run->hash = (run->hash ^ at[i]) * UINT64_C(0x100000001B3);
}

static int hash_row(void *arg, int columns, char **values, char **names)
{
    (void)names;
    for (int i = 0; i < columns; i++)
        hash_bytes(arg, values[i] ? values[i] : "NULL", values[i] ? strlen(values[i]) + 1 : 4);
    return 0;
}

static int sql(struct run *run, int which, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = sqlite3_vmprintf(format, arguments);
    va_end(arguments);
    int rc = sqlite3_exec(run->db[which], text, hash_row, run, NULL);
    hash_bytes(run, &rc, sizeof rc);
    if (rc != SQLITE_OK && rc != SQLITE_BUSY && rc != SQLITE_LOCKED && rc != SQLITE_CONSTRAINT &&
        rc != SQLITE_ERROR)
        ck_abort_msg("%s: %s", text, sqlite3_errmsg(run->db[which]));
    sqlite3_free(text);
    return rc;
}

static const char fill_text[] =
    "WITH RECURSIVE n(i) AS (VALUES (%u) UNION ALL SELECT i + 1 FROM n WHERE i < %u)"
    " INSERT OR REPLACE INTO %s SELECT i, i * 7919 %% 1000, printf('%%.*c%%d', %u, 'x', i) FROM n";

static const char *const tables[] = {"t", "u", "mem.m", "temp.x"};

static void step(struct run *run)
{
    uint64_t r = next_random(&run->random);
    int which = r % 5 == 0 && !run->alone;
    const char *table = tables[(r >> 8) % (which ? 2 : 4)];
    unsigned from = (unsigned)(r >> 16) % 3000, many = (unsigned)(r >> 30) % 300;
    unsigned length = (r >> 44) % 16 ? (unsigned)(r >> 48) % 300 : (unsigned)(r >> 48) % 30000;
    switch ((r >> 40) % 15) {
    case 0:
    case 1:
        sql(run, which, fill_text, from, from + (length > 300 ? 5 : many), table, length);
        break;
    case 2:
        sql(run, which, "UPDATE %s SET b = b || 'y', a = a + 1 WHERE id BETWEEN %u AND %u", table,
            from, from + many);
        break;
    case 3:
        sql(run, which, "DELETE FROM %s WHERE id BETWEEN %u AND %u", table, from, from + many);
        break;
    case 4: sql(run, which, "SELECT count(*), sum(a), sum(length(b)) FROM %s", table); break;
    case 5: sql(run, which, "SELECT id, b FROM %s WHERE a = %u", table, from % 1000); break;
    case 6:
        sql(run, which, "SELECT count(*), sum(t.a) FROM t, u WHERE t.a = u.a AND u.id > %u", from);
        break;
    case 7: sql(run, which, (r >> 50) % 2 ? "BEGIN" : "BEGIN IMMEDIATE"); break;
    case 8: sql(run, which, (r >> 50) % 4 ? "COMMIT" : "ROLLBACK"); break;
    case 9: sql(run, which, "SAVEPOINT s"); break;
    case 10: sql(run, which, (r >> 50) % 2 ? "RELEASE s" : "ROLLBACK TO s"); break;
    case 11:
        sql(run, which, "SELECT a, count(*), max(b) FROM %s GROUP BY a ORDER BY 2", table);
        break;
    case 12: sql(run, which, "PRAGMA cache_size = %u", 3 + many / 10); break;
    case 13:
        if (many < 20)
            sql(run, which, "VACUUM");
        else if (many < 60)
            sql(run, which, "PRAGMA incremental_vacuum(20)");
        else if (many < 80)
            sqlite3_db_release_memory(run->db[which]);
        else if (many < 100)
            daxlite_page_cache_shrink();
        break;
    default: sql(run, which, "SELECT b FROM %s WHERE id = %u", table, from); break;
    }
}

static const char schema_text[] =
    "PRAGMA page_size = %u; PRAGMA auto_vacuum = %u;"
    "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b); CREATE INDEX ta ON t(a, b);"
    "CREATE TABLE u(id INTEGER PRIMARY KEY, a, b); CREATE INDEX ua ON u(a);"
    "ATTACH ':memory:' AS mem; CREATE TABLE mem.m(id INTEGER PRIMARY KEY, a, b);"
    "CREATE INDEX mem.ma ON m(a);"
    "CREATE TEMP TABLE x(id INTEGER PRIMARY KEY, a, b); CREATE INDEX temp.xa ON x(a);";

/* All statements; the hash of their answers. */
static uint64_t run_all(const char *uri, unsigned variant)
{
    struct run run = {.random = test_seed_given() * 100 + variant, .hash = 1};
    /* When a cache spills, stock SQLite locks its readers out: that shows in the answers. */
    run.alone = !strstr(uri, "vfs=dax");
    ck_assert_int_eq(daxlite_register(0), SQLITE_OK);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(
            sqlite3_open_v2(uri, &run.db[i],
                            SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, NULL),
            SQLITE_OK);
        sql(&run, i, "PRAGMA cache_size = 5");
    }
    sql(&run, 0, schema_text, variant % 2 ? 4096 : 1024, variant % 3);
    for (unsigned i = 0; i < STATEMENTS; i++)
        step(&run);
    for (int i = 0; i < 2; i++) {
        sql(&run, i, "ROLLBACK");
        sql(&run, i, "PRAGMA integrity_check");
    }
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(sqlite3_close(run.db[i]), SQLITE_OK);
    return run.hash;
}

static void check_with_stock(const char *path)
{
    struct run run = {.hash = 1};
    ck_assert_int_eq(sqlite3_open(path, &run.db[0]), SQLITE_OK);
    sqlite3_stmt *stmt = NULL;
    ck_assert_int_eq(sqlite3_prepare_v2(run.db[0], "PRAGMA integrity_check", -1, &stmt, NULL),
                     SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(stmt), SQLITE_ROW);
    ck_assert_str_eq((const char *)sqlite3_column_text(stmt, 0), "ok");
    sqlite3_finalize(stmt);
    sqlite3_close(run.db[0]);
}

static const char *const databases[] = {
    "file:%s?vfs=dax",
    "file:%s?vfs=dax&dax_zero_copy=off",
    "file:%s?vfs=dax&dax_private_size=256k",
    "file:%s",
};

START_TEST(test_the_same_answers_as_with_sqlites_cache)
{
    unsigned variant = (unsigned)_i;
    char uri[2][600];
    uint64_t hash[2];
    printf("seed %llu\n", (unsigned long long)test_seed_given());
    for (unsigned i = 0; i < 2; i++)
        snprintf(uri[i], sizeof uri[i], databases[variant % 4],
                 unit_path(i ? "ours.db" : "stock.db"));
    hash[0] = run_all(uri[0], variant);
    ck_assert_int_eq(sqlite3_shutdown(), SQLITE_OK);

    struct daxlite_config config = DAXLITE_CONFIG_DEFAULT;
    config.allocator = memory_is_jemalloc();
    config.page_cache_limit = variant / 4 % 2 ? 100 << 10 : 0;
    const char *why;
    ck_assert_msg(daxlite_initialize(&config, &why) == SQLITE_OK, "%s", why);
    hash[1] = run_all(uri[1], variant);
    struct daxlite_memory memory = {.size = sizeof memory};
    ck_assert_int_eq(daxlite_memory_status(&memory), SQLITE_OK);
    ck_assert_uint_gt(memory.hits, 1000);
    ck_assert_uint_gt(memory.evictions, 100);
    ck_assert_msg(daxlite_shutdown(&why) == SQLITE_OK, "%s", why);
    ck_assert_int_eq(daxlite_memory_status(&memory), SQLITE_OK);
    ck_assert_uint_eq(memory.page_cache_allocated, 0);

    ck_assert_msg(hash[0] == hash[1], "answers differ");
    check_with_stock(unit_path("ours.db"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("SQLite over the page cache");
    TCase *tc = tcase_create("SQLite over the page cache");
    tcase_set_timeout(tc, 900);
    tcase_add_checked_fixture(tc, unit_setup, NULL);
    tcase_add_loop_test(tc, test_the_same_answers_as_with_sqlites_cache, 0, 12);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
