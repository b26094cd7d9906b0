/* image.c: crash images on real files, with an undo log. */
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hooks.h"

enum undo_kind {
    UNDO_BYTES,
    UNDO_HOLE,
    UNDO_SIZE,
    UNDO_NAME
};

struct undo {
    enum undo_kind kind;
    enum image_file file;
    uint64_t offset; /* or the size, or the name */
    uint32_t len;
    size_t at;
};

struct image image = {.fd = {-1, -1}};

static struct undo *undo;
static size_t undo_count, undo_capacity;
static uint8_t *undo_bytes;
static size_t undo_used, undo_space;

/* --- words --------------------------------------------------------------------------------------- */

static uint64_t image_mix(uint64_t x)
{
    x ^= x >> 32;
    x *= UINT64_C(0xD6E8FEB86659FD93);
    x ^= x >> 32;
    x *= UINT64_C(0xD6E8FEB86659FD93);
    x ^= x >> 32;
    return x;
}

static uint64_t image_word_hash(enum image_file f, uint64_t offset, uint64_t value)
{
    if (value == 0)
        return 0;
    return image_mix(value * UINT64_C(0x9E3779B97F4A7C15) +
                     image_mix(offset + ((uint64_t)f << 56) + 1));
}

bool image_is_engine(uint64_t offset)
{
    return (offset >= image.root_from && offset < image.root_to) ||
           (offset >= image.ring_from && offset < image.ring_to);
}

/* Where [offset, offset + *len) is; *len becomes what is in one piece. */
static uint8_t *image_run(enum image_file f, uint64_t offset, uint64_t *len)
{
    if (f == FILE_BASE) {
        bool high = offset >= IMAGE_HIGH_FROM;
        uint64_t end = high ? IMAGE_HIGH_FROM + IMAGE_HIGH_BYTES : IMAGE_LOW_BYTES;
        hooks_must(offset + *len <= end, "a store at %llu: the image is not mapped there",
                   (unsigned long long)offset);
        return high ? image.high + (offset - IMAGE_HIGH_FROM) : image.low[f] + offset;
    }
    const uint64_t edges[] = {image.root_from, image.root_to, image.ring_from, image.ring_to};
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        if (edges[i] > offset && edges[i] - offset < *len)
            *len = edges[i] - offset;
    return (image_is_engine(offset) ? image.low[f] : image.shadow) + offset;
}

/* Exclusive-or of the hashes of all words of [from, to). */
static uint64_t image_hash_range(enum image_file f, const uint8_t *at, uint64_t from, uint64_t to)
{
    uint64_t h = 0, v;
    for (uint64_t o = from; o < to; o += sizeof v, at += sizeof v) {
        memcpy(&v, at, sizeof v);
        h ^= image_word_hash(f, o, v);
    }
    return h;
}

uint64_t image_state(void)
{
    return image_draw() ^ image_mix(image.own_hash + 7);
}

uint64_t image_draw(void)
{
    uint64_t x = image.hash;
    for (int f = 0; f < IMAGE_FILES; f++)
        x ^= image_mix(image.size[f] * 4 + image.name[f] + ((uint64_t)(f + 1) << 60));
    return x;
}

/* --- undo ---------------------------------------------------------------------------------------- */

static void undo_push(enum undo_kind kind, enum image_file f, uint64_t offset, const uint8_t *bytes,
                      uint64_t len)
{
    if (undo_count == undo_capacity) {
        undo_capacity = undo_capacity ? undo_capacity * 2 : 4096;
        undo = realloc(undo, undo_capacity * sizeof *undo);
    }
    while (undo_used + len > undo_space) {
        undo_space = undo_space ? undo_space * 2 : 1 << 20;
        undo_bytes = realloc(undo_bytes, undo_space);
    }
    undo[undo_count++] = (struct undo){kind, f, offset, (uint32_t)len, undo_used};
    if (len)
        memcpy(undo_bytes + undo_used, bytes, len);
    undo_used += len;
}

struct image_mark image_mark(void)
{
    return (struct image_mark){undo_count, undo_used, image.hash, image.own_hash};
}

static void image_resize(uint64_t size)
{
    hooks_must(ftruncate(image.fd[FILE_BASE], (off_t)size) == 0, "ftruncate");
    image.size[FILE_BASE] = size;
}

static void image_rename(enum image_file f, enum image_name name)
{
    bool was = image.name[f] == NAME_OWN, is = name == NAME_OWN;
    if (was != is)
        hooks_must(
            rename(is ? image.hidden[f] : image.path[f], is ? image.path[f] : image.hidden[f]) == 0,
            "rename %s", image.path[f]);
    image.name[f] = name;
}

