/* subject.c: command line, extension, pragmas. See subject.h for the contract. */
#include "bench/common/subject.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/common/stores.h"
#ifdef BENCH_EMBEDDED
#include "include/daxlite.h"
#endif

static const char *const subject_names[SUBJECTS] = {
    [SUBJECT_DAX] = "dax",
    [SUBJECT_DAX_EXCLUSIVE] = "dax-exclusive",
    [SUBJECT_DAX_EMBEDDED] = "dax-embedded",
    [SUBJECT_WAL_FULL] = "wal-full",
    [SUBJECT_WAL_NORMAL] = "wal-normal",
    [SUBJECT_WAL_MMAP] = "wal-mmap",
    [SUBJECT_ROLLBACK] = "rollback",
    [SUBJECT_MEMORY] = "memory",
    [SUBJECT_MEMDB] = "memdb",
    [SUBJECT_LMDB] = "lmdb",
};

/* For messages of a process that has one subject. */
static const char *message_program = "bench", *message_subject = "?";

void bench_die(const char *what, const char *detail)
{
    fflush(stdout);
    fprintf(stderr, "%s: %s: %s: %s\n", message_program, message_subject, what, detail);
    exit(1);
}

void bench_skip(const char *reason)
{
    fflush(stdout);
    fprintf(stderr, "%s: %s: does not apply: %s\n", message_program, message_subject, reason);
    exit(77);
}

static _Noreturn void usage(const char *why, const char *what)
{
    fprintf(stderr,
            "%s: %s: %s\n"
            "usage: %s --subject NAME --dir DIR [--extension PATH] [--quick | --tiny]\n"
            "       [--seed N] [--workloads NAME,NAME...]\nsubjects:",
            message_program, why, what, message_program);
    for (int i = 0; i < SUBJECTS; i++)
        fprintf(stderr, " %s", subject_names[i]);
    fprintf(stderr, "\n");
    exit(2);
}

static enum subject subject_of(const char *name)
{
    for (int i = 0; i < SUBJECTS; i++)
        if (strcmp(name, subject_names[i]) == 0)
            return (enum subject)i;
    usage("no such subject", name);
}

static uint64_t seed_of(const char *text)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || end == text || *end)
        usage("--seed is not a number", text);
    return value;
}

static void parse(struct bench *b, int argc, char **argv)
{
    static const struct option known[] = {{"subject", required_argument, NULL, 's'},
                                          {"dir", required_argument, NULL, 'd'},
                                          {"extension", required_argument, NULL, 'e'},
                                          {"quick", no_argument, NULL, 'q'},
                                          {"tiny", no_argument, NULL, 't'},
                                          {"seed", required_argument, NULL, 'r'},
                                          {"workloads", required_argument, NULL, 'w'},
                                          {NULL, 0, NULL, 0}};
    *b = (struct bench){.program = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0],
                        .size = BENCH_FULL,
                        .seed = 1};
    message_program = b->program;
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case 's':
            b->subject = subject_of(optarg);
            b->subject_name = message_subject = subject_names[b->subject];
            break;
        case 'd': b->dir = optarg; break;
        case 'e': b->extension = optarg; break;
        case 'q': b->size = BENCH_QUICK; break;
        case 't': b->size = BENCH_TINY; break;
        case 'r': b->seed = seed_of(optarg); break;
        case 'w': b->workloads = optarg; break;
        default: usage("command line", "see above");
        }
    }
    if (optind < argc)
        usage("unknown argument", argv[optind]);
    if (!b->subject_name || !b->dir)
        usage("missing", "--subject and --dir");
}

#ifdef BENCH_EMBEDDED
static void become_embedded(const struct bench *b, char **argv)
{
    (void)argv;
    if (b->subject != SUBJECT_DAX_EMBEDDED)
        usage("this program has one subject", "dax-embedded");
}

static void initialize_embedded(void)
{
    const char *why;
    if (daxlite_initialize(NULL, &why) != SQLITE_OK)
        bench_die("daxlite_initialize", why);
    if (daxlite_register(0) != SQLITE_OK)
        bench_die("daxlite_register", "failed");
}
#else
static void become_embedded(const struct bench *b, char **argv)
{
    char path[PATH_MAX];
    if (b->subject != SUBJECT_DAX_EMBEDDED)
        return;
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - sizeof "-embedded");
    if (length < 0)
        bench_die("/proc/self/exe", strerror(errno));
    memcpy(path + length, "-embedded", sizeof "-embedded");
    execv(path, argv);
    if (errno == ENOENT)
        bench_skip("the program was built without libdaxlite");
    bench_die(path, strerror(errno));
}

static void initialize_embedded(void)
{
    bench_die("daxlite_initialize", "not in this program");
}
#endif

static void load_extension(const char *path)
{
    sqlite3 *db = NULL;
    char *error = NULL;
    if (!path)
        usage("missing for this subject", "--extension PATH (daxlite.so, without .so)");
    if (sqlite3_open(":memory:", &db) != SQLITE_OK ||
        sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, NULL) != SQLITE_OK)
        bench_die("open :memory:", sqlite3_errmsg(db));
    if (sqlite3_load_extension(db, path, NULL, &error) != SQLITE_OK)
        bench_die(path, error ? error : "cannot be loaded");
    sqlite3_close(db);
}

/* What the engine has to say where an open fails; what it says of its mode is no news. */
static void show_log(void *arg, int code, const char *text)
{
    (void)arg;
    if ((code & 0xff) != SQLITE_NOTICE && (code & 0xff) != SQLITE_WARNING)
        fprintf(stderr, "%s: %s: (%d) %s\n", message_program, message_subject, code, text);
}

