/* torture.c: kill -9 at any instant loses no acknowledged transaction and shows no part of another.
 *
 * Catches: a commit acknowledged before it is durable; a transaction recovered in part; recovery
 * that is not idempotent or not restartable; log space, scratch pages or file ends reused while a
 * live record still needs them; a close that removes the mark before base is complete; readers that
 * see a moving or torn snapshot while the log is cut under them.
 *
 * A child process works and acknowledges each COMMIT through a pipe; it is killed after a random
 * time, or some microseconds after it began to open or to close. Then either this process opens,
 * verifies, closes and lets stock SQLite verify, or the next child recovers what is there. A life
 * is 20 kills of one database; lives differ in page size, auto_vacuum, log size and persistence
 * mode.
 *
 * Usage: torture [KILLS]; default 200.
 */
#include "tests/system/torture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KILLS_PER_LIFE 20

static const struct torture_life lives[] = {
    {4096, 0, false, "dax_log_size=8388608&dax_private_size=262144"},
    {4096, 2, true, "dax_log_size=8388608&dax_private_size=262144"},
    {1024, 1, true, "dax_log_size=8388608&dax_private_size=1048576"},
    {512, 0, false, "dax_log_size=8388608&dax_private_size=262144&dax_persist=msync"},
    {65536, 2, true, "dax_private_size=524288"},
    {8192, 0, true, "dax_persist=msync"},
    {4096, 1, false, ""},
    {4096, 2, true, "dax_zero_copy=off&dax_log_size=8388608"},
    {16384, 0, true, "dax_log_size=8388608&dax_private_size=262144"},
    {2048, 2, false, "dax_log_size=8388608"},
};

struct tally {
    struct torture_life life; /* of the database at path */
    char *path;
    int64_t acked;  /* this transaction must be there */
    bool in_flight; /* and the next one may be */
    unsigned kills, finished, in_recovery, in_close, commits;
};

static uint64_t now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static pid_t start_child(const char *self, const struct tally *t, unsigned life, uint64_t seed,
                         int limit, int *fd_out)
{
    int fd[2];
    CHECK(pipe(fd) == 0, "pipe: %s", strerror(errno));
    CHECK(fcntl(fd[0], F_SETFD, FD_CLOEXEC) == 0, "fcntl");
    char *args[] = {(char *)(uintptr_t)self,
                    "child",
                    (char *)(uintptr_t)test_dir(),
                    t->path,
                    test_printf("%u", life),
                    test_printf("%d", fd[1]),
                    test_printf("%llu", (unsigned long long)seed),
                    test_printf("%d", limit),
                    NULL};
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        execv("/proc/self/exe", args);
        _exit(126);
    }
    close(fd[1]);
    *fd_out = fd[0];
    return pid;
}

/* Read what the child has said; false: it has ended or died. */
static bool listen_once(struct tally *t, int fd, uint64_t until_us, enum torture_say *last)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    uint64_t now = now_us();
    struct timespec left = {0};
    if (until_us > now) {
        left.tv_sec = (time_t)((until_us - now) / 1000000);
        left.tv_nsec = (long)((until_us - now) % 1000000 * 1000);
    }
    if (ppoll(&p, 1, &left, NULL) <= 0)
        return true;
    struct torture_message m;
    ssize_t n = read(fd, &m, sizeof m);
    if (n == 0)
        return false;
    CHECK(n == sizeof m, "pipe: %zd bytes", n);
    *last = (enum torture_say)m.say;
    if (m.say == SAY_FOUND) {
        CHECK(m.n == t->acked || (t->in_flight && m.n == t->acked + 1),
              "the child found transaction %lld; acknowledged was %lld", (long long)m.n,
              (long long)t->acked);
        t->acked = m.n;
        t->in_flight = true;
    } else if (m.say == SAY_COMMITTED) {
        CHECK(m.n == t->acked + 1, "acknowledged %lld after %lld", (long long)m.n,
              (long long)t->acked);
        t->acked = m.n;
        t->commits++;
    }
    return true;
}

enum aim {
    AIM_ANY,
    AIM_OPENING,
    AIM_CLOSING,
    AIMS
};

