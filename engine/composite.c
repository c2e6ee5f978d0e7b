#include "engine/table.h"

size_t qm_composite_message(const struct qm_profile *p, const struct qm_pcr_values *v, uint8_t message[QM_COMPOSITE_MAX])
{
    size_t len = 0;
    for (unsigned b = 0; b < p->select_count; b++) {
        size_t size = qm_hash_size(p->select[b].hash);
        for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
            if ((p->select[b].mask >> pcr & 1) != 0) {
                memcpy(message + len, v->value[b][pcr], size);
                len += size;
            }
    }
    return len;
}
