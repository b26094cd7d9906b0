/* guard.c: the SIGBUS handler, and calls that survive it.
 *
 * In the handler: siginfo, atomics, thread-local words of the initial-exec model (the others may
 * allocate when a thread first touches them), raw system calls. Nothing else.
 *
 * What a signal can be, in this order:
 *   sent by somebody (si_code <= 0)       passed on
 *   not at an address of a known mapping  passed on, also inside a guard: it is somebody else's bug
 *   asynchronous (BUS_MCEERR_AO)          remembered (guard_take_late); the thread goes on
 *   inside a guard                        siglongjmp: only our own loads and stores are left this way
 *   elsewhere                             the owner's rescue, else its last words and the default action
 *
 * Passing on. The actions that were found installed are kept as a stack, newest last. If an application
 * chains to us as we chain to it, a signal that belongs to neither comes round again: the same siginfo
 * on a deeper frame, raised anew, or the fault once more. Then it is passed on to the action before. (A thread-local depth would not
 * do: the application's handler may leave by siglongjmp.) The default action is taken by restoring it
 * and returning: the access is repeated, and the core shows the right place.
 *
 * SA_NODEFER and an empty mask: a fault while the handler runs, or one on a thread that blocks SIGBUS
 * while another handler runs, would end the process. SA_ONSTACK: threads with small stacks.
 */
#include "engine/guard.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef BUS_MCEERR_AR
#define BUS_MCEERR_AR 4
#define BUS_MCEERR_AO 5
#endif

#define GUARD_MAPS 16384u /* a store has some ten, and one for each GiB of scratch */
#define GUARD_CHAIN 8u
#define GUARD_LATE 64u
/* So often in a row a page is rescued for one thread before it is believed that it does not help. */
#define GUARD_RESCUES 3u

/* So often in a row a fault is passed on to an action that returns, before it is the next one's. */
#define GUARD_RETURNS 8u

#define GUARD_TLS static _Thread_local __attribute__((tls_model("initial-exec")))

struct guard {
    sigjmp_buf env;
    struct guard_fault fault;
};

struct guard_map {
    _Atomic uintptr_t addr; /* 0: free; stored last, cleared first */
    _Atomic uintptr_t bytes;
    _Atomic uint64_t offset;
    _Atomic(struct guard_owner *) owner;
};

/* Written under guard_lock, read by the handler. */
static pthread_mutex_t guard_lock = PTHREAD_MUTEX_INITIALIZER;
static struct guard_map guard_maps[GUARD_MAPS];
static _Atomic unsigned guard_map_high;
static struct sigaction guard_chain[GUARD_CHAIN];
static _Atomic unsigned guard_chain_count;

static _Atomic uintptr_t guard_late_pages[GUARD_LATE]; /* page addresses, 0: free */
static _Atomic uint64_t guard_passed_on, guard_caught, guard_rescued, guard_late_count;

GUARD_TLS struct guard *volatile guard_now;
GUARD_TLS bool guard_thread_open; /* SIGBUS is not blocked in it */
GUARD_TLS const void *volatile guard_seen_info;
GUARD_TLS uintptr_t volatile guard_seen_frame;
GUARD_TLS unsigned volatile guard_seen_level;
GUARD_TLS uintptr_t volatile guard_returned_pc;   /* of a fault that was passed on, and the action */
GUARD_TLS uintptr_t volatile guard_returned_addr; /* returned; 0: none */
GUARD_TLS unsigned volatile guard_returned_times;
GUARD_TLS uintptr_t volatile guard_rescued_page;
GUARD_TLS unsigned volatile guard_rescued_times;

/* --- mappings ----------------------------------------------------------------------------------- */

static bool guard_find(uintptr_t at, struct guard_owner **owner_out, uint64_t *offset_out)
{
    unsigned high = atomic_load_explicit(&guard_map_high, memory_order_acquire);
    for (unsigned i = 0; i < high; i++) {
        struct guard_map *m = &guard_maps[i];
        /* Acquire: pairs with guard_map_add; loaded again, since the entry may be another's by now. */
        uintptr_t addr = atomic_load_explicit(&m->addr, memory_order_acquire);
        if (addr == 0 || at < addr || at - addr >= atomic_load(&m->bytes))
            continue;
        *owner_out = atomic_load(&m->owner);
        *offset_out = atomic_load(&m->offset) + (at - addr);
        if (atomic_load(&m->addr) == addr)
            return true;
    }
    return false;
}

