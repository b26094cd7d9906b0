/* world.c: the store of the explorer's programs: real engine, without files.
 *
 * store.c and sidecar.c are replaced by what follows; everything else of the engine that a connection
 * calls is the real code.
 */
#include "tests/interleave/bad.h"
#include "tests/interleave/world.h"

#include <stdarg.h>
#include <stdio.h>

#include "engine/chain.h"
#include "engine/checkpoint.h"
#include "engine/frames.h"
#include "engine/owner.h"
#include "engine/pin.h"
#include "engine/snapshot.h"
#include "engine/writer.h"

#define SEEN_BYTES WORLD_SEEN_BYTES
#define MAP_PAGES (2 * WORLD_PAGES)
#define SCRATCH_PAGES 8u

struct oracle {
    uint8_t version[WORLD_TXIDS][WORLD_PAGES];
    uint8_t pages[WORLD_TXIDS];
    uint64_t newest;
    unsigned last_user; /* the thread that uses the last connection, plus one */
};

struct store *world_store;
struct conn *world_conn;
static struct oracle *oracle;
static uint8_t (*new_page)[DAX_PAGE_BYTES]; /* each thread's, being written */
static uint8_t *map;                        /* the first mapping, then room for a second one */
static uint8_t *scratch;
static uint8_t ring[1 << 16], log_buffer[1 << 16] __attribute__((aligned(64)));
bool world_has_flags;
static const volatile uint64_t guard = STORE_GUARD_MAGIC;
static struct dax_err err;

/* --- what is not the engine's ------------------------------------------------------------------ */

dax_rc store_fail(struct store *s, struct dax_err *e, const char *fmt, ...)
{
    char text[200];
    (void)s;
    (void)e;
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    il_violation("a check of the engine has failed: %s", text);
    return DAX_CORRUPT;
}

dax_rc store_synced(struct store *s, dax_rc rc, const struct dax_err *e)
{
    (void)s;
    (void)e;
    return rc;
}

dax_rc store_base_synced(struct store *s, dax_rc rc, const struct dax_err *e)
{
    return store_synced(s, rc, e);
}

bool store_mended_end(struct store *s, dax_rc rc)
{
    (void)s;
    (void)rc;
    return false;
}

dax_rc store_reserve(struct store *s, uint64_t bytes, struct dax_err *e)
{
    return base_reserve(&s->base, bytes, e);
}

dax_rc store_usable(struct store *s, struct dax_err *e)
{
    (void)s;
    (void)e;
    return DAX_OK;
}

uint64_t store_size(const struct store *s)
{
    uint64_t size;
    (void)snapshot_newest(&s->region, &size);
    return size;
}

dax_rc store_activate(struct store *s, uint32_t slot, struct dax_err *e)
{
    (void)s;
    (void)slot;
    (void)e;
    return DAX_OK;
}

dax_rc store_acquire(const char *path, const struct dax_options *o, struct store **out,
                     struct dax_err *e)
{
    (void)path;
    (void)o;
    *out = NULL;
    return dax_err_set(e, DAX_MISUSE, 0, "the explorer opens nothing");
}

dax_rc store_release(struct store *s, struct dax_err *e)
{
    (void)s;
    (void)e;
    return DAX_OK;
}

dax_rc sidecar_cursor_write(struct sidecar *s, struct persist *p, struct cursor_slot *c,
                            struct dax_err *e)
{
    (void)s;
    (void)c;
    return persist_point(p, PERSIST_P4_CURSOR, e);
}

dax_rc sidecar_seal(struct sidecar *s, struct persist *p, uint64_t salt, uint64_t lsn,
                    struct dax_err *e)
{
    (void)s;
    (void)salt;
    (void)lsn;
    return persist_point(p, PERSIST_P7_SEAL, e);
}

uint64_t owner_start_time(int pid)
{
    (void)pid;
    return 1;
}

static void ops_store(struct persist *p, void *to, const void *from, size_t n)
{
    (void)p;
    il_nt_store(to, from, n);
}

static void ops_zero(struct persist *p, void *to, size_t n)
{
    static const uint8_t zeros[DAX_PAGE_BYTES];
    (void)p;
    il_nt_store(to, zeros, n);
}

static void ops_fence(struct persist *p)
{
    (void)p;
    il_nt_fence();
}

static int ops_sync(struct persist *p)
{
    (void)p;
    il_nt_fence();
    return 0;
}

