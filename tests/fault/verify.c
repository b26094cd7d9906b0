/* verify.c: what must be true after a fault. */
#include "tests/fault/every_fault.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- what is held ----------------------------------------------------------------------------- */

struct held held_now(void)
{
    struct held h = {.balance = fault_balance(), .sqlite_bytes = sqlite3_memory_used()};
    DIR *d = opendir("/proc/self/fd");
    CHECK(d, "/proc/self/fd");
    while (readdir(d))
        h.descriptors++;
    closedir(d);
    FILE *f = fopen("/proc/self/maps", "re");
    CHECK(f, "/proc/self/maps");
    for (char line[1024]; fgets(line, sizeof line, f);)
        h.maps += strstr(line, test_dir()) != NULL;
    fclose(f);
    return h;
}

void held_compare(const struct held *before, const char *when)
{
    struct held h = held_now();
    CHECK(h.descriptors == before->descriptors, "%s: %d descriptors more", when,
          h.descriptors - before->descriptors);
    CHECK(h.maps == before->maps, "%s: %d mappings of files more", when, h.maps - before->maps);
    CHECK(h.balance.allocations == before->balance.allocations, "%s: %lld allocations more", when,
          (long long)(h.balance.allocations - before->balance.allocations));
    CHECK(h.balance.mapped_bytes == before->balance.mapped_bytes, "%s: %lld mapped bytes more",
          when, (long long)(h.balance.mapped_bytes - before->balance.mapped_bytes));
    CHECK(h.sqlite_bytes == before->sqlite_bytes, "%s: %lld bytes of SQLite's heap more", when,
          (long long)(h.sqlite_bytes - before->sqlite_bytes));
}

/* --- readers ---------------------------------------------------------------------------------- */

static void readers_count(struct run *r)
{
    sqlite3 *v = db_open(r->path, r->params);
    r->open_readers_pins = (unsigned)db_status(v, "pins");
    r->open_readers_snapshots = (unsigned)db_status(v, "snapshots");
    db_close(v);
}

void readers_start(struct run *r, unsigned conn, const struct step *s)
{
    if (!r->db[conn])
        run_open(r, conn);
    struct reader *reader = &r->reader[conn];
    *reader = (struct reader){.kind = s->kind, .sql = s->sql};
    if (s->kind == STEP_SNAPSHOT) {
        db_exec(r->db[conn], "BEGIN");
        reader->hash = db_content_hash(r->db[conn], "main");
    } else {
        reader->rows = db_int(r->db[conn], "SELECT count(*) FROM (%s)", s->sql) - 1;
        int rc = sqlite3_prepare_v2(r->db[conn], s->sql, -1, &reader->statement, NULL);
        CHECK_RC(r->db[conn], rc, SQLITE_OK);
        CHECK_RC(r->db[conn], sqlite3_step(reader->statement), SQLITE_ROW);
    }
    readers_count(r);
}

void readers_leave(struct run *r, unsigned conn)
{
    struct reader *reader = &r->reader[conn];
    if (reader->kind == STEP_PIN) {
        while (sqlite3_step(reader->statement) == SQLITE_ROW)
            reader->rows--;
        int rc = sqlite3_finalize(reader->statement);
        CHECK_RC(r->db[conn], rc, SQLITE_OK);
        CHECK(reader->rows == 0, "the stopped reader misses %lld rows", (long long)reader->rows);
    } else {
        uint64_t h = db_content_hash(r->db[conn], "main");
        CHECK(h == reader->hash, "a snapshot has changed");
        db_exec(r->db[conn], "COMMIT");
    }
    *reader = (struct reader){.kind = STEP_END};
    readers_count(r);
}

void run_open(struct run *r, unsigned conn)
{
    r->db[conn] = db_open(r->path, r->params);
}

/* --- after a step ----------------------------------------------------------------------------- */

static unsigned says(int rc)
{
    if (rc == SQLITE_IOERR_NOMEM)
        return SAYS_NOMEM;
    if (rc == SQLITE_READONLY_DBMOVED)
        return SAYS_MOVED;
    switch (rc & 0xff) {
    case SQLITE_NOMEM: return SAYS_NOMEM;
    case SQLITE_FULL: return SAYS_FULL;
    case SQLITE_IOERR: return SAYS_IOERR;
    case SQLITE_CANTOPEN: return SAYS_CANTOPEN;
    case SQLITE_BUSY: return SAYS_BUSY;
    default: return 1u << 31;
    }
}

uint64_t verify_content(struct run *r)
{
    sqlite3 *v = db_open(r->path, r->params);
    uint64_t h = db_content_hash(v, "main");
    db_close(v);
    return h;
}

