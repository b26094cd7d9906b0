/* media_ledger.c: entries of media errors and the sidecar's ledger: kept, loaded, carried over, mended.
 *
 * A page of the ledger that cannot be read is written anew as soon as somebody finds it, with free entries,
 * and then those are stored once more that are in memory and not in the ledger. When it is found as the
 * ledger is loaded, and pread does not have it either, the entries on it are lost, and that is an entry
 * itself: a page that was known to hold an older state, or zeros where the file was cut, is not known as such
 * any more.
 *
 * A crash in between leaves the page as it was, or written anew: what could not be read is lost either way.
 *
 * Everything here under the lock of the entries, but media_peek, media_load and media_carried_over, which
 * take it.
 */
#include "engine/media_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/ledger.h"
#include "engine/sidecar_pool.h"

/* Into the ledger, where there is one. A failure is said once: the entry is in memory all the same. */
dax_rc media_keep(struct store *s, const struct media_entry *e, struct dax_err *err)
{
    struct media *m = s->media;
    if (!m->ledger_open)
        return DAX_OK;
    dax_rc rc = ledger_put(&s->sidecar, e, err);
    const void *bad;
    if (rc == DAX_IO_MEDIA && !sidecar_probe_pool(&s->sidecar, &bad)) {
        m->ledger_behind = true;
        m->pool_bad = 1 + (uint64_t)((const uint8_t *)bad - (const uint8_t *)s->sidecar.pool) /
                              DAX_PAGE_BYTES;
    }
    if (rc != DAX_OK && !m->ledger_failed) {
        m->ledger_failed = true;
        dax_log(rc, "%s: the media error of page %llu cannot be kept in the ledger: %s",
                s->base.path, (unsigned long long)e->page, err ? err->text : "");
    }
    return rc;
}

/* --- a ledger that is bad ------------------------------------------------------------------------------ */

/* Page `page` of the sidecar, which holds a part of the ledger, cannot be read. lost: nor what is on it. */
static void media_ledger_page(struct store *s, uint64_t page, enum media_kind kind, bool lost)
{
    struct media *m = s->media;
    struct media_entry fresh = {.found_us = media_now_us(),
                                .page = page,
                                .bytes = DAX_PAGE_BYTES,
                                .part = MEDIA_SIDECAR,
                                .kind = kind};
    struct media_entry *e = media_find_open(m, MEDIA_SIDECAR, page);
    for (size_t i = 0; i < m->count && !e; i++) /* it was just found to be lost */
        if (!lost && m->entries[i].part == MEDIA_SIDECAR && m->entries[i].page == page &&
            m->entries[i].status == MEDIA_LOST && !m->entries[i].named)
            return;
    if (!e) {
        fresh.id = ++m->last_id;
        e = media_append(m, &fresh);
    }
    if (!e)
        return;
    e->status = lost ? MEDIA_LOST : MEDIA_REPAIRED;
    e->changed_us = media_now_us();
    snprintf(e->role, sizeof e->role, "ledger");
    snprintf(
        e->detail, sizeof e->detail, "%s",
        lost ? "a page of this list: up to 8 errors that it held are not known any more; PRAGMA "
               "integrity_check finds pages that should not be read as they are"
             : "a page of this list: written anew");
}

bool media_ledger_is_behind(struct store *s)
{
    pthread_mutex_lock(&s->media->lock);
    bool behind = s->media->ledger_behind;
    pthread_mutex_unlock(&s->media->lock);
    return behind;
}

/* A page of libpmemobj's has kept an entry out of the ledger: known, as long as the process has the store
 * open. The close makes a new sidecar, with all of them. */
static void media_enter_pool(struct store *s)
{
    struct media *m = s->media;
    struct media_entry e = {.found_us = media_now_us(),
                            .page = m->pool_bad - 1,
                            .bytes = DAX_PAGE_BYTES,
                            .part = MEDIA_SIDECAR,
                            .kind = MEDIA_SIGBUS};
    e.changed_us = e.found_us;
    snprintf(e.detail, sizeof e.detail, "media errors are kept in memory until the close");
    m->pool_bad = 0;
    if (media_find_open(m, MEDIA_SIDECAR, e.page))
        return;
    e.id = ++m->last_id;
    (void)media_append(m, &e);
}

