/* test_commit.c: would catch a store to a committed page before its record is durable, a fence too
 * few or too many, a page applied under a reader or pushed for nobody, a transaction lost by an
 * error that it survives, and one that exists after its commit has failed.
 */
#include "tests/unit/db.h"

#include <sys/resource.h>

#include "engine/chain.h"
#include "engine/frames.h"

#define PAGES 20u

static struct conn *writer;
static struct store *store;
static const char *path;

static void commit_open(void)
{
    path = unit_path("app.db");
    writer = db_open(path);
    store = writer->store;
    db_write(writer, 0, PAGES, 1);
}

/* One byte in each of `lines` lines of a page. */
static void change_lines(uint64_t page, unsigned lines)
{
    uint8_t byte;
    for (unsigned i = 0; i < lines; i++) {
        uint64_t at = page * DB_PAGE + i * 3 * DAX_LINE_BYTES + 7;
        unit_ok(conn_read(writer, &byte, 1, at, &err));
        byte ^= 1;
        unit_ok(conn_write(writer, &byte, 1, at, &err));
    }
}

/* --- counters --------------------------------------------------------------------------------- */

START_TEST(test_pages_are_applied_alone_and_pushed_under_a_reader)
{
    commit_open();
    struct conn *reader = db_open(path);
    struct store_status a = db_status(writer), b;
    db_write(writer, 0, 5, 2);
    b = db_status(writer);
    ck_assert_uint_eq(b.pages_applied - a.pages_applied, 5);
    ck_assert_uint_eq(b.pages_pushed, a.pages_pushed);
    ck_assert_uint_eq(b.frames_used, 0);

    unit_ok(conn_begin_read(reader, &err));
    a = b;
    db_write(writer, 0, 5, 3);
    db_write(writer, PAGES, PAGES + 4, 3);
    b = db_status(writer);
    ck_assert_uint_eq(b.pages_applied, a.pages_applied);
    ck_assert_uint_eq(b.pages_pushed - a.pages_pushed, 5);
    ck_assert_uint_eq(b.pages_direct - a.pages_direct, 4); /* nobody can know them */
    ck_assert_uint_eq(b.pages_versioned, 5);
    ck_assert_uint_eq(b.commits - a.commits, 2);
    ck_assert_uint_eq(b.pages_committed - a.pages_committed, 9);
    ck_assert_uint_eq(b.txid - a.txid, 2);
    ck_assert_uint_eq(b.txid_oldest, a.txid);
    db_check_range(reader, 0, 5, 2);
    conn_end_read(reader);
    db_close(reader);
    db_close(writer);
}
END_TEST

/* The reader ends while the writer holds the lock, so the chain is still there at the commit. */
START_TEST(test_a_page_with_a_chain_is_applied_whole_when_nobody_needs_the_chain)
{
    commit_open();
    struct conn *reader = db_open(path);
    unit_ok(conn_begin_read(reader, &err));
    db_write(writer, 4, 5, 2);
    ck_assert_uint_eq(db_status(writer).pages_versioned, 1);
    db_begin(writer);
    conn_end_read(reader);
    change_lines(4, 1);
    uint64_t applied = db_status(writer).pages_applied;
    unit_ok(conn_commit(writer, &err));
    ck_assert_uint_eq(db_status(writer).pages_applied, applied + 1);
    ck_assert_uint_eq(db_status(writer).pages_versioned, 0);
    change_lines(4, 1); /* back */
    db_commit(writer);
    unit_ok(conn_begin_read(writer, &err));
    db_check(writer, 4, 2);
    conn_end_read(writer);
    db_close(reader);
    db_close(writer);
}
END_TEST

/* Before a checkpoint: the reader has base, and the newest version is in a frame. */
START_TEST(test_beside_a_long_reader_only_the_newest_version_is_kept)
{
    commit_open();
    struct conn *reader = db_open(path);
    unit_ok(conn_begin_read(reader, &err));
    for (uint64_t version = 2; version < 200; version++) {
        db_write(writer, 4, 8, version);
        struct store_status s = db_status(writer);
        /* Superseded ones wait in limbo for a while, to be reclaimed together. */
        ck_assert_uint_eq(s.pages_versioned, 4);
        ck_assert_uint_le(s.frames_used -
                              GUARDED_GET(store->region.header->guarded.limbo_count),
                          4);
    }
    db_check_range(reader, 4, 8, 1);
    conn_end_read(reader);
    db_write(writer, 4, 8, 200);
    ck_assert_uint_eq(db_status(writer).frames_used, 0);
    db_close(reader);
    db_close(writer);
}
END_TEST

/* Frames, without those that only wait to be reclaimed. */
static uint64_t frames_now(void)
{
    frames_reclaim(&store->region, &store->scan, UINT32_MAX);
    for (uint64_t page = 0; page < PAGES; page++)
        ck_assert_msg(chain_validate(store, page), "page %llu", (unsigned long long)page);
    ck_assert(frames_validate(&store->region));
    return db_status(writer).frames_used;
}

