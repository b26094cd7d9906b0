/* media_find.c: what has happened, and to which page.
 *
 * A fault ends here, outside of the signal handler, on the thread that met it:
 *   1. what is it? Beyond the end of the file: truncated. pread refuses the page as well: poison, or io
 *      where the page cache is in between. pread has it: sigbus (the mapping alone is bad).
 *   2. it is entered (media.c), 3. and its page flagged. From here on nobody loads from it.
 * The signal may name another page than the one that was touched, or 2 MiB around it: what was being
 * touched is known here, so neighbours are never flagged. The probe finds them if they are bad, too.
 *
 * Truncated by somebody else: everything from the new end on is entered as one range and flagged. When
 * something is to be stored behind the end, and nobody holds a pin there, the file gets its length again
 * (media_regrow). It then reads as zeros, which no reader of this process sees; such a database stays
 * marked at the close (store.c), so that nobody else does.
 *
 * The kernel's list of bad blocks (badblocks.h) is read when the store is opened, when its sidecar is, at
 * every checkpoint, and when somebody asks.
 */
#include "engine/media_state.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/conn.h"
#include "engine/pageword.h"
#include "engine/pin.h"

/* --- finding out ----------------------------------------------------------------------------------- */

static enum media_kind media_classify(int fd, uint64_t page, bool page_cache, uint64_t *end_out)
{
    uint8_t buf[DAX_PAGE_BYTES];
    struct stat st;
    *end_out = 0;
    if (fstat(fd, &st) == 0 && (uint64_t)st.st_size <= page << DAX_PAGE_SHIFT) {
        *end_out = (uint64_t)st.st_size;
        return MEDIA_TRUNCATED;
    }
    ssize_t n;
    do
        n = pread(fd, buf, sizeof buf, (off_t)(page << DAX_PAGE_SHIFT));
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return MEDIA_SIGBUS;
    return page_cache ? MEDIA_IO : MEDIA_POISON;
}

const char *media_code_text(const struct guard_fault *fault)
{
    if (!fault)
        return "read error";
    switch (fault->code) {
    case BUS_ADRERR: return "SIGBUS: BUS_ADRERR";
    case BUS_OBJERR: return "SIGBUS: BUS_OBJERR";
    case BUS_ADRALN: return "SIGBUS: BUS_ADRALN";
    case 4: return "SIGBUS: BUS_MCEERR_AR";
    case 5: return "SIGBUS: BUS_MCEERR_AO";
    default: return "SIGBUS";
    }
}

dax_rc media_error(struct store *s, uint64_t page, struct dax_err *err)
{
    struct media *m = s->media;
    enum media_kind kind = MEDIA_POISON;
    pthread_mutex_lock(&m->lock);
    const struct media_entry *e = media_find_open(m, MEDIA_BASE, page);
    if (e)
        kind = (enum media_kind)e->kind;
    pthread_mutex_unlock(&m->lock);
    return dax_err_set(err, DAX_IO_MEDIA, 0,
                       "%s: page %llu cannot be read (%s): dax_errors says what it holds, SELECT "
                       "dax_repair(%llu) what can be done",
                       s->base.path, (unsigned long long)page, media_kind_name(kind),
                       (unsigned long long)page);
}

void media_note_truncated(struct store *s)
{
    struct stat st;
    if (fstat(s->base.fd, &st) != 0)
        return;
    uint64_t end = (uint64_t)st.st_size, have = __atomic_load_n(&s->base.file_bytes, __ATOMIC_RELAXED);
    uint64_t first = end >> DAX_PAGE_SHIFT;
    /* Behind what has ever been stored to, the file is space for its growth: nothing is lost there. */
    if (end >= have || end >= GUARDED_GET(s->region.header->guarded.fresh_from) << DAX_PAGE_SHIFT)
        return;
    char detail[160];
    snprintf(detail, sizeof detail, "truncated by another program from %llu to %llu bytes",
             (unsigned long long)have, (unsigned long long)end);
    media_enter(s, MEDIA_BASE, first, (pages_of(have) - first) << DAX_PAGE_SHIFT, MEDIA_TRUNCATED,
                detail);
}

bool media_regrow(struct store *s)
{
    struct stat st;
    if (s->base.read_only || fstat(s->base.fd, &st) != 0)
        return false;
    uint64_t end = (uint64_t)st.st_size, have = s->base.file_bytes;
    if (end >= have)
        return true;
    /* Who still holds a pointer there would read zeros, where now the process ends. No new one is handed
     * out: the pages are flagged. */
    scan_take(&s->scan, &s->region, UINT32_MAX, true);
    for (uint64_t page = end >> DAX_PAGE_SHIFT; s->scan.pin_count && page < pages_of(have); page++)
        if (scan_base_pinned(&s->scan, page))
            return false;
    return base_allocate(s->base.fd, end, have) == 0;
}

