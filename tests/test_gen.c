/* What gen is made of: the templates of every image in every shape, certificates, the random
 * choices, the reader of fleet.json. gen_check.py checks whole fleets from the outside. */
#include <criterion/criterion.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "tools/gen/gen_efi.h"
#include "tools/gen/gen_image.h"
#include "tools/gen/gen_rand.h"
#include "tools/json_read.h"

static void make(size_t image, bool updated, size_t events, size_t bytes, struct qm_gen_template *t)
{
    struct qm_gen_hasher h;
    struct qm_fault fault = {0};
    cr_assert_eq(qm_gen_hasher_open(&h, &fault), QM_OK);
    cr_assert_eq(qm_gen_image_template(image, updated, events, bytes, &h, t, &fault), QM_OK, "%s",
                 fault.text);
    cr_assert_not(h.bad);
    qm_gen_hasher_close(&h);
}

Test(gen, templates_have_the_shape_that_was_asked_for)
{
    static const struct {
        size_t events, bytes;
        bool exact;
    } shapes[] = {{0, 0, true},
                  {80, 24576, true},
                  {QM_GEN_EVENTS_MIN, 8000, true},
                  {QM_GEN_EVENTS_MIN, QM_GEN_LOG_BYTES_MIN, false},
                  {115, 45000, true},
                  {55, 15000, true},
                  {1000, 2048, false},
                  {QM_GEN_EVENTS_MAX, QM_GEN_LOG_BYTES_MIN, false},
                  {81, QM_LOG_MAX, true},
                  {QM_GEN_EVENTS_MAX, QM_LOG_MAX, true}};
    for (size_t i = 0; i < qm_gen_image_count(); i++)
        for (size_t s = 0; s < QM_COUNT(shapes); s++) {
            const struct qm_gen_image *im = qm_gen_image_at(i);
            struct qm_gen_template a, b;
            size_t events = shapes[s].events != 0 ? shapes[s].events : im->events;
            size_t bytes = shapes[s].bytes != 0 ? shapes[s].bytes : im->log_bytes;
            make(i, false, shapes[s].events, shapes[s].bytes, &a);
            make(i, true, shapes[s].events, shapes[s].bytes, &b);
            cr_expect_eq(a.event_count + 1, events, "%s: %zu events", im->name, a.event_count + 1);
            cr_expect(shapes[s].exact ? a.log_len == bytes : a.log_len >= bytes, "%s: %zu bytes",
                      im->name, a.log_len);
            cr_expect_eq(a.log_len, b.log_len, "%s: kernels of two lengths", im->name);
            for (unsigned pcr = 0; pcr < QM_GEN_PCRS; pcr++)
                cr_expect_eq(memcmp(a.pcr[pcr], b.pcr[pcr], 32) != 0,
                             pcr == 4 || pcr == 8 || pcr == 9, "%s: PCR %u after an update",
                             im->name, pcr);
            cr_expect_eq(a.machine_pcrs & ~(im->grouped ? 0x62u : 0x162u), 0, "%s: %x", im->name,
                         a.machine_pcrs);
            cr_expect(a.target_count >= 4);
            qm_gen_template_free(&a);
            qm_gen_template_free(&b);
        }
}

Test(gen, tampering_changes_one_event_and_one_pcr_to_one_value)
{
    struct qm_gen_hasher h;
    unsigned hit = 0;
    cr_assert_eq(qm_gen_hasher_open(&h, NULL), QM_OK);
    for (size_t i = 0; i < qm_gen_image_count(); i++) {
        struct qm_gen_template t;
        make(i, false, 0, 0, &t);
        uint8_t *good = malloc(t.log_len), *bad = malloc(t.log_len), *again = malloc(t.log_len);
        for (uint64_t machine = 0; machine < 200; machine++) {
            uint8_t pcr[3][QM_GEN_PCRS][32];
            cr_assert_eq(qm_gen_measure(&t, &h, 5, machine, false, good, pcr[0]), 0);
            size_t event = qm_gen_measure(&t, &h, 5, machine, true, bad, pcr[1]);
            cr_assert_eq(qm_gen_measure(&t, &h, 5, machine, true, again, pcr[2]), event);
            cr_assert(event != 0);
            cr_expect_eq(memcmp(bad, again, t.log_len), 0);
            cr_expect_eq(memcmp(pcr[1], pcr[2], sizeof pcr[1]), 0);
            unsigned moved = 0;
            for (unsigned p = 0; p < QM_GEN_PCRS; p++)
                moved |= memcmp(pcr[0][p], pcr[1][p], 32) != 0 ? 1u << p : 0;
            cr_expect_eq(moved, 1u << t.event[event - 1].pcr);
            hit |= moved;
        }
        free(good);
        free(bad);
        free(again);
        qm_gen_template_free(&t);
    }
    qm_gen_hasher_close(&h);
    cr_expect_eq(hit, 0x395, "PCRs 0, 2, 4, 7, 8, 9 are tampered with: %x", hit);
}

Test(gen, certificates_parse)
{
    for (unsigned bits = 1024; bits <= 2048; bits += 1024) {
        uint8_t der[QM_CERT_MAX];
        size_t len = qm_cert_make(der, "A subject (synthetic)", "An issuer (synthetic)", bits);
        const uint8_t *p = der;
        X509 *cert = d2i_X509(NULL, &p, (long)len);
        char name[64] = "";
        cr_assert_not_null(cert);
        cr_expect_eq(p, der + len);
        X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, name, sizeof name);
        cr_expect_str_eq(name, "A subject (synthetic)");
        cr_expect_eq(EVP_PKEY_get_bits(X509_get0_pubkey(cert)), (int)bits);
        cr_expect_eq(X509_check_ca(cert), 1);
        X509_free(cert);
    }
}

