/* rc.c: error texts and log lines. */
#include "engine/rc.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* Set once at start, read by every thread; release/acquire so that what the function needs is
 * visible with it. */
static _Atomic(dax_log_fn) log_fn;

dax_rc dax_err_set(struct dax_err *err, dax_rc rc, int sys_errno, const char *fmt, ...)
{
    if (!err)
        return rc;
    err->rc = rc;
    err->sys_errno = sys_errno;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    if (sys_errno && n >= 0 && (size_t)n < sizeof err->text) {
        char buf[96];
        const char *why = strerror_r(sys_errno, buf, sizeof buf);
        snprintf(err->text + n, sizeof err->text - (size_t)n, ": %s", why);
    }
    return rc;
}

const char *dax_rc_name(dax_rc rc)
{
    switch (rc) {
    case DAX_OK: return "OK";
    case DAX_SHORT_READ: return "SHORT_READ";
    case DAX_BUSY: return "BUSY";
    case DAX_BUSY_SNAPSHOT: return "BUSY_SNAPSHOT";
    case DAX_LOCKED: return "LOCKED";
    case DAX_READONLY: return "READONLY";
    case DAX_FULL: return "FULL";
    case DAX_NOMEM: return "NOMEM";
    case DAX_IO_READ: return "IO_READ";
    case DAX_IO_WRITE: return "IO_WRITE";
    case DAX_IO_MEDIA: return "IO_MEDIA";
    case DAX_CORRUPT: return "CORRUPT";
    case DAX_NOT_A_DATABASE: return "NOT_A_DATABASE";
    case DAX_CANT_OPEN: return "CANT_OPEN";
    case DAX_MISUSE: return "MISUSE";
    }
    return "?";
}

void dax_log_set(dax_log_fn fn)
{
    atomic_store_explicit(&log_fn, fn, memory_order_release);
}

void dax_log(dax_rc rc, const char *fmt, ...)
{
    dax_log_fn fn = atomic_load_explicit(&log_fn, memory_order_acquire);
    if (!fn)
        return;
    char text[DAX_ERR_TEXT + 128];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fn(rc, text);
}
