/* fuzz_uri.c: URI parameters with anything in them.
 *
 * Two ways, by the first byte: keys and values handed to uri_parse (as sqlite3_create_filename makes
 * them), and the whole text behind "?vfs=dax&" through sqlite3_open_v2.
 *
 * Would catch: a parameter that is accepted although docs/uri-and-sql.md says no, or the other way
 * round; a value that is not the documented one; an error that does not name its parameter; a value out
 * of range that reaches the engine (conn_open is wrapped); a crash or leak.
 *
 * What the documentation says is written down a second time here, without looking at uri.c.
 */
#include <ctype.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daxlite.h"
#include "engine/engine.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/pool.h"
#include "vfs/uri.h"

#define PAIRS_MAX 24
#define TEXT_MAX 2048

static char path[FUZZ_PATH_BYTES];
static bool really_open;
static unsigned opened; /* how often the engine was asked */

/* --- what the documentation says ------------------------------------------------------------------ */

/* Digits, then k, m or g of either case, or nothing. false: something else, or more than 64 bits. */
static bool is_size(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    __extension__ unsigned __int128 n = 0;
    size_t i = 0;
    for (; isdigit((unsigned char)text[i]); i++)
        if (n <= UINT64_MAX)
            n = n * 10 + (unsigned)(text[i] - '0');
    if (i == 0)
        return false;
    const char *unit = text[i] ? strchr("kKmMgG", text[i]) : NULL;
    if (unit && n <= UINT64_MAX)
        n <<= 10 * ((unit - "kKmMgG") / 2 + 1);
    if (text[unit ? i + 1 : i])
        return false;
    *out = (uint64_t)n;
    return n >= min && n <= max;
}

static bool is_one_of(const char *text, const char *a, const char *b, const char *c, int *out)
{
    *out = strcmp(text, a) == 0 ? 0 : strcmp(text, b) == 0 ? 1 : c && strcmp(text, c) == 0 ? 2 : -1;
    return *out >= 0;
}

static bool is_ours(const char *key)
{
    return sqlite3_strnicmp(key, "dax_", 4) == 0;
}

/* One parameter of ours: false if it has to be refused. */
static bool documented(const char *key, const char *value, struct uri_options *o)
{
    int i;
    if (strcmp(key, "dax_log_size") == 0)
        return is_size(value, 8 << 20, UINT64_C(16) << 30, &o->engine.log_bytes);
    if (strcmp(key, "dax_private_size") == 0)
        return is_size(value, 256 << 10, UINT64_C(16) << 30, &o->engine.private_bytes);
    if (strcmp(key, "dax_persist") == 0) {
        if (!is_one_of(value, "auto", "pmem", "msync", &i))
            return false;
        o->engine.persist = i == 0 ? MEDIUM_AUTO : i == 1 ? MEDIUM_PMEM : MEDIUM_MSYNC;
        return true;
    }
    if (strcmp(key, "dax_zero_copy") == 0) {
        if (!is_one_of(value, "off", "on", NULL, &i))
            return false;
        o->zero_copy = i == 1;
        return true;
    }
    if (strcmp(key, "dax_probe") == 0) {
        if (!is_one_of(value, "off", "on", NULL, &i))
            return false;
        o->engine.no_probe = i == 0;
        return true;
    }
    if (strcmp(key, "dax_damaged_log") == 0) {
        if (!is_one_of(value, "refuse", "skip", NULL, &i))
            return false;
        o->engine.skip_damaged_log = i == 1;
        return true;
    }
    return false;
}

static bool all_documented(const char *const *pairs, unsigned n, struct uri_options *o)
{
    *o = (struct uri_options){.zero_copy = true,
                              .engine = {.log_bytes = 16 << 20, .private_bytes = 32 << 20}};
    for (unsigned i = 0; i < n; i++) {
        if (!is_ours(pairs[2 * i]))
            continue;
        for (unsigned j = 0; j < i; j++)
            if (strcmp(pairs[2 * i], pairs[2 * j]) == 0)
                return false;
        if (!documented(pairs[2 * i], pairs[2 * i + 1], o))
            return false;
    }
    return true;
}

