/* Policies: for the home, and per group. A table of keys says what each means, its default, and whether a group may differ; it
 * drives config get|set|list and its help. Part of the store. */
#ifndef QM_STORE_CONFIG_H
#define QM_STORE_CONFIG_H

#include "tools/store/store.h"

/* What a PCR of a group's machines is (LIFECYCLE: a set is one value for each baselined PCR of a class). */
enum qm_pcr_class { QM_CLASS_INSTANCE, QM_CLASS_GROUP, QM_CLASS_IGNORED };

enum qm_learn { QM_LEARN_FIRST, QM_LEARN_NEVER };
enum qm_freshness { QM_FRESHNESS_CLOCK, QM_FRESHNESS_BEACON };

/* All policies as they apply to one scope, defaults filled in. Durations in ms. */
struct qm_policy {
    enum qm_learn learn;              /* first */
    uint64_t learn_within_ms;         /* 7 d: after enrolment */
    uint64_t unmeasured_after_ms;     /* 24 h */
    uint64_t lag_after_ms;            /* 6 h */
    uint64_t keep_old_ms;             /* 0, off: older sets of an instance stay after it passes on a newer one */
    enum qm_freshness freshness;      /* clock; beacon: anything else is stale_nonce */
    uint64_t beacon_period_ms;        /* 1 h, home only */
    uint64_t beacon_life_ms;          /* 3 h, home only */
    uint64_t retire_after_ms;         /* 0, off: silent for so long, it is taken out */
    uint64_t held_keep_ms;            /* 24 h, home only: evidence of unknown instances; likewise below */
    uint64_t held_max_bytes, quarantine_keep_ms, quarantine_max_bytes, archive_keep_ms, archive_max_bytes;
    uint64_t results_keep_ms, results_max_bytes, history_keep_ms;
    uint32_t class_group, class_ignored; /* PCRs; what is in neither is the instance's. Without a group both are 0 */
    char name[128];                   /* of the home: in results' metrics and alerts; default "" */
    char metrics[128];                /* path of the textfile for Prometheus; "": in the home; "none" */
    char stage_name[QM_PCR_COUNT][64]; /* "" : the field's name */
};

/* The policies of a group (group_len 0: the home's). Read once for each group and kept until the configuration moves. The
 * pointer lives as long as the store. */
qm_err qm_store_policy(struct qm_store *s, const char *group, size_t group_len, const struct qm_policy **out,
                       struct qm_fault *fault) QM_MUST_USE;

/* Sets (value NULL: back to the default, or to the home's). group "" is the home. Inside a transaction; QM_E_REFUSED with the
 * reason for an unknown key, a value that it does not take, a key that only the home has, or PCRs to ignore that leave some
 * instance nothing to compare; then the transaction is to be rolled back. Where the table has it too (classes, freshness) the
 * generation moves. */
qm_err qm_store_config_set(struct qm_store *s, const char *group, const char *key, const char *value, struct qm_fault *fault) QM_MUST_USE;
/* Every key with its value for the group ("" the home's), in a fixed order; from: "default", "home" or "group". */
typedef void (*qm_config_visit)(void *ctx, const char *key, const char *value, const char *from, const char *help);
qm_err qm_store_config_each(struct qm_store *s, const char *group, qm_config_visit visit, void *ctx, struct qm_fault *fault) QM_MUST_USE;

/* Who set it and when; group "": the home's. *since_ms 0: nobody did. */
qm_err qm_store_config_set_by(struct qm_store *s, const char *group, const char *key, char who[64], uint64_t *since_ms,
                              struct qm_fault *fault) QM_MUST_USE;

/* "90s", "15m", "6h", "7d", "2w", a bare number of seconds; "off" and "0" are 0. */
bool qm_duration_read(const char *text, uint64_t *ms);

#endif
