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
#define DAX_SIDECAR_VERSION 4u
/* Before it the twin did not say where everything is: a seal was in that line. */
#define DAX_SIDECAR_VERSION_PLACES 4u
/* The oldest that is still used: no ledger, no fault note, seals in 62 lines, ring and twin at
 * multiples of 256. */
#define DAX_SIDECAR_VERSION_OLDEST 2u

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
    uint64_t ring_offset;   /* pool offset of the ring's first byte, a multiple of 4096 */
    uint64_t ring_bytes;    /* multiple of 4096 */
    uint64_t ledger_offset; /* pool offset of struct sidecar_ledger, a multiple of 4096; 0: none */
    uint64_t ledger_bytes;
    uint64_t twin_offset; /* pool offset of struct sidecar_twin, a multiple of 4096 */
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

#define DAX_SEALS (DAX_PAGE_LINES - 4)

/* Where everything is, for when the root cannot be read: found by its magic and its place in a page. */
#define DAX_PLACES_MAGIC "DAXWHERE"
struct sidecar_places {
    char magic[8];
    uint32_t version; /* as in the root */
    uint32_t reserved;
    uint64_t root_offset;
    uint64_t ring_offset;
    uint64_t ring_bytes;
    uint64_t ledger_offset;
    uint64_t twin_offset; /* of this page */
    uint64_t hash;        /* XXH3 of the 56 bytes before it */
};
static_assert(sizeof(struct sidecar_places) == DAX_LINE_BYTES, "places are a line");

/* Last words of a process that met a media error which could not be helped: the next open enters it
 * into the ledger. */
#define DAX_NOTE_MAGIC UINT64_C(0x45544F4E58414421) /* "!DAXNOTE" */
struct fault_note {
    uint64_t magic;
    uint64_t page;    /* of the part's file */
    uint64_t time_us; /* CLOCK_REALTIME */
    uint32_t part;    /* enum media_part */
    uint32_t kind;    /* enum media_kind */
    int32_t code;     /* si_code of the signal */
    uint32_t reserved[5];
    uint64_t hash; /* XXH3 of the 56 bytes before it */
};
static_assert(sizeof(struct fault_note) == DAX_LINE_BYTES, "a note is a line");

/* The page behind the ring, far from the root: one damaged place does not take both. */
struct sidecar_twin {
    struct cursor_slot cursor[2]; /* as in the root */
    struct seal seal[DAX_SEALS];
    struct sidecar_places places; /* up to version 3: one more seal */
    struct fault_note note;       /* version 2: one more seal */
};
static_assert(sizeof(struct sidecar_twin) == DAX_PAGE_BYTES, "the twin is a page");

/* --- ledger ----------------------------------------------------------------------------------- */

/* A media error (struct media_entry has the fields' meaning). id 0: the entry is free. Also then the
 * hash fits: an entry that somebody has zeroed is damaged. */
struct ledger_entry {
    uint64_t id;
    uint64_t found_us;
    uint64_t changed_us;
    uint64_t page;
    uint64_t bytes;
    uint32_t part, kind, status, named, stale;
    uint32_t intent, intent_status;
    uint32_t reserved;
    uint64_t intent_nonce;
    uint64_t intent_txid;
    uint64_t intent_hash;
    char type[16];
    char name[128];
    char role[64];
    char detail[192];
    uint64_t reserved_too;
    uint64_t hash; /* XXH3 of the 504 bytes before it */
};
static_assert(sizeof(struct ledger_entry) == 512, "an entry does not cross a page");

/* Twice, at both ends of the ledger. */
struct ledger_head {
    uint64_t last_id; /* greatest that was ever used */
    uint64_t reserved[6];
    uint64_t hash; /* XXH3 of the 56 bytes before it */
    uint64_t unused[56];
};
static_assert(sizeof(struct ledger_head) == sizeof(struct ledger_entry), "in the entries' grid");

#define DAX_LEDGER_ENTRIES 256u

struct sidecar_ledger {
    struct ledger_head head;
    struct ledger_entry entry[DAX_LEDGER_ENTRIES];
    struct ledger_head head_again;
};
static_assert(sizeof(struct sidecar_ledger) == 258 * 512, "the ledger has no gaps");

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
