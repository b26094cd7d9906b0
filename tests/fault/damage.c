/* damage.c: a damaged log or root is an error or a correct recovery, never wrong data.
 *
 * Catches: a record, cursor or mark that is used although a bit of it has changed; a damaged last
 * record taken for one that was being stored when the power went; a newest cursor slot that is
 * damaged, so that an older one replays history over newer pages; a refusal that changes something,
 * or that says something else than that the log is damaged; a crash over a length or an offset.
 *
 * Pairs of files as a kill leaves them (damage_pair.c), in both modes of persistence. Each bit of
 * every live record, of the cursor slots and their copies, the root, the seals, and the bytes of the
 * mark is flipped in turn; then stretches of bytes, lines, blocks and pages are overwritten at
 * random. Every open goes through the whole engine (damage_try.c), in a child, so that a crash is
 * known together with the damage that led to it.
 *
 * In msync mode the last record has no seal until a later sync (L6), and nothing of it is in base:
 * damage of it may lose that transaction and shows the state before it. It is counted. The same
 * goes for one stretch of damage over several records up to the last one.
 *
 * usage: damage [quick | long]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fault/damage.h"

#define AREAS (PAIR_RECORDS + 16)

/* What damage of an area may lead to. */
enum expectation {
    MAY_REFUSE,  /* the newest state or an error */
    MUST_SURVIVE /* there is another copy, or it is of no importance: the newest state */
};

struct target {
    struct area area;
    enum expectation expect;
};

static struct progress {
    uint64_t next; /* the try that is running */
    uint64_t tries, survived, refused, lost_last, lost_several;
} * progress; /* shared with the children */

static struct {
    uint64_t flips, random, survived, refused, lost_last, lost_several;
} sum;

static enum {
    EFFORT_QUICK,
    EFFORT_CI,
    EFFORT_LONG
} effort = EFFORT_CI;

/* --- targets ---------------------------------------------------------------------------------- */

static int targets_of(struct pair *p, struct target *t)
{
    int n = 0;
    for (int i = 0; i < p->records; i++)
        t[n++] = (struct target){p->record[i], MAY_REFUSE};
#define TARGET(address, size, what, expectation)                                                   \
    t[n++] = (struct target){{(uint8_t *)(address), size, what, -1}, expectation}
    TARGET(p->root, offsetof(struct sidecar_root, cursor), "root", MAY_REFUSE);
    TARGET(p->root->cursor, sizeof p->root->cursor, "cursor slots", MUST_SURVIVE);
    TARGET(p->twin->cursor, sizeof p->twin->cursor, "copies of the cursor slots", MUST_SURVIVE);
    /* The lines in use and one that is not. */
    int seals = 0;
    while (seals < (int)DAX_SEALS && p->twin->seal[seals].lsn != 0)
        seals++;
    TARGET(p->twin->seal, (seals < (int)DAX_SEALS ? seals + 1u : DAX_SEALS) * sizeof(struct seal),
           "seals", MUST_SURVIVE);
    TARGET(p->base + DAX_HEADER_WRITE_VERSION, 1, "header byte 18", MUST_SURVIVE);
    TARGET(p->base + DAX_HEADER_READ_VERSION, 1, "header byte 19", MAY_REFUSE);
    TARGET(p->base + DAX_HEADER_RESERVED, DAX_HEADER_RESERVED_BYTES, "mark", MAY_REFUSE);
    const struct area *last = &p->record[p->records - 1];
    TARGET(last->at + last->bytes, 3 * DAX_LINE_BYTES, "behind the log", MUST_SURVIVE);
    if (p->list.bytes)
        t[n++] = (struct target){p->list, MAY_REFUSE};
    return n;
}

/* --- verdicts --------------------------------------------------------------------------------- */

/* Is the older state one that this damage may lead to? bit i of `damaged`: record i. */
static bool older_allowed(const struct pair *p, int state, uint32_t damaged)
{
    int first = 0;
    if (!p->msync || !damaged)
        return false;
    while (!(damaged >> first & 1))
        first++;
    /* Damaged from there to the end, none of it sealed, and the state is the one before. */
    for (int i = first; i < p->records; i++)
        if (!(damaged >> i & 1))
            return false;
    int before = p->state_of_record[first] - 1;
    return state == before;
}

