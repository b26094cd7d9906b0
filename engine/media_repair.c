/* media_repair.c: pages that are put in order, and entries that close with it.
 *
 * Rewriting a page (media_rewrite), with what a crash finds:
 *   intent in the ledger (REWRITE, hash)   the page is bad: the next open finds another hash, or a page
 *                                          that cannot be read: quarantined as before
 *   pwrite of the whole page, fsync        half of it: another hash. All of it: the next open finds the
 *                                          hash and closes the entry
 *   entry closed                           done
 * Where pwrite cannot clear the error, the page's block is given back and another one is allocated. In
 * between the page reads as zeros: the flag keeps new readers away, and the entry says "stale" from
 * before, so that nobody takes the zeros for its content, after a crash either.
 *
 * The page's storage is reclaimed by that, as by apply and rehome, and by the same rule: zap, fence, scan
 * (media_zap; of a checkpoint: rehome.c). A reader that pinned the page before it went bad goes on with
 * what it has, and the repair is put off.
 *
 * An entry that is closed by a commit carries the transaction's number from before P2 (COMMIT): if
 * recovery gets as far as that transaction, it is closed. A commit that fails takes it back.
 */
#include "engine/media_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/chain.h"
#include "engine/checkpoint.h"
#include "engine/conn.h"
#include "engine/hash.h"
#include "engine/holders.h"
#include "engine/ledger.h"
#include "engine/sidecar_pool.h"
#include "engine/writer.h"

/* --- repair ----------------------------------------------------------------------------------------- */

/* The mapping's own marks of a page (a poisoned entry of the page table) go with its entries. */
static void media_unmap_page(struct store *s, uint64_t page)
{
    uint8_t *at = base_at(&s->base, page << DAX_PAGE_SHIFT);
    (void)madvise(at, DAX_PAGE_BYTES, MADV_DONTNEED);
}
static bool media_pwrite(const struct store *s, uint64_t page, const uint8_t *content)
{
    ssize_t n;
    do
        n = pwrite(s->base.fd, content, DAX_PAGE_BYTES, (off_t)(page << DAX_PAGE_SHIFT));
    while (n < 0 && errno == EINTR);
    return n == DAX_PAGE_BYTES;
}

/* Is the page's content as of its open entry an older state? Returns what it was. */
static uint32_t media_swap_stale(struct store *s, uint64_t page, uint32_t stale)
{
    struct media *m = s->media;
    struct dax_err err = {0};
    uint32_t before = 0;
    pthread_mutex_lock(&m->lock);
    struct media_entry *e = media_find_open(m, MEDIA_BASE, page);
    if (e) {
        before = e->stale;
        e->stale = stale;
        (void)!media_keep(s, e, &err);
        media_recount(m);
    }
    pthread_mutex_unlock(&m->lock);
    return before;
}

static bool media_pwrite_elsewhere(struct store *s, uint64_t page, const uint8_t *content)
{
    off_t at = (off_t)(page << DAX_PAGE_SHIFT);
    uint32_t before = media_swap_stale(s, page, 1);
    if (fallocate(s->base.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, DAX_PAGE_BYTES) != 0) {
        (void)media_swap_stale(s, page, before);
        return false;
    }
    if (base_allocate(s->base.fd, page << DAX_PAGE_SHIFT, (page + 1) << DAX_PAGE_SHIFT) != 0 ||
        !media_pwrite(s, page, content))
        return false;
    (void)media_swap_stale(s, page, before);
    return true;
}

struct media_compare {
    const uint8_t *a, *b;
    int differ;
};

static void media_compare(void *arg)
{
    struct media_compare *c = arg;
    c->differ = memcmp(c->a, c->b, DAX_PAGE_BYTES);
}

