/* media_repair.c: pages that are put in order, and entries that close with it.
 *
 * Rewriting a page (media_rewrite), with what a crash finds:
 *   intent in the ledger (REWRITE, hash)   the page is bad: the next open finds another hash, or a page
 *                                          that cannot be read: quarantined as before
 *   pwrite of the whole page, fsync        half of it: another hash. All of it: the next open finds the
 *                                          hash and closes the entry
 *   entry closed                           done
 * Where pwrite cannot clear the error, the page's block is given back (a punched hole reads as zeros:
 * the flag keeps readers away) and another one is allocated.
 *
 * An entry that is closed by a commit carries the transaction's number from before P2 (COMMIT): if
 * recovery gets as far as that transaction, it is closed. A commit that fails takes it back.
 */
#include "engine/media_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/chain.h"
#include "engine/checkpoint.h"
#include "engine/conn.h"
#include "engine/hash.h"
#include "engine/ledger.h"
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

static bool media_pwrite_elsewhere(const struct store *s, uint64_t page, const uint8_t *content)
{
    off_t at = (off_t)(page << DAX_PAGE_SHIFT);
    return fallocate(s->base.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, DAX_PAGE_BYTES) == 0 &&
           base_allocate(s->base.fd, page << DAX_PAGE_SHIFT, (page + 1) << DAX_PAGE_SHIFT) == 0 &&
           media_pwrite(s, page, content);
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

/* Note in the ledger that the page is about to be rewritten; false: there is no open entry. */
static void media_intend_rewrite(struct store *s, uint64_t page, const uint8_t *content)
{
    struct media *m = s->media;
    struct dax_err err = {0};
    pthread_mutex_lock(&m->lock);
    struct media_entry *e = media_find_open(m, MEDIA_BASE, page);
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
    if (base_is_cut(&s->base)) {
        media_note_truncated(s);
        if (!media_regrow(s))
            return false;
    }
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
    media_close_page(s, MEDIA_BASE, page, MEDIA_REPAIRED,
                     elsewhere ? "rewritten, in another block" : "rewritten in place");
    pageword_flag(&s->region, page, 0, PAGEWORD_POISONED);
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

/* Holding the writer lock. */
static enum media_status media_repair_base(struct store *s, uint32_t slot, uint64_t page)
{
    static const uint8_t zeros[DAX_PAGE_BYTES];
    uint8_t buf[DAX_PAGE_BYTES];
    uint64_t w = pageword_load(&s->region, page);
    if (!(w & PAGEWORD_POISONED)) {
        media_close_page(s, MEDIA_BASE, page, MEDIA_CLEARED, "the page can be read");
        return MEDIA_CLEARED;
    }
    bool outside = page >= pages_of(store_size(s)) && pageword_state(w) == PAGE_ABSENT;
    if (outside && page < s->base.file_bytes >> DAX_PAGE_SHIFT)
        return media_rewrite(s, page, zeros) ? MEDIA_REPAIRED : MEDIA_QUARANTINED;
    if (outside) {
        pageword_flag(&s->region, page, 0, PAGEWORD_POISONED);
        media_close_page(s, MEDIA_BASE, page, MEDIA_CLEARED, "the page is not in the file any more");
        return MEDIA_CLEARED;
    }
    if (pageword_node(w) && atomic_load(&s->active)) {
        /* A version in a frame: the checkpoint rewrites the page. */
        struct checkpoint_result result = {0};
        struct dax_err err = {0};
        if (checkpoint_run(s, slot, CHECKPOINT_PASSIVE, NULL, NULL, &result, &err) == DAX_OK &&
            !(pageword_load(&s->region, page) & PAGEWORD_POISONED))
            return MEDIA_REPAIRED;
    }
    if (media_read_file(s, page, buf) && media_rewrite(s, page, buf))
        return MEDIA_REPAIRED;
    return MEDIA_QUARANTINED;
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
    int fd = open(s->sidecar.path, O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && pwrite(fd, zeros, sizeof zeros, (off_t)at) == (ssize_t)sizeof zeros &&
                base_fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    uint8_t *mapped = (uint8_t *)s->sidecar.pool + at;
    (void)madvise(mapped, DAX_PAGE_BYTES, MADV_DONTNEED);
    if (!done || !guard_probe(mapped, DAX_PAGE_BYTES, NULL))
        return MEDIA_QUARANTINED;
    media_close_page(s, MEDIA_LOG, page, MEDIA_REPAIRED, "an empty part of the log: zeroed");
    return MEDIA_REPAIRED;
}

/* A page of the sidecar's structure: the twin can be written anew from the root, others are good again or
 * not. */
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
    if (!writer_lock(&s->region, c->slot, DAX_WRITER_WAIT_NS))
        return dax_err_set(err, DAX_BUSY, 0, "%s: another connection is writing", s->base.path);
    /* The ledger is in the sidecar. */
    rc = store_activate(s, c->slot, err);
    if (rc == DAX_OK && part == MEDIA_BASE && page < DAX_MAX_PAGES)
        *status_out = media_repair_base(s, c->slot, page);
    else if (rc == DAX_OK && part != MEDIA_BASE)
        *status_out = media_repair_sidecar(s, page);
    if (rc == DAX_OK && part == MEDIA_LOG && *status_out == MEDIA_QUARANTINED)
        *status_out = media_repair_log(s, c->slot, page);
    conn_unlock_writer(c);
    return rc;
}

dax_rc conn_media_close(struct conn *c, uint64_t page, enum media_status status, const char *detail,
                        struct dax_err *err)
{
    struct store *s = c->store;
    struct media *m = s->media;
    if (!c->writing || !s->txn.active)
        return dax_err_set(err, DAX_MISUSE, 0, "not within a write transaction");
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
        if (rc == DAX_OK)
            *e = next;
    }
    if (rc == DAX_OK && m->closing_count < MEDIA_CLOSING_MAX) {
        struct media_closing *k = &m->closing[m->closing_count++];
        *k = (struct media_closing){page, status, {0}};
        snprintf(k->detail, sizeof k->detail, "%s", detail);
    } else if (rc == DAX_OK) {
        rc = dax_err_set(err, DAX_FULL, 0, "more than %u pages repaired in one transaction",
                         MEDIA_CLOSING_MAX);
    }
    pthread_mutex_unlock(&m->lock);
    return rc;
}

void media_committed(struct store *s, uint64_t txid)
{
    struct media *m = s->media;
    (void)txid;
    for (uint32_t i = 0; i < m->closing_count; i++)
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
    for (uint32_t i = 0; i < m->closing_count; i++) {
        struct media_entry *e = media_find_open(m, MEDIA_BASE, m->closing[i].page);
        if (e && e->intent == INTENT_COMMIT) {
            e->intent = INTENT_NONE;
            (void)!media_keep(s, e, &err);
        }
    }
    m->closing_count = 0;
    pthread_mutex_unlock(&m->lock);
}
