/* last_words.c: finds the owner of one page from scratch, in the handler of SIGBUS.
 *
 * A process that dies of a page should say whose it was, and mostly nobody has made a map of owners before.
 * There is no lock and no memory to be had here, and nothing to lose but time: the trees are walked from
 * sqlite_schema on, through a reader that makes system calls, with buffers that are part of the program. Nothing
 * is kept up for it while all is well.
 *
 * First the interior pages: all children of one are at the same depth, so one of them tells what they are, and
 * leaves need not be read. That finds every page of a tree. Then everything once more for overflow chains,
 * which hang on leaves. Both as long as SEARCH_NS allows.
 *
 * Other threads go on writing meanwhile. What is read is checked as everything that comes from a file is
 * (dbformat.h); a page that has moved in between is missed, or named after the tree that had it last.
 */
#include "vfs/last_words.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "engine/limits.h"
#include "vfs/dbformat.h"

#define SEARCH_NS UINT64_C(2000000000)

struct search_page {
    uint32_t number;
    uint8_t bytes[DBFORMAT_PAGE_MAX];
    struct dbformat_tree_page tree;
};

struct search {
    const struct media_reader *r;
    struct dbformat_header header;
    uint32_t first, last; /* SQLite's pages in the engine's */
    uint64_t deadline_ns;
    bool overflow;    /* second pass */
    const char *role; /* found */
    struct search_page schema, inner, leaf;
};

/* One at a time. */
static atomic_flag search_busy = ATOMIC_FLAG_INIT;
static struct search search_state;

