/* arrive.c: items that are not durable, and the choices among them (the rules: walk.c). */
#include "arrive.h"

#include <string.h>

#include "hooks.h"

#define LINE 64u
#define SECTOR 512u
#define FULL UINT64_MAX

enum meta {
    META_BASE_SIZE,
    META_SIDE_SIZE,
    META_NAMES,
    METAS,
    META_NO
};

struct item {
    size_t op;
    size_t at; /* of its bytes in the trace */
    uint64_t offset;
    uint64_t cell; /* file and number of what the rules speak of */
    uint64_t mask; /* words of 8 bytes that arrive, by their place in the sector */
    uint32_t len;
    uint8_t file, meta;
    bool certain;
    bool written; /* only an fsync makes it certain */
    bool cached;  /* no fence makes it certain before a flush */
    bool whole;   /* arrives as one */
};

/* What a choice is made for: a run of `free`. Value v: its first v items have arrived. */
struct unit {
    size_t first, count;
};

struct arrive {
    const struct trace *trace;
    struct item *items;
    size_t count, capacity;
    size_t *free; /* uncertain items with data, by unit */
    size_t free_count;
    struct unit *units;
    size_t unit_count, space;
    uint64_t uncertain[METAS], take[METAS];
    uint64_t *blocked; /* cells, a hash table */
    size_t blocked_capacity;
};

struct arrive *arrive_begin(const struct trace *t)
{
    struct arrive *a = calloc(1, sizeof *a);
    hooks_must(a, "no memory");
    a->trace = t;
    return a;
}

void arrive_end(struct arrive *a)
{
    free(a->items);
    free(a->free);
    free(a->units);
    free(a->blocked);
    free(a);
}

/* --- items ---------------------------------------------------------------------------------------- */

static struct item *arrive_add(struct arrive *a, size_t op)
{
    if (a->count == a->capacity) {
        a->capacity = a->capacity ? a->capacity * 2 : 1024;
        a->items = realloc(a->items, a->capacity * sizeof *a->items);
        hooks_must(a->items, "no memory");
    }
    const struct op *o = &a->trace->ops[op];
    struct item *i = &a->items[a->count++];
    *i = (struct item){
        .op = op, .at = o->at, .offset = o->offset, .file = (uint8_t)o->file, .meta = META_NO};
    return i;
}

/* The bytes of op in pieces of one cell each. */
static void arrive_add_data(struct arrive *a, size_t op)
{
    const struct op *o = &a->trace->ops[op];
    bool whole = o->kind == OP_POOL;
    uint64_t unit = whole ? DAX_PAGE_BYTES : hooks.rules == RULES_FENCE ? LINE : SECTOR;
    for (uint64_t at = 0, n; at < o->len; at += n) {
        n = unit - (o->offset + at) % unit;
        n = n < o->len - at ? n : o->len - at;
        struct item *i = arrive_add(a, op);
        i->offset += at;
        i->at += at;
        i->len = (uint32_t)n;
        i->cell = i->offset / unit * IMAGE_FILES + o->file;
        i->written = o->kind != OP_STORE && o->kind != OP_CACHED;
        i->cached = o->kind == OP_CACHED;
        i->whole = whole;
    }
}

static void arrive_add_meta(struct arrive *a, size_t op, enum meta meta)
{
    struct item *i = arrive_add(a, op);
    i->meta = (uint8_t)meta;
    i->len = (uint32_t)a->trace->ops[op].len;
}

static uint64_t arrive_words(const struct item *i)
{
    uint64_t first = i->offset % SECTOR / 8, last = (i->offset % SECTOR + i->len - 1) / 8;
    return FULL >> (63 - last + first) << first;
}

/* --- into the image ------------------------------------------------------------------------------- */

static void arrive_put_meta(const struct arrive *a, const struct item *i)
{
    const struct op *o = &a->trace->ops[i->op];
    if (i->meta == META_NAMES) {
        image_set_name(o->file, (enum image_name)o->offset);
        return;
    }
    image_set_size(o->file, o->offset);
    if (o->len)
        image_write(o->file, o->offset - o->len, a->trace->bytes + o->at, o->len);
}

static void arrive_put(const struct arrive *a, const struct item *i, uint64_t mask)
{
    const uint8_t *bytes = a->trace->bytes + i->at;
    uint64_t words = i->whole ? FULL : arrive_words(i);
    if (i->written && !i->whole && mask)
        image_touch(i->offset);
    if (i->whole || (mask & words) == words) {
        if (mask)
            image_write(i->file, i->offset, bytes, i->len);
        return;
    }
    for (uint64_t at = 0, n; at < i->len; at += n) {
        n = 8 - (i->offset + at) % 8;
        n = n < i->len - at ? n : i->len - at;
        if (mask >> ((i->offset + at) % SECTOR / 8) & 1)
            image_write(i->file, i->offset + at, bytes + at, n);
    }
}

