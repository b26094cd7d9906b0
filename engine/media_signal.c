/* media_signal.c: a fault outside of any guard, inside the SIGBUS handler.
 *
 * SQLite was reading through a pointer that it had been given. Where a copy of the page exists in memory -
 * the frame of its last commit, as long as nothing else has used it - the copy is written to the file,
 * which clears the error, and the load is repeated. The handler has no lock. What keeps others from
 * storing to the page meanwhile is the reader's pin: so a page that nobody has pinned is left alone, for a
 * commit may just be storing newer content there, and the copy would undo it. Otherwise the process has to end: there is nobody to
 * return an error to, and a page of zeros in its place would be rows that are not there. It leaves a note
 * in the sidecar, which the next open enters.
 *
 * Atomics on memory that is there, and system calls; no lock, no allocation, no stdio.
 */
#include "engine/media_state.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "engine/cpu.h"
#include "engine/frames.h"
#include "engine/pageword.h"

/* --- in the handler --------------------------------------------------------------------------------- */

/* A frame that was applied to base and not used for anything else since (frames.h). Copied out first,
 * and looked at again before it is believed. One thread at a time; the others wait. */
static bool media_copy_of(struct store *s, uint64_t page, uint8_t *to)
{
    struct region *r = &s->region;
    uint64_t w = pageword_load(r, page);
    uint32_t high = GUARDED_GET(r->header->guarded.fresh);
    for (uint32_t node = 1; node < high; node++)
        if (frames_is_copy(r, node, page, w)) {
            memcpy(to, region_frame(r, node), DAX_PAGE_BYTES);
            /* An exchange with itself: not before the copy is whole. Pairs with frames_take. */
            if (atomic_fetch_add(&r->nodes[node].storage, 0) != NODE_COPY)
                return false;
            return frames_is_copy(r, node, page, w) && pageword_load(r, page) == w;
        }
    return false;
}

bool media_rescue(struct guard_owner *o, uint64_t offset, const struct guard_fault *fault)
{
    struct media_owner *owner = (struct media_owner *)o;
    struct store *s = owner->store;
    uint64_t page = offset >> DAX_PAGE_SHIFT;
    if (owner->part != MEDIA_BASE || page >= DAX_MAX_PAGES || !store_same_process(s) ||
        s->base.read_only || !scan_base_pinned_now(&s->region, page))
        return false;
    struct media *m = s->media;
    while (atomic_exchange_explicit(&m->rescuing, 1, memory_order_acquire))
        cpu_relax();
    bool good = media_copy_of(s, page, m->rescue_copy) &&
                pwrite(s->base.fd, m->rescue_copy, DAX_PAGE_BYTES,
                       (off_t)(page << DAX_PAGE_SHIFT)) == (ssize_t)DAX_PAGE_BYTES;
    atomic_store_explicit(&m->rescuing, 0, memory_order_release);
    if (!good)
        return false;
    /* Of the mapping that the reader uses, which may be an older one. */
    (void)madvise((void *)((uintptr_t)fault->addr & ~(uintptr_t)(DAX_PAGE_BYTES - 1)), DAX_PAGE_BYTES,
                  MADV_DONTNEED);
    for (unsigned i = 0; i < MEDIA_RESCUED_MAX; i++) {
        uint64_t none = 0;
        if (atomic_load(&m->rescued[i]) == page + 1 ||
            atomic_compare_exchange_strong(&m->rescued[i], &none, page + 1))
            break;
    }
    atomic_fetch_add_explicit(&m->rescued_count, 1, memory_order_release);
    return true;
}

/* The newest committed version of a page, wherever it is: frames are memory, everything else is read with
 * pread, which says so where it cannot be. Looked at again afterwards, since others go on writing. */
