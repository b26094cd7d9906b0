/* medium.c: reads the file system's type and asks the kernel for MAP_SYNC.
 *
 * MAP_SYNC granted is the only proof that stores reach persistent memory: the kernel grants it
 * where the inode is DAX and the device synchronous, and then keeps the file's metadata durable
 * before a page can be stored to. Neither depends on the file's size, so an empty file answers like
 * any other, and nothing is touched through the mapping.
 *
 * Everything else is decided from the file-system type, because what does not work there gives no
 * error: a network or FUSE file system accepts a shared mapping but another machine, or the server
 * behind it, can change or lose pages without a signal that commits could wait for.
 */
#include "engine/medium.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "engine/limits.h"

#ifndef MAP_SHARED_VALIDATE
#define MAP_SHARED_VALIDATE 0x03
#endif
#ifndef MAP_SYNC
#define MAP_SYNC 0x080000
#endif

enum fs_class {
    FS_LOCAL,   /* page cache over a local device, or DAX */
    FS_MEMORY,  /* DRAM: cache-line mode, gone with the power */
    FS_NETWORK, /* pages belong to a server */
    FS_CLUSTER, /* pages are shared with other machines */
    FS_FUSE,    /* pages belong to a user process */
    FS_HOST     /* pages belong to the host of a virtual machine */
};

struct fs_type {
    uint32_t magic; /* of statfs */
    enum fs_class class;
    const char *name;
};

/* Numbers are the kernel's or the file system's own constants; linux/magic.h has only some. */
static const struct fs_type fs_types[] = {
    {0x0000EF53, FS_LOCAL, "ext4"},       {0x58465342, FS_LOCAL, "xfs"},
    {0x9123683E, FS_LOCAL, "btrfs"},      {0xF2F52010, FS_LOCAL, "f2fs"},
    {0x2FC12FC1, FS_LOCAL, "zfs"},        {0xCA451A4E, FS_LOCAL, "bcachefs"},
    {0x794C7630, FS_LOCAL, "overlayfs"},  {0x4E4F5641, FS_LOCAL, "nova"},
    {0x3153464A, FS_LOCAL, "jfs"},        {0x00004D44, FS_LOCAL, "vfat"},
    {0x2011BAB0, FS_LOCAL, "exfat"},      {0x7366746E, FS_LOCAL, "ntfs3"},
    {0x01021994, FS_MEMORY, "tmpfs"},     {0x858458F6, FS_MEMORY, "ramfs"},
    {0x00006969, FS_NETWORK, "nfs"},      {0x0000517B, FS_NETWORK, "smb"},
    {0xFF534D42, FS_NETWORK, "cifs"},     {0xFE534D42, FS_NETWORK, "smb2"},
    {0x01021997, FS_NETWORK, "9p"},       {0x00C36400, FS_NETWORK, "ceph"},
    {0x5346414F, FS_NETWORK, "afs"},      {0x6B414653, FS_NETWORK, "afs"},
    {0x73757245, FS_NETWORK, "coda"},     {0x0000564C, FS_NETWORK, "ncpfs"},
    {0x0BD00BD0, FS_CLUSTER, "lustre"},   {0x47504653, FS_CLUSTER, "gpfs"},
    {0x7461636F, FS_CLUSTER, "ocfs2"},    {0x01161970, FS_CLUSTER, "gfs2"},
    {0x19830326, FS_CLUSTER, "beegfs"},   {0xAAD7AAEA, FS_CLUSTER, "panfs"},
    {0x20030528, FS_CLUSTER, "orangefs"}, {0x65735546, FS_FUSE, "fuse"},
    {0x786F4256, FS_HOST, "vboxsf"},      {0x7C7C6673, FS_HOST, "prl_fs"},
    {0xBACBACBC, FS_HOST, "vmhgfs"},
};

static const struct fs_type *medium_type(long fs_magic)
{
    for (size_t i = 0; i < sizeof fs_types / sizeof fs_types[0]; i++)
        if (fs_types[i].magic == (uint32_t)fs_magic)
            return &fs_types[i];
    return NULL;
}

/* NULL: the file system can be used. */
static const char *medium_objection(enum fs_class class)
{
    switch (class) {
    case FS_LOCAL:
    case FS_MEMORY: return NULL;
    case FS_NETWORK: return "a network file system, whose server can change or drop mapped pages";
    case FS_CLUSTER: return "a cluster file system, whose pages other machines can take away";
    case FS_FUSE: return "a FUSE file system, whose mapped pages belong to another process";
    case FS_HOST: return "a folder shared by the virtual machine's host";
    }
    return NULL;
}

