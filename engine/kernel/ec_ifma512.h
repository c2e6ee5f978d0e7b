/* ECDSA verification of eight signatures side by side with AVX-512 IFMA: what P-256 and P-384 share. p256_ifma512.c and
 * p384_ifma512.c give the numbers of their curve and include this file; everything in it is theirs alone (static).
 *
 * What is computed. A signature (r, s) of digest e under the key Q is good if, with w = s^-1 mod n, u1 = e w, u2 = r w, the
 * point u1 G + u2 Q is not infinity and its x is r mod n (FIPS 186-5, 6.4.2).
 *
 * How. Signatures are taken in batches of up to EC_GROUPS groups of eight; lane i of every vector belongs to signature i of
 * its group. Steps of a batch, each over all groups before the next begins:
 *
 *   1. load      r, s, e to vectors
 *   2. multipliers w for the batch with one modular inversion (Montgomery's trick); u1, u2, made odd by adding n where even,
 *                 and their comb digits: the addresses of the table entries that sum up to u1 G + u2 Q (ec_comb.h). The
 *                 comb of Q has three sub-tables of EC_ROWS rows and comes with the key; the comb of G has QM_EC_G_TEETH teeth,
 *                 one sub-table, EC_ROWS_G rows, fewer than EC_ROWS, and is part of the program. So row i holds three points
 *                 of Q and, for i < EC_ROWS_G, one of G; the result is sum of 2^i row_i.
 *   3. pairs     the first two points of every row are added in affine coordinates, and the third and that of G: all slopes'
 *                 denominators of the batch are inverted together (5 products and a square an addition, where Jacobian ones
 *                 take 8 and 3)
 *   4. rows      likewise the two sums of every row
 *   5. ladder    Horner's rule over the rows from the top: double, add the row, in Jacobian coordinates
 *   6. compare   r Z^2 = X, or (r + n) Z^2 = X where r + n < p: the test x mod n = r without leaving Jacobian coordinates
 *
 * Exceptions. Additions of equal or opposite points and points at infinity are not computed but noticed: an affine addition of
 * points with equal x has the denominator 0, which makes the product of that lane's denominators 0; a Jacobian one makes Z = 0
 * and all later Z too. Those lanes are asked of the portable kernel. No digit of a comb is zero, so u1 = 0 or u2 = 0 are no
 * cases of their own: 0 is computed as n, ends at infinity and is noticed. Keys without a comb go the portable way too.
 *
 * Numbers. Radix 2^52, EC_DIGITS digits, Montgomery form with R = 2^(52 EC_DIGITS). A struct fe is a number >= 0 whose digits
 * are all in [0, 2^52), so below R; a "loose" one has the same value in its low 52 bits of each digit but rubbish above them
 * (except the top digit), good only as a factor, since the multiplier ignores those bits. Comments give ranges as multiples of
 * p: (0, 6) is from 0 to 6 p. R is 16 times 2^256 > p for P-256, so a product of a < A p and b < B p over R is below
 * (A B / 16 + 1) p; for P-384 R is 2^32 times 2^384 and every range of P-256 holds with room.
 *
 * Public inputs: nothing here is constant time.
 *
 * The curve's file defines before the inclusion: EC_DIGITS, EC_WORDS, EC_CURVE, EC_CLASS, EC_ROWS, EC_TABLE_G, EC_ROWS_G,
 * EC_GROUPS, EC_KEY_COMB_BYTES; P_DIGITS(f) and N_DIGITS(f), lists of f(digit 0), f(digit 1), ..; and after it reduce_p and
 * fold_p, declared below. */
#include "engine/kernel/ec_comb.h"

#include <immintrin.h>
#include <pthread.h>

typedef __m512i v8;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_UNDEFINED__)
#define INLINE static __attribute__((unused)) /* checked code, unrolled and inlined as a whole, takes minutes to compile */
#else
#define INLINE static inline __attribute__((always_inline))
#endif
#define UNROLL _Pragma("GCC unroll 16")

enum { D = EC_DIGITS, W = EC_WORDS, LANES = 8 };
#define MASK52 ((1ull << 52) - 1)
/* Both combs hold u + n; the top row has no point of G, as the ladder's start relies on. */
enum { TEETH = QM_EC_KEY_TEETH, SUBS = QM_EC_KEY_SUBS };
_Static_assert(QM_EC_G_TEETH * EC_ROWS_G > 64 * EC_WORDS && TEETH * SUBS * EC_ROWS > 64 * EC_WORDS, "digits for 2 n");
_Static_assert(QM_EC_G_TEETH * EC_ROWS_G <= 52 * EC_DIGITS + 11 && TEETH * SUBS * EC_ROWS <= 52 * EC_DIGITS + 11, "digits are read");
_Static_assert((int)EC_ROWS_G < (int)EC_ROWS && SUBS == 3 && EC_KEY_COMB_BYTES == SUBS * (16 * EC_WORDS << (TEETH - 1)),
               "shape of the combs");

struct fe {
    v8 d[D];
};

/* ---- columns ------------------------------------------------------------------------------------------------------- */

/* A double-length number that is being summed: t[k] counts 2^(52 k), signed, |t[k]| < 2^62. */
struct cols {
    v8 t[2 * D];
};

/* Makes the low D columns multiples of 2^52 by adding a multiple of p and carries them up: the value over R is then the upper D
 * columns, unnormalised. Value in [a, b) R: result in [a, b + p). */
INLINE void reduce_p(struct cols *c);
/* Takes the multiple of p from the upper D columns that leaves a value in [0, 1.001) p for P-256; P-384 has so much room
 * that there it only adds k p, to make the value positive. */
INLINE void fold_p(struct cols *c, int k);

static const uint64_t p_digits[D] = P_DIGITS;
static const uint64_t n_digits[D] = N_DIGITS;

INLINE v8 set1(uint64_t x)
{
    return _mm512_set1_epi64((long long)x);
}

