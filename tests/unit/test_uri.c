/* test_uri.c: every URI parameter is checked, and what is wrong is named.
 *
 * Catches: a misspelt or doubled parameter that is silently without effect; a size that overflows,
 * is out of range or has an unknown suffix and is taken all the same; a default that changes
 * because another parameter is given; SQLite's own immutable and nolock taken where they cannot be
 * honoured.
 */
#include "tests/unit/unit.h"

#include "vfs/sqlite.h"
#include "vfs/uri.h"

static struct dax_err err;

/* Parse key/value pairs, which end with NULL, as SQLite passes them to xOpen. */
static dax_rc parse(struct uri_options *out, const char **pairs)
{
    int n = 0;
    while (pairs[n])
        n += 2;
    const char *name =
        sqlite3_create_filename("/d/a.db", "/d/a.db-journal", "/d/a.db-wal", n / 2, pairs);
    ck_assert_ptr_nonnull(name);
    err = (struct dax_err){0};
    dax_rc rc = uri_parse(name, out, &err);
    sqlite3_free_filename(name);
    return rc;
}

#define PARSE(out, ...) parse(out, (const char *[]){__VA_ARGS__, NULL})

static void check_defaults_but(const struct uri_options *o, const char *key)
{
    struct dax_options d = dax_options_default();
    if (strcmp(key, "dax_log_size") != 0)
        ck_assert_uint_eq(o->engine.log_bytes, d.log_bytes);
    if (strcmp(key, "dax_private_size") != 0)
        ck_assert_uint_eq(o->engine.private_bytes, d.private_bytes);
    if (strcmp(key, "dax_persist") != 0)
        ck_assert_int_eq(o->engine.persist, d.persist);
    if (strcmp(key, "dax_zero_copy") != 0)
        ck_assert(o->zero_copy);
    if (strcmp(key, "dax_probe") != 0)
        ck_assert(!o->engine.no_probe);
    if (strcmp(key, "dax_damaged_log") != 0)
        ck_assert(!o->engine.skip_damaged_log);
}

START_TEST(test_nothing_given_means_the_defaults)
{
    struct uri_options o;
    ck_assert_int_eq(parse(&o, (const char *[]){NULL}), DAX_OK);
    check_defaults_but(&o, "");
    ck_assert_int_eq(PARSE(&o, "vfs", "dax", "mode", "rwc", "app", "x"), DAX_OK);
    check_defaults_but(&o, "");
}
END_TEST

START_TEST(test_sizes_take_bytes_and_suffixes)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } sizes[] = {
        {"16777216", 16 * DAX_MIB},
        {"16384k", 16 * DAX_MIB},
        {"16384K", 16 * DAX_MIB},
        {"16m", 16 * DAX_MIB},
        {"16M", 16 * DAX_MIB},
        {"1g", DAX_GIB},
        {"1G", DAX_GIB},
        {"16777217", 16 * DAX_MIB + 1},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct uri_options o;
        ck_assert_int_eq(PARSE(&o, "dax_log_size", sizes[i].text), DAX_OK);
        ck_assert_uint_eq(o.engine.log_bytes, sizes[i].bytes);
        check_defaults_but(&o, "dax_log_size");
        ck_assert_int_eq(PARSE(&o, "dax_private_size", sizes[i].text), DAX_OK);
        ck_assert_uint_eq(o.engine.private_bytes, sizes[i].bytes);
        check_defaults_but(&o, "dax_private_size");
    }
}
END_TEST

START_TEST(test_sizes_end_at_their_limits)
{
    struct uri_options o;
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)DAX_LOG_BYTES_MIN);
    ck_assert_int_eq(PARSE(&o, "dax_log_size", text), DAX_OK);
    snprintf(text, sizeof text, "%llu", (unsigned long long)DAX_LOG_BYTES_MIN - 1);
    ck_assert_int_eq(PARSE(&o, "dax_log_size", text), DAX_MISUSE);
    snprintf(text, sizeof text, "%llu", (unsigned long long)DAX_PRIVATE_BYTES_MAX);
    ck_assert_int_eq(PARSE(&o, "dax_private_size", text), DAX_OK);
    snprintf(text, sizeof text, "%llu", (unsigned long long)DAX_PRIVATE_BYTES_MAX + 1);
    ck_assert_int_eq(PARSE(&o, "dax_private_size", text), DAX_MISUSE);
    ck_assert_ptr_nonnull(strstr(err.text, text));
}
END_TEST

