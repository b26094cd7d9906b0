/* sql_statements.c: SQL out of bytes: few tables and keys, so that statements meet. */
#include "tests/fuzz/sql_statements.h"

#include <stdio.h>

#define TABLES 4u

/* main's tables mostly; the attached database may be there or not. */
static void table_name(char out[32], struct input *in)
{
    uint8_t v = input_u8(in);
    snprintf(out, 32, "%st%u", v % 8 == 7 ? "aux." : v % 8 == 6 ? "temp." : "", v / 8 % TABLES);
}

static void make_rows(char *out, struct input *in)
{
    char t[32];
    table_name(t, in);
    unsigned from = input_u8(in), n = 1 + input_u8(in) % 150, bytes = input_u16(in) % 1500;
    snprintf(out, SQL_TEXT,
             "WITH RECURSIVE n(i) AS (SELECT %u UNION ALL SELECT i + 1 FROM n WHERE i < %u) "
             "INSERT OR IGNORE INTO %s(a, b, c) SELECT i, i %% 7, printf('%%.%uc', 'r') FROM n",
             from, from + n, t, bytes + 1);
}

static void make_change(char *out, enum sql_kind kind, struct input *in)
{
    char t[32], other[32];
    table_name(t, in);
    unsigned key = input_u8(in), v = input_u8(in);
    switch (kind) {
    case SQL_INSERT:
        snprintf(out, SQL_TEXT, "INSERT INTO %s(a, b) VALUES(%u, %u)", t, key, v);
        break;
    case SQL_INSERT_LARGE:
        snprintf(out, SQL_TEXT,
                 "INSERT INTO %s(a, b, c) VALUES(%u, zeroblob(%u), printf('%%.%uc', 'x'))", t, key,
                 v, 1 + input_u16(in) % 30000);
        break;
    case SQL_UPDATE: snprintf(out, SQL_TEXT, "UPDATE %s SET b = %u WHERE a = %u", t, v, key); break;
    case SQL_UPDATE_MANY:
        snprintf(out, SQL_TEXT, "UPDATE %s SET b = b + 1, c = printf('%%.%uc', 'u') WHERE a > %u",
                 t, 1 + v * 8, key);
        break;
    case SQL_DELETE: snprintf(out, SQL_TEXT, "DELETE FROM %s WHERE a = %u", t, key); break;
    case SQL_DELETE_MANY:
        snprintf(out, SQL_TEXT, "DELETE FROM %s WHERE a BETWEEN %u AND %u", t, key, key + v);
        break;
    case SQL_REPLACE:
        snprintf(out, SQL_TEXT,
                 v % 2 ? "INSERT INTO %s(a, b) VALUES(%u, %u) ON CONFLICT DO UPDATE SET b = b + 1"
                       : "REPLACE INTO %s(a, b) VALUES(%u, %u)",
                 t, key, v);
        break;
    default:
        table_name(other, in);
        snprintf(out, SQL_TEXT,
                 "INSERT OR %s INTO %s(a, b, c) SELECT a + %u, b, c FROM %s LIMIT %u",
                 v % 2 ? "IGNORE" : "ROLLBACK", t, key, other, v);
    }
}

static void make_schema(char *out, enum sql_kind kind, struct input *in)
{
    char t[32];
    table_name(t, in);
    unsigned v = input_u8(in);
    switch (kind) {
    case SQL_CREATE_TABLE:
        snprintf(out, SQL_TEXT, "CREATE TABLE %s%s(a INTEGER PRIMARY KEY%s, b%s, c DEFAULT 'd')%s",
                 v & 1 ? "IF NOT EXISTS " : "", t, v & 2 ? " AUTOINCREMENT" : "",
                 v & 4 ? " UNIQUE" : "", v & 8 ? " WITHOUT ROWID" : "");
        break;
    case SQL_DROP_TABLE: snprintf(out, SQL_TEXT, "DROP TABLE IF EXISTS %s", t); break;
    case SQL_CREATE_INDEX:
        snprintf(out, SQL_TEXT, "CREATE INDEX i%u ON t%u(%s)", v % 4, v / 4 % TABLES,
                 v & 16   ? "b"
                 : v & 32 ? "c, b"
                          : "b DESC");
        break;
    case SQL_DROP_INDEX: snprintf(out, SQL_TEXT, "DROP INDEX IF EXISTS i%u", v % 4); break;
    case SQL_ALTER:
        if (v & 1)
            snprintf(out, SQL_TEXT, "ALTER TABLE %s ADD COLUMN e%u DEFAULT %u", t, v % 3, v);
        else
            snprintf(out, SQL_TEXT, "ALTER TABLE %s RENAME TO t%u", t, v / 2 % TABLES);
        break;
    default:
        snprintf(out, SQL_TEXT,
                 "CREATE TRIGGER IF NOT EXISTS r%u AFTER %s ON t%u BEGIN "
                 "INSERT OR IGNORE INTO t%u(a, b) VALUES(new.a + 1000, new.b); END",
                 v % 2, v & 2 ? "INSERT" : "UPDATE", v / 4 % TABLES, v / 16 % TABLES);
    }
}

