/* rc.h: result codes, error detail and the log line of the engine.
 *
 * Every engine function that can fail returns a dax_rc, which the compiler makes its caller look
 * at, and describes the failure in a caller-owned struct dax_err: what is wrong, with which file,
 * and what the user can do. SQLite's codes exist only in vfs/.
 */
#ifndef DAX_RC_H
#define DAX_RC_H

#include <stdint.h>

#include "engine/limits.h"

enum dax_rc {
    DAX_OK = 0,
    DAX_SHORT_READ,     /* read past the end of the database: the rest of the buffer is zeros */
    DAX_BUSY,           /* another connection of this process holds what is needed: try again */
    DAX_BUSY_SNAPSHOT,  /* the snapshot is not the newest: end the read, then try again */
    DAX_LOCKED,         /* another process holds the database, or a call needs a transaction to end */
    DAX_READONLY,       /* opened for reading, or the medium is */
    DAX_FULL,           /* no space: on the file system, in frames, in address space */
    DAX_NOMEM,          /* no DRAM */
    DAX_IO_READ,        /* the system refused a read */
    DAX_IO_WRITE,       /* the system refused a write, a sync or a mapping */
    DAX_IO_MEDIA,       /* memory or disk that cannot be read or stored to: media.h has an entry for it */
    DAX_CORRUPT,        /* bytes on media are not what this code could have put there */
    DAX_NOT_A_DATABASE, /* not an SQLite file, or marked by something that we do not know */
    DAX_CANT_OPEN,      /* missing, not permitted, unsupported file system, sidecar missing, ... */
    DAX_MISUSE          /* wrong option, wrong order of calls, used after fork */
};

typedef enum dax_rc dax_rc;

#define DAX_CHECKED __attribute__((warn_unused_result))
#define DAX_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Detail of a failure. Owned by the caller; one thread at a time. rc == DAX_OK: no failure yet. */
struct dax_err {
    dax_rc rc;
    int sys_errno; /* errno of the call that failed, 0 if none did */
    char text[DAX_ERR_TEXT];
};

/* Fill *err (which may be NULL) and return rc. sys_errno != 0 appends ": " and its strerror. */
dax_rc dax_err_set(struct dax_err *err, dax_rc rc, int sys_errno, const char *fmt, ...)
    DAX_PRINTF(4, 5);

/* Name of a code for messages and tests: "BUSY_SNAPSHOT". Static storage. */
const char *dax_rc_name(dax_rc rc);

/* Where log lines go. Set once before the first store opens (the VFS sets sqlite3_log); NULL: none.
 * The function may be called by any thread. */
typedef void (*dax_log_fn)(dax_rc rc, const char *text);
void dax_log_set(dax_log_fn fn);
void dax_log(dax_rc rc, const char *fmt, ...) DAX_PRINTF(2, 3);

/* Debug-only belief. What must never be wrong on media is checked with store_check instead. */
#ifdef DAXLITE_DEBUG
#define DAX_ASSERT(e) assert(e)
#else
#define DAX_ASSERT(e) ((void)sizeof(!(e)))
#endif

#endif
