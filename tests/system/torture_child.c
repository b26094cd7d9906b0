/* torture_child.c: the process that is killed: transactions of all shapes, acknowledged one by one.
 */
#include "tests/system/torture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct worker {
    sqlite3 *db;
    const char *path;
    const struct torture_life *life;
    struct rng rng;
    int pipe_fd;
    int64_t n; /* last committed transaction */
};

static atomic_bool readers_stop; /* pairs: relaxed, only a hint to end */

void torture_create(const char *path, const struct torture_life *life)
{
    file_remove_db(path);
    sqlite3 *db;
    int rc = db_try_open(path, life->params, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &db);
    CHECK_RC(db, rc, SQLITE_OK);
    db_exec(db, "PRAGMA page_size = %u; PRAGMA auto_vacuum = %d", life->page_size,
            life->auto_vacuum);
    db_exec(db,
            "BEGIN;"
            "CREATE TABLE accounts(id INTEGER PRIMARY KEY, balance INT NOT NULL, pad TEXT);"
            "CREATE TABLE counter(id INTEGER PRIMARY KEY CHECK(id = 1), n INT NOT NULL);"
            "CREATE TABLE txlog(n INTEGER PRIMARY KEY, rows INT NOT NULL, sum INT NOT NULL);"
            "CREATE TABLE work(id INTEGER PRIMARY KEY, tx INT NOT NULL REFERENCES txlog(n), v INT,"
            " body BLOB);"
            "CREATE INDEX work_tx ON work(tx);"
            "INSERT INTO counter VALUES(1, 0);"
            "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < %d)"
            " INSERT INTO accounts SELECT i, %d, printf('%%.*c', i %% 97, 'p') FROM s;"
            "COMMIT",
            TORTURE_ACCOUNTS, TORTURE_BALANCE);
    if (!test_on_dax())
        db_exec(db, "PRAGMA journal_mode = wal");
    db_close(db);
}

int64_t torture_verify(sqlite3 *db, bool quick, const char *when)
{
    db_exec(db, "BEGIN");
    int64_t sum = db_int(db, "SELECT sum(balance) FROM accounts");
    CHECK(sum == (int64_t)TORTURE_ACCOUNTS * TORTURE_BALANCE, "%s: accounts sum to %lld", when,
          (long long)sum);
    int64_t n = db_int(db, "SELECT n FROM counter");
    int64_t last = db_int(db, "SELECT coalesce(max(n), 0) FROM txlog");
    CHECK(last == 0 || last == n, "%s: counter %lld, last transaction logged %lld", when,
          (long long)n, (long long)last);
    int64_t gaps = db_int(db, "SELECT coalesce(max(n) - min(n) + 1 - count(*), 0) FROM txlog");
    CHECK(gaps == 0, "%s: %lld transactions are missing", when, (long long)gaps);
    char *bad =
        db_text(db, "SELECT coalesce(group_concat(t.n || ':' || t.rows || '/' || t.sum || '<>' ||"
                    " coalesce(w.c, 0) || '/' || coalesce(w.s, 0)), '') FROM txlog AS t LEFT JOIN"
                    " (SELECT tx, count(*) AS c, sum(v + length(body)) AS s FROM work GROUP BY tx)"
                    " AS w ON w.tx = t.n WHERE t.rows <> coalesce(w.c, 0)"
                    " OR t.sum <> coalesce(w.s, 0)");
    CHECK(!*bad, "%s: transactions that are there in part (n:rows/sum): %s", when, bad);
    int64_t strays = db_int(db, "SELECT count(*) FROM work WHERE tx NOT IN (SELECT n FROM txlog)");
    CHECK(strays == 0, "%s: %lld rows of transactions that are not there", when, (long long)strays);
    if (!quick)
        db_check_integrity(db, when);
    db_exec(db, "COMMIT");
    return n;
}

/* --- readers ---------------------------------------------------------------------------------- */

