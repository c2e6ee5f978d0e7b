/* RSA verification with AVX-512 IFMA, eight signatures side by side, for CPUs that start two 512-bit multiplications in a cycle.
 *
 * What is computed: EM = s^e mod n for each lane, then the padding (rsa_ifma512.h). Inputs are public, so nothing here is constant
 * time.
 *
 * rsa_ifma512.c saves multiplications and pays in additions. Additions go through the same two ports as multiplications on such a CPU,
 * so here is the plain schedule: digit by digit, radix B = 2^52, the way that needs least beside vpmadd52. L is 40, 60 or 80 digits for
 * 2048, 3072 and 4096 bits, so R = B^L exceeds n by 32, 48 or 64 bits.
 *
 * Numbers. "Digits" are in [0, 2^52). "Columns" are sums of weight B^c, never negative: halves of products, each below 2^52, at most
 * 4 L of them, so below 2^61 with what is carried.
 *
 * Squares. A pair of digits i < j counts twice. 2 a_i may not fit the multiplier; but the digits of the number 2 a do, and a_i (2 a)_j
 * is right for all j > i if (2 a)_(i+1) is taken without the bit that a_i carries into it.
 *
 * Reduction (Montgomery). From column 0 up, u = -column n^-1 mod B makes a column of t + u n a multiple of B, which is carried; what
 * is then left above column L - 1 is U = t / B^L mod n, and U < t / B^L + n. A column's low digit becomes 0, so its carry is column / B
 * rounded up, and the low half of u n_0 is not needed.
 *
 * Order. ROWS digits at a time stay in registers, against all digits of the other number, and the columns being summed slide through
 * registers (struct strip). The digits u of a strip wait for each other, some nine cycles apiece: a chain. It needs the first ROWS
 * columns that the strip before completes, so its links stand between the later steps of that strip, which do not wait.
 *
 * Counted for 2048 bits, in vpmadd52 for eight lanes: square 1640, product 3200, reduction 3200. */
#include <immintrin.h>
#include <stdint.h>

typedef __m512i v8;

enum {
    RADIX = 52,
    DIGITS_MAX = 80,
    ROWS = 5,     /* digits of a strip; divides L */
    PER_LINK = 2, /* steps of a strip to each link of the next one's chain */
};

/* What a product needs on its way. base of a batch is below 2^41 n (2048 and 3072 bits: 2 n). */
struct work {
    v8 t[2 * DIGITS_MAX + ROWS + 1]; /* columns of the product to be reduced, and the zeros above */
    v8 twice[DIGITS_MAX];            /* digits of twice the number to be squared */
};

#include "engine/kernel/rsa_ifma512.h"

#define UNROLL _Pragma("GCC unroll 16")

/* ---- strips ---- */

/* Rows r .. r + ROWS - 1 of a product; the other number's digit k runs upward, a step each. */
struct strip {
    v8 row[ROWS];
    v8 column[ROWS + 1]; /* from r + k on, as far as the rows reach: what was there before, and what they add */
};

/* Begins with the columns from c on; NULL: with zeros. */
INLINE void strip_begin(struct strip *p, const v8 *c)
{
    UNROLL for (unsigned t = 0; t <= ROWS; t++)
        p->column[t] = c != NULL ? c[t] : zero();
}

/* Adds a product to the window's column at; its high half weighs in the next. */
INLINE void strip_mad(struct strip *p, unsigned at, v8 row, v8 digit)
{
    p->column[at] = madlo(p->column[at], row, digit);
    p->column[at + 1] = madhi(p->column[at + 1], row, digit);
}

/* Adds the first rows times a digit. Low halves first: then no column waits for itself. */
INLINE void strip_step(struct strip *p, unsigned rows, v8 digit)
{
    UNROLL for (unsigned t = 0; t < rows; t++)
        p->column[t] = madlo(p->column[t], p->row[t], digit);
    UNROLL for (unsigned t = 0; t < rows; t++)
        p->column[t + 1] = madhi(p->column[t + 1], p->row[t], digit);
}

/* Takes out the column that is complete; another comes in at the top. */
INLINE v8 strip_slide(struct strip *p, v8 comes)
{
    v8 column = p->column[0];
    UNROLL for (unsigned t = 0; t < ROWS; t++)
        p->column[t] = p->column[t + 1];
    p->column[ROWS] = comes;
    return column;
}

/* Stores the columns that are left, and zeros above them for the next strip to begin with. */
INLINE void strip_end(const struct strip *p, v8 *c)
{
    UNROLL for (unsigned t = 0; t < ROWS; t++)
        c[t] = p->column[t];
    UNROLL for (unsigned t = ROWS; t <= 2 * ROWS; t++)
        c[t] = zero();
}

