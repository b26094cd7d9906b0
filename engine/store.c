/* store.c: opening, activating and closing a database.
 *
 * Persist order of a store's life:
 *   activation  P4 a cursor slot with a new nonce and salt and an empty log; then the mark with that
 *               nonce (P5, P6). A crash before P6: a plain file, the sidecar is irrelevant. After
 *               it: recovery finds an empty log.
 *   close       everything in base (P3), log empty (P4), file cut to its size; then the mark goes
 *               (P6). A crash before: recovery finds an empty log. After it: a plain file.
 */
#include "engine/store.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/checkpoint.h"
#include "engine/media_state.h"
#include "engine/owner.h"
#include "engine/pageword.h"
#include "engine/recovery.h"
#include "engine/salvage.h"
#include "engine/snapshot.h"

static pthread_mutex_t store_registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct store *store_registry; /* guarded by it */

/* Closing any descriptor of a file drops all POSIX locks that this process has on it, so a stock
 * connection of this very process would lose its locks by our closing, and with them its data. While
 * the file is locked against everybody (OWNER_WRITER) there can be none, and closing is safe; any
 * other descriptor is kept here and used by the next open of that file, as stock SQLite does with its
 * own. Guarded by the registry lock. */
struct parked {
    struct parked *next;
    dev_t dev;
    ino_t ino;
    int fd;
    bool read_only;
};
static struct parked *store_parked;

/* In a child process: its descriptors share locks with the parent's, and it has no locks to lose. */
static void store_forget_parked(void)
{
    for (struct parked *p = store_parked; p; p = p->next)
        close(p->fd);
    store_parked = NULL; /* the memory stays: free() is not for after fork */
}

/* --- fork --------------------------------------------------------------------------------------- */

static void store_fork_prepare(void)
{
    pthread_mutex_lock(&store_registry_lock);
}

static void store_fork_parent(void)
{
    pthread_mutex_unlock(&store_registry_lock);
}

/* The parent's stores stay in the list, unusable (their guard pages are empty) and untouched: no
 * lock, no mapping and no file of the parent is released from here. */
static void store_fork_child(void)
{
    snapshot_forget_thread();
    store_forget_parked();
    pthread_mutex_unlock(&store_registry_lock);
}

static pthread_once_t store_fork_once = PTHREAD_ONCE_INIT;

static void store_fork_install(void)
{
    pthread_atfork(store_fork_prepare, store_fork_parent, store_fork_child);
}

static dax_rc store_make_guard(struct store *s, struct dax_err *err)
{
    size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
    uint64_t *guard = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (guard == MAP_FAILED)
        return dax_err_set(err, DAX_NOMEM, errno, "cannot map a page");
    if (madvise(guard, bytes, MADV_WIPEONFORK) != 0) {
        int e = errno;
        munmap(guard, bytes);
        return dax_err_set(err, DAX_CANT_OPEN, e, "this kernel (before 4.14) cannot tell a forked "
                                                  "child from its parent");
    }
    *guard = STORE_GUARD_MAGIC;
    s->fork_guard = guard;
    return DAX_OK;
}

/* --- small things --------------------------------------------------------------------------------- */

uint64_t store_random(void)
{
    uint64_t v = 0;
    while (v == 0)
        if (getrandom(&v, sizeof v, 0) != (ssize_t)sizeof v)
            v = 0;
    return v;
}

uint64_t store_size(const struct store *s)
{
    uint64_t size;
    (void)snapshot_newest(&s->region, &size);
    return size;
}

static void store_set_failed(struct store *s, dax_rc rc, const char *text)
{
    int expected = 0;
    if (!atomic_compare_exchange_strong(&s->failed, &expected, 1))
        return;
    s->failed_rc = rc;
    snprintf(s->failed_text, sizeof s->failed_text, "%s: writes refused until reopened: %.380s",
             s->base.path, text);
    atomic_store_explicit(&s->failed, 2, memory_order_release);
    dax_log(rc, "%s", s->failed_text);
}

dax_rc store_fail(struct store *s, struct dax_err *err, const char *fmt, ...)
{
    char text[DAX_ERR_TEXT - 128];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    store_set_failed(s, DAX_CORRUPT, text);
    return dax_err_set(err, DAX_CORRUPT, 0, "%s: %s", s->base.path, text);
}