static uint32_t markers_now(void)
{
    return GUARDED_GET(store->region.header->guarded.markers);
}

/* Once a checkpoint has moved the reader's versions to frames, base takes the new ones, however many. */
START_TEST(test_a_long_reader_costs_one_frame_for_each_page_that_changes)
{
    commit_open();
    struct conn *reader = db_open(path);
    unit_ok(conn_begin_read(reader, &err));
    uint64_t version = 2;
    for (; version < 10; version++) {
        db_write(writer, 4, 8, version);
        ck_assert_uint_eq(frames_now(), 4); /* the newest */
    }
    for (unsigned round = 0; round < 4; round++) {
        db_checkpoint(writer, CHECKPOINT_PASSIVE);
        struct store_status a = db_status(writer);
        for (unsigned i = 0; i < 50; i++, version++) {
            db_write(writer, 4, 8, version);
            ck_assert_uint_eq(frames_now(), 4); /* the reader's */
            ck_assert_uint_eq(markers_now(), 4);
        }
        struct store_status b = db_status(writer);
        ck_assert_uint_eq(b.pages_applied - a.pages_applied, 200);
        ck_assert_uint_eq(b.pages_pushed, a.pages_pushed);
        ck_assert_uint_eq(b.pages_versioned, 4);
        ck_assert_uint_gt(b.log_bytes, 0);
        struct checkpoint_result result = db_checkpoint(writer, CHECKPOINT_PASSIVE);
        ck_assert_uint_eq(result.pages_rehomed, 0);
        ck_assert_uint_eq(result.log_bytes_after, 0);
    }
    db_check_range(reader, 4, 8, 1);
    unit_ok(conn_begin_read(writer, &err));
    db_check_range(writer, 4, 8, version - 1);
    conn_end_read(writer);
    conn_end_read(reader);
    ck_assert_uint_eq(db_status(writer).frames_used, 0);
    ck_assert_uint_eq(db_status(writer).pages_versioned, 0);
    ck_assert_uint_eq(markers_now(), 0);
    db_close(reader);
    db_close(writer);
    writer = db_open(path);
    unit_ok(conn_begin_read(writer, &err));
    db_check_range(writer, 4, 8, version - 1);
    db_check(writer, 8, 1);
    conn_end_read(writer);
    db_close(writer);
}
END_TEST

/* As many frames as there are different versions that old snapshots see. */
START_TEST(test_several_long_readers_cost_a_frame_for_each_version_that_they_see)
{
    commit_open();
    struct conn *r1 = db_open(path), *r2 = db_open(path), *r3 = db_open(path);
    unit_ok(conn_begin_read(r1, &err));
    db_write(writer, 4, 8, 2);
    db_checkpoint(writer, CHECKPOINT_PASSIVE);
    ck_assert_uint_eq(frames_now(), 4);
    unit_ok(conn_begin_read(r2, &err)); /* sees what base holds */
    unit_ok(conn_begin_read(r3, &err));
    struct store_status a = db_status(writer);
    db_write(writer, 4, 8, 3);
    ck_assert_uint_eq(db_status(writer).pages_pushed - a.pages_pushed, 4);
    ck_assert_uint_eq(frames_now(), 8); /* 1 and 3; base: 2 */
    db_check_range(r2, 4, 8, 2);
    db_checkpoint(writer, CHECKPOINT_PASSIVE);
    ck_assert_uint_eq(frames_now(), 8); /* 1 and 2; base: 3 */
    for (uint64_t version = 4; version < 20; version++) {
        db_write(writer, 4, 8, version);
        ck_assert_uint_eq(frames_now(), 8);
        db_check_range(r1, 4, 8, 1);
        db_check_range(r2, 4, 8, 2);
    }
    conn_end_read(r3);
    db_write(writer, 4, 8, 20);
    ck_assert_uint_eq(frames_now(), 8);
    conn_end_read(r2); /* not the oldest: what it saw goes with the pages' next commit */
    db_write(writer, 4, 6, 21);
    ck_assert_uint_eq(frames_now(), 6);
    db_write(writer, 6, 8, 21);
    ck_assert_uint_eq(frames_now(), 4);
    db_check_range(r1, 4, 8, 1);
    conn_end_read(r1);
    ck_assert_uint_eq(db_status(writer).frames_used, 0);
    ck_assert_uint_eq(markers_now(), 0);
    db_close(r1);
    db_close(r2);
    db_close(r3);
    db_close(writer);
}
END_TEST

/* A reader of the version that base holds, and its pin, keep commits away from base; afterwards the page's
 * next commit stores all that base is behind of. */
