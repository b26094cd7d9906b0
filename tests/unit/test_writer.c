/* test_writer.c: would catch two writers at a time, a lock that does not order what it protects
 * (under ThreadSanitizer), a waiter that is never woken or never gives up, and a lock that belongs
 * to a thread instead of a slot.
 *
 * Waiters that must be woken wait for minutes: a lost wake-up is the test's time-out.
 */
#include "tests/unit/db.h"

#include "engine/writer.h"

#define LONG_NS (UINT64_C(1000) * 1000000000u)
#define THREADS 6u

static struct region region;
static uint64_t guarded_count; /* by the lock, not atomic on purpose */
static uint32_t guarded_inside;

struct contender {
    pthread_t thread;
    uint32_t slot;
    unsigned turns;
    uint64_t wait_ns;
    uint64_t got;
};

static void contender_work(struct contender *c, unsigned turn)
{
    db_must(guarded_inside == 0, "slots %u and %u are inside", guarded_inside - 1, c->slot);
    guarded_inside = c->slot + 1;
    db_must(writer_owner(&region) == c->slot, "owner is %u", writer_owner(&region));
    guarded_count++;
    c->got++;
    if (turn % 3 == 0)
        sched_yield(); /* others arrive, find it taken and sleep */
    guarded_inside = 0;
}

static void *contender_main(void *arg)
{
    struct contender *c = arg;
    for (unsigned turn = 0; turn < c->turns; turn++) {
        bool locked = c->wait_ns ? writer_lock(&region, c->slot, 0, c->wait_ns)
                                 : writer_trylock(&region, c->slot);
        db_must(locked || c->wait_ns != LONG_NS, "gave up after a thousand seconds");
        if (!locked)
            continue;
        contender_work(c, turn);
        writer_unlock(&region, c->slot);
    }
    return NULL;
}

static void contenders_run(struct contender *c, unsigned count)
{
    uint64_t got = 0;
    guarded_count = 0;
    for (unsigned i = 0; i < count; i++) {
        c[i].slot = i * 7;
        ck_assert_int_eq(pthread_create(&c[i].thread, NULL, contender_main, &c[i]), 0);
    }
    for (unsigned i = 0; i < count; i++) {
        pthread_join(c[i].thread, NULL);
        got += c[i].got;
    }
    ck_assert_uint_eq(guarded_count, got);
    ck_assert_uint_eq(writer_owner(&region), UINT32_MAX);
}

START_TEST(test_one_writer_at_a_time_and_all_get_their_turn)
{
    struct contender c[THREADS] = {0};
    unit_ok(region_create(&region, &err));
    for (unsigned i = 0; i < THREADS; i++)
        c[i] = (struct contender){.turns = 20000, .wait_ns = LONG_NS};
    contenders_run(c, THREADS);
    for (unsigned i = 0; i < THREADS; i++)
        ck_assert_uint_eq(c[i].got, 20000);
    region_destroy(&region);
}
END_TEST

/* Those who give up and those who do not wait at all take nothing from those who sleep. */
START_TEST(test_impatient_contenders_cost_the_patient_no_wake_up)
{
    unit_ok(region_create(&region, &err));
    for (unsigned round = 0; round < 300; round++) {
        struct contender c[THREADS] = {
            {.turns = 20, .wait_ns = LONG_NS}, {.turns = 20, .wait_ns = LONG_NS},
            {.turns = 60, .wait_ns = 20000},   {.turns = 60, .wait_ns = 1000},
            {.turns = 200, .wait_ns = 0},      {.turns = 60, .wait_ns = 60000},
        };
        contenders_run(c, THREADS);
        ck_assert_uint_eq(c[0].got, 20);
        ck_assert_uint_eq(c[1].got, 20);
    }
    region_destroy(&region);
}
END_TEST

