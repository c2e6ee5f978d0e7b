/* Signatures a second: each class through the kernel that this CPU gets, and through OpenSSL with
 * every key and context kept (EVP_PKEY_verify on a context made ready once), in one run.
 *
 *     bench_signatures ROUNDS SLOTS [KEYS]
 *
 * SLOTS prepared keys lie in memory as they would in the table (a few real ones, each many
 * times),
 * and jobs come for them in random order, in batches of QM_VERIFY_BATCH, the key's first lines
 * prefetched a batch ahead as a look-up does. OpenSSL has a context
 * for each real key, in the same order. Both
 * take turns, round by round; the ratio is the median of the rounds' ratios. */
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <string.h>

#include "bench/measure.h"
#include "engine/kernel/key.h"
#include "engine/verify.h"

enum { KEYS = 256, SIG_BYTES = 512, ROUND_NS = 250 * 1000 * 1000 };

struct work {
    const char *name;
    enum qm_sig_class sig_class;
    enum qm_scheme scheme;
    enum qm_hash hash;
    unsigned bits; /* RSA */
    unsigned keys; /* real ones: long moduli take long to make */
    const char *curve;
};

static struct work works[] = {
    {"rsa2048 pkcs1", QM_SIG_RSA2048, QM_SCHEME_RSASSA, QM_HASH_SHA256, 2048, 64, NULL},
    {"rsa2048 pss", QM_SIG_RSA2048, QM_SCHEME_RSAPSS, QM_HASH_SHA256, 2048, 64, NULL},
    {"rsa3072 pkcs1", QM_SIG_RSA3072, QM_SCHEME_RSASSA, QM_HASH_SHA256, 3072, 16, NULL},
    {"rsa4096 pkcs1", QM_SIG_RSA4096, QM_SCHEME_RSASSA, QM_HASH_SHA256, 4096, 8, NULL},
    {"p256", QM_SIG_P256, QM_SCHEME_ECDSA, QM_HASH_SHA256, 0, KEYS, "P-256"},
    {"p384", QM_SIG_P384, QM_SCHEME_ECDSA, QM_HASH_SHA384, 0, KEYS, "P-384"},
};

struct signer {
    EVP_PKEY_CTX *ctx;
    uint8_t digest[QM_DIGEST_MAX];
    uint8_t sig[SIG_BYTES]; /* as the kernels take it */
    uint8_t openssl_sig[SIG_BYTES];
    size_t openssl_len;
    _Alignas(QM_CACHE_LINE) uint8_t key[QM_KEY_BYTES_MAX];
};
static struct signer signers[KEYS];

static uint64_t random_state = 88172645463325252u;

static uint64_t random_u64(void) /* xorshift64 */
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void check(bool good, const char *what)
{
    if (!good)
        die("bench_signatures", what);
}

static size_t number(EVP_PKEY *pkey, const char *name, uint8_t *to)
{
    BIGNUM *v = NULL;
    check(EVP_PKEY_get_bn_param(pkey, name, &v) == 1, "a key without numbers");
    int len = BN_bn2bin(v, to);
    BN_free(v);
    return (size_t)len;
}

static void prepare_key(struct signer *s, EVP_PKEY *pkey, const struct work *w)
{
    uint8_t a[SIG_BYTES], c[SIG_BYTES];
    struct qm_fault fault;
    struct qm_public_numbers n = {.rsa = w->bits != 0, .ec_class = w->sig_class, .exponent = 65537};
    n.a = (struct qm_span){
        a, number(pkey, n.rsa ? OSSL_PKEY_PARAM_RSA_N : OSSL_PKEY_PARAM_EC_PUB_X, a)};
    if (!n.rsa)
        n.b = (struct qm_span){c, number(pkey, OSSL_PKEY_PARAM_EC_PUB_Y, c)};
    check(qm_key_make(&n, (struct qm_key *)(void *)s->key, &fault) == QM_OK, fault.text);
}

