/* The SHA-256 kernels against OpenSSL: chains and messages of every length, in every lane, next to
 * neighbours of other lengths. QM_CASES is about how many extends and how many messages each kernel
 * is tried on; QM_SEED repeats a run. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <criterion/criterion.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "engine/kernel/sha256.h"

enum {
    COUNT_MAX = 200,
    EXTEND_MAX = 300,
    POOL_BYTES = 1 << 16,
    LANES_MAX = 16,
    LONG_BYTES = 4096,
    LENGTH_MAX = 600,
    BATCH_MAX = 70,
};

static uint64_t seed;
static uint64_t rng_state;
static uint64_t cases;
static uint8_t pool[POOL_BYTES];

/* splitmix64 */
static uint64_t rng(void)
{
    uint64_t z = rng_state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static uint32_t below(uint32_t n)
{
    return (uint32_t)(rng() >> 32) % n;
}

/* Bytes of one bit density after the other: zeros, sparse, even, dense, ones; or anew for each word of
 * 32 bits. */
static void fill(uint8_t *p, size_t len)
{
    unsigned density = below(6), each = density;
    for (size_t i = 0; i < len; i++) {
        if (each == 5 && i % 4 == 0)
            density = below(5);
        uint64_t r = rng();
        uint8_t a = (uint8_t)r, b = (uint8_t)(r >> 8), c = (uint8_t)(r >> 16);
        p[i] = density == 0   ? 0
               : density == 1 ? a & b & c
               : density == 2 ? a
               : density == 3 ? a | b | c
                              : 0xff;
    }
}

static void setup(void)
{
    const char *text = getenv("QM_SEED");
    if (text != NULL)
        seed = strtoull(text, NULL, 0);
    else if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
        abort();
    rng_state = seed;
    text = getenv("QM_CASES");
    cases = text != NULL ? strtoull(text, NULL, 0) : 20000;
    fprintf(stderr, "seed 0x%016llx, %llu cases\n", (unsigned long long)seed,
            (unsigned long long)cases);
    for (size_t i = 0; i < POOL_BYTES; i += 512)
        fill(pool + i, 512);
}

TestSuite(sha256_lanes, .init = setup);

/* ---- chains ------------------------------------------------------------------------------ */

/* The scalar twin: one extend as the specification has it. */
static void extend_ref(uint8_t value[32], const uint8_t *digest)
{
    uint8_t block[64];
    memcpy(block, value, 32);
    memcpy(block + 32, digest, 32);
    SHA256(block, 64, value);
}

struct chain_set {
    struct qm_chain chain[COUNT_MAX];
    uint8_t start[COUNT_MAX][32];
    uint8_t want[COUNT_MAX][32];
    const uint8_t *digest[COUNT_MAX][EXTEND_MAX];
    size_t count;
    uint64_t extends;
};
static struct chain_set set;

static void chain_add(uint32_t extends)
{
    struct qm_chain *c = &set.chain[set.count];
    const uint8_t **digest = set.digest[set.count];
    fill(set.start[set.count], 32);
    memcpy(c->value, set.start[set.count], 32);
    memcpy(set.want[set.count], set.start[set.count], 32);
    for (uint32_t i = 0; i < extends; i++) {
        digest[i] = pool + below(POOL_BYTES - 32); /* any alignment, sometimes the same */
        extend_ref(set.want[set.count], digest[i]);
    }
    c->digest = extends != 0 ? digest : NULL;
    c->count = extends;
    set.count++;
    set.extends += extends;
}

/* Runs the set through a kernel and leaves it as it was. */
static void chain_check(const struct qm_hash_kernel *k, const char *what)
{
    struct qm_lane_use use = {3, 2};
    k->extend(set.chain, set.count, &use);
    for (size_t i = 0; i < set.count; i++) {
        cr_assert_arr_eq(set.chain[i].value, set.want[i], 32,
                         "%s, %s: chain %zu of %zu (%u extends) is wrong, seed 0x%llx", k->name,
                         what, i, set.count, set.chain[i].count, (unsigned long long)seed);
        memcpy(set.chain[i].value, set.start[i], 32);
    }
    cr_assert_eq(use.filled - 2, set.extends, "%s, %s: filled", k->name, what);
    cr_assert(use.steps - 3 >= set.extends, "%s, %s: steps", k->name, what);
}

static void each_kernel(void (*check)(const struct qm_hash_kernel *, const char *),
                        const char *what)
{
    uint64_t have = qm_cpu_features();
    for (size_t i = 0; i < qm_hash_kernel_count; i++)
        if ((qm_hash_kernels[i]->cpu & ~have) == 0)
            check(qm_hash_kernels[i], what);
}

static void chains_reset(void)
{
    set.count = 0;
    set.extends = 0;
}

Test(sha256_lanes, every_count_of_equal_chains)
{
    for (size_t count = 0; count <= 2 * LANES_MAX + 1; count++)
        for (uint32_t extends = 0; extends <= 3; extends++) {
            chains_reset();
            while (set.count < count)
                chain_add(extends);
            each_kernel(chain_check, "equal chains");
        }
}

/* One chain longer or shorter than the rest, at each place. */
Test(sha256_lanes, one_unequal_chain_in_every_lane)
{
    static const uint32_t lengths[][2] = {{5, 0}, {5, 1}, {5, 17}, {0, 9}, {1, 2}, {40, 33}};
    for (size_t shape = 0; shape < QM_COUNT(lengths); shape++)
        for (size_t place = 0; place < LANES_MAX + 1; place++) {
            chains_reset();
            while (set.count < LANES_MAX + 1)
                chain_add(lengths[shape][set.count == place]);
            each_kernel(chain_check, "one unequal chain");
        }
}

Test(sha256_lanes, random_chains)
{
    for (uint64_t done = 0; done < cases; done += set.extends) {
        size_t count = below(COUNT_MAX + 1);
        unsigned shape = below(6);
        uint32_t same = below(EXTEND_MAX + 1);
        chains_reset();
        while (set.count < count) {
            uint32_t extends = 0;
            switch (shape) {
            case 0: /* as logs have them */
                extends = below(16);
                break;
            case 1: /* equal */
                extends = same;
                break;
            case 2: /* any */
                extends = below(EXTEND_MAX + 1);
                break;
            case 3: /* a long one among short ones */
                extends = below(40) == 0 ? EXTEND_MAX - below(2) : below(3);
                break;
            case 4: /* none among long ones */
                extends = below(3) == 0 ? 0 : 20 + below(30);
                break;
            default: /* halving */
                extends = (uint32_t)EXTEND_MAX >> below(10);
                break;
            }
            chain_add(extends);
        }
        each_kernel(chain_check, "random chains");
        if (set.extends == 0)
            done++;
    }
}

/* More chains than the feed sorts at once. */
Test(sha256_lanes, more_chains_than_a_window)
{
    enum { MANY = 2 * QM_FEED_WINDOW + 37 };
    static struct qm_chain chain[MANY], fresh[MANY];
    static uint8_t want[MANY][32];
    const uint8_t *digest[8];
    for (size_t i = 0; i < QM_COUNT(digest); i++)
        digest[i] = pool + below(POOL_BYTES - 32);
    uint64_t extends = 0;
    for (size_t i = 0; i < MANY; i++) {
        fill(fresh[i].value, 32);
        memcpy(want[i], fresh[i].value, 32);
        fresh[i].digest = digest;
        fresh[i].count = below(9);
        for (uint32_t j = 0; j < fresh[i].count; j++)
            extend_ref(want[i], digest[j]);
        extends += fresh[i].count;
    }
    uint64_t have = qm_cpu_features();
    for (size_t k = 0; k < qm_hash_kernel_count; k++) {
        struct qm_lane_use use = {0, 0};
        if ((qm_hash_kernels[k]->cpu & ~have) != 0)
            continue;
        memcpy(chain, fresh, sizeof chain);
        qm_hash_kernels[k]->extend(chain, MANY, &use);
        for (size_t i = 0; i < MANY; i++)
            cr_assert_arr_eq(chain[i].value, want[i], 32, "%s: chain %zu", qm_hash_kernels[k]->name,
                             i);
        cr_assert_eq(use.filled, extends);
    }
}

/* ---- messages ---------------------------------------------------------------------------- */

struct message_set {
    struct qm_message message[BATCH_MAX];
    uint8_t digest[BATCH_MAX][33]; /* one byte more: nothing may be written there */
    uint8_t want[BATCH_MAX][32];
    size_t count;
};
static struct message_set texts;

static void message_add(uint32_t len)
{
    struct qm_message *m = &texts.message[texts.count];
    m->p = len != 0 ? pool + below(POOL_BYTES - len) : NULL;
    m->len = len;
    m->digest = texts.digest[texts.count];
    SHA256(m->p, len, texts.want[texts.count]);
    texts.count++;
}

static void message_check(const struct qm_hash_kernel *k, const char *what)
{
    memset(texts.digest, 0xa5, sizeof texts.digest);
    k->digest(texts.message, texts.count);
    for (size_t i = 0; i < texts.count; i++) {
        cr_assert_arr_eq(texts.digest[i], texts.want[i], 32,
                         "%s, %s: message %zu of %zu (%u bytes) is wrong, seed 0x%llx", k->name,
                         what, i, texts.count, texts.message[i].len, (unsigned long long)seed);
        cr_assert_eq(texts.digest[i][32], 0xa5, "%s, %s: wrote past a digest", k->name, what);
    }
}

Test(sha256_lanes, every_length)
{
    for (uint32_t len = 0; len <= LENGTH_MAX; len++) {
        texts.count = 0;
        while (texts.count < LANES_MAX + 3)
            message_add(len);
        each_kernel(message_check, "every length");
    }
    static const uint32_t lengths[] = {4095, 4096, 4097, 8191, 8192};
    for (size_t i = 0; i < QM_COUNT(lengths); i++) {
        texts.count = 0;
        while (texts.count < LANES_MAX + 3)
            message_add(lengths[i]);
        each_kernel(message_check, "long messages");
    }
}

Test(sha256_lanes, every_count)
{
    for (size_t count = 0; count <= BATCH_MAX; count++) {
        texts.count = 0;
        while (texts.count < count)
            message_add(below(400));
        each_kernel(message_check, "every count");
    }
}

Test(sha256_lanes, one_unequal_message_in_every_lane)
{
    static const uint32_t lengths[][2] = {{145, 0}, {145, 4096}, {36, 320}, {55, 56}, {64, 63}};
    for (size_t shape = 0; shape < QM_COUNT(lengths); shape++)
        for (size_t place = 0; place < LANES_MAX + 1; place++) {
            texts.count = 0;
            while (texts.count < LANES_MAX + 1)
                message_add(lengths[shape][texts.count == place]);
            each_kernel(message_check, "one unequal message");
        }
}

Test(sha256_lanes, random_messages)
{
    for (uint64_t done = 0; done < cases; done += texts.count + 1) {
        size_t count = below(BATCH_MAX + 1);
        unsigned shape = below(4);
        uint32_t same = below(LENGTH_MAX + 1);
        texts.count = 0;
        while (texts.count < count)
            message_add(shape == 0   ? same
                        : shape == 1 ? 100 + below(221)
                        : shape == 2 ? below(LENGTH_MAX + 1)
                                     : (below(20) == 0 ? LONG_BYTES - below(70) : below(101)));
        each_kernel(message_check, "random messages");
    }
}

/* ---- bounds ------------------------------------------------------------------------------ */

/* Everything in memory of exactly its size, for the address sanitizer to watch. */
Test(sha256_lanes, reads_only_what_is_there)
{
    enum { COUNT = 2 * LANES_MAX + 1 };
    struct qm_chain *chain = malloc(COUNT * sizeof *chain);
    struct qm_message *message = malloc(COUNT * sizeof *message);
    uint64_t have = qm_cpu_features();
    for (uint32_t i = 0; i < COUNT; i++) {
        uint32_t count = 1 + i % 7;
        const uint8_t **digest = malloc(count * sizeof *digest);
        for (uint32_t j = 0; j < count; j++)
            digest[j] = memcpy(malloc(32), pool + 32 * j, 32);
        chain[i] = (struct qm_chain){.digest = digest, .count = count};
        uint32_t len = 1 + 5 * i;
        message[i] = (struct qm_message){memcpy(malloc(len), pool, len), len, malloc(32)};
    }
    for (size_t k = 0; k < qm_hash_kernel_count; k++) {
        struct qm_lane_use use = {0, 0};
        if ((qm_hash_kernels[k]->cpu & ~have) != 0)
            continue;
        for (size_t count = 1; count <= COUNT; count++) {
            qm_hash_kernels[k]->extend(chain + COUNT - count, count, &use);
            qm_hash_kernels[k]->digest(message + COUNT - count, count);
        }
        for (size_t i = 0; i < COUNT; i++) {
            uint8_t want[32];
            SHA256(message[i].p, message[i].len, want);
            cr_assert_arr_eq(message[i].digest, want, 32, "%s", qm_hash_kernels[k]->name);
        }
    }
    for (size_t i = 0; i < COUNT; i++) {
        for (uint32_t j = 0; j < chain[i].count; j++)
            free((void *)(uintptr_t)chain[i].digest[j]);
        free((void *)(uintptr_t)chain[i].digest);
        free((void *)(uintptr_t)message[i].p);
        free(message[i].digest);
    }
    free(chain);
    free(message);
}

/* ---- choice, constants and order --------------------------------------------------------- */

/* Where the SHA unit outruns the lanes, it is chosen, unless only others are allowed. */
Test(sha256_lanes, the_faster_one_is_chosen)
{
    uint64_t have = qm_cpu_features();
    struct qm_kernels k;
    cr_assert_eq(qm_kernels_choose(&k, NULL, NULL), QM_OK);
    if ((have & QM_CPU_FASTSHA) != 0)
        cr_assert_str_eq(k.sha256->name, "shani");
    else
        cr_assert_eq(k.sha256->cpu & ~have, 0);
    for (size_t i = 0; i < qm_hash_kernel_count; i++) {
        if ((qm_hash_kernels[i]->cpu & ~have) != 0)
            continue;
        cr_assert_eq(qm_kernels_choose(&k, qm_hash_kernels[i]->name, NULL), QM_OK);
        cr_assert_eq(k.sha256, qm_hash_kernels[i]);
    }
}

/* K + W of the padding block, from K and the schedule as FIPS 180-4, 6.2.2 has it. */
Test(sha256_lanes, padding_constants)
{
    uint32_t w[64] = {[0] = 0x80000000, [15] = 512};
    for (size_t t = 16; t < 64; t++) {
        uint32_t a = w[t - 15], b = w[t - 2];
        w[t] = w[t - 16] + w[t - 7] + ((a >> 7 | a << 25) ^ (a >> 18 | a << 14) ^ a >> 3) +
               ((b >> 17 | b << 15) ^ (b >> 19 | b << 13) ^ b >> 10);
    }
    for (size_t t = 0; t < 64; t++)
        cr_assert_eq(qm_sha256_k_pad64[t], qm_sha256_k[t] + w[t]);
}

Test(sha256_lanes, feed_is_complete_and_descending)
{
    enum { MANY = QM_FEED_WINDOW };
    static struct qm_chain chain[MANY];
    static bool seen[MANY];
    struct qm_feed feed;
    for (unsigned round = 0; round < 20; round++) {
        uint32_t last = QM_FEED_BUCKETS;
        size_t given = 0, some = 0, idx;
        for (size_t i = 0; i < MANY; i++) {
            chain[i].count = (uint32_t)(rng() >> (32 + below(32)));
            if (i < 4)
                chain[i].count = (uint32_t[]){0, 1, UINT32_MAX, QM_FEED_EXACT}[i];
            some += chain[i].count != 0;
        }
        memset(seen, 0, sizeof seen);
        qm_feed_init(&feed, chain, MANY, qm_chain_length);
        for (; qm_feed_next(&feed, &idx); given++) {
            uint32_t rank = QM_FEED_BUCKETS - qm_feed_bucket(chain[idx].count);
            cr_assert(idx < MANY && !seen[idx] && chain[idx].count != 0);
            cr_assert(rank <= last);
            seen[idx] = true;
            last = rank;
        }
        cr_assert_eq(given, some);
    }
}
