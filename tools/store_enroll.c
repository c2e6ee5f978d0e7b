/* Taking enrolments: lines of files (contract, section 2), and what a ceremony proved. */
#include <stdio.h>

#include "codec/text.h"
#include "tools/store_alerts.h"
#include "tools/store_inside.h"
#include "tools/weaker.h"

const char *qm_how_name(enum qm_how how)
{
    static const char *const names[] = {"file", "credential", "certificate"};
    return names[how];
}

/* Finds or inserts a row that stands once by content. bind sets what it is found by, and all of it where all is true. */
static qm_err once(struct qm_store *s, unsigned find, unsigned insert, void (*bind)(sqlite3_stmt *st, const void *what, bool all),
                   const void *what, uint64_t *no, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_statement(s, find, fault);
    bool found;
    if (st == NULL)
        return QM_E_STORE;
    bind(st, what, false);
    qm_err err = store_number(s, st, no, &found, fault);
    if (err != QM_OK || found)
        return err;
    st = store_statement(s, insert, fault);
    if (st == NULL)
        return QM_E_STORE;
    bind(st, what, true);
    err = store_run(s, st, fault);
    *no = (uint64_t)sqlite3_last_insert_rowid(s->db);
    return err;
}

static void bind_ak(sqlite3_stmt *st, const void *what, bool all)
{
    const struct qm_enrolment *e = what;
    sqlite3_bind_blob(st, 1, e->key_digest, sizeof e->key_digest, SQLITE_STATIC);
    if (all)
        sqlite3_bind_blob(st, 2, e->key, (int)qm_enrolment_key(e)->bytes, SQLITE_STATIC);
}

static void bind_profile(sqlite3_stmt *st, const void *what, bool all)
{
    const struct qm_enrolment *e = what;
    (void)all;
    sqlite3_bind_blob(st, 1, &e->profile, sizeof e->profile, SQLITE_STATIC);
}

static void bind_values(sqlite3_stmt *st, const void *what, bool all)
{
    const struct qm_enrolment *e = what;
    uint8_t value[QM_PCR_COUNT][32];
    int n = 0;
    (void)all;
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        if ((e->baseline_mask >> pcr & 1) != 0)
            memcpy(value[n++], e->baseline[pcr], 32);
    sqlite3_bind_int64(st, 1, e->baseline_mask);
    sqlite3_bind_blob(st, 2, value, 32 * n, SQLITE_TRANSIENT);
}

static void bind_id(sqlite3_stmt *st, int at, const struct qm_enrolment *e)
{
    sqlite3_bind_text(st, at, (const char *)e->id, (int)e->id_len, SQLITE_STATIC);
}

qm_err qm_store_line_known(struct qm_store *s, const struct qm_enrolment *e, const uint8_t line_digest[32], bool *known,
                           struct qm_fault *fault)
{
    uint64_t one;
    sqlite3_stmt *st = store_statement(s, S_LINE, fault);
    if (st == NULL)
        return QM_E_STORE;
    bind_id(st, 1, e);
    sqlite3_bind_blob(st, 2, line_digest, 32, SQLITE_STATIC);
    return store_number(s, st, &one, known, fault);
}

/* The instance as it is. */
struct present {
    bool found;
    uint64_t slot, ak;
};

static qm_err find_present(struct qm_store *s, const struct qm_enrolment *e, struct present *out, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_statement(s, S_INSTANCE, fault);
    *out = (struct present){0};
    if (st == NULL)
        return QM_E_STORE;
    bind_id(st, 1, e);
    int rc = sqlite3_step(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return store_fail(s, fault, "reading it");
    out->found = rc == SQLITE_ROW;
    if (out->found) {
        out->slot = (uint64_t)sqlite3_column_int64(st, 0);
        out->ak = (uint64_t)sqlite3_column_int64(st, 1);
    }
    sqlite3_reset(st);
    return QM_OK;
}

/* Another instance that has the number as its present key, or this EK behind it; 0: there is none. */
static qm_err other_with_ak(struct qm_store *s, const struct qm_enrolment *e, uint64_t ak, uint64_t *slot, struct qm_fault *fault)
{
    bool found;
    sqlite3_stmt *st = store_statement(s, S_AK_USED, fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)ak);
    bind_id(st, 2, e);
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
    bind_id(st, 2, e);
    return store_number(s, st, slot, &found, fault);
}

