/* memory.c: the allocator of this process: jemalloc where the process has it, else the C library's.
 *
 * Only names that jemalloc alone has are used of it (mallocx and its family, never malloc): which
 * library answers to `malloc` depends on the order of linking, and a block must go back to the
 * library that it came from.
 */
#include "vfs/memory.h"

#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* As jemalloc.h declares them; its header is not needed to build the extension. */
#define MEMORY_WEAK __attribute__((weak))
MEMORY_WEAK void *mallocx(size_t size, int flags);
MEMORY_WEAK void *rallocx(void *block, size_t size, int flags);
MEMORY_WEAK size_t sallocx(const void *block, int flags);
MEMORY_WEAK void dallocx(void *block, int flags);
MEMORY_WEAK void sdallocx(void *block, size_t size, int flags);
MEMORY_WEAK int mallctl(const char *name, void *old, size_t *old_bytes, void *new_value,
                        size_t new_bytes);

/* MALLOCX_ARENA, MALLOCX_TCACHE_NONE and MALLOCX_LG_ALIGN of jemalloc 4 and later. The thread's
 * cache is passed by: it would mix blocks of all arenas. */
static int memory_arena_flags(unsigned arena, size_t align)
{
    return (int)((arena + 1) << 20) | (1 << 8) | __builtin_ctzl(align);
}

bool memory_is_jemalloc(void)
{
    return mallocx && rallocx && sallocx && dallocx && sdallocx && mallctl;
}

static char name[80];
static pthread_once_t name_once = PTHREAD_ONCE_INIT;

static void memory_find_name(void)
{
    const char *version = NULL;
    size_t bytes = sizeof version;
    if (!memory_is_jemalloc())
        snprintf(name, sizeof name, "libc");
    else if (mallctl("version", &version, &bytes, NULL, 0) == 0)
        snprintf(name, sizeof name, "jemalloc %s", version);
    else
        snprintf(name, sizeof name, "jemalloc");
}

const char *memory_name(void)
{
    pthread_once(&name_once, memory_find_name);
    return name;
}

static uint64_t memory_number(const char *what)
{
    size_t value = 0, bytes = sizeof value;
    return mallctl(what, &value, &bytes, NULL, 0) == 0 ? value : 0;
}

/* jemalloc's figures are those of the moment of the last "epoch". */
static void memory_refresh(void)
{
    uint64_t epoch = 1;
    size_t bytes = sizeof epoch;
    (void)mallctl("epoch", &epoch, &bytes, &epoch, sizeof epoch);
}

bool memory_process_status(struct memory_process *out)
{
    *out = (struct memory_process){0};
    if (!memory_is_jemalloc())
        return false;
    memory_refresh();
    out->allocated = memory_number("stats.allocated");
    out->resident = memory_number("stats.resident");
    return true;
}

void *memory_allocate(size_t bytes)
{
    return memory_is_jemalloc() ? mallocx(bytes, 0) : malloc(bytes);
}

void memory_free(void *block)
{
    if (!memory_is_jemalloc())
        free(block);
    else if (block)
        dallocx(block, 0);
}

size_t memory_bytes(void *block)
{
    return memory_is_jemalloc() ? sallocx(block, 0) : malloc_usable_size(block);
}

void *memory_resize(void *block, size_t bytes)
{
    return memory_is_jemalloc() ? rallocx(block, bytes, 0) : realloc(block, bytes);
}

void memory_free_sized(void *block, size_t bytes)
{
    if (memory_is_jemalloc())
        sdallocx(block, bytes, 0);
    else
        free(block);
}

void *memory_jemalloc_address(void)
{
    return (void *)(uintptr_t)mallocx;
}

unsigned memory_arena_create(void)
{
    unsigned arena = 0;
    size_t bytes = sizeof arena;
    if (!memory_is_jemalloc() || mallctl("arenas.create", &arena, &bytes, NULL, 0) != 0)
        return 0;
    return arena;
}

void *memory_arena_allocate(unsigned arena, size_t bytes, size_t align)
{
    if (arena)
        return mallocx(bytes, memory_arena_flags(arena, align));
    return aligned_alloc(align, bytes);
}

void memory_arena_free(unsigned arena, void *block, size_t bytes, size_t align)
{
    if (arena)
        sdallocx(block, bytes, memory_arena_flags(arena, align));
    else
        free(block);
}

void memory_arena_purge(unsigned arena)
{
    char purge[48];
    snprintf(purge, sizeof purge, "arena.%u.purge", arena);
    if (arena)
        (void)mallctl(purge, NULL, NULL, NULL, 0);
    else
        malloc_trim(0);
}

bool memory_arena_allocated(unsigned arena, uint64_t *bytes_out)
{
    char small[64], large[64];
    if (!arena)
        return false;
    snprintf(small, sizeof small, "stats.arenas.%u.small.allocated", arena);
    snprintf(large, sizeof large, "stats.arenas.%u.large.allocated", arena);
    memory_refresh();
    *bytes_out = memory_number(small) + memory_number(large);
    return true;
}
