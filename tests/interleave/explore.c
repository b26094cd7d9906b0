/* explore.c: takes a program through every order of its threads' steps.
 *
 * The search is depth first. At each step the whole state is saved (the arena's registered pieces and
 * the live part of the stacks), so going back is a copy. A state that was seen before is not entered
 * again: states are told apart by a 64-bit hash of all those bytes, registers included. All threads put
 * aside, asleep or ended, buffers empty, and not all ended: that is a deadlock, or a lost wake-up.
 *
 * With a bound, a schedule may take the processor from a thread that could go on only so many times.
 */
#include "tests/interleave/machine.h"

#include <stdio.h>

#define DEPTH_MAX 4000u
#define TRANSITIONS_MAX 40u

/* --- states that were seen ------------------------------------------------------------------------ */

struct seen {
    uint64_t key;
    double ways; /* interleavings from here on, 0: still being entered */
};
static struct seen *seen;
static size_t seen_mask, seen_count;

static void seen_clear(void)
{
    free(seen);
    seen_mask = (1u << 16) - 1;
    seen = calloc(seen_mask + 1, sizeof *seen);
    seen_count = 0;
    if (!seen)
        abort();
}

static struct seen *seen_find(uint64_t key)
{
    size_t i = key & seen_mask;
    while (seen[i].key && seen[i].key != key)
        i = (i + 1) & seen_mask;
    return &seen[i];
}

static void seen_add(uint64_t key)
{
    if (++seen_count > seen_mask / 2) {
        struct seen *old = seen;
        size_t n = seen_mask + 1;
        seen_mask = n * 2 - 1;
        seen = calloc(n * 2, sizeof *seen);
        if (!seen)
            abort();
        for (size_t i = 0; i < n; i++)
            if (old[i].key)
                *seen_find(old[i].key) = old[i];
        free(old);
    }
    seen_find(key)->key = key;
}

/* --- the search ------------------------------------------------------------------------------- */

/* A transition: kind * 64 + thread * 16 + which. */
enum transition {
    RUN,
    DRAIN,
    SHOW,
    TIME
};
static const char transition_letters[] = "rdst";

struct level {
    uint8_t count, next;
    uint8_t choice[TRANSITIONS_MAX];
    uint8_t last; /* thread that ran */
    uint8_t preemptions;
    uint64_t key;
    double ways;
};

static bool can_run(unsigned i)
{
    return machine->thread[i].state == READY && !machine->thread[i].stuck;
}

static void add_choice(struct level *l, enum transition kind, unsigned thread, unsigned which)
{
    if (l->count == TRANSITIONS_MAX)
        abort();
    l->choice[l->count++] = (uint8_t)(kind * 64 + thread * 16 + which);
}

static unsigned sleepers(uint32_t offset)
{
    unsigned n = 0;
    for (unsigned i = 0; i < machine->threads; i++)
        n += machine->thread[i].state == ASLEEP && machine->thread[i].op.offset == offset;
    return n;
}

static bool all_ended(void)
{
    for (unsigned i = 0; i < machine->threads; i++)
        if (machine->thread[i].state != ENDED)
            return false;
    return true;
}

/* What may happen next. */
static void choices(struct level *l, unsigned bound)
{
    l->count = l->next = 0;
    bool held = bound && l->last < machine->threads && can_run(l->last);
    for (unsigned n = 0; n < machine->threads; n++) {
        /* The one that runs goes on first. */
        unsigned i = (l->last < machine->threads ? l->last + n : n) % machine->threads;
        struct thread *t = &machine->thread[i];
        if (can_run(i) && (!held || i == l->last || l->preemptions < bound)) {
            unsigned variants = t->op.kind == IL_FUTEX_WAKE ? sleepers(t->op.offset) : 1;
            for (unsigned k = 0; k < (variants ? variants : 1); k++)
                add_choice(l, RUN, i, k);
        }
        for (uint32_t k = 0; k < t->stores; k++)
            if (machine_may_drain(t, k))
                add_choice(l, DRAIN, i, k);
        for (uint32_t k = 0; k < t->lines; k++)
            add_choice(l, SHOW, i, k);
        if ((t->state == ASLEEP || t->woken) && machine->timeouts)
            add_choice(l, TIME, i, 0);
    }
}