static void ops_flush(struct persist *p, const void *at, size_t n)
{
    (void)p;
    (void)at;
    (void)n;
}

/* A cached store is ordered better than a non-temporal one: not explored by itself. */
static const struct persist_ops ops = {.store = ops_store,
                                       .zero = ops_zero,
                                       .store_cached = ops_store,
                                       .flush = ops_flush,
                                       .fence = ops_fence,
                                       .sync_log = ops_sync,
                                       .sync_base = ops_sync};

/* --- the system --------------------------------------------------------------------------------- */

void *il_mmap(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset)
{
    (void)prot;
    (void)fd;
    (void)offset;
    if (il_self() == IL_THREADS)
        return il_arena(bytes);
    if (bytes >= DAX_SCRATCH_CHUNK_BYTES)
        return flags & MAP_FIXED ? addr : scratch;
    /* base maps the file again: first the room, then the file over it */
    uint8_t *second = map + WORLD_PAGES * DAX_PAGE_BYTES;
    if (flags & MAP_FIXED)
        for (unsigned i = 0; i < world_store->base.file_bytes / DAX_PAGE_BYTES; i++)
            memcpy(second + i * DAX_PAGE_BYTES, map + i * DAX_PAGE_BYTES, SEEN_BYTES);
    return flags & MAP_FIXED ? addr : second;
}

int il_munmap(void *addr, size_t bytes)
{
    (void)addr;
    (void)bytes;
    return 0;
}

int il_madvise(void *addr, size_t bytes, int advice)
{
    (void)advice;
    return bad_madvise(addr, bytes);
}

/* What a page of the file is now stands there; scratch pages count from the file's own start of them. */
uint8_t *world_file_at(uint64_t at)
{
    const struct base *b = &world_store->base;
    return b->scratch_start && at >= b->scratch_start ? scratch + (at - b->scratch_start)
                                                      : base_at(b, at);
}

static void file_fill(uint64_t from, uint64_t to, uint8_t byte)
{
    for (uint64_t at = from; at < to; at += DAX_PAGE_BYTES)
        memset(world_file_at(at), byte, SEEN_BYTES);
}

/* What has been cut off is gone for everybody at once. */
int il_ftruncate(int fd, off_t bytes)
{
    const struct base *b = &world_store->base;
    (void)fd;
    file_fill((uint64_t)bytes, b->file_bytes, 0xDD);
    for (unsigned i = 0; b->scratch_start && i < SCRATCH_PAGES; i++)
        memset(scratch + i * DAX_PAGE_BYTES, 0xDD, SEEN_BYTES);
    return 0;
}

int il_fallocate(int fd, int mode, off_t offset, off_t bytes)
{
    (void)fd;
    if (mode & FALLOC_FL_PUNCH_HOLE)
        return bad_punch((uint64_t)offset, (uint64_t)bytes);
    file_fill((uint64_t)offset, (uint64_t)(offset + bytes), 0);
    return 0;
}

ssize_t il_pread(int fd, void *to, size_t n, off_t at)
{
    (void)fd;
    if (!bad_may_pread((uint64_t)at))
        return -1;
    memcpy(to, world_file_at((uint64_t)at), n);
    return (ssize_t)n;
}

ssize_t il_pwrite(int fd, const void *from, size_t n, off_t at)
{
    (void)fd;
    return bad_pwrite(from, n, (uint64_t)at);
}

int il_fsync(int fd)
{
    (void)fd;
    return 0;
}

off_t il_lseek(int fd, off_t offset, int whence)
{
    (void)fd;
    (void)offset;
    (void)whence;
    return (off_t)1 << 40; /* no holes */
}

void *il_alloc(size_t bytes)
{
    if (il_self() < IL_THREADS)
        il_violation("a thread allocates %zu bytes", bytes);
    return il_arena(bytes);
}

/* --- setup ------------------------------------------------------------------------------------- */

static void page_fill(uint8_t page[DAX_PAGE_BYTES], unsigned number, unsigned version)
{
    memset(page, 0, DAX_PAGE_BYTES);
    if (number == 0)
        return; /* the header's page: not used */
    page[0] = (uint8_t)number;
    memset(page + DAX_LINE_BYTES, (int)version, DAX_LINE_BYTES);
    memset(page + 3 * DAX_LINE_BYTES, (int)version, DAX_LINE_BYTES);
}

