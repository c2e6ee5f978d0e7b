/* Accepting what an alert shows: as a set of the machine's, as one of its group's, or as the place
 * where its TPM goes on. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/compare.h"
#include "tools/store/store_decisions_inside.h"

/* Values for a set: value[pcr] for every PCR of mask. */
struct values {
    uint32_t mask;
    const uint8_t *value[QM_PCR_COUNT];
};

/* Sets of groups that this decision made, by content. */
enum { GROUP_SETS_MAX = 64 };
struct group_set {
    uint32_t group_no, mask;
    uint8_t value[QM_PCR_COUNT][32];
    uint64_t no;
};

/* The machine whose alerts are looked at, and what is known of it. */
struct machine {
    struct qm_instance_row row;
    struct qm_ledger entry;
    uint32_t class_group;
    struct values measured; /* mask 0: nothing is proven */
    uint8_t room[QM_PCR_COUNT * 32];
    bool found;
};

struct accepting {
    struct store_decision *d;
    struct machine machine;
    struct store_alert_row row[QM_ALERTS_ALONE_MAX]; /* the machine's mismatches, in hand */
    unsigned rows;
    bool shows_all; /* the newest record differs in nothing else */
    struct group_set set[GROUP_SETS_MAX];
    unsigned sets;
    bool only_known; /* a set that this decision has not made is not made: these alerts were not
                        picked */
};

static uint32_t bit(unsigned pcr)
{
    return 1u << pcr;
}

/* ---- one machine -------------------------------------------------------------------------------------------------- */

static qm_err machine_read(struct accepting *c, uint64_t slot, struct qm_fault *fault)
{
    struct qm_store *s = c->d->store;
    struct machine *m = &c->machine;
    const struct qm_policy *policy;
    bool known = false;
    m->measured.mask = m->class_group = 0;
    qm_err err = qm_store_instance(s, slot, &m->row, &m->found, fault);
    if (err != QM_OK || !m->found)
        return err;
    err = qm_store_ledger_get(s, slot, &m->entry, fault);
    if (err == QM_OK)
        err = qm_store_measured(s, &m->entry, m->room, m->measured.value, &m->measured.mask, &known, fault);
    if (!known)
        m->measured.mask = 0;
    if (err == QM_OK && m->row.group_no != 0) {
        err = qm_store_policy(s, m->row.group, strlen(m->row.group), &policy, fault);
        if (err == QM_OK)
            m->class_group = policy->class_group;
    }
    return err;
}

static uint32_t items_mask(const struct store_alert_row *a)
{
    uint32_t mask = 0;
    for (unsigned i = 0; i < a->item_count; i++)
        mask |= bit(a->item[i].pcr);
    return mask;
}

/* Is the alert about what the machine measures now? */
static bool is_now(const struct machine *m, const struct store_alert_row *a)
{
    for (unsigned i = 0; i < a->item_count; i++) {
        const unsigned pcr = a->item[i].pcr;
        if ((m->measured.mask & bit(pcr)) == 0 || memcmp(m->measured.value[pcr], a->item[i].measured, 32) != 0)
            return false;
    }
    return a->item_count != 0;
}

static void from_set(struct values *v, const struct qm_set *set)
{
    v->mask = set->mask & (bit(QM_PCR_COUNT) - 1);
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        v->value[pcr] = qm_set_value(set, pcr);
}

static void overlay(struct values *v, const struct store_alert_row *a)
{
    for (unsigned i = 0; i < a->item_count; i++) {
        v->mask |= bit(a->item[i].pcr);
        v->value[a->item[i].pcr] = a->item[i].measured;
    }
}

/* The newest live set that has what the alert expected. */
static const struct qm_set *expected_by(const struct store_decision *d, const struct store_alert_row *a)
{
    for (unsigned k = 0; k < d->live.count; k++) {
        bool all = true;
        for (unsigned i = 0; all && i < a->item_count; i++) {
            const uint8_t *value = qm_set_value(d->live.set[k], a->item[i].pcr);
            all = value != NULL && memcmp(value, a->item[i].expected, 32) == 0;
        }
        if (all)
            return d->live.set[k];
    }
    return NULL;
}

/* An older record's alert: the set that it differed from, overlaid with what it shows. False: there
 * is no such set any more. */
