/* test_sidecar_media.c: would catch a sidecar that libpmemobj is given although it would die of it (a page that
 * cannot be read, a byte of its lanes that cannot be true); an unreadable ring, twin or ledger that keeps the
 * sidecar from being opened; one that takes another's place with less than it was given.
 */
#include "tests/unit/sidecar_bad.h"

/* --- before libpmemobj is called ---------------------------------------------------------------------- */

static bool is_data(const char *path, uint64_t page)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t at = lseek(fd, (off_t)(page * PAGE), SEEK_DATA);
    close(fd);
    return at == (off_t)(page * PAGE);
}

/* Every page that libpmemobj may touch, and no other: one at a time cannot be read. */
START_TEST(test_an_unreadable_page_keeps_libpmemobj_from_being_called_and_nothing_else_does)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got;
    uint64_t theirs = 0, ours = 0, roots = 0;
    make(path, 3, &s, &p);
    const uint8_t *pool = s.pool;
    const uint64_t own[3][2] = {
        {(uint64_t)(s.ring - pool) / PAGE, s.ring_bytes / PAGE},
        {(uint64_t)((uint8_t *)s.twin - pool) / PAGE, 1},
        {(uint64_t)((uint8_t *)s.ledger - pool) / PAGE, sizeof *s.ledger / PAGE}, /* whole pages */
    };
    uint64_t root = (uint64_t)((uint8_t *)s.root - pool) / PAGE;
    memset(s.ring, 1, s.ring_bytes); /* no holes where the ring is */
    drop(&s);
    for (uint64_t page = 0; page < BYTES / PAGE; page++) {
        bool mine = false;
        for (int i = 0; i < 3; i++)
            mine |= page >= own[i][0] && page < own[i][0] + own[i][1];
        /* Many of the ring's are alike. */
        if (mine && page > own[0][0] + 3 && page < own[1][0] - 3 && page % 61 != 0)
            continue;
        if (!is_data(path, page))
            continue;
        bad_page = page;
        uint64_t before = pools_opened;
        if (mine) {
            unit_ok(sidecar_open(path, &s, &err));
            sidecar_close(&s);
            ours++;
        } else {
            char part[32];
            snprintf(part, sizeof part, "page %llu of the log", (unsigned long long)page);
            unit_fails(sidecar_open(path, &s, &err), DAX_IO_MEDIA, part);
            ck_assert_ptr_nonnull(strstr(err.text, path));
            ck_assert_ptr_nonnull(strstr(err.text, "move the log away"));
            ck_assert_uint_eq(pools_opened, before);
            unit_ok(sidecar_open_bare(path, &s, &err));
            unit_ok(sidecar_cursor_read(&s, &got, &err));
            ck_assert_uint_eq(got.txid, 3);
            ck_assert_uint_eq(sidecar_sealed(&s, 5), 3 * 64);
            ck_assert_ptr_nonnull(s.ledger);
            sidecar_close(&s);
            ck_assert_uint_eq(pools_opened, before);
            theirs++;
            roots += page == root;
        }
    }
    bad_page = NONE;
    unit_ok(sidecar_open(path, &s, &err));
    sidecar_close(&s);
    ck_assert_uint_gt(ours, 40);
    ck_assert_uint_gt(theirs, 40);
    ck_assert_uint_eq(roots, 1);
}
END_TEST

/* What libpmemobj believes without a checksum: next, capacity and flags of the logs in its lanes, here of the
 * first lane, the last one, and one between them. (Of checksum and gen_num nothing but a log in use speaks.) */
START_TEST(test_a_lane_with_a_wrong_byte_keeps_libpmemobj_from_being_called)
{
    static const uint64_t log_at[3] = {0, 256, 960}, word_at[3] = {8, 16, 32};
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    uint64_t words[2];
    make(path, 3, &s, &p);
    memcpy(words, (uint8_t *)s.pool + PAGE + 1024, sizeof words); /* lanes_offset, nlanes */
    drop(&s);
    const uint64_t lanes[3] = {0, words[1] / 2, words[1] - 1};
    for (unsigned i = 0; i < 27; i++) {
        uint64_t at = words[0] + lanes[i / 9] * 3072 + log_at[i / 3 % 3] + word_at[i % 3] + 7,
                 before;
        uint8_t was, wrong;
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ck_assert_int_eq(pread(fd, &was, 1, (off_t)at), 1);
        close(fd);
        wrong = was ^ 1;
        unit_file_patch(path, at, &wrong, 1);
        before = pools_opened;
        unit_fails(sidecar_open(path, &s, &err), DAX_CORRUPT, "libpmemobj's part");
        ck_assert_uint_eq(s.bad_page, at / PAGE);
        ck_assert_uint_eq(pools_opened, before);
        unit_file_patch(path, at, &was, 1);
    }
    reopen(path, &s);
    drop(&s);
}
END_TEST

