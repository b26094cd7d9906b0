/* test_ledger.c: would catch a media error that is forgotten, changed, doubled or half stored; a full
 * ledger that gives up what is still to be repaired; an id that is used twice; a damaged entry that is
 * believed; a crash in a transaction that leaves a mixture; a bad page of the ledger that ends the
 * process; a transaction of libpmemobj's that fails without a word, or in the midst of the application's
 * own.
 */
#include "engine/ledger.h"

#include <libpmemobj.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include "engine/hash.h"
#include "tests/seed.h"
#include "tests/unit/unit.h"

#define BYTES (8 * DAX_MIB)

/* libpmemobj 1.12 keeps what it has allocated when it finds a pool's heap larger than the file. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libpmemobj";
}

/* --- libpmemobj's calls --------------------------------------------------------------------------- */

static const char *commit_from,
    *commit_copy;        /* the file, kept as it is before a transaction ends */
static bool range_fails; /* the undo log has no room for so much */
static struct sidecar *range_of;
static bool ranges_dropped; /* nothing goes to the undo log */
static unsigned ranges;

void __real_pmemobj_tx_process(void);
void __wrap_pmemobj_tx_process(void);
int __real_pmemobj_tx_add_range_direct(const void *at, size_t bytes);
int __wrap_pmemobj_tx_add_range_direct(const void *at, size_t bytes);

