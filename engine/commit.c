/* commit.c: the commit protocol (DESIGN.md section 4).
 *
 * Persist order, and what a crash finds:
 *   before P1   base and scratch hold stores beyond the committed end: garbage that nobody names
 *   P1          direct and scratch pages are durable
 *   before P2   the record is torn or missing: recovery stops in front of it; the old state
 *   P2          the record is durable: the new state, whatever happens from here on (L1)
 *   P7          so is its seal: should the record be damaged, recovery knows (L6)
 *   afterwards  base may hold any part of what the record says: replay completes it
 * In msync mode there is no P7 here and nothing is applied: the pages stay in frames (log.h).
 *
 * What other threads see:
 *   until last_committed is published   the old state; nodes pushed before have a txid that no
 *                                       snapshot reaches
 *   published, pages ZAPPED             readers of the new state wait at those pages; readers of the
 *                                       old one too, for as long as it takes to store some lines
 *   words set                           either base holds the new content (nobody could see or pin
 *                                       what it held), or the private copy has become a version
 *
 * A page whose base holds what an old snapshot sees gets its new versions pushed. At the next checkpoint
 * that content moves to a frame and the newest version to base (rehome.c). From then on base has nothing
 * that an old snapshot sees, and the page is zapped and applied to although others read: its chain is a
 * marker, which says that base holds the newest version, and behind it the frames that old snapshots need.
 * So a reader costs one frame for each page that has changed since it began, however often it changes.
 *
 * Base pages that cannot be stored to (media errors) keep their new content in its frame, as a page does
 * that somebody has pinned; a checkpoint rewrites them.
 *
 * Nothing fails after P2: space, frames and the record's buffer are there since txn_prepare. A page
 * state that has no business here is a failed check: the store refuses further writes, and the next
 * open replays the record.
 */
#include "engine/commit.h"

#include "engine/chain.h"
#include "engine/checkpoint.h"
#include "engine/frames.h"
#include "engine/lines.h"
#include "engine/media_state.h"
#include "engine/snapshot.h"
#include "engine/store.h"
#include "engine/writeback.h"

/* Nodes in limbo at which a commit that pushed versions looks whether they can be freed. */
#define COMMIT_LIMBO_HIGH 64u

static bool commit_is_live(const struct txn_page *p)
{
    return !p->dropped && (p->scratch || p->bitmap);
}

static void commit_build_record(struct store *s)
{
    struct txn *t = &s->txn;
    log_begin(s, t->log_pages, t->log_pairs, t->log_listed);
    uint64_t high = 0;
    /* Page descriptors come first, pairs behind them. */
    for (uint32_t i = 0; i < t->page_count; i++) {
        const struct txn_page *p = &t->pages[i];
        if (!commit_is_live(p))
            continue;
        if (p->page >= high)
            high = (uint64_t)p->page + 1;
        if (!p->scratch)
            log_add_page(s, p->page, p->bitmap, region_frame(&s->region, p->node));
    }
    if (t->log_listed) {
        log_add_list(s, t->list_hash, t->log_pairs, high);
        return;
    }
    for (uint32_t i = 0; t->log_pairs && i < t->page_count; i++) {
        const struct txn_page *p = &t->pages[i];
        if (commit_is_live(p) && p->scratch)
            log_add_pair(s, p->page, p->scratch);
    }
}

/* Store a page's new content into base: the logged lines if base held the previous version, all that
 * differs if it is behind that; through the cache, since it will be read. Nobody can reach base's page. false: it is
 * bad, now or before; the content has to stay in its frame. (Lines that were stored until then are in the
 * log as well: L1.) */
static bool commit_apply(struct store *s, struct txn_page *p, bool behind)
{
    uint8_t *base = base_at(&s->base, (uint64_t)p->page << DAX_PAGE_SHIFT);
    const uint8_t *content = region_frame(&s->region, p->node);
    struct guard_fault fault;
    uint64_t bitmap = p->bitmap;
    if (pageword_load(&s->region, p->page) & PAGEWORD_POISONED)
        return false;
    if ((behind && !lines_try_diff(base, content, &bitmap, &fault)) ||
        !lines_try_store_cached(&s->persist, base, content, bitmap, &fault)) {
        (void)media_fault(s, p->page, &fault, NULL);
        return false;
    }
    writeback_note(s, p->page, bitmap);
    p->applied = true;
    GUARDED_ADD(s->region.header->guarded.pages_applied, 1);
    return true;
}

static bool commit_push(struct store *s, struct txn_page *p)
{
    if (!chain_push(s, p->page, p->node))
        return false;
    p->node = 0;
    GUARDED_ADD(s->region.header->guarded.pages_pushed, 1);
    return true;
}

