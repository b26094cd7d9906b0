/* functions.c: the SQL functions dax_version(), dax_status([schema]) and
 * dax_checkpoint([mode [, schema]]).
 *
 * dax_status and dax_checkpoint answer with JSON whose members and their order are part of the
 * interface (docs/uri-and-sql.md). Without a schema they mean main if it is of this VFS, else the
 * first attached database that is. A function runs with the connection's mutex held, so the engine
 * connection that it looks up stays while it runs.
 */
#include <stddef.h>
#include <string.h>

#include "include/daxlite.h"
#include "vfs/json.h"
#include "vfs/media_callback.h"
#include "vfs/memory.h"
#include "vfs/schema.h"
#include "vfs/scrub.h"
#include "vfs/vfs.h"

/* Text of argument i, NULL if it is not there or is NULL. */
static const char *functions_arg(int argc, sqlite3_value **argv, int i)
{
    return i < argc ? (const char *)sqlite3_value_text(argv[i]) : NULL;
}

/* "function: why", which is freed, as the function's error. */
static void functions_error(sqlite3_context *ctx, const char *function, char *why)
{
    char *text = why ? sqlite3_mprintf("%s: %s", function, why) : NULL;
    if (text)
        sqlite3_result_error(ctx, text, -1);
    else
        sqlite3_result_error_nomem(ctx);
    sqlite3_free(text);
    sqlite3_free(why);
}

static void dax_version(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    (void)argc, (void)argv;
    sqlite3_result_text(ctx, DAXLITE_VERSION, -1, SQLITE_STATIC);
}

/* --- dax_status ------------------------------------------------------------------------------- */

struct status_number {
    const char *name;
    size_t offset; /* of a uint64_t in struct store_status */
};

#define STATUS_FIELD(field) offsetof(struct store_status, field)

static const struct status_number status_sizes[] = {
    {"database", STATUS_FIELD(size_bytes)},
    {"file", STATUS_FIELD(file_bytes)},
    {"mapped", STATUS_FIELD(mapped_bytes)},
    {"scratch", STATUS_FIELD(scratch_bytes)},
    {"sidecar", STATUS_FIELD(sidecar_bytes)},
    {"private_budget", STATUS_FIELD(private_bytes_budget)},
};

static const struct status_number status_log[] = {
    {"ring", STATUS_FIELD(ring_bytes)},
    {"live", STATUS_FIELD(log_bytes)},
    {"cursor", STATUS_FIELD(lsn_cursor)},
    {"tail", STATUS_FIELD(lsn_tail)},
};

static const struct status_number status_frames[] = {
    {"used", STATUS_FIELD(frames_used)},
    {"free", STATUS_FIELD(frames_free)},
    {"pages_versioned", STATUS_FIELD(pages_versioned)},
};

static const struct status_number status_recovery[] = {
    {"records", STATUS_FIELD(recovered_records)},
    {"pages", STATUS_FIELD(recovered_pages)},
};

static const struct status_number status_counters[] = {
    {"reads_copied", STATUS_FIELD(reads_copied)},
    {"reads_pinned_base", STATUS_FIELD(reads_pinned_base)},
    {"reads_pinned_frame", STATUS_FIELD(reads_pinned_frame)},
    {"pins_refused", STATUS_FIELD(pins_refused)},
    {"read_retries", STATUS_FIELD(read_retries)},
    {"commits", STATUS_FIELD(commits)},
    {"aborts", STATUS_FIELD(aborts)},
    {"pages_committed", STATUS_FIELD(pages_committed)},
    {"lines_logged", STATUS_FIELD(lines_logged)},
    {"log_bytes", STATUS_FIELD(log_bytes_total)},
    {"pages_applied", STATUS_FIELD(pages_applied)},
    {"pages_pushed", STATUS_FIELD(pages_pushed)},
    {"pages_direct", STATUS_FIELD(pages_direct)},
    {"pages_scratch", STATUS_FIELD(pages_scratch)},
    {"checkpoints", STATUS_FIELD(checkpoints)},
    {"pages_rehomed", STATUS_FIELD(pages_rehomed)},
    {"pages_relogged", STATUS_FIELD(pages_relogged)},
};