/* The kernel has refused a write (guard_fail), of a page that can be read: no page is bad, and what was to
 * be stored is where it was. */
static dax_rc media_refused(const char *path, uint64_t page, const struct guard_fault *fault,
                            struct dax_err *err)
{
    int e = -fault->code;
    bool full = e == ENOSPC || e == EDQUOT || e == EFBIG;
    return dax_err_set(err, full ? DAX_FULL : DAX_IO_WRITE, e, "cannot write page %llu of \"%s\"",
                       (unsigned long long)page, path);
}

dax_rc media_fault(struct store *s, uint64_t page, const struct guard_fault *fault, struct dax_err *err)
{
    if (guard_is_refusal(fault))
        return media_refused(s->base.path, fault->offset >> DAX_PAGE_SHIFT, fault, err);
    uint64_t end, scratch = s->base.scratch_start;
    if (scratch && fault->offset >= scratch)
        page = fault->offset >> DAX_PAGE_SHIFT; /* the page's version was there */
    enum media_kind kind =
        media_classify(s->base.fd, page, s->persist.mode == PERSIST_MSYNC, &end);
    uint64_t have = __atomic_load_n(&s->base.file_bytes, __ATOMIC_RELAXED);
    if (kind == MEDIA_TRUNCATED && end < have && page < pages_of(have))
        media_note_truncated(s);
    else
        media_enter(s, MEDIA_BASE, page, DAX_PAGE_BYTES, kind, media_code_text(fault));
    return media_error(s, page, err);
}

/* Of the sidecar. */
uint32_t media_part_of(const struct store *s, uint64_t page)
{
    uint64_t ring = (uint64_t)(s->sidecar.ring - (const uint8_t *)s->sidecar.pool) >> DAX_PAGE_SHIFT;
    bool log = page >= ring && page < ring + (s->sidecar.ring_bytes >> DAX_PAGE_SHIFT);
    return log ? MEDIA_LOG : MEDIA_SIDECAR;
}

