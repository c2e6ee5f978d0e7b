#include "tools/ceremony/credential.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>

#include "codec/cursor.h"
#include "engine/kernel/kernel.h"

static const char identity[] = "IDENTITY"; /* labels of TPM2_MakeCredential; their NUL is part of them */
enum { COORDINATE_MAX = 48, KDF_TEXT_MAX = 4 + 16 + QM_NAME_MAX + 4, SYMMETRIC_MAX = 32 };

static qm_err failed(struct qm_fault *fault, const char *what)
{
    ERR_clear_error();
    return qm_fail(fault, QM_E_CRYPTO, 0, "%s failed", what);
}

qm_err qm_random(uint8_t *to, size_t len, struct qm_fault *fault)
{
    return RAND_priv_bytes(to, (int)len) == 1 ? QM_OK : failed(fault, "drawing random bytes");
}

void qm_forget(void *secret, size_t len)
{
    OPENSSL_cleanse(secret, len);
}

static const char *digest_name(enum qm_hash hash)
{
    return hash == QM_HASH_SHA256 ? "SHA256" : hash == QM_HASH_SHA384 ? "SHA384" : "SHA512";
}

static bool hmac(enum qm_hash hash, const uint8_t *key, size_t key_len, const uint8_t *text, size_t len, uint8_t *mac)
{
    size_t mac_len = 0;
    return EVP_Q_mac(NULL, "HMAC", NULL, digest_name(hash), NULL, key, key_len, text, len, mac, QM_DIGEST_MAX, &mac_len) != NULL &&
           mac_len == qm_hash_size(hash);
}

static size_t put_be(uint8_t *to, uint32_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        to[i] = (uint8_t)(v >> 8 * (bytes - 1 - i) & 0xff);
    return bytes;
}

static size_t put(uint8_t *to, const void *p, size_t len)
{
    if (len != 0)
        memcpy(to, p, len);
    return len;
}

/* KDFa (part 1, 11.4.10.2; SP 800-108 in counter mode) as far as one digest goes: HMAC(key, 1 || label with its NUL || u || bits).
 * key is as long as the digest. out has QM_DIGEST_MAX bytes; the first bits of them count. */
static bool kdf_a(enum qm_hash hash, const uint8_t *key, const char *label, struct qm_span u, unsigned bits, uint8_t *out)
{
    uint8_t text[KDF_TEXT_MAX];
    size_t n = put_be(text, 1, 4);
    n += put(text + n, label, strlen(label) + 1);
    n += put(text + n, u.p, u.len);
    n += put_be(text + n, bits, 4);
    return hmac(hash, key, qm_hash_size(hash), text, n, out);
}

void qm_kdf_e(enum qm_hash hash, struct qm_span z, const char *label, struct qm_span u, struct qm_span v, uint8_t *out)
{
    uint8_t text[4 + 3 * COORDINATE_MAX + 16];
    size_t n = put_be(text, 1, 4);
    n += put(text + n, z.p, z.len);
    n += put(text + n, label, strlen(label) + 1);
    n += put(text + n, u.p, u.len);
    n += put(text + n, v.p, v.len);
    qm_hash_one(hash, (struct qm_span){text, n}, out);
    qm_forget(text, sizeof text);
}

/* AES in CFB mode, full blocks of feedback, an IV of zeros. */
static bool cfb(const uint8_t *key, unsigned bits, const uint8_t *from, size_t len, uint8_t *to)
{
    static const uint8_t iv[16];
    int n = 0, rest = 0;
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, bits == 128 ? "AES-128-CFB" : "AES-256-CFB", NULL);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    const bool ok = cipher != NULL && c != NULL && EVP_EncryptInit_ex2(c, cipher, key, iv, NULL) == 1 &&
                    EVP_EncryptUpdate(c, to, &n, from, (int)len) == 1 && EVP_EncryptFinal_ex(c, to + n, &rest) == 1 &&
                    (size_t)n + (size_t)rest == len;
    EVP_CIPHER_CTX_free(c);
    EVP_CIPHER_free(cipher);
    return ok;
}

qm_err qm_credential_seal(enum qm_hash hash, unsigned symmetric_bits, const uint8_t *seed, const struct qm_name *name,
                          const uint8_t credential[QM_CREDENTIAL_SIZE], struct qm_wrapped *out, struct qm_fault *fault)
{
    const size_t digest = qm_hash_size(hash);
    const struct qm_span of = {name->bytes, name->len}, none = {NULL, 0};
    uint8_t key[QM_DIGEST_MAX], plain[2 + QM_CREDENTIAL_SIZE], signed_text[sizeof plain + QM_NAME_MAX];
    uint8_t *mac = out->blob + 4, *wrapped = mac + digest;
    put_be(plain, QM_CREDENTIAL_SIZE, 2);
    memcpy(plain + 2, credential, QM_CREDENTIAL_SIZE);
    bool ok = kdf_a(hash, seed, "STORAGE", of, symmetric_bits, key) && cfb(key, symmetric_bits, plain, sizeof plain, wrapped) &&
              kdf_a(hash, seed, "INTEGRITY", none, (unsigned)(8 * digest), key);
    if (ok) {
        size_t n = put(signed_text, wrapped, sizeof plain);
        n += put(signed_text + n, name->bytes, name->len);
        ok = hmac(hash, key, digest, signed_text, n, mac);
    }
    out->blob_len = 4 + digest + sizeof plain;
    put_be(out->blob, (uint32_t)(out->blob_len - 2), 2);
    put_be(out->blob + 2, (uint32_t)digest, 2);
    qm_forget(key, sizeof key);
    qm_forget(plain, sizeof plain);
    return ok ? QM_OK : failed(fault, "wrapping a credential");
}

