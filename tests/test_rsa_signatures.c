/* Whole RSA signatures, padding included, in numbers: every kernel that serves a size and runs here against what OpenSSL's own
 * RSA says, millions of times if asked to. test_kernels.c has the structures that signers and forgers think of, each a few times
 * and against EVP; here the same and random ones are drawn over and over, so signing has to be cheap. It is, because most primes
 * of a modulus have 63 bits: a power modulo each of them is a matter of 64-bit words.
 *
 * One case in 64 is asked of the oracle, too. QM_SEED sets the seed, QM_CASES the least number of cases for each scheme of a
 * size. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <criterion/criterion.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/forge.h"

enum {
    CASES = 3000,
    ROUND = 512, /* cases that are made and checked together; after each a key is replaced */
    KEYS = 16,
    POOL = 400,  /* primes to make moduli of */
    WORDS = 4096 / 64,
    BYTES_MAX = 512,
    PORTABLE_EVERY = 16, /* rounds: the portable kernel is as slow as the reference */
};

#define MUST(x) cr_assert(x, "%s", #x)

__extension__ typedef unsigned __int128 u128;

/* ---- signing ---- */

/* A prime below 2^63 of some modulus; residues in Montgomery form, x 2^64 mod p. */
struct small_prime {
    uint64_t p, minus_inv; /* -p^-1 mod 2^64 */
    uint64_t one;          /* 2^64 mod p */
    uint64_t in;           /* 2^(64 (words + 2)) mod p: see residue */
    uint64_t d;            /* e^-1 mod p - 1 */
    uint64_t weight;       /* (n / p)^-1 mod p, not in Montgomery form */
    BIGNUM *rest;          /* n / p */
};

struct signer {
    struct small_prime prime[WORDS];
    unsigned primes, words;
    BIGNUM *n, *last, *d_last, *weight_last, *rest_last; /* the remaining prime, of 128 bits or more */
    BN_MONT_CTX *mont_last;
    RSA *rsa; /* the reference's view of it */
    struct qm_key *key;
};

static uint64_t mont_mul(uint64_t a, uint64_t b, const struct small_prime *f)
{
    const u128 t = (u128)a * b;
    const u128 sum = t + (u128)((uint64_t)t * f->minus_inv) * f->p;
    const uint64_t r = (uint64_t)(sum >> 64);
    return r >= f->p ? r - f->p : r;
}

/* words limbs, least significant first, to Montgomery form: a limb a step and each step a division by 2^64. */
static uint64_t residue(const uint64_t *limbs, unsigned words, const struct small_prime *f)
{
    uint64_t acc = 0;
    for (unsigned i = 0; i < words; i++) {
        const u128 t = (u128)acc + limbs[i];
        acc = (uint64_t)((t + (u128)((uint64_t)t * f->minus_inv) * f->p) >> 64);
    }
    return mont_mul(acc, f->in, f);
}