INLINE v8 mul_lo(v8 acc, v8 a, v8 b)
{
    return _mm512_madd52lo_epu64(acc, a, b);
}

INLINE v8 mul_hi(v8 acc, v8 a, v8 b)
{
    return _mm512_madd52hi_epu64(acc, a, b);
}

INLINE v8 add8(v8 a, v8 b)
{
    return _mm512_add_epi64(a, b);
}

INLINE v8 sub8(v8 a, v8 b)
{
    return _mm512_sub_epi64(a, b);
}

INLINE v8 carry_of(v8 a)
{
    return _mm512_srai_epi64(a, 52);
}

INLINE struct cols cols_zero(void)
{
    struct cols c;
    UNROLL for (int i = 0; i < 2 * D; i++)
        c.t[i] = _mm512_setzero_si512();
    return c;
}

/* c += a b */
INLINE void cols_mul(struct cols *c, const struct fe *a, const struct fe *b)
{
    UNROLL for (int i = 0; i < D; i++) {
        UNROLL for (int j = 0; j < D; j++)
            c->t[i + j] = mul_lo(c->t[i + j], a->d[j], b->d[i]);
        UNROLL for (int j = 0; j < D; j++)
            c->t[i + j + 1] = mul_hi(c->t[i + j + 1], a->d[j], b->d[i]);
    }
}

/* a^2: products of different digits once, doubled as columns, then the squares */
INLINE struct cols cols_sqr(const struct fe *a)
{
    struct cols c = cols_zero();
    UNROLL for (int i = 0; i < D; i++) {
        UNROLL for (int j = i + 1; j < D; j++)
            c.t[i + j] = mul_lo(c.t[i + j], a->d[j], a->d[i]);
        UNROLL for (int j = i + 1; j < D; j++)
            c.t[i + j + 1] = mul_hi(c.t[i + j + 1], a->d[j], a->d[i]);
    }
    UNROLL for (int i = 1; i < 2 * D - 1; i++)
        c.t[i] = add8(c.t[i], c.t[i]);
    UNROLL for (int i = 0; i < D; i++) {
        c.t[2 * i] = mul_lo(c.t[2 * i], a->d[i], a->d[i]);
        c.t[2 * i + 1] = mul_hi(c.t[2 * i + 1], a->d[i], a->d[i]);
    }
    return c;
}

INLINE void cols_negate(struct cols *c)
{
    UNROLL for (int i = 0; i < 2 * D; i++)
        c->t[i] = sub8(_mm512_setzero_si512(), c->t[i]);
}

/* The linear part, on the upper columns only: after reduce_p, or at any time before (then times R). */
INLINE void high_add(struct cols *c, const struct fe *a)
{
    UNROLL for (int i = 0; i < D; i++)
        c->t[D + i] = add8(c->t[D + i], a->d[i]);
}

INLINE void high_sub(struct cols *c, const struct fe *a)
{
    UNROLL for (int i = 0; i < D; i++)
        c->t[D + i] = sub8(c->t[D + i], a->d[i]);
}

INLINE void high_add_p(struct cols *c, int k)
{
    UNROLL for (int i = 0; i < D; i++)
        c->t[D + i] = add8(c->t[D + i], set1((uint64_t)k * p_digits[i]));
}

INLINE void high_double(struct cols *c)
{
    UNROLL for (int i = 0; i < D; i++)
        c->t[D + i] = add8(c->t[D + i], c->t[D + i]);
}

/* The upper columns, which must have a value in [0, R), as digits. */
INLINE struct fe high_loose(struct cols *c)
{
    struct fe r;
    UNROLL for (int i = 0; i + 1 < D; i++) {
        r.d[i] = c->t[D + i];
        c->t[D + i + 1] = add8(c->t[D + i + 1], carry_of(c->t[D + i]));
    }
    r.d[D - 1] = c->t[2 * D - 1];
    return r;
}

INLINE struct fe tight(struct fe a)
{
    UNROLL for (int i = 0; i + 1 < D; i++)
        a.d[i] = _mm512_and_si512(a.d[i], set1(MASK52));
    return a;
}

INLINE struct fe high_tight(struct cols *c)
{
    return tight(high_loose(c));
}

/* ---- the field: results of products of a < A p and b < B p are in (0, A B / 16 + 1) ------------------------------------- */

INLINE struct fe fe_mul_loose(const struct fe *a, const struct fe *b)
{
    struct cols c = cols_zero();
    cols_mul(&c, a, b);
    reduce_p(&c);
    return high_loose(&c);
}

INLINE struct fe fe_mul(const struct fe *a, const struct fe *b)
{
    return tight(fe_mul_loose(a, b));
}

INLINE struct fe fe_sqr_loose(const struct fe *a)
{
    struct cols c = cols_sqr(a);
    reduce_p(&c);
    return high_loose(&c);
}

INLINE struct fe fe_sqr(const struct fe *a)
{
    return tight(fe_sqr_loose(a));
}

/* a - b + k p, which must be in [0, R) */
INLINE struct fe fe_sub_loose(const struct fe *a, const struct fe *b, int k)
{
    struct cols c = cols_zero();
    high_add_p(&c, k);
    high_add(&c, a);
    high_sub(&c, b);
    return high_loose(&c);
}

INLINE struct fe fe_set(const uint64_t *digits)
{
    struct fe r;
    UNROLL for (int i = 0; i < D; i++)
        r.d[i] = set1(digits[i]);
    return r;
}

INLINE struct fe fe_blend(__mmask8 m, const struct fe *a, const struct fe *b) /* b where m is set */
{
    struct fe r;
    UNROLL for (int i = 0; i < D; i++)
        r.d[i] = _mm512_mask_mov_epi64(a->d[i], m, b->d[i]);
    return r;
}

