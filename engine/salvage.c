/* salvage.c: goes on with a database whose sidecar libpmemobj cannot be given.
 *
 * libpmemobj's structures (pool header, lanes, heap, the root's page) are needed by nobody but itself.
 * When a page of them is unreadable or damaged, the log is as good as ever, and may be all there is of
 * the last transactions:
 *   1. the sidecar is opened without libpmemobj (sidecar_bare.c), and recovery replays its log as always,
 *      with all its checks; a log that cannot be read is refused as always, and nothing is changed
 *   2. P3  base is durable
 *   3. a new sidecar is made under another name, whole: cursor at the log's end, ledger from the entries
 *      in memory, which are what could be read of the old one and what was found meanwhile
 *   4. it takes the old one's name (rename), which is P4 here: whoever opens the database finds either the
 *      old log, to be replayed once more, or an empty one
 * The old file is kept beside it ("-dax-bad"): what is in it that cannot be read now is lost by nobody's
 * decision, and a file system does not give its bad blocks to the next file that wants some.
 *
 * A database without a mark has nothing in the log; there, steps 3 and 4 are enough. So they are at a close
 * with entries that the ledger could not take, because a page of libpmemobj's had gone bad meanwhile: the log
 * is empty then, and the cursor the same.
 */
#include "engine/salvage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/media_state.h"

static void salvage_enter(struct store *s, dax_rc rc, uint64_t bad_page)
{
    if (rc == DAX_IO_MEDIA)
        media_sidecar_refused(s);
    else
        media_enter(s, MEDIA_SIDECAR, bad_page, DAX_PAGE_BYTES, MEDIA_DAMAGED,
                    "libpmemobj does not take the sidecar");
}

dax_rc salvage_open(struct store *s, dax_rc rc, struct dax_err *err)
{
    struct dax_err why = {0};
    struct sidecar bare;
    uint64_t bad_page = s->sidecar.bad_page;
    if (rc != DAX_IO_MEDIA && rc != DAX_CORRUPT)
        return rc;
    salvage_enter(s, rc, bad_page);
    if (sidecar_open_bare(s->sidecar_path, &bare, &why) != DAX_OK)
        return why.sys_errno == EWOULDBLOCK ? dax_err_set(err, why.rc, 0, "%s", why.text) : rc;
    s->sidecar = bare;
    s->sidecar.bad_page = bad_page;
    return DAX_OK;
}

/* As large as the old one, where that is possible. */
static uint64_t salvage_bytes(const struct store *s, uint64_t old)
{
    return old >= DAX_LOG_BYTES_MIN && old <= DAX_LOG_BYTES_MAX ? old : s->log_bytes;
}

/* s->sidecar is not open; then it is the new one. */
static dax_rc salvage_make(struct store *s, const struct cursor_slot *c, uint64_t bytes,
                           const char *how, struct dax_err *err)
{
    struct stat like;
    if (fstat(s->base.fd, &like) != 0)
        return dax_err_set(err, DAX_IO_READ, errno, "%s", s->base.path);
    struct sidecar_ledger *ledger = malloc(sizeof *ledger);
    if (!ledger)
        return dax_err_set(err, DAX_NOMEM, ENOMEM, "no memory to make the log \"%s\"",
                           s->sidecar_path);
    media_carry_over(s, ledger);
    struct sidecar_seed seed = {c, ledger};
    bool kept;
    dax_rc rc = sidecar_replace(s->sidecar_path, &like, salvage_bytes(s, bytes), &seed, &kept,
                                &s->sidecar, err);
    free(ledger);
    if (rc == DAX_OK)
        dax_log(DAX_OK, "%s was bad and is made anew%s%s", s->sidecar_path, how,
                kept ? "; the old file is kept as ...-dax-bad" : "");
    return rc == DAX_OK ? store_watch_sidecar(s, err) : rc;
}

dax_rc salvage_renew(struct store *s, const struct cursor_slot *c, struct dax_err *err)
{
    uint64_t bytes = s->sidecar.file_bytes;
    struct dax_err why = {0};
    const char *how = s->sidecar.bare ? ", its log replayed without libpmemobj" : "";
    store_close_sidecar(s);
    dax_rc rc = salvage_make(s, c, bytes, how, &why);
    if (rc != DAX_OK)
        return dax_err_set(
            err, rc, 0,
            "%s: all of its log is stored home, but no new one can be made in place of the bad "
            "one: %.300s. Nothing is lost: open it again",
            s->base.path, why.text);
    media_carried_over(s);
    return DAX_OK;
}

dax_rc salvage_replace(struct store *s, dax_rc rc, struct cursor_slot *before_out,
                       struct dax_err *err)
{
    struct dax_err why = {0}, none;
    uint64_t bytes = 0, bad_page = s->sidecar.bad_page;
    if (sidecar_open_bare(s->sidecar_path, &s->sidecar, &why) == DAX_OK) {
        bytes = s->sidecar.file_bytes;
        if (store_watch_sidecar(s, &none) == DAX_OK) {
            if (sidecar_cursor_read(&s->sidecar, before_out, &none) != DAX_OK)
                *before_out = (struct cursor_slot){0};
            if (media_load(s, &none) != DAX_OK) /* else as far as media_peek has seen it */
                dax_log(none.rc, "%s", none.text);
        }
        store_close_sidecar(s);
    } else if (rc != DAX_IO_MEDIA || why.rc != DAX_CORRUPT) {
        return why.sys_errno == EWOULDBLOCK ? dax_err_set(err, why.rc, 0, "%s", why.text) : rc;
    }
    s->sidecar.bad_page = bad_page;
    salvage_enter(s, rc, bad_page);
    return salvage_make(s, NULL, bytes, "", err);
}

void salvage_at_close(struct store *s)
{
    struct cursor_slot c;
    struct dax_err err = {0};
    if (!media_ledger_is_behind(s))
        return;
    dax_rc rc = sidecar_cursor_read(&s->sidecar, &c, &err);
    if (rc == DAX_OK)
        rc = salvage_renew(s, &c, &err);
    if (rc != DAX_OK)
        dax_log(rc, "%s: media errors that were found meanwhile are forgotten: %.300s",
                s->base.path, err.text);
}
