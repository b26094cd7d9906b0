/* test_sidecar_twin.c: would catch an older cursor that counts because the newer one cannot be read; a store that
 * takes a slot down with it; a root or a twin that is mended wrong, or lost by a crash while it is; a fault note
 * that is lost, torn or made up.
 */
#include "tests/unit/sidecar_bad.h"

/* --- cursor ------------------------------------------------------------------------------------------- */

START_TEST(test_a_cursor_that_cannot_be_read_in_one_place_is_read_in_the_other)
{
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got;
    uint64_t n = (uint64_t)_i + 1;
    make(unit_path("db-dax"), n, &s, &p);
    for (unsigned lost = 0; lost < 4; lost++) { /* bit 0: root, bit 1: twin */
        if (lost & 1)
            spoil(s.root);
        if (lost & 2)
            spoil(s.twin);
        ck_assert_int_eq(sidecar_twin_whole(&s), !(lost & 2));
        if (lost == 3) {
            unit_fails(sidecar_cursor_read(&s, &got, &err), DAX_IO_MEDIA, "cannot be read");
        } else {
            unit_ok(sidecar_cursor_read(&s, &got, &err));
            ck_assert_uint_eq(got.txid, n);
        }
        ck_assert_uint_eq(sidecar_sealed(&s, 5), lost & 2 ? 0 : n * 64);
        if (lost) {
            struct cursor_slot c = {.lsn = 999, .txid = 999};
            unit_fails(sidecar_cursor_write(&s, &p, &c, &err), DAX_IO_MEDIA, s.path);
            if (lost & 2)
                unit_fails(sidecar_seal(&s, &p, 5, 6400, &err), DAX_IO_MEDIA, s.path);
        }
        heal(&s, s.root);
        heal(&s, s.twin);
        unit_ok(sidecar_cursor_read(&s, &got, &err));
        ck_assert_uint_eq(got.txid, n); /* what failed has left nothing */
    }
    drop(&s);
}
END_TEST

/* The twin goes while a slot is being stored, at any of the stores. */
static unsigned stores_left;
static struct sidecar *storing;
static const struct persist_ops *real_ops;

static void store_then_spoil(struct persist *p, void *dst, const void *src, size_t len)
{
    if (stores_left-- == 0)
        spoil(storing->twin);
    real_ops->store(p, dst, src, len);
}

START_TEST(test_a_twin_that_goes_while_a_cursor_is_stored_takes_no_slot_with_it)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got, c = {.lsn = 999 * 64, .txid = 999, .salt = 5, .nonce = 6};
    make(path, 4, &s, &p);
    real_ops = p.ops;
    struct persist_ops spoiling = *p.ops;
    spoiling.store = store_then_spoil;
    storing = &s;
    stores_left = (unsigned)_i;
    p.ops = &spoiling;
    unit_fails(sidecar_cursor_write(&s, &p, &c, &err), DAX_IO_MEDIA, path);
    p.ops = real_ops;
    unit_ok(sidecar_cursor_read(&s, &got, &err));
    ck_assert_uint_eq(got.txid, 4);
    unit_ok(sidecar_mend_twin(&s, &p, 5, 256, &err));
    unit_ok(sidecar_cursor_read(&s, &got, &err));
    ck_assert_uint_eq(got.txid, 4);
    put_cursor(&s, &p, 5);
    drop(&s);
    reopen(path, &s);
    unit_ok(sidecar_cursor_read(&s, &got, &err));
    ck_assert_uint_eq(got.txid, 5);
    drop(&s);
}
END_TEST

/* --- mending ------------------------------------------------------------------------------------------ */