static void copy_file(const char *from, const char *to)
{
    uint64_t bytes = unit_file_size(from);
    uint8_t *all = malloc(bytes);
    int fd = open(from, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(read(fd, all, bytes), (ssize_t)bytes);
    close(fd);
    unit_write_file(to, all, bytes);
    free(all);
}

/* TX_END's: in the stage of work it commits. */
void __wrap_pmemobj_tx_process(void)
{
    if (commit_from && pmemobj_tx_stage() == TX_STAGE_WORK)
        copy_file(commit_from, commit_copy);
    __real_pmemobj_tx_process();
}

int __wrap_pmemobj_tx_add_range_direct(const void *at, size_t bytes)
{
    ranges++;
    if (range_fails) /* more than the heap has for the undo log: libpmemobj aborts by itself */
        return __real_pmemobj_tx_add_range_direct(range_of->ring, range_of->ring_bytes);
    return ranges_dropped ? 0 : __real_pmemobj_tx_add_range_direct(at, bytes);
}

/* --- entries ---------------------------------------------------------------------------------------- */

static bool no_rescue(struct guard_owner *o, uint64_t offset, const struct guard_fault *fault)
{
    (void)o, (void)offset, (void)fault;
    return false;
}

static void no_words(struct guard_owner *o, uint64_t offset, const struct guard_fault *fault)
{
    (void)no_rescue(o, offset, fault);
}

static struct guard_owner owner = {no_rescue, no_words};

static void watch(struct sidecar *s)
{
    struct dax_err err;
    unit_ok(guard_install(&err));
    unit_ok(guard_map_add(s->pool, s->file_bytes, 0, &owner, &err));
}

static void make(const char *path, struct sidecar *s)
{
    struct dax_err err;
    struct stat like = {.st_mode = S_IFREG | 0600, .st_uid = geteuid(), .st_gid = getegid()};
    unit_ok(sidecar_create(path, &like, BYTES, s, &err));
    watch(s);
}

static void drop(struct sidecar *s)
{
    guard_map_remove(s->pool);
    sidecar_close(s);
}

static void reopen(const char *path, struct sidecar *s)
{
    struct dax_err err;
    unit_ok(sidecar_open(path, s, &err));
    watch(s);
}

static void fill(char *text, size_t size, uint64_t seed)
{
    size_t len = seed % size;
    for (size_t i = 0; i < len; i++)
        text[i] = (char)('a' + (seed + i * 7) % 26);
}

/* Every field says which entry and which state of it. */
static struct media_entry entry_of(uint64_t id, uint64_t state)
{
    uint64_t x = id * 1000003 + state * 97;
    struct media_entry e = {.id = id,
                            .found_us = x,
                            .changed_us = x + 1,
                            .page = x + 2,
                            .bytes = x + 3,
                            .part = x % 3,
                            .kind = x % 5,
                            .status = state % 4,
                            .named = x % 2,
                            .stale = x / 2 % 2,
                            .intent = x % 3,
                            .intent_status = x / 3 % 4,
                            .intent_nonce = x + 4,
                            .intent_txid = x + 5,
                            .intent_hash = x + 6};
    fill(e.type, sizeof e.type, x);
    fill(e.name, sizeof e.name, x + 1);
    fill(e.role, sizeof e.role, x + 2);
    fill(e.detail, sizeof e.detail, x + 3);
    return e;
}

static bool same(const struct media_entry *a, const struct media_entry *b)
{
    return a->id == b->id && a->found_us == b->found_us && a->changed_us == b->changed_us &&
           a->page == b->page && a->bytes == b->bytes && a->part == b->part && a->kind == b->kind &&
           a->status == b->status && a->named == b->named && a->stale == b->stale &&
           a->intent == b->intent && a->intent_status == b->intent_status &&
           a->intent_nonce == b->intent_nonce && a->intent_txid == b->intent_txid &&
           a->intent_hash == b->intent_hash && memcmp(a->type, b->type, sizeof a->type) == 0 &&
           memcmp(a->name, b->name, sizeof a->name) == 0 &&
           memcmp(a->role, b->role, sizeof a->role) == 0 &&
           memcmp(a->detail, b->detail, sizeof a->detail) == 0;
}

static void put(struct sidecar *s, uint64_t id, uint64_t state)
{
    struct dax_err err;
    struct media_entry e = entry_of(id, state);
    unit_ok(ledger_put(s, &e, &err));
}

/* All of it, and how many entries are damaged. */
static size_t load(const struct sidecar *s, struct media_entry **list, size_t damaged_expected)
{
    struct dax_err err;
    size_t count, damaged;
    unit_ok(ledger_load(s, list, &count, &damaged, &err));
    ck_assert_uint_eq(damaged, damaged_expected);
    for (size_t i = 1; i < count; i++)
        ck_assert_uint_lt((*list)[i - 1].id, (*list)[i].id);
    return count;
}

static struct ledger_entry *place_of(const struct sidecar *s, uint64_t id)
{
    for (unsigned i = 0; i < DAX_LEDGER_ENTRIES; i++)
        if (s->ledger->entry[i].id == id)
            return &s->ledger->entry[i];
    ck_abort_msg("no entry %llu", (unsigned long long)id);
    return NULL;
}

/* --- put and load ----------------------------------------------------------------------------------- */

START_TEST(test_what_is_put_is_loaded_in_order_of_ids_also_after_a_reopen)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct media_entry *list;
    make(path, &s);
    ck_assert_uint_eq(load(&s, &list, 0), 0);
    ck_assert_ptr_null(list);
    ck_assert_uint_eq(ledger_last_id(&s), 0);
    const uint64_t ids[] = {5, 1, 9, 2, 7, 4};
    for (size_t i = 0; i < 6; i++)
        put(&s, ids[i], 0);
    put(&s, 7, 2); /* in place of what was there */
    put(&s, 1, 1);
    for (int again = 0; again < 2; again++) {
        static const uint64_t want[] = {1, 2, 4, 5, 7, 9};
        ck_assert_uint_eq(load(&s, &list, 0), 6);
        for (size_t i = 0; i < 6; i++) {
            struct media_entry e = entry_of(want[i], want[i] == 7 ? 2 : want[i] == 1 ? 1 : 0);
            ck_assert_msg(same(&list[i], &e), "entry %zu", i);
        }
        free(list);
        ck_assert_uint_eq(ledger_last_id(&s), 9);
        drop(&s);
        reopen(path, &s);
    }
    drop(&s);
}
END_TEST

START_TEST(test_texts_are_cut_to_what_fits_and_what_is_no_entry_is_refused)
{
    struct sidecar s;
    struct dax_err err;
    struct media_entry *list, e = entry_of(1, 0), full = e;
    make(unit_path("db-dax"), &s);
    memset(full.type, 't', sizeof full.type); /* no end */
    memset(full.name, 'n', sizeof full.name);
    memset(full.role, 'r', sizeof full.role);
    memset(full.detail, 'd', sizeof full.detail);
    unit_ok(ledger_put(&s, &full, &err));
    ck_assert_uint_eq(load(&s, &list, 0), 1);
    ck_assert_uint_eq(strlen(list->type), sizeof list->type - 1);
    ck_assert_uint_eq(strlen(list->name), sizeof list->name - 1);
    ck_assert_uint_eq(strlen(list->role), sizeof list->role - 1);
    ck_assert_uint_eq(strlen(list->detail), sizeof list->detail - 1);
    free(list);
    struct media_entry bad[6];
    for (int i = 0; i < 6; i++)
        bad[i] = e;
    bad[0].id = 0;
    bad[1].part = MEDIA_SIDECAR + 1;
    bad[2].kind = MEDIA_DAMAGED + 1;
    bad[3].status = MEDIA_LOST + 1;
    bad[4].intent = INTENT_REWRITE + 1;
    bad[5].intent_status = MEDIA_LOST + 1;
    for (int i = 0; i < 6; i++)
        unit_fails(ledger_put(&s, &bad[i], &err), DAX_MISUSE, "not an entry");
    drop(&s);
}
END_TEST

