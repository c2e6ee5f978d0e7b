/* Keys of the TPM: attestation keys that the collector makes or takes over, and the endorsement keys that say whose TPM it is.
 *
 * Which hierarchy. An AK that is not in the endorsement or platform hierarchy has its quotes' resetCount, restartCount and
 * firmwareVersion hidden behind a number that only the TPM knows (Library part 1, 36.7): reboots still count one by one, but
 * the firmware's version says nothing, and two keys of one machine disagree. So the endorsement hierarchy is the default.
 *
 * Which parent. An AK that is kept in the TPM is a primary key with a template of its own (32 random bytes in unique): no
 * parent, no session, made again from the template when the persistent handle was lost or TPM2_Clear was called, as long as the
 * seed is the same. The EK as a parent would ask for a policy session at each load, and its children do not survive TPM2_Clear;
 * it proves nothing more, since TPM2_ActivateCredential binds AK and EK wherever the AK lies. An AK in a file is the child of a
 * P-256 storage key that is made when it is needed, which takes a TPM less time than loading an RSA one. */
#ifndef QM_TPM_KEY_H
#define QM_TPM_KEY_H

#include "codec/tpm2.h"
#include "tools/collect/tpm_link.h"

enum { QM_TPM2B_MAX = 1024, QM_WRAPPED_MAX = 2048 }; /* bytes */

/* Bytes as the TPM writes them: TPM2B_PUBLIC, or a certificate in DER. */
struct qm_blob {
    size_t len;
    uint8_t p[QM_TPM2B_MAX];
};

/* "rsa2048", "rsapss2048", "p256", "p384"; NULL-terminated. */
extern const char *const qm_ak_kinds[];
const char *qm_ak_kind_scheme(const char *kind); /* "rsassa-sha256" */

/* What signs: loaded, to be closed. handle 0: it is transient. */
struct qm_tpm_key {
    uint32_t object; /* of ESYS */
    uint32_t handle; /* persistent */
    struct qm_blob public;
};
void qm_tpm_key_close(struct qm_tpm *t, struct qm_tpm_key *k);

/* A template with a new unique. QM_E_IO: no random bytes. */
qm_err qm_ak_template(const char *kind, struct qm_blob *template, struct qm_fault *fault) QM_MUST_USE;
/* The template of an NV index (TPMT_PUBLIC, or TPM2B_PUBLIC), as platforms leave it for their AK. */
qm_err qm_ak_template_nv(struct qm_tpm *t, uint32_t index, struct qm_blob *template, struct qm_fault *fault) QM_MUST_USE;
/* Makes the primary key that the template stands for: the same one each time, while the hierarchy's seed is the same. */
qm_err qm_primary_make(struct qm_tpm *t, enum qm_hierarchy where, const struct qm_blob *template, struct qm_tpm_key *out,
                       struct qm_fault *fault) QM_MUST_USE;
/* A handle for it that is free; 0 for a hint: one is found. */
qm_err qm_handle_free(struct qm_tpm *t, uint32_t wanted, uint32_t *handle, struct qm_fault *fault) QM_MUST_USE;
qm_err qm_key_persist(struct qm_tpm *t, struct qm_tpm_key *k, uint32_t handle, struct qm_fault *fault) QM_MUST_USE;
/* Gives the handle back. */
qm_err qm_key_evict(struct qm_tpm *t, struct qm_tpm_key *k, struct qm_fault *fault) QM_MUST_USE;
/* *there false, and QM_OK: nothing has that handle. */
qm_err qm_key_open(struct qm_tpm *t, uint32_t handle, struct qm_tpm_key *out, bool *there, struct qm_fault *fault) QM_MUST_USE;

/* A key of the given kind that the TPM wraps: TPM2B_PUBLIC, then TPM2B_PRIVATE. */
qm_err qm_key_wrap(struct qm_tpm *t, enum qm_hierarchy where, const char *kind, uint8_t wrapped[QM_WRAPPED_MAX], size_t *len,
                   struct qm_fault *fault) QM_MUST_USE;
qm_err qm_key_unwrap(struct qm_tpm *t, enum qm_hierarchy where, struct qm_span wrapped, struct qm_tpm_key *out,
                     struct qm_fault *fault) QM_MUST_USE;

/* "rsassa-sha256"; NULL: a key that cannot be enrolled, *why says the reason. public: TPM2B_PUBLIC. */
const char *qm_ak_scheme(struct qm_span public, const char **why);
/* The TPM Name (Library part 1, 16) of a TPM2B_PUBLIC: nameAlg, then the hash. Gives its length, 0 where the bytes are no
 * public area. */
size_t qm_tpm_name(struct qm_span public, uint8_t name[2 + QM_DIGEST_MAX]);

#endif
