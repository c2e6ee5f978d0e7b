#include "tools/store/store_retire.h"

#include <stdio.h>
#include <stdlib.h>

#include "codec/text.h"
#include "tools/store/store_alerts.h"
#include "tools/store/store_inside.h"

/* ---- which ones ------------------------------------------------------------------------------------------------------- */

static qm_err slots_put(struct qm_slots *l, uint64_t slot, struct qm_fault *fault)
{
    if (l->count == l->room) {
        const size_t room = l->room != 0 ? 2 * l->room : 256;
        uint64_t *more = reallocarray(l->slot, room, sizeof *more);
        if (more == NULL)
            return qm_fail(fault, QM_E_NOMEM, 0, "no memory for %zu instances", room);
        l->slot = more;
        l->room = room;
    }
    l->slot[l->count++] = slot;
    return QM_OK;
}

void qm_slots_close(struct qm_slots *l)
{
    free(l->slot);
    *l = (struct qm_slots){0};
}

qm_err qm_slots_add_id(struct qm_store *s, struct qm_slots *l, const char *id, size_t len, struct qm_fault *fault)
{
    uint64_t slot;
    bool found;
    sqlite3_stmt *st = store_sql(s, "SELECT slot FROM instance WHERE id = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_text(st, 1, id, (int)len, SQLITE_STATIC);
    qm_err err = store_number(s, st, &slot, &found, fault);
    if (err != QM_OK)
        return err;
    if (!found)
        return qm_fail(fault, QM_E_REFUSED, 0, "no instance '%.*s' is enrolled", (int)(len < 256 ? len : 256), id);
    return slots_put(l, slot, fault);
}

qm_err qm_slots_add_tag(struct qm_store *s, struct qm_slots *l, const char *key, const char *value, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s,
                                 "SELECT slot FROM instance i WHERE ?1 IS NULL OR EXISTS (SELECT 1 FROM json_each(i.tags) t"
                                 " WHERE t.key = ?1 AND t.value = ?2) ORDER BY slot",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 2, value, -1, SQLITE_STATIC);
    qm_err err = QM_OK;
    int rc = SQLITE_DONE;
    while (err == QM_OK && (rc = sqlite3_step(st)) == SQLITE_ROW)
        err = slots_put(l, (uint64_t)sqlite3_column_int64(st, 0), fault);
    if (err == QM_OK && rc != SQLITE_DONE)
        err = store_fail(s, fault, "reading the instances");
    sqlite3_reset(st);
    return err;
}

static int by_number(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static qm_err has_tag(struct qm_store *s, uint64_t slot, const char *key, const char *value, bool *has, struct qm_fault *fault)
{
    uint64_t one;
    sqlite3_stmt *st =
        store_sql(s, "SELECT 1 FROM instance i, json_each(i.tags) t WHERE i.slot = ?1 AND t.key = ?2 AND t.value = ?3", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)slot);
    sqlite3_bind_text(st, 2, key, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 3, value, -1, SQLITE_STATIC);
    return store_number(s, st, &one, has, fault);
}

static qm_err is_older(struct qm_store *s, uint64_t slot, uint64_t older_ms, bool *older, struct qm_fault *fault)
{
    struct qm_ledger entry;
    qm_err err = qm_store_ledger_get(s, slot, &entry, fault);
    const uint64_t enrolled_ms = (uint64_t)entry.enrolled_s * 1000;
    const uint64_t since = entry.authentic_ms > enrolled_ms ? entry.authentic_ms : enrolled_ms;
    *older = err == QM_OK && s->now_ms > since && s->now_ms - since >= older_ms;
    return err;
}

qm_err qm_slots_narrow(struct qm_store *s, struct qm_slots *l, const char *key, const char *value, uint64_t older_ms,
                       struct qm_fault *fault)
{
    size_t kept = 0;
    if (l->count != 0)
        qsort(l->slot, l->count, sizeof *l->slot, by_number);
    for (size_t i = 0; i < l->count; i++) {
        bool keep = i == 0 || l->slot[i] != l->slot[i - 1];
        qm_err err = keep && key != NULL ? has_tag(s, l->slot[i], key, value, &keep, fault) : QM_OK;
        if (err == QM_OK && keep && older_ms != 0)
            err = is_older(s, l->slot[i], older_ms, &keep, fault);
        if (err != QM_OK)
            return err;
        if (keep)
            l->slot[kept++] = l->slot[i];
    }
    l->count = kept;
    return QM_OK;
}

