/* bad_pages.h: pages of files that are bad in every way, as those of a failing DAX device are.
 *
 * The list here stands for the device. A program that links bad_pages.c has its libc calls mmap, pread
 * and pwrite (and kin) in front of libc's, for every library of the process: a bad page is poisoned in
 * each mapping as it is made, read(2) of it says EIO, part of it cannot be written, and a write of all
 * of it heals it, as real persistent memory does (BAD_STUCK: the write says EIO instead, and
 * a punched hole heals it).
 */
#ifndef TESTS_MEDIA_BAD_PAGES_H
#define TESTS_MEDIA_BAD_PAGES_H

#include <stdbool.h>
#include <stdint.h>

enum {
    BAD_MAPPED = 1, /* loads and stores fault */
    BAD_READ = 2,   /* pread says EIO */
    BAD_STUCK = 4   /* pwrite does not heal it */
};

#define BAD_PAGES_MAX 64

/* The file must exist; the page may be beyond its end. Again: the new ways. */
void bad_page_add(const char *path, uint64_t page, unsigned ways);
/* It is good again. No effect if it was. */
void bad_page_remove(const char *path, uint64_t page);
bool bad_page_is(const char *path, uint64_t page);

struct bad_counts {
    unsigned mapped;  /* poisoned in a mapping that was made later */
    unsigned read;    /* preads refused */
    unsigned written; /* pwrites refused */
    unsigned healed;  /* by a write or a punched hole */
};
void bad_pages_count(struct bad_counts *out);

/* Called in the midst of it: "pread" before a page of the list is read with it, "pwrite" before one is
 * written, "punch" when its storage has been given back and nothing else has happened since. On the
 * thread that does it, which may be inside the SIGBUS handler. NULL: nobody. Not called from within. */
void bad_pages_watch(void (*fn)(const char *call, uint64_t page));

#endif
