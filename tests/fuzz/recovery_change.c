/* recovery_change.c: the changes to a crashed database that an input describes.
 *
 * Each begins with a byte that says which (enum change); bit 7 of it leaves hashes as they are, so that
 * most changes get behind the hashes and some are what a bad medium does. Numbers are described by a
 * kind and an operand (change_value), which makes limits as likely as any other value.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/hash.h"
#include "tests/fuzz/recovery_input.h"

enum change {
    CHANGE_RING_BYTES,
    CHANGE_RECORD,     /* a field of a record's header */
    CHANGE_DESCRIPTOR, /* a word behind a record's header */
    CHANGE_CURSOR,
    CHANGE_SEAL,
    CHANGE_ROOT,
    CHANGE_MARK,
    CHANGE_DB_BYTES,
    CHANGE_DB_LENGTH,
    CHANGE_SIDECAR_LENGTH,
    CHANGE_NEW_RECORD,
    CHANGE_COPY_RING, /* an old record appears elsewhere */
    CHANGE_SCRATCH,   /* pages far above */
    CHANGE_NO_SIDECAR,
    CHANGES
};

#define CHANGES_MAX 24u
#define LENGTH_MAX (8 * DAX_MIB)

static uint64_t change_value(struct input *in, uint64_t old)
{
    uint8_t kind = input_u8(in);
    switch (kind % 10) {
    case 0: return input_u8(in);
    case 1: return input_u16(in);
    case 2: return input_u32(in);
    case 3: return input_u64(in);
    case 4: return old + input_u8(in);
    case 5: return old - input_u8(in);
    case 6: return UINT64_C(1) << ((kind / 10 * 3 + input_u8(in) % 3) % 64);
    case 7: return UINT64_MAX - input_u8(in);
    case 8: return UINT64_MAX >> (input_u8(in) % 64);
    default: return old ^ UINT64_C(1) << (input_u8(in) % 64);
    }
}

/* A word of `width` bytes at `at`. */
static void change_word(struct input *in, void *at, unsigned width)
{
    uint64_t v = 0;
    memcpy(&v, at, width);
    v = change_value(in, v);
    memcpy(at, &v, width);
}

static void change_record(struct input *in, struct side *s, bool fit)
{
    static const struct {
        uint8_t at, width;
    } fields[] = {{8, 8},  {16, 8}, {24, 8}, {32, 8}, {40, 4},
                  {44, 4}, {48, 4}, {52, 4}, {56, 8}, {0, 8}};
    struct record_header h;
    unsigned i = input_u8(in), field = input_below(in, 10);
    if (s->record_count == 0)
        return;
    uint64_t lsn = s->records[i % s->record_count];
    side_read(s, &h, sizeof h, lsn);
    change_word(in, (uint8_t *)&h + fields[field].at, fields[field].width);
    side_write(s, &h, sizeof h, lsn);
    if (fit)
        side_fit_record(s, lsn);
}

static void change_descriptor(struct input *in, struct side *s, bool fit)
{
    unsigned i = input_u8(in);
    uint64_t word, at = sizeof(struct record_header) + input_u8(in) * sizeof word;
    if (s->record_count == 0)
        return;
    uint64_t lsn = s->records[i % s->record_count];
    side_read(s, &word, sizeof word, lsn + at);
    change_word(in, &word, sizeof word);
    side_write(s, &word, sizeof word, lsn + at);
    if (fit)
        side_fit_record(s, lsn);
}

static void change_cursor(struct input *in, struct side *s, bool fit)
{
    unsigned slot = input_u8(in), field = input_below(in, 8);
    unsigned copies = slot & 8 ? slot >> 4 & 3 : 3;
    slot = slot & 2 ? s->newest : slot & 1;
    struct cursor_slot c = s->root.cursor[slot];
    change_word(in, (uint8_t *)&c + 8 * field, 8);
    side_store_cursor(s, slot, &c, fit, copies);
}

static void change_seal(struct input *in, struct side *s, bool fit)
{
    static const uint8_t at[] = {offsetof(struct seal, lsn), offsetof(struct seal, salt),
                                 offsetof(struct seal, hash)};
    struct seal seal;
    unsigned line = input_u8(in), field = input_below(in, 3);
    side_read_seal(s, line, &seal);
    if (seal.salt == 0) /* unused: one of this life */
        seal = (struct seal){.lsn = s->end, .salt = s->root.cursor[s->newest].salt};
    change_word(in, (uint8_t *)&seal + at[field], 8);
    side_store_seal(s, line, &seal, fit);
}

