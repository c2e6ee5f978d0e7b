/* Picking alerts, and the decisions that are the same for all of them. Accepting is store_accept.c.
 */
#include "tools/store/store_decisions.h"

#include "tools/store/store_decisions_inside.h"

static const char *const names[] = {"ignore", "accept", "reopen", "ack"};

/* ---- picking ------------------------------------------------------------------------------------------------------ */

/* States in which an alert can be decided so; in SQL. */
static const char *const states_for[] = {"(0, 1)", "(0, 1)", "(1, 2)", "(0, 1, 2, 3)"};

static qm_err run_sql(struct qm_store *s, const char *head, const char *tail, const struct qm_pick *p, struct qm_fault *fault)
{
    char text[2048];
    sqlite3_stmt *st = NULL;
    struct qm_out sql = qm_out_init(text, sizeof text - 1);
    qm_out_text(&sql, head);
    qm_out_text(&sql, tail);
    if (p->tag_key != NULL)
        qm_out_text(&sql, " AND EXISTS (SELECT 1 FROM instance i, json_each(i.tags) j WHERE i.slot "
                          "= a.slot AND j.key = ?1 AND j.value = ?2)");
    if (sql.full)
        return qm_fail(fault, QM_E_LIMIT, 0, "too long a question");
    text[sql.len] = '\0';
    if (sqlite3_prepare_v2(s->db, text, -1, &st, NULL) != SQLITE_OK)
        return store_fail(s, fault, "picking alerts");
    if (p->tag_key != NULL) {
        sqlite3_bind_text(st, 1, p->tag_key, -1, SQLITE_STATIC);
        sqlite3_bind_text(st, 2, p->tag_value, -1, SQLITE_STATIC);
    }
    qm_err err = store_run(s, st, fault);
    sqlite3_finalize(st);
    return err;
}

static qm_err ask_for(struct qm_store *s, const struct qm_pick *p, struct qm_picked *out, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    for (size_t i = 0; err == QM_OK && i < p->count; i++) {
        sqlite3_stmt *st = store_sql(s, "INSERT OR IGNORE INTO asked(no) SELECT no FROM alert WHERE no = ?1", fault);
        bool found = false;
        uint64_t no;
        if (st == NULL)
            return QM_E_STORE;
        sqlite3_bind_int64(st, 1, (sqlite3_int64)p->no[i]);
        err = store_run(s, st, fault);
        st = err == QM_OK ? store_sql(s, "SELECT no FROM asked WHERE no = ?1", fault) : NULL;
        if (st == NULL)
            return err != QM_OK ? err : QM_E_STORE;
        sqlite3_bind_int64(st, 1, (sqlite3_int64)p->no[i]);
        err = store_number(s, st, &no, &found, fault);
        if (err == QM_OK && !found && out->unknown == 0)
            out->unknown = p->no[i];
    }
    return err;
}

static qm_err pick_same(struct qm_store *s, const struct qm_pick *p, struct qm_fault *fault)
{
    char tail[400];
    struct qm_out o = qm_out_init(tail, sizeof tail - 1);
    qm_out_text(&o, p->all_groups ? "" : " AND d.grp = c.grp");
    qm_out_text(&o, ") AND (a.slot IS NULL OR EXISTS (SELECT 1 FROM instance i WHERE i.slot = "
                    "a.slot)) AND a.state IN ");
    qm_out_text(&o, states_for[p->what]);
    tail[o.len] = '\0';
    return run_sql(s,
                   "INSERT OR IGNORE INTO picked SELECT coalesce(a.slot, 0), a.no FROM alert a "
                   "WHERE a.change IN (SELECT d.no FROM asked k"
                   " CROSS JOIN alert b ON b.no = k.no CROSS JOIN change c ON c.no = b.change "
                   "CROSS JOIN change d ON d.kind = c.kind"
                   " AND d.key = c.key",
                   tail, p, fault);
}

