/* test_snapshot.c: would catch a snapshot whose size belongs to another transaction, one that
 * begins on a state whose versions are being dropped (either half of the Dekker pair missing), a
 * slot given to two connections or lost, and an oldest snapshot that is not the oldest.
 */
#include "tests/unit/db.h"

#include "engine/scan.h"
#include "engine/snapshot.h"

#define READERS 4

static struct region region;

/* --- slots ------------------------------------------------------------------------------------ */

START_TEST(test_every_slot_is_given_out_once_and_again_after_its_release)
{
    static bool taken[DAX_MAX_SLOTS];
    unit_ok(region_create(&region, &err));
    for (unsigned i = 0; i < DAX_MAX_SLOTS; i++) {
        uint32_t slot = snapshot_claim_slot(&region);
        db_must(slot < DAX_MAX_SLOTS && !taken[slot], "slot %u twice", slot);
        taken[slot] = true;
        db_must(atomic_load(&region.slots[slot].number) == i + 1, "connection's number");
        db_must(atomic_load(&region.slots[slot].owner_pid) == getpid(), "owner");
    }
    ck_assert_uint_eq(snapshot_claim_slot(&region), UINT32_MAX);
    ck_assert_uint_eq(atomic_load(&region.header->slot_high), DAX_MAX_SLOTS);
    snapshot_release_slot(&region, 1234);
    snapshot_release_slot(&region, 17);
    ck_assert_uint_eq(snapshot_claim_slot(&region), 17);
    ck_assert_uint_eq(snapshot_claim_slot(&region), 1234);
    ck_assert_uint_eq(atomic_load(&region.slots[1234].number), DAX_MAX_SLOTS + 2);
    ck_assert_uint_eq(snapshot_claim_slot(&region), UINT32_MAX);
    region_destroy(&region);
}
END_TEST

START_TEST(test_one_connection_too_many_is_an_error_and_harms_nobody)
{
    static struct conn *conns[DAX_MAX_SLOTS];
    const char *path = unit_path("app.db");
    struct dax_options o = db_options();
    struct conn *c;
    for (unsigned i = 0; i < DAX_MAX_SLOTS; i++)
        db_ok(conn_open(path, &o, &conns[i], &err));
    unit_fails(conn_open(path, &o, &c, &err), DAX_CANT_OPEN, "more than 4096 connections");
    ck_assert_ptr_null(c);
    db_write(conns[DAX_MAX_SLOTS - 1], 0, 3, 1);
    db_check_all(conns[0], 3, 1);
    db_close(conns[7]);
    db_ok(conn_open(path, &o, &conns[7], &err));
    db_check_all(conns[7], 3, 1);
    for (unsigned i = 0; i < DAX_MAX_SLOTS; i++)
        db_ok(conn_close(conns[i], &err));
}
END_TEST

static void *claim_main(void *arg)
{
    _Atomic uint32_t *owners = arg;
    for (unsigned i = 0; i < 3000; i++) {
        uint32_t slot = snapshot_claim_slot(&region);
        db_must(slot < 2 * READERS, "slot %u for %u threads", slot, READERS);
        db_must(atomic_exchange(&owners[slot], 1) == 0, "slot %u has two owners", slot);
        atomic_store(&owners[slot], 0);
        snapshot_release_slot(&region, slot);
    }
    return NULL;
}

START_TEST(test_threads_never_share_a_slot)
{
    static _Atomic uint32_t owners[2 * READERS];
    pthread_t threads[READERS];
    unit_ok(region_create(&region, &err));
    for (unsigned i = 0; i < READERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, claim_main, owners), 0);
    for (unsigned i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    region_destroy(&region);
}
END_TEST

/* --- one thread ------------------------------------------------------------------------------- */

START_TEST(test_a_snapshot_is_the_newest_state_and_the_oldest_is_found)
{
    uint64_t size;
    unit_ok(region_create(&region, &err));
    uint32_t a = snapshot_claim_slot(&region), b = snapshot_claim_slot(&region);
    snapshot_publish(&region, 5, 500);
    ck_assert_uint_eq(snapshot_oldest(&region), 5);
    ck_assert_uint_eq(snapshot_newest(&region, &size), 5);
    ck_assert_uint_eq(size, 500);
    ck_assert_uint_eq(snapshot_begin(&region, a, &size), 5);
    ck_assert_uint_eq(size, 500);
    ck_assert_int_ne(atomic_load(&region.slots[a].tid), 0);
    /* More commits than the ring of sizes has places. */
    for (uint64_t txid = 6; txid < 6 + 3 * DAX_COMMIT_RING; txid++) {
        snapshot_publish(&region, txid, txid * 100);
        ck_assert_uint_eq(snapshot_begin(&region, b, &size), txid);
        ck_assert_uint_eq(size, txid * 100);
        ck_assert_uint_eq(snapshot_oldest(&region), 5);
        snapshot_end(&region, b);
    }
    snapshot_begin(&region, b, &size);
    snapshot_end(&region, a);
    ck_assert_uint_eq(snapshot_oldest(&region), 5 + 3 * DAX_COMMIT_RING);
    snapshot_publish(&region, 1000, 1);
    snapshot_advance(&region, b, 1000);
    ck_assert_uint_eq(snapshot_oldest(&region), 1000);
    ck_assert_uint_eq(atomic_load(&region.slots[b].snapshot), 1000);
    snapshot_end(&region, b);
    region_destroy(&region);
}
END_TEST

