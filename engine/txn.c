/* txn.c: private, scratch and direct pages of the writer. */
#include "engine/txn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/chain.h"
#include "engine/checkpoint.h"
#include "engine/hash.h"
#include "engine/frames.h"
#include "engine/lines.h"
#include "engine/media_state.h"
#include "engine/store.h"

#define TXN_TABLE_FIRST 1024u
#define TXN_BYTES_MAX (DAX_MAX_PAGES << DAX_PAGE_SHIFT)

/* --- table ---------------------------------------------------------------------------------- */

static uint32_t txn_hash(const struct txn *t, uint64_t page)
{
    return (uint32_t)((page * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & t->table_mask;
}

struct txn_page *txn_find(struct txn *t, uint64_t page)
{
    if (!t->page_count)
        return NULL;
    for (uint32_t i = txn_hash(t, page);; i = (i + 1) & t->table_mask) {
        uint64_t e = t->table[i];
        if (e >> 32 != t->epoch)
            return NULL;
        struct txn_page *p = &t->pages[(uint32_t)e - 1];
        if (p->page == page)
            return p->dropped ? NULL : p;
    }
}

static void txn_index(struct txn *t, uint32_t index)
{
    uint32_t i = txn_hash(t, t->pages[index].page);
    while (t->table[i] >> 32 == t->epoch) {
        if (t->pages[(uint32_t)t->table[i] - 1].page == t->pages[index].page)
            break; /* a dropped entry of the same page: replaced */
        i = (i + 1) & t->table_mask;
    }
    t->table[i] = (uint64_t)t->epoch << 32 | (index + 1);
}

static dax_rc txn_grow(struct txn *t, struct dax_err *err)
{
    if (t->page_count < t->page_capacity)
        return DAX_OK;
    uint32_t capacity = t->page_capacity ? t->page_capacity * 2 : TXN_TABLE_FIRST / 2;
    struct txn_page *pages = realloc(t->pages, (size_t)capacity * sizeof *pages);
    if (pages)
        t->pages = pages;
    uint64_t *table = pages ? calloc((size_t)capacity * 2, sizeof *table) : NULL;
    if (!table)
        return dax_err_set(err, DAX_NOMEM, ENOMEM, "cannot list %u changed pages", capacity);
    free(t->table);
    t->table = table;
    t->table_mask = capacity * 2 - 1;
    t->page_capacity = capacity;
    t->epoch = 1;
    for (uint32_t i = 0; i < t->page_count; i++)
        if (!t->pages[i].dropped)
            txn_index(t, i);
    return DAX_OK;
}

/* --- begin and end --------------------------------------------------------------------------- */

static void txn_clear(struct txn *t)
{
    t->page_count = 0;
    t->private_count = 0;
    t->scratch_count = 0;
    if (t->direct_count)
        memset(t->direct, 0, (size_t)((t->direct_high - t->direct_from + 63) / 64) * 8);
    t->direct_count = 0;
    t->direct_high = 0;
    t->direct_dirty = false;
    t->prepared = false;
    t->active = false;
    if (t->table && ++t->epoch == 0) {
        memset(t->table, 0, ((size_t)t->table_mask + 1) * sizeof *t->table);
        t->epoch = 1;
    }
}

void txn_begin(struct store *s, uint32_t slot)
{
    struct txn *t = &s->txn;
    DAX_ASSERT(!t->active && t->page_count == 0);
    t->active = true;
    t->prepared = false;
    t->slot = slot;
    t->snapshot = atomic_load_explicit(&s->region.header->last_committed, memory_order_relaxed);
    t->size_old = t->size_bytes = store_size(s);
    t->file_bytes_old = s->base.file_bytes;
    t->pages_old = t->pages_kept = pages_of(t->size_old);
    t->direct_from = t->pages_old;
    t->direct_high = t->pages_old;
}

void txn_abort(struct store *s)
{
    struct txn *t = &s->txn;
    if (!t->active)
        return;
    /* Last taken first, so that the free list hands the warmest frame out next. */
    for (uint32_t i = t->page_count; i-- > 0;)
        if (t->pages[i].node)
            frames_give(&s->region, t->pages[i].node);
    media_aborted(s);
    GUARDED_ADD(s->region.header->guarded.aborts, 1);
    txn_clear(t);
}

void txn_reset(struct store *s)
{
    txn_clear(&s->txn);
}

void txn_destroy(struct store *s)
{
    struct txn *t = &s->txn;
    free(t->pages);
    free(t->table);
    free(t->direct);
    memset(t, 0, sizeof *t);
}

/* --- storage ---------------------------------------------------------------------------------- */

uint8_t *txn_address(const struct store *s, const struct txn_page *p)
{
    return p->scratch ? base_scratch_at(&s->base, p->scratch) : region_frame(&s->region, p->node);
}

/* Committed content, or zeros where the transaction does not continue the old content. NULL: it is in
 * base, and base's page is flagged as one that cannot be read. */
static const uint8_t *txn_previous(const struct store *s, uint64_t page)
{
    static const uint8_t zeros[DAX_PAGE_BYTES];
    if (page >= s->txn.pages_kept)
        return zeros;
    struct version v;
    chain_newest(s, page, &v);
    if (v.storage == NODE_BASE && pageword_load(&s->region, page) & PAGEWORD_POISONED)
        return NULL;
    return chain_address(s, page, &v);
}

/* Copy of it. */
static dax_rc txn_copy_previous(struct store *s, void *to, uint64_t page, size_t at, size_t len,
                                struct dax_err *err)
{
    struct guard_fault fault;
    const uint8_t *from = txn_previous(s, page);
    if (!from)
        return media_error(s, page, err);
    return guard_copy(to, from + at, len, &fault) ? DAX_OK : media_fault(s, page, &fault, err);
}

/* One more page of scratch, none that is known to be bad. */
static dax_rc txn_take_scratch(struct store *s, uint64_t *page_out, struct dax_err *err)
{
    struct region_guarded *g = &s->region.header->guarded;
    do {
        uint64_t index = GUARDED_GET(g->scratch_next);
        uint64_t in_use = s->base.file_bytes;
        dax_rc rc = base_scratch_reserve(&s->base, in_use, (index + 1) << DAX_PAGE_SHIFT, err);
        if (store_mended_end(s, rc))
            rc = base_scratch_reserve(&s->base, in_use, (index + 1) << DAX_PAGE_SHIFT, err);
        rc = store_base_synced(s, rc, err);
        if (rc != DAX_OK)
            return rc;
        GUARDED_SET(g->scratch_next, index + 1);
        *page_out = (s->base.scratch_start >> DAX_PAGE_SHIFT) + index;
    } while (media_is_flagged(s, *page_out));
    return DAX_OK;
}

/* New entry for a page, storage not filled. */
static dax_rc txn_add(struct store *s, uint64_t page, struct txn_page **out, struct dax_err *err)
{
    struct txn *t = &s->txn;
    dax_rc rc = txn_grow(t, err);
    if (rc != DAX_OK)
        return rc;
    uint64_t scratch = 0;
    /* Page 0 is in every transaction: it is kept in DRAM. */
    if (t->private_count >= t->private_limit && page != 0) {
        rc = txn_take_scratch(s, &scratch, err);
        if (rc != DAX_OK)
            return rc;
    }
    uint32_t node = frames_take(&s->region);
    if (!node)
        return dax_err_set(err, DAX_FULL, 0,
                           "%s: all %u page versions are in use: the transaction changes too many "
                           "pages, or long-running readers keep old ones",
                           s->base.path, DAX_MAX_NODES);
    if (scratch) {
        t->scratch_count++;
        t->direct_dirty = true;
        GUARDED_SET(s->region.nodes[node].storage, scratch);
        GUARDED_ADD(s->region.header->guarded.scratch_nodes, 1);
    } else {
        t->private_count++;
    }
    t->pages[t->page_count] =
        (struct txn_page){.page = (uint32_t)page, .node = node, .scratch = scratch};
    txn_index(t, t->page_count);
    *out = &t->pages[t->page_count++];
    return DAX_OK;
}

/* Nobody has seen the entry: as if it had not been added. */
static void txn_drop(struct store *s, struct txn_page *p)
{
    if (p->scratch)
        s->txn.scratch_count--;
    else
        s->txn.private_count--;
    frames_give(&s->region, p->node);
    p->node = 0;
    p->dropped = true;
}

static dax_rc txn_store_scratch(struct store *s, uint64_t scratch, size_t at, const void *buf,
                                size_t len, struct dax_err *err)
{
    struct guard_fault fault;
    s->txn.direct_dirty = true;
    if (persist_try_store(&s->persist, base_scratch_at(&s->base, scratch) + at, buf, len, &fault))
        return DAX_OK;
    return media_fault(s, scratch, &fault, err);
}

/* The lines of page 0 that the mark touches; it is put in after the others have been compared. */
#define TXN_MARK_LINES 2u
#define TXN_MARK_BYTES (TXN_MARK_LINES * DAX_LINE_BYTES)
static_assert(TXN_MARK_BYTES >= DAX_HEADER_BYTES, "the header is within them");

static bool txn_mark_compared(struct store *s, struct txn_page *p, uint8_t *to,
                              const uint8_t *previous)
{
    uint8_t before[TXN_MARK_BYTES];
    struct guard_fault fault;
    mark_put(to, &s->mark);
    if (!guard_copy(before, previous, sizeof before, &fault))
        return false;
    for (unsigned i = 0; i < TXN_MARK_LINES; i++) {
        size_t at = i * DAX_LINE_BYTES;
        bool same = memcmp(to + at, before + at, DAX_LINE_BYTES) == 0;
        p->bitmap = (p->bitmap & ~(UINT64_C(1) << i)) | (uint64_t)!same << i;
    }
    return true;
}

/* A whole private page. It is compared with the committed one on the way, while the caller has it in
 * the processor's cache, and mostly the committed one as well: SQLite has just read it. Where that
 * cannot be read, txn_prepare finds out. */
static void txn_store_whole(struct store *s, struct txn_page *p, const uint8_t *buf)
{
    uint8_t *to = txn_address(s, p);
    const uint8_t *previous = p->page < s->txn.pages_kept ? txn_previous(s, p->page) : NULL;
    struct guard_fault fault;
    p->compared = previous && lines_try_copy_diff(to, buf, previous, &p->bitmap, &fault) &&
                  (p->page != 0 || txn_mark_compared(s, p, to, previous));
    if (!p->compared)
        memcpy(to, buf, DAX_PAGE_BYTES);
}

static dax_rc txn_store(struct store *s, struct txn_page *p, size_t at, const void *buf, size_t len,
                        struct dax_err *err)
{
    p->compared = false; /* also of one that has been moved to scratch: page 0 needs its mark again */
    if (p->scratch)
        return txn_store_scratch(s, p->scratch, at, buf, len, err);
    if (len == DAX_PAGE_BYTES) {
        txn_store_whole(s, p, buf);
        return DAX_OK;
    }
    memcpy(txn_address(s, p) + at, buf, len);
    return DAX_OK;
}

/* A new entry's content, until it is written over. */
static dax_rc txn_fill(struct store *s, struct txn_page *p, struct dax_err *err)
{
    uint8_t buf[DAX_PAGE_BYTES];
    if (!p->scratch)
        return txn_copy_previous(s, txn_address(s, p), p->page, 0, DAX_PAGE_BYTES, err);
    dax_rc rc = txn_copy_previous(s, buf, p->page, 0, sizeof buf, err);
    return rc == DAX_OK ? txn_store(s, p, 0, buf, sizeof buf, err) : rc;
}

/* --- direct pages ----------------------------------------------------------------------------- */

bool txn_is_direct(const struct txn *t, uint64_t page)
{
    if (page < t->direct_from || page >= t->direct_high)
        return false;
    uint64_t bit = page - t->direct_from;
    return t->direct[bit / 64] >> (bit % 64) & 1;
}

/* L2: nothing that could still be replayed names the page, and no reader knows it. One that is flagged as
 * bad is kept in DRAM, until a checkpoint rewrites it. */
static bool txn_may_be_direct(const struct store *s, uint64_t page)
{
    const struct txn *t = &s->txn;
    uint64_t w = pageword_load(&s->region, page);
    return page != 0 && page >= t->pages_old &&
           page >= GUARDED_GET(s->region.header->guarded.log_high) &&
           pageword_state(w) == PAGE_ABSENT && !(w & PAGEWORD_POISONED);
}

static dax_rc txn_grow_direct(struct txn *t, uint64_t page, struct dax_err *err)
{
    uint64_t words = (page - t->direct_from) / 64 + 1;
    if (words > t->direct_words) {
        uint64_t more = t->direct_words ? t->direct_words * 2 : 64;
        while (more < words)
            more *= 2;
        uint64_t *direct = realloc(t->direct, more * sizeof *direct);
        if (!direct)
            return dax_err_set(err, DAX_NOMEM, ENOMEM, "cannot list the new pages");
        memset(direct + t->direct_words, 0, (more - t->direct_words) * sizeof *direct);
        t->direct = direct;
        t->direct_words = more;
    }
    return DAX_OK;
}

/* A page that was never stored to before could not be: somebody has cut space for growth off, and nothing
 * else. It is there again. */
static bool txn_mended_space(struct store *s, uint64_t fresh_from)
{
    struct region_guarded *g = &s->region.header->guarded;
    uint64_t now = GUARDED_GET(g->fresh_from);
    if (now == fresh_from || !base_is_cut(&s->base) ||
        base_end(&s->base) < fresh_from << DAX_PAGE_SHIFT)
        return false;
    GUARDED_SET(g->fresh_from, fresh_from);
    bool mended = store_mended_end(s, DAX_IO_MEDIA);
    GUARDED_SET(g->fresh_from, now);
    return mended;
}

static dax_rc txn_write_direct(struct store *s, uint64_t page, size_t at, const void *buf,
                               size_t len, struct dax_err *err)
{
    struct txn *t = &s->txn;
    dax_rc rc = txn_grow_direct(t, page, err);
    if (rc != DAX_OK)
        return rc;
    rc = store_reserve(s, (page + 1) << DAX_PAGE_SHIFT, err);
    if (rc != DAX_OK)
        return rc;
    uint8_t *to = base_at(&s->base, page << DAX_PAGE_SHIFT);
    struct guard_fault fault;
    struct region_guarded *g = &s->region.header->guarded;
    uint64_t fresh_from = GUARDED_GET(g->fresh_from);
    t->direct_dirty = true;
    if (!txn_is_direct(t, page)) {
        if (page < GUARDED_GET(g->fresh_from) && len < DAX_PAGE_BYTES &&
            !persist_try_store(&s->persist, to, NULL, DAX_PAGE_BYTES, &fault))
            return media_fault(s, page, &fault, err);
        if (page >= GUARDED_GET(g->fresh_from))
            GUARDED_SET(g->fresh_from, page + 1);
        uint64_t bit = page - t->direct_from;
        t->direct[bit / 64] |= UINT64_C(1) << (bit % 64);
        t->direct_count++;
        if (page >= t->direct_high)
            t->direct_high = page + 1;
    }
    if (persist_try_store(&s->persist, to + at, buf, len, &fault) ||
        (txn_mended_space(s, fresh_from) &&
         persist_try_store(&s->persist, to + at, buf, len, &fault)))
        return DAX_OK;
    return media_fault(s, page, &fault, err);
}

/* --- write, truncate, read -------------------------------------------------------------------- */

static bool txn_is_previous(struct store *s, uint64_t page, size_t at, const void *buf, size_t len)
{
    uint8_t previous[DAX_PAGE_BYTES];
    return txn_copy_previous(s, previous, page, at, len, NULL) == DAX_OK &&
           memcmp(previous, buf, len) == 0;
}

static dax_rc txn_write_page(struct store *s, uint64_t page, size_t at, const void *buf, size_t len,
                             struct dax_err *err)
{
    struct txn *t = &s->txn;
    struct txn_page *p = txn_find(t, page);
    if (!p && (txn_is_direct(t, page) || txn_may_be_direct(s, page)))
        return txn_write_direct(s, page, at, buf, len, err);
    /* Rollback by playing the journal back, when the budget is spent and there may be no space for
     * more: putting back what is committed needs no page. */
    if (!p && t->private_count >= t->private_limit && page < t->pages_kept &&
        txn_is_previous(s, page, at, buf, len))
        return DAX_OK;
    if (!p) {
        /* Base must have room for it by the time of the commit, when nothing may fail. */
        dax_rc rc = store_reserve(s, (page + 1) << DAX_PAGE_SHIFT, err);
        if (rc == DAX_OK)
            rc = txn_add(s, page, &p, err);
        if (rc != DAX_OK)
            return rc;
        if (len < DAX_PAGE_BYTES)
            rc = txn_fill(s, p, err);
        if (rc != DAX_OK) {
            txn_drop(s, p);
            return rc;
        }
    }
    return txn_store(s, p, at, buf, len, err);
}

dax_rc txn_write(struct store *s, const void *buf, size_t len, uint64_t offset, struct dax_err *err)
{
    struct txn *t = &s->txn;
    if (len > TXN_BYTES_MAX || offset > TXN_BYTES_MAX - len)
        return dax_err_set(err, DAX_FULL, 0, "%s: a database has at most %llu TiB", s->base.path,
                           (unsigned long long)((DAX_MAX_PAGES << DAX_PAGE_SHIFT) >> 40));
    t->prepared = false;
    const uint8_t *from = buf;
    uint64_t end = offset + len;
    for (uint64_t pos = offset; pos < end;) {
        size_t at = pos & (DAX_PAGE_BYTES - 1);
        size_t n = DAX_PAGE_BYTES - at < end - pos ? DAX_PAGE_BYTES - at : end - pos;
        dax_rc rc = txn_write_page(s, pos >> DAX_PAGE_SHIFT, at, from, n, err);
        if (rc != DAX_OK)
            return rc;
        pos += n;
        from += n;
        if (pos > t->size_bytes)
            t->size_bytes = pos;
    }
    return DAX_OK;
}

/* Bytes behind the new end within its last page are zeros should the file grow again. */
static dax_rc txn_zero_tail(struct store *s, uint64_t size_bytes, struct dax_err *err)
{
    static const uint8_t zeros[DAX_PAGE_BYTES];
    size_t at = size_bytes & (DAX_PAGE_BYTES - 1);
    if (at == 0)
        return DAX_OK;
    return txn_write_page(s, size_bytes >> DAX_PAGE_SHIFT, at, zeros, DAX_PAGE_BYTES - at, err);
}

dax_rc txn_truncate(struct store *s, uint64_t size_bytes, struct dax_err *err)
{
    struct txn *t = &s->txn;
    uint64_t pages = pages_of(size_bytes);
    if (size_bytes > TXN_BYTES_MAX)
        return dax_err_set(err, DAX_FULL, 0, "%s: a database has at most %llu TiB", s->base.path,
                           (unsigned long long)((DAX_MAX_PAGES << DAX_PAGE_SHIFT) >> 40));
    t->prepared = false;
    if (size_bytes >= t->size_bytes) {
        dax_rc rc = store_reserve(s, pages << DAX_PAGE_SHIFT, err);
        if (rc == DAX_OK)
            t->size_bytes = size_bytes;
        return rc;
    }
    dax_rc rc = txn_zero_tail(s, size_bytes, err);
    if (rc != DAX_OK)
        return rc;
    for (uint32_t i = 0; i < t->page_count; i++) {
        struct txn_page *p = &t->pages[i];
        if (p->page >= pages && !p->dropped)
            txn_drop(s, p);
    }
    for (uint64_t page = pages > t->direct_from ? pages : t->direct_from; page < t->direct_high;
         page++) {
        uint64_t bit = page - t->direct_from;
        if (t->direct[bit / 64] >> (bit % 64) & 1) {
            t->direct[bit / 64] &= ~(UINT64_C(1) << (bit % 64));
            t->direct_count--;
        }
    }
    if (pages < t->direct_high)
        t->direct_high = pages > t->direct_from ? pages : t->direct_from;
    if (pages < t->pages_kept)
        t->pages_kept = pages;
    t->size_bytes = size_bytes;
    return DAX_OK;
}

dax_rc txn_read(struct store *s, void *buf, size_t len, uint64_t page, size_t at, struct dax_err *err)
{
    struct guard_fault fault;
    struct txn_page *p = txn_find(&s->txn, page);
    const uint8_t *from = p                              ? txn_address(s, p)
                          : txn_is_direct(&s->txn, page) ? base_at(&s->base, page << DAX_PAGE_SHIFT)
                                                         : NULL;
    if (!from)
        return txn_copy_previous(s, buf, page, at, len, err);
    return guard_copy(buf, from + at, len, &fault) ? DAX_OK : media_fault(s, page, &fault, err);
}

/* --- prepare ---------------------------------------------------------------------------------- */

/* Pages of the new size that nobody wrote and that do not continue old content read as zeros. */
static dax_rc txn_fill_holes(struct store *s, struct dax_err *err)
{
    static const uint8_t zeros[DAX_PAGE_BYTES];
    struct txn *t = &s->txn;
    uint64_t pages = pages_of(t->size_bytes);
    for (uint64_t page = t->pages_kept; page < pages; page++) {
        if (txn_is_direct(t, page) || txn_find(t, page))
            continue;
        dax_rc rc = txn_write_page(s, page, 0, zeros, sizeof zeros, err);
        if (rc != DAX_OK)
            return rc;
    }
    return DAX_OK;
}

/* Every version of page 0 carries the mark, whatever SQLite has written there. */
static dax_rc txn_put_mark(struct store *s, struct txn_page *p, struct dax_err *err)
{
    uint8_t header[DAX_HEADER_BYTES];
    dax_rc rc = txn_read(s, header, sizeof header, 0, 0, err);
    if (rc != DAX_OK)
        return rc;
    mark_put(header, &s->mark);
    return txn_store(s, p, 0, header, sizeof header, err);
}

/* Lines in which the page differs from its previous version; all, if that cannot be read. */
static uint64_t txn_changed_lines(struct store *s, const struct txn_page *p)
{
    uint64_t bitmap = UINT64_MAX;
    struct guard_fault fault;
    const uint8_t *previous = txn_previous(s, p->page);
    if (previous && p->compared)
        return p->bitmap;
    if (previous && !lines_try_diff(previous, txn_address(s, p), &bitmap, &fault))
        (void)media_fault(s, p->page, &fault, NULL);
    return bitmap;
}

static dax_rc txn_diff(struct store *s, struct dax_err *err)
{
    struct txn *t = &s->txn;
    t->log_pages = t->log_lines = t->log_pairs = 0;
    t->log_listed = false;
    for (uint32_t i = 0; i < t->page_count; i++) {
        struct txn_page *p = &t->pages[i];
        if (p->dropped)
            continue;
        if (p->page == 0 && !p->compared) {
            dax_rc rc = txn_put_mark(s, p, err);
            if (rc != DAX_OK)
                return rc;
        }
        if (p->scratch) {
            t->log_pairs++;
            continue;
        }
        /* A page that grew again is logged whole: what base holds there is history. */
        p->bitmap = p->page >= t->pages_kept
                        ? UINT64_MAX
                        : txn_changed_lines(s, p);
        if (p->bitmap) {
            t->log_pages++;
            t->log_lines += (uint64_t)__builtin_popcountll(p->bitmap);
        }
    }
    return DAX_OK;
}

/* Move every changed private page to scratch: the record then names pairs only. */
static dax_rc txn_move_to_scratch(struct store *s, struct dax_err *err)
{
    struct txn *t = &s->txn;
    for (uint32_t i = 0; i < t->page_count; i++) {
        struct txn_page *p = &t->pages[i];
        if (p->dropped || p->scratch || !p->bitmap)
            continue;
        uint64_t scratch;
        dax_rc rc = txn_take_scratch(s, &scratch, err);
        if (rc != DAX_OK)
            return rc;
        rc = txn_store_scratch(s, scratch, 0, txn_address(s, p), DAX_PAGE_BYTES, err);
        if (rc != DAX_OK)
            return rc;
        p->scratch = scratch;
        GUARDED_SET(s->region.nodes[p->node].storage, scratch);
        GUARDED_ADD(s->region.header->guarded.scratch_nodes, 1);
        t->private_count--;
        t->scratch_count++;
        t->log_pairs++;
    }
    t->log_pages = t->log_lines = 0;
    t->direct_dirty = true;
    return DAX_OK;
}

/* Store the pair list itself to scratch. */
static dax_rc txn_store_list(struct store *s, struct dax_err *err)
{
    struct txn *t = &s->txn;
    uint64_t pages = pages_of(t->log_pairs * sizeof(struct record_pair));
    uint64_t first = 0;
    for (uint64_t run = 0; run < pages; run++) {
        uint64_t page;
        dax_rc rc = txn_take_scratch(s, &page, err);
        if (rc != DAX_OK)
            return rc;
        if (run == 0 || page != first + run) { /* a bad page is in between */
            first = page;
            run = 0;
        }
    }
    struct hash_stream hash;
    hash_begin(&hash);
    struct record_pair buf[DAX_PAGE_BYTES / sizeof(struct record_pair)];
    size_t fill = 0;
    uint64_t page = first;
    for (uint32_t i = 0; i < t->page_count; i++) {
        const struct txn_page *p = &t->pages[i];
        if (p->dropped || !p->scratch)
            continue;
        buf[fill++] = (struct record_pair){p->page, p->scratch};
        if (fill == sizeof buf / sizeof *buf) {
            hash_add(&hash, buf, sizeof buf);
            dax_rc rc = txn_store_scratch(s, page++, 0, buf, sizeof buf, err);
            if (rc != DAX_OK)
                return rc;
            fill = 0;
        }
    }
    if (fill) {
        hash_add(&hash, buf, fill * sizeof *buf);
        dax_rc rc = txn_store_scratch(s, page, 0, buf, fill * sizeof *buf, err);
        if (rc != DAX_OK)
            return rc;
    }
    t->log_listed = true;
    t->list_page = first;
    t->list_hash = hash_end(&hash);
    t->direct_dirty = true;
    return DAX_OK;
}

bool txn_is_empty(const struct txn *t)
{
    return !t->active || (t->log_pages == 0 && t->log_pairs == 0 && t->direct_count == 0 &&
                          t->size_bytes == t->size_old);
}

dax_rc txn_prepare(struct store *s, struct dax_err *err)
{
    struct txn *t = &s->txn;
    if (!t->active || t->prepared)
        return DAX_OK;
    dax_rc rc = txn_fill_holes(s, err);
    if (rc != DAX_OK)
        return rc;
    rc = txn_diff(s, err);
    if (rc != DAX_OK)
        return rc;
    uint64_t limit = log_record_limit(s);
    uint64_t bytes = log_record_bytes(t->log_pages, t->log_lines, t->log_pairs);
    if (bytes > limit && t->log_pages) {
        rc = txn_move_to_scratch(s, err);
        if (rc != DAX_OK)
            return rc;
        bytes = log_record_bytes(0, 0, t->log_pairs);
    }
    if (bytes > limit) {
        rc = txn_store_list(s, err);
        if (rc != DAX_OK)
            return rc;
        bytes = log_record_bytes_listed(0, 0);
    }
    rc = log_reserve(s, bytes, err);
    if (rc != DAX_OK)
        return rc;
    /* Private frames are not what fills memory for long: only versions count, and of those the ones
     * that a checkpoint could do something about. */
    struct region_guarded *g = &s->region.header->guarded;
    uint32_t versions = GUARDED_GET(g->nodes_used) - t->private_count - t->scratch_count;
    if (bytes > log_free(s) || versions > GUARDED_GET(g->nodes_kept) + DAX_FRAMES_HIGH) {
        rc = checkpoint_inline(s, t->slot, bytes, err);
        if (rc != DAX_OK)
            return rc;
    }
    t->prepared = true;
    return DAX_OK;
}