/* ---- parking ---------------------------------------------------------------------------------------------------------- */

static qm_err hold_one(struct qm_store *s, uint64_t slot, uint64_t until_ms, const char *why, struct qm_fault *fault)
{
    const bool ends = until_ms <= s->now_ms;
    sqlite3_stmt *st =
        ends ? store_sql(s,
                         "UPDATE instance SET hold_until_ms = ?2, hold_who = ?3, hold_why = coalesce(?4, hold_why)"
                         " WHERE slot = ?1 AND hold_until_ms IS NOT NULL",
                         fault)
             : store_sql(s,
                         "UPDATE instance SET hold_until_ms = ?2, hold_who = ?3, hold_why = ?4, hold_since_ms = ?5"
                         " WHERE slot = ?1",
                         fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)slot);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)until_ms);
    sqlite3_bind_text(st, 3, s->who, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 4, why, -1, SQLITE_STATIC);
    if (!ends)
        sqlite3_bind_int64(st, 5, (sqlite3_int64)s->now_ms);
    return store_run(s, st, fault);
}

/* One line of the journal for all of them. */
static qm_err note(struct qm_store *s, const char *what, uint64_t machines, uint64_t slot, const char *why,
                   struct qm_fault *fault)
{
    struct qm_instance_row row;
    char subject[QM_ID_MAX + 32];
    bool found = false;
    if (machines == 0)
        return QM_OK;
    snprintf(subject, sizeof subject, "%llu machines", (unsigned long long)machines);
    qm_err err = machines == 1 ? qm_store_instance(s, slot, &row, &found, fault) : QM_OK;
    if (err == QM_OK && found)
        snprintf(subject, sizeof subject, "%s", row.id);
    return err == QM_OK ? store_journal(s, what, subject, why, fault) : err;
}

/* That it is silent needs nobody's attention any more; after the hold it may again. */
static qm_err end_silence(struct qm_store *s, uint64_t slot, struct qm_ledger *entry, struct qm_fault *fault)
{
    uint64_t left, closed;
    if ((entry->flags & (QM_LEDGER_RAISED_SILENT | QM_LEDGER_SILENT_MANY)) == 0)
        return QM_OK;
    entry->flags &= (uint8_t) ~(QM_LEDGER_RAISED_SILENT | QM_LEDGER_SILENT_MANY);
    return qm_alert_resolve(s, slot, 1u << QM_ALERT_UNMEASURED, s->now_ms, entry->last.reset, &left, &closed, fault);
}

qm_err qm_store_hold(struct qm_store *s, const struct qm_slots *l, uint64_t until_ms, const char *why, uint64_t *changed,
                     struct qm_fault *fault)
{
    qm_err err = QM_OK;
    uint64_t one = 0;
    *changed = 0;
    if (until_ms > s->now_ms && until_ms / 1000 > UINT32_MAX)
        return qm_fail(fault, QM_E_REFUSED, 0, "a hold cannot be so long");
    for (size_t i = 0; err == QM_OK && i < l->count; i++) {
        struct qm_ledger entry;
        err = qm_store_ledger_get(s, l->slot[i], &entry, fault);
        if (err != QM_OK || (until_ms <= s->now_ms && (uint64_t)entry.hold_until_s * 1000 <= s->now_ms))
            continue; /* no hold to end */
        entry.hold_until_s = (uint32_t)(until_ms / 1000);
        err = hold_one(s, l->slot[i], until_ms, why, fault);
        if (err == QM_OK && until_ms > s->now_ms)
            err = end_silence(s, l->slot[i], &entry, fault);
        if (err == QM_OK)
            err = qm_store_ledger_put(s, l->slot[i], &entry, fault);
        one = l->slot[i];
        ++*changed;
    }
    return err == QM_OK ? note(s, until_ms > s->now_ms ? "hold" : "end of hold", *changed, one, why, fault) : err;
}

/* ---- taking out ------------------------------------------------------------------------------------------------------- */

