/* explore.c: runs a few threads of real engine code in every order of their steps.
 *
 * A thread is a stack of its own in this one OS thread. Before each access to something that several
 * threads use it comes back to the scheduler, which makes the access in its place, so a step is one
 * access and the thread's own work up to the next one. Which addresses are shared is found out: the
 * first access of a second thread to one that is stored to starts the search again, with it.
 *
 * Memory is that of x86 (TSO): stores other than sequentially consistent ones go into a first-in,
 * first-out buffer of the thread, which only its own loads look into; taking the oldest one out is a
 * step that the scheduler may take at any time. Sequentially consistent stores and all
 * read-modify-writes empty the buffer first. Stores into persistent memory are non-temporal: each line
 * becomes visible by itself at any time until the fence. (Real processors empty write-combining
 * buffers at locked instructions too; the engine does not rely on that, and neither does this.)
 *
 * The search is depth first. At each step the whole state is saved (the arena's registered pieces and
 * the live part of the stacks), so going back is a copy. A state that was seen before is not entered
 * again: states are told apart by a 64-bit hash of all those bytes, registers included. A thread that
 * waits for another one in a loop is put aside until somebody stores. All put aside, asleep or ended, buffers empty, and not all
 * ended: that is a deadlock, or a lost wake-up.
 *
 * With a bound, a schedule may take the processor from a thread that could go on only so many times.
 */
#include "tests/interleave/explore.h"

#include <stdarg.h>
#include <stdio.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define ARENA_BYTES (1u << 20)
#define STACK_BYTES (64u << 10)
#define STACK_KEPT (12u << 10) /* at most this much of it is in use at a step */
#define PIECES_MAX 64u
#define BUFFER_MAX 12u
#define NT_MAX 8u
#define SPIN_MAX 8u
#define SPIN_LOADS 3u
#define DEPTH_MAX 4000u
#define TRANSITIONS_MAX 40u
#define LINE 64u

enum state {
    READY,
    ASLEEP,
    ENDED
};

struct op {
    uint32_t kind;
    uint32_t size;
    int32_t order;
    uint32_t offset; /* in the arena */
    uint64_t value;
    uint64_t expected;
    uint64_t result;
    const struct il_site *site;
};

struct thread {
    void *sp;
    uint32_t state;
    uint32_t stuck; /* waits for anybody's store */
    uint32_t woken; /* from its sleep, and has not run since */
    uint32_t stores;
    uint32_t lines;
    uint32_t spins;
    uint64_t time; /* what its clock shows */
    struct op op;
    struct {
        uint32_t offset;
        uint32_t size;
        uint64_t value;
    } store[BUFFER_MAX];
    struct {
        uint8_t *at;
        uint8_t other[LINE]; /* what memory does not hold: the old bytes while the thread runs, the
                                new ones while others do */
    } line[NT_MAX];
    struct {
        uint32_t offset;
        uint32_t count;
    } spin[SPIN_MAX];
};

/* The scheduler's part of the state; in the arena as everything else. */
struct machine {
    struct thread thread[IL_THREADS];
    uint32_t threads;
    uint32_t timeouts;
};

struct piece {
    uint8_t *at;
    size_t bytes;
    bool counts;
};

static uint8_t arena[ARENA_BYTES] __attribute__((aligned(4096)));
static size_t arena_used;
static struct machine *m;
static struct piece pieces[PIECES_MAX];
static unsigned piece_count;
static size_t kept_bytes;
static uint8_t stacks[IL_THREADS][STACK_BYTES] __attribute__((aligned(4096)));
static uint8_t *nt_at;
static size_t nt_bytes;
static struct piece shared_bytes[4];
static unsigned shared_count;
static struct piece guarded;
static struct owned {
    uint8_t *at;
    size_t bytes;
    unsigned thread; /* IL_THREADS: the holder of the lock */
} owned[16];
static unsigned owned_count;
static bool (*guarded_held)(unsigned thread);
static struct {
    const char *name;
    const uint8_t *at;
    size_t bytes, stride;
} names[64];
static unsigned name_count;