static qm_err pick_kind(struct qm_store *s, const struct qm_pick *p, struct qm_fault *fault)
{
    char tail[80];
    struct qm_out o = qm_out_init(tail, sizeof tail - 1);
    for (int k = 0; k <= QM_ALERT_STALE_NONCE; k++)
        if (qm_alert_kind_name((enum qm_alert_kind)k) != NULL &&
            strcmp(qm_alert_kind_name((enum qm_alert_kind)k), p->kind) == 0)
            qm_out_u64(&o, (uint64_t)k);
    qm_out_text(&o, " AND a.state IN ");
    qm_out_text(&o, states_for[p->what]);
    tail[o.len] = '\0';
    return run_sql(s,
                   "INSERT OR IGNORE INTO picked SELECT coalesce(a.slot, 0), a.no FROM alert a "
                   "WHERE a.kind = ",
                   tail, p, fault);
}

static qm_err counted(struct qm_store *s, struct qm_picked *out, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s,
                                 "SELECT count(*), count(DISTINCT p.slot), count(DISTINCT c.grp) FROM picked p"
                                 " CROSS JOIN alert a ON a.no = p.no CROSS JOIN change c ON c.no = a.change",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    if (sqlite3_step(st) != SQLITE_ROW)
        return store_fail(s, fault, "picking alerts");
    out->alerts = (uint64_t)sqlite3_column_int64(st, 0);
    out->machines = (uint64_t)sqlite3_column_int64(st, 1);
    out->groups = (uint64_t)sqlite3_column_int64(st, 2);
    sqlite3_reset(st);
    return QM_OK;
}

qm_err qm_alerts_pick(struct qm_store *s, const struct qm_pick *p, struct qm_picked *out, struct qm_fault *fault)
{
    *out = (struct qm_picked){0};
    qm_err err = store_exec(s,
                            "CREATE TEMP TABLE IF NOT EXISTS asked(no INTEGER PRIMARY KEY);"
                            "CREATE TEMP TABLE IF NOT EXISTS picked(slot INTEGER NOT NULL, no "
                            "INTEGER NOT NULL, PRIMARY KEY(slot, no))"
                            " WITHOUT ROWID; BEGIN; DELETE FROM asked; DELETE FROM picked",
                            fault);
    if (err != QM_OK)
        return err;
    err = ask_for(s, p, out, fault);
    if (err == QM_OK && p->kind != NULL)
        err = pick_kind(s, p, fault);
    if (err == QM_OK && p->same)
        err = pick_same(s, p, fault);
    if (err == QM_OK && p->count != 0)
        err = run_sql(s,
                      "INSERT OR IGNORE INTO picked SELECT coalesce(a.slot, 0), a.no FROM asked k "
                      "CROSS JOIN alert a ON a.no = k.no",
                      " WHERE 1", p, fault);
    if (err == QM_OK)
        err = counted(s, out, fault);
    if (err == QM_OK)
        return store_exec(s, "COMMIT", fault);
    sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return err;
}

/* ---- what decisions share ----------------------------------------------------------------------------------------- */

void store_decision_refuse(struct store_decision *d, uint64_t no, const char *why)
{
    d->out->refused++;
    d->refused(d->ctx, no, why);
}

qm_err store_decision_link(struct store_decision *d, uint64_t no, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(d->store, "INSERT OR IGNORE INTO alert_decision(alert, decision) VALUES(?1, ?2)", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)no);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)d->no);
    d->out->alerts++;
    return store_run(d->store, st, fault);
}

qm_err store_decision_passes(struct store_decision *d, uint64_t slot, const struct qm_rejudged *r, struct qm_fault *fault)
{
    struct qm_ledger entry;
    uint64_t left, closed;
    if (!r->changed)
        return QM_OK;
    d->out->judged++;
    qm_err err = qm_store_ledger_get(d->store, slot, &entry, fault);
    if (err != QM_OK)
        return err;
    if (r->status == QM_TRUSTED) {
        d->out->passing++;
        const uint32_t kinds = 1u << QM_ALERT_PCR_MISMATCH | 1u << QM_ALERT_PCR_VALUES_MISSING | 1u << QM_ALERT_NO_BASELINE;
        return qm_alert_resolve(d->store, slot, kinds, d->store->now_ms, entry.last.reset, &left, &closed, fault);
    }
    return QM_OK;
}

