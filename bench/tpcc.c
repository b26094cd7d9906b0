/* tpcc.c: how many transactions of an order-entry mix does each subject do, and how long does one take?
 *
 * The TPC-C-like mix (tpcc.h), by one client and then by four on the same database, as fast as they
 * can: there are no terminals that think. A run ends after so many transactions, or at a time limit on
 * slow media. After each the database is checked: a run whose conditions fail is an error, not a result.
 *
 *   tpcc, clients=N             time us/op and rate op/s over all, cpu us/op of its client, busy 1/op
 *   tpcc, clients=N;type=NAME   rate op/s, p50 p99 p99.9 max us
 *
 * Latencies include every repetition after SQLITE_BUSY.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/alone.h"
#include "bench/common/clock.h"
#include "bench/common/report.h"
#include "bench/common/subject.h"
#include "bench/tpcc.h"

#define CLIENTS_MAX 4

struct run {
    const struct bench *bench;
    struct tpcc_scale scale;
    uint64_t transactions; /* per client */
    uint64_t limit_ns;
    pthread_barrier_t start;
};

struct worker {
    struct run *run;
    bool alone; /* the only client */
    sqlite3 *db;
    struct tpcc_client client;
    struct latency latency[TPCC_KINDS];
    uint64_t begin_ns;
    uint64_t end_ns;
    uint64_t cpu_ns;
    pthread_t thread;
};

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    enum tpcc_kind kind;
    pthread_barrier_wait(&w->run->start);
    if (w->alone)
        alone_begin();
    uint64_t cpu = cpu_ns();
    uint64_t now = w->begin_ns = wall_ns(), end = now + w->run->limit_ns;
    for (uint64_t i = 0; i < w->run->transactions && now < end; i++) {
        if (!tpcc_client_step(&w->client, &kind))
            bench_die("tpcc", w->client.error);
        uint64_t after = wall_ns();
        latency_add(&w->latency[kind], after - now);
        now = after;
    }
    w->end_ns = now;
    w->cpu_ns = cpu_ns() - cpu;
    if (w->alone)
        alone_end();
    return NULL;
}

static void told_add(struct tpcc_told *to, const struct tpcc_told *told)
{
    for (int kind = 0; kind < TPCC_KINDS; kind++)
        to->committed[kind] += told->committed[kind];
    to->rolled_back += told->rolled_back;
    to->busy += told->busy;
    to->paid += told->paid;
    to->lines += told->lines;
    to->delivered += told->delivered;
}

static void report_run(const struct worker *workers, unsigned clients, const struct tpcc_told *told)
{
    char parameter[64];
    uint64_t begin = workers[0].begin_ns, end = workers[0].end_ns, cpu = workers[0].cpu_ns;
    uint64_t done = 0;
    for (unsigned i = 1; i < clients; i++) {
        begin = workers[i].begin_ns < begin ? workers[i].begin_ns : begin;
        end = workers[i].end_ns > end ? workers[i].end_ns : end;
        cpu += workers[i].cpu_ns;
    }
    double seconds = (double)(end - begin) / 1e9;
    for (int kind = 0; kind < TPCC_KINDS; kind++) {
        struct latency latency = {0};
        for (unsigned i = 0; i < clients; i++)
            latency_merge(&latency, &workers[i].latency[kind]);
        done += latency.count;
        if (latency.count == 0)
            continue;
        snprintf(parameter, sizeof(parameter), "clients=%u;type=%s", clients,
                 tpcc_kind_names[kind]);
        report("tpcc", parameter, "rate", (double)latency.count / seconds, "op/s");
        report_latency("tpcc", parameter, &latency);
    }
    snprintf(parameter, sizeof(parameter), "clients=%u", clients);
    report("tpcc", parameter, "time", seconds * 1e6 / (double)done, "us/op");
    report("tpcc", parameter, "rate", (double)done / seconds, "op/s");
    report("tpcc", parameter, "cpu", (double)cpu / 1e3 / (double)done, "us/op");
    report("tpcc", parameter, "busy", (double)told->busy / (double)done, "1/op");
}

/* The first client uses `db`, further ones connections of their own. `told` is the sum of all runs. */
static void run_clients(struct run *r, sqlite3 *db, unsigned clients, struct tpcc_told *told)
{
    struct worker *workers = calloc(clients, sizeof(*workers));
    struct tpcc_told told_now = {0};
    if (!workers || pthread_barrier_init(&r->start, NULL, clients) != 0)
        bench_die("tpcc", "no memory");
    for (unsigned i = 0; i < clients; i++) {
        struct worker *w = &workers[i];
        w->run = r;
        w->alone = clients == 1;
        w->db = i == 0 ? db : subject_open(r->bench, "tpcc");
        if (tpcc_client_open(&w->client, w->db, &r->scale, r->bench->seed, clients * 16 + i))
            bench_die("prepare", sqlite3_errmsg(w->db));
    }
    for (unsigned i = 0; i < clients; i++)
        if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0)
            bench_die("pthread_create", "failed");
    for (unsigned i = 0; i < clients; i++)
        pthread_join(workers[i].thread, NULL);
    for (unsigned i = 0; i < clients; i++) {
        told_add(&told_now, &workers[i].client.told);
        tpcc_client_close(&workers[i].client);
        if (i > 0)
            sql_close(workers[i].db);
    }
    told_add(told, &told_now);
    if (tpcc_check(db, &r->scale, told) != 0)
        bench_die("tpcc", "the database is not what its clients were told");
    report_run(workers, clients, &told_now);
    pthread_barrier_destroy(&r->start);
    free(workers);
}

int main(int argc, char **argv)
{
    struct bench b;
    struct tpcc_told told = {0};
    bench_start(&b, argc, argv);
    if (b.subject == SUBJECT_LMDB)
        bench_skip("a mix of SQL statements");
    struct run r = {.bench = &b,
                    .scale = {.warehouses = (int64_t)bench_scale(&b, 4, 1, 1),
                              .items = (int64_t)bench_scale(&b, 100000, 100000, 1000),
                              .customers = (int64_t)bench_scale(&b, 3000, 3000, 60)},
                    .transactions = bench_scale(&b, 40000, 10000, 200),
                    .limit_ns = bench_scale(&b, 4, 2, 1) * UINT64_C(1000000000)};
    sqlite3 *db = subject_open(&b, "tpcc");
    if (tpcc_load(db, &r.scale, b.seed) != SQLITE_OK)
        bench_die("load", sqlite3_errmsg(db));
    run_clients(&r, db, 1, &told);
    r.transactions /= CLIENTS_MAX;
    if (!subject_is_alone(b.subject))
        run_clients(&r, db, CLIENTS_MAX, &told);
    sql_close(db);
    return 0;
}
