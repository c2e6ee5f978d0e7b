/* One authentic record: check 8, the verdict as it is now, learning, the instance's entry. */
#include <stdio.h>

#include "tools/judge/judge_inside.h"
#include "tools/store/store_run.h"

/* What is left of a result whose log and values no longer count. */
static void refuse(struct qm_result *r, enum qm_status status, enum qm_reason reason)
{
    r->status = (uint8_t)status;
    r->reason = (uint8_t)reason;
    r->log = QM_LOG_NOT_CHECKED;
    r->stage_count = 0;
    r->first_fail = -1;
    r->proven = false;
    r->has_event = false;
    r->set_a = r->set_b = 0;
}

/* ---- values ------------------------------------------------------------------------------------------------------------ */

/* Adds the values of an accepted set for the PCRs of wanted that it has and that have none yet. */
static qm_err add_set_values(struct judge *j, uint32_t set, uint32_t wanted, const uint8_t *value[QM_PCR_COUNT], uint32_t *mask,
                             struct qm_fault *fault)
{
    uint8_t packed[QM_PCR_COUNT * 32];
    uint32_t part;
    bool found;
    qm_err err = set != 0 ? qm_values_get(j->store, set, &part, packed, &found, fault) : QM_OK;
    if (err != QM_OK || set == 0)
        return err;
    if (!found)
        return qm_fail(fault, QM_E_FORMAT, 0, "the store lacks the values %u that a record passed on", set);
    const uint8_t *from = packed;
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++) {
        if ((part >> pcr & 1) == 0)
            continue;
        if ((wanted & ~*mask) >> pcr & 1) {
            memcpy(j->room + 32 * pcr, from, 32);
            value[pcr] = j->room + 32 * pcr;
        }
        from += 32;
    }
    *mask |= part & wanted;
    return QM_OK;
}

/* The proven values of a record: its stages have them, or, as it was trusted, the set that it passed on. Beside a group's set
 * stands the instance's, or a whole one: which PCRs are whose is as it was when they were compared. */
static qm_err values_of(struct judge *j, const struct subject *u, const struct qm_result *r, const uint8_t *value[QM_PCR_COUNT],
                        uint32_t *mask, struct qm_fault *fault)
{
    *mask = 0;
    if (!r->proven)
        return QM_OK;
    for (unsigned i = 0; i < r->stage_count; i++)
        if (r->stage[i].measured != NULL) {
            value[r->stage[i].pcr] = r->stage[i].measured;
            *mask |= 1u << r->stage[i].pcr;
        }
    if (*mask != 0)
        return QM_OK;
    const uint32_t own = r->set_b == 0 ? 0 : r->pair_mask != 0 ? r->pair_mask : ~u->policy->class_group;
    qm_err err = add_set_values(j, r->set_b, own, value, mask, fault);
    return err == QM_OK ? add_set_values(j, r->set_a, ~own, value, mask, fault) : err;
}

/* The live set whose values the signed digest is of; NULL: none. */
static const struct qm_set *set_of_digest(const struct judge *j, const struct qm_result *r, uint32_t baselined)
{
    for (unsigned i = 0; i < j->sets.count; i++) {
        const struct qm_set *s = j->sets.set[i];
        if (s->composite_size != 0 && s->composite_size == r->pcr_digest.len && (baselined & ~s->mask) == 0 &&
            memcmp(s->composite, r->pcr_digest.p, s->composite_size) == 0)
            return s;
    }
    return NULL;
}

/* ---- the verdict as it is now ------------------------------------------------------------------------------------------ */

