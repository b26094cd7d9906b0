/* matrix.c: media errors at every place, during every operation, at every time: the right error or the
 * right data.
 *
 * Catches: a row that was never there; a dead process that could have been saved, or one that dies
 * without a word of where; an error that names another page, or the wrong table; an error where nothing
 * needed the page; data that is lost although it could be read; a database that a repair leaves unsound.
 *
 * Each run is a process of its own (matrix_run.c), chosen from all combinations by the seed. The one
 * death that is allowed: a load through a pointer that SQLite was given before the page went bad.
 *
 *   media_matrix RUNS [key=value ...]      so many runs, of those with (!: without) these words
 *   media_matrix run DIR key=value ...     one run, on the templates in DIR (DAX_TEST_KEEP keeps them)
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/media/matrix.h"

extern char **environ;

const char *const matrix_op_name[OP_COUNT] = {"point",  "scan",       "insert", "update", "delete",
                                              "commit", "checkpoint", "relog",  "scrub",  "backup",
                                              "vacuum", "close",      "recover"};
const char *const matrix_time_name[TIME_COUNT] = {"before-open", "before-pin", "probed", "pinned"};
const char *const matrix_way_name[WAY_COUNT] = {"poison", "sigbus", "stuck", "cut"};
const char *const matrix_end_name[END_COUNT] = {"heal", "repair", "kill"};

/* --- words ------------------------------------------------------------------------------------------- */

static const char *words[24];

char *matrix_run_words(const struct matrix_run *r)
{
    const struct matrix_position *p = &r->at;
    return test_printf("name=%s;file=%d;object=%d;page=%llu;target=%lld;type=%s;owner=%s;role=%s;"
                       "page_size=%u;op=%s;time=%s;way=%s;end=%s;zero_copy=%d;msync=%d;crowd=%d;"
                       "next=%d;good=%d;entered=%d",
                       p->name, p->file, p->object, (unsigned long long)p->page,
                       (long long)p->target, p->type, p->owner, p->role, r->page_size,
                       matrix_op_name[r->op], matrix_time_name[r->time], matrix_way_name[r->way],
                       matrix_end_name[r->end], r->zero_copy, r->msync, r->crowd, r->next, r->good,
                       r->entered);
}

static const char *word(const char *key)
{
    size_t n = strlen(key);
    for (unsigned i = 0; words[i]; i++)
        if (strncmp(words[i], key, n) == 0 && words[i][n] == '=')
            return words[i] + n + 1;
    CHECK(false, "there is no %s=", key);
    return NULL;
}

static int index_of(const char *key, const char *const *names, int count)
{
    for (int i = 0; i < count; i++)
        if (strcmp(word(key), names[i]) == 0)
            return i;
    CHECK(false, "%s=%s", key, word(key));
    return -1;
}

void matrix_run_parse(struct matrix_run *r, int argc, char **argv)
{
    CHECK(argc < 24, "too many words");
    for (int i = 0; i < argc; i++)
        words[i] = argv[i];
    memset(r, 0, sizeof *r);
    snprintf(r->at.name, sizeof r->at.name, "%s", word("name"));
    snprintf(r->at.type, sizeof r->at.type, "%s", word("type"));
    snprintf(r->at.owner, sizeof r->at.owner, "%s", word("owner"));
    snprintf(r->at.role, sizeof r->at.role, "%s", word("role"));
    r->at.file = (enum matrix_file)atoi(word("file"));
    r->at.object = (enum matrix_object)atoi(word("object"));
    r->at.page = strtoull(word("page"), NULL, 10);
    r->at.target = atoll(word("target"));
    r->page_size = (unsigned)atoi(word("page_size"));
    r->op = (enum matrix_op)index_of("op", matrix_op_name, OP_COUNT);
    r->time = (enum matrix_time)index_of("time", matrix_time_name, TIME_COUNT);
    r->way = (enum matrix_way)index_of("way", matrix_way_name, WAY_COUNT);
    r->end = (enum matrix_end)index_of("end", matrix_end_name, END_COUNT);
    r->zero_copy = atoi(word("zero_copy"));
    r->msync = atoi(word("msync"));
    r->crowd = atoi(word("crowd"));
    r->next = atoi(word("next"));
    r->good = atoi(word("good"));
    r->entered = atoi(word("entered"));
}