static const struct il_program *program;
static unsigned self = IL_THREADS; /* the running thread */
static void *scheduler_sp;
static bool violated;
static char violation[512];
static bool loud;

/* What is known of each 4 bytes of the arena, over all schedules. */
static uint8_t accessed[ARENA_BYTES / 4]; /* by which threads */
static uint8_t stored_to[ARENA_BYTES / 4];
static uint8_t shared[ARENA_BYTES / 4];
static uint8_t unlocked[ARENA_BYTES / 4]; /* guarded, but accessed without the lock */
static bool start_again;

/* --- threads ---------------------------------------------------------------------------------- */

void il_switch(void **save, void *load);
__asm__(".text\n"
        ".globl il_switch\n"
        ".type il_switch, @function\n"
        "il_switch:\n"
        "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
        "  movq %rsp, (%rdi)\n"
        "  movq %rsi, %rsp\n"
        "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
        "  ret\n"
        ".size il_switch, . - il_switch\n");

static void lines_swap(struct thread *t)
{
    for (uint32_t i = 0; i < t->lines; i++) {
        uint8_t now[LINE];
        memcpy(now, t->line[i].at, LINE);
        memcpy(t->line[i].at, t->line[i].other, LINE);
        memcpy(t->line[i].other, now, LINE);
    }
}

static void back_to_scheduler(void)
{
    il_switch(&m->thread[self].sp, scheduler_sp);
}

/* Run thread i to its next step. */
static void resume(unsigned i)
{
    self = i;
    lines_swap(&m->thread[i]);
    il_switch(&scheduler_sp, m->thread[i].sp);
    lines_swap(&m->thread[i]);
    self = IL_THREADS;
}

static void thread_main(void)
{
    program->thread[self]();
    m->thread[self].state = ENDED;
    back_to_scheduler();
    abort();
}

static void thread_start(unsigned i)
{
    memset(stacks[i], 0, STACK_BYTES);
    void **sp = (void **)(stacks[i] + STACK_BYTES - 64);
    *--sp = NULL; /* thread_main returns nowhere; also the alignment that a call leaves */
    *--sp = (void *)thread_main;
    sp -= 6;
    m->thread[i].sp = sp;
    m->thread[i].op.kind = IL_POINT;
}

unsigned il_self(void)
{
    return self;
}

void il_violation(const char *fmt, ...)
{
    if (!violated) {
        violated = true;
        va_list args;
        va_start(args, fmt);
        vsnprintf(violation, sizeof violation, fmt, args);
        va_end(args);
    }
    if (self < IL_THREADS) {
        m->thread[self].state = ENDED;
        back_to_scheduler();
    }
}

/* A failed assertion of the engine. */
void __assert_fail(const char *what, const char *file, unsigned line, const char *function)
{
    il_violation("assertion \"%s\" in %s (%s:%u)", what, function, file, line);
    fprintf(stderr, "%s: assertion \"%s\" in %s outside the threads\n", file, what, function);
    abort();
}

/* --- the arena -------------------------------------------------------------------------------- */

void *il_arena(size_t bytes)
{
    void *at = arena + arena_used;
    arena_used += (bytes + 63) & ~(size_t)63;
    if (arena_used > ARENA_BYTES) {
        fprintf(stderr, "the arena is too small\n");
        abort();
    }
    return at;
}

void il_keep(void *at, size_t bytes, bool counts)
{
    if (piece_count == PIECES_MAX)
        abort();
    pieces[piece_count++] = (struct piece){at, bytes, counts};
    kept_bytes += bytes;
}

void il_nontemporal(void *at, size_t bytes)
{
    nt_at = at;
    nt_bytes = bytes;
}

void il_shared_bytes(void *at, size_t bytes)
{
    shared_bytes[shared_count++] = (struct piece){at, bytes, false};
}