enum media_kind media_classify_sidecar(const struct store *s, uint64_t page, uint64_t *end_out)
{
    enum media_kind kind = MEDIA_SIGBUS;
    *end_out = 0;
    int fd = open(s->sidecar_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return kind;
    kind = media_classify(fd, page, s->sidecar.mode == PERSIST_MSYNC, end_out);
    close(fd);
    return kind;
}

dax_rc media_fault_sidecar(struct store *s, const void *addr, const struct guard_fault *fault,
                           struct dax_err *err)
{
    uint64_t offset = (uint64_t)((const uint8_t *)addr - (const uint8_t *)s->sidecar.pool);
    const uint8_t *at = fault ? fault->addr : addr;
    /* The signal's address is the better one, where it lies in the sidecar and names one page. */
    if (fault && fault->bytes == DAX_PAGE_BYTES && at >= (const uint8_t *)s->sidecar.pool &&
        at < (const uint8_t *)s->sidecar.pool + s->sidecar.file_bytes)
        offset = (uint64_t)(at - (const uint8_t *)s->sidecar.pool);
    uint64_t page = offset >> DAX_PAGE_SHIFT, first = page, end, count = 1;
    if (fault && guard_is_refusal(fault))
        return media_refused(s->sidecar.path, page, fault, err);
    enum media_kind kind = media_classify_sidecar(s, page, &end);
    bool log = media_part_of(s, page) == MEDIA_LOG;
    if (log && kind == MEDIA_TRUNCATED) { /* one entry for all that was cut off */
        uint64_t ring = (uint64_t)(s->sidecar.ring - (const uint8_t *)s->sidecar.pool);
        first = pages_of(end > ring ? end : ring);
        count = pages_of(ring + s->sidecar.ring_bytes) - first;
    }
    media_enter(s, log ? MEDIA_LOG : MEDIA_SIDECAR, first, count * DAX_PAGE_BYTES, kind,
                media_code_text(fault));
    return dax_err_set(err, DAX_IO_MEDIA, 0, "%s: page %llu, %s, cannot be read or stored to (%s)",
                       s->sidecar.path, (unsigned long long)page,
                       log ? "of the log" : "of the sidecar's structure", media_kind_name(kind));
}

void media_sidecar_refused(struct store *s)
{
    uint64_t end;
    media_enter(s, MEDIA_SIDECAR, s->sidecar.bad_page, DAX_PAGE_BYTES,
                media_classify_sidecar(s, s->sidecar.bad_page, &end),
                "the sidecar could not be opened");
}

void media_sidecar_mended(struct store *s, const void *addr, const char *detail)
{
    uint64_t page = (uint64_t)((const uint8_t *)addr - (const uint8_t *)s->sidecar.pool) >> DAX_PAGE_SHIFT;
    media_close_page(s, MEDIA_SIDECAR, page, MEDIA_REPAIRED, detail);
}
/* --- what the kernel knows -------------------------------------------------------------------------- */

struct media_listed {
    struct store *s;
    uint64_t end; /* pages that the file has for itself */
    bool sidecar;
};

/* Pages that are known are not entered again; runs of new ones are one entry. */
static void media_list(void *arg, uint64_t offset, uint64_t bytes)
{
    struct media_listed *l = arg;
    struct media *m = l->s->media;
    uint64_t page = offset >> DAX_PAGE_SHIFT, end = page + pages_of(bytes);
    for (uint64_t first = UINT64_MAX; page <= end; page++) {
        uint32_t part = l->sidecar ? media_part_of(l->s, page) : MEDIA_BASE;
        bool news = page < end && page < l->end;
        if (news) {
            pthread_mutex_lock(&m->lock);
            news = media_find_open(m, part, page) == NULL;
            pthread_mutex_unlock(&m->lock);
        }
        bool run_ends = first != UINT64_MAX &&
                        (!news || (l->sidecar && part != media_part_of(l->s, first)));
        if (run_ends) {
            uint32_t its = l->sidecar ? media_part_of(l->s, first) : MEDIA_BASE;
            media_enter(l->s, its, first, (page - first) << DAX_PAGE_SHIFT, MEDIA_POISON,
                        "listed by the kernel as bad");
            first = UINT64_MAX;
        }
        if (news && first == UINT64_MAX)
            first = page;
    }
}

static void media_read_list(struct store *s, struct badblocks *b, bool sidecar)
{
    struct dax_err err = {0};
    struct media_listed l = {s, 0, sidecar};
    uint64_t bytes = sidecar ? s->sidecar.file_bytes
                             : __atomic_load_n(&s->base.file_bytes, __ATOMIC_RELAXED);
    uint64_t *seen = sidecar ? &s->media->listed_sidecar : &s->media->listed_base;
    l.end = pages_of(bytes);
    /* The driver tells of a change, an administrator who edits the list does not; and the file may have
     * grown over what is listed. */
    if (!badblocks_changed(b) && l.end <= *seen && !badblocks_differs(b))
        return;
    *seen = l.end;
    if (badblocks_read(b, media_list, &l, &err) != DAX_OK)
        dax_log(err.rc, "%s", err.text); /* what is bad is met all the same, page by page */
    else if (badblocks_incomplete(b))
        dax_log(DAX_OK, "%s: the kernel shows only part of its list of bad blocks: SELECT dax_scrub() "
                        "finds the rest",
                s->base.path);
}

void media_check_badblocks(struct store *s)
{
    struct media *m = s->media;
    pthread_mutex_lock(&m->bad_lock);
    if (m->bad_base)
        media_read_list(s, m->bad_base, false);
    if (m->bad_sidecar)
        media_read_list(s, m->bad_sidecar, true);
    pthread_mutex_unlock(&m->bad_lock);
}

void conn_media_check(struct conn *c)
{
    if (store_same_process(c->store))
        media_check_badblocks(c->store);
}

void media_open_list(int fd, const char *path, struct badblocks **out)
{
    struct dax_err err = {0};
    if (badblocks_open(fd, path, out, &err) != DAX_OK) {
        dax_log(err.rc, "%s", err.text);
        *out = NULL;
    }
}

void media_sidecar_opened(struct store *s)
{
    struct media *m = s->media;
    pthread_mutex_lock(&m->bad_lock);
    m->sidecar_fd = open(s->sidecar.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (m->sidecar_fd >= 0)
        media_open_list(m->sidecar_fd, s->sidecar.path, &m->bad_sidecar);
    pthread_mutex_unlock(&m->bad_lock);
}

void media_sidecar_closing(struct store *s)
{
    struct media *m = s->media;
    pthread_mutex_lock(&m->lock);
    m->ledger_open = false;
    pthread_mutex_unlock(&m->lock);
    pthread_mutex_lock(&m->bad_lock);
    badblocks_close(m->bad_sidecar);
    m->bad_sidecar = NULL;
    if (m->sidecar_fd >= 0)
        close(m->sidecar_fd);
    m->sidecar_fd = -1;
    pthread_mutex_unlock(&m->bad_lock);
}
/* --- later, and on request ------------------------------------------------------------------------- */

/* Of the snapshot that c has. Pinned until it is flagged: else the page could be repaired in between, and
 * stay flagged. */
static dax_rc media_probe_pinned(struct conn *c, uint64_t page, struct dax_err *err)
{
    struct store *s = c->store;
    struct guard_fault fault;
    dax_rc rc = pin_take_storage(s, c->slot, DAX_SLOT_PINS_SHARED, page, err);
    if (rc != DAX_OK)
        return rc;
    if (!guard_probe(base_at(&s->base, page << DAX_PAGE_SHIFT), DAX_PAGE_BYTES, &fault))
        rc = media_fault(s, page, &fault, err);
    pin_drop(s, c->slot, DAX_SLOT_PINS_SHARED);
    return rc;
}

/* What an asynchronous signal has named. Behind the snapshot nothing is repaired but by who writes there. */
static void media_probe_late(struct conn *c, const uint64_t *offsets, size_t n)
{
    struct store *s = c->store;
    struct guard_fault fault;
    struct dax_err ignored;
    bool begun = n && !c->reading && conn_begin_read(c, &ignored) == DAX_OK;
    for (size_t i = 0; i < n; i++) {
        uint64_t page = offsets[i] >> DAX_PAGE_SHIFT;
        if (c->reading && page < pages_of(c->size_bytes))
            (void)!media_probe_pinned(c, page, &ignored);
        else if (!guard_probe(base_at(&s->base, offsets[i]), DAX_PAGE_BYTES, &fault))
            (void)media_fault(s, page, &fault, NULL);
    }
    if (begun)
        conn_end_read(c);
}

/* Asynchronous signals, and pages that the handler has put in order: what a signal handler cannot do
 * is done by whoever asks next. */
static void media_take_late(struct conn *c)
{
    struct store *s = c->store;
    struct media *m = s->media;
    uint64_t offsets[16], late = guard_late();
    struct guard_fault fault;
    if (atomic_exchange_explicit(&m->rescued_count, 0, memory_order_acquire))
        for (unsigned i = 0; i < MEDIA_RESCUED_MAX; i++) {
            uint64_t page = atomic_exchange(&m->rescued[i], 0);
            if (page == 0)
                continue;
            media_enter_closed(s, page - 1, "rewritten from a copy in memory, while it was being read");
        }
    if (atomic_exchange_explicit(&m->late_seen, late, memory_order_relaxed) == late)
        return;
    size_t n = guard_take_late(&m->base.hooks, offsets, 16);
    media_probe_late(c, offsets, n);
    n = guard_take_late(&m->sidecar.hooks, offsets, 16);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *at = (const uint8_t *)s->sidecar.pool + offsets[i];
        if (!guard_probe(at, DAX_PAGE_BYTES, &fault))
            (void)media_fault_sidecar(s, at, &fault, NULL);
    }
}

bool conn_media_unnamed(struct conn *c)
{
    struct media *m = c->store->media;
    if (atomic_load_explicit(&m->late_seen, memory_order_relaxed) != guard_late() ||
        atomic_load_explicit(&m->rescued_count, memory_order_relaxed))
        media_take_late(c);
    return atomic_load_explicit(&m->unnamed, memory_order_relaxed) != 0;
}
dax_rc conn_media_probe(struct conn *c, uint64_t page, struct dax_err *err)
{
    struct store *s = c->store;
    if (!store_same_process(s) || !c->reading)
        return dax_err_set(err, DAX_MISUSE, 0, "probing needs a snapshot");
    media_take_late(c);
    return page < pages_of(c->size_bytes) ? media_probe_pinned(c, page, err) : DAX_OK;
}

dax_rc conn_media_probe_sidecar(struct conn *c, uint64_t page, uint64_t *pages_out,
                                struct dax_err *err)
{
    struct store *s = c->store;
    *pages_out = 0;
    if (!store_same_process(s) || !atomic_load(&s->active))
        return DAX_OK;
    *pages_out = s->sidecar.file_bytes >> DAX_PAGE_SHIFT;
    if (page >= *pages_out)
        return DAX_OK;
    const uint8_t *at = (const uint8_t *)s->sidecar.pool + (page << DAX_PAGE_SHIFT);
    struct guard_fault fault;
    if (guard_probe(at, DAX_PAGE_BYTES, &fault))
        return DAX_OK;
    return media_fault_sidecar(s, at, &fault, err);
}
