#include "tools/pipeline.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "engine/pool.h"
#include "tools/framing.h"

enum { OUT_FLUSH = 256 * 1024, OUT_ROOM = OUT_FLUSH + QM_RESULT_MAX, PROGRESS_MS = 166, VERIFY_LANES = 8 };

struct output {
    int fd;
    pthread_mutex_t lock;
    bool failed; /* guarded by lock: nothing is written after a failure, so that no record is cut in two and another follows */
};

/* One worker's own things. */
struct worker {
    unsigned number;
    const char *home; /* its name */
    const struct qm_pipeline_options *options;
    struct output *output;
    _Atomic bool *stop;
    struct qm_reader *reader;
    struct qm_verifier *verifier;
    void *verifier_mem;
    struct qm_framed framed;
    struct qm_result result[QM_VERIFY_BATCH];
    struct qm_out out;
    bool lost; /* a stream without file bounds was cut */
    uint64_t by_status[QM_STATUS_COUNT];
    uint64_t by_reason[QM_REASON_COUNT];
    _Atomic uint64_t records, bytes; /* published for the progress line */
};

uint64_t qm_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

qm_err qm_run_id(char *text, size_t cap, struct qm_fault *fault)
{
    uint32_t random;
    time_t now = time(NULL);
    struct tm utc;
    char when[20];
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        return qm_fail(fault, QM_E_IO, errno, "no random bytes");
    gmtime_r(&now, &utc);
    strftime(when, sizeof when, "%Y%m%dT%H%M%SZ", &utc);
    snprintf(text, cap, "%s-%08x", when, random);
    return QM_OK;
}

/* ---- output ----------------------------------------------------------------------------------------------------------- */

static qm_err output_write(struct output *o, const char *p, size_t len, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    pthread_mutex_lock(&o->lock);
    if (o->failed)
        err = qm_fail(fault, QM_E_IO, 0, "the output failed");
    while (err == QM_OK && len != 0) {
        ssize_t n = write(o->fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            o->failed = true;
            err = errno == EPIPE ? qm_fail(fault, QM_E_CLOSED, 0, "the reader of the output went away")
                                 : qm_fail(fault, QM_E_IO, errno, "cannot write the results");
            break;
        }
        p += n;
        len -= (size_t)n;
    }
    pthread_mutex_unlock(&o->lock);
    return err;
}

static qm_err flush(struct worker *w, struct qm_fault *fault)
{
    qm_err err = w->out.len != 0 ? output_write(w->output, w->out.p, w->out.len, fault) : QM_OK;
    w->out.len = 0;
    return err;
}

/* ---- a worker --------------------------------------------------------------------------------------------------------- */

/* Verifies and encodes what was framed. */
static qm_err verify_framed(struct worker *w, struct qm_fault *fault)
{
    struct qm_framed *f = &w->framed;
    if (f->count == 0)
        return QM_OK;
    qm_err err = qm_verify(w->verifier, f->record, f->count, qm_now_ms(), w->result, fault);
    for (size_t i = 0; err == QM_OK && i < f->count; i++)
        w->result[i].home = w->home;
    if (err == QM_OK && w->options->sink != NULL)
        err = w->options->sink(w->options->sink_ctx, w->number, f->record, w->result, f->count, fault);
    for (size_t i = 0; err == QM_OK && i < f->count; i++) {
        w->by_status[w->result[i].status]++;
        w->by_reason[w->result[i].reason]++;
        if (w->options->sink != NULL)
            continue;
        qm_result_write(&w->out, &w->result[i], w->options->format, w->options->stages);
        if (w->out.len >= OUT_FLUSH)
            err = flush(w, fault);
    }
    atomic_fetch_add_explicit(&w->records, f->count, memory_order_relaxed);
    atomic_store_explicit(&w->bytes, qm_reader_read_bytes(w->reader), memory_order_relaxed);
    w->lost |= f->lost;
    f->count = 0;
    f->lost = false;
    return err;
}

/* A window is settled before its records are verified: others wait for what follows it. */
static qm_err take_window(struct worker *w, const struct qm_piece *piece, struct qm_fault *fault)
{
    size_t at = 0;
    bool ended;
    qm_frame_piece(piece, &at, &w->framed, &ended);
    if (!ended)
        qm_frame_take_back(piece, &at, &w->framed, VERIFY_LANES);
    qm_reader_settle(w->reader, at, w->framed.count, ended);
    return verify_framed(w, fault);
}

