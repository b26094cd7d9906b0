/* machine.h: the explorer's threads and memory, between machine.c, arena.c and explore.c.
 */
#ifndef TESTS_INTERLEAVE_MACHINE_H
#define TESTS_INTERLEAVE_MACHINE_H

#include "tests/interleave/explore.h"

#define ARENA_BYTES (1u << 20)
#define STACK_BYTES (64u << 10)
#define STACK_KEPT (24u << 10) /* at most this much of it is in use at a step */
#define BUFFER_MAX 12u
#define NT_MAX 8u
#define SPIN_MAX 8u
#define SPIN_LOADS 3u
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
        uint64_t release; /* not before those in front of it */
    } store[BUFFER_MAX];
    struct {
        uint8_t *at;
        uint64_t plain;      /* an ordinary store, for which a release store waits */
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

/* --- machine.c: threads, memory, steps ---------------------------------------------------------- */

extern struct machine *machine;
extern uint8_t machine_stack[IL_THREADS][STACK_BYTES];
extern const struct il_program *machine_program;
extern bool machine_violated; /* and what is wrong: */
extern char machine_violation[512];
extern bool machine_loud;        /* steps are printed */
extern bool machine_start_again; /* an address is newly known as shared */

/* For a new search: an empty state, in which the program's setup has not run. */
void machine_clear(void);
void machine_start_thread(unsigned i);

/* Make the access that thread i stands before; true: the thread goes on. variant: which sleeper a
 * wake-up wakes. */
bool machine_perform(unsigned i, unsigned variant);
/* Run it to its next step. */
void machine_resume(unsigned i);

/* Stores may overtake each other where their memory orders let them, as they do elsewhere than on x86. */
extern bool machine_weak;

/* May the thread's buffered store k become visible now? */
bool machine_may_drain(const struct thread *t, uint32_t k);

/* Buffered store k, all of them in order, the line i of the thread become visible. */
void machine_drain_one(struct thread *t, uint32_t k);
void machine_drain(struct thread *t);
void machine_show(struct thread *t, uint32_t i);

/* Which addresses are shared, over all searches; each is 4 bytes of the arena. */
void machine_forget(void);
bool machine_knows(unsigned k);
void machine_learn(unsigned k);

/* --- arena.c: what is saved, restored and compared ----------------------------------------------- */

extern uint8_t arena[ARENA_BYTES];

/* Take everything back; then the arena begins with the machine. */
void arena_clear(void);
const char *arena_name(uint32_t offset);

/* States by number. A hash is never 0. */
void state_forget(void);
void state_save(unsigned index);
void state_load(unsigned index);
uint64_t state_hash(uint64_t seed);

#endif