/* sig <- em^d mod n, both of words limbs' length. False if em >= n. */
static bool sign(const struct signer *s, const uint8_t *em, uint8_t *sig, BN_CTX *ctx)
{
    const int len = (int)(8 * s->words);
    uint64_t limbs[WORDS], power[WORDS][4], r[WORDS];
    BN_CTX_start(ctx);
    BIGNUM *m = BN_CTX_get(ctx), *part = BN_CTX_get(ctx), *sum = BN_CTX_get(ctx);
    MUST(sum != NULL && BN_bin2bn(em, len, m) != NULL);
    const bool fits = BN_ucmp(m, s->n) < 0;
    if (fits) {
        MUST(BN_bn2lebinpad(m, (uint8_t *)limbs, len) == len);
        for (unsigned i = 0; i < s->primes; i++) {
            const struct small_prime *f = &s->prime[i];
            power[i][0] = r[i] = f->one;
            for (unsigned k = 1; k < 4; k++)
                power[i][k] = k == 1 ? residue(limbs, s->words, f) : mont_mul(power[i][k - 1], power[i][1], f);
        }
        for (int bit = 62; bit >= 0; bit -= 2)
            for (unsigned i = 0; i < s->primes; i++) {
                const struct small_prime *f = &s->prime[i];
                r[i] = mont_mul(r[i], r[i], f);
                r[i] = mont_mul(mont_mul(r[i], r[i], f), power[i][f->d >> bit & 3], f);
            }
        MUST(BN_mod(part, m, s->last, ctx) && BN_mod_exp_mont(part, part, s->d_last, s->last, ctx, s->mont_last));
        MUST(BN_mod_mul(part, part, s->weight_last, s->last, ctx) && BN_mul(sum, part, s->rest_last, ctx));
        for (unsigned i = 0; i < s->primes; i++)
            MUST(BN_copy(part, s->prime[i].rest) && BN_mul_word(part, mont_mul(r[i], s->prime[i].weight, &s->prime[i])) &&
                 BN_add(sum, sum, part));
        MUST(BN_nnmod(sum, sum, s->n, ctx) && BN_bn2binpad(sum, sig, len) == len);
    }
    BN_CTX_end(ctx);
    return fits;
}

static BIGNUM *num(void)
{
    BIGNUM *b = BN_new();
    MUST(b != NULL);
    return b;
}

static uint64_t word_of(const BIGNUM *b)
{
    uint64_t w = 0;
    MUST(BN_bn2lebinpad(b, (uint8_t *)&w, sizeof w) == (int)sizeof w);
    return w;
}

static BIGNUM *bn_of(uint64_t w)
{
    BIGNUM *b = BN_lebin2bn((const uint8_t *)&w, sizeof w, NULL);
    MUST(b != NULL);
    return b;
}

static void random_word(struct forge_rng *rng, BIGNUM *out, unsigned bits)
{
    uint8_t raw[BYTES_MAX];
    forge_bytes(rng, raw, sizeof raw);
    MUST(BN_bin2bn(raw, (int)(bits / 8), out) && BN_set_bit(out, (int)bits - 1));
}

static uint64_t pool[POOL];

static void fill_pool(struct forge_rng *rng, BN_CTX *ctx)
{
    for (unsigned i = 0; i < POOL; i++) {
        uint64_t p = forge_u64(rng) >> 1 | 1ull << 62 | 1;
        for (int prime = 0; prime != 1; p += 2) {
            BIGNUM *b = bn_of(p);
            prime = BN_check_prime(b, ctx, NULL);
            MUST(prime >= 0);
            BN_free(b);
            if (prime == 1)
                break;
        }
        pool[i] = p >> 63 == 0 ? p : pool[0];
    }
}

static bool has_prime(const struct signer *s, uint64_t p)
{
    for (unsigned i = 0; i < s->primes; i++)
        if (s->prime[i].p == p)
            return true;
    return false;
}

/* e^-1 mod p - 1; false where there is none. */
static bool private_exponent(BIGNUM *d, const BIGNUM *e, const BIGNUM *p, BN_CTX *ctx)
{
    BIGNUM *less = BN_dup(p);
    MUST(less != NULL && BN_sub_word(less, 1));
    const bool is = BN_mod_inverse(d, e, less, ctx) != NULL;
    BN_free(less);
    ERR_clear_error();
    return is;
}

static void add_prime(struct signer *s, uint64_t p, uint64_t d)
{
    struct small_prime f = {.p = p, .d = d, .one = (0 - p) % p, .minus_inv = p, .rest = num()};
    for (int i = 0; i < 6; i++)
        f.minus_inv *= 2 - p * f.minus_inv;
    f.minus_inv = 0 - f.minus_inv;
    f.in = 1;
    for (unsigned i = 0; i < 64 * (s->words + 2); i++)
        f.in = 2 * f.in >= p ? 2 * f.in - p : 2 * f.in;
    s->prime[s->primes++] = f;
}

