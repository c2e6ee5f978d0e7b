/* Event logs: the walker's rules, each at its limit, and the words made of events. Logs are built
 * here. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "codec/eventtext.h"
#include "codec/uefi.h"
#include "tests/list_check.h"
#include "tests/json_check.h"
#include "engine/explain.h"
#include "tools/log_read.h"

/* ---- a log under construction
 * ------------------------------------------------------------------------------------------ */

struct build {
    uint8_t p[16384];
    size_t len;
};

static void add(struct build *b, const void *p, size_t len)
{
    cr_assert(len <= sizeof b->p - b->len);
    if (len != 0)
        memcpy(b->p + b->len, p, len);
    b->len += len;
}
static void add8(struct build *b, unsigned v)
{
    uint8_t x = (uint8_t)v;
    add(b, &x, 1);
}
static void add16(struct build *b, unsigned v)
{
    uint16_t x = (uint16_t)v;
    add(b, &x, 2);
}
static void add32(struct build *b, uint32_t v)
{
    add(b, &v, 4);
}
static void add64(struct build *b, uint64_t v)
{
    add(b, &v, 8);
}
static void add_ucs2(struct build *b, const char *ascii)
{
    for (; *ascii != '\0'; ascii++)
        add16(b, (uint8_t)*ascii);
}
static void add_fill(struct build *b, int fill, size_t len)
{
    cr_assert(len <= sizeof b->p - b->len);
    memset(b->p + b->len, fill, len);
    b->len += len;
}

struct alg {
    uint16_t id, size;
};
static const struct alg sha1 = {4, 20}, sha256 = {11, 32}, sha384 = {12, 48}, sha512 = {13, 64},
                        sm3 = {18, 32};

static void add_legacy(struct build *b, uint32_t pcr, uint32_t type, const void *data, size_t len)
{
    add32(b, pcr);
    add32(b, type);
    add_fill(b, 0x11, 20);
    add32(b, (uint32_t)len);
    add(b, data, len);
}

static void add_spec_id(struct build *b, uint32_t claimed, const struct alg *algs, size_t count,
                        size_t vendor)
{
    struct build d = {.len = 0};
    add(&d, "Spec ID Event03", 16);
    add32(&d, 0);
    add32(&d, 0x02000200);
    add32(&d, claimed);
    for (size_t i = 0; i < count; i++) {
        add16(&d, algs[i].id);
        add16(&d, algs[i].size);
    }
    add8(&d, (unsigned)vendor);
    add_fill(&d, 'v', vendor);
    add32(b, 0);
    add32(b, QM_EV_NO_ACTION);
    add_fill(b, 0, 20);
    add32(b, (uint32_t)d.len);
    add(b, d.p, d.len);
}

static void add_event(struct build *b, uint32_t pcr, uint32_t type, const struct alg *algs,
                      size_t count, const void *data, size_t len)
{
    add32(b, pcr);
    add32(b, type);
    add32(b, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        add16(b, algs[i].id);
        add_fill(b, 0xa0 + (int)i, algs[i].size);
    }
    add32(b, (uint32_t)len);
    add(b, data, len);
}

static const struct alg two[] = {{4, 20}, {11, 32}};
static void add_plain(struct build *b, uint32_t pcr, uint32_t type, const void *data, size_t len)
{
    add_event(b, pcr, type, two, 2, data, len);
}
static struct build header(void)
{
    struct build b = {.len = 0};
    add_spec_id(&b, 2, two, 2, 0);
    return b;
}

enum { SEPARATOR = 4, ACTION = 5 };

/* Walks it; the number of events, or -1 where it is malformed. Each log lies in memory of its own
 * size, for the sanitizers. */
static int walk_bytes(const uint8_t *p, size_t len, struct qm_log_starts *starts)
{
    uint8_t *copy = malloc(len != 0 ? len : 1);
    struct qm_log log;
    struct qm_event e;
    int count = -1;
    memset(starts, 0, sizeof *starts);
    memcpy(copy, p, len);
    if (qm_log_open(&log, (struct qm_span){copy, len})) {
        enum qm_log_step step;
        for (count = 0; (step = qm_log_next(&log, &e)) == QM_LOG_EVENT; count++) {
            cr_assert_lt(count, (int)(len / 16) + 1);
            qm_log_starts_fold(starts, &e);
        }
        cr_assert_eq(qm_log_next(&log, &e), step);
        if (step == QM_LOG_MALFORMED)
            count = -1;
    }
    list_check((struct qm_span){copy, len});
    free(copy);
    return count;
}
static int walk(const struct build *b)
{
    struct qm_log_starts starts;
    return walk_bytes(b->p, b->len, &starts);
}

/* ---- the walker
 * --------------------------------------------------------------------------------------------------------
 */

Test(walker, agile)
{
    struct build b = header();
    add_plain(&b, 7, 0x80000001, "abc", 3);
    add_plain(&b, 23, SEPARATOR, "", 0);
    struct qm_log log;
    struct qm_event e;
    cr_assert(qm_log_open(&log, (struct qm_span){b.p, b.len}));
    cr_expect_eq(log.format, QM_LOG_AGILE);
    cr_expect(qm_log_has_bank(&log, QM_HASH_SHA1) && qm_log_has_bank(&log, QM_HASH_SHA256));
    cr_expect(!qm_log_has_bank(&log, QM_HASH_SHA384) && !qm_log_has_bank(&log, QM_HASH_NONE));
    cr_assert_eq(qm_log_next(&log, &e), QM_LOG_EVENT);
    cr_expect(e.index == 0 && e.type == QM_EV_NO_ACTION && !e.extends);
    cr_assert_eq(qm_log_next(&log, &e), QM_LOG_EVENT);
    cr_expect(e.index == 1 && e.pcr == 7 && e.type == 0x80000001 && e.extends && e.data.len == 3);
    cr_expect_eq(memcmp(e.data.p, "abc", 3), 0);
    cr_expect_eq(e.digest[QM_HASH_SHA1][19], 0xa0);
    cr_expect_eq(e.digest[QM_HASH_SHA256][31], 0xa1);
    cr_expect_null(e.digest[QM_HASH_SHA384]);
    cr_assert_eq(qm_log_next(&log, &e), QM_LOG_EVENT);
    cr_expect(e.index == 2 && e.pcr == 23 && e.data.len == 0);
    cr_expect_eq(qm_log_next(&log, &e), QM_LOG_END);
    cr_expect_eq(qm_log_next(&log, &e), QM_LOG_END);
}

