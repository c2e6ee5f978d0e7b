/* The eight-lane RSA kernels from inside: their arithmetic against OpenSSL's BN, number ranges
 * included, on moduli and inputs that are random, sparse, nearly all ones or at an end of their
 * range. What they say of whole signatures, every padding and batch size, is in test_kernels.c.
 * QM_SEED sets the seed, QM_CASES the number of powers (one a lane). */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/forge.h"
#include "tests/rsa_open.h"

#if defined(__x86_64__)

enum { LANES = RSA_OPEN_LANES, BYTES_MAX = 512, CASES = 20000 };
static const enum qm_sig_class classes[] = {QM_SIG_RSA2048, QM_SIG_RSA3072, QM_SIG_RSA4096};
static const unsigned bits_of[] = {
    [QM_SIG_RSA2048] = 2048, [QM_SIG_RSA3072] = 3072, [QM_SIG_RSA4096] = 4096};

static const struct rsa_open *const opened[] = {&rsa_open_ifma512, &rsa_open_ifma512_dual};
static const struct rsa_open *rsa; /* the one under test */

#define EACH_OPENED(i) (size_t i = 0; i < QM_COUNT(opened); i++)

static bool runs_here(const struct rsa_open *of)
{
    rsa = of;
    return (of->kernel->cpu & ~qm_cpu_features()) == 0;
}

/* Big-endian: odd, of exactly 8 len bits; random, by density, or close to either end. */
static void odd_modulus(struct forge_rng *rng, uint8_t *p, size_t len)
{
    const uint64_t kind = forge_below(rng, 8);
    if (kind >= 2) {
        forge_pattern(rng, p, len);
    } else {
        memset(p, kind == 0 ? 0x00 : 0xff, len);
        p[len - 1 - forge_below(rng, 8)] = (uint8_t)forge_u64(rng);
    }
    p[0] |= 0x80;
    p[len - 1] |= 1;
}

/* Big-endian: below n as a rule, at one of its ends, or beyond. */
static void base_for(struct forge_rng *rng, uint8_t *p, const uint8_t *n, size_t len)
{
    const uint64_t kind = forge_below(rng, 16);
    if (kind == 0) { /* n - 2 .. n + 2, unless it would borrow or carry */
        memcpy(p, n, len);
        int last = n[len - 1] + (int)forge_below(rng, 5) - 2;
        if (last >= 0 && last <= 255)
            p[len - 1] = (uint8_t)last;
    } else if (kind == 1) { /* 0 .. 3 */
        memset(p, 0, len);
        p[len - 1] = (uint8_t)forge_below(rng, 4);
    } else if (kind == 2) { /* anything */
        forge_pattern(rng, p, len);
    } else {
        forge_pattern(rng, p, len);
        for (size_t i = 0; i < len && memcmp(p, n, len) >= 0; i++)
            p[i] = n[i] == 0 ? 0 : (uint8_t)forge_below(rng, n[i]);
    }
}

static uint64_t exponent(struct forge_rng *rng)
{
    switch (forge_below(rng, 4)) {
    case 0: /* three bits */
        return 1 | 1ull << (17 + forge_below(rng, 47)) | 1ull << forge_below(rng, 17);
    case 1:
        return UINT64_MAX >> forge_below(rng, 40);
    default:
        return (forge_u64(rng) >> forge_below(rng, 40)) | 65537;
    }
}

struct power {
    _Alignas(QM_CACHE_LINE) uint8_t key[QM_KEY_BYTES_MAX];
    uint8_t n[BYTES_MAX], sig[BYTES_MAX];
    uint64_t e;
    struct qm_sig_job job;
};

