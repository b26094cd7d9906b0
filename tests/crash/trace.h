/* trace.h: what a run of the engine did to persistence, in order.
 */
#ifndef DAX_CRASH_TRACE_H
#define DAX_CRASH_TRACE_H

#include "image.h"

enum op_kind {
    OP_STORE,     /* bytes of a file, through the mapping */
    OP_CACHED,    /* the same, and they stay in the processor's cache: a fence does not reach them ... */
    OP_FLUSH,     /* ... before a flush of the range */
    OP_WRITE,     /* the same with pwrite: a fence does not reach it */
    OP_RECORD,    /* stores nothing: the newest record of the log is here */
    OP_POOL,      /* bytes that libpmemobj stored while it made the pool */
    OP_SIZE,      /* the file's size; bytes: what an extending pwrite put there with it */
    OP_NAME,      /* what the directory says of the file: offset is an enum image_name */
    OP_FENCE,     /* tag: the point, or -1: an untagged one */
    OP_SYNC_LOG,  /* blocks of the sidecar */
    OP_FSYNC,     /* a whole file, size included */
    OP_FSYNC_DIR, /* the directory */
    OP_BEGIN,     /* transaction `offset` is in flight */
    OP_ACK        /* it is acknowledged */
};

struct op {
    enum op_kind kind;
    enum image_file file;
    int tag;
    uint64_t offset, len;
    size_t at;     /* in bytes */
    size_t number; /* for people: libpmemobj's own stores, as many as it likes, are not counted */
};

/* The database as SQLite sees it, after a transaction. */
struct golden {
    uint64_t size, hash;
    uint8_t *bytes;
};

struct trace {
    struct op *ops;
    size_t count, capacity;
    uint8_t *bytes;
    size_t used, space;
    struct golden *goldens; /* [0]: before the first transaction */
    size_t golden_count;
};

struct op *trace_add(struct trace *t, enum op_kind kind, enum image_file file, uint64_t offset,
                     uint64_t len, const void *bytes);
void trace_add_golden(struct trace *t, const uint8_t *bytes, uint64_t size);
void trace_free(struct trace *t);

/* "store", "P2 (commit record)", ... */
const char *trace_op_name(const struct op *op, char *buf, size_t bytes);
const char *trace_file_name(enum image_file f);

#endif