dax_rc store_synced(struct store *s, dax_rc rc, const struct dax_err *err)
{
    if (rc == DAX_IO_WRITE)
        store_set_failed(s, rc, err ? err->text : "a sync has failed");
    return rc;
}

bool store_mended_end(struct store *s, dax_rc rc)
{
    if (rc != DAX_IO_MEDIA || !base_is_cut(&s->base))
        return false;
    media_note_truncated(s);
    return media_regrow(s);
}

dax_rc store_reserve(struct store *s, uint64_t bytes, struct dax_err *err)
{
    dax_rc rc = base_reserve(&s->base, bytes, err);
    if (store_mended_end(s, rc))
        rc = base_reserve(&s->base, bytes, err);
    return store_base_synced(s, rc, err);
}

dax_rc store_base_synced(struct store *s, dax_rc rc, const struct dax_err *err)
{
    return s->base.sync_failed ? store_synced(s, rc, err) : rc;
}

dax_rc store_usable(struct store *s, struct dax_err *err)
{
    int failed = atomic_load_explicit(&s->failed, memory_order_acquire);
    if (failed == 0)
        return DAX_OK;
    return failed == 2 ? dax_err_set(err, s->failed_rc, 0, "%s", s->failed_text)
                       : dax_err_set(err, DAX_CORRUPT, 0, "the database has failed a check");
}

/* --- open ----------------------------------------------------------------------------------------- */

/* --- parked descriptors ------------------------------------------------------------------------- */

static void store_park(struct store *s)
{
    struct parked *p = s->parked;
    s->parked = NULL;
    *p = (struct parked){store_parked, s->dev, s->ino, base_take_fd(&s->base), s->base.read_only};
    store_parked = p;
}

/* A parked descriptor of the file, or -1. One for reading serves only where no better can be had. */
static int store_unpark(const struct stat *st, const char *path, bool *read_only_out)
{
    bool writable = access(path, W_OK) == 0;
    for (struct parked **link = &store_parked; *link; link = &(*link)->next) {
        struct parked *p = *link;
        if (p->dev != st->st_dev || p->ino != st->st_ino || (p->read_only && writable))
            continue;
        int fd = p->fd;
        *read_only_out = p->read_only;
        *link = p->next;
        free(p);
        return fd;
    }
    return -1;
}

/* The file is ours alone: its parked descriptors can go. */
static void store_close_parked(const struct store *s)
{
    for (struct parked **link = &store_parked; *link;) {
        struct parked *p = *link;
        if (p->dev != s->dev || p->ino != s->ino) {
            link = &p->next;
            continue;
        }
        close(p->fd);
        *link = p->next;
        free(p);
    }
}

static void store_free(struct store *s)
{
    store_close_sidecar(s);
    if (s->base.fd >= 0) {
        if (s->owner_writer)
            store_close_parked(s);
        /* A child process may share the open file description: closing would not unlock it. */
        struct dax_err ignored;
        (void)!owner_lock(s->base.fd, s->base.path ? s->base.path : "", OWNER_NONE, &ignored);
        if (!s->owner_writer)
            store_park(s);
    }
    base_close(&s->base);
    media_destroy(s); /* no mapping is left */
    scan_destroy(&s->scan);
    txn_destroy(s);
    log_destroy(&s->log);
    region_destroy(&s->region);
    if (s->fork_guard)
        munmap((void *)s->fork_guard, (size_t)sysconf(_SC_PAGESIZE));
    free(s->pages);
    free(s->bitmaps);
    free(s->sidecar_path);
    free(s->parked);
    free(s);
}

/* First bytes of the file; the rest is zeros if it is shorter. */
static dax_rc store_read_header(struct store *s, uint8_t header[DAX_HEADER_BYTES],
                                struct dax_err *err)
{
    memset(header, 0, DAX_HEADER_BYTES);
    ssize_t n;
    do
        n = pread(s->base.fd, header, DAX_HEADER_BYTES, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EIO)
        return dax_err_set(err, DAX_IO_MEDIA, errno,
                           "%s: the first page, which holds the header and the schema's root, cannot be "
                           "read: a media error; restore the database from a backup",
                           s->base.path);
    if (n < 0)
        return dax_err_set(err, DAX_IO_READ, errno, "%s: cannot read the header", s->base.path);
    return DAX_OK;
}

