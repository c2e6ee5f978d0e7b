/* Reading alerts: one by one, and by change. */
#include <stdlib.h>

#include "codec/emit.h"
#include "tools/store/store_inside.h"
#include "tools/store/store_alerts.h"

enum { ITEM_BYTES = 1 + 32 + 32, SQL_MAX = 6 * 1024 };

/* What a view is made of, in the order of enum column. */
#define COLUMNS                                                                                                                \
    "a.no, a.slot, a.change, a.kind, a.state, a.seen, a.first_ms, a.last_ms, a.count, "                                        \
    "a.closed_ms, a.until_ms, a.set_no, a.detail,"                                                                             \
    " c.class, c.name, c.items, c.event, coalesce(i.id, r.id), g.name, i.slot IS NULL"
enum column {
    C_NO,
    C_SLOT,
    C_CHANGE,
    C_KIND,
    C_STATE,
    C_SEEN,
    C_FIRST,
    C_LAST,
    C_COUNT,
    C_CLOSED,
    C_UNTIL,
    C_SET,
    C_DETAIL,
    C_CLASS,
    C_NAME,
    C_ITEMS,
    C_EVENT,
    C_ID,
    C_GROUP,
    C_GONE,
    COLUMN_COUNT
};
#define JOINED                                                                                                                 \
    " JOIN change c ON c.no = a.change LEFT JOIN instance i ON i.slot = a.slot LEFT JOIN retired "                             \
    "r ON r.slot = a.slot"                                                                                                     \
    " LEFT JOIN grp g ON g.no = c.grp"

static uint64_t number_at(sqlite3_stmt *st, int column)
{
    return (uint64_t)sqlite3_column_int64(st, column);
}

static const char *text_at(sqlite3_stmt *st, int column)
{
    return (const char *)sqlite3_column_text(st, column);
}

static struct qm_span span_at(sqlite3_stmt *st, int column)
{
    const uint8_t *p = sqlite3_column_text(st, column);
    return (struct qm_span){p, (size_t)sqlite3_column_bytes(st, column)};
}

static void take_items(sqlite3_stmt *st, struct qm_alert_view *a)
{
    const uint8_t *p = sqlite3_column_blob(st, C_ITEMS);
    const size_t len = (size_t)sqlite3_column_bytes(st, C_ITEMS);
    a->item_count = 0;
    a->digest = (struct qm_span){0};
    if (a->kind != QM_ALERT_PCR_MISMATCH || len == 0)
        return;
    if (len % ITEM_BYTES != 0 || len / ITEM_BYTES > QM_PCR_COUNT) {
        a->digest = (struct qm_span){p, len};
        return;
    }
    for (; a->item_count < len / ITEM_BYTES; a->item_count++, p += ITEM_BYTES) {
        struct qm_change_item *item = &a->item[a->item_count];
        item->pcr = p[0] < QM_PCR_COUNT ? p[0] : 0;
        memcpy(item->expected, p + 1, 32);
        memcpy(item->measured, p + 33, 32);
    }
}

static void take_row(sqlite3_stmt *st, struct qm_alert_view *a)
{
    a->no = number_at(st, C_NO);
    a->slot = number_at(st, C_SLOT);
    a->change = number_at(st, C_CHANGE);
    a->kind = (enum qm_alert_kind)sqlite3_column_int(st, C_KIND);
    a->state = (enum qm_alert_state)sqlite3_column_int(st, C_STATE);
    a->set_kind = (enum qm_set_kind)sqlite3_column_int(st, C_CLASS);
    a->seen = sqlite3_column_int(st, C_SEEN) != 0;
    a->retired = a->slot != 0 && sqlite3_column_int(st, C_GONE) != 0;
    a->first_ms = number_at(st, C_FIRST);
    a->last_ms = number_at(st, C_LAST);
    a->count = number_at(st, C_COUNT);
    a->closed_ms = number_at(st, C_CLOSED);
    a->until_ms = number_at(st, C_UNTIL);
    a->set_no = number_at(st, C_SET);
    a->detail = text_at(st, C_DETAIL);
    a->name = text_at(st, C_NAME);
    a->event = text_at(st, C_EVENT);
    a->id = span_at(st, C_ID);
    a->group = span_at(st, C_GROUP);
    a->source = a->ids = NULL;
    a->decision_count = 0;
    take_items(st, a);
}

