/* probe.c: the probing VFS. */
#include "tests/system/probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/system/harness.h"

#define DATABASES 32
#define FILES 256
#define CAPACITY (4 << 20)
#define EVENTS 100000

struct database {
    char name[64];
    unsigned char *bytes;
    int64_t size;
};

struct file {
    sqlite3_file base;
    int number;
    struct database *db;
    unsigned char *view; /* CAPACITY, so that it never moves */
    int64_t size;
    bool has_view, dirty, publish; /* publish: PHASETWO has come */
    int level;
    int pins, pins_most;
    enum probe_call refuse;
    int code;
    bool hook_before;
    void (*hook)(void *arg);
    void *hook_arg;
};

/* A journal or temporary file: in front of one of the default VFS. */
struct other {
    sqlite3_file base;
    int number; /* of the database */
    bool journal;
    sqlite3_file *real;
};

static struct database databases[DATABASES];
static struct file *files[FILES]; /* by number */
static int file_count;
static struct probe_event events[EVENTS];
static int event_count;
static sqlite3_vfs *below;
static int
    last_locked; /* connection that has asked last: journals are opened without saying whose */

static void note(enum probe_call call, int file, int64_t a, int64_t b)
{
    CHECK(event_count < EVENTS, "too many events");
    events[event_count++] = (struct probe_event){call, file, a, b};
}

/* --- databases --------------------------------------------------------------------------------- */

static struct database *database_find(const char *name)
{
    for (int i = 0; i < DATABASES; i++) {
        struct database *d = &databases[i];
        if (!d->name[0]) {
            snprintf(d->name, sizeof d->name, "%s", name);
            d->bytes = calloc(1, CAPACITY);
        }
        if (!strcmp(d->name, name))
            return d;
    }
    CHECK(false, "too many databases");
    return NULL;
}

static int refusal(struct file *f, enum probe_call call)
{
    if (f->code == SQLITE_OK || f->refuse != call)
        return SQLITE_OK;
    int code = f->code;
    f->code = SQLITE_OK;
    return code;
}

static void discard(struct file *f)
{
    f->size = f->db->size;
    memcpy(f->view, f->db->bytes, (size_t)f->size);
    f->dirty = f->publish = false;
}

static void publish(struct file *f)
{
    if (f->dirty) {
        memcpy(f->db->bytes, f->view, (size_t)f->size);
        f->db->size = f->size;
    }
    f->dirty = f->publish = false;
}

static void run_hook(struct file *f)
{
    void (*fn)(void *) = f->hook;
    f->hook = NULL;
    if (fn)
        fn(f->hook_arg);
}

static int db_close_(sqlite3_file *file)
{
    struct file *f = (struct file *)file;
    CHECK(f->pins == 0, "closed with %d pins", f->pins);
    free(f->view);
    files[f->number] = NULL;
    return SQLITE_OK;
}

static int db_read(sqlite3_file *file, void *to, int n, sqlite3_int64 at)
{
    struct file *f = (struct file *)file;
    note(PROBE_READ, f->number, at, n);
    if (!f->has_view) /* the header, before any lock */
        discard(f);
    int64_t have = f->size - at < 0 ? 0 : f->size - at;
    if (have >= n) {
        memcpy(to, f->view + at, (size_t)n);
        return SQLITE_OK;
    }
    memset(to, 0, (size_t)n);
    memcpy(to, f->view + at, (size_t)have);
    return SQLITE_IOERR_SHORT_READ;
}

static int db_write(sqlite3_file *file, const void *from, int n, sqlite3_int64 at)
{
    struct file *f = (struct file *)file;
    note(PROBE_WRITE, f->number, at, n);
    CHECK(at + n <= CAPACITY, "a large database");
    memcpy(f->view + at, from, (size_t)n);
    if (at + n > f->size)
        f->size = at + n;
    f->dirty = true;
    return SQLITE_OK;
}