static qm_err take_files(struct worker *w, const struct qm_batch *batch, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    for (size_t i = 0; err == QM_OK && i < batch->piece_count; i++) {
        size_t at = 0;
        bool ended;
        while (err == QM_OK && !qm_frame_piece(&batch->piece[i], &at, &w->framed, &ended))
            err = verify_framed(w, fault);
        if (err == QM_OK && w->framed.count > QM_VERIFY_BATCH - 2)
            err = verify_framed(w, fault);
    }
    return err == QM_OK ? verify_framed(w, fault) : err; /* before the reader uses the buffers again */
}

static qm_err work(void *arg, struct qm_fault *fault)
{
    struct worker *w = arg;
    for (;;) {
        struct qm_batch batch;
        qm_err err = qm_reader_next(w->reader, &batch, w->stop, fault);
        if (err == QM_OK && batch.piece_count != 0)
            err = batch.window ? take_window(w, &batch.piece[0], fault) : take_files(w, &batch, fault);
        else if (err == QM_OK)
            return flush(w, fault);
        if (err != QM_OK)
            return err;
        if (w->options->enough != NULL && atomic_load(w->options->enough))
            atomic_store(w->stop, true);
    }
}

static void worker_close(struct worker *w)
{
    if (w == NULL)
        return;
    qm_verifier_close(w->verifier);
    qm_reader_close(w->reader);
    free(w->verifier_mem);
    free(w->out.p);
    free(w);
}

