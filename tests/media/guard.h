/* guard.h: what the guard's tests share: mappings that fail, children whose death is a result.
 */
#ifndef TESTS_MEDIA_GUARD_H
#define TESTS_MEDIA_GUARD_H

#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "engine/guard.h"
#include "tests/media/poison.h"
#include "tests/unit/unit.h"

#define PAGE ((size_t)POISON_PAGE_BYTES)

/* A mapped file of `pages` pages; those from the end of the file on fault. Byte i of page p is
 * place_byte(p, i). */
struct place {
    struct guard_owner owner; /* first: the owner's functions get from it to the place */
    int fd;
    uint8_t *map;
    size_t pages;
    atomic_int rescues, fatals;
    _Atomic uint64_t asked; /* offset that rescue was last called with */
};

static inline uint8_t place_byte(size_t page, size_t i)
{
    return (uint8_t)(page * 7 + i * 13 + 1);
}

static inline void place_fill(struct place *p, size_t pages)
{
    static _Thread_local uint8_t page[POISON_PAGE_BYTES];
    for (size_t k = 0; k < pages; k++) {
        for (size_t i = 0; i < PAGE; i++)
            page[i] = place_byte(k, i);
        ck_assert_int_eq(pwrite(p->fd, page, PAGE, (off_t)(k * PAGE)), (ssize_t)PAGE);
    }
}

static inline bool place_cannot(struct guard_owner *o, uint64_t offset,
                                const struct guard_fault *fault)
{
    (void)o;
    (void)offset;
    (void)fault;
    return false;
}

static inline void place_is_silent(struct guard_owner *o, uint64_t offset,
                                   const struct guard_fault *fault)
{
    (void)o;
    (void)offset;
    (void)fault;
}

/* The first `good` of its pages can be loaded. Known to nobody yet. */
static inline void place_make(struct place *p, size_t pages, size_t good)
{
    memset(p, 0, sizeof *p);
    p->fd = memfd_create("place", MFD_CLOEXEC);
    p->pages = pages;
    p->owner = (struct guard_owner){place_cannot, place_is_silent};
    ck_assert_int_ge(p->fd, 0);
    place_fill(p, good);
    p->map = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, 0);
    ck_assert_ptr_ne(p->map, MAP_FAILED);
}

static inline void place_add(struct place *p, uint64_t offset)
{
    struct dax_err err;
    unit_ok(guard_map_add(p->map, p->pages * PAGE, offset, &p->owner, &err));
}

/* A known one. */
static inline void place_make_known(struct place *p, size_t pages, size_t good)
{
    place_make(p, pages, good);
    place_add(p, 0);
}

static inline void place_end(struct place *p)
{
    guard_map_remove(p->map);
    munmap(p->map, p->pages * PAGE);
    close(p->fd);
}

static inline uint8_t *place_at(struct place *p, size_t page)
{
    return p->map + page * PAGE;
}

static inline void guard_start(void)
{
    struct dax_err err;
    unit_ok(guard_install(&err));
}

/* --- log lines ------------------------------------------------------------------------------------ */

static char guard_log[4096];
static inline void guard_log_line(dax_rc rc, const char *text)
{
    (void)rc;
    size_t n = strlen(guard_log);
    snprintf(guard_log + n, sizeof guard_log - n, "%s\n", text);
}

/* --- children --------------------------------------------------------------------------------------- */

/* How fn(arg) ends in a child: its exit status, or -signal. An endless loop ends with SIGALRM. */
static inline int child_of(int (*fn)(void *), void *arg)
{
    fflush(NULL);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        prctl(PR_SET_DUMPABLE, 0); /* no core file */
        alarm(60);
        _exit(fn(arg));
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        ck_assert_int_eq(errno, EINTR);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* In a child: condition, or its line as the exit status. */
#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: in a child: %s\n", __FILE__, __LINE__, #cond);                 \
            _exit(99);                                                                             \
        }                                                                                          \
    } while (0)

/* --- the application -------------------------------------------------------------------------------- */

/* Not known to the guard; its second page faults until app_mend. */
static struct place app;
static volatile sig_atomic_t app_calls;
static volatile siginfo_t app_info; /* syscall() is declared to call nothing here: reload it */
static volatile sig_atomic_t app_got_context;

static inline void app_make(void)
{
    place_make(&app, 2, 1);
}

static inline void app_mend(void)
{
    if (ftruncate(app.fd, 2 * (off_t)PAGE) != 0)
        _exit(98);
}

/* Handlers that mend the page, as an application might: the load is repeated and succeeds. */
static inline void app_handler_info(int sig, siginfo_t *info, void *context)
{
    app_calls += sig == SIGBUS;
    app_info = *info;
    app_got_context = context != NULL;
    app_mend();
}

static inline void app_handler_plain(int sig)
{
    app_calls += sig == SIGBUS;
    app_mend();
}

static inline void app_install_info(void (*fn)(int, siginfo_t *, void *), int flags,
                                    struct sigaction *old)
{
    struct sigaction sa = {.sa_sigaction = fn, .sa_flags = SA_SIGINFO | flags};
    if (sigaction(SIGBUS, &sa, old) != 0)
        _exit(97);
}

static inline void app_install_plain(void (*fn)(int))
{
    struct sigaction sa = {.sa_handler = fn};
    if (sigaction(SIGBUS, &sa, NULL) != 0)
        _exit(97);
}

/* The application's own load that faults; what it loaded. A function of its own, so that the place
 * of death can be told. */
__attribute__((noinline)) static uint8_t app_touch(void)
{
    return *(volatile uint8_t *)place_at(&app, 1);
}

/* A fault of ours is caught, as ever. */
static inline bool guard_works(void)
{
    static struct place p;
    static bool made;
    struct guard_fault fault = {0};
    if (!made) {
        place_make_known(&p, 2, 1);
        made = true;
    }
    return guard_probe(p.map, PAGE, &fault) && !guard_probe(place_at(&p, 1), PAGE, &fault) &&
           fault.addr == place_at(&p, 1);
}

#endif
