/* status.c: what the store looks like, for dax_status() and dax_pages. Any thread, no lock: numbers
 * that belong together may be a moment apart.
 */
#include <stdio.h>
#include <string.h>

#include "engine/chain.h"
#include "engine/conn.h"
#include "engine/holders.h"
#include "engine/pageword.h"
#include "engine/snapshot.h"

static void status_slots(const struct region *r, struct store_status *out)
{
    uint32_t high = atomic_load(&r->header->slot_high);
    for (uint32_t i = 0; i < high; i++) {
        const struct slot *slot = &r->slots[i];
        out->reads_copied += GUARDED_GET(slot->reads_copied);
        out->reads_pinned_base += GUARDED_GET(slot->pinned_base);
        out->reads_pinned_frame += GUARDED_GET(slot->pinned_frame);
        out->pins_refused += GUARDED_GET(slot->pins_refused);
        out->read_retries += GUARDED_GET(slot->read_retries);
        if (!GUARDED_GET(slot->snapshot))
            continue;
        out->snapshots++;
        for (unsigned k = 0; k < DAX_SLOT_PINS; k++)
            out->pins += GUARDED_GET(slot->pins[k]) != 0;
    }
}

static void status_files(const struct store *s, bool active, struct store_status *out)
{
    snprintf(out->path, sizeof out->path, "%s", s->base.path);
    if (active)
        snprintf(out->sidecar, sizeof out->sidecar, "%s", s->sidecar_path);
    snprintf(out->mode, sizeof out->mode, "%s", persist_mode_name(s->medium.mode));
    snprintf(out->why, sizeof out->why, "%s", s->medium.why);
    snprintf(out->fs, sizeof out->fs, "%s", s->medium.fs_name);
    if (atomic_load_explicit(&s->failed, memory_order_acquire) == 2)
        snprintf(out->failed, sizeof out->failed, "%s", s->failed_text);
    out->read_only = s->base.read_only;
    out->active = active;
    out->file_bytes = __atomic_load_n(&s->base.file_bytes, __ATOMIC_RELAXED);
    out->mapped_bytes = atomic_load(&s->base.map_bytes);
    out->scratch_bytes = __atomic_load_n(&s->base.scratch_bytes, __ATOMIC_RELAXED);
    if (active) {
        out->sidecar_bytes = s->sidecar.file_bytes;
        out->ring_bytes = s->sidecar.ring_bytes;
    }
}

void conn_status(struct conn *c, struct store_status *out)
{
    memset(out, 0, sizeof *out);
    const struct store *s = c->store;
    if (!store_same_process(s))
        return;
    const struct region *r = &s->region;
    const struct region_guarded *g = &r->header->guarded;
    /* Acquire: the sidecar's fields are set before the flag. */
    status_files(s, atomic_load_explicit(&s->active, memory_order_acquire), out);
    status_slots(r, out);
    out->txid = snapshot_newest(r, &out->size_bytes);
    out->txid_oldest = snapshot_oldest(r);
    out->connections = atomic_load(&r->header->connections);
    out->lsn_cursor = GUARDED_GET(g->lsn_cursor);
    out->lsn_tail = GUARDED_GET(g->lsn_tail);
    out->log_bytes = out->lsn_tail - out->lsn_cursor;
    out->pages_versioned = GUARDED_GET(g->pages_versioned);
    out->frames_used = GUARDED_GET(g->nodes_used);
    out->frames_free = GUARDED_GET(g->free_count);
    out->private_bytes_budget = (uint64_t)c->private_limit * DAX_PAGE_BYTES;
    out->commits = GUARDED_GET(g->commits);
    out->aborts = GUARDED_GET(g->aborts);
    out->pages_committed = GUARDED_GET(g->pages_committed);
    out->lines_logged = GUARDED_GET(g->lines_logged);
    out->log_bytes_total = GUARDED_GET(g->log_bytes_total);
    out->pages_applied = GUARDED_GET(g->pages_applied);
    out->pages_pushed = GUARDED_GET(g->pages_pushed);
    out->pages_direct = GUARDED_GET(g->pages_direct);
    out->pages_scratch = GUARDED_GET(g->pages_scratch);
    out->checkpoints = GUARDED_GET(g->checkpoints);
    out->pages_rehomed = GUARDED_GET(g->pages_rehomed);
    out->pages_relogged = GUARDED_GET(g->pages_relogged);
    const struct persist_counts *counts = &s->persist.counts;
    out->stored_log_bytes = __atomic_load_n(&counts->log_bytes, __ATOMIC_RELAXED);
    out->stored_base_bytes = __atomic_load_n(&counts->base_bytes, __ATOMIC_RELAXED);
    out->stored_sidecar_bytes = __atomic_load_n(&counts->sidecar_bytes, __ATOMIC_RELAXED);
    out->flushes = __atomic_load_n(&counts->flushes, __ATOMIC_RELAXED);
    out->fences = __atomic_load_n(&counts->fences, __ATOMIC_RELAXED);
    out->syncs = __atomic_load_n(&counts->syncs, __ATOMIC_RELAXED);
    out->syncs_uncached = __atomic_load_n(&counts->syncs_uncached, __ATOMIC_RELAXED);
    out->recovered_records = GUARDED_GET(g->recovered_records);
    out->recovered_pages = GUARDED_GET(g->recovered_pages);
}

uint64_t conn_page_count(struct conn *c)
{
    if (!store_same_process(c->store))
        return 0;
    uint64_t pages = pages_of(store_size(c->store));
    uint64_t shrunk = GUARDED_GET(c->store->region.header->guarded.shrunk_high);
    return shrunk > pages ? shrunk : pages;
}

void conn_page_info(struct conn *c, uint64_t page, struct page_info *out)
{
    memset(out, 0, sizeof *out);
    out->page = page;
    if (page >= conn_page_count(c))
        return;
    const struct region *r = &c->store->region;
    /* The chain is walked without a lock: a moment's view, bounded. */
    uint64_t w = pageword_load(r, page);
    uint32_t steps = 0;
    for (uint32_t node = pageword_node(w); node && node < DAX_MAX_NODES && steps < DAX_MAX_SLOTS;
         steps++) {
        out->versions += atomic_load(&r->nodes[node].storage) != NODE_BASE;
        node = atomic_load(&r->nodes[node].older);
    }
    out->state = pageword_state(w);
    out->generation = pageword_generation(w);
    out->poisoned = (w & PAGEWORD_POISONED) != 0;
    out->probed = (w & PAGEWORD_PROBED) != 0;
    out->refcount = holders_refcount(c->store, page);
}

uint64_t conn_page_stamp(struct conn *c, uint64_t page)
{
    if (!c->reading || !store_same_process(c->store) || page >= pages_of(c->size_bytes))
        return 0;
    const struct region *r = &c->store->region;
    uint64_t w = pageword_load(r, page);
    struct version v;
    if (pageword_state(w) != PAGE_MAPPED || !chain_find(r, w, c->snapshot, &v))
        return 0;
    /* Without a chain, base is what every active snapshot sees. A node that was reused meanwhile has
     * changed the word. */
    if (v.node != pageword_node(w) || pageword_load(r, page) != w)
        return 0;
    return (uint64_t)pageword_generation(w) + 1;
}

size_t conn_holders(struct conn *c, struct holder_info *out, size_t max)
{
    return store_same_process(c->store) ? holders_list(c->store, c->slot, out, max) : 0;
}