/* --- running ------------------------------------------------------------------------------------------------ */

static struct {
    unsigned processes, dead, data, error, refused, lost, unrepaired, stale, cut, failed;
    unsigned crowded, rehomed, relogged, replayed, scratch, direct;
} seen;

static char *output; /* of the last process */

static int start_one(const struct matrix_run *r, const char *self)
{
    char *text = strdup(matrix_run_words(r)), *argv[32] = {(char *)self, "run", (char *)test_dir()};
    int argc = 3, status;
    for (char *at = strtok(text, ";"); at; at = strtok(NULL, ";"))
        argv[argc++] = at;
    char *out = test_path("out");
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, out, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND,
                                     0644);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    pid_t pid;
    int rc = posix_spawn(&pid, self, &actions, NULL, argv, environ);
    CHECK(rc == 0, "%s: %s", self, strerror(rc));
    while (waitpid(pid, &status, 0) < 0)
        CHECK(errno == EINTR, "waitpid");
    posix_spawn_file_actions_destroy(&actions);
    free(text);
    seen.processes++;
    static char buf[65536];
    int64_t n = file_bytes(out);
    n = n < (int64_t)sizeof buf - 1 ? n : (int64_t)sizeof buf - 1;
    file_peek(out, 0, buf, (size_t)n);
    buf[n] = 0;
    output = buf;
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static unsigned count_of(const char *result)
{
    return strstr(output, result) != NULL;
}

static void count_results(void)
{
    seen.data += count_of("result: data");
    seen.error += count_of("result: error");
    seen.refused += count_of("result: open refused");
    seen.lost += count_of("result: rows lost");
    seen.unrepaired += count_of("result: not repairable");
    seen.stale += count_of("result: stale");
    seen.cut += count_of("result: cut");
    seen.scratch += count_of("result: scratch");
    seen.direct += count_of("result: direct");
    seen.rehomed += count_of("result: rehomed");
    seen.relogged += count_of("result: relogged");
    seen.replayed += count_of("result: replayed");
}

/* Through a pointer of SQLite's, to a page that went bad after it had been looked at. */
static bool may_die(const struct matrix_run *r)
{
    return r->zero_copy && r->at.file == FILE_DB && !r->next &&
           (r->time >= TIME_PROBED || matrix_has_own_moment(r->op)) && r->op != OP_RECOVER;
}

static bool says_where(const struct matrix_run *r)
{
    /* And an owner, though nobody in that process has made a map; which one, the operation may have changed. */
    return text_has(output, "run.db") &&
           text_has(output,
                    test_printf("page %llu of the database%s", (unsigned long long)r->at.page,
                                r->at.owner[0] ? " (" : ""));
}

static void report(const struct matrix_run *r, const char *what, int status)
{
    seen.failed++;
    printf("FAILED: %s (status %d)\n  run: %s\n", what, status, matrix_run_words(r));
    if (seen.failed <= (getenv("DAX_TEST_KEEP") ? 10000u : 10u))
        printf("%s\n", output);
    fflush(stdout);
}

static void run_one(const struct matrix_run *run, const char *self)
{
    struct matrix_run r = *run;
    int status = start_one(&r, self);
    seen.crowded += r.crowd;
    count_results();
    if (status == -SIGBUS) {
        seen.dead++;
        if (!may_die(&r)) {
            report(&r, "died", status);
            return;
        }
        if (r.way != WAY_CUT && !says_where(&r)) {
            report(&r, "died without a word of where", status);
            return;
        }
        status = r.way == WAY_CUT                   ? 0
                 : strstr(output, MATRIX_COMMITTED) ? NEXT_DEAD_AFTER
                                                    : NEXT_DEAD_BEFORE;
    }
    if (status >= NEXT_BEFORE && status <= NEXT_DEAD_AFTER) {
        r.next = status;
        r.good = strstr(output, MATRIX_HEALED) != NULL;
        r.entered = strstr(output, MATRIX_ENTERED) != NULL;
        status = start_one(&r, self);
        count_results();
    }
    if (status != 0)
        report(&r, "failed", status);
}

