/* inject.h: makes the Nth call of a class fail, beneath the engine, the VFS and SQLite.
 *
 * The engine's and the VFS's objects are merged into one with every call of libc and libpmemobj
 * that can fail redirected to inject.c (ld -r --wrap, see CMakeLists.txt), so only their calls are
 * counted, not the test's or a library's. SQLite gets an allocator that can fail, and the VFS below
 * daxlite (temporary files, journals of stock SQLite) is a shim (inject_vfs.c).
 *
 * Nothing fails and nothing is counted while no fault is armed. One thread.
 */
#ifndef TESTS_FAULT_INJECT_H
#define TESTS_FAULT_INJECT_H

#include <stdbool.h>
#include <stdint.h>

/* X(class, what a reader of the figures is told) */
#define FAULT_CLASSES(X)                                                                           \
    X(HEAP, "heap of engine and VFS")                                                              \
    X(SQLITE_HEAP, "heap of SQLite")                                                               \
    X(FRAMES, "version frames")                                                                    \
    X(FALLOCATE, "fallocate")                                                                      \
    X(FTRUNCATE, "ftruncate")                                                                      \
    X(MMAP, "mmap")                                                                                \
    X(MADVISE, "madvise")                                                                          \
    X(FSYNC, "fsync")                                                                              \
    X(FDATASYNC, "fdatasync")                                                                      \
    X(OPEN, "open")                                                                                \
    X(READ, "read and pread")                                                                      \
    X(PWRITE, "pwrite")                                                                            \
    X(RENAME, "rename")                                                                            \
    X(UNLINK, "unlink")                                                                            \
    X(STAT, "stat and its kin")                                                                    \
    X(LSEEK, "lseek")                                                                              \
    X(LOCK, "fcntl (locks)")                                                                       \
    X(RIGHTS, "fchmod and fchown")                                                                 \
    X(PMEMOBJ, "libpmemobj")                                                                       \
    X(VFS_OPEN, "xOpen below")                                                                     \
    X(VFS_READ, "xRead below")                                                                     \
    X(VFS_WRITE, "xWrite below")                                                                   \
    X(VFS_TRUNCATE, "xTruncate below")                                                             \
    X(VFS_SYNC, "xSync below")                                                                     \
    X(VFS_SIZE, "xFileSize below")                                                                 \
    X(VFS_DELETE, "xDelete below")                                                                 \
    X(VFS_ACCESS, "xAccess below")

enum fault_class {
#define FAULT_ENUM(name, text) FAULT_##name,
    FAULT_CLASSES(FAULT_ENUM)
#undef FAULT_ENUM
    FAULT_CLASS_COUNT
};

const char *fault_class_text(enum fault_class c);

/* How a call fails: errno, or for the classes VFS_* an SQLite code. */
struct fault {
    enum fault_class class;
    int code;
    bool sticky; /* the nth and all later ones */
    uint64_t nth;
};

/* Before SQLite starts: its allocator. */
void fault_init(void);
/* Before daxlite registers: the shim becomes the default VFS. */
void fault_register_vfs(void);

void fault_arm(const struct fault *f);
/* Returns how many calls were made to fail. */
uint64_t fault_disarm(void);

/* Calls of the class while a fault was armed, of whatever class. */
uint64_t fault_calls(enum fault_class c);

/* One call of the class is about to be made: must it fail? Sets errno. */
bool fault_hit(enum fault_class c);
int fault_code(void);

/* What the engine and the VFS hold: allocations, and bytes of their own mappings. */
struct fault_balance {
    int64_t allocations;
    int64_t mapped_bytes;
};
struct fault_balance fault_balance(void);

#endif
