/* sidecar_twin.c: cursor slots, seals and the fault note: what is stored to in root and twin.
 *
 * Cursor (L4). The slots' seq grows by one with each P4; the valid slot with the greater one
 * counts. A store goes to the other slot, so that whatever becomes of it, one valid slot remains.
 * Root and twin get the same slot before P4: torn, the other slot is whole in both; damaged later in
 * one of them, the other has it. A crash in between leaves one copy, which is made two before anything
 * else is stored to a slot. (Falling back to the older slot would replay history over what has
 * been stored since.)
 *
 * Places. The line behind the seals says where root, ring and ledger are, for a sidecar whose root cannot
 * be read (sidecar_bare.c). It is stored when the sidecar is made, and with a twin that is made anew.
 *
 * Seals (L6). After a record is durable (P2) and before anything of it is stored into base (P7), a
 * seal says that it was whole. Without it the damage of the very last record could not be told from
 * a record that was being stored when the power went. A torn seal is none; the one before it is in
 * another line.
 *
 * Media errors. Everything is loaded inside the guard, into DRAM, and stored inside it. A copy that
 * cannot be read does not count, the other one does. Where both copies of a slot are lost nobody knows
 * which slot is the newer one, which is an error. A twin that cannot be read is written anew
 * (sidecar_mend_twin), and so is the root's page (sidecar_mend_root), before anything is stored to a slot:
 * no slot is ever stored to one of them alone, so a page that comes back by itself has the newest slot too,
 * and no older one can count for the want of the other page.
 *
 * The rest of the root's page is libpmemobj's (heads of objects). It stores there when objects are
 * allocated or freed, which happens in no sidecar after it was made; so the page as it was at the open is
 * what it has to be. A crash while it is written anew: before, the page is unreadable, and the newest slot
 * is in the twin; during, each line is the one before or the one that it should be, and again the twin has the
 * newest slot; the open takes a torn page for a damaged one of libpmemobj's, and goes on without that
 * (salvage.c). After: root and twin have the same.
 *
 * A crash while the twin is written anew finds the root's slots, the newest whole among them. Lines of
 * the twin that can be read are stored as they are, so tearing costs nothing that was there: a seal
 * that an error took is missing before as after, until the fresh one is durable. Meanwhile damage of
 * the records in front of it would pass for tearing: two errors in two places at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <libpmem.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/base.h"
#include "engine/guard.h"
#include "engine/media.h"
#include "engine/sidecar_pool.h"

#ifndef MAP_SYNC
#define MAP_SYNC 0x080000
#define MAP_SHARED_VALIDATE 0x03
#endif
#ifndef FALLOC_FL_KEEP_SIZE
#define FALLOC_FL_KEEP_SIZE 0x01
#define FALLOC_FL_PUNCH_HOLE 0x02
#endif

static uint64_t sidecar_seal_hash(const struct seal *seal)
{
    return hash_bytes(seal, offsetof(struct seal, hash));
}

static uint64_t sidecar_note_hash(const struct fault_note *note)
{
    return hash_bytes(note, offsetof(struct fault_note, hash));
}

static uint64_t sidecar_offset(const struct sidecar *s, const void *at)
{
    return (uint64_t)((const uint8_t *)at - (const uint8_t *)s->pool);
}

dax_rc sidecar_media_error(const struct sidecar *s, const void *at, struct dax_err *err)
{
    return dax_err_set(err, DAX_IO_MEDIA, 0,
                       "page %llu of the log \"%s\" cannot be read or stored to",
                       (unsigned long long)(sidecar_offset(s, at) / DAX_PAGE_BYTES), s->path);
}

void sidecar_places_of(const struct sidecar *s, struct sidecar_places *out)
{
    *out = (struct sidecar_places){.version = DAX_SIDECAR_VERSION,
                                   .root_offset = sidecar_offset(s, s->root),
                                   .ring_offset = sidecar_offset(s, s->ring),
                                   .ring_bytes = s->ring_bytes,
                                   .ledger_offset = s->ledger ? sidecar_offset(s, s->ledger) : 0,
                                   .twin_offset = sidecar_offset(s, s->twin)};
    memcpy(out->magic, DAX_PLACES_MAGIC, sizeof out->magic);
    out->hash = sidecar_places_hash(out);
}

/* --- guarded stores ---------------------------------------------------------------------------------- */