static void say_figures(void)
{
    printf("figure: media matrix, runs: %u\n", seen.processes);
    printf("figure: media matrix, processes that died through a pointer of SQLite's: %u\n",
           seen.dead);
    printf("figure: media matrix, operations that failed with the right error: %u\n", seen.error);
    printf("figure: media matrix, operations that had the right data: %u\n", seen.data);
    printf("figure: media matrix, opens refused: %u\n", seen.refused);
    printf("figure: media matrix, repairs that lost rows: %u\n", seen.lost);
    printf("figure: media matrix, pages that only a backup restores: %u\n", seen.unrepaired);
    printf("figure: media matrix, runs with other threads at work: %u\n", seen.crowded);
    printf("figure: media matrix, runs with a page of the log relogged: %u\n", seen.relogged);
    printf("figure: media matrix, runs with a page rehomed: %u\n", seen.rehomed);
    printf("figure: media matrix, runs with a log replayed: %u\n", seen.replayed);
    printf("figure: media matrix, runs with pages in scratch: %u\n", seen.scratch);
    printf("figure: media matrix, runs with pages stored straight to base: %u\n", seen.direct);
    printf("stale %u, cut %u, failed %u\n", seen.stale, seen.cut, seen.failed);
}

static int run_child(int argc, char **argv)
{
    static struct matrix_run r;
    prctl(PR_SET_DUMPABLE, 0);
    alarm(MATRIX_RUN_LIMIT_S);
    setvbuf(stdout, NULL, _IOLBF, 0);
    test_start_child("media_matrix", argv[0], 0);
    matrix_run_parse(&r, argc - 1, argv + 1);
    test_context("%s", matrix_run_words(&r));
    return matrix_run(&r);
}

int main(int argc, char **argv)
{
    static const unsigned page_sizes[] = {4096, 1024, 8192};
    static struct matrix_position at[MATRIX_POSITIONS];
    if (argc > 3 && strcmp(argv[1], "run") == 0)
        return run_child(argc - 2, argv + 2);
    CHECK(argc > 1, "usage: media_matrix RUNS [key=value ...]");
    test_start("media_matrix");
    const char *why = poison_refused(test_dir());
    if (why) {
        printf("SKIPPED: %s\n", why);
        test_finish();
        return 77;
    }
    for (unsigned i = 0; i < 3; i++) {
        matrix_make(page_sizes[i]);
        unsigned n = matrix_positions(page_sizes[i], at);
        for (unsigned k = 0; k < n; k++) {
            if (page_sizes[i] == 4096)
                printf("%s: page %llu, row %lld\n", at[k].name, (unsigned long long)at[k].page,
                       (long long)at[k].target);
            plan_add(&at[k], page_sizes[i], argc - 2, argv + 2);
        }
    }
    plan_order();
    static char self[500];
    CHECK(readlink("/proc/self/exe", self, sizeof self - 1) > 0, "who am I");
    size_t limit = strtoull(argv[1], NULL, 10), count = plan_count();
    limit = limit < count ? limit : count;
    printf("%zu combinations, %zu runs\n", count, limit);
    fflush(stdout);
    for (size_t i = 0; i < limit; i++) {
        run_one(plan_get(i), self);
        plan_ran(i);
        if (i % 5000 == 4999)
            test_say("%zu runs, %u failed", i + 1, seen.failed);
    }
    plan_say();
    say_figures();
    CHECK(seen.failed == 0, "%u runs failed", seen.failed);
    if (argc == 2 && plan_check(limit))
        CHECK(seen.crowded && seen.relogged && seen.rehomed && seen.replayed && seen.scratch &&
                  seen.direct && seen.dead && seen.lost,
              "what an operation is for did not happen in any run");
    plan_free();
    return test_finish();
}