static void ready(EVP_PKEY_CTX *ctx, const struct work *w)
{
    check(EVP_PKEY_CTX_set_signature_md(ctx, w->hash == QM_HASH_SHA384 ? EVP_sha384()
                                                                       : EVP_sha256()) == 1,
          "no digest set");
    if (w->bits == 0)
        return;
    bool pss = w->scheme == QM_SCHEME_RSAPSS;
    check(EVP_PKEY_CTX_set_rsa_padding(ctx, pss ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING) == 1 &&
              (!pss || EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1),
          "no padding set");
}

static void sign(struct signer *s, const struct work *w)
{
    EVP_PKEY *pkey = w->bits != 0 ? EVP_RSA_gen(w->bits) : EVP_EC_gen(w->curve);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
    check(pkey != NULL && ctx != NULL && EVP_PKEY_sign_init(ctx) == 1, "no key");
    ready(ctx, w);
    prepare_key(s, pkey, w);
    for (size_t i = 0; i < sizeof s->digest; i++)
        s->digest[i] = (uint8_t)random_u64();
    s->openssl_len = sizeof s->openssl_sig;
    check(EVP_PKEY_sign(ctx, s->openssl_sig, &s->openssl_len, s->digest, qm_hash_size(w->hash)) ==
              1,
          "no signature");
    EVP_PKEY_CTX_free(ctx);
    if (w->bits != 0) {
        memcpy(s->sig, s->openssl_sig, s->openssl_len);
    } else {
        const unsigned char *at = s->openssl_sig;
        ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &at, (long)s->openssl_len);
        int size = w->sig_class == QM_SIG_P256 ? 32 : 48;
        check(pair != NULL && BN_bn2binpad(ECDSA_SIG_get0_r(pair), s->sig, size) == size &&
                  BN_bn2binpad(ECDSA_SIG_get0_s(pair), s->sig + size, size) == size,
              "a signature that is none");
        ECDSA_SIG_free(pair);
    }
    s->ctx = EVP_PKEY_CTX_new(pkey, NULL);
    check(s->ctx != NULL && EVP_PKEY_verify_init(s->ctx) == 1, "no context");
    ready(s->ctx, w);
    EVP_PKEY_free(pkey);
}

/* us a signature */
static double by_openssl(const struct work *w, size_t count)
{
    uint64_t from = cpu_ns();
    bool good = true;
    for (size_t i = 0; i < count; i++) {
        struct signer *s = &signers[random_u64() % w->keys];
        good &= EVP_PKEY_verify(s->ctx, s->openssl_sig, s->openssl_len, s->digest,
                                qm_hash_size(w->hash)) == 1;
    }
    check(good, "OpenSSL refuses a good signature");
    return (double)(cpu_ns() - from) / 1e3 / (double)count;
}

static double by_kernel(const struct qm_sig_kernel *k, void *scratch, const struct work *w,
                        const uint8_t *slots, size_t slot_bytes, size_t slot_count, size_t count)
{
    struct qm_sig_job job[2][QM_VERIFY_BATCH], *jobs[QM_VERIFY_BATCH];
    bool good = true;
    uint64_t from = cpu_ns();
    for (size_t done = 0, turn = 0; done <= count; done += QM_VERIFY_BATCH, turn ^= 1) {
        for (size_t i = 0; i < QM_VERIFY_BATCH; i++) {
            size_t slot = random_u64() % slot_count;
            const struct signer *s = &signers[slot % w->keys];
            const uint8_t *key = slots + slot * slot_bytes;
            __builtin_prefetch(key);
            job[turn][i] = (struct qm_sig_job){(const struct qm_key *)(const void *)key,
                                               s->digest,
                                               s->sig,
                                               (uint8_t)w->hash,
                                               (uint8_t)w->scheme,
                                               false};
        }
        if (done == 0)
            continue;
        for (size_t i = 0; i < QM_VERIFY_BATCH; i++)
            jobs[i] = &job[turn ^ 1][i];
        k->verify(scratch, jobs, QM_VERIFY_BATCH);
        for (size_t i = 0; i < QM_VERIFY_BATCH; i++)
            good &= jobs[i]->valid;
    }
    check(good, "a kernel refuses a good signature");
    return (double)(cpu_ns() - from) / 1e3 / (double)count;
}