/* Note in the ledger that the page is about to be rewritten. One of a range gets an entry of its own. */
static void media_intend_rewrite(struct store *s, uint64_t page, const uint8_t *content)
{
    struct media *m = s->media;
    struct dax_err err = {0};
    pthread_mutex_lock(&m->lock);
    struct media_entry *e = media_find_open(m, MEDIA_BASE, page);
    bool in_range = e && pages_of(e->bytes) != 1;
    pthread_mutex_unlock(&m->lock);
    if (in_range)
        media_close_page(s, MEDIA_BASE, page, MEDIA_QUARANTINED, NULL);
    pthread_mutex_lock(&m->lock);
    e = media_find_open(m, MEDIA_BASE, page);
    if (e && pages_of(e->bytes) == 1) {
        e->intent = INTENT_REWRITE;
        e->intent_status = MEDIA_REPAIRED;
        e->intent_hash = hash_bytes(content, DAX_PAGE_BYTES);
        (void)!media_keep(s, e, &err);
    }
    pthread_mutex_unlock(&m->lock);
}

bool media_rewrite(struct store *s, uint64_t page, const uint8_t *content)
{
    /* Writing behind the end would leave a hole in front of it. */
    if (base_is_cut(&s->base) && !store_mended_end(s, DAX_IO_MEDIA))
        return false;
    media_intend_rewrite(s, page, content);
    bool elsewhere = false;
    if (!media_pwrite(s, page, content)) {
        elsewhere = true;
        if (!media_pwrite_elsewhere(s, page, content))
            return false;
    }
    media_unmap_page(s, page);
    struct media_compare c = {base_at(&s->base, page << DAX_PAGE_SHIFT), content, 1};
    if (!guard_call(media_compare, &c, NULL) || c.differ)
        return false;
    if (s->persist.mode != PERSIST_VOLATILE && base_fsync(s->base.fd) != 0) {
        (void)!store_synced(s, DAX_IO_WRITE, NULL);
        return false;
    }
    media_close_good(s, page, MEDIA_REPAIRED,
                     elsewhere ? "rewritten, in another block" : "rewritten in place");
    return true;
}

/* The page's content, where the file still has it. */
static bool media_read_file(struct store *s, uint64_t page, uint8_t *buf)
{
    struct media *m = s->media;
    pthread_mutex_lock(&m->lock);
    const struct media_entry *e = media_find_open(m, MEDIA_BASE, page);
    bool usable = !e || (!e->stale && (e->kind == MEDIA_POISON || e->kind == MEDIA_SIGBUS ||
                                       e->kind == MEDIA_IO));
    pthread_mutex_unlock(&m->lock);
    if (!usable)
        return false;
    ssize_t n;
    do
        n = pread(s->base.fd, buf, DAX_PAGE_BYTES, (off_t)(page << DAX_PAGE_SHIFT));
    while (n < 0 && errno == EINTR);
    return n == DAX_PAGE_BYTES;
}

/* Take base's page out of everybody's reach. *zapped_out: it is to become MAPPED again. DAX_BUSY: a reader
 * has it, and it is as it was. */
static dax_rc media_zap(struct store *s, uint64_t page, bool *zapped_out, struct dax_err *err)
{
    struct region *r = &s->region;
    uint64_t w = pageword_load(r, page);
    char holder[160];
    uint32_t wanted = (uint32_t)page;
    /* In the other states nobody takes a pin; one that is being shrunk away may have old ones. (A flagged
     * page is pinned by nobody new either, but not each that comes here is flagged.) */
    *zapped_out = pageword_state(w) == PAGE_MAPPED;
    if (*zapped_out && !pageword_set(r, page, PAGE_ZAPPED, pageword_node(w)))
        return store_fail(s, err, "page %u could not be zapped", wanted);
    /* Behind the exchange of the word: pairs with the pin's store and the second load (pin.c). */
    scan_take(&s->scan, r, UINT32_MAX, true);
    if (!scan_base_pinned(&s->scan, page))
        return DAX_OK;
    bool known = holders_describe(s, UINT32_MAX, &wanted, 1, holder, sizeof holder);
    if (*zapped_out && !pageword_set(r, page, PAGE_MAPPED, pageword_node(w)))
        return store_fail(s, err, "page %u could not be given back", wanted);
    return dax_err_set(err, DAX_BUSY, 0,
                       "%s: page %u is pinned by %s; it cannot be repaired under a reader: try again "
                       "when that has gone on",
                       s->base.path, wanted, known ? holder : "a reader");
}

