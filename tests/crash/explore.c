/* explore.c: the program: runs workloads, explores the states in which a crash could leave them, and
 * says what it found.
 *
 *   crash_explore [--workload NAME|all] [--rules fence|msync|both] [--seed N] [--seeds N]
 *                 [--exhaustive N] [--samples N] [--slow N] [--deep N] [--damage N] [--states N] [--only OP.STATE[/OP.STATE]]
 *                 [--drop POINT] [--expect-violation] [--row] [--progress]
 *   crash_explore --list | --points
 *   (--trace: also print what each workload does to persistence)
 *
 * It would catch: an acknowledged transaction that a power failure takes back, a transaction that
 * is there in part, a file that recovery or stock SQLite refuses afterwards, a recovery that a second
 * crash disturbs. With --drop it is itself tested: a point that orders something and is left out
 * must be found (--expect-violation: anything else is a failure).
 */
#include <getopt.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "vfs/vfs.h"
#include "walk.h"
#include "workload.h"

struct settings {
    const char *workload;
    bool rules[2];
    uint64_t seeds;
    bool expect, row, list, points, trace;
    struct walk_options options;
};

static struct walk_counts totals[2];

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void totals_add(struct walk_counts *to, const struct walk_counts *c)
{
    to->generated += c->generated;
    to->images += c->images;
    to->checks += c->checks;
    to->deep += c->deep;
    to->deep_runs += c->deep_runs;
    to->damaged += c->damaged;
    to->slow += c->slow;
    to->points += c->points;
}

/* What libpmemobj's part of the sidecar is when all of it is there. */
static void note_own(const struct trace *t, const struct image_copy *before)
{
    struct image_mark mark = image_mark();
    check_setup.own_size = before->size[FILE_SIDE];
    for (size_t i = 0; i < t->count; i++) {
        const struct op *op = &t->ops[i];
        if (op->kind == OP_SIZE && op->file == FILE_SIDE) {
            image_set_size(FILE_SIDE, op->offset);
            check_setup.own_size = op->offset;
        } else if (op->kind == OP_POOL) {
            image_write(FILE_SIDE, op->offset, t->bytes + op->at, op->len);
        }
    }
    check_setup.own_hash = image.own_hash;
    image_undo(&mark);
}

/* Over the files as the workload left them, and the pool that it made. */
static bool explore(const struct trace *t, const struct image_copy *before)
{
    image_attach();
    image.root_from = hooks.root_from;
    image.root_to = hooks.root_to;
    image.ring_from = hooks.ring_from;
    image.ring_to = hooks.twin_to;
    if (image.name[FILE_SIDE] == NAME_OWN)
        hooks_open_pool();
    image_restore(before);
    note_own(t, before);
    bool good = walk_trace(t, NULL);
    hooks_close_pool();
    image_detach();
    return good;
}

/* States between transactions that are no good, before any crash. */
static bool check_goldens_of(const struct trace *t)
{
    if (check_goldens(t, walk.violation_what, sizeof walk.violation_what))
        return true;
    snprintf(walk.violation, sizeof walk.violation, "workload %s, seed %llu: %s", walk.workload,
             (unsigned long long)walk.options.seed, walk.violation_what);
    snprintf(walk.violation_where, sizeof walk.violation_where, "none: no crash is needed");
    return false;
}

static void print_trace(const struct trace *t)
{
    char name[64];
    for (size_t i = 0; i < t->count; i++)
        if (t->ops[i].kind != OP_POOL)
            printf("%6zu %-24s %s %#llx + %llu\n", t->ops[i].number,
                   trace_op_name(&t->ops[i], name, sizeof name), trace_file_name(t->ops[i].file),
                   (unsigned long long)t->ops[i].offset, (unsigned long long)t->ops[i].len);
}

static bool run_workload(const struct workload *w, const struct settings *s)
{
    struct trace t = {0};
    struct image_copy before;
    double start = now_s();
    walk_reset();
    walk.workload = w->name;
    walk.options = s->options;
    if (w->no_sql)
        walk.options.slow_every = 0;
    walk.options.part = w->part;
    workload_record(w, s->options.seed, &t, &before);
    if (s->trace)
        print_trace(&t);
    bool good = !*walk.violation;
    if (good && !w->no_sql && hooks.drop == DROP_NONE)
        good = check_goldens_of(&t);
    good = good && explore(&t, &before);
    const struct walk_counts *c = &walk.counts;
    if (!s->row)
        printf("%-14s %-5s %5zu operations, %2zu transactions: %7llu states (%llu made), %6llu "
               "after a "
               "second crash (%llu recoveries), %4llu copies, %.1f s\n",
               w->name, hooks.rules == RULES_FENCE ? "fence" : "msync", t.count, t.golden_count - 1,
               (unsigned long long)c->images, (unsigned long long)c->generated,
               (unsigned long long)c->deep, (unsigned long long)c->deep_runs,
               (unsigned long long)c->slow, now_s() - start);
    if (!good && !s->row)
        printf("%s\n", walk.violation);
    if (!good && s->row)
        printf("%s | %s | %s | %s\n", w->name, hooks.rules == RULES_FENCE ? "cache-line" : "msync",
               walk.violation_where, walk.violation_what);
    fflush(stdout);
    totals_add(&totals[hooks.rules], c);
    trace_free(&t);
    image_free_copy(&before);
    return good;
}

static void usage(void)
{
    fprintf(stderr, "usage: see the beginning of tests/crash/explore.c\n");
    exit(2);
}

