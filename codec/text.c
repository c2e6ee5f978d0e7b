#include "codec/text.h"

#include "codec/cursor.h"

size_t qm_utf8_read(const uint8_t *p, size_t left, uint32_t *code)
{
    uint8_t b = p[0];
    if (b < 0x80) {
        *code = b;
        return 1;
    }
    size_t len = b >= 0xf0 ? 4 : b >= 0xe0 ? 3 : 2;
    if (b < 0xc2 || b > 0xf4 || len > left)
        return 0;
    uint32_t v = b & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        v = v << 6 | (p[i] & 0x3fu);
    }
    if ((len == 3 && v < 0x800) || (len == 4 && (v < 0x10000 || v > 0x10ffff)) || (v >= 0xd800 && v <= 0xdfff))
        return 0;
    *code = v;
    return len;
}

bool qm_utf8_ok(struct qm_span s)
{
    uint32_t code;
    for (size_t i = 0, n; i < s.len; i += n) {
        n = 8;
        if (s.len - i >= n && (qm_load_le64(s.p + i) & 0x8080808080808080u) == 0)
            continue; /* eight characters of ASCII */
        if ((n = qm_utf8_read(s.p + i, s.len - i, &code)) == 0)
            return false;
    }
    return true;
}

bool qm_id_ok(struct qm_span s)
{
    if (s.len == 0 || s.len > QM_ID_MAX)
        return false;
    for (size_t i = 0; i < s.len;) {
        uint32_t code;
        size_t n = qm_utf8_read(s.p + i, s.len - i, &code);
        if (n == 0 || code < 0x20 || (code >= 0x7f && code < 0xa0))
            return false;
        i += n;
    }
    return true;
}

static const char hex_digits[16] = "0123456789abcdef";

