/* probe.h: a VFS of the tests' own that shows what SQLite asks of one, and refuses where it is told to.
 *
 * A database is bytes in memory. A connection sees the state that was newest when it locked SHARED, and
 * writes to a copy that becomes the newest state at COMMIT_PHASETWO (or in xUnlock(SHARED) after it).
 * No lock excludes anybody: what happens when a second writer has committed in between is the question.
 * Journals and temporary files are each connection's own, in files without a name.
 */
#ifndef TESTS_SYSTEM_PROBE_H
#define TESTS_SYSTEM_PROBE_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

enum probe_call {
    PROBE_LOCK_SHARED,
    PROBE_LOCK_RESERVED,
    PROBE_LOCK_EXCLUSIVE,
    PROBE_UNLOCK_SHARED,
    PROBE_UNLOCK_NONE,
    PROBE_SYNC,     /* FCNTL_SYNC */
    PROBE_PHASETWO, /* FCNTL_COMMIT_PHASETWO */
    PROBE_READ,     /* offset, bytes; of the database, as all that follow */
    PROBE_WRITE,
    PROBE_TRUNCATE,
    PROBE_SIZE,
    PROBE_FETCH,
    PROBE_UNFETCH, /* b is 0 for a NULL address */
    PROBE_ACCESS,
    PROBE_JOURNAL_OPEN,
    PROBE_JOURNAL_WRITE, /* offset, bytes */
    PROBE_JOURNAL_CLOSE,
    PROBE_JOURNAL_DELETE,
    PROBE_JOURNAL_TRUNCATE,
    PROBE_SUPER_OPEN, /* the journal of several databases */
    PROBE_CALLS
};

struct probe_event {
    enum probe_call call;
    int file; /* number of the database's connection, from 1; 0: not known */
    int64_t a, b;
};

/* Register as "probe". */
void probe_install(void);

/* Open name; the connection's number in *number_out. */
sqlite3 *probe_open(const char *name, int *number_out);

/* Forget all events; the events since. */
void probe_clear(void);
const struct probe_event *probe_events(int *count_out);
int probe_count(int file, enum probe_call call);
/* Position of the first event of the kind, -1: none. */
int probe_first(int file, enum probe_call call);

/* The next such call of the connection fails, once; SQLITE_OK: none does. */
void probe_refuse(int file, enum probe_call call, int code);
/* The next RESERVED lock of the connection is preceded (before) or followed by this, once. */
void probe_at_reserved(int file, bool before, void (*fn)(void *arg), void *arg);

/* Addresses from xFetch that are outstanding, and the most there were since probe_clear. */
int probe_pins(int file);
int probe_pins_most(int file);
/* Is this address in what the connection's xFetch hands out? */
bool probe_owns(int file, const void *at);

/* Bytes of a database, to look at and change while nobody reads. */
unsigned char *probe_bytes(const char *name, int64_t *size_out);

/* Nobody has it open: it is empty now. */
void probe_forget(const char *name);

#endif
