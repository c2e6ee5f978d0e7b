/* What the ceremony reads: lines of machines, the operator's defaults and lists, and what weakens an enrolment. The whole of it, with TPMs, is
 * in ceremony_test.py. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/text.h"
#include "tests/craft.h"
#include "tools/ceremony/ceremony_read.h"
#include "tools/weaker.h"

#define ONES   "1111111111111111111111111111111111111111111111111111111111111111"
#define TWOS   "2222222222222222222222222222222222222222222222222222222222222222"
#define THREES "3333333333333333333333333333333333333333333333333333333333333333"

static struct qm_json *json;
static struct qm_enrolment *e;
static struct qm_proposal *p;
static struct qm_fault fault;

static void begin(void)
{
    e = aligned_alloc(QM_CACHE_LINE, qm_align_up(sizeof *e, QM_CACHE_LINE));
    p = malloc(sizeof *p);
    MUST(e != NULL && p != NULL && qm_json_open(&json, &fault) == QM_OK);
}

static void end(void)
{
    qm_json_close(json);
    free(p);
    free(e);
    craft_free_all();
}

TestSuite(ceremony, .init = begin, .fini = end);

static const char *text_of(struct craft *c)
{
    craft_put(c, "", 1);
    return (const char *)c->p;
}

/* With the text in memory of exactly its length. */
static qm_err propose(const char *line)
{
    const struct qm_span exact = craft_exact((struct qm_span){(const uint8_t *)line, strlen(line)});
    fault = (struct qm_fault){0};
    return qm_proposal_read(json, (const char *)exact.p, exact.len, p, &fault);
}

/* A proposal with `bytes` bytes of ak, certificates of so many bytes each, and more members. */
static const char *proposal(size_t ak_bytes, unsigned certs, size_t cert_bytes, const char *more)
{
    struct craft c = {0}, ak = {0}, cert = {0};
    craft_fill(&ak, 7, ak_bytes);
    craft_fill(&cert, 9, cert_bytes);
    craft_text(&c, "{\"v\":1,\"kind\":\"proposal\",\"id\":\"a\",\"ak\":\"");
    craft_text(&c, craft_base64(craft_span(&ak)));
    craft_text(&c, "\",\"ek_cert\":[");
    for (unsigned i = 0; i < certs; i++) {
        craft_text(&c, i == 0 ? "\"" : ",\"");
        craft_text(&c, craft_base64(craft_span(&cert)));
        craft_text(&c, "\"");
    }
    craft_text(&c, "]");
    craft_text(&c, more);
    craft_text(&c, "}");
    return text_of(&c);
}

static void refused(const char *line, const char *why)
{
    cr_expect_eq(propose(line), QM_E_REFUSED, "%.100s", line);
    cr_expect_not_null(strstr(fault.text, why), "'%s' does not say '%s'", fault.text, why);
}

Test(ceremony, caps_of_a_proposal)
{
    cr_assert_eq(propose(proposal(QM_PUBLIC_MAX, QM_CHAIN_MAX, 5, "")), QM_OK, "%s", fault.text);
    cr_expect(p->ak_len == QM_PUBLIC_MAX && p->ak[QM_PUBLIC_MAX - 1] == 7 && p->cert_count == QM_CHAIN_MAX && p->ek_len == 0);
    for (unsigned i = 0; i < QM_CHAIN_MAX; i++)
        cr_expect(p->cert[i].len == 5 && p->cert[i].p[4] == 9 && p->cert[i].p == p->cert_room + 5 * i);
    refused(proposal(QM_PUBLIC_MAX + 1, 0, 0, ""), "ak is not base64");
    refused(proposal(1, QM_CHAIN_MAX + 1, 5, ""), "more than 8");
    cr_assert_eq(propose(proposal(1, 1, QM_CERT_MAX, "")), QM_OK, "%s", fault.text);
    cr_expect_eq(p->cert[0].len, QM_CERT_MAX);
    refused(proposal(1, 1, QM_CERT_MAX + 1, ""), "at most 8192");
    /* a line of exactly the cap, and one byte more */
    for (size_t over = 0; over < 2; over++) {
        struct craft c = {0};
        const char *line = proposal(1, 0, 0, "");
        craft_put(&c, line, strlen(line));
        craft_fill(&c, ' ', QM_LINE_MAX - c.len + over);
        if (over == 0)
            cr_expect_eq(propose(text_of(&c)), QM_OK, "%s", fault.text);
        else
            refused(text_of(&c), "longer than");
    }
}

