/* The arithmetic inside the AVX-512 IFMA kernels for ECDSA against BN: every routine's values, lane by lane, and the number
 * ranges that its comment promises, for operands that fill the ranges it asks for. ec_fields_p256.c and ec_fields_p384.c
 * include a kernel's source and then this, so that they see its static functions. */
#include "tests/ec_fields_run.h"
#include "tests/forge.h"

#include <stdio.h>
#include <stdlib.h>

struct check {
    struct forge_rng *rng;
    BN_CTX *ctx;
    BIGNUM *p, *n, *r, *r_inv, *r_inv_n; /* R = 2^(52 D), and its inverses mod p and n */
    char *why;
    size_t cap;
    bool failed;
};

#define MUST(x)                                                                                                                \
    do {                                                                                                                       \
        if (!(x))                                                                                                              \
            abort();                                                                                                           \
    } while (0)

static BIGNUM *num_new(void)
{
    BIGNUM *b = BN_new();
    MUST(b != NULL);
    return b;
}

static void num_digits(BIGNUM *out, const uint64_t *digits)
{
    BN_zero(out);
    for (int i = D - 1; i >= 0; i--) {
        MUST(BN_lshift(out, out, 52));
        BIGNUM *d = num_new();
        MUST(BN_lebin2bn((const uint8_t *)&digits[i], 8, d) && BN_add(out, out, d));
        BN_free(d);
    }
}

static void digits_num(uint64_t *digits, const BIGNUM *in)
{
    uint8_t bytes[8 * D + 8] = {0};
    MUST(BN_bn2lebinpad(in, bytes, (int)sizeof bytes) > 0);
    for (int i = 0; i < D; i++) {
        uint64_t t[2];
        memcpy(t, bytes + 52 * i / 64 * 8, 16);
        int shift = 52 * i % 64;
        digits[i] = (t[0] >> shift | (shift != 0 ? t[1] << (64 - shift) : 0)) & MASK52;
    }
}

static void fe_put(struct fe *a, int lane, const BIGNUM *v)
{
    uint64_t digits[D];
    digits_num(digits, v);
    for (int i = 0; i < D; i++)
        ((uint64_t *)(void *)&a->d[i])[lane] = digits[i];
}

static void fe_get(BIGNUM *out, const struct fe *a, int lane)
{
    uint64_t digits[D];
    for (int i = 0; i < D; i++) {
        digits[i] = ((const uint64_t *)(const void *)&a->d[i])[lane];
        if (i + 1 < D)
            digits[i] &= MASK52; /* loose digits carry rubbish there */
    }
    num_digits(out, digits);
}

/* tenths / 10 times m */
static void num_limit(BIGNUM *out, const BIGNUM *m, unsigned tenths)
{
    MUST(BN_copy(out, m) && BN_mul_word(out, tenths) && BN_div_word(out, 10) != (BN_ULONG)-1);
}

/* Random numbers in [0, tenths / 10 m): even, near multiples of m, by bit density, the largest; loose: rubbish above 52 bits. */
static struct fe draw(struct check *c, const BIGNUM *m, unsigned tenths, bool loose)
{
    struct fe a;
    BIGNUM *limit = num_new(), *v = num_new();
    num_limit(limit, m, tenths);
    for (int l = 0; l < LANES; l++) {
        uint8_t bytes[8 * W + 1];
        switch (forge_below(c->rng, 5)) {
        case 0:
            forge_bytes(c->rng, bytes, sizeof bytes);
            MUST(BN_bin2bn(bytes, (int)sizeof bytes, v));
            break;
        case 1: /* k m - 2 .. k m + 2 */
            MUST(BN_copy(v, m) && BN_mul_word(v, forge_below(c->rng, tenths / 10 + 1)));
            MUST(BN_add_word(v, forge_below(c->rng, 3)));
            if ((forge_u64(c->rng) & 1) != 0)
                MUST(BN_sub_word(v, forge_below(c->rng, 5)));
            break;
        case 2: /* the largest */
            MUST(BN_copy(v, limit) && BN_sub_word(v, 1 + forge_below(c->rng, 3)));
            break;
        default:
            forge_pattern(c->rng, bytes, sizeof bytes);
            bytes[0] &= 0x0f;
            MUST(BN_bin2bn(bytes, (int)sizeof bytes, v));
        }
        MUST(BN_nnmod(v, v, limit, c->ctx));
        fe_put(&a, l, v);
    }
    for (int i = 0; loose && i + 1 < D; i++)
        a.d[i] = _mm512_or_si512(a.d[i], set1(forge_u64(c->rng) << 52));
    BN_free(v);
    BN_free(limit);
    return a;
}

