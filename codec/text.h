/* Text for people and for JSON, made from bytes that an adversary wrote: checked, escaped, bounded. */
#ifndef QM_TEXT_H
#define QM_TEXT_H

#include "codec/base.h"

/* Length in bytes (1 to 4) of the UTF-8 sequence at p, its code point in *code; 0 if it is none (overlong, surrogate, beyond
 * U+10FFFF, cut short). left is at least 1. */
size_t qm_utf8_read(const uint8_t *p, size_t left, uint32_t *code);
bool qm_utf8_ok(struct qm_span s);
/* An instance id: 1 to QM_ID_MAX bytes of UTF-8 without C0, DEL, C1. */
bool qm_id_ok(struct qm_span s);

void qm_hex_write(char *to, const uint8_t *p, size_t len); /* 2 * len digits, lower case, no NUL */
/* Reads exactly 2 * len hex digits of either case. */
bool qm_hex_read(const char *text, uint8_t *to, size_t len);
/* Base64 of RFC 4648, section 4, padded; white space anywhere. False: other characters, no whole group, no bytes, or more than
 * cap of them. */
bool qm_base64_read(struct qm_span text, uint8_t *to, size_t cap, size_t *len);

/* A bounded writer. What does not fit is dropped and remembered in full: the caller tests once, at the end. */
struct qm_out {
    char *p;
    size_t len;
    size_t cap;
    bool full;
};
static inline struct qm_out qm_out_init(void *p, size_t cap)
{
    return (struct qm_out){(char *)p, 0, cap, false};
}
void qm_out_bytes(struct qm_out *o, const void *p, size_t len);
void qm_out_text(struct qm_out *o, const char *text);
void qm_out_char(struct qm_out *o, char c);
void qm_out_u64(struct qm_out *o, uint64_t v);
void qm_out_hex(struct qm_out *o, const uint8_t *p, size_t len);
void qm_out_base64(struct qm_out *o, const uint8_t *p, size_t len);

/* A JSON string with its quotes, pure ASCII: what is not printable ASCII becomes an escape, and bytes that are no UTF-8 become
 * the four characters \xNN (in JSON: \\xNN). */
void qm_out_json_string(struct qm_out *o, struct qm_span s);
/* The same for a person's eyes, without quotes: printable ASCII stays (a backslash is doubled), everything else becomes
 * \u{N} or \xNN. */
void qm_out_shown(struct qm_out *o, struct qm_span s);
/* Of text that was escaped so when it was stored, and may have been changed since: a backslash stays one. */
void qm_out_shown_again(struct qm_out *o, struct qm_span s);
/* The same for text that is partly ours: valid UTF-8 stays, but for control characters. Keeps a message on its one line. */
void qm_out_line(struct qm_out *o, struct qm_span s);
/* UTF-8 whatever came: bytes that are no UTF-8 become \xNN, the rest stays. For msgpack str values. */
void qm_out_utf8(struct qm_out *o, struct qm_span s);

#endif