void il_lock(bool (*held)(unsigned thread))
{
    guarded_held = held;
}

void il_guarded(void *at, size_t bytes)
{
    guarded = (struct piece){at, bytes, false};
}

void il_stored_by(void *at, size_t bytes, unsigned thread)
{
    if (owned_count == sizeof owned / sizeof *owned)
        abort();
    owned[owned_count++] = (struct owned){at, bytes, thread};
}

void il_stored_by_holder(void *at, size_t bytes)
{
    il_stored_by(at, bytes, IL_THREADS);
}

void il_name(const char *name, const void *at, size_t bytes, size_t stride)
{
    names[name_count].name = name;
    names[name_count].at = at;
    names[name_count].bytes = bytes;
    names[name_count++].stride = stride;
}

static const char *name_of(uint32_t offset)
{
    static char text[96];
    const uint8_t *at = arena + offset;
    for (unsigned i = name_count; i-- > 0;) {
        if (at < names[i].at || at >= names[i].at + names[i].bytes)
            continue;
        size_t in = (size_t)(at - names[i].at);
        if (names[i].stride)
            snprintf(text, sizeof text, "%s[%zu]+%zu", names[i].name, in / names[i].stride,
                     in % names[i].stride);
        else
            snprintf(text, sizeof text, "%s+%zu", names[i].name, in);
        size_t n = strlen(text);
        if (n > 2 && !strcmp(text + n - 2, "+0"))
            text[n - 2] = 0;
        return text;
    }
    snprintf(text, sizeof text, "arena+%u", offset);
    return text;
}

static uint64_t memory_get(uint32_t offset, uint32_t size)
{
    uint64_t v = 0;
    memcpy(&v, arena + offset, size);
    return v;
}

/* A store that everybody sees: whoever waits for one looks again. */
static void memory_set(uint32_t offset, uint32_t size, uint64_t value)
{
    memcpy(arena + offset, &value, size);
    for (unsigned i = 0; i < m->threads; i++) {
        m->thread[i].stuck = 0;
        m->thread[i].spins = 0;
        memset(m->thread[i].spin, 0, sizeof m->thread[i].spin);
    }
}

static void buffer_drain_one(struct thread *t)
{
    memory_set(t->store[0].offset, t->store[0].size, t->store[0].value);
    t->stores--;
    memmove(&t->store[0], &t->store[1], t->stores * sizeof t->store[0]);
    memset(&t->store[t->stores], 0, sizeof t->store[0]);
}

static void buffer_drain(struct thread *t)
{
    while (t->stores)
        buffer_drain_one(t);
}

static void line_drop(struct thread *t, uint32_t i)
{
    t->lines--;
    t->line[i] = t->line[t->lines];
    memset(&t->line[t->lines], 0, sizeof t->line[0]);
}

/* A line becomes visible; the thread does not run, so memory holds the old bytes. */
static void line_show(struct thread *t, uint32_t i)
{
    memcpy(t->line[i].at, t->line[i].other, LINE);
    line_drop(t, i);
}

void il_nt_store(void *to, const void *from, size_t bytes)
{
    uint8_t *at = to;
    bool known = self < IL_THREADS && at >= nt_at && at < nt_at + nt_bytes;
    for (size_t done = 0; known && done < bytes;) {
        uint8_t *line = (uint8_t *)((uintptr_t)(at + done) & ~(uintptr_t)(LINE - 1));
        struct thread *t = &m->thread[self];
        size_t from_at = done, piece = (size_t)(line + LINE - (at + done));
        done += piece < bytes - done ? piece : bytes - done;
        if (!memcmp(at + from_at, (const uint8_t *)from + from_at, done - from_at))
            continue; /* nobody can tell when */
        uint32_t i = 0;
        while (i < t->lines && t->line[i].at != line)
            i++;
        if (i == t->lines) {
            if (t->lines == NT_MAX) { /* the oldest leaves its buffer */
                line_drop(t, 0);
                i = t->lines;
            }
            t->line[i].at = line;
            memcpy(t->line[i].other, line, LINE);
            t->lines++;
        }
    }
    memcpy(to, from, bytes);
}