/* The last prime makes the modulus what it shall be: random, just above 2^(bits - 1) or just below 2^bits. */
static void make_signer(struct forge_rng *rng, struct signer *s, unsigned bits, BN_CTX *ctx)
{
    static const uint64_t odd[] = {65539, 0x10000000f, 0xffffffffffffffc5};
    const uint64_t exponent = forge_below(rng, 8) == 0 ? odd[forge_below(rng, QM_COUNT(odd))] : 65537;
    const uint64_t shape = forge_below(rng, 8); /* 0, 1: an end of the range, agreeing in some 500 bits */
    const unsigned last_bits = shape < 2 ? 512 : 128;
    BIGNUM *e = bn_of(exponent), *target = num(), *t = num();
    *s = (struct signer){.words = bits / 64, .n = num(), .last = num(), .d_last = num(), .weight_last = num(),
                         .rest_last = num(), .mont_last = BN_MONT_CTX_new(), .rsa = RSA_new()};
    MUST(s->mont_last != NULL && s->rsa != NULL);
    do {
        for (unsigned i = 0; i < s->primes; i++)
            BN_free(s->prime[i].rest);
        s->primes = 0;
        MUST(BN_one(s->rest_last));
        while (s->primes < (bits - last_bits) / 63) {
            BIGNUM *p = bn_of(pool[forge_below(rng, POOL)]);
            if (!has_prime(s, word_of(p)) && private_exponent(t, e, p, ctx)) {
                add_prime(s, word_of(p), word_of(t));
                MUST(BN_mul(s->rest_last, s->rest_last, p, ctx));
            }
            BN_free(p);
        }
        BN_zero(target);
        if (shape < 2)
            MUST(BN_set_bit(target, (int)(shape == 0 ? bits - 1 : bits)));
        else
            random_word(rng, target, bits);
        MUST(BN_div(s->last, NULL, target, s->rest_last, ctx));
        MUST(shape == 1 ? BN_sub_word(s->last, 2) : BN_add_word(s->last, 2));
        MUST(BN_set_bit(s->last, 0));
        while (BN_check_prime(s->last, ctx, NULL) != 1 || !private_exponent(s->d_last, e, s->last, ctx))
            MUST(shape == 1 ? BN_sub_word(s->last, 2) : BN_add_word(s->last, 2));
        MUST(BN_mul(s->n, s->last, s->rest_last, ctx));
    } while (BN_num_bits(s->n) != (int)bits);
    MUST(BN_mod_inverse(s->weight_last, s->rest_last, s->last, ctx) && BN_MONT_CTX_set(s->mont_last, s->last, ctx));
    for (unsigned i = 0; i < s->primes; i++) {
        BIGNUM *p = bn_of(s->prime[i].p);
        MUST(BN_div(s->prime[i].rest, NULL, s->n, p, ctx) && BN_mod_inverse(t, s->prime[i].rest, p, ctx));
        s->prime[i].weight = word_of(t);
        BN_free(p);
    }

    uint8_t n[BYTES_MAX];
    struct qm_fault fault = {.text = ""};
    MUST(BN_bn2binpad(s->n, n, (int)(bits / 8)) > 0);
    const struct qm_public_numbers numbers = {.rsa = true, .exponent = exponent, .a = {n, bits / 8}};
    s->key = aligned_alloc(QM_CACHE_LINE, QM_KEY_BYTES_MAX);
    MUST(s->key != NULL);
    cr_assert_eq(qm_key_make(&numbers, s->key, &fault), QM_OK, "%s", fault.text);
    MUST(RSA_set0_key(s->rsa, BN_dup(s->n), e, NULL)); /* e is the RSA's now */
    BN_free(t);
    BN_free(target);
}

static void free_signer(struct signer *s)
{
    for (unsigned i = 0; i < s->primes; i++)
        BN_free(s->prime[i].rest);
    BIGNUM *const all[] = {s->n, s->last, s->d_last, s->weight_last, s->rest_last};
    for (size_t i = 0; i < QM_COUNT(all); i++)
        BN_free(all[i]);
    BN_MONT_CTX_free(s->mont_last);
    RSA_free(s->rsa);
    free(s->key);
}

