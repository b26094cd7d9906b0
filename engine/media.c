/* media.c: entries of media errors and the flags of their pages.
 *
 * An entry is durable before its page is flagged, so that no page is refused today and shown tomorrow.
 * The ledger is written under the entries' lock (media_ledger.c); one entry covers one page, or a range of
 * them, and is divided where single pages of the range are repaired.
 *
 * The other files: media_find.c finds out what has happened and which pages it concerns, media_signal.c
 * is what happens inside the handler, media_repair.c puts pages in order.
 */
#include "engine/media_state.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/conn.h"
#include "engine/hash.h"
#include "engine/pageword.h"

/* --- names ------------------------------------------------------------------------------------- */

const char *media_part_name(enum media_part part)
{
    static const char *const names[] = {"database", "log", "sidecar"};
    return (unsigned)part < 3 ? names[part] : "?";
}

const char *media_kind_name(enum media_kind kind)
{
    static const char *const names[] = {"poison", "sigbus", "truncated", "io", "damaged"};
    return (unsigned)kind < 5 ? names[kind] : "?";
}

const char *media_status_name(enum media_status status)
{
    static const char *const names[] = {"quarantined", "repaired", "cleared", "lost"};
    return (unsigned)status < 4 ? names[status] : "?";
}

/* --- entries; under the lock --------------------------------------------------------------------- */

uint64_t media_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

uint64_t media_end(const struct media_entry *e)
{
    return e->page + pages_of(e->bytes);
}

/* The open entry that covers the page. */
struct media_entry *media_find_open(struct media *m, uint32_t part, uint64_t page)
{
    for (size_t i = 0; i < m->count; i++) {
        struct media_entry *e = &m->entries[i];
        if (e->part == part && e->status == MEDIA_QUARANTINED && page >= e->page &&
            page < media_end(e))
            return e;
    }
    return NULL;
}

static struct media_entry *media_find_id(struct media *m, uint64_t id)
{
    for (size_t i = 0; i < m->count; i++)
        if (m->entries[i].id == id)
            return &m->entries[i];
    return NULL;
}

void media_recount(struct media *m)
{
    uint32_t unnamed = 0, hidden = 0;
    for (size_t i = 0; i < m->count; i++) {
        const struct media_entry *e = &m->entries[i];
        unnamed += !e->named;
        hidden += e->part == MEDIA_BASE && e->status == MEDIA_QUARANTINED &&
                  (e->stale || e->kind == MEDIA_TRUNCATED || e->kind == MEDIA_DAMAGED);
    }
    atomic_store_explicit(&m->unnamed, unnamed, memory_order_relaxed);
    atomic_store_explicit(&m->hidden, hidden, memory_order_relaxed);
}

void media_changed(struct store *s)
{
    media_mend_ledger(s);
    media_recount(s->media);
}

/* A new entry, its id not given. NULL: no memory. */
struct media_entry *media_append(struct media *m, const struct media_entry *e)
{
    if (m->count == m->capacity) {
        size_t capacity = m->capacity ? m->capacity * 2 : 64;
        struct media_entry *entries = realloc(m->entries, capacity * sizeof *entries);
        if (!entries)
            return NULL;
        m->entries = entries;
        m->capacity = capacity;
    }
    m->entries[m->count] = *e;
    return &m->entries[m->count++];
}

static void media_flag(struct store *s, uint64_t page, uint64_t bytes)
{
    /* While the store is being opened the words mean nothing yet: media_flag_all. */
    if (atomic_load_explicit(&s->region.header->last_committed, memory_order_relaxed) == 0)
        return;
    for (uint64_t end = page + pages_of(bytes); page < end && page < DAX_MAX_PAGES; page++)
        pageword_flag(&s->region, page, PAGEWORD_POISONED, 0);
}

void media_flag_all(struct store *s)
{
    struct media *m = s->media;
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->count; i++)
        if (m->entries[i].part == MEDIA_BASE && m->entries[i].status == MEDIA_QUARANTINED)
            media_flag(s, m->entries[i].page, m->entries[i].bytes);
    pthread_mutex_unlock(&m->lock);
}

bool media_is_flagged(const struct store *s, uint64_t page)
{
    return page < DAX_MAX_PAGES && (pageword_load(&s->region, page) & PAGEWORD_POISONED);
}

bool media_is_quarantined(struct store *s, uint64_t page)
{
    struct media *m = s->media;
    pthread_mutex_lock(&m->lock);
    bool is = media_find_open(m, MEDIA_BASE, page) != NULL;
    pthread_mutex_unlock(&m->lock);
    return is;
}

