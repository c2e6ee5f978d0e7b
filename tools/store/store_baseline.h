/* Accepted sets as people handle them: listed, given by hand, ended; every change judges again whoever it concerns, and closes
 * the alerts of those that pass now. Part of the store. */
#ifndef QM_STORE_BASELINE_H
#define QM_STORE_BASELINE_H

#include "tools/store/store_sets.h"

const char *qm_set_kind_name(enum qm_set_kind k); /* "whole", "group", "instance" */

/* One of them; texts are valid until the visit returns. */
struct qm_baseline {
    uint64_t no;
    enum qm_set_kind kind;
    struct qm_span id;                                /* whole, instance: whose; {NULL, 0} for a group's */
    bool retired;                                     /* the instance was taken out */
    struct qm_span group;                             /* of the instance, or whose it is; {NULL, 0}: none */
    const char *origin, *who, *why;                   /* why: NULL, like the texts below where there is nothing */
    uint64_t alert;                                   /* 0: none */
    const char *run;                                  /* learned in */
    uint64_t since_ms, until_ms, passed_ms, ended_ms; /* 0: never */
    const char *ended_who, *ended_why;
    uint32_t values_no, mask;
    const uint8_t *value; /* popcount(mask) * 32 bytes */
};
struct qm_baseline_filter {
    const char *id;    /* of this instance, and of its group; NULL: any */
    const char *group; /* of this group alone; NULL */
    const char *run;   /* learned in this run; NULL: any */
    bool ended;        /* and those that are over */
};
typedef qm_err (*qm_baseline_visit)(void *ctx, const struct qm_baseline *b, struct qm_fault *fault);
/* In the order of their numbers. */
qm_err qm_baselines_each(struct qm_store *s, const struct qm_baseline_filter *f, qm_baseline_visit visit, void *ctx,
                         struct qm_fault *fault) QM_MUST_USE;

/* What a change of sets brought. */
struct qm_baseline_change {
    uint64_t added, known, ended;
    uint64_t judged, passing; /* instances with another status now; of those, trusted ones */
};
/* Inside a transaction that the caller commits and then publishes the table. set: kind, mask, values, origin, why, until_ms;
 * whose is said by id, or for a group's by group. QM_E_REFUSED where no such instance is enrolled, where a PCR that is compared
 * has no value, or where one has a value that is none of the set's. QM_E_LIMIT: which is to end? */
qm_err qm_baseline_add(struct qm_store *s, struct qm_set_new *set, const char *id, const char *group, uint64_t *no,
                       struct qm_baseline_change *change, struct qm_fault *fault) QM_MUST_USE;
/* QM_E_REFUSED: no set of that number lives. */
qm_err qm_baseline_end(struct qm_store *s, uint64_t no, const char *why, struct qm_baseline_change *change,
                       struct qm_fault *fault) QM_MUST_USE;
/* Everything that a run learned and that still lives. QM_E_REFUSED: no such run is known. */
qm_err qm_baseline_end_run(struct qm_store *s, const char *run, const char *why, struct qm_baseline_change *change,
                           struct qm_fault *fault) QM_MUST_USE;

#endif
