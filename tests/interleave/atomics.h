/* atomics.h: included in front of every engine file of the explorer (-include): each atomic access, and
 * each other thing that threads can notice of each other, becomes a call of the scheduler.
 *
 * The engine's source is compiled as it is. Changed are only limits of limits.h, so that rings wrap and
 * lists end after a few steps, and what the system would do: futexes, clocks, mappings, cutting a file.
 */
#ifndef TESTS_INTERLEAVE_ATOMICS_H
#define TESTS_INTERLEAVE_ATOMICS_H

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine/limits.h"

#undef DAX_UNFLUSHED_PAGES
#define DAX_UNFLUSHED_PAGES 4u
#undef DAX_MAX_PAGES
#define DAX_MAX_PAGES UINT64_C(16)
#undef DAX_MAX_NODES
#define DAX_MAX_NODES UINT32_C(16)
#undef DAX_MAX_SLOTS
#define DAX_MAX_SLOTS 6u
#undef DAX_FRAMES_RETAIN
#define DAX_FRAMES_RETAIN 10u
#undef DAX_FRAMES_TRIM_BATCH
#define DAX_FRAMES_TRIM_BATCH 1u
#undef DAX_COMMIT_RING
#define DAX_COMMIT_RING 2u
#undef DAX_WRITER_TURN_NS /* turns are over at once: nobody relies on its sleep to end by itself */
#define DAX_WRITER_TURN_NS 0
#undef DAX_MIB /* the unit in which the file grows, is mapped and cut becomes one page */
#define DAX_MIB UINT64_C(2048)

/* Where an access stands, for the trace. */
struct il_site {
    const char *function;
    int line;
    const char *what;
};

enum il_kind {
    IL_LOAD,
    IL_STORE,
    IL_EXCHANGE,
    IL_COMPARE, /* and exchange */
    IL_ADD,
    IL_SUB,
    IL_FENCE, /* the end of non-temporal stores */
    IL_POINT, /* before plain loads of shared bytes */
    IL_FUTEX_WAIT,
    IL_FUTEX_WAKE,
    IL_MEMBARRIER /* each thread's stores become visible */
};

uint64_t il_access(enum il_kind kind, const volatile void *at, size_t size, int order,
                   uint64_t value, uint64_t expected, const struct il_site *site);
void *il_memcpy(void *to, const void *from, size_t n, const struct il_site *site);
long il_syscall(long number, ...);
int il_clock_gettime(clockid_t clock, struct timespec *t);
void *il_mmap(void *addr, size_t bytes, int prot, int flags, int fd, off_t offset);
int il_munmap(void *addr, size_t bytes);
int il_madvise(void *addr, size_t bytes, int advice);
int il_ftruncate(int fd, off_t bytes);
int il_fallocate(int fd, int mode, off_t offset, off_t bytes);
int il_fsync(int fd);
ssize_t il_pread(int fd, void *to, size_t n, off_t at);
ssize_t il_pwrite(int fd, const void *from, size_t n, off_t at);
off_t il_lseek(int fd, off_t offset, int whence);
void *il_alloc(size_t bytes);
int il_mutex_lock(pthread_mutex_t *m);
int il_mutex_unlock(pthread_mutex_t *m);
void il_membarrier(void);
void il_relax(const char *function);

#define IL_SITE(text) static const struct il_site il_site = {__func__, __LINE__, text}
#define IL_PLAIN(p) __typeof__((void)0, *(p))
#define IL_BITS(x) ((uint64_t)(uintptr_t)(x))

#undef atomic_load_explicit
#undef atomic_load
#undef atomic_store_explicit
#undef atomic_store
#undef atomic_exchange
#undef atomic_exchange_explicit
#undef atomic_fetch_add
#undef atomic_fetch_add_explicit
#undef atomic_fetch_sub
#undef atomic_compare_exchange_strong
#undef atomic_compare_exchange_strong_explicit
#undef atomic_compare_exchange_weak
#undef atomic_compare_exchange_weak_explicit