/* ---- products ----
 *
 * The first strip, r = 0, finds no columns; each leaves those up to r + len + ROWS - 1, and zeros. */

/* Rows r .. r + ROWS - 1 of a^2: pairs of their digits with each other and with those above, columns 2 r and up. */
INLINE void square_strip(struct batch *b, const v8 *a, unsigned r, const unsigned len, bool first)
{
    const v8 *twice = b->work.twice, own_only = _mm512_set1_epi64(-2);
    v8 *t = b->work.t;
    struct strip p;
    strip_begin(&p, first ? NULL : &t[2 * r]);
    UNROLL for (unsigned e = 0; e < ROWS; e++) { /* digit r + e comes in as row e */
        p.row[e] = a[r + e];
        if (e > 1)
            strip_step(&p, e - 1, twice[r + e]);
        if (e > 0)
            strip_mad(&p, e - 1, p.row[e - 1], _mm512_and_si512(twice[r + e], own_only));
        strip_mad(&p, e, p.row[e], p.row[e]);
        v8 *column = &t[2 * r + e];
        *column = strip_slide(&p, first ? zero() : column[ROWS + 1]);
    }
    for (unsigned k = r + ROWS; k < len; k += ROWS)
        UNROLL for (unsigned e = 0; e < ROWS; e++) {
            v8 digit = twice[k + e];
            strip_step(&p, ROWS - 1, digit);
            if (e == 0 && k == r + ROWS)
                digit = _mm512_and_si512(digit, own_only);
            strip_mad(&p, ROWS - 1, p.row[ROWS - 1], digit);
            v8 *column = &t[r + k + e];
            *column = strip_slide(&p, first ? zero() : column[ROWS + 1]);
        }
    strip_end(&p, &t[r + len]);
}

/* t = a^2 in columns, a in digits and below R / 2. */
INLINE void square(struct batch *b, const v8 *a, const unsigned len)
{
    v8 carry = zero();
    for (unsigned k = 0; k < len; k++) {
        b->work.twice[k] = digit_of(_mm512_or_si512(add(a[k], a[k]), carry));
        carry = _mm512_srli_epi64(a[k], RADIX - 1);
    }
    square_strip(b, a, 0, len, true);
    for (unsigned r = ROWS; r < len; r += ROWS)
        square_strip(b, a, r, len, false);
}

/* Rows r .. r + ROWS - 1 of a y. */
INLINE void multiply_strip(struct batch *b, const v8 *a, const v8 *y, unsigned r, const unsigned len, bool first)
{
    v8 *t = b->work.t;
    struct strip p;
    strip_begin(&p, first ? NULL : &t[r]);
    UNROLL for (unsigned e = 0; e < ROWS; e++)
        p.row[e] = a[r + e];
    for (unsigned k = 0; k < len; k += ROWS)
        UNROLL for (unsigned e = 0; e < ROWS; e++) {
            strip_step(&p, ROWS, y[k + e]);
            v8 *column = &t[r + k + e];
            *column = strip_slide(&p, first ? zero() : column[ROWS + 1]);
        }
    strip_end(&p, &t[r + len]);
}

/* t = a y in columns, both in digits. */
INLINE void multiply(struct batch *b, const v8 *a, const v8 *y, const unsigned len)
{
    multiply_strip(b, a, y, 0, len, true);
    for (unsigned r = ROWS; r < len; r += ROWS)
        multiply_strip(b, a, y, r, len, false);
}

/* ---- reduction ---- */

/* The digits u of a strip, from its columns. */
struct chain {
    v8 column[ROWS];
    v8 u[ROWS];
    v8 carry; /* into the column behind */
};

/* Makes u[e]: adds to its column what the digits before it give, the newest last, for that one is waited for. */
INLINE void chain_link(struct chain *c, unsigned e, const v8 *n, v8 n0inv)
{
    v8 lo = e == 0 ? c->column[0] : add(c->column[e], c->carry), hi = zero();
    UNROLL for (unsigned i = 0; i < e; i++) {
        lo = madlo(lo, c->u[i], n[e - i]);
        hi = madhi(hi, c->u[i], n[e - 1 - i]);
    }
    v8 sum = e == 0 ? lo : add(lo, hi);
    c->u[e] = madlo(zero(), sum, n0inv);
    c->carry = _mm512_srli_epi64(add(sum, _mm512_set1_epi64((long long)DIGIT_MASK)), RADIX);
}

/* Begins a strip of u n behind its chain: the columns from c on are what is not done, and get the carry and the pairs of digits of n
 * below ROWS that reach them. */
