/* The pool of workers over one worklist, for ThreadSanitizer: small files, whole files, shared
 * streams and a stop, in both modes. Exit 0: every record came once. */
#include <ftw.h>

#include "tests/ingest_pool.h"

enum { SMALL_FILES = 600, MIDDLE_FILES = 30, LONG_FILES = 4 };

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

/* Files of all sizes below dir; gives the number of records. */
static uint32_t make_spool(const char *dir)
{
    char path[128];
    uint32_t no = 0;
    for (int i = 0; i < SMALL_FILES + MIDDLE_FILES + LONG_FILES; i++) {
        size_t count = i < SMALL_FILES ? 3 : i < SMALL_FILES + MIDDLE_FILES ? 100 : 1500;
        snprintf(path, sizeof path, "%s/%d.mpk", dir, i);
        records_put(path, no, count, 8, 4000);
        no += (uint32_t)count;
    }
    return no;
}

static bool run(const char *dir, uint32_t records, enum qm_io io, unsigned workers,
                size_t stop_after)
{
    static struct pool p;
    struct failures failures = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct qm_fault fault;
    memset(&p, 0, sizeof p);
    p.io = io;
    p.workers = workers;
    p.records = true;
    p.seen_count = records;
    p.seen = calloc(records, 1);
    p.stop_after = stop_after;
    if (p.seen == NULL || qm_worklist_open(&p.w, note_failure, &failures, &fault) != QM_OK ||
        qm_worklist_add(p.w, dir, &fault) != QM_OK || !pool_run(&p))
        return false;
    size_t wrong = 0;
    for (uint32_t i = 0; i < records; i++)
        wrong += stop_after == 0 ? p.seen[i] != 1 : p.seen[i] > 1;
    bool ok = wrong == 0 && p.failed == 0 && failures.count == 0;
    printf("%s %u workers%s: %zu records, %zu batches, %zu windows: %s\n",
           io == QM_IO_URING ? "ring" : "read", workers, stop_after != 0 ? ", stopped" : "",
           p.record_count, p.batches, p.windows, ok ? "ok" : "WRONG");
    qm_worklist_close(p.w);
    free(p.seen);
    return ok;
}

int main(void)
{
    char dir[] = "/tmp/qm-tsan-XXXXXX";
    if (mkdtemp(dir) == NULL) {
        perror(dir);
        return 1;
    }
    uint32_t records = make_spool(dir);
    bool ok = true;
    static const unsigned workers[] = {1, 2, 8};
    for (size_t i = 0; i < QM_COUNT(workers); i++) {
        ok &= run(dir, records, QM_IO_READ, workers[i], 0);
        ok &= run(dir, records, QM_IO_READ, workers[i], 5);
        if (qm_uring_probe(NULL, 0)) {
            ok &= run(dir, records, QM_IO_URING, workers[i], 0);
            ok &= run(dir, records, QM_IO_URING, workers[i], 5);
        }
    }
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return ok ? 0 : 1;
}
