/* owner_map.c: which object of the database owns a page: maps of snapshots, kept per database file.
 *
 * A finished map is immutable and counted; the cache holds the two used last, so that a connection
 * which reads an old state and one which reads the newest do not chase each other's away. Two
 * connections that need the same new map at once make it twice; nobody waits for another's walk.
 *
 * Stamps (conn_page_stamp) tell the walker which pages are the same as in the map before. They are
 * numbers of newest versions, so of two states either may come first.
 *
 * The handler of SIGBUS asks as well, for its last words (owner_last_words). It cannot take a lock: what
 * it reads, the list of caches and their maps, is changed under shown_flag, too, for a few instructions
 * at a time and never around an access that could fault. A map is freed after it has left a cache.
 *
 * A page that is unreadable is so until somebody repairs it, which need not change the txid: a map
 * with unreadable pages is believed only as long as they are.
 */
#include "vfs/owner_map.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/limits.h"
#include "vfs/interrupt.h"
#include "vfs/last_words.h"
#include "vfs/report.h"
#include "vfs/schema.h"
#include "vfs/vfs.h"
#include "vfs/walker.h"

/* So many unreadable pages are tried again before a map is believed. */
#define OWNER_RETRIES 16u

struct owner_map {
    struct walk_map *walk; /* owned */
    uint64_t txid;
    _Atomic unsigned users;
};

#define OWNER_MAPS 2

struct owner_cache {
    char *path;     /* owned */
    unsigned users; /* guarded by caches_lock, as next is */
    struct owner_cache *next;
    pthread_mutex_t lock;
    struct owner_map *maps[OWNER_MAPS]; /* guarded by lock; used last first; NULL at the end */
};

static pthread_mutex_t caches_lock = PTHREAD_MUTEX_INITIALIZER;
static struct owner_cache *caches; /* guarded by caches_lock */

/* Whoever changes `caches` or a cache's maps holds it besides the lock. */
static atomic_flag shown_flag = ATOMIC_FLAG_INIT;

/* false: not within so many tries. */
static bool shown_take(unsigned long tries)
{
    while (atomic_flag_test_and_set_explicit(&shown_flag, memory_order_acquire))
        if (tries && --tries == 0)
            return false;
    return true;
}

static void shown_give(void)
{
    atomic_flag_clear_explicit(&shown_flag, memory_order_release);
}

/* --- the cache -------------------------------------------------------------------------------- */

static struct owner_cache *owner_cache_new(const char *path)
{
    struct owner_cache *cache = calloc(1, sizeof *cache);
    if (!cache)
        return NULL;
    cache->path = strdup(path);
    if (!cache->path) {
        free(cache);
        return NULL;
    }
    pthread_mutex_init(&cache->lock, NULL);
    cache->next = caches;
    shown_take(0);
    caches = cache;
    shown_give();
    return cache;
}

struct owner_cache *owner_cache_open(const char *path)
{
    pthread_mutex_lock(&caches_lock);
    struct owner_cache *cache = caches;
    while (cache && strcmp(cache->path, path) != 0)
        cache = cache->next;
    if (!cache)
        cache = owner_cache_new(path);
    if (cache)
        cache->users++;
    pthread_mutex_unlock(&caches_lock);
    return cache;
}

void owner_cache_close(struct owner_cache *cache)
{
    if (!cache)
        return;
    pthread_mutex_lock(&caches_lock);
    bool last = --cache->users == 0;
    struct owner_cache **link = &caches;
    while (last && *link != cache)
        link = &(*link)->next;
    if (last) {
        shown_take(0);
        *link = cache->next;
        shown_give();
    }
    pthread_mutex_unlock(&caches_lock);
    if (!last)
        return;
    for (int i = 0; i < OWNER_MAPS; i++)
        owner_map_release(cache->maps[i]);
    pthread_mutex_destroy(&cache->lock);
    free(cache->path);
    free(cache);
}

void owner_map_release(struct owner_map *map)
{
    if (!map || atomic_fetch_sub(&map->users, 1) != 1)
        return;
    walk_map_free(map->walk);
    free(map);
}

static struct owner_map *owner_map_share(struct owner_map *map)
{
    if (map)
        atomic_fetch_add(&map->users, 1);
    return map;
}

/* The map of this state, or else the newest one as *before. Both are shared. */
static struct owner_map *owner_cache_find(struct owner_cache *cache, uint64_t txid,
                                          struct owner_map **before)
{
    struct owner_map *found = NULL;
    *before = NULL;
    pthread_mutex_lock(&cache->lock);
    for (int i = 0; i < OWNER_MAPS && cache->maps[i]; i++) {
        struct owner_map *m = cache->maps[i];
        if (m->txid == txid)
            found = m;
        else if (!*before || m->txid > (*before)->txid)
            *before = m;
    }
    if (found && found != cache->maps[0]) {
        shown_take(0);
        cache->maps[1] = cache->maps[0];
        cache->maps[0] = found;
        shown_give();
    }
    if (found)
        *before = NULL;
    owner_map_share(found);
    owner_map_share(*before);
    pthread_mutex_unlock(&cache->lock);
    return found;
}

