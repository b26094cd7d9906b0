/* ledger.h: media errors in the sidecar: one object of the pool, changed by libpmemobj transactions.
 *
 * All calls under the lock of media.h. The sidecar must be open.
 */
#ifndef DAX_LEDGER_H
#define DAX_LEDGER_H

#include "engine/media.h"
#include "engine/sidecar.h"

/* Entries of the ledger of *s, oldest first, malloc'ed (the caller frees; NULL if there is none). One
 * that does not fit its hash is left out and counted in *damaged_out. A sidecar without a ledger (of
 * before there was one): none. A fault while reading is no crash: DAX_IO_MEDIA, and all that can be read
 * is in *out; an entry that cannot be is not counted. DAX_NOMEM: nothing is in *out. */
DAX_CHECKED dax_rc ledger_load(const struct sidecar *s, struct media_entry **out, size_t *count_out,
                               size_t *damaged_out, struct dax_err *err);

/* Pages that a ledger is on. */
#define LEDGER_PAGES ((sizeof(struct sidecar_ledger) + DAX_PAGE_BYTES - 1) / DAX_PAGE_BYTES)

/* The ledger as the mapping has it, or pread; what neither has is free entries, and *lost_out says of which
 * pages. */
void ledger_copy(const struct sidecar *s, struct sidecar_ledger *out, bool lost_out[LEDGER_PAGES]);

/* The first page of the sidecar's file that a part of the ledger is on and that cannot be loaded; 0: there is
 * none. */
uint64_t ledger_bad_page(const struct sidecar *s);

/* Write that page anew, with free entries and last_id. The error is cleared with it. Errors: DAX_IO_MEDIA
 * (the medium does not take it back), DAX_IO_WRITE. */
DAX_CHECKED dax_rc ledger_mend_page(struct sidecar *s, uint64_t page, uint64_t last_id,
                                    struct dax_err *err);

/* Does the ledger hold e, as it is? */
bool ledger_has(const struct sidecar *s, const struct media_entry *e);

/* Store *e, new or in place of the entry with its id: whole or not at all, durable on return. A full
 * ledger gives up its oldest entry that is not quarantined; if there is none: DAX_FULL. Texts are cut to
 * their first zero. DAX_MISUSE: id 0, or a field that is not in its enum; DAX_CANT_OPEN: no ledger;
 * DAX_IO_MEDIA: no entry that could take it can be read; DAX_IO_WRITE: libpmemobj has given the
 * transaction up. */
DAX_CHECKED dax_rc ledger_put(struct sidecar *s, const struct media_entry *e, struct dax_err *err);

/* A whole ledger in *out: of the entries in list, oldest first, all that there is room for; those that are
 * quarantined come before others, newer ones before older ones. */
void ledger_make(struct sidecar_ledger *out, const struct media_entry *list, size_t count,
                 uint64_t last_id);

/* Greatest id that was ever used, so that none is used again; 0: none. */
uint64_t ledger_last_id(const struct sidecar *s);

#endif
