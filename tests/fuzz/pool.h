/* pool.h: a stand-in for libpmemobj, and cheap file space, for targets that open thousands of
 * databases a minute.
 *
 * libpmemobj takes milliseconds to make or open a pool, trusts what it maps, and opens no two copies
 * of one pool in a process. The stand-in (linked with --wrap=pmemobj_...) is a file of the same size
 * that begins with libpmemobj's signature, says in its second page where root, ledger and ring object
 * are, and is mapped as it is. Everything of daxlite's own runs on it unchanged. With pool_real the calls
 * reach libpmemobj, and space is really allocated.
 *
 * Space: fallocate only sets the size (a sparse file on tmpfs behaves the same until the disk is
 * full), MADV_POPULATE_WRITE does nothing. More than POOL_SPACE_BYTES in one call is "no space", so
 * that a damaged length cannot fill the machine.
 */
#ifndef TESTS_FUZZ_POOL_H
#define TESTS_FUZZ_POOL_H

#include <stdbool.h>
#include <stdint.h>

#define POOL_SPACE_BYTES (UINT64_C(64) << 20)

extern bool pool_real;

/* Size of the ring object that a pool made from now on can hold. */
extern uint64_t pool_ring_bytes;

/* Where the stand-in keeps things in the file. */
#define POOL_HEADER_OFFSET 4096u
#define POOL_ROOT_OFFSET 8208u /* not line-aligned, as libpmemobj's are not */
#define POOL_RING_OFFSET 16368u
#define POOL_LEDGER_OFFSET 6291440u
#define POOL_MAGIC UINT64_C(0x6c6f6f70657a7a66)

struct pool_header {
    uint64_t magic;
    uint64_t root_offset, root_bytes;
    struct pool_object {
        uint64_t type; /* as in engine/sidecar_pool.h */
        uint64_t offset, bytes;
    } object[2]; /* in the order of allocation; bytes 0: none */
};

/* Pools that are open; 0 when an input is over. */
unsigned pool_count(void);

#endif
