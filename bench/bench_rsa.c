/* RSA verifications a second: every kernel that serves a class here, and OpenSSL's EVP_PKEY_verify with a cached EVP_PKEY and
 * EVP_PKEY_CTX for each key, in one run.
 *
 *     bench_rsa [ROUNDS [SLOTS [BITS]]]      (15, 100000, all)
 *
 * One JSON line for each size, scheme, number of keys and contender, on stdout. The contenders take turns, so that a machine
 * which slows down slows all of them, and the time is the thread's own; a figure is the median of the rounds, and so is the
 * ratio to OpenSSL, taken round by round. With 256 keys everything is in the caches; with SLOTS keys in random order each key
 * comes from memory. The slots hold copies of a few keys: their places are real, their values repeat. Pin it to a core:
 * taskset -c 1 bench_rsa. */
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "engine/kernel/key.h"

enum {
    KEYS = 16, /* different ones */
    HOT = 256,
    JOBS = 2048,  /* of a kernel's turn */
    BATCH = 64,   /* of one call, as the pipeline makes them */
    SLOW_DIV = 8, /* of the jobs, what those of one lane get in a turn */
    ROUND_MAX = 1000,
    CONTENDER_MAX = 8,
    SIG_MAX_BYTES = 512,
};

#define MUST(what)                                                                                                     \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "bench_rsa: %s failed\n", #what);                                                          \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

struct signer {
    EVP_PKEY *pkey;
    BIGNUM *n;
    _Alignas(QM_CACHE_LINE) uint8_t key[QM_KEY_BYTES_MAX];
    uint8_t digest[32];
    uint8_t sig[SIG_MAX_BYTES];
    size_t sig_len;
};

struct slot {
    const struct signer *of;
    struct qm_key *key;
    EVP_PKEY *pkey;
    EVP_PKEY_CTX *ctx;
};

struct contender {
    const char *name;
    const struct qm_sig_kernel *kernel; /* NULL: EVP */
    void *scratch;
    size_t jobs;
    double rate[ROUND_MAX], ratio[ROUND_MAX];
};

static struct signer signers[KEYS];
static struct qm_sig_job jobs[JOBS];
static struct qm_sig_job *job_at[JOBS];
static size_t slot_at[JOBS];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint64_t next_random(void)
{
    static uint64_t state = 1;
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    return z ^ z >> 29;
}

static void set_scheme(EVP_PKEY_CTX *ctx, bool pss)
{
    MUST(EVP_PKEY_CTX_set_rsa_padding(ctx, pss ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING) == 1);
    MUST(EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) == 1);
    if (pss)
        MUST(EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1);
}

static void make_signers(int bits)
{
    for (size_t i = 0; i < KEYS; i++) {
        struct signer *s = &signers[i];
        EVP_PKEY_CTX *gen = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
        s->pkey = NULL;
        s->n = NULL;
        /* three primes are found faster, and make no difference to who verifies */
        MUST(EVP_PKEY_keygen_init(gen) == 1 && EVP_PKEY_CTX_set_rsa_keygen_bits(gen, bits) == 1);
        MUST(EVP_PKEY_CTX_set_rsa_keygen_primes(gen, 3) == 1 && EVP_PKEY_generate(gen, &s->pkey) == 1);
        MUST(EVP_PKEY_get_bn_param(s->pkey, OSSL_PKEY_PARAM_RSA_N, &s->n) == 1);
        EVP_PKEY_CTX_free(gen);
        uint8_t n[SIG_MAX_BYTES];
        MUST(BN_bn2binpad(s->n, n, bits / 8) == bits / 8);
        struct qm_fault fault;
        const struct qm_public_numbers numbers = {.rsa = true, .exponent = 65537, .a = {n, (size_t)bits / 8}};
        MUST(qm_key_make(&numbers, (struct qm_key *)s->key, &fault) == QM_OK);
        for (size_t k = 0; k < sizeof s->digest; k++)
            s->digest[k] = (uint8_t)next_random();
    }
}

static void sign(bool pss)
{
    for (size_t i = 0; i < KEYS; i++) {
        struct signer *s = &signers[i];
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(s->pkey, NULL);
        MUST(EVP_PKEY_sign_init(ctx) == 1);
        set_scheme(ctx, pss);
        s->sig_len = sizeof s->sig;
        MUST(EVP_PKEY_sign(ctx, s->sig, &s->sig_len, s->digest, sizeof s->digest) == 1);
        EVP_PKEY_CTX_free(ctx);
    }
}

static EVP_PKEY *public_key(const BIGNUM *n)
{
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    MUST(OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) && OSSL_PARAM_BLD_push_uint(build, OSSL_PKEY_PARAM_RSA_E, 65537));
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    EVP_PKEY *key = NULL;
    MUST(EVP_PKEY_fromdata_init(ctx) == 1 && EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) == 1);
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    return key;
}

static struct slot *make_slots(size_t count, bool pss, uint8_t **memory)
{
    struct slot *slots = calloc(count, sizeof *slots);
    const size_t bytes = ((const struct qm_key *)signers[0].key)->bytes;
    *memory = aligned_alloc(QM_CACHE_LINE, count * bytes);
    MUST(slots != NULL && *memory != NULL);
    for (size_t i = 0; i < count; i++) {
        struct slot *s = &slots[i];
        s->of = &signers[i % KEYS];
        s->key = memcpy(*memory + i * bytes, s->of->key, bytes);
        s->pkey = public_key(s->of->n);
        s->ctx = EVP_PKEY_CTX_new(s->pkey, NULL);
        MUST(EVP_PKEY_verify_init(s->ctx) == 1);
        set_scheme(s->ctx, pss);
        /* the first verification makes what the key caches */
        MUST(EVP_PKEY_verify(s->ctx, s->of->sig, s->of->sig_len, s->of->digest, sizeof s->of->digest) == 1);
    }
    return slots;
}

