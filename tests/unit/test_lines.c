/* test_lines.c: would catch a changed line that is taken for unchanged, an unchanged one that is logged,
 * a copy that is not the page, and either where the page is not aligned, with the processor's vector
 * instructions and without.
 */
#include "engine/lines.h"

#include "tests/unit/unit.h"

#define ROOM (DAX_PAGE_BYTES + DAX_LINE_BYTES)

static uint8_t a_room[ROOM], b_room[ROOM], to_room[ROOM + 2 * DAX_LINE_BYTES];

static void fill(uint8_t *page)
{
    for (size_t i = 0; i < DAX_PAGE_BYTES; i++)
        page[i] = (uint8_t)(i * 31 + i / 256);
}

static void both_say(const uint8_t *a, const uint8_t *b, size_t shift, uint64_t want)
{
    memset(to_room, 0xEE, sizeof to_room);
    uint8_t *to = to_room + DAX_LINE_BYTES + shift;
    ck_assert_uint_eq(lines_diff(a, b), want);
    ck_assert_uint_eq(lines_diff(b, a), want);
    ck_assert_uint_eq(lines_copy_diff(to, a, b), want);
    ck_assert_mem_eq(to, a, DAX_PAGE_BYTES);
    for (size_t i = 0; i < DAX_LINE_BYTES; i++)
        ck_assert_msg(to[-1 - (ptrdiff_t)i] == 0xEE &&
                          (i >= DAX_LINE_BYTES - shift || to[DAX_PAGE_BYTES + i] == 0xEE),
                      "%zu bytes beside the copy were stored to", i + 1);
}

/* Each byte of the page by itself: the first and the last of a line, and all between. */
START_TEST(test_one_byte_is_one_line)
{
    lines_without_vectors = _i;
    for (size_t shift = 0; shift < DAX_LINE_BYTES; shift += 21) {
        uint8_t *a = a_room + shift, *b = b_room + (shift ? 8 : 0);
        fill(a);
        fill(b);
        both_say(a, b, shift, 0);
        for (size_t i = 0; i < DAX_PAGE_BYTES; i++) {
            a[i] ^= (uint8_t)(1u << i % 8);
            both_say(a, b, shift, UINT64_C(1) << i / DAX_LINE_BYTES);
            a[i] = b[i];
        }
    }
}
END_TEST

START_TEST(test_any_set_of_lines_is_named)
{
    uint64_t state = 1;
    lines_without_vectors = _i;
    fill(a_room);
    for (unsigned round = 0; round < 2000; round++) {
        state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
        uint64_t want = round == 0 ? UINT64_MAX : state ^ state >> 31;
        fill(b_room);
        for (unsigned line = 0; line < DAX_PAGE_LINES; line++)
            if (want >> line & 1)
                b_room[line * DAX_LINE_BYTES + (state >> 7) % DAX_LINE_BYTES] ^= 0x40;
        both_say(a_room, b_room, 0, want);
    }
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("lines");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, test_one_byte_is_one_line, 0, 2);
    tcase_add_loop_test(tc, test_any_set_of_lines_is_named, 0, 2);
    Suite *suite = suite_create("lines");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
