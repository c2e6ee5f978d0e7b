/* The evidence record's reader: every width, every rule at its limit, every cut; and against
 * msgpack-c. */
#include <criterion/criterion.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/evidence.h"
#include "tests/craft.h"

enum { GOOD, MALFORMED, LOST, MORE, OVER };
static const char *const ends[] = {"good", "malformed", "lost", "more", "over"};

static int end_of(struct qm_span bytes, struct qm_evidence *e)
{
    switch (qm_evidence_read(bytes, e)) {
    case QM_FRAME_RECORD:
        return e->malformed ? MALFORMED : GOOD;
    case QM_FRAME_MORE:
        return MORE;
    case QM_FRAME_OVER:
        return OVER;
    case QM_FRAME_LOST:
        break;
    }
    return LOST;
}

/* Reads the bytes as they are and with a good record behind them: what follows a record never
 * matters. */
static void expect_end(const struct craft *c, int end, const char *name)
{
    struct qm_evidence e;
    int is = end_of(craft_exact(craft_span(c)), &e);
    cr_expect_eq(is, end, "%s: %s, not %s", name, ends[is], ends[end]);
    if (is == GOOD || is == MALFORMED)
        cr_expect_eq(e.record.len, c->len, "%s: length", name);
    if (end == MORE || end == OVER)
        return;
    struct craft two = {0};
    craft_put(&two, c->p, c->len);
    craft_record(&two, &(struct craft_record){.id = "next"});
    is = end_of(craft_exact(craft_span(&two)), &e);
    cr_expect_eq(is, end, "%s: %s, not %s, with one behind", name, ends[is], ends[end]);
    if (is == GOOD || is == MALFORMED)
        cr_expect_eq(e.record.len, c->len, "%s: length with one behind", name);
}

/* The four needed keys; more may follow. */
static struct craft head(uint32_t more)
{
    struct craft c = {0};
    craft_map(&c, 4 + more);
    craft_str(&c, "v");
    craft_uint(&c, 1);
    craft_str(&c, "id");
    craft_str(&c, "m");
    craft_str(&c, "quote");
    craft_bin(&c, (struct qm_span){(const uint8_t *)"Q", 1});
    craft_str(&c, "sig");
    craft_bin(&c, (struct qm_span){(const uint8_t *)"SS", 2});
    return c;
}

/* A record with one more key, whose value is value. */
static struct craft with(const char *key, const struct craft *value)
{
    struct craft c = head(1);
    craft_str(&c, key);
    craft_put(&c, value->p, value->len);
    return c;
}

static struct craft raw(uint8_t first, uint64_t v, unsigned width, size_t payload)
{
    struct craft c = {0};
    craft_raw(&c, first, v, width);
    craft_fill(&c, 'x', payload);
    return c;
}

static void try_value(const char *key, struct craft value, int end, const char *name)
{
    struct craft c = with(key, &value);
    expect_end(&c, end, name);
}

/* Replaces the value of a needed key. */
static struct craft needed(const char *key, const struct craft *value)
{
    static const char *const keys[] = {"v", "id", "quote", "sig"};
    struct craft c = {0};
    craft_map(&c, 4);
    for (unsigned i = 0; i < 4; i++) {
        craft_str(&c, keys[i]);
        if (strcmp(keys[i], key) == 0)
            craft_put(&c, value->p, value->len);
        else if (i == 0)
            craft_uint(&c, 1);
        else if (i == 1)
            craft_str(&c, "m");
        else
            craft_bin(&c, (struct qm_span){(const uint8_t *)"QQ", 2});
    }
    return c;
}

static void try_needed(const char *key, struct craft value, int end, const char *name)
{
    struct craft c = needed(key, &value);
    expect_end(&c, end, name);
}

Test(evidence, plain)
{
    struct craft c = head(0);
    struct qm_evidence e;
    cr_assert_eq(end_of(craft_exact(craft_span(&c)), &e), GOOD);
    cr_expect(e.id.len == 1 && e.id.p[0] == 'm');
    cr_expect(e.quote.len == 1 && e.quote.p[0] == 'Q');
    cr_expect(e.sig.len == 2 && e.sig.p[0] == 'S');
    cr_expect(e.log.p == NULL && e.pcrs.p == NULL && !e.has_t);
    craft_free_all();
}

