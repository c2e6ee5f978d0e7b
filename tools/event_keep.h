/* What a run's worker keeps of the logs it saw, for the store: the events behind PCR values (engine/explain.h), once for each
 * (PCR, value), in bounded memory of its own. When that is full nothing more is kept in this run.
 *
 * Kept are, of a record whose values are proven and whose log replays:
 *   trusted    the PCRs whose events its sets' values lack (store_events.h)
 *   mismatch   the PCRs that differ, by their measured values: if that is accepted, the new baseline has its events
 *   new        all baselined PCRs: they are about to be learned */
#ifndef QM_EVENT_KEEP_H
#define QM_EVENT_KEEP_H

#include "engine/verify.h"
#include "tools/store_events.h"

enum { QM_EVENT_KEEP_BYTES = 16 << 20 }; /* of lists, a worker */

struct qm_event_keep;

/* missing is shared and outlives it; NULL: nothing is. All memory is taken now, touched only when used. */
qm_err qm_event_keep_open(struct qm_event_keep **out, const struct qm_events_missing *missing, size_t bytes,
                          struct qm_fault *fault) QM_MUST_USE;
/* Takes of a record what is wanted; cheap for a record of which nothing is. Reads the record's log, so in the worker, before its
 * buffer is used again. */
void qm_event_keep_take(struct qm_event_keep *k, const struct qm_record *record, const struct qm_result *result);

struct qm_kept_events {
    uint64_t values_no; /* lacked it; 0: none did */
    unsigned pcr;
    const uint8_t *value; /* 32 bytes */
    struct qm_span list;
};
/* Everything kept, in the order it came; anything but QM_OK from visit ends it and is given back. */
typedef qm_err (*qm_kept_visit)(void *ctx, const struct qm_kept_events *kept, struct qm_fault *fault);
qm_err qm_event_keep_each(const struct qm_event_keep *k, qm_kept_visit visit, void *ctx, struct qm_fault *fault) QM_MUST_USE;
/* Writes everything kept into the store, inside a transaction. */
qm_err qm_event_keep_store(const struct qm_event_keep *k, struct qm_store *s, struct qm_fault *fault) QM_MUST_USE;
uint64_t qm_event_keep_dropped(const struct qm_event_keep *k); /* lists for which there was no room */
void qm_event_keep_close(struct qm_event_keep *k);

#endif