Test(gen, crc_and_guid)
{
    static const uint8_t guid[16] = {0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11,
                                     0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c};
    cr_expect_eq(qm_crc32((const uint8_t *)"123456789", 9), 0xcbf43926);
    struct qm_guid g = qm_guid_of(QM_GUID_GLOBAL);
    cr_expect_eq(memcmp(g.b, guid, sizeof guid), 0);
}

Test(gen, images_take_their_share)
{
    unsigned count[16] = {0}, shares = 0;
    for (uint64_t machine = 0; machine < 100000; machine++)
        count[qm_gen_image_of(3, machine)]++;
    for (size_t i = 0; i < qm_gen_image_count(); i++) {
        unsigned share = qm_gen_image_at(i)->share;
        shares += share;
        cr_expect(count[i] > share * 900 && count[i] < share * 1100, "%s: %u",
                  qm_gen_image_at(i)->name, count[i]);
    }
    cr_expect_eq(shares, 100);
}

/* --- json_read --- */

static qm_err write_item(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct qm_out *o = user;
    (void)fault;
    if (item->key.p != NULL) {
        qm_out_bytes(o, item->key.p, item->key.len);
        qm_out_char(o, '=');
    }
    qm_out_char(o, "nbirtao"[item->kind]);
    if (item->kind == QM_JSON_INT || item->kind == QM_JSON_BOOL)
        qm_out_u64(o, (uint64_t)item->number);
    qm_out_bytes(o, item->text.p, item->text.len);
    qm_out_char(o, ';');
    return item->key.len == 4 && memcmp(item->key.p, "stop", 4) == 0 ? QM_E_LIMIT : QM_OK;
}

static const char *read_all(enum qm_json_kind kind, const char *text, size_t len, qm_err want)
{
    static char buf[1024];
    struct qm_out o = qm_out_init(buf, sizeof buf - 1);
    struct qm_json *json;
    struct qm_fault fault = {0};
    cr_assert_eq(qm_json_open(&json, &fault), QM_OK);
    cr_expect_eq(qm_json_each(json, kind, text, len, write_item, &o, &fault), want, "%s", text);
    cr_expect_eq(qm_json_each(json, QM_JSON_OBJECT, "{}", 2, write_item, &o, &fault), QM_OK);
    qm_json_close(json);
    buf[o.len] = '\0';
    return buf;
}
#define READ(text, want) read_all(QM_JSON_OBJECT, text, sizeof(text) - 1, want)

Test(json_read, members_come_in_order_with_their_kinds)
{
    cr_expect_str_eq(
        READ("{\"b\":1,\"a\":\"x\\u00e9\\n\\\\u0000\",\"b\":[1,{}],\"c\":{\"d\":null},\"e\":"
             "true,\"f\":null,\"g\":1.5,\"h\":99999999999999999999,\"\\u0061\":2}",
             QM_OK),
        "b=i1;a=tx\xc3\xa9\n\\u0000;b=a[1,{}];c=o{\"d\":null};e=b1;f=n;g=r;h=r;a=i2;");
    cr_expect_str_eq(READ("{}", QM_OK), "");
    cr_expect_str_eq(READ("{\"a\":1,\"stop\":2,\"b\":3}", QM_E_LIMIT), "a=i1;stop=i2;");
    cr_expect_str_eq(read_all(QM_JSON_ARRAY, "[3,\"x\"]", 7, QM_OK), "i3;tx;");
}

Test(json_read, what_is_no_json_is_refused)
{
    static const char *const bad[] = {"",
                                      "[]",
                                      "1",
                                      "null",
                                      "{",
                                      "{}x",
                                      "{'a':1}",
                                      "{a:1}",
                                      "{\"a\":}",
                                      "{\"a\":01}",
                                      "{\"a\":+1}",
                                      "{\"a\":1,}",
                                      "{\"a\" 1}",
                                      "{\"a\":NaN}",
                                      "{\"a\":.5}",
                                      "{\"a\":\"\x01\"}",
                                      "{\"a\":\"\xff\"}",
                                      "{\"a\":\"\\u0000\"}",
                                      "{\"a\\u0000\":1}",
                                      "{\"a\":\"\\ud800\"}",
                                      "{\"a\":0x10}",
                                      "{} {}",
                                      "{\"a\":1/**/}",
                                      "{\"a\":\"\\x41\"}"};
    for (size_t i = 0; i < QM_COUNT(bad); i++)
        cr_expect_str_eq(read_all(QM_JSON_OBJECT, bad[i], strlen(bad[i]), QM_E_REFUSED), "", "%s",
                         bad[i]);
    READ("{\"a\":1}\0{}", QM_E_REFUSED);
    read_all(QM_JSON_ARRAY, "{}", 2, QM_E_REFUSED);
}

struct deep {
    struct qm_json *json;
    unsigned levels;
};

static qm_err dive(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct deep *d = user;
    d->levels++;
    return qm_json_each(d->json, QM_JSON_OBJECT, (const char *)item->text.p, item->text.len, dive,
                        d, fault);
}

Test(json_read, nests_as_deep_as_it_says)
{
    static const char text[] = "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}}";
    struct qm_fault fault = {0};
    struct deep d = {NULL, 0};
    cr_assert_eq(qm_json_open(&d.json, &fault), QM_OK);
    cr_expect_eq(qm_json_each(d.json, QM_JSON_OBJECT, text, sizeof text - 1, dive, &d, &fault),
                 QM_E_REFUSED);
    cr_expect_eq(d.levels, QM_JSON_DEPTH_MAX);
    cr_expect_eq(qm_json_each(d.json, QM_JSON_OBJECT, "{\"a\":{}}", 8, dive, &d, &fault), QM_OK);
    qm_json_close(d.json);
}
