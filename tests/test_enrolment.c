/* Enrolment lines (contract, section 2): what is taken, with which defaults, and what is refused
 * and why. */
#include <criterion/criterion.h>
#include <openssl/core_names.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/craft.h"
#include "tools/ceremony/answer.h"
#include "tools/enrolment.h"

static struct qm_enrolment *e;
static struct qm_json *json;

static void begin(void)
{
    struct qm_fault fault;
    e = aligned_alloc(QM_CACHE_LINE, qm_align_up(sizeof *e, QM_CACHE_LINE));
    MUST(e != NULL && qm_json_open(&json, &fault) == QM_OK);
}

static void end(void)
{
    qm_json_close(json);
    free(e);
    craft_free_all();
}

TestSuite(enrolment, .init = begin, .fini = end);

/* A PEM key as a JSON string without its quotes. */
static const char *pem_text(const char *kind)
{
    const char *pem = craft_pem(craft_key(kind, 0));
    struct craft c = {0};
    for (; *pem != '\0'; pem++) {
        if (*pem == '\n')
            craft_text(&c, "\\n");
        else
            craft_put(&c, pem, 1);
    }
    craft_put(&c, "", 1);
    return (const char *)c.p;
}

static const char *tpmt_text(const char *kind, uint32_t attributes, uint16_t scheme, uint16_t hash,
                             bool two_b)
{
    struct craft t = {0}, b = {0};
    craft_tpmt_public(&t, craft_key(kind, 0), attributes, scheme, hash);
    craft_2b(&b, t.p, t.len);
    return craft_base64(two_b ? craft_span(&b) : craft_span(&t));
}

static qm_err read_line(const char *line, struct qm_fault *fault)
{
    struct qm_span exact = craft_exact((struct qm_span){(const uint8_t *)line, strlen(line)});
    *fault = (struct qm_fault){0};
    return qm_enrolment_read(json, (const char *)exact.p, exact.len, e, fault);
}

static const char *line_of(const char *ak, const char *more)
{
    struct craft c = {0};
    craft_text(&c, "{\"id\":\"m\",\"ak\":\"");
    craft_text(&c, ak);
    craft_text(&c, "\"");
    craft_text(&c, more);
    craft_put(&c, "}", 2);
    return (const char *)c.p;
}

static void taken(const char *line)
{
    struct qm_fault fault;
    cr_assert_eq(read_line(line, &fault), QM_OK, "%s: %s", line, fault.text);
}

static void refused(const char *line, const char *why)
{
    struct qm_fault fault;
    cr_expect_eq(read_line(line, &fault), QM_E_REFUSED, "taken: %s", line);
    cr_expect(strstr(fault.text, why) != NULL, "'%s' does not say '%s': %s", fault.text, why, line);
    cr_expect(strchr(fault.text, '\n') == NULL && fault.text[0] != '\0');
}

Test(enrolment, defaults)
{
    static const struct {
        const char *kind;
        enum qm_scheme scheme;
        enum qm_hash hash;
        enum qm_sig_class class;
    } keys[] = {{"rsa2048", QM_SCHEME_RSASSA, QM_HASH_SHA256, QM_SIG_RSA2048},
                {"rsa3072", QM_SCHEME_RSASSA, QM_HASH_SHA256, QM_SIG_RSA3072},
                {"rsa2056", QM_SCHEME_RSASSA, QM_HASH_SHA256, QM_SIG_RSA_ANY},
                {"p256", QM_SCHEME_ECDSA, QM_HASH_SHA256, QM_SIG_P256},
                {"p384", QM_SCHEME_ECDSA, QM_HASH_SHA384, QM_SIG_P384}};
    for (size_t i = 0; i < QM_COUNT(keys); i++) {
        taken(line_of(pem_text(keys[i].kind), ""));
        cr_expect(e->profile.scheme == keys[i].scheme && e->profile.hash == keys[i].hash, "%s",
                  keys[i].kind);
        cr_expect_eq(qm_enrolment_key(e)->sig_class, keys[i].class);
        cr_expect(e->profile.select_count == 1 && e->profile.first256 == 0);
        cr_expect(e->profile.select[0].hash == QM_HASH_SHA256 &&
                  e->profile.select[0].mask == 0x3ff);
        cr_expect(e->profile.baselined == 0x3ff && e->baseline_mask == 0);
        cr_expect(!e->has_nonce && !e->require_log && !e->has_group && e->tags_len == 0);
        cr_expect(e->id_len == 1 && e->id[0] == 'm');
    }
}

