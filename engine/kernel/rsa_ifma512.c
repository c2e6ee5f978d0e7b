/* RSA verification with AVX-512 IFMA: eight signatures side by side, a key of its own in each lane.
 *
 * What is computed: EM = s^e mod n for each lane, then the padding. Inputs are public, so nothing
 * here is constant time.
 *
 * Numbers. A number is L digits of radix B = 2^51, least significant first; digit i of all eight
 * lanes is one vector. L is 41, 61 or 81 for 2048, 3072 or 4096 bits, so R = B^L exceeds n by 35
 * bits or more. The multiplier takes 52-bit operands: the bit left free lets two digits be added
 * without a carry, which is what the next paragraph lives on. "Digits" are in [0, 2^51); "columns"
 * are signed 64-bit sums of weight B^c, of magnitude below 2^62, whose carries are still to be
 * taken.
 *
 * Products. vpmadd52 gives the low or the high 52 bits of a product, two instructions for a digit
 * product, and it is the scarce one: one a cycle on Zen 4, where an addition beside it costs
 * little (where two start in a cycle, rsa_ifma512_dual.c is better). With D_i = a_i b_i,
 *
 *     a_i b_j + a_j b_i = (a_i + a_j)(b_i + b_j) - D_i - D_j,
 *
 * so a pair of digits takes one product and not two, and a whole product, or the lower or upper
 * half of one, about as many as a square. The D are subtracted for a whole column at once, as
 * differences of prefix sums. A high half weighs 2^52 = 2 B, so it enters the next column twice. A
 * square is split once more (Karatsuba): the halves' digits add without a carry.
 *
 * Reduction (Montgomery, the whole width at once). For T < B^L n and n' = -n^-1 mod B^L:
 *
 *     q = (T mod B^L) n' mod B^L      lower half of a product
 *     U = (T + q n) / B^L             upper half; U = T / B^L mod n, and U < T / B^L + n
 *
 * The lower half of q n is not computed. It makes T mod B^L a multiple m B^L, and m is known from
 * the top column alone: the columns left out weigh less than 2^-40 B^L, so rounding to the nearest
 * integer is exact.
 *
 * Counted for 2048 bits, in vpmadd52 for eight lanes: square 1344, reduction 1927, together 3271;
 * digit by digit in radix 2^52 they would be 4880. Measured on Zen 4 at 3.66 GHz: 4170 cycles. What
 * is left is not the multiplier: an addition beside every multiplication costs a tenth of a cycle,
 * a store one. Tried there in vain: low and high halves of columns kept apart in memory, which
 * saves three additions a step for a store and a load (4450); strips unrolled 2 or 5 times to save
 * the register moves of the sliding window (no difference); clang (no difference); -mtune and
 * scheduling flags (none). */
#include <immintrin.h>
#include <stdint.h>

typedef __m512i v8;

enum {
    RADIX = 51,
    DIGITS_MAX = 81,
    HALF_MAX = (DIGITS_MAX + 1) / 2,
    ROWS = 5, /* digits of a strip; divides (L - 1) / 2 for every L */
};

/* What a product needs on its way. base of a batch is below 2^12 n (2048 and 3072 bits: 2 n). */
struct work {
    v8 minus_inv[DIGITS_MAX]; /* -n^-1 mod B^L */
    v8 t[2 * DIGITS_MAX];     /* columns of the product to be reduced */
    v8 low[DIGITS_MAX];       /* its lower digits */
    v8 w[DIGITS_MAX];         /* columns of q */
    v8 q[DIGITS_MAX];
    v8 sum[HALF_MAX]; /* the sum of a square's halves */
};

#include "engine/kernel/rsa_ifma512.h"

/* ---- strips
 * ---------------------------------------------------------------------------------------------------------
 *
 * The pairs (i, j), i <= j, of a product form a triangle. It is worked off in strips: ROWS
 * neighbouring digits r .. r + ROWS - 1 stay in registers, the other digit k runs upward, and the
 * columns r + k .. r + k + ROWS - 1 that are being summed slide through registers too. A column
 * leaves when its last pair of the strip is in. Strips that see digit k from k = r on take up their
 * rows on the way. */
struct strip {
    v8 a[ROWS], b[ROWS];   /* the rows' digits. Squares: a doubled, b unused */
    v8 lo[ROWS], hi[ROWS]; /* low and high halves of columns r + k + t */
    v8 up;                 /* high halves of the column that left last */
};

