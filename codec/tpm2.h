/* TPM 2.0 structures that a quote is made of (TPM 2.0 Library, part 2). Parsing only: no allocation, no policy. All spans
 * point into the bytes that were parsed. */
#ifndef QM_TPM2_H
#define QM_TPM2_H

#include "codec/base.h"

/* TPM_ALG_ID, part 2, table 9 (those that matter here). */
enum {
    QM_TPM_ALG_RSA = 0x0001,
    QM_TPM_ALG_SHA1 = 0x0004,
    QM_TPM_ALG_AES = 0x0006,
    QM_TPM_ALG_SHA256 = 0x000b,
    QM_TPM_ALG_SHA384 = 0x000c,
    QM_TPM_ALG_SHA512 = 0x000d,
    QM_TPM_ALG_NULL = 0x0010,
    QM_TPM_ALG_SM3_256 = 0x0012,
    QM_TPM_ALG_RSASSA = 0x0014,
    QM_TPM_ALG_RSAES = 0x0015,
    QM_TPM_ALG_RSAPSS = 0x0016,
    QM_TPM_ALG_OAEP = 0x0017,
    QM_TPM_ALG_ECDSA = 0x0018,
    QM_TPM_ALG_ECDAA = 0x001a,
    QM_TPM_ALG_ECC = 0x0023,
    QM_TPM_ALG_CFB = 0x0043,
    QM_TPM_ECC_NIST_P256 = 0x0003,
    QM_TPM_ECC_NIST_P384 = 0x0004,
};
#define QM_TPM_GENERATED_VALUE 0xff544347u /* TPM_GENERATED, part 2, 6.2 */
#define QM_TPM_ST_ATTEST_QUOTE 0x8018u     /* TPM_ST, part 2, 6.9 */

/* Hash algorithms, as small numbers. QM_HASH_NONE is zero so that a zeroed structure names none. */
enum qm_hash { QM_HASH_NONE, QM_HASH_SHA1, QM_HASH_SHA256, QM_HASH_SHA384, QM_HASH_SHA512, QM_HASH_COUNT };

enum qm_hash qm_hash_of_tpm(uint16_t tpm_alg); /* QM_HASH_NONE if unknown */
uint16_t qm_hash_to_tpm(enum qm_hash hash);
size_t qm_hash_size(enum qm_hash hash); /* bytes; 0 for QM_HASH_NONE */
const char *qm_hash_name(enum qm_hash hash);                   /* "sha256" */
enum qm_hash qm_hash_of_name(const char *name, size_t len);    /* QM_HASH_NONE if unknown */

/* One TPMS_PCR_SELECTION: bit i of mask is PCR i. */
struct qm_selection {
    uint16_t tpm_alg;
    uint32_t mask;
};

/* TPMS_ATTEST of type TPM_ST_ATTEST_QUOTE (part 2, 10.12.8 and 10.12.12). */
struct qm_attest {
    struct qm_span signer;     /* qualifiedSigner, a TPM Name */
    struct qm_span extra;      /* extraData: the nonce */
    struct qm_span pcr_digest; /* over the selected PCRs' values */
    uint64_t clock_ms;
    uint64_t firmware;
    uint32_t reset;
    uint32_t restart;
    uint8_t safe; /* TPMI_YES_NO */
    uint8_t selection_count;
    struct qm_selection selection[QM_SELECTION_MAX];
};

/* False: not a quote. Magic, type, at most 16 selections, no bank twice, sizeofSelect at most 4, consumed exactly. */
bool qm_attest_parse(struct qm_span bytes, struct qm_attest *out);

/* TPMT_SIGNATURE (part 2, 11.3.4). RSA: a is the signature. ECDSA: a is r, b is s, as they came (leading zeros and all). */
struct qm_signature {
    uint16_t tpm_alg;
    uint16_t tpm_hash;
    struct qm_span a;
    struct qm_span b;
};

/* False: cut short, left over bytes, or an algorithm other than RSASSA, RSAPSS, ECDSA. */
bool qm_signature_parse(struct qm_span bytes, struct qm_signature *out);

/* TPMT_PUBLIC of an RSA or ECC key (part 2, 12.2.4). */
enum {
    QM_TPMA_FIXED_TPM = 1u << 1,
    QM_TPMA_FIXED_PARENT = 1u << 4,
    QM_TPMA_SENSITIVE_DATA_ORIGIN = 1u << 5,
    QM_TPMA_USER_WITH_AUTH = 1u << 6,
    QM_TPMA_ADMIN_WITH_POLICY = 1u << 7,
    QM_TPMA_RESTRICTED = 1u << 16,
    QM_TPMA_DECRYPT = 1u << 17,
    QM_TPMA_SIGN = 1u << 18,
};
struct qm_public {
    struct qm_span tpmt; /* all of it, without a size in front: what the Name is made of */
    uint16_t type;       /* QM_TPM_ALG_RSA or QM_TPM_ALG_ECC */
    uint16_t name_alg;
    uint32_t attributes;
    struct qm_span policy; /* authPolicy */
    uint16_t symmetric;    /* of a storage key: how it wraps; QM_TPM_ALG_NULL, then bits and mode are 0 */
    uint16_t symmetric_bits, symmetric_mode;
    uint16_t scheme;      /* QM_TPM_ALG_NULL where the key has none of its own */
    uint16_t scheme_hash; /* 0 where the scheme has none */
    uint16_t rsa_bits;
    uint32_t rsa_exponent; /* as it came: 0 means 65537 */
    uint16_t ecc_curve;
    uint16_t kdf; /* ECC: QM_TPM_ALG_NULL where the key has none */
    struct qm_span a; /* RSA: modulus. ECC: x */
    struct qm_span b; /* ECC: y */
};

/* Takes a TPM2B_PUBLIC or a TPMT_PUBLIC, told apart by the size in front. False: neither, cut short, or bytes left over. */
bool qm_public_parse(struct qm_span bytes, struct qm_public *out);

#endif
