/* matrix_plan.c: which runs there are, in which order, and how many of each kind there were.
 *
 * A *cell* is position x operation x time. Runs of a cell differ in the way the page is bad, in the end, in
 * the page size and in the mode. Each cell gets the same share of the runs, however many of all combinations
 * it has: first one run of each cell, then a second of each, and so on, which of them the seed says.
 * An operation that has its moment in itself has one cell where others have one for each time; it is
 * divided by the ways instead, so that it is not run less often.
 *
 * A row of the table below is a position that must be among those of a database. A position that is not
 * found any more, or a cell that is never run although there were runs enough, fails the test.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/media/matrix.h"

#define CELLS ((size_t)MATRIX_POSITIONS * OP_COUNT * TIME_COUNT * WAY_COUNT)

/* What databases of 4096 bytes a page have: is there a row that needs the page; is it behind their end? */
static const struct {
    const char *name;
    bool row, beyond;
} named[] = {
    {"t root", true, false},        {"t interior", true, false},    {"t leaf", true, false},
    {"t_k root", true, false},      {"t_k interior", true, false},  {"t_k leaf", true, false},
    {"w root", true, false},        {"w interior", true, false},    {"w leaf", true, false},
    {"overflow", true, false},      {"schema leaf", true, false},   {"page 1", true, false},
    {"free trunk", false, false},   {"free leaf", false, false},    {"pointer map", false, false},
    {"past the end", false, true},  {"scratch", false, true},       {"pool header", false, false},
    {"sidecar root", false, false}, {"sidecar twin", false, false}, {"ring live", false, false},
    {"ring next", false, false},    {"ring free", false, false},    {"ledger", false, false},
};
#define NAMED (sizeof named / sizeof *named)

static struct {
    struct planned {
        struct matrix_run run;
        uint32_t cell;
        uint32_t turn; /* how many runs of its cell come before it */
    } * runs;
    size_t count, room;
    char names[MATRIX_POSITIONS][32];
    unsigned name_count;
    uint32_t of_cell[CELLS]; /* combinations */
    uint32_t ran[CELLS];
} plan;

/* --- what there is ------------------------------------------------------------------------------------ */

bool matrix_has_own_moment(enum matrix_op op)
{
    return op == OP_COMMIT || op == OP_CHECKPOINT || op == OP_RELOG || op == OP_CLOSE;
}

/* Is there anything to do? */
static bool cell_exists(bool in_db, bool row, bool beyond, enum matrix_op op, enum matrix_time time)
{
    if (matrix_has_own_moment(op) && time != TIME_PROBED)
        return false;
    if (op == OP_RECOVER && (time != TIME_BEFORE_OPEN || beyond))
        return false; /* of what a kill leaves behind the end, no record says anything */
    if ((time == TIME_PINNED || op == OP_RELOG) && (!in_db || !row))
        return false; /* nobody holds a pin on it */
    return op != OP_POINT || row;
}

/* Other threads need the schema, the log, and the end of the file; and are in the way of a last close. */
static bool crowd_fits(const struct matrix_run *r)
{
    return r->at.file == FILE_DB && r->at.object != OBJECT_SCHEMA && r->way != WAY_CUT &&
           r->op != OP_CLOSE && r->op != OP_RECOVER;
}

static bool makes_sense(const struct matrix_run *r)
{
    bool in_db = r->at.file == FILE_DB;
    bool beyond = r->at.object == OBJECT_END || r->at.object == OBJECT_SCRATCH;
    if (!cell_exists(in_db, r->at.target != 0, beyond, r->op, r->time))
        return false;
    /* Small pages: what shares a file page with the schema or the bystander is not a case of its own. */
    if (r->page_size < POISON_PAGE_BYTES && in_db && r->at.page <= 1)
        return false;
    /* libpmemobj loads the header itself; pread is what is asked before it may. */
    if (strcmp(r->at.name, "pool header") == 0 && r->way == WAY_SIGBUS)
        return false;
    if (r->crowd && !crowd_fits(r))
        return false;
    if (r->way != WAY_CUT || beyond)
        return r->way != WAY_CUT;
    /* Before the open, what is to be done is not reached. */
    bool early = r->time == TIME_BEFORE_OPEN;
    return in_db && r->at.page > 0 && r->end == END_HEAL &&
           (!early || r->op == OP_SCAN || r->op == OP_INSERT || r->op == OP_RECOVER);
}

