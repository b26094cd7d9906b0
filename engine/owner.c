/* owner.c: open-file-description locks on stock SQLite's lock bytes, and who holds them instead.
 *
 *   byte             stock SQLite                        OWNER_READER    OWNER_WRITER
 *   1 GiB      PENDING   writer waiting for readers;     (see below)     write
 *                        read lock while a reader starts
 *   1 GiB + 1  RESERVED  writer                          -               write
 *   1 GiB + 2  SHARED    510 bytes: read lock: reader;   read            write
 *                        write lock: writer at commit
 *
 * All of OWNER_WRITER's bytes are one range, locked by one call, which the kernel grants whole or
 * not at all and which converts the reader's lock in place: a refused conversion leaves the
 * reader's lock as it was.
 *
 * OWNER_READER is taken as stock SQLite's readers take it: a read lock on PENDING while the SHARED
 * bytes are locked, so that a stock writer who waits for readers to leave is not starved.
 *
 * The locks belong to the open file description: they go when its last descriptor is closed, also
 * one that a child has from fork, and closing other descriptors of the file does nothing to them.
 */
#include "engine/owner.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OWNER_PENDING_BYTE 0x40000000
#define OWNER_PENDING_BYTES 1
#define OWNER_RESERVED_BYTES 1
#define OWNER_SHARED_BYTE (OWNER_PENDING_BYTE + OWNER_PENDING_BYTES + OWNER_RESERVED_BYTES)
#define OWNER_SHARED_BYTES 510
#define OWNER_ALL_BYTES (OWNER_PENDING_BYTES + OWNER_RESERVED_BYTES + OWNER_SHARED_BYTES)

/* Longest command name in /proc is 15 bytes and a newline. */
#define OWNER_NAME_BYTES 24

static struct flock owner_range(short type, off_t start, off_t bytes)
{
    return (struct flock){
        .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = bytes, .l_pid = 0};
}

/* 0 or an errno; EAGAIN: somebody else holds it. */
static int owner_set(int fd, short type, off_t start, off_t bytes)
{
    struct flock lock = owner_range(type, start, bytes);
    for (;;) {
        if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
            return 0;
        if (errno == EACCES)
            return EAGAIN;
        if (errno != EINTR)
            return errno;
    }
}

static int owner_take_reader(int fd)
{
    int e = owner_set(fd, F_RDLCK, OWNER_PENDING_BYTE, OWNER_PENDING_BYTES);
    if (e != 0)
        return e;
    e = owner_set(fd, F_RDLCK, OWNER_SHARED_BYTE, OWNER_SHARED_BYTES);
    /* Coming from OWNER_WRITER, this also gives PENDING and RESERVED back. Should the line above
     * have failed then (no memory for the lock), the write lock on SHARED still stands alone,
     * and it is enough to keep everybody out. */
    off_t give_back = OWNER_PENDING_BYTES + (e == 0 ? OWNER_RESERVED_BYTES : 0);
    int e2 = owner_set(fd, F_UNLCK, OWNER_PENDING_BYTE, give_back);
    return e != 0 ? e : e2;
}

static int owner_take(int fd, enum owner_kind want)
{
    switch (want) {
    case OWNER_NONE: return owner_set(fd, F_UNLCK, OWNER_PENDING_BYTE, OWNER_ALL_BYTES);
    case OWNER_READER: return owner_take_reader(fd);
    case OWNER_WRITER: return owner_set(fd, F_WRLCK, OWNER_PENDING_BYTE, OWNER_ALL_BYTES);
    }
    return EINVAL;
}

