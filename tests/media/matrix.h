/* matrix.h: what the parts of the media matrix share.
 *
 * A *run* is one position (which page is bad) x one operation x one time (when it goes bad) x one way x
 * one mode, in a process of its own. Its words are its command line, so that any run can be repeated
 * alone: `media_matrix run DIR key=value ...`.
 */
#ifndef TESTS_MEDIA_MATRIX_H
#define TESTS_MEDIA_MATRIX_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/media/bad_pages.h"
#include "tests/media/poison.h"
#include "tests/system/harness.h"

/* --- the dimensions ------------------------------------------------------------------------------- */

enum matrix_op {
    OP_POINT,
    OP_SCAN,
    OP_INSERT,
    OP_UPDATE,
    OP_DELETE,
    OP_COMMIT,     /* the page goes bad between the statement and its COMMIT */
    OP_CHECKPOINT, /* the page's newest version is in a frame, base is bad: rehomed */
    OP_RELOG,      /* the same while a reader has base pinned */
    OP_SCRUB,
    OP_BACKUP,
    OP_VACUUM,
    OP_CLOSE,
    OP_RECOVER, /* a database that was killed with a log that names the page */
    OP_COUNT
};

enum matrix_time {
    TIME_BEFORE_OPEN,
    TIME_BEFORE_PIN, /* open, and nothing read */
    TIME_PROBED,     /* everything was read once */
    TIME_PINNED,     /* an open cursor stands on it */
    TIME_COUNT
};

enum matrix_way {
    WAY_POISON, /* bad in every way, a whole write heals it */
    WAY_SIGBUS, /* pread still works */
    WAY_STUCK,  /* no write heals it, a punched hole does */
    WAY_CUT,    /* another process cuts the file there */
    WAY_COUNT
};

enum matrix_end {
    END_HEAL,   /* the page is good again by itself; repair */
    END_REPAIR, /* it stays bad; repair, with loss where there is no other way */
    END_KILL,   /* the process dies, the next one repairs */
    END_COUNT
};

/* What a position is to the checks. */
enum matrix_file {
    FILE_DB,
    FILE_SIDECAR
};
enum matrix_object {
    OBJECT_NONE,
    OBJECT_T,
    OBJECT_T_K,
    OBJECT_W,
    OBJECT_O,
    OBJECT_SCHEMA,
    OBJECT_END,    /* a page that the database gets when it grows */
    OBJECT_SCRATCH /* one that a large transaction on t uses until its commit */
};

struct matrix_position {
    char name[32];
    enum matrix_file file;
    enum matrix_object object;
    uint64_t page;                      /* of the file, 4096 bytes each, from 0 */
    int64_t target;                     /* a row that cannot be read without it; 0: none */
    char type[16], owner[32], role[32]; /* what dax_errors says; "": not checked */
};

struct matrix_run {
    struct matrix_position at;
    unsigned page_size;
    enum matrix_op op;
    enum matrix_time time;
    enum matrix_way way;
    enum matrix_end end;
    bool zero_copy;
    bool msync;
    bool crowd; /* other threads are at work meanwhile */
    int next;   /* the second process of a run, the first one died: NEXT_..., or 0 */
    bool good;    /* that one finds a good page */
    bool entered; /* and an entry in the ledger */
};

extern const char *const matrix_op_name[OP_COUNT], *const matrix_time_name[TIME_COUNT],
                                                       *const matrix_way_name[WAY_COUNT],
                                                           *const matrix_end_name[END_COUNT];

/* To a command line and back. */
char *matrix_run_words(const struct matrix_run *r);
void matrix_run_parse(struct matrix_run *r, int argc, char **argv);

/* --- matrix_plan.c: which runs, in which order ------------------------------------------------------ */

/* The page goes bad within the operation; its time is TIME_PROBED. */
bool matrix_has_own_moment(enum matrix_op op);

/* All runs of a position, of those with (!: without) these words. */
void plan_add(const struct matrix_position *at, unsigned page_size, int argc, char **argv);
/* After the last of them: the order, by the seed. */
void plan_order(void);
size_t plan_count(void);
const struct matrix_run *plan_get(size_t i);
/* Run i was run. */
void plan_ran(size_t i);
/* The table of what was run. */
void plan_say(void);
/* Were so many runs enough for all cells? Then each that there must be has had one. */
bool plan_check(size_t runs);
void plan_free(void);

/* --- matrix_db.c: the databases ------------------------------------------------------------------- */

#define MATRIX_POSITIONS 40

/* Make the templates for a page size below the test's directory: before-PS.db (plain), killed-PS.db and
 * its sidecar (daxlite was killed with a live log). */
void matrix_make(unsigned page_size);
/* Fill in positions of the template; how many. */
unsigned matrix_positions(unsigned page_size, struct matrix_position *out);

/* The statement that an operation runs on the position's object; the same on the reference. */
char *matrix_statement(const struct matrix_run *r, enum matrix_op op);
/* The query that reads row `id` of the object. */
char *matrix_point(enum matrix_object object, int64_t id);
#define MATRIX_QUERIES 6
extern const char *const matrix_query[MATRIX_QUERIES];

/* Rows of z and of y, which no position needs. */
#define MATRIX_BYSTANDERS 40

/* --- matrix_crowd.c: other threads ------------------------------------------------------------------- */

/* How long one writer waits for the other. */
#define MATRIX_BUSY_MS 60000
#define MATRIX_PATIENCE_MS 500 /* of a checkpoint, for pins that stay */

/* Threads that read z and change y until crowd_stop; a wrong row or an error ends the process. */
void crowd_start(const char *path, const char *params);
/* Wait until each of them has begun and ended something. No effect if there are none. */
void crowd_advance(void);
void crowd_stop(void);

/* --- matrix_check.c: the judge -------------------------------------------------------------------- */

/* The right data: the template in stock SQLite, with `sql` (may be NULL) applied and never committed. */
sqlite3 *reference_open(const struct matrix_run *r, const char *sql);

enum check_result {
    CHECK_SAME,
    CHECK_ERROR, /* right rows, then SQLITE_IOERR */
    CHECK_WRONG
};

/* Run sql on both and compare row by row. *why: what is wrong. */
enum check_result check_query(sqlite3 *db, sqlite3 *reference, const char *sql, char **why);

/* All of matrix_query. CHECK_ERROR if any failed. */
enum check_result check_all(sqlite3 *db, sqlite3 *reference, char **why);

/* Each row of db's tables is one of the reference's; how many are missing. Integrity must be ok. */
int64_t check_subset(const struct matrix_run *r, sqlite3 *db, sqlite3 *reference);

/* dax_errors: nothing but the run's page; if must_have, that, and right in every column. */
void check_errors(const struct matrix_run *r, sqlite3 *db, bool must_have);
/* Entries that are open. */
int64_t errors_open(sqlite3 *db);

/* Exit status of a process after which another one goes on, and what data that one finds. */
enum {
    NEXT_BEFORE = 40,
    NEXT_AFTER,
    NEXT_DEAD_BEFORE,
    NEXT_DEAD_AFTER
};

/* Said when the operation's statement has been committed. */
#define MATRIX_COMMITTED "result: committed"
/* Said at the end of the first process when daxlite has healed the page: the second finds it so. */
#define MATRIX_HEALED "result: healed"
/* And when it has entered it. */
#define MATRIX_ENTERED "result: entered"

/* --- matrix_run.c: one run ------------------------------------------------------------------------- */

int matrix_run(const struct matrix_run *r);

/* How many seconds of the day a run's process may take before it counts as hanging. */
#define MATRIX_RUN_LIMIT_S 120

#endif
