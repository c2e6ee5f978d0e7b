/* RSA verification of eight signatures side by side with AVX-512 IFMA: what stands around the arithmetic, which a kernel's own file has:
 * keys and signatures to digits, the power, the padding, the order of a batch. Everything in it is that file's alone (static).
 *
 * A number is digits of radix 2^RADIX, least significant first; digit i of all eight lanes is one vector. Montgomery form is by
 * R = 2^(RADIX len), len being a size's digits.
 *
 * Public inputs: nothing here is constant time.
 *
 * The kernel's file defines before the inclusion: v8, RADIX, DIGITS_MAX and struct work, what its products need on their way; and after
 * it square(), multiply() and reduce(), RSA_ROUTINES for each size, the table sizes[], and RSA_KERNEL. */
#include "engine/kernel/kernel.h"

/* Everything below is inlined so that lengths and rows are constants. Under a sanitizer the checks of code so large would take the
 * compiler minutes; there the routines stay functions. */
#if defined(__SANITIZE_ADDRESS__)
#define INLINE static __attribute__((noinline, unused))
#else
#define INLINE static inline __attribute__((always_inline, unused))
#endif

enum { LANES = 8, BYTES_MAX = 512 };
#define DIGIT_MASK ((1ull << RADIX) - 1)

/* What a batch works on: eight keys and signatures. */
struct batch {
    v8 n[DIGITS_MAX];    /* the modulus */
    v8 s[DIGITS_MAX];    /* the signature, below n */
    v8 base[DIGITS_MAX]; /* s R mod n; how far beyond n it may be, the kernel says */
    v8 x[DIGITS_MAX];    /* the power */
    v8 next[DIGITS_MAX];
    v8 n0inv; /* -n^-1 mod 2^64 */
    struct work work;
};

/* A length of modulus, compiled for its own number of digits. Factors are as large as the kernel lets base grow, results smaller. */
struct size {
    unsigned bits;
    unsigned len;
    int shift; /* 2^shift R_key^2 = R^2, where R_key^2 is what the key has */
    /* Sets base from s and from x = R_key^2 mod n, both of one digit less than len at most; and what work keeps for a modulus. */
    void (*to_montgomery)(struct batch *b, const struct size *z);
    void (*square)(struct batch *b, v8 *out, const v8 *a); /* out = a^2 / R mod n; out may be a */
    /* out = a y / R mod n; out may be an operand. Below 2 n where y is below n. */
    void (*multiply)(struct batch *b, v8 *out, const v8 *a, const v8 *y);
};
static const struct size *size_of(enum qm_sig_class sig_class);

INLINE v8 add(v8 a, v8 b)
{
    return _mm512_add_epi64(a, b);
}
INLINE v8 sub(v8 a, v8 b)
{
    return _mm512_sub_epi64(a, b);
}
INLINE v8 madlo(v8 acc, v8 a, v8 b)
{
    return _mm512_madd52lo_epu64(acc, a, b);
}
INLINE v8 madhi(v8 acc, v8 a, v8 b)
{
    return _mm512_madd52hi_epu64(acc, a, b);
}
INLINE v8 digit_of(v8 column)
{
    return _mm512_and_si512(column, _mm512_set1_epi64((long long)DIGIT_MASK));
}
INLINE v8 carry_of(v8 column)
{
    return _mm512_srai_epi64(column, RADIX);
}
INLINE v8 zero(void)
{
    return _mm512_setzero_si512();
}

/* ---- bytes and digits ---- */

