/* bad.c: a device with pages that go bad, the guard over it, and the checks of bad.h.
 *
 * The engine's media files are the real ones; what they need of the ledger, of the sidecar and of the
 * kernel's list is not there.
 */
#include "tests/interleave/bad.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "engine/badblocks.h"
#include "engine/chain.h"
#include "engine/frames.h"
#include "engine/ledger.h"
#include "engine/media_state.h"
#include "engine/sidecar_pool.h"
#include "engine/snapshot.h"
#include "engine/writer.h"
#include "tests/interleave/machine.h"
#include "tests/interleave/world.h"

#define ENTRIES 6u /* more do not come up */
#define RESCUES 3u /* in a row, as in guard.c */
#define KEPT_OF_COPY WORLD_SEEN_BYTES

struct bad {
    uint8_t ways[WORLD_PAGES];    /* 0: it is good */
    uint8_t stuck[WORLD_PAGES];   /* pwrite fails although it is good */
    uint8_t rescued[WORLD_PAGES]; /* good again by the handler, which clears no flag */
    uint8_t marked[WORLD_PAGES];  /* by somebody who may be wrong */
    uint8_t refused[WORLD_PAGES];
    uint8_t may_die, died;
};
static struct bad *bad; /* NULL: no program of these */
static struct dax_err err;

/* --- the device ----------------------------------------------------------------------------------- */

/* The page that addr lies in, if that is a bad one. */
static unsigned bad_at(const void *addr)
{
    const uint8_t *base = atomic_load(&world_store->base.addr), *at = addr;
    if (!bad || at < base || at >= base + WORLD_PAGES * DAX_PAGE_BYTES)
        return 0;
    unsigned page = (unsigned)((size_t)(at - base) / DAX_PAGE_BYTES);
    return bad->ways[page] ? page : 0;
}

static void garbage(unsigned page)
{
    memset(world_file_at((uint64_t)page * DAX_PAGE_BYTES), 0xBD, WORLD_SEEN_BYTES);
}

void bad_strike(unsigned page, unsigned ways)
{
    il_point("a page goes bad");
    bad->ways[page] = (uint8_t)ways;
    if (ways & BAD_UNREADABLE)
        garbage(page);
}

static unsigned page_of(uint64_t at)
{
    uint64_t page = at / DAX_PAGE_BYTES;
    return bad && page < WORLD_PAGES ? (unsigned)page : 0;
}

bool bad_may_pread(uint64_t at)
{
    unsigned page = page_of(at);
    if (!bad)
        return true;
    il_system("pread");
    errno = EIO;
    return !(bad->ways[page] & BAD_UNREADABLE);
}

ssize_t bad_pwrite(const void *from, size_t n, uint64_t at)
{
    unsigned page = page_of(at);
    if (!bad || n != DAX_PAGE_BYTES)
        return (ssize_t)n;
    il_system("pwrite");
    if (bad->ways[page] & BAD_STUCK || bad->stuck[page]) {
        errno = EIO;
        return -1;
    }
    memcpy(world_file_at(at), from, WORLD_SEEN_BYTES);
    bad->ways[page] = 0;
    return (ssize_t)n;
}

int bad_punch(uint64_t at, uint64_t bytes)
{
    il_system("a hole is punched");
    for (uint64_t end = at + bytes; at < end; at += DAX_PAGE_BYTES) {
        memset(world_file_at(at), 0, WORLD_SEEN_BYTES);
        bad->ways[page_of(at)] = bad->stuck[page_of(at)] = 0;
    }
    return 0;
}

/* A frame's memory goes; a page of the file stays what it is. */
int bad_madvise(void *addr, size_t bytes)
{
    const struct region *r = &world_store->region;
    uint8_t *at = addr;
    if (!bad)
        return 0;
    il_system("madvise");
    if (at >= r->frames && at < r->frames + DAX_MAX_NODES * DAX_PAGE_BYTES)
        for (size_t i = 0; i < bytes; i += DAX_PAGE_BYTES)
            memset(at + i, 0, WORLD_SEEN_BYTES);
    return 0;
}

/* --- the guard ------------------------------------------------------------------------------------ */