static int db_truncate(sqlite3_file *file, sqlite3_int64 n)
{
    struct file *f = (struct file *)file;
    note(PROBE_TRUNCATE, f->number, n, 0);
    f->size = n;
    f->dirty = true;
    return SQLITE_OK;
}

static int db_sync(sqlite3_file *file, int flags)
{
    (void)file;
    (void)flags;
    return SQLITE_OK;
}

static int db_size(sqlite3_file *file, sqlite3_int64 *out)
{
    struct file *f = (struct file *)file;
    note(PROBE_SIZE, f->number, 0, 0);
    *out = f->has_view ? f->size : f->db->size;
    return SQLITE_OK;
}

static int db_lock(sqlite3_file *file, int level)
{
    struct file *f = (struct file *)file;
    int rc = SQLITE_OK;
    last_locked = f->number;
    if (level <= f->level)
        return SQLITE_OK;
    if (level == SQLITE_LOCK_SHARED) {
        note(PROBE_LOCK_SHARED, f->number, 0, 0);
        rc = refusal(f, PROBE_LOCK_SHARED);
        discard(f);
        f->has_view = true;
    } else if (level == SQLITE_LOCK_RESERVED) {
        note(PROBE_LOCK_RESERVED, f->number, 0, 0);
        if (f->hook_before)
            run_hook(f);
        rc = refusal(f, PROBE_LOCK_RESERVED);
        if (rc == SQLITE_OK)
            run_hook(f);
    } else if (level == SQLITE_LOCK_EXCLUSIVE) {
        note(PROBE_LOCK_EXCLUSIVE, f->number, 0, 0);
        rc = refusal(f, PROBE_LOCK_EXCLUSIVE);
    }
    last_locked = f->number; /* the hook may have used another one */
    if (rc == SQLITE_OK)
        f->level = level;
    return rc;
}

static int db_unlock(sqlite3_file *file, int level)
{
    struct file *f = (struct file *)file;
    int rc = SQLITE_OK;
    if (level == SQLITE_LOCK_NONE)
        note(PROBE_UNLOCK_NONE, f->number, f->pins, 0);
    else if (f->level > SQLITE_LOCK_SHARED) {
        note(PROBE_UNLOCK_SHARED, f->number, 0, 0);
        if (f->publish)
            rc = refusal(f, PROBE_UNLOCK_SHARED);
    }
    if (rc == SQLITE_OK && f->publish)
        publish(f);
    if (f->dirty)
        discard(f);
    if (level == SQLITE_LOCK_NONE)
        f->has_view = false;
    f->level = level;
    return rc;
}

static int db_reserved(sqlite3_file *file, int *out)
{
    (void)file;
    *out = 0;
    return SQLITE_OK;
}

static int db_control(sqlite3_file *file, int op, void *arg)
{
    struct file *f = (struct file *)file;
    (void)arg;
    int rc;
    switch (op) {
    case SQLITE_FCNTL_SYNC: note(PROBE_SYNC, f->number, 0, 0); return refusal(f, PROBE_SYNC);
    case SQLITE_FCNTL_COMMIT_PHASETWO:
        note(PROBE_PHASETWO, f->number, f->pins, 0);
        rc = refusal(f, PROBE_PHASETWO);
        if (rc != SQLITE_OK)
            discard(f);
        else
            f->publish = true;
        return rc;
    case SQLITE_FCNTL_MMAP_SIZE: return SQLITE_OK;
    default: return SQLITE_NOTFOUND;
    }
}

static int db_sector(sqlite3_file *file)
{
    (void)file;
    return 4096;
}

static int db_characteristics(sqlite3_file *file)
{
    (void)file;
    return 0;
}

static int db_fetch(sqlite3_file *file, sqlite3_int64 at, int n, void **out)
{
    struct file *f = (struct file *)file;
    note(PROBE_FETCH, f->number, at, n);
    *out = at + n <= f->size ? f->view + at : NULL;
    if (*out && ++f->pins > f->pins_most)
        f->pins_most = f->pins;
    return SQLITE_OK;
}

