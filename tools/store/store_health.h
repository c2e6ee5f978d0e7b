/* Is the store as it was written? Part of the store. */
#ifndef QM_STORE_HEALTH_H
#define QM_STORE_HEALTH_H

#include "tools/home_check.h"
#include "tools/store/store.h"

/* Reads all of the database: pages, indexes, references between rows, and whether ledger and instances know of the same machines.
 * Problems are findings; an error says that it could not be read any further. */
qm_err qm_store_check(struct qm_store *s, qm_finding found, void *ctx, struct qm_fault *fault) QM_MUST_USE;

#endif
