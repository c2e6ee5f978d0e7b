/* What the SHA-256 kernels share: FIPS 180-4's constants, the order in which chains and messages
 * enter the lanes, and the padding of messages.
 *
 * A PCR extend hashes 64 bytes, so it takes two compressions, and the second block is always the
 * same: 0x80, zeros, and the length 512. Its message schedule is a constant, and so is K[t] + W[t]:
 * that saves the 48 schedule steps of every second compression.
 *
 * All of it works on public data; nothing needs constant time. */
#ifndef QM_SHA256_H
#define QM_SHA256_H

#include "engine/kernel/kernel.h"

/* Rounds are functions that are always inlined, in loops that are always unrolled (#pragma GCC
 * unroll, which clang knows too). */
#define INLINE static inline __attribute__((always_inline))

/* Not static const: gcc would fold each word into code that broadcasts it through a general
 * register, where a memory operand costs nothing (16 lanes on Zen 4: 117 cycles an extend instead
 * of 106). Each is 64-byte aligned. */
extern const uint32_t qm_sha256_start[8];    /* H(0), 5.3.3 */
extern const uint32_t qm_sha256_k[64];       /* K, 4.2.2 */
extern const uint32_t qm_sha256_k_pad64[64]; /* K[t] + W[t] of the padding block after 64 bytes */
extern const uint8_t qm_sha256_zeros[64];    /* what an idle lane hashes */

/* ---- feed: the longest first --------------------------------------------------------------------
 *
 * Lanes take their items from a feed. It sorts a window of items at a time, so that its memory is
 * bounded; lanes keep working across windows. Starting with the longest leaves the short ones to
 * fill the end, where lanes would stand idle. */

enum {
    QM_FEED_WINDOW = 1024,
    QM_FEED_FEW = 16,                               /* up to so many are sorted by insertion */
    QM_FEED_EXACT = 32,                             /* lengths below have a bucket each */
    QM_FEED_BUCKETS = QM_FEED_EXACT + 4 * (32 - 5), /* above: four for each power of two */
};

struct qm_feed {
    const void *items;
    uint32_t (*length)(const void *items, size_t idx); /* 0: the item is left out */
    size_t count;
    size_t window;    /* first item of the next window */
    size_t base;      /* first item of this window */
    uint32_t at, end; /* in order */
    uint16_t order[QM_FEED_WINDOW];
};

static inline void qm_feed_init(struct qm_feed *f, const void *items, size_t count,
                                uint32_t (*length)(const void *items, size_t idx))
{
    f->items = items;
    f->length = length;
    f->count = count;
    f->window = f->base = 0;
    f->at = f->end = 0;
}

/* 0 for the longest lengths, QM_FEED_BUCKETS - 1 for 1 (and for 0). */
static inline uint32_t qm_feed_bucket(uint32_t length)
{
    if (length < QM_FEED_EXACT)
        return QM_FEED_BUCKETS - 1 - (length != 0 ? length - 1 : 0);
    uint32_t power = 31u - (uint32_t)__builtin_clz(length);
    return QM_FEED_BUCKETS - QM_FEED_EXACT - 4 * (power - 5) - (length >> (power - 2) & 3);
}

static inline void qm_feed_sort_few(struct qm_feed *f, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t length = f->length(f->items, f->base + i);
        uint32_t at = f->end;
        if (length == 0)
            continue;
        for (; at > 0 && f->length(f->items, f->base + f->order[at - 1]) < length; at--)
            f->order[at] = f->order[at - 1];
        f->order[at] = (uint16_t)i;
        f->end++;
    }
}

/* By counting. */
static inline void qm_feed_sort_many(struct qm_feed *f, size_t n)
{
    uint16_t start[QM_FEED_BUCKETS + 1] = {0};
    for (size_t i = 0; i < n; i++) {
        uint32_t length = f->length(f->items, f->base + i);
        if (length != 0)
            start[qm_feed_bucket(length) + 1]++;
    }
    for (size_t b = 0; b < QM_FEED_BUCKETS; b++)
        start[b + 1] = (uint16_t)(start[b + 1] + start[b]);
    f->end = start[QM_FEED_BUCKETS];
    for (size_t i = 0; i < n; i++) {
        uint32_t length = f->length(f->items, f->base + i);
        if (length != 0)
            f->order[start[qm_feed_bucket(length)]++] = (uint16_t)i;
    }
}