/* Lane by lane: got R^-rescale = want mod m, and got < tenths / 10 m; tight: no digit over 52 bits. */
static void expect(struct check *c, const char *what, const struct fe *got, int lane, const BIGNUM *want, const BIGNUM *m,
                   unsigned tenths, bool is_tight)
{
    BIGNUM *g = num_new(), *t = num_new();
    fe_get(g, got, lane);
    num_limit(t, m, tenths);
    bool in_range = BN_cmp(g, t) < 0;
    for (int i = 0; i < D; i++)
        in_range &= !(is_tight || i + 1 == D) || ((const uint64_t *)(const void *)&got->d[i])[lane] <= MASK52;
    MUST(BN_mod_sub(t, g, want, m, c->ctx));
    if (!c->failed && (!in_range || !BN_is_zero(t))) {
        char *hex = BN_bn2hex(g);
        snprintf(c->why, c->cap, "%s, lane %d: %s%s%s", what, lane, in_range ? "" : "out of range ",
                 BN_is_zero(t) ? "" : "wrong value ", hex);
        OPENSSL_free(hex);
        c->failed = true;
    }
    BN_free(t);
    BN_free(g);
}

/* ---- numbers of a lane, mod p, out of Montgomery form ------------------------------------------------------------------- */

static BIGNUM *plain(struct check *c, const struct fe *a, int lane)
{
    BIGNUM *b = num_new();
    fe_get(b, a, lane);
    MUST(BN_mod_mul(b, b, c->r_inv, c->p, c->ctx));
    return b;
}

static BIGNUM *times(struct check *c, const BIGNUM *a, const BIGNUM *b)
{
    BIGNUM *t = num_new();
    MUST(BN_mod_mul(t, a, b, c->p, c->ctx));
    return t;
}

static BIGNUM *lin(struct check *c, const BIGNUM *a, int k, const BIGNUM *b) /* a + k b */
{
    BIGNUM *t = BN_dup(b);
    MUST(t != NULL && BN_mul_word(t, (BN_ULONG)abs(k)));
    MUST(k < 0 ? BN_mod_sub(t, a, t, c->p, c->ctx) : BN_mod_add(t, a, t, c->p, c->ctx));
    return t;
}

static void expect_plain(struct check *c, const char *what, const struct fe *got, int lane, const BIGNUM *want,
                         unsigned tenths, bool is_tight)
{
    BIGNUM *t = num_new();
    MUST(BN_mod_mul(t, want, c->r, c->p, c->ctx));
    expect(c, what, got, lane, t, c->p, tenths, is_tight);
    BN_free(t);
}

/* ---- routines ------------------------------------------------------------------------------------------------------------ */

static void check_products(struct check *c)
{
    struct fe a = draw(c, c->p, 150, true), b = draw(c, c->p, 150, true), s = draw(c, c->p, 20, false);
    struct fe ab = fe_mul(&a, &b), aa = fe_sqr(&b), ab_loose = fe_mul_loose(&a, &b), aa_loose = fe_sqr_loose(&b);
    struct fe d = fe_sub_loose(&s, &s, 3), t = draw(c, c->p, 60, false), e = fe_sub_loose(&t, &s, 2);
    __mmask8 zero = fe_is_zero(&t);
    struct fe u = draw(c, c->n, 20, false), v = draw(c, c->n, 20, false);
    struct fe uv = sc_mul(&u, &v), w = sc_canonical(&u);
    for (int l = 0; l < LANES; l++) {
        BIGNUM *x = plain(c, &a, l), *y = plain(c, &b, l), *xy = times(c, x, y), *yy = times(c, y, y), *k = num_new();
        expect_plain(c, "fe_mul", &ab, l, xy, 151, true);
        expect_plain(c, "fe_mul_loose", &ab_loose, l, xy, 151, false);
        expect_plain(c, "fe_sqr", &aa, l, yy, 151, true);
        expect_plain(c, "fe_sqr_loose", &aa_loose, l, yy, 151, false);
        BN_zero(k);
        expect(c, "fe_sub_loose a - a", &d, l, k, c->p, 31, false);
        BIGNUM *f = num_new(), *g = num_new();
        fe_get(f, &t, l);
        fe_get(g, &s, l);
        MUST(BN_mod(k, f, c->p, c->ctx));
        if (BN_is_zero(k) != (zero >> l & 1) && !c->failed) {
            snprintf(c->why, c->cap, "fe_is_zero, lane %d", l);
            c->failed = true;
        }
        MUST(BN_mod_sub(k, f, g, c->p, c->ctx));
        expect(c, "fe_sub_loose", &e, l, k, c->p, 80, false);
        fe_get(f, &u, l);
        fe_get(g, &v, l);
        expect(c, "sc_canonical", &w, l, f, c->n, 10, true);
        MUST(BN_mod_mul(k, f, g, c->n, c->ctx) && BN_mod_mul(k, k, c->r_inv_n, c->n, c->ctx));
        expect(c, "sc_mul", &uv, l, k, c->n, 13, true);
        BIGNUM *const all[] = {x, y, xy, yy, k, f, g};
        for (size_t i = 0; i < QM_COUNT(all); i++)
            BN_free(all[i]);
    }
}

