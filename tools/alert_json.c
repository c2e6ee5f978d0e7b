/* An alert as the contract's object (section 5). */
#include "codec/emit.h"
#include "tools/store/store_alerts.h"

static void number(struct qm_emit *e, const char *key, uint64_t v)
{
    qm_emit_key(e, key);
    qm_emit_u64(e, v);
}

/* A time, null when it never was. */
static void moment(struct qm_emit *e, const char *key, uint64_t ms)
{
    qm_emit_key(e, key);
    if (ms != 0)
        qm_emit_u64(e, ms);
    else
        qm_emit_null(e);
}

static void text(struct qm_emit *e, const char *key, struct qm_span s)
{
    qm_emit_key(e, key);
    qm_emit_text(e, s);
}

static void text_or_null(struct qm_emit *e, const char *key, struct qm_span s)
{
    if (s.len != 0) {
        text(e, key, s);
        return;
    }
    qm_emit_key(e, key);
    qm_emit_null(e);
}

/* JSON of our own making, as it was stored. */
static void object(struct qm_emit *e, const char *key, const char *json)
{
    qm_emit_key(e, key);
    if (json != NULL)
        qm_out_text(e->out, json);
    else
        qm_emit_null(e);
}

static struct qm_span span(const char *s)
{
    return (struct qm_span){(const uint8_t *)s, strlen(s)};
}

static void first_item(struct qm_emit *e, const struct qm_alert_view *a)
{
    static const char *const keys[] = {"pcr", "measured", "expected"};
    if (a->item_count != 0) {
        number(e, "pcr", a->item[0].pcr);
        qm_emit_key(e, "measured");
        qm_emit_bytes(e, a->item[0].measured, 32);
        qm_emit_key(e, "expected");
        qm_emit_bytes(e, a->item[0].expected, 32);
        return;
    }
    for (size_t i = 0; i < QM_COUNT(keys); i++) {
        qm_emit_key(e, keys[i]);
        qm_emit_null(e);
    }
}

static void changes(struct qm_emit *e, const struct qm_alert_view *a)
{
    qm_emit_key(e, "changes");
    qm_emit_array(e);
    for (unsigned i = 0; i < a->item_count; i++) {
        qm_emit_map(e);
        number(e, "pcr", a->item[i].pcr);
        qm_emit_key(e, "expected");
        qm_emit_bytes(e, a->item[i].expected, 32);
        qm_emit_key(e, "measured");
        qm_emit_bytes(e, a->item[i].measured, 32);
        qm_emit_end(e);
    }
    qm_emit_end(e);
}

static void refused(struct qm_emit *e, const struct qm_alert_view *a)
{
    qm_emit_key(e, "detail");
    qm_emit_map(e);
    text(e, "source", span(a->source));
    number(e, "distinct", a->distinct);
    object(e, "ids", a->ids);
    qm_emit_end(e);
}

static void history(struct qm_emit *e, const struct qm_alert_view *a)
{
    qm_emit_key(e, "history");
    qm_emit_array(e);
    for (unsigned i = a->decision_count; i-- > 0;) {
        const struct qm_alert_decided *d = &a->decision[i];
        qm_emit_map(e);
        moment(e, "at", d->at_ms);
        text(e, "who", span(d->who));
        text(e, "what", span(d->what));
        text_or_null(e, "why", span(d->why));
        if (d->until_ms != 0)
            moment(e, "until", d->until_ms);
        qm_emit_end(e);
    }
    qm_emit_end(e);
}

void qm_alert_json(struct qm_out *out, const struct qm_alert_view *a)
{
    struct qm_emit e = qm_emit_init(out, true);
    qm_emit_map(&e);
    number(&e, "v", 1);
    qm_emit_key(&e, "kind");
    qm_emit_name(&e, "alert");
    number(&e, "no", a->no);
    qm_emit_key(&e, "alert");
    qm_emit_name(&e, qm_alert_kind_name(a->kind) != NULL ? qm_alert_kind_name(a->kind) : "unknown");
    if (a->home != NULL && a->home[0] != '\0')
        text(&e, "home", span(a->home));
    text(&e, "id", a->id);
    text_or_null(&e, "group", a->group);
    first_item(&e, a);
    text(&e, "change", span(a->name));
    changes(&e, a);
    if (a->digest.len != 0) {
        qm_emit_key(&e, "pcr_digest");
        qm_emit_bytes(&e, a->digest.p, a->digest.len);
    }
    moment(&e, "first_seen", a->first_ms);
    moment(&e, "last_seen", a->last_ms);
    number(&e, "count", a->count);
    qm_emit_key(&e, "state");
    qm_emit_name(&e, qm_alert_state_name(a->state) != NULL ? qm_alert_state_name(a->state) : "unknown");
    qm_emit_key(&e, "seen");
    qm_emit_bool(&e, a->seen);
    moment(&e, "until", a->until_ms);
    moment(&e, "closed", a->closed_ms);
    if (a->set_no != 0)
        number(&e, "set", a->set_no);
    if (a->source != NULL)
        refused(&e, a);
    else
        object(&e, "detail", a->detail);
    if (a->event != NULL)
        object(&e, "event", a->event);
    history(&e, a);
    qm_emit_end(&e);
    qm_out_char(out, '\n');
}
