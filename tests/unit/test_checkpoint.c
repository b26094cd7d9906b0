/* test_checkpoint.c: would catch a log that a reader can make grow, a checkpoint that waits for its
 * own caller or forgets to say who is in the way, versions that outlive the readers they are for,
 * scratch or file space that is not given back, and a cut that takes a page from a reader.
 */
#include "tests/unit/db.h"

#define PAGES 40u

struct fixture {
    const char *path;
    struct conn *writer, *reader;
};

static void fixture_open(struct fixture *f)
{
    f->path = unit_path("app.db");
    f->writer = db_open(f->path);
    f->reader = db_open(f->path);
    db_write(f->writer, 0, PAGES, 1);
}

/* Closes, and looks at what is left as a plain file. */
static void fixture_close(struct fixture *f, uint64_t pages, uint64_t version)
{
    db_close(f->reader);
    db_close(f->writer);
    ck_assert_uint_eq(unit_file_size(f->path), pages * DB_PAGE);
    struct conn *c = db_open(f->path);
    db_check_all(c, pages, version);
    db_close(c);
}

/* Asks how often it was called; gives up after `limit`, doing something at `at`. */
struct waiter {
    unsigned calls, limit, at;
    struct conn *conn;
    uint64_t page;
    uint8_t *pin;
};

static bool waiter_ask(void *arg, unsigned count)
{
    struct waiter *w = arg;
    ck_assert_uint_eq(count, w->calls);
    w->calls++;
    if (w->pin && count == w->at) {
        db_unpin(w->conn, w->page, w->pin);
        w->pin = NULL;
    }
    return w->calls < w->limit;
}

/* --- the log ---------------------------------------------------------------------------------- */

START_TEST(test_the_log_is_empty_and_versions_are_gone_after_a_checkpoint)
{
    struct fixture f;
    fixture_open(&f);
    unit_ok(conn_begin_read(f.reader, &err));
    db_write(f.writer, 0, PAGES, 2);
    ck_assert_uint_eq(db_status(f.writer).pages_pushed, PAGES);
    struct checkpoint_result result = db_checkpoint(f.writer, CHECKPOINT_FULL);
    ck_assert(!result.busy);
    ck_assert_str_eq(result.holder, "");
    ck_assert_uint_gt(result.log_bytes_before, 0);
    ck_assert_uint_eq(result.log_bytes_after, 0);
    ck_assert_uint_eq(result.pages_relogged, 0);
    ck_assert_uint_eq(result.pages_rehomed, PAGES);

    /* The old snapshot's pages live on, in DRAM only. */
    struct store_status status = db_status(f.writer);
    ck_assert_uint_eq(status.log_bytes, 0);
    ck_assert_uint_eq(status.pages_versioned, PAGES);
    db_check_range(f.reader, 0, PAGES, 1);
    conn_end_read(f.reader);
    status = db_status(f.writer);
    ck_assert_uint_eq(status.pages_versioned, 0);
    ck_assert_uint_eq(status.frames_used, 0);
    fixture_close(&f, PAGES, 2);
}
END_TEST