/* Small /proc files are read whole; 0 if there is nothing to read. */
static size_t owner_read_proc(const char *path, char *buf, size_t buf_bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    size_t n = 0;
    while (n + 1 < buf_bytes) {
        ssize_t got = read(fd, buf + n, buf_bytes - 1 - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    close(fd);
    buf[n] = '\0';
    return n;
}

static void owner_name(long pid, char name[OWNER_NAME_BYTES])
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/comm", pid);
    size_t n = owner_read_proc(path, name, OWNER_NAME_BYTES);
    if (n > 0 && name[n - 1] == '\n')
        name[n - 1] = '\0';
    if (n == 0)
        snprintf(name, OWNER_NAME_BYTES, "?");
    for (char *c = name; *c; c++)
        if (!isprint((unsigned char)*c))
            *c = '?';
}

/* How many descriptors of process `dir` ("self" or a pid), other than `except`, name the file. */
static unsigned owner_descriptors(const char *dir, const struct stat *file, int except)
{
    char path[320];
    snprintf(path, sizeof path, "/proc/%s/fd", dir);
    DIR *d = opendir(path);
    if (!d)
        return 0;
    unsigned found = 0;
    for (struct dirent *e; (e = readdir(d));) {
        struct stat st;
        if (!isdigit((unsigned char)e->d_name[0]) || atoi(e->d_name) == except)
            continue;
        if (fstatat(dirfd(d), e->d_name, &st, 0) == 0 && st.st_dev == file->st_dev &&
            st.st_ino == file->st_ino)
            found++;
    }
    closedir(d);
    return found;
}

void owner_holders(int fd, char *buf, size_t buf_bytes)
{
    struct stat file;
    if (buf_bytes == 0)
        return;
    buf[0] = '\0';
    if (fstat(fd, &file) != 0)
        return;
    DIR *proc = opendir("/proc");
    if (!proc)
        return;
    size_t used = 0;
    long self = (long)getpid();
    for (struct dirent *e; (e = readdir(proc));) {
        char *end;
        long pid = strtol(e->d_name, &end, 10);
        if (*end != '\0' || pid <= 0 || pid == self || owner_descriptors(e->d_name, &file, -1) == 0)
            continue;
        char name[OWNER_NAME_BYTES], one[64];
        owner_name(pid, name);
        int n = snprintf(one, sizeof one, "%s%ld (%s)", used ? ", " : "", pid, name);
        if (used + (size_t)n + sizeof ", ..." > buf_bytes) {
            snprintf(buf + used, buf_bytes - used, "%s", used ? ", ..." : "");
            break;
        }
        memcpy(buf + used, one, (size_t)n + 1);
        used += (size_t)n;
    }
    closedir(proc);
}

uint64_t owner_start_time(int pid)
{
    char path[64], stat_line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    if (owner_read_proc(path, stat_line, sizeof stat_line) == 0)
        return 0;
    /* The command name may hold spaces and parentheses: fields are counted from its last one. */
    char *p = strrchr(stat_line, ')');
    if (!p)
        return 0;
    for (int field = 2; field < 22; field++) {
        p = strchr(p + 1, ' ');
        if (!p)
            return 0;
    }
    return strtoull(p + 1, NULL, 10);
}

/* One phrase for the user: who is in the way of `want`. */
static void owner_who(int fd, enum owner_kind want, char *buf, size_t buf_bytes)
{
    struct flock lock = want == OWNER_WRITER
                            ? owner_range(F_WRLCK, OWNER_PENDING_BYTE, OWNER_ALL_BYTES)
                            : owner_range(F_RDLCK, OWNER_PENDING_BYTE, OWNER_ALL_BYTES);
    bool known = fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    if (known && lock.l_pid == getpid()) {
        snprintf(buf, buf_bytes, "a stock SQLite connection of this process has it open");
        return;
    }
    if (known && lock.l_pid > 0) {
        char name[OWNER_NAME_BYTES];
        owner_name((long)lock.l_pid, name);
        snprintf(buf, buf_bytes, "process %ld (%s) has it open", (long)lock.l_pid, name);
        return;
    }
    /* An open-file-description lock has no pid: name whoever has the file open. */
    char holders[256];
    owner_holders(fd, holders, sizeof holders);
    struct stat file;
    if (holders[0])
        snprintf(buf, buf_bytes, "%s %s it open", holders, strchr(holders, ',') ? "have" : "has");
    else if (fstat(fd, &file) == 0 && owner_descriptors("self", &file, fd) > 0)
        snprintf(buf, buf_bytes, "this process has it open a second time");
    else if (known)
        snprintf(buf, buf_bytes,
                 "a process that cannot be seen from here (of another user or "
                 "container) has it open");
    else
        snprintf(buf, buf_bytes, "another process had it open a moment ago");
}

dax_rc owner_lock(int fd, const char *path, enum owner_kind want, struct dax_err *err)
{
    int e = owner_take(fd, want);
    if (e == 0)
        return DAX_OK;
    if (e != EAGAIN)
        return dax_err_set(err, DAX_CANT_OPEN, e, "cannot lock \"%s\" for %s", path,
                           want == OWNER_WRITER ? "writing" : "reading");
    char who[320];
    owner_who(fd, want, who, sizeof who);
    dax_log(DAX_LOCKED, "database is locked: \"%s\": %s", path, who);
    return dax_err_set(err, DAX_LOCKED, 0, "\"%s\" is locked: %s; close it there and try again",
                       path, who);
}