static const struct status_number status_medium[] = {
    {"log_bytes", STATUS_FIELD(stored_log_bytes)},
    {"base_bytes", STATUS_FIELD(stored_base_bytes)},
    {"sidecar_bytes", STATUS_FIELD(stored_sidecar_bytes)},
    {"flushes", STATUS_FIELD(flushes)},
    {"fences", STATUS_FIELD(fences)},
    {"syncs", STATUS_FIELD(syncs)},
    {"syncs_uncached", STATUS_FIELD(syncs_uncached)},
};

static void status_group(struct json *j, const char *name, const struct status_number *numbers,
                         size_t count, const struct store_status *status)
{
    json_object_open(j, name);
    for (size_t i = 0; i < count; i++) {
        uint64_t value;
        memcpy(&value, (const char *)status + numbers[i].offset, sizeof value);
        json_number(j, numbers[i].name, value);
    }
    json_object_close(j);
}

#define STATUS_GROUP(j, name, numbers, status)                                                     \
    status_group(j, name, numbers, sizeof(numbers) / sizeof((numbers)[0]), status)

/* Entries of media errors, by what has become of them; and the newest open one in words: where page 1
 * cannot be read, dax_errors cannot either, since SQLite needs the schema for any table. */
static void status_media(struct json *j, const struct media_batch *errors)
{
    uint64_t by_status[MEDIA_LOST + 1] = {0};
    const struct media_entry *newest = NULL;
    char text[sizeof newest->detail + 64] = "";
    for (size_t i = 0; i < errors->count; i++) {
        const struct media_entry *e = &errors->entries[i];
        if (e->status <= MEDIA_LOST)
            by_status[e->status]++;
        if (e->status == MEDIA_QUARANTINED && (!newest || e->id > newest->id))
            newest = e;
    }
    if (newest)
        sqlite3_snprintf(
            sizeof text, text, "%s in page %llu%s%s: %s",
            media_kind_name((enum media_kind)newest->kind), newest->page,
            newest->part == MEDIA_BASE ? "" : " of the ",
            newest->part == MEDIA_BASE ? "" : media_part_name((enum media_part)newest->part),
            newest->detail);
    json_object_open(j, "media");
    json_number(j, "errors_open", by_status[MEDIA_QUARANTINED]);
    json_number(j, "errors_total", errors->count);
    json_number(j, "repaired", by_status[MEDIA_REPAIRED]);
    json_number(j, "cleared", by_status[MEDIA_CLEARED]);
    json_number(j, "lost", by_status[MEDIA_LOST]);
    json_text_or_null(j, "newest", text);
    json_object_close(j);
}

/* Not in the extension, which comes too late to be SQLite's page cache. */
#pragma weak daxlite_memory_status

struct status_memory {
    const char *name;
    size_t offset; /* of an unsigned long long in struct daxlite_memory */
};

static const struct status_memory status_page_cache[] = {
    {"limit", offsetof(struct daxlite_memory, page_cache_limit)},
    {"used", offsetof(struct daxlite_memory, page_cache_used)},
    {"used_most", offsetof(struct daxlite_memory, page_cache_used_most)},
    {"allocated", offsetof(struct daxlite_memory, page_cache_allocated)},
    {"caches", offsetof(struct daxlite_memory, caches)},
    {"pages", offsetof(struct daxlite_memory, pages)},
    {"pages_in_use", offsetof(struct daxlite_memory, pages_in_use)},
    {"hits", offsetof(struct daxlite_memory, hits)},
    {"misses", offsetof(struct daxlite_memory, misses)},
    {"evictions", offsetof(struct daxlite_memory, evictions)},
    {"taken", offsetof(struct daxlite_memory, taken)},
    {"over_limit", offsetof(struct daxlite_memory, over_limit)},
};

/* The process's: it is the same whatever database is asked for. */
static void status_memory(struct json *j)
{
    struct daxlite_memory m = {.size = sizeof m};
    struct memory_process process;
    bool known = daxlite_memory_status && daxlite_memory_status(&m) == SQLITE_OK;
    bool counted = memory_process_status(&process);
    json_object_open(j, "memory");
    json_text(j, "allocator", memory_name());
    json_bool(j, "heap", known && m.heap);
    if (counted) {
        json_number(j, "allocated", process.allocated);
        json_number(j, "resident", process.resident);
    } else {
        json_null(j, "allocated");
        json_null(j, "resident");
    }
    if (known && m.page_cache) {
        json_object_open(j, "page_cache");
        for (size_t i = 0; i < sizeof status_page_cache / sizeof status_page_cache[0]; i++) {
            unsigned long long value;
            memcpy(&value, (const char *)&m + status_page_cache[i].offset, sizeof value);
            json_number(j, status_page_cache[i].name, value);
        }
        json_object_close(j);
    } else {
        json_null(j, "page_cache");
    }
    json_object_close(j);
}

