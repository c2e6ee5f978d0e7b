/* Records refused by checks 1 to 7, one alert for each reason and source; and what time does to
 * alerts. */
#include <math.h>
#include <stdlib.h>

#include "codec/cursor.h"
#include "engine/kernel/kernel.h"
#include "tools/store/store_alerts.h"
#include "tools/store/store_inside.h"

#define DAY_MS (24ull * 3600 * 1000)

/* ---- how many ids ------------------------------------------------------------------------------------------------- */

/* HyperLogLog (Flajolet and others, 2007) with 256 registers, off by 6.5 % on average: the first
 * byte of the id's hash takes the register, the zeroes in front of the rest are counted. */
void qm_sketch_add(uint8_t sketch[QM_SKETCH_BYTES], struct qm_span id)
{
    uint8_t digest[32];
    qm_hash_one(QM_HASH_SHA256, id, digest);
    const uint64_t bits = qm_load_be64(digest + 1);
    const uint8_t rank = (uint8_t)(bits != 0 ? __builtin_clzll(bits) + 1 : 65);
    if (sketch[digest[0]] < rank)
        sketch[digest[0]] = rank;
}

uint64_t qm_sketch_estimate(const uint8_t sketch[QM_SKETCH_BYTES])
{
    const double m = QM_SKETCH_BYTES;
    double sum = 0;
    unsigned empty = 0;
    for (unsigned i = 0; i < QM_SKETCH_BYTES; i++) {
        sum += ldexp(1, -sketch[i]);
        empty += sketch[i] == 0;
    }
    double n = 0.7213 / (1 + 1.079 / m) * m * m / sum;
    if (n <= 2.5 * m && empty != 0)
        n = m * log(m / empty); /* few: the registers that nobody took tell more */
    return (uint64_t)(n + 0.5);
}

/* ---- the row ------------------------------------------------------------------------------------------------------ */

static const struct {
    enum qm_reason reason;
    enum qm_alert_kind kind;
} kinds[] = {
    {QM_MALFORMED, QM_ALERT_MALFORMED},
    {QM_UNKNOWN_INSTANCE, QM_ALERT_UNKNOWN_INSTANCE},
    {QM_NOT_A_QUOTE, QM_ALERT_NOT_A_QUOTE},
    {QM_BAD_SIGNATURE, QM_ALERT_BAD_SIGNATURE},
    {QM_WRONG_SELECTION, QM_ALERT_WRONG_SELECTION},
    {QM_STALE_NONCE, QM_ALERT_STALE_NONCE},
};

static bool kind_of(enum qm_reason reason, enum qm_alert_kind *kind)
{
    for (size_t i = 0; i < QM_COUNT(kinds); i++)
        if (kinds[i].reason == reason) {
            *kind = kinds[i].kind;
            return true;
        }
    return false;
}

/* The ids as a JSON array: those of before, then new ones, QM_REFUSED_IDS in all. */
enum { IDS_BYTES = 8 + QM_REFUSED_IDS * (6 * QM_ID_MAX + 4) };
struct ids {
    char text[IDS_BYTES];
    struct qm_out out;
    char before[QM_REFUSED_IDS][QM_ID_MAX + 1];
    size_t before_len[QM_REFUSED_IDS];
    unsigned before_count, count;
};

static void ids_put(struct ids *ids, struct qm_span id)
{
    if (ids->count == QM_REFUSED_IDS)
        return;
    qm_out_char(&ids->out, ids->count == 0 ? '[' : ',');
    qm_out_json_string(&ids->out, id);
    ids->count++;
}

static bool ids_has(const struct ids *ids, struct qm_span id)
{
    for (unsigned i = 0; i < ids->before_count; i++)
        if (ids->before_len[i] == id.len && memcmp(ids->before[i], id.p, id.len) == 0)
            return true;
    return false;
}

static qm_err ids_before(struct qm_store *s, struct ids *ids, uint64_t change, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "SELECT j.value FROM refused r, json_each(r.ids) j WHERE r.change = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)change);
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && ids->before_count < QM_REFUSED_IDS) {
        const size_t len = (size_t)sqlite3_column_bytes(st, 0);
        if (len > QM_ID_MAX)
            continue;
        memcpy(ids->before[ids->before_count], sqlite3_column_text(st, 0), len);
        ids->before_len[ids->before_count] = len;
        ids_put(ids, (struct qm_span){(const uint8_t *)ids->before[ids->before_count], len});
        ids->before_count++;
    }
    sqlite3_reset(st);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? QM_OK : store_fail(s, fault, "reading what was refused");
}

