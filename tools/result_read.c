#include "tools/result_read.h"

#include <errno.h>
#include <msgpack.h>
#include <stdlib.h>

#include "tools/json_read.h"

enum { READ_BYTES = 256 * 1024, RECORD_MAX = 1024 * 1024, TEXT_ROOM = 128 * 1024 };

struct qm_result_reader {
    FILE *in;
    bool begun, json;
    uint64_t off; /* of the next record */
    msgpack_unpacker unpacker;
    msgpack_unpacked unpacked;
    bool unpacking;
    struct qm_json *reader;
    char *line;
    size_t line_room;
    /* what a record's spans point at */
    uint8_t text[TEXT_ROOM];
    size_t text_used;
    bool text_full;
    struct qm_result *result;
    struct qm_run *run;
    enum qm_result_kind kind;
    bool has_status, has_reason;
    unsigned sets; /* of "sets", seen so far */
};

/* A value of either form. */
struct value {
    enum { V_OTHER, V_NUMBER, V_TEXT, V_BYTES, V_BOOL, V_LIST, V_MAP } kind;
    uint64_t number;          /* NUMBER, BOOL */
    struct qm_span span;      /* TEXT, BYTES; in JSON bytes come as TEXT of hex digits; LIST and MAP of JSON: their text */
    const msgpack_object *object; /* LIST and MAP of msgpack */
};

static struct qm_span keep(struct qm_result_reader *r, const void *p, size_t len)
{
    if (len > TEXT_ROOM - r->text_used) {
        r->text_full = true;
        return (struct qm_span){NULL, 0};
    }
    uint8_t *to = r->text + r->text_used;
    memcpy(to, p, len);
    r->text_used += len;
    return (struct qm_span){to, len};
}

static const char *keep_text(struct qm_result_reader *r, struct qm_span s)
{
    struct qm_span kept = keep(r, s.p, s.len);
    struct qm_span end = keep(r, "", 1);
    return kept.p != NULL && end.p != NULL ? (const char *)kept.p : "";
}

/* Bytes of either form; {NULL, 0} for anything else. */
static struct qm_span keep_bytes(struct qm_result_reader *r, const struct value *v)
{
    if (v->kind == V_BYTES)
        return keep(r, v->span.p, v->span.len);
    if (v->kind != V_TEXT || v->span.len % 2 != 0 || v->span.len / 2 > TEXT_ROOM - r->text_used)
        return (struct qm_span){NULL, 0};
    uint8_t *to = r->text + r->text_used;
    if (!qm_hex_read((const char *)v->span.p, to, v->span.len / 2))
        return (struct qm_span){NULL, 0};
    r->text_used += v->span.len / 2;
    return (struct qm_span){to, v->span.len / 2};
}

static const uint8_t *keep_digest(struct qm_result_reader *r, const struct value *v)
{
    struct qm_span s = keep_bytes(r, v);
    return s.len == 32 ? s.p : NULL;
}

static bool is(struct qm_span s, const char *name)
{
    return s.len == strlen(name) && memcmp(s.p, name, s.len) == 0;
}

/* The number of a name in an enumeration, or count. */
static unsigned number_of(struct qm_span s, const char *(*name)(unsigned), unsigned count)
{
    unsigned n = 0;
    while (n < count && !is(s, name(n)))
        n++;
    return n;
}
static const char *status_name(unsigned n)
{
    return qm_status_name((enum qm_status)n);
}
static const char *reason_name(unsigned n)
{
    return qm_reason_name((enum qm_reason)n);
}
static const char *log_name(unsigned n)
{
    return qm_log_state_name((enum qm_log_state)n);
}
static const char *state_name(unsigned n)
{
    return qm_stage_state_name((enum qm_stage_state)n);
}

/* ---- walking either form ------------------------------------------------------------------------------------------------ */

typedef qm_err (*member_fn)(struct qm_result_reader *r, struct qm_span key, const struct value *v, struct qm_fault *fault);

struct json_walk {
    struct qm_result_reader *r;
    member_fn member;
};

