/* test_page_cache.c: the page cache, called as SQLite calls it.
 *
 * Would catch: a pinned page that moves, changes or goes; another page's content under a key; a
 * page that survives its truncation; a new page whose extra space looks used; buffers that overlap
 * or are not aligned; pages of an in-memory database given up; counts that are not those of what is
 * there; memory that is not given back; a limit that is exceeded by pages nobody uses; an idle
 * cache that keeps all of the memory; a page taken from a cache while its owner is inside; a policy
 * that a scan defeats.
 */
#include <math.h>
#include <pthread.h>

#include "tests/seed.h"
#include "tests/unit/unit.h"
#include "vfs/memory.h"
#include "vfs/page_cache.h"
#include "vfs/page_cache_state.h"

#define PAGE 4096
#define EXTRA 216 /* SQLite 3.40 */

static const sqlite3_pcache_methods2 *m = &page_cache_methods;

/* Check notes each assertion in a file: not in hot loops. */
#define must(expr, ...)                                                                            \
    do {                                                                                           \
        if (!(expr))                                                                               \
            ck_abort_msg(__VA_ARGS__);                                                             \
    } while (0)

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static void setup(void)
{
    unit_setup();
    ck_assert_int_eq(m->xInit(NULL), SQLITE_OK);
}

static struct page_cache_status status(void)
{
    struct page_cache_status s;
    page_cache_status(&s);
    return s;
}

static void valid(const sqlite3_pcache *c)
{
    const char *wrong = page_cache_validate(c);
    must(!wrong, "%s", wrong);
}

/* All caches are destroyed: nothing is left. */
static void teardown(void)
{
    page_cache_set_limit(0);
    page_cache_shrink();
    struct page_cache_status s = status();
    ck_assert_uint_eq(s.caches, 0);
    ck_assert_uint_eq(s.used, 0);
    ck_assert_uint_eq(s.allocated, 0);
    uint64_t bytes = 0;
    if (memory_arena_allocated(pool_arena(), &bytes))
        ck_assert_uint_eq(bytes, 0);
    m->xShutdown(NULL);
}

static sqlite3_pcache *cache_of(int purgeable, int pages)
{
    sqlite3_pcache *c = m->xCreate(PAGE, EXTRA, purgeable);
    ck_assert_ptr_nonnull(c);
    m->xCachesize(c, pages);
    return c;
}

/* --- the contract, one by one --------------------------------------------------------------------
 * */

START_TEST(test_a_page_is_made_only_where_it_may_be)
{
    sqlite3_pcache *c = cache_of(1, 100);
    ck_assert_ptr_null(m->xFetch(c, 7, 0));
    ck_assert_int_eq(m->xPagecount(c), 0);
    sqlite3_pcache_page *page = m->xFetch(c, 7, 1);
    ck_assert_ptr_nonnull(page);
    ck_assert_int_eq(m->xPagecount(c), 1);
    ck_assert_ptr_eq(m->xFetch(c, 7, 0), page);
    ck_assert_ptr_eq(m->xFetch(c, 7, 2), page);
    m->xUnpin(c, page, 0);
    ck_assert_ptr_eq(m->xFetch(c, 7, 0), page);
    m->xUnpin(c, page, 1);
    ck_assert_int_eq(m->xPagecount(c), 0);
    ck_assert_ptr_null(m->xFetch(c, 7, 0));
    valid(c);
    m->xDestroy(c);
}
END_TEST