static void status_holder(struct json *j, const struct holder_info *h)
{
    json_object_open(j, NULL);
    json_number(j, "connection", h->connection);
    json_number(j, "pid", (uint64_t)h->pid);
    json_number(j, "tid", (uint64_t)h->tid);
    json_bool(j, "self", h->self);
    json_bool(j, "writer", h->writer);
    json_number_or_null(j, "snapshot", h->snapshot);
    json_number(j, "age_ms", h->age_ns / 1000000);
    json_number(j, "pins", h->pins);
    if (h->first_pinned_page != UINT64_MAX)
        json_number(j, "page", h->first_pinned_page);
    else
        json_null(j, "page");
    json_object_close(j);
}

/* Whether SQLite asks this file for pages in place: its own mmap_size as the file answers it. */
static uint64_t status_mmap_size(sqlite3 *db, const char *schema)
{
    sqlite3_int64 size = -1; /* asks, sets nothing */
    if (sqlite3_file_control(db, schema, SQLITE_FCNTL_MMAP_SIZE, &size) != SQLITE_OK || size < 0)
        return 0;
    return (uint64_t)size;
}

static void status_write(struct json *j, const char *schema, uint64_t mmap_size,
                         const struct store_status *s, const struct media_batch *errors,
                         struct scrub *scrub, const struct holder_info *holders,
                         size_t holder_count)
{
    json_object_open(j, NULL);
    json_text(j, "version", DAXLITE_VERSION);
    json_text(j, "schema", schema);
    json_text(j, "path", s->path);
    json_text_or_null(j, "sidecar", s->sidecar);
    json_text(j, "mode", s->mode);
    json_text(j, "why", s->why);
    json_text(j, "file_system", s->fs);
    json_bool(j, "read_only", s->read_only);
    json_bool(j, "active", s->active);
    json_text_or_null(j, "failed", s->failed);
    json_number(j, "mmap_size", mmap_size);
    STATUS_GROUP(j, "bytes", status_sizes, s);
    json_number(j, "txid", s->txid);
    json_number(j, "txid_oldest", s->txid_oldest);
    STATUS_GROUP(j, "log", status_log, s);
    STATUS_GROUP(j, "frames", status_frames, s);
    json_number(j, "connections", s->connections);
    json_number(j, "snapshots", s->snapshots);
    json_number(j, "pins", s->pins);
    STATUS_GROUP(j, "counters", status_counters, s);
    STATUS_GROUP(j, "medium", status_medium, s);
    STATUS_GROUP(j, "recovered", status_recovery, s);
    status_media(j, errors);
    scrub_write(j, scrub);
    status_memory(j);
    json_array_open(j, "holders");
    for (size_t i = 0; i < holder_count; i++)
        status_holder(j, &holders[i]);
    json_array_close(j);
    json_object_close(j);
}

static void dax_status(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    sqlite3 *db = sqlite3_context_db_handle(ctx);
    char *schema, *why;
    struct conn *c = schema_find(db, functions_arg(argc, argv, 0), &schema, &why);
    if (!c) {
        sqlite3_free(schema);
        functions_error(ctx, "dax_status", why);
        return;
    }
    struct store_status *status = sqlite3_malloc(sizeof *status);
    struct holder_info *holders = sqlite3_malloc64(DAX_MAX_SLOTS * sizeof *holders);
    struct media_batch *errors = media_batch_take(c, "");
    struct json j = {sqlite3_str_new(db), true};
    if (status && holders && errors) {
        memset(status, 0, sizeof *status);
        conn_status(c, status);
        size_t count = conn_holders(c, holders, DAX_MAX_SLOTS);
        struct scrub *scrub = NULL;
        (void)sqlite3_file_control(db, schema, DAX_FCNTL_SCRUB, &scrub);
        status_write(&j, schema, status_mmap_size(db, schema), status, errors, scrub, holders,
                     count);
        json_result(ctx, &j);
    } else {
        sqlite3_free(sqlite3_str_finish(j.out));
        sqlite3_result_error_nomem(ctx);
    }
    sqlite3_free(errors);
    sqlite3_free(holders);
    sqlite3_free(status);
    sqlite3_free(schema);
}

