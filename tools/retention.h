/* What a home keeps, bounded by size and age: quarantine, held evidence, archive, results. Planned before a run's transaction, so
 * that its row counts what is lost; done after it. */
#ifndef QM_RETENTION_H
#define QM_RETENTION_H

#include "tools/spool/spool.h"
#include "tools/store/store_config.h"

enum { QM_KEPT_KINDS = 4 };

struct qm_retention {
    struct qm_trim *trim[QM_KEPT_KINDS];
};

/* archive NULL: this run has none. run: its own results and archive stay whatever their size. */
qm_err qm_retention_plan(struct qm_retention *r, const char *home, const char *archive, const char *run, const struct qm_policy *policy,
                         uint64_t now_ms, struct qm_fault *fault) QM_MUST_USE;
/* {"quarantine":{"files":N,"bytes":N},...}: only what is lost. */
void qm_retention_write(const struct qm_retention *r, struct qm_out *out);
uint64_t qm_retention_lost(const struct qm_retention *r); /* files */
/* What cannot be removed now is removed by another run: said with the first failure. */
qm_err qm_retention_apply(struct qm_retention *r, struct qm_fault *fault) QM_MUST_USE;
void qm_retention_close(struct qm_retention *r);

#endif