static bool writer_is(unsigned thread)
{
    uint32_t w;
    memcpy(&w, (const void *)&world_store->region.header->writer, sizeof w);
    w &= 0x7fffffffu;
    return w == world_conn[thread].slot + 1 || (w == IL_THREADS && oracle->last_user == thread + 1);
}

static void setup_txn(struct txn *t)
{
    t->page_capacity = 8;
    t->table_mask = 15;
    t->epoch = 1;
    t->pages = il_arena(8 * sizeof *t->pages);
    t->table = il_arena(16 * sizeof *t->table);
    t->direct = il_arena(8);
    t->direct_words = 1;
    il_keep(t->pages, 8 * sizeof *t->pages, true);
    il_keep(t->table, 16 * sizeof *t->table, true);
    il_keep(t->direct, 8, true);
}

static void setup_region(struct store *s, unsigned pages)
{
    struct region *r = &s->region;
    if (region_create(r, &err) != DAX_OK)
        abort();
    struct region_header *h = r->header;
    size_t counters = offsetof(struct region_header, guarded.commits);
    il_keep(h, counters, true);
    il_keep((uint8_t *)h + counters, sizeof *h - counters, false);
    for (unsigned i = 0; i < DAX_MAX_SLOTS; i++) {
        il_keep(&r->slots[i], offsetof(struct slot, reads_copied), true);
        il_keep(&r->slots[i].reads_copied, 64, false);
        il_counters(&r->slots[i].reads_copied, 64);
    }
    il_keep((void *)r->words, DAX_MAX_PAGES * 8, true);
    il_keep(r->unflushed, sizeof *r->unflushed, true);
    il_keep(r->unflushed_lines, DAX_MAX_PAGES * 8, true);
    il_keep(r->nodes, DAX_MAX_NODES * sizeof *r->nodes, true);
    for (unsigned i = 1; i < DAX_MAX_NODES; i++)
        il_keep(region_frame(r, i), SEEN_BYTES, true);
    il_shared_bytes(r->frames, DAX_MAX_NODES * DAX_PAGE_BYTES);
    il_counters(&h->turns_given, 3 * sizeof h->turns_given);
    il_lock(writer_is);
    il_guarded(&h->guarded, sizeof h->guarded);
    il_stored_by_holder(&h->guarded, sizeof h->guarded);
    il_stored_by_holder(&h->last_committed, sizeof h->last_committed);
    il_stored_by_holder(h->commits, sizeof h->commits);
    if (!world_has_flags)
        il_stored_by_holder((void *)r->words, DAX_MAX_PAGES * 8);
    il_stored_by_holder(r->nodes, DAX_MAX_NODES * sizeof *r->nodes);
    for (unsigned i = 0; i < IL_THREADS - 1; i++) { /* any thread may end the last one's read */
        il_stored_by(&r->slots[i], offsetof(struct slot, claimed), i);
        il_stored_by(r->slots[i].pins, sizeof(struct slot) - offsetof(struct slot, pins), i);
    }
    h->initial_pages = pages;
    snapshot_publish(r, 1, (uint64_t)pages * DAX_PAGE_BYTES);
    GUARDED_SET(h->guarded.fresh_from, pages);

    il_name("header", h, sizeof *h, 0);
    il_name("commits", h->commits, sizeof h->commits, sizeof h->commits[0]);
    il_name("guarded", &h->guarded, sizeof h->guarded, 0);
    il_name("pages_versioned", &h->guarded.pages_versioned, 4, 0);
    il_name("limbo_count", &h->guarded.limbo_count, 4, 0);
    il_name("last_committed", &h->last_committed, 8, 0);
    il_name("writer", &h->writer, 4, 0);
    il_name("tidy_wanted", &h->tidy_wanted, 4, 0);
    il_name("turn_wanted", &h->turn_wanted, 4, 0);
    il_name("turn_ends", &h->turn_ends, 8, 0);
    static char slot_names[DAX_MAX_SLOTS][2][24];
    for (unsigned i = 0; i < DAX_MAX_SLOTS; i++) {
        snprintf(slot_names[i][0], 24, "slot[%u].snapshot", i);
        snprintf(slot_names[i][1], 24, "slot[%u].pins", i);
        il_name(slot_names[i][0], &r->slots[i], sizeof r->slots[i], 0);
        il_name(slot_names[i][1], r->slots[i].pins, sizeof r->slots[i].pins, 8);
    }
    il_name("words", (void *)r->words, DAX_MAX_PAGES * 8, 8);
    il_name("nodes", r->nodes, DAX_MAX_NODES * sizeof *r->nodes, sizeof *r->nodes);
    il_name("frames", r->frames, DAX_MAX_NODES * DAX_PAGE_BYTES, DAX_PAGE_BYTES);
}