/* Pages that were stored straight into base become reachable. */
static bool commit_map_direct(struct store *s)
{
    struct txn *t = &s->txn;
    if (t->direct_count == 0)
        return true;
    for (uint64_t page = t->direct_from; page < t->direct_high; page++)
        if (txn_is_direct(t, page) && !pageword_set(&s->region, page, PAGE_MAPPED, 0))
            return false;
    GUARDED_ADD(s->region.header->guarded.pages_direct, t->direct_count);
    return true;
}

/* Others read. Is it likely that base can be stored to all the same? Who is in a snapshot of the state
 * before this commit counts; who may begin one in the next moment does not: commit_settle asks again. */
static bool commit_wants_base(struct store *s, const struct txn_page *p, uint64_t w, uint64_t txid)
{
    struct scan slots = s->scan;
    if (pageword_node(w) == 0 || w & PAGEWORD_POISONED)
        return false;
    slots.snapshot_count--; /* the newest state, which scan_take has added: none is greater */
    return chain_base_unseen(s, p->page, txid, &slots) && !scan_base_pinned(&slots, p->page);
}

/* Before publishing: push what readers of the old state must be kept from, apply what nobody knows,
 * zap the rest. Not to be applied (L6): push everything. */
static bool commit_expose(struct store *s, uint64_t txid, bool others, bool apply)
{
    struct txn *t = &s->txn;
    struct region *r = &s->region;
    if (!commit_map_direct(s))
        return false;
    if (others)
        scan_take(&s->scan, r, t->slot, true);
    bool applied = false;
    for (uint32_t i = 0; i < t->page_count; i++) {
        struct txn_page *p = &t->pages[i];
        p->applied = false;
        if (!commit_is_live(p))
            continue;
        GUARDED_SET(r->nodes[p->node].txid, txid);
        uint64_t w = pageword_load(r, p->page);
        enum page_state state = pageword_state(w);
        bool unknown = state == PAGE_ABSENT || state == PAGE_TRUNCATED;
        if (!p->scratch && unknown && apply && commit_apply(s, p, false)) {
            applied = true;
        } else if (p->scratch || unknown || state == PAGE_ZAPPED || !apply ||
                   (others && !commit_wants_base(s, p, w, txid))) {
            if (!commit_push(s, p) || (others && !chain_trim(s, p->page, &s->scan)))
                return false;
        } else if (!pageword_set(r, p->page, PAGE_ZAPPED, pageword_node(w))) {
            return false;
        }
    }
    if (!applied)
        return true;
    persist_visible(&s->persist);
    for (uint32_t i = 0; i < t->page_count; i++)
        if (t->pages[i].applied && !pageword_set(r, t->pages[i].page, PAGE_MAPPED, 0))
            return false;
    return true;
}

/* The page is zapped. May its new content go to base? Nobody must have base pinned, and no snapshot see what
 * it holds; versions that older snapshots see stay in the chain. */
static bool commit_may_apply(struct store *s, struct txn_page *p, uint64_t txid, bool older)
{
    if (s->scan.pin_count && scan_base_pinned(&s->scan, p->page))
        return false;
    if (!older)
        return true;
    if (!chain_base_unseen(s, p->page, txid, &s->scan))
        return false;
    if (chain_is_home(&s->region, p->page))
        return true;
    p->marker = frames_take_marker(&s->region);
    return p->marker != 0;
}

/* Settle one zapped page, up to its new word. */
static bool commit_settle_page(struct store *s, struct txn_page *p, uint64_t txid, bool older)
{
    if (commit_may_apply(s, p, txid, older) &&
        commit_apply(s, p, !chain_is_home(&s->region, p->page)))
        return true;
    if (p->marker)
        frames_give(&s->region, p->marker);
    return commit_push(s, p) && chain_trim(s, p->page, &s->scan);
}

/* After publishing: every zapped page is applied or pushed. What only the old state needed goes: a reader
 * that began before publishing is in this scan, one that begins later sees the new state. */
static bool commit_settle(struct store *s, uint64_t txid)
{
    struct txn *t = &s->txn;
    struct region *r = &s->region;
    scan_take(&s->scan, r, t->slot, false);
    bool older = scan_sees(&s->scan, 1, txid);
    for (uint32_t i = 0; i < t->page_count; i++) {
        struct txn_page *p = &t->pages[i];
        if (commit_is_live(p) && !p->node && !chain_trim(s, p->page, &s->scan))
            return false;
        if (!commit_is_live(p) || !p->node || p->applied)
            continue;
        if (!commit_settle_page(s, p, txid, older))
            return false;
    }
    /* Before a reader that sees the words below loads what was stored above. */
    persist_visible(&s->persist);
    for (uint32_t i = 0; i < t->page_count; i++) {
        struct txn_page *p = &t->pages[i];
        if (p->applied && pageword_state(pageword_load(r, p->page)) == PAGE_ZAPPED &&
            !(older ? chain_rebase(s, p->page, txid, p->marker, &s->scan)
                    : chain_clear(s, p->page, PAGE_MAPPED)))
            return false;
    }
    return true;
}

