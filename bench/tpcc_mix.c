/* tpcc_mix.c: the five transactions of the TPC-C-like mix (clauses 2.4 - 2.8 of the specification).
 *
 * A transaction's input is drawn first, from the client's own stream; one that meets SQLITE_BUSY is
 * rolled back and begun again with the same input. Errors are sticky within a transaction: helpers do
 * nothing after the first one, so that its steps read as in the specification.
 */
#include "bench/tpcc.h"

#include <stdio.h>
#include <string.h>

const char *const tpcc_kind_names[TPCC_KINDS] = {
    "new_order", "payment", "order_status", "delivery", "stock_level",
};

/* In hundredths: the least shares of clause 5.2.3, and New-Order gets the rest. */
static const int kind_shares[TPCC_KINDS] = {45, 43, 4, 4, 4};

enum statement {
    BEGIN_WRITE,
    BEGIN_READ,
    COMMIT,
    WAREHOUSE_TAX,
    WAREHOUSE_PAY,
    WAREHOUSE_GET,
    DISTRICT_NEXT,
    DISTRICT_COUNT,
    DISTRICT_PAY,
    DISTRICT_GET,
    CUSTOMER_GET,
    CUSTOMER_NAMED,
    CUSTOMER_PAY,
    CUSTOMER_PAY_BAD,
    CUSTOMER_DELIVER,
    HISTORY_ADD,
    ORDER_ADD,
    ORDER_LAST,
    ORDER_CUSTOMER,
    ORDER_DELIVER,
    NEW_ORDER_ADD,
    NEW_ORDER_OLDEST,
    NEW_ORDER_DELETE,
    LINE_ADD,
    LINES_GET,
    LINES_DELIVER,
    LINES_SUM,
    ITEM_GET,
    STOCK_PUT,
    STOCK_LOW,
    STOCK_GET, /* and one for each further district: they read different columns */
    STATEMENTS = STOCK_GET + TPCC_DISTRICTS
};

_Static_assert(STATEMENTS <= TPCC_STATEMENTS_MAX, "tpcc_client has room for all statements");

