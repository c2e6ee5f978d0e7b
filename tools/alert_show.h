/* Alerts for people: a list by change, and one explained. */
#ifndef QM_ALERT_SHOW_H
#define QM_ALERT_SHOW_H

#include "tools/show.h"
#include "tools/store/store_alerts.h"

struct qm_json;

struct qm_alert_show {
    struct qm_store *store;
    struct qm_show show;
    struct qm_json *json; /* reads what is stored as JSON */
};
/* A cohort in a few lines. */
qm_err qm_cohort_show(struct qm_alert_show *w, const struct qm_cohort *c, struct qm_fault *fault) QM_MUST_USE;
/* One alert explained: what it is, both values, the first event that differs, what to do, and its
 * history. */
qm_err qm_alert_explain(struct qm_alert_show *w, const struct qm_alert_view *a, struct qm_fault *fault) QM_MUST_USE;

#endif
