/* test_media_names.c: a media error is named after the table or index that it hits.
 *
 * Catches: an error that names another object than dbstat does, with the bad page anywhere: in a root,
 * an interior page and one below it, a leaf, a chain, an index, a shadow table, the free list, the
 * pointer map, the schema; an entry that nobody names; a walk for the name that meets the next bad page
 * and never ends; no memory for the map; texts cut within a character; a log line whose end, which
 * SQLite cuts off, was the table.
 */
#include "tests/unit/media_said.h"
#include "vfs/last_words.h"

/* --- the right name ---------------------------------------------------------------------------------- */

static const struct position {
    const char *object, *role; /* as dax_pages has it */
    const char *type, *name;   /* in dax_errors */
    const char *phrase;        /* what the detail says in front of ", ROLE page N" */
} positions[] = {
    {"sqlite_schema", "root", "schema", "sqlite_schema", "schema"},
    {"orders", "root", "table", "orders", "table \"orders\""},
    {"orders", "interior", "table", "orders", "table \"orders\""},
    {"orders", "leaf", "table", "orders", "table \"orders\""},
    {"orders_b", "root", "index", "orders_b", "index \"orders_b\" of table \"orders\""},
    {"orders_b", "interior", "index", "orders_b", "index \"orders_b\" of table \"orders\""},
    {"orders_b", "leaf", "index", "orders_b", "index \"orders_b\" of table \"orders\""},
    {"small", "root", "table", "small", "table \"small\""},
    {"wide", "root", "table", "wide", "table \"wide\""},
    {"wide", "leaf", "table", "wide", "table \"wide\""},
    {"long", "overflow", "table", "long", "table \"long\""},
    {"docs_data", "leaf", "table", "docs", "virtual table \"docs\" (shadow table \"docs_data\")"},
    {"docs_content", "root", "table", "docs",
     "virtual table \"docs\" (shadow table \"docs_content\")"},
    {"docs_content_i", "leaf", "table", "docs",
     "virtual table \"docs\" (index \"docs_content_i\" of shadow table \"docs_content\")"},
    {"boxes_node", "leaf", "table", "boxes",
     "virtual table \"boxes\" (shadow table \"boxes_node\")"},
    {NULL, "free trunk", "", "", ""},
    {NULL, "free leaf", "", "", ""},
    {NULL, "pointer map", "", "", ""},
};
#define POSITIONS ((int)(sizeof positions / sizeof positions[0]))

/* The bad page is the one that would answer: no map was made before. */
START_TEST(the_bad_page_is_named_in_every_position)
{
    const struct position *p = &positions[_i];
    sqlite3 *db = orders_database("t", strcmp(p->role, "pointer map") == 0 ? 2 : 0);
    uint64_t page = find_page(db, p->object, p->role);
    dax_close(db);
    db = dax_open("t"); /* no map is left */
    add_to(db, page);
    (void)ask(db, "SELECT sum(a) FROM small"); /* without page 1 it fails */
    char detail[300], expected[400];
    snprintf(detail, sizeof detail, "%s%s%s page %llu", p->phrase, p->phrase[0] ? ", " : "",
             p->role, (unsigned long long)page + 1);
    ck_assert_uint_eq(call_count, 1);
    ck_assert_uint_eq(media_lines, 1);
    ck_assert_uint_eq(calls[0].page, page);
    ck_assert_str_eq(calls[0].type, p->type);
    ck_assert_str_eq(calls[0].object, p->name);
    ck_assert_str_eq(calls[0].role, p->role);
    ck_assert_str_eq(calls[0].detail, detail);
    snprintf(expected, sizeof expected, "poison in page %llu: %s", (unsigned long long)page,
             detail);
    EXPECT(db, "SELECT dax_status() ->> '$.media.newest'", expected);
    if (page != 0) {
        snprintf(expected, sizeof expected, "%llu|4096|database|poison|%s|%s|%s|quarantined|%s",
                 (unsigned long long)page, p->type[0] ? p->type : "NULL",
                 p->name[0] ? p->name : "NULL", p->role, detail);
        EXPECT(db,
               "SELECT page, bytes, part, kind, type, object, role, status, detail FROM dax_errors",
               expected);
    }
    dax_close(db);
}
END_TEST

