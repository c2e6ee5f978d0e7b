/* The answer to a challenge of the enrolment ceremony, as both sides make it: the machine from the credential that its TPM gave it,
 * the home from the one that it put into the challenge. */
#ifndef QM_ANSWER_H
#define QM_ANSWER_H

#include "codec/error.h"

enum { QM_CREDENTIAL_SIZE = 32, QM_CHALLENGE_SIZE = 16, QM_PROOF_SIZE = 32 }; /* bytes */

/* HMAC-SHA256 (RFC 2104) with the credential as its key over "quotemill-answer-v1" || challenge || id. The id, at most QM_ID_MAX
 * bytes, comes last, so no separator is needed. The credential is a secret, the proof is none. QM_E_CRYPTO: OpenSSL failed. */
qm_err qm_answer_proof(const uint8_t credential[QM_CREDENTIAL_SIZE], const uint8_t challenge[QM_CHALLENGE_SIZE], struct qm_span id,
                       uint8_t proof[QM_PROOF_SIZE], struct qm_fault *fault) QM_MUST_USE;

#endif
