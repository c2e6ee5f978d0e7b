#include "tests/forge.h"

#include <openssl/obj_mac.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MUST(what)                                                                                 \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            fprintf(stderr, "%s:%d: %s failed\n", __FILE__, __LINE__, #what);                      \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* ---- numbers from a seed
 * ------------------------------------------------------------------------------------------ */

struct forge_rng forge_seed(const char *test)
{
    const char *env = getenv("QM_SEED");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seed = env != NULL ? strtoull(env, NULL, 0)
                                : (uint64_t)now.tv_sec * 1000000007u + (uint64_t)now.tv_nsec;
    fprintf(stderr, "%s: QM_SEED=%llu\n", test, (unsigned long long)seed);
    return (struct forge_rng){seed};
}

/* splitmix64 */
uint64_t forge_u64(struct forge_rng *rng)
{
    uint64_t z = rng->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint64_t forge_below(struct forge_rng *rng, uint64_t limit)
{
    return forge_u64(rng) % limit;
}

void forge_bytes(struct forge_rng *rng, uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)forge_u64(rng);
}

void forge_pattern(struct forge_rng *rng, uint8_t *p, size_t len)
{
    uint64_t kind = forge_below(rng, 7);
    if (kind == 6) { /* limb by limb: zero, all ones, a bit, random */
        for (size_t i = 0; i < len; i += 8) {
            const uint64_t of[4] = {0, UINT64_MAX, 1ull << forge_below(rng, 64), forge_u64(rng)};
            memcpy(p + i, &of[forge_below(rng, 4)], len - i < 8 ? len - i : 8);
        }
        return;
    }
    uint8_t fill = kind == 2 || kind == 4 ? 0xff : 0;
    if (kind <= 0 || kind == 5) {
        forge_bytes(rng, p, len);
        if (kind == 5) /* random, with a run of zeros or ones */
            memset(p + forge_below(rng, len / 2), (forge_u64(rng) & 1) != 0 ? 0xff : 0, len / 2);
        return;
    }
    memset(p, fill, len);
    if (kind <= 2) /* one to four bits differ */
        for (uint64_t i = forge_below(rng, 4) + 1; i > 0; i--)
            p[forge_below(rng, len)] ^= (uint8_t)(1u << forge_below(rng, 8));
}

/* ---- what is freed together
 * --------------------------------------------------------------------------------------- */

static struct held {
    void *p;
    void (*release)(void *p);
} * held;
static size_t held_count, held_cap;

static void *hold(void *p, void (*release)(void *p))
{
    MUST(p != NULL);
    if (held_count == held_cap) {
        held_cap = held_cap == 0 ? 256 : 2 * held_cap;
        held = realloc(held, held_cap * sizeof *held);
        MUST(held != NULL);
    }
    held[held_count++] = (struct held){p, release};
    return p;
}

static void release_bn(void *p)
{
    BN_free(p);
}
static void release_point(void *p)
{
    EC_POINT_free(p);
}

static BIGNUM *bn(void)
{
    return hold(BN_new(), release_bn);
}

uint8_t *forge_copy(const void *p, size_t len)
{
    return memcpy(hold(malloc(len), free), p, len);
}

void forge_free_all(void)
{
    while (held_count != 0) {
        struct held *h = &held[--held_count];
        h->release(h->p);
    }
    free(held);
    held = NULL;
    held_cap = 0;
}

static struct qm_key *key_room(void)
{
    return hold(aligned_alloc(QM_CACHE_LINE, QM_KEY_BYTES_MAX), free);
}

/* A copy that ends where the key says that it does. */
static struct qm_key *trim(const struct qm_key *key)
{
    return memcpy(hold(aligned_alloc(QM_CACHE_LINE, key->bytes), free), key, key->bytes);
}

/* ---- RSA
 * ----------------------------------------------------------------------------------------------------------
 */

static BN_CTX *ctx(void)
{
    static BN_CTX *c;
    if (c == NULL)
        c = BN_CTX_new();
    MUST(c != NULL);
    return c;
}

/* From start on by steps of 2 (or -2) to a prime p with gcd(p - 1, e) = 1; e is prime or near
 * enough: gcd is computed. */
static void next_prime(BIGNUM *p, bool down, const BIGNUM *e)
{
    BIGNUM *less = BN_new(), *gcd = BN_new();
    MUST(less != NULL && gcd != NULL);
    MUST(BN_set_bit(p, 0));
    for (;;) {
        int prime = BN_check_prime(p, ctx(), NULL);
        MUST(prime >= 0);
        if (prime == 1) {
            MUST(BN_sub(less, p, BN_value_one()) && BN_gcd(gcd, less, e, ctx()));
            if (BN_is_one(gcd))
                break;
        }
        MUST(down ? BN_sub_word(p, 2) : BN_add_word(p, 2));
    }
    BN_free(gcd);
    BN_free(less);
}

