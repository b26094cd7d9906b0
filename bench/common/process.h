/* process.h: what the kernel says of this process and of the machine. */
#ifndef BENCH_PROCESS_H
#define BENCH_PROCESS_H

#include <stdint.h>

/* The number of the line "NAME: NUMBER" of a file of /proc: "wchar" of /proc/self/io, "RssAnon" of
 * /proc/self/status. Where the line ends in kB, in bytes. Ends the program where there is no such line. */
uint64_t process_number(const char *path, const char *name);

/* Memory of this process that no file backs (and none of a tmpfs): the exact one, which takes a look at every
 * page, hence a while. */
uint64_t process_anonymous_bytes(void);

#endif
