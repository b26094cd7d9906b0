/* test_stress.c: everything that the engine's interface can do, from several threads at once, on
 * several stores that come and go.
 *
 * Each database has accounts whose balances always add up to the same sum, and a tail of pages that
 * grows, shrinks and is rewritten; a tail page says which version it is in every line. Threads open
 * connections, hand them to each other, and close them, the last one of a store included; they read by
 * pins and by copies, commit and abort small, large (scratch) and resizing transactions, checkpoint in
 * every mode, and look at everything that can be looked at. The log is small, so that committers
 * checkpoint and relog.
 *
 * Would catch: a data race (under the thread sanitizer); storage reused under a pin; a snapshot that
 * mixes two transactions; a lost update; a store that is closed under somebody; a leak of versions,
 * frames or log at rest.
 *
 * DAX_TEST_SEED: of the choices; threads meet as they like. DAX_TEST_SECONDS: how long.
 */
#include "tests/unit/db.h"

#include <sched.h>

#include "tests/seed.h"

#define STORES 3u
#define THREADS 6u
#define ACCOUNTS 24u
#define TAIL 150u /* more than a transaction's private pages */
#define BALANCE 1000
#define PINS 6u
#define POOL 4u

#if defined(__SANITIZE_THREAD__)
#define SECONDS 50u
#elif defined(__SANITIZE_ADDRESS__)
#define SECONDS 10u
#else
#define SECONDS 20u
#endif

enum deed {
    READS,
    COMMITS,
    ABORTS,
    LARGE,
    RESIZES,
    REFUSED,
    CHECKPOINTS,
    LOOKS,
    OPENS,
    REOPENS,
    DEEDS
};
static const char *const deed_names[DEEDS] = {"reads",   "commits",      "aborts",      "large",
                                              "resizes", "refused",      "checkpoints", "looks",
                                              "opens",   "stores opened"};

struct database {
    char path[512];
    _Atomic uint64_t committed;
    pthread_mutex_t lock; /* of the pool */
    struct conn
        *pool[POOL]; /* connections that are nobody's now; databases[0] has none, so its store
                                is closed and opened again and again */
};

static struct database databases[STORES];
static _Atomic uint64_t deeds[DEEDS];
static _Atomic bool over;

struct worker {
    pthread_t thread;
    uint64_t random;
};

static uint64_t below(struct worker *w, uint64_t n)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return (w->random >> 11) % n;
}

static void did(enum deed d)
{
    atomic_fetch_add_explicit(&deeds[d], 1, memory_order_relaxed);
}

/* --- accounts and tail ------------------------------------------------------------------------- */

static uint64_t account_offset(uint64_t account)
{
    return account * DB_PAGE + 256;
}

static int64_t account_read(struct conn *c, uint64_t account)
{
    int64_t balance;
    db_ok(conn_read(c, &balance, sizeof balance, account_offset(account), &err));
    return balance;
}

static void account_write(struct conn *c, uint64_t account, int64_t balance)
{
    db_ok(conn_write(c, &balance, sizeof balance, account_offset(account), &err));
}

static void transfer(struct worker *w, struct conn *c)
{
    for (uint64_t n = 1 + below(w, 4); n-- > 0;) {
        uint64_t from = below(w, ACCOUNTS), to = below(w, ACCOUNTS);
        int64_t amount = (int64_t)below(w, 50);
        account_write(c, from, account_read(c, from) - amount);
        account_write(c, to, account_read(c, to) + amount);
    }
}

static uint64_t pages_now(struct conn *c)
{
    return conn_size(c) / DB_PAGE;
}

static void resize(struct worker *w, struct conn *c, uint64_t version)
{
    uint64_t pages = below(w, 3) ? ACCOUNTS + below(w, TAIL) : ACCOUNTS;
    uint64_t now = pages_now(c);
    if (pages < now)
        db_ok(conn_truncate(c, pages * DB_PAGE, &err));
    for (; now < pages; now++)
        db_put(c, now, version);
}

static void rewrite(struct conn *c, uint64_t version)
{
    for (uint64_t page = ACCOUNTS; page < pages_now(c); page++)
        db_put(c, page, version);
}

/* --- reading ----------------------------------------------------------------------------------- */

struct held {
    uint8_t *at;
    uint64_t offset;
    uint8_t bytes[64];
};

static void hold(struct worker *w, struct conn *c, struct held *h)
{
    if (h->at)
        return;
    h->offset = below(w, pages_now(c)) * DB_PAGE + 256;
    void *at;
    db_ok(conn_pin(c, h->offset, sizeof h->bytes, &at, &err));
    h->at = at;
    if (at)
        memcpy(h->bytes, at, sizeof h->bytes);
}

static void let_go(struct conn *c, struct held *h)
{
    if (!h->at)
        return;
    db_must(memcmp(h->at, h->bytes, sizeof h->bytes) == 0, "offset %llu has changed under its pin",
            (unsigned long long)h->offset);
    conn_unpin(c, h->offset, h->at);
    h->at = NULL;
}