/* --- keys and values ------------------------------------------------------------------------------- */

static void run_pairs(char *text)
{
    const char *pairs[2 * PAIRS_MAX];
    unsigned n = 0;
    for (char *at = text; at && n < PAIRS_MAX;) {
        char *next = strchr(at, '&');
        if (next)
            *next++ = '\0';
        char *equals = strchr(at, '=');
        if (equals)
            *equals = '\0';
        if (*at) { /* an empty key ends the list, says SQLite */
            pairs[2 * n] = at;
            pairs[2 * n++ + 1] = equals ? equals + 1 : "";
        }
        at = next;
    }
    const char *name = sqlite3_create_filename(path, "j", "w", (int)n, (const char **)pairs);
    struct uri_options want, got;
    struct dax_err err = {0};
    bool ok = all_documented(pairs, n, &want) && !sqlite3_uri_boolean(name, "immutable", 0) &&
              !sqlite3_uri_boolean(name, "nolock", 0);
    dax_rc rc = uri_parse(name, &got, &err);
    fuzz_trace("uri_parse: %s %s", dax_rc_name(rc), err.text);
    FUZZ_CHECK(rc == (ok ? DAX_OK : DAX_MISUSE), "uri_parse: %s, the documentation says %s: %s",
               dax_rc_name(rc), ok ? "OK" : "no", err.text);
    if (rc != DAX_OK) {
        fuzz_check_error(rc, &err, "uri_parse");
        bool named = strncmp(err.text, "immutable", 9) == 0 || strncmp(err.text, "nolock", 6) == 0;
        for (unsigned i = 0; i < n; i++)
            named |= is_ours(pairs[2 * i]) &&
                     strncmp(err.text, pairs[2 * i], strnlen(pairs[2 * i], 400)) == 0;
        FUZZ_CHECK(named, "the error names no parameter: %s", err.text);
    } else {
        FUZZ_CHECK(got.engine.log_bytes == want.engine.log_bytes &&
                       got.engine.private_bytes == want.engine.private_bytes &&
                       got.engine.persist == want.engine.persist &&
                       got.engine.skip_damaged_log == want.engine.skip_damaged_log &&
                       got.engine.no_probe == want.engine.no_probe &&
                       got.zero_copy == want.zero_copy,
                   "a value is not the documented one");
    }
    sqlite3_free_filename((char *)name);
}

/* --- a whole URI ----------------------------------------------------------------------------------- */

dax_rc __real_conn_open(const char *name, const struct dax_options *options, struct conn **out,
                        struct dax_err *err);
dax_rc __wrap_conn_open(const char *name, const struct dax_options *options, struct conn **out,
                        struct dax_err *err);

/* The gate: what passes uri.c. */
dax_rc __wrap_conn_open(const char *name, const struct dax_options *o, struct conn **out,
                        struct dax_err *err)
{
    opened++;
    FUZZ_CHECK(o->log_bytes >= DAX_LOG_BYTES_MIN && o->log_bytes <= DAX_LOG_BYTES_MAX,
               "log_bytes %llu reaches the engine", (unsigned long long)o->log_bytes);
    FUZZ_CHECK(o->private_bytes >= DAX_PRIVATE_BYTES_MIN &&
                   o->private_bytes <= DAX_PRIVATE_BYTES_MAX,
               "private_bytes %llu reaches the engine", (unsigned long long)o->private_bytes);
    FUZZ_CHECK(o->persist == MEDIUM_AUTO || o->persist == MEDIUM_PMEM || o->persist == MEDIUM_MSYNC,
               "persist %d reaches the engine", (int)o->persist);
    FUZZ_CHECK(name[0] == '/', "the path \"%s\" reaches the engine", name);
    if (really_open && o->log_bytes <= 64 * DAX_MIB)
        return __real_conn_open(name, o, out, err);
    *out = NULL;
    return dax_err_set(err, DAX_CANT_OPEN, 0, "not today: %s", name);
}

