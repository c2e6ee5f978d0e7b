/* Alerts as the Open Cybersecurity Schema Framework has them: class Detection Finding (2004), one
 * JSON object a line. */
#ifndef QM_OCSF_H
#define QM_OCSF_H

#include "tools/store/store_alerts.h"

#define QM_OCSF_VERSION "1.7.0" /* of the schema */

/* out has QM_OCSF_MAX bytes left. home: the tenant's name (metadata.tenant_uid), "" none. */
enum { QM_OCSF_MAX = 2 * QM_ALERT_JSON_MAX };
void qm_ocsf_write(struct qm_out *out, const struct qm_alert_view *a, const char *home);

#endif