/* ---- ignore, ack -------------------------------------------------------------------------------------------------- */

static qm_err bulk(struct store_decision *d, const char *sql, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(d->store, sql, fault);
    if (st == NULL)
        return QM_E_STORE;
    if (sqlite3_bind_parameter_count(st) != 0)
        sqlite3_bind_int64(st, 1, (sqlite3_int64)d->decision->until_ms);
    return store_run(d->store, st, fault);
}

static qm_err link_all(struct store_decision *d, struct qm_fault *fault)
{
    sqlite3_stmt *st =
        store_sql(d->store, "INSERT INTO alert_decision(alert, decision) SELECT no, ?1 FROM picked ORDER BY no", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)d->no);
    qm_err err = store_run(d->store, st, fault);
    d->out->alerts += (uint64_t)sqlite3_changes64(d->store->db);
    return err;
}

/* ---- reopen ------------------------------------------------------------------------------------------------------- */

/* An accepted alert whose TPM goes on from where it was refused: it goes back to what was seen
 * before, unless newer records came. */
static qm_err reopen_sequence(struct store_decision *d, const struct store_alert_row *a, struct qm_fault *fault)
{
    struct qm_ledger entry;
    if (!a->has_sequences)
        return QM_OK;
    qm_err err = qm_store_ledger_get(d->store, a->slot, &entry, fault);
    if (err != QM_OK || qm_sequence_compare(&entry.last, &a->refused) != 0)
        return err;
    qm_ledger_restart(&entry, &a->seen);
    return qm_store_ledger_put(d->store, a->slot, &entry, fault);
}

/* Whose set it is, and that it came of an alert; an equal one that was there before stays. */
static qm_err set_owner(struct store_decision *d, uint64_t set_no, bool *accepted, uint32_t *group_no, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(d->store, "SELECT origin = 'accepted', coalesce(grp, 0) FROM baseline WHERE no = ?1", fault);
    *accepted = false;
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)set_no);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        *accepted = sqlite3_column_int(st, 0) != 0;
        *group_no = (uint32_t)sqlite3_column_int64(st, 1);
    } else if (rc != SQLITE_DONE) {
        return store_fail(d->store, fault, "reading the accepted sets");
    }
    sqlite3_reset(st);
    return QM_OK;
}

/* A pass looks for rows to close only where the entry says that there may be some. */
static qm_err may_have_alerts(struct store_decision *d, uint64_t slot, struct qm_fault *fault)
{
    struct qm_ledger entry;
    if (slot == 0)
        return QM_OK;
    qm_err err = qm_store_ledger_get(d->store, slot, &entry, fault);
    if (err != QM_OK || (entry.flags & QM_LEDGER_ALERTS) != 0)
        return err;
    entry.flags |= QM_LEDGER_ALERTS;
    return qm_store_ledger_put(d->store, slot, &entry, fault);
}

static qm_err all_may_have_alerts(struct store_decision *d, const struct store_alert_row *a, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(d->store,
                                 "SELECT DISTINCT slot FROM alert WHERE change = ?1 AND state = 2 AND set_no = ?2 AND slot IS NOT NULL"
                                 " ORDER BY slot",
                                 fault);
    qm_err err = QM_OK;
    int rc = SQLITE_DONE;
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)a->change);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)a->set_no);
    while (err == QM_OK && (rc = sqlite3_step(st)) == SQLITE_ROW)
        err = may_have_alerts(d, (uint64_t)sqlite3_column_int64(st, 0), fault);
    if (err == QM_OK && rc != SQLITE_DONE)
        err = store_fail(d->store, fault, "reading the alerts");
    sqlite3_reset(st);
    return err;
}

