#include "tools/store/store_beacon.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

#include "tools/store/store_inside.h"

qm_err qm_beacon_rotate(struct qm_store *s, struct qm_beacon_row *out, struct qm_fault *fault)
{
    const struct qm_policy *policy;
    char what[32];
    qm_err err = qm_store_policy(s, "", 0, &policy, fault);
    if (err != QM_OK)
        return err;
    if (getrandom(out->beacon.value, sizeof out->beacon.value, 0) != (ssize_t)sizeof out->beacon.value)
        return qm_fail(fault, QM_E_IO, errno, "no random bytes");
    out->since_ms = s->now_ms;
    out->until_ms = s->now_ms + policy->beacon_life_ms;
    sqlite3_stmt *st = store_sql(s, "INSERT INTO beacon(value, since_ms, until_ms, who) VALUES(?1, ?2, ?3, ?4)", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_blob(st, 1, out->beacon.value, sizeof out->beacon.value, SQLITE_STATIC);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)out->since_ms);
    sqlite3_bind_int64(st, 3, (sqlite3_int64)out->until_ms);
    sqlite3_bind_text(st, 4, s->who, -1, SQLITE_STATIC);
    err = store_run(s, st, fault);
    out->beacon.no = (uint32_t)sqlite3_last_insert_rowid(s->db);
    snprintf(what, sizeof what, "beacon %u", out->beacon.no);
    return err == QM_OK ? store_journal(s, what, NULL, NULL, fault) : err;
}

qm_err qm_beacons_live(struct qm_store *s, struct qm_beacon_row out[QM_BEACONS_MAX], unsigned *count, struct qm_fault *fault)
{
    const struct qm_policy *policy;
    *count = 0;
    qm_err err = qm_store_policy(s, "", 0, &policy, fault);
    if (err != QM_OK)
        return err;
    /* a life that was made shorter counts for those that are there; one that was made longer does not */
    sqlite3_stmt *st = store_sql(s,
                                 "SELECT no, value, since_ms, min(until_ms, since_ms + ?2) AS till FROM beacon WHERE till > ?1"
                                 " ORDER BY no DESC LIMIT ?3",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)s->now_ms);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)policy->beacon_life_ms);
    sqlite3_bind_int(st, 3, QM_BEACONS_MAX);
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && *count < QM_BEACONS_MAX) {
        struct qm_beacon_row *b = &out[*count];
        if (sqlite3_column_bytes(st, 1) != QM_BEACON_SIZE)
            return qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is damaged: a beacon", s->home);
        b->beacon.no = (uint32_t)sqlite3_column_int64(st, 0);
        memcpy(b->beacon.value, sqlite3_column_blob(st, 1), QM_BEACON_SIZE);
        b->since_ms = (uint64_t)sqlite3_column_int64(st, 2);
        b->until_ms = (uint64_t)sqlite3_column_int64(st, 3);
        ++*count;
    }
    sqlite3_reset(st);
    return rc == SQLITE_DONE ? QM_OK : store_fail(s, fault, "reading the beacons");
}

qm_err qm_beacons_load(struct qm_store *s, struct qm_beacons *out, struct qm_fault *fault)
{
    struct qm_beacon_row row[QM_BEACONS_MAX];
    qm_err err = qm_beacons_live(s, row, &out->count, fault);
    if (err != QM_OK)
        out->count = 0;
    for (unsigned i = 0; i < out->count; i++)
        out->beacon[i] = row[i].beacon;
    return err;
}
