/* test_scan.c: would catch a snapshot or pin that a scan overlooks or misattributes: off by one at
 * the ends of a range of pages or txids, a slot skipped that should count, the caller's own pins
 * left out, a list that is not sorted.
 */
#include "tests/unit/db.h"

#include "engine/scan.h"
#include "engine/snapshot.h"

#define SLOTS 10u

static struct region region;
static struct scan scan;

static void scan_open(void)
{
    unit_ok(region_create(&region, &err));
    unit_ok(scan_create(&scan, &err));
    for (unsigned i = 0; i < SLOTS; i++)
        ck_assert_uint_eq(snapshot_claim_slot(&region), i);
    snapshot_publish(&region, 100, 1);
}

static void scan_close(void)
{
    scan_destroy(&scan);
    region_destroy(&region);
}

static void slot_set(unsigned slot, uint64_t snapshot)
{
    atomic_store(&region.slots[slot].snapshot, snapshot);
}

static void slot_pin(unsigned slot, unsigned entry, uint64_t pin)
{
    atomic_store(&region.slots[slot].pins[entry], pin);
}

START_TEST(test_snapshots_are_listed_in_order_without_the_skipped_one)
{
    static const uint64_t snapshots[SLOTS] = {70, 3, 0, 90, 3, 0, 100, 1, 55, 0};
    scan_open();
    for (unsigned i = 0; i < SLOTS; i++)
        slot_set(i, snapshots[i]);
    for (unsigned skip = 0; skip <= SLOTS; skip++)
        for (unsigned newest = 0; newest < 2; newest++) {
            scan_take(&scan, &region, skip < SLOTS ? skip : UINT32_MAX, newest);
            size_t want = 7 + newest - (skip < SLOTS && snapshots[skip] != 0);
            ck_assert_uint_eq(scan.snapshot_count, want);
            uint64_t sum = 0, want_sum = 70 + 3 + 90 + 3 + 100 + 1 + 55 + 100 * newest -
                                         (skip < SLOTS ? snapshots[skip] : 0);
            for (size_t i = 0; i < scan.snapshot_count; i++) {
                sum += scan.snapshots[i];
                ck_assert(i == 0 || scan.snapshots[i - 1] <= scan.snapshots[i]);
            }
            ck_assert_uint_eq(sum, want_sum);
        }
    scan_close();
}
END_TEST

START_TEST(test_a_range_of_txids_contains_its_start_and_not_its_end)
{
    static const uint64_t snapshots[] = {5, 9, 9, 20, 41};
    scan_open();
    scan_take(&scan, &region, UINT32_MAX, false);
    ck_assert(!scan_sees(&scan, 0, UINT64_MAX)); /* nobody */
    for (unsigned i = 0; i < 5; i++)
        slot_set(i, snapshots[i]);
    scan_take(&scan, &region, UINT32_MAX, false);
    for (uint64_t from = 0; from < 50; from++)
        for (uint64_t to = 0; to < 50; to++) {
            bool want = false;
            for (unsigned i = 0; i < 5; i++)
                want |= snapshots[i] >= from && snapshots[i] < to;
            db_must(scan_sees(&scan, from, to) == want, "[%d, %d)", (int)from, (int)to);
        }
    scan_close();
}
END_TEST

START_TEST(test_pins_cover_their_pages_exactly)
{
    scan_open();
    slot_set(2, 50);
    slot_set(4, 60);
    slot_pin(2, 0, pin_of_base(10, 1));
    slot_pin(2, DAX_SLOT_PINS - 1, pin_of_base(20, DAX_PIN_PAGES));
    slot_pin(4, 3, pin_of_base(DAX_MAX_PAGES - 1, 1));
    slot_pin(4, 4, pin_of_base(0, 2));
    slot_pin(4, 5, pin_of_node(11));
    scan_take(&scan, &region, UINT32_MAX, false);
    ck_assert_uint_eq(scan.pin_count, 5);
    for (uint64_t page = 0; page < 60; page++) {
        bool want = page < 2 || page == 10 || (page >= 20 && page < 20 + DAX_PIN_PAGES);
        ck_assert_int_eq(scan_base_pinned(&scan, page), want);
    }
    ck_assert(scan_base_pinned(&scan, DAX_MAX_PAGES - 1));
    ck_assert(!scan_base_pinned(&scan, DAX_MAX_PAGES - 2));
    ck_assert_uint_eq(pin_page(pin_of_base(DAX_MAX_PAGES - 1, 16)), DAX_MAX_PAGES - 1);
    ck_assert_uint_eq(pin_count(pin_of_base(DAX_MAX_PAGES - 1, 16)), 16);
    for (uint32_t node = 1; node < 40; node++)
        ck_assert_int_eq(scan_node_pinned(&scan, node), node == 11);
    ck_assert(!scan_node_pinned(&scan, 10)); /* a page's number is no node's */
    ck_assert(!scan_base_pinned(&scan, 11));
    scan_close();
}
END_TEST

