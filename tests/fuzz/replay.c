/* replay.c: runs a fuzz target over files, without libFuzzer: the corpus as a regression test.
 *
 *   fuzz_NAME [-n TIMES] FILE|DIRECTORY ...   each file, and each file of a directory
 *   fuzz_NAME --seeds DIRECTORY               writes the target's seeds
 *
 * The file that is being run is named when the process ends on it. No file at all is a failure.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

#define REPLAY_BYTES_MAX (1u << 20)

static char running[1024];
static unsigned long files, times = 1;

/* abort, and what the processor reports: say on which file, then end as before. */
static void replay_died(int signal_number)
{
    static const char text[] = "died on ";
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
    (void)!write(STDERR_FILENO, running, strlen(running));
    (void)!write(STDERR_FILENO, "\n", 1);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void replay_file(const char *path)
{
    static uint8_t data[REPLAY_BYTES_MAX];
    snprintf(running, sizeof running, "%s", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t bytes = fd < 0 ? -1 : read(fd, data, sizeof data);
    if (bytes < 0) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    close(fd);
    fuzz_trace("== %s", path);
    /* Memory of the input's own length, so that a sanitizer sees what is read behind it. */
    uint8_t *copy = malloc((size_t)bytes + 1);
    memcpy(copy, data, (size_t)bytes);
    for (unsigned long i = 0; i < times; i++)
        fuzz_one(copy, (size_t)bytes);
    free(copy);
    files++;
}

static void replay_path(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
        replay_file(path);
        return;
    }
    struct dirent **names;
    int n = scandir(path, &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char full[1024];
        snprintf(full, sizeof full, "%s/%s", path, names[i]->d_name);
        if (names[i]->d_name[0] != '.')
            replay_path(full);
        free(names[i]);
    }
    if (n >= 0)
        free(names);
}

static const char *seed_dir;

static void replay_write_seed(const char *name, const void *data, size_t bytes)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/seed-%s", seed_dir, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, bytes, f) != bytes || fclose(f) != 0) {
        perror(path);
        exit(EXIT_FAILURE);
    }
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--seeds") == 0) {
        seed_dir = argv[2];
        fuzz_seeds(replay_write_seed);
        return EXIT_SUCCESS;
    }
    int first = 1;
    if (argc > 2 && strcmp(argv[1], "-n") == 0) {
        times = strtoul(argv[2], NULL, 10);
        first = 3;
    }
    (void)fuzz_dir();
    fuzz_start();
#ifndef __SANITIZE_ADDRESS__
    signal(SIGSEGV, replay_died);
    signal(SIGBUS, replay_died);
#endif
    signal(SIGABRT, replay_died);
    for (int i = first; i < argc; i++)
        replay_path(argv[i]);
    const char *name = strrchr(argv[0], '/');
    printf("figure: %s corpus files replayed: %lu\n", name ? name + 1 : argv[0], files);
    return files ? EXIT_SUCCESS : EXIT_FAILURE;
}
