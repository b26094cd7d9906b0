/* conformance_script.c: scenes - short sequences of statements that belong together - in random
 * order, with random values.
 *
 * The generator follows what exists only roughly; a statement about a table that a rollback has
 * taken away is an error on both sides, which is worth comparing, too. Nothing in the script may
 * depend on time, on random() or on the file's path.
 */
#include "tests/system/conformance_script.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct gen {
    struct script *s;
    const struct script_options *o;
    struct rng rng;
    int conn;  /* that runs the next statements */
    int depth; /* scenes within a transaction; 0: none */
    unsigned serial;
};

static void emit(struct gen *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void emit(struct gen *g, const char *fmt, ...)
{
    struct script *s = g->s;
    if (s->count == s->room) {
        s->room = s->room ? s->room * 2 : 1024;
        s->line = realloc(s->line, s->room * sizeof *s->line);
        if (!s->line)
            abort();
    }
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        abort();
    va_end(ap);
    if (asprintf(&s->line[s->count++], "%d %s", g->conn, text) < 0)
        abort();
    free(text);
}

void script_free(struct script *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->line[i]);
    free(s->line);
    memset(s, 0, sizeof *s);
}

static unsigned pick(struct gen *g, unsigned n)
{
    return rng_below(&g->rng, n);
}

static const char *word(struct gen *g)
{
    static const char *const words[] = {"alpha",
                                        "beta",
                                        "gamma",
                                        "delta",
                                        "Epsilon",
                                        "zeta",
                                        "eta",
                                        "theta",
                                        "iota",
                                        "kappa",
                                        "lambda",
                                        "mu",
                                        "nu",
                                        "xi",
                                        "omicron",
                                        "pi",
                                        "rho",
                                        "Sigma",
                                        "tau",
                                        "upsilon",
                                        "phi",
                                        "chi",
                                        "psi",
                                        "omega",
                                        "na\xc3\xafve",
                                        "\xe6\xbc\xa2\xe5\xad\x97",
                                        "it''s",
                                        "100%",
                                        ""};
    return words[pick(g, sizeof words / sizeof *words)];
}

/* Sizes around what matters to b-trees: inline, overflow, many overflow pages. */
static unsigned length(struct gen *g)
{
    switch (pick(g, 8)) {
    case 0: return 0;
    case 1: return g->o->page_size / 4 - 40 + pick(g, 80);
    case 2: return g->o->page_size - 60 + pick(g, 120);
    case 3: return pick(g, 20) == 0 ? 150000 + pick(g, 300000) : 3000 + pick(g, 9000);
    default: return pick(g, 200);
    }
}

#define T_TABLES 5
static const char *const kinds[] = {"INT", "TEXT", "REAL", "BLOB"};

/* --- schema ----------------------------------------------------------------------------------- */

static void create_plain(struct gen *g, unsigned n)
{
    emit(g,
         "CREATE TABLE IF NOT EXISTS t%u(id INTEGER PRIMARY KEY%s, a INT, b TEXT%s, c REAL,"
         " d BLOB, e DEFAULT 'dflt'%s)",
         n, pick(g, 2) ? " AUTOINCREMENT" : "", pick(g, 3) ? "" : " COLLATE NOCASE",
         pick(g, 3) ? "" : ", CHECK(a IS NULL OR a < 1000000)");
    if (pick(g, 2))
        emit(g, "CREATE INDEX IF NOT EXISTS t%u_a ON t%u(a)", n, n);
    if (pick(g, 3) == 0)
        emit(g, "CREATE UNIQUE INDEX IF NOT EXISTS t%u_u ON t%u(b, a)", n, n);
    if (pick(g, 3) == 0)
        emit(g, "CREATE INDEX IF NOT EXISTS t%u_p ON t%u(lower(b)) WHERE a > 10", n, n);
}

