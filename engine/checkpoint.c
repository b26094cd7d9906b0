/* checkpoint.c: cutting the log and the file (DESIGN.md section 5).
 *
 * Persist order, and what a crash finds:
 *   P7          the last record is sealed, where commits do not do that themselves (L6)
 *   rehome      base gets lines that the live records contain: replay ends in the same state (L1)
 *   relog       a record at the tail repeats the whole difference between base and the newest
 *               version of each page that is pinned (L5); with pairs, P1 before it; then P2, P7
 *   P3          base is durable: nothing before the relog record is needed any more
 *   P4          the cursor slot moves to the relog record, or to the tail. Before it: longer replay,
 *               same state. After it: log space and scratch behind the cursor may be reused
 *   the cut     ftruncate only now: no live record names a page beyond it (L3)
 *
 * Pins are waited for only as long as the caller's wait function says, then relogging replaces
 * waiting. Truncation of the log therefore never depends on a reader's good will, only its cost does.
 */
#include "engine/checkpoint.h"

#include <stdio.h>
#include <string.h>

#include "engine/chain.h"
#include "engine/hash.h"
#include "engine/frames.h"
#include "engine/holders.h"
#include "engine/lines.h"
#include "engine/media_state.h"
#include "engine/rehome.h"
#include "engine/snapshot.h"
#include "engine/store.h"
#include "engine/writeback.h"

#define CHECKPOINT_CUT_BYTES DAX_GROW_BYTES_MIN

static uint64_t checkpoint_round(uint64_t bytes)
{
    return (bytes + CHECKPOINT_CUT_BYTES - 1) & ~(CHECKPOINT_CUT_BYTES - 1);
}

/* --- relogging -------------------------------------------------------------------------------- */

struct relog {
    size_t count;   /* pages: s->pages[0 .. count) */
    uint64_t lines; /* in which they differ from base */
    uint64_t scratch_first;
};

static const uint8_t *relog_content(const struct store *s, uint32_t page)
{
    struct version v;
    chain_newest(s, page, &v);
    return chain_address(s, page, &v);
}

/* All lines, where base cannot be read. */
static uint64_t relog_diff(struct store *s, uint32_t page)
{
    uint64_t bitmap = UINT64_MAX;
    struct guard_fault fault;
    if (pageword_load(&s->region, page) & PAGEWORD_POISONED)
        return bitmap;
    if (!lines_try_diff(base_at(&s->base, (uint64_t)page << DAX_PAGE_SHIFT), relog_content(s, page),
                        &bitmap, &fault))
        (void)media_fault(s, page, &fault, NULL);
    return bitmap;
}

/* Consecutive scratch pages for a relog record. Two areas take turns, as the cursor slots do: the live
 * record is in one, the record before it, which the cursor has passed, was in the other. So scratch
 * does not grow however often pages that stay pinned are relogged. */
static dax_rc relog_take_scratch(struct store *s, uint64_t pages, uint64_t *first_out,
                                 struct dax_err *err)
{
    struct region_guarded *g = &s->region.header->guarded;
    uint64_t turn = GUARDED_GET(g->relog_turn) ^ 1; /* moves when the record is durable */
    if (GUARDED_GET(g->relog_area_pages[turn]) >= pages) {
        *first_out = GUARDED_GET(g->relog_area[turn]);
        return DAX_OK;
    }
    uint64_t index = GUARDED_GET(g->scratch_next);
    dax_rc rc = base_scratch_reserve(&s->base, s->base.file_bytes, (index + pages) << DAX_PAGE_SHIFT,
                                     err);
    rc = store_base_synced(s, rc, err);
    if (rc != DAX_OK)
        return rc;
    GUARDED_SET(g->scratch_next, index + pages);
    *first_out = (s->base.scratch_start >> DAX_PAGE_SHIFT) + index;
    GUARDED_SET(g->relog_area[turn], *first_out);
    GUARDED_SET(g->relog_area_pages[turn], pages);
    return DAX_OK;
}

