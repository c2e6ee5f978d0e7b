/* Every kernel that was built and runs on this CPU, against the oracle: good, random and crooked
 * signatures, every lane, every batch size from 1 to 33; hashes against OpenSSL's. QM_SEED sets the
 * seed, QM_CASES the least number of cases a class. */
#include <criterion/criterion.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/forge.h"

enum { CASE_MAX = 512, BATCH_MAX = 33, EM_MAX = 512 };

struct sample {
    const char *what;
    struct qm_sig_job job;
    bool want;
    bool outside; /* r or s not in [1, n-1], which the contract keeps from the kernels: portable
                     only */
};

struct set {
    struct forge_rng rng;
    enum qm_sig_class sig_class;
    struct sample sample[CASE_MAX];
    size_t count;
};

enum want { NO, YES, ASK }; /* ASK: whatever the oracle says */

static void add(struct set *s, const char *what, const struct qm_key *key, const uint8_t *digest,
                const uint8_t *sig, enum qm_hash hash, enum qm_scheme scheme, enum want want)
{
    size_t sig_len = scheme == QM_SCHEME_ECDSA ? key->bits / 4u : (key->bits + 7u) / 8;
    cr_assert_lt(s->count, CASE_MAX);
    struct sample *c = &s->sample[s->count++];
    *c = (struct sample){
        .what = what,
        .job = {.key = key,
                .digest = forge_copy(digest, qm_hash_size(hash)),
                .sig = forge_copy(sig, sig_len),
                .hash = (uint8_t)hash,
                .scheme = (uint8_t)scheme},
    };
    struct qm_fault fault = {.text = ""};
    cr_assert_eq(qm_oracle_verify(&c->job, &c->want, &fault), QM_OK, "%s: %s", what, fault.text);
    if (want != ASK)
        cr_assert_eq(c->want, want == YES, "the oracle says %d to: %s (%u bits, hash %d)", c->want,
                     what, key->bits, hash);
}

static enum qm_hash random_hash(struct set *s)
{
    return (enum qm_hash)(QM_HASH_SHA256 + forge_below(&s->rng, 3));
}

/* ---- RSA cases
 * ----------------------------------------------------------------------------------------------------
 */

static void add_em(struct set *s, const char *what, const struct forge_rsa *k,
                   const uint8_t *digest, const uint8_t *em, enum qm_hash hash,
                   enum qm_scheme scheme, enum want want)
{
    uint8_t sig[EM_MAX];
    if (forge_rsa_sign(k, em, sig)) /* no signature gives an em >= n */
        add(s, what, k->key, digest, sig, hash, scheme, want);
}

/* 00 01 ff.. 00 info digest rest */
static void em_of(uint8_t *em, size_t len, const uint8_t *info, size_t info_len,
                  const uint8_t *digest, size_t size, size_t rest)
{
    memset(em, 0xff, len);
    em[0] = 0;
    em[1] = 1;
    uint8_t *p = em + len - rest - size - info_len;
    p[-1] = 0;
    memcpy(p, info, info_len);
    memcpy(p + info_len, digest, size);
    memset(p + info_len + size, 0x5a, rest);
}

static void pkcs1_cases(struct set *s, const struct forge_rsa *k, enum qm_hash hash)
{
    static const uint8_t oid_start[] = {0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02};
    const enum qm_scheme scheme = QM_SCHEME_RSASSA;
    uint8_t digest[QM_DIGEST_MAX], good[EM_MAX], em[EM_MAX], sig[EM_MAX];
    uint8_t size = (uint8_t)qm_hash_size(hash);
    uint8_t oid_end = (uint8_t)(hash - QM_HASH_SHA256 + 1);
    size_t len = k->len;
    size_t info = len - size - 19; /* where DigestInfo starts */
    forge_pattern(&s->rng, digest, sizeof digest);
    forge_pkcs1(good, len, hash, digest);
    add_em(s, "pkcs1", k, digest, good, hash, scheme, YES);
    cr_assert(forge_rsa_sign(k, good, sig));
    add(s, "pkcs1 taken for pss", k->key, digest, sig, hash, QM_SCHEME_RSAPSS, NO);
    enum qm_hash other = hash == QM_HASH_SHA256 ? QM_HASH_SHA512 : QM_HASH_SHA256;
    add(s, "pkcs1 taken for another hash", k->key, digest, sig, other, scheme, NO);
    sig[forge_below(&s->rng, len)] ^= (uint8_t)(1u << forge_below(&s->rng, 8));
    add(s, "pkcs1, a bit of the signature flipped", k->key, digest, sig, hash, scheme, NO);

    const struct {
        const char *what;
        size_t at;
        uint8_t flip;
    } flips[] = {
        {"pkcs1, first byte not 00", 0, 0x01},
        {"pkcs1, block type 02", 1, 0x03},
        {"pkcs1, block type 00", 1, 0x01},
        {"pkcs1, padding not ff at its start", 2, 0x01},
        {"pkcs1, padding not ff at its end", info - 2, 0x80},
        {"pkcs1, padding not ff in the middle", 2 + forge_below(&s->rng, info - 4), 0x10},
        {"pkcs1, no 00 after the padding", info - 1, 0xff},
        {"pkcs1, 01 after the padding", info - 1, 0x01},
        {"pkcs1, the OID of another hash", info + 14, 0x04},
        {"pkcs1, digest's last bit", len - 1, 0x01},
        {"pkcs1, digest's first bit", len - size, 0x80},
    };
    for (size_t i = 0; i < QM_COUNT(flips); i++) {
        memcpy(em, good, len);
        em[flips[i].at] ^= flips[i].flip;
        add_em(s, flips[i].what, k, digest, em, hash, scheme, NO);
    }

    /* AlgorithmIdentifier without its NULL, and BER that is not DER */
    uint8_t no_null[17] = {0x30, (uint8_t)(size + 15), 0x30, 0x0b, 0x06, 0x09};
    memcpy(no_null + 6, oid_start, sizeof oid_start);
    memcpy(no_null + 14, (uint8_t[]){oid_end, 0x04, size}, 3);
    em_of(em, len, no_null, sizeof no_null, digest, size, 0);
    add_em(s, "pkcs1, no NULL", k, digest, em, hash, scheme, NO);
    uint8_t long_form[20] = {0x30, 0x81, (uint8_t)(size + 17)};
    memcpy(long_form + 3, good + info + 2, 17);
    em_of(em, len, long_form, sizeof long_form, digest, size, 0);
    add_em(s, "pkcs1, a length in the long form", k, digest, em, hash, scheme, NO);
    em_of(em, len, good + info, 19, digest, size, 1);
    add_em(s, "pkcs1, a byte after the digest", k, digest, em, hash, scheme, NO);
    em_of(em, len, good + info, 19, digest, size, len - size - 19 - 11);
    add_em(s, "pkcs1, garbage after the digest, eight bytes of padding", k, digest, em, hash,
           scheme, NO);
    em_of(em, len, digest, 0, digest, size, 0);
    add_em(s, "pkcs1, no DigestInfo", k, digest, em, hash, scheme, NO);
}

