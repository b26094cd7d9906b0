/* media_callback.c: the application's function for media errors.
 *
 * Calls are counted, under the parity of the registration that they are of: whoever registers anew
 * changes the parity and waits until the calls of the old one are gone, while calls of the new one
 * begin and end. A registration from within the callback cannot wait for itself and keeps the parity,
 * so the next one from outside waits for the calls of both.
 *
 * Each thread has a queue of what it is to deliver. Errors met within the callback are put behind it,
 * so the depth of the stack does not grow with the number of bad pages.
 *
 * Locking: callback_lock (leaf), not held during a call. It is held across a fork; in the child the
 * calls of other threads are gone.
 */
#include "vfs/media_callback.h"

#include <pthread.h>
#include <string.h>

#include "vfs/sqlite.h"

static pthread_mutex_t callback_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t callback_ended = PTHREAD_COND_INITIALIZER;

/* Guarded by callback_lock. */
static daxlite_media_fn callback_fn;
static void *callback_arg;
static unsigned callback_parity;
static unsigned callback_running[2]; /* calls, by the parity they began under */
static bool callback_changing;       /* somebody waits for the calls of the other parity */

static _Thread_local struct {
    bool inside; /* a call is under way on this thread */
    unsigned parity;
    bool delivering;
    struct media_batch *first, *last;
} mine;

static void callback_fork_prepare(void)
{
    pthread_mutex_lock(&callback_lock);
}

static void callback_fork_parent(void)
{
    pthread_mutex_unlock(&callback_lock);
}

static void callback_fork_child(void)
{
    callback_running[0] = callback_running[1] = 0;
    if (mine.inside)
        callback_running[mine.parity] = 1;
    callback_changing = false;
    callback_ended = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    pthread_mutex_unlock(&callback_lock);
}

int media_callback_init(void)
{
    return pthread_atfork(callback_fork_prepare, callback_fork_parent, callback_fork_child);
}

void media_callback_set(daxlite_media_fn fn, void *arg)
{
    pthread_mutex_lock(&callback_lock);
    while (callback_changing && !mine.inside)
        pthread_cond_wait(&callback_ended, &callback_lock);
    callback_fn = fn;
    callback_arg = arg;
    if (!mine.inside) {
        unsigned old = callback_parity;
        callback_parity = !old;
        callback_changing = true;
        while (callback_running[old])
            pthread_cond_wait(&callback_ended, &callback_lock);
        callback_changing = false;
        pthread_cond_broadcast(&callback_ended);
    }
    pthread_mutex_unlock(&callback_lock);
}

struct media_batch *media_batch_take(struct conn *c, const char *path)
{
    size_t path_bytes = strlen(path) + 1, count = conn_media_list(c, NULL, 0);
    for (;;) {
        size_t room = count + 8; /* others may enter more meanwhile */
        struct media_batch *batch =
            sqlite3_malloc64(sizeof *batch + room * sizeof batch->entries[0] + path_bytes);
        if (!batch)
            return NULL;
        count = conn_media_list(c, batch->entries, room);
        if (count <= room) {
            char *copy = (char *)&batch->entries[room];
            memcpy(copy, path, path_bytes);
            *batch = (struct media_batch){.path = copy, .count = count};
            return batch;
        }
        sqlite3_free(batch);
    }
}

static void callback_call(const char *path, const struct media_entry *e)
{
    const struct daxlite_media_error error = {
        .size = sizeof error,
        .path = path,
        .id = e->id,
        .page = e->page,
        .bytes = e->bytes,
        .part = media_part_name((enum media_part)e->part),
        .kind = media_kind_name((enum media_kind)e->kind),
        .type = e->type,
        .object = e->name,
        .role = e->role,
        .status = media_status_name((enum media_status)e->status),
        .detail = e->detail,
        .time_us = (long long)e->found_us,
    };
    pthread_mutex_lock(&callback_lock);
    daxlite_media_fn fn = callback_fn;
    void *arg = callback_arg;
    mine.parity = callback_parity;
    mine.inside = fn != NULL;
    callback_running[mine.parity] += mine.inside;
    pthread_mutex_unlock(&callback_lock);
    if (!fn)
        return;
    fn(arg, &error);
    pthread_mutex_lock(&callback_lock);
    mine.inside = false;
    if (--callback_running[mine.parity] == 0)
        pthread_cond_broadcast(&callback_ended);
    pthread_mutex_unlock(&callback_lock);
}

void media_callback_deliver(struct media_batch *batch)
{
    batch->next = NULL;
    if (mine.last)
        mine.last->next = batch;
    else
        mine.first = batch;
    mine.last = batch;
    if (mine.delivering)
        return; /* the call further up does it */
    mine.delivering = true;
    while (mine.first) {
        struct media_batch *b = mine.first;
        for (size_t i = 0; i < b->count; i++)
            callback_call(b->path, &b->entries[i]);
        mine.first = b->next;
        if (!mine.first)
            mine.last = NULL;
        sqlite3_free(b);
    }
    mine.delivering = false;
}
