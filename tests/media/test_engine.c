/* test_engine.c: pages that go bad under the engine: who is told, who is not, and how they come back.
 *
 * Catches: a bad page that is served, or that stops anything but itself; a commit that fails, or is
 * lost, because base cannot be stored to; an old snapshot that is shown a newer version because its own
 * was lost; a rewritten page that stays flagged, or one that is not rewritten; an entry that closes
 * without the repair, or stays open after it, across a crash; a page of the log that stops commits; a
 * file that somebody cuts and the zeros that fill it again; recovery that drops what only the log has; a
 * process that libpmemobj takes along when a page of its own goes bad; media errors that are forgotten.
 */
#include <pthread.h>
#include <sys/wait.h>

#include "engine/ledger.h"
#include "engine/media.h"
#include "engine/media_state.h"
#include "tests/media/bad_pages.h"
#include "tests/media/poison.h"
#include "tests/unit/db.h"

#define PAGES 32u

static const unsigned EVERY_WAY = BAD_MAPPED | BAD_READ;

static struct conn *made(const char *path)
{
    struct conn *c = db_open(path);
    db_write(c, 0, PAGES, 1);
    db_checkpoint(c, CHECKPOINT_TRUNCATE);
    return c;
}

static void read_header(const char *path, uint8_t header[DAX_HEADER_BYTES])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, header, DAX_HEADER_BYTES, 0), DAX_HEADER_BYTES);
    close(fd);
}

static bool poisoned(struct conn *c, uint64_t page)
{
    struct page_info info;
    conn_page_info(c, page, &info);
    return info.poisoned;
}

/* The last entry of a page of base. */
static struct media_entry entry_of(struct conn *c, uint64_t page)
{
    static struct media_entry all[256];
    struct media_entry e = {0};
    size_t n = conn_media_list(c, all, 256);
    for (size_t i = 0; i < n && i < 256; i++)
        if (all[i].part == MEDIA_BASE && page >= all[i].page &&
            page < all[i].page + pages_of(all[i].bytes))
            e = all[i];
    return e;
}

static size_t entries(struct conn *c)
{
    return conn_media_list(c, NULL, 0);
}

static void refuses(struct conn *c, uint64_t page)
{
    uint8_t buf[DAX_PAGE_BYTES];
    void *at;
    db_ok(conn_begin_read(c, &err));
    unit_fails(conn_read(c, buf, 8, page * DB_PAGE + 100, &err), DAX_IO_MEDIA, "cannot be read");
    unit_fails(conn_pin(c, page * DB_PAGE, DAX_PAGE_BYTES, &at, &err), DAX_IO_MEDIA,
               "cannot be read");
    ck_assert_uint_eq(db_status(c).pins, 0);
    conn_end_read(c);
}

static void others_are_well(struct conn *c, uint64_t page, uint64_t version)
{
    db_ok(conn_begin_read(c, &err));
    for (uint64_t p = 0; p < PAGES; p++)
        if (p != page)
            db_check(c, p, version);
    conn_end_read(c);
}

/* --- reading -------------------------------------------------------------------------------------- */

static const struct {
    unsigned ways;
    enum media_kind kind;
} ways[] = {{BAD_MAPPED | BAD_READ, MEDIA_POISON}, {BAD_MAPPED, MEDIA_SIGBUS}};

START_TEST(a_bad_page_is_an_error_of_its_own_readers)
{
    const char *path = unit_path("app.db");
    struct conn *c = made(path);
    bad_page_add(path, 7, ways[_i].ways);
    bool copies = _i; /* who meets it first: a copy, or the probe of a pin */
    db_ok(conn_begin_read(c, &err));
    uint8_t buf[DAX_PAGE_BYTES];
    void *at;
    if (copies)
        unit_fails(conn_read(c, buf, sizeof buf, 7 * DB_PAGE, &err), DAX_IO_MEDIA, "page 7");
    else
        unit_fails(conn_pin(c, 7 * DB_PAGE, DAX_PAGE_BYTES, &at, &err), DAX_IO_MEDIA, "page 7");
    conn_end_read(c);
    struct media_entry e = entry_of(c, 7);
    ck_assert_uint_eq(e.kind, ways[_i].kind);
    ck_assert_uint_eq(e.status, MEDIA_QUARANTINED);
    ck_assert_uint_eq(e.page, 7);
    ck_assert_uint_eq(e.bytes, DAX_PAGE_BYTES);
    ck_assert(conn_media_unnamed(c));
    ck_assert(poisoned(c, 7));
    refuses(c, 7);
    ck_assert_uint_eq(entries(c), 1);
    others_are_well(c, 7, 1);
    bad_page_remove(path, 7);
    refuses(c, 7); /* quarantined is quarantined */
    db_close(c);
}
END_TEST

START_TEST(a_page_is_probed_once_before_it_is_handed_out)
{
    const char *path = unit_path("app.db");
    struct conn *c = made(path);
    struct page_info info;
    db_ok(conn_begin_read(c, &err));
    db_unpin(c, 5, db_pin(c, 5));
    conn_page_info(c, 5, &info);
    ck_assert(info.probed);
    conn_page_info(c, 6, &info);
    ck_assert(!info.probed);
    /* A copy is guarded: it needs no probe. */
    db_check(c, 6, 1);
    conn_page_info(c, 6, &info);
    ck_assert(!info.probed);
    conn_end_read(c);
    db_close(c);
}
END_TEST

/* What the page was before it was cut off says nothing of the block that it gets when it comes back. */
START_TEST(a_page_that_was_cut_off_and_comes_back_is_probed_again)
{
    const char *path = unit_path("app.db");
    struct conn *c = made(path);
    struct page_info info;
    void *at;
    db_write(c, PAGES, 1100, 1);
    db_ok(conn_begin_read(c, &err));
    db_unpin(c, 1090, db_pin(c, 1090));
    conn_page_info(c, 1090, &info);
    ck_assert(info.probed);
    conn_end_read(c);
    db_shrink(c, PAGES);
    db_checkpoint(c, CHECKPOINT_TRUNCATE);
    db_write(c, PAGES, 1100, 2);
    conn_page_info(c, 1090, &info);
    ck_assert(info.state == PAGE_MAPPED && !info.probed);
    bad_page_add(path, 1090, EVERY_WAY);
    db_ok(conn_begin_read(c, &err));
    unit_fails(conn_pin(c, 1090 * DB_PAGE, DAX_PAGE_BYTES, &at, &err), DAX_IO_MEDIA, "page 1090");
    db_unpin(c, 1089, db_pin(c, 1089));
    conn_end_read(c);
    db_close(c);
}
END_TEST

START_TEST(without_the_probe_nothing_is_looked_at)
{
    struct dax_options o = db_options();
    struct conn *c;
    struct page_info info;
    o.no_probe = true;
    db_ok(conn_open(unit_path("app.db"), &o, &c, &err));
    db_write(c, 0, PAGES, 1);
    db_ok(conn_begin_read(c, &err));
    db_unpin(c, 5, db_pin(c, 5));
    conn_page_info(c, 5, &info);
    ck_assert(!info.probed);
    conn_end_read(c);
    db_close(c);
}
END_TEST

/* --- writing -------------------------------------------------------------------------------------- */

/* The page is known to be bad, or the commit meets it. */
START_TEST(a_commit_over_a_bad_page_keeps_it_in_its_frame_and_the_checkpoint_rewrites_it)
{
    const char *path = unit_path("app.db");
    bool known = _i & 1, stuck = _i & 2;
    struct conn *c = made(path);
    bad_page_add(path, 7, EVERY_WAY | (stuck ? BAD_STUCK : 0));
    if (known)
        refuses(c, 7);
    db_begin(c);
    for (uint64_t page = 6; page < 9; page++)
        db_put(c, page, 2);
    db_ok(conn_commit(c, &err));
    ck_assert(poisoned(c, 7) && !poisoned(c, 6) && !poisoned(c, 8));
    db_check_range(c, 6, 9, 2);
    db_unpin(c, 7, db_pin(c, 7));
    ck_assert_uint_eq(entry_of(c, 7).status, MEDIA_QUARANTINED);
    ck_assert(bad_page_is(path, 7));
    db_end(c); /* nobody needs base: it is brought home */
    db_checkpoint(c, CHECKPOINT_TRUNCATE);
    ck_assert(!poisoned(c, 7));
    ck_assert(!bad_page_is(path, 7));
    ck_assert_uint_eq(entry_of(c, 7).status, MEDIA_REPAIRED);
    ck_assert_uint_eq(db_status(c).log_bytes, 0);
    db_ok(conn_begin_read(c, &err));
    db_check_range(c, 6, 9, 2);
    conn_end_read(c);
    db_close(c);
    c = db_open(path);
    db_ok(conn_begin_read(c, &err));
    db_check_range(c, 0, 6, 1);
    db_check_range(c, 6, 9, 2);
    conn_end_read(c);
    db_close(c);
}
END_TEST

