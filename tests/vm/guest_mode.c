/* guest_mode.c: on a DAX file system the mode is pmem, and memory is mapped 2 MiB at a time.
 *
 * smaps shows neither (DAX pages are not counted there), so the kernel's own trace of its faults
 * answers: every fault on the two files, those that mapped 2 MiB at once and those of 4096 bytes.
 */
#include "tests/vm/guest.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRACING "/sys/kernel/tracing/"

static void write_file(const char *file, const char *value)
{
    int fd = open(file, O_WRONLY | O_TRUNC);
    CHECK(fd >= 0, "%s", file);
    CHECK(write(fd, value, strlen(value)) == (ssize_t)strlen(value), "%s", file);
    close(fd);
}

struct faults {
    unsigned huge;       /* mapped 2 MiB */
    unsigned small;      /* mapped 4096 bytes */
    unsigned small_past; /* of these, behind the file's first 2 MiB */
};

/* The faults on this file since trace_begin. */
static struct faults trace_faults(const char *path)
{
    struct faults n = {0};
    struct stat st;
    CHECK(stat(path, &st) == 0, "%s", path);
    char *ino = test_printf(" ino %#llx ", (unsigned long long)st.st_ino);
    FILE *f = fopen(TRACING "trace", "r");
    CHECK(f, "trace");
    char line[1024];
    while (fgets(line, sizeof line, f)) {
        const char *offset = strstr(line, " pgoff ");
        if (!strstr(line, ino) || !offset)
            continue;
        if (strstr(line, " dax_pmd_fault_done: ")) {
            n.huge += !strstr(line, "FALLBACK");
        } else if (strstr(line, " dax_pte_fault_done: ")) {
            n.small++;
            n.small_past +=
                strtoull(offset + strlen(" pgoff "), NULL, 16) >= GUEST_HUGE / GUEST_PAGE;
        }
    }
    fclose(f);
    test_say("%s: %lld bytes, %u faults of 2 MiB, %u of 4096 bytes (%u behind the first 2 MiB)",
             strrchr(path, '/') + 1, (long long)file_bytes(path), n.huge, n.small, n.small_past);
    return n;
}

static void trace_begin(void)
{
    write_file(TRACING "buffer_size_kb", "8192");
    write_file(TRACING "events/fs_dax/dax_pmd_fault_done/enable", "1");
    write_file(TRACING "events/fs_dax/dax_pte_fault_done/enable", "1");
    write_file(TRACING "trace", "");
}

/* Load a byte of every page through the pointers that SQLite gets. */
static void read_all(sqlite3 *db)
{
    CHECK(db_int(db, "SELECT sum(length(hex(body))) FROM t") > 0, "nothing read");
}

void scenario_mode(void)
{
    char *path = test_path("mode.db"), *sidecar = test_printf("%s-dax", path);
    CHECK(mkdir(test_dir(), 0755) == 0, "%s", test_dir());
    trace_begin();
    sqlite3 *db = db_open(path, "dax_log_size=16777216");
    db_exec(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB);"
                "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 2500)"
                " INSERT INTO t SELECT i, randomblob(3000) FROM s;"
                "UPDATE t SET body = zeroblob(20) WHERE id %% 7 = 0");

    char *mode = db_text(db, "SELECT dax_status()->>'$.mode'");
    char *why = db_text(db, "SELECT dax_status()->>'$.why'");
    test_say("mode %s: %s", mode, why);
    CHECK(!strcmp(mode, "pmem"), "mode is %s: %s", mode, why);
    CHECK(text_has(why, "MAP_SYNC granted"), "%s", why);
    CHECK(text_has(why, getenv("DAX_VM_FS")), "\"%s\" does not name the file system", why);

    /* Page 1 was there before the rest of the file's first 2 MiB, which refuses one mapping of both
     * for now. */
    struct faults base = trace_faults(path);
    CHECK(base.huge >= 3 && base.small_past == 0, "the growing database is mapped in small pieces");
    struct faults side = trace_faults(sidecar);
    CHECK(side.huge >= 6, "the log is mapped in small pieces");
    db_close(db);
}

/* After "mode" and a new mount, since the kernel keeps to the sizes that it has once mapped. */
void scenario_mode_again(void)
{
    char *path = test_path("mode.db");
    trace_begin();
    sqlite3 *db = db_open(path, "");
    read_all(db);
    struct faults base = trace_faults(path);
    CHECK(base.huge >= 4, "an existing database is mapped in small pieces");
    CHECK(base.small < GUEST_HUGE / GUEST_PAGE,
          "more than the last piece is mapped in small pieces");
    db_close(db);
}
