/* pool.c: the stand-in for libpmemobj, and for the calls that allocate space. */
#include "tests/fuzz/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <libpmemobj.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/sidecar_pool.h"
#include "tests/fuzz/fuzz.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef FALLOC_FL_KEEP_SIZE
#define FALLOC_FL_KEEP_SIZE 0x01
#define FALLOC_FL_PUNCH_HOLE 0x02
#endif

#define POOLS 16

bool pool_real;
uint64_t pool_ring_bytes = 64 << 10;

static struct open_pool {
    uint8_t *at;
    uint64_t bytes;
} pools[POOLS];

/* What --wrap makes of the names. */
PMEMobjpool *__real_pmemobj_open(const char *path, const char *layout);
PMEMobjpool *__real_pmemobj_create(const char *path, const char *layout, size_t size, mode_t mode);
void __real_pmemobj_close(PMEMobjpool *pool);
PMEMoid __real_pmemobj_root(PMEMobjpool *pool, size_t size);
size_t __real_pmemobj_root_size(PMEMobjpool *pool);
int __real_pmemobj_alloc(PMEMobjpool *pool, PMEMoid *oid, size_t size, uint64_t type,
                         pmemobj_constr constructor, void *arg);
size_t __real_pmemobj_alloc_usable_size(PMEMoid oid);
void *__real_pmemobj_memcpy_persist(PMEMobjpool *pool, void *to, const void *from, size_t bytes);
void *__real_pmemobj_memset_persist(PMEMobjpool *pool, void *to, int byte, size_t bytes);
const char *__real_pmemobj_errormsg(void);
int __real_pmemobj_tx_begin(PMEMobjpool *pool, jmp_buf env, ...);
enum pobj_tx_stage __real_pmemobj_tx_stage(void);
void __real_pmemobj_tx_process(void);
int __real_pmemobj_tx_end(void);
int __real_pmemobj_tx_add_range_direct(const void *at, size_t bytes);
int __real_fallocate(int fd, int mode, off_t offset, off_t len);
int __real_madvise(void *at, size_t bytes, int advice);

PMEMobjpool *__wrap_pmemobj_open(const char *path, const char *layout);
PMEMobjpool *__wrap_pmemobj_create(const char *path, const char *layout, size_t size, mode_t mode);
void __wrap_pmemobj_close(PMEMobjpool *pool);
PMEMoid __wrap_pmemobj_root(PMEMobjpool *pool, size_t size);
size_t __wrap_pmemobj_root_size(PMEMobjpool *pool);
int __wrap_pmemobj_alloc(PMEMobjpool *pool, PMEMoid *oid, size_t size, uint64_t type,
                         pmemobj_constr constructor, void *arg);
size_t __wrap_pmemobj_alloc_usable_size(PMEMoid oid);
void *__wrap_pmemobj_memcpy_persist(PMEMobjpool *pool, void *to, const void *from, size_t bytes);
void *__wrap_pmemobj_memset_persist(PMEMobjpool *pool, void *to, int byte, size_t bytes);
const char *__wrap_pmemobj_errormsg(void);
int __wrap_pmemobj_tx_begin(PMEMobjpool *pool, jmp_buf env, ...);
enum pobj_tx_stage __wrap_pmemobj_tx_stage(void);
void __wrap_pmemobj_tx_process(void);
int __wrap_pmemobj_tx_end(void);
int __wrap_pmemobj_tx_add_range_direct(const void *at, size_t bytes);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t len);
int __wrap_madvise(void *at, size_t bytes, int advice);

static struct open_pool *pool_find(const void *at)
{
    for (unsigned i = 0; i < POOLS; i++)
        if (at && pools[i].at == at)
            return &pools[i];
    return NULL;
}

unsigned pool_count(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < POOLS; i++)
        n += pools[i].at != NULL;
    return n;
}

static struct pool_header *pool_header(const struct open_pool *p)
{
    return (struct pool_header *)(void *)(p->at + POOL_HEADER_OFFSET);
}

static bool pool_within(uint64_t offset, uint64_t bytes, uint64_t all)
{
    return offset <= all && bytes <= all - offset;
}

