/* Taking enrolments: lines of files (contract, section 2), and what a ceremony proved. */
#include <stdio.h>

#include "codec/text.h"
#include "tools/store/store_alerts.h"
#include "tools/store/store_enroll_inside.h"

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
    sqlite3_bind_int64(st, 3, store_values_hash(e->baseline_mask, value, 32 * (size_t)n));
}

qm_err qm_store_line_known(struct qm_store *s, const struct qm_enrolment *e, const uint8_t line_digest[32], bool *known,
                           struct qm_fault *fault)
{
    uint64_t one;
    sqlite3_stmt *st = store_statement(s, S_LINE, fault);
    if (st == NULL)
        return QM_E_STORE;
    store_bind_id(st, 1, e);
    sqlite3_bind_blob(st, 2, line_digest, 32, SQLITE_STATIC);
    return store_number(s, st, &one, known, fault);
}

static qm_err find_present(struct qm_store *s, const struct qm_enrolment *e, struct store_present *out, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_statement(s, S_INSTANCE, fault);
    *out = (struct store_present){0};
    if (st == NULL)
        return QM_E_STORE;
    store_bind_id(st, 1, e);
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

static qm_err write_instance(struct qm_store *s, const struct qm_enrolment *e, bool insert, uint64_t ak, uint64_t profile,
                             const uint8_t line_digest[32], struct qm_fault *fault)
{
    sqlite3_stmt *st = store_statement(s, insert ? S_INSERT : S_UPDATE, fault);
    if (st == NULL)
        return QM_E_STORE;
    store_bind_id(st, 1, e);
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
        sqlite3_bind_int64(st, 10, (sqlite3_int64)proven->anchor);
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

static qm_err end_conflicts(struct qm_store *s, uint64_t slot, struct qm_fault *fault)
{
    uint64_t left, closed;
    return qm_alert_resolve(s, slot, 1u << QM_ALERT_KEY_CONFLICT, s->now_ms, UINT32_MAX, &left, &closed, fault);
}

/* check: no more than that. */
static qm_err enroll(struct qm_store *s, const struct qm_enrolment *e, const uint8_t line_digest[32],
                     const struct qm_enroll_options *options, bool check, enum qm_enrolled *what, struct store_dispute *d, struct qm_fault *fault)
{
    struct store_present present;
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
        err = store_object(s, e, options, &present, ak, d, fault);
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
    if (err == QM_OK && (d->what == STORE_WEAKER || reason != NULL))
        err = store_enrolment_note(s, e, d, reason, true, fault);
    if (err == QM_OK && e->baseline_mask != 0)
        err = add_baseline(s, slot, e, fault);
    /* Last, as it is not undone with a refused line: its block may be in hand for the lines before. */
    if (err == QM_OK)
        err = write_ledger(s, slot, ak, group_no, nonce_print(e), present.found, fault);
    *what = !present.found ? QM_ENROLLED_NEW : new_key ? QM_ENROLLED_KEY_REPLACED : QM_ENROLLED_CHANGED;
    s->changed |= err == QM_OK;
    if (err == QM_OK && d->what == STORE_WEAKER && options->weaker != NULL)
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
    struct store_dispute d = {0};
    qm_err err = step(s, S_SAVEPOINT, fault);
    if (err != QM_OK)
        return err;
    err = enroll(s, e, line_digest, options, check, what, &d, fault);
    qm_err undone = err == QM_OK && !check ? QM_OK : step(s, S_ROLLBACK_TO, NULL);
    qm_err released = step(s, S_RELEASE, err == QM_OK ? fault : NULL);
    if ((err == QM_OK || err == QM_E_REFUSED) && (undone != QM_OK || released != QM_OK))
        return store_fail(s, fault, "undoing a refused line");
    if (err != QM_E_REFUSED || d.what == STORE_NO_OBJECTION)
        return err;
    struct qm_fault of_dispute = {0};
    qm_err kept = store_dispute_keep(s, e, options->proven, check, &d, &of_dispute);
    if (kept != QM_OK && fault != NULL)
        *fault = of_dispute;
    return kept == QM_OK ? err : kept;
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