void arrive_apply(const struct arrive *a)
{
    uint64_t taken[METAS] = {0};
    for (size_t n = 0; n < a->count; n++) {
        const struct item *i = &a->items[n];
        if (i->meta == META_NO)
            arrive_put(a, i, i->certain ? FULL : i->mask);
        else if (i->certain || taken[i->meta]++ < a->take[i->meta])
            arrive_put_meta(a, i);
    }
}

/* --- certainty ------------------------------------------------------------------------------------ */

static bool arrive_block(struct arrive *a, uint64_t cell, bool add)
{
    size_t mask = a->blocked_capacity - 1, i = (cell * UINT64_C(0x9E3779B97F4A7C15) >> 32) & mask;
    for (; a->blocked[i]; i = (i + 1) & mask)
        if (a->blocked[i] == cell + 1)
            return true;
    if (add)
        a->blocked[i] = cell + 1;
    return false;
}

/* What is certain goes to the image for good, unless something before it has a say in the same
 * bytes. */
static void arrive_flush(struct arrive *a)
{
    bool size_open[IMAGE_FILES] = {false};
    size_t kept = 0, capacity = 64;
    while (capacity < a->count * 2)
        capacity *= 2;
    if (capacity > a->blocked_capacity) {
        free(a->blocked);
        a->blocked = malloc(capacity * sizeof *a->blocked);
        a->blocked_capacity = capacity;
    }
    memset(a->blocked, 0, a->blocked_capacity * sizeof *a->blocked);
    for (size_t n = 0; n < a->count; n++) {
        struct item *i = &a->items[n];
        bool data = i->meta == META_NO;
        bool stays = !i->certain;
        if (data && !stays)
            stays = size_open[i->file] || arrive_block(a, i->cell, false);
        if (data && stays)
            (void)arrive_block(a, i->cell, true);
        if (!data && stays && i->meta != META_NAMES)
            size_open[i->file] = true;
        if (stays)
            a->items[kept++] = *i;
        else if (data)
            arrive_put(a, i, FULL);
        else
            arrive_put_meta(a, i);
    }
    a->count = kept;
}

static bool arrive_reaches(const struct op *o, const struct item *i)
{
    switch (o->kind) {
    case OP_FENCE: return hooks.rules == RULES_FENCE && i->meta == META_NO && !i->written && !i->cached;
    case OP_SYNC_LOG:
        return i->meta == META_NO && i->file == FILE_SIDE &&
               i->offset / DAX_PAGE_BYTES >= o->offset / DAX_PAGE_BYTES &&
               i->offset / DAX_PAGE_BYTES <= (o->offset + o->len - 1) / DAX_PAGE_BYTES;
    case OP_FSYNC: return i->file == o->file && i->meta != META_NAMES;
    case OP_FSYNC_DIR: return i->meta == META_NAMES;
    default: return false;
    }
}

static void arrive_write_back(struct arrive *a, const struct op *o)
{
    for (size_t n = 0; n < a->count; n++) {
        struct item *i = &a->items[n];
        i->cached &= i->file != o->file || i->offset < o->offset || i->offset >= o->offset + o->len;
    }
}

void arrive_op(struct arrive *a, size_t op)
{
    const struct op *o = &a->trace->ops[op];
    switch (o->kind) {
    case OP_STORE:
    case OP_CACHED:
    case OP_WRITE:
    case OP_POOL: arrive_add_data(a, op); return;
    case OP_RECORD: return;
    case OP_FLUSH: arrive_write_back(a, o); return;
    case OP_SIZE:
        arrive_add_meta(a, op, o->file == FILE_BASE ? META_BASE_SIZE : META_SIDE_SIZE);
        return;
    case OP_NAME: arrive_add_meta(a, op, META_NAMES); return;
    case OP_BEGIN:
    case OP_ACK: return;
    default: break;
    }
    for (size_t n = 0; n < a->count; n++)
        a->items[n].certain |= arrive_reaches(o, &a->items[n]);
    arrive_flush(a);
}

/* --- choices -------------------------------------------------------------------------------------- */

static const struct arrive *sort_arrive;

static int arrive_compare(const void *x, const void *y)
{
    size_t i = *(const size_t *)x, k = *(const size_t *)y;
    uint64_t a = sort_arrive->items[i].cell, b = sort_arrive->items[k].cell;
    return a != b ? (a < b ? -1 : 1) : i < k ? -1 : i > k;
}

