/* What a home needs of the machine it lies on: who may read and write, the file system, the clock, the kernel. */
#ifndef QM_HOME_CHECK_H
#define QM_HOME_CHECK_H

#include "tools/finding.h"

/* The name of a file system that lies on another machine, by its magic number (statfs): it may not lock or sync what it says it does.
 * NULL: it is not known to be one. */
const char *qm_file_system_remote(unsigned long magic);
/* QM_E_IO: the home lies on such a one. A path that cannot be looked at is not said to. */
qm_err qm_home_local(const char *home, struct qm_fault *fault) QM_MUST_USE;

/* The home's directory and files are closed to others; its spool takes files from its writers only, and none can take away another's. */
void qm_home_check_modes(const char *home, qm_finding found, void *ctx);
void qm_home_check_disk(const char *home, qm_finding found, void *ctx);
/* last_run_end_ms 0: there was none. */
void qm_home_check_clock(uint64_t now_ms, uint64_t last_run_end_ms, qm_finding found, void *ctx);
void qm_home_check_kernel(qm_finding found, void *ctx);

#endif