static void scene_schema(struct gen *g)
{
    unsigned n = pick(g, T_TABLES);
    switch (pick(g, 14)) {
    case 0:
    case 1: create_plain(g, n); break;
    case 2:
        emit(g, "DROP TABLE%s t%u", pick(g, 2) ? " IF EXISTS" : "", n);
        create_plain(g, n);
        break;
    case 3: emit(g, "CREATE INDEX t%u_c ON t%u(c, b DESC)", n, n); break;
    case 4: emit(g, "DROP INDEX IF EXISTS t%u_%c", n, "acup"[pick(g, 4)]); break;
    case 5:
        emit(g, "ALTER TABLE t%u ADD COLUMN x%u %s DEFAULT %u", n, g->serial++, kinds[pick(g, 4)],
             pick(g, 100));
        break;
    case 6:
        emit(g, "ALTER TABLE t%u RENAME COLUMN e TO e2", n);
        emit(g, "ALTER TABLE t%u RENAME COLUMN e2 TO e", n);
        break;
    case 7:
        emit(g, "ALTER TABLE t%u RENAME TO t%u_tmp", n, n);
        emit(g, "ALTER TABLE t%u_tmp RENAME TO t%u", n, n);
        break;
    case 8:
        emit(g,
             "CREATE VIEW IF NOT EXISTS v%u AS SELECT a, count(*) AS n, sum(c) AS s FROM t%u"
             " GROUP BY a",
             n, n);
        emit(g, "SELECT * FROM v%u ORDER BY a LIMIT 10", n);
        break;
    case 9: emit(g, "DROP VIEW IF EXISTS v%u", n); break;
    case 10:
        emit(g, "CREATE TABLE IF NOT EXISTS log%u(what TEXT, id INT, old, new)", n);
        emit(g,
             "CREATE TRIGGER IF NOT EXISTS tr%u AFTER UPDATE OF a ON t%u WHEN new.a IS NOT old.a"
             " BEGIN INSERT INTO log%u VALUES('upd', new.id, old.a, new.a); END",
             n, n, n);
        emit(g,
             "CREATE TRIGGER IF NOT EXISTS td%u BEFORE DELETE ON t%u BEGIN INSERT INTO log%u"
             " VALUES('del', old.id, old.b, NULL); SELECT RAISE(%s) WHERE old.a = 13; END",
             n, n, n, pick(g, 2) ? "IGNORE" : "ABORT, 'thirteen'");
        break;
    case 11:
        emit(g, "DROP TRIGGER IF EXISTS t%c%u", "rd"[pick(g, 2)], n);
        emit(g, "DELETE FROM log%u WHERE rowid %% 2", n);
        break;
    case 12: emit(g, "CREATE TABLE t%u(id INTEGER PRIMARY KEY)", n); break;
    case 13:
        emit(g, "ALTER TABLE t%u DROP COLUMN e", n);
        emit(g, "ALTER TABLE t%u ADD COLUMN e DEFAULT 'dflt'", n);
        break;
    }
}

/* --- rows ------------------------------------------------------------------------------------- */

static void insert_row(struct gen *g, unsigned n)
{
    static const char *const or
        [] = {"", "", "", " OR IGNORE", " OR REPLACE", " OR ABORT", " OR FAIL", " OR ROLLBACK"};
    switch (pick(g, 6)) {
    case 0:
        emit(g, ".bind %u %u INSERT%s INTO t%u(a, b, c, d) VALUES(%u, '%s', %u.5, ?1)", length(g),
             pick(g, 1000000), or [pick(g, 8)], n, pick(g, 200), word(g), pick(g, 1000));
        break;
    case 1:
        emit(g, "INSERT%s INTO t%u(id, a, b) VALUES(%u, %u, '%s')", or [pick(g, 8)], n,
             pick(g, 400), pick(g, 50), word(g));
        break;
    case 2:
        emit(g,
             "INSERT INTO t%u(id, a, b, c) VALUES(%u, %u, '%s', %u) ON CONFLICT(id) DO UPDATE SET"
             " a = excluded.a + t%u.a, c = coalesce(c, 0) + 1 WHERE excluded.a <> t%u.a"
             " RETURNING id, a, c",
             n, pick(g, 400), pick(g, 60), word(g), pick(g, 9), n, n);
        break;
    case 3:
        emit(g,
             "INSERT INTO t%u(a, b, c) SELECT value, '%s' || value, value * 0.25 FROM"
             " (WITH RECURSIVE s(value) AS (SELECT %u UNION ALL SELECT value + 1 FROM s LIMIT %u)"
             " SELECT value FROM s)%s",
             n, word(g), pick(g, 1000), 1 + pick(g, 60), pick(g, 2) ? " RETURNING id" : "");
        break;
    case 4:
        emit(g,
             "INSERT%s INTO t%u(a, b) VALUES(%u, '%s'), (%u, '%s'), (2000000, 'check'), (%u, '')",
             or [pick(g, 8)], n, pick(g, 200), word(g), pick(g, 200), word(g), pick(g, 200));
        break;
    case 5: emit(g, "INSERT INTO t%u DEFAULT VALUES RETURNING *", n); break;
    }
}

