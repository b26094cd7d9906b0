/* rehome.c: zap, drain, reclaim for the base storage of versioned pages.
 *
 * A batch of pages at a time:
 *   1. Trim the chain. If a snapshot in use still sees what base holds, copy that into a new frame
 *      and put the frame into the chain in base's place. (DRAM only: snapshots die with the
 *      process.) Readers may walk the old or the new chain, both lead to the same bytes.
 *   2. Zap: no new pin can be taken.
 *   3. Scan. Base pinned: back to MAPPED, deferred. Not pinned: store the lines that differ; a page that
 *      is bad is rewritten whole, which clears it (media.c), or deferred if that fails.
 *   4. Fence, so that a reader that sees the new word sees the lines.
 *   5. New word: base alone, or a NODE_BASE marker in front of the versions that old snapshots need.
 *      The node that held the newest version goes to limbo.
 *
 * A crash at any point finds base with some lines newer than the cursor's state; the live records
 * contain every one of them (L1), so replay ends in the newest state. Only versions whose record is
 * sealed are rehomed (L6). Nothing here moves the cursor.
 */
#include "engine/rehome.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/chain.h"
#include "engine/frames.h"
#include "engine/lines.h"
#include "engine/media.h"
#include "engine/store.h"
#include "engine/writer.h"

struct rehome_page {
    uint32_t page;
    uint32_t head;   /* newest version, not in base */
    uint32_t marker; /* will say "base holds head's version", 0: chain ends empty */
    bool pinned;
};

static uint64_t rehome_txid(const struct region *r, uint32_t node)
{
    return atomic_load_explicit(&r->nodes[node].txid, memory_order_relaxed);
}

/* List the pages that have a chain, in s->pages. */
static dax_rc rehome_list(struct store *s, size_t *count_out, struct dax_err *err)
{
    struct region_guarded *g = &s->region.header->guarded;
    size_t count = GUARDED_GET(g->pages_versioned);
    if (count > s->pages_capacity) {
        uint32_t *pages = realloc(s->pages, count * 2 * sizeof *pages);
        if (pages)
            s->pages = pages;
        uint64_t *bitmaps = pages ? realloc(s->bitmaps, count * 2 * sizeof *bitmaps) : NULL;
        if (!bitmaps)
            return dax_err_set(err, DAX_NOMEM, ENOMEM, "cannot list %zu pages to rehome", count);
        s->bitmaps = bitmaps;
        s->pages_capacity = count * 2;
    }
    size_t n = 0;
    for (uint32_t node = GUARDED_GET(g->heads); node; node = s->region.nodes[node].next)
        s->pages[n++] = GUARDED_GET(s->region.nodes[node].page);
    *count_out = n;
    return n == count ? DAX_OK : store_fail(s, err, "the list of versioned pages has lost some");
}

/* Step 1 for base: keep what it holds for the snapshots that see it. false: no frame is free, or base
 * cannot be read: those snapshots go on being told so, until the last of them ends. */
static bool rehome_save_base(struct store *s, uint32_t page, uint32_t head, bool *unreadable_out)
{
    struct region *r = &s->region;
    uint32_t newer = head, marker = 0;
    for (;;) {
        uint32_t older = atomic_load_explicit(&r->nodes[newer].older, memory_order_relaxed);
        if (!older)
            break;
        if (GUARDED_GET(r->nodes[older].storage) == NODE_BASE) {
            marker = older;
            break;
        }
        newer = older;
    }
    uint64_t base_txid = marker ? rehome_txid(r, marker) : 0;
    if (!scan_sees(&s->scan, base_txid, rehome_txid(r, newer)))
        return true; /* with a marker, chain_trim would have dropped it */
    uint32_t node = frames_take(r);
    if (!node)
        return false;
    struct guard_fault fault;
    bool flagged = pageword_load(r, page) & PAGEWORD_POISONED;
    if (flagged || !guard_copy(region_frame(r, node),
                               base_at(&s->base, (uint64_t)page << DAX_PAGE_SHIFT), DAX_PAGE_BYTES,
                               &fault)) {
        frames_give(r, node);
        if (!flagged)
            (void)media_fault(s, page, &fault, NULL);
        *unreadable_out = true;
        return false;
    }
    GUARDED_SET(r->nodes[node].txid, base_txid);
    GUARDED_SET(r->nodes[node].page, page);
    uint32_t rest =
        marker ? atomic_load_explicit(&r->nodes[marker].older, memory_order_relaxed) : 0;
    atomic_store_explicit(&r->nodes[node].older, rest, memory_order_relaxed);
    /* Release: a reader that walks to the node finds it filled. Pairs with chain_find's load. */
    atomic_store_explicit(&r->nodes[newer].older, node, memory_order_release);
    if (marker)
        frames_limbo(r, marker);
    return true;
}

