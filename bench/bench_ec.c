/* ECDSA verifications per second: the vector kernels, the portable kernel and OpenSSL's EVP_PKEY_verify with EVP_PKEY and
 * EVP_PKEY_CTX kept, one thread, processor time, in turns, medians. JSON lines on stdout.
 *
 * bench_ec [turns [slots ..]]: slots of keys are filled with 256 real keys over and over, jobs pick slots at random; so memory
 * behaves as with that many keys. Without slots: 256 (hot), 100000 and, for P-256, 1000000. */
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "engine/kernel/ec_comb.h"
#include "engine/kernel/key.h"

enum { KEYS = 256, BATCH = 128, TURNS_MAX = 99, DER_MAX = 128 };

#define MUST(x)                                                                                                                \
    do {                                                                                                                       \
        if (!(x)) {                                                                                                            \
            fprintf(stderr, "%s:%d: %s failed\n", __FILE__, __LINE__, #x);                                                     \
            exit(3);                                                                                                           \
        }                                                                                                                      \
    } while (0)

struct signer {
    struct qm_key *key;
    EVP_PKEY_CTX *ctx;
    uint8_t digest[48], sig[96], der[DER_MAX];
    size_t der_len;
};

struct setup {
    enum qm_sig_class sig_class;
    size_t size; /* bytes of a scalar */
    struct signer signer[KEYS];
    uint8_t *slots;
    size_t slot_bytes, slot_count;
    uint64_t rng;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint64_t draw(struct setup *s)
{
    s->rng ^= s->rng << 13;
    s->rng ^= s->rng >> 7;
    s->rng ^= s->rng << 17;
    return s->rng;
}

static void make_signer(struct setup *s, struct signer *g)
{
    const char *curve = s->sig_class == QM_SIG_P256 ? "P-256" : "P-384";
    EVP_PKEY *pkey = EVP_EC_gen(curve);
    BIGNUM *x = NULL, *y = NULL;
    uint8_t xy[2][48];
    struct qm_fault fault;
    MUST(pkey != NULL && EVP_PKEY_get_bn_param(pkey, "qx", &x) && EVP_PKEY_get_bn_param(pkey, "qy", &y));
    MUST(BN_bn2binpad(x, xy[0], (int)s->size) > 0 && BN_bn2binpad(y, xy[1], (int)s->size) > 0);
    struct qm_public_numbers in = {.ec_class = s->sig_class, .a = {xy[0], s->size}, .b = {xy[1], s->size}};
    MUST((g->key = aligned_alloc(QM_CACHE_LINE, QM_KEY_BYTES_MAX)) != NULL);
    MUST(qm_key_make(&in, g->key, &fault) == QM_OK);
    for (size_t i = 0; i < sizeof g->digest; i++)
        g->digest[i] = (uint8_t)draw(s);
    MUST((g->ctx = EVP_PKEY_CTX_new(pkey, NULL)) != NULL && EVP_PKEY_sign_init(g->ctx) == 1);
    g->der_len = sizeof g->der;
    MUST(EVP_PKEY_sign(g->ctx, g->der, &g->der_len, g->digest, s->size) == 1);
    MUST(EVP_PKEY_verify_init(g->ctx) == 1);
    const uint8_t *p = g->der;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)g->der_len);
    MUST(sig != NULL && BN_bn2binpad(ECDSA_SIG_get0_r(sig), g->sig, (int)s->size) > 0);
    MUST(BN_bn2binpad(ECDSA_SIG_get0_s(sig), g->sig + s->size, (int)s->size) > 0);
    ECDSA_SIG_free(sig);
    BN_free(x);
    BN_free(y);
    EVP_PKEY_free(pkey); /* the context keeps it */
}