Test(walker, legacy)
{
    struct build b = {.len = 0};
    add_legacy(&b, 0, 8, "v1", 2);
    add_legacy(&b, 1, SEPARATOR, "\0\0\0\0", 4);
    struct qm_log log;
    struct qm_event e;
    cr_assert(qm_log_open(&log, (struct qm_span){b.p, b.len}));
    cr_expect_eq(log.format, QM_LOG_LEGACY);
    cr_expect(qm_log_has_bank(&log, QM_HASH_SHA1) && !qm_log_has_bank(&log, QM_HASH_SHA256));
    cr_assert_eq(qm_log_next(&log, &e), QM_LOG_EVENT);
    cr_expect(e.pcr == 0 && e.extends && e.digest[QM_HASH_SHA1][0] == 0x11);
    cr_expect_null(e.digest[QM_HASH_SHA256]);
    cr_expect_eq(walk(&b), 2);
    b.len -= 5;
    cr_expect_eq(walk(&b), -1);
}

Test(walker, nothing_is_no_log)
{
    struct qm_log log;
    cr_expect(!qm_log_open(&log, (struct qm_span){NULL, 0}));
    cr_expect(!qm_log_open(&log, (struct qm_span){(const uint8_t *)"", 0}));
    struct build b = {.len = 0};
    add_fill(&b, 0, 100);
    cr_expect_eq(walk(&b), -1, "nothing but padding");
    memset(b.p, 0xff, b.len);
    cr_expect_eq(walk(&b), -1);
    b.len = 31;
    b.p[0] = 1;
    cr_expect_eq(walk(&b), -1, "no whole first event");
}

Test(walker, no_events)
{
    struct build b = header();
    cr_expect_eq(walk(&b), 1);
}

Test(walker, padding)
{
    static const int fills[] = {0x00, 0xff};
    for (size_t f = 0; f < QM_COUNT(fills); f++)
        for (size_t len = 0; len <= 40; len++) {
            struct build b = header();
            add_plain(&b, 0, ACTION, "x", 1);
            add_fill(&b, fills[f], len);
            cr_expect_eq(walk(&b), 2, "%zu bytes of %02x", len, fills[f]);
            if (len == 0)
                continue;
            b.p[b.len - 1] ^= 0x01;
            cr_expect_eq(walk(&b), -1, "%zu bytes of %02x, the last one not", len, fills[f]);
            b.p[b.len - 1] ^= 0x01;
            if (len > 1) {
                b.p[b.len - len] = 0x7e;
                cr_expect_eq(walk(&b), -1, "the first one not");
            }
        }
}

/* Zeros that end the last event's data are its own: the padding only begins where an event ends. */
Test(walker, padding_after_zeros)
{
    struct build b = header();
    add_plain(&b, 0, SEPARATOR, "\0\0\0\0", 4);
    cr_expect_eq(walk(&b), 2);
    add_fill(&b, 0, 9);
    cr_expect_eq(walk(&b), 2);
    add8(&b, 1);
    cr_expect_eq(walk(&b), -1);
}

Test(walker, pcr_limits)
{
    static const struct {
        uint32_t pcr, type;
        int events;
    } cases[] = {
        {22, ACTION, 2},
        {23, ACTION, 2},
        {24, ACTION, -1},
        {0xfffffffe, ACTION, -1},
        {QM_PCR_NONE, ACTION, -1},
        {23, QM_EV_NO_ACTION, 2},
        {24, QM_EV_NO_ACTION, -1},
        {0xfffffffe, QM_EV_NO_ACTION, -1},
        {QM_PCR_NONE, QM_EV_NO_ACTION, 2},
    };
    for (size_t i = 0; i < QM_COUNT(cases); i++) {
        struct build b = header();
        add_plain(&b, cases[i].pcr, cases[i].type, "x", 1);
        cr_expect_eq(walk(&b), cases[i].events, "case %zu", i);
    }
}

Test(walker, banks)
{
    struct alg algs[] = {{4, 20}, {11, 32}, {18, 32}, {0x27, 48}};
    struct build b = {.len = 0};
    add_spec_id(&b, 4, algs, 4, 0);
    size_t head = b.len;
    add_event(&b, 0, ACTION, algs, 4, "x", 1);
    cr_expect_eq(walk(&b), 2, "algorithms known by their size only");
    b.len = head;
    add_event(&b, 0, ACTION, algs + 1, 1, "x", 1);
    cr_expect_eq(walk(&b), 2, "fewer digests than announced");
    b.len = head;
    add_event(&b, 0, ACTION, algs, 0, "x", 1);
    cr_expect_eq(walk(&b), 2, "none at all");
    struct alg reversed[] = {{0x27, 48}, {18, 32}, {11, 32}, {4, 20}};
    b.len = head;
    add_event(&b, 0, ACTION, reversed, 4, "x", 1);
    cr_expect_eq(walk(&b), 2, "in another order");
    struct alg twice[] = {{11, 32}, {11, 32}};
    b.len = head;
    add_event(&b, 0, ACTION, twice, 2, "x", 1);
    cr_expect_eq(walk(&b), -1, "a bank twice");
    struct alg unknown_twice[] = {{18, 32}, {18, 32}};
    b.len = head;
    add_event(&b, 0, ACTION, unknown_twice, 2, "x", 1);
    cr_expect_eq(walk(&b), -1, "an unknown bank twice");
    b.len = head;
    add_event(&b, 0, ACTION, &sha384, 1, "x", 1);
    cr_expect_eq(walk(&b), -1, "not announced");
    struct alg five[] = {{4, 20}, {11, 32}, {18, 32}, {0x27, 48}, {11, 32}};
    b.len = head;
    add_event(&b, 0, ACTION, five, 5, "x", 1);
    cr_expect_eq(walk(&b), -1, "more digests than banks");
}

Test(walker, header_limits)
{
    struct alg algs[QM_LOG_BANK_MAX + 1];
    for (unsigned i = 0; i < QM_COUNT(algs); i++)
        algs[i] = (struct alg){(uint16_t)(0x100 + i), (uint16_t)i};
    for (unsigned count = 0; count <= QM_COUNT(algs); count++) {
        struct build b = {.len = 0};
        add_spec_id(&b, count, algs, count, 0);
        cr_expect_eq(walk(&b), count >= 1 && count <= QM_LOG_BANK_MAX ? 1 : -1, "%u algorithms",
                     count);
        add_event(&b, 0, ACTION, algs, count, "x", 1);
        cr_expect_eq(walk(&b), count >= 1 && count <= QM_LOG_BANK_MAX ? 2 : -1, "%u digests",
                     count);
    }
    static const uint32_t lies[] = {0, 1, 3, 0xffffffff};
    for (size_t i = 0; i < QM_COUNT(lies); i++) {
        struct build b = {.len = 0};
        add_spec_id(&b, lies[i], two, 2, 0);
        cr_expect_eq(walk(&b), -1, "%u algorithms announced, two there", lies[i]);
    }
    const struct alg known[] = {sha1, sha256, sha384, sha512};
    for (size_t i = 0; i < QM_COUNT(known); i++)
        for (int more = -1; more <= 1; more++) {
            struct alg one = {known[i].id, (uint16_t)(known[i].size + more)};
            struct build b = {.len = 0};
            add_spec_id(&b, 1, &one, 1, 0);
            cr_expect_eq(walk(&b), more == 0 ? 1 : -1, "algorithm %u of %u bytes", one.id,
                         one.size);
        }
    const struct alg same[] = {sm3, sm3};
    struct build b = {.len = 0};
    add_spec_id(&b, 2, same, 2, 0);
    cr_expect_eq(walk(&b), -1, "an algorithm announced twice");
}

