/* costs.c: system calls and instructions of one operation; memory of a process by its connections.
 *
 *   WORKLOAD, - or rows=1000      syscalls 1/op (strace), instructions 1/op (callgrind): both counted
 *                                 in child processes of this program, of a thousand operations and more
 *                                 after some that are not counted
 *   memory, connections=N         memory B: what is not backed by a file (so not the mapped database,
 *                                 and none of a tmpfs), beyond that of the process before it opened any,
 *                                 after each connection has read, scanned and updated
 *
 * System calls: those between two that no program makes (costs_mark). Instructions: those
 * of user mode within costs_measured() and what it calls. Valgrind's processor has no clwb and no
 * AVX-512, so libpmem flushes with clflush there and copies in smaller steps.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/common/clock.h"
#include "bench/common/kv.h"
#include "bench/common/process.h"
#include "bench/common/report.h"

#define ROW_BYTES 100
#define PHASE "DAX_BENCH_PHASE" /* "WORKLOAD,... COUNT": this is a child that is counted */

#define COUNTED 3

static const struct {
    const char *workload, *parameter;
    bool quick; /* also then */
} counted[COUNTED] = {{"select", "-", true}, {"update", "-", true}, {"scan", "rows=1000", false}};

/* Of `count`, where an operation is no long one. */
static uint64_t count_of(const char *workload, uint64_t count)
{
    return strcmp(workload, "scan") == 0 ? count / 50 + 1 : count;
}

static unsigned char row[ROW_BYTES];
static uint64_t sum;
static uint64_t rows;

static void one(struct kv *kv, const char *workload, uint64_t *random)
{
    unsigned char got[ROW_BYTES];
    uint64_t key = random_below(random, rows - 1000) + 1;
    switch (workload[0] == 's' ? workload[1] : workload[0]) {
    case 'e': /* select */
        if (kv_get(kv, key, got, sizeof got) != ROW_BYTES)
            bench_die("select", "a row is missing");
        sum += got[0];
        break;
    case 'c': /* scan */
        if (kv_scan(kv, key, 1000, &sum) != 1000)
            bench_die("scan", "rows are missing");
        break;
    default: /* update */ random_fill(random, row, 16); kv_update(kv, key, row, ROW_BYTES);
    }
}

static void fill(struct kv *kv, uint64_t *random)
{
    kv_begin(kv, true);
    for (uint64_t i = 1; i <= rows; i++) {
        random_fill(random, row, sizeof row);
        kv_insert(kv, i, row, sizeof row);
    }
    kv_commit(kv);
}

/* --- the child that is counted ------------------------------------------------------------------ */

/* Named for callgrind: not static, so that it keeps its name, and not inlined. */
__attribute__((noinline)) void costs_measured(struct kv *kv, const char *workload, uint64_t count,
                                              uint64_t *random);

void costs_measured(struct kv *kv, const char *workload, uint64_t count, uint64_t *random)
{
    for (uint64_t i = 0; i < count; i++)
        one(kv, workload, random);
}

/* A system call that fails, for whoever reads the trace. */
static void costs_mark(const char *workload, const char *side)
{
    char path[64];
    snprintf(path, sizeof path, "/dax-bench/%s/%s", workload, side);
    if (access(path, F_OK) == 0)
        bench_die(path, "should not exist");
}

static void run_phase(const struct bench *b, const char *phase)
{
    char names[64];
    unsigned long long count;
    if (sscanf(phase, "%63s %llu", names, &count) != 2)
        bench_die(PHASE, phase);
    uint64_t random = b->seed;
    struct kv *kv = kv_open(b, "phase");
    fill(kv, &random);
    for (char *rest = names, *workload; (workload = strsep(&rest, ",")) != NULL;) {
        for (uint64_t i = bench_scale(b, 200, 200, 5); i; i--)
            one(kv, workload, &random);
        costs_mark(workload, "begin");
        costs_measured(kv, workload, count_of(workload, count), &random);
        costs_mark(workload, "end");
    }
    kv_close(kv);
}