static void judge(struct pair *p, uint32_t damaged, enum expectation expect)
{
    struct dax_err err;
    int state;
    enum verdict v = pair_try(p, &state, &err);
    progress->tries++;
    if (v == VERDICT_NEWEST) {
        progress->survived++;
    } else if (v == VERDICT_REFUSED && expect == MAY_REFUSE) {
        progress->refused++;
    } else if (v == VERDICT_OLDER && older_allowed(p, state, damaged)) {
        if (p->states - 1 - state > 1)
            progress->lost_several++;
        else
            progress->lost_last++;
    } else {
        CHECK(false, "%s (state %d of %d): %s", verdict_name(v), state, p->states - 1, err.text);
    }
}

/* --- batches ---------------------------------------------------------------------------------- */

struct batch {
    struct pair *pair;
    struct target target[AREAS];
    int targets;
    uint64_t count; /* tries are 0 .. count - 1 */
    uint64_t bit_stride[AREAS];
    void (*one)(struct batch *b, uint64_t i);
};

static int child_batch(void *arg)
{
    struct batch *b = arg;
    pair_keep(b->pair);
    for (; progress->next < b->count; progress->next++)
        b->one(b, progress->next);
    return 0;
}

static void run_batch(struct batch *b)
{
    *progress = (struct progress){0};
    int rc = child_wait(child_start(child_batch, b));
    CHECK(rc == 0, "pair \"%s\"%s, try %llu: the child ended with %d", b->pair->name,
          b->pair->msync ? ", msync" : "", (unsigned long long)progress->next, rc);
    sum.survived += progress->survived;
    sum.refused += progress->refused;
    sum.lost_last += progress->lost_last;
    sum.lost_several += progress->lost_several;
}

/* --- single bits ------------------------------------------------------------------------------ */

static void flip_one(struct batch *b, uint64_t i)
{
    int k = 0;
    while (i >= 8 * b->target[k].area.bytes / b->bit_stride[k]) {
        i -= 8 * b->target[k].area.bytes / b->bit_stride[k];
        k++;
    }
    const struct target *t = &b->target[k];
    i = i * b->bit_stride[k] + test_seed() % b->bit_stride[k];
    test_context("pair \"%s\"%s: bit %llu of byte %llu of \"%s\" %d", b->pair->name,
                 b->pair->msync ? ", msync" : "", (unsigned long long)i % 8,
                 (unsigned long long)i / 8, t->area.name, t->area.record);
    t->area.at[i / 8] ^= (uint8_t)(1u << i % 8);
    /* A list belongs to its record. */
    uint32_t damaged =
        t->area.at == b->pair->list.at ? 1u << t->area.record : pair_damaged(b->pair);
    judge(b->pair, damaged, t->expect);
}

static void flip_bits(struct pair *p, uint64_t most)
{
    struct batch b = {.pair = p, .one = flip_one};
    uint64_t all = 0;
    b.targets = targets_of(p, b.target);
    for (int i = 0; i < b.targets; i++) {
        uint64_t bits = 8 * b.target[i].area.bytes;
        all += bits;
        /* An odd stride: all bits of a byte have their turn. */
        b.bit_stride[i] = most && bits > most ? (bits / most) | 1 : 1;
        b.count += bits / b.bit_stride[i];
    }
    run_batch(&b);
    sum.flips += progress->tries;
    test_say("%s%s: %llu of %llu bits: %llu survived, %llu refused, %llu lost the last", p->name,
             p->msync ? ", msync" : "", (unsigned long long)progress->tries,
             (unsigned long long)all, (unsigned long long)progress->survived,
             (unsigned long long)progress->refused, (unsigned long long)progress->lost_last);
}

/* --- random damage ---------------------------------------------------------------------------- */

static void overwrite(struct rng *r, uint8_t *at, size_t bytes)
{
    unsigned how = rng_below(r, 3);
    for (size_t i = 0; i < bytes; i++)
        at[i] = how == 0 ? (uint8_t)rng_next(r) : how == 1 ? 0 : 0xff;
}