/* -a in the lanes of m, as signed digits: for linear use only */
INLINE struct fe fe_negate_some(__mmask8 m, const struct fe *a)
{
    struct fe r;
    UNROLL for (int i = 0; i < D; i++)
        r.d[i] = _mm512_mask_sub_epi64(a->d[i], m, _mm512_setzero_si512(), a->d[i]);
    return r;
}

INLINE __mmask8 fe_equal_digits(const struct fe *a, const uint64_t *digits)
{
    v8 diff = _mm512_setzero_si512();
    UNROLL for (int i = 0; i < D; i++)
        diff = _mm512_or_si512(diff, _mm512_xor_si512(a->d[i], set1(digits[i])));
    return _mm512_testn_epi64_mask(diff, diff);
}

/* Lanes where a (not loose) is a multiple of p: a / R mod p is in [0, p] then. */
static __attribute__((noinline)) __mmask8 fe_is_zero(const struct fe *a)
{
    static const uint64_t zero[D] = {0};
    struct cols c = cols_zero();
    UNROLL for (int i = 0; i < D; i++)
        c.t[i] = a->d[i];
    reduce_p(&c);
    struct fe r = high_tight(&c);
    return fe_equal_digits(&r, zero) | fe_equal_digits(&r, p_digits);
}

/* ---- numbers mod n: few, so by the plain way --------------------------------------------------------------------------- */

/* Numbers of the curve, made once by tables_init. */
static struct {
    uint64_t one[D];  /* R mod p */
    uint64_t r2[D];   /* R^2 mod p */
    uint64_t r3[D];   /* R^3 mod p */
    uint64_t n_r2[D]; /* R^2 mod n */
    uint64_t n_r3[D];
    uint64_t n_inv;   /* -n^-1 mod 2^52 */
    bool ready;
} curve;

/* a b / R mod n, a < A n and b < B n: below (A B / 16 + 1) n */
static __attribute__((noinline)) struct fe sc_mul(const struct fe *a, const struct fe *b)
{
    struct cols c = cols_zero();
    cols_mul(&c, a, b);
    v8 inv = set1(curve.n_inv);
    UNROLL for (int i = 0; i < D; i++) {
        v8 m = mul_lo(_mm512_setzero_si512(), c.t[i], inv);
        UNROLL for (int j = 0; j < D; j++) {
            c.t[i + j] = mul_lo(c.t[i + j], m, set1(n_digits[j]));
            c.t[i + j + 1] = mul_hi(c.t[i + j + 1], m, set1(n_digits[j]));
        }
        c.t[i + 1] = add8(c.t[i + 1], carry_of(c.t[i]));
    }
    return high_tight(&c);
}

/* a mod n for a below 2 n */
INLINE struct fe sc_canonical(const struct fe *a)
{
    struct cols c = cols_zero();
    high_add(&c, a);
    UNROLL for (int i = 0; i < D; i++)
        c.t[D + i] = sub8(c.t[D + i], set1(n_digits[i]));
    struct fe r = high_tight(&c);
    __mmask8 negative = _mm512_movepi64_mask(r.d[D - 1]);
    return fe_blend(negative, &r, a);
}

/* ---- points -------------------------------------------------------------------------------------------------------- */

/* Jacobian: the affine point is (x / z^2, y2 / (2 z^3)). Keeping twice y saves the factors 4 and 8 of the usual formulas, and
 * so the width they would cost. z is loose. */
struct point {
    struct fe x, y2, z;
};

/* P <- 2 P. M = 3 (X - Z^2) (X + Z^2), S = X (2Y)^2, X3 = M^2 - 2 S, 2 Y3 = M (2 S - 2 X3) - (2Y)^4, Z3 = (2Y) Z.
 * In: x (0, 6.1), 2y (0, 4.1), z (0, 3.9); P-384, at first: x (0, 8.1), 2y (0, 10.2).
 * Out: x (0, 5.1), 2y (0, 4), z (0, 2). */
INLINE void point_double(struct point *p)
{
    struct fe zz = fe_sqr(&p->z);         /* (0, 2) */
    struct fe g = fe_sqr_loose(&p->y2);   /* (0, 2.1) */
    struct fe a1 = fe_sub_loose(&p->x, &zz, 2); /* (0, 8.1) */
    struct cols c = cols_zero();
    high_add(&c, &p->x);
    high_add(&c, &zz);
    struct fe a2 = high_loose(&c); /* (0, 8.1) */
    struct fe s = fe_mul(&p->x, &g); /* (0, 1.8) */
    c = cols_zero();
    cols_mul(&c, &a1, &a2);
    reduce_p(&c);
    UNROLL for (int i = D; i < 2 * D; i++)
        c.t[i] = add8(add8(c.t[i], c.t[i]), c.t[i]);
    fold_p(&c, 0);
    struct fe m = high_loose(&c); /* (0, 1.001); P-384: (0, 3.1) */

    p->z = fe_mul_loose(&p->y2, &p->z); /* (0, 2) */
    c = cols_sqr(&m);
    reduce_p(&c);
    high_add_p(&c, 4);
    high_sub(&c, &s);
    high_sub(&c, &s);
    p->x = high_tight(&c); /* (0, 5.1) */

    c = cols_zero();
    high_add_p(&c, 11);
    UNROLL for (int i = 0; i < D; i++) {
        v8 t = sub8(s.d[i], p->x.d[i]);
        c.t[D + i] = add8(c.t[D + i], add8(t, t));
    }
    struct fe e = high_loose(&c); /* 2 S - 2 X3 + 11 p: (0, 14.6) */
    c = cols_sqr(&g);
    cols_negate(&c);
    cols_mul(&c, &m, &e);
    reduce_p(&c);
    high_add_p(&c, 2);
    p->y2 = high_tight(&c); /* (0, 4) */
}

