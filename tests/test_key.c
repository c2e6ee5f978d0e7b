/* Keys: what is refused, what is computed, and what a stored key must keep. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "engine/kernel/ec_comb.h"
#include "tests/forge.h"

static _Alignas(QM_CACHE_LINE) uint8_t room[QM_KEY_BYTES_MAX + QM_CACHE_LINE];

static struct qm_key *key_here(void)
{
    return (struct qm_key *)(void *)room;
}

static qm_err make_rsa(const uint8_t *n, size_t len, uint64_t exponent)
{
    struct qm_fault fault = {.text = ""};
    struct qm_public_numbers numbers = {.rsa = true, .exponent = exponent, .a = {n, len}};
    qm_err err = qm_key_make(&numbers, key_here(), &fault);
    cr_assert_eq(err == QM_OK, fault.text[0] == '\0', "a refusal says why");
    cr_assert_eq(err == QM_OK, qm_key_sound(key_here(), QM_KEY_BYTES_MAX));
    return err;
}

/* An odd number of exactly bits bits, big-endian, with a zero byte in front; gives its length. */
static size_t number_of(uint8_t *n, unsigned bits)
{
    size_t len = (bits + 7) / 8 + 1;
    memset(n, 0x5b, len);
    n[0] = 0;
    n[1] = (uint8_t)(1u << (bits - 1) % 8);
    return len;
}

Test(key, rsa_lengths)
{
    static const struct {
        unsigned bits;
        qm_err err;
        enum qm_sig_class sig_class;
    } cases[] = {
        {2047, QM_E_REFUSED, 0},       {2048, QM_OK, QM_SIG_RSA2048}, {2049, QM_OK, QM_SIG_RSA_ANY},
        {3071, QM_OK, QM_SIG_RSA_ANY}, {3072, QM_OK, QM_SIG_RSA3072}, {3073, QM_OK, QM_SIG_RSA_ANY},
        {4095, QM_OK, QM_SIG_RSA_ANY}, {4096, QM_OK, QM_SIG_RSA4096}, {4097, QM_E_REFUSED, 0},
        {1024, QM_E_REFUSED, 0},       {8192, QM_E_REFUSED, 0},
    };
    uint8_t n[1100];
    for (size_t i = 0; i < QM_COUNT(cases); i++) {
        size_t len = number_of(n, cases[i].bits);
        cr_assert_eq(make_rsa(n, len, 65537), cases[i].err, "%u bits", cases[i].bits);
        if (cases[i].err != QM_OK)
            continue;
        cr_assert_eq(key_here()->sig_class, cases[i].sig_class);
        cr_assert_eq(key_here()->bits, cases[i].bits);
    }
    memset(n, 0, sizeof n);
    cr_assert_eq(make_rsa(n, 256, 65537), QM_E_REFUSED);
    cr_assert_eq(make_rsa(n, 0, 65537), QM_E_REFUSED);
    size_t len = number_of(n, 2048);
    n[len - 1] &= 0xfe;
    cr_assert_eq(make_rsa(n, len, 65537), QM_E_REFUSED, "even");
}

Test(key, rsa_exponents)
{
    static const struct {
        uint64_t exponent;
        qm_err err;
    } cases[] = {
        {0, QM_E_REFUSED},
        {1, QM_E_REFUSED},
        {3, QM_E_REFUSED},
        {65535, QM_E_REFUSED},
        {65536, QM_E_REFUSED},
        {65537, QM_OK},
        {65538, QM_E_REFUSED},
        {65539, QM_OK},
        {0x10000000f, QM_OK},
        {UINT64_MAX, QM_OK},
        {UINT64_MAX - 1, QM_E_REFUSED},
    };
    uint8_t n[300];
    size_t len = number_of(n, 2048);
    for (size_t i = 0; i < QM_COUNT(cases); i++) {
        cr_assert_eq(make_rsa(n, len, cases[i].exponent), cases[i].err, "%llx",
                     (unsigned long long)cases[i].exponent);
        if (cases[i].err == QM_OK)
            cr_assert_eq((uint64_t)key_here()->exponent_high << 32 | key_here()->exponent,
                         cases[i].exponent);
    }
}

