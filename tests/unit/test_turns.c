/* test_turns.c: would catch a writer that starves beside others, a turn that goes to somebody else than
 * the one who has waited longest, and a soft hold of the writer lock that keeps others from writing:
 * one whose owner only reads, idles, closes, checkpoints or has gone.
 *
 * Nothing here goes by the clock: a writer is refused again only if its hold was stolen, and that is
 * counted; the rest ends or is the test's time-out.
 */
#include <sqlite3.h>

#include "include/daxlite.h"
#include "tests/unit/db.h"

#include "engine/writer.h"

#define THREADS 4u
#define WRITES 5000u
#define ROW_WRITES 3000u

static uint32_t word(const struct region *r)
{
    return atomic_load(&r->header->writer);
}

/* --- whose turn it is --------------------------------------------------------------------------- */

/* As if the turn of whoever had the lock last were over. */
static void pass_on(struct region *r)
{
    writer_end_turn(r);
    ck_assert(writer_trylock(r, 0));
    atomic_store(&r->header->turn_wanted, 2);
    writer_unlock(r, 0);
}

static void expect_turn_of(struct region *r, uint32_t slot)
{
    pass_on(r);
    ck_assert_uint_eq(writer_owner(r), UINT32_MAX);
    ck_assert(!writer_trylock(r, 0));
    ck_assert_uint_eq(atomic_load(&r->slots[slot].turn), 0);
    ck_assert(writer_claim(r, slot));
    ck_assert_uint_eq(writer_owner(r), slot);
    ck_assert(!writer_claim(r, slot));
    writer_unlock(r, slot);
    ck_assert_uint_eq(word(r), 0); /* its turn goes on */
}

START_TEST(test_the_lock_goes_to_whoever_has_waited_longest)
{
    static struct region r;
    unit_ok(region_create(&r, &err));
    atomic_store(&r.header->slot_high, 12);
    atomic_store(&r.slots[3].turn, 2); /* tickets start again after the last one */
    atomic_store(&r.slots[5].turn, UINT32_MAX - 1);
    atomic_store(&r.slots[7].turn, 1);
    atomic_store(&r.slots[11].turn, UINT32_MAX);
    expect_turn_of(&r, 5);
    expect_turn_of(&r, 11);
    expect_turn_of(&r, 7);
    expect_turn_of(&r, 3);
    pass_on(&r); /* nobody is left */
    ck_assert_uint_eq(word(&r), 0);
    ck_assert_uint_eq(atomic_load(&r.header->turn_wanted), 0);
    ck_assert_uint_eq(atomic_load(&r.header->turns_given), 4);
    atomic_store(&r.header->turn_tickets, UINT32_MAX - 1);
    ck_assert_uint_eq(writer_ticket(&r), UINT32_MAX);
    ck_assert_uint_eq(writer_ticket(&r), 1); /* 0 is nobody's */
    region_destroy(&r);
}
END_TEST

START_TEST(test_waiting_for_a_turn_is_bounded_and_leaves_no_trace)
{
    static struct region r;
    unit_ok(region_create(&r, &err));
    atomic_store(&r.header->slot_high, 2);
    ck_assert(writer_trylock(&r, 0));
    static const uint64_t waits[] = {0, 1, 1000, 3000000};
    for (unsigned i = 0; i < sizeof waits / sizeof *waits; i++) {
        ck_assert(!writer_await_turn(&r, 1, i + 1, waits[i]));
        ck_assert_uint_eq(atomic_load(&r.slots[1].turn), 0);
        ck_assert_uint_eq(writer_owner(&r), 0);
    }
    writer_unlock(&r, 0);
    ck_assert_uint_eq(word(&r), 0);
    region_destroy(&r);
}
END_TEST

/* The lock is free, but it is the turn of somebody who may be between two transactions, or waiting for a
 * core. */
