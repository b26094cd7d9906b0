/* scrub.c: the SQL function dax_scrub([pages_per_second [, schema]]).
 *
 * Every page of base and of the sidecar is read inside the engine's guard; what cannot be read is
 * entered by the engine. Without a rate that is done now, to the end. With a rate a thread does it,
 * round after round, with an engine connection of its own, in pieces of at most SCRUB_PIECE pages. A
 * piece has its own snapshot, which it gives up before it sleeps: nobody ever waits for it, and no
 * version is kept for it. So a round is no look at one state: a page that is rewritten behind the
 * scrub's back has been stored anew, which is as good as having read it.
 *
 * Locking: one mutex for all scrubs of the process (the list, and every field), held for moments only,
 * never while pages are read. Above the engine's locks: an engine connection is opened under it.
 * Fork: the mutex is held across it; the child has no thread, and finds none.
 */
#include "vfs/scrub.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/limits.h"
#include "engine/media.h"
#include "vfs/interrupt.h"
#include "vfs/report.h"
#include "vfs/schema.h"
#include "vfs/vfs.h"

/* 1 MiB: about 0.1 ms of reading. */
#define SCRUB_PIECE 256u
/* Pieces in a second, where the rate allows smaller ones. */
#define SCRUB_PIECES_PER_S 100u
#define SCRUB_NS_PER_S UINT64_C(1000000000)

enum scrub_state {
    SCRUB_NONE,
    SCRUB_RUNS,
    SCRUB_ENDS /* somebody is joining it */
};

/* Everything is guarded by scrubs_lock, except that c and thread are the thread's resp. of who joins
 * it. */
struct scrub {
    char *path; /* owned */
    unsigned users;
    struct scrub *next;
    enum scrub_state state;
    bool stop;
    bool over; /* the thread has ended by itself, and waits to be joined */
    pthread_t thread;
    struct conn *c;
    uint64_t rate; /* pages per second */
    /* progress */
    uint64_t page; /* next: of the database, then of the sidecar */
    uint64_t pages;
    uint64_t bad, bad_before; /* found in this round, and in the one before */
    uint64_t rounds, read;
};

static pthread_mutex_t scrubs_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t scrubs_changed; /* of CLOCK_MONOTONIC: rate, stop or state of some scrub */
static struct scrub *scrubs;

/* --- one piece -------------------------------------------------------------------------------- */

/* What a piece has done. */
struct scrub_piece {
    uint64_t page;  /* in: the first; out: the next */
    uint64_t pages; /* of a round: database and sidecar, as they are now */
    uint64_t base_pages;
    uint64_t read, bad;
};

/* Up to max pages. c may hold a snapshot, which stays. Errors other than bad pages end it. */
static dax_rc scrub_run_piece(struct conn *c, struct scrub_piece *p, uint64_t max,
                              struct dax_err *err)
{
    bool own_snapshot = conn_snapshot(c) == 0;
    dax_rc rc = own_snapshot ? conn_begin_read(c, report_clear(err)) : DAX_OK;
    if (rc != DAX_OK)
        return rc;
    uint64_t sidecar = 0;
    p->base_pages = (conn_size_committed(c) + DAX_PAGE_BYTES - 1) / DAX_PAGE_BYTES;
    p->pages = p->base_pages;
    p->read = p->bad = 0;
    rc = conn_media_probe_sidecar(c, UINT64_MAX, &sidecar, report_clear(err));
    p->pages += sidecar;
    for (; rc == DAX_OK && p->page < p->pages && p->read < max; p->page++, p->read++) {
        rc = p->page < p->base_pages ? conn_media_probe(c, p->page, report_clear(err))
                                     : conn_media_probe_sidecar(c, p->page - p->base_pages,
                                                                &sidecar, report_clear(err));
        if (rc == DAX_IO_MEDIA) {
            p->bad++;
            rc = DAX_OK;
        }
    }
    if (own_snapshot)
        conn_end_read(c);
    return rc;
}

/* --- in the background ------------------------------------------------------------------------ */

static uint64_t scrub_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SCRUB_NS_PER_S + (uint64_t)t.tv_nsec;
}

static void scrub_note(struct scrub *s, const struct scrub_piece *p)
{
    s->page = p->page;
    s->pages = p->pages;
    s->read += p->read;
    s->bad += p->bad;
    if (p->page < p->pages)
        return;
    s->page = 0;
    s->bad_before = s->bad;
    s->bad = 0;
    s->rounds++;
}

/* Until `due`, or until somebody changes something. Holds the lock. */
static void scrub_sleep(uint64_t due)
{
    struct timespec t = {(time_t)(due / SCRUB_NS_PER_S), (long)(due % SCRUB_NS_PER_S)};
    (void)pthread_cond_timedwait(&scrubs_changed, &scrubs_lock, &t);
}

