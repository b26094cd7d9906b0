/* matrix_run.c: one run, in a process of its own.
 *
 *   open - the page goes bad - the operation - what is reported - what is read - the end
 *
 * The page goes bad before the open, after it, after everything was read once, or while a cursor stands
 * on it; operations that are about a moment of their own have it then. After the operation the data is
 * that of before if it failed, of after if not, as far as it can be read at all.
 *
 * Exit status: 0 done; NEXT_... the process "was killed", another one goes on and finds this data;
 * 1 a check failed. Death by SIGBUS is judged by whoever started it.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/layout.h"
#include "tests/media/matrix.h"

static struct {
    const struct matrix_run *r;
    char *path, *bad_path, *params;
    sqlite3 *w, *reader;
    sqlite3_stmt *cursor;
    sqlite3 *before, *after;
    char *statement;
    bool bad;       /* the page has gone bad */
    bool committed; /* the statement is */
    bool opened;
    int open_rc;
    bool had_sidecar; /* before this process */
} run;

/* --- set-up ------------------------------------------------------------------------------------------- */

static bool starts_killed(void)
{
    return run.r->op == OP_RECOVER || run.r->at.file == FILE_SIDECAR;
}

static char *template_path(void)
{
    return test_path("%s-%u.db", starts_killed() ? "killed" : "before", run.r->page_size);
}

static void prepare_files(void)
{
    const struct matrix_run *r = run.r;
    file_remove_db(run.path);
    file_copy(template_path(), run.path);
    if (!starts_killed())
        return;
    file_copy(test_path("killed-%u.db-dax", r->page_size), test_printf("%s-dax", run.path));
    if (r->op != OP_RECOVER)
        db_close(db_open(run.path, run.params)); /* a sidecar at rest */
}

/* The ring is written in a circle: where it is now. */
static uint64_t ring_page(uint64_t fallback)
{
    const struct matrix_run *r = run.r;
    bool live = strcmp(r->at.name, "ring live") == 0, next = strcmp(r->at.name, "ring next") == 0;
    static uint8_t bytes[1 << 20];
    if (!(live || next) || !run.w || !db_status(run.w, "active"))
        return fallback;
    file_peek(run.bad_path, 0, bytes, sizeof bytes);
    for (size_t at = 0; at < sizeof bytes; at += DAX_LINE_BYTES) {
        struct sidecar_root root;
        memcpy(&root, bytes + at, sizeof root);
        if (memcmp(root.magic, DAX_SIDECAR_MAGIC, sizeof root.magic) != 0 || !root.twin_offset)
            continue;
        uint64_t lsn = (uint64_t)db_status(run.w, live ? "log.cursor" : "log.tail");
        return (root.ring_offset + lsn % root.ring_bytes) / POISON_PAGE_BYTES;
    }
    return fallback;
}

static void go_bad(void)
{
    static struct matrix_run changed;
    const struct matrix_run *r = run.r;
    if (run.bad)
        return;
    run.bad = true;
    changed = *r;
    changed.at.page = ring_page(r->at.page);
    run.r = &changed;
    r = run.r;
    switch (r->way) {
    case WAY_POISON: bad_page_add(run.bad_path, r->at.page, BAD_MAPPED | BAD_READ); break;
    case WAY_SIGBUS: bad_page_add(run.bad_path, r->at.page, BAD_MAPPED); break;
    case WAY_STUCK:
        bad_page_add(run.bad_path, r->at.page, BAD_MAPPED | BAD_READ | BAD_STUCK);
        break;
    default: poison_truncate(run.bad_path, r->at.page * POISON_PAGE_BYTES);
    }
}

static bool is_refusal(int rc)
{
    int primary = rc & 0xff;
    if (run.r->way == WAY_CUT && run.r->time == TIME_BEFORE_OPEN)
        return primary == SQLITE_CORRUPT;
    return primary == SQLITE_IOERR || (run.r->at.file == FILE_SIDECAR &&
                                       (primary == SQLITE_CANTOPEN || primary == SQLITE_CORRUPT));
}