void media_mend_ledger(struct store *s)
{
    struct media *m = s->media;
    struct dax_err err = {0};
    uint64_t page, end;
    bool any = false;
    if (m->pool_bad)
        media_enter_pool(s);
    if (!m->ledger_open || m->ledger_failed)
        return;
    for (unsigned i = 0; (page = ledger_bad_page(&s->sidecar)) != 0; i++) {
        enum media_kind kind = media_classify_sidecar(s, page, &end);
        if (i == LEDGER_PAGES || ledger_mend_page(&s->sidecar, page, m->last_id, &err) != DAX_OK) {
            m->ledger_failed = true;
            dax_log(DAX_IO_MEDIA,
                    "%s: page %llu of the list of media errors is bad and stays so: %s",
                    s->sidecar_path, (unsigned long long)page, err.text);
            return;
        }
        media_ledger_page(s, page, kind, false);
        any = true;
    }
    for (size_t i = 0; any && i < m->count; i++)
        if (!ledger_has(&s->sidecar, &m->entries[i]))
            (void)!media_keep(s, &m->entries[i], &err);
}

/* --- loaded ------------------------------------------------------------------------------------------ */

/* What the handler of an earlier process has left. */
static void media_take_note(struct store *s)
{
    struct fault_note note;
    struct dax_err err = {0};
    if (!sidecar_take_note(&s->sidecar, &note))
        return;
    if (note.page < DAX_MAX_PAGES)
        media_enter(s, note.part, note.page, DAX_PAGE_BYTES, note.kind,
                    "a process that was reading it through a pointer has died of it");
    if (s->sidecar.bare) /* what is in memory goes into a new one, or is read again */
        return;
    if (sidecar_clear_note(&s->sidecar, &s->persist, &err) != DAX_OK)
        dax_log(err.rc, "%s", err.text);
}

/* The first page has the mark and the header: while it is quarantined, nobody can open the database, and
 * so nobody can repair it. If it can be read and is what it should be, it is good. */
static void media_look_at_first(struct store *s)
{
    struct media *m = s->media;
    struct media_entry *e = media_find_open(m, MEDIA_BASE, 0);
    uint8_t buf[DAX_PAGE_BYTES];
    struct dax_err err = {0};
    if (!e || e->stale || pages_of(e->bytes) != 1 || e->kind == MEDIA_TRUNCATED ||
        e->kind == MEDIA_DAMAGED || pread(s->base.fd, buf, sizeof buf, 0) != (ssize_t)sizeof buf ||
        memcmp(buf, "SQLite format 3", 16) != 0)
        return;
    e->status = MEDIA_CLEARED;
    e->changed_us = media_now_us();
    snprintf(e->detail, sizeof e->detail, "the first page can be read again");
    (void)!media_keep(s, e, &err);
    media_recount(m);
}

void media_peek(struct store *s)
{
    struct media *m = s->media;
    struct media_entry *kept = NULL;
    size_t count = 0, damaged;
    struct dax_err err = {0};
    struct sidecar closed = {.path = s->sidecar_path,
                             .ledger = sidecar_peek_ledger(s->sidecar_path)};
    if (closed.ledger && ledger_load(&closed, &kept, &count, &damaged, &err) == DAX_OK) {
        pthread_mutex_lock(&m->lock);
        m->last_id = ledger_last_id(&closed);
        for (size_t i = 0; i < count; i++)
            if (media_append(m, &kept[i]))
                m->peeked++;
        media_look_at_first(s);
        media_recount(m);
        pthread_mutex_unlock(&m->lock);
    }
    free(kept);
    free(closed.ledger);
}

