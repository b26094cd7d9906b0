/* test_scrub.c: dax_scrub() reads every page, finds what is bad, and is in nobody's way.
 *
 * Catches: a page that is left out, of the database or of the sidecar; a fault in the scrub's own thread
 * that kills the process; a scrub that cannot be interrupted, stopped, or slowed down; a thread that
 * outlives the last connection, or keeps the store open; one that keeps a snapshot between two pieces,
 * takes a signal that belongs to the application, or is believed to run in a child process.
 */
#include <dirent.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <time.h>

#include "engine/media.h"
#include "include/daxlite.h"
#include "tests/unit/unit.h"
#include "vfs/vfs.h"

static struct dax_err err;

static void setup(void)
{
    unit_setup();
    ck_assert_int_eq(daxlite_register(0), SQLITE_OK);
}

/* --- helpers ---------------------------------------------------------------------------------- */

static sqlite3 *open_db(const char *name)
{
    char uri[600];
    sqlite3 *db;
    snprintf(uri, sizeof uri, "file:%s?vfs=dax", unit_path(name));
    int rc = sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
                             NULL);
    ck_assert_msg(rc == SQLITE_OK, "%s: %s", uri, sqlite3_errmsg(db));
    sqlite3_busy_timeout(db, 10000);
    return db;
}

static void run(sqlite3 *db, const char *sql)
{
    char *message = NULL;
    int rc = sqlite3_exec(db, sql, NULL, NULL, &message);
    ck_assert_msg(rc == SQLITE_OK, "%s: %s", sql, message);
}

static const char *ask(sqlite3 *db, const char *sql)
{
    static char answers[8][8000];
    static unsigned turn;
    char *out = answers[turn++ % 8];
    sqlite3_stmt *stmt;
    snprintf(out, sizeof answers[0], "nothing");
    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(stmt, 0);
        snprintf(out, sizeof answers[0], "%s", text ? text : "NULL");
    }
    if (sqlite3_finalize(stmt) != SQLITE_OK || sqlite3_errcode(db) != SQLITE_OK)
        snprintf(out, sizeof answers[0], "ERROR %d: %s", sqlite3_errcode(db), sqlite3_errmsg(db));
    return out;
}

static long long number(sqlite3 *db, const char *sql)
{
    const char *text = ask(db, sql);
    ck_assert_msg(text[0] >= '0' && text[0] <= '9', "%s: %s", sql, text);
    return atoll(text);
}

static long long status(sqlite3 *db, const char *member)
{
    char sql[100];
    snprintf(sql, sizeof sql, "SELECT dax_status() ->> '$.%s'", member);
    return number(db, sql);
}

/* Until the scrub has done so much; the test's own time limit ends a wait for ever. */
static void wait_for(sqlite3 *db, const char *member, long long least)
{
    while (status(db, member) < least)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
}

/* About a thousand pages. */
static sqlite3 *make_db(void)
{
    sqlite3 *db = open_db("t.db");
    run(db, "CREATE TABLE t(a INTEGER PRIMARY KEY, b);"
            "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)"
            " INSERT INTO t SELECT i, zeroblob(3500) FROM n; PRAGMA wal_checkpoint(truncate)");
    return db;
}

static void damage(sqlite3 *db, uint64_t page)
{
    unit_ok(conn_media_add(vfs_conn_of(db, "main"), MEDIA_BASE, page, MEDIA_DAMAGED, "by the test",
                           &err));
}

static unsigned entries(sqlite3 *db, enum media_part part, enum media_kind kind)
{
    static struct media_entry all[4096];
    size_t n = conn_media_list(vfs_conn_of(db, "main"), all, 4096);
    unsigned count = 0;
    for (size_t i = 0; i < n && i < 4096; i++)
        count += all[i].part == part && all[i].kind == kind;
    return count;
}

/* The file's last bytes are gone, as if another process had cut it. Pages that the processor still has
 * in its tables go with them. */
static void cut_file(uint64_t to_bytes)
{
    ck_assert_int_eq(truncate(unit_path("t.db"), (off_t)to_bytes), 0);
}

/* --- now -------------------------------------------------------------------------------------- */

