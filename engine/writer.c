/* writer.c: futex lock owned by a slot, and turns. */
#include "engine/writer.h"

#include "engine/cpu.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WRITER_WAITERS UINT32_C(0x80000000)
#define WRITER_SOFT UINT32_C(0x40000000)
#define WRITER_SPINS 64

/* Of header.turn_wanted. */
enum {
    WANTED_NO,
    WANTED,    /* a slot's `turn` may be set */
    WANTED_NOW /* and the present turn is over */
};

static_assert(DAX_MAX_SLOTS < WRITER_SOFT, "a word has room for slot + 1");

static void writer_futex(_Atomic uint32_t *word, int op, uint32_t value,
                         const struct timespec *timeout)
{
    /* EAGAIN, EINTR and ETIMEDOUT all mean: look again. */
    (void)syscall(SYS_futex, word, op, value, timeout, NULL, 0);
}

static void writer_sleep(_Atomic uint32_t *word, uint32_t value, uint64_t ns)
{
    struct timespec timeout = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    writer_futex(word, FUTEX_WAIT, value, &timeout);
}

static uint64_t writer_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- the lock ----------------------------------------------------------------------------------- */

/* Before it is stolen: whoever finds its hold gone finds it counted. */
static void writer_count_stolen(struct region *r)
{
    atomic_fetch_add(&r->header->turns_stolen, 1);
}

/* Take the lock if it is free, or if its word (without the sleepers' bit) is still `soft`, not 0. */
static bool writer_take(struct region *r, uint32_t slot, uint32_t soft)
{
    uint32_t w = 0;
    /* Sequentially consistent for conn_tidy, which stores its flag before. */
    while (w == 0 || (w & ~WRITER_WAITERS) == soft) {
        if (w)
            writer_count_stolen(r);
        if (atomic_compare_exchange_strong(&r->header->writer, &w,
                                           (slot + 1) | (w & WRITER_WAITERS)))
            return true;
    }
    return false;
}

bool writer_trylock(struct region *r, uint32_t slot)
{
    return writer_take(r, slot, 0);
}

/* May the word be taken by the slot? A soft hold only by its owner, and at the end of a wait. */
static bool writer_may_take(uint32_t w, uint32_t slot, bool at_end)
{
    if (w == 0)
        return true;
    return w & WRITER_SOFT && (at_end || (w & ~WRITER_WAITERS) == ((slot + 1) | WRITER_SOFT));
}

/* txid 0: does not mind what others commit. */
static bool writer_sleep_for_lock(struct region *r, uint32_t slot, uint64_t txid, uint64_t wait_ns)
{
    _Atomic uint32_t *word = &r->header->writer;
    uint64_t end = writer_now_ns() + wait_ns;
    bool slept = false;
    for (;;) {
        uint32_t w = atomic_load_explicit(word, memory_order_relaxed);
        uint64_t now = writer_now_ns();
        if (writer_may_take(w, slot, now >= end)) {
            if (w)
                writer_count_stolen(r);
            /* We slept, others may still: keep the bit, or their wake-up is lost. */
            if (atomic_compare_exchange_strong_explicit(word, &w, (slot + 1) | WRITER_WAITERS,
                                                        memory_order_acquire, memory_order_relaxed))
                return true;
            continue;
        }
        bool stale =
            txid && atomic_load_explicit(&r->header->last_committed, memory_order_relaxed) != txid;
        if (stale || now >= end) {
            /* The wake-up may have been for this thread, and another one sleeps on. */
            while (slept && w != 0 && !atomic_compare_exchange_weak(word, &w, w | WRITER_WAITERS))
                ;
            if (slept && w == 0)
                writer_futex(word, FUTEX_WAKE, 1, NULL);
            return false;
        }
        if (!(w & WRITER_WAITERS) &&
            !atomic_compare_exchange_strong_explicit(word, &w, w | WRITER_WAITERS,
                                                     memory_order_relaxed, memory_order_relaxed))
            continue;
        writer_sleep(word, w | WRITER_WAITERS, end - now);
        slept = true;
    }
}

bool writer_lock(struct region *r, uint32_t slot, uint64_t txid, uint64_t wait_ns)
{
    for (int i = 0; i < WRITER_SPINS; i++) {
        if (writer_trylock(r, slot))
            return true;
        if (wait_ns == 0)
            return false;
        cpu_relax();
    }
    return writer_sleep_for_lock(r, slot, txid, wait_ns);
}

static void writer_release(struct region *r)
{
    /* Sequentially consistent for conn_unlock_writer and writer_unlock, which load flags afterwards. */
    uint32_t w = atomic_exchange(&r->header->writer, 0);
    if (w & WRITER_WAITERS)
        writer_futex(&r->header->writer, FUTEX_WAKE, 1, NULL);
}

