/* test_pin.c: would catch a pin that does not keep its bytes, one that is taken on a storage while
 * it is being reclaimed (either half of the Dekker pair missing), a page cut off under a pin, and
 * pins granted for what is not one piece of committed memory.
 *
 * In the stress test transaction t rewrites page t % PAGES whole, so a reader knows from its
 * snapshot alone which version of each page it must see.
 */
#include "tests/unit/db.h"

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif

#include <sys/mman.h>

#include "engine/pin.h"

#define PAGES 24u
#define READERS 4

/* --- both halves of the pair ------------------------------------------------------------------ */

struct stress {
    char path[512];
    uint64_t first_txid; /* of the state in which every page has version 0 */
    uint64_t commits;
    bool lonely; /* one reader, with pauses */
    _Atomic bool over;
    _Atomic uint64_t pins;
};

struct stress_reader {
    struct stress *stress;
    pthread_t thread;
    uint64_t random;
};

static uint64_t stress_random(struct stress_reader *r, uint64_t below)
{
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return (r->random >> 11) % below;
}

/* Version of a page in a snapshot: the newest transaction that wrote it. */
static uint64_t stress_version(const struct stress *s, uint64_t snapshot, uint64_t page)
{
    uint64_t t = snapshot - s->first_txid;
    uint64_t back = (t % PAGES + PAGES - page) % PAGES;
    return t > back ? t - back : 0;
}

static void *stress_read(void *arg)
{
    struct stress_reader *r = arg;
    struct stress *s = r->stress;
    struct conn *c = db_open(s->path);
    while (!atomic_load(&s->over)) {
        db_ok(conn_begin_read(c, &err));
        uint64_t snapshot = c->snapshot, page[3];
        uint8_t *at[3];
        for (unsigned i = 0; i < 3; i++) {
            page[i] = 1 + stress_random(r, PAGES - 1);
            at[i] = db_pin(c, page[i]);
        }
        for (uint64_t looks = stress_random(r, 6); looks-- > 0;) {
            unsigned i = (unsigned)stress_random(r, 3);
            uint64_t want = stress_version(s, snapshot, page[i]), got = db_version(at[i], page[i]);
            db_must(got == want, "snapshot %llu: page %llu is version %llu, not %llu",
                    (unsigned long long)snapshot, (unsigned long long)page[i],
                    (unsigned long long)got, (unsigned long long)want);
            db_check(c, page[i], want);
            if (stress_random(r, 2))
                sched_yield();
        }
        for (unsigned i = 0; i < 3; i++)
            db_unpin(c, page[i], at[i]);
        conn_end_read(c);
        atomic_fetch_add(&s->pins, 3);
        if (s->lonely)
            nanosleep(&(struct timespec){0, (long)stress_random(r, 5) * 10000}, NULL);
    }
    db_close(c);
    return NULL;
}

static void stress_write(struct stress *s, struct conn *c)
{
    for (uint64_t t = 1; t <= s->commits; t++) {
        db_write(c, t % PAGES, t % PAGES + 1, t);
        if (t % 7 == 0)
            db_checkpoint(c, t % 14 ? CHECKPOINT_PASSIVE : CHECKPOINT_TRUNCATE);
    }
}

/* Readers and the writer are stopped anywhere, so each window between two of their steps is met. */
static void stress_run(unsigned reader_count, uint64_t commits)
{
    struct stress s = {.commits = commits, .lonely = reader_count == 1};
    struct stress_reader readers[READERS];
    struct db_disturber d = {.victims = {pthread_self()}, .count = 1 + reader_count};
    snprintf(s.path, sizeof s.path, "%s", unit_path("app.db"));
    struct conn *c = db_open(s.path);
    db_write(c, 0, PAGES, 0);
    s.first_txid = db_status(c).txid;
    for (unsigned i = 0; i < reader_count; i++) {
        readers[i] = (struct stress_reader){.stress = &s, .random = 88172645463325252u + i};
        ck_assert_int_eq(pthread_create(&readers[i].thread, NULL, stress_read, &readers[i]), 0);
        d.victims[1 + i] = readers[i].thread;
    }
    db_disturb_start(&d);
    stress_write(&s, c);
    db_disturb_stop(&d);
    atomic_store(&s.over, true);
    for (unsigned i = 0; i < reader_count; i++)
        pthread_join(readers[i].thread, NULL);
    struct store_status status = db_status(c);
    ck_assert_uint_gt(s.pins, 0);
    ck_assert_uint_gt(status.pages_pushed, 0);
    ck_assert_uint_gt(status.pages_rehomed, 0);
    printf("%llu pins; %llu retries, %llu on base, %llu on frames; %llu pages applied, %llu "
           "pushed\n",
           (unsigned long long)s.pins, (unsigned long long)status.read_retries,
           (unsigned long long)status.reads_pinned_base,
           (unsigned long long)status.reads_pinned_frame, (unsigned long long)status.pages_applied,
           (unsigned long long)status.pages_pushed);
    db_close(c);
}

