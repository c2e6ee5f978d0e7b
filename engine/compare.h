/* Check 10 (contract, section 3): proven values against accepted sets. Used by the appraisal, and again when a decision changes
 * the sets after a record was judged. Pure. */
#ifndef QM_COMPARE_H
#define QM_COMPARE_H

#include "codec/result.h"
#include "engine/table.h"

struct qm_comparison {
    const struct qm_set *set; /* the one it passes on, else the nearest: fewest PCRs that differ, then the newest; sets that have
                               * every baselined PCR before those made when fewer were baselined. NULL: no sets */
    uint32_t differ;          /* PCRs that differ from it */
    bool passes;              /* equal to it, and it has a value for every baselined PCR (at least one) */
};

/* value[pcr]: 32 bytes for every PCR in baselined. sets: newest first. */
struct qm_comparison qm_compare(const uint8_t *const value[QM_PCR_COUNT], uint32_t baselined, const struct qm_set *const *sets,
                                unsigned count);

/* What an authentic record's values mean. value NULL: not proven. */
void qm_conclude(const uint8_t *const *value, uint32_t baselined, const struct qm_set *const *sets, unsigned count,
                 enum qm_status *status, enum qm_reason *reason, struct qm_comparison *comparison);

/* One stage for each baselined PCR, ascending; gives their number. expected may be NULL (nothing to compare with). */
unsigned qm_stages(const uint8_t *const *value, uint32_t baselined, const struct qm_set *expected,
                   struct qm_stage stage[QM_STAGE_COUNT], int8_t *first_fail);

#endif
