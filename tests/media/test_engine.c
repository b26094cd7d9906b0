/* test_engine.c: pages that go bad under the engine: who is told, who is not, and how they come back.
 *
 * Catches: a bad page that is served, or that stops anything but itself; a commit that fails, or is
 * lost, because base cannot be stored to; an old snapshot that is shown a newer version because its own
 * was lost; a rewritten page that stays flagged, or one that is not rewritten; recovery that drops what
 * only the log has; a process that dies of a page of which there is a copy; media errors that are
 * forgotten. (test_engine_repair.c: repairs, and files that are cut; test_engine_sidecar.c: the log, and
 * what is libpmemobj's.)
 */
#include <pthread.h>
#include <sys/wait.h>

#include "tests/media/engine.h"

/* --- reading -------------------------------------------------------------------------------------- */

static const struct {
    unsigned ways;
    enum media_kind kind;
} ways[] = {{BAD_MAPPED | BAD_READ, MEDIA_POISON}, {BAD_MAPPED, MEDIA_SIGBUS}};

START_TEST(a_bad_page_is_an_error_of_its_own_readers)
{
    const char *path = unit_path("app.db");
    struct conn *c = made(path);
    bad_page_add(path, 7, ways[_i].ways);
    bool copies = _i; /* who meets it first: a copy, or the probe of a pin */
    db_ok(conn_begin_read(c, &err));
    uint8_t buf[DAX_PAGE_BYTES];
    void *at;
    if (copies)
        unit_fails(conn_read(c, buf, sizeof buf, 7 * DB_PAGE, &err), DAX_IO_MEDIA, "page 7");
    else
        unit_fails(conn_pin(c, 7 * DB_PAGE, DAX_PAGE_BYTES, &at, &err), DAX_IO_MEDIA, "page 7");
    conn_end_read(c);
    struct media_entry e = entry_of(c, 7);
    ck_assert_uint_eq(e.kind, ways[_i].kind);
    ck_assert_uint_eq(e.status, MEDIA_QUARANTINED);
    ck_assert_uint_eq(e.page, 7);
    ck_assert_uint_eq(e.bytes, DAX_PAGE_BYTES);
    ck_assert(conn_media_unnamed(c));
    ck_assert(poisoned(c, 7));
    refuses(c, 7);
    ck_assert_uint_eq(entries(c), 1);
    others_are_well(c, 7, 1);
    bad_page_remove(path, 7);
    refuses(c, 7); /* quarantined is quarantined */
    db_close(c);
}
END_TEST

START_TEST(a_page_is_probed_once_before_it_is_handed_out)
{
    const char *path = unit_path("app.db");
    struct conn *c = made(path);
    struct page_info info;
    db_ok(conn_begin_read(c, &err));
    db_unpin(c, 5, db_pin(c, 5));
    conn_page_info(c, 5, &info);
    ck_assert(info.probed);
    conn_page_info(c, 6, &info);
    ck_assert(!info.probed);
    /* A copy is guarded: it needs no probe. */
    db_check(c, 6, 1);
    conn_page_info(c, 6, &info);
    ck_assert(!info.probed);
    conn_end_read(c);
    db_close(c);
}
END_TEST

/* What the page was before it was cut off says nothing of the block that it gets when it comes back. */
START_TEST(a_page_that_was_cut_off_and_comes_back_is_probed_again)
{
    const char *path = unit_path("app.db");
    struct conn *c = made(path);
    struct page_info info;
    void *at;
    db_write(c, PAGES, 1100, 1);
    db_ok(conn_begin_read(c, &err));
    db_unpin(c, 1090, db_pin(c, 1090));
    conn_page_info(c, 1090, &info);
    ck_assert(info.probed);
    conn_end_read(c);
    db_shrink(c, PAGES);
    db_checkpoint(c, CHECKPOINT_TRUNCATE);
    db_write(c, PAGES, 1100, 2);
    conn_page_info(c, 1090, &info);
    ck_assert(info.state == PAGE_MAPPED && !info.probed);
    bad_page_add(path, 1090, EVERY_WAY);
    db_ok(conn_begin_read(c, &err));
    unit_fails(conn_pin(c, 1090 * DB_PAGE, DAX_PAGE_BYTES, &at, &err), DAX_IO_MEDIA, "page 1090");
    db_unpin(c, 1089, db_pin(c, 1089));
    conn_end_read(c);
    db_close(c);
}
END_TEST