START_TEST(test_base_that_is_pinned_or_seen_is_left_alone_and_caught_up_with_later)
{
    commit_open();
    struct conn *old = db_open(path), *reader = db_open(path);
    uint8_t *base = base_at(&store->base, 4 * DB_PAGE);
    unit_ok(conn_begin_read(old, &err));
    db_write(writer, 4, 5, 2);
    db_checkpoint(writer, CHECKPOINT_PASSIVE);
    for (unsigned pinned = 0; pinned < 2; pinned++) {
        uint8_t before[DAX_PAGE_BYTES];
        unit_ok(conn_begin_read(reader, &err));
        uint8_t *pin = pinned ? db_pin(reader, 4) : NULL;
        memcpy(before, base, sizeof before);
        struct store_status a = db_status(writer);
        db_begin(writer);
        change_lines(4, 5);
        db_commit(writer);
        ck_assert_uint_eq(db_status(writer).pages_pushed - a.pages_pushed, 1);
        ck_assert_mem_eq(before, base, sizeof before);
        ck_assert_uint_eq(frames_now(), 2);
        if (pinned) {
            ck_assert_ptr_eq(pin, base);
            db_unpin(reader, 4, pin);
        }
        conn_end_read(reader);
        db_begin(writer);
        change_lines(4, 1); /* takes one line back */
        db_commit(writer);
        struct store_status b = db_status(writer);
        ck_assert_uint_eq(b.pages_applied - a.pages_applied, 1);
        ck_assert_uint_eq(b.pages_pushed - a.pages_pushed, 1);
        ck_assert_uint_eq(frames_now(), 1);
        ck_assert_uint_eq(markers_now(), 1);
        for (unsigned i = 0; i < 5; i++) {
            size_t at = i * 3 * DAX_LINE_BYTES + 7;
            before[at] ^= i > 0;
        }
        ck_assert_mem_eq(before, base, sizeof before);
    }
    db_check(old, 4, 1);
    conn_end_read(old);
    ck_assert_uint_eq(frames_now(), 0);
    db_close(old);
    db_close(reader);
    db_close(writer);
}
END_TEST

/* The old snapshot is served from frames while its pages leave the database and come back. */
START_TEST(test_pages_that_a_long_reader_keeps_may_leave_the_database)
{
    commit_open();
    struct conn *reader = db_open(path);
    unit_ok(conn_begin_read(reader, &err));
    db_write(writer, 0, PAGES, 2);
    db_checkpoint(writer, CHECKPOINT_PASSIVE);
    db_write(writer, 0, PAGES, 3);
    ck_assert_uint_eq(frames_now(), PAGES);
    db_shrink(writer, PAGES / 2);
    db_checkpoint(writer, CHECKPOINT_TRUNCATE);
    db_check_range(reader, 1, PAGES, 1);
    db_write(writer, 0, PAGES, 4);
    db_check_range(reader, 1, PAGES, 1);
    db_checkpoint(writer, CHECKPOINT_PASSIVE);
    db_write(writer, 0, PAGES, 5);
    ck_assert_uint_eq(frames_now(), PAGES);
    db_check_range(reader, 1, PAGES, 1);
    db_shrink(writer, PAGES / 2);
    conn_end_read(reader);
    db_checkpoint(writer, CHECKPOINT_TRUNCATE);
    ck_assert_uint_eq(frames_now(), 0);
    ck_assert_uint_eq(markers_now(), 0);
    db_close(reader);
    db_close(writer);
    writer = db_open(path);
    db_check_all(writer, PAGES / 2, 5);
    db_close(writer);
}
END_TEST

START_TEST(test_a_small_change_is_a_small_record)
{
    commit_open();
    struct store_status a = db_status(writer), b;
    db_begin(writer);
    change_lines(3, 1);
    db_commit(writer);
    b = db_status(writer);
    ck_assert_uint_eq(b.lines_logged - a.lines_logged, 1);
    ck_assert_uint_eq(b.lsn_tail - a.lsn_tail, 3 * DAX_LINE_BYTES);
    a = b;
    db_begin(writer);
    change_lines(3, 5);
    change_lines(9, 2);
    change_lines(PAGES - 1, 1);
    db_commit(writer);
    b = db_status(writer);
    ck_assert_uint_eq(b.lines_logged - a.lines_logged, 8);
    ck_assert_uint_eq(b.lsn_tail - a.lsn_tail, (1 + 1 + 8) * DAX_LINE_BYTES);
    ck_assert_uint_eq(b.log_bytes_total - a.log_bytes_total, b.lsn_tail - a.lsn_tail);
    db_close(writer);
}
END_TEST

