/* The attestation keys of a synthetic fleet: real private keys, as PEM files in DIR/keys, and what
 * a TPM would say of them. Several machines share a key where the pool is smaller than the fleet
 * (machine i has key i mod count). */
#ifndef QM_GEN_KEYS_H
#define QM_GEN_KEYS_H

#include "codec/base.h"
#include "codec/error.h"
#include "codec/text.h"
#include "codec/tpm2.h"
#include "tools/gen/gen_log.h"

enum qm_gen_key_kind {
    QM_GEN_RSA2048,
    QM_GEN_RSAPSS2048,
    QM_GEN_P256,
    QM_GEN_P384,
    QM_GEN_KEY_KINDS
};

enum { QM_GEN_NAME_LEN = 34, QM_GEN_PUBLIC_MAX = 384 };

struct qm_gen_key {
    struct evp_pkey_st *pkey;
    enum qm_gen_key_kind kind;
    uint8_t name[QM_GEN_NAME_LEN]; /* TPM Name: nameAlg and the digest of the TPMT_PUBLIC (Library
                                      part 1, 16) */
    uint8_t public[QM_GEN_PUBLIC_MAX]; /* TPM2B_PUBLIC */
    size_t public_len;
};

struct qm_gen_keys {
    struct qm_gen_key *key;
    size_t count;
};

/* The hash of a kind's signing scheme, by which PCRs are digested too. */
enum qm_hash qm_gen_key_hash(enum qm_gen_key_kind kind);

/* Makes count keys on that many threads and writes them below dir_fd, an open directory; kinds[i %
 * kind_count] is key i's. Files are readable by their owner only. */
qm_err qm_gen_keys_make(struct qm_gen_keys *keys, size_t count, const enum qm_gen_key_kind *kinds,
                        size_t kind_count, int dir_fd, unsigned threads,
                        struct qm_fault *fault) QM_MUST_USE;
/* Reads them back. A file that is missing or holds another kind of key is QM_E_FORMAT or QM_E_IO.
 */
qm_err qm_gen_keys_load(struct qm_gen_keys *keys, size_t count, const enum qm_gen_key_kind *kinds,
                        size_t kind_count, int dir_fd, unsigned threads,
                        struct qm_fault *fault) QM_MUST_USE;
void qm_gen_keys_free(struct qm_gen_keys *keys);

/* One thread's signing contexts, a key each, made at its first use. */
struct qm_gen_signer {
    const struct qm_gen_keys *keys;
    struct evp_pkey_ctx_st **ctx;
};
qm_err qm_gen_signer_open(struct qm_gen_signer *s, const struct qm_gen_keys *keys,
                          struct qm_fault *fault) QM_MUST_USE;
void qm_gen_signer_close(struct qm_gen_signer *s);
/* Signs message and appends a TPMT_SIGNATURE (Library part 2, 11.3.4). */
qm_err qm_gen_sign(struct qm_gen_signer *s, struct qm_gen_hasher *h, size_t key,
                   const uint8_t *message, size_t len, struct qm_out *out,
                   struct qm_fault *fault) QM_MUST_USE;

#endif