/* P <- P + (x, y), different from P and -P and none of them infinity; otherwise z becomes 0 mod p.
 * H = x Z^2 - X, r = 2 y Z^3 - 2Y, I = 4 H^2, J = H I, V = X I; X3 = r^2 - J - 2 V, 2 Y3 = 2 (r (V - X3) - (2Y) J),
 * Z3 = 2 Z H.
 * In: P as point_double leaves it, x (0, 6.2), y (0, 3.8); P-384: x (0, 8.1), y (0, 5.1). Out: x (0, 6.1), 2y (0, 4.1), z (0, 3.9). */
INLINE void point_add(struct point *p, const struct fe *x, const struct fe *y)
{
    struct fe zz = fe_sqr_loose(&p->z); /* (0, 1.3) */
    struct cols c = cols_zero();
    cols_mul(&c, x, &zz);
    reduce_p(&c);
    high_add_p(&c, 6);
    high_sub(&c, &p->x);
    struct fe h = high_loose(&c); /* (0, 7.5) */
    struct fe zzz = fe_mul_loose(&zz, &p->z); /* (0, 1.2) */
    c = cols_zero();
    cols_mul(&c, &zzz, y);
    reduce_p(&c);
    high_double(&c);
    high_sub(&c, &p->y2); /* (-4, 2.6) */
    fold_p(&c, 4);
    struct fe r = high_loose(&c); /* (0, 1.001); P-384: (0, 6.6) */

    c = cols_sqr(&h);
    reduce_p(&c);
    high_double(&c);
    high_double(&c); /* (0, 18.1) */
    fold_p(&c, 0);
    struct fe i = high_loose(&c); /* (0, 1.001); P-384: (0, 4.1) */
    c = cols_zero();
    cols_mul(&c, &p->z, &h);
    reduce_p(&c);
    high_double(&c);
    p->z = high_loose(&c); /* (0, 3.9) */
    struct fe j = fe_mul(&h, &i);    /* (0, 1.5) */
    struct fe v = fe_mul(&p->x, &i); /* (0, 1.4) */

    c = cols_sqr(&r);
    reduce_p(&c);
    high_add_p(&c, 5);
    UNROLL for (int k = 0; k < D; k++)
        c.t[D + k] = sub8(sub8(c.t[D + k], j.d[k]), add8(v.d[k], v.d[k]));
    p->x = high_tight(&c); /* (0, 6.1) */
    struct fe e = fe_sub_loose(&v, &p->x, 7); /* (0, 8.4) */
    c = cols_zero();
    cols_mul(&c, &p->y2, &j);
    cols_negate(&c);
    cols_mul(&c, &r, &e);
    reduce_p(&c);
    high_double(&c);
    high_add_p(&c, 1);
    p->y2 = high_tight(&c); /* (0, 4.1) */
}

/* (x3, y3) = (x1, y1) + (x2, y2) in affine coordinates, given inv = 1 / (x2 - x1). y1 and y2 may be signed digits.
 * l = (y2 - y1) inv, x3 = l^2 - x1 - x2, y3 = l (x1 - x3) - y1.
 * pair_add adds points of the combs. In: x1, x2 (0, 1), y1, y2 (-1, 1), inv (0, 1.3). Out: x3 (0, 3.2), y3 (0, 2.6). */
INLINE void pair_add(struct fe *x3, struct fe *y3, const struct fe *x1, const struct fe *y1, const struct fe *x2,
                     const struct fe *y2, const struct fe *inv)
{
    struct fe dy = fe_sub_loose(y2, y1, 2); /* (0, 4) */
    struct fe l = fe_mul_loose(&dy, inv);   /* (0, 1.4) */
    struct cols c = cols_sqr(&l);
    reduce_p(&c);
    high_add_p(&c, 2);
    high_sub(&c, x1);
    high_sub(&c, x2);
    *x3 = high_tight(&c);                   /* (0, 3.2) */
    struct fe dx = fe_sub_loose(x1, x3, 4); /* (0, 5) */
    c = cols_zero();
    cols_mul(&c, &l, &dx);
    reduce_p(&c);
    high_add_p(&c, 1);
    high_sub(&c, y1);
    *y3 = high_tight(&c); /* (0, 3.5) */
}

/* row_add adds sums of pairs. In: x1, x2 (0, 3.2), y1 (0, 3.5), y2 (-1, 3.5), inv (0, 1.3).
 * Out: x3, y3 (0, 1.001); P-384: x3 (0, 8.1), y3 (0, 5.1). */
INLINE void row_add(struct fe *x3, struct fe *y3, const struct fe *x1, const struct fe *y1, const struct fe *x2,
                    const struct fe *y2, const struct fe *inv)
{
    struct fe dy = fe_sub_loose(y2, y1, 5); /* (0, 8.5) */
    struct fe l = fe_mul_loose(&dy, inv);   /* (0, 1.7) */
    struct cols c = cols_sqr(&l);
    reduce_p(&c);
    high_sub(&c, x1);
    high_sub(&c, x2); /* (-6.4, 1.2) */
    fold_p(&c, 7);
    *x3 = high_tight(&c);
    struct fe dx = fe_sub_loose(x1, x3, 9); /* (0, 12.2) */
    c = cols_zero();
    cols_mul(&c, &l, &dx);
    reduce_p(&c);
    high_sub(&c, y1); /* (-3.5, 2.3) */
    fold_p(&c, 4);
    *y3 = high_tight(&c);
}

/* ---- words to digits --------------------------------------------------------------------------------------------------- */

/* 64-bit words, a word of all lanes in each vector, to digits. */
INLINE struct fe from_words(const v8 *w)
{
    struct fe r;
    UNROLL for (int i = 0; i < D; i++) {
        int word = 52 * i / 64, shift = 52 * i % 64;
        v8 t = shift == 0 ? w[word] : _mm512_srli_epi64(w[word], (unsigned)shift);
        if (shift > 12 && word + 1 < W)
            t = _mm512_or_si512(t, _mm512_slli_epi64(w[word + 1], (unsigned)(64 - shift)));
        r.d[i] = i + 1 < D ? _mm512_and_si512(t, set1(MASK52)) : t;
    }
    return r;
}

