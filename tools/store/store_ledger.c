/* The ledger's blocks. One block is held in hand, so that work in slot order reads and writes each once. */
#include "tools/store/store_ledger.h"

#include "tools/store/store_inside.h"

enum { BLOCK_BYTES = QM_LEDGER_BLOCK * (int)sizeof(struct qm_ledger) };

static qm_err damaged(struct qm_store *s, uint64_t block, struct qm_fault *fault)
{
    return qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is damaged: block %llu of the ledger", s->home, (unsigned long long)block);
}

qm_err store_ledger_flush(struct qm_store *s, struct qm_fault *fault)
{
    if (!s->ledger.dirty)
        return QM_OK;
    sqlite3_stmt *st = store_sql(s, "INSERT INTO ledger(block, entries) VALUES(?1, ?2)"
                                    " ON CONFLICT(block) DO UPDATE SET entries = excluded.entries", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)s->ledger.block);
    sqlite3_bind_blob(st, 2, s->ledger.entry, BLOCK_BYTES, SQLITE_STATIC);
    qm_err err = store_run(s, st, fault);
    s->ledger.dirty = err != QM_OK;
    return err;
}

void store_ledger_forget(struct qm_store *s)
{
    s->ledger.held = false;
    s->ledger.dirty = false;
}

static qm_err hold(struct qm_store *s, uint64_t block, struct qm_fault *fault)
{
    if (s->ledger.held && s->ledger.block == block)
        return QM_OK;
    qm_err err = store_ledger_flush(s, fault);
    if (err != QM_OK)
        return err;
    s->ledger.held = false;
    sqlite3_stmt *st = store_sql(s, "SELECT entries FROM ledger WHERE block = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)block);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_DONE)
        memset(s->ledger.entry, 0, sizeof s->ledger.entry);
    else if (rc != SQLITE_ROW)
        err = store_fail(s, fault, "reading the ledger");
    else if (sqlite3_column_bytes(st, 0) != BLOCK_BYTES)
        err = damaged(s, block, fault);
    else
        memcpy(s->ledger.entry, sqlite3_column_blob(st, 0), BLOCK_BYTES);
    sqlite3_reset(st);
    s->ledger.block = block;
    s->ledger.held = err == QM_OK;
    return err;
}

qm_err qm_store_ledger_get(struct qm_store *s, uint64_t slot, struct qm_ledger *out, struct qm_fault *fault)
{
    qm_err err = hold(s, slot / QM_LEDGER_BLOCK, fault);
    if (err == QM_OK)
        *out = s->ledger.entry[slot % QM_LEDGER_BLOCK];
    if (!s->in_transaction)
        store_ledger_forget(s); /* another may write it before we look again */
    return err;
}

qm_err qm_store_ledger_put(struct qm_store *s, uint64_t slot, const struct qm_ledger *entry, struct qm_fault *fault)
{
    qm_err err = hold(s, slot / QM_LEDGER_BLOCK, fault);
    if (err != QM_OK)
        return err;
    s->ledger.entry[slot % QM_LEDGER_BLOCK] = *entry;
    s->ledger.dirty = true;
    return QM_OK;
}

qm_err qm_store_ledger_each(struct qm_store *s, qm_ledger_visit visit, void *ctx, struct qm_fault *fault)
{
    qm_err err = store_ledger_flush(s, fault);
    sqlite3_stmt *st = NULL;
    if (err != QM_OK)
        return err;
    if (sqlite3_prepare_v2(s->db, "SELECT block, entries FROM ledger ORDER BY block", -1, &st, NULL) != SQLITE_OK)
        return store_fail(s, fault, "reading the ledger");
    int rc = SQLITE_DONE;
    while (err == QM_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        const uint64_t block = (uint64_t)sqlite3_column_int64(st, 0);
        struct qm_ledger entry[QM_LEDGER_BLOCK];
        if (sqlite3_column_bytes(st, 1) != BLOCK_BYTES) {
            err = damaged(s, block, fault);
            break;
        }
        memcpy(entry, sqlite3_column_blob(st, 1), BLOCK_BYTES);
        err = visit(ctx, block * QM_LEDGER_BLOCK, entry, fault);
    }
    if (err == QM_OK && rc != SQLITE_DONE)
        err = store_fail(s, fault, "reading the ledger");
    sqlite3_finalize(st);
    return err;
}
