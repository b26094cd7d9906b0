/* test_engine_sidecar.c: pages of the sidecar that go bad under the engine: of the log, its twin, the
 * ledger, and libpmemobj's own.
 *
 * Catches: a page of the log that stops commits, or hides what is behind it; a process that libpmemobj
 * takes along when a page of its own goes bad; a committed transaction or an entry that is lost with such a
 * page without a word.
 */
#include "engine/ledger.h"
#include "tests/media/engine.h"

/* --- the log ------------------------------------------------------------------------------------------ */

/* Stuck: the medium takes nothing back at that place, so the page gets another one. */
START_TEST(a_bad_page_of_the_log_stops_no_commit)
{
    static const unsigned ways[] = {EVERY_WAY, EVERY_WAY | BAD_STUCK};
    const char *path = unit_path("app.db"), *sidecar = db_sidecar(path);
    struct conn *c = made(path);
    struct store *s = c->store;
    db_write(c, 3, 4, 2); /* a live record before it, in msync mode */
    uint64_t tail = db_status(c).lsn_tail % s->sidecar.ring_bytes;
    uint64_t page = ((uint64_t)(s->sidecar.ring - (uint8_t *)s->sidecar.pool) + tail) / DB_PAGE + 1;
    bad_page_add(sidecar, page, ways[_i]);
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

/* Each fault is a signal and system calls: a ring of 8 MiB has 2048 pages, and 64 times as many lines. */
START_TEST(the_search_for_later_records_asks_each_bad_page_of_the_log_once)
{
    const char *path = unit_path("app.db"), *sidecar = db_sidecar(path);
    struct conn *c = made(path);
    struct store *s = c->store;
    uint64_t ring = (uint64_t)(s->sidecar.ring - (uint8_t *)s->sidecar.pool), found, behind, bad;
    struct guard_counts before, after;
    uint64_t first = db_status(c).lsn_tail, version = 2;
    do { /* until a record begins where a page does, several pages on */
        db_write(c, 3, 4, version++);
        behind = db_status(c).lsn_tail;
    } while (behind % DB_PAGE != 0 || behind - first < 6 * DB_PAGE);
    db_write(c, 3, 4, version++);
    bad = behind / DB_PAGE - 3;
    for (unsigned i = 0; i < 3; i++)
        bad_page_add(sidecar, (ring + (bad + i) * DB_PAGE % s->sidecar.ring_bytes) / DB_PAGE,
                     EVERY_WAY);
    /* From the last line before them: what begins right behind them is found. */
    guard_count(&before);
    db_ok(log_find_later(s, bad * DB_PAGE - DAX_LINE_BYTES, &found, &err));
    guard_count(&after);
    ck_assert_uint_eq(found, behind);
    ck_assert_uint_eq(after.caught - before.caught, 3);
    /* From the middle of one. */
    db_ok(log_find_later(s, (bad + 2) * DB_PAGE + 5 * DAX_LINE_BYTES, &found, &err));
    guard_count(&before);
    ck_assert_uint_eq(found, behind);
    ck_assert_uint_eq(before.caught - after.caught, 1);
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

static struct media_entry sidecar_entry(struct conn *c, uint64_t page)
{
    struct media_entry e[16];
    size_t n = conn_media_list(c, e, 16);
    for (size_t i = 0; i < n && i < 16; i++)
        if (e[i].part == MEDIA_SIDECAR && e[i].page == page)
            return e[i];
    ck_abort_msg("page %llu of the sidecar has no entry", (unsigned long long)page);
}

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
    ck_assert_msg(strstr(err.text, "both with its cursor"), "%s", err.text);
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

int main(void)
{
    TCase *tc = db_case("media", 300);
    tcase_add_loop_test(tc, a_bad_page_of_the_log_stops_no_commit, 0, 2);
    tcase_add_test(tc, the_search_for_later_records_asks_each_bad_page_of_the_log_once);
    tcase_add_test(tc, a_bad_twin_is_written_anew);
    tcase_add_loop_test(tc, a_root_page_that_goes_bad_while_it_is_open_stops_nothing, 0, 3);
    tcase_add_loop_test(tc, a_root_page_that_comes_back_has_the_newest_cursor, 0, 2);
    tcase_add_test(tc, a_repair_writes_the_root_page_anew);
    tcase_add_test(tc, without_root_and_twin_nothing_is_committed_and_what_is_can_be_read);
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
    return media_main(tc, "media_sidecar");
}
