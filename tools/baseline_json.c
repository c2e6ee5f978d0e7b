#include "tools/baseline_json.h"

#include <stdio.h>

#include "codec/emit.h"

/* ---- writing ---------------------------------------------------------------------------------------------------------- */

static void text_or_null(struct qm_emit *e, const char *key, struct qm_span text)
{
    qm_emit_key(e, key);
    if (text.p != NULL)
        qm_emit_text(e, text);
    else
        qm_emit_null(e);
}

static void string_or_null(struct qm_emit *e, const char *key, const char *text)
{
    text_or_null(e, key, (struct qm_span){(const uint8_t *)text, text != NULL ? strlen(text) : 0});
}

static void number_or_null(struct qm_emit *e, const char *key, uint64_t n)
{
    qm_emit_key(e, key);
    if (n != 0)
        qm_emit_u64(e, n);
    else
        qm_emit_null(e);
}

void qm_baseline_json(struct qm_out *out, const struct qm_baseline *b)
{
    struct qm_emit e = qm_emit_init(out, true);
    const uint8_t *value = b->value;
    qm_emit_map(&e);
    qm_emit_key(&e, "v");
    qm_emit_u64(&e, 1);
    string_or_null(&e, "kind", "baseline");
    number_or_null(&e, "no", b->no);
    string_or_null(&e, "set", qm_set_kind_name(b->kind));
    text_or_null(&e, "id", b->id);
    text_or_null(&e, "group", b->group);
    qm_emit_key(&e, "retired");
    qm_emit_bool(&e, b->retired);
    string_or_null(&e, "origin", b->origin);
    number_or_null(&e, "alert", b->alert);
    string_or_null(&e, "run", b->run);
    string_or_null(&e, "who", b->who);
    string_or_null(&e, "why", b->why);
    number_or_null(&e, "since", b->since_ms);
    number_or_null(&e, "until", b->until_ms);
    number_or_null(&e, "passed", b->passed_ms);
    number_or_null(&e, "ended", b->ended_ms);
    string_or_null(&e, "ended_who", b->ended_who);
    string_or_null(&e, "ended_why", b->ended_why);
    number_or_null(&e, "values_no", b->values_no);
    qm_emit_key(&e, "values");
    qm_emit_map(&e);
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++) {
        char name[4];
        if ((b->mask >> pcr & 1) == 0)
            continue;
        snprintf(name, sizeof name, "%u", pcr);
        qm_emit_key(&e, name);
        qm_emit_bytes(&e, value, 32);
        value += 32;
    }
    qm_emit_end(&e);
    qm_emit_end(&e);
    qm_out_char(out, '\n');
}

/* ---- reading ---------------------------------------------------------------------------------------------------------- */

qm_err qm_baseline_value_put(struct qm_baseline_line *to, struct qm_span pcr, struct qm_span hex, struct qm_fault *fault)
{
    unsigned n = 0;
    bool good = pcr.len >= 1 && pcr.len <= 2 && (pcr.len == 1 || pcr.p[0] != '0');
    for (size_t i = 0; good && i < pcr.len; i++) {
        good = pcr.p[i] >= '0' && pcr.p[i] <= '9';
        n = 10 * n + (unsigned)(pcr.p[i] - '0');
    }
    if (!good || n >= QM_PCR_COUNT)
        return qm_fail(fault, QM_E_REFUSED, 0, "'%.*s' is no PCR (0 to 23)", (int)(pcr.len < 16 ? pcr.len : 16),
                       (const char *)pcr.p);
    if ((to->set.mask >> n & 1) != 0)
        return qm_fail(fault, QM_E_REFUSED, 0, "PCR %u stands twice", n);
    if (hex.len != 64 || !qm_hex_read((const char *)hex.p, to->value[n], 32))
        return qm_fail(fault, QM_E_REFUSED, 0, "the value of PCR %u is not 64 hex digits", n);
    to->set.mask |= 1u << n;
    to->set.value[n] = to->value[n];
    return QM_OK;
}

