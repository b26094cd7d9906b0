/* guest_stop.c: transactions that the host hears of one by one until the machine stops, and what is
 * there after the next boot.
 *
 * The workload and its invariants are those of the torture test. Here it is the machine that dies,
 * not the process: what the kernel had in ordinary memory is gone, above all changes of the file
 * system's metadata that nothing had made durable. Memory that was stored to stays, as it does where
 * the CPU's caches are in the persistence domain (eADR); lost cache lines are tests/crash's matter.
 */
#include "tests/vm/guest.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "tests/system/torture.h"

static const struct torture_life life = {4096, 2, false,
                                         "dax_log_size=8388608&dax_private_size=262144"};

/* What the worker says goes out at once: an acknowledgement that the host reads has happened. */
static void *relay(void *arg)
{
    static const char *const words[] = {"opening", "found", "ack", "closing", "closed"};
    struct torture_message m;
    while (read(*(int *)arg, &m, sizeof m) == sizeof m) {
        printf("%s%s %lld\n", m.say == SAY_FOUND ? log_text() : "", words[m.say], (long long)m.n);
        fflush(stdout);
        tcdrain(STDOUT_FILENO);
    }
    return NULL;
}

void scenario_work(void)
{
    static int fd[2];
    char *path = test_path("stop.db");
    mkdir(test_dir(), 0755);
    if (!file_exists(path)) {
        torture_create(path, &life);
        sync();
    }
    if (halt_arm)
        halt_arm(guest_arg());
    pthread_t thread;
    CHECK(pipe(fd) == 0, "pipe");
    CHECK(pthread_create(&thread, NULL, relay, &fd[0]) == 0, "pthread_create");
    struct rng r = {test_seed()};
    /* In order to be stopped while it closes, it has to come to an end. */
    int limit = text_has(guest_arg(), "close") ? 1 + (int)rng_below(&r, 8) : 1000000;
    torture_child(path, &life, fd[1], rng_next(&r), limit);
    close(fd[1]);
    pthread_join(thread, NULL);
}

void scenario_check(void)
{
    char *path = test_path("stop.db");
    sqlite3 *db = db_open(path, life.params);
    printf("%s", log_text());
    int64_t n = torture_verify(db, false, "after the machine stopped");
    db_close(db);
    sqlite3 *stock = db_open_stock(path);
    CHECK(torture_verify(stock, false, "by stock SQLite after a clean close") == n,
          "stock SQLite sees another last transaction");
    db_close(stock);
    test_say("found %lld", (long long)n);
}