/* Run a child and kill it: at a random time, or shortly after it said it opens or closes. */
static void one_kill(const char *self, struct tally *t, unsigned life, struct rng *r)
{
    enum aim aim = (enum aim)rng_below(r, AIMS);
    int fd, limit = aim == AIM_CLOSING ? 1 + (int)rng_below(r, 8) : 1000000;
    pid_t pid = start_child(self, t, life, rng_next(r), limit, &fd);
    enum torture_say last = SAY_CLOSED, want = aim == AIM_CLOSING ? SAY_CLOSING : SAY_OPENING;
    bool alive = true;
    /* First its word, then the rest of its time. */
    while (alive && last != want)
        alive = listen_once(t, fd, now_us() + 60000000, &last);
    uint64_t end = now_us() + (aim != AIM_ANY    ? rng_below(r, 6000)
                               : rng_below(r, 2) ? rng_below(r, 180000)
                                                 : rng_below(r, 900000));
    while (alive && now_us() < end)
        alive = listen_once(t, fd, end, &last);
    kill(pid, SIGKILL);
    while (alive) /* what it said before it died counts */
        alive = listen_once(t, fd, now_us() + 60000000, &last);
    close(fd);
    int status = child_wait(pid);
    CHECK(status == -SIGKILL || status == 0, "the child failed with %d: see its message", status);
    t->kills += status == -SIGKILL;
    t->finished += status == 0;
    t->in_recovery += last == SAY_OPENING;
    t->in_close += last == SAY_CLOSING;
}

static void verify(struct tally *t)
{
    if (test_on_dax() && file_exists(test_printf("%s-dax", t->path))) {
        sqlite3 *stock = db_open_stock(t->path);
        int rc = db_try(stock, "SELECT count(*) FROM sqlite_schema");
        CHECK(rc == SQLITE_NOTADB || rc == SQLITE_OK, "stock SQLite after a crash: %d", rc);
        if (rc == SQLITE_OK) /* closed cleanly before the kill came: then all is in base */
            torture_verify(stock, true, "by stock SQLite on a file without mark");
        db_close(stock);
    }
    sqlite3 *db = db_open(t->path, t->life.params);
    int64_t n = torture_verify(db, false, "after a kill");
    CHECK(n == t->acked || (t->in_flight && n == t->acked + 1),
          "transaction %lld is the last; acknowledged was %lld", (long long)n, (long long)t->acked);
    t->acked = n;
    t->in_flight = false;
    db_close(db);
    sqlite3 *stock = db_open_stock(t->path);
    CHECK(torture_verify(stock, false, "by stock SQLite after a clean close") == n,
          "stock SQLite sees another last transaction");
    db_close(stock);
}

int main(int argc, char **argv)
{
    if (argc == 8 && !strcmp(argv[1], "child")) {
        test_start_child("torture_child", argv[2], strtoull(argv[6], NULL, 10));
        return torture_child(argv[3], &lives[atoi(argv[4])], atoi(argv[5]), test_seed(),
                             atoi(argv[7]));
    }
    unsigned kills = argc > 1 ? (unsigned)atoi(argv[1]) : 200;
    test_start("torture");
    struct rng r = {test_seed()};
    struct tally t = {0};
    const unsigned life_count = sizeof lives / sizeof *lives;
    for (unsigned life = rng_below(&r, life_count); t.kills < kills;
         life = (life + 1) % life_count) {
        unsigned until = t.kills + KILLS_PER_LIFE;
        t.life = lives[life];
        t.path = test_path("life%u.db", t.kills);
        t.acked = 0;
        t.in_flight = false;
        torture_create(t.path, &t.life);
        while (t.kills < until && t.kills < kills) {
            one_kill(argv[0], &t, life, &r);
            if (rng_below(&r, 2))
                verify(&t);
        }
        verify(&t);
        test_say("%u kills: page size %u, auto_vacuum %d, %s %s: transaction %lld, %lld bytes",
                 t.kills, t.life.page_size, t.life.auto_vacuum, t.life.params,
                 t.life.readers ? "with readers" : "", (long long)t.acked,
                 (long long)file_bytes(t.path));
        file_remove_db(t.path);
    }
    test_say(
        "%u kills (%u while opening, %u while closing), %u children finished first, %u commits",
        t.kills, t.in_recovery, t.in_close, t.finished, t.commits);
    test_say("figure: processes killed: %u", t.kills);
    test_say("figure: commits acknowledged before a kill: %u", t.commits);
    return test_finish();
}
