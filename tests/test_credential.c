/* Endorsement keys and the credentials that are wrapped for them: what another implementation made of the same numbers, what the private
 * half of the key makes of ours, and every field of a template changed.
 *
 * The known values are of tpm2_makecredential (tpm2-tools 5.4, without a TPM) for keys of OpenSSL; the seeds and the shared secret
 * came back out of its secrets with openssl pkeyutl. */
#include <criterion/criterion.h>
#include <openssl/core_names.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/text.h"
#include "tests/craft.h"
#include "tools/ceremony/credential.h"

static struct qm_fault fault;

static struct qm_span hex(const char *digits)
{
    struct craft c = {0};
    const size_t len = strlen(digits) / 2;
    craft_fill(&c, 0, len);
    MUST(qm_hex_read(digits, c.p, len));
    return craft_span(&c);
}

static struct qm_name name_of(struct qm_span bytes)
{
    struct qm_name n = {.len = bytes.len};
    memcpy(n.bytes, bytes.p, bytes.len);
    return n;
}

static const char known_name[] = "000b92ee22115c75bf1c14fb8f25df9ce28d0095492aa1ccd96b3fc07bf0a2f63d89";
/* the credential is 01 02 … 20 */
static const struct known {
    enum qm_hash hash;
    unsigned bits;
    const char *seed, *blob;
} known[] = {
    {QM_HASH_SHA256, 128, "d8a6311979ba0f25a4c6b3ae8ede69d621cc56e5737d13a3bd96b61d2bc782e3",
     "004400203af233e43a52baa59a7f9d14bfbd3e9cd107bba460ffedb88577e48d5259f6b8905821cc816caf87f0c5bc1b831ad41f18eb230dd40dc9c6af89fabf137e"
     "634a6008"},
    {QM_HASH_SHA256, 128, "3998485bd83831102de44da6a48e4578034bb8465f8baca899e9f104c777d9c0",
     "00440020e126e8bdf0453dea1b9ce7cb50262d49ae8ec6ebd1ea28186deccb470369fe282a3437f5405083ad0f756a44fa9344de9bcf2edf291349b3c40418527bfe"
     "6980f615"},
    {QM_HASH_SHA384, 256, "06ab566f3b1846d9f91bc409ac64502bbf981521281eb87dca72e7151c5f851ef191945729a5254f20c7859d3bf0e306",
     "00540030a23640082a54522e68ba44bf21cf5c5d8f4cefe0fa649c761ef5864cc68b076b4259e98035f4fcdb46231b6284fc368184b0ef5a037e1894aff4c96527e8"
     "edae83d26a3a578ed7cb5858fe28d9ad7e5a2369"},
};

static void usual_credential(uint8_t credential[QM_CREDENTIAL_SIZE])
{
    for (unsigned i = 0; i < QM_CREDENTIAL_SIZE; i++)
        credential[i] = (uint8_t)(i + 1);
}

Test(credential, sealed_as_another_does)
{
    uint8_t credential[QM_CREDENTIAL_SIZE];
    const struct qm_name name = name_of(hex(known_name));
    usual_credential(credential);
    for (size_t i = 0; i < QM_COUNT(known); i++) {
        struct qm_wrapped w;
        const struct qm_span expected = hex(known[i].blob);
        cr_assert_eq(qm_credential_seal(known[i].hash, known[i].bits, hex(known[i].seed).p, &name, credential, &w, &fault), QM_OK);
        cr_expect(qm_span_eq((struct qm_span){w.blob, w.blob_len}, expected), "%zu", i);
    }
    craft_free_all();
}

