/* daxlite.h: SQLite on persistent memory, for programs that embed it.
 *
 * daxlite is a VFS named "dax". A program that links libdaxlite calls daxlite_register() once and
 * then opens databases with the VFS of that name:
 *
 *     #include <daxlite.h>
 *     #include <sqlite3.h>
 *
 *     sqlite3 *db;
 *     if (daxlite_register(0) != SQLITE_OK) ...
 *     sqlite3_open_v2("file:app.db?vfs=dax", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
 *                     SQLITE_OPEN_URI, 0);
 *
 * Programs that do not link it load the extension instead (`.load ./daxlite`).
 *
 * Caveats, before anything else:
 *   - One process at a time owns a database; a second one gets "database is locked".
 *   - A connection does not survive fork(): in the child every call on it fails, and closing it
 *     releases nothing. Open the database again after fork, in whichever process does not have it.
 *   - On tmpfs nothing survives power loss; `SELECT dax_status()` says which persistence mode a
 *     database is in, and why.
 *
 * URI parameters and SQL functions are described in docs/uri-and-sql.md.
 */
#ifndef DAXLITE_H
#define DAXLITE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DAXLITE_VERSION "0.1.0"

#if defined(__GNUC__)
#define DAXLITE_API __attribute__((visibility("default")))
#else
#define DAXLITE_API
#endif

/* Version of the library that is running, e.g. "0.1.0". Static storage; any thread, any time. */
DAXLITE_API const char *daxlite_version(void);

/* Register the VFS "dax" with the SQLite library that this program uses, and the SQL functions and
 * the tables dax_pages and dax_errors for every connection opened from now on.
 *
 * make_default: not 0 makes "dax" the default VFS, so that databases opened without `vfs=` use it.
 *   In-memory databases and temporary files are not affected.
 * Returns SQLITE_OK, SQLITE_NOMEM, or SQLITE_ERROR if SQLite has no default VFS to build on.
 * Calling it again is harmless, and may only add make_default. Any thread; calls sqlite3_initialize().
 */
DAXLITE_API int daxlite_register(int make_default);

/* A media error: a page of a database file or of its sidecar that cannot be read, or that holds what
 * cannot be true. One row of the table dax_errors (docs/uri-and-sql.md). Texts are never NULL ("":
 * not known); they and the struct are good until the callback returns. */
struct daxlite_media_error {
    size_t size;              /* of this struct: a later version may have fields behind these */
    const char *path;         /* of the database file, symbolic links resolved */
    unsigned long long id;    /* dax_errors.id */
    unsigned long long page;  /* in 4096 bytes, from 0, of the file that `part` says */
    unsigned long long bytes; /* that cannot be read, from there */
    const char *part;         /* "database", or "log" or "sidecar": the file `path`-dax */
    const char *kind;         /* "poison", "sigbus", "truncated", "io", "damaged" */
    const char *type;         /* "table", "index", "schema", "several", "log", "sidecar"; "" */
    const char *object;       /* name of the table or index; of a shadow table: its virtual table */
    const char *role;         /* "root", "interior", "leaf", "overflow", "free leaf", ... */
    const char *status;       /* "quarantined", "repaired", "cleared", "lost" */
    const char *detail;       /* in words */
    long long time_us;        /* when it was found: microseconds since 1970, UTC */
};

typedef void (*daxlite_media_fn)(void *arg, const struct daxlite_media_error *error);

/* Have fn(arg, error) called for each media error of any database of this process, once, when it is
 * known which table it belongs to. NULL: no more calls. One function per process; a new one takes the
 * place of the old. Errors found before are not repeated: ask dax_errors for these.
 *
 * fn runs outside of signal context, on the thread that met the error or, if that could not tell whom
 * the page belongs to, on the next one that uses the database, while SQLite's mutex of the connection
 * is held and a statement, an open or a close of it is under way. So:
 *   - do not use that connection in fn (which is not told); note the error, wake somebody up, return;
 *   - other connections may be used, of other databases or opened for the purpose, as long as nobody
 *     who holds their mutex waits for this thread. An error that this meets is delivered when fn has
 *     returned: fn is not called within itself, but several threads may be in it at once;
 *   - do not leave it by longjmp or an exception.
 *
 * When daxlite_media_callback() returns, the old fn is not running and is not called again, so arg can
 * be freed: it waits for calls under way. Therefore do not hold a lock that fn takes. Called from within
 * fn it does not wait for that call nor for those of other threads; fn is not called again once these
 * have returned.
 * Any thread, at any time, before or after daxlite_register(). */
DAXLITE_API void daxlite_media_callback(daxlite_media_fn fn, void *arg);

/* --- Memory -----------------------------------------------------------------------------------
 *
 * SQLite takes its page cache and its allocator from the program once, before it starts. A program
 * that wants daxlite's begins with
 *
 *     const char *why;
 *     if (daxlite_initialize(NULL, &why) != SQLITE_OK) ...  (before any other call of SQLite)
 *     if (daxlite_register(0) != SQLITE_OK) ...
 *
 * They serve every database of the process, also those that are not opened with vfs=dax.
 * docs/memory.md says what they are good for. Without this call SQLite uses its own, and everything
 * else works the same.
 */

