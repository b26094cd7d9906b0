/* test_log.c: would catch a record that is read back differently than it was built, one that is
 * taken for whole although a line of it is not (or is of another life, place or ring), counts that
 * lead out of the record, and damage in the middle that looks like the log's end.
 */
#include "tests/unit/db.h"

#include "engine/log.h"

#define RING_SMALL (64 * DAX_KIB)

static struct conn *writer;
static struct store *store;

/* A store whose writer we are, with a ring of the given size (0: as it comes). */
static void log_open(uint64_t ring_bytes)
{
    const char *path = unit_path("app.db");
    writer = db_open(path);
    db_write(writer, 0, 3, 1);
    if (ring_bytes) {
        db_small_ring(writer, ring_bytes);
        db_close(writer);
        writer = db_open(path);
    }
    db_begin(writer);
    store = writer->store;
}

static void log_close(void)
{
    db_end(writer);
    db_close(writer);
}

static uint64_t log_tail(void)
{
    return GUARDED_GET(store->region.header->guarded.lsn_tail);
}

/* As if everything were in base. */
static void log_forget(void)
{
    GUARDED_SET(store->region.header->guarded.lsn_cursor, log_tail());
}

/* Append pages first .. first + pages, each with `lines` lines from its version; LSN of the
 * record. */
static uint64_t log_put(uint64_t txid, uint64_t first, uint64_t pages, unsigned lines)
{
    uint8_t content[DAX_PAGE_BYTES];
    uint64_t lsn = log_tail();
    uint64_t bitmap = lines == 64 ? UINT64_MAX : ((UINT64_C(1) << lines) - 1) << (64 - lines) / 2;
    db_ok(log_reserve(store, log_record_bytes(pages, pages * lines, 0), &err));
    log_begin(store, pages, 0, false);
    for (uint64_t i = 0; i < pages; i++) {
        db_fill(content, first + i, txid);
        log_add_page(store, first + i, bitmap, content);
    }
    db_ok(log_append(store, txid, (first + pages) * DB_PAGE, 0, 0, &err));
    db_must(log_tail() - lsn == log_record_bytes(pages, pages * lines, 0), "record's length");
    return lsn;
}

static bool log_valid(uint64_t lsn)
{
    bool valid;
    db_ok(log_read(store, lsn, &valid, &err));
    return valid;
}

/* The record in the buffer is what log_put has built. */
static void log_check(uint64_t txid, uint64_t first, uint64_t pages, unsigned lines)
{
    const uint8_t *b = store->log.buffer;
    const uint8_t *line = b + log_record_bytes(pages, 0, 0);
    uint8_t content[DAX_PAGE_BYTES];
    struct record_header h;
    memcpy(&h, b, sizeof h);
    db_must(h.txid == txid && h.page_count == pages && h.pair_count == 0 && h.list_page == 0 &&
                h.size_bytes == (first + pages) * DB_PAGE && h.flags == 0 &&
                h.length_lines * DAX_LINE_BYTES == log_record_bytes(pages, pages * lines, 0),
            "header of transaction %llu", (unsigned long long)txid);
    for (uint64_t i = 0; i < pages; i++) {
        struct record_page d;
        memcpy(&d, b + sizeof h + i * sizeof d, sizeof d);
        db_must(d.page == first + i && __builtin_popcountll(d.bitmap) == (int)lines,
                "descriptor %llu", (unsigned long long)i);
        db_fill(content, d.page, txid);
        for (unsigned k = 0; k < 64; k++)
            if (d.bitmap >> k & 1) {
                db_must(memcmp(line, content + k * DAX_LINE_BYTES, DAX_LINE_BYTES) == 0, "line %u",
                        k);
                line += DAX_LINE_BYTES;
            }
    }
}

static uint8_t *ring_at(uint64_t lsn)
{
    return store->sidecar.ring + lsn % store->sidecar.ring_bytes;
}

/* --- building and reading --------------------------------------------------------------------- */

START_TEST(test_records_of_all_shapes_are_read_back_wherever_the_ring_ends)
{
    log_open(RING_SMALL);
    uint64_t ring = store->sidecar.ring_bytes, start = log_tail();
    bool split_header_end = false, split_descriptors = false, split_lines = false;
    for (uint64_t txid = 1; log_tail() - start < 200 * ring; txid++) {
        uint64_t pages = 1 + txid * 7 % 11;
        unsigned lines = (unsigned)(1 + txid * 13 % 64);
        uint64_t lsn = log_put(txid, txid % 100, pages, lines);
        db_must(log_valid(lsn), "transaction %llu is not read back", (unsigned long long)txid);
        log_check(txid, txid % 100, pages, lines);
        db_must(!log_valid(log_tail()), "a record behind the tail");
        uint64_t before_end = ring - lsn % ring, head = log_record_bytes(pages, 0, 0);
        split_header_end |= before_end == DAX_LINE_BYTES;
        split_descriptors |= before_end > DAX_LINE_BYTES && before_end < head;
        split_lines |= before_end >= head && before_end < log_tail() - lsn;
        log_forget();
    }
    ck_assert(split_header_end && split_descriptors && split_lines);
    log_close();
}
END_TEST