START_TEST(test_refused_when_nine_tenths_are_in_use_and_made_with_every_effort)
{
    sqlite3_pcache *c = cache_of(1, 50);
    sqlite3_pcache_page *pages[80];
    for (unsigned i = 0; i < 45; i++)
        ck_assert_ptr_nonnull(pages[i] = m->xFetch(c, i + 1, 1));
    ck_assert_ptr_null(m->xFetch(c, 46, 1));
    for (unsigned i = 45; i < 80; i++)
        ck_assert_ptr_nonnull(pages[i] = m->xFetch(c, i + 1, 2));
    ck_assert_int_eq(m->xPagecount(c), 80);
    for (unsigned i = 0; i < 80; i++)
        ck_assert_ptr_eq(m->xFetch(c, i + 1, 0), pages[i]);
    /* Above the suggested size, a page that is let go goes. */
    for (unsigned i = 0; i < 80; i++)
        m->xUnpin(c, pages[i], 0);
    ck_assert_int_eq(m->xPagecount(c), 50);
    valid(c);
    m->xDestroy(c);
}
END_TEST

START_TEST(test_pages_of_memory_databases_stay)
{
    sqlite3_pcache *c = cache_of(0, 10);
    for (unsigned i = 1; i <= 500; i++) {
        sqlite3_pcache_page *page = m->xFetch(c, i, i % 2 + 1);
        ck_assert_ptr_nonnull(page);
        memset(page->pBuf, (int)i, PAGE);
    }
    m->xShrink(c);
    m->xCachesize(c, 5);
    page_cache_shrink();
    page_cache_set_limit(1);
    ck_assert_int_eq(m->xPagecount(c), 500);
    ck_assert_ptr_nonnull(m->xFetch(c, 501, 1));
    for (unsigned i = 1; i <= 500; i++) {
        sqlite3_pcache_page *page = m->xFetch(c, i, 0);
        must(page && *(unsigned char *)page->pBuf == (i & 0xFF), "page %u", i);
    }
    valid(c);
    m->xDestroy(c);
}
END_TEST

START_TEST(test_rekey_takes_the_place_of_what_was_there)
{
    sqlite3_pcache *c = cache_of(1, 100);
    sqlite3_pcache_page *a = m->xFetch(c, 1, 1), *b = m->xFetch(c, 2, 1);
    memset(a->pBuf, 1, PAGE);
    m->xUnpin(c, b, 0);
    m->xRekey(c, a, 1, 2);
    ck_assert_int_eq(m->xPagecount(c), 1);
    ck_assert_ptr_null(m->xFetch(c, 1, 0));
    ck_assert_ptr_eq(m->xFetch(c, 2, 0), a);
    ck_assert_int_eq(*(char *)a->pBuf, 1);
    /* Again and again, in a table that has room for few. */
    for (unsigned key = 2; key < 5000; key++) {
        m->xRekey(c, a, key, key + 1);
        if (key % 100 == 0)
            valid(c);
    }
    ck_assert_ptr_eq(m->xFetch(c, 5000, 0), a);
    m->xTruncate(c, 5001);
    ck_assert_int_eq(m->xPagecount(c), 1);
    m->xTruncate(c, 5000);
    ck_assert_int_eq(m->xPagecount(c), 0);
    m->xDestroy(c);
}
END_TEST

START_TEST(test_truncate_discards_pinned_pages_as_well)
{
    for (int purgeable = 0; purgeable < 2; purgeable++) {
        sqlite3_pcache *c = cache_of(purgeable, 1000);
        for (unsigned i = 1; i <= 300; i++) {
            sqlite3_pcache_page *page = m->xFetch(c, i, 2);
            if (purgeable && i % 3)
                m->xUnpin(c, page, 0);
        }
        m->xTruncate(c, 301);
        ck_assert_int_eq(m->xPagecount(c), 300);
        m->xTruncate(c, 200);
        ck_assert_int_eq(m->xPagecount(c), 199);
        ck_assert_ptr_null(m->xFetch(c, 200, 0));
        ck_assert_ptr_nonnull(m->xFetch(c, 199, 0));
        valid(c);
        m->xTruncate(c, 0);
        ck_assert_int_eq(m->xPagecount(c), 0);
        valid(c);
        ck_assert_ptr_nonnull(m->xFetch(c, 250, 1));
        m->xDestroy(c);
    }
}
END_TEST

