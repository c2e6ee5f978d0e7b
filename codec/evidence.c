#include "codec/evidence.h"

#include "codec/cursor.h"
#include "codec/text.h"

/* ---- msgpack tokens (github.com/msgpack/msgpack, spec.md) ----------------------------------------------------------- */

enum token_type { T_UINT, T_NEGATIVE, T_OTHER, T_STR, T_BIN, T_ARRAY, T_MAP, T_EXT, T_NEVER };

struct token {
    enum token_type type;
    uint32_t head;  /* bytes of the header; for scalars the whole value */
    uint32_t len;   /* STR, BIN, EXT: bytes that follow; ARRAY, MAP: elements, pairs */
    uint64_t value; /* UINT */
};

/* Bytes of the header that starts with b, before any payload. */
static unsigned head_size(uint8_t b)
{
    static const uint8_t sizes[32] = {
        /* c0 nil, never, false, true */ 1, 1, 1, 1,
        /* c4 bin 8 16 32 */ 2, 3, 5,
        /* c7 ext 8 16 32 */ 3, 4, 6,
        /* ca float 32 64 */ 5, 9,
        /* cc uint 8 16 32 64 */ 2, 3, 5, 9,
        /* d0 int 8 16 32 64 */ 2, 3, 5, 9,
        /* d4 fixext 1 2 4 8 16 */ 2, 2, 2, 2, 2,
        /* d9 str 8 16 32 */ 2, 3, 5,
        /* dc array 16 32, map 16 32 */ 3, 5, 3, 5,
    };
    return b >= 0xc0 && b < 0xe0 ? sizes[b - 0xc0] : 1;
}

static struct token signed_token(int64_t v, uint32_t head)
{
    return v >= 0 ? (struct token){T_UINT, head, 0, (uint64_t)v} : (struct token){T_NEGATIVE, head, 0, 0};
}

/* Reads the token at p, all of whose head_size(p[0]) header bytes are there. Inlined, or the token goes through memory in pieces of one
 * size and is read in pieces of another, which waits for every store: half of what decoding cost. */
static inline __attribute__((always_inline)) struct token token_read(const uint8_t *p)
{
    uint8_t b = p[0];
    uint32_t head = head_size(b);
    if (b < 0x80)
        return (struct token){T_UINT, 1, 0, b};
    if (b < 0x90)
        return (struct token){T_MAP, 1, b & 15u, 0};
    if (b < 0xa0)
        return (struct token){T_ARRAY, 1, b & 15u, 0};
    if (b < 0xc0)
        return (struct token){T_STR, 1, b & 31u, 0};
    if (b >= 0xe0)
        return (struct token){T_NEGATIVE, 1, 0, 0};
    switch (b) {
    case 0xc1:
        return (struct token){T_NEVER, 1, 0, 0};
    case 0xc4:
        return (struct token){T_BIN, head, p[1], 0};
    case 0xc5:
        return (struct token){T_BIN, head, qm_load_be16(p + 1), 0};
    case 0xc6:
        return (struct token){T_BIN, head, qm_load_be32(p + 1), 0};
    case 0xc7:
        return (struct token){T_EXT, head, p[1], 0};
    case 0xc8:
        return (struct token){T_EXT, head, qm_load_be16(p + 1), 0};
    case 0xc9:
        return (struct token){T_EXT, head, qm_load_be32(p + 1), 0};
    case 0xcc:
        return (struct token){T_UINT, head, 0, p[1]};
    case 0xcd:
        return (struct token){T_UINT, head, 0, qm_load_be16(p + 1)};
    case 0xce:
        return (struct token){T_UINT, head, 0, qm_load_be32(p + 1)};
    case 0xcf:
        return (struct token){T_UINT, head, 0, qm_load_be64(p + 1)};
    case 0xd0:
        return signed_token((int8_t)p[1], head);
    case 0xd1:
        return signed_token((int16_t)qm_load_be16(p + 1), head);
    case 0xd2:
        return signed_token((int32_t)qm_load_be32(p + 1), head);
    case 0xd3:
        return signed_token((int64_t)qm_load_be64(p + 1), head);
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8:
        return (struct token){T_EXT, head, 1u << (b - 0xd4), 0};
    case 0xd9:
        return (struct token){T_STR, head, p[1], 0};
    case 0xda:
        return (struct token){T_STR, head, qm_load_be16(p + 1), 0};
    case 0xdb:
        return (struct token){T_STR, head, qm_load_be32(p + 1), 0};
    case 0xdc:
        return (struct token){T_ARRAY, head, qm_load_be16(p + 1), 0};
    case 0xdd:
        return (struct token){T_ARRAY, head, qm_load_be32(p + 1), 0};
    case 0xde:
        return (struct token){T_MAP, head, qm_load_be16(p + 1), 0};
    case 0xdf:
        return (struct token){T_MAP, head, qm_load_be32(p + 1), 0};
    default: /* nil, false, true, floats */
        return (struct token){T_OTHER, head, 0, 0};
    }
}

