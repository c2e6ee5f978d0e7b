#include "tools/gen/gen_round.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tools/gen/gen_machine.h"
#include "tools/gen/gen_rand.h"

enum {
    FLAT_FILES_MAX = 10000, /* one directory up to here */
    FILES_A_DIR = 1000,
    FLUSH_BYTES = 1 << 20,
    WORKERS_MAX = 256,
    ENROLL_LINE_MAX = 4096,
};

qm_err qm_gen_enroll(int dir_fd, const struct qm_gen_params *params, const struct qm_gen_keys *keys,
                     struct qm_fault *fault)
{
    static const char name[] = "enroll.ndjson", part[] = "enroll.ndjson.part";
    enum { CHUNK = 1 << 18 };
    char *chunk = malloc(CHUNK);
    struct qm_gen_templates templates = {{NULL, NULL}, 0};
    struct qm_gen_bench bench = {0};
    int fd = -1;
    qm_err err = chunk != NULL ? qm_gen_hasher_open(&bench.hasher, fault)
                               : qm_fail(fault, QM_E_NOMEM, 0, "out of memory");
    if (err == QM_OK)
        err = qm_gen_templates_open(&templates, params, false, &bench.hasher, fault);
    if (err == QM_OK && (bench.log = malloc(templates.log_len_max)) == NULL)
        err = qm_fail(fault, QM_E_NOMEM, 0, "out of memory");
    if (err == QM_OK &&
        (fd = openat(dir_fd, part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) < 0)
        err = qm_fail(fault, QM_E_IO, errno, "cannot write %s", name);
    struct qm_out o = qm_out_init(chunk, CHUNK);
    for (uint64_t m = 0; m < params->instances && err == QM_OK; m++) {
        uint8_t pcr[QM_GEN_PCRS][32];
        if (params->baseline)
            (void)qm_gen_measure(&templates.of[0][qm_gen_image_of(params->seed, m)], &bench.hasher,
                                 params->seed, m, false, bench.log, pcr);
        qm_gen_machine_enroll(&o, params->seed, m, &keys->key[m % keys->count],
                              params->baseline ? (const uint8_t(*)[32])pcr : NULL);
        if (o.cap - o.len < ENROLL_LINE_MAX || m + 1 == params->instances) {
            err = qm_gen_write_all(fd, o.p, o.len, name, fault);
            o.len = 0;
        }
    }
    if (err == QM_OK && bench.hasher.bad)
        err = qm_fail(fault, QM_E_CRYPTO, 0, "hashing failed");
    if (fd >= 0 && close(fd) != 0 && err == QM_OK)
        err = qm_fail(fault, QM_E_IO, errno, "cannot write %s", name);
    if (err == QM_OK && renameat(dir_fd, part, dir_fd, name) != 0)
        err = qm_fail(fault, QM_E_IO, errno, "cannot rename %s", part);
    qm_gen_bench_close(&bench);
    qm_gen_templates_close(&templates);
    free(chunk);
    return err;
}

/* --- which machines --- */

struct rank {
    uint64_t value;
    uint64_t machine;
};

static int compare_ranks(const void *a, const void *b)
{
    const struct rank *x = a, *y = b;
    if (x->value != y->value)
        return x->value < y->value ? -1 : 1;
    return x->machine < y->machine ? -1 : x->machine > y->machine;
}

/* Marks exactly round(count * share) machines (a half rounds to even) with bit: those that rank
 * lowest by seed and machine. So a larger share includes a smaller one's machines. */
static qm_err mark_share(uint8_t *marks, uint8_t bit, uint64_t count, double share, uint64_t seed,
                         enum qm_gen_purpose purpose, uint64_t *marked, struct qm_fault *fault)
{
    *marked = (uint64_t)rint((double)count * share);
    if (*marked == 0)
        return QM_OK;
    struct rank *ranks = calloc(count, sizeof *ranks);
    if (ranks == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "out of memory");
    for (uint64_t m = 0; m < count; m++)
        ranks[m] = (struct rank){qm_gen_u64(seed, m, purpose, 0), m};
    qsort(ranks, count, sizeof *ranks, compare_ranks);
    for (uint64_t i = 0; i < *marked; i++)
        marks[ranks[i].machine] |= bit;
    free(ranks);
    return QM_OK;
}

/* --- the workers: each takes the next file, until there is none --- */

enum { TAMPERED = 1, UPDATED = 2 };

struct job {
    const struct qm_gen_params *params;
    const struct qm_gen_keys *keys;
    const struct qm_gen_templates *templates;
    const uint8_t *marks; /* of each machine */
    struct qm_gen_state *state;
    bool first;
    uint64_t round;
    uint64_t file_count;
    int spool_fd;
    _Atomic uint64_t next_file;
    _Atomic uint64_t records, bytes; /* done, for the progress line too */
    atomic_bool stop;
    pthread_mutex_t lock; /* of what follows */
    struct qm_gen_tally tally;
    struct qm_fault fault;
};

static void file_name(const struct job *job, uint64_t file, char *name, size_t cap)
{
    char dir[32] = "", id[QM_GEN_ID_MAX];
    if (job->file_count > FLAT_FILES_MAX)
        snprintf(dir, sizeof dir, "%04llu/", (unsigned long long)(file / FILES_A_DIR));
    if (job->params->per_file == 1)
        qm_gen_machine_id(job->params->seed, file, id);
    else
        snprintf(id, sizeof id, "batch-%06llu", (unsigned long long)file);
    snprintf(name, cap, "%s%s.mpk", dir, id);
}

static qm_err flush(struct job *job, int fd, msgpack_sbuffer *buffer, const char *name,
                    struct qm_fault *fault)
{
    job->bytes += buffer->size;
    qm_err err = qm_gen_write_all(fd, buffer->data, buffer->size, name, fault);
    msgpack_sbuffer_clear(buffer);
    return err;
}

static qm_err write_records(struct job *job, struct qm_gen_bench *bench, msgpack_sbuffer *buffer,
                            uint64_t file, struct qm_gen_tally *tally, struct qm_fault *fault)
{
    char name[QM_GEN_ID_MAX + 48];
    uint64_t from = file * job->params->per_file;
    uint64_t to = job->params->instances - from > job->params->per_file
                      ? from + job->params->per_file
                      : job->params->instances;
    file_name(job, file, name, sizeof name);
    int fd = openat(job->spool_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return qm_fail(fault, QM_E_IO, errno, "cannot write %s", name);
    qm_err err = QM_OK;
    for (uint64_t m = from; m < to && err == QM_OK && !job->stop; m++) {
        struct qm_gen_visit visit = {m, job->round, (job->marks[m] & TAMPERED) != 0,
                                     (job->marks[m] & UPDATED) != 0};
        struct qm_gen_state prev = job->state[m];
        enum qm_gen_boot boot;
        err = qm_gen_machine_measure(bench, &visit, job->first ? NULL : &prev, &job->state[m],
                                     &boot, buffer, fault);
        tally->rebooted += boot == QM_GEN_REBOOTED;
        tally->resumed += boot == QM_GEN_RESUMED;
        job->records++;
        if (err == QM_OK && buffer->size >= FLUSH_BYTES)
            err = flush(job, fd, buffer, name, fault);
    }
    if (err == QM_OK)
        err = flush(job, fd, buffer, name, fault);
    if (close(fd) != 0 && err == QM_OK)
        err = qm_fail(fault, QM_E_IO, errno, "cannot write %s", name);
    tally->files++;
    return err;
}

static void *work(void *arg)
{
    struct job *job = arg;
    struct qm_gen_bench bench;
    struct qm_fault fault = {0};
    struct qm_gen_tally tally = {0};
    msgpack_sbuffer buffer;
    msgpack_sbuffer_init(&buffer);
    qm_err err = qm_gen_bench_open(&bench, job->params, job->templates, job->keys, &fault);
    if (err == QM_OK) {
        for (uint64_t file;
             err == QM_OK && !job->stop && (file = job->next_file++) < job->file_count;)
            err = write_records(job, &bench, &buffer, file, &tally, &fault);
        qm_gen_bench_close(&bench);
    }
    msgpack_sbuffer_destroy(&buffer);
    pthread_mutex_lock(&job->lock);
    job->tally.files += tally.files;
    job->tally.rebooted += tally.rebooted;
    job->tally.resumed += tally.resumed;
    if (err != QM_OK && job->fault.err == QM_OK)
        job->fault = fault;
    pthread_mutex_unlock(&job->lock);
    if (err != QM_OK)
        job->stop = true;
    return NULL;
}

static void show_progress(struct job *job)
{
    static const struct timespec sixth = {0, 1000000000 / 6};
    uint64_t total = job->params->instances, done;
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    while ((done = job->records) < total && !job->stop) {
        nanosleep(&sixth, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
        double seconds =
            (double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) / 1e9;
        fprintf(stderr, "\r%llu of %llu machines, %.0f/s, %.1f MB ", (unsigned long long)done,
                (unsigned long long)total, (double)done / seconds, (double)job->bytes / 1e6);
    }
    fputs("\r\033[K", stderr);
}

static qm_err run_workers(struct job *job, const struct qm_gen_round *round, struct qm_fault *fault)
{
    pthread_t thread[WORKERS_MAX];
    unsigned wanted = round->workers < WORKERS_MAX ? round->workers : WORKERS_MAX, started = 0;
    while (started < wanted && pthread_create(&thread[started], NULL, work, job) == 0)
        started++;
    if (started == 0)
        work(job); /* no threads to be had: slower, not wrong */
    else if (round->progress)
        show_progress(job);
    while (started > 0)
        pthread_join(thread[--started], NULL);
    if (job->fault.err != QM_OK && fault != NULL)
        *fault = job->fault;
    return job->fault.err;
}

static qm_err make_spool(struct job *job, int dir_fd, const char *part, struct qm_fault *fault)
{
    if (mkdirat(dir_fd, part, 0755) != 0 ||
        (job->spool_fd = openat(dir_fd, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
        return qm_fail(fault, QM_E_IO, errno, "cannot make %s", part);
    if (job->file_count <= FLAT_FILES_MAX)
        return QM_OK;
    for (uint64_t i = 0; i <= (job->file_count - 1) / FILES_A_DIR; i++) {
        char name[32];
        snprintf(name, sizeof name, "%04llu", (unsigned long long)i);
        if (mkdirat(job->spool_fd, name, 0755) != 0)
            return qm_fail(fault, QM_E_IO, errno, "cannot make %s/%s", part, name);
    }
    return QM_OK;
}

qm_err qm_gen_round_make(int dir_fd, const struct qm_gen_params *params,
                         const struct qm_gen_keys *keys, const struct qm_gen_round *round,
                         struct qm_gen_state *state, bool first, struct qm_gen_tally *tally,
                         struct qm_fault *fault)
{
    char part[40];
    struct qm_gen_hasher hasher;
    struct qm_gen_templates templates = {{NULL, NULL}, 0};
    uint8_t *marks = calloc(params->instances, 1);
    struct job job = {.params = params,
                      .keys = keys,
                      .templates = &templates,
                      .marks = marks,
                      .state = state,
                      .first = first,
                      .round = round->round,
                      .file_count = (params->instances - 1) / params->per_file + 1,
                      .spool_fd = -1,
                      .lock = PTHREAD_MUTEX_INITIALIZER};
    snprintf(part, sizeof part, "spool-%llu.part", (unsigned long long)round->round);
    qm_err err = qm_gen_hasher_open(&hasher, fault);
    if (err == QM_OK && marks == NULL)
        err = qm_fail(fault, QM_E_NOMEM, 0, "out of memory");
    if (err == QM_OK)
        err = mark_share(marks, TAMPERED, params->instances, round->tamper, params->seed,
                         QM_FOR_TAMPER, &job.tally.tampered, fault);
    if (err == QM_OK)
        err = mark_share(marks, UPDATED, params->instances, round->update, params->seed,
                         QM_FOR_UPDATE, &job.tally.updated, fault);
    if (err == QM_OK)
        err = qm_gen_templates_open(&templates, params, job.tally.updated != 0, &hasher, fault);
    if (err == QM_OK)
        err = make_spool(&job, dir_fd, part, fault);
    if (err == QM_OK)
        err = run_workers(&job, round, fault);
    job.tally.records = job.records;
    job.tally.bytes = job.bytes;
    *tally = job.tally;
    if (job.spool_fd >= 0)
        close(job.spool_fd);
    qm_gen_templates_close(&templates);
    qm_gen_hasher_close(&hasher);
    pthread_mutex_destroy(&job.lock);
    free(marks);
    return err;
}
