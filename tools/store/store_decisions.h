/* What people decide about alerts: ignore, accept, reopen, ack. Part of the store.
 *
 * In two steps. Picking finds the alerts that are meant, and says how many, so that a person can be
 * asked before anything is locked. Deciding acts, in a transaction of its own, on exactly those
 * that were picked and are still in a state for it. */
#ifndef QM_STORE_DECISIONS_H
#define QM_STORE_DECISIONS_H

#include "tools/store/store_alerts.h"

enum qm_decide {
    QM_DECIDE_IGNORE, /* open or ignored ones */
    QM_DECIDE_ACCEPT, /* likewise */
    QM_DECIDE_REOPEN, /* ignored and accepted ones */
    QM_DECIDE_ACK,    /* any */
};

struct qm_pick {
    enum qm_decide what;
    const uint64_t *no; /* alerts by number */
    size_t count;
    bool same;                       /* and all that are of the same change, within one group */
    bool all_groups;                 /* with same: of any group */
    const char *kind;                /* without numbers: all of this kind that have the tag */
    const char *tag_key, *tag_value; /* only of machines with it; NULL: any */
};
struct qm_picked {
    uint64_t alerts, machines, groups;
    uint64_t unknown; /* a number that no alert has; 0: all are there */
};
/* Outside of a transaction. A second pick takes the place of the first. */
qm_err qm_alerts_pick(struct qm_store *s, const struct qm_pick *pick, struct qm_picked *out,
                      struct qm_fault *fault) QM_MUST_USE;

struct qm_decision {
    enum qm_decide what;
    const char *reason; /* NULL: none */
    uint64_t until_ms;  /* ignore: ends then; 0: no end */
    bool group;         /* accept: for the group, and for all of it that differ in the same */
};
struct qm_decided {
    uint64_t alerts;          /* that were decided */
    uint64_t refused;         /* that were not */
    uint64_t sets;            /* accepted sets made, or ended */
    uint64_t judged, passing; /* machines whose status is another now; of those, trusted ones */
};
/* Told of every alert that is not decided, and why. */
typedef void (*qm_decision_refused)(void *ctx, uint64_t no, const char *why);
/* Inside a transaction, that the caller commits and then publishes the table. */
qm_err qm_alerts_decide(struct qm_store *s, const struct qm_decision *d, qm_decision_refused refused, void *ctx,
                        struct qm_decided *out, struct qm_fault *fault) QM_MUST_USE;

#endif
