#include "tools/store/store_ceremony.h"

#include <stdio.h>

#include "codec/text.h"
#include "tools/store/store_alerts.h"
#include "tools/store/store_inside.h"

#define COLUMNS "no, name, id, state, proof, ek, bound, line, who, made_ms, until_ms, answered_ms, anchor"

qm_err qm_store_anchor(struct qm_store *s, const struct qm_anchor *a, uint64_t *no, struct qm_fault *fault)
{
    bool found;
    *no = 0;
    if (!a->known)
        return QM_OK;
    sqlite3_stmt *st = store_sql(s, "INSERT INTO anchor(digest, subject) VALUES(?1, ?2) ON CONFLICT(digest) DO NOTHING", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_blob(st, 1, a->sha256, sizeof a->sha256, SQLITE_STATIC);
    sqlite3_bind_text(st, 2, a->subject, -1, SQLITE_STATIC);
    qm_err err = store_run(s, st, fault);
    st = err == QM_OK ? store_sql(s, "SELECT no FROM anchor WHERE digest = ?1", fault) : NULL;
    if (st == NULL)
        return err == QM_OK ? QM_E_STORE : err;
    sqlite3_bind_blob(st, 1, a->sha256, sizeof a->sha256, SQLITE_STATIC);
    return store_number(s, st, no, &found, fault);
}

qm_err qm_store_anchor_get(struct qm_store *s, uint64_t no, struct qm_anchor *out, struct qm_fault *fault)
{
    *out = (struct qm_anchor){0};
    sqlite3_stmt *st = store_sql(s, "SELECT digest, subject FROM anchor WHERE no = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)no);
    const int rc = sqlite3_step(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return store_fail(s, fault, "reading a CA");
    const void *digest = rc == SQLITE_ROW ? sqlite3_column_blob(st, 0) : NULL;
    const char *subject = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(st, 1) : NULL;
    out->known = digest != NULL && sqlite3_column_bytes(st, 0) == (int)sizeof out->sha256 && subject != NULL;
    if (out->known) {
        memcpy(out->sha256, digest, sizeof out->sha256);
        snprintf(out->subject, sizeof out->subject, "%s", subject);
    }
    sqlite3_reset(st);
    return QM_OK;
}

qm_err qm_store_challenges_room(struct qm_store *s, unsigned more, struct qm_fault *fault)
{
    uint64_t n;
    bool found;
    sqlite3_stmt *st = store_sql(s, "SELECT count(*) FROM challenge", fault);
    qm_err err = st == NULL ? QM_E_STORE : store_number(s, st, &n, &found, fault);
    return err == QM_OK && n + more > QM_CHALLENGES_MAX ? qm_fail(fault, QM_E_LIMIT, 0, "%llu challenges wait already", (unsigned long long)n)
                                                        : err;
}

/* A machine that proposes the same again, because a file was lost, say, leaves one challenge. Another key under its id and EK, which
 * anybody can propose, takes nothing from it. */
static qm_err replace(struct qm_store *s, const struct qm_challenge *c, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "DELETE FROM challenge WHERE id = ?1 AND ek = ?2 AND line = ?3 AND state = 0", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_text(st, 1, (const char *)c->id.p, (int)c->id.len, SQLITE_STATIC);
    sqlite3_bind_blob(st, 2, c->ek, sizeof c->ek, SQLITE_STATIC);
    sqlite3_bind_text(st, 3, (const char *)c->line.p, (int)c->line.len, SQLITE_STATIC);
    return store_run(s, st, fault);
}

/* Of those of an EK that are not answered, and of those that are used, the newest stay, and room for one more. */
static qm_err make_room(struct qm_store *s, const struct qm_challenge *c, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s,
                                 "DELETE FROM challenge WHERE no IN (SELECT no FROM (SELECT no, row_number() OVER (PARTITION BY state"
                                 " ORDER BY no DESC) AS n FROM challenge WHERE ek = ?1 AND state <> 1) WHERE n >= ?2)",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_blob(st, 1, c->ek, sizeof c->ek, SQLITE_STATIC);
    sqlite3_bind_int(st, 2, QM_CHALLENGES_OF_EK);
    return store_run(s, st, fault);
}

qm_err qm_store_challenge_add(struct qm_store *s, const struct qm_challenge *c, struct qm_fault *fault)
{
    qm_err err = replace(s, c, fault);
    if (err == QM_OK)
        err = make_room(s, c, fault);
    sqlite3_stmt *st = err == QM_OK ? store_sql(s,
                                                "INSERT INTO challenge(name, id, state, proof, ek, bound, line, who, made_ms, until_ms, anchor)"
                                                " VALUES(?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9, nullif(?10, 0))",
                                                fault)
                                    : NULL;
    if (st == NULL)
        return err == QM_OK ? QM_E_STORE : err;
    sqlite3_bind_blob(st, 1, c->name, sizeof c->name, SQLITE_STATIC);
    sqlite3_bind_text(st, 2, (const char *)c->id.p, (int)c->id.len, SQLITE_STATIC);
    sqlite3_bind_blob(st, 3, c->proof_digest, sizeof c->proof_digest, SQLITE_STATIC);
    sqlite3_bind_blob(st, 4, c->ek, sizeof c->ek, SQLITE_STATIC);
    sqlite3_bind_text(st, 5, c->bound, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 6, (const char *)c->line.p, (int)c->line.len, SQLITE_STATIC);
    sqlite3_bind_text(st, 7, s->who, -1, SQLITE_STATIC);
    sqlite3_bind_int64(st, 8, (sqlite3_int64)s->now_ms);
    sqlite3_bind_int64(st, 9, (sqlite3_int64)c->until_ms);
    sqlite3_bind_int64(st, 10, (sqlite3_int64)c->anchor);
    return store_run(s, st, fault);
}

static struct qm_span column_span(sqlite3_stmt *st, int column)
{
    const void *p = sqlite3_column_blob(st, column);
    return (struct qm_span){p, p != NULL ? (size_t)sqlite3_column_bytes(st, column) : 0};
}

/* False: no row that code of ours wrote. */
static bool read_row(sqlite3_stmt *st, struct qm_challenge *c)
{
    const struct {
        int column;
        uint8_t *to;
        size_t len;
    } fixed[] = {{1, c->name, sizeof c->name}, {4, c->proof_digest, sizeof c->proof_digest}, {5, c->ek, sizeof c->ek}};
    for (size_t i = 0; i < QM_COUNT(fixed); i++) {
        const struct qm_span s = column_span(st, fixed[i].column);
        if (s.len != fixed[i].len)
            return false;
        memcpy(fixed[i].to, s.p, s.len);
    }
    c->no = (uint64_t)sqlite3_column_int64(st, 0);
    c->id = column_span(st, 2);
    c->state = (enum qm_challenge_state)sqlite3_column_int(st, 3);
    c->bound = (const char *)sqlite3_column_text(st, 6);
    c->line = column_span(st, 7);
    c->who = (const char *)sqlite3_column_text(st, 8);
    c->made_ms = (uint64_t)sqlite3_column_int64(st, 9);
    c->until_ms = (uint64_t)sqlite3_column_int64(st, 10);
    c->answered_ms = (uint64_t)sqlite3_column_int64(st, 11);
    c->anchor = (uint64_t)sqlite3_column_int64(st, 12);
    return c->id.len != 0 && c->id.len <= QM_ID_MAX && c->line.len <= QM_LINE_MAX;
}

/* Steps st to its end; resets it. */
static qm_err each(struct qm_store *s, sqlite3_stmt *st, qm_challenge_visit visit, void *ctx, uint64_t *n, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    int rc = SQLITE_DONE;
    *n = 0;
    while (err == QM_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct qm_challenge c = {0};
        err = read_row(st, &c) ? visit(ctx, &c, fault) : qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is damaged: a challenge", s->home);
        ++*n;
    }
    if (err == QM_OK && rc != SQLITE_DONE)
        err = store_fail(s, fault, "reading the challenges");
    sqlite3_reset(st);
    return err;
}

qm_err qm_store_challenge_find(struct qm_store *s, const uint8_t name[QM_CHALLENGE_SIZE], qm_challenge_visit visit, void *ctx, bool *found,
                               struct qm_fault *fault)
{
    uint64_t n = 0;
    sqlite3_stmt *st = store_sql(s, "SELECT " COLUMNS " FROM challenge WHERE name = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_blob(st, 1, name, QM_CHALLENGE_SIZE, SQLITE_STATIC);
    qm_err err = each(s, st, visit, ctx, &n, fault);
    *found = n != 0;
    return err;
}

static void bind_waiting(const struct qm_store *s, sqlite3_stmt *st, struct qm_span id, struct qm_span ek_prefix)
{
    sqlite3_bind_int64(st, 1, (sqlite3_int64)s->now_ms);
    if (id.len != 0)
        sqlite3_bind_text(st, 2, (const char *)id.p, (int)id.len, SQLITE_STATIC);
    sqlite3_bind_blob(st, 3, ek_prefix.len != 0 ? ek_prefix.p : (const uint8_t *)"", (int)ek_prefix.len, SQLITE_STATIC);
}

qm_err qm_store_challenges_pending(struct qm_store *s, struct qm_span id, struct qm_span ek_prefix, qm_challenge_visit visit, void *ctx,
                                   struct qm_fault *fault)
{
    uint64_t n;
    static const char all[] = "SELECT " COLUMNS " FROM challenge WHERE state = 1 AND until_ms > ?1"
                              " AND substr(ek, 1, length(?3)) = ?3 ORDER BY no";
    static const char of_id[] = "SELECT " COLUMNS " FROM challenge WHERE state = 1 AND until_ms > ?1 AND id = ?2"
                                " AND substr(ek, 1, length(?3)) = ?3 ORDER BY no";
    sqlite3_stmt *st = store_sql(s, id.len != 0 ? of_id : all, fault);
    if (st == NULL)
        return QM_E_STORE;
    bind_waiting(s, st, id, ek_prefix);
    return each(s, st, visit, ctx, &n, fault);
}

static void bind_claim(sqlite3_stmt *st, const struct qm_challenge *c)
{
    sqlite3_bind_blob(st, 1, c->ek, sizeof c->ek, SQLITE_STATIC);
    sqlite3_bind_text(st, 2, (const char *)c->id.p, (int)c->id.len, SQLITE_STATIC);
}

/* The same TPM has answered for the same id before: who confirms vouches for TPM and id, and could not say which answer is meant. */
static qm_err give_way(struct qm_store *s, const struct qm_challenge *c, struct qm_fault *fault)
{
    uint64_t ids;
    bool found;
    sqlite3_stmt *st =
        store_sql(s, "SELECT count(DISTINCT id) FROM challenge WHERE ek = ?1 AND id <> ?2 AND state = 1 AND until_ms > ?3", fault);
    if (st == NULL)
        return QM_E_STORE;
    bind_claim(st, c);
    sqlite3_bind_int64(st, 3, (sqlite3_int64)s->now_ms);
    qm_err err = store_number(s, st, &ids, &found, fault);
    if (err == QM_OK && ids >= QM_PENDING_OF_EK)
        return qm_fail(fault, QM_E_REFUSED, 0, "this TPM has answered under %d other ids, which wait for --confirm", QM_PENDING_OF_EK);
    st = err == QM_OK ? store_sql(s, "DELETE FROM challenge WHERE ek = ?1 AND id = ?2 AND state = 1", fault) : NULL;
    if (st == NULL)
        return err == QM_OK ? QM_E_STORE : err;
    bind_claim(st, c);
    return store_run(s, st, fault);
}

qm_err qm_store_challenge_pend(struct qm_store *s, const struct qm_challenge *c, uint64_t until_ms, struct qm_fault *fault)
{
    qm_err err = give_way(s, c, fault);
    sqlite3_stmt *st =
        err == QM_OK ? store_sql(s, "UPDATE challenge SET state = 1, answered_ms = ?2, until_ms = ?3 WHERE no = ?1", fault) : NULL;
    if (st == NULL)
        return err == QM_OK ? QM_E_STORE : err;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)c->no);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)s->now_ms);
    sqlite3_bind_int64(st, 3, (sqlite3_int64)until_ms);
    return store_run(s, st, fault);
}