START_TEST(test_pins_and_reclaiming_never_meet_among_many_readers)
{
    stress_run(READERS, 10000);
}
END_TEST

/* Mostly nobody reads, so that commits apply: the reader that begins in between must be seen. */
START_TEST(test_pins_and_reclaiming_never_meet_when_a_reader_comes_and_goes)
{
    stress_run(1, 20000);
}
END_TEST

/* --- one step at a time ----------------------------------------------------------------------- */

/* Something happens just before a reader's next store to its slot: the page that the slot is in is
 * made read-only, so the store faults; the handler lets another thread do it, then the store goes
 * on. */
static struct {
    uint8_t *page;
    struct conn *writer;
    void (*action)(struct conn *writer);
    int go[2], done[2]; /* pipes */
    pthread_t thread;
    _Atomic bool set;
    unsigned taken;
} trap;

static void trap_byte_out(int fd)
{
    if (write(fd, "x", 1) != 1)
        abort();
}

static void trap_byte_in(int fd)
{
    char byte;
    if (read(fd, &byte, 1) != 1)
        abort();
}

static void trap_taken(int signal, siginfo_t *info, void *context)
{
    (void)context;
    if (!trap.set || (uint8_t *)info->si_addr < trap.page ||
        (uint8_t *)info->si_addr >= trap.page + DAX_PAGE_BYTES) {
        sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
        return;
    }
    mprotect(trap.page, DAX_PAGE_BYTES, PROT_READ | PROT_WRITE);
    trap.set = false;
    trap.taken++;
    trap_byte_out(trap.go[1]);
    trap_byte_in(trap.done[0]);
}

static void *trap_main(void *arg)
{
    trap_byte_in(trap.go[0]);
    trap.action(trap.writer);
    trap_byte_out(trap.done[1]);
    return arg;
}

static void trap_set(struct conn *reader, struct conn *writer, void (*action)(struct conn *))
{
    struct sigaction handler = {.sa_sigaction = trap_taken, .sa_flags = SA_SIGINFO | SA_NODEFER};
    uintptr_t slot = (uintptr_t)&reader->store->region.slots[reader->slot];
    trap.page = (uint8_t *)(slot - slot % DAX_PAGE_BYTES);
    trap.writer = writer;
    trap.action = action;
    trap.set = true;
    ck_assert_int_eq(pipe(trap.go) | pipe(trap.done), 0);
    ck_assert_int_eq(pthread_create(&trap.thread, NULL, trap_main, NULL), 0);
    sigaction(SIGSEGV, &handler, NULL);
    ck_assert_int_eq(mprotect(trap.page, DAX_PAGE_BYTES, PROT_READ), 0);
}

static void trap_end(void)
{
    pthread_join(trap.thread, NULL);
    ck_assert_uint_eq(trap.taken, 1);
}

/* Page 5 gets two newer versions; the newest goes home to base, frames of others are used again. */
static void overtake(struct conn *writer)
{
    for (uint64_t version = 100; version < 102; version++) {
        db_write(writer, 0, PAGES, version);
        db_checkpoint(writer, CHECKPOINT_FULL);
    }
    db_begin(writer);
    for (uint64_t page = 0; page < PAGES; page++)
        db_put(writer, page, 102);
}

static void publish_only(struct conn *writer)
{
    db_write(writer, 0, PAGES, 100);
}