/* What daxlite_initialize() sets up. Begin with DAXLITE_CONFIG_DEFAULT, change what is to differ. */
struct daxlite_config {
    size_t size;       /* of this struct: a later version may have fields behind these */
    int page_cache;    /* 1: daxlite's page cache; 0: SQLite's */
    int allocator;     /* 1: jemalloc for everything that SQLite allocates; 0: malloc() */
    int memory_status; /* 1: SQLite counts what it allocates, under a mutex, as it does by itself;
                          0: no, and sqlite3_memory_used() and the heap limits do nothing */
    unsigned long long page_cache_limit; /* bytes, of daxlite's page cache; 0: none */
};

#define DAXLITE_CONFIG_DEFAULT {sizeof(struct daxlite_config), 1, 1, 1, 0}

/* Give SQLite daxlite's page cache and jemalloc. Before SQLite starts: before any other call of
 * SQLite and before daxlite_register().
 *
 * config: is copied; NULL: DAXLITE_CONFIG_DEFAULT.
 * why_out: if not NULL, *why_out is set: a sentence that says what to do, "" on success. It is static
 *   and must not be freed.
 * Returns SQLITE_OK; SQLITE_MISUSE if SQLite is running already, if daxlite_initialize() was called
 *   before, or if config->size is wrong; SQLITE_ERROR if this library was built without jemalloc and
 *   config->allocator is 1, or if sqlite3_config() refuses. Nothing is changed in these cases.
 * Any thread, as long as no other one uses SQLite at the same time. What the program itself has set
 * with SQLITE_CONFIG_MALLOC, SQLITE_CONFIG_PCACHE2 or SQLITE_CONFIG_PAGECACHE before is replaced. */
DAXLITE_API int daxlite_initialize(const struct daxlite_config *config, const char **why_out);

/* Undo daxlite_initialize(): calls sqlite3_shutdown(), puts SQLite's former page cache and allocator
 * back, gives all memory of the page cache back. Needed only by programs that go on without SQLite,
 * or with another configuration. All connections must have been closed, and all memory that SQLite
 * has handed out been freed. Afterwards daxlite_initialize() can be called again; daxlite_register()
 * has to be.
 *
 * why_out: as above.
 * Returns SQLITE_OK; SQLITE_MISUSE without daxlite_initialize(); SQLITE_BUSY if connections are open
 *   (nothing is changed then); what sqlite3_shutdown() returns.
 * Any thread, as long as no other one uses SQLite at the same time. */
DAXLITE_API int daxlite_shutdown(const char **why_out);

/* Limit the page cache: bytes of pages, over all connections of the process; 0: no limit. Negative:
 * only ask. Returns the limit before the call. A connection that needs a page above the limit gives
 * up one of its own, or takes one from a connection that is idle. Pages that SQLite has in use at the
 * moment (those of running statements, those that a transaction has changed, in-memory databases)
 * cannot be given up: they may exceed the limit, and daxlite_memory.over_limit counts it.
 * `PRAGMA cache_size` limits each connection besides.
 * Any thread, any time. A lower limit takes effect as connections go on working;
 * daxlite_page_cache_shrink() makes room now. */
DAXLITE_API unsigned long long daxlite_page_cache_limit(long long bytes);

/* Give up every page of every connection that is not in use, and give the memory back to the kernel.
 * A connection that is inside the page cache at this moment does so with its next call.
 * sqlite3_db_release_memory() is the same for one connection. Returns the bytes by which
 * daxlite_memory.page_cache_allocated has become less. Any thread, any time. */
DAXLITE_API unsigned long long daxlite_page_cache_shrink(void);

/* What daxlite_memory_status() fills. Numbers that belong together may be a moment apart. */
struct daxlite_memory {
    size_t size;           /* of this struct: set it before the call */
    const char *allocator; /* "jemalloc 5.3.0...", or "libc": what this library uses. Static */
    int page_cache, heap;  /* 1: daxlite's page cache, jemalloc as SQLite's heap: are in use */
    unsigned long long page_cache_limit;     /* bytes, 0: none */
    unsigned long long page_cache_used;      /* bytes of pages, their extra space and tables */
    unsigned long long page_cache_used_most; /* the most that it was */
    unsigned long long page_cache_allocated; /* bytes taken from the allocator for it: used, or free
                                                for the next page. What was never used of it costs
                                                no memory */
    unsigned long long caches;       /* SQLite makes one for each database file of a connection */
    unsigned long long pages;        /* in all of them */
    unsigned long long pages_in_use; /* of these, by SQLite, at this moment */
    unsigned long long hits;         /* pages that SQLite asked for and that were there */
    unsigned long long misses;       /* ... and that it had to read, or make */
    unsigned long long evictions;    /* pages given up for others, for a limit, or on request */
    unsigned long long taken;        /* of these, by connections other than their own */
    unsigned long long over_limit;   /* pages made although the limit was met */
    unsigned long long process_allocated; /* bytes the process has from jemalloc; 0: libc */
    unsigned long long process_resident;  /* bytes of memory that jemalloc keeps; 0: libc */
};

/* Fill *out, as far as out->size goes. SQLITE_OK, or SQLITE_MISUSE if out->size was not set.
 * Any thread, any time, also without daxlite_initialize(). */
DAXLITE_API int daxlite_memory_status(struct daxlite_memory *out);

#ifdef __cplusplus
}
#endif

#endif
