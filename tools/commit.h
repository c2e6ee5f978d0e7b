/* Recording a run: its outcomes are judged, the results written and synced, and all of it becomes true in one transaction.
 *
 *   begin -> judge -> results synced under a name that says "not yet" -> the run's row -> commit -> results under their name
 *
 * Killed before the commit, nothing happened; killed after it, the next run finishes (qm_commit_recover). */
#ifndef QM_COMMIT_H
#define QM_COMMIT_H

#include "ingest/ingest.h"
#include "tools/event_keep.h"
#include "tools/judge/judge.h"
#include "tools/retention.h"

struct qm_commit_options {
    const char *command;           /* "run", "apply": for messages, and the kind of the run's row */
    const char *home;
    const char *results;           /* file for the results; "-": stdout; "none"; NULL: HOME/results/RUN.mpk. A pipe or device is written to
                                    * as it is, a file appears whole */
    const char *(*source_of)(void *ctx, struct qm_span source);
    void *source_ctx;
    struct qm_event_keep *const *kept; /* what the workers kept of logs; kept_count 0: nothing */
    unsigned kept_count;
    const struct qm_events_missing *missing; /* NULL where nothing is kept */
    const struct qm_retention *retention;    /* what bounds will remove; NULL: nothing */
    /* Asked last, before the transaction ends: what it fails is not committed. NULL: nobody is. */
    qm_err (*ready)(void *ctx, struct qm_fault *fault);
    void *ready_ctx;
    uint64_t clock_ms;             /* of a stream that may have been verified elsewhere, long ago: the clock here and now; 0: the run's */
    uint64_t forgotten;            /* by qm_commit_prepare */
    uint64_t quarantined, held, not_held;    /* files; records of unknown instances that are kept, and that there was no room for */
};

/* Before a run verifies, in transactions of their own: sets whose end has come are ended, and what is left of machines that were taken
 * out too long ago is forgotten. *forgotten: so many. */
qm_err qm_commit_prepare(struct qm_store *s, uint64_t *forgotten, struct qm_fault *fault) QM_MUST_USE;

/* What became of the transaction, whatever qm_commit gives back. */
enum qm_commit_end {
    QM_COMMIT_NOTHING, /* nothing is recorded */
    QM_COMMIT_UNKNOWN, /* the database could say neither that it is nor that it is not: the next run can, and until then files stay as
                        * they are */
    QM_COMMIT_DONE,    /* recorded, also where an error came behind it: the results could not be named, and the next run does that */
};

/* run: as the pipeline, or the stream, left it; by_status and by_reason are counted anew. QM_OK: recorded. */
qm_err qm_commit(struct qm_store *s, struct qm_outcomes *const *outcomes, unsigned count, struct qm_run *run,
                 const struct qm_commit_options *options, struct qm_judgment *out, enum qm_commit_end *end,
                 struct qm_fault *fault) QM_MUST_USE;

/* Results of runs that were killed, in the home and elsewhere: those whose run is in the store get their name, the others are removed.
 * What elsewhere can be neither now is reported, and left for another run. */
qm_err qm_commit_recover(struct qm_store *s, const char *home, qm_ingest_report report, void *ctx, struct qm_fault *fault) QM_MUST_USE;

/* The lock of whoever changes what machines are known to have sent (run, apply, restore): HOME/run.lock, held until the
 * descriptor is closed; no child inherits it. QM_E_BUSY: another has it. */
qm_err qm_run_lock(const char *home, int *fd, struct qm_fault *fault) QM_MUST_USE;

#endif