/* Enter [page, + bytes). An open entry of its first page is not repeated. */
void media_enter(struct store *s, uint32_t part, uint64_t page, uint64_t bytes, uint32_t kind,
                        const char *detail)
{
    struct media *m = s->media;
    struct dax_err err = {0};
    pthread_mutex_lock(&m->lock);
    if (!media_find_open(m, part, page)) {
        struct media_entry e = {.id = ++m->last_id,
                                .found_us = media_now_us(),
                                .page = page,
                                .bytes = bytes,
                                .part = part,
                                .kind = kind,
                                .status = MEDIA_QUARANTINED};
        e.changed_us = e.found_us;
        snprintf(e.detail, sizeof e.detail, "%s", detail);
        if (media_append(m, &e))
            (void)!media_keep(s, &e, &err);
        media_changed(s);
    }
    /* Within the lock, as the flag's end (media_close_good): a page is flagged as long as it has an open
     * entry, or a commit has closed it and base is not rewritten yet. */
    if (part == MEDIA_BASE)
        media_flag(s, page, bytes);
    pthread_mutex_unlock(&m->lock);
}

/* Enter a page that was bad and is not any more. */
void media_enter_closed(struct store *s, uint64_t page, const char *detail)
{
    struct media *m = s->media;
    struct dax_err err = {0};
    pthread_mutex_lock(&m->lock);
    struct media_entry e = {.id = ++m->last_id,
                            .found_us = media_now_us(),
                            .page = page,
                            .bytes = DAX_PAGE_BYTES,
                            .part = MEDIA_BASE,
                            .kind = MEDIA_SIGBUS,
                            .status = MEDIA_REPAIRED};
    e.changed_us = e.found_us;
    snprintf(e.detail, sizeof e.detail, "%s", detail);
    if (media_append(m, &e))
        (void)!media_keep(s, &e, &err);
    media_changed(s);
    pthread_mutex_unlock(&m->lock);
}

/* Under the lock. */
static void media_close_locked(struct store *s, uint32_t part, uint64_t page, uint32_t status,
                               const char *detail)
{
    struct media *m = s->media;
    struct dax_err err = {0};
    struct media_entry *e = media_find_open(m, part, page);
    if (e) {
        struct media_entry before = *e, after = *e, mine = *e;
        bool first = page == e->page, last = page + 1 == media_end(e);
        mine.page = page;
        mine.bytes = DAX_PAGE_BYTES;
        mine.status = status;
        mine.intent = INTENT_NONE;
        mine.changed_us = media_now_us();
        if (detail && detail[0])
            snprintf(mine.detail, sizeof mine.detail, "%s", detail);
        /* What lies in front keeps the entry, what lies behind gets one of its own. In this order: a
         * crash in between leaves pages entered twice, not one without. */
        if (!last && !first) {
            after.id = ++m->last_id;
            after.page = page + 1;
            after.bytes = (media_end(&before) - after.page) * DAX_PAGE_BYTES;
            (void)!media_keep(s, &after, &err);
        }
        if (!first) {
            mine.id = ++m->last_id;
            before.bytes = (page - before.page) * DAX_PAGE_BYTES;
        } else if (!last) {
            mine.id = ++m->last_id;
            before.page = page + 1;
            before.bytes -= DAX_PAGE_BYTES;
        }
        (void)!media_keep(s, &mine, &err);
        if (first && last) {
            *e = mine;
        } else {
            (void)!media_keep(s, &before, &err);
            *e = before;
            (void)media_append(m, &mine);
            if (!last && !first)
                (void)media_append(m, &after);
        }
        media_changed(s);
    }
}

void media_close_page(struct store *s, uint32_t part, uint64_t page, uint32_t status,
                      const char *detail)
{
    pthread_mutex_lock(&s->media->lock);
    media_close_locked(s, part, page, status, detail);
    pthread_mutex_unlock(&s->media->lock);
}

void media_close_good(struct store *s, uint64_t page, uint32_t status, const char *detail)
{
    pthread_mutex_lock(&s->media->lock);
    media_close_locked(s, MEDIA_BASE, page, status, detail);
    pageword_flag(&s->region, page, 0, PAGEWORD_POISONED);
    pthread_mutex_unlock(&s->media->lock);
}

void media_set_stale(struct store *s, uint64_t page, const char *detail)
{
    struct media *m = s->media;
    struct dax_err err = {0};
    pthread_mutex_lock(&m->lock);
    struct media_entry *e = media_find_open(m, MEDIA_BASE, page);
    if (e) {
        e->stale = 1;
        snprintf(e->detail, sizeof e->detail, "%s", detail);
        (void)!media_keep(s, e, &err);
        media_changed(s);
    }
    pthread_mutex_unlock(&m->lock);
}

/* A crash in between finds the record that names both pages: it is live until both are in the ledger. */
void media_enter_lost(struct store *s, uint64_t page, uint64_t scratch)
{
    char detail[120];
    snprintf(detail, sizeof detail,
             "committed changes of the page were in page %llu, which cannot be read",
             (unsigned long long)scratch);
    media_enter(s, MEDIA_BASE, page, DAX_PAGE_BYTES, MEDIA_POISON, detail);
    media_set_stale(s, page, detail);
}