#define atomic_load_explicit(p, order)                                                             \
    __extension__({                                                                                \
        IL_SITE(#p);                                                                               \
        __auto_type il_p = (p);                                                                    \
        (IL_PLAIN(il_p))(uintptr_t) il_access(IL_LOAD, il_p, sizeof *il_p, order, 0, 0, &il_site); \
    })
#define atomic_load(p) atomic_load_explicit(p, memory_order_seq_cst)

#define atomic_store_explicit(p, v, order)                                                         \
    __extension__({                                                                                \
        IL_SITE(#p);                                                                               \
        __auto_type il_p = (p);                                                                    \
        IL_PLAIN(il_p) il_v = (v);                                                                 \
        (void)il_access(IL_STORE, il_p, sizeof *il_p, order, IL_BITS(il_v), 0, &il_site);          \
    })
#define atomic_store(p, v) atomic_store_explicit(p, v, memory_order_seq_cst)

#define IL_RMW(kind, p, v)                                                                         \
    __extension__({                                                                                \
        IL_SITE(#p);                                                                               \
        __auto_type il_p = (p);                                                                    \
        IL_PLAIN(il_p) il_v = (v);                                                                 \
        (IL_PLAIN(il_p))(uintptr_t)                                                                \
            il_access(kind, il_p, sizeof *il_p, memory_order_seq_cst, IL_BITS(il_v), 0, &il_site); \
    })
#define atomic_exchange(p, v) IL_RMW(IL_EXCHANGE, p, v)
#define atomic_exchange_explicit(p, v, order) IL_RMW(IL_EXCHANGE, p, v)
#define atomic_fetch_add(p, v) IL_RMW(IL_ADD, p, v)
#define atomic_fetch_add_explicit(p, v, order) IL_RMW(IL_ADD, p, v)
#define atomic_fetch_sub(p, v) IL_RMW(IL_SUB, p, v)

#define atomic_compare_exchange_strong(p, e, v)                                                    \
    __extension__({                                                                                \
        IL_SITE(#p);                                                                               \
        __auto_type il_p = (p);                                                                    \
        IL_PLAIN(il_p) il_v = (v), *il_e = (e);                                                    \
        IL_PLAIN(il_p)                                                                             \
        il_old = (IL_PLAIN(il_p))(uintptr_t)il_access(IL_COMPARE, il_p, sizeof *il_p,              \
                                                      memory_order_seq_cst, IL_BITS(il_v),         \
                                                      IL_BITS(*il_e), &il_site);                   \
        bool il_same = il_old == *il_e;                                                            \
        *il_e = il_old;                                                                            \
        il_same;                                                                                   \
    })
#define atomic_compare_exchange_strong_explicit(p, e, v, yes, no)                                  \
    atomic_compare_exchange_strong(p, e, v)
#define atomic_compare_exchange_weak(p, e, v) atomic_compare_exchange_strong(p, e, v)
#define atomic_compare_exchange_weak_explicit(p, e, v, yes, no)                                    \
    atomic_compare_exchange_strong(p, e, v)

#define IL_HERE(text)                                                                              \
    (__extension__({                                                                               \
        IL_SITE(text);                                                                             \
        &il_site;                                                                                  \
    }))

#ifndef IL_ATOMICS_ONLY
#define DAX_CPU_H /* instead of cpu.h */
#define cpu_relax() il_relax(__func__)
#undef memcpy
#define memcpy(to, from, n) il_memcpy(to, from, n, IL_HERE("memcpy"))
#define syscall il_syscall
#define SNAPSHOT_CACHES_THREAD 0 /* all of them are one to the kernel */
#define clock_gettime il_clock_gettime
#define mmap il_mmap
#define munmap il_munmap
#define madvise il_madvise
#define ftruncate il_ftruncate
#define fallocate il_fallocate
#define fsync il_fsync
#define lseek il_lseek
#define pread il_pread
#define pwrite il_pwrite
#define sched_yield() 0
#define pthread_mutex_lock(m) il_mutex_lock(m)
#define pthread_mutex_unlock(m) il_mutex_unlock(m)
#define malloc il_alloc
#define aligned_alloc(align, bytes) il_alloc(bytes)
#endif

#endif