enum kind {
    SQUARE, /* a_i a_j twice and a_i^2 */
    PAIRS,  /* (a_i + a_j)(b_i + b_j) and 2 a_i b_i */
};

#define EACH_ROW(X)           X(0) X(1) X(2) X(3) X(4)
#define EACH_ROW_BUT_FIRST(X) X(1) X(2) X(3) X(4)
_Static_assert(ROWS == 5, "EACH_ROW is written for five");

INLINE void strip_clear(struct strip *p)
{
#define ROW(t) p->lo[t] = p->hi[t] = zero();
    EACH_ROW(ROW)
#undef ROW
    p->up = zero();
}

INLINE void strip_mad(struct strip *p, unsigned t, v8 a, v8 b)
{
    p->lo[t] = madlo(p->lo[t], a, b);
    p->hi[t] = madhi(p->hi[t], a, b);
}

/* Adds the pairs of digit k (ak, bk) with rows from .. to - 1; of row low_only just the low half,
 * of row high_only, which need not be among them, just the high one. */
INLINE void strip_pairs_cut(struct strip *p, v8 ak, v8 bk, unsigned from, unsigned to,
                            unsigned low_only, unsigned high_only)
{
#define ROW(t)                                                                                     \
    if (((t) >= from && (t) < to) || (t) == high_only) {                                           \
        v8 fa = add(p->a[t], ak), fb = add(p->b[t], bk);                                           \
        if ((t) != high_only)                                                                      \
            p->lo[t] = madlo(p->lo[t], fa, fb);                                                    \
        if ((t) != low_only)                                                                       \
            p->hi[t] = madhi(p->hi[t], fa, fb);                                                    \
    }
    EACH_ROW(ROW)
#undef ROW
}

INLINE void strip_pairs(struct strip *p, v8 ak, v8 bk, unsigned from, unsigned to, enum kind kind)
{
#define ROW(t)                                                                                     \
    if ((t) >= from && (t) < to)                                                                   \
        strip_mad(p, t, kind == SQUARE ? p->a[t] : add(p->a[t], ak),                               \
                  kind == SQUARE ? ak : add(p->b[t], bk));
    EACH_ROW(ROW)
#undef ROW
}

/* Adds digit k = r + t with itself. */
INLINE void strip_own(struct strip *p, v8 ak, v8 bk, unsigned t, enum kind kind)
{
    strip_mad(p, t, kind == SQUARE ? ak : add(ak, ak), kind == SQUARE ? ak : bk);
}

/* Digit k = r + t comes in as row t: its pairs with the rows before it, and itself. */
INLINE void strip_enter(struct strip *p, v8 ak, v8 bk, unsigned t, enum kind kind)
{
    strip_pairs(p, ak, bk, 0, t, kind);
    strip_own(p, ak, bk, t, kind);
    p->a[t] = kind == SQUARE ? add(ak, ak) : ak;
    p->b[t] = bk;
}

/* Takes out the column that leaves and slides on. */
INLINE v8 strip_leave(struct strip *p)
{
    v8 v = add(p->lo[0], add(p->up, p->up));
    p->up = p->hi[0];
#define ROW(t)                                                                                     \
    p->lo[(t)-1] = p->lo[t];                                                                       \
    p->hi[(t)-1] = p->hi[t];
    EACH_ROW_BUT_FIRST(ROW)
#undef ROW
    p->lo[ROWS - 1] = p->hi[ROWS - 1] = zero();
    return v;
}

INLINE void strip_emit(struct strip *p, v8 *column, bool fresh)
{
    v8 v = strip_leave(p);
    *column = fresh ? v : add(*column, v);
}

/* ---- products
 * -------------------------------------------------------------------------------------------------------
 */

/* All pairs of rows r .. r + ROWS - 1 with digits of their own index and greater, of a product of
 * len digits: columns 2 r .. r + len + ROWS - 1. Columns r .. r + len - 1 are stored if fresh_low,
 * else added to, the others (that no strip before has touched) likewise by fresh_high. */
