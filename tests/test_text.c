/* Text: UTF-8 told from what is none, escapes that can be undone, writers that never write too far.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/text.h"
#include "tests/craft.h"

/* Unicode's table 3-7 of well-formed sequences, as a second opinion. */
static size_t well_formed(const uint8_t *p, size_t left)
{
    static const uint8_t table[][9] = {
        /* length, then the range of each byte */
        {1, 0x00, 0x7f},
        {2, 0xc2, 0xdf, 0x80, 0xbf},
        {3, 0xe0, 0xe0, 0xa0, 0xbf, 0x80, 0xbf},
        {3, 0xe1, 0xec, 0x80, 0xbf, 0x80, 0xbf},
        {3, 0xed, 0xed, 0x80, 0x9f, 0x80, 0xbf},
        {3, 0xee, 0xef, 0x80, 0xbf, 0x80, 0xbf},
        {4, 0xf0, 0xf0, 0x90, 0xbf, 0x80, 0xbf, 0x80, 0xbf},
        {4, 0xf1, 0xf3, 0x80, 0xbf, 0x80, 0xbf, 0x80, 0xbf},
        {4, 0xf4, 0xf4, 0x80, 0x8f, 0x80, 0xbf, 0x80, 0xbf},
    };
    for (size_t i = 0; i < QM_COUNT(table); i++) {
        size_t len = table[i][0], good = 0;
        while (len <= left && good < len && p[good] >= table[i][1 + 2 * good] &&
               p[good] <= table[i][2 + 2 * good])
            good++;
        if (good == len)
            return len;
    }
    return 0;
}

/* Eight bytes are looked at at a time: a bad one, and a character across the border, at every place. */
Test(text, utf8_at_every_place)
{
    uint8_t bytes[26];
    for (size_t len = 1; len <= sizeof bytes; len++)
        for (size_t at = 0; at < len; at++) {
            memset(bytes, 'a', sizeof bytes);
            cr_assert(qm_utf8_ok((struct qm_span){bytes, len}));
            bytes[at] = 0xff;
            cr_assert_not(qm_utf8_ok((struct qm_span){bytes, len}), "%zu of %zu", at, len);
            bytes[at] = 0xc3;
            cr_assert_not(qm_utf8_ok((struct qm_span){bytes, len}), "%zu of %zu", at, len);
            if (at + 1 < len) {
                bytes[at + 1] = 0xa9;
                cr_assert(qm_utf8_ok((struct qm_span){bytes, len}), "%zu of %zu", at, len);
            }
        }
}

Test(text, utf8_against_the_table)
{
    /* every two bytes, each with all edges behind */
    static const uint8_t edges[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff};
    uint32_t code;
    for (unsigned two = 0; two < 0x10000; two++)
        for (size_t a = 0; a < sizeof edges; a++)
            for (size_t b = 0; b < sizeof edges; b++) {
                const uint8_t s[4] = {(uint8_t)(two >> 8), (uint8_t)two, edges[a], edges[b]};
                for (size_t left = 1; left <= 4; left++)
                    cr_assert_eq(qm_utf8_read(s, left, &code), well_formed(s, left),
                                 "%02x %02x %02x %02x, %zu left", s[0], s[1], s[2], s[3], left);
            }
    static const struct {
        const char *s;
        uint32_t code;
    } some[] = {{"A", 'A'},
                {"\xc2\x80", 0x80},
                {"\xe2\x82\xac", 0x20ac},
                {"\xf0\x9f\x98\x80", 0x1f600},
                {"\xf4\x8f\xbf\xbf", 0x10ffff}};
    for (size_t i = 0; i < QM_COUNT(some); i++) {
        cr_expect_eq(qm_utf8_read((const uint8_t *)some[i].s, strlen(some[i].s), &code),
                     strlen(some[i].s));
        cr_expect_eq(code, some[i].code);
    }
}

typedef void (*writer)(struct qm_out *o, struct qm_span s);

static const char *written(writer write, const char *bytes, size_t len)
{
    static char text[256];
    struct qm_out o = qm_out_init(text, sizeof text - 1);
    write(&o, (struct qm_span){(const uint8_t *)bytes, len});
    text[o.len] = '\0';
    return text;
}

