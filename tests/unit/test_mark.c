/* test_mark.c: would catch a header judged wrongly, a mark that SQLite gets to see in any piece it
 * reads, version bytes lost on the way, and steps of setting or removing the mark in an order whose
 * crash view is not a plain or a marked file.
 */
#include "engine/mark.h"

#include "engine/hash.h"
#include "tests/unit/unit.h"

static const struct mark marks[] = {
    {.nonce = 0x1122334455667788, .write_version = 1, .read_version = 1},
    {.nonce = 1, .write_version = 2, .read_version = 2},
    {.nonce = UINT64_MAX, .write_version = 2, .read_version = 1},
    {.nonce = 0, .write_version = 0, .read_version = 0},
};
enum {
    MARKS = sizeof marks / sizeof marks[0]
};

/* A plausible page 0 with the version bytes of m. */
static void plain_page(uint8_t page[4096], const struct mark *m)
{
    for (int i = 0; i < 4096; i++)
        page[i] = (uint8_t)(i * 13 + 5);
    memcpy(page, "SQLite format 3", 16);
    page[DAX_HEADER_WRITE_VERSION] = m->write_version;
    page[DAX_HEADER_READ_VERSION] = m->read_version;
    memset(page + DAX_HEADER_RESERVED, 0, DAX_HEADER_RESERVED_BYTES);
}

START_TEST(test_put_and_read_agree_and_touch_only_their_bytes)
{
    uint8_t page[4096], before[4096];
    struct mark got;
    plain_page(page, &marks[_i]);
    memcpy(before, page, sizeof page);
    ck_assert_int_eq(mark_read(page, &got), MARK_NONE);
    mark_put(page, &marks[_i]);
    ck_assert_int_eq(mark_read(page, &got), MARK_SET);
    ck_assert_uint_eq(got.nonce, marks[_i].nonce);
    ck_assert_uint_eq(got.write_version, marks[_i].write_version);
    ck_assert_uint_eq(got.read_version, marks[_i].read_version);
    ck_assert_uint_eq(page[DAX_HEADER_READ_VERSION], DAX_MARK_READ_VERSION);
    for (int i = 0; i < 4096; i++)
        if (i != DAX_HEADER_READ_VERSION &&
            (i < (int)DAX_HEADER_RESERVED || i >= (int)DAX_HEADER_RESERVED + 20))
            ck_assert_uint_eq(page[i], before[i]);
}
END_TEST

START_TEST(test_every_other_header_is_judged_by_byte_19_first)
{
    uint8_t page[4096];
    struct mark got;
    static const uint8_t empty[DAX_HEADER_BYTES];
    ck_assert_int_eq(mark_read(empty, &got), MARK_NONE);

    plain_page(page, &marks[0]);
    mark_put(page, &marks[0]);
    for (int v = 0; v <= 255; v++) {
        page[DAX_HEADER_READ_VERSION] = (uint8_t)v;
        enum mark_state want = v <= 2                            ? MARK_LEFT
                               : v == (int)DAX_MARK_READ_VERSION ? MARK_SET
                                                                 : MARK_FOREIGN;
        ck_assert_int_eq(mark_read(page, &got), want);
    }
    /* Somebody else's data in the reserved bytes. */
    for (int v = 0; v <= 255; v++) {
        plain_page(page, &marks[0]);
        page[DAX_HEADER_RESERVED + 19] = 1;
        page[DAX_HEADER_READ_VERSION] = (uint8_t)v;
        ck_assert_int_eq(mark_read(page, &got), v <= 2 ? MARK_RESERVED_USED : MARK_FOREIGN);
    }
}
END_TEST