static int db_unfetch(sqlite3_file *file, sqlite3_int64 at, void *p)
{
    struct file *f = (struct file *)file;
    note(PROBE_UNFETCH, f->number, at, p != NULL);
    f->pins -= p != NULL;
    return SQLITE_OK;
}

static const sqlite3_io_methods db_methods = {
    .iVersion = 3,
    .xClose = db_close_,
    .xRead = db_read,
    .xWrite = db_write,
    .xTruncate = db_truncate,
    .xSync = db_sync,
    .xFileSize = db_size,
    .xLock = db_lock,
    .xUnlock = db_unlock,
    .xCheckReservedLock = db_reserved,
    .xFileControl = db_control,
    .xSectorSize = db_sector,
    .xDeviceCharacteristics = db_characteristics,
    .xFetch = db_fetch,
    .xUnfetch = db_unfetch,
};

/* --- journals and temporary files --------------------------------------------------------------- */

#define REAL(f) (((struct other *)(f))->real)

static int other_close(sqlite3_file *file)
{
    struct other *o = (struct other *)file;
    if (o->journal)
        note(PROBE_JOURNAL_CLOSE, o->number, 0, 0);
    int rc = o->real->pMethods->xClose(o->real);
    free(o->real);
    return rc;
}

static int other_read(sqlite3_file *file, void *to, int n, sqlite3_int64 at)
{
    return REAL(file)->pMethods->xRead(REAL(file), to, n, at);
}

static int other_write(sqlite3_file *file, const void *from, int n, sqlite3_int64 at)
{
    struct other *o = (struct other *)file;
    if (o->journal)
        note(PROBE_JOURNAL_WRITE, o->number, at, n);
    return o->real->pMethods->xWrite(o->real, from, n, at);
}

static int other_truncate(sqlite3_file *file, sqlite3_int64 n)
{
    struct other *o = (struct other *)file;
    if (o->journal)
        note(PROBE_JOURNAL_TRUNCATE, o->number, n, 0);
    return o->real->pMethods->xTruncate(o->real, n);
}

static int other_size(sqlite3_file *file, sqlite3_int64 *out)
{
    return REAL(file)->pMethods->xFileSize(REAL(file), out);
}

static int no_lock(sqlite3_file *file, int level)
{
    (void)file;
    (void)level;
    return SQLITE_OK;
}

static int no_control(sqlite3_file *file, int op, void *arg)
{
    (void)file;
    (void)op;
    (void)arg;
    return SQLITE_NOTFOUND;
}

static const sqlite3_io_methods other_methods = {
    .iVersion = 1,
    .xClose = other_close,
    .xRead = other_read,
    .xWrite = other_write,
    .xTruncate = other_truncate,
    .xSync = db_sync,
    .xFileSize = other_size,
    .xLock = no_lock,
    .xUnlock = no_lock,
    .xCheckReservedLock = db_reserved,
    .xFileControl = no_control,
    .xSectorSize = db_sector,
    .xDeviceCharacteristics = db_characteristics,
};

