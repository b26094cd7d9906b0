/* holders.c: reads the slots for people. */
#include "engine/holders.h"

#include <stdio.h>
#include <time.h>

#include "engine/scan.h"
#include "engine/store.h"
#include "engine/writer.h"

static uint64_t holders_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool holders_pin_covers(const struct region *r, uint64_t pin, uint64_t page)
{
    if ((pin & PIN_KIND_MASK) == PIN_KIND_BASE)
        return page - pin_page(pin) < pin_count(pin);
    return (pin & PIN_KIND_MASK) == PIN_KIND_NODE &&
           GUARDED_GET(r->nodes[(uint32_t)pin].page) == page;
}

/* Behind the last page that a pin covers. */
static uint64_t holders_pin_end(const struct region *r, uint64_t pin)
{
    if ((pin & PIN_KIND_MASK) == PIN_KIND_BASE)
        return pin_page(pin) + pin_count(pin);
    return (uint64_t)GUARDED_GET(r->nodes[(uint32_t)pin].page) + 1;
}

static void holders_fill(const struct store *s, uint32_t i, uint32_t self, struct holder_info *h)
{
    const struct region *r = &s->region;
    const struct slot *slot = &r->slots[i];
    *h = (struct holder_info){
        .connection = GUARDED_GET(slot->number),
        .pid = GUARDED_GET(slot->owner_pid),
        .tid = GUARDED_GET(slot->tid),
        .self = i == self,
        .writer = writer_owner(r) == i,
        .snapshot = GUARDED_GET(slot->snapshot),
        .first_pinned_page = UINT64_MAX,
    };
    uint64_t since = GUARDED_GET(slot->since_ns), now = holders_now_ns();
    h->age_ns = h->snapshot && now > since ? now - since : 0;
    for (unsigned k = 0; k < DAX_SLOT_PINS; k++) {
        uint64_t pin = GUARDED_GET(slot->pins[k]);
        if (!pin)
            continue;
        h->pins++;
        uint64_t page = (pin & PIN_KIND_MASK) == PIN_KIND_BASE
                            ? pin_page(pin)
                            : GUARDED_GET(r->nodes[(uint32_t)pin].page);
        if (page < h->first_pinned_page)
            h->first_pinned_page = page;
    }
}

size_t holders_list(const struct store *s, uint32_t self, struct holder_info *out, size_t max)
{
    size_t n = 0;
    uint32_t high = atomic_load(&s->region.header->slot_high);
    for (uint32_t i = 0; i < high; i++) {
        struct holder_info h;
        holders_fill(s, i, self, &h);
        if (!h.snapshot)
            continue;
        /* Insertion by snapshot, oldest first; the newest fall off the end. */
        size_t at = n < max ? n : max;
        while (at > 0 && out[at - 1].snapshot > h.snapshot) {
            if (at < max)
                out[at] = out[at - 1];
            at--;
        }
        if (at < max)
            out[at] = h;
        if (n < max)
            n++;
    }
    return n;
}

bool holders_pins_one(const struct store *s, uint32_t slot, const uint32_t *pages, size_t count,
                      uint32_t *page_out)
{
    const struct region *r = &s->region;
    if (slot == UINT32_MAX || !GUARDED_GET(r->slots[slot].snapshot))
        return false;
    for (unsigned k = 0; k < DAX_SLOT_PINS; k++) {
        uint64_t pin = GUARDED_GET(r->slots[slot].pins[k]);
        for (size_t p = 0; pin && p < count; p++)
            if (holders_pin_covers(r, pin, pages[p])) {
                *page_out = pages[p];
                return true;
            }
    }
    return false;
}

bool holders_describe(const struct store *s, uint32_t self, const uint32_t *pages, size_t count,
                      char *buf, size_t buf_bytes)
{
    const struct region *r = &s->region;
    uint32_t high = atomic_load(&r->header->slot_high), found = UINT32_MAX, page = 0;
    uint64_t oldest = UINT64_MAX;
    for (uint32_t i = 0; i < high; i++) {
        uint64_t snapshot = GUARDED_GET(r->slots[i].snapshot);
        if (i == self || !snapshot || snapshot >= oldest)
            continue;
        for (unsigned k = 0; k < DAX_SLOT_PINS; k++) {
            uint64_t pin = GUARDED_GET(r->slots[i].pins[k]);
            for (size_t p = 0; pin && p < count; p++)
                if (holders_pin_covers(r, pin, pages[p])) {
                    found = i;
                    page = pages[p];
                    oldest = snapshot;
                }
        }
    }
    if (found == UINT32_MAX) {
        buf[0] = 0;
        return false;
    }
    struct holder_info h;
    holders_fill(s, found, self, &h);
    snprintf(buf, buf_bytes, "process %d, thread %d, connection %llu, reading for %.1f s, page %u",
             h.pid, h.tid, (unsigned long long)h.connection, (double)h.age_ns / 1e9, page);
    return true;
}

bool holders_describe_beyond(const struct store *s, uint32_t self, uint64_t first, uint64_t txid,
                             char *buf, size_t buf_bytes)
{
    const struct region *r = &s->region;
    uint32_t high = atomic_load(&r->header->slot_high), found = UINT32_MAX;
    uint64_t oldest = UINT64_MAX;
    for (uint32_t i = 0; i < high; i++) {
        uint64_t snapshot = GUARDED_GET(r->slots[i].snapshot);
        if (i == self || !snapshot || snapshot >= oldest)
            continue;
        bool holds = snapshot < txid;
        for (unsigned k = 0; k < DAX_SLOT_PINS && !holds; k++) {
            uint64_t pin = GUARDED_GET(r->slots[i].pins[k]);
            holds = pin && holders_pin_end(r, pin) > first;
        }
        if (holds) {
            found = i;
            oldest = snapshot;
        }
    }
    buf[0] = 0;
    if (found == UINT32_MAX)
        return false;
    struct holder_info h;
    holders_fill(s, found, self, &h);
    snprintf(buf, buf_bytes,
             "process %d, thread %d, connection %llu, reading for %.1f s, keeps the file from "
             "being cut",
             h.pid, h.tid, (unsigned long long)h.connection, (double)h.age_ns / 1e9);
    return true;
}

uint32_t holders_refcount(const struct store *s, uint64_t page)
{
    const struct region *r = &s->region;
    uint32_t n = 0, high = atomic_load(&r->header->slot_high);
    for (uint32_t i = 0; i < high; i++) {
        if (!GUARDED_GET(r->slots[i].snapshot))
            continue;
        for (unsigned k = 0; k < DAX_SLOT_PINS; k++) {
            uint64_t pin = GUARDED_GET(r->slots[i].pins[k]);
            n += pin && holders_pin_covers(r, pin, page);
        }
    }
    return n;
}
