/* memory.h: the allocator of this process: jemalloc where the process has it, else the C library's.
 *
 * jemalloc cannot be loaded later (it wants static thread-local storage), so it is there when the
 * program starts, linked or preloaded, or never: its names are weak references here. The libraries
 * link it and refer to it strongly (page_cache.c); the extension takes it where it finds it.
 */
#ifndef DAX_VFS_MEMORY_H
#define DAX_VFS_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The whole process's, as jemalloc counts. */
struct memory_process {
    uint64_t allocated; /* bytes that the program has in use */
    uint64_t resident;  /* bytes of physical memory that jemalloc keeps, all arenas */
};

bool memory_is_jemalloc(void);

/* "jemalloc 5.3.0-0-g54eaed1d8b56b1aa528be3bdd1877e59c56fa90c" or "libc". Static. */
const char *memory_name(void);

/* False, and zeros: not jemalloc, which alone counts this. */
bool memory_process_status(struct memory_process *out);

/* As malloc and free, of that allocator. memory_bytes: what the block really takes. bytes > 0. */
void *memory_allocate(size_t bytes);
void memory_free(void *block);
size_t memory_bytes(void *block);
/* NULL: the block is as it was. */
void *memory_resize(void *block, size_t bytes);
/* bytes: as it was allocated or resized. */
void memory_free_sized(void *block, size_t bytes);

/* Of mallocx(), which shows which library it is in. Only if memory_is_jemalloc(). */
void *memory_jemalloc_address(void);

/* An arena of its own: blocks of it share no page with anybody else's. 0: not jemalloc, or out of
 * memory; blocks of arena 0 are the C library's. There is no way back, so make one per process. */
unsigned memory_arena_create(void);

/* align: a power of two; bytes: a multiple of it or of a page. Freed with the same numbers. */
void *memory_arena_allocate(unsigned arena, size_t bytes, size_t align);
void memory_arena_free(unsigned arena, void *block, size_t bytes, size_t align);

/* Give what is free in the arena back to the kernel, now. */
void memory_arena_purge(unsigned arena);

/* Bytes in use in the arena, counted by jemalloc itself; false: not jemalloc. */
bool memory_arena_allocated(unsigned arena, uint64_t *bytes_out);

#endif