START_TEST(an_interior_page_and_one_below_it_are_both_named)
{
    sqlite3 *db = orders_database("t", 0);
    bool index = _i == 1, pointer_map = _i == 2;
    const char *object = index ? "orders_b" : "orders";
    if (pointer_map) {
        dax_close(db);
        db = orders_database("p", 2);
    }
    uint64_t interior = find_page(db, object, "interior");
    uint64_t leaf = child_page(db, object, interior);
    if (pointer_map) { /* no map is left: the pointer map alone knows */
        dax_close(db);
        db = dax_open("p");
    }
    add_to(db, interior);
    run(db, "INSERT INTO small VALUES(1)"); /* the map must be made anew */
    add_to(db, leaf);
    run(db, "INSERT INTO small VALUES(2)");
    char expected[300];
    snprintf(expected, sizeof expected, "%llu|%s|%s|interior %llu|%s|%s|%s",
             (unsigned long long)interior, index ? "index" : "table", object,
             (unsigned long long)leaf, index ? "index" : "table", object,
             /* how deep it hangs, the pointer map does not say */
             pointer_map ? "unknown" : "leaf");
    EXPECT(db, "SELECT page, type, object, role FROM dax_errors ORDER BY id", expected);
    dax_close(db);
}
END_TEST

START_TEST(below_a_page_that_nobody_knows_the_owner_is_unknown_and_says_why)
{
    sqlite3 *db = orders_database("t", 0);
    uint64_t interior = find_page(db, "orders", "interior");
    uint64_t leaf = child_page(db, "orders", interior);
    dax_close(db);
    db = dax_open("t");
    add_to(db, interior);
    add_to(db, leaf);
    char expected[300];
    snprintf(expected, sizeof expected,
             "NULL|NULL|unknown|page %llu, owner unknown (unknown below page %llu (interior of "
             "\"orders\"), which cannot be read)",
             (unsigned long long)leaf + 1, (unsigned long long)interior + 1);
    EXPECT(db, "SELECT type, object, role, detail FROM dax_errors WHERE id = 2", expected);
    EXPECT(db, "SELECT object FROM dax_errors WHERE id = 1", "orders");
    dax_close(db);
}
END_TEST

/* Every page of a database of random DDL and DML, against dbstat. */
START_TEST(every_page_of_a_mixed_database_is_named_as_dbstat_says)
{
    static const unsigned sizes[] = {4096, 8192, 65536};
    uint64_t seed = mix_seed() + (uint64_t)_i;
    struct mix m;
    struct mix_oracle o;
    sqlite3 *db = dax_open("mix");
    mix_start(&m, db, seed, sizes[_i], _i == 1 ? 2 : 0, "UTF-8");
    for (int i = 0; i < 60; i++)
        mix_step(&m);
    mix_ask(&o, db);
    unsigned per = sizes[_i] / DAX_PAGE_BYTES;
    EXPECT(db, "SELECT count(dax_owner(0))", "1"); /* a map before everything is bad */
    for (unsigned p = 1; p <= o.count && p <= 900 / per; p++)
        add_to(db, (uint64_t)(p - 1) * per + p % per);
    sqlite3_stmt *stmt;
    ck_assert_int_eq(sqlite3_prepare_v2(db, "SELECT page, object, role, detail FROM dax_errors", -1,
                                        &stmt, NULL),
                     SQLITE_OK);
    unsigned rows = 0;
    while (sqlite3_step(stmt) == SQLITE_ROW) {
        unsigned p = (unsigned)(sqlite3_column_int64(stmt, 0) / per + 1);
        const struct mix_page *want = &o.pages[p];
        const char *object = (const char *)sqlite3_column_text(stmt, 1);
        const char *role = (const char *)sqlite3_column_text(stmt, 2);
        const char *detail = (const char *)sqlite3_column_text(stmt, 3);
        char quoted[80];
        snprintf(quoted, sizeof quoted, "\"%s\"", want->name);
        bool schema = strcmp(want->name, "sqlite_schema") == 0;
        bool right = want->role[0] ? object && strcmp(role, want->role) == 0 &&
                                         (schema || strstr(detail, quoted))
                                   : !object;
        ck_assert_msg(right, "seed %llu: page %u is %s of %s (%s), dbstat says %s of %s",
                      (unsigned long long)seed, p, role, object, detail, want->role, want->name);
        rows++;
    }
    sqlite3_finalize(stmt);
    ck_assert_uint_gt(rows, 10);
    mix_forget(&o);
    dax_close(db);
}
END_TEST

