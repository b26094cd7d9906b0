/* test_txn.c: would catch bytes of an abandoned transaction, or of a page that was cut off,
 * showing up later; a transaction that does not see itself; private pages beyond the budget;
 * direct stores to pages that the log or a reader knows (L2); and a prepare that does something
 * different the second time.
 */
#include "tests/unit/db.h"

#include "engine/lines.h"
#include "engine/txn.h"

#define PAGES 20u

static struct conn *writer;
static struct store *store;

static void txn_open(uint64_t pages)
{
    writer = db_open(unit_path("app.db"));
    store = writer->store;
    db_write(writer, 0, pages, 1);
}

/* As the connection sees it, in its transaction or snapshot. */
static void check_zeros(uint64_t from, uint64_t bytes)
{
    static uint8_t buf[1 << 20];
    ck_assert_uint_le(bytes, sizeof buf);
    unit_ok(conn_read(writer, buf, bytes, from, &err));
    for (uint64_t i = 0; i < bytes; i++)
        db_must(buf[i] == 0, "byte %llu is %02x", (unsigned long long)(from + i), buf[i]);
}

/* In a new snapshot, and at rest. */
static void check_reopened(uint64_t pages)
{
    db_close(writer);
    ck_assert_uint_eq(unit_file_size(unit_path("app.db")), pages * DB_PAGE);
    writer = db_open(unit_path("app.db"));
    store = writer->store;
    unit_ok(conn_begin_read(writer, &err));
    ck_assert_uint_eq(conn_size(writer), pages * DB_PAGE);
}

/* --- holes ------------------------------------------------------------------------------------ */

START_TEST(test_pages_that_nobody_wrote_are_zeros)
{
    txn_open(PAGES);
    /* What an abandoned transaction leaves in base must not be what the hole shows. */
    db_begin(writer);
    for (uint64_t page = PAGES; page < 200; page++)
        db_put(writer, page, 666);
    db_end(writer);

    db_begin(writer);
    db_put(writer, 100, 2);
    unit_ok(conn_truncate(writer, 150 * DB_PAGE, &err));
    check_zeros(PAGES * DB_PAGE, (100 - PAGES) * DB_PAGE);
    db_check(writer, 100, 2);
    check_zeros(101 * DB_PAGE, 49 * DB_PAGE);
    db_commit(writer);
    unit_ok(conn_begin_read(writer, &err));
    for (unsigned again = 0; again < 2; again++) {
        ck_assert_uint_eq(conn_size(writer), 150 * DB_PAGE);
        db_check_range(writer, 0, PAGES, 1);
        check_zeros(PAGES * DB_PAGE, (100 - PAGES) * DB_PAGE);
        db_check(writer, 100, 2);
        check_zeros(101 * DB_PAGE, 49 * DB_PAGE);
        conn_end_read(writer);
        if (again == 0)
            check_reopened(150);
    }
    db_close(writer);
}
END_TEST

START_TEST(test_part_of_a_new_page_has_zeros_around_it)
{
    txn_open(PAGES);
    db_write(writer, PAGES, 64, 666); /* then cut off: history */
    db_shrink(writer, PAGES);
    db_begin(writer);
    for (uint64_t page = 64; page < 80; page++)
        db_put(writer, page, 666); /* stored to base directly */
    db_end(writer);
    db_begin(writer);
    static const uint64_t pages[] = {30, 70};
    for (unsigned i = 0; i < 2; i++)
        unit_ok(conn_write(writer, "0123456789", 10, pages[i] * DB_PAGE + 500, &err));
    for (unsigned again = 0; again < 2; again++) {
        for (unsigned i = 0; i < 2; i++) {
            char text[10];
            check_zeros(pages[i] * DB_PAGE, 500);
            unit_ok(conn_read(writer, text, 10, pages[i] * DB_PAGE + 500, &err));
            ck_assert_int_eq(memcmp(text, "0123456789", 10), 0);
        }
        check_zeros(30 * DB_PAGE + 510, 40 * DB_PAGE + 500 - 510);
        if (again == 0) {
            db_commit(writer);
            db_checkpoint(writer, CHECKPOINT_FULL);
            unit_ok(conn_begin_read(writer, &err));
        }
    }
    conn_end_read(writer);
    db_close(writer);
}
END_TEST