START_TEST(test_a_page_reclaimed_between_look_and_pin_is_looked_up_again)
{
    const char *path = unit_path("app.db");
    struct conn *w = db_open(path), *r = db_open(path), *old = db_open(path);
    db_write(w, 0, PAGES, 1);
    if (_i == 1) { /* the reader's version is in a frame, because an older reader needs base */
        unit_ok(conn_begin_read(old, &err));
        db_write(w, 0, PAGES, 2);
    }
    unit_ok(conn_begin_read(r, &err));
    uint64_t retries = db_status(w).read_retries;
    trap_set(r, w, _i == 2 ? publish_only : overtake);
    uint8_t *at = db_pin(r, 5);
    trap_end();
    ck_assert_uint_eq(db_version(at, 5), _i == 1 ? 2 : 1);
    ck_assert_uint_gt(db_status(w).read_retries, retries);
    db_end(w);
    db_check_range(r, 0, PAGES, _i == 1 ? 2 : 1);
    db_unpin(r, 5, at);
    conn_end_read(r);
    conn_end_read(old);
    db_close(old);
    db_close(r);
    db_close(w);
}
END_TEST

START_TEST(test_a_snapshot_overtaken_while_it_begins_is_the_newer_one)
{
    const char *path = unit_path("app.db");
    struct conn *w = db_open(path), *r = db_open(path);
    db_write(w, 0, PAGES, 1);
    trap_set(r, w, publish_only);
    unit_ok(conn_begin_read(r, &err));
    trap_end();
    ck_assert_uint_eq(r->snapshot, db_status(w).txid);
    db_check_range(r, 0, PAGES, 100);
    conn_end_read(r);
    db_close(r);
    db_close(w);
}
END_TEST

/* --- what a pin keeps ------------------------------------------------------------------------- */

START_TEST(test_a_pin_keeps_its_bytes_in_base_and_in_frames)
{
    const char *path = unit_path("app.db");
    struct conn *w = db_open(path), *r[6];
    uint8_t *pin[6];
    db_write(w, 0, PAGES, 1);
    for (uint64_t i = 0; i < 6;
         i++) { /* reader i pins version i + 1: one in base, the rest in frames */
        r[i] = db_open(path);
        unit_ok(conn_begin_read(r[i], &err));
        pin[i] = db_pin(r[i], 5);
        db_write(w, 5, 6, i + 2);
        if (i % 2)
            db_checkpoint(w, CHECKPOINT_FULL);
    }
    for (unsigned i = 0; i < 6; i++)
        for (unsigned k = 0; k < i; k++)
            ck_assert_ptr_ne(pin[i], pin[k]);
    ck_assert_ptr_eq(pin[0], base_at(&w->store->base, 5 * DB_PAGE));
    struct page_info info;
    conn_page_info(w, 5, &info);
    ck_assert_uint_eq(info.refcount, 6);
    ck_assert_int_eq(info.state, PAGE_MAPPED);

    static const unsigned order[] = {3, 0, 5, 1, 4, 2};
    for (unsigned i = 0; i < 6; i++) {
        for (unsigned k = i; k < 6; k++)
            ck_assert_uint_eq(db_version(pin[order[k]], 5), order[k] + 1);
        db_unpin(r[order[i]], 5, pin[order[i]]);
        conn_end_read(r[order[i]]);
        db_checkpoint(w, CHECKPOINT_FULL);
        conn_page_info(w, 5, &info);
        ck_assert_uint_eq(info.refcount, 5 - i);
    }
    ck_assert_uint_eq(info.versions, 0);
    ck_assert_uint_eq(db_status(w).frames_used, 0);
    for (unsigned i = 0; i < 6; i++)
        db_close(r[i]);
    db_close(w);
}
END_TEST