START_TEST(test_a_mended_twin_has_the_cursors_of_the_root_and_a_fresh_seal)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got;
    make(path, 5, &s, &p);
    spoil(s.twin);
    unit_fails(sidecar_seal(&s, &p, 5, 320, &err), DAX_IO_MEDIA, path);
    unit_ok(sidecar_mend_twin(&s, &p, _i ? 5 : 0, _i ? 384 : 0, &err));
    for (int again = 0; again < 2; again++) {
        ck_assert(sidecar_twin_whole(&s));
        ck_assert_int_eq(memcmp(s.twin->cursor, s.root->cursor, sizeof s.root->cursor), 0);
        ck_assert_uint_eq(sidecar_sealed(&s, 5), _i ? 384 : 0);
        unit_ok(sidecar_cursor_read(&s, &got, &err));
        ck_assert_uint_eq(got.txid, 5);
        drop(&s);
        reopen(path, &s);
    }
    unit_ok(sidecar_seal(&s, &p, 5, 448, &err)); /* and is used on, by this mapping and the next */
    put_cursor(&s, &p, 6);
    spoil(s.twin);
    unit_ok(sidecar_mend_twin(&s, &p, 5, 512, &err));
    put_cursor(&s, &p, 7);
    unit_ok(sidecar_seal(&s, &p, 5, 576, &err));
    drop(&s);
    reopen(path, &s);
    ck_assert_uint_eq(sidecar_sealed(&s, 5), 576);
    unit_ok(sidecar_cursor_read(&s, &got, &err));
    ck_assert_uint_eq(got.txid, 7);
    drop(&s);
}
END_TEST

/* Where it can be read nothing of it changes but the line of the fresh seal. */
START_TEST(test_mending_keeps_what_can_be_read)
{
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct fault_note note;
    make(unit_path("db-dax"), 5, &s, &p);
    sidecar_note_fault(&s, MEDIA_BASE, 77, MEDIA_POISON, 4, 123);
    struct sidecar_twin before = *s.twin;
    s.root->cursor[0].hash++; /* the newest is only in the twin */
    unit_ok(sidecar_mend_twin(&s, &p, 5, 0, &err));
    ck_assert_int_eq(memcmp(&before, s.twin, sizeof before), 0);
    ck_assert_int_eq(memcmp(s.twin->cursor, s.root->cursor, sizeof s.root->cursor), 0);
    unit_ok(sidecar_mend_twin(&s, &p, 5, 999 * 64, &err));
    unsigned differ = 0;
    for (unsigned i = 0; i < DAX_SEALS; i++)
        differ += memcmp(&before.seal[i], &s.twin->seal[i], sizeof before.seal[i]) != 0;
    ck_assert_uint_eq(differ, 1);
    ck_assert_uint_eq(sidecar_sealed(&s, 5), 999 * 64);
    ck_assert(sidecar_take_note(&s, &note));
    ck_assert_uint_eq(note.page, 77);
    drop(&s);
}
END_TEST

START_TEST(test_a_crash_while_the_twin_is_mended_finds_the_newest_cursor)
{
    char *path = strdup(unit_path("db-dax")), *copy = strdup(unit_path("copy-dax"));
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got;
    make(path, 5, &s, &p);
    for (size_t at = 0; at <= PAGE; at += 8 * (1 + at / 512 * 7)) {
        /* The file has anything where the bad page was. */
        uint8_t *junk = malloc(PAGE);
        memset(junk, (int)at | 1, PAGE);
        ck_assert_int_eq(__real_pwrite(s.fd, junk, PAGE, (uint8_t *)s.twin - (uint8_t *)s.pool),
                         (ssize_t)PAGE);
        free(junk);
        spoil(s.twin);
        torn_at = at;
        torn_from = path;
        torn_copy = copy;
        unit_ok(sidecar_mend_twin(&s, &p, 5, 320, &err));
        ck_assert_ptr_null(torn_from);
        drop(&s); /* libpmemobj opens no two copies of a pool */
        reopen(copy, &s);
        unit_ok(sidecar_cursor_read(&s, &got, &err));
        ck_assert_uint_eq(got.txid, 5);
        uint64_t sealed = sidecar_sealed(&s, 5);
        ck_assert(sealed == 0 || sealed == 320);
        put_cursor(&s, &p, 6);
        drop(&s);
        reopen(path, &s);
    }
    drop(&s);
    free(path);
    free(copy);
}
END_TEST

