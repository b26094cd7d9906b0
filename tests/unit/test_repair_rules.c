/* test_repair_rules.c: what dax_repair() promises beside the pages: all or nothing, nobody held up,
 * several errors at once, loss that is what was said.
 *
 * Catches: a repair within somebody's transaction; half a repair after a commit that failed or a process
 * that ended; an entry that is open although the page is repaired, or closed although it is not, also
 * after the next open; triggers, foreign keys or settings of the user's that have a say; a reader whose
 * snapshot changes; a loss outside the range that was named; leaves of one table given to another.
 */
#include "tests/unit/repair.h"
#include "vfs/vfs.h"

/* --- the commit can fail ---------------------------------------------------------------------- */

static enum {
    COMMIT_WORKS,
    COMMIT_FAILS,
    COMMIT_EXITS_BEFORE,
    COMMIT_EXITS_AFTER
} commit_does;

dax_rc __real_conn_commit(struct conn *c, struct dax_err *e);
dax_rc __wrap_conn_commit(struct conn *c, struct dax_err *e);
dax_rc __wrap_conn_commit(struct conn *c, struct dax_err *e)
{
    if (commit_does == COMMIT_FAILS)
        return dax_err_set(e, DAX_FULL, 0, "no room, because the test wants it");
    if (commit_does == COMMIT_EXITS_BEFORE)
        _exit(7);
    dax_rc rc = __real_conn_commit(c, e);
    if (commit_does == COMMIT_EXITS_AFTER)
        _exit(7);
    return rc;
}

/* --- helpers ---------------------------------------------------------------------------------- */

/* Two tables of three levels, with indexes; free pages. Pages of 4096 bytes: SQLite's page p is p - 1. */
static sqlite3 *make_db(unsigned auto_vacuum)
{
    sqlite3 *db = open_with(unit_path("t.db"), "dax");
    run(db,
        "PRAGMA auto_vacuum=%u; CREATE TABLE gone(a); BEGIN; INSERT INTO gone "
        "VALUES(zeroblob(40000));"
        "CREATE TABLE t(a INTEGER PRIMARY KEY, b); CREATE TABLE u(a INTEGER PRIMARY KEY, b);"
        "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2600) INSERT INTO t"
        " SELECT i * 2, printf('%%0900d', (i * 7919) %% 100003) FROM n;"
        "INSERT INTO u SELECT a + 1, b || 'u' FROM t;"
        "CREATE INDEX t_b ON t(b); CREATE INDEX u_b ON u(b);"
        "CREATE TABLE child(a REFERENCES t(a) ON DELETE CASCADE); INSERT INTO child SELECT a FROM "
        "t;"
        "CREATE TABLE noted(a); CREATE TRIGGER note AFTER DELETE ON t BEGIN"
        " INSERT INTO noted VALUES(old.a); END;"
        "COMMIT; DROP TABLE gone; PRAGMA wal_checkpoint(truncate)",
        auto_vacuum);
    return db;
}

static uint64_t find_page(sqlite3 *db, const char *name, const char *role, unsigned nth)
{
    struct owner_map *map;
    char *why;
    ck_assert_int_eq(owner_map_of_schema(db, "main", &map, &why), SQLITE_OK);
    unsigned pages = (unsigned)number(db, "PRAGMA page_count"), found = 0;
    for (unsigned p = 1; p <= pages && !found; p++) {
        struct owner o;
        owner_of_sqlite_page(map, p, &o);
        if (strcmp(o.role, role) == 0 && (!name || (o.name && strcmp(o.name, name) == 0)) &&
            nth-- == 0)
            found = p;
    }
    owner_map_release(map);
    ck_assert_msg(found, "no such %s page of %s", role, name ? name : "nothing");
    return found - 1;
}

/* Forget the maps that were made before anything was bad. */
static sqlite3 *reopen(sqlite3 *db)
{
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    return open_with(unit_path("t.db"), "dax");
}

static unsigned entries_with(sqlite3 *db, enum media_status status)
{
    static struct media_entry all[4096];
    size_t n = conn_media_list(vfs_conn_of(db, "main"), all, 4096);
    unsigned count = 0;
    for (size_t i = 0; i < n; i++)
        count += all[i].status == status;
    return count;
}

static void check_whole(sqlite3 *db)
{
    EXPECT(db, "PRAGMA integrity_check", "ok");
    EXPECT(db, "SELECT count(*) || ' ' || count(b) FROM t", "2600 2600");
    EXPECT(db, "SELECT count(*) || ' ' || count(b) FROM u", "2600 2600");
    EXPECT(db, "SELECT count(*) FROM t WHERE b <> printf('%0900d', (a / 2 * 7919) % 100003)", "0");
}

