/* recovery.c: replay of the log (DESIGN.md section 6).
 *
 * From the cursor, record by record, each checked before anything of it is used: salt, LSN, hash,
 * counts, txid sequence, and page numbers and sizes against the file. Then, in this order:
 *   P3  base is durable: the replayed state no longer needs the log
 *   P4  the cursor moves to the tail, with a new salt: what is in the ring is history
 * A crash before P4 repeats the replay, which ends in the same bytes; after P4 there is nothing to
 * replay. Only after P4 is scratch dropped.
 *
 * The first record that does not fit ends the log: it is the one that was being stored when the
 * power went, or nothing. If a whole record of the same salt with a greater LSN exists, or a seal
 * says that the log was whole beyond this place (L6), then it is damage: a committed transaction would
 * be lost by going on, and base may hold a part of it. That is refused, before anything has been
 * applied, unless the user says so; then every whole record is replayed and the damaged one is left
 * out. (Earlier states cannot be had from a redo log: base may hold any part of later transactions.)
 *
 * A sidecar that libpmemobj cannot be given is read without it, and made anew in place of P4 (salvage.c).
 *
 * What is replayed is sealed first (P7), as it is before a commit applies it.
 */
#include "engine/recovery.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/hash.h"
#include "engine/lines.h"
#include "engine/media.h"
#include "engine/salvage.h"
#include "engine/store.h"

struct recovery {
    uint64_t lsn;
    uint64_t txid;
    uint64_t size_bytes;
    uint64_t file_bytes; /* allocated when recovery began, scratch not counted */
    uint64_t end_bytes;  /* of the file, scratch included */
    uint64_t records;
    uint64_t pages;
    bool skip; /* as asked: go on behind what is damaged */
};

