/* hash.c: the one place that compiles xxhash. */
#include "engine/hash.h"

#include <assert.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static_assert(sizeof(XXH3_state_t) <= sizeof(struct hash_stream), "state fits");

uint64_t hash_bytes(const void *data, size_t len)
{
    return XXH3_64bits(data, len);
}

void hash_begin(struct hash_stream *h)
{
    XXH3_64bits_reset((XXH3_state_t *)h);
}

void hash_add(struct hash_stream *h, const void *data, size_t len)
{
    XXH3_64bits_update((XXH3_state_t *)h, data, len);
}

uint64_t hash_end(const struct hash_stream *h)
{
    return XXH3_64bits_digest((const XXH3_state_t *)h);
}
