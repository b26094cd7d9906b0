/* scan.h: one look at all reader slots: which snapshots are in use, which storages are pinned.
 *
 * The second half of both Dekker pairs. Whoever reclaims stores first (page words set to ZAPPED or
 * unlinked with a new generation; last_committed published), then scans; a reader stores its
 * snapshot or pin first, then loads again. All four are sequentially consistent, so either the scan
 * sees the reader or the reader sees the change and starts over. A scan may therefore see a pin or
 * snapshot that its reader is about to take back: it errs on the side of keeping.
 */
#ifndef DAX_SCAN_H
#define DAX_SCAN_H

#include "engine/region.h"

/* Pins, as they stand in a slot: bits 62-63 kind; base: bits 32-36 page count, bits 0-31 first page;
 * node: bits 0-31 node. 0: none. */
#define PIN_KIND_BASE (UINT64_C(1) << 62)
#define PIN_KIND_NODE (UINT64_C(2) << 62)
#define PIN_KIND_MASK (UINT64_C(3) << 62)

static inline uint64_t pin_of_base(uint64_t page, uint32_t count)
{
    return PIN_KIND_BASE | (uint64_t)count << 32 | page;
}

static inline uint64_t pin_of_node(uint32_t node)
{
    return PIN_KIND_NODE | node;
}

static inline uint64_t pin_page(uint64_t pin)
{
    return pin & UINT32_MAX;
}

static inline uint32_t pin_count(uint64_t pin)
{
    return (uint32_t)(pin >> 32) & 31;
}

struct scan {
    uint64_t *snapshots; /* in use, ascending; DAX_MAX_SLOTS + 1 */
    size_t snapshot_count;
    uint64_t *pins; /* DAX_MAX_SLOTS * DAX_SLOT_PINS */
    size_t pin_count;
};

DAX_CHECKED dax_rc scan_create(struct scan *s, struct dax_err *err);
void scan_destroy(struct scan *s);

/* Look. Slot `skip` counts for its pins but not for its snapshot (UINT32_MAX: none): the writer's
 * own, which moves on with its commit. With add_newest, last_committed counts as a snapshot in use,
 * for a reader that may begin at any moment. */
void scan_take(struct scan *s, const struct region *r, uint32_t skip, bool add_newest);

/* Is some snapshot in [from, to)? */
bool scan_sees(const struct scan *s, uint64_t from, uint64_t to);

bool scan_base_pinned(const struct scan *s, uint64_t page);
bool scan_node_pinned(const struct scan *s, uint32_t node);

/* Does any slot pin base's page right now? Without a list: for the SIGBUS handler, on whose thread a pin
 * of its own cannot come or go meanwhile. Async-signal-safe. */
bool scan_base_pinned_now(const struct region *r, uint64_t page);

/* Is base or any version of the page pinned? A refcount above zero. */
bool scan_page_pinned(const struct scan *s, const struct region *r, uint64_t page);

/* Is any slot but `skip` in a snapshot? Cheap: no list, stops at the first. */
bool scan_others_active(const struct region *r, uint32_t skip);

#endif
