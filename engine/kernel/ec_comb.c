/* See ec_comb.h. From top to bottom: limbs; inverse by divsteps; Montgomery multiplication; points; combs.
 *
 * Points are Jacobian, (X, Y, Z) for (X / Z^2, Y / Z^3), coordinates in Montgomery form (times 2^(64 words)), all in [0, p).
 * The additions have no case for equal, opposite or infinite operands: a comb adds only multiples of P by different integers
 * whose sum and difference are below n in size and not zero, and P has order n. */
#include "engine/kernel/ec_comb.h"

#include <assert.h>

__extension__ typedef unsigned __int128 u128;
__extension__ typedef __int128 i128;

#define K      QM_EC_WORDS_MAX
#define ALWAYS __attribute__((always_inline))

const struct qm_ec_curve qm_ec_p256 = {
    .words = 4,
    .digits = 5,
    /* 2^256 - 2^224 + 2^192 + 2^96 - 1 (SP 800-186, 3.2.1.3) */
    .p = {0xffffffffffffffff, 0x00000000ffffffff, 0, 0xffffffff00000001},
    .n = {0xf3b9cac2fc632551, 0xbce6faada7179e84, 0xffffffffffffffff, 0xffffffff00000000},
    .gx = {0xf4a13945d898c296, 0x77037d812deb33a0, 0xf8bce6e563a440f2, 0x6b17d1f2e12c4247},
    .gy = {0xcbb6406837bf51f5, 0x2bce33576b315ece, 0x8ee7eb4a7c0f9e16, 0x4fe342e2fe1a7f9b},
};

const struct qm_ec_curve qm_ec_p384 = {
    .words = 6,
    .digits = 8,
    /* 2^384 - 2^128 - 2^96 + 2^32 - 1 (SP 800-186, 3.2.1.4) */
    .p = {0x00000000ffffffff, 0xffffffff00000000, 0xfffffffffffffffe, 0xffffffffffffffff, 0xffffffffffffffff,
          0xffffffffffffffff},
    .n = {0xecec196accc52973, 0x581a0db248b0a77a, 0xc7634d81f4372ddf, 0xffffffffffffffff, 0xffffffffffffffff,
          0xffffffffffffffff},
    .gx = {0x3a545e3872760ab7, 0x5502f25dbf55296c, 0x59f741e082542a38, 0x6e1d3b628ba79b98, 0x8eb1c71ef320ad74,
           0xaa87ca22be8b0537},
    .gy = {0x7a431d7c90ea0e5f, 0x0a60b1ce1d7e819d, 0xe9da3113b5f0b8c0, 0xf8f41dbd289a147c, 0x5d9e98bf9292dc29,
           0x3617de4a96262c6f},
};

const struct qm_ec_comb_shape qm_ec_p256_key = {QM_EC_KEY_TEETH, QM_EC_KEY_SUBS, QM_P256_ROWS};
const struct qm_ec_comb_shape qm_ec_p384_key = {QM_EC_KEY_TEETH, QM_EC_KEY_SUBS, QM_P384_ROWS};
const struct qm_ec_comb_shape qm_ec_p256_g_shape = {QM_EC_G_TEETH, 1, QM_P256_G_ROWS};
const struct qm_ec_comb_shape qm_ec_p384_g_shape = {QM_EC_G_TEETH, 1, QM_P384_G_ROWS};

/* ---- limbs --------------------------------------------------------------------------------------------------------- */

static inline ALWAYS uint64_t limbs_add(unsigned k, uint64_t *out, const uint64_t *a, const uint64_t *b)
{
    u128 c = 0;
#pragma GCC unroll 6
    for (unsigned i = 0; i < k; i++) {
        c += (u128)a[i] + b[i];
        out[i] = (uint64_t)c;
        c >>= 64;
    }
    return (uint64_t)c;
}

static inline ALWAYS uint64_t limbs_sub(unsigned k, uint64_t *out, const uint64_t *a, const uint64_t *b)
{
    uint64_t borrow = 0;
#pragma GCC unroll 6
    for (unsigned i = 0; i < k; i++) {
        u128 t = (u128)a[i] - b[i] - borrow;
        out[i] = (uint64_t)t;
        borrow = (uint64_t)(t >> 64) & 1;
    }
    return borrow;
}

