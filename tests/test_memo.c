/* The memo of PCR chains: whatever it is asked, in whatever order, a chain ends with the value that computing it gives. Chains are
 * made to be taken for each other: equal prints, equal beginnings, one byte that differs anywhere. QM_SEED sets the seed. */
#include <criterion/criterion.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/memo.h"
#include "tests/craft.h"

enum { CHAINS = 300, EXTENDS_MAX = QM_MEMO_CHAIN_MAX + 1, VOCABULARY = 64, BEFORE_MAX = 8 };

struct asked {
    uint8_t start[32];
    uint32_t count;
    const uint8_t *digest[EXTENDS_MAX];
};

static struct asked asked[CHAINS];
static struct qm_chain chain[CHAINS];
static uint64_t print[CHAINS];
static uint8_t word[VOCABULARY][32];
static uint64_t rng;
static struct qm_memo *memo;

static uint32_t below(uint32_t n)
{
    return (uint32_t)(craft_random(&rng) % n);
}

static void begin(const char *test)
{
    rng = craft_seed(test);
    free(memo);
    void *mem = aligned_alloc(QM_CACHE_LINE, qm_memo_size());
    MUST(mem != NULL);
    memset(mem, 0xa5, qm_memo_size());
    qm_memo_init(&memo, mem);
    /* half of the words differ from another in one byte that the print does not see */
    for (size_t i = 0; i < VOCABULARY; i++) {
        for (size_t j = 0; j < 32; j++)
            word[i][j] = (uint8_t)craft_random(&rng);
        if (i % 2 != 0) {
            memcpy(word[i], word[i - 1], 32);
            word[i][below(24)] ^= (uint8_t)(1 + below(255));
        }
    }
}

static void fresh(struct asked *a)
{
    static const uint32_t odd[] = {0, 1, QM_MEMO_CHAIN_MAX - 1, QM_MEMO_CHAIN_MAX, QM_MEMO_CHAIN_MAX + 1};
    memset(a->start, below(2) != 0 ? 0xff : 0, 32);
    a->start[31] = (uint8_t)below(2);
    a->count = below(100) == 0 ? odd[below(QM_COUNT(odd))] : below(40);
    for (uint32_t i = 0; i < a->count; i++)
        a->digest[i] = word[below(VOCABULARY)];
}

/* Nearly the one before: a word for its twin, two that change places, one more or less, another start. */
static void vary(struct asked *a, const struct asked *of)
{
    *a = *of;
    if (a->count < 2)
        return;
    uint32_t at = below(2) != 0 ? a->count - 1 : below(a->count);
    size_t w = (size_t)(a->digest[at] - word[0]) / 32;
    const uint8_t *other = a->digest[(at + 1) % a->count];
    switch (below(16)) {
    case 0:
        a->digest[at] = word[w ^ 1];
        break;
    case 1:
        a->digest[(at + 1) % a->count] = a->digest[at];
        a->digest[at] = other;
        break;
    case 2:
        a->count--;
        break;
    case 3:
        a->start[below(32)] ^= 1;
        break;
    default: /* the same once more */
        break;
    }
}

static void compute(const struct asked *a, uint8_t value[32])
{
    uint8_t block[64];
    memcpy(value, a->start, 32);
    for (uint32_t i = 0; i < a->count; i++) {
        memcpy(block, value, 32);
        memcpy(block + 32, a->digest[i], 32);
        SHA256(block, 64, value);
    }
}

/* As a replay does it. Gives the extends that were saved. */
static uint64_t run(size_t count)
{
    struct qm_lane_use use = {0};
    uint64_t extends = 0, saved = 0;
    for (size_t i = 0; i < count; i++) {
        chain[i] = (struct qm_chain){.digest = asked[i].digest, .count = asked[i].count};
        memcpy(chain[i].value, asked[i].start, 32);
        print[i] = qm_memo_print(&chain[i]);
        extends += asked[i].count;
    }
    bool awake = qm_memo_awake(memo);
    if (awake)
        saved = qm_memo_recall(memo, chain, count);
    qm_hash_openssl.extend(chain, count, &use);
    cr_assert_eq(use.filled + saved, extends);
    if (awake)
        qm_memo_learn(memo);
    qm_memo_account(memo, count, extends);
    for (size_t i = 0; i < count; i++) {
        uint8_t want[32];
        compute(&asked[i], want);
        cr_assert_arr_eq(chain[i].value, want, 32, "chain %zu of %zu, %u extends", i, count, asked[i].count);
    }
    return saved;
}