/* --- turns -------------------------------------------------------------------------------------- */

uint32_t writer_ticket(struct region *r)
{
    uint32_t ticket;
    do
        ticket = atomic_fetch_add(&r->header->turn_tickets, 1) + 1;
    while (ticket == 0);
    return ticket;
}

static void writer_begin_turn(struct region *r)
{
    atomic_store_explicit(&r->header->turn_ends, writer_now_ns() + DAX_WRITER_TURN_NS,
                          memory_order_relaxed);
}

void writer_end_turn(struct region *r)
{
    atomic_store_explicit(&r->header->turn_ends, 0, memory_order_relaxed);
}

/* Who has waited longest, and are there others? UINT32_MAX: nobody waits. */
static uint32_t writer_find_oldest(const struct region *r, uint32_t *ticket_out, bool *others_out)
{
    uint32_t found = UINT32_MAX;
    uint32_t high = atomic_load(&r->header->slot_high);
    *others_out = false;
    for (uint32_t i = 0; i < high; i++) {
        uint32_t ticket = atomic_load(&r->slots[i].turn);
        if (!ticket)
            continue;
        *others_out = found != UINT32_MAX;
        if (found == UINT32_MAX || (int32_t)(ticket - *ticket_out) < 0) {
            found = i;
            *ticket_out = ticket;
        }
    }
    return found;
}

/* The word goes from a slot's hard hold (or soft one, with mark) to another's; who sleeps on it sleeps
 * on. */
static bool writer_change(struct region *r, uint32_t from, uint32_t to)
{
    uint32_t w = from;
    while ((w & ~WRITER_WAITERS) == from)
        if (atomic_compare_exchange_strong(&r->header->writer, &w, to | (w & WRITER_WAITERS)))
            return true;
    return false;
}

/* By the holder: the lock goes softly to whoever has waited longest. false: nobody waits, it is still
 * held. */
static bool writer_give(struct region *r, uint32_t slot)
{
    struct region_header *h = r->header;
    for (;;) {
        uint32_t ticket = 0;
        bool others;
        /* A Dekker pair with writer_await_turn, all sequentially consistent: it stores `turn`, then the
         * flag; here the flag is cleared, then `turn` is loaded. */
        atomic_store(&h->turn_wanted, WANTED_NO);
        uint32_t to = writer_find_oldest(r, &ticket, &others);
        if (to == UINT32_MAX)
            return false;
        if (others)
            atomic_store(&h->turn_wanted, DAX_WRITER_TURN_NS ? WANTED : WANTED_NOW);
        writer_begin_turn(r);
        /* The word first: who finds its `turn` cleared has the hold, or has lost it already. */
        DAX_ASSERT(writer_owner(r) == slot);
        (void)writer_change(r, slot + 1, (to + 1) | WRITER_SOFT);
        uint32_t expected = ticket;
        if (atomic_compare_exchange_strong(&r->slots[to].turn, &expected, 0)) {
            atomic_fetch_add(&h->turns_given, 1);
            if (to != slot)
                writer_futex(&r->slots[to].turn, FUTEX_WAKE, 1, NULL);
            return true;
        }
        /* It has given up meanwhile. If the word is not as it was left, whoever has changed it holds the
         * lock now, and looks at the flag when it releases it. */
        writer_count_stolen(r);
        if (!writer_change(r, (to + 1) | WRITER_SOFT, slot + 1))
            return true;
    }
}

/* Hand over if the lock is free or its word is `soft`. */
static void writer_pass_on(struct region *r, uint32_t slot, uint32_t soft)
{
    do {
        if (!writer_take(r, slot, soft))
            return;
        if (writer_give(r, slot))
            return;
        writer_release(r);
    } while (atomic_load(&r->header->turn_wanted) == WANTED_NOW);
}

void writer_unlock(struct region *r, uint32_t slot)
{
    DAX_ASSERT(writer_owner(r) == slot);
    writer_release(r);
    /* A Dekker pair with writer_await_turn, all sequentially consistent: it stores the flag, then tries
     * the lock; here the lock is released, then the flag is loaded. */
    if (atomic_load(&r->header->turn_wanted) == WANTED_NOW)
        writer_pass_on(r, slot, 0);
}

/* Leave the queue. true: the hold was on its way. */
static bool writer_leave(struct region *r, uint32_t slot, uint32_t ticket)
{
    uint32_t expected = ticket;
    if (!atomic_compare_exchange_strong(&r->slots[slot].turn, &expected, 0))
        return true;
    uint32_t w = atomic_load(&r->header->writer);
    return (w & ~WRITER_WAITERS) == ((slot + 1) | WRITER_SOFT);
}

