/* tpcc.h: a TPC-C-like mix: what its files share.
 *
 * TPC-C-like, not TPC-C: the tables, the five transactions, their proportions, NURand and the
 * consistency conditions follow the specification (revision 5.11); terminals, their thinking times,
 * the response-time rules and the audit are left out. The figures cannot be compared with published
 * results of the TPC, only with each other in one run. Amounts are whole cents.
 */
#ifndef BENCH_TPCC_H
#define BENCH_TPCC_H

#include "bench/draw.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#define TPCC_DISTRICTS 10       /* per warehouse */
#define TPCC_CUSTOMERS_MAX 3000 /* per district */
#define TPCC_LINES_MIN 5
#define TPCC_LINES_MAX 15
#define TPCC_FIRST_PAYMENT 1000 /* cents, one by each customer */

enum tpcc_kind {
    TPCC_NEW_ORDER,
    TPCC_PAYMENT,
    TPCC_ORDER_STATUS,
    TPCC_DELIVERY,
    TPCC_STOCK_LEVEL,
    TPCC_KINDS
};

/* The specification's: any number of warehouses, 100 000 items, 3 000 customers per district and as many
 * orders. Smaller ones are for smoke tests. */
struct tpcc_scale {
    int64_t warehouses;
    int64_t items;
    int64_t customers;
};

/* Initial orders from here on are not delivered: the last three tenths. */
static inline int64_t tpcc_first_new(const struct tpcc_scale *s)
{
    return s->customers * 7 / 10 + 1;
}

extern const char *const tpcc_kind_names[TPCC_KINDS];

/* C of NURand: one of the load, another of the run (clause 2.1.6.1). */
struct tpcc_constants {
    int64_t last;
    int64_t customer;
    int64_t item;
};

/* What clients have been told is committed: the database must say the same in the end. */
struct tpcc_told {
    int64_t committed[TPCC_KINDS];
    int64_t rolled_back; /* New-Order with an item that does not exist: 1 % */
    int64_t busy;        /* begun again, because the writer's place was taken or the snapshot old */
    int64_t paid;        /* sum of all payments */
    int64_t lines;       /* order lines of committed New-Orders */
    int64_t delivered;   /* orders */
};

#define TPCC_STATEMENTS_MAX 48

/* One connection and its statements. One thread. */
struct tpcc_client {
    sqlite3 *db;
    sqlite3_stmt *statements[TPCC_STATEMENTS_MAX];
    struct draw draw;
    struct tpcc_constants constants;
    struct tpcc_scale scale;
    int64_t date; /* seconds, counted on by transactions so that runs repeat */
    struct tpcc_told told;
    int rc; /* of the running transaction: the first error; statements after it do nothing */
    char error[256];
};

/* NURand(a, low, high), clause 2.1.6. */
int64_t tpcc_nurand(struct draw *d, int64_t a, int64_t low, int64_t high, int64_t constant);

/* NURand of a last name's number; fewer customers than names have the first names only. */
int64_t tpcc_draw_name(struct draw *d, const struct tpcc_scale *scale, int64_t constant);

/* The last name of a number in [0, 999], clause 4.3.2.3; `name_out` has 32 bytes. Returns its length. */
unsigned tpcc_last_name(unsigned number, char *name_out);

/* Constants of the load; those of a run are derived from them as the specification allows. */
struct tpcc_constants tpcc_constants_load(uint64_t seed);
struct tpcc_constants tpcc_constants_run(uint64_t seed);

/* Makes the tables and fills them, one transaction per warehouse. SQLITE_OK, or the error of `db`. */
int tpcc_load(sqlite3 *db, const struct tpcc_scale *scale, uint64_t seed);

/* Prepares everything on `db`, which stays the caller's. */
int tpcc_client_open(struct tpcc_client *c, sqlite3 *db, const struct tpcc_scale *scale,
                     uint64_t seed, unsigned number);
void tpcc_client_close(struct tpcc_client *c);

/* The next transaction of the mix; runs it until it is committed or, by specification, rolled back.
 * false: an error that is not BUSY, described in c->error. */
bool tpcc_client_step(struct tpcc_client *c, enum tpcc_kind *kind_out);

/* Consistency conditions of clause 3.3.2, and that everything told is there: 0, or how many fail; each
 * is described on stderr. `told` is the sum over all clients since the load. */
int tpcc_check(sqlite3 *db, const struct tpcc_scale *scale, const struct tpcc_told *told);

#endif