static void owner_cache_add(struct owner_cache *cache, struct owner_map *map)
{
    pthread_mutex_lock(&cache->lock);
    int out = OWNER_MAPS - 1;
    for (int i = 0; i < OWNER_MAPS; i++)
        if (cache->maps[i] && cache->maps[i]->txid == map->txid)
            out = i;
    struct owner_map *old = cache->maps[out];
    shown_take(0);
    if (out != 0)
        cache->maps[out] = cache->maps[0];
    cache->maps[0] = owner_map_share(map);
    shown_give();
    pthread_mutex_unlock(&cache->lock);
    owner_map_release(old);
}

/* --- pages of a snapshot ---------------------------------------------------------------------- */

struct owner_source {
    struct conn *c;
    struct interrupt interrupt;
    struct dax_err *err;
    int code; /* why the walk was stopped */
};

static enum walk_read owner_read(void *arg, uint64_t offset, uint32_t len, uint8_t *buf)
{
    struct owner_source *s = arg;
    dax_rc rc = conn_read_committed(s->c, buf, len, offset, report_clear(s->err));
    if (rc == DAX_OK || rc == DAX_SHORT_READ)
        return WALK_READ;
    if (rc == DAX_IO_READ || rc == DAX_IO_MEDIA)
        return WALK_UNREADABLE;
    s->code = report_code(REPORT_READ, rc);
    return WALK_STOPPED;
}

static uint32_t owner_stamp(void *arg, uint64_t offset, uint32_t len)
{
    struct owner_source *s = arg;
    uint32_t stamp = 0;
    for (uint64_t p = offset / DAX_PAGE_BYTES; p <= (offset + len - 1) / DAX_PAGE_BYTES; p++) {
        uint64_t one = conn_page_stamp(s->c, p);
        if (one == 0)
            return 0;
        stamp = stamp * UINT32_C(0x9e3779b1) + (uint32_t)one;
    }
    return stamp;
}

static bool owner_stop(void *arg)
{
    struct owner_source *s = arg;
    s->code = SQLITE_INTERRUPT;
    return interrupt_asked(&s->interrupt);
}

/* Has a page that the map could not read become readable? */
static bool owner_map_is_stale(const struct owner_map *map, struct owner_source *s)
{
    const struct walk_map *m = map->walk;
    uint8_t buf[DBFORMAT_PAGE_MIN];
    if (m->header_lost && owner_read(s, 0, sizeof buf, buf) != WALK_UNREADABLE)
        return true;
    unsigned tried = 0;
    for (uint32_t i = 0; i < m->problem_count && tried < OWNER_RETRIES; i++) {
        const struct walk_problem *p = &m->problems[i];
        uint64_t size = m->header.page_size, at = (p->page - UINT64_C(1)) * size;
        if (p->trouble != TROUBLE_UNREADABLE)
            continue;
        tried++;
        bool readable = true;
        for (uint64_t off = 0; off < size && readable; off += sizeof buf)
            readable = owner_read(s, at + off, sizeof buf, buf) != WALK_UNREADABLE;
        if (readable)
            return true;
    }
    return false;
}

static int owner_map_make(struct owner_source *s, const struct owner_map *before,
                          struct owner_map **out)
{
    struct walk_source source = {.arg = s,
                                 .bytes = conn_size_committed(s->c),
                                 .read = owner_read,
                                 .stamp = owner_stamp,
                                 .stop = owner_stop};
    struct owner_map *map = calloc(1, sizeof *map);
    if (!map)
        return SQLITE_NOMEM;
    enum walk_result rc = walk_run(&source, before ? before->walk : NULL, &map->walk);
    if (rc != WALK_OK) {
        free(map);
        return rc == WALK_NOMEM ? SQLITE_NOMEM : s->code;
    }
    map->txid = conn_snapshot(s->c);
    atomic_init(&map->users, 1);
    *out = map;
    return SQLITE_OK;
}

