/* The judgment of a run: what its records mean for the home. Outcomes go in, in whatever order the workers made them; check 8,
 * learning, each instance's status, alerts and counts come out, inside one transaction of the store.
 *
 *   outcomes -> by instance, in the order of the TPM's own clock -> check 8 (engine/ledger.h) -> judged again where a decision
 *   was made meanwhile -> learned, or compared with what this run learned -> the instance's ledger entry -> alerts
 *   then: refusals by source, machines that fell silent, machines that stay new
 *
 * Outcomes are changed in place to what the run's results say in the end (duplicate, replayed, learned, fresh, boots). Nothing
 * but the store and the outcomes is touched, so a run that is killed before its transaction ends has judged nothing. */
#ifndef QM_JUDGE_H
#define QM_JUDGE_H

#include "tools/outcome.h"
#include "tools/store/store_alerts.h"

struct qm_judge_options {
    const char *run;            /* its id */
    uint64_t start_ms, end_ms;  /* of the verification, by the verifier's clock */
    uint64_t clock_ms;          /* the system's clock, which must not be behind the last run's end */
    uint64_t generation;        /* of the table that decided */
    /* Where a record came from, as one short text for people: the sender's part of the spool, and its owner. */
    const char *(*source_of)(void *ctx, struct qm_span source);
    void *source_ctx;
};

struct qm_judgment {
    uint64_t run_no;            /* of the store's row */
    uint64_t dropped;           /* old rows of history that went */
    uint64_t alerts_before;     /* the highest number of an alert before: what the judgment opened has higher ones */
    uint64_t by_status[QM_STATUS_COUNT], by_reason[QM_REASON_COUNT]; /* of the results, as they are now */
    uint64_t learned;           /* instances that learned a baseline */
    uint64_t opened, repeated, resolved; /* alerts */
    uint64_t unmeasured;        /* instances that became unmeasured in this run */
    bool fleet_silent;          /* nothing authentic came from anyone for too long */
    bool clock_behind;          /* the system's clock is behind the last run's end: nothing was called unmeasured */
    uint64_t retired;           /* instances that were taken out for their silence */
    bool changed;               /* sets were added or ended: the table is to be published */
};

/* In a transaction that the caller commits or rolls back. */
qm_err qm_judge(struct qm_store *s, struct qm_outcomes *const *outcomes, unsigned count, const struct qm_judge_options *options,
                struct qm_judgment *out, struct qm_fault *fault) QM_MUST_USE;

#endif