static const char *const statement_texts[STOCK_GET] = {
    [BEGIN_WRITE] = "BEGIN IMMEDIATE",
    [BEGIN_READ] = "BEGIN",
    [COMMIT] = "COMMIT",
    [WAREHOUSE_TAX] = "SELECT w_tax FROM warehouse WHERE w_id = ?",
    [WAREHOUSE_PAY] = "UPDATE warehouse SET w_ytd = w_ytd + ?2 WHERE w_id = ?1",
    [WAREHOUSE_GET] = "SELECT w_name, w_street_1, w_street_2, w_city, w_state, w_zip FROM warehouse"
                      " WHERE w_id = ?",
    [DISTRICT_NEXT] = "SELECT d_next_o_id, d_tax FROM district WHERE d_w_id = ? AND d_id = ?",
    [DISTRICT_COUNT] =
        "UPDATE district SET d_next_o_id = d_next_o_id + 1 WHERE d_w_id = ? AND d_id = ?",
    [DISTRICT_PAY] = "UPDATE district SET d_ytd = d_ytd + ?3 WHERE d_w_id = ?1 AND d_id = ?2",
    [DISTRICT_GET] = "SELECT d_name, d_street_1, d_street_2, d_city, d_state, d_zip FROM district"
                     " WHERE d_w_id = ? AND d_id = ?",
    [CUSTOMER_GET] = "SELECT c_discount, c_credit, c_balance, c_first, c_middle, c_last, c_data"
                     " FROM customer WHERE c_w_id = ? AND c_d_id = ? AND c_id = ?",
    [CUSTOMER_NAMED] = "SELECT c_id FROM customer WHERE c_w_id = ? AND c_d_id = ? AND c_last = ?3"
                       " ORDER BY c_first",
    [CUSTOMER_PAY] = "UPDATE customer SET c_balance = c_balance - ?4,"
                     " c_ytd_payment = c_ytd_payment + ?4, c_payment_cnt = c_payment_cnt + 1"
                     " WHERE c_w_id = ?1 AND c_d_id = ?2 AND c_id = ?3",
    [CUSTOMER_PAY_BAD] = "UPDATE customer SET c_balance = c_balance - ?4,"
                         " c_ytd_payment = c_ytd_payment + ?4, c_payment_cnt = c_payment_cnt + 1,"
                         " c_data = ?5 WHERE c_w_id = ?1 AND c_d_id = ?2 AND c_id = ?3",
    [CUSTOMER_DELIVER] = "UPDATE customer SET c_balance = c_balance + ?4,"
                         " c_delivery_cnt = c_delivery_cnt + 1"
                         " WHERE c_w_id = ?1 AND c_d_id = ?2 AND c_id = ?3",
    [HISTORY_ADD] = "INSERT INTO history VALUES(?3, ?2, ?1, ?5, ?4, ?6, ?7, ?8)",
    [ORDER_ADD] = "INSERT INTO orders VALUES(?, ?, ?, ?, ?, NULL, ?, ?)",
    [ORDER_LAST] = "SELECT o_id, o_entry_d, o_carrier_id, o_ol_cnt FROM orders WHERE o_w_id = ?"
                   " AND o_d_id = ? AND o_c_id = ? ORDER BY o_id DESC LIMIT 1",
    [ORDER_CUSTOMER] = "SELECT o_c_id FROM orders WHERE o_w_id = ? AND o_d_id = ? AND o_id = ?",
    [ORDER_DELIVER] = "UPDATE orders SET o_carrier_id = ?4 WHERE o_w_id = ?1 AND o_d_id = ?2"
                      " AND o_id = ?3",
    [NEW_ORDER_ADD] = "INSERT INTO new_order VALUES(?, ?, ?)",
    [NEW_ORDER_OLDEST] = "SELECT no_o_id FROM new_order WHERE no_w_id = ? AND no_d_id = ?"
                         " ORDER BY no_o_id LIMIT 1",
    [NEW_ORDER_DELETE] = "DELETE FROM new_order WHERE no_w_id = ? AND no_d_id = ? AND no_o_id = ?",
    [LINE_ADD] = "INSERT INTO order_line VALUES(?, ?, ?, ?, ?, ?, NULL, ?, ?, ?)",
    [LINES_GET] = "SELECT ol_i_id, ol_supply_w_id, ol_quantity, ol_amount, ol_delivery_d"
                  " FROM order_line WHERE ol_w_id = ? AND ol_d_id = ? AND ol_o_id = ?",
    [LINES_DELIVER] = "UPDATE order_line SET ol_delivery_d = ?4"
                      " WHERE ol_w_id = ?1 AND ol_d_id = ?2 AND ol_o_id = ?3",
    [LINES_SUM] = "SELECT sum(ol_amount) FROM order_line"
                  " WHERE ol_w_id = ? AND ol_d_id = ? AND ol_o_id = ?",
    [ITEM_GET] = "SELECT i_price, i_name, i_data FROM item WHERE i_id = ?",
    [STOCK_PUT] = "UPDATE stock SET s_quantity = ?3, s_ytd = s_ytd + ?4,"
                  " s_order_cnt = s_order_cnt + 1, s_remote_cnt = s_remote_cnt + ?5"
                  " WHERE s_w_id = ?1 AND s_i_id = ?2",
    [STOCK_LOW] = "SELECT count(DISTINCT s_i_id) FROM order_line CROSS JOIN stock"
                  " WHERE ol_w_id = ?1 AND ol_d_id = ?2 AND ol_o_id >= ?3 - 20 AND ol_o_id < ?3"
                  " AND s_w_id = ?1 AND s_i_id = ol_i_id AND s_quantity < ?4",
};

/* ---------------------------------------------------------------- draws */

