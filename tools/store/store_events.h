/* The events behind PCR values in the store (engine/explain.h): a list for each (PCR, value), whoever has it. Part of the store.
 *
 * Lists come from the logs of records that pass, are learned or differ. What live sets still lack is known by the number of
 * their values (qm_result.set_a, set_b), so that a run keeps of a million logs only what nobody kept before. All lists together
 * are bounded: when there are too many, a share of them goes, whichever; those of live sets come back with the next logs.
 * A list that is not there costs an explanation, never a verdict. */
#ifndef QM_STORE_EVENTS_H
#define QM_STORE_EVENTS_H

#include "engine/explain.h"
#include "tools/store/store.h"

enum {
    QM_EVENTS_BYTES_MAX = 256 << 20, /* of all lists in a store */
    QM_EVENTS_MISSING_MAX = 1 << 9, /* values asked for in one run: the lists that machines share come with the first of them */
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

/* Keeps a list, inside a transaction; a (PCR, value) that has one keeps it. lacked: some values lack it. *kept false: there is no
 * room. Lists that nothing lacks may take half of it, and once a day a tenth of all lists makes room. */
qm_err qm_store_events_put(struct qm_store *s, unsigned pcr, const uint8_t value[32], struct qm_span list, bool lacked, bool *kept,
                           struct qm_fault *fault) QM_MUST_USE;
/* The lists of these PCRs are there now: the values lack them no more. */
qm_err qm_store_events_found(struct qm_store *s, uint64_t values_no, uint32_t mask, struct qm_fault *fault) QM_MUST_USE;
/* Ends what a transaction put, after it made its sets. What was made since missing was loaded (learned in this run) and has its
 * lists lacks them no more. What live sets lacked until now is for the table, so the generation moves: when nothing is missing
 * any more or an eighth of all lists is new, else after a day; and never so often that tables for explanations take more than a
 * hundredth of the time, as they would where every machine brings lists of its own. */
qm_err qm_store_events_settle(struct qm_store *s, const struct qm_events_missing *missing, struct qm_fault *fault) QM_MUST_USE;
/* The list behind a value, into room of QM_EVENT_LIST_BYTES_MAX bytes. *found false: none is kept. */
qm_err qm_store_events_get(struct qm_store *s, unsigned pcr, const uint8_t value[32], uint8_t *room, struct qm_event_list *out,
                           bool *found, struct qm_fault *fault) QM_MUST_USE;

#endif