static bool fault_at(unsigned page, struct guard_fault *fault)
{
    uint64_t offset = (uint64_t)page * DAX_PAGE_BYTES;
    if (page && fault)
        *fault = (struct guard_fault){world_file_at(offset), DAX_PAGE_BYTES, offset, BUS_ADRERR};
    return page != 0;
}

/* What the calls load from and store to is among the first pointers of their argument. */
bool guard_call(void (*fn)(void *), void *arg, struct guard_fault *fault)
{
    void *const *pointers = arg;
    for (unsigned i = 0; bad && i < 3; i++)
        if (fault_at(bad_at(pointers[i]), fault))
            return false;
    fn(arg);
    return true;
}

bool guard_copy(void *to, const void *from, size_t n, struct guard_fault *fault)
{
    static const struct il_site site = {"guard_copy", 0, "memcpy"};
    il_memcpy(to, from, n, &site); /* stops first, then copies at once */
    return !fault_at(bad_at(from), fault) && !fault_at(bad_at(to), fault);
}

bool guard_probe(const void *addr, size_t n, struct guard_fault *fault)
{
    (void)n;
    if (bad)
        il_point("probe");
    return !fault_at(bad_at(addr), fault);
}

/* Of msync mode, which is not explored. */
_Noreturn void guard_fail(const void *addr, int e)
{
    (void)addr, (void)e;
    abort();
}

dax_rc guard_map_add(const void *addr, size_t n, uint64_t offset, struct guard_owner *o,
                     struct dax_err *e)
{
    (void)addr, (void)n, (void)offset, (void)o, (void)e;
    return DAX_OK;
}

void guard_map_remove(const void *addr)
{
    (void)addr;
}

uint64_t guard_late(void)
{
    return 0;
}

size_t guard_take_late(const struct guard_owner *owner, uint64_t *offsets, size_t max)
{
    (void)owner, (void)offsets, (void)max;
    return 0;
}

/* --- what is not there ------------------------------------------------------------------------------ */

dax_rc ledger_put(struct sidecar *s, const struct media_entry *e, struct dax_err *er)
{
    (void)s, (void)e, (void)er;
    return DAX_OK;
}

dax_rc ledger_load(const struct sidecar *s, struct media_entry **out, size_t *count_out,
                   size_t *damaged_out, struct dax_err *er)
{
    (void)s, (void)er;
    *out = NULL;
    *count_out = *damaged_out = 0;
    return DAX_OK;
}

uint64_t ledger_last_id(const struct sidecar *s)
{
    (void)s;
    return 0;
}

/* The ledger's own pages are good, and no sidecar takes another's place. */
uint64_t ledger_bad_page(const struct sidecar *s)
{
    (void)s;
    return 0;
}

dax_rc ledger_mend_page(struct sidecar *s, uint64_t page, uint64_t last_id, struct dax_err *er)
{
    (void)s, (void)page, (void)last_id, (void)er;
    abort();
}

bool ledger_has(const struct sidecar *s, const struct media_entry *e)
{
    (void)s, (void)e;
    return true;
}

void ledger_copy(const struct sidecar *s, struct sidecar_ledger *out, bool lost_out[LEDGER_PAGES])
{
    (void)s, (void)out, (void)lost_out;
    abort();
}

void ledger_make(struct sidecar_ledger *out, const struct media_entry *list, size_t count,
                 uint64_t last_id)
{
    (void)out, (void)list, (void)count, (void)last_id;
    abort();
}

bool sidecar_probe_pool(const struct sidecar *s, const void **bad_out)
{
    (void)s, (void)bad_out;
    return true;
}

struct sidecar_ledger *sidecar_peek_ledger(const char *path)
{
    (void)path;
    return NULL;
}

void sidecar_note_fault(struct sidecar *s, uint32_t part, uint64_t page, uint32_t kind, int code,
                        uint64_t now_us)
{
    (void)s, (void)part, (void)page, (void)kind, (void)code, (void)now_us;
}

bool sidecar_take_note(const struct sidecar *s, struct fault_note *out)
{
    (void)s, (void)out;
    return false;
}

dax_rc sidecar_clear_note(struct sidecar *s, struct persist *p, struct dax_err *e)
{
    (void)s, (void)p, (void)e;
    return DAX_OK;
}