/* ---- what goes with a row ----------------------------------------------------------------------------------------- */

static qm_err take_history(struct qm_store *s, struct qm_alert_view *a, char why[QM_ALERT_HISTORY_MAX][QM_REASON_MAX + 1],
                           struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s,
                                 "SELECT d.at_ms, d.who, d.what, d.why, d.until_ms FROM alert_decision x"
                                 " CROSS JOIN decision d ON d.no = x.decision WHERE x.alert = ?1 ORDER BY "
                                 "x.decision DESC LIMIT ?2",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)a->no);
    sqlite3_bind_int(st, 2, QM_ALERT_HISTORY_MAX);
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct qm_alert_decided *d = &a->decision[a->decision_count];
        const struct qm_span who = span_at(st, 1), what = span_at(st, 2), reason = span_at(st, 3);
        *d = (struct qm_alert_decided){.at_ms = number_at(st, 0), .until_ms = number_at(st, 4), .why = why[a->decision_count]};
        memcpy(d->who, who.p, who.len < sizeof d->who ? who.len : sizeof d->who - 1);
        memcpy(d->what, what.p, what.len < sizeof d->what ? what.len : sizeof d->what - 1);
        const size_t len = reason.len < QM_REASON_MAX ? reason.len : QM_REASON_MAX;
        if (len != 0)
            memcpy(why[a->decision_count], reason.p, len);
        why[a->decision_count++][len] = '\0';
    }
    sqlite3_reset(st);
    return rc == SQLITE_DONE ? QM_OK : store_fail(s, fault, "reading the decisions");
}

/* Texts stay with the statement until it is used again: for the next row. */
static qm_err take_refused(struct qm_store *s, struct qm_alert_view *a, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "SELECT source, ids, sketch FROM refused WHERE change = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)a->change);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_DONE)
        return QM_OK;
    if (rc != SQLITE_ROW)
        return store_fail(s, fault, "reading what was refused");
    a->source = text_at(st, 0);
    a->ids = text_at(st, 1);
    if (sqlite3_column_bytes(st, 2) == QM_SKETCH_BYTES)
        a->distinct = qm_sketch_estimate(sqlite3_column_blob(st, 2));
    return QM_OK;
}

/* Room that a view points into. */
struct reading {
    struct qm_alert_view view;
    struct qm_cohort cohort;
    char why[QM_ALERT_HISTORY_MAX][QM_REASON_MAX + 1];
};

static qm_err take_view(struct qm_store *s, sqlite3_stmt *st, bool history, struct qm_alert_view *a, struct reading *r,
                        struct qm_fault *fault)
{
    const struct qm_policy *policy;
    qm_err err = qm_store_policy(s, "", 0, &policy, fault); /* read once */
    if (err != QM_OK)
        return err;
    take_row(st, a);
    a->home = policy->name;
    err = a->kind >= QM_ALERT_MALFORMED ? take_refused(s, a, fault) : QM_OK;
    return err == QM_OK && history ? take_history(s, a, r->why, fault) : err;
}

/* ---- the filter --------------------------------------------------------------------------------------------------- */

enum bound { B_NO = 1, B_KIND, B_ID, B_GROUP, B_TAG, B_TAG_VALUE, B_PCR, B_SINCE, B_AFTER };

static void where_pcr(struct qm_out *sql)
{
    qm_out_text(sql, " AND c.kind = 0 AND length(c.items) % 65 = 0 AND (");
    for (unsigned k = 0; k < QM_PCR_COUNT; k++) {
        qm_out_text(sql, k != 0 ? " OR substr(c.items, " : "substr(c.items, ");
        qm_out_u64(sql, 1 + k * ITEM_BYTES);
        qm_out_text(sql, ", 1) = ?7");
    }
    qm_out_text(sql, ")");
}

static void where_states(struct qm_out *sql, uint32_t states)
{
    const char *between = " AND a.state IN (";
    for (unsigned k = 0; k < 4; k++)
        if ((states >> k & 1) != 0) {
            qm_out_text(sql, between);
            qm_out_u64(sql, k);
            between = ", ";
        }
    qm_out_text(sql, ")");
}