START_TEST(test_a_full_ledger_gives_up_its_oldest_closed_entry_and_never_an_open_one)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct dax_err err;
    struct media_entry *list;
    make(path, &s);
    /* States 0 are quarantined. Closed: 50, 20, 90. */
    for (uint64_t id = 1; id <= DAX_LEDGER_ENTRIES; id++)
        put(&s, id, id == 50 ? 1 : id == 20 ? 2 : id == 90 ? 3 : 0);
    uint64_t next = DAX_LEDGER_ENTRIES + 1;
    const uint64_t gone[] = {20, 50, 90};
    for (int i = 0; i < 3; i++, next++) {
        put(&s, next, 0);
        ck_assert_uint_eq(load(&s, &list, 0), DAX_LEDGER_ENTRIES);
        for (size_t k = 0; k < DAX_LEDGER_ENTRIES; k++) {
            ck_assert_uint_ne(list[k].id, gone[i]);
            for (int later = i + 1; later < 3; later++)
                if (list[k].id == gone[later])
                    break;
        }
        ck_assert_uint_eq(list[DAX_LEDGER_ENTRIES - 1].id, next);
        free(list);
    }
    struct media_entry e = entry_of(next, 0);
    unit_fails(ledger_put(&s, &e, &err), DAX_FULL, "full");
    put(&s, 7, 0); /* what is there can still change */
    put(&s, next - 1, 1);
    put(&s, next, 1); /* the newest that was closed makes way: it is the oldest closed one */
    ck_assert_uint_eq(load(&s, &list, 0), DAX_LEDGER_ENTRIES);
    free(list);
    ck_assert_uint_eq(ledger_last_id(&s), next);
    drop(&s);
}
END_TEST

START_TEST(test_the_last_id_outlives_its_entry_and_either_head)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct media_entry *list;
    make(path, &s);
    put(&s, 41, 1);
    put(&s, 99, 1);
    memset(place_of(&s, 99), 0, sizeof(struct ledger_entry));
    ck_assert_uint_eq(ledger_last_id(&s), 99);
    struct ledger_head good = s.ledger->head;
    for (int which = 0; which < 2; which++) {
        struct ledger_head *head = which ? &s.ledger->head_again : &s.ledger->head;
        for (unsigned bit = 0; bit < 512; bit++) {
            ((uint8_t *)head)[bit / 8] ^= (uint8_t)(1 << bit % 8);
            ck_assert_uint_eq(ledger_last_id(&s), 99);
            *head = good;
        }
    }
    s.ledger->head.hash++;
    s.ledger->head_again.hash++;
    ck_assert_uint_eq(ledger_last_id(&s), 41); /* all that is left */
    put(&s, 42, 1);
    ck_assert_uint_eq(load(&s, &list, 1), 2); /* and the heads are whole again */
    free(list);
    memset(place_of(&s, 42), 0, sizeof(struct ledger_entry));
    drop(&s);
    reopen(path, &s);
    ck_assert_uint_eq(ledger_last_id(&s), 42);
    drop(&s);
}
END_TEST

/* --- damage ----------------------------------------------------------------------------------------- */