START_TEST(small_pages_share_an_error_and_a_large_page_has_one_owner)
{
    sqlite3 *db = dax_open("small");
    run(db, "PRAGMA page_size=1024; CREATE TABLE a(x); CREATE TABLE b(x); CREATE INDEX bi ON b(x);"
            "CREATE TABLE c(x); CREATE TABLE d(x); CREATE TABLE e(x); CREATE TABLE f(x);"
            "INSERT INTO c VALUES(zeroblob(9000))");
    EXPECT(db, "SELECT count(dax_owner(0))", "1"); /* a map, before everything is bad */
    add_to(db, 1);
    add_to(db, 2);
    EXPECT(db, "SELECT count(*) FROM a", "0");
    add_to(db, 0);
    (void)ask(db, "SELECT 1 FROM a"); /* nothing works without page 1 */
    char got[2000] = "";
    for (unsigned i = 0; i < call_count; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s|%s|%s|%s", i ? " " : "",
                 calls[i].type, calls[i].object, calls[i].role, calls[i].detail);
    ck_assert_str_eq(
        got,
        "table|c, d, e, f|root|table \"c\", root page 5; table \"d\", root page 6; table \"e\", "
        "root page 7; table \"f\", root page 8"
        " table|c|overflow|table \"c\", overflow pages 9 to 12"
        " several|sqlite_schema, a, b, bi|root|schema, root page 1; table \"a\", root page 2; "
        "table \"b\", root page 3; index \"bi\" of table \"b\", root page 4");
    dax_close(db);
    db = dax_open("large");
    run(db, "PRAGMA page_size=65536; CREATE TABLE a(x); CREATE TABLE b(x)");
    add_to(db, 47);
    EXPECT(db, "SELECT page, type, object, role, detail FROM dax_errors",
           "47|table|b|root|table \"b\", root page 3");
    add_to(db, 4711);
    EXPECT(db, "SELECT page, type, object, role, detail FROM dax_errors WHERE id = 2",
           "4711|NULL|NULL|beyond the end|page 295, beyond the end of the database");
    dax_close(db);
}
END_TEST

START_TEST(errors_of_log_and_sidecar_say_so)
{
    sqlite3 *db = orders_database("t", 0);
    struct conn *c = vfs_conn_of(db, "main");
    add(c, MEDIA_LOG, 77, MEDIA_POISON, "");
    add(c, MEDIA_SIDECAR, 3, MEDIA_IO, "found by a test");
    map_fault.calls = 0;
    EXPECT(db, "SELECT page, part, kind, type, object, role, detail FROM dax_errors ORDER BY id",
           "77|log|poison|log|NULL|ring|log"
           " 3|sidecar|io|sidecar|NULL|structure|found by a test; sidecar's own structure");
    ck_assert_uint_eq(map_fault.calls, 0); /* needs no map */
    char want[600];
    snprintf(want, sizeof want,
             "daxlite: %s/t.db-dax: media error (poison) in page 77: log; see dax_errors\n",
             unit_dir);
    ck_assert_msg(strstr(log_text, want), "%s", log_text);
    dax_close(db);
}
END_TEST

