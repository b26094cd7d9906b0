/* test_frames.c: would catch a frame handed out twice, or while a reader pins it, one that is
 * lost, memory that is never given back or given back while in use, and counters that drift from
 * the lists.
 */
#include "tests/unit/db.h"

#include "engine/frames.h"
#include "engine/snapshot.h"

static struct region region;
static struct scan scan;

static void frames_open(void)
{
    unit_ok(region_create(&region, &err));
    unit_ok(scan_create(&scan, &err));
    ck_assert(frames_validate(&region));
}

static void frames_close(void)
{
    ck_assert(frames_validate(&region));
    scan_destroy(&scan);
    region_destroy(&region);
}

static uint32_t used(void)
{
    return GUARDED_GET(region.header->guarded.nodes_used);
}

START_TEST(test_frames_are_distinct_and_the_warmest_comes_back_first)
{
    uint32_t node[100];
    frames_open();
    for (unsigned i = 0; i < 100; i++) {
        node[i] = frames_take(&region);
        ck_assert_uint_ne(node[i], 0);
        for (unsigned k = 0; k < i; k++)
            ck_assert_uint_ne(node[i], node[k]);
        ck_assert_uint_eq(GUARDED_GET(region.nodes[node[i]].storage), NODE_FRAME);
    }
    ck_assert_uint_eq(used(), 100);
    for (unsigned i = 0; i < 100; i++)
        frames_give(&region, node[i]);
    ck_assert_uint_eq(used(), 0);
    ck_assert_uint_eq(GUARDED_GET(region.header->guarded.free_count), 100);
    ck_assert(frames_validate(&region));
    for (unsigned i = 100; i-- > 0;)
        ck_assert_uint_eq(frames_take(&region), node[i]);
    frames_close();
}
END_TEST

START_TEST(test_frames_run_out_without_harm)
{
    frames_open();
    struct region_guarded *g = &region.header->guarded;
    GUARDED_SET(g->fresh, DAX_MAX_NODES - 2); /* as if the others were in use */
    GUARDED_SET(g->nodes_used, DAX_MAX_NODES - 3);
    ck_assert_uint_eq(frames_take(&region), DAX_MAX_NODES - 2);
    uint32_t last = frames_take(&region);
    ck_assert_uint_eq(last, DAX_MAX_NODES - 1);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_uint_eq(frames_take(&region), 0);
    ck_assert(frames_validate(&region));
    frames_give(&region, last);
    ck_assert_uint_eq(frames_take(&region), last);
    ck_assert_uint_eq(frames_take(&region), 0);
    frames_close();
}
END_TEST

START_TEST(test_limbo_lasts_as_long_as_the_pin)
{
    enum {
        NODES = 50
    };
    uint32_t node[NODES], slot[2];
    frames_open();
    struct region_guarded *g = &region.header->guarded;
    snapshot_publish(&region, 5, 1);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t size;
        slot[i] = snapshot_claim_slot(&region);
        snapshot_begin(&region, slot[i], &size);
    }
    for (unsigned i = 0; i < NODES; i++) {
        node[i] = frames_take(&region);
        memset(region_frame(&region, node[i]), (int)i, DAX_PAGE_BYTES);
        frames_limbo(&region, node[i]);
    }
    ck_assert_uint_eq(GUARDED_GET(g->limbo_count), NODES);
    ck_assert_uint_eq(used(), NODES);
    atomic_store(&region.slots[slot[0]].pins[0], pin_of_node(node[3]));
    atomic_store(&region.slots[slot[1]].pins[9], pin_of_node(node[40]));
    atomic_store(&region.slots[slot[1]].pins[10], pin_of_base(node[7], 1)); /* a page, no node */
    for (unsigned round = 0; round < 3; round++) {
        frames_reclaim(&region, &scan, slot[1]); /* the caller's own pins count, too */
        ck_assert_uint_eq(GUARDED_GET(g->limbo_count), 2);
        ck_assert_uint_eq(used(), 2);
        ck_assert(frames_validate(&region));
    }
    for (unsigned i = 0; i < 2 * NODES; i++) {
        uint32_t n = frames_take(&region);
        ck_assert_uint_ne(n, node[3]);
        ck_assert_uint_ne(n, node[40]);
        memset(region_frame(&region, n), 0xEE, DAX_PAGE_BYTES);
    }
    ck_assert_uint_eq(region_frame(&region, node[3])[77], 3);
    ck_assert_uint_eq(region_frame(&region, node[40])[77], 40);
    atomic_store(&region.slots[slot[0]].pins[0], 0);
    frames_reclaim(&region, &scan, UINT32_MAX);
    ck_assert_uint_eq(GUARDED_GET(g->limbo), node[40]);
    ck_assert_uint_eq(frames_take(&region), node[3]);
    atomic_store(&region.slots[slot[1]].pins[9], 0);
    frames_reclaim(&region, &scan, UINT32_MAX);
    ck_assert_uint_eq(GUARDED_GET(g->limbo_count), 0);
    ck_assert_uint_eq(GUARDED_GET(g->limbo), 0);
    frames_reclaim(&region, &scan, UINT32_MAX);
    frames_close();
}
END_TEST

