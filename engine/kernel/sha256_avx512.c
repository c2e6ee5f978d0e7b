/* SHA-256 in 16 lanes of AVX-512 ("avx512", and "avx512sha" where the CPU has SHA extensions too).
 *
 * Formula:      FIPS 180-4, 6.2.2, one word of 16 hashes to a register. Rotations are vprord; ch,
 *               maj and the three-way exclusive ors are one vpternlogd each. A round is 17 uops
 *               with its key constant, 16 if K + W is known; a step of the schedule is 11.
 * Lanes:        16 chains or messages, each its own. A lane that ends takes the next chain at once,
 *               the longest first. The state stays transposed (word j of all lanes in a row) from
 *               extend to extend, and is the first half of the next block as it stands: only
 *               digests are transposed in.
 * Rest:         when few lanes are left busy, the chains that remain go to the kernel that is
 *               faster for few: SHA extensions if there are any, else OpenSSL.
 * Precondition: none; digests and messages lie at any alignment, chains have any length.
 * Memory:       at most 9 KiB of stack: the feed, the lanes, spilled registers, the rest kernel.
 * Constant time: no; all inputs are public.
 *
 * Bound: 2,640 uops for 16 extends (64 x 17 + 48 x 11 + 64 x 16) and about 70 to transpose, which
 * is 85 cycles an extend with two 512-bit ports. A prototype reached 93 on Sapphire Rapids.
 *
 * Zen 4 has that width, too, but its rotations take two cycles and go to half of its pipes, so the
 * path from round to round is as long as the work of a round: one set of 16 lanes takes 11.4 cycles
 * for a padding round of 8, and an extend 110 (gcc 12) or 107 (clang 14). Two sets in turn would
 * take 9.1, but want 48 registers and twice the chains. Sets of 8 lanes in turn were not faster
 * (104), nor were SHA extensions between the rounds (105 at best, 28 to 32 extends in flight): both
 * share the pipes. There the SHA extensions alone are faster (choice.c). */
#define LANES 16
#include "engine/kernel/sha256_lanes.h"

#include <immintrin.h>

typedef __m512i word; /* one 32-bit word of each lane */

/* ---- FIPS 180-4, 4.1.2 ------------------------------------------------------------------- */

enum { CH = 0xca, MAJ = 0xe8, XOR = 0x96 }; /* truth tables for vpternlogd */

INLINE word add(word a, word b)
{
    return _mm512_add_epi32(a, b);
}

INLINE word all(uint32_t x)
{
    return _mm512_set1_epi32((int)x);
}

INLINE word big_sigma0(word x)
{
    return _mm512_ternarylogic_epi32(_mm512_ror_epi32(x, 2), _mm512_ror_epi32(x, 13),
                                     _mm512_ror_epi32(x, 22), XOR);
}

INLINE word big_sigma1(word x)
{
    return _mm512_ternarylogic_epi32(_mm512_ror_epi32(x, 6), _mm512_ror_epi32(x, 11),
                                     _mm512_ror_epi32(x, 25), XOR);
}

INLINE word small_sigma0(word x)
{
    return _mm512_ternarylogic_epi32(_mm512_ror_epi32(x, 7), _mm512_ror_epi32(x, 18),
                                     _mm512_srli_epi32(x, 3), XOR);
}

INLINE word small_sigma1(word x)
{
    return _mm512_ternarylogic_epi32(_mm512_ror_epi32(x, 17), _mm512_ror_epi32(x, 19),
                                     _mm512_srli_epi32(x, 10), XOR);
}

/* ---- compression ------------------------------------------------------------------------- */

/* Round r; kw = K[r] + W[r]. Instead of moving a .. h down one place, the names move: at round r
 * the i-th letter is s[(i - r) & 7], so that after a multiple of eight rounds a is s[0] again. */
INLINE void round_16(word s[8], unsigned r, word kw)
{
    word a = s[(0 - r) & 7], b = s[(1 - r) & 7], c = s[(2 - r) & 7];
    word e = s[(4 - r) & 7], f = s[(5 - r) & 7], g = s[(6 - r) & 7];
    word *d = &s[(3 - r) & 7], *h = &s[(7 - r) & 7];
    word t1 = add(add(add(*h, kw), _mm512_ternarylogic_epi32(e, f, g, CH)), big_sigma1(e));
    *d = add(*d, t1);
    *h = add(add(t1, _mm512_ternarylogic_epi32(a, b, c, MAJ)), big_sigma0(a));
}

/* All rounds of one block of words w, which is used up. s: the state before; after: without the
 * addition of the state before. */
INLINE void rounds(word s[8], word w[16])
{
    for (unsigned t = 0; t < 48; t += 16) {
#pragma GCC unroll 16
        for (unsigned r = 0; r < 16; r++) {
            round_16(s, r, add(w[r], all(qm_sha256_k[t + r])));
            w[r] = add(add(w[r], small_sigma0(w[(r + 1) & 15])),
                       add(w[(r + 9) & 15], small_sigma1(w[(r + 14) & 15])));
        }
    }
#pragma GCC unroll 16
    for (unsigned r = 0; r < 16; r++)
        round_16(s, r, add(w[r], all(qm_sha256_k[48 + r])));
}