Test(walker, vendor_info)
{
    static const size_t lens[] = {0, 1, 255};
    for (size_t i = 0; i < QM_COUNT(lens); i++) {
        struct build b = {.len = 0};
        add_spec_id(&b, 2, two, 2, lens[i]);
        cr_expect_eq(walk(&b), 1);
    }
    struct build b = header();
    b.p[b.len - 1] = 1; /* says one byte that is not there */
    cr_expect_eq(walk(&b), -1);
    b = header();
    b.p[28]++; /* eventSize: a byte is left over behind vendorInfo */
    add8(&b, 0x55);
    cr_expect_eq(walk(&b), -1);
}

Test(walker, data_sizes)
{
    struct build b = header();
    size_t head = b.len;
    add_plain(&b, 0, ACTION, "12345678", 8);
    size_t size_at = head + 12 + 22 + 34;
    static const struct {
        uint32_t size;
        int events;
    } cases[] = {{8, 2}, {9, -1}, {7, -1}, {0xffffffff, -1}, {0x80000000, -1}};
    for (size_t i = 0; i < QM_COUNT(cases); i++) {
        memcpy(b.p + size_at, &cases[i].size, 4);
        cr_expect_eq(walk(&b), cases[i].events, "size %x", cases[i].size);
    }
}

/* Every prefix, and every byte changed to some other values, is walked within bounds; a prefix that
 * ends between events is whole. */
/* Events of the shape that most have, next to others, around every limit that the short way looks at. */
Test(walker, usual_shape)
{
    static const struct alg turned[] = {{11, 32}, {4, 20}}, three[] = {{4, 20}, {11, 32}, {12, 48}}, unknown[] = {{0x1234, 5}, {11, 32}},
                            none[] = {{0x1234, 0}, {11, 32}};
    static const struct {
        const struct alg *algs;
        size_t count;
    } banks[] = {{two, 2}, {turned, 2}, {three, 3}, {&sha256, 1}, {&sha1, 1}, {unknown, 2}, {none, 2}};
    static const uint32_t types[] = {0, 1, QM_EV_NO_ACTION, SEPARATOR, 0x3ff, 0x400, 0x401, 0x4ff, 0x500, 0x80000001,
                                     QM_EV_EFI_HCRTM_EVENT};
    for (size_t i = 0; i < QM_COUNT(banks); i++)
        for (size_t j = 0; j < QM_COUNT(types); j++) {
            struct build b = {.len = 0};
            struct qm_log_starts starts;
            add_spec_id(&b, (uint32_t)banks[i].count, banks[i].algs, banks[i].count, 0);
            add_event(&b, 0, QM_EV_NO_ACTION, banks[i].algs, banks[i].count, "StartupLocality\0\3", 17);
            add_event(&b, 17, types[j], banks[i].algs, banks[i].count, "abcdefgh", 8);
            const size_t at = b.len;
            add_event(&b, 0, types[j], banks[i].algs, banks[i].count, "x", 1);
            const size_t end = b.len;
            add_event(&b, 23, SEPARATOR, banks[i].algs, banks[i].count > 1 ? banks[i].count - 1 : 1, "", 0); /* one bank left out */
            add_event(&b, 2, ACTION, banks[i].algs, banks[i].count, "", 0);
            cr_expect_eq(walk(&b), 6, "banks %zu, type %zu", i, j);
            for (size_t len = at; len <= b.len; len++) /* cut everywhere */
                walk_bytes(b.p, len, &starts);
            for (size_t k = at; k < end; k++) /* every byte of an event another */
                for (unsigned bit = 0; bit < 9; bit++) {
                    const uint8_t old = b.p[k];
                    b.p[k] = (uint8_t)(bit < 8 ? old ^ (1u << bit) : 0xffu);
                    walk_bytes(b.p, b.len, &starts);
                    b.p[k] = old;
                }
        }
}

Test(walker, prefixes_and_corruption)
{
    struct build b = header();
    struct qm_log_starts starts;
    size_t whole[5] = {b.len};
    add_plain(&b, 0, QM_EV_NO_ACTION, "StartupLocality\0\3", 17);
    whole[1] = b.len;
    add_plain(&b, 7, 0x80000001, "data", 4);
    whole[2] = b.len;
    add_event(&b, 4, ACTION, &sha256, 1, "x", 1);
    whole[3] = b.len;
    for (size_t len = 0; len <= b.len; len++) {
        int events = walk_bytes(b.p, len, &starts);
        for (int i = 0; i < 4; i++)
            if (whole[i] == len)
                cr_expect_eq(events, i + 1, "the first %zu bytes", len);
    }
    for (size_t i = 0; i < b.len; i++)
        for (unsigned bit = 0; bit < 10; bit++) {
            uint8_t old = b.p[i];
            b.p[i] = (uint8_t)(bit < 8 ? old ^ (1u << bit) : bit == 8 ? 0u : 0xffu);
            walk_bytes(b.p, b.len, &starts);
            b.p[i] = old;
        }
}

/* ---- start values
 * --------------------------------------------------------------------------------------------------------
 */

static void start_of(const struct build *b, unsigned pcr, uint8_t value[32])
{
    struct qm_log_starts starts;
    cr_assert_geq(walk_bytes(b->p, b->len, &starts), 0);
    qm_log_start(&starts, pcr, value, 32);
}

static void expect_start(const struct build *b, unsigned pcr, int fill, int last, const char *what)
{
    uint8_t value[32], expected[32];
    start_of(b, pcr, value);
    memset(expected, fill, sizeof expected);
    expected[31] = (uint8_t)last;
    cr_expect_arr_eq(value, expected, sizeof expected, "PCR %u, %s", pcr, what);
}

Test(starts, plain)
{
    struct build b = header();
    add_plain(&b, 0, ACTION, "x", 1);
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++) {
        int fill = pcr >= 17 && pcr <= 22 ? 0xff : 0;
        expect_start(&b, pcr, fill, fill, "no start event");
    }
}

