/* TPM structures: every cut, every byte too many, every limit. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/craft.h"

static struct craft_attest usual(void)
{
    struct craft_attest a = {.extra = {(const uint8_t *)"nonce", 5},
                             .select_count = 1,
                             .digest = {1, 2, 3},
                             .digest_len = 32,
                             .clock_ms = 0x0102030405060708,
                             .firmware = 0x1112131415161718,
                             .reset = 0x21222324,
                             .restart = 0x31323334,
                             .safe = 1};
    a.select[0].tpm_alg = QM_TPM_ALG_SHA256;
    a.select[0].size = 3;
    a.select[0].mask = 0x8003ff;
    return a;
}

static bool attest_ok(const struct craft_attest *a, struct qm_attest *out)
{
    struct craft c = {0};
    craft_attest(&c, a);
    return qm_attest_parse(craft_exact(craft_span(&c)), out);
}

Test(tpm2, attest)
{
    struct craft_attest a = usual();
    struct qm_attest out;
    cr_assert(attest_ok(&a, &out));
    cr_expect(out.signer.len == 34 && out.extra.len == 5 && memcmp(out.extra.p, "nonce", 5) == 0);
    cr_expect(out.clock_ms == a.clock_ms && out.firmware == a.firmware && out.reset == a.reset &&
              out.restart == a.restart && out.safe == 1);
    cr_expect(out.selection_count == 1 && out.selection[0].tpm_alg == 11 &&
              out.selection[0].mask == 0x8003ff);
    cr_expect(out.pcr_digest.len == 32 && out.pcr_digest.p[2] == 3);
    craft_free_all();
}

/* No prefix parses, nor anything with a byte behind it. */
static void exact(bool (*parses)(struct qm_span), const struct craft *c, const char *name)
{
    cr_assert(parses(craft_exact(craft_span(c))), "%s", name);
    for (size_t len = 0; len < c->len; len++)
        cr_expect_not(parses(craft_exact((struct qm_span){c->p, len})), "%s: %zu of %zu bytes",
                      name, len, c->len);
    for (unsigned b = 0; b < 256; b += 51) {
        struct craft more = {0};
        craft_put(&more, c->p, c->len);
        craft_fill(&more, (uint8_t)b, 1);
        cr_expect_not(parses(craft_exact(craft_span(&more))), "%s and %02x", name, b);
    }
}

static bool parses_attest(struct qm_span bytes)
{
    struct qm_attest out;
    return qm_attest_parse(bytes, &out);
}
static bool parses_signature(struct qm_span bytes)
{
    struct qm_signature out;
    return qm_signature_parse(bytes, &out);
}
static bool parses_public(struct qm_span bytes)
{
    struct qm_public out;
    return qm_public_parse(bytes, &out);
}

Test(tpm2, attest_is_exact)
{
    struct craft_attest a = usual();
    struct craft c = {0};
    craft_attest(&c, &a);
    exact(parses_attest, &c, "attest");
    craft_free_all();
}

Test(tpm2, attest_magic_and_type)
{
    struct craft_attest a = usual();
    struct qm_attest out;
    for (unsigned bit = 0; bit < 32; bit++) {
        a.magic = QM_TPM_GENERATED_VALUE ^ 1u << bit;
        cr_expect_not(attest_ok(&a, &out), "magic, bit %u", bit);
    }
    a.magic = 0;
    for (unsigned bit = 0; bit < 16; bit++) {
        a.type = (uint16_t)(QM_TPM_ST_ATTEST_QUOTE ^ 1u << bit);
        cr_expect_not(attest_ok(&a, &out), "type, bit %u", bit);
    }
    craft_free_all();
}

