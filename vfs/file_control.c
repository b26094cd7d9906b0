/* file_control.c: xFileControl of a main database: commit, PRAGMAs, and questions about the file.
 *
 * SQLite sends FCNTL_PRAGMA when a PRAGMA is prepared, not when it runs, and EXPLAIN prepares as
 * well. So what a PRAGMA does here is harmless (a checkpoint), or what SQLite does when it prepares
 * it, too (locking_mode). The answer of one that we take over is a single text column.
 */
#include <string.h>
#include <sys/stat.h>

#include "vfs/file.h"
#include "vfs/media_names.h"
#include "vfs/names.h"
#include "vfs/vfs.h"

/* --- commit ----------------------------------------------------------------------------------- */

/* FCNTL_SYNC: the last place where a commit may be refused for want of something. */
static int control_prepare(struct file *f)
{
    if (!conn_is_writer(f->conn))
        return SQLITE_OK;
    struct dax_err err;
    dax_rc rc = conn_prepare(f->conn, report_clear(&err));
    return rc == DAX_OK ? SQLITE_OK : file_failure(f, REPORT_SYNC, rc, &err);
}

static int control_commit(struct file *f)
{
    if (!conn_is_writer(f->conn))
        return SQLITE_OK;
    struct dax_err err;
    dax_rc rc = conn_commit(f->conn, report_clear(&err));
    if (rc != DAX_OK) {
        file_abandon(f); /* the journal is over already */
        return file_failure(f, REPORT_COMMIT, rc, &err);
    }
    f->cached_txid = f->wrote_wal_header ? 0 : conn_snapshot(f->conn);
    f->wrote_wal_header = false;
    media_names_look(f);
    return SQLITE_OK;
}

/* --- checkpoint ------------------------------------------------------------------------------- */

static bool control_wait(void *arg, unsigned count)
{
    struct file *f = arg;
    (void)count; /* SQLite counts by itself, from the start of the PRAGMA */
    return f->busy && f->busy(f->busy_arg) != 0;
}

static dax_rc control_checkpoint(struct file *f, enum checkpoint_mode mode,
                                 struct checkpoint_result *result, struct dax_err *err)
{
    dax_wait_fn wait = mode == CHECKPOINT_PASSIVE ? NULL : control_wait;
    memset(result, 0, sizeof *result);
    dax_rc rc = conn_checkpoint(f->conn, mode, wait, f, result, err);
    if (rc == DAX_OK && result->busy && result->holder[0])
        dax_log(DAX_BUSY, "checkpoint of \"%s\" is incomplete: %s", f->path, result->holder);
    media_names_look(f);
    return rc;
}

/* What vfs_checkpoint asks of the file. */
struct checkpoint_request {
    enum checkpoint_mode mode;
    struct checkpoint_result *result;
    struct dax_err *err;
    dax_rc rc;
};

dax_rc vfs_checkpoint(sqlite3 *db, const char *schema, struct conn *c, enum checkpoint_mode mode,
                      struct checkpoint_result *result_out, struct dax_err *err)
{
    struct checkpoint_request request = {mode, result_out, err, DAX_OK};
    (void)c;
    if (sqlite3_file_control(db, schema, DAX_FCNTL_CHECKPOINT, &request) != SQLITE_OK)
        return dax_err_set(err, DAX_MISUSE, 0, "database \"%s\" is not open through vfs=dax",
                           schema ? schema : "main");
    return request.rc;
}

/* --- PRAGMAs ---------------------------------------------------------------------------------- */

/* arg of FCNTL_PRAGMA: what it answers or the error's text, its name, its value or NULL. */
enum {
    PRAGMA_ANSWER = 0,
    PRAGMA_NAME = 1,
    PRAGMA_VALUE = 2
};

static int pragma_answer(char **arg, const char *text)
{
    arg[PRAGMA_ANSWER] = sqlite3_mprintf("%s", text);
    return arg[PRAGMA_ANSWER] ? SQLITE_OK : SQLITE_NOMEM;
}

/* Always "wal": what applications test for, and what it is to them. */
static int pragma_journal_mode(struct file *f, char **arg)
{
    (void)f;
    return pragma_answer(arg, "wal");
}

/* SQLite acts on it as well; here it is noted for the next xLock(SHARED). */
static int pragma_locking_mode(struct file *f, char **arg)
{
    const char *value = arg[PRAGMA_VALUE];
    bool exclusive = value && sqlite3_stricmp(value, "exclusive") == 0;
    if (exclusive || (value && sqlite3_stricmp(value, "normal") == 0)) {
        f->exclusive = exclusive;
        if (f->db_slot)
            names_note_locking(*f->db_slot, exclusive);
    }
    return SQLITE_NOTFOUND;
}