/* --- sizes ------------------------------------------------------------------------------------ */

START_TEST(test_truncate_and_regrow_do_not_bring_old_content_back)
{
    txn_open(PAGES);
    for (unsigned round = 0; round < 4;
         round++) { /* in one transaction, in two, with checkpoints */
        db_begin(writer);
        unit_ok(conn_truncate(writer, 10 * DB_PAGE, &err));
        ck_assert_uint_eq(conn_size(writer), 10 * DB_PAGE);
        if (round & 1) {
            db_commit(writer);
            if (round & 2)
                db_checkpoint(writer, CHECKPOINT_TRUNCATE);
            db_begin(writer);
        }
        unit_ok(conn_truncate(writer, 18 * DB_PAGE, &err));
        db_put(writer, 15, 2);
        check_zeros(10 * DB_PAGE, 5 * DB_PAGE);
        db_commit(writer);
        unit_ok(conn_begin_read(writer, &err));
        ck_assert_uint_eq(conn_size(writer), 18 * DB_PAGE);
        db_check_range(writer, 0, 10, 1);
        check_zeros(10 * DB_PAGE, 5 * DB_PAGE);
        db_check(writer, 15, 2);
        check_zeros(16 * DB_PAGE, 2 * DB_PAGE);
        conn_end_read(writer);
        db_write(writer, 10, PAGES, 1);
        db_check_all(writer, PAGES, 1);
    }
    db_close(writer);
}
END_TEST

START_TEST(test_a_size_within_a_page_cuts_the_rest_of_it)
{
    txn_open(PAGES);
    db_begin(writer);
    unit_ok(conn_truncate(writer, 12 * DB_PAGE + 1024, &err));
    unit_ok(conn_truncate(writer, 14 * DB_PAGE, &err));
    check_zeros(12 * DB_PAGE + 1024, 2 * DB_PAGE - 1024);
    db_commit(writer);
    db_shrink(writer, 11);
    db_begin(writer);
    unit_ok(conn_truncate(writer, 10 * DB_PAGE + 512, &err));
    db_commit(writer);
    unit_ok(conn_begin_read(writer, &err));
    ck_assert_uint_eq(conn_size(writer), 10 * DB_PAGE + 512);
    uint8_t page[DAX_PAGE_BYTES], want[DAX_PAGE_BYTES];
    memset(page, 0x55, sizeof page);
    ck_assert_int_eq(conn_read(writer, page, sizeof page, 10 * DB_PAGE, &err), DAX_SHORT_READ);
    db_fill(want, 10, 1);
    memset(want + 512, 0, sizeof want - 512);
    ck_assert_int_eq(memcmp(page, want, sizeof page), 0);
    conn_end_read(writer);
    db_close(writer);
    ck_assert_uint_eq(unit_file_size(unit_path("app.db")), 10 * DB_PAGE + 512);
}
END_TEST

START_TEST(test_a_database_has_a_largest_size)
{
    txn_open(PAGES);
    db_begin(writer);
    unit_fails(conn_write(writer, "x", 1, DAX_MAX_PAGES * DB_PAGE, &err), DAX_FULL, "TiB");
    unit_fails(conn_truncate(writer, DAX_MAX_PAGES * DB_PAGE + 1, &err), DAX_FULL, "TiB");
    db_commit(writer);
    db_check_all(writer, PAGES, 1);
    db_close(writer);
}
END_TEST

/* --- where pages go --------------------------------------------------------------------------- */