/* --- steps ------------------------------------------------------------------------------------ */

static uint64_t combine(const struct op *op, uint64_t old)
{
    switch (op->kind) {
    case IL_EXCHANGE: return op->value;
    case IL_ADD: return old + op->value;
    case IL_SUB: return old - op->value;
    default: return old == op->expected ? op->value : old;
    }
}

static uint64_t truncated(uint64_t v, uint32_t size)
{
    return size == 8 ? v : v & ((UINT64_C(1) << size * 8) - 1);
}

static uint64_t load_for(const struct thread *t, uint32_t offset, uint32_t size)
{
    for (uint32_t i = t->stores; i-- > 0;)
        if (t->store[i].offset == offset)
            return t->store[i].value;
    return memory_get(offset, size);
}

/* The thread has looked at this address: does it wait for it? (The one loop of the engine that waits
 * without saying so.) */
static void note_look(struct thread *t, uint32_t offset, const struct il_site *site)
{
    uint32_t i = 0;
    if (strcmp(site->function, "snapshot_newest") != 0)
        return;
    while (i < t->spins && t->spin[i].offset != offset)
        i++;
    if (i == SPIN_MAX)
        return;
    if (i == t->spins) {
        t->spin[t->spins].offset = offset;
        t->spin[t->spins++].count = 0;
    }
    if (++t->spin[i].count >= SPIN_LOADS)
        t->stuck = 1;
}

static const char *const kind_names[] = {"load",       "store",     "exchange", "compare-exchange",
                                         "add",        "sub",       "fence",    "",
                                         "futex wait", "futex wake"};

static void say_op(unsigned i, const struct op *op, const char *note)
{
    char where[160] = "";
    if (op->site)
        snprintf(where, sizeof where, "%s:%d", op->site->function, op->site->line);
    if (op->kind == IL_POINT || op->kind == IL_FENCE)
        printf("  T%u  %-28s %s %s%s\n", i, where, kind_names[op->kind],
               op->site ? op->site->what : "begins", note);
    else if (op->kind == IL_STORE)
        printf("  T%u  %-28s store %s = 0x%llx%s%s\n", i, where, name_of(op->offset),
               (unsigned long long)op->value,
               op->order == memory_order_seq_cst ? " (seq_cst)" : " (buffered)", note);
    else if (op->kind == IL_LOAD)
        printf("  T%u  %-28s load %s is 0x%llx%s\n", i, where, name_of(op->offset),
               (unsigned long long)op->result, note);
    else
        printf("  T%u  %-28s %s %s: 0x%llx -> 0x%llx%s\n", i, where, kind_names[op->kind],
               name_of(op->offset), (unsigned long long)op->result, (unsigned long long)op->value,
               note);
}

static void wake_one(uint32_t offset, unsigned variant)
{
    for (unsigned i = 0; i < m->threads; i++) {
        struct thread *t = &m->thread[i];
        if (t->state == ASLEEP && t->op.offset == offset && variant-- == 0) {
            t->state = READY;
            t->woken = 1;
            t->op.kind = IL_POINT;
            t->op.result = 0;
            t->stuck = 0;
            return;
        }
    }
}