static void random_bits(struct forge_rng *rng, BIGNUM *out, unsigned bits)
{
    uint8_t raw[512];
    size_t len = (bits + 7) / 8;
    forge_bytes(rng, raw, len);
    MUST(BN_bin2bn(raw, (int)len, out) && BN_set_bit(out, (int)bits - 1));
    if (BN_num_bits(out) > (int)bits)
        MUST(BN_mask_bits(out, (int)bits));
}

/* One try: the last prime is chosen so that the product has the shape. */
static bool make_modulus(struct forge_rng *rng, struct forge_rsa *rsa, const BIGNUM *e,
                         enum forge_shape shape)
{
    BIGNUM *target = bn(), *last = bn();
    rsa->prime_count = (rsa->bits + 511) / 512;
    MUST(BN_one(rsa->n));
    for (unsigned i = 0; i + 1 < rsa->prime_count; i++) {
        rsa->prime[i] = bn();
        random_bits(rng, rsa->prime[i], rsa->bits / rsa->prime_count);
        next_prime(rsa->prime[i], false, e);
        MUST(BN_mul(rsa->n, rsa->n, rsa->prime[i], ctx()));
    }
    bool down = shape == FORGE_ONES;
    if (shape == FORGE_RANDOM)
        random_bits(rng, target, rsa->bits);
    else
        MUST(BN_set_bit(target, (int)(down ? rsa->bits : rsa->bits - 1)));
    MUST(BN_div(last, NULL, target, rsa->n, ctx()));
    MUST(down ? BN_sub_word(last, 2) : BN_add_word(last, 2));
    next_prime(last, down, e);
    rsa->prime[rsa->prime_count - 1] = last;
    MUST(BN_mul(rsa->n, rsa->n, last, ctx()));
    return BN_num_bits(rsa->n) == (int)rsa->bits;
}

void forge_rsa_make(struct forge_rng *rng, struct forge_rsa *rsa, unsigned bits, uint64_t exponent,
                    enum forge_shape shape)
{
    BIGNUM *e = bn(), *less = bn(), *rest = bn();
    *rsa = (struct forge_rsa){.bits = bits, .len = (bits + 7) / 8, .n = bn()};
    MUST(BN_lebin2bn((const uint8_t *)&exponent, sizeof exponent, e));
    while (!make_modulus(rng, rsa, e, shape))
        ;
    for (unsigned i = 0; i < rsa->prime_count; i++) {
        const BIGNUM *p = rsa->prime[i];
        rsa->exponent[i] = bn();
        rsa->weight[i] = bn();
        MUST(BN_sub(less, p, BN_value_one()));
        MUST(BN_mod_inverse(rsa->exponent[i], e, less, ctx()));
        MUST(BN_div(rest, NULL, rsa->n, p, ctx()));
        MUST(BN_mod_inverse(rsa->weight[i], rest, p, ctx()));
        MUST(BN_mul(rsa->weight[i], rsa->weight[i], rest, ctx()));
    }
    uint8_t n[512];
    struct qm_fault fault;
    MUST(BN_bn2binpad(rsa->n, n, (int)rsa->len) == (int)rsa->len);
    struct qm_public_numbers numbers = {.rsa = true, .exponent = exponent, .a = {n, rsa->len}};
    struct qm_key *key = key_room();
    MUST(qm_key_make(&numbers, key, &fault) == QM_OK);
    rsa->key = trim(key);
    MUST(qm_key_sound(rsa->key, rsa->key->bytes));
}

bool forge_rsa_sign(const struct forge_rsa *rsa, const uint8_t *em, uint8_t *sig)
{
    BIGNUM *m = BN_bin2bn(em, (int)rsa->len, NULL);
    BIGNUM *part = BN_new(), *sum = BN_new();
    MUST(m != NULL && part != NULL && sum != NULL);
    bool fits = BN_ucmp(m, rsa->n) < 0;
    for (unsigned i = 0; fits && i < rsa->prime_count; i++) {
        MUST(BN_mod(part, m, rsa->prime[i], ctx()));
        MUST(BN_mod_exp(part, part, rsa->exponent[i], rsa->prime[i], ctx()));
        MUST(BN_mul(part, part, rsa->weight[i], ctx()));
        MUST(BN_add(sum, sum, part));
    }
    if (fits) {
        MUST(BN_mod(sum, sum, rsa->n, ctx()));
        MUST(BN_bn2binpad(sum, sig, (int)rsa->len) == (int)rsa->len);
    }
    BN_free(sum);
    BN_free(part);
    BN_free(m);
    return fits;
}

