/* owner.h: keeps other processes, and stock SQLite in this one, off the database file.
 *
 * The locks are open-file-description locks on the bytes that stock SQLite locks (PENDING at 1 GiB,
 * RESERVED, the 510 SHARED bytes), so a stock connection gets "database is locked", and they do
 * not vanish when some other descriptor of the file is closed.
 */
#ifndef DAX_OWNER_H
#define DAX_OWNER_H

#include <stddef.h>
#include <stdint.h>

#include "engine/rc.h"

enum owner_kind {
    OWNER_NONE,
    OWNER_READER, /* read lock on the SHARED bytes: stock readers welcome, writers kept out */
    OWNER_WRITER  /* write locks on all of them: everybody else is kept out */
};

/* Take, convert to, or with OWNER_NONE drop the locks on fd. Conversion is all or nothing.
 * DAX_LOCKED: somebody else holds a conflicting lock; the text says who, as far as can be found
 * (pid and command name of processes that have the file open), and it is logged. */
DAX_CHECKED dax_rc owner_lock(int fd, const char *path, enum owner_kind want, struct dax_err *err);

/* List processes other than this one that have the file of fd open, into buf ("4711 (sqlite3),
 * ..."; "" if none can be seen). Reads /proc; for messages. */
void owner_holders(int fd, char *buf, size_t buf_bytes);

/* Start time of a process in clock ticks since boot (/proc/PID/stat field 22), 0 if it does not
 * exist: with the pid, it names a process for good. */
uint64_t owner_start_time(int pid);

#endif
