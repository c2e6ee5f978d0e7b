/* Attestation keys as people have them -> prepared keys. */
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "codec/text.h"
#include "tools/enrolment.h"

enum { NUMBER_MAX = 1024 + 8 }; /* bytes of a modulus: more than is taken, so that the reason can be the size */

static qm_err refuse(struct qm_fault *fault, const char *why)
{
    ERR_clear_error();
    return qm_fail(fault, QM_E_REFUSED, 0, "%s", why);
}

/* Makes the key and its identity from numbers. */
static qm_err take_numbers(const struct qm_public_numbers *n, struct qm_enrolment *out, struct qm_fault *fault)
{
    struct qm_key *key = (struct qm_key *)(void *)out->key;
    qm_err err = qm_key_make(n, key, fault);
    if (err != QM_OK)
        return err;
    uint8_t identity[16 + QM_KEY_BYTES_MAX];
    size_t numbers = n->rsa ? (key->bits + 63u) / 64 * 8 : (size_t)key->bits / 8 * 2;
    memset(identity, 0, 16);
    identity[0] = n->rsa ? 1 : 2;
    identity[1] = (uint8_t)(key->bits >> 8);
    identity[2] = (uint8_t)(key->bits & 0xff);
    uint64_t exponent = n->rsa ? n->exponent : 0;
    memcpy(identity + 8, &exponent, 8);
    memcpy(identity + 16, key->limbs, numbers);
    qm_hash_one(QM_HASH_SHA256, (struct qm_span){identity, 16 + numbers}, out->key_digest);
    return QM_OK;
}

/* ---- TPM2B_PUBLIC, TPMT_PUBLIC --------------------------------------------------------------------------------------- */

/* The attributes of a key that signs what the TPM itself made and nothing else (Library part 1, 25.2; part 2, 8.3). */
static const char *attributes_fault(uint32_t a)
{
    static const struct {
        uint32_t bit;
        const char *why;
    } needed[] = {
        {QM_TPMA_FIXED_TPM, "the AK is not fixedTPM"},
        {QM_TPMA_FIXED_PARENT, "the AK is not fixedParent"},
        {QM_TPMA_SENSITIVE_DATA_ORIGIN, "the AK is not sensitiveDataOrigin: it was made outside the TPM"},
        {QM_TPMA_RESTRICTED, "the AK is not restricted: it signs anything it is given"},
        {QM_TPMA_SIGN, "the AK is no signing key"},
    };
    for (size_t i = 0; i < QM_COUNT(needed); i++)
        if ((a & needed[i].bit) == 0)
            return needed[i].why;
    return (a & QM_TPMA_DECRYPT) != 0 ? "the AK may decrypt" : NULL;
}

static const char *own_scheme(const struct qm_public *p, struct qm_ak *ak)
{
    *ak = (struct qm_ak){0};
    if (p->scheme == QM_TPM_ALG_NULL)
        return NULL;
    if (p->type == QM_TPM_ALG_RSA)
        ak->scheme = p->scheme == QM_TPM_ALG_RSASSA   ? QM_SCHEME_RSASSA
                     : p->scheme == QM_TPM_ALG_RSAPSS ? QM_SCHEME_RSAPSS
                                                      : QM_SCHEME_NONE;
    else
        ak->scheme = p->scheme == QM_TPM_ALG_ECDSA ? QM_SCHEME_ECDSA : QM_SCHEME_NONE;
    if (ak->scheme == QM_SCHEME_NONE)
        return "the AK's own scheme is not RSASSA, RSAPSS or ECDSA";
    ak->hash = (uint8_t)qm_hash_of_tpm(p->scheme_hash);
    if (ak->hash == QM_HASH_NONE || ak->hash == QM_HASH_SHA1)
        return "the AK's own scheme has a hash other than SHA-256, SHA-384 or SHA-512";
    return NULL;
}

static qm_err read_tpm_public(struct qm_span bytes, struct qm_ak *ak, struct qm_enrolment *out, struct qm_fault *fault)
{
    struct qm_public p;
    if (!qm_public_parse(bytes, &p))
        return refuse(fault, "the AK is neither PEM nor base64 of a whole TPM2B_PUBLIC or TPMT_PUBLIC of an RSA or ECC key");
    const char *why = attributes_fault(p.attributes);
    if (why == NULL)
        why = own_scheme(&p, ak);
    if (why != NULL)
        return refuse(fault, why);
    struct qm_public_numbers n = {.a = p.a, .b = p.b};
    if (p.type == QM_TPM_ALG_RSA) {
        n.rsa = true;
        n.exponent = p.rsa_exponent == 0 ? 65537 : p.rsa_exponent;
        if (p.rsa_bits != 8 * p.a.len)
            return refuse(fault, "the AK's modulus is not as long as its key size");
    } else if (p.ecc_curve == QM_TPM_ECC_NIST_P256 || p.ecc_curve == QM_TPM_ECC_NIST_P384) {
        n.ec_class = p.ecc_curve == QM_TPM_ECC_NIST_P256 ? QM_SIG_P256 : QM_SIG_P384;
    } else {
        return refuse(fault, "the AK's curve is neither P-256 nor P-384");
    }
    return take_numbers(&n, out, fault);
}