START_TEST(test_a_turn_is_not_over_at_the_first_look)
{
    static struct region r;
    unit_ok(region_create(&r, &err));
    atomic_store(&r.header->slot_high, 3);
    for (unsigned soft = 0; soft < 2; soft++) {
        if (soft) /* of slot 2, in the place of a lock that is free */
            ck_assert(writer_await_turn(&r, 2, 1, 0));
        uint32_t was = word(&r);
        ck_assert_int_eq(was != 0, soft);
        atomic_store(&r.header->turn_ends, UINT64_MAX);
        atomic_store(&r.header->turn_wanted, 1);
        ck_assert(!writer_await_turn(&r, 1, 2, 0)); /* one look */
        ck_assert_uint_eq(word(&r), was);
        ck_assert_uint_eq(atomic_load(&r.header->turns_missed), soft + 1);
        ck_assert(writer_await_turn(&r, 1, 2, UINT64_C(500000000000)));
        ck_assert(writer_claim(&r, 1));
        ck_assert_uint_eq(atomic_load(&r.header->turns_stolen), soft);
        writer_unlock(&r, 1);
        ck_assert_uint_eq(word(&r), 0);
        atomic_store(&r.header->turn_wanted, 0);
    }
    region_destroy(&r);
}
END_TEST

/* --- what becomes of a soft hold ----------------------------------------------------------------- */

static struct conn *first, *second;

/* `second` was refused, and begins its next read in its turn. */
static void refuse_second(void)
{
    unit_ok(conn_begin_read(second, &err));
    db_begin(first);
    db_put(first, 0, conn_snapshot(first) + 1);
    db_commit(first);
    unit_fails(conn_begin_write(second, &err), DAX_BUSY_SNAPSHOT, "since this read began");
    conn_end_read(second);
    unit_ok(conn_begin_read_in_turn(second, &err));
    ck_assert_uint_eq(writer_owner(&first->store->region), UINT32_MAX);
    ck_assert(!writer_trylock(&first->store->region, first->slot));
}

static void open_both(void)
{
    first = db_open(unit_path("app.db"));
    second = db_open(unit_path("app.db"));
}

static void expect_free(void)
{
    ck_assert_uint_eq(word(&first->store->region), 0);
    db_begin(first);
    db_end(first);
}

START_TEST(test_who_was_refused_writes_in_its_turn)
{
    open_both();
    for (unsigned i = 0; i < 50; i++) {
        refuse_second();
        unit_ok(conn_begin_write(second, &err));
        db_put(second, 1, i + 1);
        db_commit(second);
        expect_free();
        unit_ok(conn_begin_read_in_turn(second, &err)); /* was not refused: no hold */
        ck_assert_uint_eq(word(&first->store->region), 0);
        conn_end_read(second);
    }
    db_close(first);
    db_close(second);
}
END_TEST

START_TEST(test_a_soft_hold_that_idles_is_stolen)
{
    open_both();
    refuse_second();
    uint64_t stolen = atomic_load(&first->store->region.header->turns_stolen);
    db_begin(first);
    ck_assert_uint_gt(atomic_load(&first->store->region.header->turns_stolen), stolen);
    unit_fails(conn_begin_write(second, &err), DAX_BUSY, "another connection is writing");
    uint64_t was = conn_snapshot(second);
    db_put(first, 0, was + 1);
    db_commit(first);
    uint8_t page[DAX_PAGE_BYTES];
    unit_ok(conn_read(second, page, sizeof page, 0, &err));
    unit_fails(conn_begin_write(second, &err), DAX_BUSY_SNAPSHOT, "since this read began");
    conn_end_read(second);
    expect_free();
    unit_ok(conn_begin_read_in_turn(second, &err));
    unit_ok(conn_begin_write(second, &err));
    db_end(second);
    expect_free();
    db_close(first);
    db_close(second);
}
END_TEST

START_TEST(test_a_soft_hold_ends_with_whatever_ends_the_read)
{
    struct checkpoint_result result;
    open_both();
    refuse_second();
    conn_end_read(second);
    expect_free();
    refuse_second();
    unit_ok(conn_checkpoint(second, CHECKPOINT_PASSIVE, NULL, NULL, &result, &err));
    unit_ok(conn_begin_write(second, &err)); /* nobody has committed */
    db_end(second);
    expect_free();
    refuse_second();
    unit_ok(conn_checkpoint(first, CHECKPOINT_PASSIVE, NULL, NULL, &result, &err));
    ck_assert(!result.busy);
    unit_ok(conn_begin_write(second, &err));
    db_end(second);
    refuse_second();
    db_close(second);
    expect_free();
    db_close(first);
}
END_TEST

static _Atomic bool hold_begun, hold_ends;