void forge_pkcs1(uint8_t *em, size_t len, enum qm_hash hash, const uint8_t *digest)
{
    size_t size = qm_hash_size(hash);
    /* the hash algorithms differ in the last byte of their OID, 2.16.840.1.101.3.4.2.x */
    uint8_t info[19] = {0x30,
                        (uint8_t)(size + 17),
                        0x30,
                        0x0d,
                        0x06,
                        0x09,
                        0x60,
                        0x86,
                        0x48,
                        0x01,
                        0x65,
                        0x03,
                        0x04,
                        0x02,
                        (uint8_t)(hash - QM_HASH_SHA256 + 1),
                        0x05,
                        0x00,
                        0x04,
                        (uint8_t)size};
    memset(em, 0xff, len);
    em[0] = 0;
    em[1] = 1;
    em[len - size - sizeof info - 1] = 0;
    memcpy(em + len - size - sizeof info, info, sizeof info);
    memcpy(em + len - size, digest, size);
}

void forge_pss(uint8_t *em, unsigned bits, enum qm_hash hash, enum qm_hash mgf,
               const uint8_t *digest, const uint8_t *salt, size_t salt_len)
{
    forge_pss_odd(em, bits, hash, mgf, digest, salt, salt_len, 0, 1);
}

void forge_pss_odd(uint8_t *em, unsigned bits, enum qm_hash hash, enum qm_hash mgf,
                   const uint8_t *digest, const uint8_t *salt, size_t salt_len, uint8_t pad,
                   uint8_t separator)
{
    uint8_t text[8 + QM_DIGEST_MAX + 512] = {0};
    size_t size = qm_hash_size(hash);
    size_t em_len = (bits - 1 + 7) / 8;
    if ((bits - 1) % 8 == 0)
        *em++ = 0;
    size_t db_len = em_len - size - 1;
    uint8_t *h = em + db_len;
    MUST(salt_len <= db_len - 1);
    memcpy(text + 8, digest, size);
    memcpy(text + 8 + size, salt, salt_len);
    qm_hash_one(hash, (struct qm_span){text, 8 + size + salt_len}, h);
    em[em_len - 1] = 0xbc;
    memset(em, 0, db_len);
    em[db_len - salt_len - 1] = separator;
    if (db_len - salt_len >= 3)
        em[db_len - salt_len - 2] = pad;
    memcpy(em + db_len - salt_len, salt, salt_len);
    for (size_t done = 0, counter = 0; done < db_len; counter++) {
        uint8_t seed[QM_DIGEST_MAX + 4] = {0};
        uint8_t mask[QM_DIGEST_MAX];
        memcpy(seed, h, size);
        seed[size + 3] = (uint8_t)counter;
        qm_hash_one(mgf, (struct qm_span){seed, size + 4}, mask);
        for (size_t i = 0; i < qm_hash_size(mgf) && done < db_len; i++)
            em[done++] ^= mask[i];
    }
    em[0] &= (uint8_t)(0xff >> (8 * em_len - (bits - 1)));
}

/* ---- ECDSA
 * --------------------------------------------------------------------------------------------------------
 */

const struct forge_curve *forge_curve(enum qm_sig_class sig_class)
{
    static struct forge_curve curves[2];
    struct forge_curve *c = &curves[sig_class == QM_SIG_P384];
    if (c->group == NULL) {
        bool p256 = sig_class == QM_SIG_P256;
        c->sig_class = sig_class;
        c->size = p256 ? 32 : 48;
        c->group = EC_GROUP_new_by_curve_name(p256 ? NID_X9_62_prime256v1 : NID_secp384r1);
        MUST(c->group != NULL);
        c->n = BN_dup(EC_GROUP_get0_order(c->group));
        c->p = BN_dup(EC_GROUP_get0_field(c->group));
        MUST(c->n != NULL && c->p != NULL);
    }
    return c;
}

