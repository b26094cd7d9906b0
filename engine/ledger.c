/* ledger.c: the ledger of media errors: 256 entries in an object of the pool.
 *
 * Format (layout.h): entries in no order, each with its hash, free ones as well; at both ends a head
 * with the greatest id that was ever used, since the entry that had it may have been given up or
 * damaged. What somebody has zeroed is damaged, not free.
 *
 * Crash. An entry, and the heads with it, changes in one transaction of libpmemobj: its undo log has
 * the old bytes before the first new one is stored, and the next pmemobj_open puts them back if the
 * transaction has not ended. What is added to it (an entry of 512 bytes, two heads of 64) fits into the
 * log that each of libpmemobj's lanes has, so no transaction needs space of the heap, where the ring
 * has left none.
 *
 * Media errors. The ledger may lie on a bad page, too. Entries are loaded inside the guard. A
 * transaction cannot run inside it (it locks and allocates), so what it will touch is probed first, and
 * an entry that cannot be read is not used.
 */
#include "engine/ledger.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/guard.h"
#include "engine/sidecar_pool.h"

enum ledger_state {
    LEDGER_USED,
    LEDGER_FREE,
    LEDGER_DAMAGED,
    LEDGER_LOST
};

static uint64_t ledger_entry_hash(const struct ledger_entry *e)
{
    return hash_bytes(e, offsetof(struct ledger_entry, hash));
}

static uint64_t ledger_head_hash(const struct ledger_head *h)
{
    return hash_bytes(h, offsetof(struct ledger_head, hash));
}

/* What all entries must be, and what comes from media is asked for. */
static bool ledger_is_sound(const struct ledger_entry *e)
{
    return e->part <= MEDIA_SIDECAR && e->kind <= MEDIA_DAMAGED && e->status <= MEDIA_LOST &&
           e->named <= 1 && e->stale <= 1 && e->intent <= INTENT_REWRITE &&
           e->intent_status <= MEDIA_LOST && memchr(e->type, 0, sizeof e->type) &&
           memchr(e->name, 0, sizeof e->name) && memchr(e->role, 0, sizeof e->role) &&
           memchr(e->detail, 0, sizeof e->detail);
}

static enum ledger_state ledger_read(const struct sidecar *s, unsigned i, struct ledger_entry *out)
{
    if (!guard_copy(out, &s->ledger->entry[i], sizeof *out, NULL))
        return LEDGER_LOST;
    if (out->hash != ledger_entry_hash(out) || !ledger_is_sound(out))
        return LEDGER_DAMAGED;
    return out->id == 0 ? LEDGER_FREE : LEDGER_USED;
}

static_assert(sizeof((struct media_entry *)0)->type == sizeof((struct ledger_entry *)0)->type &&
                  sizeof((struct media_entry *)0)->name == sizeof((struct ledger_entry *)0)->name &&
                  sizeof((struct media_entry *)0)->role == sizeof((struct ledger_entry *)0)->role &&
                  sizeof((struct media_entry *)0)->detail ==
                      sizeof((struct ledger_entry *)0)->detail,
              "texts fit");

static void ledger_decode(const struct ledger_entry *e, struct media_entry *out)
{
    *out = (struct media_entry){.id = e->id,
                                .found_us = e->found_us,
                                .changed_us = e->changed_us,
                                .page = e->page,
                                .bytes = e->bytes,
                                .part = e->part,
                                .kind = e->kind,
                                .status = e->status,
                                .named = e->named,
                                .stale = e->stale,
                                .intent = e->intent,
                                .intent_status = e->intent_status,
                                .intent_nonce = e->intent_nonce,
                                .intent_txid = e->intent_txid,
                                .intent_hash = e->intent_hash};
    memcpy(out->type, e->type, sizeof out->type);
    memcpy(out->name, e->name, sizeof out->name);
    memcpy(out->role, e->role, sizeof out->role);
    memcpy(out->detail, e->detail, sizeof out->detail);
}