static void *hold_lock(void *arg)
{
    (void)arg;
    db_begin(first);
    atomic_store(&hold_begun, true);
    while (!atomic_load(&hold_ends))
        usleep(1000);
    db_end(first);
    return NULL;
}

/* Once is no reason: it may only read from now on. */
START_TEST(test_who_is_refused_again_waits_for_longer)
{
    pthread_t thread;
    open_both();
    struct region_header *h = first->store->region.header;
    for (unsigned round = 0; round < 2; round++) {
        atomic_store(&hold_begun, false);
        atomic_store(&hold_ends, false);
        ck_assert_int_eq(pthread_create(&thread, NULL, hold_lock, NULL), 0);
        while (!atomic_load(&hold_begun))
            usleep(1000);
        unit_ok(conn_begin_read_in_turn(second, &err)); /* was not refused: does not wait */
        uint64_t missed = atomic_load(&h->turns_missed);
        for (unsigned i = 0; i < 2; i++) {
            unit_fails(conn_begin_write(second, &err), DAX_BUSY, "another connection is writing");
            ck_assert_uint_eq(second->missed, i);
            conn_end_read(second);
            unit_ok(conn_begin_read_in_turn(second, &err));
            ck_assert_uint_eq(second->missed, i + 1);
            ck_assert_uint_eq(atomic_load(&h->turns_missed), missed + i + 1);
        }
        atomic_store(&hold_ends, true);
        pthread_join(thread, NULL);
        if (round == 0) { /* written at last; else it has only read */
            unit_ok(conn_begin_write(second, &err));
            db_put(second, 1, 1);
            db_commit(second);
        }
        conn_end_read(second);
        ck_assert_uint_eq(second->ticket, 0);
        expect_free();
    }
    db_close(first);
    db_close(second);
}
END_TEST

/* --- contention ---------------------------------------------------------------------------------- */

struct contender {
    pthread_t thread;
    unsigned number;
    uint64_t writes;
};

static struct contender contenders[THREADS];
static _Atomic unsigned unfinished;

