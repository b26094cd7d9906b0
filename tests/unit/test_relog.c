/* test_relog.c: would catch a log that grows, or scratch that grows, while many pages stay pinned; a
 * relog record that a crash cannot use, because its list or its pages in scratch were overwritten by
 * the next one; a relog that fails half-way and takes the live one with it.
 *
 * So many pages are pinned that their difference from base does not go into the log: the list is in
 * scratch, in one of two areas that take turns.
 */
#include <sys/resource.h>

#include "tests/unit/db.h"

#define PAGES 700u
#define PINNED_FROM 16u
#define READERS 2u
#define SPAN DAX_PIN_PAGES

struct pins {
    struct conn *conn;
    void *at[DAX_SLOT_PINS_SHARED];
    uint64_t from; /* first page */
};

static void pins_take(struct pins *p, const char *path, uint64_t from)
{
    p->conn = db_open(path);
    p->from = from;
    unit_ok(conn_begin_read(p->conn, &err));
    for (unsigned i = 0; i < DAX_SLOT_PINS_SHARED; i++) {
        unit_ok(conn_pin(p->conn, (from + i * SPAN) * DB_PAGE, SPAN * DB_PAGE, &p->at[i], &err));
        ck_assert_ptr_nonnull(p->at[i]);
    }
}

static void pins_check(const struct pins *p, uint64_t version)
{
    for (unsigned i = 0; i < DAX_SLOT_PINS_SHARED; i++)
        for (unsigned k = 0; k < SPAN; k++)
            db_must(db_version((uint8_t *)p->at[i] + k * DB_PAGE, p->from + i * SPAN + k) == version,
                    "a pinned page has changed");
}

static void pins_drop(struct pins *p)
{
    for (unsigned i = 0; i < DAX_SLOT_PINS_SHARED; i++)
        conn_unpin(p->conn, (p->from + i * SPAN) * DB_PAGE, p->at[i]);
    conn_end_read(p->conn);
    db_close(p->conn);
}

/* After each of many relogs: nothing grows, and a crash right then loses nothing. */
START_TEST(test_relogging_many_pinned_pages_needs_no_more_space_each_time)
{
    char path[512], copy[512];
    struct pins pins[READERS];
    snprintf(path, sizeof path, "%s", unit_path("app.db"));
    struct conn *writer = db_open(path);
    db_write(writer, 0, PAGES, 1);
    db_checkpoint(writer, CHECKPOINT_TRUNCATE);
    for (unsigned i = 0; i < READERS; i++)
        pins_take(&pins[i], path, PINNED_FROM + i * DAX_SLOT_PINS_SHARED * SPAN);

    uint64_t most = 0, relogged = 0;
    enum {
        ROUNDS = 24
    };
    for (uint64_t round = 0; round < ROUNDS; round++) {
        db_write(writer, 0, PAGES, 2 + round); /* through scratch, so a checkpoint follows at once */
        struct checkpoint_result result = db_checkpoint(writer, CHECKPOINT_PASSIVE);
        ck_assert_uint_le(result.log_bytes_after, 1024); /* one record with its list elsewhere */
        struct store_status status = db_status(writer);
        relogged += READERS * DAX_SLOT_PINS_SHARED * SPAN;
        ck_assert_uint_eq(status.pages_relogged, relogged);
        if (round == 4)
            most = status.scratch_bytes;
        if (round > 4)
            ck_assert_uint_le(status.scratch_bytes, most);
        if (round % 3 == 0 || round == ROUNDS - 1) {
            snprintf(copy, sizeof copy, "%s", unit_path("copy.db"));
            db_copy(path, copy);
        }
    }
    for (unsigned i = 0; i < READERS; i++) {
        pins_check(&pins[i], 1);
        pins_drop(&pins[i]);
    }
    ck_assert_uint_eq(db_status(writer).frames_used, 0);
    db_checkpoint(writer, CHECKPOINT_PASSIVE);
    ck_assert_uint_eq(db_status(writer).scratch_bytes, 0);
    db_close(writer);

    writer = db_open(copy); /* as after kill -9 behind the last relog */
    db_check_all(writer, PAGES, 1 + ROUNDS);
    db_close(writer);
}
END_TEST

/* No space for the next list: the checkpoint fails, again and again, and the live record, which is
 * all that holds the newest version of the pinned pages, stays whole. */
START_TEST(test_a_relog_that_finds_no_space_leaves_the_live_one_alone)
{
    char path[512], copy[512];
    struct pins pins;
    struct checkpoint_result result;
    snprintf(path, sizeof path, "%s", unit_path("app.db"));
    struct conn *writer = db_open(path);
    db_write(writer, 0, PAGES, 1);
    db_checkpoint(writer, CHECKPOINT_TRUNCATE);
    pins_take(&pins, path, PINNED_FROM);
    db_write(writer, 0, PAGES, 2);
    ck_assert_uint_gt(db_status(writer).pages_relogged, 0);

    db_write(writer, 0, 4, 3);
    struct rlimit limit, none;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    signal(SIGXFSZ, SIG_IGN);
    none = limit;
    none.rlim_cur = DAX_PAGE_BYTES; /* nothing can grow */
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &none), 0);
    for (unsigned i = 0; i < 4; i++)
        (void)!conn_checkpoint(writer, CHECKPOINT_PASSIVE, NULL, NULL, &result, &err);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    snprintf(copy, sizeof copy, "%s", unit_path("copy.db"));
    db_copy(path, copy);
    pins_check(&pins, 1);
    pins_drop(&pins);
    db_close(writer);

    writer = db_open(copy);
    unit_ok(conn_begin_read(writer, &err));
    db_check_range(writer, 0, 4, 3);
    db_check_range(writer, 4, PAGES, 2);
    conn_end_read(writer);
    db_close(writer);
}
END_TEST

int main(void)
{
    TCase *tc = db_case("relog", 300);
    tcase_add_test(tc, test_relogging_many_pinned_pages_needs_no_more_space_each_time);
    tcase_add_test(tc, test_a_relog_that_finds_no_space_leaves_the_live_one_alone);
    return db_main(tc, "relog");
}
