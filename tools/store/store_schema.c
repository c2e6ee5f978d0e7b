/* The store's schema, and the way from older ones. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/kernel/key.h"
#include "tools/store/store_inside.h"

/* A set's values, a key's constants, a change and its words stand once, by content, however many instances share them. */
static const char first[] =
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "CREATE TABLE ak(no INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, made BLOB NOT NULL);"
    "CREATE TABLE profile(no INTEGER PRIMARY KEY, content BLOB NOT NULL UNIQUE);"
    "CREATE TABLE pcr_values(no INTEGER PRIMARY KEY, mask INTEGER NOT NULL, value BLOB NOT NULL, UNIQUE(mask, value));"
    "CREATE TABLE instance(slot INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, ak INTEGER NOT NULL REFERENCES ak,"
    " profile INTEGER NOT NULL REFERENCES profile, nonce BLOB, require_log INTEGER NOT NULL, grp TEXT, tags TEXT,"
    " line BLOB NOT NULL, enrolled_ms INTEGER NOT NULL, changed_ms INTEGER NOT NULL, generation INTEGER NOT NULL);"
    "CREATE INDEX instance_ak ON instance(ak);"
    "CREATE TABLE ak_history(slot INTEGER NOT NULL REFERENCES instance, ak INTEGER NOT NULL REFERENCES ak,"
    " since_ms INTEGER NOT NULL, until_ms INTEGER, who TEXT NOT NULL, how TEXT NOT NULL);"
    "CREATE INDEX ak_history_slot ON ak_history(slot);"
    "CREATE TABLE baseline(no INTEGER PRIMARY KEY, slot INTEGER NOT NULL REFERENCES instance,"
    " vals INTEGER NOT NULL REFERENCES pcr_values, origin TEXT NOT NULL, who TEXT NOT NULL, why TEXT,"
    " since_ms INTEGER NOT NULL, until_ms INTEGER, ended_ms INTEGER);"
    "CREATE INDEX baseline_slot ON baseline(slot, no);";

