/* test_media_reports.c: a media error is said once, by the statement, a log line and the callback, and stands
 * in dax_errors.
 *
 * Catches: an entry that is named or reported twice, or not at all; an error that stops what does not need
 * the page; a callback that is called within itself, or after it was taken away; an SQLite code that the
 * host does not know.
 */
#include <semaphore.h>
#include <time.h>

#include "tests/unit/media_said.h"
#include "vfs/vfs.h"

/* --- the statement, the line, the callback -------------------------------------------------------- */

START_TEST(the_statement_fails_is_logged_once_and_everything_else_goes_on)
{
    static const int versions[] = {3042000, 3043000};
    sqlite3 *db = orders_database("t", 0), *other = dax_open("t");
    uint64_t page = find_page(db, "orders", "leaf");
    int code = _i ? IOERR_IN_PAGE : IOERR_DATA;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    fake_version = versions[_i];
    log_text[0] = '\0';
    add_to(other, page);
    ck_assert_str_eq(ask(db, "SELECT sum(length(b)) FROM orders NOT INDEXED"),
                     "ERROR: disk I/O error");
    ck_assert_int_eq(sqlite3_extended_errcode(db), code);
    ck_assert_uint_eq(call_count, 1);
    ck_assert_uint_eq(media_lines, 1);
    ck_assert_int_eq(media_code, code);
    char want[1000], phrase[100];
    snprintf(phrase, sizeof phrase, "table \"orders\", leaf page %llu",
             (unsigned long long)page + 1);
    snprintf(want, sizeof want,
             "daxlite: %s/t.db: media error (poison) in page %llu: %s; the statement that needs it "
             "fails, "
             "everything else goes on; see dax_errors and SELECT dax_repair(%llu)",
             unit_dir, (unsigned long long)page, phrase, (unsigned long long)page);
    ck_assert_msg(strstr(log_text, strlen(want) > 209 ? phrase : want), "%s", log_text);
    const struct call *c = &calls[0];
    snprintf(want, sizeof want, "%s/t.db", unit_dir);
    ck_assert_str_eq(c->path, want);
    ck_assert_uint_eq(c->size, sizeof(struct daxlite_media_error));
    ck_assert_uint_eq(c->page, page);
    ck_assert_uint_eq(c->bytes, 4096);
    ck_assert_uint_eq(c->id, (uint64_t)number(db, "SELECT id FROM dax_errors"));
    ck_assert_str_eq(c->part, "database");
    ck_assert_str_eq(c->kind, "poison");
    ck_assert_str_eq(c->type, "table");
    ck_assert_str_eq(c->object, "orders");
    ck_assert_str_eq(c->role, "leaf");
    ck_assert_str_eq(c->status, "quarantined");
    ck_assert_str_eq(c->detail, phrase);
    ck_assert_ptr_eq(c->arg, calls);
    ck_assert_int_ge(c->time_us, (long long)now.tv_sec * 1000000);
    ck_assert_int_lt(c->time_us, ((long long)now.tv_sec + 600) * 1000000);
    ck_assert(pthread_equal(c->thread, pthread_self()));
    /* One line: the failing read itself has named it, and says no more. (The end of the read would have
     * done so as well, behind the engine's line.) */
    ck_assert_ptr_eq(strstr(log_text, "daxlite: "), strrstr(log_text, "daxlite: "));
    /* Again: the engine's line, not ours. */
    EXPECT(other, "SELECT sum(length(b)) FROM orders NOT INDEXED", "ERROR: disk I/O error");
    ck_assert_uint_eq(call_count, 1);
    ck_assert_uint_eq(media_lines, 1);
    ck_assert_ptr_ne(strstr(log_text, "daxlite: "), strrstr(log_text, "daxlite: "));
    EXPECT(db, "SELECT count(*), sum(a) FROM small", "1|42");
    EXPECT(db, "SELECT count(*) FROM orders INDEXED BY orders_b WHERE b > ''", "30000");
    EXPECT(db, "SELECT count(*) FROM docs WHERE docs MATCH 'x77'", "1");
    run(db, "INSERT INTO small VALUES(1)");
    dax_close(other);
    dax_close(db);
}
END_TEST

