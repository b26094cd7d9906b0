/* journal.c: the content of a rollback journal that lives and dies with its transaction.
 *
 * Format (https://sqlite.org/fileformat.html section 3). A header of one sector: magic (8 bytes),
 * number of records, initial value of the checksums, database size in pages, sector size, page
 * size, all 32 bits big-endian. Then records: page number (4), image (page size), checksum (4),
 * each part by its own xWrite. At the end perhaps the name of a super-journal, which begins with
 * the number of the page that holds the lock bytes and is therefore no record.
 *
 * Algorithm. A write at the end of the file that is the next part of a record extends `records`;
 * its image is dropped, because the database in the state before the transaction has it. Any
 * other write goes to `extents`, so the journal is byte-exact whatever is written to it, only
 * dearer. A read puts the records it touches into the buffer, then the extents, oldest first.
 *
 * Invariants:
 *   J1  records are appended at the end of the file only, so every extent that overlaps a record is
 *       newer than the record.
 *   J2  runs are in the order of their offsets and do not overlap; only the last record can be
 *       incomplete (part), and the file ends within or behind it.
 *   J3  an image that is not kept is that of a page which the database had at the start of the
 *       transaction.
 *   J4  bytes of [0, size) that neither a record nor an extent covers are zeros.
 *
 * Two things differ from a file, both unseen by SQLite. Overwriting the first 28 bytes with zeros
 * is how SQLite says that a journal is finished without deleting it; what was behind is dropped,
 * since its images are of a state that the commit has replaced. And an image that SQLite journaled
 * need not be what the database had: of a free page it may have newer content, or zeros, in its
 * cache, which it never meant to write. What is read back is what the database had, and the
 * record's checksum becomes that of it; with the old one SQLite would take the record for the end
 * of the journal and keep pages that were never committed.
 */
#include "vfs/journal.h"

#include <stdlib.h>
#include <string.h>

#define HEADER_BYTES 28u /* used part of it */
#define PENDING_BYTE UINT32_C(0x40000000)
#define PAGE_BYTES_MIN 512u
#define PAGE_BYTES_MAX 65536u

/* Memory kept from one transaction to the next: a header and what super-journals add; records of a
 * transaction that changes 256 MiB. More goes back to the system. */
#define RETAIN_BYTES ((size_t)64 << 10)
#define RETAIN_RECORDS ((size_t)64 << 10)
#define RETAIN_EXTENTS ((size_t)256)

/* SQLite's checksum looks at every 200th byte from the end. */
#define CKSUM_STEP 200u

static const uint8_t journal_magic[8] = {0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7};

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put_be32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Make room for `need` elements of `size` bytes in *array. */
static dax_rc journal_grow(void *array, size_t *room, size_t need, size_t size, struct dax_err *err)
{
    if (need <= *room)
        return DAX_OK;
    size_t want = *room ? *room : 16;
    while (want < need)
        want *= 2;
    void *p;
    memcpy(&p, array, sizeof p);
    p = want <= SIZE_MAX / size ? realloc(p, want * size) : NULL;
    if (!p)
        return dax_err_set(err, DAX_NOMEM, 0, "no memory for the rollback journal (%zu bytes)",
                           want * size);
    memcpy(array, &p, sizeof p);
    *room = want;
    return DAX_OK;
}

/* --- bytes that are kept ---------------------------------------------------------------------- */

/* Overwrite within the newest extent that overlaps the range. False: it does not hold all of it. */
static bool journal_overwrite(struct journal *j, const void *buf, size_t len, uint64_t offset)
{
    for (size_t i = j->extent_count; i-- > 0;) {
        const struct journal_extent *e = &j->extents[i];
        if (offset >= e->offset + e->len || offset + len <= e->offset)
            continue;
        if (offset < e->offset || offset + len > e->offset + e->len)
            return false;
        memcpy(j->bytes + e->at + (offset - e->offset), buf, len);
        return true;
    }
    return false;
}