/* from NULL: zeros. */
static dax_rc sidecar_store(const struct sidecar *s, struct persist *p, void *to, const void *from,
                            size_t len, struct dax_err *err)
{
    struct guard_fault fault;
    return persist_try_store(p, to, from, len, &fault) ? DAX_OK : sidecar_media_error(s, to, err);
}

/* --- cursor ----------------------------------------------------------------------------------- */

/* The four copies, as far as they can be read. */
struct sidecar_cursors {
    struct cursor_slot copy[4]; /* of slots 0 and 1: the root's, then the twin's */
    bool lost[4];
    int newest; /* of them; -1: none is valid */
};

static bool sidecar_slot_valid(const struct cursor_slot *c)
{
    return c->seq != 0 && c->hash == sidecar_slot_hash(c);
}

static void sidecar_cursors_load(const struct sidecar *s, struct sidecar_cursors *v)
{
    const struct cursor_slot *newest = NULL;
    v->newest = -1;
    for (int i = 0; i < 4; i++) {
        const struct cursor_slot *at = i < 2 ? &s->root->cursor[i] : &s->twin->cursor[i - 2];
        struct cursor_slot *c = &v->copy[i];
        v->lost[i] = !guard_copy(c, at, sizeof *c, NULL);
        if (v->lost[i])
            memset(c, 0, sizeof *c);
        /* Greater as seen from there: even the greatest seq has a next one. */
        if (sidecar_slot_valid(c) && (!newest || (int64_t)(c->seq - newest->seq) > 0)) {
            newest = c;
            v->newest = i;
        }
    }
}

/* Either slot may be the newest one if one of them is lost in both places. */
static dax_rc sidecar_cursors_known(const struct sidecar *s, struct sidecar_cursors *v,
                                    struct dax_err *err)
{
    sidecar_cursors_load(s, v);
    for (int i = 0; i < 2; i++)
        if (v->lost[i] && v->lost[i + 2])
            return dax_err_set(
                err, DAX_IO_MEDIA, 0,
                "the cursor of the log \"%s\" cannot be read in either of its two "
                "pages, %llu and %llu: put back a copy of database and log, or a backup",
                s->path, (unsigned long long)(sidecar_offset(s, s->root) / DAX_PAGE_BYTES),
                (unsigned long long)(sidecar_offset(s, s->twin) / DAX_PAGE_BYTES));
    return DAX_OK;
}

static bool sidecar_cursors_unused(const struct sidecar_cursors *v)
{
    return v->copy[0].seq == 0 && v->copy[1].seq == 0 && v->copy[2].seq == 0 && v->copy[3].seq == 0;
}

dax_rc sidecar_cursor_read(const struct sidecar *s, struct cursor_slot *out, struct dax_err *err)
{
    struct sidecar_cursors v;
    dax_rc rc = sidecar_cursors_known(s, &v, err);
    if (rc != DAX_OK)
        return rc;
    if (v.newest < 0)
        return dax_err_set(err, DAX_CORRUPT, 0, "the log \"%s\" has no valid cursor: %s", s->path,
                           sidecar_cursors_unused(&v) ? "it was never used"
                                                      : "all copies of its slots are damaged");
    *out = v.copy[v.newest];
    return DAX_OK;
}

/* A crash between the two stores of a slot leaves one copy of what counts. It is there twice again
 * before a store to the other slot, which may be torn, makes it the only one. */