static void check_double(struct check *c)
{
    bool first = (forge_u64(c->rng) & 1) != 0;
    struct point in = {.x = draw(c, c->p, first ? (W == 4 ? 11 : 81) : 61, false), /* as a row, or as an addition leaves it */
                       .y2 = draw(c, c->p, first ? (W == 4 ? 21 : 102) : 41, false),
                       .z = draw(c, c->p, 39, true)},
                 out = in;
    point_double(&out);
    for (int l = 0; l < LANES; l++) {
        BIGNUM *x = plain(c, &in.x, l), *y = plain(c, &in.y2, l), *z = plain(c, &in.z, l), *zz = times(c, z, z),
               *minus = lin(c, x, -1, zz), *plus = lin(c, x, 1, zz), *m1 = times(c, minus, plus), *m2 = lin(c, m1, 2, m1),
               *g = times(c, y, y), *s = times(c, x, g), *mm = times(c, m2, m2), *x3 = lin(c, mm, -2, s),
               *sx = lin(c, s, -1, x3), *t = times(c, m2, sx), *gg = times(c, g, g), *t2 = lin(c, t, 1, t),
               *y3 = lin(c, t2, -1, gg), *z3 = times(c, y, z);
        expect_plain(c, "point_double x", &out.x, l, x3, 51, true);
        expect_plain(c, "point_double 2y", &out.y2, l, y3, 40, true);
        expect_plain(c, "point_double z", &out.z, l, z3, 20, false);
        BIGNUM *const all[] = {x, y, z, zz, minus, plus, m1, m2, g, s, mm, x3, sx, t, gg, t2, y3, z3};
        for (size_t i = 0; i < QM_COUNT(all); i++)
            BN_free(all[i]);
    }
}

static void check_add(struct check *c)
{
    struct point in = {.x = draw(c, c->p, 51, false), .y2 = draw(c, c->p, 40, false), .z = draw(c, c->p, 20, true)},
                 out = in;
    struct fe ax = draw(c, c->p, W == 4 ? 62 : 81, false), ay = draw(c, c->p, W == 4 ? 38 : 51, false);
    point_add(&out, &ax, &ay);
    for (int l = 0; l < LANES; l++) {
        BIGNUM *x = plain(c, &in.x, l), *y = plain(c, &in.y2, l), *z = plain(c, &in.z, l), *xa = plain(c, &ax, l),
               *ya = plain(c, &ay, l), *zz = times(c, z, z), *zzz = times(c, zz, z), *u = times(c, xa, zz),
               *h = lin(c, u, -1, x), *s = times(c, ya, zzz), *s2 = lin(c, s, 1, s), *r = lin(c, s2, -1, y),
               *hh = times(c, h, h), *i = lin(c, hh, 3, hh), *j = times(c, h, i), *v = times(c, x, i), *rr = times(c, r, r),
               *t1 = lin(c, rr, -1, j), *x3 = lin(c, t1, -2, v), *vx = lin(c, v, -1, x3), *rv = times(c, r, vx),
               *yj = times(c, y, j), *t2 = lin(c, rv, -1, yj), *y3 = lin(c, t2, 1, t2), *zh = times(c, z, h),
               *z3 = lin(c, zh, 1, zh);
        expect_plain(c, "point_add x", &out.x, l, x3, W == 4 ? 61 : 80, true);
        expect_plain(c, "point_add 2y", &out.y2, l, y3, 41, true);
        expect_plain(c, "point_add z", &out.z, l, z3, 39, false);
        BIGNUM *const all[] = {x, y, z, xa, ya, zz, zzz, u, h, s, s2, r, hh, i, j, v, rr, t1, x3, vx, rv, yj, t2, y3, zh, z3};
        for (size_t k = 0; k < QM_COUNT(all); k++)
            BN_free(all[k]);
    }
}

