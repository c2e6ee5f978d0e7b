/* What a home says of itself to Prometheus: a textfile, written beside and renamed, at the end of each run.
 *
 * Numbers only, and labels that are our own words or the operator's name for the home: nothing in it was chosen by whoever sends
 * evidence, so nobody can flood a monitoring system with series. */
#ifndef QM_METRICS_H
#define QM_METRICS_H

#include "codec/error.h"

struct qm_store;

/* After a run, to file: "none": nowhere; NULL: where the home's policy says, if anywhere. A failure is said on standard error, and no
 * more comes of it. */
void qm_metrics_tell(struct qm_store *s, const char *command, const char *home, const char *file);

/* path NULL: HOME/metrics/quotemill.prom, its directory made. Outside a transaction, after the run was recorded: its row says the
 * rest. */
qm_err qm_metrics_write(struct qm_store *s, const char *home, const char *path, struct qm_fault *fault) QM_MUST_USE;

#endif