int owner_map_get(struct owner_cache *cache, struct conn *c, sqlite3 *db, struct owner_map **out,
                  struct dax_err *err)
{
    struct owner_source s = {
        .c = c, .interrupt = {.db = db}, .err = err, .code = SQLITE_INTERRUPT};
    struct owner_map *before;
    int code = SQLITE_OK;
    *out = NULL;
    bool own_snapshot = conn_snapshot(c) == 0;
    if (own_snapshot) {
        dax_rc rc = conn_begin_read(c, report_clear(err));
        if (rc != DAX_OK)
            return report_code(REPORT_READ, rc);
    }
    struct owner_map *map = owner_cache_find(cache, conn_snapshot(c), &before);
    if (map && owner_map_is_stale(map, &s)) {
        before = map;
        map = NULL;
    }
    if (!map) {
        code = owner_map_make(&s, before, &map);
        if (code == SQLITE_OK)
            owner_cache_add(cache, map);
    }
    owner_map_release(before);
    interrupt_end(&s.interrupt);
    if (own_snapshot)
        conn_end_read(c);
    *out = map;
    return code;
}

int owner_map_of_schema(sqlite3 *db, const char *schema, struct owner_map **out, char **why)
{
    struct owner_cache *cache = NULL;
    struct conn *c = vfs_conn_of(db, schema);
    struct dax_err err;
    *out = NULL;
    *why = NULL;
    if (!c || sqlite3_file_control(db, schema, DAX_FCNTL_OWNERS, &cache) != SQLITE_OK || !cache)
        return SQLITE_NOMEM;
    int rc = owner_map_get(cache, c, db, out, report_clear(&err));
    if (rc != SQLITE_OK && rc != SQLITE_NOMEM)
        *why = sqlite3_mprintf("%s", rc == SQLITE_INTERRUPT || !err.text[0] ? sqlite3_errstr(rc)
                                                                            : err.text);
    return rc;
}

/* --- answers ---------------------------------------------------------------------------------- */

uint64_t owner_map_txid(const struct owner_map *map)
{
    return map->txid;
}

uint32_t owner_map_page_size(const struct owner_map *map)
{
    return map->walk->header.page_size;
}

uint64_t owner_map_pages_read(const struct owner_map *map)
{
    return map->walk->pages_read;
}

const struct walk_map *owner_map_walk(const struct owner_map *map)
{
    return map->walk;
}


static const char *owner_role_name(enum walk_role role)
{
    switch (role) {
    case WALK_ROOT:
    case WALK_ROOT_INTERIOR:
    case WALK_ROOT_LEAF: return "root";
    case WALK_INTERIOR: return "interior";
    case WALK_LEAF: return "leaf";
    case WALK_OVERFLOW_FIRST:
    case WALK_OVERFLOW: return "overflow";
    case WALK_TRUNK: return "free trunk";
    case WALK_FREE: return "free leaf";
    case WALK_POINTER_MAP: return "pointer map";
    case WALK_LOCK_BYTE: return "lock byte";
    default: return "unknown";
    }
}

/* Object, role, root and parent. */
static void owner_place(const struct walk_map *m, uint32_t page, struct owner *out)
{
    enum walk_role role = walk_role(m, page);
    out->role = owner_role_name(role);
    out->parent = m->parent[page];
    if (!walk_is_tree(role) && !walk_is_overflow(role))
        return;
    out->root = walk_root_of(m, page);
    const struct walk_object *o = walk_object_of(m, out->root);
    if (!o)
        return;
    out->type = o->root == 1 ? "schema" : o->index ? "index" : "table";
    out->name = o->name;
    out->table = o->table;
    out->virtual_table = o->serves;
}

static void owner_trouble(const struct walk_problem *p, char *buf, size_t room)
{
    static const char *const texts[] = {
        [TROUBLE_UNREADABLE] = "cannot be read",
        [TROUBLE_NO_TREE_PAGE] = "is no b-tree page of its kind",
        [TROUBLE_CELLS] = "has cells that do not lie within it",
        [TROUBLE_POINTER] = "points to page %u, which does not exist",
        [TROUBLE_RESERVED] = "points to page %u, which holds no data",
        [TROUBLE_NAMED_TWICE] = "is named by page %u as well",
        [TROUBLE_NAMES_TAKEN] = "names page %u, which belongs elsewhere",
        [TROUBLE_DEPTH] = "has another depth than the rest of its tree",
        [TROUBLE_CHAIN] = "ends an overflow chain of page %u too soon",
        [TROUBLE_TRUNK] = "lists %u free pages, more than fit on it",
        [TROUBLE_FREE_COUNT] = "counts %u free pages, and the free list has more or fewer",
        [TROUBLE_SCHEMA_ROW] = "has a row that describes nothing",
        [TROUBLE_SIZE] = "counts %u pages in the database, and there are fewer",
    };
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(buf, room, texts[p->trouble], p->other);
#pragma GCC diagnostic pop
}

static void owner_troubles(const struct walk_map *m, uint32_t page, char *buf, size_t room)
{
    size_t used = 0;
    for (uint32_t i = 0; i < m->problem_count && used + 1 < room; i++) {
        if (m->problems[i].page != page)
            continue;
        if (used)
            used += (size_t)snprintf(buf + used, room - used, "; ");
        if (used + 1 < room) {
            owner_trouble(&m->problems[i], buf + used, room - used);
            used += strlen(buf + used);
        }
    }
    if (used == 0)
        snprintf(buf, room, "is reached through a damaged page");
}