/* --- when naming is difficult ------------------------------------------------------------------------ */

START_TEST(bad_pages_that_the_walk_meets_are_named_by_the_same_call)
{
    sqlite3 *db = orders_database("t", 0);
    uint64_t leaf = find_page(db, "orders", "leaf"),
             interior = find_page(db, "orders_b", "interior");
    dax_close(db);
    db = dax_open("t");
    walk_fault.armed = true;
    walk_fault.first = interior;
    walk_fault.count = 3;
    add_to(db, leaf);
    map_fault.calls = 0;
    EXPECT(db, "SELECT sum(a) FROM small", "42");
    walk_fault.armed = false;
    ck_assert_uint_eq(map_fault.calls, 1);
    ck_assert_uint_ge(call_count, 2);
    ck_assert_uint_le(call_count, 4);
    EXPECT(db, "SELECT count(*) FROM dax_errors WHERE role IS NULL", "0");
    ck_assert_str_eq(
        ask(db, "SELECT object, role, kind FROM dax_errors WHERE page = %lld", (long long)interior),
        "orders_b|interior|io");
    dax_close(db);
}
END_TEST

START_TEST(without_memory_an_error_waits_for_its_name)
{
    sqlite3 *db = orders_database("t", 0);
    uint64_t leaf = find_page(db, "orders", "leaf");
    map_fault.refusals = 3;
    map_fault.code = SQLITE_NOMEM;
    map_fault.calls = 0;
    add_to(db, leaf);
    EXPECT(db, "SELECT sum(length(b)) FROM orders NOT INDEXED", "ERROR: disk I/O error");
    EXPECT(db, "SELECT page IS NOT NULL, type, object, role, status FROM dax_errors",
           "1|NULL|NULL|NULL|quarantined");
    ck_assert_uint_eq(call_count, 0);
    ck_assert_uint_eq(media_lines, 0);
    ck_assert_ptr_nonnull(strstr(log_text, "page")); /* but the failure was logged */
    /* Statements that do not need the page do not try each time. */
    map_fault.refusals = 1000000;
    map_fault.calls = 0;
    for (int i = 0; i < 300; i++)
        EXPECT(db, "SELECT sum(a) FROM small", "42");
    ck_assert_uint_ge(map_fault.calls, 2);
    ck_assert_uint_le(map_fault.calls, 10);
    map_fault.refusals = 0;
    for (int i = 0; i < 100; i++)
        EXPECT(db, "SELECT sum(a) FROM small", "42");
    ck_assert_uint_eq(call_count, 1);
    EXPECT(db, "SELECT type, object, role FROM dax_errors", "table|orders|leaf");
    dax_close(db);
}
END_TEST

START_TEST(an_error_is_reported_even_if_its_owner_cannot_be_found)
{
    sqlite3 *db = orders_database("t", 0);
    uint64_t leaf = find_page(db, "orders", "leaf");
    map_fault.refusals = 1;
    map_fault.code = SQLITE_CORRUPT;
    add_to(db, leaf);
    EXPECT(db, "SELECT sum(a) FROM small", "42");
    ck_assert_uint_eq(call_count, 1);
    EXPECT(db, "SELECT type, role, detail FROM dax_errors",
           "NULL|unknown|owner unknown (the test refuses it)");
    dax_close(db);
}
END_TEST

static bool is_utf8(const char *text)
{
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        unsigned n = *s < 0x80 ? 1 : *s >= 0xf0 ? 4 : *s >= 0xe0 ? 3 : *s >= 0xc2 ? 2 : 0;
        if (n == 0)
            return false;
        for (unsigned k = 1; k < n; k++)
            if ((s[k] & 0xc0) != 0x80)
                return false;
        s += n;
    }
    return true;
}