START_TEST(test_a_damaged_entry_is_left_out_counted_and_used_again)
{
    struct sidecar s;
    struct media_entry *list, e;
    make(unit_path("db-dax"), &s);
    put(&s, 1, 0);
    put(&s, 2, 0);
    put(&s, 3, 0);
    struct ledger_entry *at = place_of(&s, 2), good = *at;
    for (unsigned bit = 0; bit < sizeof *at * 8; bit++) {
        ((uint8_t *)at)[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert_uint_eq(load(&s, &list, 1), 2);
        ck_assert(list[0].id == 1 && list[1].id == 3);
        free(list);
        *at = good;
    }
    memset(at, 0, sizeof *at); /* also that is damage */
    ck_assert_uint_eq(load(&s, &list, 1), 2);
    free(list);
    /* Hash fits, content does not: another version's, or somebody's who knows how. */
    for (int field = 0; field < 7; field++) {
        *at = good;
        switch (field) {
        case 0: at->part = 3; break;
        case 1: at->kind = 5; break;
        case 2: at->status = 4; break;
        case 3: at->intent = 3; break;
        case 4: memset(at->name, 'x', sizeof at->name); break;
        case 5: memset(at->detail, 'x', sizeof at->detail); break;
        default: at->id = 3; break; /* twice */
        }
        at->hash = hash_bytes(at, offsetof(struct ledger_entry, hash));
        ck_assert_uint_eq(load(&s, &list, 1), 2);
        free(list);
    }
    *at = good;
    at->hash++;
    for (uint64_t id = 4; id <= DAX_LEDGER_ENTRIES + 1; id++)
        put(&s, id, 0);
    ck_assert_uint_eq(load(&s, &list, 0), DAX_LEDGER_ENTRIES);
    e = entry_of(3, 0);
    ck_assert(same(&list[1], &e));
    free(list);
    drop(&s);
}
END_TEST

/* One of its pages cannot be read: an empty file is mapped there, so that loading it is a SIGBUS. */
START_TEST(test_a_bad_page_of_the_ledger_costs_its_own_entries_only)
{
    struct sidecar s;
    struct dax_err err;
    struct media_entry *list, e;
    size_t count, damaged;
    make(unit_path("db-dax"), &s);
    for (uint64_t id = 1; id <= 100; id++)
        put(&s, id, 0);
    uint8_t *page = (uint8_t *)s.ledger + (size_t)_i * DAX_PAGE_BYTES;
    int fd = open(unit_path("nothing"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_ptr_eq(
        mmap(page, DAX_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0), page);
    close(fd);
    unit_fails(ledger_load(&s, &list, &count, &damaged, &err), DAX_IO_MEDIA, "page ");
    ck_assert_uint_eq(damaged, 0);
    size_t entries = _i == 0 ? 7 : 8; /* of a page; the head is in the first */
    ck_assert_uint_eq(count, 100 - entries);
    free(list);
    ck_assert_uint_eq(ledger_last_id(&s), 100);
    /* New ones go elsewhere, as does one that was there. */
    for (uint64_t id = 101; id <= DAX_LEDGER_ENTRIES - entries; id++)
        put(&s, id, 0);
    uint64_t lost = _i == 0 ? 3 : (uint64_t)_i * 8 + 3;
    e = entry_of(lost, 1);
    ck_assert_int_eq(ledger_load(&s, &list, &count, &damaged, &err), DAX_IO_MEDIA);
    ck_assert_uint_eq(count, DAX_LEDGER_ENTRIES - 2 * entries);
    free(list);
    for (uint64_t id = 0; id < entries; id++)
        put(&s, 1000 + id, id == 0 ? 1 : 0);
    unit_ok(ledger_put(&s, &e, &err)); /* in place of the closed one */
    e.id = 2000;
    e.status = MEDIA_QUARANTINED;
    e = entry_of(lost, 0);
    unit_ok(ledger_put(&s, &e, &err));
    e = entry_of(2000, 0);
    unit_fails(ledger_put(&s, &e, &err), DAX_IO_MEDIA, "page ");
    ck_assert_uint_eq(ledger_last_id(&s), 1000 + entries - 1);
    drop(&s);
}
END_TEST

START_TEST(test_a_sidecar_without_a_ledger_opens_and_says_so_when_asked_to_keep_something)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct dax_err err;
    struct media_entry *list, e = entry_of(1, 0);
    make(path, &s);
    struct sidecar_root *root = s.root;
    root->ledger_offset = root->ledger_bytes = 0;
    root->hash = hash_bytes(root, offsetof(struct sidecar_root, hash));
    drop(&s);
    reopen(path, &s);
    ck_assert_uint_eq(load(&s, &list, 0), 0);
    ck_assert_uint_eq(ledger_last_id(&s), 0);
    unit_fails(ledger_put(&s, &e, &err), DAX_CANT_OPEN, "cannot be kept");
    drop(&s);
}
END_TEST

/* --- transactions ------------------------------------------------------------------------------------ */

/* What a crash finds in the midst of a transaction: everything stored, nothing committed. libpmemobj
 * takes it back. */
START_TEST(test_a_crash_within_a_transaction_leaves_all_of_it_or_nothing)
{
    char *path = strdup(unit_path("db-dax")), *copy = strdup(unit_path("copy-dax"));
    struct sidecar s;
    struct media_entry *list, e;
    make(path, &s);
    put(&s, 1, 0);
    put(&s, 2, 0);
    for (int kind = 0; kind < 3; kind++) { /* a new one; one that changes; one for another */
        uint64_t id = kind == 0 ? 3 : 1;
        commit_from = path;
        commit_copy = copy;
        put(&s, id, 1);
        commit_from = NULL;
        drop(&s); /* libpmemobj opens no two copies of a pool */
        reopen(copy, &s);
        size_t count = load(&s, &list, 0);
        ck_assert_uint_eq(count, kind == 0 ? 2 : 3);
        for (size_t i = 0; i < count; i++) {
            e = entry_of(list[i].id, list[i].id == 3 || (list[i].id == 1 && kind == 2) ? 1 : 0);
            ck_assert_msg(same(&list[i], &e), "entry %llu is a mixture",
                          (unsigned long long)list[i].id);
        }
        free(list);
        ck_assert_uint_eq(ledger_last_id(&s), kind == 0 ? 2 : 3);
        put(&s, 7, 0); /* it goes on */
        drop(&s);
        reopen(path, &s);
        e = entry_of(id, 1);
        count = load(&s, &list, 0);
        ck_assert(same(&list[id - 1], &e));
        free(list);
    }
    drop(&s);
    free(path);
    free(copy);
}
END_TEST

/* The test above would notice: without the undo log the copy has what was not committed. */
START_TEST(test_without_the_undo_log_a_crash_would_leave_what_was_not_committed)
{
    char *path = strdup(unit_path("db-dax")), *copy = strdup(unit_path("copy-dax"));
    struct sidecar s;
    struct media_entry *list;
    make(path, &s);
    put(&s, 1, 0);
    ranges = 0;
    ranges_dropped = true;
    commit_from = path;
    commit_copy = copy;
    put(&s, 2, 0);
    ck_assert_uint_eq(ranges, 3); /* entry and both heads */
    drop(&s);
    reopen(copy, &s);
    ck_assert_uint_eq(load(&s, &list, 0), 2);
    free(list);
    drop(&s);
    free(path);
    free(copy);
}
END_TEST

START_TEST(test_a_transaction_that_libpmemobj_gives_up_is_an_error_with_its_words)
{
    struct sidecar s;
    struct dax_err err;
    struct media_entry *list, e = entry_of(2, 0);
    make(unit_path("db-dax"), &s);
    put(&s, 1, 0);
    range_of = &s;
    range_fails = true;
    unit_fails(ledger_put(&s, &e, &err), DAX_IO_WRITE, "cannot be changed (");
    ck_assert_int_ne(err.sys_errno, 0);
    range_fails = false;
    ck_assert_uint_eq(load(&s, &list, 0), 1);
    free(list);
    ck_assert_uint_eq(ledger_last_id(&s), 1);
    put(&s, 2, 0);

    /* An application that uses libpmemobj, too, and calls us from within a transaction of its own. */
    PMEMobjpool *theirs = pmemobj_create(unit_path("theirs"), "x", PMEMOBJ_MIN_POOL, 0600);
    ck_assert_ptr_nonnull(theirs);
    uint64_t *number = pmemobj_direct(pmemobj_root(theirs, sizeof *number));
    volatile bool committed = false;
    e = entry_of(3, 0);
    TX_BEGIN(theirs)
    {
        pmemobj_tx_add_range_direct(number, sizeof *number);
        *number = 7;
        unit_fails(ledger_put(&s, &e, &err), DAX_IO_WRITE, "of its own");
    }
    TX_ONCOMMIT
    {
        committed = true;
    }
    TX_END
    ck_assert(committed);
    ck_assert_uint_eq(*number, 7);
    pmemobj_close(theirs);
    unit_ok(ledger_put(&s, &e, &err));
    drop(&s);
}
END_TEST

/* Killed at a random place among many puts. Each entry is what one of them has put, and no older than
 * the last that was told of. */
START_TEST(test_a_process_killed_while_it_puts_leaves_whole_entries)
{
    const char *path = unit_path("db-dax");
    enum {
        IDS = 5
    };
    struct sidecar s;
    struct media_entry *list;
    unsigned seed = (unsigned)test_seed_given() + (unsigned)_i;
    printf("seed %u\n", seed);
    struct told {
        _Atomic uint64_t state[IDS];
    } *told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    make(path, &s);
    for (uint64_t id = 1; id <= IDS; id++)
        put(&s, id, 0);
    drop(&s);
    pid_t pid = fork();
    if (pid == 0) {
        struct dax_err err; /* no Check in here: it would be killed while it tells its parent */
        if (sidecar_open(path, &s, &err) != DAX_OK)
            _exit(1);
        for (uint64_t state = 1;; state++)
            for (uint64_t id = 1; id <= IDS; id++) {
                struct media_entry e = entry_of(id, state);
                if (ledger_put(&s, &e, &err) != DAX_OK)
                    _exit(2);
                told->state[id - 1] = state;
            }
    }
    while (told->state[0] < 20)
        sched_yield();
    usleep(rand_r(&seed) % 3000);
    kill(pid, SIGKILL);
    ck_assert_int_eq(unit_wait(pid), 128 + SIGKILL);
    reopen(path, &s);
    ck_assert_uint_eq(load(&s, &list, 0), IDS);
    for (uint64_t i = 0; i < IDS; i++) {
        struct media_entry before = entry_of(i + 1, told->state[i]);
        struct media_entry after = entry_of(i + 1, told->state[i] + 1);
        ck_assert_msg(same(&list[i], &before) || same(&list[i], &after), "entry %llu",
                      (unsigned long long)(i + 1));
    }
    free(list);
    drop(&s);
    munmap(told, sizeof *told);
}
END_TEST

/* --- threads ---------------------------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sidecar *shared;

static void *put_many(void *arg)
{
    uint64_t first = (uint64_t)(uintptr_t)arg;
    for (uint64_t state = 0; state < 40; state++)
        for (uint64_t id = first; id <= 20; id += 2) {
            pthread_mutex_lock(&lock); /* as media.h has it */
            put(shared, id, state);
            pthread_mutex_unlock(&lock);
        }
    return NULL;
}

