/* Shared by the files of the store only. */
#ifndef QM_STORE_INSIDE_H
#define QM_STORE_INSIDE_H

#include <sqlite3.h>

#include "tools/store/store_ledger.h"
#include "tools/store/store_sets.h"

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
    S_AK_HISTORY_PROVE,
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

enum { STORE_BUSY_MS = 30000 };
enum { STORE_SQL_BITS = 9, STORE_SQL_ROOM = 1 << STORE_SQL_BITS };

struct qm_store {
    sqlite3 *db;
    int schema; /* of the file as it was opened */
    char home[4096];
    uint8_t home_id[QM_HOME_ID_SIZE];
    uint64_t generation;
    bool in_transaction;
    bool changed; /* in this transaction */
    bool unsure;  /* the last commit failed, and may have happened all the same */
    bool events_found; /* in this transaction: sets have lists of events that they lacked */
    uint64_t now_ms;
    char who[64];
    uint64_t config_version;         /* moves with every change to the policies */
    struct store_policies *policies; /* store_config.c */
    struct store_cache *cache;       /* store_sets.c */
    uint64_t sets_version;           /* moves when sets of a group may have */
    bool snapshot;                   /* publishing reads within one */
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

/* In the journal, of an id: a person rejected an answer. */
#define STORE_NOTE_REJECTED "answer rejected"

/* store_schema.c: inside a transaction, everything that versions after `from` brought (0: all of it). */
qm_err store_schema_make(struct qm_store *s, int from, struct qm_fault *fault) QM_MUST_USE;
/* Brings a database of an older version to QM_STORE_SCHEMA in one transaction, after a copy of it was kept beside it. */
qm_err store_schema_migrate(struct qm_store *s, int version, struct qm_fault *fault) QM_MUST_USE;

/* store_ledger.c: writes the block in hand; forgets it. */
qm_err store_ledger_flush(struct qm_store *s, struct qm_fault *fault) QM_MUST_USE;
void store_ledger_forget(struct qm_store *s);

/* store_events.c: a table is made after this transaction, so it has all lists that there are. */
qm_err store_events_told(struct qm_store *s, struct qm_fault *fault) QM_MUST_USE;

/* store_events.c: the list of a value goes, if there is one. */
qm_err store_events_forget(struct qm_store *s, unsigned pcr, const uint8_t value[32], struct qm_fault *fault) QM_MUST_USE;

/* store_alerts.c: what a machine differed in beyond its rows goes. */
qm_err store_alert_forget(struct qm_store *s, uint64_t slot, struct qm_fault *fault) QM_MUST_USE;

/* store_rejudge.c: the newest record passes on these values; and what then is the status, the log considered. */
void store_entry_passes(struct qm_ledger *entry, uint32_t set_no, uint32_t pair_no);
void store_entry_conclude(struct qm_ledger *entry, bool require_log, enum qm_status status, enum qm_reason reason);

/* store_config.c: what was read of the policies is read again; frees it. */
#define STORE_CONFIG_STALE UINT64_MAX
void store_config_stale(struct qm_store *s);
void store_config_close(struct qm_store *s);

/* store_sets.c */

/* A live set as it lies in the store. */
struct store_set {
    uint64_t no;   /* of baseline: what is newer has a higher one */
    uint32_t vals; /* of pcr_values */
    uint32_t mask;
    const uint8_t *value; /* popcount(mask) * 32 bytes */
};
/* The live sets that bear on one instance, each kind newest first. */
struct store_live {
    unsigned whole_count, own_count, group_count;
    struct store_set whole[QM_SET_MAX], own[QM_SET_MAX];
    const struct store_set *group; /* QM_SET_MAX at most */
};
/* What an instance can pass on, newest first: whole sets, and pairs of the group's and what is the instance's own (instance
 * sets, and that part of whole ones). class_group: PCRs that are the group's. Values are placed in room. */
enum { STORE_PAIRS_ROOM = 5 * QM_SET_MAX * 32 * QM_PCR_COUNT };
unsigned store_pairs(const struct qm_profile *profile, uint32_t class_group, const struct store_live *live,
                     uint8_t room[STORE_PAIRS_ROOM], struct qm_table_set out[QM_SETS_MAX]);
/* The live sets of a group, read once until sets or the clock move. */
qm_err store_group_sets(struct qm_store *s, uint32_t group_no, const struct store_set **sets, unsigned *count,
                        struct qm_fault *fault) QM_MUST_USE;
/* A set of live sets of the store's own. */
qm_err store_live_sets(struct qm_store *s, struct qm_live_sets **live, struct qm_fault *fault) QM_MUST_USE;
void store_cache_stale(struct qm_store *s);
/* What values of these PCRs are found by (pcr_values.hash). */
int64_t store_values_hash(uint32_t mask, const void *value, size_t len);
void store_cache_close(struct qm_store *s);
/* A row of (no, vals, mask, value) as a set. False: the row is damaged. */
bool store_set_column(sqlite3_stmt *st, int column, struct store_set *out);
/* The number of a group; made where it is new and make is set. *no 0: there is none. */
qm_err store_group_no(struct qm_store *s, const char *name, size_t len, bool make, uint32_t *no,
                      struct qm_fault *fault) QM_MUST_USE;
/* What the table says of a group's instances ("": all groups') has changed; with classes, which values are the group's has too.
 */
qm_err store_group_changed(struct qm_store *s, const char *group, bool classes, struct qm_fault *fault) QM_MUST_USE;
/* Who did what to the home. subject and why may be NULL. */
qm_err store_journal(struct qm_store *s, const char *what, const char *subject, const char *why,
                     struct qm_fault *fault) QM_MUST_USE;

/* Schema, generation, home id and the policies' version, as they are now. */
qm_err store_read_meta(struct qm_store *s, struct qm_fault *fault) QM_MUST_USE;
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
