#include "tools/store/store_baseline.h"

#include <stdio.h>
#include <stdlib.h>

#include "codec/text.h"
#include "tools/store/store_alerts.h"
#include "tools/store/store_inside.h"

const char *qm_set_kind_name(enum qm_set_kind k)
{
    static const char *const names[] = {[QM_SET_WHOLE] = "whole", [QM_SET_GROUP] = "group", [QM_SET_INSTANCE] = "instance"};
    return names[k];
}

/* ---- listing ---------------------------------------------------------------------------------------------------------- */

enum {
    B_NO,
    B_KIND,
    B_ID,
    B_RETIRED,
    B_GROUP,
    B_ORIGIN,
    B_WHO,
    B_WHY,
    B_ALERT,
    B_RUN,
    B_SINCE,
    B_UNTIL,
    B_PASSED,
    B_ENDED,
    B_ENDED_WHO,
    B_ENDED_WHY,
    B_VALUES,
    B_MASK,
    B_VALUE
};
#define BASELINE_SELECT                                                                                                        \
    "SELECT b.no, b.kind, coalesce(i.id, t.id), i.id IS NULL AND t.id IS NOT NULL, coalesce(g.name, i.grp, t.grp), b.origin, " \
    "b.who,"                                                                                                                   \
    " b.why, b.alert, r.id, b.since_ms, b.until_ms, b.passed_ms,"                                                              \
    " CASE WHEN b.ended_ms IS NULL AND b.until_ms <= ?1 THEN b.until_ms ELSE b.ended_ms END, b.ended_who, b.ended_why, "       \
    "b.vals,"                                                                                                                  \
    " v.mask, v.value FROM baseline b CROSS JOIN pcr_values v ON v.no = b.vals LEFT JOIN instance i ON i.slot = b.slot"        \
    " LEFT JOIN retired t ON t.slot = b.slot LEFT JOIN grp g ON g.no = b.grp LEFT JOIN run r ON r.no = b.run"
#define BASELINE_LIVE " (?2 OR b.ended_ms IS NULL AND (b.until_ms IS NULL OR b.until_ms > ?1))"

static const char *text_of(sqlite3_stmt *st, int column)
{
    return (const char *)sqlite3_column_text(st, column);
}

static struct qm_span span_of(sqlite3_stmt *st, int column)
{
    const uint8_t *p = sqlite3_column_text(st, column);
    return (struct qm_span){p, p != NULL ? (size_t)sqlite3_column_bytes(st, column) : 0};
}

static bool read_baseline(sqlite3_stmt *st, struct qm_baseline *b)
{
    *b = (struct qm_baseline){
        .no = (uint64_t)sqlite3_column_int64(st, B_NO),
        .kind = (enum qm_set_kind)sqlite3_column_int(st, B_KIND),
        .id = span_of(st, B_ID),
        .retired = sqlite3_column_int(st, B_RETIRED) != 0,
        .group = span_of(st, B_GROUP),
        .origin = text_of(st, B_ORIGIN),
        .who = text_of(st, B_WHO),
        .why = text_of(st, B_WHY),
        .alert = (uint64_t)sqlite3_column_int64(st, B_ALERT),
        .run = text_of(st, B_RUN),
        .since_ms = (uint64_t)sqlite3_column_int64(st, B_SINCE),
        .until_ms = (uint64_t)sqlite3_column_int64(st, B_UNTIL),
        .passed_ms = (uint64_t)sqlite3_column_int64(st, B_PASSED),
        .ended_ms = (uint64_t)sqlite3_column_int64(st, B_ENDED),
        .ended_who = text_of(st, B_ENDED_WHO),
        .ended_why = text_of(st, B_ENDED_WHY),
        .values_no = (uint32_t)sqlite3_column_int64(st, B_VALUES),
        .mask = (uint32_t)sqlite3_column_int64(st, B_MASK),
        .value = sqlite3_column_blob(st, B_VALUE),
    };
    return b->kind <= QM_SET_INSTANCE && b->mask != 0 && b->mask >> QM_PCR_COUNT == 0 &&
           sqlite3_column_bytes(st, B_VALUE) == 32 * __builtin_popcount(b->mask);
}