START_TEST(test_a_medium_that_does_not_take_the_twin_back_gets_another_block_or_it_is_an_error)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    make(path, 5, &s, &p);
    spoil(s.twin);
    pwrite_error = EIO;
    unit_fails(sidecar_mend_twin(&s, &p, 5, 320, &err), DAX_IO_MEDIA, path);
    ck_assert_uint_eq(punched, 1);
    pwrite_error = ENOSPC;
    unit_fails(sidecar_mend_twin(&s, &p, 5, 320, &err), DAX_IO_WRITE, path);
    pwrite_error = EIO;
    punch_helps = true;
    unit_ok(sidecar_mend_twin(&s, &p, 5, 320, &err));
    ck_assert(sidecar_twin_whole(&s));
    ck_assert_uint_eq(sidecar_sealed(&s, 5), 320);
    spoil(s.root);
    spoil(s.twin);
    unit_fails(sidecar_mend_twin(&s, &p, 5, 320, &err), DAX_IO_MEDIA, "either");
    drop(&s);
}
END_TEST

/* The rest of the page is libpmemobj's. The cursors were others when the sidecar was opened. */
START_TEST(test_a_mended_root_has_the_cursors_of_the_twin_and_all_that_was_in_its_page)
{
    char *path = strdup(unit_path("db-dax")); /* spoil() takes names, too */
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got;
    uint8_t before[PAGE];
    make(path, 5, &s, &p);
    for (uint64_t n = 5; n < 9; n++) {
        uint64_t at = ((uint64_t)((uint8_t *)s.root - (uint8_t *)s.pool)) & ~(PAGE - 1);
        const uint8_t *page = (uint8_t *)s.pool + at;
        memcpy(before, page, PAGE);
        spoil(s.root);
        unit_ok(sidecar_seal(&s, &p, 5, n * 64, &err)); /* needs no root */
        unit_ok(sidecar_mend_root(&s, &p, &err));
        ck_assert_int_eq(memcmp(before, page, PAGE), 0);
        spoil(s.twin);
        unit_ok(sidecar_cursor_read(&s, &got, &err));
        ck_assert_uint_eq(got.txid, n);
        unit_ok(sidecar_mend_twin(&s, &p, 5, n * 64, &err));
        put_cursor(&s, &p, n + 1);
        if (_i) {
            drop(&s);
            reopen(path, &s);
        }
    }
    drop(&s);
    reopen(path, &s);
    unit_ok(sidecar_cursor_read(&s, &got, &err));
    ck_assert_uint_eq(got.txid, 9);
    drop(&s);
    free(path);
}
END_TEST

/* The root of the copy is torn, and what the tear has left is junk: then it is opened without libpmemobj. */
START_TEST(test_a_crash_while_the_root_is_mended_finds_the_newest_cursor)
{
    char *path = strdup(unit_path("db-dax")), *copy = strdup(unit_path("copy-dax"));
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got;
    unsigned whole = 0, bare = 0;
    make(path, 5, &s, &p);
    uint64_t offset = (uint64_t)((uint8_t *)s.root - (uint8_t *)s.pool),
             page = offset & ~(PAGE - 1);
    for (size_t at = 0; at <= PAGE; at += at / 256 == offset % PAGE / 256 ? 16 : 256) {
        uint8_t junk[PAGE];
        memset(junk, (int)at | 1, PAGE);
        ck_assert_int_eq(__real_pwrite(s.fd, junk, PAGE, (off_t)page), (ssize_t)PAGE);
        spoil(s.root);
        torn_at = at;
        torn_from = path;
        torn_copy = copy;
        unit_ok(sidecar_mend_root(&s, &p, &err));
        ck_assert_ptr_null(torn_from);
        drop(&s); /* libpmemobj opens no two copies of a pool */
        dax_rc rc = sidecar_open(copy, &s, &err);
        if (rc == DAX_OK)
            watch(&s);
        whole += rc == DAX_OK;
        if (rc != DAX_OK) {
            bare++;
            ck_assert_msg(rc == DAX_CORRUPT, "%s: %s", dax_rc_name(rc), err.text);
            unit_ok(sidecar_open_bare(copy, &s, &err));
            watch(&s);
        }
        unit_ok(sidecar_cursor_read(&s, &got, &err));
        ck_assert_uint_eq(got.txid, 5);
        ck_assert_uint_eq(sidecar_sealed(&s, 5), 320);
        drop(&s);
        reopen(path, &s);
        unit_ok(sidecar_cursor_read(&s, &got, &err));
        ck_assert_uint_eq(got.txid, 5);
    }
    ck_assert_uint_gt(whole, 1);
    ck_assert_uint_gt(bare, 1);
    drop(&s);
    free(path);
    free(copy);
}
END_TEST

