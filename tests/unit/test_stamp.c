/* test_stamp.c: conn_page_stamp and conn_size_committed.
 *
 * Catches: a stamp that stays although the committed content has changed (applied at once, pushed as a
 * version, written anew after a shrink), or that speaks of a version which the snapshot does not see;
 * one that changes for pages nobody has touched; a committed size that follows a running transaction.
 */
#include "tests/unit/db.h"

/* Of a snapshot that begins now. */
static uint64_t stamp(struct conn *c, uint64_t page)
{
    db_ok(conn_begin_read(c, &err));
    uint64_t s = conn_page_stamp(c, page);
    conn_end_read(c);
    return s;
}

START_TEST(a_stamp_changes_with_the_committed_content_and_only_then)
{
    struct conn *c = db_open(unit_path("a.db"));
    db_write(c, 0, 10, 1);
    uint64_t s[10];
    for (uint64_t p = 0; p < 10; p++) {
        s[p] = stamp(c, p);
        ck_assert_uint_ne(s[p], 0);
    }
    db_write(c, 3, 4, 2);
    for (uint64_t p = 0; p < 10; p++)
        ck_assert_msg((stamp(c, p) == s[p]) == (p != 3), "page %llu", (unsigned long long)p);
    /* Nothing of a transaction that is not committed, and nothing of one that was given up. */
    db_begin(c);
    db_put(c, 5, 3);
    ck_assert_uint_eq(conn_page_stamp(c, 5), s[5]);
    db_end(c);
    ck_assert_uint_eq(stamp(c, 5), s[5]);
    db_close(c);
}
END_TEST

START_TEST(a_stamp_is_of_what_the_snapshot_sees_or_not_known)
{
    struct conn *c = db_open(unit_path("a.db")), *reader = db_open(unit_path("a.db"));
    db_write(c, 0, 10, 1);
    ck_assert_uint_eq(conn_page_stamp(reader, 3), 0); /* no snapshot */
    db_ok(conn_begin_read(reader, &err));
    uint64_t before = conn_page_stamp(reader, 3), other = conn_page_stamp(reader, 4);
    db_write(c, 3, 4, 2); /* pushed: the reader still sees the old one */
    ck_assert_uint_eq(conn_page_stamp(reader, 3), 0);
    ck_assert_uint_eq(conn_page_stamp(reader, 4), other);
    uint64_t after = stamp(c, 3);
    ck_assert_uint_ne(after, 0);
    ck_assert_uint_ne(after, before);
    (void)db_checkpoint(c, CHECKPOINT_FULL);
    ck_assert_uint_eq(conn_page_stamp(reader, 3), 0);
    ck_assert_uint_ne(stamp(c, 3), before);
    ck_assert_uint_eq(conn_page_stamp(reader, 1000), 0);
    conn_end_read(reader);
    ck_assert_uint_ne(stamp(reader, 3), 0);
    db_close(reader);
    db_close(c);
}
END_TEST

START_TEST(a_page_that_left_and_came_back_has_another_stamp)
{
    struct conn *c = db_open(unit_path("a.db"));
    db_write(c, 0, 10, 1);
    uint64_t before = stamp(c, 9);
    db_shrink(c, 5);
    ck_assert_uint_eq(stamp(c, 9), 0);
    (void)db_checkpoint(c, CHECKPOINT_TRUNCATE);
    db_write(c, 5, 10, 2);
    ck_assert_uint_ne(stamp(c, 9), 0);
    ck_assert_uint_ne(stamp(c, 9), before);
    db_close(c);
}
END_TEST

START_TEST(the_committed_size_is_the_snapshots)
{
    struct conn *c = db_open(unit_path("a.db")), *reader = db_open(unit_path("a.db"));
    db_write(c, 0, 10, 1);
    db_ok(conn_begin_read(reader, &err));
    db_begin(c);
    db_put(c, 20, 2);
    ck_assert_uint_eq(conn_size(c), 21 * DB_PAGE);
    ck_assert_uint_eq(conn_size_committed(c), 10 * DB_PAGE);
    db_commit(c);
    ck_assert_uint_eq(conn_size_committed(c), 21 * DB_PAGE); /* no snapshot: the newest */
    ck_assert_uint_eq(conn_size_committed(reader), 10 * DB_PAGE);
    conn_end_read(reader);
    db_close(reader);
    db_close(c);
}
END_TEST

int main(void)
{
    TCase *tc = db_case("stamp", 60);
    tcase_add_test(tc, a_stamp_changes_with_the_committed_content_and_only_then);
    tcase_add_test(tc, a_stamp_is_of_what_the_snapshot_sees_or_not_known);
    tcase_add_test(tc, a_page_that_left_and_came_back_has_another_stamp);
    tcase_add_test(tc, the_committed_size_is_the_snapshots);
    return db_main(tc, "stamp");
}