static bool store_header_marked(const uint8_t header[DAX_HEADER_BYTES])
{
    struct mark m;
    return mark_read(header, &m) == MARK_SET;
}

/* A stock connection in WAL mode checkpoints into the file under no more than a read lock. So such a
 * file is locked against everybody even for reading, unless nobody can write to it anyway. */
static dax_rc store_lock_wal_file(struct store *s, struct dax_err *err)
{
    struct statvfs fs;
    if (!s->base.read_only) {
        dax_rc rc = owner_lock(s->base.fd, s->base.path, OWNER_WRITER, err);
        s->owner_writer = rc == DAX_OK;
        return rc;
    }
    if (fstatvfs(s->base.fd, &fs) == 0 && (fs.f_flag & ST_RDONLY))
        return DAX_OK;
    return dax_err_set(err, DAX_CANT_OPEN, 0,
                       "%s is a WAL-mode database, and without permission to write it cannot be "
                       "locked against other programs that change it: open it with permission, or "
                       "put it into rollback mode (PRAGMA journal_mode=DELETE) with stock SQLite",
                       s->base.path);
}

/* What stock SQLite left is recovered by stock SQLite, then the file is ours alone. */
static dax_rc store_take_over(struct store *s, const struct dax_options *o, struct dax_err *err)
{
    uint8_t header[DAX_HEADER_BYTES];
    dax_rc rc = store_read_header(s, header, err);
    if (rc == DAX_OK && o->adopt)
        rc = o->adopt(o->adopt_arg, s->base.path, DAX_ADOPT_BEFORE_LOCK,
                      store_header_marked(header), err);
    if (rc != DAX_OK)
        return rc;
    bool writer = !o->read_only && !s->base.read_only;
    rc = owner_lock(s->base.fd, s->base.path, writer ? OWNER_WRITER : OWNER_READER, err);
    s->owner_writer = writer && rc == DAX_OK;
    if (rc == DAX_OK)
        rc = store_read_header(s, header, err);
    if (rc == DAX_OK && !s->owner_writer && header[DAX_HEADER_READ_VERSION] == 2)
        rc = store_lock_wal_file(s, err);
    if (rc == DAX_OK && o->adopt)
        rc = o->adopt(o->adopt_arg, s->base.path, DAX_ADOPT_AFTER_LOCK,
                      store_header_marked(header), err);
    return rc;
}

/* --- the mark, whose page may be bad ------------------------------------------------------------- */

struct store_mark_call {
    struct store *s;
    enum { STORE_MARK_SET, STORE_MARK_CLEAR, STORE_MARK_SWEEP } what;
    dax_rc rc;
    struct dax_err *err;
};

static void store_call_mark(void *arg)
{
    struct store_mark_call *c = arg;
    uint8_t *header = base_at(&c->s->base, 0);
    switch (c->what) {
    case STORE_MARK_SET: c->rc = mark_set(&c->s->persist, header, &c->s->mark, c->err); break;
    case STORE_MARK_CLEAR: c->rc = mark_clear(&c->s->persist, header, &c->s->mark, c->err); break;
    case STORE_MARK_SWEEP: c->rc = mark_sweep(&c->s->persist, header, c->err); break;
    }
}

static dax_rc store_try_mark(struct store *s, int what, struct dax_err *err)
{
    struct store_mark_call c = {s, what, DAX_OK, err};
    struct guard_fault fault;
    return guard_call(store_call_mark, &c, &fault) ? c.rc : media_fault(s, 0, &fault, err);
}