static void scene_rows(struct gen *g)
{
    unsigned n = pick(g, T_TABLES);
    switch (pick(g, 12)) {
    case 0: emit(g, "UPDATE t%u SET a = a + 1 WHERE id %% %u = 0", n, 2 + pick(g, 9)); break;
    case 1:
        emit(g,
             ".bind %u %u UPDATE t%u SET d = ?1, b = '%s' WHERE id IN (SELECT id FROM t%u ORDER BY "
             "id"
             " LIMIT 2 OFFSET %u) RETURNING id, length(d)",
             length(g), pick(g, 1000000), n, word(g), n, pick(g, 20));
        break;
    case 2:
        emit(g, "UPDATE OR IGNORE t%u SET id = id + %u, b = upper(b) WHERE a BETWEEN %u AND %u", n,
             pick(g, 30), pick(g, 100), 50 + pick(g, 100));
        break;
    case 3: emit(g, "DELETE FROM t%u WHERE id %% %u = %u", n, 2 + pick(g, 4), pick(g, 3)); break;
    case 4: emit(g, "DELETE FROM t%u WHERE b LIKE '%s%%' RETURNING id", n, word(g)); break;
    case 5:
        emit(g,
             "UPDATE t%u SET c = (SELECT count(*) FROM t%u AS o WHERE o.a = t%u.a) WHERE id < %u",
             n, pick(g, T_TABLES), n, pick(g, 200));
        break;
    case 6:
        emit(g,
             "UPDATE t%u SET b = o.b FROM (SELECT a, min(b) AS b FROM t%u GROUP BY a) AS o"
             " WHERE o.a = t%u.a AND t%u.id > %u",
             n, pick(g, T_TABLES), n, n, pick(g, 200));
        break;
    case 7:
        if (pick(g, 6) == 0)
            emit(g, "DELETE FROM t%u", n);
        break;
    case 8:
        emit(g,
             "INSERT INTO t%u(a, b, c, d) SELECT value %% 300, printf('%%.*c', value %% 90, 'q'), "
             "value,"
             " zeroblob(value %% 500) FROM (WITH RECURSIVE s(value) AS (SELECT %u UNION ALL SELECT"
             " value + 7 FROM s LIMIT %u) SELECT value FROM s)",
             n, pick(g, 1000), 50 + pick(g, 2000));
        break;
    default:
        for (unsigned i = 1 + pick(g, 4); i > 0; i--)
            insert_row(g, n);
    }
}

static void scene_query(struct gen *g)
{
    unsigned n = pick(g, T_TABLES), m = pick(g, T_TABLES);
    switch (pick(g, 12)) {
    case 0:
        emit(g, "SELECT id, a, b, c, length(d), e FROM t%u WHERE id BETWEEN %u AND %u ORDER BY id",
             n, pick(g, 200), 100 + pick(g, 300));
        break;
    case 1: emit(g, "SELECT count(*), sum(a), min(b), max(c), total(length(d)) FROM t%u", n); break;
    case 2:
        emit(g,
             "SELECT x.id, y.id FROM t%u AS x JOIN t%u AS y ON x.a = y.a WHERE x.id < y.id"
             " ORDER BY 1, 2 LIMIT 40",
             n, m);
        break;
    case 3:
        emit(g,
             "WITH RECURSIVE r(i, v) AS (SELECT 1, %u UNION ALL SELECT i + 1, (v * 37 + 11) %% 101"
             " FROM r WHERE i < %u) SELECT i, v, (SELECT count(*) FROM t%u WHERE a = v) FROM r",
             pick(g, 100), 5 + pick(g, 40), n);
        break;
    case 4:
        emit(g,
             "SELECT id, a, row_number() OVER w, sum(a) OVER (PARTITION BY a %% 3 ORDER BY id ROWS"
             " BETWEEN 2 PRECEDING AND 1 FOLLOWING), lag(b, 1, '-') OVER w, ntile(4) OVER w FROM"
             " t%u WINDOW w AS (ORDER BY a, id) ORDER BY id LIMIT 60",
             n);
        break;
    case 5:
        emit(g,
             "SELECT a %% 7 AS k, group_concat(id, ',') FROM (SELECT * FROM t%u ORDER BY id) GROUP "
             "BY"
             " k HAVING count(*) > 1 ORDER BY k",
             n);
        break;
    case 6:
        emit(g,
             "SELECT b FROM t%u EXCEPT SELECT b FROM t%u UNION SELECT 'z' INTERSECT SELECT b FROM"
             " t%u ORDER BY 1 LIMIT 30",
             n, m, n);
        break;
    case 7:
        emit(g, "SELECT * FROM t%u LEFT JOIN t%u USING(id) ORDER BY id DESC LIMIT 5", n, m);
        break;
    case 8: emit(g, "EXPLAIN QUERY PLAN SELECT * FROM t%u WHERE a = 3 AND b > 'c'", n); break;
    case 9:
        emit(g,
             "SELECT hex(substr(d, %u, 40)), typeof(d) FROM t%u WHERE d IS NOT NULL ORDER BY id "
             "LIMIT"
             " 8",
             pick(g, 3000), n);
        break;
    case 10:
        emit(g,
             "SELECT json_group_array(json_object('id', id, 'b', b)) FROM (SELECT id, b FROM t%u"
             " ORDER BY id LIMIT 12)",
             n);
        break;
    case 11:
        emit(g,
             "SELECT count(*) FROM t%u AS x, t%u AS y WHERE x.id = y.id AND EXISTS (SELECT 1 FROM"
             " t%u AS z WHERE z.id = x.id + 1)",
             n, m, n);
        break;
    }
}