/* Every commit changes whole pages, so the ring would be full after some dozens of them. */
START_TEST(test_a_pin_held_through_hundreds_of_commits_does_not_hold_the_log)
{
    struct fixture f;
    fixture_open(&f);
    unit_ok(conn_begin_read(f.reader, &err));
    uint8_t *pin = db_pin(f.reader, 3);
    uint64_t ring = 0, total = 0;
    unsigned commits = 0;
    for (uint64_t version = 2; commits < 400 || total < 4 * ring; version++, commits++) {
        db_write(f.writer, 0, PAGES, version);
        struct store_status status = db_status(f.writer);
        ring = status.ring_bytes;
        total = status.log_bytes_total;
        db_must(status.log_bytes <= ring - ring / DAX_RING_RESERVE_PART, "%llu bytes of log",
                (unsigned long long)status.log_bytes);
        db_must(db_version(pin, 3) == 1, "the pinned page has changed");
        db_must(status.frames_used <= 4 * PAGES, "%llu frames",
                (unsigned long long)status.frames_used);
    }
    struct store_status status = db_status(f.writer);
    ck_assert_uint_gt(status.pages_relogged, 0);
    ck_assert_uint_gt(status.checkpoints, 2);
    db_check_range(f.reader, 1, PAGES, 1);
    db_checkpoint(f.writer, CHECKPOINT_FULL);
    ck_assert_uint_le(db_status(f.writer).log_bytes, log_record_bytes(1, DAX_PAGE_LINES, 0));
    const char *copy =
        unit_path("copy.db"); /* base has an old version of page 3, the log the rest */
    db_copy(f.path, copy);

    db_unpin(f.reader, 3, pin);
    conn_end_read(f.reader);
    ck_assert_uint_eq(db_status(f.writer).frames_used, 0);
    fixture_close(&f, PAGES, commits + 1);
    struct conn *c = db_open(copy);
    ck_assert_uint_eq(db_status(c).recovered_pages, 1);
    db_check_all(c, PAGES, commits + 1);
    db_close(c);
}
END_TEST

/* Relogging pages by the hundred: their list does not fit into the ring's reserve. */
START_TEST(test_relogging_more_than_the_reserve_goes_through_scratch)
{
    enum {
        MANY = 600
    };
    struct fixture f;
    struct conn *more[MANY / 240 + 1];
    fixture_open(&f);
    db_write(f.writer, 0, MANY, 1);
    /* A pin spans 16 pages, a connection has 15 pins. */
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        more[i] = db_open(f.path);
        unit_ok(conn_begin_read(more[i], &err));
        for (uint64_t k = 0; k < DAX_SLOT_PINS_SHARED; k++) {
            void *at;
            uint64_t page = (i * DAX_SLOT_PINS_SHARED + k) * DAX_PIN_PAGES + 1;
            if (page + DAX_PIN_PAGES > MANY)
                break;
            unit_ok(conn_pin(more[i], page * DB_PAGE, DAX_PIN_PAGES * DB_PAGE, &at, &err));
            ck_assert_ptr_nonnull(at);
        }
    }
    for (uint64_t from = 0; from < MANY; from += 50)
        db_write(f.writer, from, from + 50, 2);
    struct checkpoint_result result = db_checkpoint(f.writer, CHECKPOINT_FULL);
    ck_assert(result.busy);
    ck_assert_uint_gt(result.pages_relogged, 500);
    ck_assert_uint_lt(result.log_bytes_after, 1024);
    ck_assert_uint_gt(db_status(f.writer).scratch_bytes, 0);
    const char *copy = unit_path("copy.db");
    db_copy(f.path, copy);

    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        for (unsigned k = 0; k < DAX_SLOT_PINS_SHARED; k++)
            if (more[i]->pinned[k])
                conn_unpin(more[i], 0, more[i]->pinned[k]);
        db_check_range(more[i], 0, MANY, 1);
        conn_end_read(more[i]);
        db_close(more[i]);
    }
    db_checkpoint(f.writer, CHECKPOINT_FULL);
    ck_assert_uint_eq(db_status(f.writer).scratch_bytes, 0);
    fixture_close(&f, MANY, 2);
    struct conn *c = db_open(copy);
    db_check_all(c, MANY, 2);
    db_close(c);
}
END_TEST

/* --- who waits for whom ----------------------------------------------------------------------- */