Test(key, rsa_constants)
{
    static const unsigned bits[] = {2048, 2049, 2056, 2078, 2079, 3072, 4095, 4096};
    struct forge_rng rng = forge_seed("rsa_constants");
    BN_CTX *ctx = BN_CTX_new();
    for (size_t i = 0; i < QM_COUNT(bits); i++) {
        uint8_t n[600];
        size_t len = number_of(n, bits[i]);
        forge_bytes(&rng, n + 2, len - 2);
        n[len - 1] |= 1;
        cr_assert_eq(make_rsa(n, len, 65537), QM_OK);
        const struct qm_key *key = key_here();
        size_t k64 = (bits[i] + 63) / 64;
        BIGNUM *modulus = BN_bin2bn(n, (int)len, NULL), *r2 = BN_new(), *two = BN_new();
        BIGNUM *limbs = BN_lebin2bn((const uint8_t *)key->limbs, (int)(8 * k64), NULL);
        BIGNUM *limbs_r2 = BN_lebin2bn((const uint8_t *)(key->limbs + k64), (int)(8 * k64), NULL);
        cr_assert_eq(BN_cmp(modulus, limbs), 0);
        cr_assert_geq(52 * qm_rsa_digits(bits[i]), bits[i] + 2);
        cr_assert(BN_set_word(two, 2) && BN_set_word(r2, 104 * qm_rsa_digits(bits[i])));
        cr_assert(BN_mod_exp(r2, two, r2, modulus, ctx));
        cr_assert_eq(BN_cmp(r2, limbs_r2), 0, "R^2 for %u bits", bits[i]);
        cr_assert_eq(key->limbs[0] * key->n0inv, UINT64_MAX);
        cr_assert_eq(key->bytes % 64, 0);
        cr_assert_geq(key->bytes, 32 + 16 * k64);
        cr_assert_lt(key->bytes, 32 + 16 * k64 + 64);
        BN_free(limbs_r2);
        BN_free(limbs);
        BN_free(two);
        BN_free(r2);
        BN_free(modulus);
    }
    BN_CTX_free(ctx);
}

static qm_err make_ec(enum qm_sig_class c, const uint8_t *x, size_t x_len, const uint8_t *y,
                      size_t y_len)
{
    struct qm_fault fault = {.text = ""};
    struct qm_public_numbers numbers = {.ec_class = c, .a = {x, x_len}, .b = {y, y_len}};
    qm_err err = qm_key_make(&numbers, key_here(), &fault);
    cr_assert_eq(err == QM_OK, fault.text[0] == '\0', "a refusal says why");
    cr_assert_eq(err == QM_OK, qm_key_sound(key_here(), QM_KEY_BYTES_MAX));
    return err;
}

static void check_points(enum qm_sig_class class)
{
    const struct forge_curve *c = forge_curve(class);
    uint8_t x[64] = {0}, y[64] = {0}, p[64], zero[64] = {0};
    size_t size = c->size;
    BIGNUM *bx = BN_new(), *by = BN_new();
    cr_assert(
        EC_POINT_get_affine_coordinates(c->group, EC_GROUP_get0_generator(c->group), bx, by, NULL));
    cr_assert(BN_bn2binpad(bx, x + 8, (int)size) > 0 && BN_bn2binpad(by, y + 8, (int)size) > 0);
    cr_assert(BN_bn2binpad(c->p, p, (int)size) > 0);
    const uint8_t *gx = x + 8, *gy = y + 8;
    cr_assert_eq(make_ec(class, gx, size, gy, size), QM_OK);
    cr_assert_eq(key_here()->sig_class, class);
    cr_assert_eq(key_here()->bits, 8 * size);
    for (size_t i = 0; i < size; i++) {
        cr_assert_eq(((const uint8_t *)key_here()->limbs)[i], gx[size - 1 - i]);
        cr_assert_eq(((const uint8_t *)key_here()->limbs)[size + i], gy[size - 1 - i]);
    }
    cr_assert_eq(make_ec(class, x, size + 8, y, size + 8), QM_OK, "leading zeros");
    cr_assert_eq(make_ec(class, gx, size, gx, size), QM_E_REFUSED, "off the curve");
    cr_assert_eq(make_ec(class, gx, size - 1, gy, size), QM_E_REFUSED, "cut short");
    cr_assert_eq(make_ec(class, zero, size, zero, size), QM_E_REFUSED, "infinity");
    cr_assert_eq(make_ec(class, zero, 0, zero, 0), QM_E_REFUSED);
    cr_assert_eq(make_ec(class, p, size, gy, size), QM_E_REFUSED, "x = p");
    cr_assert_eq(make_ec(class, gx, size, p, size), QM_E_REFUSED, "y = p");
    /* y + p is the same point to sloppy arithmetic; where it fits, and where it does not */
    cr_assert(BN_add(by, by, c->p));
    x[7] = 1;
    cr_assert_eq(make_ec(class, x + 7, size + 1, gy, size), QM_E_REFUSED, "x too long");
    if (BN_bn2binpad(by, y + 8, (int)size) > 0)
        cr_assert_eq(make_ec(class, gx, size, gy, size), QM_E_REFUSED, "y + p");
    cr_assert_eq(make_ec(QM_SIG_RSA2048, gx, size, gy, size), QM_E_REFUSED, "no curve");
    BN_free(by);
    BN_free(bx);
}

Test(key, points)
{
    check_points(QM_SIG_P256);
    check_points(QM_SIG_P384);
}

Test(key, a_prepared_p256_key_takes_two_kib_at_most)
{
    const struct qm_key *key = forge_ec_key_of(forge_curve(QM_SIG_P256), BN_value_one());
    cr_assert_eq(key->extra_bytes, QM_P256_COMB_BYTES);
    cr_assert_leq(key->bytes, 2048);
    forge_free_all();
}