static dax_rc journal_keep(struct journal *j, const void *buf, size_t len, uint64_t offset,
                           struct dax_err *err)
{
    j->bytes_kept += len;
    if (journal_overwrite(j, buf, len, offset))
        return DAX_OK;
    dax_rc rc = journal_grow(&j->bytes, &j->byte_room, j->byte_count + len, 1, err);
    if (rc == DAX_OK)
        rc = journal_grow(&j->extents, &j->extent_room, j->extent_count + 1, sizeof *j->extents,
                          err);
    if (rc != DAX_OK)
        return rc;
    memcpy(j->bytes + j->byte_count, buf, len);
    struct journal_extent *last = j->extent_count ? &j->extents[j->extent_count - 1] : NULL;
    if (last && last->offset + last->len == offset && last->at + last->len == j->byte_count)
        last->len += len;
    else
        j->extents[j->extent_count++] = (struct journal_extent){offset, len, j->byte_count};
    j->byte_count += len;
    return DAX_OK;
}

/* --- records ---------------------------------------------------------------------------------- */

static uint64_t record_bytes(const struct journal_run *run)
{
    return (uint64_t)run->page_bytes + 8;
}

/* Records of run i. */
static size_t run_length(const struct journal *j, size_t i)
{
    size_t end = i + 1 < j->run_count ? j->runs[i + 1].first : j->record_count;
    return end - j->runs[i].first;
}

static uint64_t image_offset(const struct journal_run *run, const struct journal_record *r)
{
    return (uint64_t)(be32(r->pgno) - 1) * run->page_bytes;
}

/* A header tells what the records behind it look like. */
static void journal_learn(struct journal *j, const uint8_t *header)
{
    uint32_t page_bytes = be32(header + 24);
    bool valid = page_bytes >= PAGE_BYTES_MIN && page_bytes <= PAGE_BYTES_MAX &&
                 (page_bytes & (page_bytes - 1)) == 0;
    j->cksum_init = be32(header + 12);
    j->page_count = be32(header + 16);
    j->page_bytes = valid ? page_bytes : 0;
}

static bool journal_is_header(const uint8_t *buf, size_t len)
{
    return len >= HEADER_BYTES && memcmp(buf, journal_magic, sizeof journal_magic) == 0;
}

static bool journal_is_end_mark(const uint8_t *buf, size_t len, uint64_t offset)
{
    static const uint8_t zeros[HEADER_BYTES];
    return offset == 0 && len == HEADER_BYTES && memcmp(buf, zeros, HEADER_BYTES) == 0;
}

/* May these four bytes at the end of the file begin a record whose image need not be kept? */
static bool journal_begins_record(const struct journal *j, const uint8_t *buf, size_t len)
{
    if (len != 4 || !j->page_bytes || j->part != JOURNAL_COMPLETE)
        return false;
    uint32_t pgno = be32(buf);
    return pgno >= 1 && pgno <= j->page_count && pgno != PENDING_BYTE / j->page_bytes + 1;
}

/* Does the last run go on at the end of the file, with records as the newest header says? */
static bool journal_run_goes_on(const struct journal *j)
{
    if (!j->run_count)
        return false;
    const struct journal_run *run = &j->runs[j->run_count - 1];
    return run->page_bytes == j->page_bytes && run->cksum_init == j->cksum_init &&
           run->offset + run_length(j, j->run_count - 1) * record_bytes(run) == j->size;
}

static dax_rc journal_begin_record(struct journal *j, const uint8_t *pgno, struct dax_err *err)
{
    dax_rc rc =
        journal_grow(&j->records, &j->record_room, j->record_count + 1, sizeof *j->records, err);
    if (rc == DAX_OK && !journal_run_goes_on(j)) {
        rc = journal_grow(&j->runs, &j->run_room, j->run_count + 1, sizeof *j->runs, err);
        if (rc == DAX_OK)
            j->runs[j->run_count++] =
                (struct journal_run){j->size, j->record_count, j->page_bytes, j->cksum_init};
    }
    if (rc != DAX_OK)
        return rc;
    struct journal_record *r = &j->records[j->record_count++];
    memcpy(r->pgno, pgno, 4);
    memset(r->cksum, 0, 4);
    j->part = JOURNAL_HAS_PGNO;
    return DAX_OK;
}