START_TEST(test_a_pin_in_the_way_is_waited_for_and_named)
{
    struct fixture f;
    fixture_open(&f);
    unit_ok(conn_begin_read(f.reader, &err));
    uint8_t *pin = db_pin(f.reader, 7);
    db_write(f.writer, 0, PAGES, 2);

    struct waiter w = {.limit = 5};
    struct checkpoint_result result;
    unit_ok(conn_checkpoint(f.writer, CHECKPOINT_FULL, waiter_ask, &w, &result, &err));
    ck_assert_uint_eq(w.calls, 5);
    ck_assert(result.busy);
    ck_assert_uint_eq(result.pages_relogged, 1);
    char pid[64], connection[64];
    snprintf(pid, sizeof pid, "process %d,", (int)getpid());
    snprintf(connection, sizeof connection, "connection %llu,",
             (unsigned long long)GUARDED_GET(f.reader->store->region.slots[f.reader->slot].number));
    ck_assert_ptr_nonnull(strstr(result.holder, pid));
    ck_assert_ptr_nonnull(strstr(result.holder, connection));
    ck_assert_ptr_nonnull(strstr(result.holder, "page 7"));

    /* Passive asks nobody. */
    db_write(f.writer, 0, 1, 3);
    w = (struct waiter){.limit = 5};
    unit_ok(conn_checkpoint(f.writer, CHECKPOINT_PASSIVE, waiter_ask, &w, &result, &err));
    ck_assert_uint_eq(w.calls, 0);
    ck_assert(result.busy);

    /* Drained while it is waited for. */
    db_write(f.writer, 0, PAGES, 4);
    w = (struct waiter){.limit = 50, .at = 3, .conn = f.reader, .page = 7, .pin = pin};
    unit_ok(conn_checkpoint(f.writer, CHECKPOINT_RESTART, waiter_ask, &w, &result, &err));
    ck_assert_uint_eq(w.calls, 4);
    ck_assert(!result.busy);
    ck_assert_str_eq(result.holder, "");
    ck_assert_uint_eq(result.pages_relogged, 0);
    ck_assert_uint_eq(result.log_bytes_after, 0);
    db_check_range(f.reader, 0, PAGES, 1);
    conn_end_read(f.reader);
    fixture_close(&f, PAGES, 4);
}
END_TEST

START_TEST(test_a_caller_does_not_wait_for_its_own_pins)
{
    struct fixture f;
    fixture_open(&f);
    unit_ok(conn_begin_read(f.reader, &err));
    uint8_t *pin = db_pin(f.reader, 7);
    db_write(f.writer, 0, PAGES, 2);
    struct waiter w = {.limit = 5};
    struct checkpoint_result result;
    unit_ok(conn_checkpoint(f.reader, CHECKPOINT_FULL, waiter_ask, &w, &result, &err));
    ck_assert_uint_eq(w.calls, 0);
    ck_assert_uint_eq(result.pages_relogged, 1);
    ck_assert_uint_eq(db_version(pin, 7), 1);
    db_unpin(f.reader, 7, pin);
    conn_end_read(f.reader);
    fixture_close(&f, PAGES, 2);
}
END_TEST

START_TEST(test_a_writer_in_the_way_is_waited_for_and_named)
{
    struct fixture f;
    fixture_open(&f);
    struct checkpoint_result result;
    db_begin(f.writer);
    db_put(f.writer, 1, 2);
    struct waiter w = {.limit = 3};
    unit_ok(conn_checkpoint(f.reader, CHECKPOINT_FULL, waiter_ask, &w, &result, &err));
    ck_assert(result.busy);
    ck_assert_uint_eq(w.calls, 3);
    ck_assert_ptr_nonnull(strstr(result.holder, "is writing"));
    w = (struct waiter){.limit = 3};
    unit_ok(conn_checkpoint(f.reader, CHECKPOINT_PASSIVE, waiter_ask, &w, &result, &err));
    ck_assert(result.busy);
    ck_assert_uint_eq(w.calls, 0);

    unit_fails(conn_checkpoint(f.writer, CHECKPOINT_FULL, NULL, NULL, &result, &err), DAX_LOCKED,
               "write transaction");
    db_end(f.writer);
    ck_assert(!db_checkpoint(f.reader, CHECKPOINT_FULL).busy);
    fixture_close(&f, PAGES, 1);
}
END_TEST

START_TEST(test_a_database_that_was_only_read_has_nothing_to_checkpoint)
{
    const char *path = unit_path("app.db");
    struct conn *c = db_open(path);
    db_write(c, 0, 3, 1);
    db_close(c);
    c = db_open(path);
    db_check_all(c, 3, 1);
    struct checkpoint_result result = db_checkpoint(c, CHECKPOINT_TRUNCATE);
    ck_assert(!result.busy);
    ck_assert_uint_eq(result.log_bytes_before, 0);
    db_close(c);
}
END_TEST

