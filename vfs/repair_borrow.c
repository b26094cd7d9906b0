/* repair_borrow.c: the user's collations and functions, for the connection that does the repair.
 *
 * Indexes may need what the application has registered on its own connection only. SQLite has no call
 * that hands such a thing over, so each is asked for through a statement of that connection: one row
 * per comparison or call. Slow, and right.
 */
#include <string.h>

#include "vfs/repair.h"

/* A statement of the user's connection. */
struct borrowed {
    sqlite3 *user;
    char *name;         /* owned: of a function */
    sqlite3_stmt *stmt; /* owned */
    int args;           /* of stmt */
};

static void borrow_drop(void *arg)
{
    struct borrowed *b = arg;
    sqlite3_finalize(b->stmt);
    sqlite3_free(b->name);
    sqlite3_free(b);
}

/* --- collations ------------------------------------------------------------------------------- */

static int borrow_compare(void *arg, int a_bytes, const void *a, int b_bytes, const void *b)
{
    struct borrowed *w = arg;
    sqlite3_bind_text(w->stmt, 1, a, a_bytes, SQLITE_STATIC);
    sqlite3_bind_text(w->stmt, 2, b, b_bytes, SQLITE_STATIC);
    int order = sqlite3_step(w->stmt) == SQLITE_ROW ? sqlite3_column_int(w->stmt, 0) : 0;
    sqlite3_reset(w->stmt);
    return order;
}

void repair_borrow_collation(void *arg, sqlite3 *db, int encoding, const char *name)
{
    struct repair *r = arg;
    (void)encoding;
    char *sql =
        sqlite3_mprintf("SELECT (?1 > ?2 COLLATE \"%w\") - (?1 < ?2 COLLATE \"%w\")", name, name);
    struct borrowed *b = sqlite3_malloc(sizeof *b);
    if (b)
        memset(b, 0, sizeof *b);
    int rc = sql && b ? sqlite3_prepare_v2(r->user, sql, -1, &b->stmt, NULL) : SQLITE_NOMEM;
    if (rc == SQLITE_OK)
        rc = sqlite3_create_collation_v2(db, name, SQLITE_UTF8, b, borrow_compare, borrow_drop);
    if (rc != SQLITE_OK && b)
        borrow_drop(b); /* SQLite then says that there is no such collation */
    sqlite3_free(sql);
}

/* --- functions -------------------------------------------------------------------------------- */

static int borrow_prepare(struct borrowed *b, int args)
{
    if (b->stmt && b->args == args)
        return SQLITE_OK;
    sqlite3_finalize(b->stmt);
    b->stmt = NULL;
    b->args = args;
    sqlite3_str *sql = sqlite3_str_new(b->user);
    sqlite3_str_appendf(sql, "SELECT \"%w\"(", b->name);
    for (int i = 0; i < args; i++)
        sqlite3_str_appendf(sql, "%s?%d", i ? "," : "", i + 1);
    sqlite3_str_appendall(sql, ")");
    char *text = sqlite3_str_finish(sql);
    int rc = text ? sqlite3_prepare_v2(b->user, text, -1, &b->stmt, NULL) : SQLITE_NOMEM;
    sqlite3_free(text);
    return rc;
}

static void borrow_call(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    struct borrowed *b = sqlite3_user_data(ctx);
    if (borrow_prepare(b, argc) == SQLITE_OK) {
        for (int i = 0; i < argc; i++)
            sqlite3_bind_value(b->stmt, i + 1, argv[i]);
        if (sqlite3_step(b->stmt) == SQLITE_ROW) {
            sqlite3_result_value(ctx, sqlite3_column_value(b->stmt, 0));
            sqlite3_reset(b->stmt);
            return;
        }
        sqlite3_reset(b->stmt);
    }
    sqlite3_result_error(ctx, sqlite3_errmsg(b->user), -1);
}

bool repair_borrow_function(struct repair *r)
{
    static const char *const complaints[] = {"no such function: ", "unknown function: "};
    const char *message = sqlite3_errmsg(r->db), *name = NULL;
    for (int i = 0; i < 2 && !name; i++)
        if (strncmp(message, complaints[i], strlen(complaints[i])) == 0)
            name = message + strlen(complaints[i]);
    if (!name)
        return false;
    size_t length = strlen(name);
    if (length > 2 && strcmp(name + length - 2, "()") == 0)
        length -= 2;
    struct borrowed *b = sqlite3_malloc(sizeof *b);
    if (!b)
        return false;
    *b = (struct borrowed){.user = r->user, .name = sqlite3_mprintf("%.*s", (int)length, name)};
    if (!b->name) {
        borrow_drop(b);
        return false;
    }
    /* Where it fails, SQLite drops b. */
    return sqlite3_create_function_v2(r->db, b->name, -1,
                                      SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS, b,
                                      borrow_call, NULL, NULL, borrow_drop) == SQLITE_OK;
}