static dax_rc sidecar_cursor_mend(struct sidecar *s, struct persist *p,
                                  const struct sidecar_cursors *v, struct dax_err *err)
{
    int index = v->newest % 2;
    const struct cursor_slot *root = &v->copy[index], *twin = &v->copy[index + 2];
    if (memcmp(root, twin, sizeof *root) == 0)
        return DAX_OK;
    struct cursor_slot *other = v->newest < 2 ? &s->twin->cursor[index] : &s->root->cursor[index];
    dax_rc rc = sidecar_store(s, p, other, &v->copy[v->newest], sizeof *other, err);
    if (rc != DAX_OK)
        return rc;
    return persist_point(p, PERSIST_P4_CURSOR, err);
}

dax_rc sidecar_cursor_write(struct sidecar *s, struct persist *p, struct cursor_slot *c,
                            struct dax_err *err)
{
    struct sidecar_cursors v;
    dax_rc rc = sidecar_cursors_known(s, &v, err);
    if (rc == DAX_OK && v.newest >= 0)
        rc = sidecar_cursor_mend(s, p, &v, err);
    if (rc != DAX_OK)
        return rc;
    int index = v.newest < 0 ? 1 : v.newest % 2;
    struct cursor_slot *slot = &s->root->cursor[1 - index], *twin = &s->twin->cursor[1 - index];
    c->seq = v.newest < 0 ? 1 : v.copy[v.newest].seq + 1;
    if (c->seq == 0) /* never used */
        c->seq = 1;
    c->hash = sidecar_slot_hash(c);
    rc = sidecar_store(s, p, slot, c, sizeof *c, err);
    if (rc == DAX_OK)
        rc = sidecar_store(s, p, twin, c, sizeof *c, err);
    if (rc == DAX_OK)
        rc = persist_point(p, PERSIST_P4_CURSOR, err);
    /* It may be durable or not. Take it back, or the next write would go over the older slot, which
     * is the one that is sure to be. What takes no store cannot be read either. */
    if (rc != DAX_OK) {
        (void)!sidecar_store(s, p, slot, NULL, sizeof *slot, NULL);
        (void)!sidecar_store(s, p, twin, NULL, sizeof *twin, NULL);
    }
    return rc;
}

/* --- seals ------------------------------------------------------------------------------------ */

/* In older sidecars the lines behind them are seals like the others, though no further one is stored
 * there. */
static bool sidecar_seal_load(const struct sidecar *s, unsigned i, struct seal *out)
{
    const uint8_t *first = (const uint8_t *)s->twin + offsetof(struct sidecar_twin, seal);
    return guard_copy(out, first + i * sizeof *out, sizeof *out, NULL) &&
           out->hash == sidecar_seal_hash(out);
}

unsigned sidecar_newest_seal(const struct sidecar *s)
{
    unsigned newest = 0;
    uint64_t lsn = 0;
    struct seal seal;
    for (unsigned i = 0; i < s->seal_lines; i++)
        if (sidecar_seal_load(s, i, &seal) && seal.lsn > lsn) {
            lsn = seal.lsn;
            newest = i;
        }
    return newest;
}

dax_rc sidecar_seal(struct sidecar *s, struct persist *p, uint64_t salt, uint64_t lsn,
                    struct dax_err *err)
{
    struct seal seal = {.lsn = lsn, .salt = salt};
    seal.hash = sidecar_seal_hash(&seal);
    struct seal *line = &s->twin->seal[s->next_seal % DAX_SEALS];
    dax_rc rc = sidecar_store(s, p, line, &seal, sizeof seal, err);
    if (rc != DAX_OK)
        return rc;
    s->next_seal++;
    return persist_point(p, PERSIST_P7_SEAL, err);
}

uint64_t sidecar_sealed(const struct sidecar *s, uint64_t salt)
{
    uint64_t lsn = 0;
    struct seal seal;
    for (unsigned i = 0; i < s->seal_lines; i++)
        if (sidecar_seal_load(s, i, &seal) && seal.salt == salt && seal.lsn > lsn)
            lsn = seal.lsn;
    return lsn;
}

/* --- a root or a twin that is lost --------------------------------------------------------------------- */

