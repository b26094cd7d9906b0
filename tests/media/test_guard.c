/* test_guard.c: a fault in a known mapping ends a guarded call, and nothing else.
 *
 * Catches: a fault that is not caught, or caught with the wrong address; a copy or a probe that looks
 * at too much or too little; a guard that stays open after a fault; threads that get each other's
 * faults; a mapping that is still known after it was removed, or unknown while others come and go; a
 * handler that needs the thread's own stack; a crash of the guard's or the owner's own code that is
 * taken for a media error.
 */
#include <pthread.h>
#include <stdio.h>

#include "tests/media/guard.h"

static uint64_t caught_here(void)
{
    struct guard_counts n;
    guard_count(&n);
    return n.caught;
}

/* --- what is caught -------------------------------------------------------------------------------- */

START_TEST(a_copy_tells_a_fault_from_none)
{
    struct place p;
    struct guard_fault fault = {0};
    uint8_t buf[2 * POISON_PAGE_BYTES];
    guard_start();
    place_make_known(&p, 4, 2);
    ck_assert(guard_copy(buf, p.map, 2 * PAGE, &fault));
    ck_assert_int_eq(memcmp(buf, p.map, 2 * PAGE), 0);
    ck_assert_ptr_null(fault.addr);
    ck_assert_uint_eq(caught_here(), 0);

    ck_assert(!guard_copy(buf, place_at(&p, 1) + 1, PAGE, &fault));
    ck_assert(fault.addr >= place_at(&p, 2) && fault.addr < place_at(&p, 3));
    ck_assert_int_eq(fault.code, BUS_ADRERR);
    ck_assert(fault.bytes >= 1 && fault.bytes <= PAGE && (fault.bytes & (fault.bytes - 1)) == 0);
    ck_assert(!guard_copy(place_at(&p, 3), buf, 64, &fault)); /* a store */
    ck_assert(fault.addr >= place_at(&p, 3) && fault.addr < place_at(&p, 3) + 64);
    ck_assert(!guard_copy(buf, place_at(&p, 2), 1, NULL));
    ck_assert(guard_copy(place_at(&p, 1), buf, 64, NULL));
    ck_assert(guard_copy(buf, place_at(&p, 2), 0, NULL));
    ck_assert_uint_eq(caught_here(), 3);

    place_fill(&p, 4); /* the pages are good again */
    ck_assert(guard_copy(buf, place_at(&p, 2), 2 * PAGE, &fault));
    ck_assert_int_eq(memcmp(buf, place_at(&p, 2), 2 * PAGE), 0);
    place_end(&p);
}
END_TEST

START_TEST(a_probe_loads_its_lines_and_no_others)
{
    struct place p;
    struct guard_fault fault = {0};
    guard_start();
    place_make_known(&p, 3, 1);
    place_fill(&p, 3);
    ck_assert_int_eq(ftruncate(p.fd, 2 * (off_t)PAGE), 0); /* pages 0 and 1 are good */
    ck_assert(guard_probe(p.map, 2 * PAGE, &fault));
    ck_assert(guard_probe(place_at(&p, 1) + 4032, 64, &fault));
    ck_assert(guard_probe(place_at(&p, 2) - 1, 1, &fault));
    ck_assert(!guard_probe(place_at(&p, 2) - 1, 2, &fault));
    ck_assert(!guard_probe(place_at(&p, 1), PAGE + 1, &fault));
    ck_assert(!guard_probe(p.map, 3 * PAGE, &fault));
    ck_assert(fault.addr >= place_at(&p, 2) && fault.addr < place_at(&p, 2) + 64);
    place_end(&p);
}
END_TEST

static struct steps {
    struct place *p;
    size_t page;
    volatile int before, after;
} steps;

static void steps_run(void *arg)
{
    struct steps *s = arg;
    s->before++;
    (void)*(volatile uint8_t *)place_at(s->p, s->page);
    s->after++;
}

START_TEST(a_call_ends_at_the_fault_and_can_be_made_again)
{
    struct place p;
    struct guard_fault fault;
    guard_start();
    place_make_known(&p, 2, 1);
    steps = (struct steps){.p = &p};
    unsigned rounds = 20000;
    for (unsigned i = 0; i < rounds; i++) {
        steps.page = 1;
        ck_assert(!guard_call(steps_run, &steps, &fault));
        ck_assert_ptr_eq(fault.addr, place_at(&p, 1));
        steps.page = 0;
        ck_assert(guard_call(steps_run, &steps, &fault));
    }
    ck_assert_int_eq(steps.before, (int)(2 * rounds));
    ck_assert_int_eq(steps.after, (int)rounds);
    ck_assert_uint_eq(caught_here(), rounds);
    sigset_t mask;
    ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    ck_assert_int_eq(sigismember(&mask, SIGBUS), 0);
    place_end(&p);
    printf("figure: faults caught one after another: %u\n", rounds);
}
END_TEST

