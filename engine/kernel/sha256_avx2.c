/* SHA-256 in 8 lanes of AVX2 ("avx2"), for CPUs with neither SHA extensions nor AVX-512.
 *
 * Formula:      FIPS 180-4, 6.2.2, one word of 8 hashes to a register. A rotation is two shifts and
 *               an exclusive or; maj(a, b, c) = b ^ ((a ^ b) & (b ^ c)), where a ^ b serves the
 *               next round as its b ^ c.
 * Lanes:        8 chains or messages, each its own, as in sha256_avx512.c: refilled at once, the
 *               longest first, the state transposed from extend to extend. What is left for few
 *               lanes goes to OpenSSL.
 * Precondition: none; digests and messages lie at any alignment, chains have any length.
 * Memory:       at most 7 KiB of stack, for the feed, the lanes and spilled registers.
 * Constant time: no; all inputs are public. */
#define LANES 8
#include "engine/kernel/sha256_lanes.h"

#include <immintrin.h>

typedef __m256i word; /* one 32-bit word of each lane */

/* ---- FIPS 180-4, 4.1.2 ------------------------------------------------------------------- */

INLINE word add(word a, word b)
{
    return _mm256_add_epi32(a, b);
}

INLINE word all(uint32_t x)
{
    return _mm256_set1_epi32((int)x);
}

INLINE word xor3(word a, word b, word c)
{
    return _mm256_xor_si256(_mm256_xor_si256(a, b), c);
}

/* The exclusive or of both halves of a rotation by n, 0 < n < 32. */
INLINE word rotate(word x, int n)
{
    return _mm256_xor_si256(_mm256_srli_epi32(x, n), _mm256_slli_epi32(x, 32 - n));
}

INLINE word big_sigma0(word x)
{
    return xor3(rotate(x, 2), rotate(x, 13), rotate(x, 22));
}

INLINE word big_sigma1(word x)
{
    return xor3(rotate(x, 6), rotate(x, 11), rotate(x, 25));
}

INLINE word small_sigma0(word x)
{
    return xor3(rotate(x, 7), rotate(x, 18), _mm256_srli_epi32(x, 3));
}

INLINE word small_sigma1(word x)
{
    return xor3(rotate(x, 17), rotate(x, 19), _mm256_srli_epi32(x, 10));
}

/* ---- compression ------------------------------------------------------------------------- */

/* Round r; kw = K[r] + W[r]. The names of a .. h move instead of their values: the i-th letter is
 * s[(i - r) & 7]. *bc: b ^ c, and then that of the next round. */
INLINE void round_8(word s[8], word *bc, unsigned r, word kw)
{
    word a = s[(0 - r) & 7], b = s[(1 - r) & 7];
    word e = s[(4 - r) & 7], f = s[(5 - r) & 7], g = s[(6 - r) & 7];
    word *d = &s[(3 - r) & 7], *h = &s[(7 - r) & 7];
    word ch = _mm256_xor_si256(_mm256_and_si256(_mm256_xor_si256(f, g), e), g);
    word ab = _mm256_xor_si256(a, b);
    word maj = _mm256_xor_si256(_mm256_and_si256(ab, *bc), b);
    word t1 = add(add(add(*h, kw), ch), big_sigma1(e));
    *bc = ab;
    *d = add(*d, t1);
    *h = add(add(t1, maj), big_sigma0(a));
}

/* All rounds of one block of words w, which is used up. s: the state before; after: without the
 * addition of the state before. */
INLINE void rounds(word s[8], word w[16])
{
    word bc = _mm256_xor_si256(s[1], s[2]);
    for (unsigned t = 0; t < 48; t += 16) {
#pragma GCC unroll 16
        for (unsigned r = 0; r < 16; r++) {
            round_8(s, &bc, r, add(w[r], all(qm_sha256_k[t + r])));
            w[r] = add(add(w[r], small_sigma0(w[(r + 1) & 15])),
                       add(w[(r + 9) & 15], small_sigma1(w[(r + 14) & 15])));
        }
    }
#pragma GCC unroll 16
    for (unsigned r = 0; r < 16; r++)
        round_8(s, &bc, r, add(w[r], all(qm_sha256_k[48 + r])));
}

