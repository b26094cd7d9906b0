/* pin.c: taking and dropping pins.
 *
 * What the other side sees, step by step:
 *   before the pin is stored    a scan does not see it; the storage may be reclaimed; the word has
 *                               changed by then and the reader's second load notices
 *   after it, before the load   a scan sees it and spares a storage that the reader may yet decline
 *   after the load              the storage is safe until pin_drop
 */
#include "engine/pin.h"

#include <sched.h>

#include "engine/cpu.h"
#include "engine/store.h"

/* Turns of waiting for a zapped page before the processor is given away. */
#define PIN_SPINS 200u

static void pin_wait(unsigned turn)
{
    if (turn < PIN_SPINS)
        cpu_relax();
    else
        sched_yield();
}

/* Look the pages up. *storage_out and *node_out describe the storage if it is one piece.
 * DAX_BUSY: look again. */
static dax_rc pin_look(struct store *s, uint64_t snapshot, uint64_t page, uint32_t count,
                       uint64_t words[DAX_PIN_PAGES], struct version *version_out,
                       bool *one_piece_out, struct dax_err *err)
{
    *one_piece_out = true;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t w = words[i] = pageword_load(&s->region, page + i);
        if (pageword_state(w) == PAGE_ZAPPED) {
            /* Short, unless the writer has failed a check in between and will not come back. */
            dax_rc rc = store_usable(s, err);
            return rc == DAX_OK ? DAX_BUSY : rc;
        }
        if (pageword_state(w) != PAGE_MAPPED)
            return store_fail(s, err, "page %llu is %s but belongs to snapshot %llu",
                              (unsigned long long)(page + i), page_state_name(pageword_state(w)),
                              (unsigned long long)snapshot);
        struct version v;
        if (!chain_find(&s->region, w, snapshot, &v))
            return DAX_BUSY;
        if (w & PAGEWORD_POISONED && v.storage == NODE_BASE)
            return media_error(s, page + i, err);
        if (i == 0)
            *version_out = v;
        if (count > 1 && v.storage != NODE_BASE)
            *one_piece_out = false;
    }
    return DAX_OK;
}

inline __attribute__((always_inline)) uint8_t *
pin_take_base(struct store *s, uint32_t slot, unsigned entry, uint64_t page, bool probe)
{
    struct slot *own = &s->region.slots[slot];
    uint64_t w = pageword_load(&s->region, page);
    if (!pageword_is_base(w, probe))
        return NULL;
    uint8_t *at = base_at(&s->base, page << DAX_PAGE_SHIFT);
    /* SQLite begins with the page's header and the cell pointers behind it: they come while the pin is
     * stored. */
    __builtin_prefetch(at);
    __builtin_prefetch(at + DAX_LINE_BYTES);
    /* Pairs with scan_take, and the load with pageword_set. */
    atomic_store_explicit(&own->pins[entry], pin_of_base(page, 1), memory_order_seq_cst);
    if (pageword_load(&s->region, page) == w) {
        if (entry != DAX_SLOT_PINS_SHARED) /* that one is for a copy: counted there */
            GUARDED_ADD(own->pinned_base, 1);
        return at;
    }
    pin_drop(s, slot, entry);
    GUARDED_ADD(own->read_retries, 1);
    return NULL;
}

/* Pages of base, pinned: load every line of those that nobody has looked at yet. What is found bad is
 * bad for this reader and for all that come. */
static dax_rc pin_probe(struct store *s, const uint64_t *words, uint64_t page, uint32_t count,
                        struct dax_err *err)
{
    for (uint32_t i = 0; i < count; i++) {
        if (words[i] & PAGEWORD_PROBED)
            continue;
        struct guard_fault fault;
        if (!guard_probe(base_at(&s->base, (page + i) << DAX_PAGE_SHIFT), DAX_PAGE_BYTES, &fault))
            return media_fault(s, page + i, &fault, err);
        pageword_flag(&s->region, page + i, PAGEWORD_PROBED, 0);
    }
    return DAX_OK;
}

dax_rc pin_take(struct store *s, uint32_t slot, unsigned entry, uint64_t snapshot, uint64_t page,
                uint32_t count, bool probe, uint8_t **addr_out, struct dax_err *err)
{
    struct slot *own = &s->region.slots[slot];
    uint64_t words[DAX_PIN_PAGES];
    *addr_out = count == 1 ? pin_take_base(s, slot, entry, page, probe) : NULL;
    if (*addr_out)
        return DAX_OK;
    DAX_ASSERT(count >= 1 && count <= DAX_PIN_PAGES);
    DAX_ASSERT(atomic_load(&own->pins[entry]) == 0);
    DAX_ASSERT(atomic_load(&own->snapshot) != 0);

    for (unsigned turn = 0;; turn++) {
        struct version v = {0, 0, NODE_BASE};
        bool one_piece;
        dax_rc rc = pin_look(s, snapshot, page, count, words, &v, &one_piece, err);
        if (rc == DAX_BUSY) {
            GUARDED_ADD(own->read_retries, 1);
            pin_wait(turn);
            continue;
        }
        if (rc != DAX_OK || !one_piece)
            return rc;

        uint64_t pin = v.storage == NODE_BASE ? pin_of_base(page, count) : pin_of_node(v.node);
        /* Pairs with scan_take. */
        atomic_store_explicit(&own->pins[entry], pin, memory_order_seq_cst);
        bool same = true;
        for (uint32_t i = 0; i < count; i++) /* pairs with pageword_set */
            same &= pageword_load(&s->region, page + i) == words[i];
        if (same && probe && v.storage == NODE_BASE) {
            rc = pin_probe(s, words, page, count, err);
            if (rc != DAX_OK) {
                pin_drop(s, slot, entry);
                return rc;
            }
        }
        if (same) {
            *addr_out = chain_address(s, page, &v);
            if (entry == DAX_SLOT_PINS_SHARED) /* for a copy: counted there */
                return DAX_OK;
            if (v.storage == NODE_BASE)
                GUARDED_ADD(own->pinned_base, 1);
            else
                GUARDED_ADD(own->pinned_frame, 1);
            return DAX_OK;
        }
        pin_drop(s, slot, entry);
        GUARDED_ADD(own->read_retries, 1);
    }
}

dax_rc pin_take_storage(struct store *s, uint32_t slot, unsigned entry, uint64_t page,
                        struct dax_err *err)
{
    struct slot *own = &s->region.slots[slot];
    DAX_ASSERT(atomic_load(&own->pins[entry]) == 0);
    DAX_ASSERT(atomic_load(&own->snapshot) != 0);
    uint64_t storage = pin_of_base(page, 1);
    for (unsigned turn = 0;; turn++) {
        uint64_t w = pageword_load(&s->region, page);
        if (pageword_state(w) == PAGE_ZAPPED) {
            dax_rc rc = store_usable(s, err);
            if (rc != DAX_OK)
                return rc;
            pin_wait(turn);
            continue;
        }
        if (w & PAGEWORD_POISONED)
            return media_error(s, page, err);
        /* Pairs with scan_take, and the load with pageword_set. */
        atomic_store_explicit(&own->pins[entry], storage, memory_order_seq_cst);
        uint64_t again = pageword_load(&s->region, page);
        if (again == w)
            return DAX_OK;
        pin_drop(s, slot, entry);
    }
}

void pin_drop(struct store *s, uint32_t slot, unsigned entry)
{
    /* Release: the reads through the pointer happen before the storage is reused. Pairs with the
     * load in scan_take. */
    atomic_store_explicit(&s->region.slots[slot].pins[entry], 0, memory_order_release);
}
