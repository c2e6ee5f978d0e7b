/* Shared by the files of the store only. */
#ifndef QM_STORE_INSIDE_H
#define QM_STORE_INSIDE_H

#include <sqlite3.h>

#include "tools/store_ledger.h"

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

enum { STORE_SQL_BITS = 9, STORE_SQL_ROOM = 1 << STORE_SQL_BITS };

struct qm_store {
    sqlite3 *db;
    int schema; /* of the file as it was opened */
    char home[4096];
    uint8_t home_id[QM_HOME_ID_SIZE];
    uint64_t generation;
    bool in_transaction;
    bool changed; /* in this transaction */
    bool events_found; /* in this transaction: sets have lists of events that they lacked */
    uint64_t now_ms;
    char who[64];
    sqlite3_stmt *statement[S_STATEMENT_COUNT];
    struct {
        const char *text; /* NULL: free */
        sqlite3_stmt *statement;
    } sql[STORE_SQL_ROOM]; /* by the address of the text */
    size_t sql_count;
    struct {
        bool held, dirty;
        uint64_t block;
        struct qm_ledger entry[QM_LEDGER_BLOCK];
    } ledger; /* the block in hand */
};

/* store_schema.c: inside a transaction, everything that versions after `from` brought (0: all of it). */
qm_err store_schema_make(struct qm_store *s, int from, struct qm_fault *fault) QM_MUST_USE;
/* Brings a database of an older version to QM_STORE_SCHEMA in one transaction, after a copy of it was kept beside it. */
qm_err store_schema_migrate(struct qm_store *s, int version, struct qm_fault *fault) QM_MUST_USE;

/* store_ledger.c: writes the block in hand; forgets it. */
qm_err store_ledger_flush(struct qm_store *s, struct qm_fault *fault) QM_MUST_USE;
void store_ledger_forget(struct qm_store *s);

/* store_events.c: a table is made after this transaction, so it has all lists that there are. */
qm_err store_events_told(struct qm_store *s, struct qm_fault *fault) QM_MUST_USE;

qm_err store_fail(struct qm_store *s, struct qm_fault *fault, const char *doing);
qm_err store_exec(struct qm_store *s, const char *sql, struct qm_fault *fault) QM_MUST_USE;
/* The prepared statement, reset. NULL after filling the fault. */
sqlite3_stmt *store_statement(struct qm_store *s, unsigned which, struct qm_fault *fault);
/* A statement prepared once for each store, found by the address of its text: give it string literals or static text. Reset. */
sqlite3_stmt *store_sql(struct qm_store *s, const char *sql, struct qm_fault *fault);
/* Steps a statement that gives no rows. */
qm_err store_run(struct qm_store *s, sqlite3_stmt *st, struct qm_fault *fault) QM_MUST_USE;
/* A query for one number; *found false where there is no row. */
qm_err store_number(struct qm_store *s, sqlite3_stmt *st, uint64_t *number, bool *found, struct qm_fault *fault) QM_MUST_USE;

#endif