static void check_power(const struct power *p, size_t len, const uint64_t (*got)[LANES],
                        unsigned lane, bool in_range, BN_CTX *ctx)
{
    BIGNUM *n = BN_bin2bn(p->n, (int)len, NULL), *x = BN_bin2bn(p->sig, (int)len, NULL),
           *e = BN_new();
    cr_assert(n != NULL && x != NULL && e != NULL && BN_set_word(e, p->e));
    cr_assert_eq(in_range, BN_cmp(x, n) < 0, "range, lane %u, %zu bytes", lane, len);
    if (in_range) {
        uint64_t limbs[BYTES_MAX / 8], want[BYTES_MAX / 8];
        for (size_t i = 0; i < len / 8; i++)
            limbs[i] = got[i][lane];
        cr_assert(BN_mod_exp_mont(x, x, e, n, ctx, NULL));
        cr_assert_eq(BN_bn2lebinpad(x, (uint8_t *)want, (int)len), (int)len);
        cr_assert(memcmp(limbs, want, len) == 0, "power, lane %u, %zu bytes, e %llu", lane, len,
                  (unsigned long long)p->e);
    }
    BN_free(e);
    BN_free(x);
    BN_free(n);
}

static void check_powers(struct forge_rng *rng)
{
    const char *env = getenv("QM_CASES");
    const unsigned long cases = env != NULL ? strtoul(env, NULL, 0) : CASES;
    static struct power power[LANES];
    BN_CTX *ctx = BN_CTX_new();
    unsigned long done = 0;
    while (done < cases) {
        /* four batches of eight are of 2048 bits; one in eight has other exponents, in some lanes
         * or all */
        const uint64_t pick = forge_below(rng, 8);
        const enum qm_sig_class sig_class = classes[pick < 5 ? 0 : pick < 7 ? 1 : 2];
        const size_t len = bits_of[sig_class] / 8;
        const uint64_t odd = forge_below(rng, 8) == 0 ? forge_u64(rng) : 0;
        struct qm_sig_job *jobs[LANES];
        for (unsigned lane = 0; lane < LANES; lane++) {
            struct power *p = &power[lane];
            struct qm_fault fault;
            odd_modulus(rng, p->n, len);
            base_for(rng, p->sig, p->n, len);
            p->e = odd >> lane & 1 ? exponent(rng) : 65537;
            const struct qm_public_numbers numbers = {
                .rsa = true, .exponent = p->e, .a = {p->n, len}};
            cr_assert_eq(qm_key_make(&numbers, (struct qm_key *)p->key, &fault), QM_OK, "%s",
                         fault.text);
            p->job = (struct qm_sig_job){.key = (const struct qm_key *)p->key, .sig = p->sig};
            jobs[lane] = &p->job;
        }
        uint64_t got[BYTES_MAX / 8][LANES];
        const unsigned in_range = rsa->power(sig_class, jobs, got);
        for (unsigned lane = 0; lane < LANES; lane++, done++)
            check_power(&power[lane], len, (const uint64_t(*)[LANES])got, lane,
                        in_range >> lane & 1, ctx);
    }
    BN_CTX_free(ctx);
    fprintf(stderr, "rsa_ifma512 powers: %s, %lu cases\n", rsa->kernel->name, done);
}

Test(rsa_ifma512, powers, .timeout = 7200)
{
    struct forge_rng rng = forge_seed("rsa_ifma512 powers");
    for EACH_OPENED(i)
        if (runs_here(opened[i]))
            check_powers(&rng);
}

/* ---- the scalar twins ---- */

/* Digits or signed columns of one lane as a number. */
static BIGNUM *number(const rsa_open_row *row, unsigned count, unsigned lane)
{
    BIGNUM *sum = BN_new(), *x = BN_new();
    cr_assert(sum != NULL && x != NULL);
    for (unsigned i = count; i-- > 0;) {
        const int64_t v = (int64_t)row[i][lane];
        cr_assert(v < 1ll << 62 && v > -(1ll << 62), "column %u out of range", i);
        cr_assert(BN_lshift(sum, sum, (int)rsa->radix) &&
                  BN_set_word(x, (BN_ULONG)(v < 0 ? -v : v)));
        BN_set_negative(x, v < 0);
        cr_assert(BN_add(sum, sum, x));
    }
    BN_free(x);
    return sum;
}