Test(text, escapes)
{
    static const struct {
        const char *in;
        size_t len;
        const char *json, *shown, *utf8;
    } cases[] = {
        {"plain", 5, "\"plain\"", "plain", "plain"},
        {"", 0, "\"\"", "", ""},
        {"\"\\/", 3, "\"\\\"\\\\/\"", "\"\\\\/", "\"\\/"},
        {"\n\t\x1b[31m", 7, "\"\\u000a\\u0009\\u001b[31m\"", "\\u{a}\\u{9}\\u{1b}[31m",
         "\n\t\x1b[31m"},
        {"\x7f", 1, "\"\\u007f\"", "\\u{7f}", "\x7f"},
        {"\xc3\xa9", 2, "\"\\u00e9\"", "\\u{e9}", "\xc3\xa9"},
        {"\xf0\x9f\x98\x80", 4, "\"\\ud83d\\ude00\"", "\\u{1f600}", "\xf0\x9f\x98\x80"},
        {"a\xff\x80z", 4, "\"a\\\\xff\\\\x80z\"", "a\\xff\\x80z", "a\\xff\\x80z"},
        {"\xed\xa0\x80", 3, "\"\\\\xed\\\\xa0\\\\x80\"", "\\xed\\xa0\\x80", "\\xed\\xa0\\x80"},
        {"\xe2\x80\xae", 3, "\"\\u202e\"", "\\u{202e}", "\xe2\x80\xae"},
        {"\xe2\x82", 2, "\"\\\\xe2\\\\x82\"", "\\xe2\\x82", "\\xe2\\x82"},
    };
    for (size_t i = 0; i < QM_COUNT(cases); i++) {
        cr_expect_str_eq(written(qm_out_json_string, cases[i].in, cases[i].len), cases[i].json);
        cr_expect_str_eq(written(qm_out_shown, cases[i].in, cases[i].len), cases[i].shown);
        cr_expect_str_eq(written(qm_out_utf8, cases[i].in, cases[i].len), cases[i].utf8);
    }
    cr_expect_str_eq(written(qm_out_json_string, "\0", 1), "\"\\u0000\"");
    for (size_t i = 0; i < QM_COUNT(cases); i++) /* once is enough, however often it is shown */
        cr_expect_str_eq(written(qm_out_shown_again, cases[i].shown, strlen(cases[i].shown)), cases[i].shown);
    cr_expect_str_eq(written(qm_out_shown_again, "\\\x1b\\", 3), "\\\\u{1b}\\");
    /* a line of our own stays as it is, but for what would break it */
    cr_expect_str_eq(written(qm_out_line, "FILE\xe2\x80\xa6 a\\b\n\x1b[31m\x7f\xc2\x9b\xff.", 22),
                     "FILE\xe2\x80\xa6 a\\b\\u{a}\\u{1b}[31m\\u{7f}\\u{9b}\\xff.");
}

Test(text, shown_and_json_are_printable_ascii)
{
    uint64_t rng = craft_seed("shown_and_json_are_printable_ascii");
    static const writer writers[] = {qm_out_json_string, qm_out_shown, qm_out_shown_again};
    for (unsigned round = 0; round < 20000; round++) {
        char bytes[24];
        size_t len = craft_random(&rng) % sizeof bytes;
        for (size_t i = 0; i < len; i++)
            bytes[i] = (char)craft_random(&rng);
        for (size_t w = 0; w < QM_COUNT(writers); w++)
            for (const char *p = written(writers[w], bytes, len); *p != '\0'; p++)
                cr_assert(*p >= 0x20 && *p < 0x7f);
        const char *utf8 = written(qm_out_utf8, bytes, len);
        cr_assert(memchr(bytes, 0, len) != NULL ||
                  qm_utf8_ok((struct qm_span){(const uint8_t *)utf8, strlen(utf8)}));
    }
}