/* Where the parts are says the root, else the twin, else nobody. */
START_TEST(test_a_sidecar_is_opened_without_libpmemobj_as_long_as_root_or_twin_is_there)
{
    const char *path = unit_path("db-dax");
    struct sidecar s, bare;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got;
    static const char nothing[DAX_LINE_BYTES];
    make(path, 3, &s, &p);
    uint64_t root_at = (uint64_t)((uint8_t *)s.root - (uint8_t *)s.pool);
    uint64_t places_at = (uint64_t)((uint8_t *)&s.twin->places - (uint8_t *)s.pool);
    unit_fails(sidecar_open_bare(path, &bare, &err), DAX_CANT_OPEN, "in use"); /* by this process */
    uint64_t ring = (uint64_t)(s.ring - (uint8_t *)s.pool), ring_bytes = s.ring_bytes;
    uint64_t ledger = (uint64_t)((uint8_t *)s.ledger - (uint8_t *)s.pool);
    drop(&s);
    for (unsigned lost = 0; lost < 3; lost++) {
        if (lost == 1)
            unit_file_patch(path, root_at, nothing, sizeof nothing);
        if (lost == 2)
            unit_file_patch(path, places_at, nothing, sizeof nothing);
        if (lost == 2) {
            unit_fails(sidecar_open_bare(path, &bare, &err), DAX_CORRUPT, "can be found");
            break;
        }
        unit_ok(sidecar_open_bare(path, &bare, &err));
        const uint8_t *pool = bare.pool;
        ck_assert_uint_eq((uint64_t)((uint8_t *)bare.root - pool), root_at);
        ck_assert_uint_eq((uint64_t)(bare.ring - pool), ring);
        ck_assert_uint_eq(bare.ring_bytes, ring_bytes);
        ck_assert_uint_eq((uint64_t)((uint8_t *)bare.ledger - pool), ledger);
        unit_ok(sidecar_cursor_read(&bare, &got, &err));
        ck_assert_uint_eq(got.txid, 3);
        ck_assert_uint_eq(sidecar_sealed(&bare, 5), 3 * 64);
        unit_ok(sidecar_seal(&bare, &p, 5, 4 * 64, &err));
        ck_assert_uint_eq(sidecar_sealed(&bare, 5), 4 * 64);
        unit_ok(sidecar_seal(&bare, &p, 5, 3 * 64, &err)); /* for the next round */
        unit_fails(sidecar_open_bare(path, &s, &err), DAX_CANT_OPEN, "in use");
        sidecar_close(&bare);
        unit_file_patch(path, places_at - (DAX_SEALS - 3) * sizeof(struct seal), nothing,
                        sizeof nothing); /* the fourth seal */
    }
}
END_TEST

/* A file that was cut: what is missing is a fault and no end of a mapping; and it stays as it is. */
START_TEST(test_of_a_cut_sidecar_what_is_there_can_be_read)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct cursor_slot got;
    make(path, 3, &s, &p);
    uint64_t twin_at = (uint64_t)((uint8_t *)s.twin - (uint8_t *)s.pool);
    drop(&s);
    ck_assert_int_eq(truncate(path, (off_t)(twin_at - 64 * PAGE)), 0);
    unit_ok(sidecar_open_bare(path, &s, &err));
    watch(&s);
    unit_ok(sidecar_cursor_read(&s, &got, &err));
    ck_assert_uint_eq(got.txid, 3);
    ck_assert(!sidecar_twin_whole(&s));
    ck_assert_uint_eq(sidecar_sealed(&s, 5), 0);
    unit_fails(sidecar_seal(&s, &p, 5, 64, &err), DAX_IO_MEDIA, path);
    ck_assert(guard_probe(s.ring, PAGE, NULL));
    ck_assert(!guard_probe(s.ring + s.ring_bytes - PAGE, PAGE, NULL));
    drop(&s);
    ck_assert_uint_eq(unit_file_size(path), twin_at - 64 * PAGE);
}
END_TEST

START_TEST(test_a_sidecar_that_takes_anothers_place_begins_with_what_it_was_given)
{
    const char *path = unit_path("db-dax"), *aside = unit_path("db-dax-bad");
    struct sidecar s;
    struct persist p;
    struct dax_err err;
    struct stat like = {.st_mode = S_IFREG | 0640, .st_uid = geteuid(), .st_gid = getegid()};
    struct stat old, now, kept_file;
    struct cursor_slot got, c = {.lsn = 640, .txid = 7, .size_bytes = 8192, .salt = 8, .nonce = 9};
    struct media_entry entries[2] = {{.id = 3, .page = 30, .bytes = PAGE, .status = MEDIA_CLEARED},
                                     {.id = 5, .page = 50, .bytes = PAGE}};
    static struct sidecar_ledger ledger;
    ledger_make(&ledger, entries, 2, 11);
    struct sidecar_seed seed = {&c, &ledger};
    bool kept;
    unit_write_file(aside, "x", 1); /* an earlier one */
    make(path, 3, &s, &p);
    drop(&s);
    ck_assert_int_eq(stat(path, &old), 0);
    unit_ok(sidecar_replace(path, &like, 2 * BYTES, &seed, &kept, &s, &err));
    ck_assert(kept);
    for (int again = 0; again < 2; again++) {
        struct media_entry *list;
        size_t count, damaged;
        watch(&s);
        unit_ok(sidecar_cursor_read(&s, &got, &err));
        ck_assert_uint_eq(got.lsn, 640);
        ck_assert_uint_eq(got.txid, 7);
        ck_assert_uint_eq(got.nonce, 9);
        unit_ok(ledger_load(&s, &list, &count, &damaged, &err));
        ck_assert_uint_eq(count, 2);
        ck_assert_uint_eq(damaged, 0);
        ck_assert_uint_eq(list[0].page, 30);
        ck_assert_uint_eq(list[1].page, 50);
        ck_assert_uint_eq(ledger_last_id(&s), 11);
        free(list);
        drop(&s);
        if (again == 0)
            unit_ok(sidecar_open(path, &s, &err));
    }
    ck_assert_int_eq(stat(path, &now), 0);
    ck_assert_int_eq(stat(aside, &kept_file), 0);
    ck_assert(kept_file.st_ino == old.st_ino && now.st_ino != old.st_ino);
    ck_assert_int_eq(access(unit_path("db-dax-new"), F_OK), -1);
}
END_TEST