/* ---- one record ----------------------------------------------------------------------------------------------------- */

struct reader {
    const uint8_t *p;
    const uint8_t *end;
    enum qm_frame stop; /* why reading ended early; RECORD while it goes on */
    bool bad;           /* a rule is broken; the record is still read to its end */
};

/* The next token and, for STR, BIN and EXT, its payload. False: reading ends. */
static bool next(struct reader *r, struct token *t, const uint8_t **payload)
{
    size_t left = (size_t)(r->end - r->p);
    if (left == 0 || left < head_size(r->p[0])) {
        r->stop = QM_FRAME_MORE;
        return false;
    }
    *t = token_read(r->p);
    if (t->type == T_NEVER) {
        r->stop = QM_FRAME_LOST;
        return false;
    }
    r->p += t->head;
    *payload = r->p;
    if (t->type == T_STR || t->type == T_BIN || t->type == T_EXT) {
        if (t->len > QM_RECORD_MAX) {
            r->stop = QM_FRAME_OVER;
            return false;
        }
        if (t->len > left - t->head) {
            r->stop = QM_FRAME_MORE;
            return false;
        }
        r->p += t->len;
    }
    return true;
}

static uint64_t elements(const struct token *t)
{
    return t->type == T_MAP ? 2 * (uint64_t)t->len : t->type == T_ARRAY ? t->len : 0;
}

/* Skips what is inside a container whose token was just read and that lies on the given level. Below QM_NESTING_MAX the
 * levels are told apart; deeper the rule is broken, and only the number of values still to come is kept. */
static bool skip_inside(struct reader *r, const struct token *container, unsigned level)
{
    uint64_t left[QM_NESTING_MAX + 1];
    const unsigned first = level;
    if (level > QM_NESTING_MAX) {
        r->bad = true;
        level = QM_NESTING_MAX;
    }
    left[level] = elements(container);
    const unsigned floor = first > QM_NESTING_MAX ? QM_NESTING_MAX : first;
    for (;;) {
        while (left[level] == 0) {
            if (level == floor)
                return true;
            level--;
        }
        struct token t;
        const uint8_t *payload;
        if (!next(r, &t, &payload))
            return false;
        left[level]--;
        if (t.type == T_EXT)
            r->bad = true;
        if (t.type != T_MAP && t.type != T_ARRAY)
            continue;
        if (level == QM_NESTING_MAX) {
            r->bad = true;
            left[level] += elements(&t);
        } else {
            left[++level] = elements(&t);
        }
    }
}

/* Ends a value that is not used: its token was read, what is inside a container is skipped. level is the container's own. */
static bool finish(struct reader *r, const struct token *t, unsigned level)
{
    if (t->type == T_EXT)
        r->bad = true;
    return (t->type != T_MAP && t->type != T_ARRAY) || skip_inside(r, t, level);
}