/* Judge the header; recover if the mark is there. */
static dax_rc store_load(struct store *s, const struct dax_options *o, struct dax_err *err)
{
    uint8_t header[DAX_HEADER_BYTES];
    dax_rc rc = store_read_header(s, header, err);
    if (rc != DAX_OK)
        return rc;
    uint64_t txid = 1, size = s->base.file_bytes;
    bool empty = size == 0;
    enum mark_state state = mark_read(header, &s->mark);
    switch (state) {
    case MARK_FOREIGN:
        return dax_err_set(err, DAX_NOT_A_DATABASE, 0,
                           "%s: header byte 19 (read version) is %u: made by a newer SQLite or a "
                           "newer daxlite, or damaged",
                           s->base.path, header[DAX_HEADER_READ_VERSION]);
    case MARK_SET:
        if (!s->owner_writer)
            return dax_err_set(err, DAX_CANT_OPEN, 0,
                               "%s was not closed by daxlite and has to be recovered: open it for "
                               "writing once",
                               s->base.path);
        rc = recovery_run(s, o->skip_damaged_log, &txid, &size, err);
        if (rc != DAX_OK)
            return rc;
        atomic_store(&s->active, true);
        break;
    case MARK_LEFT:
        /* The last removal was interrupted behind P6: finish it. */
        if (s->owner_writer) {
            rc = store_try_mark(s, STORE_MARK_SWEEP, err);
            if (rc != DAX_OK)
                return rc;
        }
        /* fall through */
    case MARK_NONE:
    case MARK_RESERVED_USED:
        s->has_reserved_data = state == MARK_RESERVED_USED;
        s->mark = (struct mark){.write_version = empty ? 1 : header[DAX_HEADER_WRITE_VERSION],
                                .read_version = empty ? 1 : header[DAX_HEADER_READ_VERSION]};
        break;
    }
    if (pages_of(size) > DAX_MAX_PAGES)
        return dax_err_set(err, DAX_CANT_OPEN, 0, "%s is larger than %llu TiB", s->base.path,
                           (unsigned long long)((DAX_MAX_PAGES << DAX_PAGE_SHIFT) >> 40));
    s->region.header->initial_pages = pages_of(size);
    GUARDED_SET(s->region.header->guarded.fresh_from, pages_of(s->base.file_bytes));
    if (!atomic_load(&s->active))
        media_peek(s);
    snapshot_publish(&s->region, txid, size);
    media_flag_all(s);
    media_check_badblocks(s);
    return DAX_OK;
}

static dax_rc store_build(struct store *s, const struct dax_options *o, struct dax_err *err)
{
    s->log_bytes = o->log_bytes;
    s->persist_choice = o->persist;
    if (asprintf(&s->sidecar_path, "%s-dax", s->base.path) < 0) {
        s->sidecar_path = NULL;
        return dax_err_set(err, DAX_NOMEM, ENOMEM, "cannot allocate a path");
    }
    dax_rc rc = store_make_guard(s, err);
    if (rc == DAX_OK)
        rc = store_take_over(s, o, err);
    if (rc == DAX_OK)
        rc = medium_detect(s->base.fd, s->base.path, o->persist, &s->medium, err);
    if (rc != DAX_OK)
        return rc;
    rc = guard_install(err);
    if (rc == DAX_OK)
        rc = media_create(s, err);
    if (rc != DAX_OK)
        return rc;
    persist_init(&s->persist, s->medium.mode, s->base.fd);
    s->base.persist = &s->persist;
    s->base.owner = media_owner_of_base(s);
    rc = base_map(&s->base, s->medium.mode == PERSIST_PMEM, DAX_MAP_BYTES_MIN, err);
    if (rc == DAX_OK && s->medium.holes_take_space)
        rc = base_fill_holes(&s->base, s->owner_writer, err);
    if (rc == DAX_OK)
        rc = region_create(&s->region, err);
    if (rc == DAX_OK)
        rc = scan_create(&s->scan, err);
    if (rc == DAX_OK)
        rc = store_load(s, o, err);
    if (rc == DAX_OK)
        dax_log(DAX_OK, "%s: %s mode: %s", s->base.path,
                persist_mode_name(s->medium.mode), s->medium.why);
    return rc;
}

static bool store_mode_asked_for(const struct store *s, enum medium_choice choice)
{
    switch (choice) {
    case MEDIUM_AUTO: return true;
    case MEDIUM_PMEM: return s->medium.mode != PERSIST_MSYNC;
    case MEDIUM_MSYNC: return s->medium.mode == PERSIST_MSYNC;
    }
    return false;
}

