/* guest_halt.c: stops the machine in the middle of a commit, a recovery or a close, between two stores or
 * within one.
 *
 * The engine's table of operations (persist.h) is taken over: each store, zeroing and fence that
 * happens within conn_commit, conn_open or conn_close counts down. At zero half of a store is made, and the
 * machine ends there by QEMU's debug-exit port: no instruction of the guest runs after it, nothing
 * that the kernel still holds in ordinary memory comes back.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <termios.h>
#include <unistd.h>

#include "engine/engine.h"
#include "engine/persist.h"
#include "include/daxlite.h"
#include "tests/vm/guest.h"

#define HALT_PORT 0xf4 /* vm.py gives the machine its device there */

enum phase {
    PHASE_NONE,
    PHASE_COMMIT,
    PHASE_OPEN,
    PHASE_CLOSE
};
static const char *const phase_names[] = {"", "commit", "open", "close"};

/* One thread works with the engine. */
static enum phase phase, armed;
static long commits_left, ops_left;
static unsigned points; /* ordering points passed in this commit or opening */
static const char *last_point = "none";

static const struct persist_ops *real_ops;

void halt_arm(const char *spec)
{
    char what[16] = "";
    if (!*spec)
        return;
    CHECK(sscanf(spec, "%15[a-z]:%ld:%ld", what, &commits_left, &ops_left) == 3, "%s", spec);
    for (unsigned i = 1; i < sizeof phase_names / sizeof *phase_names; i++)
        if (!strcmp(what, phase_names[i]))
            armed = (enum phase)i;
    CHECK(armed != PHASE_NONE, "%s", spec);
}

static void halt_now(void)
{
    test_say("halt %s, %u ordering points passed, the last %s", phase_names[phase], points,
             last_point);
    tcdrain(STDOUT_FILENO);
    CHECK(ioperm(HALT_PORT, 1, 1) == 0, "ioperm");
    outb(1, HALT_PORT);
    test_fail(__FILE__, __LINE__, "outb", "the machine has no debug-exit device");
}

/* Is this the operation to stop at? */
static bool halt_here(void)
{
    return armed != PHASE_NONE && phase == armed && commits_left <= 0 && --ops_left <= 0;
}

static void halt_store(struct persist *p, void *dst, const void *src, size_t len)
{
    if (halt_here()) {
        real_ops->store(p, dst, src, len / 2);
        halt_now();
    }
    real_ops->store(p, dst, src, len);
}

static void halt_zero(struct persist *p, void *dst, size_t len)
{
    if (halt_here()) {
        real_ops->zero(p, dst, len / 2);
        halt_now();
    }
    real_ops->zero(p, dst, len);
}

static void halt_store_cached(struct persist *p, void *dst, const void *src, size_t len)
{
    if (halt_here()) {
        real_ops->store_cached(p, dst, src, len / 2);
        halt_now();
    }
    real_ops->store_cached(p, dst, src, len);
}

static void halt_flush(struct persist *p, const void *addr, size_t len)
{
    if (halt_here())
        halt_now();
    real_ops->flush(p, addr, len);
}

static void halt_fence(struct persist *p)
{
    if (halt_here())
        halt_now();
    real_ops->fence(p);
}

static struct persist_ops halting;

void __real_persist_init(struct persist *p, enum persist_mode mode, int base_fd);
void __wrap_persist_init(struct persist *p, enum persist_mode mode, int base_fd);
void __wrap_persist_init(struct persist *p, enum persist_mode mode, int base_fd)
{
    __real_persist_init(p, mode, base_fd);
    real_ops = p->ops;
    halting = *p->ops;
    halting.store = halt_store;
    halting.zero = halt_zero;
    halting.store_cached = halt_store_cached;
    halting.flush = halt_flush;
    halting.fence = halt_fence;
    p->ops = &halting;
}

dax_rc __real_persist_point(struct persist *p, enum persist_tag tag, struct dax_err *err);
dax_rc __wrap_persist_point(struct persist *p, enum persist_tag tag, struct dax_err *err);
dax_rc __wrap_persist_point(struct persist *p, enum persist_tag tag, struct dax_err *err)
{
    static const char *const names[] = {"P1", "P2", "P3", "P4", "P5", "P6", "P7"};
    dax_rc rc = __real_persist_point(p, tag, err);
    points++;
    last_point = names[tag];
    return rc;
}

static void enter(enum phase p)
{
    phase = p;
    points = 0;
    last_point = "none";
}

dax_rc __real_conn_commit(struct conn *c, struct dax_err *err);
dax_rc __wrap_conn_commit(struct conn *c, struct dax_err *err);
dax_rc __wrap_conn_commit(struct conn *c, struct dax_err *err)
{
    enter(PHASE_COMMIT);
    commits_left--;
    dax_rc rc = __real_conn_commit(c, err);
    phase = PHASE_NONE;
    return rc;
}

dax_rc __real_conn_open(const char *path, const struct dax_options *options, struct conn **out,
                        struct dax_err *err);
dax_rc __wrap_conn_open(const char *path, const struct dax_options *options, struct conn **out,
                        struct dax_err *err);
dax_rc __wrap_conn_open(const char *path, const struct dax_options *options, struct conn **out,
                        struct dax_err *err)
{
    enter(PHASE_OPEN);
    dax_rc rc = __real_conn_open(path, options, out, err);
    phase = PHASE_NONE;
    return rc;
}

dax_rc __real_conn_close(struct conn *c, struct dax_err *err);
dax_rc __wrap_conn_close(struct conn *c, struct dax_err *err);
dax_rc __wrap_conn_close(struct conn *c, struct dax_err *err)
{
    enter(PHASE_CLOSE);
    dax_rc rc = __real_conn_close(c, err);
    phase = PHASE_NONE;
    return rc;
}

void test_register(void)
{
    CHECK(daxlite_register(0) == SQLITE_OK, "daxlite_register");
}