/* The same for the padding block of an extend. */
INLINE void rounds_pad(word s[8])
{
    for (unsigned t = 0; t < 64; t += 16) {
#pragma GCC unroll 16
        for (unsigned r = 0; r < 16; r++)
            round_16(s, r, all(qm_sha256_k_pad64[t + r]));
    }
}

/* ---- in and out of the lanes ------------------------------------------------------------- */

/* The eight words from byte off on of 16 byte strings: w[j] has word j of all. */
INLINE void transpose_8(word w[8], const uint8_t *const p[LANES], size_t off)
{
    const word swap = _mm512_set4_epi32(0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203);
    word x[8];
    /* x[4h + i], in quarters: words 0-3, 4-7 of lane 8h + i, words 0-3, 4-7 of lane 8h + i + 4 */
#pragma GCC unroll 16
    for (unsigned i = 0; i < 8; i++) {
        unsigned lane = (i & 3) + 8 * (i >> 2);
        word low = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(p[lane] + off)));
        x[i] = _mm512_inserti64x4(low, _mm256_loadu_si256((const __m256i *)(p[lane + 4] + off)), 1);
    }
    /* 4 x 4 words in each quarter: x[4h + j] has word j, 4 + j, j, 4 + j of four lanes each */
#pragma GCC unroll 16
    for (unsigned h = 0; h < 8; h += 4) {
        word a = _mm512_unpacklo_epi32(x[h], x[h + 1]);
        word b = _mm512_unpackhi_epi32(x[h], x[h + 1]);
        word c = _mm512_unpacklo_epi32(x[h + 2], x[h + 3]);
        word d = _mm512_unpackhi_epi32(x[h + 2], x[h + 3]);
        x[h] = _mm512_unpacklo_epi64(a, c);
        x[h + 1] = _mm512_unpackhi_epi64(a, c);
        x[h + 2] = _mm512_unpacklo_epi64(b, d);
        x[h + 3] = _mm512_unpackhi_epi64(b, d);
    }
#pragma GCC unroll 16
    for (unsigned j = 0; j < 4; j++) {
        w[j] = _mm512_shuffle_epi8(_mm512_shuffle_i32x4(x[j], x[4 + j], 0x88), swap);
        w[4 + j] = _mm512_shuffle_epi8(_mm512_shuffle_i32x4(x[j], x[4 + j], 0xdd), swap);
    }
}

static void extend_lanes(state value, const uint8_t *const digest[LANES])
{
    word w[16], s[8], middle[8];
    transpose_8(w + 8, digest, 0);
#pragma GCC unroll 16
    for (unsigned j = 0; j < 8; j++) {
        w[j] = _mm512_load_si512(value[j]);
        s[j] = all(qm_sha256_start[j]);
    }
    rounds(s, w);
#pragma GCC unroll 16
    for (unsigned j = 0; j < 8; j++)
        s[j] = middle[j] = add(s[j], all(qm_sha256_start[j]));
    rounds_pad(s);
#pragma GCC unroll 16
    for (unsigned j = 0; j < 8; j++)
        _mm512_store_si512(value[j], add(s[j], middle[j]));
}

static void block_lanes(state value, const uint8_t *const block[LANES])
{
    word w[16], s[8];
    transpose_8(w, block, 0);
    transpose_8(w + 8, block, 32);
#pragma GCC unroll 16
    for (unsigned j = 0; j < 8; j++)
        s[j] = _mm512_load_si512(value[j]);
    rounds(s, w);
#pragma GCC unroll 16
    for (unsigned j = 0; j < 8; j++)
        _mm512_store_si512(value[j], add(s[j], _mm512_load_si512(value[j])));
}

/* ---- with SHA extensions, and without ---------------------------------------------------- */

/* Sapphire Rapids: 16 lanes take 1,482 cycles, SHA extensions 203 an extend. */
static const struct rest rest_shani = {&qm_hash_shani, 7, 8};

static void extend_shani(struct qm_chain *chains, size_t count, struct qm_lane_use *use)
{
    extend_with(chains, count, use, &rest_shani);
}

static void digest_shani(const struct qm_message *messages, size_t count)
{
    digest_with(messages, count, &rest_shani);
}

const struct qm_hash_kernel qm_hash_avx512sha = {
    .name = "avx512sha",
    .cpu = QM_CPU_AVX512 | QM_CPU_SHA,
    .lanes = LANES,
    .extend = extend_shani,
    .digest = digest_shani,
};

static const struct rest rest_openssl = {&qm_hash_openssl, 2, 3};

static void extend_openssl(struct qm_chain *chains, size_t count, struct qm_lane_use *use)
{
    extend_with(chains, count, use, &rest_openssl);
}

static void digest_openssl(const struct qm_message *messages, size_t count)
{
    digest_with(messages, count, &rest_openssl);
}

const struct qm_hash_kernel qm_hash_avx512 = {
    .name = "avx512",
    .cpu = QM_CPU_AVX512,
    .lanes = LANES,
    .extend = extend_openssl,
    .digest = digest_openssl,
};
