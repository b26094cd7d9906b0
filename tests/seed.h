/* seed.h: the seed of a randomized test: DAX_TEST_SEED, or always the same one.
 *
 * A run of ./test is the same run every time, so that what fails in it is what was changed.
 * `./test --long` draws a seed and hands it to every test. Whoever takes it prints it.
 */
#ifndef TESTS_SEED_H
#define TESTS_SEED_H

#include <stdint.h>
#include <stdlib.h>

#define TEST_SEED_DEFAULT 1

static inline uint64_t test_seed_given(void)
{
    const char *text = getenv("DAX_TEST_SEED");
    return text && *text ? strtoull(text, NULL, 10) : TEST_SEED_DEFAULT;
}

#endif
