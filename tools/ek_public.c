#include "tools/ek_public.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>

#include "engine/kernel/kernel.h"

qm_err qm_named_public(struct qm_span tpm2b, const char *what, struct qm_public *out, struct qm_name *name, struct qm_fault *fault)
{
    if (tpm2b.len <= 2 || (size_t)(tpm2b.p[0] << 8 | tpm2b.p[1]) != tpm2b.len - 2 || !qm_public_parse(tpm2b, out))
        return qm_fail(fault, QM_E_REFUSED, 0, "the %s is no whole TPM2B_PUBLIC of an RSA or ECC key", what);
    const enum qm_hash hash = qm_hash_of_tpm(out->name_alg);
    if (hash == QM_HASH_NONE || hash == QM_HASH_SHA1)
        return qm_fail(fault, QM_E_REFUSED, 0, "the %s's Name is made with a hash other than SHA-256, SHA-384 or SHA-512", what);
    name->bytes[0] = (uint8_t)(out->name_alg >> 8);
    name->bytes[1] = (uint8_t)(out->name_alg & 0xff);
    qm_hash_one(hash, out->tpmt, name->bytes + 2);
    name->len = 2 + qm_hash_size(hash);
    return QM_OK;
}

/* ---- templates ---------------------------------------------------------------------------------------------------------- */

/* Annex B of the profile. PolicyA: PolicySecret with the endorsement hierarchy; PolicyB: that, or what the index 0x01c07f01 (SHA-256),
 * 0x01c07f02 (SHA-384) holds. */
static const uint8_t policy_a_sha256[32] = {0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
                                            0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa};
static const uint8_t policy_b_sha256[32] = {0xca, 0x3d, 0x0a, 0x99, 0xa2, 0xb9, 0x39, 0x06, 0xf7, 0xa3, 0x34, 0x24, 0x14, 0xef, 0xcf, 0xb3,
                                            0xa3, 0x85, 0xd4, 0x4c, 0xd1, 0xfd, 0x45, 0x90, 0x89, 0xd1, 0x9b, 0x50, 0x71, 0xc0, 0xb7, 0xa0};
static const uint8_t policy_b_sha384[48] = {0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc, 0xf5, 0xfd, 0x3a, 0x1a,
                                            0x07, 0x41, 0x48, 0xbb, 0x35, 0xd3, 0xb4, 0xe4, 0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca,
                                            0xcb, 0x47, 0xba, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12};

enum {
    LOW_ATTRIBUTES = QM_TPMA_FIXED_TPM | QM_TPMA_FIXED_PARENT | QM_TPMA_SENSITIVE_DATA_ORIGIN | QM_TPMA_ADMIN_WITH_POLICY |
                     QM_TPMA_RESTRICTED | QM_TPMA_DECRYPT,
    HIGH_ATTRIBUTES = LOW_ATTRIBUTES | QM_TPMA_USER_WITH_AUTH,
};

static const struct template {
    const char *name;
    uint16_t type, name_alg, symmetric_bits, rsa_bits, curve;
    uint32_t attributes;
    struct qm_span policy;
} templates[] = {
    {"L-1", QM_TPM_ALG_RSA, QM_TPM_ALG_SHA256, 128, 2048, 0, LOW_ATTRIBUTES, {policy_a_sha256, sizeof policy_a_sha256}},
    {"L-2", QM_TPM_ALG_ECC, QM_TPM_ALG_SHA256, 128, 0, QM_TPM_ECC_NIST_P256, LOW_ATTRIBUTES, {policy_a_sha256, sizeof policy_a_sha256}},
    {"H-1", QM_TPM_ALG_RSA, QM_TPM_ALG_SHA256, 128, 2048, 0, HIGH_ATTRIBUTES, {policy_b_sha256, sizeof policy_b_sha256}},
    {"H-2", QM_TPM_ALG_ECC, QM_TPM_ALG_SHA256, 128, 0, QM_TPM_ECC_NIST_P256, HIGH_ATTRIBUTES, {policy_b_sha256, sizeof policy_b_sha256}},
    {"H-3", QM_TPM_ALG_ECC, QM_TPM_ALG_SHA384, 256, 0, QM_TPM_ECC_NIST_P384, HIGH_ATTRIBUTES, {policy_b_sha384, sizeof policy_b_sha384}},
};

/* Is p the template but for its unique part? */
static bool is_template(const struct qm_public *p, const struct template *t)
{
    const bool rsa = t->type == QM_TPM_ALG_RSA;
    return p->type == t->type && p->name_alg == t->name_alg && p->attributes == t->attributes && qm_span_eq(p->policy, t->policy) &&
           p->symmetric == QM_TPM_ALG_AES && p->symmetric_bits == t->symmetric_bits && p->symmetric_mode == QM_TPM_ALG_CFB &&
           p->scheme == QM_TPM_ALG_NULL &&
           (rsa ? p->rsa_bits == t->rsa_bits && (p->rsa_exponent == 0 || p->rsa_exponent == 65537)
                : p->ecc_curve == t->curve && p->kdf == QM_TPM_ALG_NULL);
}