/* The same for the padding block of an extend. */
INLINE void rounds_pad(word s[8])
{
    word bc = _mm256_xor_si256(s[1], s[2]);
    for (unsigned t = 0; t < 64; t += 16) {
#pragma GCC unroll 16
        for (unsigned r = 0; r < 16; r++)
            round_8(s, &bc, r, all(qm_sha256_k_pad64[t + r]));
    }
}

/* ---- in and out of the lanes ------------------------------------------------------------- */

/* The four words from byte off on of 8 byte strings: w[j] has word j of all. */
INLINE void transpose_4(word w[4], const uint8_t *const p[LANES], size_t off)
{
    const word swap =
        _mm256_broadcastsi128_si256(_mm_set_epi32(0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203));
    word x[4]; /* x[i]: words of lane i, words of lane i + 4 */
#pragma GCC unroll 16
    for (unsigned i = 0; i < 4; i++) {
        word low = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(p[i] + off)));
        word both =
            _mm256_inserti128_si256(low, _mm_loadu_si128((const __m128i *)(p[i + 4] + off)), 1);
        x[i] = _mm256_shuffle_epi8(both, swap);
    }
    word a = _mm256_unpacklo_epi32(x[0], x[1]), b = _mm256_unpackhi_epi32(x[0], x[1]);
    word c = _mm256_unpacklo_epi32(x[2], x[3]), d = _mm256_unpackhi_epi32(x[2], x[3]);
    w[0] = _mm256_unpacklo_epi64(a, c);
    w[1] = _mm256_unpackhi_epi64(a, c);
    w[2] = _mm256_unpacklo_epi64(b, d);
    w[3] = _mm256_unpackhi_epi64(b, d);
}

INLINE word load(const uint32_t row[LANES])
{
    return _mm256_load_si256((const __m256i *)row);
}

INLINE void store(uint32_t row[LANES], word x)
{
    _mm256_store_si256((__m256i *)row, x);
}

static void extend_lanes(state value, const uint8_t *const digest[LANES])
{
    word w[16], s[8], middle[8];
    transpose_4(w + 8, digest, 0);
    transpose_4(w + 12, digest, 16);
#pragma GCC unroll 16
    for (unsigned j = 0; j < 8; j++) {
        w[j] = load(value[j]);
        s[j] = all(qm_sha256_start[j]);
    }
    rounds(s, w);
#pragma GCC unroll 16
    for (unsigned j = 0; j < 8; j++)
        s[j] = middle[j] = add(s[j], all(qm_sha256_start[j]));
    rounds_pad(s);
#pragma GCC unroll 16
    for (unsigned j = 0; j < 8; j++)
        store(value[j], add(s[j], middle[j]));
}

static void block_lanes(state value, const uint8_t *const block[LANES])
{
    word w[16], s[8];
#pragma GCC unroll 16
    for (unsigned i = 0; i < 4; i++)
        transpose_4(w + 4 * i, block, 16 * i);
#pragma GCC unroll 16
    for (unsigned j = 0; j < 8; j++)
        s[j] = load(value[j]);
    rounds(s, w);
#pragma GCC unroll 16
    for (unsigned j = 0; j < 8; j++)
        store(value[j], add(s[j], load(value[j])));
}

static const struct rest rest_openssl = {&qm_hash_openssl, 2, 3};

static void extend(struct qm_chain *chains, size_t count, struct qm_lane_use *use)
{
    extend_with(chains, count, use, &rest_openssl);
}

static void digest(const struct qm_message *messages, size_t count)
{
    digest_with(messages, count, &rest_openssl);
}

const struct qm_hash_kernel qm_hash_avx2 = {
    .name = "avx2",
    .cpu = QM_CPU_AVX2,
    .lanes = LANES,
    .extend = extend,
    .digest = digest,
};
