/* test_chain.c: would catch a snapshot that finds the wrong version, a version dropped while
 * somebody sees it or kept when nobody does, a lost or doubled entry in the list of heads, and a
 * walk that does not end on nodes that are being reused.
 *
 * Chains are made by hand on pages of a real store, whose base holds version 1 of all of them.
 */
#include "tests/unit/db.h"

#include "engine/chain.h"
#include "engine/frames.h"

#define PAGES 8u

static struct conn *writer;
static struct store *store;

static void chain_open(void)
{
    writer = db_open(unit_path("app.db"));
    db_write(writer, 0, PAGES, 1);
    db_begin(writer);
    store = writer->store;
    ck_assert(frames_validate(&store->region));
}

static void chain_check_validity(void)
{
    ck_assert(frames_validate(&store->region));
    for (uint64_t page = 0; page < PAGES; page++)
        ck_assert_msg(chain_validate(store, page), "page %llu", (unsigned long long)page);
}

/* Chains made by hand are in no log: they have to go before the store closes. */
static void chain_close(void)
{
    for (uint64_t page = 0; page < PAGES; page++)
        ck_assert(chain_clear(store, page, PAGE_MAPPED));
    frames_reclaim(&store->region, &store->scan, UINT32_MAX);
    ck_assert_uint_eq(GUARDED_GET(store->region.header->guarded.pages_versioned), 0);
    ck_assert_uint_eq(GUARDED_GET(store->region.header->guarded.nodes_used), 0);
    chain_check_validity();
    db_end(writer);
    db_close(writer);
}

/* A node with the version's content, txid and storage. */
static uint32_t chain_node(uint64_t page, uint64_t txid, uint64_t storage)
{
    uint32_t node =
        storage == NODE_BASE ? frames_take_marker(&store->region) : frames_take(&store->region);
    ck_assert_uint_ne(node, 0);
    if (storage != NODE_BASE)
        db_fill(region_frame(&store->region, node), page, txid);
    GUARDED_SET(store->region.nodes[node].txid, txid);
    GUARDED_SET(store->region.nodes[node].storage, storage);
    return node;
}

static uint32_t chain_add(uint64_t page, uint64_t txid)
{
    uint32_t node = chain_node(page, txid, NODE_FRAME);
    ck_assert(chain_push(store, page, node));
    return node;
}

/* The version that a snapshot sees, from its bytes. */
static uint64_t chain_seen(uint64_t page, uint64_t snapshot)
{
    struct version v;
    ck_assert(chain_find(&store->region, pageword_load(&store->region, page), snapshot, &v));
    return db_version(chain_address(store, page, &v), page);
}

static uint32_t chain_length(uint64_t page)
{
    uint32_t n = 0, node = pageword_node(pageword_load(&store->region, page));
    for (; node; node = atomic_load(&store->region.nodes[node].older))
        n++;
    return n;
}

static uint32_t chain_generation(uint64_t page)
{
    return pageword_generation(pageword_load(&store->region, page));
}

/* As if these snapshots were in use. */
static void chain_scan(const uint64_t *snapshots, size_t count)
{
    memcpy(store->scan.snapshots, snapshots, count * sizeof *snapshots);
    store->scan.snapshot_count = count;
    store->scan.pin_count = 0;
}

/* --- push and find ---------------------------------------------------------------------------- */

START_TEST(test_each_snapshot_finds_the_newest_version_not_above_it)
{
    chain_open();
    static const uint64_t txids[] = {10, 11, 20, 30};
    for (unsigned i = 0; i < 4; i++) {
        uint32_t before = chain_generation(3);
        chain_add(3, txids[i]);
        ck_assert_uint_eq(chain_generation(3), before + 1);
        chain_check_validity();
    }
    for (uint64_t snapshot = 1; snapshot < 40; snapshot++)
        ck_assert_uint_eq(chain_seen(3, snapshot), snapshot < 10   ? 1
                                                   : snapshot < 11 ? 10
                                                   : snapshot < 20 ? 11
                                                   : snapshot < 30 ? 20
                                                                   : 30);
    struct version v;
    chain_newest(store, 3, &v);
    ck_assert_uint_eq(v.txid, 30);
    ck_assert_uint_eq(v.storage, NODE_FRAME);
    chain_newest(store, 4, &v);
    ck_assert_uint_eq(v.node, 0);
    ck_assert_uint_eq(v.storage, NODE_BASE);
    ck_assert_ptr_eq(chain_address(store, 4, &v), base_at(&store->base, 4 * DB_PAGE));
    ck_assert_uint_eq(chain_seen(4, 5), 1);
    struct page_info info;
    conn_page_info(writer, 3, &info);
    ck_assert_uint_eq(info.versions, 4);
    chain_close();
}
END_TEST