/* --- counting ----------------------------------------------------------------------------------- */

static _Noreturn void die_with_output(const char *path, const char *tool)
{
    char text[4096] = "";
    FILE *f = fopen(path, "r");
    if (f) {
        fseek(f, -(long)sizeof text + 1, SEEK_END);
        text[fread(text, 1, sizeof text - 1, f)] = '\0';
    }
    fputs(text, stderr);
    bench_die(tool, "failed: see its output");
}

/* Runs this program once more under `tool` (NULL-terminated), its output in DIR/counted. */
static bool run_under(const struct bench *b, char *const *tool, char **argv, const char *workload,
                      uint64_t count)
{
    char phase[64], path[4200], self[4096];
    char *command[64];
    int n = 0, status;
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length < 0)
        bench_die("/proc/self/exe", strerror(errno));
    self[length] = '\0';
    for (; tool[n]; n++)
        command[n] = tool[n];
    command[n++] = self;
    for (int i = 1; argv[i] && n < 63; i++)
        command[n++] = argv[i];
    command[n] = NULL;
    snprintf(phase, sizeof phase, "%s %llu", workload, (unsigned long long)count);
    snprintf(path, sizeof path, "%s/counted", b->dir);
    subject_remove(b, "phase");
    fflush(stdout);
    pid_t child = fork();
    if (child < 0)
        bench_die("fork", strerror(errno));
    if (child == 0) {
        int out = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (out < 0 || dup2(out, 2) < 0 || dup2(out, 1) < 0 || setenv(PHASE, phase, 1) != 0)
            _exit(126);
        execvp(command[0], command);
        _exit(127);
    }
    if (waitpid(child, &status, 0) < 0)
        bench_die("waitpid", strerror(errno));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
        fprintf(stderr, "costs: %s is not installed: what it counts is left out\n", tool[0]);
        return false;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        die_with_output(path, tool[0]);
    return true;
}

/* The number behind a word in DIR/counted. */
static uint64_t counted_number(const struct bench *b, const char *word)
{
    char path[4200], line[512], *at;
    unsigned long long value = 0;
    bool found = false;
    snprintf(path, sizeof path, "%s/counted", b->dir);
    FILE *f = fopen(path, "r");
    while (f && !found && fgets(line, sizeof line, f))
        if ((at = strstr(line, word)) != NULL)
            found = sscanf(at + strlen(word), " : %llu", &value) == 1;
    if (f)
        fclose(f);
    if (!found)
        bench_die("no number in the output of the tool for", word);
    return value;
}

/* Calls between the marks of a workload in the trace DIR/trace: lines that are neither the second half of
 * a call nor a signal. */
static uint64_t traced_calls(const struct bench *b, const char *workload)
{
    char path[4200], line[4096], begin[64], end[64];
    uint64_t calls = 0;
    int within = 0; /* 1: behind the first mark; 2: the second has been there */
    snprintf(path, sizeof path, "%s/trace", b->dir);
    snprintf(begin, sizeof begin, "/dax-bench/%s/begin\"", workload);
    snprintf(end, sizeof end, "/dax-bench/%s/end\"", workload);
    FILE *f = fopen(path, "r");
    while (f && within < 2 && fgets(line, sizeof line, f)) {
        if (strstr(line, within ? end : begin))
            within++;
        else if (within && !strstr(line, "resumed>") && !strstr(line, " +++ ") &&
                 !strstr(line, " --- "))
            calls++;
    }
    if (f)
        fclose(f);
    if (within < 2)
        bench_die("the trace does not have both marks of", workload);
    return calls;
}

static bool is_counted(const struct bench *b, unsigned i)
{
    return bench_wants(b, counted[i].workload) && (counted[i].quick || b->size == BENCH_FULL);
}