START_TEST(a_poisoned_page_is_caught_and_its_neighbours_are_good)
{
    const char *why = poison_refused(unit_dir);
    if (why) {
        printf("SKIPPED: %s\n", why);
        return;
    }
    struct place p;
    struct guard_fault fault;
    uint8_t buf[3 * POISON_PAGE_BYTES];
    guard_start();
    place_make_known(&p, 3, 3);
    ck_assert(guard_probe(p.map, 3 * PAGE, &fault));
    ck_assert(poison_address(place_at(&p, 1)));
    ck_assert(guard_copy(buf, p.map, PAGE, &fault));
    ck_assert(guard_copy(buf, place_at(&p, 2), PAGE, &fault));
    ck_assert(!guard_copy(buf, p.map, 3 * PAGE, &fault));
    ck_assert(fault.addr >= place_at(&p, 1) && fault.addr < place_at(&p, 2));
    ck_assert(!guard_copy(place_at(&p, 1) + 8, buf, 8, &fault));
    poison_heal_address(place_at(&p, 1));
    ck_assert(guard_copy(buf, p.map, 3 * PAGE, &fault));
    ck_assert_int_eq(memcmp(buf, p.map, 3 * PAGE), 0);
    place_end(&p);
}
END_TEST

/* --- outside of guards ------------------------------------------------------------------------------ */

static bool owner_mends(struct guard_owner *o, uint64_t offset, const struct guard_fault *fault)
{
    struct place *p = (struct place *)o;
    (void)fault;
    p->rescues++;
    p->asked = offset;
    return ftruncate(p->fd, (off_t)(p->pages * PAGE)) == 0;
}

static bool owner_cannot(struct guard_owner *o, uint64_t offset, const struct guard_fault *fault)
{
    struct place *p = (struct place *)o;
    (void)fault;
    p->rescues++;
    p->asked = offset;
    return false;
}

static int words_fd; /* the test's pipe */

static void owner_says(struct guard_owner *o, uint64_t offset, const struct guard_fault *fault)
{
    struct place *p = (struct place *)o;
    (void)fault;
    p->fatals++;
    char word[32];
    int n = snprintf(word, sizeof word, "%llu %d", (unsigned long long)offset, (int)p->rescues);
    if (write(words_fd, word, (size_t)n) != n)
        _exit(96);
}

START_TEST(a_load_outside_is_repeated_when_its_owner_rescues_it)
{
    struct place p;
    guard_start();
    place_make(&p, 3, 1);
    p.owner.rescue = owner_mends;
    place_add(&p, 64 * PAGE); /* it maps the file from page 64 on */
    struct guard_counts n;
    ck_assert_int_eq(*(volatile uint8_t *)(place_at(&p, 2) + 5), 0);
    ck_assert_int_eq(p.rescues, 1);
    ck_assert_uint_eq(p.asked, 66 * PAGE + 5);
    guard_count(&n);
    ck_assert_uint_eq(n.rescued, 1);
    ck_assert_uint_eq(n.caught, 0);
    /* Inside, nobody is asked. */
    ck_assert_int_eq(ftruncate(p.fd, (off_t)PAGE), 0);
    ck_assert(!guard_probe(place_at(&p, 1), PAGE, NULL));
    ck_assert_int_eq(p.rescues, 1);
    /* And outside again. */
    ck_assert_int_eq(*(volatile uint8_t *)place_at(&p, 1), 0);
    ck_assert_int_eq(p.rescues, 2);
    place_end(&p);
}
END_TEST

struct last_words {
    int pipe[2];
    bool with_handler; /* of the application */
};

static int die_in_our_mapping(void *arg)
{
    struct last_words *w = arg;
    struct place p;
    app_make();
    if (w->with_handler)
        app_install_info(app_handler_info, 0, NULL);
    else
        signal(SIGBUS, SIG_DFL);
    guard_start();
    place_make(&p, 3, 1);
    words_fd = w->pipe[1];
    p.owner = (struct guard_owner){owner_cannot, owner_says};
    place_add(&p, 0);
    return *(volatile uint8_t *)(place_at(&p, 2) + 7);
}

