/* kv.c: see kv.h. LMDB's environment is one per process and name, as it must be; each handle has a
 * read transaction of its own that is renewed for each read, as LMDB's manual advises.
 */
#include "bench/common/kv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef BENCH_LMDB
#include <lmdb.h>
#include <pthread.h>
#endif

struct kv {
    sqlite3 *db;
    sqlite3_stmt *begin, *begin_write, *commit;
    sqlite3_stmt *insert, *update, *remove, *get, *scan;
#ifdef BENCH_LMDB
    MDB_txn *reader; /* reset while idle */
    MDB_txn *writer; /* of kv_begin */
    bool reading;    /* kv_begin without writes */
#endif
};

/* --- LMDB -------------------------------------------------------------------------------------- */

#ifdef BENCH_LMDB
static struct {
    pthread_mutex_t lock;
    MDB_env *env;
    MDB_dbi dbi;
    unsigned users;
    char name[64];
} lmdb = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The file grows up to it; twice as much is more than valgrind maps. */
#define LMDB_MAP_BYTES ((size_t)16 << 30)

static void lmdb_check(int rc, const char *what)
{
    if (rc != 0)
        bench_die(what, mdb_strerror(rc));
}

static void lmdb_open_env(const struct bench *b, const char *name)
{
    char path[4096];
    MDB_txn *txn;
    snprintf(path, sizeof path, "%s/%s.db", b->dir, name);
    lmdb_check(mdb_env_create(&lmdb.env), "mdb_env_create");
    lmdb_check(mdb_env_set_mapsize(lmdb.env, LMDB_MAP_BYTES), "mdb_env_set_mapsize");
    lmdb_check(mdb_env_open(lmdb.env, path, MDB_NOSUBDIR | MDB_NOTLS, 0666), path);
    lmdb_check(mdb_txn_begin(lmdb.env, NULL, 0, &txn), "mdb_txn_begin");
    lmdb_check(mdb_dbi_open(txn, NULL, MDB_INTEGERKEY | MDB_CREATE, &lmdb.dbi), "mdb_dbi_open");
    lmdb_check(mdb_txn_commit(txn), "mdb_txn_commit");
    snprintf(lmdb.name, sizeof lmdb.name, "%s", name);
}

static void lmdb_open(const struct bench *b, struct kv *kv, const char *name)
{
    pthread_mutex_lock(&lmdb.lock);
    if (!lmdb.users++)
        lmdb_open_env(b, name);
    else if (strcmp(lmdb.name, name) != 0)
        bench_die("kv_open", "one LMDB database at a time");
    pthread_mutex_unlock(&lmdb.lock);
    lmdb_check(mdb_txn_begin(lmdb.env, NULL, MDB_RDONLY, &kv->reader), "mdb_txn_begin");
    mdb_txn_reset(kv->reader);
}

static void lmdb_close(struct kv *kv)
{
    mdb_txn_abort(kv->reader);
    pthread_mutex_lock(&lmdb.lock);
    if (!--lmdb.users)
        mdb_env_close(lmdb.env);
    pthread_mutex_unlock(&lmdb.lock);
}

static MDB_txn *lmdb_read(struct kv *kv)
{
    if (kv->writer)
        return kv->writer;
    if (!kv->reading)
        lmdb_check(mdb_txn_renew(kv->reader), "mdb_txn_renew");
    return kv->reader;
}

static void lmdb_read_end(struct kv *kv)
{
    if (!kv->writer && !kv->reading)
        mdb_txn_reset(kv->reader);
}

static void lmdb_write(struct kv *kv, uint64_t key, const void *value, size_t bytes, bool remove,
                       unsigned flags)
{
    MDB_txn *txn = kv->writer;
    MDB_val k = {sizeof key, &key}, v = {bytes, (void *)(uintptr_t)value};
    if (!txn)
        lmdb_check(mdb_txn_begin(lmdb.env, NULL, 0, &txn), "mdb_txn_begin");
    if (remove)
        lmdb_check(mdb_del(txn, lmdb.dbi, &k, NULL), "mdb_del");
    else
        lmdb_check(mdb_put(txn, lmdb.dbi, &k, &v, flags), "mdb_put");
    if (!kv->writer)
        lmdb_check(mdb_txn_commit(txn), "mdb_txn_commit");
}

