#include "tools/ocsf.h"

#include <stdio.h>

#include "codec/emit.h"
#include "codec/result.h"
#include "tools/alert_words.h"

enum { ACTIVITY_CREATE = 1, ACTIVITY_UPDATE = 2, ACTIVITY_CLOSE = 3 };
enum { STATUS_NEW = 1, STATUS_IN_PROGRESS = 2, STATUS_SUPPRESSED = 3, STATUS_RESOLVED = 4 };

static void number(struct qm_emit *e, const char *key, uint64_t v)
{
    qm_emit_key(e, key);
    qm_emit_u64(e, v);
}

static void name(struct qm_emit *e, const char *key, const char *text)
{
    qm_emit_key(e, key);
    qm_emit_name(e, text);
}

static void text(struct qm_emit *e, const char *key, struct qm_span s)
{
    qm_emit_key(e, key);
    qm_emit_text(e, s);
}

static unsigned activity(const struct qm_alert_view *a)
{
    if (a->state == QM_ALERT_ACCEPTED || a->state == QM_ALERT_RESOLVED)
        return ACTIVITY_CLOSE;
    return a->count == 1 && a->decision_count == 0 ? ACTIVITY_CREATE : ACTIVITY_UPDATE;
}

static unsigned status(const struct qm_alert_view *a)
{
    if (a->state == QM_ALERT_OPEN)
        return a->seen ? STATUS_IN_PROGRESS : STATUS_NEW;
    return a->state == QM_ALERT_IGNORED ? STATUS_SUPPRESSED : STATUS_RESOLVED;
}

/* When the finding changed last: a repeat, a decision, its end. */
static uint64_t modified_ms(const struct qm_alert_view *a)
{
    uint64_t ms = a->last_ms > a->closed_ms ? a->last_ms : a->closed_ms;
    return a->decision_count != 0 && a->decision[0].at_ms > ms ? a->decision[0].at_ms : ms;
}

static void class_of(struct qm_emit *e, const struct qm_alert_view *a)
{
    static const char *const activities[] = {"", "Create", "Update", "Close"};
    static const char *const severities[] = {"", "", "Low", "Medium", "High"};
    static const char *const statuses[] = {"", "New", "In Progress", "Suppressed", "Resolved"};
    static const char *const types[] = {"", "Detection Finding: Create", "Detection Finding: Update",
                                        "Detection Finding: Close"};
    const unsigned what = activity(a);
    number(e, "activity_id", what);
    name(e, "activity_name", activities[what]);
    number(e, "category_uid", 2);
    name(e, "category_name", "Findings");
    number(e, "class_uid", 2004);
    name(e, "class_name", "Detection Finding");
    number(e, "type_uid", 200400 + what);
    name(e, "type_name", types[what]);
    number(e, "severity_id", qm_alert_severity(a->kind));
    name(e, "severity", severities[qm_alert_severity(a->kind)]);
    number(e, "status_id", status(a));
    name(e, "status", statuses[status(a)]);
}

static void metadata(struct qm_emit *e, const char *home)
{
    qm_emit_key(e, "metadata");
    qm_emit_map(e);
    name(e, "version", QM_OCSF_VERSION);
    qm_emit_key(e, "product");
    qm_emit_map(e);
    name(e, "name", "quotemill");
    name(e, "vendor_name", "quotemill");
    name(e, "version", QM_VERSION);
    qm_emit_end(e);
    if (home[0] != '\0')
        text(e, "tenant_uid", (struct qm_span){(const uint8_t *)home, strlen(home)});
    qm_emit_end(e);
}

/* "pcr_mismatch on web-1: PCR 4, boot manager code" */
static void title(struct qm_out *o, const struct qm_alert_view *a)
{
    qm_out_text(o, qm_alert_kind_name(a->kind));
    if (a->id.len != 0) {
        qm_out_text(o, " on ");
        qm_out_shown(o, a->id);
    } else if (a->source != NULL) {
        qm_out_text(o, " from ");
        qm_out_shown_again(o, (struct qm_span){(const uint8_t *)a->source, strlen(a->source)});
    } else if (a->group.len != 0) {
        qm_out_text(o, " in group ");
        qm_out_shown(o, a->group);
    } else {
        qm_out_text(o, qm_alert_of_fleet(a) ? " in the fleet" : " among machines without a group");
    }
    if (a->item_count != 0) {
        qm_out_text(o, ": PCR ");
        qm_out_u64(o, a->item[0].pcr);
        qm_out_text(o, ", ");
        qm_out_text(o, qm_stage_name(a->item[0].pcr));
    }
}

static void finding(struct qm_emit *e, const struct qm_alert_view *a, struct qm_span headline, const char *home)
{
    char uid[200];
    struct qm_out o = qm_out_init(uid, sizeof uid);
    if (home[0] != '\0') {
        qm_out_text(&o, home);
        qm_out_char(&o, '/');
    }
    qm_out_u64(&o, a->no);
    qm_emit_key(e, "finding_info");
    qm_emit_map(e);
    text(e, "uid", (struct qm_span){(const uint8_t *)uid, o.len});
    text(e, "title", headline);
    name(e, "desc", qm_alert_meaning(a->kind));
    qm_emit_key(e, "types");
    qm_emit_array(e);
    qm_emit_name(e, qm_alert_kind_name(a->kind));
    qm_emit_end(e);
    number(e, "created_time", a->first_ms);
    number(e, "first_seen_time", a->first_ms);
    number(e, "last_seen_time", a->last_ms);
    number(e, "modified_time", modified_ms(a));
    qm_emit_key(e, "analytic");
    qm_emit_map(e);
    name(e, "name", qm_alert_kind_name(a->kind));
    number(e, "type_id", 1);
    name(e, "type", "Rule");
    qm_emit_end(e);
    qm_emit_end(e);
}

static void resources(struct qm_emit *e, const struct qm_alert_view *a)
{
    if (a->id.len == 0)
        return;
    qm_emit_key(e, "resources");
    qm_emit_array(e);
    qm_emit_map(e);
    text(e, "uid", a->id);
    text(e, "name", a->id);
    name(e, "type", "Host");
    if (a->group.len != 0) {
        qm_emit_key(e, "group");
        qm_emit_map(e);
        text(e, "name", a->group);
        qm_emit_end(e);
    }
    qm_emit_end(e);
    qm_emit_end(e);
}

void qm_ocsf_write(struct qm_out *out, const struct qm_alert_view *a, const char *home)
{
    struct qm_emit e = qm_emit_init(out, true);
    char headline[1200];
    struct qm_out o = qm_out_init(headline, sizeof headline);
    title(&o, a);
    const struct qm_span said = {(const uint8_t *)headline, o.len};
    qm_emit_map(&e);
    class_of(&e, a);
    number(&e, "time", modified_ms(a));
    number(&e, "start_time", a->first_ms);
    number(&e, "end_time", a->last_ms);
    number(&e, "count", a->count);
    text(&e, "message", said);
    qm_emit_key(&e, "is_alert");
    qm_emit_bool(&e, activity(a) != ACTIVITY_CLOSE);
    metadata(&e, home);
    finding(&e, a, said, home);
    resources(&e, a);
    /* Whole, for whoever knows this program: stages, values, history. */
    qm_emit_key(&e, "evidences");
    qm_emit_array(&e);
    qm_emit_map(&e);
    name(&e, "name", "quotemill alert");
    qm_emit_key(&e, "data");
    qm_alert_json(out, a);
    out->len -= !out->full; /* the end of its line */
    qm_emit_end(&e);
    qm_emit_end(&e);
    qm_emit_end(&e);
    qm_out_char(out, '\n');
}
