/* media_names.c: what media errors are called: the table or index that an unreadable page belongs to.
 *
 * One pass: first the map of owners, if an entry of the database's file needs it, then the list of
 * entries, then the names. Making the map reads pages and may meet other bad ones; their entries are in
 * the list that is taken afterwards, and the map has them. The map reads through the engine and not
 * through SQLite's calls to us, so there is no way back into here. What others enter meanwhile is
 * named by the next call.
 *
 * An entry is named once and reported once, by whoever names it: naming_lock is held from the list to
 * the last name. The report comes after it, since the application's log function and its callback may
 * do anything.
 *
 * A log line is cut by SQLite at LINE_MAX_BYTES: what it says in the end is what can be left out.
 *
 * Locking: naming_lock comes before the engine's lock of media errors and after everything else. Not
 * held while a map is made.
 */
#include "vfs/media_names.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/limits.h"
#include "engine/media_state.h"
#include "vfs/media_callback.h"

/* SQLITE_PRINT_BUF_SIZE * 3 without the last byte, as SQLite is compiled by default. */
#define LINE_MAX_BYTES 209u

/* So many of the pages of an entry are looked at: of more than one object will seldom be told. */
#define WORDS_PAGES_MAX 4096u

/* After an attempt that failed, so many chances are let pass where nothing depends on it. */
#define NAMING_PAUSE 64u

static pthread_mutex_t naming_lock = PTHREAD_MUTEX_INITIALIZER;

static void naming_fork_prepare(void)
{
    pthread_mutex_lock(&naming_lock);
}

static void naming_fork_after(void)
{
    pthread_mutex_unlock(&naming_lock);
}

int media_names_init(void)
{
    atomic_store(&media_describe, owner_last_words);
    int rc = media_callback_init();
    return rc ? rc : pthread_atfork(naming_fork_prepare, naming_fork_after, naming_fork_after);
}

/* --- words --------------------------------------------------------------------------------------- */

/* Cut buf, which holds a text that may have been cut anywhere, at the end of a character of UTF-8. */
static void words_trim(char *buf)
{
    size_t len = strlen(buf), back = 0;
    while (back < 3 && back < len && ((unsigned char)buf[len - 1 - back] & 0xc0) == 0x80)
        back++;
    if (back == len)
        return;
    unsigned char lead = (unsigned char)buf[len - 1 - back];
    size_t need = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (need > back + 1)
        buf[len - 1 - back] = '\0';
}

/* Append, as much as there is room for. */
static DAX_PRINTF(3, 4) void words_add(char *buf, size_t room, const char *format, ...)
{
    size_t used = strlen(buf);
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(buf + used, room - used, format, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= room - used)
        words_trim(buf);
}

/* Append to a list, unless it is there: ", " between. */
static void words_list(char *buf, size_t room, const char *text)
{
    size_t len = strlen(text);
    if (len == 0)
        return; /* SQLite takes that for a name */
    for (const char *at = buf; (at = strstr(at, text)) != NULL; at += 1) {
        bool begins = at == buf || (at - buf >= 2 && at[-1] == ' ' && at[-2] == ',');
        if (begins && (at[len] == '\0' || at[len] == ','))
            return;
    }
    words_add(buf, room, "%s%s", buf[0] ? ", " : "", text);
}

/* Whose page it is: table "orders". Ends without a separator; "" where it is nobody's. */
static void words_object(const struct owner *o, char *buf, size_t room)
{
    buf[0] = '\0';
    if (!o->type)
        return;
    bool index = strcmp(o->type, "index") == 0;
    if (strcmp(o->type, "schema") == 0)
        words_add(buf, room, "schema");
    else if (o->virtual_table && index)
        words_add(buf, room, "virtual table \"%s\" (index \"%s\" of shadow table \"%s\")",
                  o->virtual_table, o->name, o->table ? o->table : "?");
    else if (o->virtual_table)
        words_add(buf, room, "virtual table \"%s\" (shadow table \"%s\")", o->virtual_table,
                  o->name);
    else if (index)
        words_add(buf, room, "index \"%s\" of table \"%s\"", o->name, o->table ? o->table : "?");
    else
        words_add(buf, room, "%s \"%s\"", o->type, o->name);
}