/* --- space ------------------------------------------------------------------------------------ */

START_TEST(test_versions_are_given_back_when_the_oldest_reader_ends)
{
    struct fixture f;
    fixture_open(&f);
    struct conn *readers[5];
    for (uint64_t i = 0; i < 5; i++) { /* reader i sees version i + 1 */
        readers[i] = db_open(f.path);
        unit_ok(conn_begin_read(readers[i], &err));
        db_write(f.writer, 0, PAGES, i + 2);
    }
    ck_assert_uint_eq(db_status(f.writer).frames_used, 5 * PAGES);
    /* One in the middle: its versions go with the next look at the pages. */
    conn_end_read(readers[2]);
    db_checkpoint(f.writer, CHECKPOINT_PASSIVE);
    ck_assert_uint_le(db_status(f.writer).frames_used, 5 * PAGES);
    db_check_range(readers[1], 0, PAGES, 2);
    db_check_range(readers[3], 0, PAGES, 4);
    uint64_t before = db_status(f.writer).frames_used;
    static const unsigned order[] = {0, 1, 3, 4};
    for (unsigned i = 0; i < 4; i++) {
        conn_end_read(readers[order[i]]);
        struct store_status status = db_status(f.writer);
        ck_assert_uint_lt(status.frames_used, before);
        before = status.frames_used;
    }
    ck_assert_uint_eq(before, 0);
    for (unsigned i = 0; i < 5; i++)
        db_close(readers[i]);
    fixture_close(&f, PAGES, 6);
}
END_TEST

START_TEST(test_scratch_is_dropped_after_the_commit_or_with_the_last_reader)
{
    enum {
        MANY = 400
    }; /* pages; the budget is 64 */
    struct fixture f;
    fixture_open(&f);
    db_write(f.writer, 0, MANY, 1);
    db_write(f.writer, 0, MANY, 2);
    struct store_status status = db_status(f.writer);
    ck_assert_uint_gt(status.pages_scratch, MANY / 2);
    ck_assert_uint_eq(status.scratch_bytes, 0);
    ck_assert_uint_eq(status.frames_used, 0);

    unit_ok(conn_begin_read(f.reader, &err));
    uint8_t *pin = db_pin(f.reader, MANY - 1);
    db_write(f.writer, 0, MANY, 3);
    db_check_range(f.reader, 0, MANY, 2);
    db_check_all(f.writer, MANY, 3);
    ck_assert_uint_eq(db_version(pin, MANY - 1), 2);
    db_unpin(f.reader, MANY - 1, pin);
    conn_end_read(f.reader);
    db_checkpoint(f.writer, CHECKPOINT_PASSIVE);
    status = db_status(f.writer);
    ck_assert_uint_eq(status.scratch_bytes, 0);
    ck_assert_uint_eq(status.frames_used, 0);

    /* And after a rollback. */
    db_begin(f.writer);
    for (uint64_t page = 0; page < MANY; page++)
        db_put(f.writer, page, 4);
    ck_assert_uint_gt(db_status(f.writer).scratch_bytes, 0);
    db_end(f.writer);
    ck_assert_uint_eq(db_status(f.writer).scratch_bytes, 0);
    fixture_close(&f, MANY, 3);
}
END_TEST

