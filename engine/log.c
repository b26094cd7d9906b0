/* log.c: records in the ring. */
#include "engine/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/hash.h"
#include "engine/media.h"
#include "engine/store.h"

static uint64_t log_round(uint64_t bytes)
{
    return (bytes + DAX_LINE_BYTES - 1) & ~(uint64_t)(DAX_LINE_BYTES - 1);
}

uint64_t log_record_bytes(uint64_t pages, uint64_t lines, uint64_t pairs)
{
    return sizeof(struct record_header) +
           log_round(pages * sizeof(struct record_page) + pairs * sizeof(struct record_pair)) +
           lines * DAX_LINE_BYTES;
}

uint64_t log_record_bytes_listed(uint64_t pages, uint64_t lines)
{
    return sizeof(struct record_header) +
           log_round(pages * sizeof(struct record_page) + sizeof(struct record_list)) +
           lines * DAX_LINE_BYTES;
}

uint64_t log_live(const struct store *s)
{
    const struct region_guarded *g = &s->region.header->guarded;
    return GUARDED_GET(g->lsn_tail) - GUARDED_GET(g->lsn_cursor);
}

uint64_t log_free_with_reserve(const struct store *s)
{
    return s->sidecar.ring_bytes - log_live(s);
}

uint64_t log_free(const struct store *s)
{
    uint64_t reserve = s->sidecar.ring_bytes / DAX_RING_RESERVE_PART;
    uint64_t all = log_free_with_reserve(s);
    return all > reserve ? all - reserve : 0;
}

uint64_t log_record_limit(const struct store *s)
{
    return s->sidecar.ring_bytes / DAX_RING_RECORD_PART;
}

dax_rc log_reserve(struct store *s, uint64_t record_bytes, struct dax_err *err)
{
    struct log *l = &s->log;
    if (record_bytes <= l->capacity)
        return DAX_OK;
    size_t capacity = l->capacity ? l->capacity : 64 * DAX_KIB;
    while (capacity < record_bytes)
        capacity *= 2;
    uint8_t *buffer = aligned_alloc(DAX_PAGE_BYTES, capacity);
    if (!buffer)
        return dax_err_set(err, DAX_NOMEM, ENOMEM, "cannot allocate %zu bytes for a log record",
                           capacity);
    free(l->buffer);
    l->buffer = buffer;
    l->capacity = capacity;
    return DAX_OK;
}

void log_begin(struct store *s, uint64_t pages, uint64_t pairs, bool listed)
{
    struct log *l = &s->log;
    size_t tail = listed ? sizeof(struct record_list) : pairs * sizeof(struct record_pair);
    l->descriptor_bytes = 0;
    l->descriptor_space = log_round(pages * sizeof(struct record_page) + tail);
    l->line_bytes = 0;
    l->page_count = 0;
    l->pair_count = 0;
    l->page_high = 0;
    l->names_scratch = false;
    /* Padding is part of what is hashed. */
    if (l->descriptor_space)
        memset(l->buffer + sizeof(struct record_header) + l->descriptor_space - DAX_LINE_BYTES, 0,
               DAX_LINE_BYTES);
}

static void *log_descriptor(struct log *l, size_t bytes)
{
    void *at = l->buffer + sizeof(struct record_header) + l->descriptor_bytes;
    l->descriptor_bytes += bytes;
    DAX_ASSERT(l->descriptor_bytes <= l->descriptor_space);
    return at;
}

void log_add_page(struct store *s, uint64_t page, uint64_t bitmap, const uint8_t *content)
{
    struct log *l = &s->log;
    struct record_page d = {page, bitmap};
    memcpy(log_descriptor(l, sizeof d), &d, sizeof d);
    l->page_count++;
    uint8_t *lines = l->buffer + sizeof(struct record_header) + l->descriptor_space;
    for (; bitmap; bitmap &= bitmap - 1) {
        unsigned i = (unsigned)__builtin_ctzll(bitmap);
        memcpy(lines + l->line_bytes, content + i * DAX_LINE_BYTES, DAX_LINE_BYTES);
        l->line_bytes += DAX_LINE_BYTES;
    }
    if (page >= l->page_high)
        l->page_high = page + 1;
}

