/* One evidence record (contract, section 1) of what was measured. */
#ifndef QM_EVIDENCE_MAKE_H
#define QM_EVIDENCE_MAKE_H

#include "tools/collect/identity.h"
#include "tools/collect/tpm_quote.h"

#define QM_LOG_DEFAULT "/sys/kernel/security/tpm0/binary_bios_measurements"

/* The extraData of a quote under a beacon: SHA-256("quotemill-beacon-v1" || beacon || id). file: its 64 hex digits, as
 * quotemill beacon show writes them; what follows the first line is left. */
qm_err qm_extra_beacon(const char *file, struct qm_span id, uint8_t extra[32], struct qm_fault *fault) QM_MUST_USE;

/* The record, malloced, as the spool takes it. log: absent where p is NULL. */
qm_err qm_evidence_make(const struct qm_identity *i, const struct qm_measured *m, struct qm_span log, uint64_t now_ms,
                        uint8_t **record, size_t *len, struct qm_fault *fault) QM_MUST_USE;

#endif
