/* What the TPM keeps for others to read: NV indices (Library part 3, 31). */
#ifndef QM_TPM_NV_H
#define QM_TPM_NV_H

#include "tools/collect/tpm_link.h"

/* Reads all of an index. *there false, and QM_OK: the TPM has none of that number. QM_E_LIMIT: it holds more than cap bytes. */
qm_err qm_nv_read(struct qm_tpm *t, uint32_t index, uint8_t *to, size_t cap, size_t *len, bool *there,
                  struct qm_fault *fault) QM_MUST_USE;
/* The indices from first to last that there are, ascending, at most cap. */
qm_err qm_nv_list(struct qm_tpm *t, uint32_t first, uint32_t last, uint32_t *to, size_t cap, size_t *count,
                  struct qm_fault *fault) QM_MUST_USE;

/* Certificates, in DER, as they come out of an index. */
enum { QM_NV_CERT_MAX = 4096, QM_NV_CERTS_MAX = 8 }; /* bytes; a count */
struct qm_nv_certs {
    size_t count;
    struct qm_nv_cert {
        size_t len;
        uint8_t p[QM_NV_CERT_MAX];
    } cert[QM_NV_CERTS_MAX];
};
/* Adds those that bytes begin with, one behind the other; an index is often longer than what is in it. */
void qm_nv_certs_take(struct qm_nv_certs *to, struct qm_span bytes);

#endif
