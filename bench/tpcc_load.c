/* tpcc_load.c: tables of the TPC-C-like mix and their first rows (clause 4.3.3 of the specification).
 *
 * Tables with short rows and a key of several columns are WITHOUT ROWID; customer and stock, whose rows
 * are long, are ordinary tables with an index on the key, as SQLite's documentation advises.
 */
#include "bench/tpcc.h"

#include <stdio.h>
#include <string.h>

static const char schema[] =
    "CREATE TABLE warehouse(w_id INTEGER PRIMARY KEY, w_name TEXT, w_street_1 TEXT, w_street_2 "
    "TEXT,"
    " w_city TEXT, w_state TEXT, w_zip TEXT, w_tax INTEGER, w_ytd INTEGER);"
    "CREATE TABLE district(d_w_id INTEGER, d_id INTEGER, d_name TEXT, d_street_1 TEXT,"
    " d_street_2 TEXT, d_city TEXT, d_state TEXT, d_zip TEXT, d_tax INTEGER, d_ytd INTEGER,"
    " d_next_o_id INTEGER, PRIMARY KEY(d_w_id, d_id)) WITHOUT ROWID;"
    "CREATE TABLE customer(c_w_id INTEGER, c_d_id INTEGER, c_id INTEGER, c_first TEXT, c_middle "
    "TEXT,"
    " c_last TEXT, c_street_1 TEXT, c_street_2 TEXT, c_city TEXT, c_state TEXT, c_zip TEXT,"
    " c_phone TEXT, c_since INTEGER, c_credit TEXT, c_credit_lim INTEGER, c_discount INTEGER,"
    " c_balance INTEGER, c_ytd_payment INTEGER, c_payment_cnt INTEGER, c_delivery_cnt INTEGER,"
    " c_data TEXT, PRIMARY KEY(c_w_id, c_d_id, c_id));"
    "CREATE TABLE history(h_c_id INTEGER, h_c_d_id INTEGER, h_c_w_id INTEGER, h_d_id INTEGER,"
    " h_w_id INTEGER, h_date INTEGER, h_amount INTEGER, h_data TEXT);"
    "CREATE TABLE orders(o_w_id INTEGER, o_d_id INTEGER, o_id INTEGER, o_c_id INTEGER,"
    " o_entry_d INTEGER, o_carrier_id INTEGER, o_ol_cnt INTEGER, o_all_local INTEGER,"
    " PRIMARY KEY(o_w_id, o_d_id, o_id)) WITHOUT ROWID;"
    "CREATE TABLE new_order(no_w_id INTEGER, no_d_id INTEGER, no_o_id INTEGER,"
    " PRIMARY KEY(no_w_id, no_d_id, no_o_id)) WITHOUT ROWID;"
    "CREATE TABLE item(i_id INTEGER PRIMARY KEY, i_im_id INTEGER, i_name TEXT, i_price INTEGER,"
    " i_data TEXT);"
    "CREATE TABLE stock(s_w_id INTEGER, s_i_id INTEGER, s_quantity INTEGER, s_dist_01 TEXT,"
    " s_dist_02 TEXT, s_dist_03 TEXT, s_dist_04 TEXT, s_dist_05 TEXT, s_dist_06 TEXT, s_dist_07 "
    "TEXT,"
    " s_dist_08 TEXT, s_dist_09 TEXT, s_dist_10 TEXT, s_ytd INTEGER, s_order_cnt INTEGER,"
    " s_remote_cnt INTEGER, s_data TEXT, PRIMARY KEY(s_w_id, s_i_id));"
    "CREATE TABLE order_line(ol_w_id INTEGER, ol_d_id INTEGER, ol_o_id INTEGER, ol_number INTEGER,"
    " ol_i_id INTEGER, ol_supply_w_id INTEGER, ol_delivery_d INTEGER, ol_quantity INTEGER,"
    " ol_amount INTEGER, ol_dist_info TEXT, PRIMARY KEY(ol_w_id, ol_d_id, ol_o_id, ol_number))"
    " WITHOUT ROWID;";

/* After the rows: an index is built once, not grown. */
static const char indexes[] =
    "CREATE INDEX customer_by_name ON customer(c_w_id, c_d_id, c_last, c_first);"
    "CREATE INDEX orders_by_customer ON orders(o_w_id, o_d_id, o_c_id, o_id);";

struct loader {
    sqlite3 *db;
    struct draw draw;
    struct tpcc_constants constants;
    struct tpcc_scale scale;
    int rc;
    char text[512];
};

/* ---------------------------------------------------------------- binding */

/* A row is bound column by column; errors stay in l->rc, and what follows does nothing. */
struct row {
    sqlite3_stmt *stmt;
    int column;
};

static struct row loader_prepare(struct loader *l, const char *sql)
{
    struct row r = {NULL, 0};
    if (l->rc == SQLITE_OK)
        l->rc = sqlite3_prepare_v2(l->db, sql, -1, &r.stmt, NULL);
    return r;
}

static void put_number(struct loader *l, struct row *r, int64_t value)
{
    if (l->rc == SQLITE_OK)
        l->rc = sqlite3_bind_int64(r->stmt, ++r->column, value);
}

