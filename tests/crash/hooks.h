/* hooks.h: the engine's second back-end: everything that it does to persistence comes by here.
 *
 * Linked with --wrap, so that the engine's objects stay as they are. What is taken over: the table
 * of persist operations, the ordering points, and the system calls that change the database, the
 * sidecar or their directory. A run either records (a trace), or only notes what it changes for the
 * image's undo log, or both.
 */
#ifndef DAX_CRASH_HOOKS_H
#define DAX_CRASH_HOOKS_H

#include <stdio.h>
#include <stdlib.h>

#include "engine/store.h"
#include "trace.h"

/* An error of the harness itself, or of what it stands on: nothing that a crash could show. */
#define hooks_must(expr, ...)                                                                      \
    do {                                                                                           \
        if (!(expr)) {                                                                             \
            fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                        \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fprintf(stderr, "\n");                                                                 \
            exit(99);                                                                              \
        }                                                                                          \
    } while (0)

enum rules {
    RULES_FENCE,
    RULES_MSYNC
};

/* What can be left out. Below PERSIST_TAGS: an ordering point. */
enum drop {
    DROP_MARK_SET_FENCE = PERSIST_TAGS, /* between the mark's first word and its rest */
    DROP_MARK_WIPE_FENCE,               /* between the rest's removal and the first word's */
    DROP_BASE_SIZE,                     /* fsync of the database's size */
    DROP_SIDE_CONTENT,                  /* fsync of the new sidecar before it gets its name */
    DROP_DIRECTORY,                     /* fsync of the directory behind that */
    DROPS,
    DROP_NONE = -1
};

struct hooks {
    enum rules rules;
    int drop;
    struct trace *record; /* NULL: no */
    bool undo;            /* the image notes what changes */
    bool pool_cached;     /* opening the image's pool gives `pool` */
    bool pool_checked;    /* libpmemobj's part of it has been found to be good */
    void *pool;
    uint64_t random;         /* state of what getrandom gives */
    uint64_t ring_bytes_max; /* 0: as the pool has it */
    struct store *store;     /* of the image's database, while open */
    /* Of the sidecar last opened: root, ring, and the twin behind it. */
    uint64_t root_from, root_to, ring_from, twin_from, twin_to;
    uint64_t drops; /* how often the point to be left out was */
};
extern struct hooks hooks;

int hooks_real_open(const char *path, int flags);
void hooks_real_close(int fd);

/* The image's pool, opened once for all states. */
void hooks_open_pool(void);
void hooks_close_pool(void);

/* Name for --drop: "P1" ... */
const char *hooks_drop_name(int drop);

#endif
