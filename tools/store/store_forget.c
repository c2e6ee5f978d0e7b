/* What is left of machines that were taken out, forgotten once it is older than history is kept: their sets, keys, ledger blocks,
 * and what stands by content and nobody else refers to. */
#include <stdlib.h>

#include "tools/store/store_alerts.h"
#include "tools/store/store_inside.h"
#include "tools/store/store_retire.h"
#include "tools/store/store_run.h"

/* A run goes over whole tables for them, so it does many at once, and at most so many. */
enum { AT_ONCE = 10000, DAY_MS = 24 * 60 * 60 * 1000 };

/* ---- lists of events --------------------------------------------------------------------------------------------------- */

/* Values that forgotten sets had; lists are kept by them. */
struct orphan {
    uint8_t value[32];
    uint8_t pcr;
    bool wanted;
};
struct orphans {
    struct orphan *at;
    size_t count, room;
};

static int by_value(const void *a, const void *b)
{
    const struct orphan *x = a, *y = b;
    const int differ = memcmp(x->value, y->value, sizeof x->value);
    return differ != 0 ? differ : (int)x->pcr - (int)y->pcr;
}

static qm_err orphans_put(struct orphans *o, unsigned pcr, const uint8_t value[32], struct qm_fault *fault)
{
    if (o->count == o->room) {
        const size_t room = o->room != 0 ? 2 * o->room : 256;
        struct orphan *more = reallocarray(o->at, room, sizeof *more);
        if (more == NULL)
            return qm_fail(fault, QM_E_NOMEM, 0, "no memory for %zu values", room);
        o->at = more;
        o->room = room;
    }
    struct orphan *new = &o->at[o->count++];
    *new = (struct orphan){.pcr = (uint8_t)pcr};
    memcpy(new->value, value, 32);
    return QM_OK;
}

static void want(struct orphans *o, unsigned pcr, const uint8_t value[32])
{
    struct orphan key = {.pcr = (uint8_t)pcr};
    memcpy(key.value, value, 32);
    struct orphan *found = o->count != 0 ? bsearch(&key, o->at, o->count, sizeof key, by_value) : NULL;
    if (found != NULL)
        found->wanted = true;
}

/* Goes over rows of (mask, values); put: they are taken, else wanted. */
static qm_err over_values(struct qm_store *s, const char *sql, struct orphans *o, bool put, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    int rc = SQLITE_DONE;
    sqlite3_stmt *st = store_sql(s, sql, fault);
    if (st == NULL)
        return QM_E_STORE;
    while (err == QM_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        const uint64_t mask = (uint64_t)sqlite3_column_int64(st, 0);
        const uint8_t *value = sqlite3_column_blob(st, 1);
        if (mask >> QM_PCR_COUNT != 0 || sqlite3_column_bytes(st, 1) != 32 * __builtin_popcountll(mask))
            continue; /* damaged: whoever reads it as a set says so */
        for (unsigned pcr = 0; err == QM_OK && pcr < QM_PCR_COUNT; pcr++) {
            if ((mask >> pcr & 1) == 0)
                continue;
            if (put)
                err = orphans_put(o, pcr, value, fault);
            else
                want(o, pcr, value);
            value += 32;
        }
    }
    sqlite3_reset(st);
    return err == QM_OK && rc != SQLITE_DONE ? store_fail(s, fault, "reading the values of sets") : err;
}

/* What alerts tell of keeps its lists. */
static qm_err over_changes(struct qm_store *s, struct orphans *o, struct qm_fault *fault)
{
    enum { ITEM = 1 + 32 + 32 }; /* PCR, expected, measured */
    int rc;
    sqlite3_stmt *st = store_sql(s, "SELECT items FROM change WHERE length(items) <> 0", fault);
    if (st == NULL)
        return QM_E_STORE;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        const uint8_t *item = sqlite3_column_blob(st, 0);
        const int bytes = sqlite3_column_bytes(st, 0);
        for (int at = 0; bytes - at >= ITEM; at += ITEM) {
            want(o, item[at], item + at + 1);
            want(o, item[at], item + at + 33);
        }
    }
    sqlite3_reset(st);
    return rc == SQLITE_DONE ? QM_OK : store_fail(s, fault, "reading the changes");
}