/* Rewrite base's page, which is flagged, unless somebody has it pinned. */
static dax_rc media_rewrite_zapped(struct store *s, uint64_t page, const uint8_t *content,
                                   enum media_status *status_out, struct dax_err *err)
{
    bool zapped;
    dax_rc rc = media_zap(s, page, &zapped, err);
    if (rc != DAX_OK)
        return rc;
    *status_out = media_rewrite(s, page, content) ? MEDIA_REPAIRED : MEDIA_QUARANTINED;
    if (zapped &&
        !pageword_set(&s->region, page, PAGE_MAPPED, pageword_node(pageword_load(&s->region, page))))
        return store_fail(s, err, "page %u could not be given back", (unsigned)page);
    return DAX_OK;
}

/* Holding the writer lock. */
static dax_rc media_repair_base(struct store *s, uint32_t slot, uint64_t page,
                                enum media_status *status_out, struct dax_err *err)
{
    static const uint8_t zeros[DAX_PAGE_BYTES];
    uint8_t buf[DAX_PAGE_BYTES];
    uint64_t w = pageword_load(&s->region, page);
    *status_out = MEDIA_CLEARED;
    if (!(w & PAGEWORD_POISONED) && !media_is_quarantined(s, page))
        return DAX_OK;
    bool outside = page >= pages_of(store_size(s)) && pageword_state(w) == PAGE_ABSENT;
    if (outside && page < s->base.file_bytes >> DAX_PAGE_SHIFT)
        return media_rewrite_zapped(s, page, zeros, status_out, err);
    if (outside) {
        media_close_good(s, page, MEDIA_CLEARED, "the page is not in the file any more");
        return DAX_OK;
    }
    *status_out = MEDIA_REPAIRED;
    if (pageword_node(w) && atomic_load(&s->active)) {
        /* A version in a frame: the checkpoint rewrites the page. */
        struct checkpoint_result result = {0};
        struct dax_err ignored = {0};
        if (checkpoint_run(s, slot, CHECKPOINT_PASSIVE, NULL, NULL, &result, &ignored) == DAX_OK &&
            !(pageword_load(&s->region, page) & PAGEWORD_POISONED) && !media_is_quarantined(s, page))
            return DAX_OK;
    }
    *status_out = MEDIA_QUARANTINED;
    return media_read_file(s, page, buf) ? media_rewrite_zapped(s, page, buf, status_out, err) : DAX_OK;
}

/* A page of the ring that no live record needs. */
static enum media_status media_repair_log(struct store *s, uint32_t slot, uint64_t page)
{
    static const uint8_t zeros[DAX_PAGE_BYTES];
    struct checkpoint_result result = {0};
    struct dax_err err = {0};
    uint64_t ring = (uint64_t)(s->sidecar.ring - (const uint8_t *)s->sidecar.pool);
    uint64_t at = page << DAX_PAGE_SHIFT;
    if (at < ring || at + DAX_PAGE_BYTES > ring + s->sidecar.ring_bytes ||
        checkpoint_run(s, slot, CHECKPOINT_PASSIVE, NULL, NULL, &result, &err) != DAX_OK ||
        log_live(s) != 0)
        return MEDIA_QUARANTINED;
    dax_rc rc = sidecar_renew_page(&s->sidecar, (uint8_t *)s->sidecar.pool + at, zeros, &err);
    persist_ring_renewed(&s->persist);
    if (rc != DAX_OK)
        return MEDIA_QUARANTINED;
    media_close_page(s, MEDIA_LOG, page, MEDIA_REPAIRED, "an empty part of the log: zeroed");
    return MEDIA_REPAIRED;
}