int64_t tpcc_nurand(struct draw *d, int64_t a, int64_t low, int64_t high, int64_t constant)
{
    int64_t mixed = draw_between(d, 0, a) | draw_between(d, low, high);
    return (mixed + constant) % (high - low + 1) + low;
}

int64_t tpcc_draw_name(struct draw *d, const struct tpcc_scale *scale, int64_t constant)
{
    int64_t names = scale->customers < 1000 ? scale->customers : 1000;
    return tpcc_nurand(d, 255, 0, names - 1, constant);
}

unsigned tpcc_last_name(unsigned number, char *name_out)
{
    static const char *const syllables[10] = {"BAR", "OUGHT", "ABLE",  "PRI",   "PRES",
                                              "ESE", "ANTI",  "CALLY", "ATION", "EING"};
    return (unsigned)snprintf(name_out, 32, "%s%s%s", syllables[number / 100],
                              syllables[number / 10 % 10], syllables[number % 10]);
}

struct tpcc_constants tpcc_constants_load(uint64_t seed)
{
    struct draw d = draw_stream(seed, 1000);
    struct tpcc_constants c;
    c.last = draw_between(&d, 0, 255);
    c.customer = draw_between(&d, 0, 1023);
    c.item = draw_between(&d, 0, 8191);
    return c;
}

/* The two constants for last names differ by 65 .. 119, but not by 96 or 112 (clause 2.1.6.1). */
struct tpcc_constants tpcc_constants_run(uint64_t seed)
{
    struct tpcc_constants c = tpcc_constants_load(seed);
    c.last += c.last < 128 ? 87 : -87;
    return c;
}

static int64_t draw_customer(struct tpcc_client *c)
{
    return tpcc_nurand(&c->draw, 1023, 1, c->scale.customers, c->constants.customer);
}

/* Another warehouse than `home`, if there is one. */
static int64_t draw_other_warehouse(struct tpcc_client *c, int64_t home)
{
    if (c->scale.warehouses == 1)
        return home;
    int64_t w = draw_between(&c->draw, 1, c->scale.warehouses - 1);
    return w < home ? w : w + 1;
}

/* ---------------------------------------------------------------- statements */

#define NUMBERS(...)                                                                               \
    (const int64_t[]){__VA_ARGS__}, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t))

/* Binds `numbers` to parameters 1 .. count and makes the first step. true: there is a row, and
 * client_done() must follow. */
static bool client_row(struct tpcc_client *c, enum statement id, const int64_t *numbers, int count)
{
    sqlite3_stmt *stmt = c->statements[id];
    if (c->rc != SQLITE_OK)
        return false;
    for (int i = 0; i < count; i++)
        sqlite3_bind_int64(stmt, i + 1, numbers[i]);
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        return true;
    c->rc = sqlite3_reset(stmt);
    return false;
}

static void client_done(struct tpcc_client *c, enum statement id)
{
    int rc = sqlite3_reset(c->statements[id]);
    if (c->rc == SQLITE_OK)
        c->rc = rc;
}

/* A statement that gives no rows. */
static void client_do(struct tpcc_client *c, enum statement id, const int64_t *numbers, int count)
{
    if (client_row(c, id, numbers, count))
        client_done(c, id);
}

static void client_text(struct tpcc_client *c, enum statement id, int parameter, const char *text)
{
    if (c->rc == SQLITE_OK)
        c->rc = sqlite3_bind_text(c->statements[id], parameter, text, -1, SQLITE_TRANSIENT);
}

/* The row must be there: the database says so itself, by its keys. */
static bool client_must(struct tpcc_client *c, enum statement id, const int64_t *numbers, int count)
{
    if (client_row(c, id, numbers, count))
        return true;
    if (c->rc == SQLITE_OK) {
        c->rc = SQLITE_CORRUPT;
        snprintf(c->error, sizeof(c->error), "no row for: %s", sqlite3_sql(c->statements[id]));
    }
    return false;
}