/* The same key in any encoding is the same key, and prepared alike. */
Test(enrolment, encodings_of_a_key)
{
    static const char *const kinds[] = {"rsa2048", "p256", "p384"};
    for (size_t i = 0; i < QM_COUNT(kinds); i++) {
        uint8_t digest[32], key[QM_KEY_BYTES_MAX];
        taken(line_of(pem_text(kinds[i]), ""));
        memcpy(digest, e->key_digest, 32);
        memcpy(key, e->key, sizeof key);
        for (unsigned two_b = 0; two_b < 2; two_b++) {
            taken(line_of(tpmt_text(kinds[i], CRAFT_AK_ATTRIBUTES, QM_TPM_ALG_NULL, 0, two_b != 0),
                          ""));
            cr_expect_eq(memcmp(digest, e->key_digest, 32), 0, "%s", kinds[i]);
            cr_expect_eq(memcmp(key, e->key, sizeof key), 0, "%s", kinds[i]);
        }
        /* white space in base64, in front of a PEM */
        const char *text = tpmt_text(kinds[i], CRAFT_AK_ATTRIBUTES, QM_TPM_ALG_NULL, 0, false);
        struct craft c = {0};
        for (size_t at = 0; text[at] != '\0'; at++) {
            craft_put(&c, text + at, 1);
            if (at % 20 == 7)
                craft_text(&c, at % 3 == 0 ? "\\n" : at % 3 == 1 ? " " : "\\r\\n\\t");
        }
        craft_put(&c, "", 1);
        taken(line_of((const char *)c.p, ""));
        cr_expect_eq(memcmp(digest, e->key_digest, 32), 0);
        c = (struct craft){0};
        craft_text(&c, "\\n ");
        craft_text(&c, pem_text(kinds[i]));
        craft_put(&c, " \\n", 4);
        taken(line_of((const char *)c.p, ""));
    }
    uint8_t digest[32];
    memcpy(digest, e->key_digest, 32);
    taken(line_of(pem_text("rsa2048"), ""));
    cr_expect_neq(memcmp(digest, e->key_digest, 32), 0);
}

Test(enrolment, schemes)
{
    static const struct {
        const char *name;
        enum qm_scheme scheme;
        enum qm_hash hash;
    } schemes[] = {{"rsassa-sha256", QM_SCHEME_RSASSA, QM_HASH_SHA256},
                   {"rsassa-sha384", QM_SCHEME_RSASSA, QM_HASH_SHA384},
                   {"rsassa-sha512", QM_SCHEME_RSASSA, QM_HASH_SHA512},
                   {"rsapss-sha256", QM_SCHEME_RSAPSS, QM_HASH_SHA256},
                   {"rsapss-sha384", QM_SCHEME_RSAPSS, QM_HASH_SHA384},
                   {"rsapss-sha512", QM_SCHEME_RSAPSS, QM_HASH_SHA512},
                   {"ecdsa-sha256", QM_SCHEME_ECDSA, QM_HASH_SHA256},
                   {"ecdsa-sha384", QM_SCHEME_ECDSA, QM_HASH_SHA384},
                   {"ecdsa-sha512", QM_SCHEME_ECDSA, QM_HASH_SHA512}};
    static const char *const kinds[] = {"rsa2048", "p256", "p384"};
    for (size_t i = 0; i < QM_COUNT(schemes); i++)
        for (size_t k = 0; k < QM_COUNT(kinds); k++) {
            char more[64];
            snprintf(more, sizeof more, ",\"scheme\":\"%s\"", schemes[i].name);
            const char *line = line_of(pem_text(kinds[k]), more);
            if ((schemes[i].scheme == QM_SCHEME_ECDSA) != (kinds[k][0] == 'p')) {
                refused(line, "does not suit the key");
                continue;
            }
            taken(line);
            cr_expect(e->profile.scheme == schemes[i].scheme && e->profile.hash == schemes[i].hash);
        }
    static const char *const none[] = {"rsassa-sha1",    "ecdsa-sha1",    "rsapss-sha1",
                                       "rsassa",         "rsassa-",       "RSASSA-SHA256",
                                       "rsassa-sha256 ", "ecdaa-sha256",  "",
                                       "rsassa-none",    "rsassa-sha2566"};
    for (size_t i = 0; i < QM_COUNT(none); i++) {
        char more[64];
        snprintf(more, sizeof more, ",\"scheme\":\"%s\"", none[i]);
        refused(line_of(pem_text("rsa2048"), more), "scheme");
    }
}

