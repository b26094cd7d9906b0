/* test_journal.c: the volatile journal gives back what was written to it, without keeping images.
 *
 * Catches: a byte that reads back differently from what a file would give (records, parts of
 * records, overwrites, gaps, truncation, a super-journal's name that looks like a page); an image
 * that is kept although the database has it, or left out although it has not; an image that does
 * not fit its checksum, which SQLite takes for the journal's end; records of a finished transaction that
 * come back in the next one; memory that grows from transaction to transaction or never returns.
 */
#include "tests/unit/unit.h"

#include "vfs/journal.h"

#define DB_BYTES (1u << 20)
#define FILE_BYTES (1u << 21)

/* A database, the journal under test, and a plain file that gets the same writes. */
struct bench {
    struct journal j;
    uint8_t *db;
    uint8_t *file;
    uint64_t size;
    uint32_t page_bytes;
    uint32_t sector_bytes;
    uint32_t cksum_init;
    uint32_t pages;
    int image_calls;
    dax_rc image_rc;
};

static struct bench b;
static struct dax_err err;
static uint64_t rnd_state;

static uint32_t rnd(uint32_t bound)
{
    rnd_state = rnd_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(rnd_state >> 33) % bound;
}

static dax_rc bench_image(void *arg, void *buf, size_t len, uint64_t offset, struct dax_err *e)
{
    struct bench *bench = arg;
    bench->image_calls++;
    if (bench->image_rc != DAX_OK)
        return dax_err_set(e, bench->image_rc, 0, "the test says no");
    ck_assert_uint_le(offset + len, (uint64_t)bench->pages * bench->page_bytes);
    memcpy(buf, bench->db + offset, len);
    return DAX_OK;
}

static void bench_init(uint32_t page_bytes, uint64_t seed)
{
    rnd_state = seed;
    b = (struct bench){
        .page_bytes = page_bytes, .sector_bytes = 512, .pages = DB_BYTES / page_bytes};
    b.db = malloc(DB_BYTES);
    b.file = calloc(1, FILE_BYTES);
    ck_assert(b.db && b.file);
    for (size_t i = 0; i < DB_BYTES; i++)
        b.db[i] = (uint8_t)rnd(256);
    b.cksum_init = rnd(UINT32_MAX);
    b.j.image = bench_image;
    b.j.image_arg = &b;
}

static void bench_free(void)
{
    journal_free(&b.j);
    free(b.db);
    free(b.file);
}

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void put(const void *data, size_t len, uint64_t offset)
{
    ck_assert_uint_le(offset + len, FILE_BYTES);
    unit_ok(journal_write(&b.j, data, len, offset, &err));
    memcpy(b.file + offset, data, len);
    if (offset + len > b.size)
        b.size = offset + len;
    ck_assert_uint_eq(b.j.size, b.size);
}

static void cut(uint64_t size)
{
    unit_ok(journal_truncate(&b.j, size, &err));
    if (size < b.size)
        memset(b.file + size, 0, b.size - size);
    b.size = size;
    ck_assert_uint_eq(b.j.size, b.size);
}

/* [offset, offset + len) reads as the file does. */
static void check_range(uint64_t offset, size_t len)
{
    uint8_t *buf = malloc(len + 1);
    ck_assert(buf);
    memset(buf, 0xa5, len + 1);
    err.text[0] = '\0';
    dax_rc rc = journal_read(&b.j, buf, len, offset, &err);
    ck_assert_msg(rc == (offset + len > b.size ? DAX_SHORT_READ : DAX_OK), "[%llu, +%zu): %s %s",
                  (unsigned long long)offset, len, dax_rc_name(rc), err.text);
    /* Check writes a line to its parent for every assertion, so there is one for the range. */
    uint64_t there = offset >= b.size ? 0 : b.size - offset < len ? b.size - offset : len;
    size_t bad = 0;
    while (bad < len && buf[bad] == (bad < there ? b.file[offset + bad] : 0))
        bad++;
    ck_assert_msg(bad == len, "byte %llu of the journal is wrong",
                  (unsigned long long)(offset + bad));
    ck_assert_uint_eq(buf[len], 0xa5);
    free(buf);
}

static void check_all(void)
{
    check_range(0, b.size + 100);
    for (int i = 0; i < 8 && b.size; i++) {
        uint64_t at = rnd((uint32_t)b.size);
        check_range(at, 1 + rnd(2 * b.page_bytes));
    }
}

/* --- what SQLite writes ----------------------------------------------------------------------- */

static const uint8_t magic[8] = {0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7};