static void random_digits(struct forge_rng *rng, rsa_open_row *a, unsigned len)
{
    for (unsigned lane = 0; lane < LANES; lane++) {
        const uint64_t kind = forge_below(rng, 4);
        for (unsigned i = 0; i < len; i++) {
            const uint64_t some = kind == 0 ? 2 : kind == 1 ? 0 : forge_below(rng, 3);
            a[i][lane] = (some == 0   ? UINT64_MAX
                          : some == 1 ? 0
                                      : forge_u64(rng)) >>
                         (64 - rsa->radix);
        }
    }
}

/* out = t / B^len mod n, below t / B^len + n, in digits. */
static void check_reduced(const BIGNUM *t, const BIGNUM *n, const rsa_open_row *out, unsigned len,
                          unsigned lane, BN_CTX *ctx)
{
    for (unsigned i = 0; i < len; i++)
        cr_assert_eq(out[i][lane] >> rsa->radix, 0, "digit %u out of range", i);
    BIGNUM *u = number(out, len, lane), *scaled = BN_new(), *left = BN_new();
    cr_assert(scaled != NULL && left != NULL && BN_lshift(scaled, u, (int)(rsa->radix * len)) &&
              BN_sub(scaled, scaled, t));
    /* U B^len - t is a multiple q n with 0 <= q < B^len */
    cr_assert(BN_div(left, scaled, scaled, n, ctx) && BN_is_zero(scaled) && !BN_is_negative(left));
    cr_assert(BN_num_bits(left) <= (int)(rsa->radix * len));
    BN_free(left);
    BN_free(scaled);
    BN_free(u);
}

/* n of exactly bits bits in digits, and what a key has as n0inv. */
static void random_modulus(struct forge_rng *rng, rsa_open_row *n, unsigned len, unsigned bits, uint64_t n0inv[LANES])
{
    const unsigned top = (bits - 1) / rsa->radix, bit = (bits - 1) % rsa->radix;
    random_digits(rng, n, len);
    for (unsigned lane = 0; lane < LANES; lane++) {
        n[0][lane] |= 1;
        n[top][lane] = (n[top][lane] & ((1ull << bit) - 1)) | 1ull << bit;
        for (unsigned i = top + 1; i < len; i++)
            n[i][lane] = 0;
        const uint64_t low = n[0][lane] | n[1][lane] << rsa->radix;
        uint64_t inv = low;
        for (int k = 0; k < 6; k++)
            inv *= 2 - low * inv;
        n0inv[lane] = -inv;
    }
}

/* q = low n' mod B^len, where n' was checked; both in digits. */
static void check_quotient(const BIGNUM *inverse, unsigned len, unsigned lane, BN_CTX *ctx)
{
    static rsa_open_row low[RSA_OPEN_DIGITS_MAX], q[RSA_OPEN_DIGITS_MAX];
    rsa->quotient(len, low, q);
    for (unsigned i = 0; i < len; i++)
        cr_assert_eq((low[i][lane] | q[i][lane]) >> rsa->radix, 0, "digit %u of the quotient out of range", i);
    BIGNUM *t = number((const rsa_open_row *)low, len, lane), *is = number((const rsa_open_row *)q, len, lane);
    cr_assert(BN_mul(t, t, inverse, ctx));
    if (BN_num_bits(t) > (int)(rsa->radix * len))
        cr_assert(BN_mask_bits(t, (int)(rsa->radix * len)));
    cr_assert(BN_cmp(t, is) == 0, "the quotient of %u digits, lane %u", len, lane);
    BN_free(is);
    BN_free(t);
}

