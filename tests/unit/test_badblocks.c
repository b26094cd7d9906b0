/* test_badblocks.c: would catch a bad sector told as another page of the file or not told at all, a
 * list that is guessed where it cannot be known, and garbage or a cut line taken for a sector.
 */
#include "tests/unit/badblocks_fake.h"

#define XFLAG_REALTIME 1u

START_TEST(test_sectors_become_whole_pages_of_the_file)
{
    /* Page 1000 of the device is sector 8000. */
    static const struct {
        const char *list;
        uint64_t pages[8];
    } t[] = {
        {"8000 8\n", {0, 1}},
        {"8000 1\n", {0, 1}},
        {"8007 1\n", {0, 1}},
        {"8007 2\n", {0, 2}},
        {"8008 1\n", {1, 1}},
        {"7999 1\n", {0, 0}},
        {"7999 2\n", {0, 1}},
        {"0 8000\n", {0, 0}},
        {"0 8001\n", {0, 1}},
        {"8799 1\n", {99, 1}},
        {"8799 100\n", {99, 1}},
        {"8800 1\n", {0, 0}},
        {"0 100000\n", {0, 100}},
        {"8000 1\n8007 1\n", {0, 1}},       /* two of one page */
        {"8000 1\n8008 1\n", {0, 2}},       /* of neighbours */
        {"8000 1\n8016 1\n", {0, 1, 2, 1}}, /* with a good page between them */
        {"8016 1\n8000 1\n", {0, 1, 2, 1}}, /* not in order */
        {"8000 80\n8008 8\n", {0, 10}},     /* one in the other */
        {"8008 8\n8000 80\n8079 2\n", {0, 11}},
        {"36028797018963966 1\n", {0, 0}}, /* the highest sector there can be */
        {"8080 36028797018963967\n", {10, 90}},
        {"", {0, 0}},
    };
    fake_extents(one_extent, 1);
    whole_device("");
    struct badblocks *b = open_list();
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        list_set(t[i].list);
        read_list(b);
        expect_pages(t[i].list, t[i].pages);
        ck_assert(!badblocks_incomplete(b));
    }
    badblocks_close(b);
}
END_TEST

START_TEST(test_ranges_are_cut_and_ordered_as_the_extents_are)
{
    fake_extents(three_extents, 3);
    whole_device("");
    struct badblocks *b = open_list();
    /* Device pages 308 - 311: the end of the second extent, the start of the third. */
    list_set("2464 32\n");
    read_list(b);
    EXPECT("over two extents with a hole between them", 28, 2, 40, 2);
    /* Device pages 300 - 509: all of two extents, of the other all; the first two touch. */
    list_set("2400 1680\n");
    read_list(b);
    EXPECT("over all", 10, 20, 40, 10);
    /* The last page of the first, the first of the second: neighbours in the file alone. */
    list_set("2400 1\n4072 1\n");
    read_list(b);
    EXPECT("joined over the end of an extent", 19, 2);
    list_set("2560 1360\n");
    read_list(b);
    EXPECT_NONE("what lies between the extents is not the file's");
    badblocks_close(b);
}
END_TEST

START_TEST(test_extents_that_come_in_small_batches_are_all_looked_at)
{
    enum {
        N = 1000
    };
    static struct fiemap_extent extents[N];
    for (unsigned i = 0; i < N; i++) /* every other page of the file, backwards on the device */
        extents[i] = (struct fiemap_extent)EXTENT(2 * i, 5000 - 2 * i, 1,
                                                  i == N - 1 ? FIEMAP_EXTENT_LAST : 0);
    whole_device("0 100000\n");
    for (unsigned most = 1; most <= 1000; most = most * 3 + 1) {
        fake_extents(extents, N);
        fake.most = most;
        struct badblocks *b = open_list();
        read_list(b);
        ck_assert_uint_eq(told_count, N);
        for (unsigned i = 0; i < N; i++)
            ck_assert_uint_eq(told[i].offset, 2 * i * PAGE);
        badblocks_close(b);
    }
    /* Without a last one, as when the file shrinks meanwhile. */
    fake_extents(extents, N - 1);
    struct badblocks *b = open_list();
    read_list(b);
    ck_assert_uint_eq(told_count, N - 1);
    badblocks_close(b);
}
END_TEST