static struct value json_value(const struct qm_json_item *item)
{
    switch (item->kind) {
    case QM_JSON_INT:
        return item->number >= 0 ? (struct value){.kind = V_NUMBER, .number = (uint64_t)item->number} : (struct value){0};
    case QM_JSON_REAL:
        if (item->whole != 0)
            return (struct value){.kind = V_NUMBER, .number = item->whole};
        return item->real >= 0 && item->real < 18446744073709551616.0 ? (struct value){.kind = V_NUMBER, .number = (uint64_t)item->real}
                                                                      : (struct value){0};
    case QM_JSON_BOOL:
        return (struct value){.kind = V_BOOL, .number = (uint64_t)item->number};
    case QM_JSON_TEXT:
        return (struct value){.kind = V_TEXT, .span = item->text};
    case QM_JSON_ARRAY:
        return (struct value){.kind = V_LIST, .span = item->text};
    case QM_JSON_OBJECT:
        return (struct value){.kind = V_MAP, .span = item->text};
    case QM_JSON_NULL:
        break;
    }
    return (struct value){0};
}

static qm_err json_member(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct json_walk *w = user;
    const struct value v = json_value(item);
    return w->member(w->r, item->key, &v, fault);
}

static struct value msgpack_value(const msgpack_object *o)
{
    switch (o->type) {
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        return (struct value){.kind = V_NUMBER, .number = o->via.u64};
    case MSGPACK_OBJECT_BOOLEAN:
        return (struct value){.kind = V_BOOL, .number = o->via.boolean};
    case MSGPACK_OBJECT_STR:
        return (struct value){.kind = V_TEXT, .span = {(const uint8_t *)o->via.str.ptr, o->via.str.size}};
    case MSGPACK_OBJECT_BIN:
        return (struct value){.kind = V_BYTES, .span = {(const uint8_t *)o->via.bin.ptr, o->via.bin.size}};
    case MSGPACK_OBJECT_ARRAY:
        return (struct value){.kind = V_LIST, .object = o};
    case MSGPACK_OBJECT_MAP:
        return (struct value){.kind = V_MAP, .object = o};
    default:
        return (struct value){0};
    }
}

/* Every member of a map, every element (without a key) of a list. */
static qm_err each(struct qm_result_reader *r, const struct value *v, member_fn member, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    if (v->kind != V_MAP && v->kind != V_LIST)
        return QM_OK;
    if (v->object == NULL) {
        struct json_walk w = {r, member};
        return qm_json_each(r->reader, v->kind == V_MAP ? QM_JSON_OBJECT : QM_JSON_ARRAY, (const char *)v->span.p, v->span.len, json_member,
                            &w, fault);
    }
    if (v->kind == V_LIST) {
        for (uint32_t i = 0; err == QM_OK && i < v->object->via.array.size; i++) {
            const struct value item = msgpack_value(&v->object->via.array.ptr[i]);
            err = member(r, (struct qm_span){NULL, 0}, &item, fault);
        }
        return err;
    }
    for (uint32_t i = 0; err == QM_OK && i < v->object->via.map.size; i++) {
        const msgpack_object_kv *kv = &v->object->via.map.ptr[i];
        const struct value item = msgpack_value(&kv->val);
        if (kv->key.type == MSGPACK_OBJECT_STR)
            err = member(r, (struct qm_span){(const uint8_t *)kv->key.via.str.ptr, kv->key.via.str.size}, &item, fault);
    }
    return err;
}

/* ---- records ------------------------------------------------------------------------------------------------------------ */

static qm_err stage_member(struct qm_result_reader *r, struct qm_span key, const struct value *v, struct qm_fault *fault)
{
    struct qm_stage *s = &r->result->stage[r->result->stage_count];
    (void)fault;
    if (is(key, "pcr") && v->kind == V_NUMBER && v->number < QM_PCR_COUNT)
        s->pcr = (uint8_t)v->number;
    else if (is(key, "state") && v->kind == V_TEXT)
        s->state = (uint8_t)(number_of(v->span, state_name, QM_STAGE_STATE_COUNT) % QM_STAGE_STATE_COUNT);
    else if (is(key, "measured"))
        s->measured = keep_digest(r, v);
    else if (is(key, "expected"))
        s->expected = keep_digest(r, v);
    return QM_OK;
}

static qm_err stage(struct qm_result_reader *r, struct qm_span key, const struct value *v, struct qm_fault *fault)
{
    (void)key;
    if (r->result->stage_count == QM_STAGE_COUNT)
        return qm_fail(fault, QM_E_FORMAT, 0, "a result with more than %d stages", QM_STAGE_COUNT);
    r->result->stage[r->result->stage_count] = (struct qm_stage){0};
    qm_err err = each(r, v, stage_member, fault);
    r->result->proven |= r->result->stage[r->result->stage_count].measured != NULL;
    r->result->stage_count++;
    return err;
}

