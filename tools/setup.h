/* What verify and run set up alike: workers, the way of reading, kernels. */
#ifndef QM_SETUP_H
#define QM_SETUP_H

#include "tools/pipeline.h"

/* A qm_ingest_report: a file that could not be read is one line on stderr, from any thread. ctx: the command's name. */
void qm_setup_report(void *ctx, const char *name, int sys, const char *what);
/* CPUs that this process may use, at most QM_WORKERS_MAX. */
unsigned qm_setup_cpus(void);
/* --io: "auto" takes the ring if this kernel gives us one and says once if not; QM_E_UNFIT: "uring" was asked for in vain. */
qm_err qm_setup_io(const char *command, const char *asked, enum qm_io *io, struct qm_fault *fault) QM_MUST_USE;
/* --crypto, else QM_KERNEL, else what is fastest here; every kernel is tested before it is used. */
qm_err qm_setup_kernels(const char *crypto, struct qm_kernels *k, struct qm_fault *fault) QM_MUST_USE;
void qm_setup_name_kernels(const struct qm_kernels *k, struct qm_run *run);

#endif