Test(enrolment, schemes_of_the_key)
{
    static const struct {
        const char *kind;
        uint16_t scheme, hash;
        const char *asked, *why;
        enum qm_scheme is;
        enum qm_hash is_hash;
    } cases[] = {
        {"rsa2048", QM_TPM_ALG_RSASSA, QM_TPM_ALG_SHA384, "", NULL, QM_SCHEME_RSASSA,
         QM_HASH_SHA384},
        {"rsa2048", QM_TPM_ALG_RSAPSS, QM_TPM_ALG_SHA256, "", NULL, QM_SCHEME_RSAPSS,
         QM_HASH_SHA256},
        {"p256", QM_TPM_ALG_ECDSA, QM_TPM_ALG_SHA512, "", NULL, QM_SCHEME_ECDSA, QM_HASH_SHA512},
        {"rsa2048", QM_TPM_ALG_NULL, 0, "rsapss-sha384", NULL, QM_SCHEME_RSAPSS, QM_HASH_SHA384},
        {"rsa2048", QM_TPM_ALG_RSAPSS, QM_TPM_ALG_SHA256, "rsapss-sha256", NULL, QM_SCHEME_RSAPSS,
         QM_HASH_SHA256},
        {"rsa2048", QM_TPM_ALG_RSAPSS, QM_TPM_ALG_SHA256, "rsassa-sha256", "not the AK's own", 0,
         0},
        {"rsa2048", QM_TPM_ALG_RSASSA, QM_TPM_ALG_SHA256, "rsassa-sha384", "not the AK's own", 0,
         0},
        {"rsa2048", QM_TPM_ALG_RSASSA, QM_TPM_ALG_SHA1, "", "hash", 0, 0},
        {"p256", QM_TPM_ALG_ECDSA, QM_TPM_ALG_SHA1, "", "hash", 0, 0},
        {"p256", QM_TPM_ALG_ECDSA, QM_TPM_ALG_SM3_256, "", "hash", 0, 0},
        {"rsa2048", QM_TPM_ALG_OAEP, QM_TPM_ALG_SHA256, "", "scheme", 0, 0},
        {"rsa2048", QM_TPM_ALG_ECDSA, QM_TPM_ALG_SHA256, "", "scheme", 0, 0},
        {"p256", QM_TPM_ALG_RSASSA, QM_TPM_ALG_SHA256, "", "scheme", 0, 0},
    };
    for (size_t i = 0; i < QM_COUNT(cases); i++) {
        char more[64] = "";
        if (cases[i].asked[0] != '\0')
            snprintf(more, sizeof more, ",\"scheme\":\"%s\"", cases[i].asked);
        const char *line = line_of(tpmt_text(cases[i].kind, CRAFT_AK_ATTRIBUTES, cases[i].scheme,
                                             cases[i].hash, i % 2 != 0),
                                   more);
        if (cases[i].why != NULL) {
            refused(line, cases[i].why);
            continue;
        }
        taken(line);
        cr_expect(e->profile.scheme == cases[i].is && e->profile.hash == cases[i].is_hash,
                  "case %zu", i);
    }
}

Test(enrolment, attributes)
{
    static const struct {
        uint32_t bit;
        const char *why;
    } bits[] = {
        {1u << 1, "fixedTPM"},    {1u << 4, "fixedParent"}, {1u << 5, "sensitiveDataOrigin"},
        {1u << 16, "restricted"}, {1u << 17, "decrypt"},    {1u << 18, "sign"}};
    for (size_t i = 0; i < QM_COUNT(bits); i++)
        refused(
            line_of(tpmt_text("p256", CRAFT_AK_ATTRIBUTES ^ bits[i].bit, QM_TPM_ALG_NULL, 0, false),
                    ""),
            bits[i].why);
    for (unsigned b = 0; b < 32; b++) {
        bool matters = false;
        for (size_t i = 0; i < QM_COUNT(bits); i++)
            matters |= bits[i].bit == 1u << b;
        if (!matters)
            taken(line_of(
                tpmt_text("p256", CRAFT_AK_ATTRIBUTES ^ 1u << b, QM_TPM_ALG_NULL, 0, false), ""));
    }
}

