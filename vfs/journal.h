/* journal.h: the content of a rollback journal that lives and dies with its transaction.
 *
 * SQLite writes the old image of every page it is about to change into its journal, and reads it
 * back only for ROLLBACK. The engine still has those images, so a journal here keeps of each record
 * the page number and the checksum, 8 bytes, and asks the engine for the image when it is read.
 * Everything else that SQLite writes is kept byte for byte. See journal.c.
 */
#ifndef DAX_VFS_JOURNAL_H
#define DAX_VFS_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/rc.h"

/* The main database's bytes as they were when the transaction began. DAX_OK or an error; the range
 * is within the size that the journal's header gives. */
typedef dax_rc (*journal_image_fn)(void *arg, void *buf, size_t len, uint64_t offset,
                                   struct dax_err *err);

struct journal_record {
    uint8_t pgno[4]; /* big-endian, as written */
    uint8_t cksum[4];
};

/* Records that stand one behind the other in the file. */
struct journal_run {
    uint64_t offset; /* in the journal, of the first record */
    size_t first;    /* its index; the run ends where the next one begins */
    uint32_t page_bytes;
    uint32_t cksum_init;
};

/* Bytes kept: [offset, offset + len) of the journal are at bytes[at]. Later extents win. */
struct journal_extent {
    uint64_t offset;
    size_t len;
    size_t at;
};

/* How much of the last record has been written. */
enum journal_part {
    JOURNAL_COMPLETE,
    JOURNAL_HAS_PGNO,
    JOURNAL_HAS_IMAGE
};

/* One thread at a time. {0} with image and image_arg set is an empty journal. */
struct journal {
    journal_image_fn image;
    void *image_arg;
    uint64_t size;       /* of the file */
    uint32_t page_bytes; /* from the newest header; 0: none, so nothing is taken for a record */
    uint32_t page_count; /* of the database when the transaction began */
    uint32_t cksum_init;
    enum journal_part part;
    struct journal_record *records;
    size_t record_count, record_room;
    struct journal_run *runs;
    size_t run_count, run_room;
    struct journal_extent *extents;
    size_t extent_count, extent_room;
    uint8_t *bytes;
    size_t byte_count, byte_room;
    /* counters over the journal's whole life */
    uint64_t images_skipped; /* page images that were not copied */
    uint64_t bytes_kept;     /* bytes that were */
};

/* Each call changes nothing if it fails, except that it may have grown buffers.
 * read: DAX_SHORT_READ past the end (the rest of buf is zeros), or what the image function
 * returned.
 *       Reading a record's image makes the record's checksum that of the image.
 * write, truncate: DAX_NOMEM, or what the image function returned. */
DAX_CHECKED dax_rc journal_read(struct journal *j, void *buf, size_t len, uint64_t offset,
                                struct dax_err *err);
DAX_CHECKED dax_rc journal_write(struct journal *j, const void *buf, size_t len, uint64_t offset,
                                 struct dax_err *err);
DAX_CHECKED dax_rc journal_truncate(struct journal *j, uint64_t size, struct dax_err *err);

/* Nothing in it that a rollback could use: empty, or its header has been zeroed. */
bool journal_is_over(const struct journal *j);

/* Empty it for the next transaction; memory is kept up to a bound. */
void journal_reset(struct journal *j);

/* Give all memory back. */
void journal_free(struct journal *j);

#endif