START_TEST(an_old_snapshot_of_a_bad_page_is_told_and_not_shown_the_new_version)
{
    const char *path = unit_path("app.db");
    struct conn *c = made(path), *old = db_open(path);
    uint8_t buf[DAX_PAGE_BYTES];
    db_ok(conn_begin_read(old, &err));
    bad_page_add(path, 7, EVERY_WAY);
    db_write(c, 7, 8, 2);
    db_checkpoint(c, CHECKPOINT_FULL);
    for (unsigned i = 0; i < 2; i++) {
        unit_fails(conn_read(old, buf, sizeof buf, 7 * DB_PAGE, &err), DAX_IO_MEDIA, "page 7");
        db_check(old, 8, 1);
        db_ok(conn_begin_read(c, &err));
        db_check(c, 7, 2);
        conn_end_read(c);
        db_checkpoint(c, CHECKPOINT_RESTART);
    }
    conn_end_read(old);
    db_checkpoint(c, CHECKPOINT_FULL);
    ck_assert(!poisoned(c, 7));
    db_ok(conn_begin_read(old, &err));
    db_check(old, 7, 2);
    conn_end_read(old);
    db_close(old);
    db_close(c);
}
END_TEST

START_TEST(part_of_a_bad_page_cannot_be_written_and_the_transaction_goes_on_without_it)
{
    const char *path = unit_path("app.db");
    struct conn *c = made(path);
    uint8_t bytes[64] = {1};
    bad_page_add(path, 7, EVERY_WAY);
    db_begin(c);
    unit_fails(conn_write(c, bytes, sizeof bytes, 7 * DB_PAGE + 128, &err), DAX_IO_MEDIA, "page 7");
    db_put(c, 8, 2);
    db_commit(c);
    refuses(c, 7);
    db_ok(conn_begin_read(c, &err));
    db_check(c, 8, 2);
    db_check(c, 6, 1);
    conn_end_read(c);
    db_close(c);
}
END_TEST

START_TEST(growth_over_a_bad_page_goes_through_memory)
{
    const char *path = unit_path("app.db");
    struct conn *c = made(path);
    bad_page_add(path, PAGES + 3, EVERY_WAY);
    /* The first attempt meets it; from then on it is known. */
    db_begin(c);
    dax_rc rc = DAX_OK;
    uint8_t page[DAX_PAGE_BYTES];
    for (uint64_t p = PAGES; p < PAGES + 8 && rc == DAX_OK; p++) {
        db_fill(page, p, 1);
        rc = conn_write(c, page, sizeof page, p * DB_PAGE, &err);
    }
    ck_assert_int_eq(rc, DAX_IO_MEDIA);
    db_end(c);
    db_write(c, PAGES, PAGES + 8, 1);
    db_check_all(c, PAGES + 8, 1);
    db_checkpoint(c, CHECKPOINT_TRUNCATE);
    ck_assert(!bad_page_is(path, PAGES + 3));
    db_check_all(c, PAGES + 8, 1);
    db_close(c);
}
END_TEST

START_TEST(a_bad_page_of_the_log_stops_no_commit)
{
    const char *path = unit_path("app.db"), *sidecar = db_sidecar(path);
    struct conn *c = made(path);
    struct store *s = c->store;
    db_write(c, 3, 4, 2); /* a live record before it, in msync mode */
    uint64_t tail = db_status(c).lsn_tail % s->sidecar.ring_bytes;
    uint64_t page = ((uint64_t)(s->sidecar.ring - (uint8_t *)s->sidecar.pool) + tail) / DB_PAGE + 1;
    bad_page_add(sidecar, page, EVERY_WAY);
    for (uint64_t v = 3; v < 23; v++)
        db_write(c, 3, 6, v);
    ck_assert(!bad_page_is(sidecar, page));
    struct media_entry e[4];
    ck_assert_uint_eq(conn_media_list(c, e, 4), 1);
    ck_assert_uint_eq(e[0].part, MEDIA_LOG);
    ck_assert_uint_eq(e[0].page, page);
    ck_assert_uint_eq(e[0].status, MEDIA_REPAIRED);
    db_ok(conn_begin_read(c, &err));
    db_check_range(c, 3, 6, 22);
    conn_end_read(c);
    db_close(c);
}
END_TEST

START_TEST(a_bad_twin_is_written_anew)
{
    const char *path = unit_path("app.db"), *sidecar = db_sidecar(path);
    struct conn *c = made(path);
    struct store *s = c->store;
    uint64_t page = (uint64_t)((uint8_t *)s->sidecar.twin - (uint8_t *)s->sidecar.pool) / DB_PAGE;
    bad_page_add(sidecar, page, EVERY_WAY);
    db_write(c, 3, 6, 2);
    ck_assert(!bad_page_is(sidecar, page));
    db_checkpoint(c, CHECKPOINT_FULL);
    db_write(c, 3, 6, 3);
    db_close(c);
    c = db_open(path);
    db_ok(conn_begin_read(c, &err));
    db_check_range(c, 3, 6, 3);
    conn_end_read(c);
    db_close(c);
}
END_TEST

static uint64_t root_page(struct conn *c)
{
    const struct sidecar *s = &c->store->sidecar;
    return (uint64_t)((uint8_t *)s->root - (uint8_t *)s->pool) / DB_PAGE;
}

static uint64_t twin_page(struct conn *c)
{
    const struct sidecar *s = &c->store->sidecar;
    return (uint64_t)((uint8_t *)s->twin - (uint8_t *)s->pool) / DB_PAGE;
}

/* From the one version to the other, in transactions of 24 pages; the ring takes about 90 of them. */
static void go_round(struct conn *c, uint64_t from, uint64_t to)
{
    for (uint64_t v = from; v <= to; v++)
        db_write(c, 1, 25, v);
}

static void check_round(struct conn *c, uint64_t version)
{
    db_ok(conn_begin_read(c, &err));
    db_check_range(c, 1, 25, version);
    db_check_range(c, 25, PAGES, 1);
    conn_end_read(c);
}

static struct media_entry sidecar_entry(struct conn *c, uint64_t page);

/* The page with the cursor, which libpmemobj has things in as well. */
START_TEST(a_root_page_that_goes_bad_while_it_is_open_stops_nothing)
{
    static const unsigned ways[] = {EVERY_WAY, BAD_MAPPED, EVERY_WAY | BAD_STUCK};
    const char *path = unit_path("app.db"), *sidecar = unit_path("app.db-dax"),
               *copy = unit_path("copy.db");
    struct conn *c = made(path), *reader;
    struct dax_options o = db_options();
    uint64_t page = root_page(c), version = 2;
    db_ok(conn_open(path, &o, &reader, &err));
    db_ok(conn_begin_read(reader, &err)); /* what it has pinned is relogged */
    uint8_t *held = db_pin(reader, 3);
    for (unsigned again = 0; again < 2; again++, version += 320) {
        uint64_t start = db_status(c).lsn_tail, checkpoints = db_status(c).checkpoints;
        bad_page_add(sidecar, page, ways[_i]);
        go_round(c, version, version + 300);
        ck_assert_uint_gt(db_status(c).lsn_tail - start, 3 * c->store->sidecar.ring_bytes);
        ck_assert_uint_gt(db_status(c).checkpoints, checkpoints + 2);
        ck_assert(!bad_page_is(sidecar, page));
        struct media_entry e = sidecar_entry(c, page);
        ck_assert_uint_eq(e.status, MEDIA_REPAIRED);
        ck_assert_uint_eq(e.kind, ways[_i] == BAD_MAPPED ? MEDIA_SIGBUS : MEDIA_POISON);
        db_copy(path, copy); /* as a crash would leave it */
        go_round(c, version + 301, version + 310);
    }
    version -= 10; /* of the last transaction */
    db_unpin(reader, 3, held);
    conn_end_read(reader);
    db_close(reader);
    ck_assert_uint_eq(entries(c), 2);
    check_round(c, version);
    db_checkpoint(c, CHECKPOINT_TRUNCATE);
    db_close(c);
    c = db_open(copy);
    check_round(c, version - 10);
    ck_assert_uint_eq(sidecar_entry(c, page).status, MEDIA_REPAIRED);
    db_close(c);
    c = db_open(path);
    check_round(c, version);
    db_write(c, 1, 2, 1);
    ck_assert_uint_eq(sidecar_entry(c, page).status, MEDIA_REPAIRED);
    ck_assert_int_eq(access(unit_path("app.db-dax-bad"), F_OK), -1);
    db_close(c);
}
END_TEST