Test(evidence, integer_widths)
{
    static const struct {
        uint8_t first;
        unsigned width;
    } one[] = {{0x01, 0}, {0xcc, 1}, {0xcd, 2}, {0xce, 4}, {0xcf, 8},
               {0xd0, 1}, {0xd1, 2}, {0xd2, 4}, {0xd3, 8}};
    for (size_t i = 0; i < QM_COUNT(one); i++) {
        struct craft c = raw(one[i].first, 1, one[i].width, 0);
        try_needed("v", c, GOOD, "v = 1");
        struct craft t = with("t", &c);
        struct qm_evidence e;
        cr_assert_eq(end_of(craft_span(&t), &e), GOOD, "t of %02x", one[i].first);
        cr_expect(e.has_t && e.t_ms == 1, "t of %02x", one[i].first);
        if (one[i].width == 0)
            continue;
        try_needed("v", raw(one[i].first, 2, one[i].width, 0), MALFORMED, "v = 2");
        try_needed("v", raw(one[i].first, 0, one[i].width, 0), MALFORMED, "v = 0");
        uint64_t highest = UINT64_MAX >> (64 - 8 * one[i].width);
        try_value("t", raw(one[i].first, highest, one[i].width, 0),
                  one[i].first < 0xd0 ? GOOD : MALFORMED, "t = -1 or the highest");
        uint64_t half = highest >> 1;
        c = raw(one[i].first, half, one[i].width, 0);
        t = with("t", &c);
        cr_assert_eq(end_of(craft_span(&t), &e), GOOD);
        cr_expect_eq(e.t_ms, half, "t of %02x", one[i].first);
    }
    try_value("t", raw(0xff, 0, 0, 0), MALFORMED, "t = -1");
    try_value("t", raw(0xe0, 0, 0, 0), MALFORMED, "t = -32");
    try_value("t", raw(0x7f, 0, 0, 0), GOOD, "t = 127");
    try_value("t", raw(0xca, 0, 4, 0), MALFORMED, "t is a float");
    try_value("t", raw(0xcb, 0, 8, 0), MALFORMED, "t is a double");
    try_value("t", raw(0xc0, 0, 0, 0), MALFORMED, "t is nil");
    try_value("t", raw(0xc3, 0, 0, 0), MALFORMED, "t is true");
    try_needed("v", raw(0xcb, 0x3ff0000000000000, 8, 0), MALFORMED, "v = 1.0");
    try_needed("v", raw(0xa1, 0, 0, 1), MALFORMED, "v is a string");
    craft_free_all();
}

Test(evidence, string_and_bin_widths)
{
    for (unsigned width = 1, i = 0; i < 3; width *= 2, i++) {
        try_needed("id", raw((uint8_t)(0xd9 + i), 3, width, 3), GOOD, "id");
        try_needed("quote", raw((uint8_t)(0xc4 + i), 3, width, 3), GOOD, "quote");
        try_needed("quote", raw((uint8_t)(0xc4 + i), 0, width, 0), GOOD, "quote of no bytes");
        try_needed("quote", raw((uint8_t)(0xd9 + i), 3, width, 3), MALFORMED, "quote as a string");
        try_needed("id", raw((uint8_t)(0xc4 + i), 3, width, 3), MALFORMED, "id as bin");
        try_value("log", raw((uint8_t)(0xc4 + i), 0, width, 0), GOOD, "log of no bytes");
        /* keys too */
        struct craft c = {0};
        craft_map(&c, 4);
        static const char *const keys[] = {"v", "id", "quote", "sig"};
        for (unsigned k = 0; k < 4; k++) {
            craft_raw(&c, (uint8_t)(0xd9 + i), strlen(keys[k]), width);
            craft_text(&c, keys[k]);
            if (k == 0)
                craft_uint(&c, 1);
            else if (k == 1)
                craft_str(&c, "m");
            else
                craft_bin(&c, (struct qm_span){(const uint8_t *)"Q", 1});
        }
        expect_end(&c, GOOD, "keys");
    }
    struct craft c = head(0);
    struct craft wide = {0};
    craft_raw(&wide, 0xde, 4, 2);
    craft_put(&wide, c.p + 1, c.len - 1);
    expect_end(&wide, GOOD, "map 16");
    wide = (struct craft){0};
    craft_raw(&wide, 0xdf, 4, 4);
    craft_put(&wide, c.p + 1, c.len - 1);
    expect_end(&wide, GOOD, "map 32");
    craft_free_all();
}

Test(evidence, log_of_no_bytes_is_there)
{
    struct craft value = raw(0xc4, 0, 1, 0), c = with("log", &value);
    struct qm_evidence e;
    cr_assert_eq(end_of(craft_exact(craft_span(&c)), &e), GOOD);
    cr_expect(e.log.p != NULL && e.log.len == 0);
    craft_free_all();
}

Test(evidence, any_order)
{
    static const char *const keys[] = {"v", "id", "quote", "sig", "t", "agent"};
    unsigned order[6] = {0, 1, 2, 3, 4, 5};
    uint64_t rng = craft_seed("any_order");
    for (unsigned round = 0; round < 500; round++) {
        for (unsigned i = 5; i > 0; i--) {
            unsigned j = (unsigned)(craft_random(&rng) % (i + 1)), k = order[i];
            order[i] = order[j];
            order[j] = k;
        }
        struct craft c = {0};
        struct qm_evidence e;
        craft_map(&c, 6);
        for (unsigned i = 0; i < 6; i++) {
            craft_str(&c, keys[order[i]]);
            if (order[i] == 0 || order[i] == 4)
                craft_uint(&c, order[i] == 0 ? 1 : 77);
            else if (order[i] == 1 || order[i] == 5)
                craft_str(&c, order[i] == 1 ? "me" : "agent 1");
            else
                craft_bin(&c, (struct qm_span){(const uint8_t *)"QS" + (order[i] - 2), 1});
        }
        cr_assert_eq(end_of(craft_span(&c), &e), GOOD);
        cr_assert(e.id.len == 2 && e.quote.p[0] == 'Q' && e.sig.p[0] == 'S' && e.t_ms == 77);
    }
    craft_free_all();
}

