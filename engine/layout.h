/* layout.h: every structure that daxlite puts on media, and nothing else.
 *
 * Two places: the sidecar (a libpmemobj pool) and 21 bytes of the database's header. All integers
 * are little-endian, as on the machines that have persistent memory; docs/format.md describes
 * every byte for other readers. Each structure that decides anything carries a hash (XXH3, 64 bit).
 */
#ifndef DAX_LAYOUT_H
#define DAX_LAYOUT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/limits.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "on-media integers are little-endian");

/* --- sidecar ---------------------------------------------------------------------------------- */

#define DAX_SIDECAR_LAYOUT "daxlite"   /* libpmemobj's layout name */
#define DAX_SIDECAR_MAGIC "DAXLITE1"
#define DAX_SIDECAR_VERSION 2u

/* From where recovery replays. Two of them alternate; the valid one with the greater seq counts. Each
 * is there twice, in the root and in the twin. */
struct cursor_slot {
    uint64_t seq;        /* 0: never used */
    uint64_t lsn;        /* first live record, or the tail if the log is empty */
    uint64_t txid;       /* newest transaction of the state that recovery starts from */
    uint64_t size_bytes; /* database size as of txid */
    uint64_t salt;       /* records of this life of the log carry it */
    uint64_t nonce;      /* pairs the sidecar with the mark in the database's header */
    uint64_t reserved;
    uint64_t hash;       /* XXH3 of the 56 bytes before it */
};
static_assert(sizeof(struct cursor_slot) == DAX_LINE_BYTES, "a cursor slot is a line");

/* The pool's root object, aligned to a line within it. */
struct sidecar_root {
    char magic[8];
    uint32_t version;
    uint32_t reserved;
    uint64_t ring_offset; /* pool offset of the ring's first byte, 256-byte aligned */
    uint64_t ring_bytes;  /* multiple of 4096 */
    uint64_t ledger_offset; /* media-error ledger: pool offset, 0 while there is none */
    uint64_t ledger_bytes;
    uint64_t twin_offset; /* pool offset of struct sidecar_twin, a multiple of 64 */
    uint64_t hash; /* XXH3 of the 56 bytes before it */
    struct cursor_slot cursor[2];
};
static_assert(sizeof(struct sidecar_root) == 3 * DAX_LINE_BYTES, "root is three lines");

/* "All records in front of lsn were whole once." What recovery cannot read there is damaged and not
 * torn. The valid one of the cursor's salt with the greatest lsn counts; lines are used in turn. */
struct seal {
    uint64_t lsn; /* end of a record */
    uint64_t salt;
    uint64_t reserved[5];
    uint64_t hash; /* XXH3 of the 56 bytes before it */
};
static_assert(sizeof(struct seal) == DAX_LINE_BYTES, "a seal is a line");

#define DAX_SEALS (DAX_PAGE_LINES - 2)

/* The page behind the ring, far from the root: one damaged place does not take both. */
struct sidecar_twin {
    struct cursor_slot cursor[2]; /* as in the root */
    struct seal seal[DAX_SEALS];
};
static_assert(sizeof(struct sidecar_twin) == DAX_PAGE_BYTES, "the twin is a page");

/* --- log records ------------------------------------------------------------------------------ */

/* A record is header, descriptors (padded to a line), lines; it may wrap around the ring's end at
 * any line. Its LSN modulo ring_bytes is its place. */
#define DAX_RECORD_RELOG 1u         /* repeats newer content of pages; its txid repeats, too */
#define DAX_RECORD_LIST_IN_SCRATCH 2u /* the pair list is in scratch pages from list_page on */
#define DAX_RECORD_FLAGS_KNOWN 3u

struct record_header {
    uint64_t hash; /* XXH3 of the record from the next field to its end */
    uint64_t lsn;
    uint64_t salt;
    uint64_t txid;
    uint64_t size_bytes;   /* database size from this transaction on */
    uint32_t length_lines; /* whole record, header included */
    uint32_t page_count;   /* record_page descriptors */
    uint32_t pair_count;   /* record_pair descriptors, here or in scratch */
    uint32_t flags;
    uint64_t list_page; /* LIST_IN_SCRATCH: first file page of the list, else 0 */
};
static_assert(sizeof(struct record_header) == DAX_LINE_BYTES, "a record header is a line");

/* bitmap names the lines of the page that follow, lowest first. */
struct record_page {
    uint64_t page;
    uint64_t bitmap;
};

/* The page's whole content is the file page `scratch`. With LIST_IN_SCRATCH the record holds one
 * struct record_list in place of the pairs. */
struct record_pair {
    uint64_t page;
    uint64_t scratch;
};

struct record_list {
    uint64_t hash; /* XXH3 of the pair_count pairs in scratch */
    uint64_t reserved;
};

/* --- mark in the database's header ------------------------------------------------------------ */

/* SQLite's header fields that the mark touches (https://sqlite.org/fileformat.html section 1.3). */
#define DAX_HEADER_BYTES 100u
#define DAX_HEADER_WRITE_VERSION 18u
#define DAX_HEADER_READ_VERSION 19u
#define DAX_HEADER_RESERVED 72u
#define DAX_HEADER_RESERVED_BYTES 20u

/* A read version above 2 makes every SQLite refuse the file. */
#define DAX_MARK_READ_VERSION 0xDAu
#define DAX_MARK_MAGIC UINT32_C(0x4C584144) /* "DAXL" */
#define DAX_MARK_FORMAT 1u

/* Bytes 72 - 91 while the mark stands. Unaligned in no field: 72 is a multiple of 8. */
struct mark_bytes {
    uint32_t magic;
    uint8_t format;
    uint8_t write_version; /* bytes 18 and 19 to put back */
    uint8_t read_version;
    uint8_t reserved;
    uint64_t nonce;
    uint32_t check; /* low half of XXH3 of the 16 bytes before it */
} __attribute__((packed));
static_assert(sizeof(struct mark_bytes) == DAX_HEADER_RESERVED_BYTES, "mark fills bytes 72 - 91");

#endif
