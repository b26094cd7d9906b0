/* media.h: media errors: pages that cannot be read, what is known of them, and their repair.
 *
 * A fault or a failed read becomes an *entry*: where, what kind, when, what has become of it. Entries
 * live in the sidecar's ledger (ledger.h), so they survive; before there is a sidecar, and in stores
 * that are only read, in memory. The engine knows pages; which table a page belongs to is the VFS's to
 * say: it names new entries with conn_media_name.
 *
 * A page of base that cannot be read is flagged POISONED in its page word, and every reader that needs
 * base's version of it gets DAX_IO_MEDIA. Versions in frames are as good as ever: such a page goes on
 * in them, and the next checkpoint that could rehome it rewrites the whole page instead, which clears
 * the error.
 *
 * Locking: the entries have a mutex of their own, rank 3 (below it nothing is locked but libpmemobj's).
 */
#ifndef DAX_MEDIA_H
#define DAX_MEDIA_H

#include "engine/engine.h"
#include "engine/guard.h"

struct store;

enum media_part { MEDIA_BASE, MEDIA_LOG, MEDIA_SIDECAR };
enum media_kind { MEDIA_POISON, MEDIA_SIGBUS, MEDIA_TRUNCATED, MEDIA_IO, MEDIA_DAMAGED };
enum media_status { MEDIA_QUARANTINED, MEDIA_REPAIRED, MEDIA_CLEARED, MEDIA_LOST };

/* "database", "log", "sidecar"; "poison", "sigbus", "truncated", "io", "damaged"; "quarantined", ... */
const char *media_part_name(enum media_part part);
const char *media_kind_name(enum media_kind kind);
const char *media_status_name(enum media_status status);

struct media_entry {
    uint64_t id;         /* from 1, in order; never used again for this sidecar */
    uint64_t found_us;   /* CLOCK_REALTIME, microseconds */
    uint64_t changed_us; /* of the status */
    uint64_t page;       /* of the part's file, 4096 bytes each, from 0 */
    uint64_t bytes;      /* that cannot be read, from the page's first byte */
    uint32_t part, kind, status; /* the enums above */
    uint32_t named;      /* the fields below were filled in */
    uint32_t stale;      /* committed changes of the page are lost: what is there, if it can be read
                          * again, is an older state and must not be shown */
    /* A repair that is not yet known to have happened: what settles the entry at the next open. */
    uint32_t intent;      /* INTENT_... */
    uint32_t intent_status;
    uint64_t intent_nonce; /* INTENT_COMMIT: the life of the database ... */
    uint64_t intent_txid;  /* ... and the transaction with which it is closed */
    uint64_t intent_hash;  /* INTENT_REWRITE: XXH3 of the page that is being put in place */
    char type[16];       /* "table", "index", "schema"; "" */
    char name[128];
    char role[64];       /* "leaf", "overflow", "free", "log", ... */
    char detail[192];
};

enum { INTENT_NONE, INTENT_COMMIT, INTENT_REWRITE };

/* --- for the VFS --------------------------------------------------------------------------------- */

/* Entries, oldest first; returns how many there are, and fills at most max. Any thread that may use
 * c. */
size_t conn_media_list(struct conn *c, struct media_entry *out, size_t max);

/* Does the store have entries without a name? One relaxed load: to be asked after any call. */
bool conn_media_unnamed(struct conn *c);

/* Fill in type, name, role and detail (texts are cut to what fits; detail "": unchanged). *out: the
 * entry. DAX_MISUSE: no such entry. Other errors: the name is in memory, but not in the ledger. */
DAX_CHECKED dax_rc conn_media_name(struct conn *c, uint64_t id, const char *type, const char *name,
                                   const char *role, const char *detail, struct media_entry *out,
                                   struct dax_err *err);

/* An error that somebody else has found ("damaged"), or one of a page that was read otherwise. Flags
 * the page (of base). An open entry for it is not repeated. */
DAX_CHECKED dax_rc conn_media_add(struct conn *c, enum media_part part, uint64_t page,
                                  enum media_kind kind, const char *detail, struct dax_err *err);

/* Load every line of base's page (of base, not of a frame) inside the guard. DAX_IO_MEDIA: it is bad,
 * and is flagged and entered now if it was not. Needs a snapshot; pages beyond its size: DAX_OK. */
DAX_CHECKED dax_rc conn_media_probe(struct conn *c, uint64_t page, struct dax_err *err);

/* The same for a page of the sidecar's file, from 0; *pages_out: how many it has (0: no sidecar). */
DAX_CHECKED dax_rc conn_media_probe_sidecar(struct conn *c, uint64_t page, uint64_t *pages_out,
                                            struct dax_err *err);