START_TEST(test_nobody_sees_a_private_page_and_an_abort_forgets_it)
{
    txn_open(PAGES);
    struct conn *other = db_open(unit_path("app.db"));
    db_begin(writer);
    db_put(writer, 3, 2);
    db_put(writer, PAGES, 2);
    unit_ok(conn_truncate(writer, 15 * DB_PAGE, &err));
    db_check(writer, 3, 2);
    ck_assert_uint_eq(conn_size(writer), 15 * DB_PAGE);
    db_check_all(other, PAGES, 1);
    uint8_t page[DAX_PAGE_BYTES];
    unit_ok(conn_read_committed(writer, page, sizeof page, 3 * DB_PAGE, &err));
    ck_assert_uint_eq(db_version(page, 3), 1);
    unit_ok(conn_read_committed(writer, page, sizeof page, 17 * DB_PAGE, &err));
    ck_assert_uint_eq(db_version(page, 17), 1);
    ck_assert_uint_eq(store->txn.private_count, 1);
    uint64_t aborts = db_status(other).aborts;
    db_end(writer);
    ck_assert_uint_eq(db_status(other).aborts, aborts + 1);
    ck_assert_uint_eq(db_status(other).frames_used, 0);
    db_check_all(writer, PAGES, 1);
    db_check_all(other, PAGES, 1);
    db_close(other);
    db_close(writer);
}
END_TEST

START_TEST(test_new_pages_go_straight_to_base_unless_the_log_knows_them)
{
    txn_open(PAGES);
    db_begin(writer);
    db_put(writer, PAGES, 2);
    ck_assert(txn_is_direct(&store->txn, PAGES));
    ck_assert_ptr_null(txn_find(&store->txn, PAGES));
    db_commit(writer);
    ck_assert_uint_ge(db_status(writer).pages_direct, 1);
    /* Page 20 is changed by a logged record, then cut off: it is not direct while the record
     * lives. */
    db_write(writer, PAGES, PAGES + 1, 3);
    db_shrink(writer, PAGES);
    db_begin(writer);
    db_put(writer, PAGES, 4);
    ck_assert(!txn_is_direct(&store->txn, PAGES));
    ck_assert_ptr_nonnull(txn_find(&store->txn, PAGES));
    db_end(writer);
    db_checkpoint(writer, CHECKPOINT_TRUNCATE);
    db_begin(writer);
    db_put(writer, PAGES + 600, 5); /* beyond everything: direct */
    ck_assert(txn_is_direct(&store->txn, PAGES + 600));
    db_end(writer);
    db_check_all(writer, PAGES, 1);
    db_close(writer);
}
END_TEST

START_TEST(test_a_direct_page_written_twice_and_in_parts_is_what_was_written)
{
    txn_open(PAGES);
    uint8_t page[DAX_PAGE_BYTES];
    db_fill(page, 25, 3);
    db_begin(writer);
    for (unsigned i = 8; i-- > 0;)
        unit_ok(conn_write(writer, page + i * 512, 512, 25 * DB_PAGE + i * 512, &err));
    db_check(writer, 25, 3);
    db_put(writer, 25, 4);
    db_fill(page, 25, 5);
    unit_ok(conn_write(writer, page, 2048, 25 * DB_PAGE, &err));
    unit_ok(conn_write(writer, page + 2048, 2048, 25 * DB_PAGE + 2048, &err));
    db_check(writer, 25, 5);
    db_commit(writer);
    check_reopened(26);
    db_check(writer, 25, 5);
    check_zeros(PAGES * DB_PAGE, 5 * DB_PAGE);
    conn_end_read(writer);
    db_close(writer);
}
END_TEST

START_TEST(test_pages_beyond_the_budget_go_to_scratch)
{
    enum {
        MANY = 400
    };
    txn_open(MANY);
    uint64_t budget = DAX_PRIVATE_BYTES_MIN / DB_PAGE;
    db_begin(writer);
    for (uint64_t page = 1; page < MANY; page++) {
        db_put(writer, page, 2);
        ck_assert_uint_le(store->txn.private_count, budget);
    }
    ck_assert_uint_eq(store->txn.scratch_count, MANY - 1 - budget);
    db_put(writer, 0, 2); /* carries the mark: private, whatever the budget says */
    ck_assert_uint_eq(txn_find(&store->txn, 0)->scratch, 0);
    /* Some again, some in part. */
    for (uint64_t page = 1; page < MANY; page += 3) {
        uint8_t bytes[DAX_PAGE_BYTES];
        db_fill(bytes, page, 3);
        unit_ok(conn_write(writer, bytes, 1000, page * DB_PAGE, &err));
        unit_ok(conn_write(writer, bytes + 1000, 3096, page * DB_PAGE + 1000, &err));
    }
    for (uint64_t page = 0; page < MANY; page++)
        db_check(writer, page, page % 3 == 1 ? 3 : 2);
    db_commit(writer);
    check_reopened(MANY);
    for (uint64_t page = 0; page < MANY; page++)
        db_check(writer, page, page % 3 == 1 ? 3 : 2);
    conn_end_read(writer);
    db_close(writer);
}
END_TEST