/* Judges the record's values by the sets that live now: a decision was made since the table, or this run learned. */
static qm_err judge_again(struct judge *j, struct subject *u, struct case_of *c, struct qm_fault *fault)
{
    struct qm_result *r = c->r;
    const uint8_t *value[QM_PCR_COUNT] = {NULL};
    struct qm_stage stage[QM_STAGE_COUNT];
    struct qm_comparison compared;
    enum qm_status status;
    enum qm_reason reason;
    uint32_t have;
    qm_err err = values_of(j, u, r, value, &have, fault);
    if (err == QM_OK)
        err = qm_live_sets_load(j->store, &u->row, &j->sets, fault);
    if (err != QM_OK)
        return err;
    const uint32_t baselined = u->row.profile.baselined;
    /* What is baselined since the record was judged was not looked at in it, but for the signed digest. */
    const struct qm_set *signed_set = set_of_digest(j, r, baselined);
    for (unsigned pcr = 0; signed_set != NULL && pcr < QM_PCR_COUNT; pcr++)
        value[pcr] = qm_set_value(signed_set, pcr);
    const bool proven = signed_set != NULL || (r->proven && (baselined & ~have) == 0);
    qm_conclude(proven ? value : NULL, baselined, j->sets.set, j->sets.count, &status, &reason, &compared);
    if (u->row.require_log && r->log != QM_LOG_REPLAYED && (status == QM_TRUSTED || status == QM_NEW)) {
        status = QM_UNTRUSTED;
        reason = QM_LOG_REQUIRED;
    }
    r->status = (uint8_t)status;
    r->reason = (uint8_t)reason;
    r->proven = proven;
    r->baseline = u->row.generation;
    r->set_a = compared.set != NULL ? compared.set->set_no : 0;
    r->set_b = compared.set != NULL ? compared.set->pair_no : 0;
    r->pair_mask = compared.set != NULL ? compared.set->pair_mask : 0;
    r->has_event = false; /* it was about the other verdict */
    unsigned n = qm_stages(proven ? value : NULL, baselined, compared.set, stage, &r->first_fail);
    if (status == QM_TRUSTED) {
        r->stage_count = 0;
        return QM_OK;
    }
    c->r = qm_outcomes_restage(c->arena, r, stage, n, fault);
    return c->r != NULL ? QM_OK : QM_E_NOMEM;
}

/* ---- learning ---------------------------------------------------------------------------------------------------------- */

/* A PCR of 0-7 that firmware of this bank never extended: anybody can extend it to anything. PCR 0 starts at its locality. */
static bool at_reset(unsigned pcr, const uint8_t value[32])
{
    static const uint8_t zero[32];
    return pcr <= 7 && memcmp(value, zero, 31) == 0 && (value[31] == 0 || (pcr == 0 && value[31] <= 4));
}

/* Which PCRs a set of each kind would hold: those that no set holds yet. *kind: the instance's beside the group's, or whole. */
static uint32_t to_learn(const struct judge *j, const struct subject *u, enum qm_set_kind *kind)
{
    const uint32_t baselined = u->row.profile.baselined;
    *kind = j->sets.group_count != 0 && j->sets.whole_count == 0 ? QM_SET_INSTANCE : QM_SET_WHOLE;
    return *kind == QM_SET_INSTANCE ? baselined & ~u->policy->class_group : baselined;
}

static qm_err may_learn(struct judge *j, struct subject *u, const struct qm_result *r, bool *may, struct qm_fault *fault)
{
    *may = false;
    if (r->status != QM_NEW || r->reason != QM_NO_BASELINE || !r->proven || u->learned)
        return QM_OK;
    qm_err err = judge_subject_row(j, u, fault);
    if (err != QM_OK || u->gone)
        return err;
    const uint64_t within_ms = u->policy->learn_within_ms; /* 0: at any time */
    *may = u->policy->learn == QM_LEARN_FIRST && (within_ms == 0 || r->checked_ms <= u->row.enrolled_ms + within_ms);
    return QM_OK;
}