static int64_t client_column(struct tpcc_client *c, enum statement id, int column)
{
    return sqlite3_column_int64(c->statements[id], column);
}

/* The first column of the one row. */
static int64_t client_number(struct tpcc_client *c, enum statement id, const int64_t *numbers,
                             int count)
{
    if (!client_must(c, id, numbers, count))
        return 0;
    int64_t value = client_column(c, id, 0);
    client_done(c, id);
    return value;
}

/* Reads each column of the row as a terminal would show it. */
static size_t client_show(struct tpcc_client *c, enum statement id)
{
    size_t bytes = 0;
    sqlite3_stmt *stmt = c->statements[id];
    for (int i = sqlite3_data_count(stmt) - 1; i >= 0; i--) {
        const unsigned char *text = sqlite3_column_text(stmt, i);
        bytes += text ? strlen((const char *)text) : 0;
    }
    return bytes;
}

/* ---------------------------------------------------------------- New-Order */

struct order_line {
    int64_t item;
    int64_t supply;
    int64_t quantity;
};

struct new_order {
    int64_t w, d, c;
    int64_t count;
    int64_t local; /* all lines are supplied by the home warehouse */
    bool wrong;    /* the last item does not exist */
    struct order_line lines[TPCC_LINES_MAX];
};

static void draw_new_order(struct tpcc_client *c, struct new_order *o)
{
    o->w = draw_between(&c->draw, 1, c->scale.warehouses);
    o->d = draw_between(&c->draw, 1, TPCC_DISTRICTS);
    o->c = draw_customer(c);
    o->count = draw_between(&c->draw, TPCC_LINES_MIN, TPCC_LINES_MAX);
    o->wrong = draw_between(&c->draw, 1, 100) == 1;
    o->local = 1;
    for (int64_t i = 0; i < o->count; i++) {
        struct order_line *line = &o->lines[i];
        line->item = tpcc_nurand(&c->draw, 8191, 1, c->scale.items, c->constants.item);
        line->supply = o->w;
        if (draw_between(&c->draw, 1, 100) == 1)
            line->supply = draw_other_warehouse(c, o->w);
        o->local &= line->supply == o->w;
        line->quantity = draw_between(&c->draw, 1, 10);
    }
    if (o->wrong)
        o->lines[o->count - 1].item = c->scale.items + 1;
}

/* false: no such item, or an error. */
static bool new_order_line(struct tpcc_client *c, const struct new_order *o, int64_t order_id,
                           int64_t number)
{
    const struct order_line *line = &o->lines[number];
    enum statement get = STOCK_GET + (enum statement)(o->d - 1);
    char dist[32] = "";
    int64_t quantity = 0;
    if (!client_row(c, ITEM_GET, NUMBERS(line->item)))
        return false;
    int64_t price = client_column(c, ITEM_GET, 0);
    client_show(c, ITEM_GET);
    client_done(c, ITEM_GET);
    if (client_must(c, get, NUMBERS(line->supply, line->item))) {
        quantity = client_column(c, get, 0);
        snprintf(dist, sizeof(dist), "%s",
                 (const char *)sqlite3_column_text(c->statements[get], 1));
        client_show(c, get);
        client_done(c, get);
    }
    quantity -= line->quantity;
    if (quantity < 10)
        quantity += 91;
    client_do(c, STOCK_PUT,
              NUMBERS(line->supply, line->item, quantity, line->quantity, line->supply != o->w));
    client_text(c, LINE_ADD, 9, dist);
    client_do(c, LINE_ADD,
              NUMBERS(o->w, o->d, order_id, number + 1, line->item, line->supply, line->quantity,
                      price * line->quantity));
    return c->rc == SQLITE_OK;
}

