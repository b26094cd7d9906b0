/* every_fault.c: whatever fails, and whenever, the application is told, and nothing is lost or held.
 *
 * Catches: an error that is swallowed, or told with a code that means something else; a transaction
 * that was refused and is there all the same, in the database or in a connection's cache, or that
 * was acknowledged and is not; a lock, snapshot, pin, frame, descriptor, mapping or allocation left
 * behind; an interrupted system call that is not repeated; a database that cannot be written to
 * afterwards, or that stock SQLite does not find sound after the close.
 *
 * For each workload, each class of calls and each step: the first call of the class fails, then the
 * second, and so on until the step passes without one. A step that fails is verified and tried
 * again on the same store. One that passes in spite of the fault is verified, and its next N is
 * tried in the next round of the whole workload. "Sticky" plans make all calls from the Nth on
 * fail, as on a full disk, through the rollback.
 *
 * usage: every_fault [quick | long] [workload [class]]
 */
#include "tests/fault/every_fault.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "include/daxlite.h"

#define ONE false
#define STICKY true

static const struct plan plans[] = {
    {FAULT_HEAP, ENOMEM, ONE, 0, SAYS_NOMEM, 0},
    {FAULT_HEAP, ENOMEM, STICKY, 0, SAYS_NOMEM, 0},
    {FAULT_SQLITE_HEAP, ENOMEM, ONE, 0, SAYS_NOMEM, 0},
    {FAULT_SQLITE_HEAP, ENOMEM, STICKY, 0, SAYS_NOMEM, 0},
    {FAULT_FRAMES, 0, ONE, 0, SAYS_FULL, 0},
    {FAULT_FRAMES, 0, STICKY, 0, SAYS_FULL, 0},
    {FAULT_FALLOCATE, ENOSPC, ONE, 0, SAYS_FULL, 0},
    {FAULT_FALLOCATE, ENOSPC, STICKY, 0, SAYS_FULL, 0},
    {FAULT_FALLOCATE, EIO, ONE, 0, SAYS_IOERR, 0},
    {FAULT_FALLOCATE, EINTR, ONE, 0, SAYS_NOTHING, 0},
    {FAULT_FALLOCATE, EOPNOTSUPP, STICKY, 1, SAYS_NOTHING, 0},
    {FAULT_FTRUNCATE, EIO, ONE, 0, SAYS_IOERR, 0},
    {FAULT_FTRUNCATE, EIO, STICKY, 1, SAYS_IOERR, 0},
    {FAULT_FTRUNCATE, EINTR, ONE, 0, SAYS_NOTHING, 0},
    {FAULT_MMAP, ENOMEM, ONE, 0, SAYS_NOMEM | SAYS_FULL, 0},
    {FAULT_MMAP, ENOMEM, STICKY, 0, SAYS_NOMEM | SAYS_FULL, 0},
    {FAULT_MMAP, EACCES, ONE, 1, SAYS_IOERR | SAYS_NOMEM | SAYS_CANTOPEN, 0},
    {FAULT_MADVISE, ENOMEM, ONE, 0, SAYS_NOMEM | SAYS_CANTOPEN, 0},
    {FAULT_MADVISE, EFAULT, STICKY, 0, SAYS_IOERR | SAYS_CANTOPEN, 0},
    {FAULT_FSYNC, EIO, ONE, 0, SAYS_IOERR, 1},
    {FAULT_FSYNC, EIO, STICKY, 0, SAYS_IOERR, 1},
    {FAULT_FSYNC, EINTR, ONE, 0, SAYS_NOTHING, 0},
    {FAULT_FDATASYNC, EIO, ONE, 0, SAYS_IOERR, 1},
    {FAULT_FDATASYNC, EIO, STICKY, 0, SAYS_IOERR, 1},
    {FAULT_FDATASYNC, EINTR, ONE, 0, SAYS_NOTHING, 0},
    {FAULT_OPEN, EMFILE, ONE, 0, SAYS_CANTOPEN | SAYS_IOERR, 0},
    {FAULT_OPEN, EMFILE, STICKY, 0, SAYS_CANTOPEN | SAYS_IOERR, 0},
    {FAULT_OPEN, EACCES, ONE, 0, SAYS_CANTOPEN | SAYS_IOERR | SAYS_BUSY, 0}, /* a journal that may
                                                                               be hot has come */
    {FAULT_OPEN, ENOSPC, ONE, 1, SAYS_CANTOPEN | SAYS_FULL, 0},
    {FAULT_OPEN, EINTR, ONE, 0, SAYS_NOTHING, 0},
    {FAULT_READ, EIO, ONE, 0, SAYS_IOERR | SAYS_CANTOPEN, 0},
    {FAULT_READ, EIO, STICKY, 1, SAYS_IOERR | SAYS_CANTOPEN, 0},
    {FAULT_READ, EINTR, ONE, 0, SAYS_NOTHING, 0},
    {FAULT_PWRITE, ENOSPC, ONE, 0, SAYS_FULL, 0},
    {FAULT_PWRITE, EIO, ONE, 0, SAYS_IOERR, 0},
    {FAULT_PWRITE, EIO, STICKY, 0, SAYS_IOERR, 0},
    {FAULT_PWRITE, EINTR, ONE, 0, SAYS_NOTHING, 0},
    {FAULT_RENAME, EACCES, ONE, 0, SAYS_CANTOPEN, 0},
    {FAULT_RENAME, EIO, STICKY, 0, SAYS_CANTOPEN | SAYS_IOERR, 0},
    {FAULT_RENAME, EINVAL, ONE, 0, SAYS_NOTHING, 0},
    {FAULT_RENAME, ENOSPC, STICKY, 0, SAYS_FULL, 0},
    {FAULT_UNLINK, EIO, ONE, 0, SAYS_NOTHING, 0},
    {FAULT_STAT, EIO, ONE, 0, SAYS_CANTOPEN | SAYS_IOERR | SAYS_MOVED, 0},
    {FAULT_STAT, EIO, STICKY, 1, SAYS_CANTOPEN | SAYS_IOERR | SAYS_MOVED, 0},
    {FAULT_STAT, ENOMEM, ONE, 1, SAYS_NOMEM | SAYS_CANTOPEN | SAYS_IOERR | SAYS_MOVED, 0},
    {FAULT_LSEEK, EIO, ONE, 0, SAYS_CANTOPEN | SAYS_IOERR, 0},
    {FAULT_LSEEK, EIO, STICKY, 0, SAYS_CANTOPEN | SAYS_IOERR, 0},
    {FAULT_LSEEK, EINVAL, STICKY, 1, SAYS_CANTOPEN | SAYS_IOERR, 0},
    {FAULT_LOCK, ENOLCK, ONE, 0, SAYS_CANTOPEN, 0},
    {FAULT_LOCK, EAGAIN, STICKY, 0, SAYS_BUSY, 0},
    {FAULT_LOCK, EINTR, ONE, 0, SAYS_NOTHING, 0},
    {FAULT_RIGHTS, EPERM, ONE, 0, SAYS_CANTOPEN, 0},
    {FAULT_PMEMOBJ, ENOMEM, ONE, 0, SAYS_NOMEM, 0},
    {FAULT_PMEMOBJ, ENOMEM, STICKY, 0, SAYS_NOMEM, 0},
    {FAULT_PMEMOBJ, EMFILE, ONE, 0, SAYS_CANTOPEN, 0},
    {FAULT_PMEMOBJ, EMFILE, STICKY, 0, SAYS_CANTOPEN, 0},
    {FAULT_VFS_OPEN, SQLITE_CANTOPEN, ONE, 0, SAYS_CANTOPEN, 0},
    {FAULT_VFS_OPEN, SQLITE_CANTOPEN, STICKY, 1, SAYS_CANTOPEN, 0},
    {FAULT_VFS_READ, SQLITE_IOERR_READ, ONE, 0, SAYS_IOERR, 0},
    {FAULT_VFS_READ, SQLITE_IOERR_READ, STICKY, 1, SAYS_IOERR, 0},
    {FAULT_VFS_WRITE, SQLITE_FULL, ONE, 0, SAYS_FULL, 0},
    {FAULT_VFS_WRITE, SQLITE_FULL, STICKY, 0, SAYS_FULL, 0},
    {FAULT_VFS_WRITE, SQLITE_IOERR_WRITE, ONE, 1, SAYS_IOERR, 0},
    {FAULT_VFS_TRUNCATE, SQLITE_IOERR_TRUNCATE, ONE, 0, SAYS_IOERR, 0},
    {FAULT_VFS_SYNC, SQLITE_IOERR_FSYNC, ONE, 0, SAYS_IOERR, 0},
    {FAULT_VFS_SIZE, SQLITE_IOERR_FSTAT, ONE, 0, SAYS_IOERR, 0},
    {FAULT_VFS_DELETE, SQLITE_IOERR_DELETE, ONE, 0, SAYS_IOERR, 0},
    {FAULT_VFS_ACCESS, SQLITE_IOERR_ACCESS, ONE, 0, SAYS_IOERR, 0},
};
#define PLANS (sizeof plans / sizeof *plans)