static void change_root(struct input *in, struct side *s, bool fit)
{
    static const uint8_t at[] = {0, 8, 16, 24, 32, 40, 48, 56};
    uint64_t ring_offset = s->root.ring_offset, ring_bytes = s->root.ring_bytes;
    change_word(in, (uint8_t *)&s->root + at[input_below(in, 8)], 8);
    side_store_root(s, fit);
    s->root.ring_offset = ring_offset; /* later changes go to where the ring is */
    s->root.ring_bytes = ring_bytes;
}

static void change_mark(struct input *in, struct image *db, bool fit)
{
    uint8_t header[DAX_HEADER_BYTES];
    unsigned at = input_below(in, 24);
    image_read(db, header, sizeof header, 0);
    if (at < DAX_HEADER_RESERVED_BYTES)
        header[DAX_HEADER_RESERVED + at] = input_u8(in);
    else
        header[DAX_HEADER_WRITE_VERSION + at % 2] = input_u8(in);
    if (fit) {
        uint32_t check = (uint32_t)hash_bytes(header + DAX_HEADER_RESERVED, 16);
        memcpy(header + DAX_HEADER_RESERVED + 16, &check, sizeof check);
    }
    if (db->size >= sizeof header)
        image_write(db, header, sizeof header, 0);
}

static void change_bytes(struct input *in, uint8_t bytes[16], size_t *len)
{
    *len = 1 + input_below(in, 16);
    for (size_t i = 0; i < *len; i++)
        bytes[i] ^= input_u8(in);
}

static void change_ring_bytes(struct input *in, struct side *s)
{
    uint8_t bytes[16];
    size_t len;
    uint64_t at = s->root.cursor[s->newest].lsn + input_u16(in);
    side_read(s, bytes, sizeof bytes, at);
    change_bytes(in, bytes, &len);
    side_write(s, bytes, len, at);
}

static void change_db_bytes(struct input *in, struct image *db)
{
    uint8_t bytes[16];
    size_t len;
    uint64_t at = db->size ? input_u32(in) % db->size % LENGTH_MAX : 0;
    image_read(db, bytes, sizeof bytes, at);
    change_bytes(in, bytes, &len);
    if (at + len <= db->size)
        image_write(db, bytes, len, at);
}

static void change_length(struct input *in, struct image *im)
{
    uint64_t size =
        input_below(in, 2) ? im->size + input_u16(in) - 32768 : input_bytes(in, 3) % LENGTH_MAX;
    image_cut(im, size > im->size + LENGTH_MAX ? 0 : size);
}

/* Where scratch would be: the low part's end is data, then a hole. */
static uint64_t scratch_start(const struct image *db)
{
    uint64_t low = db->size < LENGTH_MAX ? db->size : 2 * DAX_MIB;
    return (low + 2 * DAX_MIB - 1) / (2 * DAX_MIB) * (2 * DAX_MIB) + DAX_SCRATCH_GAP_BYTES;
}

static void change_scratch(struct input *in, struct image *db)
{
    uint8_t page[DAX_PAGE_BYTES];
    uint64_t start = scratch_start(db), n = input_below(in, 4);
    if (db->size > 0 && db->size < LENGTH_MAX) {
        image_read(db, page, 1, db->size - 1);
        image_write(db, page, 1, db->size - 1);
    }
    memset(page, input_u8(in), sizeof page);
    for (uint64_t i = 0; i <= n; i++)
        image_write(db, page, sizeof page, start + i * sizeof page);
}

