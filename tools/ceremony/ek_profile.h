/* The endorsement keys of TCG's EK Credential Profile for TPM 2.0 (annex B, templates; 2.2.1.4 and 2.2.1.5, NV indices): what the home
 * takes for one, and what the machine's side makes. */
#ifndef QM_EK_PROFILE_H
#define QM_EK_PROFILE_H

#include "codec/tpm2.h"

struct qm_ek_template {
    const char *name; /* "L-1" */
    uint16_t type, name_alg, symmetric_bits, rsa_bits, curve; /* symmetric: AES in CFB mode; scheme and KDF: null */
    uint32_t attributes;
    struct qm_span policy;
    uint32_t nv_cert, nv_nonce, nv_template; /* indices; nonce 0: none */
};

enum { QM_EK_TEMPLATE_COUNT = 5 };
extern const struct qm_ek_template qm_ek_templates[QM_EK_TEMPLATE_COUNT];

#endif
