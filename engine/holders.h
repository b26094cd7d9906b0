/* holders.h: who holds a snapshot or a pin, for messages and status. Any thread; a moment's view.
 */
#ifndef DAX_HOLDERS_H
#define DAX_HOLDERS_H

#include "engine/engine.h"

struct store;

size_t holders_list(const struct store *s, uint32_t self, struct holder_info *out, size_t max);

/* Describe the oldest holder, other than slot `self`, of a pin on one of the pages: "process 4711,
 * thread 4712, connection 3, reading for 12.3 s, page 17". false: nobody else pins them. */
bool holders_describe(const struct store *s, uint32_t self, const uint32_t *pages, size_t count,
                      char *buf, size_t buf_bytes);

/* Has `slot` (UINT32_MAX: none) itself a pin on one of the pages? *page_out: on which. */
bool holders_pins_one(const struct store *s, uint32_t slot, const uint32_t *pages, size_t count,
                      uint32_t *page_out);

/* Describe the oldest slot other than `self` that keeps pages from `first` on in the file: by a
 * snapshot older than txid, or by a pin. false: nobody else does. */
bool holders_describe_beyond(const struct store *s, uint32_t self, uint64_t first, uint64_t txid,
                             char *buf, size_t buf_bytes);

/* Refcount of a page: pins on base and on its versions. */
uint32_t holders_refcount(const struct store *s, uint64_t page);

#endif
