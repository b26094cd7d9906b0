/* hash.h: XXH3 (64 bit), the hash of everything on media.
 *
 * Algorithm and reference implementation: https://xxhash.com, used as a header-only library.
 */
#ifndef DAX_HASH_H
#define DAX_HASH_H

#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

uint64_t hash_bytes(const void *data, size_t len);

/* The same hash of data that comes in pieces. */
struct hash_stream {
    alignas(64) unsigned char opaque[576];
};
void hash_begin(struct hash_stream *h);
void hash_add(struct hash_stream *h, const void *data, size_t len);
uint64_t hash_end(const struct hash_stream *h);

#endif
