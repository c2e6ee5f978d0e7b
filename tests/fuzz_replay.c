/* Runs a fuzz target over files and folders, for builds without libFuzzer: the corpus is part of
 * every test run. Each input is in memory of exactly its size, so that a sanitizer sees a read past
 * its end. A short one is also run cut off at every length: what a decoder takes for granted shows
 * where the bytes end before it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CUT_MAX = 512 }; /* bytes of an input that is cut at every length */

static unsigned inputs;

static void die(const char *path)
{
    fprintf(stderr, "fuzz_replay: %s: %s\n", path, strerror(errno));
    exit(EXIT_FAILURE);
}

static void run_bytes(const uint8_t *bytes, size_t size)
{
    uint8_t *exact = malloc(size != 0 ? size : 1);
    if (exact == NULL)
        die("memory");
    memcpy(exact, bytes, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

static void run_file(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        die(path);
    size_t size = (size_t)st.st_size;
    uint8_t *data = malloc(size != 0 ? size : 1);
    if (data == NULL || read(fd, data, size) != (ssize_t)size)
        die(path);
    close(fd);
    fprintf(stderr, "%s\n", path); /* the last one named is the one that failed */
    for (size_t cut = 0; size <= CUT_MAX && cut < size; cut++)
        run_bytes(data, cut);
    run_bytes(data, size);
    free(data);
    inputs++;
}

static void run_folder(const char *path)
{
    struct dirent **names;
    int count = scandir(path, &names, NULL, alphasort);
    if (count < 0)
        die(path);
    for (int i = 0; i < count; i++) {
        char file[4096];
        if (names[i]->d_name[0] != '.') {
            snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name);
            run_file(file);
        }
        free(names[i]);
    }
    free(names);
}

int main(int argc, char **argv)
{
    struct stat st;
    for (int i = 1; i < argc; i++) {
        if (stat(argv[i], &st) != 0)
            die(argv[i]);
        if (S_ISDIR(st.st_mode))
            run_folder(argv[i]);
        else
            run_file(argv[i]);
    }
    printf("%u inputs\n", inputs);
    return inputs != 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