/* The pages' newest content, and the list of pairs behind it, in scratch. */
static dax_rc relog_to_scratch(struct store *s, const struct relog *l, uint64_t *list_hash_out,
                               uint64_t *list_page_out, struct dax_err *err)
{
    uint64_t first, list_bytes = l->count * sizeof(struct record_pair);
    dax_rc rc = relog_take_scratch(s, l->count + pages_of(list_bytes), &first, err);
    if (rc != DAX_OK)
        return rc;
    struct hash_stream hash;
    hash_begin(&hash);
    for (size_t i = 0; i < l->count; i++) {
        struct guard_fault fault;
        struct record_pair pair = {s->pages[i], first + i};
        size_t at = i * sizeof pair;
        uint64_t list_page = first + l->count + (at >> DAX_PAGE_SHIFT);
        if (!persist_try_store(&s->persist, base_scratch_at(&s->base, first + i),
                               relog_content(s, s->pages[i]), DAX_PAGE_BYTES, &fault) ||
            !persist_try_store(&s->persist,
                               base_scratch_at(&s->base, list_page) + (at & (DAX_PAGE_BYTES - 1)),
                               &pair, sizeof pair, &fault))
            return media_fault(s, first + i, &fault, err);
        hash_add(&hash, &pair, sizeof pair);
    }
    *list_hash_out = hash_end(&hash);
    *list_page_out = first + l->count;
    return store_synced(s, persist_point(&s->persist, PERSIST_P1_DIRECT, err), err);
}

/* Append the pages' difference from base at the tail. *lsn_out: where the record begins. */
static dax_rc relog_append(struct store *s, size_t count, uint64_t *lsn_out, struct dax_err *err)
{
    struct region_guarded *g = &s->region.header->guarded;
    struct relog l = {.count = count};
    uint32_t flags = DAX_RECORD_RELOG;
    uint64_t high = 0, list_hash = 0, list_page = 0;
    /* Kept: a page may become unreadable at any time, and differ in more lines than were counted. */
    for (size_t i = 0; i < count; i++) {
        s->bitmaps[i] = relog_diff(s, s->pages[i]);
        l.lines += (uint64_t)__builtin_popcountll(s->bitmaps[i]);
        if (s->pages[i] >= high)
            high = (uint64_t)s->pages[i] + 1;
    }
    uint64_t bytes = log_record_bytes(count, l.lines, 0);
    bool listed = bytes > s->sidecar.ring_bytes / DAX_RING_RESERVE_PART ||
                  bytes > log_free_with_reserve(s);
    if (listed)
        bytes = log_record_bytes_listed(0, 0);
    dax_rc rc = log_reserve(s, bytes, err);
    if (rc == DAX_OK && listed)
        rc = relog_to_scratch(s, &l, &list_hash, &list_page, err);
    if (rc != DAX_OK)
        return rc;
    log_begin(s, listed ? 0 : count, 0, listed);
    if (listed) {
        flags |= DAX_RECORD_LIST_IN_SCRATCH;
        log_add_list(s, list_hash, count, high);
    }
    for (size_t i = 0; !listed && i < count; i++) {
        uint8_t content[DAX_PAGE_BYTES];
        struct guard_fault fault;
        if (!guard_copy(content, relog_content(s, s->pages[i]), sizeof content, &fault))
            return media_fault(s, s->pages[i], &fault, err);
        log_add_page(s, s->pages[i], s->bitmaps[i], content);
    }
    *lsn_out = GUARDED_GET(g->lsn_tail);
    rc = log_append(s, atomic_load(&s->region.header->last_committed), store_size(s), flags,
                    list_page, err);
    if (rc != DAX_OK)
        return rc;
    if (listed)
        GUARDED_SET(g->relog_turn, GUARDED_GET(g->relog_turn) ^ 1);
    GUARDED_ADD(g->pages_relogged, count);
    return DAX_OK;
}

/* --- cursor ------------------------------------------------------------------------------------ */

