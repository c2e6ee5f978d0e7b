/* ECDSA on P-384, eight signatures side by side, AVX-512 IFMA. The method, its ranges and its exceptions are told at the top
 * of ec_ifma512.h; here are the numbers of the curve and the reduction that its prime allows. Not constant time. */
#define EC_DIGITS         8
#define EC_WORDS          6
#define EC_CURVE          qm_ec_p384
#define EC_CLASS          QM_SIG_P384
#define EC_ROWS           QM_P384_ROWS
#define EC_TABLE_G        qm_ec_p384_g
#define EC_ROWS_G         QM_P384_G_ROWS
#define EC_GROUPS         8
#define EC_KEY_COMB_BYTES QM_P384_COMB_BYTES
/* p = 2^384 - 2^128 - 2^96 + 2^32 - 1 */
#define P_DIGITS                                                                                                               \
    {0x00000ffffffff, 0xff00000000000, 0xffffffeffffff, 0xfffffffffffff,                                                        \
     0xfffffffffffff, 0xfffffffffffff, 0xfffffffffffff, 0x00000000fffff}
#define N_DIGITS                                                                                                               \
    {0xc196accc52973, 0xb248b0a77aece, 0x4372ddf581a0d, 0xffffc7634d81f,                                                        \
     0xfffffffffffff, 0xfffffffffffff, 0xfffffffffffff, 0x00000000fffff}

#include "engine/kernel/ec_ifma512.h"

/* -1 / p mod 2^52 is 2^32 + 1, so digit i is cleared by m p, m = digit (2^32 + 1) mod 2^52, with
 * p = 2^384 + 2^32 - 1 - (2^96 + 2^128): 2^20 at digit 7, 2^32 - 1 at digit 0, less 2^44 at digit 1 and 2^24 at digit 2. What
 * is subtracted is summed in columns of its own. */
INLINE void reduce_p(struct cols *c)
{
    v8 zero = _mm512_setzero_si512();
    v8 c0 = set1(1ull << 32), c1 = set1(1ull << 44), c2 = set1(1ull << 24), c7 = set1(1ull << 20), inv = set1((1ull << 32) + 1);
    v8 minus[2 * D];
    UNROLL for (int i = 0; i < 2 * D; i++)
        minus[i] = zero;
    UNROLL for (int i = 0; i < D; i++) {
        v8 t = i == 0 ? c->t[i] : sub8(c->t[i], minus[i]);
        v8 m = mul_lo(zero, t, inv);
        t = mul_lo(sub8(t, m), m, c0); /* a multiple of 2^52 */
        c->t[i + 1] = mul_hi(add8(c->t[i + 1], carry_of(t)), m, c0);
        minus[i + 1] = mul_lo(minus[i + 1], m, c1);
        minus[i + 2] = mul_hi(minus[i + 2], m, c1);
        minus[i + 2] = mul_lo(minus[i + 2], m, c2);
        minus[i + 3] = mul_hi(minus[i + 3], m, c2);
        c->t[i + 7] = mul_lo(c->t[i + 7], m, c7);
        c->t[i + 8] = mul_hi(c->t[i + 8], m, c7);
    }
    UNROLL for (int i = D; i < D + 3; i++)
        c->t[i] = sub8(c->t[i], minus[i]);
}

/* A number below R = 2^416 may be 2^32 times p: no width to save. */
INLINE void fold_p(struct cols *c, int k)
{
    high_add_p(c, k);
}

const struct qm_sig_kernel qm_sig_p384_ifma512 = {
    .name = "avx512ifma",
    .cpu = QM_CPU_AVX512 | QM_CPU_IFMA512,
    .classes = 1u << EC_CLASS,
    .lanes = LANES,
    .scratch_size = kernel_scratch_size,
    .init = kernel_init,
    .close = kernel_close,
    .verify = kernel_verify,
};
