/* Result and run records: JSON and msgpack say the same, every field stands exactly where it
 * should, and nothing outgrows its room. msgpack is decoded by msgpack-c and written as JSON here,
 * by other code than what is tested. */
#include <criterion/criterion.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/emit.h"
#include "codec/result.h"
#include "tests/craft.h"

/* ---- msgpack -> JSON as the contract writes it ------------------------------------------------
 */

static void json_of(const msgpack_object *o, struct craft *c)
{
    char number[32];
    switch (o->type) {
    case MSGPACK_OBJECT_NIL:
        craft_text(c, "null");
        break;
    case MSGPACK_OBJECT_BOOLEAN:
        craft_text(c, o->via.boolean ? "true" : "false");
        break;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        snprintf(number, sizeof number, "%llu", (unsigned long long)o->via.u64);
        craft_text(c, number);
        break;
    case MSGPACK_OBJECT_BIN:
        craft_text(c, "\"");
        for (uint32_t i = 0; i < o->via.bin.size; i++) {
            snprintf(number, sizeof number, "%02x", (uint8_t)o->via.bin.ptr[i]);
            craft_text(c, number);
        }
        craft_text(c, "\"");
        break;
    case MSGPACK_OBJECT_STR:
        craft_text(c, "\"");
        for (uint32_t i = 0; i < o->via.str.size; i++) {
            uint8_t b = (uint8_t)o->via.str.ptr[i];
            if (b == '"' || b == '\\')
                craft_text(c, "\\");
            if (b >= 0x20 && b < 0x7f) {
                craft_put(c, &b, 1);
                continue;
            }
            unsigned code = b, len = b < 0x80 ? 1 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : 4;
            cr_assert(b < 0x80 || b >= 0xc2, "a str is UTF-8");
            if (len > 1)
                code = b & (0x7fu >> len);
            for (unsigned j = 1; j < len; j++)
                code = code << 6 | ((uint8_t)o->via.str.ptr[++i] & 0x3f);
            if (code >= 0x10000)
                snprintf(number, sizeof number, "\\u%04x\\u%04x", 0xd800 + ((code - 0x10000) >> 10),
                         0xdc00 + ((code - 0x10000) & 0x3ff));
            else
                snprintf(number, sizeof number, "\\u%04x", code);
            craft_text(c, number);
        }
        craft_text(c, "\"");
        break;
    case MSGPACK_OBJECT_ARRAY:
        craft_text(c, "[");
        for (uint32_t i = 0; i < o->via.array.size; i++) {
            craft_text(c, i != 0 ? "," : "");
            json_of(&o->via.array.ptr[i], c);
        }
        craft_text(c, "]");
        break;
    case MSGPACK_OBJECT_MAP:
        craft_text(c, "{");
        for (uint32_t i = 0; i < o->via.map.size; i++) {
            craft_text(c, i != 0 ? "," : "");
            cr_assert_eq(o->via.map.ptr[i].key.type, MSGPACK_OBJECT_STR);
            json_of(&o->via.map.ptr[i].key, c);
            craft_text(c, ":");
            json_of(&o->via.map.ptr[i].val, c);
        }
        craft_text(c, "}");
        break;
    default:
        cr_assert_fail("type %d in a result", (int)o->type);
    }
}

/* The whole of out is one msgpack value; as JSON. */
static char *decoded(const struct qm_out *out)
{
    msgpack_unpacked u;
    struct craft c = {0};
    size_t off = 0;
    msgpack_unpacked_init(&u);
    cr_assert_eq(msgpack_unpack_next(&u, out->p, out->len, &off), MSGPACK_UNPACK_SUCCESS);
    cr_assert_eq(off, out->len);
    json_of(&u.data, &c);
    msgpack_unpacked_destroy(&u);
    craft_put(&c, "\n", 2);
    return (char *)c.p;
}

static char json_room[QM_RESULT_MAX + 1], msgpack_room[QM_RESULT_MAX];

/* Both forms of a result, found equal; the JSON. */
static const char *write_both(const struct qm_result *r, bool stages)
{
    struct qm_out json = qm_out_init(json_room, QM_RESULT_MAX),
                  packed = qm_out_init(msgpack_room, QM_RESULT_MAX);
    qm_result_write(&json, r, QM_FORMAT_NDJSON, stages);
    qm_result_write(&packed, r, QM_FORMAT_MSGPACK, stages);
    cr_assert(!json.full && !packed.full);
    json_room[json.len] = '\0';
    cr_assert_str_eq(json_room, decoded(&packed));
    return json_room;
}