/* ---- how the seed gets to the TPM (annexes B and C) ---------------------------------------------------------------------- */

/* RSA-OAEP with the EK's hash, and the label with its NUL. */
static bool send_rsa(const struct qm_ek *ek, const uint8_t *seed, struct qm_wrapped *out)
{
    const char *hash = digest_name(ek->hash);
    size_t len = sizeof out->secret - 2;
    char label[sizeof identity];
    memcpy(label, identity, sizeof label);
    const OSSL_PARAM params[] = {OSSL_PARAM_octet_string(OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL, label, sizeof label), OSSL_PARAM_END};
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_pkey(NULL, ek->key, NULL);
    const bool ok = c != NULL && EVP_PKEY_encrypt_init(c) == 1 && EVP_PKEY_CTX_set_rsa_padding(c, RSA_PKCS1_OAEP_PADDING) == 1 &&
                    EVP_PKEY_CTX_set_rsa_oaep_md_name(c, hash, NULL) == 1 && EVP_PKEY_CTX_set_rsa_mgf1_md_name(c, hash, NULL) == 1 &&
                    EVP_PKEY_CTX_set_params(c, params) == 1 &&
                    EVP_PKEY_encrypt(c, out->secret + 2, &len, seed, qm_hash_size(ek->hash)) == 1;
    EVP_PKEY_CTX_free(c);
    out->secret_len = 2 + len;
    put_be(out->secret, (uint32_t)len, 2);
    return ok;
}

/* The shared x coordinate, as long as the curve's coordinates. */
static bool agree(EVP_PKEY *ours, EVP_PKEY *theirs, uint8_t *z, size_t bytes)
{
    size_t len = bytes;
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_pkey(NULL, ours, NULL);
    const bool ok = c != NULL && EVP_PKEY_derive_init(c) == 1 && EVP_PKEY_derive_set_peer(c, theirs) == 1 &&
                    EVP_PKEY_derive(c, z, &len) == 1 && len == bytes;
    EVP_PKEY_CTX_free(c);
    return ok;
}

/* One-pass ECDH: a key for this once, whose point (TPMS_ECC_POINT) is what is sent; the seed is made of what both then know. */
static bool send_ecc(const struct qm_ek *ek, uint8_t *seed, struct qm_wrapped *out)
{
    const size_t bytes = ek->coordinate_bytes;
    uint8_t z[COORDINATE_MAX], point[1 + 2 * COORDINATE_MAX];
    size_t point_len = 0;
    EVP_PKEY *ours = EVP_EC_gen(bytes == 32 ? "P-256" : "P-384");
    const bool ok = ours != NULL && agree(ours, ek->key, z, bytes) &&
                    EVP_PKEY_get_octet_string_param(ours, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point, &point_len) == 1 &&
                    point_len == 1 + 2 * bytes && point[0] == 4;
    EVP_PKEY_free(ours);
    if (ok) {
        qm_kdf_e(ek->hash, (struct qm_span){z, bytes}, identity, (struct qm_span){point + 1, bytes}, ek->public.a, seed);
        size_t n = put_be(out->secret, (uint32_t)(4 + 2 * bytes), 2);
        for (unsigned i = 0; i < 2; i++) {
            n += put_be(out->secret + n, (uint32_t)bytes, 2);
            n += put(out->secret + n, point + 1 + i * bytes, bytes);
        }
        out->secret_len = n;
    }
    qm_forget(z, sizeof z);
    return ok;
}

qm_err qm_credential_make(const struct qm_ek *ek, const struct qm_name *name, const uint8_t credential[QM_CREDENTIAL_SIZE],
                          struct qm_wrapped *out, struct qm_fault *fault)
{
    uint8_t seed[QM_DIGEST_MAX];
    qm_err err = ek->coordinate_bytes == 0 ? qm_random(seed, qm_hash_size(ek->hash), fault) : QM_OK;
    if (err == QM_OK && !(ek->coordinate_bytes == 0 ? send_rsa(ek, seed, out) : send_ecc(ek, seed, out)))
        err = failed(fault, "sending a seed to an EK");
    if (err == QM_OK)
        err = qm_credential_seal(ek->hash, ek->symmetric_bits, seed, name, credential, out, fault);
    qm_forget(seed, sizeof seed);
    return err;
}
