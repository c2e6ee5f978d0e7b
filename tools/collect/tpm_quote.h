/* PCR values and a quote that belong together (Library part 3, 18.4 and 22.4). */
#ifndef QM_TPM_QUOTE_H
#define QM_TPM_QUOTE_H

#include "codec/tpm2.h"
#include "tools/collect/tpm_key.h"

enum { QM_QUOTE_TRIES = 5, QM_EXTRA_MAX = 64 /* bytes of extraData that every TPM takes */ };

struct qm_measured {
    uint32_t mask;                 /* of the SHA-256 bank */
    uint8_t pcr[QM_PCR_COUNT][32]; /* for the bits of mask; they hash to what the quote signs */
    size_t quote_len, sig_len;
    uint8_t quote[QM_QUOTE_MAX]; /* TPMS_ATTEST */
    uint8_t sig[QM_SIG_MAX];     /* TPMT_SIGNATURE */
    unsigned tries;
};

/* Reads, quotes, compares; again where the PCRs moved meanwhile, QM_QUOTE_TRIES times in all. extra: at most QM_EXTRA_MAX
 * bytes. */
qm_err qm_measure(struct qm_tpm *t, const struct qm_tpm_key *ak, uint32_t mask, struct qm_span extra, struct qm_measured *out,
                  struct qm_fault *fault) QM_MUST_USE;

/* What TPM2_GetCapability says of the TPM's state. */
struct qm_tpm_state {
    char vendor[5], model[9]; /* printable */
    uint64_t firmware;
    bool locked_out;
    bool has_password[QM_HIERARCHY_COUNT];
    uint32_t wrong_auths, wrong_auths_max; /* counted against the lock-out */
    uint32_t bank[QM_HASH_COUNT];          /* PCRs that each bank has */
};
qm_err qm_tpm_look(struct qm_tpm *t, struct qm_tpm_state *out, struct qm_fault *fault) QM_MUST_USE;

#endif