static qm_err set_number(struct qm_result_reader *r, struct qm_span key, const struct value *v, struct qm_fault *fault)
{
    (void)key;
    (void)fault;
    if (v->kind != V_NUMBER || v->number > UINT32_MAX)
        return QM_OK;
    if (r->sets++ == 0)
        r->result->set_a = (uint32_t)v->number;
    else
        r->result->set_b = (uint32_t)v->number;
    return QM_OK;
}

static qm_err event_member(struct qm_result_reader *r, struct qm_span key, const struct value *v, struct qm_fault *fault)
{
    struct qm_event_diff *e = &r->result->event;
    (void)fault;
    if (is(key, "index") && v->kind == V_NUMBER)
        e->index = (uint32_t)v->number;
    else if (is(key, "type") && v->kind == V_NUMBER)
        e->type = (uint32_t)v->number;
    else if (is(key, "digest"))
        e->digest = keep_digest(r, v);
    else if (is(key, "expected_digest"))
        e->expected_digest = keep_digest(r, v);
    else if (is(key, "text") && v->kind == V_TEXT)
        e->text = keep(r, v->span.p, v->span.len);
    else if (is(key, "proved") && v->kind == V_BOOL)
        e->proved = v->number != 0;
    return QM_OK;
}

/* Numbers of a result, by name. One that is none would be left out, and without its clock a record is not authentic: what it found would
 * be lost. */
static qm_err number_member(struct qm_result *x, struct qm_span key, const struct value *v, bool *taken, struct qm_fault *fault)
{
    const uint64_t n = v->number;
    static const struct {
        const char *name;
        size_t at;
        bool wide;
    } fields[] = {
        {"off", offsetof(struct qm_result, off), true},         {"len", offsetof(struct qm_result, len), true},
        {"count", offsetof(struct qm_result, count), true},     {"clock", offsetof(struct qm_result, clock_ms), true},
        {"firmware", offsetof(struct qm_result, firmware), true}, {"t", offsetof(struct qm_result, t_ms), true},
        {"checked", offsetof(struct qm_result, checked_ms), true}, {"baseline", offsetof(struct qm_result, baseline), true},
        {"reset", offsetof(struct qm_result, reset), false},    {"restart", offsetof(struct qm_result, restart), false},
        {"beacon", offsetof(struct qm_result, beacon), false},
    };
    for (size_t i = 0; i < QM_COUNT(fields); i++) {
        if (!is(key, fields[i].name))
            continue;
        if (v->kind != V_NUMBER || (!fields[i].wide && n > UINT32_MAX))
            return qm_fail(fault, QM_E_FORMAT, 0, "a result whose %s is no number that it can have", fields[i].name);
        if (fields[i].wide)
            memcpy((char *)x + fields[i].at, &n, sizeof n);
        else
            memcpy((char *)x + fields[i].at, &(uint32_t){(uint32_t)n}, sizeof(uint32_t));
        x->has_clock |= is(key, "clock");
        x->has_t |= is(key, "t");
        x->has_baseline |= is(key, "baseline");
        *taken = true;
    }
    return QM_OK;
}

static qm_err text_member(struct qm_result_reader *r, struct qm_span key, struct qm_span s, struct qm_fault *fault)
{
    struct qm_result *x = r->result;
    unsigned n;
    if (is(key, "run")) {
        x->run = keep_text(r, s);
    } else if (is(key, "src")) {
        x->source = keep(r, s.p, s.len);
    } else if (is(key, "id")) {
        if (s.len > QM_ID_MAX)
            return qm_fail(fault, QM_E_FORMAT, 0, "a result whose id is too long");
        x->id = keep(r, s.p, s.len);
    } else if (is(key, "status")) {
        if ((n = number_of(s, status_name, QM_STATUS_COUNT)) == QM_STATUS_COUNT)
            return qm_fail(fault, QM_E_FORMAT, 0, "a result of no known status");
        x->status = (uint8_t)n;
        r->has_status = true;
    } else if (is(key, "reason")) {
        if ((n = number_of(s, reason_name, QM_REASON_COUNT)) == QM_REASON_COUNT)
            return qm_fail(fault, QM_E_FORMAT, 0, "a result of no known reason");
        x->reason = (uint8_t)n;
        r->has_reason = true;
    } else if (is(key, "log")) {
        n = number_of(s, log_name, QM_LOG_STATE_COUNT);
        x->log = (uint8_t)(n == QM_LOG_STATE_COUNT ? QM_LOG_NOT_CHECKED : n);
    }
    return QM_OK;
}

