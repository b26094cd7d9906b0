/* sizes.c: how do costs grow with the database, and what is it to have just opened it?
 *
 * Databases of 10 MB to 8 GB of rows of 1000 bytes, as far as there are twice as much space and memory
 * (a full run; a quick one ends at 100 MB). Each is filled in transactions of 10 000 rows, closed, opened again, and asked for random rows:
 *
 *   open, size=N               time ms from opening to the first row; close the same at the end
 *   select, size=N;state=cold  time us/op of the first reads after opening: nothing is in a cache of
 *                              SQLite's, nothing is mapped. (The file is in memory, as on a tmpfs.)
 *   select, size=N;state=warm  the same, later
 *   update, size=N;state=warm  one-row transactions
 *
 * Of :memory: there is nothing to be opened again, so only the warm ones.
 */
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "bench/common/alone.h"
#include "bench/common/clock.h"
#include "bench/common/kv.h"
#include "bench/common/measure.h"
#include "bench/common/process.h"
#include "bench/common/report.h"

#define ROW_BYTES 1000
#define BATCH 10000
#define HUGE_BYTES (UINT64_C(2) << 30)

struct sized {
    struct kv *kv;
    uint64_t rows;
    uint64_t random;
    uint64_t sum;
    unsigned char row[ROW_BYTES];
};

static void op_select(void *arg, uint64_t i)
{
    struct sized *s = arg;
    unsigned char row[ROW_BYTES];
    (void)i;
    if (kv_get(s->kv, random_below(&s->random, s->rows), row, sizeof row) != ROW_BYTES)
        bench_die("select", "a row is missing");
    s->sum += row[0];
}

static void op_update(void *arg, uint64_t i)
{
    struct sized *s = arg;
    uint64_t word = random_next(&s->random);
    memcpy(s->row + i % (ROW_BYTES - sizeof word), &word, sizeof word);
    kv_update(s->kv, random_below(&s->random, s->rows), s->row, ROW_BYTES);
}

static void fill(struct sized *s)
{
    for (uint64_t i = 0; i < s->rows;) {
        kv_begin(s->kv, true);
        for (uint64_t end = i + BATCH; i < end && i < s->rows; i++) {
            uint64_t word = random_next(&s->random);
            memcpy(s->row + i % (ROW_BYTES - sizeof word), &word, sizeof word);
            kv_insert(s->kv, i, s->row, ROW_BYTES);
        }
        kv_commit(s->kv);
    }
}

static void reopened(const struct bench *b, struct sized *s, const char *size, const char *name)
{
    char parameter[64];
    uint64_t count = bench_scale(b, 2000, 500, 20);
    alone_begin();
    uint64_t start = wall_ns();
    kv_close(s->kv);
    report("close", size, "time", (double)(wall_ns() - start) / 1e6, "ms");
    start = wall_ns();
    s->kv = kv_open(b, name);
    op_select(s, 0);
    report("open", size, "time", (double)(wall_ns() - start) / 1e6, "ms");
    start = wall_ns();
    for (uint64_t i = 0; i < count; i++)
        op_select(s, i);
    uint64_t cold = wall_ns() - start;
    alone_end();
    snprintf(parameter, sizeof parameter, "%s;state=cold", size);
    report("select", parameter, "time", (double)cold / 1e3 / (double)count, "us/op");
}

static void measure_size(const struct bench *b, uint64_t bytes, const char *text)
{
    struct sized s = {.rows = bytes / (ROW_BYTES + 24), .random = b->seed};
    char size[32], parameter[64], name[32];
    uint64_t ms = bench_scale(b, 500, 50, 2);
    snprintf(size, sizeof size, "size=%s", text);
    snprintf(parameter, sizeof parameter, "%s;state=warm", size);
    snprintf(name, sizeof name, "sized%s", text);
    random_fill(&s.random, s.row, sizeof s.row);
    s.kv = kv_open(b, name);
    fill(&s);
    if (!subject_keeps_nothing(b->subject))
        reopened(b, &s, size, name);
    measure_time(
        &(struct measure){.workload = "select", .parameter = parameter, .op = op_select, .arg = &s},
        ms);
    measure_time(
        &(struct measure){.workload = "update", .parameter = parameter, .op = op_update, .arg = &s},
        ms);
    kv_close(s.kv);
    subject_remove(b, name);
}

/* Free space of the medium and free memory, which on a tmpfs are the same. */
static bool has_room(const struct bench *b, uint64_t bytes)
{
    struct statvfs fs;
    if (statvfs(b->dir, &fs) != 0)
        bench_die(b->dir, "statvfs failed");
    return (uint64_t)fs.f_bavail * fs.f_frsize >= bytes * 2 &&
           process_number("/proc/meminfo", "MemAvailable") >= bytes * 2;
}

/* Minutes each: for those only whose answer is another one. */
static bool is_asked_for_huge(enum subject s)
{
    return s == SUBJECT_DAX || s == SUBJECT_WAL_FULL || s == SUBJECT_MEMORY || s == SUBJECT_LMDB;
}

int main(int argc, char **argv)
{
    static const struct {
        uint64_t bytes;
        const char *text;
        enum bench_size from, to;
    } sizes[] = {
        {1u << 20, "1m", BENCH_TINY, BENCH_TINY},
        {10u << 20, "10m", BENCH_QUICK, BENCH_FULL},
        {100u << 20, "100m", BENCH_QUICK, BENCH_FULL},
        {1u << 30, "1g", BENCH_FULL, BENCH_FULL},
        {UINT64_C(8) << 30, "8g", BENCH_FULL, BENCH_FULL},
    };
    struct bench b;
    bench_start(&b, argc, argv);
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (b.size < sizes[i].from || b.size > sizes[i].to)
            continue;
        if (sizes[i].bytes > HUGE_BYTES && !is_asked_for_huge(b.subject))
            continue;
        if (has_room(&b, sizes[i].bytes))
            measure_size(&b, sizes[i].bytes, sizes[i].text);
        else
            fprintf(stderr, "sizes: %s: left out: twice as much space and memory is needed\n",
                    sizes[i].text);
    }
    return 0;
}