/* Filled by the children: faults made, and errors that they led to. */
static struct totals {
    uint64_t injected[FAULT_CLASS_COUNT];
    uint64_t refused[FAULT_CLASS_COUNT];
} * totals;

/* How much: a sanitizer has time for less, ./test --long has time for all. */
static enum {
    EFFORT_QUICK,
    EFFORT_CI,
    EFFORT_LONG
} effort = EFFORT_CI;

/* --- steps ------------------------------------------------------------------------------------ */

static uint64_t hash_add(uint64_t h, const void *data, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const unsigned char *)data)[i]) * UINT64_C(0x100000001b3);
    return h;
}

/* All statements; on an error the rest is left out and an open transaction is rolled back, with the
 * fault still there. */
static int run_sql(sqlite3 *db, const char *sql, uint64_t *rows_out, char **text_out)
{
    int rc = SQLITE_OK;
    *rows_out = 1;
    while (rc == SQLITE_OK && *sql) {
        sqlite3_stmt *st = NULL;
        rc = sqlite3_prepare_v2(db, sql, -1, &st, &sql);
        if (rc != SQLITE_OK || !st)
            break;
        while ((rc = sqlite3_step(st)) == SQLITE_ROW)
            for (int i = 0; i < sqlite3_column_count(st); i++) {
                const void *text = sqlite3_column_text(st, i);
                *rows_out =
                    hash_add(*rows_out, text ? text : "", (size_t)sqlite3_column_bytes(st, i));
            }
        rc = sqlite3_finalize(st);
    }
    if (rc == SQLITE_OK)
        return rc;
    rc = sqlite3_extended_errcode(db);
    *text_out = test_printf("%s", sqlite3_errmsg(db));
    if (!sqlite3_get_autocommit(db))
        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

static int attempt_sql(struct run *r, const struct step *s, const struct fault *f, char **text,
                       uint64_t *hits)
{
    uint64_t rows;
    fault_arm(f);
    int rc = run_sql(r->db[s->conn], s->sql, &rows, text);
    *hits = fault_disarm();
    if (!sqlite3_get_autocommit(r->db[s->conn])) {
        /* Without memory the statement ROLLBACK cannot even be prepared. */
        CHECK(r->plan->sticky && r->plan->class == FAULT_SQLITE_HEAP, "ROLLBACK failed");
        db_exec(r->db[s->conn], "ROLLBACK");
    }
    if (rc == SQLITE_OK && s->kind == STEP_ASK) {
        if (r->reference)
            r->expect->rows[r->step] = rows;
        CHECK(rows == r->expect->rows[r->step], "other rows than without faults");
    }
    return rc;
}

static int attempt_open(struct run *r, const struct step *s, const struct fault *f, char **text,
                        uint64_t *hits)
{
    char *uri = db_uri(r->path, r->params);
    fault_arm(f);
    int rc = sqlite3_open_v2(uri, &r->db[s->conn],
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, NULL);
    if (rc != SQLITE_OK) {
        rc = r->db[s->conn] ? sqlite3_extended_errcode(r->db[s->conn]) : rc;
        *text = test_printf("%s", r->db[s->conn] ? sqlite3_errmsg(r->db[s->conn]) : "no memory");
        sqlite3_close(r->db[s->conn]);
        r->db[s->conn] = NULL;
    }
    *hits = fault_disarm();
    if (r->db[s->conn])
        sqlite3_extended_result_codes(r->db[s->conn], 1);
    return rc;
}

/* SQLite does not pass on what xClose answers: the database may be left marked, which the next open
 * puts right. */
static void attempt_close(struct run *r, const struct step *s, const struct fault *f,
                          uint64_t *hits)
{
    static int version;
    bool reads = r->reader[s->conn].kind != STEP_END;
    CHECK(!reads, "a reader is closed");
    db_exec(r->db[s->conn], "PRAGMA user_version = %d", ++version);
    fault_arm(f);
    int rc = sqlite3_close(r->db[s->conn]);
    *hits = fault_disarm();
    CHECK(rc == SQLITE_OK, "close: %d", rc);
    r->db[s->conn] = NULL;
}

static struct fault fault_of(const struct run *r)
{
    return (struct fault){r->plan->class, r->plan->code, r->plan->sticky, r->next[r->step]};
}

/* Every one in the long run; else every one of the first, then with growing gaps. */
static void count_fault(struct run *r, uint64_t hits, bool refused)
{
    uint64_t n = r->next[r->step];
    r->injected += hits;
    r->refused += refused;
    r->next[r->step] = n + 1;
    if (effort != EFFORT_LONG && n > (effort == EFFORT_CI ? 8 : 2)) {
        struct rng rng = {test_seed() ^ n ^ ((uint64_t)r->step << 32)};
        r->next[r->step] += rng_below(&rng, (uint32_t)n / (effort == EFFORT_CI ? 3 : 1) + 1);
    }
}

/* The msync mode differs in its stores and syncs; the sanitizers are there for memory. */
static bool plan_wanted(const struct workload *w, const struct plan *p)
{
    bool sync = p->class == FAULT_PWRITE || p->class == FAULT_FSYNC || p->class == FAULT_FDATASYNC;
    bool memory = p->class == FAULT_HEAP || p->class == FAULT_SQLITE_HEAP ||
                  p->class == FAULT_FRAMES || p->class == FAULT_MMAP;
    if (effort == EFFORT_LONG)
        return true;
    if (p->long_only)
        return false;
    if (strstr(w->name, "-msync"))
        return sync || (p->class == FAULT_HEAP && !p->sticky && effort == EFFORT_CI);
    return effort == EFFORT_CI || (memory && !p->sticky) || p->class == FAULT_FALLOCATE ||
           p->class == FAULT_OPEN || p->class == FAULT_PMEMOBJ;
}

static void context(const struct run *r)
{
    const struct step *s = &r->w->steps[r->step];
    test_context("workload %s, %s failing with %d%s, the %lluth in step %u (%s %.200s)", r->w->name,
                 fault_class_text(r->plan->class), r->plan->code,
                 r->plan->sticky ? " from there on" : "", (unsigned long long)r->next[r->step],
                 r->step,
                 s->kind == STEP_OPEN    ? "open"
                 : s->kind == STEP_CLOSE ? "close"
                                         : "SQL",
                 s->sql ? s->sql : "");
}

static bool nobody_open(const struct run *r)
{
    return !r->db[0] && !r->db[1] && !r->db[2];
}

static bool unfinished_sidecar(const struct run *r)
{
    char path[600];
    snprintf(path, sizeof path, "%s-dax-new", r->path);
    return file_exists(path);
}

static void step_open(struct run *r, const struct step *s, const struct held *held)
{
    for (;;) {
        char *text = "";
        uint64_t hits;
        struct fault f = fault_of(r);
        bool alone = nobody_open(r);
        context(r);
        if (alone && r->files)
            workload_put_files(r->files, r->path);
        int rc = attempt_open(r, s, &f, &text, &hits);
        if (rc != SQLITE_OK) {
            CHECK(hits, "open: %d %s", rc, text);
            verify_failed(r, rc, text);
            /* Only now: a descriptor may have to wait for the next open (store_park). */
            if (alone)
                held_compare(held, "after an open that failed");
            count_fault(r, hits, true);
            continue;
        }
        if (r->reference)
            r->expect->state[r->step + 1] = db_content_hash(r->db[s->conn], "main");
        if (hits == 0)
            break;
        verify_succeeded(r);
        count_fault(r, hits, false);
        db_close(r->db[s->conn]);
        r->db[s->conn] = NULL;
        (void)verify_content(r);
        if (alone)
            held_compare(held, "after an open in spite of a fault");
    }
    r->done[r->step] = true;
}

static void step_close(struct run *r, const struct step *s, const struct held *held)
{
    for (;;) {
        uint64_t hits;
        struct fault f = fault_of(r);
        context(r);
        attempt_close(r, s, &f, &hits);
        bool alone = nobody_open(r);
        if (alone && !(hits && r->plan->class == FAULT_MMAP))
            held_compare(held, "after the close");
        uint64_t h = verify_content(r);
        CHECK(h == r->expect->state[r->step], "the close has lost something");
        if (alone)
            stock_check(r->path);
        if (hits == 0)
            break;
        count_fault(r, hits, false);
        run_open(r, s->conn);
    }
    r->done[r->step] = true;
}

static void step_sql(struct run *r, const struct step *s)
{
    for (;;) {
        char *text = "";
        uint64_t hits;
        struct fault f = fault_of(r);
        context(r);
        int rc = attempt_sql(r, s, &f, &text, &hits);
        if (rc == SQLITE_OK) {
            if (r->reference)
                r->expect->state[r->step + 1] = verify_content(r);
            else if (hits)
                verify_succeeded(r);
            if (hits)
                count_fault(r, hits, false);
            else
                r->done[r->step] = true;
            return;
        }
        CHECK(hits, "%d %s", rc, text);
        CHECK(!unfinished_sidecar(r) || r->plan->class == FAULT_UNLINK, "a sidecar half made");
        bool took_effect = verify_failed(r, rc, text);
        count_fault(r, hits, true);
        if (took_effect)
            return;
    }
}

/* --- rounds ----------------------------------------------------------------------------------- */

static void run_step(struct run *r, const struct step *s, const struct held *held)
{
    r->expect->state[r->step + 1] =
        r->reference ? r->expect->state[r->step] : r->expect->state[r->step + 1];
    switch (s->kind) {
    case STEP_FILES:
        r->files = s->sql;
        if (r->files) {
            workload_put_files(r->files, r->path);
            if (r->reference)
                r->expect->state[r->step + 1] = verify_content(r);
            workload_put_files(r->files, r->path);
        }
        break;
    case STEP_OPEN: step_open(r, s, held); break;
    case STEP_CLOSE: step_close(r, s, held); break;
    case STEP_DO:
    case STEP_ASK: step_sql(r, s); break;
    case STEP_PREPARE: db_exec(r->db[s->conn], "%s", s->sql); break;
    case STEP_SNAPSHOT:
    case STEP_PIN: readers_start(r, s->conn, s); break;
    case STEP_LEAVE: readers_leave(r, s->conn); break;
    case STEP_END: break;
    }
}

/* Returns whether a step has still something to try. */
static bool run_round(struct run *r)
{
    r->files = NULL;
    unlink(test_path("other.db"));
    /* A thread's first failure allocates where its text is kept, until the thread ends. */
    sqlite3 *none;
    CHECK(db_try_open("/nowhere/at.db", "", SQLITE_OPEN_READWRITE, &none) != SQLITE_OK, "/nowhere");
    sqlite3_close(none);
    struct held held = held_now();
    bool more = false;
    for (r->step = 0; r->w->steps[r->step].kind != STEP_END; r->step++) {
        const struct step *s = &r->w->steps[r->step];
        run_step(r, s, &held);
        bool tries = s->kind == STEP_DO || s->kind == STEP_ASK;
        more |= tries && !r->done[r->step];
    }
    context(r);
    for (unsigned i = 0; i < WORKLOAD_CONNS; i++)
        if (r->db[i]) {
            db_close(r->db[i]);
            r->db[i] = NULL;
        }
    held_compare(&held, "at the end of the round");
    stock_check(r->path);
    return more;
}

/* "@DIR@" in SQL is the test's directory. */
static struct workload *workload_here(const struct workload *w)
{
    static struct workload here;
    here = *w;
    for (unsigned i = 0; i < WORKLOAD_STEPS; i++) {
        const char *sql = here.steps[i].sql, *at = sql ? strstr(sql, "@DIR@") : NULL;
        if (at)
            here.steps[i].sql = test_printf("%.*s%s%s", (int)(at - sql), sql, test_dir(), at + 5);
    }
    return &here;
}

/* Of the leak checker, where it is in the program. */
void __lsan_do_leak_check(void) __attribute__((weak));

static int child_plan(void *arg)
{
    static const struct plan none = {.class = FAULT_CLASS_COUNT};
    struct run r = *(struct run *)arg;
    r.w = workload_here(r.w);
    r.path = test_path("app.db");
    r.params = test_printf("%s", r.w->params);
    r.reference = !r.plan;
    if (r.reference) {
        r.plan = &none;
        run_round(&r);
        for (unsigned c = 0; c < FAULT_CLASS_COUNT; c++)
            r.expect->calls[c] = fault_calls(c);
        return 0;
    }
    for (unsigned i = 0; i < WORKLOAD_STEPS; i++)
        r.next[i] = 1;
    while (run_round(&r))
        continue;
    totals->injected[r.plan->class] += r.injected;
    totals->refused[r.plan->class] += r.refused;
    if (__lsan_do_leak_check && (r.plan->class == FAULT_HEAP || r.plan->class == FAULT_SQLITE_HEAP))
        __lsan_do_leak_check(); /* a child ends without it */
    return 0;
}

/* CPU time of the children so far, ms. */
static long clock_children(void)
{
    struct rusage u;
    getrusage(RUSAGE_CHILDREN, &u);
    return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000 +
           (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000;
}

static bool wanted(const char *given, const char *name)
{
    return !given || strcmp(given, name) == 0;
}

/* --- main ------------------------------------------------------------------------------------- */

static void *shared(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED, "mmap");
    return p;
}

/* Each plan in a process of its own, so that one that dies is known. Returns how many failed. */
static unsigned run_workload(const struct workload *w, const char *class)
{
    struct run r = {.w = w, .expect = shared(sizeof *r.expect)};
    unsigned bad = 0;
    int rc = child_wait(child_start(child_plan, &r));
    CHECK(rc == 0, "workload %s without faults: the child ended with %d", w->name, rc);
    for (unsigned k = 0; k < PLANS; k++) {
        const struct plan *p = r.plan = &plans[k];
        if (r.expect->calls[p->class] == 0 || !wanted(class, fault_class_text(p->class)) ||
            !plan_wanted(w, p))
            continue;
        uint64_t before = totals->injected[p->class];
        long start = clock_children();
        rc = child_wait(child_start(child_plan, &r));
        if (getenv("DAX_FAULT_TIMES"))
            test_say("%6ld ms %6llu faults  %s, %s %d%s", clock_children() - start,
                     (unsigned long long)(totals->injected[p->class] - before), w->name,
                     fault_class_text(p->class), p->code, p->sticky ? " sticky" : "");
        if (rc == 0)
            continue;
        bad++;
        test_say("workload %s, %s failing with %d%s: the child ended with %d", w->name,
                 fault_class_text(p->class), p->code, p->sticky ? " from there on" : "", rc);
    }
    munmap(r.expect, sizeof *r.expect);
    return bad;
}

void test_register(void)
{
    fault_register_vfs();
    CHECK(daxlite_register(0) == SQLITE_OK, "daxlite_register");
}

int main(int argc, char **argv)
{
    if (argc > 1 && (strcmp(argv[1], "long") == 0 || strcmp(argv[1], "quick") == 0)) {
        effort = argv[1][0] == 'l' ? EFFORT_LONG : EFFORT_QUICK;
        argc--, argv++;
    }
    fault_init();
    test_start("every_fault");
    totals = shared(sizeof *totals);
    workload_make_files();
    unsigned bad = 0;
    for (unsigned i = 0; i < workload_count; i++)
        if (wanted(argc > 1 ? argv[1] : NULL, workloads[i].name))
            bad += run_workload(&workloads[i], argc > 2 ? argv[2] : NULL);
    CHECK(bad == 0, "%u plans failed", bad);
    uint64_t all = 0, refused = 0;
    for (unsigned c = 0; c < FAULT_CLASS_COUNT; c++) {
        printf("figure: faults injected, %s: %llu\n", fault_class_text(c),
               (unsigned long long)totals->injected[c]);
        all += totals->injected[c];
        refused += totals->refused[c];
    }
    printf("figure: faults injected: %llu\n", (unsigned long long)all);
    printf("figure: faults that an application was told of: %llu\n", (unsigned long long)refused);
    return test_finish();
}
