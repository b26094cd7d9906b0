/* last_words.h: whose page is it, asked in a signal handler when no map was ever made.
 */
#ifndef DAX_VFS_LAST_WORDS_H
#define DAX_VFS_LAST_WORDS_H

#include "engine/media_state.h"

/* ` (table "orders", leaf)` for engine page `page`, found by walking the trees through r, into at most max
 * bytes, without a terminator; returns how many, 0: not found in time, or another thread is at it.
 * Async-signal-safe if r->read is. */
size_t last_words_search(const struct media_reader *r, uint64_t page, char *to, size_t max);

#endif