START_TEST(test_space_is_what_lies_between_tail_and_cursor)
{
    log_open(RING_SMALL);
    uint64_t ring = store->sidecar.ring_bytes;
    log_forget();
    ck_assert_uint_eq(log_live(store), 0);
    ck_assert_uint_eq(log_free_with_reserve(store), ring);
    ck_assert_uint_eq(log_free(store), ring - ring / DAX_RING_RESERVE_PART);
    ck_assert_uint_eq(log_record_limit(store), ring / DAX_RING_RECORD_PART);
    uint64_t txid = 1, bytes = log_record_bytes(2, 128, 0);
    for (; log_free_with_reserve(store) >= bytes; txid++) {
        uint64_t live = log_live(store), free_bytes = log_free(store);
        log_put(txid, 1, 2, 64);
        ck_assert_uint_eq(log_live(store), live + bytes);
        ck_assert_uint_eq(log_free(store), free_bytes > bytes ? free_bytes - bytes : 0);
    }
    /* One more would go over live records: a failed check, and the ring stays as it is. */
    uint8_t content[DAX_PAGE_BYTES] = {0};
    uint64_t tail = log_tail();
    log_begin(store, 2, 0, false);
    log_add_page(store, 1, UINT64_MAX, content);
    log_add_page(store, 2, UINT64_MAX, content);
    unit_fails(log_append(store, txid, 0, 0, 0, &err), DAX_CORRUPT, "does not fit");
    ck_assert_uint_eq(log_tail(), tail);
    ck_assert(atomic_load(&store->failed) != 0);
    db_end(writer);
    unit_fails(conn_close(writer, &err), DAX_CORRUPT, "does not fit");
}
END_TEST

START_TEST(test_pairs_and_lists_are_counted_and_noted)
{
    log_open(0);
    struct region_guarded *g = &store->region.header->guarded;
    unit_ok(log_reserve(store, log_record_bytes(1, 3, 5), &err));
    uint8_t content[DAX_PAGE_BYTES];
    db_fill(content, 9, 1);
    log_begin(store, 1, 5, false);
    log_add_page(store, 9, 7, content);
    for (uint64_t i = 0; i < 5; i++)
        log_add_pair(store, 20 + i, 1000 + i);
    uint64_t lsn = log_tail();
    unit_ok(log_append(store, 2, 30 * DB_PAGE, 0, 0, &err));
    ck_assert_uint_eq(log_tail() - lsn, log_record_bytes(1, 3, 5));
    ck_assert_uint_eq(GUARDED_GET(g->scratch_lsn), log_tail());
    ck_assert_uint_eq(GUARDED_GET(g->log_high), 25);
    ck_assert(log_valid(lsn));
    struct record_header h;
    struct record_pair pair[5];
    memcpy(&h, store->log.buffer, sizeof h);
    memcpy(pair, store->log.buffer + sizeof h + sizeof(struct record_page), sizeof pair);
    ck_assert_uint_eq(h.page_count, 1);
    ck_assert_uint_eq(h.pair_count, 5);
    for (uint64_t i = 0; i < 5; i++) {
        ck_assert_uint_eq(pair[i].page, 20 + i);
        ck_assert_uint_eq(pair[i].scratch, 1000 + i);
    }

    /* The list itself elsewhere: any number of pairs in two lines. */
    lsn = log_tail();
    log_begin(store, 0, 0, true);
    log_add_list(store, 0x1234, 1000000, 77);
    unit_ok(log_append(store, 3, 77 * DB_PAGE, DAX_RECORD_LIST_IN_SCRATCH, 4096, &err));
    ck_assert_uint_eq(log_tail() - lsn, log_record_bytes_listed(0, 0));
    ck_assert_uint_eq(log_tail() - lsn, 2 * DAX_LINE_BYTES);
    ck_assert_uint_eq(GUARDED_GET(g->scratch_lsn), log_tail());
    ck_assert_uint_eq(GUARDED_GET(g->log_high), 77);
    ck_assert(log_valid(lsn));
    struct record_list list;
    memcpy(&h, store->log.buffer, sizeof h);
    memcpy(&list, store->log.buffer + sizeof h, sizeof list);
    ck_assert_uint_eq(h.pair_count, 1000000);
    ck_assert_uint_eq(h.list_page, 4096);
    ck_assert_uint_eq(h.flags, DAX_RECORD_LIST_IN_SCRATCH);
    ck_assert_uint_eq(list.hash, 0x1234);
    GUARDED_SET(g->scratch_lsn, 0);
    log_forget();
    log_close();
}
END_TEST