dax_rc guard_map_add(const void *addr, size_t bytes, uint64_t offset, struct guard_owner *owner,
                     struct dax_err *err)
{
    dax_rc rc = DAX_OK;
    pthread_mutex_lock(&guard_lock);
    unsigned i = 0, high = atomic_load(&guard_map_high);
    while (i < high && atomic_load(&guard_maps[i].addr) != 0)
        i++;
    if (i == GUARD_MAPS) {
        rc = dax_err_set(err, DAX_FULL, 0, "more than %u mappings of databases in this process",
                         GUARD_MAPS);
    } else {
        struct guard_map *m = &guard_maps[i];
        atomic_store(&m->bytes, bytes);
        atomic_store(&m->offset, offset);
        atomic_store(&m->owner, owner);
        atomic_store_explicit(&m->addr, (uintptr_t)addr, memory_order_release);
        if (i == high)
            atomic_store_explicit(&guard_map_high, high + 1, memory_order_release);
    }
    pthread_mutex_unlock(&guard_lock);
    return rc;
}

void guard_map_remove(const void *addr)
{
    if (!addr)
        return;
    pthread_mutex_lock(&guard_lock);
    unsigned high = atomic_load(&guard_map_high);
    for (unsigned i = 0; i < high; i++)
        if (atomic_load(&guard_maps[i].addr) == (uintptr_t)addr)
            atomic_store(&guard_maps[i].addr, 0);
    pthread_mutex_unlock(&guard_lock);
}

/* --- passing on --------------------------------------------------------------------------------- */

static void guard_default(int sig, const siginfo_t *info)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    sigaction(sig, &action, NULL);
    if (info->si_code <= 0) /* sent: it does not repeat itself */
        syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), sig);
}