START_TEST(test_shrink_keeps_what_is_in_use_and_gives_the_rest_back)
{
    sqlite3_pcache *c = cache_of(1, 2000);
    sqlite3_pcache_page *kept = NULL;
    for (unsigned i = 1; i <= 1500; i++) {
        sqlite3_pcache_page *page = m->xFetch(c, i, 1);
        if (i == 77)
            memset((kept = page)->pBuf, 77, PAGE);
        else
            m->xUnpin(c, page, 0);
    }
    uint64_t before = status().allocated;
    m->xShrink(c);
    ck_assert_int_eq(m->xPagecount(c), 1);
    ck_assert_ptr_eq(m->xFetch(c, 77, 0), kept);
    ck_assert_int_eq(*((char *)kept->pBuf + PAGE - 1), 77);
    valid(c);
    ck_assert_uint_lt(status().allocated, before / 4);
    m->xDestroy(c);
}
END_TEST

/* --- against a model
 * ------------------------------------------------------------------------------- */

enum {
    KEYS = 400,
    CACHES = 4
};

struct model_page {
    bool may_be_there, pinned;
    sqlite3_pcache_page *page; /* if pinned */
    uint64_t stamp;            /* of its content */
};

struct model {
    sqlite3_pcache *cache;
    int page_bytes;
    bool purgeable;
    struct model_page pages[KEYS + 1];
};

static void page_write(const struct model *model, sqlite3_pcache_page *page, uint64_t stamp)
{
    uint64_t *words = page->pBuf;
    for (int i = 0; i < model->page_bytes / 8; i += 16)
        words[i] = stamp + (uint64_t)i;
    words[model->page_bytes / 8 - 1] = ~stamp;
    memset(page->pExtra, (int)(stamp | 1) & 0xFF, EXTRA);
}

static void page_check(const struct model *model, const sqlite3_pcache_page *page, uint64_t stamp)
{
    const uint64_t *words = page->pBuf;
    const unsigned char *extra = page->pExtra;
    bool good = words[model->page_bytes / 8 - 1] == ~stamp;
    for (int i = 0; i < model->page_bytes / 8; i += 16)
        good = good && words[i] == stamp + (uint64_t)i;
    for (int i = 0; i < EXTRA; i++)
        good = good && extra[i] == ((stamp | 1) & 0xFF);
    must(good, "the content of a page is not its own");
}

static bool page_is_new(const sqlite3_pcache_page *page)
{
    uint64_t first;
    memcpy(&first, page->pExtra, sizeof first);
    return first == 0;
}

static void model_fetch(struct model *model, unsigned key, int create, uint64_t stamp)
{
    struct model_page *p = &model->pages[key];
    sqlite3_pcache_page *page = m->xFetch(model->cache, key, create);
    if (!page) {
        must(!p->pinned, "a pinned page is not found");
        must(create != 2, "a page could not be made");
        must(create == 0 || model->purgeable, "a page in memory could not be made");
        must(!p->may_be_there || model->purgeable, "a page in memory is lost");
        p->may_be_there = false;
        return;
    }
    must((uintptr_t)page->pBuf % (model->page_bytes < 4096 ? model->page_bytes : 4096) == 0,
         "a buffer is not aligned");
    if (p->pinned) {
        must(page == p->page, "a pinned page has moved");
        page_check(model, page, p->stamp);
    } else if (p->may_be_there && !page_is_new(page)) {
        page_check(model, page, p->stamp);
    } else {
        must(page_is_new(page), "a new page's extra space is not clear");
        must(create, "a page was made with createFlag 0");
        must(!p->may_be_there || model->purgeable, "a page in memory was lost");
        page_write(model, page, p->stamp = stamp);
    }
    p->page = page;
    p->pinned = p->may_be_there = true;
}

static void model_unpin(struct model *model, unsigned key, bool discard)
{
    struct model_page *p = &model->pages[key];
    if (!p->pinned || (!model->purgeable && !discard))
        return;
    page_check(model, p->page, p->stamp);
    m->xUnpin(model->cache, p->page, discard);
    p->pinned = false;
    p->may_be_there = !discard;
}

