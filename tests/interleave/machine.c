/* machine.c: threads that stop before each access to something shared, and x86's memory under them.
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
 * With machine_weak a relaxed store may overtake those in front of it to other addresses, and only a
 * release store waits for them: what C promises of stores, and arm64 does. Loads stay in order.
 *
 * A thread that waits for another one in a loop is put aside until somebody stores.
 */
#include "tests/interleave/machine.h"

#include <stdarg.h>
#include <stdio.h>

struct bytes {
    uint8_t *at;
    size_t bytes;
};

struct machine *machine;
uint8_t machine_stack[IL_THREADS][STACK_BYTES] __attribute__((aligned(4096)));
const struct il_program *machine_program;
bool machine_violated;
char machine_violation[512];
bool machine_loud;
bool machine_start_again;
bool machine_weak;

static unsigned machine_self = IL_THREADS; /* the running thread */
static void *scheduler_sp;
static struct bytes nontemporal, guarded, shared_bytes[4], counters[12];
static unsigned shared_count, counters_count;
static struct owned {
    uint8_t *at;
    size_t bytes;
    unsigned thread; /* IL_THREADS: the holder of the lock */
} owned[16];
static unsigned owned_count;
static bool (*lock_held)(unsigned thread);

/* What is known of each 4 bytes of the arena, over all schedules. */
static uint8_t accessed[ARENA_BYTES / 4]; /* by which threads */
static uint8_t stored_to[ARENA_BYTES / 4];
static uint8_t shared[ARENA_BYTES / 4];
static uint8_t unlocked[ARENA_BYTES / 4]; /* guarded, but accessed without the lock */

void il_weak(void)
{
    machine_weak = true;
}

void machine_forget(void)
{
    memset(accessed, 0, sizeof accessed);
    memset(stored_to, 0, sizeof stored_to);
    memset(shared, 0, sizeof shared);
    memset(unlocked, 0, sizeof unlocked);
}

bool machine_knows(unsigned k)
{
    return shared[k];
}

void machine_learn(unsigned k)
{
    shared[k] = unlocked[k] = 1;
}

void machine_clear(void)
{
    arena_clear();
    machine = il_arena(sizeof *machine);
    il_keep(machine, sizeof *machine, true);
    machine_violated = false;
    nontemporal = guarded = (struct bytes){0};
    shared_count = owned_count = counters_count = 0;
}

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
    il_switch(&machine->thread[machine_self].sp, scheduler_sp);
}

void machine_resume(unsigned i)
{
    machine_self = i;
    lines_swap(&machine->thread[i]);
    il_switch(&scheduler_sp, machine->thread[i].sp);
    lines_swap(&machine->thread[i]);
    machine_self = IL_THREADS;
}

static void thread_main(void)
{
    machine_program->thread[machine_self]();
    machine->thread[machine_self].state = ENDED;
    back_to_scheduler();
    abort();
}

void machine_start_thread(unsigned i)
{
    memset(machine_stack[i], 0, STACK_BYTES);
    void **sp = (void **)(machine_stack[i] + STACK_BYTES - 64);
    *--sp = NULL; /* thread_main returns nowhere; also the alignment that a call leaves */
    *--sp = (void *)thread_main;
    sp -= 6;
    machine->thread[i].sp = sp;
    machine->thread[i].op.kind = IL_POINT;
}

unsigned il_self(void)
{
    return machine_self;
}

