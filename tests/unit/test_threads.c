/* test_threads.c: would catch a reader that sees half a transaction, a page that changes under a
 * snapshot or a pin, two writers that both think they are the one, and (under ThreadSanitizer) any
 * access that no lock and no pair of fences orders.
 *
 * Accounts lie at the start of each page; a transfer moves money between two pages, so the sum over
 * all pages is the same in every committed state. Pages beyond the accounts come and go, with
 * checkpoints that rehome, cut the log and cut the file while readers hold snapshots and pins.
 * How long it goes on is a number of transactions: DAX_TEST_TRANSACTIONS.
 */
#include "tests/unit/db.h"

#define ACCOUNTS 96u
#define TAIL_PAGES 600u /* more than the step in which a file is cut */
#define BALANCE 1000
#define READERS 4
#define HELD_PINS 6

struct bank {
    char path[512];
    uint64_t transactions; /* of each writer */
    _Atomic unsigned writers_left;
    _Atomic uint64_t sums_checked;
    _Atomic uint64_t committed;
};

struct worker {
    struct bank *bank;
    pthread_t thread;
    uint64_t random;
};

static uint64_t worker_random(struct worker *w, uint64_t below)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return (w->random >> 11) % below;
}

/* Page 0 begins with the database's header: its account is behind it, as everybody's. */
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

/* --- writers ---------------------------------------------------------------------------------- */

/* The tail grows to a random size or goes away. Its content says which page it is. */
static void writer_resize(struct worker *w, struct conn *c)
{
    uint64_t pages = ACCOUNTS + worker_random(w, TAIL_PAGES);
    if (worker_random(w, 3) == 0)
        pages = ACCOUNTS;
    uint64_t now = conn_size(c) / DB_PAGE;
    if (pages < now)
        db_ok(conn_truncate(c, pages * DB_PAGE, &err));
    for (; now < pages; now++)
        db_put(c, now, 7);
}

static void writer_transfer(struct worker *w, struct conn *c)
{
    uint64_t transfers = 1 + worker_random(w, 4);
    for (uint64_t i = 0; i < transfers; i++) {
        uint64_t from = worker_random(w, ACCOUNTS), to = worker_random(w, ACCOUNTS);
        int64_t amount = (int64_t)worker_random(w, 50);
        account_write(c, from, account_read(c, from) - amount);
        account_write(c, to, account_read(c, to) + amount);
    }
}

/* One transaction, or an attempt that another writer beat. */
static bool writer_step(struct worker *w, struct conn *c)
{
    db_ok(conn_begin_read(c, &err));
    dax_rc rc = conn_begin_write(c, &err);
    if (rc == DAX_BUSY || rc == DAX_BUSY_SNAPSHOT) {
        conn_end_read(c);
        sched_yield();
        return false;
    }
    db_must(rc == DAX_OK, "begin_write: %s: %s", dax_rc_name(rc), err.text);
    writer_transfer(w, c);
    if (worker_random(w, 16) == 0)
        writer_resize(w, c);
    if (worker_random(w, 8) != 0) {
        uint64_t before = c->snapshot;
        db_ok(conn_commit(c, &err));
        db_must(c->snapshot - before <= 1, "transaction %llu after %llu",
                (unsigned long long)c->snapshot, (unsigned long long)before);
        atomic_fetch_add(&w->bank->committed, c->snapshot - before); /* none if nothing changed */
    }
    db_end(c);
    return true;
}

static bool wait_some(void *arg, unsigned count)
{
    (void)arg;
    sched_yield();
    return count < 20;
}

static void *writer_main(void *arg)
{
    struct worker *w = arg;
    struct conn *c = db_open(w->bank->path);
    for (uint64_t i = 0; i < w->bank->transactions;) {
        i += writer_step(w, c);
        if (worker_random(w, 12) == 0) {
            struct checkpoint_result result;
            db_ok(conn_checkpoint(c, (enum checkpoint_mode)worker_random(w, 4), wait_some, NULL,
                                  &result, &err));
        }
    }
    db_close(c);
    atomic_fetch_sub(&w->bank->writers_left, 1);
    return NULL;
}

/* --- readers ---------------------------------------------------------------------------------- */

/* Every account once, by pin or by copy; some pins are kept while others are read. */
static int64_t reader_sum(struct worker *w, struct conn *c)
{
    void *held[HELD_PINS] = {0};
    uint64_t held_account[HELD_PINS];
    int64_t held_balance[HELD_PINS], sum = 0;
    for (uint64_t a = 0; a < ACCOUNTS; a++) {
        void *at = NULL;
        int64_t balance;
        unsigned k = (unsigned)worker_random(w, HELD_PINS);
        if (worker_random(w, 3) != 0 && !held[k])
            db_ok(conn_pin(c, account_offset(a), sizeof balance, &at, &err));
        if (at) {
            memcpy(&balance, at, sizeof balance);
            held[k] = at;
            held_account[k] = a;
            held_balance[k] = balance;
        } else {
            balance = account_read(c, a);
        }
        sum += balance;
        k = (unsigned)worker_random(w, HELD_PINS);
        if (held[k] && worker_random(w, 2)) {
            db_must(memcmp(held[k], &held_balance[k], sizeof(int64_t)) == 0,
                    "account %llu has changed under its pin", (unsigned long long)held_account[k]);
            conn_unpin(c, account_offset(held_account[k]), held[k]);
            held[k] = NULL;
        }
        if (a % 16 == 0)
            sched_yield();
    }
    for (unsigned k = 0; k < HELD_PINS; k++)
        if (held[k]) {
            db_must(memcmp(held[k], &held_balance[k], sizeof(int64_t)) == 0,
                    "account %llu has changed under its pin", (unsigned long long)held_account[k]);
            conn_unpin(c, account_offset(held_account[k]), held[k]);
        }
    return sum;
}

