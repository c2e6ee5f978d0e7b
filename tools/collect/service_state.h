/* Does systemd call the collector? */
#ifndef QM_SERVICE_STATE_H
#define QM_SERVICE_STATE_H

#include "tools/finding.h"

/* One finding, from what systemctl says of timer and service. */
void qm_service_check(struct qm_doctor *d);

#endif
