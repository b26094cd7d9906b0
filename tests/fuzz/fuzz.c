/* fuzz.c: directory, verdict and tracing of the fuzz targets; libFuzzer's entry points. */
#include "tests/fuzz/fuzz.h"

#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[FUZZ_PATH_BYTES - 64];
static pid_t dir_owner;

static int fuzz_remove_one(const char *path, const struct stat *st, int flag, struct FTW *w)
{
    (void)st;
    (void)flag;
    (void)w;
    return remove(path);
}

static void fuzz_remove_dir(void)
{
    if (dir[0] && dir_owner == getpid())
        nftw(dir, fuzz_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_dir(void)
{
    if (!dir[0]) {
        const char *where = getenv("DAX_TEST_DIR");
        snprintf(dir, sizeof dir, "%.200s/daxlite-fuzz-XXXXXX",
                 where && *where ? where : "/dev/shm");
        if (!mkdtemp(dir)) {
            perror(dir);
            exit(EXIT_FAILURE);
        }
        dir_owner = getpid();
        atexit(fuzz_remove_dir);
    }
    return dir;
}

void fuzz_path(char out[FUZZ_PATH_BYTES], const char *name)
{
    snprintf(out, FUZZ_PATH_BYTES, "%s/%s", fuzz_dir(), name);
}

void fuzz_fail(const char *file, int line, const char *fmt, ...)
{
    va_list ap;
    fprintf(stderr, "%s:%d: ", file, line);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    fflush(NULL);
    fuzz_remove_dir();
    abort();
}

void fuzz_check_error(dax_rc rc, const struct dax_err *err, const char *call)
{
    FUZZ_CHECK(rc > DAX_OK && rc <= DAX_MISUSE, "%s: code %d", call, (int)rc);
    FUZZ_CHECK(err->rc == rc, "%s answers %s but its error is %s: %s", call, dax_rc_name(rc),
               dax_rc_name(err->rc), err->text);
    size_t len = strnlen(err->text, sizeof err->text);
    FUZZ_CHECK(len > 8 && len < sizeof err->text, "%s: %s with the text \"%.40s\"", call,
               dax_rc_name(rc), err->text);
}

bool fuzz_tracing(void)
{
    static int on = -1;
    if (on < 0)
        on = getenv("DAX_FUZZ_TRACE") != NULL;
    return on;
}

void fuzz_trace(const char *fmt, ...)
{
    va_list ap;
    if (!fuzz_tracing())
        return;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

/* --- the address sanitizer ------------------------------------------------------------------------ */

/* A large allocation is a failure: no count that was read from a file may size one. The rest is speed. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "max_allocation_size_mb=512:quarantine_size_mb=16:malloc_context_size=8";
}

/* --- libFuzzer ------------------------------------------------------------------------------------ */

/* Called by libFuzzer, which has no header for them. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    (void)fuzz_dir();
    fuzz_start();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    fuzz_one(data, bytes);
    return 0;
}
