/* lines.c: which lines of a page differ, and the operations on lines where a page may not be readable:
 * each within a guard.
 *
 * Comparing is the largest single cost of a small transaction in the engine: two pages, 16 KiB of loads.
 * What SQLite writes is compared while it is copied, so that it is loaded once, 32 bytes at a time where
 * the processor has AVX2, which is asked at run time: the extension is built for every x86-64.
 */
#include "engine/lines.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

bool lines_without_vectors;

#define LINE_WORDS (DAX_LINE_BYTES / sizeof(uint64_t))

static_assert(DAX_PAGE_LINES == 64, "64 lines go through a word, the first ends in bit 0");

/* to NULL: compare only. Inlined into both callers. */
static inline uint64_t lines_pass(uint8_t *to, const uint8_t *a, const uint8_t *b)
{
    uint64_t bitmap = 0;
    for (unsigned i = 0; i < DAX_PAGE_LINES; i++) {
        uint64_t x[LINE_WORDS], y[LINE_WORDS], differ = 0;
        memcpy(x, a + i * DAX_LINE_BYTES, sizeof x);
        memcpy(y, b + i * DAX_LINE_BYTES, sizeof y);
        for (unsigned k = 0; k < LINE_WORDS; k++)
            differ |= x[k] ^ y[k];
        if (to)
            memcpy(to + i * DAX_LINE_BYTES, x, sizeof x);
        bitmap = bitmap >> 1 | (uint64_t)(differ != 0) << 63;
    }
    return bitmap;
}

#if defined(__x86_64__)
#define LINES_AVX2 __attribute__((target("avx2")))

LINES_AVX2 static inline uint64_t lines_pass_avx2(uint8_t *to, const uint8_t *a, const uint8_t *b)
{
    uint64_t bitmap = 0;
    for (unsigned i = 0; i < DAX_PAGE_LINES; i++) {
        const __m256i *x = (const __m256i *)(a + i * DAX_LINE_BYTES);
        const __m256i *y = (const __m256i *)(b + i * DAX_LINE_BYTES);
        __m256i x0 = _mm256_loadu_si256(x), x1 = _mm256_loadu_si256(x + 1);
        __m256i differ = _mm256_or_si256(_mm256_xor_si256(x0, _mm256_loadu_si256(y)),
                                         _mm256_xor_si256(x1, _mm256_loadu_si256(y + 1)));
        if (to) {
            _mm256_storeu_si256((__m256i *)(to + i * DAX_LINE_BYTES), x0);
            _mm256_storeu_si256((__m256i *)(to + i * DAX_LINE_BYTES) + 1, x1);
        }
        bitmap = bitmap >> 1 | (uint64_t)!_mm256_testz_si256(differ, differ) << 63;
    }
    return bitmap;
}

LINES_AVX2 static uint64_t lines_diff_avx2(const uint8_t *a, const uint8_t *b)
{
    return lines_pass_avx2(NULL, a, b);
}

LINES_AVX2 static uint64_t lines_copy_diff_avx2(uint8_t *to, const uint8_t *a, const uint8_t *b)
{
    return lines_pass_avx2(to, a, b);
}

static bool lines_have_avx2(void)
{
    return __builtin_cpu_supports("avx2") && !lines_without_vectors;
}
#endif

uint64_t lines_diff(const uint8_t *a, const uint8_t *b)
{
#if defined(__x86_64__)
    if (lines_have_avx2())
        return lines_diff_avx2(a, b);
#endif
    return lines_pass(NULL, a, b);
}

uint64_t lines_copy_diff(uint8_t *to, const uint8_t *a, const uint8_t *b)
{
#if defined(__x86_64__)
    if (lines_have_avx2())
        return lines_copy_diff_avx2(to, a, b);
#endif
    return lines_pass(to, a, b);
}

struct lines_call {
    struct persist *persist;
    uint8_t *to;
    const uint8_t *a, *b;
    uint64_t bitmap;
};

static void lines_call_diff(void *arg)
{
    struct lines_call *c = arg;
    c->bitmap = lines_diff(c->a, c->b);
}

bool lines_try_diff(const uint8_t *a, const uint8_t *b, uint64_t *bitmap_out,
                    struct guard_fault *fault)
{
    struct lines_call c = {.a = a, .b = b};
    if (!guard_call(lines_call_diff, &c, fault))
        return false;
    *bitmap_out = c.bitmap;
    return true;
}

static void lines_call_copy_diff(void *arg)
{
    struct lines_call *c = arg;
    c->bitmap = lines_copy_diff(c->to, c->a, c->b);
}

bool lines_try_copy_diff(uint8_t *to, const uint8_t *a, const uint8_t *b, uint64_t *bitmap_out,
                         struct guard_fault *fault)
{
    struct lines_call c = {.to = to, .a = a, .b = b};
    if (!guard_call(lines_call_copy_diff, &c, fault))
        return false;
    *bitmap_out = c.bitmap;
    return true;
}

static void lines_call_store_cached(void *arg)
{
    const struct lines_call *c = arg;
    for (uint64_t bitmap = c->bitmap; bitmap; bitmap &= bitmap - 1) {
        size_t at = (size_t)__builtin_ctzll(bitmap) * DAX_LINE_BYTES;
        persist_store_cached(c->persist, c->to + at, c->a + at, DAX_LINE_BYTES);
    }
}

bool lines_try_store_cached(struct persist *p, uint8_t *to, const uint8_t *from, uint64_t bitmap,
                            struct guard_fault *fault)
{
    struct lines_call c = {.persist = p, .to = to, .a = from, .bitmap = bitmap};
    return guard_call(lines_call_store_cached, &c, fault);
}

static void lines_call_flush(void *arg)
{
    const struct lines_call *c = arg;
    for (uint64_t bitmap = c->bitmap; bitmap; bitmap &= bitmap - 1)
        persist_flush(c->persist, c->to + (size_t)__builtin_ctzll(bitmap) * DAX_LINE_BYTES,
                      DAX_LINE_BYTES);
}

bool lines_try_flush(struct persist *p, uint8_t *page, uint64_t bitmap, struct guard_fault *fault)
{
    struct lines_call c = {.persist = p, .to = page, .bitmap = bitmap};
    return guard_call(lines_call_flush, &c, fault);
}

static void lines_call_update(void *arg)
{
    const struct lines_call *c = arg;
    lines_store(c->persist, c->to, c->a, lines_diff(c->to, c->a));
}

bool lines_try_update(struct persist *p, uint8_t *to, const uint8_t *from,
                      struct guard_fault *fault)
{
    struct lines_call c = {.persist = p, .to = to, .a = from};
    return guard_call(lines_call_update, &c, fault);
}

static void lines_call_unpack(void *arg)
{
    const struct lines_call *c = arg;
    /* A load that faults maps sixteen pages of a tmpfs, a store one: opening 100 MB with 8 MiB of log took 32
     * to 43 ms, and 50 without. (DAX is mapped by 2 MiB, and a store behind a load may fault once more.) */
    if (c->persist->mode == PERSIST_VOLATILE)
        (void)*(const volatile uint8_t *)c->to;
    lines_unpack(c->persist, c->to, c->a, c->bitmap);
}

bool lines_try_unpack(struct persist *p, uint8_t *to, const uint8_t *packed, uint64_t bitmap,
                      struct guard_fault *fault)
{
    struct lines_call c = {.persist = p, .to = to, .a = packed, .bitmap = bitmap};
    return guard_call(lines_call_unpack, &c, fault);
}