/* The rest of a text is zeros: equal entries have equal bytes. */
static void ledger_encode(const struct media_entry *e, struct ledger_entry *out)
{
    *out = (struct ledger_entry){.id = e->id,
                                 .found_us = e->found_us,
                                 .changed_us = e->changed_us,
                                 .page = e->page,
                                 .bytes = e->bytes,
                                 .part = e->part,
                                 .kind = e->kind,
                                 .status = e->status,
                                 .named = e->named,
                                 .stale = e->stale,
                                 .intent = e->intent,
                                 .intent_status = e->intent_status,
                                 .intent_nonce = e->intent_nonce,
                                 .intent_txid = e->intent_txid,
                                 .intent_hash = e->intent_hash};
    memcpy(out->type, e->type, strnlen(e->type, sizeof out->type - 1));
    memcpy(out->name, e->name, strnlen(e->name, sizeof out->name - 1));
    memcpy(out->role, e->role, strnlen(e->role, sizeof out->role - 1));
    memcpy(out->detail, e->detail, strnlen(e->detail, sizeof out->detail - 1));
    out->hash = ledger_entry_hash(out);
}

/* --- load ------------------------------------------------------------------------------------------- */

static int ledger_by_id(const void *a, const void *b)
{
    uint64_t x = ((const struct media_entry *)a)->id, y = ((const struct media_entry *)b)->id;
    return x < y ? -1 : x > y;
}

dax_rc ledger_load(const struct sidecar *s, struct media_entry **out, size_t *count_out,
                   size_t *damaged_out, struct dax_err *err)
{
    *out = NULL;
    *count_out = *damaged_out = 0;
    if (!s->ledger)
        return DAX_OK;
    struct media_entry *list = malloc(DAX_LEDGER_ENTRIES * sizeof *list);
    if (!list)
        return dax_err_set(err, DAX_NOMEM, 0, "no memory to read the ledger of \"%s\"", s->path);
    dax_rc rc = DAX_OK;
    size_t count = 0;
    for (unsigned i = 0; i < DAX_LEDGER_ENTRIES; i++) {
        struct ledger_entry e;
        enum ledger_state state = ledger_read(s, i, &e);
        if (state == LEDGER_USED)
            ledger_decode(&e, &list[count++]);
        else if (state == LEDGER_DAMAGED)
            (*damaged_out)++;
        else if (state == LEDGER_LOST && rc == DAX_OK)
            rc = sidecar_media_error(s, &s->ledger->entry[i], err);
    }
    qsort(list, count, sizeof *list, ledger_by_id);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && list[i].id == list[i - 1].id)
            (*damaged_out)++; /* nobody stores an id twice: two errors are not one */
        else
            list[(*count_out)++] = list[i];
    }
    if (*count_out == 0)
        free(list);
    else
        *out = list;
    return rc;
}

static bool ledger_read_head(const struct ledger_head *at, struct ledger_head *out)
{
    return guard_copy(out, at, sizeof *out, NULL) && out->hash == ledger_head_hash(out);
}

uint64_t ledger_last_id(const struct sidecar *s)
{
    uint64_t last = 0;
    if (!s->ledger)
        return 0;
    const struct ledger_head *at[2] = {&s->ledger->head, &s->ledger->head_again};
    for (unsigned i = 0; i < 2; i++) {
        struct ledger_head head;
        if (ledger_read_head(at[i], &head) && head.last_id > last)
            last = head.last_id;
    }
    for (unsigned i = 0; i < DAX_LEDGER_ENTRIES; i++) {
        struct ledger_entry e;
        if (ledger_read(s, i, &e) == LEDGER_USED && e.id > last)
            last = e.id;
    }
    return last;
}

/* --- make ------------------------------------------------------------------------------------------- */

void ledger_make(struct sidecar_ledger *out, const struct media_entry *list, size_t count,
                 uint64_t last_id)
{
    unsigned used = 0;
    memset(out, 0, sizeof *out);
    for (int closed = 0; closed < 2; closed++)
        for (size_t i = count; i-- > 0 && used < DAX_LEDGER_ENTRIES;)
            if ((list[i].status != MEDIA_QUARANTINED) == closed)
                ledger_encode(&list[i], &out->entry[used++]);
    for (; used < DAX_LEDGER_ENTRIES; used++)
        out->entry[used].hash = ledger_entry_hash(&out->entry[used]);
    out->head.last_id = last_id;
    out->head.hash = ledger_head_hash(&out->head);
    out->head_again = out->head;
}

/* --- put -------------------------------------------------------------------------------------------- */

/* The entry to store id in: its own, else a free one, else one that nobody can make out, else the
 * oldest that is closed. NULL: *lost_out of them cannot be read, and the others are quarantined. */