/* out = (top:a) - m if that is not negative, else a; for (top:a) below 2m the result is below m. */
static inline ALWAYS void limbs_reduce(unsigned k, uint64_t *out, uint64_t top, const uint64_t *a, const uint64_t *m)
{
    uint64_t t[K];
    uint64_t keep = 0 - (uint64_t)(limbs_sub(k, t, a, m) > top);
#pragma GCC unroll 6
    for (unsigned i = 0; i < k; i++)
        out[i] = (a[i] & keep) | (t[i] & ~keep);
}

void qm_ec_pow2(unsigned words, uint64_t *out, unsigned k, const uint64_t *m)
{
    memset(out, 0, words * sizeof *out);
    if (k >= 64 * words) { /* 2^(64 words) - m is below m */
        limbs_sub(words, out, out, m);
        k -= 64 * words;
    } else {
        out[0] = 1;
    }
    for (; k > 0; k--) {
        uint64_t t[K];
        uint64_t top = limbs_add(words, t, out, out);
        limbs_reduce(words, out, top, t, m);
    }
}

/* -m^-1 mod 2^64 for m odd: each step doubles the number of right bits, m itself has three. */
static uint64_t neg_inverse64(uint64_t m)
{
    uint64_t x = m;
    for (int i = 0; i < 5; i++)
        x *= 2 - m * x;
    return 0 - x;
}

/* ---- inverse ------------------------------------------------------------------------------------------------------- */

/* Bernstein and Yang's divsteps ("Fast constant-time gcd computation and modular inversion", 2019), in variable time, 62
 * steps at a time on the low words, as a 2x2 matrix that is then applied to the long numbers.
 *
 * Long numbers here are signed: limbs of 62 bits, all but the top one in [0, 2^62). */
enum { IL = 7 }; /* 384 bits and room for factors of 2^18 and more */
#define M62 ((int64_t)((1ull << 62) - 1))

struct matrix {
    int64_t u, v, q, r; /* 2^62 f' = u f + v g, 2^62 g' = q f + r g; |u| + |v| and |q| + |r| at most 2^62 */
};

/* One divstep: delta > 0 and g odd: (delta, f, g) <- (1 - delta, g, (g - f) / 2); else (1 + delta, f, (g + (g mod 2) f) / 2).
 * While delta is not positive f stays, so 1 - delta steps can be taken as one: g gets the multiple of f that clears as many
 * low bits. */
static int64_t divsteps62(int64_t delta, uint64_t f, uint64_t g, struct matrix *out)
{
    uint64_t u = 1, v = 0, q = 0, r = 1;
    int left = 62;
    for (;;) {
        int zeros = __builtin_ctzll(g | (1ull << left));
        g >>= zeros;
        u <<= zeros;
        v <<= zeros;
        delta += zeros;
        left -= zeros;
        if (left == 0)
            break;
        if (delta > 0) {
            uint64_t t = f;
            f = g;
            g = 0 - t;
            t = u;
            u = q;
            q = 0 - t;
            t = v;
            v = r;
            r = 0 - t;
            delta = -delta;
        }
        int64_t steps = 1 - delta < left ? 1 - delta : left;
        if (steps > 6)
            steps = 6;
        uint64_t inverse = f * (2 - f * f); /* of f mod 2^6: f is its own inverse mod 8 */
        uint64_t w = (0 - g * inverse) & ((1ull << steps) - 1);
        g += w * f;
        q += w * u;
        r += w * v;
    }
    *out = (struct matrix){(int64_t)u, (int64_t)v, (int64_t)q, (int64_t)r};
    return delta;
}

/* a, b <- (a, b) times the matrix, over 2^62 exactly (the low 62 bits are zero by construction, or made so by adding a
 * multiple of m with |factor| <= 2^61). */