/* "pcrs", level 2: map TPM_ALG_ID -> map PCR -> bin of that hash's size. */
static bool read_pcrs(struct reader *r, const struct token *banks, struct qm_evidence *e)
{
    struct token t;
    const uint8_t *payload;
    for (uint32_t b = 0; b < banks->len; b++) {
        if (!next(r, &t, &payload))
            return false;
        enum qm_hash hash = t.type == T_UINT && t.value <= 0xffff ? qm_hash_of_tpm((uint16_t)t.value) : QM_HASH_NONE;
        if (hash == QM_HASH_NONE || (e->pcr_mask[hash] & 1u << 31) != 0)
            r->bad = true;
        else
            e->pcr_mask[hash] |= 1u << 31; /* seen, even if it holds nothing */
        if (!finish(r, &t, 3) || !next(r, &t, &payload))
            return false;
        if (t.type != T_MAP || hash == QM_HASH_NONE) {
            r->bad |= t.type != T_MAP;
            if (!finish(r, &t, 3))
                return false;
            continue;
        }
        uint32_t count = t.len;
        for (uint32_t i = 0; i < count; i++) {
            if (!next(r, &t, &payload))
                return false;
            bool known = t.type == T_UINT && t.value < QM_PCR_COUNT;
            uint32_t bit = known ? 1u << t.value : 0;
            if (!known || (e->pcr_mask[hash] & bit) != 0)
                r->bad = true;
            e->pcr_mask[hash] |= bit;
            if (!finish(r, &t, 4) || !next(r, &t, &payload))
                return false;
            if (t.type != T_BIN || t.len != qm_hash_size(hash))
                r->bad = true;
            if (!finish(r, &t, 4))
                return false;
        }
    }
    return true;
}

enum key { K_V, K_ID, K_QUOTE, K_SIG, K_LOG, K_PCRS, K_AK, K_T, K_AGENT, K_UNKNOWN };

static enum key key_of(const uint8_t *p, uint32_t len)
{
    static const struct {
        const char *name;
        uint32_t len;
    } keys[] = {[K_V] = {"v", 1},   [K_ID] = {"id", 2},     [K_QUOTE] = {"quote", 5}, [K_SIG] = {"sig", 3},    [K_LOG] = {"log", 3},
                [K_PCRS] = {"pcrs", 4}, [K_AK] = {"ak", 2}, [K_T] = {"t", 1},         [K_AGENT] = {"agent", 5}};
    for (enum key k = 0; k < K_UNKNOWN; k++)
        if (keys[k].len == len && memcmp(keys[k].name, p, len) == 0)
            return k;
    return K_UNKNOWN;
}

/* Takes the payload of a bin into *to, or breaks the rules. */
static void take_bin(struct reader *r, const struct token *t, const uint8_t *payload, size_t max, struct qm_span *to)
{
    if (t->type != T_BIN || t->len > max)
        r->bad = true;
    else
        *to = (struct qm_span){payload, t->len};
}

/* The value of key k, whose token was read. */
static bool read_value(struct reader *r, enum key k, const struct token *t, const uint8_t *payload, struct qm_evidence *e)
{
    struct qm_span ignored;
    switch (k) {
    case K_V:
        r->bad |= t->type != T_UINT || t->value != 1;
        break;
    case K_ID: {
        struct qm_span id = {payload, t->len};
        if (t->type == T_STR && qm_id_ok(id))
            e->id = id;
        else
            r->bad = true;
        break;
    }
    case K_QUOTE:
        take_bin(r, t, payload, QM_QUOTE_MAX, &e->quote);
        break;
    case K_SIG:
        take_bin(r, t, payload, QM_SIG_MAX, &e->sig);
        break;
    case K_LOG:
        take_bin(r, t, payload, QM_LOG_MAX, &e->log);
        break;
    case K_AK:
        take_bin(r, t, payload, QM_RECORD_MAX, &ignored);
        break;
    case K_T:
        e->has_t = t->type == T_UINT;
        e->t_ms = t->value;
        r->bad |= !e->has_t;
        break;
    case K_AGENT:
        r->bad |= t->type != T_STR || t->len > QM_AGENT_MAX;
        break;
    case K_PCRS:
        if (t->type == T_MAP) {
            if (!read_pcrs(r, t, e))
                return false;
            e->pcrs = (struct qm_span){payload - t->head, (size_t)(r->p - payload) + t->head};
            return true;
        }
        r->bad = true;
        break;
    case K_UNKNOWN:
        break;
    }
    return finish(r, t, 2);
}