/* Four words from each of eight places, transposed. */
INLINE void load4(v8 *w, const uint64_t *const p[LANES], size_t at)
{
#define TWO(i, j)                                                                                                               \
    _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(const void *)(p[i] + at))),                   \
                       _mm256_loadu_si256((const __m256i *)(const void *)(p[j] + at)), 1)
    v8 a0 = TWO(0, 2), a1 = TWO(1, 3), a2 = TWO(4, 6), a3 = TWO(5, 7);
#undef TWO
    v8 b0 = _mm512_unpacklo_epi64(a0, a1), b1 = _mm512_unpackhi_epi64(a0, a1);
    v8 b2 = _mm512_unpacklo_epi64(a2, a3), b3 = _mm512_unpackhi_epi64(a2, a3);
    w[0] = _mm512_shuffle_i64x2(b0, b2, 0x88);
    w[1] = _mm512_shuffle_i64x2(b1, b3, 0x88);
    w[2] = _mm512_shuffle_i64x2(b0, b2, 0xdd);
    w[3] = _mm512_shuffle_i64x2(b1, b3, 0xdd);
}

/* One number from each of eight places: coordinate 0 (x) or 1 (y) of table entries. */
INLINE struct fe load_entry(const uint64_t *const p[LANES], unsigned coordinate)
{
    v8 w[8];
    size_t at = (size_t)coordinate * W;
    load4(w, p, at);
    if (W > 4) { /* words 2 to 5 */
        v8 u[4];
        load4(u, p, at + 2);
        w[4] = u[2];
        w[5] = u[3];
    }
    return from_words(w);
}

/* ---- batches ----------------------------------------------------------------------------------------------------------- */

/* The table entries that one row takes in each lane, and where their points are subtracted. */
struct entries {
    const uint64_t *p[LANES];
};

struct group {
    struct fe r;      /* below n */
    struct fe s, e;   /* s below n; e below 2^(64 W) */
    struct fe total;  /* of the running inversion: the product of this group */
    struct fe before; /* and of all groups before it, itself included */
    struct entries q[SUBS][EC_ROWS], g[EC_ROWS_G];
    __mmask8 q_minus[SUBS][EC_ROWS], g_minus[EC_ROWS_G];
    __mmask8 redo; /* lanes for the portable kernel */
    /* Of every row: products of the denominators so far, of both pairs, then of their sum; the pairs' sums, then the row's. */
    struct fe chain[EC_ROWS][2];
    struct sum {
        struct fe x, y;
    } sum[EC_ROWS][2];
};

struct scratch {
    const struct qm_sig_job *lane_job[EC_GROUPS * LANES]; /* of this batch; unused lanes repeat the last */
    struct qm_sig_job *batch[EC_GROUPS * LANES];
    struct qm_sig_job *portable[EC_GROUPS * LANES];
    struct group group[EC_GROUPS];
    uint8_t portable_scratch[]; /* 64-byte aligned */
};

/* The inverse of a in every lane, by one inversion of the product of the eight. No lane is 0. scalars: mod n, else mod p. In
 * and out in Montgomery form, in below 2, out below 1.2. */
static __attribute__((noinline)) struct fe lanes_inverse(const struct fe *a, bool scalars)
{
    struct fe part[4], turned[3]; /* part[i + 1] is a product over 2^(i + 1) lanes */
    part[0] = *a;
    for (int i = 0; i < 3; i++) {
        v8 perm = _mm512_xor_si512(_mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0), set1(1ull << i));
        UNROLL for (int k = 0; k < D; k++)
            turned[i].d[k] = _mm512_permutexvar_epi64(perm, part[i].d[k]);
        part[i + 1] = scalars ? sc_mul(&part[i], &turned[i]) : fe_mul(&part[i], &turned[i]);
    }
    /* to words, below 2^(64 W): one below 1.1 p may have to lose p */
    const uint64_t *m = scalars ? EC_CURVE.n : EC_CURVE.p;
    uint64_t words[W + 1] = {0}, reduced[W + 1];
    for (unsigned i = 0; i < D; i++) {
        uint64_t digit = (uint64_t)_mm_cvtsi128_si64(_mm512_castsi512_si128(part[3].d[i]));
        words[52 * i / 64] |= digit << (52 * i % 64);
        if (52 * i % 64 > 12)
            words[52 * i / 64 + 1] |= digit >> (64 - 52 * i % 64);
    }
    for (;;) {
        uint64_t borrow = 0;
        for (unsigned i = 0; i <= W; i++) {
            uint64_t mi = i < W ? m[i] : 0;
            uint64_t t = words[i] - mi;
            uint64_t next = (words[i] < mi) | (t < borrow);
            reduced[i] = t - borrow;
            borrow = next;
        }
        if (borrow != 0)
            break;
        memcpy(words, reduced, sizeof words);
    }
    uint64_t digits[D];
    if (!qm_ec_inverse(W, words, words, m))
        memset(words, 0, sizeof words); /* cannot be: lanes that are 0 were put aside */
    for (unsigned i = 0; i < D; i++) {
        unsigned word = 52 * i / 64, shift = 52 * i % 64;
        digits[i] = words[word] >> shift;
        if (shift > 12)
            digits[i] |= words[word + 1] << (64 - shift);
        digits[i] &= MASK52;
    }
    /* the inverse of x R, times R^3 over R: that of x, in Montgomery form */
    struct fe inv = fe_set(digits), r3 = fe_set(scalars ? curve.n_r3 : curve.r3);
    inv = scalars ? sc_mul(&inv, &r3) : fe_mul(&inv, &r3);
    for (int i = 2; i >= 0; i--)
        inv = scalars ? sc_mul(&inv, &turned[i]) : fe_mul(&inv, &turned[i]);
    return inv;
}

