/* Public keys, checked and prepared. Arithmetic is OpenSSL's: this runs once for each key, at
 * enrolment, and what it writes is believed by every kernel afterwards. */
#include "engine/kernel/key.h"

#include "engine/kernel/ec_comb.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/obj_mac.h>

enum {
    RSA_BITS_MIN = 2048,
    RSA_BITS_MAX = 4096,
    RSA_EXPONENT_MIN = 65537,
};

/* Field primes, least significant limb first (SP 800-186, 3.2.1.3 and 3.2.1.4). */
static const uint64_t p256_prime[4] = {
    0xffffffffffffffff,
    0x00000000ffffffff,
    0x0000000000000000,
    0xffffffff00000001,
};
static const uint64_t p384_prime[6] = {
    0x00000000ffffffff, 0xffffffff00000000, 0xfffffffffffffffe,
    0xffffffffffffffff, 0xffffffffffffffff, 0xffffffffffffffff,
};

static enum qm_sig_class rsa_class(unsigned bits)
{
    return bits == 2048   ? QM_SIG_RSA2048
           : bits == 3072 ? QM_SIG_RSA3072
           : bits == 4096 ? QM_SIG_RSA4096
                          : QM_SIG_RSA_ANY;
}

static struct qm_span without_leading_zeros(struct qm_span s)
{
    while (s.len != 0 && s.p[0] == 0) {
        s.p++;
        s.len--;
    }
    return s;
}

static size_t bit_length(struct qm_span big_endian)
{
    struct qm_span s = without_leading_zeros(big_endian);
    return s.len == 0 ? 0 : 8 * s.len + 24 - (size_t)__builtin_clz(s.p[0]); /* of 32 bits */
}

/* Big-endian bytes to count limbs, least significant first. The number must fit: bit_length(s) <=
 * 64 * count. */
static void limbs_from_bytes(uint64_t *limbs, size_t count, struct qm_span s)
{
    s = without_leading_zeros(s);
    memset(limbs, 0, 8 * count);
    for (size_t i = 0; i < s.len; i++)
        limbs[i / 8] |= (uint64_t)s.p[s.len - 1 - i] << (8 * (i % 8));
}

/* a < b, count limbs each. */
static bool limbs_less(const uint64_t *a, const uint64_t *b, size_t count)
{
    for (size_t i = count; i-- > 0;)
        if (a[i] != b[i])
            return a[i] < b[i];
    return false;
}

static bool limbs_zero(const uint64_t *a, size_t count)
{
    uint64_t any = 0;
    for (size_t i = 0; i < count; i++)
        any |= a[i];
    return any == 0;
}

/* -n^-1 mod 2^64 for odd n. Newton: n is its own inverse mod 8, and each step doubles the bits that
 * are right. */
static uint64_t negated_inverse(uint64_t n)
{
    uint64_t x = n;
    for (int right = 3; right < 64; right *= 2)
        x *= 2 - n * x;
    return -x;
}

/* r2 <- 2^(104 * digits) mod n. */
static bool montgomery_square(const uint64_t *n, size_t k64, unsigned bits, uint64_t *r2)
{
    BN_CTX *ctx = BN_CTX_new();
    BIGNUM *modulus = BN_lebin2bn((const uint8_t *)n, (int)(8 * k64), NULL);
    BIGNUM *r = BN_new();
    bool ok = ctx != NULL && modulus != NULL && r != NULL &&
              BN_set_bit(r, (int)(2 * 52 * qm_rsa_digits(bits))) && BN_mod(r, r, modulus, ctx) &&
              BN_bn2lebinpad(r, (uint8_t *)r2, (int)(8 * k64)) == (int)(8 * k64);
    BN_free(r);
    BN_free(modulus);
    BN_CTX_free(ctx);
    return ok;
}

static qm_err make_rsa(const struct qm_public_numbers *in, struct qm_key *out,
                       struct qm_fault *fault)
{
    size_t length = bit_length(in->a);
    if (length < RSA_BITS_MIN || length > RSA_BITS_MAX)
        return qm_fail(fault, QM_E_REFUSED, 0, "the RSA modulus has %zu bits; taken are %d to %d",
                       length, RSA_BITS_MIN, RSA_BITS_MAX);
    unsigned bits = (unsigned)length;
    if ((in->a.p[in->a.len - 1] & 1) == 0)
        return qm_fail(fault, QM_E_REFUSED, 0, "the RSA modulus is even");
    if (in->exponent < RSA_EXPONENT_MIN || (in->exponent & 1) == 0)
        return qm_fail(fault, QM_E_REFUSED, 0,
                       "the RSA exponent is %llu; it must be odd and at least %d",
                       (unsigned long long)in->exponent, RSA_EXPONENT_MIN);

