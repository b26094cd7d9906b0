/* explore.h: the scheduler and the search. See explore.c.
 */
#ifndef TESTS_INTERLEAVE_EXPLORE_H
#define TESTS_INTERLEAVE_EXPLORE_H

#define IL_ATOMICS_ONLY 1
#include "tests/interleave/atomics.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IL_THREADS 4u

/* What a program is made of: a state that `setup` makes, threads that change it, and what must hold
 * when all of them have ended and every store buffer is empty. */
struct il_program {
    const char *name;
    const char *what;
    void (*setup)(void);
    void (*thread[IL_THREADS])(void);
    void (*finish)(void);
    unsigned preemptions; /* 0: all interleavings; else a bound */
    unsigned timeouts;    /* how many sleeps may end by themselves */
};

/* Everything that threads share, or that a thread keeps outside its stack, is in the arena: registered
 * pieces are saved and restored as the search goes back, and tell states apart if `counts`. */
void *il_arena(size_t bytes);
void il_keep(void *at, size_t bytes, bool counts);

/* These bytes are persistent memory: what persist_store stores there becomes visible line by line, in
 * any order, at the latest with the fence. */
void il_nontemporal(void *at, size_t bytes);
void il_nt_store(void *to, const void *from, size_t bytes);
void il_nt_fence(void);

/* Plain loads of these bytes by a thread that is not the writer are steps of their own. */
void il_shared_bytes(void *at, size_t bytes);

/* Counters that no protocol goes by: no steps. */
void il_counters(void *at, size_t bytes);

/* Who holds the lock: tells whether this thread does. */
void il_lock(bool (*held)(unsigned thread));

/* These bytes are the lock holder's alone: no steps. Somebody else's access makes them steps. */
void il_guarded(void *at, size_t bytes);

/* Anybody loads these bytes, the lock holder stores to them: a store by somebody else is a violation,
 * and the holder's own loads, which nobody can change, are no steps. */
void il_stored_by_holder(void *at, size_t bytes);

/* The same for what one thread alone stores to. */
void il_stored_by(void *at, size_t bytes, unsigned thread);

/* Names of addresses in the trace. stride: an array of that. */
void il_name(const char *name, const void *at, size_t bytes, size_t stride);

/* In a thread: a step that others may come before. */
void il_point(const char *what);

/* The same before the system does something for the thread, which comes after its own stores. */
void il_system(const char *what);

/* The running thread's number, or IL_THREADS in setup and finish. */
unsigned il_self(void);

/* Something is wrong. Does not return in a thread. */
__attribute__((format(printf, 1, 2))) void il_violation(const char *fmt, ...);

#define IL_MUST(cond, ...)                                                                         \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            il_violation(__VA_ARGS__);                                                             \
            return;                                                                                \
        }                                                                                          \
    } while (0)

struct il_result {
    bool violated;
    bool complete; /* nothing within the bound is left out */
    uint64_t states;
    uint64_t steps;
    uint64_t ends;        /* at which all threads had ended */
    double interleavings; /* that these states and steps make up; each is one order of steps */
    unsigned depth;
    char text[512]; /* of the violation */
    char *schedule; /* that leads to it; freed by the caller */
};

/* The protocols (programs.c), and pages that go bad under them (programs_bad.c); programs that show what the explorer's memory can and cannot do (litmus.c); each list is
 * ended by an empty one. */
extern const struct il_program programs[], programs_bad[];
extern const struct il_program litmus_programs[];

/* Search. max_states: give up above it. */
struct il_result il_explore(const struct il_program *p, unsigned preemptions, uint64_t max_states);

/* From now on stores are as weak as C's orders let them be, not as x86 has them. */
void il_weak(void);

/* Forget which addresses are shared: before the first search of another program. */
void il_forget(void);

/* Run one schedule and print each of its steps. */
struct il_result il_replay(const struct il_program *p, const char *schedule);

#endif