static int open_w(void)
{
    int rc = db_try_open(run.path, run.params, SQLITE_OPEN_READWRITE, &run.w);
    if (rc == SQLITE_OK)
        rc = db_try(run.w, "PRAGMA schema_version"); /* SQLite opens the file when it is used */
    if (rc == SQLITE_OK && run.r->crowd)
        sqlite3_busy_timeout(run.w, MATRIX_BUSY_MS);
    return rc;
}

/* As open_w; a connection that was refused is no use to the run, and is a leak when the next one is
 * made. */
static int open_w_or_close(const char *when)
{
    int rc = open_w();
    run.opened = rc == SQLITE_OK;
    CHECK(run.opened || (run.bad && is_refusal(rc)), "%s: %d %s", when, rc, sqlite3_errmsg(run.w));
    if (!run.opened) {
        CHECK(sqlite3_close(run.w) == SQLITE_OK, "close of what was not opened");
        run.w = NULL;
    }
    return rc;
}

/* --- the operation ---------------------------------------------------------------------------------------- */

static bool needs_target(enum matrix_op op)
{
    return op == OP_POINT || op == OP_SCAN;
}

/* A reader in the middle of the row that needs the page. */
static void open_cursor(void)
{
    const struct matrix_run *r = run.r;
    run.reader = db_open(run.path, run.params);
    const char *sql = r->at.object == OBJECT_T ? "SELECT id, v FROM t WHERE id >= %lld ORDER BY id"
                      : r->at.object == OBJECT_T_K ? NULL
                      : r->at.object == OBJECT_O
                          ? "SELECT id, v FROM o WHERE id >= %lld ORDER BY id"
                          : NULL;
    char *text = sql ? sqlite3_mprintf(sql, (sqlite3_int64)r->at.target)
                     : sqlite3_mprintf("%s", matrix_point(r->at.object, r->at.target));
    CHECK(sqlite3_prepare_v2(run.reader, text, -1, &run.cursor, NULL) == SQLITE_OK, "%s", text);
    CHECK(sqlite3_step(run.cursor) == SQLITE_ROW, "%s: %s", text, sqlite3_errmsg(run.reader));
    sqlite3_free(text);
}

/* What the reader still gets is right, as of its snapshot, or an error. */
static void finish_cursor(void)
{
    sqlite3_stmt *right;
    int rc, other = SQLITE_ROW;
    if (!run.cursor)
        return;
    CHECK(sqlite3_prepare_v2(run.before, sqlite3_sql(run.cursor), -1, &right, NULL) == SQLITE_OK,
          "-");
    CHECK(sqlite3_step(right) == SQLITE_ROW, "-");
    for (int i = 0;; i++) {
        for (int c = 0; c < sqlite3_column_count(right); c++) {
            const char *got = (const char *)sqlite3_column_text(run.cursor, c);
            int bytes = sqlite3_column_bytes(run.cursor, c);
            if (!got && sqlite3_errcode(run.reader) != SQLITE_OK &&
                sqlite3_errcode(run.reader) != SQLITE_ROW)
                break; /* the value itself could not be loaded */
            CHECK(got && bytes == sqlite3_column_bytes(right, c) &&
                      memcmp(got, sqlite3_column_blob(right, c), (size_t)bytes) == 0,
                  "the open cursor reads wrong data");
        }
        rc = sqlite3_step(run.cursor);
        if (rc != SQLITE_ROW || i == 30)
            break;
        other = sqlite3_step(right);
        CHECK(other == SQLITE_ROW, "the open cursor has rows that are not there");
    }
    CHECK(rc == SQLITE_ROW || rc == SQLITE_DONE || (rc & 0xff) == SQLITE_IOERR,
          "the open cursor: %d", rc);
    sqlite3_finalize(right);
    sqlite3_finalize(run.cursor);
    run.cursor = NULL;
}

/* Said at once: this process may die. A free page may belong to a table from now on. */
static void note_committed(bool committed)
{
    static struct matrix_run changed;
    run.committed = committed;
    if (!committed)
        return;
    printf(MATRIX_COMMITTED "\n");
    if (run.r->at.object != OBJECT_NONE)
        return;
    changed = *run.r;
    changed.at.type[0] = changed.at.owner[0] = changed.at.role[0] = 0;
    run.r = &changed;
}