/* --- the other kinds of table ----------------------------------------------------------------- */

static void scene_without_rowid(struct gen *g)
{
    emit(g, "CREATE TABLE IF NOT EXISTS w(k TEXT, k2 INT, v, n INT NOT NULL DEFAULT 0, PRIMARY "
            "KEY(k, k2))"
            " WITHOUT ROWID");
    emit(g, "CREATE INDEX IF NOT EXISTS w_n ON w(n)");
    for (unsigned i = 1 + pick(g, 5); i > 0; i--)
        emit(g,
             ".bind %u %u INSERT INTO w(k, k2, v) VALUES('%s', %u, ?1) ON CONFLICT DO UPDATE SET n "
             "= n + 1,"
             " v = excluded.v",
             length(g), pick(g, 1000000), word(g), pick(g, 30));
    emit(g, "UPDATE w SET n = NULL WHERE k2 = %u", pick(g, 30));
    emit(g, "DELETE FROM w WHERE k2 = %u", pick(g, 30));
    emit(g, "SELECT k, k2, length(v), n FROM w ORDER BY n DESC, k, k2 LIMIT 20");
}

static void scene_generated(struct gen *g)
{
    emit(g, "CREATE TABLE IF NOT EXISTS g(id INTEGER PRIMARY KEY, a INT NOT NULL, b TEXT, s INT "
            "GENERATED"
            " ALWAYS AS (a * 2) STORED, v TEXT AS (b || '-' || a) VIRTUAL UNIQUE, CHECK(a < 500))");
    emit(g, "CREATE INDEX IF NOT EXISTS g_s ON g(s)");
    emit(g, "INSERT INTO g(a, b) VALUES(%u, '%s')", pick(g, 600), word(g));
    emit(g, "INSERT OR REPLACE INTO g(a, b) VALUES(%u, '%s')", pick(g, 400), word(g));
    emit(g, "INSERT INTO g(a, s) VALUES(1, 2)");
    emit(g, "UPDATE g SET a = a + 7 WHERE s %% 3 = %u", pick(g, 3));
    emit(g, "SELECT id, a, s, v FROM g WHERE s > %u ORDER BY s, id LIMIT 20", pick(g, 800));
    emit(g, "CREATE TABLE IF NOT EXISTS strict1(i INTEGER, r REAL, t TEXT, b BLOB, x ANY) STRICT");
    emit(g, "INSERT INTO strict1 VALUES(%s, 1.5, 'x', x'00ff', 7)",
         pick(g, 2) ? "12" : "'no number'");
    emit(g, "SELECT * FROM strict1 ORDER BY rowid DESC LIMIT 3");
}