static void guard_run_action(struct sigaction *action, int sig, siginfo_t *info, void *context)
{
    struct sigaction a = *action;
    sigset_t mask = a.sa_mask, before;
    if (a.sa_flags & SA_RESETHAND)
        action->sa_handler = SIG_DFL;
    if (!(a.sa_flags & SA_NODEFER))
        sigaddset(&mask, sig);
    pthread_sigmask(SIG_BLOCK, &mask, &before);
    if (a.sa_flags & SA_SIGINFO)
        a.sa_sigaction(sig, info, context);
    else
        a.sa_handler(sig);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Is this what became of a signal that was passed on already, and with how many actions behind it?
 * The same signal, from an application that chains to us. One that it raises while it handles the first
 * (faulthandler: restores what it found, us, and raises). Or the fault again, once more since it
 * returned without mending anything (crash reporters: restore, and return). */
static unsigned guard_level(const siginfo_t *info, uintptr_t frame, uintptr_t pc)
{
    bool inside = guard_seen_info != NULL && frame < guard_seen_frame;
    bool raised = info->si_code == SI_TKILL && info->si_pid == getpid();
    if (inside && (guard_seen_info == info || raised))
        return guard_seen_level + 1;
    if (info->si_code > 0 && guard_returned_pc == pc &&
        guard_returned_addr == (uintptr_t)info->si_addr)
        return ++guard_returned_times / GUARD_RETURNS;
    guard_returned_times = 0;
    return 0;
}

static uintptr_t guard_pc(const void *context)
{
#if defined(__x86_64__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.pc;
#else
    (void)context;
    return 0;
#endif
}

static void guard_pass_on(int sig, siginfo_t *info, void *context)
{
    uintptr_t frame = (uintptr_t)__builtin_frame_address(0), pc = guard_pc(context);
    unsigned level = guard_level(info, frame, pc);
    unsigned count = atomic_load_explicit(&guard_chain_count, memory_order_acquire);
    atomic_fetch_add_explicit(&guard_passed_on, level == 0, memory_order_relaxed);
    if (level >= count) {
        guard_default(sig, info);
        return;
    }
    struct sigaction *action = &guard_chain[count - 1 - level];
    bool has_function = action->sa_flags & SA_SIGINFO ||
                        (action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN);
    if (!has_function) {
        /* Ignoring a fault is not possible: the kernel ends the process, too. */
        if (action->sa_handler != SIG_IGN || info->si_code > 0)
            guard_default(sig, info);
        return;
    }
    guard_seen_info = info;
    guard_seen_frame = frame;
    guard_seen_level = level;
    guard_returned_pc = 0; /* it may not return */
    guard_run_action(action, sig, info, context);
    guard_seen_info = NULL;
    guard_returned_pc = info->si_code > 0 ? pc : 0;
    guard_returned_addr = (uintptr_t)info->si_addr;
}

/* --- the handler -------------------------------------------------------------------------------- */

static void guard_remember(uintptr_t page)
{
    atomic_fetch_add_explicit(&guard_late_count, 1, memory_order_relaxed);
    for (unsigned i = 0; i < GUARD_LATE; i++) {
        uintptr_t none = 0;
        if (atomic_load(&guard_late_pages[i]) == page ||
            atomic_compare_exchange_strong(&guard_late_pages[i], &none, page))
            return;
    } /* full: whoever reads the page finds out */
}

static bool guard_rescue(struct guard_owner *owner, uint64_t offset, const struct guard_fault *fault)
{
    uintptr_t page = (uintptr_t)fault->addr & ~(uintptr_t)(DAX_PAGE_BYTES - 1);
    guard_rescued_times = guard_rescued_page == page ? guard_rescued_times + 1 : 1;
    guard_rescued_page = page;
    if (guard_rescued_times > GUARD_RESCUES || !owner->rescue(owner, offset, fault))
        return false;
    atomic_fetch_add_explicit(&guard_rescued, 1, memory_order_relaxed);
    return true;
}

static void guard_handler(int sig, siginfo_t *info, void *context)
{
    int saved = errno;
    struct guard_owner *owner;
    uint64_t offset;
    uintptr_t at = (uintptr_t)info->si_addr;
    if (info->si_code <= 0 || !guard_find(at, &owner, &offset)) {
        guard_pass_on(sig, info, context);
        errno = saved;
        return;
    }
    unsigned shift = DAX_PAGE_SHIFT;
    if ((info->si_code == BUS_MCEERR_AR || info->si_code == BUS_MCEERR_AO) &&
        info->si_addr_lsb > DAX_PAGE_SHIFT && info->si_addr_lsb < 48)
        shift = (unsigned)info->si_addr_lsb;
    struct guard_fault fault = {(const uint8_t *)at, UINT64_C(1) << shift, offset, info->si_code};
    struct guard *g = guard_now;
    if (info->si_code == BUS_MCEERR_AO) {
        guard_remember(at & ~(uintptr_t)(DAX_PAGE_BYTES - 1));
    } else if (g) {
        g->fault = fault;
        guard_now = NULL;
        atomic_fetch_add_explicit(&guard_caught, 1, memory_order_relaxed);
        errno = saved;
        siglongjmp(g->env, 1);
    } else if (!guard_rescue(owner, offset, &fault)) {
        owner->fatal(owner, offset, &fault);
        guard_default(sig, info);
    }
    errno = saved;
}

static bool guard_is_ours(const struct sigaction *a)
{
    return a->sa_flags & SA_SIGINFO && a->sa_sigaction == guard_handler;
}

dax_rc guard_install(struct dax_err *err)
{
    struct sigaction now, ours;
    dax_rc rc = DAX_OK;
    bool again = false;
    pthread_mutex_lock(&guard_lock);
    if (sigaction(SIGBUS, NULL, &now) != 0) {
        rc = dax_err_set(err, DAX_CANT_OPEN, errno, "cannot look at the SIGBUS handler");
        goto out;
    }
    if (guard_is_ours(&now))
        goto out;
    unsigned count = atomic_load(&guard_chain_count);
    again = count > 0;
    const struct sigaction *top = count ? &guard_chain[count - 1] : NULL;
    /* What was put back may be what we chain to already. */
    bool known = top && memcmp(&top->sa_sigaction, &now.sa_sigaction, sizeof now.sa_sigaction) == 0 &&
                 top->sa_flags == now.sa_flags;
    if (!known) {
        unsigned place = count < GUARD_CHAIN ? count : GUARD_CHAIN - 1;
        guard_chain[place] = now;
        /* Release: the handler finds the action whole. */
        atomic_store_explicit(&guard_chain_count, place + 1, memory_order_release);
    }
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = guard_handler;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&ours.sa_mask);
    if (sigaction(SIGBUS, &ours, NULL) != 0)
        rc = dax_err_set(err, DAX_CANT_OPEN, errno, "cannot install the SIGBUS handler");
out:
    pthread_mutex_unlock(&guard_lock);
    if (again && rc == DAX_OK)
        dax_log(DAX_OK, "the SIGBUS handler was replaced since the last database was opened: it is in "
                        "front again and passes on what is not a database's; install handlers of your "
                        "own before databases are opened");
    return rc;
}

