/* sidecar_check.c: is what libpmemobj believes in a pool's descriptor and lanes what it has put there?
 *
 * pmemobj_open (1.12) checks the pool's header, the descriptor's first half and the heap's header by their
 * checksums. It believes the descriptor's second half (where the root is, how large the heap) and the
 * heads of the logs in its lanes: a single byte that is wrong there is a crash. So they are compared with
 * the only values that they have in a pool of ours. What is not true is DAX_CORRUPT, which recovery can go
 * on with (salvage.c); it is never repaired here.
 *
 * Layout of format 6 (PMDK 1.5 to 2.1; others are left to libpmemobj). Descriptor, at 4096: after the
 * layout's name of 1024 bytes lanes_offset, nlanes, heap_offset; Fletcher-64 of the first 2048 bytes at
 * their end; then root_offset, run_id, root_size, conversion_flags, heap_size. A lane is 3072 bytes: three
 * logs, each with a head of 64 bytes: checksum, next, capacity, gen_num, flags. next is 0, since what the
 * ledger adds to a transaction fits into the lane (ledger.c); capacity is that of the place, or 0 in a log
 * that was used and cleared.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "engine/guard.h"
#include "engine/sidecar_pool.h"

#define CHECK_FORMAT 6u
#define CHECK_LANE_BYTES 3072u
#define CHECK_LANES_AT_ONCE 64u /* 48 pages */
#define CHECK_ROOT_MOST ((uint64_t)DAX_PAGE_BYTES)

/* The words of the descriptor, behind the layout's name. */
enum {
    WORD_LANES = 128,
    WORD_NLANES,
    WORD_HEAP,
    WORD_CHECKSUM = 255,
    WORD_ROOT,
    WORD_RUN,
    WORD_ROOT_BYTES,
    WORD_CONVERSION,
    WORD_HEAP_BYTES,
    WORDS
};

struct check_log {
    uint64_t checksum, next, capacity, gen_num, flags, unused[3];
};

static bool check_read(int fd, void *to, size_t len, uint64_t offset)
{
    ssize_t n;
    do
        n = pread(fd, to, len, (off_t)offset);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)len;
}

static uint64_t check_fletcher(const uint64_t *words, size_t count, size_t skip)
{
    uint32_t low = 0, high = 0;
    for (size_t i = 0; i < count; i++)
        for (int half = 0; half < 2; half++) {
            low += i == skip ? 0 : (uint32_t)(words[i] >> (half * 32));
            high += low;
        }
    return (uint64_t)high << 32 | low;
}

static bool check_lane(const uint8_t *lane)
{
    static const unsigned capacity[3] = {192, 640, 2048};
    for (unsigned i = 0; i < 3; i++) {
        struct check_log log;
        memcpy(&log, lane, sizeof log);
        if (log.next != 0 || log.flags != 0 || (log.capacity != capacity[i] && log.capacity != 0))
            return false;
        lane += sizeof log + capacity[i];
    }
    return true;
}

static bool check_lanes(int fd, uint64_t at, uint64_t count, uint64_t *bad_page_out)
{
    uint8_t lanes[CHECK_LANES_AT_ONCE * CHECK_LANE_BYTES];
    while (count > 0) {
        uint64_t n = count < CHECK_LANES_AT_ONCE ? count : CHECK_LANES_AT_ONCE;
        if (!check_read(fd, lanes, n * CHECK_LANE_BYTES, at))
            return true; /* an error that was not there before: libpmemobj's */
        for (uint64_t i = 0; i < n; i++)
            if (!check_lane(lanes + i * CHECK_LANE_BYTES)) {
                *bad_page_out = (at + i * CHECK_LANE_BYTES) / DAX_PAGE_BYTES;
                return false;
            }
        at += n * CHECK_LANE_BYTES;
        count -= n;
    }
    return true;
}

bool sidecar_probe_pool(const struct sidecar *s, const void **bad_out)
{
    const uint64_t *words =
        (const uint64_t *)(const void *)((const uint8_t *)s->pool + DAX_PAGE_BYTES);
    uint64_t heap = 0;
    struct guard_fault fault;
    *bad_out = words;
    if (!guard_copy(&heap, &words[WORD_HEAP], sizeof heap, NULL))
        return false;
    if (heap > s->file_bytes) /* another layout */
        heap = 2 * DAX_PAGE_BYTES;
    if (guard_probe(s->pool, heap, &fault))
        return true;
    *bad_out = fault.addr;
    return false;
}

dax_rc sidecar_check_pool(int fd, const char *path, uint64_t bytes, uint64_t *bad_page_out,
                          struct dax_err *err)
{
    uint64_t words[WORDS];
    uint32_t format;
    if (!check_read(fd, &format, sizeof format, 8) || format != CHECK_FORMAT ||
        !check_read(fd, words, sizeof words, DAX_PAGE_BYTES) ||
        words[WORD_CHECKSUM] != check_fletcher(words, WORD_CHECKSUM + 1, WORD_CHECKSUM))
        return DAX_OK; /* libpmemobj says so itself */
    uint64_t lanes = words[WORD_LANES], heap = words[WORD_HEAP];
    if (heap > bytes || lanes > heap || (heap - lanes) / CHECK_LANE_BYTES != words[WORD_NLANES])
        return DAX_OK; /* another layout than the one above */
    bool good = words[WORD_HEAP_BYTES] == bytes - heap && words[WORD_CONVERSION] == 0 &&
                words[WORD_ROOT_BYTES] <= CHECK_ROOT_MOST && words[WORD_ROOT] <= bytes &&
                words[WORD_ROOT_BYTES] <= bytes - words[WORD_ROOT];
    *bad_page_out = 1;
    if (good && words[WORD_ROOT] != 0)
        good = words[WORD_ROOT] > heap;
    if (good && check_lanes(fd, lanes, words[WORD_NLANES], bad_page_out))
        return DAX_OK;
    return sidecar_not_ours(path, "libpmemobj's part of it is damaged or truncated", err);
}