/* Takes the record's values as the instance's baseline, where policy and history allow. */
static qm_err learn(struct judge *j, struct subject *u, struct qm_result *r, struct qm_fault *fault)
{
    const uint8_t *value[QM_PCR_COUNT] = {NULL};
    uint32_t have, before, compared_to;
    uint64_t no;
    bool may, added;
    qm_err err = may_learn(j, u, r, &may, fault);
    if (err != QM_OK || !may)
        return err;
    err = qm_live_sets_load(j->store, &u->row, &j->sets, fault);
    if (err == QM_OK)
        err = qm_store_own_mask(j->store, u->slot, &before, fault);
    if (err == QM_OK)
        err = values_of(j, u, r, value, &have, fault);
    if (err != QM_OK)
        return err;
    struct qm_set_new set = {.slot = u->slot, .origin = "learned", .run = j->out->run_no};
    set.mask = to_learn(j, u, &set.kind);
    if (set.mask == 0 || (set.mask & ~have) != 0)
        return QM_OK;
    /* What is learned is what no set had to say about; and once: where a person ended what was learned or given then, the machine
     * does not get to say what is right in its place. */
    struct qm_comparison compared = qm_compare(value, u->row.profile.baselined, j->sets.set, j->sets.count);
    compared_to = compared.set != NULL ? compared.set->mask : 0;
    if ((set.mask & ~compared_to) == 0 || (set.mask & ~compared_to & before) != 0)
        return QM_OK;
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++) {
        if ((set.mask >> pcr & 1) == 0)
            continue;
        set.value[pcr] = value[pcr];
        if (at_reset(pcr, value[pcr]))
            return QM_OK; /* stays new, and says so in time */
    }
    struct qm_fault full = {0};
    err = qm_set_add(j->store, &set, &no, &added, &full);
    if (err == QM_E_LIMIT)
        return QM_OK; /* a person has to end a set first; it stays new, and says so in time */
    if (err != QM_OK) {
        if (fault != NULL)
            *fault = full;
        return err;
    }
    u->learned = u->decided = true;
    u->row_read = false; /* its generation moved */
    err = judge_subject_row(j, u, fault);
    if (err == QM_OK)
        err = qm_live_sets_load(j->store, &u->row, &j->sets, fault);
    if (err != QM_OK)
        return err;
    compared = qm_compare(value, u->row.profile.baselined, j->sets.set, j->sets.count);
    r->reason = QM_LEARNED;
    r->baseline = u->row.generation;
    r->set_a = compared.set != NULL ? compared.set->set_no : 0;
    r->set_b = compared.set != NULL ? compared.set->pair_no : 0;
    r->pair_mask = compared.set != NULL ? compared.set->pair_mask : 0;
    j->out->learned++;
    j->out->changed = true;
    return QM_OK;
}

/* ---- the entry --------------------------------------------------------------------------------------------------------- */

static void write_status(struct subject *u, const struct qm_result *r)
{
    struct qm_ledger *l = &u->ledger;
    l->flags |= QM_LEDGER_STATUS;
    l->flags = (uint8_t)(r->proven ? l->flags | QM_LEDGER_PROVEN : l->flags & ~QM_LEDGER_PROVEN);
    l->status = r->status;
    l->reason = r->reason;
    l->log = r->log;
    l->first_fail = r->first_fail >= 0 ? (uint8_t)r->first_fail : 0xff;
    l->set_a = r->set_a;
    l->set_b = r->set_b;
    l->change[0] = l->change[1] = 0; /* until the alert is raised */
    if (r->status == QM_TRUSTED)
        l->good_ms = r->checked_ms;
}

static void freshness(struct subject *u, struct qm_result *r, const struct qm_ordering *o)
{
    r->has_state = true;
    r->boots = o->boots;
    if (r->fresh == QM_FRESH_UNKNOWN) /* of a stream: check 6 was passed by the nonce, where there is one */
        r->fresh = u->ledger.nonce != 0 ? QM_FRESH_NONCE : QM_FRESH_CLOCK;
    if (r->fresh == QM_FRESH_BEACON && r->beacon < u->ledger.beacon)
        r->fresh = QM_FRESH_CLOCK; /* a beacon never goes back */
    if (r->fresh == QM_FRESH_BEACON)
        u->ledger.beacon = r->beacon;
    if (r->fresh == QM_FRESH_NONCE && o->order == QM_ORDER_NEWER) {
        if ((u->ledger.nonce & QM_LEDGER_NONCE_USED) != 0)
            r->fresh = QM_FRESH_CLOCK; /* a nonce says something once */
        u->ledger.nonce |= QM_LEDGER_NONCE_USED;
    }
    if (o->order == QM_ORDER_NEWER)
        u->ledger.fresh = r->fresh;
}