/* One more connection to a store that this process has. */
static dax_rc store_join(struct store *s, const struct dax_options *o, struct dax_err *err)
{
    if (!store_mode_asked_for(s, o->persist))
        return dax_err_set(err, DAX_MISUSE, 0,
                           "%s is open in this process in %s mode (%s): dax_persist cannot differ "
                           "between its connections",
                           s->base.path, persist_mode_name(s->medium.mode), s->medium.why);
    dax_rc installed = guard_install(err);
    if (installed != DAX_OK)
        return installed;
    media_check_badblocks(s);
    if (!o->read_only && !s->owner_writer && !s->base.read_only) {
        /* It was open for reading only. */
        dax_rc rc = owner_lock(s->base.fd, s->base.path, OWNER_WRITER, err);
        if (rc != DAX_OK)
            return rc;
        s->owner_writer = true;
    }
    return DAX_OK;
}

static struct store *store_find(dev_t dev, ino_t ino)
{
    struct store *s = store_registry;
    while (s && !(s->dev == dev && s->ino == ino && store_same_process(s)))
        s = s->next;
    return s;
}

/* The file, by a descriptor of its own or a parked one. */
static dax_rc store_open_base(struct store *s, const char *path, const struct dax_options *o,
                              struct dax_err *err)
{
    struct stat st;
    bool read_only = false;
    int fd = stat(path, &st) == 0 ? store_unpark(&st, path, &read_only) : -1;
    dax_rc rc = fd >= 0 ? base_open_with(&s->base, path, fd, read_only, err)
                        : base_open(&s->base, path, o->create && !o->read_only, false, err);
    /* What was parked is parked again when the open fails. */
    if (rc != DAX_OK && fd >= 0) {
        s->base.fd = fd;
        s->base.read_only = read_only;
    }
    s->dev = fd >= 0 ? st.st_dev : s->base.dev;
    s->ino = fd >= 0 ? st.st_ino : s->base.ino;
    return rc;
}

dax_rc store_acquire(const char *path, const struct dax_options *o, struct store **out,
                     struct dax_err *err)
{
    *out = NULL;
    pthread_once(&store_fork_once, store_fork_install);
    struct store *fresh = calloc(1, sizeof *fresh);
    if (fresh)
        fresh->parked = malloc(sizeof *fresh->parked);
    if (!fresh || !fresh->parked) {
        free(fresh);
        return dax_err_set(err, DAX_NOMEM, ENOMEM, "cannot allocate a store");
    }
    fresh->base.fd = -1;

    pthread_mutex_lock(&store_registry_lock);
    dax_rc rc;
    struct store *s = NULL;
    struct stat st;
    bool known = stat(path, &st) == 0;
    if (known)
        s = store_find(st.st_dev, st.st_ino);
    if (!known && (errno == EIO || errno == ENOMEM)) {
        /* Whether it is open here already cannot be told. */
        rc = dax_err_set(err, DAX_CANT_OPEN, errno, "cannot examine \"%s\"", path);
    } else if (s) {
        rc = store_join(s, o, err);
    } else if (o->join) {
        rc = dax_err_set(err, DAX_CANT_OPEN, 0, "\"%s\" is not open in this process", path);
    } else {
        rc = store_open_base(fresh, path, o, err);
        if (rc == DAX_OK)
            rc = store_build(fresh, o, err);
        if (rc == DAX_OK) {
            s = fresh;
            fresh = NULL;
            s->next = store_registry;
            store_registry = s;
        }
    }
    if (rc == DAX_OK) {
        s->refs++;
        *out = s;
    }
    if (fresh)
        store_free(fresh);
    pthread_mutex_unlock(&store_registry_lock);
    return rc;
}

/* --- activation ------------------------------------------------------------------------------------ */

static void store_tell_sidecar(struct store *s)
{
    persist_set_sidecar(&s->persist, s->sidecar.fd, s->sidecar.pool, s->sidecar.file_bytes,
                        s->sidecar.ring, s->sidecar.ring_bytes);
    persist_bypass_cache(&s->persist, s->sidecar.path);
}