static void make_setting(char *out, enum sql_kind kind, struct input *in)
{
    static const char *const settings[] = {"cache_spill=0",
                                           "cache_spill=1",
                                           "secure_delete=1",
                                           "secure_delete=0",
                                           "synchronous=0",
                                           "synchronous=2",
                                           "mmap_size=0",
                                           "mmap_size=100000000",
                                           "temp_store=2",
                                           "recursive_triggers=1",
                                           "reverse_unordered_selects=0",
                                           "optimize"};
    unsigned v = input_u8(in);
    switch (kind) {
    case SQL_AUTO_VACUUM: snprintf(out, SQL_TEXT, "PRAGMA auto_vacuum=%u", v % 3); break;
    case SQL_INCREMENTAL_VACUUM:
        snprintf(out, SQL_TEXT, "PRAGMA incremental_vacuum(%u)", v % 20);
        break;
    case SQL_PAGE_SIZE: snprintf(out, SQL_TEXT, "PRAGMA page_size=%u", 512u << v % 8); break;
    case SQL_CACHE_SIZE: snprintf(out, SQL_TEXT, "PRAGMA cache_size=%u", v % 40); break;
    case SQL_VERSION:
        snprintf(out, SQL_TEXT, v & 1 ? "PRAGMA user_version=%u" : "PRAGMA user_version", v);
        break;
    default:
        snprintf(out, SQL_TEXT, "PRAGMA %s", settings[v % (sizeof settings / sizeof settings[0])]);
    }
}

static void make_select(char *out, enum sql_kind kind, struct input *in)
{
    char t[32];
    table_name(t, in);
    unsigned v = input_u8(in);
    if (kind == SQL_SELECT)
        snprintf(out, SQL_TEXT, "SELECT a, b, length(c) FROM %s WHERE %s > %u ORDER BY a LIMIT 50",
                 t, v & 1 ? "a" : "b", v);
    else
        snprintf(out, SQL_TEXT, "SELECT count(*), sum(b), sum(length(c)), max(a) FROM %s", t);
}

void sql_make(char out[SQL_TEXT], enum sql_kind kind, struct input *in)
{
    switch (kind) {
    case SQL_BEGIN: snprintf(out, SQL_TEXT, "BEGIN"); break;
    case SQL_BEGIN_IMMEDIATE:
        snprintf(out, SQL_TEXT, "BEGIN %s", input_below(in, 4) ? "IMMEDIATE" : "EXCLUSIVE");
        break;
    case SQL_COMMIT: snprintf(out, SQL_TEXT, "COMMIT"); break;
    case SQL_ROLLBACK: snprintf(out, SQL_TEXT, "ROLLBACK"); break;
    case SQL_SAVEPOINT: snprintf(out, SQL_TEXT, "SAVEPOINT s%u", input_below(in, 3)); break;
    case SQL_RELEASE: snprintf(out, SQL_TEXT, "RELEASE s%u", input_below(in, 3)); break;
    case SQL_ROLLBACK_TO: snprintf(out, SQL_TEXT, "ROLLBACK TO s%u", input_below(in, 3)); break;
    case SQL_INSERT_MANY: make_rows(out, in); break;
    case SQL_INSERT:
    case SQL_INSERT_LARGE:
    case SQL_UPDATE:
    case SQL_UPDATE_MANY:
    case SQL_DELETE:
    case SQL_DELETE_MANY:
    case SQL_REPLACE:
    case SQL_COPY_TABLE: make_change(out, kind, in); break;
    case SQL_CREATE_TABLE:
    case SQL_DROP_TABLE:
    case SQL_CREATE_INDEX:
    case SQL_DROP_INDEX:
    case SQL_ALTER:
    case SQL_CREATE_TRIGGER: make_schema(out, kind, in); break;
    case SQL_SELECT:
    case SQL_SELECT_SUM: make_select(out, kind, in); break;
    case SQL_VACUUM: snprintf(out, SQL_TEXT, "VACUUM"); break;
    case SQL_INTEGRITY: snprintf(out, SQL_TEXT, "PRAGMA integrity_check"); break;
    case SQL_DETACH: snprintf(out, SQL_TEXT, "DETACH aux"); break;
    default: make_setting(out, kind, in);
    }
}