Test(ceremony, what_a_proposal_is)
{
    static const struct {
        const char *more, *why;
    } bad[] = {{",\"id\":\"b\"", "id stands twice"},
               {",\"kind\":\"proposal\"", "kind stands twice"},
               {",\"v\":1", "v stands twice"},
               {",\"scheme\":\"\"", "scheme is none"},
               {",\"scheme\":\"rsassa-sha256-and\"", "scheme is none"},
               {",\"scheme\":7", "scheme is not a string"},
               {",\"ek\":\"\"", "ek is not base64"},
               {",\"ek\":\"AAA\"", "ek is not base64"},
               {",\"ek\":null", "ek is not a string"}};
    for (size_t i = 0; i < QM_COUNT(bad); i++)
        refused(proposal(1, 0, 0, bad[i].more), bad[i].why);
    cr_expect_eq(propose(proposal(1, 0, 0, ",\"select\":7,\"baselined\":\"x\",\"scheme\":\"rsassa-sha256\",\"ek\":\"AAAA\"")), QM_OK);
    cr_expect(strcmp(p->scheme, "rsassa-sha256") == 0 && p->ek_len == 3, "what the operator decides is not looked at");
    refused("{\"v\":1,\"kind\":\"proposal\",\"ak\":\"AAAA\"}", "id is missing");
    refused("{\"v\":1,\"kind\":\"proposal\",\"id\":\"a\"}", "ak is missing");
    refused("{\"kind\":\"proposal\",\"id\":\"a\",\"ak\":\"AAAA\"}", "v is missing");
    refused("{\"v\":1,\"kind\":\"proposal\",\"id\":\"\",\"ak\":\"AAAA\"}", "id is not 1 to 128");
    refused("{\"v\":1,\"kind\":\"proposal\",\"id\":\"a\",\"ak\":\"AAAA\",\"ek_cert\":[7]}", "not base64");
    refused("{\"v\":1,\"kind\":\"proposal\",\"id\":\"a\",\"ak\":\"AAAA\",\"ek_cert\":[\"AAAA\",[\"AAAA\"]]}", "not base64");
    refused("", "no JSON");
}

Test(ceremony, an_answer)
{
    struct qm_challenge_answer a;
    struct craft c = {0};
    craft_text(&c, "{\"proof\":\"");
    for (unsigned i = 0; i < 32; i++)
        craft_text(&c, "aB");
    craft_text(&c, "\",\"id\":\"m \\u00e9\",\"challenge\":\"000102030405060708090a0b0c0d0e0f\",\"kind\":\"answer\",\"v\":1,\"more\":{}}");
    const char *line = text_of(&c);
    cr_assert_eq(qm_challenge_answer_read(json, line, strlen(line), &a, &fault), QM_OK, "%s", fault.text);
    cr_expect(a.challenge[15] == 15 && a.proof[31] == 0xab && a.id_len == 4 && memcmp(a.id, "m \xc3\xa9", 4) == 0);
    for (size_t len = 0; len < strlen(line); len++)
        cr_expect_eq(qm_challenge_answer_read(json, line, len, &a, &fault), QM_E_REFUSED, "%zu bytes", len);
}

/* ---- defaults ------------------------------------------------------------------------------------------------------------ */

