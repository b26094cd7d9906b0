/* names.h: which file names belong to open databases of this VFS.
 *
 * SQLite asks for `-journal` and `-wal` in each read transaction, by name alone. Neither ever
 * exists as a file here, and the answer must not cost a system call.
 */
#ifndef DAX_VFS_NAMES_H
#define DAX_VFS_NAMES_H

#include <stdbool.h>

#include "vfs/sqlite.h"

struct file;

enum name_kind {
    NAME_OTHER,
    NAME_JOURNAL,
    NAME_WAL
};

/* Keep the list's lock out of a fork's way. Once per process; 0 or an errno. */
int names_init(void);

/* List an open main database; take it off the list before its names go away. */
void names_add(struct file *f);
void names_remove(struct file *f);

/* Is any listed? */
bool names_any(void);

/* This thread has just locked f: names of f are the ones that it will ask for next. */
void names_remember(struct file *f);

/* Whose name is it? */
enum name_kind names_kind(const char *name);

/* The open database whose journal `name` is: the very string that SQLite made for that database,
 * since several may be open on one file; or, where another VFS on top of ours passes a copy, the
 * database that this thread has just locked. NULL: none. The caller is the one who uses it. */
struct file *names_journal_owner(const char *name);

/* Where SQLite keeps the connection that uses f; good until xClose. */
void names_set_db(struct file *f, sqlite3 **slot);

/* PRAGMA locking_mode without a schema is about every database of the connection, but reaches one:
 * note it on all files that db has open. Call with db's mutex held. */
void names_note_locking(sqlite3 *db, bool exclusive);

#endif
