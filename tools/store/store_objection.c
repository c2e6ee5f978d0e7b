/* What speaks against an enrolment: keys that are another's, and asking for less than before. */
#include <stdio.h>

#include "codec/text.h"
#include "tools/store/store_alerts.h"
#include "tools/store/store_enroll_inside.h"

static const char *const objections[] = {
    [STORE_OTHER_KEY] = "the id is enrolled with another AK (--replace-key changes it)",
    [STORE_AK_OF_OTHER] = "another id has this AK already",
    [STORE_EK_OF_OTHER] = "another id has this EK already",
};

static void describe_key(struct qm_out *o, const char *name, const uint8_t *digest)
{
    qm_out_text(o, name);
    qm_out_hex(o, digest, 32);
}

/* Rows that proposals get of their own, of one machine; the others are for what was proven, or said by a file of the operator's. */
enum { PROPOSED_ALONE_MAX = QM_ALERTS_ALONE_MAX / 2 };

/* Somebody says that an enrolled id has another key, or that its key or EK is another id's: one row for each key and claim. Only a
 * person, or the key's replacement, ends it.
 *
 * A proposal can be made with any key under any id, by whoever has a copy of some EK's certificate. So those of one EK are one row of a
 * machine, and of other EKs a few are, so that they hide nothing that was proven. */
static qm_err raise_conflict(struct qm_store *s, const struct qm_enrolment *e, const struct qm_proven *proven, bool proposed,
                             const struct store_dispute *d, struct qm_fault *fault)
{
    char subject[80 + QM_ID_MAX], detail[256 + 6 * QM_ID_MAX];
    struct qm_out key = qm_out_init(subject, sizeof subject), text = qm_out_init(detail, sizeof detail - 1);
    struct qm_alert_raised raised;
    struct qm_ledger l;
    qm_err err = qm_store_ledger_get(s, d->slot, &l, fault);
    if (err != QM_OK)
        return err;
    const bool of_ek = d->what == STORE_EK_OF_OTHER;
    const bool has_ek = proven != NULL && proven->has_ek;
    if (proposed && has_ek)
        describe_key(&key, d->what == STORE_OTHER_KEY ? "proposed " : of_ek ? "proposed ek " : "proposed ak ", proven->ek);
    else
        describe_key(&key, of_ek ? "ek " : "", of_ek ? proven->ek : e->key_digest);
    describe_key(&text, of_ek ? "{\"ek\":\"" : "{\"key\":\"", of_ek ? proven->ek : e->key_digest);
    qm_out_char(&text, '"');
    if (d->what != STORE_OTHER_KEY) {
        const struct qm_span id = {e->id, e->id_len};
        if (!proposed) {
            qm_out_char(&key, ' ');
            qm_out_bytes(&key, id.p, id.len);
        }
        qm_out_text(&text, ",\"claimed_as\":");
        qm_out_json_string(&text, id);
    }
    if (has_ek) {
        describe_key(&text, ",\"by_ek\":\"", proven->ek);
        qm_out_text(&text, proposed ? "\",\"by\":\"proposal\"" : "\",\"by\":\"tpm\"");
    }
    qm_out_char(&text, '}');
    detail[text.len] = '\0';
    const struct qm_alert_new a = {.kind = QM_ALERT_KEY_CONFLICT, .slot = d->slot, .group_no = l.group, .detail = detail, .at_ms = s->now_ms,
                                   .subject = {(const uint8_t *)subject, key.len}, .restarts = l.last.reset,
                                   .alone_max = proposed ? PROPOSED_ALONE_MAX : 0, .apart = !proposed};
    err = qm_alert_raise(s, &a, &raised, fault);
    l.flags |= QM_LEDGER_ALERTS;
    return err == QM_OK ? qm_store_ledger_put(s, d->slot, &l, fault) : err;
}