static void check_affine(struct check *c)
{
    const bool row = (forge_u64(c->rng) & 1) != 0, alone = (forge_u64(c->rng) & 1) != 0; /* alone: the third point without one of G */
    const __mmask8 m1 = row ? 0 : (__mmask8)forge_u64(c->rng), m2 = row && !alone ? 0 : (__mmask8)forge_u64(c->rng);
    struct fe x1 = draw(c, c->p, row ? 32 : 10, false), y1 = draw(c, c->p, row ? 35 : 10, false), inv = draw(c, c->p, 13, true),
              x2 = draw(c, c->p, row && !alone ? 32 : 10, false), y2 = draw(c, c->p, row && !alone ? 35 : 10, false);
    struct fe s1 = fe_negate_some(m1, &y1), s2 = fe_negate_some(m2, &y2), x3, y3;
    if (row)
        row_add(&x3, &y3, &x1, &s1, &x2, &s2, &inv);
    else
        pair_add(&x3, &y3, &x1, &s1, &x2, &s2, &inv);
    const unsigned x_limit = !row ? 32 : W == 4 ? 11 : 81, y_limit = !row ? 35 : W == 4 ? 11 : 51;
    for (int l = 0; l < LANES; l++) {
        BIGNUM *zero = num_new();
        BN_zero(zero);
        BIGNUM *a = plain(c, &x1, l), *b = plain(c, &x2, l), *p1 = plain(c, &y1, l), *p2 = plain(c, &y2, l),
               *q1 = lin(c, zero, (m1 >> l & 1) != 0 ? -1 : 1, p1), *q2 = lin(c, zero, (m2 >> l & 1) != 0 ? -1 : 1, p2),
               *i = plain(c, &inv, l), *dy = lin(c, q2, -1, q1), *s = times(c, dy, i), *ss = times(c, s, s),
               *t = lin(c, ss, -1, a), *want_x = lin(c, t, -1, b), *dx = lin(c, a, -1, want_x), *sd = times(c, s, dx),
               *want_y = lin(c, sd, -1, q1);
        expect_plain(c, row ? "row_add x" : "pair_add x", &x3, l, want_x, x_limit, true);
        expect_plain(c, row ? "row_add y" : "pair_add y", &y3, l, want_y, y_limit, true);
        BIGNUM *const all[] = {zero, a, b, p1, p2, q1, q2, i, dy, s, ss, t, want_x, dx, sd, want_y};
        for (size_t k = 0; k < QM_COUNT(all); k++)
            BN_free(all[k]);
    }
}

static void check_inverse(struct check *c)
{
    for (int scalars = 0; scalars < 2; scalars++) {
        const BIGNUM *m = scalars != 0 ? c->n : c->p;
        struct fe a = draw(c, m, 19, false);
        BIGNUM *v = num_new(), *t = num_new();
        for (int l = 0; l < LANES; l++) {
            fe_get(v, &a, l);
            MUST(BN_mod(t, v, m, c->ctx));
            if (BN_is_zero(t)) {
                BN_one(v);
                fe_put(&a, l, v);
            }
        }
        struct fe inv = lanes_inverse(&a, scalars != 0);
        for (int l = 0; l < LANES; l++) { /* a = x R: want R / x = R^2 / a */
            fe_get(v, &a, l);
            MUST(BN_mod_inverse(t, v, m, c->ctx) && BN_mod_mul(t, t, c->r, m, c->ctx) && BN_mod_mul(t, t, c->r, m, c->ctx));
            expect(c, scalars != 0 ? "lanes_inverse mod n" : "lanes_inverse mod p", &inv, l, t, m, 13, true);
        }
        BN_free(t);
        BN_free(v);
    }
}