Test(tpm2, selections)
{
    struct craft_attest a = usual();
    struct qm_attest out;
    for (unsigned count = 0; count <= 18; count++) {
        a.select_count = count;
        for (unsigned i = 0; i < count; i++) {
            a.select[i].tpm_alg = (uint16_t)(100 + i);
            a.select[i].size = 3;
            a.select[i].mask = i;
        }
        cr_expect_eq(attest_ok(&a, &out), count <= QM_SELECTION_MAX, "%u selections", count);
        if (count <= QM_SELECTION_MAX)
            cr_expect(out.selection_count == count &&
                      (count == 0 || out.selection[count - 1].mask == count - 1));
    }
    a.select_count = 16;
    for (unsigned i = 0; i < 16; i++)
        for (unsigned j = 0; j < i; j++) {
            a.select[i].tpm_alg = a.select[j].tpm_alg;
            cr_expect_not(attest_ok(&a, &out), "selections %u and %u alike", j, i);
            a.select[i].tpm_alg = (uint16_t)(100 + i);
        }
    cr_expect(attest_ok(&a, &out));
    a.select_count = 1;
    for (unsigned size = 0; size <= 6; size++) {
        a.select[0].size = (uint8_t)size;
        a.select[0].mask = 0;
        cr_expect_eq(attest_ok(&a, &out), size <= QM_SELECT_BYTES_MAX, "sizeofSelect %u", size);
    }
    /* a longer bitmap whose extra bits are zero is equal */
    a.select[0].mask = 0x3ff;
    for (unsigned size = 2; size <= 4; size++) {
        a.select[0].size = (uint8_t)size;
        cr_assert(attest_ok(&a, &out));
        cr_expect_eq(out.selection[0].mask, 0x3ff);
    }
    /* a count that lies */
    struct craft c = {0};
    a = usual();
    craft_attest(&c, &a);
    size_t at = 4 + 2 + 2 + 34 + 2 + 5 + 8 + 4 + 4 + 1 + 8;
    for (unsigned i = 0; i < 4; i++) {
        c.p[at + i] ^= 0x80;
        cr_expect_not(parses_attest(craft_exact(craft_span(&c))));
        c.p[at + i] ^= 0x80;
    }
    craft_free_all();
}

Test(tpm2, sizes_that_lie)
{
    struct craft_attest a = usual();
    struct craft c = {0};
    craft_attest(&c, &a);
    const size_t sizes[] = {6, 6 + 2 + 34, c.len - 34};
    for (size_t i = 0; i < QM_COUNT(sizes); i++)
        for (unsigned v = 0; v < 0x10000; v += 7) {
            uint8_t was[2] = {c.p[sizes[i]], c.p[sizes[i] + 1]};
            c.p[sizes[i]] = (uint8_t)(v >> 8);
            c.p[sizes[i] + 1] = (uint8_t)v;
            bool same = was[0] == c.p[sizes[i]] && was[1] == c.p[sizes[i] + 1];
            if (i == 2) /* the last one must end exactly */
                cr_expect_eq(parses_attest(craft_span(&c)), same, "%u", v);
            else
                parses_attest(craft_span(&c));
            memcpy(c.p + sizes[i], was, 2);
        }
    craft_free_all();
}

Test(tpm2, signature)
{
    struct craft c = {0};
    struct qm_signature s;
    craft_be(&c, QM_TPM_ALG_RSASSA, 2);
    craft_be(&c, QM_TPM_ALG_SHA256, 2);
    craft_2b(&c, "abcdef", 6);
    cr_assert(qm_signature_parse(craft_exact(craft_span(&c)), &s));
    cr_expect(s.tpm_alg == 0x14 && s.tpm_hash == 11 && s.a.len == 6 && s.b.p == NULL);
    exact(parses_signature, &c, "rsassa");
    c.p[1] = QM_TPM_ALG_RSAPSS;
    exact(parses_signature, &c, "rsapss");
    c.p[1] = QM_TPM_ALG_ECDSA;
    cr_expect_not(parses_signature(craft_exact(craft_span(&c))), "ECDSA without s");
    craft_2b(&c, "ghi", 3);
    exact(parses_signature, &c, "ecdsa");
    cr_assert(qm_signature_parse(craft_span(&c), &s));
    cr_expect(s.a.len == 6 && s.b.len == 3 && s.b.p[0] == 'g');
    for (unsigned alg = 0; alg < 0x100; alg++) {
        c.p[1] = (uint8_t)alg;
        cr_expect_eq(parses_signature(craft_span(&c)), alg == QM_TPM_ALG_ECDSA, "algorithm %02x",
                     alg);
    }
    c.p[0] = 1;
    c.p[1] = QM_TPM_ALG_ECDSA;
    cr_expect_not(parses_signature(craft_span(&c)));
    craft_free_all();
}