/* Has the lock been free for longer than it is between two transactions of a busy writer? */
static bool writer_is_idle(const struct region *r)
{
    for (int i = 0; i < WRITER_SPINS; i++) {
        if (atomic_load_explicit(&r->header->writer, memory_order_relaxed) != 0)
            return false;
        cpu_relax();
    }
    return true;
}

/* What one who waits for its turn saw at its last look, and for how long it sleeps until the next. */
struct writer_look {
    uint32_t soft; /* the word, if somebody held the lock softly; else 0 */
    bool idle;
    uint64_t turn_ends;
    uint64_t in_use_ns, sleep_ns;
};

/* Is the turn over? At its end; or before, if whoever's it is does not use it: the lock is as softly held
 * as at the last look, or idle at two looks in a row. At one look it seems idle as well if the scheduler
 * has taken the core from the turn's owner, be it for the one who looks; which then sleeps, and the owner
 * runs on. */
static bool writer_turn_is_over(const struct region *r, uint64_t now, struct writer_look *l,
                                uint32_t *soft_out)
{
    uint32_t w = atomic_load_explicit(&r->header->writer, memory_order_relaxed) & ~WRITER_WAITERS;
    uint64_t ends = atomic_load_explicit(&r->header->turn_ends, memory_order_relaxed);
    bool idle = writer_is_idle(r);
    bool unused = idle && l->idle;
    *soft_out = w & WRITER_SOFT && w == l->soft ? w : 0;
    if (ends != l->turn_ends)
        l->in_use_ns = 0;
    l->soft = w & WRITER_SOFT ? w : 0;
    l->idle = idle;
    l->turn_ends = ends;
    if (l->soft)
        l->sleep_ns = DAX_WRITER_SOFT_NS;
    else if (idle)
        l->sleep_ns = DAX_WRITER_LOOK_NS;
    else
        l->sleep_ns = l->in_use_ns = l->in_use_ns ? 2 * l->in_use_ns : DAX_WRITER_LOOK_NS;
    return *soft_out || unused || now >= ends;
}

bool writer_await_turn(struct region *r, uint32_t slot, uint32_t ticket, uint64_t wait_ns)
{
    struct region_header *h = r->header;
    _Atomic uint32_t *turn = &r->slots[slot].turn;
    for (int i = 0; i < WRITER_SPINS && atomic_load(&h->turn_wanted) == WANTED_NO; i++) {
        uint32_t free = 0;
        if (atomic_compare_exchange_strong(&h->writer, &free, (slot + 1) | WRITER_SOFT)) {
            writer_begin_turn(r);
            return true;
        }
        cpu_relax();
    }
    /* In this order: writer_give, writer_unlock. */
    atomic_store(turn, ticket);
    uint32_t wanted = WANTED_NO, soft;
    struct writer_look look = {0};
    (void)atomic_compare_exchange_strong(&h->turn_wanted, &wanted, WANTED);
    for (uint64_t end = writer_now_ns() + wait_ns;;) {
        uint64_t now = writer_now_ns();
        if (writer_turn_is_over(r, now, &look, &soft)) {
            atomic_store(&h->turn_wanted, WANTED_NOW);
            writer_pass_on(r, slot, soft);
        }
        /* Pairs with writer_give, which has changed the word before. */
        if (atomic_load(turn) == 0)
            return true;
        if (now >= end) {
            bool given = writer_leave(r, slot, ticket);
            if (!given)
                atomic_fetch_add(&h->turns_missed, 1);
            return given;
        }
        /* Whoever holds the lock hands over when it releases it, if the turn is over; else it is for
         * those who wait to find out. */
        uint64_t until = now + look.sleep_ns;
        if (look.turn_ends > now && look.turn_ends < until)
            until = look.turn_ends;
        writer_sleep(turn, ticket, (until < end ? until : end) - now);
    }
}

bool writer_claim(struct region *r, uint32_t slot)
{
    return writer_change(r, (slot + 1) | WRITER_SOFT, slot + 1);
}

/* --- questions ------------------------------------------------------------------------------------ */

bool writer_is_wanted(const struct region *r)
{
    return atomic_load_explicit(&r->header->writer, memory_order_relaxed) & WRITER_WAITERS;
}

uint32_t writer_owner(const struct region *r)
{
    uint32_t w = atomic_load_explicit(&r->header->writer, memory_order_relaxed) & ~WRITER_WAITERS;
    return w && !(w & WRITER_SOFT) ? w - 1 : UINT32_MAX;
}