/* Every group's total becomes its own inverse, in every lane. */
static void invert_totals(struct group *g, size_t groups, bool scalars)
{
    g[0].before = g[0].total;
    for (size_t i = 1; i < groups; i++)
        g[i].before = scalars ? sc_mul(&g[i - 1].before, &g[i].total) : fe_mul(&g[i - 1].before, &g[i].total);
    struct fe inv = lanes_inverse(&g[groups - 1].before, scalars);
    for (size_t i = groups; i-- > 1;) {
        struct fe own = scalars ? sc_mul(&inv, &g[i - 1].before) : fe_mul(&inv, &g[i - 1].before);
        inv = scalars ? sc_mul(&inv, &g[i].total) : fe_mul(&inv, &g[i].total);
        g[i].total = own;
    }
    g[0].total = inv;
}

/* Lanes whose total is 0 are put aside, with 1 in its place. */
static void set_total(struct group *g, const struct fe *product)
{
    __mmask8 zero = fe_is_zero(product);
    struct fe one = fe_set(curve.one);
    g->redo |= zero;
    g->total = fe_blend(zero, product, &one);
}

/* ---- steps 1 and 2 ------------------------------------------------------------------------------------------------------- */

INLINE uint64_t big_endian64(const uint8_t *p)
{
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return __builtin_bswap64(x);
}

static void load(struct group *g, const struct qm_sig_job *const job[LANES])
{
    uint64_t r[W][LANES] __attribute__((aligned(64)));
    uint64_t s[W][LANES] __attribute__((aligned(64)));
    uint64_t e[W][LANES] __attribute__((aligned(64)));
    for (int l = 0; l < LANES; l++) {
        /* the leftmost 64 W bits of the digest, or all of it (FIPS 186-5, 6.4.2, step 2) */
        uint8_t digest[8 * W] = {0};
        size_t have = qm_hash_size((enum qm_hash)job[l]->hash);
        if (have > sizeof digest)
            have = sizeof digest;
        memcpy(digest + sizeof digest - have, job[l]->digest, have);
        for (unsigned i = 0; i < W; i++) {
            r[i][l] = big_endian64(job[l]->sig + 8 * (W - 1 - i));
            s[i][l] = big_endian64(job[l]->sig + 8 * (2 * W - 1 - i));
            e[i][l] = big_endian64(digest + 8 * (W - 1 - i));
        }
    }
    v8 w[W];
    for (int i = 0; i < W; i++)
        w[i] = _mm512_load_si512(r[i]);
    g->r = from_words(w);
    for (int i = 0; i < W; i++)
        w[i] = _mm512_load_si512(s[i]);
    g->s = from_words(w);
    for (int i = 0; i < W; i++)
        w[i] = _mm512_load_si512(e[i]);
    g->e = from_words(w);
    g->redo = 0;
}

/* The digit that a bit is in; the top one of a comb's signs takes what goes beyond 52. */
INLINE unsigned digit_at(unsigned bit)
{
    return bit / 52 < D ? bit / 52 : D - 1;
}

/* (k >> 1) + 2^(bits - 1) for k = u or u + n, whichever is odd: the signs of the comb (ec_comb.h). u below n. */
INLINE struct fe comb_bits(const struct fe *u, unsigned bits)
{
    __mmask8 even = _mm512_testn_epi64_mask(u->d[0], set1(1));
    struct cols c = cols_zero();
    high_add(&c, u);
    UNROLL for (int i = 0; i < D; i++)
        c.t[D + i] = _mm512_mask_add_epi64(c.t[D + i], even, c.t[D + i], set1(n_digits[i]));
    struct fe k = high_tight(&c), r;
    UNROLL for (int i = 0; i < D; i++) {
        r.d[i] = _mm512_srli_epi64(k.d[i], 1);
        if (i + 1 < D)
            r.d[i] = _mm512_or_si512(r.d[i], _mm512_and_si512(_mm512_slli_epi64(k.d[i + 1], 51), set1(MASK52)));
    }
    const unsigned top = digit_at(bits - 1);
    r.d[top] = _mm512_or_si512(r.d[top], set1(1ull << (bits - 1 - 52 * top)));
    return r;
}

/* The entries of one row: teeth bits from `first` on, `spacing` apart. The top one is the sign. */
INLINE __mmask8 comb_row(struct entries *out, const struct fe *bits, unsigned first, unsigned spacing, unsigned teeth,
                         v8 base)
{
    v8 index = _mm512_setzero_si512();
    for (unsigned j = teeth - 1; j-- > 0;) {
        unsigned at = first + j * spacing, digit = digit_at(at);
        v8 bit = _mm512_srl_epi64(bits->d[digit], _mm_cvtsi32_si128((int)(at - 52 * digit)));
        index = _mm512_or_si512(add8(index, index), _mm512_and_si512(bit, set1(1)));
    }
    unsigned at = first + (teeth - 1) * spacing, digit = digit_at(at);
    __mmask8 minus = _mm512_testn_epi64_mask(bits->d[digit], set1(1ull << (at - 52 * digit)));
    index = _mm512_mask_xor_epi64(index, minus, index, set1((1ull << (teeth - 1)) - 1));
    v8 address = add8(base, _mm512_mullo_epi64(index, set1(16 * W)));
    _mm512_storeu_si512(out, address);
    return minus;
}