START_TEST(test_any_flipped_bit_of_a_mark_makes_it_foreign)
{
    uint8_t page[4096];
    struct mark got;
    for (unsigned bit = 0; bit < DAX_HEADER_RESERVED_BYTES * 8; bit++) {
        plain_page(page, &marks[0]);
        mark_put(page, &marks[0]);
        page[DAX_HEADER_RESERVED + bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_eq(mark_read(page, &got), MARK_FOREIGN);
    }
}
END_TEST

/* A newer format with a check that fits, and a version to put back that no SQLite knows. */
START_TEST(test_marks_that_we_cannot_undo_are_foreign)
{
    uint8_t page[4096];
    struct mark got;
    struct mark odd = marks[0];
    odd.read_version = 3;
    plain_page(page, &marks[0]);
    mark_put(page, &odd);
    ck_assert_int_eq(mark_read(page, &got), MARK_FOREIGN);

    struct mark_bytes body;
    mark_put(page, &marks[0]);
    memcpy(&body, page + DAX_HEADER_RESERVED, sizeof body);
    body.format = DAX_MARK_FORMAT + 1;
    body.check = (uint32_t)hash_bytes(&body, offsetof(struct mark_bytes, check));
    memcpy(page + DAX_HEADER_RESERVED, &body, sizeof body);
    ck_assert_int_eq(mark_read(page, &got), MARK_FOREIGN);
    body.format = DAX_MARK_FORMAT;
    body.check = (uint32_t)hash_bytes(&body, offsetof(struct mark_bytes, check));
    memcpy(page + DAX_HEADER_RESERVED, &body, sizeof body);
    ck_assert_int_eq(mark_read(page, &got), MARK_SET);
}
END_TEST

/* --- hiding ----------------------------------------------------------------------------------- */

START_TEST(test_no_piece_of_page_0_shows_the_mark)
{
    uint8_t marked[4096], want[4096], buf[4096 + 32];
    const struct mark *m = &marks[_i];
    plain_page(want, m);
    memcpy(marked, want, sizeof marked);
    mark_put(marked, m);
    for (int i = 18; i <= 19; i++)
        if (want[i] == 2)
            want[i] = 1;
    for (uint64_t offset = 0; offset < 130; offset++) {
        for (uint64_t len = 0; len <= 130; len++) {
            memset(buf, 0xAB, sizeof buf);
            memcpy(buf + 16, marked + offset, len);
            mark_hide(buf + 16, offset, len, m);
            ck_assert_msg(memcmp(buf + 16, want + offset, len) == 0, "piece %d + %d", (int)offset,
                          (int)len);
            for (uint64_t i = 0; i < 16; i++) {
                ck_assert_uint_eq(buf[i], 0xAB);
                ck_assert_uint_eq(buf[16 + len + i], 0xAB);
            }
        }
    }
    memcpy(buf, marked, sizeof marked);
    mark_hide(buf, 0, sizeof marked, m);
    ck_assert_int_eq(memcmp(buf, want, sizeof want), 0);
    mark_hide(buf, UINT64_MAX - 3, 4, m); /* far away: nothing */
    ck_assert_int_eq(memcmp(buf, want, sizeof want), 0);
}
END_TEST

/* --- order ------------------------------------------------------------------------------------ */

enum event_kind {
    EVENT_STORE,
    EVENT_FENCE,
    EVENT_P5,
    EVENT_P6
};

struct event {
    enum event_kind kind;
    size_t at, len; /* EVENT_STORE: where in the header */
    uint8_t bytes[32];
};

struct recorder {
    struct persist p; /* first: the operations get its address */
    uint8_t *header;
    struct event events[32];
    unsigned count;
    uint64_t seen[PERSIST_TAGS];
    int fail_point; /* PERSIST_P5_MARK_BODY, PERSIST_P6_MARK_BYTE, or -1 */
};

static struct event *recorder_add(struct recorder *r, enum event_kind kind)
{
    ck_assert_uint_lt(r->count, 32);
    struct event *e = &r->events[r->count++];
    e->kind = kind;
    return e;
}

static void recorder_store(struct persist *p, void *dst, const void *src, size_t len)
{
    struct recorder *r = (struct recorder *)p;
    struct event *e = recorder_add(r, EVENT_STORE);
    e->at = (size_t)((uint8_t *)dst - r->header);
    e->len = len;
    ck_assert_uint_le(len, sizeof e->bytes);
    memcpy(e->bytes, src, len);
    memcpy(dst, src, len);
}

static void recorder_zero(struct persist *p, void *dst, size_t len)
{
    static const uint8_t zeros[32];
    recorder_store(p, dst, zeros, len);
}

static void recorder_fence(struct persist *p)
{
    recorder_add((struct recorder *)p, EVENT_FENCE);
}

static int recorder_sync_base(struct persist *p)
{
    struct recorder *r = (struct recorder *)p;
    for (int tag = 0; tag < PERSIST_TAGS; tag++) {
        if (p->points[tag] == r->seen[tag])
            continue;
        r->seen[tag]++;
        ck_assert(tag == PERSIST_P5_MARK_BODY || tag == PERSIST_P6_MARK_BYTE);
        recorder_add(r, tag == PERSIST_P5_MARK_BODY ? EVENT_P5 : EVENT_P6);
        return tag == r->fail_point ? EIO : 0;
    }
    ck_abort_msg("a sync that is no point");
    return 0;
}

static int recorder_sync_log(struct persist *p)
{
    (void)p;
    ck_abort_msg("the mark is not in the log");
    return 0;
}

static const struct persist_ops recorder_ops = {.store = recorder_store,
                                                .zero = recorder_zero,
                                                .fence = recorder_fence,
                                                .sync_log = recorder_sync_log,
                                                .sync_base = recorder_sync_base};

static void recorder_init(struct recorder *r, uint8_t *header)
{
    memset(r, 0, sizeof *r);
    persist_init(&r->p, PERSIST_PMEM, -1);
    r->p.ops = &recorder_ops;
    r->header = header;
    r->fail_point = -1;
}

/* What power loss may leave of a store: each of the 8-byte words it touches is old or new. Walk all
 * such states of each stretch between two fences and call `check` with each. */
static void crash_views(const struct recorder *r, const uint8_t *start,
                        void (*check)(const uint8_t *header, bool p5, bool p6))
{
    uint8_t base[128];
    memcpy(base, start, sizeof base);
    bool p5 = false, p6 = false;
    for (unsigned i = 0; i <= r->count;) {
        unsigned end = i;
        while (end < r->count && r->events[end].kind == EVENT_STORE)
            end++;
        /* Words stored to between the fences: each a unit. */
        unsigned words = 0;
        struct {
            size_t at, len;
            const uint8_t *bytes;
        } word[16];
        for (unsigned k = i; k < end; k++) {
            const struct event *e = &r->events[k];
            for (size_t at = e->at; at < e->at + e->len;) {
                size_t stop = (at / 8 + 1) * 8;
                if (stop > e->at + e->len)
                    stop = e->at + e->len;
                word[words].at = at;
                word[words].len = stop - at;
                word[words++].bytes = e->bytes + (at - e->at);
                at = stop;
            }
        }
        for (unsigned mask = 0; mask < 1u << words; mask++) {
            uint8_t view[128];
            memcpy(view, base, sizeof view);
            for (unsigned w = 0; w < words; w++)
                if (mask & 1u << w)
                    memcpy(view + word[w].at, word[w].bytes, word[w].len);
            check(view, p5, p6);
        }
        for (unsigned w = 0; w < words; w++)
            memcpy(base + word[w].at, word[w].bytes, word[w].len);
        if (end < r->count) {
            p5 |= r->events[end].kind == EVENT_P5;
            p6 |= r->events[end].kind == EVENT_P6;
        }
        i = end + 1;
    }
}

static const struct mark *crash_mark;

static void check_set(const uint8_t *header, bool p5, bool p6)
{
    struct mark got;
    enum mark_state s = mark_read(header, &got);
    if (p6)
        ck_assert_int_eq(s, MARK_SET);
    else if (p5)
        ck_assert(s == MARK_LEFT || s == MARK_SET);
    else
        ck_assert(s == MARK_NONE || s == MARK_LEFT);
    if (s == MARK_SET) {
        ck_assert_uint_eq(got.nonce, crash_mark->nonce);
        ck_assert_uint_eq(got.read_version, crash_mark->read_version);
        ck_assert_uint_eq(got.write_version, crash_mark->write_version);
    }
}

static void check_clear(const uint8_t *header, bool p5, bool p6)
{
    struct mark got;
    enum mark_state s = mark_read(header, &got);
    ck_assert(!p5);
    if (p6) {
        ck_assert(s == MARK_LEFT || s == MARK_NONE);
        ck_assert_uint_eq(header[DAX_HEADER_READ_VERSION], crash_mark->read_version);
        ck_assert_uint_eq(header[DAX_HEADER_WRITE_VERSION], crash_mark->write_version);
    } else {
        ck_assert(s == MARK_SET || s == MARK_LEFT);
    }
}

START_TEST(test_every_crash_while_setting_leaves_a_plain_or_a_marked_file)
{
    _Alignas(4096) uint8_t page[4096];
    uint8_t start[4096];
    struct recorder r;
    struct dax_err err;
    crash_mark = &marks[_i];
    plain_page(page, crash_mark);
    memcpy(start, page, sizeof page);
    recorder_init(&r, page);
    unit_ok(mark_set(&r.p, page, crash_mark, &err));
    crash_views(&r, start, check_set);

    /* P5, then byte 19 and nothing else, then P6 at the end. */
    ck_assert_uint_ge(r.count, 4);
    ck_assert_int_eq(r.events[r.count - 1].kind, EVENT_P6);
    ck_assert_int_eq(r.events[r.count - 2].kind, EVENT_STORE);
    ck_assert_uint_eq(r.events[r.count - 2].at, DAX_HEADER_READ_VERSION);
    ck_assert_uint_eq(r.events[r.count - 2].len, 1);
    ck_assert_int_eq(r.events[r.count - 3].kind, EVENT_P5);

    mark_put(start, crash_mark);
    ck_assert_int_eq(memcmp(page, start, sizeof page), 0);
}
END_TEST

START_TEST(test_every_crash_while_removing_leaves_a_plain_or_a_marked_file)
{
    _Alignas(4096) uint8_t page[4096];
    uint8_t start[4096];
    struct recorder r;
    struct dax_err err;
    crash_mark = &marks[_i];
    plain_page(page, crash_mark);
    mark_put(page, crash_mark);
    memcpy(start, page, sizeof page);
    recorder_init(&r, page);
    unit_ok(mark_clear(&r.p, page, crash_mark, &err));
    crash_views(&r, start, check_clear);
    plain_page(start, crash_mark);
    ck_assert_int_eq(memcmp(page, start, sizeof page), 0);
}
END_TEST

/* The mapping then shows what the caller is told, whatever the medium holds. */
START_TEST(test_a_failed_point_leaves_the_state_that_the_caller_is_told)
{
    _Alignas(4096) uint8_t page[4096];
    struct recorder r;
    struct dax_err err;
    struct mark got;
    plain_page(page, &marks[1]);
    recorder_init(&r, page);
    r.fail_point = PERSIST_P5_MARK_BODY;
    unit_fails(mark_set(&r.p, page, &marks[1], &err), DAX_IO_WRITE, "P5");
    ck_assert_int_eq(mark_read(page, &got), MARK_LEFT);

    recorder_init(&r, page);
    r.fail_point = PERSIST_P6_MARK_BYTE;
    unit_fails(mark_set(&r.p, page, &marks[1], &err), DAX_IO_WRITE, "P6");
    ck_assert_int_eq(mark_read(page, &got), MARK_LEFT);
    ck_assert_uint_eq(page[DAX_HEADER_READ_VERSION], 2);

    recorder_init(&r, page);
    unit_ok(mark_set(&r.p, page, &marks[1], &err));
    ck_assert_int_eq(mark_read(page, &got), MARK_SET);
    recorder_init(&r, page);
    r.fail_point = PERSIST_P6_MARK_BYTE;
    unit_fails(mark_clear(&r.p, page, &marks[1], &err), DAX_IO_WRITE, "P6");
    ck_assert_int_eq(mark_read(page, &got), MARK_SET);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mark");
    TCase *tc = tcase_create("mark");
    tcase_add_checked_fixture(tc, unit_setup, NULL);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, test_put_and_read_agree_and_touch_only_their_bytes, 0, MARKS);
    tcase_add_test(tc, test_every_other_header_is_judged_by_byte_19_first);
    tcase_add_test(tc, test_any_flipped_bit_of_a_mark_makes_it_foreign);
    tcase_add_test(tc, test_marks_that_we_cannot_undo_are_foreign);
    tcase_add_loop_test(tc, test_no_piece_of_page_0_shows_the_mark, 0, MARKS);
    tcase_add_loop_test(tc, test_every_crash_while_setting_leaves_a_plain_or_a_marked_file, 0,
                        MARKS);
    tcase_add_loop_test(tc, test_every_crash_while_removing_leaves_a_plain_or_a_marked_file, 0,
                        MARKS);
    tcase_add_test(tc, test_a_failed_point_leaves_the_state_that_the_caller_is_told);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
