/* db.h: what the tests of the engine's core share: a database of pages that say which version they
 * are.
 *
 * Page p in version v is db_fill(p, v): every line of it differs from the same line of any other
 * page or version, so a mixture of two shows. db_check compares a whole page. One connection's
 * short transaction is db_begin, db_put ..., db_commit.
 *
 * A crash is a copy of the database and its sidecar (db_copy), opened after the original has been
 * closed: libpmemobj opens no two copies of one pool in a process at the same time.
 */
#ifndef DAX_TESTS_UNIT_DB_H
#define DAX_TESTS_UNIT_DB_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "engine/conn.h"
#include "engine/hash.h"
#include "tests/unit/unit.h"

#define DB_PAGE ((uint64_t)DAX_PAGE_BYTES)

/* For hot loops and threads: Check notes each assertion that holds in a file; these do not. */
#define db_must(expr, ...)                                                                         \
    do {                                                                                           \
        if (!(expr))                                                                               \
            ck_abort_msg(__VA_ARGS__);                                                             \
    } while (0)
#define db_ok(call)                                                                                \
    do {                                                                                           \
        dax_rc db_rc = (call);                                                                     \
        db_must(db_rc == DAX_OK, "%s: %s: %s", #call, dax_rc_name(db_rc), err.text);               \
    } while (0)

/* One for each thread, so that the macros work in any. */
static _Thread_local struct dax_err err;

static inline void db_fill(uint8_t page[DAX_PAGE_BYTES], uint64_t number, uint64_t version)
{
    for (uint64_t i = 0; i < DAX_PAGE_BYTES / sizeof(uint64_t); i++) {
        uint64_t word = i % 8 == 0   ? number
                        : i % 8 == 1 ? version
                                     : (number * 1000003 + version * 97 + i) * 0x9E3779B97F4A7C15u;
        memcpy(page + i * sizeof word, &word, sizeof word);
    }
    if (number == 0) { /* what the mark covers belongs to daxlite */
        page[DAX_HEADER_WRITE_VERSION] = page[DAX_HEADER_READ_VERSION] = 1;
        memset(page + DAX_HEADER_RESERVED, 0, DAX_HEADER_RESERVED_BYTES);
    }
}

/* Which version is it? It must be the same in every line. */
static inline uint64_t db_version(const uint8_t page[DAX_PAGE_BYTES], uint64_t number)
{
    uint8_t want[DAX_PAGE_BYTES];
    uint64_t version;
    memcpy(&version, page + sizeof version, sizeof version);
    db_fill(want, number, version);
    db_must(memcmp(page, want, sizeof want) == 0, "page %llu is torn (version %llu?)",
            (unsigned long long)number, (unsigned long long)version);
    return version;
}

/* --- connections ------------------------------------------------------------------------------ */

/* Least sizes, so that limits are met soon. */
static inline struct dax_options db_options(void)
{
    struct dax_options o = dax_options_default();
    o.log_bytes = DAX_LOG_BYTES_MIN;
    o.private_bytes = DAX_PRIVATE_BYTES_MIN;
    return o;
}

static inline struct conn *db_open(const char *path)
{
    struct dax_options o = db_options();
    struct conn *c = NULL;
    db_ok(conn_open(path, &o, &c, &err));
    return c;
}

static inline void db_close(struct conn *c)
{
    db_ok(conn_close(c, &err));
}

static inline void db_begin(struct conn *c)
{
    dax_rc rc;
    db_ok(conn_begin_read(c, &err));
    while ((rc = conn_begin_write(c, &err)) ==
           DAX_BUSY) /* a reader that has ended may be tidying */
        sched_yield();
    db_must(rc == DAX_OK, "begin_write: %s: %s", dax_rc_name(rc), err.text);
}

static inline void db_put(struct conn *c, uint64_t number, uint64_t version)
{
    uint8_t page[DAX_PAGE_BYTES];
    db_fill(page, number, version);
    db_ok(conn_write(c, page, sizeof page, number * DB_PAGE, &err));
}

static inline void db_end(struct conn *c)
{
    conn_end_write(c);
    conn_end_read(c);
}

static inline void db_commit(struct conn *c)
{
    db_ok(conn_commit(c, &err));
    db_end(c);
}

/* Pages [from, to) in one transaction. */
static inline void db_write(struct conn *c, uint64_t from, uint64_t to, uint64_t version)
{
    db_begin(c);
    for (uint64_t page = from; page < to; page++)
        db_put(c, page, version);
    db_commit(c);
}

static inline void db_shrink(struct conn *c, uint64_t pages)
{
    db_begin(c);
    db_ok(conn_truncate(c, pages * DB_PAGE, &err));
    db_commit(c);
}

/* In the snapshot that c holds. */
static inline void db_check(struct conn *c, uint64_t number, uint64_t version)
{
    uint8_t page[DAX_PAGE_BYTES], want[DAX_PAGE_BYTES];
    db_ok(conn_read(c, page, sizeof page, number * DB_PAGE, &err));
    db_fill(want, number, version);
    db_must(memcmp(page, want, sizeof want) == 0, "page %llu is not version %llu",
            (unsigned long long)number, (unsigned long long)version);
}

static inline void db_check_range(struct conn *c, uint64_t from, uint64_t to, uint64_t version)
{
    for (uint64_t page = from; page < to; page++)
        db_check(c, page, version);
}

/* In a snapshot of its own: pages [0, pages) in this version, and no more. */
static inline void db_check_all(struct conn *c, uint64_t pages, uint64_t version)
{
    db_ok(conn_begin_read(c, &err));
    ck_assert_uint_eq(conn_size(c), pages * DB_PAGE);
    db_check_range(c, 0, pages, version);
    conn_end_read(c);
}

/* Zero-copy; NULL is a failure. */
static inline uint8_t *db_pin(struct conn *c, uint64_t number)
{
    void *at;
    db_ok(conn_pin(c, number * DB_PAGE, DAX_PAGE_BYTES, &at, &err));
    db_must(at != NULL, "page %llu could not be pinned", (unsigned long long)number);
    return at;
}

static inline void db_unpin(struct conn *c, uint64_t number, uint8_t *at)
{
    conn_unpin(c, number * DB_PAGE, at);
}

static inline struct checkpoint_result db_checkpoint(struct conn *c, enum checkpoint_mode mode)
{
    struct checkpoint_result result;
    db_ok(conn_checkpoint(c, mode, NULL, NULL, &result, &err));
    return result;
}

static inline struct store_status db_status(struct conn *c)
{
    struct store_status status;
    conn_status(c, &status);
    db_must(!status.failed[0], "%s", status.failed);
    return status;
}

static inline enum page_state db_state(struct conn *c, uint64_t number)
{
    struct page_info info;
    conn_page_info(c, number, &info);
    return info.state;
}

/* --- files ------------------------------------------------------------------------------------ */

static inline const char *db_sidecar(const char *path)
{
    static char name[4][560];
    static unsigned next;
    char *n = name[next++ % 4];
    snprintf(n, sizeof name[0], "%s-dax", path);
    return n;
}

/* A copy with its holes; no copy of what is missing. */
static inline void db_copy_file(const char *from, const char *to)
{
    static uint8_t buf[1 << 16];
    unlink(to);
    int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return;
    int out = open(to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ck_assert_int_ge(out, 0);
    ck_assert_int_eq(ftruncate(out, (off_t)unit_file_size(from)), 0);
    for (off_t at = 0; (at = lseek(in, at, SEEK_DATA)) >= 0;) {
        off_t end = lseek(in, at, SEEK_HOLE);
        while (at < end) {
            size_t n = end - at < (off_t)sizeof buf ? (size_t)(end - at) : sizeof buf;
            db_must(pread(in, buf, n, at) == (ssize_t)n, "pread: %s", strerror(errno));
            db_must(pwrite(out, buf, n, at) == (ssize_t)n, "pwrite: %s", strerror(errno));
            at += (off_t)n;
        }
    }
    close(in);
    close(out);
}

static inline void db_copy(const char *from, const char *to)
{
    db_copy_file(from, to);
    db_copy_file(db_sidecar(from), db_sidecar(to));
}

static inline bool db_same_file(const char *a, const char *b)
{
    static uint8_t x[1 << 16], y[1 << 16];
    uint64_t size = unit_file_size(a);
    bool same = size == unit_file_size(b);
    int fa = open(a, O_RDONLY | O_CLOEXEC), fb = open(b, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fa, 0);
    ck_assert_int_ge(fb, 0);
    for (uint64_t at = 0; same && at < size; at += sizeof x) {
        ssize_t n = pread(fa, x, sizeof x, (off_t)at);
        same = n > 0 && pread(fb, y, sizeof y, (off_t)at) == n && memcmp(x, y, (size_t)n) == 0;
    }
    close(fa);
    close(fb);
    return same;
}

/* From its next opening on, the sidecar of c's database has a ring of this size: limits that
 * depend on it are met with less data. c has written. */
static inline void db_small_ring(struct conn *c, uint64_t ring_bytes)
{
    struct sidecar_root *root = c->store->sidecar.root;
    db_must(ring_bytes <= root->ring_bytes, "that is no smaller ring");
    root->ring_bytes = ring_bytes;
    root->hash = hash_bytes(root, offsetof(struct sidecar_root, hash));
}

/* --- threads ---------------------------------------------------------------------------------- */

#define DB_VICTIMS 8u

/* Makes windows of a few instructions wide: stops each of the threads again and again, wherever it
 * is, for as long as the others need to get somewhere. */
struct db_disturber {
    pthread_t thread;
    pthread_t victims[DB_VICTIMS];
    unsigned count;
    _Atomic bool over;
};

static inline void db_disturbed(int signal)
{
    int e = errno;
    (void)signal;
    nanosleep(&(struct timespec){0, 20000}, NULL);
    errno = e;
}

static inline void *db_disturb(void *arg)
{
    struct db_disturber *d = arg;
    while (!atomic_load(&d->over)) {
        for (unsigned i = 0; i < d->count; i++)
            pthread_kill(d->victims[i], SIGUSR1);
        nanosleep(&(struct timespec){0, 30000}, NULL);
    }
    return NULL;
}

static inline void db_disturb_start(struct db_disturber *d)
{
    struct sigaction action = {.sa_handler = db_disturbed, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    atomic_store(&d->over, false);
    db_must(pthread_create(&d->thread, NULL, db_disturb, d) == 0, "no thread");
}

/* Before any of the threads is joined. */
static inline void db_disturb_stop(struct db_disturber *d)
{
    atomic_store(&d->over, true);
    pthread_join(d->thread, NULL);
}

/* --- the program ------------------------------------------------------------------------------ */

/* A suite of one case with a directory for each test. Add tests to the case, then db_main. */
static inline TCase *db_case(const char *name, int timeout_s)
{
    TCase *tc = tcase_create(name);
    tcase_add_checked_fixture(tc, unit_setup, NULL);
    tcase_set_timeout(tc, timeout_s);
    return tc;
}

static inline int db_main(TCase *tc, const char *name)
{
    Suite *suite = suite_create(name);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}

#endif