Test(evidence, missing_and_double_keys)
{
    static const char *const keys[] = {"v",    "id", "quote", "sig",  "log",
                                       "pcrs", "ak", "t",     "agent"};
    for (unsigned left_out = 0; left_out < 4; left_out++) {
        struct craft c = {0};
        craft_map(&c, 3);
        for (unsigned k = 0; k < 4; k++) {
            if (k == left_out)
                continue;
            craft_str(&c, keys[k]);
            if (k == 0)
                craft_uint(&c, 1);
            else if (k == 1)
                craft_str(&c, "m");
            else
                craft_bin(&c, (struct qm_span){(const uint8_t *)"Q", 1});
        }
        expect_end(&c, MALFORMED, keys[left_out]);
    }
    for (unsigned k = 0; k < QM_COUNT(keys); k++) {
        struct craft c = head(k < 4 ? 1 : 2);
        for (unsigned i = 0; i < (k < 4 ? 1u : 2u); i++) {
            craft_str(&c, keys[k]);
            if (k == 0 || k == 7)
                craft_uint(&c, 1);
            else if (k == 1 || k == 8)
                craft_str(&c, "m");
            else if (k == 5)
                craft_map(&c, 0);
            else
                craft_bin(&c, (struct qm_span){(const uint8_t *)"Q", 1});
        }
        expect_end(&c, MALFORMED, keys[k]);
        struct qm_evidence e;
        cr_expect_eq(end_of(craft_span(&c), &e), MALFORMED);
        cr_expect_eq(e.id.p == NULL, k == 1, "two ids name nobody");
    }
    struct craft c = head(2);
    for (unsigned i = 0; i < 2; i++) {
        craft_str(&c, "x");
        craft_uint(&c, i);
    }
    expect_end(&c, MALFORMED, "an unknown key twice");
    c = head(2);
    for (unsigned i = 0; i < 2; i++) {
        craft_strn(&c, "x\0y" + 2 * (i == 0), i == 0 ? 1 : 3);
        craft_uint(&c, i);
    }
    expect_end(&c, GOOD, "unknown keys that only begin alike");
    c = head(1);
    craft_str(&c, "");
    craft_uint(&c, 1);
    expect_end(&c, GOOD, "an empty unknown key");
    /* an id after a broken one */
    c = (struct craft){0};
    craft_map(&c, 5);
    craft_str(&c, "id");
    craft_uint(&c, 1);
    struct craft rest = head(0);
    craft_put(&c, rest.p + 1, rest.len - 1);
    expect_end(&c, MALFORMED, "id twice, once a number");
    craft_free_all();
}

Test(evidence, other_keys_and_values)
{
    static const struct {
        uint8_t first;
        unsigned width;
        size_t payload;
        bool ext;
    } others[] = {
        {0xc0, 0, 0, false}, {0xc2, 0, 0, false}, {0xc3, 0, 0, false}, {0x05, 0, 0, false},
        {0xf0, 0, 0, false}, {0xca, 4, 0, false}, {0xcb, 8, 0, false}, {0xd3, 8, 0, false},
        {0x90, 0, 0, false}, {0x80, 0, 0, false}, {0xd4, 0, 2, true},  {0xd5, 0, 3, true},
        {0xd6, 0, 5, true},  {0xd7, 0, 9, true},  {0xd8, 0, 17, true}, {0xc7, 1, 1, true},
        {0xc8, 2, 1, true},  {0xc9, 4, 1, true},
    };
    for (size_t i = 0; i < QM_COUNT(others); i++) {
        struct craft v = raw(others[i].first, 0, others[i].width, others[i].payload);
        char name[32];
        snprintf(name, sizeof name, "%02x", others[i].first);
        try_value("unknown", v, others[i].ext ? MALFORMED : GOOD, name);
        /* as a key */
        struct craft c = head(1);
        craft_put(&c, v.p, v.len);
        craft_uint(&c, 1);
        expect_end(&c, MALFORMED, name);
        /* deep inside */
        struct craft deep = raw(0x91, 0, 0, 0);
        craft_put(&deep, (uint8_t[]){0x81, 0x01, 0x92, 0x00}, 4);
        craft_put(&deep, v.p, v.len);
        try_value("unknown", deep, others[i].ext ? MALFORMED : GOOD, name);
        /* in the place of a known value */
        static const char *const known[] = {"v", "id", "quote", "sig"};
        for (unsigned k = 0; k < 4; k++)
            try_needed(known[k], v, MALFORMED, name);
        static const char *const optional[] = {"log", "ak", "t", "agent"};
        for (unsigned k = 0; k < 4; k++)
            if (!(k == 2 && (others[i].first == 0x05 || others[i].first == 0xd3)))
                try_value(optional[k], v, MALFORMED, optional[k]);
        if (others[i].first != 0x80)
            try_value("pcrs", v, MALFORMED, "pcrs");
    }
    struct craft c = head(1);
    craft_bin(&c, (struct qm_span){(const uint8_t *)"log", 3});
    craft_bin(&c, (struct qm_span){(const uint8_t *)"x", 1});
    expect_end(&c, MALFORMED, "a bin as a key");
    craft_free_all();
}