INLINE void reduce_begin(struct strip *p, const struct chain *chain, const v8 *n, const v8 *c)
{
    strip_begin(p, c);
    p->column[0] = add(p->column[0], chain->carry);
    UNROLL for (unsigned t = 0; t < ROWS; t++) {
        p->row[t] = chain->u[t];
        p->column[0] = madhi(p->column[0], p->row[t], n[ROWS - 1 - t]);
    }
    UNROLL for (unsigned k = 1; k < ROWS; k++)
        UNROLL for (unsigned t = ROWS - k; t < ROWS; t++)
            strip_mad(p, t + k - ROWS, p->row[t], n[k]);
}

/* out = t / B^len mod n in digits, below t / B^len + n; t in columns. */
INLINE void reduce(struct batch *b, v8 *out, const unsigned len)
{
    const v8 *n = b->n, n0inv = b->n0inv;
    v8 *t = b->work.t;
    struct chain c;
    struct strip p;
    UNROLL for (unsigned e = 0; e < ROWS; e++)
        c.column[e] = t[e];
    UNROLL for (unsigned e = 0; e < ROWS; e++)
        chain_link(&c, e, n, n0inv);

    for (unsigned r = 0; r < len - ROWS; r += ROWS) {
        reduce_begin(&p, &c, n, &t[r + ROWS]);
        UNROLL for (unsigned k = ROWS; k < 2 * ROWS; k++) {
            strip_step(&p, ROWS, n[k]);
            c.column[k - ROWS] = strip_slide(&p, t[r + k + ROWS + 1]);
        }
        UNROLL for (unsigned k = 2 * ROWS; k < (2 + PER_LINK) * ROWS; k++) {
            if (k % PER_LINK == 0)
                chain_link(&c, (k - 2 * ROWS) / PER_LINK, n, n0inv);
            strip_step(&p, ROWS, n[k]);
            t[r + k] = strip_slide(&p, t[r + k + ROWS + 1]);
        }
        for (unsigned k = (2 + PER_LINK) * ROWS; k < len; k += ROWS)
            UNROLL for (unsigned e = 0; e < ROWS; e++) {
                strip_step(&p, ROWS, n[k + e]);
                t[r + k + e] = strip_slide(&p, t[r + k + e + ROWS + 1]);
            }
        UNROLL for (unsigned e = 0; e < ROWS; e++)
            t[r + len + e] = p.column[e];
    }

    /* The columns of the last strip, r = len - ROWS, are complete, so they give digits at once. */
    v8 carry = zero();
#define DIGIT(i, column)                                                                                                           \
    {                                                                                                                              \
        v8 x = add(column, carry);                                                                                                 \
        out[i] = digit_of(x);                                                                                                      \
        carry = _mm512_srli_epi64(x, RADIX);                                                                                       \
    }
    reduce_begin(&p, &c, n, &t[len]);
    for (unsigned k = ROWS; k < len; k += ROWS)
        UNROLL for (unsigned e = 0; e < ROWS; e++) {
            strip_step(&p, ROWS, n[k + e]);
            DIGIT(k - ROWS + e, strip_slide(&p, t[len + k + e + 1]))
        }
    UNROLL for (unsigned e = 0; e < ROWS; e++)
        DIGIT(len - ROWS + e, p.column[e])
#undef DIGIT
}

/* ---- sizes ---- */

/* out = a B; out may be a. */
static void shift_digit(v8 *out, const v8 *a, unsigned len)
{
    memmove(out + 1, a, (len - 1) * sizeof(v8));
    out[0] = zero();
}

/* base = s R. R_key is of a digit less than R for 4096 bits: there s and R_key^2 are shifted by one each. */
static void to_montgomery(struct batch *b, const struct size *z)
{
    const v8 *s = b->s;
    if (z->shift != 0) {
        shift_digit(b->base, b->s, z->len);
        shift_digit(b->x, b->x, z->len);
        s = b->base;
    }
    z->multiply(b, b->base, s, b->x);
}

#define SIZE(BITS, L)                                                           \
    _Static_assert(RADIX * (L) >= (BITS) + 32 && (L) <= DIGITS_MAX, "size");    \
    _Static_assert((L) % ROWS == 0 && (L) >= (2 + PER_LINK) * ROWS, "strips");  \
    RSA_ROUTINES(BITS, L)
SIZE(2048, 40)
SIZE(3072, 60)
SIZE(4096, 80)
#undef SIZE

static const struct size sizes[] = {
    [QM_SIG_RSA2048] = {2048, 40, 0, to_montgomery, square_2048, multiply_2048},
    [QM_SIG_RSA3072] = {3072, 60, 0, to_montgomery, square_3072, multiply_3072},
    [QM_SIG_RSA4096] = {4096, 80, 2 * RADIX, to_montgomery, square_4096, multiply_4096},
};

RSA_KERNEL(qm_sig_rsa_ifma512_dual, "avx512ifma2");
