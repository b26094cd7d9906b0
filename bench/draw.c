/* draw.c: random draws of the benchmarks.
 *
 * Bits are splitmix64's. The zipfian draw is the one of Gray, Sundaresan, Englert, Baclawski and
 * Weinberger, "Quickly Generating Billion-Record Synthetic Databases", SIGMOD 1994, section 3.2: with
 * zeta(n) known, one uniform number gives one rank by inverting an approximation of the distribution
 * function that is exact for the first two ranks.
 */
#include "bench/draw.h"

#include "bench/common/clock.h"

#include <assert.h>
#include <math.h>

struct draw draw_stream(uint64_t seed, uint64_t number)
{
    return (struct draw){draw_scatter(seed) + draw_scatter(~number) * UINT64_C(0x9E3779B97F4A7C15)};
}

uint64_t draw_scatter(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

uint64_t draw_bits(struct draw *d)
{
    return random_next(&d->state);
}

int64_t draw_between(struct draw *d, int64_t low, int64_t high)
{
    assert(low <= high);
    /* The high half of a product instead of a remainder: no division, and as even. */
    uint64_t span = (uint64_t)(high - low) + 1;
    return low + (int64_t)(((unsigned __int128)draw_bits(d) * span) >> 64);
}

double draw_unit(struct draw *d)
{
    return (double)(draw_bits(d) >> 11) * 0x1p-53;
}

void draw_text(struct draw *d, char *text_out, size_t length)
{
    static const char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint64_t bits = 0;
    for (size_t i = 0; i < length; i++) {
        if (i % 8 == 0)
            bits = draw_bits(d);
        text_out[i] = letters[(bits & 0xFF) * (sizeof(letters) - 1) >> 8];
        bits >>= 8;
    }
    text_out[length] = '\0';
}

static void zipf_derive(struct draw_zipf *z)
{
    z->alpha = 1 / (1 - z->theta);
    z->eta = (1 - pow(2.0 / (double)z->count, 1 - z->theta)) / (1 - z->zeta_two / z->zeta);
}

void draw_zipf_make(struct draw_zipf *z, uint64_t count, double theta)
{
    assert(count > 2 && theta > 0 && theta < 1);
    *z = (struct draw_zipf){.theta = theta, .zeta_two = 1 + pow(0.5, theta)};
    draw_zipf_grow(z, count);
}

void draw_zipf_grow(struct draw_zipf *z, uint64_t more)
{
    for (uint64_t i = z->count + 1; i <= z->count + more; i++)
        z->zeta += 1 / pow((double)i, z->theta);
    z->count += more;
    zipf_derive(z);
}

uint64_t draw_zipf_rank(const struct draw_zipf *z, struct draw *d)
{
    double u = draw_unit(d);
    double uz = u * z->zeta;
    if (uz < 1)
        return 0;
    if (uz < z->zeta_two)
        return 1;
    uint64_t rank = (uint64_t)((double)z->count * pow(z->eta * u - z->eta + 1, z->alpha));
    return rank < z->count ? rank : z->count - 1;
}