Test(starts, locality)
{
    struct build b = header();
    add_plain(&b, 0, QM_EV_NO_ACTION, "StartupLocality\0\3", 17);
    add_plain(&b, 0, ACTION, "x", 1);
    expect_start(&b, 0, 0, 3, "StartupLocality");
    expect_start(&b, 1, 0, 0, "StartupLocality is of PCR 0");

    b = header();
    add_plain(&b, 5, ACTION, "x", 1);
    add_plain(&b, 0, QM_EV_NO_ACTION, "StartupLocality\0\3", 17);
    expect_start(&b, 0, 0, 0, "after an extend");

    b = header();
    add_plain(&b, 1, QM_EV_NO_ACTION, "StartupLocality\0\3", 17);
    expect_start(&b, 0, 0, 0, "in PCR 1");

    b = header();
    add_plain(&b, 0, ACTION, "StartupLocality\0\3", 17);
    expect_start(&b, 0, 0, 0, "of another type");

    for (size_t len = 15; len <= 18; len++) {
        b = header();
        add_plain(&b, 0, QM_EV_NO_ACTION, "StartupLocality\0\3\3", len);
        expect_start(&b, 0, 0, len == 17 ? 3 : 0, "length");
    }
    b = (struct build){.len = 0};
    add_legacy(&b, 0, QM_EV_NO_ACTION, "StartupLocality\0\3", 17);
    expect_start(&b, 0, 0, 3, "legacy");
}

Test(starts, hcrtm)
{
    struct build b = header();
    add_plain(&b, 0, QM_EV_EFI_HCRTM_EVENT, "HCRTM", 5);
    expect_start(&b, 0, 0, 4, "H-CRTM");
    b = header();
    add_plain(&b, 0, QM_EV_NO_ACTION, "StartupLocality\0\3", 17);
    add_plain(&b, 0, QM_EV_EFI_HCRTM_EVENT, "HCRTM", 5);
    expect_start(&b, 0, 0, 4, "H-CRTM over locality");
    b = header();
    add_plain(&b, 1, QM_EV_EFI_HCRTM_EVENT, "HCRTM", 5);
    expect_start(&b, 0, 0, 0, "H-CRTM in PCR 1");
}

Test(starts, dynamic_launch)
{
    static const struct {
        uint32_t pcr, type;
        bool launched;
    } cases[] = {{17, 0x400, false}, {17, 0x401, true},  {18, 0x4ff, true},  {17, 0x500, false},
                 {17, 0x501, false}, {16, 0x402, false}, {23, 0x402, false}, {22, 0x402, true}};
    for (size_t i = 0; i < QM_COUNT(cases); i++) {
        struct build b = header();
        add_plain(&b, cases[i].pcr, cases[i].type, "x", 1);
        int fill = cases[i].launched ? 0 : 0xff;
        for (unsigned pcr = 17; pcr <= 22; pcr++)
            expect_start(&b, pcr, fill, fill, "launch");
        expect_start(&b, 16, 0, 0, "PCR 16");
        expect_start(&b, 23, 0, 0, "PCR 23");
    }
}

/* ---- words
 * ---------------------------------------------------------------------------------------------------------------
 */

static const char *describe(uint32_t type, const void *data, size_t len)
{
    static char line[QM_EVENT_LINE_MAX + 1];
    uint8_t *copy = malloc(len != 0 ? len : 1);
    if (len != 0)
        memcpy(copy, data, len);
    struct qm_event e = {.type = type, .extends = type != QM_EV_NO_ACTION, .data = {copy, len}};
    struct qm_out o = qm_out_init(line, QM_EVENT_LINE_MAX);
    qm_event_describe(&e, &o);
    cr_assert(!o.full);
    line[o.len] = '\0';
    free(copy);
    return line;
}

static const char *detail(uint32_t type, const void *data, size_t len)
{
    static char json[256 * 1024];
    uint8_t *copy = malloc(len != 0 ? len : 1);
    if (len != 0)
        memcpy(copy, data, len);
    struct qm_event e = {.type = type, .extends = type != QM_EV_NO_ACTION, .data = {copy, len}};
    cr_assert_lt(qm_event_json_max(len), sizeof json);
    struct qm_out o = qm_out_init(json, qm_event_json_max(len));
    qm_event_json(&e, &o);
    cr_assert(!o.full);
    cr_assert(json_is_value(json, o.len), "%.*s", (int)o.len, json);
    json[o.len] = '\0';
    free(copy);
    return json;
}

#define EXPECT_HAS(text, part)                                                                     \
    cr_expect(strstr((text), (part)) != NULL, "no %s in %s", (part), (text))

static const uint8_t guid_global[16] = {0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11,
                                        0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c};
static const uint8_t guid_sha256[16] = {0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40,
                                        0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28};
static const uint8_t guid_x509[16] = {0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a,
                                      0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72};

static struct build variable(const char *name, const void *value, size_t len)
{
    struct build b = {.len = 0};
    add(&b, guid_global, 16);
    add64(&b, strlen(name));
    add64(&b, len);
    add_ucs2(&b, name);
    add(&b, value, len);
    return b;
}

static void add_node(struct build *b, unsigned type, unsigned subtype, const void *body, size_t len)
{
    add8(b, type);
    add8(b, subtype);
    add16(b, (unsigned)len + 4);
    add(b, body, len);
}

enum { DRIVER_CONFIG = 1, VARIABLE_BOOT = 2, APPLICATION = 3, GPT = 6 };
#define EFI(n) (0x80000000u + (n))

Test(words, type_names)
{
    cr_expect_str_eq(qm_event_type_name(0), "EV_PREBOOT_CERT");
    cr_expect_str_eq(qm_event_type_name(0xd), "EV_IPL");
    cr_expect_str_eq(qm_event_type_name(0x402), "EVTYPE_HASH_START");
    cr_expect_str_eq(qm_event_type_name(0x800000e0), "EV_EFI_VARIABLE_AUTHORITY");
    cr_expect_str_eq(qm_event_type_name(0x800000e4), "EV_EFI_SPDM_DEVICE_AUTHORITY");
    cr_expect_null(qm_event_type_name(0x500));
    cr_expect_null(qm_event_type_name(0xffffffff));
    cr_expect_str_eq(qm_event_tag_name(0x70001), "FilePath");
    cr_expect_str_eq(qm_event_tag_name(0xc0010004), "TrustPointAggregation");
    cr_expect_null(qm_event_tag_name(0));
}