/* 1 -> 2: what a home remembers between runs: of machines and what is accepted ... */
static const char second_fleet[] =
    /* groups by number; instance.grp stays the name. generation: when the group's sets changed last */
    "CREATE TABLE grp(no INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, generation INTEGER NOT NULL DEFAULT 0);"
    "INSERT INTO grp(name) SELECT DISTINCT grp FROM instance WHERE grp IS NOT NULL ORDER BY grp;"
    "CREATE INDEX instance_grp ON instance(grp) WHERE grp IS NOT NULL;"
    /* parked: until hold_until_ms, or since when that hold ended */
    "ALTER TABLE instance ADD COLUMN hold_until_ms INTEGER;"
    "ALTER TABLE instance ADD COLUMN hold_why TEXT;"
    "ALTER TABLE instance ADD COLUMN hold_who TEXT;"
    "ALTER TABLE instance ADD COLUMN hold_since_ms INTEGER;"
    "CREATE INDEX instance_held ON instance(slot) WHERE hold_until_ms IS NOT NULL;"
    /* taken out; a slot is never given again, its keys' history stays. generation: of the first table that has the key */
    "CREATE TABLE ak_history2(slot INTEGER NOT NULL, ak INTEGER NOT NULL REFERENCES ak,"
    " since_ms INTEGER NOT NULL, until_ms INTEGER, who TEXT NOT NULL, how TEXT NOT NULL, generation INTEGER NOT NULL DEFAULT 0);"
    "INSERT INTO ak_history2(slot, ak, since_ms, until_ms, who, how) SELECT slot, ak, since_ms, until_ms, who, how FROM ak_history;"
    "DROP TABLE ak_history;"
    "ALTER TABLE ak_history2 RENAME TO ak_history;"
    "CREATE INDEX ak_history_slot ON ak_history(slot);"
    "CREATE TABLE retired(slot INTEGER PRIMARY KEY, id TEXT NOT NULL, grp TEXT, ak INTEGER, enrolled_ms INTEGER,"
    " retired_ms INTEGER NOT NULL, who TEXT NOT NULL, why TEXT);"
    "CREATE INDEX retired_id ON retired(id);"
    /* accepted sets: kind 0 whole (slot), 1 the group's (grp), 2 the instance's beside the group's (slot) */
    "CREATE TABLE baseline2(no INTEGER PRIMARY KEY, kind INTEGER NOT NULL DEFAULT 0, slot INTEGER, grp INTEGER REFERENCES grp,"
    " vals INTEGER NOT NULL REFERENCES pcr_values, origin TEXT NOT NULL, who TEXT NOT NULL, why TEXT, alert INTEGER, run INTEGER,"
    " since_ms INTEGER NOT NULL, until_ms INTEGER, passed_ms INTEGER, ended_ms INTEGER, ended_who TEXT, ended_why TEXT,"
    " CHECK((kind = 1) = (slot IS NULL) AND (kind = 1) = (grp IS NOT NULL)));"
    "INSERT INTO baseline2(no, slot, vals, origin, who, why, since_ms, until_ms, ended_ms)"
    " SELECT no, slot, vals, origin, who, why, since_ms, until_ms, ended_ms FROM baseline;"
    "DROP TABLE baseline;"
    "ALTER TABLE baseline2 RENAME TO baseline;"
    "CREATE INDEX baseline_slot ON baseline(slot, no) WHERE slot IS NOT NULL;"
    "CREATE INDEX baseline_grp ON baseline(grp, no) WHERE grp IS NOT NULL;"
    "CREATE INDEX baseline_run ON baseline(run) WHERE run IS NOT NULL;"
    "CREATE INDEX baseline_until ON baseline(until_ms) WHERE until_ms IS NOT NULL AND ended_ms IS NULL;"
    /* the events behind an accepted or alerted value of a PCR: type, digest, words of each (explain.h) */
    "CREATE TABLE pcr_events(pcr INTEGER NOT NULL, value BLOB NOT NULL, events BLOB NOT NULL, PRIMARY KEY(pcr, value)) WITHOUT ROWID;"
    "INSERT INTO meta VALUES('events_bytes', 0), ('events_dropped_ms', 0), ('events_new', 0), ('events_found', 0),"
    " ('events_told_ms', 0);"
    /* values that lack such lists, and of which PCRs: all of them, to begin with */
    "CREATE TABLE events_missing(vals INTEGER PRIMARY KEY, mask INTEGER NOT NULL);"
    "INSERT INTO events_missing SELECT no, mask FROM pcr_values;"
    "CREATE TRIGGER pcr_values_made AFTER INSERT ON pcr_values BEGIN INSERT INTO events_missing VALUES(new.no, new.mask); END;";
/* ... and of runs, alerts and decisions. */
static const char second_runs[] =
    /* policies: scope '' is the home, else a group's name */
    "CREATE TABLE config(scope TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, who TEXT NOT NULL, since_ms INTEGER NOT NULL,"
    " PRIMARY KEY(scope, key)) WITHOUT ROWID;"
    /* 31 entries of engine/ledger.h in slot order: slot s is entry s % 31 of block s / 31 */
    "CREATE TABLE ledger(block INTEGER PRIMARY KEY, entries BLOB NOT NULL);"
    "CREATE TABLE beacon(no INTEGER PRIMARY KEY, value BLOB NOT NULL, since_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL,"
    " who TEXT NOT NULL);"
    /* runs and applications; record: the run record as JSON */
    "CREATE TABLE run(no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, start_ms INTEGER NOT NULL,"
    " end_ms INTEGER NOT NULL, complete INTEGER NOT NULL, records INTEGER NOT NULL, generation INTEGER NOT NULL, record TEXT NOT NULL);"
    "CREATE INDEX run_end ON run(end_ms);"
    /* what alerts are about, once by content; kind: enum qm_alert_kind. grp 0: none. key: SHA-256 of all that makes it this change */
    "CREATE TABLE change(no INTEGER PRIMARY KEY, kind INTEGER NOT NULL, grp INTEGER NOT NULL, class INTEGER NOT NULL, key BLOB NOT NULL,"
    " name TEXT NOT NULL, items BLOB NOT NULL, detail TEXT, event TEXT, first_ms INTEGER NOT NULL, UNIQUE(kind, grp, key));"
    /* one for each machine; slot NULL: of the home (refusals, nothing from anyone). state: enum qm_alert_state. set_no: what was
     * accepted of it */
    "CREATE TABLE alert(no INTEGER PRIMARY KEY, kind INTEGER NOT NULL, slot INTEGER, change INTEGER NOT NULL REFERENCES change,"
    " state INTEGER NOT NULL, seen INTEGER NOT NULL, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, count INTEGER NOT NULL,"
    " closed_ms INTEGER, until_ms INTEGER, set_no INTEGER, restarts INTEGER, detail TEXT);"
    "CREATE INDEX alert_slot ON alert(slot, kind, state) WHERE slot IS NOT NULL;"
    "CREATE INDEX alert_change ON alert(change);"
    "CREATE INDEX alert_live ON alert(state, kind) WHERE state IN (0, 1);"
    "CREATE INDEX alert_unseen ON alert(closed_ms) WHERE state = 3 AND kind = 0 AND seen = 0;"
    "CREATE INDEX alert_closed ON alert(closed_ms) WHERE closed_ms IS NOT NULL;"
    /* what people did to alerts, and to which */
    "CREATE TABLE decision(no INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, why TEXT,"
    " until_ms INTEGER, alerts INTEGER NOT NULL);"
    "CREATE TABLE alert_decision(alert INTEGER NOT NULL, decision INTEGER NOT NULL REFERENCES decision, PRIMARY KEY(alert, decision))"
    " WITHOUT ROWID;"
    /* records refused by checks 1 to 7: one row for each reason and source */
    "CREATE TABLE refused(change INTEGER PRIMARY KEY REFERENCES change, reason INTEGER NOT NULL, source TEXT NOT NULL,"
    " sketch BLOB NOT NULL, ids TEXT NOT NULL);"
    /* who did what to the home, other than to alerts */
    "CREATE TABLE journal(no INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, subject TEXT, why TEXT);";