START_TEST(every_page_of_database_and_sidecar_is_read)
{
    sqlite3 *db = make_db();
    long long pages = number(db, "PRAGMA page_count"), sidecar = status(db, "bytes.sidecar") / 4096;
    ck_assert_int_gt(pages, 900);
    ck_assert_int_gt(sidecar, 0);
    char want[200];
    snprintf(want, sizeof want,
             "{\"schema\":\"main\",\"pages\":%lld,\"sidecar_pages\":%lld,\"bytes\":%lld,\"bad\":0}",
             pages + sidecar, sidecar, (pages + sidecar) * 4096);
    ck_assert_str_eq(ask(db, "SELECT dax_scrub()"), want);
    damage(db, 3);
    damage(db, (uint64_t)pages - 1);
    ck_assert_int_eq(number(db, "SELECT dax_scrub() ->> '$.bad'"), 2);
    ck_assert_int_eq(number(db, "SELECT dax_scrub(NULL, 'main') ->> '$.bad'"), 2);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

START_TEST(a_part_of_a_page_counts_as_one)
{
    sqlite3 *db = open_db("t.db");
    run(db, "PRAGMA page_size=1024; CREATE TABLE t(a); INSERT INTO t VALUES(zeroblob(4000))");
    long long bytes = status(db, "bytes.database"), sidecar = status(db, "bytes.sidecar") / 4096;
    ck_assert_int_ne(bytes % 4096, 0);
    ck_assert_int_eq(number(db, "SELECT dax_scrub() ->> '$.pages'"),
                     (bytes + 4095) / 4096 + sidecar);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

START_TEST(a_file_that_was_cut_is_found)
{
    sqlite3 *db = make_db();
    long long size = number(db, "PRAGMA page_count") * 4096;
    cut_file((uint64_t)size - 40 * 4096);
    ck_assert_int_gt(number(db, "SELECT dax_scrub() ->> '$.bad'"), 0);
    ck_assert_uint_gt(entries(db, MEDIA_BASE, MEDIA_TRUNCATED), 0);
    ck_assert_str_eq(ask(db, "SELECT count(b) FROM t WHERE a < 500"), "499");
    ck_assert_ptr_nonnull(strstr(ask(db, "SELECT sum(length(b)) FROM t"), "ERROR 10"));
    sqlite3_close(db);
}
END_TEST

static int interrupt_at_once(void *arg)
{
    (*(int *)arg)++;
    return 1;
}

START_TEST(it_can_be_interrupted)
{
    sqlite3 *db = make_db();
    sqlite3_stmt *stmt;
    int calls = 0;
    ck_assert_int_eq(sqlite3_prepare_v2(db, "SELECT dax_scrub()", -1, &stmt, NULL), SQLITE_OK);
    sqlite3_progress_handler(db, 20, interrupt_at_once, &calls);
    ck_assert_int_eq(sqlite3_step(stmt), SQLITE_INTERRUPT);
    ck_assert_int_gt(calls, 0);
    sqlite3_finalize(stmt);
    sqlite3_progress_handler(db, 0, NULL, NULL);
    ck_assert_int_eq(number(db, "SELECT dax_scrub() ->> '$.bad'"), 0);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

START_TEST(within_a_transaction_the_snapshot_stays)
{
    sqlite3 *db = make_db(), *other = open_db("t.db");
    run(db, "BEGIN");
    ck_assert_int_eq(number(db, "SELECT count(*) FROM t"), 1000);
    run(other, "DELETE FROM t WHERE a > 10");
    ck_assert_int_eq(number(db, "SELECT dax_scrub() ->> '$.bad'"), 0);
    ck_assert_int_eq(number(db, "SELECT count(*) FROM t"), 1000);
    run(db, "COMMIT");
    ck_assert_int_eq(number(db, "SELECT count(*) FROM t"), 10);
    ck_assert_int_eq(sqlite3_close(other), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

/* --- in the background ------------------------------------------------------------------------ */

START_TEST(rounds_follow_each_other_and_count_what_is_bad)
{
    sqlite3 *db = make_db();
    ck_assert_str_eq(ask(db, "SELECT dax_status() ->> '$.scrub'"),
                     "{\"running\":false,\"pages_per_second\":0,\"page\":0,\"pages\":0,\"bad\":0,"
                     "\"bad_before\":0,\"rounds\":0,\"read\":0}");
    long long all = number(db, "SELECT dax_scrub() ->> '$.pages'");
    ck_assert_str_eq(ask(db, "SELECT dax_scrub(1000000) ->> '$.scrub.running'"), "1");
    wait_for(db, "scrub.rounds", 2);
    ck_assert_int_eq(status(db, "scrub.bad_before"), 0);
    ck_assert_int_eq(status(db, "scrub.pages"), all);
    ck_assert_int_ge(status(db, "scrub.read"), 2 * all);
    damage(db, 700);
    damage(db, 7);
    wait_for(db, "scrub.rounds", status(db, "scrub.rounds") + 2);
    ck_assert_int_eq(status(db, "scrub.bad_before"), 2);
    ck_assert_str_eq(ask(db, "SELECT dax_scrub(0) ->> '$.scrub.running'"), "0");
    long long rounds = status(db, "scrub.rounds"), read = status(db, "scrub.read");
    run(db, "CREATE TABLE more(a)");
    ck_assert_int_eq(status(db, "scrub.rounds"), rounds);
    ck_assert_int_eq(status(db, "scrub.read"), read);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

START_TEST(a_second_call_changes_the_rate_of_the_one_thread)
{
    sqlite3 *db = make_db(), *other = open_db("t.db");
    long long before = status(db, "connections");
    ck_assert_int_eq(number(db, "SELECT dax_scrub(1) ->> '$.scrub.pages_per_second'"), 1);
    ck_assert_int_eq(status(db, "connections"), before + 1);
    ck_assert_int_eq(number(other, "SELECT dax_scrub(2000000) ->> '$.scrub.pages_per_second'"),
                     2000000);
    ck_assert_int_eq(status(db, "connections"), before + 1);
    wait_for(db, "scrub.rounds", 1);
    ck_assert_str_eq(ask(other, "SELECT dax_scrub(0) ->> '$.scrub.running'"), "0");
    ck_assert_int_eq(status(db, "connections"), before);
    ck_assert_str_eq(ask(other, "SELECT dax_scrub(0) ->> '$.scrub.running'"), "0");
    ck_assert_int_eq(sqlite3_close(other), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

START_TEST(the_last_close_ends_the_thread_and_leaves_a_plain_database)
{
    sqlite3 *db = make_db(), *other = open_db("t.db");
    ck_assert_str_eq(ask(db, "SELECT dax_scrub(500000) ->> '$.scrub.running'"), "1");
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    wait_for(other, "scrub.rounds", 1);
    ck_assert_str_eq(ask(other, "SELECT dax_status() ->> '$.scrub.running'"), "1");
    ck_assert_int_eq(sqlite3_close(other), SQLITE_OK);
    sqlite3 *plain;
    ck_assert_int_eq(sqlite3_open_v2(unit_path("t.db"), &plain, SQLITE_OPEN_READWRITE, "unix"),
                     SQLITE_OK);
    ck_assert_str_eq(ask(plain, "PRAGMA integrity_check"), "ok");
    run(plain, "INSERT INTO t VALUES(5000, 1)");
    ck_assert_int_eq(sqlite3_close(plain), SQLITE_OK);
    db = open_db("t.db");
    ck_assert_str_eq(ask(db, "SELECT dax_status() ->> '$.scrub.running'"), "0");
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

START_TEST(between_two_pieces_it_holds_no_snapshot)
{
    sqlite3 *db = make_db();
    ck_assert_str_eq(ask(db, "SELECT dax_scrub(1) ->> '$.scrub.running'"), "1");
    wait_for(db, "scrub.read", 1);
    long long read;
    do { /* no piece has begun or ended meanwhile */
        read = status(db, "scrub.read");
        ck_assert(status(db, "snapshots") == 0 || status(db, "scrub.read") != read);
    } while (status(db, "scrub.read") != read);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

START_TEST(writers_and_checkpoints_go_on_while_it_runs)
{
    sqlite3 *db = make_db();
    ck_assert_str_eq(ask(db, "SELECT dax_scrub(2000000) ->> '$.scrub.running'"), "1");
    for (int i = 0; i < 300; i++) {
        run(db, "UPDATE t SET b = zeroblob(3400) WHERE a % 50 = 7; DELETE FROM t WHERE a = 900;"
                "INSERT INTO t VALUES(900, zeroblob(3500))");
        ck_assert_str_eq(ask(db, "SELECT dax_checkpoint('full') ->> '$.log_after'"), "0");
    }
    wait_for(db, "scrub.rounds", 2);
    ck_assert_int_eq(status(db, "scrub.bad"), 0);
    ck_assert_str_eq(ask(db, "PRAGMA integrity_check"), "ok");
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

START_TEST(a_fault_in_the_thread_is_an_entry)
{
    sqlite3 *db = make_db();
    long long size = number(db, "PRAGMA page_count") * 4096;
    ck_assert_str_eq(ask(db, "SELECT dax_scrub(100) ->> '$.scrub.running'"), "1");
    cut_file((uint64_t)size - 20 * 4096);
    ck_assert_str_eq(ask(db, "SELECT dax_scrub(1000000) ->> '$.scrub.running'"), "1");
    wait_for(db, "scrub.rounds", status(db, "scrub.rounds") + 2);
    ck_assert_int_gt(status(db, "scrub.bad_before"), 0);
    ck_assert_uint_gt(entries(db, MEDIA_BASE, MEDIA_TRUNCATED), 0);
    sqlite3_close(db);
}
END_TEST

/* The signals that each thread but the first blocks. */
static unsigned long long thread_mask(void)
{
    unsigned long long mask = 0;
    unsigned threads = 0;
    DIR *tasks = opendir("/proc/self/task");
    ck_assert_ptr_nonnull(tasks);
    for (struct dirent *d; (d = readdir(tasks));) {
        char path[300], line[200];
        if (d->d_name[0] == '.' || atoi(d->d_name) == getpid())
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", d->d_name);
        FILE *f = fopen(path, "r");
        while (f && fgets(line, sizeof line, f))
            threads += sscanf(line, "SigBlk: %llx", &mask) == 1;
        if (f)
            fclose(f);
    }
    closedir(tasks);
    ck_assert_uint_eq(threads, 1);
    return mask;
}

START_TEST(signals_of_the_application_are_left_to_it)
{
    static const int own[] = {SIGBUS, SIGSEGV, SIGILL, SIGFPE};
    static const int others[] = {SIGINT, SIGTERM, SIGUSR1, SIGCHLD, SIGALRM, SIGHUP};
    sqlite3 *db = make_db();
    ck_assert_str_eq(ask(db, "SELECT dax_scrub(10) ->> '$.scrub.running'"), "1");
    wait_for(db, "scrub.read", 1); /* a thread begins with everything blocked */
    unsigned long long mask = thread_mask();
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        ck_assert_msg(!(mask >> (own[i] - 1) & 1), "signal %d is blocked", own[i]);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        ck_assert_msg(mask >> (others[i] - 1) & 1, "signal %d is not blocked", others[i]);
    sigset_t mine;
    sigprocmask(SIG_BLOCK, NULL, &mine);
    ck_assert(!sigismember(&mine, SIGUSR1));
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

START_TEST(a_child_after_fork_has_none)
{
    sqlite3 *db = make_db();
    ck_assert_str_eq(ask(db, "SELECT dax_scrub(500000) ->> '$.scrub.running'"), "1");
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        /* The connection is the parent's; what is asked of it must end, and the thread is not. */
        bool none = strstr(ask(db, "SELECT dax_status()"), "\"scrub\":{\"running\":false") != NULL;
        bool refused = strncmp(ask(db, "SELECT dax_scrub(5)"), "ERROR", 5) == 0;
        sqlite3_close(db);
        _exit(none && refused ? 0 : none ? 2 : 3);
    }
    ck_assert_int_eq(unit_wait(pid), 0);
    wait_for(db, "scrub.rounds", status(db, "scrub.rounds") + 1);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

START_TEST(wrong_arguments_are_named)
{
    sqlite3 *db = make_db();
    ck_assert_str_eq(ask(db, "SELECT dax_scrub(-1)"),
                     "ERROR 1: dax_scrub: the rate is a number of pages per second; 0 stops");
    ck_assert_str_eq(ask(db, "SELECT dax_scrub('fast')"),
                     "ERROR 1: dax_scrub: the rate is a number of pages per second; 0 stops");
    ck_assert_str_eq(ask(db, "SELECT dax_scrub(5, 'aux')"),
                     "ERROR 1: dax_scrub: no such database: \"aux\"");
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("scrub");
    TCase *tc = tcase_create("scrub");
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, every_page_of_database_and_sidecar_is_read);
    tcase_add_test(tc, a_part_of_a_page_counts_as_one);
    tcase_add_test(tc, a_file_that_was_cut_is_found);
    tcase_add_test(tc, it_can_be_interrupted);
    tcase_add_test(tc, within_a_transaction_the_snapshot_stays);
    tcase_add_test(tc, rounds_follow_each_other_and_count_what_is_bad);
    tcase_add_test(tc, a_second_call_changes_the_rate_of_the_one_thread);
    tcase_add_test(tc, the_last_close_ends_the_thread_and_leaves_a_plain_database);
    tcase_add_test(tc, between_two_pieces_it_holds_no_snapshot);
    tcase_add_test(tc, writers_and_checkpoints_go_on_while_it_runs);
    tcase_add_test(tc, a_fault_in_the_thread_is_an_entry);
#if defined(__SANITIZE_THREAD__)
    bool own_thread = true; /* of the sanitizer */
#else
    bool own_thread = false;
#endif
    if (!own_thread)
        tcase_add_test(tc, signals_of_the_application_are_left_to_it);
    tcase_add_test(tc, a_child_after_fork_has_none);
    tcase_add_test(tc, wrong_arguments_are_named);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
