/* Tables of multiples of a point for ECDSA on P-256 and P-384: portable scalar arithmetic, used when a key is enrolled and,
 * for the generators, when the project is built (ec_comb_gen.c); and the modular inverse that the vector kernels need once a batch.
 *
 * The comb. A multiplier k, odd and below 2^L, is written with digits +1 and -1 only:
 *
 *     k = sum of s_i 2^i for i < L,   where s_i = +1 if bit i of (k >> 1) + 2^(L-1) is set, else -1.
 *
 * The L = teeth * subs * rows bits are read in columns. With spacing = subs * rows, row i of sub-table v takes the `teeth`
 * digits at i + v rows + j spacing, j = 0 .. teeth-1, and stands for the point
 *
 *     2^i * [ s_0 B_0 + s_1 B_1 + .. ],   B_j = 2^(v rows + j spacing) P.
 *
 * Sub-table v holds the bracket for s_(teeth-1) = +1 and every choice of the others, 2^(teeth-1) points: entry c has s_j = +1
 * where bit j of c is set. The other half are their negatives. Then k P = sum over i of 2^i (sum over v of an entry): rows - 1
 * doublings, and no entry is ever the point at infinity or needs an even multiple.
 *
 * Bytes of a table: sub-table 0, entry 0: x, then y, both times 2^(52 digits) mod p (Montgomery form of the radix 2^52
 * kernels: digits = 5 for P-256, 8 for P-384), below p, 64-bit limbs least significant first, little-endian; then entry 1 ..,
 * then sub-table 1. Nothing in it depends on the CPU that wrote it.
 *
 * All data is public: nothing here is constant time. */
#ifndef QM_EC_COMB_H
#define QM_EC_COMB_H

#include "engine/kernel/kernel.h"

enum { QM_EC_WORDS_MAX = 6 };

/* A curve y^2 = x^3 - 3x + b over the integers mod p; its points form a group of prime order n. Plain numbers, least
 * significant limb first. */
struct qm_ec_curve {
    unsigned words;  /* 64-bit limbs of p and n: 4 or 6 */
    unsigned digits; /* radix 2^52 digits of the vector kernels: 5 or 8 */
    uint64_t p[QM_EC_WORDS_MAX];
    uint64_t n[QM_EC_WORDS_MAX];
    uint64_t gx[QM_EC_WORDS_MAX];
    uint64_t gy[QM_EC_WORDS_MAX];
};
extern const struct qm_ec_curve qm_ec_p256;
extern const struct qm_ec_curve qm_ec_p384;

struct qm_ec_comb_shape {
    unsigned teeth; /* 2 .. 16 */
    unsigned subs;  /* 1 .. 3 */
    unsigned rows;
};

/* The combs that keys carry: 24 points, 1.5 KiB (P-256) and 2.25 KiB (P-384). L is at least one bit more than the order has. */
enum {
    QM_EC_KEY_TEETH = 4,
    QM_EC_KEY_SUBS = 3,
    QM_P256_ROWS = 22, /* L = 264 */
    QM_P384_ROWS = 33, /* L = 396 */
};
extern const struct qm_ec_comb_shape qm_ec_p256_key;
extern const struct qm_ec_comb_shape qm_ec_p384_key;
enum {
    QM_P256_COMB_BYTES = QM_EC_KEY_SUBS * (1 << (QM_EC_KEY_TEETH - 1)) * 2 * 32,
    QM_P384_COMB_BYTES = QM_EC_KEY_SUBS * (1 << (QM_EC_KEY_TEETH - 1)) * 2 * 48,
};
/* The combs of the generators, 256 KiB and 384 KiB, in builds for x86-64: the vector kernels are all that reads them. */
enum {
    QM_EC_G_TEETH = 13, /* and one sub-table */
    QM_P256_G_ROWS = 20,
    QM_P384_G_ROWS = 30,
};
extern const struct qm_ec_comb_shape qm_ec_p256_g_shape;
extern const struct qm_ec_comb_shape qm_ec_p384_g_shape;
extern const uint64_t qm_ec_p256_g[((size_t)1 << (QM_EC_G_TEETH - 1)) * 2 * 4];
extern const uint64_t qm_ec_p384_g[((size_t)1 << (QM_EC_G_TEETH - 1)) * 2 * 6];

size_t qm_ec_comb_bytes(const struct qm_ec_curve *curve, const struct qm_ec_comb_shape *shape);

/* Writes the comb of the point (x, y), which must lie on the curve, coordinates below p. out has qm_ec_comb_bytes. */
void qm_ec_comb_make(const struct qm_ec_curve *curve, const struct qm_ec_comb_shape *shape, const uint64_t *x,
                     const uint64_t *y, uint8_t *out);

/* out = x^-1 mod m, for m odd, x below m, `words` limbs each; out may be x. False (and out untouched) if there is none. */
bool qm_ec_inverse(unsigned words, uint64_t *out, const uint64_t *x, const uint64_t *m);

/* out = 2^k mod m, for m odd with its top bit set. */
void qm_ec_pow2(unsigned words, uint64_t *out, unsigned k, const uint64_t *m);

#endif