static void setup_base(struct store *s, unsigned pages)
{
    map = il_arena((MAP_PAGES + SCRATCH_PAGES + 1) * DAX_PAGE_BYTES);
    map = (uint8_t *)(((uintptr_t)map + DAX_PAGE_BYTES - 1) & ~(uintptr_t)(DAX_PAGE_BYTES - 1));
    scratch = map + MAP_PAGES * DAX_PAGE_BYTES;
    memset(map, 0xEE, (MAP_PAGES + SCRATCH_PAGES) * DAX_PAGE_BYTES);
    for (unsigned i = 0; i < MAP_PAGES + SCRATCH_PAGES; i++) {
        memset(map + i * DAX_PAGE_BYTES + SEEN_BYTES, 0, DAX_PAGE_BYTES - SEEN_BYTES);
        il_keep(map + i * DAX_PAGE_BYTES, SEEN_BYTES, true);
    }
    for (unsigned i = 0; i < pages; i++)
        page_fill(map + i * DAX_PAGE_BYTES, i, 1);
    il_nontemporal(map, (MAP_PAGES + SCRATCH_PAGES) * DAX_PAGE_BYTES);
    il_shared_bytes(map, (MAP_PAGES + SCRATCH_PAGES) * DAX_PAGE_BYTES);
    s->base.fd = -1;
    s->base.path = "explorer.db";
    s->base.persist = &s->persist;
    atomic_store(&s->base.addr, map);
    atomic_store(&s->base.map_bytes, (uint64_t)pages * DAX_PAGE_BYTES);
    s->base.file_bytes = s->base.filled_bytes = (uint64_t)pages * DAX_PAGE_BYTES;
    il_stored_by_holder((void *)&s->base.addr, sizeof s->base.addr);
    il_stored_by_holder((void *)&s->base.map_bytes, sizeof s->base.map_bytes);
    s->base.scratch_chunks = il_arena(BASE_SCRATCH_CHUNKS * sizeof *s->base.scratch_chunks);
    il_keep((void *)s->base.scratch_chunks, 64, true);
    il_name("scratch", scratch, SCRATCH_PAGES * DAX_PAGE_BYTES, DAX_PAGE_BYTES);
    il_name("base", map, MAP_PAGES * DAX_PAGE_BYTES, DAX_PAGE_BYTES);
    il_name("base.addr", &s->base.addr, 8, 0);
    il_name("base.map_bytes", &s->base.map_bytes, 8, 0);
}

void world_setup(unsigned pages)
{
    struct store *s = world_store = il_arena(sizeof *s);
    world_conn = il_arena(IL_THREADS * sizeof *world_conn);
    oracle = il_arena(sizeof *oracle);
    il_keep(s, sizeof *s, true);
    il_keep(world_conn, IL_THREADS * sizeof *world_conn, true);
    il_keep(oracle, sizeof *oracle, true);
    new_page = il_arena(IL_THREADS * sizeof *new_page);
    for (unsigned i = 0; i < IL_THREADS; i++)
        il_keep(new_page[i], SEEN_BYTES, true);
    s->fork_guard = &guard;
    s->persist = (struct persist){.mode = PERSIST_VOLATILE, .ops = &ops};
    setup_region(s, pages);
    setup_base(s, pages);
    setup_txn(&s->txn);
    if (scan_create(&s->scan, &err) != DAX_OK)
        abort();
    il_keep(s->scan.snapshots, (DAX_MAX_SLOTS + 1) * 8, true);
    il_keep(s->scan.pins, DAX_MAX_SLOTS * DAX_SLOT_PINS * 8, true);
    s->pages = il_arena(16 * sizeof *s->pages);
    s->pages_capacity = 16;
    il_keep(s->pages, 16 * sizeof *s->pages, true);
    s->bitmaps = il_arena(16 * sizeof *s->bitmaps);
    il_keep(s->bitmaps, 16 * sizeof *s->bitmaps, true);
    s->log.buffer = log_buffer;
    s->log.capacity = sizeof log_buffer;
    s->sidecar.ring = ring;
    s->sidecar.ring_bytes = sizeof ring;
    atomic_store(&s->active, true);
    bad_setup_none(s);
    oracle->newest = 1;
    oracle->pages[1] = (uint8_t)pages;
    for (unsigned i = 0; i < pages; i++)
        oracle->version[1][i] = 1;
    for (unsigned i = 0; i < IL_THREADS; i++)
        world_conn[i] =
            (struct conn){.store = s, .slot = snapshot_claim_slot(&s->region), .private_limit = 16};
}

