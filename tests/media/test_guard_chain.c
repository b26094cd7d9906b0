/* test_guard_chain.c: a SIGBUS that is not ours reaches the application, unchanged.
 *
 * Catches: a foreign fault that a guard swallows; a handler of the application that is not called, not
 * with what the kernel said, or not in the way that it was installed; a default action that strikes in
 * the wrong place; kill(2) taken for a fault; a handler installed after ours that is lost, or with
 * which ours is lost, or that chains in a circle; asynchronous reports that jump.
 */
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>

#include "tests/media/guard.h"

static void touch_foreign(void *arg)
{
    *(uint8_t *)arg = app_touch();
}

/* The application's own page faults once: inside of a guard and outside. What it does then is what the
 * application's handler, installed before, makes of it: `loaded` when it comes back. */
static void fault_foreign(bool inside)
{
    uint8_t loaded = 77;
    if (inside)
        MUST(guard_call(touch_foreign, &loaded, NULL));
    else
        touch_foreign(&loaded);
    MUST(loaded == 0);
}

static int end_with(bool ok)
{
    return ok && guard_works() ? 0 : 1;
}

/* --- kinds of handlers ---------------------------------------------------------------------------------- */

static int chained_info(void *arg)
{
    app_make();
    app_install_info(app_handler_info, 0, NULL);
    guard_start();
    fault_foreign(arg != NULL);
    MUST(app_calls == 1 && app_got_context);
    MUST(app_info.si_signo == SIGBUS && app_info.si_code == BUS_ADRERR && app_info.si_errno == 0);
    MUST(app_info.si_addr == place_at(&app, 1));
    struct guard_counts n;
    guard_count(&n);
    MUST(n.passed_on == 1 && n.caught == 0);
    return end_with(app_calls == 1);
}

static int chained_plain(void *arg)
{
    app_make();
    app_install_plain(app_handler_plain);
    guard_start();
    fault_foreign(arg != NULL);
    return end_with(app_calls == 1);
}

static int chained_default(void *arg)
{
    app_make();
    signal(SIGBUS, SIG_DFL);
    guard_start();
    MUST(guard_works());
    fault_foreign(arg != NULL);
    return 0;
}

static int chained_ignore(void *arg)
{
    app_make();
    signal(SIGBUS, SIG_IGN);
    guard_start();
    MUST(guard_works());
    fault_foreign(arg != NULL);
    return 0;
}

START_TEST(a_foreign_fault_reaches_the_handler_there_was)
{
    for (int inside = 0; inside < 2; inside++) {
        void *arg = inside ? &app : NULL;
        ck_assert_int_eq(child_of(chained_info, arg), 0);
        ck_assert_int_eq(child_of(chained_plain, arg), 0);
        ck_assert_int_eq(child_of(chained_default, arg), -SIGBUS);
        ck_assert_int_eq(child_of(chained_ignore, arg), -SIGBUS);
    }
}
END_TEST

/* A handler that jumps: the application's way of going on. */
static sigjmp_buf app_env;
static void app_handler_jumps(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)info;
    (void)context;
    app_calls++;
    siglongjmp(app_env, 1);
}

static int chained_jump(void *arg)
{
    (void)arg;
    app_make();
    app_install_info(app_handler_jumps, 0, NULL);
    guard_start();
    for (volatile int i = 0; i < 100; i++) {
        if (sigsetjmp(app_env, 1) == 0) {
            app_touch();
            return 1;
        }
        MUST(guard_works());
    }
    return end_with(app_calls == 100);
}

START_TEST(a_handler_that_jumps_out_finds_everything_as_it_was)
{
    ck_assert_int_eq(child_of(chained_jump, NULL), 0);
}
END_TEST

/* --- where the default action strikes ---------------------------------------------------------------------- */

static struct place ours;

static int traced(bool in_ours)
{
    signal(SIGBUS, SIG_DFL);
    guard_start();
    app_make();
    place_make_known(&ours, 2, 1);
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        _exit(77);
    return in_ours ? *(volatile uint8_t *)place_at(&ours, 1) : app_touch();
}