START_TEST(long_names_are_cut_between_characters_and_lines_keep_what_matters)
{
    /* Names of 1 + 3 * n bytes and so on: every way to be cut. */
    static const char *const letters[] = {"\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    char name[260] = "", sql[400];
    for (int i = 0; i < _i % 4; i++)
        strcat(name, "x");
    while (strlen(name) < 240)
        strcat(name, letters[_i / 4]);
    sqlite3 *db = dax_open("t");
    snprintf(sql, sizeof sql, "PRAGMA page_size=4096; CREATE TABLE \"%s\"(a)", name);
    run(db, sql);
    add_to(db, 1);
    EXPECT(db, "SELECT type, role FROM dax_errors", "table|root");
    const char *object = ask(db, "SELECT object FROM dax_errors");
    ck_assert_uint_lt(strlen(object), 128);
    ck_assert_uint_ge(strlen(object), 124);
    ck_assert(is_utf8(object));
    ck_assert_int_eq(strncmp(name, object, strlen(object)), 0);
    ck_assert(is_utf8(ask(db, "SELECT detail FROM dax_errors")));
    ck_assert(is_utf8(log_text));
    dax_close(db);
}
END_TEST

START_TEST(a_long_path_leaves_room_for_the_table)
{
    char name[100] = "d";
    for (int i = 0; i < _i; i++)
        strcat(name, "d");
    sqlite3 *db = dax_open(name);
    run(db, "PRAGMA page_size=4096; CREATE TABLE orders(a)");
    add_to(db, 1);
    EXPECT(db, "SELECT count(*) FROM dax_errors", "1");
    char *line = strstr(log_text, ": media error");
    ck_assert_ptr_nonnull(line);
    line[strcspn(line, "\n")] = '\0';
    ck_assert_msg(strstr(line, "table \"orders\", root page 2"), "%s", line);
    ck_assert_msg(strstr(line, "SELECT dax_repair(1)"), "%s", line);
    dax_close(db);
}
END_TEST

/* --- real faults -------------------------------------------------------------------------------------- */

/* Another program cuts the file: SIGBUS in what was cut off, and nowhere else. */
START_TEST(a_file_that_another_program_cuts_names_the_tables_that_were_hit)
{
    sqlite3 *db = dax_open("t");
    run(db, "PRAGMA page_size=4096; CREATE TABLE a(x); INSERT INTO a VALUES(zeroblob(100000));"
            "CREATE TABLE b(x); CREATE INDEX b_x ON b(x); INSERT INTO b VALUES(zeroblob(20000));"
            "CREATE TABLE c(x); INSERT INTO c VALUES(7)");
    uint64_t cut = find_page(db, "b", "root"), end = (uint64_t)number(db, "PRAGMA page_count");
    dax_close(db);
    db = dax_open_with("t", _i == 0 ? "" : _i == 1 ? "&dax_zero_copy=off" : "&dax_probe=off");
    EXPECT(db, "SELECT length(x) FROM a", "100000");
    ck_assert_int_eq(truncate(unit_path("t.db"), (off_t)(cut * DAX_PAGE_BYTES)), 0);
    /* dax_probe=off would be fatal in SQLite's hands: copies are not. */
    if (_i == 2)
        run(db, "PRAGMA mmap_size=0");
    ck_assert_str_eq(ask(db, "SELECT length(x) FROM b"), "ERROR: disk I/O error");
    ck_assert_int_eq(sqlite3_extended_errcode(db), IOERR_DATA);
    EXPECT(db, "SELECT length(x) FROM a", "100000");
    ck_assert_uint_eq(call_count, 1);
    ck_assert_str_eq(calls[0].kind, "truncated");
    ck_assert_uint_eq(calls[0].page, cut);
    ck_assert_uint_ge(calls[0].bytes, (end - cut) * DAX_PAGE_BYTES);
    ck_assert_ptr_nonnull(strstr(calls[0].object, "b, b_x"));
    ck_assert_str_eq(calls[0].type, "several");
    ck_assert_ptr_nonnull(strstr(calls[0].detail, "truncated"));
    ck_assert_ptr_nonnull(strstr(calls[0].detail, "; table \"b\", index \"b_x\" of table \"b\""));
    char want[200];
    snprintf(want, sizeof want, "media error (truncated) in pages %llu to %llu: table \"b\", index",
             (unsigned long long)cut, (unsigned long long)(cut + calls[0].bytes / 4096 - 1));
    ck_assert_msg(strstr(log_text, want), "%s", log_text);
    sqlite3_close(db);
}
END_TEST

/* In SQLite's hands, where nothing can be returned: the process ends and says why. */
START_TEST(last_words_name_the_table)
{
    char said[4096] = "", want[200];
    sqlite3 *db = dax_open("t");
    run(db, "PRAGMA page_size=4096; CREATE TABLE a(x); INSERT INTO a VALUES(zeroblob(100000));"
            "CREATE TABLE b(x); INSERT INTO b VALUES(zeroblob(3000)), (zeroblob(3000))");
    uint64_t page = find_page(db, "b", "leaf");
    dax_close(db);
    int pipes[2];
    ck_assert_int_eq(pipe(pipes), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pipes[1], STDERR_FILENO);
        db = dax_open_with("t", "&dax_probe=off");
        if (_i == 1)
            EXPECT(db, "SELECT count(dax_owner(0))", "1");
        EXPECT(db, "SELECT length(x) FROM a", "100000");
        if (truncate(unit_path("t.db"), (off_t)(page * DAX_PAGE_BYTES)) == 0)
            (void)ask(db, "SELECT sum(length(x)) FROM b");
        _exit(3);
    }
    close(pipes[1]);
    ck_assert_int_eq(unit_wait(pid), 128 + SIGBUS);
    for (size_t used = 0, n; used < sizeof said - 1; used += n) {
        n = (size_t)read(pipes[0], said + used, sizeof said - 1 - used);
        if (n == 0 || n > sizeof said)
            break;
    }
    close(pipes[0]);
    snprintf(want, sizeof want, "/t.db: page %llu of the database%s cannot be read",
             (unsigned long long)page, " (table \"b\", leaf)");
    ck_assert_msg(strstr(said, want), "\"%s\" does not say \"%s\"", said, want);
}
END_TEST