/* inverse = -n^-1 mod B^len, and the quotient that was made with it. */
static void check_inverse(const rsa_open_row *inverse, const BIGNUM *n, unsigned len, unsigned lane, BN_CTX *ctx)
{
    BIGNUM *inv = number(inverse, len, lane);
    check_quotient(inv, len, lane, ctx);
    cr_assert(BN_mul(inv, inv, n, ctx) && BN_add_word(inv, 1) && BN_mask_bits(inv, (int)(rsa->radix * len)) && BN_is_zero(inv));
    BN_free(inv);
}

static void check_products(struct forge_rng *rng)
{
    static rsa_open_row a[RSA_OPEN_DIGITS_MAX], y[RSA_OPEN_DIGITS_MAX], t[2 * RSA_OPEN_DIGITS_MAX];
    static rsa_open_row n[RSA_OPEN_DIGITS_MAX], inverse[RSA_OPEN_DIGITS_MAX],
        out[RSA_OPEN_DIGITS_MAX];
    BN_CTX *ctx = BN_CTX_new();
    BIGNUM *product = BN_new();
    for (unsigned round = 0; round < 600; round++) {
        const enum qm_sig_class sig_class = classes[round % 3];
        const unsigned len = rsa->digits(sig_class), bits = bits_of[sig_class];
        random_digits(rng, a, len);
        random_digits(rng, y, len);
        uint64_t n0inv[LANES];
        random_modulus(rng, n, len, bits, n0inv);
        for (unsigned lane = 0; lane < LANES; lane++) { /* larger than the kernel lets factors grow */
            a[len - 1][lane] &= (1ull << rsa->top_bits) - 1;
            y[len - 1][lane] &= (1ull << rsa->top_bits) - 1;
        }
        rsa->modulus(sig_class, (const rsa_open_row *)n, n0inv);
        if (rsa->inverse != NULL)
            rsa->inverse(len, inverse);
        for (int way = 0; way < 2; way++) {
            if (way == 0)
                rsa->square(sig_class, (const rsa_open_row *)a, t);
            else
                rsa->multiply(sig_class, (const rsa_open_row *)a, (const rsa_open_row *)y, t);
            rsa->reduce(sig_class, out);
            for (unsigned lane = 0; lane < LANES; lane++) {
                BIGNUM *fa = number((const rsa_open_row *)a, len, lane),
                       *fn = number((const rsa_open_row *)n, len, lane);
                BIGNUM *fy =
                    number(way == 0 ? (const rsa_open_row *)a : (const rsa_open_row *)y, len, lane);
                BIGNUM *columns = number((const rsa_open_row *)t, 2 * len, lane);
                cr_assert(BN_mul(product, fa, fy, ctx));
                cr_assert(BN_cmp(product, columns) == 0, "%s of %u digits, lane %u",
                          way == 0 ? "square" : "product", len, lane);
                check_reduced(product, fn, (const rsa_open_row *)out, len, lane, ctx);
                if (rsa->inverse != NULL)
                    check_inverse((const rsa_open_row *)inverse, fn, len, lane, ctx);
                BN_free(columns);
                BN_free(fy);
                BN_free(fn);
                BN_free(fa);
            }
        }
    }
    BN_free(product);
    BN_CTX_free(ctx);
}

Test(rsa_ifma512, products_and_their_reduction, .timeout = 600)
{
    struct forge_rng rng = forge_seed("rsa_ifma512 products");
    for EACH_OPENED(i)
        if (runs_here(opened[i]))
            check_products(&rng);
}

static void put_number(rsa_open_row *a, unsigned len, unsigned lane, const BIGNUM *v)
{
    uint8_t bytes[8 * RSA_OPEN_DIGITS_MAX + 8];
    cr_assert(BN_bn2lebinpad(v, bytes, (int)sizeof bytes) > 0);
    for (unsigned i = 0; i < len; i++) {
        uint64_t word;
        memcpy(&word, bytes + rsa->radix * i / 8, 8); /* a digit begins in a byte and ends within eight */
        a[i][lane] = word >> rsa->radix * i % 8 & ((1ull << rsa->radix) - 1);
    }
}