START_TEST(test_a_truncate_gives_the_budget_back)
{
    enum {
        MANY = 100
    };
    txn_open(MANY);
    db_begin(writer);
    for (unsigned round = 0; round < 5; round++) {
        for (uint64_t page = 50; page < MANY; page++)
            db_put(writer, page, 2 + round);
        ck_assert_uint_eq(store->txn.private_count, MANY - 50);
        ck_assert_uint_eq(store->txn.scratch_count, 0);
        unit_ok(conn_truncate(writer, 50 * DB_PAGE, &err));
        ck_assert_uint_eq(store->txn.private_count, 0);
    }
    for (uint64_t page = 50; page < 60; page++)
        db_put(writer, page, 9);
    db_commit(writer);
    unit_ok(conn_begin_read(writer, &err));
    ck_assert_uint_eq(conn_size(writer), 60 * DB_PAGE);
    db_check_range(writer, 0, 50, 1);
    db_check_range(writer, 50, 60, 9);
    conn_end_read(writer);
    db_close(writer);
}
END_TEST

/* --- prepare ---------------------------------------------------------------------------------- */

START_TEST(test_prepare_is_idempotent_and_a_write_after_it_counts)
{
    txn_open(PAGES);
    db_begin(writer);
    db_put(writer, 2, 2);
    db_put(writer, PAGES + 3, 2);
    unit_ok(conn_prepare(writer, &err));
    struct txn once = store->txn;
    ck_assert(once.prepared);
    ck_assert_uint_eq(once.log_pages, 1);
    ck_assert_uint_eq(once.log_lines, 64);
    ck_assert_uint_eq(once.direct_count, 4); /* three of them are the hole */
    for (unsigned i = 0; i < 3; i++) {
        unit_ok(conn_prepare(writer, &err));
        ck_assert_int_eq(memcmp(&once, &store->txn, sizeof once), 0);
    }
    db_put(writer, 4, 2);
    ck_assert(!store->txn.prepared);
    unit_ok(conn_prepare(writer, &err));
    ck_assert_uint_eq(store->txn.log_pages, 2);
    uint8_t page[DAX_PAGE_BYTES]; /* as before: no line of it has changed */
    db_fill(page, 2, 1);
    unit_ok(conn_write(writer, page, sizeof page, 2 * DB_PAGE, &err));
    page[100] ^= 1;
    unit_ok(conn_write(writer, page, 200, 2 * DB_PAGE, &err));
    unit_ok(conn_prepare(writer, &err));
    ck_assert_uint_eq(store->txn.log_pages, 2);
    ck_assert_uint_eq(store->txn.log_lines, 65);
    ck_assert_uint_eq(txn_find(&store->txn, 2)->bitmap, 2);
    db_commit(writer);
    unit_ok(conn_begin_read(writer, &err));
    db_check(writer, 4, 2);
    check_zeros(PAGES * DB_PAGE, 3 * DB_PAGE);
    db_check(writer, PAGES + 3, 2);
    conn_end_read(writer);
    db_close(writer);
}
END_TEST

