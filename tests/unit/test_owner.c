/* test_owner.c: would catch stock SQLite getting in while daxlite owns a file, daxlite getting in
 * while stock SQLite or another daxlite is at it, a failed conversion that loses or keeps too much,
 * locks that vanish with another descriptor, and a refusal that does not say who is in the way.
 */
#include "engine/owner.h"

#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>

#include "tests/unit/unit.h"

/* Stock SQLite's lock bytes. */
#define PENDING 0x40000000
#define RESERVED (PENDING + 1)
#define SHARED (PENDING + 2)
#define SHARED_BYTES 510

static char log_text[1024];
static dax_rc log_rc;

static void log_capture(dax_rc rc, const char *text)
{
    log_rc = rc;
    snprintf(log_text, sizeof log_text, "%s", text);
}

static int open_db(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    ck_assert_int_ge(fd, 0);
    return fd;
}

/* As a stock connection of this process does it: a POSIX lock. 0 or an errno. */
static int stock_lock(int fd, short type, off_t at, off_t bytes)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = bytes};
    return fcntl(fd, F_SETLK, &lock) == 0 ? 0 : errno;
}

/* Would a stock connection get this lock now? */
static bool stock_could(const char *path, short type, off_t at, off_t bytes)
{
    int fd = open_db(path);
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = bytes};
    ck_assert_int_eq(fcntl(fd, F_GETLK, &lock), 0);
    close(fd);
    return lock.l_type == F_UNLCK;
}

/* A child that has done `act` with the file and then sits still. */
struct holder {
    pid_t pid;
    int release;
};

static struct holder holder_start(const char *path, void (*act)(const char *path))
{
    int ready[2], release[2];
    ck_assert_int_eq(pipe(ready), 0);
    ck_assert_int_eq(pipe(release), 0);
    struct holder h = {.pid = fork(), .release = release[1]};
    ck_assert_int_ge(h.pid, 0);
    char c = 0;
    if (h.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(release[1]);
        act(path);
        if (write(ready[1], "r", 1) == 1 && read(release[0], &c, 1) >= 0)
            _exit(0);
        _exit(1);
    }
    close(ready[1]);
    ck_assert_int_eq(read(ready[0], &c, 1), 1);
    close(ready[0]);
    close(release[0]);
    return h;
}

static void holder_end(struct holder *h)
{
    ck_assert_int_eq(write(h->release, "x", 1), 1); /* later children have this end, too */
    close(h->release);
    ck_assert_int_eq(unit_wait(h->pid), 0);
}

static void child_need(bool ok)
{
    if (!ok)
        _exit(2);
}

static void act_stock_reader(const char *path)
{
    child_need(stock_lock(open(path, O_RDWR), F_RDLCK, SHARED, SHARED_BYTES) == 0);
}

static void act_stock_reserved(const char *path)
{
    int fd = open(path, O_RDWR);
    child_need(stock_lock(fd, F_RDLCK, SHARED, SHARED_BYTES) == 0);
    child_need(stock_lock(fd, F_WRLCK, RESERVED, 1) == 0);
}

static void act_stock_pending(const char *path)
{
    int fd = open(path, O_RDWR);
    child_need(stock_lock(fd, F_WRLCK, RESERVED, 1) == 0);
    child_need(stock_lock(fd, F_WRLCK, PENDING, 1) == 0);
}

static void act_stock_exclusive(const char *path)
{
    child_need(stock_lock(open(path, O_RDWR), F_WRLCK, SHARED, SHARED_BYTES) == 0);
}

static void act_daxlite_writer(const char *path)
{
    struct dax_err err;
    child_need(owner_lock(open(path, O_RDWR), path, OWNER_WRITER, &err) == DAX_OK);
}

static void act_daxlite_reader(const char *path)
{
    struct dax_err err;
    child_need(owner_lock(open(path, O_RDWR), path, OWNER_READER, &err) == DAX_OK);
}

static void act_open_only(const char *path)
{
    child_need(open(path, O_RDONLY) >= 0);
}

/* --- daxlite first ---------------------------------------------------------------------------- */

