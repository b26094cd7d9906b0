/* statements.c: what does one statement cost?
 *
 * Rows of 100 random bytes under even keys, read and updated in random order, one transaction per
 * statement: select, scan (10 and 1000 rows from a random key on), update, insert and delete of the odd
 * keys between them. With `indexes=1` and `4` the table has as many columns that hold random numbers, all
 * indexed and all given new values by an update. `transaction`: updates, so many in one transaction;
 * times are for one row.
 *
 * What is stored is counted in a second database (stores.h), with the same statements.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/clock.h"
#include "bench/common/kv.h"
#include "bench/common/measure.h"
#include "bench/common/stores.h"

#define ROW_BYTES 100

struct table {
    const struct bench *b;
    uint64_t rows;
    uint64_t random;
    uint64_t scan_rows;
    uint64_t transaction_rows;
    uint64_t sum; /* of what was read: nothing may be optimized away */
    struct kv *kv;
    sqlite3 *db; /* with indexes */
    unsigned indexes;
    sqlite3_stmt *insert, *update, *remove;
    unsigned char row[ROW_BYTES];
};

/* --- without indexes: all subjects ------------------------------------------------------------ */

static uint64_t some_key(struct table *t)
{
    return random_below(&t->random, t->rows) * 2 + 2;
}

/* Odd keys in no order, each once within `rows` operations: 7368787 is a prime and no factor of it. */
static uint64_t new_key(const struct table *t, uint64_t i)
{
    return (i * 7368787) % t->rows * 2 + 1;
}

static const unsigned char *new_row(struct table *t, uint64_t i)
{
    uint64_t word = random_next(&t->random);
    memcpy(t->row + i % (ROW_BYTES - sizeof word), &word, sizeof word);
    return t->row;
}

static void op_select(void *arg, uint64_t i)
{
    struct table *t = arg;
    unsigned char row[ROW_BYTES];
    (void)i;
    if (kv_get(t->kv, some_key(t), row, sizeof row) != ROW_BYTES)
        bench_die("select", "a row is missing");
    t->sum += row[0];
}

static void op_scan(void *arg, uint64_t i)
{
    struct table *t = arg;
    (void)i;
    uint64_t from = random_below(&t->random, t->rows - t->scan_rows) * 2 + 2;
    if (kv_scan(t->kv, from, t->scan_rows, &t->sum) != t->scan_rows)
        bench_die("scan", "rows are missing");
}

static void op_update(void *arg, uint64_t i)
{
    struct table *t = arg;
    kv_update(t->kv, some_key(t), new_row(t, i), ROW_BYTES);
}

static void op_insert(void *arg, uint64_t i)
{
    struct table *t = arg;
    kv_insert(t->kv, new_key(t, i), new_row(t, i), ROW_BYTES);
}

static void op_delete(void *arg, uint64_t i)
{
    struct table *t = arg;
    kv_delete(t->kv, new_key(t, i));
}

static void op_transaction(void *arg, uint64_t i)
{
    struct table *t = arg;
    kv_begin(t->kv, true);
    for (uint64_t k = 0; k < t->transaction_rows; k++)
        kv_update(t->kv, some_key(t), new_row(t, i + k), ROW_BYTES);
    kv_commit(t->kv);
}

static void plain_open(struct table *t, const char *name)
{
    t->kv = kv_open(t->b, name);
    random_fill(&t->random, t->row, sizeof t->row);
    kv_begin(t->kv, true);
    for (uint64_t i = 0; i < t->rows; i++) {
        random_fill(&t->random, t->row, sizeof t->row);
        kv_insert(t->kv, i * 2 + 2, t->row, ROW_BYTES);
    }
    kv_commit(t->kv);
}

/* --- with indexes: SQLite --------------------------------------------------------------------- */

/* Columns of random numbers, then the row's bytes; the key is ?1. */
static void bind_columns(struct table *t, sqlite3_stmt *stmt, uint64_t key, uint64_t i)
{
    sqlite3_bind_int64(stmt, 1, (sqlite3_int64)key);
    for (unsigned k = 0; k < t->indexes; k++)
        sqlite3_bind_int64(stmt, (int)k + 2, (sqlite3_int64)(random_next(&t->random) >> 16));
    sqlite3_bind_blob(stmt, (int)t->indexes + 2, new_row(t, i), ROW_BYTES, SQLITE_STATIC);
    sql_step(stmt);
}

static void op_indexed_update(void *arg, uint64_t i)
{
    struct table *t = arg;
    bind_columns(t, t->update, some_key(t), i);
}

static void op_indexed_insert(void *arg, uint64_t i)
{
    struct table *t = arg;
    bind_columns(t, t->insert, new_key(t, i), i);
}

static void op_indexed_delete(void *arg, uint64_t i)
{
    struct table *t = arg;
    sqlite3_bind_int64(t->remove, 1, (sqlite3_int64)new_key(t, i));
    sql_step(t->remove);
}