    size_t k64 = (bits + 63) / 64;
    out->sig_class = (uint8_t)rsa_class(bits);
    out->bits = (uint16_t)bits;
    out->exponent = (uint32_t)in->exponent;
    out->exponent_high = (uint32_t)(in->exponent >> 32);
    out->bytes = (uint32_t)qm_align_up(sizeof *out + 2 * 8 * k64, QM_CACHE_LINE);
    limbs_from_bytes(out->limbs, k64, in->a);
    out->n0inv = negated_inverse(out->limbs[0]);
    if (!montgomery_square(out->limbs, k64, bits, out->limbs + k64))
        return qm_fail(fault, QM_E_CRYPTO, 0, "OpenSSL could not reduce modulo an RSA modulus");
    return QM_OK;
}

/* Is (x, y) on the curve? Coordinates below the prime, least significant limb first. */
static qm_err on_curve(int nid, const uint64_t *limbs, size_t k, bool *on, struct qm_fault *fault)
{
    EC_GROUP *group = EC_GROUP_new_by_curve_name(nid);
    EC_POINT *point = group != NULL ? EC_POINT_new(group) : NULL;
    BN_CTX *ctx = BN_CTX_new();
    BIGNUM *x = BN_lebin2bn((const uint8_t *)limbs, (int)(8 * k), NULL);
    BIGNUM *y = BN_lebin2bn((const uint8_t *)(limbs + k), (int)(8 * k), NULL);
    bool able = point != NULL && ctx != NULL && x != NULL && y != NULL;
    /* set_affine_coordinates refuses what is not on the curve, and answers -1 to nothing */
    *on = able && EC_POINT_set_affine_coordinates(group, point, x, y, ctx) == 1 &&
          EC_POINT_is_on_curve(group, point, ctx) == 1;
    BN_free(y);
    BN_free(x);
    BN_CTX_free(ctx);
    EC_POINT_free(point);
    EC_GROUP_free(group);
    return able ? QM_OK : qm_fail(fault, QM_E_CRYPTO, 0, "OpenSSL could not set up the curve");
}

/* The table that vector kernels read (ec_comb.h), behind the coordinates. */
static void add_comb(struct qm_key *key, const struct qm_ec_curve *curve,
                     const struct qm_ec_comb_shape *shape)
{
    size_t bytes = qm_ec_comb_bytes(curve, shape);
    if (bytes > QM_KEY_BYTES_MAX - key->bytes)
        return;
    key->extra_off = key->bytes;
    key->extra_bytes = (uint32_t)bytes;
    key->bytes += (uint32_t)bytes;
    qm_ec_comb_make(curve, shape, key->limbs, key->limbs + curve->words,
                    (uint8_t *)key + key->extra_off);
}

static qm_err make_ec(const struct qm_public_numbers *in, struct qm_key *out,
                      struct qm_fault *fault)
{
    if (in->ec_class != QM_SIG_P256 && in->ec_class != QM_SIG_P384)
        return qm_fail(fault, QM_E_REFUSED, 0, "the curve is neither P-256 nor P-384");
    bool p256 = in->ec_class == QM_SIG_P256;
    const uint64_t *prime = p256 ? p256_prime : p384_prime;
    const char *name = p256 ? "P-256" : "P-384";
    size_t k = p256 ? QM_COUNT(p256_prime) : QM_COUNT(p384_prime);

    if (bit_length(in->a) > 64 * k || bit_length(in->b) > 64 * k)
        return qm_fail(fault, QM_E_REFUSED, 0, "a coordinate is too long for %s", name);
    out->sig_class = (uint8_t)in->ec_class;
    out->bits = (uint16_t)(64 * k);
    out->bytes = (uint32_t)qm_align_up(sizeof *out + 2 * 8 * k, QM_CACHE_LINE);
    limbs_from_bytes(out->limbs, k, in->a);
    limbs_from_bytes(out->limbs + k, k, in->b);
    if (!limbs_less(out->limbs, prime, k) || !limbs_less(out->limbs + k, prime, k))
        return qm_fail(fault, QM_E_REFUSED, 0, "a coordinate is not below the prime of %s", name);
    /* (0, 0) is on neither curve (b is not 0); some encodings mean the point at infinity by it */
    if (limbs_zero(out->limbs, 2 * k))
        return qm_fail(fault, QM_E_REFUSED, 0, "the public point is the point at infinity");
    bool on;
    qm_err err = on_curve(p256 ? NID_X9_62_prime256v1 : NID_secp384r1, out->limbs, k, &on, fault);
    if (err != QM_OK)
        return err;
    if (!on)
        return qm_fail(fault, QM_E_REFUSED, 0, "the public point is not on %s", name);
    add_comb(out, p256 ? &qm_ec_p256 : &qm_ec_p384, p256 ? &qm_ec_p256_key : &qm_ec_p384_key);
    return QM_OK;
}