/* level: of the innermost container; the record's own map is 1. kinds: bit i: level i + 2 is a map
 * (else an array). */
static struct craft nested(unsigned level, unsigned kinds, bool as_key)
{
    struct craft c = {0};
    for (unsigned i = 2; i <= level; i++) {
        bool map = i - 2 < 32 && (kinds >> (i - 2) & 1) != 0;
        craft_raw(&c, map ? 0x81 : 0x91, 0, 0);
        if (map && !as_key)
            craft_uint(&c, 1);
    }
    c.p[c.len - 1] &= 0xf0; /* the innermost is empty */
    if (level >= 2 && level - 2 < 32 && (kinds >> (level - 2) & 1) != 0 && !as_key)
        c.len--, c.p[c.len - 1] &= 0xf0;
    if (as_key)
        for (unsigned i = level - 1; i >= 2; i--)
            if ((kinds >> (i - 2) & 1) != 0)
                craft_uint(&c, 1);
    return c;
}

Test(evidence, nesting)
{
    for (unsigned level = 2; level <= 40; level++)
        for (unsigned kinds = 0; kinds < 4; kinds++) {
            unsigned bits = kinds == 0   ? 0
                            : kinds == 1 ? ~0u
                            : kinds == 2 ? 0x55555555
                                         : 0xaaaaaaaa;
            char name[32];
            if (level > 33)
                bits = 0;
            snprintf(name, sizeof name, "level %u, %08x", level, bits);
            try_value("x", nested(level, bits, false), level <= QM_NESTING_MAX ? GOOD : MALFORMED,
                      name);
            if (kinds != 0 && level <= 33)
                try_value("x", nested(level, bits, true),
                          level <= QM_NESTING_MAX ? GOOD : MALFORMED, name);
        }
    /* much after the depths is still found: siblings at every level */
    struct craft c = head(2);
    craft_str(&c, "deep");
    for (unsigned i = 0; i < 1000; i++)
        craft_raw(&c, 0x92, 0, 0);
    for (unsigned i = 0; i < 1001; i++)
        craft_uint(&c, 3);
    craft_str(&c, "t");
    craft_uint(&c, 5);
    expect_end(&c, MALFORMED, "a thousand levels");
    struct craft deep = {0};
    for (unsigned i = 0; i < 200000; i++)
        craft_raw(&deep, 0x91, 0, 0);
    craft_uint(&deep, 1);
    try_value("x", deep, MALFORMED, "200000 levels");
    craft_free_all();
}

Test(evidence, number_of_keys)
{
    for (uint32_t keys = QM_RECORD_KEYS_MAX - 1; keys <= QM_RECORD_KEYS_MAX + 1; keys++) {
        struct craft c = head(keys - 4);
        for (uint32_t i = 4; i < keys; i++) {
            char key[16];
            snprintf(key, sizeof key, "k%u", i);
            craft_str(&c, key);
            craft_uint(&c, i);
        }
        expect_end(&c, keys <= QM_RECORD_KEYS_MAX ? GOOD : MALFORMED, "keys");
    }
    /* the last of 64 unknown keys repeats the first */
    struct craft c = head(60);
    for (uint32_t i = 0; i < 60; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%u", i % 59);
        craft_str(&c, key);
        craft_uint(&c, i);
    }
    expect_end(&c, MALFORMED, "the 64th key twice");
    craft_free_all();
}

static struct craft text(const void *p, size_t len)
{
    struct craft c = {0};
    craft_strn(&c, p, len);
    return c;
}

Test(evidence, ids)
{
    static const struct {
        const char *p;
        int end;
    } ids[] = {
        {"a", GOOD},
        {" ", GOOD},
        {"~", GOOD},
        {"/etc/../x", GOOD},
        {"\xc2\xa0", GOOD},
        {"\xc3\xa9", GOOD},
        {"\xe2\x82\xac", GOOD},
        {"\xf0\x9f\x98\x80", GOOD},
        {"\xf4\x8f\xbf\xbf", GOOD},
        {"\xee\x80\x80", GOOD},
        {"", MALFORMED},
        {"a\nb", MALFORMED},
        {"\x01", MALFORMED},
        {"\x1f", MALFORMED},
        {"a\x7f", MALFORMED},
        {"\xc2\x80", MALFORMED},
        {"\xc2\x9f", MALFORMED},
        {"x\xc2\x85", MALFORMED},
        {"\x80", MALFORMED},
        {"\xc3", MALFORMED},
        {"\xc0\x80", MALFORMED},
        {"\xc1\xbf", MALFORMED},
        {"\xe0\x80\x80", MALFORMED},
        {"\xed\xa0\x80", MALFORMED},
        {"\xed\xbf\xbf", MALFORMED},
        {"\xf0\x80\x80\x80", MALFORMED},
        {"\xf4\x90\x80\x80", MALFORMED},
        {"\xf5\x80\x80\x80", MALFORMED},
        {"\xff", MALFORMED},
        {"\xe2\x82", MALFORMED},
    };
    for (size_t i = 0; i < QM_COUNT(ids); i++) {
        char name[16];
        snprintf(name, sizeof name, "id %zu", i);
        try_needed("id", text(ids[i].p, strlen(ids[i].p)), ids[i].end, name);
    }
    try_needed("id", text("a\0b", 3), MALFORMED, "a NUL");
    char longest[QM_ID_MAX + 2];
    memset(longest, 'i', sizeof longest);
    try_needed("id", text(longest, QM_ID_MAX - 1), GOOD, "127 bytes");
    try_needed("id", text(longest, QM_ID_MAX), GOOD, "128 bytes");
    try_needed("id", text(longest, QM_ID_MAX + 1), MALFORMED, "129 bytes");
    craft_free_all();
}