/* What a person is told first: what makes it no EK at all. */
static const char *template_fault(const struct qm_public *p)
{
    static const struct {
        uint32_t bit;
        const char *why;
    } needed[] = {
        {QM_TPMA_FIXED_TPM, "the EK is not fixedTPM"},
        {QM_TPMA_FIXED_PARENT, "the EK is not fixedParent"},
        {QM_TPMA_SENSITIVE_DATA_ORIGIN, "the EK is not sensitiveDataOrigin: it was made outside the TPM"},
        {QM_TPMA_RESTRICTED, "the EK is not restricted: it decrypts anything for anybody"},
        {QM_TPMA_DECRYPT, "the EK is no decryption key"},
    };
    for (size_t i = 0; i < QM_COUNT(needed); i++)
        if ((p->attributes & needed[i].bit) == 0)
            return needed[i].why;
    if ((p->attributes & QM_TPMA_SIGN) != 0)
        return "the EK may sign";
    return "the EK is none of the templates L-1, L-2, H-1, H-2, H-3 of the EK Credential Profile";
}

/* ---- as OpenSSL has it --------------------------------------------------------------------------------------------------- */

static EVP_PKEY *from_params(const char *type, OSSL_PARAM *params)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *c = params != NULL ? EVP_PKEY_CTX_new_from_name(NULL, type, NULL) : NULL;
    if (c == NULL || EVP_PKEY_fromdata_init(c) != 1 || EVP_PKEY_fromdata(c, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(c);
    return key;
}

static EVP_PKEY *rsa_key(const struct qm_public *p)
{
    BIGNUM *n = BN_bin2bn(p->a.p, (int)p->a.len, NULL), *e = BN_new();
    OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
    OSSL_PARAM *params = NULL;
    if (n != NULL && e != NULL && b != NULL && BN_set_word(e, p->rsa_exponent == 0 ? 65537 : p->rsa_exponent) == 1 &&
        OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_N, n) == 1 && OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_E, e) == 1)
        params = OSSL_PARAM_BLD_to_param(b);
    EVP_PKEY *key = from_params("RSA", params);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(b);
    BN_free(e);
    BN_free(n);
    return key;
}

/* NULL too where the point is not on the curve. */
static EVP_PKEY *ecc_key(const struct qm_public *p, unsigned coordinate_bytes)
{
    uint8_t point[1 + 2 * 48] = {4}; /* uncompressed (SEC 1, 2.3.3) */
    if (p->a.len > coordinate_bytes || p->b.len > coordinate_bytes || p->a.len == 0 || p->b.len == 0)
        return NULL;
    memcpy(point + 1 + coordinate_bytes - p->a.len, p->a.p, p->a.len);
    memcpy(point + 1 + 2 * coordinate_bytes - p->b.len, p->b.p, p->b.len);
    const char *group = coordinate_bytes == 32 ? "prime256v1" : "secp384r1";
    OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
    OSSL_PARAM *params = NULL;
    if (b != NULL && OSSL_PARAM_BLD_push_utf8_string(b, OSSL_PKEY_PARAM_GROUP_NAME, group, 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(b, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * coordinate_bytes) == 1)
        params = OSSL_PARAM_BLD_to_param(b);
    EVP_PKEY *key = from_params("EC", params);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(b);
    return key;
}

qm_err qm_key_fingerprint(EVP_PKEY *key, uint8_t fingerprint[QM_EK_FINGERPRINT_SIZE], struct qm_fault *fault)
{
    unsigned char *der = NULL;
    const int len = i2d_PUBKEY(key, &der);
    if (len <= 0) {
        ERR_clear_error();
        return qm_fail(fault, QM_E_CRYPTO, 0, "a public key cannot be written as DER");
    }
    qm_hash_one(QM_HASH_SHA256, (struct qm_span){der, (size_t)len}, fingerprint);
    OPENSSL_free(der);
    return QM_OK;
}

qm_err qm_ek_read(struct qm_span tpm2b, struct qm_ek *out, struct qm_fault *fault)
{
    *out = (struct qm_ek){0};
    const struct qm_public *p = &out->public;
    qm_err err = qm_named_public(tpm2b, "EK", &out->public, &out->name, fault);
    if (err != QM_OK)
        return err;
    const struct template *t = templates;
    while (t < templates + QM_COUNT(templates) && !is_template(p, t))
        t++;
    if (t == templates + QM_COUNT(templates))
        return qm_fail(fault, QM_E_REFUSED, 0, "%s", template_fault(p));
    out->template = t->name;
    out->hash = qm_hash_of_tpm(t->name_alg);
    out->symmetric_bits = t->symmetric_bits;
    out->coordinate_bytes = t->type == QM_TPM_ALG_RSA ? 0 : t->curve == QM_TPM_ECC_NIST_P256 ? 32 : 48;
    if (t->type == QM_TPM_ALG_RSA && (p->a.len != t->rsa_bits / 8u || (p->a.p[0] & 0x80) == 0 || (p->a.p[p->a.len - 1] & 1) == 0))
        return qm_fail(fault, QM_E_REFUSED, 0, "the EK's modulus is not as long as its key size, or even");
    out->key = t->type == QM_TPM_ALG_RSA ? rsa_key(p) : ecc_key(p, out->coordinate_bytes);
    ERR_clear_error();
    if (out->key == NULL)
        return qm_fail(fault, QM_E_REFUSED, 0, "the EK's numbers are no %s", t->type == QM_TPM_ALG_RSA ? "RSA key" : "point of its curve");
    return qm_key_fingerprint(out->key, out->fingerprint, fault);
}

void qm_ek_close(struct qm_ek *ek)
{
    EVP_PKEY_free(ek->key);
    ek->key = NULL;
}