START_TEST(a_connection_that_copies_gets_the_same_error)
{
    sqlite3 *db = orders_database("t", 0);
    uint64_t page = find_page(db, "orders", "leaf");
    dax_close(db);
    db = dax_open_with("t", "&dax_zero_copy=off");
    add_to(db, page);
    EXPECT(db, "SELECT sum(length(b)) FROM orders NOT INDEXED", "ERROR: disk I/O error");
    ck_assert_int_eq(sqlite3_extended_errcode(db) & 0xff, SQLITE_IOERR);
    ck_assert_uint_eq(call_count, 1);
    EXPECT(db, "SELECT sum(a) FROM small", "42");
    EXPECT(db,
           "SELECT dax_status() ->> '$.counters.reads_pinned_base',"
           " dax_status() ->> '$.counters.reads_pinned_frame'",
           "0|0");
    dax_close(db);
}
END_TEST

/* Entries that no statement has met, made through a connection that SQLite knows nothing of. */
START_TEST(errors_are_named_at_every_cheap_place)
{
    sqlite3 *db = orders_database("t", 0);
    uint64_t leaves[5];
    for (unsigned k = 0; k < 5; k++)
        leaves[k] = nth_page(db, "orders", "leaf", k);
    struct conn *raw;
    struct dax_options options = dax_options_default();
    char path[400];
    snprintf(path, sizeof path, "%s/t.db", unit_dir);
    unit_ok(conn_open(path, &options, &raw, &err));

    add(raw, MEDIA_BASE, leaves[0], MEDIA_POISON, "");
    sqlite3 *second = dax_open("t");
    ck_assert_uint_eq(call_count, 1); /* open */

    add(raw, MEDIA_BASE, leaves[1], MEDIA_POISON, "");
    EXPECT(second, "SELECT sum(a) FROM small", "42");
    ck_assert_uint_eq(call_count, 2); /* end of a read */

    add(raw, MEDIA_BASE, leaves[2], MEDIA_POISON, "");
    dax_close(second);
    ck_assert_uint_eq(call_count, 3); /* close */

    run(db, "BEGIN; SELECT a FROM small");
    add(raw, MEDIA_BASE, leaves[3], MEDIA_POISON, "");
    ck_assert_int_eq(sqlite3_exec(db, "SELECT dax_checkpoint('passive')", NULL, NULL, NULL),
                     SQLITE_OK);
    ck_assert_uint_eq(call_count, 4); /* checkpoint */
    run(db, "COMMIT");

    run(db, "PRAGMA locking_mode=EXCLUSIVE; BEGIN IMMEDIATE; INSERT INTO small VALUES(7)");
    add(raw, MEDIA_BASE, leaves[4], MEDIA_POISON, "");
    ck_assert_uint_eq(call_count, 4);
    run(db, "COMMIT");                /* keeps its locks */
    ck_assert_uint_eq(call_count, 5); /* commit */
    ck_assert_uint_eq(media_lines, 5);
    dax_close(db);
    unit_ok(conn_close(raw, &err));
}
END_TEST

static void *scan_orders(void *arg)
{
    for (int i = 0; i < 20; i++) {
        sqlite3_exec(arg, "SELECT sum(length(b)) FROM orders NOT INDEXED", NULL, NULL, NULL);
        sqlite3_exec(arg, "SELECT sum(a) FROM small", NULL, NULL, NULL);
    }
    return NULL;
}

