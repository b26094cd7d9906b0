/* test_initialize.c: daxlite_initialize and daxlite_shutdown: the order of calls, each refusal and
 * what it says; the example of daxlite.h and docs/memory.md.
 *
 * Would catch: a call that comes too late and is accepted, or refused without saying what to do; a
 * refused call that leaves something behind; settings of the program that are not put back; sizes
 * of blocks that are not the allocator's; memory or pages that a shutdown leaves; a switch that
 * does nothing; figures of dax_status() and of the C call that differ.
 */
#include <malloc.h>
#include <sqlite3.h>

#include "include/daxlite.h"
#include "tests/unit/unit.h"
#include "vfs/heap.h"
#include "vfs/memory.h"
#include "vfs/page_cache.h"

/* Sanitized builds have no jemalloc. */
static struct daxlite_config config_here(void)
{
    struct daxlite_config config = DAXLITE_CONFIG_DEFAULT;
    config.allocator = memory_is_jemalloc();
    return config;
}

static void says(const char *why, const char *part)
{
    ck_assert_msg(strstr(why, part) != NULL, "\"%s\" does not say \"%s\"", why, part);
}

static void initialize(struct daxlite_config config)
{
    const char *why = NULL;
    int rc = daxlite_initialize(&config, &why);
    ck_assert_msg(rc == SQLITE_OK, "%d: %s", rc, why);
    ck_assert_str_eq(why, "");
}

static struct daxlite_memory memory(void)
{
    struct daxlite_memory m = {.size = sizeof m};
    ck_assert_int_eq(daxlite_memory_status(&m), SQLITE_OK);
    return m;
}

static sqlite3 *open_dax(void)
{
    char uri[600];
    sqlite3 *db = NULL;
    ck_assert_int_eq(daxlite_register(0), SQLITE_OK);
    snprintf(uri, sizeof uri, "file:%s?vfs=dax", unit_path("app.db"));
    ck_assert_int_eq(sqlite3_open_v2(uri, &db,
                                     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
                                     NULL),
                     SQLITE_OK);
    return db;
}

static void sql(sqlite3 *db, const char *text)
{
    char *error = NULL;
    int rc = sqlite3_exec(db, text, NULL, NULL, &error);
    ck_assert_msg(rc == SQLITE_OK, "%s: %s", text, error ? error : "?");
}

static sqlite3_int64 number(sqlite3 *db, const char *text)
{
    sqlite3_stmt *stmt = NULL;
    ck_assert_int_eq(sqlite3_prepare_v2(db, text, -1, &stmt, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(stmt), SQLITE_ROW);
    sqlite3_int64 value = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return value;
}

static void fill(sqlite3 *db)
{
    sql(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB);"
            "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 2000)"
            " INSERT INTO t SELECT i, randomblob(500) FROM n;");
}

/* --- the order of calls
 * ---------------------------------------------------------------------------- */

START_TEST(test_too_late_once_sqlite_runs)
{
    const char *why = NULL;
    struct daxlite_config config = config_here();
    ck_assert_int_eq(sqlite3_initialize(), SQLITE_OK);
    ck_assert_int_eq(daxlite_initialize(&config, &why), SQLITE_MISUSE);
    says(why, "must come before SQLite starts");
    says(why, "sqlite3_shutdown()");
    ck_assert_int_eq(daxlite_initialize(&config, NULL), SQLITE_MISUSE);
    /* Nothing has changed. */
    ck_assert_int_eq(memory().page_cache, 0);
    sqlite3 *db = open_dax();
    fill(db);
    ck_assert_uint_eq(memory().caches, 0);
    sqlite3_close(db);
    /* The way out that it names. */
    ck_assert_int_eq(sqlite3_shutdown(), SQLITE_OK);
    initialize(config);
    db = open_dax();
    ck_assert_uint_gt(memory().caches, 0);
    ck_assert_int_eq(number(db, "SELECT count(*) FROM t"), 2000);
    sqlite3_close(db);
}
END_TEST

START_TEST(test_registering_or_opening_starts_sqlite)
{
    const char *why = NULL;
    struct daxlite_config config = config_here();
    if (_i == 0)
        ck_assert_int_eq(daxlite_register(0), SQLITE_OK);
    else
        sqlite3_free(sqlite3_malloc(8));
    ck_assert_int_eq(daxlite_initialize(&config, &why), SQLITE_MISUSE);
    says(why, "must come before SQLite starts");
}
END_TEST