static bool is_wanted(const struct matrix_run *r, int argc, char **argv)
{
    char *all = test_printf(";%s;", matrix_run_words(r));
    for (int i = 0; i < argc; i++)
        if (!strstr(all, test_printf(";%s;", argv[i] + (argv[i][0] == '!'))) != (argv[i][0] == '!'))
            return false;
    return true;
}

static unsigned name_index(const char *name)
{
    unsigned i = 0;
    while (i < plan.name_count && strcmp(plan.names[i], name) != 0)
        i++;
    if (i == plan.name_count) {
        CHECK(i < MATRIX_POSITIONS, "too many positions");
        snprintf(plan.names[plan.name_count++], sizeof plan.names[0], "%s", name);
    }
    return i;
}

static uint32_t cell_index(unsigned name, enum matrix_op op, enum matrix_time time,
                           enum matrix_way way)
{
    unsigned part = matrix_has_own_moment(op) || op == OP_RECOVER ? (unsigned)way : 0;
    return ((name * OP_COUNT + op) * TIME_COUNT + time) * WAY_COUNT + part;
}

static uint32_t cell_of(const struct matrix_run *r)
{
    return cell_index(name_index(r->at.name), r->op, r->time, r->way);
}

static void plan_append(const struct matrix_run *r)
{
    if (plan.count == plan.room) {
        plan.room = plan.room ? 2 * plan.room : 1024;
        plan.runs = realloc(plan.runs, plan.room * sizeof *plan.runs);
        CHECK(plan.runs, "no memory");
    }
    uint32_t cell = cell_of(r);
    plan.runs[plan.count++] = (struct planned){*r, cell, 0};
    plan.of_cell[cell]++;
}

void plan_add(const struct matrix_position *at, unsigned page_size, int argc, char **argv)
{
    struct matrix_run r = {.at = *at, .page_size = page_size};
    for (int i = 0; i < OP_COUNT * TIME_COUNT * WAY_COUNT * END_COUNT * 8; i++) {
        int n = i;
        r.zero_copy = n & 1;
        r.msync = n & 2;
        r.crowd = n & 4;
        n >>= 3;
        r.end = (enum matrix_end)(n % END_COUNT);
        n /= END_COUNT;
        r.way = (enum matrix_way)(n % WAY_COUNT);
        n /= WAY_COUNT;
        r.time = (enum matrix_time)(n % TIME_COUNT);
        r.op = (enum matrix_op)(n / TIME_COUNT);
        if (makes_sense(&r) && (argc == 0 || is_wanted(&r, argc, argv)))
            plan_append(&r);
    }
}

/* --- the order -------------------------------------------------------------------------------------------- */

static int by_turn(const void *a, const void *b)
{
    const struct planned *x = a, *y = b;
    if (x->turn != y->turn)
        return x->turn < y->turn ? -1 : 1;
    return (x->cell > y->cell) - (x->cell < y->cell);
}

static void shuffle(size_t from, size_t to, struct rng *rng)
{
    for (size_t i = to - from; i > 1; i--) {
        size_t k = rng_below(rng, (uint32_t)i);
        struct planned p = plan.runs[from + i - 1];
        plan.runs[from + i - 1] = plan.runs[from + k];
        plan.runs[from + k] = p;
    }
}

void plan_order(void)
{
    static uint32_t turns[CELLS];
    struct rng rng = {test_seed()};
    shuffle(0, plan.count, &rng);
    for (size_t i = 0; i < plan.count; i++)
        plan.runs[i].turn = turns[plan.runs[i].cell]++;
    qsort(plan.runs, plan.count, sizeof *plan.runs, by_turn);
    /* A test that stops within a turn has not always the same cells. */
    for (size_t from = 0, to; from < plan.count; from = to) {
        for (to = from; to < plan.count && plan.runs[to].turn == plan.runs[from].turn;)
            to++;
        shuffle(from, to, &rng);
    }
}