START_TEST(test_a_root_that_cannot_be_mended_is_an_error_and_the_twin_keeps_the_cursor)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got;
    make(path, 5, &s, &p);
    spoil(s.root);
    pwrite_error = EIO;
    unit_fails(sidecar_mend_root(&s, &p, &err), DAX_IO_MEDIA, path);
    ck_assert_uint_eq(punched, 1);
    pwrite_error = ENOSPC;
    unit_fails(sidecar_mend_root(&s, &p, &err), DAX_IO_WRITE, path);
    unit_ok(sidecar_cursor_read(&s, &got, &err));
    ck_assert_uint_eq(got.txid, 5);
    pwrite_error = EIO;
    punch_helps = true;
    unit_ok(sidecar_mend_root(&s, &p, &err));
    put_cursor(&s, &p, 6);
    spoil(s.root);
    spoil(s.twin);
    unit_fails(sidecar_mend_root(&s, &p, &err), DAX_IO_MEDIA, "either");
    drop(&s);
}
END_TEST

/* --- note --------------------------------------------------------------------------------------------- */

START_TEST(test_a_note_is_found_at_the_next_open_until_it_is_cleared)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct fault_note note;
    make(path, 1, &s, &p);
    ck_assert(!sidecar_take_note(&s, &note));
    s.mode = _i ? PERSIST_MSYNC : PERSIST_VOLATILE;
    synced = 0;
    sidecar_note_fault(&s, MEDIA_BASE, 8841, MEDIA_POISON, BUS_MCEERR_AR, 1234567);
    ck_assert_uint_eq(synced, (uint64_t)_i);
    sidecar_note_fault(&s, MEDIA_LOG, 1, MEDIA_IO, BUS_ADRERR, 1); /* the first one stays */
    for (int again = 0; again < 3; again++) {
        ck_assert(sidecar_take_note(&s, &note));
        ck_assert_uint_eq(note.part, MEDIA_BASE);
        ck_assert_uint_eq(note.page, 8841);
        ck_assert_uint_eq(note.kind, MEDIA_POISON);
        ck_assert_int_eq(note.code, BUS_MCEERR_AR);
        ck_assert_uint_eq(note.time_us, 1234567);
        for (uint64_t i = 1; i <= 2 * DAX_SEALS; i++) /* seals do not reach it */
            unit_ok(sidecar_seal(&s, &p, 5, i * 64, &err));
        drop(&s);
        reopen(path, &s);
    }
    unit_ok(sidecar_clear_note(&s, &p, &err));
    ck_assert(!sidecar_take_note(&s, &note));
    sidecar_note_fault(&s, MEDIA_LOG, 1, MEDIA_IO, BUS_ADRERR, 1);
    ck_assert(sidecar_take_note(&s, &note));
    ck_assert_uint_eq(note.part, MEDIA_LOG);
    spoil(s.twin);
    ck_assert(!sidecar_take_note(&s, &note));
    unit_fails(sidecar_clear_note(&s, &p, &err), DAX_IO_MEDIA, path);
    drop(&s);
}
END_TEST

