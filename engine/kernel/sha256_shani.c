/* SHA-256 with the SHA extensions ("shani"): four chains or messages at a time.
 *
 * Formula:      sha256rnds2 does two rounds, sha256msg1 and sha256msg2 make four words of the
 *               schedule (Intel SDM volume 2). Its state is two registers: ABEF, A in the highest
 *               word, and CDGH.
 * Lanes:        four chains in two pairs. sha256rnds2 depends on the one before it (4 cycles), so
 *               one chain alone leaves the unit idle. The pairs are half an extend apart: while one
 *               is in its first block, which also makes a schedule, the other is in its second,
 *               whose schedule is constant. So the load is even, and two schedules are all that
 *               must be in registers.
 * Precondition: none; digests and messages lie at any alignment, chains have any length.
 * Memory:       at most 5 KiB of stack, for the feed and the lanes.
 * Constant time: no; all inputs are public.
 *
 * Zen 4 at 3.69 GHz, gcc 12, cycles an extend: 90 for long chains, 97 for chains of 8. The bound
 * is 88: the unit takes 64 sha256rnds2 at one a cycle and 12 sha256msg2 at two cycles each. Four
 * chains in step: 98; three 107, two 138, one 264. clang 14 spills more: 100. Schedules made by
 * vector instructions beside the rounds, in place of sha256msg2, were slower (101). */
#include "engine/kernel/sha256.h"

#include <immintrin.h>

struct state {
    __m128i abef, cdgh;
};

INLINE __m128i load(const void *p)
{
    return _mm_loadu_si128((const __m128i *)p);
}

/* Between big-endian bytes and words; its own inverse. */
INLINE __m128i swap_bytes(__m128i x)
{
    return _mm_shuffle_epi8(x, _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3));
}

/* Words a b c d and e f g h, the first in the lowest place, to ABEF and CDGH. */
INLINE struct state pack(__m128i abcd, __m128i efgh)
{
    __m128i badc = _mm_shuffle_epi32(abcd, 0xb1);
    __m128i hgfe = _mm_shuffle_epi32(efgh, 0x1b);
    return (struct state){_mm_alignr_epi8(badc, hgfe, 8), _mm_blend_epi16(hgfe, badc, 0xf0)};
}

INLINE void unpack(struct state s, __m128i *abcd, __m128i *efgh)
{
    __m128i abef = _mm_shuffle_epi32(s.abef, 0x1b); /* f e b a, from the highest place */
    __m128i cdgh = _mm_shuffle_epi32(s.cdgh, 0xb1); /* d c h g */
    *abcd = _mm_blend_epi16(abef, cdgh, 0xf0);
    *efgh = _mm_alignr_epi8(cdgh, abef, 8);
}

INLINE struct state start_state(void)
{
    return pack(load(qm_sha256_start), load(qm_sha256_start + 4));
}

INLINE struct state add(struct state a, struct state b)
{
    return (struct state){_mm_add_epi32(a.abef, b.abef), _mm_add_epi32(a.cdgh, b.cdgh)};
}

/* Rounds 4q to 4q+3 of a block, q = 0 .. 15. w[(q + i) & 3] holds words 4(q + i) .. 4(q + i) + 3 of
 * the schedule for i = 0 .. 3; the first of the four is replaced by the one that follows the last
 * (6.2.2, step 1), while it is needed. */
INLINE void four_rounds(struct state *s, __m128i w[4], unsigned q)
{
    __m128i wk = _mm_add_epi32(w[q & 3], load(qm_sha256_k + 4 * q));
    s->cdgh = _mm_sha256rnds2_epu32(s->cdgh, s->abef, wk);
    s->abef = _mm_sha256rnds2_epu32(s->abef, s->cdgh, _mm_shuffle_epi32(wk, 0x0e));
    if (q < 12) {
        __m128i w9 = _mm_alignr_epi8(w[(q + 3) & 3], w[(q + 2) & 3], 4);
        __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(w[q & 3], w[(q + 1) & 3]), w9);
        w[q & 3] = _mm_sha256msg2_epu32(sum, w[(q + 3) & 3]);
    }
}

/* The same for the padding block of an extend. */
INLINE void four_rounds_pad(struct state *s, unsigned q)
{
    __m128i wk = load(qm_sha256_k_pad64 + 4 * q);
    s->cdgh = _mm_sha256rnds2_epu32(s->cdgh, s->abef, wk);
    s->abef = _mm_sha256rnds2_epu32(s->abef, s->cdgh, _mm_shuffle_epi32(wk, 0x0e));
}

/* ---- chains ------------------------------------------------------------------------------ */

struct lane {
    const uint8_t *const *next;
    uint32_t left;          /* extends, the one under way included */
    struct qm_chain *chain; /* NULL: idle */
};

