/* pinned.c: what does a reader cost that stays in one snapshot while everybody else goes on updating?
 *
 * A statement has fetched one row and is not reset: it holds a snapshot, and a page. Then one-row updates
 * go by, 5 million in a full run, all over the table. On the way, now and then: how large are the log and
 * the database file, how much DRAM do the versions take? Then the statement fetches all its other rows, which
 * must be those of the beginning, and ends; one more update and a checkpoint follow.
 *
 *   pinned, updates=N                   log_live (of a WAL: the file's size), file_bytes (allocated, the
 *                                       database file), sidecar_bytes (allocated; -dax or -wal), memory (DRAM
 *                                       of versions, by daxlite's own count), anonymous (memory of the
 *                                       process that no file backs), each B; time and cpu
 *                                       us/op since the sample before
 *   pinned, reader=pinned|ended|checkpointed    the same at the end of the updates, after the reader, and
 *                                       after the checkpoint
 *   pinned, -                           pages_changed 1, memory_per_page ratio (of changed pages' bytes, at
 *                                       the worst sample), updates 1 (see below)
 *
 * Systems whose log or file grows with each update, or whose updates become slower with each (stock
 * SQLite looks through its whole WAL after every commit, for pages that can go home), are stopped at a
 * limit of bytes or of time, long before the 5 millionth update: `updates` says how far they came.
 */
#include <stdio.h>
#include <string.h>

#include "bench/common/clock.h"
#include "bench/common/kv.h"
#include "bench/common/process.h"
#include "bench/common/report.h"
#include "bench/common/subject.h"
#include "bench/draw.h"

#define VALUE_BYTES 100

/* When to look, in thousandths of all updates. */
static const unsigned sample_at[] = {2,   5,   10,  20,  50,  100, 200, 300,
                                     400, 500, 600, 700, 800, 900, 1000};

struct pinned {
    const struct bench *bench;
    struct kv *writer;
    uint64_t rows;
    uint64_t updates;
    uint64_t limit_bytes; /* of file and log together */
    uint64_t limit_ns;    /* for all updates */
    uint64_t memory_worst;
    struct draw draw;
    unsigned char value[VALUE_BYTES];
};

/* The reader: a statement that has not ended, or a read transaction of LMDB. */
struct reader {
    struct kv *kv;
    sqlite3_stmt *scan;
    uint64_t count;
    uint64_t sum;
};

static void update_row(struct pinned *p)
{
    random_fill(&p->draw.state, p->value, VALUE_BYTES);
    kv_update(p->writer, (uint64_t)draw_between(&p->draw, 1, (int64_t)p->rows), p->value,
              VALUE_BYTES);
}

static void load_rows(struct pinned *p)
{
    kv_begin(p->writer, true);
    for (uint64_t key = 1; key <= p->rows; key++) {
        random_fill(&p->draw.state, p->value, VALUE_BYTES);
        kv_insert(p->writer, key, p->value, VALUE_BYTES);
    }
    kv_commit(p->writer);
}

/* ---------------------------------------------------------------- the reader */

/* Whatever the order, so that half of one state and half of another cannot give the sum of either. */
static uint64_t row_sum(uint64_t key, const void *value)
{
    uint64_t sum = 0, word;
    for (size_t at = 0; at + sizeof(word) <= VALUE_BYTES; at += sizeof(word)) {
        memcpy(&word, (const unsigned char *)value + at, sizeof(word));
        sum = draw_scatter(sum + word);
    }
    return draw_scatter(sum + key);
}

static bool reader_row(struct reader *r)
{
    int rc = sqlite3_step(r->scan);
    if (rc == SQLITE_DONE)
        return false;
    if (rc != SQLITE_ROW || sqlite3_column_bytes(r->scan, 1) != VALUE_BYTES)
        bench_die("the reader's row", sqlite3_errmsg(kv_sqlite(r->kv)));
    r->sum += row_sum((uint64_t)sqlite3_column_int64(r->scan, 0), sqlite3_column_blob(r->scan, 1));
    r->count++;
    return true;
}

static void reader_key(struct reader *r, uint64_t key)
{
    unsigned char value[VALUE_BYTES];
    if (kv_get(r->kv, key, value, VALUE_BYTES) != VALUE_BYTES)
        bench_die("the reader's row", "is not there");
    r->sum += row_sum(key, value);
    r->count++;
}

static void reader_begin(struct pinned *p, struct reader *r)
{
    *r = (struct reader){.kv = kv_open(p->bench, "pinned")};
    if (kv_sqlite(r->kv)) {
        r->scan = sql_prepare(kv_sqlite(r->kv), "SELECT id, v FROM t ORDER BY id");
        reader_row(r);
        return;
    }
    kv_begin(r->kv, false);
    reader_key(r, 1);
}

/* Reads what is left. */
static void reader_finish(struct pinned *p, struct reader *r)
{
    if (!r->scan) {
        for (uint64_t key = 2; key <= p->rows; key++)
            reader_key(r, key);
        kv_commit(r->kv);
    } else {
        while (reader_row(r)) {
        }
        sqlite3_finalize(r->scan);
    }
    kv_close(r->kv);
}

