#include "tools/ceremony/answer.h"

#include <openssl/err.h>
#include <openssl/evp.h>

qm_err qm_answer_proof(const uint8_t credential[QM_CREDENTIAL_SIZE], const uint8_t challenge[QM_CHALLENGE_SIZE], struct qm_span id,
                       uint8_t proof[QM_PROOF_SIZE], struct qm_fault *fault)
{
    static const char label[] = "quotemill-answer-v1";
    uint8_t text[sizeof label - 1 + QM_CHALLENGE_SIZE + QM_ID_MAX];
    size_t len = sizeof label - 1, proof_len = 0;
    if (id.len > QM_ID_MAX)
        return qm_fail(fault, QM_E_LIMIT, 0, "the id is longer than %d bytes", QM_ID_MAX);
    memcpy(text, label, len);
    memcpy(text + len, challenge, QM_CHALLENGE_SIZE);
    len += QM_CHALLENGE_SIZE;
    memcpy(text + len, id.p, id.len);
    len += id.len;
    if (EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, credential, QM_CREDENTIAL_SIZE, text, len, proof, QM_PROOF_SIZE, &proof_len) != NULL &&
        proof_len == QM_PROOF_SIZE)
        return QM_OK;
    ERR_clear_error();
    return qm_fail(fault, QM_E_CRYPTO, 0, "HMAC-SHA256 failed");
}