enum { AHEAD = 2 }; /* extends between the prefetch of a digest and its use */

static const uint8_t *const idle_digest[1 + AHEAD] = {qm_sha256_zeros, qm_sha256_zeros,
                                                      qm_sha256_zeros};

/* The lanes of one call. Their states are beside them, in registers: between extends the PCR's
 * value, between the blocks of one the state after the first. */
struct chain_lanes {
    struct lane lane[4]; /* the pairs are 0, 1 and 2, 3 */
    unsigned busy;
    struct qm_chain *chains;
    struct qm_lane_use *use;
    struct qm_feed feed;
};

/* Gives the lane its next chain, or none. */
static void lane_fill(struct chain_lanes *c, struct lane *l, struct state *s)
{
    size_t idx;
    *l = (struct lane){idle_digest, UINT32_MAX, NULL};
    if (!qm_feed_next(&c->feed, &idx))
        return;
    qm_feed_prefetch(&c->feed, c->chains, 4);
    l->chain = &c->chains[idx];
    l->next = l->chain->digest;
    l->left = l->chain->count;
    *s = pack(swap_bytes(load(l->chain->value)), swap_bytes(load(l->chain->value + 16)));
    c->busy++;
}

/* The lane's chain is done. */
static __attribute__((noinline)) struct state lane_end(struct chain_lanes *c, struct lane *l,
                                                       struct state s)
{
    __m128i abcd, efgh;
    if (l->chain != NULL) {
        unpack(s, &abcd, &efgh);
        _mm_storeu_si128((__m128i *)l->chain->value, swap_bytes(abcd));
        _mm_storeu_si128((__m128i *)(l->chain->value + 16), swap_bytes(efgh));
        c->use->filled += l->chain->count;
        c->busy--;
    }
    lane_fill(c, l, &s);
    return s;
}

/* A pair has done an extend: on to the next one, or to the next chain. */
INLINE void turn(struct chain_lanes *c, struct lane l[2], struct state s[2])
{
    c->use->steps += 2;
#pragma GCC unroll 16
    for (unsigned i = 0; i < 2; i++) {
        l[i].next += l[i].chain != NULL;
        if (QM_UNLIKELY(--l[i].left == 0))
            s[i] = lane_end(c, &l[i], s[i]);
        qm_digest_prefetch(l[i].next[l[i].left > AHEAD ? AHEAD : l[i].left - 1]);
    }
}

struct first_block {
    struct state s;
    __m128i w[4];
};

/* The first block of an extend: the value, then the digest. */
INLINE struct first_block first_begin(const struct lane *l, struct state value)
{
    const uint8_t *digest = *l->next;
    struct first_block f = {.s = start_state()};
    unpack(value, &f.w[0], &f.w[1]);
    f.w[2] = swap_bytes(load(digest));
    f.w[3] = swap_bytes(load(digest + 16));
    return f;
}

/* Pair p, with states s, does its first block; pair q, with states t, does its second. */
INLINE void first_and_second(const struct lane p[2], struct state s[2], struct state t[2])
{
    struct first_block f0 = first_begin(&p[0], s[0]), f1 = first_begin(&p[1], s[1]);
    struct state q0 = t[0], q1 = t[1];
#pragma GCC unroll 16
    for (unsigned i = 0; i < 16; i++) {
        four_rounds(&f0.s, f0.w, i);
        four_rounds_pad(&q0, i);
        four_rounds(&f1.s, f1.w, i);
        four_rounds_pad(&q1, i);
    }
    s[0] = add(f0.s, start_state());
    s[1] = add(f1.s, start_state());
    t[0] = add(q0, t[0]);
    t[1] = add(q1, t[1]);
}

INLINE void first(const struct lane p[2], struct state s[2])
{
    struct first_block f0 = first_begin(&p[0], s[0]), f1 = first_begin(&p[1], s[1]);
#pragma GCC unroll 16
    for (unsigned i = 0; i < 16; i++) {
        four_rounds(&f0.s, f0.w, i);
        four_rounds(&f1.s, f1.w, i);
    }
    s[0] = add(f0.s, start_state());
    s[1] = add(f1.s, start_state());
}

INLINE void second(struct state t[2])
{
    struct state q0 = t[0], q1 = t[1];
#pragma GCC unroll 16
    for (unsigned i = 0; i < 16; i++) {
        four_rounds_pad(&q0, i);
        four_rounds_pad(&q1, i);
    }
    t[0] = add(q0, t[0]);
    t[1] = add(q1, t[1]);
}