static bool values_then(const struct store_decision *d, const struct store_alert_row *a, struct values *v)
{
    const struct qm_set *set = expected_by(d, a);
    if (set == NULL)
        return false;
    from_set(v, set);
    overlay(v, a);
    return true;
}

/* Alerts about what is measured now (there is one at least): all of it where they show all that differs, else the nearest set
 * overlaid with what they show. */
static void values_now(const struct accepting *c, const bool *now, struct values *v)
{
    const struct machine *m = &c->machine;
    const struct store_decision *d = c->d;
    struct qm_comparison compared = {0};
    uint32_t shown = 0;
    *v = m->measured;
    if (c->shows_all)
        return;
    for (unsigned i = 0; i < c->rows; i++)
        shown |= now[i] ? items_mask(&c->row[i]) : 0;
    if ((m->row.profile.baselined & ~m->measured.mask) == 0)
        compared = qm_compare(m->measured.value, m->row.profile.baselined, d->live.set, d->live.count);
    if ((compared.differ & ~shown) == 0)
        return;
    from_set(v, compared.set);
    for (unsigned i = 0; i < c->rows; i++)
        if (now[i])
            overlay(v, &c->row[i]);
}

/* Are the alerts in hand all that the newest record differs in, by what its entry says? Then no set need be looked at: what
 * becomes accepted is what was measured, and that passes. The usual case, a hundred thousand times over. */
static bool shows_all(const struct accepting *c)
{
    const struct machine *m = &c->machine;
    bool all = m->entry.change[0] != 0 && (m->row.profile.baselined & ~m->measured.mask) == 0;
    for (unsigned k = 0; all && k < QM_COUNT(m->entry.change); k++) {
        bool in_hand = m->entry.change[k] == 0;
        for (unsigned i = 0; !in_hand && i < c->rows; i++)
            in_hand = c->row[i].change == m->entry.change[k];
        all = in_hand;
    }
    for (unsigned i = 0; all && i < c->rows; i++)
        all = is_now(m, &c->row[i]);
    return all;
}

/* ---- accepting ---------------------------------------------------------------------------------------------------- */

static qm_err accepted(struct store_decision *d, uint64_t no, uint64_t set_no, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(d->store,
                                 "UPDATE alert SET state = 2, seen = 1, closed_ms = ?2, until_ms = "
                                 "NULL, set_no = nullif(?3, 0)"
                                 " WHERE no = ?1",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)no);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)d->store->now_ms);
    sqlite3_bind_int64(st, 3, (sqlite3_int64)set_no);
    qm_err err = store_run(d->store, st, fault);
    return err == QM_OK ? store_decision_link(d, no, fault) : err;
}

/* *no 0: it was refused, and fault says why. */
static qm_err add_set(struct store_decision *d, const struct qm_set_new *new, uint64_t *no, struct qm_fault *fault)
{
    bool added = false;
    *no = 0;
    qm_err err = qm_set_add(d->store, new, no, &added, fault);
    d->out->sets += err == QM_OK && added;
    if (err == QM_E_LIMIT || err == QM_E_REFUSED) {
        *no = 0;
        return QM_OK;
    }
    return err;
}

static struct qm_set_new new_set(const struct store_decision *d, const struct values *v, uint32_t mask, uint64_t alert)
{
    struct qm_set_new new = {.mask = v->mask & mask, .origin = "accepted", .why = d->decision->reason, .alert = alert};
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        if ((new.mask & bit(pcr)) != 0)
            new.value[pcr] = v->value[pcr];
    return new;
}

static void say_missing(char why[120], uint32_t missing, const char *what_then)
{
    snprintf(why, 120, "there is no value for PCR %d yet; %s", __builtin_ctz(missing), what_then);
}