/* The pairs of the record's map. */
static bool read_pairs(struct reader *r, uint32_t count, struct qm_evidence *e)
{
    struct qm_span unknown[QM_RECORD_KEYS_MAX];
    unsigned unknown_count = 0;
    unsigned seen = 0;
    r->bad |= count > QM_RECORD_KEYS_MAX;
    for (uint32_t i = 0; i < count; i++) {
        struct token t;
        const uint8_t *payload;
        if (!next(r, &t, &payload))
            return false;
        enum key k = K_UNKNOWN;
        if (t.type != T_STR) {
            r->bad = true;
            if (!finish(r, &t, 2))
                return false;
        } else if ((k = key_of(payload, t.len)) != K_UNKNOWN) {
            r->bad |= (seen & 1u << k) != 0;
            if (k == K_ID && (seen & 1u << K_ID) != 0)
                k = K_UNKNOWN; /* two ids name nobody: see below */
            seen |= k == K_UNKNOWN ? 1u << K_UNKNOWN : 1u << k;
        } else if (unknown_count < QM_RECORD_KEYS_MAX) {
            struct qm_span name = {payload, t.len};
            for (unsigned j = 0; j < unknown_count; j++)
                r->bad |= qm_span_eq(unknown[j], name);
            unknown[unknown_count++] = name;
        }
        if (!next(r, &t, &payload) || !read_value(r, k, &t, payload, e))
            return false;
    }
    const unsigned needed = 1u << K_V | 1u << K_ID | 1u << K_QUOTE | 1u << K_SIG;
    r->bad |= (seen & needed) != needed;
    if ((seen & 1u << K_UNKNOWN) != 0)
        e->id = (struct qm_span){NULL, 0};
    return true;
}

enum qm_frame qm_evidence_read(struct qm_span bytes, struct qm_evidence *out)
{
    memset(out, 0, sizeof *out);
    const bool capped = bytes.len > QM_RECORD_MAX;
    struct reader r = {bytes.p, bytes.p + (capped ? QM_RECORD_MAX : bytes.len), QM_FRAME_RECORD, false};
    struct token t;
    const uint8_t *payload;
    if ((bytes.p[0] & 0xf0) != 0x80 && bytes.p[0] != 0xde && bytes.p[0] != 0xdf)
        return QM_FRAME_LOST;
    if (!next(&r, &t, &payload))
        return r.stop;
    if (!read_pairs(&r, t.len, out)) {
        if (r.stop == QM_FRAME_MORE && bytes.len >= QM_RECORD_MAX)
            return QM_FRAME_OVER;
        return r.stop;
    }
    for (enum qm_hash h = QM_HASH_SHA1; h < QM_HASH_COUNT; h++)
        out->pcr_mask[h] &= (1u << QM_PCR_COUNT) - 1;
    out->record = (struct qm_span){bytes.p, (size_t)(r.p - bytes.p)};
    out->malformed = r.bad;
    return QM_FRAME_RECORD;
}

void qm_evidence_pcrs(const struct qm_evidence *e, enum qm_hash bank, const uint8_t **values)
{
    if (e->pcrs.p == NULL)
        return;
    struct reader r = {e->pcrs.p, e->pcrs.p + e->pcrs.len, QM_FRAME_RECORD, false};
    struct token t;
    const uint8_t *payload;
    if (!next(&r, &t, &payload))
        return;
    /* The map was checked when the record was read: every token below is of the type that it must be. */
    for (uint32_t banks = t.len; banks != 0; banks--) {
        if (!next(&r, &t, &payload))
            return;
        bool wanted = t.value == qm_hash_to_tpm(bank);
        if (!next(&r, &t, &payload))
            return;
        for (uint32_t count = t.len; count != 0; count--) {
            struct token pcr;
            if (!next(&r, &pcr, &payload) || !next(&r, &t, &payload))
                return;
            if (wanted && pcr.value < QM_PCR_COUNT)
                values[pcr.value] = payload;
        }
        if (wanted)
            return;
    }
}

enum qm_frame qm_skip_step(struct qm_skip *s, struct qm_span bytes, size_t *used)
{
    size_t at = 0;
    for (;;) {
        size_t left = bytes.len - at;
        if (s->raw != 0) {
            size_t n = s->raw < left ? (size_t)s->raw : left;
            s->raw -= n;
            at += n;
            if (s->raw != 0)
                break;
            continue;
        }
        if (s->pending == 0) {
            *used = at;
            return QM_FRAME_RECORD;
        }
        if (left == 0 || left < head_size(bytes.p[at]))
            break;
        struct token t = token_read(bytes.p + at);
        if (t.type == T_NEVER) {
            *used = at;
            return QM_FRAME_LOST;
        }
        at += t.head;
        s->pending = s->pending - 1 + elements(&t);
        s->raw = t.type == T_STR || t.type == T_BIN || t.type == T_EXT ? t.len : 0;
    }
    *used = at;
    return QM_FRAME_MORE;
}