static void put_null(struct loader *l, struct row *r)
{
    if (l->rc == SQLITE_OK)
        l->rc = sqlite3_bind_null(r->stmt, ++r->column);
}

static void put_text(struct loader *l, struct row *r, const char *text)
{
    if (l->rc == SQLITE_OK)
        l->rc = sqlite3_bind_text(r->stmt, ++r->column, text, -1, SQLITE_TRANSIENT);
}

static void put_random(struct loader *l, struct row *r, int64_t low, int64_t high)
{
    draw_text(&l->draw, l->text, (size_t)draw_between(&l->draw, low, high));
    put_text(l, r, l->text);
}

/* i_data and s_data: one in ten has "ORIGINAL" somewhere. */
static void put_data(struct loader *l, struct row *r)
{
    size_t length = (size_t)draw_between(&l->draw, 26, 50);
    draw_text(&l->draw, l->text, length);
    if (draw_between(&l->draw, 1, 10) == 1)
        memcpy(l->text + draw_between(&l->draw, 0, (int64_t)length - 8), "ORIGINAL", 8);
    put_text(l, r, l->text);
}

/* Two streets, city, state, zip. */
static void put_address(struct loader *l, struct row *r)
{
    char zip[16];
    put_random(l, r, 10, 20);
    put_random(l, r, 10, 20);
    put_random(l, r, 10, 20);
    put_random(l, r, 2, 2);
    snprintf(zip, sizeof(zip), "%04u11111", (unsigned)draw_between(&l->draw, 0, 9999));
    put_text(l, r, zip);
}

static void put_row(struct loader *l, struct row *r)
{
    if (l->rc == SQLITE_OK) {
        sqlite3_step(r->stmt);
        l->rc = sqlite3_reset(r->stmt);
    }
    r->column = 0;
}

static void loader_sql(struct loader *l, const char *sql)
{
    if (l->rc == SQLITE_OK)
        l->rc = sqlite3_exec(l->db, sql, NULL, NULL, NULL);
}

/* ---------------------------------------------------------------- tables */

static void load_items(struct loader *l)
{
    struct row r = loader_prepare(l, "INSERT INTO item VALUES(?,?,?,?,?)");
    for (int64_t i = 1; i <= l->scale.items && l->rc == SQLITE_OK; i++) {
        put_number(l, &r, i);
        put_number(l, &r, draw_between(&l->draw, 1, 10000));
        put_random(l, &r, 14, 24);
        put_number(l, &r, draw_between(&l->draw, 100, 10000));
        put_data(l, &r);
        put_row(l, &r);
    }
    sqlite3_finalize(r.stmt);
}

static void load_stock(struct loader *l, int64_t w)
{
    struct row r = loader_prepare(l, "INSERT INTO stock VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,0,0,0,?)");
    for (int64_t i = 1; i <= l->scale.items && l->rc == SQLITE_OK; i++) {
        put_number(l, &r, w);
        put_number(l, &r, i);
        put_number(l, &r, draw_between(&l->draw, 10, 100));
        for (int d = 0; d < TPCC_DISTRICTS; d++)
            put_random(l, &r, 24, 24);
        put_data(l, &r);
        put_row(l, &r);
    }
    sqlite3_finalize(r.stmt);
}

static void load_warehouse_row(struct loader *l, int64_t w)
{
    struct row r = loader_prepare(l, "INSERT INTO warehouse VALUES(?,?,?,?,?,?,?,?,?)");
    put_number(l, &r, w);
    put_random(l, &r, 6, 10);
    put_address(l, &r);
    put_number(l, &r, draw_between(&l->draw, 0, 2000));
    put_number(l, &r, TPCC_DISTRICTS * l->scale.customers * TPCC_FIRST_PAYMENT);
    put_row(l, &r);
    sqlite3_finalize(r.stmt);
}

static void load_district_row(struct loader *l, int64_t w, int64_t d)
{
    struct row r = loader_prepare(l, "INSERT INTO district VALUES(?,?,?,?,?,?,?,?,?,?,?)");
    put_number(l, &r, w);
    put_number(l, &r, d);
    put_random(l, &r, 6, 10);
    put_address(l, &r);
    put_number(l, &r, draw_between(&l->draw, 0, 2000));
    put_number(l, &r, l->scale.customers * TPCC_FIRST_PAYMENT);
    put_number(l, &r, l->scale.customers + 1);
    put_row(l, &r);
    sqlite3_finalize(r.stmt);
}

static void load_customer(struct loader *l, struct row *r, int64_t w, int64_t d, int64_t c)
{
    char name[32];
    int64_t number = c <= 1000 ? c - 1 : tpcc_draw_name(&l->draw, &l->scale, l->constants.last);
    put_number(l, r, w);
    put_number(l, r, d);
    put_number(l, r, c);
    put_random(l, r, 8, 16);
    put_text(l, r, "OE");
    tpcc_last_name((unsigned)number, name);
    put_text(l, r, name);
    put_address(l, r);
    put_random(l, r, 16, 16);
    put_number(l, r, 0);
    put_text(l, r, draw_between(&l->draw, 1, 10) == 1 ? "BC" : "GC");
    put_number(l, r, 5000000);
    put_number(l, r, draw_between(&l->draw, 0, 5000));
    put_number(l, r, -TPCC_FIRST_PAYMENT);
    put_number(l, r, TPCC_FIRST_PAYMENT);
    put_number(l, r, 1);
    put_number(l, r, 0);
    put_random(l, r, 300, 500);
    put_row(l, r);
}

