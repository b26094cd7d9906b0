/* damage_try.c: opens a damaged pair through the whole engine and judges what comes of it.
 *
 * Fast, because it is done tens of thousands of times: the pool stays open between tries (the
 * engine's calls of pmemobj_open and pmemobj_close are redirected to here), and what an open and a
 * close change is put back byte by byte instead of copying files.
 */
#include <fcntl.h>
#include <libpmemobj.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/checkpoint.h"
#include "engine/conn.h"
#include "tests/fault/damage.h"

/* --- the pool that stays open ----------------------------------------------------------------- */

static bool keep_pool = true;
static PMEMobjpool *kept_pool;
static char kept_path[520];

void pair_keep_pool_open(bool keep)
{
    keep_pool = keep;
}

PMEMobjpool *__wrap_pmemobj_open(const char *path, const char *layout);
PMEMobjpool *__wrap_pmemobj_open(const char *path, const char *layout)
{
    if (!keep_pool)
        return pmemobj_open(path, layout);
    if (kept_pool && strcmp(kept_path, path) == 0)
        return kept_pool;
    if (kept_pool)
        pmemobj_close(kept_pool);
    kept_pool = pmemobj_open(path, layout);
    snprintf(kept_path, sizeof kept_path, "%s", path);
    return kept_pool;
}

void __wrap_pmemobj_close(PMEMobjpool *pool);
void __wrap_pmemobj_close(PMEMobjpool *pool)
{
    if (!keep_pool || pool != kept_pool)
        pmemobj_close(pool);
}

bool pair_without_checkpoint;

void __wrap_checkpoint_after_scratch(struct store *s, uint32_t slot);
void __wrap_checkpoint_after_scratch(struct store *s, uint32_t slot)
{
    if (!pair_without_checkpoint)
        checkpoint_after_scratch(s, slot);
}

/* --- undo ------------------------------------------------------------------------------------- */

static struct {
    uint8_t *base;
    uint8_t root[sizeof(struct sidecar_root)];
    struct sidecar_twin twin;
    uint8_t *ring; /* the live records and some room behind them */
    size_t ring_bytes;
    uint8_t *list;
} kept;

static bool has_scratch(const struct pair *p)
{
    return p->file_bytes > DAX_SCRATCH_GAP_BYTES;
}

/* The live records, and the pages around them that damage may cover. */
static uint8_t *ring_start(struct pair *p)
{
    uint8_t *start = p->record[0].at - DAX_PAGE_BYTES;
    return start < p->ring ? p->ring : start;
}

void pair_keep(struct pair *p)
{
    const struct area *last = &p->record[p->records - 1];
    kept.ring_bytes = (size_t)(last->at + last->bytes - ring_start(p)) + 2 * DAX_PAGE_BYTES;
    if (has_scratch(p))
        file_copy(p->path, test_path("spare.db"));
    kept.base = realloc(kept.base, p->base_bytes);
    kept.ring = realloc(kept.ring, kept.ring_bytes);
    kept.list = realloc(kept.list, p->list.bytes + 1);
    CHECK(kept.base && kept.ring && kept.list, "malloc");
    memcpy(kept.base, p->base, p->base_bytes);
    memcpy(kept.root, p->root, sizeof kept.root);
    memcpy(&kept.twin, p->twin, sizeof kept.twin);
    memcpy(kept.ring, ring_start(p), kept.ring_bytes);
    if (p->list.bytes)
        memcpy(kept.list, p->list.at, p->list.bytes);
}

/* Scratch is beyond what the recovery cuts off: then the file is taken from a copy. */
static void restore_scratch(struct pair *p)
{
    char *spare = test_path("spare.db");
    int to = open(p->path, O_RDWR | O_CLOEXEC), from = open(spare, O_RDONLY | O_CLOEXEC);
    static uint8_t buf[1 << 20];
    CHECK(to >= 0 && from >= 0 && ftruncate(to, (off_t)p->file_bytes) == 0, "restore");
    off_t end = lseek(from, 0, SEEK_END), at = 0;
    while ((at = lseek(from, at, SEEK_DATA)) >= 0 && at < end) {
        off_t stop = lseek(from, at, SEEK_HOLE);
        while (at < stop) {
            size_t n = (size_t)(stop - at) < sizeof buf ? (size_t)(stop - at) : sizeof buf;
            CHECK(pread(from, buf, n, at) == (ssize_t)n && pwrite(to, buf, n, at) == (ssize_t)n,
                  "restore");
            at += (off_t)n;
        }
    }
    close(to);
    close(from);
}