START_TEST(test_versions_in_scratch_are_counted_until_they_are_free)
{
    frames_open();
    struct region_guarded *g = &region.header->guarded;
    uint32_t a = frames_take(&region), b = frames_take(&region), c = frames_take_marker(&region);
    GUARDED_SET(region.nodes[a].storage, 5000);
    GUARDED_SET(region.nodes[b].storage, 5001);
    GUARDED_SET(g->scratch_nodes, 2);
    frames_limbo(&region, a);
    ck_assert_uint_eq(GUARDED_GET(g->scratch_nodes), 2);
    frames_reclaim(&region, &scan, UINT32_MAX);
    ck_assert_uint_eq(GUARDED_GET(g->scratch_nodes), 1);
    frames_give(&region, c);
    ck_assert_uint_eq(GUARDED_GET(g->scratch_nodes), 1);
    frames_give(&region, b);
    ck_assert_uint_eq(GUARDED_GET(g->scratch_nodes), 0);
    /* Whoever gets it next starts with a frame. */
    ck_assert_uint_eq(frames_take(&region), b);
    ck_assert_uint_eq(GUARDED_GET(region.nodes[b].storage), NODE_FRAME);
    frames_close();
}
END_TEST

START_TEST(test_memory_of_cold_frames_goes_back_and_the_frames_stay_usable)
{
    enum {
        NODES = 3 * DAX_FRAMES_RETAIN
    };
    static uint32_t node[NODES], again[NODES];
    static bool seen[NODES + 2];
    frames_open();
    struct region_guarded *g = &region.header->guarded;
    for (unsigned i = 0; i < NODES; i++) {
        node[i] = frames_take(&region);
        region_frame(&region, node[i])[100] = 0xAA;
    }
    frames_trim(&region); /* all in use: nothing to give */
    for (unsigned i = 0; i < NODES; i++)
        db_must(region_frame(&region, node[i])[100] == 0xAA, "frame %u was in use", node[i]);
    /* In an order that makes neighbours rare. */
    for (unsigned i = 0; i < NODES; i++)
        frames_give(&region, node[i * 5 % NODES]);
    ck_assert_uint_eq(GUARDED_GET(g->free_count), NODES);
    frames_trim(&region);
    ck_assert(frames_validate(&region));
    uint32_t kept = GUARDED_GET(g->free_count), cleared = 0;
    ck_assert_uint_ge(kept, DAX_FRAMES_RETAIN);
    ck_assert_uint_lt(kept, NODES / 2 + 1000);
    for (unsigned i = 0; i < NODES; i++)
        cleared += region_frame(&region, node[i])[100] == 0;
    ck_assert_uint_eq(cleared, NODES - kept);
    frames_trim(&region);
    ck_assert_uint_eq(GUARDED_GET(g->free_count), kept);
    /* Warm ones first, then cold ones, each once, before any that was never used. */
    for (unsigned i = 0; i < NODES; i++) {
        again[i] = frames_take(&region);
        db_must(again[i] <= NODES && !seen[again[i]], "frame %u", again[i]);
        seen[again[i]] = true;
        db_must((region_frame(&region, again[i])[100] == 0xAA) == (i < kept), "frame %u", again[i]);
    }
    ck_assert_uint_eq(frames_take(&region), NODES + 1);
    frames_close();
}
END_TEST

