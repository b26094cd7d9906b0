/* mark.h: the mark in the database's header that says "daxlite owns this file".
 *
 * Byte 19 (read version) set to a value that every SQLite refuses, and bytes 72 - 91 (reserved)
 * holding a nonce that pairs the file with its sidecar and the bytes to put back. Order: the
 * sidecar's cursor slot names the nonce, then P5 makes bytes 72 - 91 durable, then P6 byte 19.
 * Removal goes the other way round. So byte 19 alone decides: no mark, and the log is irrelevant.
 */
#ifndef DAX_MARK_H
#define DAX_MARK_H

#include <stdbool.h>

#include "engine/layout.h"
#include "engine/persist.h"

enum mark_state {
    MARK_NONE,    /* plain SQLite header, or an empty file */
    MARK_LEFT,    /* byte 19 is plain, bytes 72 - 91 are ours: a set or a removal was interrupted */
    MARK_SET,     /* ours */
    MARK_FOREIGN, /* byte 19 above 2 and not our mark: newer SQLite, newer daxlite or damage */
    MARK_RESERVED_USED /* plain, but somebody else's data in bytes 72 - 91 */
};

struct mark {
    uint64_t nonce;
    uint8_t write_version; /* bytes 18 and 19 as they were and will be again */
    uint8_t read_version;
};

/* Judge the first 100 bytes of a database file. *out is filled for MARK_SET only. */
enum mark_state mark_read(const uint8_t header[DAX_HEADER_BYTES], struct mark *out);

/* Put the mark into an ordinary copy of page 0 (100 bytes at least), in DRAM. */
void mark_put(uint8_t *header, const struct mark *m);

/* Make a piece [offset, offset + len) of page 0, copied to buf, look as SQLite wants it: plain
 * bytes 72 - 91, bytes 18 and 19 as legacy (1) where the file is a WAL-mode one (2). Touches
 * nothing outside the piece. m is the mark in force; the copy may come from a marked page only. */
void mark_hide(uint8_t *buf, uint64_t offset, uint64_t len, const struct mark *m);

/* Set the mark in the mapped header: P5, then P6. The log must be empty and its cursor slot must
 * name m->nonce already. Writer lock, nobody pins page 0 at bytes below 100. */
DAX_CHECKED dax_rc mark_set(struct persist *p, uint8_t *header, const struct mark *m,
                            struct dax_err *err);

/* Remove it: byte 19 (and 18) back, P6; then bytes 72 - 91 zero. The log must be empty. */
DAX_CHECKED dax_rc mark_clear(struct persist *p, uint8_t *header, const struct mark *m,
                              struct dax_err *err);

/* Finish an interrupted removal (MARK_LEFT): bytes 72 - 91 zero. */
DAX_CHECKED dax_rc mark_sweep(struct persist *p, uint8_t *header, struct dax_err *err);

#endif