/* ---- cases ---- */

struct sample {
    const char *what;
    const struct signer *signer;
    uint8_t digest[QM_DIGEST_MAX], sig[BYTES_MAX];
    struct qm_sig_job job;
    bool want;
};

struct world {
    struct forge_rng rng;
    enum qm_sig_class sig_class;
    unsigned bits;
    size_t len;
    BN_CTX *ctx;
    struct signer signer[KEYS];
    struct sample sample[ROUND];
    size_t count;
    unsigned long long done[2], good[2]; /* PKCS#1, PSS */
    EVP_MD *md[QM_HASH_COUNT];
};

static const struct signer *any_signer(struct world *w)
{
    return &w->signer[forge_below(&w->rng, KEYS)];
}

static enum qm_hash any_hash(struct world *w)
{
    return forge_below(&w->rng, 2) != 0 ? QM_HASH_SHA256 : (enum qm_hash)(QM_HASH_SHA256 + forge_below(&w->rng, 3));
}

/* A place for the next case, like another one or empty. */
static struct sample *push(struct world *w, const char *what, const struct sample *like)
{
    static const struct sample nothing;
    cr_assert_lt(w->count, (size_t)ROUND);
    struct sample *c = &w->sample[w->count++];
    *c = like != NULL ? *like : nothing;
    c->what = what;
    return c;
}

/* The encodings that a signer makes. */
static void encode(struct world *w, struct sample *c, uint8_t *em)
{
    uint8_t salt[BYTES_MAX];
    const enum qm_hash hash = (enum qm_hash)c->job.hash;
    const size_t size = qm_hash_size(hash);
    if (c->job.scheme == QM_SCHEME_RSASSA) {
        forge_pkcs1(em, w->len, hash, c->digest);
        return;
    }
    forge_pattern(&w->rng, salt, sizeof salt);
    forge_pss(em, w->bits, hash, hash, c->digest, salt, forge_below(&w->rng, 3) != 0 ? size : w->len - size - 2);
}

/* And those that none makes. */
static void spoil(struct world *w, struct sample *c, uint8_t *em)
{
    const enum qm_hash hash = (enum qm_hash)c->job.hash, other = (enum qm_hash)(QM_HASH_SHA256 + forge_below(&w->rng, 3));
    const size_t size = qm_hash_size(hash), info = w->len - size - 20; /* where 00 DigestInfo starts */
    const uint8_t flaw = (uint8_t)(1 + forge_below(&w->rng, 255));
    const bool pss = c->job.scheme == QM_SCHEME_RSAPSS;
    uint8_t salt[BYTES_MAX];
    size_t shift = 1 + forge_below(&w->rng, 32);
    forge_bytes(&w->rng, salt, sizeof salt);
    switch (forge_below(&w->rng, 8)) {
    case 0: /* the bits at the top, of which the first must be 0 for a number below n */
        em[0] |= (uint8_t)(0x7f & flaw);
        em[1] ^= (uint8_t)forge_below(&w->rng, 3);
        break;
    case 1: /* at the border of padding and hash */
        em[pss ? w->len - size - 2 + forge_below(&w->rng, 3) : info - 2 + forge_below(&w->rng, 8)] ^= flaw;
        break;
    case 2:
        em[w->len - 1 - forge_below(&w->rng, 3)] ^= flaw;
        break;
    case 3:
        if (pss)
            forge_pss(em, w->bits, hash, hash, c->digest, salt, forge_below(&w->rng, w->len - size - 1));
        else
            em[2 + forge_below(&w->rng, info - 2)] = 0;
        break;
    case 4:
        if (pss) {
            forge_pss_odd(em, w->bits, hash, hash, c->digest, salt, size, (uint8_t)forge_below(&w->rng, 2),
                          (uint8_t)forge_below(&w->rng, 4));
        } else { /* the hash further left, anything behind it */
            memmove(em + info - shift, em + info, w->len - info);
            forge_bytes(&w->rng, em + w->len - shift, shift);
        }
        break;
    case 5:
        if (pss)
            forge_pss(em, w->bits, hash, other, c->digest, salt, size);
        else
            em[info + 15] ^= (uint8_t)(1 + forge_below(&w->rng, 7)); /* the OID's last byte */
        break;
    default:
        em[1 + forge_below(&w->rng, w->len - 1)] ^= flaw;
    }
}