static qm_err write_instance(struct qm_store *s, const struct qm_enrolment *e, bool insert, uint64_t ak, uint64_t profile,
                             const uint8_t line_digest[32], struct qm_fault *fault)
{
    sqlite3_stmt *st = store_statement(s, insert ? S_INSERT : S_UPDATE, fault);
    if (st == NULL)
        return QM_E_STORE;
    bind_id(st, 1, e);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)ak);
    sqlite3_bind_int64(st, 3, (sqlite3_int64)profile);
    if (e->has_nonce)
        sqlite3_bind_blob(st, 4, e->nonce, (int)e->nonce_len, SQLITE_STATIC); /* of no bytes: a blob, not NULL */
    sqlite3_bind_int(st, 5, e->require_log);
    if (e->has_group)
        sqlite3_bind_text(st, 6, (const char *)e->group, (int)e->group_len, SQLITE_STATIC);
    if (e->tags_len != 0)
        sqlite3_bind_text(st, 7, e->tags, (int)e->tags_len, SQLITE_STATIC);
    sqlite3_bind_blob(st, 8, line_digest, 32, SQLITE_STATIC);
    sqlite3_bind_int64(st, 9, (sqlite3_int64)s->now_ms);
    sqlite3_bind_int64(st, 10, (sqlite3_int64)s->generation);
    return store_run(s, st, fault);
}

/* Who gave the instance which key, since when, and what proves it. A key that is there already keeps its row, and what was proven of it:
 * a line of a file takes nothing away from a key. */
static qm_err write_history(struct qm_store *s, uint64_t slot, uint64_t ak, bool new_key, bool replaced, const struct qm_proven *proven,
                            struct qm_fault *fault)
{
    if (replaced) {
        sqlite3_stmt *end = store_statement(s, S_AK_HISTORY_END, fault);
        if (end == NULL)
            return QM_E_STORE;
        sqlite3_bind_int64(end, 1, (sqlite3_int64)slot);
        sqlite3_bind_int64(end, 2, (sqlite3_int64)s->now_ms);
        qm_err err = store_run(s, end, fault);
        if (err != QM_OK)
            return err;
    }
    if (!new_key && proven == NULL)
        return QM_OK;
    sqlite3_stmt *st = store_statement(s, new_key ? S_AK_HISTORY_ADD : S_AK_HISTORY_PROVE, fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)slot);
    if (new_key) {
        sqlite3_bind_int64(st, 2, (sqlite3_int64)ak);
        sqlite3_bind_int64(st, 3, (sqlite3_int64)s->now_ms);
        sqlite3_bind_text(st, 4, s->who, -1, SQLITE_STATIC);
        sqlite3_bind_int64(st, 5, (sqlite3_int64)s->generation);
    }
    sqlite3_bind_text(st, 6, qm_how_name(proven != NULL ? proven->how : QM_HOW_FILE), -1, SQLITE_STATIC);
    if (proven != NULL) {
        if (proven->has_ek)
            sqlite3_bind_blob(st, 7, proven->ek, sizeof proven->ek, SQLITE_STATIC);
        sqlite3_bind_text(st, 8, proven->bound, -1, SQLITE_STATIC);
        sqlite3_bind_int64(st, 9, (sqlite3_int64)s->now_ms);
    }
    return store_run(s, st, fault);
}

/* A baseline that the instance never had becomes a set; one that it has or had, even ended, changes nothing. */
static qm_err add_baseline(struct qm_store *s, uint64_t slot, const struct qm_enrolment *e, struct qm_fault *fault)
{
    uint64_t values, number;
    bool found;
    qm_err err = once(s, S_VALUES_FIND, S_VALUES_INSERT, bind_values, e, &values, fault);
    if (err != QM_OK)
        return err;
    sqlite3_stmt *st = store_statement(s, S_BASELINE_KNOWN, fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)slot);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)values);
    err = store_number(s, st, &number, &found, fault);
    if (err != QM_OK || found)
        return err;
    st = store_statement(s, S_BASELINE_LIVE, fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)slot);
    err = store_number(s, st, &number, &found, fault);
    if (err != QM_OK)
        return err;
    if (number >= QM_SET_MAX)
        return qm_fail(fault, QM_E_REFUSED, 0, "the instance has %d live accepted sets already; end one first", QM_SET_MAX);
    st = store_statement(s, S_BASELINE_INSERT, fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)slot);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)values);
    sqlite3_bind_text(st, 3, s->who, -1, SQLITE_STATIC);
    sqlite3_bind_int64(st, 4, (sqlite3_int64)s->now_ms);
    return store_run(s, st, fault);
}