Test(memo, never_another_value)
{
    static struct asked before[BEFORE_MAX];
    uint64_t saved = 0;
    begin("memo, never_another_value");
    for (size_t i = 0; i < BEFORE_MAX; i++) {
        fresh(&before[i]);
        before[i].count %= 40;
    }
    /* How much is saved a round depends on the seed: on until it is enough, or has had a hundred times the rounds that it mostly takes. */
    for (unsigned round = 0; round < 400 || (saved <= 100000 && round < 40000); round++) {
        size_t count = below(CHAINS) + 1;
        for (size_t i = 0; i < count; i++) {
            if (below(20) == 0)
                fresh(&asked[i]);
            else
                vary(&asked[i], &before[below(BEFORE_MAX)]);
            if (below(400) == 0 && asked[i].count < 40)
                before[below(BEFORE_MAX)] = asked[i];
        }
        saved += run(count);
    }
    cr_assert_gt(saved, 100000, "it has hardly remembered anything: %llu", (unsigned long long)saved);
}

Test(memo, the_third_time_is_known)
{
    begin("memo, the_third_time_is_known");
    for (uint32_t count = 1; count <= QM_MEMO_CHAIN_MAX + 1; count = count < 40 ? count + 1 : count == 40 ? QM_MEMO_CHAIN_MAX : count + 1) {
        fresh(&asked[0]);
        asked[0].count = count;
        for (uint32_t i = 0; i < count; i++)
            asked[0].digest[i] = word[below(VOCABULARY)];
        cr_expect_eq(run(1), 0);
        cr_expect_eq(run(1), 0);
        cr_expect_eq(run(1), count <= QM_MEMO_CHAIN_MAX ? count : 0, "%u", count);
    }
    asked[0].count = 0;
    for (unsigned i = 0; i < 3; i++)
        cr_expect_eq(run(1), 0);
}

/* Three chains of one print, in turns: two are known at once, and none keeps another out for good or is taken for it. */
Test(memo, equal_prints)
{
    begin("memo, equal_prints");
    for (size_t i = 0; i < 3; i++) {
        memset(asked[i].start, 0, 32);
        asked[i].count = 10;
        for (uint32_t j = 0; j < 10; j++)
            asked[i].digest[j] = word[2 * j];
    }
    asked[1].digest[9] = word[19];
    asked[2].digest[9] = word[0];
    asked[2].digest[0] = word[18];
    run(2);
    run(2);
    cr_assert_eq(print[0], print[1]);
    cr_assert_eq(run(2), 20);
    run(3);
    cr_assert_eq(print[0], print[2]);
    asked[0] = asked[2];
    cr_assert_eq(run(1), 10, "the third is shut out");
}

/* More than the ring holds pushes the oldest out, whole. */
Test(memo, what_is_old_is_forgotten)
{
    static struct asked first;
    begin("memo, what_is_old_is_forgotten");
    memset(&first, 0, sizeof first);
    first.count = 100;
    for (uint32_t i = 0; i < first.count; i++)
        first.digest[i] = word[i % VOCABULARY];
    for (unsigned i = 0; i < 3; i++) {
        asked[0] = first;
        cr_assert_eq(run(1), i == 2 ? 100 : 0);
    }
    for (unsigned filled = 0; filled <= QM_MEMO_UNITS; filled += 1001) {
        fresh(&asked[0]);
        asked[0].count = 1000;
        for (uint32_t i = 0; i < 1000; i++)
            asked[0].digest[i] = word[below(VOCABULARY)];
        run(1);
        run(1);
        cr_assert_eq(run(1), 1000);
    }
    asked[0] = first;
    cr_assert_eq(run(1), 0);
}

/* Chains that are all different let it rest; when they repeat again, it wakes up. */
Test(memo, rests_where_nothing_is_saved)
{
    begin("memo, rests_where_nothing_is_saved");
    unsigned runs = 0;
    for (; qm_memo_awake(memo); runs++) {
        cr_assert_lt(runs, 2 * QM_MEMO_TURN / CHAINS + 2, "it does not rest");
        for (size_t i = 0; i < CHAINS; i++) {
            fresh(&asked[i]);
            asked[i].count = 20;
            for (uint32_t j = 0; j < 20; j++)
                asked[i].digest[j] = word[below(VOCABULARY)];
        }
        run(CHAINS);
    }
    uint64_t saved = 0;
    for (runs = 0; saved == 0; runs++) {
        cr_assert_lt(runs, (QM_MEMO_TURNS_OF_REST + 1) * (QM_MEMO_TURN / CHAINS + 1) + 3, "it does not wake up");
        saved = run(CHAINS);
    }
    for (runs = 0; runs < 3 * QM_MEMO_TURN / CHAINS; runs++)
        cr_assert_gt(run(CHAINS), 0, "it rests though it saves much");
}