void world_claim(unsigned k)
{
    uint32_t slot = snapshot_claim_slot(&world_store->region);
    IL_MUST(slot != UINT32_MAX, "no slot is free");
    for (unsigned i = 0; i < IL_THREADS; i++)
        IL_MUST(world_conn[i].slot != slot, "slot %u is claimed twice", slot);
    world_conn[k].slot = slot;
}

/* --- readers ----------------------------------------------------------------------------------- */

static void begin_with(unsigned k, dax_rc (*begin)(struct conn *, struct dax_err *))
{
    struct conn *c = &world_conn[k];
    if (begin(c, &err) != DAX_OK)
        il_violation("begin_read: %s", err.text);
    uint64_t pages = oracle->pages[c->snapshot];
    IL_MUST(c->size_bytes == pages * DAX_PAGE_BYTES, "snapshot %llu has %llu bytes, not %llu pages",
            (unsigned long long)c->snapshot, (unsigned long long)c->size_bytes,
            (unsigned long long)pages);
}

void world_begin(unsigned k)
{
    begin_with(k, conn_begin_read);
}

void world_begin_in_turn(unsigned k)
{
    world_conn[k].refused = true;
    world_conn[k].ticket = k + 1;
    begin_with(k, conn_begin_read_in_turn);
}

void world_end(unsigned k)
{
    if (k != il_self())
        oracle->last_user = il_self() + 1;
    conn_end_read(&world_conn[k]);
}

void world_check(unsigned k, unsigned page, const uint8_t *at, const char *how)
{
    uint64_t snapshot = world_conn[k].snapshot;
    unsigned want = oracle->version[snapshot][page];
    IL_MUST(at[0] == page && at[64] == want && at[127] == want && at[192] == want &&
                at[255] == want,
            "page %u of snapshot %llu, %s: is page %u with versions %u and %u, must be %u", page,
            (unsigned long long)snapshot, how, at[0], at[64], at[192], want);
}

const uint8_t *world_take(unsigned k, unsigned page)
{
    void *at = NULL;
    if (conn_pin(&world_conn[k], (uint64_t)page * DAX_PAGE_BYTES, DAX_PAGE_BYTES, &at, &err) !=
            DAX_OK ||
        !at)
        il_violation("pin: %s", err.text);
    return at;
}

void world_look(unsigned k, unsigned page, const uint8_t *at)
{
    il_point("look at the page");
    world_check(k, page, at, "pinned");
}

void world_drop(unsigned k, unsigned page, const uint8_t *at)
{
    conn_unpin(&world_conn[k], (uint64_t)page * DAX_PAGE_BYTES, (void *)(uintptr_t)at);
}

void world_pin(unsigned k, unsigned page)
{
    const uint8_t *at = world_take(k, page);
    world_look(k, page, at);
    world_look(k, page, at);
    world_drop(k, page, at);
}

void world_copy(unsigned k, unsigned page)
{
    uint8_t copy[SEEN_BYTES];
    if (conn_read(&world_conn[k], copy, sizeof copy, (uint64_t)page * DAX_PAGE_BYTES, &err) !=
        DAX_OK)
        il_violation("read: %s", err.text);
    world_check(k, page, copy, "copied");
}

void world_pin_two(unsigned k, unsigned page)
{
    void *at = NULL;
    if (conn_pin(&world_conn[k], (uint64_t)page * DAX_PAGE_BYTES, 2 * DAX_PAGE_BYTES, &at, &err) !=
        DAX_OK)
        il_violation("pin: %s", err.text);
    if (!at)
        return; /* not side by side: SQLite would read a copy */
    world_look(k, page, at);
    world_look(k, page + 1, (const uint8_t *)at + DAX_PAGE_BYTES);
    world_look(k, page, at);
    world_drop(k, page, at);
}