Test(words, variables)
{
    struct build b = variable("SecureBoot", "\1", 1);
    cr_expect_str_eq(describe(EFI(DRIVER_CONFIG), b.p, b.len), "SecureBoot = 1");
    EXPECT_HAS(detail(EFI(DRIVER_CONFIG), b.p, b.len),
               "\"name\":\"SecureBoot\",\"value_size\":1,\"value\":1");
    b = variable("PK", "", 0);
    cr_expect_str_eq(describe(EFI(DRIVER_CONFIG), b.p, b.len), "PK is empty");
    b = variable("BootOrder", "\1\0\xab\0", 4);
    cr_expect_str_eq(describe(EFI(VARIABLE_BOOT), b.p, b.len), "BootOrder = 0001 00ab");
    EXPECT_HAS(detail(EFI(VARIABLE_BOOT), b.p, b.len), "\"order\":[\"0001\",\"00ab\"]");
    b = variable("BootOrder", "\1\0\2", 3);
    EXPECT_HAS(describe(EFI(VARIABLE_BOOT), b.p, b.len), "BootOrder = 3 bytes 010002");
    b = variable("SbatLevel", "sbat,1\n", 7);
    cr_expect_str_eq(describe(0x800000e0, b.p, b.len), "SbatLevel = sbat,1\\u{a}");
}

Test(words, variable_lengths_lie)
{
    struct build b = variable("SecureBoot", "\1", 1);
    static const uint64_t lies[] = {11, 0x7fffffffffffffff, 0x8000000000000000, UINT64_MAX};
    for (size_t i = 0; i < QM_COUNT(lies); i++)
        for (size_t at = 16; at <= 24; at += 8) {
            struct build c = b;
            memcpy(c.p + at, &lies[i], 8);
            EXPECT_HAS(detail(EFI(DRIVER_CONFIG), c.p, c.len), "\"malformed\":true");
            describe(EFI(DRIVER_CONFIG), c.p, c.len);
        }
    for (size_t len = 0; len < b.len; len++)
        EXPECT_HAS(detail(EFI(DRIVER_CONFIG), b.p, len), "\"malformed\":true");
}

static struct build signature_list(const uint8_t *type, uint32_t list_size, uint32_t header_size,
                                   uint32_t size, size_t bytes)
{
    struct build b = {.len = 0};
    add(&b, type, 16);
    add32(&b, list_size);
    add32(&b, header_size);
    add32(&b, size);
    add_fill(&b, 0x33, bytes);
    return b;
}

Test(words, signature_lists)
{
    struct build s = signature_list(guid_sha256, 28 + 96, 0, 48, 96);
    struct build b = variable("dbx", s.p, s.len);
    cr_expect_str_eq(describe(EFI(DRIVER_CONFIG), b.p, b.len), "dbx: 2 hashes");
    EXPECT_HAS(detail(EFI(DRIVER_CONFIG), b.p, b.len), "\"type_name\":\"SHA-256\"");
    static const struct {
        uint32_t list_size, header_size, size;
        bool good;
    } cases[] = {
        {28 + 96, 0, 0, false},  {28 + 96, 0, 15, false},    {28 + 96, 0, 16, true},
        {28 + 96, 0, 47, false}, {28 + 96, 48, 48, true},    {28 + 96, 97, 48, false},
        {28 + 96, 96, 48, true}, {27, 0, 48, false},         {0, 0, 48, false},
        {28 + 97, 0, 48, false}, {0xffffffff, 0, 48, false}, {28 + 96, 0xffffffff, 48, false},
        {28, 0, 48, false}, /* an empty list, then bytes that are no list */
    };
    for (size_t i = 0; i < QM_COUNT(cases); i++) {
        s = signature_list(guid_sha256, cases[i].list_size, cases[i].header_size, cases[i].size,
                           96);
        b = variable("dbx", s.p, s.len);
        const char *json = detail(EFI(DRIVER_CONFIG), b.p, b.len);
        cr_expect_eq(strstr(json, "malformed") == NULL, cases[i].good, "case %zu: %s", i, json);
        describe(EFI(DRIVER_CONFIG), b.p, b.len);
    }
    s = signature_list(guid_x509, 28 + 40, 0, 40, 40);
    b = variable("db", s.p, s.len);
    cr_expect_str_eq(describe(EFI(DRIVER_CONFIG), b.p, b.len), "db: 1 certificate",
                     "no name in it");
}

/* Puts tag and length (under 128) in front of what b holds. */
static struct build der(unsigned tag, struct build b)
{
    struct build out = {.len = 0};
    cr_assert_lt(b.len, 128);
    add8(&out, tag);
    add8(&out, (unsigned)b.len);
    add(&out, b.p, b.len);
    return out;
}
static void join(struct build *b, struct build more)
{
    add(b, more.p, more.len);
}
static struct build certificate(const char *name, unsigned string_tag)
{
    static const struct build none = {.len = 0};
    struct build text = {.len = 0}, oid = {.len = 0}, subject, tbs = {.len = 0};
    add(&text, name, strlen(name));
    add(&oid, "\x55\4\3", 3);
    subject = der(6, oid);
    join(&subject, der(string_tag, text));
    subject = der(0x30, der(0x31, der(0x30, subject)));
    join(&tbs, der(0xa0, der(2, text)));
    join(&tbs, der(2, text));
    for (int i = 0; i < 3; i++)
        join(&tbs, der(0x30, none));
    join(&tbs, subject);
    return der(0x30, der(0x30, tbs));
}

Test(words, certificate_names)
{
    struct build c = certificate("CA \xc3\xa9", 12);
    struct qm_span name;
    cr_assert(qm_cert_name((struct qm_span){c.p, c.len}, &name));
    cr_expect(name.len == 5 && memcmp(name.p, "CA \xc3\xa9", 5) == 0);
    for (size_t len = 0; len < c.len; len++) {
        uint8_t *cut = malloc(len + 1);
        memcpy(cut, c.p, len);
        qm_cert_name((struct qm_span){cut, len}, &name);
        free(cut);
    }
    c = certificate("x", 2);
    cr_expect(!qm_cert_name((struct qm_span){c.p, c.len}, &name), "a name that is no string");
    static const uint8_t endless[] = {0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x30, 0x80, 0x30, 0x85};
    cr_expect(!qm_cert_name((struct qm_span){endless, sizeof endless}, &name));
}

static struct build load_option(const char *text, const struct build *path)
{
    struct build b = {.len = 0};
    add32(&b, 1);
    add16(&b, (unsigned)path->len);
    add_ucs2(&b, text);
    add16(&b, 0);
    add(&b, path->p, path->len);
    return b;
}

static struct build boot_path(void)
{
    struct build path = {.len = 0}, body = {.len = 0};
    add32(&body, 1);
    add64(&body, 2048);
    add64(&body, 4096);
    add(&body, guid_global, 16);
    add16(&body, 0x0202);
    add_node(&path, 4, 1, body.p, body.len);
    body.len = 0;
    add_ucs2(&body, "\\EFI\\debian\\shimx64.efi");
    add16(&body, 0);
    add_node(&path, 4, 4, body.p, body.len);
    add_node(&path, 0x7f, 0xff, "", 0);
    return path;
}