/* A number for the group, and that something is left to compare there. */
static qm_err take_group(struct qm_store *s, const struct qm_enrolment *e, uint32_t *group_no, struct qm_fault *fault)
{
    const struct qm_policy *policy;
    *group_no = 0;
    if (!e->has_group)
        return QM_OK;
    qm_err err = store_group_no(s, (const char *)e->group, e->group_len, true, group_no, fault);
    if (err == QM_OK)
        err = qm_store_policy(s, (const char *)e->group, e->group_len, &policy, fault);
    if (err == QM_OK && (e->profile.baselined & ~policy->class_ignored) == 0)
        return qm_fail(fault, QM_E_REFUSED, 0, "the group ignores every PCR that is baselined");
    return err;
}

/* 31 bits that tell whether the nonce of an instance is still the same (FNV-1a); never 0 for a nonce. */
static uint32_t nonce_print(const struct qm_enrolment *e)
{
    uint32_t h = 2166136261u;
    if (!e->has_nonce)
        return 0;
    for (size_t i = 0; i < e->nonce_len; i++)
        h = (h ^ e->nonce[i]) * 16777619u;
    h &= ~QM_LEDGER_NONCE_USED;
    return h != 0 ? h : 1;
}

/* The instance's entry in the ledger: begun with it; another key begins the TPM's sequence anew, and what was judged is judged again
 * by the sets that it has now. */
static qm_err write_ledger(struct qm_store *s, uint64_t slot, uint64_t ak, uint32_t group_no, uint32_t nonce, bool found,
                           struct qm_fault *fault)
{
    struct qm_ledger l;
    struct qm_rejudged rejudged;
    qm_err err = qm_store_ledger_get(s, slot, &l, fault);
    if (err != QM_OK)
        return err;
    if (!found) {
        memset(&l, 0, sizeof l);
        l.enrolled_s = (uint32_t)(s->now_ms / 1000);
    }
    if (l.ak != ak)
        qm_ledger_rekey(&l, (uint32_t)ak);
    if (l.group != group_no && l.set_a != 0 && l.set_b != 0)
        l.flags &= (uint8_t)~QM_LEDGER_PROVEN; /* the other group's classes say which values are whose */
    l.group = group_no;
    if ((l.nonce & ~QM_LEDGER_NONCE_USED) != nonce)
        l.nonce = nonce;
    err = qm_store_ledger_put(s, slot, &l, fault);
    return err == QM_OK && found ? qm_store_rejudge(s, slot, NULL, &rejudged, fault) : err;
}

/* ---- what speaks against it ---------------------------------------------------------------------------------------------- */

enum objection { NO_OBJECTION, OTHER_KEY, AK_OF_OTHER, EK_OF_OTHER, WEAKER };
static const char *const objections[] = {
    [OTHER_KEY] = "the id is enrolled with another AK (--replace-key changes it)",
    [AK_OF_OTHER] = "another id has this AK already",
    [EK_OF_OTHER] = "another id has this EK already",
};

/* slot: whose place is disputed, or is to be weakened. */
struct dispute {
    enum objection what;
    uint64_t slot;
    char why[QM_WEAKER_MAX];
};

static void describe_key(struct qm_out *o, const char *name, const uint8_t *digest)
{
    qm_out_text(o, name);
    qm_out_hex(o, digest, 32);
}

/* Somebody says that an enrolled id has another key, or that its key or EK is another id's: one row for each key and claim. Only a
 * person, or the key's replacement, ends it. */
static qm_err raise_conflict(struct qm_store *s, const struct qm_enrolment *e, const struct qm_proven *proven, const struct dispute *d,
                             struct qm_fault *fault)
{
    char subject[80 + QM_ID_MAX], detail[256 + 6 * QM_ID_MAX];
    struct qm_out key = qm_out_init(subject, sizeof subject), text = qm_out_init(detail, sizeof detail - 1);
    struct qm_alert_raised raised;
    struct qm_ledger l;
    qm_err err = qm_store_ledger_get(s, d->slot, &l, fault);
    if (err != QM_OK)
        return err;
    const bool of_ek = d->what == EK_OF_OTHER;
    describe_key(&key, of_ek ? "ek " : "", of_ek ? proven->ek : e->key_digest);
    describe_key(&text, of_ek ? "{\"ek\":\"" : "{\"key\":\"", of_ek ? proven->ek : e->key_digest);
    qm_out_char(&text, '"');
    if (d->what != OTHER_KEY) {
        const struct qm_span id = {e->id, e->id_len};
        qm_out_char(&key, ' ');
        qm_out_bytes(&key, id.p, id.len);
        qm_out_text(&text, ",\"claimed_as\":");
        qm_out_json_string(&text, id);
    }
    qm_out_char(&text, '}');
    detail[text.len] = '\0';
    const struct qm_alert_new a = {.kind = QM_ALERT_KEY_CONFLICT, .slot = d->slot, .group_no = l.group, .detail = detail, .at_ms = s->now_ms,
                                   .subject = {(const uint8_t *)subject, key.len}, .restarts = l.last.reset};
    err = qm_alert_raise(s, &a, &raised, fault);
    l.flags |= QM_LEDGER_ALERTS;
    return err == QM_OK ? qm_store_ledger_put(s, d->slot, &l, fault) : err;
}