/* What the instance asks for now, beside what the line asks for. */
static qm_err compare_demands(struct qm_store *s, const struct qm_enrolment *e, uint64_t slot, bool new_key, bool proven, struct store_dispute *d,
                              struct qm_fault *fault)
{
    struct qm_profile profile;
    const struct qm_policy *had, *has;
    char why[QM_WEAKER_MAX];
    sqlite3_stmt *st = store_sql(s,
                                 "SELECT p.content, a.made, i.nonce IS NOT NULL, i.require_log, i.grp, (SELECT h.how FROM ak_history h"
                                 " WHERE h.slot = i.slot AND h.until_ms IS NULL) FROM instance i JOIN profile p ON p.no = i.profile"
                                 " JOIN ak a ON a.no = i.ak WHERE i.slot = ?1",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)slot);
    if (sqlite3_step(st) != SQLITE_ROW)
        return store_fail(s, fault, "reading an instance");
    const void *made = sqlite3_column_blob(st, 1);
    const size_t made_len = (size_t)sqlite3_column_bytes(st, 1);
    _Alignas(QM_CACHE_LINE) uint8_t key[QM_KEY_BYTES_MAX];
    const bool sound = sqlite3_column_bytes(st, 0) == sizeof profile && made_len <= sizeof key && made_len != 0;
    if (sound) {
        memcpy(&profile, sqlite3_column_blob(st, 0), sizeof profile);
        memcpy(key, made, made_len);
    }
    const char *group = (const char *)sqlite3_column_text(st, 4), *how = (const char *)sqlite3_column_text(st, 5);
    struct qm_demands was = {.profile = &profile,
                             .key = (const struct qm_key *)(const void *)key,
                             .nonce = sqlite3_column_int(st, 2) != 0,
                             .require_log = sqlite3_column_int(st, 3) != 0,
                             .proven = how != NULL && strcmp(how, qm_how_name(QM_HOW_FILE)) != 0};
    qm_err err = qm_store_policy(s, group != NULL ? group : "", group != NULL ? strlen(group) : 0, &had, fault);
    sqlite3_reset(st);
    if (err == QM_OK && (!sound || !qm_key_sound(was.key, made_len)))
        err = qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is damaged: an instance's key or profile", s->home);
    if (err == QM_OK)
        err = qm_store_policy(s, (const char *)e->group, e->group_len, &has, fault);
    if (err != QM_OK)
        return err;
    was.ignored = had->class_ignored;
    was.beacon = had->freshness == QM_FRESHNESS_BEACON;
    const struct qm_demands now = {.profile = &e->profile,
                                   .key = qm_enrolment_key(e),
                                   .ignored = has->class_ignored,
                                   .nonce = e->has_nonce,
                                   .require_log = e->require_log,
                                   .beacon = has->freshness == QM_FRESHNESS_BEACON,
                                   .proven = proven || (was.proven && !new_key)};
    if (qm_weaker(&was, &now, why)) {
        d->what = STORE_WEAKER;
        d->slot = slot;
        memcpy(d->why, why, sizeof why);
    }
    return QM_OK;
}

qm_err store_enrolment_note(struct qm_store *s, const struct qm_enrolment *e, const struct store_dispute *d, const char *reason, bool taken,
                            struct qm_fault *fault)
{
    char why[QM_WEAKER_MAX + 512];
    const bool weaker = d->what == STORE_WEAKER;
    sqlite3_stmt *st = store_sql(s,
                                 "INSERT INTO journal(at_ms, who, what, subject, why) SELECT ?1, ?2, ?3, ?4, ?5 WHERE ?6 OR NOT EXISTS"
                                 " (SELECT 1 FROM journal WHERE subject = ?4 AND what = ?3 AND why = ?5)",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    snprintf(why, sizeof why, "%s%s%s", weaker ? d->why : "", weaker && reason != NULL ? ": " : "", reason != NULL ? reason : "");
    sqlite3_bind_int64(st, 1, (sqlite3_int64)s->now_ms);
    sqlite3_bind_text(st, 2, s->who, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 3, !taken ? "weaker enrolment refused" : weaker ? "weaker enrolment" : "proven enrolment", -1, SQLITE_STATIC);
    store_bind_id(st, 4, e);
    sqlite3_bind_text(st, 5, why, -1, SQLITE_STATIC);
    sqlite3_bind_int(st, 6, taken);
    return store_run(s, st, fault);
}

/* Another instance that has the number as its present key, or this EK behind it; 0: there is none. */
static qm_err other_with_ak(struct qm_store *s, const struct qm_enrolment *e, uint64_t ak, uint64_t *slot, struct qm_fault *fault)
{
    bool found;
    sqlite3_stmt *st = store_statement(s, S_AK_USED, fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)ak);
    store_bind_id(st, 2, e);
    return store_number(s, st, slot, &found, fault);
}