static qm_err status_member(struct qm_result_reader *r, struct qm_span key, const struct value *v, struct qm_fault *fault)
{
    struct qm_result *x = r->result;
    bool taken = false;
    qm_err err = number_member(x, key, v, &taken, fault);
    if (err != QM_OK || taken)
        return err;
    if (is(key, "stages"))
        return each(r, v, stage, fault);
    if (is(key, "sets"))
        return each(r, v, set_number, fault);
    if (is(key, "event") && v->kind == V_MAP) {
        x->has_event = true;
        return each(r, v, event_member, fault);
    }
    if (is(key, "first_fail") && v->kind == V_NUMBER && v->number < QM_PCR_COUNT) {
        x->first_fail = (int8_t)v->number;
    } else if (is(key, "safe") && v->kind == V_BOOL) {
        x->safe = v->number != 0;
    } else if (is(key, "pcr_digest")) {
        x->pcr_digest = keep_bytes(r, v);
        if (x->pcr_digest.len > QM_DIGEST_MAX)
            return qm_fail(fault, QM_E_FORMAT, 0, "a result whose pcr_digest is too long");
    } else if (is(key, "attest")) {
        const uint8_t *digest = keep_digest(r, v);
        x->has_attest = digest != NULL;
        if (digest != NULL)
            memcpy(x->attest, digest, sizeof x->attest);
    } else if (v->kind == V_TEXT) {
        return text_member(r, key, v->span, fault);
    }
    return QM_OK;
}

static qm_err run_member(struct qm_result_reader *r, struct qm_span key, const struct value *v, struct qm_fault *fault)
{
    struct qm_run *run = r->run;
    (void)fault;
    if (is(key, "run") && v->kind == V_TEXT)
        run->run = keep_text(r, v->span);
    else if (is(key, "version") && v->kind == V_TEXT)
        run->version = keep_text(r, v->span);
    else if (is(key, "start") && v->kind == V_NUMBER)
        run->start_ms = v->number;
    else if (is(key, "end") && v->kind == V_NUMBER)
        run->end_ms = v->number;
    else if (is(key, "complete") && v->kind == V_BOOL)
        run->complete = v->number != 0;
    else if (is(key, "files") && v->kind == V_NUMBER)
        run->files = v->number;
    else if (is(key, "records") && v->kind == V_NUMBER)
        run->records = v->number;
    else if (is(key, "bytes") && v->kind == V_NUMBER)
        run->bytes = v->number;
    else if (is(key, "generation") && v->kind == V_NUMBER)
        run->generation = v->number;
    return QM_OK;
}

static qm_err find_kind(struct qm_result_reader *r, struct qm_span key, const struct value *v, struct qm_fault *fault)
{
    if (is(key, "v") && (v->kind != V_NUMBER || v->number != 1))
        return qm_fail(fault, QM_E_FORMAT, 0, "a record of another version");
    if (is(key, "kind") && v->kind == V_TEXT)
        r->kind = is(v->span, "status") ? QM_READ_STATUS : is(v->span, "run") ? QM_READ_RUN : QM_READ_END;
    return QM_OK;
}

static qm_err read_record(struct qm_result_reader *r, const struct value *v, struct qm_fault *fault)
{
    r->kind = QM_READ_END;
    r->text_used = 0;
    r->text_full = false;
    r->has_status = r->has_reason = false;
    r->sets = 0;
    qm_err err = v->kind == V_MAP ? each(r, v, find_kind, fault) : qm_fail(fault, QM_E_FORMAT, 0, "no record");
    if (err != QM_OK)
        return err;
    if (r->kind == QM_READ_END)
        return qm_fail(fault, QM_E_FORMAT, 0, "neither a result nor a run record");
    memset(r->result, 0, sizeof *r->result);
    r->result->first_fail = -1;
    r->result->run = "";
    *r->run = (struct qm_run){.run = "", .version = ""};
    err = each(r, v, r->kind == QM_READ_STATUS ? status_member : run_member, fault);
    if (err == QM_OK && r->text_full)
        err = qm_fail(fault, QM_E_FORMAT, 0, "a record that is too long");
    if (err == QM_OK && r->kind == QM_READ_STATUS && (!r->has_status || !r->has_reason))
        err = qm_fail(fault, QM_E_FORMAT, 0, "a result without status or reason");
    r->result->proven |= r->result->status == QM_TRUSTED;
    return err;
}

/* ---- streams ------------------------------------------------------------------------------------------------------------ */

