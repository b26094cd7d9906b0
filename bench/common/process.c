/* process.c: see process.h. */
#include "bench/common/process.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "bench/common/subject.h"

uint64_t process_number(const char *path, const char *name)
{
    char line[256];
    size_t length = strlen(name);
    unsigned long long number = 0;
    bool found = false, kib = false;
    FILE *f = fopen(path, "r");
    while (f && !found && fgets(line, sizeof line, f)) {
        if (strncmp(line, name, length) != 0 || line[length] != ':')
            continue;
        found = sscanf(line + length + 1, "%llu", &number) == 1;
        kib = strstr(line, " kB\n") != NULL;
    }
    if (f)
        fclose(f);
    if (!found)
        bench_die(path, name);
    return (uint64_t)number * (kib ? 1024 : 1);
}

uint64_t process_anonymous_bytes(void)
{
    return process_number("/proc/self/smaps_rollup", "Anonymous");
}
