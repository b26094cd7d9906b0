/* heap.c: SQLite's heap on jemalloc, for programs that embed daxlite.
 *
 * SQLite asks for no block of 0 bytes and frees no NULL. It counts what xSize and xRoundup say, so these are
 * the allocator's own answers: no block carries its size a second time.
 */
#include "vfs/heap.h"

#include "vfs/memory.h"

#ifdef DAXLITE_JEMALLOC
/* What memory.c refers to is weak, and no reason for a linker to bring it. This is. */
void *mallocx(size_t size, int flags);
__attribute__((used)) static void *(*const heap_needs_jemalloc)(size_t, int) = mallocx;
#endif

static void *heap_allocate(int bytes)
{
    return memory_allocate((size_t)bytes);
}

static void heap_free(void *block)
{
    memory_free(block);
}

static void *heap_resize(void *block, int bytes)
{
    return memory_resize(block, (size_t)bytes);
}

static int heap_size(void *block)
{
    return block ? (int)memory_bytes(block) : 0;
}

static int heap_roundup(int bytes)
{
    return (int)memory_round((size_t)bytes);
}

static int heap_init(void *arg)
{
    (void)arg;
    return memory_is_jemalloc() ? SQLITE_OK : SQLITE_ERROR;
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
