/* damage_root.c: what each byte of the page around the root does when it is damaged.
 *
 * In this page libpmemobj has its own structures, which it trusts: some bytes make it crash. That is
 * outside of what daxlite promises, so it is measured: one line for each kind of outcome, with the
 * stretches of bytes that lead to it. Never wrong data; and what daxlite owns is refused or survived.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/fault/damage.h"

enum outcome {
    OUT_NONE,
    OUT_NEWEST,
    OUT_REFUSED,
    OUT_CRASH,
    OUT_HANG,
    OUTCOMES
};

static const char *const outcome_name[OUTCOMES] = {
    [OUT_NEWEST] = "no effect",
    [OUT_REFUSED] = "refused with an error",
    [OUT_CRASH] = "libpmemobj crashes",
    [OUT_HANG] = "libpmemobj hangs",
};

static struct measure {
    size_t at; /* the byte being tried */
    uint8_t outcome[DAX_PAGE_BYTES];
} * measure;

struct job {
    struct pair *pair;
    uint8_t *page;  /* in the mapped pool */
    uint8_t *spare; /* the whole pool */
    size_t step;
};

static int child_measure(void *arg)
{
    struct job *j = arg;
    pair_keep_pool_open(false);
    pair_keep(j->pair);
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    for (; measure->at < DAX_PAGE_BYTES; measure->at += j->step) {
        struct dax_err err;
        int state;
        size_t i = measure->at;
        memcpy(j->pair->pool, j->spare, j->pair->pool_bytes);
        test_context("byte %zu of the page around the root", i);
        j->page[i] ^= (uint8_t)(1u << i % 8);
        alarm(20);
        enum verdict v = pair_try(j->pair, &state, &err);
        alarm(0);
        CHECK(v == VERDICT_NEWEST || v == VERDICT_REFUSED, "%s: %s", verdict_name(v), err.text);
        measure->outcome[i] = v == VERDICT_NEWEST ? OUT_NEWEST : OUT_REFUSED;
    }
    return 0;
}

/* "0-15 64 ..." of the bytes with that outcome; tried bytes stand for those up to the next one. */
static void say_stretches(enum outcome o, size_t step)
{
    char text[2048] = "";
    size_t used = 0, bytes = 0;
    for (size_t i = 0; i < DAX_PAGE_BYTES; i += step) {
        if (measure->outcome[i] != o)
            continue;
        size_t end = i;
        while (end + step < DAX_PAGE_BYTES && measure->outcome[end + step] == o)
            end += step;
        bytes += (end - i) / step + 1;
        if (used < sizeof text - 32)
            used +=
                (size_t)snprintf(text + used, sizeof text - used, " %zu-%zu", i, end + step - 1);
        i = end;
    }
    if (bytes)
        test_say("page around the root, %s: %zu of %zu bytes tried:%s", outcome_name[o], bytes,
                 DAX_PAGE_BYTES / step, text);
}

void damage_root_page(struct pair *p, size_t step)
{
    measure =
        mmap(NULL, sizeof *measure, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(measure != MAP_FAILED, "mmap");
    size_t root_at = (size_t)((uint8_t *)p->root - p->pool);
    size_t page_at = root_at / DAX_PAGE_BYTES * DAX_PAGE_BYTES;
    struct job j = {.pair = p, .page = p->pool + page_at, .step = step};
    j.spare = malloc(p->pool_bytes);
    CHECK(j.spare, "malloc");
    memcpy(j.spare, p->pool, p->pool_bytes);
    while (measure->at < DAX_PAGE_BYTES) {
        int rc = child_wait(child_start(child_measure, &j));
        if (rc == 0)
            break;
        CHECK(rc < 0, "byte %zu: the child ended with %d", measure->at, rc);
        measure->outcome[measure->at] = rc == -SIGALRM ? OUT_HANG : OUT_CRASH;
        /* What daxlite owns makes nobody crash. */
        size_t at = page_at + measure->at;
        CHECK(at < root_at || at >= root_at + sizeof *p->root, "a crash by byte %zu of the root",
              at - root_at);
        measure->at += step;
    }
    memcpy(p->pool, j.spare, p->pool_bytes);
    test_say("page around the root: the root is at %zu, libpmemobj %s", root_at - page_at,
             "owns the rest");
    for (int o = OUT_NEWEST; o < OUTCOMES; o++)
        say_stretches(o, step);
    free(j.spare);
}