START_TEST(test_two_threads_put_in_turn)
{
    const char *path = unit_path("db-dax");
    struct sidecar s;
    struct media_entry *list;
    pthread_t t[2];
    make(path, &s);
    shared = &s;
    for (uint64_t i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&t[i], NULL, put_many, (void *)(uintptr_t)(i + 1)), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    drop(&s);
    reopen(path, &s);
    ck_assert_uint_eq(load(&s, &list, 0), 20);
    for (uint64_t i = 0; i < 20; i++) {
        struct media_entry e = entry_of(i + 1, 39);
        ck_assert(same(&list[i], &e));
    }
    free(list);
    drop(&s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ledger");
    TCase *tc = tcase_create("ledger");
    tcase_add_checked_fixture(tc, unit_setup, NULL);
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, test_what_is_put_is_loaded_in_order_of_ids_also_after_a_reopen);
    tcase_add_test(tc, test_texts_are_cut_to_what_fits_and_what_is_no_entry_is_refused);
    tcase_add_test(tc, test_a_full_ledger_gives_up_its_oldest_closed_entry_and_never_an_open_one);
    tcase_add_test(tc, test_the_last_id_outlives_its_entry_and_either_head);
    tcase_add_test(tc, test_a_damaged_entry_is_left_out_counted_and_used_again);
    tcase_add_loop_test(tc, test_a_bad_page_of_the_ledger_costs_its_own_entries_only, 0, 3);
    tcase_add_test(tc,
                   test_a_sidecar_without_a_ledger_opens_and_says_so_when_asked_to_keep_something);
    tcase_add_test(tc, test_a_crash_within_a_transaction_leaves_all_of_it_or_nothing);
    tcase_add_test(tc, test_without_the_undo_log_a_crash_would_leave_what_was_not_committed);
    tcase_add_test(tc, test_a_transaction_that_libpmemobj_gives_up_is_an_error_with_its_words);
    tcase_add_loop_test(tc, test_a_process_killed_while_it_puts_leaves_whole_entries, 0, 12);
    tcase_add_test(tc, test_two_threads_put_in_turn);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