void image_undo(const struct image_mark *mark)
{
    while (undo_count > mark->count) {
        const struct undo *u = &undo[--undo_count];
        uint64_t len = u->len;
        switch (u->kind) {
        case UNDO_BYTES:
            for (uint64_t at = 0; at < u->len; at += len) {
                len = u->len - at;
                uint8_t *to = image_run(u->file, u->offset + at, &len);
                memcpy(to, undo_bytes + u->at + at, len);
            }
            break;
        case UNDO_HOLE:
            hooks_must(fallocate(image.fd[FILE_BASE], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                 (off_t)u->offset, 4096) == 0,
                       "punch");
            break;
        case UNDO_SIZE:
            if (u->file == FILE_BASE)
                image_resize(u->offset);
            else
                image.size[u->file] = u->offset;
            break;
        case UNDO_NAME: image_rename(u->file, (enum image_name)u->offset); break;
        }
    }
    undo_used = mark->used;
    image.hash = mark->hash;
    image.own_hash = mark->own_hash;
}

/* --- changes ------------------------------------------------------------------------------------- */

/* Where scratch exists, holes mean something: a page that was one becomes one again. */
static void image_note_holes(uint64_t offset, uint64_t len)
{
    if (image.size[FILE_BASE] <= IMAGE_LOW_BYTES)
        return;
    for (uint64_t page = offset & ~UINT64_C(4095); page < offset + len; page += 4096) {
        off_t data = lseek(image.fd[FILE_BASE], (off_t)page, SEEK_DATA);
        if (data < 0 || (uint64_t)data >= page + 4096)
            undo_push(UNDO_HOLE, FILE_BASE, page, NULL, 0);
    }
}

void image_note(enum image_file f, uint64_t offset, uint64_t len)
{
    if (f == FILE_BASE)
        image_note_holes(offset, len);
    for (uint64_t at = 0, n; at < len; at += n) {
        n = len - at;
        const uint8_t *from = image_run(f, offset + at, &n);
        undo_push(UNDO_BYTES, f, offset + at, from, n);
    }
}

/* Bytes of base behind `size` go: remember them. Of zeros only the end of a run matters: that it is
 * no hole (base.c, I3). */
static uint64_t image_note_cut(uint64_t size)
{
    static const uint8_t zeros[4096];
    uint64_t h = 0, end = image.size[FILE_BASE];
    int fd = image.fd[FILE_BASE];
    for (uint64_t at = size; at < end;) {
        off_t data = lseek(fd, (off_t)at, SEEK_DATA);
        if (data < 0)
            break;
        uint64_t hole = (uint64_t)lseek(fd, data, SEEK_HOLE);
        hole = hole < end ? hole : end;
        at = (uint64_t)data;
        for (uint64_t n; at < hole; at += n) {
            n = 4096 - at % 4096 < hole - at ? 4096 - at % 4096 : hole - at;
            const uint8_t *from = image_run(FILE_BASE, at, &n);
            bool zero = memcmp(from, zeros, n) == 0;
            if (!zero)
                h ^= image_hash_range(FILE_BASE, from, at, at + n);
            if (!zero || at + n == hole)
                undo_push(UNDO_BYTES, FILE_BASE, at, from, n);
        }
    }
    return h;
}

void image_note_size(uint64_t size)
{
    if (size == image.size[FILE_BASE])
        return;
    (void)image_note_cut(size);
    undo_push(UNDO_SIZE, FILE_BASE, image.size[FILE_BASE], NULL, 0);
    image.size[FILE_BASE] = size;
}

void image_set_size(enum image_file f, uint64_t size)
{
    if (size == image.size[f])
        return;
    if (f == FILE_SIDE) {
        undo_push(UNDO_SIZE, f, image.size[f], NULL, 0);
        image.size[f] = size;
        return;
    }
    image.hash ^= image_note_cut(size);
    undo_push(UNDO_SIZE, f, image.size[f], NULL, 0);
    image_resize(size);
}

void image_set_name(enum image_file f, enum image_name name)
{
    if (name == image.name[f])
        return;
    undo_push(UNDO_NAME, f, image.name[f], NULL, 0);
    image_rename(f, name);
}

static void image_write_run(enum image_file f, uint64_t offset, uint8_t *to, const uint8_t *bytes,
                            uint64_t len)
{
    uint64_t lead = offset % 8, from = offset - lead, end = (offset + len + 7) & ~UINT64_C(7);
    uint64_t h = image_hash_range(f, to - lead, from, end);
    undo_push(UNDO_BYTES, f, offset, to, len);
    memcpy(to, bytes, len);
    h ^= image_hash_range(f, to - lead, from, end);
    if (f == FILE_SIDE && !image_is_engine(offset))
        image.own_hash ^= h;
    else
        image.hash ^= h;
}

