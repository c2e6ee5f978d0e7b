#include "engine/compare.h"

/* How many sets' PCRs differ; bits for those that do. */
static uint32_t differences(const uint8_t *const *value, const struct qm_set *s, uint32_t mask)
{
    uint32_t differ = 0;
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        if ((mask >> pcr & 1) != 0 && memcmp(value[pcr], qm_set_value(s, pcr), 32) != 0)
            differ |= 1u << pcr;
    return differ;
}

static bool covers(const struct qm_set *s, uint32_t baselined)
{
    return (baselined & ~s->mask) == 0;
}

struct qm_comparison qm_compare(const uint8_t *const value[QM_PCR_COUNT], uint32_t baselined, const struct qm_set *const *sets,
                                unsigned count)
{
    struct qm_comparison c = {0};
    for (unsigned i = 0; i < count; i++) {
        const struct qm_set *s = sets[i];
        uint32_t differ = differences(value, s, baselined & s->mask);
        bool whole = covers(s, baselined);
        if (c.set == NULL || whole > covers(c.set, baselined) ||
            (whole == covers(c.set, baselined) && __builtin_popcount(differ) < __builtin_popcount(c.differ))) {
            c.set = s;
            c.differ = differ;
        }
    }
    c.passes = c.set != NULL && c.differ == 0 && baselined != 0 && covers(c.set, baselined);
    return c;
}

static bool one_proves_alone(const struct qm_set *const *sets, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (sets[i]->composite_size != 0)
            return true;
    return false;
}

void qm_conclude(const uint8_t *const *value, uint32_t baselined, const struct qm_set *const *sets, unsigned count,
                 enum qm_status *status, enum qm_reason *reason, struct qm_comparison *comparison)
{
    struct qm_comparison c = {.set = count != 0 ? sets[0] : NULL}; /* nothing proven: expected values are the newest set's */
    if (value != NULL)
        c = qm_compare(value, baselined, sets, count);
    if (value != NULL && c.passes) {
        *status = QM_TRUSTED;
        *reason = QM_ALL_GOOD;
    } else if (value != NULL && c.differ != 0) {
        *status = QM_UNTRUSTED;
        *reason = QM_PCR_MISMATCH;
    } else if (value != NULL) {
        *status = QM_NEW;
        *reason = QM_NO_BASELINE;
    } else if (c.set == NULL) {
        *status = QM_NEW;
        *reason = QM_PCR_VALUES_MISSING;
    } else {
        *status = QM_UNTRUSTED;
        *reason = one_proves_alone(sets, count) ? QM_PCR_MISMATCH : QM_PCR_VALUES_MISSING;
    }
    *comparison = c;
}

unsigned qm_stages(const uint8_t *const *value, uint32_t baselined, const struct qm_set *expected,
                   struct qm_stage stage[QM_STAGE_COUNT], int8_t *first_fail)
{
    bool failed = false;
    unsigned n = 0;
    *first_fail = -1;
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++) {
        if ((baselined >> pcr & 1) == 0)
            continue;
        struct qm_stage *s = &stage[n++];
        *s = (struct qm_stage){.pcr = (uint8_t)pcr,
                               .measured = value != NULL ? value[pcr] : NULL,
                               .expected = expected != NULL ? qm_set_value(expected, pcr) : NULL};
        if (s->measured == NULL || s->expected == NULL)
            s->state = QM_STAGE_UNKNOWN;
        else if (failed)
            s->state = QM_STAGE_NOT_REACHED;
        else if (memcmp(s->measured, s->expected, 32) == 0)
            s->state = QM_STAGE_PASS;
        else {
            s->state = QM_STAGE_FAIL;
            *first_fail = (int8_t)pcr;
            failed = true;
        }
    }
    return n;
}
