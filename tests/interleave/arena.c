/* arena.c: the explorer's memory: what is saved, restored and compared, and how it is called.
 */
#include "tests/interleave/machine.h"

#include <stdio.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define PIECES_MAX 96u
#define NAMES_MAX 64u

struct piece {
    uint8_t *at;
    size_t bytes;
    bool counts;
};

uint8_t arena[ARENA_BYTES] __attribute__((aligned(4096)));
static size_t arena_used;
static struct piece pieces[PIECES_MAX];
static unsigned piece_count;
static size_t kept_bytes;
static struct {
    const char *name;
    const uint8_t *at;
    size_t bytes, stride;
} names[NAMES_MAX];
static unsigned name_count;

void arena_clear(void)
{
    memset(arena, 0, sizeof arena);
    arena_used = kept_bytes = 0;
    piece_count = name_count = 0;
}

void *il_arena(size_t bytes)
{
    void *at = arena + arena_used;
    arena_used += (bytes + 63) & ~(size_t)63;
    if (arena_used > ARENA_BYTES) {
        fprintf(stderr, "the arena is too small\n");
        abort();
    }
    return at;
}

void il_keep(void *at, size_t bytes, bool counts)
{
    if (piece_count == PIECES_MAX)
        abort();
    pieces[piece_count++] = (struct piece){at, bytes, counts};
    kept_bytes += bytes;
}

void il_name(const char *name, const void *at, size_t bytes, size_t stride)
{
    if (name_count == NAMES_MAX)
        abort();
    names[name_count].name = name;
    names[name_count].at = at;
    names[name_count].bytes = bytes;
    names[name_count++].stride = stride;
}

const char *arena_name(uint32_t offset)
{
    static char text[96];
    const uint8_t *at = arena + offset;
    for (unsigned i = name_count; i-- > 0;) {
        if (at < names[i].at || at >= names[i].at + names[i].bytes)
            continue;
        size_t in = (size_t)(at - names[i].at);
        if (names[i].stride)
            snprintf(text, sizeof text, "%s[%zu]+%zu", names[i].name, in / names[i].stride,
                     in % names[i].stride);
        else
            snprintf(text, sizeof text, "%s+%zu", names[i].name, in);
        size_t n = strlen(text);
        if (n > 2 && !strcmp(text + n - 2, "+0"))
            text[n - 2] = 0;
        return text;
    }
    snprintf(text, sizeof text, "arena+%u", offset);
    return text;
}

/* --- states ----------------------------------------------------------------------------------- */

static uint8_t *snapshots;
static size_t snapshots_room;

static size_t snapshot_bytes(void)
{
    return kept_bytes + IL_THREADS * STACK_KEPT;
}

void state_forget(void)
{
    free(snapshots);
    snapshots = NULL;
    snapshots_room = 0;
}

static uint8_t *state_at(unsigned index)
{
    if (index >= snapshots_room) {
        snapshots_room = snapshots_room ? snapshots_room * 2 : 256;
        while (index >= snapshots_room)
            snapshots_room *= 2;
        snapshots = realloc(snapshots, snapshots_room * snapshot_bytes());
        if (!snapshots)
            abort();
    }
    return snapshots + index * snapshot_bytes();
}

static size_t stack_used(unsigned i)
{
    size_t used = (size_t)(machine_stack[i] + STACK_BYTES - (uint8_t *)machine->thread[i].sp);
    if (used > STACK_KEPT) {
        fprintf(stderr, "%zu bytes of stack in use\n", used);
        abort();
    }
    return used;
}

void state_save(unsigned index)
{
    uint8_t *to = state_at(index);
    for (unsigned i = 0; i < piece_count; i++) {
        memcpy(to, pieces[i].at, pieces[i].bytes);
        to += pieces[i].bytes;
    }
    for (unsigned i = 0; i < machine->threads; i++) {
        size_t used = stack_used(i);
        memcpy(to, machine_stack[i] + STACK_BYTES - used, used);
        to += used;
    }
}

void state_load(unsigned index)
{
    const uint8_t *from = state_at(index);
    for (unsigned i = 0; i < piece_count; i++) {
        memcpy(pieces[i].at, from, pieces[i].bytes);
        from += pieces[i].bytes;
    }
    for (unsigned i = 0; i < machine->threads; i++) {
        size_t used = stack_used(i);
        memcpy(machine_stack[i] + STACK_BYTES - used, from, used);
        from += used;
    }
}

uint64_t state_hash(uint64_t seed)
{
    XXH3_state_t h;
    XXH3_INITSTATE(&h);
    XXH3_64bits_reset_withSeed(&h, seed);
    for (unsigned i = 0; i < piece_count; i++)
        if (pieces[i].counts)
            XXH3_64bits_update(&h, pieces[i].at, pieces[i].bytes);
    for (unsigned i = 0; i < machine->threads; i++)
        if (machine->thread[i].state != ENDED) {
            size_t used = stack_used(i);
            XXH3_64bits_update(&h, machine_stack[i] + STACK_BYTES - used, used);
        }
    uint64_t v = XXH3_64bits_digest(&h);
    return v ? v : 1;
}