/* The last SIGBUS before death is at the load itself, not in a handler or in raise(). */
static void dies_at_the_load(bool in_ours)
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        _exit(traced(in_ours));
    unsigned long first = 0, last = 0;
    siginfo_t info = {0};
    int status = 0, stops = 0;
    while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
        struct user_regs_struct regs;
        if (WSTOPSIG(status) == SIGBUS) {
            ck_assert_int_eq(ptrace(PTRACE_GETREGS, pid, NULL, &regs), 0);
            ck_assert_int_eq(ptrace(PTRACE_GETSIGINFO, pid, NULL, &info), 0);
            last = regs.rip;
            first = stops++ == 0 ? last : first;
        }
        ck_assert_int_lt(stops, 100);
        ptrace(PTRACE_CONT, pid, NULL, (void *)(uintptr_t)WSTOPSIG(status));
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        printf("SKIPPED: ptrace is not permitted here\n");
        return;
    }
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS, "status %x", status);
    ck_assert_int_ge(stops, 2);
    ck_assert_uint_eq(first, last);
    ck_assert_int_eq(info.si_code, BUS_ADRERR);
}

START_TEST(the_default_action_strikes_at_the_load)
{
    dies_at_the_load(false);
    dies_at_the_load(true);
}
END_TEST

/* --- kill(2) ------------------------------------------------------------------------------------------------ */

static void kill_self(void *arg)
{
    (void)arg;
    kill(getpid(), SIGBUS);
}

static void queue_self(void *arg)
{
    union sigval value = {.sival_ptr = arg}; /* where a fault's address would be */
    sigqueue(getpid(), SIGBUS, value);
}

static void app_handler_counts(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)context;
    app_info = *info;
    app_calls++;
}

static int killed_with_handler(void *arg)
{
    (void)arg;
    app_install_info(app_handler_counts, 0, NULL);
    guard_start();
    place_make_known(&ours, 2, 1);
    kill_self(NULL);
    MUST(app_calls == 1 && app_info.si_code == SI_USER && app_info.si_pid == getpid());
    MUST(guard_call(kill_self, NULL, NULL) && app_calls == 2);
    queue_self(place_at(&ours, 1));
    MUST(app_calls == 3 && app_info.si_code == SI_QUEUE);
    MUST(guard_call(queue_self, place_at(&ours, 1), NULL) && app_calls == 4);
    MUST(app_info.si_value.sival_ptr == place_at(&ours, 1));
    return end_with(app_calls == 4);
}

static int killed_ignored(void *arg)
{
    (void)arg;
    signal(SIGBUS, SIG_IGN);
    guard_start();
    for (int i = 0; i < 10; i++)
        kill_self(NULL);
    MUST(guard_call(kill_self, NULL, NULL));
    return end_with(true);
}

static int killed_default(void *arg)
{
    signal(SIGBUS, SIG_DFL);
    guard_start();
    MUST(guard_works());
    if (arg)
        return guard_call(kill_self, NULL, NULL) + 1;
    kill_self(NULL);
    return 1;
}

START_TEST(kill_goes_to_the_application)
{
    ck_assert_int_eq(child_of(killed_with_handler, NULL), 0);
    ck_assert_int_eq(child_of(killed_ignored, NULL), 0);
    ck_assert_int_eq(child_of(killed_default, NULL), -SIGBUS);
    ck_assert_int_eq(child_of(killed_default, &app), -SIGBUS);
}
END_TEST

/* --- the order of installing ---------------------------------------------------------------------------------- */

static struct sigaction app_next; /* what the application's handler chains to */

static void app_handler_chains(int sig, siginfo_t *info, void *context)
{
    app_calls++;
    if (app_calls > 50)
        return; /* in a circle: the load is repeated for ever, and alarm ends it */
    if (app_next.sa_flags & SA_SIGINFO)
        app_next.sa_sigaction(sig, info, context);
    else
        signal(SIGBUS, SIG_DFL);
}

/* Its handler passes on what it does not know: both work, before and after the next open. */
static int installed_after_and_chains(void *arg)
{
    (void)arg;
    signal(SIGBUS, SIG_DFL);
    guard_start();
    MUST(guard_works());
    app_install_info(app_handler_chains, SA_NODEFER | SA_ONSTACK, &app_next);
    MUST(guard_works() && app_calls == 1);
    dax_log_set(guard_log_line);
    guard_start();
    MUST(strstr(guard_log, "SIGBUS"));
    MUST(guard_works() && app_calls == 1); /* ours is in front again */
    guard_log[0] = '\0';
    guard_start();
    MUST(guard_log[0] == '\0'); /* nothing has changed, nothing is said */
    return end_with(true);
}

