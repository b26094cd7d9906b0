/* report.c: engine codes as SQLite takes them, and where the text of a failure goes.
 *
 * The table below holds what was measured of SQLite (pager.c, btree.c):
 *   - SQLITE_BUSY from a lock or from FCNTL_SYNC is clean: the cache is kept, the call can be
 *     repeated. From COMMIT_PHASETWO, xWrite or xTruncate it is not: the pager latches only FULL
 *     and IOERR and drops its cache for these alone, so that any other code there would leave a
 *     refused transaction's pages in the cache as if they were committed.
 *   - SQLITE_BUSY_SNAPSHOT from xLock(RESERVED) is turned into a retry where no read was open.
 *   - SQLITE_IOERR_NOMEM becomes SQLITE_NOMEM for the application.
 *   - SQLITE_IOERR_DATA and SQLITE_IOERR_IN_PAGE are IOERR everywhere and nothing more.
 */
#include "vfs/report.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef SQLITE_IOERR_DATA /* 3.32.0 */
#define SQLITE_IOERR_DATA (SQLITE_IOERR | (32 << 8))
#endif
#ifndef SQLITE_IOERR_IN_PAGE
#define SQLITE_IOERR_IN_PAGE (SQLITE_IOERR | (34 << 8))
#endif

/* "A mapped page cannot be read" has a code of its own since SQLITE_USE_SEH came, which is for the same
 * on Windows: https://sqlite.org/releaselog/3_43_0.html */
#define IN_PAGE_VERSION 3043000

/* Text and errno of this thread's last failure. Allocated at the thread's first one: a loadable module
 * whose handler needs thread-local words in place (guard.c) may have but few of them. */
struct report_last {
    bool set;
    int sys_errno;
    char text[DAX_ERR_TEXT];
};

static pthread_once_t last_once = PTHREAD_ONCE_INIT;
static pthread_key_t last_key;
static bool last_has_key;

static void last_make_key(void)
{
    last_has_key = pthread_key_create(&last_key, free) == 0;
}

/* NULL: this thread has had no failure (or, with make, there is no memory for its text). */
static struct report_last *last_of_thread(bool make)
{
    pthread_once(&last_once, last_make_key);
    struct report_last *last = last_has_key ? pthread_getspecific(last_key) : NULL;
    if (last || !make || !last_has_key)
        return last;
    last = calloc(1, sizeof *last);
    if (last && pthread_setspecific(last_key, last) != 0) {
        free(last);
        last = NULL;
    }
    return last;
}

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
            [DAX_IO_MEDIA] = SQLITE_IOERR_DATA,
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
            [DAX_IO_MEDIA] = SQLITE_IOERR_DATA,
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
            [DAX_IO_MEDIA] = SQLITE_IOERR_DATA,
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
            [DAX_IO_MEDIA] = SQLITE_IOERR_DATA,
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
            [DAX_IO_MEDIA] = SQLITE_IOERR_DATA,
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
            [DAX_IO_MEDIA] = SQLITE_IOERR_DATA,
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
            [DAX_IO_MEDIA] = SQLITE_IOERR_DATA,
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
    if (rc == DAX_IO_MEDIA && sqlite3_libversion_number() >= IN_PAGE_VERSION)
        code = SQLITE_IOERR_IN_PAGE;
    return code ? code : SQLITE_IOERR;
}

static const char *report_text(dax_rc rc, const struct dax_err *err)
{
    return err->text[0] ? err->text : dax_rc_name(rc);
}

int report_quietly(enum report_place place, dax_rc rc, const struct dax_err *err)
{
    struct report_last *last = rc != DAX_OK && rc != DAX_SHORT_READ ? last_of_thread(true) : NULL;
    if (last) {
        last->set = true;
        last->sys_errno = err->sys_errno;
        snprintf(last->text, sizeof last->text, "%s", report_text(rc, err));
    }
    return report_code(place, rc);
}

int report_failure(enum report_place place, dax_rc rc, const struct dax_err *err)
{
    int code = report_quietly(place, rc, err);
    if (rc != DAX_OK && rc != DAX_SHORT_READ && rc != DAX_BUSY && rc != DAX_BUSY_SNAPSHOT)
        sqlite3_log(code, "daxlite: %s", report_text(rc, err));
    return code;
}

bool report_last(int buf_bytes, char *buf, int *errno_out)
{
    const struct report_last *last = last_of_thread(false);
    if (!last || !last->set)
        return false;
    if (buf && buf_bytes > 0)
        snprintf(buf, (size_t)buf_bytes, "%s", last->text);
    *errno_out = last->sys_errno;
    return true;
}

void report_forget(void)
{
    struct report_last *last = last_of_thread(false);
    if (last)
        last->set = false;
}

void report_log(dax_rc rc, const char *text)
{
    static const char prefix[] = "daxlite: ";
    int code = rc == DAX_OK ? SQLITE_NOTICE : report_code(REPORT_ANY, rc);
    bool has_prefix = strncmp(text, prefix, sizeof prefix - 1) == 0;
    sqlite3_log(code, "%s%s", has_prefix ? "" : prefix, text);
}
