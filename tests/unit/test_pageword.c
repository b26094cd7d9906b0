/* test_pageword.c: would catch an edge between page states that is taken although the table
 * forbids it (above all TRUNCATED from anything but ZAPPED) or refused although it is in it, a
 * word that changes although the edge was refused, a lost media-error flag, and a generation that
 * stands still.
 */
#include "tests/unit/db.h"

#include "engine/pageword.h"

#define PAGE 77u

static const enum page_state states[] = {PAGE_ABSENT, PAGE_MAPPED, PAGE_ZAPPED, PAGE_TRUNCATED};

/* The table of the design, written down a second time. */
static bool edge_wanted(enum page_state from, enum page_state to)
{
    switch (from) {
    case PAGE_ABSENT: return to == PAGE_MAPPED;
    case PAGE_MAPPED: return to == PAGE_ZAPPED || to == PAGE_MAPPED;
    case PAGE_ZAPPED: return to == PAGE_MAPPED || to == PAGE_TRUNCATED;
    case PAGE_TRUNCATED: return to == PAGE_ABSENT || to == PAGE_MAPPED;
    }
    return false;
}

static struct region region;

static void region_open(void)
{
    unit_ok(region_create(&region, &err));
}

static void word_put(enum page_state state, uint64_t flags, uint32_t node, uint32_t generation)
{
    atomic_store(&region.words[PAGE],
                 (uint64_t)state | flags | (uint64_t)node << 8 | (uint64_t)generation << 32);
}

START_TEST(test_exactly_the_edges_of_the_table_are_taken)
{
    region_open();
    for (unsigned f = 0; f < 4; f++)
        for (unsigned t = 0; t < 4; t++) {
            bool want = edge_wanted(states[f], states[t]);
            ck_assert_int_eq(pageword_edge_ok(states[f], states[t]), want);
            word_put(states[f], 0, 5, 9);
            uint64_t before = pageword_load(&region, PAGE);
            ck_assert_msg(pageword_set(&region, PAGE, states[t], 6) == want, "%s -> %s",
                          page_state_name(states[f]), page_state_name(states[t]));
            uint64_t after = pageword_load(&region, PAGE);
            if (!want) {
                ck_assert_uint_eq(after, before);
                continue;
            }
            ck_assert_int_eq(pageword_state(after), states[t]);
            ck_assert_uint_eq(pageword_node(after), 6);
            ck_assert_uint_eq(pageword_generation(after), 10);
        }
    region_destroy(&region);
}
END_TEST

START_TEST(test_flags_stay_on_every_edge_but_a_cut_page_is_not_probed)
{
    static const uint64_t flags[] = {0, PAGEWORD_POISONED, PAGEWORD_PROBED,
                                     PAGEWORD_POISONED | PAGEWORD_PROBED};
    region_open();
    for (unsigned i = 0; i < 4; i++)
        for (unsigned f = 0; f < 4; f++)
            for (unsigned t = 0; t < 4; t++) {
                word_put(states[f], flags[i], 1, 1);
                bool taken = pageword_set(&region, PAGE, states[t], DAX_MAX_NODES - 1);
                uint64_t w = pageword_load(&region, PAGE), want = flags[i];
                if (taken && states[t] == PAGE_ABSENT)
                    want &= ~PAGEWORD_PROBED;
                ck_assert_uint_eq(w & (PAGEWORD_POISONED | PAGEWORD_PROBED), want);
            }
    region_destroy(&region);
}
END_TEST

START_TEST(test_the_fields_do_not_run_into_each_other)
{
    region_open();
    word_put(PAGE_MAPPED, 0, 0, 1);
    static const uint32_t nodes[] = {0, 1, 255, 256, 0x555555, DAX_MAX_NODES - 1};
    for (unsigned i = 0; i < sizeof nodes / sizeof *nodes; i++) {
        uint32_t before = pageword_generation(pageword_load(&region, PAGE));
        ck_assert(pageword_set(&region, PAGE, PAGE_MAPPED, nodes[i]));
        uint64_t w = pageword_load(&region, PAGE);
        ck_assert_uint_eq(pageword_node(w), nodes[i]);
        ck_assert_int_eq(pageword_state(w), PAGE_MAPPED);
        ck_assert_uint_eq(pageword_generation(w), before + 1);
    }
    ck_assert_uint_eq(atomic_load(&region.words[PAGE - 1]), 0);
    ck_assert_uint_eq(atomic_load(&region.words[PAGE + 1]), 0);
    region_destroy(&region);
}
END_TEST