START_TEST(without_the_probe_nothing_is_looked_at)
{
    struct dax_options o = db_options();
    struct conn *c;
    struct page_info info;
    o.no_probe = true;
    db_ok(conn_open(unit_path("app.db"), &o, &c, &err));
    db_write(c, 0, PAGES, 1);
    db_ok(conn_begin_read(c, &err));
    db_unpin(c, 5, db_pin(c, 5));
    conn_page_info(c, 5, &info);
    ck_assert(!info.probed);
    conn_end_read(c);
    db_close(c);
}
END_TEST

/* --- writing -------------------------------------------------------------------------------------- */

/* The page is known to be bad, or the commit meets it. */
START_TEST(a_commit_over_a_bad_page_keeps_it_in_its_frame_and_the_checkpoint_rewrites_it)
{
    const char *path = unit_path("app.db");
    bool known = _i & 1, stuck = _i & 2;
    struct conn *c = made(path);
    bad_page_add(path, 7, EVERY_WAY | (stuck ? BAD_STUCK : 0));
    if (known)
        refuses(c, 7);
    db_begin(c);
    for (uint64_t page = 6; page < 9; page++)
        db_put(c, page, 2);
    db_ok(conn_commit(c, &err));
    ck_assert(poisoned(c, 7) && !poisoned(c, 6) && !poisoned(c, 8));
    db_check_range(c, 6, 9, 2);
    db_unpin(c, 7, db_pin(c, 7));
    ck_assert_uint_eq(entry_of(c, 7).status, MEDIA_QUARANTINED);
    ck_assert(bad_page_is(path, 7));
    db_end(c); /* nobody needs base: it is brought home */
    db_checkpoint(c, CHECKPOINT_TRUNCATE);
    ck_assert(!poisoned(c, 7));
    ck_assert(!bad_page_is(path, 7));
    ck_assert_uint_eq(entry_of(c, 7).status, MEDIA_REPAIRED);
    ck_assert_uint_eq(db_status(c).log_bytes, 0);
    db_ok(conn_begin_read(c, &err));
    db_check_range(c, 6, 9, 2);
    conn_end_read(c);
    db_close(c);
    c = db_open(path);
    db_ok(conn_begin_read(c, &err));
    db_check_range(c, 0, 6, 1);
    db_check_range(c, 6, 9, 2);
    conn_end_read(c);
    db_close(c);
}
END_TEST

START_TEST(an_old_snapshot_of_a_bad_page_is_told_and_not_shown_the_new_version)
{
    const char *path = unit_path("app.db");
    struct conn *c = made(path), *old = db_open(path);
    uint8_t buf[DAX_PAGE_BYTES];
    db_ok(conn_begin_read(old, &err));
    bad_page_add(path, 7, EVERY_WAY);
    db_write(c, 7, 8, 2);
    db_checkpoint(c, CHECKPOINT_FULL);
    for (unsigned i = 0; i < 2; i++) {
        unit_fails(conn_read(old, buf, sizeof buf, 7 * DB_PAGE, &err), DAX_IO_MEDIA, "page 7");
        db_check(old, 8, 1);
        db_ok(conn_begin_read(c, &err));
        db_check(c, 7, 2);
        conn_end_read(c);
        db_checkpoint(c, CHECKPOINT_RESTART);
    }
    conn_end_read(old);
    db_checkpoint(c, CHECKPOINT_FULL);
    ck_assert(!poisoned(c, 7));
    db_ok(conn_begin_read(old, &err));
    db_check(old, 7, 2);
    conn_end_read(old);
    db_close(old);
    db_close(c);
}
END_TEST