static void measure(const struct work *w, const struct qm_kernels *kernels, size_t rounds,
                    size_t slot_count)
{
    static double openssl[ROUNDS_MAX], kernel[ROUNDS_MAX], ratio[ROUNDS_MAX];
    const struct qm_sig_kernel *k = kernels->sig[w->sig_class];
    struct qm_fault fault;
    for (unsigned i = 0; i < w->keys; i++)
        sign(&signers[i], w);
    const size_t slot_bytes = ((const struct qm_key *)(const void *)signers[0].key)->bytes;
    uint8_t *slots = aligned_alloc(QM_CACHE_LINE, slot_count * slot_bytes);
    void *scratch = aligned_alloc(QM_CACHE_LINE, qm_align_up(k->scratch_size(), QM_CACHE_LINE));
    check(slots != NULL && scratch != NULL, "out of memory");
    check(k->init(scratch, kernels->sha256, &fault) == QM_OK, fault.text);
    for (size_t i = 0; i < slot_count; i++)
        memcpy(slots + i * slot_bytes, signers[i % w->keys].key, slot_bytes);

    size_t openssl_count = (size_t)(ROUND_NS / 1e3 / by_openssl(w, 200)) + 1;
    double warm = by_kernel(k, scratch, w, slots, slot_bytes, slot_count, QM_VERIFY_BATCH * 16);
    size_t kernel_count = ((size_t)(ROUND_NS / 1e3 / warm) / QM_VERIFY_BATCH + 1) * QM_VERIFY_BATCH;
    for (size_t r = 0; r < rounds; r++) {
        openssl[r] = 1e6 / by_openssl(w, openssl_count);
        kernel[r] = 1e6 / by_kernel(k, scratch, w, slots, slot_bytes, slot_count, kernel_count);
        ratio[r] = kernel[r] / openssl[r];
    }
    char name[64];
    double bytes = (double)slot_bytes;
    snprintf(name, sizeof name, "%s, OpenSSL, all kept", w->name);
    say("signatures", name, "1/s", openssl, rounds, NULL, 0);
    say("signatures", w->name, "1/s", kernel, rounds, name, median_of(ratio, rounds));
    snprintf(name, sizeof name, "%s, a prepared key (%s)", w->name, k->name);
    say("signatures", name, "bytes", &bytes, 1, NULL, 0);
    k->close(scratch);
    free(scratch);
    free(slots);
    for (unsigned i = 0; i < w->keys; i++)
        EVP_PKEY_CTX_free(signers[i].ctx);
}

int main(int argc, char **argv)
{
    struct qm_kernels kernels;
    struct qm_fault fault;
    size_t rounds = argc >= 3 ? strtoul(argv[1], NULL, 10) : 0;
    size_t slots = argc >= 3 ? strtoul(argv[2], NULL, 10) : 0;
    unsigned keys = argc == 4 ? (unsigned)strtoul(argv[3], NULL, 10) : KEYS;
    check(rounds >= 1 && rounds <= ROUNDS_MAX && slots >= 1 && slots <= 10000000 && keys >= 1,
          "usage: bench_signatures ROUNDS SLOTS [KEYS]");
    check(qm_kernels_choose(&kernels, getenv("QM_KERNEL"), &fault) == QM_OK, fault.text);
    for (size_t i = 0; i < QM_COUNT(works); i++) {
        works[i].keys = keys < works[i].keys ? keys : works[i].keys;
        measure(&works[i], &kernels, rounds, slots);
    }
    return 0;
}