static uint64_t search_now_ns(void)
{
    struct timespec t = {0};
    clock_gettime(CLOCK_MONOTONIC, &t); /* async-signal-safe */
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static bool search_is(const struct search *q, uint32_t page)
{
    return page >= q->first && page <= q->last;
}

static bool search_in_time(const struct search *q)
{
    return search_now_ns() < q->deadline_ns;
}

static bool search_load(struct search *q, uint32_t page, bool every, struct search_page *out)
{
    uint64_t size = q->header.page_size;
    out->number = 0;
    if (page == 0 || !search_in_time(q) ||
        !q->r->read(q->r->arg, (page - UINT64_C(1)) * size, (size_t)size, out->bytes))
        return false;
    out->number = page;
    return dbformat_tree_page(&q->header, page, out->bytes, every, &out->tree);
}

/* Are the children of the interior page in q->inner leaves? The first that can be read says it. */
static bool search_above_leaves(struct search *q)
{
    for (uint32_t i = 0; i < q->inner.tree.count; i++)
        if (q->inner.tree.refs[i].child &&
            search_load(q, q->inner.tree.refs[i].child, false, &q->leaf))
            return q->leaf.tree.leaf;
    return true; /* none: then the one that matters is as likely a leaf as anything */
}

/* Chains that begin on the page. */
static bool search_chains(struct search *q, const struct search_page *p)
{
    uint32_t step = q->header.usable - 4;
    for (uint32_t i = 0; i < p->tree.count; i++) {
        const struct dbformat_ref *ref = &p->tree.refs[i];
        uint32_t page = ref->overflow_bytes ? ref->overflow : 0;
        for (uint64_t left = ref->overflow_bytes; page && search_in_time(q);) {
            uint8_t next[4];
            if (search_is(q, page)) {
                q->role = "overflow";
                return true;
            }
            if (left <= step || !q->r->read(q->r->arg, (page - UINT64_C(1)) * q->header.page_size,
                                            sizeof next, next))
                break;
            left -= step;
            page = dbformat_u32(next);
        }
    }
    return false;
}

/* The interior page in q->inner, above leaves. */
static bool search_leaves(struct search *q)
{
    for (uint32_t i = 0; i < q->inner.tree.count; i++) {
        uint32_t child = q->inner.tree.refs[i].child;
        if (!q->overflow && search_is(q, child)) {
            q->role = "leaf";
            return true;
        }
        if (q->overflow && child && search_load(q, child, false, &q->leaf) &&
            search_chains(q, &q->leaf))
            return true;
    }
    return q->overflow && search_chains(q, &q->inner);
}

/* Interior children; the page itself in the second pass. */
static bool search_interior(struct search *q)
{
    for (uint32_t i = 0; !q->overflow && i < q->inner.tree.count; i++)
        if (search_is(q, q->inner.tree.refs[i].child)) {
            q->role = "interior";
            return true;
        }
    return q->overflow && search_chains(q, &q->inner);
}

/* Is the page in the tree at root? Depth first; pages above others are read again on the way back. */
static bool search_tree(struct search *q, uint32_t root)
{
    struct {
        uint32_t page, next;
    } level[DBFORMAT_DEPTH_MAX];
    unsigned depth = 0;
    if (!q->overflow && search_is(q, root)) {
        q->role = "root";
        return true;
    }
    level[0].page = root;
    level[0].next = 0;
    for (;;) {
        uint32_t *next = &level[depth].next, child = 0;
        if (search_load(q, level[depth].page, false, &q->inner)) {
            if (q->inner.tree.leaf) {
                if (q->overflow && search_chains(q, &q->inner))
                    return true;
            } else if (*next == 0 && search_above_leaves(q)) {
                if (search_leaves(q))
                    return true;
            } else if (*next == 0 && search_interior(q)) {
                return true;
            } else if (*next < q->inner.tree.count && depth + 1 < DBFORMAT_DEPTH_MAX) {
                child = q->inner.tree.refs[(*next)++].child;
            }
        }
        if (child) {
            level[++depth].page = child;
            level[depth].next = 0;
        } else if (depth-- == 0 || !search_in_time(q)) {
            return false;
        }
    }
}

/* --- sqlite_schema ------------------------------------------------------------------------------------- */

static char *search_put(char *to, const char *end, const char *text)
{
    while (*text && to < end)
        *to++ = *text++;
    return to;
}

/* Of UTF-16 what is ASCII. */
static char *search_put_value(const struct search *q, const struct dbformat_value *v, char *to,
                              const char *end)
{
    unsigned step = q->header.encoding == DBFORMAT_UTF8 ? 1 : 2;
    unsigned low = q->header.encoding == DBFORMAT_UTF16BE ? 1 : 0;
    for (uint32_t i = 0; v->bytes && i + step <= v->length && to < end; i += step) {
        bool plain = step == 1 || v->bytes[i + 1 - low] == 0;
        *to++ = plain ? (char)v->bytes[i + low] : '?';
    }
    return to;
}

/* One row: to behind what was put, if the page is its. */
static char *search_row(struct search *q, const struct dbformat_ref *ref, char *to, const char *end)
{
    struct dbformat_value columns[SCHEMA_ROOT + 1];
    if (!dbformat_record(q->schema.bytes + ref->local_at, ref->local_bytes, columns,
                         SCHEMA_ROOT + 1) ||
        columns[SCHEMA_ROOT].number <= 0 || columns[SCHEMA_ROOT].number > UINT32_MAX ||
        !search_tree(q, (uint32_t)columns[SCHEMA_ROOT].number))
        return to;
    to = search_put(to, end, " (");
    to = search_put_value(q, &columns[SCHEMA_TYPE], to, end);
    to = search_put(to, end, " \"");
    to = search_put_value(q, &columns[SCHEMA_NAME], to, end);
    to = search_put(to, end, "\", ");
    to = search_put(to, end, q->role);
    return search_put(to, end, ")");
}

/* The rows of all leaves of sqlite_schema, which is a tree of tables at page 1. */
static char *search_schema(struct search *q, char *to, const char *end)
{
    struct {
        uint32_t page, next;
    } level[DBFORMAT_DEPTH_MAX];
    unsigned depth = 0;
    char *at = to;
    if (search_tree(q, 1)) {
        at = search_put(at, end, " (schema, ");
        at = search_put(at, end, q->role);
        return search_put(at, end, ")");
    }
    level[0].page = 1;
    level[0].next = 0;
    for (;;) {
        uint32_t child = 0, *next = &level[depth].next;
        if (search_load(q, level[depth].page, true, &q->schema)) {
            for (uint32_t i = 0; q->schema.tree.leaf && i < q->schema.tree.count && at == to; i++)
                at = search_row(q, &q->schema.tree.refs[i], at, end);
            if (!q->schema.tree.leaf && *next < q->schema.tree.count &&
                depth + 1 < DBFORMAT_DEPTH_MAX)
                child = q->schema.tree.refs[(*next)++].child;
        }
        if (child) {
            level[++depth].page = child;
            level[depth].next = 0;
        } else if (at != to || depth-- == 0 || !search_in_time(q)) {
            return at;
        }
    }
}

size_t last_words_search(const struct media_reader *r, uint64_t page, char *to, size_t max)
{
    struct search *q = &search_state;
    uint8_t header[DBFORMAT_HEADER_BYTES];
    char *at = to;
    if (atomic_flag_test_and_set_explicit(&search_busy, memory_order_acquire))
        return 0;
    q->r = r;
    q->role = NULL;
    q->deadline_ns = search_now_ns() + SEARCH_NS;
    if (r->read(r->arg, 0, sizeof header, header) && dbformat_header(header, &q->header)) {
        uint64_t size = q->header.page_size, first = page * DAX_PAGE_BYTES / size + 1;
        if (first < UINT32_MAX) {
            q->first = (uint32_t)first;
            q->last =
                (uint32_t)first + (size < DAX_PAGE_BYTES ? DAX_PAGE_BYTES / (uint32_t)size : 1) - 1;
            for (int pass = 0; pass < 2 && at == to; pass++) {
                q->overflow = pass == 1;
                at = search_schema(q, at, to + max);
            }
        }
    }
    atomic_flag_clear_explicit(&search_busy, memory_order_release);
    return (size_t)(at - to);
}