/* The store refuses to write until it is reopened: do that, and bring the readers back. */
static void reopen_all(struct run *r)
{
    bool was_open[WORKLOAD_CONNS];
    for (unsigned i = 0; i < WORKLOAD_CONNS; i++) {
        was_open[i] = r->db[i] != NULL;
        if (r->reader[i].statement)
            sqlite3_finalize(r->reader[i].statement);
        if (r->db[i] && !sqlite3_get_autocommit(r->db[i]))
            (void)db_try(r->db[i], "ROLLBACK");
        if (r->db[i])
            db_close(r->db[i]);
        r->db[i] = NULL;
    }
    for (unsigned i = 0; i < WORKLOAD_CONNS; i++) {
        if (!was_open[i])
            continue;
        run_open(r, i);
        if (r->reader[i].kind != STEP_END) {
            struct step s = {r->reader[i].kind, i, r->reader[i].sql};
            readers_start(r, i, &s);
        }
    }
}

/* Between its transactions, as it is asked to. */
static bool keeps_lock(const struct run *r)
{
    return strcmp(r->w->name, "exclusive") == 0;
}

/* Where the plan allows that a store has failed: does it say why, and is it usable again? */
static bool reopen_failed(struct run *r)
{
    sqlite3 *v = db_open(r->path, r->params);
    bool failed = strcmp(db_text(v, "SELECT json_type(dax_status(), '$.failed')"), "null") != 0;
    if (failed) {
        /* In msync mode a record's pwrite is its sync as well. */
        bool record = r->plan->class == FAULT_PWRITE && r->plan->code == EIO && strstr(r->params, "msync");
        CHECK(r->plan->may_fail_store || record, "the store has failed: %s",
              db_text(v, "SELECT json_extract(dax_status(), '$.failed')"));
        int rc = db_try(v, "BEGIN IMMEDIATE");
        CHECK(says(rc) & SAYS_IOERR || keeps_lock(r), "a failed sync is told as %d: %s", rc,
              sqlite3_errmsg(v));
    }
    db_close(v);
    if (failed)
        reopen_all(r);
    return failed;
}

static void verify_nothing_held(struct run *r, sqlite3 *v)
{
    if (keeps_lock(r))
        return;
    int64_t snapshots = db_status(v, "snapshots"), pins = db_status(v, "pins");
    CHECK(snapshots == r->open_readers_snapshots, "%lld snapshots, not %u", (long long)snapshots,
          r->open_readers_snapshots);
    CHECK(pins == r->open_readers_pins, "%lld pins, not %u", (long long)pins, r->open_readers_pins);
    db_exec(v, "BEGIN IMMEDIATE; ROLLBACK");
    /* In msync mode committed pages are in frames until a checkpoint. */
    if (snapshots == 0 && !strstr(r->params, "msync"))
        CHECK(db_status(v, "frames.used") == 0, "%lld frames in use",
              (long long)db_status(v, "frames.used"));
}

bool verify_failed(struct run *r, int rc, const char *text)
{
    CHECK(says(rc) & r->plan->says, "code %d does not fit: %s", rc, text);
    uint64_t before = r->expect->state[r->step], after = r->expect->state[r->step + 1];
    for (unsigned i = 0; i < WORKLOAD_CONNS; i++)
        CHECK(!r->db[i] || sqlite3_get_autocommit(r->db[i]) || r->reader[i].kind != STEP_END,
              "a transaction is still open");
    bool failed = reopen_failed(r);
    sqlite3 *v = db_open(r->path, r->params);
    uint64_t h = db_content_hash(v, "main");
    bool took_effect = h != before && failed && h == after;
    CHECK(h == before || took_effect, "the database has changed after error %d: %s", rc, text);
    verify_nothing_held(r, v);
    db_close(v);
    for (unsigned i = 0; i < WORKLOAD_CONNS; i++) {
        if (!r->db[i] || r->reader[i].kind == STEP_PIN)
            continue;
        uint64_t want = r->reader[i].kind == STEP_SNAPSHOT ? r->reader[i].hash : h;
        CHECK(db_content_hash(r->db[i], "main") == want, "connection %u sees another state", i);
    }
    return took_effect;
}

void verify_succeeded(struct run *r)
{
    uint64_t want = r->expect->state[r->step + 1];
    bool any = r->db[0] || r->db[1] || r->db[2];
    if (any)
        reopen_failed(r);
    for (unsigned i = 0; i < WORKLOAD_CONNS; i++) {
        if (!r->db[i] || r->reader[i].kind != STEP_END)
            continue;
        CHECK(db_content_hash(r->db[i], "main") == want, "success, but connection %u disagrees", i);
    }
    if (any) {
        sqlite3 *v = db_open(r->path, r->params);
        CHECK(db_content_hash(v, "main") == want, "success, but a new connection disagrees");
        verify_nothing_held(r, v);
        db_close(v);
    }
}