static qm_err retire_one(struct qm_store *s, uint64_t slot, const char *why, struct qm_fault *fault)
{
    static const char keep[] = "INSERT INTO retired(slot, id, grp, ak, enrolled_ms, retired_ms, who, why)"
                               " SELECT slot, id, grp, ak, enrolled_ms, ?2, ?3, ?4 FROM instance WHERE slot = ?1";
    static const char sets[] =
        "UPDATE baseline SET ended_ms = ?2, ended_who = ?3, ended_why = 'retired' WHERE slot = ?1 AND ended_ms IS NULL";
    static const char key[] = "UPDATE ak_history SET until_ms = ?2 WHERE slot = ?1 AND until_ms IS NULL";
    /* what was begun before: a machine that is taken out does not come back by it */
    static const char begun[] =
        "DELETE FROM challenge WHERE id = (SELECT id FROM instance WHERE slot = ?1) AND state <> 2";
    static const char gone[] = "DELETE FROM instance WHERE slot = ?1";
    const char *const steps[] = {keep, sets, key, begun, gone};
    static const struct qm_ledger nothing;
    for (size_t i = 0; i < QM_COUNT(steps); i++) {
        sqlite3_stmt *st = store_sql(s, steps[i], fault);
        if (st == NULL)
            return QM_E_STORE;
        sqlite3_bind_int64(st, 1, (sqlite3_int64)slot);
        if (sqlite3_bind_parameter_count(st) >= 2)
            sqlite3_bind_int64(st, 2, (sqlite3_int64)s->now_ms);
        if (sqlite3_bind_parameter_count(st) >= 3)
            sqlite3_bind_text(st, 3, s->who, -1, SQLITE_STATIC);
        if (sqlite3_bind_parameter_count(st) >= 4)
            sqlite3_bind_text(st, 4, why, -1, SQLITE_STATIC);
        qm_err err = store_run(s, st, fault);
        if (err != QM_OK)
            return err;
    }
    s->changed = true;
    qm_err err = qm_alert_retire(s, slot, s->now_ms, fault);
    return err == QM_OK ? qm_store_ledger_put(s, slot, &nothing, fault) : err;
}

qm_err qm_store_retire(struct qm_store *s, const struct qm_slots *l, const char *why, struct qm_fault *fault)
{
    qm_err err = note(s, "retire", l->count, l->count != 0 ? l->slot[0] : 0, why, fault);
    for (size_t i = 0; err == QM_OK && i < l->count; i++)
        err = retire_one(s, l->slot[i], why, fault);
    return err;
}

struct silent {
    struct qm_store *store;
    const struct qm_fleet *fleet;
    struct qm_slots slots;
};

static qm_err silent_block(void *ctx, uint64_t first, const struct qm_ledger entry[QM_LEDGER_BLOCK], struct qm_fault *fault)
{
    struct silent *c = ctx;
    qm_err err = QM_OK;
    for (unsigned i = 0; err == QM_OK && i < QM_LEDGER_BLOCK; i++) {
        const struct qm_ledger *l = &entry[i];
        const struct qm_policy *policy;
        if (l->enrolled_s == 0)
            continue;
        const char *group = l->group < c->fleet->scope_count ? c->fleet->scope[l->group].name : "";
        err = qm_store_policy(c->store, group, strlen(group), &policy, fault);
        if (err != QM_OK || policy->retire_after_ms == 0)
            continue;
        const struct qm_standing_times t = qm_fleet_times(c->fleet, l->group);
        const struct qm_standing standing = qm_standing_of(l, &t);
        if (!standing.held && standing.status != QM_STANDS_UNTRUSTED && t.now_ms > standing.since_ms &&
            t.now_ms - standing.since_ms > policy->retire_after_ms)
            err = slots_put(&c->slots, first + i, fault);
    }
    return err;
}

qm_err qm_store_retire_silent(struct qm_store *s, const struct qm_fleet *fleet, uint64_t *count, struct qm_fault *fault)
{
    struct silent c = {.store = s, .fleet = fleet};
    uint64_t one;
    bool asked;
    *count = 0;
    sqlite3_stmt *st = store_sql(s, "SELECT 1 FROM config WHERE key = 'retire_after' LIMIT 1", fault);
    if (st == NULL)
        return QM_E_STORE;
    qm_err err = store_number(s, st, &one, &asked, fault);
    if (err != QM_OK || !asked)
        return err;
    err = qm_store_ledger_each(s, silent_block, &c, fault);
    if (err == QM_OK)
        err = qm_store_retire(s, &c.slots, "retire_after", fault);
    *count = c.slots.count;
    qm_slots_close(&c.slots);
    return err;
}