INLINE void strip_full(v8 *w, const v8 *a, const v8 *b, unsigned r, const unsigned len,
                       enum kind kind, bool fresh_low, bool fresh_high)
{
    struct strip p;
    strip_clear(&p);
#define EDGE(e)                                                                                    \
    strip_enter(&p, a[r + (e)], b[r + (e)], e, kind);                                              \
    strip_emit(&p, &w[2 * r + (e)], fresh_low);
    EACH_ROW(EDGE)
#undef EDGE
#pragma GCC unroll 1
    for (unsigned k = r + ROWS; k < len; k++) {
        strip_pairs(&p, a[k], b[k], 0, ROWS, kind);
        strip_emit(&p, &w[r + k], fresh_low);
    }
#define EDGE(e) strip_emit(&p, &w[r + len + (e)], fresh_high);
    EACH_ROW(EDGE)
#undef EDGE
}

/* w[0 .. 2 len) = a^2 in columns, or added to w. len is 0 or 1 mod ROWS; a: digits of 51 bits, the
 * last one 52 if len is 1 mod ROWS. */
INLINE void square_plain(v8 *w, const v8 *a, const unsigned len, bool fresh)
{
    strip_full(w, a, a, 0, len, SQUARE, fresh, fresh);
#pragma GCC unroll 1
    for (unsigned r = ROWS; r + 1 < len; r += ROWS)
        strip_full(w, a, a, r, len, SQUARE, false, fresh);
    if (len % ROWS == 1) {
        v8 d = a[len - 1], hi = madhi(zero(), d, d);
        w[2 * len - 2] = madlo(w[2 * len - 2], d, d);
        w[2 * len - 1] = fresh ? add(hi, hi) : add(w[2 * len - 1], add(hi, hi));
    }
}

/* t = a^2 in columns, a in digits: with a = a0 + a1 B^h, the middle is (a0 + a1)^2 - a0^2 - a1^2.
 */
INLINE void square(struct batch *b, const v8 *a, const unsigned len)
{
    const unsigned h = (len + 1) / 2;
    v8 carry = zero();
#pragma GCC unroll 4
    for (unsigned i = 0; i < len - h; i++) {
        v8 x = add(add(a[i], a[h + i]), carry);
        b->work.sum[i] = digit_of(x);
        carry = carry_of(x);
    }
    b->work.sum[h - 1] = add(a[h - 1], carry);
    v8 *t = b->work.t;
    square_plain(t, a, h, true);
    square_plain(t + 2 * h, a + h, len - h, true);
#pragma GCC unroll 1
    for (unsigned c = 0; c < h; c++) {
        v8 inner = sub(t[h + c], t[2 * h + c]);
        v8 top = c + h < 2 * (len - h) ? t[3 * h + c] : zero();
        t[h + c] = sub(inner, t[c]);
        t[2 * h + c] = sub(zero(), add(inner, top));
    }
    square_plain(t + h, b->work.sum, h, false);
}

/* t = a y in columns, both in digits. */
INLINE void multiply(struct batch *b, const v8 *a, const v8 *y, const unsigned len)
{
    /* prefix = what column i loses for its pairs; total - prefix what column len + i loses */
    v8 prefix = zero(), up = zero();
#pragma GCC unroll 2
    for (unsigned i = 0; i < len; i++) {
        v8 lo = madlo(zero(), a[i], y[i]), hi = madhi(zero(), a[i], y[i]);
        prefix = add(prefix, add(lo, up));
        up = add(hi, hi);
        b->work.t[i] = sub(zero(), prefix);
    }
    const v8 total = add(prefix, up);
#pragma GCC unroll 2
    for (unsigned i = 0; i < len; i++)
        b->work.t[len + i] = sub(sub(zero(), total), b->work.t[i]);
#pragma GCC unroll 1
    for (unsigned r = 0; r + 1 < len; r += ROWS)
        strip_full(b->work.t, a, y, r, len, PAIRS, false, false);
    v8 hi = madhi(zero(), a[len - 1], add(y[len - 1], y[len - 1]));
    b->work.t[2 * len - 2] = madlo(b->work.t[2 * len - 2], a[len - 1], add(y[len - 1], y[len - 1]));
    b->work.t[2 * len - 1] = add(b->work.t[2 * len - 1], add(hi, hi));
}

/* ---- reduction
 * ------------------------------------------------------------------------------------------------------
 */

/* A run over the columns of a number from the lowest: its digits d, and with each the product D = d
 * y (y another number's digit) in a prefix sum over columns. */