/* While three or four lanes are busy: all four, the pairs half an extend apart. */
static void extend_four(struct chain_lanes *c, struct state state[4])
{
    struct state a[2] = {state[0], state[1]}, b[2] = {state[2], state[3]};
    first(c->lane, a);
    do {
        first_and_second(c->lane + 2, b, a);
        turn(c, c->lane, a);
        first_and_second(c->lane, a, b);
        turn(c, c->lane + 2, b);
    } while (c->busy > 2);
    second(a);
    turn(c, c->lane, a);
    memcpy(state, a, sizeof a);
    memcpy(state + 2, b, sizeof b);
}

/* The one or two chains that are left, in step. */
static void extend_two(struct chain_lanes *c, struct state state[2])
{
    struct state a[2] = {state[0], state[1]};
    while (c->busy > 0) {
        first(c->lane, a);
        second(a);
        turn(c, c->lane, a);
    }
}

static void extend(struct qm_chain *chains, size_t count, struct qm_lane_use *use)
{
    struct chain_lanes c = {.busy = 0, .chains = chains, .use = use};
    struct state state[4];
    qm_feed_init(&c.feed, chains, count, qm_chain_length);
    for (unsigned i = 0; i < 4; i++) {
        state[i] = start_state(); /* idle lanes compute, too */
        lane_fill(&c, &c.lane[i], &state[i]);
    }
    if (c.busy > 2)
        extend_four(&c, state);
    for (unsigned i = 2; i < 4; i++) {
        unsigned to = c.lane[0].chain == NULL ? 0 : 1;
        if (c.lane[i].chain != NULL) {
            c.lane[to] = c.lane[i];
            state[to] = state[i];
        }
    }
    extend_two(&c, state);
}

/* ---- messages ---------------------------------------------------------------------------- */

struct hash_lane {
    struct state value;
    struct qm_stream stream;
};

/* One block of each of n lanes, n = 1, 2 or 4. */
INLINE void blocks(struct hash_lane *const *lane, unsigned n)
{
    struct state s[4];
    __m128i w[4][4];
#pragma GCC unroll 16
    for (unsigned i = 0; i < n; i++) {
        const uint8_t *block = qm_stream_next(&lane[i]->stream);
#pragma GCC unroll 16
        for (unsigned j = 0; j < 4; j++)
            w[i][j] = swap_bytes(load(block + 16 * j));
        s[i] = lane[i]->value;
    }
#pragma GCC unroll 16
    for (unsigned q = 0; q < 16; q++) {
#pragma GCC unroll 16
        for (unsigned i = 0; i < n; i++)
            four_rounds(&s[i], w[i], q);
    }
#pragma GCC unroll 16
    for (unsigned i = 0; i < n; i++)
        lane[i]->value = add(s[i], lane[i]->value);
}

static void blocks_4(struct hash_lane *const *lane)
{
    blocks(lane, 4);
}

static void blocks_2(struct hash_lane *const *lane)
{
    blocks(lane, 2);
}

static void blocks_1(struct hash_lane *const *lane)
{
    blocks(lane, 1);
}

static bool hash_lane_fill(struct hash_lane *l, struct qm_feed *feed,
                           const struct qm_message *messages)
{
    size_t idx;
    if (!qm_feed_next(feed, &idx))
        return false;
    l->value = start_state();
    qm_stream_init(&l->stream, &messages[idx]);
    return true;
}

static void hash_lane_store(const struct hash_lane *l)
{
    __m128i abcd, efgh;
    unpack(l->value, &abcd, &efgh);
    _mm_storeu_si128((__m128i *)l->stream.digest, swap_bytes(abcd));
    _mm_storeu_si128((__m128i *)(l->stream.digest + 16), swap_bytes(efgh));
}

static void digest(const struct qm_message *messages, size_t count)
{
    struct hash_lane room[4];
    struct hash_lane *lane[4] = {&room[0], &room[1], &room[2], &room[3]}; /* the busy ones first */
    struct qm_feed feed;
    unsigned busy = 0;
    qm_feed_init(&feed, messages, count, qm_stream_length);
    while (busy < 4 && hash_lane_fill(lane[busy], &feed, messages))
        busy++;
    while (busy > 0) {
        if (busy == 4)
            blocks_4(lane);
        else if (busy >= 2)
            blocks_2(lane);
        if (busy % 2 != 0)
            blocks_1(lane + (busy - 1));
        for (unsigned i = busy; i-- > 0;) {
            if (lane[i]->stream.left != 0)
                continue;
            hash_lane_store(lane[i]);
            if (!hash_lane_fill(lane[i], &feed, messages)) {
                struct hash_lane *idle = lane[i];
                lane[i] = lane[--busy];
                lane[busy] = idle;
            }
        }
    }
}

const struct qm_hash_kernel qm_hash_shani = {
    .name = "shani",
    .cpu = QM_CPU_SHA,
    .lanes = 4,
    .extend = extend,
    .digest = digest,
};