/* An error that comes and goes is no way for an older cursor to count: no newer one is in the twin alone. */
START_TEST(a_root_page_that_comes_back_has_the_newest_cursor)
{
    const char *path = unit_path("app.db"), *sidecar = unit_path("app.db-dax"),
               *copy = unit_path("copy.db");
    struct conn *c = made(path);
    uint64_t page = root_page(c), twin = twin_page(c);
    go_round(c, 2, 150);
    bad_page_add(sidecar, page, EVERY_WAY);
    go_round(c, 151, 155);
    bool met = _i;
    if (met)
        db_checkpoint(c, CHECKPOINT_FULL);
    else
        bad_page_remove(sidecar, page);
    db_copy(path, copy);
    db_close(c);
    bad_page_add(db_sidecar(copy), twin, EVERY_WAY); /* only the root has it now */
    c = db_open(copy);
    check_round(c, 155);
    db_close(c);
}
END_TEST

START_TEST(a_repair_writes_the_root_page_anew)
{
    const char *path = unit_path("app.db"), *sidecar = db_sidecar(path);
    struct conn *c = made(path);
    uint64_t page = root_page(c);
    enum media_status status;
    db_write(c, 3, 6, 2);
    bad_page_add(sidecar, page, EVERY_WAY);
    db_ok(conn_media_add(c, MEDIA_SIDECAR, page, MEDIA_POISON, "found", &err));
    db_ok(conn_media_repair(c, MEDIA_SIDECAR, page, &status, &err));
    ck_assert_uint_eq(status, MEDIA_REPAIRED);
    ck_assert(!bad_page_is(sidecar, page));
    ck_assert_uint_eq(sidecar_entry(c, page).status, MEDIA_REPAIRED);
    db_write(c, 3, 6, 3);
    db_close(c);
    c = db_open(path);
    db_ok(conn_begin_read(c, &err));
    db_check_range(c, 3, 6, 3);
    conn_end_read(c);
    db_close(c);
}
END_TEST

/* Nobody but this process knows any more where the log begins. */
START_TEST(without_root_and_twin_nothing_is_committed_and_what_is_can_be_read)
{
    const char *path = unit_path("app.db"), *sidecar = db_sidecar(path);
    struct conn *c = made(path);
    uint64_t root = root_page(c), twin = twin_page(c);
    go_round(c, 2, 5);
    bad_page_add(sidecar, root, EVERY_WAY | BAD_STUCK);
    bad_page_add(sidecar, twin, EVERY_WAY | BAD_STUCK);
    struct checkpoint_result result;
    dax_rc rc = conn_checkpoint(c, CHECKPOINT_FULL, NULL, NULL, &result, &err);
    ck_assert_msg(rc == DAX_IO_MEDIA, "%s: %s", dax_rc_name(rc), err.text);
    ck_assert_msg(strstr(err.text, "save it now") && strstr(err.text, sidecar), "%s", err.text);
    ck_assert_uint_eq(sidecar_entry(c, root).status, MEDIA_QUARANTINED);
    ck_assert_uint_eq(sidecar_entry(c, twin).status, MEDIA_QUARANTINED);
    check_round(c, 5);
    db_begin(c);
    db_put(c, 7, 6);
    ck_assert(conn_commit(c, &err) != DAX_OK);
    ck_assert_msg(strstr(err.text, "save it now") && strstr(err.text, sidecar), "%s", err.text);
    db_end(c);
    check_round(c, 5);
    ck_assert(conn_close(c, &err) != DAX_OK);
    ck_assert_msg(strstr(err.text, "cannot be read"), "%s", err.text);
    struct dax_options o = db_options();
    rc = conn_open(path, &o, &c, &err);
    ck_assert_msg(rc == DAX_IO_MEDIA || rc == DAX_CORRUPT, "%s: %s", dax_rc_name(rc), err.text);
    bad_page_remove(sidecar, root);
    c = db_open(
        path); /* they can be read again: nothing was lost, not even what could not be sealed */
    db_ok(conn_begin_read(c, &err));
    db_check(c, 6, 5);
    db_check(c, 7, 6);
    conn_end_read(c);
    db_close(c);
}
END_TEST

/* --- repair ----------------------------------------------------------------------------------------- */

START_TEST(what_the_file_still_has_is_repaired_from_it)
{
    const char *path = unit_path("app.db");
    struct conn *c = made(path);
    enum media_status status;
    bad_page_add(path, 7, BAD_MAPPED);
    refuses(c, 7);
    db_ok(conn_media_repair(c, MEDIA_BASE, 7, &status, &err));
    ck_assert_int_eq(status, MEDIA_REPAIRED);
    db_check_all(c, PAGES, 1);
    ck_assert_uint_eq(entry_of(c, 7).status, MEDIA_REPAIRED);
    bad_page_add(path, 9, EVERY_WAY);
    refuses(c, 9);
    db_ok(conn_media_repair(c, MEDIA_BASE, 9, &status, &err));
    ck_assert_int_eq(status, MEDIA_QUARANTINED); /* nobody has it */
    refuses(c, 9);
    db_ok(conn_media_repair(c, MEDIA_BASE, 3, &status, &err));
    ck_assert_int_eq(status, MEDIA_CLEARED);
    db_close(c);
}
END_TEST

/* Somebody had the page before it was found bad, and still reads there: through the punched hole it would
 * see zeros. */
static bool punched;
static uint8_t *watched;

static void punch_seen(const char *call, uint64_t page)
{
    static const uint8_t zeros[DAX_PAGE_BYTES];
    punched |= strcmp(call, "punch") == 0 && page == 7;
    ck_assert(!watched || memcmp(watched, zeros, sizeof zeros) != 0);
}

START_TEST(a_repair_leaves_a_page_alone_that_a_reader_has_pinned)
{
    const char *path = unit_path("app.db");
    bool stuck = _i & 1, version = _i & 2;
    struct conn *c = made(path), *old = db_open(path);
    enum media_status status;
    struct page_info info;
    punched = false;
    db_ok(conn_begin_read(old, &err));
    watched = db_pin(old, 7);
    if (version) /* the newest one is in a frame */
        db_write(c, 7, 8, 2);
    bad_page_add(path, 7, BAD_READ | (stuck ? BAD_STUCK : 0));
    db_ok(conn_media_add(c, MEDIA_BASE, 7, version ? MEDIA_DAMAGED : MEDIA_IO, "somebody says so", &err));
    if (!version)
        bad_page_add(path, 7, stuck ? BAD_STUCK : 0x100); /* on the list, and pread has it */
    bad_pages_watch(punch_seen);
    if (version) {
        db_ok(conn_media_repair(c, MEDIA_BASE, 7, &status, &err));
    } else {
        unit_fails(conn_media_repair(c, MEDIA_BASE, 7, &status, &err), DAX_BUSY,
                   "page 7 is pinned by process");
    }
    ck_assert_int_eq(status, MEDIA_QUARANTINED);
    ck_assert(bad_page_is(path, 7) && !punched);
    ck_assert_uint_eq(db_version(watched, 7), 1);
    conn_page_info(c, 7, &info);
    ck_assert(info.state == PAGE_MAPPED && info.poisoned);
    ck_assert_uint_eq(entry_of(c, 7).status, MEDIA_QUARANTINED);
    ck_assert(!entry_of(c, 7).stale);
    db_unpin(old, 7, watched);
    watched = NULL;
    conn_end_read(old);
    db_ok(conn_media_repair(c, MEDIA_BASE, 7, &status, &err));
    bad_pages_watch(NULL);
    ck_assert_int_eq(status, version ? MEDIA_CLEARED : MEDIA_REPAIRED); /* tidied at the end of the read */
    ck_assert(!bad_page_is(path, 7) && punched == stuck);
    ck_assert(!poisoned(c, 7));
    ck_assert_uint_eq(entry_of(c, 7).status, MEDIA_REPAIRED);
    db_ok(conn_begin_read(c, &err));
    db_check(c, 7, version ? 2 : 1);
    conn_end_read(c);
    db_close(old);
    db_close(c);
}
END_TEST