Test(evidence, caps)
{
    static const struct {
        const char *key;
        size_t max;
        uint8_t first;
        bool optional;
    } caps[] = {{"quote", QM_QUOTE_MAX, 0xc6, false},
                {"sig", QM_SIG_MAX, 0xc6, false},
                {"log", QM_LOG_MAX, 0xc6, true},
                {"agent", QM_AGENT_MAX, 0xdb, true}};
    for (size_t i = 0; i < QM_COUNT(caps); i++)
        for (int more = -1; more <= 1; more++) {
            size_t len = caps[i].max + (size_t)more;
            struct craft v = raw(caps[i].first, len, 4, len);
            if (caps[i].optional)
                try_value(caps[i].key, v, more <= 0 ? GOOD : MALFORMED, caps[i].key);
            else
                try_needed(caps[i].key, v, more <= 0 ? GOOD : MALFORMED, caps[i].key);
        }
    craft_free_all();
}

/* A record of exactly so many bytes, the rest of it in an unknown key. */
static struct craft sized(size_t len)
{
    struct craft c = head(1);
    craft_str(&c, "x");
    size_t left = len - c.len - 5;
    craft_raw(&c, 0xc6, left, 4);
    craft_fill(&c, 'x', left);
    MUST(c.len == len);
    return c;
}

Test(evidence, record_size)
{
    struct craft c = sized(QM_RECORD_MAX - 1);
    expect_end(&c, GOOD, "one less");
    c = sized(QM_RECORD_MAX);
    expect_end(&c, GOOD, "8 MiB");
    for (size_t more = 1; more < 20; more += 6) {
        c = sized(QM_RECORD_MAX + more);
        expect_end(&c, OVER, "over");
        /* while the bytes are fewer than the cap, nothing is known */
        struct qm_evidence e;
        cr_expect_eq(end_of((struct qm_span){c.p, QM_RECORD_MAX - 1}, &e), MORE);
        cr_expect_eq(end_of((struct qm_span){c.p, QM_RECORD_MAX}, &e), OVER);
    }
    /* over by many small values, not by one long one */
    c = head(1);
    craft_str(&c, "x");
    craft_raw(&c, 0xdd, QM_RECORD_MAX, 4);
    craft_fill(&c, 0x01, QM_RECORD_MAX);
    expect_end(&c, OVER, "over by integers");
    /* a length that says so itself is known at once */
    c = head(1);
    craft_str(&c, "x");
    craft_raw(&c, 0xdb, QM_RECORD_MAX + 1, 4);
    expect_end(&c, OVER, "a length over the cap");
    c = head(1);
    craft_str(&c, "x");
    craft_raw(&c, 0xc9, UINT32_MAX, 4);
    craft_fill(&c, 1, 1);
    expect_end(&c, OVER, "an ext of 4 GiB");
    craft_free_all();
}

static struct craft bank(uint64_t alg, unsigned count, const unsigned *pcrs, size_t size)
{
    struct craft c = {0};
    craft_map(&c, 1);
    craft_uint(&c, alg);
    craft_map(&c, count);
    for (unsigned i = 0; i < count; i++) {
        craft_uint(&c, pcrs[i]);
        craft_raw(&c, 0xc4, size, 1);
        craft_fill(&c, (uint8_t)pcrs[i], size);
    }
    return c;
}