static bool run_new_order(struct tpcc_client *c)
{
    struct new_order o;
    draw_new_order(c, &o);
    client_do(c, BEGIN_WRITE, NULL, 0);
    client_number(c, WAREHOUSE_TAX, NUMBERS(o.w));
    int64_t order_id = client_number(c, DISTRICT_NEXT, NUMBERS(o.w, o.d));
    client_do(c, DISTRICT_COUNT, NUMBERS(o.w, o.d));
    client_number(c, CUSTOMER_GET, NUMBERS(o.w, o.d, o.c));
    client_do(c, ORDER_ADD, NUMBERS(o.w, o.d, order_id, o.c, c->date, o.count, o.local));
    client_do(c, NEW_ORDER_ADD, NUMBERS(o.w, o.d, order_id));
    for (int64_t i = 0; i < o.count; i++)
        if (!new_order_line(c, &o, order_id, i))
            return false;
    client_do(c, COMMIT, NULL, 0);
    if (c->rc == SQLITE_OK)
        c->told.lines += o.count;
    return c->rc == SQLITE_OK;
}

/* ---------------------------------------------------------------- Payment, Order-Status */

/* A customer by number, or (60 %) by last name: then the middle one in the order of first names. */
struct who {
    int64_t w, d, c;
    bool named;
    char last[32];
};

static void draw_who(struct tpcc_client *c, struct who *who)
{
    who->named = draw_between(&c->draw, 1, 100) <= 60;
    who->c = draw_customer(c);
    int64_t number = tpcc_draw_name(&c->draw, &c->scale, c->constants.last);
    tpcc_last_name((unsigned)number, who->last);
}

static void find_who(struct tpcc_client *c, struct who *who)
{
    int64_t found[TPCC_CUSTOMERS_MAX];
    int count = 0;
    if (!who->named)
        return;
    client_text(c, CUSTOMER_NAMED, 3, who->last);
    if (!client_must(c, CUSTOMER_NAMED, NUMBERS(who->w, who->d)))
        return;
    do {
        found[count++] = client_column(c, CUSTOMER_NAMED, 0);
    } while (count < TPCC_CUSTOMERS_MAX &&
             sqlite3_step(c->statements[CUSTOMER_NAMED]) == SQLITE_ROW);
    client_done(c, CUSTOMER_NAMED);
    who->c = found[(count + 1) / 2 - 1];
}

static void pay_customer(struct tpcc_client *c, const struct who *who, int64_t w, int64_t d,
                         int64_t amount)
{
    char data[600], old[501] = "";
    bool bad = false;
    if (client_must(c, CUSTOMER_GET, NUMBERS(who->w, who->d, who->c))) {
        sqlite3_stmt *stmt = c->statements[CUSTOMER_GET];
        bad = strcmp((const char *)sqlite3_column_text(stmt, 1), "BC") == 0;
        snprintf(old, sizeof(old), "%s", (const char *)sqlite3_column_text(stmt, 6));
        client_show(c, CUSTOMER_GET);
        client_done(c, CUSTOMER_GET);
    }
    if (!bad) {
        client_do(c, CUSTOMER_PAY, NUMBERS(who->w, who->d, who->c, amount));
        return;
    }
    snprintf(data, sizeof(data), "%lld %lld %lld %lld %lld %lld|%s", (long long)who->c,
             (long long)who->d, (long long)who->w, (long long)d, (long long)w, (long long)amount,
             old);
    data[500] = '\0';
    client_text(c, CUSTOMER_PAY_BAD, 5, data);
    client_do(c, CUSTOMER_PAY_BAD, NUMBERS(who->w, who->d, who->c, amount));
}