/* What the ledger has, in one way or the other. lost_out: pages that it was lost on. */
static dax_rc media_read_ledger(struct store *s, struct media_entry **list_out, size_t *count_out,
                                uint64_t *last_id_out, bool lost_out[LEDGER_PAGES],
                                struct dax_err *err)
{
    size_t damaged = 0;
    *list_out = NULL;
    *count_out = 0;
    *last_id_out = 0;
    memset(lost_out, 0, LEDGER_PAGES * sizeof *lost_out);
    if (!s->sidecar.ledger)
        return DAX_OK;
    struct sidecar copy = {.path = s->sidecar_path, .ledger = malloc(sizeof *copy.ledger)};
    if (!copy.ledger)
        return dax_err_set(err, DAX_NOMEM, ENOMEM, "cannot load the media errors");
    ledger_copy(&s->sidecar, copy.ledger, lost_out);
    dax_rc rc = ledger_load(&copy, list_out, count_out, &damaged, err);
    *last_id_out = ledger_last_id(&copy);
    if (damaged)
        dax_log(DAX_CORRUPT, "%s: %zu entries of the ledger of media errors are damaged",
                s->sidecar_path, damaged);
    free(copy.ledger);
    return rc;
}

dax_rc media_load(struct store *s, struct dax_err *err)
{
    struct media *m = s->media;
    struct media_entry *kept;
    size_t count;
    uint64_t last_id, page, end;
    bool lost[LEDGER_PAGES];
    dax_rc rc = media_read_ledger(s, &kept, &count, &last_id, lost, err);
    if (rc != DAX_OK)
        return rc;
    pthread_mutex_lock(&m->lock);
    /* What was found before goes behind what the ledger has. */
    size_t own = m->count;
    struct media_entry *mine = m->entries;
    m->entries = NULL;
    m->count = m->capacity = 0;
    m->last_id = last_id;
    m->ledger_open = !s->sidecar.bare;
    for (size_t i = 0; i < count && rc == DAX_OK; i++)
        if (!media_append(m, &kept[i]))
            rc = dax_err_set(err, DAX_NOMEM, ENOMEM, "cannot load the media errors");
    for (size_t i = m->peeked; i < own && rc == DAX_OK; i++) {
        if (media_find_open(m, mine[i].part, mine[i].page))
            continue;
        mine[i].id = ++m->last_id;
        if (!media_append(m, &mine[i]))
            rc = dax_err_set(err, DAX_NOMEM, ENOMEM, "cannot load the media errors");
        else
            (void)!media_keep(s, &mine[i], err);
    }
    m->peeked = 0;
    page = s->sidecar.ledger
               ? (uint64_t)((const uint8_t *)s->sidecar.ledger - (const uint8_t *)s->sidecar.pool) /
                     DAX_PAGE_BYTES
               : 0;
    for (unsigned i = 0; i < LEDGER_PAGES; i++)
        if (lost[i])
            media_ledger_page(s, page + i, media_classify_sidecar(s, page + i, &end), true);
    media_look_at_first(s);
    media_changed(s);
    pthread_mutex_unlock(&m->lock);
    free(kept);
    free(mine);
    if (rc == DAX_OK)
        media_take_note(s);
    return rc;
}
/* --- carried over ------------------------------------------------------------------------------------ */

void media_carry_over(struct store *s, struct sidecar_ledger *out)
{
    struct media *m = s->media;
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->count; i++) {
        struct media_entry *e = &m->entries[i];
        if (e->part == MEDIA_BASE || e->status != MEDIA_QUARANTINED)
            continue;
        size_t used = strlen(e->detail);
        e->status = MEDIA_REPAIRED;
        e->changed_us = media_now_us();
        snprintf(e->detail + used, sizeof e->detail - used, "%sthe sidecar was made anew",
                 used ? "; " : "");
    }
    ledger_make(out, m->entries, m->count, m->last_id);
    m->peeked = m->count;
    media_recount(m);
    pthread_mutex_unlock(&m->lock);
}

void media_carried_over(struct store *s)
{
    struct media *m = s->media;
    pthread_mutex_lock(&m->lock);
    m->peeked = 0;
    m->ledger_open = true;
    m->ledger_behind = m->ledger_failed = false;
    pthread_mutex_unlock(&m->lock);
}