START_TEST(test_extents_without_a_place_of_their_own_are_skipped)
{
    static const uint32_t skipped[] = {FIEMAP_EXTENT_UNKNOWN,
                                       FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_UNKNOWN,
                                       FIEMAP_EXTENT_DELALLOC,
                                       FIEMAP_EXTENT_ENCODED,
                                       FIEMAP_EXTENT_ENCODED | FIEMAP_EXTENT_DATA_ENCRYPTED,
                                       FIEMAP_EXTENT_DATA_INLINE | FIEMAP_EXTENT_NOT_ALIGNED,
                                       FIEMAP_EXTENT_DATA_INLINE,
                                       FIEMAP_EXTENT_DATA_TAIL};
    static const uint32_t counted[] = {0, FIEMAP_EXTENT_UNWRITTEN, FIEMAP_EXTENT_SHARED,
                                       FIEMAP_EXTENT_MERGED};
    whole_device("8000 80\n");
    for (size_t i = 0; i < sizeof skipped / sizeof skipped[0]; i++) {
        struct fiemap_extent e[] = {EXTENT(0, 1000, 2, 0), EXTENT(2, 1002, 2, skipped[i]),
                                    EXTENT(4, 1004, 2, FIEMAP_EXTENT_LAST)};
        fake_extents(e, 3);
        struct badblocks *b = open_list();
        read_list(b);
        EXPECT("one of three skipped", 0, 2, 4, 2);
        e[2].fe_flags |= skipped[i];
        read_list(b);
        EXPECT("the last one, too", 0, 2);
        badblocks_close(b);
    }
    for (size_t i = 0; i < sizeof counted / sizeof counted[0]; i++) {
        struct fiemap_extent e[] = {EXTENT(3, 1000, 2, counted[i] | FIEMAP_EXTENT_LAST)};
        fake_extents(e, 1);
        struct badblocks *b = open_list();
        read_list(b);
        EXPECT("counts", 3, 2);
        badblocks_close(b);
    }
    ck_assert_uint_eq(fake.sync_asked, 0);
}
END_TEST

START_TEST(test_parts_of_a_page_are_its_page)
{
    /* A file system with blocks of 1 KiB: 3 KiB from byte 1024 on, 2 KiB from 9216 on. */
    static const struct fiemap_extent small[] = {
        {.fe_logical = 1024, .fe_physical = 100 * 1024, .fe_length = 3072},
        {.fe_logical = 9216,
         .fe_physical = 200 * 1024,
         .fe_length = 2048,
         .fe_flags = FIEMAP_EXTENT_LAST}};
    fake_extents(small, 2);
    whole_device("200 1\n");
    struct badblocks *b = open_list();
    read_list(b);
    EXPECT("first sector of the first", 0, 1);
    list_set("206 1\n");
    read_list(b);
    EXPECT_NONE("behind the first");
    list_set("205 1\n403 1\n");
    read_list(b);
    EXPECT("last sectors", 0, 1, 2, 1);
    badblocks_close(b);
}
END_TEST

START_TEST(test_a_partition_uses_the_list_of_its_device_and_its_start)
{
    fake_extents(one_extent, 1);
    make_partition("2048\n");
    list_set("8000 8\n10048 8\n");
    struct badblocks *b = open_list();
    read_list(b);
    EXPECT("sector 10048 of the device is 8000 of the partition", 0, 1);
    list_set("10039 8\n");
    read_list(b);
    EXPECT_NONE("before the extent: 10039 - 10046");
    list_set("10040 9\n");
    read_list(b);
    EXPECT("with its last sector in the extent", 0, 1);
    badblocks_close(b);
}
END_TEST

START_TEST(test_a_partition_whose_start_cannot_be_read_is_an_error_or_not_known)
{
    static const char *const bad[] = {"",     "x\n",     "2048",
                                      "-1\n", "2048 \n", "99999999999999999999\n"};
    struct badblocks *b = NULL;
    fake_extents(one_extent, 1);
    make_partition(NULL);
    list_set("8000 8\n");
    open_finds_none();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char partition[512];
        snprintf(partition, sizeof partition, "%s/pmem0p1", device);
        write_at(partition, "start", bad[i]);
        unit_fails(badblocks_open(file_fd, "/x/app.db", &b, &err), DAX_IO_READ, "/x/app.db");
        ck_assert_ptr_null(b);
    }
}
END_TEST

