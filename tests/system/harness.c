/* harness.c: see harness.h. Everything here ends the process when it fails. */
#include "tests/system/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/seed.h"

#define LOG_BYTES 65536

static struct {
    const char *name;
    char *dir;
    bool owns_dir;
    pid_t owner;
    uint64_t seed;
    const char *vfs;
    char context[512];
} test;

/* Guards log_buf: SQLite logs from any thread. */
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_buf[LOG_BYTES];
static size_t log_len;

/* Strings that live as long as the process; reachable, so that leaks of others stand out. */
static pthread_mutex_t strings_lock = PTHREAD_MUTEX_INITIALIZER;
static char **strings; /* strings_lock, as the two below */
static size_t strings_count, strings_room;

static char *keep(char *s)
{
    if (!s)
        abort();
    pthread_mutex_lock(&strings_lock);
    if (strings_count == strings_room) {
        strings_room = strings_room ? strings_room * 2 : 256;
        strings = realloc(strings, strings_room * sizeof *strings);
        if (!strings)
            abort();
    }
    strings[strings_count++] = s;
    pthread_mutex_unlock(&strings_lock);
    return s;
}

/* --- log -------------------------------------------------------------------------------------- */

static void log_line(void *arg, int code, const char *text)
{
    (void)arg;
    pthread_mutex_lock(&log_lock);
    if (log_len > LOG_BYTES / 2)
        log_len = 0;
    int n = snprintf(log_buf + log_len, LOG_BYTES - log_len, "(%d) %s\n", code, text);
    if (n > 0 && (size_t)n < LOG_BYTES - log_len)
        log_len += (size_t)n;
    log_buf[log_len] = 0;
    pthread_mutex_unlock(&log_lock);
    if (getenv("DAX_TEST_LOG"))
        fprintf(stderr, "log (%d) %s\n", code, text);
}

bool text_has(const char *text, const char *word)
{
    return text && strcasestr(text, word) != NULL;
}

bool log_has(const char *word, ...)
{
    bool found = false;
    pthread_mutex_lock(&log_lock);
    for (char *line = log_buf; !found && *line;) {
        char *end = strchrnul(line, '\n');
        char *one = strndup(line, (size_t)(end - line));
        found = true;
        va_list ap;
        va_start(ap, word);
        for (const char *w = word; w && found; w = va_arg(ap, const char *))
            found = text_has(one, w);
        va_end(ap);
        free(one);
        line = *end ? end + 1 : end;
    }
    pthread_mutex_unlock(&log_lock);
    return found;
}

void log_clear(void)
{
    pthread_mutex_lock(&log_lock);
    log_len = 0;
    log_buf[0] = 0;
    pthread_mutex_unlock(&log_lock);
}

const char *log_text(void)
{
    return log_buf;
}

/* --- start and end ---------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    remove(path);
    return 0;
}

static void remove_dir(void)
{
    if (!test.owns_dir || test.owner != getpid() || getenv("DAX_TEST_KEEP"))
        return;
    nftw(test.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void test_fail(const char *file, int line, const char *what, const char *fmt, ...)
{
    fflush(stdout);
    fprintf(stderr, "%s: FAILED at %s:%d: %s\n  ", test.name, file, line, what);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\n  seed %llu, directory %s\n", (unsigned long long)test.seed, test.dir);
    if (test.context[0])
        fprintf(stderr, "  %s\n", test.context);
    if (log_len)
        fprintf(stderr, "  SQLite's log:\n%s", log_buf);
    fflush(stderr);
    remove_dir();
    _exit(1);
}

void test_context(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(test.context, sizeof test.context, fmt, ap);
    va_end(ap);
}

void test_say(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
    fflush(stdout);
}

char *test_printf(const char *fmt, ...)
{
    char *s = NULL;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&s, fmt, ap) < 0)
        abort();
    va_end(ap);
    return keep(s);
}

char *test_path(const char *fmt, ...)
{
    char *s = NULL;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&s, fmt, ap) < 0)
        abort();
    va_end(ap);
    char *path = test_printf("%s/%s", test.dir, s);
    free(s);
    return path;
}

void test_load_extension(const char *entry)
{
    const char *path = getenv("DAX_TEST_EXTENSION");
    CHECK(path, "set DAX_TEST_EXTENSION to the extension, without .so");
    sqlite3 *db;
    CHECK(sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK, ":memory:");
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, NULL);
    char *err = NULL;
    int rc = sqlite3_load_extension(db, path, entry, &err);
    CHECK(rc == SQLITE_OK, "loading %s (%s): %s", path, entry ? entry : "default entry",
          err ? err : sqlite3_errstr(rc));
    sqlite3_close(db);
}

static void start(const char *name)
{
    test.name = name;
    test.owner = getpid();
    test.vfs = getenv("DAX_TEST_VFS") ? getenv("DAX_TEST_VFS") : "dax";
    CHECK(!strcmp(test.vfs, "dax") || !strcmp(test.vfs, "unix"), "DAX_TEST_VFS is dax or unix");
    /* The log goes to a file descriptor that a died reader may have closed: not a reason to die. */
    sqlite3_config(SQLITE_CONFIG_LOG, log_line, NULL);
    sqlite3_config(SQLITE_CONFIG_URI, 1);
    CHECK(sqlite3_initialize() == SQLITE_OK, "sqlite3_initialize");
    if (test_register)
        test_register();
    else if (test_on_dax())
        test_load_extension(NULL);
}