/* 63 pages of 64 lines are within the budget and more than a small ring takes in one record. */
START_TEST(test_a_record_too_large_for_the_ring_becomes_pairs)
{
    const char *path = unit_path("app.db");
    txn_open(100);
    db_small_ring(writer, 128 * DAX_KIB);
    db_close(writer);
    writer = db_open(path);
    store = writer->store;
    for (uint64_t version = 2; version < 8; version++) {
        db_begin(writer);
        for (uint64_t page = 0; page < 60; page++)
            db_put(writer, page, version);
        ck_assert_uint_eq(store->txn.private_count, 60);
        unit_ok(conn_prepare(writer, &err));
        ck_assert_uint_eq(store->txn.log_pages, 0);
        ck_assert_uint_eq(store->txn.log_pairs, 60);
        ck_assert_uint_eq(store->txn.private_count, 0);
        db_check_range(writer, 0, 60, version);
        unit_ok(conn_prepare(writer, &err));
        db_commit(writer);
        unit_ok(conn_begin_read(writer, &err));
        db_check_range(writer, 0, 60, version);
        db_check_range(writer, 60, 100, 1);
        conn_end_read(writer);
    }
    check_reopened(100);
    db_check_range(writer, 0, 60, 7);
    conn_end_read(writer);
    db_close(writer);
}
END_TEST

/* SQLite may write page 0 again behind a prepare that has moved it to scratch: its version there needs the mark
 * again. Without it a crash leaves a file that says it is plain, and the log is forgotten. */
START_TEST(test_page_0_has_its_mark_also_when_it_is_written_again_in_scratch)
{
    const char *path = unit_path("app.db"), *copy = unit_path("copy.db");
    txn_open(100);
    db_small_ring(writer, 128 * DAX_KIB);
    db_close(writer);
    writer = db_open(path);
    store = writer->store;
    db_begin(writer);
    for (uint64_t page = 0; page < 60; page++)
        db_put(writer, page, 2);
    unit_ok(conn_prepare(writer, &err));
    ck_assert_uint_ne(txn_find(&store->txn, 0)->scratch, 0);
    if (_i < 2)
        db_put(writer, 0, 3);
    else /* a part of it */
        unit_ok(conn_write(writer, "\1\1", 2, DAX_HEADER_WRITE_VERSION, &err));
    if (_i % 2)
        unit_ok(conn_prepare(writer, &err));
    db_commit(writer);
    db_checkpoint(writer, CHECKPOINT_FULL);
    ck_assert_uint_eq(*base_at(&store->base, DAX_HEADER_READ_VERSION), DAX_MARK_READ_VERSION);
    db_write(writer, 70, 71, 4); /* in the log */
    db_copy(path, copy);
    struct conn *again = db_open(copy);
    unit_ok(conn_begin_read(again, &err));
    if (_i < 2)
        db_check(again, 0, 3);
    db_check_range(again, 1, 60, 2);
    db_check(again, 70, 4);
    conn_end_read(again);
    db_close(again);
    db_close(writer);
}
END_TEST

int main(void)
{
    TCase *tc = db_case("txn", 300);
    tcase_add_test(tc, test_pages_that_nobody_wrote_are_zeros);
    tcase_add_test(tc, test_part_of_a_new_page_has_zeros_around_it);
    tcase_add_test(tc, test_truncate_and_regrow_do_not_bring_old_content_back);
    tcase_add_test(tc, test_a_size_within_a_page_cuts_the_rest_of_it);
    tcase_add_test(tc, test_a_database_has_a_largest_size);
    tcase_add_test(tc, test_nobody_sees_a_private_page_and_an_abort_forgets_it);
    tcase_add_test(tc, test_new_pages_go_straight_to_base_unless_the_log_knows_them);
    tcase_add_test(tc, test_a_direct_page_written_twice_and_in_parts_is_what_was_written);
    tcase_add_test(tc, test_pages_beyond_the_budget_go_to_scratch);
    tcase_add_test(tc, test_a_truncate_gives_the_budget_back);
    tcase_add_test(tc, test_prepare_is_idempotent_and_a_write_after_it_counts);
    tcase_add_test(tc, test_a_record_too_large_for_the_ring_becomes_pairs);
    tcase_add_loop_test(tc, test_page_0_has_its_mark_also_when_it_is_written_again_in_scratch, 0, 4);
    return db_main(tc, "txn");
}