static void scene_foreign_keys(struct gen *g)
{
    emit(g, "CREATE TABLE IF NOT EXISTS parent(id INTEGER PRIMARY KEY, code TEXT UNIQUE)");
    emit(g, "CREATE TABLE IF NOT EXISTS child(id INTEGER PRIMARY KEY, p INT REFERENCES parent(id) "
            "ON DELETE"
            " CASCADE ON UPDATE CASCADE, c TEXT REFERENCES parent(code) ON DELETE SET NULL)");
    emit(g, "CREATE TABLE IF NOT EXISTS late(id INTEGER PRIMARY KEY, p INT REFERENCES parent(id) "
            "DEFERRABLE"
            " INITIALLY DEFERRED)");
    emit(g, "CREATE INDEX IF NOT EXISTS child_p ON child(p)");
    unsigned p = pick(g, 30);
    emit(g, "INSERT OR IGNORE INTO parent VALUES(%u, 'c%u')", p, p);
    emit(g, "INSERT INTO child(p, c) VALUES(%u, 'c%u')", p, p);
    emit(g, "INSERT INTO child(p) VALUES(%u)", 100 + p);
    emit(g, "UPDATE parent SET id = %u WHERE id = %u", pick(g, 60), pick(g, 60));
    if (pick(g, 2))
        emit(g, "DELETE FROM parent WHERE id = %u", pick(g, 60));
    if (g->depth == 0) {
        emit(g, "BEGIN");
        emit(g, "INSERT INTO late(p) VALUES(%u)", 200 + p);
        emit(g, "COMMIT");
        emit(g, "%s late SET p = NULL WHERE p >= 200", pick(g, 2) ? "UPDATE" : "UPDATE OR FAIL");
        emit(g, "COMMIT");
        emit(g, "ROLLBACK");
    }
    emit(g, "SELECT c.id, c.p, c.c, p.code FROM child AS c LEFT JOIN parent AS p ON p.id = c.p "
            "ORDER BY 1"
            " LIMIT 25");
    emit(g, "PRAGMA foreign_key_check");
}

static void scene_fts(struct gen *g)
{
    emit(g, "CREATE VIRTUAL TABLE IF NOT EXISTS ft USING fts5(title, body, prefix='2', "
            "tokenize='unicode61')");
    for (unsigned i = 1 + pick(g, 6); i > 0; i--)
        emit(g, "INSERT INTO ft(title, body) VALUES('%s %s', '%s %s %s %s') RETURNING rowid",
             word(g), word(g), word(g), word(g), word(g), word(g));
    emit(g, "UPDATE ft SET body = body || ' %s' WHERE rowid %% 5 = %u", word(g), pick(g, 5));
    emit(g, "DELETE FROM ft WHERE rowid %% 11 = %u", pick(g, 11));
    emit(g, "SELECT rowid, title, snippet(ft, 1, '[', ']', '..', 4) FROM ft WHERE ft MATCH 'al* OR "
            "sigma' ORDER"
            " BY rank, rowid LIMIT 10");
    emit(g, "SELECT count(*) FROM ft('title : delta NOT beta')");
    if (pick(g, 4) == 0)
        emit(g, "INSERT INTO ft(ft) VALUES('%s')", pick(g, 2) ? "optimize" : "integrity-check");
    emit(g, "SELECT rowid FROM ft WHERE ft MATCH 'AND AND'");
}

static void scene_rtree(struct gen *g)
{
    emit(g, "CREATE VIRTUAL TABLE IF NOT EXISTS rt USING rtree(id, x0, x1, y0, y1, +tag)");
    for (unsigned i = 1 + pick(g, 8); i > 0; i--) {
        unsigned x = pick(g, 1000), y = pick(g, 1000);
        emit(g, "INSERT INTO rt(x0, x1, y0, y1, tag) VALUES(%u, %u, %u, %u, '%s')", x,
             x + pick(g, 50), y, pick(g, 20) ? y + pick(g, 50) : 0, word(g));
    }
    emit(g, "DELETE FROM rt WHERE x0 > %u AND x1 < %u", pick(g, 1000), pick(g, 1000));
    emit(g, "SELECT id, x0, y1, tag FROM rt WHERE x0 >= %u AND y1 <= %u ORDER BY id LIMIT 20",
         pick(g, 600), 300 + pick(g, 700));
    emit(g, "SELECT rtreecheck('rt')");
}

static void scene_json(struct gen *g)
{
    emit(g, "CREATE TABLE IF NOT EXISTS doc(id INTEGER PRIMARY KEY, j TEXT CHECK(json_valid(j)))");
    emit(
        g,
        "INSERT INTO doc(j) VALUES(json_object('a', %u, 'w', '%s', 'l', json_array(%u, %u, null)))",
        pick(g, 100), word(g), pick(g, 9), pick(g, 9));
    emit(g, "INSERT INTO doc(j) VALUES('{broken')");
    emit(g,
         "UPDATE doc SET j = json_set(j, '$.a', json_extract(j, '$.a') + 1, '$.n', id) WHERE id %% "
         "3 = %u",
         pick(g, 3));
    emit(g, "SELECT d.id, e.key, e.value FROM doc AS d, json_each(d.j, '$.l') AS e ORDER BY 1, 2 "
            "LIMIT 20");
    emit(g, "CREATE INDEX IF NOT EXISTS doc_a ON doc(j ->> '$.a')");
    emit(g, "SELECT id FROM doc WHERE j ->> '$.a' > %u ORDER BY id LIMIT 10", pick(g, 60));
}