static int write_statement(void)
{
    int rc = db_try(run.w, "%s", run.statement);
    note_committed(rc == SQLITE_OK);
    return rc;
}

static int op_commit(void)
{
    int rc = db_try(run.w, "BEGIN");
    if (rc == SQLITE_OK)
        rc = db_try(run.w, "%s", run.statement);
    go_bad();
    if (rc == SQLITE_OK)
        rc = db_try(run.w, "COMMIT");
    note_committed(rc == SQLITE_OK);
    if (!sqlite3_get_autocommit(run.w))
        db_try(run.w, "ROLLBACK");
    return rc;
}

/* The reader's snapshot keeps the new version in a frame; with a cursor on the page, base is pinned. */
static int op_checkpoint(bool pinned)
{
    if (pinned) {
        open_cursor();
    } else {
        run.reader = db_open(run.path, run.params);
        db_exec(run.reader, "BEGIN; SELECT * FROM z");
    }
    int rc = write_statement();
    CHECK(rc == SQLITE_OK, "nothing is bad: %d %s", rc, sqlite3_errmsg(run.w));
    go_bad();
    char *why;
    enum check_result seen = check_all(run.w, run.after, &why);
    CHECK(seen != CHECK_WRONG, "%s", why);
    if (!pinned)
        CHECK(db_try(run.reader, "COMMIT") == SQLITE_OK, "the reader cannot end");
    /* The cursor's pins stay: the checkpoint relogs them when its patience ends. */
    if (pinned && run.r->crowd)
        sqlite3_busy_timeout(run.w, MATRIX_PATIENCE_MS);
    int done = db_try(run.w, "SELECT dax_checkpoint('%s')", pinned ? "full" : "truncate");
    if (pinned && run.r->crowd)
        sqlite3_busy_timeout(run.w, MATRIX_BUSY_MS);
    return done;
}

static int op_backup(void)
{
    char *copy = test_path("copy.db"), *why;
    file_remove_db(copy);
    sqlite3 *to = db_open_stock(copy);
    sqlite3_backup *b = sqlite3_backup_init(to, "main", run.w, "main");
    int rc = b ? SQLITE_OK : sqlite3_extended_errcode(to);
    if (b) {
        do
            rc = sqlite3_backup_step(b, run.r->crowd ? -1 : 50); /* in pieces it would start over */
        while (rc == SQLITE_OK);
        int end = sqlite3_backup_finish(b);
        rc = rc == SQLITE_DONE ? end : rc;
    }
    if (rc == SQLITE_OK) {
        CHECK(check_all(to, run.before, &why) == CHECK_SAME, "the backup is no copy: %s", why);
        db_check_integrity(to, "of the backup");
    }
    db_close(to);
    return rc;
}

static int op_close(void)
{
    int rc = write_statement();
    CHECK(rc == SQLITE_OK, "nothing is bad: %d %s", rc, sqlite3_errmsg(run.w));
    go_bad();
    CHECK(sqlite3_close(run.w) == SQLITE_OK, "close");
    run.w = NULL;
    return open_w_or_close("open after close");
}

static int do_op(char **why)
{
    *why = "";
    switch (run.r->op) {
    case OP_POINT: {
        enum check_result seen =
            check_query(run.w, run.before, matrix_point(run.r->at.object, run.r->at.target), why);
        CHECK(seen != CHECK_WRONG, "%s", *why);
        return seen == CHECK_SAME ? SQLITE_OK : SQLITE_IOERR;
    }
    case OP_SCAN: {
        enum check_result seen = check_all(run.w, run.before, why);
        CHECK(seen != CHECK_WRONG, "%s", *why);
        return seen == CHECK_SAME ? SQLITE_OK : SQLITE_IOERR;
    }
    case OP_INSERT:
    case OP_UPDATE:
    case OP_DELETE: return write_statement();
    case OP_COMMIT: return op_commit();
    case OP_CHECKPOINT: return op_checkpoint(false);
    case OP_RELOG: return op_checkpoint(true);
    case OP_SCRUB: return db_try(run.w, "SELECT dax_scrub()");
    case OP_BACKUP: return op_backup();
    case OP_VACUUM: return db_try(run.w, "VACUUM");
    case OP_CLOSE: return op_close();
    default: return SQLITE_OK; /* OP_RECOVER: the open was it */
    }
}

