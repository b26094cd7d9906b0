/* dbformat.c: pages of SQLite's file format, read without trusting a byte of them.
 */
#include "vfs/dbformat.h"

#include <stdlib.h>
#include <string.h>

#define TYPE_INTERIOR_INDEX 0x02u
#define TYPE_INTERIOR_TABLE 0x05u
#define TYPE_LEAF_INDEX 0x0au
#define TYPE_LEAF_TABLE 0x0du

unsigned dbformat_varint(const uint8_t *p, uint32_t room, uint64_t *value_out)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < 9 && i < room; i++) {
        if (i == 8) {
            *value_out = v << 8 | p[8];
            return 9;
        }
        v = v << 7 | (p[i] & 0x7fu);
        if (!(p[i] & 0x80u)) {
            *value_out = v;
            return i + 1;
        }
    }
    return 0;
}

/* --- the header ------------------------------------------------------------------------------- */

bool dbformat_header(const uint8_t *p, struct dbformat_header *out)
{
    static const char magic[16] = "SQLite format 3";
    uint32_t size = dbformat_u16(p + 16);
    if (size == 1)
        size = DBFORMAT_PAGE_MAX;
    if (memcmp(p, magic, sizeof magic) != 0 || size < DBFORMAT_PAGE_MIN || (size & (size - 1)) ||
        size - p[20] < 480)
        return false;
    out->page_size = size;
    out->usable = size - p[20];
    /* The page count is of the writer that counted the change counter last, or of nobody. */
    out->pages = memcmp(p + 24, p + 92, 4) == 0 ? dbformat_u32(p + 28) : 0;
    out->free_trunk = dbformat_u32(p + 32);
    out->free_pages = dbformat_u32(p + 36);
    out->pointer_map = dbformat_u32(p + 52) != 0;
    uint32_t encoding = dbformat_u32(p + 56);
    out->encoding = encoding == DBFORMAT_UTF16LE || encoding == DBFORMAT_UTF16BE
                        ? (enum dbformat_encoding)encoding
                        : DBFORMAT_UTF8;
    return true;
}

uint32_t dbformat_map_page(const struct dbformat_header *h, uint32_t page)
{
    uint32_t each = h->usable / 5 + 1;
    uint32_t map = (page - 2) / each * each + 2;
    return map == dbformat_lock_page(h->page_size) ? map + 1 : map;
}

/* --- b-tree pages ----------------------------------------------------------------------------- */

/* How much of a payload is on the page itself. */
static uint32_t dbformat_local(uint32_t usable, bool table, uint64_t payload)
{
    uint32_t most = table ? usable - 35 : (usable - 12) * 64 / 255 - 23;
    uint32_t least = (usable - 12) * 32 / 255 - 23;
    if (payload <= most)
        return (uint32_t)payload;
    uint32_t n = least + (uint32_t)((payload - least) % (usable - 4));
    return n <= most ? n : least;
}

bool dbformat_cell(const struct dbformat_header *h, const uint8_t *d, uint32_t at, bool leaf,
                   enum dbformat_kind kind, struct dbformat_ref *ref)
{
    bool table = kind == KIND_TABLE;
    uint32_t end = h->usable;
    uint64_t value;
    memset(ref, 0, sizeof *ref);
    if (!leaf) {
        if (end - at < 4)
            return false;
        ref->child = dbformat_u32(d + at);
        at += 4;
        if (table)
            return dbformat_varint(d + at, end - at, &value) != 0;
    }
    unsigned n = dbformat_varint(d + at, end - at, &ref->payload);
    at += n;
    if (n && table) {
        n = dbformat_varint(d + at, end - at, &value);
        at += n;
    }
    if (n == 0)
        return false;
    ref->local_at = at;
    ref->local_bytes = dbformat_local(h->usable, table, ref->payload);
    ref->overflow_bytes = ref->payload - ref->local_bytes;
    if (ref->local_bytes > end - at)
        return false;
    at += ref->local_bytes;
    if (ref->overflow_bytes) {
        if (end - at < 4)
            return false;
        ref->overflow = dbformat_u32(d + at);
    }
    return true;
}