static void model_rekey(struct model *model, unsigned key, unsigned to)
{
    struct model_page *from = &model->pages[key];
    if (!from->pinned || model->pages[to].pinned || key == to ||
        (!model->purgeable && model->pages[to].may_be_there))
        return;
    m->xRekey(model->cache, from->page, key, to);
    model->pages[to] = *from;
    *from = (struct model_page){0};
}

static void model_truncate(struct model *model, unsigned limit)
{
    m->xTruncate(model->cache, limit);
    for (unsigned key = limit; key <= KEYS; key++)
        model->pages[key] = (struct model_page){0};
}

static void model_count(struct model *model)
{
    int least = 0, most = 0;
    for (unsigned key = 1; key <= KEYS; key++) {
        least += model->purgeable ? model->pages[key].pinned : model->pages[key].may_be_there;
        most += model->pages[key].may_be_there;
    }
    int count = m->xPagecount(model->cache);
    must(count >= least && count <= most, "%d pages, not %d to %d", count, least, most);
    valid(model->cache);
}

/* Sum over what is there, in the caches' own terms. */
static void accounting_is_exact(struct model *models)
{
    struct page_cache_status s = status();
    uint64_t used = 0, tables = 0, pages = 0, bytes = 0;
    for (int i = 0; i < CACHES; i++) {
        const struct sqlite3_pcache *c = models[i].cache;
        uint64_t own = memory_bytes(models[i].cache);
        own += c->table == c->small_table ? 0 : memory_bytes(c->table);
        own += c->ghosts ? memory_bytes(c->ghosts) : 0;
        must(own == c->bytes, "a cache's tables take %llu bytes, not %llu", (unsigned long long)own,
             (unsigned long long)c->bytes);
        tables += own;
        used += own + (uint64_t)(c->pages + c->spares) * pool_page_bytes(c->pool);
        pages += (uint64_t)m->xPagecount(models[i].cache);
    }
    must(s.used == used, "used: %llu, not %llu", (unsigned long long)s.used,
         (unsigned long long)used);
    must(s.pages == pages, "pages");
    if (memory_arena_allocated(pool_arena(), &bytes))
        must(s.allocated == bytes + tables, "allocated: %llu, but jemalloc says %llu",
             (unsigned long long)s.allocated, (unsigned long long)(bytes + tables));
    must(s.allocated >= s.used, "more is used than there is");
    must(s.used_most >= s.used, "used_most");
}

static void model_step(struct model *models, uint64_t *random)
{
    uint64_t r = next_random(random);
    struct model *model = &models[r % CACHES];
    /* Low keys more often. */
    unsigned key = 1 + (unsigned)((r >> 16) % (1 + (r >> 40) % KEYS));
    unsigned action = (unsigned)(r >> 8) % 200;
    if (action < 110)
        model_fetch(model, key, (int)(action % 3), r);
    else if (action < 185)
        model_unpin(model, key, action < 115);
    else if (action < 194)
        model_rekey(model, key, 1 + (unsigned)(r >> 48) % KEYS);
    else if (action == 194 && (r >> 50) % 16 == 0)
        model_truncate(model, (r >> 60) ? key : 0);
    else if (action == 195 && (r >> 50) % 4 == 0)
        m->xShrink(model->cache);
    else if (action == 196 && (r >> 50) % 4 == 0)
        m->xCachesize(model->cache, (int)((r >> 30) % 300));
    else if (action == 197 && (r >> 50) % 32 == 0)
        page_cache_shrink();
    else if (action == 198 && (r >> 50) % 8 == 0)
        page_cache_set_limit((r >> 60) % 2 ? 0 : (r >> 20) % (2 << 20));
}