/* P3 and P4: the log begins at lsn. high: the records from there on name no page above it. */
static dax_rc checkpoint_move_cursor(struct store *s, uint64_t lsn, uint64_t high,
                                     struct dax_err *err)
{
    struct region_guarded *g = &s->region.header->guarded;
    writeback_flush(s);
    dax_rc rc = store_synced(s, persist_point(&s->persist, PERSIST_P3_BASE, err), err);
    if (rc != DAX_OK)
        return rc;
    uint64_t size;
    uint64_t txid = snapshot_newest(&s->region, &size);
    struct cursor_slot c = {.lsn = lsn,
                            .txid = txid,
                            .size_bytes = size,
                            .salt = GUARDED_GET(g->salt),
                            .nonce = GUARDED_GET(g->nonce)};
    rc = store_synced(s, log_write_cursor(s, GUARDED_GET(g->sealed_lsn), &c, err), err);
    if (rc != DAX_OK)
        return rc;
    GUARDED_SET(g->lsn_cursor, lsn);
    GUARDED_SET(g->log_high, high);
    GUARDED_ADD(g->checkpoints, 1);
    return DAX_OK;
}

/* Cut the log: everything is in base but the pages s->pages[0 .. deferred). */
static dax_rc checkpoint_cut_log(struct store *s, size_t deferred, uint64_t *relogged_out,
                                 struct dax_err *err)
{
    struct region_guarded *g = &s->region.header->guarded;
    uint64_t lsn = GUARDED_GET(g->lsn_tail), high = 0;
    if (lsn == GUARDED_GET(g->lsn_cursor))
        return DAX_OK; /* empty */
    if (deferred) {
        /* Nothing but the last relog record is left, and it still says what it has to: the pages
         * that it names cannot have changed. */
        if (lsn == GUARDED_GET(g->relog_end) &&
            GUARDED_GET(g->lsn_cursor) == GUARDED_GET(g->relog_start))
            return DAX_OK;
        for (size_t i = 0; i < deferred; i++)
            if (s->pages[i] >= high)
                high = (uint64_t)s->pages[i] + 1;
        dax_rc rc = relog_append(s, deferred, &lsn, err);
        if (rc == DAX_OK)
            rc = log_seal(s, err);
        if (rc != DAX_OK)
            return rc;
        *relogged_out = deferred;
        GUARDED_SET(g->relog_start, lsn);
        GUARDED_SET(g->relog_end, GUARDED_GET(g->lsn_tail));
    }
    return checkpoint_move_cursor(s, lsn, high, err);
}

void checkpoint_after_abort(struct store *s, uint64_t file_bytes)
{
    struct region_guarded *g = &s->region.header->guarded;
    struct dax_err err = {0};
    checkpoint_drop_scratch(s);
    if (s->base.file_bytes <= file_bytes || s->base.scratch_start || file_bytes == 0)
        return;
    if (store_base_synced(s, base_cut(&s->base, file_bytes, &err), &err) != DAX_OK) {
        dax_log(err.rc, "%s", err.text); /* the next checkpoint or the close tries again */
        return;
    }
    uint64_t end = pages_of(file_bytes);
    if (GUARDED_GET(g->fresh_from) > end)
        GUARDED_SET(g->fresh_from, end);
}

void checkpoint_drop_scratch(struct store *s)
{
    struct region_guarded *g = &s->region.header->guarded;
    struct dax_err err = {0};
    if (GUARDED_GET(g->scratch_next) == 0 || GUARDED_GET(g->scratch_nodes) != 0 ||
        GUARDED_GET(g->scratch_lsn) > GUARDED_GET(g->lsn_cursor))
        return;
    if (GUARDED_GET(g->relog_lsn) > GUARDED_GET(g->lsn_cursor)) {
        /* Only a relog record needs its area: all above the two areas can be handed out again. */
        uint64_t start = s->base.scratch_start >> DAX_PAGE_SHIFT, end = start;
        for (unsigned i = 0; i < 2; i++) {
            uint64_t pages = GUARDED_GET(g->relog_area_pages[i]);
            if (pages && GUARDED_GET(g->relog_area[i]) + pages > end)
                end = GUARDED_GET(g->relog_area[i]) + pages;
        }
        GUARDED_SET(g->scratch_next, end - start);
        return;
    }
    if (base_scratch_drop(&s->base, &err) != DAX_OK) {
        dax_log(err.rc, "%s", err.text); /* space stays in use until the next try */
        return;
    }
    GUARDED_SET(g->scratch_next, 0);
    GUARDED_SET(g->relog_area_pages[0], 0);
    GUARDED_SET(g->relog_area_pages[1], 0);
}