/* SQLite's pages [first, last], which all have the owner and the role of o, behind others:
 * index "i" of table "t", leaf page 5 */
static void words_pages(const struct owner *o, uint64_t first, uint64_t last, char *buf,
                        size_t room)
{
    char object[300], pages[64] = "";
    words_object(o, object, sizeof object);
    words_add(buf, room, "%s%s%s", buf[0] ? "; " : "", object, object[0] ? ", " : "");
    if (first == last && first)
        words_add(pages, sizeof pages, "page %llu", (unsigned long long)first);
    else if (first)
        words_add(pages, sizeof pages, "pages %llu to %llu", (unsigned long long)first,
                  (unsigned long long)last);
    if (strcmp(o->role, "unknown") == 0)
        words_add(buf, room, "%s%s%s", pages, first && !o->type ? ", " : "",
                  o->type ? "" : "owner unknown");
    else if (strcmp(o->role, "beyond the end") == 0)
        words_add(buf, room, "%s, beyond the end of the database", pages);
    else
        words_add(buf, room, "%s %s", o->role, pages);
    /* "cannot be read" goes without saying */
    if (o->detail[0] && (o->damaged || !o->unreadable))
        words_add(buf, room, " (%s)", o->detail);
}

static bool words_same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool words_same(const struct owner *a, const struct owner *b)
{
    return words_same_text(a->type, b->type) && words_same_text(a->name, b->name) &&
           strcmp(a->role, b->role) == 0 && strcmp(a->detail, b->detail) == 0;
}

/* One of SQLite's pages into the entry's fields. */
static void words_fields(const struct owner *o, struct media_words *out)
{
    /* A virtual table is a table, and to whoever reads this it is the one that is hit. */
    const char *type = o->virtual_table ? "table" : o->type;
    const char *name = o->virtual_table ? o->virtual_table : o->name;
    if (type && out->type[0] && strcmp(out->type, type) != 0)
        type = "several";
    if (type)
        snprintf(out->type, sizeof out->type, "%s", type);
    if (name)
        words_list(out->name, sizeof out->name, name);
    words_list(out->role, sizeof out->role, o->role);
}

static uint64_t entry_pages(const struct media_entry *e)
{
    return e->bytes > DAX_PAGE_BYTES ? (e->bytes + DAX_PAGE_BYTES - 1) / DAX_PAGE_BYTES : 1;
}

/* One page of ours. Runs of SQLite's pages with the same owner are told together. */
static void words_of_page(uint64_t engine_page, const struct owner_map *map,
                          struct media_words *out)
{
    struct owner run;
    uint64_t page, first = 0;
    uint32_t count = owner_pages_within(map, engine_page, &page);
    for (uint32_t i = 0; i < count; i++, page++) {
        struct owner o;
        owner_of_sqlite_page(map, page, &o);
        words_fields(&o, out);
        if (i > 0 && !words_same(&run, &o))
            words_pages(&run, first, page - 1, out->phrase, sizeof out->phrase);
        if (i == 0 || !words_same(&run, &o)) {
            run = o;
            first = page;
        }
    }
    words_pages(&run, first, page - 1, out->phrase, sizeof out->phrase);
}

