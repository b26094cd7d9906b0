/* report.c: engine codes as SQLite takes them, and where the text of a failure goes.
 *
 * The table below holds what was measured of SQLite (pager.c, btree.c):
 *   - SQLITE_BUSY from a lock or from FCNTL_SYNC is clean: the cache is kept, the call can be
 *     repeated. From COMMIT_PHASETWO, xWrite or xTruncate it is not: the pager latches only FULL
 *     and IOERR and drops its cache for these alone, so that any other code there would leave a
 *     refused transaction's pages in the cache as if they were committed.
 *   - SQLITE_BUSY_SNAPSHOT from xLock(RESERVED) is turned into a retry where no read was open.
 *   - SQLITE_IOERR_NOMEM becomes SQLITE_NOMEM for the application.
 */
#include "vfs/report.h"

#include <stdio.h>
#include <string.h>

/* Text and errno of this thread's last failure. */
static _Thread_local struct {
    bool set;
    int sys_errno;
    char text[DAX_ERR_TEXT];
} last;

#define CODES (DAX_MISUSE + 1)

static const int codes[REPORT_PLACES][CODES] = {
    [REPORT_ANY] =
        {
            [DAX_SHORT_READ] = SQLITE_IOERR_SHORT_READ,
            [DAX_BUSY] = SQLITE_BUSY,
            [DAX_BUSY_SNAPSHOT] = SQLITE_BUSY_SNAPSHOT,
            [DAX_LOCKED] = SQLITE_LOCKED,
            [DAX_READONLY] = SQLITE_READONLY,
            [DAX_FULL] = SQLITE_FULL,
            [DAX_NOMEM] = SQLITE_NOMEM,
            [DAX_IO_READ] = SQLITE_IOERR_READ,
            [DAX_IO_WRITE] = SQLITE_IOERR_WRITE,
            [DAX_CORRUPT] = SQLITE_CORRUPT,
            [DAX_NOT_A_DATABASE] = SQLITE_NOTADB,
            [DAX_CANT_OPEN] = SQLITE_CANTOPEN,
            [DAX_MISUSE] = SQLITE_MISUSE,
        },
    [REPORT_OPEN] =
        {
            [DAX_SHORT_READ] = SQLITE_IOERR_SHORT_READ,
            [DAX_BUSY] = SQLITE_BUSY,
            [DAX_BUSY_SNAPSHOT] = SQLITE_BUSY,
            [DAX_LOCKED] = SQLITE_BUSY,
            [DAX_READONLY] = SQLITE_READONLY,
            [DAX_FULL] = SQLITE_FULL,
            [DAX_NOMEM] = SQLITE_NOMEM,
            [DAX_IO_READ] = SQLITE_IOERR_READ,
            [DAX_IO_WRITE] = SQLITE_IOERR_WRITE,
            [DAX_CORRUPT] = SQLITE_CORRUPT,
            [DAX_NOT_A_DATABASE] = SQLITE_NOTADB,
            [DAX_CANT_OPEN] = SQLITE_CANTOPEN,
            [DAX_MISUSE] = SQLITE_CANTOPEN,
        },
    [REPORT_READ] =
        {
            [DAX_SHORT_READ] = SQLITE_IOERR_SHORT_READ,
            [DAX_BUSY] = SQLITE_IOERR_READ,
            [DAX_BUSY_SNAPSHOT] = SQLITE_IOERR_READ,
            [DAX_LOCKED] = SQLITE_IOERR_READ,
            [DAX_READONLY] = SQLITE_IOERR_READ,
            [DAX_FULL] = SQLITE_IOERR_READ,
            [DAX_NOMEM] = SQLITE_IOERR_NOMEM,
            [DAX_IO_READ] = SQLITE_IOERR_READ,
            [DAX_IO_WRITE] = SQLITE_IOERR_READ,
            [DAX_CORRUPT] = SQLITE_CORRUPT,
            [DAX_NOT_A_DATABASE] = SQLITE_NOTADB,
            [DAX_CANT_OPEN] = SQLITE_IOERR_READ,
            [DAX_MISUSE] = SQLITE_IOERR_READ,
        },
    [REPORT_WRITE] =
        {
            [DAX_SHORT_READ] = SQLITE_IOERR_WRITE,
            [DAX_BUSY] = SQLITE_IOERR_WRITE,
            [DAX_BUSY_SNAPSHOT] = SQLITE_IOERR_WRITE,
            [DAX_LOCKED] = SQLITE_IOERR_WRITE,
            [DAX_READONLY] = SQLITE_IOERR_WRITE,
            [DAX_FULL] = SQLITE_FULL,
            [DAX_NOMEM] = SQLITE_IOERR_NOMEM,
            [DAX_IO_READ] = SQLITE_IOERR_READ,
            [DAX_IO_WRITE] = SQLITE_IOERR_WRITE,
            [DAX_CORRUPT] = SQLITE_IOERR_WRITE,
            [DAX_NOT_A_DATABASE] = SQLITE_IOERR_WRITE,
            [DAX_CANT_OPEN] = SQLITE_IOERR_WRITE,
            [DAX_MISUSE] = SQLITE_IOERR_WRITE,
        },
    [REPORT_LOCK] =
        {
            [DAX_SHORT_READ] = SQLITE_IOERR_LOCK,
            [DAX_BUSY] = SQLITE_BUSY,
            [DAX_BUSY_SNAPSHOT] = SQLITE_BUSY_SNAPSHOT,
            [DAX_LOCKED] = SQLITE_BUSY,
            [DAX_READONLY] = SQLITE_READONLY,
            [DAX_FULL] = SQLITE_FULL,
            [DAX_NOMEM] = SQLITE_IOERR_NOMEM,
            [DAX_IO_READ] = SQLITE_IOERR_READ,
            [DAX_IO_WRITE] = SQLITE_IOERR_WRITE,
            [DAX_CORRUPT] = SQLITE_CORRUPT,
            [DAX_NOT_A_DATABASE] = SQLITE_NOTADB,
            [DAX_CANT_OPEN] = SQLITE_CANTOPEN,
            [DAX_MISUSE] = SQLITE_IOERR_LOCK,
        },
    [REPORT_SYNC] =
        {
            [DAX_SHORT_READ] = SQLITE_IOERR_WRITE,
            [DAX_BUSY] = SQLITE_BUSY,
            [DAX_BUSY_SNAPSHOT] = SQLITE_BUSY_SNAPSHOT,
            [DAX_LOCKED] = SQLITE_IOERR_WRITE,
            [DAX_READONLY] = SQLITE_IOERR_WRITE,
            [DAX_FULL] = SQLITE_FULL,
            [DAX_NOMEM] = SQLITE_IOERR_NOMEM,
            [DAX_IO_READ] = SQLITE_IOERR_READ,
            [DAX_IO_WRITE] = SQLITE_IOERR_WRITE,
            [DAX_CORRUPT] = SQLITE_IOERR_WRITE,
            [DAX_NOT_A_DATABASE] = SQLITE_IOERR_WRITE,
            [DAX_CANT_OPEN] = SQLITE_IOERR_WRITE,
            [DAX_MISUSE] = SQLITE_IOERR_WRITE,
        },
    [REPORT_COMMIT] =
        {
            [DAX_SHORT_READ] = SQLITE_IOERR_WRITE,
            [DAX_BUSY] = SQLITE_IOERR_WRITE,
            [DAX_BUSY_SNAPSHOT] = SQLITE_IOERR_WRITE,
            [DAX_LOCKED] = SQLITE_IOERR_WRITE,
            [DAX_READONLY] = SQLITE_IOERR_WRITE,
            [DAX_FULL] = SQLITE_FULL,
            [DAX_NOMEM] = SQLITE_IOERR_NOMEM,
            [DAX_IO_READ] = SQLITE_IOERR_READ,
            [DAX_IO_WRITE] = SQLITE_IOERR_WRITE,
            [DAX_CORRUPT] = SQLITE_IOERR_WRITE,
            [DAX_NOT_A_DATABASE] = SQLITE_IOERR_WRITE,
            [DAX_CANT_OPEN] = SQLITE_IOERR_WRITE,
            [DAX_MISUSE] = SQLITE_IOERR_WRITE,
        },
};