/* 2 -> 3: how keys earned their place. */
static const char third[] =
    /* how: 'file', 'credential', 'certificate'. ek: SHA-256 over the EK's SubjectPublicKeyInfo. bound: what said that the TPM, or the
     * certificate, is this id's: 'expected' (the operator's list), 'subject' (a certificate), 'confirmed'. proven_ms: when it was proven
     * last */
    "ALTER TABLE ak_history ADD COLUMN ek BLOB;"
    "ALTER TABLE ak_history ADD COLUMN bound TEXT;"
    "ALTER TABLE ak_history ADD COLUMN proven_ms INTEGER;"
    "CREATE INDEX ak_history_ek ON ak_history(ek) WHERE ek IS NOT NULL AND until_ms IS NULL;"
    /* challenges until they expire. state: enum qm_challenge_state. proof: SHA-256 over the one right proof. line: the enrolment that
     * the answer brings */
    "CREATE TABLE challenge(no INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, id TEXT NOT NULL, state INTEGER NOT NULL,"
    " proof BLOB NOT NULL, ek BLOB NOT NULL, bound TEXT, line TEXT NOT NULL, who TEXT NOT NULL, made_ms INTEGER NOT NULL,"
    " until_ms INTEGER NOT NULL, answered_ms INTEGER);"
    "CREATE INDEX challenge_id ON challenge(id);"
    "CREATE INDEX challenge_until ON challenge(until_ms);"
    "CREATE INDEX journal_subject ON journal(subject) WHERE subject IS NOT NULL;";

/* 3 -> 4: content changed too (remake_keys). */
static const char fourth[] = "CREATE INDEX IF NOT EXISTS challenge_ek ON challenge(ek);";

/* 4 -> 5: who vouched. */
static const char fifth[] =
    /* certificates that chains ended at; digest: SHA-256 over one */
    "CREATE TABLE anchor(no INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, subject TEXT NOT NULL);"
    /* NULL: none is known. Of a challenge: of the EK that it was made for */
    "ALTER TABLE ak_history ADD COLUMN anchor INTEGER REFERENCES anchor;"
    "ALTER TABLE challenge ADD COLUMN anchor INTEGER REFERENCES anchor;";

/* 5 -> 6: values are found by a hash. UNIQUE(mask, value) had an index in which all of them stood a second time: half of the room and
 * of the time of what is new. Who puts values looks for them first; of several with one hash, they are compared. */