dax_rc sidecar_mend_twin(struct sidecar *s, struct persist *p, uint64_t salt, uint64_t lsn,
                         struct dax_err *e)
{
    (void)s, (void)p, (void)salt, (void)lsn;
    return dax_err_set(e, DAX_IO_MEDIA, 0, "the explorer has no twin");
}

dax_rc sidecar_mend_root(struct sidecar *s, struct persist *p, struct dax_err *e)
{
    (void)s, (void)p;
    return dax_err_set(e, DAX_IO_MEDIA, 0, "the explorer has no root");
}

dax_rc sidecar_renew_page(struct sidecar *s, void *at, const void *content, struct dax_err *e)
{
    (void)s, (void)at, (void)content;
    return dax_err_set(e, DAX_IO_MEDIA, 0, "the explorer has no sidecar");
}

bool sidecar_twin_whole(const struct sidecar *s)
{
    (void)s;
    return true;
}

dax_rc badblocks_open(int fd, const char *path, struct badblocks **out, struct dax_err *e)
{
    (void)fd, (void)path, (void)e;
    *out = NULL;
    return DAX_OK;
}

void badblocks_close(struct badblocks *b)
{
    (void)b;
}

dax_rc badblocks_read(struct badblocks *b, badblocks_fn fn, void *arg, struct dax_err *e)
{
    (void)b, (void)fn, (void)arg, (void)e;
    return DAX_OK;
}

bool badblocks_changed(struct badblocks *b)
{
    (void)b;
    return false;
}

bool badblocks_differs(struct badblocks *b)
{
    (void)b;
    return false;
}

bool badblocks_incomplete(const struct badblocks *b)
{
    (void)b;
    return false;
}

/* --- setup ------------------------------------------------------------------------------------------ */

void bad_setup_none(struct store *s)
{
    struct media *m = s->media = il_arena(sizeof *m);
    bad = NULL;
    m->sidecar_fd = -1;
    m->base = (struct media_owner){{media_rescue, media_fatal}, s, MEDIA_BASE};
    il_counters(&m->bad_lock, sizeof m->bad_lock); /* taken under the writer lock only */
    il_counters(&m->unnamed, sizeof m->unnamed);
    il_counters(&m->hidden, sizeof m->hidden);
}

void bad_setup(unsigned pages)
{
    world_has_flags = true;
    world_setup(pages);
    world_has_flags = false;
    struct media *m = world_store->media;
    bad = il_arena(sizeof *bad);
    il_keep(bad, sizeof *bad, true);
    m->entries = il_arena(ENTRIES * sizeof *m->entries);
    m->capacity = ENTRIES;
    il_keep(m->entries, ENTRIES * sizeof *m->entries, true);
    il_keep(m, offsetof(struct media, rescue_copy) + KEPT_OF_COPY, true);
    il_shared_bytes(m->rescue_copy, sizeof m->rescue_copy);
    il_name("media", m, sizeof *m, 0);
    il_name("media.lock", &m->lock, sizeof m->lock, 0);
    il_name("media.rescued", m->rescued, sizeof m->rescued, 8);
    il_name("media.rescuing", &m->rescuing, 4, 0);
    for (unsigned i = 0; i < IL_THREADS; i++)
        world_conn[i].probe = true;
}

void bad_may_die(void)
{
    bad->may_die = 1;
}

void bad_mark(unsigned k, unsigned page, bool garble, bool stuck)
{
    il_point("somebody finds a page damaged");
    bad->marked[page] = 1;
    bad->stuck[page] = stuck;
    if (garble)
        garbage(page);
    if (conn_media_add(&world_conn[k], MEDIA_BASE, page, garble ? MEDIA_DAMAGED : MEDIA_IO,
                       "marked", &err) != DAX_OK)
        il_violation("mark: %s", err.text);
}

/* --- readers ---------------------------------------------------------------------------------------- */

static void refused(unsigned page, dax_rc rc, const char *what)
{
    if (rc != DAX_IO_MEDIA)
        il_violation("%s of page %u: %s", what, page, err.text);
    bad->refused[page] = 1;
}