Test(credential, seed_of_a_point_as_another_makes_it)
{
    static const struct {
        enum qm_hash hash;
        const char *z, *u, *v, *seed;
    } kdf[] = {
        {QM_HASH_SHA256, "b5f23a37c58a16a6d4a0606b19354640ea7455544ce8154b0454771d4140b5e1",
         "3c3b0a170bab6921ba3aa5622a23f0645f5cdb04817bba2eb991b349ecccf3d5", "106eadd550ecb605e96044e859d5fe7d42f24ec8f8da21f24b26058ddd790485",
         "3998485bd83831102de44da6a48e4578034bb8465f8baca899e9f104c777d9c0"},
        {QM_HASH_SHA384, "1203692bd6ed179c83c61aa821405aa1b23d2db12955f3a2eedf653244b91a92d5756e570f254286ad883b15d935c794",
         "cc5d0839a4553708bc636a8d270adb9dad1fbe9345582698137e343f4319d564c16f3c3fa39b3e9bdef4a0e089493163",
         "4a133dd13319bc21d04a9f059ef75b06e17620052dae27f34e1cc06952151749498a2f4b306ae6e201e5ef1f1c0869d7",
         "06ab566f3b1846d9f91bc409ac64502bbf981521281eb87dca72e7151c5f851ef191945729a5254f20c7859d3bf0e306"},
    };
    for (size_t i = 0; i < QM_COUNT(kdf); i++) {
        uint8_t seed[QM_DIGEST_MAX];
        qm_kdf_e(kdf[i].hash, hex(kdf[i].z), "IDENTITY", hex(kdf[i].u), hex(kdf[i].v), seed);
        cr_expect(memcmp(seed, hex(kdf[i].seed).p, qm_hash_size(kdf[i].hash)) == 0, "%zu", i);
    }
    craft_free_all();
}

/* ---- endorsement keys made here ------------------------------------------------------------------------------------------ */

static const char policy_a[] = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
static const char policy_b[] = "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0";
static const char policy_b384[] = "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12";

struct ek_shape {
    const char *template, *kind, *policy;
    uint16_t name_alg, symmetric, symmetric_bits, mode, scheme, bits_or_curve, kdf;
    uint32_t attributes, exponent;
};
static const struct ek_shape shapes[] = {
    {"L-1", "rsa2048", policy_a, 0x0b, 6, 128, 0x43, 0x10, 2048, 0, 0x000300b2, 0},
    {"L-2", "p256", policy_a, 0x0b, 6, 128, 0x43, 0x10, 3, 0x10, 0x000300b2, 0},
    {"H-1", "rsa2048", policy_b, 0x0b, 6, 128, 0x43, 0x10, 2048, 0, 0x000300f2, 0},
    {"H-2", "p256", policy_b, 0x0b, 6, 128, 0x43, 0x10, 3, 0x10, 0x000300f2, 0},
    {"H-3", "p384", policy_b384, 0x0c, 6, 256, 0x43, 0x10, 4, 0x10, 0x000300f2, 0},
};

/* The numbers of a key as its TPMT_PUBLIC ends: modulus, or x and y. */
static void put_unique(struct craft *out, const struct ek_shape *s)
{
    struct craft t = {0};
    struct qm_public p;
    craft_tpmt_public(&t, craft_key(s->kind, 0), CRAFT_AK_ATTRIBUTES, QM_TPM_ALG_NULL, 0);
    MUST(qm_public_parse(craft_span(&t), &p));
    craft_2b(out, p.a.p, p.a.len);
    if (p.b.len != 0)
        craft_2b(out, p.b.p, p.b.len);
}

static struct qm_span ek_public(const struct ek_shape *s)
{
    struct craft c = {0}, whole = {0};
    const bool rsa = s->kind[0] == 'r';
    const struct qm_span policy = hex(s->policy);
    craft_be(&c, rsa ? 1 : 0x23, 2);
    craft_be(&c, s->name_alg, 2);
    craft_be(&c, s->attributes, 4);
    craft_2b(&c, policy.p, policy.len);
    craft_be(&c, s->symmetric, 2);
    if (s->symmetric != QM_TPM_ALG_NULL) {
        craft_be(&c, s->symmetric_bits, 2);
        craft_be(&c, s->mode, 2);
    }
    craft_be(&c, s->scheme, 2);
    if (s->scheme == QM_TPM_ALG_OAEP)
        craft_be(&c, 0x0b, 2);
    craft_be(&c, s->bits_or_curve, 2);
    if (rsa)
        craft_be(&c, s->exponent, 4);
    else
        craft_be(&c, s->kdf, 2);
    if (!rsa && s->kdf != QM_TPM_ALG_NULL)
        craft_be(&c, 0x0b, 2);
    put_unique(&c, s);
    craft_2b(&whole, c.p, c.len);
    return craft_exact(craft_span(&whole));
}

static void refused(const struct ek_shape *s, const char *why)
{
    struct qm_ek ek;
    fault = (struct qm_fault){0};
    cr_expect_eq(qm_ek_read(ek_public(s), &ek, &fault), QM_E_REFUSED, "%s, %s", s->template, why);
    cr_expect_not_null(strstr(fault.text, why), "'%s' does not say '%s'", fault.text, why);
    cr_expect_null(ek.key);
    qm_ek_close(&ek);
}