/* All that the set was accepted for is open again. */
static qm_err open_all_of_set(struct store_decision *d, const struct store_alert_row *a, struct qm_fault *fault)
{
    static const char link[] = "INSERT OR IGNORE INTO alert_decision(alert, decision) SELECT no, ?3 FROM alert"
                               " WHERE change = ?1 AND state = 2 AND set_no = ?2";
    /* One open row for a change: where the machine showed it again since, that row is it. */
    static const char open[] = "UPDATE alert SET state = 0, closed_ms = NULL, until_ms = NULL, set_no = NULL"
                               " WHERE change = ?1 AND state = 2 AND set_no = ?2 AND NOT EXISTS (SELECT 1 FROM alert b"
                               " WHERE b.slot = alert.slot AND b.kind = alert.kind AND b.state IN (0, 1) AND b.change = ?1)";
    const char *const steps[] = {link, open};
    qm_err marked = all_may_have_alerts(d, a, fault);
    if (marked != QM_OK)
        return marked;
    for (size_t i = 0; i < QM_COUNT(steps); i++) {
        sqlite3_stmt *st = store_sql(d->store, steps[i], fault);
        if (st == NULL)
            return QM_E_STORE;
        sqlite3_bind_int64(st, 1, (sqlite3_int64)a->change);
        sqlite3_bind_int64(st, 2, (sqlite3_int64)a->set_no);
        if (i == 0)
            sqlite3_bind_int64(st, 3, (sqlite3_int64)d->no);
        qm_err err = store_run(d->store, st, fault);
        if (err != QM_OK)
            return err;
        if (i == 0)
            d->out->alerts += (uint64_t)sqlite3_changes64(d->store->db);
    }
    return QM_OK;
}

static qm_err open_one(struct store_decision *d, const struct store_alert_row *a, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(d->store,
                                 "UPDATE alert SET state = 0, closed_ms = NULL, until_ms = NULL, "
                                 "set_no = NULL WHERE no = ?1",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)a->no);
    qm_err err = store_run(d->store, st, fault);
    return err == QM_OK ? store_decision_link(d, a->no, fault) : err;
}

static qm_err group_passes(void *ctx, uint64_t slot, const struct qm_rejudged *r, struct qm_fault *fault)
{
    return store_decision_passes(ctx, slot, r, fault);
}

qm_err store_decision_rejudge_group(struct store_decision *d, uint32_t group_no, struct qm_fault *fault)
{
    return qm_store_rejudge_group(d->store, group_no, group_passes, d, fault);
}

static qm_err withdraw(struct store_decision *d, const struct store_alert_row *a, struct qm_fault *fault)
{
    uint32_t group_no = 0;
    bool accepted, found = false;
    qm_err err = set_owner(d, a->set_no, &accepted, &group_no, fault);
    if (err == QM_OK && accepted)
        err = qm_set_end(d->store, a->set_no, d->decision->reason, &found, fault);
    d->out->sets += found;
    if (err == QM_OK)
        err = open_all_of_set(d, a, fault);
    if (err != QM_OK || !found)
        return err;
    if (group_no != 0)
        return store_decision_rejudge_group(d, group_no, fault);
    struct qm_rejudged r;
    err = qm_store_rejudge(d->store, a->slot, &d->live, &r, fault);
    return err == QM_OK ? store_decision_passes(d, a->slot, &r, fault) : err;
}

static qm_err reopen_one(struct store_decision *d, const struct store_alert_row *a, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    if (a->state == QM_ALERT_OPEN)
        return QM_OK; /* with another one, whose set it shared */
    if (a->state == QM_ALERT_ACCEPTED)
        err = reopen_sequence(d, a, fault);
    if (err == QM_OK)
        err = a->state == QM_ALERT_ACCEPTED && a->set_no != 0 ? withdraw(d, a, fault) : open_one(d, a, fault);
    return err == QM_OK ? may_have_alerts(d, a->slot, fault) : err;
}

/* ---- rows --------------------------------------------------------------------------------------------------------- */