qm_err qm_baselines_each(struct qm_store *s, const struct qm_baseline_filter *f, qm_baseline_visit visit, void *ctx,
                         struct qm_fault *fault)
{
    /* each finds its rows by an index; what is asked of an id that was enrolled more than once is told of all its lives */
    static const char all[] = BASELINE_SELECT " WHERE" BASELINE_LIVE " ORDER BY b.no";
    static const char of_id[] = BASELINE_SELECT
        " WHERE b.no IN (SELECT no FROM baseline WHERE slot IN (SELECT slot FROM instance WHERE id = ?3 UNION ALL"
        " SELECT slot FROM retired WHERE id = ?3) UNION ALL SELECT no FROM baseline WHERE grp = (SELECT no FROM grp"
        " WHERE name = (SELECT grp FROM instance WHERE id = ?3))) AND" BASELINE_LIVE " ORDER BY b.no";
    static const char of_group[] =
        BASELINE_SELECT " WHERE b.grp = (SELECT no FROM grp WHERE name = ?3) AND" BASELINE_LIVE " ORDER BY b.no";
    static const char of_run[] =
        BASELINE_SELECT " WHERE b.run = (SELECT no FROM run WHERE id = ?3) AND" BASELINE_LIVE " ORDER BY b.no";
    const char *sql = f->id != NULL ? of_id : f->group != NULL ? of_group : f->run != NULL ? of_run : all;
    const char *what = f->id != NULL ? f->id : f->group != NULL ? f->group : f->run;
    sqlite3_stmt *st = NULL; /* of its own: a visit may change sets */
    qm_err err = QM_OK;
    int rc = SQLITE_DONE;
    if (sqlite3_prepare_v2(s->db, sql, -1, &st, NULL) != SQLITE_OK)
        return store_fail(s, fault, "reading the accepted sets");
    sqlite3_bind_int64(st, 1, (sqlite3_int64)s->now_ms);
    sqlite3_bind_int(st, 2, f->ended);
    if (what != NULL)
        sqlite3_bind_text(st, 3, what, -1, SQLITE_STATIC);
    while (err == QM_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct qm_baseline b;
        err = read_baseline(st, &b) ? visit(ctx, &b, fault)
                                    : qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is damaged: accepted set %llu", s->home,
                                              (unsigned long long)b.no);
    }
    if (err == QM_OK && rc != SQLITE_DONE)
        err = store_fail(s, fault, "reading the accepted sets");
    sqlite3_finalize(st);
    return err;
}

/* ---- whoever it concerns ---------------------------------------------------------------------------------------------- */

struct settling {
    struct qm_store *store;
    struct qm_baseline_change *change;
};

static qm_err settled(void *ctx, uint64_t slot, const struct qm_rejudged *r, struct qm_fault *fault)
{
    const uint32_t kinds = 1u << QM_ALERT_PCR_MISMATCH | 1u << QM_ALERT_PCR_VALUES_MISSING | 1u << QM_ALERT_NO_BASELINE;
    struct settling *c = ctx;
    struct qm_ledger entry;
    uint64_t left, closed;
    if (!r->changed)
        return QM_OK;
    c->change->judged++;
    if (r->status != QM_TRUSTED)
        return QM_OK;
    c->change->passing++;
    qm_err err = qm_store_ledger_get(c->store, slot, &entry, fault);
    return err == QM_OK ? qm_alert_resolve(c->store, slot, kinds, c->store->now_ms, entry.last.reset, &left, &closed, fault)
                        : err;
}

static qm_err settle(struct qm_store *s, uint64_t slot, uint32_t group_no, struct qm_baseline_change *change,
                     struct qm_fault *fault)
{
    struct settling c = {s, change};
    struct qm_rejudged r;
    if (group_no != 0)
        return qm_store_rejudge_group(s, group_no, settled, &c, fault);
    qm_err err = qm_store_rejudge(s, slot, NULL, &r, fault);
    return err == QM_OK ? settled(&c, slot, &r, fault) : err;
}

/* ---- adding ----------------------------------------------------------------------------------------------------------- */

/* The set has a value for each PCR of needed, and none but for those of allowed. */
static qm_err check_mask(const struct qm_set_new *set, uint32_t needed, uint32_t allowed, struct qm_fault *fault)
{
    if ((needed & ~set->mask) != 0)
        return qm_fail(fault, QM_E_REFUSED, 0, "PCR %d is compared, and has no value", __builtin_ctz(needed & ~set->mask));
    if ((set->mask & ~allowed) != 0)
        return qm_fail(fault, QM_E_REFUSED, 0, "PCR %d has a value, and is none of this set's",
                       __builtin_ctz(set->mask & ~allowed));
    return QM_OK;
}

static qm_err owner_instance(struct qm_store *s, struct qm_set_new *set, const char *id, struct qm_fault *fault)
{
    struct qm_instance_row row;
    const struct qm_policy *policy;
    bool found;
    qm_err err = qm_store_instance_by_id(s, id, strlen(id), &row, &found, fault);
    if (err != QM_OK)
        return err;
    if (!found)
        return qm_fail(fault, QM_E_REFUSED, 0, "no instance '%.256s' is enrolled", id);
    err = qm_store_policy(s, row.group, strlen(row.group), &policy, fault);
    if (err != QM_OK)
        return err;
    const uint32_t own = set->kind == QM_SET_WHOLE ? row.profile.baselined : row.profile.baselined & ~policy->class_group;
    set->slot = row.slot;
    return check_mask(set, own, own, fault);
}