/* What the instance asks for now, beside what the line asks for. */
static qm_err compare_demands(struct qm_store *s, const struct qm_enrolment *e, uint64_t slot, bool new_key, bool proven, struct dispute *d,
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
        d->what = WEAKER;
        d->slot = slot;
        memcpy(d->why, why, sizeof why);
    }
    return QM_OK;
}

/* In the history of the instance: what it was weakened in, or was not (the same refusal once), and what a person said for it. */
static qm_err note(struct qm_store *s, const struct qm_enrolment *e, const struct dispute *d, const char *reason, bool taken,
                   struct qm_fault *fault)
{
    char why[QM_WEAKER_MAX + 512];
    const bool weaker = d->what == WEAKER;
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
    bind_id(st, 4, e);
    sqlite3_bind_text(st, 5, why, -1, SQLITE_STATIC);
    sqlite3_bind_int(st, 6, taken);
    return store_run(s, st, fault);
}

static qm_err end_conflicts(struct qm_store *s, uint64_t slot, struct qm_fault *fault)
{
    uint64_t left, closed;
    return qm_alert_resolve(s, slot, 1u << QM_ALERT_KEY_CONFLICT, s->now_ms, UINT32_MAX, &left, &closed, fault);
}

static qm_err refuse(const struct dispute *d, struct qm_fault *fault)
{
    if (d->what == WEAKER)
        return qm_fail(fault, QM_E_REFUSED, 0, "it weakens the instance: %s (--allow-weaker takes it)", d->why);
    return qm_fail(fault, QM_E_REFUSED, 0, "%s", objections[d->what]);
}

/* Looks for what speaks against it. A ceremony proves one TPM for one id, so there keys and EKs are one id's; a line of a file may share
 * an AK and may weaken its instance, and it is only noted. */
static qm_err object(struct qm_store *s, const struct qm_enrolment *e, const struct qm_enroll_options *options, const struct present *present,
                     uint64_t ak, struct dispute *d, struct qm_fault *fault)
{
    const struct qm_proven *proven = options->proven;
    const bool new_key = !present->found || present->ak != ak;
    qm_err err = QM_OK;
    *d = (struct dispute){0};
    if (present->found && new_key && !options->replace_key) {
        *d = (struct dispute){.what = OTHER_KEY, .slot = present->slot};
        return refuse(d, fault);
    }
    if (options->unique_keys || proven != NULL)
        err = other_with_ak(s, e, ak, &d->slot, fault);
    if (err == QM_OK && d->slot != 0 && proven == NULL)
        return qm_fail(fault, QM_E_REFUSED, 0, "%s (--unique-keys)", objections[AK_OF_OTHER]);
    d->what = d->slot != 0 ? AK_OF_OTHER : NO_OBJECTION;
    if (err == QM_OK && d->slot == 0 && proven != NULL && proven->has_ek) {
        err = other_with_ek(s, e, proven->ek, &d->slot, fault);
        d->what = d->slot != 0 ? EK_OF_OTHER : NO_OBJECTION;
    }
    if (err == QM_OK && d->slot == 0 && present->found)
        err = compare_demands(s, e, present->slot, new_key, proven != NULL, d, fault);
    if (err != QM_OK || d->what == NO_OBJECTION)
        return err;
    const bool taken = d->what == WEAKER && (proven == NULL || proven->allow_weaker);
    return taken ? QM_OK : refuse(d, fault);
}

