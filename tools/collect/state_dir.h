/* STATE: what the collector remembers from one call to the next, closed to others.
 *
 *   STATE/identity.json   who this machine is (identity.h)
 *   STATE/delivery.json   the last delivery
 *   STATE/queue/          records that wait for their spool, as they will lie there
 *   STATE/lock            held by whoever changes any of it
 *
 * Files are written beside, synced and renamed; a process that is killed leaves the old or the new one. */
#ifndef QM_STATE_DIR_H
#define QM_STATE_DIR_H

#include "codec/error.h"

#define QM_STATE_DEFAULT "/var/lib/quotemill-collect"

/* Makes the directory where make says so, mode 0700, and takes its lock. QM_E_REFUSED: others may look into it, or it is
 * another's. QM_E_BUSY: another has the lock. *lock is to be closed. */
qm_err qm_state_open(const char *dir, bool make, int *lock, struct qm_fault *fault) QM_MUST_USE;

/* All of a file, at most 256 KiB, malloced. *there false, and QM_OK: there is none. */
qm_err qm_state_read(const char *dir, const char *name, char **bytes, size_t *len, bool *there,
                     struct qm_fault *fault) QM_MUST_USE;
void qm_state_remove(const char *dir, const char *name);
qm_err qm_state_write(const char *dir, const char *name, struct qm_span bytes, struct qm_fault *fault) QM_MUST_USE;

#define QM_DELIVERY_STDOUT "-" /* went to standard output: whether it arrived is not known here */
struct qm_delivery {
    uint64_t at_ms; /* since the epoch */
    char to[1024];  /* absolute, or QM_DELIVERY_STDOUT */
};
/* *there false, and QM_OK: nothing was delivered yet. */
qm_err qm_delivery_read(const char *dir, struct qm_delivery *out, bool *there, struct qm_fault *fault) QM_MUST_USE;
/* to: a spool, from where the caller stands, or QM_DELIVERY_STDOUT. */
qm_err qm_delivery_write(const char *dir, const char *to, struct qm_fault *fault) QM_MUST_USE;
uint64_t qm_now_ms(void);

/* ---- the queue ---- */

struct qm_queue_limits {
    uint64_t files, bytes;
};
struct qm_queue {
    uint64_t files, bytes;
    uint64_t dropped; /* since it was asked for: the oldest, to make room */
};
qm_err qm_queue_look(const char *dir, struct qm_queue *out, struct qm_fault *fault) QM_MUST_USE;
/* Delivers what waits, oldest first, until the spool refuses; *delivered counts. What cannot be read is dropped, and counts in
 * *lost. An error is the spool's, or the queue's. */
qm_err qm_queue_deliver(const char *dir, const char *spool, struct qm_span id, uint64_t *delivered, uint64_t *lost,
                        struct qm_fault *fault) QM_MUST_USE;
/* Puts one more behind; the oldest go where there is no room. */
qm_err qm_queue_add(const char *dir, struct qm_span id, struct qm_span record, const struct qm_queue_limits *limits,
                    struct qm_queue *out, struct qm_fault *fault) QM_MUST_USE;

#endif