START_TEST(an_entry_is_named_and_reported_once_whatever_many_threads_do)
{
    sqlite3 *db = orders_database("t", 0);
    enum {
        COUNT = 30
    };
    uint64_t leaves[COUNT];
    for (unsigned k = 0; k < COUNT; k++)
        leaves[k] = nth_page(db, "orders", "leaf", k);
    dax_close(db);
    db = dax_open("t");
    pthread_t threads[4];
    sqlite3 *dbs[4];
    for (int i = 0; i < 4; i++)
        dbs[i] = dax_open("t");
    for (unsigned k = 0; k < COUNT; k++)
        add_to(db, leaves[k]);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, scan_orders, dbs[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(call_count, COUNT);
    ck_assert_uint_eq(media_lines, COUNT);
    for (unsigned k = 0; k < COUNT; k++) {
        unsigned times = 0;
        for (unsigned i = 0; i < COUNT; i++)
            times += calls[i].page == leaves[k];
        ck_assert_uint_eq(times, 1);
    }
    for (int i = 0; i < 4; i++)
        dax_close(dbs[i]);
    dax_close(db);
}
END_TEST

/* --- the callback ----------------------------------------------------------------------------------- */

static struct {
    sqlite3 *db; /* another connection */
    uint64_t pages[21];
    unsigned next, last;
    unsigned depth, deepest, count;
    bool remove;
} nest;

static void on_error_more(void *arg, const struct daxlite_media_error *e)
{
    (void)arg, (void)e;
    nest.count++;
    if (++nest.depth > nest.deepest)
        nest.deepest = nest.depth;
    if (nest.next < nest.last) {
        add_to(nest.db, nest.pages[nest.next++]);
        /* (ask() is at work further up) */
        run(nest.db, "SELECT sum(a) FROM small");
        const char *sql = "SELECT sum(length(b)) FROM orders NOT INDEXED";
        ck_assert_int_eq(sqlite3_exec(nest.db, sql, NULL, NULL, NULL), SQLITE_IOERR);
    }
    if (nest.remove)
        daxlite_media_callback(NULL, NULL);
    nest.depth--;
}

START_TEST(what_the_callback_meets_is_delivered_after_it)
{
    sqlite3 *db = orders_database("t", 0);
    nest.db = orders_database("u", 0);
    for (unsigned k = 0; k < 21; k++)
        nest.pages[k] = nth_page(nest.db, "orders", "leaf", k);
    nest.last = 20;
    uint64_t leaf = find_page(db, "orders", "leaf"), second = nth_page(db, "orders", "leaf", 1);
    daxlite_media_callback(on_error_more, NULL);
    add_to(db, leaf);
    EXPECT(db, "SELECT sum(a) FROM small", "42");
    ck_assert_uint_eq(nest.count, 21);
    ck_assert_uint_eq(nest.deepest, 1);
    /* Taken away from within, while more is waiting. */
    nest.last = 21;
    nest.remove = true;
    add_to(db, second);
    EXPECT(db, "SELECT sum(a) FROM small", "42");
    ck_assert_uint_eq(nest.count, 22);
    EXPECT(nest.db, "SELECT count(*) FROM dax_errors WHERE object = 'orders'", "21");
    dax_close(nest.db);
    dax_close(db);
}
END_TEST

static struct {
    sem_t entered, go_on;
    _Atomic bool over, removed;
} slow;

static void on_error_slow(void *arg, const struct daxlite_media_error *e)
{
    (void)arg, (void)e;
    sem_post(&slow.entered);
    sem_wait(&slow.go_on);
    /* Time for a removal that does not wait to show itself. */
    for (int i = 0; i < 50 && !atomic_load(&slow.removed); i++)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    atomic_store(&slow.over, true);
}

static void *meet_an_error(void *arg)
{
    EXPECT(arg, "SELECT sum(a) FROM small", "42");
    return NULL;
}

static void *remove_callback(void *arg)
{
    daxlite_media_callback(NULL, NULL);
    *(bool *)arg = atomic_load(&slow.over);
    atomic_store(&slow.removed, true);
    return NULL;
}

START_TEST(a_callback_that_was_taken_away_is_not_running)
{
    sqlite3 *db = orders_database("t", 0);
    uint64_t leaf = find_page(db, "orders", "leaf");
    pthread_t meets, removes;
    bool was_over = false;
    sem_init(&slow.entered, 0, 0);
    sem_init(&slow.go_on, 0, 0);
    daxlite_media_callback(on_error_slow, NULL);
    add_to(db, leaf);
    ck_assert_int_eq(pthread_create(&meets, NULL, meet_an_error, db), 0);
    sem_wait(&slow.entered);
    /* In a child the call of that thread is gone: nothing to wait for. */
    pid_t pid = fork();
    if (pid == 0) {
        alarm(60);
        daxlite_media_callback(NULL, NULL);
        daxlite_media_callback(on_error, NULL);
        _exit(0);
    }
    ck_assert_int_eq(unit_wait(pid), 0);
    ck_assert_int_eq(pthread_create(&removes, NULL, remove_callback, &was_over), 0);
    sem_post(&slow.go_on);
    pthread_join(removes, NULL);
    pthread_join(meets, NULL);
    ck_assert(was_over);
    dax_close(db);
}
END_TEST

/* --- the table and the status ---------------------------------------------------------------------- */

START_TEST(the_table_has_its_documented_columns_and_takes_a_schema)
{
    sqlite3 *db = orders_database("t", 0);
    EXPECT(db, "SELECT group_concat(name) FROM pragma_table_info('dax_errors')",
           "id,time,page,bytes,part,kind,type,object,role,status,changed,detail");
    EXPECT(db, "SELECT count(*) FROM dax_errors", "0");
    add(vfs_conn_of(db, "main"), MEDIA_BASE, find_page(db, "small", "root"), MEDIA_DAMAGED, "seen");
    EXPECT(db,
           "SELECT time GLOB '20[0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]."
           "[0-9][0-9][0-9]Z', changed = time,"
           " abs(julianday(time) - julianday('now')) < 0.1 FROM dax_errors",
           "1|1|1");
    EXPECT(db,
           "SELECT kind, object, detail LIKE 'seen; table \"small\", root page %' FROM dax_errors",
           "damaged|small|1");
    EXPECT(db, "SELECT count(*) FROM dax_errors WHERE status = 'quarantined' AND rowid = id", "1");
    char sql[600];
    snprintf(sql, sizeof sql, "ATTACH 'file:%s/other.db?vfs=dax' AS other; ATTACH ':memory:' AS m",
             unit_dir);
    run(db, sql);
    run(db, "CREATE TABLE other.u(a)");
    EXPECT(db, "SELECT count(*) FROM dax_errors('other')", "0");
    add(vfs_conn_of(db, "other"), MEDIA_BASE, 1, MEDIA_IO, "");
    EXPECT(db, "SELECT object, schema FROM dax_errors('other')", "u|other");
    EXPECT(db, "SELECT object FROM dax_errors WHERE schema = 'main'", "small");
    EXPECT(db,
           "SELECT s.column1, object FROM (VALUES('main'), ('other')) s, dax_errors(s.column1)"
           " ORDER BY 1",
           "main|small other|u");
    const char *text = ask(db, "SELECT * FROM dax_errors('m')");
    ck_assert_msg(strstr(text, "ERROR: dax_errors: database \"m\" is not open through"), "%s",
                  text);
    text = ask(db, "SELECT * FROM dax_errors('nope')");
    ck_assert_msg(strstr(text, "no such database: \"nope\""), "%s", text);
    EXPECT(db,
           "SELECT dax_status() -> '$.media' = json_object('errors_open', 1, 'errors_total', 1,"
           " 'repaired', 0, 'cleared', 0, 'lost', 0, 'newest', 'damaged in page 3: ' || (SELECT "
           "detail FROM dax_errors)),"
           " dax_status('other') ->> '$.media.errors_open'",
           "1|1");
    dax_close(db);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("media reports");
    TCase *tc = said_case("media reports");
    tcase_add_loop_test(tc, the_statement_fails_is_logged_once_and_everything_else_goes_on, 0, 2);
    tcase_add_test(tc, a_connection_that_copies_gets_the_same_error);
    tcase_add_test(tc, errors_are_named_at_every_cheap_place);
    tcase_add_test(tc, an_entry_is_named_and_reported_once_whatever_many_threads_do);
    tcase_add_test(tc, what_the_callback_meets_is_delivered_after_it);
    tcase_add_test(tc, a_callback_that_was_taken_away_is_not_running);
    tcase_add_test(tc, the_table_has_its_documented_columns_and_takes_a_schema);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