/* Answers 1 if something was in the way, else 0. As SQLite does, any other word means passive. */
static int pragma_wal_checkpoint(struct file *f, char **arg)
{
    static const struct {
        const char *word;
        enum checkpoint_mode mode;
    } modes[] = {
        {"full", CHECKPOINT_FULL},
        {"restart", CHECKPOINT_RESTART},
        {"truncate", CHECKPOINT_TRUNCATE},
    };
    enum checkpoint_mode mode = CHECKPOINT_PASSIVE;
    const char *value = arg[PRAGMA_VALUE];
    for (size_t i = 0; value && i < sizeof modes / sizeof modes[0]; i++) {
        if (sqlite3_stricmp(value, modes[i].word) == 0)
            mode = modes[i].mode;
    }
    struct checkpoint_result result;
    struct dax_err err;
    dax_rc rc = control_checkpoint(f, mode, &result, report_clear(&err));
    if (rc == DAX_OK)
        return pragma_answer(arg, result.busy ? "1" : "0");
    int code = file_failure(f, REPORT_ANY, rc, &err);
    arg[PRAGMA_ANSWER] = sqlite3_mprintf("%s", err.text);
    return code;
}

static int control_pragma(struct file *f, char **arg)
{
    static const struct {
        const char *name;
        int (*run)(struct file *f, char **arg);
    } pragmas[] = {
        {"journal_mode", pragma_journal_mode},
        {"locking_mode", pragma_locking_mode},
        {"wal_checkpoint", pragma_wal_checkpoint},
    };
    for (size_t i = 0; i < sizeof pragmas / sizeof pragmas[0]; i++) {
        if (sqlite3_stricmp(arg[PRAGMA_NAME], pragmas[i].name) == 0)
            return pragmas[i].run(f, arg);
    }
    return SQLITE_NOTFOUND;
}

/* --- questions and settings ------------------------------------------------------------------- */

/* Has the file been renamed or deleted under us? SQLite asks in each write transaction before it
 * opens its journal, which would be left behind by such a file; ours is not. So the file system is
 * asked in the first one only, and whenever somebody asks outside. */
static void control_has_moved(struct file *f, int *moved_out)
{
    struct stat st;
    *moved_out = 0;
    if (f->level >= SQLITE_LOCK_RESERVED && f->moved_checked)
        return;
    f->moved_checked = true;
    if (f->ino == 0)
        return;
    *moved_out = stat(f->path, &st) != 0 || st.st_dev != f->dev || st.st_ino != f->ino;
}

/* Answers with the old limit; -1 only asks. */
static void control_mmap_size(struct file *f, sqlite3_int64 *limit)
{
    sqlite3_int64 want = *limit;
    *limit = f->mmap_limit;
    if (want >= 0)
        f->mmap_limit = want;
}

/* SQLite gives the address of a function pointer and its argument. */
static void control_busy_handler(struct file *f, void **arg)
{
    memcpy(&f->busy, &arg[0], sizeof f->busy);
    f->busy_arg = arg[1];
}

static int control_ask(struct file *f, int op, void *arg)
{
    switch (op) {
    case SQLITE_FCNTL_LOCKSTATE: *(int *)arg = f->level; return SQLITE_OK;
    case SQLITE_FCNTL_LAST_ERRNO: *(int *)arg = f->last_errno; return SQLITE_OK;
    case SQLITE_FCNTL_VFSNAME:
        *(char **)arg = sqlite3_mprintf("%s", DAX_VFS_NAME);
        return *(char **)arg ? SQLITE_OK : SQLITE_NOMEM;
    case SQLITE_FCNTL_POWERSAFE_OVERWRITE:
        *(int *)arg = 1; /* and stays so */
        return SQLITE_OK;
    case SQLITE_FCNTL_HAS_MOVED: control_has_moved(f, arg); return SQLITE_OK;
    case DAX_FCNTL_CONN: *(struct conn **)arg = f->conn; return SQLITE_OK;
    case DAX_FCNTL_HOOK: f->hook = *(const struct file_hook *)arg; return SQLITE_OK;
    case DAX_FCNTL_SCRUB: *(struct scrub **)arg = f->scrub; return SQLITE_OK;
    case DAX_FCNTL_OWNERS: *(struct owner_cache **)arg = f->owners; return SQLITE_OK;
    default: return SQLITE_NOTFOUND;
    }
}

int file_control(sqlite3_file *file, int op, void *arg)
{
    struct file *f = (struct file *)file;
    switch (op) {
    case SQLITE_FCNTL_SYNC: return control_prepare(f);
    case SQLITE_FCNTL_COMMIT_PHASETWO: return control_commit(f);
    case SQLITE_FCNTL_PRAGMA: return control_pragma(f, arg);
    case SQLITE_FCNTL_MMAP_SIZE: control_mmap_size(f, arg); return SQLITE_OK;
    case SQLITE_FCNTL_BUSYHANDLER: control_busy_handler(f, arg); return SQLITE_OK;
    case SQLITE_FCNTL_PDB: names_set_db(f, arg); return SQLITE_OK;
    case SQLITE_FCNTL_SIZE_HINT:
    case SQLITE_FCNTL_CHUNK_SIZE:
        /* Space is reserved by the engine, in steps of its own. */
        return SQLITE_OK;
    case DAX_FCNTL_NAME_MEDIA: (void)media_names_settle(f); return SQLITE_OK;
    case DAX_FCNTL_CHECKPOINT: {
        struct checkpoint_request *request = arg;
        request->rc = control_checkpoint(f, request->mode, request->result, request->err);
        return SQLITE_OK;
    }
    default: return control_ask(f, op, arg);
    }
}