/* No directory, no file, an empty line, device-mapper, realtime, no FIEMAP. */
START_TEST(test_nothing_is_known_where_there_is_no_list_or_no_way_to_it)
{
    char path[640];
    fake_extents(one_extent, 1);
    badblocks_sysfs_set(unit_path("no such directory"));
    open_finds_none();
    badblocks_sysfs_set(sysfs);
    open_finds_none(); /* no such device */
    link_device(file_dev(), "nd/region0/pmem0");
    open_finds_none(); /* no badblocks */
    list_set("\n");
    open_finds_none(); /* older kernels, a disk that keeps none */

    list_set("");
    badblocks_close(open_list()); /* an empty list is one */
    list_set("8000 8\n");
    badblocks_close(open_list());
    fake.xflags = XFLAG_REALTIME;
    open_finds_none();
    fake.xflags = 2; /* any other */
    badblocks_close(open_list());
    static const int unsupported[] = {EOPNOTSUPP, ENOTTY, EINVAL, EPERM};
    for (size_t i = 0; i < sizeof unsupported / sizeof unsupported[0]; i++) {
        fake.fail_errno = unsupported[i];
        open_finds_none();
    }
    fake.fail_errno = 0;
    fake.read_errno = ENODEV; /* unplugged just now */
    open_finds_none();
    fake.read_errno = 0;
    badblocks_close(open_list());

    snprintf(path, sizeof path, "%s/dm", device);
    make_directories(path);
    open_finds_none();
    ck_assert_int_eq(rmdir(path), 0);
    badblocks_close(open_list());

    unit_rights_drop();
    if (geteuid() != 0) {
        unit_rights_back();
        snprintf(path, sizeof path, "%s/badblocks", device);
        ck_assert_int_eq(chmod(path, 0), 0);
        unit_rights_drop();
        open_finds_none();
    }
    unit_rights_back();
}
END_TEST

START_TEST(test_no_list_is_a_list_that_is_empty_and_stays_so)
{
    ck_assert(!badblocks_changed(NULL));
    ck_assert(!badblocks_differs(NULL));
    ck_assert(!badblocks_incomplete(NULL));
    read_list(NULL);
    EXPECT_NONE("NULL");
    badblocks_close(NULL);
}
END_TEST

/* As when the file system has joined two of them between two calls. */
START_TEST(test_what_an_extent_repeats_of_the_one_before_is_told_once)
{
    static const struct fiemap_extent e[] = {EXTENT(1, 100, 3, 0),
                                             EXTENT(2, 200, 4, FIEMAP_EXTENT_LAST)};
    fake_extents(e, 2);
    whole_device("");
    struct badblocks *b = open_list();
    fake.raw = true;
    list_set("808 8\n1616 8\n"); /* page 101, which is page 2; page 202, which is page 4 */
    read_list(b);
    EXPECT("each from its own extent", 2, 1, 4, 1);
    list_set("1600 16\n");
    read_list(b);
    EXPECT_NONE("the second extent's copy of pages 2 and 3");
    badblocks_close(b);
}
END_TEST

START_TEST(test_extents_that_no_file_can_have_are_an_error)
{
    const uint64_t top = UINT64_MAX - PAGE + 1;
    const struct fiemap_extent bad[] = {
        {.fe_logical = 2 * PAGE, .fe_physical = 8000, .fe_length = 0},
        {.fe_logical = top, .fe_physical = 8000, .fe_length = PAGE},
        {.fe_logical = 2 * PAGE, .fe_physical = 8000, .fe_length = top},
        {.fe_logical = 2 * PAGE, .fe_physical = top, .fe_length = PAGE},
        {.fe_logical = 2 * PAGE, .fe_physical = top - PAGE, .fe_length = PAGE}, /* on the device */
        {.fe_logical = 2 * PAGE, .fe_physical = UINT64_MAX, .fe_length = PAGE},
        {.fe_logical = 0, .fe_physical = 8000, .fe_length = PAGE}}; /* behind page 1 */
    make_partition("8\n");
    list_set("0 36028797018963967\n");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct fiemap_extent e[] = {EXTENT(1, 100, 1, 0), bad[i]};
        e[1].fe_flags = FIEMAP_EXTENT_LAST; /* so that nothing after it is the error */
        fake_extents(e, 2);
        struct badblocks *b = open_list();
        fake.raw = true;
        told_count = 0;
        unit_fails(badblocks_read(b, tell, told, &err), DAX_IO_READ, "where \"/x/app.db\" lies");
        EXPECT("the good one before it", 1, 1);
        fake.raw = false;
        badblocks_close(b);
    }
    fake_extents(one_extent, 1);
    struct badblocks *b = open_list();
    fake.claimed = 65; /* more than there was room for */
    unit_fails(badblocks_read(b, tell, told, &err), DAX_IO_READ, "where \"/x/app.db\" lies");
    badblocks_close(b);
}
END_TEST