INLINE void transpose(v8 r[LANES])
{
    v8 t[LANES], u[LANES];
    for (unsigned i = 0; i < LANES; i += 2) {
        t[i] = _mm512_unpacklo_epi64(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi64(r[i], r[i + 1]);
    }
    for (unsigned i = 0; i < LANES; i += 4)
        for (unsigned j = 0; j < 2; j++) {
            u[i + j] = _mm512_shuffle_i64x2(t[i + j], t[i + 2 + j], 0x88);
            u[i + 2 + j] = _mm512_shuffle_i64x2(t[i + j], t[i + 2 + j], 0xdd);
        }
    for (unsigned i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i64x2(u[i], u[4 + i], 0x88);
        r[4 + i] = _mm512_shuffle_i64x2(u[i], u[4 + i], 0xdd);
    }
}

/* len digits of a number of bytes bytes in each lane, from memory of either order. Eight digits are
 * RADIX bytes: each takes the eight bytes that its first bit lies in, shifted down. */
static void unpack(v8 *digits, unsigned len, const uint8_t *const p[LANES], size_t bytes,
                   bool big_endian)
{
    uint64_t first_bit[8];
    uint8_t little[64];
    for (unsigned i = 0; i < 8; i++)
        first_bit[i] = RADIX * i % 8;
    for (unsigned i = 0; i < 64; i++)
        little[i] = (uint8_t)(RADIX * (i / 8) / 8 + i % 8);
    const v8 shift = _mm512_loadu_si512(first_bit);
    const v8 from_little = _mm512_loadu_si512(little);

    for (unsigned i = 0; i < len; i += 8) {
        size_t skip = RADIX * (size_t)i / 8, have = bytes - skip < 64 ? bytes - skip : 64;
        size_t at = big_endian ? bytes - skip - have : skip;
        v8 from = from_little;
        __mmask64 in = ~0ull >> (64 - have), wanted = ~0ull;
        if (big_endian) {
            from = _mm512_sub_epi8(_mm512_set1_epi8((char)(have - 1)), from);
            wanted = _mm512_movepi8_mask(from) ^ ~0ull;
        }
        v8 r[LANES];
        for (unsigned lane = 0; lane < LANES; lane++) {
            v8 window = _mm512_maskz_permutexvar_epi8(wanted, from,
                                                      _mm512_maskz_loadu_epi8(in, p[lane] + at));
            r[lane] = digit_of(_mm512_srlv_epi64(window, shift));
        }
        transpose(r);
        for (unsigned j = 0; j < 8 && i + j < len; j++)
            digits[i + j] = r[j];
    }
}

/* limbs[0 .. count) = the 64-bit limbs of a number below 2^(64 count). */
static void pack(v8 *limbs, unsigned count, const v8 *digits)
{
    for (unsigned l = 0; l < count; l++) {
        unsigned i = 64 * l / RADIX, bit = 64 * l % RADIX;
        v8 v = _mm512_srl_epi64(digits[i], _mm_cvtsi32_si128((int)bit));
        v = _mm512_or_si512(v,
                            _mm512_sll_epi64(digits[i + 1], _mm_cvtsi32_si128((int)(RADIX - bit))));
        if (2 * RADIX - bit < 64)
            v = _mm512_or_si512(
                v, _mm512_sll_epi64(digits[i + 2], _mm_cvtsi32_si128((int)(2 * RADIX - bit))));
        limbs[l] = v;
    }
}

/* ---- the power ---- */

/* Lanes where a < n, both in digits. */
static __mmask8 below(const v8 *a, const v8 *n, unsigned len)
{
    v8 carry = zero();
    for (unsigned i = 0; i < len; i++)
        carry = carry_of(add(sub(a[i], n[i]), carry));
    return _mm512_movepi64_mask(carry);
}

/* x = x mod n for x < 2 n, in digits. */
static void settle(v8 *x, const v8 *n, unsigned len)
{
    const __mmask8 settled = below(x, n, len);
    v8 carry = zero();
    for (unsigned i = 0; i < len; i++) {
        v8 d = add(sub(x[i], n[i]), carry);
        x[i] = _mm512_mask_blend_epi64(settled, digit_of(d), x[i]);
        carry = carry_of(d);
    }
}

/* x = s^e mod n; n, minus_inv, s and base are set. e: each lane's exponent, odd, at least 3.
 *
 * From the top bit down. Lanes with a shorter exponent wait at x = base until their second bit
 * comes; the last bit is set in every lane, and its multiplication is by s itself, which leaves
 * Montgomery form. For 65537 everywhere: 16 squarings, one multiplication. */
static void raise(struct batch *b, const struct size *z, const uint64_t e[LANES])
{
    const v8 exponent = _mm512_loadu_si512(e);
    const uint64_t longest = (uint64_t)_mm512_reduce_or_epi64(exponent);
    memcpy(b->x, b->base, z->len * sizeof(v8));
    for (unsigned bit = 63 - (unsigned)__builtin_clzll(longest); bit-- > 0;) {
        const __m128i count = _mm_cvtsi32_si128((int)bit);
        const v8 rest = _mm512_srl_epi64(exponent, count);
        const __mmask8 started = _mm512_cmpgt_epu64_mask(rest, _mm512_set1_epi64(1));
        const __mmask8 set = started & _mm512_test_epi64_mask(rest, _mm512_set1_epi64(1));
        if (started == 0xff) {
            z->square(b, b->x, b->x);
        } else {
            z->square(b, b->next, b->x);
            for (unsigned i = 0; i < z->len; i++)
                b->x[i] = _mm512_mask_mov_epi64(b->x[i], started, b->next[i]);
        }
        if (set == 0 || bit == 0)
            continue;
        z->multiply(b, b->next, b->x, b->base);
        for (unsigned i = 0; i < z->len; i++)
            b->x[i] = _mm512_mask_mov_epi64(b->x[i], set, b->next[i]);
    }
    z->multiply(b, b->x, b->x, b->s);
    settle(b->x, b->n, z->len);
}

/* limbs = s^e mod n of eight jobs; returns the lanes where s < n (the others' limbs mean nothing).
 */
static __mmask8 recover(struct batch *b, const struct size *z, struct qm_sig_job *const jobs[LANES],
                        v8 *limbs)
{
    const size_t bytes = z->bits / 8;
    const uint8_t *p[LANES];
    uint64_t n0inv[LANES], e[LANES];
    for (unsigned lane = 0; lane < LANES; lane++) {
        const struct qm_key *key = jobs[lane]->key;
        p[lane] = (const uint8_t *)key->limbs;
        n0inv[lane] = key->n0inv;
        e[lane] = (uint64_t)key->exponent_high << 32 | key->exponent;
    }
    b->n0inv = _mm512_loadu_si512(n0inv);
    unpack(b->n, z->len, p, bytes, false);
    for (unsigned lane = 0; lane < LANES; lane++)
        p[lane] += bytes;
    unpack(b->x, z->len, p, bytes, false); /* R_key^2 mod n */
    for (unsigned lane = 0; lane < LANES; lane++)
        p[lane] = jobs[lane]->sig;
    unpack(b->s, z->len, p, bytes, true);

    const __mmask8 in_range = below(b->s, b->n, z->len);
    z->to_montgomery(b, z);
    raise(b, z, e);
    pack(limbs, z->bits / 64, b->x);
    return in_range;
}

/* ---- padding ---- */

enum {
    HASH_BYTES = 32, /* SHA-256 */
    PSS_QUEUE = 16,  /* PSS signatures whose hashes are computed together: fills the lanes of every
                        hash kernel */
    MGF_BLOCKS_MAX = BYTES_MAX / HASH_BYTES,
};

/* A recovered PSS encoding that waits for its hashes (RFC 8017, 9.1.2). em = masked data block, H,
 * bc. */
struct pss {
    struct qm_sig_job *job;
    uint8_t em[BYTES_MAX];
    uint8_t seed[MGF_BLOCKS_MAX][HASH_BYTES + 4]; /* H and a counter */
    uint8_t mask[MGF_BLOCKS_MAX][HASH_BYTES];
    uint8_t message[8 + HASH_BYTES + BYTES_MAX]; /* M': eight zeros, the digest, the salt */
    uint8_t digest[HASH_BYTES];
};

struct scratch {
    struct batch batch;
    v8 limbs[BYTES_MAX / 8];
    const struct qm_hash_kernel *hash;
    unsigned queued;
    struct pss pss[PSS_QUEUE];
    struct qm_message messages[PSS_QUEUE * MGF_BLOCKS_MAX];
};

/* Lanes whose limbs are 00 01 ff .. ff 00 DigestInfo digest, for SHA-256 and each job's digest (RFC
 * 8017, 9.2). */
static __mmask8 pkcs1_sha256(const v8 *limbs, unsigned count, struct qm_sig_job *const jobs[LANES])
{
    /* the last 64 bytes but for the digest: ff .. ff 00, the DER of DigestInfo */
    static const uint64_t info[4] = {0x0304020105000420, 0x0d06096086480165, 0xffffffff00303130,
                                     0xffffffffffffffff};
    uint64_t digest[4][LANES] = {{0}};
    for (unsigned lane = 0; lane < LANES; lane++)
        for (unsigned i = 0; i < 4 && jobs[lane]->hash == QM_HASH_SHA256; i++) {
            uint64_t word;
            memcpy(&word, jobs[lane]->digest + 8 * (3 - i), 8);
            digest[i][lane] = __builtin_bswap64(word);
        }
    v8 differs = _mm512_xor_si512(limbs[count - 1], _mm512_set1_epi64(0x0001ffffffffffff));
    for (unsigned i = 0; i < 4; i++) {
        differs =
            _mm512_or_si512(differs, _mm512_xor_si512(limbs[i], _mm512_loadu_si512(digest[i])));
        differs = _mm512_or_si512(
            differs, _mm512_xor_si512(limbs[4 + i], _mm512_set1_epi64((long long)info[i])));
    }
    v8 ones = _mm512_set1_epi64(-1);
    for (unsigned i = 8; i + 1 < count; i++)
        ones = _mm512_and_si512(ones, limbs[i]);
    differs = _mm512_or_si512(differs, _mm512_xor_si512(ones, _mm512_set1_epi64(-1)));
    return _mm512_testn_epi64_mask(differs, differs);
}

/* The bytes of one lane, big-endian. */
static void lane_bytes(uint8_t *em, const v8 *limbs, unsigned count, unsigned lane)
{
    const uint8_t *from = (const uint8_t *)limbs + 8 * lane;
    for (unsigned i = 0; i < count; i++) {
        uint64_t word;
        memcpy(&word, from + sizeof(v8) * i, 8);
        word = __builtin_bswap64(word);
        memcpy(em + 8 * (count - 1 - i), &word, 8);
    }
}

/* Decides the queued encodings, all of em_len bytes. The moduli have 8 em_len bits: the top bit is
 * no part of the encoding. */
static void pss_flush(struct scratch *s, size_t em_len)
{
    const size_t db_len = em_len - HASH_BYTES - 1, blocks = (db_len + HASH_BYTES - 1) / HASH_BYTES;
    size_t count = 0;
    for (unsigned i = 0; i < s->queued; i++) {
        struct pss *p = &s->pss[i];
        for (unsigned k = 0; k < blocks; k++) {
            memcpy(p->seed[k], p->em + db_len, HASH_BYTES);
            memcpy(p->seed[k] + HASH_BYTES, (const uint8_t[4]){0, 0, 0, (uint8_t)k}, 4);
            s->messages[count++] = (struct qm_message){p->seed[k], HASH_BYTES + 4, p->mask[k]};
        }
    }
    s->hash->digest(s->messages, count);

    count = 0;
    for (unsigned i = 0; i < s->queued; i++) {
        struct pss *p = &s->pss[i];
        const bool top_clear = p->em[0] < 0x80, trailer = p->em[em_len - 1] == 0xbc;
        uint8_t *db = p->em;
        const uint8_t *mask = p->mask[0];
        for (size_t k = 0; k < db_len; k++)
            db[k] ^= mask[k];
        db[0] &= 0x7f;
        size_t at =
            0; /* db = 00 .. 00 01 salt; the salt is as long as the digest or as long as can be */
        while (at + HASH_BYTES + 1 < db_len && db[at] == 0)
            at++;
        p->job->valid =
            top_clear && trailer && db[at] == 1 && (at == 0 || at + HASH_BYTES + 1 == db_len);
        if (!p->job->valid)
            continue;
        size_t salt_len = db_len - at - 1;
        memset(p->message, 0, 8);
        memcpy(p->message + 8, p->job->digest, HASH_BYTES);
        memcpy(p->message + 8 + HASH_BYTES, db + at + 1, salt_len);
        s->messages[count++] =
            (struct qm_message){p->message, (uint32_t)(8 + HASH_BYTES + salt_len), p->digest};
    }
    if (count != 0)
        s->hash->digest(s->messages, count);
    for (unsigned i = 0; i < s->queued; i++) {
        struct pss *p = &s->pss[i];
        if (p->job->valid)
            p->job->valid = memcmp(p->digest, p->em + db_len, HASH_BYTES) == 0;
    }
    s->queued = 0;
}

/* ---- the kernel ---- */

static size_t scratch_size(void)
{
    return qm_align_up(sizeof(struct scratch), QM_CACHE_LINE);
}

static qm_err init_scratch(void *memory, const struct qm_hash_kernel *hash, struct qm_fault *fault)
{
    (void)fault;
    struct scratch *s = memory;
    memset(s, 0, sizeof *s);
    s->hash = hash;
    return QM_OK;
}

static void close_scratch(void *memory)
{
    (void)memory;
}

/* Sets valid of the first count (1 to LANES) of eight jobs; the others are repetitions. */
static void verify_batch(struct scratch *s, const struct size *z,
                         struct qm_sig_job *const jobs[LANES], size_t count)
{
    const unsigned limbs = z->bits / 64;
    const __mmask8 in_range = recover(&s->batch, z, jobs, s->limbs);
    const __mmask8 pkcs1 = in_range & pkcs1_sha256(s->limbs, limbs, jobs);
    for (unsigned lane = 0; lane < count; lane++) {
        struct qm_sig_job *job = jobs[lane];
        job->valid = false;
        if ((in_range >> lane & 1) == 0)
            continue;
        if (job->hash != QM_HASH_SHA256) {
            uint8_t em[BYTES_MAX];
            lane_bytes(em, s->limbs, limbs, lane);
            job->valid = qm_rsa_padding_ok(job, em, z->bits / 8, z->bits);
        } else if (job->scheme == QM_SCHEME_RSASSA) {
            job->valid = pkcs1 >> lane & 1;
        } else if (job->scheme == QM_SCHEME_RSAPSS) {
            struct pss *p = &s->pss[s->queued++];
            p->job = job;
            lane_bytes(p->em, s->limbs, limbs, lane);
            if (s->queued == PSS_QUEUE)
                pss_flush(s, z->bits / 8);
        }
    }
}

/* Fetches what the next batch will read: keys of a large table come from far away. */
static void prefetch(const struct qm_sig_job *job, const struct size *z)
{
    const char *key = (const char *)job->key;
    for (size_t at = 0; at < sizeof *job->key + z->bits / 4; at += QM_CACHE_LINE)
        __builtin_prefetch(key + at);
    for (size_t at = 0; at < z->bits / 8; at += QM_CACHE_LINE)
        __builtin_prefetch(job->sig + at);
}

static void verify(void *memory, struct qm_sig_job *const *jobs, size_t count)
{
    struct scratch *s = memory;
    if (count == 0)
        return;
    const struct size *z = size_of((enum qm_sig_class)jobs[0]->key->sig_class);
    for (size_t done = 0; done < count; done += LANES) {
        size_t here = count - done < LANES ? count - done : LANES;
        struct qm_sig_job *batch[LANES];
        for (size_t lane = 0; lane < LANES; lane++)
            batch[lane] = jobs[done + (lane < here ? lane : 0)];
        for (size_t i = done + LANES; i < count && i < done + 2 * LANES; i++)
            prefetch(jobs[i], z);
        verify_batch(s, z, batch, here);
    }
    if (s->queued != 0)
        pss_flush(s, z->bits / 8);
}

/* The routines of a size: square(), multiply() and reduce() of the kernel, so that L is a constant in each. */
#define RSA_ROUTINES(BITS, L)                                                                                                      \
    static __attribute__((noinline)) void square_##BITS(struct batch *b, v8 *out, const v8 *a)                                     \
    {                                                                                                                              \
        square(b, a, L);                                                                                                           \
        reduce(b, out, L);                                                                                                         \
    }                                                                                                                              \
    static __attribute__((noinline)) void multiply_##BITS(struct batch *b, v8 *out, const v8 *a, const v8 *y)                      \
    {                                                                                                                              \
        multiply(b, a, y, L);                                                                                                      \
        reduce(b, out, L);                                                                                                         \
    }

/* The kernel that has the sizes of sizes[], by signature class. */
#define RSA_KERNEL(SYMBOL, NAME)                                                                                                   \
    static const struct size *size_of(enum qm_sig_class sig_class)                                                                 \
    {                                                                                                                              \
        return &sizes[sig_class];                                                                                                  \
    }                                                                                                                              \
    const struct qm_sig_kernel SYMBOL = {                                                                                          \
        .name = NAME,                                                                                                              \
        .cpu = QM_CPU_AVX512 | QM_CPU_IFMA512 | QM_CPU_VBMI,                                                                       \
        .classes = 1u << QM_SIG_RSA2048 | 1u << QM_SIG_RSA3072 | 1u << QM_SIG_RSA4096,                                             \
        .lanes = LANES,                                                                                                            \
        .scratch_size = scratch_size,                                                                                              \
        .init = init_scratch,                                                                                                      \
        .close = close_scratch,                                                                                                    \
        .verify = verify,                                                                                                          \
    }
