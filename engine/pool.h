/* The worker pool: threads that each run one function to its end. What they work on, they take themselves; a worker that fails
 * or is told to stop ends the others through the shared stop flag. */
#ifndef QM_POOL_H
#define QM_POOL_H

#include <stdatomic.h>

#include "codec/error.h"

enum { QM_WORKERS_MAX = 256 };

/* Runs in a thread of its own, with all signals blocked. */
typedef qm_err (*qm_pool_work)(void *worker, struct qm_fault *fault);

struct qm_pool;

/* Starts count threads; thread i gets workers[i]. Whoever fails sets *stop. */
qm_err qm_pool_start(struct qm_pool **out, unsigned count, qm_pool_work work, void *const *workers, _Atomic bool *stop,
                     struct qm_fault *fault) QM_MUST_USE;
/* Waits at most timeout_ms for all to end. True: all have. */
bool qm_pool_wait(struct qm_pool *p, unsigned timeout_ms);
/* Joins all, frees the pool, gives the first failure. */
qm_err qm_pool_join(struct qm_pool *p, struct qm_fault *fault) QM_MUST_USE;

#endif