START_TEST(test_random_calls_agree_with_a_model)
{
    static struct model models[CACHES];
    static const int sizes[] = {512, 4096, 1024, 65536};
    uint64_t random = test_seed_given() * 1000 + (uint64_t)_i;
    printf("seed %llu\n", (unsigned long long)test_seed_given());
    memset(models, 0, sizeof models);
    for (int i = 0; i < CACHES; i++) {
        models[i].page_bytes = _i % 2 ? 4096 : sizes[i];
        models[i].purgeable = i != 2;
        models[i].cache = m->xCreate(models[i].page_bytes, EXTRA, models[i].purgeable);
        m->xCachesize(models[i].cache, 10 + 60 * i);
    }
    for (unsigned step = 0; step < 60000; step++) {
        model_step(models, &random);
        if (step % 97 == 0)
            model_count(&models[step % CACHES]);
        if (step % 1009 == 0)
            accounting_is_exact(models);
    }
    for (int i = 0; i < CACHES; i++)
        m->xDestroy(models[i].cache);
}
END_TEST

/* --- the limit
 * ---------------------------------------------------------------------------------------- */

static void fill(sqlite3_pcache *c, unsigned from, unsigned count)
{
    for (unsigned key = from; key < from + count; key++) {
        sqlite3_pcache_page *page = m->xFetch(c, key, 2);
        must(page, "no page");
        m->xUnpin(c, page, 0);
    }
}

START_TEST(test_the_limit_holds_for_all_caches_together)
{
    enum {
        COUNT = 20,
        LIMIT = 4 << 20
    };
    sqlite3_pcache *caches[COUNT];
    uint64_t random = 1;
    for (int i = 0; i < COUNT; i++)
        caches[i] = cache_of(1, 500);
    page_cache_set_limit(LIMIT);
    for (unsigned round = 0; round < 2000; round++) {
        uint64_t r = next_random(&random);
        fill(caches[r % COUNT], (unsigned)(r >> 20) % 4000 + 1, (unsigned)(r >> 10) % 100);
        must(status().used <= LIMIT, "used: %llu", (unsigned long long)status().used);
    }
    struct page_cache_status s = status();
    ck_assert_uint_gt(s.used, LIMIT * 9 / 10);
    ck_assert_uint_lt(s.allocated, LIMIT + (512 << 10));
    ck_assert_uint_eq(s.over_limit, 0);
    for (int i = 0; i < COUNT; i++) {
        valid(caches[i]);
        m->xDestroy(caches[i]);
    }
}
END_TEST

START_TEST(test_idle_caches_give_way_and_nobody_is_starved)
{
    sqlite3_pcache *idle = cache_of(1, 100000), *busy = cache_of(1, 100000);
    page_cache_set_limit(8 << 20);
    fill(idle, 1, 3000);
    ck_assert_int_gt(m->xPagecount(idle), 1500);
    fill(busy, 1, 3000);
    ck_assert_int_gt(m->xPagecount(busy), 700);
    ck_assert_uint_le(status().used, 8 << 20);
    ck_assert_uint_gt(status().taken, 500);
    valid(idle);
    valid(busy);
    m->xDestroy(idle);
    m->xDestroy(busy);
}
END_TEST

START_TEST(test_pages_in_use_may_exceed_the_limit_and_go_when_they_are_let_go)
{
    sqlite3_pcache *c = cache_of(1, 100000);
    sqlite3_pcache_page *pages[300];
    page_cache_set_limit(100 * PAGE);
    for (unsigned i = 0; i < 300; i++) {
        pages[i] = m->xFetch(c, i + 1, 1);
        if (!pages[i])
            pages[i] = m->xFetch(c, i + 1, 2);
        ck_assert_ptr_nonnull(pages[i]);
    }
    ck_assert_uint_gt(status().over_limit, 150);
    for (unsigned i = 0; i < 300; i++)
        m->xUnpin(c, pages[i], 0);
    ck_assert_uint_le(status().used, 100 * PAGE);
    valid(c);
    m->xDestroy(c);
}
END_TEST

