/* pin.h: how a reader makes sure that the bytes it looks at stay where they are.
 *
 * A pin is an entry of the reader's own slot that names a storage: pages of base, or a version node.
 * Taking one is the reader's half of the second Dekker pair (DESIGN: zap, drain, reclaim): store the
 * pin, then load the page word again. Whoever reclaims changes the word first and scans afterwards.
 */
#ifndef DAX_PIN_H
#define DAX_PIN_H

#include "engine/chain.h"

/* Pin pages [page, page + count) as of the snapshot into pin `entry` of the slot, which must be
 * clear. *addr_out: their address, until pin_drop; NULL (nothing pinned, DAX_OK) if count > 1 and
 * the versions are not side by side. All pages are within the snapshot's size.
 * probe: pages of base are loaded once, line by line, before they are handed out for the first time.
 * Errors: DAX_IO_MEDIA for a page of base flagged POISONED, or found to be bad; DAX_CORRUPT for a page in
 * a state that no reader can meet. */
DAX_CHECKED dax_rc pin_take(struct store *s, uint32_t slot, unsigned entry, uint64_t snapshot,
                            uint64_t page, uint32_t count, bool probe, uint8_t **addr_out,
                            struct dax_err *err);

/* The common case of it, in few instructions: one page, MAPPED, base its only version. NULL: not so, and nothing
 * is pinned. */
uint8_t *pin_take_base(struct store *s, uint32_t slot, unsigned entry, uint64_t page, bool probe);

/* Pin what base holds of one page, whichever version that is: nobody changes it, or repairs it, until
 * pin_drop. The page is within the slot's snapshot. Errors as pin_take. */
DAX_CHECKED dax_rc pin_take_storage(struct store *s, uint32_t slot, unsigned entry, uint64_t page,
                                    struct dax_err *err);

/* Clear it: reads through the address are over. */
void pin_drop(struct store *s, uint32_t slot, unsigned entry);

#endif