Test(evidence, pcrs)
{
    static const struct {
        unsigned alg;
        size_t size;
        enum qm_hash hash;
    } banks[] = {{4, 20, QM_HASH_SHA1},
                 {11, 32, QM_HASH_SHA256},
                 {12, 48, QM_HASH_SHA384},
                 {13, 64, QM_HASH_SHA512}};
    static const unsigned some[] = {23, 0, 7};
    for (size_t i = 0; i < QM_COUNT(banks); i++) {
        struct craft v = bank(banks[i].alg, 3, some, banks[i].size), c = with("pcrs", &v);
        struct qm_evidence e;
        const uint8_t *value[QM_PCR_COUNT] = {NULL};
        cr_assert_eq(end_of(craft_exact(craft_span(&c)), &e), GOOD, "bank %u", banks[i].alg);
        cr_expect_eq(e.pcr_mask[banks[i].hash], 1u << 23 | 1 << 0 | 1 << 7);
        qm_evidence_pcrs(&e, banks[i].hash, value);
        for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
            cr_expect_eq(value[pcr] != NULL, e.pcr_mask[banks[i].hash] >> pcr & 1, "PCR %u", pcr);
        cr_expect(value[23][0] == 23 && value[7][banks[i].size - 1] == 7);
        const uint8_t *none[QM_PCR_COUNT] = {NULL};
        qm_evidence_pcrs(&e, banks[i].hash == QM_HASH_SHA1 ? QM_HASH_SHA256 : QM_HASH_SHA1, none);
        for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
            cr_expect_null(none[pcr]);
        try_value("pcrs", bank(banks[i].alg, 3, some, banks[i].size - 1), MALFORMED,
                  "a value too short");
        try_value("pcrs", bank(banks[i].alg, 3, some, banks[i].size + 1), MALFORMED,
                  "a value too long");
        try_value("pcrs", bank(banks[i].alg, 0, some, 0), GOOD, "a bank of no PCRs");
    }
    static const unsigned unknown[] = {0, 1, 5, 10, 14, 18, 0x27, 65535 + 5, 65536 + 11};
    for (size_t i = 0; i < QM_COUNT(unknown); i++)
        try_value("pcrs", bank(unknown[i], 3, some, 32), MALFORMED, "an unknown bank");
    try_value("pcrs", bank(11, 3, (unsigned[]){1, 24, 2}, 32), MALFORMED, "PCR 24");
    try_value("pcrs", bank(11, 3, (unsigned[]){1, 31, 2}, 32), MALFORMED, "PCR 31");
    try_value("pcrs", bank(11, 3, (unsigned[]){1, 32, 2}, 32), MALFORMED, "PCR 32");
    try_value("pcrs", bank(11, 3, (unsigned[]){1, 2, 1}, 32), MALFORMED, "a PCR twice");
    struct craft all = {0};
    craft_raw(&all, 0x80, 0, 0);
    try_value("pcrs", all, GOOD, "no banks");
    all = bank(11, 3, some, 32);
    struct craft more = bank(11, 0, some, 32);
    all.p[0] = 0x82;
    craft_put(&all, more.p + 1, more.len - 1);
    try_value("pcrs", all, MALFORMED, "a bank twice");
    all = bank(11, 3, some, 32);
    more = bank(4, 3, some, 20);
    all.p[0] = 0x82;
    craft_put(&all, more.p + 1, more.len - 1);
    try_value("pcrs", all, GOOD, "two banks");
    /* the parts are of other types */
    all = (struct craft){0};
    craft_put(&all, "\x81\xa3\x31\x31\x31\x80", 6);
    try_value("pcrs", all, MALFORMED, "a bank that is a string");
    all = (struct craft){0};
    craft_put(&all, "\x81\x0b\x90", 3);
    try_value("pcrs", all, MALFORMED, "an array of PCRs");
    all = (struct craft){0};
    craft_put(&all, "\x81\x0b\x81\x01\x81\x01\x02", 7);
    try_value("pcrs", all, MALFORMED, "a map for a value");
    all = (struct craft){0};
    craft_put(&all, "\x81\x0b\x81\x91\x01\xc4\x00", 7);
    try_value("pcrs", all, MALFORMED, "an array for a PCR");
    all = (struct craft){0};
    craft_put(&all, "\x81\x0b\x81\xff\xc4\x00", 6);
    try_value("pcrs", all, MALFORMED, "PCR -1");
    all = (struct craft){0};
    craft_put(&all, "\x81\x81\x0b\x0b\x80", 5);
    try_value("pcrs", all, MALFORMED, "a map for a bank");
    craft_free_all();
}

/* Everything that a record may have. */
static struct craft full(void)
{
    static const unsigned some[] = {23, 0, 7};
    struct craft c = head(6), p = bank(11, 3, some, 32);
    craft_str(&c, "pcrs");
    craft_put(&c, p.p, p.len);
    craft_str(&c, "log");
    struct craft log = raw(0xc5, 300, 2, 300);
    craft_put(&c, log.p, log.len);
    craft_str(&c, "ak");
    craft_bin(&c, (struct qm_span){(const uint8_t *)"\0\x0b", 2});
    craft_str(&c, "t");
    craft_uint(&c, 1700000000000);
    craft_str(&c, "agent");
    craft_str(&c, "collector 1.2");
    craft_str(&c, "more");
    craft_put(&c, "\x93\xc0\xcb\0\0\0\0\0\0\0\0\x82\xd0\xff\xc3\xd3\0\0\0\0\0\0\0\1\x90", 25);
    return c;
}

Test(evidence, cut_anywhere)
{
    struct craft c = full();
    struct qm_evidence e;
    cr_assert_eq(end_of(craft_exact(craft_span(&c)), &e), GOOD);
    for (size_t len = 1; len < c.len; len++) {
        struct qm_span cut = {malloc(len), len};
        memcpy((uint8_t *)(uintptr_t)cut.p, c.p, len);
        cr_expect_eq(end_of(cut, &e), MORE, "%zu of %zu bytes", len, c.len);
        free((uint8_t *)(uintptr_t)cut.p);
    }
    craft_free_all();
}

