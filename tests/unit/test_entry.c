/* test_entry.c: daxlite.so as SQLite loads it.
 *
 * Catches: an extension that is unloaded with the connection that brought it, a pool's second load
 * that fails or makes the VFS wrap itself, a jump through the function table of an SQLite that is too
 * old or of another copy of SQLite, a default VFS that nobody asked for.
 */
#include <check.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SQLITE_CORE 1 /* call SQLite itself, not through a table */
#include <sqlite3.h>
#include <sqlite3ext.h>

#include "include/daxlite.h"

typedef int (*entry_fn)(sqlite3 *db, char **err_out, const sqlite3_api_routines *host);

static const sqlite3_api_routines *host_api; /* of the SQLite that this program links */
static entry_fn entry, entry_default;

static int capture_api(sqlite3 *db, char **err_out, const sqlite3_api_routines *api)
{
    (void)db, (void)err_out;
    host_api = api;
    return SQLITE_OK;
}

static sqlite3 *open_memory(void)
{
    sqlite3 *db;
    ck_assert_int_eq(sqlite3_open(":memory:", &db), SQLITE_OK);
    return db;
}

static void setup(void)
{
    sqlite3_auto_extension((void (*)(void))capture_api);
    sqlite3_close(open_memory());
    sqlite3_cancel_auto_extension((void (*)(void))capture_api);
    ck_assert_ptr_nonnull(host_api);
    void *library = dlopen(DAXLITE_EXTENSION_PATH, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(library != NULL, "%s", dlerror());
    void *symbols[] = {dlsym(library, "sqlite3_daxlite_init"),
                       dlsym(library, "sqlite3_daxlitedefault_init")};
    ck_assert(symbols[0] && symbols[1]);
    memcpy(&entry, &symbols[0], sizeof entry);
    memcpy(&entry_default, &symbols[1], sizeof entry_default);
    dlclose(library);
}

/* Through SQLite's loader, which takes the path without the suffix. */
static void load(sqlite3 *db, const char *entry_point)
{
    char path[sizeof DAXLITE_EXTENSION_PATH] = DAXLITE_EXTENSION_PATH;
    char *message = NULL;
    path[strlen(path) - strlen(".so")] = 0;
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, NULL);
    int rc = sqlite3_load_extension(db, path, entry_point, &message);
    ck_assert_msg(rc == SQLITE_OK, "%s: %s", path, message);
}

static void expect_version(sqlite3 *db)
{
    sqlite3_stmt *stmt;
    ck_assert_int_eq(sqlite3_prepare_v2(db, "SELECT dax_version()", -1, &stmt, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(stmt), SQLITE_ROW);
    ck_assert_str_eq((const char *)sqlite3_column_text(stmt, 0), DAXLITE_VERSION);
    sqlite3_finalize(stmt);
}

START_TEST(extension_outlives_the_connection_that_loaded_it)
{
    sqlite3 *db = open_memory();
    load(db, NULL);
    expect_version(db); /* the loading connection has the functions, too */
    sqlite3_close(db);
    ck_assert_ptr_nonnull(sqlite3_vfs_find("dax"));
    ck_assert_str_ne(sqlite3_vfs_find(NULL)->zName, "dax");
    db = open_memory();
    expect_version(db);
    sqlite3_close(db);
}
END_TEST

START_TEST(extension_can_be_loaded_by_every_connection_of_a_pool)
{
    sqlite3 *first = open_memory(), *second = open_memory();
    load(first, NULL);
    sqlite3_vfs *vfs = sqlite3_vfs_find("dax");
    int file_bytes = vfs->szOsFile;
    load(first, NULL);
    load(second, NULL);
    load(second, "sqlite3_daxlite_init");
    ck_assert_ptr_eq(sqlite3_vfs_find("dax"), vfs);
    ck_assert_int_eq(vfs->szOsFile, file_bytes);
    expect_version(first);
    expect_version(second);
    sqlite3_close(first);
    sqlite3_close(second);
}
END_TEST

START_TEST(extension_can_be_loaded_from_sql_that_is_running)
{
    sqlite3 *db = open_memory();
    load(db, NULL);
    sqlite3_enable_load_extension(db, 1);
    char *message = NULL;
    int rc = sqlite3_exec(db, "SELECT load_extension('" DAXLITE_EXTENSION_PATH "')", NULL, NULL,
                          &message);
    ck_assert_msg(rc == SQLITE_OK, "%s", message);
    expect_version(db);
    sqlite3_close(db);
}
END_TEST

static void *load_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20; i++) {
        sqlite3 *db = open_memory();
        load(db, NULL);
        expect_version(db);
        sqlite3_close(db);
    }
    return NULL;
}