/* ---------------------------------------------------------------- samples */

static int64_t status(struct pinned *p, const char *path)
{
    char sql[128];
    snprintf(sql, sizeof(sql), "SELECT dax_status() ->> '%s'", path);
    return sql_number(kv_sqlite(p->writer), sql);
}

static uint64_t file_bytes(const struct pinned *p)
{
    return subject_file_allocated(p->bench, "pinned", "");
}

static uint64_t sidecar_bytes(const struct pinned *p)
{
    return subject_file_allocated(p->bench, "pinned",
                                  subject_is_dax(p->bench->subject) ? "-dax" : "-wal");
}

static void sample(struct pinned *p, const char *parameter)
{
    uint64_t live = subject_file_size(p->bench, "pinned", "-wal"), memory = 0;
    if (subject_is_dax(p->bench->subject)) {
        live = (uint64_t)status(p, "$.log.live");
        memory = (uint64_t)status(p, "$.frames.used") * 4096;
    }
    if (memory > p->memory_worst)
        p->memory_worst = memory;
    report("pinned", parameter, "log_live", (double)live, "B");
    report("pinned", parameter, "file_bytes", (double)file_bytes(p), "B");
    report("pinned", parameter, "sidecar_bytes", (double)sidecar_bytes(p), "B");
    report("pinned", parameter, "memory", (double)memory, "B");
    report("pinned", parameter, "anonymous", (double)process_anonymous_bytes(), "B");
}

/* Leaves of the table: each has been changed if every row was drawn, which so many updates see to. */
static uint64_t pages_changed(struct pinned *p)
{
    return 1 + (uint64_t)sql_number(kv_sqlite(p->writer),
                                    "SELECT count(*) FROM dbstat WHERE name = 't'"
                                    " AND pagetype = 'leaf'");
}

/* Returns how many were done. */
static uint64_t run_updates(struct pinned *p)
{
    uint64_t done = 0, end = wall_ns() + p->limit_ns;
    char parameter[64];
    sample(p, "updates=0");
    for (size_t i = 0; i < sizeof(sample_at) / sizeof(*sample_at); i++) {
        uint64_t count = p->updates * sample_at[i] / 1000 - done;
        uint64_t cpu = cpu_ns(), begin = wall_ns();
        for (uint64_t n = 0; n < count; n++, done++) {
            if (n % 64 == 0 && wall_ns() > end)
                return done;
            update_row(p);
        }
        double ns = (double)(wall_ns() - begin), cpu_used = (double)(cpu_ns() - cpu);
        snprintf(parameter, sizeof(parameter), "updates=%llu", (unsigned long long)done);
        sample(p, parameter);
        report("pinned", parameter, "time", ns / 1e3 / (double)count, "us/op");
        report("pinned", parameter, "cpu", cpu_used / 1e3 / (double)count, "us/op");
        if (file_bytes(p) + sidecar_bytes(p) > p->limit_bytes)
            break;
    }
    return done;
}

static void checkpoint(struct pinned *p)
{
    if (subject_is_dax(p->bench->subject))
        sql_run(kv_sqlite(p->writer), "SELECT dax_checkpoint('truncate')");
    else if (kv_sqlite(p->writer))
        sql_run(kv_sqlite(p->writer), "PRAGMA wal_checkpoint(TRUNCATE)");
}

int main(int argc, char **argv)
{
    struct bench b;
    struct reader before, reader;
    bench_start(&b, argc, argv);
    if (subject_is_alone(b.subject))
        bench_skip("there is no second connection to it, or it is as dax");
    if (b.subject == SUBJECT_ROLLBACK)
        bench_skip("a reader keeps the writer out");
    struct pinned p = {.bench = &b,
                       .writer = kv_open(&b, "pinned"),
                       .rows = bench_scale(&b, 100000, 20000, 1000),
                       .updates = bench_scale(&b, 5000000, 200000, 10000),
                       .limit_bytes = bench_scale(&b, 2048, 512, 64) << 20,
                       .limit_ns = bench_scale(&b, 30, 3, 1) * UINT64_C(1000000000),
                       .draw = draw_stream(b.seed, 0)};
    load_rows(&p);
    checkpoint(&p);
    reader_begin(&p, &before);
    reader_finish(&p, &before);
    reader_begin(&p, &reader);
    uint64_t done = run_updates(&p);
    sample(&p, "reader=pinned");
    reader_finish(&p, &reader);
    if (reader.count != p.rows || reader.sum != before.sum)
        bench_die("the reader", "has not seen the state in which it began");
    update_row(&p);
    sample(&p, "reader=ended");
    checkpoint(&p);
    sample(&p, "reader=checkpointed");
    report("pinned", NULL, "updates", (double)done, "1");
    if (subject_is_dax(b.subject)) {
        report("pinned", NULL, "pages_changed", (double)pages_changed(&p), "1");
        report("pinned", NULL, "memory_per_page",
               (double)p.memory_worst / 4096 / (double)pages_changed(&p), "ratio");
    }
    kv_close(p.writer);
    return 0;
}
