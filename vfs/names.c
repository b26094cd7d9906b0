/* names.c: which file names belong to open databases of this VFS.
 *
 * Each thread remembers the names of the database that it locked last, so that the usual question
 * is a comparison of pointers. The memory of a name may be reused after the database's close;
 * `closes` counts closes, and what a thread remembers is only good while the count has not changed:
 * as long as nothing was closed, the remembered file is open and its names are where they were.
 * Everything else is looked up in the list.
 *
 * Locking: list_lock (leaf) guards the list and every file's db_slot. A file's other fields are its
 * connection's; the names are constant while it is listed.
 */
#include "vfs/names.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "vfs/file.h"

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct file *list;

/* Released by names_remove before the names go away; acquired by names_remember and by whoever
 * compares. */
static _Atomic uint64_t closes;

static _Thread_local struct {
    uint64_t closes;
    struct file *file;
    const char *journal;
    const char *wal;
} recent;

static void names_lock(void)
{
    pthread_mutex_lock(&list_lock);
}

static void names_unlock(void)
{
    pthread_mutex_unlock(&list_lock);
}

int names_init(void)
{
    return pthread_atfork(names_lock, names_unlock, names_unlock);
}

void names_add(struct file *f)
{
    names_lock();
    f->previous = NULL;
    f->next = list;
    if (list)
        list->previous = f;
    list = f;
    names_unlock();
}

void names_remove(struct file *f)
{
    names_lock();
    if (f->previous)
        f->previous->next = f->next;
    else
        list = f->next;
    if (f->next)
        f->next->previous = f->previous;
    atomic_fetch_add_explicit(&closes, 1, memory_order_release);
    names_unlock();
}

bool names_any(void)
{
    names_lock();
    bool any = list != NULL;
    names_unlock();
    return any;
}

void names_remember(struct file *f)
{
    recent.closes = atomic_load_explicit(&closes, memory_order_acquire);
    recent.file = f;
    recent.journal = f->journal_name;
    recent.wal = f->wal_name;
}

static bool names_recent_is_good(void)
{
    return recent.file && recent.closes == atomic_load_explicit(&closes, memory_order_acquire);
}

static __attribute__((noinline)) enum name_kind names_look_up(const char *name)
{
    enum name_kind kind = NAME_OTHER;
    names_lock();
    for (const struct file *f = list; f && kind == NAME_OTHER; f = f->next) {
        if (strcmp(name, f->journal_name) == 0)
            kind = NAME_JOURNAL;
        else if (strcmp(name, f->wal_name) == 0)
            kind = NAME_WAL;
    }
    names_unlock();
    return kind;
}

enum name_kind names_kind(const char *name)
{
    if (names_recent_is_good()) {
        if (name == recent.journal)
            return NAME_JOURNAL;
        if (name == recent.wal)
            return NAME_WAL;
    }
    return names_look_up(name);
}

struct file *names_journal_owner(const char *name)
{
    bool good = names_recent_is_good();
    if (good && name == recent.journal)
        return recent.file;
    names_lock();
    struct file *f = list;
    while (f && f->journal_name != name)
        f = f->next;
    names_unlock();
    if (!f && good && strcmp(name, recent.journal) == 0)
        f = recent.file;
    return f;
}

void names_set_db(struct file *f, sqlite3 **slot)
{
    names_lock();
    f->db_slot = slot;
    names_unlock();
}

void names_note_locking(sqlite3 *db, bool exclusive)
{
    names_lock();
    for (struct file *f = list; f; f = f->next) {
        if (f->db_slot && *f->db_slot == db)
            f->exclusive = exclusive;
    }
    names_unlock();
}