static const char *changed_tpmt(const char *kind, size_t at, const char *bytes, size_t len)
{
    struct craft t = {0};
    craft_tpmt_public(&t, craft_key(kind, 0), CRAFT_AK_ATTRIBUTES, QM_TPM_ALG_NULL, 0);
    if (at == SIZE_MAX)
        t.p[t.len - 1] ^= 1;
    else
        memcpy(t.p + at, bytes, len);
    return line_of(craft_base64(craft_span(&t)), "");
}

Test(enrolment, keys_that_are_refused)
{
    static const char pem[] = "-----BEGIN PUBLIC KEY-----\\n";
    /* type, nameAlg, attributes, policy, symmetric, scheme: 14 bytes; then bits and exponent, or
     * curve and kdf */
    taken(changed_tpmt("rsa2048", 16, "\0\1\0\1", 4));
    taken(changed_tpmt("rsa2048", 16, "\xff\xff\xff\xff", 4));
    refused(changed_tpmt("rsa2048", 16, "\0\0\0\3", 4), "exponent");
    refused(changed_tpmt("rsa2048", 16, "\0\0\xff\xff", 4), "exponent");
    refused(changed_tpmt("rsa2048", 16, "\0\1\0\2", 4), "exponent");
    refused(changed_tpmt("rsa2048", 14, "\x0c\x00", 2), "as long as");
    refused(changed_tpmt("rsa2048", SIZE_MAX, "\0", 1), "even");
    refused(changed_tpmt("rsa2048", 22, "\0", 1), "bits");
    refused(changed_tpmt("p256", 14, "\0\2", 2), "curve");
    refused(changed_tpmt("p256", 14, "\0\x10", 2), "curve");
    refused(changed_tpmt("p256", 14, "\0\4", 2), "not on");
    refused(changed_tpmt("p256", SIZE_MAX, "\0", 1), "not on");
    static const struct {
        const char *kind, *why;
    } kinds[] = {{"rsa1024", "bits"}, {"rsa2040", "bits"}, {"rsa4104", "bits"}};
    for (size_t i = 0; i < QM_COUNT(kinds); i++) {
        EVP_PKEY *k = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)atoi(kinds[i].kind + 3));
        MUST(k != NULL);
        struct craft_key key = {.pkey = k};
        struct craft c = {0};
        for (const char *p = craft_pem(&key); *p != '\0'; p++)
            craft_put(&c, *p == '\n' ? "\\n" : p, *p == '\n' ? 2 : 1);
        craft_put(&c, "", 1);
        refused(line_of((const char *)c.p, ""), kinds[i].why);
        EVP_PKEY_free(k);
    }
    static const char *const others[] = {"P-521", "secp256k1", "P-224"};
    for (size_t i = 0; i < QM_COUNT(others); i++) {
        EVP_PKEY *k = EVP_PKEY_Q_keygen(NULL, NULL, "EC", others[i]);
        MUST(k != NULL);
        struct craft_key key = {.pkey = k};
        struct craft c = {0};
        for (const char *p = craft_pem(&key); *p != '\0'; p++)
            craft_put(&c, *p == '\n' ? "\\n" : p, *p == '\n' ? 2 : 1);
        craft_put(&c, "", 1);
        refused(line_of((const char *)c.p, ""), "curve");
        EVP_PKEY_free(k);
    }
    EVP_PKEY *k = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    struct craft_key key = {.pkey = k};
    struct craft c = {0};
    MUST(k != NULL);
    for (const char *p = craft_pem(&key); *p != '\0'; p++)
        craft_put(&c, *p == '\n' ? "\\n" : p, *p == '\n' ? 2 : 1);
    craft_put(&c, "", 1);
    refused(line_of((const char *)c.p, ""), "neither");
    EVP_PKEY_free(k);
    static const struct {
        const char *ak, *why;
    } texts[] = {
        {"", "empty"},
        {" \\n", "empty"},
        {"!", "base64"},
        {"AAAA", "whole"},
        {"AAA", "base64"},
        {"A===", "base64"},
        {"AA=A", "base64"},
        {"=", "base64"},
        {pem, "PEM"},
        {"-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n", "PEM"},
        {"-----BEGIN PUBLIC KEY-----\\nAAAA\\n-----END PUBLIC KEY-----\\n", "cannot be read"}};
    for (size_t i = 0; i < QM_COUNT(texts); i++)
        refused(line_of(texts[i].ak, ""), texts[i].why);
    /* something behind: a byte, another PEM */
    struct craft t = {0};
    craft_tpmt_public(&t, craft_key("p256", 0), CRAFT_AK_ATTRIBUTES, QM_TPM_ALG_NULL, 0);
    craft_fill(&t, 0, 1);
    refused(line_of(craft_base64(craft_span(&t)), ""), "whole");
    c = (struct craft){0};
    craft_text(&c, pem_text("p256"));
    craft_text(&c, pem_text("p256"));
    craft_put(&c, "", 1);
    refused(line_of((const char *)c.p, ""), "follows");
    c = (struct craft){0};
    craft_fill(&c, 'A', QM_AK_MAX + 4);
    craft_put(&c, "", 1);
    refused(line_of((const char *)c.p, ""), "too long");
}

