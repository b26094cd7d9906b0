/* trace.c: growing arrays of operations, their bytes, and the states between transactions. */
#include "trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/hash.h"
#include "hooks.h"

struct op *trace_add(struct trace *t, enum op_kind kind, enum image_file file, uint64_t offset,
                     uint64_t len, const void *bytes)
{
    if (t->count == t->capacity) {
        t->capacity = t->capacity ? t->capacity * 2 : 1024;
        t->ops = realloc(t->ops, t->capacity * sizeof *t->ops);
    }
    size_t stored = bytes ? len : 0;
    while (t->used + stored > t->space) {
        t->space = t->space ? t->space * 2 : 1 << 16;
        t->bytes = realloc(t->bytes, t->space);
    }
    hooks_must(t->ops && (t->bytes || !stored), "no memory");
    const struct op *last = t->count ? &t->ops[t->count - 1] : NULL;
    size_t number = last ? last->number + (last->kind != OP_POOL) : 0;
    struct op *op = &t->ops[t->count++];
    *op = (struct op){kind, file, -1, offset, len, t->used, number};
    if (stored)
        memcpy(t->bytes + t->used, bytes, stored);
    t->used += stored;
    return op;
}

void trace_add_golden(struct trace *t, const uint8_t *bytes, uint64_t size)
{
    t->goldens = realloc(t->goldens, (t->golden_count + 1) * sizeof *t->goldens);
    struct golden *g = &t->goldens[t->golden_count++];
    *g = (struct golden){size, hash_bytes(bytes, size), malloc(size + 1)};
    memcpy(g->bytes, bytes, size);
}

void trace_free(struct trace *t)
{
    for (size_t i = 0; i < t->golden_count; i++)
        free(t->goldens[i].bytes);
    free(t->goldens);
    free(t->ops);
    free(t->bytes);
    memset(t, 0, sizeof *t);
}

const char *trace_file_name(enum image_file f)
{
    return f == FILE_BASE ? "database" : "sidecar";
}

const char *trace_op_name(const struct op *op, char *buf, size_t bytes)
{
    static const char *const names[] = {[OP_STORE] = "store",
                                        [OP_CACHED] = "cached store",
                                        [OP_FLUSH] = "flush",
                                        [OP_WRITE] = "pwrite",
                                        [OP_RECORD] = "place of a record",
                                        [OP_POOL] = "libpmemobj's store",
                                        [OP_SIZE] = "size",
                                        [OP_NAME] = "name",
                                        [OP_FENCE] = "fence",
                                        [OP_SYNC_LOG] = "log sync",
                                        [OP_FSYNC] = "fsync",
                                        [OP_FSYNC_DIR] = "fsync of the directory",
                                        [OP_BEGIN] = "begin",
                                        [OP_ACK] = "acknowledgement"};
    if (op->tag >= 0)
        snprintf(buf, bytes, "%s at P%d", names[op->kind], op->tag + 1);
    else
        snprintf(buf, bytes, "%s", names[op->kind]);
    return buf;
}