Test(tpm2, public_areas)
{
    static const struct {
        const char *kind;
        uint16_t scheme, hash;
    } kinds[] = {{"rsa2048", QM_TPM_ALG_RSASSA, QM_TPM_ALG_SHA256},
                 {"rsa2048", QM_TPM_ALG_NULL, 0},
                 {"p256", QM_TPM_ALG_ECDSA, QM_TPM_ALG_SHA256},
                 {"p384", QM_TPM_ALG_ECDSA, QM_TPM_ALG_SHA384},
                 {"p256", QM_TPM_ALG_NULL, 0}};
    for (size_t i = 0; i < QM_COUNT(kinds); i++) {
        struct craft t = {0}, two_b = {0};
        struct qm_public p, q;
        craft_tpmt_public(&t, craft_key(kinds[i].kind, 0), CRAFT_AK_ATTRIBUTES, kinds[i].scheme,
                          kinds[i].hash);
        craft_2b(&two_b, t.p, t.len);
        exact(parses_public, &t, "TPMT_PUBLIC");
        exact(parses_public, &two_b, "TPM2B_PUBLIC");
        cr_assert(qm_public_parse(craft_span(&t), &p) && qm_public_parse(craft_span(&two_b), &q));
        cr_expect(p.attributes == CRAFT_AK_ATTRIBUTES && q.attributes == p.attributes);
        cr_expect(p.scheme == kinds[i].scheme && p.scheme_hash == kinds[i].hash &&
                  q.scheme == p.scheme);
        cr_expect(qm_span_eq(p.a, q.a) && qm_span_eq(p.b, q.b));
        cr_expect_eq(p.type, kinds[i].kind[0] == 'r' ? QM_TPM_ALG_RSA : QM_TPM_ALG_ECC);
        cr_expect(p.type != QM_TPM_ALG_RSA ||
                  (p.rsa_bits == 2048 && p.rsa_exponent == 0 && p.a.len == 256));
        /* the size in front is not the size behind */
        struct craft wrong = {0};
        craft_be(&wrong, t.len + 1, 2);
        craft_put(&wrong, t.p, t.len);
        cr_expect_not(parses_public(craft_span(&wrong)), "a TPM2B that says more");
        wrong.p[1] = (uint8_t)(t.len - 1);
        wrong.p[0] = (uint8_t)((t.len - 1) >> 8);
        cr_expect_not(parses_public(craft_span(&wrong)), "a TPM2B that says less");
        t.p[1] = 0x08; /* KEYEDHASH */
        t.p[0] = 0;
        cr_expect_not(parses_public(craft_span(&t)), "no key");
    }
    craft_free_all();
}

Test(tpm2, hashes)
{
    static const struct {
        const char *name;
        uint16_t tpm;
        size_t size;
    } hashes[] = {{"sha1", 4, 20}, {"sha256", 11, 32}, {"sha384", 12, 48}, {"sha512", 13, 64}};
    for (size_t i = 0; i < QM_COUNT(hashes); i++) {
        enum qm_hash h = qm_hash_of_tpm(hashes[i].tpm);
        cr_expect(h != QM_HASH_NONE && qm_hash_to_tpm(h) == hashes[i].tpm &&
                  qm_hash_size(h) == hashes[i].size);
        cr_expect_eq(qm_hash_of_name(hashes[i].name, strlen(hashes[i].name)), h);
        cr_expect_eq(qm_hash_of_name(hashes[i].name, strlen(hashes[i].name) - 1), QM_HASH_NONE);
    }
    unsigned known = 0;
    for (unsigned alg = 0; alg < 0x10000; alg++)
        known += qm_hash_of_tpm((uint16_t)alg) != QM_HASH_NONE;
    cr_expect_eq(known, 4);
    cr_expect_eq(qm_hash_of_name("none", 4), QM_HASH_NONE);
    cr_expect_eq(qm_hash_of_name("", 0), QM_HASH_NONE);
}
