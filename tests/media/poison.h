/* poison.h: make pages of a mapped file fail with a real SIGBUS, and undo it.
 *
 * Two ways. A poison marker in the page table (userfaultfd, UFFDIO_POISON: kernel 6.6, root, tmpfs or
 * memfd): a load or store of the page faults with BUS_ADRERR, a system call that touches it there
 * says EFAULT, its neighbours are as they were, and read(2) and pread(2) of the file still work. And a
 * file that another process cuts: all pages from there on fault, on any file system.
 *
 * A marker belongs to one mapping and outlives pwrite(2) and a punched hole; bad_pages.h makes of it a
 * page that is bad in every way, in mappings to come too, and that a whole write heals.
 */
#ifndef TESTS_MEDIA_POISON_H
#define TESTS_MEDIA_POISON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POISON_PAGE_BYTES 4096u

/* Can this process poison pages of files in directory dir? NULL: yes; else why not. */
const char *poison_refused(const char *dir);

/* Poison the mapped page at addr, a multiple of 4096. false: refused, errno says why. */
bool poison_address(void *addr);

/* Load it from the file again. */
void poison_heal_address(void *addr);

/* The same for page `page` of the file, in each mapping of it that this process has: how many there
 * were. A mapping that cannot be poisoned ends the process with a message. */
unsigned poison_file_page(const char *path, uint64_t page);
unsigned poison_heal_file_page(const char *path, uint64_t page);

/* Is addr an address of page `page` of the file? */
bool poison_is_file_page(const char *path, uint64_t page, const void *addr);

/* Another process cuts the file. */
void poison_truncate(const char *path, uint64_t bytes);

#endif