static void pss_cases(struct set *s, const struct forge_rsa *k, enum qm_hash hash)
{
    const enum qm_scheme scheme = QM_SCHEME_RSAPSS;
    uint8_t digest[QM_DIGEST_MAX], salt[EM_MAX], em[EM_MAX], good[EM_MAX], sig[EM_MAX];
    size_t size = qm_hash_size(hash), len = k->len;
    size_t em_len = (k->bits - 1 + 7) / 8;
    size_t longest = em_len - size - 2;
    size_t skip = len - em_len; /* 1 where the encoded message is shorter than the modulus */
    forge_pattern(&s->rng, digest, sizeof digest);
    forge_pattern(&s->rng, salt, sizeof salt);
    const struct {
        const char *what;
        size_t salt_len;
        enum want want;
    } lengths[] = {
        {"pss, salt as long as the digest", size, YES},
        {"pss, the longest salt", longest, YES},
        {"pss, no salt", 0, NO},
        {"pss, salt of one byte", 1, NO},
        {"pss, salt one short of the digest", size - 1, NO},
        {"pss, salt one longer than the digest", size + 1, NO},
        {"pss, salt one short of the longest", longest - 1, NO},
    };
    for (size_t i = 0; i < QM_COUNT(lengths); i++) {
        forge_pss(em, k->bits, hash, hash, digest, salt, lengths[i].salt_len);
        add_em(s, lengths[i].what, k, digest, em, hash, scheme, lengths[i].want);
    }
    forge_pss(good, k->bits, hash, hash, digest, salt, size);
    cr_assert(forge_rsa_sign(k, good, sig));
    add(s, "pss taken for pkcs1", k->key, digest, sig, hash, QM_SCHEME_RSASSA, NO);
    sig[forge_below(&s->rng, len)] ^= (uint8_t)(1u << forge_below(&s->rng, 8));
    add(s, "pss, a bit of the signature flipped", k->key, digest, sig, hash, scheme, NO);

    const struct {
        const char *what;
        size_t at;
        uint8_t flip;
    } flips[] = {
        {"pss, trailer", len - 1, 0x01},     {"pss, trailer cc", len - 1, 0x70},
        {"pss, H", len - 2, 0x01},           {"pss, H's first bit", len - 1 - size, 0x80},
        {"pss, salt", len - 2 - size, 0x01}, {"pss, masked padding", skip + 1, 0x01},
    };
    for (size_t i = 0; i < QM_COUNT(flips); i++) {
        memcpy(em, good, len);
        em[flips[i].at] ^= flips[i].flip;
        add_em(s, flips[i].what, k, digest, em, hash, scheme, NO);
    }
    /* the bits above emBits, of those that the modulus leaves room for: 2^(bits - 1) */
    memcpy(em, good, len);
    em[0] |= (uint8_t)(1u << (k->bits - 1) % 8);
    add_em(s, "pss, a bit above emBits", k, digest, em, hash, scheme, NO);
    forge_pss_odd(em, k->bits, hash, hash, digest, salt, size, 0, 2);
    add_em(s, "pss, 02 before the salt", k, digest, em, hash, scheme, NO);
    forge_pss_odd(em, k->bits, hash, hash, digest, salt, size, 0, 0);
    add_em(s, "pss, 00 before the salt", k, digest, em, hash, scheme, ASK);
    forge_pss_odd(em, k->bits, hash, hash, digest, salt, size, 1, 1);
    add_em(s, "pss, a salt that starts a byte early", k, digest, em, hash, scheme, NO);
    forge_pss_odd(em, k->bits, hash, hash, digest, salt, size, 3, 1);
    add_em(s, "pss, padding not zero", k, digest, em, hash, scheme, NO);
    enum qm_hash other = hash == QM_HASH_SHA256 ? QM_HASH_SHA384 : QM_HASH_SHA256;
    forge_pss(em, k->bits, hash, other, digest, salt, size);
    add_em(s, "pss, MGF1 with another hash", k, digest, em, hash, scheme, NO);
    digest[0] ^= 1;
    add_em(s, "pss, a bit of the digest flipped", k, digest, good, hash, scheme, NO);
}

/* Numbers as signatures: around 0 and n, a good one plus n, patterns. */
static void number_cases(struct set *s, const struct forge_rsa *k)
{
    uint8_t digest[QM_DIGEST_MAX], em[EM_MAX], sig[EM_MAX];
    int len = (int)k->len;
    BIGNUM *v = BN_new();
    forge_bytes(&s->rng, digest, sizeof digest);
    for (int i = -2; i <= 6; i++) {
        bool near_n = i < 3;
        cr_assert(near_n ? BN_copy(v, k->n) != NULL : BN_set_word(v, (BN_ULONG)i - 3));
        if (near_n && i < 0)
            cr_assert(BN_sub_word(v, (BN_ULONG)-i));
        if (near_n && i > 0)
            cr_assert(BN_add_word(v, (BN_ULONG)i));
        if (BN_bn2binpad(v, sig, len) == len)
            add(s, near_n ? "a signature near n" : "a signature near 0", k->key, digest, sig,
                random_hash(s), i % 2 != 0 ? QM_SCHEME_RSASSA : QM_SCHEME_RSAPSS, NO);
    }
    forge_pkcs1(em, k->len, QM_HASH_SHA256, digest);
    cr_assert(forge_rsa_sign(k, em, sig));
    cr_assert(BN_bin2bn(sig, len, v) && BN_add(v, v, k->n));
    if (BN_bn2binpad(v, sig, len) == len)
        add(s, "a good signature plus n", k->key, digest, sig, QM_HASH_SHA256, QM_SCHEME_RSASSA,
            NO);
    memset(sig, 0xff, sizeof sig);
    add(s, "a signature of ones", k->key, digest, sig, QM_HASH_SHA256, QM_SCHEME_RSASSA, NO);
    for (int i = 0; i < 6; i++) {
        forge_pattern(&s->rng, sig, k->len);
        add(s, "a pattern as signature", k->key, digest, sig, random_hash(s),
            i % 2 != 0 ? QM_SCHEME_RSASSA : QM_SCHEME_RSAPSS, NO);
    }
    BN_free(v);
}