static void scene_temp(struct gen *g)
{
    emit(g, "CREATE TEMP TABLE IF NOT EXISTS tt(id INTEGER PRIMARY KEY, x)");
    emit(g, "INSERT INTO tt(x) SELECT b FROM t%u ORDER BY id LIMIT %u", pick(g, T_TABLES),
         pick(g, 50));
    emit(g, "UPDATE tt SET x = x || '%s' WHERE id %% 2", word(g));
    emit(g, "INSERT INTO t%u(a, b) SELECT id, x FROM tt ORDER BY id LIMIT 5", pick(g, T_TABLES));
    emit(g, "SELECT count(*), min(x) FROM tt");
    emit(g, "CREATE TEMP TRIGGER IF NOT EXISTS ttt AFTER INSERT ON t0 BEGIN INSERT INTO tt(x) "
            "VALUES(new.b);"
            " END");
    if (pick(g, 3) == 0)
        emit(g, "DROP TABLE temp.tt");
    emit(g, "DROP TRIGGER IF EXISTS ttt");
}

/* --- connections, files ----------------------------------------------------------------------- */

static void scene_attach(struct gen *g)
{
    if (g->depth)
        return;
    unsigned n = pick(g, 2);
    emit(g, "ATTACH @T{other%u.db} AS o", n);
    emit(g, "ATTACH @S{stock%u.db} AS s", n);
    emit(g, "ATTACH ':memory:' AS m");
    emit(g, "CREATE TABLE IF NOT EXISTS o.r(id INTEGER PRIMARY KEY, v)");
    emit(g, "CREATE TABLE IF NOT EXISTS s.r(id INTEGER PRIMARY KEY, v)");
    emit(g, "CREATE TABLE m.r(id INTEGER PRIMARY KEY, v)");
    emit(g, "BEGIN");
    emit(g, "INSERT INTO o.r(v) SELECT b FROM t%u ORDER BY id LIMIT %u", pick(g, T_TABLES),
         pick(g, 40));
    emit(g, "INSERT INTO s.r(v) SELECT v FROM o.r ORDER BY id DESC LIMIT 10");
    emit(g, ".bind %u %u INSERT INTO m.r(v) VALUES(?1)", length(g), pick(g, 1000000));
    emit(g, "INSERT INTO t%u(d) SELECT v FROM m.r", pick(g, T_TABLES));
    emit(g, "UPDATE o.r SET v = '%s' WHERE id %% 5 = %u", word(g), pick(g, 5));
    emit(g, "DELETE FROM s.r WHERE id %% 7 = %u", pick(g, 7));
    emit(g, pick(g, 3) ? "COMMIT" : "ROLLBACK");
    emit(g, "SELECT (SELECT count(*) FROM o.r), (SELECT count(*) FROM s.r), (SELECT count(*) FROM "
            "m.r)");
    emit(g, "PRAGMA o.integrity_check");
    emit(g, "PRAGMA s.integrity_check");
    if (pick(g, 2))
        emit(g, "VACUUM o");
    emit(g, "DETACH m");
    emit(g, "DETACH s");
    emit(g, "DETACH o");
    emit(g, "DETACH nosuch");
}

static void scene_cursor(struct gen *g)
{
    unsigned n = pick(g, T_TABLES), m = (n + 1 + pick(g, T_TABLES - 1)) % T_TABLES;
    emit(g, ".cursor 0 SELECT id, a, b FROM t%u ORDER BY id", n);
    emit(g, ".cursor 1 SELECT a, id, length(d) FROM t%u ORDER BY a, id", n);
    emit(g, ".step 0 %u", 1 + pick(g, 5));
    emit(g, ".step 1 %u", 1 + pick(g, 5));
    insert_row(g, m);
    emit(g, "UPDATE t%u SET b = b || 'u' WHERE id %% 4 = %u", m, pick(g, 4));
    emit(g, ".step 0 %u", 1 + pick(g, 10));
    emit(g, "DELETE FROM t%u WHERE id %% 9 = %u", m, pick(g, 9));
    emit(g, ".step 1 %u", 1 + pick(g, 100));
    emit(g, ".close 0");
    emit(g, ".step 1 3");
    emit(g, ".close 1");
}

