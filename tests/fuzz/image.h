/* image.h: files as pages in memory: to keep, change, put back and compare them.
 *
 * Holes are pages that are not there; they read as zeros. A file is always put back in place, never
 * made anew: the engine keeps descriptors of files that it has refused, by their inode.
 */
#ifndef TESTS_FUZZ_IMAGE_H
#define TESTS_FUZZ_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IMAGE_PAGE 4096u

struct image_page {
    uint64_t number;
    uint8_t *bytes; /* IMAGE_PAGE of them, owned */
};

struct image {
    bool there; /* false: no such file */
    uint64_t size;
    struct image_page *pages; /* ascending */
    size_t count, capacity;
};

void image_load(struct image *im, const char *path);
/* Put it back; a file that is not there is removed. */
void image_store(const struct image *im, const char *path);
void image_copy(struct image *to, const struct image *from);
void image_free(struct image *im);

void image_read(const struct image *im, void *to, size_t len, uint64_t offset);
/* Makes the pages and, if need be, the file longer. */
void image_write(struct image *im, const void *from, size_t len, uint64_t offset);
void image_cut(struct image *im, uint64_t size);

/* Offset of the first byte that differs, UINT64_MAX: same content and size. Sizes that differ count
 * as a difference at the end of the shorter. */
uint64_t image_difference(const struct image *a, const struct image *b);

#endif