/* --- the file ----------------------------------------------------------------------------------- */

/* Pages that have left the database: MAPPED -> ZAPPED (no snapshot sees them) -> TRUNCATED (no pin
 * holds them). *cut_out: every page from here on is TRUNCATED or ABSENT. */
static dax_rc checkpoint_retire_pages(struct store *s, uint64_t *cut_out, struct dax_err *err)
{
    struct region *r = &s->region;
    struct region_guarded *g = &r->header->guarded;
    uint64_t first = pages_of(store_size(s)), high = GUARDED_GET(g->shrunk_high);
    *cut_out = high;
    scan_take(&s->scan, r, UINT32_MAX, true);
    if (scan_sees(&s->scan, 1, GUARDED_GET(g->shrink_txid)))
        return DAX_OK; /* an older snapshot still reads them */
    for (uint64_t page = first; page < high; page++) {
        uint64_t w = pageword_load(r, page);
        if (pageword_state(w) == PAGE_MAPPED &&
            !pageword_set(r, page, PAGE_ZAPPED, pageword_node(w)))
            return store_fail(s, err, "page %llu could not be zapped", (unsigned long long)page);
    }
    scan_take(&s->scan, r, UINT32_MAX, true);
    uint64_t cut = first;
    for (uint64_t page = first; page < high; page++) {
        uint64_t w = pageword_load(r, page);
        if (pageword_state(w) != PAGE_ZAPPED)
            continue;
        if (s->scan.pin_count && scan_page_pinned(&s->scan, r, page)) {
            cut = page + 1;
            continue;
        }
        if (!chain_clear(s, page, PAGE_TRUNCATED))
            return store_fail(s, err, "page %llu could not be truncated",
                              (unsigned long long)page);
    }
    *cut_out = cut;
    frames_reclaim(r, &s->scan, UINT32_MAX);
    return DAX_OK;
}

/* Cut the file as far as nobody is in the way. L3: no live record names a page beyond the cut. */
static dax_rc checkpoint_cut_file(struct store *s, bool spare_too, struct dax_err *err)
{
    struct region *r = &s->region;
    struct region_guarded *g = &r->header->guarded;
    uint64_t pages = pages_of(store_size(s)), high = GUARDED_GET(g->shrunk_high), cut = pages;
    if (high > pages) {
        dax_rc rc = checkpoint_retire_pages(s, &cut, err);
        if (rc != DAX_OK)
            return rc;
    }
    /* After retiring: versions of retired pages may have been the last ones in scratch. */
    checkpoint_drop_scratch(s);
    if (high <= pages && !spare_too)
        return DAX_OK;
    if (s->txn.active || s->base.scratch_start || cut < GUARDED_GET(g->log_high))
        return DAX_OK; /* the next checkpoint will */
    uint64_t bytes = checkpoint_round((cut ? cut : 1) << DAX_PAGE_SHIFT); /* page 0 has the mark */
    if (bytes >= s->base.file_bytes)
        return DAX_OK;
    dax_rc rc = store_base_synced(s, base_cut(&s->base, bytes, err), err);
    if (rc != DAX_OK)
        return rc;
    uint64_t end = bytes >> DAX_PAGE_SHIFT;
    for (uint64_t page = end; page < high; page++)
        if (pageword_state(pageword_load(r, page)) == PAGE_TRUNCATED &&
            !pageword_set(r, page, PAGE_ABSENT, 0))
            return store_fail(s, err, "page %llu could not be dropped", (unsigned long long)page);
    if (high > end)
        GUARDED_SET(g->shrunk_high, end);
    if (GUARDED_GET(g->fresh_from) > end)
        GUARDED_SET(g->fresh_from, end);
    return DAX_OK;
}

