/* file.h: an open main database of this VFS, as SQLite sees it.
 */
#ifndef DAX_VFS_FILE_H
#define DAX_VFS_FILE_H

#include <sys/types.h>

#include "engine/engine.h"
#include "vfs/journal.h"
#include "vfs/owner_map.h"
#include "vfs/report.h"
#include "vfs/scrub.h"
#include "vfs/sqlite.h"

/* Called once, when the file next gets a snapshot, which then comes with the writer lock: before
 * SQLite has read anything of it. What fn writes is part of the transaction that follows. */
struct file_hook {
    void (*fn)(void *arg, struct conn *c);
    void *arg;
};

/* What SQLite allocates for us (szOsFile) when it opens a main database. Used by one thread at a
 * time, as SQLite's mutexes see to; db_slot, next and previous are guarded by names.c. */
struct file {
    sqlite3_file base;
    struct conn *conn;
    const char *journal_name; /* SQLite's memory, good until xClose */
    const char *wal_name;
    char *path; /* owned; symbolic links resolved */
    dev_t dev;  /* of the file that was opened */
    ino_t ino;
    int level; /* SQLITE_LOCK_* that SQLite holds */
    int last_errno;
    bool zero_copy;
    bool exclusive;           /* locking_mode=EXCLUSIVE was asked for */
    bool exclusive_lock;      /* the writer lock came with SHARED because of that */
    bool writer_lost;         /* file_abandon gave it up, and SQLite does not know */
    bool moved_checked;       /* FCNTL_HAS_MOVED has looked once */
    bool wrote_wal_header;    /* this transaction put WAL's version numbers into the header */
    uint8_t versions[16];     /* header bytes 24 - 39 of page 1 as SQLite has read or written it last */
    uint64_t cached_txid;     /* the state that SQLite's cache stands for, 0: make it drop it */
    sqlite3_int64 mmap_limit; /* PRAGMA mmap_size; 0: xFetch answers NULL */
    int (*busy)(void *);      /* SQLite's busy handler */
    void *busy_arg;
    sqlite3 **db_slot;      /* SQLite's memory: the connection that uses the file now */
    struct journal journal; /* its memory serves all transactions */
    bool journal_open;
    struct file_hook hook; /* fn NULL: none */
    struct scrub *scrub;        /* NULL: there was no memory for it */
    struct owner_cache *owners; /* NULL: there was no memory for it */
    unsigned naming_pause;      /* media_names.c */
    struct file *next, *previous;
};

/* What SQLite allocates for a main database's journal. */
struct journal_file {
    sqlite3_file base;
    struct file *main;
};

/* Open a main database (flags has SQLITE_OPEN_MAIN_DB, name is not NULL) into *f. On an error f is
 * no open file (its pMethods is NULL). file.c */
int file_open(struct file *f, const char *name, int flags, int *out_flags);

/* Report err on f, and SQLite's code for it. file.c */
int file_failure(struct file *f, enum report_place place, dax_rc rc, const struct dax_err *err);

/* Forget the transaction: SQLite can neither finish nor roll it back. Under EXCLUSIVE locking no
 * xUnlock follows that would, and SQLite goes on to hold its locks; its next write takes the writer
 * lock again. file.c */
void file_abandon(struct file *f);

/* xFileControl. file_control.c */
int file_control(sqlite3_file *file, int op, void *arg);

/* Open the volatile journal of `main` into *jf. journal_file.c */
int journal_file_open(struct journal_file *jf, struct file *main, int flags, int *out_flags);

/* Its content is read from here: engine/ as journal_image_fn, arg is a struct conn. journal_file.c
 * */
dax_rc journal_file_image(void *arg, void *buf, size_t len, uint64_t offset, struct dax_err *err);

#endif