/* Look at the kernel's list of bad blocks now, rather than at the next checkpoint or open. */
void conn_media_check(struct conn *c);

/* Repair that loses nothing: from a frame that holds the page's newest version, from the file where
 * pread still has it (and it is not stale), of the ring where no live record is. *status_out:
 * MEDIA_REPAIRED or MEDIA_CLEARED (the page is outside the database, or was good), or
 * MEDIA_QUARANTINED: nothing that the engine has can repair it. Not within a write transaction
 * (DAX_LOCKED). DAX_BUSY: another connection is writing, or a reader has the page pinned (*err says who):
 * nothing has changed, and later it can be tried again. Other errors as conn_begin_write. */
DAX_CHECKED dax_rc conn_media_repair(struct conn *c, enum media_part part, uint64_t page,
                                     enum media_status *status_out, struct dax_err *err);

/* Within a write transaction of c that has written the bad page whole (conn_write of all its 4096
 * bytes, or of more): its entry is closed by the very commit, and not if there is none. */
DAX_CHECKED dax_rc conn_media_close(struct conn *c, uint64_t page, enum media_status status,
                                    const char *detail, struct dax_err *err);

/* --- for the engine ------------------------------------------------------------------------------ */

struct media;

DAX_CHECKED dax_rc media_create(struct store *s, struct dax_err *err);
void media_destroy(struct store *s);
struct guard_owner *media_owner_of_base(struct store *s);
struct guard_owner *media_owner_of_sidecar(struct store *s);

/* A guarded access to base's page (or to scratch, by its file page) has ended with a fault: find out
 * which page it is and what kind, flag it, enter it. Returns DAX_IO_MEDIA with *err; of a store that the
 * kernel has refused (guard_fail), which no page is to blame for, DAX_FULL or DAX_IO_WRITE, and nothing is
 * entered. No lock of rank 3 held, outside of guards; any thread. */
dax_rc media_fault(struct store *s, uint64_t page, const struct guard_fault *fault, struct dax_err *err);

/* The same for the sidecar: addr lies in it. */
dax_rc media_fault_sidecar(struct store *s, const void *addr, const struct guard_fault *fault,
                           struct dax_err *err);

/* The page of the sidecar is good again. */
void media_sidecar_mended(struct store *s, const void *addr, const char *detail);

/* Committed changes of the page could not be kept: mark its entry. */
void media_set_stale(struct store *s, uint64_t page, const char *detail);

/* Is the page of the file, which may lie behind the database, flagged? No lock. */
bool media_is_flagged(const struct store *s, uint64_t page);

/* The page's newest content was committed in another page of the file, of scratch, and is lost with that:
 * what base holds is older. Enters it, stale. */
void media_enter_lost(struct store *s, uint64_t page, uint64_t scratch);

/* Store `content` over the whole page of base and clear its flag; the error is cleared with it, or the
 * page gets another block. Nobody has it pinned. Writer lock. false: it stays bad. */
DAX_CHECKED bool media_rewrite(struct store *s, uint64_t page, const uint8_t *content);

/* The sidecar is not opened before the first write: what its ledger says. */
void media_peek(struct store *s);

/* After the sidecar has been opened: load the ledger, and enter what was found before. */
DAX_CHECKED dax_rc media_load(struct store *s, struct dax_err *err);

/* What was under way when the last process ended: closed, if it came to pass. nonce: of the life that
 * ended; txid: newest committed of it. */
void media_settle(struct store *s, uint64_t nonce, uint64_t txid);

/* Flag the pages of all open entries: when the page words have their meaning. */
void media_flag_all(struct store *s);

/* Enter and flag what the kernel's list of bad blocks names, if it has changed since it was looked at
 * last. A system call or two. No lock of rank 3 held; any thread. */
void media_check_badblocks(struct store *s);

/* The sidecar is open, or about to be closed. */
void media_sidecar_opened(struct store *s);
void media_sidecar_closing(struct store *s);

/* The sidecar could not be opened because page s->sidecar.bad_page of it is bad: enter it. */
void media_sidecar_refused(struct store *s);

/* Has the page (of base) an open entry? */
bool media_is_quarantined(struct store *s, uint64_t page);

/* A page of the ring could not be stored to: empty the log and clear its bad pages. Writer lock held by
 * slot. false: some are left. */
DAX_CHECKED bool media_heal_log(struct store *s, uint32_t slot);

/* The running transaction has committed, or not. Writer lock. */
void media_committed(struct store *s, uint64_t txid);
void media_aborted(struct store *s);

/* DAX_IO_MEDIA for a page whose word is flagged. */
dax_rc media_error(struct store *s, uint64_t page, struct dax_err *err);

#endif
