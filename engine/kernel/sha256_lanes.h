/* The lanes of a vector kernel: who is in them, and when the next one enters. The kernel defines
 * LANES before it includes this file, and the two steps declared first, which do one extend or one
 * block in every lane.
 *
 * A lane that ends takes the next chain or message at once, the longest first, so lanes stand idle
 * only when the last are under way. When so few are left that a kernel without lanes is done
 * sooner, that one gets them. */
#ifndef QM_SHA256_LANES_H
#define QM_SHA256_LANES_H

#include "engine/kernel/sha256.h"

typedef uint32_t state[8][LANES]; /* word j of lane l is [j][l]; 64-byte aligned */

/* value <- SHA-256(value || digest) in every lane. */
static void extend_lanes(state value, const uint8_t *const digest[LANES]);
/* value: the state after one more block of 64 bytes in every lane. */
static void block_lanes(state value, const uint8_t *const block[LANES]);

static void lane_load(state value, unsigned lane, const uint8_t bytes[32])
{
    for (unsigned j = 0; j < 8; j++) {
        uint32_t x;
        memcpy(&x, bytes + 4 * j, 4);
        value[j][lane] = __builtin_bswap32(x);
    }
}

static void lane_start(state value, unsigned lane)
{
    for (unsigned j = 0; j < 8; j++)
        value[j][lane] = qm_sha256_start[j];
}

static void lane_store(state value, unsigned lane, uint8_t bytes[32])
{
    for (unsigned j = 0; j < 8; j++) {
        uint32_t x = __builtin_bswap32(value[j][lane]);
        memcpy(bytes + 4 * j, &x, 4);
    }
}

/* ---- chains ------------------------------------------------------------------------------ */

/* Who takes the chains and messages that are too few for the lanes. */
struct rest {
    const struct qm_hash_kernel *kernel;
    unsigned extends; /* that it does while the lanes do one each */
    size_t messages;  /* fewer than these it hashes faster */
};

struct chain_lanes {
    _Alignas(64) state value;
    const uint8_t *const *next[LANES];
    uint32_t left[LANES];
    struct qm_chain *chain[LANES];
    unsigned busy; /* bit l: lane l has a chain */
};

/* Gives every idle lane the next chain; false when there are no more. */
static bool chain_lanes_fill(struct chain_lanes *c, struct qm_feed *feed, struct qm_chain *chains)
{
    for (unsigned idle = ~c->busy & ((1u << LANES) - 1); idle != 0; idle &= idle - 1) {
        unsigned l = (unsigned)__builtin_ctz(idle);
        size_t idx;
        if (!qm_feed_next(feed, &idx))
            return false;
        qm_feed_prefetch(feed, chains, LANES);
        c->chain[l] = &chains[idx];
        c->next[l] = chains[idx].digest;
        c->left[l] = chains[idx].count;
        lane_load(c->value, l, chains[idx].value);
        c->busy |= 1u << l;
    }
    return true;
}

/* Steps until the first of the busy lanes ends. */
static uint32_t chain_lanes_run(struct chain_lanes *c, struct qm_lane_use *use)
{
    uint32_t steps = UINT32_MAX;
    const uint8_t *digest[LANES];
    for (unsigned busy = c->busy; busy != 0; busy &= busy - 1) {
        unsigned l = (unsigned)__builtin_ctz(busy);
        if (c->left[l] < steps)
            steps = c->left[l];
    }
    for (unsigned l = 0; l < LANES; l++)
        digest[l] = qm_sha256_zeros;
    for (uint32_t i = 0; i < steps; i++) {
        for (unsigned busy = c->busy; busy != 0; busy &= busy - 1) {
            unsigned l = (unsigned)__builtin_ctz(busy);
            digest[l] = c->next[l][i];
            if (i + 1 < c->left[l])
                qm_digest_prefetch(c->next[l][i + 1]);
        }
        extend_lanes(c->value, digest);
    }
    use->steps += (uint64_t)steps * LANES;
    use->filled += (uint64_t)steps * (unsigned)__builtin_popcount(c->busy);
    return steps;
}

