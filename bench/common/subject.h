/* subject.h: what every benchmark program is: its command line, its subject, how to open that.
 *
 * The contract between a program and bench/run:
 *
 *   PROGRAM --subject NAME --dir DIR [--extension PATH] [--quick | --tiny] [--seed N]
 *           [--workloads NAME,NAME...]
 *
 *   - One program per question, one subject per process. The runner starts each program once per
 *     subject and round, in turn, and deletes DIR afterwards. DIR exists, is empty, belongs to the
 *     program alone, and lies on the medium that is measured.
 *   - --quick: as short as the answer allows (about a second per process; the whole suite has under
 *     five minutes). --tiny: a smoke test, well under a second, whose times mean nothing. Neither: a
 *     full run, some seconds per process.
 *   - --workloads: only these; a program asks bench_wants() before each.
 *   - Results are lines on stdout, see report.h. A key that occurs again is a further sample: the
 *     runner takes medians over all of them. Everything else goes to stderr.
 *   - Exit status: 0; 77 if the subject does not apply (reason on stderr: bench_skip); 1 on an error
 *     (bench_die). What was reported before an error is still counted.
 *
 * Subjects:
 *
 *   dax           unmodified SQLite with the extension loaded; zero-copy reads, every default
 *   dax-exclusive dax with locking_mode=EXCLUSIVE: the only connection that may write, as that to a :memory:
 *                 database is
 *   dax-embedded  libdaxlite linked and initialised (a program of its own, PROGRAM-embedded, which
 *                 bench_start executes: what it links may change the process's allocator)
 *   wal-full, wal-normal    stock SQLite, journal_mode=WAL, synchronous=FULL / NORMAL
 *   wal-mmap      wal-full with mmap_size = 2 GiB
 *   rollback      stock SQLite, journal_mode=DELETE, synchronous=FULL
 *   memory        stock SQLite, :memory: (each open is a database of its own)
 *   memdb         stock SQLite on its own VFS of that name: a file in DRAM that no other connection sees,
 *                 nothing of it durable. What SQLite costs where a VFS stands below it
 *   lmdb          LMDB, durable default, through kv.h
 *
 * With DAX_BENCH_UNCOUNTED in the environment (bench/run --uncounted) SQLite does not count what it
 * allocates, for which all threads take one mutex (SQLITE_CONFIG_MEMSTATUS); by default it does.
 *
 * SQLite's cache has its default size in all of them, and connections are without mutex: one thread
 * at a time uses a connection.
 */
#ifndef BENCH_SUBJECT_H
#define BENCH_SUBJECT_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

enum subject {
    SUBJECT_DAX,
    SUBJECT_DAX_EXCLUSIVE,
    SUBJECT_DAX_EMBEDDED,
    SUBJECT_WAL_FULL,
    SUBJECT_WAL_NORMAL,
    SUBJECT_WAL_MMAP,
    SUBJECT_ROLLBACK,
    SUBJECT_MEMORY,
    SUBJECT_MEMDB,
    SUBJECT_LMDB,
    SUBJECTS
};

enum bench_size {
    BENCH_TINY,
    BENCH_QUICK,
    BENCH_FULL
};

struct bench {
    const char *program;
    enum subject subject;
    const char *subject_name;
    const char *dir;
    const char *extension; /* without .so; NULL where the subject needs none */
    enum bench_size size;
    uint64_t seed;
    const char *workloads; /* NULL: all */
    bool counted;          /* subject_open goes through the counting VFS: see stores.h */
};

/* Parse the command line (exits 2 where it is wrong), change to the embedded program if the subject
 * wants it, load or register what the subject needs. argv must live on. */
void bench_start(struct bench *b, int argc, char **argv);

/* The same without loading, initialising or registering anything: that is left to the program, which
 * may do it several times, each in a process of its own. */
void bench_start_bare(struct bench *b, int argc, char **argv);

/* Whether --workloads names this one. */
bool bench_wants(const struct bench *b, const char *workload);

/* One of three numbers, by the size of the run. */
uint64_t bench_scale(const struct bench *b, uint64_t full, uint64_t quick, uint64_t tiny);

/* "PROGRAM: SUBJECT: what: detail" on stderr and exit(1). */
_Noreturn void bench_die(const char *what, const char *detail);

/* The subject cannot answer this question: reason on stderr, exit(77). */
_Noreturn void bench_skip(const char *reason);

static inline bool subject_is_dax(enum subject s)
{
    return s == SUBJECT_DAX || s == SUBJECT_DAX_EXCLUSIVE || s == SUBJECT_DAX_EMBEDDED;
}

/* Each open is a database of its own, nothing is stored. */
static inline bool subject_keeps_nothing(enum subject s)
{
    return s == SUBJECT_MEMORY || s == SUBJECT_MEMDB;
}

/* A second connection to the database cannot write, or is to another database. */
static inline bool subject_is_alone(enum subject s)
{
    return subject_keeps_nothing(s) || s == SUBJECT_DAX_EXCLUSIVE;
}

/* Stock SQLite with a file. */
static inline bool subject_is_stock_file(enum subject s)
{
    return s == SUBJECT_WAL_FULL || s == SUBJECT_WAL_NORMAL || s == SUBJECT_WAL_MMAP ||
           s == SUBJECT_ROLLBACK;
}

/* --- SQLite ------------------------------------------------------------------------------------ */

/* A connection to DIR/name.db as the subject has it, all pragmas set; busy timeout 10 s. Any thread,
 * any number of times (memory, memdb: a new database each time). parameters: further URI parameters for
 * dax ("dax_zero_copy=off"), NULL for none, ignored elsewhere. Not for lmdb. */
sqlite3 *subject_open_with(const struct bench *b, const char *name, const char *parameters);
sqlite3 *subject_open(const struct bench *b, const char *name);

/* DIR/name + suffix ("", "-wal", "-dax", ...) as file size or as allocated bytes; 0: no such file. */
uint64_t subject_file_size(const struct bench *b, const char *name, const char *suffix);
uint64_t subject_file_allocated(const struct bench *b, const char *name, const char *suffix);

/* All files of a database that is closed. Where there are none, there is nothing to do. */
void subject_remove(const struct bench *b, const char *name);

/* Each of these exits with the message where it fails. */
void sql_run(sqlite3 *db, const char *sql);
sqlite3_stmt *sql_prepare(sqlite3 *db, const char *sql); /* persistent */
void sql_step(sqlite3_stmt *stmt);                       /* to the end, then reset */
int64_t sql_number(sqlite3 *db, const char *sql);        /* first column of the first row */
void sql_close(sqlite3 *db);

#endif