static void where(struct qm_out *sql, const struct qm_alert_filter *f)
{
    qm_out_text(sql, f->no != 0 ? " WHERE a.no = ?1" : " WHERE (a.slot IS NULL OR i.slot IS NOT NULL)");
    if (f->unseen)
        qm_out_text(sql, " AND a.state = 3 AND a.kind = 0 AND a.seen = 0");
    else if (f->states != 0)
        where_states(sql, f->states);
    if (f->kind != NULL)
        qm_out_text(sql, " AND a.kind = ?2");
    if (f->id != NULL)
        qm_out_text(sql, " AND a.slot = (SELECT slot FROM instance WHERE id = ?3)");
    if (f->group != NULL)
        qm_out_text(sql, " AND c.grp = (SELECT no FROM grp WHERE name = ?4)");
    if (f->tag_key != NULL)
        qm_out_text(sql, " AND EXISTS (SELECT 1 FROM json_each(i.tags) j WHERE j.key = ?5 AND j.value = ?6)");
    if (f->pcr >= 0)
        where_pcr(sql);
    if (f->since_ms != 0)
        qm_out_text(sql, " AND a.last_ms >= ?8");
    if (f->after_no != 0)
        qm_out_text(sql, " AND a.no > ?9");
}

static int kind_number(const char *name)
{
    for (int k = 0; k <= QM_ALERT_STALE_NONCE; k++)
        if (qm_alert_kind_name((enum qm_alert_kind)k) != NULL && strcmp(qm_alert_kind_name((enum qm_alert_kind)k), name) == 0)
            return k;
    return -1;
}

static void bind_text(sqlite3_stmt *st, enum bound at, const char *text)
{
    if (text != NULL)
        sqlite3_bind_text(st, at, text, -1, SQLITE_STATIC);
}

/* What the statement does not ask for is out of its range, and SQLite says so to nobody. */
static void bind(sqlite3_stmt *st, const struct qm_alert_filter *f)
{
    const uint8_t pcr = (uint8_t)f->pcr;
    sqlite3_bind_int64(st, B_NO, (sqlite3_int64)f->no);
    sqlite3_bind_int(st, B_KIND, f->kind != NULL ? kind_number(f->kind) : -1);
    bind_text(st, B_ID, f->id);
    bind_text(st, B_GROUP, f->group);
    bind_text(st, B_TAG, f->tag_key);
    bind_text(st, B_TAG_VALUE, f->tag_value);
    sqlite3_bind_blob(st, B_PCR, &pcr, 1, SQLITE_TRANSIENT);
    sqlite3_bind_int64(st, B_SINCE, (sqlite3_int64)f->since_ms);
    sqlite3_bind_int64(st, B_AFTER, (sqlite3_int64)f->after_no);
}

static qm_err prepare(struct qm_store *s, const char *head, const struct qm_alert_filter *f, const char *tail,
                      sqlite3_stmt **st, struct qm_fault *fault)
{
    char text[SQL_MAX];
    struct qm_out sql = qm_out_init(text, sizeof text - 1);
    qm_out_text(&sql, head);
    where(&sql, f);
    qm_out_text(&sql, tail);
    if (sql.full)
        return qm_fail(fault, QM_E_LIMIT, 0, "too long a question");
    text[sql.len] = '\0';
    if (sqlite3_prepare_v2(s->db, text, -1, st, NULL) != SQLITE_OK)
        return store_fail(s, fault, "reading the alerts");
    bind(*st, f);
    return QM_OK;
}

/* ---- going over them ---------------------------------------------------------------------------------------------- */

static struct reading *reading_open(struct qm_fault *fault)
{
    struct reading *r = calloc(1, sizeof *r);
    if (r == NULL)
        qm_fail(fault, QM_E_NOMEM, 0, "no memory to read the alerts");
    return r;
}