/* PCRs of the group's class that some instance of it compares. */
static qm_err group_needs(struct qm_store *s, const char *group, uint32_t class_group, uint32_t *needed, struct qm_fault *fault)
{
    sqlite3_stmt *st =
        store_sql(s, "SELECT DISTINCT p.content FROM instance i JOIN profile p ON p.no = i.profile WHERE i.grp = ?1", fault);
    *needed = 0;
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_text(st, 1, group, -1, SQLITE_STATIC);
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct qm_profile profile;
        if (sqlite3_column_bytes(st, 0) != (int)sizeof profile)
            return qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is damaged: a profile", s->home);
        memcpy(&profile, sqlite3_column_blob(st, 0), sizeof profile);
        *needed |= profile.baselined & class_group;
    }
    sqlite3_reset(st);
    return rc == SQLITE_DONE ? QM_OK : store_fail(s, fault, "reading the instances");
}

static qm_err owner_group(struct qm_store *s, struct qm_set_new *set, const char *group, struct qm_fault *fault)
{
    const struct qm_policy *policy;
    uint32_t needed;
    if (group[0] == '\0' || strlen(group) > QM_GROUP_MAX || !qm_id_ok((struct qm_span){(const uint8_t *)group, strlen(group)}))
        return qm_fail(fault, QM_E_REFUSED, 0, "the group is not 1 to %d bytes of text without control characters",
                       QM_GROUP_MAX);
    qm_err err = qm_store_policy(s, group, strlen(group), &policy, fault);
    if (err == QM_OK)
        err = group_needs(s, group, policy->class_group, &needed, fault);
    if (err == QM_OK)
        err = check_mask(set, needed, policy->class_group, fault);
    return err == QM_OK ? store_group_no(s, group, strlen(group), true, &set->group_no, fault) : err;
}

qm_err qm_baseline_add(struct qm_store *s, struct qm_set_new *set, const char *id, const char *group, uint64_t *no,
                       struct qm_baseline_change *change, struct qm_fault *fault)
{
    bool added;
    qm_err err = set->kind == QM_SET_GROUP ? owner_group(s, set, group, fault) : owner_instance(s, set, id, fault);
    if (err == QM_OK)
        err = qm_set_add(s, set, no, &added, fault);
    if (err != QM_OK)
        return err;
    change->added += added;
    change->known += !added;
    return added ? settle(s, set->slot, set->group_no, change, fault) : QM_OK;
}

/* ---- ending ----------------------------------------------------------------------------------------------------------- */

static qm_err end_one(struct qm_store *s, uint64_t no, const char *why, bool *found, struct qm_baseline_change *change,
                      struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "SELECT ifnull(slot, 0), ifnull(grp, 0) FROM baseline WHERE no = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)no);
    int rc = sqlite3_step(st);
    const uint64_t slot = rc == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
    const uint32_t group_no = rc == SQLITE_ROW ? (uint32_t)sqlite3_column_int64(st, 1) : 0;
    sqlite3_reset(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return store_fail(s, fault, "reading an accepted set");
    qm_err err = qm_set_end(s, no, why, found, fault);
    if (err != QM_OK || !*found)
        return err;
    change->ended++;
    return settle(s, slot, group_no, change, fault);
}

qm_err qm_baseline_end(struct qm_store *s, uint64_t no, const char *why, struct qm_baseline_change *change,
                       struct qm_fault *fault)
{
    bool found;
    qm_err err = end_one(s, no, why, &found, change, fault);
    if (err == QM_OK && !found)
        return qm_fail(fault, QM_E_REFUSED, 0, "no accepted set %llu lives", (unsigned long long)no);
    return err;
}

struct ending {
    uint64_t *no;
    size_t count, room;
};

static qm_err gather(void *ctx, const struct qm_baseline *b, struct qm_fault *fault)
{
    struct ending *e = ctx;
    if (e->count == e->room) {
        const size_t room = e->room != 0 ? 2 * e->room : 256;
        uint64_t *more = reallocarray(e->no, room, sizeof *more);
        if (more == NULL)
            return qm_fail(fault, QM_E_NOMEM, 0, "no memory for %zu accepted sets", room);
        e->no = more;
        e->room = room;
    }
    e->no[e->count++] = b->no;
    return QM_OK;
}

qm_err qm_baseline_end_run(struct qm_store *s, const char *run, const char *why, struct qm_baseline_change *change,
                           struct qm_fault *fault)
{
    const struct qm_baseline_filter filter = {.run = run};
    struct ending e = {0};
    uint64_t one;
    bool known, found;
    sqlite3_stmt *st = store_sql(s, "SELECT no FROM run WHERE id = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_text(st, 1, run, -1, SQLITE_STATIC);
    qm_err err = store_number(s, st, &one, &known, fault);
    if (err == QM_OK && !known)
        return qm_fail(fault, QM_E_REFUSED, 0, "no run '%.64s' is known", run);
    if (err == QM_OK)
        err = qm_baselines_each(s, &filter, gather, &e, fault);
    for (size_t i = 0; err == QM_OK && i < e.count; i++)
        err = end_one(s, e.no[i], why, &found, change, fault);
    free(e.no);
    return err;
}