static inline void qm_feed_sort(struct qm_feed *f)
{
    size_t left = f->count - f->window;
    size_t n = left < QM_FEED_WINDOW ? left : QM_FEED_WINDOW;
    f->base = f->window;
    f->window += n;
    f->at = f->end = 0;
    if (n <= QM_FEED_FEW)
        qm_feed_sort_few(f, n);
    else
        qm_feed_sort_many(f, n);
}

/* The next item; false when all were given out. */
static inline bool qm_feed_next(struct qm_feed *f, size_t *idx)
{
    while (f->at == f->end) {
        if (f->window == f->count)
            return false;
        qm_feed_sort(f);
    }
    *idx = f->base + f->order[f->at++];
    return true;
}

static inline uint32_t qm_chain_length(const void *chains, size_t idx)
{
    return ((const struct qm_chain *)chains)[idx].count;
}

/* ---- prefetch -----------------------------------------------------------------------------------
 *
 * Digests lie where the logs lie, all over the records of a batch. An extend took 27 ns with the
 * records in the second level cache and 36 with them in the third (Zen 4, "shani"); with
 * prefetching 32 to 36. */

static inline void qm_digest_prefetch(const uint8_t *digest)
{
    __builtin_prefetch(digest);
    __builtin_prefetch(digest + 31); /* it may lie across two lines */
}

static inline const struct qm_chain *qm_feed_peek(const struct qm_feed *f,
                                                  const struct qm_chain *chains, uint32_t ahead)
{
    return f->end - f->at > ahead ? &chains[f->base + f->order[f->at + ahead]] : NULL;
}

/* To be called for each chain that is taken. lanes: how many chains can be taken in a row. A chain
 * is fetched in three steps, each when the pointer that it needs has arrived. */
static inline void qm_feed_prefetch(const struct qm_feed *f, const struct qm_chain *chains,
                                    uint32_t lanes)
{
    const struct qm_chain *c;
    if ((c = qm_feed_peek(f, chains, lanes - 1)) != NULL) {
        qm_digest_prefetch(c->digest[0]);
        qm_digest_prefetch(c->digest[c->count > 1]);
    }
    if ((c = qm_feed_peek(f, chains, 2 * lanes - 1)) != NULL)
        __builtin_prefetch(c->digest);
    if ((c = qm_feed_peek(f, chains, 3 * lanes - 1)) != NULL)
        __builtin_prefetch(c);
}

/* ---- stream: a message as blocks of 64 bytes ----------------------------------------------------
 *
 * The blocks that the message fills are read where it lies; the rest and the padding (5.1.1: 0x80,
 * zeros, the length in bits) are one or two blocks of the stream's own. */

struct qm_stream {
    const uint8_t *next; /* the next whole block */
    uint32_t whole;      /* whole blocks left */
    uint32_t left;       /* blocks left, the padded ones included */
    uint8_t *digest;
    uint32_t tail_blocks; /* 1 or 2 */
    uint8_t tail[128];
};

/* Blocks of a message, padding included: at least 1 (len < 2^32). */
static inline uint32_t qm_stream_length(const void *messages, size_t idx)
{
    uint32_t len = ((const struct qm_message *)messages)[idx].len;
    return (uint32_t)(((uint64_t)len + 8) / 64 + 1);
}

static inline void qm_stream_init(struct qm_stream *s, const struct qm_message *m)
{
    uint32_t rest = m->len % 64;
    uint64_t bits = __builtin_bswap64((uint64_t)m->len * 8);
    s->next = m->p;
    s->whole = m->len / 64;
    s->left = qm_stream_length(m, 0);
    s->digest = m->digest;
    s->tail_blocks = s->left - s->whole;
    memset(s->tail, 0, sizeof s->tail);
    if (rest != 0)
        memcpy(s->tail, m->p + (m->len - rest), rest);
    s->tail[rest] = 0x80;
    memcpy(s->tail + 64 * s->tail_blocks - 8, &bits, 8);
}

/* The next block, while left > 0: 64 bytes, which stay valid while the message and the stream do.
 */
static inline const uint8_t *qm_stream_next(struct qm_stream *s)
{
    const uint8_t *block = s->next;
    if (s->whole != 0) {
        s->whole--;
        s->next += 64;
    } else {
        block = s->tail + 64 * (s->tail_blocks - s->left);
    }
    s->left--;
    return block;
}

#endif