dax_rc sidecar_keep_root_page(struct sidecar *s, struct dax_err *err)
{
    uint64_t within = sidecar_offset(s, s->root) % DAX_PAGE_BYTES;
    if (within > DAX_PAGE_BYTES - sizeof *s->root)
        return DAX_OK; /* in no pool that libpmemobj is known to make */
    s->root_page = malloc(DAX_PAGE_BYTES);
    if (!s->root_page)
        return dax_err_set(err, DAX_NOMEM, 0, "no memory to open the log \"%s\"", s->path);
    const uint8_t *page = (const uint8_t *)s->root - within;
    if (guard_copy(s->root_page, page, DAX_PAGE_BYTES, NULL))
        return DAX_OK;
    s->bad_page = sidecar_offset(s, page) / DAX_PAGE_BYTES;
    return sidecar_media_error(s, page, err);
}

dax_rc sidecar_mend_root(struct sidecar *s, struct persist *p, struct dax_err *err)
{
    struct sidecar_cursors v;
    uint8_t page[DAX_PAGE_BYTES];
    uint64_t within = sidecar_offset(s, s->root) % DAX_PAGE_BYTES;
    if (!s->root_page)
        return sidecar_media_error(s, s->root, err);
    dax_rc rc = sidecar_cursors_known(s, &v, err);
    /* Only in the root, after a crash, where that can be read: it must survive another one. */
    if (rc == DAX_OK && v.newest >= 0 && v.newest < 2)
        rc = sidecar_cursor_mend(s, p, &v, err);
    if (rc != DAX_OK)
        return rc;
    struct cursor_slot slots[2] = {v.copy[2], v.copy[3]};
    if (v.newest >= 0)
        slots[v.newest % 2] = v.copy[v.newest];
    memcpy(page, s->root_page, sizeof page);
    memcpy(page + within + offsetof(struct sidecar_root, cursor), slots, sizeof slots);
    return sidecar_renew_page(s, (uint8_t *)s->root - within, page, err);
}

bool sidecar_twin_whole(const struct sidecar *s)
{
    return guard_probe(s->twin, sizeof *s->twin, NULL);
}

/* The twin as it should be, from root and from what it has itself. */
static dax_rc sidecar_twin_build(struct sidecar *s, struct persist *p, struct sidecar_twin *out,
                                 struct dax_err *err)
{
    struct sidecar_cursors v;
    dax_rc rc = sidecar_cursors_known(s, &v, err);
    /* Only in the twin, after a crash: it must survive another one. */
    if (rc == DAX_OK && v.newest >= 2)
        rc = sidecar_cursor_mend(s, p, &v, err);
    if (rc != DAX_OK)
        return rc;
    uint8_t *to = (uint8_t *)out;
    const uint8_t *from = (const uint8_t *)s->twin;
    memset(out, 0, sizeof *out);
    for (size_t at = 0; at < sizeof *out; at += DAX_LINE_BYTES)
        if (!guard_copy(to + at, from + at, DAX_LINE_BYTES, NULL))
            memset(to + at, 0, DAX_LINE_BYTES);
    for (int i = 0; i < 2; i++)
        if (v.lost[i + 2] || sidecar_slot_valid(&v.copy[i]))
            out->cursor[i] = v.copy[v.newest == i + 2 ? i + 2 : i];
    if (s->has_places)
        sidecar_places_of(s, &out->places);
    return DAX_OK;
}

/* 0 or an errno. */
static int sidecar_write_page(int fd, uint64_t offset, const void *content)
{
    const uint8_t *from = content;
    for (size_t at = 0; at < DAX_PAGE_BYTES;) {
        ssize_t n = pwrite(fd, from + at, DAX_PAGE_BYTES - at, (off_t)(offset + at));
        if (n > 0)
            at += (size_t)n;
        else if (n == 0 || errno != EINTR)
            return n == 0 ? EIO : errno;
    }
    return base_fsync(fd);
}

static bool sidecar_page_is(const void *at, const void *content)
{
    uint8_t got[DAX_PAGE_BYTES];
    return guard_copy(got, at, sizeof got, NULL) && memcmp(got, content, sizeof got) == 0;
}

