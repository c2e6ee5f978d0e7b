#include "codec/emit.h"

#include <assert.h>
#include <msgpack.h>

static int append(void *data, const char *p, size_t len)
{
    qm_out_bytes(data, p, len);
    return 0;
}

static msgpack_packer packer(struct qm_emit *e)
{
    msgpack_packer pk;
    msgpack_packer_init(&pk, e->out, append);
    return pk;
}

struct qm_emit qm_emit_init(struct qm_out *out, bool json)
{
    return (struct qm_emit){.out = out, .json = json};
}

/* Before every element: the comma, and the count. Keys count for their maps, so values after a key do not. */
static void element(struct qm_emit *e)
{
    if (e->depth == 0)
        return;
    if (e->level[e->depth - 1].array && e->level[e->depth - 1].count++ != 0 && e->json)
        qm_out_char(e->out, ',');
}

static void begin(struct qm_emit *e, bool array)
{
    assert(e->depth < QM_EMIT_DEPTH);
    element(e);
    e->level[e->depth].head = e->out->len;
    e->level[e->depth].count = 0;
    e->level[e->depth].array = array;
    e->depth++;
    if (e->json) {
        qm_out_char(e->out, array ? '[' : '{');
        return;
    }
    /* The count is not known yet: a 16-bit one is patched in at the end. */
    msgpack_packer pk = packer(e);
    if (array)
        msgpack_pack_array(&pk, UINT16_MAX);
    else
        msgpack_pack_map(&pk, UINT16_MAX);
}

void qm_emit_map(struct qm_emit *e)
{
    begin(e, false);
}

void qm_emit_array(struct qm_emit *e)
{
    begin(e, true);
}

void qm_emit_end(struct qm_emit *e)
{
    assert(e->depth > 0);
    e->depth--;
    if (e->json) {
        qm_out_char(e->out, e->level[e->depth].array ? ']' : '}');
        return;
    }
    size_t head = e->level[e->depth].head;
    uint32_t count = e->level[e->depth].count;
    assert(count <= UINT16_MAX);
    if (!e->out->full && head + 3 <= e->out->len) {
        e->out->p[head + 1] = (char)(count >> 8);
        e->out->p[head + 2] = (char)(count & 0xff);
    }
}

static void pack_text(struct qm_emit *e, const char *p, size_t len)
{
    msgpack_packer pk = packer(e);
    msgpack_pack_str(&pk, len);
    msgpack_pack_str_body(&pk, p, len);
}

void qm_emit_key(struct qm_emit *e, const char *key)
{
    assert(e->depth > 0 && !e->level[e->depth - 1].array);
    if (!e->json) {
        e->level[e->depth - 1].count++;
        pack_text(e, key, strlen(key));
        return;
    }
    qm_out_text(e->out, e->level[e->depth - 1].count++ != 0 ? ",\"" : "\"");
    qm_out_text(e->out, key);
    qm_out_text(e->out, "\":");
}

void qm_emit_key_u64(struct qm_emit *e, uint64_t key)
{
    assert(e->depth > 0 && !e->level[e->depth - 1].array);
    const bool first = e->level[e->depth - 1].count++ == 0;
    if (!e->json) {
        msgpack_packer pk = packer(e);
        msgpack_pack_uint64(&pk, key);
        return;
    }
    qm_out_text(e->out, first ? "\"" : ",\"");
    qm_out_u64(e->out, key);
    qm_out_text(e->out, "\":");
}

void qm_emit_name(struct qm_emit *e, const char *text)
{
    element(e);
    if (!e->json) {
        pack_text(e, text, strlen(text));
        return;
    }
    qm_out_char(e->out, '"');
    qm_out_text(e->out, text);
    qm_out_char(e->out, '"');
}

void qm_emit_text(struct qm_emit *e, struct qm_span text)
{
    element(e);
    if (e->json) {
        qm_out_json_string(e->out, text);
        return;
    }
    if (qm_utf8_ok(text)) {
        pack_text(e, (const char *)text.p, text.len);
        return;
    }
    /* Longer once escaped: a 32-bit length is patched in. */
    size_t head = e->out->len;
    qm_out_bytes(e->out, "\xdb\0\0\0\0", 5);
    qm_out_utf8(e->out, text);
    if (e->out->full)
        return;
    uint32_t len = (uint32_t)(e->out->len - head - 5);
    for (unsigned i = 0; i < 4; i++)
        e->out->p[head + 1 + i] = (char)(len >> (24 - 8 * i) & 0xff);
}

void qm_emit_bytes(struct qm_emit *e, const uint8_t *p, size_t len)
{
    element(e);
    if (e->json) {
        qm_out_char(e->out, '"');
        qm_out_hex(e->out, p, len);
        qm_out_char(e->out, '"');
        return;
    }
    msgpack_packer pk = packer(e);
    msgpack_pack_bin(&pk, len);
    msgpack_pack_bin_body(&pk, p, len);
}

void qm_emit_base64(struct qm_emit *e, const uint8_t *p, size_t len)
{
    if (!e->json) {
        qm_emit_bytes(e, p, len);
        return;
    }
    element(e);
    qm_out_char(e->out, '"');
    qm_out_base64(e->out, p, len);
    qm_out_char(e->out, '"');
}

void qm_emit_u64(struct qm_emit *e, uint64_t v)
{
    element(e);
    if (e->json) {
        qm_out_u64(e->out, v);
        return;
    }
    msgpack_packer pk = packer(e);
    msgpack_pack_uint64(&pk, v);
}

void qm_emit_bool(struct qm_emit *e, bool v)
{
    element(e);
    if (e->json) {
        qm_out_text(e->out, v ? "true" : "false");
        return;
    }
    msgpack_packer pk = packer(e);
    if (v)
        msgpack_pack_true(&pk);
    else
        msgpack_pack_false(&pk);
}

void qm_emit_null(struct qm_emit *e)
{
    element(e);
    if (e->json) {
        qm_out_text(e->out, "null");
        return;
    }
    msgpack_packer pk = packer(e);
    msgpack_pack_nil(&pk);
}