START_TEST(part_of_a_bad_page_cannot_be_written_and_the_transaction_goes_on_without_it)
{
    const char *path = unit_path("app.db");
    struct conn *c = made(path);
    uint8_t bytes[64] = {1};
    bad_page_add(path, 7, EVERY_WAY);
    db_begin(c);
    unit_fails(conn_write(c, bytes, sizeof bytes, 7 * DB_PAGE + 128, &err), DAX_IO_MEDIA, "page 7");
    db_put(c, 8, 2);
    db_commit(c);
    refuses(c, 7);
    db_ok(conn_begin_read(c, &err));
    db_check(c, 8, 2);
    db_check(c, 6, 1);
    conn_end_read(c);
    db_close(c);
}
END_TEST

START_TEST(growth_over_a_bad_page_goes_through_memory)
{
    const char *path = unit_path("app.db");
    struct conn *c = made(path);
    bad_page_add(path, PAGES + 3, EVERY_WAY);
    /* The first attempt meets it; from then on it is known. */
    db_begin(c);
    dax_rc rc = DAX_OK;
    uint8_t page[DAX_PAGE_BYTES];
    for (uint64_t p = PAGES; p < PAGES + 8 && rc == DAX_OK; p++) {
        db_fill(page, p, 1);
        rc = conn_write(c, page, sizeof page, p * DB_PAGE, &err);
    }
    ck_assert_int_eq(rc, DAX_IO_MEDIA);
    db_end(c);
    db_write(c, PAGES, PAGES + 8, 1);
    db_check_all(c, PAGES + 8, 1);
    db_checkpoint(c, CHECKPOINT_TRUNCATE);
    ck_assert(!bad_page_is(path, PAGES + 3));
    db_check_all(c, PAGES + 8, 1);
    db_close(c);
}
END_TEST

/* --- recovery ----------------------------------------------------------------------------------------- */

/* A crash after a commit of lines, and of a whole page; then the page is found bad. */
START_TEST(recovery_rewrites_what_the_log_has_whole_and_says_what_was_lost_otherwise)
{
    const char *path = unit_path("app.db"), *copy = unit_path("copy.db");
    bool whole = _i & 1, readable = _i & 2;
    struct conn *c = made(path);
    uint8_t bytes[8] = "changed";
    db_begin(c);
    if (whole)
        db_put(c, 7, 2);
    else
        db_ok(conn_write(c, bytes, sizeof bytes, 7 * DB_PAGE + 128, &err));
    db_put(c, 9, 2);
    db_ok(conn_commit(c, &err));
    db_copy(path, copy);
    db_end(c);
    db_close(c);
    bad_page_add(copy, 7, readable ? BAD_MAPPED : EVERY_WAY);
    c = db_open(copy);
    db_ok(conn_begin_read(c, &err));
    db_check(c, 9, 2);
    if (whole) {
        db_check(c, 7, 2);
        ck_assert_uint_eq(entry_of(c, 7).status, MEDIA_REPAIRED);
    } else if (readable) {
        uint8_t got[8];
        db_ok(conn_read(c, got, sizeof got, 7 * DB_PAGE + 128, &err));
        ck_assert_int_eq(memcmp(got, bytes, sizeof got), 0);
        ck_assert_uint_eq(entry_of(c, 7).status, MEDIA_REPAIRED);
    }
    conn_end_read(c);
    if (!whole && !readable) {
        refuses(c, 7);
        ck_assert(entry_of(c, 7).stale);
        bad_page_remove(copy, 7); /* readable again, and an older state */
        refuses(c, 7);
        enum media_status status;
        db_ok(conn_media_repair(c, MEDIA_BASE, 7, &status, &err));
        ck_assert_int_eq(status, MEDIA_QUARANTINED);
        refuses(c, 7);
    }
    db_close(c);
}
END_TEST

/* --- in the handler ------------------------------------------------------------------------------------ */

START_TEST(a_page_in_use_is_put_in_order_by_the_handler_where_a_copy_exists)
{
    const char *path = unit_path("app.db");
    struct conn *c = made(path);
    uint8_t want[DAX_PAGE_BYTES];
    db_write(c, 7, 8, 2); /* its frame is free, and still what base is */
    db_ok(conn_begin_read(c, &err));
    uint8_t *at = db_pin(c, 7);
    bad_page_add(path, 7, EVERY_WAY);
    db_fill(want, 7, 2);
    ck_assert_int_eq(memcmp(at, want, sizeof want), 0); /* no guard: the handler, or death */
    ck_assert(!bad_page_is(path, 7));
    db_unpin(c, 7, at);
    conn_end_read(c);
    ck_assert(conn_media_unnamed(c));
    ck_assert_uint_eq(entry_of(c, 7).status, MEDIA_REPAIRED);
    db_close(c);
}
END_TEST