void image_touch(uint64_t offset)
{
    if (offset >= image.size[FILE_BASE])
        return;
    off_t data = lseek(image.fd[FILE_BASE], (off_t)(offset & ~UINT64_C(4095)), SEEK_DATA);
    if (data >= 0 && (uint64_t)data <= offset)
        return;
    undo_push(UNDO_HOLE, FILE_BASE, offset & ~UINT64_C(4095), NULL, 0);
    uint64_t len = 1;
    volatile uint8_t *byte = image_run(FILE_BASE, offset, &len);
    *byte = *byte;
}

void image_write(enum image_file f, uint64_t offset, const uint8_t *bytes, uint64_t len)
{
    if (offset >= image.size[f])
        return;
    if (len > image.size[f] - offset)
        len = image.size[f] - offset;
    if (f == FILE_BASE)
        image_note_holes(offset, len);
    for (uint64_t at = 0, n; at < len; at += n) {
        n = len - at;
        uint8_t *to = image_run(f, offset + at, &n);
        if (memcmp(to, bytes + at, n) != 0)
            image_write_run(f, offset + at, to, bytes + at, n);
    }
}

/* --- the whole ----------------------------------------------------------------------------------- */

static void image_remove_directory(void)
{
    char command[IMAGE_PATH];
    if (!*image.dir || getenv("DAX_TEST_KEEP"))
        return;
    snprintf(command, sizeof command, "rm -rf '%s'", image.dir);
    if (system(command) != 0)
        fprintf(stderr, "cannot remove %s\n", image.dir);
}

void image_make_directory(void)
{
    const char *parent = getenv("DAX_TEST_DIR");
    char made[IMAGE_PATH / 2], *real;
    snprintf(made, sizeof made, "%s/dax-crash-XXXXXX", parent && *parent ? parent : "/dev/shm");
    hooks_must(mkdtemp(made) && (real = realpath(made, NULL)), "cannot make %s", made);
    hooks_must(strlen(real) < sizeof image.dir, "%s: too long", real);
    memcpy(image.dir, real, strlen(real) + 1);
    atexit(image_remove_directory);
    static const char *const suffixes[] = {"", "-dax"};
    for (int f = 0; f < IMAGE_FILES; f++) {
        snprintf(image.path[f], IMAGE_PATH, "%.255s/app.db%s", real, suffixes[f]);
        snprintf(image.hidden[f], IMAGE_PATH, "%.255s/hidden%s", real, suffixes[f]);
    }
    free(real);
}

static uint8_t *image_map(int fd, uint64_t bytes, uint64_t offset)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                   fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, (off_t)offset);
    hooks_must(p != MAP_FAILED, "mmap");
    return p;
}

void image_attach(void)
{
    for (int f = 0; f < IMAGE_FILES; f++) {
        struct stat st = {0};
        image.fd[f] = hooks_real_open(image.path[f], O_RDWR | O_CLOEXEC);
        image.name[f] = image.fd[f] >= 0 ? NAME_OWN : NAME_ABSENT;
        if (image.fd[f] < 0)
            image.fd[f] = hooks_real_open(image.hidden[f], O_RDWR | O_CREAT | O_CLOEXEC);
        hooks_must(image.fd[f] >= 0 && fstat(image.fd[f], &st) == 0, "open %s", image.path[f]);
        image.size[f] = (uint64_t)st.st_size;
        image.low[f] = image_map(image.fd[f], IMAGE_LOW_BYTES, 0);
    }
    image.high = image_map(image.fd[FILE_BASE], IMAGE_HIGH_BYTES, IMAGE_HIGH_FROM);
    image.shadow = image_map(-1, IMAGE_LOW_BYTES, 0);
    undo_count = undo_used = 0;
}

void image_detach(void)
{
    for (int f = 0; f < IMAGE_FILES; f++) {
        munmap(image.low[f], IMAGE_LOW_BYTES);
        hooks_real_close(image.fd[f]);
        image.fd[f] = -1;
        unlink(image.hidden[f]);
    }
    munmap(image.high, IMAGE_HIGH_BYTES);
    munmap(image.shadow, IMAGE_LOW_BYTES);
    image.root_from = image.root_to = image.ring_from = image.ring_to = 0;
}

void image_save(struct image_copy *out)
{
    for (int f = 0; f < IMAGE_FILES; f++) {
        struct stat st;
        int fd = hooks_real_open(image.path[f], O_RDONLY | O_CLOEXEC);
        out->bytes[f] = NULL;
        out->size[f] = 0;
        if (fd < 0)
            continue;
        hooks_must(fstat(fd, &st) == 0 && (uint64_t)st.st_size <= IMAGE_LOW_BYTES,
                   "%s is too large", image.path[f]);
        out->size[f] = (uint64_t)st.st_size;
        out->bytes[f] = calloc(1, out->size[f] + 4096);
        hooks_must(pread(fd, out->bytes[f], out->size[f], 0) == (ssize_t)out->size[f], "read");
        hooks_real_close(fd);
    }
}