void pair_restore(struct pair *p)
{
    memcpy(p->root, kept.root, sizeof kept.root);
    if (file_bytes(p->path) != (int64_t)p->file_bytes) {
        if (has_scratch(p))
            restore_scratch(p);
        else
            CHECK(truncate(p->path, (off_t)p->file_bytes) == 0, "truncate");
    }
    memcpy(p->base, kept.base, p->base_bytes);
    memcpy(p->twin, &kept.twin, sizeof kept.twin);
    memcpy(ring_start(p), kept.ring, kept.ring_bytes);
    if (p->list.bytes)
        memcpy(p->list.at, kept.list, p->list.bytes);
}

uint32_t pair_damaged(struct pair *p)
{
    uint32_t damaged = 0;
    for (int i = 0; i < p->records; i++) {
        const struct area *a = &p->record[i];
        if (memcmp(a->at, kept.ring + (a->at - ring_start(p)), a->bytes) != 0)
            damaged |= 1u << i;
    }
    return damaged;
}

/* --- judge ------------------------------------------------------------------------------------ */

const char *verdict_name(enum verdict v)
{
    static const char *const name[] = {"the newest state", "refused",
                                       "an older state",   "wrong data",
                                       "an unfit refusal", "refused but changed"};
    return name[v];
}

static bool refusal_fits(dax_rc rc, const struct dax_err *err)
{
    return (rc == DAX_CORRUPT || rc == DAX_CANT_OPEN || rc == DAX_NOT_A_DATABASE) &&
           strlen(err->text) > 20;
}

static int which_state(const struct pair *p, const uint8_t *content, uint64_t bytes)
{
    for (int i = p->states - 1; i >= 0; i--)
        if (p->state[i].bytes == bytes && memcmp(p->state[i].content, content, bytes) == 0)
            return i;
    return -1;
}

/* The state that a new connection sees, -1: none of those that were committed. */
static int state_seen(struct pair *p, struct conn *c)
{
    static uint8_t *content;
    struct dax_err err;
    if (!content)
        content = malloc(PAIR_PAGES * (size_t)DAX_PAGE_BYTES);
    if (conn_begin_read(c, &err) != DAX_OK)
        return -1;
    uint64_t bytes = conn_size(c);
    int state = -1;
    if (bytes <= PAIR_PAGES * (uint64_t)DAX_PAGE_BYTES &&
        conn_read(c, content, bytes, 0, &err) == DAX_OK)
        state = which_state(p, content, bytes);
    conn_end_read(c);
    return state;
}

static int state_closed(struct pair *p)
{
    int64_t bytes = file_bytes(p->path);
    return bytes <= (int64_t)p->base_bytes ? which_state(p, p->base, (uint64_t)bytes) : -1;
}

/* Copies of what must not change when the open is refused. */
static struct {
    uint8_t *base;
    uint8_t *ring;
    uint8_t root[sizeof(struct sidecar_root)];
    struct sidecar_twin twin;
} damaged;

static void damaged_keep(struct pair *p)
{
    damaged.base = realloc(damaged.base, p->base_bytes);
    damaged.ring = realloc(damaged.ring, kept.ring_bytes);
    memcpy(damaged.base, p->base, p->base_bytes);
    memcpy(damaged.ring, ring_start(p), kept.ring_bytes);
    memcpy(damaged.root, p->root, sizeof damaged.root);
    memcpy(&damaged.twin, p->twin, sizeof damaged.twin);
}

static bool damaged_same(struct pair *p)
{
    return memcmp(damaged.base, p->base, p->base_bytes) == 0 &&
           memcmp(damaged.ring, ring_start(p), kept.ring_bytes) == 0 &&
           memcmp(damaged.root, p->root, sizeof damaged.root) == 0 &&
           memcmp(&damaged.twin, p->twin, sizeof damaged.twin) == 0 &&
           file_bytes(p->path) == (int64_t)p->file_bytes;
}

enum verdict pair_try(struct pair *p, int *state_out, struct dax_err *err)
{
    struct dax_options o = dax_options_default();
    o.persist = p->msync ? MEDIUM_MSYNC : MEDIUM_AUTO;
    struct conn *c = NULL;
    memset(err, 0, sizeof *err);
    damaged_keep(p);
    dax_rc rc = conn_open(p->path, &o, &c, err);
    *state_out = -1;
    enum verdict v;
    if (rc != DAX_OK) {
        v = !refusal_fits(rc, err) ? VERDICT_CODE
            : damaged_same(p)      ? VERDICT_REFUSED
                                   : VERDICT_CHANGED;
    } else {
        int seen = state_seen(p, c);
        rc = conn_close(c, err);
        int closed = state_closed(p);
        *state_out = seen;
        v = seen < 0 || rc != DAX_OK || closed != seen ? VERDICT_WRONG
            : seen == p->states - 1                    ? VERDICT_NEWEST
                                                       : VERDICT_OLDER;
    }
    pair_restore(p);
    return v;
}