/* --- guarded calls ------------------------------------------------------------------------------- */

/* The thread sanitizer blocks signals while a handler runs. */
#if defined(__SANITIZE_THREAD__)
#define GUARD_SAVES_MASK 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define GUARD_SAVES_MASK 1
#endif
#endif
#ifndef GUARD_SAVES_MASK
#define GUARD_SAVES_MASK 0
#endif

/* Threads of servers often block every signal. A fault would end the process there, whatever the
 * handler; so a thread is asked once, and SIGBUS let in. */
__attribute__((noinline)) static void guard_open_thread(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGBUS);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    guard_thread_open = true;
}

/* Not inlined: a function that sigsetjmp returns to twice keeps no variable in a register. */
__attribute__((noinline)) bool guard_call(void (*fn)(void *arg), void *arg, struct guard_fault *fault)
{
    struct guard g;
    DAX_ASSERT(guard_now == NULL);
    if (!guard_thread_open)
        guard_open_thread();
    if (sigsetjmp(g.env, GUARD_SAVES_MASK) != 0) {
        if (fault)
            *fault = g.fault;
        return false;
    }
    guard_now = &g;
    /* The compiler moves no access of fn across these. */
    atomic_signal_fence(memory_order_seq_cst);
    fn(arg);
    atomic_signal_fence(memory_order_seq_cst);
    guard_now = NULL;
    return true;
}

_Noreturn void guard_fail(const void *addr, int e)
{
    struct guard_owner *owner;
    struct guard_fault fault = {.addr = addr, .bytes = DAX_PAGE_BYTES, .code = -e};
    struct guard *g = guard_now;
    if (!guard_find((uintptr_t)addr, &owner, &fault.offset))
        abort(); /* nobody's: not ours to go on with */
    if (!g) {
        owner->fatal(owner, fault.offset, &fault);
        abort();
    }
    g->fault = fault;
    guard_now = NULL;
    atomic_fetch_add_explicit(&guard_caught, 1, memory_order_relaxed);
    siglongjmp(g->env, 1);
}

struct guard_piece {
    void *to;
    const void *from;
    size_t len;
};

static void guard_copy_piece(void *arg)
{
    const struct guard_piece *p = arg;
    memcpy(p->to, p->from, p->len);
}

bool guard_copy(void *to, const void *from, size_t len, struct guard_fault *fault)
{
    struct guard_piece p = {to, from, len};
    return guard_call(guard_copy_piece, &p, fault);
}

/* Others may be storing there: what is loaded is not used. */
#if GUARD_SAVES_MASK
__attribute__((no_sanitize("thread")))
#endif
static void guard_probe_piece(void *arg)
{
    const struct guard_piece *p = arg;
    const volatile uint8_t *at = p->from;
    /* From addr on, then at the beginning of each line. */
    for (size_t i = 0; i < p->len; i += DAX_LINE_BYTES - ((uintptr_t)(at + i) & (DAX_LINE_BYTES - 1)))
        (void)at[i];
}

bool guard_probe(const void *addr, size_t len, struct guard_fault *fault)
{
    struct guard_piece p = {NULL, addr, len};
    return guard_call(guard_probe_piece, &p, fault);
}

/* --- what has been seen --------------------------------------------------------------------------- */

size_t guard_take_late(const struct guard_owner *owner, uint64_t *offsets, size_t max)
{
    size_t n = 0;
    for (unsigned i = 0; i < GUARD_LATE && n < max; i++) {
        struct guard_owner *who;
        uintptr_t page = atomic_load(&guard_late_pages[i]);
        if (page != 0 && guard_find(page, &who, &offsets[n]) && who == owner &&
            atomic_compare_exchange_strong(&guard_late_pages[i], &page, 0))
            n++;
    }
    return n;
}

void guard_count(struct guard_counts *out)
{
    *out = (struct guard_counts){atomic_load(&guard_passed_on), atomic_load(&guard_caught),
                                 atomic_load(&guard_rescued), guard_late()};
}

uint64_t guard_late(void)
{
    return atomic_load_explicit(&guard_late_count, memory_order_relaxed);
}