/* Steps 1 and 2. *take_out: the page is in the batch. */
static dax_rc rehome_zap(struct store *s, uint32_t page, struct rehome_page *b, bool *take_out,
                         bool *no_frame_out, struct dax_err *err)
{
    struct region *r = &s->region;
    *take_out = *no_frame_out = false;
    if (pageword_state(pageword_load(r, page)) != PAGE_MAPPED)
        return DAX_OK; /* shrunk away, waiting for old pins */
    if (!chain_trim(s, page, &s->scan))
        return store_fail(s, err, "page %u could not be trimmed", page);
    uint32_t head = pageword_node(pageword_load(r, page));
    if (GUARDED_GET(r->nodes[head].storage) == NODE_BASE) {
        /* Rehomed before. Nothing older left: base is the only version again. */
        if (atomic_load_explicit(&r->nodes[head].older, memory_order_relaxed) == 0 &&
            !chain_clear(s, page, PAGE_MAPPED))
            return store_fail(s, err, "page %u could not be cleared", page);
        return DAX_OK;
    }
    if (page >= pages_of(store_size(s)))
        return DAX_OK; /* not in the database any more: only old snapshots look at it */
    if (!log_is_sealed(s, rehome_txid(r, head)))
        return DAX_OK; /* the next checkpoint seals it first (L6) */

    *b = (struct rehome_page){.page = page, .head = head, .marker = frames_take_marker(r)};
    bool unreadable = false;
    if (!b->marker || !rehome_save_base(s, page, head, &unreadable)) {
        if (b->marker)
            frames_give(r, b->marker);
        *no_frame_out = true;
        return DAX_OK;
    }
    if (atomic_load_explicit(&r->nodes[head].older, memory_order_relaxed) == 0) {
        frames_give(r, b->marker);
        b->marker = 0;
    }
    if (!pageword_set(r, page, PAGE_ZAPPED, head))
        return store_fail(s, err, "page %u could not be zapped", page);
    *take_out = true;
    return DAX_OK;
}

/* Step 5 for a page whose base is pinned. Its newest version leaves scratch for a frame, so that
 * one pin does not keep all of scratch: how many such pages there are is bounded by the pins. */
static bool rehome_leave(struct store *s, const struct rehome_page *b)
{
    struct region *r = &s->region;
    struct version v = {b->head, 0, GUARDED_GET(r->nodes[b->head].storage)};
    if (b->marker)
        frames_give(r, b->marker);
    uint32_t node = v.storage > NODE_BASE ? frames_take(r) : 0;
    if (!node)
        return pageword_set(r, b->page, PAGE_MAPPED, b->head);
    struct node *n = &r->nodes[node];
    struct guard_fault fault;
    if (!guard_copy(region_frame(r, node), chain_address(s, b->page, &v), DAX_PAGE_BYTES, &fault)) {
        (void)media_fault(s, v.storage, &fault, NULL);
        frames_give(r, node);
        return pageword_set(r, b->page, PAGE_MAPPED, b->head);
    }
    GUARDED_SET(n->txid, rehome_txid(r, b->head));
    GUARDED_SET(n->page, b->page);
    GUARDED_SET(n->older, atomic_load_explicit(&r->nodes[b->head].older, memory_order_relaxed));
    if (!pageword_set(r, b->page, PAGE_MAPPED, node))
        return false;
    chain_link_head(r, node);
    chain_unlink_head(r, b->head);
    frames_limbo(r, b->head);
    return true;
}

/* Step 5 for one page. */
static bool rehome_finish(struct store *s, const struct rehome_page *b)
{
    struct region *r = &s->region;
    if (b->pinned)
        return rehome_leave(s, b);
    if (b->marker) {
        struct node *m = &r->nodes[b->marker];
        GUARDED_SET(m->txid, rehome_txid(r, b->head));
        GUARDED_SET(m->page, b->page);
        GUARDED_SET(m->older,
                    atomic_load_explicit(&r->nodes[b->head].older, memory_order_relaxed));
    }
    if (!pageword_set(r, b->page, PAGE_MAPPED, b->marker))
        return false;
    if (b->marker)
        chain_link_head(r, b->marker);
    chain_unlink_head(r, b->head);
    frames_limbo(r, b->head);
    return true;
}