/* --- all or nothing --------------------------------------------------------------------------- */

START_TEST(within_a_transaction_it_is_refused)
{
    sqlite3 *db = make_db(0);
    damage(db, find_page(db, "t_b", "leaf", 3));
    run(db, "BEGIN; INSERT INTO child VALUES(2)");
    const char *answer = ask(db, "SELECT dax_repair()");
    ck_assert_msg(strstr(answer, "ERROR 6") && strstr(answer, "end it first"), "%s", answer);
    run(db, "COMMIT");
    EXPECT(db, "SELECT dax_repair() ->> '$[0].done'", "repaired");
    check_whole(db);
    EXPECT(db, "SELECT count(*) FROM child", "2601");
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

START_TEST(while_another_connection_writes_it_is_busy)
{
    sqlite3 *db = make_db(0), *writer = open_with(unit_path("t.db"), "dax");
    damage(db, find_page(db, "t_b", "leaf", 3));
    run(writer, "BEGIN IMMEDIATE");
    sqlite3_busy_timeout(db, 1);
    ck_assert_ptr_nonnull(strstr(ask(db, "SELECT dax_repair()"), "ERROR 5"));
    run(writer, "COMMIT");
    EXPECT(db, "SELECT dax_repair() ->> '$[0].done'", "repaired");
    ck_assert_int_eq(sqlite3_close(writer), SQLITE_OK);
    check_whole(db);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

START_TEST(a_page_in_a_readers_hands_is_busy_and_the_others_are_repaired)
{
    sqlite3 *db = make_db(0), *reader = open_with(unit_path("t.db"), "dax");
    sqlite3_stmt *rows;
    uint64_t page = 0;
    ck_assert_int_eq(sqlite3_prepare_v2(reader, "SELECT b FROM t", -1, &rows, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(rows), SQLITE_ROW);
    /* A leaf is where the cursor stands: one that is pinned. */
    while (page < 100 && strstr(ask(db, "SELECT refcount FROM dax_pages WHERE page = %llu AND "
                                        "role = 'leaf'", (unsigned long long)page), "1") == NULL)
        page++;
    ck_assert_uint_lt(page, 100);
    struct conn *c = vfs_conn_of(db, "main");
    unit_ok(conn_media_add(c, MEDIA_BASE, page, MEDIA_IO, "by the test", &err));
    unit_ok(conn_media_add(c, MEDIA_BASE, page + 20, MEDIA_IO, "by the test", &err));
    for (unsigned i = 0; i < 2; i++) {
        const char *answer = i ? ask(db, "SELECT dax_repair()")
                               : ask(db, "SELECT dax_repair(%llu)", (unsigned long long)page);
        ck_assert_msg(strncmp(answer, "ERROR 5: dax_repair: ", 21) == 0 && strstr(answer, "is pinned by"),
                      "%s", answer);
        ck_assert_uint_eq(open_entries(db), 2 - i);
    }
    ck_assert_int_eq(sqlite3_step(rows), SQLITE_ROW);
    sqlite3_finalize(rows);
    ck_assert(strstr(ask(db, "SELECT dax_repair()"), "\"done\":\"repaired\""));
    ck_assert_uint_eq(open_entries(db), 0);
    EXPECT(db, "PRAGMA integrity_check", "ok");
    ck_assert_int_eq(sqlite3_close(reader), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

/* As docs/media-errors.md says it: a table is read around its index. */
START_TEST(a_bad_index_is_read_around)
{
    sqlite3 *db = make_db(0);
    run(db, "CREATE TABLE w(b UNIQUE, k, n, PRIMARY KEY(k)) WITHOUT ROWID;"
            "INSERT INTO w SELECT b, a, a %% 7 FROM t; CREATE INDEX w_n ON w(n)");
    damage(db, find_page(db, "t_b", "leaf", 3));
    damage(db, find_page(db, "w_n", "leaf", 0));
    static const char error[] = "ERROR 10: disk I/O error";
    EXPECT(db, "SELECT count(b) FROM t WHERE b >= ''", error);
    EXPECT(db, "SELECT count(b) FROM t NOT INDEXED WHERE b >= ''", "2600");
    EXPECT(db, "SELECT name FROM pragma_index_list('w') WHERE origin = 'pk'",
           "sqlite_autoindex_w_2");
    /* NOT INDEXED means nothing there. */
    ck_assert_ptr_nonnull(strstr(ask(db, "SELECT count(n) FROM w NOT INDEXED WHERE n = 0"), error));
    EXPECT(db, "SELECT count(n) FROM w INDEXED BY sqlite_autoindex_w_2 WHERE n = 0", "371");
    EXPECT(db, "SELECT count(n) || ' ' || sum(length(b)) FROM w INDEXED BY sqlite_autoindex_w_2",
           "2600 2340000");
    /* Nor does this, where only rows are counted. */
    ck_assert_ptr_nonnull(
        strstr(ask(db, "SELECT count(*) FROM w INDEXED BY sqlite_autoindex_w_2"), error));
    EXPECT(db, "SELECT count(k) FROM w INDEXED BY sqlite_autoindex_w_2", "2600");
    EXPECT(db, "SELECT json_array_length(dax_repair())", "2");
    EXPECT(db, "SELECT count(*) FROM w", "2600");
    check_whole(db);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

START_TEST(a_commit_that_fails_leaves_the_error_as_it_was)
{
    sqlite3 *db = make_db((unsigned)_i);
    uint64_t index = find_page(db, "t_b", "interior", 0), leaf = find_page(db, "t", "leaf", 9);
    damage(db, index);
    damage(db, leaf);
    commit_does = COMMIT_FAILS;
    ck_assert_ptr_nonnull(
        strstr(ask(db, "SELECT dax_repair(%d, 'allow-loss')", (int)leaf), "ERROR 13"));
    commit_does = COMMIT_WORKS;
    ck_assert_uint_eq(open_entries(db), 2);
    ck_assert_ptr_nonnull(strstr(ask(db, "SELECT count(b) FROM t NOT INDEXED"), "ERROR 10"));
    ck_assert_ptr_nonnull(strstr(ask(db, "SELECT count(*) FROM u WHERE b > ''"), "2600"));
    /* The index is filled from the table. */
    EXPECT(db, "SELECT dax_repair() ->> '$[0].done'", "nothing");
    const char *answer = ask(db, "SELECT dax_repair(%d, 'allow-loss')", (int)leaf);
    EXPECT(db, "PRAGMA integrity_check", "ok");
    ck_assert_msg(open_entries(db) == 0, "%s", answer);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

START_TEST(a_process_that_ends_leaves_all_or_nothing)
{
    bool after = _i % 2;
    sqlite3 *db = make_db(_i / 2 % 2);
    uint64_t page = _i < 4 ? find_page(db, "t", "interior", 0) : find_page(db, "t_b", "leaf", 5);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        db = open_with(unit_path("t.db"), "dax");
        run(db, "PRAGMA user_version=5"); /* there is a ledger before there is an error */
        damage(db, page);
        commit_does = after ? COMMIT_EXITS_AFTER : COMMIT_EXITS_BEFORE;
        ask(db, "SELECT dax_repair()");
        _exit(1);
    }
    ck_assert_int_eq(unit_wait(pid), 7);
    db = open_with(unit_path("t.db"), "dax");
    ck_assert_uint_eq(open_entries(db), after ? 0 : 1);
    ck_assert_uint_eq(entries_with(db, MEDIA_REPAIRED), after ? 1 : 0);
    if (!after) {
        ck_assert_ptr_nonnull(strstr(ask(db, "SELECT count(b) FROM t %s WHERE b > ''",
                                         _i < 4 ? "NOT INDEXED" : "INDEXED BY t_b"),
                                     "ERROR 10"));
        EXPECT(db, "SELECT dax_repair() ->> '$[0].done'", "repaired");
    }
    check_whole(db);
    EXPECT(db, "PRAGMA user_version", "5");
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

START_TEST(what_has_become_of_an_error_is_known_after_the_next_open)
{
    sqlite3 *db = make_db(0);
    uint64_t leaf = find_page(db, "t", "leaf", 9);
    damage(db, find_page(db, "u_b", "leaf", 3));
    EXPECT(db, "SELECT dax_repair() ->> '$[0].done'", "repaired");
    damage(db, leaf);
    ck_assert_ptr_nonnull(
        strstr(ask(db, "SELECT dax_repair(%d, 'allow-loss')", (int)leaf), "\"lost\""));
    db = reopen(db);
    run(db, "PRAGMA user_version=1"); /* the sidecar is opened by the first write */
    ck_assert_uint_eq(open_entries(db), 0);
    ck_assert_uint_eq(entries_with(db, MEDIA_REPAIRED), 1);
    ck_assert_uint_eq(entries_with(db, MEDIA_LOST), 1);
    EXPECT(db, "PRAGMA integrity_check", "ok");
    EXPECT(db, "SELECT dax_repair()", "[]");
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

/* --- several at once -------------------------------------------------------------------------- */

START_TEST(without_a_page_everything_that_loses_nothing_is_done)
{
    sqlite3 *db = make_db((unsigned)_i);
    uint64_t leaf = find_page(db, "u", "leaf", 20);
    damage(db, find_page(db, "t_b", "root", 0));
    damage(db, find_page(db, "t_b", "leaf", 1));
    damage(db, find_page(db, "t_b", "leaf", 100));
    damage(db, find_page(db, "t", "interior", 0));
    damage(db, leaf);
    if (_i != 1) {
        damage(db, find_page(db, NULL, "free trunk", 0));
        damage(db, find_page(db, NULL, "free leaf", 2));
    }
    if (_i)
        damage(db, 1); /* the first page of the pointer map */
    const char *answer = ask(db, "SELECT dax_repair()");
    ck_assert_uint_eq(open_entries(db), 1);
    EXPECT(db, "SELECT count(*) || ' ' || count(b) FROM t WHERE b > ''", "2600 2600");
    ck_assert_ptr_nonnull(strstr(ask(db, "SELECT count(b) FROM u NOT INDEXED"), "ERROR 10"));
    const char *call = ask(db,
                           "SELECT value ->> '$.call' FROM json_each(%Q)"
                           " WHERE value ->> '$.done' = 'nothing'",
                           answer);
    char want[80];
    snprintf(want, sizeof want, "SELECT dax_repair(%llu, 'allow-loss')", (unsigned long long)leaf);
    ck_assert_str_eq(call, want);
    ck_assert_ptr_nonnull(strstr(ask(db, "%s", call), "\"done\":\"lost\""));
    EXPECT(db, "PRAGMA integrity_check", "ok");
    ck_assert_uint_eq(open_entries(db), 0);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

/* Numbers of so many pages, in the order of the file. */
static unsigned find_pages(sqlite3 *db, const char *name, const char *role, uint64_t *out,
                           unsigned max)
{
    struct owner_map *map;
    char *why;
    ck_assert_int_eq(owner_map_of_schema(db, "main", &map, &why), SQLITE_OK);
    unsigned pages = (unsigned)number(db, "PRAGMA page_count"), found = 0;
    for (unsigned p = 1; p <= pages && found < max; p++) {
        struct owner o;
        owner_of_sqlite_page(map, p, &o);
        if (o.name && strcmp(o.name, name) == 0 && (!role || strcmp(o.role, role) == 0))
            out[found++] = p - 1;
    }
    owner_map_release(map);
    return found;
}

/* More than the ledger has room for; the root, which has to be written, is found last. */
START_TEST(all_pages_of_an_index_in_one_call)
{
    static uint64_t pages[2000];
    sqlite3 *db = make_db((unsigned)_i);
    unsigned n = find_pages(db, "t_b", NULL, pages, 2000);
    ck_assert_uint_gt(n, 300); /* of the ledger's 256 */
    uint64_t root = find_page(db, "t_b", "root", 0);
    for (unsigned i = 0; i < n; i++)
        if (pages[i] != root)
            damage(db, pages[i]);
    damage(db, root);
    ck_assert_uint_eq(open_entries(db), n);
    const char *answer = ask(db, "SELECT dax_repair()");
    ck_assert_msg(answer[0] == '[', "%s", answer);
    ck_assert_msg(open_entries(db) == 0, "%u left: %.2000s", open_entries(db), answer);
    check_whole(db);
    db = reopen(db);
    run(db, "PRAGMA user_version=1");
    ck_assert_uint_eq(open_entries(db), 0);
    check_whole(db);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

/* One call with the loss of one page closes what the table loses: with a crash behind the commit, too. */
START_TEST(two_hundred_leaves_of_a_table_in_one_call)
{
    static uint64_t pages[200];
    sqlite3 *db = make_db(0);
    unsigned n = find_pages(db, "t", "leaf", pages, 200);
    ck_assert_uint_eq(n, 200);
    for (unsigned i = 0; i < n; i++)
        damage(db, pages[i]);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        db = open_with(unit_path("t.db"), "dax");
        commit_does = COMMIT_EXITS_AFTER;
        ask(db, "SELECT dax_repair(%d, 'allow-loss')", (int)pages[77]);
        _exit(1);
    }
    ck_assert_int_eq(unit_wait(pid), 7);
    db = open_with(unit_path("t.db"), "dax");
    run(db, "PRAGMA user_version=1");
    ck_assert_uint_eq(open_entries(db), 0);
    ck_assert_uint_eq(entries_with(db, MEDIA_LOST), 200);
    EXPECT(db, "PRAGMA integrity_check", "ok");
    /* Four rows a leaf. */
    EXPECT(db, "SELECT count(*) || ' ' || count(b) FROM t NOT INDEXED", "1800 1800");
    EXPECT(db, "SELECT count(*) FROM t WHERE b <> printf('%0900d', (a / 2 * 7919) % 100003)", "0");
    EXPECT(db, "SELECT count(*) || ' ' || count(b) FROM u", "2600 2600");
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

START_TEST(leaves_of_two_tables_are_not_mixed_up)
{
    bool known = _i;
    sqlite3 *db = make_db(0);
    uint64_t t = find_page(db, "t", "interior", 0), u = find_page(db, "u", "interior", 0);
    db = reopen(db);
    if (known)
        ck_assert_int_eq(ask(db, "SELECT dax_owner(0)")[0], '{');
    damage(db, t);
    damage(db, u);
    if (known) { /* in a map of another state as well */
        run(db, "PRAGMA user_version=3");
        ck_assert_int_eq(ask(db, "SELECT dax_owner(0)")[0], '{');
    }
    const char *answer = ask(db, "SELECT dax_repair()");
    if (known) {
        ck_assert_msg(open_entries(db) == 0, "%s", answer);
        check_whole(db);
    } else {
        ck_assert_uint_eq(open_entries(db), 2);
        ck_assert_msg(strstr(answer, "cannot be told apart"), "%s", answer);
        /* Both at once, or what is left behind of one would be taken for the other's. */
        const char *most = ask(db, "SELECT %Q ->> '$[0].loss.rows_most'", answer);
        const char *call = ask(db, "SELECT %Q ->> '$[1].call'", answer);
        ck_assert_msg(strstr(call, "allow-loss"), "%s", answer);
        answer = ask(db, "%s", call);
        ck_assert_msg(open_entries(db) == 0, "%s", answer);
        EXPECT(db, "PRAGMA integrity_check", "ok");
        EXPECT(db, "SELECT count(*) FROM t WHERE b <> printf('%0900d', (a / 2 * 7919) % 100003)",
               "0");
        EXPECT(db, "SELECT count(*) FROM u WHERE b <> printf('%0900du', (a / 2 * 7919) % 100003)",
               "0");
        long long gone =
            5200 - number(db, "SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM u)");
        ck_assert_int_gt(gone, 0);
        ck_assert_int_le(gone, atoll(most));
    }
    sqlite3_close(db);
}
END_TEST

/* --- loss ------------------------------------------------------------------------------------- */

START_TEST(what_is_lost_lies_in_the_range_that_was_named)
{
    sqlite3 *db = make_db(0);
    unsigned nth = (unsigned)_i * 90;
    uint64_t page = find_page(db, "t", "leaf", nth);
    db = reopen(db);
    run(db, "CREATE TEMP TABLE was AS SELECT a FROM main.t");
    damage(db, page);
    const char *answer = ask(db, "SELECT dax_repair(%d)", (int)page);
    ck_assert_ptr_nonnull(strstr(answer, "\"done\":\"nothing\""));
    run(db, "PRAGMA foreign_keys=ON");
    ck_assert_ptr_nonnull(
        strstr(ask(db, "SELECT dax_repair(%d, 'allow-loss')", (int)page), "\"done\":\"lost\""));
    const char *lost = ask(db, "SELECT count(*) FROM was WHERE a NOT IN (SELECT a FROM t)");
    ck_assert_int_gt(atoi(lost), 0);
    const char *inside = ask(db,
                             "SELECT count(*) FROM was WHERE a NOT IN (SELECT a FROM t) AND"
                             " a BETWEEN coalesce(%Q ->> '$[0].loss.rowid_from', a)"
                             " AND coalesce(%Q ->> '$[0].loss.rowid_to', a)",
                             answer, answer);
    ck_assert_str_eq(lost, inside);
    /* And nothing else in the range is left. */
    if (nth)
        EXPECT(db, "SELECT max(a) - min(a) < 40 FROM was WHERE a NOT IN (SELECT a FROM t)", "1");
    ck_assert_str_eq(ask(db,
                         "SELECT count(*) FROM t WHERE a BETWEEN %Q ->> '$[0].loss.rowid_from'"
                         " AND %Q ->> '$[0].loss.rowid_to'",
                         answer, answer),
                     "0");
    const char *most = ask(db, "SELECT %Q ->> '$[0].loss.rows_most'", answer);
    ck_assert_int_le(atoi(lost), atoi(most));
    EXPECT(db, "SELECT count(*) FROM child", "2600"); /* no foreign key has acted, nor a trigger */
    EXPECT(db, "SELECT count(*) FROM noted", "0");
    EXPECT(db, "PRAGMA integrity_check", "ok");
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

START_TEST(a_file_that_was_cut_is_repaired)
{
    sqlite3 *db = make_db((unsigned)_i);
    db = reopen(db);
    run(db, "INSERT INTO u SELECT a + 10000, b FROM u WHERE a < 300");
    run(db, "PRAGMA wal_checkpoint(truncate)");
    long long size = number(db, "PRAGMA page_count") * 4096;
    ck_assert_int_eq(truncate(unit_path("t.db"), (off_t)size - 30 * 4096), 0);
    ask(db, "SELECT dax_scrub()");
    ck_assert_uint_gt(open_entries(db), 0);
    for (int turns = 0; open_entries(db) && turns < 60; turns++) {
        const char *answer = ask(db, "SELECT dax_repair()");
        ck_assert_msg(answer[0] == '[', "%s", answer);
        const char *call =
            ask(db, "SELECT value ->> '$.call' FROM json_each(%Q) WHERE value ->> '$.call' <> ''",
                answer);
        if (strcmp(call, "nothing") != 0)
            answer = ask(db, "%s", call);
        ck_assert_msg(answer[0] == '[', "%s: %s", call, answer);
    }
    ck_assert_uint_eq(open_entries(db), 0);
    EXPECT(db, "PRAGMA integrity_check", "ok");
    EXPECT(db, "SELECT count(*) FROM t WHERE b <> printf('%0900d', (a / 2 * 7919) % 100003)", "0");
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    db = open_with(unit_path("t.db"), "unix");
    EXPECT(db, "PRAGMA integrity_check", "ok");
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

/* --- other connections, settings --------------------------------------------------------------- */

START_TEST(a_reader_keeps_its_state_and_then_sees_the_new_one)
{
    sqlite3 *db = make_db(0), *reader = open_with(unit_path("t.db"), "dax");
    uint64_t leaf = find_page(db, "t", "leaf", 9);
    run(reader, "BEGIN");
    EXPECT(reader, "SELECT count(*) FROM u", "2600");
    damage(db, leaf);
    ck_assert_ptr_nonnull(
        strstr(ask(db, "SELECT dax_repair(%d, 'allow-loss')", (int)leaf), "\"lost\""));
    EXPECT(reader, "SELECT count(*) FROM u", "2600");
    ck_assert_ptr_nonnull(strstr(ask(reader, "SELECT count(b) FROM t NOT INDEXED"), "ERROR 10"));
    ck_assert(sqlite3_get_autocommit(reader)); /* SQLite ends a transaction after such an error */
    ck_assert_str_eq(ask(reader, "SELECT count(b) FROM t NOT INDEXED"),
                     ask(db, "SELECT count(b) FROM t NOT INDEXED"));
    EXPECT(reader, "PRAGMA integrity_check", "ok");
    ck_assert_int_eq(sqlite3_close(reader), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

static int reversed(void *arg, int a_bytes, const void *a, int b_bytes, const void *b)
{
    int n = a_bytes < b_bytes ? a_bytes : b_bytes, order = memcmp(b, a, (size_t)n);
    (void)arg;
    return order ? order : b_bytes - a_bytes;
}

static void twice(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    sqlite3_result_int64(ctx, argc * 2 * sqlite3_value_int64(argv[0]));
}

START_TEST(collations_and_functions_of_the_user_are_used)
{
    sqlite3 *db = make_db(0);
    ck_assert_int_eq(sqlite3_create_collation(db, "rev", SQLITE_UTF8, NULL, reversed), SQLITE_OK);
    ck_assert_int_eq(sqlite3_create_function(db, "twice", 1, SQLITE_UTF8 | SQLITE_DETERMINISTIC,
                                             NULL, twice, NULL, NULL),
                     SQLITE_OK);
    run(db, "CREATE INDEX t_r ON t(b COLLATE rev, twice(a))");
    damage(db, find_page(db, "t_r", "leaf", 4));
    EXPECT(db, "SELECT dax_repair() ->> '$[0].done'", "repaired");
    check_whole(db);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

START_TEST(a_defensive_connection_and_one_that_reads_only)
{
    sqlite3 *db = make_db(0), *reader;
    char uri[600];
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    damage(db, find_page(db, "t_b", "leaf", 3));
    snprintf(uri, sizeof uri, "file:%s?vfs=dax&mode=ro", unit_path("t.db"));
    ck_assert_int_eq(sqlite3_open_v2(uri, &reader, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL),
                     SQLITE_OK);
    ck_assert_ptr_nonnull(strstr(ask(reader, "SELECT dax_repair()"), "ERROR 8"));
    ck_assert_int_eq(sqlite3_close(reader), SQLITE_OK);
    EXPECT(db, "SELECT dax_repair() ->> '$[0].done'", "repaired");
    check_whole(db);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

START_TEST(an_attached_database_is_repaired_and_the_call_names_it)
{
    sqlite3 *other = make_db(0);
    uint64_t leaf = find_page(other, "t", "leaf", 9);
    damage(other, leaf);
    sqlite3 *db = open_with(unit_path("main.db"), "dax");
    run(db, "ATTACH 'file:%s?vfs=dax' AS aux", unit_path("t.db"));
    EXPECT(db, "SELECT dax_repair()", "[]");
    const char *call = ask(db, "SELECT dax_repair(NULL, NULL, 'aux') ->> '$[0].call'");
    char want[80];
    snprintf(want, sizeof want, "SELECT dax_repair(%d, 'allow-loss', 'aux')", (int)leaf);
    ck_assert_str_eq(call, want);
    ck_assert_ptr_nonnull(strstr(ask(db, "%s", call), "\"lost\""));
    EXPECT(db, "PRAGMA aux.integrity_check", "ok");
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(other), SQLITE_OK);
}
END_TEST

/* With a bad page 1 no connection to the database can prepare a statement with a table in it. */
START_TEST(errors_of_a_database_without_a_schema_are_seen_from_another_one)
{
    char path[400];
    snprintf(path, sizeof path, "%s", unit_path("t.db"));
    ck_assert_int_eq(sqlite3_close(make_db(0)), SQLITE_OK);
    sqlite3 *db = open_with(path, "dax"), *other;
    ck_assert_int_eq(sqlite3_open(":memory:", &other), SQLITE_OK);
    damage(db, 0);
    ck_assert_ptr_nonnull(strstr(ask(db, "SELECT count(*) FROM dax_errors"), "ERROR 10"));
    ck_assert_str_eq(ask(other,
                         "SELECT id || ' ' || page || ' ' || kind || ' ' || status"
                         " FROM dax_errors(%Q)",
                         path),
                     "1 0 damaged quarantined");
    /* What has no name yet gets one from the connection that meets it. */
    ask(db, "SELECT dax_status()");
    ck_assert_str_eq(ask(other, "SELECT type || ' ' || role FROM dax_errors(%Q)", path),
                     "schema root");
    /* Through another name of the file, and with the rows of no other one. */
    ck_assert_int_eq(symlink(path, unit_path("link.db")), 0);
    ck_assert_str_eq(ask(other, "SELECT count(*) || ' ' || min(schema) FROM dax_errors(%Q)",
                         unit_path("link.db")),
                     ask(other, "SELECT '1 ' || %Q", unit_path("link.db")));
    sqlite3 *good = open_with(unit_path("good.db"), "dax");
    run(good, "CREATE TABLE t(a)");
    ck_assert_str_eq(ask(other, "SELECT count(*) FROM dax_errors(%Q)", unit_path("good.db")), "0");
    ck_assert_int_eq(sqlite3_close(good), SQLITE_OK);
    const char *no = ask(other, "SELECT count(*) FROM dax_errors(%Q)", unit_path("good.db"));
    ck_assert_msg(strstr(no, "ERROR 1: dax_errors") && strstr(no, "is not open in this process"),
                  "%s", no);
    no = ask(other, "SELECT count(*) FROM dax_errors('/no/such/file')");
    ck_assert_msg(strstr(no, "neither a database of this connection nor a file"), "%s", no);
    no = ask(other, "SELECT count(*) FROM dax_errors('t.db')");
    ck_assert_msg(strstr(no, "no such database: \"t.db\""), "%s", no);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_close(other), SQLITE_OK);
}
END_TEST

/* With what the answer says is to be done then, a full-text index is whole again. */
START_TEST(a_full_text_index_is_rebuilt_as_the_answer_says)
{
    static const char *const shadows[] = {"ft_data", "ft_idx", "ft_docsize", "ft_config"};
    sqlite3 *db = open_with(unit_path("t.db"), "dax");
    run(db,
        "CREATE VIRTUAL TABLE ft USING fts5(a); BEGIN; WITH s(i) AS (SELECT 1 UNION ALL SELECT i + "
        "1"
        " FROM s WHERE i < 2000) INSERT INTO ft SELECT 'word' || i || ' common' FROM s; COMMIT");
    static uint64_t pages[200];
    unsigned n = find_pages(db, shadows[_i], NULL, pages, 200);
    db = reopen(db);
    for (unsigned i = 0; i < n; i++)
        damage(db, pages[i]);
    const char *answer = ask(db, "SELECT dax_repair(%d, 'allow-loss')", (int)pages[0]);
    ck_assert_msg(open_entries(db) == 0 && strstr(answer, " of them"), "%.3000s", answer);
    const char *then = ask(db, "SELECT %Q ->> '$[0].then'", answer);
    db = reopen(db);
    run(db, "%s", then);
    EXPECT(db, "SELECT count(*) FROM ft WHERE ft MATCH 'common'", "2000");
    EXPECT(db, "SELECT count(*) FROM ft WHERE ft MATCH 'word77'", "1");
    run(db, "INSERT INTO ft VALUES('more common'); INSERT INTO ft(ft) VALUES('integrity-check')");
    EXPECT(db, "PRAGMA integrity_check", "ok");
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

START_TEST(wrong_arguments_are_named)
{
    sqlite3 *db = make_db(0);
    EXPECT(db, "SELECT dax_repair('x')",
           "ERROR 1: dax_repair: x is no page number; pages are counted from 0");
    EXPECT(db, "SELECT dax_repair(5, 'please')",
           "ERROR 1: dax_repair: unknown word \"please\"; it can be allow-loss");
    EXPECT(db, "SELECT dax_repair(NULL, 'allow-loss')",
           "ERROR 1: dax_repair: allow-loss is for one page: name it");
    EXPECT(db, "SELECT dax_repair(5, NULL, 'aux')",
           "ERROR 1: dax_repair: no such database: \"aux\"");
    EXPECT(db, "SELECT dax_repair(5)", "[]");
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("repair_rules");
    TCase *tc = tcase_create("repair_rules");
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, within_a_transaction_it_is_refused);
    tcase_add_test(tc, while_another_connection_writes_it_is_busy);
    tcase_add_test(tc, a_page_in_a_readers_hands_is_busy_and_the_others_are_repaired);
    tcase_add_test(tc, a_bad_index_is_read_around);
    tcase_add_loop_test(tc, a_commit_that_fails_leaves_the_error_as_it_was, 0, 3);
    tcase_add_loop_test(tc, a_process_that_ends_leaves_all_or_nothing, 0, 6);
    tcase_add_test(tc, what_has_become_of_an_error_is_known_after_the_next_open);
    tcase_add_loop_test(tc, without_a_page_everything_that_loses_nothing_is_done, 0, 3);
    tcase_add_loop_test(tc, all_pages_of_an_index_in_one_call, 0, 3);
    tcase_add_test(tc, two_hundred_leaves_of_a_table_in_one_call);
    tcase_add_loop_test(tc, leaves_of_two_tables_are_not_mixed_up, 0, 2);
    tcase_add_loop_test(tc, what_is_lost_lies_in_the_range_that_was_named, 0, 6);
    tcase_add_loop_test(tc, a_file_that_was_cut_is_repaired, 0, 3);
    tcase_add_test(tc, a_reader_keeps_its_state_and_then_sees_the_new_one);
    tcase_add_test(tc, collations_and_functions_of_the_user_are_used);
    tcase_add_test(tc, a_defensive_connection_and_one_that_reads_only);
    tcase_add_test(tc, an_attached_database_is_repaired_and_the_call_names_it);
    tcase_add_test(tc, errors_of_a_database_without_a_schema_are_seen_from_another_one);
    tcase_add_loop_test(tc, a_full_text_index_is_rebuilt_as_the_answer_says, 0, 4);
    tcase_add_test(tc, wrong_arguments_are_named);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