bool dbformat_tree_page(const struct dbformat_header *h, uint32_t page, const uint8_t *d,
                        bool every, struct dbformat_tree_page *out)
{
    uint32_t at = page == 1 ? DBFORMAT_HEADER_BYTES : 0;
    uint8_t type = d[at];
    out->damaged = false;
    out->count = 0;
    out->leaf = type == TYPE_LEAF_INDEX || type == TYPE_LEAF_TABLE;
    if (!out->leaf && type != TYPE_INTERIOR_INDEX && type != TYPE_INTERIOR_TABLE)
        return false;
    out->kind = type == TYPE_LEAF_TABLE || type == TYPE_INTERIOR_TABLE ? KIND_TABLE : KIND_INDEX;
    uint32_t cells = dbformat_u16(d + at + 3);
    uint32_t pointers = at + (out->leaf ? 8 : 12);
    if (!out->leaf) {
        out->refs[0] = (struct dbformat_ref){.child = dbformat_u32(d + at + 8)};
        out->count = 1;
    }
    if (cells > (h->usable - pointers) / 6) {
        out->damaged = true;
        return true;
    }
    uint32_t content = pointers + 2 * cells;
    for (uint32_t i = 0; i < cells; i++) {
        uint32_t cell = dbformat_u16(d + pointers + 2 * i);
        struct dbformat_ref *ref = &out->refs[out->count];
        if (cell < content || cell >= h->usable ||
            !dbformat_cell(h, d, cell, out->leaf, out->kind, ref))
            out->damaged = true;
        else if (every || !out->leaf || ref->overflow_bytes)
            out->count++;
    }
    return true;
}

/* --- rows of sqlite_schema -------------------------------------------------------------------- */

static int64_t dbformat_integer(const uint8_t *p, unsigned bytes)
{
    uint64_t v = bytes && p[0] & 0x80u ? UINT64_MAX : 0;
    for (unsigned i = 0; i < bytes; i++)
        v = v << 8 | p[i];
    return (int64_t)v;
}

static double dbformat_real(const uint8_t *p)
{
    int64_t bits = dbformat_integer(p, 8);
    double real;
    memcpy(&real, &bits, sizeof real);
    return real;
}

static enum dbformat_storage dbformat_storage(uint64_t type)
{
    if (type >= 12)
        return type % 2 ? STORAGE_TEXT : STORAGE_BLOB;
    return type == 0 ? STORAGE_NULL : type == 7 ? STORAGE_REAL : STORAGE_INTEGER;
}

bool dbformat_record(const uint8_t *p, uint32_t have, struct dbformat_value *columns,
                     unsigned count)
{
    static const uint8_t integer_bytes[] = {0, 1, 2, 3, 4, 6, 8, 8, 0, 0};
    uint64_t header, type;
    unsigned n = dbformat_varint(p, have, &header);
    if (n == 0 || header > have || header < n)
        return false;
    uint64_t body = header;
    uint32_t at = n;
    memset(columns, 0, count * sizeof *columns);
    for (unsigned i = 0; i < count && at < header; i++) {
        n = dbformat_varint(p + at, (uint32_t)header - at, &type);
        if (n == 0)
            return false;
        at += n;
        uint64_t length = type >= 12 ? (type - 12) / 2 : type < 10 ? integer_bytes[type] : 0;
        uint64_t room = body < have ? have - body : 0;
        struct dbformat_value *v = &columns[i];
        v->whole = length <= room;
        v->length = (uint32_t)(v->whole ? length : room);
        v->storage = dbformat_storage(type);
        if (type != 0 && body <= have)
            v->bytes = p + body;
        if (type >= 1 && type <= 6 && v->whole)
            v->number = dbformat_integer(p + body, (unsigned)length);
        else if (type == 9)
            v->number = 1;
        else if (type == 7 && v->whole)
            v->real = dbformat_real(p + body);
        body = length <= UINT64_MAX - body ? body + length : UINT64_MAX;
    }
    return true;
}

/* c as UTF-8 at `to`; bytes stored. */
static unsigned dbformat_encode(uint32_t c, char *to)
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    unsigned more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
    to[0] = (char)(lead[more] | c >> 6 * more);
    for (unsigned i = 1; i <= more; i++)
        to[i] = (char)(0x80 | ((c >> 6 * (more - i)) & 0x3f));
    return more + 1;
}

char *dbformat_text(const struct dbformat_value *v, enum dbformat_encoding encoding)
{
    uint32_t length = v->bytes && v->storage == STORAGE_TEXT ? v->length : 0;
    /* UTF-16: two bytes become three at the most. */
    char *out = malloc((size_t)length * 3 / 2 + 4);
    if (!out)
        return NULL;
    if (encoding == DBFORMAT_UTF8) {
        if (length)
            memcpy(out, v->bytes, length);
        out[length] = '\0';
        return out;
    }
    size_t used = 0;
    unsigned low = encoding == DBFORMAT_UTF16LE ? 0 : 1;
    for (uint32_t i = 0; i + 1 < length; i += 2) {
        uint32_t c = v->bytes[i + low] | (uint32_t)v->bytes[i + 1 - low] << 8;
        if (c >= 0xd800 && c < 0xdc00 && i + 3 < length) {
            uint32_t next = v->bytes[i + 2 + low] | (uint32_t)v->bytes[i + 3 - low] << 8;
            if (next >= 0xdc00 && next < 0xe000) {
                c = 0x10000 + ((c - 0xd800) << 10) + (next - 0xdc00);
                i += 2;
            }
        }
        used += dbformat_encode(c >= 0xd800 && c < 0xe000 ? 0xfffd : c, out + used);
    }
    out[used] = '\0';
    return out;
}