static bool run_payment(struct tpcc_client *c)
{
    struct who who;
    char data[64];
    int64_t w = draw_between(&c->draw, 1, c->scale.warehouses);
    int64_t d = draw_between(&c->draw, 1, TPCC_DISTRICTS);
    int64_t amount = draw_between(&c->draw, 100, 500000);
    bool local = draw_between(&c->draw, 1, 100) <= 85;
    who.w = local ? w : draw_other_warehouse(c, w);
    who.d = local ? d : draw_between(&c->draw, 1, TPCC_DISTRICTS);
    draw_who(c, &who);
    client_do(c, BEGIN_WRITE, NULL, 0);
    client_do(c, WAREHOUSE_PAY, NUMBERS(w, amount));
    data[0] = '\0';
    if (client_must(c, WAREHOUSE_GET, NUMBERS(w))) {
        client_show(c, WAREHOUSE_GET);
        snprintf(data, sizeof(data), "%.10s    ",
                 (const char *)sqlite3_column_text(c->statements[WAREHOUSE_GET], 0));
        client_done(c, WAREHOUSE_GET);
    }
    client_do(c, DISTRICT_PAY, NUMBERS(w, d, amount));
    if (client_must(c, DISTRICT_GET, NUMBERS(w, d))) {
        client_show(c, DISTRICT_GET);
        strncat(data, (const char *)sqlite3_column_text(c->statements[DISTRICT_GET], 0), 10);
        client_done(c, DISTRICT_GET);
    }
    find_who(c, &who);
    pay_customer(c, &who, w, d, amount);
    client_text(c, HISTORY_ADD, 8, data);
    client_do(c, HISTORY_ADD, NUMBERS(who.w, who.d, who.c, w, d, c->date, amount));
    client_do(c, COMMIT, NULL, 0);
    if (c->rc == SQLITE_OK)
        c->told.paid += amount;
    return c->rc == SQLITE_OK;
}

static bool run_order_status(struct tpcc_client *c)
{
    struct who who;
    who.w = draw_between(&c->draw, 1, c->scale.warehouses);
    who.d = draw_between(&c->draw, 1, TPCC_DISTRICTS);
    draw_who(c, &who);
    client_do(c, BEGIN_READ, NULL, 0);
    find_who(c, &who);
    if (client_must(c, CUSTOMER_GET, NUMBERS(who.w, who.d, who.c))) {
        client_show(c, CUSTOMER_GET);
        client_done(c, CUSTOMER_GET);
    }
    int64_t order_id = client_number(c, ORDER_LAST, NUMBERS(who.w, who.d, who.c));
    if (client_must(c, LINES_GET, NUMBERS(who.w, who.d, order_id))) {
        do {
            client_show(c, LINES_GET);
        } while (sqlite3_step(c->statements[LINES_GET]) == SQLITE_ROW);
        client_done(c, LINES_GET);
    }
    client_do(c, COMMIT, NULL, 0);
    return c->rc == SQLITE_OK;
}

/* ---------------------------------------------------------------- Delivery, Stock-Level */

/* All districts in one transaction, as clause 2.7.4.2 permits. */
static bool run_delivery(struct tpcc_client *c)
{
    int64_t w = draw_between(&c->draw, 1, c->scale.warehouses);
    int64_t carrier = draw_between(&c->draw, 1, 10);
    int64_t delivered = 0;
    client_do(c, BEGIN_WRITE, NULL, 0);
    for (int64_t d = 1; d <= TPCC_DISTRICTS; d++) {
        if (!client_row(c, NEW_ORDER_OLDEST, NUMBERS(w, d)))
            continue; /* nothing to deliver in this district, or an error */
        int64_t order_id = client_column(c, NEW_ORDER_OLDEST, 0);
        client_done(c, NEW_ORDER_OLDEST);
        client_do(c, NEW_ORDER_DELETE, NUMBERS(w, d, order_id));
        int64_t customer = client_number(c, ORDER_CUSTOMER, NUMBERS(w, d, order_id));
        client_do(c, ORDER_DELIVER, NUMBERS(w, d, order_id, carrier));
        client_do(c, LINES_DELIVER, NUMBERS(w, d, order_id, c->date));
        int64_t amount = client_number(c, LINES_SUM, NUMBERS(w, d, order_id));
        client_do(c, CUSTOMER_DELIVER, NUMBERS(w, d, customer, amount));
        delivered++;
    }
    client_do(c, COMMIT, NULL, 0);
    if (c->rc == SQLITE_OK)
        c->told.delivered += delivered;
    return c->rc == SQLITE_OK;
}