void qm_hex_write(char *to, const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        to[2 * i] = hex_digits[p[i] >> 4];
        to[2 * i + 1] = hex_digits[p[i] & 15];
    }
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool qm_hex_read(const char *text, uint8_t *to, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        int high = hex_value(text[2 * i]);
        int low = high >= 0 ? hex_value(text[2 * i + 1]) : -1;
        if (low < 0)
            return false;
        to[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static const char base64_digits[64] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* -1: none. */
static int base64_digit(uint8_t c)
{
    const uint8_t *at = memchr(base64_digits, c, sizeof base64_digits);
    return at != NULL ? (int)(at - (const uint8_t *)base64_digits) : -1;
}

bool qm_base64_read(struct qm_span text, uint8_t *to, size_t cap, size_t *len)
{
    uint32_t group = 0;
    unsigned digits = 0, padding = 0;
    *len = 0;
    for (size_t i = 0; i < text.len; i++) {
        const uint8_t c = text.p[i];
        if (c == ' ' || c == '\t' || c == '\n' || c == '\r')
            continue;
        const int digit = c == '=' ? 0 : base64_digit(c);
        if (digit < 0 || (c == '=' ? ++padding > 2 : padding != 0))
            return false;
        group = group << 6 | (uint32_t)digit;
        if (++digits % 4 != 0)
            continue;
        for (unsigned b = 0; b < 3 - padding; b++, ++*len) {
            if (*len == cap)
                return false;
            to[*len] = (uint8_t)(group >> (16 - 8 * b) & 0xff);
        }
        group = 0;
    }
    return digits % 4 == 0 && *len != 0;
}

void qm_out_bytes(struct qm_out *o, const void *p, size_t len)
{
    if (len > o->cap - o->len) {
        o->full = true;
        return;
    }
    if (len != 0)
        memcpy(o->p + o->len, p, len);
    o->len += len;
}

void qm_out_text(struct qm_out *o, const char *text)
{
    qm_out_bytes(o, text, strlen(text));
}

void qm_out_char(struct qm_out *o, char c)
{
    qm_out_bytes(o, &c, 1);
}

void qm_out_u64(struct qm_out *o, uint64_t v)
{
    char digits[20];
    size_t n = sizeof digits;
    do
        digits[--n] = (char)('0' + v % 10);
    while ((v /= 10) != 0);
    qm_out_bytes(o, digits + n, sizeof digits - n);
}

void qm_out_hex(struct qm_out *o, const uint8_t *p, size_t len)
{
    if (len > (o->cap - o->len) / 2) {
        o->full = true;
        return;
    }
    qm_hex_write(o->p + o->len, p, len);
    o->len += 2 * len;
}

void qm_out_base64(struct qm_out *o, const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i += 3) {
        const size_t some = len - i < 3 ? len - i : 3;
        const uint32_t group = (uint32_t)p[i] << 16 | (some > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (some > 2 ? p[i + 2] : 0);
        for (unsigned d = 0; d < 4; d++)
            qm_out_char(o, d <= some ? base64_digits[group >> (18 - 6 * d) & 63] : '=');
    }
}

static void out_escape4(struct qm_out *o, uint32_t unit)
{
    char e[6] = {'\\', 'u'};
    for (int i = 0; i < 4; i++)
        e[2 + i] = hex_digits[unit >> (12 - 4 * i) & 15];
    qm_out_bytes(o, e, 6);
}

void qm_out_json_string(struct qm_out *o, struct qm_span s)
{
    qm_out_char(o, '"');
    for (size_t i = 0; i < s.len;) {
        size_t run = i;
        while (run < s.len && s.p[run] >= 0x20 && s.p[run] < 0x7f && s.p[run] != '"' && s.p[run] != '\\')
            run++;
        if (run != i)
            qm_out_bytes(o, s.p + i, run - i);
        if ((i = run) == s.len)
            break;
        uint32_t code;
        size_t n = qm_utf8_read(s.p + i, s.len - i, &code);
        if (n == 0) {
            char e[5] = {'\\', '\\', 'x', hex_digits[s.p[i] >> 4], hex_digits[s.p[i] & 15]};
            qm_out_bytes(o, e, 5);
            n = 1;
        } else if (code == '"' || code == '\\') {
            qm_out_char(o, '\\');
            qm_out_char(o, (char)code);
        } else if (code < 0x10000) {
            out_escape4(o, code);
        } else {
            out_escape4(o, 0xd800 + ((code - 0x10000) >> 10));
            out_escape4(o, 0xdc00 + ((code - 0x10000) & 0x3ff));
        }
        i += n;
    }
    qm_out_char(o, '"');
}

static void out_raw_byte(struct qm_out *o, uint8_t b)
{
    char e[4] = {'\\', 'x', hex_digits[b >> 4], hex_digits[b & 15]};
    qm_out_bytes(o, e, 4);
}

static void out_code_point(struct qm_out *o, uint32_t code)
{
    char e[10];
    size_t len = 0;
    do
        e[len++] = hex_digits[code & 15];
    while ((code >>= 4) != 0);
    qm_out_text(o, "\\u{");
    while (len != 0)
        qm_out_char(o, e[--len]);
    qm_out_char(o, '}');
}

void qm_out_shown(struct qm_out *o, struct qm_span s)
{
    for (size_t i = 0; i < s.len;) {
        uint32_t code;
        size_t n = qm_utf8_read(s.p + i, s.len - i, &code);
        if (n == 0) {
            out_raw_byte(o, s.p[i++]);
            continue;
        }
        if (code == '\\')
            qm_out_text(o, "\\\\");
        else if (code >= 0x20 && code < 0x7f)
            qm_out_char(o, (char)code);
        else
            out_code_point(o, code);
        i += n;
    }
}

void qm_out_shown_again(struct qm_out *o, struct qm_span s)
{
    size_t from = 0;
    for (size_t i = 0; i <= s.len; i++) {
        if (i != s.len && s.p[i] != '\\')
            continue;
        if (i != from)
            qm_out_shown(o, (struct qm_span){s.p + from, i - from});
        if (i != s.len)
            qm_out_char(o, '\\');
        from = i + 1;
    }
}

void qm_out_line(struct qm_out *o, struct qm_span s)
{
    for (size_t i = 0; i < s.len;) {
        uint32_t code;
        size_t n = qm_utf8_read(s.p + i, s.len - i, &code);
        if (n == 0) {
            out_raw_byte(o, s.p[i++]);
            continue;
        }
        if (code < 0x20 || (code >= 0x7f && code < 0xa0))
            out_code_point(o, code);
        else
            qm_out_bytes(o, s.p + i, n);
        i += n;
    }
}

void qm_out_utf8(struct qm_out *o, struct qm_span s)
{
    for (size_t i = 0; i < s.len;) {
        uint32_t code;
        size_t n = qm_utf8_read(s.p + i, s.len - i, &code);
        if (n == 0)
            out_raw_byte(o, s.p[i++]);
        else {
            qm_out_bytes(o, s.p + i, n);
            i += n;
        }
    }
}
