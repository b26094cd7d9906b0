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
    size_t bytes = header + slots + words + unflushed + lines + nodes + frames;
    uint8_t *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return dax_err_set(err, DAX_NOMEM, errno,
                           "cannot reserve %zu GiB of address space for page versions (it is not "
                           "memory; check ulimit -v and vm.overcommit_memory)",
                           bytes >> 30);
    /* A core dump has no use for it. */
    (void)madvise(map, bytes, MADV_DONTDUMP);
    r->map = map;
    r->map_bytes = bytes;
    r->header = (struct region_header *)map;
    r->slots = (struct slot *)(map + header);
    r->words = (_Atomic uint64_t *)(map + header + slots);
    r->unflushed = (struct region_unflushed *)(map + header + slots + words);
    r->unflushed_lines = (uint64_t *)(map + header + slots + words + unflushed);
    r->nodes = (struct node *)(map + header + slots + words + unflushed + lines);
    r->frames = (uint8_t *)r->nodes + nodes;
    r->header->magic = REGION_MAGIC;
    r->header->version = REGION_VERSION;
    GUARDED_SET(r->header->guarded.fresh, 1); /* node 0 means none */
    return DAX_OK;
}

void region_destroy(struct region *r)
{
    if (r->map)
        munmap(r->map, r->map_bytes);
    memset(r, 0, sizeof *r);
}