static struct qm_result usual(void)
{
    static const uint8_t digest[32] = {0xd1};
    struct qm_result r = {.run = "run-1",
                          .source = {(const uint8_t *)"a.mpk", 5},
                          .off = 10,
                          .len = 20,
                          .id = {(const uint8_t *)"m-1", 3},
                          .baseline = 4,
                          .clock_ms = UINT64_MAX,
                          .firmware = 6,
                          .t_ms = 7,
                          .checked_ms = 8,
                          .reset = 9,
                          .restart = 11,
                          .status = QM_TRUSTED,
                          .reason = QM_ALL_GOOD,
                          .log = QM_LOG_REPLAYED,
                          .first_fail = -1,
                          .safe = 1,
                          .proven = true,
                          .has_attest = true,
                          .has_clock = true,
                          .has_t = true,
                          .has_baseline = true,
                          .pcr_digest = {digest, 32},
                          .attest = {0xa7}};
    return r;
}

static const uint8_t one[32] = {1}, two[32] = {2};

static void stage(struct qm_result *r, uint8_t pcr, enum qm_stage_state state,
                  const uint8_t *measured, const uint8_t *expected)
{
    r->stage[r->stage_count++] = (struct qm_stage){pcr, (uint8_t)state, measured, expected};
}

#define ZEROS "000000000000000000000000000000000000000000000000000000000000"

Test(result, trusted)
{
    struct qm_result r = usual();
    stage(&r, 0, QM_STAGE_PASS, one, one);
    cr_expect_str_eq(
        write_both(&r, false),
        "{\"v\":1,\"kind\":\"status\",\"run\":\"run-1\",\"src\":\"a.mpk\",\"off\":10,\"len\":20,"
        "\"id\":\"m-1\","
        "\"status\":\"trusted\",\"reason\":\"ok\",\"log\":\"replayed\",\"attest\":\"a700" ZEROS
        "\","
        "\"clock\":18446744073709551615,\"reset\":9,\"restart\":11,\"safe\":true,\"firmware\":6,"
        "\"t\":7,"
        "\"checked\":8,\"baseline\":4}\n");
    cr_expect_not_null(strstr(write_both(&r, true),
                              "\"stages\":[{\"pcr\":0,\"name\":\"firmware and S-CRTM\",\"state\":"
                              "\"pass\",\"measured\":\"0100" ZEROS "\",\"expected\":\"0100" ZEROS
                              "\"}]"));
    craft_free_all();
}

Test(result, mismatch)
{
    struct qm_result r = usual();
    r.status = QM_UNTRUSTED;
    r.reason = QM_PCR_MISMATCH;
    r.first_fail = 4;
    stage(&r, 0, QM_STAGE_PASS, one, one);
    stage(&r, 4, QM_STAGE_FAIL, one, two);
    stage(&r, 7, QM_STAGE_NOT_REACHED, two, two);
    stage(&r, 9, QM_STAGE_NOT_REACHED, two, one);
    const char *text = write_both(&r, false);
    cr_expect_not_null(
        strstr(text, "\"first_fail\":4,\"changes\":[{\"pcr\":4,\"expected\":\"0200" ZEROS
                     "\",\"measured\":\"0100" ZEROS "\"},{\"pcr\":9,\"expected\":\"0100" ZEROS
                     "\",\"measured\":\"0200" ZEROS "\"}],\"pcr_digest\":\"d100" ZEROS "\","));
    cr_expect_not_null(strstr(text, "\"state\":\"fail\""));
    cr_expect_not_null(strstr(text, "\"state\":\"not_reached\""));
    craft_free_all();
}

Test(result, event)
{
    struct qm_result r = usual();
    r.status = QM_UNTRUSTED;
    r.reason = QM_PCR_MISMATCH;
    r.first_fail = 8;
    stage(&r, 8, QM_STAGE_FAIL, one, two);
    cr_expect_null(strstr(write_both(&r, false), "\"event\""));
    r.has_event = true;
    r.event = (struct qm_event_diff){7, 13, one, two, {(const uint8_t *)"a \"b\"", 5}, true};
    cr_expect_not_null(strstr(write_both(&r, false),
                              "\"}],\"event\":{\"index\":7,\"pcr\":8,\"type\":13,\"digest\":\"0100" ZEROS
                              "\",\"expected_digest\":\"0200" ZEROS
                              "\",\"text\":\"a \\\"b\\\"\",\"proved\":true},\"pcr_digest\""));
    r.event.digest = NULL;
    r.event.proved = false;
    cr_expect_not_null(strstr(write_both(&r, false), "\"type\":13,\"expected_digest\":\"0200" ZEROS "\",\"text\""));
    cr_expect_not_null(strstr(json_room, "\"proved\":false},"));
    r.event.digest = one;
    r.event.expected_digest = NULL;
    cr_expect_not_null(strstr(write_both(&r, false), "\"type\":13,\"digest\":\"0100" ZEROS "\",\"text\""));
    craft_free_all();
}