/* libpmemobj's structures, which we do not doubt: the objects lie in the file. */
static bool pool_is_good(const struct open_pool *p)
{
    const struct pool_header *h = pool_header(p);
    return h->magic == POOL_MAGIC && pool_within(h->root_offset, h->root_bytes, p->bytes) &&
           pool_within(h->object[0].offset, h->object[0].bytes, p->bytes) &&
           pool_within(h->object[1].offset, h->object[1].bytes, p->bytes);
}

static PMEMobjpool *pool_map(const char *path, bool fresh)
{
    struct stat st;
    struct open_pool *slot = pools;
    while (slot < pools + POOLS && slot->at)
        slot++;
    FUZZ_CHECK(slot < pools + POOLS, "more than %d pools are open", POOLS);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    void *at = MAP_FAILED;
    errno = EINVAL;
    if (fstat(fd, &st) == 0 && (uint64_t)st.st_size >= PMEMOBJ_MIN_POOL)
        at = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    int e = errno;
    close(fd);
    errno = e;
    if (at == MAP_FAILED)
        return NULL;
    *slot = (struct open_pool){at, (uint64_t)st.st_size};
    if (fresh || pool_is_good(slot))
        return at;
    munmap(at, slot->bytes);
    *slot = (struct open_pool){0};
    errno = EINVAL;
    return NULL;
}

PMEMobjpool *__wrap_pmemobj_open(const char *path, const char *layout)
{
    return pool_real ? __real_pmemobj_open(path, layout) : pool_map(path, false);
}

PMEMobjpool *__wrap_pmemobj_create(const char *path, const char *layout, size_t size, mode_t mode)
{
    if (pool_real)
        return __real_pmemobj_create(path, layout, size, mode);
    PMEMobjpool *pool = pool_map(path, true);
    if (!pool)
        return NULL;
    struct open_pool *p = pool_find(pool);
    memcpy(p->at, "PMEMOBJ", 8);
    *pool_header(p) = (struct pool_header){.magic = POOL_MAGIC, .root_offset = POOL_ROOT_OFFSET};
    return pool;
}

void __wrap_pmemobj_close(PMEMobjpool *pool)
{
    struct open_pool *p = pool_find(pool);
    if (!p) {
        __real_pmemobj_close(pool);
        return;
    }
    munmap(p->at, p->bytes);
    *p = (struct open_pool){0};
}

static PMEMoid pool_oid(const struct open_pool *p, uint64_t offset)
{
    return (PMEMoid){.pool_uuid_lo = (uint64_t)(p - pools) + 1, .off = offset};
}

PMEMoid __wrap_pmemobj_root(PMEMobjpool *pool, size_t size)
{
    struct open_pool *p = pool_find(pool);
    if (!p)
        return __real_pmemobj_root(pool, size);
    struct pool_header *h = pool_header(p);
    if (h->root_bytes == 0)
        h->root_bytes = size;
    return pool_oid(p, h->root_offset);
}

size_t __wrap_pmemobj_root_size(PMEMobjpool *pool)
{
    struct open_pool *p = pool_find(pool);
    return p ? pool_header(p)->root_bytes : __real_pmemobj_root_size(pool);
}

int __wrap_pmemobj_alloc(PMEMobjpool *pool, PMEMoid *oid, size_t size, uint64_t type,
                         pmemobj_constr constructor, void *arg)
{
    struct open_pool *p = pool_find(pool);
    if (!p)
        return __real_pmemobj_alloc(pool, oid, size, type, constructor, arg);
    if (type == SIDECAR_RING_TYPE && size > pool_ring_bytes &&
        size > (128 << 10)) /* the last tried */
        return -1;
    struct pool_header *h = pool_header(p);
    struct pool_object *o = &h->object[h->object[0].bytes != 0];
    *o = type == SIDECAR_RING_TYPE ? (struct pool_object){type, POOL_RING_OFFSET, pool_ring_bytes}
                                   : (struct pool_object){type, POOL_LEDGER_OFFSET, size};
    *oid = pool_oid(p, o->offset);
    return 0;
}