/* A connection that has committed holds pins of before, and no snapshot needs their pages. */
START_TEST(test_a_shrunk_page_is_zapped_while_pinned_then_truncated_then_absent)
{
    enum {
        MANY = 1300,
        FEW = 10
    }; /* the file is cut in steps of 512 pages */
    const char *path = unit_path("app.db");
    struct conn *w = db_open(path), *other = db_open(path);
    db_write(w, 0, MANY, 1);
    uint64_t file_bytes = unit_file_size(path);
    unit_ok(conn_begin_read(w, &err));
    uint8_t *far = db_pin(w, 1200), *near = db_pin(w, 100);
    unit_ok(conn_begin_write(w, &err));
    unit_ok(conn_truncate(w, FEW * DB_PAGE, &err));
    unit_ok(conn_commit(w, &err));
    ck_assert_int_eq(db_state(w, 1200), PAGE_MAPPED);

    db_checkpoint(w, CHECKPOINT_TRUNCATE);
    ck_assert_int_eq(db_state(other, 1200), PAGE_ZAPPED);
    ck_assert_int_eq(db_state(other, 100), PAGE_ZAPPED);
    ck_assert_int_eq(db_state(other, 1100), PAGE_TRUNCATED);
    ck_assert_int_eq(db_state(other, FEW - 1), PAGE_MAPPED);
    ck_assert_uint_eq(conn_page_count(other), MANY);
    ck_assert_uint_eq(unit_file_size(path), file_bytes);
    ck_assert_uint_eq(db_version(far, 1200), 1);
    ck_assert_uint_eq(db_version(near, 100), 1);
    struct page_info info;
    conn_page_info(other, 1200, &info);
    ck_assert_uint_eq(info.refcount, 1);

    /* Others read the new state meanwhile. */
    db_check_all(other, FEW, 1);

    db_unpin(w, 1200, far);
    db_checkpoint(w, CHECKPOINT_TRUNCATE);
    ck_assert_int_eq(db_state(other, 1200), PAGE_ABSENT);
    ck_assert_int_eq(db_state(other, 300), PAGE_TRUNCATED); /* within the step */
    ck_assert_int_eq(db_state(other, 100), PAGE_ZAPPED);
    ck_assert_uint_eq(unit_file_size(path), DAX_GROW_BYTES_MIN);
    ck_assert_uint_eq(db_version(near, 100), 1);

    db_unpin(w, 100, near);
    db_end(w);
    db_checkpoint(w, CHECKPOINT_TRUNCATE);
    ck_assert_int_eq(db_state(other, 100), PAGE_TRUNCATED);
    ck_assert_uint_eq(conn_page_count(other), DAX_GROW_BYTES_MIN / DB_PAGE);
    db_write(w, FEW, MANY, 2);
    ck_assert_int_eq(db_state(other, 100), PAGE_MAPPED);
    unit_ok(conn_begin_read(other, &err));
    db_check_range(other, 0, FEW, 1);
    db_check_range(other, FEW, MANY, 2);
    conn_end_read(other);
    db_close(other);
    db_close(w);
}
END_TEST

/* The database grows again over a page that somebody has pinned since before it shrank. */
START_TEST(test_a_page_that_comes_back_does_not_come_back_under_an_old_pin)
{
    const char *path = unit_path("app.db");
    struct conn *w = db_open(path);
    db_write(w, 0, 40, 1);
    unit_ok(conn_begin_read(w, &err));
    uint8_t *pin = db_pin(w, 30);
    unit_ok(conn_begin_write(w, &err));
    unit_ok(conn_truncate(w, 10 * DB_PAGE, &err));
    unit_ok(conn_commit(w, &err));
    db_checkpoint(w, CHECKPOINT_TRUNCATE);
    ck_assert_int_eq(db_state(w, 30), PAGE_ZAPPED);
    for (uint64_t version = 2; version < 6; version++) {
        for (uint64_t page = 10; page < 40; page++)
            db_put(w, page, version);
        unit_ok(conn_commit(w, &err));
        ck_assert_uint_eq(db_version(pin, 30), 1);
        db_check_range(w, 10, 40, version);
        db_checkpoint(w, CHECKPOINT_FULL);
        ck_assert_uint_eq(db_version(pin, 30), 1);
        ck_assert_int_eq(db_state(w, 30), PAGE_MAPPED);
    }
    db_unpin(w, 30, pin);
    db_end(w);
    db_close(w);
    w = db_open(path);
    unit_ok(conn_begin_read(w, &err));
    db_check_range(w, 10, 40, 5);
    conn_end_read(w);
    db_close(w);
}
END_TEST

/* --- what is not pinned ----------------------------------------------------------------------- */

static void *pin_try(struct conn *c, uint64_t offset, size_t len)
{
    void *at = c;
    unit_ok(conn_pin(c, offset, len, &at, &err));
    return at;
}