static inline void apply(unsigned len, int64_t *a, int64_t *b, const struct matrix *t, const int64_t *m, uint64_t m_inv)
{
    i128 ca = (i128)t->u * a[0] + (i128)t->v * b[0];
    i128 cb = (i128)t->q * a[0] + (i128)t->r * b[0];
    int64_t fa = 0, fb = 0;
    if (m != NULL) {
        fa = (int64_t)((0 - (uint64_t)ca * m_inv) << 2) >> 2;
        fb = (int64_t)((0 - (uint64_t)cb * m_inv) << 2) >> 2;
        ca += (i128)fa * m[0];
        cb += (i128)fb * m[0];
    }
    ca >>= 62;
    cb >>= 62;
    for (unsigned i = 1; i < len; i++) {
        ca += (i128)t->u * a[i] + (i128)t->v * b[i];
        cb += (i128)t->q * a[i] + (i128)t->r * b[i];
        if (m != NULL) {
            ca += (i128)fa * m[i];
            cb += (i128)fb * m[i];
        }
        a[i - 1] = (int64_t)ca & M62;
        b[i - 1] = (int64_t)cb & M62;
        ca >>= 62;
        cb >>= 62;
    }
    a[len - 1] = (int64_t)ca;
    b[len - 1] = (int64_t)cb;
}

static void to_62(unsigned words, unsigned len, int64_t *out, const uint64_t *a)
{
    for (unsigned i = 0; i < len; i++) {
        unsigned word = i * 62 / 64, shift = i * 62 % 64;
        uint64_t t = word < words ? a[word] >> shift : 0;
        if (shift > 2 && word + 1 < words)
            t |= a[word + 1] << (64 - shift);
        out[i] = (int64_t)t & M62;
    }
}

/* a <- a + f b, for small f */
static void add_62(unsigned len, int64_t *a, int64_t f, const int64_t *b)
{
    int64_t c = 0;
    for (unsigned i = 0; i < len; i++) {
        i128 t = (i128)f * b[i] + a[i] + c;
        a[i] = i + 1 < len ? (int64_t)t & M62 : (int64_t)t;
        c = (int64_t)(t >> 62);
    }
}

bool qm_ec_inverse(unsigned words, uint64_t *out, const uint64_t *x, const uint64_t *m)
{
    unsigned len = words == 4 ? 5 : IL;
    int64_t f[IL], g[IL], d[IL] = {0}, e[IL] = {1}, mod[IL];
    to_62(words, len, f, m);
    to_62(words, len, g, x);
    memcpy(mod, f, sizeof mod);
    uint64_t m_inv = 0 - neg_inverse64(m[0]);
    int64_t delta = 1;
    /* f = d x and g = e x mod m throughout. |d|, |e| grow by at most m / 2 a round, in at most 20 rounds. */
    for (;;) {
        int64_t any = 0;
        for (unsigned i = 0; i < len; i++)
            any |= g[i];
        if (any == 0)
            break;
        struct matrix t;
        delta = divsteps62(delta, (uint64_t)f[0] | (uint64_t)f[1] << 62, (uint64_t)g[0] | (uint64_t)g[1] << 62, &t);
        apply(len, f, g, &t, NULL, 0);
        apply(len, d, e, &t, mod, m_inv);
    }
    bool negative = f[len - 1] < 0; /* f is -1 or 1 if there is an inverse */
    if (negative) {
        int64_t zero[IL] = {0};
        add_62(len, zero, -1, f);
        memcpy(f, zero, sizeof f);
        memset(zero, 0, sizeof zero);
        add_62(len, zero, -1, d);
        memcpy(d, zero, sizeof d);
    }
    f[0] ^= 1;
    for (unsigned i = 0; i < len; i++) {
        if (f[i] != 0)
            return false;
    }
    while (d[len - 1] < 0)
        add_62(len, d, 1, mod);
    int64_t last[IL];
    do {
        memcpy(last, d, sizeof last);
        add_62(len, d, -1, mod);
    } while (d[len - 1] >= 0);
    for (unsigned i = 0; i < words; i++) {
        unsigned limb = i * 64 / 62, shift = i * 64 % 62;
        out[i] = (uint64_t)last[limb] >> shift;
        if (limb + 1 < len)
            out[i] |= (uint64_t)last[limb + 1] << (62 - shift);
        if (shift > 60 && limb + 2 < len)
            out[i] |= (uint64_t)last[limb + 2] << (124 - shift);
    }
    return true;
}