START_TEST(test_a_marker_says_that_base_is_newer_than_what_follows)
{
    chain_open();
    /* Version 1 has been saved to a frame, base holds what is called version 20. */
    chain_add(2, 5);
    ck_assert(chain_push(store, 2, chain_node(2, 20, NODE_BASE)));
    chain_check_validity();
    struct version v;
    ck_assert(chain_find(&store->region, pageword_load(&store->region, 2), 25, &v));
    ck_assert_uint_eq(v.storage, NODE_BASE);
    ck_assert_uint_eq(v.txid, 20);
    ck_assert_ptr_eq(chain_address(store, 2, &v), base_at(&store->base, 2 * DB_PAGE));
    ck_assert_uint_eq(chain_seen(2, 19), 5);
    chain_add(2, 30);
    ck_assert_uint_eq(chain_seen(2, 30), 30);
    chain_check_validity();
    struct page_info info;
    conn_page_info(writer, 2, &info);
    ck_assert_uint_eq(info.versions, 2); /* a marker is none */
    /* Two of them contradict each other. */
    ck_assert(chain_push(store, 2, chain_node(2, 40, NODE_BASE)));
    ck_assert(!chain_validate(store, 2));
    ck_assert(chain_clear(store, 2, PAGE_MAPPED));
    chain_close();
}
END_TEST

START_TEST(test_a_walk_over_reused_nodes_ends)
{
    chain_open();
    uint32_t node[3];
    for (unsigned i = 0; i < 3; i++)
        node[i] = chain_add(1, 100 + i);
    struct version v;
    uint64_t w = pageword_load(&store->region, 1);
    uint32_t older = atomic_load(&store->region.nodes[node[0]].older);
    atomic_store(&store->region.nodes[node[0]].older, node[2]); /* a circle */
    ck_assert(!chain_find(&store->region, w, 50, &v));
    ck_assert(chain_find(&store->region, w, 101, &v));
    ck_assert_uint_eq(v.node, node[1]);
    ck_assert(!chain_validate(store, 1));
    atomic_store(&store->region.nodes[node[0]].older, DAX_MAX_NODES + 5); /* nowhere */
    ck_assert(!chain_find(&store->region, w, 50, &v));
    atomic_store(&store->region.nodes[node[0]].older, older);
    ck_assert(chain_find(&store->region, w, 50, &v));
    chain_close();
}
END_TEST

START_TEST(test_only_a_page_that_a_commit_may_touch_gets_a_version)
{
    chain_open();
    uint32_t node = chain_node(PAGES + 5, 10, NODE_FRAME);
    /* ABSENT -> MAPPED is a first commit; a second word of it is checked as any other. */
    ck_assert(chain_push(store, PAGES + 5, node));
    ck_assert(pageword_set(&store->region, PAGES + 5, PAGE_ZAPPED, node));
    ck_assert(chain_clear(store, PAGES + 5, PAGE_TRUNCATED));
    ck_assert(!chain_clear(store, PAGES + 5, PAGE_ZAPPED));
    ck_assert(!chain_clear(store, PAGES + 5, PAGE_TRUNCATED));
    ck_assert(pageword_set(&store->region, PAGES + 5, PAGE_ABSENT, 0));
    chain_close();
}
END_TEST

/* --- trim and clear --------------------------------------------------------------------------- */