START_TEST(test_a_page_is_pinned_through_any_of_its_versions)
{
    scan_open();
    atomic_store(&region.nodes[11].page, 77);
    atomic_store(&region.nodes[12].page, 78);
    slot_set(1, 50);
    slot_pin(1, 0, pin_of_node(11));
    scan_take(&scan, &region, UINT32_MAX, false);
    ck_assert(scan_page_pinned(&scan, &region, 77));
    ck_assert(!scan_page_pinned(&scan, &region, 78));
    ck_assert(!scan_page_pinned(&scan, &region, 11));
    slot_pin(1, 0, pin_of_base(77, 2));
    scan_take(&scan, &region, UINT32_MAX, false);
    ck_assert(scan_page_pinned(&scan, &region, 77));
    ck_assert(scan_page_pinned(&scan, &region, 78));
    ck_assert(!scan_page_pinned(&scan, &region, 79));
    scan_close();
}
END_TEST

/* The writer's own pins keep bytes in place like anybody's; its snapshot moves on. */
START_TEST(test_the_skipped_slot_counts_for_its_pins_only)
{
    scan_open();
    slot_set(3, 50);
    slot_pin(3, 7, pin_of_base(9, 1));
    scan_take(&scan, &region, 3, false);
    ck_assert_uint_eq(scan.snapshot_count, 0);
    ck_assert(scan_base_pinned(&scan, 9));
    ck_assert(!scan_others_active(&region, 3));
    ck_assert(scan_others_active(&region, 2));
    ck_assert(scan_others_active(&region, UINT32_MAX));
    slot_pin(3, 7, 0);
    slot_set(3, 0);
    scan_take(&scan, &region, UINT32_MAX, false);
    ck_assert_uint_eq(scan.pin_count, 0);
    ck_assert(!scan_others_active(&region, UINT32_MAX));
    scan_close();
}
END_TEST

START_TEST(test_all_slots_with_all_pins_fit)
{
    scan_open();
    for (unsigned i = SLOTS; i < DAX_MAX_SLOTS; i++)
        ck_assert_uint_eq(snapshot_claim_slot(&region), i);
    for (unsigned i = 0; i < DAX_MAX_SLOTS; i++) {
        slot_set(i, DAX_MAX_SLOTS - i);
        for (unsigned k = 0; k < DAX_SLOT_PINS; k++)
            slot_pin(i, k, pin_of_base((uint64_t)i * DAX_SLOT_PINS + k, 1));
    }
    scan_take(&scan, &region, UINT32_MAX, true);
    ck_assert_uint_eq(scan.snapshot_count, DAX_MAX_SLOTS + 1);
    ck_assert_uint_eq(scan.pin_count, DAX_MAX_SLOTS * DAX_SLOT_PINS);
    ck_assert_uint_eq(scan.snapshots[0], 1);
    ck_assert(scan_base_pinned(&scan, 0));
    ck_assert(scan_base_pinned(&scan, DAX_MAX_SLOTS * DAX_SLOT_PINS - 1));
    ck_assert(!scan_base_pinned(&scan, DAX_MAX_SLOTS * DAX_SLOT_PINS));
    scan_close();
}
END_TEST

int main(void)
{
    TCase *tc = db_case("scan", 120);
    tcase_add_test(tc, test_snapshots_are_listed_in_order_without_the_skipped_one);
    tcase_add_test(tc, test_a_range_of_txids_contains_its_start_and_not_its_end);
    tcase_add_test(tc, test_pins_cover_their_pages_exactly);
    tcase_add_test(tc, test_a_page_is_pinned_through_any_of_its_versions);
    tcase_add_test(tc, test_the_skipped_slot_counts_for_its_pins_only);
    tcase_add_test(tc, test_all_slots_with_all_pins_fit);
    return db_main(tc, "scan");
}