static size_t lmdb_get(struct kv *kv, uint64_t key, void *value, size_t bytes)
{
    MDB_val k = {sizeof key, &key}, v = {0, NULL};
    int rc = mdb_get(lmdb_read(kv), lmdb.dbi, &k, &v);
    if (rc == 0)
        memcpy(value, v.mv_data, v.mv_size < bytes ? v.mv_size : bytes);
    else if (rc != MDB_NOTFOUND)
        lmdb_check(rc, "mdb_get");
    lmdb_read_end(kv);
    return rc == 0 ? v.mv_size : 0;
}

static uint64_t lmdb_scan(struct kv *kv, uint64_t key, uint64_t count, uint64_t *sum)
{
    MDB_cursor *cursor;
    MDB_val k = {sizeof key, &key}, v;
    uint64_t found = 0;
    lmdb_check(mdb_cursor_open(lmdb_read(kv), lmdb.dbi, &cursor), "mdb_cursor_open");
    int rc = count ? mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE) : MDB_NOTFOUND;
    while (rc == 0) {
        *sum += *(const unsigned char *)v.mv_data;
        if (++found == count)
            break;
        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    if (rc != 0 && rc != MDB_NOTFOUND)
        lmdb_check(rc, "mdb_cursor_get");
    mdb_cursor_close(cursor);
    lmdb_read_end(kv);
    return found;
}

static void lmdb_begin(struct kv *kv, bool writes)
{
    if (writes) {
        lmdb_check(mdb_txn_begin(lmdb.env, NULL, 0, &kv->writer), "mdb_txn_begin");
        return;
    }
    lmdb_check(mdb_txn_renew(kv->reader), "mdb_txn_renew");
    kv->reading = true;
}

static void lmdb_commit(struct kv *kv)
{
    if (kv->writer)
        lmdb_check(mdb_txn_commit(kv->writer), "mdb_txn_commit");
    else
        mdb_txn_reset(kv->reader);
    kv->writer = NULL;
    kv->reading = false;
}
#else
enum {
    MDB_NOOVERWRITE
};
static _Noreturn void lmdb_missing(void)
{
    bench_skip("built without LMDB (liblmdb-dev)");
}
#define lmdb_open(b, kv, name) lmdb_missing()
#define lmdb_close(kv) lmdb_missing()
#define lmdb_write(kv, key, value, bytes, remove, flags) lmdb_missing()
#define lmdb_get(kv, key, value, bytes) (lmdb_missing(), (size_t)0)
#define lmdb_scan(kv, key, count, sum) (lmdb_missing(), (uint64_t)0)
#define lmdb_begin(kv, writes) lmdb_missing()
#define lmdb_commit(kv) lmdb_missing()
#endif

/* --- SQLite ------------------------------------------------------------------------------------ */

static void prepare_all(struct kv *kv)
{
    kv->begin = sql_prepare(kv->db, "BEGIN");
    kv->begin_write = sql_prepare(kv->db, "BEGIN IMMEDIATE");
    kv->commit = sql_prepare(kv->db, "COMMIT");
    kv->insert = sql_prepare(kv->db, "INSERT INTO t VALUES(?, ?)");
    kv->update = sql_prepare(kv->db, "UPDATE t SET v = ?2 WHERE id = ?1");
    kv->remove = sql_prepare(kv->db, "DELETE FROM t WHERE id = ?");
    kv->get = sql_prepare(kv->db, "SELECT v FROM t WHERE id = ?");
    kv->scan = sql_prepare(kv->db, "SELECT v FROM t WHERE id >= ? ORDER BY id LIMIT ?");
}