void arrive_plan(struct arrive *a, struct arrive_plan *p, uint64_t exhaustive, uint64_t samples,
                 uint64_t random)
{
    *p = (struct arrive_plan){.exhaustive = exhaustive, .samples = samples, .random = random};
    if (a->count > a->space) {
        a->space = a->count * 2;
        a->free = realloc(a->free, a->space * sizeof *a->free);
        a->units = realloc(a->units, a->space * sizeof *a->units);
    }
    a->free_count = a->unit_count = 0;
    memset(a->uncertain, 0, sizeof a->uncertain);
    for (size_t n = 0; n < a->count; n++)
        if (!a->items[n].certain && a->items[n].meta == META_NO)
            a->free[a->free_count++] = n;
        else if (!a->items[n].certain)
            a->uncertain[a->items[n].meta]++;
    bool by_cell = hooks.rules == RULES_MSYNC;
    sort_arrive = a;
    if (by_cell && a->free_count)
        qsort(a->free, a->free_count, sizeof *a->free, arrive_compare);
    for (size_t n = 0; n < a->free_count; n++) {
        if (by_cell && n > 0 && a->items[a->free[n]].cell == a->items[a->free[n - 1]].cell)
            a->units[a->unit_count - 1].count++;
        else
            a->units[a->unit_count++] = (struct unit){n, 1};
    }
}

static void arrive_set_unit(struct arrive *a, size_t unit, uint64_t value)
{
    const struct unit *u = &a->units[unit];
    for (size_t n = 0; n < u->count; n++)
        a->items[a->free[u->first + n]].mask = n < value ? FULL : 0;
}

static void arrive_set_all(struct arrive *a, bool arrived)
{
    for (size_t n = 0; n < a->free_count; n++)
        a->items[a->free[n]].mask = arrived ? FULL : 0;
    for (int m = 0; m < METAS; m++)
        a->take[m] = arrived ? a->uncertain[m] : 0;
}

/* How many ways to choose the metas; sets the n-th. */
static uint64_t arrive_set_metas(struct arrive *a, uint64_t n)
{
    uint64_t ways = 1;
    for (int m = 0; m < METAS; m++) {
        a->take[m] = n / ways % (a->uncertain[m] + 1);
        ways *= a->uncertain[m] + 1;
    }
    return ways;
}

static uint64_t arrive_random(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    return x ^ x >> 31;
}

/* Lines in the processor's cache are many, from all transactions since P3, and the requirement is the
 * same for any set of them (L1). All combinations are those of the others, each with some set of these. */
static bool arrive_is_cached(const struct arrive *a, size_t n)
{
    return a->items[a->free[n]].cached && hooks.rules == RULES_FENCE;
}

/* All combinations of the units' values. */
static bool arrive_next_unit_sets(struct arrive *a, const struct arrive_plan *p)
{
    uint64_t rest = p->next, ways = arrive_set_metas(a, rest), total = ways;
    uint64_t random = p->random ^ (p->next + 1) * UINT64_C(0xD1342543DE82EF95);
    for (size_t u = 0; u < a->unit_count && total <= p->exhaustive; u++)
        if (!arrive_is_cached(a, a->units[u].first))
            total *= a->units[u].count + 1;
    if (total > p->exhaustive || rest >= total)
        return false;
    rest /= ways;
    for (size_t u = 0; u < a->unit_count; u++) {
        if (arrive_is_cached(a, a->units[u].first)) {
            arrive_set_unit(a, u, arrive_random(&random) & 1);
            continue;
        }
        arrive_set_unit(a, u, rest % (a->units[u].count + 1));
        rest /= a->units[u].count + 1;
    }
    return true;
}

/* All combinations of halves of lines. */
static bool arrive_next_half_sets(struct arrive *a, const struct arrive_plan *p)
{
    uint64_t rest = p->next, ways = arrive_set_metas(a, rest), total = ways;
    uint64_t random = p->random ^ ~p->next * UINT64_C(0xD1342543DE82EF95);
    if (hooks.rules != RULES_FENCE)
        return false;
    for (size_t n = 0; n < a->free_count && total <= p->exhaustive; n++)
        if (!arrive_is_cached(a, n))
            total *= 4;
    if (total > p->exhaustive || rest >= total)
        return false;
    rest /= ways;
    for (size_t n = 0; n < a->free_count; n++) {
        uint64_t low = UINT64_C(0x0F0F0F0F0F0F0F0F);
        bool cached = arrive_is_cached(a, n);
        uint64_t halves = cached ? arrive_random(&random) : rest;
        a->items[a->free[n]].mask = (halves & 1 ? low : 0) | (halves & 2 ? low << 4 : 0);
        if (!cached)
            rest /= 4;
    }
    return true;
}

