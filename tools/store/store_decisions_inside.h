/* Shared by store_decisions.c and store_accept.c only. */
#ifndef QM_STORE_DECISIONS_INSIDE_H
#define QM_STORE_DECISIONS_INSIDE_H

#include "tools/store/store_decisions.h"
#include "tools/store/store_inside.h"

enum { STORE_ITEM_BYTES = 1 + 32 + 32 };

struct store_alert_row {
    uint64_t no, slot, change, set_no;
    enum qm_alert_kind kind;
    enum qm_alert_state state;
    enum qm_set_kind set_kind;
    bool many;
    bool has_sequences; /* refused and seen are set */
    struct qm_sequence refused, seen;
    unsigned item_count;
    struct qm_change_item item[QM_PCR_COUNT];
};

struct accepting;

struct store_decision {
    struct qm_store *store;
    const struct qm_decision *decision;
    qm_decision_refused refused;
    void *ctx;
    struct qm_decided *out;
    uint64_t no; /* of the decision */
    struct qm_live_sets live;
    struct store_alert_row row;  /* in hand */
    struct accepting *accepting; /* store_accept.c's own */
};

void store_decision_refuse(struct store_decision *d, uint64_t no, const char *why);
qm_err store_decision_link(struct store_decision *d, uint64_t no, struct qm_fault *fault) QM_MUST_USE;
qm_err store_decision_row(struct store_decision *d, uint64_t no, struct store_alert_row *a, struct qm_fault *fault) QM_MUST_USE;
typedef qm_err (*store_decision_visit)(struct store_decision *d, const struct store_alert_row *a, struct qm_fault *fault);
qm_err store_decision_each(struct store_decision *d, store_decision_visit visit, struct qm_fault *fault) QM_MUST_USE;
/* A machine was judged again: where it passes, what is open about its values is over. */
qm_err store_decision_passes(struct store_decision *d, uint64_t slot, const struct qm_rejudged *r,
                             struct qm_fault *fault) QM_MUST_USE;
qm_err store_decision_rejudge_group(struct store_decision *d, uint32_t group_no, struct qm_fault *fault) QM_MUST_USE;

/* store_accept.c */
qm_err store_accept(struct store_decision *d, struct qm_fault *fault) QM_MUST_USE;

#endif