/* Load through a pointer, with the handler behind it. false: died. */
static bool load(unsigned page, const uint8_t *at)
{
    struct guard_fault fault;
    il_point("load from the page");
    for (unsigned i = 0; fault_at(bad_at(at), &fault); i++) {
        if (i == RESCUES || !media_rescue(&world_store->media->base.hooks, fault.offset, &fault)) {
            bad->died = 1;
            if (!bad->may_die)
                il_violation("the process has died of page %u", page);
            return false;
        }
        bad->rescued[page] = 1;
    }
    return true;
}

bool bad_look(unsigned k, unsigned page, const uint8_t *at)
{
    if (!load(page, at))
        return false;
    world_check(k, page, at, "pinned");
    return true;
}

bool bad_touch(const uint8_t *at, unsigned page)
{
    return load(page, at);
}

void bad_pin(unsigned k, unsigned page)
{
    void *at = NULL;
    dax_rc rc =
        conn_pin(&world_conn[k], (uint64_t)page * DAX_PAGE_BYTES, DAX_PAGE_BYTES, &at, &err);
    if (rc != DAX_OK || !at) {
        refused(page, rc, "pin");
        return;
    }
    if (bad_look(k, page, at) && bad_look(k, page, at))
        world_drop(k, page, at);
}

void bad_copy(unsigned k, unsigned page)
{
    uint8_t copy[WORLD_SEEN_BYTES];
    dax_rc rc = conn_read(&world_conn[k], copy, sizeof copy, (uint64_t)page * DAX_PAGE_BYTES, &err);
    if (rc == DAX_OK)
        world_check(k, page, copy, "copied");
    else
        refused(page, rc, "read");
}

void bad_scrub(unsigned k, unsigned page)
{
    dax_rc rc = conn_media_probe(&world_conn[k], page, &err);
    if (rc != DAX_OK)
        refused(page, rc, "scrub");
}

void bad_repair(unsigned k, unsigned page)
{
    enum media_status status;
    dax_rc rc = conn_media_repair(&world_conn[k], MEDIA_BASE, page, &status, &err);
    if (rc != DAX_OK && rc != DAX_BUSY)
        il_violation("repair of page %u: %s", page, err.text);
}

/* --- afterwards ------------------------------------------------------------------------------------- */

static void check_flag(unsigned page)
{
    struct media *m = world_store->media;
    uint64_t w = pageword_load(&world_store->region, page);
    bool flagged = w & PAGEWORD_POISONED;
    IL_MUST(pageword_state(w) != PAGE_ZAPPED || page >= pages_of(store_size(world_store)),
            "page %u stays zapped", page);
    bool open = media_find_open(m, MEDIA_BASE, page) != NULL;
    IL_MUST(!flagged || open, "page %u is flagged and has no open entry", page);
    IL_MUST(flagged || !open, "page %u has an open entry and is not flagged", page);
    IL_MUST(!flagged || bad->ways[page] || bad->rescued[page] || bad->marked[page],
            "page %u is good and stays flagged", page);
}

bool bad_check_flags(void)
{
    for (unsigned i = 1; i < WORLD_PAGES && !machine_violated; i++)
        check_flag(i);
    return !machine_violated;
}

void bad_finish(unsigned k, unsigned good_mask)
{
    struct store *s = world_store;
    struct conn *c = &world_conn[k];
    if (bad->died)
        return;
    IL_MUST(writer_owner(&s->region) == UINT32_MAX, "the writer lock is still held");
    IL_MUST(frames_validate(&s->region), "the lists of nodes do not fit their counts");
    for (unsigned i = 1; i < WORLD_PAGES; i++)
        IL_MUST(chain_validate(s, i), "the chain of page %u is broken", i);
    if (!bad_check_flags())
        return;
    world_begin(k);
    for (unsigned i = 1; i < c->size_bytes / DAX_PAGE_BYTES; i++) {
        bad->refused[i] = 0;
        bad_copy(k, i);
        IL_MUST(!bad->refused[i] || !(good_mask >> i & 1), "page %u cannot be read at the end", i);
        check_flag(i);
    }
    snapshot_end(&s->region, c->slot);
    c->reading = false;
}