/* Pages beyond the accounts are whole as long as the snapshot has them. */
static void reader_tail(struct worker *w, struct conn *c)
{
    uint64_t pages = conn_size(c) / DB_PAGE;
    if (pages == ACCOUNTS)
        return;
    uint64_t page = ACCOUNTS + worker_random(w, pages - ACCOUNTS);
    uint8_t *at = db_pin(c, page);
    db_must(db_version(at, page) == 7, "page %llu", (unsigned long long)page);
    sched_yield();
    db_must(db_version(at, page) == 7, "page %llu", (unsigned long long)page);
    db_unpin(c, page, at);
    db_check(c, pages - 1, 7);
}

static void *reader_main(void *arg)
{
    struct worker *w = arg;
    struct conn *c = db_open(w->bank->path);
    while (atomic_load(&w->bank->writers_left)) {
        db_ok(conn_begin_read(c, &err));
        uint64_t size = conn_size(c), rounds = 1 + worker_random(w, 3);
        for (uint64_t i = 0; i < rounds; i++) {
            int64_t sum = reader_sum(w, c);
            db_must(sum == (int64_t)ACCOUNTS * BALANCE, "the sum is %lld", (long long)sum);
            reader_tail(w, c);
            db_must(conn_size(c) == size, "the snapshot's size has changed");
            atomic_fetch_add(&w->bank->sums_checked, 1);
        }
        conn_end_read(c);
    }
    db_close(c);
    return NULL;
}

/* --- the tests -------------------------------------------------------------------------------- */

static void bank_create(struct bank *b)
{
    snprintf(b->path, sizeof b->path, "%s", unit_path("bank.db"));
    const char *n = getenv("DAX_TEST_TRANSACTIONS");
    b->transactions = n && *n ? strtoull(n, NULL, 10) : 10000;
    struct conn *c = db_open(b->path);
    db_begin(c);
    for (uint64_t a = 0; a < ACCOUNTS; a++) {
        db_put(c, a, 1);
        account_write(c, a, BALANCE);
    }
    db_commit(c);
    db_close(c);
}

static void bank_run(unsigned writers)
{
    struct bank b = {.writers_left = writers};
    struct worker w[READERS + 2];
    bank_create(&b);
    struct conn *c = db_open(b.path);
    for (unsigned i = 0; i < READERS + writers; i++) {
        w[i] = (struct worker){.bank = &b, .random = 0x9E3779B97F4A7C15u * (i + 1)};
        ck_assert_int_eq(
            pthread_create(&w[i].thread, NULL, i < writers ? writer_main : reader_main, &w[i]), 0);
    }
    for (unsigned i = 0; i < READERS + writers; i++)
        pthread_join(w[i].thread, NULL);
    ck_assert_uint_gt(b.sums_checked, 0);

    struct store_status status = db_status(c);
    ck_assert_uint_eq(status.txid, 1 + b.committed);
    ck_assert_uint_eq(status.pins, 0);
    ck_assert_uint_eq(status.snapshots, 0);
    db_checkpoint(c, CHECKPOINT_TRUNCATE);
    status = db_status(c);
    ck_assert_uint_eq(status.log_bytes, 0);
    ck_assert_uint_eq(status.frames_used, 0);
    printf("%llu sums in %llu transactions; %llu pages pushed, %llu applied, %llu rehomed, %llu "
           "relogged\n",
           (unsigned long long)b.sums_checked, (unsigned long long)b.committed,
           (unsigned long long)status.pages_pushed, (unsigned long long)status.pages_applied,
           (unsigned long long)status.pages_rehomed, (unsigned long long)status.pages_relogged);

    unit_ok(conn_begin_read(c, &err));
    ck_assert(reader_sum(&w[0], c) == (int64_t)ACCOUNTS * BALANCE);
    conn_end_read(c);
    db_close(c);
}

START_TEST(test_every_snapshot_of_one_writer_has_the_same_sum)
{
    bank_run(1);
}
END_TEST

START_TEST(test_two_writers_lose_no_transfer)
{
    bank_run(2);
}
END_TEST

int main(void)
{
    TCase *tc = db_case("threads", 1200);
    tcase_add_test(tc, test_every_snapshot_of_one_writer_has_the_same_sum);
    tcase_add_test(tc, test_two_writers_lose_no_transfer);
    return db_main(tc, "threads");
}