/* One set of the machine's own for the alerts marked. */
static qm_err accept_whole(struct accepting *c, const struct values *v, const bool *meant, uint64_t *made,
                           struct qm_fault *fault)
{
    struct store_decision *d = c->d;
    const struct machine *m = &c->machine;
    const uint32_t missing = m->row.profile.baselined & ~v->mask;
    char why[120] = "";
    uint64_t set_no = 0;
    unsigned first = 0;
    qm_err err = QM_OK;
    while (!meant[first])
        first++;
    if (missing != 0) {
        say_missing(why, missing, m->row.group_no != 0 ? "accept it for the group" : "give the instance a baseline");
    } else {
        struct qm_set_new new = new_set(d, v, m->row.profile.baselined, c->row[first].no);
        struct qm_fault refused = {0};
        new.kind = QM_SET_WHOLE;
        new.slot = m->row.slot;
        err = add_set(d, &new, &set_no, &refused);
        if (err != QM_OK && fault != NULL)
            *fault = refused;
        snprintf(why, sizeof why, "%.119s", refused.text);
    }
    for (unsigned i = 0; err == QM_OK && i < c->rows; i++) {
        if (!meant[i])
            continue;
        if (set_no == 0)
            store_decision_refuse(d, c->row[i].no, why);
        else
            err = accepted(d, c->row[i].no, set_no, fault);
    }
    if (set_no != 0)
        *made = set_no;
    return err;
}