/* Another thread finds the page bad and has it repaired while the one that met it first still asks what is
 * wrong. Flagged after that, a good page would be refused for ever. */
static struct conn *meanwhile_reader, *meanwhile_writer;
static enum meanwhile {
    REPAIR_IT,
    CHECKPOINT_IT
} meanwhile_does;
static dax_rc meanwhile_rc;

static void meanwhile(const char *call, uint64_t page)
{
    uint8_t buf[DAX_PAGE_BYTES];
    enum media_status status;
    struct checkpoint_result result;
    if (strcmp(call, "pread") != 0 || page != 7)
        return;
    if (meanwhile_does == CHECKPOINT_IT) {
        db_ok(conn_checkpoint(meanwhile_writer, CHECKPOINT_PASSIVE, NULL, NULL, &result, &err));
        meanwhile_rc = result.busy ? DAX_BUSY : DAX_OK;
        return;
    }
    db_ok(conn_begin_read(meanwhile_reader, &err));
    ck_assert_int_eq(conn_read(meanwhile_reader, buf, sizeof buf, 7 * DB_PAGE, &err), DAX_IO_MEDIA);
    conn_end_read(meanwhile_reader);
    meanwhile_rc = conn_media_repair(meanwhile_writer, MEDIA_BASE, 7, &status, &err);
}

/* The kernel tells of a page that nobody has touched: a call of the handler, as it would make it. */
static void told_of(struct conn *c, uint64_t page)
{
    struct sigaction action;
    siginfo_t info = {.si_signo = SIGBUS, .si_code = 5 /* BUS_MCEERR_AO */};
    ucontext_t context = {0};
    info.si_addr = base_at(&c->store->base, page * DB_PAGE);
    info.si_addr_lsb = DAX_PAGE_SHIFT;
    ck_assert_int_eq(sigaction(SIGBUS, NULL, &action), 0);
    action.sa_sigaction(SIGBUS, &info, &context);
}

START_TEST(whoever_is_told_of_a_bad_page_keeps_it_pinned_until_it_is_flagged)
{
    const char *path = unit_path("app.db");
    struct conn *c = made(path);
    enum media_status status;
    bool reading = _i;
    meanwhile_does = REPAIR_IT;
    meanwhile_writer = db_open(path);
    meanwhile_reader = db_open(path);
    meanwhile_rc = DAX_OK;
    if (reading)
        db_ok(conn_begin_read(c, &err));
    bad_page_add(path, 7, BAD_MAPPED);
    told_of(c, 7);
    bad_pages_watch(meanwhile);
    ck_assert(conn_media_unnamed(c));
    bad_pages_watch(NULL);
    ck_assert_int_eq(meanwhile_rc, DAX_BUSY);
    ck_assert(bad_page_is(path, 7) && poisoned(c, 7));
    ck_assert_uint_eq(entry_of(c, 7).status, MEDIA_QUARANTINED);
    if (reading)
        conn_end_read(c);
    db_ok(conn_media_repair(c, MEDIA_BASE, 7, &status, &err));
    ck_assert(!bad_page_is(path, 7) && !poisoned(c, 7));
    others_are_well(c, PAGES, 1);
    db_close(meanwhile_reader);
    db_close(meanwhile_writer);
    db_close(c);
}
END_TEST

START_TEST(whoever_meets_a_bad_page_keeps_it_pinned_until_it_is_flagged)
{
    const char *path = unit_path("app.db");
    struct conn *c = made(path), *old = db_open(path);
    uint8_t buf[DAX_PAGE_BYTES];
    enum media_status status;
    bool scrubs = _i > 0;
    meanwhile_does = _i == 2 ? CHECKPOINT_IT : REPAIR_IT;
    meanwhile_writer = db_open(path);
    meanwhile_reader = db_open(path);
    if (meanwhile_does == CHECKPOINT_IT) { /* its newest version is in a frame */
        db_ok(conn_begin_read(old, &err));
        db_write(c, 7, 8, 2);
    }
    db_ok(conn_begin_read(c, &err));
    bad_page_add(path, 7, BAD_MAPPED); /* pread has it */
    bad_pages_watch(meanwhile);
    if (meanwhile_does == CHECKPOINT_IT) {
        atomic_store(&old->store->region.slots[old->slot].snapshot, 0); /* and nobody has tidied */
        old->reading = false;
    }
    unit_fails(scrubs ? conn_media_probe(c, 7, &err)
                      : conn_read(c, buf, sizeof buf, 7 * DB_PAGE, &err),
               DAX_IO_MEDIA, "page 7");
    bad_pages_watch(NULL);
    ck_assert_int_eq(meanwhile_rc, DAX_BUSY);
    ck_assert(bad_page_is(path, 7) && poisoned(c, 7));
    ck_assert_uint_eq(entry_of(c, 7).status, MEDIA_QUARANTINED);
    conn_end_read(c);
    conn_end_read(old);
    db_ok(conn_media_repair(c, MEDIA_BASE, 7, &status, &err));
    ck_assert(!bad_page_is(path, 7) && !poisoned(c, 7));
    db_ok(conn_begin_read(c, &err));
    db_check(c, 7, meanwhile_does == CHECKPOINT_IT ? 2 : 1);
    conn_end_read(c);
    db_close(meanwhile_reader);
    db_close(meanwhile_writer);
    db_close(old);
    db_close(c);
}
END_TEST

/* The block is given back, and the machine stops: what reads as zeros now is nobody's content. */
static void copy_when_punched(const char *call, uint64_t page)
{
    if (strcmp(call, "punch") == 0 && page == 7)
        db_copy(unit_path("app.db"), unit_path("copy.db"));
}

START_TEST(a_crash_between_two_blocks_of_a_page_leaves_it_stale)
{
    const char *path = unit_path("app.db"), *copy = unit_path("copy.db");
    struct conn *c = made(path);
    enum media_status status;
    bool in_range = _i;
    static struct media_entry all[8];
    bad_page_add(path, 7, BAD_MAPPED | BAD_STUCK);
    refuses(c, 7);
    if (in_range) { /* as the kernel's list is entered */
        db_ok(conn_media_repair(c, MEDIA_BASE, 7, &status, &err));
        ck_assert_int_eq(status, MEDIA_REPAIRED);
        media_enter(c->store, MEDIA_BASE, 6, 3 * DAX_PAGE_BYTES, MEDIA_POISON, "a range");
        bad_page_add(path, 7, BAD_MAPPED | BAD_STUCK);
    }
    bad_pages_watch(copy_when_punched);
    db_ok(conn_media_repair(c, MEDIA_BASE, 7, &status, &err));
    bad_pages_watch(NULL);
    ck_assert_int_eq(status, MEDIA_REPAIRED);
    ck_assert_uint_eq(entry_of(c, 7).stale, 0);
    if (in_range) {
        refuses(c, 6);
        refuses(c, 8);
        ck_assert_uint_eq(conn_media_list(c, all, 8), 4);
    }
    db_close(c);
    c = db_open(copy);
    ck_assert_uint_eq(entry_of(c, 7).status, MEDIA_QUARANTINED);
    ck_assert(entry_of(c, 7).stale);
    db_ok(conn_media_repair(c, MEDIA_BASE, 7, &status, &err));
    ck_assert_int_eq(status, MEDIA_QUARANTINED);
    refuses(c, 7);
    db_write(c, 7, 8, 3); /* new content is welcome */
    db_checkpoint(c, CHECKPOINT_FULL);
    db_ok(conn_begin_read(c, &err));
    db_check(c, 7, 3);
    conn_end_read(c);
    db_close(c);
}
END_TEST