/* Digits in range that make up want. */
static void expect_digits(const char *what, const rsa_open_row *a, unsigned len, unsigned lane, const BIGNUM *want)
{
    for (unsigned i = 0; i < len; i++)
        cr_assert_eq(a[i][lane] >> rsa->radix, 0, "%s: digit %u out of range, lane %u", what, i, lane);
    BIGNUM *is = number(a, len, lane);
    cr_assert(BN_cmp(is, want) == 0, "%s: wrong value, lane %u of %u digits", what, lane, len);
    BN_free(is);
}

static void check_bytes_and_digits(struct forge_rng *rng, unsigned len, unsigned bits)
{
    static rsa_open_row digits[RSA_OPEN_DIGITS_MAX], limbs[RSA_OPEN_LIMBS_MAX];
    uint8_t *text[LANES];
    const uint8_t *p[LANES];
    for (int big_endian = 0; big_endian < 2; big_endian++) {
        for (unsigned lane = 0; lane < LANES; lane++) {
            uint8_t bytes[BYTES_MAX];
            forge_pattern(rng, bytes, bits / 8);
            p[lane] = text[lane] = forge_copy(bytes, bits / 8); /* nothing beyond it may be read */
        }
        rsa->unpack(p, bits / 8, big_endian != 0, len, digits);
        rsa->pack((const rsa_open_row *)digits, len, bits / 64, limbs);
        for (unsigned lane = 0; lane < LANES; lane++) {
            BIGNUM *v = big_endian != 0 ? BN_bin2bn(text[lane], (int)bits / 8, NULL) : BN_lebin2bn(text[lane], (int)bits / 8, NULL);
            uint64_t want[BYTES_MAX / 8];
            cr_assert(v != NULL && BN_bn2lebinpad(v, (uint8_t *)want, (int)bits / 8) > 0);
            expect_digits("unpack", (const rsa_open_row *)digits, len, lane, v);
            for (unsigned i = 0; i < bits / 64; i++)
                cr_assert_eq(limbs[i][lane], want[i], "pack: limb %u, lane %u", i, lane);
            BN_free(v);
        }
    }
    forge_free_all();
}

static void check_shifts(struct forge_rng *rng, unsigned len, unsigned bits, const rsa_open_row *n)
{
    static rsa_open_row a[RSA_OPEN_DIGITS_MAX], out[RSA_OPEN_DIGITS_MAX];
    const unsigned up = (unsigned)forge_below(rng, rsa->radix), room = rsa->radix * len - bits;
    const unsigned down = 1 + (unsigned)forge_below(rng, room - 1);
    random_digits(rng, a, len);
    for (unsigned lane = 0; lane < LANES; lane++)
        a[len - 1][lane] >>= up;
    rsa->shift_up((const rsa_open_row *)a, len, up, out);
    for (unsigned lane = 0; lane < LANES; lane++) {
        BIGNUM *v = number((const rsa_open_row *)a, len, lane);
        cr_assert(BN_lshift(v, v, (int)up));
        expect_digits("shift_up", (const rsa_open_row *)out, len, lane, v);
        BN_free(v);
    }
    for (unsigned lane = 0; lane < LANES; lane++) /* any that leaves room for the multiple of n */
        a[len - 1][lane] >>= 1;
    rsa->halve((const rsa_open_row *)a, len, down, out);
    for (unsigned lane = 0; lane < LANES; lane++) { /* out 2^down = a + u n, 0 <= u < 2^down */
        BIGNUM *v = number((const rsa_open_row *)a, len, lane), *m = number(n, len, lane),
               *scaled = number((const rsa_open_row *)out, len, lane), *u = BN_new();
        BN_CTX *ctx = BN_CTX_new();
        expect_digits("halve", (const rsa_open_row *)out, len, lane, scaled);
        cr_assert(u != NULL && ctx != NULL && BN_lshift(scaled, scaled, (int)down) && BN_sub(scaled, scaled, v) &&
                  BN_div(u, scaled, scaled, m, ctx));
        cr_assert(BN_is_zero(scaled) && !BN_is_negative(u) && BN_num_bits(u) <= (int)down, "halve by %u, lane %u", down, lane);
        BN_CTX_free(ctx);
        BN_free(u);
        BN_free(scaled);
        BN_free(m);
        BN_free(v);
    }
}