/* The same, and a foreign fault then: each of the two handlers passes it to the other. */
static int foreign_in_a_circle(void *arg)
{
    (void)arg;
    app_make();
    signal(SIGBUS, SIG_DFL);
    guard_start();
    app_install_info(app_handler_chains, SA_NODEFER | SA_ONSTACK, &app_next);
    guard_start();
    return app_touch() + 1;
}

/* Crash reporters: put back what they found, and let it happen again. */
static void app_handler_restores(int sig, siginfo_t *info, void *context)
{
    (void)info;
    (void)context;
    if (++app_calls > 50)
        _exit(95);
    sigaction(sig, &app_next, NULL);
}

static void app_handler_raises(int sig, siginfo_t *info, void *context)
{
    app_handler_restores(sig, info, context);
    raise(sig);
}

static int reporter_installed_after(void *arg)
{
    app_make();
    signal(SIGBUS, SIG_DFL);
    guard_start();
    app_install_info(arg ? app_handler_raises : app_handler_restores, SA_NODEFER, &app_next);
    guard_start();
    MUST(guard_works() && app_calls == 0);
    return app_touch() + 1;
}

/* Its handler knows nothing of ours: the next open puts ours in front of it. */
static int installed_after(void *arg)
{
    app_make();
    signal(SIGBUS, SIG_DFL);
    guard_start();
    if (arg)
        app_install_plain(app_handler_plain);
    else
        app_install_info(app_handler_info, 0, NULL);
    dax_log_set(guard_log_line);
    guard_start();
    MUST(strstr(guard_log, "SIGBUS"));
    MUST(guard_works() && app_calls == 0);
    fault_foreign(false);
    return end_with(app_calls == 1);
}

/* A library that saves the old handler around its own, as many do. */
static int old_one_restored(void *arg)
{
    struct sigaction before, ours_then;
    (void)arg;
    app_make();
    app_install_plain(app_handler_plain);
    MUST(sigaction(SIGBUS, NULL, &before) == 0);
    guard_start();
    MUST(sigaction(SIGBUS, NULL, &ours_then) == 0 && ours_then.sa_handler != app_handler_plain);
    MUST(sigaction(SIGBUS, &before, NULL) == 0); /* ours is gone */
    dax_log_set(guard_log_line);
    guard_start();
    MUST(strstr(guard_log, "SIGBUS"));
    MUST(guard_works() && app_calls == 0);
    fault_foreign(false);
    MUST(app_calls == 1);
    /* And a restored one of ours is nothing to speak of. */
    guard_log[0] = '\0';
    MUST(sigaction(SIGBUS, &ours_then, NULL) == 0);
    guard_start();
    MUST(guard_log[0] == '\0');
    return end_with(true);
}

/* Put in front again and again: the chain does not grow into a circle of our own. */
static int many_times(void *arg)
{
    (void)arg;
    app_make();
    for (int i = 0; i < 1000; i++) {
        if (i % 2)
            app_install_plain(app_handler_plain);
        else
            app_install_info(app_handler_info, 0, NULL);
        guard_start();
        MUST(guard_works() && app_calls == 0);
    }
    fault_foreign(true);
    return end_with(app_calls == 1);
}

START_TEST(handlers_installed_later_are_noticed_and_kept)
{
    ck_assert_int_eq(child_of(installed_after_and_chains, NULL), 0);
    ck_assert_int_eq(child_of(installed_after, NULL), 0);
    ck_assert_int_eq(child_of(installed_after, &app), 0);
    ck_assert_int_eq(child_of(old_one_restored, NULL), 0);
    ck_assert_int_eq(child_of(many_times, NULL), 0);
}
END_TEST

START_TEST(two_handlers_that_chain_to_each_other_end)
{
    ck_assert_int_eq(child_of(foreign_in_a_circle, NULL), -SIGBUS);
    ck_assert_int_eq(child_of(reporter_installed_after, NULL), -SIGBUS);
    ck_assert_int_eq(child_of(reporter_installed_after, &app), -SIGBUS);
}
END_TEST

/* --- while the application's handler runs ------------------------------------------------------------------------ */