/* Many pages: what they belong to, each once. */
static void words_of_range(const struct media_entry *e, const struct owner_map *map,
                           struct media_words *out)
{
    char object[300];
    uint64_t looked = 0;
    bool unknown = false, nobody = false, inside = false;
    for (uint64_t p = e->page; p < e->page + entry_pages(e) && looked < WORDS_PAGES_MAX; p++) {
        uint64_t page;
        uint32_t count = owner_pages_within(map, p, &page);
        for (uint32_t i = 0; i < count; i++, page++, looked++) {
            struct owner o;
            owner_of_sqlite_page(map, page, &o);
            if (inside && strcmp(o.role, "beyond the end") == 0)
                continue; /* allocated, and not part of the database */
            inside = true;
            words_fields(&o, out);
            words_object(&o, object, sizeof object);
            words_list(out->phrase, sizeof out->phrase, object);
            unknown |= !object[0] && strcmp(o.role, "unknown") == 0;
            nobody |= !object[0] && strcmp(o.role, "unknown") != 0;
        }
    }
    if (nobody)
        words_list(out->phrase, sizeof out->phrase, "pages of no table");
    if (unknown)
        words_list(out->phrase, sizeof out->phrase, "pages whose owner is not known");
    if (looked == WORDS_PAGES_MAX)
        words_list(out->phrase, sizeof out->phrase, "and more");
}

/* What the engine has noted comes first, since details are cut at their end. */
static void words_detail(const struct media_entry *e, struct media_words *out)
{
    words_add(out->detail, sizeof out->detail, "%s%s%s", e->detail, e->detail[0] ? "; " : "",
              out->phrase);
}

void media_words_of_base(const struct media_entry *e, const struct owner_map *map, const char *why,
                         struct media_words *out)
{
    memset(out, 0, sizeof *out);
    if (map) {
        if (entry_pages(e) > 1)
            words_of_range(e, map, out);
        else
            words_of_page(e->page, map, out);
    } else {
        words_add(out->role, sizeof out->role, "unknown");
        words_add(out->phrase, sizeof out->phrase, "owner unknown (%s)", why);
    }
    words_detail(e, out);
}

/* Of the sidecar's file. */
static void words_of_sidecar(const struct media_entry *e, struct media_words *out)
{
    memset(out, 0, sizeof *out);
    bool log = e->part == MEDIA_LOG;
    words_add(out->type, sizeof out->type, "%s", media_part_name((enum media_part)e->part));
    words_add(out->role, sizeof out->role, "%s", e->role[0] ? e->role : log ? "ring" : "structure");
    words_add(out->phrase, sizeof out->phrase, "%s", log ? "log" : "sidecar's own structure");
    words_detail(e, out);
}

/* What follows from it, and what to do: the longer of the two texts that fits. */
static void line_advice(const struct media_entry *e, bool brief, char *buf, size_t room)
{
    unsigned long long page = e->page;
    buf[0] = '\0';
    if (e->status == MEDIA_REPAIRED)
        words_add(buf, room, "repaired, nothing is lost");
    else if (e->status == MEDIA_CLEARED)
        words_add(buf, room, "nothing is lost");
    else if (e->status == MEDIA_LOST)
        words_add(buf, room, "its content is lost");
    else if (e->part == MEDIA_SIDECAR)
        words_add(buf, room, "the next open makes a new one");
    else if (e->part != MEDIA_BASE)
        words_add(buf, room, "see dax_errors");
    else if (brief)
        words_add(buf, room, "SELECT dax_repair(%llu)", page);
    else
        words_add(buf, room,
                  "the statement that needs it fails, everything else goes on; see dax_errors and "
                  "SELECT dax_repair(%llu)",
                  page);
}

void media_names_line(const char *path, const struct media_entry *e, const char *phrase, char *buf,
                      size_t room)
{
    char advice[160];
    if (room > LINE_MAX_BYTES + 1)
        room = LINE_MAX_BYTES + 1;
    buf[0] = '\0';
    words_add(buf, room, "daxlite: %s%s: media error (%s) in page", path,
              e->part == MEDIA_BASE ? "" : "-dax", media_kind_name((enum media_kind)e->kind));
    if (entry_pages(e) > 1)
        words_add(buf, room, "s %llu to %llu: ", (unsigned long long)e->page,
                  (unsigned long long)(e->page + entry_pages(e) - 1));
    else
        words_add(buf, room, " %llu: ", (unsigned long long)e->page);
    words_add(buf, room, "%s", phrase);
    for (int brief = 0; brief < 2; brief++) {
        line_advice(e, brief, advice, sizeof advice);
        if (strlen(buf) + strlen(advice) + 2 < room) {
            words_add(buf, room, "; %s", advice);
            break;
        }
    }
}

