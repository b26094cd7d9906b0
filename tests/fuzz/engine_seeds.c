/* engine_seeds.c: sequences of engine calls that a search starts from. */
#include <stdio.h>

#include "engine/engine.h"
#include "tests/fuzz/engine_model.h"

static void seed_op(struct seed *s, unsigned user, enum op op)
{
    seed_put(s, user * OP_COUNT + op, 1);
}

static void seed_transaction(struct seed *s, unsigned user, uint64_t page, uint64_t pages)
{
    seed_op(s, user, OP_BEGIN_READ);
    seed_put(s, 0, 1);
    seed_op(s, user, OP_BEGIN_WRITE);
    seed_op(s, user, OP_WRITE_PAGES);
    seed_put(s, page, 1);
    seed_put(s, pages - 1, 1);
    seed_put(s, 100 + page, 1);
    seed_op(s, user, OP_COMMIT);
    seed_op(s, user, OP_END_READ);
}

/* The database shrinks, is checkpointed, and grows again, under a reader that sees all of it. */
static void seed_shrink(fuzz_seed_fn seed, unsigned mode)
{
    struct seed s = {0};
    char name[32];
    seed_put(&s, 0, 1);
    for (unsigned user = 0; user < 2; user++) {
        seed_op(&s, user, OP_OPEN);
        seed_put(&s, 1, 1);
    }
    seed_transaction(&s, 0, 0, 90);
    seed_op(&s, 1, OP_BEGIN_READ);
    seed_put(&s, 0, 1);
    seed_op(&s, 0, OP_BEGIN_READ);
    seed_put(&s, 0, 1);
    seed_op(&s, 0, OP_BEGIN_WRITE);
    seed_op(&s, 0, OP_TRUNCATE);
    seed_put(&s, 5 * DAX_PAGE_BYTES, 3);
    seed_put(&s, 1, 1);
    seed_op(&s, 0, OP_COMMIT);
    seed_op(&s, 0, OP_END_READ);
    seed_op(&s, 0, OP_CHECKPOINT);
    seed_put(&s, mode, 1);
    seed_put(&s, 0, 1);
    seed_op(&s, 1, OP_READ_ALL);
    seed_op(&s, 0, OP_CRASH);
    seed_transaction(&s, 0, 40, 30);
    seed_op(&s, 1, OP_READ_ALL);
    seed_op(&s, 1, OP_END_READ);
    seed_op(&s, 0, OP_CHECKPOINT);
    seed_put(&s, mode, 1);
    seed_put(&s, 0, 1);
    seed_op(&s, 0, OP_CRASH);
    snprintf(name, sizeof name, "shrink-%u", mode);
    seed(name, s.data, s.bytes);
}

void fuzz_seeds(fuzz_seed_fn seed)
{
    seed_shrink(seed, CHECKPOINT_PASSIVE);
    seed_shrink(seed, CHECKPOINT_TRUNCATE);
    for (unsigned options = 0; options < 4; options++) {
        struct seed s = {0};
        char name[32];
        seed_put(&s, options, 1);
        for (unsigned user = 0; user < 3; user++) {
            seed_op(&s, user, OP_OPEN);
            seed_put(&s, 1, 1);
        }
        seed_transaction(&s, 0, 0, 20);
        seed_op(&s, 1, OP_BEGIN_READ);
        seed_put(&s, 0, 1);
        seed_op(&s, 1, OP_PIN);
        seed_put(&s, 0, 1);
        seed_put(&s, 3, 2);
        seed_op(&s, 0, OP_ARM_CRASH);
        seed_put(&s, 10, 1);
        seed_transaction(&s, 0, 2, 5);
        seed_op(&s, 2, OP_CHECKPOINT);
        seed_put(&s, options, 1);
        seed_put(&s, 0, 1);
        seed_transaction(&s, 2, 10, 90); /* scratch */
        seed_op(&s, 1, OP_READ_ALL);
        seed_op(&s, 0, OP_CRASH);
        seed_op(&s, 1, OP_UNPIN);
        seed_put(&s, 0, 1);
        seed_op(&s, 1, OP_LOOK);
        snprintf(name, sizeof name, "four-%u", options);
        seed(name, s.data, s.bytes);
    }
}