static void *reader_main(void *arg)
{
    struct worker *w = arg;
    sqlite3 *db = db_open(w->path, w->life->params);
    sqlite3_busy_timeout(db, 5000);
    while (!atomic_load_explicit(&readers_stop, memory_order_relaxed)) {
        torture_verify(db, rng_below(&w->rng, 10) != 0, "in a reader's snapshot");
        db_exec(db, "BEGIN");
        int64_t first = db_int(db, "SELECT n FROM counter");
        usleep(rng_below(&w->rng, 20000));
        int64_t again = db_int(db, "SELECT n FROM counter");
        int64_t sum = db_int(db, "SELECT sum(balance) FROM accounts");
        db_exec(db, "COMMIT");
        CHECK(first == again, "a snapshot moved from %lld to %lld", (long long)first,
              (long long)again);
        CHECK(sum == (int64_t)TORTURE_ACCOUNTS * TORTURE_BALANCE, "a snapshot's sum became %lld",
              (long long)sum);
    }
    db_close(db);
    return NULL;
}

/* --- writer ----------------------------------------------------------------------------------- */

static void say(struct worker *w, enum torture_say what, int64_t n)
{
    struct torture_message m = {.say = what, .n = n};
    if (write(w->pipe_fd, &m, sizeof m) != sizeof m)
        _exit(4);
}

static void transfer(struct worker *w)
{
    unsigned a = 1 + rng_below(&w->rng, TORTURE_ACCOUNTS),
             b = 1 + rng_below(&w->rng, TORTURE_ACCOUNTS);
    unsigned sum = rng_below(&w->rng, 100);
    db_exec(w->db, "UPDATE accounts SET balance = balance - %u WHERE id = %u", sum, a);
    db_exec(w->db, "UPDATE accounts SET balance = balance + %u WHERE id = %u", sum, b);
}

static void add_rows(struct worker *w, int64_t n, unsigned rows, unsigned bytes)
{
    db_exec(w->db,
            "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < %u)"
            " INSERT INTO work(tx, v, body) SELECT %lld, i * 7 + %u, zeroblob(%u + i %% 50) FROM s",
            rows, (long long)n, rng_below(&w->rng, 1000), bytes);
}

/* A stray row that must never be seen: the savepoint around it is rolled back. */
static void savepoint(struct worker *w, int64_t n)
{
    db_exec(w->db, "SAVEPOINT a");
    db_exec(w->db, "UPDATE accounts SET balance = balance + 1 WHERE id %% 3 = 0");
    db_exec(w->db, "SAVEPOINT b");
    db_exec(w->db, "DELETE FROM work WHERE id %% 2");
    db_exec(w->db, "ROLLBACK TO b");
    db_exec(w->db, "INSERT INTO work(tx, v, body) SELECT %lld, id, zeroblob(3000) FROM accounts",
            (long long)n);
    db_exec(w->db, "ROLLBACK TO a; RELEASE a");
}

static void transaction(struct worker *w, unsigned rows, unsigned bytes, bool commit)
{
    int64_t n = w->n + 1;
    db_exec(w->db, rng_below(&w->rng, 2) ? "BEGIN" : "BEGIN IMMEDIATE");
    for (unsigned i = rng_below(&w->rng, 6); i > 0; i--)
        transfer(w);
    if (rng_below(&w->rng, 4) == 0)
        savepoint(w, n);
    db_exec(w->db, "INSERT INTO txlog VALUES(%lld, 0, 0)", (long long)n);
    if (rows)
        add_rows(w, n, rows, bytes);
    if (rng_below(&w->rng, 6) == 0) {
        db_exec(w->db, "DELETE FROM work WHERE tx < %lld", (long long)(n - 20));
        db_exec(w->db, "DELETE FROM txlog WHERE n < %lld", (long long)(n - 20));
    }
    db_exec(w->db,
            "UPDATE txlog SET (rows, sum) = (SELECT count(*), coalesce(sum(v + length(body)), 0)"
            " FROM work WHERE tx = %lld) WHERE n = %lld",
            (long long)n, (long long)n);
    db_exec(w->db, "UPDATE counter SET n = %lld", (long long)n);
    if (!commit) {
        db_exec(w->db, "ROLLBACK");
        return;
    }
    db_exec(w->db, "COMMIT");
    w->n = n;
    say(w, SAY_COMMITTED, n);
}

