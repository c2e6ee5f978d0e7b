/* Kernels: signature checking and hashing, one file for each algorithm and instruction set, behind two const structs.
 *
 * A kernel states the CPU features that it needs; choice.c picks one for each class at start, by CPUID and XGETBV, never by
 * what the compiler had. The portable kernels (OpenSSL's arithmetic) serve every class and are what others are measured
 * and checked against.
 *
 * Everything here is public data: no kernel needs constant time, and each banner says so.
 *
 * Kernels hold no state of their own: an instance's working memory is given by the caller (scratch_size, init), belongs to
 * one thread, and is never grown. */
#ifndef QM_KERNEL_H
#define QM_KERNEL_H

#include "codec/base.h"
#include "codec/error.h"
#include "codec/tpm2.h"

/* ---- keys ---------------------------------------------------------------------------------------------------------- */

/* One class for each kernel that can differ. RSA_ANY: moduli of other lengths between 2048 and 4096 bits. */
enum qm_sig_class {
    QM_SIG_RSA2048,
    QM_SIG_RSA3072,
    QM_SIG_RSA4096,
    QM_SIG_RSA_ANY,
    QM_SIG_P256,
    QM_SIG_P384,
    QM_SIG_CLASS_COUNT
};
const char *qm_sig_class_name(enum qm_sig_class c); /* "rsa2048" */

/* A public key with its precomputed constants, as it lies in the table: made once by qm_key_make (key.c), 64-byte aligned.
 *
 * RSA:   limbs[0 .. k64)        the modulus n, 64-bit limbs, least significant first, k64 = ceil(bits / 64)
 *        limbs[k64 .. 2 k64)    R^2 mod n for R = 2^(52 * digits), digits = ceil((bits + 2) / 52)
 *        n0inv                  -n^-1 mod 2^64 (its low 52 bits serve radix 2^52)
 * EC:    limbs[0 .. k)          x, then limbs[k .. 2k) y: affine, least significant limb first, k = 4 (P-256) or 6 (P-384)
 *        then extra_bytes of kernel constants (a comb), 64-byte aligned from the start of the struct; 0 if none */
struct qm_key {
    uint32_t bytes;       /* of the whole structure, constants included; a multiple of 64 */
    uint8_t sig_class;    /* enum qm_sig_class */
    uint8_t reserved;
    uint16_t bits;        /* of the modulus or the field */
    uint32_t exponent;    /* RSA: odd, at least 65537; exponents over 32 bits are in exponent_high too */
    uint32_t exponent_high;
    uint64_t n0inv;
    uint32_t extra_off;   /* byte offset of the kernel constants from the start of the struct; 0: none */
    uint32_t extra_bytes;
    uint64_t limbs[];
};
_Static_assert(sizeof(struct qm_key) == 32, "the key header is on disk");

/* digits of radix 2^52 that a modulus takes, two spare bits included */
static inline unsigned qm_rsa_digits(unsigned bits)
{
    return (bits + 2 + 51) / 52;
}

/* ---- signatures ---------------------------------------------------------------------------------------------------- */

enum qm_scheme { QM_SCHEME_NONE, QM_SCHEME_RSASSA, QM_SCHEME_RSAPSS, QM_SCHEME_ECDSA };

struct qm_sig_job {
    const struct qm_key *key;
    const uint8_t *digest; /* of the signed bytes; as long as hash says */
    const uint8_t *sig;    /* RSA: as long as the modulus, big-endian. ECDSA: r then s, each 32 (P-256) or 48 bytes, big-endian,
                              both already known to lie in [1, n-1] */
    uint8_t hash;          /* enum qm_hash: of the digest, and of PSS' MGF1. SHA-1 signs nothing: never valid */
    uint8_t scheme;        /* enum qm_scheme; suits the key */
    bool valid;            /* out: true only for a signature that verified */
};

struct qm_hash_kernel;

struct qm_sig_kernel {
    const char *name;       /* "openssl", "avx512ifma" */
    uint64_t cpu;           /* QM_CPU_* that it needs */
    uint32_t classes;       /* bit 1 << class for each class it serves */
    unsigned lanes;         /* signatures checked side by side */
    size_t (*scratch_size)(void); /* bytes of working memory, 64-byte aligned */
    /* Prepares scratch; hash is the kernel for PSS' MGF1. */
    qm_err (*init)(void *scratch, const struct qm_hash_kernel *hash, struct qm_fault *fault) QM_MUST_USE;
    void (*close)(void *scratch); /* gives back what init took outside scratch */
    /* Sets valid of count jobs, all of one class. Any count, any mix of schemes that suit the class. */
    void (*verify)(void *scratch, struct qm_sig_job *const *jobs, size_t count);
};

/* ---- SHA-256 ------------------------------------------------------------------------------------------------------- */

/* One PCR: value <- SHA-256(value || digest[i]) for i = 0 .. count-1 (TPM2_PCR_Extend, Library part 1, 17.3). */
struct qm_chain {
    uint8_t value[32]; /* in: the start value; out: the replayed value */
    const uint8_t *const *digest; /* count pointers to 32 bytes each, any alignment */
    uint32_t count;
};

struct qm_message {
    const uint8_t *p;
    uint32_t len;
    uint8_t *digest; /* out: 32 bytes */
};