/* A signature that was made for this key; if it cannot be made (no signature gives an em >= n) the sample is taken back. */
static bool push_signed(struct world *w, enum qm_scheme scheme, bool crooked, bool pattern)
{
    uint8_t em[BYTES_MAX];
    struct sample *c = push(w, pattern ? "a pattern for an encoding" : crooked ? "a crooked encoding" : "good", NULL);
    c->signer = any_signer(w);
    c->job.hash = (uint8_t)any_hash(w);
    c->job.scheme = (uint8_t)scheme;
    forge_pattern(&w->rng, c->digest, sizeof c->digest);
    encode(w, c, em);
    if (pattern)
        forge_pattern(&w->rng, em, w->len);
    else if (crooked)
        spoil(w, c, em);
    if (sign(c->signer, em, c->sig, w->ctx))
        return true;
    w->count--;
    return false;
}

/* What becomes of a good one that is tampered with. */
static void push_altered(struct world *w, const struct sample *good)
{
    BIGNUM *v = BN_bin2bn(good->sig, (int)w->len, NULL);
    MUST(v != NULL);
    push(w, "a bit of the signature flipped", good)->sig[forge_below(&w->rng, w->len)] ^= (uint8_t)(1u << forge_below(&w->rng, 8));
    struct sample *c = push(w, "a bit of the digest flipped", good);
    c->digest[forge_below(&w->rng, qm_hash_size((enum qm_hash)c->job.hash))] ^= (uint8_t)(1u << forge_below(&w->rng, 8));
    push(w, "the key of another", good)->signer = any_signer(w);
    push(w, "another hash", good)->job.hash = (uint8_t)(QM_HASH_SHA256 + forge_below(&w->rng, 3));
    c = push(w, "the other scheme", good);
    c->job.scheme = c->job.scheme == QM_SCHEME_RSASSA ? QM_SCHEME_RSAPSS : QM_SCHEME_RSASSA;
    c = push(w, "n less a good signature", good);
    MUST(BN_sub(v, good->signer->n, v) && BN_bn2binpad(v, c->sig, (int)w->len) > 0);
    MUST(BN_sub(v, good->signer->n, v) && BN_add(v, v, good->signer->n));
    if (BN_num_bits(v) <= (int)w->bits)
        MUST(BN_bn2binpad(v, push(w, "a good signature plus n", good)->sig, (int)w->len) > 0);
    BN_free(v);
}

/* Numbers that nobody computed: patterns, 0 and its neighbours, n and its neighbours. */
static void push_numbers(struct world *w, const struct sample *like)
{
    for (int i = 0; i < 3; i++)
        forge_pattern(&w->rng, push(w, "a pattern for a signature", like)->sig, w->len);
    struct sample *c = push(w, "a signature near 0", like);
    memset(c->sig, 0, w->len);
    c->sig[w->len - 1] = (uint8_t)forge_below(&w->rng, 4);
    c = push(w, "a signature near n", like);
    BIGNUM *v = BN_dup(c->signer->n);
    MUST(v != NULL && BN_add_word(v, forge_below(&w->rng, 3)) && BN_sub_word(v, forge_below(&w->rng, 5)));
    if (BN_num_bits(v) <= (int)w->bits)
        MUST(BN_bn2binpad(v, c->sig, (int)w->len) > 0);
    BN_free(v);
}

