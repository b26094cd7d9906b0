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
 * Media errors. The ledger may lie on a bad page, too. Entries are loaded inside the guard; one that cannot
 * be read is not used, and its page is written anew (media_ledger.c), outside of libpmemobj, as a whole page
 * that nothing else is on.
 *
 * A transaction of libpmemobj cannot run inside the guard: to leave it by siglongjmp would leave its lane
 * locked, its undo log half made, and the next transaction of the thread inside this one. To keep the ledger
 * without transactions would lose what they are here for, an entry that changes whole with its heads. So
 * everything that a transaction touches is loaded inside the guard before it begins: the entry, the heads, and
 * all of libpmemobj's in front of its heap, that is pool header, descriptor (which libpmemobj uses as memory
 * of its own) and all lanes, of which it takes any. Some 3 MiB, a tenth of a millisecond, for something that
 * happens when memory fails. A page among them that is bad: DAX_IO_MEDIA, the entry is kept in memory, and
 * the close makes a new sidecar with all of them (salvage.c), or the next open with those of the old one. What is left is a page that goes bad between the
 * probe and the transaction's end: that is a fault outside of any guard, so the process ends with a message,
 * leaves a note, and the undo log puts the ledger in order, or the sidecar is made anew.
 */
#include "engine/ledger.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* --- mend ------------------------------------------------------------------------------------------- */

uint64_t ledger_bad_page(const struct sidecar *s)
{
    const uint8_t *pool = s->pool, *at = (const uint8_t *)s->ledger;
    for (unsigned i = 0; at && i < LEDGER_PAGES; i++, at += DAX_PAGE_BYTES)
        if (!guard_probe(at, DAX_PAGE_BYTES, NULL))
            return (uint64_t)(at - pool) / DAX_PAGE_BYTES;
    return 0;
}

static bool ledger_pread(const struct sidecar *s, uint64_t offset, void *to, size_t len)
{
    ssize_t n;
    do
        n = pread(s->fd, to, len, (off_t)offset);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)len;
}

void ledger_copy(const struct sidecar *s, struct sidecar_ledger *out, bool lost_out[LEDGER_PAGES])
{
    const uint8_t *from = (const uint8_t *)s->ledger;
    ledger_make(out, NULL, 0, 0);
    for (size_t i = 0, at = 0; i < LEDGER_PAGES; i++, at += DAX_PAGE_BYTES) {
        uint8_t page[DAX_PAGE_BYTES];
        size_t len = sizeof *out - at < DAX_PAGE_BYTES ? sizeof *out - at : DAX_PAGE_BYTES;
        uint64_t offset = (uint64_t)(from - (const uint8_t *)s->pool) + at;
        lost_out[i] =
            !guard_copy(page, from + at, len, NULL) && !ledger_pread(s, offset, page, len);
        if (!lost_out[i])
            memcpy((uint8_t *)out + at, page, len);
    }
}

dax_rc ledger_mend_page(struct sidecar *s, uint64_t page, uint64_t last_id, struct dax_err *err)
{
    uint8_t content[DAX_PAGE_BYTES] = {0}, *at = (uint8_t *)s->pool + page * DAX_PAGE_BYTES;
    size_t in = (size_t)(at - (uint8_t *)s->ledger);
    struct sidecar_ledger *empty = malloc(sizeof *empty);
    if (!empty)
        return dax_err_set(err, DAX_NOMEM, ENOMEM, "no memory for a page of the ledger");
    ledger_make(empty, NULL, 0, last_id);
    size_t len = sizeof *empty - in < DAX_PAGE_BYTES ? sizeof *empty - in : DAX_PAGE_BYTES;
    memcpy(content, (const uint8_t *)empty + in, len);
    free(empty);
    return sidecar_renew_page(s, at, content, err);
}

bool ledger_has(const struct sidecar *s, const struct media_entry *e)
{
    struct ledger_entry want, got;
    ledger_encode(e, &want);
    for (unsigned i = 0; s->ledger && i < DAX_LEDGER_ENTRIES; i++)
        if (ledger_read(s, i, &got) == LEDGER_USED && got.id == e->id)
            return got.hash == want.hash;
    return false;
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
    const void *bad;
    if (!sidecar_probe_pool(s, &bad))
        return sidecar_media_error(s, bad, err);
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
