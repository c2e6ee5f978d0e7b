/* One way to write a map of named values, as msgpack (msgpack-c's packer) or as a line of JSON, so that the two forms of a
 * record can never differ. Maps and arrays count their own elements. */
#ifndef QM_EMIT_H
#define QM_EMIT_H

#include "codec/text.h"

enum { QM_EMIT_DEPTH = 6 };

struct qm_emit {
    struct qm_out *out;
    bool json;
    unsigned depth;
    struct {
        size_t head; /* msgpack: where the count is patched in */
        uint32_t count;
        bool array;
    } level[QM_EMIT_DEPTH];
};

struct qm_emit qm_emit_init(struct qm_out *out, bool json);
void qm_emit_map(struct qm_emit *e);
void qm_emit_array(struct qm_emit *e);
void qm_emit_end(struct qm_emit *e); /* of the innermost map or array */
void qm_emit_key(struct qm_emit *e, const char *key);
void qm_emit_key_u64(struct qm_emit *e, uint64_t key); /* JSON: in quotes */
void qm_emit_name(struct qm_emit *e, const char *text);    /* our own ASCII text, nothing to escape */
void qm_emit_text(struct qm_emit *e, struct qm_span text); /* anybody's text */
void qm_emit_bytes(struct qm_emit *e, const uint8_t *p, size_t len); /* msgpack bin, JSON hex */
void qm_emit_base64(struct qm_emit *e, const uint8_t *p, size_t len); /* msgpack bin, JSON base64 */
void qm_emit_u64(struct qm_emit *e, uint64_t v);
void qm_emit_bool(struct qm_emit *e, bool v);
void qm_emit_null(struct qm_emit *e);

#endif
