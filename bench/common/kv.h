/* kv.h: numbers as keys, bytes as values, over every subject: what LMDB can be compared in.
 *
 * SQLite: a table t(id INTEGER PRIMARY KEY, v BLOB) and prepared statements. LMDB: one database with
 * MDB_INTEGERKEY, its durable default. Outside of kv_begin ... kv_commit each call is a transaction
 * of its own. A handle is used by one thread at a time; threads open handles of their own.
 * Whatever fails ends the program; SQLITE_BUSY after the busy timeout is such a failure.
 */
#ifndef BENCH_KV_H
#define BENCH_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/common/subject.h"

struct kv;

/* DIR/name.db, made if missing. bench_skip where the subject was not built in. */
struct kv *kv_open(const struct bench *b, const char *name);
void kv_close(struct kv *kv);
/* The connection, NULL for lmdb. */
sqlite3 *kv_sqlite(struct kv *kv);

/* Transactions over several calls. A writing one takes the lock at once (BEGIN IMMEDIATE). */
void kv_begin(struct kv *kv, bool writes);
void kv_commit(struct kv *kv);

void kv_insert(struct kv *kv, uint64_t key, const void *value, size_t bytes); /* key is new */
void kv_update(struct kv *kv, uint64_t key, const void *value, size_t bytes); /* key exists */
void kv_delete(struct kv *kv, uint64_t key);                                  /* key exists */

/* Copies at most `bytes` of the value; returns its size, 0 if there is none. */
size_t kv_get(struct kv *kv, uint64_t key, void *value, size_t bytes);

/* `count` keys in order from `key`; returns how many there were, and a sum over one byte of each value,
 * so that they are touched. */
uint64_t kv_scan(struct kv *kv, uint64_t key, uint64_t count, uint64_t *sum);

#endif