/* Whole pages are compared as they are written, parts of pages at the commit, and the last word counts. */
START_TEST(test_what_is_logged_is_what_differs_however_often_it_was_written)
{
    static const struct {
        uint64_t page;
        const char *writes; /* W: whole, one line changed, w: whole as committed; p: another line, x: both back */
        unsigned lines;
    } cases[] = {{3, "W", 1},  {3, "w", 0},   {3, "WW", 1}, {3, "Ww", 0},  {3, "Wp", 2},
                 {3, "pW", 1}, {3, "Wpx", 0}, {3, "Wx", 0}, {3, "wp", 1},  {3, "Wxp", 1},
                 {0, "W", 1},  {0, "w", 0},   {0, "Ww", 0}, {0, "Wp", 2},  {0, "wp", 1},
                 {0, "Wpx", 0}};
    commit_open();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t page = cases[i].page, at = page * DB_PAGE;
        uint8_t committed[DAX_PAGE_BYTES], whole[DAX_PAGE_BYTES];
        struct store_status a = db_status(writer);
        db_begin(writer);
        unit_ok(conn_read(writer, committed, sizeof committed, at, &err));
        for (const char *w = cases[i].writes; *w; w++) {
            memcpy(whole, committed, sizeof whole);
            whole[9 * DAX_LINE_BYTES + 5] ^= *w == 'W';
            whole[40 * DAX_LINE_BYTES + 63] ^= *w == 'p';
            if (*w == 'p') {
                unit_ok(conn_write(writer, whole + 40 * DAX_LINE_BYTES, 64, at + 40 * DAX_LINE_BYTES,
                                   &err));
            } else if (*w == 'x') {
                unit_ok(conn_write(writer, whole + 64, 45 * 64, at + 64, &err));
            } else {
                unit_ok(conn_write(writer, whole, sizeof whole, at, &err));
            }
        }
        unit_ok(conn_read(writer, whole, sizeof whole, at, &err));
        db_commit(writer);
        struct store_status b = db_status(writer);
        ck_assert_msg(b.lines_logged - a.lines_logged == cases[i].lines, "page %u, %s: %u lines",
                      (unsigned)page, cases[i].writes, (unsigned)(b.lines_logged - a.lines_logged));
        unit_ok(conn_begin_read(writer, &err));
        unit_ok(conn_read(writer, committed, sizeof committed, at, &err));
        conn_end_read(writer);
        ck_assert_mem_eq(committed, whole, sizeof whole);
    }
    db_close(writer);
    writer = db_open(path);
    ck_assert_uint_eq(db_status(writer).recovered_records, 0);
    db_close(writer);
}
END_TEST

START_TEST(test_nothing_changed_is_nothing_committed)
{
    commit_open();
    struct store_status a = db_status(writer), b;
    db_begin(writer);
    unit_ok(conn_commit(writer, &err)); /* not even a write */
    change_lines(3, 2);
    change_lines(3, 2);
    db_put(writer, 5, 1);
    unit_ok(conn_truncate(writer, (PAGES + 1) * DB_PAGE, &err));
    unit_ok(conn_truncate(writer, PAGES * DB_PAGE, &err));
    db_commit(writer);
    b = db_status(writer);
    ck_assert_uint_eq(b.txid, a.txid);
    ck_assert_uint_eq(b.lsn_tail, a.lsn_tail);
    ck_assert_uint_eq(b.commits, a.commits);
    ck_assert_uint_eq(b.aborts, a.aborts);
    ck_assert_uint_eq(b.frames_used, 0);
    /* A new size alone is something. */
    db_shrink(writer, PAGES - 1);
    b = db_status(writer);
    ck_assert_uint_eq(b.txid, a.txid + 1);
    ck_assert_uint_eq(b.lsn_tail - a.lsn_tail, DAX_LINE_BYTES);
    db_check_all(writer, PAGES - 1, 1);
    db_close(writer);
}
END_TEST

START_TEST(test_transactions_follow_each_other_under_one_lock)
{
    commit_open();
    struct conn *reader = db_open(path);
    db_begin(writer);
    for (uint64_t version = 2; version < 12; version++) {
        uint64_t before = writer->snapshot;
        db_put(writer, version, version);
        unit_ok(conn_commit(writer, &err));
        ck_assert_uint_eq(writer->snapshot, before + 1);
        ck_assert(conn_is_writer(writer));
        db_check(writer, version, version);
        unit_ok(conn_begin_read(reader, &err));
        db_check(reader, version, version);
        conn_end_read(reader);
    }
    db_put(writer, 3, 99);
    db_end(writer); /* not committed */
    unit_ok(conn_begin_read(writer, &err));
    for (uint64_t version = 2; version < 12; version++)
        db_check(writer, version, version);
    conn_end_read(writer);
    db_close(reader);
    db_close(writer);
}
END_TEST