START_TEST(test_only_committed_bytes_in_one_piece_are_pinned)
{
    const char *path = unit_path("app.db");
    struct conn *w = db_open(path), *r = db_open(path);
    void *at;
    db_write(w, 0, PAGES, 1);
    unit_fails(conn_pin(r, DB_PAGE, 4096, &at, &err), DAX_MISUSE, "needs a snapshot");
    unit_ok(conn_begin_read(r, &err));
    ck_assert_ptr_null(pin_try(r, 0, 4096));
    ck_assert_ptr_null(pin_try(r, DB_PAGE, 0));
    ck_assert_ptr_null(pin_try(r, PAGES * DB_PAGE, 1));
    ck_assert_ptr_null(pin_try(r, PAGES * DB_PAGE - 1, 2));
    ck_assert_ptr_null(pin_try(r, DB_PAGE, DAX_PIN_PAGES * DB_PAGE + 1));
    /* Part of a page, and several pages. */
    at = pin_try(r, 3 * DB_PAGE + 512, 1024);
    ck_assert_ptr_eq(at, base_at(&r->store->base, 3 * DB_PAGE + 512));
    conn_unpin(r, 0, at);
    at = pin_try(r, 3 * DB_PAGE, DAX_PIN_PAGES * DB_PAGE);
    ck_assert_ptr_nonnull(at);

    /* With one page of them in a frame they are not side by side for a newer reader. */
    db_write(w, 5, 6, 2);
    unit_ok(conn_begin_read(w, &err));
    ck_assert_ptr_null(pin_try(w, 4 * DB_PAGE, 2 * DB_PAGE));
    ck_assert_ptr_null(pin_try(w, 5 * DB_PAGE, 2 * DB_PAGE));
    uint8_t *one = pin_try(w, 5 * DB_PAGE, DB_PAGE);
    ck_assert_uint_eq(db_version(one, 5), 2);
    conn_unpin(w, 0, one);
    for (uint64_t page = 3; page < 3 + DAX_PIN_PAGES; page++)
        ck_assert_uint_eq(db_version((uint8_t *)at + (page - 3) * DB_PAGE, page), 1);

    /* What the transaction has changed is nobody's to pin. */
    unit_ok(conn_begin_write(w, &err));
    db_put(w, 8, 3);
    unit_ok(conn_truncate(w, 20 * DB_PAGE, &err));
    ck_assert_ptr_null(pin_try(w, 8 * DB_PAGE, DB_PAGE));
    ck_assert_ptr_null(pin_try(w, 20 * DB_PAGE, DB_PAGE));
    one = pin_try(w, 9 * DB_PAGE, DB_PAGE);
    ck_assert_ptr_nonnull(one);
    conn_unpin(w, 0, one);
    db_end(w);
    conn_unpin(r, 0, at);
    conn_end_read(r);
    db_close(r);
    db_close(w);
}
END_TEST

/* Under locking_mode=EXCLUSIVE: one lock, several transactions, reads in between. A pin of before the first store
 * is one of the last committed state and outlives the commit. */
START_TEST(test_who_keeps_the_writer_lock_pins_what_is_committed)
{
    struct conn *c = db_open(unit_path("app.db"));
    db_write(c, 0, PAGES, 1);
    db_checkpoint(c, CHECKPOINT_FULL);
    db_begin(c);
    for (uint64_t version = 2; version < 6; version++) {
        uint8_t *changed = db_pin(c, 5), *other = db_pin(c, 6);
        ck_assert_uint_eq(db_version(changed, 5), version - 1);
        db_put(c, 5, version);
        ck_assert_ptr_null(pin_try(c, 5 * DB_PAGE, DB_PAGE));
        ck_assert_uint_eq(db_version(changed, 5), version - 1);
        unit_ok(conn_commit(c, &err));
        uint8_t *now = db_pin(c, 5);
        ck_assert_uint_eq(db_version(now, 5), version);
        ck_assert_uint_eq(db_version(changed, 5), version - 1);
        ck_assert_uint_eq(db_version(other, 6), 1);
        db_unpin(c, 5, changed);
        db_unpin(c, 6, other);
        ck_assert_uint_eq(db_version(now, 5), version);
        db_unpin(c, 5, now);
    }
    db_check(c, 5, 5);
    db_check(c, 6, 1);
    db_end(c);
    db_close(c);
}
END_TEST

START_TEST(test_the_pins_of_a_slot_run_out_without_harm)
{
    struct conn *c = db_open(unit_path("app.db"));
    void *at[DAX_SLOT_PINS_SHARED];
    db_write(c, 0, PAGES, 1);
    unit_ok(conn_begin_read(c, &err));
    for (uint64_t i = 0; i < DAX_SLOT_PINS_SHARED; i++)
        at[i] = db_pin(c, 1 + i % 4); /* some of them twice */
    uint64_t refused = db_status(c).pins_refused;
    ck_assert_ptr_null(pin_try(c, DB_PAGE, DB_PAGE));
    ck_assert_uint_eq(db_status(c).pins_refused, refused + 1);
    ck_assert_uint_eq(db_status(c).pins, DAX_SLOT_PINS_SHARED);
    db_check(c, 6, 1); /* copies have a pin of their own */
    conn_unpin(c, 0, at[3]);
    ck_assert_ptr_nonnull(at[3] = pin_try(c, DB_PAGE, DB_PAGE));
    for (unsigned i = 0; i < DAX_SLOT_PINS_SHARED; i++)
        conn_unpin(c, 0, at[i]);
    ck_assert_uint_eq(db_status(c).pins, 0);
    conn_end_read(c);
    db_close(c);
}
END_TEST