Test(text, what_does_not_fit_is_remembered)
{
    for (size_t cap = 0; cap < 12; cap++) {
        char *room = malloc(cap + 1); /* exactly: for the sanitizer */
        MUST(room != NULL);
        struct qm_out o = qm_out_init(room, cap);
        qm_out_text(&o, "12345");
        cr_expect_eq(o.full, cap < 5);
        o = qm_out_init(room, cap);
        qm_out_hex(&o, (const uint8_t *)"\x01\xab\xff", 3);
        cr_expect_eq(o.full, cap < 6);
        o = qm_out_init(room, cap);
        qm_out_u64(&o, 1234567);
        cr_expect_eq(o.full, cap < 7);
        o = qm_out_init(room, cap);
        qm_out_json_string(&o, (struct qm_span){(const uint8_t *)"\n\"a", 3});
        cr_expect_eq(o.full, cap < 11);
        o = qm_out_init(room, cap);
        qm_out_shown(&o, (struct qm_span){(const uint8_t *)"\xff\n", 2});
        cr_expect_eq(o.full, cap < 9);
        cr_expect_leq(o.len, cap);
        free(room);
    }
}

Test(text, numbers_and_hex)
{
    char text[64];
    struct qm_out o = qm_out_init(text, sizeof text);
    qm_out_u64(&o, 0);
    qm_out_char(&o, ' ');
    qm_out_u64(&o, UINT64_MAX);
    cr_expect(o.len == 22 && memcmp(text, "0 18446744073709551615", 22) == 0);
    uint8_t bytes[4];
    cr_expect(qm_hex_read("00aBfF9c", bytes, 4) && memcmp(bytes, "\0\xab\xff\x9c", 4) == 0);
    static const char *const wrong[] = {"0g", "g0", "0 ", " 0", "0x", "-1", "0", ""};
    for (size_t i = 0; i < QM_COUNT(wrong); i++)
        cr_expect_not(qm_hex_read(wrong[i], bytes, 1), "'%s'", wrong[i]);
}

Test(text, base64)
{
    uint8_t bytes[66], back[66];
    char text[128];
    size_t len;
    for (size_t n = 1; n <= sizeof bytes; n++) {
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)(0xfb + 37 * i * n); /* every digit stands in one of them */
        struct qm_out o = qm_out_init(text, sizeof text);
        qm_out_base64(&o, bytes, n);
        cr_assert(!o.full && o.len == strlen(craft_base64((struct qm_span){bytes, n})));
        cr_assert_arr_eq(text, craft_base64((struct qm_span){bytes, n}), o.len);
        const struct qm_span s = {(const uint8_t *)text, o.len};
        cr_assert(qm_base64_read(s, back, n, &len) && len == n && memcmp(back, bytes, n) == 0, "%zu", n);
        cr_expect_not(qm_base64_read(s, back, n - 1, &len), "%zu", n);
        cr_expect_not(qm_base64_read((struct qm_span){s.p, s.len - 1}, back, n, &len), "%zu", n);
    }
    static const char *const wrong[] = {"", " ", "A", "AA", "AAA", "A===", "AA=A", "=", "====", "AA==AAAA", "AA-_", "AA\vA", "AAAA="};
    for (size_t i = 0; i < QM_COUNT(wrong); i++)
        cr_expect_not(qm_base64_read((struct qm_span){(const uint8_t *)wrong[i], strlen(wrong[i])}, back, sizeof back, &len), "'%s'", wrong[i]);
    cr_expect(qm_base64_read((struct qm_span){(const uint8_t *)" Q\nU\r=\t= ", 9}, back, 1, &len) && len == 1 && back[0] == 'A');
}

Test(text, ids)
{
    char id[QM_ID_MAX + 1];
    memset(id, 'a', sizeof id);
    cr_expect_not(qm_id_ok((struct qm_span){(const uint8_t *)id, 0}));
    for (size_t len = QM_ID_MAX - 1; len <= QM_ID_MAX + 1; len++)
        cr_expect_eq(qm_id_ok((struct qm_span){(const uint8_t *)id, len}), len <= QM_ID_MAX);
    for (uint32_t code = 0; code < 0x800; code++) {
        uint8_t s[2] = {(uint8_t)code};
        if (code >= 0x80) {
            s[0] = (uint8_t)(0xc0 | code >> 6);
            s[1] = (uint8_t)(0x80 | (code & 0x3f));
        }
        bool control = code < 0x20 || (code >= 0x7f && code < 0xa0);
        cr_expect_eq(qm_id_ok((struct qm_span){s, code < 0x80 ? 1 : 2}), !control, "U+%04x", code);
    }
}