/* --- threads
 * -------------------------------------------------------------------------------------------- */

static atomic_bool stop;

static void *thread_of_a_connection(void *arg)
{
    uint64_t random = (uint64_t)(uintptr_t)arg;
    struct model *model = calloc(1, sizeof *model);
    model->page_bytes = PAGE;
    model->purgeable = true;
    model->cache = m->xCreate(PAGE, EXTRA, 1);
    m->xCachesize(model->cache, 200);
    for (unsigned i = 0; i < 60000; i++) {
        uint64_t r = next_random(&random);
        unsigned key = 1 + (unsigned)(r >> 16) % KEYS;
        model_fetch(model, key, 2, r);
        if (r % 8)
            model_unpin(model, key, r % 64 == 1);
        key = 1 + (unsigned)(r >> 40) % KEYS;
        model_unpin(model, key, false);
        if (i % 5000 == 0)
            m->xTruncate(model->cache, KEYS + 1), model_truncate(model, KEYS / 2);
    }
    m->xDestroy(model->cache);
    free(model);
    return NULL;
}

static void *thread_that_wants_memory(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop)) {
        page_cache_shrink();
        (void)status();
        sched_yield();
    }
    return NULL;
}

START_TEST(test_threads_take_memory_from_each_other)
{
    enum {
        THREADS = 4
    };
    pthread_t threads[THREADS], greedy;
    if (_i == 1) {
        page_cache_without_membarrier();
        ck_assert_int_eq(m->xInit(NULL), SQLITE_OK);
    }
    ck_assert_int_eq(pool_asymmetric, _i == 0);
    atomic_store(&stop, false);
    page_cache_set_limit(1 << 20);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, thread_of_a_connection,
                       (void *)(uintptr_t)(test_seed_given() * 100 + (uint64_t)i));
    pthread_create(&greedy, NULL, thread_that_wants_memory, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&stop, true);
    pthread_join(greedy, NULL);
    ck_assert_uint_gt(status().taken, 0);
}
END_TEST

/* --- which page goes
 * ------------------------------------------------------------------------------------ */

/* The policy that SQLite's own cache has, on the same sequence of page numbers. */
struct lru {
    unsigned size, count, hits;
    unsigned keys[1024]; /* most recent first */
};

static void lru_fetch(struct lru *l, unsigned key)
{
    unsigned at = 0;
    while (at < l->count && l->keys[at] != key)
        at++;
    l->hits += at < l->count;
    if (at == l->count && l->count < l->size)
        l->count++;
    if (at == l->size)
        at--;
    memmove(l->keys + 1, l->keys, at * sizeof l->keys[0]);
    l->keys[0] = key;
}

struct trace {
    sqlite3_pcache *cache;
    struct lru lru;
    unsigned fetches, hits;
};

static void trace_fetch(struct trace *t, unsigned key)
{
    sqlite3_pcache_page *page = m->xFetch(t->cache, key, 0);
    t->hits += page != NULL;
    if (!page)
        page = m->xFetch(t->cache, key, 2);
    m->xUnpin(t->cache, page, 0);
    t->fetches++;
    lru_fetch(&t->lru, key);
}

static void trace_begin(struct trace *t, unsigned pages)
{
    memset(t, 0, sizeof *t);
    t->cache = cache_of(1, (int)pages);
    t->lru.size = pages;
}

/* Percent of all fetches. */
static void trace_end(struct trace *t, const char *name, double *ours, double *lru)
{
    *ours = 100.0 * t->hits / t->fetches;
    *lru = 100.0 * t->lru.hits / t->fetches;
    printf("figure: page cache, hits in %s: %.1f %%, LRU %.1f %%\n", name, *ours, *lru);
    valid(t->cache);
    m->xDestroy(t->cache);
}