void test_start(const char *name)
{
    test.seed = test_seed_given();
    const char *parent = getenv("DAX_TEST_DIR") ? getenv("DAX_TEST_DIR") : "/dev/shm";
    test.name = name;
    char unique[7] = {0};
    memset(unique, 'X', sizeof unique - 1);
    test.dir = test_printf("%s/daxtest-%s-%s", parent, name, unique);
    CHECK(mkdtemp(test.dir), "cannot make %s: %s", test.dir, strerror(errno));
    test.owns_dir = true;
    printf("%s: DAX_TEST_SEED=%llu in %s, vfs %s, SQLite %s\n", name, (unsigned long long)test.seed,
           test.dir, getenv("DAX_TEST_VFS") ? getenv("DAX_TEST_VFS") : "dax", sqlite3_libversion());
    fflush(stdout);
    start(name);
}

void test_start_child(const char *name, const char *dir, uint64_t seed)
{
    test.seed = seed;
    test.dir = keep(strdup(dir));
    start(name);
}

int test_finish(void)
{
    remove_dir();
    printf("%s: ok\n", test.name);
    fflush(stdout);
    return 0;
}

void test_disown_directory(void)
{
    test.owns_dir = false;
}

uint64_t test_seed(void)
{
    return test.seed;
}

bool test_on_dax(void)
{
    return !strcmp(test.vfs, "dax");
}

const char *test_dir(void)
{
    return test.dir;
}

/* --- connections ------------------------------------------------------------------------------ */

char *db_uri(const char *path, const char *params)
{
    if (!test_on_dax())
        return test_printf("file:%s?vfs=unix", path);
    return test_printf("file:%s?vfs=dax%s%s", path, *params ? "&" : "", params);
}

int db_try_open(const char *path, const char *params, int flags, sqlite3 **out)
{
    char *uri = db_uri(path, params);
    int rc = sqlite3_open_v2(uri, out, flags | SQLITE_OPEN_URI, NULL);
    if (*out)
        sqlite3_extended_result_codes(*out, 1);
    return rc == SQLITE_OK ? rc : sqlite3_extended_errcode(*out);
}

sqlite3 *db_open(const char *path, const char *params)
{
    sqlite3 *db;
    int rc = db_try_open(path, params, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &db);
    CHECK(rc == SQLITE_OK, "open %s (%s): %d %s", path, params, rc, sqlite3_errmsg(db));
    if (!test_on_dax()) {
        sqlite3_busy_timeout(db, 60000);
        db_exec(db, "PRAGMA journal_mode=wal");
        sqlite3_busy_timeout(db, 0);
    }
    return db;
}

sqlite3 *db_open_stock(const char *path)
{
    sqlite3 *db;
    char *uri = test_printf("file:%s?vfs=unix", path);
    int rc = sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI,
                             NULL);
    CHECK(rc == SQLITE_OK, "stock open of %s: %d %s", path, rc, sqlite3_errmsg(db));
    sqlite3_extended_result_codes(db, 1);
    return db;
}

void db_close(sqlite3 *db)
{
    int rc = sqlite3_close(db);
    CHECK(rc == SQLITE_OK, "close: %d %s", rc, sqlite3_errstr(rc));
}