void log_add_pair(struct store *s, uint64_t page, uint64_t scratch)
{
    struct log *l = &s->log;
    struct record_pair d = {page, scratch};
    memcpy(log_descriptor(l, sizeof d), &d, sizeof d);
    l->pair_count++;
    l->names_scratch = true;
    if (page >= l->page_high)
        l->page_high = page + 1;
}

void log_add_list(struct store *s, uint64_t list_hash, uint64_t pair_count, uint64_t page_high)
{
    struct log *l = &s->log;
    struct record_list d = {list_hash, 0};
    memcpy(log_descriptor(l, sizeof d), &d, sizeof d);
    l->pair_count = (uint32_t)pair_count;
    l->names_scratch = true;
    if (page_high > l->page_high)
        l->page_high = page_high;
}

/* Store into the ring, in two pieces where it wraps. */
static dax_rc log_store(struct store *s, uint64_t lsn, const uint8_t *from, size_t bytes,
                        struct dax_err *err)
{
    uint64_t place = lsn % s->sidecar.ring_bytes;
    size_t first = s->sidecar.ring_bytes - place < bytes ? s->sidecar.ring_bytes - place : bytes;
    uint8_t *ring = s->sidecar.ring;
    struct guard_fault fault;
    if (!persist_try_store(&s->persist, ring + place, from, first, &fault))
        return media_fault_sidecar(s, ring + place, &fault, err);
    if (first < bytes &&
        !persist_try_store(&s->persist, ring, from + first, bytes - first, &fault))
        return media_fault_sidecar(s, ring, &fault, err);
    return DAX_OK;
}

/* P2 has failed with rc: the record may or may not be on the medium. Make it invalid if that is still possible, so
 * that a caller who was told of an error does not find the transaction after all. */
static dax_rc log_take_back(struct store *s, uint64_t lsn, dax_rc rc, struct dax_err *err)
{
    static const uint8_t zero[DAX_LINE_BYTES];
    struct dax_err second;
    bool gone = log_store(s, lsn, zero, sizeof zero, &second) == DAX_OK &&
                persist_point(&s->persist, PERSIST_P2_RECORD, &second) == DAX_OK;
    second.rc = DAX_IO_WRITE;
    second.sys_errno = err ? err->sys_errno : 0;
    snprintf(second.text, sizeof second.text, "%.400s; the transaction is %s",
             err ? err->text : "sync failed",
             gone ? "not committed" : "committed or not, which the next open will show");
    /* Other errors may be the disk's flush: then what else was in its cache is in doubt. */
    if (rc == DAX_FULL && gone)
        return dax_err_set(err, DAX_FULL, second.sys_errno, "%s", second.text);
    return store_synced(s, DAX_IO_WRITE, &second);
}