static void arrive_draw(struct arrive *a, uint64_t random)
{
    static const unsigned percents[] = {3, 12, 50, 88, 97};
    uint64_t r = arrive_random(&random);
    unsigned percent = percents[r % 5], grain = (unsigned)(r >> 8) % 4;
    for (size_t u = 0; u < a->unit_count; u++) {
        const struct unit *unit = &a->units[u];
        uint64_t x = arrive_random(&random), value = 0;
        if (unit->count == 1)
            value = x % 100 < percent;
        else /* in msync mode: the moment at which the sector was written */
            value = x % 100 < percent ? (x >> 8) % unit->count + 1 : 0;
        arrive_set_unit(a, u, value);
        struct item *last = &a->items[a->free[unit->first + (value ? value - 1 : 0)]];
        if (hooks.rules == RULES_FENCE && grain >= 2)
            last->mask = grain == 2 ? arrive_random(&random) | arrive_random(&random)
                                    : (x & 0x100 ? UINT64_C(0x0F0F0F0F0F0F0F0F) : 0) |
                                          (x & 0x200 ? UINT64_C(0xF0F0F0F0F0F0F0F0) : 0);
        else if (value && hooks.rules == RULES_MSYNC && (x >> 40) % 16 == 0)
            last->mask = arrive_random(&random);
    }
    for (int m = 0; m < METAS; m++)
        a->take[m] = arrive_random(&random) % (a->uncertain[m] + 1);
}

/* Nothing and everything; each unit alone, and each left out. */
static bool arrive_next_single(struct arrive *a, const struct arrive_plan *p)
{
    uint64_t n = p->next / 2;
    bool out = p->next % 2;
    arrive_set_all(a, out);
    if (n == 0)
        return true;
    if (n > a->unit_count * 2)
        return false;
    size_t u = (n - 1) / 2;
    arrive_set_unit(a, u, out ? a->units[u].count - 1 : a->units[u].count);
    if (n % 2 == 0) /* the same with the sizes and names the other way round */
        for (int m = 0; m < METAS; m++)
            a->take[m] = a->uncertain[m] - a->take[m];
    return true;
}

bool arrive_next(struct arrive *a, struct arrive_plan *p)
{
    for (;; p->phase++, p->next = 0) {
        bool more = false;
        /* Single ones of a very long list would take a state each, and the samples see them too. */
        uint64_t singles = p->exhaustive + p->samples;
        switch (p->phase) {
        case 0: more = p->next < singles && arrive_next_single(a, p); break;
        case 1: more = arrive_next_unit_sets(a, p); break;
        case 2: more = arrive_next_half_sets(a, p); break;
        case 3:
            more = p->next < p->samples && (a->free_count || arrive_set_metas(a, 0) > 1);
            if (more)
                arrive_draw(a, p->random + p->next * UINT64_C(0xD1342543DE82EF95));
            break;
        default: return false;
        }
        if (more) {
            p->next++;
            return true;
        }
    }
}

/* --- looking --------------------------------------------------------------------------------------- */

bool arrive_wants_all(const struct arrive *a)
{
    for (size_t n = 0; n < a->count; n++) {
        const struct item *i = &a->items[n];
        if (!i->certain && (i->meta != META_NO || (i->file == FILE_BASE && i->offset < 100)))
            return true;
    }
    return false;
}

size_t arrive_describe(const struct arrive *a, char *buf, size_t bytes)
{
    size_t n = 0, listed = 0;
    static const char *const metas[] = {"size of the database", "size of the sidecar", "names"};
    for (int m = 0; m < METAS; m++)
        if (a->uncertain[m] && n < bytes)
            n += (size_t)snprintf(buf + n, bytes - n, "  %s: %llu of %llu changes have arrived\n",
                                  metas[m], (unsigned long long)a->take[m],
                                  (unsigned long long)a->uncertain[m]);
    for (size_t k = 0; k < a->free_count && n < bytes; k++) {
        const struct item *i = &a->items[a->free[k]];
        uint64_t words = i->whole ? FULL : arrive_words(i), mask = i->mask & words;
        if (++listed > 24) {
            n += (size_t)snprintf(buf + n, bytes - n, "  ... %zu pieces in all\n", a->free_count);
            break;
        }
        n +=
            (size_t)snprintf(buf + n, bytes - n, "  %s %#llx + %u, stored by operation %zu: %s",
                             trace_file_name(i->file), (unsigned long long)i->offset, i->len, i->op,
                             mask == words ? "arrived\n"
                             : mask == 0   ? "not arrived\n"
                                           : "in part: ");
        if (mask && mask != words && n < bytes)
            n += (size_t)snprintf(buf + n, bytes - n, "words %#llx\n", (unsigned long long)mask);
    }
    return n < bytes ? n : bytes - 1;
}