static void scene_blob_io(struct gen *g)
{
    unsigned n = pick(g, T_TABLES), len = 1000 + pick(g, 60000), id = 5000 + pick(g, 5);
    emit(g, "INSERT OR REPLACE INTO t%u(id, d) VALUES(%u, zeroblob(%u))", n, id, len);
    for (unsigned i = 0; i < 3; i++) {
        unsigned off = pick(g, len), part = 1 + pick(g, len);
        emit(g, ".blob t%u d %u %u %u 1 %u", n, id, off, part, pick(g, 1000000));
        emit(g, ".blob t%u d %u %u %u 0 0", n, id, pick(g, len), 1 + pick(g, 2000));
    }
    emit(g, ".blob t%u d 999999 0 1 0 0", n);
    emit(g, ".blob t%u nosuch %u 0 1 0 0", n, id);
    emit(g, "SELECT id, length(d), hex(substr(d, 1, 20)) FROM t%u WHERE id = %u", n, id);
    if (pick(g, 2))
        emit(g, "DELETE FROM t%u WHERE id >= 5000 AND length(d) > 1000", n);
}

static void scene_pragma(struct gen *g)
{
    static const char *const ask[] = {"integrity_check",  "quick_check",    "foreign_key_check",
                                      "page_count",       "freelist_count", "page_size",
                                      "auto_vacuum",      "user_version",   "application_id",
                                      "encoding",         "schema_version", "table_list",
                                      "table_xinfo(t0)",  "index_list(t1)", "foreign_keys",
                                      "collation_list",   "max_page_count", "cache_size",
                                      "compile_optionsx", "database_list_", "legacy_alter_table"};
    switch (pick(g, 8)) {
    case 0: emit(g, "PRAGMA user_version = %u", pick(g, 1000)); break;
    case 1: emit(g, "PRAGMA application_id = %u", pick(g, 1000)); break;
    case 2: emit(g, "PRAGMA cache_size = %d", pick(g, 2) ? (int)(5 + pick(g, 50)) : -2000); break;
    case 3: emit(g, "PRAGMA secure_delete = %u", pick(g, 2)); break;
    case 4:
        if (g->o->auto_vacuum == 2)
            emit(g, "PRAGMA incremental_vacuum(%u)", pick(g, 40));
        break;
    case 5:
        emit(g, "PRAGMA max_page_count = %u", pick(g, 4) ? 1073741823u : pick(g, 100));
        insert_row(g, pick(g, T_TABLES));
        emit(g, "PRAGMA max_page_count = 1073741823");
        break;
    default: emit(g, "PRAGMA %s", ask[pick(g, sizeof ask / sizeof *ask)]); break;
    }
    emit(g, "PRAGMA page_count");
    emit(g, "PRAGMA freelist_count");
}

static void scene_maintenance(struct gen *g)
{
    if (g->depth) {
        emit(g, "VACUUM"); /* an error, within a transaction */
        return;
    }
    switch (pick(g, 9)) {
    case 0: emit(g, "VACUUM"); break;
    case 1: emit(g, "REINDEX"); break;
    case 2: emit(g, "REINDEX t%u", pick(g, T_TABLES)); break;
    case 3:
        emit(g, "ANALYZE");
        emit(g, "SELECT * FROM sqlite_stat1 ORDER BY 1, 2, 3");
        break;
    case 4:
        g->serial++;
        emit(g, "VACUUM INTO @%c{into%u.db}", "TS"[pick(g, 2)], g -> serial);
        break;
    case 5:
        g->serial++;
        emit(g, ".backup_out back%u.db %c %u", g->serial, "TS"[pick(g, 2)], 512u << pick(g, 8));
        break;
    case 6: {
        char vfs = "TS"[pick(g, 2)];
        g->serial++;
        emit(g, ".backup_out back%u.db %c %u", g->serial, vfs,
             g->o->resize ? 512u << pick(g, 8) : g->o->page_size);
        emit(g, "DELETE FROM t%u", pick(g, T_TABLES));
        emit(g, ".backup_in back%u.db %c", g->serial, vfs);
        break;
    }
    case 7: emit(g, ".reopen"); break;
    case 8:
        if (g->o->resize && pick(g, 2)) {
            emit(g, "PRAGMA page_size = %u", 512u << pick(g, 8));
            emit(g, "VACUUM");
            emit(g, "PRAGMA page_size");
            emit(g, "PRAGMA integrity_check");
        } else {
            emit(g, "PRAGMA optimize");
        }
        break;
    }
}

