/* initialize.c: daxlite_initialize and daxlite_shutdown: what has to be set before SQLite starts;
 * memory as the C API shows it.
 *
 * SQLite takes its allocator and its page cache once, in sqlite3_initialize(), which nearly every
 * call of it makes by itself; sqlite3_config() says SQLITE_MISUSE from then on. That is how a wrong
 * order of calls is noticed. What was set before is kept, and put back by daxlite_shutdown.
 *
 * Locking: lock (above all others; held over calls of SQLite) guards `state`.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "include/daxlite.h"
#include "vfs/heap.h"
#include "vfs/memory.h"
#include "vfs/names.h"
#include "vfs/page_cache.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct {
    bool initialized;
    struct daxlite_config config;
    sqlite3_mem_methods heap; /* as they were before */
    sqlite3_pcache_methods2 page_cache;
} state;

static int initialize_refuse(int rc, const char **why_out, const char *why)
{
    if (why_out)
        *why_out = why;
    return rc;
}

static const char text_started[] =
    "daxlite_initialize() must come before SQLite starts, and SQLite is running already: something "
    "has called sqlite3_initialize(), opened a database, registered a VFS or allocated memory. "
    "Call "
    "daxlite_initialize() first, or after sqlite3_shutdown() with all connections closed";

/* A caller that was compiled with an earlier daxlite.h has a shorter struct. */
static int initialize_take(const struct daxlite_config *config, struct daxlite_config *out,
                           const char **why_out)
{
    *out = (struct daxlite_config)DAXLITE_CONFIG_DEFAULT;
    if (!config)
        return SQLITE_OK;
    if (config->size < offsetof(struct daxlite_config, page_cache) || config->size > 4096)
        return initialize_refuse(SQLITE_MISUSE, why_out,
                                 "daxlite_config.size is not the struct's size: begin with "
                                 "DAXLITE_CONFIG_DEFAULT");
    if (config->size > sizeof *out)
        return initialize_refuse(SQLITE_MISUSE, why_out,
                                 "daxlite_config is larger than this library knows: daxlite.h is "
                                 "newer than libdaxlite");
    memcpy(out, config, config->size);
    out->size = sizeof *out;
    return SQLITE_OK;
}

/* Put everything back. SQLite is not running. */
static void initialize_undo(void)
{
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 1);
    (void)sqlite3_config(SQLITE_CONFIG_MALLOC, &state.heap);
    (void)sqlite3_config(SQLITE_CONFIG_PCACHE2, &state.page_cache);
}

static int initialize_install(const struct daxlite_config *config)
{
    int rc = SQLITE_OK;
    if (!config->memory_status)
        rc = sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    if (rc == SQLITE_OK && config->allocator)
        rc = sqlite3_config(SQLITE_CONFIG_MALLOC, &heap_methods);
    if (rc == SQLITE_OK && config->page_cache)
        rc = sqlite3_config(SQLITE_CONFIG_PCACHE2, &page_cache_methods);
    return rc;
}

static int initialize_locked(const struct daxlite_config *wanted, const char **why_out)
{
    struct daxlite_config config;
    if (state.initialized)
        return initialize_refuse(SQLITE_MISUSE, why_out,
                                 "daxlite_initialize() was called before: call daxlite_shutdown() "
                                 "first");
    int rc = initialize_take(wanted, &config, why_out);
    if (rc != SQLITE_OK)
        return rc;
    if (config.allocator && !memory_is_jemalloc())
        return initialize_refuse(SQLITE_ERROR, why_out,
                                 "this libdaxlite was built without jemalloc: set "
                                 "daxlite_config.allocator to 0");
    /* These two change nothing, and are refused once SQLite runs. */
    if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &state.heap) != SQLITE_OK ||
        sqlite3_config(SQLITE_CONFIG_GETPCACHE2, &state.page_cache) != SQLITE_OK)
        return initialize_refuse(SQLITE_MISUSE, why_out, text_started);
    rc = initialize_install(&config);
    if (rc !=
        SQLITE_OK) { /* another thread has started SQLite just now, or SQLite was built without */
        initialize_undo();
        return initialize_refuse(
            rc, why_out,
            "sqlite3_config() refused: another thread starts SQLite at the same "
            "time, or this SQLite is built without what was asked for");
    }
    page_cache_set_limit(config.page_cache_limit);
    state.config = config;
    state.initialized = true;
    return SQLITE_OK;
}

int daxlite_initialize(const struct daxlite_config *config, const char **why_out)
{
    if (why_out)
        *why_out = "";
    pthread_mutex_lock(&lock);
    int rc = initialize_locked(config, why_out);
    pthread_mutex_unlock(&lock);
    return rc;
}

static int shutdown_locked(const char **why_out)
{
    if (!state.initialized)
        return initialize_refuse(SQLITE_MISUSE, why_out,
                                 "daxlite_shutdown() without daxlite_initialize()");
    if (page_cache_count() || names_any())
        return initialize_refuse(SQLITE_BUSY, why_out,
                                 "connections are open: close all of them, then call "
                                 "daxlite_shutdown() again");
    int rc = sqlite3_shutdown();
    if (rc != SQLITE_OK)
        return initialize_refuse(rc, why_out, "sqlite3_shutdown() failed");
    initialize_undo();
    page_cache_set_limit(0);
    state.initialized = false;
    return SQLITE_OK;
}

int daxlite_shutdown(const char **why_out)
{
    if (why_out)
        *why_out = "";
    pthread_mutex_lock(&lock);
    int rc = shutdown_locked(why_out);
    pthread_mutex_unlock(&lock);
    return rc;
}

unsigned long long daxlite_page_cache_limit(long long bytes)
{
    unsigned long long before = page_cache_limit();
    if (bytes >= 0)
        page_cache_set_limit((uint64_t)bytes);
    return before;
}

unsigned long long daxlite_page_cache_shrink(void)
{
    return page_cache_shrink();
}

int daxlite_memory_status(struct daxlite_memory *out)
{
    if (!out || out->size < offsetof(struct daxlite_memory, allocator) || out->size > 4096)
        return SQLITE_MISUSE;
    pthread_mutex_lock(&lock);
    bool initialized = state.initialized;
    struct daxlite_config config = state.config;
    pthread_mutex_unlock(&lock);
    struct page_cache_status s;
    struct memory_process process;
    page_cache_status(&s);
    (void)memory_process_status(&process);
    struct daxlite_memory m = {
        .size = out->size,
        .allocator = memory_name(),
        .page_cache = initialized && config.page_cache,
        .heap = initialized && config.allocator,
        .page_cache_limit = s.limit,
        .page_cache_used = s.used,
        .page_cache_used_most = s.used_most,
        .page_cache_allocated = s.allocated,
        .caches = s.caches,
        .pages = s.pages,
        .pages_in_use = s.pages_in_use,
        .hits = s.hits,
        .misses = s.misses,
        .evictions = s.evictions,
        .taken = s.taken,
        .over_limit = s.over_limit,
        .process_allocated = process.allocated,
        .process_resident = process.resident,
    };
    memcpy(out, &m, out->size < sizeof m ? out->size : sizeof m);
    return SQLITE_OK;
}