START_TEST(test_calls_out_of_order_are_refused_and_change_nothing)
{
    commit_open();
    unit_fails(conn_begin_write(writer, &err), DAX_MISUSE, "needs a snapshot");
    unit_fails(conn_write(writer, "x", 1, 0, &err), DAX_MISUSE, "not the writer");
    unit_fails(conn_truncate(writer, 0, &err), DAX_MISUSE, "not the writer");
    unit_ok(conn_commit(writer, &err));
    unit_ok(conn_prepare(writer, &err));
    conn_end_write(writer);
    conn_end_read(writer);
    unit_ok(conn_begin_read(writer, &err));
    unit_fails(conn_write(writer, "x", 1, 0, &err), DAX_MISUSE, "not the writer");
    unit_ok(conn_begin_write(writer, &err));
    unit_fails(conn_begin_write(writer, &err), DAX_MISUSE, "has begun already");
    conn_end_read(writer); /* ends the write as well */
    ck_assert(!conn_is_writer(writer));
    db_check_all(writer, PAGES, 1);
    db_close(writer);
}
END_TEST

/* --- order ------------------------------------------------------------------------------------ */

enum event {
    EVENT_RING,
    EVENT_SEAL,
    EVENT_OLD_PAGE,
    EVENT_NEW_PAGE,
    EVENT_FLUSH,
    EVENT_SYNC_LOG,
    EVENT_SYNC_BASE,
    EVENT_FENCE
};

static const struct persist_ops *real_ops;
static struct persist_ops ops;
static enum event events[4096];
static unsigned event_count;
static uint64_t committed_pages;
static int fail_log, fail_base; /* so many times from now on; -1: always */

static void note(enum event e)
{
    ck_assert_uint_lt(event_count, sizeof events / sizeof *events);
    events[event_count++] = e;
}

static void note_address(const uint8_t *at)
{
    const uint8_t *base = base_at(&store->base, 0), *ring = store->sidecar.ring;
    if (at >= ring && at < ring + store->sidecar.ring_bytes) {
        note(EVENT_RING);
    } else if ((uintptr_t)at - (uintptr_t)store->sidecar.twin < DAX_PAGE_BYTES) {
        note(EVENT_SEAL);
    } else if (at >= base && at < base + committed_pages * DB_PAGE) {
        note(EVENT_OLD_PAGE); /* out of every reader's reach */
        ck_assert_int_eq(db_state(writer, (uint64_t)(at - base) / DB_PAGE), PAGE_ZAPPED);
    } else {
        note(EVENT_NEW_PAGE);
    }
}

static void ops_store(struct persist *p, void *dst, const void *src, size_t len)
{
    note_address(dst);
    real_ops->store(p, dst, src, len);
}

static void ops_zero(struct persist *p, void *dst, size_t len)
{
    note_address(dst);
    real_ops->zero(p, dst, len);
}

static void ops_store_cached(struct persist *p, void *dst, const void *src, size_t len)
{
    note_address(dst);
    real_ops->store_cached(p, dst, src, len);
}

static void ops_flush(struct persist *p, const void *addr, size_t len)
{
    note(EVENT_FLUSH);
    real_ops->flush(p, addr, len);
}

static void ops_fence(struct persist *p)
{
    note(EVENT_FENCE);
    real_ops->fence(p);
}

static int ops_result(int *countdown)
{
    if (*countdown == 0)
        return 0;
    if (*countdown > 0)
        --*countdown;
    return EIO;
}

static int ops_sync_log(struct persist *p)
{
    note(EVENT_SYNC_LOG);
    int e = real_ops->sync_log(p);
    return e ? e : ops_result(&fail_log);
}

static int ops_sync_base(struct persist *p)
{
    note(EVENT_SYNC_BASE);
    int e = real_ops->sync_base(p);
    return e ? e : ops_result(&fail_base);
}

static void ops_install(void)
{
    real_ops = store->persist.ops;
    ops = (struct persist_ops){.store = ops_store,
                               .zero = ops_zero,
                               .store_cached = ops_store_cached,
                               .flush = ops_flush,
                               .fence = ops_fence,
                               .sync_log = ops_sync_log,
                               .sync_base = ops_sync_base};
    store->persist.ops = &ops;
    committed_pages = store_size(store) / DB_PAGE;
    event_count = 0;
}

static unsigned count_of(enum event e, unsigned from, unsigned to)
{
    unsigned n = 0;
    for (unsigned i = from; i < to; i++)
        n += events[i] == e;
    return n;
}

static unsigned position_of(enum event e)
{
    unsigned i = 0;
    while (i < event_count && events[i] != e)
        i++;
    return i;
}