/* ---- the field ----------------------------------------------------------------------------------------------------- */

struct field {
    unsigned k;
    uint64_t n0; /* -p^-1 mod 2^64 */
    uint64_t p[K];
    uint64_t one[K];  /* 2^(64 k) mod p */
    uint64_t r3[K];   /* 2^(3 * 64 k) mod p */
    uint64_t r2[K];   /* 2^(2 * 64 k) mod p */
    uint64_t form[K]; /* 2^(52 digits) mod p: a product with it leaves our form for the table's */
};

typedef struct {
    uint64_t v[K];
} num;

/* a b / 2^(64 k) mod p, by rows of b; a, b and the result below p. */
static inline ALWAYS void mul_k(unsigned k, num *out, const num *a, const num *b,
                                                        const uint64_t *p, uint64_t n0)
{
    uint64_t t[K + 1] = {0};
#pragma GCC unroll 6
    for (unsigned i = 0; i < k; i++) {
        u128 c = (u128)a->v[0] * b->v[i] + t[0];
        uint64_t m = (uint64_t)c * n0;
        u128 d = (u128)m * p[0] + (uint64_t)c;
#pragma GCC unroll 6
        for (unsigned j = 1; j < k; j++) {
            c = (u128)a->v[j] * b->v[i] + t[j] + (uint64_t)(c >> 64);
            d = (u128)m * p[j] + (uint64_t)c + (uint64_t)(d >> 64);
            t[j - 1] = (uint64_t)d;
        }
        u128 s = (u128)t[k] + (uint64_t)(c >> 64) + (uint64_t)(d >> 64);
        t[k - 1] = (uint64_t)s;
        t[k] = (uint64_t)(s >> 64);
    }
    limbs_reduce(k, out->v, t[k], t, p);
}

/* The same for P-256: -1 / p mod 2^64 is 1, and m p + (limb 0 = m) is m 2^96 + m (2^256 - 2^224 + 2^192). Fleets are
 * enrolled with this, and it takes half the time. */
static void mul_p256(const uint64_t *p, num *out, const num *a, const num *b)
{
    uint64_t t0 = 0, t1 = 0, t2 = 0, t3 = 0, t4 = 0;
#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++) {
        uint64_t bi = b->v[i];
        u128 c = (u128)a->v[0] * bi + t0;
        uint64_t m = (uint64_t)c;
        c = (u128)a->v[1] * bi + t1 + (uint64_t)(c >> 64);
        u128 d = (u128)(uint64_t)c + (m << 32);
        t0 = (uint64_t)d;
        c = (u128)a->v[2] * bi + t2 + (uint64_t)(c >> 64);
        d = (u128)(uint64_t)c + (m >> 32) + (uint64_t)(d >> 64);
        t1 = (uint64_t)d;
        c = (u128)a->v[3] * bi + t3 + (uint64_t)(c >> 64);
        d = (u128)m * 0xffffffff00000001 + (uint64_t)c + (uint64_t)(d >> 64);
        t2 = (uint64_t)d;
        u128 s = (u128)t4 + (uint64_t)(c >> 64) + (uint64_t)(d >> 64);
        t3 = (uint64_t)s;
        t4 = (uint64_t)(s >> 64);
    }
    uint64_t t[4] = {t0, t1, t2, t3};
    limbs_reduce(4, out->v, t4, t, p);
}

static void mul(const struct field *f, num *out, const num *a, const num *b)
{
    if (f->k == 4)
        mul_p256(f->p, out, a, b);
    else
        mul_k(6, out, a, b, f->p, f->n0);
}

static void sqr(const struct field *f, num *out, const num *a)
{
    mul(f, out, a, a);
}

static inline ALWAYS void add_k(unsigned k, num *out, const num *a, const num *b, const uint64_t *p)
{
    num t;
    uint64_t top = limbs_add(k, t.v, a->v, b->v);
    limbs_reduce(k, out->v, top, t.v, p);
}