/* Which fields stand where: status, reason, and what the result holds. */
Test(result, fields)
{
    static const struct {
        enum qm_status status;
        enum qm_reason reason;
        bool stages_asked, proven, has_clock;
        bool stages, changes, digest;
    } cases[] = {
        {QM_TRUSTED, QM_ALL_GOOD, false, true, true, false, false, false},
        {QM_TRUSTED, QM_ALL_GOOD, true, true, true, true, false, false},
        {QM_NEW, QM_NO_BASELINE, false, true, true, true, false, true},
        {QM_NEW, QM_PCR_VALUES_MISSING, false, false, true, true, false, true},
        {QM_UNTRUSTED, QM_PCR_MISMATCH, false, true, true, true, true, true},
        {QM_UNTRUSTED, QM_PCR_MISMATCH, true, false, true, true, false, true},
        {QM_UNTRUSTED, QM_LOG_REQUIRED, false, true, true, true, false, true},
        {QM_INVALID, QM_BAD_SIGNATURE, true, false, false, false, false, false},
        {QM_INVALID, QM_MALFORMED, true, false, false, false, false, false},
    };
    for (size_t i = 0; i < QM_COUNT(cases); i++) {
        struct qm_result r = usual();
        r.status = (uint8_t)cases[i].status;
        r.reason = (uint8_t)cases[i].reason;
        r.proven = cases[i].proven;
        r.has_clock = cases[i].has_clock;
        stage(&r, 3, QM_STAGE_UNKNOWN, cases[i].proven ? one : NULL, NULL);
        const char *text = write_both(&r, cases[i].stages_asked);
        const struct {
            const char *key;
            bool is;
        } keys[] = {{"stages", cases[i].stages},
                    {"changes", cases[i].changes},
                    {"pcr_digest", cases[i].digest},
                    {"clock", cases[i].has_clock},
                    {"reset", cases[i].has_clock},
                    {"restart", cases[i].has_clock},
                    {"safe", cases[i].has_clock},
                    {"firmware", cases[i].has_clock},
                    {"first_fail", false},
                    {"count", false},
                    {"measured", cases[i].stages && cases[i].proven},
                    {"expected", false}};
        for (size_t k = 0; k < QM_COUNT(keys); k++) {
            char name[32];
            snprintf(name, sizeof name, "\"%s\":", keys[k].key);
            cr_expect_eq(strstr(text, name) != NULL, keys[k].is, "case %zu: %s in %s", i, name,
                         text);
        }
    }
    struct qm_result r = {.run = "r", .first_fail = -1, .count = 12};
    cr_expect_str_eq(
        write_both(&r, true),
        "{\"v\":1,\"kind\":\"status\",\"run\":\"r\",\"src\":\"\",\"off\":0,\"len\":0,\"id\":\"\","
        "\"status\":\"invalid\","
        "\"reason\":\"malformed\",\"log\":\"not_checked\",\"count\":12,\"checked\":0}\n");
    craft_free_all();
}

Test(result, hostile_names)
{
    static const struct {
        const char *name, *json;
    } names[] = {{"a\xff\xfe.mpk", "\"src\":\"a\\\\xff\\\\xfe.mpk\""},
                 {"\x1b]0;owned\x07", "\"src\":\"\\u001b]0;owned\\u0007\""},
                 {"\",\"status\":\"trusted", "\"src\":\"\\\",\\\"status\\\":\\\"trusted\""},
                 {"line\nline", "\"src\":\"line\\u000aline\""},
                 {"\xc3\xa9\xf0\x9f\x98\x80", "\"src\":\"\\u00e9\\ud83d\\ude00\""}};
    for (size_t i = 0; i < QM_COUNT(names); i++) {
        struct qm_result r = usual();
        r.source = (struct qm_span){(const uint8_t *)names[i].name, strlen(names[i].name)};
        cr_expect_not_null(strstr(write_both(&r, false), names[i].json), "%s", json_room);
    }
    craft_free_all();
}