static void *scrub_thread(void *arg)
{
    struct scrub *s = arg;
    struct dax_err err;
    uint64_t due = scrub_now_ns();
    dax_rc rc = DAX_OK;
    pthread_mutex_lock(&scrubs_lock);
    while (!s->stop && rc == DAX_OK) {
        uint64_t now = scrub_now_ns();
        if (now < due) {
            scrub_sleep(due);
            continue;
        }
        uint64_t n = s->rate / SCRUB_PIECES_PER_S;
        n = n < 1 ? 1 : n > SCRUB_PIECE ? SCRUB_PIECE : n;
        due = (now - due > SCRUB_NS_PER_S ? now : due) + n * SCRUB_NS_PER_S / s->rate;
        struct scrub_piece p = {.page = s->page};
        pthread_mutex_unlock(&scrubs_lock);
        rc = scrub_run_piece(s->c, &p, n, &err);
        pthread_mutex_lock(&scrubs_lock);
        if (rc == DAX_OK)
            scrub_note(s, &p);
        else
            dax_log(rc, "the scrub of \"%s\" ends: %s", s->path, err.text);
    }
    s->over = true;
    struct conn *c = s->c;
    pthread_mutex_unlock(&scrubs_lock);
    rc = conn_close(c, report_clear(&err));
    if (rc != DAX_OK)
        dax_log(rc, "%s", err.text);
    return NULL;
}

/* All signals but those that this thread's own instructions raise: the handler of SIGBUS is the
 * guard's, the others are nobody's business here. */
static int scrub_create_thread(struct scrub *s)
{
    static const int own[] = {SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGABRT};
    sigset_t block, before;
    sigfillset(&block);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        sigdelset(&block, own[i]);
    pthread_sigmask(SIG_SETMASK, &block, &before);
    int rc = pthread_create(&s->thread, NULL, scrub_thread, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

/* Ends the thread, if there is one. Holds the lock; gives it up meanwhile. */
static void scrub_stop(struct scrub *s)
{
    while (s->state == SCRUB_ENDS)
        pthread_cond_wait(&scrubs_changed, &scrubs_lock);
    if (s->state == SCRUB_NONE)
        return;
    s->state = SCRUB_ENDS;
    s->stop = true;
    pthread_cond_broadcast(&scrubs_changed);
    pthread_mutex_unlock(&scrubs_lock);
    pthread_join(s->thread, NULL);
    pthread_mutex_lock(&scrubs_lock);
    s->state = SCRUB_NONE;
    s->stop = s->over = false;
    s->c = NULL;
    s->rate = 0;
    pthread_cond_broadcast(&scrubs_changed);
}

/* Starts the thread, or changes its rate. Holds the lock. */
static dax_rc scrub_start(struct scrub *s, uint64_t rate, struct dax_err *err)
{
    while (s->state == SCRUB_ENDS)
        pthread_cond_wait(&scrubs_changed, &scrubs_lock);
    if (s->over)
        scrub_stop(s);
    s->rate = rate;
    if (s->state == SCRUB_RUNS) {
        pthread_cond_broadcast(&scrubs_changed);
        return DAX_OK;
    }
    struct dax_options options = dax_options_default();
    options.create = false;
    options.read_only = true;
    dax_rc rc = conn_open(s->path, &options, &s->c, err);
    if (rc != DAX_OK)
        return rc;
    s->page = s->bad = 0;
    int e = scrub_create_thread(s);
    if (e != 0) {
        (void)!conn_close(s->c, NULL);
        return dax_err_set(err, DAX_NOMEM, e, "cannot start a thread");
    }
    s->state = SCRUB_RUNS;
    return DAX_OK;
}

/* --- fork ------------------------------------------------------------------------------------- */

static void scrub_before_fork(void)
{
    pthread_mutex_lock(&scrubs_lock);
}

static void scrub_in_parent(void)
{
    pthread_mutex_unlock(&scrubs_lock);
}

static void scrub_in_child(void)
{
    for (struct scrub *s = scrubs; s; s = s->next) {
        s->state = SCRUB_NONE; /* the thread and its connection are the parent's */
        s->stop = s->over = false;
        s->c = NULL;
        s->rate = 0;
    }
    pthread_mutex_unlock(&scrubs_lock);
}

static void scrub_init(void)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&scrubs_changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_atfork(scrub_before_fork, scrub_in_parent, scrub_in_child);
}

/* --- files ------------------------------------------------------------------------------------ */

struct scrub *scrub_attach(const char *path)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, scrub_init);
    pthread_mutex_lock(&scrubs_lock);
    struct scrub *s = scrubs;
    while (s && strcmp(s->path, path) != 0)
        s = s->next;
    if (!s && (s = calloc(1, sizeof *s))) {
        s->path = strdup(path);
        if (s->path) {
            s->next = scrubs;
            scrubs = s;
        } else {
            free(s);
            s = NULL;
        }
    }
    if (s)
        s->users++;
    pthread_mutex_unlock(&scrubs_lock);
    return s;
}

void scrub_detach(struct scrub *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&scrubs_lock);
    bool last = --s->users == 0;
    struct scrub **link = &scrubs;
    while (last && *link != s)
        link = &(*link)->next;
    if (last) {
        *link = s->next; /* who opens the file from now on begins anew */
        scrub_stop(s);
    }
    pthread_mutex_unlock(&scrubs_lock);
    if (!last)
        return;
    free(s->path);
    free(s);
}

