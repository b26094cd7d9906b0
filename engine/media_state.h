/* media_state.h: what media.c keeps for a store, and what it shares with few others.
 */
#ifndef DAX_MEDIA_STATE_H
#define DAX_MEDIA_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/badblocks.h"
#include "engine/media.h"
#include "engine/store.h"

/* Pages repaired in the handler that wait for being entered. */
#define MEDIA_RESCUED_MAX 16u

struct media_owner {
    struct guard_owner hooks; /* first: the handler knows no more */
    struct store *store;
    enum media_part part;
};

struct media_closing {
    uint64_t page;
    uint32_t status;
    char detail[192];
};

struct media {
    struct media_owner base, sidecar;
    pthread_mutex_t lock;
    struct media_entry *entries; /* lock; owned */
    size_t count, capacity;      /* lock */
    uint64_t last_id;            /* lock */
    size_t peeked;               /* lock: so many of them are in the ledger, which is not open yet */
    bool ledger_open;            /* lock */
    bool ledger_failed;          /* lock: it was said */
    bool ledger_behind;          /* lock: because libpmemobj's part of the sidecar is bad */
    uint64_t pool_bad;           /* lock: page + 1 of libpmemobj's, to be entered; 0: none */
    pthread_mutex_t bad_lock;    /* taken before lock */
    struct badblocks *bad_base;    /* bad_lock; NULL: the device has no list */
    struct badblocks *bad_sidecar; /* bad_lock */
    uint64_t listed_base, listed_sidecar; /* pages when the lists were read; bad_lock */
    int sidecar_fd;                /* for it; -1 */
    _Atomic uint32_t unnamed;    /* changed under the lock, read anywhere */
    _Atomic uint32_t hidden;     /* quarantined pages that can be read, and would be wrong */
    _Atomic uint64_t late_seen;  /* guard_late() when it was looked at last */
    _Atomic uint64_t rescued[MEDIA_RESCUED_MAX]; /* page + 1, from the handler; 0: none */
    _Atomic uint32_t rescued_count;              /* since it was looked at last */
    _Atomic uint32_t rescuing; /* a thread is in media_rescue. Here and not of the process: a child that was
                           * forked meanwhile has stores of its own and never asks this one */
    uint8_t rescue_copy[DAX_PAGE_BYTES]; /* rescuing; the handler's stack may be small */
    struct media_closing *closing;      /* writer lock; owned: pages that the running transaction repairs */
    size_t closing_count, closing_room; /* writer lock */
};

/* --- media.c and media_ledger.c: all with m->lock held, but media_enter... and media_close_... -------- */

uint64_t media_now_us(void);
/* Behind the last page of an entry. */
uint64_t media_end(const struct media_entry *e);
/* The open entry that covers the page, or NULL. */
struct media_entry *media_find_open(struct media *m, uint32_t part, uint64_t page);
/* Into the ledger, where there is one. */
dax_rc media_keep(struct store *s, const struct media_entry *e, struct dax_err *err);
/* After any change of an entry: count them. media_changed: and write bad pages of the ledger anew, which
 * may move the entries in memory. */
void media_recount(struct media *m);
void media_changed(struct store *s);
void media_mend_ledger(struct store *s);
/* Are there entries that the ledger could not take? */
bool media_ledger_is_behind(struct store *s);
/* A copy of *e, at the end of the list. NULL: no memory. */
struct media_entry *media_append(struct media *m, const struct media_entry *e);

/* Enter [page, + bytes) and flag it; an open entry of its first page is not repeated. */
void media_enter(struct store *s, uint32_t part, uint64_t page, uint64_t bytes, uint32_t kind,
                 const char *detail);
/* Enter a page of base that was bad and is not any more. */
void media_enter_closed(struct store *s, uint64_t page, const char *detail);
/* The open entry that covers the page ends with `status` for this page; what else it covers stays. */
void media_close_page(struct store *s, uint32_t part, uint64_t page, uint32_t status, const char *detail);
/* The same of a page of base that is good again: its flag goes with the entry. */
void media_close_good(struct store *s, uint64_t page, uint32_t status, const char *detail);

/* A ledger of all entries, for a sidecar that takes the place of this one: whatever is bad in this one is
 * of no matter then. */
void media_carry_over(struct store *s, struct sidecar_ledger *out);
/* It has taken its place, and is open. */
void media_carried_over(struct store *s);

/* --- media_find.c ----------------------------------------------------------------------------------- */

/* NULL: an error without a signal. Async-signal-safe. */
const char *media_code_text(const struct guard_fault *fault);
/* What has happened to a page of the sidecar that cannot be loaded; *end_out: where the file ends, if it was
 * cut. */
enum media_kind media_classify_sidecar(const struct store *s, uint64_t page, uint64_t *end_out);
/* MEDIA_LOG or MEDIA_SIDECAR, of a page of the sidecar's file. */
uint32_t media_part_of(const struct store *s, uint64_t page);
void media_open_list(int fd, const char *path, struct badblocks **out);

/* --- hooks of the mappings (media_signal.c) ----------------------------------------------------------- */

bool media_rescue(struct guard_owner *o, uint64_t offset, const struct guard_fault *fault);
void media_fatal(struct guard_owner *o, uint64_t offset, const struct guard_fault *fault);

/* The database file has become shorter than it should be: enter and flag what is missing. */
void media_note_truncated(struct store *s);

/* Give the file the length again that it should have. Its pages must be flagged (media_note_truncated).
 * Writer lock, or nobody else has the store. false: not now, somebody holds pins there; or no space. */
bool media_regrow(struct store *s);

/* The database ends with `pages` pages, and the file is about to be cut there: what is beyond is no matter
 * any more. */
void media_clear_beyond(struct store *s, uint64_t pages);

/* Are there pages that must not be read by anybody else as they are? */
bool media_hides_pages(const struct store *s);

/* In the handler: what cannot be kept otherwise goes into the sidecar's note. */
void media_leave_note(struct store *s, enum media_part part, uint64_t page, int code);

/* Reads the database in the handler, newest versions: false where that cannot be read. By one thread at a
 * time. */
struct media_reader {
    bool (*read)(void *arg, uint64_t offset, size_t len, uint8_t *to);
    void *arg;
};

/* Asked in the handler for the words that say what the page is (" (table "orders", leaf)"): writes at
 * most max bytes, returns how many. Async-signal-safe. NULL: nobody knows. */
typedef size_t (*media_describe_fn)(const char *path, uint64_t page, const struct media_reader *r,
                                    char *to, size_t max);
extern _Atomic(media_describe_fn) media_describe;

#endif