/* Registers of before and of now, the higher of each. */
static qm_err sketch_before(struct qm_store *s, uint64_t change, uint8_t sketch[QM_SKETCH_BYTES], struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "SELECT sketch FROM refused WHERE change = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)change);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW && sqlite3_column_bytes(st, 0) == QM_SKETCH_BYTES) {
        const uint8_t *before = sqlite3_column_blob(st, 0);
        for (unsigned i = 0; i < QM_SKETCH_BYTES; i++)
            sketch[i] = before[i] > sketch[i] ? before[i] : sketch[i];
    }
    sqlite3_reset(st);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? QM_OK : store_fail(s, fault, "reading what was refused");
}

static qm_err refused_write(struct qm_store *s, const struct qm_refusals *r, uint64_t change, bool opened, struct ids *ids,
                            struct qm_fault *fault)
{
    uint8_t sketch[QM_SKETCH_BYTES];
    memcpy(sketch, r->sketch, sizeof sketch);
    qm_err err = opened ? QM_OK : ids_before(s, ids, change, fault);
    if (err == QM_OK && !opened)
        err = sketch_before(s, change, sketch, fault);
    for (unsigned i = 0; i < r->id_count && i < QM_REFUSED_IDS; i++)
        if (!ids_has(ids, r->id[i]))
            ids_put(ids, r->id[i]);
    qm_out_text(&ids->out, ids->count == 0 ? "[]" : "]");
    sqlite3_stmt *st = err == QM_OK
                           ? store_sql(s,
                                       "INSERT INTO refused(change, reason, source, sketch, ids) VALUES(?1, ?2, ?3, ?4, "
                                       "?5)"
                                       " ON CONFLICT(change) DO UPDATE SET sketch = excluded.sketch, ids = excluded.ids",
                                       fault)
                           : NULL;
    if (st == NULL)
        return err != QM_OK ? err : QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)change);
    sqlite3_bind_int(st, 2, (int)r->reason);
    sqlite3_bind_text(st, 3, r->source, -1, SQLITE_STATIC);
    sqlite3_bind_blob(st, 4, sketch, sizeof sketch, SQLITE_STATIC);
    sqlite3_bind_text(st, 5, ids->text, (int)ids->out.len, SQLITE_STATIC);
    return store_run(s, st, fault);
}

/* One raise counts one; the rest of them, and when. */
static qm_err count_more(struct qm_store *s, uint64_t alert, uint64_t more, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "UPDATE alert SET count = count + ?2 WHERE no = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)alert);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)more);
    return store_run(s, st, fault);
}

/* Whoever can make directories in a spool can make sources: those that have no row and find no room share one. */
static qm_err source_row(struct qm_store *s, struct qm_alert_new *a, const char **source, struct qm_fault *fault)
{
    uint64_t no, rows;
    bool found;
    a->subject = (struct qm_span){(const uint8_t *)*source, strlen(*source)};
    qm_err err = qm_alert_standing(s, a, &no, fault);
    if (err != QM_OK || no != 0)
        return err;
    sqlite3_stmt *st = store_sql(s, "SELECT count(*) FROM alert WHERE state IN (0, 1) AND kind >= 16", fault);
    if (st == NULL)
        return QM_E_STORE;
    err = store_number(s, st, &rows, &found, fault);
    if (err == QM_OK && rows >= QM_REFUSED_ROWS_MAX) {
        *source = QM_REFUSED_OTHERS;
        a->subject = (struct qm_span){(const uint8_t *)*source, strlen(*source)};
    }
    return err;
}

