/* What a run needs of the store beside sets, ledger and alerts: the rows of runs, and which instances changed since a table was
 * made. Part of the store. */
#ifndef QM_STORE_RUN_H
#define QM_STORE_RUN_H

#include "tools/store/store.h"

struct qm_run_row {
    const char *id, *kind;  /* "run", "apply" */
    uint64_t start_ms, end_ms, records, generation;
    bool complete;
    const char *record;     /* the run record, JSON */
};
/* Reserves the number of the run that is being judged. */
qm_err qm_store_run_next(struct qm_store *s, uint64_t *no, struct qm_fault *fault) QM_MUST_USE;
qm_err qm_store_run_add(struct qm_store *s, uint64_t no, const struct qm_run_row *row, struct qm_fault *fault) QM_MUST_USE;
qm_err qm_store_run_known(struct qm_store *s, const char *id, bool *known, struct qm_fault *fault) QM_MUST_USE;
/* The same of a run that left something behind: one that is not known will not be known later either. In no transaction. */
qm_err qm_store_run_settled(struct qm_store *s, const char *id, bool *known, struct qm_fault *fault) QM_MUST_USE;
/* When the last run ended; 0: there was none. */
qm_err qm_store_run_last(struct qm_store *s, uint64_t *end_ms, struct qm_fault *fault) QM_MUST_USE;

/* Drops runs, beacons and what was done to the home that are over since before then; adds to *dropped how many. */
qm_err qm_store_history_drop(struct qm_store *s, uint64_t before_ms, uint64_t *dropped, struct qm_fault *fault) QM_MUST_USE;

/* Numbers kept under a name: 0 where there is none. */
qm_err qm_store_meta_get(struct qm_store *s, const char *key, uint64_t *value, struct qm_fault *fault) QM_MUST_USE;
qm_err qm_store_meta_set(struct qm_store *s, const char *key, uint64_t value, struct qm_fault *fault) QM_MUST_USE;

/* Slots whose enrolment or baselines are newer than a generation, ascending; to be freed by the caller. */
qm_err qm_store_changed_since(struct qm_store *s, uint64_t generation, uint64_t **slots, size_t *count, struct qm_fault *fault) QM_MUST_USE;
/* Is the instance's present key newer than a table of that generation? */
qm_err qm_store_rekeyed_since(struct qm_store *s, uint64_t slot, uint64_t generation, bool *rekeyed, struct qm_fault *fault) QM_MUST_USE;
/* PCRs of which the instance ever had a value in a set of its own: enrolled, learned or given by a person, ended or not. */
qm_err qm_store_own_mask(struct qm_store *s, uint64_t slot, uint32_t *mask, struct qm_fault *fault) QM_MUST_USE;
/* The name of a group; "" for 0 or none of that number. */
qm_err qm_store_group_name(struct qm_store *s, uint32_t no, char name[QM_GROUP_MAX + 1], struct qm_fault *fault) QM_MUST_USE;
/* The slot of an id; 0: not enrolled. */
qm_err qm_store_slot(struct qm_store *s, struct qm_span id, uint64_t *slot, struct qm_fault *fault) QM_MUST_USE;

#endif