START_TEST(test_the_file_is_cut_when_no_reader_needs_its_end)
{
    enum {
        MANY = 1300
    }; /* pages: 5 MiB and some */
    struct fixture f;
    fixture_open(&f);
    db_write(f.writer, 0, MANY, 1);
    unit_ok(conn_begin_read(f.reader, &err));
    uint64_t before = unit_file_size(f.path);
    db_shrink(f.writer, PAGES);
    db_checkpoint(f.writer, CHECKPOINT_TRUNCATE);
    ck_assert_uint_eq(unit_file_size(f.path), before);
    db_check_range(f.reader, 0, MANY, 1);
    ck_assert_int_eq(db_state(f.writer, MANY - 1), PAGE_MAPPED);
    conn_end_read(f.reader);
    db_checkpoint(f.writer, CHECKPOINT_TRUNCATE);
    ck_assert_uint_eq(unit_file_size(f.path), DAX_GROW_BYTES_MIN);
    ck_assert_int_eq(db_state(f.writer, MANY - 1), PAGE_ABSENT);
    db_check_all(f.reader, PAGES, 1);

    /* And grows again, over pages that were cut and over some that were only dropped. */
    db_write(f.writer, 0, MANY, 2);
    db_check_all(f.reader, MANY, 2);
    fixture_close(&f, MANY, 2);
}
END_TEST

/* A commit that needs room in the log cuts the log, and must not cut the file where its own pages
 * are: some known to the old state, some stored straight to base. */
START_TEST(test_a_checkpoint_within_a_commit_spares_the_transaction)
{
    enum {
        OLD = 530,
        SMALL = 500,
        NEW = 560
    }; /* the file is cut at a multiple of 512 */
    struct fixture f;
    fixture_open(&f);
    db_write(f.writer, 0, OLD, 1);
    for (uint64_t version = 10; log_free(f.writer->store) > 100 * DAX_KIB; version++)
        db_write(f.writer, 0, 5, version);
    db_shrink(f.writer, SMALL);
    ck_assert_uint_gt(unit_file_size(f.path), DAX_GROW_BYTES_MIN);
    uint64_t checkpoints = db_status(f.writer).checkpoints;

    db_begin(f.writer);
    for (uint64_t page = 0; page < 30; page++)
        db_put(f.writer, page, 3);
    for (uint64_t page = SMALL; page < NEW; page++)
        db_put(f.writer, page, 3);
    ck_assert_uint_eq(f.writer->store->txn.direct_count, NEW - OLD);
    ck_assert_uint_eq(db_status(f.writer).checkpoints, checkpoints);
    unit_ok(conn_prepare(f.writer, &err));
    ck_assert_uint_eq(db_status(f.writer).checkpoints, checkpoints + 1);
    ck_assert_uint_eq(db_status(f.writer).log_bytes, 0);
    db_check_range(f.writer, SMALL, NEW, 3);
    db_commit(f.writer);
    unit_ok(conn_begin_read(f.reader, &err));
    ck_assert_uint_eq(conn_size(f.reader), NEW * DB_PAGE);
    db_check_range(f.reader, 0, 30, 3);
    db_check_range(f.reader, 30, SMALL, 1);
    db_check_range(f.reader, SMALL, NEW, 3);
    conn_end_read(f.reader);
    db_close(f.reader);
    db_close(f.writer);
    ck_assert_uint_eq(unit_file_size(f.path), NEW * DB_PAGE);
}
END_TEST

int main(void)
{
    TCase *tc = db_case("checkpoint", 300);
    tcase_add_test(tc, test_the_log_is_empty_and_versions_are_gone_after_a_checkpoint);
    tcase_add_test(tc, test_a_pin_held_through_hundreds_of_commits_does_not_hold_the_log);
    tcase_add_test(tc, test_relogging_more_than_the_reserve_goes_through_scratch);
    tcase_add_test(tc, test_a_pin_in_the_way_is_waited_for_and_named);
    tcase_add_test(tc, test_a_caller_does_not_wait_for_its_own_pins);
    tcase_add_test(tc, test_a_writer_in_the_way_is_waited_for_and_named);
    tcase_add_test(tc, test_a_database_that_was_only_read_has_nothing_to_checkpoint);
    tcase_add_test(tc, test_versions_are_given_back_when_the_oldest_reader_ends);
    tcase_add_test(tc, test_scratch_is_dropped_after_the_commit_or_with_the_last_reader);
    tcase_add_test(tc, test_the_file_is_cut_when_no_reader_needs_its_end);
    tcase_add_test(tc, test_a_checkpoint_within_a_commit_spares_the_transaction);
    return db_main(tc, "checkpoint");
}