START_TEST(test_base_is_stored_to_only_behind_the_durable_record)
{
    commit_open();
    ops_install();
    uint64_t p1 = store->persist.points[PERSIST_P1_DIRECT];
    uint64_t p2 = store->persist.points[PERSIST_P2_RECORD];
    db_begin(writer);
    for (uint64_t page = 0; page < 7; page++)
        db_put(writer, page, 2);
    unit_ok(conn_prepare(writer, &err));
    ck_assert_uint_eq(event_count, 0); /* all of it is in DRAM */
    db_commit(writer);
    unsigned durable = position_of(EVENT_SYNC_LOG), seal = position_of(EVENT_SEAL);
    ck_assert_uint_eq(count_of(EVENT_SYNC_LOG, 0, event_count), 2);
    ck_assert_uint_eq(count_of(EVENT_SYNC_BASE, 0, event_count), 0);
    ck_assert_uint_ge(count_of(EVENT_RING, 0, durable), 1);
    ck_assert_uint_eq(count_of(EVENT_RING, durable, event_count), 0);
    /* P2, the seal, P7, and only then base. */
    ck_assert_uint_eq(seal, durable + 1);
    ck_assert_int_eq(events[seal + 1], EVENT_SYNC_LOG);
    ck_assert_uint_eq(count_of(EVENT_SEAL, 0, event_count), 1);
    ck_assert_uint_eq(count_of(EVENT_OLD_PAGE, 0, seal + 1), 0);
    ck_assert_uint_ge(count_of(EVENT_OLD_PAGE, seal + 1, event_count), 7);
    ck_assert_uint_eq(store->persist.points[PERSIST_P1_DIRECT], p1);
    ck_assert_uint_eq(store->persist.points[PERSIST_P2_RECORD], p2 + 1);
    store->persist.ops = real_ops;
    db_close(writer);
}
END_TEST

/* L6 without a seal per commit: what is not sealed stays in frames, whoever tidies. */
START_TEST(test_in_msync_mode_base_waits_for_the_checkpoint_that_seals)
{
    struct dax_options o = db_options();
    o.persist = MEDIUM_MSYNC;
    path = unit_path("app.db");
    unit_ok(conn_open(path, &o, &writer, &err));
    store = writer->store;
    db_write(writer, 0, PAGES, 1);
    db_checkpoint(writer, CHECKPOINT_FULL);
    struct conn *reader;
    unit_ok(conn_open(path, &o, &reader, &err));
    ops_install();

    db_write(writer, 1, 4, 2);
    ck_assert_uint_eq(count_of(EVENT_SYNC_LOG, 0, event_count), 1);
    ck_assert_uint_eq(count_of(EVENT_SEAL, 0, event_count), 0);
    ck_assert_uint_eq(count_of(EVENT_OLD_PAGE, 0, event_count), 0);

    /* A reader of the newest state has nothing to tidy when it ends. */
    unsigned before = event_count;
    unit_ok(conn_begin_read(reader, &err));
    db_check_range(reader, 1, 4, 2);
    conn_end_read(reader);
    ck_assert_uint_eq(event_count, before);

    /* One of an older state has, but a record behind another one is no seal of it: one damaged place
     * may take both. */
    unit_ok(conn_begin_read(reader, &err));
    db_write(writer, 7, 9, 3);
    ck_assert_uint_eq(count_of(EVENT_OLD_PAGE, 0, event_count), 0);
    conn_end_read(reader);
    static uint8_t page[DAX_PAGE_BYTES];
    for (uint64_t i = 1; i < 9; i++) {
        memcpy(page, base_at(&store->base, i * DB_PAGE), DB_PAGE);
        ck_assert_uint_eq(db_version(page, i), 1);
    }
    ck_assert_uint_eq(count_of(EVENT_SEAL, 0, event_count), 0);

    before = event_count;
    db_checkpoint(writer, CHECKPOINT_FULL);
    ck_assert_int_eq(events[before], EVENT_SEAL);
    ck_assert_int_eq(events[before + 1], EVENT_SYNC_LOG);
    ck_assert_uint_ge(count_of(EVENT_OLD_PAGE, before + 2, event_count), 2);
    unit_ok(conn_begin_read(reader, &err));
    db_check_range(reader, 7, 9, 3);
    conn_end_read(reader);
    store->persist.ops = real_ops;
    db_close(reader);
    db_close(writer);
}
END_TEST

/* A reader of the newest state may have kept a frame that a checkpoint has rehomed meanwhile. */
START_TEST(test_in_msync_mode_a_pinned_frame_is_free_again_after_its_reader)
{
    struct dax_options o = db_options();
    o.persist = MEDIUM_MSYNC;
    path = unit_path("app.db");
    unit_ok(conn_open(path, &o, &writer, &err));
    db_write(writer, 0, PAGES, 1);
    db_write(writer, 5, 6, 2);
    struct conn *reader;
    unit_ok(conn_open(path, &o, &reader, &err));
    unit_ok(conn_begin_read(reader, &err));
    uint8_t *pin = db_pin(reader, 5);
    db_checkpoint(writer, CHECKPOINT_FULL);
    ck_assert_uint_gt(db_status(writer).frames_used, 0);
    conn_unpin(reader, 5 * DB_PAGE, pin);
    conn_end_read(reader);
    ck_assert_uint_eq(db_status(writer).frames_used, 0);
    db_close(reader);
    db_close(writer);
}
END_TEST