dax_rc store_match_sidecar(struct store *s, struct dax_err *err)
{
    if (s->medium.mode != PERSIST_PMEM || s->sidecar.mode != PERSIST_MSYNC)
        return DAX_OK;
    if (s->persist_choice == MEDIUM_PMEM)
        return dax_err_set(err, DAX_CANT_OPEN, 0,
                           "%s is on persistent memory but its sidecar %s is not (a DAX attribute of "
                           "the file?), and dax_persist=pmem was asked for",
                           s->base.path, s->sidecar_path);
    s->medium.mode = PERSIST_MSYNC;
    snprintf(s->medium.why, sizeof s->medium.why, "MAP_SYNC is refused for the sidecar");
    persist_set_mode(&s->persist, PERSIST_MSYNC);
    persist_bypass_cache(&s->persist, s->sidecar.path);
    dax_log(DAX_OK, "%s: msync mode: %s", s->base.path, s->medium.why);
    return DAX_OK;
}

dax_rc store_watch_sidecar(struct store *s, struct dax_err *err)
{
    store_tell_sidecar(s);
    media_sidecar_opened(s);
    return guard_map_add(s->sidecar.pool, s->sidecar.file_bytes, 0, media_owner_of_sidecar(s), err);
}

void store_close_sidecar(struct store *s)
{
    if (s->media)
        media_sidecar_closing(s);
    sidecar_closing(&s->sidecar);
    guard_map_remove(s->sidecar.pool);
    persist_set_sidecar(&s->persist, -1, NULL, 0, NULL, 0);
    sidecar_close(&s->sidecar);
}

/* Sidecar of the right database, or a new one, with an empty log and a nonce of this life. */
static dax_rc store_open_sidecar(struct store *s, struct cursor_slot *before_out, struct dax_err *err)
{
    struct stat like;
    if (fstat(s->base.fd, &like) != 0)
        return dax_err_set(err, DAX_IO_READ, errno, "%s", s->base.path);
    struct cursor_slot c = {0};
    dax_rc rc = sidecar_open(s->sidecar_path, &s->sidecar, err);
    if (rc == DAX_OK)
        rc = store_watch_sidecar(s, err);
    bool there = rc == DAX_OK;
    if (there) {
        /* Left from an earlier life of the database: its log is history. Its LSN goes on, so that
         * no old record can be taken for a new one even if the salts were equal. */
        struct dax_err none;
        if (sidecar_cursor_read(&s->sidecar, &c, &none) != DAX_OK)
            c = (struct cursor_slot){0};
        c.lsn += s->sidecar.ring_bytes;
        c.lsn -= c.lsn % DAX_LINE_BYTES;
    } else if (err->sys_errno == ENOENT) {
        rc = sidecar_create(s->sidecar_path, &like, s->log_bytes, &s->sidecar, err);
        if (rc == DAX_OK)
            rc = store_watch_sidecar(s, err);
    } else if (rc == DAX_IO_MEDIA || rc == DAX_CORRUPT) {
        rc = salvage_replace(s, rc, &c, err);
        c.lsn = 0; /* of a new ring */
    }
    if (rc == DAX_CORRUPT) {
        rc = dax_err_set(err, DAX_CANT_OPEN, 0,
                         "\"%s\" is damaged or not a daxlite log; the database was closed cleanly and "
                         "does not need it: move it away, a new one is made",
                         s->sidecar_path);
    }
    *before_out = c;
    if (rc == DAX_OK)
        rc = store_match_sidecar(s, err);
    if (rc != DAX_OK)
        return rc;
    uint64_t size;
    c.txid = snapshot_newest(&s->region, &size);
    c.size_bytes = size;
    c.salt = store_random();
    c.nonce = store_random();
    rc = log_write_cursor(s, 0, &c, err);
    if (rc == DAX_OK)
        log_start(s, &c);
    return rc;
}

/* All that the file has. Where somebody has cut it, and a pin keeps it from getting its length again, what
 * is left of it can be written to all the same. */
static dax_rc store_reserve_all(struct store *s, struct dax_err *err)
{
    uint64_t bytes = s->base.file_bytes & ~(uint64_t)(DAX_PAGE_BYTES - 1);
    dax_rc rc = store_reserve(s, bytes, err);
    uint64_t left = base_end(&s->base) & ~(uint64_t)(DAX_PAGE_BYTES - 1);
    if (rc == DAX_IO_MEDIA && left && left < bytes)
        rc = store_reserve(s, left, err);
    return rc;
}