void il_violation(const char *fmt, ...)
{
    if (!machine_violated) {
        machine_violated = true;
        va_list args;
        va_start(args, fmt);
        vsnprintf(machine_violation, sizeof machine_violation, fmt, args);
        va_end(args);
    }
    if (machine_self < IL_THREADS) {
        machine->thread[machine_self].state = ENDED;
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

/* --- what the program says of its memory ---------------------------------------------------------- */

void il_nontemporal(void *at, size_t bytes)
{
    nontemporal = (struct bytes){at, bytes};
}

void il_shared_bytes(void *at, size_t bytes)
{
    shared_bytes[shared_count++] = (struct bytes){at, bytes};
}

void il_counters(void *at, size_t bytes)
{
    counters[counters_count++] = (struct bytes){at, bytes};
}

void il_lock(bool (*held)(unsigned thread))
{
    lock_held = held;
}

void il_guarded(void *at, size_t bytes)
{
    guarded = (struct bytes){at, bytes};
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

/* --- memory ----------------------------------------------------------------------------------- */

static uint64_t memory_get(uint32_t offset, uint32_t size)
{
    uint64_t v = 0;
    memcpy(&v, arena + offset, size);
    return v;
}

/* A store that everybody sees: whoever waits for one of somebody else looks again. */
static void memory_set(const struct thread *by, uint32_t offset, uint32_t size, uint64_t value)
{
    memcpy(arena + offset, &value, size);
    for (unsigned i = 0; i < machine->threads; i++) {
        struct thread *t = &machine->thread[i];
        if (t == by)
            continue;
        t->stuck = 0;
        t->spins = 0;
        memset(t->spin, 0, sizeof t->spin);
    }
}

bool machine_may_drain(const struct thread *t, uint32_t k)
{
    if (k > 0 && (!machine_weak || t->store[k].release))
        return false;
    for (uint32_t i = 0; i < k; i++) /* one address has one order */
        if (t->store[i].offset == t->store[k].offset)
            return false;
    return true;
}

void machine_drain_one(struct thread *t, uint32_t k)
{
    memory_set(t, t->store[k].offset, t->store[k].size, t->store[k].value);
    t->stores--;
    memmove(&t->store[k], &t->store[k + 1], (t->stores - k) * sizeof t->store[0]);
    memset(&t->store[t->stores], 0, sizeof t->store[0]);
}

void machine_drain(struct thread *t)
{
    while (t->stores)
        machine_drain_one(t, 0);
}

static void line_drop(struct thread *t, uint32_t i)
{
    t->lines--;
    t->line[i] = t->line[t->lines];
    memset(&t->line[t->lines], 0, sizeof t->line[0]);
}

/* A line becomes visible; the thread does not run, so memory holds the old bytes. */
void machine_show(struct thread *t, uint32_t i)
{
    memcpy(t->line[i].at, t->line[i].other, LINE);
    line_drop(t, i);
}

static void store_lines(void *to, const void *from, size_t bytes, bool known, bool plain)
{
    uint8_t *at = to;
    for (size_t done = 0; known && done < bytes;) {
        uint8_t *line = (uint8_t *)((uintptr_t)(at + done) & ~(uintptr_t)(LINE - 1));
        struct thread *t = &machine->thread[machine_self];
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
            t->line[i].plain = plain;
            memcpy(t->line[i].other, line, LINE);
            t->lines++;
        }
    }
    memcpy(to, from, bytes);
}

void il_nt_store(void *to, const void *from, size_t bytes)
{
    const uint8_t *at = to;
    bool known = machine_self < IL_THREADS && at >= nontemporal.at &&
                 at < nontemporal.at + nontemporal.bytes;
    store_lines(to, from, bytes, known, false);
}

/* Before a release. */
static void show_plain(struct thread *t)
{
    for (uint32_t i = t->lines; i-- > 0;)
        if (t->line[i].plain)
            machine_show(t, i);
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

static const char *const kind_names[] = {
    "load",  "store", "exchange",   "compare-exchange", "add",       "sub",
    "fence", "",      "futex wait", "futex wake",       "membarrier"};

static void say_op(unsigned i, const struct op *op, const char *note)
{
    char where[160] = "";
    if (op->site)
        snprintf(where, sizeof where, "%s:%d", op->site->function, op->site->line);
    if (op->kind == IL_POINT || op->kind == IL_FENCE || op->kind == IL_MEMBARRIER)
        printf("  T%u  %-28s %s %s%s\n", i, where, kind_names[op->kind],
               op->site ? op->site->what : "begins", note);
    else if (op->kind == IL_STORE)
        printf("  T%u  %-28s store %s = 0x%llx%s%s\n", i, where, arena_name(op->offset),
               (unsigned long long)op->value,
               op->order == memory_order_seq_cst ? " (seq_cst)" : " (buffered)", note);
    else if (op->kind == IL_LOAD)
        printf("  T%u  %-28s load %s is 0x%llx%s\n", i, where, arena_name(op->offset),
               (unsigned long long)op->result, note);
    else
        printf("  T%u  %-28s %s %s: 0x%llx -> 0x%llx%s\n", i, where, kind_names[op->kind],
               arena_name(op->offset), (unsigned long long)op->result,
               (unsigned long long)op->value, note);
}

static void wake_one(uint32_t offset, unsigned variant)
{
    for (unsigned i = 0; i < machine->threads; i++) {
        struct thread *t = &machine->thread[i];
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

bool machine_perform(unsigned i, unsigned variant)
{
    struct thread *t = &machine->thread[i];
    struct op *op = &t->op;
    const char *note = "";
    switch (op->kind) {
    case IL_LOAD:
        op->result = load_for(t, op->offset, op->size);
        note_look(t, op->offset, op->site);
        break;
    case IL_STORE:
        t->spins = 0;
        memset(t->spin, 0, sizeof t->spin);
        if (op->order != memory_order_relaxed)
            show_plain(t);
        if (op->order == memory_order_seq_cst) {
            machine_drain(t);
            memory_set(t, op->offset, op->size, op->value);
            break;
        }
        if (t->stores == BUFFER_MAX)
            machine_drain_one(t, 0);
        t->store[t->stores].offset = op->offset;
        t->store[t->stores].size = op->size;
        t->store[t->stores].release = op->order != memory_order_relaxed;
        t->store[t->stores++].value = op->value;
        break;
    case IL_POINT: break;
    case IL_FENCE:
        while (t->lines)
            machine_show(t, 0);
        break;
    case IL_MEMBARRIER:
        for (unsigned k = 0; k < machine->threads; k++) {
            show_plain(&machine->thread[k]);
            machine_drain(&machine->thread[k]);
        }
        break;
    case IL_FUTEX_WAIT:
        machine_drain(t);
        op->result = memory_get(op->offset, op->size) != op->value;
        if (!op->result) {
            t->state = ASLEEP;
            note = ": asleep";
        }
        break;
    case IL_FUTEX_WAKE:
        machine_drain(t);
        wake_one(op->offset, variant);
        break;
    default: {
        show_plain(t);
        machine_drain(t);
        uint64_t old = memory_get(op->offset, op->size);
        uint64_t next = truncated(combine(op, old), op->size);
        op->result = old;
        if (op->kind == IL_COMPARE && old != op->expected) {
            note = ": no";
        } else {
            memory_set(t, op->offset, op->size, next);
        }
    }
    }
    if (machine_loud)
        say_op(i, op, note);
    return t->state == READY;
}

/* In a thread: stop before this access and have it made. */
static uint64_t step(struct op op)
{
    machine->thread[machine_self].op = op;
    back_to_scheduler();
    return machine->thread[machine_self].op.result;
}

static uint64_t access_at_once(const struct op *op, bool in_arena, void *at)
{
    uint64_t old = 0;
    memcpy(&old, at, op->size);
    if (in_arena && machine_self < IL_THREADS)
        old = load_for(&machine->thread[machine_self], op->offset, op->size);
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
    for (unsigned i = 0; i < counters_count; i++)
        if (at >= counters[i].at && at < counters[i].at + counters[i].bytes)
            return false;
    if (at >= guarded.at && at < guarded.at + guarded.bytes && !unlocked[k]) {
        if (lock_held(machine_self))
            return false;
        unlocked[k] = 1;
        machine_start_again = true;
    }
    for (unsigned i = 0; i < owned_count; i++) {
        const struct owned *o = &owned[i];
        if (at < o->at || at >= o->at + o->bytes)
            continue;
        bool own = o->thread == IL_THREADS ? lock_held(machine_self) : o->thread == machine_self;
        if (!own && stores)
            il_violation("a store to %s, which is not this thread's to change", arena_name(offset));
        if (own && !stores) {
            accessed[k] |= (uint8_t)(1u << machine_self);
            return false;
        }
        break;
    }
    accessed[k] |= (uint8_t)(1u << machine_self);
    stored_to[k] |= stores;
    if (!shared[k] && stored_to[k] && accessed[k] & (accessed[k] - 1)) {
        shared[k] = 1;
        machine_start_again = true;
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
    bool stores = kind != IL_LOAD && !(kind == IL_ADD && value == 0); /* nobody sees that one */
    if (machine_self < IL_THREADS && in_arena && is_step(op.offset, stores))
        return step(op);
    return access_at_once(&op, in_arena, (void *)(uintptr_t)at);
}

/* The running thread has looked, in vain, and will look again; the writer lock goes to sleep instead. */
void il_relax(const char *function)
{
    if (machine_self < IL_THREADS && strncmp(function, "writer_", 7) != 0)
        machine->thread[machine_self].stuck = 1;
}

static void stop_before(enum il_kind kind, const struct il_site *site)
{
    if (machine_self < IL_THREADS)
        (void)step((struct op){.kind = kind, .site = site});
}

void il_point(const char *what)
{
    static struct il_site site[32];
    unsigned i = 0;
    while (i < 31 && site[i].what && strcmp(site[i].what, what) != 0)
        i++;
    site[i] = (struct il_site){"test", 0, what};
    stop_before(IL_POINT, &site[i]);
}

/* What the kernel stores for a thread comes after the thread's own stores. */
void il_system(const char *what)
{
    il_point(what);
    if (machine_self < IL_THREADS && !machine_weak)
        machine_drain(&machine->thread[machine_self]);
}

void il_membarrier(void)
{
    static const struct il_site site = {"membarrier", 0, "of every thread"};
    stop_before(IL_MEMBARRIER, &site);
}

/* The first word of a mutex is the lock: taken by an exchange, given back by a release store. */
int il_mutex_lock(pthread_mutex_t *m)
{
    static const struct il_site site = {"pthread_mutex_lock", 0, "mutex"};
    while (il_access(IL_EXCHANGE, (const volatile void *)m, 4, memory_order_acquire, 1, 0, &site))
        il_relax("mutex");
    return 0;
}

int il_mutex_unlock(pthread_mutex_t *m)
{
    static const struct il_site site = {"pthread_mutex_unlock", 0, "mutex"};
    (void)il_access(IL_STORE, (const volatile void *)m, 4, memory_order_release, 0, 0, &site);
    return 0;
}

void il_nt_fence(void)
{
    static const struct il_site site = {"fence", 0, "of what was stored to base"};
    if (machine_self < IL_THREADS && machine->thread[machine_self].lines)
        stop_before(IL_FENCE, &site);
}

void *il_memcpy(void *to, const void *from, size_t n, const struct il_site *site)
{
    const uint8_t *p = from, *q = to;
    bool stores = false;
    for (unsigned i = 0; i < shared_count && machine_self < IL_THREADS; i++) {
        const struct bytes *s = &shared_bytes[i];
        bool loads = p >= s->at && p < s->at + s->bytes && !lock_held(machine_self);
        bool into = q >= s->at && q < s->at + s->bytes;
        if (loads || into)
            stop_before(IL_POINT, site);
        stores |= into;
    }
    store_lines(to, from, n, stores && machine_weak, true);
    return to;
}

long il_syscall(long number, ...)
{
    if (number != SYS_futex)
        return 1 + (long)machine_self; /* gettid */
    va_list args;
    va_start(args, number);
    const uint8_t *word = va_arg(args, uint8_t *);
    int what = va_arg(args, int);
    uint32_t value = va_arg(args, uint32_t);
    va_end(args);
    static const struct il_site site = {"futex", 0, "writer"};
    if (machine_self < IL_THREADS)
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
    *t = (struct timespec){
        .tv_sec = machine_self < IL_THREADS ? (time_t)machine->thread[machine_self].time : 0};
    return 0;
}