START_TEST(an_entry_closes_with_the_commit_that_repairs_it_and_not_without)
{
    const char *path = unit_path("app.db"), *copy = unit_path("copy.db");
    bool commits = _i & 1, crashes = _i & 2;
    struct conn *c = made(path);
    uint8_t page[DAX_PAGE_BYTES];
    bad_page_add(path, 7, EVERY_WAY);
    refuses(c, 7);
    db_begin(c);
    db_fill(page, 7, 2);
    db_ok(conn_write(c, page, sizeof page, 7 * DB_PAGE, &err));
    db_ok(conn_media_close(c, 7, MEDIA_LOST, "rows 1 to 3", &err));
    ck_assert_uint_eq(entry_of(c, 7).status, MEDIA_QUARANTINED);
    if (commits)
        db_ok(conn_commit(c, &err));
    bad_page_remove(path, 7); /* so that it can be copied; it is quarantined all the same */
    if (crashes)
        db_copy(path, copy);
    db_end(c);
    if (!crashes) {
        ck_assert_uint_eq(entry_of(c, 7).status, commits ? MEDIA_LOST : MEDIA_QUARANTINED);
        db_close(c);
        return;
    }
    db_close(c);
    c = db_open(copy);
    ck_assert_uint_eq(entry_of(c, 7).status, commits ? MEDIA_LOST : MEDIA_QUARANTINED);
    if (commits) {
        db_ok(conn_begin_read(c, &err));
        db_check(c, 7, 2);
        conn_end_read(c);
    } else {
        refuses(c, 7);
    }
    db_close(c);
}
END_TEST

/* --- a file that is cut ------------------------------------------------------------------------------- */

START_TEST(pages_that_somebody_cut_off_are_quarantined_and_their_zeros_shown_to_nobody)
{
    const char *path = unit_path("app.db");
    bool writes_first = _i;
    struct conn *c = made(path);
    poison_truncate(path, 20 * DB_PAGE);
    if (writes_first) { /* the file would grow, over a hole */
        db_begin(c);
        uint8_t page[DAX_PAGE_BYTES];
        db_fill(page, 2000, 1);
        db_ok(conn_write(c, page, sizeof page, 2000 * DB_PAGE, &err));
        db_end(c);
    }
    refuses(c, 20);
    refuses(c, PAGES - 1);
    struct media_entry e = entry_of(c, 25);
    ck_assert_uint_eq(e.kind, MEDIA_TRUNCATED);
    ck_assert_uint_eq(e.page, 20);
    ck_assert_uint_eq(entries(c), 1);
    db_ok(conn_begin_read(c, &err));
    db_check_range(c, 0, 20, 1);
    conn_end_read(c);
    db_write(c, 3, 4, 2); /* the rest can be written */
    db_write(c, 22, 23, 2);
    db_checkpoint(c, CHECKPOINT_FULL);
    ck_assert_uint_eq(entry_of(c, 22).status, MEDIA_REPAIRED);
    refuses(c, 21);
    refuses(c, 23);
    db_close(c);
    /* It stays marked, and knows its pages. */
    uint8_t header[DAX_HEADER_BYTES];
    read_header(path, header);
    ck_assert_uint_eq(header[DAX_HEADER_READ_VERSION], DAX_MARK_READ_VERSION);
    c = db_open(path);
    refuses(c, 21);
    refuses(c, 23);
    db_ok(conn_begin_read(c, &err));
    db_check(c, 3, 2);
    db_check(c, 22, 2);
    conn_end_read(c);
    db_write(c, 20, PAGES, 3);
    db_checkpoint(c, CHECKPOINT_FULL);
    db_close(c);
    read_header(path, header);
    ck_assert_uint_eq(header[DAX_HEADER_READ_VERSION], 1);
}
END_TEST

START_TEST(what_is_cut_off_behind_the_database_is_no_loss)
{
    const char *path = unit_path("app.db");
    struct conn *c = made(path);
    bool exactly = _i;
    db_write(c, 3, 4, 2); /* there is space for growth behind the last page */
    poison_truncate(path, (PAGES + (exactly ? 0 : 5)) * DB_PAGE);
    db_write(c, 4, 5, 2);
    db_write(c, PAGES, PAGES + 40, 2);
    db_checkpoint(c, CHECKPOINT_FULL);
    poison_truncate(path, (PAGES + 40 + (exactly ? 0 : 5)) * DB_PAGE);
    db_checkpoint(c, CHECKPOINT_TRUNCATE);
    poison_truncate(path, (PAGES + 40) * DB_PAGE);
    ck_assert_uint_eq(entries(c), 0);
    db_close(c);
    uint8_t header[DAX_HEADER_BYTES];
    read_header(path, header);
    ck_assert_uint_eq(header[DAX_HEADER_READ_VERSION], 1); /* nothing keeps the mark */
    c = db_open(path);
    db_ok(conn_begin_read(c, &err));
    db_check(c, 3, 2);
    db_check(c, 5, 1);
    db_check_range(c, PAGES, PAGES + 40, 2);
    conn_end_read(c);
    db_close(c);
}
END_TEST

/* The first write of a process's life finds the file cut: with a pin behind the new end it cannot get its
 * length again, without one it does. */
START_TEST(what_is_left_of_a_cut_file_can_be_written_to_at_once)
{
    const char *path = unit_path("app.db");
    bool pinned = _i;
    db_close(made(path));
    struct conn *c = db_open(path), *reader = db_open(path);
    db_ok(conn_begin_read(reader, &err));
    void *pin = pinned ? db_pin(reader, 25) : NULL;
    poison_truncate(path, 20 * DB_PAGE);
    db_write(c, 3, 4, 2);
    ck_assert_uint_eq(entry_of(c, 20).kind, MEDIA_TRUNCATED);
    ck_assert_uint_eq(entry_of(c, 20).bytes, (PAGES - 20) * DB_PAGE);
    ck_assert(poisoned(c, 20) && poisoned(c, PAGES - 1));
    if (pinned) {
        uint8_t page[DAX_PAGE_BYTES];
        db_fill(page, 2000, 1);
        db_begin(c);
        unit_fails(conn_write(c, page, sizeof page, 2000 * DB_PAGE, &err), DAX_IO_MEDIA, "truncated");
        db_end(c);
        db_write(c, 19, 20, 2); /* up to the new end */
        db_unpin(reader, 25, pin);
    }
    conn_end_read(reader);
    db_write(c, PAGES, PAGES + 2000, 3); /* now it grows, and shows no zeros where data was */
    refuses(c, 20);
    refuses(c, PAGES - 1);
    db_ok(conn_begin_read(c, &err));
    db_check_range(c, 0, 3, 1);
    db_check(c, 3, 2);
    db_check_range(c, 4, 19, 1);
    db_check(c, 19, pinned ? 2 : 1);
    db_check_range(c, PAGES, PAGES + 2000, 3);
    conn_end_read(c);
    db_close(reader);
    db_close(c);
}
END_TEST

/* A large transaction takes scratch behind the end: of a file that was cut, that would be zeros between. */
START_TEST(scratch_does_not_bring_back_zeros_for_what_was_cut_off)
{
    const char *path = unit_path("app.db");
    struct dax_options o = db_options();
    const uint64_t many = 3 * o.private_bytes / DB_PAGE;
    struct conn *c = db_open(path);
    db_write(c, 0, many, 1);
    db_checkpoint(c, CHECKPOINT_TRUNCATE);
    poison_truncate(path, (many - 10) * DB_PAGE);
    db_begin(c);
    dax_rc rc = DAX_OK;
    for (uint64_t p = 0; p < many - 20 && rc == DAX_OK; p++) {
        uint8_t page[DAX_PAGE_BYTES];
        db_fill(page, p, 2);
        rc = conn_write(c, page, sizeof page, p * DB_PAGE, &err);
    }
    db_ok(rc);
    ck_assert_uint_gt(db_status(c).scratch_bytes, 0);
    db_commit(c);
    refuses(c, many - 10);
    refuses(c, many - 1);
    db_ok(conn_begin_read(c, &err));
    db_check_range(c, 0, many - 20, 2);
    db_check_range(c, many - 20, many - 10, 1);
    conn_end_read(c);
    db_close(c);
}
END_TEST