static void app_handler_faults(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)info;
    (void)context;
    if (app_calls++ > 50)
        _exit(95); /* again and again: with its own flags it would have died */
    app_touch();
}

static int fault_in_handler(void *arg)
{
    (void)arg;
    app_make();
    app_install_info(app_handler_faults, 0, NULL);
    guard_start();
    MUST(guard_works());
    return app_touch() + 1;
}

/* As the kernel would have it, without SA_NODEFER. */
START_TEST(a_fault_in_the_applications_handler_ends_the_process)
{
    ck_assert_int_eq(child_of(fault_in_handler, NULL), -SIGBUS);
}
END_TEST

/* --- reports of memory failure --------------------------------------------------------------------------------------- */

struct report {
    uint8_t *addr;
    int code;
    short lsb;
};

/* As the kernel sends it: to this thread, with a code that only the kernel may use on others. */
static void report_self(void *arg)
{
    const struct report *r = arg;
    siginfo_t info = {.si_signo = SIGBUS, .si_code = r->code};
    info.si_addr = r->addr;
    info.si_addr_lsb = r->lsb;
    if (syscall(SYS_rt_tgsigqueueinfo, getpid(), (pid_t)syscall(SYS_gettid), SIGBUS, &info) != 0)
        _exit(94);
}

static int reports(void *arg)
{
    struct guard_fault fault = {0};
    struct guard_counts n;
    uint64_t offsets[4];
    (void)arg;
    app_make();
    app_install_info(app_handler_counts, 0, NULL);
    guard_start();
    place_make(&ours, 2048, 4);
    place_add(&ours, 16 * PAGE);

    struct report needed = {place_at(&ours, 1) + 64, BUS_MCEERR_AR, 12};
    MUST(!guard_call(report_self, &needed, &fault));
    MUST(fault.addr == needed.addr && fault.bytes == PAGE && fault.code == BUS_MCEERR_AR);
    needed.lsb = 21; /* a 2 MiB mapping */
    MUST(!guard_call(report_self, &needed, &fault) && fault.bytes == 2 << 20);

    struct report late = {place_at(&ours, 3), BUS_MCEERR_AO, 12};
    MUST(guard_call(report_self, &late, &fault)); /* never a jump */
    report_self(&late);
    late.addr = place_at(&ours, 2);
    report_self(&late);
    MUST(app_calls == 0);
    guard_count(&n);
    MUST(n.late == 3 && n.caught == 2);
    size_t taken = guard_take_late(&ours.owner, offsets, 4);
    MUST(taken >= 2 && taken <= 3);
    MUST(offsets[0] == 19 * PAGE && offsets[taken - 1] == 18 * PAGE);
    MUST(guard_take_late(&ours.owner, offsets, 4) == 0);
    MUST(guard_take_late(&app.owner, offsets, 4) == 0);

    /* Sent by a process, whatever it says of an address: with si_code <= 0 it is no fault. */
    struct report sent = {place_at(&ours, 1), SI_QUEUE, 0};
    MUST(guard_call(report_self, &sent, NULL) && app_calls == 1 && app_info.si_code == SI_QUEUE);
    app_calls = 0;

    late.addr = app.map; /* somebody else's memory */
    report_self(&late);
    MUST(app_calls == 1 && app_info.si_code == BUS_MCEERR_AO && app_info.si_addr == app.map);
    MUST(guard_call(report_self, &late, NULL) && app_calls == 2);
    return end_with(true);
}

START_TEST(reports_of_memory_failure_are_told_apart)
{
    ck_assert_int_eq(child_of(reports, NULL), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("guard_chain");
    TCase *tc = tcase_create("chain");
    tcase_add_checked_fixture(tc, unit_setup, NULL);
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, a_foreign_fault_reaches_the_handler_there_was);
    tcase_add_test(tc, a_handler_that_jumps_out_finds_everything_as_it_was);
    tcase_add_test(tc, the_default_action_strikes_at_the_load);
    tcase_add_test(tc, kill_goes_to_the_application);
    tcase_add_test(tc, handlers_installed_later_are_noticed_and_kept);
    tcase_add_test(tc, two_handlers_that_chain_to_each_other_end);
    tcase_add_test(tc, a_fault_in_the_applications_handler_ends_the_process);
    tcase_add_test(tc, reports_of_memory_failure_are_told_apart);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