/* Make the access that thread i stands before; true: the thread goes on. */
static bool perform(unsigned i, unsigned variant)
{
    struct thread *t = &m->thread[i];
    struct op *op = &t->op;
    const char *note = "";
    switch (op->kind) {
    case IL_LOAD:
        op->result = load_for(t, op->offset, op->size);
        note_look(t, op->offset, op->site);
        break;
    case IL_STORE:
        if (op->order == memory_order_seq_cst) {
            buffer_drain(t);
            memory_set(op->offset, op->size, op->value);
            break;
        }
        if (t->stores == BUFFER_MAX)
            buffer_drain_one(t);
        t->store[t->stores].offset = op->offset;
        t->store[t->stores].size = op->size;
        t->store[t->stores++].value = op->value;
        t->spins = 0;
        memset(t->spin, 0, sizeof t->spin);
        break;
    case IL_POINT: break;
    case IL_FENCE:
        while (t->lines)
            line_show(t, 0);
        break;
    case IL_FUTEX_WAIT:
        buffer_drain(t);
        op->result = memory_get(op->offset, op->size) != op->value;
        if (!op->result) {
            t->state = ASLEEP;
            note = ": asleep";
        }
        break;
    case IL_FUTEX_WAKE:
        buffer_drain(t);
        wake_one(op->offset, variant);
        break;
    default: {
        buffer_drain(t);
        uint64_t old = memory_get(op->offset, op->size);
        uint64_t next = truncated(combine(op, old), op->size);
        op->result = old;
        if (op->kind == IL_COMPARE && old != op->expected) {
            note = ": no";
        } else {
            memory_set(op->offset, op->size, next);
        }
    }
    }
    if (loud)
        say_op(i, op, note);
    return t->state == READY;
}

/* In a thread: stop before this access and have it made. */
static uint64_t step(struct op op)
{
    m->thread[self].op = op;
    back_to_scheduler();
    return m->thread[self].op.result;
}

static uint64_t access_at_once(const struct op *op, bool in_arena, void *at)
{
    uint64_t old = 0;
    memcpy(&old, at, op->size);
    if (in_arena && self < IL_THREADS)
        old = load_for(&m->thread[self], op->offset, op->size);
    uint64_t next = op->kind == IL_STORE ? op->value : combine(op, old);
    if (op->kind != IL_LOAD && !(op->kind == IL_COMPARE && old != op->expected))
        memcpy(at, &next, op->size);
    return old;
}

/* Is the access one that others can notice? Learns about addresses. */
static bool is_step(uint32_t offset, bool stores)
{
    uint32_t k = offset / 4;
    uint8_t *at = arena + offset;
    if (at >= guarded.at && at < guarded.at + guarded.bytes && !unlocked[k]) {
        if (guarded_held(self))
            return false;
        unlocked[k] = 1;
        start_again = true;
    }
    for (unsigned i = 0; i < owned_count; i++) {
        const struct owned *o = &owned[i];
        if (at < o->at || at >= o->at + o->bytes)
            continue;
        bool own = o->thread == IL_THREADS ? guarded_held(self) : o->thread == self;
        if (!own && stores)
            il_violation("a store to %s, which is not this thread's to change", name_of(offset));
        if (own && !stores) {
            accessed[k] |= (uint8_t)(1u << self);
            return false;
        }
        break;
    }
    accessed[k] |= (uint8_t)(1u << self);
    stored_to[k] |= stores;
    if (!shared[k] && stored_to[k] && accessed[k] & (accessed[k] - 1)) {
        shared[k] = 1;
        start_again = true;
    }
    return shared[k];
}

uint64_t il_access(enum il_kind kind, const volatile void *at, size_t size, int order,
                   uint64_t value, uint64_t expected, const struct il_site *site)
{
    const uint8_t *p = (const uint8_t *)(uintptr_t)at;
    bool in_arena = p >= arena && p < arena + ARENA_BYTES;
    struct op op = {.kind = kind,
                    .size = (uint32_t)size,
                    .order = order,
                    .offset = in_arena ? (uint32_t)(p - arena) : 0,
                    .value = truncated(value, (uint32_t)size),
                    .expected = truncated(expected, (uint32_t)size),
                    .site = site};
    if (self < IL_THREADS && in_arena && is_step(op.offset, kind != IL_LOAD))
        return step(op);
    return access_at_once(&op, in_arena, (void *)(uintptr_t)at);
}

/* The running thread has looked, in vain, and will look again; the writer lock goes to sleep instead. */
void il_relax(const char *function)
{
    if (self < IL_THREADS && strcmp(function, "writer_lock") != 0)
        m->thread[self].stuck = 1;
}