START_TEST(test_not_twice)
{
    const char *why = NULL;
    struct daxlite_config config = config_here();
    initialize(config);
    ck_assert_int_eq(daxlite_initialize(&config, &why), SQLITE_MISUSE);
    says(why, "called before");
    ck_assert_int_eq(sqlite3_initialize(), SQLITE_OK);
    ck_assert_int_eq(daxlite_initialize(&config, &why), SQLITE_MISUSE);
    says(why, "daxlite_shutdown()");
}
END_TEST

START_TEST(test_shutdown_only_after_initialize_and_with_nothing_open)
{
    const char *why = NULL;
    ck_assert_int_eq(daxlite_shutdown(&why), SQLITE_MISUSE);
    says(why, "without daxlite_initialize()");
    initialize(config_here());
    sqlite3 *db = open_dax();
    fill(db);
    ck_assert_int_eq(daxlite_shutdown(&why), SQLITE_BUSY);
    says(why, "close all of them");
    ck_assert_int_eq(number(db, "SELECT count(*) FROM t"), 2000); /* nothing has happened to it */
    sqlite3_close(db);
    ck_assert_int_eq(daxlite_shutdown(&why), SQLITE_OK);
    ck_assert_str_eq(why, "");
    ck_assert_int_eq(daxlite_shutdown(NULL), SQLITE_MISUSE);
    ck_assert_uint_eq(memory().page_cache_allocated, 0);
}
END_TEST

/* An open file counts, also where SQLite has its own page cache. */
START_TEST(test_shutdown_sees_open_files_without_its_page_cache)
{
    const char *why = NULL;
    struct daxlite_config config = config_here();
    config.page_cache = 0;
    initialize(config);
    sqlite3 *db = open_dax();
    sql(db, "CREATE TABLE t(x)");
    ck_assert_uint_eq(memory().caches, 0);
    ck_assert_int_eq(daxlite_shutdown(&why), SQLITE_BUSY);
    sqlite3_close(db);
    ck_assert_int_eq(daxlite_shutdown(&why), SQLITE_OK);
}
END_TEST

START_TEST(test_a_struct_of_another_version)
{
    const char *why = NULL;
    struct {
        struct daxlite_config config;
        long more;
    } newer = {config_here(), 0};
    struct daxlite_config wrong = config_here();
    wrong.size = 0;
    ck_assert_int_eq(daxlite_initialize(&wrong, &why), SQLITE_MISUSE);
    says(why, "DAXLITE_CONFIG_DEFAULT");
    newer.config.size = sizeof newer;
    ck_assert_int_eq(daxlite_initialize(&newer.config, &why), SQLITE_MISUSE);
    says(why, "newer than libdaxlite");
    /* One that ends before the last field. */
    struct daxlite_config older = config_here();
    older.page_cache_limit = 12345;
    older.size = offsetof(struct daxlite_config, page_cache_limit);
    initialize(older);
    ck_assert_uint_eq(memory().page_cache_limit, 0);
    struct daxlite_memory m = {0};
    ck_assert_int_eq(daxlite_memory_status(&m), SQLITE_MISUSE);
    ck_assert_int_eq(daxlite_memory_status(NULL), SQLITE_MISUSE);
}
END_TEST

START_TEST(test_without_jemalloc_its_allocator_is_refused)
{
    const char *why = NULL;
    int rc = daxlite_initialize(NULL, &why);
    if (memory_is_jemalloc()) {
        ck_assert_int_eq(rc, SQLITE_OK);
        says(memory().allocator, "jemalloc");
        ck_assert_int_eq(memory().heap, 1);
        ck_assert_uint_gt(memory().process_resident, 0);
    } else {
        ck_assert_int_eq(rc, SQLITE_ERROR);
        says(why, "without jemalloc");
        ck_assert_str_eq(memory().allocator, "libc");
        ck_assert_int_eq(memory().page_cache, 0);
    }
}
END_TEST

/* --- what is installed
 * ------------------------------------------------------------------------------ */

static int calls_of_mine;

static void *count_malloc(int bytes)
{
    calls_of_mine++;
    return malloc((size_t)bytes);
}

static int count_size(void *block)
{
    return (int)malloc_usable_size(block);
}

static void *count_realloc(void *block, int bytes)
{
    return realloc(block, (size_t)bytes);
}

static int count_roundup(int bytes)
{
    return bytes;
}

static int count_init(void *arg)
{
    (void)arg;
    return SQLITE_OK;
}

static void count_shutdown(void *arg)
{
    (void)arg;
}