size_t plan_count(void)
{
    return plan.count;
}

const struct matrix_run *plan_get(size_t i)
{
    return &plan.runs[i].run;
}

void plan_ran(size_t i)
{
    plan.ran[plan.runs[i].cell]++;
}

void plan_free(void)
{
    free(plan.runs);
    memset(&plan, 0, sizeof plan);
}

/* --- what was run ------------------------------------------------------------------------------------------ */

struct share {
    unsigned cells, cells_run, runs;
};

/* Of the cells of a position, an operation and a time; COUNT: of all. */
static struct share share_of(unsigned name, enum matrix_op op, enum matrix_time time)
{
    struct share s = {0, 0, 0};
    for (uint32_t cell = 0; cell < plan.name_count * OP_COUNT * TIME_COUNT * WAY_COUNT; cell++) {
        uint32_t of = cell / WAY_COUNT;
        if (!plan.of_cell[cell] ||
            (name != MATRIX_POSITIONS && of / TIME_COUNT / OP_COUNT != name) ||
            (op != OP_COUNT && of / TIME_COUNT % OP_COUNT != (unsigned)op) ||
            (time != TIME_COUNT && of % TIME_COUNT != (unsigned)time))
            continue;
        s.cells++;
        s.cells_run += plan.ran[cell] != 0;
        s.runs += plan.ran[cell];
    }
    return s;
}

static void print_row(const char *title, unsigned name)
{
    printf("%-14s", title);
    for (int op = 0; op <= OP_COUNT; op++) {
        struct share s = share_of(name, (enum matrix_op)op, TIME_COUNT);
        if (s.cells)
            printf(" %10u", s.runs);
        else
            printf(" %10s", "-");
    }
    for (int time = 0; time < TIME_COUNT; time++) {
        struct share s = share_of(name, OP_COUNT, (enum matrix_time)time);
        if (s.cells)
            printf(" %11u", s.runs);
        else
            printf(" %11s", "-");
    }
    printf("\n");
}

void plan_say(void)
{
    printf("%-14s", "runs");
    for (int op = 0; op < OP_COUNT; op++)
        printf(" %10s", matrix_op_name[op]);
    printf(" %10s", "all");
    for (int time = 0; time < TIME_COUNT; time++)
        printf(" %11s", matrix_time_name[time]);
    printf("\n");
    for (unsigned name = 0; name < plan.name_count; name++)
        print_row(plan.names[name], name);
    print_row("all", MATRIX_POSITIONS);
    struct share all = share_of(MATRIX_POSITIONS, OP_COUNT, TIME_COUNT);
    printf("figure: media matrix, cells of position x operation x time that were run: %u of %u\n",
           all.cells_run, all.cells);
}

/* The first position, operation and time that must be there and was not run. */
static const char *missing(void)
{
    for (unsigned i = 0; i < NAMED; i++) {
        unsigned name = 0;
        while (name < plan.name_count && strcmp(plan.names[name], named[i].name) != 0)
            name++;
        for (int n = 0; n < OP_COUNT * TIME_COUNT; n++) {
            enum matrix_op op = (enum matrix_op)(n / TIME_COUNT);
            enum matrix_time time = (enum matrix_time)(n % TIME_COUNT);
            if (cell_exists(named[i].row, named[i].row, named[i].beyond, op, time) &&
                (name == plan.name_count || share_of(name, op, time).runs == 0))
                return test_printf("%s, %s, %s", named[i].name, matrix_op_name[op],
                                   matrix_time_name[time]);
        }
    }
    return NULL;
}

bool plan_check(size_t runs)
{
    if (runs < share_of(MATRIX_POSITIONS, OP_COUNT, TIME_COUNT).cells)
        return false; /* the order has seen to it that no cell was run twice */
    const char *what = missing();
    CHECK(!what, "never run: %s", what);
    return true;
}