/* How full the lanes were: steps counts lane slots that were computed, filled those that did work. */
struct qm_lane_use {
    uint64_t steps;
    uint64_t filled;
};

struct qm_hash_kernel {
    const char *name;
    uint64_t cpu;
    unsigned lanes;
    /* Replays count chains of any lengths, in any order. Does not allocate; use (never NULL) is added to. */
    void (*extend)(struct qm_chain *chains, size_t count, struct qm_lane_use *use);
    /* Hashes count messages of any lengths. */
    void (*digest)(const struct qm_message *messages, size_t count);
};

/* One message, any hash: the portable way, for what is rare (SHA-1, SHA-384 and SHA-512 banks and schemes). */
void qm_hash_one(enum qm_hash hash, struct qm_span message, uint8_t *digest);
/* value <- H(value || digest), both of the hash's size. */
void qm_hash_extend(enum qm_hash hash, uint8_t *value, const uint8_t *digest);

/* ---- CPU and choice ------------------------------------------------------------------------------------------------ */

enum {
    QM_CPU_SHA = 1 << 0,       /* SHA-NI, with SSSE3 and SSE4.1 */
    QM_CPU_AVX2 = 1 << 1,
    QM_CPU_AVX512 = 1 << 2,    /* F, BW, DQ, VL, and the operating system saves ZMM */
    QM_CPU_IFMA512 = 1 << 3,   /* AVX512_IFMA */
    QM_CPU_VBMI = 1 << 4,      /* AVX512_VBMI */
    QM_CPU_AVXIFMA = 1 << 5,   /* AVX-IFMA (VEX) */
    QM_CPU_BMI2ADX = 1 << 6,   /* MULX, ADCX */
    QM_CPU_FASTSHA = 1 << 7,   /* SHA-NI that outruns 16 lanes of AVX-512: by vendor, see choice.c; no kernel needs it */
    QM_CPU_DUALIFMA = 1 << 8,  /* two 512-bit IFMA a cycle: by family and model, see cpu.c; no kernel needs it */
};
uint64_t qm_cpu_features(void);
/* The names of the bits of features, space separated, written to text. */
void qm_cpu_names(uint64_t features, char *text, size_t cap);

/* Every kernel that was built, best first; the portable ones are last. */
extern const struct qm_sig_kernel *const qm_sig_kernels[];
extern const size_t qm_sig_kernel_count;
extern const struct qm_hash_kernel *const qm_hash_kernels[];
extern const size_t qm_hash_kernel_count;

extern const struct qm_sig_kernel qm_sig_openssl;
#if defined(__x86_64__)
extern const struct qm_sig_kernel qm_sig_p256_ifma512;
extern const struct qm_sig_kernel qm_sig_p384_ifma512;
extern const struct qm_sig_kernel qm_sig_rsa_ifma512;
extern const struct qm_sig_kernel qm_sig_rsa_ifma512_dual;
#endif
extern const struct qm_hash_kernel qm_hash_openssl;
#if defined(__x86_64__)
extern const struct qm_hash_kernel qm_hash_avx512sha;
extern const struct qm_hash_kernel qm_hash_avx512;
extern const struct qm_hash_kernel qm_hash_shani;
extern const struct qm_hash_kernel qm_hash_avx2;
#endif

struct qm_kernels {
    const struct qm_sig_kernel *sig[QM_SIG_CLASS_COUNT];
    const struct qm_hash_kernel *sha256;
};

/* Picks for each class the best kernel that this CPU runs. forced (may be NULL): "auto" or empty, or a comma separated list of
 * kernel names; the classes that no named kernel serves stay portable. A name that is unknown or cannot run here is QM_E_UNFIT. */
qm_err qm_kernels_choose(struct qm_kernels *out, const char *forced, struct qm_fault *fault) QM_MUST_USE;
/* The same for a CPU of these features. */
qm_err qm_kernels_choose_for(struct qm_kernels *out, uint64_t features, const char *forced, struct qm_fault *fault) QM_MUST_USE;
/* Known answers, positive and negative, through every chosen kernel and every lane. QM_E_SELFTEST if one is wrong. */
qm_err qm_kernels_selftest(const struct qm_kernels *k, struct qm_fault *fault) QM_MUST_USE;

/* ---- padding, shared by the RSA kernels ----------------------------------------------------------------------------- */

/* Does the encoded message em (em_len bytes, the modulus' length, big-endian) fit the job? PKCS#1 v1.5 is compared as a whole
 * block (RFC 8017, 8.2.2, 9.2); PSS takes a salt as long as the digest or the longest that fits (RFC 8017, 9.1.2). bits is
 * the modulus' length in bits. */
bool qm_rsa_padding_ok(const struct qm_sig_job *job, const uint8_t *em, size_t em_len, unsigned bits);

/* ---- the oracle ----------------------------------------------------------------------------------------------------- */

/* The same question through OpenSSL's EVP interface with a key built for the call: shares no arithmetic of ours. Slow; for
 * audits, for the second look at a negative, and for tests. QM_E_CRYPTO if OpenSSL fails other than by saying no. */
qm_err qm_oracle_verify(const struct qm_sig_job *job, bool *valid, struct qm_fault *fault) QM_MUST_USE;

#endif