static int run_sql(sqlite3 *db, const char *sql, bool *row_out, int64_t *int_out, char **text_out)
{
    int rc = SQLITE_OK;
    while (rc == SQLITE_OK && *sql) {
        sqlite3_stmt *st;
        rc = sqlite3_prepare_v2(db, sql, -1, &st, &sql);
        if (rc != SQLITE_OK)
            return sqlite3_extended_errcode(db);
        while (st && (rc = sqlite3_step(st)) == SQLITE_ROW) {
            if (row_out && !*row_out) {
                *row_out = true;
                *int_out = sqlite3_column_int64(st, 0);
                const char *t = (const char *)sqlite3_column_text(st, 0);
                if (text_out)
                    *text_out = keep(strdup(t ? t : ""));
            }
        }
        if (st)
            rc = sqlite3_finalize(st);
        if (rc != SQLITE_OK)
            rc = sqlite3_extended_errcode(db);
    }
    return rc;
}

#define FORMAT_SQL(fmt)                                                                            \
    char *sql = NULL;                                                                              \
    va_list ap;                                                                                    \
    va_start(ap, fmt);                                                                             \
    if (vasprintf(&sql, fmt, ap) < 0)                                                              \
        abort();                                                                                   \
    va_end(ap)

void db_exec(sqlite3 *db, const char *fmt, ...)
{
    FORMAT_SQL(fmt);
    int rc = run_sql(db, sql, NULL, NULL, NULL);
    CHECK(rc == SQLITE_OK, "%s: %d %s", sql, rc, sqlite3_errmsg(db));
    free(sql);
}

int db_try(sqlite3 *db, const char *fmt, ...)
{
    FORMAT_SQL(fmt);
    int rc = run_sql(db, sql, NULL, NULL, NULL);
    free(sql);
    return rc;
}

int64_t db_int(sqlite3 *db, const char *fmt, ...)
{
    FORMAT_SQL(fmt);
    bool row = false;
    int64_t value = 0;
    int rc = run_sql(db, sql, &row, &value, NULL);
    CHECK(rc == SQLITE_OK, "%s: %d %s", sql, rc, sqlite3_errmsg(db));
    CHECK(row, "%s: no row", sql);
    free(sql);
    return value;
}

char *db_text(sqlite3 *db, const char *fmt, ...)
{
    FORMAT_SQL(fmt);
    bool row = false;
    int64_t value = 0;
    char *text = NULL;
    int rc = run_sql(db, sql, &row, &value, &text);
    CHECK(rc == SQLITE_OK, "%s: %d %s", sql, rc, sqlite3_errmsg(db));
    CHECK(row, "%s: no row", sql);
    free(sql);
    return text;
}

int64_t db_status(sqlite3 *db, const char *key)
{
    char *type = db_text(db, "SELECT json_type(dax_status(), '$.%s')", key);
    CHECK(!strcmp(type, "integer") || !strcmp(type, "true") || !strcmp(type, "false"),
          "dax_status() has no number \"%s\": %s", key, db_text(db, "SELECT dax_status()"));
    return db_int(db, "SELECT json_extract(dax_status(), '$.%s')", key);
}

void db_check_integrity(sqlite3 *db, const char *when)
{
    char *answer = db_text(db, "PRAGMA integrity_check");
    CHECK(!strcmp(answer, "ok"), "integrity_check %s: %s", when, answer);
    int64_t violations = db_int(db, "SELECT count(*) FROM pragma_foreign_key_check");
    CHECK(violations == 0, "foreign_key_check %s: %lld rows", when, (long long)violations);
}

void stock_check(const char *path)
{
    sqlite3 *db = db_open_stock(path);
    db_check_integrity(db, "by stock SQLite");
    db_close(db);
}

/* --- content ---------------------------------------------------------------------------------- */