static const char sixth[] =
    "CREATE TABLE pcr_values2(no INTEGER PRIMARY KEY, mask INTEGER NOT NULL, hash INTEGER NOT NULL, value BLOB NOT NULL);"
    "INSERT INTO pcr_values2 SELECT no, mask, values_hash(mask, value), value FROM pcr_values ORDER BY no;"
    "DROP TABLE pcr_values;"
    "ALTER TABLE pcr_values2 RENAME TO pcr_values;"
    "CREATE INDEX pcr_values_hash ON pcr_values(hash);"
    "CREATE TRIGGER pcr_values_made AFTER INSERT ON pcr_values BEGIN INSERT INTO events_missing VALUES(new.no, new.mask); END;";

static const struct {
    int version;
    const char *sql;
} steps[] = {{1, first}, {2, second_fleet}, {2, second_runs}, {3, third}, {4, fourth}, {5, fifth}, {6, sixth}};

static void values_hash(sqlite3_context *to, int count, sqlite3_value **of)
{
    const uint32_t mask = (uint32_t)sqlite3_value_int64(of[0]);
    const void *value = sqlite3_value_blob(of[1]);
    (void)count;
    sqlite3_result_int64(to, store_values_hash(mask, value, (size_t)sqlite3_value_bytes(of[1])));
}

qm_err store_schema_make(struct qm_store *s, int from, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    if (sqlite3_create_function(s->db, "values_hash", 2, SQLITE_UTF8 | SQLITE_DETERMINISTIC, NULL, values_hash, NULL, NULL) != SQLITE_OK)
        return store_fail(s, fault, "bringing it up to date");
    for (size_t i = 0; err == QM_OK && i < QM_COUNT(steps); i++)
        if (steps[i].version > from)
            err = store_exec(s, steps[i].sql, fault);
    return err;
}

/* A copy of the database as it is, for whoever must go back. VACUUM INTO is one consistent copy whatever others write. */
static qm_err keep_copy(struct qm_store *s, int version, struct qm_fault *fault)
{
    char path[4096 + 64], tmp[4096 + 72];
    int n = snprintf(path, sizeof path, "%s/fleet.db.schema-%d", s->home, version);
    if (n < 0 || (size_t)n >= sizeof path)
        return qm_fail(fault, QM_E_LIMIT, 0, "the path of the home is too long");
    snprintf(tmp, sizeof tmp, "%s.new", path);
    unlink(tmp); /* of an earlier try that did not get further */
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(s->db, "VACUUM INTO ?1", -1, &st, NULL) != SQLITE_OK)
        return store_fail(s, fault, "copying it");
    sqlite3_bind_text(st, 1, tmp, -1, SQLITE_STATIC);
    qm_err err = store_run(s, st, fault);
    sqlite3_finalize(st);
    int fd = err == QM_OK ? open(tmp, O_RDONLY | O_CLOEXEC) : -1;
    if (err == QM_OK && (fd < 0 || fsync(fd) != 0 || rename(tmp, path) != 0))
        err = qm_fail(fault, QM_E_IO, errno, "cannot keep %s", path);
    if (fd >= 0)
        close(fd);
    if (err != QM_OK)
        unlink(tmp);
    return err;
}

/* Every instance that was there before the ledger gets its entry. */
static qm_err begin_ledger(struct qm_store *s, struct qm_fault *fault)
{
    sqlite3_stmt *st = NULL;
    qm_err err = QM_OK;
    int rc = SQLITE_DONE;
    if (sqlite3_prepare_v2(s->db, "SELECT i.slot, i.ak, i.enrolled_ms, ifnull(g.no, 0) FROM instance i LEFT JOIN grp g ON g.name = i.grp"
                                  " ORDER BY i.slot", -1, &st, NULL) != SQLITE_OK)
        return store_fail(s, fault, "reading the instances");
    while (err == QM_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        struct qm_ledger l = {.ak = (uint32_t)sqlite3_column_int64(st, 1),
                              .enrolled_s = (uint32_t)(sqlite3_column_int64(st, 2) / 1000),
                              .group = (uint32_t)sqlite3_column_int64(st, 3)};
        err = qm_store_ledger_put(s, (uint64_t)sqlite3_column_int64(st, 0), &l, fault);
    }
    if (err == QM_OK && rc != SQLITE_DONE)
        err = store_fail(s, fault, "reading the instances");
    sqlite3_finalize(st);
    return err == QM_OK ? store_ledger_flush(s, fault) : err;
}

