/* writer.h: the writer lock of a store.
 *
 * One futex word in the region: 0 free, else the owner's slot + 1, with a bit that says somebody
 * sleeps on it. It is not a pthread robust mutex, because such a mutex belongs to a thread, and an
 * SQLite connection may begin a transaction in one thread and end it in another; the owner here is
 * the slot, which names its process by pid and start time, so that a later version that shares the
 * region between processes can find a dead owner.
 *
 * Turns. A snapshot is taken before the lock, so whoever had to wait for the lock comes too late: the
 * other one has committed. It is refused, starts over, and may be refused for ever while somebody else
 * goes on. Hence the *soft* hold, a second bit of the word: the owner wants the lock, has nothing done
 * with it yet, and takes its snapshot under it. It guards nothing: the owner makes it a hard one by a
 * compare-and-exchange (writer_claim) or finds that it was stolen, and is then where it would have been
 * without. Any other owner of the word is hard, and nobody but itself takes the lock from it.
 *
 * Who was refused waits for a soft hold (writer_await_turn), each in its slot's `turn`, with a ticket
 * that it keeps until it has written. Whoever releases the lock gives it to the lowest ticket, but not
 * before `turn_ends`, unless whoever's turn it is does not use it: those who wait have found the lock free
 * at two looks in a row. A soft hold is stolen
 *   - by whoever has waited for the lock as long as it may;
 *   - by those who wait for their turn, when they look a second time and it is still a soft one.
 * So a soft hold that is forgotten costs them a millisecond, once.
 *
 * Acquire pairs with the release in writer_unlock: all that the previous holder stored is visible.
 * Rank: above store_registry_lock, which no holder of the writer lock waits for.
 */
#ifndef DAX_WRITER_H
#define DAX_WRITER_H

#include "engine/region.h"

/* One attempt, no waiting. A soft hold is left alone: its owner looks at what the caller wants done
 * (conn_tidy) when it gives the lock back. */
bool writer_trylock(struct region *r, uint32_t slot);

/* Wait up to wait_ns; false: still held by somebody else. No system call when the lock is free. txid:
 * the snapshot with which the caller wants to commit; it gives up when another one is published while
 * it waits (true does not say that txid is the newest); 0: the caller does not commit. */
bool writer_lock(struct region *r, uint32_t slot, uint64_t txid, uint64_t wait_ns);

/* Release; hands over to whoever waits for its turn if the present turn is over, else wakes one who
 * sleeps on the lock. */
void writer_unlock(struct region *r, uint32_t slot);

/* A place among those who were refused, for writer_await_turn. Not 0. */
uint32_t writer_ticket(struct region *r);

/* Wait up to wait_ns for a soft hold. true: the slot has it, or had it and lost it. */
bool writer_await_turn(struct region *r, uint32_t slot, uint32_t ticket, uint64_t wait_ns);

/* The slot's soft hold becomes a hard one. false: it was stolen. */
bool writer_claim(struct region *r, uint32_t slot);

/* By the holder: the next writer_unlock hands over. */
void writer_end_turn(struct region *r);

/* Does somebody sleep on the lock? For a holder whose work can be left to the next one. */
bool writer_is_wanted(const struct region *r);

/* Slot that holds the lock (softly does not count), or UINT32_MAX. */
uint32_t writer_owner(const struct region *r);

#endif