START_TEST(test_waiting_is_bounded_and_leaves_no_trace)
{
    unit_ok(region_create(&region, &err));
    ck_assert_uint_eq(writer_owner(&region), UINT32_MAX);
    ck_assert(writer_trylock(&region, 0));
    ck_assert_uint_eq(writer_owner(&region), 0);
    static const uint64_t waits[] = {0, 1, 1000, 100000, DAX_WRITER_WAIT_NS};
    for (unsigned i = 0; i < sizeof waits / sizeof *waits; i++) {
        ck_assert(!writer_lock(&region, DAX_MAX_SLOTS - 1, 0, waits[i]));
        ck_assert(!writer_trylock(&region, DAX_MAX_SLOTS - 1));
        ck_assert_uint_eq(writer_owner(&region), 0);
    }
    writer_unlock(&region, 0);
    ck_assert_uint_eq(writer_owner(&region), UINT32_MAX);
    ck_assert(writer_lock(&region, DAX_MAX_SLOTS - 1, 0, 0));
    ck_assert_uint_eq(writer_owner(&region), DAX_MAX_SLOTS - 1);
    writer_unlock(&region, DAX_MAX_SLOTS - 1);
    region_destroy(&region);
}
END_TEST

/* --- owner is the slot ------------------------------------------------------------------------ */

static void *unlock_main(void *arg)
{
    writer_unlock(&region, *(uint32_t *)arg);
    return NULL;
}

static void *lock_main(void *arg)
{
    ck_assert(writer_lock(&region, *(uint32_t *)arg, 0, LONG_NS));
    guarded_count++;
    return NULL;
}

START_TEST(test_a_lock_taken_in_one_thread_is_released_in_another)
{
    pthread_t waiting, other;
    uint32_t a = 3, b = 5;
    unit_ok(region_create(&region, &err));
    for (unsigned round = 0; round < 2000; round++) {
        guarded_count = 0;
        ck_assert(writer_lock(&region, a, 0, LONG_NS));
        guarded_count++;
        ck_assert_int_eq(pthread_create(&waiting, NULL, lock_main, &b), 0);
        if (round % 2)
            sched_yield();
        ck_assert_int_eq(pthread_create(&other, NULL, unlock_main, &a), 0);
        pthread_join(other, NULL);
        pthread_join(waiting, NULL);
        ck_assert_uint_eq(guarded_count, 2);
        ck_assert_uint_eq(writer_owner(&region), b);
        writer_unlock(&region, b); /* b's thread is gone */
    }
    region_destroy(&region);
}
END_TEST

/* --- through connections ---------------------------------------------------------------------- */

START_TEST(test_a_second_writer_is_busy_until_the_first_has_ended)
{
    const char *path = unit_path("app.db");
    struct conn *a = db_open(path), *b = db_open(path);
    db_begin(a);
    ck_assert(conn_is_writer(a));
    unit_ok(conn_begin_read(b, &err));
    for (unsigned i = 0; i < 5; i++)
        unit_fails(conn_begin_write(b, &err), DAX_BUSY, "another connection is writing");
    ck_assert(!conn_is_writer(b));
    db_put(a, 0, 1);
    unit_ok(conn_commit(a, &err));
    /* The lock is kept, but waiting for it would be in vain. */
    unit_fails(conn_begin_write(b, &err), DAX_BUSY_SNAPSHOT, "since this read began");
    conn_end_read(b);
    unit_ok(conn_begin_read(b, &err));
    unit_fails(conn_begin_write(b, &err), DAX_BUSY, "another connection is writing");
    db_put(a, 0, 2);
    unit_ok(conn_commit(a, &err));
    db_end(a);
    unit_fails(conn_begin_write(b, &err), DAX_BUSY_SNAPSHOT, "since this read began");
    ck_assert_uint_eq(writer_owner(&a->store->region), UINT32_MAX);
    conn_end_read(b);
    db_begin(b);
    ck_assert_uint_eq(writer_owner(&a->store->region), b->slot);
    db_end(b);
    db_close(a);
    db_close(b);
}
END_TEST

int main(void)
{
    TCase *tc = db_case("writer", 300);
    tcase_add_test(tc, test_one_writer_at_a_time_and_all_get_their_turn);
    tcase_add_test(tc, test_impatient_contenders_cost_the_patient_no_wake_up);
    tcase_add_test(tc, test_waiting_is_bounded_and_leaves_no_trace);
    tcase_add_test(tc, test_a_lock_taken_in_one_thread_is_released_in_another);
    tcase_add_test(tc, test_a_second_writer_is_busy_until_the_first_has_ended);
    return db_main(tc, "writer");
}