/* Of the leak sanitizer, where there is one: it ends the process with a report if memory is lost. */
__attribute__((weak)) void __lsan_do_leak_check(void);

/* The process ends with everything open, as by SIGKILL; but memory that nobody can reach is a leak. */
__attribute__((noreturn)) static void exit_as_killed(int status)
{
    fflush(stdout);
    if (__lsan_do_leak_check)
        __lsan_do_leak_check();
    _exit(status);
}

/* --- the ends ------------------------------------------------------------------------------------------------ */

static sqlite3 *right_data(void)
{
    return run.committed ? run.after : run.before;
}

static void close_all(void)
{
    finish_cursor();
    if (run.reader)
        CHECK(sqlite3_close(run.reader) == SQLITE_OK, "close of the reader");
    if (run.w)
        CHECK(sqlite3_close(run.w) == SQLITE_OK, "close");
    run.reader = run.w = NULL;
}

/* Closed: any SQLite reads it. */
static void check_closed(bool whole)
{
    char *why;
    sqlite3 *stock = db_open_stock(run.path);
    if (whole)
        CHECK(check_all(stock, right_data(), &why) == CHECK_SAME, "stock SQLite: %s", why);
    db_check_integrity(stock, "by stock SQLite");
    db_close(stock);
}

/* Where the schema is unreadable, no table can be asked, dax_errors included; functions still work. */
static void repair_all(bool allow_loss)
{
    for (int i = 0; i < 3 && errors_open(run.w) > 0; i++) {
        int64_t lost = db_status(run.w, "media.lost");
        int rc = db_try(run.w, "SELECT dax_repair()");
        CHECK(db_status(run.w, "media.lost") == lost, "a repair that loses rows was not asked for");
        if (rc == SQLITE_OK && allow_loss && errors_open(run.w) > 0)
            rc = db_try(run.w, run.r->at.object == OBJECT_SCHEMA
                                   ? test_printf("SELECT dax_repair(%llu, 'allow-loss')",
                                                 (unsigned long long)run.r->at.page)
                                   : "SELECT dax_repair(page, 'allow-loss') FROM"
                                     " (SELECT page FROM dax_errors WHERE status = 'quarantined'"
                                     " AND part = 'database' LIMIT 1)");
        CHECK(rc == SQLITE_OK || is_refusal(rc), "dax_repair: %d %s", rc, sqlite3_errmsg(run.w));
    }
}

/* The page has become good by itself: nothing is lost. */
static void end_heal(void)
{
    char *why;
    bad_page_remove(run.bad_path, run.r->at.page);
    if (!run.opened) {
        int rc = open_w();
        if (rc != SQLITE_OK && db_try(run.w, "SELECT dax_repair()") == SQLITE_OK)
            rc = db_try(run.w, "PRAGMA schema_version"); /* a page of the schema that was entered */
        CHECK(rc == SQLITE_OK, "the page is good again, the open fails: %d %s", rc,
              sqlite3_errmsg(run.w));
    }
    repair_all(false);
    if (errors_open(run.w) > 0) { /* changes that could not be kept */
        CHECK(run.r->op == OP_RECOVER || run.r->op == OP_CLOSE || run.r->next ||
                  run.r->at.object == OBJECT_SCRATCH,
              "not repaired: %s",
              db_text(run.w, "SELECT dax_repair(%llu)", (unsigned long long)run.r->at.page));
        printf("result: stale\n");
        exit_as_killed(0);
    }
    CHECK(check_all(run.w, right_data(), &why) == CHECK_SAME, "after the page was good again: %s",
          why);
    db_check_integrity(run.w, "after the page was good again");
    close_all();
    check_closed(true);
}