/* --- the race --------------------------------------------------------------------------------- */

static uint64_t race_size(uint64_t txid)
{
    return txid * 0x9E3779B97F4A7C15u >> 20;
}

struct race {
    _Atomic bool over;
    _Atomic uint64_t dropped; /* states below it have lost their versions */
    _Atomic uint64_t begun;
    uint64_t commits;
};

/* A snapshot that has begun keeps its state: nobody may drop it from then on. */
static void *race_read(void *arg)
{
    struct race *r = arg;
    uint32_t slot = snapshot_claim_slot(&region);
    while (!atomic_load_explicit(&r->over, memory_order_relaxed)) {
        uint64_t size, txid = snapshot_begin(&region, slot, &size);
        db_must(size == race_size(txid), "snapshot %llu has size %llu, not %llu",
                (unsigned long long)txid, (unsigned long long)size,
                (unsigned long long)race_size(txid));
        for (unsigned i = 0; i < 3; i++) {
            uint64_t dropped = atomic_load(&r->dropped);
            db_must(dropped <= txid, "state %llu has gone under snapshot %llu",
                    (unsigned long long)dropped, (unsigned long long)txid);
            if (i == 1 && txid % 16 == 0)
                sched_yield();
        }
        snapshot_end(&region, slot);
        atomic_fetch_add_explicit(&r->begun, 1, memory_order_relaxed);
    }
    snapshot_release_slot(&region, slot);
    return NULL;
}

/* Publish, scan, drop what no snapshot needs: as a commit does. */
static void race_write(struct race *r)
{
    struct scan scan;
    unit_ok(scan_create(&scan, &err));
    for (uint64_t txid = 2; txid < 2 + r->commits || atomic_load(&r->begun) < 1000; txid++) {
        snapshot_publish(&region, txid, race_size(txid));
        scan_take(&scan, &region, UINT32_MAX, true);
        atomic_store(&r->dropped, scan.snapshots[0]);
        if (txid % 256 == 0)
            sched_yield();
    }
    scan_destroy(&scan);
    atomic_store(&r->over, true);
}

START_TEST(test_size_and_state_belong_to_the_snapshot_however_fast_others_commit)
{
    struct race r = {.commits = 200000};
    pthread_t threads[READERS];
    unit_ok(region_create(&region, &err));
    snapshot_publish(&region, 1, race_size(1));
    for (unsigned i = 0; i < READERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, race_read, &r), 0);
    race_write(&r);
    for (unsigned i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    printf("%llu snapshots begun\n", (unsigned long long)r.begun);
    region_destroy(&region);
}
END_TEST

/* --- through connections ---------------------------------------------------------------------- */

START_TEST(test_a_connection_holds_its_state_whatever_is_committed)
{
    enum {
        STATES = 30
    };
    const char *path = unit_path("app.db");
    struct conn *w = db_open(path), *r[STATES];
    for (uint64_t i = 0; i < STATES; i++) { /* state i: i + 1 pages of version i */
        db_begin(w);
        unit_ok(conn_truncate(w, (i + 1) * DB_PAGE, &err));
        for (uint64_t page = 0; page <= i; page++)
            db_put(w, page, i);
        db_commit(w);
        r[i] = db_open(path);
        unit_ok(conn_begin_read(r[i], &err));
        unit_fails(conn_begin_read(r[i], &err), DAX_MISUSE, "has begun already");
    }
    db_shrink(w, 1);
    for (unsigned round = 0; round < 2; round++) {
        for (uint64_t i = 0; i < STATES; i++) {
            ck_assert_uint_eq(conn_size(r[i]), (i + 1) * DB_PAGE);
            db_check_range(r[i], 0, i + 1, i);
        }
        db_checkpoint(w, CHECKPOINT_TRUNCATE);
    }
    struct holder_info holders[STATES + 1];
    ck_assert_uint_eq(conn_holders(r[3], holders, STATES + 1), STATES);
    for (unsigned i = 0; i < STATES; i++) {
        ck_assert_uint_eq(holders[i].snapshot, r[i]->snapshot); /* oldest first */
        ck_assert_int_eq(holders[i].self, i == 3);
        ck_assert_int_eq(holders[i].pid, getpid());
    }
    ck_assert_uint_eq(conn_holders(r[3], holders, 2), 2);
    ck_assert_uint_eq(holders[1].snapshot, r[1]->snapshot);
    for (unsigned i = 0; i < STATES; i++) {
        conn_end_read(r[i]);
        db_close(r[i]);
    }
    db_close(w);
}
END_TEST

int main(void)
{
    TCase *tc = db_case("snapshot", 600);
    tcase_add_test(tc, test_every_slot_is_given_out_once_and_again_after_its_release);
    tcase_add_test(tc, test_one_connection_too_many_is_an_error_and_harms_nobody);
    tcase_add_test(tc, test_threads_never_share_a_slot);
    tcase_add_test(tc, test_a_snapshot_is_the_newest_state_and_the_oldest_is_found);
    tcase_add_test(tc, test_size_and_state_belong_to_the_snapshot_however_fast_others_commit);
    tcase_add_test(tc, test_a_connection_holds_its_state_whatever_is_committed);
    return db_main(tc, "snapshot");
}
