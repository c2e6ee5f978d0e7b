/* Accepted sets in the store: which are live for an instance, new ones, ended ones. Part of the store.
 *
 * kind      holds one value for                                     belongs to
 * whole     every baselined PCR                                     an instance
 * group     the group's PCRs                                        a group
 * instance  the instance's PCRs, beside the group's                 an instance
 *
 * An instance passes on one live whole set, or on one live set of its group together with one live instance set of its own.
 * In the table, and for engine/compare.h, each such pair is a set of its own (set_no the group's values, pair_no the
 * instance's); a group's set that has no instance set beside it yet stands alone, and can fail a machine but not pass it. */
#ifndef QM_STORE_SETS_H
#define QM_STORE_SETS_H

#include "engine/ledger.h"
#include "tools/store_config.h"

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
    uint64_t generation;
    bool require_log;
    bool has_nonce;
    uint64_t hold_until_ms;       /* 0: not held; past: when the hold ended */
    struct qm_profile profile;    /* baselined without the PCRs that its group ignores */
};
/* *found false: no such instance. */
qm_err qm_store_instance(struct qm_store *s, uint64_t slot, struct qm_instance_row *out, bool *found, struct qm_fault *fault) QM_MUST_USE;
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
qm_err qm_live_sets_load(struct qm_store *s, const struct qm_instance_row *row, struct qm_live_sets *l, struct qm_fault *fault) QM_MUST_USE;
void qm_live_sets_close(struct qm_live_sets *l);

struct qm_set_new {
    enum qm_set_kind kind;
    uint64_t slot;         /* whole, instance */
    uint32_t group_no;     /* group */
    uint32_t mask;         /* PCRs; value[pcr] is set for each */
    const uint8_t *value[QM_PCR_COUNT];
    const char *origin;    /* "enrolled", "learned", "accepted", "set", "imported" */
    const char *why;       /* may be NULL */
    uint64_t alert;        /* accepted: from which; 0 */
    uint64_t run;          /* learned: in which; 0 */
    uint64_t until_ms;     /* 0: no end */
};
/* Inside a transaction; marks the instance, or all of the group, as changed in this generation. An equal live set of the same
 * owner is found again instead (*no its number, *added false). QM_E_LIMIT, asking which to end, beyond QM_SET_MAX of a kind.
 * QM_E_REFUSED: PCR 16 or 23. who and when are the store's. */
qm_err qm_set_add(struct qm_store *s, const struct qm_set_new *set, uint64_t *no, bool *added, struct qm_fault *fault) QM_MUST_USE;
/* Ends a live set. *found false: there is none of that number that lives. */
qm_err qm_set_end(struct qm_store *s, uint64_t no, const char *why, bool *found, struct qm_fault *fault) QM_MUST_USE;

/* The values numbered so: mask, and 32 bytes for each of its PCRs, ascending. values has room for QM_PCR_COUNT * 32. */
qm_err qm_values_get(struct qm_store *s, uint64_t values_no, uint32_t *mask, uint8_t *values, bool *found,
                     struct qm_fault *fault) QM_MUST_USE;

/* The proven values of an instance's newest record: what its ledger entry says it passes on or is nearest to, overlaid with what
 * differs. value[pcr] points into room (QM_PCR_COUNT * 32 bytes) for every PCR of *mask. *known false: nothing is proven. */
qm_err qm_store_measured(struct qm_store *s, const struct qm_ledger *entry, uint8_t *room, const uint8_t *value[QM_PCR_COUNT],
                         uint32_t *mask, bool *known, struct qm_fault *fault) QM_MUST_USE;

#endif