/* Three ways, each of which is enough for some medium. */
dax_rc sidecar_renew_page(struct sidecar *s, void *at, const void *content, struct dax_err *err)
{
    uint64_t offset = sidecar_offset(s, at);
    int e = 0;
    for (int way = 0; way < 3; way++) {
        if (way == 2 && fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                                  DAX_PAGE_BYTES) != 0)
            break;
        e = sidecar_write_page(s->fd, offset, content);
        if (e != 0)
            continue;
        int share = s->mode == PERSIST_PMEM ? MAP_SHARED_VALIDATE | MAP_SYNC : MAP_SHARED;
        if (way > 0 && mmap(at, DAX_PAGE_BYTES, PROT_READ | PROT_WRITE, share | MAP_FIXED, s->fd,
                            (off_t)offset) == MAP_FAILED)
            break;
        if (sidecar_page_is(at, content))
            return DAX_OK;
    }
    if (e == 0 || e == EIO || e == EHWPOISON)
        return sidecar_media_error(s, at, err);
    return dax_err_set(err, DAX_IO_WRITE, e, "cannot write page %llu of the log \"%s\"",
                       (unsigned long long)(offset / DAX_PAGE_BYTES), s->path);
}

dax_rc sidecar_mend_twin(struct sidecar *s, struct persist *p, uint64_t salt, uint64_t lsn,
                         struct dax_err *err)
{
    struct sidecar_twin fresh;
    if (sidecar_offset(s, s->twin) % DAX_PAGE_BYTES != 0)
        return sidecar_media_error(s, s->twin, err);
    dax_rc rc = sidecar_twin_build(s, p, &fresh, err);
    if (rc != DAX_OK)
        return rc;
    if (lsn != 0) {
        struct seal *seal = &fresh.seal[s->next_seal++ % DAX_SEALS];
        *seal = (struct seal){.lsn = lsn, .salt = salt};
        seal->hash = sidecar_seal_hash(seal);
    }
    return sidecar_renew_page(s, s->twin, &fresh, err);
}

/* --- fault note ------------------------------------------------------------------------------------- */

void sidecar_note_fault(struct sidecar *s, uint32_t part, uint64_t page, uint32_t kind, int code,
                        uint64_t time_us)
{
    if (!s->pool || !s->has_note)
        return;
    /* Relaxed: it orders nothing, it only lets one thread in. */
    if (atomic_exchange_explicit(&s->noted, true, memory_order_relaxed))
        return;
    struct fault_note *line = &s->twin->note;
    struct fault_note note = {.magic = DAX_NOTE_MAGIC,
                              .page = page,
                              .time_us = time_us,
                              .part = part,
                              .kind = kind,
                              .code = code};
    note.hash = sidecar_note_hash(&note);
    memcpy(line, &note, sizeof note);
    if (s->mode == PERSIST_MSYNC) {
        (void)msync((void *)((uintptr_t)line & ~(uintptr_t)(DAX_PAGE_BYTES - 1)), DAX_PAGE_BYTES,
                    MS_SYNC);
    } else {
        pmem_flush(line, sizeof *line);
        pmem_drain();
    }
}

bool sidecar_take_note(const struct sidecar *s, struct fault_note *out)
{
    return s->has_note && guard_copy(out, &s->twin->note, sizeof *out, NULL) &&
           out->magic == DAX_NOTE_MAGIC && out->hash == sidecar_note_hash(out) &&
           out->part <= MEDIA_SIDECAR && out->kind <= MEDIA_DAMAGED;
}

dax_rc sidecar_clear_note(struct sidecar *s, struct persist *p, struct dax_err *err)
{
    struct fault_note *line = &s->twin->note;
    if (!s->has_note)
        return DAX_OK;
    dax_rc rc = sidecar_store(s, p, line, NULL, sizeof *line, err);
    if (rc != DAX_OK)
        return rc;
    atomic_store_explicit(&s->noted, false, memory_order_relaxed);
    return persist_point(p, PERSIST_P7_SEAL, err);
}