START_TEST(test_shutdown_puts_back_what_the_program_had)
{
    sqlite3_mem_methods mine = {count_malloc,  free,       count_realloc,  count_size,
                                count_roundup, count_init, count_shutdown, NULL};
    ck_assert_int_eq(sqlite3_config(SQLITE_CONFIG_MALLOC, &mine), SQLITE_OK);
    for (int round = 0; round < 3; round++) {
        struct daxlite_config config = config_here();
        config.page_cache_limit = 1 << 20;
        initialize(config);
        int before = calls_of_mine;
        sqlite3 *db = open_dax();
        if (round == 0)
            fill(db);
        ck_assert_int_eq(number(db, "SELECT count(*) FROM t"), 2000);
        sqlite3_close(db);
        if (config.allocator)
            ck_assert_int_eq(calls_of_mine, before);
        ck_assert_int_eq(daxlite_shutdown(NULL), SQLITE_OK);
        ck_assert_uint_eq(memory().page_cache_limit, 0);
        before = calls_of_mine;
        db = open_dax();
        ck_assert_int_eq(number(db, "SELECT count(*) FROM t"), 2000);
        ck_assert_uint_eq(memory().caches, 0);
        sqlite3_close(db);
        ck_assert_int_gt(calls_of_mine, before);
        ck_assert_int_eq(sqlite3_shutdown(), SQLITE_OK);
    }
}
END_TEST

START_TEST(test_switches)
{
    struct daxlite_config config = config_here();
    config.page_cache = (_i & 1) != 0;
    config.allocator = memory_is_jemalloc() && (_i & 2);
    config.memory_status = (_i & 4) != 0;
    initialize(config);
    sqlite3 *db = open_dax();
    fill(db);
    sql(db, "UPDATE t SET v = randomblob(400) WHERE id % 3 = 0");
    struct daxlite_memory m = memory();
    ck_assert_int_eq(m.page_cache, config.page_cache);
    ck_assert_int_eq(m.heap, config.allocator);
    ck_assert_int_eq(m.pages > 0, config.page_cache);
    ck_assert_int_eq(sqlite3_memory_used() > 0, config.memory_status);
    ck_assert_int_eq(number(db, "SELECT count(*) FROM t"), 2000);
    sqlite3_close(db);
    ck_assert_int_eq(daxlite_shutdown(NULL), SQLITE_OK);
}
END_TEST

/* What SQLite is told of blocks is what jemalloc gives. */
START_TEST(test_sizes_of_blocks_are_those_of_jemalloc)
{
    if (!memory_is_jemalloc())
        return;
    const sqlite3_mem_methods *heap = &heap_methods;
    ck_assert_int_eq(heap->xInit(NULL), SQLITE_OK);
    for (int bytes = 1; bytes < 3000000; bytes += bytes < 5000 ? 1 : bytes / 37) {
        char *block = heap->xMalloc(bytes);
        int size = heap->xSize(block);
        if (!block || (uintptr_t)block % 8 || size < bytes || size != heap->xRoundup(bytes) ||
            memory_bytes(block - 8) != (size_t)size + 8)
            ck_abort_msg("a block of %d bytes: size %d, rounded %d", bytes, size,
                         heap->xRoundup(bytes));
        memset(block, bytes, (size_t)size);
        char *larger = heap->xRealloc(block, heap->xRoundup(bytes + bytes / 3 + 1));
        if (!larger || larger[bytes - 1] != (char)bytes || heap->xSize(larger) <= bytes)
            ck_abort_msg("a block of %d bytes made larger", bytes);
        heap->xFree(larger);
    }
    heap->xShutdown(NULL);
}
END_TEST

START_TEST(test_the_limit_and_shrinking)
{
    struct daxlite_config config = config_here();
    config.page_cache_limit = 400 << 10;
    initialize(config);
    sqlite3 *db = open_dax();
    fill(db);
    sql(db, "PRAGMA mmap_size = 0");
    ck_assert_int_eq(number(db, "SELECT sum(length(v)) FROM t"), 2000 * 500);
    ck_assert_uint_le(memory().page_cache_used, 400 << 10);
    ck_assert_uint_eq(daxlite_page_cache_limit(-1), 400 << 10);
    ck_assert_uint_eq(daxlite_page_cache_limit(0), 400 << 10);
    ck_assert_uint_eq(memory().page_cache_limit, 0);
    ck_assert_int_eq(number(db, "SELECT sum(length(v)) FROM t"), 2000 * 500);
    uint64_t used = memory().page_cache_used, allocated = memory().page_cache_allocated;
    ck_assert_uint_gt(used, 1 << 20);
    uint64_t gone = daxlite_page_cache_shrink();
    ck_assert_uint_eq(memory().page_cache_allocated, allocated - gone);
    ck_assert_uint_lt(memory().page_cache_used, used / 4);
    ck_assert_uint_eq(memory().pages_in_use, 0);
    ck_assert_int_eq(number(db, "SELECT sum(length(v)) FROM t"), 2000 * 500);
    sqlite3_db_release_memory(db);
    ck_assert_uint_lt(memory().page_cache_used, used / 4);
    sqlite3_close(db);
}
END_TEST