qm_err qm_store_challenge_use(struct qm_store *s, uint64_t no, struct qm_fault *fault)
{
    sqlite3_stmt *st =
        store_sql(s, "UPDATE challenge SET state = 2, answered_ms = ifnull(answered_ms, ?2), line = '' WHERE no = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)no);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)s->now_ms);
    return store_run(s, st, fault);
}

qm_err qm_store_challenge_reject(struct qm_store *s, const struct qm_challenge *c, const char *reason, struct qm_fault *fault)
{
    char id[QM_ID_MAX + 1], why[QM_REASON_MAX + 80];
    struct qm_out o = qm_out_init(why, sizeof why - 1);
    sqlite3_stmt *st = store_sql(s, "UPDATE challenge SET state = 3, line = '' WHERE no = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)c->no);
    snprintf(id, sizeof id, "%.*s", (int)c->id.len, (const char *)c->id.p);
    qm_out_text(&o, "EK ");
    qm_out_hex(&o, c->ek, sizeof c->ek);
    if (reason != NULL) {
        qm_out_text(&o, ": ");
        qm_out_text(&o, reason);
    }
    why[o.len] = '\0';
    qm_err err = store_run(s, st, fault);
    return err == QM_OK ? store_journal(s, STORE_NOTE_REJECTED, id, why, fault) : err;
}

qm_err qm_store_challenge_rejecter(struct qm_store *s, struct qm_span id, struct qm_span ek_prefix, char who[QM_WHO_SHOWN_MAX],
                                   struct qm_fault *fault)
{
    struct qm_out o = qm_out_init(who, QM_WHO_SHOWN_MAX - 1);
    who[0] = '\0';
    sqlite3_stmt *st = store_sql(s,
                                 "SELECT (SELECT who FROM journal WHERE subject = ?2 AND what = '" STORE_NOTE_REJECTED "' ORDER BY no DESC LIMIT 1)"
                                 " FROM challenge WHERE state = 3 AND until_ms > ?1 AND id = ?2 AND substr(ek, 1, length(?3)) = ?3",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    bind_waiting(s, st, id, ek_prefix);
    const int rc = sqlite3_step(st);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return store_fail(s, fault, "reading the challenges");
    if (rc == SQLITE_ROW)
        qm_out_shown(&o, column_span(st, 0));
    if (rc == SQLITE_ROW && o.len == 0)
        qm_out_text(&o, "somebody"); /* the history is not kept so long */
    who[o.len] = '\0';
    sqlite3_reset(st);
    return QM_OK;
}

qm_err qm_store_challenges_age(struct qm_store *s, uint64_t *gone, struct qm_fault *fault)
{
    bool found;
    sqlite3_stmt *st = store_sql(s, "SELECT count(*) FROM challenge WHERE until_ms <= ?1 AND state < 2", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)s->now_ms);
    qm_err err = store_number(s, st, gone, &found, fault);
    st = err == QM_OK ? store_sql(s, "DELETE FROM challenge WHERE until_ms <= ?1", fault) : NULL;
    if (st == NULL)
        return err == QM_OK ? QM_E_STORE : err;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)s->now_ms);
    return store_run(s, st, fault);
}