/* 0 belongs to the untouched word: it must not come back. */
/* The walker keeps what hung below a page that can no longer be read, as long as its generation is the
 * same; once it can be read again it may be another one. */
START_TEST(test_a_page_that_goes_bad_keeps_its_generation_and_a_repaired_one_does_not)
{
    region_open();
    word_put(PAGE_MAPPED, PAGEWORD_PROBED, 3, 7);
    pageword_flag(&region, PAGE, PAGEWORD_POISONED, 0);
    uint64_t w = pageword_load(&region, PAGE);
    ck_assert_uint_eq(pageword_generation(w), 7);
    ck_assert_uint_eq(w & (PAGEWORD_POISONED | PAGEWORD_PROBED), PAGEWORD_POISONED | PAGEWORD_PROBED);
    ck_assert_uint_eq(pageword_node(w), 3);
    pageword_flag(&region, PAGE, 0, PAGEWORD_POISONED);
    w = pageword_load(&region, PAGE);
    ck_assert_uint_eq(pageword_generation(w), 8);
    ck_assert_uint_eq(w & PAGEWORD_POISONED, 0);
    pageword_flag(&region, PAGE, 0, PAGEWORD_POISONED); /* nothing to clear */
    ck_assert_uint_eq(pageword_load(&region, PAGE), w);
    region_destroy(&region);
}
END_TEST

START_TEST(test_the_generation_goes_round_without_zero)
{
    region_open();
    word_put(PAGE_MAPPED, 0, 3, UINT32_MAX - 1);
    ck_assert(pageword_set(&region, PAGE, PAGE_MAPPED, 3));
    ck_assert_uint_eq(pageword_generation(pageword_load(&region, PAGE)), UINT32_MAX);
    ck_assert(pageword_set(&region, PAGE, PAGE_MAPPED, 3));
    ck_assert_uint_eq(pageword_generation(pageword_load(&region, PAGE)), 1);
    region_destroy(&region);
}
END_TEST

START_TEST(test_an_untouched_word_is_mapped_below_the_initial_pages_and_absent_above)
{
    region_open();
    region.header->initial_pages = 100;
    for (uint64_t page = 0; page < 200; page++)
        ck_assert_int_eq(pageword_state(pageword_load(&region, page)),
                         page < 100 ? PAGE_MAPPED : PAGE_ABSENT);
    ck_assert_int_eq(pageword_state(pageword_load(&region, DAX_MAX_PAGES - 1)), PAGE_ABSENT);
    ck_assert(pageword_set(&region, 99, PAGE_ZAPPED, 0));
    ck_assert_uint_eq(pageword_generation(pageword_load(&region, 99)), 1);
    ck_assert(!pageword_set(&region, 100, PAGE_ZAPPED, 0));
    ck_assert_uint_eq(atomic_load(&region.words[100]), 0);
    ck_assert(pageword_set(&region, 100, PAGE_MAPPED, 0));
    /* Touched and ABSENT again is not untouched, also where words of 0 mean MAPPED. */
    ck_assert(pageword_set(&region, 99, PAGE_TRUNCATED, 0));
    ck_assert(pageword_set(&region, 99, PAGE_ABSENT, 0));
    ck_assert_int_eq(pageword_state(pageword_load(&region, 99)), PAGE_ABSENT);
    region_destroy(&region);
}
END_TEST

START_TEST(test_states_have_the_names_that_users_see)
{
    static const char *const names[] = {"ABSENT", "MAPPED", "ZAPPED", "TRUNCATED"};
    for (unsigned i = 0; i < 4; i++)
        ck_assert_str_eq(page_state_name(states[i]), names[i]);
}
END_TEST

int main(void)
{
    TCase *tc = db_case("pageword", 60);
    tcase_add_test(tc, test_exactly_the_edges_of_the_table_are_taken);
    tcase_add_test(tc, test_flags_stay_on_every_edge_but_a_cut_page_is_not_probed);
    tcase_add_test(tc, test_a_page_that_goes_bad_keeps_its_generation_and_a_repaired_one_does_not);
    tcase_add_test(tc, test_the_fields_do_not_run_into_each_other);
    tcase_add_test(tc, test_the_generation_goes_round_without_zero);
    tcase_add_test(tc, test_an_untouched_word_is_mapped_below_the_initial_pages_and_absent_above);
    tcase_add_test(tc, test_states_have_the_names_that_users_see);
    return db_main(tc, "pageword");
}