qm_err qm_key_make(const struct qm_public_numbers *in, struct qm_key *out, struct qm_fault *fault)
{
    memset(out, 0, QM_KEY_BYTES_MAX);
    qm_err err = in->rsa ? make_rsa(in, out, fault) : make_ec(in, out, fault);
    if (err != QM_OK)
        memset(out, 0, QM_KEY_BYTES_MAX); /* a key that was refused is none */
    return err;
}

static void bytes_from_limbs(uint8_t *big_endian, const uint64_t *limbs, size_t count)
{
    for (size_t i = 0; i < 8 * count; i++)
        big_endian[8 * count - 1 - i] = (uint8_t)(limbs[i / 8] >> (8 * (i % 8)));
}

qm_err qm_key_remake(const struct qm_key *in, struct qm_key *out, struct qm_fault *fault)
{
    uint8_t a[RSA_BITS_MAX / 8], b[RSA_BITS_MAX / 8];
    const size_t k = (in->bits + 63u) / 64;
    const bool rsa = in->sig_class <= QM_SIG_RSA_ANY;
    const struct qm_public_numbers numbers = {
        .rsa = rsa,
        .ec_class = (enum qm_sig_class)in->sig_class,
        .exponent = (uint64_t)in->exponent_high << 32 | in->exponent,
        .a = {a, 8 * k},
        .b = {b, 8 * k},
    };
    bytes_from_limbs(a, in->limbs, k);
    if (!rsa)
        bytes_from_limbs(b, in->limbs + k, k);
    return qm_key_make(&numbers, out, fault);
}

static bool rsa_sound(const struct qm_key *key, size_t k64)
{
    const uint64_t *n = key->limbs;
    uint64_t exponent = (uint64_t)key->exponent_high << 32 | key->exponent;
    unsigned top = (key->bits - 1u) % 64;
    return (n[0] & 1) == 1 && n[k64 - 1] >> top == 1 && n[0] * key->n0inv == UINT64_MAX &&
           limbs_less(n + k64, n, k64) && !limbs_zero(n + k64, k64) && (exponent & 1) == 1 &&
           exponent >= RSA_EXPONENT_MIN;
}

static bool ec_sound(const struct qm_key *key, const uint64_t *prime, size_t k)
{
    return limbs_less(key->limbs, prime, k) && limbs_less(key->limbs + k, prime, k) &&
           !limbs_zero(key->limbs, 2 * k);
}

/* Not asked: is R^2 the right residue, is the point on its curve, are the kernel's constants of
 * this key? Those cost a division or more, and the table's checksums answer for them; what is asked
 * bounds every loop and every range in the kernels. */
bool qm_key_sound(const struct qm_key *key, size_t bytes)
{
    if ((uintptr_t)key % QM_CACHE_LINE != 0 || bytes < sizeof *key || key->bytes > bytes ||
        key->bytes > QM_KEY_BYTES_MAX || key->bytes % QM_CACHE_LINE != 0 || key->reserved != 0)
        return false;
    bool rsa = key->sig_class <= QM_SIG_RSA_ANY;
    unsigned bits = key->bits;
    if (rsa) {
        if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX || key->sig_class != rsa_class(bits))
            return false;
    } else if (!(key->sig_class == QM_SIG_P256 && bits == 256) &&
               !(key->sig_class == QM_SIG_P384 && bits == 384)) {
        return false;
    }
    size_t k = (bits + 63) / 64;
    size_t used = sizeof *key + 2 * 8 * k;
    if (key->bytes < used)
        return false;
    if (key->extra_bytes != 0 &&
        (key->extra_off % QM_CACHE_LINE != 0 || key->extra_off < used ||
         key->extra_off > key->bytes || key->extra_bytes > key->bytes - key->extra_off))
        return false;
    if (key->extra_bytes == 0 && key->extra_off != 0)
        return false;
    return rsa ? rsa_sound(key, k) : ec_sound(key, bits == 256 ? p256_prime : p384_prime, k);
}