static void make_round(struct world *w)
{
    enum { GROUP_MAX = 40 }; /* cases of a turn of the loop */
    w->count = 0;
    while (w->count + GROUP_MAX <= ROUND) {
        const enum qm_scheme scheme = forge_below(&w->rng, 2) != 0 ? QM_SCHEME_RSASSA : QM_SCHEME_RSAPSS;
        for (int i = 0; i < 10; i++)
            (void)push_signed(w, scheme, true, i == 0);
        for (int i = 0; i < 10; i++)
            MUST(push_signed(w, scheme, false, false));
        const struct sample good = w->sample[w->count - 1];
        push_altered(w, &good);
        push_numbers(w, &good);
    }
}

/* ---- the reference ---- */

static bool reference(struct world *w, const struct sample *c)
{
    static const int nid[QM_HASH_COUNT] = {
        [QM_HASH_SHA256] = NID_sha256, [QM_HASH_SHA384] = NID_sha384, [QM_HASH_SHA512] = NID_sha512};
    const int len = (int)w->len, size = (int)qm_hash_size((enum qm_hash)c->job.hash);
    uint8_t em[BYTES_MAX];
    bool valid;
    if (c->job.scheme == QM_SCHEME_RSASSA) {
        valid = RSA_verify(nid[c->job.hash], c->digest, (unsigned)size, c->sig, (unsigned)len, c->signer->rsa) == 1;
    } else {
        const EVP_MD *md = w->md[c->job.hash];
        valid = RSA_public_decrypt(len, c->sig, em, c->signer->rsa, RSA_NO_PADDING) == len &&
                (RSA_verify_PKCS1_PSS_mgf1(c->signer->rsa, c->digest, md, md, em, RSA_PSS_SALTLEN_DIGEST) == 1 ||
                 RSA_verify_PKCS1_PSS_mgf1(c->signer->rsa, c->digest, md, md, em, RSA_PSS_SALTLEN_MAX) == 1);
    }
    ERR_clear_error();
    return valid;
}

static void ask_reference(struct world *w)
{
    for (size_t i = 0; i < w->count; i++) {
        struct sample *c = &w->sample[i];
        const bool pss = c->job.scheme == QM_SCHEME_RSAPSS;
        struct qm_fault fault = {.text = ""};
        bool valid;
        c->job.key = c->signer->key;
        c->job.digest = c->digest;
        c->job.sig = c->sig;
        c->want = reference(w, c);
        if (i % 64 == 0) {
            cr_assert_eq(qm_oracle_verify(&c->job, &valid, &fault), QM_OK, "%s", fault.text);
            cr_assert_eq(valid, c->want, "the oracle says %d to '%s'", valid, c->what);
        }
        cr_assert(c->want || strcmp(c->what, "good") != 0, "OpenSSL refuses a good signature");
        w->done[pss]++;
        w->good[pss] += c->want;
    }
}

/* ---- the kernels ---- */

static void check_round(struct world *w, const struct qm_sig_kernel *k, void *scratch)
{
    struct qm_sig_job *order[ROUND];
    for (size_t i = 0; i < w->count; i++) {
        order[i] = &w->sample[i].job;
        order[i]->valid = !w->sample[i].want;
    }
    for (size_t i = w->count; i > 1; i--) { /* every case meets every lane in time */
        const size_t j = forge_below(&w->rng, i);
        struct qm_sig_job *t = order[i - 1];
        order[i - 1] = order[j];
        order[j] = t;
    }
    for (size_t at = 0, n; at < w->count; at += n) { /* filled in part: batches of 1 to 40 */
        n = 1 + forge_below(&w->rng, 40);
        n = n < w->count - at ? n : w->count - at;
        k->verify(scratch, order + at, n);
    }
    for (size_t i = 0; i < w->count; i++) {
        const struct sample *c = &w->sample[i];
        cr_assert_eq(c->job.valid, c->want, "kernel %s, %u bits, scheme %u, hash %u: says %d to '%s'", k->name, w->bits,
                     c->job.scheme, c->job.hash, c->job.valid, c->what);
    }
}

