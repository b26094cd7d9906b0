/* main.c: the explorer's command line.
 *
 * Usage:
 *   interleave [-b BOUND] [-n STATES] [PROGRAM ...]   explore (all); status 1: a violation was found
 *   interleave -x PROGRAM ...                         look for the shortest violation; status 1: none
 *   interleave -r SCHEDULE PROGRAM                    run one schedule and print its steps
 *   -w first: stores may overtake each other where C lets them, not only where x86 does
 *   interleave -l                                     list the programs
 */
#include "tests/interleave/explore.h"

#include <inttypes.h>
#include <stdio.h>

static bool weak;

static const struct il_program *find(const char *name)
{
    for (size_t i = 0; programs[i].name; i++)
        if (!strcmp(programs[i].name, name))
            return &programs[i];
    for (size_t i = 0; programs_bad[i].name; i++)
        if (!strcmp(programs_bad[i].name, name))
            return &programs_bad[i];
    for (size_t i = 0; litmus_programs[i].name; i++)
        if (!strcmp(litmus_programs[i].name, name))
            return &litmus_programs[i];
    fprintf(stderr, "no program \"%s\"\n", name);
    exit(2);
}

/* With few preemptions first: the schedule is then short. */
static struct il_result hunt(const struct il_program *p, uint64_t max_states)
{
    struct il_result r = {0};
    for (unsigned bound = 1; bound <= 4 && !r.violated; bound++) {
        il_forget();
        r = il_explore(p, bound < 4 ? bound : p->preemptions, max_states);
    }
    return r;
}

static void report_violation(const struct il_program *p, const struct il_result *r,
                             const char *self)
{
    printf("%s: VIOLATION: %s\n", p->name, r->text);
    printf("its steps:\n");
    struct il_result again = il_replay(p, r->schedule);
    printf("%s\n", again.violated ? again.text : "(not repeated: the schedule does not fit)");
    printf("again: %s %s-r '%s' %s\n", self, weak ? "-w " : "", r->schedule, p->name);
}

static int explore(const struct il_program *p, int bound, uint64_t max_states, const char *self)
{
    il_forget();
    struct il_result r = il_explore(p, bound >= 0 ? (unsigned)bound : p->preemptions, max_states);
    if (r.violated) {
        struct il_result h = hunt(p, max_states);
        report_violation(p, h.violated ? &h : &r, self);
        return 1;
    }
    unsigned in_force = bound >= 0 ? (unsigned)bound : p->preemptions;
    printf("%-20s %s\n", p->name, p->what);
    printf("%-20s %" PRIu64 " states, %" PRIu64 " steps, %" PRIu64 " ends, depth %u%s\n", "",
           r.states, r.steps, r.ends, r.depth, r.complete ? "" : ", NOT COMPLETE");
    char limit[40] = "";
    if (in_force)
        snprintf(limit, sizeof limit, " of at most %u preemptions", in_force);
    /* Variants go through the same programs: they are no figure of their own. */
    printf("%sinterleavings %s%s: %.3g%s (%" PRIu64 " states)\n",
           strstr(self, "interleave_with_") ? "" : "figure: ", p->name, weak ? ", weak stores" : "",
           r.interleavings, limit, r.states);
    fflush(stdout);
    return !r.complete;
}

int main(int argc, char **argv)
{
    int bound = -1, status = 0, first = 1;
    uint64_t max_states = 20000000;
    const char *schedule = NULL;
    bool must_violate = false;
    for (; first < argc && argv[first][0] == '-'; first++) {
        switch (argv[first][1]) {
        case 'b': bound = atoi(argv[++first]); break;
        case 'n': max_states = strtoull(argv[++first], NULL, 10); break;
        case 'r': schedule = argv[++first]; break;
        case 'w':
            il_weak();
            weak = true;
            break;
        case 'x': must_violate = true; break;
        default:
            for (size_t i = 0; programs[i].name; i++)
                printf("%-20s %s\n", programs[i].name, programs[i].what);
            for (size_t i = 0; programs_bad[i].name; i++)
                printf("%-20s %s\n", programs_bad[i].name, programs_bad[i].what);
            return 0;
        }
    }
    for (int i = first; i < argc || (i == first && !schedule && !must_violate); i++) {
        if (i == argc) {
            for (size_t k = 0; programs[k].name; k++)
                status |= explore(&programs[k], bound, max_states, argv[0]);
            for (size_t k = 0; programs_bad[k].name; k++)
                status |= explore(&programs_bad[k], bound, max_states, argv[0]);
            break;
        }
        const struct il_program *p = find(argv[i]);
        if (schedule) {
            struct il_result r = il_replay(p, schedule);
            printf("%s\n", r.violated ? r.text : "no violation");
            status |= r.violated;
        } else if (must_violate) {
            struct il_result r = hunt(p, max_states);
            if (r.violated) {
                report_violation(p, &r, argv[0]);
                const char *weakening = strstr(argv[0], "interleave_weak_");
                const char *variant = strstr(argv[0], "interleave_with_");
                const char *what = weakening ? weakening : variant;
                printf("figure: weakening found, %s: %s\n",
                       what ? what + strlen("interleave_weak_") : p->name, r.text);
                return 0;
            }
            status = 1;
        } else {
            status |= explore(p, bound, max_states, argv[0]);
        }
    }
    return status;
}