static bool read_file(void *arg, uint64_t offset, size_t len, uint8_t *to)
{
    return pread(*(int *)arg, to, len, (off_t)offset) == (ssize_t)len;
}

/* As in a process that has never asked for a map: every page of every tree, its overflow chains included, and
 * nothing for the others. */
START_TEST(last_words_without_a_map_are_those_of_the_map)
{
    char want[300], got[300];
    unsigned same = 0, none = 0, overflow = 0, interior = 0;
    sqlite3 *db = orders_database("t", _i ? 2 : 0);
    run(db,
        "CREATE TABLE chain(x); WITH s(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM s WHERE i < 9) "
        "INSERT INTO chain SELECT randomblob(i * 3000) FROM s; CREATE INDEX chain_x ON chain(x);"
        "PRAGMA wal_checkpoint(TRUNCATE)");
    (void)find_page(db, "chain", "overflow");
    uint64_t pages = strtoull(ask(db, "PRAGMA page_count"), NULL, 10);
    int fd = open(unit_path("t.db"), O_RDONLY | O_CLOEXEC);
    struct media_reader r = {read_file, &fd};
    for (uint64_t page = 0; page < pages; page++) {
        size_t n = owner_last_words(unit_path("t.db"), page, NULL, want, sizeof want - 1);
        want[n] = '\0';
        size_t k = last_words_search(&r, page, got, sizeof got - 1);
        got[k] = '\0';
        if (strstr(want, "virtual table")) {
            ck_assert_msg(strstr(got, "docs_") || strstr(got, "boxes_"), "page %u: %s",
                          (unsigned)page, got);
        } else if (strstr(want, "free") || strstr(want, "pointer map")) {
            ck_assert_msg(k == 0, "page %u: %s", (unsigned)page, got);
            none++;
        } else if (!strstr(want, "schema")) {
            ck_assert_msg(strcmp(want, got) == 0, "page %u: %s, not %s", (unsigned)page, got, want);
            same++;
            overflow += strstr(want, "overflow") != NULL;
            interior += strstr(want, "interior") != NULL;
        } else {
            ck_assert_msg(strstr(got, " (schema, ") == got, "page %u: %s", (unsigned)page, got);
        }
    }
    printf(
        "figure: pages named without a map: %u, of them %u overflow, %u interior; %u of no table\n",
        same, overflow, interior, none);
    ck_assert_uint_gt(same, 100);
    ck_assert_uint_gt(overflow, 20);
    close(fd);
    dax_close(db);
}
END_TEST

