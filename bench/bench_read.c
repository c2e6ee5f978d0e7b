/* How fast evidence is read: the reader with one and two workers, plain and ring, against one
 * thread that opens, reads and closes, on a hot and (as root) a cold page cache. JSON lines; every
 * way in every round, medians over the rounds.
 *
 *   bench_read DIR [ROUNDS [FILES LOW HIGH]]    makes DIR with FILES files of LOW to HIGH bytes
 * when it does not exist
 *
 * Every cache line of what was read is touched, as a verifier would. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ingest/ingest.h"

enum {
    ROUNDS_MAX = 50,
    WORKERS_MAX = 2,
    RECORD_BYTES = 22528,
    BUFFER_BYTES = 1024 * 1024,
    FILES_PER_DIR = 10000
};

static const char *spool;
static volatile uint64_t sink;

struct outcome {
    double list_s, read_s, cpu_s; /* cpu_s: all threads, the kernel's for the ring too */
    uint64_t files, bytes;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void fail(const char *what)
{
    perror(what);
    exit(3);
}

static uint64_t touch(const uint8_t *p, size_t len)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < len; i += QM_CACHE_LINE)
        sum += p[i];
    return sum;
}

/* ---- the yardstick: two levels of directories, one thread ---- */

static void plain_directory(int parent, const char *name, uint8_t *buffer, struct outcome *o)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (d == NULL)
        fail(name);
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        size_t len = strlen(e->d_name);
        if (len < 4 || strcmp(e->d_name + len - 4, ".mpk") != 0)
            continue;
        int file = openat(fd, e->d_name, O_RDONLY | O_CLOEXEC);
        if (file < 0)
            fail(e->d_name);
        for (ssize_t n; (n = read(file, buffer, BUFFER_BYTES)) > 0;) {
            sink += touch(buffer, (size_t)n);
            o->bytes += (uint64_t)n;
        }
        close(file);
        o->files++;
    }
    closedir(d);
}