Test(words, load_options)
{
    struct build path = boot_path();
    struct build option = load_option("debian", &path);
    struct build b = variable("Boot0001", option.p, option.len);
    cr_expect_str_eq(describe(EFI(VARIABLE_BOOT), b.p, b.len),
                     "Boot0001 debian \\\\EFI\\\\debian\\\\shimx64.efi");
    EXPECT_HAS(detail(EFI(VARIABLE_BOOT), b.p, b.len),
               "\"device_path\":\"HD(1,GPT,8be4df61-93ca-11d2-aa0d-00e098032b8c,0x800,0x1000)/"
               "\\\\EFI\\\\debian\\\\shimx64.efi\"");
    b = variable("Boot000G", option.p, option.len);
    EXPECT_HAS(describe(EFI(VARIABLE_BOOT), b.p, b.len), "Boot000G = ");
    for (size_t len = 1; len < option.len;
         len++) { /* a description that never ends, a path cut short */
        b = variable("Boot0001", option.p, len);
        describe(EFI(VARIABLE_BOOT), b.p, b.len);
        EXPECT_HAS(detail(EFI(VARIABLE_BOOT), b.p, b.len), "malformed");
    }
}

static const char *path_text(const struct build *path)
{
    static char text[4096];
    uint8_t *copy = malloc(path->len + 1);
    memcpy(copy, path->p, path->len);
    struct qm_out o = qm_out_init(text, sizeof text - 1);
    qm_device_path_write(&o, (struct qm_span){copy, path->len});
    text[o.len] = '\0';
    free(copy);
    return text;
}

Test(words, device_paths)
{
    static const struct {
        uint8_t type, subtype;
        size_t len;
        const char *body, *text;
    } cases[] = {
        {1, 1, 2, "\2\x1f", "Pci(0x1f,0x2)"},
        {1, 3, 20, "\1\0\0\0\2\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0", "MemoryMapped(0x1,0x2,0x3)"},
        {1, 4, 18, "\0\1\2\3\4\5\6\7\x8\x9\xa\xb\xc\xd\xe\xf\xaa\xbb",
         "VenHw(03020100-0504-0706-0809-0a0b0c0d0e0f,aabb)"},
        {2, 1, 8, "\xd0\x41\x03\x0a\1\0\0\0", "PciRoot(0x1)"},
        {2, 1, 8, "\xd0\x41\x08\x0a\0\0\0\0", "PcieRoot(0x0)"},
        {2, 1, 8, "\xd0\x41\x0c\x0c\0\0\0\0", "Acpi(PNP0C0C,0x0)"},
        {2, 1, 8, "\1\2\3\4\0\0\0\0", "Acpi(0x4030201,0x0)"},
        {3, 1, 4, "\0\1\2\0", "Ata(Primary,Slave,0x2)"},
        {3, 2, 4, "\1\0\2\0", "Scsi(0x1,0x2)"},
        {3, 5, 2, "\1\2", "USB(0x1,0x2)"},
        {3, 11, 33, "\0\1\2\3\4\5\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1",
         "MAC(000102030405,0x1)"},
        {3, 12, 15, "\x0a\0\0\1\x0a\0\0\2\0\0\0\0\6\0\1", "IPv4(10.0.0.2,TCP,Static,10.0.0.1)"},
        {3, 18, 6, "\1\0\xff\xff\0\0", "Sata(0x1,0xffff,0x0)"},
        {3, 23, 12, "\1\0\0\0\1\2\3\4\5\6\7\x8", "NVMe(0x1,08-07-06-05-04-03-02-01)"},
        {3, 24, 11, "http://host", "Uri(http://host)"},
        {4, 4, 6, "a\0b\0\0\0", "ab"},
        {4, 4, 5, "a\0b\0c", "ab"}, /* an odd byte */
        {4, 6, 16, "\0\1\2\3\4\5\6\7\x8\x9\xa\xb\xc\xd\xe\xf",
         "FvFile(03020100-0504-0706-0809-0a0b0c0d0e0f)"},
        {4, 8, 20, "\0\0\0\0\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0", "Offset(0x1,0x2)"},
        {5, 1, 8, "\2\0\0\0disk", "BBS(HD,disk,0x0)"},
        {1, 1, 1, "\2", "Path(1,1,02)"}, /* too short for its type */
        {9, 8, 0, "", "Path(9,8)"},
    };
    for (size_t i = 0; i < QM_COUNT(cases); i++) {
        struct build path = {.len = 0};
        add_node(&path, cases[i].type, cases[i].subtype, cases[i].body, cases[i].len);
        add_node(&path, 0x7f, 0xff, "", 0);
        cr_expect_str_eq(path_text(&path), cases[i].text);
    }
    /* Every type with every length up to 64: no read beyond the node. */
    static const uint8_t zeros[64];
    for (unsigned type = 0; type <= 6; type++)
        for (unsigned subtype = 0; subtype <= 40; subtype++)
            for (size_t len = 0; len <= sizeof zeros; len++) {
                struct build path = {.len = 0};
                add_node(&path, type, subtype, zeros, len);
                path_text(&path);
            }
}

Test(words, device_paths_that_lie)
{
    static const unsigned lengths[] = {0, 1, 2, 3, 7, 0xffff};
    for (size_t i = 0; i < QM_COUNT(lengths); i++) {
        struct build path = {.len = 0};
        add_node(&path, 1, 1, "\0\1", 2);
        add8(&path, 1);
        add8(&path, 1);
        add16(&path, lengths[i]); /* two bytes follow: 6 would be true */
        add16(&path, 0);
        cr_expect_str_eq(path_text(&path), "Pci(0x1,0x0)...", "length %u", lengths[i]);
    }
    struct build path = {.len = 0};
    add_node(&path, 1, 1, "\0\1", 2);
    add_node(&path, 0x7f, 1, "", 0);
    add_node(&path, 1, 1, "\0\2", 2);
    cr_expect_str_eq(path_text(&path), "Pci(0x1,0x0),Pci(0x2,0x0)", "two instances");
}

Test(words, images)
{
    struct build path = boot_path(), b = {.len = 0};
    add64(&b, 0x1000);
    add64(&b, 4096);
    add64(&b, 0);
    add64(&b, path.len);
    add(&b, path.p, path.len);
    for (uint32_t type = 3; type <= 5; type++) {
        cr_expect_str_eq(describe(EFI(type), b.p, b.len), "\\\\EFI\\\\debian\\\\shimx64.efi");
        EXPECT_HAS(detail(EFI(type), b.p, b.len), "\"address\":\"0x1000\",\"length\":4096");
    }
    memset(b.p + 24, 0xff, 8);
    EXPECT_HAS(detail(EFI(APPLICATION), b.p, b.len), "malformed");
}

