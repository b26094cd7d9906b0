/* test_writeback.c: would catch an applied line that a checkpoint's P3 passes without its having been
 * flushed, a flush on the path of a commit, and a page that is forgotten because too many wait.
 */
#include "tests/unit/db.h"

#include "engine/writeback.h"

#define PAGES 64u

static struct conn *writer;
static const struct persist_ops *real_ops;
static struct persist_ops ops;
static uint64_t unflushed[PAGES]; /* by this test's own account */
static uint64_t flushed_pages;    /* flush calls for pages beyond PAGES, in their order */
static unsigned flushes, points;

static void watched_store_cached(struct persist *p, void *dst, const void *src, size_t len)
{
    uint64_t at = (uint64_t)((uint8_t *)dst - base_at(&writer->store->base, 0));
    ck_assert_uint_eq(at % DAX_LINE_BYTES, 0);
    for (uint64_t line = at / DAX_LINE_BYTES; line < (at + len) / DAX_LINE_BYTES; line++)
        unflushed[line / DAX_PAGE_LINES] |= UINT64_C(1) << line % DAX_PAGE_LINES;
    real_ops->store_cached(p, dst, src, len);
}

static void watched_flush(struct persist *p, const void *addr, size_t len)
{
    uint64_t at = (uint64_t)((const uint8_t *)addr - base_at(&writer->store->base, 0));
    flushes++;
    for (uint64_t line = at / DAX_LINE_BYTES; line < (at + len) / DAX_LINE_BYTES; line++)
        if (line / DAX_PAGE_LINES < PAGES)
            unflushed[line / DAX_PAGE_LINES] &= ~(UINT64_C(1) << line % DAX_PAGE_LINES);
        else
            ck_assert_uint_eq(line / DAX_PAGE_LINES, PAGES + flushed_pages++);
    real_ops->flush(p, addr, len);
}

static int watched_sync_base(struct persist *p)
{
    points++;
    for (unsigned page = 0; page < PAGES; page++)
        ck_assert_msg(unflushed[page] == 0, "lines %#llx of page %u are not flushed",
                      (unsigned long long)unflushed[page], page);
    return real_ops->sync_base(p);
}

static void watch(void)
{
    writer = db_open(unit_path("app.db"));
    db_write(writer, 0, PAGES, 1);
    (void)db_checkpoint(writer, CHECKPOINT_FULL);
    real_ops = writer->store->persist.ops;
    ops = *real_ops;
    ops.store_cached = watched_store_cached;
    ops.flush = watched_flush;
    ops.sync_base = watched_sync_base;
    writer->store->persist.ops = &ops;
}

/* Random lines of random pages, a checkpoint now and then, sometimes beside a reader. */
START_TEST(test_a_checkpoint_flushes_every_applied_line_and_a_commit_none)
{
    uint64_t state = 7;
    watch();
    struct conn *reader = db_open(unit_path("app.db"));
    for (unsigned round = 0; round < 400; round++) {
        bool reading = round % 5 == 0;
        if (reading)
            unit_ok(conn_begin_read(reader, &err));
        db_begin(writer);
        for (unsigned i = 0; i < 1 + round % 7; i++) {
            uint8_t bytes[200];
            state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
            memset(bytes, (int)(state >> 50), sizeof bytes);
            unit_ok(conn_write(writer, bytes, sizeof bytes,
                               (state >> 33) % (PAGES * DB_PAGE - sizeof bytes), &err));
        }
        unsigned before = flushes;
        db_commit(writer);
        ck_assert_uint_eq(flushes, before);
        if (reading)
            conn_end_read(reader);
        if (round % 20 == 19)
            (void)db_checkpoint(writer, CHECKPOINT_FULL);
    }
    ck_assert_uint_ge(points, 20);
    ck_assert_uint_gt(flushes, 1000);
    db_close(reader);
    db_close(writer);
}
END_TEST

START_TEST(test_if_too_many_pages_wait_the_oldest_is_flushed)
{
    watch();
    struct store *s = writer->store;
    uint64_t pages = PAGES + DAX_UNFLUSHED_PAGES + 10;
    unit_ok(base_reserve(&s->base, pages << DAX_PAGE_SHIFT, &err));
    for (uint64_t page = PAGES; page < pages; page++)
        writeback_note(s, page, 1);
    ck_assert_uint_eq(flushed_pages, 10);
    writeback_note(s, PAGES + 10, 1); /* waits already */
    ck_assert_uint_eq(flushed_pages, 10);
    writeback_note(s, PAGES, 1);
    ck_assert_uint_eq(flushed_pages, 11);
    s->region.unflushed_lines[PAGES] = 0; /* out of this test's order */
    s->region.unflushed->count--;
    writeback_flush(s);
    ck_assert_uint_eq(flushed_pages, pages - PAGES);
    ck_assert_uint_eq(s->region.unflushed->count, 0);
    s->persist.ops = real_ops;
    db_close(writer);
}
END_TEST

int main(void)
{
    TCase *tc = db_case("writeback", 120);
    tcase_add_test(tc, test_a_checkpoint_flushes_every_applied_line_and_a_commit_none);
    tcase_add_test(tc, test_if_too_many_pages_wait_the_oldest_is_flushed);
    return db_main(tc, "writeback");
}