static int64_t sum(struct worker *w, struct conn *c, struct held held[PINS])
{
    int64_t total = 0;
    for (uint64_t a = 0; a < ACCOUNTS; a++) {
        int64_t balance;
        void *at = NULL;
        if (below(w, 2))
            db_ok(conn_pin(c, account_offset(a), sizeof balance, &at, &err));
        if (at) {
            memcpy(&balance, at, sizeof balance);
            conn_unpin(c, account_offset(a), at);
        } else {
            balance = account_read(c, a);
        }
        total += balance;
        if (below(w, 4) == 0)
            hold(w, c, &held[below(w, PINS)]);
        if (below(w, 4) == 0)
            let_go(c, &held[below(w, PINS)]);
    }
    return total;
}

static void read_all(struct worker *w, struct conn *c)
{
    struct held held[PINS] = {0};
    db_ok(conn_begin_read(c, &err));
    uint64_t pages = pages_now(c);
    for (uint64_t rounds = 1 + below(w, 3); rounds-- > 0;) {
        int64_t total = sum(w, c, held);
        db_must(total == (int64_t)ACCOUNTS * BALANCE, "the sum is %lld", (long long)total);
        if (pages > ACCOUNTS) {
            uint8_t page[DAX_PAGE_BYTES];
            uint64_t number = ACCOUNTS + below(w, pages - ACCOUNTS);
            db_ok(conn_read(c, page, sizeof page, number * DB_PAGE, &err));
            (void)db_version(page, number);
        }
        if (below(w, 3) == 0)
            sched_yield();
        db_must(pages_now(c) == pages, "the snapshot's size has changed");
    }
    for (unsigned i = 0; i < PINS; i++)
        let_go(c, &held[i]);
    conn_end_read(c);
    did(READS);
}

/* --- writing ----------------------------------------------------------------------------------- */

static void change(struct worker *w, struct conn *c)
{
    transfer(w, c);
    uint64_t version = 1 + below(w, 1000000);
    switch (below(w, 24)) {
    case 0:
    case 1:
        resize(w, c, version);
        did(RESIZES);
        break;
    case 2:
        rewrite(c, version);
        did(LARGE);
        break;
    default: break;
    }
}

static void write_some(struct worker *w, struct database *d, struct conn *c)
{
    struct held held[PINS] = {0};
    db_ok(conn_begin_read(c, &err));
    if (below(w, 3) == 0)
        hold(w, c, &held[0]);
    dax_rc rc = conn_begin_write(c, &err);
    if (rc != DAX_OK) {
        db_must(rc == DAX_BUSY || rc == DAX_BUSY_SNAPSHOT, "begin_write: %s: %s", dax_rc_name(rc),
                err.text);
        did(REFUSED);
    }
    /* Several transactions may share one lock, as under locking_mode=EXCLUSIVE. */
    for (uint64_t n = rc == DAX_OK ? 1 + (below(w, 8) == 0) : 0; n-- > 0;) {
        change(w, c);
        if (below(w, 4) == 0)
            db_ok(conn_prepare(c, &err));
        if (below(w, 6) == 0) {
            did(ABORTS);
            break;
        }
        uint64_t before = conn_snapshot(c);
        db_ok(conn_commit(c, &err));
        atomic_fetch_add(&d->committed, conn_snapshot(c) - before);
        did(COMMITS);
        if (below(w, 4) == 0)
            hold(w, c, &held[1]);
    }
    if (below(w, 2)) /* a pin may outlive the write */
        let_go(c, &held[0]);
    conn_end_write(c);
    let_go(c, &held[0]);
    let_go(c, &held[1]);
    conn_end_read(c);
}

/* --- the rest ---------------------------------------------------------------------------------- */

static bool wait_some(void *arg, unsigned count)
{
    (void)arg;
    sched_yield();
    return count < 20;
}

static void checkpoint(struct worker *w, struct conn *c)
{
    struct checkpoint_result result;
    enum checkpoint_mode mode = (enum checkpoint_mode)below(w, 4);
    bool within = below(w, 4) == 0; /* a read of its own */
    if (within)
        db_ok(conn_begin_read(c, &err));
    db_ok(conn_checkpoint(c, mode, below(w, 2) ? wait_some : NULL, NULL, &result, &err));
    if (within)
        conn_end_read(c);
    did(CHECKPOINTS);
}

static void look(struct worker *w, struct conn *c)
{
    struct store_status status;
    struct holder_info holders[THREADS + POOL];
    struct page_info info;
    conn_status(c, &status);
    db_must(!status.failed[0], "%s", status.failed);
    db_must(status.log_bytes <= status.ring_bytes, "%llu bytes of log",
            (unsigned long long)status.log_bytes);
    conn_page_info(c, below(w, ACCOUNTS + TAIL), &info);
    size_t n = conn_holders(c, holders, THREADS + POOL);
    db_must(n <= THREADS + POOL, "%zu holders", n);
    (void)conn_page_count(c);
    did(LOOKS);
}