#define HEX32 "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"

Test(enrolment, fields)
{
    static const struct {
        const char *more, *why;
    } cases[] = {
        {"", NULL},
        {",\"select\":[{\"bank\":\"sha256\",\"pcrs\":[0,1,2,3,4,5,6,7]}]", NULL},
        {",\"select\":[{\"pcrs\":[23,0],\"bank\":\"sha256\",\"more\":1}]", NULL},
        {",\"select\":[{\"bank\":\"sha1\",\"pcrs\":[0]},{\"bank\":\"sha256\",\"pcrs\":[0]},{"
         "\"bank\":\"sha384\",\"pcrs\":[0]},{\"bank\":\"sha512\",\"pcrs\":[0]}]",
         NULL},
        {",\"select\":[]", "SHA-256 bank"},
        {",\"select\":[{\"bank\":\"sha1\",\"pcrs\":[0]}]", "SHA-256 bank"},
        {",\"select\":[{\"bank\":\"sha256\",\"pcrs\":[]}]", "without PCRs"},
        {",\"select\":[{\"bank\":\"sha256\",\"pcrs\":[0]},{\"bank\":\"sha256\",\"pcrs\":[1]}]",
         "bank twice"},
        {",\"select\":[{\"bank\":\"sha3\",\"pcrs\":[0]}]", "unknown bank"},
        {",\"select\":[{\"bank\":\"SHA256\",\"pcrs\":[0]}]", "unknown bank"},
        {",\"select\":[{\"bank\":\"sha256\",\"pcrs\":[24]}]", "no PCR"},
        {",\"select\":[{\"bank\":\"sha256\",\"pcrs\":[-1]}]", "no PCR"},
        {",\"select\":[{\"bank\":\"sha256\",\"pcrs\":[1.0]}]", "no PCR"},
        {",\"select\":[{\"bank\":\"sha256\",\"pcrs\":[\"1\"]}]", "no PCR"},
        {",\"select\":[{\"bank\":\"sha256\",\"pcrs\":[18446744073709551616]}]", "no PCR"},
        {",\"select\":[{\"bank\":\"sha256\",\"pcrs\":[4294967296]}]", "no PCR"},
        {",\"select\":[{\"bank\":\"sha256\",\"pcrs\":[0,1,0]}]", "twice"},
        {",\"select\":[{\"bank\":\"sha256\"}]", "lacks"},
        {",\"select\":[{\"pcrs\":[0]}]", "lacks"},
        {",\"select\":[{\"bank\":\"sha256\",\"bank\":\"sha256\",\"pcrs\":[0]}]", "twice"},
        {",\"select\":[{\"bank\":\"sha256\",\"pcrs\":[0],\"pcrs\":[0]}]", "twice"},
        {",\"select\":[{\"bank\":11,\"pcrs\":[0]}]", "no string"},
        {",\"select\":[{\"bank\":\"sha256\",\"pcrs\":{}}]", "no array"},
        {",\"select\":[7]", "no object"},
        {",\"select\":{}", "not an array"},
        {",\"baselined\":[0]", NULL},
        {",\"baselined\":[9,0,4]", NULL},
        {",\"baselined\":[]", "no PCR is baselined"},
        {",\"baselined\":[10]", "select does not"},
        {",\"baselined\":[0,0]", "twice"},
        {",\"baselined\":[24]", "no PCR"},
        {",\"baselined\":\"0\"", "not an array"},
        {",\"select\":[{\"bank\":\"sha256\",\"pcrs\":[10,14]}]", "no PCR is baselined"},
        {",\"select\":[{\"bank\":\"sha256\",\"pcrs\":[10,14]}],\"baselined\":[14]", NULL},
        {",\"select\":[{\"bank\":\"sha256\",\"pcrs\":[0,15,16,17]}],\"baselined\":[0,16]",
         "16 and 23"},
        {",\"select\":[{\"bank\":\"sha256\",\"pcrs\":[0,22,23]}],\"baselined\":[23]", "16 and 23"},
        {",\"select\":[{\"bank\":\"sha256\",\"pcrs\":[0,15,17,22]}],\"baselined\":[15,17,22]",
         NULL},
        {",\"nonce\":\"\"", NULL},
        {",\"nonce\":\"00ffAb\"", NULL},
        {",\"nonce\":\"0\"", "nonce"},
        {",\"nonce\":\"0g\"", "nonce"},
        {",\"nonce\":5", "not a string"},
        {",\"require_log\":true", NULL},
        {",\"require_log\":1", "not a boolean"},
        {",\"group\":\"image 7\"", NULL},
        {",\"group\":\"\"", "group"},
        {",\"group\":\"a\\nb\"", "group"},
        {",\"group\":null", "not a string"},
        {",\"tags\":{}", NULL},
        {",\"tags\":{\"a\":\"b\",\"c\":\"\"}", NULL},
        {",\"tags\":{\"a\":1}", "tag"},
        {",\"tags\":{\"a\":\"b\",\"a\":\"b\"}", "twice"},
        {",\"tags\":[]", "not an object"},
        {",\"unknown\":{\"deep\":[[[[[1]]]]]}", NULL},
        {",\"unknown\":1,\"unknown\":1", "twice"},
        {",\"id\":\"m\"", "id stands twice"},
        {",\"scheme\":\"ecdsa-sha256\",\"scheme\":\"ecdsa-sha256\"", "scheme stands twice"},
        {",\"baseline\":{\"0\":\"" HEX32 "\"},\"baselined\":[0]", NULL},
        {",\"baseline\":{\"0\":\"" HEX32 "\",\"1\":\"" HEX32 "\"},\"baselined\":[0]", NULL},
        {",\"baseline\":{\"0\":\"" HEX32 "\"},\"baselined\":[0,1]", "lacks PCR 1"},
        {",\"baseline\":{},\"baselined\":[0]", "lacks PCR 0"},
        {",\"baseline\":{\"0\":\"" HEX32 "\",\"0\":\"" HEX32 "\"},\"baselined\":[0]", "twice"},
        {",\"baseline\":{\"00\":\"" HEX32 "\"},\"baselined\":[0]", "no PCR"},
        {",\"baseline\":{\"24\":\"" HEX32 "\"},\"baselined\":[0]", "no PCR"},
        {",\"baseline\":{\"x\":\"" HEX32 "\"},\"baselined\":[0]", "no PCR"},
        {",\"baseline\":{\"\":\"" HEX32 "\"},\"baselined\":[0]", "no PCR"},
        {",\"baseline\":{\"-1\":\"" HEX32 "\"},\"baselined\":[0]", "no PCR"},
        {",\"baseline\":{\"0\":\"" HEX32 "00\"},\"baselined\":[0]", "64 hex digits"},
        {",\"baseline\":{\"0\":\"00\"},\"baselined\":[0]", "64 hex digits"},
        {",\"baseline\":{\"0\":7},\"baselined\":[0]", "64 hex digits"},
        {",\"baseline\":[],\"baselined\":[0]", "not an object"},
    };
    for (size_t i = 0; i < QM_COUNT(cases); i++) {
        const char *line = line_of(pem_text("p256"), cases[i].more);
        if (cases[i].why == NULL)
            taken(line);
        else
            refused(line, cases[i].why);
    }
}