dax_rc store_activate(struct store *s, uint32_t slot, struct dax_err *err)
{
    (void)slot;
    if (atomic_load_explicit(&s->active, memory_order_relaxed))
        return DAX_OK;
    struct dax_err local;
    if (!err)
        err = &local;
    if (s->base.file_bytes > 0 && s->base.file_bytes < DAX_HEADER_BYTES)
        return dax_err_set(err, DAX_NOT_A_DATABASE, 0, "%s has %llu bytes and no SQLite header",
                           s->base.path, (unsigned long long)s->base.file_bytes);
    if (s->has_reserved_data)
        return dax_err_set(err, DAX_READONLY, 0,
                           "%s: header bytes 72 - 91 are in use by something else, and daxlite "
                           "needs them while it writes: only reading is possible",
                           s->base.path);
    struct cursor_slot before = {0};
    dax_rc rc = store_open_sidecar(s, &before, err);
    s->mark.nonce = GUARDED_GET(s->region.header->guarded.nonce);
    if (rc == DAX_OK && s->base.file_bytes == 0) {
        /* P5 and P6 in one: a file of zeros without the mark would be no database at all. */
        uint8_t page[DAX_PAGE_BYTES] = {0};
        mark_put(page, &s->mark);
        rc = base_first_page(&s->base, page, err);
    } else if (rc == DAX_OK) {
        /* Holes first, so that no store into base meets a full disk. Before the file grows: an
         * unmarked file has its own size. Readers skip the bytes that the mark covers (conn.c),
         * whether they are ours or not. */
        rc = store_reserve_all(s, err);
        if (rc == DAX_OK)
            rc = store_try_mark(s, STORE_MARK_SET, err);
    }
    if (rc == DAX_OK)
        rc = media_load(s, err);
    if (rc != DAX_OK) {
        store_close_sidecar(s);
        return rc;
    }
    media_settle(s, before.nonce, before.txid);
    media_flag_all(s);
    media_check_badblocks(s);
    if (GUARDED_GET(s->region.header->guarded.fresh_from) == 0)
        GUARDED_SET(s->region.header->guarded.fresh_from, 1);
    atomic_store(&s->active, true);
    return DAX_OK;
}

/* --- close ------------------------------------------------------------------------------------------ */

static dax_rc store_deactivate(struct store *s, struct dax_err *err)
{
    dax_rc rc = store_usable(s, err);
    if (rc == DAX_OK)
        rc = checkpoint_close(s, err);
    if (rc == DAX_OK) {
        media_clear_beyond(s, pages_of(store_size(s)));
        salvage_at_close(s);
    }
    if (rc == DAX_OK && media_hides_pages(s)) {
        dax_log(DAX_IO_MEDIA,
                "%s stays marked as daxlite's: pages of it can be read and would be wrong, so no other "
                "program should; SELECT dax_repair() there",
                s->base.path);
        return DAX_OK;
    }
    /* An empty file has lost the mark with its only page. */
    if (rc == DAX_OK && store_size(s) > 0)
        rc = store_try_mark(s, STORE_MARK_CLEAR, err);
    return rc;
}

dax_rc store_release(struct store *s, struct dax_err *err)
{
    dax_rc rc = DAX_OK;
    pthread_mutex_lock(&store_registry_lock);
    if (--s->refs == 0) {
        struct store **link = &store_registry;
        while (*link != s)
            link = &(*link)->next;
        *link = s->next;
        if (atomic_load(&s->active)) {
            struct dax_err local = {0};
            rc = store_deactivate(s, err ? err : &local);
            if (rc != DAX_OK && s->cursor_lost)
                dax_log(rc, "%s cannot be opened again, unless its log can be read then: %s",
                        s->base.path, err ? err->text : local.text);
            else if (rc != DAX_OK)
                dax_log(rc, "%s stays marked; opening it again recovers it: %s",
                        s->base.path, err ? err->text : local.text);
        }
        store_free(s);
    }
    pthread_mutex_unlock(&store_registry_lock);
    return rc;
}
