/* Fuzz target: lines that machines send in the enrolment ceremony. A proposal as far as it is read before OpenSSL is asked for its
 * certificates: JSON, base64, public areas, the EK's template and numbers; and an answer. */
#include <assert.h>
#include <stdlib.h>

#include "codec/text.h"
#include "tools/ceremony/ceremony_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_proposal(const struct qm_proposal *p)
{
    struct qm_fault fault = {0};
    struct qm_public public;
    struct qm_name name;
    struct qm_ek ek;
    assert(qm_id_ok((struct qm_span){p->id, p->id_len}) && p->ak_len <= QM_PUBLIC_MAX && p->ek_len <= QM_PUBLIC_MAX);
    assert(p->cert_count <= QM_CHAIN_MAX && p->cert_used <= sizeof p->cert_room);
    if (qm_named_public((struct qm_span){p->ak, p->ak_len}, "AK", &public, &name, &fault) == QM_OK)
        assert(name.len >= 34 && name.len <= QM_NAME_MAX && public.tpmt.len == p->ak_len - 2);
    if (qm_ek_read((struct qm_span){p->ek, p->ek_len}, &ek, &fault) == QM_OK) {
        assert((ek.public.attributes & QM_TPMA_RESTRICTED) != 0 && (ek.public.attributes & QM_TPMA_DECRYPT) != 0);
        assert(ek.key != NULL && ek.public.a.len <= 256);
    }
    qm_ek_close(&ek);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct qm_json *json;
    static struct qm_proposal *p;
    struct qm_challenge_answer a;
    struct qm_fault fault = {0};
    if (json == NULL) {
        p = malloc(sizeof *p);
        if (p == NULL || qm_json_open(&json, &fault) != QM_OK)
            abort();
    }
    char *line = malloc(size + 1); /* not NUL-terminated for the reader: one byte of room keeps malloc(0) away */
    assert(line != NULL);
    if (size != 0)
        memcpy(line, data, size);
    qm_err proposed = qm_proposal_read(json, line, size, p, &fault);
    assert(proposed == QM_OK || proposed == QM_E_REFUSED);
    if (proposed == QM_OK)
        check_proposal(p);
    qm_err answered = qm_challenge_answer_read(json, line, size, &a, &fault);
    assert(answered == QM_OK || answered == QM_E_REFUSED);
    assert(proposed != QM_OK || answered != QM_OK); /* one line is one of them */
    if (answered == QM_OK)
        assert(qm_id_ok((struct qm_span){a.id, a.id_len}));
    free(line);
    return 0;
}
