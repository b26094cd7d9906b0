/* writeback.h: lines of base that are stored and not yet flushed.
 *
 * A commit applies its lines to base through the CPU cache (persist_store_cached). Until P3 of the next
 * checkpoint nothing depends on their being on the medium: the records that name them are live (L1). So
 * they are only noted here, and flushed together in front of P3. In msync mode there is nothing to note:
 * fdatasync finds dirty pages by itself.
 *
 * W1  A line of base that was stored through the cache since the last P3 is noted, or has been flushed.
 * W2  An empty log has nothing noted.
 *
 * All of it needs the writer lock. In the shared region, because the next writer may be another
 * connection's, and later another process's: what a dead process has left unflushed is still in the
 * cache, and recovery stores every line that the log names anew.
 */
#ifndef DAX_WRITEBACK_H
#define DAX_WRITEBACK_H

#include <stdint.h>

struct store;

/* The lines of base's page have just been stored through the cache. Never fails: if there are too many
 * pages, the one that has waited longest is flushed. */
void writeback_note(struct store *s, uint64_t page, uint64_t bitmap);

/* Flush all that is noted, so that the next fence makes it durable. A page that cannot be flushed is a media
 * error like any other: flagged and entered. */
void writeback_flush(struct store *s);

#endif
