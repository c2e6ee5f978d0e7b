/* Every choice that gen makes comes from here: a function of seed, unit (a machine), purpose and
 * counter, and of nothing else. So a fleet is the same whatever the number of workers, and a
 * machine's nature never depends on the round. No secret is made this way: keys come from the
 * system's random source. */
#ifndef QM_GEN_RAND_H
#define QM_GEN_RAND_H

#include "codec/base.h"

enum qm_gen_purpose {
    QM_FOR_IMAGE = 1,
    QM_FOR_REGION,
    QM_FOR_RACK,
    QM_FOR_AGENT,
    QM_FOR_TAMPER,       /* is the machine among the tampered ones? */
    QM_FOR_TAMPER_EVENT, /* which event */
    QM_FOR_TAMPER_VALUE, /* and what it becomes */
    QM_FOR_UPDATE,
    QM_FOR_BIRTH, /* clock and counts before the first round */
    QM_FOR_PARENT,
    QM_FOR_PATCH,           /* + enum qm_gen_patch_kind */
    QM_FOR_DIGEST = 64,     /* + a number of the event */
    QM_FOR_ROUND = 1 << 20, /* + the round */
};

/* The finalizer of splitmix64: a bijection in which every input bit moves about half of the output.
 */
static inline uint64_t qm_gen_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static inline uint64_t qm_gen_u64(uint64_t seed, uint64_t unit, uint64_t purpose, uint64_t counter)
{
    return qm_gen_mix(qm_gen_mix(qm_gen_mix(qm_gen_mix(seed) ^ unit) ^ purpose) ^ counter);
}

static inline void qm_gen_fill(uint64_t seed, uint64_t unit, uint64_t purpose, void *to, size_t len)
{
    uint8_t *p = to;
    for (uint64_t i = 0; len != 0; i++) {
        uint64_t v = qm_gen_u64(seed, unit, purpose, i);
        size_t n = len < sizeof v ? len : sizeof v;
        memcpy(p, &v, n);
        p += n;
        len -= n;
    }
}

#endif