static inline ALWAYS void sub_k(unsigned k, num *out, const num *a, const num *b, const uint64_t *p)
{
    num t;
    uint64_t mask = 0 - limbs_sub(k, t.v, a->v, b->v);
    num m;
#pragma GCC unroll 6
    for (unsigned i = 0; i < k; i++)
        m.v[i] = p[i] & mask;
    limbs_add(k, out->v, t.v, m.v);
}

/* Each width is compiled with its loops unrolled. */
static void add(const struct field *f, num *out, const num *a, const num *b)
{
    if (f->k == 4)
        add_k(4, out, a, b, f->p);
    else
        add_k(6, out, a, b, f->p);
}

static void sub(const struct field *f, num *out, const num *a, const num *b)
{
    if (f->k == 4)
        sub_k(4, out, a, b, f->p);
    else
        sub_k(6, out, a, b, f->p);
}

static void field_init(struct field *f, const struct qm_ec_curve *c)
{
    f->k = c->words;
    f->n0 = neg_inverse64(c->p[0]);
    memcpy(f->p, c->p, sizeof f->p);
    qm_ec_pow2(f->k, f->one, 64 * f->k, c->p);
    qm_ec_pow2(f->k, f->r2, 2 * 64 * f->k, c->p);
    qm_ec_pow2(f->k, f->form, 52 * c->digits, c->p);
    num r2, r3;
    memcpy(r2.v, f->r2, sizeof r2.v);
    mul(f, &r3, &r2, &r2);
    memcpy(f->r3, r3.v, sizeof f->r3);
}

/* ---- points -------------------------------------------------------------------------------------------------------- */

struct jacobian {
    num x, y, z;
};
struct affine {
    num x, y;
};

/* 2P, a = -3: M = 3 (X - Z^2) (X + Z^2), S = 4 X Y^2, X3 = M^2 - 2 S, Y3 = M (S - X3) - 8 Y^4, Z3 = 2 Y Z */
static void point_double(const struct field *f, struct jacobian *out, const struct jacobian *p)
{
    num zz, yy, s, m, t, z;
    sqr(f, &zz, &p->z);
    sqr(f, &yy, &p->y);
    mul(f, &s, &p->x, &yy);
    add(f, &s, &s, &s);
    add(f, &s, &s, &s);
    sub(f, &m, &p->x, &zz);
    add(f, &t, &p->x, &zz);
    mul(f, &m, &m, &t);
    add(f, &t, &m, &m);
    add(f, &m, &m, &t);
    mul(f, &z, &p->y, &p->z);
    add(f, &out->z, &z, &z);
    sqr(f, &t, &m);
    sub(f, &t, &t, &s);
    sub(f, &out->x, &t, &s);
    sub(f, &t, &s, &out->x);
    mul(f, &t, &m, &t);
    sqr(f, &yy, &yy);
    add(f, &yy, &yy, &yy);
    add(f, &yy, &yy, &yy);
    add(f, &yy, &yy, &yy);
    sub(f, &out->y, &t, &yy);
}

/* P + A: H = x Z^2 - X, R = y Z^3 - Y, X3 = R^2 - H^3 - 2 X H^2, Y3 = R (X H^2 - X3) - Y H^3, Z3 = Z H */
static void point_add(const struct field *f, struct jacobian *out, const struct jacobian *p, const struct affine *a)
{
    num zz, h, r, hh, hhh, v, t;
    sqr(f, &zz, &p->z);
    mul(f, &h, &a->x, &zz);
    sub(f, &h, &h, &p->x);
    mul(f, &r, &zz, &p->z);
    mul(f, &r, &r, &a->y);
    sub(f, &r, &r, &p->y);
    sqr(f, &hh, &h);
    mul(f, &hhh, &hh, &h);
    mul(f, &v, &hh, &p->x);
    mul(f, &out->z, &p->z, &h);
    sqr(f, &t, &r);
    sub(f, &t, &t, &hhh);
    sub(f, &t, &t, &v);
    sub(f, &out->x, &t, &v);
    mul(f, &hhh, &hhh, &p->y);
    sub(f, &t, &v, &out->x);
    mul(f, &t, &t, &r);
    sub(f, &out->y, &t, &hhh);
}