struct rsa_spec {
    unsigned bits;
    uint64_t exponent;
    enum forge_shape shape;
};

/* Two keys at least; each is also tried with the signatures of the one before. */
static void rsa_set(struct set *s, const struct rsa_spec *spec, size_t count)
{
    size_t start = 0;
    for (size_t i = 0; i < count; i++) {
        struct forge_rsa k;
        forge_rsa_make(&s->rng, &k, spec[i].bits, spec[i].exponent, spec[i].shape);
        for (size_t j = start, end = s->count; j < end && j < start + 3; j++)
            if (s->sample[j].job.key->bits == k.bits)
                add(s, "the key of another", k.key, s->sample[j].job.digest, s->sample[j].job.sig,
                    (enum qm_hash)s->sample[j].job.hash, (enum qm_scheme)s->sample[j].job.scheme,
                    NO);
        start = s->count;
        /* each hash with one of the keys in full, chosen anew in every round */
        pkcs1_cases(s, &k, random_hash(s));
        pss_cases(s, &k, random_hash(s));
        number_cases(s, &k);
    }
}

/* ---- ECDSA cases
 * --------------------------------------------------------------------------------------------------
 */

static BIGNUM *random_scalar(struct set *s, const struct forge_curve *c)
{
    uint8_t raw[48];
    BIGNUM *v = BN_new();
    BN_CTX *ctx = BN_CTX_new();
    do {
        forge_pattern(&s->rng, raw, c->size);
        cr_assert(BN_bin2bn(raw, (int)c->size, v) && BN_nnmod(v, v, c->n, ctx));
    } while (BN_is_zero(v));
    BN_CTX_free(ctx);
    return v;
}

/* The hash whose digest is as long as a scalar. */
static enum qm_hash own_hash(const struct forge_curve *c)
{
    return c->size == 32 ? QM_HASH_SHA256 : QM_HASH_SHA384;
}

static void digest_to_e(const struct forge_curve *c, const uint8_t *digest, enum qm_hash hash,
                        BIGNUM *e)
{
    size_t size = qm_hash_size(hash) < c->size ? qm_hash_size(hash) : c->size;
    cr_assert_not_null(BN_bin2bn(digest, (int)size, e));
}

/* An ordinary signature by d and what can be done to it. */
static void ec_plain_cases(struct set *s, const struct forge_curve *c, const BIGNUM *d,
                           enum qm_hash hash, bool spoil)
{
    uint8_t digest[QM_DIGEST_MAX], rs[96], bad[96];
    struct qm_key *key = forge_ec_key_of(c, d);
    const enum qm_scheme scheme = QM_SCHEME_ECDSA;
    size_t size = c->size;
    BIGNUM *e = BN_new();
    forge_pattern(&s->rng, digest, sizeof digest);
    digest_to_e(c, digest, hash, e);
    forge_ec_sign(&s->rng, c, d, e, rs);
    add(s, "ecdsa", key, digest, rs, hash, scheme, YES);
    if (spoil) {
        BIGNUM *v = BN_new();
        cr_assert(BN_bin2bn(rs + size, (int)size, v) && BN_sub(v, c->n, v));
        memcpy(bad, rs, size);
        cr_assert_eq(BN_bn2binpad(v, bad + size, (int)size), (int)size);
        add(s, "ecdsa, n - s for s", key, digest, bad, hash, scheme, YES);
        BN_free(v);
        memcpy(bad, rs + size, size);
        memcpy(bad + size, rs, size);
        add(s, "ecdsa, r and s exchanged", key, digest, bad, hash, scheme, NO);
        memcpy(bad, rs, 2 * size);
        bad[size - 1] ^= 1;
        add(s, "ecdsa, r's last bit", key, digest, bad, hash, scheme, ASK);
        memcpy(bad, rs, 2 * size);
        bad[size + forge_below(&s->rng, size)] ^= (uint8_t)(1u << forge_below(&s->rng, 8));
        add(s, "ecdsa, a bit of s", key, digest, bad, hash, scheme, NO);
        s->sample[s->count - 1].outside = true; /* may be */
        memset(bad, 0, size - 1);
        bad[size - 1] = 1;
        memcpy(bad + size, rs + size, size);
        add(s, "ecdsa, r 1", key, digest, bad, hash, scheme, NO);
        memcpy(bad + size, bad, size);
        add(s, "ecdsa, r and s 1", key, digest, bad, hash, scheme, NO);
        digest[forge_below(&s->rng, qm_hash_size(hash) < size ? qm_hash_size(hash) : size)] ^= 0x20;
        add(s, "ecdsa, a bit of the digest", key, digest, rs, hash, scheme, NO);
        enum want negated = BN_is_zero(e) ? YES : NO; /* x(u2 Q) = x(-u2 Q) */
        cr_assert(BN_sub(e, c->n, d));
        add(s, "ecdsa, the negated key", forge_ec_key_of(c, e), s->sample[s->count - 8].job.digest,
            rs, hash, scheme, negated);
    }
    BN_free(e);
}

