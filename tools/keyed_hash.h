/* A hash for tables whose keys others choose: names of directories and files. Who does not know the key cannot make names that meet in
 * one place, so that each look-up would go through all of them.
 *
 * The bytes are the digits of a number, taken as a polynomial at a secret point, mod 2^61 - 1: two names of up to n bytes meet for n of
 * 2^61 points (Carter and Wegman, 1979). Then a secret line, so that the low bits are as good as all of them. */
#ifndef QM_KEYED_HASH_H
#define QM_KEYED_HASH_H

#include <errno.h>
#include <sys/random.h>

#include "codec/error.h"

struct qm_hash_key {
    uint64_t point, slope, shift; /* below 2^61 - 1 */
};

__extension__ typedef unsigned __int128 qm_u128;
#define QM_HASH_PRIME ((1ull << 61) - 1)

static inline qm_err qm_hash_key_make(struct qm_hash_key *out, struct qm_fault *fault)
{
    if (getrandom(out, sizeof *out, 0) != (ssize_t)sizeof *out)
        return qm_fail(fault, QM_E_IO, errno, "no random bytes");
    out->point = out->point % (QM_HASH_PRIME - 1) + 1;
    out->slope = out->slope % (QM_HASH_PRIME - 1) + 1;
    out->shift %= QM_HASH_PRIME;
    return QM_OK;
}

/* a * b + c mod 2^61 - 1, of numbers below 2^61. */
static inline uint64_t qm_hash_step(uint64_t a, uint64_t b, uint64_t c)
{
    const qm_u128 x = (qm_u128)a * b + c;
    const uint64_t sum = ((uint64_t)x & QM_HASH_PRIME) + (uint64_t)(x >> 61); /* at most 2 * (2^61 - 1) */
    return sum >= QM_HASH_PRIME ? sum - QM_HASH_PRIME : sum;
}

/* Goes on from h (0 to begin with), so that several parts make one hash; n first, so that it matters where one ends. */
static inline uint64_t qm_hash_bytes(const struct qm_hash_key *key, uint64_t h, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    h = qm_hash_step(h, key->point, n + 1);
    for (size_t i = 0; i < n; i++)
        h = qm_hash_step(h, key->point, p[i] + 1u);
    return h;
}

static inline uint64_t qm_hash_end(const struct qm_hash_key *key, uint64_t h)
{
    return qm_hash_step(h, key->slope, key->shift);
}

#endif