qm_err qm_alert_refused(struct qm_store *s, const struct qm_refusals *refusals, bool *opened, struct qm_fault *fault)
{
    struct qm_refusals here = *refusals, *r = &here;
    struct qm_alert_new a = {.at_ms = r->last_ms};
    struct qm_alert_raised raised;
    *opened = false;
    if (r->count == 0 || !kind_of(r->reason, &a.kind))
        return QM_OK;
    qm_err err = source_row(s, &a, &r->source, fault);
    if (err != QM_OK)
        return err;
    struct ids *ids = calloc(1, sizeof *ids);
    if (ids == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory for what was refused");
    ids->out = qm_out_init(ids->text, sizeof ids->text);
    err = qm_alert_raise(s, &a, &raised, fault);
    if (err == QM_OK && r->count > 1)
        err = count_more(s, raised.no, r->count - 1, fault);
    if (err == QM_OK)
        err = refused_write(s, r, raised.change, raised.opened, ids, fault);
    *opened = err == QM_OK && raised.opened;
    free(ids);
    return err;
}

/* ---- what time does ----------------------------------------------------------------------------------------------- */

static qm_err run_at(struct qm_store *s, const char *sql, uint64_t at_ms, uint64_t before_ms, uint64_t *count,
                     struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, sql, fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)before_ms);
    if (sqlite3_bind_parameter_count(st) > 1)
        sqlite3_bind_int64(st, 2, (sqlite3_int64)at_ms);
    qm_err err = store_run(s, st, fault);
    *count = (uint64_t)sqlite3_changes64(s->db);
    return err;
}

/* Rows that are over go with their history; a change and a decision with the last row that they are
 * of. A change without rows is what a machine over the limit differs in, and stays. */
static qm_err drop_old(struct qm_store *s, uint64_t before_ms, uint64_t *dropped, struct qm_fault *fault)
{
    static const char mark[] = "CREATE TEMP TABLE IF NOT EXISTS old_alert(no INTEGER PRIMARY KEY, "
                               "change INTEGER NOT NULL)";
    qm_err err = store_exec(s, mark, fault);
    if (err == QM_OK)
        err = run_at(s,
                     "INSERT INTO old_alert SELECT no, change FROM alert INDEXED BY alert_closed"
                     " WHERE closed_ms IS NOT NULL AND closed_ms < ?1 AND state IN (2, 3)",
                     0, before_ms, dropped, fault);
    static const char *const steps[] = {
        "DELETE FROM alert WHERE no IN (SELECT no FROM old_alert)",
        "DELETE FROM alert_decision WHERE alert IN (SELECT no FROM old_alert)",
        "DELETE FROM decision WHERE at_ms < ?1 AND no NOT IN (SELECT decision FROM alert_decision)",
        "DELETE FROM refused WHERE change IN (SELECT change FROM old_alert)"
        " AND NOT EXISTS (SELECT 1 FROM alert a WHERE a.change = refused.change)",
        "DELETE FROM change WHERE no IN (SELECT change FROM old_alert)"
        " AND NOT EXISTS (SELECT 1 FROM alert a WHERE a.change = change.no)",
    };
    for (size_t i = 0; err == QM_OK && *dropped != 0 && i < QM_COUNT(steps); i++) {
        sqlite3_stmt *st = store_sql(s, steps[i], fault);
        if (st == NULL)
            return QM_E_STORE;
        if (sqlite3_bind_parameter_count(st) != 0)
            sqlite3_bind_int64(st, 1, (sqlite3_int64)before_ms);
        err = store_run(s, st, fault);
    }
    return err == QM_OK ? store_exec(s, "DELETE FROM old_alert", fault) : err;
}

qm_err qm_alerts_age(struct qm_store *s, uint64_t now_ms, uint64_t history_keep_ms, uint64_t *dropped, struct qm_fault *fault)
{
    uint64_t n;
    *dropped = 0;
    qm_err err = run_at(s,
                        "UPDATE alert SET state = 3, closed_ms = ?2, until_ms = NULL"
                        " WHERE state IN (0, 1) AND kind >= 16 AND last_ms < ?1",
                        now_ms, now_ms > DAY_MS ? now_ms - DAY_MS : 0, &n, fault);
    if (err == QM_OK)
        err = run_at(s, "UPDATE alert SET state = 0, until_ms = NULL WHERE state = 1 AND until_ms <= ?1", now_ms, now_ms, &n,
                     fault);
    if (err == QM_OK)
        err = run_at(s,
                     "UPDATE alert SET seen = 1 WHERE closed_ms < ?1 AND state = 3 AND kind = 0 "
                     "AND seen = 0",
                     now_ms, now_ms > 30 * DAY_MS ? now_ms - 30 * DAY_MS : 0, &n, fault);
    if (err == QM_OK && history_keep_ms != 0 && now_ms > history_keep_ms)
        err = drop_old(s, now_ms - history_keep_ms, dropped, fault);
    return err;
}