/* r, s around 0 and n. */
static void ec_edge_cases(struct set *s, const struct forge_curve *c, const BIGNUM *d)
{
    uint8_t digest[QM_DIGEST_MAX], rs[96], edge[5][48], good[96];
    struct qm_key *key = forge_ec_key_of(c, d);
    BIGNUM *v = BN_new();
    size_t size = c->size;
    int len = (int)size;
    forge_bytes(&s->rng, digest, sizeof digest);
    digest_to_e(c, digest, own_hash(c), v);
    forge_ec_sign(&s->rng, c, d, v, good);
    memset(edge[0], 0, size);
    cr_assert_eq(BN_bn2binpad(c->n, edge[1], len), len);
    cr_assert(BN_copy(v, c->n) && BN_add_word(v, 1) && BN_bn2binpad(v, edge[2], len) == len);
    memset(edge[3], 0xff, size);
    cr_assert(BN_sub_word(v, 2) && BN_bn2binpad(v, edge[4], len) == len);
    for (size_t i = 0; i < 36; i++) {
        const uint8_t *r = i % 6 < 5 ? edge[i % 6] : good;
        const uint8_t *t = i / 6 < 5 ? edge[i / 6] : good + size;
        bool inside = (r == good || r == edge[4]) && (t == good + size || t == edge[4]);
        if (r == good && t == good + size)
            continue;
        memcpy(rs, r, size);
        memcpy(rs + size, t, size);
        add(s, "ecdsa, r or s at an edge", key, digest, rs, own_hash(c), QM_SCHEME_ECDSA, NO);
        s->sample[s->count - 1].outside = !inside;
    }
    BN_free(v);
}

/* u1 G and u2 Q related: equal (their sum is a doubling), opposite (their sum is no point), e = 0,
 * digests >= n. */
static void ec_relation_cases(struct set *s, const struct forge_curve *c, const BIGNUM *d)
{
    uint8_t digest[48], rs[96];
    struct qm_key *key = forge_ec_key_of(c, d);
    BN_CTX *ctx = BN_CTX_new();
    BIGNUM *e = BN_new(), *r = BN_new(), *k = random_scalar(s, c), *t = BN_new();
    EC_POINT *point = EC_POINT_new(c->group);
    size_t size = c->size;
    int len = (int)size;

    cr_assert(EC_POINT_mul(c->group, point, k, NULL, NULL, ctx));
    cr_assert(EC_POINT_get_affine_coordinates(c->group, point, r, NULL, ctx));
    cr_assert(BN_nnmod(r, r, c->n, ctx) && BN_mod_mul(e, r, d, c->n, ctx));
    cr_assert_eq(BN_bn2binpad(e, digest, len), len);
    /* s = (e + r d) / k = 2 r d / k */
    cr_assert(BN_mod_inverse(t, k, c->n, ctx) && BN_mod_mul(t, t, e, c->n, ctx) &&
              BN_mod_add(t, t, t, c->n, ctx));
    cr_assert_eq(BN_bn2binpad(r, rs, len), len);
    cr_assert_eq(BN_bn2binpad(t, rs + size, len), len);
    add(s, "ecdsa, u1 G = u2 Q", key, digest, rs, own_hash(c), QM_SCHEME_ECDSA, YES);

    cr_assert(BN_sub(e, c->n, e)); /* e = -r d */
    cr_assert_eq(BN_bn2binpad(e, digest, len), len);
    add(s, "ecdsa, u1 G = -u2 Q", key, digest, rs, own_hash(c), QM_SCHEME_ECDSA, NO);

    BN_zero(e);
    memset(digest, 0, size);
    forge_ec_sign(&s->rng, c, d, e, rs);
    add(s, "ecdsa, a digest of 0", key, digest, rs, own_hash(c), QM_SCHEME_ECDSA, YES);
    cr_assert_eq(BN_bn2binpad(c->n, digest, len), len);
    add(s, "ecdsa, a digest of n", key, digest, rs, own_hash(c), QM_SCHEME_ECDSA, YES);
    memset(digest, 0xff, size);
    digest_to_e(c, digest, own_hash(c), e);
    forge_ec_sign(&s->rng, c, d, e, rs);
    add(s, "ecdsa, a digest of ones", key, digest, rs, own_hash(c), QM_SCHEME_ECDSA, YES);

    EC_POINT_free(point);
    BN_free(t);
    BN_free(k);
    BN_free(r);
    BN_free(e);
    BN_CTX_free(ctx);
}

/* Chosen u1, u2 and R: structured scalars, and x of R at the edges, also in [n, p), where r = x -
 * n. */
static void ec_around_cases(struct set *s, const struct forge_curve *c, size_t count)
{
    uint8_t digest[48], rs[96];
    BIGNUM *e = BN_new();
    for (size_t i = 0; i < count; i++) {
        BIGNUM *u1 = random_scalar(s, c), *u2 = random_scalar(s, c), *x = random_scalar(s, c);
        const char *what = "ecdsa, patterns as u1 and u2";
        if (i % 8 == 0) {
            cr_assert_not_null(BN_copy(x, c->n));
            what = "ecdsa, x of R in [n, p)";
        } else if (i % 8 == 1) {
            cr_assert(BN_set_word(x, 1));
            what = "ecdsa, a small r";
        } else if (i % 8 == 2) {
            BN_zero(u1);
            what = "ecdsa, u1 0";
        } else if (i % 8 == 3) {
            cr_assert(BN_set_word(u1, 1 + forge_below(&s->rng, 3)));
            what = "ecdsa, a small u1";
        } else if (i % 8 == 4) {
            cr_assert(BN_set_word(u2, 1 + forge_below(&s->rng, 3)));
            what = "ecdsa, a small u2";
        }
        EC_POINT *point = forge_ec_point(c, x);
        struct qm_key *key = forge_ec_around(c, point, u1, u2, e, rs);
        if (key != NULL) {
            cr_assert_eq(BN_bn2binpad(e, digest, (int)c->size), (int)c->size);
            add(s, what, key, digest, rs, own_hash(c), QM_SCHEME_ECDSA, YES);
            rs[c->size - 1] ^= 2;
            add(s, "ecdsa around a point, another r", key, digest, rs, own_hash(c), QM_SCHEME_ECDSA,
                ASK);
            s->sample[s->count - 1].outside = true; /* may be 0 or n */
        }
        BN_free(x);
        BN_free(u2);
        BN_free(u1);
    }
    BN_free(e);
}