/* Takes steps off the busy lanes, and out of them what has ended. */
static void chain_lanes_end(struct chain_lanes *c, uint32_t steps)
{
    for (unsigned busy = c->busy; busy != 0; busy &= busy - 1) {
        unsigned l = (unsigned)__builtin_ctz(busy);
        c->next[l] += steps;
        c->left[l] -= steps;
        if (c->left[l] == 0) {
            lane_store(c->value, l, c->chain[l]->value);
            c->busy &= ~(1u << l);
        }
    }
}

/* Would the rest kernel be done with what is left before the lanes are? */
static bool rest_is_faster(const struct chain_lanes *c, const struct rest *rest)
{
    uint64_t sum = 0, longest = 0;
    for (unsigned busy = c->busy; busy != 0; busy &= busy - 1) {
        uint32_t left = c->left[__builtin_ctz(busy)];
        sum += left;
        longest = left > longest ? left : longest;
    }
    return sum <= longest * rest->extends;
}

static void chain_lanes_give(struct chain_lanes *c, const struct rest *rest,
                             struct qm_lane_use *use)
{
    struct qm_chain chain[LANES];
    size_t count = 0;
    for (unsigned busy = c->busy; busy != 0; busy &= busy - 1) {
        unsigned l = (unsigned)__builtin_ctz(busy);
        chain[count] = (struct qm_chain){.digest = c->next[l], .count = c->left[l]};
        lane_store(c->value, l, chain[count++].value);
    }
    rest->kernel->extend(chain, count, use);
    count = 0;
    for (unsigned busy = c->busy; busy != 0; busy &= busy - 1)
        memcpy(c->chain[__builtin_ctz(busy)]->value, chain[count++].value, 32);
    c->busy = 0;
}

INLINE void extend_with(struct qm_chain *chains, size_t count, struct qm_lane_use *use,
                        const struct rest *rest)
{
    struct chain_lanes c = {.busy = 0};
    struct qm_feed feed;
    bool more = true;
    qm_feed_init(&feed, chains, count, qm_chain_length);
    for (;;) {
        more = more && chain_lanes_fill(&c, &feed, chains);
        if (c.busy == 0)
            return;
        if (!more && rest_is_faster(&c, rest))
            chain_lanes_give(&c, rest, use);
        else
            chain_lanes_end(&c, chain_lanes_run(&c, use));
    }
}

/* ---- messages ---------------------------------------------------------------------------- */

INLINE void digest_with(const struct qm_message *messages, size_t count, const struct rest *rest)
{
    _Alignas(64) state value = {{0}};
    struct qm_stream stream[LANES];
    struct qm_feed feed;
    unsigned busy = 0;
    bool more = true;
    if (count < rest->messages) {
        rest->kernel->digest(messages, count);
        return;
    }
    qm_feed_init(&feed, messages, count, qm_stream_length);
    for (;;) {
        const uint8_t *block[LANES];
        for (unsigned l = 0; l < LANES; l++) {
            size_t idx;
            if ((busy >> l & 1) == 0 && more && (more = qm_feed_next(&feed, &idx))) {
                qm_stream_init(&stream[l], &messages[idx]);
                lane_start(value, l);
                busy |= 1u << l;
            }
            block[l] = (busy >> l & 1) != 0 ? qm_stream_next(&stream[l]) : qm_sha256_zeros;
        }
        if (busy == 0)
            return;
        block_lanes(value, block);
        for (unsigned b = busy; b != 0; b &= b - 1) {
            unsigned l = (unsigned)__builtin_ctz(b);
            if (stream[l].left == 0) {
                lane_store(value, l, stream[l].digest);
                busy &= ~(1u << l);
            }
        }
    }
}

#endif