START_TEST(last_words_fit_and_are_of_the_right_database)
{
    char text[300];
    sqlite3 *db = orders_database("t", 0), *other = orders_database("u", 2);
    uint64_t page = nth_page(db, "orders_b", "leaf", 40), data = find_page(db, "docs_data", "leaf");
    size_t n = owner_last_words(unit_path("t.db"), page, NULL, text, sizeof text);
    ck_assert_uint_lt(n, sizeof text);
    text[n] = '\0';
    ck_assert_str_eq(text, " (index \"orders_b\", leaf)");
    n = owner_last_words(unit_path("t.db"), data, NULL, text, sizeof text);
    text[n] = '\0';
    ck_assert_str_eq(text, " (virtual table \"docs\", leaf)");
    n = owner_last_words(unit_path("u.db"), find_page(other, NULL, "pointer map"), NULL, text,
                         sizeof text);
    text[n] = '\0';
    ck_assert_str_eq(text, " (pointer map)");
    ck_assert_uint_eq(owner_last_words(unit_path("none.db"), page, NULL, text, sizeof text), 0);
    ck_assert_uint_eq(owner_last_words(unit_path("t.db"), 1u << 30, NULL, text, sizeof text), 0);
    memset(text, '#', sizeof text);
    ck_assert_uint_eq(owner_last_words(unit_path("t.db"), page, NULL, text, 9), 9);
    ck_assert_int_eq(strncmp(text, " (index \"#", 10), 0);
    dax_close(other);
    dax_close(db);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("media names");
    TCase *tc = said_case("media names");
    tcase_add_loop_test(tc, the_bad_page_is_named_in_every_position, 0, POSITIONS);
    tcase_add_loop_test(tc, an_interior_page_and_one_below_it_are_both_named, 0, 3);
    tcase_add_test(tc, below_a_page_that_nobody_knows_the_owner_is_unknown_and_says_why);
    tcase_add_loop_test(tc, every_page_of_a_mixed_database_is_named_as_dbstat_says, 0, 3);
    tcase_add_test(tc, small_pages_share_an_error_and_a_large_page_has_one_owner);
    tcase_add_test(tc, errors_of_log_and_sidecar_say_so);
    tcase_add_test(tc, bad_pages_that_the_walk_meets_are_named_by_the_same_call);
    tcase_add_test(tc, without_memory_an_error_waits_for_its_name);
    tcase_add_test(tc, an_error_is_reported_even_if_its_owner_cannot_be_found);
    tcase_add_loop_test(tc, long_names_are_cut_between_characters_and_lines_keep_what_matters, 0,
                        12);
    tcase_add_loop_test(tc, a_long_path_leaves_room_for_the_table, 0, 60);
    tcase_add_loop_test(tc, a_file_that_another_program_cuts_names_the_tables_that_were_hit, 0, 3);
    tcase_add_loop_test(tc, last_words_name_the_table, 0, 2);
    tcase_add_loop_test(tc, last_words_without_a_map_are_those_of_the_map, 0, 2);
    tcase_add_test(tc, last_words_fit_and_are_of_the_right_database);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