START_TEST(test_garbage_is_skipped_and_logged_once)
{
    static const char *const garbage[] = {"8000\n",
                                          " 8100\n",
                                          "8000 \n",
                                          " 8000 8\n",
                                          "8000  8\n",
                                          "8000 8 \n",
                                          "8000,8\n",
                                          "0x1f40 8\n",
                                          "8000 0\n",
                                          "-8000 8\n",
                                          "8000 -8\n",
                                          "+8000 8\n",
                                          "8000 8 8\n",
                                          "8000 8x\n",
                                          "x\n",
                                          "8000\t8\n",
                                          "8000 8\r\n",
                                          "8000 36028797018963968\n",
                                          "36028797018963968 1\n",
                                          "18446744073709559616 8\n",
                                          "18446744073709551616 8\n",
                                          "36028797018971968 8\n",
                                          "8000 18446744073709551617\n"};
    char list[400];
    dax_log_set(log_capture);
    fake_extents(one_extent, 1);
    whole_device("");
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        struct badblocks *b = open_list();
        snprintf(list, sizeof list, "8080 8\n%s8160 8\n", garbage[i]);
        list_set(list);
        log_lines = 0;
        read_list(b);
        EXPECT(garbage[i], 10, 1, 20, 1);
        ck_assert(!badblocks_incomplete(b));
        ck_assert_msg(log_lines == 1, "%s: %u lines", garbage[i], log_lines);
        ck_assert_ptr_nonnull(strstr(log_text, "1 line"));
        ck_assert_ptr_nonnull(strstr(log_text, "/x/app.db"));
        read_list(b);
        ck_assert_uint_eq(log_lines, 1);
        badblocks_close(b);
    }
    log_lines = 0;
    struct badblocks *b = open_list();
    list_set("\n8080 8\n\n");
    read_list(b);
    EXPECT("empty lines are nothing", 10, 1);
    ck_assert_uint_eq(log_lines, 0);
    badblocks_close(b);
}
END_TEST

START_TEST(test_bytes_of_a_line_that_was_cut_never_name_a_good_sector)
{
    static const struct {
        const char *list;
        uint64_t pages[6];
    } t[] = {
        {"8080 8\n8160 16", {10, 1, 20, 2}},
        {"8080 8\n8160 1", {10, 1, 20, 1}}, /* of "16" */
        {"8080 8\n8160 ", {10, 1, 20, 1}},  /* a range is one sector at least */
        {"8080 8\n8160", {10, 1}},          /* of "81600" */
        {"8080 8\n8", {10, 1}},
        {"8160 8", {20, 1}},
        {"8160 8x", {0, 0}},
        {"8160 0", {0, 0}},
    };
    dax_log_set(log_capture);
    fake_extents(one_extent, 1);
    whole_device("");
    struct badblocks *b = open_list();
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        list_set(t[i].list);
        read_list(b);
        expect_pages(t[i].list, t[i].pages);
        ck_assert_msg(badblocks_incomplete(b), "%s", t[i].list);
        list_set("8080 8\n");
        read_list(b);
        ck_assert(!badblocks_incomplete(b));
    }
    ck_assert_uint_eq(log_lines, 0);
    badblocks_close(b);
}
END_TEST