static void put_header(uint64_t offset)
{
    uint8_t *h = calloc(1, b.sector_bytes);
    ck_assert(h);
    memcpy(h, magic, 8);
    put32(h + 8, UINT32_MAX);
    put32(h + 12, b.cksum_init);
    put32(h + 16, b.pages);
    put32(h + 20, b.sector_bytes);
    put32(h + 24, b.page_bytes);
    uint32_t piece = b.page_bytes < b.sector_bytes ? b.page_bytes : b.sector_bytes;
    for (uint32_t at = 0; at < b.sector_bytes; at += piece)
        put(h + at, piece, offset + at);
    free(h);
}

static uint32_t sum_of(const uint8_t *image)
{
    uint32_t sum = b.cksum_init;
    for (int i = (int)b.page_bytes - 200; i > 0; i -= 200)
        sum += image[i];
    return sum;
}

static const uint8_t *image_of(uint32_t pgno)
{
    return b.db + (uint64_t)(pgno - 1) * b.page_bytes;
}

static void put_number(uint32_t v, uint64_t offset)
{
    uint8_t buf[4];
    put32(buf, v);
    put(buf, 4, offset);
}

static void put_record(uint32_t pgno)
{
    uint64_t at = b.size;
    put_number(pgno, at);
    put(image_of(pgno), b.page_bytes, at + 4);
    put_number(sum_of(image_of(pgno)), at + 4 + b.page_bytes);
}

static void put_super_name(const char *name)
{
    uint64_t at = b.size;
    size_t n = strlen(name);
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (uint32_t)name[i];
    put_number(UINT32_C(0x40000000) / b.page_bytes + 1, at);
    put(name, n, at + 4);
    put_number((uint32_t)n, at + 4 + n);
    put_number(sum, at + 8 + n);
    put(magic, 8, at + 12 + n);
}

static const uint32_t page_sizes[] = {512, 1024, 2048, 4096, 8192, 16384, 32768, 65536};
#define PAGE_SIZES 8

/* --- tests ------------------------------------------------------------------------------------ */

START_TEST(test_a_transaction_reads_back_and_no_image_is_kept)
{
    bench_init(page_sizes[_i], 1);
    put_header(0);
    uint64_t kept = b.j.bytes_kept;
    for (uint32_t i = 0; i < 12; i++)
        put_record(1 + (i * 5) % b.pages);
    ck_assert_uint_eq(b.j.bytes_kept, kept);
    ck_assert_uint_eq(b.j.images_skipped, 12);
    ck_assert_uint_eq(b.j.run_count, 1);
    check_all();
    /* As pager_playback_one_page reads. */
    for (uint32_t i = 0; i < 12; i++) {
        uint64_t at = 512 + i * (b.page_bytes + UINT64_C(8));
        check_range(at, 4);
        check_range(at + 4, b.page_bytes);
        check_range(at + 4 + b.page_bytes, 4);
    }
    bench_free();
}
END_TEST

START_TEST(test_pages_that_the_database_did_not_have_are_kept)
{
    bench_init(4096, 2);
    uint8_t page[4096];
    memset(page, 7, sizeof page);
    put_header(0);
    put_record(3);
    put_number(b.pages + 1, b.size); /* beyond the size in the header */
    put(page, sizeof page, b.size);
    put_number(0, b.size); /* no page has number 0 */
    put(page, sizeof page, b.size);
    ck_assert_uint_eq(b.j.images_skipped, 1);
    check_all();
    bench_free();
}
END_TEST

START_TEST(test_without_a_header_that_fits_everything_is_kept)
{
    bench_init(4096, 3);
    put_record(1); /* at offset 0, no header at all */
    put_record(2);
    ck_assert_uint_eq(b.j.images_skipped, 0);
    check_all();
    cut(0);
    uint8_t header[512] = {0};
    memcpy(header, magic, 8);
    put32(header + 16, b.pages);
    put32(header + 24, 4097); /* no page size */
    put(header, sizeof header, 0);
    put_record(1);
    put_number(1, b.size);
    put(b.db + 100, 4097, b.size);
    ck_assert_uint_eq(b.j.images_skipped, 0);
    check_all();
    bench_free();
}
END_TEST

START_TEST(test_a_super_journal_name_is_no_record_even_where_it_is_as_long_as_a_page)
{
    bench_init(512, 4);
    char name[513];
    memset(name, 'n', 512);
    name[512] = '\0';
    b.pages = 0x400000; /* a database of 2 GiB, which has a page at the lock bytes */
    put_header(0);
    put_record(9);
    put_super_name(name);
    ck_assert_uint_eq(b.j.images_skipped, 1);
    check_all();
    check_range(b.size - 16, 16);
    put_record(
        10); /* a commit was refused after the name was written, and the transaction goes on */
    put_record(11);
    ck_assert_uint_eq(b.j.images_skipped, 3);
    ck_assert_uint_eq(b.j.run_count, 2);
    check_all();
    bench_free();
}
END_TEST

