/* sidecar_image.c: what a fuzz target knows of the sidecar's layout. */
#include "tests/fuzz/sidecar_image.h"

#include <stdlib.h>
#include <string.h>

#include "engine/hash.h"

static uint64_t slot_hash(const struct cursor_slot *c)
{
    return hash_bytes(c, offsetof(struct cursor_slot, hash));
}

/* The root lies at a multiple of a line, wherever libpmemobj put its object. */
static bool side_find_root(struct side *s)
{
    for (size_t i = 0; i < s->image->count; i++)
        for (unsigned at = 0; at < IMAGE_PAGE; at += DAX_LINE_BYTES)
            if (memcmp(s->image->pages[i].bytes + at, DAX_SIDECAR_MAGIC, 8) == 0) {
                s->root_at = s->image->pages[i].number * IMAGE_PAGE + at;
                return true;
            }
    return false;
}

static void side_find_records(struct side *s)
{
    const struct cursor_slot *c = &s->root.cursor[s->newest];
    s->record_count = 0;
    s->end = c->lsn;
    s->txid = c->txid;
    while (s->record_count < SIDE_RECORDS_MAX) {
        struct record_header h;
        side_read(s, &h, sizeof h, s->end);
        if (h.lsn != s->end || h.salt != c->salt || h.length_lines == 0 ||
            (uint64_t)h.length_lines * DAX_LINE_BYTES > s->root.ring_bytes)
            return;
        s->records[s->record_count++] = s->end;
        s->end += (uint64_t)h.length_lines * DAX_LINE_BYTES;
        s->txid = h.txid;
    }
}

bool side_open(struct side *s, struct image *image)
{
    *s = (struct side){.image = image};
    if (!side_find_root(s))
        return false;
    image_read(image, &s->root, sizeof s->root, s->root_at);
    if (s->root.ring_bytes == 0 || s->root.ring_bytes > image->size ||
        s->root.ring_offset > image->size || s->root.twin_offset > image->size)
        return false;
    struct cursor_slot twin[2];
    image_read(image, twin, sizeof twin, s->root.twin_offset);
    for (unsigned i = 0; i < 2; i++)
        if (twin[i].hash == slot_hash(&twin[i]) && twin[i].seq > s->root.cursor[i].seq)
            s->root.cursor[i] = twin[i];
    const struct cursor_slot *c = s->root.cursor;
    s->newest = c[1].hash == slot_hash(&c[1]) && c[1].seq > c[0].seq;
    side_find_records(s);
    return true;
}

void side_fit_root(struct image *image)
{
    struct side s = {.image = image};
    if (!side_find_root(&s))
        return;
    image_read(image, &s.root, sizeof s.root, s.root_at);
    side_store_root(&s, true);
}

void side_store_root(struct side *s, bool fit)
{
    if (fit)
        s->root.hash = hash_bytes(&s->root, offsetof(struct sidecar_root, hash));
    image_write(s->image, &s->root, offsetof(struct sidecar_root, cursor), s->root_at);
}

void side_store_cursor(struct side *s, unsigned slot, struct cursor_slot *c, bool fit,
                       unsigned copies)
{
    if (fit)
        c->hash = slot_hash(c);
    s->root.cursor[slot] = *c;
    if (copies & 1)
        image_write(s->image, c, sizeof *c,
                    s->root_at + offsetof(struct sidecar_root, cursor) + slot * sizeof *c);
    if (copies & 2)
        image_write(s->image, c, sizeof *c,
                    s->root.twin_offset + offsetof(struct sidecar_twin, cursor) + slot * sizeof *c);
}

static uint64_t side_seal_at(const struct side *s, unsigned line)
{
    return s->root.twin_offset + offsetof(struct sidecar_twin, seal) +
           line % DAX_SEALS * sizeof(struct seal);
}

void side_read_seal(const struct side *s, unsigned line, struct seal *out)
{
    image_read(s->image, out, sizeof *out, side_seal_at(s, line));
}

void side_store_seal(struct side *s, unsigned line, struct seal *seal, bool fit)
{
    if (fit)
        seal->hash = hash_bytes(seal, offsetof(struct seal, hash));
    image_write(s->image, seal, sizeof *seal, side_seal_at(s, line));
}

void side_read(const struct side *s, void *to, size_t len, uint64_t lsn)
{
    uint64_t place = lsn % s->root.ring_bytes;
    size_t first = s->root.ring_bytes - place < len ? (size_t)(s->root.ring_bytes - place) : len;
    image_read(s->image, to, first, s->root.ring_offset + place);
    if (first < len)
        image_read(s->image, (uint8_t *)to + first, len - first, s->root.ring_offset);
}

void side_write(struct side *s, const void *from, size_t len, uint64_t lsn)
{
    uint64_t place = lsn % s->root.ring_bytes;
    size_t first = s->root.ring_bytes - place < len ? (size_t)(s->root.ring_bytes - place) : len;
    image_write(s->image, from, first, s->root.ring_offset + place);
    if (first < len)
        image_write(s->image, (const uint8_t *)from + first, len - first, s->root.ring_offset);
}

void side_fit_record(struct side *s, uint64_t lsn)
{
    struct record_header h;
    side_read(s, &h, sizeof h, lsn);
    uint64_t bytes = (uint64_t)h.length_lines * DAX_LINE_BYTES;
    if (bytes == 0 || bytes > s->root.ring_bytes)
        return;
    uint8_t *b = malloc(bytes);
    side_read(s, b, bytes, lsn);
    uint64_t hash = hash_bytes(b + sizeof h.hash, bytes - sizeof h.hash);
    side_write(s, &hash, sizeof hash, lsn);
    free(b);
}

bool side_same(const struct image *like, const struct image *a, const struct image *b)
{
    struct side s;
    uint8_t x[DAX_PAGE_BYTES], y[DAX_PAGE_BYTES];
    struct image whole = *like; /* only read */
    if (!side_open(&s, &whole))
        return false;
    image_read(a, x, sizeof s.root, s.root_at);
    image_read(b, y, sizeof s.root, s.root_at);
    bool same = memcmp(x, y, sizeof s.root) == 0;
    uint64_t end = s.root.ring_offset + s.root.ring_bytes + sizeof(struct sidecar_twin);
    for (uint64_t at = s.root.ring_offset; same && at < end; at += sizeof x) {
        image_read(a, x, sizeof x, at);
        image_read(b, y, sizeof y, at);
        same = memcmp(x, y, sizeof x) == 0;
    }
    return same;
}

bool side_names(const struct image *image, uint64_t nonce)
{
    static_assert(sizeof(struct cursor_slot) == DAX_LINE_BYTES, "a slot is a line");
    for (size_t i = 0; i < image->count; i++)
        for (unsigned at = 0; at < IMAGE_PAGE; at += DAX_LINE_BYTES) {
            struct cursor_slot c;
            memcpy(&c, image->pages[i].bytes + at, sizeof c);
            if (c.seq != 0 && c.nonce == nonce && c.hash == slot_hash(&c))
                return true;
        }
    return false;
}
