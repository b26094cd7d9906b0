/* ycsb.c: the six workloads of YCSB (Cooper et al., SoCC 2010) on keys and values, LMDB included.
 *
 *   ycsb_a  50 % reads, 50 % updates           ycsb_d  95 % reads of recent records, 5 % inserts
 *   ycsb_b  95 % reads, 5 % updates            ycsb_e  95 % scans of 1 .. 100, 5 % inserts
 *   ycsb_c  reads                              ycsb_f  50 % reads, 50 % read, modify, store back
 *
 * Records of 1000 bytes, ten fields of 100. Record i is the i-th one stored; its key is i scattered over
 * 63 bits, so neighbours in popularity are none in the table. Popularity is zipfian with theta 0.99
 * (draw.h); in D the newest record is the most popular one. A and B replace the whole value, F changes
 * one field within a transaction. Every operation is a transaction of its own, by one client, and every
 * value read must be that of its record.
 *
 *   ycsb_X, -                             time and cpu us/op, rate op/s
 *   ycsb_X, op=read|update|insert|...     p50 p99 p99.9 max us
 */
#include <stdio.h>
#include <string.h>

#include "bench/common/alone.h"
#include "bench/common/clock.h"
#include "bench/common/kv.h"
#include "bench/common/report.h"
#include "bench/common/subject.h"
#include "bench/draw.h"

#define RECORD_BYTES 1000
#define FIELD_BYTES 100
#define SCAN_MAX 100
#define THETA 0.99
#define LOAD_BATCH 10000

enum operation {
    OP_READ,
    OP_UPDATE,
    OP_INSERT,
    OP_SCAN,
    OP_MODIFY,
    OPERATIONS
};

static const char *const operation_names[OPERATIONS] = {"read", "update", "insert", "scan",
                                                        "modify"};

/* Hundredths of the operations; D draws from the newest. In this order: D and E add records. */
static const struct workload {
    const char *name;
    int share[OPERATIONS];
    bool latest;
} workloads[] = {
    {"ycsb_a", {[OP_READ] = 50, [OP_UPDATE] = 50}, false},
    {"ycsb_b", {[OP_READ] = 95, [OP_UPDATE] = 5}, false},
    {"ycsb_c", {[OP_READ] = 100}, false},
    {"ycsb_f", {[OP_READ] = 50, [OP_MODIFY] = 50}, false},
    {"ycsb_d", {[OP_READ] = 95, [OP_INSERT] = 5}, true},
    {"ycsb_e", {[OP_SCAN] = 95, [OP_INSERT] = 5}, false},
};

struct ycsb {
    struct kv *kv;
    uint64_t records;
    struct draw_zipf zipf; /* over all records */
    struct draw draw;
    uint64_t sum; /* of bytes that scans have touched */
    unsigned char value[RECORD_BYTES];
};

static uint64_t record_key(uint64_t record)
{
    return draw_scatter(record + 1) >> 1;
}

/* Random bytes that begin with the record's number. */
static void fill_value(struct ycsb *y, uint64_t record)
{
    random_fill(&y->draw.state, y->value, RECORD_BYTES);
    memcpy(y->value, &record, sizeof(record));
}

static void read_record(struct ycsb *y, uint64_t record)
{
    uint64_t found;
    if (kv_get(y->kv, record_key(record), y->value, RECORD_BYTES) != RECORD_BYTES)
        bench_die("read", "the record is not there, or has another size");
    memcpy(&found, y->value, sizeof(found));
    if (found != record)
        bench_die("read", "the value of another record");
}

static void modify_record(struct ycsb *y, uint64_t record)
{
    uint64_t field = (uint64_t)draw_between(&y->draw, 1, RECORD_BYTES / FIELD_BYTES - 1);
    kv_begin(y->kv, true);
    read_record(y, record);
    random_fill(&y->draw.state, y->value + field * FIELD_BYTES, FIELD_BYTES);
    kv_update(y->kv, record_key(record), y->value, RECORD_BYTES);
    kv_commit(y->kv);
}

