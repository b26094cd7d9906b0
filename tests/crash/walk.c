/* walk.c: walks along a trace and makes crash images of what was not durable at each operation.
 *
 * The image holds what is durable. What is not is a list of items in the order of the stores, each
 * within one cell: the part of a file of which the rules say something.
 *
 *   cache-line rules  An item is what one store put into one line. A fence makes all of them certain,
 *                     pwritten ones and sizes excepted, which wait for an fsync. Of the others any
 *                     subset has arrived, of a line any of its 8-byte words: a line can be evicted
 *                     at any moment, and is not written as a whole.
 *   msync rules       An item is what one store put into one sector of 512 bytes. The kernel writes a
 *                     page back when it likes and a disk its sectors in any order, so each sector is
 *                     as it was at some moment: the first so many of its items. The last of them may
 *                     be torn at a word, the page having been copied while it was stored to. A write past
 *                     the page cache that is durable when it returns makes all of its blocks certain.
 *
 * An fsync makes all of its file certain, the size included. Sizes and names are journalled by the file
 * system: of each file's, and of the directory's, a first part has arrived. An extending pwrite's
 * bytes come with the size, as file systems write data before the size that covers it. Arrived items are put
 * into the image in the order of the stores, so a later one wins.
 *
 * States are made just before each operation that makes something certain or changes what recovery
 * must find. A store in between adds an item, and every subset without it comes up again there.
 *
 * A sample of the states is recovered once more while all of that is recorded, with one more
 * transaction after it, and the walk along this trace is of the second crash. In another sample a bit
 * of the newest record, or of a copy of the cursor, is turned over after the crash.
 */
#include "walk.h"

#include <string.h>
#include <time.h>

#include "arrive.h"
#include "check.h"

struct walk_context walk;

/* Open addressing; 0 is no key. */
struct seen {
    uint64_t *keys;
    size_t capacity, count;
};
static struct seen seen_images, seen_checks, seen_deep;

static bool seen_add(struct seen *s, uint64_t key)
{
    key += key == 0;
    if (s->count * 2 >= s->capacity) {
        struct seen old = *s;
        s->capacity = old.capacity ? old.capacity * 2 : 1 << 16;
        s->keys = calloc(s->capacity, sizeof *s->keys);
        hooks_must(s->keys, "no memory");
        s->count = 0;
        for (size_t i = 0; i < old.capacity; i++)
            if (old.keys[i])
                (void)seen_add(s, old.keys[i]);
        free(old.keys);
    }
    size_t i = key * UINT64_C(0x9E3779B97F4A7C15) >> 20 & (s->capacity - 1);
    for (; s->keys[i]; i = (i + 1) & (s->capacity - 1))
        if (s->keys[i] == key)
            return false;
    s->keys[i] = key;
    s->count++;
    return true;
}

void walk_reset(void)
{
    free(seen_checks.keys);
    seen_checks = (struct seen){0};
    walk.counts = (struct walk_counts){0};
    walk.violation[0] = walk.violation_where[0] = walk.violation_what[0] = 0;
}

/* --- one state -------------------------------------------------------------------------------------- */

/* Number of the operation before which the crash is. */
static size_t walk_number(const struct trace *t, size_t op)
{
    return op < t->count ? t->ops[op].number : t->count ? t->ops[t->count - 1].number + 1 : 0;
}

static void walk_report(struct arrive *a, const struct requirement *r, size_t op, size_t state,
                        unsigned depth, const char *what)
{
    char name[64], where[128];
    size_t n = sizeof walk.violation, at, number = walk_number(r->trace, op);
    const char *rules = hooks.rules == RULES_FENCE ? "fence" : "msync";
    const char *drop = hooks.drop >= 0 ? hooks_drop_name(hooks.drop) : "";
    const struct op *o = op < r->trace->count ? &r->trace->ops[op] : NULL;
    const struct walk_options *w = &walk.options;
    if (depth == 0) {
        snprintf(where, sizeof where, "%zu.%zu", number, state);
        snprintf(walk.violation_where, sizeof walk.violation_where, "%zu", number);
    } else {
        snprintf(where, sizeof where, "%zu.%zu/%zu.%zu", w->only_op[0], w->only_state[0], number,
                 state);
        snprintf(walk.violation_where, sizeof walk.violation_where, "%zu, then %zu of its recovery",
                 w->only_op[0], number);
    }
    snprintf(walk.violation_what, sizeof walk.violation_what, "%s", what);
    at = (size_t)snprintf(walk.violation, n,
                          "workload %s, %s rules, seed %llu%s%s: a crash before operation %s (%s)\n"
                          "  %s\n"
                          "  transactions acknowledged: %zu%s\n",
                          walk.workload, rules, (unsigned long long)w->seed,
                          *drop ? ", without " : "", drop, walk.violation_where,
                          o ? trace_op_name(o, name, sizeof name) : "the end", what, r->acked,
                          r->in_flight ? ", one more in flight" : "");
    if (at < n)
        at += arrive_describe(a, walk.violation + at, n - at);
    if (at < n)
        snprintf(walk.violation + at, n - at,
                 "  repeat: crash_explore --workload %s --rules %s --seed %llu --exhaustive %llu "
                 "--samples %llu%s%s --only %s\n",
                 walk.workload, rules, (unsigned long long)w->seed,
                 (unsigned long long)w->exhaustive, (unsigned long long)w->samples,
                 *drop ? " --drop " : "", drop, where);
}

static uint64_t walk_key(const struct requirement *r)
{
    return image_state() ^ (r->acked * 2 + r->in_flight + 1) * UINT64_C(0xA24BAED4963EE407);
}