dax_rc log_append(struct store *s, uint64_t txid, uint64_t size_bytes, uint32_t flags,
                  uint64_t list_page, struct dax_err *err)
{
    struct log *l = &s->log;
    struct region_guarded *g = &s->region.header->guarded;
    uint64_t lsn = GUARDED_GET(g->lsn_tail);
    size_t bytes = sizeof(struct record_header) + l->descriptor_space + l->line_bytes;
    if (bytes > log_free_with_reserve(s))
        return store_fail(s, err, "log record of %zu bytes does not fit into %llu free ones",
                          bytes, (unsigned long long)log_free_with_reserve(s));

    struct record_header *h = (struct record_header *)l->buffer;
    *h = (struct record_header){.lsn = lsn,
                                .salt = GUARDED_GET(g->salt),
                                .txid = txid,
                                .size_bytes = size_bytes,
                                .length_lines = (uint32_t)(bytes / DAX_LINE_BYTES),
                                .page_count = l->page_count,
                                .pair_count = l->pair_count,
                                .flags = flags,
                                .list_page = list_page};
    h->hash = hash_bytes(l->buffer + sizeof h->hash, bytes - sizeof h->hash);
    dax_rc rc = log_store(s, lsn, l->buffer, bytes, err);
    if (rc != DAX_OK) /* what was stored of it has no hash that fits */
        return rc;
    rc = persist_point(&s->persist, PERSIST_P2_RECORD, err);
    if (rc != DAX_OK)
        return log_take_back(s, lsn, rc, err);
    GUARDED_SET(g->tail_txid, txid);
    GUARDED_SET(g->lsn_tail, lsn + bytes);
    if (l->page_high > GUARDED_GET(g->log_high))
        GUARDED_SET(g->log_high, l->page_high);
    if (l->names_scratch && flags & DAX_RECORD_RELOG)
        GUARDED_SET(g->relog_lsn, lsn + bytes);
    else if (l->names_scratch)
        GUARDED_SET(g->scratch_lsn, lsn + bytes);
    GUARDED_ADD(g->log_bytes_total, bytes);
    GUARDED_ADD(g->lines_logged, l->line_bytes / DAX_LINE_BYTES);
    return DAX_OK;
}

/* Both pages with the cursor are bad. What is in memory is all that still knows which records count. */
static dax_rc log_cursor_lost(struct store *s, struct dax_err *err)
{
    struct dax_err ignored;
    const uint8_t *pool = s->sidecar.pool;
    uint64_t root = (uint64_t)((const uint8_t *)s->sidecar.root - pool) / DAX_PAGE_BYTES;
    uint64_t twin = (uint64_t)((const uint8_t *)s->sidecar.twin - pool) / DAX_PAGE_BYTES;
    (void)media_fault_sidecar(s, s->sidecar.root, NULL, &ignored);
    (void)media_fault_sidecar(s, s->sidecar.twin, NULL, &ignored);
    s->cursor_lost = true;
    /* What to do comes early: SQLite's log takes 210 bytes of a message. */
    return dax_err_set(err, DAX_IO_MEDIA, 0,
                       "pages %llu and %llu of the log, both with its cursor, are bad: save it now "
                       "(VACUUM INTO, or a backup). What this process can read of the database is all "
                       "there, but the log can neither be cut nor replayed by the next open (%s)",
                       (unsigned long long)root, (unsigned long long)twin, s->sidecar_path);
}

static dax_rc log_mend_root(struct store *s, const struct guard_fault *fault, struct dax_err *err)
{
    struct dax_err ignored;
    (void)media_fault_sidecar(s, s->sidecar.root, fault, &ignored);
    dax_rc rc = sidecar_mend_root(&s->sidecar, &s->persist, err);
    if (rc == DAX_OK)
        media_sidecar_mended(s, s->sidecar.root, "written anew, with the other copy of the cursor");
    else if (!sidecar_twin_whole(&s->sidecar))
        rc = log_cursor_lost(s, err);
    return rc;
}

static dax_rc log_mend_twin(struct store *s, uint64_t lsn, struct dax_err *err)
{
    struct dax_err ignored;
    (void)media_fault_sidecar(s, s->sidecar.twin, NULL, &ignored);
    uint64_t salt = GUARDED_GET(s->region.header->guarded.salt);
    dax_rc rc = sidecar_mend_twin(&s->sidecar, &s->persist, salt, lsn, err);
    if (rc == DAX_OK)
        media_sidecar_mended(s, s->sidecar.twin, "written anew from the other copy");
    return rc;
}

/* Root or twin cannot be stored to: enter it, and write it anew from the other one. seal: the store was that
 * of a seal, which the twin has afterwards. */