Test(enrolment, what_fields_say)
{
    taken(line_of(pem_text("p256"),
                  ",\"select\":[{\"bank\":\"sha1\",\"pcrs\":[0,23]},{\"bank\":\"sha256\",\"pcrs\":["
                  "0,4,14]}],\"baselined\":[4,14],"
                  "\"nonce\":\"00ffAb\",\"require_log\":true,\"group\":\"g\",\"tags\":{\"a\":\"b\"}"
                  ",\"baseline\":{\"14\":\"" HEX32 "\",\"4\":\"" HEX32 "\",\"0\":\"" HEX32 "\"}"));
    const struct qm_profile *p = &e->profile;
    cr_expect(p->select_count == 2 && p->first256 == 1 && p->select[0].hash == QM_HASH_SHA1 &&
              p->select[0].mask == 0x800001);
    cr_expect(p->select[1].hash == QM_HASH_SHA256 && p->select[1].mask == 0x4011 &&
              p->baselined == 0x4010);
    cr_expect(e->has_nonce && e->nonce_len == 3 && memcmp(e->nonce, "\0\xff\xab", 3) == 0);
    cr_expect(e->require_log && e->has_group && e->group_len == 1 && e->group[0] == 'g');
    cr_expect(e->tags_len == 9 && memcmp(e->tags, "{\"a\":\"b\"}", 9) == 0);
    cr_expect_eq(e->baseline_mask, 0x4010, "only what is baselined is kept");
    cr_expect(e->baseline[4][1] == 0x11 && e->baseline[14][31] == 0xff);
    taken(line_of(pem_text("p256"), ",\"nonce\":\"\""));
    cr_expect(e->has_nonce && e->nonce_len == 0, "an empty nonce is one");
}