static void contend(void *(*body)(void *))
{
    atomic_store(&unfinished, THREADS);
    for (unsigned i = 0; i < THREADS; i++) {
        contenders[i] = (struct contender){.number = i};
        ck_assert_int_eq(pthread_create(&contenders[i].thread, NULL, body, &contenders[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(contenders[i].thread, NULL);
}

/* One more. Who has done its part goes on until all have, so that nobody gets through for want of
 * others. */
static void contender_count(struct contender *c, unsigned enough)
{
    if (++c->writes == enough)
        unfinished--;
}

static void *write_in_turn(void *arg)
{
    struct contender *c = arg;
    struct conn *conn = db_open(unit_path("app.db"));
    struct region *r = &conn->store->region;
    while (atomic_load(&unfinished)) {
        uint64_t stolen = atomic_load(&r->header->turns_stolen);
        db_ok(conn_begin_read_in_turn(conn, &err));
        bool soft = conn->soft;
        dax_rc rc = conn_begin_write(conn, &err);
        if (rc == DAX_OK) {
            db_put(conn, c->number + 1, c->writes + 1);
            db_ok(conn_commit(conn, &err));
            contender_count(c, WRITES);
        } else {
            db_must(rc == DAX_BUSY || rc == DAX_BUSY_SNAPSHOT, "%s", err.text);
            db_must(!soft || atomic_load(&r->header->turns_stolen) != stolen,
                    "refused in its turn: %s", err.text);
        }
        db_end(conn);
    }
    db_close(conn);
    return NULL;
}

START_TEST(test_nobody_is_refused_in_its_turn_unless_it_was_stolen)
{
    struct conn *keep = db_open(unit_path("app.db"));
    db_begin(keep);
    db_put(keep, 0, 1);
    db_commit(keep);
    contend(write_in_turn);
    ck_assert_uint_eq(word(&keep->store->region), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        uint8_t page[DAX_PAGE_BYTES];
        unit_ok(conn_begin_read(keep, &err));
        unit_ok(conn_read(keep, page, sizeof page, (i + 1) * DB_PAGE, &err));
        ck_assert_uint_eq(db_version(page, i + 1), contenders[i].writes);
        conn_end_read(keep);
    }
    db_close(keep);
}
END_TEST

/* --- SQLite -------------------------------------------------------------------------------------- */

static sqlite3 *open_sql(void)
{
    char uri[700];
    sqlite3 *db;
    snprintf(uri, sizeof uri, "file:%s?vfs=dax&dax_log_size=8388608", unit_path("sql.db"));
    int rc = sqlite3_open_v2(
        uri, &db,
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL);
    db_must(rc == SQLITE_OK, "%s: %s", uri, sqlite3_errmsg(db));
    sqlite3_busy_timeout(db, 1000000);
    return db;
}

static int run(sqlite3 *db, const char *sql)
{
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    db_must(rc == SQLITE_OK || (rc & 0xff) == SQLITE_BUSY, "%s: %s", sql, sqlite3_errmsg(db));
    return rc;
}

/* Holds that were lost, and waits that were in vain. */
static uint64_t turns_lost(void)
{
    struct region_header *h = first->store->region.header;
    return atomic_load(&h->turns_stolen) + atomic_load(&h->turns_missed);
}

/* Thread 0 reads before it writes, within a transaction, where SQLite does not ask the busy handler. */
static void *update_rows(void *arg)
{
    struct contender *c = arg;
    sqlite3 *db = open_sql();
    char update[80];
    bool refused = false;
    snprintf(update, sizeof update, "UPDATE t SET n = n + 1 WHERE id = %u", c->number);
    while (atomic_load(&unfinished)) {
        if (c->number > 0) {
            db_must(run(db, update) == SQLITE_OK, "refused for ever: %s", sqlite3_errmsg(db));
            contender_count(c, ROW_WRITES);
            continue;
        }
        uint64_t lost = turns_lost();
        db_must(run(db, "BEGIN") == SQLITE_OK && run(db, "SELECT sum(n) FROM t") == SQLITE_OK, "%s",
                sqlite3_errmsg(db));
        bool done = run(db, update) == SQLITE_OK && run(db, "COMMIT") == SQLITE_OK;
        if (done)
            contender_count(c, ROW_WRITES);
        else
            run(db, "ROLLBACK");
        db_must(done || !refused || turns_lost() != lost, "refused twice, but no turn was lost");
        refused = !done;
    }
    sqlite3_close(db);
    return NULL;
}

START_TEST(test_every_sql_writer_gets_through_beside_the_others)
{
    ck_assert_int_eq(daxlite_register(0), SQLITE_OK);
    sqlite3 *db = open_sql();
    run(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, n INT)");
    run(db, "INSERT INTO t VALUES (0, 0), (1, 0), (2, 0), (3, 0)");
    struct dax_options options = db_options();
    options.join = true;
    unit_ok(conn_open(unit_path("sql.db"), &options, &first, &err)); /* to look at the counters */
    contend(update_rows);
    unit_ok(conn_close(first, &err));
    for (unsigned i = 0; i < THREADS; i++) {
        sqlite3_stmt *stmt;
        sqlite3_prepare_v2(db, "SELECT n FROM t WHERE id = ?", -1, &stmt, NULL);
        sqlite3_bind_int(stmt, 1, (int)i);
        ck_assert_int_eq(sqlite3_step(stmt), SQLITE_ROW);
        ck_assert_int_eq(sqlite3_column_int64(stmt, 0), (sqlite3_int64)contenders[i].writes);
        sqlite3_finalize(stmt);
    }
    sqlite3_close(db);
}
END_TEST

int main(void)
{
    TCase *tc = db_case("turns", 600);
    tcase_add_test(tc, test_the_lock_goes_to_whoever_has_waited_longest);
    tcase_add_test(tc, test_waiting_for_a_turn_is_bounded_and_leaves_no_trace);
    tcase_add_test(tc, test_a_turn_is_not_over_at_the_first_look);
    tcase_add_test(tc, test_who_was_refused_writes_in_its_turn);
    tcase_add_test(tc, test_a_soft_hold_that_idles_is_stolen);
    tcase_add_test(tc, test_a_soft_hold_ends_with_whatever_ends_the_read);
    tcase_add_test(tc, test_who_is_refused_again_waits_for_longer);
    tcase_add_test(tc, test_nobody_is_refused_in_its_turn_unless_it_was_stolen);
    tcase_add_test(tc, test_every_sql_writer_gets_through_beside_the_others);
    return db_main(tc, "turns");
}