Test(evidence, first_byte)
{
    for (unsigned b = 0; b < 256; b++) {
        struct craft c = {0};
        craft_raw(&c, (uint8_t)b, 0, 0);
        struct qm_evidence e;
        bool map = (b & 0xf0) == 0x80 || b == 0xde || b == 0xdf;
        int end = end_of(craft_exact(craft_span(&c)), &e);
        cr_expect_eq(end, !map ? LOST : b == 0x80 ? MALFORMED : MORE, "%02x: %s", b, ends[end]);
    }
    craft_free_all();
}

Test(evidence, never_used_byte)
{
    try_value("x", raw(0xc1, 0, 0, 0), LOST, "as a value");
    struct craft key = head(1);
    craft_raw(&key, 0xc1, 0, 0);
    craft_uint(&key, 1);
    expect_end(&key, LOST, "as a key");
    struct craft deep = {0};
    craft_put(&deep, "\x92\x92\x01\xc1\x01", 5);
    try_value("x", deep, LOST, "inside");
    craft_free_all();
}

/* ---- against others -------------------------------------------------------------------------- */

/* A second opinion on where a value ends: 0 where it does not. The plainest way, from the
 * specification. */
static size_t reference(const uint8_t *p, size_t left, unsigned depth)
{
    if (left == 0 || depth > 3000)
        return 0;
    uint8_t b = p[0];
    uint64_t values = 0, payload = 0;
    unsigned width = 0;
    size_t at = 1;
    if (b < 0x80 || b >= 0xe0 || b == 0xc0 || b == 0xc2 || b == 0xc3)
        return 1;
    if (b == 0xc1)
        return 0;
    if (b < 0x90)
        values = 2 * (b & 15u);
    else if (b < 0xa0)
        values = b & 15u;
    else if (b < 0xc0)
        payload = b & 31u;
    else if (b == 0xca || b == 0xcb)
        payload = b == 0xca ? 4 : 8;
    else if (b >= 0xcc && b <= 0xd3)
        payload = 1u << ((b - 0xcc) & 3);
    else if (b >= 0xd4 && b <= 0xd8)
        payload = 1 + (1u << (b - 0xd4));
    else {
        width = b == 0xc4 || b == 0xc7 || b == 0xd9                             ? 1
                : b == 0xc5 || b == 0xc8 || b == 0xda || b == 0xdc || b == 0xde ? 2
                                                                                : 4;
        if (left - 1 < width)
            return 0;
        uint64_t n = 0;
        for (unsigned i = 0; i < width; i++)
            n = n << 8 | p[1 + i];
        at += width;
        if (b >= 0xdc)
            values = b >= 0xde ? 2 * n : n;
        else
            payload = n + (b >= 0xc7 && b <= 0xc9);
    }
    if (payload > left - at)
        return 0;
    at += payload;
    for (uint64_t i = 0; i < values; i++) {
        size_t used = reference(p + at, left - at, depth + 1);
        if (used == 0)
            return 0;
        at += used;
    }
    return at;
}

/* Where qm_skip_step finds the end when the bytes come step at a time; 0: not at all. */
static size_t skipped(struct qm_span bytes, size_t step)
{
    struct qm_skip s = {.pending = 1};
    size_t at = 0, given = 0;
    while (given < bytes.len) {
        size_t used;
        given = given + step < bytes.len ? given + step : bytes.len;
        struct qm_span piece = craft_exact((struct qm_span){bytes.p + at, given - at});
        enum qm_frame f = qm_skip_step(&s, piece, &used);
        cr_assert(used <= piece.len);
        at += used;
        if (f == QM_FRAME_RECORD)
            return at;
        if (f == QM_FRAME_LOST)
            return 0;
        cr_assert(given - at <= 8, "at most eight bytes come again");
    }
    return 0;
}

Test(evidence, skip_in_pieces)
{
    struct craft c = full();
    size_t len = c.len;
    craft_fill(&c, 0xc1, 20); /* what follows is nobody's business */
    for (size_t step = 1; step <= c.len; step++)
        cr_assert_eq(skipped(craft_span(&c), step), len, "steps of %zu", step);
    struct craft big = sized(QM_RECORD_MAX + 1000);
    len = big.len;
    craft_record(&big, &(struct craft_record){.id = "next"});
    cr_assert_eq(skipped(craft_span(&big), 4 << 20), len);
    cr_assert_eq(skipped(craft_span(&big), 1000003), len);
    craft_free_all();
}

static struct qm_span mutate(const struct craft *good, uint64_t *rng, uint8_t *room, size_t cap)
{
    size_t len = good->len;
    memcpy(room, good->p, len);
    unsigned changes = 1 + (unsigned)(craft_random(rng) % 4);
    for (unsigned i = 0; i < changes; i++) {
        size_t at = craft_random(rng) % len, n = craft_random(rng) % 8;
        static const uint8_t heads[] = {0xc1, 0xc4, 0xc5, 0xc6, 0xc7, 0xd4, 0xd8, 0xd9, 0xdb, 0xdc,
                                        0xdd, 0xde, 0xdf, 0x80, 0x81, 0x8f, 0x90, 0x9f, 0xa0, 0xbf};
        switch (craft_random(rng) % 6) {
        case 0:
            room[at] ^= (uint8_t)(1u << (craft_random(rng) % 8));
            break;
        case 1:
            room[at] = heads[craft_random(rng) % sizeof heads];
            break;
        case 2: /* leave out */
            n = n < len - at ? n : len - at;
            memmove(room + at, room + at + n, len - at - n);
            len -= n;
            break;
        case 3: /* put in */
            n = n < cap - len ? n : cap - len;
            memmove(room + at + n, room + at, len - at);
            len += n;
            for (size_t j = 0; j < n; j++)
                room[at + j] = (uint8_t)craft_random(rng);
            break;
        case 4:
            room[at] = (uint8_t)craft_random(rng);
            break;
        default:
            len = len > 1 ? 1 + craft_random(rng) % (len - 1) : len;
            break;
        }
        if (len == 0) {
            room[0] = 0x80;
            len = 1;
        }
    }
    return (struct qm_span){room, len};
}

