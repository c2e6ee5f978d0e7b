/* RSA signature encodings, RFC 8017. Shared by every RSA kernel; hashing is the portable one (PSS
 * with SHA-256 and a 2048-bit key: nine blocks). Constant time: no, all inputs are public. */
#include "codec/base.h"
#include "engine/kernel/kernel.h"

enum { EM_MAX = 512, DIGEST_INFO_MAX = 19 };

/* The DER of DigestInfo up to the digest itself (RFC 8017, 9.2, note 1), AlgorithmIdentifier with
 * its NULL. */
static const uint8_t digest_info[QM_HASH_COUNT][DIGEST_INFO_MAX] = {
    [QM_HASH_SHA256] = {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03,
                        0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
    [QM_HASH_SHA384] = {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03,
                        0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
    [QM_HASH_SHA512] = {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03,
                        0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
};

/* 00 01 ff..ff 00 DigestInfo digest: built and compared whole, so that there is nothing to parse
 * and nothing to be lenient about (RFC 8017, 8.2.2, step 3 and 4). */
static bool pkcs1_ok(enum qm_hash hash, const uint8_t *digest, const uint8_t *em, size_t em_len)
{
    uint8_t want[EM_MAX];
    size_t digest_len = qm_hash_size(hash);
    size_t pad_end = em_len - digest_len - DIGEST_INFO_MAX - 1;
    want[0] = 0x00;
    want[1] = 0x01;
    memset(want + 2, 0xff, pad_end - 2);
    want[pad_end] = 0x00;
    memcpy(want + pad_end + 1, digest_info[hash], DIGEST_INFO_MAX);
    memcpy(want + em_len - digest_len, digest, digest_len);
    return memcmp(want, em, em_len) == 0;
}

/* out <- masked xor MGF1(seed), both len bytes; seed is as long as the hash (RFC 8017, B.2.1). */
static void unmask(enum qm_hash hash, const uint8_t *seed, const uint8_t *masked, size_t len,
                   uint8_t *out)
{
    size_t digest_len = qm_hash_size(hash);
    uint8_t input[QM_DIGEST_MAX + 4] = {0};
    uint8_t block[QM_DIGEST_MAX];
    memcpy(input, seed, digest_len);
    for (size_t done = 0, counter = 0; done < len; counter++) {
        input[digest_len + 3] = (uint8_t)counter; /* at most 511 / 32 blocks */
        qm_hash_one(hash, (struct qm_span){input, digest_len + 4}, block);
        for (size_t i = 0; i < digest_len && done < len; i++, done++)
            out[done] = masked[done] ^ block[i];
    }
}

/* EMSA-PSS-VERIFY (RFC 8017, 9.1.2): em = maskedDB || H || bc with em_len = ceil((bits - 1) / 8).
 */
static bool pss_ok(enum qm_hash hash, const uint8_t *digest, const uint8_t *em, size_t em_len,
                   unsigned bits)
{
    size_t digest_len = qm_hash_size(hash);
    /* 8.1.2, step 2c: where the encoded message is a byte shorter than the modulus, that byte is
     * zero */
    if ((bits - 1) % 8 == 0) {
        if (em[0] != 0)
            return false;
        em++;
        em_len--;
    }
    if (em[em_len - 1] != 0xbc)
        return false;
    uint8_t top_mask = (uint8_t)(0xff >> (8 * em_len - (bits - 1)));
    if ((em[0] & ~top_mask) != 0)
        return false;

    size_t db_len = em_len - digest_len - 1;
    const uint8_t *h = em + db_len;
    uint8_t db[EM_MAX];
    unmask(hash, h, em, db_len, db);
    db[0] &= top_mask;

    /* db = 00..00 01 salt; the salt length is told by where the 01 stands */
    size_t at = 0;
    while (at < db_len && db[at] == 0)
        at++;
    if (at == db_len || db[at] != 0x01)
        return false;
    const uint8_t *salt = db + at + 1;
    size_t salt_len = db_len - at - 1;
    if (salt_len != digest_len && salt_len != db_len - 1)
        return false;

    uint8_t m[8 + QM_DIGEST_MAX + EM_MAX] = {0};
    uint8_t want[QM_DIGEST_MAX];
    memcpy(m + 8, digest, digest_len);
    memcpy(m + 8 + digest_len, salt, salt_len);
    qm_hash_one(hash, (struct qm_span){m, 8 + digest_len + salt_len}, want);
    return memcmp(want, h, digest_len) == 0;
}

/* 2048 bits and more leave room for every digest here, so no length can underflow: the longest
 * encoding is PSS with SHA-512 and a salt of 64 bytes, 130. */
bool qm_rsa_padding_ok(const struct qm_sig_job *job, const uint8_t *em, size_t em_len,
                       unsigned bits)
{
    enum qm_hash hash = (enum qm_hash)job->hash;
    if (em_len < 256 || em_len > EM_MAX || em_len != (bits + 7) / 8)
        return false;
    if (hash != QM_HASH_SHA256 && hash != QM_HASH_SHA384 && hash != QM_HASH_SHA512)
        return false;
    if (job->scheme == QM_SCHEME_RSASSA)
        return pkcs1_ok(hash, job->digest, em, em_len);
    return job->scheme == QM_SCHEME_RSAPSS && pss_ok(hash, job->digest, em, em_len, bits);
}