void media_clear_beyond(struct store *s, uint64_t pages)
{
    struct media *m = s->media;
    struct dax_err err = {0};
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->count; i++) {
        struct media_entry *e = &m->entries[i];
        if (e->part != MEDIA_BASE || e->status != MEDIA_QUARANTINED || media_end(e) <= pages)
            continue;
        if (e->page >= pages) {
            e->status = MEDIA_CLEARED;
            e->changed_us = media_now_us();
            snprintf(e->detail, sizeof e->detail, "behind the end of the database: cut off");
        } else {
            e->bytes = (pages - e->page) << DAX_PAGE_SHIFT;
        }
        (void)!media_keep(s, e, &err);
    }
    media_changed(s);
    pthread_mutex_unlock(&m->lock);
}

bool media_hides_pages(const struct store *s)
{
    return atomic_load_explicit(&s->media->hidden, memory_order_relaxed) != 0;
}
/* --- life of a store --------------------------------------------------------------------------------- */

dax_rc media_create(struct store *s, struct dax_err *err)
{
    struct media *m = calloc(1, sizeof *m);
    if (!m)
        return dax_err_set(err, DAX_NOMEM, ENOMEM, "cannot allocate the list of media errors");
    pthread_mutex_init(&m->lock, NULL);
    pthread_mutex_init(&m->bad_lock, NULL);
    m->sidecar_fd = -1;
    media_open_list(s->base.fd, s->base.path, &m->bad_base);
    m->base = (struct media_owner){{media_rescue, media_fatal}, s, MEDIA_BASE};
    m->sidecar = (struct media_owner){{media_rescue, media_fatal}, s, MEDIA_SIDECAR};
    s->media = m;
    return DAX_OK;
}

void media_destroy(struct store *s)
{
    struct media *m = s->media;
    if (!m)
        return;
    badblocks_close(m->bad_base);
    badblocks_close(m->bad_sidecar);
    pthread_mutex_destroy(&m->bad_lock);
    pthread_mutex_destroy(&m->lock);
    free(m->entries);
    free(m->closing);
    free(m);
    s->media = NULL;
}

struct guard_owner *media_owner_of_base(struct store *s)
{
    return &s->media->base.hooks;
}

struct guard_owner *media_owner_of_sidecar(struct store *s)
{
    return &s->media->sidecar.hooks;
}

static bool media_page_has_hash(const struct store *s, uint64_t page, uint64_t hash)
{
    uint8_t buf[DAX_PAGE_BYTES];
    return pread(s->base.fd, buf, sizeof buf, (off_t)(page << DAX_PAGE_SHIFT)) == (ssize_t)sizeof buf &&
           hash_bytes(buf, sizeof buf) == hash;
}

void media_settle(struct store *s, uint64_t nonce, uint64_t txid)
{
    struct media *m = s->media;
    struct dax_err err = {0};
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->count; i++) {
        struct media_entry *e = &m->entries[i];
        if (e->intent == INTENT_NONE)
            continue;
        bool done = e->intent == INTENT_COMMIT
                        ? e->intent_nonce == nonce && txid >= e->intent_txid
                        : media_page_has_hash(s, e->page, e->intent_hash);
        if (done) {
            e->status = e->intent_status;
            e->changed_us = media_now_us();
        }
        e->intent = INTENT_NONE;
        (void)!media_keep(s, e, &err);
    }
    media_changed(s);
    pthread_mutex_unlock(&m->lock);
}

/* --- for the VFS --------------------------------------------------------------------------------------- */

size_t conn_media_list(struct conn *c, struct media_entry *out, size_t max)
{
    if (!store_same_process(c->store))
        return 0;
    struct media *m = c->store->media;
    pthread_mutex_lock(&m->lock);
    size_t count = m->count;
    if (count && max)
        memcpy(out, m->entries, (count < max ? count : max) * sizeof *out);
    pthread_mutex_unlock(&m->lock);
    return count;
}
static void media_put_field(char *to, size_t size, const char *text)
{
    snprintf(to, size, "%s", text ? text : "");
}

dax_rc conn_media_name(struct conn *c, uint64_t id, const char *type, const char *name,
                       const char *role, const char *detail, struct media_entry *out,
                       struct dax_err *err)
{
    struct store *s = c->store;
    struct media *m = s->media;
    pthread_mutex_lock(&m->lock);
    dax_rc rc;
    struct media_entry *e = media_find_id(m, id);
    if (!e) {
        rc = dax_err_set(err, DAX_MISUSE, 0, "there is no media error %llu", (unsigned long long)id);
    } else {
        media_put_field(e->type, sizeof e->type, type);
        media_put_field(e->name, sizeof e->name, name);
        media_put_field(e->role, sizeof e->role, role);
        if (detail && detail[0])
            media_put_field(e->detail, sizeof e->detail, detail);
        e->named = 1;
        rc = media_keep(s, e, err);
        *out = *e;
        media_changed(s);
    }
    pthread_mutex_unlock(&m->lock);
    return rc;
}

dax_rc conn_media_add(struct conn *c, enum media_part part, uint64_t page, enum media_kind kind,
                      const char *detail, struct dax_err *err)
{
    if (!store_same_process(c->store) || page >= DAX_MAX_PAGES)
        return dax_err_set(err, DAX_MISUSE, 0, "there is no page %llu", (unsigned long long)page);
    media_enter(c->store, part, page, DAX_PAGE_BYTES, kind, detail);
    return DAX_OK;
}
