/* Public areas as the enrolment ceremony needs them: the Name of a key, and whether a key is an endorsement key (EK) as the TCG EK
 * Credential Profile for TPM 2.0 fixes it. */
#ifndef QM_EK_PUBLIC_H
#define QM_EK_PUBLIC_H

#include "codec/error.h"
#include "codec/tpm2.h"

struct evp_pkey_st; /* EVP_PKEY of OpenSSL */

enum { QM_NAME_MAX = 2 + QM_DIGEST_MAX, QM_EK_FINGERPRINT_SIZE = 32 };

/* A TPM Name (Library part 1, section 16): the algorithm's number, then the hash over the TPMT_PUBLIC. */
struct qm_name {
    uint8_t bytes[QM_NAME_MAX];
    size_t len;
};

/* Parses a TPM2B_PUBLIC, its size in front included, and works out its Name. what: "AK", "EK", for the reason. QM_E_REFUSED. */
qm_err qm_named_public(struct qm_span tpm2b, const char *what, struct qm_public *out, struct qm_name *name, struct qm_fault *fault)
    QM_MUST_USE;

/* An endorsement key that passed qm_ek_read. */
struct qm_ek {
    const char *template; /* "L-1": static text */
    struct qm_public public; /* points into what was read */
    struct qm_name name;
    enum qm_hash hash;         /* nameAlg; the hash of everything that a credential is wrapped with */
    unsigned symmetric_bits;   /* AES in CFB mode */
    unsigned coordinate_bytes; /* ECC; 0: RSA */
    struct evp_pkey_st *key;
    uint8_t fingerprint[QM_EK_FINGERPRINT_SIZE]; /* SHA-256 over the SubjectPublicKeyInfo in DER */
};

/* Takes a TPM2B_PUBLIC that is one of the profile's templates L-1, L-2, H-1, H-2, H-3: algorithms, sizes, attributes and policy, all as
 * there. What passes is a key that decrypts nothing but what the TPM checks. QM_E_REFUSED with the reason; close frees the key. */
qm_err qm_ek_read(struct qm_span tpm2b, struct qm_ek *out, struct qm_fault *fault) QM_MUST_USE;
void qm_ek_close(struct qm_ek *ek); /* of a zeroed one: nothing */

/* The fingerprint of any public key. QM_E_CRYPTO. */
qm_err qm_key_fingerprint(struct evp_pkey_st *key, uint8_t fingerprint[QM_EK_FINGERPRINT_SIZE], struct qm_fault *fault) QM_MUST_USE;

#endif