/* 3 -> 4: the combs of EC keys have another shape. A key that is not sound stays as it is: no table takes it. */
static qm_err remake_keys(struct qm_store *s, struct qm_fault *fault)
{
    struct qm_key *old = aligned_alloc(QM_CACHE_LINE, QM_KEY_BYTES_MAX), *key = aligned_alloc(QM_CACHE_LINE, QM_KEY_BYTES_MAX);
    sqlite3_stmt *next = NULL, *put = NULL;
    qm_err err = QM_OK;
    int rc = SQLITE_DONE;
    if (old == NULL || key == NULL)
        err = qm_fail(fault, QM_E_NOMEM, 0, "no memory to make keys again");
    else if (sqlite3_prepare_v2(s->db, "SELECT no, made FROM ak WHERE no > ?1 ORDER BY no LIMIT 1", -1, &next, NULL) != SQLITE_OK ||
             sqlite3_prepare_v2(s->db, "UPDATE ak SET made = ?2 WHERE no = ?1", -1, &put, NULL) != SQLITE_OK)
        err = store_fail(s, fault, "reading the keys");
    if (err == QM_OK)
        sqlite3_bind_int64(next, 1, INT64_MIN);
    while (err == QM_OK && (rc = sqlite3_step(next)) == SQLITE_ROW) {
        const sqlite3_int64 no = sqlite3_column_int64(next, 0);
        const void *made = sqlite3_column_blob(next, 1);
        const size_t bytes = (size_t)sqlite3_column_bytes(next, 1);
        bool again = bytes >= sizeof *old && bytes <= QM_KEY_BYTES_MAX;
        if (again) {
            memcpy(old, made, bytes);
            again = qm_key_sound(old, bytes) && old->sig_class > QM_SIG_RSA_ANY;
        }
        if (again)
            err = qm_key_remake(old, key, fault);
        if (again && err == QM_OK) {
            sqlite3_bind_int64(put, 1, no);
            sqlite3_bind_blob(put, 2, key, (int)key->bytes, SQLITE_STATIC);
            err = store_run(s, put, fault);
        }
        sqlite3_reset(next);
        sqlite3_bind_int64(next, 1, no);
    }
    if (err == QM_OK && rc != SQLITE_DONE)
        err = store_fail(s, fault, "reading the keys");
    sqlite3_finalize(next);
    sqlite3_finalize(put);
    free(key);
    free(old);
    return err;
}

static qm_err migrate(struct qm_store *s, struct qm_fault *fault)
{
    char sql[80];
    /* Another may have migrated meanwhile: the version counts again inside the transaction. */
    sqlite3_stmt *st = NULL;
    uint64_t now = 0;
    bool found = false;
    qm_err err = store_exec(s, "BEGIN IMMEDIATE", fault);
    if (err != QM_OK)
        return err;
    if (sqlite3_prepare_v2(s->db, "SELECT value FROM meta WHERE key = 'schema'", -1, &st, NULL) != SQLITE_OK)
        err = store_fail(s, fault, "reading it");
    if (err == QM_OK)
        err = store_number(s, st, &now, &found, fault);
    sqlite3_finalize(st);
    if (err == QM_OK && (int)now < QM_STORE_SCHEMA)
        err = store_schema_make(s, (int)now, fault);
    if (err == QM_OK && now < 2)
        err = begin_ledger(s, fault);
    store_ledger_forget(s);
    if (err == QM_OK && now < 4)
        err = remake_keys(s, fault);
    snprintf(sql, sizeof sql, "UPDATE meta SET value = %d WHERE key = 'schema'", QM_STORE_SCHEMA);
    if (err == QM_OK)
        err = store_exec(s, sql, fault);
    if (err == QM_OK)
        return store_exec(s, "COMMIT", fault);
    qm_err undone = store_exec(s, "ROLLBACK", NULL);
    (void)undone; /* closing does it too */
    return err;
}

qm_err store_schema_migrate(struct qm_store *s, int version, struct qm_fault *fault)
{
    qm_err err = keep_copy(s, version, fault);
    if (err == QM_OK) /* a table that others refer to cannot be replaced otherwise */
        err = store_exec(s, "PRAGMA foreign_keys=OFF", fault);
    if (err == QM_OK)
        err = migrate(s, fault);
    return err == QM_OK ? store_exec(s, "PRAGMA foreign_keys=ON", fault) : err;
}
