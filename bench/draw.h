/* draw.h: random draws of the benchmarks: the same sequence for every subject, from one seed. */
#ifndef BENCH_DRAW_H
#define BENCH_DRAW_H

#include <stddef.h>
#include <stdint.h>

/* One stream of draws. One thread. */
struct draw {
    uint64_t state;
};

/* Streams of one seed with different numbers do not meet. */
struct draw draw_stream(uint64_t seed, uint64_t number);

/* 64 random bits. */
uint64_t draw_bits(struct draw *d);

/* A whole number in [low, high]. */
int64_t draw_between(struct draw *d, int64_t low, int64_t high);

/* A number in [0, 1). */
double draw_unit(struct draw *d);

/* `length` characters of [0-9A-Za-z], and a terminating zero. */
void draw_text(struct draw *d, char *text_out, size_t length);

/* Ranks 0 .. count - 1, rank r with a probability proportional to 1 / (r + 1)^theta. */
struct draw_zipf {
    uint64_t count;
    double theta;
    double zeta; /* sum of 1 / i^theta for i in 1 .. count */
    double zeta_two;
    double alpha;
    double eta;
};

/* theta in (0, 1). Takes time proportional to `count`. */
void draw_zipf_make(struct draw_zipf *z, uint64_t count, double theta);

/* `count` more ranks; takes time proportional to `more`. */
void draw_zipf_grow(struct draw_zipf *z, uint64_t more);

uint64_t draw_zipf_rank(const struct draw_zipf *z, struct draw *d);

/* A permutation-like scatter of 64 bits: neighbouring numbers go far apart. */
uint64_t draw_scatter(uint64_t number);

#endif
