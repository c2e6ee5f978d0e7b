/* Keys with their private halves, and signatures good and crooked, for tests. Everything follows from a seed. Signing is done
 * here with BN from the formulas, not through EVP, so that any encoding can be signed, even one that no signer makes.
 *
 * What is forged lives until forge_free_all; running out of memory aborts. */
#ifndef QM_TEST_FORGE_H
#define QM_TEST_FORGE_H

#include <openssl/bn.h>
#include <openssl/ec.h>

#include "engine/kernel/key.h"

struct forge_rng {
    uint64_t state;
};
/* From the environment's QM_SEED, else from the clock; printed to stderr with the name of the test. */
struct forge_rng forge_seed(const char *test);
uint64_t forge_u64(struct forge_rng *rng);
uint64_t forge_below(struct forge_rng *rng, uint64_t limit);
void forge_bytes(struct forge_rng *rng, uint8_t *p, size_t len);
/* Bytes by density: random, sparse, nearly all ones, all zero or all one, or changing from limb to limb. */
void forge_pattern(struct forge_rng *rng, uint8_t *p, size_t len);

/* Memory of exactly len bytes, so that the sanitizer sees a step too far. */
uint8_t *forge_copy(const void *p, size_t len);
void forge_free_all(void);

enum forge_shape { FORGE_RANDOM, FORGE_SPARSE, FORGE_ONES }; /* of a modulus' upper bits */
enum { FORGE_PRIMES_MAX = 8 };

struct forge_rsa {
    struct qm_key *key;
    unsigned bits;
    size_t len; /* of the modulus in bytes */
    BIGNUM *n;
    unsigned prime_count;
    BIGNUM *prime[FORGE_PRIMES_MAX];
    BIGNUM *exponent[FORGE_PRIMES_MAX]; /* d mod (p - 1) */
    BIGNUM *weight[FORGE_PRIMES_MAX];   /* 1 mod p, 0 mod the others */
};
void forge_rsa_make(struct forge_rng *rng, struct forge_rsa *rsa, unsigned bits, uint64_t exponent,
                    enum forge_shape shape);
/* sig <- em^d mod n, both len bytes. False if em >= n. */
bool forge_rsa_sign(const struct forge_rsa *rsa, const uint8_t *em, uint8_t *sig);

/* The encodings of RFC 8017, to be spoiled by the caller. em: (bits + 7) / 8 bytes. */
void forge_pkcs1(uint8_t *em, size_t len, enum qm_hash hash, const uint8_t *digest);
void forge_pss(uint8_t *em, unsigned bits, enum qm_hash hash, enum qm_hash mgf,
               const uint8_t *digest, const uint8_t *salt, size_t salt_len);
/* The same with a DB whose bytes before the salt are given: pad (usually 0) and separator (usually 1). */
void forge_pss_odd(uint8_t *em, unsigned bits, enum qm_hash hash, enum qm_hash mgf,
                   const uint8_t *digest, const uint8_t *salt, size_t salt_len, uint8_t pad,
                   uint8_t separator);

struct forge_curve {
    enum qm_sig_class sig_class;
    size_t size; /* of a scalar or coordinate in bytes */
    EC_GROUP *group;
    BIGNUM *n, *p;
};
const struct forge_curve *forge_curve(enum qm_sig_class sig_class);
struct qm_key *forge_ec_key(const struct forge_curve *c, const EC_POINT *q);
struct qm_key *forge_ec_key_of(const struct forge_curve *c, const BIGNUM *d);
/* Signs the scalar e (as the digest's leftmost bits give it) by d with a random k. rs: r || s */
void forge_ec_sign(struct forge_rng *rng, const struct forge_curve *c, const BIGNUM *d,
                   const BIGNUM *e, uint8_t *rs);
/* A key, a scalar e and a signature that verifies with exactly u1, u2 and the point r: Q = (R - u1 G) / u2. NULL where that is
 * no key. */
struct qm_key *forge_ec_around(const struct forge_curve *c, const EC_POINT *r, const BIGNUM *u1,
                               const BIGNUM *u2, BIGNUM *e, uint8_t *rs);
/* The first point with x >= from. */
EC_POINT *forge_ec_point(const struct forge_curve *c, const BIGNUM *from);

#endif