Test(result, largest_fits)
{
    static uint8_t name[QM_SOURCE_MAX + 100];
    static const uint8_t fill[] = {0xff, '\n', '"', 0x80, 0xc3};
    static const uint8_t digest[64] = {0xee};
    for (size_t f = 0; f < sizeof fill; f++) {
        memset(name, fill[f], sizeof name);
        struct qm_result r = usual();
        r.source = (struct qm_span){name, sizeof name};
        r.off = r.len = r.count = r.baseline = r.firmware = r.t_ms = r.checked_ms = UINT64_MAX;
        r.reset = r.restart = UINT32_MAX;
        r.status = QM_UNTRUSTED;
        r.reason = QM_PCR_MISMATCH;
        r.first_fail = 23;
        r.pcr_digest = (struct qm_span){digest, 64};
        static uint8_t id[QM_ID_MAX];
        memset(id, '"', sizeof id);
        r.id = (struct qm_span){id, sizeof id};
        for (uint8_t pcr = 0; pcr < QM_PCR_COUNT; pcr++)
            stage(&r, pcr, QM_STAGE_NOT_REACHED, one, two);
        static uint8_t event_text[QM_EVENT_TEXT_MAX];
        memset(event_text, '\\', sizeof event_text);
        r.has_event = true;
        r.event = (struct qm_event_diff){UINT32_MAX, UINT32_MAX, one, two, {event_text, sizeof event_text}, false};
        const char *text = write_both(&r, true);
        cr_expect_gt(strlen(text), QM_SOURCE_MAX);
        cr_expect_not_null(strstr(text, "\"baseline\":18446744073709551615}"));
    }
    craft_free_all();
}

Test(result, names_of_everything)
{
    /* the contract's words */
    static const char *const statuses[] = {"invalid", "untrusted", "new", "trusted", "duplicate"};
    for (unsigned i = 0; i < QM_STATUS_COUNT; i++)
        cr_expect_str_eq(qm_status_name((enum qm_status)i), statuses[i]);
    static const struct {
        enum qm_reason r;
        const char *name;
    } reasons[] = {{QM_MALFORMED, "malformed"},
                   {QM_UNKNOWN_INSTANCE, "unknown_instance"},
                   {QM_NOT_A_QUOTE, "not_a_quote"},
                   {QM_BAD_SIGNATURE, "bad_signature"},
                   {QM_WRONG_SELECTION, "wrong_selection"},
                   {QM_STALE_NONCE, "stale_nonce"},
                   {QM_DUPLICATE_RECORD, "duplicate"},
                   {QM_REPLAYED, "replayed"},
                   {QM_PCR_MISMATCH, "pcr_mismatch"},
                   {QM_PCR_VALUES_MISSING, "pcr_values_missing"},
                   {QM_LOG_REQUIRED, "log_required"},
                   {QM_NO_BASELINE, "no_baseline"},
                   {QM_LEARNED, "learned"},
                   {QM_ALL_GOOD, "ok"}};
    cr_assert_eq(QM_COUNT(reasons), QM_REASON_COUNT);
    for (size_t i = 0; i < QM_COUNT(reasons); i++)
        cr_expect_str_eq(qm_reason_name(reasons[i].r), reasons[i].name);
    static const char *const logs[] = {"not_checked",  "absent",       "malformed",
                                       "unreplayable", "inconsistent", "replayed"};
    for (unsigned i = 0; i < QM_LOG_STATE_COUNT; i++)
        cr_expect_str_eq(qm_log_state_name((enum qm_log_state)i), logs[i]);
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        cr_expect_gt(strlen(qm_stage_name(pcr)), 0);
    /* a zeroed result is the worst one */
    struct qm_result zero = {0};
    cr_expect_str_eq(qm_status_name((enum qm_status)zero.status), "invalid");
}

Test(result, run_record)
{
    struct qm_run run = {.run = "run-1",
                         .start_ms = 1,
                         .end_ms = 2,
                         .files = 3,
                         .records = 4,
                         .bytes = 5,
                         .generation = 6,
                         .by_status = {[QM_INVALID] = 1, [QM_TRUSTED] = 3},
                         .by_reason = {[QM_MALFORMED] = 1, [QM_ALL_GOOD] = 3},
                         .complete = true,
                         .version = "0.1.0",
                         .kernel_count = 2,
                         .kernel = {{"rsa2048", "openssl"}, {"sha256", "shani"}}};
    for (unsigned i = 0; i < 2; i++) {
        struct qm_out json = qm_out_init(json_room, QM_RESULT_MAX),
                      packed = qm_out_init(msgpack_room, QM_RESULT_MAX);
        qm_run_write(&json, &run, QM_FORMAT_NDJSON);
        qm_run_write(&packed, &run, QM_FORMAT_MSGPACK);
        json_room[json.len] = '\0';
        cr_expect_str_eq(json_room, decoded(&packed));
        if (i == 0)
            cr_expect_str_eq(json_room, "{\"v\":1,\"kind\":\"run\",\"run\":\"run-1\",\"start\":1,"
                                        "\"end\":2,\"complete\":true,\"files\":3,"
                                        "\"records\":4,\"bytes\":5,\"by_status\":{\"invalid\":1,"
                                        "\"trusted\":3},\"by_reason\":{\"malformed\":1,"
                                        "\"ok\":3},\"version\":\"0.1.0\",\"kernels\":{\"rsa2048\":"
                                        "\"openssl\",\"sha256\":\"shani\"},"
                                        "\"generation\":6}\n");
        run.complete = false;
        for (unsigned j = 0; j < QM_STATUS_COUNT; j++)
            run.by_status[j] = UINT64_MAX;
        for (unsigned j = 0; j < QM_REASON_COUNT; j++)
            run.by_reason[j] = UINT64_MAX;
    }
    craft_free_all();
}