static void ec_set(struct set *s)
{
    const struct forge_curve *c = forge_curve(s->sig_class);
    for (int i = 0; i < 8; i++) {
        BIGNUM *d = random_scalar(s, c);
        if (i < 2)
            cr_assert(BN_set_word(d, 1 + (BN_ULONG)i)); /* Q = G, Q = 2 G */
        if (i == 2)
            cr_assert(BN_sub(d, c->n, BN_value_one())); /* Q = -G */
        ec_plain_cases(s, c, d, i < 6 ? (enum qm_hash)(QM_HASH_SHA256 + i % 3) : random_hash(s),
                       i < 5);
        if (i % 3 == 0)
            ec_relation_cases(s, c, d);
        if (i == 4)
            ec_edge_cases(s, c, d);
        BN_free(d);
    }
    ec_around_cases(s, c, 24);
}

/* ---- kernels against the set
 * -------------------------------------------------------------------------------------- */

static bool runs_here(uint64_t needs)
{
    return (needs & ~qm_cpu_features()) == 0;
}

struct runner {
    const struct qm_sig_kernel *kernel;
    void *scratch;
};

/* Every job has said the opposite before. */
static void run_batch(const struct runner *r, struct sample *const *samples, size_t count)
{
    struct qm_sig_job job[CASE_MAX], *order[CASE_MAX] = {NULL};
    for (size_t i = 0; i < count; i++) {
        job[i] = samples[i]->job;
        job[i].valid = !samples[i]->want;
        order[i] = &job[i];
    }
    r->kernel->verify(r->scratch, order, count);
    for (size_t i = 0; i < count; i++)
        cr_assert_eq(job[i].valid, samples[i]->want,
                     "kernel %s, %s, %u bits, exponent %u, hash %u: says %d to '%s' at %zu of %zu",
                     r->kernel->name, qm_sig_class_name(job[i].key->sig_class), job[i].key->bits,
                     job[i].key->exponent, job[i].hash, job[i].valid, samples[i]->what, i, count);
}

static void shuffle(struct forge_rng *rng, struct sample **p, size_t count)
{
    for (size_t i = count; i > 1; i--) {
        size_t j = forge_below(rng, i);
        struct sample *t = p[i - 1];
        p[i - 1] = p[j];
        p[j] = t;
    }
}

/* One sample of the other kind among its opposites, at every place of a batch that fills the lanes.
 */
static void run_lanes(const struct runner *r, struct forge_rng *rng, struct sample *const *samples,
                      size_t count)
{
    struct sample *kind[2][CASE_MAX], *batch[BATCH_MAX];
    size_t have[2] = {0, 0};
    size_t lanes = r->kernel->lanes < BATCH_MAX ? r->kernel->lanes : BATCH_MAX;
    for (size_t i = 0; i < count; i++)
        kind[samples[i]->want][have[samples[i]->want]++] = samples[i];
    cr_assert(have[0] != 0 && have[1] != 0);
    for (size_t odd = 0; odd < 2; odd++)
        for (size_t at = 0; at < lanes; at++) {
            for (size_t i = 0; i < lanes; i++)
                batch[i] = kind[odd ^ 1][forge_below(rng, have[odd ^ 1])];
            batch[at] = kind[odd][forge_below(rng, have[odd])];
            run_batch(r, batch, lanes);
        }
}

static void check_kernel(struct set *s, const struct qm_sig_kernel *k)
{
    struct sample *order[CASE_MAX];
    struct qm_fault fault = {.text = ""};
    struct runner r = {k,
                       aligned_alloc(QM_CACHE_LINE, qm_align_up(k->scratch_size(), QM_CACHE_LINE))};
    size_t count = 0;
    for (size_t i = 0; i < s->count; i++)
        if (!s->sample[i].outside || k == &qm_sig_openssl)
            order[count++] = &s->sample[i];
    cr_assert_not_null(r.scratch);
    cr_assert_eq(k->init(r.scratch, &qm_hash_openssl, &fault), QM_OK, "%s", fault.text);
    run_batch(&r, order, 0);
    run_batch(&r, order, count);
    for (size_t size = 1; size <= BATCH_MAX; size++) {
        shuffle(&s->rng, order, count);
        run_batch(&r, order, size < count ? size : count);
    }
    run_lanes(&r, &s->rng, order, count);
    k->close(r.scratch);
    free(r.scratch);
}

static void check_class(enum qm_sig_class sig_class, const struct rsa_spec *spec, size_t specs)
{
    const char *env = getenv("QM_CASES");
    unsigned long long least = env != NULL ? strtoull(env, NULL, 0) : 1;
    unsigned long long done = 0;
    struct set *s = calloc(1, sizeof *s);
    cr_assert_not_null(s);
    s->rng = forge_seed(qm_sig_class_name(sig_class));
    s->sig_class = sig_class;
    while (done < least) {
        s->count = 0;
        if (spec != NULL)
            rsa_set(s, spec, specs);
        else
            ec_set(s);
        for (size_t i = 0; i < s->count; i++)
            cr_assert_eq(s->sample[i].job.key->sig_class, sig_class);
        for (size_t i = 0; i < qm_sig_kernel_count; i++)
            if ((qm_sig_kernels[i]->classes >> sig_class & 1) != 0 &&
                runs_here(qm_sig_kernels[i]->cpu))
                check_kernel(s, qm_sig_kernels[i]);
        done += s->count;
        forge_free_all();
    }
    fprintf(stderr, "%s: %llu cases\n", qm_sig_class_name(sig_class), done);
    free(s);
}

Test(kernels, rsa2048)
{
    const struct rsa_spec spec[] = {
        {2048, 65537, FORGE_RANDOM},       {2048, 65537, FORGE_ONES},
        {2048, 65537, FORGE_SPARSE},       {2048, 65539, FORGE_RANDOM},
        {2048, 0x10000000f, FORGE_RANDOM}, {2048, 0xffffffffffffffc5, FORGE_RANDOM},
    };
    check_class(QM_SIG_RSA2048, spec, QM_COUNT(spec));
}

Test(kernels, rsa3072)
{
    const struct rsa_spec spec[] = {
        {3072, 65537, FORGE_RANDOM},
        {3072, 65537, FORGE_ONES},
        {3072, 65537, FORGE_SPARSE},
        {3072, 0x10000000f, FORGE_RANDOM},
    };
    check_class(QM_SIG_RSA3072, spec, QM_COUNT(spec));
}