static const char *file_of(const char *text)
{
    static unsigned count;
    struct craft path = {0};
    char name[32];
    snprintf(name, sizeof name, "/given-%u", count++);
    craft_text(&path, craft_dir());
    craft_text(&path, name);
    FILE *f = fopen(text_of(&path), "w");
    MUST(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
    return (const char *)path.p;
}

/* The merged line, read as every enrolment is. */
static qm_err merge(const char *file, const char *group, const char *const *tags, size_t tag_count, const char *scheme)
{
    struct qm_defaults *d;
    char room[QM_LINE_MAX];
    struct qm_out line = qm_out_init(room, sizeof room);
    const char *pem = craft_pem(craft_key("p256", 0));
    fault = (struct qm_fault){0};
    qm_err err = qm_defaults_open(&d, json, file, group, tags, tag_count, &fault);
    if (err != QM_OK) {
        cr_expect_null(d);
        return err;
    }
    qm_defaults_merge(d, (struct qm_span){(const uint8_t *)"m\"1", 3}, (struct qm_span){(const uint8_t *)pem, strlen(pem)}, scheme, &line);
    qm_defaults_close(d);
    cr_expect_not(line.full);
    return qm_enrolment_read(json, room, line.len, e, &fault);
}

Test(ceremony, defaults_make_a_line)
{
    static const char *const tags[] = {"b=2", "caf\xc3\xa9=a=b\"c"};
    cr_assert_eq(merge(NULL, NULL, NULL, 0, ""), QM_OK, "%s", fault.text);
    cr_expect(e->id_len == 3 && memcmp(e->id, "m\"1", 3) == 0 && !e->has_group && e->tags_len == 0 && e->profile.baselined == 0x3ff);
    cr_assert_eq(merge(NULL, "g", tags, 2, "ecdsa-sha384"), QM_OK, "%s", fault.text);
    cr_expect(e->group_len == 1 && e->profile.hash == QM_HASH_SHA384);
    cr_expect_str_eq(e->tags, "{\"b\":\"2\",\"caf\\u00e9\":\"a=b\\\"c\"}");
    const char *file = file_of("{\"group\":\"h\",\"nonce\":\"00\"}\n\n"
                               "{\"group\":\"g\",\"select\":[{\"bank\":\"sha384\",\"pcrs\":[1]},{\"bank\":\"sha256\",\"pcrs\":[0, 7]}],"
                               "\"baselined\":[7],"
                               "\"baseline\":{\"7\":\"" ONES "\"},\"nonce\":\"abcd\","
                               "\"require_log\":true,\"tags\":{\"a\":\"1\",\"b\":\"1\"},\"unknown\":[1,{\"x\":null}],\"v\":1}\n");
    cr_assert_eq(merge(file, "g", tags, 1, ""), QM_OK, "%s", fault.text);
    cr_expect(e->profile.select_count == 2 && e->profile.select[0].hash == QM_HASH_SHA384 && e->profile.baselined == 0x80 &&
              e->baseline_mask == 0x80 && e->baseline[7][31] == 0x11 && e->require_log && e->nonce_len == 2 && e->nonce[1] == 0xcd);
    cr_expect_str_eq(e->tags, "{\"a\":\"1\",\"b\":\"2\"}");
    cr_expect(merge(file, "h", NULL, 0, "") == QM_OK && e->nonce_len == 1 && e->profile.baselined == 0x3ff && !e->require_log);
    cr_expect_eq(merge(file, NULL, NULL, 0, ""), QM_E_USAGE);
    cr_expect_eq(merge(file, "i", NULL, 0, ""), QM_E_USAGE);
}

Test(ceremony, defaults_that_are_none)
{
    static const char *const bad[] = {"{\"id\":\"a\"}", "{\"ak\":\"a\"}", "{\"scheme\":\"rsassa-sha256\"}", "[]", "{", "{\"group\":7}",
                                      "{\"select\":[]}", "{\"baselined\":[10]}", "{\"baselined\":[]}", "{\"baseline\":{}}", "{}\n{}",
                                      "{\"nonce\":\"\",\"nonce\":\"\"}"};
    static const char *const bad_tags[][2] = {{"a", NULL}, {"=b", NULL}, {"a=\xff", NULL}, {"a=1", "a=2"}};
    for (size_t i = 0; i < QM_COUNT(bad); i++) {
        cr_expect_eq(merge(file_of(bad[i]), NULL, NULL, 0, ""), QM_E_USAGE, "%s", bad[i]);
        cr_expect_not_null(strstr(fault.text, "line "), "%s: %s", bad[i], fault.text);
    }
    for (size_t i = 0; i < QM_COUNT(bad_tags); i++)
        cr_expect_eq(merge(NULL, NULL, bad_tags[i], bad_tags[i][1] != NULL ? 2 : 1, ""), QM_E_USAGE, "%s", bad_tags[i][0]);
    cr_expect_eq(merge("/nowhere/at/all", NULL, NULL, 0, ""), QM_E_IO);
}

/* ---- whose EK is whose --------------------------------------------------------------------------------------------------- */

static enum qm_expected find(const struct qm_expected_eks *x, const char *id, uint8_t byte)
{
    uint8_t ek[32];
    memset(ek, byte, sizeof ek);
    return qm_expected_find(x, (struct qm_span){(const uint8_t *)id, strlen(id)}, ek);
}

Test(ceremony, expected_eks)
{
    struct qm_expected_eks *x;
    static const char *const bad[] = {"a\n", "a " ONES "1\n", "a" ONES "\n", ONES "\n", "\x01 " ONES "\n", "a " ONES "\na " TWOS "\n",
                                      "a " ONES "\nb " ONES "\n", "a " ONES " b\n"};
    cr_assert_eq(qm_expected_open(&x, file_of("# a comment\n  \na " ONES "\r\n\t two words \t" TWOS "  \n" ONES " " THREES), &fault), QM_OK, "%s",
                 fault.text);
    cr_expect_eq(find(x, "a", 0x11), QM_EXPECTED_SAME);
    cr_expect_eq(find(x, "two words", 0x22), QM_EXPECTED_SAME);
    cr_expect_eq(find(x, ONES, 0x33), QM_EXPECTED_SAME, "an id may look like a fingerprint");
    cr_expect_eq(find(x, "a", 0x22), QM_EXPECTED_OTHER_EK);
    cr_expect_eq(find(x, "a", 0x44), QM_EXPECTED_OTHER_EK);
    cr_expect_eq(find(x, "b", 0x11), QM_EXPECTED_OTHER_ID);
    cr_expect_eq(find(x, "aa", 0x44), QM_EXPECTED_UNKNOWN);
    qm_expected_close(x);
    for (size_t i = 0; i < QM_COUNT(bad); i++) {
        cr_expect_eq(qm_expected_open(&x, file_of(bad[i]), &fault), QM_E_USAGE, "%s", bad[i]);
        cr_expect_null(x);
    }
    cr_assert_eq(qm_expected_open(&x, file_of(""), &fault), QM_OK);
    cr_expect_eq(find(x, "a", 0x11), QM_EXPECTED_UNKNOWN);
    qm_expected_close(x);
}

/* ---- weaker -------------------------------------------------------------------------------------------------------------- */

Test(ceremony, what_weakens)
{
    struct qm_profile was = {.hash = QM_HASH_SHA384, .select_count = 2, .first256 = 1, .baselined = 0x91,
                             .select = {{.hash = QM_HASH_SHA1, .mask = 1}, {.hash = QM_HASH_SHA256, .mask = 0x3ff}}};
    const struct qm_key *p256 = craft_key("p256", 0)->key, *p384 = craft_key("p384", 0)->key, *rsa2048 = craft_key("rsa2048", 0)->key,
                        *rsa3072 = craft_key("rsa3072", 0)->key;
    struct qm_profile same = was, no_sha1 = was, less = was, more = was, fewer = was, sha256 = was, others = was;
    no_sha1.select[0] = no_sha1.select[1];
    no_sha1.select_count = 1;
    less.select[1].mask = 0x1ff & ~2u;
    more.select[1].mask = 0xffff;
    more.baselined = 0x93;
    fewer.baselined = 0x90;
    sha256.hash = QM_HASH_SHA256;
    others.baselined = 0x0e;
    const struct qm_demands strong = {&was, p384, 0, true, true, true, true};
    const struct {
        struct qm_demands now;
        const char *why; /* NULL: it is not weaker */
    } cases[] = {
        {{&same, p384, 0, true, true, true, true}, NULL},
        {{&more, p384, 0, true, true, true, true}, NULL},
        {{&no_sha1, p384, 0, true, true, true, true}, "the bank sha1 not selected any more"},
        {{&less, p384, 0, true, true, true, true}, "PCRs 1,9 of sha256 not selected any more"},
        {{&fewer, p384, 0, true, true, true, true}, "PCR 0 not compared any more"},
        {{&others, p384, 0, true, true, true, true}, "PCRs 0,4,7 not compared any more"},
        {{&same, p384, 0x80, true, true, true, true}, "PCR 7 not compared any more"},
        {{&same, p384, 0, false, true, true, true}, "no nonce expected any more"},
        {{&same, p384, 0, true, false, true, true}, "no log required any more"},
        {{&same, p384, 0, true, true, false, true}, "no beacon demanded any more by its group"},
        {{&same, p384, 0, true, true, true, false}, "a key that nothing proves in the place of one that was proven"},
        {{&sha256, p384, 0, true, true, true, true}, "signatures with a shorter hash"},
        {{&same, p256, 0, true, true, true, true}, "a weaker key"},
        {{&fewer, rsa3072, 0, false, true, true, true}, "PCR 0 not compared any more; no nonce expected any more; a weaker key"},
    };
    char why[QM_WEAKER_MAX];
    for (size_t i = 0; i < QM_COUNT(cases); i++) {
        cr_expect_eq(qm_weaker(&strong, &cases[i].now, why), cases[i].why != NULL, "case %zu", i);
        cr_expect_str_eq(why, cases[i].why != NULL ? cases[i].why : "", "case %zu", i);
    }
    const struct qm_demands weak = {&fewer, rsa2048, 0x80, false, false, false, false};
    cr_expect_not(qm_weaker(&weak, &strong, why), "%s", why);
    const struct qm_demands middle = {&fewer, rsa3072, 0x80, false, false, false, false};
    cr_expect(qm_weaker(&middle, &weak, why) && strcmp(why, "a weaker key") == 0);
    cr_expect_not(qm_weaker(&weak, &middle, why));
}
