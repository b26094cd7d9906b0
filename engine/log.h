/* log.h: the ring of commit records: building, appending, reading.
 *
 * LSNs are byte positions that only grow; a record's place in the ring is its LSN modulo the ring's
 * size. Live records lie between cursor and tail. Records are whole lines and may wrap.
 *
 * Appending is: build in DRAM (log_begin, log_add_*), P1 if the record names direct
 * pages, store into the ring, P2. Before P2 a crash leaves a record that fails its hash, LSN or salt
 * and recovery stops in front of it; after P2 it is replayed. Only then does lsn_tail move.
 *
 * L6: nothing of a record is stored into base, and no cursor names it, before it is sealed: before a
 * seal (sidecar.h), which is durable and far from it, says that it was whole. A record behind it would
 * say that, too, but one damaged place may take both. In cache-line modes each commit seals its
 * record. In msync mode that would double what a commit costs, so there a commit leaves its pages in
 * frames, and a checkpoint seals before it rehomes.
 */
#ifndef DAX_LOG_H
#define DAX_LOG_H

#include <stdbool.h>

#include "engine/layout.h"
#include "engine/rc.h"

struct store;

/* The record being built. Writer lock. */
struct log {
    uint8_t *buffer;   /* whole record, line-aligned; grows to the largest record used */
    size_t capacity;
    size_t descriptor_bytes; /* filled so far */
    size_t descriptor_space; /* rounded up to a line */
    size_t line_bytes;
    uint32_t page_count;
    uint32_t pair_count;
    uint64_t page_high; /* highest page named as target, plus one */
    bool names_scratch;
};

/* Bytes of a record with that many page descriptors, lines and pairs. */
uint64_t log_record_bytes(uint64_t pages, uint64_t lines, uint64_t pairs);
/* The same with the pair list in scratch. */
uint64_t log_record_bytes_listed(uint64_t pages, uint64_t lines);

/* Live bytes; bytes that may be appended without touching the reserve; with it. */
uint64_t log_live(const struct store *s);
uint64_t log_free(const struct store *s);
uint64_t log_free_with_reserve(const struct store *s);
/* Largest record of a transaction. */
uint64_t log_record_limit(const struct store *s);

/* Make the buffer large enough. DAX_NOMEM. */
DAX_CHECKED dax_rc log_reserve(struct store *s, uint64_t record_bytes, struct dax_err *err);

/* Start a record; its descriptors are announced so that lines can follow them at once. listed: one
 * record_list instead of pairs. */
void log_begin(struct store *s, uint64_t pages, uint64_t pairs, bool listed);
void log_add_page(struct store *s, uint64_t page, uint64_t bitmap, const uint8_t *content);
void log_add_pair(struct store *s, uint64_t page, uint64_t scratch);
void log_add_list(struct store *s, uint64_t list_hash, uint64_t pair_count, uint64_t page_high);

/* Store the record and make it durable (P2); lsn_tail moves behind it. Space must be there.
 * DAX_IO_WRITE (msync mode): durability unknown, the store has failed. */
DAX_CHECKED dax_rc log_append(struct store *s, uint64_t txid, uint64_t size_bytes, uint32_t flags,
                              uint64_t list_page, struct dax_err *err);

/* The log is empty and begins where this cursor, which is durable, says. */
void log_start(struct store *s, const struct cursor_slot *c);

/* P4: sidecar_cursor_write; a root or twin that cannot be stored to is mended first. sealed: every record of the
 * log's life up to there is whole and durable, 0: none is live. */
DAX_CHECKED dax_rc log_write_cursor(struct store *s, uint64_t sealed, struct cursor_slot *c,
                                    struct dax_err *err);

/* P7: sidecar_seal, likewise. Every record up to lsn is whole and durable. */
DAX_CHECKED dax_rc log_seal_to(struct store *s, uint64_t lsn, struct dax_err *err);

/* P7: seal the last record if it is not sealed. DAX_IO_WRITE (msync mode): the store has failed. */
DAX_CHECKED dax_rc log_seal(struct store *s, struct dax_err *err);

/* May versions of this transaction be stored into base? */
bool log_is_sealed(const struct store *s, uint64_t txid);

/* Copy the record at lsn into the buffer if it is whole and fits: salt, LSN, hash, counts.
 * DAX_OK with *valid_out. */
DAX_CHECKED dax_rc log_read(struct store *s, uint64_t lsn, bool *valid_out, struct dax_err *err);

/* Is there a whole record of this salt anywhere in the ring with an LSN above lsn? */
DAX_CHECKED dax_rc log_find_later(struct store *s, uint64_t lsn, uint64_t *found_out,
                                  struct dax_err *err);

void log_destroy(struct log *l);

#endif