static struct ledger_entry *ledger_choose(const struct sidecar *s, uint64_t id,
                                          struct ledger_entry **lost_out)
{
    struct ledger_entry *free_one = NULL, *damaged = NULL, *closed = NULL;
    uint64_t closed_id = 0;
    for (unsigned i = 0; i < DAX_LEDGER_ENTRIES; i++) {
        struct ledger_entry e, *at = &s->ledger->entry[i];
        switch (ledger_read(s, i, &e)) {
        case LEDGER_USED:
            if (e.id == id)
                return at;
            if (e.status != MEDIA_QUARANTINED && (!closed || e.id < closed_id)) {
                closed = at;
                closed_id = e.id;
            }
            break;
        case LEDGER_FREE: free_one = free_one ? free_one : at; break;
        case LEDGER_DAMAGED: damaged = damaged ? damaged : at; break;
        case LEDGER_LOST: *lost_out = at; break;
        }
    }
    return free_one ? free_one : damaged ? damaged : closed;
}

/* Old and new bytes of a transaction. */
struct ledger_change {
    struct ledger_entry *entry;
    const struct ledger_entry *entry_new;
    struct ledger_head *head[2]; /* NULL: not to be changed, or cannot be */
    struct ledger_head head_new;
};

/* Only the line with the id and the hash. */
#define LEDGER_HEAD_BYTES (offsetof(struct ledger_head, hash) + sizeof(uint64_t))

static bool ledger_transact(const struct sidecar *s, const struct ledger_change *c)
{
    volatile bool done = false;
    TX_BEGIN(s->pool)
    {
        pmemobj_tx_add_range_direct(c->entry, sizeof *c->entry);
        for (unsigned i = 0; i < 2; i++)
            if (c->head[i])
                pmemobj_tx_add_range_direct(c->head[i], LEDGER_HEAD_BYTES);
        memcpy(c->entry, c->entry_new, sizeof *c->entry);
        for (unsigned i = 0; i < 2; i++)
            if (c->head[i])
                memcpy(c->head[i], &c->head_new, LEDGER_HEAD_BYTES);
    }
    TX_ONCOMMIT
    {
        done = true;
    }
    TX_END
    return done; /* also where the transaction could not begin, which no other clause tells */
}

dax_rc ledger_put(struct sidecar *s, const struct media_entry *e, struct dax_err *err)
{
    struct ledger_entry fresh;
    ledger_encode(e, &fresh);
    if (e->id == 0 || !ledger_is_sound(&fresh))
        return dax_err_set(err, DAX_MISUSE, 0, "not an entry of a ledger of media errors");
    if (!s->ledger)
        return dax_err_set(
            err, DAX_CANT_OPEN, 0,
            "the log \"%s\" was made by an older daxlite and has no ledger: media errors "
            "cannot be kept beyond this run. After a clean close, move it away: a new one "
            "is made",
            s->path ? s->path : "");
    struct ledger_entry *lost = NULL;
    struct ledger_change change = {.entry_new = &fresh};
    change.entry = ledger_choose(s, e->id, &lost);
    if (!change.entry && lost)
        return sidecar_media_error(s, lost, err);
    if (!change.entry)
        return dax_err_set(
            err, DAX_FULL, 0,
            "the ledger of \"%s\" is full: all of its %u media errors are still to be "
            "repaired",
            s->path, DAX_LEDGER_ENTRIES);
    change.head_new.last_id = ledger_last_id(s);
    if (e->id > change.head_new.last_id)
        change.head_new.last_id = e->id;
    change.head_new.hash = ledger_head_hash(&change.head_new);
    struct ledger_head *at[2] = {&s->ledger->head, &s->ledger->head_again};
    for (unsigned i = 0; i < 2; i++) {
        struct ledger_head head;
        bool same = ledger_read_head(at[i], &head) && head.hash == change.head_new.hash;
        if (!same && guard_probe(at[i], LEDGER_HEAD_BYTES, NULL))
            change.head[i] = at[i];
    }
    /* In an application's own transaction of libpmemobj ours would abort that one. */
    if (pmemobj_tx_stage() != TX_STAGE_NONE)
        return dax_err_set(err, DAX_IO_WRITE, 0,
                           "the ledger of \"%s\" cannot be changed by a thread that is within a "
                           "transaction of libpmemobj of its own",
                           s->path);
    if (ledger_transact(s, &change))
        return DAX_OK;
    return dax_err_set(err, DAX_IO_WRITE, errno, "the ledger of \"%s\" cannot be changed (%s)",
                       s->path, pmemobj_errormsg());
}