void world_newest(void)
{
    uint64_t size, txid = snapshot_newest(&world_store->region, &size);
    IL_MUST(size == (uint64_t)oracle->pages[txid] * DAX_PAGE_BYTES,
            "transaction %llu has %llu bytes, not %u pages", (unsigned long long)txid,
            (unsigned long long)size, oracle->pages[txid]);
}

/* --- writers ----------------------------------------------------------------------------------- */

static void write_pages(struct conn *c, unsigned page_mask, unsigned pages, uint64_t txid)
{
    uint8_t *page = new_page[c->slot];
    memcpy(oracle->version[txid], oracle->version[c->snapshot], WORLD_PAGES);
    for (unsigned i = 1; i < pages; i++) {
        if (!(page_mask >> i & 1))
            continue;
        page_fill(page, i, (unsigned)txid);
        if (conn_write(c, page, DAX_PAGE_BYTES, (uint64_t)i * DAX_PAGE_BYTES, &err) != DAX_OK)
            il_violation("write: %s", err.text);
        oracle->version[txid][i] = (uint8_t)txid;
    }
}

static void commit_pages(unsigned k, unsigned page_mask, unsigned resize)
{
    struct conn *c = &world_conn[k];
    uint64_t txid = c->snapshot + 1;
    unsigned pages = resize ? resize : oracle->pages[c->snapshot];
    oracle->pages[txid] = (uint8_t)pages;
    if (pages < oracle->pages[c->snapshot] &&
        conn_truncate(c, (uint64_t)pages * DAX_PAGE_BYTES, &err) != DAX_OK)
        il_violation("truncate: %s", err.text);
    write_pages(c, page_mask, pages, txid);
    if (conn_commit(c, &err) != DAX_OK)
        il_violation("commit: %s", err.text);
    if (c->snapshot != txid)
        il_violation("committed %llu, not %llu", (unsigned long long)c->snapshot,
                     (unsigned long long)txid);
    oracle->newest = txid;
}

static void lock_to_write(unsigned k)
{
    struct conn *c = &world_conn[k];
    for (;;) {
        if (!c->reading)
            world_begin(k);
        dax_rc rc = c->writing ? DAX_OK : conn_begin_write(c, &err);
        if (rc == DAX_OK)
            return;
        if (rc != DAX_BUSY && rc != DAX_BUSY_SNAPSHOT)
            il_violation("begin_write: %s", err.text);
        world_end(k);
    }
}

void world_commit_keeping_lock(unsigned k, unsigned page_mask)
{
    lock_to_write(k);
    commit_pages(k, page_mask, 0);
}

void world_write(unsigned k, unsigned page_mask, unsigned resize)
{
    lock_to_write(k);
    commit_pages(k, page_mask, resize);
    conn_end_write(&world_conn[k]);
}

void world_commit(unsigned k, unsigned page_mask, unsigned resize)
{
    world_write(k, page_mask, resize);
    world_end(k);
}

void world_checkpoint(unsigned k, enum checkpoint_mode mode)
{
    struct checkpoint_result result;
    if (conn_checkpoint(&world_conn[k], mode, NULL, NULL, &result, &err) != DAX_OK)
        il_violation("checkpoint: %s", err.text);
}

/* --- afterwards --------------------------------------------------------------------------------- */

unsigned world_nodes_used(void)
{
    const struct region_guarded *g = &world_store->region.header->guarded;
    return GUARDED_GET(g->nodes_used) + GUARDED_GET(g->markers);
}

void world_tidy(void)
{
    (void)checkpoint_tidy(world_store);
}

void world_finish(unsigned k, bool all_home)
{
    struct store *s = world_store;
    IL_MUST(writer_owner(&s->region) == UINT32_MAX, "the writer lock is still held");
    IL_MUST(frames_validate(&s->region), "the lists of nodes do not fit their counts");
    for (unsigned i = 0; i < WORLD_PAGES; i++)
        IL_MUST(chain_validate(s, i), "the chain of page %u is broken", i);
    world_begin(k);
    for (unsigned i = 1; i < oracle->pages[world_conn[k].snapshot]; i++)
        world_copy(k, i);
    snapshot_end(&s->region, world_conn[k].slot);
    world_conn[k].reading = false;
    if (all_home)
        IL_MUST(world_nodes_used() == 0, "%u versions are left although nobody reads",
                world_nodes_used());
}