/* Versions that old snapshots need stay until those end: no reason for the next checkpoint. */
static void checkpoint_note_kept(struct store *s)
{
    struct region_guarded *g = &s->region.header->guarded;
    const struct txn *t = &s->txn;
    uint32_t own = t->active ? t->private_count + t->scratch_count : 0;
    GUARDED_SET(g->nodes_kept, GUARDED_GET(g->nodes_used) - own);
}

/* --- the whole ---------------------------------------------------------------------------------- */

/* What else keeps pages from going home, if no other connection does. */
static void checkpoint_describe(const struct store *s, uint32_t slot, size_t deferred,
                                struct checkpoint_result *result)
{
    uint32_t own;
    if (holders_pins_one(s, slot, s->pages, deferred, &own)) {
        snprintf(result->holder, sizeof result->holder,
                 "this connection itself is reading page %u", own);
        return;
    }
    for (size_t i = 0; i < deferred; i++)
        if (pageword_load(&s->region, s->pages[i]) & PAGEWORD_POISONED) {
            snprintf(result->holder, sizeof result->holder,
                     "page %u is bad and takes no store; dax_errors says more", s->pages[i]);
            return;
        }
    snprintf(result->holder, sizeof result->holder,
             "page %u had a reader that has ended meanwhile, or no frame was free for it",
             s->pages[0]);
}

/* Rehome; while pages stay pinned by somebody else, as long as wait says. */
static dax_rc checkpoint_rehome(struct store *s, uint32_t slot, dax_wait_fn wait, void *wait_arg,
                                struct checkpoint_result *result, size_t *deferred_out,
                                struct dax_err *err)
{
    for (unsigned count = 0;; count++) {
        size_t rehomed;
        bool complete;
        dax_rc rc = rehome_all(s, false, &rehomed, deferred_out, &complete, err);
        if (rc != DAX_OK)
            return rc;
        result->pages_rehomed += rehomed;
        GUARDED_ADD(s->region.header->guarded.pages_rehomed, rehomed);
        result->holder[0] = 0;
        if (*deferred_out == 0)
            return DAX_OK;
        bool others = holders_describe(s, slot, s->pages, *deferred_out, result->holder,
                                       sizeof result->holder);
        result->busy = true;
        if (!others)
            checkpoint_describe(s, slot, *deferred_out, result);
        if (!others || !wait || !wait(wait_arg, count))
            return DAX_OK;
        result->busy = false;
    }
}

/* Cut the file; TRUNCATE waits for readers of what is to be cut, as long as wait says. */
static dax_rc checkpoint_cut(struct store *s, uint32_t slot, enum checkpoint_mode mode,
                             dax_wait_fn wait, void *wait_arg, struct checkpoint_result *result,
                             struct dax_err *err)
{
    struct region_guarded *g = &s->region.header->guarded;
    for (unsigned count = 0;; count++) {
        char holder[sizeof result->holder];
        dax_rc rc = checkpoint_cut_file(s, mode == CHECKPOINT_TRUNCATE, err);
        uint64_t first = pages_of(store_size(s));
        if (rc != DAX_OK || mode != CHECKPOINT_TRUNCATE || GUARDED_GET(g->shrunk_high) <= first ||
            !holders_describe_beyond(s, slot, first, GUARDED_GET(g->shrink_txid), holder,
                                     sizeof holder))
            return rc;
        if (!wait || !wait(wait_arg, count)) {
            result->busy = true;
            if (!result->holder[0])
                memcpy(result->holder, holder, sizeof holder);
            return DAX_OK;
        }
    }
}