START_TEST(test_direct_pages_are_durable_before_the_record_that_names_their_size)
{
    commit_open();
    ops_install();
    db_begin(writer);
    db_put(writer, PAGES + 2, 2); /* with a hole before it */
    change_lines(1, 1);
    db_commit(writer);
    unsigned p1 = position_of(EVENT_SYNC_BASE), record = position_of(EVENT_RING);
    ck_assert_uint_lt(p1, record);
    ck_assert_uint_eq(count_of(EVENT_NEW_PAGE, 0, p1), 3);
    ck_assert_uint_eq(count_of(EVENT_NEW_PAGE, p1, event_count), 0);
    ck_assert_uint_eq(count_of(EVENT_SYNC_BASE, 0, event_count), 1);
    store->persist.ops = real_ops;
    db_close(writer);
}
END_TEST

/* Readers that begin within the commit, at its fences: the first comes before last_committed is
 * published (a page that nobody knew is in base), the last behind it. */
static struct conn *late[8];
static unsigned late_count;
static uint64_t late_snapshot[8];

static void late_fence(struct persist *p)
{
    real_ops->fence(p);
    if (late_count == 8)
        return;
    db_ok(conn_begin_read(late[late_count], &err));
    late_snapshot[late_count] = late[late_count]->snapshot;
    late_count++;
}

START_TEST(test_a_reader_that_begins_within_a_commit_sees_all_of_it_or_nothing)
{
    commit_open();
    for (unsigned i = 0; i < 8; i++)
        late[i] = db_open(path);
    /* A page that was cut off is TRUNCATED: its next commit stores it to base before publishing. */
    db_write(writer, PAGES, PAGES + 5, 1);
    db_shrink(writer, PAGES);
    db_checkpoint(writer, CHECKPOINT_TRUNCATE);
    ck_assert_int_eq(db_state(writer, PAGES + 2), PAGE_TRUNCATED);
    db_begin(writer);
    for (uint64_t page = 0; page < PAGES + 5; page++)
        db_put(writer, page, 2);
    unit_ok(conn_prepare(writer, &err));
    ops_install();
    ops = *real_ops;
    ops.fence = late_fence;
    uint64_t before = writer->snapshot;
    db_commit(writer);
    store->persist.ops = real_ops;
    ck_assert_uint_ge(late_count, 2);
    ck_assert_uint_eq(late_snapshot[0], before);
    ck_assert_uint_eq(late_snapshot[late_count - 1], before + 1);
    for (unsigned i = 0; i < late_count; i++) {
        bool old = late_snapshot[i] == before;
        ck_assert_uint_eq(conn_size(late[i]), (PAGES + (old ? 0 : 5)) * DB_PAGE);
        db_check_range(late[i], 0, PAGES, old ? 1 : 2);
        if (!old)
            db_check_range(late[i], PAGES, PAGES + 5, 2);
        conn_end_read(late[i]);
    }
    for (unsigned i = 0; i < 8; i++)
        db_close(late[i]);
    db_close(writer);
}
END_TEST

/* --- errors ----------------------------------------------------------------------------------- */

START_TEST(test_an_error_before_the_record_leaves_the_transaction_as_it_was)
{
    struct rlimit limit;
    commit_open();
    struct conn *reader = db_open(path);
    uint64_t txid = db_status(writer).txid;
    db_begin(writer);
    db_put(writer, 3, 2);
    db_put(writer, PAGES, 2);
    /* No page of the file beyond its end, and no scratch. */
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = unit_file_size(path);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    for (unsigned i = 0; i < 3; i++) {
        unit_fails(conn_write(writer, "x", 1, 100000 * DB_PAGE, &err), DAX_FULL, "app.db");
        unit_fails(conn_truncate(writer, 100000 * DB_PAGE, &err), DAX_FULL, "app.db");
        ck_assert(conn_is_writer(writer));
        ck_assert_uint_eq(conn_size(writer), (PAGES + 1) * DB_PAGE);
        db_check(writer, 3, 2);
        db_check(writer, PAGES, 2);
        db_check_all(reader, PAGES, 1);
    }
    limit.rlim_cur = before;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    db_put(writer, 4, 2);
    db_commit(writer);
    ck_assert_uint_eq(db_status(writer).txid, txid + 1);
    unit_ok(conn_begin_read(reader, &err));
    ck_assert_uint_eq(conn_size(reader), (PAGES + 1) * DB_PAGE);
    db_check_range(reader, 3, 5, 2);
    db_check(reader, PAGES, 2);
    conn_end_read(reader);
    db_close(reader);
    db_close(writer);
}
END_TEST