/* Values of forgotten sets that no other set has: the rows go, and their lists where no row is left that has the value. */
static qm_err drop_values(struct qm_store *s, struct qm_fault *fault)
{
    static const char left[] = "SELECT mask, value FROM pcr_values";
    static const char gone[] = "SELECT v.mask, v.value FROM old_values o CROSS JOIN pcr_values v ON v.no = o.no";
    struct orphans o = {0};
    qm_err err = over_values(s, gone, &o, true, fault);
    if (err == QM_OK && o.count != 0) {
        qsort(o.at, o.count, sizeof *o.at, by_value);
        err = store_exec(s, "DELETE FROM events_missing WHERE vals IN (SELECT no FROM old_values);"
                            "DELETE FROM pcr_values WHERE no IN (SELECT no FROM old_values)", fault);
        if (err == QM_OK)
            err = over_values(s, left, &o, false, fault);
        if (err == QM_OK)
            err = over_changes(s, &o, fault);
    }
    for (size_t i = 0; err == QM_OK && i < o.count; i++)
        if (!o.at[i].wanted && (i == 0 || by_value(&o.at[i - 1], &o.at[i]) != 0))
            err = store_events_forget(s, o.at[i].pcr, o.at[i].value, fault);
    free(o.at);
    return err;
}

/* ---- machines ---------------------------------------------------------------------------------------------------------- */

/* Of numbers that go on from the highest, the highest stays. A machine that alerts still tell of stays whole. */
static qm_err mark(struct qm_store *s, uint64_t before_ms, uint64_t *count, struct qm_fault *fault)
{
    qm_err err = store_exec(s, "CREATE TEMP TABLE IF NOT EXISTS old_slot(slot INTEGER PRIMARY KEY);"
                               "CREATE TEMP TABLE IF NOT EXISTS old_values(no INTEGER PRIMARY KEY);"
                               "CREATE TEMP TABLE IF NOT EXISTS old_ak(no INTEGER PRIMARY KEY);", fault);
    if (err != QM_OK)
        return err;
    sqlite3_stmt *st = store_sql(s, "INSERT INTO old_slot SELECT slot FROM retired r WHERE retired_ms < ?1"
                                    " AND NOT EXISTS (SELECT 1 FROM alert a WHERE a.slot = r.slot) AND slot <> (SELECT max(slot) FROM retired)"
                                    " LIMIT ?2", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)before_ms);
    sqlite3_bind_int(st, 2, AT_ONCE);
    err = store_run(s, st, fault);
    *count = err == QM_OK ? (uint64_t)sqlite3_changes64(s->db) : 0;
    return err;
}

/* What a machine with too many changes differed in has no alert's row of its own. */
static qm_err drop_changes(struct qm_store *s, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    int rc = SQLITE_DONE;
    sqlite3_stmt *st = store_sql(s, "SELECT slot FROM old_slot", fault);
    if (st == NULL)
        return QM_E_STORE;
    while (err == QM_OK && (rc = sqlite3_step(st)) == SQLITE_ROW)
        err = store_alert_forget(s, (uint64_t)sqlite3_column_int64(st, 0), fault);
    sqlite3_reset(st);
    return err == QM_OK && rc != SQLITE_DONE ? store_fail(s, fault, "reading what is forgotten") : err;
}