START_TEST(test_each_lock_keeps_out_whom_it_should)
{
    const char *path = unit_path("db");
    int fd = open_db(path);
    struct dax_err err;

    unit_ok(owner_lock(fd, path, OWNER_READER, &err));
    ck_assert(stock_could(path, F_RDLCK, PENDING, 1));
    ck_assert(stock_could(path, F_RDLCK, SHARED, SHARED_BYTES));
    ck_assert(stock_could(path, F_WRLCK, PENDING, 2));
    for (int i = 0; i < SHARED_BYTES; i++)
        ck_assert(!stock_could(path, F_WRLCK, SHARED + i, 1));

    unit_ok(owner_lock(fd, path, OWNER_WRITER, &err));
    for (int i = 0; i < 2 + SHARED_BYTES; i++)
        ck_assert(!stock_could(path, F_RDLCK, PENDING + i, 1));
    ck_assert(stock_could(path, F_WRLCK, PENDING - 1, 1));
    ck_assert(stock_could(path, F_WRLCK, SHARED + SHARED_BYTES, 1));

    unit_ok(owner_lock(fd, path, OWNER_READER, &err));
    ck_assert(stock_could(path, F_WRLCK, PENDING, 2));
    ck_assert(stock_could(path, F_RDLCK, SHARED, SHARED_BYTES));
    ck_assert(!stock_could(path, F_WRLCK, SHARED, SHARED_BYTES));

    unit_ok(owner_lock(fd, path, OWNER_NONE, &err));
    ck_assert(stock_could(path, F_WRLCK, PENDING, 2 + SHARED_BYTES));

    unit_ok(owner_lock(fd, path, OWNER_WRITER, &err));
    close(fd);
    ck_assert(stock_could(path, F_WRLCK, PENDING, 2 + SHARED_BYTES));
}
END_TEST

START_TEST(test_closing_another_descriptor_gives_nothing_away)
{
    const char *path = unit_path("db");
    int fd = open_db(path);
    struct dax_err err;
    unit_ok(owner_lock(fd, path, OWNER_WRITER, &err));
    close(open_db(path));
    ck_assert(!stock_could(path, F_RDLCK, SHARED, 1));
    close(fd);
}
END_TEST

/* Run the sqlite3 shell on the database; its output in `out`. Its exit status, -1: no shell
 * here. */
static int sqlite_shell(const char *path, const char *sql, char *out, size_t out_bytes)
{
    char command[1200];
    snprintf(command, sizeof command, "sqlite3 -batch '%s' '%s' 2>&1", path, sql);
    out[0] = '\0';
    if (system("command -v sqlite3 >/dev/null") != 0) {
        fprintf(stderr, "SKIPPED, there is no sqlite3 shell here\n");
        return -1;
    }
    FILE *f = popen(command, "r");
    size_t n = fread(out, 1, out_bytes - 1, f);
    out[n] = '\0';
    return WEXITSTATUS(pclose(f));
}

START_TEST(test_the_stock_shell_is_locked_out)
{
    const char *path = unit_path("db");
    char out[512];
    struct dax_err err;
    int status = sqlite_shell(path, "create table t(x); insert into t values(7);", out, sizeof out);
    if (status < 0)
        return;
    ck_assert_msg(status == 0, "%s", out);
    int fd = open_db(path);

    unit_ok(owner_lock(fd, path, OWNER_READER, &err));
    ck_assert_int_eq(sqlite_shell(path, "select x from t;", out, sizeof out), 0);
    ck_assert_str_eq(out, "7\n");
    ck_assert_int_ne(sqlite_shell(path, "insert into t values(8);", out, sizeof out), 0);
    ck_assert_ptr_nonnull(strstr(out, "database is locked"));

    unit_ok(owner_lock(fd, path, OWNER_WRITER, &err));
    ck_assert_int_ne(sqlite_shell(path, "select x from t;", out, sizeof out), 0);
    ck_assert_ptr_nonnull(strstr(out, "database is locked"));

    close(fd);
    ck_assert_int_eq(
        sqlite_shell(path, "insert into t values(8); select sum(x) from t;", out, sizeof out), 0);
    ck_assert_str_eq(out, "15\n");
}
END_TEST

/* --- others first ----------------------------------------------------------------------------- */

