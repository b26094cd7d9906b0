/* test_repair.c: dax_repair() on every kind of page: what is lossless loses nothing, what is lost is what
 * was said, and PRAGMA integrity_check is ok afterwards.
 *
 * Catches: a repair that leaves a page without an owner or with two; a row that is wrong, twice there, or
 * missing without need; an index that does not fit its table; a loss larger than was said; a refusal
 * of what can be repaired; one that asks for an earlier map of the database.
 */
#include "tests/unit/repair.h"
#include "vfs/vfs.h"

static uint64_t seed;

/* --- the database ----------------------------------------------------------------------------- */

static const char *const tables[] = {"big",  "\"lo ng\"", "wr",     "tiny",
                                     "auto", "ft_data",   "rt_node"};
#define TABLES (sizeof tables / sizeof tables[0])

/* All kinds of objects and pages; trees of three levels with pages below 4096 bytes. */
static void make_template(unsigned page_size, unsigned auto_vacuum, unsigned rows, unsigned width)
{
    sqlite3 *db = open_with(unit_path("template.db"), "dax");
    run(db,
        "PRAGMA page_size=%u; PRAGMA auto_vacuum=%u; BEGIN;"
        "CREATE TABLE gone(a); INSERT INTO gone VALUES(zeroblob(%u));"
        "CREATE TABLE big(a INTEGER PRIMARY KEY, b TEXT, c, d AS (length(b)));"
        "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %u)"
        " INSERT INTO big SELECT i * 3 - 1000, printf('%%0*d', %u, (i * 7919) %% 100003), i %% 5 "
        "FROM n;"
        "CREATE INDEX big_b ON big(b); CREATE UNIQUE INDEX big_ca ON big(c DESC, a) WHERE a > 0;"
        "CREATE INDEX big_e ON big(upper(b), d);"
        "CREATE TABLE \"lo ng\"(a INTEGER PRIMARY KEY, b, c UNIQUE);"
        "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30) INSERT INTO \"lo ng\""
        " SELECT i, hex(randomblob(i * %u)), printf('key%%d', i) FROM n;"
        "CREATE TABLE wr(k TEXT PRIMARY KEY, v) WITHOUT ROWID; CREATE INDEX wr_v ON wr(v);"
        "INSERT INTO wr SELECT b || a, a FROM big LIMIT %u;"
        "CREATE TABLE tiny(x, y); CREATE INDEX tiny_y ON tiny(y);"
        "INSERT INTO tiny VALUES(1, 'one'), (2, 'two');"
        "CREATE TABLE auto(id INTEGER PRIMARY KEY AUTOINCREMENT, x REFERENCES big(a));"
        "INSERT INTO auto(x) VALUES(2),(5),(8); DELETE FROM auto WHERE id = 3;"
        "CREATE TRIGGER no_delete BEFORE DELETE ON big BEGIN SELECT raise(ABORT, 'no'); END;"
        "CREATE VIRTUAL TABLE ft USING fts5(t); INSERT INTO ft SELECT b FROM big LIMIT 300;"
        "CREATE VIRTUAL TABLE rt USING rtree(id, x0, x1);"
        "INSERT INTO rt SELECT a + 1000, a, a + 1 FROM big LIMIT 200;"
        "COMMIT; DROP TABLE gone; PRAGMA user_version=17",
        page_size, auto_vacuum, page_size * (page_size < 4096 ? 300 : 5), rows, width,
        page_size / 10, rows / 3);
    if (auto_vacuum == 1) /* SQLite has given the free pages back */
        run(db, "BEGIN; CREATE TABLE gone(a); INSERT INTO gone VALUES(zeroblob(10000)); COMMIT");
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

/* What the template's pages are, as the map says. */
struct place {
    char name[40], role[16], type[8];
};
static struct place places[20000];
static unsigned place_count;

static void look_at_template(void)
{
    sqlite3 *db = open_with(unit_path("template.db"), "dax");
    struct owner_map *map;
    char *why;
    ck_assert_int_eq(owner_map_of_schema(db, "main", &map, &why), SQLITE_OK);
    place_count = (unsigned)number(db, "PRAGMA page_count");
    ck_assert_uint_lt(place_count, 20000);
    for (unsigned p = 1; p <= place_count; p++) {
        struct owner o;
        owner_of_sqlite_page(map, p, &o);
        snprintf(places[p].name, sizeof places[p].name, "%s", o.name ? o.name : "");
        snprintf(places[p].type, sizeof places[p].type, "%s", o.type ? o.type : "");
        snprintf(places[p].role, sizeof places[p].role, "%s", o.role);
    }
    owner_map_release(map);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

/* --- what must hold afterwards ---------------------------------------------------------------- */

/* Rows that are missing; fails if there is one that is wrong. */
static long long missing_rows(sqlite3 *db, const char *context)
{
    long long missing = 0;
    for (unsigned i = 0; i < TABLES; i++)
        missing += missing_from(db, tables[i], context);
    return missing;
}

static void check_sound(sqlite3 *db, const char *context)
{
    const char *check = ask(db, "PRAGMA main.integrity_check");
    ck_assert_msg(strcmp(check, "ok") == 0, "%s: integrity_check: %s", context, check);
    ck_assert_msg(number(db, "PRAGMA main.user_version") == 17, "%s: user_version", context);
    ck_assert_uint_eq(open_entries(db), 0);
}

/* And with stock SQLite, after everything has been closed. */
static void check_closed(sqlite3 *db, const char *context)
{
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    db = open_with(unit_path("work.db"), "unix");
    const char *check = ask(db, "PRAGMA integrity_check");
    ck_assert_msg(strcmp(check, "ok") == 0, "%s: closed: integrity_check: %s", context, check);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

struct tally {
    unsigned lossless, lossy, refused;
};

/* Which of the pages in these 4096 bytes cost rows, and which cannot be repaired? */
static void expect_page(unsigned page_size, uint64_t page, bool *loses, bool *refused)
{
    uint64_t first = page * 4096 / page_size + 1, count = page_size < 4096 ? 4096 / page_size : 1;
    *loses = *refused = false;
    for (uint64_t p = first; p < first + count && p <= place_count; p++) {
        const struct place *at = &places[p];
        bool wr = strcmp(at->name, "wr") == 0 || strcmp(at->name, "ft_idx") == 0 ||
                  strcmp(at->name, "ft_config") == 0;
        if (strcmp(at->type, "schema") == 0)
            *refused = true;
        else if (strcmp(at->type, "table") == 0 && (wr || strcmp(at->role, "interior") != 0))
            *loses = true; /* a root may be interior: then it loses nothing, unless it has rows */
    }
}

static void check_page(unsigned page_size, uint64_t page, bool known, const char *context,
                       struct tally *tally)
{
    bool loses, refused;
    long long missing = 0;
    sqlite3 *db = open_copy_beside(known);
    expect_page(page_size, page, &loses, &refused);
    damage(db, page);
    const char *answer = ask(db, "SELECT dax_repair(%llu)", (unsigned long long)page);
    ck_assert_msg(answer[0] == '[', "%s: %s", context, answer);
    const char *done = ask(db, "SELECT json_extract(%Q, '$[0].done')", answer);
    if (strcmp(done, "nothing") == 0) {
        const char *call = ask(db, "SELECT json_extract(%Q, '$[0].call')", answer);
        ck_assert_msg(refused || loses, "%s: nothing done: %s", context, answer);
        ck_assert_msg(refused == (strcmp(call, "NULL") == 0), "%s: %s", context, answer);
        ck_assert_uint_eq(open_entries(db), 1);
        if (refused) {
            tally->refused++;
            ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
            return;
        }
        const char *again = ask(db, "%s", call);
        done = ask(db, "SELECT json_extract(%Q, '$[0].done')", again);
        ck_assert_msg(strcmp(done, "lost") == 0, "%s: %s, then %s", context, answer, again);
        const char *most = ask(db, "SELECT json_extract(%Q, '$[0].loss.rows_most')", again);
        missing = missing_rows(db, context);
        ck_assert_msg(missing <= atoll(most), "%s: %lld rows are missing, %s was the most: %s",
                      context, missing, most, again);
        tally->lossy++;
    } else {
        ck_assert_msg(strcmp(done, "repaired") == 0, "%s: %s", context, answer);
        missing = missing_rows(db, context);
        ck_assert_msg(missing == 0, "%s: %lld rows are missing: %s", context, missing, answer);
        tally->lossless++;
    }
    check_sound(db, context);
    check_closed(db, context);
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    return z ^ (z >> 27);
}

/* Sanitizers see the same code in fewer pages. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define THIN 6u
#else
#define THIN 1u
#endif

/* sqlite_schema beyond page 1: test_repair_schema.c. */
static bool has_schema(uint64_t first, unsigned page_size)
{
    bool has = false;
    for (uint64_t p = first; p <= first + (page_size < 4096 ? 4096 / page_size - 1 : 0); p++)
        has |= p <= place_count && strcmp(places[p].type, "schema") == 0;
    return has && first > 1;
}

/* One after the other: all pages that are neither plain leaves nor free, and some of the others. */
static void check_pages(unsigned page_size, unsigned auto_vacuum, unsigned rows, unsigned width,
                        unsigned others)
{
    struct tally tally = {0};
    uint64_t state = seed + page_size + auto_vacuum;
    make_template(page_size, auto_vacuum, rows, width);
    look_at_template();
    uint64_t pages = ((uint64_t)place_count * page_size + 4095) / 4096;
    for (uint64_t page = 0; page < pages; page++) {
        char context[200];
        uint64_t first = page * 4096 / page_size + 1;
        bool special = false;
        for (uint64_t p = first; p <= first + (page_size < 4096 ? 4096 / page_size - 1 : 0); p++)
            special |= p <= place_count && strcmp(places[p].role, "leaf") != 0 &&
                       strcmp(places[p].role, "free leaf") != 0 &&
                       strcmp(places[p].role, "overflow") != 0;
        special = special &&
                  next_random(&state) % (THIN * (page_size > 4096 ? page_size / 4096 : 3)) == 0;
        if (has_schema(first, page_size))
            continue;
        if (getenv("DAX_TEST_PAGE") && page != strtoull(getenv("DAX_TEST_PAGE"), NULL, 10))
            continue;
        if (!special && !getenv("DAX_TEST_PAGE") && next_random(&state) % pages >= others)
            continue;
        bool known = next_random(&state) % 2;
        snprintf(context, sizeof context,
                 "seed %llu, page_size %u, auto_vacuum %u, page %llu (%s of %s, page %llu)%s",
                 (unsigned long long)seed, page_size, auto_vacuum, (unsigned long long)page,
                 places[first].role, places[first].name, (unsigned long long)first,
                 known ? ", map made before" : "");
        check_page(page_size, page, known, context, &tally);
    }
    printf("page_size %u, auto_vacuum %u: %u lossless, %u lossy, %u refused\n", page_size,
           auto_vacuum, tally.lossless, tally.lossy, tally.refused);
    unlink(unit_path("template.db-dax"));
    unlink(unit_path("template.db"));
    unlink(unit_path("work.db-dax"));
    unlink(unit_path("work.db"));
    ck_assert_uint_gt(tally.lossless, 0);
    if (THIN == 1)
        ck_assert_uint_gt(tally.lossy, 0);
}

static const struct {
    unsigned page_size, rows, width;
} sizes[] = {{1024, 1500, 200}, {4096, 2000, 900}, {65536, 600, 3000}};

START_TEST(every_kind_of_page_is_repaired)
{
    unsigned i = (unsigned)_i / 3;
    check_pages(sizes[i].page_size, (unsigned)_i % 3, sizes[i].rows, sizes[i].width, 24 / THIN);
}
END_TEST

int main(void)
{
    seed = mix_seed();
    Suite *suite = suite_create("repair");
    TCase *tc = tcase_create("repair");
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_set_timeout(tc, 600);
    tcase_add_loop_test(tc, every_kind_of_page_is_repaired, 0, 9);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