static void take(uint8_t choice)
{
    unsigned i = choice / 16 % 4, which = choice % 16;
    struct thread *t = &machine->thread[i];
    switch ((enum transition)(choice / 64)) {
    case RUN:
        t->woken = 0;
        if (machine_perform(i, which))
            machine_resume(i);
        break;
    case DRAIN:
        if (machine_loud)
            printf("  T%u  %-28s the buffered store %s = 0x%llx becomes visible\n", i, "",
                   arena_name(t->store[which].offset), (unsigned long long)t->store[which].value);
        machine_drain_one(t, which);
        break;
    case SHOW:
        if (machine_loud)
            printf("  T%u  %-28s a line of %s becomes visible\n", i, "",
                   arena_name((uint32_t)(t->line[which].at - arena)));
        machine_show(t, which);
        break;
    case TIME:
        if (machine_loud)
            printf("  T%u  %-28s its time is over: awake\n", i, "");
        machine->timeouts--;
        t->time += 3600;
        t->state = READY;
        t->op.kind = IL_POINT;
        break;
    }
}

static void start(const struct il_program *p)
{
    machine_clear();
    machine_program = p;
    p->setup();
    state_forget();
    machine->timeouts = p->timeouts;
    while (machine->threads < IL_THREADS && p->thread[machine->threads])
        machine_start_thread(machine->threads++);
}

static char *schedule_text(const struct level *levels, unsigned depth)
{
    size_t room = depth * 12 + 16, at = 0;
    for (unsigned k = 0; k < ARENA_BYTES / 4; k++)
        room += machine_knows(k) ? 8 : 0;
    char *text = malloc(room);
    if (!text)
        abort();
    text[0] = 0;
    for (unsigned k = 0; k < ARENA_BYTES / 4; k++)
        if (machine_knows(k))
            at += (size_t)snprintf(text + at, room - at, "%s%u", at ? "," : "", k);
    at += (size_t)snprintf(text + at, room - at, ":");
    for (unsigned d = 0; d < depth;) {
        uint8_t c = levels[d].choice[levels[d].next - 1];
        unsigned n = 1;
        while (d + n < depth && levels[d + n].choice[levels[d + n].next - 1] == c)
            n++;
        at += (size_t)snprintf(text + at, room - at, "%s%c%u", at ? " " : "",
                               transition_letters[c / 64], c / 16 % 4);
        if (c % 16)
            at += (size_t)snprintf(text + at, room - at, ".%u", c % 16u);
        if (n > 1)
            at += (size_t)snprintf(text + at, room - at, "*%u", n);
        d += n;
    }
    return text;
}

/* The state that was just reached is the end of something: a violation, a deadlock, or of all. */
static bool is_end(const struct level *l, struct il_result *r)
{
    if (!machine_violated && all_ended()) {
        for (unsigned i = 0; i < machine->threads; i++) {
            struct thread *t = &machine->thread[i];
            machine_drain(t);
            while (t->lines)
                machine_show(t, 0);
        }
        machine_program->finish();
        r->ends++;
        return true;
    }
    if (!machine_violated && l->count == 0) {
        char who[128] = "";
        size_t at = 0;
        for (unsigned i = 0; i < machine->threads; i++)
            if (machine->thread[i].state != ENDED)
                at +=
                    (size_t)snprintf(who + at, sizeof who - at, " T%u %s %s;", i,
                                     machine->thread[i].state == ASLEEP ? "sleeps on" : "waits for",
                                     arena_name(machine->thread[i].op.offset));
        il_violation("nobody can go on:%s", who);
    }
    return machine_violated;
}