/* What was measured became an accepted set: it passes on that. */
static qm_err judge_accepted(struct accepting *c, uint64_t set_no, struct qm_rejudged *r, struct qm_fault *fault)
{
    struct qm_store *s = c->d->store;
    struct qm_ledger *entry = &c->machine.entry;
    uint64_t values_no;
    bool found;
    sqlite3_stmt *st = store_sql(s, "SELECT vals FROM baseline WHERE no = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)set_no);
    qm_err err = store_number(s, st, &values_no, &found, fault);
    if (err != QM_OK)
        return err;
    *r = (struct qm_rejudged){.before = entry->status, .before_reason = entry->reason};
    store_entry_passes(entry, (uint32_t)values_no, 0);
    store_entry_conclude(entry, c->machine.row.require_log, QM_TRUSTED, QM_ALL_GOOD);
    r->status = entry->status;
    r->reason = entry->reason;
    r->changed = r->status != r->before || r->reason != r->before_reason;
    return qm_store_ledger_put(s, c->machine.row.slot, entry, fault);
}

static qm_err judge_again(struct accepting *c, uint64_t set_no, struct qm_fault *fault)
{
    struct qm_rejudged r;
    qm_err err = c->shows_all ? judge_accepted(c, set_no, &r, fault)
                              : qm_store_rejudge(c->d->store, c->machine.row.slot, &c->d->live, &r, fault);
    return err == QM_OK ? store_decision_passes(c->d, c->machine.row.slot, &r, fault) : err;
}

static const char was_replaced[] = "the set that it differs from is no longer accepted; accept what the machine measures now";
static const char was_retired[] = "its machine was taken out";

/* The mismatches in hand, all of one machine, for the machine. */
static qm_err accept_machine(struct accepting *c, struct qm_fault *fault)
{
    struct store_decision *d = c->d;
    struct values v;
    bool now[QM_ALERTS_ALONE_MAX] = {false}, any_now = false;
    uint64_t made = 0; /* number of the last set */
    if (c->rows == 0)
        return QM_OK;
    qm_err err = machine_read(c, c->row[0].slot, fault);
    if (err != QM_OK)
        return err;
    c->shows_all = c->machine.found && shows_all(c);
    if (c->machine.found && !c->shows_all)
        err = qm_live_sets_load(d->store, &c->machine.row, &d->live, fault);
    if (err != QM_OK)
        return err;
    for (unsigned i = 0; i < c->rows; i++) {
        now[i] = c->machine.found && is_now(&c->machine, &c->row[i]);
        any_now = any_now || now[i];
    }
    if (any_now) {
        values_now(c, now, &v);
        err = accept_whole(c, &v, now, &made, fault);
    }
    for (unsigned i = 0; err == QM_OK && i < c->rows; i++) {
        bool one[QM_ALERTS_ALONE_MAX] = {false};
        one[i] = true;
        if (now[i])
            continue;
        if (!c->machine.found || !values_then(d, &c->row[i], &v))
            store_decision_refuse(d, c->row[i].no, c->machine.found ? was_replaced : was_retired);
        else
            err = accept_whole(c, &v, one, &made, fault);
    }
    return err == QM_OK && made != 0 ? judge_again(c, made, fault) : err;
}

/* ---- for a group -------------------------------------------------------------------------------------------------- */

static struct group_set *made_already(struct accepting *c, uint32_t group_no, const struct values *v, uint32_t mask)
{
    for (unsigned i = 0; i < c->sets; i++) {
        struct group_set *g = &c->set[i];
        bool same = g->group_no == group_no && g->mask == mask;
        for (unsigned pcr = 0; same && pcr < QM_PCR_COUNT; pcr++)
            same = (mask & bit(pcr)) == 0 || memcmp(g->value[pcr], v->value[pcr], 32) == 0;
        if (same)
            return g;
    }
    return NULL;
}

/* *no 0: refused, and why says so; or not made, where only those that are known count. */
static qm_err group_set_take(struct accepting *c, const struct store_alert_row *a, const struct values *v, uint32_t mask,
                             uint64_t *no, char why[120], struct qm_fault *fault)
{
    const struct group_set *known = made_already(c, c->machine.row.group_no, v, mask);
    struct qm_fault refused = {0};
    *no = known != NULL ? known->no : 0;
    if (known != NULL || c->only_known)
        return QM_OK;
    if (c->sets == GROUP_SETS_MAX) {
        snprintf(why, 120, "too many sets of groups at once");
        return QM_OK;
    }
    struct qm_set_new new = new_set(c->d, v, mask, a->no);
    new.kind = QM_SET_GROUP;
    new.group_no = c->machine.row.group_no;
    qm_err err = add_set(c->d, &new, no, &refused);
    snprintf(why, 120, "%.119s", refused.text);
    if (err != QM_OK && fault != NULL)
        *fault = refused;
    if (err != QM_OK || *no == 0)
        return err;
    struct group_set *g = &c->set[c->sets++];
    *g = (struct group_set){.group_no = new.group_no, .mask = mask, .no = *no};
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        if ((mask & bit(pcr)) != 0)
            memcpy(g->value[pcr], v->value[pcr], 32);
    return QM_OK;
}

/* Values of the group's PCRs, as the alert shows them. False: why says why not. */
static bool group_values(struct accepting *c, const struct store_alert_row *a, struct values *v, uint32_t *mask, char why[120])
{
    const struct machine *m = &c->machine;
    *mask = m->class_group & m->row.profile.baselined;
    if (m->row.group_no == 0) {
        snprintf(why, 120, "its machine has no group");
        return false;
    }
    if ((items_mask(a) & ~m->class_group) != 0) {
        snprintf(why, 120, "it is about PCRs that are the machine's own; accept it without --group");
        return false;
    }
    if (is_now(m, a)) {
        *v = m->measured;
    } else if (!values_then(c->d, a, v)) {
        snprintf(why, 120, "%s", was_replaced);
        return false;
    }
    if ((*mask & ~v->mask) != 0) {
        say_missing(why, *mask & ~v->mask, "give the group a baseline");
        return false;
    }
    return true;
}

static qm_err accept_for_group(struct accepting *c, const struct store_alert_row *a, struct qm_fault *fault)
{
    struct store_decision *d = c->d;
    char why[120] = "";
    struct values v;
    uint32_t mask;
    uint64_t set_no = 0;
    qm_err err = machine_read(c, a->slot, fault);
    if (err == QM_OK && c->machine.found && !is_now(&c->machine, a))
        err = qm_live_sets_load(d->store, &c->machine.row, &d->live, fault);
    if (err != QM_OK)
        return err;
    if (!c->machine.found)
        snprintf(why, sizeof why, "%s", was_retired);
    else if (group_values(c, a, &v, &mask, why))
        err = group_set_take(c, a, &v, mask, &set_no, why, fault);
    if (err == QM_OK && set_no != 0)
        return accepted(d, a->no, set_no, fault);
    if (err == QM_OK && !c->only_known)
        store_decision_refuse(d, a->no, why);
    return err;
}

/* What others of the group have open about the same change. */
static qm_err pick_others(struct store_decision *d, struct qm_fault *fault)
{
    return store_exec(d->store,
                      "DELETE FROM asked;"
                      "INSERT OR IGNORE INTO asked SELECT a.change FROM picked p CROSS JOIN alert a ON a.no = "
                      "p.no WHERE a.state = 2;"
                      "DELETE FROM picked;"
                      "INSERT INTO picked SELECT a.slot, a.no FROM asked k CROSS JOIN alert a ON a.change = k.no"
                      " WHERE a.state IN (0, 1) AND a.slot IS NOT NULL",
                      fault);
}

static qm_err judge_groups(struct accepting *c, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    for (unsigned i = 0; err == QM_OK && i < c->sets; i++) {
        bool done = false;
        for (unsigned k = 0; k < i; k++)
            done = done || c->set[k].group_no == c->set[i].group_no;
        if (!done)
            err = store_decision_rejudge_group(c->d, c->set[i].group_no, fault);
    }
    return err;
}

/* ---- all that was picked ------------------------------------------------------------------------------------------ */

/* Was the machine given another key since the alert? Then it is about a TPM that is not asked any more. */
static qm_err is_of_another_key(struct store_decision *d, const struct store_alert_row *a, bool *is, struct qm_fault *fault)
{
    uint64_t one;
    sqlite3_stmt *st = store_sql(d->store,
                                 "SELECT 1 FROM alert a JOIN ak_history h ON h.slot = a.slot WHERE a.no = ?1 AND h.until_ms > a.last_ms",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)a->no);
    return store_number(d->store, st, &one, is, fault);
}