/* --- naming -------------------------------------------------------------------------------------- */

static bool naming_needs_map(const struct media_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++)
        if (!batch->entries[i].named && batch->entries[i].part == MEDIA_BASE)
            return true;
    return false;
}

static void naming_words(const struct media_entry *e, const struct owner_map *map,
                         const char *unknown, struct media_words *out)
{
    if (e->part == MEDIA_BASE)
        media_words_of_base(e, map, unknown, out);
    else
        words_of_sidecar(e, out);
}

/* Name what has no name, and keep in *batch what got one here, as it is now. unknown: why there is no
 * map though it was asked for. Under naming_lock. */
static void naming_name(struct file *f, struct media_batch *batch, const struct owner_map *map,
                        const char *unknown)
{
    size_t named = 0;
    for (size_t i = 0; i < batch->count; i++) {
        struct media_entry e = batch->entries[i], now = e;
        struct media_words words;
        struct dax_err err;
        if (e.named || (e.part == MEDIA_BASE && !map && !unknown))
            continue;
        naming_words(&e, map, unknown, &words);
        /* Where the ledger refuses it the name is there all the same, and the engine has said so. */
        dax_rc rc = conn_media_name(f->conn, e.id, words.type, words.name, words.role, words.detail,
                                    &now, report_clear(&err));
        if (rc != DAX_MISUSE) /* else the entry has gone meanwhile */
            batch->entries[named++] = now;
    }
    batch->count = named;
}

/* Log what was named, and hand it over to the callback. */
static void naming_report(struct file *f, struct media_batch *batch, const struct owner_map *map,
                          const char *unknown)
{
    for (size_t i = 0; i < batch->count; i++) {
        struct media_words words;
        char line[LINE_MAX_BYTES + 1];
        naming_words(&batch->entries[i], map, unknown, &words);
        media_names_line(f->path, &batch->entries[i], words.phrase, line, sizeof line);
        sqlite3_log(report_code(REPORT_READ, DAX_IO_MEDIA), "%s", line);
    }
    media_callback_deliver(batch);
}

unsigned media_names_settle(struct file *f)
{
    struct owner_map *map = NULL;
    struct dax_err err;
    const char *unknown = NULL;
    unsigned named = 0;
    if (!f->conn || !conn_media_unnamed(f->conn))
        return 0;
    f->naming_pause = NAMING_PAUSE;
    struct media_batch *batch = media_batch_take(f->conn, f->path);
    if (!batch)
        return 0;
    if (naming_needs_map(batch)) {
        if (!f->owners)
            f->owners = owner_cache_open(f->path);
        int rc = SQLITE_NOMEM;
        if (f->owners)
            rc = owner_map_get(f->owners, f->conn, NULL, &map, report_clear(&err));
        if (rc == SQLITE_NOMEM) {
            sqlite3_free(batch);
            return 0;
        }
        if (rc != SQLITE_OK)
            unknown = err.text[0] ? err.text : sqlite3_errstr(rc);
    }
    sqlite3_free(batch);
    pthread_mutex_lock(&naming_lock);
    batch = media_batch_take(f->conn, f->path);
    if (batch)
        naming_name(f, batch, map, unknown);
    pthread_mutex_unlock(&naming_lock);
    if (batch) {
        f->naming_pause = 0;
        named = (unsigned)batch->count;
        naming_report(f, batch, map, unknown);
    }
    owner_map_release(map);
    return named;
}

void media_names_look(struct file *f)
{
    if (!conn_media_unnamed(f->conn))
        return;
    if (f->naming_pause)
        f->naming_pause--;
    else
        (void)media_names_settle(f);
}
