/* region.c: address space and layout of the shared region. */
#include "engine/region.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static size_t region_round(size_t n)
{
    return (n + DAX_PAGE_BYTES - 1) & ~(size_t)(DAX_PAGE_BYTES - 1);
}

dax_rc region_create(struct region *r, struct dax_err *err)
{
    memset(r, 0, sizeof *r);
    size_t header = region_round(sizeof(struct region_header));
    size_t slots = region_round(DAX_MAX_SLOTS * sizeof(struct slot));
    size_t words = DAX_MAX_PAGES * sizeof(uint64_t);
    size_t unflushed = region_round(sizeof(struct region_unflushed));
    size_t lines = DAX_MAX_PAGES * sizeof(uint64_t);
    size_t nodes = (size_t)DAX_MAX_NODES * sizeof(struct node);
    size_t frames = (size_t)DAX_MAX_NODES * DAX_PAGE_BYTES;
    size_t bytes = header + slots + words + unflushed + nodes + frames;
    uint8_t *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return dax_err_set(err, DAX_NOMEM, errno,
                           "cannot reserve %zu GiB of address space for page versions (it is not "
                           "memory; check ulimit -v and vm.overcommit_memory)",
                           bytes >> 30);
    /* By itself: valgrind has no room for all in one piece. */
    void *lines_map = mmap(NULL, lines, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (lines_map == MAP_FAILED) {
        int e = errno;
        munmap(map, bytes);
        return dax_err_set(err, DAX_NOMEM, e,
                           "cannot reserve %zu GiB of address space for lines to flush (it is not "
                           "memory; check ulimit -v and vm.overcommit_memory)",
                           lines >> 30);
    }
    /* A core dump has no use for them. */
    (void)madvise(map, bytes, MADV_DONTDUMP);
    (void)madvise(lines_map, lines, MADV_DONTDUMP);
    r->map = map;
    r->map_bytes = bytes;
    r->header = (struct region_header *)map;
    r->slots = (struct slot *)(map + header);
    r->words = (_Atomic uint64_t *)(map + header + slots);
    r->unflushed = (struct region_unflushed *)(map + header + slots + words);
    r->unflushed_lines = lines_map;
    r->nodes = (struct node *)(map + header + slots + words + unflushed);
    r->frames = (uint8_t *)r->nodes + nodes;
    r->header->magic = REGION_MAGIC;
    r->header->version = REGION_VERSION;
    GUARDED_SET(r->header->guarded.fresh, 1); /* node 0 means none */
    return DAX_OK;
}

void region_destroy(struct region *r)
{
    if (r->map) {
        munmap(r->map, r->map_bytes);
        munmap(r->unflushed_lines, DAX_MAX_PAGES * sizeof(uint64_t));
    }
    memset(r, 0, sizeof *r);
}
