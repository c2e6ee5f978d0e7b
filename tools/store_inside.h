/* Shared by the files of the store only. */
#ifndef QM_STORE_INSIDE_H
#define QM_STORE_INSIDE_H

#include <sqlite3.h>

#include "tools/store.h"

enum {
    S_LINE,
    S_INSTANCE,
    S_INSERT,
    S_UPDATE,
    S_AK_FIND,
    S_AK_INSERT,
    S_AK_USED,
    S_AK_HISTORY_END,
    S_AK_HISTORY_ADD,
    S_PROFILE_FIND,
    S_PROFILE_INSERT,
    S_VALUES_FIND,
    S_VALUES_INSERT,
    S_BASELINE_KNOWN,
    S_BASELINE_LIVE,
    S_BASELINE_INSERT,
    S_SAVEPOINT,
    S_ROLLBACK_TO,
    S_RELEASE,
    S_STATEMENT_COUNT
};

struct qm_store {
    sqlite3 *db;
    char home[4096];
    uint8_t home_id[QM_HOME_ID_SIZE];
    uint64_t generation;
    bool in_transaction;
    bool changed; /* in this transaction */
    uint64_t now_ms;
    char who[64];
    sqlite3_stmt *statement[S_STATEMENT_COUNT];
};

qm_err store_fail(struct qm_store *s, struct qm_fault *fault, const char *doing);
qm_err store_exec(struct qm_store *s, const char *sql, struct qm_fault *fault) QM_MUST_USE;
/* The prepared statement, reset. NULL after filling the fault. */
sqlite3_stmt *store_statement(struct qm_store *s, unsigned which, struct qm_fault *fault);
/* Steps a statement that gives no rows. */
qm_err store_run(struct qm_store *s, sqlite3_stmt *st, struct qm_fault *fault) QM_MUST_USE;
/* A query for one number; *found false where there is no row. */
qm_err store_number(struct qm_store *s, sqlite3_stmt *st, uint64_t *number, bool *found, struct qm_fault *fault) QM_MUST_USE;

#endif