static dax_rc log_mend(struct store *s, uint64_t lsn, bool seal, struct dax_err *err)
{
    struct guard_fault fault;
    dax_rc rc = DAX_OK;
    bool root = guard_probe(s->sidecar.root, sizeof *s->sidecar.root, &fault);
    if (!root)
        rc = log_mend_root(s, &fault, err);
    if (rc == DAX_OK && (root || seal || !sidecar_twin_whole(&s->sidecar)))
        rc = log_mend_twin(s, lsn, err);
    return rc;
}

dax_rc log_write_cursor(struct store *s, uint64_t sealed, struct cursor_slot *c, struct dax_err *err)
{
    dax_rc rc = sidecar_cursor_write(&s->sidecar, &s->persist, c, err);
    if (rc != DAX_IO_MEDIA)
        return rc;
    rc = log_mend(s, sealed, false, err);
    return rc == DAX_OK ? sidecar_cursor_write(&s->sidecar, &s->persist, c, err) : rc;
}

dax_rc log_seal_to(struct store *s, uint64_t lsn, struct dax_err *err)
{
    uint64_t salt = GUARDED_GET(s->region.header->guarded.salt);
    dax_rc rc = sidecar_seal(&s->sidecar, &s->persist, salt, lsn, err);
    if (rc == DAX_IO_MEDIA && s->sidecar.bare)
        return DAX_OK; /* made anew as soon as base is durable */
    return rc == DAX_IO_MEDIA ? log_mend(s, lsn, true, err) : rc;
}

dax_rc log_seal(struct store *s, struct dax_err *err)
{
    struct region_guarded *g = &s->region.header->guarded;
    uint64_t lsn = GUARDED_GET(g->lsn_tail);
    if (GUARDED_GET(g->sealed_lsn) == lsn)
        return DAX_OK;
    dax_rc rc = store_synced(s, log_seal_to(s, lsn, err), err);
    if (rc != DAX_OK)
        return rc;
    GUARDED_SET(g->sealed_lsn, lsn);
    GUARDED_SET(g->sealed_txid, GUARDED_GET(g->tail_txid));
    return DAX_OK;
}

bool log_is_sealed(const struct store *s, uint64_t txid)
{
    return txid <= GUARDED_GET(s->region.header->guarded.sealed_txid);
}

void log_start(struct store *s, const struct cursor_slot *c)
{
    struct region_guarded *g = &s->region.header->guarded;
    GUARDED_SET(g->lsn_cursor, c->lsn);
    GUARDED_SET(g->lsn_tail, c->lsn);
    GUARDED_SET(g->sealed_lsn, c->lsn);
    GUARDED_SET(g->tail_txid, c->txid);
    GUARDED_SET(g->sealed_txid, c->txid);
    GUARDED_SET(g->salt, c->salt);
    GUARDED_SET(g->nonce, c->nonce);
}

static dax_rc log_load(struct store *s, uint64_t lsn, void *to, size_t bytes, struct dax_err *err)
{
    uint64_t place = lsn % s->sidecar.ring_bytes;
    size_t first = s->sidecar.ring_bytes - place < bytes ? s->sidecar.ring_bytes - place : bytes;
    const uint8_t *ring = s->sidecar.ring;
    struct guard_fault fault;
    if (!guard_copy(to, ring + place, first, &fault))
        return media_fault_sidecar(s, ring + place, &fault, err);
    if (first < bytes && !guard_copy((uint8_t *)to + first, ring, bytes - first, &fault))
        return media_fault_sidecar(s, ring, &fault, err);
    return DAX_OK;
}

/* Do the counts of a header describe its length? Checked before they are used for anything. */
static bool log_header_fits(const struct store *s, const struct record_header *h, uint64_t lsn)
{
    if (h->txid < 1 || h->txid > DAX_TXID_MAX)
        return false;
    if (h->lsn != lsn || h->salt != GUARDED_GET(s->region.header->guarded.salt) ||
        (h->flags & ~DAX_RECORD_FLAGS_KNOWN) != 0 || h->length_lines < 1 ||
        (uint64_t)h->length_lines * DAX_LINE_BYTES > s->sidecar.ring_bytes)
        return false;
    uint64_t payload = (uint64_t)h->length_lines * DAX_LINE_BYTES - sizeof *h;
    uint64_t descriptors = (uint64_t)h->page_count * sizeof(struct record_page);
    descriptors += h->flags & DAX_RECORD_LIST_IN_SCRATCH
                       ? sizeof(struct record_list)
                       : (uint64_t)h->pair_count * sizeof(struct record_pair);
    return log_round(descriptors) <= payload;
}