static const struct {
    void (*act)(const char *path);
    bool reader_may, writer_may;
} others[] = {
    {act_stock_reader, true, false},    {act_stock_reserved, true, false},
    {act_stock_pending, false, false},  {act_stock_exclusive, false, false},
    {act_daxlite_writer, false, false}, {act_daxlite_reader, true, false},
    {act_open_only, true, true},
};

START_TEST(test_what_others_hold_is_respected_and_they_are_named)
{
    const char *path = unit_path("db");
    int fd = open_db(path);
    struct holder h = holder_start(path, others[_i].act);
    char pid[32];
    snprintf(pid, sizeof pid, "%d (", (int)h.pid);
    for (int want = OWNER_READER; want <= OWNER_WRITER; want++) {
        struct dax_err err = {0};
        bool may = want == OWNER_READER ? others[_i].reader_may : others[_i].writer_may;
        log_text[0] = '\0';
        dax_log_set(log_capture);
        if (may) {
            unit_ok(owner_lock(fd, path, (enum owner_kind)want, &err));
            ck_assert_str_eq(log_text, "");
        } else {
            unit_fails(owner_lock(fd, path, (enum owner_kind)want, &err), DAX_LOCKED, pid);
            ck_assert_ptr_nonnull(strstr(err.text, path));
            ck_assert_ptr_nonnull(strstr(log_text, "database is locked"));
            ck_assert_int_eq(log_rc, DAX_LOCKED);
        }
        unit_ok(owner_lock(fd, path, OWNER_NONE, &err));
    }
    holder_end(&h);
    struct dax_err err;
    unit_ok(owner_lock(fd, path, OWNER_WRITER, &err));
    close(fd);
}
END_TEST

/* A refused start leaves nothing, a refused conversion the reader's lock and no more. */
START_TEST(test_a_refusal_changes_nothing)
{
    const char *path = unit_path("db");
    int fd = open_db(path);
    struct dax_err err;

    struct holder h = holder_start(path, act_stock_exclusive);
    unit_fails(owner_lock(fd, path, OWNER_READER, &err), DAX_LOCKED, "");
    unit_fails(owner_lock(fd, path, OWNER_WRITER, &err), DAX_LOCKED, "");
    holder_end(&h);
    ck_assert(stock_could(path, F_WRLCK, PENDING, 2 + SHARED_BYTES));

    unit_ok(owner_lock(fd, path, OWNER_READER, &err));
    h = holder_start(path, act_stock_reader);
    unit_fails(owner_lock(fd, path, OWNER_WRITER, &err), DAX_LOCKED, "");
    ck_assert(stock_could(path, F_WRLCK, PENDING, 2));
    ck_assert(stock_could(path, F_RDLCK, SHARED, SHARED_BYTES));
    holder_end(&h);
    for (int i = 0; i < SHARED_BYTES; i++)
        ck_assert(!stock_could(path, F_WRLCK, SHARED + i, 1));
    unit_ok(owner_lock(fd, path, OWNER_WRITER, &err));
    close(fd);
}
END_TEST

START_TEST(test_a_stock_shell_in_a_transaction_is_named)
{
    const char *path = unit_path("db");
    char command[600], out[64];
    struct dax_err err;
    int status = sqlite_shell(path, "create table t(x);", out, sizeof out);
    if (status < 0)
        return;
    snprintf(command, sizeof command, "exec sqlite3 -batch '%s' >/dev/null", path);
    FILE *shell = popen(command, "w");
    const char *ready = unit_path("ready");
    fprintf(shell, "begin exclusive;\n.shell touch '%s'\n", ready);
    fflush(shell);
    for (int i = 0; i < 1000 && !unit_exists(ready); i++)
        usleep(10 * 1000);
    int fd = open_db(path);
    unit_fails(owner_lock(fd, path, OWNER_READER, &err), DAX_LOCKED, "(sqlite3)");
    unit_fails(owner_lock(fd, path, OWNER_WRITER, &err), DAX_LOCKED, "(sqlite3)");
    pclose(shell);
    unit_ok(owner_lock(fd, path, OWNER_WRITER, &err));
    close(fd);
}
END_TEST

