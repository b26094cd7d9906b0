/* guest.h: what the scenarios share that run in the virtual machine.
 *
 * A scenario is one process of the guest with a file system of its own choosing below /mnt, real DAX
 * on a stock kernel; its exit status is the verdict. It prints what the host reads, line by line
 * (see vm.py): "ack N", "found N", figures, and whatever helps where it fails.
 */
#ifndef TESTS_VM_GUEST_H
#define TESTS_VM_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/system/harness.h"

#define GUEST_PAGE 4096u
#define GUEST_HUGE (2u << 20)

/* --- scenarios -------------------------------------------------------------------------------- */

void scenario_mode(void);                           /* guest_mode.c */
void scenario_mode_again(void);                     /* guest_mode.c */
void scenario_device(void);                         /* guest_poison.c */
void scenario_device_stays(void);                   /* guest_poison.c */
void scenario_media(void);                          /* guest_media.c */
void scenario_media_stays(void);                    /* guest_media.c */
void scenario_media_ring(void);                     /* guest_media.c */
void scenario_media_log(void);                      /* guest_media.c */
void scenario_media_twin(void);                     /* guest_sidecar.c */
void scenario_media_ledger(void);                   /* guest_sidecar.c */
void scenario_media_ring_open(void);                /* guest_sidecar.c */
void scenario_media_live(void);                     /* guest_sidecar.c */
void scenario_media_frame(void);                    /* guest_sidecar.c */
__attribute__((weak)) void scenario_hwpoison(void); /* guest_hwpoison.c, vm_guest_linked only */
__attribute__((weak)) void scenario_early(void);    /* guest_hwpoison.c, vm_guest_linked only */
void scenario_work(void);                           /* guest_stop.c */
void scenario_check(void);                          /* guest_stop.c */

/* dax.arg of the kernel's command line, "" without. */
const char *guest_arg(void);

/* --- media errors ----------------------------------------------------------------------------- */

/* The kernel's list of bad blocks of the device that the file system of `path` is on: put the 4096
 * bytes at `offset` of the file onto it. No data changes: it is the kernel that refuses them. */
void poison_add(const char *path, uint64_t offset);

/* Is any part of these 4096 bytes of the file listed? */
bool poison_listed(const char *path, uint64_t offset);

/* Ranges on the list, of whatever file. */
unsigned poison_count(const char *path);

/* The next load from the file, in each mapping of this process, is a new fault. */
void forget_mappings(const char *path);

/* First byte on the device of `offset` of the file; must be there. */
uint64_t file_physical(const char *path, uint64_t offset);

/* Load one byte; 0, or the si_code of the SIGBUS that it gave, with the signal's si_addr_lsb. */
int touch(const volatile uint8_t *at, int *lsb_out);

/* --- ways to stop, in the program that is linked with the engine (guest_halt.c) ------------------- */

/* "commit:N:M" stops the machine at the Mth store or fence within the Nth and later commits from
 * here, "open:0:M" and "close:0:M" at the Mth while databases are being opened or closed; "" never. */
__attribute__((weak)) void halt_arm(const char *spec);

#endif