/* Its frame was used for something else since: there is no copy, and a wrong one is not taken. */
START_TEST(a_page_in_use_without_a_copy_ends_the_process_and_the_next_one_knows)
{
    const char *path = unit_path("app.db");
    int out[2];
    char text[4096] = "";
    ck_assert_int_eq(pipe(out), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct conn *c = made(path);
        db_write(c, 7, 8, 2);
        db_write(c, 8, 9, 3); /* takes the frame */
        db_write(c, 8, 9, 4);
        db_checkpoint(c, CHECKPOINT_FULL); /* else recovery has it */
        db_ok(conn_begin_read(c, &err));
        const volatile uint8_t *at = db_pin(c, 7);
        bad_page_add(path, 7, EVERY_WAY);
        dup2(out[1], 2);
        (void)at[1000];
        _exit(0);
    }
    close(out[1]);
    ssize_t n = read(out[0], text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    close(out[0]);
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    ck_assert_msg(strstr(text, "page 7 of the database") && strstr(text, path), "%s", text);
    struct conn *c = db_open(path);
    refuses(c, 7);
    ck_assert_uint_eq(entry_of(c, 7).page, 7);
    db_ok(conn_begin_read(c, &err));
    db_check(c, 8, 4);
    conn_end_read(c);
    db_close(c);
}
END_TEST

/* The page is not pinned any more: somebody may be storing to it, and the copy would undo that. */
START_TEST(a_page_that_was_given_back_is_not_put_in_order_under_the_pointer)
{
    const char *path = unit_path("app.db");
    int out[2], status;
    char text[4096] = "";
    ck_assert_int_eq(pipe(out), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct conn *c = made(path);
        db_write(c, 7, 8, 2); /* there is a copy */
        db_ok(conn_begin_read(c, &err));
        const volatile uint8_t *at = db_pin(c, 7);
        db_unpin(c, 7, (void *)(uintptr_t)at);
        bad_page_add(path, 7, EVERY_WAY);
        dup2(out[1], 2);
        (void)at[1000];
        _exit(0);
    }
    close(out[1]);
    ssize_t n = read(out[0], text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    close(out[0]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    ck_assert_msg(strstr(text, "page 7 of the database") && strstr(text, "given back"), "%s", text);
}
END_TEST

/* One thread is in the handler while another one forks; the child has a database of its own. */
static int forked_status = -1;

static void *use_a_database(void *arg)
{
    const char *path = unit_path("child.db");
    uint8_t want[DAX_PAGE_BYTES];
    (void)arg;
    struct conn *c = made(path);
    db_write(c, 8, 9, 2);
    db_ok(conn_begin_read(c, &err));
    uint8_t *at = db_pin(c, 8);
    bad_page_add(path, 8, EVERY_WAY);
    db_fill(want, 8, 2);
    _exit(memcmp(at, want, sizeof want) != 0);
}

static void fork_in_the_rescue(const char *call, uint64_t page)
{
    if (strcmp(call, "pwrite") != 0 || page != 7)
        return;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        /* A thread has a stack of its own: the handler's may be a small one, that of a sanitizer for example. */
        pthread_t thread;
        alarm(20);
        if (pthread_create(&thread, NULL, use_a_database, NULL) == 0)
            pthread_join(thread, NULL);
        _exit(3);
    }
    while (waitpid(child, &forked_status, 0) < 0)
        ;
}

START_TEST(a_child_that_was_forked_during_a_repair_in_the_handler_has_its_own)
{
    const char *path = unit_path("app.db");
    struct conn *c = made(path);
    uint8_t want[DAX_PAGE_BYTES];
    db_write(c, 7, 8, 2);
    db_ok(conn_begin_read(c, &err));
    uint8_t *at = db_pin(c, 7);
    bad_page_add(path, 7, EVERY_WAY);
    db_fill(want, 7, 2);
    bad_pages_watch(fork_in_the_rescue);
    ck_assert_int_eq(memcmp(at, want, sizeof want), 0);
    bad_pages_watch(NULL);
    ck_assert_int_eq(forked_status, 0); /* else: SIGALRM, it waits for ever */
    db_unpin(c, 7, at);
    conn_end_read(c);
    db_close(c);
}
END_TEST

/* --- threads -------------------------------------------------------------------------------------------- */

static atomic_bool over;

static void *reader(void *arg)
{
    struct conn *c = db_open(arg);
    uint8_t page[DAX_PAGE_BYTES];
    static _Thread_local struct dax_err e;
    while (!atomic_load(&over)) {
        db_must(conn_begin_read(c, &e) == DAX_OK, "%s", e.text);
        for (uint64_t p = 1; p < PAGES; p++) {
            void *at = NULL;
            dax_rc rc = p % 2 ? conn_read(c, page, sizeof page, p * DB_PAGE, &e)
                              : conn_pin(c, p * DB_PAGE, DAX_PAGE_BYTES, &at, &e);
            if (rc == DAX_IO_MEDIA) {
                db_must(p == 7 || p == 8, "page %u is refused", (unsigned)p);
                continue;
            }
            db_must(rc == DAX_OK, "%s", e.text);
            if (at || p % 2)
                (void)db_version(at ? at : page, p);
            if (at)
                conn_unpin(c, p * DB_PAGE, at);
        }
        conn_end_read(c);
    }
    db_close(c);
    return NULL;
}

/* Never pinned when they go bad: their readers would die of it, as they should. */
START_TEST(many_readers_beside_a_writer_and_pages_that_come_and_go)
{
    const char *path = unit_path("app.db");
    struct conn *c = made(path);
    pthread_t threads[3];
    bad_page_add(path, 7, EVERY_WAY);
    bad_page_add(path, 8, BAD_MAPPED);
    atomic_store(&over, false);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, reader, (void *)path), 0);
    for (uint64_t v = 2; v < 60; v++) {
        db_write(c, 1, PAGES, v);
        if (v % 8 == 0)
            db_checkpoint(c, CHECKPOINT_PASSIVE);
    }
    atomic_store(&over, true);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    db_checkpoint(c, CHECKPOINT_FULL);
    ck_assert(!poisoned(c, 7) && !poisoned(c, 8));
    db_ok(conn_begin_read(c, &err));
    db_check_range(c, 1, PAGES, 59);
    conn_end_read(c);
    db_close(c);
}
END_TEST