struct run {
    v8 carry;
    v8 prefix; /* of D, in columns up to this one */
    v8 up;     /* high half of the last D, for the next column: twice */
};

INLINE v8 run_digit(struct run *s, v8 column, v8 y)
{
    v8 x = add(column, s->carry);
    v8 d = digit_of(x), lo = madlo(zero(), d, y), hi = madhi(zero(), d, y);
    s->carry = carry_of(x);
    s->prefix = add(s->prefix, add(lo, s->up));
    s->up = add(hi, hi);
    return d;
}

/* q = (t mod B^len) minus_inv mod B^len, in strips from the lowest column up; behind each strip
 * come the digits of q that it settles, and what they alone add to the upper columns of q n, in t.
 * out: the run over q, with the sums of all D of q n. */
INLINE void quotient(struct batch *b, struct run *out, const unsigned len)
{
    const v8 *a = b->work.low, *y = b->work.minus_inv;
    const unsigned half = (len - 1) / 2;
    struct run t = {zero(), zero(), zero()}, q = t;
    struct strip p;

    /* the first strip makes the digits of t on its way */
    strip_clear(&p);
#define EDGE(e)                                                                                    \
    b->work.low[e] = run_digit(&t, b->work.t[e], y[e]);                                                      \
    strip_enter(&p, b->work.low[e], y[e], e, PAIRS);                                                    \
    b->work.w[e] = sub(strip_leave(&p), t.prefix);
    EACH_ROW(EDGE)
#undef EDGE
#pragma GCC unroll 1
    for (unsigned k = ROWS; k < len - ROWS; k++) {
        v8 d = run_digit(&t, b->work.t[k], y[k]);
        b->work.low[k] = d;
        strip_pairs(&p, d, y[k], 0, ROWS, PAIRS);
        b->work.w[k] = sub(strip_leave(&p), t.prefix);
    }
#define EDGE(e)                                                                                    \
    b->work.low[len - ROWS + (e)] = run_digit(&t, b->work.t[len - ROWS + (e)], y[len - ROWS + (e)]);         \
    strip_pairs_cut(&p, b->work.low[len - ROWS + (e)], y[len - ROWS + (e)], 0, ROWS - (e),              \
                    ROWS - 1 - (e), ROWS);                                                         \
    b->work.w[len - ROWS + (e)] = sub(strip_leave(&p), t.prefix);
    EACH_ROW(EDGE)
#undef EDGE
    b->work.t[len] = add(b->work.t[len], t.carry);
    b->work.w[len - 1] = madlo(b->work.w[len - 1], add(a[half], a[half]), y[half]);

    for (unsigned r = 0;;) {
        const unsigned settled = r + ROWS == half ? len : 2 * (r + ROWS);
#pragma GCC unroll 1
        for (unsigned c = 2 * r; c < settled; c++) {
            b->work.q[c] = run_digit(&q, b->work.w[c], b->n[c]);
            b->work.t[len + c] = add(b->work.t[len + c], q.prefix);
        }
        r += ROWS;
        if (r == half)
            break;
        strip_clear(&p);
#define EDGE(e)                                                                                    \
    strip_enter(&p, a[r + (e)], y[r + (e)], e, PAIRS);                                             \
    strip_emit(&p, &b->work.w[2 * r + (e)], false);
        EACH_ROW(EDGE)
#undef EDGE
#pragma GCC unroll 1
        for (unsigned k = r + ROWS; k < len - ROWS - r; k++) {
            strip_pairs(&p, a[k], y[k], 0, ROWS, PAIRS);
            strip_emit(&p, &b->work.w[r + k], false);
        }
#define EDGE(e)                                                                                    \
    strip_pairs_cut(&p, a[len - ROWS - r + (e)], y[len - ROWS - r + (e)], 0, ROWS - (e),           \
                    ROWS - 1 - (e), ROWS);                                                         \
    strip_emit(&p, &b->work.w[len - ROWS + (e)], false);
        EACH_ROW(EDGE)
#undef EDGE
    }
    *out = q;
}

/* Begins the strip of rows r .. r + ROWS - 1 of q n with smaller digits: up to the first digit that
 * pairs with all rows. Columns from len - 1 on count whole, and of column len - 2 the high halves.
 */