/* pread of exactly len bytes. */
static dax_rc recovery_pread(const struct store *s, void *buf, size_t len, uint64_t offset,
                             struct dax_err *err)
{
    for (size_t got = 0; got < len;) {
        ssize_t n = pread(s->base.fd, (uint8_t *)buf + got, len - got, (off_t)(offset + got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return dax_err_set(err, n < 0 ? DAX_IO_READ : DAX_CORRUPT, n < 0 ? errno : 0,
                               "%s: recovery cannot read %zu bytes at %llu%s", s->base.path, len,
                               (unsigned long long)offset, n < 0 ? "" : ": end of file");
        got += (size_t)n;
    }
    return DAX_OK;
}

static dax_rc recovery_target(const struct store *s, const struct recovery *r, uint64_t page,
                              uint8_t **out, struct dax_err *err)
{
    /* Whole: a commit makes room for whole pages first, so one that is cut off has been lost. */
    if (page >= DAX_MAX_PAGES || page >= r->file_bytes >> DAX_PAGE_SHIFT)
        return dax_err_set(err, DAX_CORRUPT, 0,
                           "%s: the log changes page %llu but the file ends at byte %llu: it has "
                           "been truncated since; restore it from a backup together with %s",
                           s->base.path, (unsigned long long)page,
                           (unsigned long long)r->file_bytes, s->sidecar_path);
    *out = base_at(&s->base, page << DAX_PAGE_SHIFT);
    return DAX_OK;
}

static dax_rc recovery_truncated(const struct store *s, const struct recovery *r, uint64_t need,
                                 struct dax_err *err)
{
    return dax_err_set(err, DAX_CORRUPT, 0,
                       "%s has %llu bytes and should have at least %llu: it has been truncated; "
                       "restore it from a backup together with %s",
                       s->base.path, (unsigned long long)r->end_bytes, (unsigned long long)need,
                       s->sidecar_path);
}

/* [page, + bytes) must be scratch: in the file, and above all that replay itself changes. */
static dax_rc recovery_check_scratch(const struct store *s, const struct recovery *r, uint64_t page,
                                     uint64_t bytes, struct dax_err *err)
{
    uint64_t end = r->end_bytes >> DAX_PAGE_SHIFT, need = pages_of(bytes);
    if (page <= end && need <= end - page && page >= pages_of(r->file_bytes))
        return DAX_OK;
    return dax_err_set(err, DAX_CORRUPT, 0,
                       "%s: the log refers to %llu bytes at page %llu, which is no scratch space of "
                       "the file (%llu bytes): it has been truncated, or the log is damaged; restore "
                       "it from a backup together with %s",
                       s->base.path, (unsigned long long)bytes, (unsigned long long)page,
                       (unsigned long long)r->end_bytes, s->sidecar_path);
}

static dax_rc recovery_check_pair(struct store *s, const struct recovery *r,
                                  const struct record_pair *d, struct dax_err *err)
{
    uint8_t *ignored;
    dax_rc rc = recovery_check_scratch(s, r, d->scratch, DAX_PAGE_BYTES, err);
    return rc == DAX_OK ? recovery_target(s, r, d->page, &ignored, err) : rc;
}

/* The page is bad, and this is what it should hold. */
static dax_rc recovery_rewrite(struct store *s, uint64_t page, const uint8_t *content,
                               struct dax_err *err)
{
    if (media_rewrite(s, page, content))
        return DAX_OK;
    /* Only the log has it now, and it must not be cut. */
    return dax_err_set(err, DAX_IO_MEDIA, 0,
                       "%s: page %llu is bad and cannot be rewritten from the log: is the file system "
                       "full or read-only? Nothing is lost: make room, or copy both files to another "
                       "device, and open it again",
                       s->base.path, (unsigned long long)page);
}

/* Store a page that the log has whole. One that was found bad before is good from here on. All of it, also
 * lines that base holds already: a process that was killed may have left them in the processor's cache
 * (writeback.h). */
static dax_rc recovery_store_page(struct store *s, uint64_t page, uint8_t *to, const uint8_t *content,
                                  struct dax_err *err)
{
    struct guard_fault fault;
    struct dax_err ignored;
    if (!media_is_quarantined(s, page)) {
        if (persist_try_store(&s->persist, to, content, DAX_PAGE_BYTES, &fault))
            return DAX_OK;
        if (guard_is_refusal(&fault))
            return media_fault(s, page, &fault, err);
        (void)media_fault(s, page, &fault, &ignored);
    }
    return recovery_rewrite(s, page, content, err);
}

/* Store lines of a page, packed. Where base's page is bad but pread still has it, they are put together
 * with the rest. Of a page that is gone, lines in the log are no use to anybody: it is entered as such,
 * and everything else is recovered. */
static dax_rc recovery_store(struct store *s, uint64_t page, uint8_t *to, const uint8_t *packed,
                             uint64_t bitmap, struct dax_err *err)
{
    struct guard_fault fault;
    uint8_t whole[DAX_PAGE_BYTES];
    struct dax_err ignored;
    if (bitmap == UINT64_MAX)
        return recovery_store_page(s, page, to, packed, err);
    if (lines_try_unpack(&s->persist, to, packed, bitmap, &fault))
        return DAX_OK;
    if (guard_is_refusal(&fault))
        return media_fault(s, page, &fault, err);
    (void)media_fault(s, page, &fault, &ignored);
    if (recovery_pread(s, whole, sizeof whole, page << DAX_PAGE_SHIFT, &ignored) != DAX_OK) {
        media_set_stale(s, page, "committed changes of the page were lost with it in recovery");
        return DAX_OK;
    }
    lines_unpack_plain(whole, packed, bitmap);
    return recovery_rewrite(s, page, whole, err);
}

static dax_rc recovery_apply_pair(struct store *s, struct recovery *r, const struct record_pair *d,
                                  uint8_t *buf, struct dax_err *err)
{
    uint8_t *to = NULL;
    dax_rc rc = recovery_target(s, r, d->page, &to, err);
    if (rc == DAX_OK)
        rc = recovery_pread(s, buf, DAX_PAGE_BYTES, d->scratch << DAX_PAGE_SHIFT, err);
    if (rc != DAX_OK)
        return rc;
    r->pages++;
    return recovery_store_page(s, d->page, to, buf, err);
}

/* Load the pair list that is in scratch, if it is whole; owned by the caller. */
static dax_rc recovery_load_list(const struct store *s, const struct recovery *r,
                                 const struct record_header *h, uint64_t expected_hash,
                                 struct record_pair **out, struct dax_err *err)
{
    size_t bytes = (size_t)h->pair_count * sizeof(struct record_pair);
    *out = NULL;
    /* Each pair is about another page of the file: a count beyond that must not size an allocation. */
    if (h->pair_count > pages_of(r->file_bytes))
        return dax_err_set(err, DAX_CORRUPT, 0,
                           "%s: transaction %llu lists %u pages, which are more than the file has: the "
                           "log is damaged; restore the database and %s from a backup",
                           s->base.path, (unsigned long long)h->txid, h->pair_count, s->sidecar_path);
    dax_rc rc = recovery_check_scratch(s, r, h->list_page, bytes, err);
    if (rc != DAX_OK)
        return rc;
    struct record_pair *list = malloc(bytes ? bytes : 1);
    if (!list)
        return dax_err_set(err, DAX_NOMEM, ENOMEM, "%s: recovery cannot allocate %zu bytes",
                           s->base.path, bytes);
    rc = recovery_pread(s, list, bytes, h->list_page << DAX_PAGE_SHIFT, err);
    if (rc == DAX_OK && hash_bytes(list, bytes) != expected_hash)
        rc = dax_err_set(err, DAX_CORRUPT, 0,
                         "%s: the page list of transaction %llu is damaged; restore the database "
                         "and %s from a backup",
                         s->base.path, (unsigned long long)h->txid, s->sidecar_path);
    if (rc == DAX_OK)
        *out = list;
    else
        free(list);
    return rc;
}

static dax_rc recovery_apply_list(struct store *s, struct recovery *r, const struct record_header *h,
                                  uint64_t expected_hash, uint8_t *page_buf, struct dax_err *err)
{
    struct record_pair *list;
    dax_rc rc = recovery_load_list(s, r, h, expected_hash, &list, err);
    for (uint32_t i = 0; rc == DAX_OK && i < h->pair_count; i++)
        rc = recovery_apply_pair(s, r, &list[i], page_buf, err);
    free(list);
    return rc;
}

static dax_rc recovery_check_list(struct store *s, struct recovery *r, const struct record_header *h,
                                  uint64_t expected_hash, struct dax_err *err)
{
    struct record_pair *list;
    dax_rc rc = recovery_load_list(s, r, h, expected_hash, &list, err);
    for (uint32_t i = 0; rc == DAX_OK && i < h->pair_count; i++)
        rc = recovery_check_pair(s, r, &list[i], err);
    free(list);
    return rc;
}

/* Apply the record in the log buffer. */
static dax_rc recovery_apply(struct store *s, struct recovery *r, struct dax_err *err)
{
    uint8_t page_buf[DAX_PAGE_BYTES];
    const uint8_t *b = s->log.buffer;
    struct record_header h;
    memcpy(&h, b, sizeof h);
    const uint8_t *descriptor = b + sizeof h;
    bool listed = h.flags & DAX_RECORD_LIST_IN_SCRATCH;
    size_t descriptors = h.page_count * sizeof(struct record_page) +
                         (listed ? sizeof(struct record_list)
                                 : h.pair_count * sizeof(struct record_pair));
    const uint8_t *lines =
        descriptor + ((descriptors + DAX_LINE_BYTES - 1) & ~(size_t)(DAX_LINE_BYTES - 1));
    for (uint32_t i = 0; i < h.page_count; i++, descriptor += sizeof(struct record_page)) {
        struct record_page d;
        uint8_t *to = NULL;
        memcpy(&d, descriptor, sizeof d);
        dax_rc rc = recovery_target(s, r, d.page, &to, err);
        if (rc != DAX_OK)
            return rc;
        rc = recovery_store(s, d.page, to, lines, d.bitmap, err);
        if (rc != DAX_OK)
            return rc;
        lines += (size_t)__builtin_popcountll(d.bitmap) * DAX_LINE_BYTES;
        r->pages++;
    }
    if (listed) {
        struct record_list l;
        memcpy(&l, descriptor, sizeof l);
        return recovery_apply_list(s, r, &h, l.hash, page_buf, err);
    }
    for (uint32_t i = 0; i < h.pair_count; i++, descriptor += sizeof(struct record_pair)) {
        struct record_pair d;
        memcpy(&d, descriptor, sizeof d);
        dax_rc rc = recovery_apply_pair(s, r, &d, page_buf, err);
        if (rc != DAX_OK)
            return rc;
    }
    return DAX_OK;
}

/* Check the record in the buffer against what came before it, without applying anything. */
static dax_rc recovery_check(struct store *s, struct recovery *r, bool *next_out,
                             struct dax_err *err)
{
    const uint8_t *b = s->log.buffer;
    struct record_header h;
    memcpy(&h, b, sizeof h);
    *next_out = h.txid == r->txid + (h.flags & DAX_RECORD_RELOG ? 0 : 1);
    const uint8_t *descriptor = b + sizeof h;
    if (!*next_out)
        return DAX_OK;
    /* Direct pages are named by no record, but they are below its size. */
    if (h.size_bytes > r->file_bytes)
        return recovery_truncated(s, r, h.size_bytes, err);
    dax_rc rc = DAX_OK;
    for (uint32_t i = 0; rc == DAX_OK && i < h.page_count; i++) {
        struct record_page d;
        uint8_t *ignored;
        memcpy(&d, descriptor, sizeof d);
        rc = recovery_target(s, r, d.page, &ignored, err);
        descriptor += sizeof d;
    }
    bool listed = h.flags & DAX_RECORD_LIST_IN_SCRATCH;
    for (uint32_t i = 0; rc == DAX_OK && !listed && i < h.pair_count; i++) {
        struct record_pair d;
        memcpy(&d, descriptor, sizeof d);
        rc = recovery_check_pair(s, r, &d, err);
        descriptor += sizeof d;
    }
    if (rc != DAX_OK || !listed)
        return rc;
    struct record_list l;
    memcpy(&l, descriptor, sizeof l);
    return recovery_check_list(s, r, &h, l.hash, err);
}

/* After the record in the buffer. */
static void recovery_advance(struct store *s, struct recovery *r)
{
    struct record_header h;
    memcpy(&h, s->log.buffer, sizeof h);
    r->lsn += (uint64_t)h.length_lines * DAX_LINE_BYTES;
    r->txid = h.txid;
    r->size_bytes = h.size_bytes;
    r->records++;
}

/* The record at r, if there is a whole one. A part of the ring that cannot be read ends the log where
 * nothing behind it can have been acknowledged: in cache-line modes a commit returns when it is sealed
 * (L6). Elsewhere a committed transaction may be there, and going on without it is for the user to say. */
static dax_rc recovery_read(struct store *s, const struct recovery *r, bool *valid_out,
                            struct dax_err *err)
{
    dax_rc rc = log_read(s, r->lsn, valid_out, err);
    if (rc != DAX_IO_MEDIA)
        return rc;
    uint64_t salt = GUARDED_GET(s->region.header->guarded.salt);
    bool at_end = s->persist.mode != PERSIST_MSYNC && sidecar_twin_whole(&s->sidecar) &&
                  sidecar_sealed(&s->sidecar, salt) <= r->lsn;
    if (at_end || r->skip)
        return DAX_OK;
    return dax_err_set(
        err, DAX_IO_MEDIA, 0,
        "%s: the log after transaction %llu, at LSN %llu, cannot be read: later commits may be "
        "lost. Copy both files; then dax_damaged_log=skip replays what can be read and leaves it to "
        "PRAGMA integrity_check what is missing. Nothing was changed",
        s->sidecar_path, (unsigned long long)r->txid, (unsigned long long)r->lsn);
}

/* Walk the log from r to its end; with apply, replay it. *later_out, with look: 0, or the LSN of a
 * whole record behind the one that ended the walk. */
static dax_rc recovery_walk(struct store *s, struct recovery *r, bool apply, bool look,
                            uint64_t *later_out, struct dax_err *err)
{
    *later_out = 0;
    for (;;) {
        bool valid, next = false;
        dax_rc rc = recovery_read(s, r, &valid, err);
        if (rc == DAX_OK && valid)
            rc = recovery_check(s, r, &next, err);
        if (rc == DAX_OK && next && apply)
            rc = recovery_apply(s, r, err);
        if (rc != DAX_OK)
            return rc;
        if (!next)
            return look ? log_find_later(s, r->lsn, later_out, err) : DAX_OK;
        recovery_advance(s, r);
    }
}

/* First everything up to the first misfit is checked, then it is applied: a recovery that is refused
 * has changed nothing. (With skip, what lies behind a damaged record is checked as it is applied.) */
static dax_rc recovery_replay(struct store *s, struct recovery *r, bool skip, struct dax_err *err)
{
    struct recovery ahead = *r;
    uint64_t later;
    dax_rc rc = recovery_walk(s, &ahead, false, true, &later, err);
    if (rc != DAX_OK)
        return rc;
    uint64_t salt = GUARDED_GET(s->region.header->guarded.salt);
    uint64_t sealed = sidecar_sealed(&s->sidecar, salt);
    if ((later || sealed > ahead.lsn) && !skip)
        return dax_err_set(err, DAX_CORRUPT, 0,
                           "%s: the log record at LSN %llu, after transaction %llu, is damaged: %s "
                           "LSN %llu. Keep copies of both files; then dax_damaged_log=skip replays "
                           "the others and leaves it to PRAGMA integrity_check what is missing",
                           s->sidecar_path, (unsigned long long)ahead.lsn,
                           (unsigned long long)ahead.txid,
                           later ? "whole records follow it at" : "the log was whole up to",
                           (unsigned long long)(later ? later : sealed));
    if (sealed > ahead.lsn && !later)
        dax_log(DAX_CORRUPT,
                "%s: damaged log record at LSN %llu, after transaction %llu, the last one, skipped "
                "as asked: check the database",
                s->sidecar_path, (unsigned long long)ahead.lsn, (unsigned long long)ahead.txid);
    if (ahead.records && sealed < ahead.lsn) {
        rc = log_seal_to(s, ahead.lsn, err);
        if (rc != DAX_OK)
            return rc;
    }
    for (;;) {
        rc = recovery_walk(s, r, true, later != 0, &later, err);
        if (rc != DAX_OK || later == 0)
            return rc;
        dax_log(DAX_CORRUPT,
                "%s: damaged log record at LSN %llu, after transaction %llu, skipped as "
                "asked: check the database",
                s->sidecar_path, (unsigned long long)r->lsn, (unsigned long long)r->txid);
        bool valid;
        rc = log_read(s, later, &valid, err);
        if (rc != DAX_OK || !valid)
            return rc;
        struct record_header h;
        memcpy(&h, s->log.buffer, sizeof h);
        r->lsn = later;
        r->txid = h.txid - (h.flags & DAX_RECORD_RELOG ? 0 : 1);
    }
}

/* Sidecar open, and it is ours. */
static dax_rc recovery_open_sidecar(struct store *s, struct cursor_slot *cursor_out,
                                    struct dax_err *err)
{
    dax_rc rc = sidecar_open(s->sidecar_path, &s->sidecar, err);
    if (rc != DAX_OK)
        rc = salvage_open(s, rc, err);
    if (rc != DAX_OK) {
        if (err && err->sys_errno == ENOENT)
            return dax_err_set(err, DAX_CANT_OPEN, 0,
                               "%s was not closed by daxlite and needs its sidecar %s, which is "
                               "missing: put it back beside the database",
                               s->base.path, s->sidecar_path);
        return rc;
    }
    rc = store_watch_sidecar(s, err);
    if (rc == DAX_OK)
        rc = store_match_sidecar(s, err);
    if (rc == DAX_OK)
        rc = sidecar_cursor_read(&s->sidecar, cursor_out, err);
    if (rc != DAX_OK)
        return rc;
    if (cursor_out->txid < 1 || cursor_out->txid > DAX_TXID_MAX)
        return dax_err_set(err, DAX_CORRUPT, 0,
                           "the cursor of the log \"%s\" is damaged: restore it and %s from a backup",
                           s->sidecar_path, s->base.path);
    if (cursor_out->nonce != s->mark.nonce)
        return dax_err_set(err, DAX_CANT_OPEN, 0,
                           "%s belongs to another database than %s (or to another life of it): put "
                           "the sidecar back that was beside the database",
                           s->sidecar_path, s->base.path);
    return DAX_OK;
}

/* P3, P4, and the file without scratch. */
static dax_rc recovery_finish(struct store *s, const struct recovery *r, struct dax_err *err)
{
    struct region_guarded *g = &s->region.header->guarded;
    dax_rc rc = persist_point(&s->persist, PERSIST_P3_BASE, err);
    if (rc != DAX_OK)
        return rc;
    struct cursor_slot c = {.lsn = r->lsn,
                            .txid = r->txid,
                            .size_bytes = r->size_bytes,
                            .salt = store_random(),
                            .nonce = s->mark.nonce};
    rc = s->sidecar.bare ? salvage_renew(s, &c, err) : log_write_cursor(s, r->lsn, &c, err);
    if (rc != DAX_OK)
        return rc;
    log_start(s, &c);
    GUARDED_SET(g->recovered_records, r->records);
    GUARDED_SET(g->recovered_pages, r->pages);
    /* Drops scratch and what an unfinished transaction has stored beyond the end. */
    uint64_t keep = (pages_of(r->size_bytes) << DAX_PAGE_SHIFT) + DAX_GROW_BYTES_MIN - 1;
    keep -= keep % DAX_GROW_BYTES_MIN;
    if (keep == 0)
        keep = DAX_GROW_BYTES_MIN; /* the mark is in page 0 */
    return base_cut(&s->base, keep < s->base.file_bytes ? keep : s->base.file_bytes, err);
}

dax_rc recovery_run(struct store *s, bool skip, uint64_t *txid_out, uint64_t *size_out,
                    struct dax_err *err)
{
    struct cursor_slot cursor = {0};
    dax_rc rc = recovery_open_sidecar(s, &cursor, err);
    if (rc != DAX_OK)
        goto out;
    struct recovery r = {.lsn = cursor.lsn,
                         .txid = cursor.txid,
                         .size_bytes = cursor.size_bytes,
                         .file_bytes = s->base.file_bytes,
                         .skip = skip};
    r.end_bytes = base_end(&s->base);
    if (cursor.size_bytes > s->base.file_bytes) {
        rc = recovery_truncated(s, &r, cursor.size_bytes, err);
        goto out;
    }
    /* Holes (a sparse copy) are filled before anything is stored into them. */
    rc = base_reserve(&s->base, s->base.file_bytes & ~(uint64_t)(DAX_PAGE_BYTES - 1), err);
    if (rc != DAX_OK)
        goto out;
    GUARDED_SET(s->region.header->guarded.salt, cursor.salt);
    rc = media_load(s, err); /* first: a page that is known to be bad is rewritten, or left alone */
    if (rc != DAX_OK)
        goto out;
    rc = recovery_replay(s, &r, skip, err);
    if (rc == DAX_OK)
        rc = recovery_finish(s, &r, err);
    if (rc != DAX_OK)
        goto out;
    media_settle(s, cursor.nonce, r.txid);
    *txid_out = r.txid;
    *size_out = r.size_bytes;
    if (r.records)
        dax_log(DAX_OK, "%s recovered: %llu transactions, %llu pages replayed",
                s->base.path, (unsigned long long)r.records, (unsigned long long)r.pages);
out:
    if (rc != DAX_OK)
        store_close_sidecar(s);
    return rc;
}
