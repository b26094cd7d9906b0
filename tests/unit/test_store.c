/* test_store.c: would catch connections of one file that do not share it, a reader that leaves
 * traces, a child process that releases or uses what is its parent's, a store that goes on after a
 * failed check, a crash in activation or close that loses the file or its plain form, and a header
 * that is taken for something else.
 */
#include "tests/unit/db.h"

#define PAGES 10u

static dax_rc try_open(const char *path, const struct dax_options *o, struct conn **out)
{
    return conn_open(path, o, out, &err);
}

static uint8_t header_byte(const char *path, unsigned at)
{
    uint8_t byte = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
    close(fd);
    return byte;
}

/* PAGES pages of version 1, at rest. */
static const char *make_database(const char *name)
{
    const char *path = unit_path(name);
    struct conn *c = db_open(path);
    db_write(c, 0, PAGES, 1);
    db_close(c);
    ck_assert_uint_eq(unit_file_size(path), PAGES * DB_PAGE);
    ck_assert_uint_eq(header_byte(path, DAX_HEADER_READ_VERSION), 1);
    return path;
}

/* --- connections of one store ----------------------------------------------------------------- */

START_TEST(test_connections_of_one_file_share_it)
{
    const char *path = make_database("app.db");
    char link_path[512];
    snprintf(link_path, sizeof link_path, "%s", unit_path("link.db"));
    ck_assert_int_eq(link(path, link_path), 0); /* the file counts, not its name */
    struct conn *a = db_open(path), *b = db_open(link_path);
    ck_assert_ptr_eq(a->store, b->store);
    ck_assert_uint_eq(db_status(a).connections, 2);
    db_write(a, 0, PAGES, 2);
    db_check_all(b, PAGES, 2);
    db_close(a);
    db_write(b, 0, PAGES, 3);
    db_close(b);
    a = db_open(path);
    db_check_all(a, PAGES, 3);
    db_close(a);
}
END_TEST

START_TEST(test_options_that_cannot_differ_are_refused_and_others_are_each_ones_own)
{
    const char *path = make_database("app.db");
    struct dax_options o = db_options();
    struct conn *a, *b, *none;
    unit_ok(try_open(path, &o, &a));
    bool msync = strcmp(db_status(a).mode, "msync") == 0;
    o.persist = msync ? MEDIUM_PMEM : MEDIUM_MSYNC;
    unit_fails(try_open(path, &o, &none), DAX_MISUSE, "cannot differ");
    ck_assert_ptr_null(none);
    o.persist = msync ? MEDIUM_MSYNC : MEDIUM_PMEM;
    o.private_bytes = 4 * DAX_PRIVATE_BYTES_MIN;
    unit_ok(try_open(path, &o, &b));
    ck_assert_uint_eq(db_status(a).private_bytes_budget, DAX_PRIVATE_BYTES_MIN);
    ck_assert_uint_eq(db_status(b).private_bytes_budget, 4 * DAX_PRIVATE_BYTES_MIN);
    db_close(b);
    db_close(a);
    /* The mode may differ the next time. */
    o.persist = MEDIUM_MSYNC;
    unit_ok(try_open(path, &o, &a));
    ck_assert_str_eq(db_status(a).mode, "msync");
    db_write(a, 0, PAGES, 2);
    db_check_all(a, PAGES, 2);
    db_close(a);

    o = db_options();
    o.log_bytes = DAX_LOG_BYTES_MIN - 1;
    unit_fails(try_open(path, &o, &none), DAX_MISUSE, "log size");
    o = db_options();
    o.private_bytes = 1;
    unit_fails(try_open(path, &o, &none), DAX_MISUSE, "private size");
    o = db_options();
    o.create = false;
    unit_fails(try_open(unit_path("none.db"), &o, &none), DAX_CANT_OPEN, "none.db");
    ck_assert(!unit_exists(unit_path("none.db")));
}
END_TEST