static qm_err accept_sequence(struct store_decision *d, const struct store_alert_row *a, struct qm_fault *fault)
{
    struct qm_ledger entry;
    bool other;
    if (!a->has_sequences) {
        store_decision_refuse(d, a->no, "it does not say where the TPM went on");
        return QM_OK;
    }
    qm_err err = is_of_another_key(d, a, &other, fault);
    if (err == QM_OK && other)
        store_decision_refuse(d, a->no, "its machine has another key since");
    if (err != QM_OK || other)
        return err;
    err = qm_store_ledger_get(d->store, a->slot, &entry, fault);
    if (err != QM_OK)
        return err;
    qm_ledger_restart(&entry, &a->refused);
    err = qm_store_ledger_put(d->store, a->slot, &entry, fault);
    return err == QM_OK ? accepted(d, a->no, 0, fault) : err;
}

static const char *cannot(const struct store_alert_row *a)
{
    if (a->many)
        return "it stands for many changes of one machine; there is no one set to accept";
    if (a->kind != QM_ALERT_PCR_MISMATCH)
        return "it shows no values that could be accepted; ignore it, or acknowledge it";
    if (a->item_count == 0)
        return "its PCR values were not proven; have the machine send them (pcrs in the record, or "
               "the event log), and accept what then shows";
    return NULL;
}

static qm_err accept_one(struct store_decision *d, const struct store_alert_row *a, struct qm_fault *fault)
{
    struct accepting *c = d->accepting;
    const char *why = a->kind == QM_ALERT_CLONED_OR_ROLLED_BACK && !a->many ? NULL : cannot(a);
    if (why != NULL && !c->only_known)
        store_decision_refuse(d, a->no, why);
    if (why != NULL)
        return QM_OK;
    if (a->kind == QM_ALERT_CLONED_OR_ROLLED_BACK)
        return accept_sequence(d, a, fault);
    if (d->decision->group)
        return accept_for_group(c, a, fault);
    qm_err err = QM_OK;
    if (c->rows == QM_ALERTS_ALONE_MAX || (c->rows != 0 && c->row[0].slot != a->slot)) {
        err = accept_machine(c, fault);
        c->rows = 0;
    }
    c->row[c->rows++] = *a;
    return err;
}

qm_err store_accept(struct store_decision *d, struct qm_fault *fault)
{
    struct accepting *c = calloc(1, sizeof *c);
    if (c == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory to accept alerts");
    c->d = d;
    d->accepting = c;
    qm_err err = store_decision_each(d, accept_one, fault);
    if (err == QM_OK)
        err = accept_machine(c, fault); /* the last one's */
    if (err == QM_OK && c->sets != 0) {
        c->only_known = true;
        err = pick_others(d, fault);
        if (err == QM_OK)
            err = store_decision_each(d, accept_one, fault);
        if (err == QM_OK)
            err = judge_groups(c, fault);
    }
    free(c);
    return err;
}