/* Take the write at the end of the file as the next part of a record. False: it is not one. */
static bool journal_append(struct journal *j, const uint8_t *buf, size_t len, dax_rc *rc_out,
                           struct dax_err *err)
{
    *rc_out = DAX_OK;
    if (journal_begins_record(j, buf, len)) {
        *rc_out = journal_begin_record(j, buf, err);
        return true;
    }
    if (j->part == JOURNAL_HAS_PGNO && len == j->runs[j->run_count - 1].page_bytes) {
        j->part = JOURNAL_HAS_IMAGE;
        j->images_skipped++;
        return true;
    }
    if (j->part == JOURNAL_HAS_IMAGE && len == 4) {
        memcpy(j->records[j->record_count - 1].cksum, buf, 4);
        j->part = JOURNAL_COMPLETE;
        return true;
    }
    return false;
}

/* Keep what the file has in [start, end) as bytes. */
static dax_rc journal_keep_piece(struct journal *j, uint64_t start, uint64_t end,
                                 struct dax_err *err)
{
    uint8_t *piece = malloc(end - start);
    if (!piece)
        return dax_err_set(err, DAX_NOMEM, 0, "no memory for the rollback journal");
    dax_rc rc = journal_read(j, piece, end - start, start, err);
    if (rc == DAX_OK)
        rc = journal_keep(j, piece, end - start, start, err);
    free(piece);
    return rc;
}

/* Drop records from the end so that none reaches beyond `size`; one that crosses it is replaced by
 * its bytes. Only that step can fail, and it is the first to change anything. */
static dax_rc journal_cut_records(struct journal *j, uint64_t size, struct dax_err *err)
{
    size_t runs = j->run_count, records = j->record_count;
    while (runs) {
        const struct journal_run *run = &j->runs[runs - 1];
        uint64_t keep = size <= run->offset ? 0 : (size - run->offset) / record_bytes(run);
        if (keep >= records - run->first)
            break;
        uint64_t start = run->offset + keep * record_bytes(run);
        uint64_t end = min_u64(size, j->size);
        if (start < end) {
            dax_rc rc = journal_keep_piece(j, start, end, err);
            if (rc != DAX_OK)
                return rc;
        }
        records = run->first + keep;
        if (keep)
            break;
        runs--;
    }
    if (records < j->record_count)
        j->part = JOURNAL_COMPLETE;
    j->run_count = runs;
    j->record_count = records;
    return DAX_OK;
}

/* --- reading ---------------------------------------------------------------------------------- */

static uint32_t journal_sum(const uint8_t *image, uint32_t page_bytes, uint32_t init)
{
    uint32_t sum = init;
    for (uint32_t i = page_bytes - CKSUM_STEP; i > 0 && i < page_bytes; i -= CKSUM_STEP)
        sum += image[i];
    return sum;
}

/* Copy [from, to) of record bytes [start, start + len) if they overlap. */
static void copy_overlap(uint8_t *buf, uint64_t from, uint64_t to, const uint8_t *src,
                         uint64_t start, uint64_t len)
{
    uint64_t a = max_u64(from, start), b = min_u64(to, start + len);
    if (a < b)
        memcpy(buf + (a - from), src + (a - start), b - a);
}

/* The part of record r, which starts at `at`, that lies in [from, to). */
static dax_rc journal_read_record(struct journal *j, const struct journal_run *run,
                                  struct journal_record *r, uint64_t at, bool complete,
                                  uint8_t *buf, uint64_t from, uint64_t to, struct dax_err *err)
{
    copy_overlap(buf, from, to, r->pgno, at, 4);
    copy_overlap(buf, from, to, r->cksum, at + 4 + run->page_bytes, 4);
    uint64_t a = max_u64(from, at + 4), b = min_u64(to, at + 4 + run->page_bytes);
    if (a >= b)
        return DAX_OK;
    uint8_t *image = buf + (a - from);
    dax_rc rc = j->image(j->image_arg, image, b - a, image_offset(run, r) + (a - at - 4), err);
    if (rc != DAX_OK)
        return rc;
    /* SQLite reads the checksum after the image. */
    if (complete && b - a == run->page_bytes)
        put_be32(r->cksum, journal_sum(image, run->page_bytes, run->cksum_init));
    copy_overlap(buf, from, to, r->cksum, at + 4 + run->page_bytes, 4);
    return DAX_OK;
}

