/* test_engine_repair.c: pages under the engine that are repaired, and files that somebody cuts.
 *
 * Catches: an entry that closes without the repair, or stays open after it, across a crash; a repair under
 * a reader's pointer; a page that is found bad and repaired at the same time, and stays flagged; a file
 * that somebody cuts and the zeros that fill it again.
 */
#include "tests/media/engine.h"

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

int main(void)
{
    TCase *tc = db_case("media", 300);
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
    return media_main(tc, "media_repair");
}
