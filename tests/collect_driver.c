/* Rounds of quotemill-collect in one process, for what only shows over many of them: memory that is not given back, descriptors that
 * stay open. Each round is what a call of the program does.
 *
 *   collect_driver ROUNDS ARGUMENTS-OF-ONCE…
 *
 * Writes a line after the first round, a tenth of them, and all: rounds, resident KiB, the most that were resident so far, KiB of heap
 * in use, open descriptors. */
#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

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

int main(int argc, char **argv)
{
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