/* log_read, of a record whose header is loaded. */
static dax_rc log_read_rest(struct store *s, uint64_t lsn, const struct record_header *header,
                            bool *valid_out, struct dax_err *err)
{
    struct record_header h = *header;
    *valid_out = false;
    if (!log_header_fits(s, &h, lsn))
        return DAX_OK;
    size_t bytes = (size_t)h.length_lines * DAX_LINE_BYTES;
    dax_rc rc = log_reserve(s, bytes, err);
    if (rc != DAX_OK)
        return rc;
    uint8_t *b = s->log.buffer;
    rc = log_load(s, lsn, b, bytes, err);
    if (rc != DAX_OK)
        return rc;
    if (hash_bytes(b + sizeof h.hash, bytes - sizeof h.hash) != h.hash)
        return DAX_OK;
    /* The hash fits, so these are the writer's own counts; the bitmaps must fit the lines too. */
    uint64_t lines = 0;
    for (uint32_t i = 0; i < h.page_count; i++) {
        struct record_page d;
        memcpy(&d, b + sizeof h + i * sizeof d, sizeof d);
        lines += (uint64_t)__builtin_popcountll(d.bitmap);
    }
    uint64_t expected = h.flags & DAX_RECORD_LIST_IN_SCRATCH
                            ? log_record_bytes_listed(h.page_count, lines)
                            : log_record_bytes(h.page_count, lines, h.pair_count);
    *valid_out = expected == bytes;
    return DAX_OK;
}

dax_rc log_read(struct store *s, uint64_t lsn, bool *valid_out, struct dax_err *err)
{
    struct record_header h;
    *valid_out = false;
    dax_rc rc = log_load(s, lsn, &h, sizeof h, err);
    return rc == DAX_OK ? log_read_rest(s, lsn, &h, valid_out, err) : rc;
}

/* Bytes from the line at lsn to the next page, or to the end of the ring. */
static uint64_t log_rest_of_page(const struct store *s, uint64_t lsn)
{
    uint64_t place = lsn % s->sidecar.ring_bytes, left = s->sidecar.ring_bytes - place;
    uint64_t rest = DAX_PAGE_BYTES - (uintptr_t)(s->sidecar.ring + place) % DAX_PAGE_BYTES;
    return rest < left ? rest : left;
}

dax_rc log_find_later(struct store *s, uint64_t lsn, uint64_t *found_out, struct dax_err *err)
{
    *found_out = 0;
    uint64_t end = lsn + s->sidecar.ring_bytes;
    for (uint64_t at = lsn + DAX_LINE_BYTES, step; at < end; at += step) {
        struct record_header h;
        bool valid = false;
        dax_rc rc = log_load(s, at, &h, sizeof h, err);
        /* Memory fails by pages: no line of this one holds a header. (Asked line by line, a ring that
         * cannot be read takes a signal and several system calls for each of them.) */
        step = rc == DAX_IO_MEDIA ? log_rest_of_page(s, at) : DAX_LINE_BYTES;
        if (rc == DAX_OK)
            rc = log_read_rest(s, at, &h, &valid, err);
        if (rc == DAX_IO_MEDIA)
            continue; /* no whole record there */
        if (rc != DAX_OK)
            return rc;
        if (valid) {
            *found_out = at;
            return DAX_OK;
        }
    }
    return DAX_OK;
}

void log_destroy(struct log *l)
{
    free(l->buffer);
    memset(l, 0, sizeof *l);
}
