#include "tools/store/store_run.h"

#include <stdlib.h>

#include "tools/store/store_inside.h"

/* One number for one bound number or text. */
static qm_err number_of(struct qm_store *s, sqlite3_stmt *st, uint64_t *out, struct qm_fault *fault)
{
    bool found;
    return store_number(s, st, out, &found, fault);
}

qm_err qm_store_run_next(struct qm_store *s, uint64_t *no, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "SELECT ifnull(max(no), 0) + 1 FROM run", fault);
    return st == NULL ? QM_E_STORE : number_of(s, st, no, fault);
}

qm_err qm_store_run_add(struct qm_store *s, uint64_t no, const struct qm_run_row *row, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "INSERT INTO run(no, id, kind, start_ms, end_ms, complete, records, generation, record)"
                                    " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)no);
    sqlite3_bind_text(st, 2, row->id, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 3, row->kind, -1, SQLITE_STATIC);
    sqlite3_bind_int64(st, 4, (sqlite3_int64)row->start_ms);
    sqlite3_bind_int64(st, 5, (sqlite3_int64)row->end_ms);
    sqlite3_bind_int(st, 6, row->complete);
    sqlite3_bind_int64(st, 7, (sqlite3_int64)row->records);
    sqlite3_bind_int64(st, 8, (sqlite3_int64)row->generation);
    sqlite3_bind_text(st, 9, row->record, -1, SQLITE_STATIC);
    return store_run(s, st, fault);
}

qm_err qm_store_run_known(struct qm_store *s, const char *id, bool *known, struct qm_fault *fault)
{
    uint64_t no;
    sqlite3_stmt *st = store_sql(s, "SELECT no FROM run WHERE id = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_text(st, 1, id, -1, SQLITE_STATIC);
    return store_number(s, st, &no, known, fault);
}

qm_err qm_store_run_settled(struct qm_store *s, const char *id, bool *known, struct qm_fault *fault)
{
    qm_err err = qm_store_run_known(s, id, known, fault);
    return err == QM_OK && !*known ? qm_store_fence(s, fault) : err;
}

qm_err qm_store_run_last(struct qm_store *s, uint64_t *end_ms, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "SELECT ifnull(max(end_ms), 0) FROM run", fault);
    return st == NULL ? QM_E_STORE : number_of(s, st, end_ms, fault);
}

qm_err qm_store_history_drop(struct qm_store *s, uint64_t before_ms, uint64_t *dropped, struct qm_fault *fault)
{
    /* Of each the newest stays, since numbers go on from it; of runs also those that sets name as where they were learned. */
    static const char *const old[] = {
        "DELETE FROM run WHERE end_ms < ?1 AND no <> (SELECT max(no) FROM run)"
        " AND NOT EXISTS (SELECT 1 FROM baseline b WHERE b.run = run.no)",
        "DELETE FROM journal WHERE at_ms < ?1",
        "DELETE FROM beacon WHERE until_ms < ?1 AND no <> (SELECT max(no) FROM beacon)",
    };
    qm_err err = QM_OK;
    for (size_t i = 0; err == QM_OK && i < QM_COUNT(old); i++) {
        sqlite3_stmt *st = store_sql(s, old[i], fault);
        if (st == NULL)
            return QM_E_STORE;
        sqlite3_bind_int64(st, 1, (sqlite3_int64)before_ms);
        err = store_run(s, st, fault);
        *dropped += err == QM_OK ? (uint64_t)sqlite3_changes64(s->db) : 0;
    }
    return err;
}

qm_err qm_store_meta_get(struct qm_store *s, const char *key, uint64_t *value, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "SELECT value FROM meta WHERE key = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
    return number_of(s, st, value, fault);
}

qm_err qm_store_meta_set(struct qm_store *s, const char *key, uint64_t value, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "INSERT INTO meta(key, value) VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value = excluded.value",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)value);
    return store_run(s, st, fault);
}

qm_err qm_store_changed_since(struct qm_store *s, uint64_t generation, uint64_t **slots, size_t *count, struct qm_fault *fault)
{
    size_t room = 0;
    *slots = NULL;
    *count = 0;
    if (s->in_transaction && !s->changed && s->generation - 1 <= generation)
        return QM_OK; /* the store itself is no newer: no look at every instance */
    sqlite3_stmt *st = store_sql(s, "SELECT slot FROM instance WHERE generation > ?1"
                                    " OR grp IN (SELECT name FROM grp WHERE generation > ?1) ORDER BY slot", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)generation);
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (*count == room) {
            room = room == 0 ? 1024 : 2 * room;
            uint64_t *more = realloc(*slots, room * sizeof **slots);
            if (more == NULL) {
                sqlite3_reset(st);
                return qm_fail(fault, QM_E_NOMEM, 0, "no memory for %zu instances that changed", *count);
            }
            *slots = more;
        }
        (*slots)[(*count)++] = (uint64_t)sqlite3_column_int64(st, 0);
    }
    sqlite3_reset(st);
    return rc == SQLITE_DONE ? QM_OK : store_fail(s, fault, "reading the instances");
}

qm_err qm_store_rekeyed_since(struct qm_store *s, uint64_t slot, uint64_t generation, bool *rekeyed, struct qm_fault *fault)
{
    uint64_t n;
    sqlite3_stmt *st = store_sql(s, "SELECT count(*) FROM ak_history WHERE slot = ?1 AND until_ms IS NULL AND generation > ?2", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)slot);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)generation);
    qm_err err = number_of(s, st, &n, fault);
    *rekeyed = n != 0;
    return err;
}

qm_err qm_store_own_mask(struct qm_store *s, uint64_t slot, uint32_t *mask, struct qm_fault *fault)
{
    *mask = 0;
    sqlite3_stmt *st = store_sql(s, "SELECT v.mask FROM baseline b JOIN pcr_values v ON v.no = b.vals"
                                    " WHERE b.slot = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)slot);
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW)
        *mask |= (uint32_t)sqlite3_column_int64(st, 0);
    sqlite3_reset(st);
    return rc == SQLITE_DONE ? QM_OK : store_fail(s, fault, "reading its sets");
}

qm_err qm_store_group_name(struct qm_store *s, uint32_t no, char name[QM_GROUP_MAX + 1], struct qm_fault *fault)
{
    name[0] = '\0';
    sqlite3_stmt *st = store_sql(s, "SELECT name FROM grp WHERE no = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, no);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW && sqlite3_column_bytes(st, 0) <= QM_GROUP_MAX) {
        memcpy(name, sqlite3_column_text(st, 0), (size_t)sqlite3_column_bytes(st, 0));
        name[sqlite3_column_bytes(st, 0)] = '\0';
    }
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? QM_OK : store_fail(s, fault, "reading the groups");
}

qm_err qm_store_slot(struct qm_store *s, struct qm_span id, uint64_t *slot, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "SELECT slot FROM instance WHERE id = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_text(st, 1, (const char *)id.p, (int)id.len, SQLITE_STATIC);
    return number_of(s, st, slot, fault);
}
