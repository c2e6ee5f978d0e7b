/* What a run's workers found, kept until the run is judged: one outcome for each result, in an arena of the worker that made it.
 *
 * A result points into buffers that are used again; an outcome owns what it points at, but for the name of its source and
 * expected values where the caller says that they live on. Memory grows by chunks, never by record: about 360 bytes for a
 * trusted record, a kilobyte for one that failed ten stages. */
#ifndef QM_OUTCOME_H
#define QM_OUTCOME_H

#include "codec/error.h"
#include "codec/result.h"

/* One outcome is a struct qm_result that has room for its own stages only (stage[0 .. stage_count)); a trusted one has none. */
struct qm_outcomes;

enum qm_outcome_copy {
    QM_OUTCOME_BORROW, /* source and expected values outlive the outcomes: worklist and table stay open */
    QM_OUTCOME_OWN,    /* everything is copied */
};

qm_err qm_outcomes_open(struct qm_outcomes **out, enum qm_outcome_copy copy, struct qm_fault *fault) QM_MUST_USE;
/* QM_E_NOMEM. One thread at a time. */
qm_err qm_outcomes_add(struct qm_outcomes *o, const struct qm_result *r, struct qm_fault *fault) QM_MUST_USE;
/* The same outcome once more, with other stages (measured and expected are copied): the old one is dropped and is not gone over
 * any more. NULL: no memory. */
struct qm_result *qm_outcomes_restage(struct qm_outcomes *o, struct qm_result *r, const struct qm_stage *stage, unsigned count,
                                      struct qm_fault *fault);
/* It does not count: it is not gone over any more. */
void qm_outcomes_drop(struct qm_outcomes *o, struct qm_result *r);
size_t qm_outcomes_count(const struct qm_outcomes *o);
void qm_outcomes_close(struct qm_outcomes *o);

/* Goes over them in the order they came (restaged ones last): start with {.chunk = NULL}. NULL at the end. They may be changed in place. */
struct qm_outcome_cursor {
    void *chunk;
    size_t at;
};
struct qm_result *qm_outcomes_next(const struct qm_outcomes *o, struct qm_outcome_cursor *c);

#endif