Test(kernels, rsa4096)
{
    const struct rsa_spec spec[] = {
        {4096, 65537, FORGE_RANDOM},
        {4096, 65537, FORGE_ONES},
        {4096, 65537, FORGE_SPARSE},
        {4096, 65539, FORGE_RANDOM},
    };
    check_class(QM_SIG_RSA4096, spec, QM_COUNT(spec));
}

Test(kernels, rsa_any)
{
    const struct rsa_spec spec[] = {
        {2049, 65537, FORGE_RANDOM}, {2056, 65537, FORGE_ONES},         {2055, 65539, FORGE_SPARSE},
        {2057, 65537, FORGE_SPARSE}, {3071, 65537, FORGE_RANDOM},       {3073, 65537, FORGE_ONES},
        {4095, 65537, FORGE_ONES},   {4089, 0x10000000f, FORGE_SPARSE},
    };
    check_class(QM_SIG_RSA_ANY, spec, QM_COUNT(spec));
}

Test(kernels, p256)
{
    check_class(QM_SIG_P256, NULL, 0);
}

Test(kernels, p384)
{
    check_class(QM_SIG_P384, NULL, 0);
}

/* More keys than the portable kernel keeps prepared, and a key written over where it lay. */
Test(kernels, keys_come_and_go)
{
    struct forge_rng rng = forge_seed("keys_come_and_go");
    struct forge_rsa a, b;
    forge_rsa_make(&rng, &a, 2048, 65537, FORGE_RANDOM);
    forge_rsa_make(&rng, &b, 2048, 65537, FORGE_RANDOM);
    uint8_t digest[32], em[EM_MAX], sig[2][EM_MAX];
    forge_bytes(&rng, digest, sizeof digest);
    forge_pkcs1(em, 256, QM_HASH_SHA256, digest);
    cr_assert(forge_rsa_sign(&a, em, sig[0]) && forge_rsa_sign(&b, em, sig[1]));
    struct qm_key *place = aligned_alloc(QM_CACHE_LINE, QM_KEY_BYTES_MAX);
    for (size_t i = 0; i < qm_sig_kernel_count; i++) {
        const struct qm_sig_kernel *k = qm_sig_kernels[i];
        if ((k->classes >> QM_SIG_RSA2048 & 1) == 0 || !runs_here(k->cpu))
            continue;
        void *scratch = aligned_alloc(QM_CACHE_LINE, qm_align_up(k->scratch_size(), QM_CACHE_LINE));
        struct qm_fault fault;
        cr_assert_eq(k->init(scratch, &qm_hash_openssl, &fault), QM_OK);
        for (int round = 0; round < 6; round++) {
            const struct qm_key *now = round % 2 == 0 ? a.key : b.key;
            memcpy(place, now, now->bytes);
            if (round >= 2) /* the low limb, and n0inv, of the other: still another modulus */
                place->n0inv = a.key->n0inv;
            struct qm_sig_job job[2] = {
                {place, digest, sig[0], QM_HASH_SHA256, QM_SCHEME_RSASSA, false},
                {place, digest, sig[1], QM_HASH_SHA256, QM_SCHEME_RSASSA, false},
            };
            struct qm_sig_job *order[2] = {&job[0], &job[1]};
            if (round >= 2 && k != &qm_sig_openssl)
                break; /* n0inv is what others compute with */
            k->verify(scratch, order, 2);
            cr_assert_eq(job[0].valid, round % 2 == 0);
            cr_assert_eq(job[1].valid, round % 2 == 1);
        }
        /* moduli that sign nothing push the good one out of its place */
        for (uint64_t j = 0; j < 600; j++) {
            uint8_t n[256];
            forge_bytes(&rng, n, sizeof n);
            n[0] |= 0x80;
            n[255] |= 1;
            struct qm_public_numbers numbers = {.rsa = true, .exponent = 65537, .a = {n, sizeof n}};
            cr_assert_eq(qm_key_make(&numbers, place, &fault), QM_OK);
            struct qm_sig_job job[2] = {
                {place, digest, sig[0], QM_HASH_SHA256, QM_SCHEME_RSASSA, true},
                {a.key, digest, sig[0], QM_HASH_SHA256, QM_SCHEME_RSASSA, false},
            };
            struct qm_sig_job *order[2] = {&job[0], &job[1]};
            k->verify(scratch, order, 2);
            cr_assert(!job[0].valid && job[1].valid);
        }
        k->close(scratch);
        free(scratch);
    }
    free(place);
    forge_free_all();
}

/* ---- hashes
 * -------------------------------------------------------------------------------------------------------
 */

static void evp_hash(const char *name, const void *p, size_t len, uint8_t *digest)
{
    cr_assert_eq(EVP_Q_digest(NULL, name, NULL, p, len, digest, NULL), 1);
}

Test(hashes, one_message_any_hash)
{
    static const char *const names[QM_HASH_COUNT] = {NULL, "SHA1", "SHA256", "SHA384", "SHA512"};
    struct forge_rng rng = forge_seed("one_message_any_hash");
    for (enum qm_hash h = QM_HASH_SHA1; h < QM_HASH_COUNT; h++)
        for (size_t len = 0; len <= 300; len++) {
            uint8_t got[64], want[64], both[128];
            uint8_t *text = malloc(len + 1);
            forge_bytes(&rng, text, len);
            qm_hash_one(h, (struct qm_span){text, len}, got);
            evp_hash(names[h], text, len, want);
            cr_assert_arr_eq(got, want, qm_hash_size(h));
            free(text);
            size_t size = qm_hash_size(h);
            forge_bytes(&rng, both, 2 * size);
            memcpy(got, both, size);
            qm_hash_extend(h, got, both + size);
            evp_hash(names[h], both, 2 * size, want);
            cr_assert_arr_eq(got, want, size);
        }
}

static void check_digests(const struct qm_hash_kernel *k, struct forge_rng *rng, size_t count,
                          size_t first_len)
{
    enum { SOME = 301 };
    struct qm_message message[SOME] = {{NULL, 0, NULL}};
    uint8_t *got = malloc(32 * count);
    for (size_t i = 0; i < count; i++) {
        size_t len = first_len != SIZE_MAX ? (first_len + i) % SOME : forge_below(rng, SOME);
        uint8_t text[SOME];
        forge_bytes(rng, text, len);
        message[i] = (struct qm_message){forge_copy(text, len), (uint32_t)len, got + 32 * i};
    }
    k->digest(message, count);
    for (size_t i = 0; i < count; i++) {
        uint8_t want[32];
        evp_hash("SHA256", message[i].p, message[i].len, want);
        cr_assert_arr_eq(message[i].digest, want, 32, "kernel %s, message %zu of %zu, %u bytes",
                         k->name, i, count, message[i].len);
    }
    free(got);
    forge_free_all();
}