dax_rc checkpoint_run(struct store *s, uint32_t slot, enum checkpoint_mode mode, dax_wait_fn wait,
                      void *wait_arg, struct checkpoint_result *result, struct dax_err *err)
{
    size_t deferred;
    dax_rc rc = store_usable(s, err);
    if (rc != DAX_OK)
        return rc;
    media_check_badblocks(s);
    (void)store_mended_end(s, DAX_IO_MEDIA);
    result->log_bytes_before = log_live(s);
    rc = log_seal(s, err);
    if (rc != DAX_OK)
        return rc;
    rc = checkpoint_rehome(s, slot, mode == CHECKPOINT_PASSIVE ? NULL : wait, wait_arg, result,
                           &deferred, err);
    if (rc == DAX_OK)
        rc = checkpoint_cut_log(s, deferred, &result->pages_relogged, err);
    if (rc != DAX_OK)
        return rc;
    result->log_bytes_after = log_live(s);
    rc = checkpoint_cut(s, slot, mode, wait, wait_arg, result, err);
    frames_reclaim(&s->region, &s->scan, UINT32_MAX); /* also where no page has versions left */
    frames_trim(&s->region);
    checkpoint_note_kept(s);
    return rc;
}

dax_rc checkpoint_inline(struct store *s, uint32_t slot, uint64_t need_bytes, struct dax_err *err)
{
    struct checkpoint_result result = {0};
    dax_rc rc = checkpoint_run(s, slot, CHECKPOINT_PASSIVE, NULL, NULL, &result, err);
    if (rc != DAX_OK)
        return rc;
    if (need_bytes > log_free(s))
        return dax_err_set(err, DAX_FULL, 0,
                           "%s: a commit needs %llu bytes of log and %llu are free; make the "
                           "sidecar anew with a larger dax_log_size",
                           s->sidecar_path, (unsigned long long)need_bytes,
                           (unsigned long long)log_free(s));
    return DAX_OK;
}

void checkpoint_after_scratch(struct store *s, uint32_t slot)
{
    struct checkpoint_result result = {0};
    struct dax_err err = {0};
    if (checkpoint_run(s, slot, CHECKPOINT_PASSIVE, NULL, NULL, &result, &err) != DAX_OK)
        dax_log(err.rc, "checkpoint after a large transaction: %s", err.text);
}

bool checkpoint_tidy(struct store *s)
{
    bool complete;
    struct dax_err err = {0};
    size_t rehomed, deferred;
    if (atomic_load_explicit(&s->failed, memory_order_relaxed))
        return true;
    if (rehome_all(s, true, &rehomed, &deferred, &complete, &err) != DAX_OK)
        dax_log(err.rc, "%s", err.text);
    GUARDED_ADD(s->region.header->guarded.pages_rehomed, rehomed);
    frames_reclaim(&s->region, &s->scan, UINT32_MAX);
    frames_trim(&s->region);
    checkpoint_note_kept(s);
    return complete;
}

dax_rc checkpoint_close(struct store *s, struct dax_err *err)
{
    struct checkpoint_result result = {0};
    dax_rc rc = checkpoint_run(s, UINT32_MAX, CHECKPOINT_TRUNCATE, NULL, NULL, &result, err);
    if (rc != DAX_OK)
        return rc;
    struct region_guarded *g = &s->region.header->guarded;
    uint32_t versions = GUARDED_GET(g->nodes_used) + GUARDED_GET(g->markers);
    if (log_live(s) != 0 || versions != 0 || s->base.scratch_start != 0)
        return store_fail(s, err,
                          "at the close, %llu bytes of log, %u page versions and %llu scratch "
                          "pages (up to LSN %llu of %llu) are left over",
                          (unsigned long long)log_live(s), versions,
                          (unsigned long long)GUARDED_GET(g->scratch_next),
                          (unsigned long long)GUARDED_GET(g->scratch_lsn),
                          (unsigned long long)GUARDED_GET(g->lsn_cursor));
    return store_base_synced(s, base_cut(&s->base, store_size(s), err), err);
}