static void end_repair(void)
{
    if (!run.opened) {
        end_heal();
        return;
    }
    int rc = db_try(run.w, "SELECT dax_scrub()"); /* what nobody has met yet */
    CHECK(rc == SQLITE_OK || is_refusal(rc), "dax_scrub: %d %s", rc, sqlite3_errmsg(run.w));
    repair_all(true);
    if (errors_open(run.w) > 0) {
        printf("result: not repairable: %s\n", run.r->at.name);
        CHECK(run.r->at.object == OBJECT_SCHEMA || run.r->at.file == FILE_SIDECAR ||
                  run.r->page_size < POISON_PAGE_BYTES,
              "not repaired: %s",
              db_text(run.w, "SELECT dax_repair(%llu)", (unsigned long long)run.r->at.page));
        end_heal();
        return;
    }
    int64_t lost = check_subset(run.r, run.w, right_data());
    if (lost)
        printf("result: rows lost: %lld\n", (long long)lost);
    close_all();
    bool in_file = (int64_t)(run.r->at.page * POISON_PAGE_BYTES) < file_bytes(run.bad_path);
    CHECK(run.r->at.file != FILE_DB || !in_file || !bad_page_is(run.bad_path, run.r->at.page),
          "repaired and closed, and the page is still bad");
    check_closed(lost == 0);
}

/* Another process cut the file before it was opened. It is refused as a whole and left as it is; the sidecar
 * too: with the file's content back, nothing is missing. */
static void end_cut_before_open(int rc)
{
    bool killed = run.r->op == OP_RECOVER;
    char *why;
    CHECK(!run.opened && (rc & 0xff) == SQLITE_CORRUPT, "a file that was cut is opened: %d", rc);
    CHECK(!killed || log_has("has been truncated", "restore it from a backup", NULL), "log: %s",
          log_text());
    CHECK(file_bytes(run.path) == (int64_t)(run.r->at.page * POISON_PAGE_BYTES),
          "the file has %lld bytes", (long long)file_bytes(run.path));
    file_copy(template_path(), run.path);
    CHECK(open_w_or_close("open of the whole file") == SQLITE_OK, "the whole file");
    CHECK(check_all(run.w, run.before, &why) == CHECK_SAME, "the whole file: %s", why);
    CHECK(db_int(run.w, "SELECT count(*) FROM dax_errors") == 0, "the whole file has errors");
    close_all();
    check_closed(true);
}

/* --- a run ------------------------------------------------------------------------------------------------------ */

static void check_must_fail(int rc)
{
    const struct matrix_run *r = run.r;
    bool elsewhere = r->time >= TIME_PROBED && r->zero_copy; /* through a pointer: dead, or lucky */
    /* SQLite has it in its cache since the open, and nobody has committed. */
    elsewhere |= r->at.page == 0 && r->time > TIME_BEFORE_OPEN;
    if (needs_target(r->op) && r->at.file == FILE_DB && r->at.target && !elsewhere &&
        (r->way == WAY_POISON || r->way == WAY_STUCK))
        CHECK(rc != SQLITE_OK, "the page is needed, and nothing failed");
    /* What is there twice stops nothing, nor does a part of the ring that has nothing yet. */
    bool replaced = strncmp(r->at.name, "sidecar ", 8) == 0 || strcmp(r->at.name, "ring next") == 0;
    if (run.opened && replaced && r->op != OP_RECOVER && r->op != OP_CLOSE)
        CHECK(rc == SQLITE_OK, "it stops what does not need it: %d %s", rc, sqlite3_errmsg(run.w));
}

/* What the engine has done in this process. */
static void say_work(void)
{
    if (db_status(run.w, "counters.pages_relogged"))
        printf("result: relogged\n");
    if (db_status(run.w, "counters.pages_rehomed"))
        printf("result: rehomed\n");
    if (db_status(run.w, "recovered.pages"))
        printf("result: replayed\n");
    if (db_status(run.w, "counters.pages_scratch"))
        printf("result: scratch\n");
    if (db_status(run.w, "counters.pages_direct"))
        printf("result: direct\n");
}