static qm_err each(struct qm_store *s, const struct qm_alert_filter *f, qm_alert_visit visit, void *ctx, uint64_t *count,
                   struct qm_fault *fault)
{
    sqlite3_stmt *st = NULL;
    struct reading *r = reading_open(fault);
    *count = 0;
    if (r == NULL)
        return QM_E_NOMEM;
    qm_err err = prepare(s, "SELECT " COLUMNS " FROM alert a" JOINED, f, " ORDER BY a.no", &st, fault);
    int rc = SQLITE_DONE;
    while (err == QM_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        err = take_view(s, st, f->history, &r->view, r, fault);
        if (err == QM_OK)
            err = visit(ctx, &r->view, fault);
        ++*count;
    }
    if (err == QM_OK && rc != SQLITE_DONE)
        err = store_fail(s, fault, "reading the alerts");
    sqlite3_finalize(st);
    free(r);
    return err;
}

qm_err qm_alerts_each(struct qm_store *s, const struct qm_alert_filter *f, qm_alert_visit visit, void *ctx,
                      struct qm_fault *fault)
{
    uint64_t count;
    return each(s, f, visit, ctx, &count, fault);
}

qm_err qm_alert_get(struct qm_store *s, uint64_t no, qm_alert_visit visit, void *ctx, bool *found, struct qm_fault *fault)
{
    const struct qm_alert_filter f = {.no = no, .pcr = -1, .history = true};
    uint64_t count = 0;
    *found = false;
    if (no == 0)
        return QM_OK;
    qm_err err = each(s, &f, visit, ctx, &count, fault);
    *found = count != 0;
    return err;
}

static void take_cohort(sqlite3_stmt *st, struct qm_cohort *c)
{
    c->alerts = number_at(st, COLUMN_COUNT);
    for (int k = 0; k < 4; k++)
        c->by_state[k] = number_at(st, COLUMN_COUNT + 1 + k);
    c->count = number_at(st, COLUMN_COUNT + 5);
    c->first_ms = number_at(st, COLUMN_COUNT + 6);
    c->last_ms = number_at(st, COLUMN_COUNT + 7);
    c->last_no = number_at(st, COLUMN_COUNT + 8);
    c->until_ms = number_at(st, COLUMN_COUNT + 9);
}

qm_err qm_cohorts_each(struct qm_store *s, const struct qm_alert_filter *f, qm_cohort_visit visit, void *ctx,
                       struct qm_fault *fault)
{
    static const char grouped[] =
        " GROUP BY a.change) SELECT " COLUMNS ", t.alerts, t.open, t.ignored, t.accepted, t.resolved, t.count, "
        "t.first_ms, t.last_ms, t.last_no, t.until_ms"
        " FROM t CROSS JOIN alert a ON a.no = t.no" JOINED " ORDER BY t.alerts DESC, t.last_ms DESC, t.no";
    static const char head[] = "WITH t AS MATERIALIZED (SELECT min(a.no) no, count(*) alerts, sum(a.state = 0) open, "
                               "sum(a.state = 1) ignored,"
                               " sum(a.state = 2) accepted, sum(a.state = 3) resolved, sum(a.count) count, "
                               "min(a.first_ms) first_ms, max(a.last_ms) last_ms,"
                               " max(a.no) last_no, min(CASE a.state WHEN 1 THEN a.until_ms END) until_ms"
                               " FROM alert a JOIN change c ON c.no = a.change LEFT JOIN instance i ON i.slot = a.slot";
    sqlite3_stmt *st = NULL;
    struct reading *r = reading_open(fault);
    if (r == NULL)
        return QM_E_NOMEM;
    qm_err err = prepare(s, head, f, grouped, &st, fault);
    int rc = SQLITE_DONE;
    while (err == QM_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        err = take_view(s, st, false, &r->cohort.one, r, fault);
        take_cohort(st, &r->cohort);
        if (err == QM_OK)
            err = visit(ctx, &r->cohort, fault);
    }
    if (err == QM_OK && rc != SQLITE_DONE)
        err = store_fail(s, fault, "reading the alerts");
    sqlite3_finalize(st);
    free(r);
    return err;
}

qm_err qm_alerts_last(struct qm_store *s, uint64_t *no, struct qm_fault *fault)
{
    bool found;
    sqlite3_stmt *st = store_sql(s, "SELECT coalesce(max(no), 0) FROM alert", fault);
    return st != NULL ? store_number(s, st, no, &found, fault) : QM_E_STORE;
}
