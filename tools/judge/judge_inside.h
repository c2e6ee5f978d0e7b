/* Shared by the files of the judgment only. */
#ifndef QM_JUDGE_INSIDE_H
#define QM_JUDGE_INSIDE_H

#include "engine/compare.h"
#include "tools/judge/judge.h"
#include "tools/store/store_ledger.h"

struct refusals; /* judge_refused.c */

/* The instance whose records are judged now. */
struct subject {
    uint64_t slot;
    struct qm_ledger ledger;
    const struct qm_policy *policy;
    struct qm_instance_row row; /* read when it is needed */
    bool row_read;
    bool gone;     /* it was taken out while the run went on */
    bool decided;  /* its sets or its enrolment are newer than the table, or this run taught it: verdicts are made again */
    bool rekeyed;  /* its key is newer than the table: what another one signed counts no more */
    bool learned;  /* in this run */
    bool touched;  /* the ledger entry is to be written */
    uint32_t raised; /* kinds of alerts that the record in hand raised */
};

struct judge {
    struct qm_store *store;
    const struct qm_judge_options *options;
    struct qm_judgment *out;
    struct refusals *refusals;
    struct qm_live_sets sets;
    uint64_t *changed; /* slots that are newer than the table, ascending */
    size_t changed_count;
    const struct qm_policy **policy; /* by number of the group; NULL: not asked for yet */
    size_t policy_count;
    uint64_t newest_ms; /* when the newest authentic record of the run was verified */
    uint8_t room[QM_PCR_COUNT * 32]; /* values of the record in hand, where its stages do not have them */
};

/* One record that names an enrolled instance, in the arena it lies in. */
struct case_of {
    uint64_t slot; /* r->slot */
    struct qm_result *r;
    struct qm_outcomes *arena;
};

/* judge_subject.c */
qm_err judge_subject_open(struct judge *j, struct subject *u, uint64_t slot, struct qm_fault *fault) QM_MUST_USE;
qm_err judge_subject_row(struct judge *j, struct subject *u, struct qm_fault *fault) QM_MUST_USE;
/* The policy of a group's number; asks the store once for each. */
qm_err judge_policy(struct judge *j, uint32_t group, const struct qm_policy **out, struct qm_fault *fault) QM_MUST_USE;
qm_err judge_subject_close(struct judge *j, struct subject *u, struct qm_fault *fault) QM_MUST_USE;

/* judge_record.c: an authentic record, the next one of its instance by the TPM's clock. */
qm_err judge_record(struct judge *j, struct subject *u, struct case_of *c, struct qm_fault *fault) QM_MUST_USE;

/* An authentic record, by a stream, of a machine that is not enrolled any more. */
qm_err judge_unknown(struct judge *j, struct qm_result *r, struct qm_fault *fault) QM_MUST_USE;

/* judge_alert.c: what the record in hand raises and closes. repeat false: a row that stands already is not moved. change: the
 * numbers of the changes, the group's first where there are two classes. */
qm_err judge_raise_mismatch(struct judge *j, struct subject *u, const struct qm_result *r, bool repeat, uint64_t change[2],
                            struct qm_fault *fault) QM_MUST_USE;
qm_err judge_raise(struct judge *j, struct subject *u, enum qm_alert_kind kind, const struct qm_result *r, const char *detail,
                   bool repeat, struct qm_fault *fault) QM_MUST_USE;
qm_err judge_close_alerts(struct judge *j, struct subject *u, const struct qm_result *r, struct qm_fault *fault) QM_MUST_USE;

/* judge_refused.c: records that failed a check before the home's own, gathered by reason and source. */
qm_err judge_refusals_open(struct refusals **out, struct qm_fault *fault) QM_MUST_USE;
qm_err judge_refused(struct judge *j, const struct qm_result *r, struct qm_fault *fault) QM_MUST_USE;
qm_err judge_refusals_raise(struct judge *j, struct qm_fault *fault) QM_MUST_USE;
void judge_refusals_close(struct refusals *f);

/* judge_silent.c: who fell silent, and who stays new. */
qm_err judge_silent(struct judge *j, struct qm_fault *fault) QM_MUST_USE;

#endif