/* Crashes during the recovery of the state that the image holds, and after one more transaction. */
static bool walk_deep(const struct requirement *r, size_t op, size_t state)
{
    struct trace t = {0};
    struct image_mark mark = image_mark();
    walk.counts.deep_runs++;
    bool good = check_record(r, &t);
    image_undo(&mark);
    if (good) {
        size_t only_op = walk.options.only_op[0], only_state = walk.options.only_state[0];
        walk.options.only_op[0] = walk_number(r->trace, op);
        walk.options.only_state[0] = state;
        good = walk_trace(&t, r);
        walk.options.only_op[0] = only_op;
        walk.options.only_state[0] = only_state;
    }
    trace_free(&t);
    return good;
}

static bool walk_every(uint64_t count, uint64_t every)
{
    return every && count % every == 0;
}

/* Check the state that the image holds, if it is a new one. */
static bool walk_check(struct arrive *a, const struct requirement *r, size_t op, size_t state,
                       unsigned depth)
{
    char what[512] = "";
    bool only = walk.options.only_op[depth] != SIZE_MAX;
    if (only && walk.options.only_state[depth] != state)
        return true;
    walk.counts.generated++;
    if (depth == 0)
        walk.counts.images += seen_add(&seen_images, image_state());
    else
        walk.counts.deep += seen_add(&seen_deep, image_state());
    if (!seen_add(&seen_checks, walk_key(r)) && !only)
        return true;
    uint64_t n = ++walk.counts.checks;
    bool whole = depth == 0 && walk_every(n, walk.options.slow_every);
    struct image_mark mark = image_mark();
    bool good =
        check_state(r, arrive_wants_all(a), whole || (only && depth == 0), what, sizeof what);
    image_undo(&mark);
    if (!good) {
        walk_report(a, r, op, state, depth, what);
        return false;
    }
    if ((only || walk_every(n, walk.options.damage_every)) && check_in_place() &&
        image.name[FILE_SIDE] == NAME_OWN) {
        walk.counts.damaged++;
        good = check_damage(r, what, sizeof what);
        image_undo(&mark);
        if (!good) {
            walk_report(a, r, op, state, depth, what);
            return false;
        }
    }
    bool deep = depth == 0 && check_in_place() &&
                (walk_every(n, walk.options.deep_every) || walk.options.only_op[1] != SIZE_MAX);
    return !deep || walk_deep(r, op, state);
}

/* --- the walk --------------------------------------------------------------------------------------- */

static void walk_progress(const struct trace *t, size_t op)
{
    static time_t last;
    time_t now = time(NULL);
    if (!walk.options.progress || now < last + 10)
        return;
    last = now;
    printf("  %s: operation %zu of %zu, %llu states, %llu after a second crash\n", walk.workload,
           op, t->count, (unsigned long long)walk.counts.images,
           (unsigned long long)walk.counts.deep);
    fflush(stdout);
}

/* All states just before operation op. */
static bool walk_point(struct arrive *a, const struct requirement *r, size_t op, unsigned depth)
{
    struct arrive_plan plan;
    struct walk_options *o = &walk.options;
    if (o->only_op[depth] != SIZE_MAX && o->only_op[depth] != walk_number(r->trace, op))
        return true;
    uint64_t exhaustive = depth ? 64 : o->exhaustive / o->part;
    uint64_t samples = depth ? 4 : (o->samples + o->part - 1) / o->part;
    arrive_plan(a, &plan, exhaustive, samples, o->seed * UINT64_C(0x9E3779B97F4A7C15) + op * 131);
    walk.counts.points++;
    for (size_t state = 0; arrive_next(a, &plan); state++) {
        struct image_mark mark = image_mark();
        arrive_apply(a);
        bool good = walk_check(a, r, op, state, depth);
        image_undo(&mark);
        if (!good)
            return false;
    }
    if (depth == 0)
        walk_progress(r->trace, op);
    return true;
}

static bool walk_is_point(enum op_kind kind)
{
    return kind >= OP_NAME;
}

/* What the operation changes of the requirement. */
static void walk_require(struct requirement *r, const struct op *op)
{
    if (op->kind == OP_BEGIN) {
        r->in_flight = true;
    } else if (op->kind == OP_ACK) {
        r->in_flight = false;
        r->acked++;
    } else if ((op->kind == OP_STORE || op->kind == OP_RECORD) && op->file == FILE_SIDE &&
               op->offset >= hooks.ring_from && op->offset < hooks.twin_from) {
        r->record = op->offset;
        r->record_len = op->len;
    }
}

bool walk_trace(const struct trace *t, const struct requirement *outer)
{
    unsigned depth = outer ? 1 : 0;
    struct arrive *a = arrive_begin(t);
    struct requirement r = {.trace = t, .outer = outer};
    if (outer) {
        r.record = outer->record;
        r.record_len = outer->record_len;
    }
    struct image_mark mark = image_mark();
    bool good = true, changed = true;
    uint64_t first = walk.counts.images;
    for (size_t op = 0; good && op <= t->count; op++) {
        bool end = op == t->count;
        if (changed && (end || walk_is_point(t->ops[op].kind))) {
            good = walk_point(a, &r, op, depth);
            changed = false;
        }
        if (end || (walk.options.states_max && depth == 0 &&
                    walk.counts.images - first >= walk.options.states_max))
            break;
        walk_require(&r, &t->ops[op]);
        arrive_op(a, op);
        changed = true;
    }
    image_undo(&mark);
    arrive_end(a);
    return good;
}