static void commit_note_size(struct store *s, uint64_t txid)
{
    struct txn *t = &s->txn;
    struct region_guarded *g = &s->region.header->guarded;
    uint64_t pages = pages_of(t->size_bytes);
    if (pages < t->pages_old || t->pages_kept < t->pages_old) {
        if (t->pages_old > GUARDED_GET(g->shrunk_high))
            GUARDED_SET(g->shrunk_high, t->pages_old);
        GUARDED_SET(g->shrink_txid, txid);
    }
    if (pages > GUARDED_GET(g->fresh_from))
        GUARDED_SET(g->fresh_from, pages);
}

static bool commit_publish(struct store *s, uint64_t txid)
{
    struct txn *t = &s->txn;
    struct region *r = &s->region;
    bool others = scan_others_active(r, t->slot);
    bool apply = log_is_sealed(s, txid);
    if (!commit_expose(s, txid, others, apply))
        return false;
    commit_note_size(s, txid);
    snapshot_publish(r, txid, t->size_bytes);
    snapshot_advance(r, t->slot, txid);
    if (!commit_settle(s, txid))
        return false;

    for (uint32_t i = t->page_count; i-- > 0;) {
        const struct txn_page *p = &t->pages[i];
        if (p->node && p->applied)
            frames_give_copy(r, p->node, p->page);
        else if (p->node)
            frames_give(r, p->node);
    }
    if (GUARDED_GET(r->header->guarded.limbo_count) > (others ? COMMIT_LIMBO_HIGH : 0))
        frames_reclaim(r, &s->scan, t->slot);
    return true;
}

static dax_rc commit_append(struct store *s, uint64_t txid, struct dax_err *err)
{
    const struct txn *t = &s->txn;
    return log_append(s, txid, t->size_bytes, t->log_listed ? DAX_RECORD_LIST_IN_SCRATCH : 0,
                      t->list_page, err);
}

dax_rc commit_run(struct store *s, uint64_t *txid_out, struct dax_err *err)
{
    struct txn *t = &s->txn;
    struct region_guarded *g = &s->region.header->guarded;
    *txid_out = atomic_load_explicit(&s->region.header->last_committed, memory_order_relaxed);
    if (!t->active)
        return DAX_OK;
    dax_rc rc = store_usable(s, err);
    if (rc == DAX_OK)
        rc = txn_prepare(s, err);
    if (rc != DAX_OK)
        return rc;
    if (txn_is_empty(t)) {
        txn_abort(s);
        GUARDED_ADD(g->aborts, -1);
        return DAX_OK;
    }
    uint64_t txid = t->snapshot + 1;
    commit_build_record(s);
    if (t->direct_dirty) {
        rc = store_synced(s, persist_point(&s->persist, PERSIST_P1_DIRECT, err), err);
        if (rc != DAX_OK)
            return rc;
        t->direct_dirty = false;
    }
    rc = commit_append(s, txid, err);
    if (rc == DAX_IO_MEDIA && media_heal_log(s, t->slot)) {
        commit_build_record(s); /* the checkpoint has used the buffer */
        rc = commit_append(s, txid, err);
    }
    if (rc != DAX_OK)
        return rc;

    uint64_t scratch = t->log_pairs;
    GUARDED_ADD(g->commits, 1);
    GUARDED_ADD(g->pages_committed, t->log_pages + t->log_pairs + t->direct_count);
    GUARDED_ADD(g->pages_scratch, scratch);
    /* In cache-line modes a point is a fence and cannot fail. */
    struct dax_err sealing; /* not set until it is needed: 500 bytes */
    const char *lost = NULL;
    if (s->persist.mode != PERSIST_MSYNC && log_seal(s, &sealing) != DAX_OK)
        lost = sealing.text;
    else if (!commit_publish(s, txid))
        lost = "a page was in a state that no commit can meet";
    if (lost) {
        /* Durable, but this process has lost its way: no more writes; the next open replays. */
        (void)store_fail(s, err, "transaction %llu is committed, but %.400s",
                         (unsigned long long)txid, lost);
        txn_reset(s);
        return DAX_CORRUPT;
    }
    media_committed(s, txid);
    uint32_t slot = t->slot;
    txn_reset(s);
    t->list_page = 0;
    *txid_out = txid;
    if (scratch)
        checkpoint_after_scratch(s, slot);
    return DAX_OK;
}