static void insert_record(struct ycsb *y)
{
    fill_value(y, y->records);
    kv_insert(y->kv, record_key(y->records), y->value, RECORD_BYTES);
    y->records++;
    draw_zipf_grow(&y->zipf, 1);
}

static void scan_records(struct ycsb *y, uint64_t record)
{
    uint64_t count = (uint64_t)draw_between(&y->draw, 1, SCAN_MAX);
    if (kv_scan(y->kv, record_key(record), count, &y->sum) == 0)
        bench_die("scan", "nothing found where a record is");
}

static enum operation draw_operation(struct ycsb *y, const struct workload *w)
{
    int percent = (int)draw_between(&y->draw, 0, 99);
    int op = 0;
    while (percent >= w->share[op])
        percent -= w->share[op++];
    return (enum operation)op;
}

static enum operation run_operation(struct ycsb *y, const struct workload *w)
{
    enum operation op = draw_operation(y, w);
    uint64_t record = draw_zipf_rank(&y->zipf, &y->draw);
    if (w->latest)
        record = y->records - 1 - record;
    switch (op) {
    case OP_READ: read_record(y, record); break;
    case OP_UPDATE:
        fill_value(y, record);
        kv_update(y->kv, record_key(record), y->value, RECORD_BYTES);
        break;
    case OP_INSERT: insert_record(y); break;
    case OP_SCAN: scan_records(y, record); break;
    default: modify_record(y, record); break;
    }
    return op;
}

static void run_workload(struct ycsb *y, const struct workload *w, uint64_t operations,
                         uint64_t limit_ns)
{
    static struct latency latency[OPERATIONS];
    char parameter[32];
    memset(latency, 0, sizeof(latency));
    alone_begin();
    uint64_t done = 0, cpu = cpu_ns(), begin = wall_ns(), now = begin;
    for (; done < operations && now - begin < limit_ns; done++) {
        enum operation op = run_operation(y, w);
        uint64_t after = wall_ns();
        latency_add(&latency[op], after - now);
        now = after;
    }
    cpu = cpu_ns() - cpu;
    alone_end();
    report(w->name, NULL, "cpu", (double)cpu / 1e3 / (double)done, "us/op");
    report(w->name, NULL, "time", (double)(now - begin) / 1e3 / (double)done, "us/op");
    report(w->name, NULL, "rate", (double)done * 1e9 / (double)(now - begin), "op/s");
    for (int op = 0; op < OPERATIONS; op++) {
        if (latency[op].count == 0)
            continue;
        snprintf(parameter, sizeof(parameter), "op=%s", operation_names[op]);
        report_latency(w->name, parameter, &latency[op]);
    }
}

static void load_records(struct ycsb *y, uint64_t records)
{
    for (uint64_t i = 0; i < records; i++) {
        if (i % LOAD_BATCH == 0)
            kv_begin(y->kv, true);
        fill_value(y, i);
        kv_insert(y->kv, record_key(i), y->value, RECORD_BYTES);
        if ((i + 1) % LOAD_BATCH == 0 || i + 1 == records)
            kv_commit(y->kv);
    }
    y->records = records;
    draw_zipf_make(&y->zipf, records, THETA);
}

int main(int argc, char **argv)
{
    struct bench b;
    bench_start(&b, argc, argv);
    struct ycsb y = {.kv = kv_open(&b, "ycsb"), .draw = draw_stream(b.seed, 0)};
    uint64_t operations = bench_scale(&b, 150000, 20000, 300);
    uint64_t limit_ns = bench_scale(&b, 2, 1, 1) * UINT64_C(1000000000);
    load_records(&y, bench_scale(&b, 300000, 20000, 1000));
    for (size_t i = 0; i < sizeof(workloads) / sizeof(*workloads); i++)
        if (bench_wants(&b, workloads[i].name))
            run_workload(&y, &workloads[i], operations, limit_ns);
    kv_close(y.kv);
    return 0;
}