static qm_err value_visit(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    return qm_baseline_value_put(user, item->key, item->kind == QM_JSON_TEXT ? item->text : (struct qm_span){NULL, 0}, fault);
}

struct line {
    struct qm_json *json;
    struct qm_baseline_line *out;
    bool has_set, has_values;
};

static qm_err take_text(const struct qm_json_item *item, char *to, size_t cap, struct qm_fault *fault)
{
    if (item->kind == QM_JSON_NULL)
        return QM_OK;
    if (item->kind != QM_JSON_TEXT || item->text.len == 0 || item->text.len >= cap)
        return qm_fail(fault, QM_E_REFUSED, 0, "%.*s is no text of 1 to %zu bytes", (int)item->key.len,
                       (const char *)item->key.p, cap - 1);
    memcpy(to, item->text.p, item->text.len);
    to[item->text.len] = '\0';
    return QM_OK;
}

static qm_err take_kind(struct line *l, const struct qm_json_item *item, struct qm_fault *fault)
{
    for (unsigned k = QM_SET_WHOLE; k <= QM_SET_INSTANCE; k++) {
        const char *name = qm_set_kind_name((enum qm_set_kind)k);
        if (item->kind == QM_JSON_TEXT && qm_span_eq(item->text, (struct qm_span){(const uint8_t *)name, strlen(name)})) {
            l->out->set.kind = (enum qm_set_kind)k;
            l->has_set = true;
            return QM_OK;
        }
    }
    return qm_fail(fault, QM_E_REFUSED, 0, "set is none of whole, group, instance");
}

static qm_err line_visit(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct line *l = user;
    struct qm_baseline_line *out = l->out;
    if (qm_json_key_is(item, "set"))
        return take_kind(l, item, fault);
    if (qm_json_key_is(item, "id"))
        return take_text(item, out->id, sizeof out->id, fault);
    if (qm_json_key_is(item, "group"))
        return take_text(item, out->group, sizeof out->group, fault);
    if (qm_json_key_is(item, "why"))
        return take_text(item, out->why, sizeof out->why, fault);
    if (qm_json_key_is(item, "ended"))
        out->over = item->kind != QM_JSON_NULL;
    if (qm_json_key_is(item, "until") && item->kind != QM_JSON_NULL) {
        if (item->kind != QM_JSON_INT || item->number <= 0)
            return qm_fail(fault, QM_E_REFUSED, 0, "until is no time in ms since the epoch");
        out->set.until_ms = (uint64_t)item->number;
    }
    if (qm_json_key_is(item, "values")) {
        if (l->has_values || item->kind != QM_JSON_OBJECT)
            return qm_fail(fault, QM_E_REFUSED, 0, "values is no object, or stands twice");
        l->has_values = true;
        return qm_json_each(l->json, QM_JSON_OBJECT, (const char *)item->text.p, item->text.len, value_visit, out, fault);
    }
    return QM_OK;
}

qm_err qm_baseline_line_read(struct qm_json *json, const char *text, size_t len, struct qm_baseline_line *out,
                             struct qm_fault *fault)
{
    struct line l = {.json = json, .out = out};
    *out = (struct qm_baseline_line){0};
    qm_err err = qm_json_each(json, QM_JSON_OBJECT, text, len, line_visit, &l, fault);
    if (err != QM_OK)
        return err;
    if (!l.has_set || !l.has_values)
        return qm_fail(fault, QM_E_REFUSED, 0, "%s is missing", !l.has_set ? "set" : "values");
    if (out->set.kind == QM_SET_GROUP ? out->group[0] == '\0' : out->id[0] == '\0')
        return qm_fail(fault, QM_E_REFUSED, 0, "%s is missing", out->set.kind == QM_SET_GROUP ? "group" : "id");
    out->set.why = out->why[0] != '\0' ? out->why : NULL;
    return QM_OK;
}

qm_err qm_baseline_values_read(struct qm_json *json, const char *text, size_t len, struct qm_baseline_line *out,
                               struct qm_fault *fault)
{
    return qm_json_each(json, QM_JSON_OBJECT, text, len, value_visit, out, fault);
}