START_TEST(test_reading_leaves_no_trace_and_writing_may_join_later)
{
    const char *path = make_database("app.db"), *saved = unit_path("saved.db");
    ck_assert_int_eq(unlink(db_sidecar(path)), 0);
    db_copy_file(path, saved);
    struct dax_options o = db_options();
    struct conn *reader;
    o.read_only = true;
    unit_ok(try_open(path, &o, &reader));
    ck_assert(conn_is_read_only(reader));
    db_check_all(reader, PAGES, 1);
    unit_ok(conn_begin_read(reader, &err));
    unit_fails(conn_begin_write(reader, &err), DAX_READONLY, "for reading only");
    ck_assert(!unit_exists(db_sidecar(path)));
    ck_assert(db_same_file(path, saved));

    struct conn *writer = db_open(path);
    ck_assert_ptr_eq(reader->store, writer->store);
    ck_assert(db_same_file(path, saved)); /* opening for writing is not writing */
    ck_assert(!db_status(writer).active);
    db_write(writer, 0, PAGES + 5, 2);
    ck_assert(db_status(writer).active);
    ck_assert_uint_eq(header_byte(path, DAX_HEADER_READ_VERSION), DAX_MARK_READ_VERSION);
    ck_assert_uint_eq(conn_size(reader), PAGES * DB_PAGE);
    db_check_range(reader, 0, PAGES, 1);
    conn_end_read(reader);
    db_check_all(reader, PAGES + 5, 2);
    db_close(writer);
    db_check_all(reader, PAGES + 5, 2);
    db_close(reader); /* the last one puts things right, reader or not */
    ck_assert_uint_eq(header_byte(path, DAX_HEADER_READ_VERSION), 1);
    ck_assert_uint_eq(unit_file_size(path), (PAGES + 5) * DB_PAGE);
}
END_TEST

/* --- fork ------------------------------------------------------------------------------------- */

/* In the child: 0, or the number of the first thing that is not as it should be. */
static int child_main(struct conn *c, void *pin, const char *path, const char *other)
{
    struct dax_options o = db_options();
    struct checkpoint_result result;
    struct page_info info;
    struct store_status status;
    struct holder_info holder;
    struct conn *mine;
    uint8_t buf[64];
    void *at;
    if (conn_begin_read(c, &err) != DAX_MISUSE || !strstr(err.text, "parent"))
        return 1;
    if (conn_read(c, buf, sizeof buf, 0, &err) != DAX_MISUSE ||
        conn_read_committed(c, buf, sizeof buf, 0, &err) != DAX_MISUSE ||
        conn_pin(c, DB_PAGE, 64, &at, &err) != DAX_MISUSE)
        return 2;
    if (conn_begin_write(c, &err) != DAX_MISUSE || conn_write(c, buf, 1, 0, &err) != DAX_MISUSE ||
        conn_truncate(c, 0, &err) != DAX_MISUSE || conn_prepare(c, &err) != DAX_MISUSE ||
        conn_commit(c, &err) != DAX_MISUSE)
        return 3;
    if (conn_checkpoint(c, CHECKPOINT_FULL, NULL, NULL, &result, &err) != DAX_MISUSE)
        return 4;
    if (conn_size(c) != 0 || conn_page_count(c) != 0 || conn_holders(c, &holder, 1) != 0)
        return 5;
    conn_status(c, &status);
    conn_page_info(c, 1, &info);
    conn_unpin(c, DB_PAGE, pin);
    conn_end_write(c);
    conn_end_read(c);
    if (conn_close(c, &err) != DAX_MISUSE)
        return 6;
    if (conn_open(path, &o, &mine, &err) != DAX_LOCKED)
        return 7;
    /* Another database is the child's own business. */
    if (conn_open(other, &o, &mine, &err) != DAX_OK)
        return 8;
    db_write(mine, 0, PAGES, 2);
    db_check_all(mine, PAGES, 2);
    return conn_close(mine, &err) == DAX_OK ? 0 : 9;
}