Test(words, gpt)
{
    struct build b = {.len = 0};
    add(&b, "EFI PART", 8);
    add_fill(&b, 0, 48);
    add(&b, guid_global, 16);
    add64(&b, 2);
    add32(&b, 128);
    add32(&b, 128);
    add32(&b, 0);
    size_t count_at = b.len;
    add64(&b, 1);
    add(&b, "\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b", 16);
    add(&b, guid_sha256, 16);
    add64(&b, 34);
    add64(&b, 99);
    add64(&b, 0);
    add_ucs2(&b, "EFI");
    add_fill(&b, 0, 66);
    cr_expect_str_eq(describe(EFI(GPT), b.p, b.len),
                     "disk 8be4df61-93ca-11d2-aa0d-00e098032b8c, 1 partition: EFI system");
    EXPECT_HAS(detail(EFI(GPT), b.p, b.len),
               "\"first_lba\":34,\"last_lba\":99,\"attributes\":\"0x0\",\"name\":\"EFI\"");
    static const uint64_t lies[] = {2, 0x0200000000000000, UINT64_MAX};
    for (size_t i = 0; i < QM_COUNT(lies); i++) {
        memcpy(b.p + count_at, &lies[i], 8);
        EXPECT_HAS(detail(EFI(GPT), b.p, b.len), "malformed");
    }
    memcpy(b.p + count_at, &(uint64_t){1}, 8);
    memset(b.p + 84, 0xff, 4); /* an entry of 4 GiB */
    EXPECT_HAS(detail(EFI(GPT), b.p, b.len), "malformed");
}

Test(words, boot_loaders)
{
    cr_expect_str_eq(describe(0xd, "grub_cmd: linux /vmlinuz", 25), "grub_cmd: linux /vmlinuz");
    cr_expect_str_eq(detail(0xd, "grub_cmd: linux /vmlinuz", 25),
                     "{\"label\":\"grub_cmd\",\"text\":\"linux /vmlinuz\"}");
    cr_expect_str_eq(detail(0xd, "kernel_cmdline: quiet", 21),
                     "{\"label\":\"kernel_cmdline\",\"text\":\"quiet\"}");
    cr_expect_str_eq(describe(0xd, "grub_cmd: \x1b[2J\xff\n", 16),
                     "grub_cmd: \\u{1b}[2J\\xff\\u{a}");
    cr_expect_str_eq(describe(0xd, "r\0o\0\0\0", 6), "ro");
    char lots[1000];
    memset(lots, 'x', sizeof lots);
    cr_expect_eq(strlen(describe(0xd, lots, sizeof lots)), 303, "a line is cut");
    cr_expect_gt(strlen(detail(0xd, lots, sizeof lots)), 1000, "the detail is not");
}

Test(words, the_rest)
{
    cr_expect_str_eq(describe(4, "\0\0\0\0", 4), "separator");
    cr_expect_str_eq(describe(4, "\1\0\0\0", 4), "error separator");
    cr_expect_str_eq(detail(4, "\1\0\0\0", 4), "{\"value\":\"0x1\",\"error\":true}");
    cr_expect_str_eq(describe(4, "WBCL", 4), "separator WBCL");
    EXPECT_HAS(detail(4, "\0\0\0", 3), "malformed");
    cr_expect_str_eq(describe(3, "StartupLocality\0\3", 17), "startup locality 3");
    EXPECT_HAS(detail(3, "StartupLocality\0", 16), "malformed");
    cr_expect_str_eq(describe(8,
                              "v\0"
                              "1\0\0\0",
                              6),
                     "v1");
    cr_expect_str_eq(describe(8, guid_global, 16), "EFI global variable");
    cr_expect_str_eq(describe(1, "ACPI DATA", 9), "ACPI DATA");
    cr_expect_str_eq(describe(EFI(8), "\0\0\1\0\0\0\0\0\0\2\0\0\0\0\0\0", 16),
                     "firmware at 0x10000, 0x200 bytes");
    cr_expect_str_eq(describe(EFI(10), "\3FV\0\0\0\1\0\0\0\0\0\0\2\0\0\0\0\0\0", 20),
                     "FV: firmware at 0x10000, 0x200 bytes");
    cr_expect_str_eq(describe(EFI(7), "Exit Boot Services Invocation", 29),
                     "Exit Boot Services Invocation");
    cr_expect_str_eq(describe(0x77777777, "\0\1\2\3", 4), "4 bytes 00010203");
    cr_expect_str_eq(detail(0x77777777, "\0\1\2\0", 4), "{\"data\":\"00010200\"}");
    cr_expect_str_eq(describe(0x77777777, "", 0), "0 bytes");
    cr_expect_str_eq(describe(0x11, "Label\0\1\2", 8), "Label in 8 bytes");
}

Test(words, tables)
{
    struct build b = {.len = 0};
    add64(&b, 1);
    add(&b, guid_global, 16);
    add64(&b, 0x1234);
    cr_expect_str_eq(describe(EFI(9), b.p, b.len), "tables: EFI global variable");
    EXPECT_HAS(detail(EFI(9), b.p, b.len), "\"address\":\"0x1234\"");
    static const uint64_t lies[] = {2, 0x0aaaaaaaaaaaaaab, UINT64_MAX};
    for (size_t i = 0; i < QM_COUNT(lies); i++) {
        memcpy(b.p, &lies[i], 8);
        EXPECT_HAS(detail(EFI(9), b.p, b.len), "malformed");
    }
}

Test(words, tags)
{
    struct build inner = {.len = 0}, b = {.len = 0};
    add32(&inner, 0x70001);
    add32(&inner, 4);
    add_ucs2(&inner, "\\x");
    add32(&b, 0x40010003);
    add32(&b, (uint32_t)inner.len);
    add(&b, inner.p, inner.len);
    cr_expect_str_eq(describe(6, b.p, b.len), "LoadedModuleAggregation: \\\\x and 1 item");
    EXPECT_HAS(detail(6, b.p, b.len), "\"name\":\"FilePath\",\"depth\":1");
    for (size_t i = 0; i < b.len;
         i++) { /* a tag that reaches out of its aggregation, and all else */
        uint8_t old = b.p[i];
        b.p[i] = 0xff;
        describe(6, b.p, b.len);
        detail(6, b.p, b.len);
        b.p[i] = old;
    }
    b.len = 0;
    for (int i = 0; i < 100; i++) { /* nested deeper than anyone asks */
        add32(&b, 0x40010001);
        add32(&b, (uint32_t)(8 * (99 - i)));
    }
    describe(6, b.p, b.len);
    detail(6, b.p, b.len);
}