static void stop_before(enum il_kind kind, const struct il_site *site)
{
    if (self < IL_THREADS)
        (void)step((struct op){.kind = kind, .site = site});
}

void il_point(const char *what)
{
    static struct il_site site[16];
    unsigned i = 0;
    while (i < 15 && site[i].what && strcmp(site[i].what, what) != 0)
        i++;
    site[i] = (struct il_site){"test", 0, what};
    stop_before(IL_POINT, &site[i]);
}

void il_nt_fence(void)
{
    static const struct il_site site = {"fence", 0, "of what was stored to base"};
    if (self < IL_THREADS && m->thread[self].lines)
        stop_before(IL_FENCE, &site);
}

void *il_memcpy(void *to, const void *from, size_t n, const struct il_site *site)
{
    const uint8_t *p = from, *q = to;
    for (unsigned i = 0; i < shared_count && self < IL_THREADS; i++) {
        const struct piece *s = &shared_bytes[i];
        bool loads = p >= s->at && p < s->at + s->bytes && !guarded_held(self);
        if (loads || (q >= s->at && q < s->at + s->bytes))
            stop_before(IL_POINT, site);
    }
    return memcpy(to, from, n);
}

long il_syscall(long number, ...)
{
    if (number != SYS_futex)
        return 1; /* gettid */
    va_list args;
    va_start(args, number);
    const uint8_t *word = va_arg(args, uint8_t *);
    int what = va_arg(args, int);
    uint32_t value = va_arg(args, uint32_t);
    va_end(args);
    static const struct il_site site = {"futex", 0, "writer"};
    if (self < IL_THREADS)
        (void)step((struct op){.kind = what == 0 ? IL_FUTEX_WAIT : IL_FUTEX_WAKE,
                               .size = 4,
                               .offset = (uint32_t)(word - arena),
                               .value = value,
                               .site = &site});
    return 0;
}

int il_clock_gettime(clockid_t clock, struct timespec *t)
{
    (void)clock;
    *t = (struct timespec){.tv_sec = self < IL_THREADS ? (time_t)m->thread[self].time : 0};
    return 0;
}

/* --- states ----------------------------------------------------------------------------------- */

static uint8_t *snapshots;
static size_t snapshot_bytes, snapshots_room;

static uint8_t *snapshot_at(unsigned index)
{
    if (index >= snapshots_room) {
        snapshots_room = snapshots_room ? snapshots_room * 2 : 256;
        while (index >= snapshots_room)
            snapshots_room *= 2;
        snapshots = realloc(snapshots, snapshots_room * snapshot_bytes);
        if (!snapshots)
            abort();
    }
    return snapshots + index * snapshot_bytes;
}

static size_t stack_used(unsigned i)
{
    size_t used = (size_t)(stacks[i] + STACK_BYTES - (uint8_t *)m->thread[i].sp);
    if (used > STACK_KEPT) {
        fprintf(stderr, "%zu bytes of stack in use\n", used);
        abort();
    }
    return used;
}

static void state_save(unsigned index)
{
    uint8_t *to = snapshot_at(index);
    for (unsigned i = 0; i < piece_count; i++) {
        memcpy(to, pieces[i].at, pieces[i].bytes);
        to += pieces[i].bytes;
    }
    for (unsigned i = 0; i < m->threads; i++) {
        size_t used = stack_used(i);
        memcpy(to, stacks[i] + STACK_BYTES - used, used);
        to += used;
    }
}

static void state_load(unsigned index)
{
    const uint8_t *from = snapshot_at(index);
    for (unsigned i = 0; i < piece_count; i++) {
        memcpy(pieces[i].at, from, pieces[i].bytes);
        from += pieces[i].bytes;
    }
    for (unsigned i = 0; i < m->threads; i++) {
        size_t used = stack_used(i);
        memcpy(stacks[i] + STACK_BYTES - used, from, used);
        from += used;
    }
}