Test(credential, templates)
{
    for (size_t i = 0; i < QM_COUNT(shapes); i++) {
        struct qm_ek ek;
        struct ek_shape s = shapes[i];
        uint8_t expected[32];
        unsigned char *der = NULL;
        fault = (struct qm_fault){0};
        cr_assert_eq(qm_ek_read(ek_public(&s), &ek, &fault), QM_OK, "%s: %s", s.template, fault.text);
        cr_expect_str_eq(ek.template, s.template);
        cr_expect_eq(ek.name.len, i == 4 ? 50 : 34);
        cr_expect_eq(EVP_PKEY_eq(ek.key, craft_key(s.kind, 0)->pkey), 1);
        const int len = i2d_PUBKEY(craft_key(s.kind, 0)->pkey, &der);
        craft_hash(QM_HASH_SHA256, (struct qm_span){der, (size_t)len}, expected);
        cr_expect_eq(memcmp(expected, ek.fingerprint, 32), 0);
        OPENSSL_free(der);
        qm_ek_close(&ek);

        const bool rsa = s.kind[0] == 'r';
        const char *const none = "none of the templates";
#define BUT(field, value, why)  \
    do {                        \
        struct ek_shape c = s;  \
        c.field = (value);      \
        refused(&c, (why));     \
    } while (0)
        BUT(attributes, s.attributes & ~(uint32_t)QM_TPMA_FIXED_TPM, "not fixedTPM");
        BUT(attributes, s.attributes & ~(uint32_t)QM_TPMA_FIXED_PARENT, "not fixedParent");
        BUT(attributes, s.attributes & ~(uint32_t)QM_TPMA_SENSITIVE_DATA_ORIGIN, "made outside");
        BUT(attributes, s.attributes & ~(uint32_t)QM_TPMA_RESTRICTED, "not restricted");
        BUT(attributes, s.attributes & ~(uint32_t)QM_TPMA_DECRYPT, "no decryption key");
        BUT(attributes, s.attributes | QM_TPMA_SIGN, "may sign");
        BUT(attributes, s.attributes & ~(uint32_t)QM_TPMA_ADMIN_WITH_POLICY, none);
        BUT(attributes, s.attributes ^ QM_TPMA_USER_WITH_AUTH, none);
        BUT(attributes, s.attributes | 1u << 10, none); /* noDA */
        BUT(symmetric, QM_TPM_ALG_NULL, none);
        BUT(symmetric_bits, s.symmetric_bits ^ 384, none);
        BUT(mode, 0x44, none);
        BUT(policy, s.policy == policy_a ? policy_b : policy_a, none);
        BUT(policy, "", none);
        BUT(name_alg, 0x0d, none);
        BUT(name_alg, 0x04, "a hash other than");
        if (rsa) {
            BUT(scheme, QM_TPM_ALG_OAEP, none);
            BUT(exponent, 3, none);
            BUT(bits_or_curve, 3072, none);
        } else {
            BUT(kdf, 0x20, none);
            BUT(bits_or_curve, s.bits_or_curve ^ 7, none);
        }
#undef BUT
    }
    craft_free_all();
}

Test(credential, public_areas_are_exact)
{
    struct qm_ek ek;
    const struct qm_span whole = ek_public(&shapes[1]);
    for (size_t len = 0; len < whole.len; len++)
        cr_expect_eq(qm_ek_read(craft_exact((struct qm_span){whole.p, len}), &ek, &fault), QM_E_REFUSED, "%zu bytes", len);
    cr_expect_eq(qm_ek_read((struct qm_span){whole.p + 2, whole.len - 2}, &ek, &fault), QM_E_REFUSED, "without its size");
    /* a point that is on no curve, and one whose numbers are too long */
    struct craft c = {0};
    craft_put(&c, whole.p, whole.len);
    c.p[c.len - 1] ^= 1;
    cr_expect_eq(qm_ek_read(craft_span(&c), &ek, &fault), QM_E_REFUSED);
    cr_expect_not_null(strstr(fault.text, "no point of its curve"), "%s", fault.text);
    /* an RSA modulus that is even, or begins with a zero */
    const struct qm_span rsa = ek_public(&shapes[0]);
    for (size_t at = rsa.len - 256; at < rsa.len; at += 255) {
        struct craft m = {0};
        craft_put(&m, rsa.p, rsa.len);
        m.p[at] &= at == rsa.len - 1 ? 0xfe : 0x7f;
        cr_expect_eq(qm_ek_read(craft_span(&m), &ek, &fault), QM_E_REFUSED);
        cr_expect_not_null(strstr(fault.text, "or even"), "%s", fault.text);
    }
    craft_free_all();
}