static void load_customers(struct loader *l, int64_t w, int64_t d)
{
    struct row customer =
        loader_prepare(l, "INSERT INTO customer VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)");
    struct row history = loader_prepare(l, "INSERT INTO history VALUES(?,?,?,?,?,0,?,?)");
    for (int64_t c = 1; c <= l->scale.customers && l->rc == SQLITE_OK; c++) {
        load_customer(l, &customer, w, d, c);
        put_number(l, &history, c);
        put_number(l, &history, d);
        put_number(l, &history, w);
        put_number(l, &history, d);
        put_number(l, &history, w);
        put_number(l, &history, TPCC_FIRST_PAYMENT);
        put_random(l, &history, 12, 24);
        put_row(l, &history);
    }
    sqlite3_finalize(customer.stmt);
    sqlite3_finalize(history.stmt);
}

static void load_lines(struct loader *l, struct row *r, const int64_t key[3], int64_t count)
{
    bool delivered = key[2] < tpcc_first_new(&l->scale);
    for (int64_t n = 1; n <= count; n++) {
        put_number(l, r, key[0]);
        put_number(l, r, key[1]);
        put_number(l, r, key[2]);
        put_number(l, r, n);
        put_number(l, r, draw_between(&l->draw, 1, l->scale.items));
        put_number(l, r, key[0]);
        if (delivered)
            put_number(l, r, 0);
        else
            put_null(l, r);
        put_number(l, r, 5);
        put_number(l, r, delivered ? 0 : draw_between(&l->draw, 1, 999999));
        put_random(l, r, 24, 24);
        put_row(l, r);
    }
}

/* Customers in random order, one order each. */
static void shuffle_customers(struct loader *l, int64_t ids[TPCC_CUSTOMERS_MAX])
{
    for (int64_t i = 0; i < l->scale.customers; i++)
        ids[i] = i + 1;
    for (int64_t i = l->scale.customers - 1; i > 0; i--) {
        int64_t j = draw_between(&l->draw, 0, i), other = ids[j];
        ids[j] = ids[i];
        ids[i] = other;
    }
}

static void load_orders(struct loader *l, int64_t w, int64_t d)
{
    int64_t customers[TPCC_CUSTOMERS_MAX];
    struct row order = loader_prepare(l, "INSERT INTO orders VALUES(?,?,?,?,0,?,?,1)");
    struct row lines = loader_prepare(l, "INSERT INTO order_line VALUES(?,?,?,?,?,?,?,?,?,?)");
    struct row new_order = loader_prepare(l, "INSERT INTO new_order VALUES(?,?,?)");
    shuffle_customers(l, customers);
    for (int64_t o = 1; o <= l->scale.customers && l->rc == SQLITE_OK; o++) {
        const int64_t key[3] = {w, d, o};
        int64_t count = draw_between(&l->draw, TPCC_LINES_MIN, TPCC_LINES_MAX);
        for (int i = 0; i < 3; i++)
            put_number(l, &order, key[i]);
        put_number(l, &order, customers[o - 1]);
        if (o < tpcc_first_new(&l->scale))
            put_number(l, &order, draw_between(&l->draw, 1, 10));
        else
            put_null(l, &order);
        put_number(l, &order, count);
        put_row(l, &order);
        load_lines(l, &lines, key, count);
        if (o < tpcc_first_new(&l->scale))
            continue;
        for (int i = 0; i < 3; i++)
            put_number(l, &new_order, key[i]);
        put_row(l, &new_order);
    }
    sqlite3_finalize(order.stmt);
    sqlite3_finalize(lines.stmt);
    sqlite3_finalize(new_order.stmt);
}

int tpcc_load(sqlite3 *db, const struct tpcc_scale *scale, uint64_t seed)
{
    struct loader l = {.db = db,
                       .draw = draw_stream(seed, 0),
                       .constants = tpcc_constants_load(seed),
                       .scale = *scale,
                       .rc = SQLITE_OK};
    loader_sql(&l, "BEGIN");
    loader_sql(&l, schema);
    load_items(&l);
    loader_sql(&l, "COMMIT");
    for (int64_t w = 1; w <= scale->warehouses; w++) {
        loader_sql(&l, "BEGIN");
        load_warehouse_row(&l, w);
        load_stock(&l, w);
        for (int64_t d = 1; d <= TPCC_DISTRICTS; d++) {
            load_district_row(&l, w, d);
            load_customers(&l, w, d);
            load_orders(&l, w, d);
        }
        loader_sql(&l, "COMMIT");
    }
    loader_sql(&l, indexes);
    return l.rc;
}