static uint64_t state_hash(uint64_t seed)
{
    XXH3_state_t h;
    XXH3_64bits_reset_withSeed(&h, seed);
    for (unsigned i = 0; i < piece_count; i++)
        if (pieces[i].counts)
            XXH3_64bits_update(&h, pieces[i].at, pieces[i].bytes);
    for (unsigned i = 0; i < m->threads; i++)
        if (m->thread[i].state != ENDED) {
            size_t used = stack_used(i);
            XXH3_64bits_update(&h, stacks[i] + STACK_BYTES - used, used);
        }
    uint64_t v = XXH3_64bits_digest(&h);
    return v ? v : 1;
}

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
    return m->thread[i].state == READY && !m->thread[i].stuck;
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
    for (unsigned i = 0; i < m->threads; i++)
        n += m->thread[i].state == ASLEEP && m->thread[i].op.offset == offset;
    return n;
}

static bool all_ended(void)
{
    for (unsigned i = 0; i < m->threads; i++)
        if (m->thread[i].state != ENDED)
            return false;
    return true;
}

/* What may happen next. */
static void choices(struct level *l, unsigned bound)
{
    l->count = l->next = 0;
    bool held = bound && l->last < m->threads && can_run(l->last);
    for (unsigned n = 0; n < m->threads; n++) {
        /* The one that runs goes on first. */
        unsigned i = (l->last < m->threads ? l->last + n : n) % m->threads;
        struct thread *t = &m->thread[i];
        if (can_run(i) && (!held || i == l->last || l->preemptions < bound)) {
            unsigned variants = t->op.kind == IL_FUTEX_WAKE ? sleepers(t->op.offset) : 1;
            for (unsigned k = 0; k < (variants ? variants : 1); k++)
                add_choice(l, RUN, i, k);
        }
        if (t->stores)
            add_choice(l, DRAIN, i, 0);
        for (uint32_t k = 0; k < t->lines; k++)
            add_choice(l, SHOW, i, k);
        if ((t->state == ASLEEP || t->woken) && m->timeouts)
            add_choice(l, TIME, i, 0);
    }
}

static void take(uint8_t choice)
{
    unsigned i = choice / 16 % 4, which = choice % 16;
    struct thread *t = &m->thread[i];
    switch ((enum transition)(choice / 64)) {
    case RUN:
        t->woken = 0;
        if (perform(i, which))
            resume(i);
        break;
    case DRAIN:
        if (loud)
            printf("  T%u  %-28s the buffered store %s = 0x%llx becomes visible\n", i, "",
                   name_of(t->store[0].offset), (unsigned long long)t->store[0].value);
        buffer_drain_one(t);
        break;
    case SHOW:
        if (loud)
            printf("  T%u  %-28s a line of %s becomes visible\n", i, "",
                   name_of((uint32_t)(t->line[which].at - arena)));
        line_show(t, which);
        break;
    case TIME:
        if (loud)
            printf("  T%u  %-28s its time is over: awake\n", i, "");
        m->timeouts--;
        t->time += 3600;
        t->state = READY;
        t->op.kind = IL_POINT;
        break;
    }
}

static void start(const struct il_program *p)
{
    static bool known;
    program = p;
    violated = false;
    if (!known) { /* once: the arena's layout is the same for all programs */
        known = true;
        m = il_arena(sizeof *m);
        il_keep(m, sizeof *m, true);
    }
    static size_t arena_first;
    static unsigned pieces_first;
    static size_t kept_first;
    if (!arena_first) {
        arena_first = arena_used;
        pieces_first = piece_count;
        kept_first = kept_bytes;
    }
    arena_used = arena_first;
    piece_count = pieces_first;
    kept_bytes = kept_first;
    name_count = shared_count = owned_count = 0;
    memset(arena, 0, sizeof arena);
    p->setup();
    snapshot_bytes = kept_bytes + IL_THREADS * STACK_KEPT;
    snapshots_room = 0;
    free(snapshots);
    snapshots = NULL;
    m->threads = 0;
    m->timeouts = p->timeouts;
    while (m->threads < IL_THREADS && p->thread[m->threads])
        thread_start(m->threads++);
}