/* Load the newest version from its scratch page. If neither a load nor pread gets it, it is lost. Base is
 * older than what was committed, so it is quarantined in its place, under the name of what it belongs
 * to. */
static bool rehome_load(struct store *s, uint32_t page, uint64_t scratch, const uint8_t *from, uint8_t *buf)
{
    struct guard_fault fault;
    if (guard_copy(buf, from, DAX_PAGE_BYTES, &fault))
        return true;
    (void)media_fault(s, scratch, &fault, NULL);
    if (pread(s->base.fd, buf, DAX_PAGE_BYTES, (off_t)(scratch << DAX_PAGE_SHIFT)) ==
        (ssize_t)DAX_PAGE_BYTES)
        return true;
    media_enter_lost(s, page, scratch);
    return false;
}

/* Step 3 for one page, which nobody can reach: what differs or, where base is bad, the whole page in
 * another way. false: neither. */
static bool rehome_store(struct store *s, const struct rehome_page *b)
{
    uint8_t buf[DAX_PAGE_BYTES];
    struct guard_fault fault;
    struct version v = {b->head, 0, GUARDED_GET(s->region.nodes[b->head].storage)};
    const uint8_t *content = chain_address(s, b->page, &v);
    uint8_t *base = base_at(&s->base, (uint64_t)b->page << DAX_PAGE_SHIFT);
    if (v.storage > NODE_BASE) {
        if (!rehome_load(s, b->page, v.storage, content, buf))
            return true; /* nothing is left to store */
        content = buf;
    }
    if (!(pageword_load(&s->region, b->page) & PAGEWORD_POISONED)) {
        if (lines_try_update(&s->persist, base, content, &fault))
            return true;
        (void)media_fault(s, b->page, &fault, NULL);
        if (guard_is_refusal(&fault)) /* no page is bad: later */
            return false;
    }
    return media_rewrite(s, b->page, content);
}

/* Steps 3 to 5. */
static dax_rc rehome_batch(struct store *s, struct rehome_page *batch, size_t n, size_t *done_out,
                           struct dax_err *err)
{
    struct region *r = &s->region;
    scan_take(&s->scan, r, UINT32_MAX, true);
    for (size_t i = 0; i < n; i++) {
        struct rehome_page *b = &batch[i];
        b->pinned = s->scan.pin_count && scan_base_pinned(&s->scan, b->page);
        if (b->pinned)
            continue;
        /* A page that stays bad stays where it is, as one that is pinned does. */
        b->pinned = !rehome_store(s, b);
        *done_out += !b->pinned;
    }
    persist_visible(&s->persist);
    for (size_t i = 0; i < n; i++)
        if (!rehome_finish(s, &batch[i]))
            return store_fail(s, err, "page %u could not be rehomed", batch[i].page);
    return DAX_OK;
}

dax_rc rehome_all(struct store *s, bool yield, size_t *pages_out, size_t *deferred_out,
                  bool *complete_out, struct dax_err *err)
{
    struct rehome_page batch[DAX_BATCH_PAGES];
    size_t count = 0, deferred = 0;
    *pages_out = *deferred_out = 0;
    *complete_out = true;
    dax_rc rc = rehome_list(s, &count, err);
    if (rc != DAX_OK)
        return rc;
    for (size_t at = 0; at < count;) {
        size_t n = 0;
        scan_take(&s->scan, &s->region, UINT32_MAX, true);
        while (at < count && n < DAX_BATCH_PAGES) {
            bool take, no_frame;
            uint32_t page = s->pages[at++];
            rc = rehome_zap(s, page, &batch[n], &take, &no_frame, err);
            if (rc != DAX_OK)
                return rc;
            n += take;
            if (no_frame)
                s->pages[deferred++] = page;
        }
        rc = rehome_batch(s, batch, n, pages_out, err);
        if (rc != DAX_OK)
            return rc;
        for (size_t i = 0; i < n; i++)
            if (batch[i].pinned)
                s->pages[deferred++] = batch[i].page;
        frames_reclaim(&s->region, &s->scan, UINT32_MAX);
        if (yield && at < count && writer_is_wanted(&s->region)) {
            *complete_out = false;
            break;
        }
    }
    *deferred_out = deferred;
    return DAX_OK;
}