START_TEST(test_a_forked_child_is_refused_and_releases_nothing)
{
    const char *path = make_database("app.db"), *other = make_database("other.db");
    struct conn *c = db_open(path), *d = db_open(path);
    db_begin(c);
    db_put(c, 3, 2);
    unit_ok(conn_begin_read(d, &err));
    uint8_t *pin = db_pin(d, 4);
    for (unsigned round = 0; round < 3; round++) {
        pid_t pid = fork();
        ck_assert_int_ge(pid, 0);
        if (pid == 0)
            _exit(round == 2 ? 0 : child_main(round ? d : c, pin, path, other));
        ck_assert_int_eq(unit_wait(pid), 0);
        ck_assert_uint_eq(db_status(d).pins, 1);
        ck_assert_uint_eq(db_version(pin, 4), 1);
    }
    /* The parent goes on as if nothing had been. */
    db_check(c, 3, 2);
    db_commit(c);
    db_unpin(d, 4, pin);
    db_check(d, 3, 1);
    conn_end_read(d);
    db_write(d, 0, PAGES, 3);
    db_checkpoint(d, CHECKPOINT_TRUNCATE);
    db_close(c);
    db_close(d);
    c = db_open(path);
    db_check_all(c, PAGES, 3);
    db_close(c);
}
END_TEST

START_TEST(test_another_process_is_kept_out_and_told_by_whom)
{
    const char *path = make_database("app.db");
    int ready[2], go[2];
    char byte = 0;
    ck_assert_int_eq(pipe(ready) | pipe(go), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct conn *c = db_open(path);
        db_write(c, 0, PAGES, 2);
        (void)!write(ready[1], "x", 1);
        (void)!read(go[0], &byte, 1);
        _exit(0); /* as if killed */
    }
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    struct dax_options o = db_options();
    struct conn *c;
    char holder[32];
    snprintf(holder, sizeof holder, "%d", (int)pid);
    unit_fails(try_open(path, &o, &c), DAX_LOCKED, holder);
    o.read_only = true;
    unit_fails(try_open(path, &o, &c), DAX_LOCKED, holder);
    (void)!write(go[1], "x", 1);
    ck_assert_int_eq(unit_wait(pid), 0);
    c = db_open(path);
    db_check_all(c, PAGES, 2);
    db_close(c);
}
END_TEST

/* --- failed checks ---------------------------------------------------------------------------- */

/* May another process take a write lock on the RESERVED byte? */
static bool others_may_lock(const char *path)
{
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open(path, O_RDWR | O_CLOEXEC);
        struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0x40000001, .l_len = 1};
        _exit(fcntl(fd, F_SETLK, &l) == 0 ? 0 : 1);
    }
    return unit_wait(pid) == 0;
}

static unsigned open_descriptors(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) != -1;
    return n;
}

START_TEST(test_a_refused_open_does_not_drop_the_locks_of_a_stock_connection_of_this_process)
{
    const char *path = make_database("app.db");
    struct dax_options o = dax_options_default();
    struct conn *c;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0x40000001, .l_len = 1};
    ck_assert_int_eq(fcntl(fd, F_SETLK, &l), 0);
    unsigned before = open_descriptors();
    for (int i = 0; i < 5; i++) {
        unit_fails(try_open(path, &o, &c), DAX_LOCKED, "locked");
        ck_assert_msg(!others_may_lock(path), "refused open number %d dropped the lock", i);
    }
    ck_assert_uint_le(open_descriptors(), before + 1); /* one is kept, however often */
    l.l_type = F_UNLCK;
    ck_assert_int_eq(fcntl(fd, F_SETLK, &l), 0);
    c = db_open(path);
    db_check_all(c, PAGES, 1);
    db_close(c);
    ck_assert_uint_eq(open_descriptors(), before);
    close(fd);
}
END_TEST