static void fill_slots(struct setup *s, size_t count)
{
    s->slot_bytes = s->signer[0].key->bytes;
    s->slot_count = count;
    s->slots = mmap(NULL, count * s->slot_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(s->slots != MAP_FAILED);
    madvise(s->slots, count * s->slot_bytes, MADV_HUGEPAGE);
    for (size_t i = 0; i < count; i++)
        memcpy(s->slots + i * s->slot_bytes, s->signer[i % KEYS].key, s->slot_bytes);
}

/* us a verification of jobs on random slots */
static double turn_kernel(struct setup *s, const struct qm_sig_kernel *k, void *scratch, size_t count)
{
    struct qm_sig_job *job = malloc(count * sizeof *job), *order[BATCH];
    MUST(job != NULL);
    for (size_t i = 0; i < count; i++) {
        size_t slot = draw(s) % s->slot_count;
        const struct signer *g = &s->signer[slot % KEYS];
        job[i] = (struct qm_sig_job){.key = (const struct qm_key *)(const void *)(s->slots + slot * s->slot_bytes),
                                     .digest = g->digest,
                                     .sig = g->sig,
                                     .hash = s->sig_class == QM_SIG_P256 ? QM_HASH_SHA256 : QM_HASH_SHA384,
                                     .scheme = QM_SCHEME_ECDSA};
    }
    double start = now();
    for (size_t at = 0; at < count; at += BATCH) {
        size_t n = count - at < BATCH ? count - at : BATCH;
        for (size_t i = 0; i < n; i++)
            order[i] = &job[at + i];
        k->verify(scratch, order, n);
    }
    double us = (now() - start) * 1e6 / (double)count;
    for (size_t i = 0; i < count; i++)
        MUST(job[i].valid);
    free(job);
    return us;
}

static double turn_evp(struct setup *s, size_t count)
{
    double start = now();
    for (size_t i = 0; i < count; i++) {
        struct signer *g = &s->signer[i % KEYS];
        MUST(EVP_PKEY_verify(g->ctx, g->der, g->der_len, g->digest, s->size) == 1);
    }
    return (now() - start) * 1e6 / (double)count;
}

static double turn_comb(struct setup *s, size_t count)
{
    static uint8_t out[QM_KEY_BYTES_MAX];
    bool p256 = s->sig_class == QM_SIG_P256;
    double start = now();
    for (size_t i = 0; i < count; i++) {
        const struct qm_key *key = s->signer[i % KEYS].key;
        qm_ec_comb_make(p256 ? &qm_ec_p256 : &qm_ec_p384, p256 ? &qm_ec_p256_key : &qm_ec_p384_key, key->limbs,
                        key->limbs + s->size / 8, out);
    }
    return (now() - start) * 1e6 / (double)count;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_size);
    return v[n / 2];
}

static void bench(struct setup *s, const struct qm_sig_kernel *k, size_t turns)
{
    double vector[TURNS_MAX], portable[TURNS_MAX], evp[TURNS_MAX], comb[TURNS_MAX];
    struct qm_fault fault;
    void *mine = aligned_alloc(QM_CACHE_LINE, k->scratch_size());
    void *theirs = aligned_alloc(QM_CACHE_LINE, qm_align_up(qm_sig_openssl.scratch_size(), QM_CACHE_LINE));
    MUST(mine != NULL && theirs != NULL);
    double start = now();
    MUST(k->init(mine, &qm_hash_openssl, &fault) == QM_OK);
    double init_ms = (now() - start) * 1e3;
    MUST(qm_sig_openssl.init(theirs, &qm_hash_openssl, &fault) == QM_OK);
    size_t slow = s->sig_class == QM_SIG_P256 ? 1024 : 128;
    for (size_t i = 0; i < turns; i++) {
        vector[i] = turn_kernel(s, k, mine, 128 * BATCH);
        portable[i] = turn_kernel(s, &qm_sig_openssl, theirs, slow);
        evp[i] = turn_evp(s, slow);
        comb[i] = turn_comb(s, 256);
    }
    double v = median(vector, turns), p = median(portable, turns), e = median(evp, turns);
    printf("{\"bench\":\"ec\",\"class\":\"%s\",\"kernel\":\"%s\",\"slots\":%zu,\"key_bytes\":%zu,\"turns\":%zu,"
           "\"kernel_per_s\":%.0f,\"kernel_us\":%.3f,\"portable_per_s\":%.0f,\"evp_per_s\":%.0f,\"over_portable\":%.2f,"
           "\"over_evp\":%.2f,\"comb_us\":%.1f,\"init_ms\":%.1f}\n",
           qm_sig_class_name(s->sig_class), k->name, s->slot_count, s->slot_bytes, turns, 1e6 / v, v, 1e6 / p, 1e6 / e,
           p / v, e / v, median(comb, turns), init_ms);
    fflush(stdout);
    k->close(mine);
    qm_sig_openssl.close(theirs);
    free(mine);
    free(theirs);
}

int main(int argc, char **argv)
{
    static struct setup setup[2];
    static const size_t usual[] = {KEYS, 100000, 1000000};
    struct qm_kernels chosen;
    struct qm_fault fault;
    size_t turns = argc > 1 ? strtoul(argv[1], NULL, 10) : 9;
    if (turns < 1 || turns > TURNS_MAX || qm_kernels_choose(&chosen, getenv("QM_KERNEL"), &fault) != QM_OK)
        return 2;
    for (int c = 0; c < 2; c++) {
        struct setup *s = &setup[c];
        s->sig_class = c == 0 ? QM_SIG_P256 : QM_SIG_P384;
        s->size = c == 0 ? 32 : 48;
        s->rng = 0x9e3779b97f4a7c15;
        for (int i = 0; i < KEYS; i++)
            make_signer(s, &s->signer[i]);
        size_t sets = argc > 2 ? (size_t)argc - 2 : c == 0 ? 3 : 2;
        for (size_t i = 0; i < sets; i++) {
            fill_slots(s, argc > 2 ? strtoul(argv[i + 2], NULL, 10) : usual[i]);
            bench(s, chosen.sig[s->sig_class], turns);
            munmap(s->slots, s->slot_count * s->slot_bytes);
        }
        for (int i = 0; i < KEYS; i++) {
            free(s->signer[i].key);
            EVP_PKEY_CTX_free(s->signer[i].ctx);
        }
    }
    return 0;
}