static uint64_t hash_bytes(uint64_t h, const void *data, size_t len)
{
    const unsigned char *p = data;
    for (; len >= sizeof(uint64_t); p += sizeof(uint64_t), len -= sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 32;
    }
    for (size_t i = 0; i < len; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

static uint64_t hash_query(sqlite3 *db, const char *sql, uint64_t h)
{
    sqlite3_stmt *st;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
    CHECK(rc == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        for (int i = 0; i < sqlite3_column_count(st); i++) {
            int type = sqlite3_column_type(st, i);
            h = hash_bytes(h, &type, sizeof type);
            const void *data =
                type == SQLITE_BLOB ? sqlite3_column_blob(st, i) : sqlite3_column_text(st, i);
            h = hash_bytes(h, data, (size_t)sqlite3_column_bytes(st, i));
        }
    }
    CHECK(rc == SQLITE_DONE, "%s: %s", sql, sqlite3_errmsg(db));
    sqlite3_finalize(st);
    return h;
}

uint64_t db_content_hash(sqlite3 *db, const char *schema)
{
    char *list = test_printf("SELECT type, name, tbl_name, sql FROM \"%s\".sqlite_schema"
                             " ORDER BY type, name",
                             schema);
    uint64_t h = hash_query(db, list, UINT64_C(0xcbf29ce484222325));
    sqlite3_stmt *st;
    char *tables = test_printf("SELECT name FROM \"%s\".sqlite_schema WHERE type = 'table'"
                               " AND name NOT IN ('sqlite_stat4') ORDER BY name",
                               schema);
    CHECK(sqlite3_prepare_v2(db, tables, -1, &st, NULL) == SQLITE_OK, "%s", sqlite3_errmsg(db));
    while (sqlite3_step(st) == SQLITE_ROW) {
        char *sql = test_printf("SELECT * FROM \"%s\".\"%s\"", schema,
                                (const char *)sqlite3_column_text(st, 0));
        h = hash_query(db, sql, h);
    }
    sqlite3_finalize(st);
    return h;
}

/* --- files and processes ---------------------------------------------------------------------- */

void file_copy(const char *from, const char *to)
{
    int in = open(from, O_RDONLY | O_CLOEXEC);
    CHECK(in >= 0, "open %s: %s", from, strerror(errno));
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    CHECK(out >= 0, "open %s: %s", to, strerror(errno));
    static char buf[1 << 20];
    /* Sparse files stay sparse: only the data is copied. */
    off_t end = lseek(in, 0, SEEK_END), at = 0;
    CHECK(ftruncate(out, end) == 0, "ftruncate %s", to);
    while ((at = lseek(in, at, SEEK_DATA)) >= 0 && at < end) {
        off_t stop = lseek(in, at, SEEK_HOLE);
        while (at < stop) {
            size_t want = (size_t)(stop - at) < sizeof buf ? (size_t)(stop - at) : sizeof buf;
            ssize_t n = pread(in, buf, want, at);
            CHECK(n > 0 && pwrite(out, buf, (size_t)n, at) == n, "copy %s to %s", from, to);
            at += n;
        }
    }
    close(in);
    close(out);
}

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool file_same(const char *a, const char *b)
{
    char *compare = test_printf("cmp '%s' '%s'", a, b);
    int rc = system(compare);
    return rc == 0;
}

int64_t file_bytes(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (int64_t)st.st_size : -1;
}

static off_t place(int fd, int64_t offset)
{
    return offset >= 0 ? (off_t)offset : lseek(fd, 0, SEEK_END) + (off_t)offset;
}

void file_poke(const char *path, int64_t offset, const void *bytes, size_t len)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0, "open %s: %s", path, strerror(errno));
    CHECK(pwrite(fd, bytes, len, place(fd, offset)) == (ssize_t)len, "pwrite %s", path);
    close(fd);
}

void file_peek(const char *path, int64_t offset, void *bytes, size_t len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0, "open %s: %s", path, strerror(errno));
    CHECK(pread(fd, bytes, len, place(fd, offset)) == (ssize_t)len, "pread %s", path);
    close(fd);
}

void file_remove_db(const char *path)
{
    static const char *const suffix[] = {"", "-journal", "-wal", "-shm", "-dax"};
    for (size_t i = 0; i < sizeof suffix / sizeof *suffix; i++) {
        char *name = test_printf("%s%s", path, suffix[i]);
        unlink(name);
    }
}

pid_t child_start(int (*fn)(void *arg), void *arg)
{
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        test_disown_directory();
        int rc = fn(arg);
        fflush(NULL);
        _exit(rc);
    }
    return pid;
}

int child_wait(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        CHECK(errno == EINTR, "waitpid: %s", strerror(errno));
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

int64_t proc_status_kib(pid_t pid, const char *field)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    int64_t value = -1;
    while (f && value < 0 && fgets(line, sizeof line, f))
        if (!strncmp(line, field, strlen(field)))
            value = strtoll(line + strlen(field), NULL, 10);
    if (f)
        fclose(f);
    return value;
}