/* ---- PEM ------------------------------------------------------------------------------------------------------------- */

/* A big number of a key, big-endian. False: not there, or longer than to. */
static bool key_number(EVP_PKEY *pkey, const char *name, uint8_t to[NUMBER_MAX], struct qm_span *out)
{
    BIGNUM *bn = NULL;
    bool ok = EVP_PKEY_get_bn_param(pkey, name, &bn) == 1 && BN_num_bytes(bn) <= NUMBER_MAX;
    if (ok)
        *out = (struct qm_span){to, (size_t)BN_bn2bin(bn, to)};
    BN_free(bn);
    return ok;
}

static qm_err take_pkey(EVP_PKEY *pkey, struct qm_enrolment *out, struct qm_fault *fault)
{
    uint8_t a[NUMBER_MAX], b[NUMBER_MAX];
    struct qm_public_numbers n = {0};
    if (EVP_PKEY_is_a(pkey, "RSA")) {
        n.rsa = true;
        struct qm_span e;
        if (!key_number(pkey, OSSL_PKEY_PARAM_RSA_N, a, &n.a) || !key_number(pkey, OSSL_PKEY_PARAM_RSA_E, b, &e))
            return refuse(fault, "the RSA key is too long");
        if (e.len > 8)
            return refuse(fault, "the RSA exponent is longer than 64 bits");
        for (size_t i = 0; i < e.len; i++)
            n.exponent = n.exponent << 8 | e.p[i];
    } else if (EVP_PKEY_is_a(pkey, "EC")) {
        char group[64] = "";
        size_t len;
        EVP_PKEY_get_utf8_string_param(pkey, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof group, &len);
        if (strcmp(group, "prime256v1") == 0)
            n.ec_class = QM_SIG_P256;
        else if (strcmp(group, "secp384r1") == 0)
            n.ec_class = QM_SIG_P384;
        else
            return refuse(fault, "the AK's curve is neither P-256 nor P-384");
        if (!key_number(pkey, OSSL_PKEY_PARAM_EC_PUB_X, a, &n.a) || !key_number(pkey, OSSL_PKEY_PARAM_EC_PUB_Y, b, &n.b))
            return refuse(fault, "the AK's point cannot be read");
    } else {
        return refuse(fault, "the AK is neither an RSA nor an elliptic curve key");
    }
    return take_numbers(&n, out, fault);
}

static bool only_space(BIO *bio)
{
    char *rest;
    long len = BIO_get_mem_data(bio, &rest);
    for (long i = 0; i < len; i++)
        if (strchr(" \t\r\n", rest[i]) == NULL || rest[i] == '\0')
            return false;
    return true;
}

static qm_err read_pem(struct qm_span text, struct qm_enrolment *out, struct qm_fault *fault)
{
    char *name = NULL, *header = NULL;
    unsigned char *der = NULL;
    long der_len = 0;
    EVP_PKEY *pkey = NULL;
    qm_err err = QM_OK;
    BIO *bio = BIO_new_mem_buf(text.p, (int)text.len);
    if (bio == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory to read a key");
    if (PEM_read_bio(bio, &name, &header, &der, &der_len) != 1 || strcmp(name, "PUBLIC KEY") != 0) {
        err = refuse(fault, "the AK is no PEM SubjectPublicKeyInfo (BEGIN PUBLIC KEY)");
    } else if (!only_space(bio)) {
        err = refuse(fault, "something follows the AK's PEM block");
    } else {
        const unsigned char *p = der;
        pkey = d2i_PUBKEY(NULL, &p, der_len);
        if (pkey == NULL || p != der + der_len)
            err = refuse(fault, "the AK's SubjectPublicKeyInfo cannot be read, or its point is not on its curve");
        else
            err = take_pkey(pkey, out, fault);
    }
    EVP_PKEY_free(pkey);
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    BIO_free(bio);
    ERR_clear_error();
    return err;
}

qm_err qm_ak_read(struct qm_span text, struct qm_ak *ak, struct qm_enrolment *out, struct qm_fault *fault)
{
    static const char pem[] = "-----BEGIN ";
    *ak = (struct qm_ak){0};
    while (text.len != 0 && (text.p[0] == ' ' || text.p[0] == '\t' || text.p[0] == '\n' || text.p[0] == '\r')) {
        text.p++;
        text.len--;
    }
    if (text.len == 0)
        return refuse(fault, "ak is empty");
    if (text.len > QM_AK_MAX)
        return refuse(fault, "ak is too long");
    if (text.len >= sizeof pem - 1 && memcmp(text.p, pem, sizeof pem - 1) == 0)
        return read_pem(text, out, fault);
    uint8_t bytes[QM_AK_MAX];
    size_t len;
    if (!qm_base64_read(text, bytes, sizeof bytes, &len))
        return refuse(fault, "the AK is neither PEM nor base64 of a TPM2B_PUBLIC or TPMT_PUBLIC");
    return read_tpm_public((struct qm_span){bytes, len}, ak, out, fault);
}