static void negate(const struct field *f, struct affine *out, const struct affine *a)
{
    num zero = {{0}};
    out->x = a->x;
    sub(f, &out->y, &zero, &a->y);
}

enum { NORMALIZE_MAX = 64 };

/* count affine points with one inversion. No Z is zero. */
static void normalize(const struct field *f, struct affine *out, const struct jacobian *p, unsigned count)
{
    num before[NORMALIZE_MAX], inv;
    assert(count > 0 && count <= NORMALIZE_MAX);
    before[0] = p[0].z;
    for (unsigned i = 1; i < count; i++)
        mul(f, &before[i], &before[i - 1], &p[i].z);
    bool ok = qm_ec_inverse(f->k, inv.v, before[count - 1].v, f->p);
    assert(ok);
    (void)ok;
    num r3;
    memcpy(r3.v, f->r3, sizeof r3.v);
    mul(f, &inv, &inv, &r3); /* the inverse of z 2^(64k), back to our form */
    for (unsigned i = count; i-- > 0;) {
        num zi = inv, t;
        if (i > 0) {
            mul(f, &zi, &inv, &before[i - 1]);
            mul(f, &inv, &inv, &p[i].z);
        }
        sqr(f, &t, &zi);
        mul(f, &out[i].x, &p[i].x, &t);
        mul(f, &t, &t, &zi);
        mul(f, &out[i].y, &p[i].y, &t);
    }
}

/* ---- combs --------------------------------------------------------------------------------------------------------- */

enum { TEETH_MAX = 16, SUBS_MAX = 3, FIRST_TEETH = 4 };

size_t qm_ec_comb_bytes(const struct qm_ec_curve *curve, const struct qm_ec_comb_shape *shape)
{
    return (size_t)shape->subs * ((size_t)1 << (shape->teeth - 1)) * 2 * curve->words * 8;
}

static void store_num(unsigned k, uint8_t *out, const num *a)
{
    for (unsigned i = 0; i < k; i++) {
        for (unsigned j = 0; j < 8; j++)
            out[8 * i + j] = (uint8_t)(a->v[i] >> (8 * j));
    }
}

static void load_num(unsigned k, num *out, const uint8_t *in)
{
    for (unsigned i = 0; i < k; i++) {
        out->v[i] = 0;
        for (unsigned j = 0; j < 8; j++)
            out->v[i] |= (uint64_t)in[8 * i + j] << (8 * j);
    }
}

static void store_points(const struct field *f, uint8_t *out, const struct affine *a, unsigned count)
{
    num form;
    memcpy(form.v, f->form, sizeof form.v);
    for (unsigned i = 0; i < count; i++) {
        num x, y;
        mul(f, &x, &a[i].x, &form);
        mul(f, &y, &a[i].y, &form);
        store_num(f->k, out + (size_t)i * 16 * f->k, &x);
        store_num(f->k, out + (size_t)i * 16 * f->k + 8 * f->k, &y);
    }
}

/* The points B_j of every sub-table, and their doubles for j < teeth - 1: one run of doublings, one inversion. */
static void comb_bases(const struct field *f, const struct qm_ec_comb_shape *s, const struct affine *p,
                       struct affine base[SUBS_MAX][TEETH_MAX], struct affine twice[SUBS_MAX][TEETH_MAX])
{
    struct jacobian list[NORMALIZE_MAX], now = {.x = p->x, .y = p->y};
    struct affine flat[NORMALIZE_MAX];
    memcpy(now.z.v, f->one, sizeof now.z.v);
    unsigned total = s->teeth * s->subs;
    list[0] = now;
    for (unsigned b = 1; b < total; b++) {
        point_double(f, &now, &now);
        list[2 * b - 1] = now;
        for (unsigned i = 1; i < s->rows; i++)
            point_double(f, &now, &now);
        list[2 * b] = now;
    }
    normalize(f, flat, list, 2 * total - 1);
    for (unsigned b = 0; b < total; b++) {
        base[b % s->subs][b / s->subs] = flat[2 * b];
        if (b + 1 < total)
            twice[b % s->subs][b / s->subs] = flat[2 * b + 1];
    }
}