/* --- the VFS ------------------------------------------------------------------------------------ */

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    (void)vfs;
    if (flags & SQLITE_OPEN_MAIN_DB) {
        struct file *f = (struct file *)file;
        *f = (struct file){.base = {&db_methods}, .db = database_find(name)};
        f->view = calloc(1, CAPACITY);
        f->number = ++file_count;
        CHECK(f->number < FILES, "too many files");
        files[f->number] = f;
        if (out)
            *out = flags;
        return SQLITE_OK;
    }
    struct other *o = (struct other *)file;
    *o = (struct other){.number = last_locked, .journal = flags & SQLITE_OPEN_MAIN_JOURNAL};
    if (o->journal)
        note(PROBE_JOURNAL_OPEN, o->number, 0, 0);
    if (flags & SQLITE_OPEN_SUPER_JOURNAL)
        note(PROBE_SUPER_OPEN, 0, 0, 0);
    o->real = calloc(1, (size_t)below->szOsFile);
    int rc = below->xOpen(below, NULL, o->real,
                          SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_EXCLUSIVE |
                              SQLITE_OPEN_DELETEONCLOSE | SQLITE_OPEN_TEMP_JOURNAL,
                          out);
    if (out)
        *out = flags;
    if (rc == SQLITE_OK)
        o->base.pMethods = &other_methods;
    else
        free(o->real);
    return rc;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
    (void)vfs;
    (void)sync;
    size_t n = strlen(name);
    if (n > 8 && !strcmp(name + n - 8, "-journal"))
        note(PROBE_JOURNAL_DELETE, last_locked, 0, 0);
    return SQLITE_OK;
}

static int vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
    (void)vfs;
    (void)flags;
    size_t n = strlen(name);
    note(PROBE_ACCESS, last_locked, n > 8 && !strcmp(name + n - 8, "-journal"),
         n > 4 && !strcmp(name + n - 4, "-wal"));
    *out = 0;
    return SQLITE_OK;
}

static int vfs_full(sqlite3_vfs *vfs, const char *name, int n, char *out)
{
    (void)vfs;
    snprintf(out, (size_t)n, "%s", name);
    return SQLITE_OK;
}

void probe_install(void)
{
    static sqlite3_vfs vfs;
    below = sqlite3_vfs_find("unix");
    vfs = *below;
    vfs.iVersion = 1;
    vfs.zName = "probe";
    vfs.pNext = NULL;
    vfs.szOsFile = sizeof(struct file);
    vfs.xOpen = vfs_open;
    vfs.xDelete = vfs_delete;
    vfs.xAccess = vfs_access;
    vfs.xFullPathname = vfs_full;
    CHECK_RC(NULL, sqlite3_vfs_register(&vfs, 0), SQLITE_OK);
}

sqlite3 *probe_open(const char *name, int *number_out)
{
    sqlite3 *db;
    CHECK_RC(NULL, sqlite3_open_v2(name, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "probe"),
             SQLITE_OK);
    sqlite3_extended_result_codes(db, 1);
    *number_out = file_count;
    return db;
}

/* --- looking ------------------------------------------------------------------------------------ */

void probe_clear(void)
{
    event_count = 0;
    for (int i = 1; i < FILES; i++)
        if (files[i])
            files[i]->pins_most = files[i]->pins;
}

const struct probe_event *probe_events(int *count_out)
{
    *count_out = event_count;
    return events;
}

int probe_count(int file, enum probe_call call)
{
    int n = 0;
    for (int i = 0; i < event_count; i++)
        n += events[i].call == call && events[i].file == file;
    return n;
}

int probe_first(int file, enum probe_call call)
{
    for (int i = 0; i < event_count; i++)
        if (events[i].call == call && events[i].file == file)
            return i;
    return -1;
}

void probe_refuse(int file, enum probe_call call, int code)
{
    files[file]->refuse = call;
    files[file]->code = code;
}

void probe_at_reserved(int file, bool before, void (*fn)(void *arg), void *arg)
{
    files[file]->hook_before = before;
    files[file]->hook = fn;
    files[file]->hook_arg = arg;
}

int probe_pins(int file)
{
    return files[file]->pins;
}

int probe_pins_most(int file)
{
    return files[file]->pins_most;
}

bool probe_owns(int file, const void *at)
{
    const unsigned char *p = at;
    return p >= files[file]->view && p < files[file]->view + CAPACITY;
}

void probe_forget(const char *name)
{
    database_find(name)->size = 0;
}

unsigned char *probe_bytes(const char *name, int64_t *size_out)
{
    struct database *d = database_find(name);
    *size_out = d->size;
    return d->bytes;
}