struct qm_key *forge_ec_key(const struct forge_curve *c, const EC_POINT *q)
{
    uint8_t xy[2][48];
    struct qm_fault fault;
    BIGNUM *x = BN_new(), *y = BN_new();
    MUST(x != NULL && y != NULL);
    MUST(EC_POINT_get_affine_coordinates(c->group, q, x, y, ctx()));
    MUST(BN_bn2binpad(x, xy[0], (int)c->size) == (int)c->size);
    MUST(BN_bn2binpad(y, xy[1], (int)c->size) == (int)c->size);
    BN_free(y);
    BN_free(x);
    struct qm_public_numbers numbers = {
        .ec_class = c->sig_class, .a = {xy[0], c->size}, .b = {xy[1], c->size}};
    struct qm_key *key = key_room();
    MUST(qm_key_make(&numbers, key, &fault) == QM_OK);
    key = trim(key);
    MUST(qm_key_sound(key, key->bytes));
    return key;
}

struct qm_key *forge_ec_key_of(const struct forge_curve *c, const BIGNUM *d)
{
    EC_POINT *q = EC_POINT_new(c->group);
    MUST(q != NULL && EC_POINT_mul(c->group, q, d, NULL, NULL, ctx()));
    struct qm_key *key = forge_ec_key(c, q);
    EC_POINT_free(q);
    return key;
}

static void write_rs(const struct forge_curve *c, const BIGNUM *r, const BIGNUM *s, uint8_t *rs)
{
    MUST(BN_bn2binpad(r, rs, (int)c->size) == (int)c->size);
    MUST(BN_bn2binpad(s, rs + c->size, (int)c->size) == (int)c->size);
}

void forge_ec_sign(struct forge_rng *rng, const struct forge_curve *c, const BIGNUM *d,
                   const BIGNUM *e, uint8_t *rs)
{
    BIGNUM *k = BN_new(), *r = BN_new(), *s = BN_new();
    EC_POINT *point = EC_POINT_new(c->group);
    MUST(k != NULL && r != NULL && s != NULL && point != NULL);
    do {
        random_bits(rng, k, (unsigned)(8 * c->size - 1));
        MUST(EC_POINT_mul(c->group, point, k, NULL, NULL, ctx()));
        MUST(EC_POINT_get_affine_coordinates(c->group, point, r, NULL, ctx()));
        MUST(BN_nnmod(r, r, c->n, ctx()));
        MUST(BN_mod_mul(s, r, d, c->n, ctx()) && BN_mod_add(s, s, e, c->n, ctx()));
        MUST(BN_mod_inverse(k, k, c->n, ctx()) && BN_mod_mul(s, s, k, c->n, ctx()));
    } while (BN_is_zero(r) || BN_is_zero(s));
    write_rs(c, r, s, rs);
    EC_POINT_free(point);
    BN_free(s);
    BN_free(r);
    BN_free(k);
}

struct qm_key *forge_ec_around(const struct forge_curve *c, const EC_POINT *point, const BIGNUM *u1,
                               const BIGNUM *u2, BIGNUM *e, uint8_t *rs)
{
    BIGNUM *r = BN_new(), *s = BN_new(), *t = BN_new();
    EC_POINT *q = EC_POINT_new(c->group);
    struct qm_key *key = NULL;
    MUST(r != NULL && s != NULL && t != NULL && q != NULL);
    /* Q = (R - u1 G) / u2 */
    MUST(EC_POINT_mul(c->group, q, u1, NULL, NULL, ctx()) && EC_POINT_invert(c->group, q, ctx()));
    MUST(EC_POINT_add(c->group, q, q, point, ctx()));
    MUST(BN_mod_inverse(t, u2, c->n, ctx()));
    MUST(EC_POINT_mul(c->group, q, NULL, q, t, ctx()));
    /* s = r / u2, e = u1 s */
    MUST(EC_POINT_get_affine_coordinates(c->group, point, r, NULL, ctx()));
    MUST(BN_nnmod(r, r, c->n, ctx()) && BN_mod_mul(s, r, t, c->n, ctx()));
    MUST(BN_mod_mul(e, u1, s, c->n, ctx()));
    if (!EC_POINT_is_at_infinity(c->group, q) && !BN_is_zero(r)) {
        key = forge_ec_key(c, q);
        write_rs(c, r, s, rs);
    }
    EC_POINT_free(q);
    BN_free(t);
    BN_free(s);
    BN_free(r);
    return key;
}

EC_POINT *forge_ec_point(const struct forge_curve *c, const BIGNUM *from)
{
    BIGNUM *x = BN_dup(from);
    EC_POINT *point = hold(EC_POINT_new(c->group), release_point);
    MUST(x != NULL);
    while (EC_POINT_set_compressed_coordinates(c->group, point, x, 0, ctx()) != 1)
        MUST(BN_add_word(x, 1));
    BN_free(x);
    return point;
}