START_TEST(extension_can_be_loaded_by_threads_at_once)
{
    pthread_t threads[4];
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, load_many, NULL), 0);
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++)
        pthread_join(threads[i], NULL);
}
END_TEST

START_TEST(extension_default_entry_makes_it_the_default_vfs)
{
    sqlite3 *db = open_memory();
    load(db, NULL);
    load(db, "sqlite3_daxlitedefault_init");
    ck_assert_str_eq(sqlite3_vfs_find(NULL)->zName, "dax");
    load(db, "sqlite3_daxlitedefault_init");
    load(db, NULL);
    ck_assert_str_eq(sqlite3_vfs_find(NULL)->zName, "dax");
    sqlite3_close(db);
    db = open_memory(); /* not a file: works under any default */
    expect_version(db);
    sqlite3_close(db);
}
END_TEST

static int old_version_number(void)
{
    return 3030001;
}

static const char *old_version(void)
{
    return "3.30.1";
}

START_TEST(extension_refuses_an_older_sqlite)
{
    sqlite3_api_routines old = *host_api;
    old.libversion_number = old_version_number;
    old.libversion = old_version;
    sqlite3 *db = open_memory();
    char *message = NULL;
    ck_assert_int_eq(entry(db, &message, &old), SQLITE_ERROR);
    ck_assert_str_eq(message,
                     "daxlite " DAXLITE_VERSION " needs SQLite 3.31.0 or newer; this is 3.30.1");
    sqlite3_free(message);
    ck_assert_int_eq(entry_default(db, NULL, &old), SQLITE_ERROR);
    ck_assert_ptr_null(sqlite3_vfs_find("dax"));
    load(db, NULL); /* the refusal has left nothing behind */
    sqlite3_close(db);
}
END_TEST

START_TEST(extension_refuses_a_second_copy_of_sqlite)
{
    sqlite3_api_routines other = *host_api;
    sqlite3 *db = open_memory();
    char *message = NULL;
    ck_assert_int_eq(entry(db, NULL, host_api), SQLITE_OK_LOAD_PERMANENTLY);
    ck_assert_int_eq(entry(db, &message, &other), SQLITE_ERROR);
    ck_assert_msg(strstr(message, "already in use by another copy of SQLite"), "%s", message);
    sqlite3_free(message);
    ck_assert_int_eq(entry(db, NULL, host_api), SQLITE_OK_LOAD_PERMANENTLY);
    expect_version(db);
    sqlite3_close(db);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("entry");
    TCase *tcase = tcase_create("entry");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, extension_outlives_the_connection_that_loaded_it);
    tcase_add_test(tcase, extension_can_be_loaded_by_every_connection_of_a_pool);
    tcase_add_test(tcase, extension_can_be_loaded_from_sql_that_is_running);
    tcase_add_test(tcase, extension_can_be_loaded_by_threads_at_once);
    tcase_add_test(tcase, extension_default_entry_makes_it_the_default_vfs);
    tcase_add_test(tcase, extension_refuses_an_older_sqlite);
    tcase_add_test(tcase, extension_refuses_a_second_copy_of_sqlite);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
