/* writer.c: futex lock owned by a slot. */
#include "engine/writer.h"

#include "engine/cpu.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WRITER_WAITERS UINT32_C(0x80000000)
#define WRITER_SPINS 64

static void writer_futex(_Atomic uint32_t *word, int op, uint32_t value,
                         const struct timespec *timeout)
{
    /* EAGAIN, EINTR and ETIMEDOUT all mean: look again. */
    (void)syscall(SYS_futex, word, op, value, timeout, NULL, 0);
}

static uint64_t writer_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

bool writer_trylock(struct region *r, uint32_t slot)
{
    uint32_t expected = 0;
    /* Sequentially consistent for conn_tidy, which stores its flag before. */
    return atomic_compare_exchange_strong(&r->header->writer, &expected, slot + 1);
}

bool writer_lock(struct region *r, uint32_t slot, uint64_t wait_ns)
{
    for (int i = 0; i < WRITER_SPINS; i++) {
        if (writer_trylock(r, slot))
            return true;
        if (wait_ns == 0)
            return false;
        cpu_relax();
    }
    _Atomic uint32_t *word = &r->header->writer;
    uint64_t end = writer_now_ns() + wait_ns;
    bool slept = false;
    for (;;) {
        uint32_t w = atomic_load_explicit(word, memory_order_relaxed);
        if (w == 0) {
            /* We slept, others may still: keep the bit, or their wake-up is lost. */
            if (atomic_compare_exchange_strong_explicit(word, &w, (slot + 1) | WRITER_WAITERS,
                                                        memory_order_acquire,
                                                        memory_order_relaxed))
                return true;
            continue;
        }
        uint64_t now = writer_now_ns();
        if (now >= end) {
            /* The wake-up may have been for this thread, and another one sleeps on. */
            while (slept && w != 0 &&
                   !atomic_compare_exchange_weak(word, &w, w | WRITER_WAITERS))
                ;
            if (slept && w == 0)
                writer_futex(word, FUTEX_WAKE, 1, NULL);
            return false;
        }
        if (!(w & WRITER_WAITERS) &&
            !atomic_compare_exchange_strong_explicit(word, &w, w | WRITER_WAITERS,
                                                     memory_order_relaxed, memory_order_relaxed))
            continue;
        uint64_t left = end - now;
        struct timespec timeout = {(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
        writer_futex(word, FUTEX_WAIT, w | WRITER_WAITERS, &timeout);
        slept = true;
    }
}

void writer_unlock(struct region *r, uint32_t slot)
{
    DAX_ASSERT(writer_owner(r) == slot);
    (void)slot;
    /* Sequentially consistent for conn_unlock_writer, which loads the flag afterwards. */
    uint32_t w = atomic_exchange(&r->header->writer, 0);
    if (w & WRITER_WAITERS)
        writer_futex(&r->header->writer, FUTEX_WAKE, 1, NULL);
}

bool writer_is_wanted(const struct region *r)
{
    return atomic_load_explicit(&r->header->writer, memory_order_relaxed) & WRITER_WAITERS;
}

uint32_t writer_owner(const struct region *r)
{
    uint32_t w = atomic_load_explicit(&r->header->writer, memory_order_relaxed) & ~WRITER_WAITERS;
    return w ? w - 1 : UINT32_MAX;
}
