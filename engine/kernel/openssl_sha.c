/* Hashing by OpenSSL: the portable kernel, and what is rare (SHA-1, SHA-384, SHA-512).
 *
 * OpenSSL 3 marks the calls of a single algorithm as deprecated in favour of EVP. They are used
 * here, and in this file only, because EVP looks an algorithm up on every one-shot call: measured
 * on one core, 3.2 million extends a second by SHA256(), 10 million by EVP with everything
 * kept, 10.3 to 11.7 million by SHA256_Init/Update/Final, 11.8 to 13 million by SHA256_Transform
 * (two machines). They use the same assembly, and cannot fail.
 *
 * An extend hashes 64 bytes, one block; the second block holds only padding (FIPS 180-4, 5.1.1) and
 * is constant.
 *
 * Lanes: 1. Constant time: no claim is made, all inputs are public. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include "codec/cursor.h"
#include "engine/kernel/kernel.h"

static const uint8_t padding_after_64[64] = {[0] = 0x80, [62] = 0x02}; /* 512 bits */
static const uint32_t sha256_start[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

static void store_be32(uint8_t *p, uint32_t v)
{
    v = __builtin_bswap32(v);
    memcpy(p, &v, 4);
}

/* block: value || digest on entry; the first 32 bytes are the new value on return. */
static void sha256_extend_block(uint8_t block[64])
{
    SHA256_CTX c;
    memcpy(c.h, sha256_start, sizeof c.h); /* Transform reads nothing else */
    SHA256_Transform(&c, block);
    SHA256_Transform(&c, padding_after_64);
    for (size_t i = 0; i < 8; i++)
        store_be32(block + 4 * i, c.h[i]);
}

static void extend(struct qm_chain *chains, size_t count, struct qm_lane_use *use)
{
    for (size_t i = 0; i < count; i++) {
        struct qm_chain *chain = &chains[i];
        uint8_t block[64];
        memcpy(block, chain->value, 32);
        for (uint32_t j = 0; j < chain->count; j++) {
            memcpy(block + 32, chain->digest[j], 32);
            sha256_extend_block(block);
        }
        memcpy(chain->value, block, 32);
        use->steps += chain->count;
        use->filled += chain->count;
    }
}

static void sha256(const uint8_t *p, size_t len, uint8_t *digest)
{
    SHA256_CTX c;
    SHA256_Init(&c);
    SHA256_Update(&c, p, len);
    SHA256_Final(digest, &c);
}

static void digest_all(const struct qm_message *messages, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sha256(messages[i].p, messages[i].len, messages[i].digest);
}

/* The hash of a || b. */
static void hash_two(enum qm_hash hash, struct qm_span a, struct qm_span b, uint8_t *digest)
{
    union {
        SHA_CTX sha1;
        SHA256_CTX sha256;
        SHA512_CTX sha512;
    } c;
    switch (hash) {
    case QM_HASH_SHA1:
        SHA1_Init(&c.sha1);
        SHA1_Update(&c.sha1, a.p, a.len);
        SHA1_Update(&c.sha1, b.p, b.len);
        SHA1_Final(digest, &c.sha1);
        break;
    case QM_HASH_SHA256:
        SHA256_Init(&c.sha256);
        SHA256_Update(&c.sha256, a.p, a.len);
        SHA256_Update(&c.sha256, b.p, b.len);
        SHA256_Final(digest, &c.sha256);
        break;
    case QM_HASH_SHA384:
        SHA384_Init(&c.sha512);
        SHA384_Update(&c.sha512, a.p, a.len);
        SHA384_Update(&c.sha512, b.p, b.len);
        SHA384_Final(digest, &c.sha512);
        break;
    case QM_HASH_SHA512:
        SHA512_Init(&c.sha512);
        SHA512_Update(&c.sha512, a.p, a.len);
        SHA512_Update(&c.sha512, b.p, b.len);
        SHA512_Final(digest, &c.sha512);
        break;
    case QM_HASH_NONE:
    case QM_HASH_COUNT:
        break; /* no bytes: qm_hash_size says 0 */
    }
}

void qm_hash_one(enum qm_hash hash, struct qm_span message, uint8_t *digest)
{
    hash_two(hash, message, (struct qm_span){NULL, 0}, digest);
}

void qm_hash_extend(enum qm_hash hash, uint8_t *value, const uint8_t *digest)
{
    size_t size = qm_hash_size(hash);
    hash_two(hash, (struct qm_span){value, size}, (struct qm_span){digest, size}, value);
}

const struct qm_hash_kernel qm_hash_openssl = {
    .name = "openssl",
    .cpu = 0,
    .lanes = 1,
    .extend = extend,
    .digest = digest_all,
};
