/* medium.h: which persistence mode a file's medium allows, and why.
 */
#ifndef DAX_MEDIUM_H
#define DAX_MEDIUM_H

#include <stdbool.h>

#include "engine/persist.h"

enum medium_choice {
    MEDIUM_AUTO,
    MEDIUM_PMEM,
    MEDIUM_MSYNC
};

struct medium {
    enum persist_mode mode;
    char fs_name[32]; /* "ext4", "tmpfs", ... or "0x1234" */
    bool holes_take_space; /* reading one does (tmpfs), so on a full file system it is a SIGBUS */
    char why[160];    /* one sentence for the user: "MAP_SYNC granted by xfs", ... */
};

/* Find the mode for the open regular file fd (path is for messages only).
 *   AUTO:  MAP_SYNC granted -> pmem; tmpfs or ramfs -> volatile; any other local one -> msync.
 *   PMEM:  pmem or volatile, else DAX_CANT_OPEN that says why MAP_SYNC was refused.
 *   MSYNC: msync, on any local file system.
 * Network and FUSE file systems, and anything that is not a regular file: DAX_CANT_OPEN.
 * An empty file is fine (the test maps nothing of it that it touches). Any thread. */
DAX_CHECKED dax_rc medium_detect(int fd, const char *path, enum medium_choice choice,
                                 struct medium *out, struct dax_err *err);

/* The same from a statfs magic number, for tests: refusal of file systems that cannot be mounted
 * there. map_sync_errno: 0 if MAP_SYNC was granted. */
DAX_CHECKED dax_rc medium_judge(long fs_magic, int map_sync_errno, const char *path,
                                enum medium_choice choice, struct medium *out, struct dax_err *err);

#endif