/* All workloads in one run: tracing a start takes longest. */
static void count_system_calls(const struct bench *b, char **argv, uint64_t count)
{
    char trace[4200], names[64] = "";
    char *const strace[] = {"strace", "-f", "-s", "64", "-o", trace, NULL};
    snprintf(trace, sizeof trace, "%s/trace", b->dir);
    for (unsigned i = 0; i < COUNTED; i++)
        if (is_counted(b, i))
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s",
                     names[0] ? "," : "", counted[i].workload);
    if (!names[0] || !run_under(b, strace, argv, names, count))
        return;
    for (unsigned i = 0; i < COUNTED; i++)
        if (is_counted(b, i))
            report(counted[i].workload, counted[i].parameter, "syscalls",
                   (double)traced_calls(b, counted[i].workload) /
                       (double)count_of(counted[i].workload, count),
                   "1/op");
}

static void count_instructions(const struct bench *b, char **argv, uint64_t count)
{
    static char *const callgrind[] = {"valgrind",
                                      "--tool=callgrind",
                                      "--collect-atstart=no",
                                      "--toggle-collect=costs_measured*",
                                      "--callgrind-out-file=/dev/null",
                                      NULL};
    for (unsigned i = 0; i < COUNTED; i++)
        if (is_counted(b, i) && run_under(b, callgrind, argv, counted[i].workload, count))
            report(counted[i].workload, counted[i].parameter, "instructions",
                   (double)counted_number(b, "Collected") /
                       (double)count_of(counted[i].workload, count),
                   "1/op");
}

/* --- memory ------------------------------------------------------------------------------------- */

/* In a process of its own: here it would leave memory behind that the first connections then need not ask
 * for. */
static void fill_elsewhere(const struct bench *b, uint64_t random)
{
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (child < 0)
        bench_die("fork", strerror(errno));
    if (child == 0) {
        struct kv *kv = kv_open(b, "memory");
        fill(kv, &random);
        kv_close(kv);
        _exit(0);
    }
    if (waitpid(child, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        bench_die("memory", "the process that fills the database has failed");
}

static void measure_memory(const struct bench *b)
{
    static const unsigned numbers[] = {1, 10, 100};
    static struct kv *all[100];
    unsigned most = subject_is_alone(b->subject) ? 1 : (unsigned)bench_scale(b, 100, 100, 10);
    uint64_t random = b->seed;
    char parameter[32];
    unsigned open = 0;
    if (!bench_wants(b, "memory"))
        return;
    if (!subject_keeps_nothing(b->subject))
        fill_elsewhere(b, random);
    uint64_t before = process_anonymous_bytes();
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers && numbers[i] <= most; i++) {
        for (; open < numbers[i]; open++) {
            all[open] = kv_open(b, "memory");
            if (subject_keeps_nothing(b->subject))
                fill(all[open], &random);
            for (unsigned k = 0; k < 200; k++)
                one(all[open], "select", &random);
            one(all[open], "scan", &random);
            one(all[open], "update", &random);
        }
        uint64_t now = process_anonymous_bytes();
        snprintf(parameter, sizeof parameter, "connections=%u", open);
        report("memory", parameter, "memory", (double)(now > before ? now - before : 0), "B");
    }
    while (open)
        kv_close(all[--open]);
}

int main(int argc, char **argv)
{
    struct bench b;
    bench_start(&b, argc, argv);
    rows = bench_scale(&b, 10000, 10000, 2000);
    if (getenv(PHASE)) {
        run_phase(&b, getenv(PHASE));
        return 0;
    }
    measure_memory(&b);
    uint64_t count = bench_scale(&b, 2000, 300, 10);
    count_system_calls(&b, argv, count);
    if (b.size != BENCH_TINY) /* valgrind alone takes seconds to start */
        count_instructions(&b, argv, count);
    subject_remove(&b, "phase");
    return 0;
}