/* Every type with random data, and with every prefix of it: bounded, escaped, valid JSON. */
Test(words, any_bytes)
{
    uint32_t seed = 20240117;
    uint8_t data[300];
    for (int round = 0; round < 200; round++) {
        for (size_t i = 0; i < sizeof data; i++) {
            seed = seed * 1664525 + 1013904223;
            data[i] = (uint8_t)(round % 3 == 0   ? seed >> 24
                                : round % 3 == 1 ? (seed >> 24) % 3
                                : i % 2          ? 0
                                                 : seed >> 25);
        }
        for (uint32_t low = 0; low < 0x20; low++) {
            size_t len = seed % sizeof data;
            describe(low, data, len);
            detail(low, data, len);
            describe(EFI(low), data, len);
            detail(EFI(low), data, len);
            describe(EFI(0xe0 + low), data, len);
            detail(EFI(0xe0 + low), data, len);
        }
    }
}

/* ---- proved or claimed, and the whole view
 * ---------------------------------------------------------------------------- */

/* SHA-256 and SHA-1 of "abc" (FIPS 180-4, the examples). */
static const uint8_t abc256[32] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40,
                                   0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17,
                                   0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
static const uint8_t abc1[20] = {0xa9, 0x99, 0x3e, 0x36, 0x47, 0x06, 0x81, 0x6a, 0xba, 0x3e,
                                 0x25, 0x71, 0x78, 0x50, 0xc2, 0x6c, 0x9c, 0xd0, 0xd8, 0x9d};

static const char *proved(uint32_t type, const void *data, size_t len, const uint8_t *sha1_digest,
                          const uint8_t *sha256_digest)
{
    struct qm_event e = {.type = type, .extends = type != QM_EV_NO_ACTION, .data = {data, len}};
    e.digest[QM_HASH_SHA1] = sha1_digest;
    e.digest[QM_HASH_SHA256] = sha256_digest;
    const char *part = qm_event_proved_part(&e);
    return part != NULL ? part : "no";
}

Test(proof, parts)
{
    static const uint8_t other[32] = {1};
    cr_expect_str_eq(proved(ACTION, "abc", 3, abc1, abc256), "data");
    cr_expect_str_eq(proved(ACTION, "abd", 3, abc1, abc256), "no");
    cr_expect_str_eq(proved(ACTION, "abc", 4, abc1, abc256), "text");
    cr_expect_str_eq(proved(ACTION, "abc", 3, other, abc256), "data", "SHA-256 decides");
    cr_expect_str_eq(proved(ACTION, "abc", 3, abc1, other), "no",
                     "SHA-1 alone does not where there is more");
    cr_expect_str_eq(proved(ACTION, "abc", 3, abc1, NULL), "data");
    cr_expect_str_eq(proved(ACTION, "abc", 3, NULL, NULL), "no");
    cr_expect_str_eq(proved(QM_EV_NO_ACTION, "abc", 3, abc1, abc256), "no", "never measured");
    cr_expect_str_eq(proved(0xd, "grub_cmd: abc", 13, abc1, abc256), "text");
    cr_expect_str_eq(proved(0xd, "grub_cmd: abc", 14, abc1, abc256), "text");
    cr_expect_str_eq(proved(0xd, "claim: abc", 10, abc1, abc256), "no");
    cr_expect_str_eq(proved(ACTION, "grub_cmd: abc", 13, abc1, abc256), "no",
                     "of a boot loader only");
    struct build b = variable("x", "abc", 3);
    cr_expect_str_eq(proved(EFI(VARIABLE_BOOT), b.p, b.len, abc1, abc256), "value");
    cr_expect_str_eq(proved(ACTION, b.p, b.len, abc1, abc256), "no");
}

Test(view, status)
{
    struct qm_log_view v;
    struct build b = header();
    add_plain(&b, 0, ACTION, "x", 1);
    qm_log_view_init(&v, (struct qm_span){b.p, b.len});
    cr_expect_str_eq(qm_log_view_status(&v), "ok");
    cr_expect(v.shown[QM_HASH_SHA256] == 1 && v.event_count == 2 && v.data_max == 29 + 8);
    add_event(&b, 3, ACTION, two, 1, "x", 1);
    qm_log_view_init(&v, (struct qm_span){b.p, b.len});
    cr_expect_str_eq(qm_log_view_status(&v), "unreplayable");
    cr_expect(v.shown[QM_HASH_SHA256] == 1 && v.lacking[QM_HASH_SHA256] == 8 &&
              v.shown[QM_HASH_SHA1] == 9);
    size_t whole = b.len;
    add8(&b, 7);
    qm_log_view_init(&v, (struct qm_span){b.p, b.len});
    cr_expect_str_eq(qm_log_view_status(&v), "malformed");
    cr_expect(v.opened && v.malformed_at == whole && v.event_count == 3 &&
              v.shown[QM_HASH_SHA1] == 0);
    b = (struct build){.len = 0};
    add_legacy(&b, 0, ACTION, "x", 1);
    qm_log_view_init(&v, (struct qm_span){b.p, b.len});
    cr_expect_str_eq(qm_log_view_status(&v), "unreplayable");
    qm_log_view_init(&v, (struct qm_span){b.p, 0});
    cr_expect_str_eq(qm_log_view_status(&v), "malformed");
    cr_expect(!v.opened);
}

/* SHA-256(32 zeros, SHA-256("abc")): computed by hand with Python's hashlib. */
Test(view, replay)
{
    static const uint8_t expected[32] = {0x58, 0x9f, 0x9f, 0xfe, 0xd4, 0xc4, 0x77, 0x96,
                                         0x6b, 0xfb, 0x8d, 0x41, 0xf3, 0x78, 0x95, 0xb0,
                                         0x8c, 0x69, 0x04, 0x7d, 0xf8, 0xf9, 0x11, 0xd6,
                                         0xf3, 0xb5, 0x7f, 0xbe, 0x08, 0xfa, 0xee, 0x8d};
    struct qm_log_view v;
    struct build b = {.len = 0};
    add_spec_id(&b, 1, &sha256, 1, 0);
    add32(&b, 5);
    add32(&b, ACTION);
    add32(&b, 1);
    add16(&b, sha256.id);
    add(&b, abc256, 32);
    add32(&b, 3);
    add(&b, "abc", 3);
    qm_log_view_init(&v, (struct qm_span){b.p, b.len});
    cr_expect_str_eq(qm_log_view_status(&v), "ok");
    cr_expect_eq(v.shown[QM_HASH_SHA256], 1u << 5);
    cr_expect_arr_eq(v.value[QM_HASH_SHA256][5], expected, 32);
}