START_TEST(a_load_outside_that_cannot_be_helped_ends_with_its_owners_message)
{
    for (int i = 0; i < 2; i++) {
        struct last_words w = {.with_handler = i};
        char word[64] = "", expected[64];
        ck_assert_int_eq(pipe(w.pipe), 0);
        int end = child_of(die_in_our_mapping, &w);
        close(w.pipe[1]);
        ck_assert_int_ge(read(w.pipe[0], word, sizeof word - 1), 0);
        close(w.pipe[0]);
        snprintf(expected, sizeof expected, "%zu %d", 2 * PAGE + 7, 1);
        ck_assert_str_eq(word, expected);
        ck_assert_msg(end == -SIGBUS, "case %d: %d", i, end);
    }
}
END_TEST

/* --- the guard's own bugs ---------------------------------------------------------------------------- */

static struct place other; /* known, and faulting */

static bool owner_crashes(struct guard_owner *o, uint64_t offset, const struct guard_fault *fault)
{
    (void)o;
    (void)offset;
    (void)fault;
    return app_touch() == 1;
}

static bool owner_faults_in_its_own(struct guard_owner *o, uint64_t offset,
                                    const struct guard_fault *fault)
{
    (void)fault;
    return ((struct place *)o)->map[offset & ~(PAGE - 1)] == 1;
}

static bool owner_faults_in_another(struct guard_owner *o, uint64_t offset,
                                    const struct guard_fault *fault)
{
    (void)o;
    (void)offset;
    (void)fault;
    return *(volatile uint8_t *)place_at(&other, 1) == 1;
}

static bool owner_segfaults(struct guard_owner *o, uint64_t offset, const struct guard_fault *fault)
{
    (void)o;
    (void)offset;
    (void)fault;
    raise(SIGSEGV);
    return true;
}

static int crash_in_rescue(void *arg)
{
    static struct place p;
    signal(SIGBUS, SIG_DFL);
    signal(SIGSEGV, SIG_DFL);
    guard_start();
    app_make();
    place_make(&other, 2, 1);
    other.owner = (struct guard_owner){place_cannot, place_is_silent};
    place_add(&other, 0);
    place_make(&p, 2, 1);
    p.owner.rescue = *(bool (**)(struct guard_owner *, uint64_t, const struct guard_fault *))arg;
    p.owner.fatal = place_is_silent;
    place_add(&p, 0);
    return *(volatile uint8_t *)place_at(&p, 1) + 1;
}

START_TEST(a_crash_inside_the_guards_own_code_is_not_swallowed)
{
    static const struct {
        bool (*rescue)(struct guard_owner *, uint64_t, const struct guard_fault *);
        int end;
    } cases[] = {
        {owner_crashes, -SIGBUS},
        {owner_faults_in_its_own, -SIGBUS},
        {owner_faults_in_another, -SIGBUS},
        {owner_segfaults, -SIGSEGV},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int end = child_of(crash_in_rescue, (void *)&cases[i].rescue);
        ck_assert_msg(end == cases[i].end, "case %zu: %d", i, end);
    }
}
END_TEST

static void fn_segfaults(void *arg)
{
    *(volatile uint8_t *)arg = 1;
}

static void fn_aborts(void *arg)
{
    (void)arg;
    abort();
}

static int other_signal(void *arg)
{
    void *page = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(page != MAP_FAILED);
    for (int sig = 1; sig < 32; sig++)
        if (sig != SIGALRM)
            signal(sig, SIG_DFL);
    guard_start();
    for (int sig = 1; sig < 32; sig++) {
        struct sigaction now;
        if (sig != SIGBUS && sig != SIGALRM && sigaction(sig, NULL, &now) == 0)
            MUST(now.sa_handler == SIG_DFL);
    }
    return guard_call(arg ? fn_aborts : fn_segfaults, page, NULL);
}

START_TEST(other_signals_are_nobodys_business)
{
    ck_assert_int_eq(child_of(other_signal, NULL), -SIGSEGV);
    ck_assert_int_eq(child_of(other_signal, &app), -SIGABRT);
}
END_TEST

/* --- mappings come and go ------------------------------------------------------------------------------ */

