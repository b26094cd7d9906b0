/* lines.h: pages as sets of cache lines. */
#ifndef DAX_LINES_H
#define DAX_LINES_H

#include <stdint.h>
#include <string.h>

#include "engine/guard.h"
#include "engine/limits.h"
#include "engine/persist.h"

/* Bitmap of the lines in which two pages differ. */
uint64_t lines_diff(const uint8_t *a, const uint8_t *b);

/* The same, and the page a is copied to the plain memory at `to`, both in one pass. `to` overlaps
 * neither. */
uint64_t lines_copy_diff(uint8_t *to, const uint8_t *a, const uint8_t *b);

/* For tests: both do without the processor's vector instructions. Set before threads begin. */
extern bool lines_without_vectors;

/* Store the named lines of page `from` to the same places of page `to`, neighbours together. */
static inline void lines_store(struct persist *p, uint8_t *to, const uint8_t *from, uint64_t bitmap)
{
    while (bitmap) {
        unsigned first = (unsigned)__builtin_ctzll(bitmap);
        uint64_t rest = bitmap >> first;
        unsigned n = rest == UINT64_MAX ? 64 : (unsigned)__builtin_ctzll(~rest);
        persist_store(p, to + first * DAX_LINE_BYTES, from + first * DAX_LINE_BYTES,
                      (size_t)n * DAX_LINE_BYTES);
        bitmap &= n == 64 ? 0 : ~(((UINT64_C(1) << n) - 1) << first);
    }
}

/* As lines_store for a page that is given as its packed lines (a log record). */
static inline void lines_unpack(struct persist *p, uint8_t *to, const uint8_t *packed,
                                uint64_t bitmap)
{
    for (; bitmap; bitmap &= bitmap - 1, packed += DAX_LINE_BYTES)
        persist_store(p, to + (unsigned)__builtin_ctzll(bitmap) * DAX_LINE_BYTES, packed,
                      DAX_LINE_BYTES);
}

/* The same into plain memory. */
static inline void lines_unpack_plain(uint8_t *to, const uint8_t *packed, uint64_t bitmap)
{
    for (; bitmap; bitmap &= bitmap - 1, packed += DAX_LINE_BYTES)
        memcpy(to + (unsigned)__builtin_ctzll(bitmap) * DAX_LINE_BYTES, packed, DAX_LINE_BYTES);
}

/* The same within a guard: false where a fault has ended it, and part of it may have been done. update:
 * store the lines in which `to` differs from the page `from`. store_cached: base, through the cache, to
 * be flushed later (writeback.h). */
DAX_CHECKED bool lines_try_diff(const uint8_t *a, const uint8_t *b, uint64_t *bitmap_out,
                                struct guard_fault *fault);
DAX_CHECKED bool lines_try_copy_diff(uint8_t *to, const uint8_t *a, const uint8_t *b,
                                     uint64_t *bitmap_out, struct guard_fault *fault);
DAX_CHECKED bool lines_try_store_cached(struct persist *p, uint8_t *to, const uint8_t *from,
                                        uint64_t bitmap, struct guard_fault *fault);
DAX_CHECKED bool lines_try_flush(struct persist *p, uint8_t *page, uint64_t bitmap,
                                 struct guard_fault *fault);
DAX_CHECKED bool lines_try_update(struct persist *p, uint8_t *to, const uint8_t *from,
                                  struct guard_fault *fault);
DAX_CHECKED bool lines_try_unpack(struct persist *p, uint8_t *to, const uint8_t *packed,
                                  uint64_t bitmap, struct guard_fault *fault);

#endif