static void medium_errno_text(int e, char *buf, size_t buf_bytes)
{
    char text[96];
    snprintf(buf, buf_bytes, "%s", strerror_r(e, text, sizeof text));
}

static void medium_set(struct medium *out, enum persist_mode mode, const char *why)
{
    out->mode = mode;
    snprintf(out->why, sizeof out->why, "%s", why);
}

dax_rc medium_judge(long fs_magic, int map_sync_errno, const char *path, enum medium_choice choice,
                    struct medium *out, struct dax_err *err)
{
    const struct fs_type *type = medium_type(fs_magic);
    memset(out, 0, sizeof *out);
    if (type)
        snprintf(out->fs_name, sizeof out->fs_name, "%s", type->name);
    else
        snprintf(out->fs_name, sizeof out->fs_name, "0x%lx", (unsigned long)fs_magic);

    enum fs_class class = type ? type->class : FS_LOCAL;
    out->holes_take_space = class == FS_MEMORY;
    const char *objection = medium_objection(class);
    if (objection)
        return dax_err_set(err, DAX_CANT_OPEN, 0,
                           "\"%s\" is on %s, %s: memory-mapped commits need a local file system; "
                           "move the database to one, or open it without vfs=dax",
                           path, out->fs_name, objection);
    if (map_sync_errno != 0 && map_sync_errno != EOPNOTSUPP && map_sync_errno != EINVAL)
        return dax_err_set(err, map_sync_errno == ENOMEM ? DAX_NOMEM : DAX_CANT_OPEN,
                           map_sync_errno, "\"%s\" cannot be mapped into memory on %s", path,
                           out->fs_name);

    char why[sizeof out->why];
    char sys[96];
    if (choice == MEDIUM_MSYNC) {
        snprintf(why, sizeof why, "dax_persist=msync was asked for (file system %s)", out->fs_name);
        medium_set(out, PERSIST_MSYNC, why);
    } else if (map_sync_errno == 0) {
        snprintf(why, sizeof why, "MAP_SYNC granted by %s", out->fs_name);
        medium_set(out, PERSIST_PMEM, why);
    } else if (class == FS_MEMORY) {
        snprintf(
            why, sizeof why,
            "%s keeps files in DRAM: they survive a killed process, not a reboot or power loss",
            out->fs_name);
        medium_set(out, PERSIST_VOLATILE, why);
    } else if (choice == MEDIUM_PMEM) {
        return dax_err_set(err, DAX_CANT_OPEN, map_sync_errno,
                           "\"%s\": dax_persist=pmem was asked for, but %s refuses MAP_SYNC; use a "
                           "file system on persistent memory mounted with -o dax, or "
                           "dax_persist=auto",
                           path, out->fs_name);
    } else {
        medium_errno_text(map_sync_errno, sys, sizeof sys);
        snprintf(why, sizeof why, "MAP_SYNC refused by %s (%.64s): commits wait for fdatasync",
                 out->fs_name, sys);
        medium_set(out, PERSIST_MSYNC, why);
    }
    return DAX_OK;
}

/* 0: granted. */
static int medium_try_map_sync(int fd)
{
    void *p = mmap(NULL, DAX_PAGE_BYTES, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);
    if (p == MAP_FAILED)
        return errno;
    munmap(p, DAX_PAGE_BYTES);
    return 0;
}

dax_rc medium_detect(int fd, const char *path, enum medium_choice choice, struct medium *out,
                     struct dax_err *err)
{
    struct stat st;
    struct statfs fs;
    memset(out, 0, sizeof *out);
    if (fstat(fd, &st) != 0)
        return dax_err_set(err, DAX_CANT_OPEN, errno, "cannot examine \"%s\"", path);
    if (!S_ISREG(st.st_mode))
        return dax_err_set(err, DAX_CANT_OPEN, 0,
                           "\"%s\" is not a regular file: a database must be one", path);
    int e;
    do {
        e = fstatfs(fd, &fs) == 0 ? 0 : errno;
    } while (e == EINTR);
    if (e != 0)
        return dax_err_set(err, DAX_CANT_OPEN, e, "cannot find the file system of \"%s\"", path);
    return medium_judge((long)fs.f_type, medium_try_map_sync(fd), path, choice, out, err);
}