START_TEST(test_an_unfinished_record_is_read_as_far_as_it_goes_and_can_be_replaced)
{
    uint8_t other[100];
    bench_init(1024, 5);
    memset(other, 0x55, sizeof other);
    put_header(0);
    put_record(1);
    put_number(2, b.size);
    check_all();
    put(other, sizeof other, b.size); /* no image */
    check_all();
    put_record(3);
    put_number(4, b.size);
    put(image_of(4), 1024, b.size);
    check_all();
    put(other, sizeof other, b.size); /* no checksum */
    check_all();
    put_record(5);
    check_all();
    bench_free();
}
END_TEST

START_TEST(test_a_second_header_begins_records_of_its_own)
{
    bench_init(2048, 6);
    put_header(0);
    put_record(1);
    put_record(2);
    b.cksum_init ^= 0x1234567;
    put_header((b.size + 511) / 512 * 512);
    put_record(3);
    put_record(4);
    ck_assert_uint_eq(b.j.run_count, 2);
    ck_assert_uint_eq(b.j.images_skipped, 4);
    check_all();
    bench_free();
}
END_TEST

START_TEST(test_zeroing_the_header_ends_the_transaction)
{
    static const uint8_t zeros[28];
    bench_init(4096, 7);
    put_header(0);
    for (uint32_t i = 1; i <= 20; i++)
        put_record(i);
    unit_ok(journal_write(&b.j, zeros, sizeof zeros, 0, &err));
    memset(b.file, 0, FILE_BYTES);
    b.size = 28;
    ck_assert_uint_eq(b.j.size, 28);
    check_all();
    for (size_t i = 0; i < DB_BYTES; i++) /* the commit has replaced every page */
        b.db[i] ^= 0xff;
    b.cksum_init++;
    put_header(0);
    put_record(5);
    check_all();
    bench_free();
}
END_TEST

START_TEST(test_an_image_that_is_not_the_databases_gets_the_checksum_of_what_is_read)
{
    bench_init(4096, 8);
    uint8_t buf[4096];
    put_header(0);
    put_record(6);
    uint64_t at = b.size;
    put_number(7, at);
    put(image_of(7), 4096, at + 4);
    uint8_t sum[4], wrong[4];
    put_number(b.cksum_init, at + 4 + 4096); /* of a page of zeros */
    unit_ok(journal_read(&b.j, wrong, 4, at + 4 + 4096, &err));
    unit_ok(journal_read(&b.j, buf, 4096, at + 4, &err));
    ck_assert_mem_eq(buf, image_of(7), 4096);
    unit_ok(journal_read(&b.j, sum, 4, at + 4 + 4096, &err));
    ck_assert_mem_ne(sum, wrong, 4);
    uint32_t want = b.cksum_init;
    for (int i = 4096 - 200; i > 0; i -= 200)
        want += buf[i];
    put32(wrong, want);
    ck_assert_mem_eq(sum, wrong, 4);
    check_range(512 + 4, 4096);
    check_range(at, 4);
    bench_free();
}
END_TEST

START_TEST(test_an_error_of_the_database_is_the_readers_error)
{
    bench_init(4096, 9);
    uint8_t buf[4096];
    put_header(0);
    put_record(6);
    b.image_rc = DAX_IO_READ;
    unit_fails(journal_read(&b.j, buf, 4096, 512 + 4, &err), DAX_IO_READ, "says no");
    check_range(0, 512 + 4);
    /* The piece of the record that stays would have to be read: nothing changes. */
    unit_fails(journal_truncate(&b.j, 512 + 100, &err), DAX_IO_READ, "says no");
    b.image_rc = DAX_OK;
    check_all();
    bench_free();
}
END_TEST