START_TEST(test_dax_status_shows_the_same)
{
    initialize(config_here());
    sqlite3 *db = open_dax();
    fill(db);
    ck_assert_int_eq(number(db, "SELECT dax_status() ->> '$.memory.page_cache.caches'"),
                     (sqlite3_int64)memory().caches);
    ck_assert_int_eq(number(db, "SELECT dax_status() ->> '$.memory.heap'"), memory().heap);
    ck_assert_int_eq(number(db, "SELECT dax_status() ->> '$.memory.page_cache.pages' > 0"
                                " AND dax_status() ->> '$.memory.page_cache.used' > 4096"
                                " AND dax_status() ->> '$.memory.page_cache.hits' > 0"),
                     1);
    ck_assert_int_eq(
        number(db, "SELECT count(*) FROM json_each(dax_status(), '$.memory.page_cache')"), 12);
    sqlite3_close(db);
}
END_TEST

/* --- the example of docs/memory.md
 * ------------------------------------------------------------------- */

static int example(const char *path)
{
    /* example: begin */
    const char *why;
    struct daxlite_config config = DAXLITE_CONFIG_DEFAULT;
    config.page_cache_limit = 64 << 20; /* for all connections together */
    if (daxlite_initialize(&config, &why) != SQLITE_OK) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    sqlite3 *db;
    if (daxlite_register(0) != SQLITE_OK ||
        sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
                        NULL) != SQLITE_OK)
        return 1;

    /* ... */

    struct daxlite_memory memory = {.size = sizeof memory};
    if (daxlite_memory_status(&memory) == SQLITE_OK)
        printf("%llu pages, %llu bytes\n", memory.pages, memory.page_cache_used);
    sqlite3_close(db);
    return daxlite_shutdown(&why) == SQLITE_OK ? 0 : 1;
    /* example: end */
}

/* The example as it is printed: the lines of docs/memory.md are those above. */
START_TEST(test_the_example_is_that_of_the_docs)
{
    FILE *source = fopen(DAXLITE_SOURCE_DIR "/tests/unit/test_initialize.c", "r");
    FILE *docs = fopen(DAXLITE_SOURCE_DIR "/docs/memory.md", "r");
    char line[300], there[300];
    ck_assert(source && docs);
    while (fgets(line, sizeof line, source) && !strstr(line, "/* example: begin */"))
        ;
    while (fgets(there, sizeof there, docs) && !strstr(there, "```c"))
        ;
    int lines = 0;
    while (fgets(line, sizeof line, source) && !strstr(line, "/* example: end */")) {
        ck_assert_ptr_nonnull(fgets(there, sizeof there, docs));
        ck_assert_str_eq(line[0] == '\n' ? line : line + 4, there);
        lines++;
    }
    ck_assert_int_gt(lines, 15);
    fclose(source);
    fclose(docs);
}
END_TEST

START_TEST(test_the_example_works)
{
    if (!memory_is_jemalloc())
        return;
    char uri[600];
    snprintf(uri, sizeof uri, "file:%s?vfs=dax", unit_path("app.db"));
    ck_assert_int_eq(example(uri), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("initialize");
    TCase *tc = tcase_create("initialize");
    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, unit_setup, NULL);
    tcase_add_test(tc, test_too_late_once_sqlite_runs);
    tcase_add_loop_test(tc, test_registering_or_opening_starts_sqlite, 0, 2);
    tcase_add_test(tc, test_not_twice);
    tcase_add_test(tc, test_shutdown_only_after_initialize_and_with_nothing_open);
    tcase_add_test(tc, test_shutdown_sees_open_files_without_its_page_cache);
    tcase_add_test(tc, test_a_struct_of_another_version);
    tcase_add_test(tc, test_without_jemalloc_its_allocator_is_refused);
    tcase_add_test(tc, test_shutdown_puts_back_what_the_program_had);
    tcase_add_loop_test(tc, test_switches, 0, 8);
    tcase_add_test(tc, test_sizes_of_blocks_are_those_of_jemalloc);
    tcase_add_test(tc, test_the_limit_and_shrinking);
    tcase_add_test(tc, test_dax_status_shows_the_same);
    tcase_add_test(tc, test_the_example_is_that_of_the_docs);
    tcase_add_test(tc, test_the_example_works);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