START_TEST(test_zero_copy_and_copies_are_counted_apart)
{
    const char *path = unit_path("app.db");
    struct conn *w = db_open(path), *r = db_open(path);
    db_write(w, 0, PAGES, 1);
    struct store_status before = db_status(w), after;
    unit_ok(conn_begin_read(r, &err));
    db_check_range(r, 0, PAGES, 1);
    after = db_status(w);
    ck_assert_uint_eq(after.reads_copied, before.reads_copied + PAGES);
    ck_assert_uint_eq(after.reads_pinned_base, before.reads_pinned_base);
    for (uint64_t page = 1; page < PAGES; page++)
        db_unpin(r, page, db_pin(r, page));
    after = db_status(w);
    ck_assert_uint_eq(after.reads_pinned_base, before.reads_pinned_base + PAGES - 1);
    ck_assert_uint_eq(after.reads_copied, before.reads_copied + PAGES);
    db_write(w, 4, 5, 2);
    unit_ok(conn_begin_read(w, &err));
    db_unpin(w, 4, db_pin(w, 4));
    ck_assert_uint_eq(db_status(w).reads_pinned_frame, before.reads_pinned_frame + 1);
    conn_end_read(w);
    conn_end_read(r);
    db_close(r);
    db_close(w);
}
END_TEST

START_TEST(test_a_poisoned_page_is_an_error_and_other_pages_are_not)
{
    struct conn *c = db_open(unit_path("app.db"));
    uint8_t buf[DAX_PAGE_BYTES];
    void *at;
    db_write(c, 0, PAGES, 1);
    _Atomic uint64_t *word = &c->store->region.words[7];
    uint64_t healthy = pageword_load(&c->store->region, 7);
    atomic_store(word, healthy | PAGEWORD_POISONED);
    unit_ok(conn_begin_read(c, &err));
    unit_fails(conn_read(c, buf, sizeof buf, 7 * DB_PAGE, &err), DAX_IO_MEDIA, "page 7");
    unit_fails(conn_pin(c, 6 * DB_PAGE, 2 * DB_PAGE, &at, &err), DAX_IO_MEDIA, "page 7");
    ck_assert_uint_eq(db_status(c).pins, 0);
    struct page_info info;
    conn_page_info(c, 7, &info);
    ck_assert(info.poisoned);
    db_check(c, 6, 1);
    db_check(c, 8, 1);
    conn_end_read(c);
    atomic_store(word, healthy);
    db_check_all(c, PAGES, 1);
    db_close(c);
}
END_TEST

int main(void)
{
    TCase *tc = db_case("pin", 900);
    tcase_add_test(tc, test_pins_and_reclaiming_never_meet_among_many_readers);
    tcase_add_test(tc, test_pins_and_reclaiming_never_meet_when_a_reader_comes_and_goes);
    if (UNDER_TSAN) {
        /* They stop the reader within a store, where the thread sanitizer holds a lock of its own. */
        printf("SKIPPED under the thread sanitizer: what happens between look and pin\n");
    } else {
        tcase_add_loop_test(tc, test_a_page_reclaimed_between_look_and_pin_is_looked_up_again, 0,
                            3);
        tcase_add_test(tc, test_a_snapshot_overtaken_while_it_begins_is_the_newer_one);
    }
    tcase_add_test(tc, test_a_pin_keeps_its_bytes_in_base_and_in_frames);
    tcase_add_test(tc, test_a_shrunk_page_is_zapped_while_pinned_then_truncated_then_absent);
    tcase_add_test(tc, test_a_page_that_comes_back_does_not_come_back_under_an_old_pin);
    tcase_add_test(tc, test_only_committed_bytes_in_one_piece_are_pinned);
    tcase_add_test(tc, test_who_keeps_the_writer_lock_pins_what_is_committed);
    tcase_add_test(tc, test_the_pins_of_a_slot_run_out_without_harm);
    tcase_add_test(tc, test_zero_copy_and_copies_are_counted_apart);
    tcase_add_test(tc, test_a_poisoned_page_is_an_error_and_other_pages_are_not);
    return db_main(tc, "pin");
}