Test(enrolment, lines)
{
    static const struct {
        const char *line, *why;
    } lines[] = {{"", "JSON"},
                 {"{", "JSON"},
                 {"{}", "id is missing"},
                 {"[]", "JSON"},
                 {"null", "JSON"},
                 {"{\"id\":1}", "id is"},
                 {"{\"ak\":\"x\"}", "AK"},
                 {"{\"id\":\"m\"}", "ak is missing"},
                 {"{\"id\":\"m\",}", "JSON"},
                 {"{'id':'m'}", "JSON"},
                 {"{\"id\":\"m\"} x", "JSON"},
                 {"{\"id\":\"\"}", "id is not"},
                 {"{\"id\":\"\\u0001\"}", "id is not"},
                 {"{\"id\":\"\\u007f\"}", "id is not"},
                 {"{\"id\":\"\\u0085\"}", "id is not"},
                 {"{\"id\":\"a\\u0000b\"}", "NUL"},
                 {"{\"id\":\"\\ud800\"}", "surrogate"},
                 {"{\"id\":\"\xff\"}", "UTF-8"},
                 {"{\"id\":\"\xc0\x80\"}", "UTF-8"}};
    for (size_t i = 0; i < QM_COUNT(lines); i++)
        refused(lines[i].line, lines[i].why);
    for (size_t len = QM_ID_MAX - 1; len <= QM_ID_MAX + 1; len++) {
        struct craft c = {0};
        craft_text(&c, "{\"id\":\"");
        craft_fill(&c, 'i', len);
        craft_text(&c, "\",\"ak\":\"");
        craft_text(&c, pem_text("p256"));
        craft_put(&c, "\"}", 3);
        if (len <= QM_ID_MAX)
            taken((const char *)c.p);
        else
            refused((const char *)c.p, "id is not");
    }
    for (size_t len = QM_NONCE_MAX - 1; len <= QM_NONCE_MAX + 1; len++) {
        struct craft c = {0};
        craft_text(&c, ",\"nonce\":\"");
        craft_fill(&c, '7', 2 * len);
        craft_put(&c, "\"", 2);
        if (len <= QM_NONCE_MAX)
            taken(line_of(pem_text("p256"), (const char *)c.p));
        else
            refused(line_of(pem_text("p256"), (const char *)c.p), "nonce");
    }
    for (size_t len = QM_GROUP_MAX - 1; len <= QM_GROUP_MAX + 1; len++) {
        struct craft c = {0};
        craft_text(&c, ",\"group\":\"");
        craft_fill(&c, 'g', len);
        craft_put(&c, "\"", 2);
        if (len <= QM_GROUP_MAX)
            taken(line_of(pem_text("p256"), (const char *)c.p));
        else
            refused(line_of(pem_text("p256"), (const char *)c.p), "group");
    }
}

/* No line crashes it, and what it takes has a sound key and something to compare. */
Test(enrolment, any_line, .timeout = 120)
{
    uint64_t rng = craft_seed("any_line");
    char good[4096];
    snprintf(good, sizeof good, "%s",
             line_of(pem_text("p256"), ",\"select\":[{\"bank\":\"sha256\",\"pcrs\":[0,4]}],"
                                       "\"baselined\":[4],\"nonce\":\"00ff\","
                                       "\"require_log\":true,\"group\":\"g\",\"tags\":{\"a\":\"b\"}"
                                       ",\"baseline\":{\"4\":\"" HEX32 "\"}"));
    unsigned n = 0;
    for (unsigned round = 0; round < 20000; round++) {
        char line[4200];
        struct qm_fault fault;
        size_t len = strlen(good);
        memcpy(line, good, len + 1);
        for (uint64_t i = craft_random(&rng) % 3 + 1; i != 0; i--) {
            static const char bytes[] = "\"{}[],:0123456789abcx\\u \xff\n";
            size_t at = craft_random(&rng) % len;
            if (craft_random(&rng) % 4 == 0)
                memmove(line + at, line + at + 1, len-- - at);
            else
                line[at] = bytes[craft_random(&rng) % (sizeof bytes - 1)];
        }
        line[len] = '\0';
        qm_err err = read_line(line, &fault);
        cr_assert(err == QM_OK || err == QM_E_REFUSED, "%d: %s", (int)err, fault.text);
        if (err == QM_OK) {
            n++;
            cr_assert(qm_key_sound(qm_enrolment_key(e), QM_KEY_BYTES_MAX));
            cr_assert(e->profile.baselined != 0 && e->id_len != 0);
        }
    }
    cr_expect_gt(n, 100);
}