/* "last" and "now" of a sequence alert, as the alert's detail. */
static void sequences(char *text, size_t cap, const char *first, const struct qm_sequence *a, const struct qm_result *r)
{
    snprintf(text, cap,
             "{\"%s\":{\"reset\":%u,\"restart\":%u,\"clock\":%llu},\"%s\":{\"reset\":%u,\"restart\":%u,\"clock\":%llu}}", first, a->reset,
             a->restart, (unsigned long long)a->clock_ms, strcmp(first, "seen") == 0 ? "refused" : "now", r->reset, r->restart,
             (unsigned long long)r->clock_ms);
}

static qm_err replayed(struct judge *j, struct subject *u, struct qm_result *r, const struct qm_sighting *s, const struct qm_ordering *o,
                       struct qm_fault *fault)
{
    char detail[256];
    sequences(detail, sizeof detail, "seen", &u->ledger.last, r);
    refuse(r, QM_INVALID, QM_REPLAYED);
    qm_ledger_refuse(&u->ledger, QM_REPLAYED, r->checked_ms);
    qm_ledger_take(&u->ledger, s, o);
    u->touched = true;
    qm_err err = judge_raise(j, u, QM_ALERT_REPLAYED, r, detail, true, fault);
    if (err == QM_OK && o->cloned)
        err = judge_raise(j, u, QM_ALERT_CLONED_OR_ROLLED_BACK, r, detail, true, fault);
    return err;
}

/* What the ordering of a newer record says beside its verdict. */
static qm_err sequence_alerts(struct judge *j, struct subject *u, const struct qm_result *r, const struct qm_ordering *o,
                              const struct qm_sequence *before, struct qm_fault *fault)
{
    char detail[256];
    if (!o->tpm_state && !o->held_back)
        return QM_OK;
    sequences(detail, sizeof detail, "before", before, r);
    qm_err err = o->tpm_state ? judge_raise(j, u, QM_ALERT_TPM_STATE, r, detail, true, fault) : QM_OK;
    if (err == QM_OK && o->held_back)
        err = judge_raise(j, u, QM_ALERT_HELD_BACK, r, detail, true, fault);
    return err;
}

/* What the verdict raises. repeat: a row that stands already is moved. */
static qm_err verdict_alerts(struct judge *j, struct subject *u, const struct qm_result *r, bool repeat, bool is_status,
                             struct qm_fault *fault)
{
    qm_err err = QM_OK;
    uint64_t change[2] = {0, 0};
    if (r->status == QM_UNTRUSTED && r->reason == QM_PCR_MISMATCH) {
        err = judge_raise_mismatch(j, u, r, repeat, change, fault);
        if (is_status) {
            u->ledger.change[0] = (uint32_t)change[0];
            u->ledger.change[1] = (uint32_t)change[1];
        }
    }
    if (r->status == QM_UNTRUSTED && r->reason == QM_PCR_VALUES_MISSING)
        err = judge_raise(j, u, QM_ALERT_PCR_VALUES_MISSING, r, NULL, repeat, fault);
    else if (r->status == QM_UNTRUSTED && r->reason == QM_LOG_REQUIRED)
        err = judge_raise(j, u, QM_ALERT_LOG_REQUIRED, r, NULL, repeat, fault);
    if (err == QM_OK && r->log == QM_LOG_INCONSISTENT)
        err = judge_raise(j, u, QM_ALERT_LOG_INCONSISTENT, r, NULL, repeat, fault);
    return err;
}

static qm_err end_old_sets(struct judge *j, struct subject *u, struct qm_fault *fault)
{
    uint64_t ended;
    qm_err err = qm_sets_keep_old(j->store, u->slot, &u->ledger, u->policy->keep_old_ms, &ended, fault);
    if (err == QM_OK && ended != 0) {
        j->out->changed = u->decided = true;
        u->row_read = false; /* its generation moved */
    }
    return err;
}

