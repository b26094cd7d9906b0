/* fuzz.h: what the fuzz targets share: input bytes, a directory, the verdict, the two ways to run.
 *
 * A target is one file with fuzz_start, fuzz_one and fuzz_seeds. It becomes two programs:
 *   fuzz_NAME         replay.c's main over files and directories: the corpus as a regression test, with
 *                     any compiler
 *   fuzz_NAME_live    the same with libFuzzer's main (clang, preset `fuzz`): looks for new inputs
 *
 * fuzz_one is a function of its input alone. A property that does not hold ends the process (abort),
 * after a line that says which; the input is what libFuzzer or replay names.
 *
 * Environment: DAX_TEST_DIR, where the target makes its own directory (default /dev/shm);
 * DAX_FUZZ_TRACE=1, each step of an input is printed.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/rc.h"

/* --- what a target defines ------------------------------------------------------------------------ */

/* Once, before the first input. */
void fuzz_start(void);

/* One input. Leaves nothing behind: no file, descriptor, mapping or memory. */
void fuzz_one(const uint8_t *data, size_t bytes);

/* Hand out the target's seeds: inputs from which a search starts well. */
typedef void (*fuzz_seed_fn)(const char *name, const void *data, size_t bytes);
void fuzz_seeds(fuzz_seed_fn seed);

/* --- verdict -------------------------------------------------------------------------------------- */

__attribute__((noreturn, format(printf, 3, 4))) void fuzz_fail(const char *file, int line,
                                                               const char *fmt, ...);

#define FUZZ_CHECK(cond, ...)                                                                      \
    do {                                                                                           \
        if (!(cond))                                                                               \
            fuzz_fail(__FILE__, __LINE__, __VA_ARGS__);                                            \
    } while (0)

/* A failure explains itself: its code is the call's, and there is a text. */
void fuzz_check_error(dax_rc rc, const struct dax_err *err, const char *call);

/* Printed with DAX_FUZZ_TRACE. */
__attribute__((format(printf, 1, 2))) void fuzz_trace(const char *fmt, ...);
bool fuzz_tracing(void);

/* --- directory ------------------------------------------------------------------------------------ */

/* The target's own directory; made at the start, removed when the process ends. */
const char *fuzz_dir(void);

/* dir/name, written to out. */
#define FUZZ_PATH_BYTES 320
void fuzz_path(char out[FUZZ_PATH_BYTES], const char *name);

/* --- input ---------------------------------------------------------------------------------------- */

/* Bytes that are taken one after the other; zeros when they are used up. */
struct input {
    const uint8_t *at;
    const uint8_t *end;
};

static inline size_t input_left(const struct input *in)
{
    return (size_t)(in->end - in->at);
}

static inline uint64_t input_bytes(struct input *in, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes && in->at < in->end; i++)
        v |= (uint64_t)*in->at++ << (8 * i);
    return v;
}

static inline uint8_t input_u8(struct input *in)
{
    return (uint8_t)input_bytes(in, 1);
}

static inline uint16_t input_u16(struct input *in)
{
    return (uint16_t)input_bytes(in, 2);
}

static inline uint32_t input_u32(struct input *in)
{
    return (uint32_t)input_bytes(in, 4);
}

static inline uint64_t input_u64(struct input *in)
{
    return input_bytes(in, 8);
}

/* 0 .. below - 1. */
static inline uint32_t input_below(struct input *in, uint32_t below)
{
    return below <= 256 ? input_u8(in) % below : input_u16(in) % below;
}

/* For seeds: bytes put together. */
struct seed {
    uint8_t data[4096];
    size_t bytes;
};

static inline void seed_put(struct seed *s, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes && s->bytes < sizeof s->data; i++)
        s->data[s->bytes++] = (uint8_t)(v >> (8 * i));
}

#endif