START_TEST(test_after_a_failed_check_writing_is_refused_until_reopened)
{
    const char *path = make_database("app.db");
    struct conn *a = db_open(path), *b = db_open(path);
    db_write(a, 0, PAGES, 2);
    unit_ok(conn_begin_read(b, &err));
    (void)db_pin(b, 5);
    conn_end_read(b); /* with a pin left */
    struct store_status status;
    conn_status(a, &status);
    ck_assert_ptr_nonnull(strstr(status.failed, "a read has ended with a pin left"));
    ck_assert_uint_eq(status.pins, 0);
    unit_ok(conn_begin_read(a, &err));
    unit_fails(conn_begin_write(a, &err), DAX_CORRUPT, "writes refused until reopened");
    struct checkpoint_result result;
    unit_fails(conn_checkpoint(a, CHECKPOINT_FULL, NULL, NULL, &result, &err), DAX_CORRUPT,
               "pin left");
    db_check_range(a, 0, PAGES, 2); /* reading goes on */
    conn_unpin(a, 0, &status);      /* an address that nobody pinned */
    conn_status(a, &status);        /* the first reason stays */
    ck_assert_ptr_nonnull(strstr(status.failed, "a read has ended with a pin left"));
    conn_end_read(a);
    unit_ok(conn_close(b, &err));
    unit_fails(conn_close(a, &err), DAX_CORRUPT, "pin left");
    ck_assert_uint_eq(header_byte(path, DAX_HEADER_READ_VERSION), DAX_MARK_READ_VERSION);
    a = db_open(path);
    db_check_all(a, PAGES, 2);
    db_write(a, 0, PAGES, 3);
    db_close(a);
    ck_assert_uint_eq(header_byte(path, DAX_HEADER_READ_VERSION), 1);
}
END_TEST

/* --- crashes in activation and close ---------------------------------------------------------- */

static const struct persist_ops *real_ops;
static struct persist_ops ops;
static char view_from[512];
static unsigned view_count;

static const char *view_path(unsigned i)
{
    char name[32];
    snprintf(name, sizeof name, "view-%u.db", i);
    return unit_path(name);
}

static void view_take(void)
{
    db_copy(view_from, view_path(view_count++));
}

static void view_store(struct persist *p, void *dst, const void *src, size_t len)
{
    view_take();
    real_ops->store(p, dst, src, len);
}

static void view_zero(struct persist *p, void *dst, size_t len)
{
    view_take();
    real_ops->zero(p, dst, len);
}

static int view_sync_log(struct persist *p)
{
    view_take();
    return real_ops->sync_log(p);
}

static int view_sync_base(struct persist *p)
{
    view_take();
    return real_ops->sync_base(p);
}

static void view_install(struct conn *c, const char *path)
{
    snprintf(view_from, sizeof view_from, "%s", path);
    view_count = 0;
    real_ops = c->store->persist.ops;
    ops = *real_ops;
    ops.store = view_store;
    ops.zero = view_zero;
    ops.sync_log = view_sync_log;
    ops.sync_base = view_sync_base;
    c->store->persist.ops = &ops;
}

/* Each view opens in the given state, can be written to, and is plain again after its close. */
static void view_check_all(uint64_t pages, uint64_t version)
{
    for (unsigned i = 0; i < view_count; i++) {
        const char *path = view_path(i);
        struct conn *c = db_open(path);
        db_check_all(c, pages, version);
        db_write(c, 0, PAGES + 2, version + 1);
        db_close(c);
        ck_assert_uint_eq(header_byte(path, DAX_HEADER_READ_VERSION), 1);
        ck_assert_uint_eq(unit_file_size(path), (PAGES + 2) * DB_PAGE);
    }
    printf("%u views\n", view_count);
}

START_TEST(test_a_crash_at_any_step_of_the_first_write_leaves_the_old_database)
{
    const char *path = _i == 0 ? unit_path("app.db") : make_database("app.db");
    if (_i == 1)
        ck_assert_int_eq(unlink(db_sidecar(path)), 0);
    struct conn *c = db_open(path);
    view_install(c, path);
    view_take();
    db_begin(c);
    view_take();
    c->store->persist.ops = real_ops;
    db_end(c);
    db_close(c);
    ck_assert_uint_ge(view_count, _i ? 5 : 4);
    view_check_all(_i ? PAGES : 0, 1);
}
END_TEST