int main(void)
{
    TCase *tc = db_case("media", 300);
    tcase_add_loop_test(tc, a_bad_page_is_an_error_of_its_own_readers, 0, 2);
    tcase_add_test(tc, a_page_is_probed_once_before_it_is_handed_out);
    tcase_add_test(tc, a_page_that_was_cut_off_and_comes_back_is_probed_again);
    tcase_add_test(tc, without_the_probe_nothing_is_looked_at);
    tcase_add_loop_test(
        tc, a_commit_over_a_bad_page_keeps_it_in_its_frame_and_the_checkpoint_rewrites_it, 0, 4);
    tcase_add_test(tc, an_old_snapshot_of_a_bad_page_is_told_and_not_shown_the_new_version);
    tcase_add_test(tc, part_of_a_bad_page_cannot_be_written_and_the_transaction_goes_on_without_it);
    tcase_add_test(tc, growth_over_a_bad_page_goes_through_memory);
    tcase_add_loop_test(
        tc, recovery_rewrites_what_the_log_has_whole_and_says_what_was_lost_otherwise, 0, 4);
    tcase_add_test(tc, a_page_in_use_is_put_in_order_by_the_handler_where_a_copy_exists);
    tcase_add_test(tc, a_page_in_use_without_a_copy_ends_the_process_and_the_next_one_knows);
    tcase_add_test(tc, a_page_that_was_given_back_is_not_put_in_order_under_the_pointer);
    tcase_add_test(tc, a_child_that_was_forked_during_a_repair_in_the_handler_has_its_own);
    tcase_add_test(tc, many_readers_beside_a_writer_and_pages_that_come_and_go);
    return media_main(tc, "media");
}