START_TEST(test_a_warm_transaction_needs_no_new_memory_and_a_big_one_gives_it_back)
{
    bench_init(512, 10);
    put_header(0);
    for (uint32_t i = 1; i <= 10; i++)
        put_record(i);
    journal_reset(&b.j);
    b.size = 0;
    struct journal warm = b.j;
    for (int round = 0; round < 5; round++) {
        put_header(0);
        for (uint32_t i = 1; i <= 10; i++)
            put_record(i);
        ck_assert_ptr_eq(b.j.records, warm.records);
        ck_assert_ptr_eq(b.j.runs, warm.runs);
        ck_assert_ptr_eq(b.j.extents, warm.extents);
        ck_assert_ptr_eq(b.j.bytes, warm.bytes);
        ck_assert_uint_eq(b.j.byte_room, warm.byte_room);
        journal_reset(&b.j);
        b.size = 0;
    }
    /* Straight into the journal: the model file is too small for this. */
    uint8_t header[512] = {0}, number[4];
    memcpy(header, magic, 8);
    put32(header + 16, b.pages);
    put32(header + 24, 512);
    unit_ok(journal_write(&b.j, header, 512, 0, &err));
    for (uint32_t i = 0; i < 200000; i++) {
        uint64_t at = 512 + i * UINT64_C(520);
        put32(number, 1 + i % b.pages);
        unit_ok(journal_write(&b.j, number, 4, at, &err));
        unit_ok(journal_write(&b.j, image_of(1 + i % b.pages), 512, at + 4, &err));
        unit_ok(journal_write(&b.j, number, 4, at + 516, &err));
    }
    ck_assert_uint_le(b.j.record_room * sizeof *b.j.records, 4u << 20); /* 100 MB of journal */
    journal_reset(&b.j);
    ck_assert_uint_le(b.j.record_room * sizeof *b.j.records, 512u << 10);
    ck_assert_uint_eq(b.j.size, 0);
    bench_free();
}
END_TEST

/* Anything, in any order, that does not lie about an image. */
static void random_step(void)
{
    static uint8_t noise[70000];
    uint32_t what = rnd(100);
    for (size_t i = 0; i < sizeof noise; i += 97)
        noise[i] = (uint8_t)rnd(256);
    if (what < 50) {
        put_record(1 + rnd(b.pages));
    } else if (what < 55) {
        put_header(b.size);
    } else if (what < 60) {
        put_super_name("/tmp/some-mj1234");
    } else if (what < 65) {
        put_number(1 + rnd(b.pages), b.size); /* begins a record, and something else follows */
        put(noise, 5 + rnd(100), b.size);
    } else if (what < 70) {
        uint32_t pgno = 1 + rnd(b.pages);
        put_number(pgno, b.size);
        put(image_of(pgno), b.page_bytes, b.size);
        put(noise, 1 + rnd(3), b.size);
    } else if (what < 85 && b.size) {
        uint32_t len = 1 + rnd(b.page_bytes + 50);
        uint64_t at = rnd((uint32_t)b.size);
        put(noise, len, at == 0 && len == 28 ? 1 : at);
    } else if (what < 90) {
        put(noise, 5 + rnd(200), b.size + 1 + rnd(3000)); /* leaves a gap */
    } else if (b.size) {
        cut(rnd(3) ? b.size - rnd((uint32_t)(b.size < 2000 ? b.size : 2000))
                   : rnd((uint32_t)b.size));
    }
}

START_TEST(test_any_sequence_of_writes_reads_back_as_from_a_file)
{
    const char *given = getenv("DAX_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : 1000u + (uint64_t)_i;
    bench_init(page_sizes[seed % 4], seed);
    for (int step = 0; step < 120 && b.size < FILE_BYTES / 2; step++) {
        random_step();
        uint64_t at = b.size ? rnd((uint32_t)b.size) : 0;
        check_range(at, 1 + rnd(3 * b.page_bytes));
        if (step % 20 == 19)
            check_all();
    }
    check_all();
    bench_free();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("journal");
    TCase *tc = tcase_create("journal");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, test_a_transaction_reads_back_and_no_image_is_kept, 0, PAGE_SIZES);
    tcase_add_test(tc, test_pages_that_the_database_did_not_have_are_kept);
    tcase_add_test(tc, test_without_a_header_that_fits_everything_is_kept);
    tcase_add_test(tc, test_a_super_journal_name_is_no_record_even_where_it_is_as_long_as_a_page);
    tcase_add_test(tc, test_an_unfinished_record_is_read_as_far_as_it_goes_and_can_be_replaced);
    tcase_add_test(tc, test_a_second_header_begins_records_of_its_own);
    tcase_add_test(tc, test_zeroing_the_header_ends_the_transaction);
    tcase_add_test(tc, test_an_image_that_is_not_the_databases_gets_the_checksum_of_what_is_read);
    tcase_add_test(tc, test_an_error_of_the_database_is_the_readers_error);
    tcase_add_test(tc, test_a_warm_transaction_needs_no_new_memory_and_a_big_one_gives_it_back);
    tcase_add_loop_test(tc, test_any_sequence_of_writes_reads_back_as_from_a_file, 0, 200);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