static struct outcome run_plain(void)
{
    struct outcome o = {0};
    uint8_t *buffer = malloc(BUFFER_BYTES);
    double start = now();
    int fd = open(spool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (d == NULL || buffer == NULL)
        fail(spool);
    for (const struct dirent *e; (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.')
            plain_directory(fd, e->d_name, buffer, &o);
    closedir(d);
    free(buffer);
    o.read_s = now() - start;
    return o;
}

/* ---- the reader ---- */

struct worker {
    struct qm_reader *reader;
    uint64_t files, sum;
};

static void *work(void *arg)
{
    struct worker *me = arg;
    struct qm_fault fault;
    struct qm_batch batch;
    uint64_t sum = 0;
    while (qm_reader_next(me->reader, &batch, NULL, &fault) == QM_OK && batch.piece_count != 0)
        for (size_t i = 0; i < batch.piece_count; i++) {
            const struct qm_piece *p = &batch.piece[i];
            size_t used = p->last ? p->len : p->len - p->len % RECORD_BYTES;
            me->files += p->last;
            if (batch.window)
                qm_reader_settle(me->reader, used, used / RECORD_BYTES, false);
            sum += touch(p->bytes, used);
        }
    me->sum = sum;
    return NULL;
}

static struct outcome run_reader(enum qm_io io, unsigned workers)
{
    struct outcome o = {0};
    struct qm_worklist *w;
    struct qm_fault fault;
    struct worker worker[WORKERS_MAX] = {0};
    pthread_t thread[WORKERS_MAX];
    double start = now();
    if (qm_worklist_open(&w, NULL, NULL, &fault) != QM_OK ||
        qm_worklist_add(w, spool, &fault) != QM_OK)
        fail("worklist");
    o.list_s = now() - start;
    start = now();
    for (unsigned i = 0; i < workers; i++)
        if (qm_reader_open(&worker[i].reader, w, io, &fault) != QM_OK)
            fail(fault.text);
    for (unsigned i = 0; i < workers; i++)
        if (pthread_create(&thread[i], NULL, work, &worker[i]) != 0)
            fail("thread");
    for (unsigned i = 0; i < workers; i++)
        pthread_join(thread[i], NULL);
    o.read_s = now() - start;
    for (unsigned i = 0; i < workers; i++) {
        o.files += worker[i].files;
        o.bytes += qm_reader_read_bytes(worker[i].reader);
        sink += worker[i].sum;
        qm_reader_close(worker[i].reader);
    }
    qm_worklist_close(w);
    return o;
}

/* ---- the run ---- */

static bool chill(void)
{
    sync();
    int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write(fd, "3", 1) == 1;
    if (fd >= 0)
        close(fd);
    return done;
}

static void make_spool(size_t files, size_t low, size_t high)
{
    uint8_t *bytes = malloc(high);
    char path[4096];
    uint64_t state = 88172645463325252u;
    if (bytes == NULL || mkdir(spool, 0700) != 0)
        fail(spool);
    for (size_t i = 0; i < high; i++)
        bytes[i] = (uint8_t)(i * 37);
    for (size_t i = 0; i < files; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        size_t len = low + state % (high - low + 1);
        snprintf(path, sizeof path, "%s/%zu", spool, i / FILES_PER_DIR);
        if (i % FILES_PER_DIR == 0 && mkdir(path, 0700) != 0)
            fail(path);
        /* Named by chance, as instance ids are: the order of names is not the order on the disk. */
        snprintf(path, sizeof path, "%s/%zu/%016llx.mpk", spool, i / FILES_PER_DIR,
                 (unsigned long long)state);
        FILE *f = fopen(path, "wb");
        if (f == NULL || fwrite(bytes, 1, len, f) != len || fclose(f) != 0)
            fail(path);
    }
    free(bytes);
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return v[n / 2];
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        enum qm_io io;
        unsigned workers; /* 0: the yardstick */
    } ways[] = {
        {"open-read-close", QM_IO_READ, 0}, {"reader-read", QM_IO_READ, 1},
        {"reader-read", QM_IO_READ, 2},     {"reader-uring", QM_IO_URING, 1},
        {"reader-uring", QM_IO_URING, 2},
    };
    static struct outcome got[2][QM_COUNT(ways)][ROUNDS_MAX];
    char reason[200] = "";
    if (argc != 2 && argc != 3 && argc != 6) {
        fprintf(stderr, "usage: bench_read DIR [ROUNDS [FILES LOW HIGH]]\n");
        return 2;
    }
    spool = argv[1];
    size_t rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 5;
    rounds = rounds < 1 ? 1 : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
    struct stat st;
    if (stat(spool, &st) != 0 && argc == 6)
        make_spool(strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10),
                   strtoul(argv[5], NULL, 10));
    bool ring = qm_uring_probe(reason, sizeof reason);
    if (!ring)
        fprintf(stderr, "bench_read: %s\n", reason);
    bool can_chill = chill();
    for (int cold = 0; cold <= can_chill; cold++) {
        if (!cold)
            (void)run_plain(); /* warms the cache */
        for (size_t round = 0; round < rounds; round++)
            for (size_t way = 0; way < QM_COUNT(ways); way++) {
                if (ways[way].io == QM_IO_URING && !ring)
                    continue;
                if (cold)
                    chill();
                struct outcome *o = &got[cold][way][round];
                double cpu = cpu_now();
                *o = ways[way].workers == 0 ? run_plain()
                                            : run_reader(ways[way].io, ways[way].workers);
                o->cpu_s = cpu_now() - cpu;
            }
        for (size_t way = 0; way < QM_COUNT(ways); way++) {
            if (ways[way].io == QM_IO_URING && !ring)
                continue;
            double all[ROUNDS_MAX], list[ROUNDS_MAX], cpu[ROUNDS_MAX];
            for (size_t i = 0; i < rounds; i++) {
                list[i] = got[cold][way][i].list_s;
                cpu[i] = got[cold][way][i].cpu_s;
                all[i] = got[cold][way][i].list_s + got[cold][way][i].read_s;
            }
            double s = median(all, rounds);
            const struct outcome *o = &got[cold][way][0];
            printf("{\"bench\":\"read\",\"way\":\"%s\",\"workers\":%u,\"cache\":\"%s\",\"rounds\":%"
                   "zu,\"files\":%llu,"
                   "\"bytes\":%llu,\"list_s\":%.4f,\"all_s\":%.4f,\"best_s\":%.4f,\"cpu_s\":%.4f,"
                   "\"files_per_s\":%.0f,"
                   "\"bytes_per_s\":%.0f}\n",
                   ways[way].name, ways[way].workers == 0 ? 1 : ways[way].workers,
                   cold ? "cold" : "hot", rounds, (unsigned long long)o->files,
                   (unsigned long long)o->bytes, median(list, rounds), s, all[0],
                   median(cpu, rounds), (double)o->files / s, (double)o->bytes / s);
            fflush(stdout);
        }
    }
    return 0;
}
