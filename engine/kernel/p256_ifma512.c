/* ECDSA on P-256, eight signatures side by side, AVX-512 IFMA. The method, its ranges and its exceptions are told at the top
 * of ec_ifma512.h; here are the numbers of the curve and the reduction that its prime allows. Not constant time. */
#define EC_DIGITS         5
#define EC_WORDS          4
#define EC_CURVE          qm_ec_p256
#define EC_CLASS          QM_SIG_P256
#define EC_ROWS           QM_P256_ROWS
#define EC_TABLE_G        qm_ec_p256_g
#define EC_ROWS_G         QM_P256_G_ROWS
#define EC_GROUPS         8
#define EC_KEY_COMB_BYTES QM_P256_COMB_BYTES
/* p = 2^256 - 2^224 + 2^192 + 2^96 - 1 */
#define P_DIGITS {0xfffffffffffff, 0x00fffffffffff, 0x0000000000000, 0x0001000000000, 0x0ffffffff0000}
#define N_DIGITS {0x9cac2fc632551, 0xada7179e84f3b, 0xfffffffbce6fa, 0x0000fffffffff, 0x0ffffffff0000}

#include "engine/kernel/ec_ifma512.h"

/* -1 / p mod 2^52 is 1, so the multiple m of p that clears digit i is the digit itself; and m p + (digit i = m) is m (p + 1),
 * p + 1 = 2^96 + 2^192 + (2^256 - 2^224) = 2^44 at digit 1, 2^36 at digit 3, 2^48 - 2^16 at digit 4. */
INLINE void reduce_p(struct cols *c)
{
    v8 c1 = set1(1ull << 44), c3 = set1(1ull << 36), c4 = set1((1ull << 48) - (1ull << 16));
    UNROLL for (int i = 0; i < D; i++) {
        v8 m = c->t[i];
        c->t[i + 1] = add8(c->t[i + 1], carry_of(m));
        c->t[i + 1] = mul_lo(c->t[i + 1], m, c1);
        c->t[i + 2] = mul_hi(c->t[i + 2], m, c1);
        c->t[i + 3] = mul_lo(c->t[i + 3], m, c3);
        c->t[i + 4] = mul_hi(c->t[i + 4], m, c3);
        c->t[i + 4] = mul_lo(c->t[i + 4], m, c4);
        c->t[i + 5] = mul_hi(c->t[i + 5], m, c4);
    }
}

/* q = the value over 2^256, rounded down, from the top digit less 2^20, which is more than the carries from below and, for q
 * down to -8, q 2^224 can still take away. Then - q p = q - q 2^96 - q 2^192 - q (2^256 - 2^224). The value before: (-8, 30). */
INLINE void fold_p(struct cols *c, int k)
{
    (void)k;
    v8 *t = c->t + D;
    v8 q = _mm512_srai_epi64(sub8(t[4], set1(1 << 20)), 48);
    t[0] = add8(t[0], q);
    t[1] = sub8(t[1], _mm512_slli_epi64(q, 44));
    t[3] = sub8(t[3], _mm512_slli_epi64(q, 36));
    t[4] = sub8(t[4], sub8(_mm512_slli_epi64(q, 48), _mm512_slli_epi64(q, 16)));
}

const struct qm_sig_kernel qm_sig_p256_ifma512 = {
    .name = "avx512ifma",
    .cpu = QM_CPU_AVX512 | QM_CPU_IFMA512,
    .classes = 1u << EC_CLASS,
    .lanes = LANES,
    .scratch_size = kernel_scratch_size,
    .init = kernel_init,
    .close = kernel_close,
    .verify = kernel_verify,
};