INLINE void upper_begin(struct strip *p, const v8 *q, const v8 *n, unsigned r, const unsigned len,
                        bool widest)
{
    const unsigned first =
        len - ROWS - r; /* the widest strip, r = len - ROWS, has nothing before digit 0 */
    strip_clear(p);
#define ROW(t)                                                                                     \
    p->a[t] = q[r + (t)];                                                                          \
    p->b[t] = n[r + (t)];
    EACH_ROW(ROW)
#undef ROW
#define EDGE(e)                                                                                    \
    if ((e) != 0 || !widest)                                                                       \
        strip_pairs_cut(p, q[first + (e)-1], n[first + (e)-1], ROWS - (e), ROWS, ROWS,             \
                        ROWS - 1 - (e));                                                           \
    (void)strip_leave(p); /* still empty */
    EACH_ROW(EDGE)
#undef EDGE
}

/* out = t / B^L mod n in digits, below t / B^L + n; t in columns, its value not negative and below
 * B^(2 L) - B^L n. */
INLINE void reduce(struct batch *b, v8 *out, const unsigned len)
{
    const v8 *q = b->work.q, *n = b->n;
    const unsigned half = (len - 1) / 2;
    v8 *t = b->work.t;
    struct run s;
    struct strip p;
    quotient(b, &s, len);
    const v8 total = add(s.prefix, s.up); /* every column from len - 1 on still has this to lose */
    t[len - 1] = add(b->work.low[len - 1], s.up);

#pragma GCC unroll 1
    for (unsigned r = half + 1; r < len - ROWS; r += ROWS) {
        upper_begin(&p, q, n, r, len, false);
#pragma GCC unroll 1
        for (unsigned k = len - 1 - r; k < r; k++) {
            strip_pairs(&p, q[k], n[k], 0, ROWS, PAIRS);
            strip_emit(&p, &t[r + k], false);
        }
#define EDGE(e)                                                                                    \
    strip_pairs(&p, q[r + (e)], n[r + (e)], (e) + 1, ROWS, PAIRS);                                 \
    strip_own(&p, q[r + (e)], n[r + (e)], e, PAIRS);                                               \
    strip_emit(&p, &t[2 * r + (e)], false);
        EACH_ROW(EDGE)
#undef EDGE
#define EDGE(e) strip_emit(&p, &t[2 * r + ROWS + (e)], false);
        EACH_ROW(EDGE)
#undef EDGE
    }

    /* The widest strip comes last and takes the middle digit along; its columns are whole, so they
     * give digits at once. */
    const unsigned r = len - ROWS;
    upper_begin(&p, q, n, r, len, true);
    p.up = madhi(p.up, add(q[half - 1], q[half]), add(n[half - 1], n[half]));
    strip_own(&p, q[half], n[half], 0, PAIRS);
    strip_pairs(&p, q[ROWS - 1], n[ROWS - 1], 0, ROWS, PAIRS);
    v8 top = sub(add(strip_leave(&p), t[len - 1]), total);
    v8 carry = carry_of(add(top, _mm512_set1_epi64(1ll << (RADIX - 1))));
#define DIGIT(c)                                                                                   \
    {                                                                                              \
        v8 x = add(add(strip_leave(&p), sub(t[c], total)), carry);                                 \
        out[(c)-len] = digit_of(x);                                                                \
        carry = carry_of(x);                                                                       \
    }
#pragma GCC unroll 1
    for (unsigned k = ROWS; k < r; k++) {
        strip_pairs(&p, q[k], n[k], 0, ROWS, PAIRS);
        DIGIT(r + k)
    }
#define EDGE(e)                                                                                    \
    strip_pairs(&p, q[r + (e)], n[r + (e)], (e) + 1, ROWS, PAIRS);                                 \
    strip_own(&p, q[r + (e)], n[r + (e)], e, PAIRS);                                               \
    DIGIT(2 * r + (e))
    EACH_ROW(EDGE)
#undef EDGE
#define EDGE(e) DIGIT(2 * r + ROWS + (e))
    EACH_ROW(EDGE)
#undef EDGE
#undef DIGIT
}

/* ---- Montgomery form ---- */

/* out = a 2^by, 0 <= by < RADIX, for a 2^by < B^len; out may be a. */
static void shift_up(v8 *out, const v8 *a, unsigned len, unsigned by)
{
    const __m128i up = _mm_cvtsi32_si128((int)by), down = _mm_cvtsi32_si128((int)(RADIX - by));
    v8 below = zero();
    for (unsigned i = 0; i < len; i++) {
        v8 d = a[i];
        out[i] = digit_of(_mm512_or_si512(_mm512_sll_epi64(d, up), below));
        below = _mm512_srl_epi64(d, down);
    }
}

