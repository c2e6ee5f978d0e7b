/* TPM2_MakeCredential in software (TPM 2.0 Library part 1, section 24): wraps a secret so that only the TPM that holds the EK unwraps
 * it, and only for an object with the given Name that is loaded there. */
#ifndef QM_CREDENTIAL_H
#define QM_CREDENTIAL_H

#include "tools/ceremony/answer.h"
#include "tools/ceremony/ek_public.h"

enum {
    QM_ID_OBJECT_MAX = 2 + 2 + QM_DIGEST_MAX + 2 + QM_CREDENTIAL_SIZE, /* TPM2B_ID_OBJECT: an HMAC, the wrapped TPM2B_DIGEST */
    QM_SECRET_MAX = 2 + 256,                                           /* TPM2B_ENCRYPTED_SECRET: RSA 2048, or a point of P-384 */
};
struct qm_wrapped {
    uint8_t blob[QM_ID_OBJECT_MAX];
    size_t blob_len;
    uint8_t secret[QM_SECRET_MAX];
    size_t secret_len;
};

/* A fresh seed is drawn each time, so the same credential never looks the same. QM_E_CRYPTO: OpenSSL failed. */
qm_err qm_credential_make(const struct qm_ek *ek, const struct qm_name *name, const uint8_t credential[QM_CREDENTIAL_SIZE],
                          struct qm_wrapped *out, struct qm_fault *fault) QM_MUST_USE;

/* Its second half, for a seed that is known: the blob alone. seed: as many bytes as the EK's hash has. */
qm_err qm_credential_seal(enum qm_hash hash, unsigned symmetric_bits, const uint8_t *seed, const struct qm_name *name,
                          const uint8_t credential[QM_CREDENTIAL_SIZE], struct qm_wrapped *out, struct qm_fault *fault) QM_MUST_USE;

/* KDFe (part 1, 11.4.10.3; SP 800-56A) as far as one digest goes: hash(1 || z || label with its NUL || u || v). */
void qm_kdf_e(enum qm_hash hash, struct qm_span z, const char *label, struct qm_span u, struct qm_span v, uint8_t *out);

/* Random bytes that nobody can foresee. QM_E_CRYPTO. */
qm_err qm_random(uint8_t *to, size_t len, struct qm_fault *fault) QM_MUST_USE;
/* Overwrites a secret that is no longer needed, which no compiler leaves out. */
void qm_forget(void *secret, size_t len);

#endif
