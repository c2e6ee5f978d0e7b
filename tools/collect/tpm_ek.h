/* Endorsement keys and their certificates (TCG EK Credential Profile for TPM Family 2.0, version 2.5): which TPM this is, by
 * word of its maker. */
#ifndef QM_TPM_EK_H
#define QM_TPM_EK_H

#include "tools/collect/tpm_key.h"
#include "tools/collect/tpm_nv.h"

/* The profile's templates, in the order in which a certificate is looked for. */
extern const char *const qm_ek_kinds[]; /* "rsa2048", "p256", "rsa2048-high", "p256-high", "p384-high"; NULL-terminated */

struct qm_tpm_ek {
    struct qm_blob public;    /* TPM2B_PUBLIC; len 0: none */
    struct qm_blob template;  /* what makes it */
    struct qm_nv_certs certs; /* the EK's own first, then what the TPM holds of its chain */
};

/* Finds certificate and key. kind NULL: the first that has a certificate, else the first that the TPM can make. note
 * gets what a person should know, one line, else "". A TPM without an EK gives public.len 0. */
qm_err qm_ek_find(struct qm_tpm *t, const char *kind, struct qm_tpm_ek *out, char note[256],
                  struct qm_fault *fault) QM_MUST_USE;

/* TPM2_ActivateCredential (Library part 3, 12.5) with the AK and the EK: credential is the secret that the challenge carries,
 * for the caller to wipe. QM_E_REFUSED: the challenge was made for another EK or AK, or altered. blob: TPM2B_ID_OBJECT, secret:
 * TPM2B_ENCRYPTED_SECRET. */
qm_err qm_credential_open(struct qm_tpm *t, const struct qm_tpm_key *ak, const struct qm_tpm_ek *ek, struct qm_span blob,
                          struct qm_span secret, uint8_t credential[64], size_t *len, struct qm_fault *fault) QM_MUST_USE;

#endif