/* out = a / 2^by mod n, below a / 2^by + n, 0 < by < RADIX: adds the multiple of n that makes a
 * divisible, which must leave a + 2^by n below B^len. out is not a. */
static void halve(const struct batch *b, v8 *out, const v8 *a, unsigned len, unsigned by)
{
    const __m128i down = _mm_cvtsi32_si128((int)by), up = _mm_cvtsi32_si128((int)(RADIX - by));
    v8 u = _mm512_and_si512(madlo(zero(), a[0], b->n0inv), _mm512_set1_epi64((1ll << by) - 1));
    v8 carry = zero();
    for (unsigned i = 0; i < len; i++) {
        v8 x = madlo(add(a[i], carry), u, b->n[i]), hi = madhi(zero(), u, b->n[i]);
        carry = add(carry_of(x), add(hi, hi));
        v8 d = digit_of(x);
        if (i != 0)
            out[i - 1] = digit_of(_mm512_or_si512(out[i - 1], _mm512_sll_epi64(d, up)));
        out[i] = _mm512_srl_epi64(d, down);
    }
}

/* minus_inv = -n^-1 mod B^len, digit by digit: the q that makes 1 + q n vanish mod B^len. */
static void invert(struct batch *b, unsigned len)
{
    v8 *q = b->work.minus_inv;
    v8 carry = _mm512_set1_epi64(1);
    for (unsigned c = 0; c < len; c++) {
        v8 lo0 = carry, lo1 = zero(), hi0 = zero(), hi1 = zero();
        unsigned j = 0;
        for (; j + 2 <= c; j += 2) {
            lo0 = madlo(lo0, q[j], b->n[c - j]);
            hi0 = madhi(hi0, q[j], b->n[c - 1 - j]);
            lo1 = madlo(lo1, q[j + 1], b->n[c - 1 - j]);
            hi1 = madhi(hi1, q[j + 1], b->n[c - 2 - j]);
        }
        if (j < c) {
            lo0 = madlo(lo0, q[j], b->n[c - j]);
            hi0 = madhi(hi0, q[j], b->n[c - 1 - j]);
        }
        hi0 = add(hi0, hi1);
        v8 x = add(add(lo0, lo1), add(hi0, hi0));
        q[c] = digit_of(madlo(zero(), x, b->n0inv));
        carry = carry_of(madlo(x, q[c], b->n[0]));
    }
}

/* base = s R. Where R_key^2 is short of R^2, s and R_key^2 share the shift: both stay below B^len. */
static void to_montgomery(struct batch *b, const struct size *z)
{
    invert(b, z->len);
    if (z->shift >= 0) {
        unsigned part = (unsigned)z->shift / 2;
        shift_up(b->base, b->s, z->len, part);
        shift_up(b->x, b->x, z->len, (unsigned)z->shift - part);
        z->multiply(b, b->base, b->base, b->x);
    } else {
        halve(b, b->base, b->x, z->len, (unsigned)-z->shift);
        z->multiply(b, b->base, b->base, b->s);
    }
}

/* ---- sizes ---- */

#define SIZE(BITS, L)                                                                                      \
    _Static_assert(RADIX * (L) >= (BITS) + 35 && (L) <= DIGITS_MAX && ((L)-1) % (2 * ROWS) == 0, "size");  \
    RSA_ROUTINES(BITS, L)
SIZE(2048, 41)
SIZE(3072, 61)
SIZE(4096, 81)
#undef SIZE

static const struct size sizes[] = {
    [QM_SIG_RSA2048] = {2048, 41, 2 * RADIX * 41 - 2 * 52 * 40, to_montgomery, square_2048, multiply_2048},
    [QM_SIG_RSA3072] = {3072, 61, 2 * RADIX * 61 - 2 * 52 * 60, to_montgomery, square_3072, multiply_3072},
    [QM_SIG_RSA4096] = {4096, 81, 2 * RADIX * 81 - 2 * 52 * 79, to_montgomery, square_4096, multiply_4096},
};

RSA_KERNEL(qm_sig_rsa_ifma512, "avx512ifma");
