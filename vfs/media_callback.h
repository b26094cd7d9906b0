/* media_callback.h: the application's function for media errors.
 *
 * Called with no lock of ours held, never within itself on one thread: an error that is met while the
 * callback runs is delivered after it, by the call that is under way.
 */
#ifndef DAX_VFS_MEDIA_CALLBACK_H
#define DAX_VFS_MEDIA_CALLBACK_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/media.h"
#include "include/daxlite.h"

/* Once per process, before any error can be delivered: 0 or an errno. */
int media_callback_init(void);

/* daxlite_media_callback. */
void media_callback_set(daxlite_media_fn fn, void *arg);

/* Entries of one database. */
struct media_batch {
    struct media_batch *next; /* media_callback.c's */
    const char *path;         /* of the database: within this allocation */
    size_t count;
    struct media_entry entries[];
};

/* All entries of c's store; path is copied. NULL: no memory. For sqlite3_free. */
struct media_batch *media_batch_take(struct conn *c, const char *path);

/* Deliver a batch and give it back to sqlite3_free, at once or, from within the callback, when that has
 * returned. */
void media_callback_deliver(struct media_batch *batch);

#endif