/* Of `pages`, some far more often than others. */
static unsigned skewed(uint64_t *random, unsigned pages)
{
    double u = (double)(next_random(random) >> 11) / 9007199254740992.0;
    return 1 + (unsigned)(pow((double)pages, u) - 1);
}

START_TEST(test_a_scan_does_not_push_out_what_is_used)
{
    struct trace t;
    double ours, lru;
    uint64_t random = test_seed_given();
    trace_begin(&t, 500);
    for (unsigned round = 0; round < 40; round++) {
        for (unsigned i = 0; i < 3000; i++)
            trace_fetch(&t, skewed(&random, 5000));
        for (unsigned i = 0; i < 3000; i++) /* a table of 12 MB, from end to end */
            trace_fetch(&t, 10001 + i);
    }
    trace_end(&t, "skewed reads and scans", &ours, &lru);
    ck_assert(ours > lru + 1);
}
END_TEST

START_TEST(test_a_loop_over_more_than_the_cache_keeps_a_part)
{
    struct trace t;
    double ours, lru;
    trace_begin(&t, 500);
    for (unsigned round = 0; round < 50; round++) {
        for (unsigned i = 1; i <= 600; i++)
            trace_fetch(&t, i);
    }
    trace_end(&t, "a loop over 1.2 times the cache", &ours, &lru);
    ck_assert(lru < 1);
    ck_assert(ours > 30);
}
END_TEST

/* Each row of a scan of one index leads to a row of a table in the same order, and both trees'
 * upper pages are passed each time: what SQLite does in a join. */
START_TEST(test_a_join_in_order_is_not_taken_for_use)
{
    struct trace t;
    double ours, lru;
    uint64_t random = test_seed_given();
    trace_begin(&t, 500);
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 2000; i++)
            trace_fetch(&t, skewed(&random, 2000));
        for (unsigned row = 0; row < 40000; row++) {
            trace_fetch(&t, 5000);
            trace_fetch(&t, 5001 + row / 8000);
            trace_fetch(&t, 6000 + row / 20);
        }
    }
    trace_end(&t, "skewed reads and joins", &ours, &lru);
    ck_assert(ours > lru - 0.05);
}
END_TEST

START_TEST(test_skewed_reads_alone_are_no_worse)
{
    struct trace t;
    double ours, lru;
    uint64_t random = test_seed_given();
    trace_begin(&t, 200);
    for (unsigned i = 0; i < 200000; i++)
        trace_fetch(&t, skewed(&random, 20000));
    trace_end(&t, "skewed reads", &ours, &lru);
    ck_assert(ours > lru);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("page cache");
    TCase *tc = tcase_create("page cache");
    tcase_set_timeout(tc, 600);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_a_page_is_made_only_where_it_may_be);
    tcase_add_test(tc, test_refused_when_nine_tenths_are_in_use_and_made_with_every_effort);
    tcase_add_test(tc, test_pages_of_memory_databases_stay);
    tcase_add_test(tc, test_rekey_takes_the_place_of_what_was_there);
    tcase_add_test(tc, test_truncate_discards_pinned_pages_as_well);
    tcase_add_test(tc, test_shrink_keeps_what_is_in_use_and_gives_the_rest_back);
    tcase_add_loop_test(tc, test_random_calls_agree_with_a_model, 0, 6);
    tcase_add_test(tc, test_the_limit_holds_for_all_caches_together);
    tcase_add_test(tc, test_idle_caches_give_way_and_nobody_is_starved);
    tcase_add_test(tc, test_pages_in_use_may_exceed_the_limit_and_go_when_they_are_let_go);
    tcase_add_loop_test(tc, test_threads_take_memory_from_each_other, 0, 2);
    tcase_add_test(tc, test_a_scan_does_not_push_out_what_is_used);
    tcase_add_test(tc, test_a_loop_over_more_than_the_cache_keeps_a_part);
    tcase_add_test(tc, test_a_join_in_order_is_not_taken_for_use);
    tcase_add_test(tc, test_skewed_reads_alone_are_no_worse);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
