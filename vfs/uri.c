/* uri.c: URI parameters of a database.
 *
 * Parameters are input from outside: each value is checked, and a key with our prefix that we do
 * not know is an error, since a misspelt option would otherwise be silently without effect.
 */
#include "vfs/uri.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vfs/sqlite.h"

#define URI_PREFIX "dax_"
#define URI_PREFIX_BYTES 4

/* Parse "64m". False: not a number, an unknown suffix, or more than 64 bits. */
static bool uri_bytes(const char *value, uint64_t *out)
{
    if (value[0] < '0' || value[0] > '9')
        return false;
    char *end;
    errno = 0;
    unsigned long long n = strtoull(value, &end, 10);
    if (errno)
        return false;
    unsigned shift = 0;
    switch (*end) {
    case 'k':
    case 'K':
        shift = 10;
        end++;
        break;
    case 'm':
    case 'M':
        shift = 20;
        end++;
        break;
    case 'g':
    case 'G':
        shift = 30;
        end++;
        break;
    default: break;
    }
    if (*end || n > UINT64_MAX >> shift)
        return false;
    *out = (uint64_t)n << shift;
    return true;
}

static dax_rc uri_size(const char *key, const char *value, uint64_t min, uint64_t max,
                       uint64_t *out, struct dax_err *err)
{
    uint64_t n;
    if (!uri_bytes(value, &n))
        return dax_err_set(
            err, DAX_MISUSE, 0,
            "%s=%s: expected a number of bytes, with k, m or g behind it if you like", key, value);
    if (n < min || n > max)
        return dax_err_set(err, DAX_MISUSE, 0, "%s=%s: must be between %llu and %llu bytes", key,
                           value, (unsigned long long)min, (unsigned long long)max);
    *out = n;
    return DAX_OK;
}

/* Index of value in the NULL-terminated list of words. */
static dax_rc uri_word(const char *key, const char *value, const char *const *words,
                       const char *expected, int *out, struct dax_err *err)
{
    for (int i = 0; words[i]; i++) {
        if (strcmp(value, words[i]) == 0) {
            *out = i;
            return DAX_OK;
        }
    }
    return dax_err_set(err, DAX_MISUSE, 0, "%s=%s: expected %s", key, value, expected);
}

static dax_rc uri_log_size(const char *key, const char *value, struct uri_options *o,
                           struct dax_err *err)
{
    return uri_size(key, value, DAX_LOG_BYTES_MIN, DAX_LOG_BYTES_MAX, &o->engine.log_bytes, err);
}

static dax_rc uri_private_size(const char *key, const char *value, struct uri_options *o,
                               struct dax_err *err)
{
    return uri_size(key, value, DAX_PRIVATE_BYTES_MIN, DAX_PRIVATE_BYTES_MAX,
                    &o->engine.private_bytes, err);
}

static dax_rc uri_persist(const char *key, const char *value, struct uri_options *o,
                          struct dax_err *err)
{
    static const char *const words[] = {"auto", "pmem", "msync", NULL};
    static const enum medium_choice choices[] = {MEDIUM_AUTO, MEDIUM_PMEM, MEDIUM_MSYNC};
    int i = 0;
    dax_rc rc = uri_word(key, value, words, "auto, pmem or msync", &i, err);
    if (rc == DAX_OK)
        o->engine.persist = choices[i];
    return rc;
}

static dax_rc uri_zero_copy(const char *key, const char *value, struct uri_options *o,
                            struct dax_err *err)
{
    static const char *const words[] = {"off", "on", NULL};
    int i = 0;
    dax_rc rc = uri_word(key, value, words, "on or off", &i, err);
    if (rc == DAX_OK)
        o->zero_copy = i == 1;
    return rc;
}

static dax_rc uri_probe(const char *key, const char *value, struct uri_options *o,
                        struct dax_err *err)
{
    static const char *const words[] = {"off", "on", NULL};
    int i = 0;
    dax_rc rc = uri_word(key, value, words, "on or off", &i, err);
    if (rc == DAX_OK)
        o->engine.no_probe = i == 0;
    return rc;
}

static dax_rc uri_damaged_log(const char *key, const char *value, struct uri_options *o,
                              struct dax_err *err)
{
    static const char *const words[] = {"refuse", "skip", NULL};
    int i = 0;
    dax_rc rc = uri_word(key, value, words, "refuse or skip", &i, err);
    if (rc == DAX_OK)
        o->engine.skip_damaged_log = i == 1;
    return rc;
}

static const struct {
    const char *key;
    dax_rc (*parse)(const char *key, const char *value, struct uri_options *o, struct dax_err *err);
} uri_keys[] = {
    {"dax_log_size", uri_log_size}, {"dax_private_size", uri_private_size},
    {"dax_persist", uri_persist},   {"dax_zero_copy", uri_zero_copy},
    {"dax_probe", uri_probe},       {"dax_damaged_log", uri_damaged_log},
};
#define URI_KEYS (sizeof uri_keys / sizeof uri_keys[0])

/* One parameter with our prefix. *seen has a bit per known key. */
static dax_rc uri_parse_key(const char *key, const char *value, unsigned *seen,
                            struct uri_options *o, struct dax_err *err)
{
    for (size_t i = 0; i < URI_KEYS; i++) {
        if (strcmp(key, uri_keys[i].key) != 0)
            continue;
        if (*seen & 1u << i)
            return dax_err_set(err, DAX_MISUSE, 0, "%s is given twice", key);
        *seen |= 1u << i;
        return uri_keys[i].parse(key, value, o, err);
    }
    return dax_err_set(err, DAX_MISUSE, 0,
                       "%s=%s: unknown parameter; known are dax_log_size, dax_private_size, "
                       "dax_persist, dax_zero_copy, dax_probe and dax_damaged_log",
                       key, value);
}

/* Parameters of SQLite's own that promise what this VFS does not do. */
static dax_rc uri_refuse(const char *name, const char *key, const char *why, struct dax_err *err)
{
    if (!sqlite3_uri_boolean(name, key, 0))
        return DAX_OK;
    return dax_err_set(err, DAX_MISUSE, 0, "%s=1 together with vfs=dax: %s", key, why);
}

dax_rc uri_parse(const char *name, struct uri_options *out, struct dax_err *err)
{
    *out = (struct uri_options){.engine = dax_options_default(), .zero_copy = true};
    dax_rc rc = uri_refuse(name, "immutable",
                           "the file may hold changes in its log that only recovery brings in; use "
                           "mode=ro, or the default VFS on a copy",
                           err);
    if (rc == DAX_OK)
        rc =
            uri_refuse(name, "nolock", "snapshots begin and end with locks; leave nolock out", err);
    unsigned seen = 0;
    for (int i = 0; rc == DAX_OK; i++) {
        const char *key = sqlite3_uri_key(name, i);
        if (!key)
            break;
        if (sqlite3_strnicmp(key, URI_PREFIX, URI_PREFIX_BYTES) != 0)
            continue;
        const char *value = sqlite3_uri_parameter(name, key);
        rc = uri_parse_key(key, value ? value : "", &seen, out, err);
    }
    return rc;
}