static bool media_peek_page(struct store *s, uint64_t page, uint8_t *to)
{
    struct region *r = &s->region;
    for (int tries = 0; tries < 3 && page < DAX_MAX_PAGES; tries++) {
        uint64_t w = pageword_load(r, page), from = page, storage = NODE_BASE;
        uint32_t node = pageword_node(w);
        if (node)
            storage = atomic_load(&r->nodes[node].storage);
        if (storage == NODE_FRAME) {
            memcpy(to, region_frame(r, node), DAX_PAGE_BYTES);
        } else {
            if (storage != NODE_BASE)
                from = storage; /* scratch */
            if (pread(s->base.fd, to, DAX_PAGE_BYTES, (off_t)(from << DAX_PAGE_SHIFT)) <= 0)
                return false;
        }
        if (pageword_load(r, page) == w)
            return true;
    }
    return false;
}

static bool media_read_newest(void *arg, uint64_t offset, size_t len, uint8_t *to)
{
    static uint8_t page[DAX_PAGE_BYTES]; /* the stack of a handler may be small */
    while (len > 0) {
        size_t in = offset % DAX_PAGE_BYTES,
               n = DAX_PAGE_BYTES - in < len ? DAX_PAGE_BYTES - in : len;
        if (!media_peek_page(arg, offset >> DAX_PAGE_SHIFT, page))
            return false;
        memcpy(to, page + in, n);
        to += n;
        offset += n;
        len -= n;
    }
    return true;
}

static char *media_put_text(char *to, char *end, const char *text)
{
    while (*text && to < end)
        *to++ = *text++;
    return to;
}

static char *media_put_number(char *to, char *end, uint64_t n)
{
    char digits[24];
    unsigned i = sizeof digits;
    do
        digits[--i] = (char)('0' + n % 10);
    while ((n /= 10) != 0);
    while (i < sizeof digits && to < end)
        *to++ = digits[i++];
    return to;
}

void media_fatal(struct guard_owner *o, uint64_t offset, const struct guard_fault *fault)
{
    struct media_owner *owner = (struct media_owner *)o;
    struct store *s = owner->store;
    char text[1600], *at = text, *end = text + sizeof text - 1;
    uint64_t page = offset >> DAX_PAGE_SHIFT;
    at = media_put_text(at, end, "daxlite: ");
    at = media_put_text(at, end, owner->part == MEDIA_BASE ? s->base.path : s->sidecar_path);
    at = media_put_text(at, end, ": page ");
    at = media_put_number(at, end, page);
    at = media_put_text(at, end, owner->part == MEDIA_BASE ? " of the database" : " of the sidecar");
    media_describe_fn describe = atomic_load(&media_describe);
    struct media_reader reader = {media_read_newest, s};
    if (describe && owner->part == MEDIA_BASE)
        at += describe(s->base.path, page, store_same_process(s) ? &reader : NULL, at,
                       (size_t)(end - at));
    at = media_put_text(at, end, " cannot be read (");
    at = media_put_text(at, end, media_code_text(fault));
    bool pinned = owner->part != MEDIA_BASE || scan_base_pinned_now(&s->region, page);
    at = media_put_text(
        at, end,
        pinned ? ") and was in use through a pointer, where an error cannot be returned and no copy to "
                 "repair it exists; the process ends. dax_zero_copy=off prevents that; see "
                 "docs/media-errors.md\n"
               : ") and was in use through a pointer that had been given back (by whom, the core dump "
                 "says), so that it cannot be repaired under it; the process ends. See "
                 "docs/media-errors.md\n");
    (void)!write(STDERR_FILENO, text, (size_t)(at - text));
    media_leave_note(s, owner->part, page, fault->code);
}

_Atomic(media_describe_fn) media_describe;

void media_leave_note(struct store *s, enum media_part part, uint64_t page, int code)
{
    struct timespec t = {0};
    clock_gettime(CLOCK_REALTIME, &t); /* async-signal-safe */
    if (atomic_load(&s->active))
        sidecar_note_fault(&s->sidecar, part, page, MEDIA_SIGBUS, code,
                           (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000);
}