static qm_err drop(struct qm_store *s, struct qm_fault *fault)
{
    static const char belongings[] =
        "INSERT INTO old_values SELECT DISTINCT vals FROM baseline WHERE slot IN (SELECT slot FROM old_slot);"
        "INSERT INTO old_ak SELECT DISTINCT ak FROM ak_history WHERE slot IN (SELECT slot FROM old_slot);"
        "DELETE FROM baseline WHERE slot IN (SELECT slot FROM old_slot);"
        "DELETE FROM ak_history WHERE slot IN (SELECT slot FROM old_slot);"
        "DELETE FROM retired WHERE slot IN (SELECT slot FROM old_slot);"
        "DELETE FROM old_values WHERE no = (SELECT max(no) FROM pcr_values) OR no IN (SELECT vals FROM baseline);"
        "DELETE FROM old_ak WHERE no = (SELECT max(no) FROM ak) OR no IN (SELECT ak FROM instance) OR no IN (SELECT ak FROM ak_history);"
        "DELETE FROM ak WHERE no IN (SELECT no FROM old_ak);";
    qm_err err = store_exec(s, belongings, fault);
    if (err == QM_OK)
        err = drop_values(s, fault);
    if (err == QM_OK)
        err = drop_changes(s, fault);
    sqlite3_stmt *st = err == QM_OK ? store_sql(s, "DELETE FROM ledger WHERE block IN (SELECT DISTINCT slot / ?1 FROM old_slot)"
                                                   " AND entries = zeroblob(?2)", fault) : NULL;
    if (st == NULL)
        return err != QM_OK ? err : QM_E_STORE;
    sqlite3_bind_int(st, 1, QM_LEDGER_BLOCK);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)(QM_LEDGER_BLOCK * sizeof(struct qm_ledger)));
    return store_run(s, st, fault);
}

static qm_err unmark(struct qm_store *s, struct qm_fault *fault)
{
    return store_exec(s, "DELETE FROM old_slot; DELETE FROM old_values; DELETE FROM old_ak", fault);
}

/* A row that others refer to is looked for among all of them when it goes, so a thousand sets would be a thousand times through
 * the table of sets. What is referred to is kept here by itself, and that is looked for once. */
static qm_err without_references(struct qm_store *s, bool without, struct qm_fault *fault)
{
    return store_exec(s, without ? "PRAGMA foreign_keys=OFF" : "PRAGMA foreign_keys=ON", fault);
}

/* Where there are more than one turn takes, the next run goes on; else the next day's does. */
static qm_err forget(struct qm_store *s, uint64_t keep_ms, uint64_t *count, struct qm_fault *fault)
{
    qm_err err = qm_store_begin(s, fault);
    if (err != QM_OK)
        return err;
    err = mark(s, s->now_ms - keep_ms, count, fault);
    if (err == QM_OK && *count != 0)
        err = drop(s, fault);
    if (err == QM_OK)
        err = unmark(s, fault);
    if (err == QM_OK && *count < AT_ONCE)
        err = qm_store_meta_set(s, "forgotten_ms", s->now_ms, fault);
    if (err == QM_OK)
        err = qm_store_commit(s, fault);
    if (err != QM_OK)
        qm_store_rollback(s);
    return err;
}

qm_err qm_store_forget(struct qm_store *s, uint64_t *count, struct qm_fault *fault)
{
    const struct qm_policy *policy;
    uint64_t last_ms;
    *count = 0;
    qm_err err = qm_store_policy(s, "", 0, &policy, fault);
    if (err == QM_OK)
        err = qm_store_meta_get(s, "forgotten_ms", &last_ms, fault);
    if (err != QM_OK || policy->history_keep_ms == 0 || s->now_ms <= policy->history_keep_ms ||
        (last_ms <= s->now_ms && s->now_ms - last_ms < DAY_MS))
        return err;
    err = without_references(s, true, fault);
    if (err != QM_OK)
        return err;
    err = forget(s, policy->history_keep_ms, count, fault);
    qm_err on = without_references(s, false, err == QM_OK ? fault : NULL);
    return err != QM_OK ? err : on;
}