int report_code(enum report_place place, dax_rc rc)
{
    if (rc == DAX_OK)
        return SQLITE_OK;
    int code = (unsigned)rc < CODES ? codes[place][rc] : 0;
    return code ? code : SQLITE_IOERR;
}

int report_failure(enum report_place place, dax_rc rc, const struct dax_err *err)
{
    int code = report_code(place, rc);
    if (rc == DAX_OK || rc == DAX_SHORT_READ)
        return code;
    const char *text = err->text[0] ? err->text : dax_rc_name(rc);
    last.set = true;
    last.sys_errno = err->sys_errno;
    snprintf(last.text, sizeof last.text, "%s", text);
    if (rc != DAX_BUSY && rc != DAX_BUSY_SNAPSHOT)
        sqlite3_log(code, "daxlite: %s", text);
    return code;
}

bool report_last(int buf_bytes, char *buf, int *errno_out)
{
    if (!last.set)
        return false;
    if (buf && buf_bytes > 0)
        snprintf(buf, (size_t)buf_bytes, "%s", last.text);
    *errno_out = last.sys_errno;
    return true;
}

void report_forget(void)
{
    last.set = false;
}

void report_log(dax_rc rc, const char *text)
{
    static const char prefix[] = "daxlite: ";
    int code = rc == DAX_OK ? SQLITE_NOTICE : report_code(REPORT_ANY, rc);
    bool has_prefix = strncmp(text, prefix, sizeof prefix - 1) == 0;
    sqlite3_log(code, "%s%s", has_prefix ? "" : prefix, text);
}
