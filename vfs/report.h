/* report.h: engine codes as SQLite takes them, and where the text of a failure goes.
 *
 * SQLite's VFS interface carries only a number. The text goes to sqlite3_log at once and stays with
 * the thread until its next failure, where xGetLastError finds it.
 */
#ifndef DAX_VFS_REPORT_H
#define DAX_VFS_REPORT_H

#include <stdbool.h>

#include "engine/rc.h"
#include "vfs/sqlite.h"

/* What SQLite was doing. It copes with different codes at different places: see report.c. */
enum report_place {
    REPORT_ANY,    /* SQL functions, logging */
    REPORT_OPEN,   /* xOpen */
    REPORT_READ,   /* xRead, xFetch */
    REPORT_WRITE,  /* xWrite, xTruncate */
    REPORT_LOCK,   /* xLock */
    REPORT_SYNC,   /* FCNTL_SYNC */
    REPORT_COMMIT, /* FCNTL_COMMIT_PHASETWO */
    REPORT_PLACES
};

/* An err without a text, for the engine to fill. Only the start is cleared: this is on the hot
 * path. */
static inline struct dax_err *report_clear(struct dax_err *err)
{
    err->rc = DAX_OK;
    err->sys_errno = 0;
    err->text[0] = '\0';
    return err;
}

/* SQLite's code for an engine code at a place. */
int report_code(enum report_place place, dax_rc rc);

/* The same, and remember and log err's text. Waiting for a lock is part of normal life: BUSY and
 * BUSY_SNAPSHOT are not logged. */
int report_failure(enum report_place place, dax_rc rc, const struct dax_err *err);

/* The same without a line in the log, where another one has said it. */
int report_quietly(enum report_place place, dax_rc rc, const struct dax_err *err);

/* This thread's last failure in xGetLastError's terms: errno (0: none), text into buf if there is
 * room for any. False: none of ours since report_forget. */
bool report_last(int buf_bytes, char *buf, int *errno_out);
void report_forget(void);

/* For dax_log_set. */
void report_log(dax_rc rc, const char *text);

#endif