static void parse_only(const char *text, struct walk_options *o)
{
    unsigned long op, state, op2, state2;
    int n = sscanf(text, "%lu.%lu/%lu.%lu", &op, &state, &op2, &state2);
    if (n != 2 && n != 4)
        usage();
    o->only_op[0] = op;
    o->only_state[0] = state;
    if (n == 4) {
        o->only_op[1] = op2;
        o->only_state[1] = state2;
    }
}

static void parse_drop(const char *text)
{
    for (hooks.drop = 0; hooks.drop < DROPS; hooks.drop++)
        if (strcmp(text, hooks_drop_name(hooks.drop)) == 0)
            return;
    usage();
}

static void parse(int argc, char **argv, struct settings *s)
{
    static const struct option names[] = {
        {"workload", 1, NULL, 'w'}, {"rules", 1, NULL, 'r'},
        {"seed", 1, NULL, 's'},     {"exhaustive", 1, NULL, 'e'},
        {"samples", 1, NULL, 'n'},  {"slow", 1, NULL, 'l'},
        {"deep", 1, NULL, 'd'},     {"damage", 1, NULL, 'b'},
        {"states", 1, NULL, 'm'},   {"only", 1, NULL, 'o'},
        {"drop", 1, NULL, 'x'},     {"expect-violation", 0, NULL, 'v'},
        {"row", 0, NULL, 't'},      {"seeds", 1, NULL, 'c'},
        {"progress", 0, NULL, 'p'}, {"list", 0, NULL, 'q'},
        {"points", 0, NULL, 'z'},   {"trace", 0, NULL, 'y'},
        {NULL, 0, NULL, 0}};
    struct walk_options *o = &s->options;
    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        uint64_t n = optarg ? strtoull(optarg, NULL, 10) : 0;
        switch (c) {
        case 'w': s->workload = optarg; break;
        case 'r':
            s->rules[RULES_FENCE] = strcmp(optarg, "msync") != 0;
            s->rules[RULES_MSYNC] = strcmp(optarg, "fence") != 0;
            break;
        case 's': o->seed = n; break;
        case 'c': s->seeds = n; break;
        case 'e': o->exhaustive = n; break;
        case 'n': o->samples = n; break;
        case 'l': o->slow_every = n; break;
        case 'b': o->damage_every = n; break;
        case 'd': o->deep_every = n; break;
        case 'm': o->states_max = n; break;
        case 'o': parse_only(optarg, o); break;
        case 'x': parse_drop(optarg); break;
        case 'v': s->expect = true; break;
        case 't': s->row = true; break;
        case 'p': o->progress = true; break;
        case 'q': s->list = true; break;
        case 'y': s->trace = true; break;
        case 'z': s->points = true; break;
        default: usage();
        }
    }
    if (optind != argc)
        usage();
}

static void quiet(dax_rc rc, const char *text)
{
    (void)rc;
    (void)text;
}

static void print_figures(void)
{
    static const char *const names[] = {"cache-line rules", "msync rules"};
    uint64_t deep = 0;
    for (int r = 0; r < 2; r++) {
        if (totals[r].images)
            printf("figure: crash states explored, %s: %llu\n", names[r],
                   (unsigned long long)totals[r].images);
        deep += totals[r].deep;
    }
    printf("figure: crash states explored, after a second crash: %llu\n", (unsigned long long)deep);
    printf("figure: crash states explored, with a bit of log or cursor turned over: %llu\n",
           (unsigned long long)(totals[0].damaged + totals[1].damaged));
    printf("figure: operations at which crashes were made: %llu\n",
           (unsigned long long)(totals[0].points + totals[1].points));
}

/* Stops at the first violation. */
static bool run_all(struct settings *s, bool *any_out)
{
    uint64_t first = s->options.seed;
    for (uint64_t seed = first; seed < first + s->seeds; seed++)
        for (int rules = 0; rules < 2; rules++)
            for (size_t i = 0; i < workload_count; i++) {
                if (!s->rules[rules] || (strcmp(s->workload, "all") != 0 &&
                                         strcmp(s->workload, workloads[i].name) != 0))
                    continue;
                *any_out = true;
                hooks.rules = (enum rules)rules;
                s->options.seed = seed;
                if (!run_workload(&workloads[i], s))
                    return false;
            }
    return true;
}

int main(int argc, char **argv)
{
    const char *env = getenv("DAX_TEST_SEED");
    struct settings s = {.workload = "all",
                         .seeds = 1,
                         .rules = {true, true},
                         .options = {.exhaustive = 1024,
                                     .samples = 64,
                                     .slow_every = 2000,
                                     .damage_every = 8,
                                     .deep_every = 200,
                                     .seed = env && *env ? strtoull(env, NULL, 10) : 1,
                                     .only_op = {SIZE_MAX, SIZE_MAX}}};
    parse(argc, argv, &s);
    for (size_t i = 0; s.list && i < workload_count; i++)
        printf("%-14s %s\n", workloads[i].name, workloads[i].what);
    for (int drop = 0; s.points && drop < DROPS; drop++)
        printf("%s\n", hooks_drop_name(drop));
    if (s.list || s.points)
        return 0;
    image_make_directory();
    hooks_must(register_all(false) == 0, "registering the VFS");
    dax_log_set(quiet);
    if (!s.row)
        printf("seed %llu\n", (unsigned long long)s.options.seed);
    bool any = false, good = run_all(&s, &any);
    if (!any)
        usage();
    if (!s.row && !s.expect)
        print_figures();
    if (s.expect && good)
        printf("no violation found without %s (%llu times left out)\n",
               hooks.drop >= 0 ? hooks_drop_name(hooks.drop) : "anything",
               (unsigned long long)hooks.drops);
    return good == s.expect;
}
