/* Certificates of the enrolment ceremony: chains up to certificates that the operator gave, and what a leaf must be to stand for an
 * endorsement key (TCG EK Credential Profile for TPM 2.0, section 3.2) or an attestation key. Together with ek_public.c, credential.c
 * and ak_read.c all that is done with X.509 and public keys outside the engine.
 *
 * Nothing is fetched. Whether a leaf was revoked is asked of the CRLs that the operator gives, and so is a CA between it and the anchor
 * where there is a list of its issuer; without a CRL it is not asked. */
#ifndef QM_CERT_CHAIN_H
#define QM_CERT_CHAIN_H

#include "tools/ceremony/ek_public.h"

enum {
    QM_CERT_MAX = 8 * 1024,    /* bytes of one that a machine sends */
    QM_CHAIN_MAX = 8,          /* certificates that a machine sends */
    QM_TRUST_FILE_MAX = 4 << 20,
    QM_CERT_NAMES_MAX = 8,
    QM_ANCHOR_SUBJECT_MAX = 512, /* bytes; what is longer is cut */
};

/* What the operator trusts. */
struct qm_trust;
/* now_ms: when the chains are to be valid. QM_E_NOMEM. */
qm_err qm_trust_open(struct qm_trust **out, uint64_t now_ms, struct qm_fault *fault) QM_MUST_USE;
/* Takes the certificates of a file, PEM or one in DER: each, root or not, ends a chain, so each has to be a CA's. QM_E_IO; QM_E_USAGE with
 * the reason. */
qm_err qm_trust_add(struct qm_trust *t, const char *path, struct qm_fault *fault) QM_MUST_USE;
/* Takes the revocation lists of a file, PEM or one in DER. From then on a leaf needs a list of its issuer that is valid now and does not
 * have it. The same errors. */
qm_err qm_trust_add_crl(struct qm_trust *t, const char *path, struct qm_fault *fault) QM_MUST_USE;
void qm_trust_close(struct qm_trust *t);

/* What a leaf calls its subject: the common name, where there is exactly one, and DNS names, as far as they could be ids. */
struct qm_cert_names {
    unsigned count;
    struct qm_cert_name {
        bool dns; /* else the common name */
        uint8_t text[QM_ID_MAX];
        size_t len;
    } name[QM_CERT_NAMES_MAX];
};
bool qm_cert_names_has(const struct qm_cert_names *n, struct qm_span id);

/* The certificate of --ca that a chain ended at: who vouched for its leaf. */
struct qm_anchor {
    bool known;
    uint8_t sha256[32]; /* over the certificate in DER */
    char subject[QM_ANCHOR_SUBJECT_MAX + 1]; /* RFC 2253, whatever is not ASCII escaped */
};

/* chain: certificates in DER, the EK's first. QM_E_REFUSED with the reason. */
qm_err qm_ek_cert_check(struct qm_trust *t, const struct qm_span *chain, unsigned count, const struct qm_ek *ek, struct qm_cert_names *names,
                        struct qm_anchor *anchor, struct qm_fault *fault) QM_MUST_USE;

/* An attestation key by its certificate alone: what its CA says of it is all that is known. */
struct qm_ak_cert {
    char key[2048]; /* PEM SubjectPublicKeyInfo */
    struct qm_cert_names names;
    struct qm_anchor anchor;
};
/* path: PEM, the AK's certificate first, "-": standard input. QM_E_IO; QM_E_REFUSED with the reason. */
qm_err qm_ak_cert_read(struct qm_trust *t, const char *path, struct qm_ak_cert *out, struct qm_fault *fault) QM_MUST_USE;

#endif