static void multipliers(struct group *g, size_t groups, const struct qm_sig_job *const *lane_job)
{
    struct fe r2 = fe_set(curve.n_r2);
    for (size_t i = 0; i < groups; i++)
        g[i].total = g[i].s = sc_mul(&g[i].s, &r2);
    invert_totals(g, groups, true);
    for (size_t i = 0; i < groups; i++) {
        struct fe u1 = sc_mul(&g[i].e, &g[i].total), u2 = sc_mul(&g[i].r, &g[i].total);
        u1 = sc_canonical(&u1);
        u2 = sc_canonical(&u2);
        u1 = comb_bits(&u1, QM_EC_G_TEETH * EC_ROWS_G);
        u2 = comb_bits(&u2, TEETH * SUBS * EC_ROWS);
        uint64_t base[LANES] __attribute__((aligned(64)));
        for (size_t l = 0; l < LANES; l++) {
            const struct qm_key *key = lane_job[i * LANES + l]->key;
            base[l] = (uint64_t)(uintptr_t)key + key->extra_off;
        }
        v8 key_base = _mm512_load_si512(base), g_base = set1((uint64_t)(uintptr_t)EC_TABLE_G);
        for (unsigned sub = 0; sub < SUBS; sub++) {
            for (unsigned row = 0; row < EC_ROWS; row++)
                g[i].q_minus[sub][row] = comb_row(&g[i].q[sub][row], &u2, sub * EC_ROWS + row, SUBS * EC_ROWS, TEETH,
                                                  add8(key_base, set1(sub * EC_KEY_COMB_BYTES / SUBS)));
        }
        for (unsigned row = 0; row < EC_ROWS_G; row++)
            g[i].g_minus[row] = comb_row(&g[i].g[row], &u1, row, EC_ROWS_G, QM_EC_G_TEETH, g_base);
    }
}

/* ---- steps 3 to 6 -------------------------------------------------------------------------------------------------------- */

/* A denominator joins the product; what that was before is kept for it. */
INLINE void chain_on(struct fe *before, struct fe *product, const struct fe *d)
{
    *before = *product;
    *product = fe_mul(product, d);
}

/* The last denominator leaves the product, whose inverse it takes along; gives its own inverse. */
INLINE struct fe chain_off(const struct fe *before, struct fe *inverse, const struct fe *d)
{
    struct fe inv = fe_mul_loose(inverse, before);
    *inverse = fe_mul_loose(inverse, d);
    return inv;
}

/* A point of a comb as a row takes it. */
INLINE struct sum load_point(const struct entries *e, __mmask8 minus)
{
    struct sum s = {load_entry(e->p, 0), load_entry(e->p, 1)};
    s.y = fe_negate_some(minus, &s.y);
    return s;
}

/* The denominators of the additions of pairs, and their running product, from the top row down. */
static void pairs_forward(struct group *g)
{
    struct fe product = fe_set(curve.one);
    for (int row = EC_ROWS - 1; row >= 0; row--) {
        struct fe x[SUBS];
        UNROLL for (int sub = 0; sub < SUBS; sub++)
            x[sub] = load_entry(g->q[sub][row].p, 0);
        struct fe d = fe_sub_loose(&x[1], &x[0], 1); /* (0, 2) */
        chain_on(&g->chain[row][0], &product, &d);   /* (0, 1.2) */
        if (row < EC_ROWS_G) {
            struct fe xg = load_entry(g->g[row].p, 0);
            d = fe_sub_loose(&xg, &x[2], 1);
            chain_on(&g->chain[row][1], &product, &d);
        }
    }
    set_total(g, &product);
}

/* The pairs themselves, from the bottom row up; and the denominators for their sums. */
static void pairs_back_rows_forward(struct group *g)
{
    struct fe inverse = g->total, product = fe_set(curve.one); /* (0, 1.2) */
    for (int row = 0; row < EC_ROWS; row++) {
        struct sum q[SUBS], *sum = g->sum[row];
        UNROLL for (int sub = 0; sub < SUBS; sub++)
            q[sub] = load_point(&g->q[sub][row], g->q_minus[sub][row]);
        struct fe d, inv;
        if (row < EC_ROWS_G) {
            struct sum of_g = load_point(&g->g[row], g->g_minus[row]);
            d = fe_sub_loose(&of_g.x, &q[2].x, 1);
            inv = chain_off(&g->chain[row][1], &inverse, &d);
            pair_add(&sum[1].x, &sum[1].y, &q[2].x, &q[2].y, &of_g.x, &of_g.y, &inv);
        } else {
            sum[1] = q[2];
        }
        d = fe_sub_loose(&q[1].x, &q[0].x, 1);
        inv = chain_off(&g->chain[row][0], &inverse, &d);
        pair_add(&sum[0].x, &sum[0].y, &q[0].x, &q[0].y, &q[1].x, &q[1].y, &inv);

        d = fe_sub_loose(&sum[1].x, &sum[0].x, 4); /* (0, 7.2) */
        chain_on(&g->chain[row][0], &product, &d); /* (0, 1.9) */
    }
    set_total(g, &product);
}

/* The rows, each in place of its first pair. */
static void rows_back(struct group *g)
{
    struct fe inverse = g->total;
    for (int row = EC_ROWS - 1; row >= 0; row--) {
        const struct sum a = g->sum[row][0], b = g->sum[row][1];
        struct fe d = fe_sub_loose(&b.x, &a.x, 4);
        struct fe inv = chain_off(&g->chain[row][0], &inverse, &d); /* (0, 1.3), inverse (0, 1.9) */
        row_add(&g->sum[row][0].x, &g->sum[row][0].y, &a.x, &a.y, &b.x, &b.y, &inv);
    }
}

static struct point ladder(const struct group *g)
{
    struct point p;
    struct cols c = cols_zero();
    p.x = g->sum[EC_ROWS - 1][0].x;
    high_add(&c, &g->sum[EC_ROWS - 1][0].y);
    high_double(&c);
    p.y2 = high_tight(&c); /* (0, 2.002); P-384: (0, 10.2) */
    p.z = fe_set(curve.one);
    for (int row = EC_ROWS - 2; row >= 0; row--) {
        point_double(&p);
        point_add(&p, &g->sum[row][0].x, &g->sum[row][0].y);
    }
    return p;
}