/* --- recovery ----------------------------------------------------------------------------------------- */

/* A crash after a commit of lines, and of a whole page; then the page is found bad. */
START_TEST(recovery_rewrites_what_the_log_has_whole_and_says_what_was_lost_otherwise)
{
    const char *path = unit_path("app.db"), *copy = unit_path("copy.db");
    bool whole = _i & 1, readable = _i & 2;
    struct conn *c = made(path);
    uint8_t bytes[8] = "changed";
    db_begin(c);
    if (whole)
        db_put(c, 7, 2);
    else
        db_ok(conn_write(c, bytes, sizeof bytes, 7 * DB_PAGE + 128, &err));
    db_put(c, 9, 2);
    db_ok(conn_commit(c, &err));
    db_copy(path, copy);
    db_end(c);
    db_close(c);
    bad_page_add(copy, 7, readable ? BAD_MAPPED : EVERY_WAY);
    c = db_open(copy);
    db_ok(conn_begin_read(c, &err));
    db_check(c, 9, 2);
    if (whole) {
        db_check(c, 7, 2);
        ck_assert_uint_eq(entry_of(c, 7).status, MEDIA_REPAIRED);
    } else if (readable) {
        uint8_t got[8];
        db_ok(conn_read(c, got, sizeof got, 7 * DB_PAGE + 128, &err));
        ck_assert_int_eq(memcmp(got, bytes, sizeof got), 0);
        ck_assert_uint_eq(entry_of(c, 7).status, MEDIA_REPAIRED);
    }
    conn_end_read(c);
    if (!whole && !readable) {
        refuses(c, 7);
        ck_assert(entry_of(c, 7).stale);
        bad_page_remove(copy, 7); /* readable again, and an older state */
        refuses(c, 7);
        enum media_status status;
        db_ok(conn_media_repair(c, MEDIA_BASE, 7, &status, &err));
        ck_assert_int_eq(status, MEDIA_QUARANTINED);
        refuses(c, 7);
    }
    db_close(c);
}
END_TEST

/* --- a sidecar that libpmemobj would die of ------------------------------------------------------------ */

/* Pages of libpmemobj's own: header, descriptor, lanes, heap, the run of the root; and the root's page. */
#define THEIR_PAGES 7

static uint64_t their_page(const struct sidecar *s, unsigned i)
{
    const uint64_t page[THEIR_PAGES] = {
        0, 1, 2, 400, 770, 771, (uint64_t)((uint8_t *)s->root - (uint8_t *)s->pool) / DB_PAGE};
    return page[i];
}

/* A crash after the commit of version 2 of pages 7 to 9, of which base has nothing: the log is all there
 * is. In the copy page `i` of libpmemobj's, and the ring's first one if asked for, are bad. */
static uint64_t crashed_copy(const char *copy, unsigned i, unsigned ways, uint64_t *ring_out)
{
    const char *path = unit_path("app.db"), *before = unit_path("before.db");
    struct conn *c = made(path);
    struct store *s = c->store;
    uint64_t page = their_page(&s->sidecar, i);
    *ring_out = (uint64_t)(s->sidecar.ring - (uint8_t *)s->sidecar.pool) / DB_PAGE +
                db_status(c).lsn_tail % s->sidecar.ring_bytes / DB_PAGE;
    db_copy(path, before);
    db_write(c, 7, 10, 2);
    db_copy(path, copy);
    ck_assert_int_eq(rename(before, copy), 0);
    db_close(c);
    bad_page_add(db_sidecar(copy), page, ways);
    return page;
}

static struct media_entry sidecar_entry(struct conn *c, uint64_t page)
{
    struct media_entry e[16];
    size_t n = conn_media_list(c, e, 16);
    for (size_t i = 0; i < n && i < 16; i++)
        if (e[i].part == MEDIA_SIDECAR && e[i].page == page)
            return e[i];
    ck_abort_msg("page %llu of the sidecar has no entry", (unsigned long long)page);
}

START_TEST(a_bad_page_of_libpmemobj_costs_no_committed_transaction)
{
    static const unsigned ways[] = {EVERY_WAY, BAD_MAPPED, BAD_READ};
    const char *copy = unit_path("copy.db"), *sidecar = unit_path("copy.db-dax");
    uint64_t ring,
        page = crashed_copy(copy, (unsigned)_i % THEIR_PAGES, ways[_i / THEIR_PAGES], &ring);
    struct conn *c = db_open(copy);
    db_ok(conn_begin_read(c, &err));
    db_check_range(c, 7, 10, 2);
    db_check(c, 3, 1);
    conn_end_read(c);
    ck_assert_uint_eq(sidecar_entry(c, page).status, MEDIA_REPAIRED);
    ck_assert(!bad_page_is(sidecar, page)); /* a new file */
    db_write(c, 3, 6, 3);
    db_close(c);
    c = db_open(copy);
    db_write(c, 4, 5, 4);
    ck_assert_uint_eq(sidecar_entry(c, page).status, MEDIA_REPAIRED); /* it was kept */
    db_ok(conn_begin_read(c, &err));
    db_check(c, 3, 3);
    db_check(c, 4, 4);
    db_check_range(c, 7, 10, 2);
    conn_end_read(c);
    db_close(c);
}
END_TEST

/* With a part of the log that is needed: the open says so, changes nothing, and goes well later. */
START_TEST(a_bad_log_beside_a_bad_page_of_libpmemobj_is_refused_and_nothing_is_changed)
{
    const char *copy = unit_path("copy.db"), *sidecar = unit_path("copy.db-dax");
    uint64_t ring;
    (void)crashed_copy(copy, (unsigned)_i, EVERY_WAY, &ring);
    uint64_t base_bytes = unit_file_size(copy), bytes = unit_file_size(sidecar);
    bad_page_add(sidecar, ring, EVERY_WAY);
    struct conn *c = NULL;
    struct dax_options options = db_options();
    dax_rc rc = conn_open(copy, &options, &c, &err);
    ck_assert_msg(rc == DAX_IO_MEDIA, "%s: %s", dax_rc_name(rc), err.text);
    ck_assert_msg(strstr(err.text, "dax_damaged_log=skip") && strstr(err.text, sidecar), "%s",
                  err.text);
    ck_assert_uint_eq(unit_file_size(copy), base_bytes);
    ck_assert_uint_eq(unit_file_size(sidecar), bytes);
    ck_assert_int_eq(access(unit_path("copy.db-dax-bad"), F_OK), -1);
    bad_page_remove(sidecar, ring);
    c = db_open(copy);
    db_ok(conn_begin_read(c, &err));
    db_check_range(c, 7, 10, 2);
    conn_end_read(c);
    db_close(c);
}
END_TEST

/* Closed cleanly: the log means nothing, but the ledger does. */
START_TEST(a_bad_page_of_libpmemobj_at_rest_costs_no_entry)
{
    const char *path = unit_path("app.db"), *sidecar = unit_path("app.db-dax");
    struct conn *c = made(path);
    uint64_t page = their_page(&c->store->sidecar, (unsigned)_i);
    db_ok(conn_media_add(c, MEDIA_BASE, 7, MEDIA_POISON, "found", &err));
    struct media_entry before = entry_of(c, 7);
    db_close(c);
    bad_page_add(sidecar, page, EVERY_WAY);
    c = db_open(path);
    refuses(c, 7);
    db_write(c, 3, 6, 2);
    ck_assert_uint_eq(sidecar_entry(c, page).status, MEDIA_REPAIRED);
    ck_assert(!bad_page_is(sidecar, page));
    db_close(c);
    c = db_open(path);
    refuses(c, 7);
    ck_assert_uint_eq(entry_of(c, 7).id, before.id);
    ck_assert_uint_eq(entry_of(c, 7).found_us, before.found_us);
    db_close(c);
}
END_TEST

/* --- the ledger, and libpmemobj's pages while it is open ---------------------------------------------------- */

