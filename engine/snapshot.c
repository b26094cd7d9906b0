/* snapshot.c: beginning, publishing and ending of snapshots.
 *
 * Beginning is the reader's half of a Dekker pair. The slot's store comes before the second load of
 * last_committed; the writer's store of last_committed comes before its scan of the slots. So a
 * writer that does not see the slot has published before the second load, the reader sees that, and
 * tries again with the newer state.
 *
 * The size of a state is looked up in a ring of recent commits, whose entries are invalidated
 * before they are changed; a reader that was too slow starts over.
 */
#include "engine/snapshot.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine/owner.h"

/* Not where threads are simulated (tests/interleave). */
#ifndef SNAPSHOT_CACHES_THREAD
#define SNAPSHOT_CACHES_THREAD 1
#endif

static _Thread_local int32_t snapshot_tid;

int32_t snapshot_thread(void)
{
    if (!snapshot_tid || !SNAPSHOT_CACHES_THREAD)
        snapshot_tid = (int32_t)syscall(SYS_gettid);
    return snapshot_tid;
}

void snapshot_forget_thread(void)
{
    snapshot_tid = 0;
}

uint32_t snapshot_claim_slot(struct region *r)
{
    for (uint32_t i = 0; i < DAX_MAX_SLOTS; i++) {
        struct slot *slot = &r->slots[i];
        uint32_t expected = 0;
        /* Pairs with the release in snapshot_release_slot. */
        if (!atomic_compare_exchange_strong_explicit(&slot->claimed, &expected, 1,
                                                     memory_order_acquire, memory_order_relaxed))
            continue;
        atomic_store_explicit(&slot->owner_pid, (int32_t)getpid(), memory_order_relaxed);
        atomic_store_explicit(&slot->owner_start, owner_start_time(getpid()),
                              memory_order_relaxed);
        atomic_store_explicit(&slot->number,
                              atomic_fetch_add(&r->header->connection_numbers, 1) + 1,
                              memory_order_relaxed);
        /* Before this slot's first snapshot; pairs with the load in scan_take. */
        uint32_t high = atomic_load(&r->header->slot_high);
        while (high <= i && !atomic_compare_exchange_weak(&r->header->slot_high, &high, i + 1))
            ;
        return i;
    }
    return UINT32_MAX;
}

void snapshot_release_slot(struct region *r, uint32_t slot)
{
    DAX_ASSERT(atomic_load(&r->slots[slot].snapshot) == 0);
    atomic_store_explicit(&r->slots[slot].claimed, 0, memory_order_release);
}

uint64_t snapshot_newest(const struct region *r, uint64_t *size_bytes_out)
{
    for (;;) {
        uint64_t txid = atomic_load_explicit(&r->header->last_committed, memory_order_seq_cst);
        const struct commit_entry *e = &r->header->commits[txid & (DAX_COMMIT_RING - 1)];
        uint64_t size = atomic_load_explicit(&e->size_bytes, memory_order_acquire);
        /* Acquire on the size keeps this load after it; the writer invalidates txid first. */
        if (atomic_load_explicit(&e->txid, memory_order_acquire) == txid) {
            *size_bytes_out = size;
            return txid;
        }
    }
}

uint64_t snapshot_begin(struct region *r, uint32_t slot, uint64_t *size_bytes_out)
{
    struct slot *s = &r->slots[slot];
    uint64_t txid;
    do {
        txid = snapshot_newest(r, size_bytes_out);
        /* Pairs with scan_take's load: see the opening comment. */
        atomic_store_explicit(&s->snapshot, txid, memory_order_seq_cst);
        /* Pairs with snapshot_publish's store. */
    } while (atomic_load_explicit(&r->header->last_committed, memory_order_seq_cst) != txid);

    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    atomic_store_explicit(&s->since_ns, (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec,
                          memory_order_relaxed);
    atomic_store_explicit(&s->tid, snapshot_thread(), memory_order_relaxed);
    return txid;
}

void snapshot_advance(struct region *r, uint32_t slot, uint64_t txid)
{
    atomic_store_explicit(&r->slots[slot].snapshot, txid, memory_order_seq_cst);
}

void snapshot_end(struct region *r, uint32_t slot)
{
    /* Reads of this snapshot happen before a version that it saw is reused: pairs with scan_take's
     * load. Sequentially consistent for conn_tidy, which looks afterwards whether versions are left:
     * either it sees them, or who leaves them sees that this slot is idle. */
    atomic_store_explicit(&r->slots[slot].snapshot, 0, memory_order_seq_cst);
}

void snapshot_publish(struct region *r, uint64_t txid, uint64_t size_bytes)
{
    struct commit_entry *e = &r->header->commits[txid & (DAX_COMMIT_RING - 1)];
    atomic_store_explicit(&e->txid, 0, memory_order_relaxed);
    /* Release keeps the invalidation before the size: pairs with the acquire of the size. */
    atomic_store_explicit(&e->size_bytes, size_bytes, memory_order_release);
    atomic_store_explicit(&e->txid, txid, memory_order_release);
    /* Pairs with both loads in snapshot_begin. */
    atomic_store_explicit(&r->header->last_committed, txid, memory_order_seq_cst);
}

uint64_t snapshot_oldest(const struct region *r)
{
    uint64_t oldest = atomic_load(&r->header->last_committed);
    uint32_t high = atomic_load(&r->header->slot_high);
    for (uint32_t i = 0; i < high; i++) {
        /* For conn_tidy: pairs with snapshot_end's store. */
        uint64_t snapshot = atomic_load_explicit(&r->slots[i].snapshot, memory_order_seq_cst);
        if (snapshot && snapshot < oldest)
            oldest = snapshot;
    }
    return oldest;
}