/* Every other page of the file, as long as the text is at most `most` bytes. Returns the pages. */
static size_t long_list(char *list, size_t most)
{
    size_t n = 0, bytes = 0;
    for (;; n++) {
        char line[32];
        int length = snprintf(line, sizeof line, "%zu 1\n", 16 * n);
        if (bytes + (size_t)length > most)
            break;
        memcpy(list + bytes, line, (size_t)length + 1);
        bytes += (size_t)length;
    }
    return n;
}

START_TEST(test_long_lists_are_read_to_their_end_and_said_to_have_been_cut_when_they_fill_a_page)
{
    static char list[400000];
    static const struct fiemap_extent whole[] = {EXTENT(0, 0, 100000, FIEMAP_EXTENT_LAST)};
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    fake_extents(whole, 1);
    whole_device("");
    struct badblocks *b = open_list();
    for (int cut = 0; cut < 4; cut++) {
        static const size_t reads[] = {0, 1, 7, 4096};
        fake.read_most = reads[cut];
        size_t n = long_list(list, page / 2);
        list_set(list);
        read_list(b);
        ck_assert_uint_eq(told_count, n);
        ck_assert(!badblocks_incomplete(b));
        n = long_list(list, 60000);
        list_set(list);
        read_list(b);
        ck_assert_uint_eq(told_count, n);
        ck_assert_uint_eq(told[n - 1].offset, 2 * (n - 1) * PAGE);
        ck_assert(badblocks_incomplete(b) == (60000 >= page - 10));
    }
    fake.read_most = 0;
    /* The shortest lines there are, to the end of what is read at all. */
    for (unsigned i = 0; i < 16384; i++)
        snprintf(list + i * 4, 5, "%u 1\n", i == 16383 ? 9 : i % 8);
    list_set(list);
    read_list(b);
    EXPECT("the last line, too", 0, 2);
    ck_assert(badblocks_incomplete(b));
    long_list(list, 300000);
    list_set(list);
    read_list(b);
    ck_assert(badblocks_incomplete(b));
    ck_assert_uint_gt(told_count, 4000);
    badblocks_close(b);
}
END_TEST

/* The kernel's own cut: 4095 bytes, where a line may end by chance. */
START_TEST(test_a_text_that_fills_a_page_is_incomplete_also_when_it_ends_with_a_line)
{
    static char list[70000];
    static const struct fiemap_extent whole[] = {EXTENT(0, 0, 100000, FIEMAP_EXTENT_LAST)};
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    fake_extents(whole, 1);
    whole_device("");
    struct badblocks *b = open_list();
    for (size_t bytes = page - 3; bytes <= page - 1; bytes++) {
        memset(list, '\0', sizeof list);
        size_t n = 0;
        while (n + 12 < bytes)
            n += (size_t)snprintf(list + n, sizeof list - n, "1 1\n");
        size_t digits = bytes - n - 3; /* leading zeros make up for the rest */
        n += (size_t)snprintf(list + n, sizeof list - n, "%0*d 1\n", (int)digits, 8);
        ck_assert_uint_eq(n, bytes);
        list_set(list);
        read_list(b);
        EXPECT("all", 0, 2);
        ck_assert_int_eq(badblocks_incomplete(b), bytes == page - 1);
    }
    badblocks_close(b);
}
END_TEST

/* --- against a plain model: one flag for each sector of a small device ---------------------- */

#define MODEL_SECTORS 4096u

static uint64_t model_state;