Test(hashes, messages)
{
    struct forge_rng rng = forge_seed("messages");
    for (size_t i = 0; i < qm_hash_kernel_count; i++) {
        const struct qm_hash_kernel *k = qm_hash_kernels[i];
        if (!runs_here(k->cpu))
            continue;
        check_digests(k, &rng, 0, 0);
        check_digests(k, &rng, 301, 0); /* every length from 0 to 300 at once */
        for (size_t len = 0; len <= 300; len++)
            check_digests(k, &rng, 1, len);
        for (size_t count = 1; count <= BATCH_MAX; count++)
            for (int j = 0; j < 4; j++)
                check_digests(k, &rng, count, j == 0 ? 40 : SIZE_MAX);
    }
}

/* Chains of count extends each as lengths says. */
static void check_chains(const struct qm_hash_kernel *k, struct forge_rng *rng, size_t count,
                         const uint32_t *lengths)
{
    struct qm_chain *chain = calloc(count + 1, sizeof *chain);
    uint8_t(*start)[32] = calloc(count + 1, 32);
    struct qm_lane_use use = {1000, 100};
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++) {
        const uint8_t **digest = calloc(lengths[i] + 1, sizeof *digest);
        for (uint32_t j = 0; j < lengths[i]; j++) {
            uint8_t raw[33]; /* odd addresses too */
            forge_pattern(rng, raw, sizeof raw);
            size_t odd = forge_below(rng, 2);
            digest[j] = forge_copy(raw, 32 + odd) + odd;
        }
        forge_pattern(rng, start[i], 32);
        memcpy(chain[i].value, start[i], 32);
        chain[i].digest = digest;
        chain[i].count = lengths[i];
        total += lengths[i];
    }
    k->extend(chain, count, &use);
    for (size_t i = 0; i < count; i++) {
        uint8_t both[64];
        memcpy(both, start[i], 32);
        for (uint32_t j = 0; j < lengths[i]; j++) {
            memcpy(both + 32, chain[i].digest[j], 32);
            evp_hash("SHA256", both, 64, both);
        }
        cr_assert_arr_eq(chain[i].value, both, 32, "kernel %s, chain %zu of %zu, %u extends",
                         k->name, i, count, lengths[i]);
        cr_assert_eq(chain[i].count, lengths[i]);
        free((void *)(uintptr_t)chain[i].digest);
    }
    cr_assert_eq(use.filled, 100 + total, "filled is added to");
    cr_assert_geq(use.steps, 1000 + total);
    free(start);
    free(chain);
    forge_free_all();
}

Test(hashes, chains)
{
    struct forge_rng rng = forge_seed("chains");
    for (size_t i = 0; i < qm_hash_kernel_count; i++) {
        const struct qm_hash_kernel *k = qm_hash_kernels[i];
        uint32_t lengths[201];
        if (!runs_here(k->cpu))
            continue;
        for (uint32_t j = 0; j < 201; j++)
            lengths[j] = j; /* every length once, ascending */
        check_chains(k, &rng, 201, lengths);
        for (uint32_t j = 0; j < 201; j++)
            lengths[j] = 200 - j;
        check_chains(k, &rng, 201, lengths);
        for (size_t count = 0; count <= BATCH_MAX; count++)
            for (int kind = 0; kind < 4; kind++) {
                for (size_t j = 0; j < count; j++)
                    lengths[j] = (uint32_t)(kind == 0   ? 0
                                            : kind == 1 ? 12
                                            : kind == 2 ? forge_below(&rng, 20)
                                                        : forge_below(&rng, 3) * 40);
                check_chains(k, &rng, count, lengths);
            }
    }
}

/* ---- choice and self-test
 * ----------------------------------------------------------------------------------------- */

Test(choice, portable_can_be_forced)
{
    struct qm_kernels k;
    struct qm_fault fault;
    cr_assert_eq(qm_kernels_choose(&k, "openssl", &fault), QM_OK);
    for (size_t c = 0; c < QM_SIG_CLASS_COUNT; c++)
        cr_assert_eq(k.sig[c], &qm_sig_openssl);
    cr_assert_eq(k.sha256, &qm_hash_openssl);
}

Test(choice, auto_takes_the_first_that_runs)
{
    const char *const automatic[] = {NULL, "auto", ""};
    for (size_t i = 0; i < QM_COUNT(automatic); i++) {
        struct qm_kernels k;
        struct qm_fault fault;
        cr_assert_eq(qm_kernels_choose(&k, automatic[i], &fault), QM_OK);
        for (size_t c = 0; c < QM_SIG_CLASS_COUNT; c++) {
            size_t j = 0;
            while ((qm_sig_kernels[j]->classes >> c & 1) == 0 || !runs_here(qm_sig_kernels[j]->cpu))
                j++;
#if defined(__x86_64__)
            if (qm_sig_kernels[j] == &qm_sig_rsa_ifma512 && (qm_cpu_features() & QM_CPU_DUALIFMA) != 0)
                cr_assert_eq(k.sig[c], &qm_sig_rsa_ifma512_dual);
            else
#endif
                cr_assert_eq(k.sig[c], qm_sig_kernels[j]);
        }
    }
}

