/* The events behind PCR values in the store (engine/explain.h): a list for each (PCR, value), whoever has it. Part of the store.
 *
 * Lists come from the logs of records that pass, are learned or differ. What live sets still lack is known by the number of
 * their values (qm_result.set_a, set_b), so that a run keeps of a million logs only what nobody kept before. All lists together
 * are bounded: when there are too many, a share of them goes, whichever; those of live sets come back with the next logs.
 * A list that is not there costs an explanation, never a verdict. */
#ifndef QM_STORE_EVENTS_H
#define QM_STORE_EVENTS_H

#include "engine/explain.h"
#include "tools/store.h"

enum {
    QM_EVENTS_BYTES_MAX = 256 << 20, /* of all lists in a store */
    QM_EVENTS_MISSING_MAX = 1 << 16, /* values asked for in one run */
};

/* Which values lack lists, and of which PCRs. Read-only once loaded, so workers share it. */
struct qm_events_missing {
    size_t count; /* values; 0: nothing is missing */
    uint64_t newest; /* number of the newest values there were, asked for or not */
    uint64_t room;   /* a power of two */
    struct qm_values_missing {
        uint64_t values_no; /* 0: free */
        uint32_t mask;
    } *at;
};
/* At most QM_EVENTS_MISSING_MAX values, other ones in each run where there are more. Costs a look at an empty table where nothing
 * is missing. */
qm_err qm_store_events_missing(struct qm_store *s, struct qm_events_missing *out, struct qm_fault *fault) QM_MUST_USE;
/* The entry of the values of that number, or NULL where they lack nothing (or are not asked for). */
const struct qm_values_missing *qm_events_missing_find(const struct qm_events_missing *m, uint64_t values_no);
void qm_events_missing_free(struct qm_events_missing *m);

/* Keeps a list, inside a transaction; a (PCR, value) that has one keeps it. values_no: the values that lacked it, 0: none did.
 * What a live set lacked is for the table too, so the store's generation moves. When there is no room the list is not kept:
 * lists that nothing lacked may take half of it, and once a day a tenth of all lists makes room. */
qm_err qm_store_events_put(struct qm_store *s, unsigned pcr, const uint8_t value[32], struct qm_span list, uint64_t values_no,
                           struct qm_fault *fault) QM_MUST_USE;
/* After a transaction made sets (learned them) and put lists: what was made since missing was loaded and has its lists lacks
 * them no more. */
qm_err qm_store_events_settle(struct qm_store *s, const struct qm_events_missing *missing, struct qm_fault *fault) QM_MUST_USE;
/* The list behind a value, into room of QM_EVENT_LIST_BYTES_MAX bytes. *found false: none is kept. */
qm_err qm_store_events_get(struct qm_store *s, unsigned pcr, const uint8_t value[32], uint8_t *room, struct qm_event_list *out,
                           bool *found, struct qm_fault *fault) QM_MUST_USE;

#endif
