/* What a record raises, and what it closes. */
#include "codec/emit.h"
#include "tools/judge/judge_inside.h"

enum { EVENT_ROOM = 16 * 1024 };

#define BIT(kind) (1u << (kind))

/* Kinds that somebody must decide: a pass says nothing about them. */
enum { DECIDED = BIT(QM_ALERT_CLONED_OR_ROLLED_BACK) | BIT(QM_ALERT_KEY_CONFLICT), OF_A_MACHINE = BIT(QM_ALERT_UNMEASURED + 1) - 1 };

static qm_err raise_alert(struct judge *j, struct subject *u, struct qm_alert_new *a, struct qm_alert_raised *raised, struct qm_fault *fault)
{
    a->slot = u->slot;
    a->group_no = u->ledger.group;
    a->restarts = u->ledger.last.reset;
    qm_err err = qm_alert_raise(j->store, a, raised, fault);
    if (err != QM_OK)
        return err;
    u->raised |= BIT(a->kind);
    u->ledger.flags |= QM_LEDGER_ALERTS;
    u->touched = true;
    j->out->opened += raised->opened;
    j->out->repeated += !raised->opened;
    return QM_OK;
}

qm_err judge_raise(struct judge *j, struct subject *u, enum qm_alert_kind kind, const struct qm_result *r, const char *detail,
                   bool repeat, struct qm_fault *fault)
{
    struct qm_alert_new a = {.kind = kind, .detail = detail, .at_ms = r->checked_ms, .quiet = !repeat};
    struct qm_alert_raised raised;
    return raise_alert(j, u, &a, &raised, fault);
}

/* What differs within the PCRs of mask. */
static unsigned items_of(const struct qm_result *r, uint32_t mask, struct qm_change_item *item)
{
    unsigned n = 0;
    for (unsigned i = 0; i < r->stage_count; i++) {
        const struct qm_stage *s = &r->stage[i];
        if ((mask >> s->pcr & 1) == 0 || s->measured == NULL || s->expected == NULL || memcmp(s->measured, s->expected, 32) == 0)
            continue;
        item[n].pcr = s->pcr;
        memcpy(item[n].expected, s->expected, 32);
        memcpy(item[n].measured, s->measured, 32);
        n++;
    }
    return n;
}

/* The words belong to the row of the class that the PCR is of. */
static const char *event_of(const struct qm_result *r, uint32_t mask, char text[EVENT_ROOM])
{
    if (!r->has_event || r->first_fail < 0 || (mask >> r->first_fail & 1) == 0)
        return NULL;
    struct qm_out o = qm_out_init(text, EVENT_ROOM - 1);
    qm_result_event_json(&o, r);
    if (o.full)
        return NULL;
    text[o.len] = '\0';
    return text;
}

qm_err judge_raise_mismatch(struct judge *j, struct subject *u, const struct qm_result *r, bool repeat, uint64_t change[2],
                            struct qm_fault *fault)
{
    /* A machine of a group has a row for each class, so that its own values do not tear it out of the group's cohort. */
    const bool grouped = u->ledger.group != 0;
    const uint32_t part[2] = {grouped ? u->policy->class_group : ~0u, grouped ? ~u->policy->class_group : 0};
    const enum qm_set_kind kind[2] = {grouped ? QM_SET_GROUP : QM_SET_WHOLE, QM_SET_INSTANCE};
    struct qm_change_item item[QM_PCR_COUNT];
    struct qm_alert_raised raised;
    char event[EVENT_ROOM];
    struct qm_alert_new a = {.kind = QM_ALERT_PCR_MISMATCH, .at_ms = r->checked_ms, .quiet = !repeat};
    if (!r->proven) {
        a.digest = r->pcr_digest;
        qm_err err = raise_alert(j, u, &a, &raised, fault);
        change[0] = raised.change; /* so that a set accepted later is known by it */
        return err;
    }
    unsigned rows = 0;
    for (unsigned i = 0; i < 2; i++) {
        a.item = item;
        a.item_count = items_of(r, part[i], item);
        a.set_kind = kind[i];
        a.event = event_of(r, part[i], event);
        if (a.item_count == 0)
            continue;
        qm_err err = raise_alert(j, u, &a, &raised, fault);
        if (err != QM_OK)
            return err;
        change[rows++] = raised.change;
    }
    return QM_OK;
}

/* What the newest record shows to be over. */
static uint32_t over(const struct qm_result *r)
{
    if (r->status == QM_TRUSTED)
        return OF_A_MACHINE & ~(uint32_t)DECIDED;
    return BIT(QM_ALERT_UNMEASURED) | (r->proven ? BIT(QM_ALERT_PCR_VALUES_MISSING) : 0) |
           (r->log == QM_LOG_REPLAYED ? BIT(QM_ALERT_LOG_REQUIRED) | BIT(QM_ALERT_LOG_INCONSISTENT) : 0) |
           (r->status != QM_NEW || r->reason == QM_LEARNED ? BIT(QM_ALERT_NO_BASELINE) : 0);
}

qm_err judge_close_alerts(struct judge *j, struct subject *u, const struct qm_result *r, struct qm_fault *fault)
{
    uint64_t left, closed;
    if ((u->ledger.flags & QM_LEDGER_ALERTS) == 0)
        return QM_OK;
    qm_err err = qm_alert_resolve(j->store, u->slot, over(r) & ~u->raised, r->checked_ms, r->reset, &left, &closed, fault);
    if (err != QM_OK)
        return err;
    j->out->resolved += closed;
    if (left == 0)
        u->ledger.flags &= (uint8_t)~QM_LEDGER_ALERTS;
    return QM_OK;
}