/* Digits in range, and exactly this number. */
static void expect_number(struct check *c, const char *what, const struct fe *got, int lane, const BIGNUM *want)
{
    BIGNUM *g = num_new();
    fe_get(g, got, lane);
    bool good = BN_cmp(g, want) == 0;
    for (int i = 0; i < D; i++)
        good &= ((const uint64_t *)(const void *)&got->d[i])[lane] <= MASK52;
    if (!good && !c->failed) {
        snprintf(c->why, c->cap, "%s, lane %d: wrong, or a digit out of range", what, lane);
        c->failed = true;
    }
    BN_free(g);
}

/* Bytes of signatures and digests of every length, and words of table entries, to digits. */
static void check_load(struct check *c)
{
    static struct group g;
    uint8_t sig[LANES][16 * W], digest[LANES][64];
    uint64_t entry[LANES][2 * W];
    struct qm_sig_job job[LANES];
    const struct qm_sig_job *jobs[LANES];
    const uint64_t *from[LANES];
    for (int l = 0; l < LANES; l++) {
        forge_pattern(c->rng, sig[l], sizeof sig[l] / 2);
        forge_pattern(c->rng, sig[l] + sizeof sig[l] / 2, sizeof sig[l] / 2);
        forge_pattern(c->rng, digest[l], sizeof digest[l]);
        forge_pattern(c->rng, (uint8_t *)entry[l], sizeof entry[l] / 2);
        forge_pattern(c->rng, (uint8_t *)(entry[l] + W), sizeof entry[l] / 2);
        job[l] = (struct qm_sig_job){.digest = digest[l], .sig = sig[l],
                                     .hash = (uint8_t)(QM_HASH_SHA256 + forge_below(c->rng, 3))};
        jobs[l] = &job[l];
        from[l] = entry[l];
    }
    load(&g, jobs);
    struct fe x = load_entry(from, 0), y = load_entry(from, 1);
    BIGNUM *v = num_new();
    for (int l = 0; l < LANES; l++) {
        size_t have = qm_hash_size((enum qm_hash)job[l].hash);
        MUST(BN_bin2bn(sig[l], 8 * W, v));
        expect_number(c, "load r", &g.r, l, v);
        MUST(BN_bin2bn(sig[l] + 8 * W, 8 * W, v));
        expect_number(c, "load s", &g.s, l, v);
        MUST(BN_bin2bn(digest[l], (int)(have < 8 * W ? have : 8 * W), v));
        expect_number(c, "load e", &g.e, l, v);
        MUST(BN_lebin2bn((const uint8_t *)entry[l], 8 * W, v));
        expect_number(c, "load_entry x", &x, l, v);
        MUST(BN_lebin2bn((const uint8_t *)(entry[l] + W), 8 * W, v));
        expect_number(c, "load_entry y", &y, l, v);
    }
    BN_free(v);
}

/* Every total of a few groups to its own inverse; what is 0 mod p set_total puts aside, with 1 in its place. */
static void check_totals(struct check *c)
{
    enum { GROUPS = 3 };
    static struct group g[GROUPS];
    for (int scalars = 0; scalars < 2; scalars++) {
        const BIGNUM *m = scalars != 0 ? c->n : c->p;
        struct fe was[GROUPS];
        BIGNUM *v = num_new(), *t = num_new();
        for (int i = 0; i < GROUPS; i++) {
            was[i] = draw(c, m, 12, false);
            g[i].redo = 0;
            for (int l = 0; l < LANES && scalars != 0; l++) { /* s is never 0 mod n */
                fe_get(v, &was[i], l);
                MUST(BN_mod(t, v, m, c->ctx) && BN_one(v));
                if (BN_is_zero(t))
                    fe_put(&was[i], l, v);
            }
            if (scalars != 0)
                g[i].total = was[i];
            else
                set_total(&g[i], &was[i]);
        }
        invert_totals(g, GROUPS, scalars != 0);
        for (int i = 0; i < GROUPS; i++)
            for (int l = 0; l < LANES; l++) {
                fe_get(v, &was[i], l);
                MUST(BN_mod(t, v, m, c->ctx));
                const bool zero = BN_is_zero(t);
                if (zero != (g[i].redo >> l & 1) && !c->failed) {
                    snprintf(c->why, c->cap, "set_total, lane %d", l);
                    c->failed = true;
                }
                if (zero) /* 1 in Montgomery form */
                    MUST(BN_mod(v, c->r, m, c->ctx));
                MUST(BN_mod_inverse(t, v, m, c->ctx) && BN_mod_mul(t, t, c->r, m, c->ctx) &&
                     BN_mod_mul(t, t, c->r, m, c->ctx));
                expect(c, scalars != 0 ? "invert_totals mod n" : "invert_totals mod p", &g[i].total, l, t, m, 13, true);
            }
        BN_free(t);
        BN_free(v);
    }
}

