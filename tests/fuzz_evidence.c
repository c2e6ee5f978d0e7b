/* Fuzz target: evidence records. The input is read as framing reads a file: record after record until one is cut short or lost. What
 * was framed must be what qm_skip says, in pieces too, and its PCR values must lie inside the record. */
#include <assert.h>
#include <stdlib.h>

#include "codec/evidence.h"
#include "codec/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_pcrs(const struct qm_evidence *e)
{
    for (enum qm_hash h = QM_HASH_SHA1; h < QM_HASH_COUNT; h++) {
        const uint8_t *value[QM_PCR_COUNT] = {NULL};
        qm_evidence_pcrs(e, h, value);
        for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++) {
            assert((value[pcr] != NULL) == ((e->pcr_mask[h] >> pcr & 1) != 0));
            if (value[pcr] != NULL)
                assert(value[pcr] >= e->pcrs.p && value[pcr] + qm_hash_size(h) <= e->pcrs.p + e->pcrs.len);
        }
    }
}

/* The end of the value, found in two pieces. */
static void check_skip(struct qm_span record, size_t cut)
{
    struct qm_skip s = {.pending = 1};
    size_t used = 0, more = 0;
    enum qm_frame f = qm_skip_step(&s, (struct qm_span){record.p, cut}, &used);
    assert(used <= cut);
    if (f == QM_FRAME_MORE)
        f = qm_skip_step(&s, (struct qm_span){record.p + used, record.len - used}, &more);
    assert(f == QM_FRAME_RECORD && used + more == record.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t at = 0;
    while (at < size) {
        struct qm_evidence e;
        enum qm_frame f = qm_evidence_read((struct qm_span){data + at, size - at}, &e);
        if (f != QM_FRAME_RECORD)
            break;
        assert(e.record.p == data + at && e.record.len != 0 && e.record.len <= size - at);
        assert(e.id.p == NULL || qm_id_ok(e.id));
        if (!e.malformed) {
            assert(e.id.p != NULL && e.quote.p != NULL && e.sig.p != NULL);
            check_pcrs(&e);
        }
        check_skip(e.record, e.record.len / 2);
        at += e.record.len;
    }
    return 0;
}