struct kv *kv_open(const struct bench *b, const char *name)
{
    struct kv *kv = calloc(1, sizeof *kv);
    if (!kv)
        bench_die("kv_open", "no memory");
    if (b->subject == SUBJECT_LMDB) {
        lmdb_open(b, kv, name);
        return kv;
    }
    kv->db = subject_open(b, name);
    sql_run(kv->db, "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, v BLOB)");
    prepare_all(kv);
    return kv;
}

void kv_close(struct kv *kv)
{
    if (kv->db) {
        sqlite3_stmt *const all[] = {kv->begin,  kv->begin_write, kv->commit, kv->insert,
                                     kv->update, kv->remove,      kv->get,    kv->scan};
        for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
            sqlite3_finalize(all[i]);
        sql_close(kv->db);
    } else {
        lmdb_close(kv);
    }
    free(kv);
}

sqlite3 *kv_sqlite(struct kv *kv)
{
    return kv->db;
}

void kv_begin(struct kv *kv, bool writes)
{
    if (kv->db)
        sql_step(writes ? kv->begin_write : kv->begin);
    else
        lmdb_begin(kv, writes);
}

void kv_commit(struct kv *kv)
{
    if (kv->db)
        sql_step(kv->commit);
    else
        lmdb_commit(kv);
}

static void step_value(sqlite3_stmt *stmt, uint64_t key, const void *value, size_t bytes)
{
    sqlite3_bind_int64(stmt, 1, (sqlite3_int64)key);
    sqlite3_bind_blob64(stmt, 2, value, bytes, SQLITE_STATIC);
    sql_step(stmt);
}

void kv_insert(struct kv *kv, uint64_t key, const void *value, size_t bytes)
{
    if (kv->db)
        step_value(kv->insert, key, value, bytes);
    else
        lmdb_write(kv, key, value, bytes, false, MDB_NOOVERWRITE);
}

void kv_update(struct kv *kv, uint64_t key, const void *value, size_t bytes)
{
    if (kv->db)
        step_value(kv->update, key, value, bytes);
    else
        lmdb_write(kv, key, value, bytes, false, 0);
}

void kv_delete(struct kv *kv, uint64_t key)
{
    if (kv->db) {
        sqlite3_bind_int64(kv->remove, 1, (sqlite3_int64)key);
        sql_step(kv->remove);
    } else {
        lmdb_write(kv, key, NULL, 0, true, 0);
    }
}

size_t kv_get(struct kv *kv, uint64_t key, void *value, size_t bytes)
{
    size_t size = 0;
    if (!kv->db)
        return lmdb_get(kv, key, value, bytes);
    sqlite3_bind_int64(kv->get, 1, (sqlite3_int64)key);
    if (sqlite3_step(kv->get) == SQLITE_ROW) {
        const void *found = sqlite3_column_blob(kv->get, 0);
        size = (size_t)sqlite3_column_bytes(kv->get, 0);
        if (size)
            memcpy(value, found, size < bytes ? size : bytes);
    }
    if (sqlite3_reset(kv->get) != SQLITE_OK)
        bench_die("SELECT", sqlite3_errmsg(kv->db));
    return size;
}

uint64_t kv_scan(struct kv *kv, uint64_t key, uint64_t count, uint64_t *sum)
{
    uint64_t found = 0;
    if (!kv->db)
        return lmdb_scan(kv, key, count, sum);
    sqlite3_bind_int64(kv->scan, 1, (sqlite3_int64)key);
    sqlite3_bind_int64(kv->scan, 2, (sqlite3_int64)count);
    while (sqlite3_step(kv->scan) == SQLITE_ROW) {
        const unsigned char *v = sqlite3_column_blob(kv->scan, 0);
        *sum += v ? *v : 0;
        found++;
    }
    if (sqlite3_reset(kv->scan) != SQLITE_OK)
        bench_die("SELECT ... LIMIT", sqlite3_errmsg(kv->db));
    return found;
}