/* --- SQL -------------------------------------------------------------------------------------- */

void scrub_write(struct json *j, struct scrub *s)
{
    struct scrub now = {0};
    if (s) {
        pthread_mutex_lock(&scrubs_lock);
        now = *s;
        pthread_mutex_unlock(&scrubs_lock);
    }
    json_object_open(j, "scrub");
    json_bool(j, "running", now.state == SCRUB_RUNS && !now.over);
    json_number(j, "pages_per_second", now.rate);
    json_number(j, "page", now.page);
    json_number(j, "pages", now.pages);
    json_number(j, "bad", now.bad);
    json_number(j, "bad_before", now.bad_before);
    json_number(j, "rounds", now.rounds);
    json_number(j, "read", now.read);
    json_object_close(j);
}

static void scrub_error(sqlite3_context *ctx, int code, const char *why)
{
    char *text = sqlite3_mprintf("dax_scrub: %s", why);
    if (text && code != SQLITE_NOMEM) {
        sqlite3_result_error(ctx, text, -1);
        sqlite3_result_error_code(ctx, code);
    } else {
        sqlite3_result_error_nomem(ctx);
    }
    sqlite3_free(text);
}

/* All of it, now. */
static void scrub_run(sqlite3_context *ctx, sqlite3 *db, struct conn *c, const char *schema)
{
    struct interrupt interrupt = {.db = db};
    struct scrub_piece p = {0};
    struct dax_err err;
    uint64_t bad = 0, read = 0;
    dax_rc rc = DAX_OK;
    bool stopped = false;
    do {
        rc = scrub_run_piece(c, &p, SCRUB_PIECE, &err);
        bad += p.bad;
        read += p.read;
        stopped = interrupt_asked(&interrupt);
    } while (rc == DAX_OK && !stopped && p.page < p.pages);
    interrupt_end(&interrupt);
    if (rc != DAX_OK || stopped) {
        scrub_error(ctx, stopped ? SQLITE_INTERRUPT : vfs_code(rc),
                    stopped ? sqlite3_errstr(SQLITE_INTERRUPT) : err.text);
        return;
    }
    struct json j = {sqlite3_str_new(db), true};
    json_object_open(&j, NULL);
    json_text(&j, "schema", schema);
    json_number(&j, "pages", read);
    json_number(&j, "sidecar_pages", p.pages - p.base_pages);
    json_number(&j, "bytes", read * DAX_PAGE_BYTES);
    json_number(&j, "bad", bad);
    json_object_close(&j);
    json_result(ctx, &j);
}

static void scrub_set_rate(sqlite3_context *ctx, sqlite3 *db, const char *schema, uint64_t rate)
{
    struct scrub *s = NULL;
    struct dax_err err;
    dax_rc rc = DAX_OK;
    if (sqlite3_file_control(db, schema, DAX_FCNTL_SCRUB, &s) != SQLITE_OK || !s) {
        scrub_error(ctx, SQLITE_NOMEM, "");
        return;
    }
    pthread_mutex_lock(&scrubs_lock);
    if (rate == 0)
        scrub_stop(s);
    else
        rc = scrub_start(s, rate, report_clear(&err));
    pthread_mutex_unlock(&scrubs_lock);
    if (rc != DAX_OK) {
        scrub_error(ctx, vfs_code(rc), err.text);
        return;
    }
    struct json j = {sqlite3_str_new(db), true};
    json_object_open(&j, NULL);
    json_text(&j, "schema", schema);
    scrub_write(&j, s);
    json_object_close(&j);
    json_result(ctx, &j);
}

static void dax_scrub(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    sqlite3 *db = sqlite3_context_db_handle(ctx);
    bool now = argc < 1 || sqlite3_value_type(argv[0]) == SQLITE_NULL;
    sqlite3_int64 rate = now ? 0 : sqlite3_value_int64(argv[0]);
    char *schema, *why;
    if (!now && (sqlite3_value_numeric_type(argv[0]) != SQLITE_INTEGER || rate < 0)) {
        scrub_error(ctx, SQLITE_ERROR, "the rate is a number of pages per second; 0 stops");
        return;
    }
    struct conn *c =
        schema_find(db, argc > 1 ? (const char *)sqlite3_value_text(argv[1]) : NULL, &schema, &why);
    if (!c)
        scrub_error(ctx, why ? SQLITE_ERROR : SQLITE_NOMEM, why ? why : "");
    else if (now)
        scrub_run(ctx, db, c, schema);
    else
        scrub_set_rate(ctx, db, schema, (uint64_t)rate);
    sqlite3_free(schema);
    sqlite3_free(why);
}

int scrub_functions_register(sqlite3 *db)
{
    int rc = SQLITE_OK;
    for (int argc = 0; argc <= 2 && rc == SQLITE_OK; argc++)
        rc = sqlite3_create_function(db, "dax_scrub", argc, SQLITE_UTF8 | SQLITE_DIRECTONLY, NULL,
                                     dax_scrub, NULL, NULL);
    return rc;
}
