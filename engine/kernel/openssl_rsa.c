/* RSA signatures by OpenSSL's BN, and the portable kernel itself, which serves every class: the
 * reference, the yardstick and what runs where no vector kernel does.
 *
 *   em = sig^e mod n, then qm_rsa_padding_ok. For e = 65537: sig to Montgomery form, 16 squarings
 * there, one multiplication by sig as it came, which leaves Montgomery form again.
 *
 * Precondition: the key was made by qm_key_make. sig >= n is invalid (RFC 8017, 5.2.2). Lanes: 1.
 * Constant time: no, all inputs are public.
 *
 * BN wants a BN_MONT_CTX for each modulus, and setting one up is a division of twice the length.
 * Each scratch keeps CACHE_COUNT of them, found by n0inv (a function of the modulus' low limb,
 * hence as good as random) and taken only when the whole modulus is equal. The key's address plays
 * no part: a table that is mapped anew at the same place, or a key written over in a test, can then
 * never meet another key's constants, equal keys share a place, and 256 bytes compared cost nothing
 * beside 17 multiplications.
 *
 * When OpenSSL fails for want of memory the job stays invalid. Whoever turns a negative into a
 * verdict asks qm_oracle_verify first, which can tell a failure from a no. */
#include "engine/kernel/openssl_sig.h"

enum {
    CACHE_BITS = 8,
    CACHE_COUNT = 1 << CACHE_BITS,
    RSA_LIMBS_MAX = 4096 / 64,
};

struct prepared {
    BN_MONT_CTX *mont;
    BIGNUM *modulus;
    uint32_t bits; /* 0: nothing prepared yet */
    uint64_t limbs[RSA_LIMBS_MAX];
};

struct scratch {
    struct qm_openssl_ecdsa ecdsa;
    BN_CTX *ctx;
    BIGNUM *sig;
    BIGNUM *power;
    struct prepared cache[CACHE_COUNT];
};

static size_t scratch_size(void)
{
    return sizeof(struct scratch);
}

static void close_scratch(void *memory)
{
    struct scratch *s = memory;
    for (size_t i = 0; i < CACHE_COUNT; i++) {
        BN_MONT_CTX_free(s->cache[i].mont);
        BN_free(s->cache[i].modulus);
    }
    BN_free(s->power);
    BN_free(s->sig);
    BN_CTX_free(s->ctx);
    qm_openssl_ecdsa_close(&s->ecdsa);
    memset(s, 0, sizeof *s);
}

/* hash is not used: qm_rsa_padding_ok hashes the portable way, which is this kernel's way. */
static qm_err init_scratch(void *memory, const struct qm_hash_kernel *hash, struct qm_fault *fault)
{
    (void)hash;
    struct scratch *s = memory;
    memset(s, 0, sizeof *s);
    s->ctx = BN_CTX_new();
    s->sig = BN_new();
    s->power = BN_new();
    bool ok = s->ctx != NULL && s->sig != NULL && s->power != NULL;
    for (size_t i = 0; i < CACHE_COUNT; i++) {
        s->cache[i].mont = BN_MONT_CTX_new();
        s->cache[i].modulus = BN_new();
        ok &= s->cache[i].mont != NULL && s->cache[i].modulus != NULL;
    }
    ok &= qm_openssl_ecdsa_init(&s->ecdsa);
    if (!ok) {
        close_scratch(s);
        return qm_fail(fault, QM_E_CRYPTO, 0, "OpenSSL could not prepare the portable kernels");
    }
    return QM_OK;
}

/* The prepared modulus of key, made now if its place holds another; NULL if OpenSSL failed. */
static struct prepared *prepare(struct scratch *s, const struct qm_key *key)
{
    struct prepared *p = &s->cache[key->n0inv * 0x9e3779b97f4a7c15u >> (64 - CACHE_BITS)];
    size_t bytes = 8 * ((key->bits + 63u) / 64);
    if (QM_LIKELY(p->bits == key->bits && memcmp(p->limbs, key->limbs, bytes) == 0))
        return p;
    p->bits = 0; /* until everything below went well */
    if (BN_lebin2bn((const uint8_t *)key->limbs, (int)bytes, p->modulus) == NULL ||
        !BN_MONT_CTX_set(p->mont, p->modulus, s->ctx))
        return NULL;
    memcpy(p->limbs, key->limbs, bytes);
    p->bits = key->bits;
    return p;
}

/* power <- sig^exponent mod n, for odd exponent >= 3 and sig < n; both BNs are < n throughout. The
 * exponent's last bit is 1, so that the last step multiplies by sig itself, not by its Montgomery
 * form, and no conversion back is needed. */
static bool raise(struct scratch *s, const struct prepared *p, uint64_t exponent)
{
    BIGNUM *base = s->sig;
    BIGNUM *mont_base = BN_CTX_get(s->ctx);
    if (mont_base == NULL || !BN_to_montgomery(mont_base, base, p->mont, s->ctx) ||
        BN_copy(s->power, mont_base) == NULL)
        return false;
    for (int bit = 62 - __builtin_clzll(exponent); bit >= 0; bit--) {
        if (!BN_mod_mul_montgomery(s->power, s->power, s->power, p->mont, s->ctx))
            return false;
        if ((exponent >> bit & 1) != 0 &&
            !BN_mod_mul_montgomery(s->power, s->power, bit == 0 ? base : mont_base, p->mont,
                                   s->ctx))
            return false;
    }
    return true;
}

static bool rsa_check(struct scratch *s, const struct qm_sig_job *job)
{
    const struct qm_key *key = job->key;
    int len = (int)((key->bits + 7u) / 8);
    uint8_t em[8 * RSA_LIMBS_MAX];
    const struct prepared *p = prepare(s, key);
    if (p == NULL || BN_bin2bn(job->sig, len, s->sig) == NULL || BN_ucmp(s->sig, p->modulus) >= 0)
        return false;
    BN_CTX_start(s->ctx);
    bool raised = raise(s, p, (uint64_t)key->exponent_high << 32 | key->exponent);
    BN_CTX_end(s->ctx);
    return raised && BN_bn2binpad(s->power, em, len) == len &&
           qm_rsa_padding_ok(job, em, (size_t)len, key->bits);
}

static void verify(void *memory, struct qm_sig_job *const *jobs, size_t count)
{
    struct scratch *s = memory;
    if (count != 0 && jobs[0]->key->sig_class > QM_SIG_RSA_ANY) {
        qm_openssl_ecdsa_verify(&s->ecdsa, jobs, count);
        return;
    }
    for (size_t i = 0; i < count; i++)
        jobs[i]->valid = rsa_check(s, jobs[i]);
}

const struct qm_sig_kernel qm_sig_openssl = {
    .name = "openssl",
    .cpu = 0,
    .classes = (1u << QM_SIG_CLASS_COUNT) - 1,
    .lanes = 1,
    .scratch_size = scratch_size,
    .init = init_scratch,
    .close = close_scratch,
    .verify = verify,
};