static void free_slots(struct slot *slots, size_t count, uint8_t *memory)
{
    for (size_t i = 0; i < count; i++) {
        EVP_PKEY_CTX_free(slots[i].ctx);
        EVP_PKEY_free(slots[i].pkey);
    }
    free(slots);
    free(memory);
}

static double turn(const struct contender *c, const struct slot *slots)
{
    const double start = now();
    for (size_t i = 0; i < c->jobs && c->kernel != NULL; i += BATCH)
        c->kernel->verify(c->scratch, job_at + i, BATCH);
    for (size_t i = 0; i < c->jobs && c->kernel == NULL; i++) {
        const struct slot *s = &slots[slot_at[i]];
        jobs[i].valid = EVP_PKEY_verify(s->ctx, jobs[i].sig, s->of->sig_len, jobs[i].digest, sizeof s->of->digest) == 1;
    }
    const double spent = now() - start;
    for (size_t i = 0; i < c->jobs; i++)
        MUST(jobs[i].valid);
    return (double)c->jobs / spent;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, size_t count)
{
    qsort(v, count, sizeof *v, by_size);
    return v[count / 2];
}

static void measure(const char *class_name, bool pss, struct contender *contenders, size_t count, const struct slot *slots,
    size_t slot_count, size_t rounds)
{
    for (size_t round = 0; round < rounds + 1; round++) { /* the first warms up */
        for (size_t i = 0; i < JOBS; i++) {
            slot_at[i] = slot_count == HOT ? i % HOT : next_random() % slot_count;
            const struct slot *s = &slots[slot_at[i]];
            jobs[i] = (struct qm_sig_job){.key = s->key, .digest = s->of->digest, .sig = s->of->sig, .hash = QM_HASH_SHA256,
                .scheme = pss ? QM_SCHEME_RSAPSS : QM_SCHEME_RSASSA};
            job_at[i] = &jobs[i];
        }
        const size_t at = round == 0 ? 0 : round - 1;
        for (size_t c = 0; c < count; c++) {
            contenders[c].rate[at] = turn(&contenders[c], slots);
            contenders[c].ratio[at] = contenders[c].rate[at] / contenders[0].rate[at];
        }
    }
    for (size_t c = 0; c < count; c++) {
        const double rate = median(contenders[c].rate, rounds);
        printf("{\"bench\":\"rsa\",\"class\":\"%s\",\"scheme\":\"%s\",\"keys\":%zu,\"kernel\":\"%s\",\"verifies_per_s\":%.0f,"
               "\"us\":%.3f,\"to_openssl_evp\":%.2f}\n",
            class_name, pss ? "pss" : "pkcs1", slot_count, contenders[c].name, rate, 1e6 / rate,
            median(contenders[c].ratio, rounds));
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    const size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 15;
    const size_t many = argc > 2 ? strtoul(argv[2], NULL, 10) : 100000;
    const unsigned long only = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
    MUST(rounds >= 1 && rounds <= ROUND_MAX);
    static const struct {
        unsigned bits;
        enum qm_sig_class sig_class;
    } sizes[] = {{2048, QM_SIG_RSA2048}, {3072, QM_SIG_RSA3072}, {4096, QM_SIG_RSA4096}};
    struct qm_kernels chosen;
    struct qm_fault fault;
    MUST(qm_kernels_choose(&chosen, NULL, &fault) == QM_OK);
    for (size_t i = 0; i < QM_COUNT(sizes); i++) {
        if (only != 0 && only != sizes[i].bits)
            continue;
        static struct contender contenders[CONTENDER_MAX];
        size_t count = 0;
        contenders[count++] = (struct contender){.name = "openssl-evp", .jobs = JOBS / SLOW_DIV};
        for (size_t k = 0; k < qm_sig_kernel_count && count < CONTENDER_MAX; k++) {
            const struct qm_sig_kernel *kernel = qm_sig_kernels[k];
            if ((kernel->classes >> sizes[i].sig_class & 1) == 0 || (kernel->cpu & ~qm_cpu_features()) != 0)
                continue;
            struct contender *c = &contenders[count++];
            *c = (struct contender){.name = kernel->name, .kernel = kernel, .jobs = kernel->lanes == 1 ? JOBS / SLOW_DIV : JOBS};
            c->scratch = aligned_alloc(QM_CACHE_LINE, qm_align_up(kernel->scratch_size(), QM_CACHE_LINE));
            MUST(c->scratch != NULL && kernel->init(c->scratch, chosen.sha256, &fault) == QM_OK);
        }
        make_signers((int)sizes[i].bits);
        for (int pss = 0; pss < 2; pss++) {
            sign(pss);
            for (int cold = 0; cold < 2; cold++) {
                const size_t slot_count = cold ? many : HOT;
                uint8_t *memory;
                struct slot *slots = make_slots(slot_count, pss, &memory);
                measure(qm_sig_class_name(sizes[i].sig_class), pss, contenders, count, slots, slot_count, rounds);
                free_slots(slots, slot_count, memory);
            }
        }
        for (size_t c = 1; c < count; c++) {
            contenders[c].kernel->close(contenders[c].scratch);
            free(contenders[c].scratch);
        }
        for (size_t k = 0; k < KEYS; k++) {
            BN_free(signers[k].n);
            EVP_PKEY_free(signers[k].pkey);
        }
    }
    return 0;
}