static bool run_stock_level(struct tpcc_client *c)
{
    int64_t w = draw_between(&c->draw, 1, c->scale.warehouses);
    int64_t d = draw_between(&c->draw, 1, TPCC_DISTRICTS);
    int64_t threshold = draw_between(&c->draw, 10, 20);
    client_do(c, BEGIN_READ, NULL, 0);
    int64_t next = client_number(c, DISTRICT_NEXT, NUMBERS(w, d));
    client_number(c, STOCK_LOW, NUMBERS(w, d, next, threshold));
    client_do(c, COMMIT, NULL, 0);
    return c->rc == SQLITE_OK;
}

/* ---------------------------------------------------------------- clients */

int tpcc_client_open(struct tpcc_client *c, sqlite3 *db, const struct tpcc_scale *scale,
                     uint64_t seed, unsigned number)
{
    int rc = SQLITE_OK;
    *c = (struct tpcc_client){.db = db,
                              .draw = draw_stream(seed, 1 + number),
                              .constants = tpcc_constants_run(seed),
                              .scale = *scale};
    for (int id = 0; id < STATEMENTS && rc == SQLITE_OK; id++) {
        char stock[128];
        const char *text = stock;
        if (id < STOCK_GET)
            text = statement_texts[id];
        else
            snprintf(stock, sizeof(stock),
                     "SELECT s_quantity, s_dist_%02d, s_data FROM stock"
                     " WHERE s_w_id = ? AND s_i_id = ?",
                     id - STOCK_GET + 1);
        rc = sqlite3_prepare_v3(db, text, -1, SQLITE_PREPARE_PERSISTENT, &c->statements[id], NULL);
    }
    return rc;
}

void tpcc_client_close(struct tpcc_client *c)
{
    for (int id = 0; id < STATEMENTS; id++)
        sqlite3_finalize(c->statements[id]);
    *c = (struct tpcc_client){0};
}

static enum tpcc_kind draw_kind(struct tpcc_client *c)
{
    int64_t percent = draw_between(&c->draw, 0, 99);
    int kind = 0;
    while (percent >= kind_shares[kind])
        percent -= kind_shares[kind++];
    return (enum tpcc_kind)kind;
}

static bool run_kind(struct tpcc_client *c, enum tpcc_kind kind)
{
    switch (kind) {
    case TPCC_NEW_ORDER: return run_new_order(c);
    case TPCC_PAYMENT: return run_payment(c);
    case TPCC_ORDER_STATUS: return run_order_status(c);
    case TPCC_DELIVERY: return run_delivery(c);
    default: return run_stock_level(c);
    }
}

/* The transaction ended without COMMIT. true: so it should, or it is to be begun again. */
static bool client_undo(struct tpcc_client *c)
{
    if (c->rc != SQLITE_OK && c->error[0] == '\0')
        snprintf(c->error, sizeof(c->error), "%s (%d)", sqlite3_errmsg(c->db),
                 sqlite3_extended_errcode(c->db));
    if (!sqlite3_get_autocommit(c->db)) {
        int rc = sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
        if (rc != SQLITE_OK && c->rc == SQLITE_OK)
            c->rc = rc;
    }
    return c->rc == SQLITE_OK || (c->rc & 0xFF) == SQLITE_BUSY;
}

bool tpcc_client_step(struct tpcc_client *c, enum tpcc_kind *kind_out)
{
    enum tpcc_kind kind = *kind_out = draw_kind(c);
    struct draw input = c->draw;
    c->date++;
    for (;;) {
        c->rc = SQLITE_OK;
        c->error[0] = '\0';
        c->draw = input;
        if (run_kind(c, kind)) {
            c->told.committed[kind]++;
            return true;
        }
        if (!client_undo(c))
            return false;
        if (c->rc == SQLITE_OK) {
            c->told.rolled_back++;
            return true;
        }
        c->told.busy++;
    }
}