static int removed_mapping(void *arg)
{
    struct place p, second;
    (void)arg;
    signal(SIGBUS, SIG_DFL);
    guard_start();
    place_make_known(&p, 2, 1);
    place_make_known(&second, 2, 1);
    guard_map_remove(second.map + PAGE); /* not an address that is known: no effect */
    MUST(!guard_probe(place_at(&second, 1), PAGE, NULL));
    guard_map_remove(p.map);
    guard_map_remove(p.map);
    MUST(!guard_probe(place_at(&second, 1), PAGE, NULL));
    return guard_probe(place_at(&p, 1), PAGE, NULL); /* foreign now */
}

START_TEST(a_fault_in_a_removed_mapping_is_foreign)
{
    ck_assert_int_eq(child_of(removed_mapping, NULL), -SIGBUS);
}
END_TEST

START_TEST(a_full_table_refuses_and_has_room_again)
{
    struct place p;
    struct dax_err err = {0};
    static struct guard_owner nobody;
    guard_start();
    place_make_known(&p, 2, 1);
    /* Addresses that nothing maps: only the table is asked. */
    uint8_t *far = (uint8_t *)UINT64_C(0x100000000000);
    size_t n = 0;
    dax_rc rc = DAX_OK;
    while (n < 10000000 && (rc = guard_map_add(far + n * PAGE, PAGE, 0, &nobody, &err)) == DAX_OK)
        n++;
    ck_assert_int_eq(rc, DAX_FULL);
    ck_assert_str_ne(err.text, "");
    ck_assert(!guard_probe(place_at(&p, 1), PAGE, NULL));
    guard_map_remove(far + (n / 2) * PAGE);
    unit_ok(guard_map_add(far + n * PAGE, PAGE, 0, &nobody, &err));
    ck_assert_int_eq(guard_map_add(far, PAGE, 0, &nobody, &err), DAX_FULL);
    ck_assert(!guard_probe(place_at(&p, 1), PAGE, NULL));
    place_end(&p);
}
END_TEST

/* --- threads ------------------------------------------------------------------------------------------- */

#define THREADS 8

static struct place shared;
static atomic_int threads_wrong, threads_stop;

static void *fault_in_shared(void *arg)
{
    size_t page = (size_t)(uintptr_t)arg;
    for (int i = 0; i < 4000; i++) {
        struct guard_fault fault = {0};
        size_t at = (size_t)i * 64 % PAGE;
        if (guard_probe(place_at(&shared, page) + at, 64, &fault) ||
            fault.addr < place_at(&shared, page) + at ||
            fault.addr >= place_at(&shared, page) + at + 64 || !guard_probe(shared.map, PAGE, NULL))
            threads_wrong++;
    }
    return NULL;
}

START_TEST(threads_that_fault_at_once_get_their_own_faults)
{
    pthread_t thread[THREADS];
    guard_start();
    place_make_known(&shared, THREADS + 1, 1);
    for (size_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, fault_in_shared, (void *)(i + 1)), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    ck_assert_int_eq(threads_wrong, 0);
    ck_assert_uint_eq(caught_here(), THREADS * 4000);
    place_end(&shared);
    printf("figure: faults caught in %d threads at once: %d\n", THREADS, THREADS * 4000);
}
END_TEST

static void *mappings_come_and_go(void *arg)
{
    (void)arg;
    while (!threads_stop) {
        struct place p[3];
        for (int i = 0; i < 3; i++)
            place_make_known(&p[i], 2, 1);
        for (int i = 0; i < 3; i++) {
            struct guard_fault fault = {0};
            if (guard_probe(place_at(&p[i], 1), 64, &fault) || fault.addr != place_at(&p[i], 1))
                threads_wrong++;
        }
        for (int i = 0; i < 3; i++)
            place_end(&p[(i + 1) % 3]);
    }
    return NULL;
}

START_TEST(mappings_come_and_go_while_others_fault)
{
    pthread_t thread[THREADS];
    guard_start();
    place_make_known(&shared, THREADS + 1, 1);
    for (size_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL,
                                        i % 2 ? fault_in_shared : mappings_come_and_go,
                                        (void *)(i + 1)),
                         0);
    for (size_t i = 1; i < THREADS; i += 2)
        pthread_join(thread[i], NULL);
    threads_stop = 1;
    for (size_t i = 0; i < THREADS; i += 2)
        pthread_join(thread[i], NULL);
    ck_assert_int_eq(threads_wrong, 0);
    place_end(&shared);
}
END_TEST

/* --- stacks --------------------------------------------------------------------------------------------- */