START_TEST(test_this_process_is_told_that_it_stands_in_its_own_way)
{
    const char *path = unit_path("db");
    int fd = open_db(path);
    int other = open_db(path);
    struct dax_err err;
    ck_assert_int_eq(stock_lock(other, F_RDLCK, SHARED, SHARED_BYTES), 0);
    unit_fails(owner_lock(fd, path, OWNER_WRITER, &err), DAX_LOCKED,
               "stock SQLite connection of this process");
    ck_assert_int_eq(stock_lock(other, F_UNLCK, SHARED, SHARED_BYTES), 0);
    unit_ok(owner_lock(other, path, OWNER_READER, &err));
    unit_fails(owner_lock(fd, path, OWNER_WRITER, &err), DAX_LOCKED,
               "this process has it open a second time");
    close(other);
    unit_ok(owner_lock(fd, path, OWNER_WRITER, &err));
    close(fd);
}
END_TEST

START_TEST(test_a_read_only_descriptor_can_be_a_reader_only)
{
    const char *path = unit_path("db");
    close(open_db(path));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct dax_err err;
    unit_ok(owner_lock(fd, path, OWNER_READER, &err));
    unit_fails(owner_lock(fd, path, OWNER_WRITER, &err), DAX_CANT_OPEN, "cannot lock");
    ck_assert_int_eq(err.sys_errno, EBADF);
    close(fd);
}
END_TEST

/* --- who -------------------------------------------------------------------------------------- */

START_TEST(test_holders_lists_other_processes_within_the_buffer)
{
    enum {
        N = 6
    };
    const char *path = unit_path("db");
    int fd = open_db(path);
    char buf[400];
    owner_holders(fd, buf, sizeof buf);
    ck_assert_str_eq(buf, "");
    struct holder h[N];
    for (int i = 0; i < N; i++)
        h[i] = holder_start(path, act_open_only);
    owner_holders(fd, buf, sizeof buf);
    for (int i = 0; i < N; i++) {
        char one[32];
        snprintf(one, sizeof one, "%d (", (int)h[i].pid);
        ck_assert_msg(strstr(buf, one) != NULL, "%s not in %s", one, buf);
    }
    for (size_t room = 1; room < sizeof buf; room++) {
        memset(buf, '#', sizeof buf);
        owner_holders(fd, buf, room);
        size_t len = strnlen(buf, room);
        ck_assert_uint_lt(len, room);
        for (size_t i = room; i < sizeof buf; i++)
            ck_assert_int_eq(buf[i], '#');
        if (room < 60 && len > 0)
            ck_assert_str_eq(buf + len - 5, ", ...");
    }
    for (int i = 0; i < N; i++)
        holder_end(&h[i]);
    close(fd);
}
END_TEST

START_TEST(test_start_time_names_a_process_for_good)
{
    uint64_t mine = owner_start_time(getpid());
    ck_assert_uint_gt(mine, 0);
    ck_assert_int_eq(prctl(PR_SET_NAME, "a) 1 2 (3 4"), 0);
    ck_assert_uint_eq(owner_start_time(getpid()), mine);
    struct holder h = holder_start("/", act_open_only);
    ck_assert_uint_ge(owner_start_time(h.pid), mine);
    holder_end(&h);
    ck_assert_uint_eq(owner_start_time(h.pid), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("owner");
    TCase *tc = tcase_create("owner");
    tcase_add_checked_fixture(tc, unit_setup, NULL);
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, test_each_lock_keeps_out_whom_it_should);
    tcase_add_test(tc, test_closing_another_descriptor_gives_nothing_away);
    tcase_add_test(tc, test_the_stock_shell_is_locked_out);
    tcase_add_loop_test(tc, test_what_others_hold_is_respected_and_they_are_named, 0,
                        sizeof others / sizeof others[0]);
    tcase_add_test(tc, test_a_refusal_changes_nothing);
    tcase_add_test(tc, test_a_stock_shell_in_a_transaction_is_named);
    tcase_add_test(tc, test_this_process_is_told_that_it_stands_in_its_own_way);
    tcase_add_test(tc, test_a_read_only_descriptor_can_be_a_reader_only);
    tcase_add_test(tc, test_holders_lists_other_processes_within_the_buffer);
    tcase_add_test(tc, test_start_time_names_a_process_for_good);
    suite_add_tcase(suite, tc);
    return unit_main(suite);
}
