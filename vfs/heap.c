/* heap.c: SQLite's heap on jemalloc, for programs that embed daxlite.
 *
 * SQLite asks for the size of a block at each allocation and each free, to count it. jemalloc's
 * answer is a walk through its tree of extents, so a block carries its size in the 8 bytes before
 * it, which also makes freeing it cheap. xRoundup tells SQLite what a block of jemalloc's size
 * classes really holds, so that nothing of it is lost.
 *
 * Of jemalloc's functions, malloc() and sdallocx() have a short way for small blocks, and mallocx()
 * has not. Which library the name `malloc` means here is a matter of linking, so jemalloc's own is
 * looked up.
 *
 * SQLite asks for no block of 0 bytes, frees no NULL, and wants blocks aligned to 8 bytes.
 */
#include "vfs/heap.h"

#include <dlfcn.h>
#include <stdint.h>

#include "vfs/memory.h"

#ifdef DAXLITE_JEMALLOC
/* What memory.c refers to is weak, and no reason for a linker to bring it. This is. */
void *mallocx(size_t size, int flags);
__attribute__((used)) static void *(*const heap_needs_jemalloc)(size_t, int) = mallocx;
#endif

#define HEAP_HEADER sizeof(uint64_t) /* usable bytes behind it */

static void *(*heap_malloc)(size_t bytes) = memory_allocate;

/* The smallest of jemalloc's size classes that holds so much: steps of 16, from 128 on four to a
 * doubling. */
static inline size_t heap_class(size_t bytes)
{
    if (bytes <= 128)
        return (bytes + 15) & ~(size_t)15;
    size_t step = (size_t)1 << (61 - __builtin_clzl(bytes - 1));
    return (bytes + step - 1) & ~(step - 1);
}

static inline void *heap_mark(uint64_t *block, size_t bytes)
{
    if (!block)
        return NULL;
    *block = bytes - HEAP_HEADER;
    return block + 1;
}

static void *heap_allocate(int bytes)
{
    size_t whole = heap_class((size_t)bytes + HEAP_HEADER);
    return heap_mark(heap_malloc(whole), whole);
}

static void heap_free(void *block)
{
    uint64_t *start = (uint64_t *)block - 1;
    memory_free_sized(start, *start + HEAP_HEADER);
}

static void *heap_resize(void *block, int bytes)
{
    size_t whole = heap_class((size_t)bytes + HEAP_HEADER);
    return heap_mark(memory_resize((uint64_t *)block - 1, whole), whole);
}

static int heap_size(void *block)
{
    return block ? (int)((uint64_t *)block)[-1] : 0;
}

static int heap_roundup(int bytes)
{
    return (int)(heap_class((size_t)bytes + HEAP_HEADER) - HEAP_HEADER);
}

/* jemalloc's malloc(), in the library that its mallocx() is in. */
static void heap_find_malloc(void)
{
    void *address = memory_jemalloc_address();
    Dl_info where;
    if (dladdr(address, &where) == 0 || !where.dli_fname)
        return;
    void *library = dlopen(where.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    if (!library)
        return;
    void *found = dlsym(library, "malloc"), *own = dlsym(library, "mallocx");
    if (found && own == address)
        heap_malloc = (void *(*)(size_t))(uintptr_t)found;
    dlclose(library);
}

/* SQLite sees to it that one thread at a time is here. */
static int heap_init(void *arg)
{
    (void)arg;
    if (!memory_is_jemalloc())
        return SQLITE_ERROR;
    heap_find_malloc();
    return SQLITE_OK;
}

static void heap_shutdown(void *arg)
{
    (void)arg;
}

const sqlite3_mem_methods heap_methods = {
    .xMalloc = heap_allocate,
    .xFree = heap_free,
    .xRealloc = heap_resize,
    .xSize = heap_size,
    .xRoundup = heap_roundup,
    .xInit = heap_init,
    .xShutdown = heap_shutdown,
};