Test(evidence, mutations_agree_with_others, .timeout = 120)
{
    uint64_t rng = craft_seed("mutations");
    struct craft good = full();
    enum { ROUNDS = 100000 };
    unsigned records = 0, good_count = 0;
    uint8_t room[2048];
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct qm_span changed = mutate(&good, &rng, room, sizeof room);
        uint8_t *p = malloc(changed.len); /* exactly: for the sanitizer */
        MUST(p != NULL);
        memcpy(p, changed.p, changed.len);
        struct qm_evidence e;
        struct qm_span bytes = {p, changed.len};
        int end = end_of(bytes, &e);
        bool map = (p[0] & 0xf0) == 0x80 || p[0] == 0xde || p[0] == 0xdf;
        size_t len = map ? reference(p, changed.len, 0) : 0;
        if (end == GOOD || end == MALFORMED) {
            records++;
            good_count += end == GOOD;
            cr_assert_eq(e.record.len, len, "round %u", round);
            size_t off = 0;
            msgpack_unpacked u;
            msgpack_unpacked_init(&u);
            msgpack_unpack_return r = msgpack_unpack_next(&u, (const char *)p, changed.len, &off);
            cr_assert(r == MSGPACK_UNPACK_SUCCESS || r == MSGPACK_UNPACK_EXTRA_BYTES ||
                          r == MSGPACK_UNPACK_NOMEM_ERROR,
                      "round %u: msgpack-c says %d", round, (int)r);
            cr_assert(r == MSGPACK_UNPACK_NOMEM_ERROR || off == len,
                      "round %u: msgpack-c ends at %zu", round, off);
            msgpack_unpacked_destroy(&u);
        } else {
            cr_assert_eq(len, 0, "round %u: %s, where a value of %zu bytes is", round, ends[end],
                         len);
        }
        struct qm_skip s = {.pending = 1};
        size_t used;
        enum qm_frame f = qm_skip_step(&s, bytes, &used);
        cr_assert_eq(f == QM_FRAME_RECORD && map ? used : 0, len, "round %u: skip", round);
        free(p);
    }
    cr_expect(records > ROUNDS / 20 && good_count > 0 && records < ROUNDS, "%u records, %u good",
              records, good_count);
    craft_free_all();
}

/* What msgpack-c packs is read back. */
Test(evidence, packed_by_msgpack_c)
{
    uint64_t rng = craft_seed("packed_by_msgpack_c");
    for (unsigned round = 0; round < 300; round++) {
        size_t quote = craft_random(&rng) % (QM_QUOTE_MAX + 1),
               sig = craft_random(&rng) % (QM_SIG_MAX + 1);
        size_t log = craft_random(&rng) % 100000, id = 1 + craft_random(&rng) % QM_ID_MAX;
        uint64_t t = craft_random(&rng) >> (craft_random(&rng) % 64);
        uint8_t *bytes = calloc(1, 100000);
        MUST(bytes != NULL);
        msgpack_sbuffer sb;
        msgpack_sbuffer_init(&sb);
        msgpack_packer pk;
        msgpack_packer_init(&pk, &sb, msgpack_sbuffer_write);
        msgpack_pack_map(&pk, 6);
        msgpack_pack_str_with_body(&pk, "v", 1);
        msgpack_pack_int(&pk, 1);
        msgpack_pack_str_with_body(&pk, "t", 1);
        msgpack_pack_uint64(&pk, t);
        msgpack_pack_str_with_body(&pk, "id", 2);
        memset(bytes, 'i', id);
        msgpack_pack_str_with_body(&pk, bytes, id);
        memset(bytes, 'q', quote);
        msgpack_pack_str_with_body(&pk, "quote", 5);
        msgpack_pack_bin_with_body(&pk, bytes, quote);
        msgpack_pack_str_with_body(&pk, "sig", 3);
        msgpack_pack_bin_with_body(&pk, bytes, sig);
        msgpack_pack_str_with_body(&pk, "log", 3);
        msgpack_pack_bin_with_body(&pk, bytes, log);
        struct qm_evidence e;
        cr_assert_eq(end_of((struct qm_span){(const uint8_t *)sb.data, sb.size}, &e), GOOD);
        cr_assert(e.record.len == sb.size && e.id.len == id && e.quote.len == quote &&
                  e.sig.len == sig && e.log.len == log && e.log.p != NULL && e.has_t &&
                  e.t_ms == t);
        msgpack_sbuffer_destroy(&sb);
        free(bytes);
    }
}