START_TEST(test_words_choose)
{
    struct uri_options o;
    ck_assert_int_eq(PARSE(&o, "dax_persist", "auto"), DAX_OK);
    ck_assert_int_eq(o.engine.persist, MEDIUM_AUTO);
    ck_assert_int_eq(PARSE(&o, "dax_persist", "pmem"), DAX_OK);
    ck_assert_int_eq(o.engine.persist, MEDIUM_PMEM);
    ck_assert_int_eq(PARSE(&o, "dax_persist", "msync"), DAX_OK);
    ck_assert_int_eq(o.engine.persist, MEDIUM_MSYNC);
    check_defaults_but(&o, "dax_persist");
    ck_assert_int_eq(PARSE(&o, "dax_zero_copy", "off"), DAX_OK);
    ck_assert(!o.zero_copy);
    check_defaults_but(&o, "dax_zero_copy");
    ck_assert_int_eq(PARSE(&o, "dax_zero_copy", "on"), DAX_OK);
    ck_assert(o.zero_copy);
    ck_assert_int_eq(PARSE(&o, "dax_probe", "off"), DAX_OK);
    ck_assert(o.engine.no_probe);
    check_defaults_but(&o, "dax_probe");
    ck_assert_int_eq(PARSE(&o, "dax_probe", "on"), DAX_OK);
    ck_assert(!o.engine.no_probe);
    ck_assert_int_eq(PARSE(&o, "dax_damaged_log", "skip"), DAX_OK);
    ck_assert(o.engine.skip_damaged_log);
    check_defaults_but(&o, "dax_damaged_log");
    ck_assert_int_eq(PARSE(&o, "dax_damaged_log", "refuse"), DAX_OK);
    ck_assert(!o.engine.skip_damaged_log);
}
END_TEST

static const struct {
    const char *key, *value;
} wrong[] = {
    {"dax_log_size", ""},
    {"dax_log_size", "m"},
    {"dax_log_size", "-1"},
    {"dax_log_size", "+16m"},
    {"dax_log_size", " 16m"},
    {"dax_log_size", "16 m"},
    {"dax_log_size", "16mb"},
    {"dax_log_size", "16x"},
    {"dax_log_size", "0"},
    {"dax_log_size", "1"},
    {"dax_log_size", "0x1000000"},
    {"dax_log_size", "1e9"},
    {"dax_log_size", "17179869184g"}, /* 2^64 bytes */
    {"dax_log_size", "99999999999999999999"},
    {"dax_private_size", "1k"},
    {"dax_private_size", "lots"},
    {"dax_persist", ""},
    {"dax_persist", "fsync"},
    {"dax_persist", "PMEM"},
    {"dax_zero_copy", "1"},
    {"dax_zero_copy", "yes"},
    {"dax_probe", "0"},
    {"dax_probe", "never"},
    {"dax_damaged_log", "ignore"},
    {"dax_logsize", "16m"},
    {"dax_", "1"},
    {"DAX_LOG_SIZE", "16m"},
    {"dax_log_size ", "16m"},
};
#define WRONG ((int)(sizeof wrong / sizeof wrong[0]))

START_TEST(test_what_is_wrong_is_refused_and_named)
{
    struct uri_options o;
    ck_assert_int_eq(PARSE(&o, "cache", "private", wrong[_i].key, wrong[_i].value), DAX_MISUSE);
    char pair[128];
    snprintf(pair, sizeof pair, "%s=%s", wrong[_i].key, wrong[_i].value);
    ck_assert_msg(strstr(err.text, pair) != NULL, "\"%s\" does not name %s", err.text, pair);
}
END_TEST

START_TEST(test_a_key_given_twice_is_refused)
{
    struct uri_options o;
    ck_assert_int_eq(PARSE(&o, "dax_log_size", "16m", "dax_zero_copy", "on", "dax_log_size", "32m"),
                     DAX_MISUSE);
    ck_assert_ptr_nonnull(strstr(err.text, "dax_log_size is given twice"));
}
END_TEST

START_TEST(test_promises_of_sqlites_own_parameters_are_refused)
{
    struct uri_options o;
    ck_assert_int_eq(PARSE(&o, "immutable", "1"), DAX_MISUSE);
    ck_assert_ptr_nonnull(strstr(err.text, "immutable"));
    ck_assert_int_eq(PARSE(&o, "nolock", "1"), DAX_MISUSE);
    ck_assert_ptr_nonnull(strstr(err.text, "nolock"));
    ck_assert_int_eq(PARSE(&o, "immutable", "0", "nolock", "0", "psow", "0"), DAX_OK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("uri");
    TCase *tc = tcase_create("uri");
    tcase_add_test(tc, test_nothing_given_means_the_defaults);
    tcase_add_test(tc, test_sizes_take_bytes_and_suffixes);
    tcase_add_test(tc, test_sizes_end_at_their_limits);
    tcase_add_test(tc, test_words_choose);
    tcase_add_loop_test(tc, test_what_is_wrong_is_refused_and_named, 0, WRONG);
    tcase_add_test(tc, test_a_key_given_twice_is_refused);
    tcase_add_test(tc, test_promises_of_sqlites_own_parameters_are_refused);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
