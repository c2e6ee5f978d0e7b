/* A bounded cursor over borrowed bytes, with a sticky error: read ten fields, test once. After a failure every read gives
 * zero and moves nothing. A sized sub-structure gets a cursor of its own (qm_cur_sub) that must end fully used. */
#ifndef QM_CURSOR_H
#define QM_CURSOR_H

#include "codec/base.h"

struct qm_cur {
    const uint8_t *p;
    const uint8_t *end;
    bool bad;
};

static inline struct qm_cur qm_cur_init(const uint8_t *p, size_t len)
{
    return (struct qm_cur){p, qm_span_end((struct qm_span){p, len}), p == NULL && len != 0};
}

static inline size_t qm_cur_left(const struct qm_cur *c)
{
    return (size_t)(c->end - c->p);
}

/* True when nothing failed and nothing is left over. */
static inline bool qm_cur_done(const struct qm_cur *c)
{
    return !c->bad && c->p == c->end;
}

/* The next len bytes, or NULL. */
static inline const uint8_t *qm_cur_take(struct qm_cur *c, size_t len)
{
    if (QM_UNLIKELY(c->bad || len > qm_cur_left(c))) {
        c->bad = true;
        return NULL;
    }
    const uint8_t *p = c->p;
    c->p += len;
    return p;
}

static inline struct qm_span qm_cur_span(struct qm_cur *c, size_t len)
{
    const uint8_t *p = qm_cur_take(c, len);
    return (struct qm_span){p, p != NULL ? len : 0};
}

/* A cursor over the next len bytes; bad at once when they are not there. */
static inline struct qm_cur qm_cur_sub(struct qm_cur *c, size_t len)
{
    const uint8_t *p = qm_cur_take(c, len);
    return p != NULL ? (struct qm_cur){p, p + len, false} : (struct qm_cur){c->end, c->end, true};
}

static inline uint16_t qm_load_be16(const uint8_t *p)
{
    return (uint16_t)((p[0] << 8) | p[1]);
}
static inline uint32_t qm_load_be32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return __builtin_bswap32(v);
}
static inline uint64_t qm_load_be64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return __builtin_bswap64(v);
}
static inline uint16_t qm_load_le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | (p[1] << 8));
}
static inline uint32_t qm_load_le32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline uint64_t qm_load_le64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "loads and the table assume a little-endian machine");

static inline uint8_t qm_cur_u8(struct qm_cur *c)
{
    const uint8_t *p = qm_cur_take(c, 1);
    return p != NULL ? p[0] : 0;
}
static inline uint16_t qm_cur_be16(struct qm_cur *c)
{
    const uint8_t *p = qm_cur_take(c, 2);
    return p != NULL ? qm_load_be16(p) : 0;
}
static inline uint32_t qm_cur_be32(struct qm_cur *c)
{
    const uint8_t *p = qm_cur_take(c, 4);
    return p != NULL ? qm_load_be32(p) : 0;
}
static inline uint64_t qm_cur_be64(struct qm_cur *c)
{
    const uint8_t *p = qm_cur_take(c, 8);
    return p != NULL ? qm_load_be64(p) : 0;
}
static inline uint16_t qm_cur_le16(struct qm_cur *c)
{
    const uint8_t *p = qm_cur_take(c, 2);
    return p != NULL ? qm_load_le16(p) : 0;
}
static inline uint32_t qm_cur_le32(struct qm_cur *c)
{
    const uint8_t *p = qm_cur_take(c, 4);
    return p != NULL ? qm_load_le32(p) : 0;
}
static inline uint64_t qm_cur_le64(struct qm_cur *c)
{
    const uint8_t *p = qm_cur_take(c, 8);
    return p != NULL ? qm_load_le64(p) : 0;
}
/* TPM2B: a 16-bit size, then that many bytes (TPM 2.0 Library, part 2, 10.4). */
static inline struct qm_span qm_cur_tpm2b(struct qm_cur *c)
{
    return qm_cur_span(c, qm_cur_be16(c));
}

#endif