/* Down to where a signal frame has no room any more, then fault. */
__attribute__((noinline)) static int deep(volatile char *end, volatile char *up)
{
    volatile char room[256];
    room[0] = up ? up[0] : 1;
    if ((uintptr_t)room - (uintptr_t)end > 3000)
        return deep(end, room) + room[0];
    return guard_probe(place_at(&shared, 1), 64, NULL) ? 1000000 : 0;
}

static void *fault_on_a_small_stack(void *arg)
{
    pthread_attr_t attr;
    void *low;
    size_t bytes, alternate_bytes = (size_t)sysconf(_SC_MINSIGSTKSZ) + 2048;
    void *alternate = malloc(alternate_bytes);
    stack_t ss = {.ss_sp = alternate, .ss_size = alternate_bytes}, off = {.ss_flags = SS_DISABLE};
    (void)arg;
    if (!alternate || sigaltstack(&ss, NULL) != 0 ||
        pthread_getattr_np(pthread_self(), &attr) != 0 ||
        pthread_attr_getstack(&attr, &low, &bytes) != 0)
        return (void *)1;
    pthread_attr_destroy(&attr);
    for (int i = 0; i < 200; i++)
        if (deep(low, NULL) >= 1000000)
            threads_wrong++;
    sigaltstack(&off, NULL);
    free(alternate);
    return NULL;
}

START_TEST(the_handler_runs_on_the_alternate_stack)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return; /* their frames need more than is left here on purpose */
#endif
    pthread_t thread;
    pthread_attr_t attr;
    void *failed;
    guard_start();
    place_make_known(&shared, 2, 1);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 64 << 10);
    ck_assert_int_eq(pthread_create(&thread, &attr, fault_on_a_small_stack, NULL), 0);
    pthread_join(thread, &failed);
    ck_assert_ptr_null(failed);
    ck_assert_int_eq(threads_wrong, 0);
    ck_assert_uint_eq(caught_here(), 200);
    place_end(&shared);
}
END_TEST

static int blocked(void *arg)
{
    sigset_t all;
    struct guard_fault fault;
    (void)arg;
    signal(SIGBUS, SIG_DFL);
    guard_start();
    place_make_known(&shared, 2, 1);
    sigfillset(&all);
    sigdelset(&all, SIGALRM);
    MUST(pthread_sigmask(SIG_SETMASK, &all, NULL) == 0);
    return guard_probe(place_at(&shared, 1), 64, &fault) ? 1 : 0;
}

/* Worker threads of servers often block every signal. */
START_TEST(a_thread_that_blocks_signals_is_no_exception)
{
    ck_assert_int_eq(child_of(blocked, NULL), 0);
}
END_TEST

/* --- after fork ------------------------------------------------------------------------------------------ */

static int in_a_child(void *arg)
{
    (void)arg;
    return guard_works() && guard_works() ? 0 : 1;
}

START_TEST(a_child_process_has_the_guard_too)
{
    guard_start();
    ck_assert(guard_works());
    ck_assert_int_eq(child_of(in_a_child, NULL), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("guard");
    TCase *tc = tcase_create("guard");
    tcase_add_checked_fixture(tc, unit_setup, NULL);
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, a_copy_tells_a_fault_from_none);
    tcase_add_test(tc, a_probe_loads_its_lines_and_no_others);
    tcase_add_test(tc, a_call_ends_at_the_fault_and_can_be_made_again);
    tcase_add_test(tc, a_poisoned_page_is_caught_and_its_neighbours_are_good);
    tcase_add_test(tc, a_load_outside_is_repeated_when_its_owner_rescues_it);
    tcase_add_test(tc, a_load_outside_that_cannot_be_helped_ends_with_its_owners_message);
    tcase_add_test(tc, a_crash_inside_the_guards_own_code_is_not_swallowed);
    tcase_add_test(tc, other_signals_are_nobodys_business);
    tcase_add_test(tc, a_fault_in_a_removed_mapping_is_foreign);
    tcase_add_test(tc, a_full_table_refuses_and_has_room_again);
    tcase_add_test(tc, threads_that_fault_at_once_get_their_own_faults);
    tcase_add_test(tc, mappings_come_and_go_while_others_fault);
    tcase_add_test(tc, the_handler_runs_on_the_alternate_stack);
    tcase_add_test(tc, a_thread_that_blocks_signals_is_no_exception);
    tcase_add_test(tc, a_child_process_has_the_guard_too);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
