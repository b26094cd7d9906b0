/* scan.c: collects snapshots and pins of all slots. */
#include "engine/scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

dax_rc scan_create(struct scan *s, struct dax_err *err)
{
    memset(s, 0, sizeof *s);
    s->snapshots = malloc((DAX_MAX_SLOTS + 1) * sizeof *s->snapshots);
    s->pins = malloc((size_t)DAX_MAX_SLOTS * DAX_SLOT_PINS * sizeof *s->pins);
    if (s->snapshots && s->pins)
        return DAX_OK;
    scan_destroy(s);
    return dax_err_set(err, DAX_NOMEM, ENOMEM, "cannot allocate the list of pins");
}

void scan_destroy(struct scan *s)
{
    free(s->snapshots);
    free(s->pins);
    memset(s, 0, sizeof *s);
}

static int scan_compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

void scan_take(struct scan *s, const struct region *r, uint32_t skip, bool add_newest)
{
    s->snapshot_count = 0;
    s->pin_count = 0;
    uint32_t high = atomic_load_explicit(&r->header->slot_high, memory_order_seq_cst);
    for (uint32_t i = 0; i < high; i++) {
        const struct slot *slot = &r->slots[i];
        /* Pairs with snapshot_begin's store: a reader whose snapshot is not seen here loads page
         * words later than the stores before this scan. */
        uint64_t snapshot = atomic_load_explicit(&slot->snapshot, memory_order_seq_cst);
        if (snapshot == 0)
            continue; /* an idle slot has no pins */
        if (i != skip)
            s->snapshots[s->snapshot_count++] = snapshot;
        for (uint32_t k = 0; k < DAX_SLOT_PINS; k++) {
            /* Pairs with pin.c's store of the pin. */
            uint64_t pin = atomic_load_explicit(&slot->pins[k], memory_order_seq_cst);
            if (pin)
                s->pins[s->pin_count++] = pin;
        }
    }
    if (add_newest)
        s->snapshots[s->snapshot_count++] =
            atomic_load_explicit(&r->header->last_committed, memory_order_relaxed);
    if (s->snapshot_count > 1)
        qsort(s->snapshots, s->snapshot_count, sizeof *s->snapshots, scan_compare);
}

bool scan_sees(const struct scan *s, uint64_t from, uint64_t to)
{
    size_t low = 0, high = s->snapshot_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (s->snapshots[middle] < from)
            low = middle + 1;
        else
            high = middle;
    }
    return low < s->snapshot_count && s->snapshots[low] < to;
}

static bool scan_covers(uint64_t pin, uint64_t page)
{
    return (pin & PIN_KIND_MASK) == PIN_KIND_BASE && page - pin_page(pin) < pin_count(pin);
}

bool scan_base_pinned(const struct scan *s, uint64_t page)
{
    for (size_t i = 0; i < s->pin_count; i++)
        if (scan_covers(s->pins[i], page))
            return true;
    return false;
}

bool scan_base_pinned_now(const struct region *r, uint64_t page)
{
    uint32_t high = atomic_load_explicit(&r->header->slot_high, memory_order_seq_cst);
    for (uint32_t i = 0; i < high; i++) {
        const struct slot *slot = &r->slots[i];
        if (atomic_load_explicit(&slot->snapshot, memory_order_seq_cst) == 0)
            continue;
        for (unsigned k = 0; k < DAX_SLOT_PINS; k++)
            if (scan_covers(atomic_load_explicit(&slot->pins[k], memory_order_seq_cst), page))
                return true;
    }
    return false;
}

bool scan_node_pinned(const struct scan *s, uint32_t node)
{
    for (size_t i = 0; i < s->pin_count; i++)
        if (s->pins[i] == pin_of_node(node))
            return true;
    return false;
}

bool scan_page_pinned(const struct scan *s, const struct region *r, uint64_t page)
{
    for (size_t i = 0; i < s->pin_count; i++) {
        uint64_t pin = s->pins[i];
        if ((pin & PIN_KIND_MASK) == PIN_KIND_BASE
                ? page - pin_page(pin) < pin_count(pin)
                : GUARDED_GET(r->nodes[(uint32_t)pin].page) == page)
            return true;
    }
    return false;
}

bool scan_others_active(const struct region *r, uint32_t skip)
{
    uint32_t high = atomic_load_explicit(&r->header->slot_high, memory_order_seq_cst);
    for (uint32_t i = 0; i < high; i++)
        if (i != skip &&
            atomic_load_explicit(&r->slots[i].snapshot, memory_order_seq_cst) != 0)
            return true;
    return false;
}