static struct il_result search(const struct il_program *p, unsigned bound, uint64_t max_states)
{
    static struct level levels[DEPTH_MAX + 1];
    struct il_result r = {.complete = true};
    start(p);
    seen_clear();
    unsigned depth = 0;
    levels[0] = (struct level){.last = IL_THREADS};
    choices(&levels[0], bound);
    state_save(0);
    for (;;) {
        struct level *l = &levels[depth];
        if (l->next == l->count) {
            if (l->key)
                seen_find(l->key)->ways = l->ways;
            if (depth == 0) {
                r.interleavings = l->ways;
                break;
            }
            levels[--depth].ways += l->ways;
            continue;
        }
        if (l->next > 0)
            state_load(depth);
        uint8_t c = l->choice[l->next++];
        take(c);
        r.steps++;
        if (machine_start_again)
            break;
        struct level *n = &levels[depth + 1];
        *n = (struct level){.last = l->last, .preemptions = l->preemptions};
        if (c / 64 == RUN) {
            n->last = c / 16 % 4;
            if (bound && l->last < machine->threads && l->last != n->last)
                for (unsigned k = 0; k < l->count; k++) /* could it have gone on? */
                    if (l->choice[k] / 16 == (unsigned)(RUN * 4 + l->last)) {
                        n->preemptions++;
                        break;
                    }
        }
        choices(n, bound);
        if (is_end(n, &r)) {
            l->ways += 1;
            if (machine_violated) {
                r.violated = true;
                snprintf(r.text, sizeof r.text, "%s", machine_violation);
                r.schedule = schedule_text(levels, depth + 1);
                break;
            }
            continue;
        }
        n->key = state_hash(bound ? (uint64_t)n->last * 256 + n->preemptions + 1 : 0);
        struct seen *s = seen_find(n->key);
        if (s->key) {
            l->ways += s->ways;
            continue;
        }
        if (seen_count >= max_states) {
            r.complete = false;
            break;
        }
        seen_add(n->key);
        if (++depth > r.depth)
            r.depth = depth;
        if (depth == DEPTH_MAX) {
            il_violation("no end after %u steps", DEPTH_MAX);
            r.violated = true;
            snprintf(r.text, sizeof r.text, "%s", machine_violation);
            r.schedule = schedule_text(levels, depth);
            break;
        }
        if (n->count > 1)
            state_save(depth);
    }
    r.states = seen_count;
    return r;
}

void il_forget(void)
{
    machine_forget();
}

struct il_result il_explore(const struct il_program *p, unsigned preemptions, uint64_t max_states)
{
    struct il_result r;
    do {
        machine_start_again = false;
        r = search(p, preemptions, max_states);
        if (machine_start_again && r.schedule) {
            free(r.schedule);
            r.schedule = NULL;
        }
    } while (machine_start_again);
    return r;
}

/* A schedule counts steps, so the same addresses must be known as shared: its head lists them. */
static const char *learn(const char *schedule)
{
    unsigned k;
    int used;
    il_forget();
    while (sscanf(schedule, "%u%n", &k, &used) == 1 && k < ARENA_BYTES / 4) {
        machine_learn(k);
        schedule += used + (schedule[used] == ',');
    }
    return *schedule == ':' ? schedule + 1 : schedule;
}

struct il_result il_replay(const struct il_program *p, const char *schedule)
{
    struct il_result r = {.complete = true};
    schedule = learn(schedule);
    start(p);
    machine_loud = true;
    const char *at = schedule;
    struct level l = {.last = IL_THREADS};
    while (*at && !machine_violated) {
        char letter;
        unsigned thread, which = 0, times = 1;
        int used = 0;
        if (sscanf(at, " %c%u%n", &letter, &thread, &used) != 2 || thread >= IL_THREADS ||
            !strchr(transition_letters, letter))
            break;
        at += used;
        if (*at == '.' && sscanf(at, ".%u%n", &which, &used) == 1)
            at += used;
        if (*at == '*' && sscanf(at, "*%u%n", &times, &used) == 1)
            at += used;
        unsigned kind = (unsigned)(strchr(transition_letters, letter) - transition_letters);
        while (times-- && !machine_violated) {
            take((uint8_t)(kind * 64 + thread * 16 + which));
            r.steps++;
        }
        while (*at == ' ')
            at++;
    }
    choices(&l, 0);
    (void)is_end(&l, &r);
    machine_loud = false;
    r.violated = machine_violated;
    snprintf(r.text, sizeof r.text, "%s", machine_violation);
    return r;
}
