#include "tools/store/store_health.h"

#include <stdio.h>

#include "tools/store/store_status_inside.h"

static const char check[] = "store";
static const char restore_it[] = "restore a backup: quotemill restore --force FILE";

/* PRAGMAs that say "ok", or a problem a row. */
static qm_err ask_pages(struct qm_store *s, bool *sound, qm_finding found, void *ctx, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "PRAGMA integrity_check(10)", fault);
    char text[480];
    int rc;
    if (st == NULL)
        return QM_E_STORE;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        const char *said = (const char *)sqlite3_column_text(st, 0);
        if (said == NULL || strcmp(said, "ok") == 0)
            continue;
        *sound = false;
        said += strncmp(said, "***", 3) == 0 ? strcspn(said, "\n") : 0; /* a heading */
        said += *said == '\n';
        snprintf(text, sizeof text, "damaged: %.*s", (int)strcspn(said, "\n"), said);
        found(ctx, check, QM_HEALTH_FAIL, text, restore_it);
    }
    sqlite3_reset(st);
    return rc == SQLITE_DONE ? QM_OK : store_fail(s, fault, "checking it");
}

static qm_err ask_references(struct qm_store *s, bool *sound, qm_finding found, void *ctx, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "PRAGMA foreign_key_check", fault);
    char text[480];
    if (st == NULL)
        return QM_E_STORE;
    const int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        *sound = false;
        snprintf(text, sizeof text, "a row of %.100s, number %lld, stands for one of %.100s that is not there",
                 (const char *)sqlite3_column_text(st, 0), (long long)sqlite3_column_int64(st, 1), (const char *)sqlite3_column_text(st, 2));
        found(ctx, check, QM_HEALTH_FAIL, text, restore_it);
    }
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? QM_OK : store_fail(s, fault, "checking it");
}

struct entries {
    uint64_t machines, damaged;
};

static qm_err count_entries(void *ctx, uint64_t first, const struct qm_ledger entry[QM_LEDGER_BLOCK], struct qm_fault *fault)
{
    struct entries *e = ctx;
    (void)first;
    (void)fault;
    for (unsigned i = 0; i < QM_LEDGER_BLOCK; i++) {
        e->machines += entry[i].enrolled_s != 0;
        e->damaged += !store_entry_sound(&entry[i]);
    }
    return QM_OK;
}

static qm_err ask_ledger(struct qm_store *s, bool *sound, qm_finding found, void *ctx, struct qm_fault *fault)
{
    struct entries e = {0};
    uint64_t instances = 0;
    char text[200];
    qm_err err = qm_store_ledger_each(s, count_entries, &e, fault);
    if (err == QM_OK)
        err = qm_store_count(s, &instances, fault);
    if (err != QM_OK || (e.damaged == 0 && e.machines == instances))
        return err;
    *sound = false;
    snprintf(text, sizeof text, "the ledger has %llu machines, %llu of its entries are damaged; %llu are enrolled",
             (unsigned long long)e.machines, (unsigned long long)e.damaged, (unsigned long long)instances);
    found(ctx, check, QM_HEALTH_FAIL, text, restore_it);
    return QM_OK;
}

qm_err qm_store_check(struct qm_store *s, qm_finding found, void *ctx, struct qm_fault *fault)
{
    bool sound = true;
    qm_err err = store_exec(s, "BEGIN", fault); /* of one moment, while others write */
    if (err == QM_OK)
        err = ask_pages(s, &sound, found, ctx, fault);
    if (err == QM_OK)
        err = ask_references(s, &sound, found, ctx, fault);
    if (err == QM_OK)
        err = ask_ledger(s, &sound, found, ctx, fault);
    if (sqlite3_get_autocommit(s->db) == 0)
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    if (err == QM_OK && sound)
        found(ctx, check, QM_HEALTH_PASS, "every page, reference and ledger entry is sound", NULL);
    return err;
}