START_TEST(test_a_crash_at_any_step_of_the_close_leaves_the_newest_state)
{
    const char *path = make_database("app.db");
    struct conn *c = db_open(path), *r = db_open(path);
    unit_ok(conn_begin_read(r, &err));
    db_write(c, 0, PAGES, 2); /* in frames: the close has to bring it home */
    db_close(c);
    view_install(r, path);
    view_take();
    db_close(r);
    view_take();
    ck_assert_uint_ge(view_count, 10);
    view_check_all(PAGES, 2);
}
END_TEST

/* --- headers ---------------------------------------------------------------------------------- */

START_TEST(test_a_wal_header_is_shown_as_legacy_and_put_back)
{
    const char *path = make_database("app.db");
    unit_file_patch(path, DAX_HEADER_WRITE_VERSION, "\2\2", 2);
    struct conn *c = db_open(path);
    db_check_all(c, PAGES, 1); /* shows 1 and 1 */
    db_write(c, 0, PAGES, 2);
    db_check_all(c, PAGES, 2);
    db_close(c);
    ck_assert_uint_eq(header_byte(path, DAX_HEADER_WRITE_VERSION), 2);
    ck_assert_uint_eq(header_byte(path, DAX_HEADER_READ_VERSION), 2);
}
END_TEST

START_TEST(test_headers_that_are_not_ours_to_change)
{
    const char *path = make_database("app.db");
    struct dax_options o = db_options();
    struct conn *c;
    unit_file_patch(path, DAX_HEADER_READ_VERSION, "\3", 1);
    unit_fails(try_open(path, &o, &c), DAX_NOT_A_DATABASE, "read version");
    unit_file_patch(path, DAX_HEADER_READ_VERSION, "\1", 1);
    /* Reserved bytes that somebody uses: good for reading. */
    unit_file_patch(path, DAX_HEADER_RESERVED + 3, "mine", 4);
    const char *saved = unit_path("saved.db");
    db_copy_file(path, saved);
    c = db_open(path);
    unit_ok(conn_begin_read(c, &err));
    db_check_range(c, 1, PAGES, 1);
    unit_fails(conn_begin_write(c, &err), DAX_READONLY, "72 - 91");
    conn_end_read(c);
    db_close(c);
    ck_assert(db_same_file(path, saved));
    /* Too short for a header. */
    unit_write_file(path, "SQLite format 3", 16);
    c = db_open(path);
    unit_ok(conn_begin_read(c, &err));
    unit_fails(conn_begin_write(c, &err), DAX_NOT_A_DATABASE, "no SQLite header");
    conn_end_read(c);
    db_close(c);
    ck_assert_uint_eq(unit_file_size(path), 16);
}
END_TEST

int main(void)
{
    TCase *tc = db_case("store", 300);
    tcase_add_test(tc, test_connections_of_one_file_share_it);
    tcase_add_test(tc, test_options_that_cannot_differ_are_refused_and_others_are_each_ones_own);
    tcase_add_test(tc, test_reading_leaves_no_trace_and_writing_may_join_later);
    tcase_add_test(tc, test_a_forked_child_is_refused_and_releases_nothing);
    tcase_add_test(tc, test_another_process_is_kept_out_and_told_by_whom);
    tcase_add_test(tc, test_a_refused_open_does_not_drop_the_locks_of_a_stock_connection_of_this_process);
    tcase_add_test(tc, test_after_a_failed_check_writing_is_refused_until_reopened);
    tcase_add_loop_test(tc, test_a_crash_at_any_step_of_the_first_write_leaves_the_old_database, 0,
                        3);
    tcase_add_test(tc, test_a_crash_at_any_step_of_the_close_leaves_the_newest_state);
    tcase_add_test(tc, test_a_wal_header_is_shown_as_legacy_and_put_back);
    tcase_add_test(tc, test_headers_that_are_not_ours_to_change);
    return db_main(tc, "store");
}