static qm_err take_sequences(struct store_decision *d, struct store_alert_row *a, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(d->store,
                                 "SELECT json_extract(detail, '$.refused.reset'), json_extract(detail, "
                                 "'$.refused.restart'), json_extract(detail, '$.refused.clock'),"
                                 " json_extract(detail, '$.seen.reset'), json_extract(detail, '$.seen.restart'), "
                                 "json_extract(detail, '$.seen.clock')"
                                 " FROM alert WHERE no = ?1",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)a->no);
    if (sqlite3_step(st) != SQLITE_ROW)
        return store_fail(d->store, fault, "reading the alerts");
    a->has_sequences = true;
    for (int k = 0; k < 6; k++)
        a->has_sequences = a->has_sequences && sqlite3_column_type(st, k) == SQLITE_INTEGER;
    a->refused = (struct qm_sequence){.reset = (uint32_t)sqlite3_column_int64(st, 0),
                                      .restart = (uint32_t)sqlite3_column_int64(st, 1),
                                      .clock_ms = (uint64_t)sqlite3_column_int64(st, 2)};
    a->seen = (struct qm_sequence){.reset = (uint32_t)sqlite3_column_int64(st, 3),
                                   .restart = (uint32_t)sqlite3_column_int64(st, 4),
                                   .clock_ms = (uint64_t)sqlite3_column_int64(st, 5)};
    sqlite3_reset(st);
    return QM_OK;
}

qm_err store_decision_row(struct store_decision *d, uint64_t no, struct store_alert_row *a, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(d->store,
                                 "SELECT a.slot, a.change, a.kind, a.state, a.set_no, c.class, c.name, c.items"
                                 " FROM alert a CROSS JOIN change c ON c.no = a.change WHERE a.no = ?1",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)no);
    int rc = sqlite3_step(st);
    if (rc != SQLITE_ROW)
        return store_fail(d->store, fault, "reading the alerts");
    *a = (struct store_alert_row){.no = no,
                                  .slot = (uint64_t)sqlite3_column_int64(st, 0),
                                  .change = (uint64_t)sqlite3_column_int64(st, 1),
                                  .kind = (enum qm_alert_kind)sqlite3_column_int(st, 2),
                                  .state = (enum qm_alert_state)sqlite3_column_int(st, 3),
                                  .set_no = (uint64_t)sqlite3_column_int64(st, 4),
                                  .set_kind = (enum qm_set_kind)sqlite3_column_int(st, 5),
                                  .many = strcmp((const char *)sqlite3_column_text(st, 6), "many") == 0};
    const size_t len = (size_t)sqlite3_column_bytes(st, 7);
    const uint8_t *p = sqlite3_column_blob(st, 7);
    if (a->kind == QM_ALERT_PCR_MISMATCH && len % STORE_ITEM_BYTES == 0)
        for (; a->item_count < len / STORE_ITEM_BYTES && a->item_count < QM_PCR_COUNT; a->item_count++, p += STORE_ITEM_BYTES) {
            a->item[a->item_count].pcr = p[0] < QM_PCR_COUNT ? p[0] : 0;
            memcpy(a->item[a->item_count].expected, p + 1, 32);
            memcpy(a->item[a->item_count].measured, p + 33, 32);
        }
    sqlite3_reset(st);
    return a->kind == QM_ALERT_CLONED_OR_ROLLED_BACK ? take_sequences(d, a, fault) : QM_OK;
}

/* Goes over the picked alerts by machine. What is looked at was read before anything of it changes:
 * the table of picked ones is not written meanwhile. */
qm_err store_decision_each(struct store_decision *d, store_decision_visit visit, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(d->store, "SELECT no FROM picked ORDER BY slot, no", fault);
    qm_err err = st != NULL ? QM_OK : QM_E_STORE;
    int rc = SQLITE_DONE;
    while (err == QM_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        err = store_decision_row(d, (uint64_t)sqlite3_column_int64(st, 0), &d->row, fault);
        if (err == QM_OK)
            err = visit(d, &d->row, fault);
    }
    if (st != NULL)
        sqlite3_reset(st);
    return err != QM_OK || rc == SQLITE_DONE ? err : store_fail(d->store, fault, "reading what was picked");
}

