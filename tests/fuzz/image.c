/* image.c: files as pages in memory. */
#include "tests/fuzz/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

#define RUN_BYTES (64 * IMAGE_PAGE)

static const uint8_t zeros[IMAGE_PAGE];
static uint8_t run[RUN_BYTES]; /* pages that follow each other are read and written at once */

/* Index of the first page with at least this number. */
static size_t image_find(const struct image *im, uint64_t number)
{
    size_t low = 0, high = im->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (im->pages[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static const uint8_t *image_look(const struct image *im, uint64_t number)
{
    size_t i = image_find(im, number);
    return i < im->count && im->pages[i].number == number ? im->pages[i].bytes : zeros;
}

static uint8_t *image_make(struct image *im, uint64_t number)
{
    size_t i = image_find(im, number);
    if (i < im->count && im->pages[i].number == number)
        return im->pages[i].bytes;
    if (im->count == im->capacity) {
        im->capacity = im->capacity ? im->capacity * 2 : 64;
        im->pages = realloc(im->pages, im->capacity * sizeof *im->pages);
    }
    memmove(&im->pages[i + 1], &im->pages[i], (im->count - i) * sizeof *im->pages);
    im->count++;
    im->pages[i] = (struct image_page){number, calloc(1, IMAGE_PAGE)};
    return im->pages[i].bytes;
}

void image_free(struct image *im)
{
    for (size_t i = 0; i < im->count; i++)
        free(im->pages[i].bytes);
    free(im->pages);
    *im = (struct image){0};
}

void image_load(struct image *im, const char *path)
{
    struct stat st;
    image_free(im);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        FUZZ_CHECK(errno == ENOENT, "open %s: %s", path, strerror(errno));
        return;
    }
    FUZZ_CHECK(fstat(fd, &st) == 0, "fstat %s", path);
    im->there = true;
    im->size = (uint64_t)st.st_size;
    for (off_t at = 0; (at = lseek(fd, at, SEEK_DATA)) >= 0;) {
        off_t end = lseek(fd, at, SEEK_HOLE);
        for (at -= at % IMAGE_PAGE; at < end; at += RUN_BYTES) {
            size_t n = end - at < RUN_BYTES ? (size_t)(end - at) : RUN_BYTES;
            memset(run, 0, (n + IMAGE_PAGE - 1) / IMAGE_PAGE * IMAGE_PAGE);
            FUZZ_CHECK(pread(fd, run, n, at) > 0, "pread %s: %s", path, strerror(errno));
            /* Zeros as well: where data ends and a hole begins has a meaning (base.c, I3). */
            for (size_t i = 0; i < n; i += IMAGE_PAGE)
                memcpy(image_make(im, ((uint64_t)at + i) / IMAGE_PAGE), run + i, IMAGE_PAGE);
        }
        at = end;
    }
    close(fd);
}

void image_store(const struct image *im, const char *path)
{
    if (!im->there) {
        unlink(path);
        return;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    FUZZ_CHECK(fd >= 0, "open %s: %s", path, strerror(errno));
    FUZZ_CHECK(ftruncate(fd, 0) == 0 && ftruncate(fd, (off_t)im->size) == 0, "ftruncate %s: %s",
               path, strerror(errno));
    for (size_t i = 0, n; i < im->count; i += n) {
        uint64_t at = im->pages[i].number * IMAGE_PAGE;
        for (n = 0; n < RUN_BYTES / IMAGE_PAGE && i + n < im->count &&
                    im->pages[i + n].number == im->pages[i].number + n;
             n++)
            memcpy(run + n * IMAGE_PAGE, im->pages[i + n].bytes, IMAGE_PAGE);
        size_t len = im->size - at < n * IMAGE_PAGE ? (size_t)(im->size - at) : n * IMAGE_PAGE;
        FUZZ_CHECK(pwrite(fd, run, len, (off_t)at) == (ssize_t)len, "pwrite %s: %s", path,
                   strerror(errno));
    }
    close(fd);
}

void image_copy(struct image *to, const struct image *from)
{
    image_free(to);
    *to = (struct image){.there = from->there, .size = from->size, .capacity = from->count};
    to->pages = from->count ? malloc(from->count * sizeof *to->pages) : NULL;
    for (; to->count < from->count; to->count++) {
        struct image_page *p = &to->pages[to->count];
        *p = (struct image_page){from->pages[to->count].number, malloc(IMAGE_PAGE)};
        memcpy(p->bytes, from->pages[to->count].bytes, IMAGE_PAGE);
    }
}

void image_read(const struct image *im, void *to, size_t len, uint64_t offset)
{
    uint8_t *out = to;
    while (len > 0) {
        size_t at = offset % IMAGE_PAGE, n = IMAGE_PAGE - at < len ? IMAGE_PAGE - at : len;
        memcpy(out, image_look(im, offset / IMAGE_PAGE) + at, n);
        out += n;
        offset += n;
        len -= n;
    }
}

void image_write(struct image *im, const void *from, size_t len, uint64_t offset)
{
    const uint8_t *in = from;
    im->there = true;
    if (offset + len > im->size)
        im->size = offset + len;
    while (len > 0) {
        size_t at = offset % IMAGE_PAGE, n = IMAGE_PAGE - at < len ? IMAGE_PAGE - at : len;
        memcpy(image_make(im, offset / IMAGE_PAGE) + at, in, n);
        in += n;
        offset += n;
        len -= n;
    }
}

void image_cut(struct image *im, uint64_t size)
{
    im->there = true;
    im->size = size;
    while (im->count > 0 && im->pages[im->count - 1].number * IMAGE_PAGE >= size)
        free(im->pages[--im->count].bytes);
    if (size % IMAGE_PAGE && im->count > 0 && im->pages[im->count - 1].number == size / IMAGE_PAGE)
        memset(im->pages[im->count - 1].bytes + size % IMAGE_PAGE, 0,
               IMAGE_PAGE - size % IMAGE_PAGE);
}

uint64_t image_difference(const struct image *a, const struct image *b)
{
    size_t i = 0, j = 0;
    while (i < a->count || j < b->count) {
        uint64_t x = i < a->count ? a->pages[i].number : UINT64_MAX;
        uint64_t y = j < b->count ? b->pages[j].number : UINT64_MAX;
        const uint8_t *p = x <= y ? a->pages[i].bytes : zeros;
        const uint8_t *q = y <= x ? b->pages[j].bytes : zeros;
        if (memcmp(p, q, IMAGE_PAGE) != 0)
            for (unsigned k = 0; k < IMAGE_PAGE; k++)
                if (p[k] != q[k])
                    return (x < y ? x : y) * IMAGE_PAGE + k;
        i += x <= y;
        j += y <= x;
    }
    if (a->size != b->size || a->there != b->there)
        return a->size < b->size ? a->size : b->size;
    return UINT64_MAX;
}