static void indexed_open(struct table *t, const char *name, unsigned indexes)
{
    char columns[64] = "", values[64] = "", sets[128] = "", sql[512];
    t->db = subject_open(t->b, name);
    t->indexes = indexes;
    for (unsigned k = 0; k < indexes; k++) {
        snprintf(columns + strlen(columns), sizeof columns - strlen(columns), "c%u INT, ", k);
        snprintf(values + strlen(values), sizeof values - strlen(values), "?%u, ", k + 2);
        snprintf(sets + strlen(sets), sizeof sets - strlen(sets), "c%u = ?%u, ", k, k + 2);
    }
    snprintf(sql, sizeof sql, "CREATE TABLE x(id INTEGER PRIMARY KEY, %sv BLOB)", columns);
    sql_run(t->db, sql);
    for (unsigned k = 0; k < indexes; k++) {
        snprintf(sql, sizeof sql, "CREATE INDEX x%u ON x(c%u)", k, k);
        sql_run(t->db, sql);
    }
    snprintf(sql, sizeof sql, "INSERT INTO x VALUES(?1, %s?%u)", values, indexes + 2);
    t->insert = sql_prepare(t->db, sql);
    snprintf(sql, sizeof sql, "UPDATE x SET %sv = ?%u WHERE id = ?1", sets, indexes + 2);
    t->update = sql_prepare(t->db, sql);
    t->remove = sql_prepare(t->db, "DELETE FROM x WHERE id = ?");
    sql_run(t->db, "BEGIN");
    for (uint64_t i = 0; i < t->rows; i++)
        bind_columns(t, t->insert, i * 2 + 2, i);
    sql_run(t->db, "COMMIT");
}

static void table_close(struct table *t)
{
    if (t->kv)
        kv_close(t->kv);
    if (t->db) {
        sqlite3_finalize(t->insert);
        sqlite3_finalize(t->update);
        sqlite3_finalize(t->remove);
        sql_close(t->db);
    }
}

/* --- what is measured -------------------------------------------------------------------------- */

/* Times in the one pass, what is stored in the other. */
static void measure_one(struct table *t, const struct measure *m, uint64_t wall_ms, uint64_t count)
{
    if (!bench_wants(t->b, m->workload) && !(m->undo && bench_wants(t->b, m->undo_workload)))
        return;
    if (!t->b->counted)
        measure_time(m, wall_ms);
    else if (count)
        measure_stores(t->b, m, t->kv ? kv_sqlite(t->kv) : t->db, count, wall_ms * 8);
}

static void measure_plain(const struct bench *b, uint64_t rows, const char *name)
{
    static const uint64_t transactions[] = {1, 10, 100, 1000, 10000};
    struct table t = {.b = b, .rows = rows, .random = b->seed};
    char parameter[32];
    uint64_t ms = bench_scale(b, 150, 40, 2);
    plain_open(&t, name);
    measure_one(&t, &(struct measure){.workload = "select", .op = op_select, .arg = &t}, ms, 0);
    for (t.scan_rows = 10; t.scan_rows <= 1000; t.scan_rows *= 100) {
        snprintf(parameter, sizeof parameter, "rows=%u", (unsigned)t.scan_rows);
        measure_one(
            &t,
            &(struct measure){.workload = "scan", .parameter = parameter, .op = op_scan, .arg = &t},
            ms, 0);
    }
    measure_one(&t,
                &(struct measure){
                    .workload = "update", .parameter = "indexes=0", .op = op_update, .arg = &t},
                ms * 2, rows / 2);
    measure_one(&t,
                &(struct measure){.workload = "insert",
                                  .undo_workload = "delete",
                                  .parameter = "indexes=0",
                                  .op = op_insert,
                                  .undo = op_delete,
                                  .arg = &t,
                                  .batch = rows / 5},
                ms, rows / 5);
    for (unsigned i = 0; i < sizeof transactions / sizeof *transactions; i++) {
        t.transaction_rows = transactions[i];
        snprintf(parameter, sizeof parameter, "rows=%u", (unsigned)transactions[i]);
        measure_one(&t,
                    &(struct measure){.workload = "transaction",
                                      .parameter = parameter,
                                      .op = op_transaction,
                                      .arg = &t,
                                      .rows = transactions[i]},
                    ms, rows / transactions[i] / 10 + 1);
    }
    table_close(&t);
}

static void measure_indexed(const struct bench *b, uint64_t rows, const char *name,
                            unsigned indexes)
{
    struct table t = {.b = b, .rows = rows, .random = b->seed};
    char parameter[32], full_name[32];
    uint64_t ms = bench_scale(b, 150, 40, 2);
    if (b->subject == SUBJECT_LMDB)
        return;
    snprintf(parameter, sizeof parameter, "indexes=%u", indexes);
    snprintf(full_name, sizeof full_name, "%s%u", name, indexes);
    indexed_open(&t, full_name, indexes);
    measure_one(
        &t,
        &(struct measure){
            .workload = "update", .parameter = parameter, .op = op_indexed_update, .arg = &t},
        ms, rows / 2);
    measure_one(&t,
                &(struct measure){.workload = "insert",
                                  .undo_workload = "delete",
                                  .parameter = parameter,
                                  .op = op_indexed_insert,
                                  .undo = op_indexed_delete,
                                  .arg = &t,
                                  .batch = rows / 5},
                ms, rows / 5);
    table_close(&t);
}

int main(int argc, char **argv)
{
    struct bench b;
    bench_start(&b, argc, argv);
    uint64_t rows = bench_scale(&b, 100000, 100000, 2000);
    uint64_t indexed_rows = bench_scale(&b, 100000, 20000, 2000);
    measure_plain(&b, rows, "plain");
    measure_indexed(&b, indexed_rows, "indexed", 1);
    measure_indexed(&b, indexed_rows, "indexed", 4);
    if (subject_keeps_nothing(b.subject))
        return 0;
    b.counted = true;
    measure_plain(&b, bench_scale(&b, 100000, 20000, 2000), "counted");
    measure_indexed(&b, bench_scale(&b, 100000, 10000, 2000), "counted_indexed", 1);
    measure_indexed(&b, bench_scale(&b, 100000, 10000, 2000), "counted_indexed", 4);
    return 0;
}