START_TEST(test_a_note_that_is_torn_damaged_or_of_nothing_known_is_none)
{
    struct sidecar s;
    struct persist p;
    struct fault_note note;
    make(unit_path("db-dax"), 1, &s, &p);
    sidecar_note_fault(&s, MEDIA_SIDECAR, 5, MEDIA_DAMAGED, 2, 9);
    struct fault_note *line = &s.twin->note, good = *line;
    ck_assert(sidecar_take_note(&s, &note));
    for (unsigned mask = 0; mask < 255; mask++) {
        for (unsigned w = 0; w < 8; w++)
            ((uint64_t *)line)[w] = mask >> w & 1 ? ((uint64_t *)&good)[w] : 0;
        ck_assert(sidecar_take_note(&s, &note) == (memcmp(line, &good, sizeof good) == 0));
    }
    for (unsigned bit = 0; bit < 512; bit++) {
        *line = good;
        ((uint8_t *)line)[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert(!sidecar_take_note(&s, &note));
    }
    for (int field = 0; field < 3; field++) {
        *line = good;
        if (field == 0)
            line->part = MEDIA_SIDECAR + 1;
        else if (field == 1)
            line->kind = MEDIA_DAMAGED + 1;
        else
            line->magic++;
        line->hash = hash_bytes(line, offsetof(struct fault_note, hash));
        ck_assert(!sidecar_take_note(&s, &note));
    }
    drop(&s);
}
END_TEST

/* As it happens: a thread meets a bad page outside of any guard, and the process ends. */
START_TEST(test_a_process_that_dies_of_a_fault_leaves_its_note)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct persist p;
    struct fault_note note;
    make(path, 1, &s, &p);
    uint64_t page = (uint64_t)(s.ring - (uint8_t *)s.pool) / PAGE + 3;
    drop(&s);
    pid_t pid = fork();
    if (pid == 0) {
        reopen(path, &s);
        noting = &s;
        spoil(s.ring + 3 * PAGE);
        ((volatile uint8_t *)s.ring)[3 * PAGE + 100]++;
        _exit(1);
    }
    ck_assert_int_eq(unit_wait(pid), 128 + SIGBUS);
    reopen(path, &s);
    ck_assert(sidecar_take_note(&s, &note));
    ck_assert_uint_eq(note.page, page);
    ck_assert_uint_eq(note.part, MEDIA_SIDECAR);
    ck_assert_int_eq(note.code, BUS_ADRERR);
    ck_assert_uint_eq(note.time_us, 4711);
    drop(&s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sidecar_twin");
    TCase *tc = tcase_create("sidecar_twin");
    tcase_add_checked_fixture(tc, unit_setup, NULL);
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, test_a_cursor_that_cannot_be_read_in_one_place_is_read_in_the_other, 0,
                        4);
    tcase_add_loop_test(tc, test_a_twin_that_goes_while_a_cursor_is_stored_takes_no_slot_with_it, 0,
                        2);
    tcase_add_loop_test(tc, test_a_mended_twin_has_the_cursors_of_the_root_and_a_fresh_seal, 0, 2);
    tcase_add_test(tc, test_mending_keeps_what_can_be_read);
    tcase_add_test(tc, test_a_crash_while_the_twin_is_mended_finds_the_newest_cursor);
    tcase_add_test(
        tc, test_a_medium_that_does_not_take_the_twin_back_gets_another_block_or_it_is_an_error);
    tcase_add_loop_test(
        tc, test_a_mended_root_has_the_cursors_of_the_twin_and_all_that_was_in_its_page, 0, 2);
    tcase_add_test(tc, test_a_crash_while_the_root_is_mended_finds_the_newest_cursor);
    tcase_add_test(tc, test_a_root_that_cannot_be_mended_is_an_error_and_the_twin_keeps_the_cursor);
    tcase_add_loop_test(tc, test_a_note_is_found_at_the_next_open_until_it_is_cleared, 0, 2);
    tcase_add_test(tc, test_a_note_that_is_torn_damaged_or_of_nothing_known_is_none);
    tcase_add_test(tc, test_a_process_that_dies_of_a_fault_leaves_its_note);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