static void enter(struct conn *c, uint64_t from, uint64_t n)
{
    for (uint64_t page = from; page <= n; page++)
        db_ok(conn_media_add(c, MEDIA_BASE, page, MEDIA_POISON, "found", &err));
}

static uint64_t ledger_page(struct conn *c, unsigned i)
{
    const struct sidecar *s = &c->store->sidecar;
    return (uint64_t)((uint8_t *)s->ledger - (uint8_t *)s->pool) / DB_PAGE + i;
}

static size_t open_of_base(struct conn *c)
{
    struct media_entry e[64];
    size_t n = conn_media_list(c, e, 64), open = 0;
    for (size_t i = 0; i < n; i++)
        open += e[i].part == MEDIA_BASE && e[i].status == MEDIA_QUARANTINED;
    return open;
}

START_TEST(a_page_of_the_ledger_that_goes_bad_while_it_is_open_costs_nothing)
{
    const char *path = unit_path("app.db"), *sidecar = unit_path("app.db-dax");
    static const unsigned at[] = {0, 1, LEDGER_PAGES - 1};
    struct conn *c = made(path);
    enter(c, 1, 12);
    uint64_t page = ledger_page(c, at[_i % 3]);
    bad_page_add(sidecar, page, _i / 3 ? BAD_MAPPED : EVERY_WAY);
    enter(c, 13, 13);
    ck_assert(!bad_page_is(sidecar, page));
    for (int again = 0; again < 2; again++) {
        ck_assert_uint_eq(sidecar_entry(c, page).status, MEDIA_REPAIRED);
        ck_assert_uint_eq(open_of_base(c), 13);
        refuses(c, 3);
        db_write(c, 20, 21, 2);
        db_close(c);
        c = db_open(path);
    }
    db_close(c);
}
END_TEST

/* Found when the ledger is loaded: what pread does not have is lost, and that is known. */
START_TEST(a_page_of_the_ledger_that_is_bad_when_it_is_loaded_costs_its_entries_and_says_so)
{
    const char *path = unit_path("app.db"), *sidecar = unit_path("app.db-dax");
    bool readable = _i & 1, salvage = _i & 2;
    struct conn *c = made(path);
    enter(c, 1, 12); /* seven in the ledger's first page, five in the second one */
    uint64_t page = ledger_page(c, 1);
    db_close(c);
    bad_page_add(sidecar, page, readable ? BAD_MAPPED : EVERY_WAY);
    if (salvage)
        bad_page_add(sidecar, 0, EVERY_WAY);
    c = db_open(path);
    db_write(c, 20, 21, 2);
    ck_assert(!bad_page_is(sidecar, page));
    for (uint64_t version = 3; version < 5; version++) {
        if (!readable || !salvage) { /* else the file is another one, and nothing was lost */
            struct media_entry e = sidecar_entry(c, page);
            ck_assert_uint_eq(e.status, readable ? MEDIA_REPAIRED : MEDIA_LOST);
            ck_assert_str_eq(e.role, "ledger");
        }
        ck_assert_uint_eq(open_of_base(c), readable ? 12 : 7);
        db_close(c);
        c = db_open(path);
        db_write(c, 20, 21, version);
    }
    enter(c, 13, 30); /* the page is used again */
    ck_assert_uint_eq(open_of_base(c), (readable ? 12 : 7) + 18);
    db_close(c);
    c = db_open(path);
    ck_assert_uint_eq(open_of_base(c), (readable ? 12 : 7) + 18);
    db_close(c);
}
END_TEST

START_TEST(a_page_of_libpmemobj_that_goes_bad_while_it_is_open_ends_no_process_and_loses_no_entry)
{
    const char *path = unit_path("app.db"), *sidecar = unit_path("app.db-dax");
    static const uint64_t at[] = {0, 1, 2, 400};
    struct conn *c = made(path);
    enter(c, 1, 3);
    bad_page_add(sidecar, at[_i], EVERY_WAY);
    enter(c, 4, 5);
    ck_assert_uint_eq(sidecar_entry(c, at[_i]).status, MEDIA_QUARANTINED);
    refuses(c, 5);
    db_write(c, 20, 22, 2);
    db_checkpoint(c, CHECKPOINT_FULL);
    db_write(c, 21, 23, 3);
    ck_assert_uint_eq(open_of_base(c), 5);
    db_close(c);
    ck_assert(!bad_page_is(sidecar, at[_i])); /* another file */
    c = db_open(path);
    refuses(c, 5);
    ck_assert_uint_eq(open_of_base(c), 5);
    db_ok(conn_begin_read(c, &err));
    db_check(c, 20, 2);
    db_check(c, 22, 3);
    conn_end_read(c);
    db_write(c, 20, 22, 4);
    ck_assert_uint_eq(sidecar_entry(c, at[_i]).status, MEDIA_REPAIRED);
    db_close(c);
}
END_TEST

/* --- in the handler ------------------------------------------------------------------------------------ */

START_TEST(a_page_in_use_is_put_in_order_by_the_handler_where_a_copy_exists)
{
    const char *path = unit_path("app.db");
    struct conn *c = made(path);
    uint8_t want[DAX_PAGE_BYTES];
    db_write(c, 7, 8, 2); /* its frame is free, and still what base is */
    db_ok(conn_begin_read(c, &err));
    uint8_t *at = db_pin(c, 7);
    bad_page_add(path, 7, EVERY_WAY);
    db_fill(want, 7, 2);
    ck_assert_int_eq(memcmp(at, want, sizeof want), 0); /* no guard: the handler, or death */
    ck_assert(!bad_page_is(path, 7));
    db_unpin(c, 7, at);
    conn_end_read(c);
    ck_assert(conn_media_unnamed(c));
    ck_assert_uint_eq(entry_of(c, 7).status, MEDIA_REPAIRED);
    db_close(c);
}
END_TEST