/* Twelve bytes in a pipe; max: what may be in it. */
static qm_err read_pipe(const char *dir, uint64_t max, unsigned *lines, struct qm_fault *fault)
{
    int end[2];
    char path[40];
    static char text[QM_LINE_MAX + 1];
    struct qm_lines l;
    *lines = 0;
    *fault = (struct qm_fault){0};
    MUST(pipe(end) == 0 && write(end[1], "one\ntwo\nfour", 12) == 12 && close(end[1]) == 0);
    snprintf(path, sizeof path, "/dev/fd/%d", end[0]);
    cr_expect(qm_lines_wait(path));
    qm_err err = qm_lines_open_read(&l, path, dir, max, fault);
    close(end[0]);
    for (size_t len; err == QM_OK && qm_lines_next(&l, text, &len); ++*lines)
        cr_expect_eq(len, *lines == 2 ? 4 : 3);
    cr_expect(err == QM_OK || l.in == NULL);
    cr_expect(l.name == path);
    return err == QM_OK ? qm_lines_close(&l, fault) : err;
}

Test(enrolment, a_stream_is_read_before_its_lines_are)
{
    struct qm_fault fault;
    struct stat st;
    unsigned lines;
    const char *dir = craft_dir();
    for (uint64_t max = 11; max <= 13; max++) {
        cr_expect_eq(read_pipe(dir, max, &lines, &fault), max < 12 ? QM_E_LIMIT : QM_OK, "%s", fault.text);
        cr_expect_eq(lines, max < 12 ? 0 : 3);
        cr_expect(max >= 12 || strstr(fault.text, "more than 11 bytes") != NULL, "%s", fault.text);
    }
    MUST(stat(dir, &st) == 0);
    cr_expect_eq(rmdir(dir), 0, "nothing is left in it");
    cr_expect_eq(read_pipe(dir, 12, &lines, &fault), QM_E_IO);
    MUST(mkdir(dir, st.st_mode & 0777) == 0);
    cr_expect_eq(read_pipe("/dev/full", 12, &lines, &fault), QM_E_IO);
    cr_expect_not(qm_lines_wait("/proc/self/exe"));
    cr_expect_not(qm_lines_wait("/nowhere/at/all"));
}

/* Computed by another implementation (Python's hmac). */
Test(answer, proof)
{
    uint8_t credential[QM_CREDENTIAL_SIZE], challenge[QM_CHALLENGE_SIZE], proof[QM_PROOF_SIZE], expected[QM_PROOF_SIZE];
    char longest[QM_ID_MAX + 1];
    struct qm_fault fault = {0};
    for (unsigned i = 0; i < sizeof credential; i++)
        credential[i] = (uint8_t)i;
    for (unsigned i = 0; i < sizeof challenge; i++)
        challenge[i] = (uint8_t)(0xa0 + i);
    cr_assert(qm_hex_read("c7bafff32f76350d89f62e171aa5c5d6ee83f77f9b49d34799b6cee6c7199826", expected, sizeof expected));
    cr_assert_eq(qm_answer_proof(credential, challenge, (struct qm_span){(const uint8_t *)"web-eu1-000042", 14}, proof, &fault), QM_OK);
    cr_expect_arr_eq(proof, expected, sizeof proof);
    memset(longest, 'a', sizeof longest);
    for (size_t len = QM_ID_MAX - 1; len <= QM_ID_MAX + 1; len++)
        cr_expect_eq(qm_answer_proof(credential, challenge, (struct qm_span){(const uint8_t *)longest, len}, proof, &fault),
                     len <= QM_ID_MAX ? QM_OK : QM_E_LIMIT);
}