/* --- what is not a record --------------------------------------------------------------------- */

/* Power can fail with any line not stored; one is enough to make the record none. */
START_TEST(test_a_record_with_any_line_torn_is_no_record)
{
    log_open(RING_SMALL);
    log_put(1, 1, 3, 20); /* not at the ring's start */
    uint64_t lsn = log_put(2, 5, 7, 24), end = log_tail();
    for (uint64_t at = lsn; at < end; at += DAX_LINE_BYTES) {
        uint8_t saved[DAX_LINE_BYTES], *line = ring_at(at);
        memcpy(saved, line, sizeof saved);
        for (unsigned bit = 0; bit < DAX_LINE_BYTES * 8; bit += at == lsn ? 1 : 37) {
            line[bit / 8] ^= (uint8_t)(1u << bit % 8);
            db_must(!log_valid(lsn), "line %llu, bit %u: taken for whole",
                    (unsigned long long)((at - lsn) / DAX_LINE_BYTES), bit);
            memcpy(line, saved, sizeof saved);
        }
        memset(line, 0, sizeof saved); /* never stored */
        db_must(!log_valid(lsn), "line of zeros taken for whole");
        memcpy(line, saved, sizeof saved);
    }
    ck_assert(log_valid(lsn));
    log_check(2, 5, 7, 24);
    log_forget();
    log_close();
}
END_TEST

START_TEST(test_a_record_belongs_to_one_place_and_one_salt)
{
    log_open(RING_SMALL);
    struct region_guarded *g = &store->region.header->guarded;
    uint64_t lsn = log_put(1, 1, 3, 20), salt = GUARDED_GET(g->salt);
    ck_assert(log_valid(lsn));
    /* The next lap of the ring finds it at the same place. */
    ck_assert(!log_valid(lsn + store->sidecar.ring_bytes));
    ck_assert(!log_valid(lsn - store->sidecar.ring_bytes));
    for (unsigned i = 1; i < 20; i++)
        ck_assert(!log_valid(lsn + i * DAX_LINE_BYTES));
    GUARDED_SET(g->salt, salt + 1);
    ck_assert(!log_valid(lsn));
    GUARDED_SET(g->salt, salt);
    ck_assert(log_valid(lsn));
    /* Nor can it be moved. */
    memcpy(ring_at(lsn + 8192), ring_at(lsn), log_tail() - lsn);
    ck_assert(!log_valid(lsn + 8192));
    log_forget();
    log_close();
}
END_TEST

struct forgery {
    size_t at, len;
    uint64_t value;
};

/* The hash fits, the counts do not: bytes from media are input. */
START_TEST(test_counts_that_contradict_each_other_are_no_record)
{
    static const struct forgery forgeries[] = {
        {offsetof(struct record_header, length_lines), 4, 0},
        {offsetof(struct record_header, length_lines), 4, 1},
        {offsetof(struct record_header, length_lines), 4, UINT32_MAX},
        {offsetof(struct record_header, page_count), 4, 0},
        {offsetof(struct record_header, page_count), 4, 5},
        {offsetof(struct record_header, page_count), 4, UINT32_MAX},
        {offsetof(struct record_header, page_count), 4, 0x10000000},
        {offsetof(struct record_header, pair_count), 4, 1000},
        {offsetof(struct record_header, pair_count), 4, UINT32_MAX},
        {offsetof(struct record_header, flags), 4, 4},
        {offsetof(struct record_header, flags), 4, 0x80000000},
        {sizeof(struct record_header) + offsetof(struct record_page, bitmap), 8, UINT64_MAX},
        {sizeof(struct record_header) + offsetof(struct record_page, bitmap), 8, 0},
    };
    log_open(RING_SMALL);
    uint64_t lsn = log_put(1, 1, 3, 20), bytes = log_tail() - lsn;
    ck_assert_uint_le(lsn % RING_SMALL + bytes, RING_SMALL);
    uint8_t *record = ring_at(lsn), saved[8192];
    ck_assert_uint_le(bytes, sizeof saved);
    memcpy(saved, record, bytes);
    for (size_t i = 0; i < sizeof forgeries / sizeof *forgeries; i++) {
        const struct forgery *f = &forgeries[i];
        struct record_header h;
        memcpy(record + f->at, &f->value, f->len);
        memcpy(&h, record, sizeof h);
        uint64_t covered = (uint64_t)h.length_lines * DAX_LINE_BYTES;
        covered = covered < DAX_LINE_BYTES || covered > bytes ? bytes : covered;
        uint64_t hash = hash_bytes(record + sizeof hash, covered - sizeof hash);
        memcpy(record, &hash, sizeof hash);
        db_must(!log_valid(lsn), "forgery %zu is taken for a record", i);
        memcpy(record, saved, bytes);
    }
    ck_assert(log_valid(lsn));
    log_forget();
    log_close();
}
END_TEST