/* 256 entries: all that are open, and of the others the newest. */
START_TEST(test_a_ledger_that_is_made_of_too_many_entries_keeps_those_that_are_open)
{
    static struct sidecar_ledger ledger;
    static struct media_entry entries[300];
    for (unsigned i = 0; i < 300; i++)
        entries[i] = (struct media_entry){.id = i + 1,
                                          .page = i,
                                          .bytes = PAGE,
                                          .status = i % 2 ? MEDIA_QUARANTINED : MEDIA_REPAIRED};
    ledger_make(&ledger, entries, 300, 300);
    char path[] = "none";
    struct sidecar s = {.ledger = &ledger, .path = path};
    struct dax_err err;
    struct media_entry *list;
    size_t count, damaged, open = 0;
    unit_ok(ledger_load(&s, &list, &count, &damaged, &err));
    ck_assert_uint_eq(count, DAX_LEDGER_ENTRIES);
    for (size_t i = 0; i < count; i++) {
        open += list[i].status == MEDIA_QUARANTINED;
        ck_assert(list[i].status == MEDIA_QUARANTINED || list[i].id > 300 - 2 * 106);
    }
    ck_assert_uint_eq(open, 150);
    free(list);
}
END_TEST

START_TEST(test_of_a_large_sidecar_a_few_mib_are_read)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct dax_err err;
    struct stat like = {.st_mode = S_IFREG | 0600, .st_uid = geteuid(), .st_gid = getegid()};
    unit_ok(sidecar_create(path, &like, 96 * DAX_MIB, &s, &err));
    uint64_t root_at = (uint64_t)((uint8_t *)s.root - (uint8_t *)s.pool);
    uint64_t twin_at = (uint64_t)((uint8_t *)s.twin - (uint8_t *)s.pool);
    memset(s.ring, 1, s.ring_bytes);
    sidecar_close(&s);
    bytes_read = 0;
    unit_ok(sidecar_open(path, &s, &err));
    sidecar_close(&s);
    ck_assert_uint_lt(bytes_read, 9 * DAX_MIB);
    printf("figure: bytes of a sidecar of 96 MiB read before libpmemobj maps it: %llu\n",
           (unsigned long long)bytes_read);
    /* Where the root is not found nobody knows where the ring is. */
    unit_file_patch(path, root_at, "DAXLITE?", 8);
    bytes_read = 0;
    unit_fails(sidecar_open(path, &s, &err), DAX_CORRUPT, "root is damaged");
    ck_assert_uint_lt(bytes_read, 13 * DAX_MIB);
    bad_page = twin_at / PAGE; /* in the last MiB: it could be anything */
    unit_fails(sidecar_open(path, &s, &err), DAX_IO_MEDIA, "page ");
    bad_page = twin_at / PAGE / 2;
    unit_fails(sidecar_open(path, &s, &err), DAX_CORRUPT, "root is damaged");
    bad_page = NONE;
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sidecar_media");
    TCase *tc = tcase_create("sidecar_media");
    tcase_add_checked_fixture(tc, unit_setup, NULL);
    tcase_set_timeout(tc, 300);
    tcase_add_test(
        tc, test_an_unreadable_page_keeps_libpmemobj_from_being_called_and_nothing_else_does);
    tcase_add_test(tc, test_a_lane_with_a_wrong_byte_keeps_libpmemobj_from_being_called);
    tcase_add_test(tc,
                   test_a_sidecar_is_opened_without_libpmemobj_as_long_as_root_or_twin_is_there);
    tcase_add_test(tc, test_of_a_cut_sidecar_what_is_there_can_be_read);
    tcase_add_test(tc, test_a_sidecar_that_takes_anothers_place_begins_with_what_it_was_given);
    tcase_add_test(tc, test_a_ledger_that_is_made_of_too_many_entries_keeps_those_that_are_open);
    tcase_add_test(tc, test_of_a_large_sidecar_a_few_mib_are_read);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