/* ---- what the other side gets -------------------------------------------------------------------------------------------- */

/* The seed, as a TPM gets it out of a secret with the private key. */
static void open_secret(const struct ek_shape *s, const struct qm_ek *ek, const struct qm_wrapped *w, uint8_t *seed)
{
    EVP_PKEY *ours = craft_key(s->kind, 0)->pkey;
    MUST(w->secret_len > 2 && (size_t)(w->secret[0] << 8 | w->secret[1]) == w->secret_len - 2);
    if (ek->coordinate_bytes == 0) {
        char label[] = "IDENTITY";
        size_t len = QM_DIGEST_MAX;
        uint8_t room[256];
        const OSSL_PARAM params[] = {OSSL_PARAM_octet_string(OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL, label, sizeof label), OSSL_PARAM_END};
        EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(ours, NULL);
        MUST(EVP_PKEY_decrypt_init(c) == 1 && EVP_PKEY_CTX_set_rsa_padding(c, RSA_PKCS1_OAEP_PADDING) == 1 &&
             EVP_PKEY_CTX_set_rsa_oaep_md_name(c, "SHA256", NULL) == 1 && EVP_PKEY_CTX_set_rsa_mgf1_md_name(c, "SHA256", NULL) == 1 &&
             EVP_PKEY_CTX_set_params(c, params) == 1);
        len = sizeof room;
        MUST(EVP_PKEY_decrypt(c, room, &len, w->secret + 2, w->secret_len - 2) == 1 && len == 32);
        memcpy(seed, room, len);
        EVP_PKEY_CTX_free(c);
        return;
    }
    const size_t n = ek->coordinate_bytes;
    uint8_t point[1 + 2 * 48] = {4}, z[48];
    size_t len = sizeof z;
    MUST(w->secret_len == 6 + 2 * n && w->secret[3] == n && w->secret[5 + n] == n);
    memcpy(point + 1, w->secret + 4, n);
    memcpy(point + 1 + n, w->secret + 6 + n, n);
    EVP_PKEY *theirs = EVP_PKEY_new();
    MUST(EVP_PKEY_copy_parameters(theirs, ours) == 1 && EVP_PKEY_set1_encoded_public_key(theirs, point, 1 + 2 * n) == 1);
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(ours, NULL);
    MUST(EVP_PKEY_derive_init(c) == 1 && EVP_PKEY_derive_set_peer(c, theirs) == 1 && EVP_PKEY_derive(c, z, &len) == 1 && len == n);
    EVP_PKEY_CTX_free(c);
    EVP_PKEY_free(theirs);
    qm_kdf_e(ek->hash, (struct qm_span){z, n}, "IDENTITY", (struct qm_span){point + 1, n}, ek->public.a, seed);
}

/* Whoever has the key gets a seed that seals to the same blob; and nothing comes twice. */
Test(credential, opened_with_the_private_key)
{
    uint8_t credential[QM_CREDENTIAL_SIZE];
    const struct qm_name name = name_of(hex(known_name));
    usual_credential(credential);
    for (size_t i = 0; i < QM_COUNT(shapes); i++) {
        struct qm_ek ek;
        struct qm_wrapped w, again, sealed;
        uint8_t seed[QM_DIGEST_MAX];
        cr_assert_eq(qm_ek_read(ek_public(&shapes[i]), &ek, &fault), QM_OK, "%s", fault.text);
        cr_assert_eq(qm_credential_make(&ek, &name, credential, &w, &fault), QM_OK, "%s", fault.text);
        cr_assert_eq(qm_credential_make(&ek, &name, credential, &again, &fault), QM_OK, "%s", fault.text);
        cr_expect(w.secret_len <= sizeof w.secret && w.blob_len <= sizeof w.blob);
        cr_expect_neq(memcmp(w.secret, again.secret, w.secret_len), 0);
        cr_expect_neq(memcmp(w.blob, again.blob, w.blob_len), 0);
        open_secret(&shapes[i], &ek, &w, seed);
        cr_assert_eq(qm_credential_seal(ek.hash, ek.symmetric_bits, seed, &name, credential, &sealed, &fault), QM_OK);
        cr_expect(sealed.blob_len == w.blob_len && memcmp(sealed.blob, w.blob, w.blob_len) == 0, "%s", shapes[i].template);
        qm_ek_close(&ek);
    }
    craft_free_all();
}