void bench_start_bare(struct bench *b, int argc, char **argv)
{
    parse(b, argc, argv);
    if (b->size == BENCH_TINY && setenv("DAX_BENCH_SHARED", "1", 1) != 0)
        bench_die("setenv", strerror(errno));
    sqlite3_config(SQLITE_CONFIG_LOG, show_log, NULL);
    if (getenv("DAX_BENCH_UNCOUNTED"))
        sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    become_embedded(b, argv);
}

void bench_start(struct bench *b, int argc, char **argv)
{
    bench_start_bare(b, argc, argv);
    if (b->subject == SUBJECT_DAX_EMBEDDED)
        initialize_embedded();
    if (b->subject == SUBJECT_DAX || b->subject == SUBJECT_DAX_EXCLUSIVE)
        load_extension(b->extension);
}

bool bench_wants(const struct bench *b, const char *workload)
{
    size_t length = strlen(workload);
    if (!b->workloads)
        return true;
    for (const char *at = b->workloads; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, workload, length) == 0 && (at[length] == ',' || !at[length]))
            return true;
    }
    return false;
}

uint64_t bench_scale(const struct bench *b, uint64_t full, uint64_t quick, uint64_t tiny)
{
    return b->size == BENCH_FULL ? full : b->size == BENCH_QUICK ? quick : tiny;
}

/* --- SQLite ------------------------------------------------------------------------------------ */

static const char *pragmas_of(enum subject s)
{
    switch (s) {
    case SUBJECT_DAX_EXCLUSIVE: return "PRAGMA locking_mode=EXCLUSIVE";
    case SUBJECT_WAL_FULL: return "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL";
    case SUBJECT_WAL_NORMAL: return "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL";
    case SUBJECT_WAL_MMAP:
        return "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA mmap_size=2147418112";
    case SUBJECT_ROLLBACK: return "PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL";
    default: return NULL;
    }
}

sqlite3 *subject_open_with(const struct bench *b, const char *name, const char *parameters)
{
    char uri[PATH_MAX + 256];
    sqlite3 *db = NULL;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX;
    if (b->subject == SUBJECT_LMDB)
        bench_die("subject_open", "lmdb has no SQL: kv.h, or bench_skip");
    if (b->subject == SUBJECT_MEMORY)
        snprintf(uri, sizeof uri, ":memory:");
    else if (b->subject == SUBJECT_MEMDB)
        snprintf(uri, sizeof uri, "file:%s?vfs=memdb", name);
    else if (subject_is_dax(b->subject))
        snprintf(uri, sizeof uri, "file:%s/%s.db?vfs=dax%s%s", b->dir, name, parameters ? "&" : "",
                 parameters ? parameters : "");
    else
        snprintf(uri, sizeof uri, "file:%s/%s.db%s%s", b->dir, name, b->counted ? "?vfs=" : "",
                 b->counted ? stores_vfs() : "");
    if (sqlite3_open_v2(uri, &db, flags, NULL) != SQLITE_OK)
        bench_die(uri, sqlite3_errmsg(db));
    sqlite3_busy_timeout(db, 10000);
    if (pragmas_of(b->subject))
        sql_run(db, pragmas_of(b->subject));
    return db;
}

sqlite3 *subject_open(const struct bench *b, const char *name)
{
    return subject_open_with(b, name, NULL);
}

static bool file_stat(const struct bench *b, const char *name, const char *suffix, struct stat *st)
{
    char path[PATH_MAX + 256];
    snprintf(path, sizeof path, "%s/%s.db%s", b->dir, name, suffix);
    if (stat(path, st) == 0)
        return true;
    if (errno != ENOENT)
        bench_die(path, strerror(errno));
    return false;
}

uint64_t subject_file_size(const struct bench *b, const char *name, const char *suffix)
{
    struct stat st;
    return file_stat(b, name, suffix, &st) ? (uint64_t)st.st_size : 0;
}

uint64_t subject_file_allocated(const struct bench *b, const char *name, const char *suffix)
{
    struct stat st;
    return file_stat(b, name, suffix, &st) ? (uint64_t)st.st_blocks * 512 : 0;
}

void subject_remove(const struct bench *b, const char *name)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-dax", "-journal", "-lock"};
    char path[PATH_MAX + 256];
    for (unsigned i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        snprintf(path, sizeof path, "%s/%s.db%s", b->dir, name, suffixes[i]);
        if (unlink(path) != 0 && errno != ENOENT)
            bench_die(path, strerror(errno));
    }
}

void sql_run(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        bench_die(sql, sqlite3_errmsg(db));
}

sqlite3_stmt *sql_prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL) != SQLITE_OK)
        bench_die(sql, sqlite3_errmsg(db));
    return stmt;
}

void sql_step(sqlite3_stmt *stmt)
{
    while (sqlite3_step(stmt) == SQLITE_ROW) {
    }
    if (sqlite3_reset(stmt) != SQLITE_OK)
        bench_die(sqlite3_sql(stmt), sqlite3_errmsg(sqlite3_db_handle(stmt)));
}

int64_t sql_number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt = sql_prepare(db, sql);
    if (sqlite3_step(stmt) != SQLITE_ROW || sqlite3_column_type(stmt, 0) != SQLITE_INTEGER)
        bench_die(sql, sqlite3_errmsg(db));
    int64_t value = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return value;
}

void sql_close(sqlite3 *db)
{
    if (sqlite3_close(db) != SQLITE_OK)
        bench_die("close", sqlite3_errmsg(db));
}
