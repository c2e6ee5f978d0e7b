/* Rounds of quotemill-collect in one process, for what only shows over many of them: memory that is not given back, descriptors that
 * stay open. Each round is what a call of the program does.
 *
 *   collect_driver ROUNDS ARGUMENTS-OF-ONCE…
 *   collect_driver search FILE COMMAND ARGUMENTS…
 *
 * Writes a line after the first round, a tenth of them, and all: rounds, resident KiB, the most that were resident so far, KiB of heap
 * in use, open descriptors. Or, after one call of a command: in how many places of this process' memory the first line of FILE stands. */
#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/collect/collect.h"
#include "tools/collect/tpm_link.h"

/* "VmRSS:", "VmHWM:" */
static unsigned long status_kib(const char *name)
{
    char line[256];
    unsigned long kib = 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            kib = strtoul(line + strlen(name), NULL, 10);
    if (f == NULL || kib == 0)
        exit(3);
    fclose(f);
    return kib;
}

static unsigned descriptors(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d != NULL && readdir(d) != NULL)
        n++;
    if (d != NULL)
        closedir(d);
    return n;
}

/* ---- what is left of a secret ---- */

enum { SECRET_MAX = 64, PLACES_MAX = 4096 };
static uint8_t inverse[SECRET_MAX]; /* of its bytes: the secret itself is nowhere by our doing */
static size_t secret_len;
static struct place {
    unsigned long from, to;
} place[PLACES_MAX];

static bool read_secret(const char *path)
{
    uint8_t c = 0;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && secret_len < SECRET_MAX && read(fd, &c, 1) == 1 && c != '\n')
        inverse[secret_len++] = c ^ 0xff;
    if (fd >= 0)
        close(fd);
    return secret_len >= 8;
}

static size_t writable_places(void)
{
    size_t count = 0;
    char line[512], rights[8];
    FILE *f = fopen("/proc/self/maps", "re");
    while (f != NULL && count < PLACES_MAX && fgets(line, sizeof line, f) != NULL) {
        char *end;
        place[count].from = strtoul(line, &end, 16);
        place[count].to = strtoul(end + 1, &end, 16);
        snprintf(rights, sizeof rights, "%.4s", end + 1);
        count += rights[0] == 'r' && rights[1] == 'w';
    }
    if (f != NULL)
        fclose(f);
    return count;
}

static int search(void)
{
    unsigned found = 0;
    const size_t count = writable_places();
    for (size_t i = 0; i < count; i++) {
        const volatile uint8_t *p = (const volatile uint8_t *)place[i].from;
        for (size_t at = 0, size = place[i].to - place[i].from; size - at >= secret_len; at++) {
            size_t n = 0;
            while (n < secret_len && p[at + n] + inverse[n] == 0xff)
                n++;
            found += n == secret_len;
        }
    }
    printf("%u places\n", found);
    return count == 0 || found != 0;
}

static int run_and_search(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } commands[] = {{"init", qm_collect_init}, {"activate", qm_collect_activate}, {"certificate", qm_collect_certificate},
                    {"once", qm_collect_once}, {"doctor", qm_collect_doctor}};
    if (!read_secret(argv[0]))
        return 2;
    for (size_t i = 0; i < QM_COUNT(commands); i++)
        if (strcmp(argv[1], commands[i].name) == 0) {
            const int code = commands[i].run(argc - 1, argv + 1);
            fprintf(stderr, "exit %d\n", code);
            return search();
        }
    return 2;
}

int main(int argc, char **argv)
{
    if (argc > 3 && strcmp(argv[1], "search") == 0) {
        setenv("TSS2_LOG", "all+none", 1);
        return run_and_search(argc - 2, argv + 2);
    }
    const unsigned rounds = argc > 2 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
    if (rounds == 0)
        return 2;
    setenv("TSS2_LOG", "all+none", 1);
    for (unsigned i = 1; i <= rounds; i++) {
        static char once[] = "once";
        char *again[64] = {once};
        for (int a = 2; a < argc && a < 63; a++)
            again[a - 1] = argv[a];
        const int code = qm_collect_once(argc - 1, again);
        if (code != 0 || qm_tpm_abandoned())
            return code != 0 ? code : 3;
        if (i == 1 || i == rounds / 10 || i == rounds)
            printf("%u %lu %lu %zu %u\n", i, status_kib("VmRSS:"), status_kib("VmHWM:"), mallinfo2().uordblks / 1024, descriptors());
    }
    return 0;
}
