/* test_region.c: would catch parts of the shared region that overlap or are misaligned (readers
 * would write each other's cache lines), address space too small for the limits, a region that
 * costs memory before it is used, and a pointer in what is to be shared between processes.
 */
#include "tests/unit/db.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include "engine/region.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static uint8_t *end_of(const void *start, size_t bytes)
{
    return (uint8_t *)(uintptr_t)start + bytes;
}

START_TEST(test_the_parts_follow_each_other_aligned_and_large_enough)
{
    struct region r;
    unit_ok(region_create(&r, &err));
    ck_assert_ptr_eq(r.header, r.map);
    ck_assert(end_of(r.header, sizeof *r.header) <= (uint8_t *)r.slots);
    ck_assert(end_of(r.slots, DAX_MAX_SLOTS * sizeof *r.slots) <= (uint8_t *)r.words);
    ck_assert(end_of((void *)r.words, DAX_MAX_PAGES * sizeof *r.words) <= (uint8_t *)r.nodes);
    ck_assert(end_of(r.nodes, (size_t)DAX_MAX_NODES * sizeof *r.nodes) <= r.frames);
    ck_assert(end_of(r.frames, (size_t)DAX_MAX_NODES * DAX_PAGE_BYTES) <=
              end_of(r.map, r.map_bytes));
    ck_assert_uint_eq((uintptr_t)r.slots % 64, 0);
    ck_assert_uint_eq((uintptr_t)r.words % 64, 0);
    ck_assert_uint_eq((uintptr_t)r.nodes % 64, 0);
    ck_assert_uint_eq((uintptr_t)r.frames % DAX_PAGE_BYTES, 0);
    ck_assert_ptr_eq(region_frame(&r, 7), r.frames + 7 * DAX_PAGE_BYTES);
    region_destroy(&r);
    ck_assert_ptr_null(r.map);
    region_destroy(&r); /* harmless */
}
END_TEST

START_TEST(test_what_different_threads_write_lies_in_different_lines)
{
    struct region r;
    unit_ok(region_create(&r, &err));
    const void *const apart[] = {
        &r.header->last_committed, &r.header->commits,          &r.header->writer,
        &r.header->slot_high,      &r.header->guarded,          &r.slots[0].snapshot,
        &r.slots[0].pins,          &r.slots[0].reads_copied,    &r.slots[1].snapshot,
        &r.slots[1].pins,          &r.slots[DAX_MAX_SLOTS - 1],
    };
    enum {
        APART = sizeof apart / sizeof *apart
    };
    for (unsigned i = 0; i < APART; i++)
        for (unsigned k = 0; k < i; k++)
            ck_assert_uint_ne((uintptr_t)apart[i] / 64, (uintptr_t)apart[k] / 64);
    ck_assert_uint_eq(sizeof(struct slot) % 64, 0);
    ck_assert_uint_eq((uintptr_t)r.slots[0].pins % 64, 0);
    region_destroy(&r);
}
END_TEST

START_TEST(test_a_fresh_region_is_zero_and_usable_to_its_limits)
{
    struct region r;
    unit_ok(region_create(&r, &err));
    ck_assert_uint_eq(r.header->magic, REGION_MAGIC);
    ck_assert_uint_eq(r.header->version, REGION_VERSION);
    ck_assert_uint_eq(GUARDED_GET(r.header->guarded.fresh), 1); /* node 0 means none */
    ck_assert_uint_eq(atomic_load(&r.header->last_committed), 0);
    ck_assert_uint_eq(atomic_load(&r.header->writer), 0);
    for (unsigned i = 0; i < DAX_MAX_SLOTS; i += 511)
        ck_assert_uint_eq(atomic_load(&r.slots[i].claimed), 0);
    ck_assert_uint_eq(atomic_load(&r.words[DAX_MAX_PAGES - 1]), 0);
    atomic_store(&r.words[DAX_MAX_PAGES - 1], UINT64_MAX);
    atomic_store(&r.words[0], UINT64_MAX);
    atomic_store(&r.slots[DAX_MAX_SLOTS - 1].pins[DAX_SLOT_PINS - 1], UINT64_MAX);
    memset(&r.nodes[DAX_MAX_NODES - 1], 0xFF, sizeof r.nodes[0]);
    memset(region_frame(&r, DAX_MAX_NODES - 1), 0xFF, DAX_PAGE_BYTES);
    ck_assert_uint_eq(GUARDED_GET(r.nodes[0].txid), 0);
    ck_assert_uint_eq(region_frame(&r, 1)[0], 0);
    region_destroy(&r);
}
END_TEST