START_TEST(test_trim_keeps_exactly_what_a_snapshot_in_use_sees)
{
    chain_open();
    static const uint64_t txids[] = {10, 20, 30, 40, 50};
    /* Any set of snapshots, each one of: below, at, between, above the versions. */
    static const uint64_t where[] = {5, 10, 15, 25, 30, 45, 50, 99};
    for (unsigned set = 0; set < 256; set++) {
        uint64_t snapshots[8], seen[8];
        size_t count = 0;
        for (unsigned i = 0; i < 5; i++)
            chain_add(6, txids[i]);
        for (unsigned i = 0; i < 8; i++)
            if (set >> i & 1) {
                seen[count] = chain_seen(6, where[i]);
                snapshots[count++] = where[i];
            }
        uint32_t expected = 1; /* the newest always stays */
        for (unsigned i = 0; i < 4; i++)
            for (size_t k = 0; k < count; k++)
                if (seen[k] == txids[i]) {
                    expected++;
                    break;
                }
        uint32_t before = chain_generation(6),
                 used = GUARDED_GET(store->region.header->guarded.limbo_count);
        chain_scan(snapshots, count);
        ck_assert(chain_trim(store, 6, &store->scan));
        ck_assert_uint_eq(chain_length(6), expected);
        ck_assert_uint_eq(GUARDED_GET(store->region.header->guarded.limbo_count) - used,
                          5 - expected);
        /* A reader that has walked over a dropped node must notice. */
        ck_assert_int_eq(chain_generation(6) != before, expected != 5);
        for (size_t k = 0; k < count; k++)
            ck_assert_uint_eq(chain_seen(6, snapshots[k]), seen[k]);
        chain_check_validity();
        ck_assert(chain_clear(store, 6, PAGE_MAPPED));
        frames_reclaim(&store->region, &store->scan, UINT32_MAX);
    }
    chain_close();
}
END_TEST

START_TEST(test_trim_drops_a_marker_with_the_snapshots_that_needed_it)
{
    chain_open();
    chain_add(6, 10);
    ck_assert(chain_push(store, 6, chain_node(6, 20, NODE_BASE)));
    chain_add(6, 30);
    static const uint64_t both[] = {12, 22}, old[] = {12}, none[] = {35};
    chain_scan(both, 2);
    ck_assert(chain_trim(store, 6, &store->scan));
    ck_assert_uint_eq(chain_length(6), 3);
    chain_scan(old, 1);
    ck_assert(chain_trim(store, 6, &store->scan));
    ck_assert_uint_eq(chain_length(6), 2);
    ck_assert_uint_eq(chain_seen(6, 12), 10);
    chain_scan(none, 1);
    ck_assert(chain_trim(store, 6, &store->scan));
    ck_assert_uint_eq(chain_length(6), 1);
    ck_assert_uint_eq(chain_seen(6, 35), 30);
    uint32_t before = chain_generation(6);
    ck_assert(chain_trim(store, 6, &store->scan)); /* nothing to do */
    ck_assert(chain_trim(store, 5, &store->scan));
    ck_assert_uint_eq(chain_generation(6), before);
    chain_check_validity();
    chain_close();
}
END_TEST