static void run_uri(const char *text)
{
    static char uri[FUZZ_PATH_BYTES + TEXT_MAX + 16];
    sqlite3 *db = NULL;
    snprintf(uri, sizeof uri, "file:%s?vfs=dax&%s", path, text);
    opened = 0;
    int rc = sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
                             NULL);
    fuzz_trace("open: %d %s", rc, db ? sqlite3_errmsg(db) : "");
    FUZZ_CHECK(rc == SQLITE_OK || !db || strlen(sqlite3_errmsg(db)) > 3, "open: %d without text",
               rc);
    FUZZ_CHECK(rc != SQLITE_MISUSE && rc != SQLITE_INTERNAL, "open: %d", rc);
    if (rc == SQLITE_OK)
        sqlite3_exec(db, "CREATE TABLE IF NOT EXISTS t(a); INSERT INTO t VALUES(1)", NULL, NULL,
                     NULL);
    sqlite3_close(db);
    char sidecar[FUZZ_PATH_BYTES + 8];
    snprintf(sidecar, sizeof sidecar, "%s-dax", path);
    unlink(sidecar);
    if (truncate(path, 0) != 0)
        (void)!unlink(path);
    FUZZ_CHECK(pool_count() == 0, "a sidecar is still open");
}

void fuzz_start(void)
{
    fuzz_path(path, "uri.db");
    FUZZ_CHECK(daxlite_register(0) == SQLITE_OK, "register");
}

void fuzz_one(const uint8_t *data, size_t bytes)
{
    static char text[TEXT_MAX];
    struct input in = {data, data + bytes};
    uint8_t how = input_u8(&in);
    size_t n = input_left(&in) < sizeof text - 1 ? input_left(&in) : sizeof text - 1;
    memcpy(text, in.at, n);
    text[n] = '\0';
    really_open = how & 2;
    if (how & 1)
        run_uri(text);
    else
        run_pairs(text);
}

void fuzz_seeds(fuzz_seed_fn seed)
{
    static const char *const texts[] = {"dax_log_size=8m",
                                        "dax_log_size=16777216&dax_private_size=256K",
                                        "dax_log_size=17g",
                                        "dax_private_size=16g&dax_zero_copy=off",
                                        "dax_persist=msync&dax_damaged_log=skip",
                                        "dax_persist=pmem",
                                        "dax_persist=auto",
                                        "dax_zero_copy=on&dax_zero_copy=on",
                                        "dax_damaged_log=refuse",
                                        "DAX_LOG_SIZE=8m",
                                        "dax_log_size=18446744073709551616",
                                        "dax_log_size=8388607",
                                        "dax_sync=1",
                                        "immutable=1",
                                        "nolock=yes&mode=rw",
                                        "mode=ro&cache=shared",
                                        "psow=0&modeof=x",
                                        "vfs=unix",
                                        "mode=memory",
                                        "dax_log_size=%38%6d#fragment",
                                        "dax_log_size=8mb",
                                        "dax_log_size=8388608 ",
                                        "dax_log_size=+8m",
                                        "dax_log_size=0x800000",
                                        "dax_private_size=1m1",
                                        "dax_private_size=17179869185g",
                                        "dax_log_size=16777217g",
                                        "dax_log_size=08m",
                                        "dax_private_size=262143",
                                        "dax_private_size=262144",
                                        "dax_private_size=17179869184",
                                        "dax_private_size=17179869185",
                                        "dax_zero_copy=",
                                        "dax_zero_copy=ON",
                                        "dax_persist=volatile",
                                        "dax_=1",
                                        "dax_log_size",
                                        "immutable=0&nolock=off",
                                        "dax_probe=off&dax_zero_copy=on",
                                        "dax_probe=1"};
    for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++)
        for (unsigned how = 0; how < 4; how += how ? 2 : 1) {
            char name[32], data[256] = {(char)how};
            size_t n = strlen(texts[i]);
            memcpy(data + 1, texts[i], n);
            snprintf(name, sizeof name, "%u-%u", how, i);
            seed(name, data, n + 1);
        }
}
