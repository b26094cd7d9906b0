/* lines.c: the operations on lines where a page may not be readable: each within a guard.
 */
#include "engine/lines.h"

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

static void lines_call_store(void *arg)
{
    const struct lines_call *c = arg;
    lines_store(c->persist, c->to, c->a, c->bitmap);
}

bool lines_try_store(struct persist *p, uint8_t *to, const uint8_t *from, uint64_t bitmap,
                     struct guard_fault *fault)
{
    struct lines_call c = {.persist = p, .to = to, .a = from, .bitmap = bitmap};
    return guard_call(lines_call_store, &c, fault);
}

static void lines_call_update(void *arg)
{
    const struct lines_call *c = arg;
    lines_store(c->persist, c->to, c->a, lines_diff(c->to, c->a));
}

bool lines_try_update(struct persist *p, uint8_t *to, const uint8_t *from, struct guard_fault *fault)
{
    struct lines_call c = {.persist = p, .to = to, .a = from};
    return guard_call(lines_call_update, &c, fault);
}

static void lines_call_unpack(void *arg)
{
    const struct lines_call *c = arg;
    lines_unpack(c->persist, c->to, c->a, c->bitmap);
}

bool lines_try_unpack(struct persist *p, uint8_t *to, const uint8_t *packed, uint64_t bitmap,
                      struct guard_fault *fault)
{
    struct lines_call c = {.persist = p, .to = to, .a = packed, .bitmap = bitmap};
    return guard_call(lines_call_unpack, &c, fault);
}
