#include "tools/ceremony/ek_public.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>

#include "engine/kernel/kernel.h"
#include "tools/ceremony/ek_profile.h"

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

/* Is p the template but for its unique part? */
static bool is_template(const struct qm_public *p, const struct qm_ek_template *t)
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
    const struct qm_ek_template *t = qm_ek_templates;
    while (t < qm_ek_templates + QM_EK_TEMPLATE_COUNT && !is_template(p, t))
        t++;
    if (t == qm_ek_templates + QM_EK_TEMPLATE_COUNT)
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
