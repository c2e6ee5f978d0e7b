/* The pipeline: ingest -> framing -> engine -> output, on a pool of workers. The only place where ingest meets engine.
 *
 * A worker does all of it for its buffer: it reads, frames, verifies, encodes, and writes its output buffer when that is full.
 * Shared are the list of work and the output's lock. All memory is taken before the first record is read. */
#ifndef QM_PIPELINE_H
#define QM_PIPELINE_H

#include <time.h>

#include "engine/verify.h"
#include "ingest/ingest.h"

/* Gets what a worker judged, instead of the output; worker is its number from 0. Called from the worker's thread; the results and
 * what they point at are valid until it returns. */
typedef qm_err (*qm_pipeline_sink)(void *ctx, unsigned worker, const struct qm_record *records, const struct qm_result *results,
                                   size_t count, struct qm_fault *fault);

struct qm_pipeline_options {
    unsigned workers;        /* 1 .. QM_WORKERS_MAX */
    enum qm_io io;           /* URING or READ */
    enum qm_format format;
    bool stages;
    uint64_t audit;
    const struct qm_beacon *beacon; /* as in qm_verify_options, and the next two */
    unsigned beacon_count;
    bool no_memo;
    int out_fd;              /* without a sink */
    qm_pipeline_sink sink;   /* NULL: results go to out_fd */
    void *sink_ctx;
    const struct timespec *deadline; /* CLOCK_MONOTONIC: stop then as after a signal; NULL: none */
    const _Atomic bool *enough; /* set by the sink: stop, as after a signal; NULL: never */
    bool progress;           /* a line on stderr, six times a second */
};

struct qm_pipeline_stats {
    struct qm_verify_stats verify;
    size_t memory; /* bytes taken at start, the worklist's included, the table's not */
};

/* Runs everything in w through; results go to out_fd, the run record last, or to the sink, which gets no run record. run is
 * filled (its id and start are set by the caller). SIGINT and SIGTERM finish the buffers in flight: then *signalled is set and
 * run->complete false. Errors: the environment's; the run record is written whenever output is possible. */
qm_err qm_pipeline_run(struct qm_worklist *w, const struct qm_table *table, const struct qm_kernels *kernels,
                       const struct qm_pipeline_options *options, struct qm_run *run, struct qm_pipeline_stats *stats,
                       int *signalled, struct qm_fault *fault) QM_MUST_USE;

/* A new run id: UTC time and random digits, sortable. text has at least 32 bytes. */
qm_err qm_run_id(char *text, size_t cap, struct qm_fault *fault) QM_MUST_USE;
uint64_t qm_now_ms(void); /* since the epoch */

#endif