/* The signs that comb_bits finds sum up to u or u + n, and comb_row reads them where ec_comb.h says. */
static void check_comb(struct check *c)
{
    struct fe u = draw(c, c->n, 10, false);
    BIGNUM *v = num_new(), *k = num_new(), *t = num_new();
    const struct {
        unsigned teeth, subs, rows;
    } shape[2] = {{TEETH, SUBS, EC_ROWS}, {QM_EC_G_TEETH, 1, EC_ROWS_G}};
    for (int which = 0; which < 2; which++) {
        unsigned spacing = shape[which].subs * shape[which].rows, teeth = shape[which].teeth;
        struct fe bits = comb_bits(&u, teeth * spacing);
        unsigned row = (unsigned)forge_below(c->rng, spacing);
        struct entries e;
        __mmask8 minus = comb_row(&e, &bits, row, spacing, teeth, set1(4096));
        for (int l = 0; l < LANES; l++) {
            fe_get(v, &u, l);
            BN_zero(k);
            fe_get(t, &bits, l);
            for (unsigned i = teeth * spacing; i-- > 0;)
                MUST(BN_lshift1(k, k) && (BN_is_bit_set(t, (int)i) ? BN_add_word(k, 1) : BN_sub_word(k, 1)));
            bool ok = BN_cmp(k, v) == 0 || (BN_add(v, v, c->n) && BN_cmp(k, v) == 0);
            unsigned index = 0;
            for (unsigned j = 0; j < teeth; j++)
                index |= (unsigned)BN_is_bit_set(t, (int)(row + j * spacing)) << j;
            bool negative = index >> (teeth - 1) == 0;
            if (negative)
                index = ~index;
            index &= (1u << (teeth - 1)) - 1;
            ok &= negative == ((minus >> l & 1) != 0) && (uintptr_t)e.p[l] == 4096 + (size_t)index * 16 * W;
            if (!ok && !c->failed) {
                snprintf(c->why, c->cap, "comb_bits or comb_row %u of %u teeth, lane %d", row, teeth, l);
                c->failed = true;
            }
        }
    }
    BN_free(t);
    BN_free(k);
    BN_free(v);
}

bool FIELDS_CHECK(struct forge_rng *rng, unsigned rounds, char *why, size_t cap)
{
    struct check c = {.rng = rng, .ctx = BN_CTX_new(), .r = num_new(), .r_inv = num_new(), .r_inv_n = num_new(), .why = why,
                      .cap = cap};
    tables_init();
    c.p = BN_lebin2bn((const uint8_t *)EC_CURVE.p, 8 * W, NULL);
    c.n = BN_lebin2bn((const uint8_t *)EC_CURVE.n, 8 * W, NULL);
    MUST(c.ctx != NULL && c.p != NULL && c.n != NULL && BN_set_bit(c.r, 52 * D));
    MUST(BN_mod_inverse(c.r_inv, c.r, c.p, c.ctx) && BN_mod_inverse(c.r_inv_n, c.r, c.n, c.ctx));
    for (unsigned i = 0; i < rounds && !c.failed; i++) {
        check_products(&c);
        check_double(&c);
        check_add(&c);
        check_affine(&c);
        check_comb(&c);
        check_load(&c);
        if (i % 4 == 0) {
            check_inverse(&c);
            check_totals(&c);
        }
    }
    BIGNUM *const all[] = {c.p, c.n, c.r, c.r_inv, c.r_inv_n};
    for (size_t i = 0; i < QM_COUNT(all); i++)
        BN_free(all[i]);
    BN_CTX_free(c.ctx);
    return !c.failed;
}
