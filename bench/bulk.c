/* bulk.c: what do operations on a whole table cost, and large values?
 *
 *   load, -           a million rows of 100 bytes (fewer in quick runs) in one transaction, in the order
 *                     of their keys: time and cpu s, rate rows/s; stored_total: bytes that went to the
 *                     medium, log and database; database_bytes: how large it is then
 *   create_index, -   on 8 bytes of each row; sorted in memory
 *   vacuum, -         with that index; its temporary copy in memory
 *   blob_read, blob_store; bytes=N   one value, from 1 KiB to 1 MiB, read (copied) and replaced, one
 *                     transaction each
 *
 * Stock SQLite goes through the counting VFS throughout: it takes no time beside such operations.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench/common/alone.h"
#include "bench/common/clock.h"
#include "bench/common/kv.h"
#include "bench/common/measure.h"
#include "bench/common/report.h"
#include "bench/common/stores.h"

#define ROW_BYTES 100
#define BLOB_BYTES_MAX (1u << 20) /* 1, 8, 64, 512 KiB and this */

/* --- whole tables ------------------------------------------------------------------------------ */

static uint64_t stored_total(const struct stores *before, const struct stores *after)
{
    return after->log_bytes - before->log_bytes + after->base_bytes - before->base_bytes +
           after->other_bytes - before->other_bytes;
}

static void load(const struct bench *b, struct kv *kv, uint64_t rows)
{
    unsigned char row[ROW_BYTES];
    uint64_t random = b->seed;
    struct stores before, after;
    stores_read(b, kv_sqlite(kv), &before);
    alone_begin();
    uint64_t wall = wall_ns(), cpu = cpu_ns();
    kv_begin(kv, true);
    for (uint64_t i = 1; i <= rows; i++) {
        random_fill(&random, row, sizeof row);
        kv_insert(kv, i, row, sizeof row);
    }
    kv_commit(kv);
    wall = wall_ns() - wall;
    cpu = cpu_ns() - cpu;
    alone_end();
    stores_read(b, kv_sqlite(kv), &after);
    report("load", NULL, "time", (double)wall / 1e9, "s");
    report("load", NULL, "cpu", (double)cpu / 1e9, "s");
    report("load", NULL, "rate", (double)rows * 1e9 / (double)wall, "rows/s");
    if (subject_keeps_nothing(b->subject))
        return;
    report("load", NULL, "stored_total", (double)stored_total(&before, &after), "B");
    uint64_t size = b->subject == SUBJECT_LMDB
                        ? subject_file_allocated(b, "bulk", "")
                        : (uint64_t)sql_number(kv_sqlite(kv), "PRAGMA page_count") * 4096;
    report("load", NULL, "database_bytes", (double)size, "B");
}

static void time_sql(const struct bench *b, sqlite3 *db, const char *workload, const char *sql)
{
    if (!bench_wants(b, workload))
        return;
    alone_begin();
    uint64_t wall = wall_ns(), cpu = cpu_ns();
    sql_run(db, sql);
    wall = wall_ns() - wall;
    cpu = cpu_ns() - cpu;
    alone_end();
    report(workload, NULL, "time", (double)wall / 1e9, "s");
    report(workload, NULL, "cpu", (double)cpu / 1e9, "s");
}

static void whole_tables(const struct bench *b)
{
    uint64_t rows = bench_scale(b, 1000000, 100000, 2000);
    struct kv *kv = kv_open(b, "bulk");
    load(b, kv, rows);
    if (kv_sqlite(kv)) {
        sql_run(kv_sqlite(kv), "PRAGMA temp_store = MEMORY");
        time_sql(b, kv_sqlite(kv), "create_index", "CREATE INDEX t_v ON t(substr(v, 1, 8))");
        time_sql(b, kv_sqlite(kv), "vacuum", "VACUUM");
        if (sql_number(kv_sqlite(kv), "SELECT count(*) FROM t") != (int64_t)rows)
            bench_die("load", "not all rows are there");
    }
    kv_close(kv);
}

/* --- values ------------------------------------------------------------------------------------- */

struct blobs {
    struct kv *kv;
    uint64_t first; /* key */
    uint64_t count;
    uint64_t bytes;
    uint64_t random;
    uint64_t sum;
    unsigned char *value, *copy;
};

static void op_read(void *arg, uint64_t i)
{
    struct blobs *s = arg;
    (void)i;
    uint64_t key = s->first + random_below(&s->random, s->count);
    if (kv_get(s->kv, key, s->copy, s->bytes) != s->bytes)
        bench_die("blob_read", "a value has another size than was stored");
    s->sum += s->copy[s->bytes - 1];
}

/* Another value each time, or its pages would not differ from what is there. */
static void op_store(void *arg, uint64_t i)
{
    struct blobs *s = arg;
    (void)i;
    uint64_t shift = random_below(&s->random, 4096);
    kv_update(s->kv, s->first + random_below(&s->random, s->count), s->value + shift, s->bytes);
}

static void measure_blobs(const struct bench *b, struct blobs *s)
{
    char parameter[32];
    uint64_t ms = bench_scale(b, 200, 60, 2);
    snprintf(parameter, sizeof parameter, "bytes=%u", (unsigned)s->bytes);
    kv_begin(s->kv, true);
    for (uint64_t i = 0; i < s->count; i++)
        kv_insert(s->kv, s->first + i, s->value + i % 4096, s->bytes);
    kv_commit(s->kv);
    if (bench_wants(b, "blob_read"))
        measure_time(
            &(struct measure){
                .workload = "blob_read", .parameter = parameter, .op = op_read, .arg = s},
            ms);
    if (bench_wants(b, "blob_store"))
        measure_time(
            &(struct measure){
                .workload = "blob_store", .parameter = parameter, .op = op_store, .arg = s},
            ms);
}

static void values(const struct bench *b)
{
    struct blobs s = {.random = b->seed,
                      .kv = kv_open(b, "blobs"),
                      .value = malloc(BLOB_BYTES_MAX + 4096),
                      .copy = malloc(BLOB_BYTES_MAX)};
    uint64_t total = bench_scale(b, 16u << 20, 8u << 20, 2u << 20);
    if (!s.value || !s.copy)
        bench_die("values", "no memory");
    random_fill(&s.random, s.value, BLOB_BYTES_MAX + 4096);
    for (s.bytes = 1024; s.bytes <= BLOB_BYTES_MAX;
         s.bytes = s.bytes == 524288 ? BLOB_BYTES_MAX : s.bytes * 8) {
        s.first += 1000000;
        s.count = total / s.bytes < 1000 ? total / s.bytes : 1000;
        measure_blobs(b, &s);
    }
    kv_close(s.kv);
    free(s.value);
    free(s.copy);
}

int main(int argc, char **argv)
{
    struct bench b;
    bench_start(&b, argc, argv);
    b.counted = true;
    if (bench_wants(&b, "load") || bench_wants(&b, "create_index") || bench_wants(&b, "vacuum"))
        whole_tables(&b);
    if (bench_wants(&b, "blob_read") || bench_wants(&b, "blob_store"))
        values(&b);
    return 0;
}