static char *schedule_text(const struct level *levels, unsigned depth)
{
    size_t room = depth * 12 + 16, at = 0;
    for (unsigned k = 0; k < ARENA_BYTES / 4; k++)
        room += shared[k] ? 8 : 0;
    char *text = malloc(room);
    if (!text)
        abort();
    text[0] = 0;
    for (unsigned k = 0; k < ARENA_BYTES / 4; k++)
        if (shared[k])
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
    if (!violated && all_ended()) {
        for (unsigned i = 0; i < m->threads; i++) {
            struct thread *t = &m->thread[i];
            buffer_drain(t);
            while (t->lines)
                line_show(t, 0);
        }
        program->finish();
        r->ends++;
        return true;
    }
    if (!violated && l->count == 0) {
        char who[128] = "";
        size_t at = 0;
        for (unsigned i = 0; i < m->threads; i++)
            if (m->thread[i].state != ENDED)
                at += (size_t)snprintf(who + at, sizeof who - at, " T%u %s %s;", i,
                                       m->thread[i].state == ASLEEP ? "sleeps on" : "waits for",
                                       name_of(m->thread[i].op.offset));
        il_violation("nobody can go on:%s", who);
    }
    return violated;
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
        if (start_again)
            break;
        struct level *n = &levels[depth + 1];
        *n = (struct level){.last = l->last, .preemptions = l->preemptions};
        if (c / 64 == RUN) {
            n->last = c / 16 % 4;
            if (bound && l->last < m->threads && l->last != n->last)
                for (unsigned k = 0; k < l->count; k++) /* could it have gone on? */
                    if (l->choice[k] / 16 == (unsigned)(RUN * 4 + l->last)) {
                        n->preemptions++;
                        break;
                    }
        }
        choices(n, bound);
        if (is_end(n, &r)) {
            l->ways += 1;
            if (violated) {
                r.violated = true;
                snprintf(r.text, sizeof r.text, "%s", violation);
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
            snprintf(r.text, sizeof r.text, "%s", violation);
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
    memset(accessed, 0, sizeof accessed);
    memset(stored_to, 0, sizeof stored_to);
    memset(shared, 0, sizeof shared);
    memset(unlocked, 0, sizeof unlocked);
}

struct il_result il_explore(const struct il_program *p, unsigned preemptions, uint64_t max_states)
{
    struct il_result r;
    do {
        start_again = false;
        r = search(p, preemptions, max_states);
        if (start_again && r.schedule) {
            free(r.schedule);
            r.schedule = NULL;
        }
    } while (start_again);
    return r;
}

/* A schedule counts steps, so the same addresses must be known as shared: its head lists them. */
static const char *learn(const char *schedule)
{
    unsigned k;
    int used;
    il_forget();
    while (sscanf(schedule, "%u%n", &k, &used) == 1 && k < ARENA_BYTES / 4) {
        shared[k] = unlocked[k] = 1;
        schedule += used + (schedule[used] == ',');
    }
    return *schedule == ':' ? schedule + 1 : schedule;
}

struct il_result il_replay(const struct il_program *p, const char *schedule)
{
    struct il_result r = {.complete = true};
    schedule = learn(schedule);
    start(p);
    loud = true;
    const char *at = schedule;
    struct level l = {.last = IL_THREADS};
    while (*at && !violated) {
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
        while (times-- && !violated) {
            take((uint8_t)(kind * 64 + thread * 16 + which));
            r.steps++;
        }
        while (*at == ' ')
            at++;
    }
    choices(&l, 0);
    (void)is_end(&l, &r);
    loud = false;
    r.violated = violated;
    snprintf(r.text, sizeof r.text, "%s", violation);
    return r;
}