/* A connection from the pool, or a new one. */
static struct conn *take(struct worker *w, struct database *d)
{
    struct conn *c = NULL;
    if (d != databases && below(w, 3)) {
        struct conn **place = &d->pool[below(w, POOL)];
        pthread_mutex_lock(&d->lock);
        c = *place;
        *place = NULL;
        pthread_mutex_unlock(&d->lock);
    }
    if (!c) {
        c = db_open(d->path);
        did(OPENS);
        if (db_status(c).connections == 1)
            did(REOPENS);
    }
    return c;
}

static void put(struct worker *w, struct database *d, struct conn *c)
{
    if (d != databases && below(w, 3)) {
        struct conn **place = &d->pool[below(w, POOL)];
        pthread_mutex_lock(&d->lock);
        struct conn *other = *place;
        *place = c;
        pthread_mutex_unlock(&d->lock);
        c = other;
    }
    if (c)
        db_close(c);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    while (!atomic_load(&over)) {
        struct database *d = &databases[below(w, STORES)];
        struct conn *c = take(w, d);
        for (uint64_t n = 1 + below(w, 20); n-- > 0;) {
            uint64_t what = below(w, 20);
            if (what < 9)
                write_some(w, d, c);
            else if (what < 16)
                read_all(w, c);
            else if (what < 18)
                checkpoint(w, c);
            else
                look(w, c);
        }
        put(w, d, c);
    }
    return NULL;
}

/* --- the test ---------------------------------------------------------------------------------- */

static void create(struct database *d, unsigned number)
{
    char name[32];
    snprintf(name, sizeof name, "stress%u.db", number);
    snprintf(d->path, sizeof d->path, "%s", unit_path(name));
    pthread_mutex_init(&d->lock, NULL);
    struct conn *c = db_open(d->path);
    db_begin(c);
    for (uint64_t a = 0; a < ACCOUNTS; a++) {
        db_put(c, a, 1);
        account_write(c, a, BALANCE);
    }
    db_commit(c);
    if (number != 1) /* one has room for everything */
        db_small_ring(c, (number + 1) * 128 * DAX_KIB);
    db_close(c);
}

static void check(struct worker *w, struct database *d)
{
    struct held held[PINS] = {0};
    for (unsigned i = 0; i < POOL; i++)
        if (d->pool[i])
            db_close(d->pool[i]);
    struct conn *c = db_open(d->path);
    db_ok(conn_begin_read(c, &err));
    ck_assert_int_eq(sum(w, c, held), (int64_t)ACCOUNTS * BALANCE);
    for (unsigned i = 0; i < PINS; i++)
        let_go(c, &held[i]);
    for (uint64_t page = ACCOUNTS; page < pages_now(c); page++) {
        uint8_t bytes[DAX_PAGE_BYTES];
        db_ok(conn_read(c, bytes, sizeof bytes, page * DB_PAGE, &err));
        (void)db_version(bytes, page);
    }
    conn_end_read(c);
    db_checkpoint(c, CHECKPOINT_TRUNCATE);
    struct store_status status = db_status(c);
    ck_assert_uint_eq(status.log_bytes, 0);
    ck_assert_uint_eq(status.frames_used, 0);
    ck_assert_uint_eq(status.pins, 0);
    ck_assert_uint_eq(status.snapshots, 0);
    ck_assert_uint_eq(status.scratch_bytes, 0);
    db_close(c);
}

START_TEST(test_everything_at_once_keeps_every_sum)
{
    const char *seconds_text = getenv("DAX_TEST_SECONDS");
    uint64_t seed = test_seed_given();
    unsigned seconds = seconds_text && *seconds_text ? (unsigned)atoi(seconds_text) : SECONDS;
    struct worker w[THREADS];
    printf("DAX_TEST_SEED=%llu\n", (unsigned long long)seed);
    for (unsigned i = 0; i < STORES; i++)
        create(&databases[i], i);
    for (unsigned i = 0; i < THREADS; i++) {
        w[i].random = (seed + 1) * 0x9E3779B97F4A7C15u + i * 0xBF58476D1CE4E5B9u;
        ck_assert_int_eq(pthread_create(&w[i].thread, NULL, worker_main, &w[i]), 0);
    }
    struct timespec rest = {(time_t)seconds, 0};
    while (nanosleep(&rest, &rest) != 0)
        ;
    atomic_store(&over, true);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(w[i].thread, NULL);
    for (unsigned i = 0; i < STORES; i++)
        check(&w[0], &databases[i]);
    uint64_t all = 0;
    for (unsigned i = 0; i < DEEDS; i++) {
        printf("%s%llu %s", i ? ", " : "", (unsigned long long)deeds[i], deed_names[i]);
        ck_assert_uint_gt(deeds[i], 0);
        all += deeds[i];
    }
    printf("\nfigure: stress operations of the engine: %llu\n", (unsigned long long)all);
}
END_TEST

int main(void)
{
    TCase *tc = db_case("stress", 3600);
    tcase_add_test(tc, test_everything_at_once_keeps_every_sum);
    return db_main(tc, "stress");
}
