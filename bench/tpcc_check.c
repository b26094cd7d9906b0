/* tpcc_check.c: is the database of the TPC-C-like mix what its clients were told?
 *
 * Each query gives the warehouses or districts where a condition fails. 1 - 4 are those which the
 * specification demands (clause 3.3.2); 5 and 8 are two of its further ones. Then the sums of what
 * clients were told to be committed must be the growth of the tables: a lost or repeated transaction
 * would satisfy the conditions and still show here. Last, SQLite's own check of all pages.
 */
#include "bench/tpcc.h"

#include <stdio.h>

static const struct {
    const char *name;
    const char *sql;
} conditions[] = {
    {"condition 1: w_ytd is the sum of d_ytd",
     "SELECT w_id FROM warehouse WHERE w_ytd <>"
     " (SELECT sum(d_ytd) FROM district WHERE d_w_id = w_id)"},
    {"condition 2: d_next_o_id - 1 is the newest order and the newest new order",
     "SELECT d_w_id, d_id FROM district WHERE d_next_o_id - 1 <>"
     " (SELECT max(o_id) FROM orders WHERE o_w_id = d_w_id AND o_d_id = d_id)"
     " OR d_next_o_id - 1 <> coalesce("
     " (SELECT max(no_o_id) FROM new_order WHERE no_w_id = d_w_id AND no_d_id = d_id),"
     " d_next_o_id - 1)"},
    {"condition 3: new orders have no gaps",
     "SELECT no_w_id, no_d_id FROM new_order GROUP BY no_w_id, no_d_id"
     " HAVING max(no_o_id) - min(no_o_id) + 1 <> count(*)"},
    {"condition 4: o_ol_cnt counts the order's lines",
     "SELECT d_w_id, d_id FROM district WHERE"
     " (SELECT sum(o_ol_cnt) FROM orders WHERE o_w_id = d_w_id AND o_d_id = d_id) <>"
     " (SELECT count(*) FROM order_line WHERE ol_w_id = d_w_id AND ol_d_id = d_id)"},
    {"condition 5: an order has no carrier as long as it is a new order",
     "SELECT o_w_id, o_d_id FROM orders WHERE (o_carrier_id IS NULL) <>"
     " EXISTS(SELECT 1 FROM new_order WHERE no_w_id = o_w_id AND no_d_id = o_d_id"
     " AND no_o_id = o_id)"},
    {"condition 8: w_ytd is the sum of the history",
     "SELECT w_id FROM warehouse WHERE w_ytd <>"
     " (SELECT sum(h_amount) FROM history WHERE h_w_id = w_id)"},
    {"PRAGMA integrity_check", "SELECT integrity_check FROM pragma_integrity_check"
                               " WHERE integrity_check <> 'ok'"},
};

/* A count of the loaded tables' growth, and what it must be. */
struct growth {
    const char *name;
    const char *sql;
    int64_t expected;
};

static int check_condition(sqlite3 *db, const char *name, const char *sql)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        fprintf(stderr, "tpcc: %s: fails at %s\n", name,
                (const char *)sqlite3_column_text(stmt, 0));
    else if (rc != SQLITE_DONE)
        fprintf(stderr, "tpcc: %s: %s\n", name, sqlite3_errmsg(db));
    sqlite3_finalize(stmt);
    return rc != SQLITE_DONE;
}

static int check_growth(sqlite3 *db, const struct growth *g)
{
    sqlite3_stmt *stmt = NULL;
    int failed = 1;
    if (sqlite3_prepare_v2(db, g->sql, -1, &stmt, NULL) != SQLITE_OK ||
        sqlite3_step(stmt) != SQLITE_ROW)
        fprintf(stderr, "tpcc: %s: %s\n", g->name, sqlite3_errmsg(db));
    else if (sqlite3_column_int64(stmt, 0) != g->expected)
        fprintf(stderr, "tpcc: %s: %lld in the database, clients were told %lld\n", g->name,
                (long long)sqlite3_column_int64(stmt, 0), (long long)g->expected);
    else
        failed = 0;
    sqlite3_finalize(stmt);
    return failed;
}

int tpcc_check(sqlite3 *db, const struct tpcc_scale *scale, const struct tpcc_told *told)
{
    int64_t districts = scale->warehouses * TPCC_DISTRICTS;
    int64_t loaded = districts * scale->customers;
    int64_t loaded_new = districts * (scale->customers - tpcc_first_new(scale) + 1);
    int failed = 0;
    const struct growth growths[] = {
        {"orders", "SELECT count(*) FROM orders", loaded + told->committed[TPCC_NEW_ORDER]},
        {"new orders", "SELECT count(*) FROM new_order",
         loaded_new + told->committed[TPCC_NEW_ORDER] - told->delivered},
        {"payments", "SELECT count(*) FROM history", loaded + told->committed[TPCC_PAYMENT]},
        {"amounts paid", "SELECT sum(w_ytd) FROM warehouse",
         loaded * TPCC_FIRST_PAYMENT + told->paid},
        {"customers' payments", "SELECT sum(c_ytd_payment) FROM customer",
         loaded * TPCC_FIRST_PAYMENT + told->paid},
        {"lines ordered from stock", "SELECT sum(s_order_cnt) FROM stock", told->lines},
        {"deliveries to customers", "SELECT sum(c_delivery_cnt) FROM customer", told->delivered},
    };
    for (size_t i = 0; i < sizeof(conditions) / sizeof(*conditions); i++)
        failed += check_condition(db, conditions[i].name, conditions[i].sql);
    for (size_t i = 0; i < sizeof(growths) / sizeof(*growths); i++)
        failed += check_growth(db, &growths[i]);
    return failed;
}