static void scene_errors(struct gen *g)
{
    static const char *const bad[] = {"SELEC 1",
                                      "SELECT * FROM nosuch",
                                      "INSERT INTO t0(nosuch) VALUES(1)",
                                      "SELECT nosuch(1)",
                                      "CREATE TABLE t0(x)",
                                      "DROP TABLE sqlite_schema",
                                      "INSERT INTO sqlite_schema VALUES(1,2,3,4,5)",
                                      "SELECT 1 FROM t0 GROUP BY",
                                      "UPDATE t1 SET id = NULL WHERE id = 1",
                                      "INSERT INTO t1(id) VALUES('abc')",
                                      "SELECT abs(-9223372036854775808)",
                                      "SELECT json('{')",
                                      "SELECT (SELECT 1, 2)",
                                      "ROLLBACK TO nosuch",
                                      "RELEASE nosuch",
                                      "SELECT zeroblob(2000000000)",
                                      "INSERT INTO t0 VALUES(1)",
                                      "SELECT 1; SELECT 2; nonsense",
                                      "CREATE INDEX i ON nosuch(a)",
                                      "ATTACH '/nosuch/dir/x.db' AS bad",
                                      "DETACH main",
                                      "CREATE UNIQUE INDEX t0_uu ON t0(e)",
                                      "PRAGMA page_size = 1000",
                                      "BEGIN EXCLUSIVE; BEGIN"};
    emit(g, "%s", bad[pick(g, sizeof bad / sizeof *bad)]);
    if (g->depth == 0)
        emit(g, "ROLLBACK");
}

/* --- transactions ----------------------------------------------------------------------------- */

static void scene(struct gen *g);

static void scene_transaction(struct gen *g)
{
    static const char *const begin[] = {"BEGIN", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE",
                                        "SAVEPOINT s0"};
    if (g->depth >= 5)
        return;
    if (g->depth == 0) {
        unsigned kind = pick(g, 4);
        emit(g, "%s", begin[kind]);
        g->depth++;
        for (unsigned i = 1 + pick(g, 8); i > 0; i--)
            scene(g);
        g->depth--;
        if (kind == 3 && pick(g, 2))
            emit(g, pick(g, 2) ? "ROLLBACK TO s0" : "RELEASE s0");
        emit(g, pick(g, 3) ? "COMMIT" : "ROLLBACK");
        return;
    }
    int level = g->depth++;
    emit(g, "SAVEPOINT s%d", level);
    for (unsigned i = 1 + pick(g, 5); i > 0; i--)
        scene(g);
    if (pick(g, 2)) {
        emit(g, "ROLLBACK TO s%d", level);
        if (pick(g, 2))
            scene(g);
    }
    if (pick(g, 4))
        emit(g, "RELEASE s%d", level);
    g->depth--;
}

static void scene(struct gen *g)
{
    static void (*const scenes[])(struct gen *) = {
        scene_schema,    scene_rows,         scene_rows,        scene_rows,
        scene_rows,      scene_rows,         scene_query,       scene_query,
        scene_query,     scene_transaction,  scene_transaction, scene_without_rowid,
        scene_generated, scene_foreign_keys, scene_fts,         scene_rtree,
        scene_json,      scene_temp,         scene_attach,      scene_cursor,
        scene_blob_io,   scene_pragma,       scene_maintenance, scene_errors};
    scenes[pick(g, sizeof scenes / sizeof *scenes)](g);
}

void script_generate(struct script *s, const struct script_options *o, uint64_t seed)
{
    struct gen g = {.s = s, .o = o, .rng = {seed}};
    memset(s, 0, sizeof *s);
    emit(&g, "PRAGMA foreign_keys = on");
    for (unsigned n = 0; n < T_TABLES; n++)
        create_plain(&g, n);
    while (s->count < o->statements) {
        if (pick(&g, 4) == 0)
            g.conn = (int)pick(&g, SCRIPT_CONNECTIONS);
        scene(&g);
    }
    g.conn = 0;
    emit(&g, "PRAGMA integrity_check");
    emit(&g, "PRAGMA foreign_key_check");
}