static void reopen(struct worker *w)
{
    if (w->db) {
        say(w, SAY_CLOSING, 0);
        db_close(w->db);
        say(w, SAY_CLOSED, 0);
    }
    say(w, SAY_OPENING, 0);
    w->db = db_open(w->path, w->life->params);
    sqlite3_busy_timeout(w->db, 5000);
    /* A small cache spills within a transaction. Stock SQLite 3.40 loses later commits when a
     * savepoint is rolled back behind a spill in WAL mode, so that it is no reference there. */
    db_exec(w->db, "PRAGMA cache_size = %d",
            !test_on_dax()          ? -64000
            : rng_below(&w->rng, 2) ? 20
                                    : -2000);
    int64_t n = db_int(w->db, "SELECT n FROM counter");
    CHECK(!w->n || n == w->n, "reopened: counter is %lld, not %lld", (long long)n, (long long)w->n);
    w->n = n;
}

static void maintain(struct worker *w)
{
    static const char *const checkpoint[] = {"PASSIVE", "FULL", "RESTART", "TRUNCATE"};
    switch (rng_below(&w->rng, 7)) {
    case 0: db_exec(w->db, "VACUUM"); break;
    case 1:
        db_exec(w->db, "DROP INDEX IF EXISTS work_v; CREATE INDEX work_v ON work(v, body)");
        break;
    case 2: db_exec(w->db, "DROP INDEX IF EXISTS work_v"); break;
    case 3: db_exec(w->db, "PRAGMA incremental_vacuum(%u)", 1 + rng_below(&w->rng, 500)); break;
    case 4: db_exec(w->db, "PRAGMA wal_checkpoint(%s)", checkpoint[rng_below(&w->rng, 4)]); break;
    case 5: db_exec(w->db, "REINDEX work_tx"); break;
    case 6: reopen(w); break;
    }
}

/* Small commits one after another, so that kills find commits and inline checkpoints. */
static void burst(struct worker *w)
{
    for (unsigned i = 20 + rng_below(&w->rng, 300); i > 0; i--)
        transaction(w, rng_below(&w->rng, 4), rng_below(&w->rng, 400), true);
}

static void work(struct worker *w)
{
    unsigned kind = rng_below(&w->rng, 40);
    if (kind == 0)
        transaction(w, 500 + rng_below(&w->rng, 2500), 700, true);
    else if (kind == 1)
        transaction(w, 500 + rng_below(&w->rng, 2500), 700, false);
    else if (kind < 5)
        maintain(w);
    else if (kind < 8)
        transaction(w, rng_below(&w->rng, 50), 2000, false);
    else if (kind < 11)
        burst(w);
    else if (kind < 20)
        transaction(w, rng_below(&w->rng, 3), 30, true);
    else
        transaction(w, rng_below(&w->rng, 30), rng_below(&w->rng, 5000), true);
}

int torture_child(const char *path, const struct torture_life *life, int pipe_fd, uint64_t seed,
                  int limit)
{
    struct worker w = {.path = path, .life = life, .rng = {seed}, .pipe_fd = pipe_fd};
    struct worker readers[2];
    pthread_t thread[2];
    reopen(&w);
    torture_verify(w.db, false, "at the start");
    say(&w, SAY_FOUND, w.n);
    for (unsigned i = 0; life->readers && i < 2; i++) {
        readers[i] = w;
        readers[i].rng.s += i + 1;
        CHECK(pthread_create(&thread[i], NULL, reader_main, &readers[i]) == 0, "pthread_create");
    }
    for (int i = 0; i < limit; i++)
        work(&w);
    atomic_store_explicit(&readers_stop, true, memory_order_relaxed);
    for (unsigned i = 0; life->readers && i < 2; i++)
        pthread_join(thread[i], NULL);
    torture_verify(w.db, false, "at the end");
    say(&w, SAY_CLOSING, 0);
    db_close(w.db);
    say(&w, SAY_CLOSED, 0);
    return 0;
}