/* The hash of a file's content from nothing. */
static void image_rehash(enum image_file f)
{
    for (uint64_t at = 0, n; at < image.size[f]; at += n) {
        n = 4096 - at % 4096;
        n = n < image.size[f] - at ? n : image.size[f] - at;
        const uint8_t *p = image_run(f, at, &n);
        uint64_t h = image_hash_range(f, p, at, (at + n + 7) & ~UINT64_C(7));
        if (f == FILE_SIDE && !image_is_engine(at))
            image.own_hash ^= h;
        else
            image.hash ^= h;
    }
}

void image_restore(const struct image_copy *from)
{
    image.hash = image.own_hash = 0;
    undo_count = undo_used = 0;
    for (int f = 0; f < IMAGE_FILES; f++)
        image_rename(f, from->bytes[f] ? NAME_OWN : NAME_ABSENT);
    image_resize(0);
    image_resize(from->size[FILE_BASE]);
    if (from->size[FILE_BASE])
        memcpy(image.low[FILE_BASE], from->bytes[FILE_BASE], from->size[FILE_BASE]);
    image.size[FILE_SIDE] = from->size[FILE_SIDE];
    memset(image.shadow, 0, IMAGE_LOW_BYTES);
    const uint64_t areas[][2] = {{image.root_from, image.root_to},
                                 {image.ring_from, image.ring_to}};
    for (int i = 0; i < 2; i++)
        memset(image.low[FILE_SIDE] + areas[i][0], 0, areas[i][1] - areas[i][0]);
    for (uint64_t at = 0, n; at < from->size[FILE_SIDE]; at += n) {
        n = from->size[FILE_SIDE] - at;
        uint8_t *to = image_run(FILE_SIDE, at, &n);
        memcpy(to, from->bytes[FILE_SIDE] + at, n);
    }
    image_rehash(FILE_BASE);
    image_rehash(FILE_SIDE);
}

void image_free_copy(struct image_copy *c)
{
    for (int f = 0; f < IMAGE_FILES; f++)
        free(c->bytes[f]);
    memset(c, 0, sizeof *c);
}

static int image_create(const char *path, uint64_t size)
{
    unlink(path);
    int fd = hooks_real_open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC);
    hooks_must(fd >= 0 && ftruncate(fd, (off_t)size) == 0, "create %s", path);
    return fd;
}

static void image_put_page(int fd, enum image_file f, uint64_t at)
{
    for (uint64_t end = at + 4096 < image.size[f] ? at + 4096 : image.size[f], n; at < end;
         at += n) {
        n = end - at;
        const uint8_t *from = image_run(f, at, &n);
        hooks_must(pwrite(fd, from, n, (off_t)at) == (ssize_t)n, "write");
    }
}

static bool image_overlaps(uint64_t at, uint64_t from, uint64_t to)
{
    return from < at + 4096 && to > at;
}

/* Are all bytes of the sidecar's page zero? */
static bool image_side_is_zero(uint64_t at)
{
    static const uint8_t zeros[4096];
    bool engine = image_overlaps(at, image.root_from, image.root_to) ||
                  image_overlaps(at, image.ring_from, image.ring_to);
    return memcmp(image.shadow + at, zeros, 4096) == 0 &&
           (!engine || memcmp(image.low[FILE_SIDE] + at, zeros, 4096) == 0);
}

void image_copy_files(const char *to_base)
{
    char path[IMAGE_PATH];
    static const char *const names[] = {"-dax", "-dax-new"};
    unlink(to_base);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s%s", to_base, names[i]);
        unlink(path);
    }
    if (image.name[FILE_BASE] == NAME_OWN) {
        int fd = image_create(to_base, image.size[FILE_BASE]);
        for (uint64_t at = 0; at < image.size[FILE_BASE];) {
            off_t data = lseek(image.fd[FILE_BASE], (off_t)at, SEEK_DATA);
            if (data < 0)
                break;
            at = (uint64_t)data;
            image_put_page(fd, FILE_BASE, at);
            at += 4096;
        }
        hooks_real_close(fd);
    }
    if (image.name[FILE_SIDE] == NAME_ABSENT)
        return;
    snprintf(path, sizeof path, "%s%s", to_base, names[image.name[FILE_SIDE] == NAME_OWN ? 0 : 1]);
    int fd = image_create(path, image.size[FILE_SIDE]);
    if (image.size[FILE_SIDE])
        hooks_must(fallocate(fd, 0, 0, (off_t)image.size[FILE_SIDE]) == 0, "fallocate %s", path);
    for (uint64_t at = 0; at < image.size[FILE_SIDE]; at += 4096)
        if (!image_side_is_zero(at))
            image_put_page(fd, FILE_SIDE, at);
    hooks_real_close(fd);
}
