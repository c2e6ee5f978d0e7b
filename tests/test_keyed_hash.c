/* A hash by a key: spread whatever the names are, and no two keys alike. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "tools/keyed_hash.h"

enum { NAMES = 512, PLACES = 4096 };

static uint64_t hash_of(const struct qm_hash_key *k, const char *name)
{
    return qm_hash_end(k, qm_hash_bytes(k, 0, name, strlen(name)));
}

Test(keyed_hash, steps_are_mod_a_prime)
{
    const uint64_t p = QM_HASH_PRIME;
    const uint64_t some[] = {0, 1, 2, p - 2, p - 1, 1ull << 60, (1ull << 60) + 12345, 0x123456789abcdefull};
    for (size_t i = 0; i < QM_COUNT(some); i++)
        for (size_t j = 0; j < QM_COUNT(some); j++)
            for (size_t k = 0; k < QM_COUNT(some); k++) {
                const qm_u128 x = (qm_u128)some[i] * some[j] + some[k];
                cr_assert_eq(qm_hash_step(some[i], some[j], some[k]), (uint64_t)(x % p), "%zu %zu %zu", i, j, k);
            }
}

/* Names that met under a hash that everybody knows, FNV-1a, as it was used once: who makes directories makes them like this. */
Test(keyed_hash, names_made_to_meet_do_not)
{
    static unsigned taken[PLACES];
    struct qm_hash_key key;
    struct qm_fault fault = {0};
    unsigned found = 0, most = 0;
    cr_assert_eq(qm_hash_key_make(&key, &fault), QM_OK);
    for (uint32_t i = 0; found < NAMES; i++) {
        char name[16];
        snprintf(name, sizeof name, "%x", i);
        uint64_t h = 0xcbf29ce484222325u;
        for (const char *c = name; *c != '\0'; c++)
            h = (h ^ (uint8_t)*c) * 0x100000001b3u;
        if ((h ^ h >> 29) % PLACES != 17)
            continue;
        found++;
        const unsigned n = ++taken[hash_of(&key, name) % PLACES];
        most = n > most ? n : most;
    }
    /* 512 balls into 4096 places: more than 19 in one have a chance of 2^-100 */
    cr_expect_lt(most, 20, "%u of %u names met", most, found);
}

Test(keyed_hash, keys_and_bounds_matter)
{
    struct qm_hash_key a, b;
    struct qm_fault fault = {0};
    cr_assert_eq(qm_hash_key_make(&a, &fault), QM_OK);
    cr_assert_eq(qm_hash_key_make(&b, &fault), QM_OK);
    cr_expect_neq(hash_of(&a, "rack7"), hash_of(&b, "rack7"));
    cr_expect_eq(hash_of(&a, "rack7"), hash_of(&a, "rack7"));
    const uint64_t ab_c = qm_hash_bytes(&a, qm_hash_bytes(&a, 0, "ab", 2), "c", 1);
    cr_expect_neq(ab_c, qm_hash_bytes(&a, qm_hash_bytes(&a, 0, "a", 1), "bc", 2));
    cr_expect_neq(ab_c, qm_hash_bytes(&a, 0, "abc", 3));
}