/* ---- the writer itself ------------------------------------------------------------------------
 */

static void tree(struct qm_emit *e, uint64_t *rng, unsigned depth)
{
    static const uint8_t bytes[] = {0xff, 0x00, 0x7f, 'a', '"', 0xc3, 0xa9};
    switch (craft_random(rng) % (depth < QM_EMIT_DEPTH ? 8 : 6)) {
    case 0:
        qm_emit_u64(e, craft_random(rng) >> (craft_random(rng) % 64));
        break;
    case 1:
        qm_emit_bool(e, craft_random(rng) % 2);
        break;
    case 2:
        qm_emit_null(e);
        break;
    case 3:
        qm_emit_text(e, (struct qm_span){bytes, craft_random(rng) % (sizeof bytes + 1)});
        break;
    case 4:
        qm_emit_bytes(e, bytes, craft_random(rng) % (sizeof bytes + 1));
        break;
    case 5:
        qm_emit_name(e, "name");
        break;
    case 6:
        qm_emit_array(e);
        for (uint64_t n = craft_random(rng) % 5; n != 0; n--)
            tree(e, rng, depth + 1);
        qm_emit_end(e);
        break;
    default:
        qm_emit_map(e);
        for (uint64_t n = craft_random(rng) % 5; n != 0; n--) {
            qm_emit_key(e, "key");
            tree(e, rng, depth + 1);
        }
        qm_emit_end(e);
    }
}

Test(emit, numbers_as_keys_and_base64)
{
    static const uint8_t bytes[] = {0xfb, 0xff, 0x00, 0x01};
    static const char packed[] = "\xde\0\2\xcc\xc8\xc4\4\xfb\xff\0\1\0\xc0";
    char text[64];
    for (unsigned json = 0; json < 2; json++) {
        struct qm_out o = qm_out_init(text, sizeof text);
        struct qm_emit e = qm_emit_init(&o, json != 0);
        qm_emit_map(&e);
        qm_emit_key_u64(&e, 200);
        qm_emit_base64(&e, bytes, sizeof bytes);
        qm_emit_key_u64(&e, 0);
        qm_emit_null(&e);
        qm_emit_end(&e);
        qm_out_char(&o, '\0');
        if (json != 0)
            cr_expect_str_eq(text, "{\"200\":\"+/8AAQ==\",\"0\":null}");
        else
            cr_expect_arr_eq(text, packed, sizeof packed - 1);
    }
}

Test(emit, both_forms_of_any_tree)
{
    uint64_t seed = craft_seed("both_forms_of_any_tree");
    for (unsigned round = 0; round < 2000; round++) {
        uint64_t rng = seed + round, again = rng;
        struct qm_out json = qm_out_init(json_room, QM_RESULT_MAX - 1),
                      packed = qm_out_init(msgpack_room, QM_RESULT_MAX);
        struct qm_emit e = qm_emit_init(&json, true);
        tree(&e, &rng, 0);
        e = qm_emit_init(&packed, false);
        tree(&e, &again, 0);
        qm_out_char(&json, '\n');
        json_room[json.len] = '\0';
        cr_assert_str_eq(json_room, decoded(&packed));
        /* with too little room nothing is written past it */
        for (size_t cap = 0; cap < packed.len && cap < 40; cap++) {
            char *room = malloc(cap + 1);
            MUST(room != NULL);
            struct qm_out small = qm_out_init(room, cap);
            uint64_t same = seed + round;
            e = qm_emit_init(&small, false);
            tree(&e, &same, 0);
            cr_assert(small.full && small.len <= cap);
            free(room);
        }
    }
    craft_free_all();
}