static qm_err other_with_ek(struct qm_store *s, const struct qm_enrolment *e, const uint8_t ek[32], uint64_t *slot, struct qm_fault *fault)
{
    bool found;
    sqlite3_stmt *st = store_sql(s,
                                 "SELECT h.slot FROM ak_history h JOIN instance i ON i.slot = h.slot"
                                 " WHERE h.ek = ?1 AND h.until_ms IS NULL AND i.id <> ?2 LIMIT 1",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_blob(st, 1, ek, 32, SQLITE_STATIC);
    store_bind_id(st, 2, e);
    return store_number(s, st, slot, &found, fault);
}

static qm_err refuse(const struct store_dispute *d, struct qm_fault *fault)
{
    if (d->what == STORE_WEAKER)
        return qm_fail(fault, QM_E_REFUSED, 0, "it weakens the instance: %s (--allow-weaker takes it)", d->why);
    return qm_fail(fault, QM_E_REFUSED, 0, "%s", objections[d->what]);
}

qm_err store_object(struct qm_store *s, const struct qm_enrolment *e, const struct qm_enroll_options *options,
                    const struct store_present *present, uint64_t ak, struct store_dispute *d, struct qm_fault *fault)
{
    const struct qm_proven *proven = options->proven;
    const bool new_key = !present->found || present->ak != ak;
    qm_err err = QM_OK;
    *d = (struct store_dispute){0};
    if (present->found && new_key && !options->replace_key) {
        *d = (struct store_dispute){.what = STORE_OTHER_KEY, .slot = present->slot};
        return refuse(d, fault);
    }
    if (options->unique_keys || proven != NULL)
        err = other_with_ak(s, e, ak, &d->slot, fault);
    if (err == QM_OK && d->slot != 0 && proven == NULL)
        return qm_fail(fault, QM_E_REFUSED, 0, "%s (--unique-keys)", objections[STORE_AK_OF_OTHER]);
    d->what = d->slot != 0 ? STORE_AK_OF_OTHER : STORE_NO_OBJECTION;
    if (err == QM_OK && d->slot == 0 && proven != NULL && proven->has_ek) {
        err = other_with_ek(s, e, proven->ek, &d->slot, fault);
        d->what = d->slot != 0 ? STORE_EK_OF_OTHER : STORE_NO_OBJECTION;
    }
    if (err == QM_OK && d->slot == 0 && present->found)
        err = compare_demands(s, e, present->slot, new_key, proven != NULL, d, fault);
    if (err != QM_OK || d->what == STORE_NO_OBJECTION)
        return err;
    const bool taken = d->what == STORE_WEAKER && (proven == NULL || proven->allow_weaker);
    return taken ? QM_OK : refuse(d, fault);
}

qm_err store_dispute_keep(struct qm_store *s, const struct qm_enrolment *e, const struct qm_proven *proven, bool proposed,
                          const struct store_dispute *d, struct qm_fault *fault)
{
    return d->what == STORE_WEAKER ? store_enrolment_note(s, e, d, NULL, false, fault) : raise_conflict(s, e, proven, proposed, d, fault);
}