/* Numbers around 0, n and 2 n, or any below 2 n. */
static void check_settle(struct forge_rng *rng, unsigned len, const rsa_open_row *n)
{
    static rsa_open_row a[RSA_OPEN_DIGITS_MAX], out[RSA_OPEN_DIGITS_MAX];
    BN_CTX *ctx = BN_CTX_new();
    cr_assert_not_null(ctx);
    for (unsigned lane = 0; lane < LANES; lane++) {
        BIGNUM *m = number(n, len, lane), *v = BN_new();
        const uint64_t kind = forge_below(rng, 6);
        uint8_t bytes[BYTES_MAX + 1];
        cr_assert(v != NULL);
        forge_pattern(rng, bytes, sizeof bytes);
        if (kind < 2) { /* n - 2 .. n + 2 */
            cr_assert(BN_copy(v, m) && BN_add_word(v, forge_below(rng, 3)) && BN_sub_word(v, forge_below(rng, 3)));
        } else if (kind == 2) { /* 2 n - 1, 2 n - 2 */
            cr_assert(BN_lshift1(v, m) && BN_sub_word(v, 1 + forge_below(rng, 2)));
        } else if (kind == 3) {
            cr_assert(BN_set_word(v, forge_below(rng, 3)));
        } else {
            cr_assert_not_null(BN_bin2bn(bytes, (int)sizeof bytes, v));
            BIGNUM *twice = BN_dup(m);
            cr_assert(twice != NULL && BN_lshift1(twice, twice) && BN_mod(v, v, twice, ctx));
            BN_free(twice);
        }
        put_number(a, len, lane, v);
        BN_free(v);
        BN_free(m);
    }
    const unsigned is_below = rsa->below((const rsa_open_row *)a, len);
    rsa->settle((const rsa_open_row *)a, len, out);
    for (unsigned lane = 0; lane < LANES; lane++) {
        BIGNUM *v = number((const rsa_open_row *)a, len, lane), *m = number(n, len, lane);
        cr_assert_eq(is_below >> lane & 1, BN_cmp(v, m) < 0, "below, lane %u", lane);
        cr_assert(BN_mod(v, v, m, ctx));
        expect_digits("settle", (const rsa_open_row *)out, len, lane, v);
        BN_free(m);
        BN_free(v);
    }
    BN_CTX_free(ctx);
}

static void check_small_steps(struct forge_rng *rng)
{
    static rsa_open_row n[RSA_OPEN_DIGITS_MAX];
    for (unsigned round = 0; round < 600; round++) {
        const enum qm_sig_class sig_class = classes[round % 3];
        const unsigned len = rsa->digits(sig_class);
        uint64_t n0inv[LANES];
        random_modulus(rng, n, len, bits_of[sig_class], n0inv);
        rsa->modulus(sig_class, (const rsa_open_row *)n, n0inv);
        check_bytes_and_digits(rng, len, bits_of[sig_class]);
        if (rsa->halve != NULL)
            check_shifts(rng, len, bits_of[sig_class], (const rsa_open_row *)n);
        check_settle(rng, len, (const rsa_open_row *)n);
    }
}

Test(rsa_ifma512, small_steps, .timeout = 600)
{
    struct forge_rng rng = forge_seed("rsa_ifma512 small steps");
    for EACH_OPENED(i)
        if (runs_here(opened[i]))
            check_small_steps(&rng);
}

#else
Test(rsa_ifma512, not_built)
{
}
#endif