static qm_err worker_open(struct worker **out, unsigned number, struct qm_worklist *list, const struct qm_table *table,
                          const struct qm_kernels *kernels, const struct qm_pipeline_options *options, const struct qm_run *run,
                          struct output *output, _Atomic bool *stop, size_t *memory, struct qm_fault *fault)
{
    const size_t size = qm_align_up(qm_verifier_size(kernels), QM_CACHE_LINE);
    struct worker *w = calloc(1, sizeof *w);
    *out = w;
    if (w == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory for a worker");
    w->number = number;
    w->home = run->home;
    w->options = options;
    w->output = output;
    w->stop = stop;
    w->verifier_mem = aligned_alloc(QM_CACHE_LINE, size);
    char *room = malloc(OUT_ROOM);
    w->out = qm_out_init(room, OUT_ROOM);
    if (w->verifier_mem == NULL || room == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory for a worker");
    struct qm_verify_options vo = {.run = run->run, .audit = options->audit, .beacon = options->beacon,
                                   .beacon_count = options->beacon_count, .no_memo = options->no_memo};
    qm_err err = qm_verifier_init(&w->verifier, w->verifier_mem, table, kernels, &vo, fault);
    if (err == QM_OK)
        err = qm_reader_open(&w->reader, list, options->io, fault);
    if (err == QM_OK)
        *memory += sizeof *w + size + OUT_ROOM + qm_reader_bytes(w->reader);
    return err;
}

/* ---- the main thread -------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t caught;

static void on_signal(int number)
{
    caught = number;
}

/* SIGINT and SIGTERM are noted once; a second one ends the program the usual way. A closed pipe is an error of write. */
static void catch_signals(void)
{
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    caught = 0;
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void totals(struct worker *const *workers, unsigned count, uint64_t *records, uint64_t *bytes)
{
    *records = *bytes = 0;
    for (unsigned i = 0; i < count; i++) {
        *records += atomic_load_explicit(&workers[i]->records, memory_order_relaxed);
        *bytes += atomic_load_explicit(&workers[i]->bytes, memory_order_relaxed);
    }
}

static void show_progress(const struct qm_worklist *list, struct worker *const *workers, unsigned count, uint64_t start_ms)
{
    uint64_t records, bytes;
    totals(workers, count, &records, &bytes);
    double s = (double)(qm_now_ms() - start_ms) / 1000 + 1e-3;
    uint64_t done = qm_worklist_done_files(list), all = qm_worklist_files(list);
    double share = qm_worklist_share(list);
    fprintf(stderr, "\r%llu records, %.0f/s, %.1f MB/s", (unsigned long long)records, (double)records / s, (double)bytes / s / 1e6);
    if (all > 1)
        fprintf(stderr, ", %llu of %llu files", (unsigned long long)done, (unsigned long long)all);
    if (share > 0 && share < 1) /* a stream has no end that is known */
        fprintf(stderr, ", %.0f %%, %.0f s to go", 100 * share, s / share - s);
    fputs("\033[K", stderr);
}

static void gather(struct worker *const *workers, unsigned count, const struct qm_worklist *list, struct qm_run *run,
                   struct qm_pipeline_stats *stats)
{
    for (unsigned i = 0; i < count; i++) {
        const struct worker *w = workers[i];
        for (unsigned j = 0; j < QM_STATUS_COUNT; j++) {
            run->by_status[j] += w->by_status[j];
            run->records += w->by_status[j];
        }
        for (unsigned j = 0; j < QM_REASON_COUNT; j++)
            run->by_reason[j] += w->by_reason[j];
        run->bytes += qm_reader_read_bytes(w->reader);
        run->complete &= !w->lost;
        const struct qm_verify_stats *v = qm_verifier_stats(w->verifier);
        stats->verify.signatures += v->signatures;
        stats->verify.signatures_rechecked += v->signatures_rechecked;
        stats->verify.signatures_audited += v->signatures_audited;
        stats->verify.extends += v->extends;
        stats->verify.extends_remembered += v->extends_remembered;
        stats->verify.lanes.steps += v->lanes.steps;
        stats->verify.lanes.filled += v->lanes.filled;
    }
    run->files = qm_worklist_done_files(list);
    run->complete &= qm_worklist_errors(list) == 0;
}

static bool past(const struct timespec *deadline)
{
    struct timespec now;
    if (deadline == NULL)
        return false;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec > deadline->tv_sec || (now.tv_sec == deadline->tv_sec && now.tv_nsec >= deadline->tv_nsec);
}

static qm_err run_workers(struct qm_worklist *list, const struct qm_pipeline_options *options, struct worker *const *workers,
                          const struct qm_run *run, _Atomic bool *stop, struct qm_fault *fault)
{
    struct qm_pool *pool;
    void *args[QM_WORKERS_MAX];
    for (unsigned i = 0; i < options->workers; i++)
        args[i] = workers[i];
    qm_err err = qm_pool_start(&pool, options->workers, work, args, stop, fault);
    if (err != QM_OK)
        return err;
    bool shown = false;
    while (!qm_pool_wait(pool, PROGRESS_MS)) {
        if (caught != 0 || past(options->deadline))
            atomic_store(stop, true);
        if (options->progress) {
            show_progress(list, workers, options->workers, run->start_ms);
            shown = true;
        }
    }
    if (shown)
        fputs("\r\033[K", stderr);
    return qm_pool_join(pool, fault);
}

qm_err qm_pipeline_run(struct qm_worklist *list, const struct qm_table *table, const struct qm_kernels *kernels,
                       const struct qm_pipeline_options *options, struct qm_run *run, struct qm_pipeline_stats *stats,
                       int *signalled, struct qm_fault *fault)
{
    struct output output = {.fd = options->out_fd, .lock = PTHREAD_MUTEX_INITIALIZER};
    _Atomic bool stop = false;
    struct worker *workers[QM_WORKERS_MAX] = {NULL};
    unsigned opened = 0;
    bool ran = false;
    qm_err err = QM_OK;
    *stats = (struct qm_pipeline_stats){.memory = qm_worklist_bytes(list)};
    catch_signals();
    while (err == QM_OK && opened < options->workers) {
        err = worker_open(&workers[opened], opened, list, table, kernels, options, run, &output, &stop, &stats->memory, fault);
        opened++;
    }
    if (err == QM_OK) {
        err = run_workers(list, options, workers, run, &stop, fault);
        run->complete = err == QM_OK && caught == 0 && (!atomic_load(&stop) || qm_worklist_done_files(list) == qm_worklist_files(list));
        gather(workers, options->workers, list, run, stats);
        run->end_ms = qm_now_ms();
        ran = true;
    }
    if (ran && options->sink == NULL) {
        char text[8192];
        struct qm_out o = qm_out_init(text, sizeof text);
        qm_run_write(&o, run, options->format);
        qm_err written = output.failed ? QM_OK : output_write(&output, o.p, o.len, err == QM_OK ? fault : NULL);
        if (err == QM_OK)
            err = written;
    }
    *signalled = caught;
    for (unsigned i = 0; i < opened; i++)
        worker_close(workers[i]);
    return err;
}