/* A record of any shape behind the last one. */
static void change_new_record(struct input *in, struct side *s, struct image *db, bool fit)
{
    static uint8_t b[64 * DAX_KIB];
    struct record_header h = {.lsn = s->end, .salt = s->root.cursor[s->newest].salt};
    unsigned pages = input_below(in, 4), pairs = input_below(in, 4);
    size_t at = sizeof h, lines = 0;
    h.flags = input_below(in, 8) ? input_u8(in) & 3 : input_u32(in);
    bool listed = h.flags & DAX_RECORD_LIST_IN_SCRATCH;
    h.txid = s->txid + (h.flags & DAX_RECORD_RELOG ? 0 : 1);
    h.page_count = pages;
    h.pair_count = pairs;
    h.size_bytes = change_value(in, db->size < LENGTH_MAX ? db->size : 2 * DAX_MIB);
    for (unsigned i = 0; i < pages; i++, at += 16) {
        uint64_t d[2] = {change_value(in, i), change_value(in, 1)};
        memcpy(b + at, d, sizeof d);
        lines += (size_t)__builtin_popcountll(d[1]);
    }
    uint64_t list[4][2], scratch = scratch_start(db) / DAX_PAGE_BYTES;
    for (unsigned i = 0; i < pairs; i++) {
        list[i][0] = change_value(in, i);
        list[i][1] = change_value(in, scratch);
    }
    if (listed) {
        struct record_list l = {.hash = hash_bytes(list, pairs * sizeof *list)};
        h.list_page = change_value(in, scratch);
        if (input_below(in, 2))
            h.pair_count = (uint32_t)change_value(in, pairs);
        if (h.list_page < scratch + 64)
            image_write(db, list, pairs * sizeof *list, h.list_page * DAX_PAGE_BYTES);
        memcpy(b + at, &l, sizeof l);
        at += sizeof l;
    } else {
        memcpy(b + at, list, pairs * sizeof *list);
        at += pairs * sizeof *list;
    }
    size_t padded = (at + DAX_LINE_BYTES - 1) / DAX_LINE_BYTES * DAX_LINE_BYTES;
    memset(b + at, 0, padded - at);
    memset(b + padded, input_u8(in), lines * DAX_LINE_BYTES);
    h.length_lines = (uint32_t)(padded / DAX_LINE_BYTES + lines);
    memcpy(b, &h, sizeof h);
    size_t bytes = (size_t)h.length_lines * DAX_LINE_BYTES;
    if (bytes > s->root.ring_bytes)
        return;
    side_write(s, b, bytes, h.lsn);
    if (fit)
        side_fit_record(s, h.lsn);
    s->end += bytes;
    s->txid = h.txid;
    if (s->record_count < SIDE_RECORDS_MAX)
        s->records[s->record_count++] = h.lsn;
}

static void change_copy_ring(struct input *in, struct side *s)
{
    uint8_t line[DAX_LINE_BYTES];
    uint64_t from = s->root.cursor[s->newest].lsn + input_u16(in) / 64 * 64;
    uint64_t to = s->end + input_u8(in) * 64;
    for (unsigned n = 1 + input_below(in, 32); n > 0; n--, from += 64, to += 64) {
        side_read(s, line, sizeof line, from);
        side_write(s, line, sizeof line, to);
    }
}

static void change_one(struct input *in, struct image *db, struct image *sidecar)
{
    uint8_t what = input_u8(in);
    bool fit = !(what & 0x80);
    struct side s;
    bool whole = side_open(&s, sidecar);
    switch ((enum change)((what & 0x7f) % CHANGES)) {
    case CHANGE_MARK: change_mark(in, db, fit); return;
    case CHANGE_DB_BYTES: change_db_bytes(in, db); return;
    case CHANGE_DB_LENGTH: change_length(in, db); return;
    case CHANGE_SIDECAR_LENGTH: change_length(in, sidecar); return;
    case CHANGE_SCRATCH: change_scratch(in, db); return;
    case CHANGE_NO_SIDECAR: image_free(sidecar); return;
    default: break;
    }
    if (!whole)
        return;
    switch ((enum change)((what & 0x7f) % CHANGES)) {
    case CHANGE_RING_BYTES: change_ring_bytes(in, &s); break;
    case CHANGE_RECORD: change_record(in, &s, fit); break;
    case CHANGE_DESCRIPTOR: change_descriptor(in, &s, fit); break;
    case CHANGE_CURSOR: change_cursor(in, &s, fit); break;
    case CHANGE_SEAL: change_seal(in, &s, fit); break;
    case CHANGE_ROOT: change_root(in, &s, fit); break;
    case CHANGE_NEW_RECORD: change_new_record(in, &s, db, fit); break;
    case CHANGE_COPY_RING: change_copy_ring(in, &s); break;
    default: break;
    }
}

bool recovery_change(struct input *in, struct image *db, struct image *sidecar)
{
    unsigned n = 0;
    for (; n < CHANGES_MAX && input_left(in); n++)
        change_one(in, db, sidecar);
    return n > 0;
}