/* --- dax_checkpoint --------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum checkpoint_mode mode;
} checkpoint_modes[] = {
    {"passive", CHECKPOINT_PASSIVE},
    {"full", CHECKPOINT_FULL},
    {"restart", CHECKPOINT_RESTART},
    {"truncate", CHECKPOINT_TRUNCATE},
};

static bool checkpoint_mode_parse(const char *name, enum checkpoint_mode *mode_out)
{
    for (size_t i = 0; i < sizeof checkpoint_modes / sizeof checkpoint_modes[0]; i++) {
        if (sqlite3_stricmp(name, checkpoint_modes[i].name) == 0) {
            *mode_out = checkpoint_modes[i].mode;
            return true;
        }
    }
    return false;
}

static void checkpoint_write(struct json *j, const char *schema, const struct checkpoint_result *r)
{
    json_object_open(j, NULL);
    json_text(j, "schema", schema);
    json_bool(j, "busy", r->busy);
    json_number(j, "log_before", r->log_bytes_before);
    json_number(j, "log_after", r->log_bytes_after);
    json_number(j, "rehomed", r->pages_rehomed);
    json_number(j, "relogged", r->pages_relogged);
    json_text_or_null(j, "holder", r->holder);
    json_object_close(j);
}

static void checkpoint_run(sqlite3_context *ctx, sqlite3 *db, struct conn *c, const char *schema,
                           enum checkpoint_mode mode)
{
    struct checkpoint_result result = {0};
    struct dax_err err = {0};
    dax_rc rc = vfs_checkpoint(db, schema, c, mode, &result, &err);
    if (rc != DAX_OK) {
        functions_error(ctx, "dax_checkpoint", sqlite3_mprintf("%s", err.text));
        sqlite3_result_error_code(ctx, vfs_code(rc));
        return;
    }
    struct json j = {sqlite3_str_new(db), true};
    checkpoint_write(&j, schema, &result);
    json_result(ctx, &j);
}

static void dax_checkpoint(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
    sqlite3 *db = sqlite3_context_db_handle(ctx);
    const char *mode_name = functions_arg(argc, argv, 0);
    enum checkpoint_mode mode = CHECKPOINT_FULL;
    if (mode_name && !checkpoint_mode_parse(mode_name, &mode)) {
        functions_error(ctx, "dax_checkpoint",
                        sqlite3_mprintf("unknown mode \"%s\"; it is one of passive, full, restart, "
                                        "truncate",
                                        mode_name));
        return;
    }
    char *schema, *why;
    struct conn *c = schema_find(db, functions_arg(argc, argv, 1), &schema, &why);
    if (c)
        checkpoint_run(ctx, db, c, schema, mode);
    else
        functions_error(ctx, "dax_checkpoint", why);
    sqlite3_free(schema);
}

/* --- registration ----------------------------------------------------------------------------- */

int functions_register(sqlite3 *db)
{
    static const struct {
        const char *name;
        int argc;
        int flags;
        void (*function)(sqlite3_context *, int, sqlite3_value **);
    } functions[] = {
        {"dax_version", 0, SQLITE_INNOCUOUS | SQLITE_DETERMINISTIC, dax_version},
        {"dax_status", 0, 0, dax_status},
        {"dax_status", 1, 0, dax_status},
        {"dax_checkpoint", 0, SQLITE_DIRECTONLY, dax_checkpoint},
        {"dax_checkpoint", 1, SQLITE_DIRECTONLY, dax_checkpoint},
        {"dax_checkpoint", 2, SQLITE_DIRECTONLY, dax_checkpoint},
    };
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        int rc = sqlite3_create_function(db, functions[i].name, functions[i].argc,
                                         SQLITE_UTF8 | functions[i].flags, NULL,
                                         functions[i].function, NULL, NULL);
        if (rc != SQLITE_OK)
            return rc; /* SQLITE_BUSY: it is there already and a statement is running */
    }
    return SQLITE_OK;
}