qm_err qm_result_reader_open(struct qm_result_reader **out, FILE *in, struct qm_fault *fault)
{
    struct qm_result_reader *r = calloc(1, sizeof *r);
    *out = NULL;
    if (r == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory to read results");
    r->in = in;
    qm_err err = qm_json_open(&r->reader, fault);
    if (err == QM_OK && !msgpack_unpacker_init(&r->unpacker, READ_BYTES))
        err = qm_fail(fault, QM_E_NOMEM, 0, "no memory to read results");
    if (err != QM_OK) {
        qm_result_reader_close(r);
        return err;
    }
    r->unpacking = true;
    msgpack_unpacked_init(&r->unpacked);
    *out = r;
    return QM_OK;
}

void qm_result_reader_close(struct qm_result_reader *r)
{
    if (r == NULL)
        return;
    if (r->unpacking) {
        msgpack_unpacked_destroy(&r->unpacked);
        msgpack_unpacker_destroy(&r->unpacker);
    }
    qm_json_close(r->reader);
    free(r->line);
    free(r);
}

static qm_err next_line(struct qm_result_reader *r, bool *end, struct qm_fault *fault)
{
    ssize_t n;
    do {
        n = getline(&r->line, &r->line_room, r->in);
        *end = n < 0;
        if (n < 0)
            return ferror(r->in) ? qm_fail(fault, QM_E_IO, errno, "cannot read the results") : QM_OK;
        r->off += (uint64_t)n;
    } while (n == 1 && r->line[0] == '\n');
    if (r->line[n - 1] != '\n')
        return qm_fail(fault, QM_E_FORMAT, 0, "it ends inside a record");
    const struct value v = {.kind = V_MAP, .span = {(const uint8_t *)r->line, (size_t)n - 1}};
    qm_err err = read_record(r, &v, fault);
    return err == QM_E_REFUSED ? qm_fail(fault, QM_E_FORMAT, 0, "no record") : err;
}

static qm_err next_packed(struct qm_result_reader *r, bool *end, struct qm_fault *fault)
{
    size_t used = 0;
    *end = false;
    for (;;) {
        switch (msgpack_unpacker_next_with_size(&r->unpacker, &r->unpacked, &used)) {
        case MSGPACK_UNPACK_SUCCESS:
            r->off += used;
            return read_record(r, &(struct value){.kind = r->unpacked.data.type == MSGPACK_OBJECT_MAP ? V_MAP : V_OTHER, .object = &r->unpacked.data},
                               fault);
        case MSGPACK_UNPACK_CONTINUE:
            break;
        case MSGPACK_UNPACK_NOMEM_ERROR:
            return qm_fail(fault, QM_E_NOMEM, 0, "no memory to read results");
        default:
            return qm_fail(fault, QM_E_FORMAT, 0, "no record");
        }
        if (msgpack_unpacker_message_size(&r->unpacker) > RECORD_MAX)
            return qm_fail(fault, QM_E_FORMAT, 0, "a record that is too long");
        if (!msgpack_unpacker_reserve_buffer(&r->unpacker, READ_BYTES))
            return qm_fail(fault, QM_E_NOMEM, 0, "no memory to read results");
        size_t n = fread(msgpack_unpacker_buffer(&r->unpacker), 1, READ_BYTES, r->in);
        if (n == 0 && ferror(r->in))
            return qm_fail(fault, QM_E_IO, errno, "cannot read the results");
        if (n == 0) {
            *end = msgpack_unpacker_message_size(&r->unpacker) == 0;
            return *end ? QM_OK : qm_fail(fault, QM_E_FORMAT, 0, "it ends inside a record");
        }
        msgpack_unpacker_buffer_consumed(&r->unpacker, n);
    }
}

qm_err qm_result_reader_next(struct qm_result_reader *r, enum qm_result_kind *kind, struct qm_result *result, struct qm_run *run,
                             struct qm_fault *fault)
{
    struct qm_fault why = {0};
    bool end = false;
    r->result = result;
    r->run = run;
    if (!r->begun) {
        int c = getc(r->in);
        if (c != EOF)
            ungetc(c, r->in);
        r->json = c == '{';
        r->begun = true;
    }
    const uint64_t off = r->off;
    qm_err err = r->json ? next_line(r, &end, &why) : next_packed(r, &end, &why);
    if (err == QM_E_FORMAT)
        return qm_fail(fault, QM_E_FORMAT, 0, "at byte %llu: %s", (unsigned long long)off, why.text);
    if (err != QM_OK && fault != NULL)
        *fault = why;
    *kind = end ? QM_READ_END : r->kind;
    return err;
}
