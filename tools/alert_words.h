/* What alerts mean, in words: how grave, one line of a cohort, what to look at. */
#ifndef QM_ALERT_WORDS_H
#define QM_ALERT_WORDS_H

#include "tools/store/store_alerts.h"

enum qm_severity { QM_SEVERITY_LOW = 2, QM_SEVERITY_MEDIUM = 3, QM_SEVERITY_HIGH = 4 }; /* OCSF's severity_id */
enum qm_severity qm_alert_severity(enum qm_alert_kind k);

/* One sentence: what it is that happened. */
const char *qm_alert_meaning(enum qm_alert_kind k);
/* What to do or look at, lines that end with a newline; cause: of an unmeasured one, as in its
 * detail, or NULL. */
const char *qm_alert_advice(enum qm_alert_kind k, const char *cause);

/* "pcr_mismatch: 1024 machines of group web, PCR 4 8 9, change 0123456789abcdef, alerts 17 to
 * 1040". Escaped, one line. */
void qm_cohort_words(struct qm_out *o, const struct qm_cohort *c);
/* "1024 machines of group web", or the id of the one. Rows of no machine: "the fleet", "22 of 40 machines of group web" or
 * "… without a group", "3 records from SOURCE". Escaped. */
void qm_cohort_who(struct qm_out *o, const struct qm_cohort *c);

/* The row that speaks for all machines, when nothing comes from anyone: it has no group, like that of the machines without one. */
bool qm_alert_of_fleet(const struct qm_alert_view *a);

#endif
