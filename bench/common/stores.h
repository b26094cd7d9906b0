/* stores.h: how much a subject stores to its medium, and how often it waits for it.
 *
 * Of dax: what dax_status() counts. Of stock SQLite: a VFS between it and "unix" that counts calls,
 * and so costs some time: set b->counted for a pass that counts, and leave it unset where time is
 * taken. Of lmdb: what /proc/self/io counts, all of it as base. Of memory: nothing.
 */
#ifndef BENCH_STORES_H
#define BENCH_STORES_H

#include <sqlite3.h>
#include <stdint.h>

#include "bench/common/subject.h"

struct stores {
    uint64_t log_bytes;   /* dax: log ring; stock: WAL or rollback journal */
    uint64_t base_bytes;  /* the database file */
    uint64_t other_bytes; /* dax: the sidecar outside of the ring */
    uint64_t fences;
    uint64_t flushes; /* cache lines written back one by one; non-temporal stores need none */
    uint64_t syncs;   /* fsync, fdatasync, msync */
};

/* Name of the counting VFS, registered by the first call. */
const char *stores_vfs(void);

/* Totals of this process up to now; db: any open connection of the subject (lmdb: NULL). */
void stores_read(const struct bench *b, sqlite3 *db, struct stores *out);

/* What was added between two readings, per operation: log_bytes, base_bytes, other_bytes,
 * stored_bytes (their sum), fences, flushes, syncs. */
void stores_report(const char *workload, const char *parameter, const struct stores *before,
                   const struct stores *after, uint64_t operations);

#endif