/* The whole log is one target here: damage may cross records. */
static struct target random_target(struct pair *p, struct rng *r)
{
    const struct area *last = &p->record[p->records - 1];
    uint8_t *log = p->record[0].at;
    switch (rng_below(r, 8)) {
    case 0: return (struct target){{(uint8_t *)p->root, sizeof *p->root, "root", -1}, MAY_REFUSE};
    case 1: return (struct target){{(uint8_t *)p->root->cursor, 128, "cursor", -1}, MUST_SURVIVE};
    case 2: return (struct target){{(uint8_t *)p->twin, sizeof *p->twin, "twin", -1}, MUST_SURVIVE};
    default:
        return (struct target){{log, (size_t)(last->at + last->bytes - log), "log", 0}, MAY_REFUSE};
    }
}

static void damage_one(struct batch *b, uint64_t i)
{
    static const size_t unit[] = {1, 64, 256, 4096};
    struct pair *p = b->pair;
    struct rng r = {test_seed() * 1000003 + i};
    struct target t = random_target(p, &r);
    unsigned kind = rng_below(&r, 4);
    size_t at = rng_below(&r, (uint32_t)t.area.bytes), n = 1 + rng_below(&r, 64);
    uint8_t *from = t.area.at + at, *end = t.area.at + t.area.bytes;
    if (kind > 0) {
        n = unit[kind];
        from -= (size_t)(from - p->pool) % n;
    }
    uint8_t *to = from + n > end ? end : from + n;
    if (from < t.area.at)
        from = t.area.at;
    test_context("pair \"%s\"%s: random damage %llu, %zu bytes at %zu of \"%s\"", p->name,
                 p->msync ? ", msync" : "", (unsigned long long)i, (size_t)(to - from),
                 (size_t)(from - t.area.at), t.area.name);
    overwrite(&r, from, (size_t)(to - from));
    judge(p, pair_damaged(p), t.expect);
}

static void damage_at_random(struct pair *p, uint64_t count)
{
    struct batch b = {.pair = p, .one = damage_one, .count = count};
    run_batch(&b);
    sum.random += progress->tries;
    test_say("%s%s: %llu random damages: %llu survived, %llu refused, %llu lost the last, "
             "%llu several",
             p->name, p->msync ? ", msync" : "", (unsigned long long)progress->tries,
             (unsigned long long)progress->survived, (unsigned long long)progress->refused,
             (unsigned long long)progress->lost_last, (unsigned long long)progress->lost_several);
}

/* --- main ------------------------------------------------------------------------------------- */

void test_register(void)
{
    /* Only the engine is tested here. */
}

int main(int argc, char **argv)
{
    if (argc > 1)
        effort = argv[1][0] == 'l' ? EFFORT_LONG : EFFORT_QUICK;
    test_start("damage");
    progress =
        mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(progress != MAP_FAILED, "mmap");
    for (unsigned i = 0; i < pair_count(); i++)
        for (int msync = 0; msync < 2; msync++) {
            struct pair *p = pair_make(i, msync);
            bool slow = p->file_bytes > DAX_SCRATCH_GAP_BYTES; /* to put back */
            static const struct {
                uint64_t bits[2], random[2]; /* of each area; fast, slow pairs */
            } much[] = {[EFFORT_QUICK] = {{40, 10}, {40, 10}},
                        [EFFORT_CI] = {{400, 150}, {300, 150}},
                        [EFFORT_LONG] = {{0, 50000}, {20000, 5000}}};
            flip_bits(p, much[effort].bits[slow]);
            damage_at_random(p, much[effort].random[slow]);
            if (i == 0 && !msync)
                damage_root_page(p, effort == EFFORT_LONG ? 1 : effort == EFFORT_CI ? 23 : 311);
        }
    printf("figure: bits flipped in log, root and mark: %llu\n", (unsigned long long)sum.flips);
    printf("figure: random damages of log and root: %llu\n", (unsigned long long)sum.random);
    printf("figure: damages survived with the newest state: %llu\n",
           (unsigned long long)sum.survived);
    printf("figure: damages refused with an error: %llu\n", (unsigned long long)sum.refused);
    printf("figure: damages that lost the last transaction (msync mode): %llu\n",
           (unsigned long long)sum.lost_last);
    printf("figure: damages of several records that lost as many transactions (msync mode): %llu\n",
           (unsigned long long)sum.lost_several);
    return test_finish();
}