/* Lanes whose x is r mod n. */
static __mmask8 compare(struct group *g, const struct point *p)
{
    struct fe z = tight(p->z);
    g->redo |= fe_is_zero(&z);
    struct fe r2 = fe_set(curve.r2), zz = fe_sqr_loose(&p->z);
    struct fe r = fe_mul(&g->r, &r2), t = fe_mul(&r, &zz);
    t = fe_sub_loose(&p->x, &t, 2);
    t = tight(t);
    __mmask8 good = fe_is_zero(&t);
    /* r + n < p: about one honest signature in 2^(32 W) */
    struct cols c = cols_zero();
    high_add(&c, &g->r);
    UNROLL for (int i = 0; i < D; i++)
        c.t[D + i] = add8(c.t[D + i], set1(n_digits[i] - p_digits[i]));
    struct fe d = high_tight(&c);
    __mmask8 small = _mm512_movepi64_mask(d.d[D - 1]);
    if (QM_UNLIKELY(small != 0)) {
        c = cols_zero();
        high_add(&c, &g->r);
        UNROLL for (int i = 0; i < D; i++)
            c.t[D + i] = add8(c.t[D + i], set1(n_digits[i]));
        r = high_tight(&c); /* (0, 2) */
        r = fe_mul(&r, &r2);
        t = fe_mul(&r, &zz);
        t = fe_sub_loose(&p->x, &t, 2);
        t = tight(t);
        good |= fe_is_zero(&t) & small;
    }
    return good;
}

/* ---- the kernel ---------------------------------------------------------------------------------------------------------- */

static void to_digits(uint64_t *digits, const uint64_t *words)
{
    for (unsigned i = 0; i < D; i++) {
        unsigned word = 52 * i / 64, shift = 52 * i % 64;
        digits[i] = words[word] >> shift;
        if (shift > 12 && word + 1 < W)
            digits[i] |= words[word + 1] << (64 - shift);
        digits[i] &= MASK52;
    }
}

static void pow2_digits(uint64_t *digits, unsigned k, const uint64_t *m)
{
    uint64_t words[W];
    qm_ec_pow2(W, words, k, m);
    to_digits(digits, words);
}

static void tables_init(void)
{
    pow2_digits(curve.one, 52 * D, EC_CURVE.p);
    pow2_digits(curve.r2, 2 * 52 * D, EC_CURVE.p);
    pow2_digits(curve.r3, 3 * 52 * D, EC_CURVE.p);
    pow2_digits(curve.n_r2, 2 * 52 * D, EC_CURVE.n);
    pow2_digits(curve.n_r3, 3 * 52 * D, EC_CURVE.n);
    uint64_t inv = n_digits[0];
    for (int i = 0; i < 5; i++)
        inv *= 2 - n_digits[0] * inv;
    curve.n_inv = (0 - inv) & MASK52;
}

static size_t kernel_scratch_size(void)
{
    return qm_align_up(sizeof(struct scratch) + qm_sig_openssl.scratch_size(), QM_CACHE_LINE);
}

static qm_err kernel_init(void *scratch, const struct qm_hash_kernel *hash, struct qm_fault *fault)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, tables_init);
    struct scratch *s = scratch;
    return qm_sig_openssl.init(s->portable_scratch, hash, fault);
}

static void kernel_close(void *scratch)
{
    struct scratch *s = scratch;
    qm_sig_openssl.close(s->portable_scratch);
}

static void verify_batch(struct scratch *s, size_t count)
{
    size_t groups = (count + LANES - 1) / LANES, again = 0;
    struct group *g = s->group;
    for (size_t i = 0; i < groups * LANES; i++)
        s->lane_job[i] = s->batch[i < count ? i : count - 1];
    for (size_t i = 0; i < groups; i++)
        load(&g[i], s->lane_job + i * LANES);
    multipliers(g, groups, s->lane_job);
    for (size_t i = 0; i < groups; i++)
        pairs_forward(&g[i]);
    invert_totals(g, groups, false);
    for (size_t i = 0; i < groups; i++)
        pairs_back_rows_forward(&g[i]);
    invert_totals(g, groups, false);
    for (size_t i = 0; i < groups; i++) {
        rows_back(&g[i]);
        struct point p = ladder(&g[i]);
        __mmask8 good = compare(&g[i], &p);
        for (size_t l = 0; l < LANES && i * LANES + l < count; l++) {
            struct qm_sig_job *job = s->batch[i * LANES + l];
            job->valid = (good >> l & 1) != 0;
            if ((g[i].redo >> l & 1) != 0)
                s->portable[again++] = job;
        }
    }
    if (QM_UNLIKELY(again != 0))
        qm_sig_openssl.verify(s->portable_scratch, s->portable, again);
}

enum { KEYS_AHEAD = 12 };

static void kernel_verify(void *scratch, struct qm_sig_job *const *jobs, size_t count)
{
    struct scratch *s = scratch;
    size_t filled = 0;
    for (size_t i = 0; i < count; i++) {
        /* keys lie anywhere in gigabytes: asking for them early is worth an eighth with 300,000 keys */
        if (i + KEYS_AHEAD < count)
            _mm_prefetch((const char *)jobs[i + KEYS_AHEAD]->key, _MM_HINT_T0);
        const struct qm_key *key = jobs[i]->key;
        if (key->extra_bytes == EC_KEY_COMB_BYTES) {
            s->batch[filled++] = jobs[i];
            for (size_t line = 0; line < EC_KEY_COMB_BYTES; line += QM_CACHE_LINE)
                _mm_prefetch((const char *)key + key->extra_off + line, _MM_HINT_T1);
        } else {
            qm_sig_openssl.verify(s->portable_scratch, &jobs[i], 1);
        }
        if (filled == EC_GROUPS * LANES || (i + 1 == count && filled != 0)) {
            verify_batch(s, filled);
            filled = 0;
        }
    }
}