/* Neither when it is taken nor afterwards. */
START_TEST(test_a_marker_owns_no_frame)
{
    uint32_t frame[100], marker[100];
    frames_open();
    struct region_guarded *g = &region.header->guarded;
    for (unsigned i = 0; i < 100; i++)
        frame[i] = frames_take(&region);
    for (unsigned i = 0; i < 50; i++)
        frames_give(&region, frame[i]);
    for (unsigned i = 0; i < 100; i++) {
        marker[i] = frames_take_marker(&region);
        for (unsigned k = 0; k < 100; k++)
            ck_assert_uint_ne(marker[i], frame[k]); /* not a warm one, though 50 are free */
        ck_assert_uint_eq(GUARDED_GET(region.nodes[marker[i]].storage), NODE_BASE);
    }
    ck_assert_uint_eq(used(), 50);
    ck_assert_uint_eq(GUARDED_GET(g->markers), 100);
    ck_assert(frames_validate(&region));
    /* They come back as what has no memory: the next markers are the same nodes, and a frame is made of one
     * only when no warm one is left. */
    for (unsigned i = 0; i < 50; i++)
        frames_limbo(&region, marker[i]);
    frames_reclaim(&region, &scan, UINT32_MAX);
    for (unsigned i = 50; i < 100; i++)
        frames_give(&region, marker[i]);
    ck_assert_uint_eq(GUARDED_GET(g->markers), 0);
    ck_assert_uint_eq(used(), 50);
    ck_assert_uint_eq(GUARDED_GET(g->free_count), 50);
    ck_assert(frames_validate(&region));
    for (unsigned i = 0; i < 50; i++)
        ck_assert_uint_eq(frames_take(&region), frame[49 - i]);
    ck_assert_uint_eq(frames_take(&region), marker[99]);
    ck_assert_uint_eq(GUARDED_GET(region.nodes[marker[99]].storage), NODE_FRAME);
    ck_assert_uint_eq(frames_take_marker(&region), marker[98]);
    frames_close();
}
END_TEST

START_TEST(test_the_last_nodes_can_be_markers)
{
    frames_open();
    struct region_guarded *g = &region.header->guarded;
    GUARDED_SET(g->fresh, DAX_MAX_NODES - 2); /* as if the others were in use */
    GUARDED_SET(g->nodes_used, DAX_MAX_NODES - 3);
    uint32_t a = frames_take(&region), b = frames_take_marker(&region);
    ck_assert_uint_eq(b, DAX_MAX_NODES - 1);
    ck_assert_uint_eq(frames_take_marker(&region), 0);
    ck_assert(frames_validate(&region));
    frames_give(&region, a);
    ck_assert_uint_eq(frames_take_marker(&region), a);
    ck_assert_uint_eq(frames_take_marker(&region), 0);
    ck_assert_uint_eq(frames_take(&region), 0);
    ck_assert_uint_eq(used(), DAX_MAX_NODES - 3);
    ck_assert_uint_eq(GUARDED_GET(g->markers), 2);
    ck_assert(frames_validate(&region));
    frames_give(&region, b);
    ck_assert_uint_eq(frames_take(&region), b);
    frames_close();
}
END_TEST

START_TEST(test_validate_notices_a_counter_that_drifts)
{
    frames_open();
    struct region_guarded *g = &region.header->guarded;
    uint32_t a = frames_take(&region), b = frames_take(&region);
    frames_give(&region, a);
    frames_limbo(&region, b);
    _Atomic uint32_t *counters[] = {&g->free_count, &g->limbo_count, &g->nodes_used, &g->markers,
                                    &g->fresh};
    for (unsigned i = 0; i < 5; i++) {
        atomic_fetch_add(counters[i], 1);
        ck_assert(!frames_validate(&region));
        atomic_fetch_sub(counters[i], 1);
        ck_assert(frames_validate(&region));
    }
    frames_close();
}
END_TEST

int main(void)
{
    TCase *tc = db_case("frames", 120);
    tcase_add_test(tc, test_frames_are_distinct_and_the_warmest_comes_back_first);
    tcase_add_test(tc, test_frames_run_out_without_harm);
    tcase_add_test(tc, test_limbo_lasts_as_long_as_the_pin);
    tcase_add_test(tc, test_versions_in_scratch_are_counted_until_they_are_free);
    tcase_add_test(tc, test_memory_of_cold_frames_goes_back_and_the_frames_stay_usable);
    tcase_add_test(tc, test_a_marker_owns_no_frame);
    tcase_add_test(tc, test_the_last_nodes_can_be_markers);
    tcase_add_test(tc, test_validate_notices_a_counter_that_drifts);
    return db_main(tc, "frames");
}