/* A page of the sidecar's structure: root and twin can be written anew, one from the other, and the ledger;
 * others are good again or not. */
static enum media_status media_repair_sidecar(struct store *s, uint64_t page)
{
    const uint8_t *at = (const uint8_t *)s->sidecar.pool + (page << DAX_PAGE_SHIFT);
    const struct region_guarded *g = &s->region.header->guarded;
    struct dax_err err = {0};
    if (page >= s->sidecar.file_bytes >> DAX_PAGE_SHIFT)
        return MEDIA_QUARANTINED;
    if (guard_probe(at, DAX_PAGE_BYTES, NULL)) {
        media_close_page(s, media_part_of(s, page), page, MEDIA_CLEARED, "the page can be read");
        return MEDIA_CLEARED;
    }
    uint64_t ledger =
        (uint64_t)((const uint8_t *)s->sidecar.ledger - (const uint8_t *)s->sidecar.pool);
    if (s->sidecar.ledger && page - (ledger >> DAX_PAGE_SHIFT) < LEDGER_PAGES) {
        struct media *m = s->media;
        pthread_mutex_lock(&m->lock);
        media_changed(s);
        bool open = media_find_open(m, MEDIA_SIDECAR, page) != NULL;
        pthread_mutex_unlock(&m->lock);
        return open ? MEDIA_QUARANTINED : MEDIA_REPAIRED;
    }
    if (page == (uint64_t)((const uint8_t *)s->sidecar.root - (const uint8_t *)s->sidecar.pool) >>
                    DAX_PAGE_SHIFT) {
        if (sidecar_mend_root(&s->sidecar, &s->persist, &err) != DAX_OK)
            return MEDIA_QUARANTINED;
        media_close_page(s, MEDIA_SIDECAR, page, MEDIA_REPAIRED,
                         "written anew, with the other copy of the cursor");
        return MEDIA_REPAIRED;
    }
    if (at != (const uint8_t *)s->sidecar.twin || log_seal(s, &err) != DAX_OK)
        return MEDIA_QUARANTINED;
    /* Sealing may have found it out and mended it. */
    if (!guard_probe(at, DAX_PAGE_BYTES, NULL) &&
        sidecar_mend_twin(&s->sidecar, &s->persist, GUARDED_GET(g->salt), GUARDED_GET(g->sealed_lsn),
                          &err) != DAX_OK)
        return MEDIA_QUARANTINED;
    media_close_page(s, MEDIA_SIDECAR, page, MEDIA_REPAIRED, "written anew from the other copy");
    return MEDIA_REPAIRED;
}

bool media_heal_log(struct store *s, uint32_t slot)
{
    struct media *m = s->media;
    for (;;) {
        uint64_t page = UINT64_MAX;
        pthread_mutex_lock(&m->lock);
        for (size_t i = 0; i < m->count; i++)
            if (m->entries[i].part == MEDIA_LOG && m->entries[i].status == MEDIA_QUARANTINED)
                page = m->entries[i].page;
        pthread_mutex_unlock(&m->lock);
        if (page == UINT64_MAX)
            return true;
        if (media_repair_log(s, slot, page) != MEDIA_REPAIRED)
            return false;
    }
}