/* Appraised from check 9 on: a newer record, or one that proves more than its copy did. */
static qm_err appraise(struct judge *j, struct subject *u, struct case_of *c, const struct qm_sighting *s, const struct qm_ordering *o,
                       struct qm_fault *fault)
{
    const struct qm_sequence before = u->ledger.last;
    qm_err err = u->decided ? judge_subject_row(j, u, fault) : QM_OK;
    if (err == QM_OK && u->decided)
        err = judge_again(j, u, c, fault);
    if (err == QM_OK)
        err = learn(j, u, c->r, fault);
    if (err != QM_OK)
        return err;
    struct qm_result *r = c->r;
    freshness(u, r, o);
    qm_ledger_take(&u->ledger, s, o);
    if (o->order == QM_ORDER_NEWER && r->checked_ms > j->newest_ms)
        j->newest_ms = r->checked_ms;
    if (o->order == QM_ORDER_NEWER)
        u->ledger.flags &= (uint8_t) ~(QM_LEDGER_RAISED_SILENT | QM_LEDGER_SILENT_MANY);
    u->touched = true;
    const bool is_status = o->order == QM_ORDER_NEWER || o->newest;
    if (is_status)
        write_status(u, r);
    if (is_status && r->status == QM_TRUSTED && u->policy->keep_old_ms != 0)
        err = end_old_sets(j, u, fault);
    u->raised = 0;
    if (err == QM_OK)
        err = sequence_alerts(j, u, r, o, &before, fault);
    if (err == QM_OK)
        err = verdict_alerts(j, u, r, o->order == QM_ORDER_NEWER, is_status, fault);
    return err == QM_OK && is_status ? judge_close_alerts(j, u, r, fault) : err;
}

qm_err judge_record(struct judge *j, struct subject *u, struct case_of *c, struct qm_fault *fault)
{
    struct qm_result *r = c->r;
    const bool refused = r->status == QM_INVALID; /* by a check after the signature: a stream of a home's results may say so */
    if (r->status == QM_DUPLICATE)
        return QM_OK; /* likewise; there it changed nothing */
    if (u->gone || u->rekeyed || refused) {
        refuse(r, QM_INVALID, u->gone ? QM_UNKNOWN_INSTANCE : u->rekeyed ? QM_BAD_SIGNATURE : (enum qm_reason)r->reason);
        if (!u->gone) {
            qm_ledger_refuse(&u->ledger, r->reason, r->checked_ms);
            u->touched = true;
        }
        return judge_refused(j, r, fault);
    }
    const struct qm_sighting s = {.at = {r->clock_ms, r->reset, r->restart},
                                  .attest = qm_attest_key(r->attest),
                                  .checked_ms = r->checked_ms,
                                  .proof = (uint8_t)((r->proven ? QM_PROOF_VALUES : 0) | (r->log == QM_LOG_REPLAYED ? QM_PROOF_LOG : 0)),
                                  .safe = r->safe != 0};
    const struct qm_ordering o = qm_ledger_order(&u->ledger, &s, u->policy->lag_after_ms);
    const bool beacon_back = r->beacon != 0 && r->beacon < u->ledger.beacon;
    if (beacon_back && u->policy->freshness == QM_FRESHNESS_BEACON && o.order != QM_ORDER_DUPLICATE) {
        refuse(r, QM_INVALID, QM_STALE_NONCE);
        qm_ledger_refuse(&u->ledger, QM_STALE_NONCE, r->checked_ms);
        u->touched = true;
        return judge_refused(j, r, fault);
    }
    switch (o.order) {
    case QM_ORDER_DUPLICATE:
        refuse(r, QM_DUPLICATE, QM_DUPLICATE_RECORD);
        return QM_OK; /* re-delivery is normal: it changes nothing */
    case QM_ORDER_REPLAYED:
        return replayed(j, u, r, &s, &o, fault);
    case QM_ORDER_NEWER:
    case QM_ORDER_IMPROVES:
        break;
    }
    return appraise(j, u, c, &s, &o, fault);
}

qm_err judge_unknown(struct judge *j, struct qm_result *r, struct qm_fault *fault)
{
    refuse(r, QM_INVALID, QM_UNKNOWN_INSTANCE);
    return judge_refused(j, r, fault);
}