/* Made again from its own numbers a key is the same; constants that it had are not looked at. */
Test(key, made_again)
{
    _Alignas(QM_CACHE_LINE) static uint8_t again[QM_KEY_BYTES_MAX];
    struct qm_fault fault;
    for (int which = 0; which < 3; which++) {
        if (which == 0) {
            uint8_t n[264];
            memset(n, 0xa5, sizeof n);
            n[sizeof n - 1] |= 1;
            const struct qm_public_numbers numbers = {.rsa = true, .exponent = 0x123456789abcdef1, .a = {n, sizeof n}};
            cr_assert_eq(qm_key_make(&numbers, key_here(), &fault), QM_OK);
        } else {
            const struct qm_key *key = forge_ec_key_of(forge_curve(which == 1 ? QM_SIG_P256 : QM_SIG_P384), BN_value_one());
            memset(room, 0, sizeof room);
            memcpy(room, key, key->bytes);
        }
        const uint32_t bytes = key_here()->bytes;
        cr_assert_eq(qm_key_remake(key_here(), (struct qm_key *)(void *)again, &fault), QM_OK, "%s", fault.text);
        cr_assert_eq(memcmp(again, room, sizeof again), 0);
        if (which == 0)
            continue;
        memset(room + key_here()->extra_off, 0, key_here()->extra_bytes);
        key_here()->bytes -= key_here()->extra_bytes;
        key_here()->extra_bytes = key_here()->extra_off = 0;
        cr_assert_eq(qm_key_remake(key_here(), (struct qm_key *)(void *)again, &fault), QM_OK);
        cr_assert_eq(((const struct qm_key *)(const void *)again)->bytes, bytes);
        cr_assert(qm_key_sound((const struct qm_key *)(const void *)again, bytes));
    }
    forge_free_all();
}

/* Changes one field of a sound key, asks, and puts it back. */
#define UNSOUND(field, value)                                                                      \
    do {                                                                                           \
        struct qm_key was = *key;                                                                  \
        key->field = (value);                                                                      \
        cr_assert(!qm_key_sound(key, QM_KEY_BYTES_MAX), #field " " #value);                        \
        memcpy(key, &was, sizeof was);                                                             \
        cr_assert(qm_key_sound(key, QM_KEY_BYTES_MAX));                                            \
    } while (0)

Test(key, what_a_stored_key_must_keep)
{
    uint8_t n[300];
    struct qm_key *key = key_here();
    size_t len = number_of(n, 2048);
    cr_assert_eq(make_rsa(n, len, 65537), QM_OK);
    cr_assert(qm_key_sound(key, key->bytes));
    cr_assert(!qm_key_sound(key, key->bytes - 1));
    cr_assert(!qm_key_sound(key, 31));
    cr_assert(!qm_key_sound(key, 0));
    UNSOUND(bytes, key->bytes - 64);
    UNSOUND(bytes, key->bytes + 8);
    UNSOUND(bytes, QM_KEY_BYTES_MAX + 64);
    UNSOUND(bytes, 0);
    UNSOUND(sig_class, QM_SIG_RSA_ANY);
    UNSOUND(sig_class, QM_SIG_P256);
    UNSOUND(sig_class, QM_SIG_CLASS_COUNT);
    UNSOUND(reserved, 1);
    UNSOUND(bits, 2047);
    UNSOUND(bits, 4096);
    UNSOUND(bits, UINT16_MAX);
    UNSOUND(exponent, 65536);
    UNSOUND(exponent, 3);
    UNSOUND(n0inv, key->n0inv + 1);
    UNSOUND(extra_off, 64);
    UNSOUND(extra_bytes, 64);
    for (size_t i = 0; i < 2; i++) { /* the modulus' ends */
        uint64_t was = key->limbs[31 * i];
        key->limbs[31 * i] = i == 0 ? was - 1 : was >> 1;
        cr_assert(!qm_key_sound(key, QM_KEY_BYTES_MAX));
        key->limbs[31 * i] = was;
    }
    memcpy(key->limbs + 32, key->limbs, 256);
    cr_assert(!qm_key_sound(key, QM_KEY_BYTES_MAX), "R^2 not below n");
    cr_assert_eq(make_rsa(n, len, 65537), QM_OK);
    memmove(room + 8, room, key->bytes);
    cr_assert(!qm_key_sound((struct qm_key *)(void *)(room + 8), QM_KEY_BYTES_MAX), "alignment");
}

Test(key, extra_constants)
{
    const struct forge_curve *c = forge_curve(QM_SIG_P256);
    const struct qm_key *g = forge_ec_key_of(c, BN_value_one());
    struct qm_key *key = key_here();
    memset(room, 0, sizeof room);
    memcpy(key, g, g->bytes);
    key->extra_off = g->bytes;
    key->extra_bytes = 1024;
    key->bytes = g->bytes + 1024;
    cr_assert(qm_key_sound(key, key->bytes));
    cr_assert(!qm_key_sound(key, key->bytes - 64));
    UNSOUND(extra_bytes, 1025);
    UNSOUND(extra_bytes, UINT32_MAX);
    UNSOUND(extra_off, 64);
    UNSOUND(extra_off, key->extra_off + 8);
    UNSOUND(extra_off, key->extra_off + 64);
    UNSOUND(extra_off, UINT32_MAX - 63);
    UNSOUND(bytes, g->bytes);
    forge_free_all();
}