/* Why nobody owns the page. */
static void owner_unknown(const struct walk_map *m, struct owner *out)
{
    struct owner hole = {0};
    char trouble[100];
    if (m->holes == 0) {
        snprintf(out->detail, sizeof out->detail, "neither an object nor the free list has it");
        return;
    }
    owner_place(m, m->hole, &hole);
    owner_troubles(m, m->hole, trouble, sizeof trouble);
    out->below = m->holes == 1 ? m->hole : 0;
    snprintf(out->detail, sizeof out->detail, "%s page %u (%s%s%.60s%s), which %s",
             m->holes == 1 ? "unknown below"
                           : "several pages cannot be followed, the first is",
             m->hole, hole.role, hole.name ? " of \"" : "", hole.name ? hole.name : "",
             hole.name ? "\"" : "", trouble);
}

/* Without a header only one thing is sure: the file begins with SQLite's page 1. */
static void owner_without_header(const struct walk_map *m, uint64_t page, struct owner *out)
{
    snprintf(out->detail, sizeof out->detail, "page 1 %s",
             m->header_lost ? "cannot be read" : "is not the header of an SQLite database");
    out->unreadable = page == 1 && m->header_lost;
    out->damaged = page == 1 && !m->header_lost;
    if (page != 1)
        return;
    out->type = "schema";
    out->name = out->table = "sqlite_schema";
    out->role = "root";
    out->root = 1;
}

void owner_of_sqlite_page(const struct owner_map *map, uint64_t page, struct owner *out)
{
    const struct walk_map *m = map->walk;
    memset(out, 0, sizeof *out);
    out->page = page;
    out->role = "unknown";
    if (m->no_header) {
        owner_without_header(m, page, out);
    } else if (page < 1 || page > m->pages) {
        out->role = "beyond the end";
    } else {
        uint32_t p = (uint32_t)page;
        owner_place(m, p, out);
        out->unreadable = (m->role[p] & WALK_LOST) != 0;
        out->damaged = (m->role[p] & WALK_DAMAGED) != 0;
        if (out->unreadable || out->damaged)
            owner_troubles(m, p, out->detail, sizeof out->detail);
        else if (walk_role(m, p) == WALK_NONE)
            owner_unknown(m, out);
    }
}

uint32_t owner_pages_within(const struct owner_map *map, uint64_t engine_page, uint64_t *first)
{
    uint32_t size = map->walk->header.page_size;
    if (size == 0) {
        *first = engine_page == 0 ? 1 : 0;
        return 1;
    }
    *first = engine_page * DAX_PAGE_BYTES / size + 1;
    uint32_t count = size < DAX_PAGE_BYTES ? DAX_PAGE_BYTES / size : 1;
    uint64_t last = map->walk->pages;
    if (*first <= last && last - *first + 1 < count)
        count = (uint32_t)(last - *first + 1);
    return *first > last ? 1 : count;
}

/* --- in a signal handler ------------------------------------------------------------------------ */

static char *last_words_text(char *to, const char *end, const char *text)
{
    while (text && *text && to < end)
        *to++ = *text++;
    return to;
}

static char *last_words_owner(const struct owner_map *map, uint64_t page, char *to, const char *end)
{
    const struct walk_map *m = map->walk;
    struct owner o = {.role = NULL};
    uint64_t first = 0;
    if (m->no_header)
        return to;
    (void)owner_pages_within(map, page, &first);
    if (first > m->pages)
        return to;
    owner_place(m, (uint32_t)first, &o);
    to = last_words_text(to, end, " (");
    if (o.name) {
        to = last_words_text(to, end, o.virtual_table ? "virtual table" : o.type);
        to = last_words_text(to, end, " \"");
        to = last_words_text(to, end, o.virtual_table ? o.virtual_table : o.name);
        to = last_words_text(to, end, "\", ");
    }
    to = last_words_text(to, end, o.role);
    return last_words_text(to, end, ")");
}

size_t owner_last_words(const char *path, uint64_t page, const struct media_reader *r, char *to,
                        size_t max)
{
    char *at = to, *end = to + max;
    /* A thread that holds the flag may not run any more; it is none that is within here. */
    if (!shown_take(1000000))
        return r ? last_words_search(r, page, to, max) : 0;
    for (const struct owner_cache *c = caches; c && at == to; c = c->next)
        for (int i = 0; i < OWNER_MAPS && strcmp(c->path, path) == 0; i++)
            if (at == to && c->maps[i])
                at = last_words_owner(c->maps[i], page, at, end);
    shown_give();
    return at == to && r ? last_words_search(r, page, to, max) : (size_t)(at - to);
}
