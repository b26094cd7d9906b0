/* badblocks.h: which bytes of an open file the kernel already knows to be bad.
 *
 * The kernel keeps, for a block device on persistent memory, a list of the sectors that it will not
 * let anybody read. badblocks_read says which pages of the file lie on them, so that they can be
 * flagged before somebody's load meets them.
 */
#ifndef DAX_BADBLOCKS_H
#define DAX_BADBLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/rc.h"

struct badblocks;

/* Called with file offsets: whole pages, ascending, neither overlapping nor touching. They may lie
 * beyond the end of the file, where the file system has reserved space. */
typedef void (*badblocks_fn)(void *arg, uint64_t offset, uint64_t bytes);

/* Find the list of the device below the open regular file fd, which stays the caller's and must be
 * open until badblocks_close; path is for messages. All memory is taken here (about 320 KiB of
 * address space). DAX_OK with *out = NULL where nothing is known: no device (tmpfs), a device
 * without a list, one whose sectors cannot be told from the file's offsets (badblocks.c says which),
 * no sysfs. Every function below takes that NULL, as a list that is empty and stays so. Errors:
 * DAX_NOMEM, DAX_CANT_OPEN (out of descriptors), DAX_IO_READ. Any thread. */
DAX_CHECKED dax_rc badblocks_open(int fd, const char *path, struct badblocks **out,
                                  struct dax_err *err);

/* Whether the driver has told of a change since the last badblocks_read; true before the first. One
 * system call. Any thread, at any time until badblocks_close. The kernel does not tell of what an
 * administrator writes into the list: badblocks_differs finds that, too. */
bool badblocks_changed(struct badblocks *b);

/* Whether the list is not what the last badblocks_read saw, or cannot be read; true before the
 * first. Reads it. One thread at a time in this and badblocks_read. */
bool badblocks_differs(struct badblocks *b);

/* Read the list and call fn for each range of the file that lies on it. What fn is told is true also
 * when an error comes after it; blocks that the file is given during or after the call are not looked
 * at. Errors: DAX_NOMEM; DAX_IO_READ: the device is gone (and badblocks_changed stays false from then on), or
 * the file system does not say where the file lies. One thread at a time in this and
 * badblocks_differs; fn may not call either. */
DAX_CHECKED dax_rc badblocks_read(struct badblocks *b, badblocks_fn fn, void *arg,
                                  struct dax_err *err);

/* Whether the device has, or may have, more bad sectors than the last badblocks_read was shown: the
 * kernel shows one page of text, a few hundred ranges. Same thread as badblocks_read. */
bool badblocks_incomplete(const struct badblocks *b);

void badblocks_close(struct badblocks *b);

/* For tests: another directory than /sys; NULL: /sys again. It must outlive its use. */
void badblocks_sysfs_set(const char *root);

#endif
