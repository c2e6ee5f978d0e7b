/* The oracle: a signature checked through EVP, with a key and contexts made for the call. It shares
 * no arithmetic, no padding check and no cache with the kernels; that is its worth, and why it is
 * slow (some 50 us for RSA-2048, most of it the key). */
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>

#include "engine/kernel/kernel.h"

enum { EC_SIZE_MAX = 48, DER_MAX = 8 + 2 * (EC_SIZE_MAX + 1) };

/* NULL for SHA-1 too, which signs nothing here (contract, section 2). */
static const char *hash_name(uint8_t hash)
{
    static const char *const names[QM_HASH_COUNT] = {
        [QM_HASH_SHA256] = "SHA256",
        [QM_HASH_SHA384] = "SHA384",
        [QM_HASH_SHA512] = "SHA512",
    };
    return hash < QM_HASH_COUNT ? names[hash] : NULL;
}

static EVP_PKEY *key_from(const char *type, OSSL_PARAM_BLD *build)
{
    EVP_PKEY *key = NULL;
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (params == NULL || ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    return key;
}

static EVP_PKEY *rsa_key(const struct qm_key *key)
{
    uint64_t exponent = (uint64_t)key->exponent_high << 32 | key->exponent;
    BIGNUM *n = BN_lebin2bn((const uint8_t *)key->limbs, (key->bits + 63) / 64 * 8, NULL);
    BIGNUM *e = BN_lebin2bn((const uint8_t *)&exponent, sizeof exponent, NULL);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY *pkey = NULL;
    if (n != NULL && e != NULL && build != NULL &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e))
        pkey = key_from("RSA", build);
    OSSL_PARAM_BLD_free(build);
    BN_free(e);
    BN_free(n);
    return pkey;
}

static EVP_PKEY *ec_key(const struct qm_key *key, size_t size)
{
    uint8_t point[1 + 2 * EC_SIZE_MAX];
    const uint8_t *limbs = (const uint8_t *)key->limbs;
    point[0] = 0x04; /* uncompressed (SEC 1, 2.3.3) */
    for (size_t i = 0; i < size; i++) {
        point[1 + i] = limbs[size - 1 - i];
        point[1 + size + i] = limbs[2 * size - 1 - i];
    }
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY *pkey = NULL;
    if (build != NULL &&
        OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME,
                                        size == 32 ? "P-256" : "P-384", 0) &&
        OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * size))
        pkey = key_from("EC", build);
    OSSL_PARAM_BLD_free(build);
    return pkey;
}

/* r || s as DER, which is what EVP reads. The length, 0 if OpenSSL failed. */
static size_t der_signature(const uint8_t *sig, size_t size, uint8_t der[DER_MAX])
{
    ECDSA_SIG *pair = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(sig, (int)size, NULL);
    BIGNUM *s = BN_bin2bn(sig + size, (int)size, NULL);
    int len = 0;
    if (pair != NULL && r != NULL && s != NULL && ECDSA_SIG_set0(pair, r, s) == 1) {
        r = s = NULL; /* pair's now */
        len = i2d_ECDSA_SIG(pair, &der);
    }
    BN_free(s);
    BN_free(r);
    ECDSA_SIG_free(pair);
    return len > 0 ? (size_t)len : 0;
}

/* salt_len is used with PSS only. 1: valid, 0: not, less: OpenSSL failed. */
static int ask(EVP_PKEY *pkey, const struct qm_sig_job *job, const uint8_t *sig, size_t sig_len,
               int salt_len)
{
    const EVP_MD *md = EVP_get_digestbyname(hash_name(job->hash));
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
    int padding = job->scheme == QM_SCHEME_RSAPSS ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING;
    bool ready =
        md != NULL && ctx != NULL && EVP_PKEY_verify_init(ctx) == 1 &&
        (job->scheme == QM_SCHEME_ECDSA || EVP_PKEY_CTX_set_rsa_padding(ctx, padding) == 1) &&
        EVP_PKEY_CTX_set_signature_md(ctx, md) == 1 &&
        (job->scheme != QM_SCHEME_RSAPSS || (EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, md) == 1 &&
                                             EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, salt_len) == 1));
    int answer = -1;
    if (ready)
        answer =
            EVP_PKEY_verify(ctx, sig, sig_len, job->digest, qm_hash_size((enum qm_hash)job->hash));
    EVP_PKEY_CTX_free(ctx);
    return answer;
}

/* Did OpenSSL fail, or say no? It says no with 0, and with a negative number where u1 G + u2 Q is
 * the point at infinity: a signature that only the key's owner can make, and evidence all the same.
 * Want of memory can look like either. */
static bool failed(int answer)
{
    bool memory = false;
    bool infinity = false;
    for (unsigned long e; (e = ERR_get_error()) != 0;) {
        memory |= ERR_GET_REASON(e) == ERR_R_MALLOC_FAILURE;
        infinity |= ERR_GET_LIB(e) == ERR_LIB_EC && ERR_GET_REASON(e) == EC_R_POINT_AT_INFINITY;
    }
    return memory || (answer < 0 && !infinity);
}

static int ask_rsa(EVP_PKEY *pkey, const struct qm_sig_job *job)
{
    unsigned bits = job->key->bits;
    size_t len = (bits + 7u) / 8;
    int digest_len = (int)qm_hash_size((enum qm_hash)job->hash);
    int answer = ask(pkey, job, job->sig, len, digest_len);
    if (answer == 0 && job->scheme == QM_SCHEME_RSAPSS) {
        int longest = (int)((bits - 1 + 7) / 8) - digest_len - 2; /* RFC 8017, 9.1.1, step 3 */
        answer = ask(pkey, job, job->sig, len, longest);
    }
    return answer;
}

qm_err qm_oracle_verify(const struct qm_sig_job *job, bool *valid, struct qm_fault *fault)
{
    *valid = false;
    bool rsa = job->key->sig_class <= QM_SIG_RSA_ANY;
    bool suits = rsa ? job->scheme == QM_SCHEME_RSASSA || job->scheme == QM_SCHEME_RSAPSS
                     : job->scheme == QM_SCHEME_ECDSA;
    if (!suits || hash_name(job->hash) == NULL)
        return QM_OK;

    size_t size = job->key->bits / 8u;
    uint8_t der[DER_MAX];
    size_t der_len = 0;
    ERR_clear_error();
    EVP_PKEY *pkey = rsa ? rsa_key(job->key) : ec_key(job->key, size);
    int answer = -1;
    if (pkey != NULL && rsa)
        answer = ask_rsa(pkey, job);
    else if (pkey != NULL && (der_len = der_signature(job->sig, size, der)) != 0)
        answer = ask(pkey, job, der, der_len, 0);
    EVP_PKEY_free(pkey);
    if (failed(answer))
        return qm_fail(fault, QM_E_CRYPTO, 0, "OpenSSL could not check a signature of class %s",
                       qm_sig_class_name((enum qm_sig_class)job->key->sig_class));
    *valid = answer == 1;
    return QM_OK;
}