/* Its frame was used for something else since: there is no copy, and a wrong one is not taken. */
START_TEST(a_page_in_use_without_a_copy_ends_the_process_and_the_next_one_knows)
{
    const char *path = unit_path("app.db");
    int out[2];
    char text[4096] = "";
    ck_assert_int_eq(pipe(out), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct conn *c = made(path);
        db_write(c, 7, 8, 2);
        db_write(c, 8, 9, 3); /* takes the frame */
        db_write(c, 8, 9, 4);
        db_checkpoint(c, CHECKPOINT_FULL); /* else recovery has it */
        db_ok(conn_begin_read(c, &err));
        const volatile uint8_t *at = db_pin(c, 7);
        bad_page_add(path, 7, EVERY_WAY);
        dup2(out[1], 2);
        (void)at[1000];
        _exit(0);
    }
    close(out[1]);
    ssize_t n = read(out[0], text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    close(out[0]);
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    ck_assert_msg(strstr(text, "page 7 of the database") && strstr(text, path), "%s", text);
    struct conn *c = db_open(path);
    refuses(c, 7);
    ck_assert_uint_eq(entry_of(c, 7).page, 7);
    db_ok(conn_begin_read(c, &err));
    db_check(c, 8, 4);
    conn_end_read(c);
    db_close(c);
}
END_TEST

/* The page is not pinned any more: somebody may be storing to it, and the copy would undo that. */
START_TEST(a_page_that_was_given_back_is_not_put_in_order_under_the_pointer)
{
    const char *path = unit_path("app.db");
    int out[2], status;
    char text[4096] = "";
    ck_assert_int_eq(pipe(out), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct conn *c = made(path);
        db_write(c, 7, 8, 2); /* there is a copy */
        db_ok(conn_begin_read(c, &err));
        const volatile uint8_t *at = db_pin(c, 7);
        db_unpin(c, 7, (void *)(uintptr_t)at);
        bad_page_add(path, 7, EVERY_WAY);
        dup2(out[1], 2);
        (void)at[1000];
        _exit(0);
    }
    close(out[1]);
    ssize_t n = read(out[0], text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    close(out[0]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    ck_assert_msg(strstr(text, "page 7 of the database") && strstr(text, "given back"), "%s", text);
}
END_TEST

/* One thread is in the handler while another one forks; the child has a database of its own. */
static int forked_status = -1;

static void fork_in_the_rescue(const char *call, uint64_t page)
{
    if (strcmp(call, "pwrite") != 0 || page != 7)
        return;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        const char *path = unit_path("child.db");
        uint8_t want[DAX_PAGE_BYTES];
        alarm(20);
        struct conn *c = made(path);
        db_write(c, 8, 9, 2);
        db_ok(conn_begin_read(c, &err));
        uint8_t *at = db_pin(c, 8);
        bad_page_add(path, 8, EVERY_WAY);
        db_fill(want, 8, 2);
        _exit(memcmp(at, want, sizeof want) != 0);
    }
    while (waitpid(child, &forked_status, 0) < 0)
        ;
}

START_TEST(a_child_that_was_forked_during_a_repair_in_the_handler_has_its_own)
{
    const char *path = unit_path("app.db");
    struct conn *c = made(path);
    uint8_t want[DAX_PAGE_BYTES];
    db_write(c, 7, 8, 2);
    db_ok(conn_begin_read(c, &err));
    uint8_t *at = db_pin(c, 7);
    bad_page_add(path, 7, EVERY_WAY);
    db_fill(want, 7, 2);
    bad_pages_watch(fork_in_the_rescue);
    ck_assert_int_eq(memcmp(at, want, sizeof want), 0);
    bad_pages_watch(NULL);
    ck_assert_int_eq(forked_status, 0); /* else: SIGALRM, it waits for ever */
    db_unpin(c, 7, at);
    conn_end_read(c);
    db_close(c);
}
END_TEST

/* --- threads -------------------------------------------------------------------------------------------- */

static atomic_bool over;

static void *reader(void *arg)
{
    struct conn *c = db_open(arg);
    uint8_t page[DAX_PAGE_BYTES];
    static _Thread_local struct dax_err e;
    while (!atomic_load(&over)) {
        db_must(conn_begin_read(c, &e) == DAX_OK, "%s", e.text);
        for (uint64_t p = 1; p < PAGES; p++) {
            void *at = NULL;
            dax_rc rc = p % 2 ? conn_read(c, page, sizeof page, p * DB_PAGE, &e)
                              : conn_pin(c, p * DB_PAGE, DAX_PAGE_BYTES, &at, &e);
            if (rc == DAX_IO_MEDIA) {
                db_must(p == 7 || p == 8, "page %u is refused", (unsigned)p);
                continue;
            }
            db_must(rc == DAX_OK, "%s", e.text);
            if (at || p % 2)
                (void)db_version(at ? at : page, p);
            if (at)
                conn_unpin(c, p * DB_PAGE, at);
        }
        conn_end_read(c);
    }
    db_close(c);
    return NULL;
}

/* Never pinned when they go bad: their readers would die of it, as they should. */
START_TEST(many_readers_beside_a_writer_and_pages_that_come_and_go)
{
    const char *path = unit_path("app.db");
    struct conn *c = made(path);
    pthread_t threads[3];
    bad_page_add(path, 7, EVERY_WAY);
    bad_page_add(path, 8, BAD_MAPPED);
    atomic_store(&over, false);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, reader, (void *)path), 0);
    for (uint64_t v = 2; v < 60; v++) {
        db_write(c, 1, PAGES, v);
        if (v % 8 == 0)
            db_checkpoint(c, CHECKPOINT_PASSIVE);
    }
    atomic_store(&over, true);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    db_checkpoint(c, CHECKPOINT_FULL);
    ck_assert(!poisoned(c, 7) && !poisoned(c, 8));
    db_ok(conn_begin_read(c, &err));
    db_check_range(c, 1, PAGES, 59);
    conn_end_read(c);
    db_close(c);
}
END_TEST

int main(void)
{
    const char *refused =
        poison_refused(getenv("DAX_TEST_DIR") ? getenv("DAX_TEST_DIR") : "/dev/shm");
    if (refused) {
        printf("SKIPPED: %s\n", refused);
        return 77;
    }
    TCase *tc = db_case("media", 300);
    tcase_add_loop_test(tc, a_bad_page_is_an_error_of_its_own_readers, 0, 2);
    tcase_add_test(tc, a_page_is_probed_once_before_it_is_handed_out);
    tcase_add_test(tc, a_page_that_was_cut_off_and_comes_back_is_probed_again);
    tcase_add_test(tc, without_the_probe_nothing_is_looked_at);
    tcase_add_loop_test(
        tc, a_commit_over_a_bad_page_keeps_it_in_its_frame_and_the_checkpoint_rewrites_it, 0, 4);
    tcase_add_test(tc, an_old_snapshot_of_a_bad_page_is_told_and_not_shown_the_new_version);
    tcase_add_test(tc, part_of_a_bad_page_cannot_be_written_and_the_transaction_goes_on_without_it);
    tcase_add_test(tc, growth_over_a_bad_page_goes_through_memory);
    tcase_add_test(tc, a_bad_page_of_the_log_stops_no_commit);
    tcase_add_test(tc, a_bad_twin_is_written_anew);
    tcase_add_loop_test(tc, a_root_page_that_goes_bad_while_it_is_open_stops_nothing, 0, 3);
    tcase_add_loop_test(tc, a_root_page_that_comes_back_has_the_newest_cursor, 0, 2);
    tcase_add_test(tc, a_repair_writes_the_root_page_anew);
    tcase_add_test(tc, without_root_and_twin_nothing_is_committed_and_what_is_can_be_read);
    tcase_add_test(tc, what_the_file_still_has_is_repaired_from_it);
    tcase_add_loop_test(tc, a_repair_leaves_a_page_alone_that_a_reader_has_pinned, 0, 4);
    tcase_add_loop_test(tc, whoever_is_told_of_a_bad_page_keeps_it_pinned_until_it_is_flagged, 0,
                        2);
    tcase_add_loop_test(tc, whoever_meets_a_bad_page_keeps_it_pinned_until_it_is_flagged, 0, 3);
    tcase_add_loop_test(tc, a_crash_between_two_blocks_of_a_page_leaves_it_stale, 0, 2);
    tcase_add_loop_test(tc, an_entry_closes_with_the_commit_that_repairs_it_and_not_without, 0, 4);
    tcase_add_loop_test(
        tc, pages_that_somebody_cut_off_are_quarantined_and_their_zeros_shown_to_nobody, 0, 2);
    tcase_add_loop_test(tc, what_is_cut_off_behind_the_database_is_no_loss, 0, 2);
    tcase_add_loop_test(tc, what_is_left_of_a_cut_file_can_be_written_to_at_once, 0, 2);
    tcase_add_test(tc, scratch_does_not_bring_back_zeros_for_what_was_cut_off);
    tcase_add_loop_test(
        tc, recovery_rewrites_what_the_log_has_whole_and_says_what_was_lost_otherwise, 0, 4);
    tcase_add_loop_test(tc, a_bad_page_of_libpmemobj_costs_no_committed_transaction, 0,
                        3 * THEIR_PAGES);
    tcase_add_loop_test(tc,
                        a_bad_log_beside_a_bad_page_of_libpmemobj_is_refused_and_nothing_is_changed,
                        0, THEIR_PAGES);
    tcase_add_loop_test(tc, a_bad_page_of_libpmemobj_at_rest_costs_no_entry, 0, THEIR_PAGES);
    tcase_add_loop_test(tc, a_page_of_the_ledger_that_goes_bad_while_it_is_open_costs_nothing, 0,
                        6);
    tcase_add_loop_test(
        tc, a_page_of_the_ledger_that_is_bad_when_it_is_loaded_costs_its_entries_and_says_so, 0, 4);
    tcase_add_loop_test(
        tc, a_page_of_libpmemobj_that_goes_bad_while_it_is_open_ends_no_process_and_loses_no_entry,
        0, 4);
    tcase_add_test(tc, a_page_in_use_is_put_in_order_by_the_handler_where_a_copy_exists);
    tcase_add_test(tc, a_page_in_use_without_a_copy_ends_the_process_and_the_next_one_knows);
    tcase_add_test(tc, a_page_that_was_given_back_is_not_put_in_order_under_the_pointer);
    tcase_add_test(tc, a_child_that_was_forked_during_a_repair_in_the_handler_has_its_own);
    tcase_add_test(tc, many_readers_beside_a_writer_and_pages_that_come_and_go);
    return db_main(tc, "media");
}