void qm_ec_comb_make(const struct qm_ec_curve *curve, const struct qm_ec_comb_shape *s, const uint64_t *x,
                     const uint64_t *y, uint8_t *out)
{
    assert(s->teeth >= 2 && s->teeth <= TEETH_MAX && s->subs >= 1 && s->subs <= SUBS_MAX);
    struct field f;
    field_init(&f, curve);
    num r2;
    memcpy(r2.v, f.r2, sizeof r2.v);
    struct affine p = {0}, base[SUBS_MAX][TEETH_MAX], twice[SUBS_MAX][TEETH_MAX];
    memcpy(p.x.v, x, f.k * sizeof *x);
    memcpy(p.y.v, y, f.k * sizeof *y);
    mul(&f, &p.x, &p.x, &r2);
    mul(&f, &p.y, &p.y, &r2);
    comb_bases(&f, s, &p, base, twice);

    /* The entries of the first four teeth of every sub-table with one inversion: entry 0 has all signs but the last negative,
     * and entry c + 2^j is entry c + 2 B_j. */
    size_t point_bytes = 16 * f.k, sub_bytes = point_bytes << (s->teeth - 1);
    unsigned first = s->teeth - 1 < FIRST_TEETH ? s->teeth - 1 : FIRST_TEETH;
    struct jacobian list[SUBS_MAX << FIRST_TEETH];
    struct affine flat[SUBS_MAX << FIRST_TEETH];
    for (unsigned v = 0; v < s->subs; v++) {
        struct jacobian *e = list + (v << first);
        e[0] = (struct jacobian){.x = base[v][s->teeth - 1].x, .y = base[v][s->teeth - 1].y};
        memcpy(e[0].z.v, f.one, sizeof e[0].z.v);
        for (unsigned j = 0; j + 1 < s->teeth; j++) {
            struct affine minus;
            negate(&f, &minus, &base[v][j]);
            point_add(&f, &e[0], &e[0], &minus);
        }
        for (unsigned j = 0; j < first; j++) {
            for (unsigned c = 0; c < 1u << j; c++)
                point_add(&f, &e[c + (1u << j)], &e[c], &twice[v][j]);
        }
    }
    normalize(&f, flat, list, s->subs << first);
    for (unsigned v = 0; v < s->subs; v++)
        store_points(&f, out + v * sub_bytes, flat + (v << first), 1u << first);

    /* The rest, up to 64 entries with one inversion. Entries are read back in the table's form, 2^(52 digits): a product with
     * 2^(2 * 64 k - 52 digits) gives ours again. */
    num back = {{0}};
    back.v[0] = 1;
    if (s->teeth - 1 > first) {
        unsigned k2 = 2 * 64 * f.k - 52 * curve->digits;
        qm_ec_pow2(f.k, back.v, k2, f.p);
    }
    for (unsigned v = 0; v < s->subs; v++) {
        for (unsigned j = first; j + 1 < s->teeth; j++) {
            unsigned step = 1u << j < NORMALIZE_MAX ? 1u << j : NORMALIZE_MAX;
            for (unsigned c = 0; c < 1u << j; c += step) {
                struct jacobian sum[NORMALIZE_MAX];
                struct affine aff[NORMALIZE_MAX];
                for (unsigned i = 0; i < step; i++) {
                    const uint8_t *in = out + v * sub_bytes + (c + i) * point_bytes;
                    load_num(f.k, &sum[i].x, in);
                    load_num(f.k, &sum[i].y, in + 8 * f.k);
                    mul(&f, &sum[i].x, &sum[i].x, &back);
                    mul(&f, &sum[i].y, &sum[i].y, &back);
                    memcpy(sum[i].z.v, f.one, sizeof sum[i].z.v);
                    point_add(&f, &sum[i], &sum[i], &twice[v][j]);
                }
                normalize(&f, aff, sum, step);
                store_points(&f, out + v * sub_bytes + (c + (1u << j)) * point_bytes, aff, step);
            }
        }
    }
}
