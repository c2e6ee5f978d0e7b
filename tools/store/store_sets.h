/* Accepted sets in the store: which are live for an instance, new ones, ended ones. Part of the store.
 *
 * kind      holds one value for                                     belongs to
 * whole     every baselined PCR                                     an instance
 * group     the group's PCRs                                        a group
 * instance  the instance's PCRs, beside the group's                 an instance
 *
 * An instance passes on one live whole set, or on one live set of its group together with one live instance set of its own.
 * What a whole set has for the instance's own PCRs counts as an instance set of it too: so a set that is accepted for a group
 * passes machines that were enrolled or learned before there were sets of the group.
 *
 * In the table, and for engine/compare.h, each such pair is a set of its own (set_no the group's values, pair_no the
 * instance's); a group's set that has nothing beside it yet stands alone, and can fail a machine but not pass it. Where all
 * PCRs are the group's, its sets are whole by themselves. Numbers are those of the values (table pcr_values), not of the
 * accepted sets. */
#ifndef QM_STORE_SETS_H
#define QM_STORE_SETS_H

#include "engine/ledger.h"
#include "tools/store/store_config.h"

enum qm_set_kind { QM_SET_WHOLE, QM_SET_GROUP, QM_SET_INSTANCE };

/* What must be known of an instance to judge its values again. */
struct qm_instance_row {
    uint64_t slot;
    char id[QM_ID_MAX + 1];
    size_t id_len;
    char group[QM_GROUP_MAX + 1]; /* "" none */
    uint32_t group_no;            /* of table grp; 0: none */
    uint32_t ak;                  /* number of its present key */
    uint64_t enrolled_ms;
    uint64_t generation; /* its own or its group's, whichever moved last */
    bool require_log;
    bool has_nonce;
    uint64_t hold_until_ms;    /* 0: not held; past: when the hold ended */
    struct qm_profile profile; /* baselined without the PCRs that its group ignores */
};
/* *found false: no such instance. */
qm_err qm_store_instance(struct qm_store *s, uint64_t slot, struct qm_instance_row *out, bool *found,
                         struct qm_fault *fault) QM_MUST_USE;
qm_err qm_store_instance_by_id(struct qm_store *s, const char *id, size_t len, struct qm_instance_row *out, bool *found,
                               struct qm_fault *fault) QM_MUST_USE;

/* The live sets of an instance as engine/compare.h wants them, newest first, pairs expanded. until_ms that has passed counts as
 * ended. Placed in memory of its own: init once, load for each instance, close. */
struct qm_live_sets {
    unsigned count;
    const struct qm_set *set[QM_SETS_MAX];
    unsigned whole_count, group_count, instance_count; /* live ones, before pairing */
    void *room;
};
qm_err qm_live_sets_init(struct qm_live_sets *l, struct qm_fault *fault) QM_MUST_USE;
qm_err qm_live_sets_load(struct qm_store *s, const struct qm_instance_row *row, struct qm_live_sets *l,
                         struct qm_fault *fault) QM_MUST_USE;
void qm_live_sets_close(struct qm_live_sets *l);

struct qm_set_new {
    enum qm_set_kind kind;
    uint64_t slot;     /* whole, instance */
    uint32_t group_no; /* group */
    uint32_t mask;     /* PCRs; value[pcr] is set for each */
    const uint8_t *value[QM_PCR_COUNT];
    const char *origin; /* "enrolled", "learned", "accepted", "set", "imported" */
    const char *why;    /* may be NULL */
    uint64_t alert;     /* accepted: from which; 0 */
    uint64_t run;       /* learned: in which; 0 */
    uint64_t until_ms;  /* 0: no end */
};
/* Inside a transaction; marks the instance, or all of the group, as changed in this generation. An equal live set of the same
 * owner is found again instead (*no its number, *added false). QM_E_LIMIT, asking which to end, beyond QM_SET_MAX of a kind.
 * QM_E_REFUSED: PCR 16 or 23. who and when are the store's. */
qm_err qm_set_add(struct qm_store *s, const struct qm_set_new *set, uint64_t *no, bool *added,
                  struct qm_fault *fault) QM_MUST_USE;
/* Ends a live set. *found false: there is none of that number that lives. */
qm_err qm_set_end(struct qm_store *s, uint64_t no, const char *why, bool *found, struct qm_fault *fault) QM_MUST_USE;

/* Ends what an `until` has ended by now, and judges again who passed on it. For the beginning of a run. */
qm_err qm_sets_expire(struct qm_store *s, uint64_t *count, struct qm_fault *fault) QM_MUST_USE;
/* keep_old, for an instance that passes: notes the first pass on the set that entry names, and ends the instance's older ones
 * once that is keep_old_ms ago. Not to be called where keep_old is off. */
qm_err qm_sets_keep_old(struct qm_store *s, uint64_t slot, const struct qm_ledger *entry, uint64_t keep_old_ms, uint64_t *ended,
                        struct qm_fault *fault) QM_MUST_USE;

/* The number of these values, which need be no accepted set; made where they are new. */
qm_err qm_values_put(struct qm_store *s, uint32_t mask, const uint8_t *const value[QM_PCR_COUNT], uint64_t *values_no,
                     struct qm_fault *fault) QM_MUST_USE;
/* The values numbered so: mask, and 32 bytes for each of its PCRs, ascending. values has room for QM_PCR_COUNT * 32. */
qm_err qm_values_get(struct qm_store *s, uint64_t values_no, uint32_t *mask, uint8_t *values, bool *found,
                     struct qm_fault *fault) QM_MUST_USE;

/* The proven values of an instance's newest record: what its ledger entry says it passes on or is nearest to, overlaid with
 * what differs. value[pcr] points into room (QM_PCR_COUNT * 32 bytes) for every PCR of *mask. *known false: nothing is proven.
 */
qm_err qm_store_measured(struct qm_store *s, const struct qm_ledger *entry, uint8_t *room, const uint8_t *value[QM_PCR_COUNT],
                         uint32_t *mask, bool *known, struct qm_fault *fault) QM_MUST_USE;

/* Judges an instance's newest record again, by the sets that live now: the ledger entry's status, reason and first_fail; where
 * it passes now also set_a, set_b and good_ms. Where it fails, set_a, set_b and change go on saying what was measured, whatever
 * is nearest now. `learned` stays so while it passes, and an instance without a record stays as it is. Alerts are the caller's.
 * live: room to work in; NULL: the store's own. */
struct qm_rejudged {
    uint8_t before, before_reason; /* enum qm_status, enum qm_reason */
    uint8_t status, reason;
    bool changed;
};
qm_err qm_store_rejudge(struct qm_store *s, uint64_t slot, struct qm_live_sets *live, struct qm_rejudged *out,
                        struct qm_fault *fault) QM_MUST_USE;
/* All of a group, in slot order; visit (may be NULL) is told of those that changed. */
typedef qm_err (*qm_rejudge_visit)(void *ctx, uint64_t slot, const struct qm_rejudged *r, struct qm_fault *fault);
qm_err qm_store_rejudge_group(struct qm_store *s, uint32_t group_no, qm_rejudge_visit visit, void *ctx,
                              struct qm_fault *fault) QM_MUST_USE;

#endif