/* What the system failed to write it may have dropped: nobody builds on it. */
START_TEST(test_direct_pages_whose_sync_failed_stop_the_store_before_the_record)
{
    commit_open();
    struct conn *reader = db_open(path);
    ops_install();
    db_begin(writer);
    db_put(writer, 3, 2);
    db_put(writer, PAGES, 2);
    fail_base = 1;
    unit_fails(conn_commit(writer, &err), DAX_IO_WRITE, "P1");
    ck_assert_uint_eq(count_of(EVENT_RING, 0, event_count), 0);
    db_end(writer);
    db_check_all(reader, PAGES, 1);
    unit_ok(conn_begin_read(writer, &err));
    unit_fails(conn_begin_write(writer, &err), DAX_IO_WRITE, "P1");
    conn_end_read(writer);
    store->persist.ops = real_ops;
    db_close(reader);
    unit_fails(conn_close(writer, &err), DAX_IO_WRITE, "P1");
    writer = db_open(path);
    db_check_all(writer, PAGES, 1);
    db_close(writer);
}
END_TEST

/* The sync of the record fails once (it is taken back) or from then on (nobody can know). */
START_TEST(test_a_record_whose_sync_failed_stops_the_store)
{
    commit_open();
    struct conn *reader = db_open(path);
    ops_install();
    db_begin(writer);
    db_put(writer, 3, 2);
    fail_log = _i ? -1 : 1;
    unit_fails(conn_commit(writer, &err), DAX_IO_WRITE, "P2");
    db_end(writer);
    db_check_all(reader, PAGES, 1); /* reading goes on */
    unit_ok(conn_begin_read(writer, &err));
    unit_fails(conn_begin_write(writer, &err), DAX_IO_WRITE,
               _i ? "committed or not" : "is not committed");
    struct checkpoint_result result;
    unit_fails(conn_checkpoint(reader, CHECKPOINT_FULL, NULL, NULL, &result, &err), DAX_IO_WRITE,
               "P2");
    conn_end_read(writer);
    store->persist.ops = real_ops;
    db_close(reader);
    unit_fails(conn_close(writer, &err), DAX_IO_WRITE, "P2");
    writer = db_open(path);
    unit_ok(conn_begin_read(writer, &err));
    if (!_i)
        db_check(writer, 3, 1);
    else
        (void)db_version(db_pin(writer, 3), 3); /* one of them, whole */
    if (_i)
        conn_unpin(writer, 0, writer->pinned[0]);
    conn_end_read(writer);
    db_write(writer, 3, 4, 5);
    db_close(writer);
}
END_TEST

int main(void)
{
    TCase *tc = db_case("commit", 120);
    tcase_add_test(tc, test_pages_are_applied_alone_and_pushed_under_a_reader);
    tcase_add_test(tc, test_a_page_with_a_chain_is_applied_whole_when_nobody_needs_the_chain);
    tcase_add_test(tc, test_beside_a_long_reader_only_the_newest_version_is_kept);
    tcase_add_test(tc, test_a_long_reader_costs_one_frame_for_each_page_that_changes);
    tcase_add_test(tc, test_several_long_readers_cost_a_frame_for_each_version_that_they_see);
    tcase_add_test(tc, test_base_that_is_pinned_or_seen_is_left_alone_and_caught_up_with_later);
    tcase_add_test(tc, test_pages_that_a_long_reader_keeps_may_leave_the_database);
    tcase_add_test(tc, test_a_small_change_is_a_small_record);
    tcase_add_test(tc, test_what_is_logged_is_what_differs_however_often_it_was_written);
    tcase_add_test(tc, test_nothing_changed_is_nothing_committed);
    tcase_add_test(tc, test_transactions_follow_each_other_under_one_lock);
    tcase_add_test(tc, test_calls_out_of_order_are_refused_and_change_nothing);
    tcase_add_test(tc, test_base_is_stored_to_only_behind_the_durable_record);
    tcase_add_test(tc, test_in_msync_mode_base_waits_for_the_checkpoint_that_seals);
    tcase_add_test(tc, test_in_msync_mode_a_pinned_frame_is_free_again_after_its_reader);
    tcase_add_test(tc, test_direct_pages_are_durable_before_the_record_that_names_their_size);
    tcase_add_test(tc, test_a_reader_that_begins_within_a_commit_sees_all_of_it_or_nothing);
    tcase_add_test(tc, test_an_error_before_the_record_leaves_the_transaction_as_it_was);
    tcase_add_test(tc, test_direct_pages_whose_sync_failed_stop_the_store_before_the_record);
    tcase_add_loop_test(tc, test_a_record_whose_sync_failed_stops_the_store, 0, 2);
    return db_main(tc, "commit");
}