/* What has nothing to do with the page goes on. */
static void check_bystander(void)
{
    char *why;
    if (run.r->at.object == OBJECT_SCHEMA || run.r->way == WAY_CUT)
        return;
    enum check_result seen = check_query(run.w, right_data(), matrix_query[0], &why);
    CHECK(seen == CHECK_SAME, "a table that does not need the page: %s", why);
}

static void run_open(void)
{
    char *why;
    if (!run.r->good && (run.r->time == TIME_BEFORE_OPEN || run.r->op == OP_RECOVER || run.r->next))
        go_bad();
    run.open_rc = open_w_or_close("open");
    if (!run.opened) {
        printf("result: open refused\n");
        return;
    }

    if (run.r->next)
        return;
    if (run.r->crowd)
        crowd_start(run.path, run.params);
    if (matrix_has_own_moment(run.r->op))
        return;
    if (run.r->time == TIME_PROBED && !run.bad) {
        run.reader = db_open(run.path, run.params);
        CHECK(check_all(run.reader, run.before, &why) == CHECK_SAME, "nothing is bad: %s", why);
    }
    if (run.r->time == TIME_PINNED)
        open_cursor();
    go_bad();
}

int matrix_run(const struct matrix_run *r)
{
    char *why;
    run.r = r;
    run.path = test_path("run.db");
    run.bad_path = r->at.file == FILE_DB ? run.path : test_printf("%s-dax", run.path);
    run.params = test_printf("dax_log_size=8m&dax_zero_copy=%s%s%s", r->zero_copy ? "on" : "off",
                             r->msync ? "&dax_persist=msync" : "",
                             r->at.object == OBJECT_SCRATCH ? "&dax_private_size=256k" : "");
    run.statement = matrix_statement(r, r->op);
    run.before = reference_open(r, NULL);
    run.after = reference_open(r, run.statement);
    run.had_sidecar = file_exists(test_printf("%s-dax", run.path));
    note_committed(r->next == NEXT_AFTER || r->next == NEXT_DEAD_AFTER);
    if (!r->next)
        prepare_files();
    run_open();
    if (r->way == WAY_CUT && r->time == TIME_BEFORE_OPEN) {
        end_cut_before_open(run.open_rc);
        return 0;
    }
    if (run.opened && !r->next) {
        int rc = do_op(&why);
        CHECK(rc == SQLITE_OK || is_refusal(rc), "%s: %d %s", matrix_op_name[r->op], rc,
              run.w ? sqlite3_errmsg(run.w) : "");
        printf("result: %s\n", rc == SQLITE_OK ? "data" : "error");
        check_must_fail(rc);
        if (run.opened) {
            check_errors(run.r, run.w, (rc & 0xff) == SQLITE_IOERR);
            check_bystander();
            say_work();
            finish_cursor();
            crowd_advance();
            CHECK(check_all(run.w, right_data(), &why) != CHECK_WRONG, "afterwards: %s", why);
            check_errors(run.r, run.w, false);
        }
        crowd_stop();
    } else if (run.opened) {
        /* Without a sidecar, which the first write makes, nobody could leave a note. */
        check_errors(run.r, run.w, (r->next >= NEXT_DEAD_BEFORE || r->entered) && run.had_sidecar);
    }
    if (r->way == WAY_CUT) {
        printf("result: cut\n");
        close_all();
        return 0;
    }
    if (!bad_page_is(run.bad_path, run.r->at.page))
        printf(MATRIX_HEALED "\n");
    /* Who has written nothing has no sidecar open to keep it in. */
    if (run.opened && r->at.file == FILE_DB && db_status(run.w, "active") &&
        db_status(run.w, "media.errors_total") > 0)
        printf(MATRIX_ENTERED "\n");
    if (r->end == END_KILL && !r->next)
        exit_as_killed(run.committed ? NEXT_AFTER : NEXT_BEFORE);
    if (r->end == END_HEAL)
        end_heal();
    else
        end_repair();
    return 0;
}