static void check_size(enum qm_sig_class sig_class, unsigned bits)
{
    enum { KERNELS_MAX = 8 };
    static const char *const names[QM_HASH_COUNT] = {
        [QM_HASH_SHA256] = "SHA256", [QM_HASH_SHA384] = "SHA384", [QM_HASH_SHA512] = "SHA512"};
    const char *env = getenv("QM_CASES");
    const unsigned long long least = env != NULL ? strtoull(env, NULL, 0) : CASES;
    const struct qm_sig_kernel *kernel[KERNELS_MAX];
    void *scratch[KERNELS_MAX];
    size_t kernels = 0;
    struct qm_kernels chosen;
    struct qm_fault fault = {.text = ""};
    cr_assert_eq(qm_kernels_choose(&chosen, NULL, &fault), QM_OK, "%s", fault.text);
    for (size_t i = 0; i < qm_sig_kernel_count; i++) {
        const struct qm_sig_kernel *k = qm_sig_kernels[i];
        if ((k->classes >> sig_class & 1) == 0 || (k->cpu & ~qm_cpu_features()) != 0)
            continue;
        cr_assert_lt(kernels, (size_t)KERNELS_MAX);
        kernel[kernels] = k;
        scratch[kernels] = aligned_alloc(QM_CACHE_LINE, qm_align_up(k->scratch_size(), QM_CACHE_LINE));
        MUST(scratch[kernels] != NULL);
        cr_assert_eq(k->init(scratch[kernels++], chosen.sha256, &fault), QM_OK, "%s", fault.text);
    }
    struct world *w = calloc(1, sizeof *w);
    MUST(w != NULL);
    w->rng = forge_seed(qm_sig_class_name(sig_class));
    w->sig_class = sig_class;
    w->bits = bits;
    w->len = bits / 8;
    w->ctx = BN_CTX_new();
    MUST(w->ctx != NULL);
    for (enum qm_hash h = QM_HASH_SHA256; h < QM_HASH_COUNT; h++)
        MUST((w->md[h] = EVP_MD_fetch(NULL, names[h], NULL)) != NULL);
    fill_pool(&w->rng, w->ctx);
    for (size_t i = 0; i < KEYS; i++)
        make_signer(&w->rng, &w->signer[i], bits, w->ctx);

    for (size_t round = 0; w->done[0] < least || w->done[1] < least; round++) {
        make_round(w);
        ask_reference(w);
        for (size_t i = 0; i < kernels; i++)
            if (kernel[i] != &qm_sig_openssl || round % PORTABLE_EVERY == 0)
                check_round(w, kernel[i], scratch[i]);
        free_signer(&w->signer[round % KEYS]);
        make_signer(&w->rng, &w->signer[round % KEYS], bits, w->ctx);
    }
    for (int pss = 0; pss < 2; pss++) {
        fprintf(stderr, "%s, %s: %llu cases, %llu good\n", qm_sig_class_name(sig_class), pss != 0 ? "PSS" : "PKCS#1", w->done[pss],
                w->good[pss]);
        cr_assert(w->good[pss] > w->done[pss] / 8 && w->good[pss] < w->done[pss] * 7 / 8);
    }
    for (size_t i = 0; i < KEYS; i++)
        free_signer(&w->signer[i]);
    for (enum qm_hash h = QM_HASH_SHA256; h < QM_HASH_COUNT; h++)
        EVP_MD_free(w->md[h]);
    BN_CTX_free(w->ctx);
    free(w);
    for (size_t i = 0; i < kernels; i++) {
        kernel[i]->close(scratch[i]);
        free(scratch[i]);
    }
}

Test(rsa_signatures, rsa2048, .timeout = 14400)
{
    check_size(QM_SIG_RSA2048, 2048);
}

Test(rsa_signatures, rsa3072, .timeout = 14400)
{
    check_size(QM_SIG_RSA3072, 3072);
}

Test(rsa_signatures, rsa4096, .timeout = 14400)
{
    check_size(QM_SIG_RSA4096, 4096);
}
