/* Machines that are parked, and machines that are taken out. Part of the store.
 *
 * A parked machine may be silent; mismatches still alert. One that is taken out leaves the table, the counts and the open
 * alerts; its history stays for as long as history is kept, under a slot that is never given again, and its id may be enrolled
 * anew. */
#ifndef QM_STORE_RETIRE_H
#define QM_STORE_RETIRE_H

#include "tools/store/store_status.h"

/* Which machines; ascending, each once. */
struct qm_slots {
    uint64_t *slot;
    size_t count, room;
};
/* By id. QM_E_REFUSED: there is no such instance. */
qm_err qm_slots_add_id(struct qm_store *s, struct qm_slots *l, const char *id, size_t len, struct qm_fault *fault) QM_MUST_USE;
/* All that have the tag; key NULL: all. */
qm_err qm_slots_add_tag(struct qm_store *s, struct qm_slots *l, const char *key, const char *value,
                        struct qm_fault *fault) QM_MUST_USE;
/* Only those with the tag (key NULL: any), and silent for at least so long (0: any). Sorts, and drops what stands twice. */
qm_err qm_slots_narrow(struct qm_store *s, struct qm_slots *l, const char *key, const char *value, uint64_t older_ms,
                       struct qm_fault *fault) QM_MUST_USE;
void qm_slots_close(struct qm_slots *l);

/* Inside a transaction. until_ms in the past ends a hold, where there is one. *changed: machines that it made a difference to.
 */
qm_err qm_store_hold(struct qm_store *s, const struct qm_slots *l, uint64_t until_ms, const char *why, uint64_t *changed,
                     struct qm_fault *fault) QM_MUST_USE;
/* Inside a transaction. why may be NULL. */
qm_err qm_store_retire(struct qm_store *s, const struct qm_slots *l, const char *why, struct qm_fault *fault) QM_MUST_USE;
/* For a run, after silence was judged: takes out what was silent for longer than its group's retire_after, but for what is
 * parked or untrusted (that is for a person to see). */
qm_err qm_store_retire_silent(struct qm_store *s, const struct qm_fleet *fleet, uint64_t *count,
                              struct qm_fault *fault) QM_MUST_USE;
/* What is left of machines that were taken out longer ago than history is kept goes, at most once a day, 10,000 machines at a time, and
 * with it the values, keys and lists of events that nobody else has. *count: machines. In a transaction of its own. */
qm_err qm_store_forget(struct qm_store *s, uint64_t *count, struct qm_fault *fault) QM_MUST_USE;

#endif
