/* Fuzz target: a line of enrolment, as enroll reads it: the id alone, then everything. What is taken keeps the rules. */
#include <assert.h>
#include <stdlib.h>

#include "codec/text.h"
#include "tools/enrolment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct qm_json *json;
    static struct qm_enrolment *e;
    struct qm_fault fault = {0};
    if (json == NULL) {
        e = aligned_alloc(QM_CACHE_LINE, qm_align_up(sizeof *e, QM_CACHE_LINE));
        if (e == NULL || qm_json_open(&json, &fault) != QM_OK)
            abort();
    }
    if (size > QM_LINE_MAX)
        return 0;
    char *line = malloc(size + 1); /* not NUL-terminated for the reader: one byte of room keeps malloc(0) away */
    assert(line != NULL);
    if (size != 0)
        memcpy(line, data, size);
    qm_err id = qm_enrolment_id(json, line, size, e, &fault);
    assert(id == QM_OK || id == QM_E_REFUSED);
    qm_err all = qm_enrolment_read(json, line, size, e, &fault);
    assert(all == QM_OK || all == QM_E_REFUSED);
    if (all == QM_OK) {
        const struct qm_profile *p = &e->profile;
        assert(id == QM_OK && qm_id_ok((struct qm_span){e->id, e->id_len}));
        assert(p->first256 < p->select_count && p->select[p->first256].hash == QM_HASH_SHA256);
        assert(p->baselined != 0 && (p->baselined & ~p->select[p->first256].mask) == 0);
        assert(e->baseline_mask == 0 || e->baseline_mask == p->baselined);
        assert(qm_key_sound(qm_enrolment_key(e), QM_KEY_BYTES_MAX));
    }
    free(line);
    return 0;
}