/* Base's version is the marker's, or else older than the chain; the next newer one ends its time. */
START_TEST(test_base_is_unseen_when_no_snapshot_lies_in_its_versions_time)
{
    chain_open();
    static const uint64_t where[] = {5, 10, 15, 20, 25, 30, 35};
    for (unsigned i = 0; i < 7; i++) {
        chain_scan(&where[i], 1);
        /* No chain: everybody below the new version sees base. */
        ck_assert_int_eq(chain_base_unseen(store, 6, 30, &store->scan), where[i] >= 30);
        ck_assert(chain_is_home(&store->region, 6));
    }
    chain_add(6, 10);
    for (unsigned i = 0; i < 7; i++) {
        chain_scan(&where[i], 1);
        ck_assert_int_eq(chain_base_unseen(store, 6, 30, &store->scan), where[i] >= 10);
        ck_assert(!chain_is_home(&store->region, 6));
    }
    ck_assert(chain_push(store, 6, chain_node(6, 15, NODE_BASE)));
    for (unsigned i = 0; i < 7; i++) {
        chain_scan(&where[i], 1);
        ck_assert_int_eq(chain_base_unseen(store, 6, 30, &store->scan),
                         where[i] < 15 || where[i] >= 30);
        ck_assert(chain_is_home(&store->region, 6));
    }
    chain_add(6, 25);
    for (unsigned i = 0; i < 7; i++) {
        chain_scan(&where[i], 1);
        ck_assert_int_eq(chain_base_unseen(store, 6, 30, &store->scan),
                         where[i] < 15 || where[i] >= 25);
        ck_assert(!chain_is_home(&store->region, 6));
    }
    chain_scan(where, 0);
    ck_assert(chain_base_unseen(store, 6, 30, &store->scan));
    chain_close();
}
END_TEST

START_TEST(test_rebase_leaves_one_marker_in_front_of_what_is_seen)
{
    chain_open();
    struct region *r = &store->region;
    struct version v;
    static const uint64_t old[] = {5};
    uint32_t kept = chain_add(6, 1), limbo = GUARDED_GET(r->header->guarded.limbo_count);
    uint32_t marker = chain_node(6, 10, NODE_BASE);
    ck_assert(chain_push(store, 6, marker));

    /* Its own marker: it moves, and readers notice. */
    uint32_t before = chain_generation(6);
    ck_assert(pageword_set(r, 6, PAGE_ZAPPED, marker));
    chain_scan(old, 1);
    ck_assert(chain_rebase(store, 6, 20, 0, &store->scan));
    ck_assert_uint_eq(chain_generation(6), before + 2);
    chain_newest(store, 6, &v);
    ck_assert_uint_eq(v.node, marker);
    ck_assert_uint_eq(v.txid, 20);
    ck_assert_uint_eq(v.storage, NODE_BASE);
    ck_assert_uint_eq(chain_length(6), 2);
    ck_assert_uint_eq(GUARDED_GET(r->header->guarded.limbo_count), limbo);
    chain_check_validity();

    /* One in the middle: a new one takes its place, and what was in front of it goes. */
    chain_add(6, 30);
    ck_assert(pageword_set(r, 6, PAGE_ZAPPED, pageword_node(pageword_load(r, 6))));
    uint32_t next = chain_node(6, 0, NODE_BASE);
    ck_assert(chain_rebase(store, 6, 40, next, &store->scan));
    chain_newest(store, 6, &v);
    ck_assert_uint_eq(v.node, next);
    ck_assert_uint_eq(v.txid, 40);
    ck_assert_uint_eq(chain_length(6), 2);
    ck_assert_uint_eq(GUARDED_GET(r->header->guarded.limbo_count), limbo + 2);
    ck_assert(chain_find(r, pageword_load(r, 6), 5, &v));
    ck_assert_uint_eq(v.node, kept);
    chain_check_validity();

    /* A version in between that somebody sees stays. */
    uint32_t middle = chain_add(6, 50);
    ck_assert(pageword_set(r, 6, PAGE_ZAPPED, middle));
    static const uint64_t both[] = {5, 55};
    chain_scan(both, 2);
    ck_assert(chain_rebase(store, 6, 60, chain_node(6, 0, NODE_BASE), &store->scan));
    ck_assert_uint_eq(chain_length(6), 3);
    ck_assert(chain_find(r, pageword_load(r, 6), 55, &v));
    ck_assert_uint_eq(v.node, middle);
    chain_check_validity();

    /* Nobody sees anything older: base alone. */
    ck_assert(pageword_set(r, 6, PAGE_ZAPPED, pageword_node(pageword_load(r, 6))));
    chain_scan(old, 0);
    ck_assert(chain_rebase(store, 6, 70, 0, &store->scan));
    ck_assert_uint_eq(chain_length(6), 0);
    ck_assert_int_eq(pageword_state(pageword_load(r, 6)), PAGE_MAPPED);
    chain_check_validity();
    chain_close();
}
END_TEST

