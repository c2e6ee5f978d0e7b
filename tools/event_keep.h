/* What a run's worker keeps of the logs it saw, for the store: the events behind PCR values (engine/explain.h), once for each
 * (PCR, value), in bounded memory of its own.
 *
 * Kept are, of a record whose values are proven and whose log replays:
 *   trusted    the PCRs whose events its sets' values lack (store_events.h)
 *   mismatch   the PCRs that differ, by their measured values: if that is accepted, the new baseline has its events
 *   new        all baselined PCRs: they are about to be learned
 *
 * Lists are made in proportion to the records seen, so that a run in which everything is missing is hardly slower for it; what
 * does not fit comes with the next run. When half of that, or of the memory, is used, a list is only made where a value is seen a
 * second time: what many machines share is not crowded out by what each has for itself. */
#ifndef QM_EVENT_KEEP_H
#define QM_EVENT_KEEP_H

#include "engine/verify.h"
#include "tools/store/store_events.h"

enum {
    QM_EVENT_KEEP_BYTES = 4 << 20, /* of lists, a worker */
    QM_EVENT_KEEP_LISTS = 1024,    /* and one more for each 100 records: 37 us to make one (the logs of gen) */
    QM_EVENT_KEEP_RECORDS = 100,
};

struct qm_event_keep;

/* missing is shared and outlives it; NULL: nothing is. All memory is taken now, touched only when used. */
qm_err qm_event_keep_open(struct qm_event_keep **out, const struct qm_events_missing *missing, size_t bytes,
                          struct qm_fault *fault) QM_MUST_USE;
/* Takes of a record what is wanted; cheap for a record of which nothing is. Reads the record's log, so in the worker, before its
 * buffer is used again. */
void qm_event_keep_take(struct qm_event_keep *k, const struct qm_record *record, const struct qm_result *result);

/* Writes everything kept into the store, inside a transaction; then qm_store_events_settle ends it. */
qm_err qm_event_keep_store(struct qm_event_keep *k, struct qm_store *s, struct qm_fault *fault) QM_MUST_USE;
uint64_t qm_event_keep_dropped(const struct qm_event_keep *k); /* lists that were wanted and had no room */
void qm_event_keep_close(struct qm_event_keep *k);

#endif