/* Nobody pays for the limits: pages appear when they are touched. */
START_TEST(test_a_region_costs_memory_only_where_it_was_touched)
{
    static unsigned char resident[1 << 16];
    struct region r;
    unit_ok(region_create(&r, &err));
    uint64_t pages = 0;
    memset(region_frame(&r, 1000), 1, DAX_PAGE_BYTES);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *start = i ? r.frames : (uint8_t *)r.words;
        memset(resident, 0, sizeof resident);
        ck_assert_int_eq(mincore(start, sizeof resident * DAX_PAGE_BYTES, resident), 0);
        for (size_t k = 0; k < sizeof resident; k++)
            pages += resident[k] & 1;
    }
    ck_assert_uint_ge(pages, 1);
    ck_assert_uint_le(pages, 512 + 1); /* the system may have chosen one huge page */
    region_destroy(&r);
}
END_TEST

/* Indices only: a copy of the touched parts at another address means the same. */
START_TEST(test_nothing_in_a_region_says_where_it_is)
{
    const char *path = unit_path("app.db");
    struct conn *c = db_open(path), *reader = db_open(path);
    db_write(c, 0, 30, 1);
    unit_ok(conn_begin_read(reader, &err));
    db_write(c, 0, 30, 2);
    const struct region *r = &c->store->region;
    uintptr_t low = (uintptr_t)r->map, high = low + r->map_bytes;
    const struct {
        const void *start;
        size_t bytes;
    } parts[] = {{r->header, sizeof *r->header},
                 {r->slots, 4 * sizeof *r->slots},
                 {(const void *)r->words, 64 * sizeof *r->words},
                 {r->nodes, 256 * sizeof *r->nodes}};
    for (unsigned i = 0; i < 4; i++)
        for (size_t at = 0; at < parts[i].bytes; at += sizeof(uintptr_t)) {
            uintptr_t v;
            memcpy(&v, (const uint8_t *)parts[i].start + at, sizeof v);
            db_must(v < low || v >= high, "part %u, byte %zu is an address of the region", i, at);
        }
    conn_end_read(reader);
    db_close(reader);
    db_close(c);
}
END_TEST

START_TEST(test_no_address_space_is_an_error_that_says_what_to_check)
{
    if (SANITIZED)
        return; /* the sanitizer's own memory would not fit either */
    struct rlimit limit = {8 * DAX_GIB, 8 * DAX_GIB};
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
    struct region r;
    unit_fails(region_create(&r, &err), DAX_NOMEM, "ulimit -v");
    ck_assert_ptr_null(r.map);
    region_destroy(&r);
    struct dax_options o = db_options();
    struct conn *c;
    o.create = true;
    unit_fails(conn_open(unit_path("app.db"), &o, &c, &err), DAX_NOMEM, "address space");
}
END_TEST

int main(void)
{
    TCase *tc = db_case("region", 120);
    tcase_add_test(tc, test_the_parts_follow_each_other_aligned_and_large_enough);
    tcase_add_test(tc, test_what_different_threads_write_lies_in_different_lines);
    tcase_add_test(tc, test_a_fresh_region_is_zero_and_usable_to_its_limits);
    tcase_add_test(tc, test_a_region_costs_memory_only_where_it_was_touched);
    tcase_add_test(tc, test_nothing_in_a_region_says_where_it_is);
    tcase_add_test(tc, test_no_address_space_is_an_error_that_says_what_to_check);
    return db_main(tc, "region");
}