/* Its pool, if that is a stand-in. */
static struct open_pool *pool_of(PMEMoid oid)
{
    if (oid.pool_uuid_lo == 0 || oid.pool_uuid_lo > POOLS || !pools[oid.pool_uuid_lo - 1].at)
        return NULL;
    return &pools[oid.pool_uuid_lo - 1];
}

static const struct pool_object *pool_object(PMEMoid oid)
{
    const struct pool_object *o = pool_header(pool_of(oid))->object;
    return o[0].bytes != 0 && o[0].offset == oid.off ? o : o + 1;
}

size_t __wrap_pmemobj_alloc_usable_size(PMEMoid oid)
{
    return pool_of(oid) ? pool_object(oid)->bytes : __real_pmemobj_alloc_usable_size(oid);
}

void *__wrap_pmemobj_memcpy_persist(PMEMobjpool *pool, void *to, const void *from, size_t bytes)
{
    return pool_find(pool) ? memcpy(to, from, bytes)
                           : __real_pmemobj_memcpy_persist(pool, to, from, bytes);
}

void *__wrap_pmemobj_memset_persist(PMEMobjpool *pool, void *to, int byte, size_t bytes)
{
    return pool_find(pool) ? memset(to, byte, bytes)
                           : __real_pmemobj_memset_persist(pool, to, byte, bytes);
}

const char *__wrap_pmemobj_errormsg(void)
{
    return pool_real ? __real_pmemobj_errormsg() : "no pool";
}

/* --- space ---------------------------------------------------------------------------------------- */

/* A transaction that never aborts and that no crash meets, one at a time in a thread: WORK, ONCOMMIT,
 * FINALLY, NONE. */
static _Thread_local enum pobj_tx_stage pool_stage = TX_STAGE_NONE;

int __wrap_pmemobj_tx_begin(PMEMobjpool *pool, jmp_buf env, ...)
{
    if (pool_real)
        return __real_pmemobj_tx_begin(pool, env, TX_PARAM_NONE);
    FUZZ_CHECK(pool_stage == TX_STAGE_NONE && pool_find(pool), "a transaction of no open pool");
    pool_stage = TX_STAGE_WORK;
    return 0;
}

enum pobj_tx_stage __wrap_pmemobj_tx_stage(void)
{
    return pool_real ? __real_pmemobj_tx_stage() : pool_stage;
}

void __wrap_pmemobj_tx_process(void)
{
    if (pool_real)
        __real_pmemobj_tx_process();
    else
        pool_stage = pool_stage == TX_STAGE_WORK       ? TX_STAGE_ONCOMMIT
                     : pool_stage == TX_STAGE_ONCOMMIT ? TX_STAGE_FINALLY
                                                       : TX_STAGE_NONE;
}

int __wrap_pmemobj_tx_end(void)
{
    return pool_real ? __real_pmemobj_tx_end() : 0;
}

int __wrap_pmemobj_tx_add_range_direct(const void *at, size_t bytes)
{
    return pool_real ? __real_pmemobj_tx_add_range_direct(at, bytes) : 0;
}

int __wrap_fallocate(int fd, int mode, off_t offset, off_t len)
{
    struct stat st;
    if ((uint64_t)len > POOL_SPACE_BYTES) {
        errno = ENOSPC;
        return -1;
    }
    if (pool_real || (mode & ~FALLOC_FL_KEEP_SIZE))
        return __real_fallocate(fd, mode, offset, len);
    if (fstat(fd, &st) != 0)
        return -1;
    if ((mode & FALLOC_FL_KEEP_SIZE) || offset + len <= st.st_size)
        return 0;
    return ftruncate(fd, offset + len);
}

int __wrap_madvise(void *at, size_t bytes, int advice)
{
    /* Reading the holes of a file there takes space, as fallocate does. */
    if (advice == MADV_POPULATE_READ && bytes > POOL_SPACE_BYTES) {
        errno = EFAULT;
        return -1;
    }
    return advice == MADV_POPULATE_WRITE && !pool_real ? 0 : __real_madvise(at, bytes, advice);
}
