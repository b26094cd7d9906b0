/* dbformat.h: pages of SQLite's file format, read without trusting a byte of them.
 *
 * Facts: https://sqlite.org/fileformat.html. Nothing here knows where a page comes from; every
 * function reads within the buffer that it is given and answers with a verdict, never with a guess.
 */
#ifndef DAX_DBFORMAT_H
#define DAX_DBFORMAT_H

#include <stdbool.h>
#include <stdint.h>

#define DBFORMAT_HEADER_BYTES 100u
#define DBFORMAT_PAGE_MIN 512u
#define DBFORMAT_PAGE_MAX 65536u
/* Cells that fit on the largest page: 6 bytes are the least that a cell and its pointer take. */
#define DBFORMAT_CELLS_MAX (DBFORMAT_PAGE_MAX / 6)
/* Deeper than any tree that SQLite can use (its cursors hold 20 pages). */
#define DBFORMAT_DEPTH_MAX 20u

static inline uint32_t dbformat_u16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static inline uint32_t dbformat_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* A varint at p, of which `room` bytes may be read. Bytes taken, 0: it does not end there. */
unsigned dbformat_varint(const uint8_t *p, uint32_t room, uint64_t *value_out);

/* --- the header ------------------------------------------------------------------------------- */

enum dbformat_encoding {
    DBFORMAT_UTF8 = 1,
    DBFORMAT_UTF16LE = 2,
    DBFORMAT_UTF16BE = 3
};

struct dbformat_header {
    uint32_t page_size;
    uint32_t usable;     /* without the bytes that extensions reserve */
    uint32_t pages;      /* as the header says; 0: it does not */
    uint32_t free_trunk; /* first of the free list, 0: none */
    uint32_t free_pages; /* of the free list, trunks included */
    bool pointer_map;    /* auto_vacuum is full or incremental */
    enum dbformat_encoding encoding;
};

/* False: these 100 bytes are no header. */
bool dbformat_header(const uint8_t *p, struct dbformat_header *out);

/* --- places without a tree -------------------------------------------------------------------- */

/* The page that holds the bytes on which SQLite locks; it is never used. */
static inline uint32_t dbformat_lock_page(uint32_t page_size)
{
    return (uint32_t)(UINT32_C(0x40000000) / page_size) + 1;
}

/* The pointer-map page that has the entry of `page` (>= 2), or `page` itself if it is one. */
uint32_t dbformat_map_page(const struct dbformat_header *h, uint32_t page);

enum dbformat_map_type {
    MAP_ROOT = 1,
    MAP_FREE,
    MAP_OVERFLOW_FIRST, /* parent: the b-tree page */
    MAP_OVERFLOW,       /* parent: the page before it in its chain */
    MAP_TREE            /* parent: the interior page */
};

/* --- b-tree pages ----------------------------------------------------------------------------- */

enum dbformat_kind {
    KIND_ANY,
    KIND_TABLE, /* rows with a rowid */
    KIND_INDEX  /* an index, or a table WITHOUT ROWID */
};

/* What one cell, or the page's header, points to. */
struct dbformat_ref {
    uint32_t child;    /* 0: none */
    uint32_t overflow; /* first page of the chain, 0: none */
    uint64_t overflow_bytes;
    uint64_t payload;  /* whole; 0 in interior pages of tables */
    uint32_t local_at; /* offset of the payload's part on this page */
    uint32_t local_bytes;
};

struct dbformat_tree_page {
    enum dbformat_kind kind;
    bool leaf;
    bool damaged; /* cells are left out: they do not lie within the page */
    uint32_t count;
    struct dbformat_ref refs[DBFORMAT_CELLS_MAX + 1];
};

/* d: page_size bytes of page `page`. Cells of a leaf that point nowhere are left out unless `every`.
 * False: it is no b-tree page. Page numbers are not checked. */
bool dbformat_tree_page(const struct dbformat_header *h, uint32_t page, const uint8_t *d,
                        bool every, struct dbformat_tree_page *out);

/* The cell at offset `at` (within the page) of a page of this kind. False: it does not lie within the
 * page. */
bool dbformat_cell(const struct dbformat_header *h, const uint8_t *d, uint32_t at, bool leaf,
                   enum dbformat_kind kind, struct dbformat_ref *ref);

/* --- records, rows of sqlite_schema -------------------------------------------------------------------- */

enum dbformat_column {
    SCHEMA_TYPE,
    SCHEMA_NAME,
    SCHEMA_TABLE,
    SCHEMA_ROOT,
    SCHEMA_SQL,
    SCHEMA_COLUMNS
};

enum dbformat_storage {
    STORAGE_NULL,
    STORAGE_INTEGER,
    STORAGE_REAL,
    STORAGE_TEXT,
    STORAGE_BLOB
};

struct dbformat_value {
    const uint8_t *bytes; /* within the record; NULL: NULL, or cut off with it */
    uint32_t length;      /* of what is there */
    enum dbformat_storage storage;
    bool whole;
    int64_t number; /* 0 for what is no integer */
    double real;    /* 0 for what is none */
};

/* The first columns of a record of which `have` bytes are there. False: it is no record. */
bool dbformat_record(const uint8_t *p, uint32_t have, struct dbformat_value *columns,
                     unsigned count);

/* As UTF-8, zero-terminated, malloc'ed; what is no character becomes U+FFFD. NULL: no memory. */
char *dbformat_text(const struct dbformat_value *v, enum dbformat_encoding encoding);

#endif