dax_rc conn_media_repair(struct conn *c, enum media_part part, uint64_t page,
                         enum media_status *status_out, struct dax_err *err)
{
    struct store *s = c->store;
    *status_out = MEDIA_QUARANTINED;
    if (!store_same_process(s))
        return dax_err_set(err, DAX_MISUSE, 0, "this connection belongs to the parent process");
    if (c->read_only)
        return dax_err_set(err, DAX_READONLY, 0, "%s is open for reading only", s->base.path);
    if (c->writing)
        return dax_err_set(err, DAX_LOCKED, 0, "%s: end the write transaction before a repair",
                           s->base.path);
    dax_rc rc = store_usable(s, err);
    if (rc != DAX_OK)
        return rc;
    if (!writer_lock(&s->region, c->slot, 0, DAX_WRITER_WAIT_NS))
        return dax_err_set(err, DAX_BUSY, 0, "%s: another connection is writing", s->base.path);
    /* The ledger is in the sidecar. */
    rc = store_activate(s, c->slot, err);
    if (rc == DAX_OK && part == MEDIA_BASE && page < DAX_MAX_PAGES)
        rc = media_repair_base(s, c->slot, page, status_out, err);
    else if (rc == DAX_OK && part != MEDIA_BASE)
        *status_out = media_repair_sidecar(s, page);
    if (rc == DAX_OK && part == MEDIA_LOG && *status_out == MEDIA_QUARANTINED)
        *status_out = media_repair_log(s, c->slot, page);
    conn_unlock_writer(c);
    return rc;
}

/* Room for one more page that the running transaction closes: nothing may fail once it is durable. */
static bool media_closing_reserve(struct media *m)
{
    if (m->closing_count < m->closing_room)
        return true;
    size_t room = m->closing_room ? m->closing_room * 2 : 64;
    struct media_closing *grown = realloc(m->closing, room * sizeof *grown);
    if (!grown)
        return false;
    m->closing = grown;
    m->closing_room = room;
    return true;
}

dax_rc conn_media_close(struct conn *c, uint64_t page, enum media_status status, const char *detail,
                        struct dax_err *err)
{
    struct store *s = c->store;
    struct media *m = s->media;
    if (!c->writing || !s->txn.active)
        return dax_err_set(err, DAX_MISUSE, 0, "not within a write transaction");
    if (!media_closing_reserve(m))
        return dax_err_set(err, DAX_NOMEM, ENOMEM, "no memory for the list of pages that are repaired");
    dax_rc rc = DAX_OK;
    pthread_mutex_lock(&m->lock);
    struct media_entry *e = media_find_open(m, MEDIA_BASE, page);
    if (!e || pages_of(e->bytes) != 1) {
        /* Of a range: closed after the commit, page by page. */
        rc = e ? DAX_OK
               : dax_err_set(err, DAX_MISUSE, 0, "%s: page %llu has no open media error", s->base.path,
                             (unsigned long long)page);
    } else {
        struct media_entry next = *e;
        next.intent = INTENT_COMMIT;
        next.intent_status = status;
        next.intent_nonce = GUARDED_GET(s->region.header->guarded.nonce);
        next.intent_txid = s->txn.snapshot + 1;
        snprintf(next.detail, sizeof next.detail, "%s", detail);
        rc = media_keep(s, &next, err);
        if (rc == DAX_FULL)
            rc = DAX_OK; /* the ledger never had it: the next open has nothing to settle */
        if (rc == DAX_OK)
            *e = next;
    }
    if (rc == DAX_OK) {
        struct media_closing *k = &m->closing[m->closing_count++];
        *k = (struct media_closing){page, status, {0}};
        snprintf(k->detail, sizeof k->detail, "%s", detail);
    }
    pthread_mutex_unlock(&m->lock);
    return rc;
}

void media_committed(struct store *s, uint64_t txid)
{
    struct media *m = s->media;
    (void)txid;
    for (size_t i = 0; i < m->closing_count; i++)
        media_close_page(s, MEDIA_BASE, m->closing[i].page, m->closing[i].status, m->closing[i].detail);
    m->closing_count = 0;
}

void media_aborted(struct store *s)
{
    struct media *m = s->media;
    struct dax_err err = {0};
    if (m->closing_count == 0)
        return;
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->closing_count; i++) {
        struct media_entry *e = media_find_open(m, MEDIA_BASE, m->closing[i].page);
        if (e && e->intent == INTENT_COMMIT) {
            e->intent = INTENT_NONE;
            (void)!media_keep(s, e, &err);
        }
    }
    m->closing_count = 0;
    pthread_mutex_unlock(&m->lock);
}