static uint64_t model_random(uint64_t bound)
{
    uint64_t z = (model_state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return (z ^ (z >> 31)) % bound;
}

static void model_run(struct badblocks *b, uint64_t start)
{
    static bool bad[MODEL_SECTORS], page_bad[MODEL_SECTORS];
    static struct fiemap_extent extents[256];
    static char list[4096];
    memset(bad, 0, sizeof bad);
    memset(page_bad, 0, sizeof page_bad);
    size_t n = 0;
    for (uint64_t i = model_random(40); i > 0; i--) {
        uint64_t at = model_random(MODEL_SECTORS);
        uint64_t length = 1 + model_random(model_random(2) ? 3 : 200);
        n += (size_t)snprintf(list + n, sizeof list - n, "%llu %llu\n", (unsigned long long)at,
                              (unsigned long long)length);
        for (uint64_t k = at; k < at + length && k < MODEL_SECTORS; k++)
            bad[k] = true;
    }
    list[n] = '\0';
    list_set(list);
    uint64_t unit = model_random(2) ? 8 : 2; /* sectors per block of the file system */
    uint64_t logical = 0, blocks = (MODEL_SECTORS - start) / unit;
    unsigned count = 0;
    for (uint64_t i = model_random(40); i > 0; i--) {
        uint64_t length = 1 + model_random(30), physical = model_random(blocks - 30);
        logical += model_random(3) * model_random(10);
        uint32_t flags = model_random(8) ? 0 : FIEMAP_EXTENT_DELALLOC;
        extents[count++] = (struct fiemap_extent){.fe_logical = logical * unit * SECTOR,
                                                  .fe_physical = physical * unit * SECTOR,
                                                  .fe_length = length * unit * SECTOR,
                                                  .fe_flags = flags};
        for (uint64_t k = 0; k < length * unit; k++)
            if (!flags && bad[start + physical * unit + k])
                page_bad[(logical * unit + k) * SECTOR / PAGE] = true;
        logical += length;
    }
    if (count > 0 && model_random(4))
        extents[count - 1].fe_flags |= FIEMAP_EXTENT_LAST;
    fake_extents(extents, count);
    fake.most = 1 + (unsigned)model_random(70);
    fake.read_most = model_random(2) ? 0 : 1 + model_random(100);
    read_list(b);
    size_t range = 0;
    for (uint64_t page = 0; page < MODEL_SECTORS; page++) {
        while (range < told_count && told[range].offset + told[range].bytes <= page * PAGE)
            range++;
        bool said = range < told_count && told[range].offset <= page * PAGE;
        fake_must(said == page_bad[page], "page %llu is %s, and said to be %s; list:\n%s",
                  (unsigned long long)page, page_bad[page] ? "bad" : "good", said ? "bad" : "good",
                  list);
    }
}

START_TEST(test_any_list_and_any_extents_give_what_looking_at_each_sector_gives)
{
    const char *text = getenv("DAX_TEST_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 0) : 1;
    printf("DAX_TEST_SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    char start[32];
    uint64_t start_sectors = seed % 100;
    snprintf(start, sizeof start, "%llu\n", (unsigned long long)start_sectors);
    fake_extents(one_extent, 1);
    make_partition(start);
    list_set("");
    struct badblocks *b = open_list();
    for (unsigned run = 0; run < 2000; run++) {
        model_state = seed * 1000003 + run;
        model_run(b, start_sectors);
    }
    badblocks_close(b);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("badblocks");
    tcase_add_test(tc, test_sectors_become_whole_pages_of_the_file);
    tcase_add_test(tc, test_ranges_are_cut_and_ordered_as_the_extents_are);
    tcase_add_test(tc, test_extents_that_come_in_small_batches_are_all_looked_at);
    tcase_add_test(tc, test_extents_without_a_place_of_their_own_are_skipped);
    tcase_add_test(tc, test_parts_of_a_page_are_its_page);
    tcase_add_test(tc, test_a_partition_uses_the_list_of_its_device_and_its_start);
    tcase_add_test(tc, test_a_partition_whose_start_cannot_be_read_is_an_error_or_not_known);
    tcase_add_test(tc, test_nothing_is_known_where_there_is_no_list_or_no_way_to_it);
    tcase_add_test(tc, test_no_list_is_a_list_that_is_empty_and_stays_so);
    tcase_add_test(tc, test_what_an_extent_repeats_of_the_one_before_is_told_once);
    tcase_add_test(tc, test_extents_that_no_file_can_have_are_an_error);
    tcase_add_test(tc, test_garbage_is_skipped_and_logged_once);
    tcase_add_test(tc, test_bytes_of_a_line_that_was_cut_never_name_a_good_sector);
    tcase_add_test(
        tc, test_long_lists_are_read_to_their_end_and_said_to_have_been_cut_when_they_fill_a_page);
    tcase_add_test(tc, test_a_text_that_fills_a_page_is_incomplete_also_when_it_ends_with_a_line);
    tcase_add_test(tc, test_any_list_and_any_extents_give_what_looking_at_each_sector_gives);
    return fake_main("badblocks", tc);
}