START_TEST(test_clear_leaves_base_and_puts_every_node_into_limbo)
{
    chain_open();
    struct region_guarded *g = &store->region.header->guarded;
    for (uint64_t txid = 10; txid < 20; txid++)
        chain_add(7, txid);
    uint32_t limbo = GUARDED_GET(g->limbo_count);
    ck_assert(chain_clear(store, 7, PAGE_MAPPED));
    ck_assert_uint_eq(GUARDED_GET(g->limbo_count), limbo + 10);
    ck_assert_uint_eq(chain_length(7), 0);
    for (uint64_t snapshot = 1; snapshot < 30; snapshot++)
        ck_assert_uint_eq(chain_seen(7, snapshot), 1);
    /* Nodes stay away from others as long as one of them is pinned. */
    struct slot *slot = &store->region.slots[writer->slot];
    uint32_t pinned = GUARDED_GET(g->limbo);
    atomic_store(&slot->pins[0], pin_of_node(pinned));
    frames_reclaim(&store->region, &store->scan, UINT32_MAX);
    ck_assert_uint_eq(GUARDED_GET(g->limbo), pinned);
    ck_assert_uint_eq(GUARDED_GET(g->limbo_count), 1);
    atomic_store(&slot->pins[0], 0);
    chain_close();
}
END_TEST

/* --- the list of heads ------------------------------------------------------------------------ */

static bool head_listed(uint32_t head)
{
    unsigned found = 0;
    uint32_t before = 0;
    for (uint32_t node = GUARDED_GET(store->region.header->guarded.heads); node;
         before = node, node = store->region.nodes[node].next) {
        ck_assert_uint_eq(store->region.nodes[node].prev, before);
        found += node == head;
    }
    ck_assert_uint_le(found, 1);
    return found == 1;
}

START_TEST(test_the_list_of_heads_has_each_versioned_page_once)
{
    chain_open();
    struct region_guarded *g = &store->region.header->guarded;
    uint64_t random = 88172645463325252u, txid = 10;
    uint32_t head[PAGES] = {0};
    for (unsigned step = 0; step < 3000; step++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        uint64_t page = random % PAGES;
        if (random >> 20 & 3) {
            uint32_t old = head[page];
            head[page] = chain_add(page, txid++);
            db_must(!old || !head_listed(old), "a former head is still listed");
        } else {
            ck_assert(chain_clear(store, page, PAGE_MAPPED));
            head[page] = 0;
            frames_reclaim(&store->region, &store->scan, UINT32_MAX);
        }
        uint32_t count = 0;
        for (uint64_t p = 0; p < PAGES; p++) {
            db_must(!head[p] || head_listed(head[p]), "page %llu is not listed",
                    (unsigned long long)p);
            count += head[p] != 0;
        }
        db_must(GUARDED_GET(g->pages_versioned) == count, "%u pages versioned", count);
    }
    chain_check_validity();
    chain_close();
}
END_TEST

int main(void)
{
    TCase *tc = db_case("chain", 300);
    tcase_add_test(tc, test_each_snapshot_finds_the_newest_version_not_above_it);
    tcase_add_test(tc, test_a_marker_says_that_base_is_newer_than_what_follows);
    tcase_add_test(tc, test_a_walk_over_reused_nodes_ends);
    tcase_add_test(tc, test_only_a_page_that_a_commit_may_touch_gets_a_version);
    tcase_add_test(tc, test_trim_keeps_exactly_what_a_snapshot_in_use_sees);
    tcase_add_test(tc, test_trim_drops_a_marker_with_the_snapshots_that_needed_it);
    tcase_add_test(tc, test_base_is_unseen_when_no_snapshot_lies_in_its_versions_time);
    tcase_add_test(tc, test_rebase_leaves_one_marker_in_front_of_what_is_seen);
    tcase_add_test(tc, test_clear_leaves_base_and_puts_every_node_into_limbo);
    tcase_add_test(tc, test_the_list_of_heads_has_each_versioned_page_once);
    return db_main(tc, "chain");
}
