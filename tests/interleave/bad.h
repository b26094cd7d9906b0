/* bad.h: pages that go bad under the explorer's programs, and what must hold of them.
 *
 * A bad page of base faults for whoever loads from it or stores to it through the mapping. Inside a guard
 * that is a "false"; in a reader's hands the handler is called (media_rescue), and where that says no, the
 * process has died: allowed only in programs that say so. A write of the whole page heals it.
 *
 * In every order of steps: a reader sees its snapshot's bytes, or is refused, never anything else; a page
 * that was bad before its first pin kills nobody; at the end a page is flagged exactly if it has an open
 * entry, and none that is good is flagged, unless the handler healed it or somebody else entered it.
 */
#ifndef TESTS_INTERLEAVE_BAD_H
#define TESTS_INTERLEAVE_BAD_H

#include <sys/types.h>

#include "tests/interleave/explore.h"

struct store;

enum {
    BAD_UNREADABLE = 1, /* for pread, too */
    BAD_READABLE = 2,   /* the mapping alone is bad */
    BAD_STUCK = 4       /* pwrite does not heal it, a punched hole does */
};

/* world_setup, and connections that probe. */
void bad_setup(unsigned pages);

/* The process may die in this program: somebody may have pinned the page before it goes bad, and there may
 * be no copy of it. */
void bad_may_die(void);

/* The page is bad from here on. In a thread: a step. */
void bad_strike(unsigned page, unsigned ways);

/* Somebody says that the page cannot be used (conn_media_add). garble: and so it is, although it can be
 * read. stuck: pwrite will not work. */
void bad_mark(unsigned k, unsigned page, bool garble, bool stuck);

/* Connection k, which is reading: one page by a pin, looked at twice; by a copy; by the scrub. */
void bad_pin(unsigned k, unsigned page);
void bad_copy(unsigned k, unsigned page);
void bad_scrub(unsigned k, unsigned page);

/* A look through a pointer. false: the process has died; the thread is to return. */
bool bad_look(unsigned k, unsigned page, const uint8_t *at);

/* The same through one that was given back: what is there may be anything. */
bool bad_touch(const uint8_t *at, unsigned page);

/* dax_repair(page). */
void bad_repair(unsigned k, unsigned page);

/* At the end: flags and entries fit each other and the pages. false: they do not, which is said. */
bool bad_check_flags(void);

/* Chains, lists, flags, entries; the newest state through connection k, in which the pages of good_mask
 * must be readable. */
void bad_finish(unsigned k, unsigned good_mask);

/* Nothing will be bad: for world_setup. */
void bad_setup_none(struct store *s);

/* --- what the system's calls do (world.c) -------------------------------------------------------- */

/* false: EIO. */
bool bad_may_pread(uint64_t at);
ssize_t bad_pwrite(const void *from, size_t n, uint64_t at);
int bad_punch(uint64_t at, uint64_t bytes);
int bad_madvise(void *addr, size_t bytes);

#endif