/* Those that are not, or not any more, in a state for it are refused, and picked no more. */
static qm_err refuse_unfit(struct store_decision *d, struct qm_fault *fault)
{
    static const char *const unfit[] = {
        "SELECT a.no, a.state FROM picked p CROSS JOIN alert a ON a.no = p.no WHERE a.state NOT IN "
        "(0, 1)",
        "SELECT a.no, a.state FROM picked p CROSS JOIN alert a ON a.no = p.no WHERE a.state NOT IN "
        "(0, 1)",
        "SELECT a.no, a.state FROM picked p CROSS JOIN alert a ON a.no = p.no WHERE a.state NOT IN "
        "(1, 2)",
        NULL,
    };
    if (unfit[d->decision->what] == NULL)
        return QM_OK;
    sqlite3_stmt *st = store_sql(d->store, unfit[d->decision->what], fault);
    if (st == NULL)
        return QM_E_STORE;
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        char why[64];
        struct qm_out o = qm_out_init(why, sizeof why - 1);
        qm_out_text(&o, "it is ");
        qm_out_text(&o, qm_alert_state_name((enum qm_alert_state)sqlite3_column_int(st, 1)));
        why[o.len] = '\0';
        store_decision_refuse(d, (uint64_t)sqlite3_column_int64(st, 0), why);
    }
    sqlite3_reset(st);
    if (rc != SQLITE_DONE)
        return store_fail(d->store, fault, "reading what was picked");
    return bulk(d,
                d->decision->what == QM_DECIDE_REOPEN
                    ? "DELETE FROM picked WHERE (SELECT state FROM alert a WHERE a.no = picked.no) "
                      "NOT IN (1, 2)"
                    : "DELETE FROM picked WHERE (SELECT state FROM alert a WHERE a.no = picked.no) "
                      "NOT IN (0, 1)",
                fault);
}

static qm_err begin_decision(struct store_decision *d, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(d->store,
                                 "INSERT INTO decision(at_ms, who, what, why, until_ms, alerts)"
                                 " VALUES(?1, ?2, ?3, ?4, nullif(?5, 0), 0)",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)d->store->now_ms);
    sqlite3_bind_text(st, 2, d->store->who, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 3, names[d->decision->what], -1, SQLITE_STATIC);
    if (d->decision->reason != NULL)
        sqlite3_bind_text(st, 4, d->decision->reason, -1, SQLITE_STATIC);
    sqlite3_bind_int64(st, 5, (sqlite3_int64)d->decision->until_ms);
    qm_err err = store_run(d->store, st, fault);
    d->no = (uint64_t)sqlite3_last_insert_rowid(d->store->db);
    return err;
}

/* A decision about nothing is none. */
static qm_err end_decision(struct store_decision *d, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(d->store,
                                 d->out->alerts != 0 ? "UPDATE decision SET alerts = ?2 WHERE no = ?1"
                                                     : "DELETE FROM decision WHERE no = ?1 AND ?2 = 0",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)d->no);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)d->out->alerts);
    return store_run(d->store, st, fault);
}

qm_err qm_alerts_decide(struct qm_store *s, const struct qm_decision *decision, qm_decision_refused refused, void *ctx,
                        struct qm_decided *out, struct qm_fault *fault)
{
    struct store_decision d = {.store = s, .decision = decision, .refused = refused, .ctx = ctx, .out = out};
    *out = (struct qm_decided){0};
    qm_err err = qm_live_sets_init(&d.live, fault);
    if (err == QM_OK)
        err = begin_decision(&d, fault);
    if (err == QM_OK)
        err = refuse_unfit(&d, fault);
    if (err == QM_OK)
        switch (decision->what) {
        case QM_DECIDE_IGNORE:
            err = bulk(&d,
                       "UPDATE alert SET state = 1, seen = 1, until_ms = nullif(?1, 0) WHERE no IN "
                       "(SELECT no FROM picked)",
                       fault);
            if (err == QM_OK)
                err = link_all(&d, fault);
            break;
        case QM_DECIDE_ACK:
            err = bulk(&d, "UPDATE alert SET seen = 1 WHERE no IN (SELECT no FROM picked)", fault);
            if (err == QM_OK)
                err = link_all(&d, fault);
            break;
        case QM_DECIDE_REOPEN:
            err = store_decision_each(&d, reopen_one, fault);
            break;
        case QM_DECIDE_ACCEPT:
            err = store_accept(&d, fault);
            break;
        }
    if (err == QM_OK)
        err = end_decision(&d, fault);
    qm_live_sets_close(&d.live);
    return err;
}