#if defined(__x86_64__)
/* Two kernels of the same needs: the CPU says which is faster, a name overrules it. */
Test(choice, multipliers_choose_the_rsa_kernel)
{
    const uint64_t ifma = QM_CPU_AVX512 | QM_CPU_IFMA512 | QM_CPU_VBMI;
    const struct {
        uint64_t features;
        const char *forced;
        const struct qm_sig_kernel *want;
    } cases[] = {
        {ifma, NULL, &qm_sig_rsa_ifma512},
        {ifma | QM_CPU_DUALIFMA, NULL, &qm_sig_rsa_ifma512_dual},
        {ifma, "avx512ifma2", &qm_sig_rsa_ifma512_dual},
        {ifma | QM_CPU_DUALIFMA, "avx512ifma", &qm_sig_rsa_ifma512},
        {ifma | QM_CPU_DUALIFMA, "avx512ifma,avx512ifma2", &qm_sig_rsa_ifma512_dual},
        {QM_CPU_DUALIFMA, NULL, &qm_sig_openssl},
        {ifma | QM_CPU_DUALIFMA, "openssl", &qm_sig_openssl},
    };
    for (size_t i = 0; i < QM_COUNT(cases); i++) {
        struct qm_kernels k;
        struct qm_fault fault;
        cr_assert_eq(qm_kernels_choose_for(&k, cases[i].features, cases[i].forced, &fault), QM_OK);
        for (enum qm_sig_class c = QM_SIG_RSA2048; c <= QM_SIG_RSA4096; c++)
            cr_assert_eq(k.sig[c], cases[i].want, "case %zu, class %d", i, (int)c);
        cr_assert_eq(k.sig[QM_SIG_RSA_ANY], &qm_sig_openssl);
    }
}
#endif

/* Each kernel by its name serves its classes; what no named kernel serves stays portable. */
Test(choice, a_name_is_honoured_or_an_error)
{
    for (size_t i = 0; i < qm_sig_kernel_count; i++) {
        const struct qm_sig_kernel *forced = qm_sig_kernels[i];
        struct qm_kernels k;
        struct qm_fault fault;
        qm_err err = qm_kernels_choose(&k, forced->name, &fault);
        if (!runs_here(forced->cpu)) {
            cr_assert_eq(err, QM_E_UNFIT);
            continue;
        }
        for (size_t c = 0; c < QM_SIG_CLASS_COUNT && err == QM_OK; c++)
            if ((forced->classes >> c & 1) != 0)
                cr_assert_str_eq(k.sig[c]->name, forced->name);
            else
                cr_assert(k.sig[c] == &qm_sig_openssl || strcmp(k.sig[c]->name, forced->name) == 0);
    }
    const char *const unknown[] = {"nonsense", "openssl,nonsense", "openssl,", ",openssl",
                                   ",",        "auto,openssl",     "opens",    "openssl2",
                                   " openssl"};
    for (size_t i = 0; i < QM_COUNT(unknown); i++) {
        struct qm_kernels k;
        struct qm_fault fault = {.text = ""};
        cr_assert_eq(qm_kernels_choose(&k, unknown[i], &fault), QM_E_UNFIT, "%s", unknown[i]);
        cr_assert_neq(fault.text[0], '\0');
    }
}

Test(selftest, every_kernel_passes)
{
    for (size_t i = 0; i < qm_sig_kernel_count; i++) {
        struct qm_kernels k;
        struct qm_fault fault = {.text = ""};
        if (!runs_here(qm_sig_kernels[i]->cpu))
            continue;
        cr_assert_eq(qm_kernels_choose(&k, qm_sig_kernels[i]->name, &fault), QM_OK, "%s",
                     fault.text);
        cr_assert_eq(qm_kernels_selftest(&k, &fault), QM_OK, "%s", fault.text);
    }
    for (size_t i = 0; i < qm_hash_kernel_count; i++) {
        struct qm_kernels k;
        struct qm_fault fault = {.text = ""};
        if (!runs_here(qm_hash_kernels[i]->cpu))
            continue;
        cr_assert_eq(qm_kernels_choose(&k, qm_hash_kernels[i]->name, &fault), QM_OK);
        cr_assert_eq(qm_kernels_selftest(&k, &fault), QM_OK, "%s", fault.text);
    }
}

/* A kernel of eight lanes that errs in one of them, in one direction. */
static unsigned liar_lane;
static bool liar_says;

static void liar_verify(void *scratch, struct qm_sig_job *const *jobs, size_t count)
{
    qm_sig_openssl.verify(scratch, jobs, count);
    for (size_t i = liar_lane; i < count; i += 8)
        jobs[i]->valid = liar_says;
}

Test(selftest, a_wrong_lane_is_found)
{
    struct qm_sig_kernel liar = qm_sig_openssl;
    liar.name = "liar";
    liar.lanes = 8;
    liar.verify = liar_verify;
    for (unsigned c = 0; c < QM_SIG_CLASS_COUNT; c++)
        for (liar_lane = 0; liar_lane < 8; liar_lane++)
            for (int says = 0; says < 2; says++) {
                struct qm_kernels k;
                struct qm_fault fault = {.text = ""};
                liar_says = says != 0;
                cr_assert_eq(qm_kernels_choose(&k, "openssl", &fault), QM_OK);
                k.sig[c] = &liar;
                cr_assert_eq(qm_kernels_selftest(&k, &fault), QM_E_SELFTEST,
                             "class %u, lane %u, %d", c, liar_lane, says);
            }
}

static void liar_extend(struct qm_chain *chains, size_t count, struct qm_lane_use *use)
{
    qm_hash_openssl.extend(chains, count, use);
    if (count > 13 && chains[13].count != 0)
        chains[13].value[31] ^= 1;
}

static void liar_digest(const struct qm_message *messages, size_t count)
{
    qm_hash_openssl.digest(messages, count);
    if (count > 15)
        messages[15].digest[0] ^= 0x80;
}

Test(selftest, a_wrong_hash_is_found)
{
    for (int which = 0; which < 2; which++) {
        struct qm_hash_kernel liar = qm_hash_openssl;
        struct qm_kernels k;
        struct qm_fault fault = {.text = ""};
        liar.lanes = 16;
        if (which == 0)
            liar.extend = liar_extend;
        else
            liar.digest = liar_digest;
        cr_assert_eq(qm_kernels_choose(&k, "openssl", &fault), QM_OK);
        k.sha256 = &liar;
        cr_assert_eq(qm_kernels_selftest(&k, &fault), QM_E_SELFTEST);
    }
}

Test(cpu, names_fit)
{
    char text[8];
    qm_cpu_names(UINT64_MAX, text, sizeof text);
    cr_assert_str_eq(text, "sha");
    qm_cpu_names(QM_CPU_AVX512 | QM_CPU_IFMA512, text, 7);
    cr_assert_str_eq(text, "avx512");
    qm_cpu_names(0, text, sizeof text);
    cr_assert_str_eq(text, "");
}