/* check: no more than that. */
static qm_err enroll(struct qm_store *s, const struct qm_enrolment *e, const uint8_t line_digest[32],
                     const struct qm_enroll_options *options, bool check, enum qm_enrolled *what, struct dispute *d, struct qm_fault *fault)
{
    struct present present;
    uint64_t ak, profile;
    uint32_t group_no;
    qm_err err = find_present(s, e, &present, fault);
    if (err == QM_OK)
        err = take_group(s, e, &group_no, fault);
    if (err == QM_OK)
        err = once(s, S_AK_FIND, S_AK_INSERT, bind_ak, e, &ak, fault);
    if (err == QM_OK)
        err = once(s, S_PROFILE_FIND, S_PROFILE_INSERT, bind_profile, e, &profile, fault);
    if (err == QM_OK)
        err = object(s, e, options, &present, ak, d, fault);
    if (err != QM_OK || check)
        return err;
    const bool new_key = !present.found || present.ak != ak;
    err = write_instance(s, e, !present.found, ak, profile, line_digest, fault);
    if (err != QM_OK)
        return err;
    const uint64_t slot = present.found ? present.slot : (uint64_t)sqlite3_last_insert_rowid(s->db);
    err = write_history(s, slot, ak, new_key, new_key && present.found, options->proven, fault);
    if (err == QM_OK && new_key && present.found)
        err = end_conflicts(s, slot, fault);
    const char *reason = options->proven != NULL ? options->proven->reason : NULL;
    if (err == QM_OK && (d->what == WEAKER || reason != NULL))
        err = note(s, e, d, reason, true, fault);
    if (err == QM_OK && e->baseline_mask != 0)
        err = add_baseline(s, slot, e, fault);
    /* Last, as it is not undone with a refused line: its block may be in hand for the lines before. */
    if (err == QM_OK)
        err = write_ledger(s, slot, ak, group_no, nonce_print(e), present.found, fault);
    *what = !present.found ? QM_ENROLLED_NEW : new_key ? QM_ENROLLED_KEY_REPLACED : QM_ENROLLED_CHANGED;
    s->changed |= err == QM_OK;
    if (err == QM_OK && d->what == WEAKER && options->weaker != NULL)
        ++*options->weaker;
    return err;
}

static qm_err step(struct qm_store *s, unsigned which, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_statement(s, which, fault);
    return st == NULL ? QM_E_STORE : store_run(s, st, fault);
}

static qm_err enroll_or_undo(struct qm_store *s, const struct qm_enrolment *e, const uint8_t line_digest[32],
                             const struct qm_enroll_options *options, bool check, enum qm_enrolled *what, struct qm_fault *fault)
{
    /* A refusal half-way (too many sets) leaves nothing of its line. */
    struct dispute d = {0};
    qm_err err = step(s, S_SAVEPOINT, fault);
    if (err != QM_OK)
        return err;
    err = enroll(s, e, line_digest, options, check, what, &d, fault);
    qm_err undone = err == QM_OK && !check ? QM_OK : step(s, S_ROLLBACK_TO, NULL);
    qm_err released = step(s, S_RELEASE, err == QM_OK ? fault : NULL);
    if ((err == QM_OK || err == QM_E_REFUSED) && (undone != QM_OK || released != QM_OK))
        return store_fail(s, fault, "undoing a refused line");
    if (err != QM_E_REFUSED || d.what == NO_OBJECTION)
        return err;
    struct qm_fault of_alert = {0};
    qm_err noted = d.what == WEAKER ? note(s, e, &d, NULL, false, &of_alert) : raise_conflict(s, e, options->proven, &d, &of_alert);
    if (noted != QM_OK && fault != NULL)
        *fault = of_alert;
    return noted == QM_OK ? err : noted;
}

qm_err qm_store_enroll(struct qm_store *s, const struct qm_enrolment *e, const uint8_t line_digest[32],
                       const struct qm_enroll_options *options, enum qm_enrolled *what, struct qm_fault *fault)
{
    return enroll_or_undo(s, e, line_digest, options, false, what, fault);
}

qm_err qm_store_enroll_check(struct qm_store *s, const struct qm_enrolment *e, const struct qm_enroll_options *options,
                             struct qm_fault *fault)
{
    static const uint8_t no_digest[32];
    enum qm_enrolled what;
    return enroll_or_undo(s, e, no_digest, options, true, &what, fault);
}

qm_err qm_store_shared_keys(struct qm_store *s, uint64_t *count, struct qm_fault *fault)
{
    sqlite3_stmt *st = NULL;
    bool found;
    if (sqlite3_prepare_v2(s->db,
                           "SELECT ifnull(sum(n), 0) FROM (SELECT count(*) AS n FROM instance GROUP BY ak HAVING n > 1)", -1, &st,
                           NULL) != SQLITE_OK)
        return store_fail(s, fault, "reading it");
    qm_err err = store_number(s, st, count, &found, fault);
    sqlite3_finalize(st);
    return err;
}
