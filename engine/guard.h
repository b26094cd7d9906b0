/* guard.h: loads and stores on mapped memory that may fail: SIGBUS as a return code.
 *
 * One handler per process, installed once and chained to the one before it. It knows every mapping of
 * every store (guard_map_add). A fault in one of them, on a thread that is inside guard_call or its
 * kin, ends that call with false. Outside of one - SQLite reads through a pointer that it was given -
 * the mapping's owner may put a good copy in place, or says its last words. Any other SIGBUS is passed
 * on.
 *
 * Guards do not nest, and what runs inside one takes no lock and allocates nothing: it may end
 * anywhere. They cost a sigsetjmp without the signal mask, about 4 ns.
 */
#ifndef DAX_GUARD_H
#define DAX_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/rc.h"

/* What the signal said. */
struct guard_fault {
    const uint8_t *addr;
    uint64_t bytes;  /* suspect: a power of two, the range of that alignment around addr */
    uint64_t offset; /* of addr in the mapped file */
    int code;        /* si_code: BUS_ADRERR, BUS_MCEERR_AR, ...; negative: guard_fail's errno */
};

/* Whoever mapped a file. Both functions run inside the handler, on any thread: async-signal-safe
 * calls and atomics only. */
struct guard_owner {
    /* The byte at `offset` of the file cannot be loaded. true: a good copy is in place, load again. */
    bool (*rescue)(struct guard_owner *o, uint64_t offset, const struct guard_fault *fault);
    /* It cannot be helped: leave a note and a message. The default action follows. */
    void (*fatal)(struct guard_owner *o, uint64_t offset, const struct guard_fault *fault);
};

/* Make sure that the handler is installed: on every open. If somebody has put another one in its place
 * since, it is put in front again, chained to that one, and a log line says so. */
DAX_CHECKED dax_rc guard_install(struct dax_err *err);

/* [addr, addr + bytes) maps the file from `offset` on. Before anybody uses it. DAX_FULL: too many. */
DAX_CHECKED dax_rc guard_map_add(const void *addr, size_t bytes, uint64_t offset,
                                 struct guard_owner *owner, struct dax_err *err);
/* Before it is unmapped. Unknown: no effect. */
void guard_map_remove(const void *addr);

/* Run fn(arg). false: a fault in a known mapping ended it; *fault (may be NULL) says where. */
DAX_CHECKED bool guard_call(void (*fn)(void *arg), void *arg, struct guard_fault *fault);

/* memcpy whose source or target may be mapped. */
DAX_CHECKED bool guard_copy(void *to, const void *from, size_t len, struct guard_fault *fault);

/* A store to addr that cannot be made, with the errno e that says why, though nothing has faulted: what a
 * fault there is. Ends the guarded call with `code` -e; outside of one, or where no mapping is known, the
 * process. */
_Noreturn void guard_fail(const void *addr, int e);

/* Was it a call of guard_fail? Then nothing is wrong with the memory. */
static inline bool guard_is_refusal(const struct guard_fault *fault)
{
    return fault->code < 0;
}

/* Load a word of every line of [addr, addr + len). */
DAX_CHECKED bool guard_probe(const void *addr, size_t len, struct guard_fault *fault);

/* Faults that came asynchronously (BUS_MCEERR_AO) and belong to owner, since the last call: up to max
 * file offsets. */
size_t guard_take_late(const struct guard_owner *owner, uint64_t *offsets, size_t max);

/* How many there were in this process: one relaxed load. */
uint64_t guard_late(void);

/* Signals that were passed on, that ended a guarded call, that were rescued: since the process began. */
struct guard_counts {
    uint64_t passed_on, caught, rescued, late;
};
void guard_count(struct guard_counts *out);

#endif