/* --- the log's end or damage ------------------------------------------------------------------ */

START_TEST(test_damage_in_the_middle_is_told_from_the_end_of_the_log)
{
    enum {
        RECORDS = 9
    };
    log_open(RING_SMALL);
    uint64_t lsn[RECORDS], found;
    /* So that the live records wrap. */
    while (RING_SMALL - log_tail() % RING_SMALL > 4096) {
        log_put(1, 1, 1, 30);
        log_forget();
    }
    for (unsigned i = 0; i < RECORDS; i++)
        lsn[i] = log_put(2 + i, i, 1 + i % 3, 10 + i);
    ck_assert_uint_lt(lsn[RECORDS - 1] % RING_SMALL, lsn[0] % RING_SMALL);
    for (unsigned i = 0; i < RECORDS; i++) {
        uint8_t *byte = ring_at(lsn[i] + 100);
        *byte ^= 1;
        ck_assert(!log_valid(lsn[i]));
        unit_ok(log_find_later(store, lsn[i], &found, &err));
        ck_assert_uint_eq(found, i + 1 < RECORDS ? lsn[i + 1] : 0);
        *byte ^= 1;
    }
    /* Several in a row. */
    for (unsigned i = 3; i < 7; i++)
        *ring_at(lsn[i] + 20) ^= 1;
    unit_ok(log_find_later(store, lsn[3], &found, &err));
    ck_assert_uint_eq(found, lsn[7]);
    for (unsigned i = 3; i < RECORDS; i++)
        *ring_at(lsn[i] + 21) ^= 1;
    unit_ok(log_find_later(store, lsn[3], &found, &err));
    ck_assert_uint_eq(found, 0);
    /* What is older than the end of the log is not taken for something behind it. */
    unit_ok(log_find_later(store, log_tail(), &found, &err));
    ck_assert_uint_eq(found, 0);
    log_forget();
    log_close();
}
END_TEST

START_TEST(test_padding_of_an_earlier_record_is_not_in_a_later_one)
{
    log_open(RING_SMALL);
    uint8_t content[DAX_PAGE_BYTES], first[2 * DAX_LINE_BYTES];
    db_fill(content, 1, 1);
    for (unsigned round = 0; round < 2; round++) {
        uint64_t lsn = log_put(1, 1, 1, 1);
        ck_assert(log_valid(lsn));
        const uint8_t *descriptors = store->log.buffer + sizeof(struct record_header);
        for (unsigned i = sizeof(struct record_page); i < DAX_LINE_BYTES; i++)
            ck_assert_uint_eq(descriptors[i], 0);
        if (round == 0) {
            memcpy(first, descriptors, sizeof first);
            log_put(1, 1, 5, 64); /* leaves its descriptors in the buffer */
        } else {
            ck_assert_int_eq(memcmp(first, descriptors, sizeof first), 0);
        }
        log_forget();
    }
    log_close();
}
END_TEST

int main(void)
{
    TCase *tc = db_case("log", 300);
    tcase_add_test(tc, test_records_of_all_shapes_are_read_back_wherever_the_ring_ends);
    tcase_add_test(tc, test_space_is_what_lies_between_tail_and_cursor);
    tcase_add_test(tc, test_pairs_and_lists_are_counted_and_noted);
    tcase_add_test(tc, test_a_record_with_any_line_torn_is_no_record);
    tcase_add_test(tc, test_a_record_belongs_to_one_place_and_one_salt);
    tcase_add_test(tc, test_counts_that_contradict_each_other_are_no_record);
    tcase_add_test(tc, test_damage_in_the_middle_is_told_from_the_end_of_the_log);
    tcase_add_test(tc, test_padding_of_an_earlier_record_is_not_in_a_later_one);
    return db_main(tc, "log");
}
