/* engine_model.c: the database as an array of bytes. */
#include "tests/fuzz/engine_model.h"

#include <stdlib.h>
#include <string.h>

struct state *state_new(const struct state *from)
{
    struct state *s = malloc(sizeof *s);
    *s = (struct state){.refs = 1, .bytes = calloc(1, BYTES)};
    if (from) {
        s->size = from->size;
        memcpy(s->bytes, from->bytes, from->size);
    }
    return s;
}

struct state *state_ref(struct state *s)
{
    s->refs++;
    return s;
}

void state_drop(struct state **s)
{
    if (*s && --(*s)->refs == 0) {
        free((*s)->bytes);
        free(*s);
    }
    *s = NULL;
}

void state_normalize(struct state *s, uint64_t old_size)
{
    if (s->size > DAX_HEADER_READ_VERSION)
        s->bytes[DAX_HEADER_WRITE_VERSION] = s->bytes[DAX_HEADER_READ_VERSION] = 1;
    if (s->size > DAX_HEADER_RESERVED)
        memset(s->bytes + DAX_HEADER_RESERVED, 0, DAX_HEADER_RESERVED_BYTES);
    if (s->size < old_size)
        memset(s->bytes + s->size, 0, old_size - s->size);
}

void state_compare(const struct state *want, const uint8_t *got, uint64_t offset, size_t len,
                   const char *who)
{
    if (len == 0 || memcmp(got, want->bytes + offset, len) == 0)
        return;
    for (size_t i = 0; i < len; i++)
        FUZZ_CHECK(
            got[i] == want->bytes[offset + i], "%s: byte %llu (page %llu) is %02x, should be %02x",
            who, (unsigned long long)(offset + i),
            (unsigned long long)((offset + i) / DAX_PAGE_BYTES), got[i], want->bytes[offset + i]);
}