static dax_rc journal_read_run(struct journal *j, size_t i, uint8_t *buf, uint64_t from,
                               uint64_t to, struct dax_err *err)
{
    const struct journal_run *run = &j->runs[i];
    uint64_t stride = record_bytes(run);
    size_t n = run_length(j, i);
    if (to <= run->offset || from >= run->offset + n * stride)
        return DAX_OK;
    size_t k = from > run->offset ? (size_t)((from - run->offset) / stride) : 0;
    dax_rc rc = DAX_OK;
    for (; rc == DAX_OK && k < n && run->offset + k * stride < to; k++) {
        size_t index = run->first + k;
        bool complete = j->part == JOURNAL_COMPLETE || index + 1 < j->record_count;
        rc = journal_read_record(j, run, &j->records[index], run->offset + k * stride, complete,
                                 buf, from, to, err);
    }
    return rc;
}

dax_rc journal_read(struct journal *j, void *buf, size_t len, uint64_t offset, struct dax_err *err)
{
    uint64_t end = offset >= j->size ? offset : min_u64(j->size, offset + len);
    dax_rc rc = DAX_OK;
    memset(buf, 0, len);
    for (size_t i = 0; rc == DAX_OK && i < j->run_count; i++)
        rc = journal_read_run(j, i, buf, offset, end, err);
    if (rc != DAX_OK)
        return rc;
    for (size_t i = 0; i < j->extent_count; i++) {
        const struct journal_extent *e = &j->extents[i];
        copy_overlap(buf, offset, end, j->bytes + e->at, e->offset, e->len);
    }
    return end < offset + len ? DAX_SHORT_READ : DAX_OK;
}

/* --- writing ---------------------------------------------------------------------------------- */

/* Forget the content, keep the memory. */
static void journal_clear(struct journal *j)
{
    j->size = 0;
    j->page_bytes = 0;
    j->part = JOURNAL_COMPLETE;
    j->record_count = 0;
    j->run_count = 0;
    j->extent_count = 0;
    j->byte_count = 0;
}

dax_rc journal_write(struct journal *j, const void *buf, size_t len, uint64_t offset,
                     struct dax_err *err)
{
    dax_rc rc;
    if (len == 0)
        return DAX_OK;
    if (journal_is_end_mark(buf, len, offset))
        journal_clear(j);
    if (offset == j->size && journal_append(j, buf, len, &rc, err)) {
        if (rc == DAX_OK)
            j->size += len;
        return rc;
    }
    if (j->part != JOURNAL_COMPLETE) {
        /* What looked like a record is none, or is written otherwise than record by record. */
        rc = journal_cut_records(j, j->size, err);
        if (rc != DAX_OK)
            return rc;
    }
    rc = journal_keep(j, buf, len, offset, err);
    if (rc != DAX_OK)
        return rc;
    if (journal_is_header(buf, len))
        journal_learn(j, buf);
    j->size = max_u64(j->size, offset + len);
    return DAX_OK;
}

dax_rc journal_truncate(struct journal *j, uint64_t size, struct dax_err *err)
{
    if (size == 0) {
        journal_clear(j);
        return DAX_OK;
    }
    if (size < j->size) {
        dax_rc rc = journal_cut_records(j, size, err);
        if (rc != DAX_OK)
            return rc;
        size_t n = 0;
        for (size_t i = 0; i < j->extent_count; i++) {
            struct journal_extent e = j->extents[i];
            e.len = e.offset >= size ? 0 : (size_t)min_u64(e.len, size - e.offset);
            if (e.len)
                j->extents[n++] = e;
        }
        j->extent_count = n;
    }
    j->size = size;
    return DAX_OK;
}

bool journal_is_over(const struct journal *j)
{
    return j->size <= HEADER_BYTES;
}

void journal_reset(struct journal *j)
{
    journal_clear(j);
    if (j->byte_room > RETAIN_BYTES) {
        free(j->bytes);
        j->bytes = NULL;
        j->byte_room = 0;
    }
    if (j->record_room > RETAIN_RECORDS) {
        free(j->records);
        j->records = NULL;
        j->record_room = 0;
    }
    if (j->extent_room > RETAIN_EXTENTS || j->run_room > RETAIN_EXTENTS) {
        free(j->extents);
        free(j->runs);
        j->extents = NULL;
        j->runs = NULL;
        j->extent_room = j->run_room = 0;
    }
}

void journal_free(struct journal *j)
{
    free(j->bytes);
    free(j->records);
    free(j->extents);
    free(j->runs);
    *j = (struct journal){.image = j->image, .image_arg = j->image_arg};
}
