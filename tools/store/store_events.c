#include "tools/store/store_events.h"

#include <stdlib.h>

#include "tools/store/store_inside.h"

enum { DAY_MS = 24 * 60 * 60 * 1000, SHARES = 10, MUCH = 8 /* an eighth */ };

/* ---- what is missing --------------------------------------------------------------------------------------------------- */

static uint64_t place_of(const struct qm_events_missing *m, uint64_t values_no)
{
    uint64_t i = values_no & (m->room - 1); /* numbers follow each other: they spread by themselves */
    while (m->at[i].values_no != 0 && m->at[i].values_no != values_no)
        i = (i + 1) & (m->room - 1);
    return i;
}

const struct qm_values_missing *qm_events_missing_find(const struct qm_events_missing *m, uint64_t values_no)
{
    if (m->count == 0 || values_no == 0)
        return NULL;
    const struct qm_values_missing *v = &m->at[place_of(m, values_no)];
    return v->values_no != 0 ? v : NULL;
}

void qm_events_missing_free(struct qm_events_missing *m)
{
    free(m->at);
    *m = (struct qm_events_missing){0};
}

static qm_err number_of(struct qm_store *s, const char *sql, uint64_t *number, struct qm_fault *fault)
{
    bool found;
    sqlite3_stmt *st = store_sql(s, sql, fault);
    return st != NULL ? store_number(s, st, number, &found, fault) : QM_E_STORE;
}

static const char bytes_sql[] = "SELECT value FROM meta WHERE key = 'events_bytes'";
static const char dropped_sql[] = "SELECT value FROM meta WHERE key = 'events_dropped_ms'";

/* May lists be dropped for others' sake? */
static qm_err may_drop(struct qm_store *s, bool *may, struct qm_fault *fault)
{
    uint64_t dropped_ms;
    qm_err err = number_of(s, dropped_sql, &dropped_ms, fault);
    *may = err == QM_OK && (s->now_ms < dropped_ms || s->now_ms - dropped_ms >= DAY_MS);
    return err;
}

static qm_err take_missing(struct qm_store *s, sqlite3_stmt *st, struct qm_events_missing *m, struct qm_fault *fault)
{
    int rc = SQLITE_DONE;
    while (m->count < QM_EVENTS_MISSING_MAX && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        const struct qm_values_missing v = {(uint64_t)sqlite3_column_int64(st, 0), (uint32_t)sqlite3_column_int64(st, 1)};
        struct qm_values_missing *at = &m->at[place_of(m, v.values_no)];
        if (v.values_no == 0 || at->values_no != 0)
            continue; /* seen on the way from the start already */
        *at = v;
        m->count++;
    }
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? QM_OK : store_fail(s, fault, "reading what lacks its events");
}

/* From somewhere on, then from the beginning: where there are too many, every one has its turn. */
static qm_err load_missing(struct qm_store *s, uint64_t last, struct qm_events_missing *m, struct qm_fault *fault)
{
    const uint64_t from[2] = {(s->now_ms * 0x9e3779b97f4a7c15u >> 20) % (last + 1), 0};
    m->room = 2 * (uint64_t)QM_EVENTS_MISSING_MAX;
    m->at = calloc(m->room, sizeof *m->at);
    qm_err err = m->at != NULL ? QM_OK : qm_fail(fault, QM_E_NOMEM, 0, "no memory for what lacks its events");
    for (unsigned i = 0; err == QM_OK && i < QM_COUNT(from); i++) {
        sqlite3_stmt *st = store_sql(s, "SELECT vals, mask FROM events_missing WHERE vals >= ?1 ORDER BY vals", fault);
        if (st == NULL)
            return QM_E_STORE;
        sqlite3_bind_int64(st, 1, (sqlite3_int64)from[i]);
        err = take_missing(s, st, m, fault);
    }
    return err;
}

qm_err qm_store_events_missing(struct qm_store *s, struct qm_events_missing *out, struct qm_fault *fault)
{
    uint64_t last, bytes = 0;
    bool may = true;
    *out = (struct qm_events_missing){0};
    qm_err err = number_of(s, "SELECT max(vals) FROM events_missing", &last, fault);
    if (err == QM_OK)
        err = number_of(s, "SELECT max(no) FROM pcr_values", &out->newest, fault);
    if (err == QM_OK)
        err = number_of(s, bytes_sql, &bytes, fault);
    if (err == QM_OK && bytes > QM_EVENTS_BYTES_MAX - QM_EVENT_LIST_BYTES_MAX)
        err = may_drop(s, &may, fault);
    if (err == QM_OK && last != 0 && may)
        err = load_missing(s, last, out, fault);
    if (err != QM_OK)
        qm_events_missing_free(out);
    return err;
}

qm_err qm_store_events_found(struct qm_store *s, uint64_t values_no, uint32_t mask, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "UPDATE events_missing SET mask = mask & ~?2 WHERE vals = ?1 AND mask & ?2 <> 0", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)values_no);
    sqlite3_bind_int64(st, 2, mask);
    qm_err err = store_run(s, st, fault);
    if (err != QM_OK || sqlite3_changes(s->db) == 0)
        return err;
    s->events_found = true;
    st = store_sql(s, "DELETE FROM events_missing WHERE vals = ?1 AND mask = 0", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)values_no);
    return store_run(s, st, fault);
}

/* ---- room -------------------------------------------------------------------------------------------------------------- */

static qm_err meta_change(struct qm_store *s, const char *sql, int64_t n, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, sql, fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, n);
    return store_run(s, st, fault);
}

static qm_err count_bytes(struct qm_store *s, int64_t more, struct qm_fault *fault)
{
    return meta_change(s, "UPDATE meta SET value = value + ?1 WHERE key = 'events_bytes'", more, fault);
}

/* Runs a statement over the lists of a PCR whose values begin with first..last. */
static qm_err over_share(struct qm_store *s, const char *sql, unsigned pcr, uint8_t first, uint8_t last, uint64_t *number,
                         struct qm_fault *fault)
{
    uint8_t from[1] = {first}, to[33];
    bool found;
    memset(to, 0xff, sizeof to); /* longer, so greater, than any value that begins so */
    to[0] = last;
    sqlite3_stmt *st = store_sql(s, sql, fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int(st, 1, (int)pcr);
    sqlite3_bind_blob(st, 2, from, sizeof from, SQLITE_TRANSIENT);
    sqlite3_bind_blob(st, 3, to, sizeof to, SQLITE_TRANSIENT);
    return store_number(s, st, number, &found, fault);
}

/* Values are hashes: a range of their first byte is a share of the lists, and which one goes is nobody's choice. What live sets
 * lack then is found again as everything is: all are asked for, and those that have their lists say so at the next log. */
static qm_err drop_share(struct qm_store *s, struct qm_fault *fault)
{
    static const char size[] = "SELECT total(length(events)) FROM pcr_events WHERE pcr = ?1 AND value BETWEEN ?2 AND ?3";
    static const char drop[] = "DELETE FROM pcr_events WHERE pcr = ?1 AND value BETWEEN ?2 AND ?3";
    unsigned share = (unsigned)(s->now_ms / DAY_MS % SHARES);
    uint8_t first = (uint8_t)(share * 256 / SHARES), last = (uint8_t)((share + 1) * 256 / SHARES - 1);
    uint64_t bytes = 0, n;
    qm_err err = QM_OK;
    for (unsigned pcr = 0; err == QM_OK && pcr < QM_PCR_COUNT; pcr++) {
        err = over_share(s, size, pcr, first, last, &n, fault);
        bytes += n;
        if (err == QM_OK)
            err = over_share(s, drop, pcr, first, last, &n, fault);
    }
    if (err == QM_OK)
        err = count_bytes(s, -(int64_t)bytes, fault);
    if (err == QM_OK)
        err = meta_change(s, "UPDATE meta SET value = ?1 WHERE key = 'events_dropped_ms'", (int64_t)s->now_ms, fault);
    return err == QM_OK ? store_exec(s, "INSERT OR REPLACE INTO events_missing SELECT no, mask FROM pcr_values", fault) : err;
}

static qm_err make_room(struct qm_store *s, size_t len, bool lacked, bool *room, struct qm_fault *fault)
{
    uint64_t bytes;
    bool may;
    *room = false;
    qm_err err = number_of(s, bytes_sql, &bytes, fault);
    if (err != QM_OK)
        return err;
    *room = bytes + len <= (lacked ? QM_EVENTS_BYTES_MAX : QM_EVENTS_BYTES_MAX / 2);
    if (*room || !lacked)
        return QM_OK;
    err = may_drop(s, &may, fault);
    if (err != QM_OK || !may)
        return err;
    err = drop_share(s, fault);
    if (err == QM_OK)
        err = number_of(s, bytes_sql, &bytes, fault);
    *room = bytes + len <= QM_EVENTS_BYTES_MAX;
    return err;
}

/* ---- lists ------------------------------------------------------------------------------------------------------------- */

static qm_err bound(struct qm_store *s, const char *sql, unsigned pcr, const uint8_t value[32], sqlite3_stmt **st, struct qm_fault *fault)
{
    *st = store_sql(s, sql, fault);
    if (*st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int(*st, 1, (int)pcr);
    sqlite3_bind_blob(*st, 2, value, 32, SQLITE_STATIC);
    return QM_OK;
}

static qm_err has_list(struct qm_store *s, unsigned pcr, const uint8_t value[32], bool *found, struct qm_fault *fault)
{
    sqlite3_stmt *st;
    uint64_t n;
    qm_err err = bound(s, "SELECT 1 FROM pcr_events WHERE pcr = ?1 AND value = ?2", pcr, value, &st, fault);
    return err == QM_OK ? store_number(s, st, &n, found, fault) : err;
}

static qm_err insert_list(struct qm_store *s, unsigned pcr, const uint8_t value[32], struct qm_span list, struct qm_fault *fault)
{
    sqlite3_stmt *st;
    qm_err err = bound(s, "INSERT INTO pcr_events VALUES(?1, ?2, ?3)", pcr, value, &st, fault);
    if (err != QM_OK)
        return err;
    sqlite3_bind_blob64(st, 3, list.p, list.len, SQLITE_STATIC);
    err = store_run(s, st, fault);
    if (err == QM_OK)
        err = count_bytes(s, (int64_t)list.len, fault);
    return err == QM_OK ? meta_change(s, "UPDATE meta SET value = value + ?1 WHERE key = 'events_new'", (int64_t)list.len, fault) : err;
}

qm_err qm_store_events_put(struct qm_store *s, unsigned pcr, const uint8_t value[32], struct qm_span list, bool lacked, bool *kept,
                           struct qm_fault *fault)
{
    qm_err err = has_list(s, pcr, value, kept, fault);
    if (err != QM_OK || *kept)
        return err;
    err = make_room(s, list.len, lacked, kept, fault);
    return err == QM_OK && *kept ? insert_list(s, pcr, value, list, fault) : err;
}

qm_err store_events_forget(struct qm_store *s, unsigned pcr, const uint8_t value[32], struct qm_fault *fault)
{
    sqlite3_stmt *st;
    uint64_t bytes;
    bool found;
    qm_err err = bound(s, "DELETE FROM pcr_events WHERE pcr = ?1 AND value = ?2 RETURNING length(events)", pcr, value, &st, fault);
    if (err == QM_OK)
        err = store_number(s, st, &bytes, &found, fault);
    return err == QM_OK && found ? count_bytes(s, -(int64_t)bytes, fault) : err;
}

qm_err qm_store_events_get(struct qm_store *s, unsigned pcr, const uint8_t value[32], uint8_t *room, struct qm_event_list *out,
                           bool *found, struct qm_fault *fault)
{
    sqlite3_stmt *st;
    *found = false;
    qm_err err = bound(s, "SELECT events FROM pcr_events WHERE pcr = ?1 AND value = ?2", pcr, value, &st, fault);
    if (err != QM_OK)
        return err;
    int rc = sqlite3_step(st);
    struct qm_span list = {room, 0};
    if (rc == SQLITE_ROW) {
        list.len = (size_t)sqlite3_column_bytes(st, 0);
        if (list.len <= QM_EVENT_LIST_BYTES_MAX)
            memcpy(room, sqlite3_column_blob(st, 0), list.len);
    }
    sqlite3_reset(st);
    if (rc != SQLITE_ROW)
        return rc == SQLITE_DONE ? QM_OK : store_fail(s, fault, "reading a PCR's events");
    *found = list.len <= QM_EVENT_LIST_BYTES_MAX && qm_event_list_read(list, out);
    return *found ? QM_OK : qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is damaged: the events of a PCR", s->home);
}

/* ---- the end of a transaction ------------------------------------------------------------------------------------------ */

/* One row of what was made: its PCRs that have lists now. */
static qm_err settle_values(struct qm_store *s, uint64_t values_no, uint32_t mask, uint32_t lacking, const uint8_t *value,
                            struct qm_fault *fault)
{
    uint32_t there = 0;
    qm_err err = QM_OK;
    for (unsigned pcr = 0; err == QM_OK && pcr < QM_PCR_COUNT; pcr++) {
        bool found = false;
        if ((lacking >> pcr & 1) != 0)
            err = has_list(s, pcr, value + 32 * (size_t)__builtin_popcount(mask & ((1u << pcr) - 1)), &found, fault);
        there |= (uint32_t)found << pcr;
    }
    return err == QM_OK && there != 0 ? qm_store_events_found(s, values_no, there, fault) : err;
}

static qm_err settle_made(struct qm_store *s, uint64_t after, struct qm_fault *fault)
{
    for (unsigned i = 0; i < QM_EVENTS_MISSING_MAX; i++) {
        uint8_t value[32 * QM_PCR_COUNT];
        sqlite3_stmt *st = store_sql(s, "SELECT v.no, v.mask, m.mask, v.value FROM events_missing m JOIN pcr_values v ON v.no = m.vals"
                                        " WHERE m.vals > ?1 ORDER BY m.vals LIMIT 1", fault);
        if (st == NULL)
            return QM_E_STORE;
        sqlite3_bind_int64(st, 1, (sqlite3_int64)after);
        int rc = sqlite3_step(st);
        if (rc != SQLITE_ROW) {
            sqlite3_reset(st);
            return rc == SQLITE_DONE ? QM_OK : store_fail(s, fault, "reading what lacks its events");
        }
        after = (uint64_t)sqlite3_column_int64(st, 0);
        uint32_t mask = (uint32_t)sqlite3_column_int64(st, 1);
        uint32_t lacking = (uint32_t)sqlite3_column_int64(st, 2) & mask;
        bool sound = mask >> QM_PCR_COUNT == 0 && sqlite3_column_bytes(st, 3) == 32 * __builtin_popcount(mask);
        if (sound && mask != 0)
            memcpy(value, sqlite3_column_blob(st, 3), 32 * (size_t)__builtin_popcount(mask));
        sqlite3_reset(st);
        qm_err err = sound ? settle_values(s, after, mask, lacking, value, fault) : QM_OK;
        if (err != QM_OK)
            return err;
    }
    return QM_OK;
}

/* Is what was put since the table was made worth a new one? Nothing is, as long as no live set lacked any of it. A table takes 6 us
 * for each instance: explanations may cost a hundredth of the time, so the larger the fleet, the longer they wait. */
static qm_err worth_a_table(struct qm_store *s, bool *worth, struct qm_fault *fault)
{
    uint64_t bytes, more, found, told_ms, missing, instances;
    *worth = false;
    qm_err err = number_of(s, "SELECT value FROM meta WHERE key = 'events_new'", &more, fault);
    if (err == QM_OK)
        err = number_of(s, "SELECT value FROM meta WHERE key = 'events_found'", &found, fault);
    if (err != QM_OK || more == 0 || found == 0)
        return err;
    err = number_of(s, bytes_sql, &bytes, fault);
    if (err == QM_OK)
        err = number_of(s, "SELECT value FROM meta WHERE key = 'events_told_ms'", &told_ms, fault);
    if (err == QM_OK)
        err = number_of(s, "SELECT count(*) FROM (SELECT 1 FROM events_missing LIMIT 1)", &missing, fault);
    if (err == QM_OK)
        err = qm_store_count(s, &instances, fault);
    if (err != QM_OK)
        return err;
    const uint64_t since_ms = s->now_ms < told_ms ? UINT64_MAX : s->now_ms - told_ms;
    *worth = since_ms >= instances * 6 * 100 / 1000 && (missing == 0 || more >= bytes / MUCH || since_ms >= DAY_MS);
    return QM_OK;
}

qm_err qm_store_events_settle(struct qm_store *s, const struct qm_events_missing *missing, struct qm_fault *fault)
{
    bool worth = false;
    qm_err err = QM_OK;
    if (s->events_found)
        err = meta_change(s, "UPDATE meta SET value = ?1 WHERE key = 'events_found'", 1, fault);
    if (err == QM_OK)
        err = settle_made(s, missing->newest, fault);
    if (err == QM_OK)
        err = worth_a_table(s, &worth, fault);
    s->changed |= worth;
    return err;
}

qm_err store_events_told(struct qm_store *s, struct qm_fault *fault)
{
    qm_err err = meta_change(s, "UPDATE meta SET value = ?1 WHERE key IN ('events_new', 'events_found')", 0, fault);
    return err == QM_OK ? meta_change(s, "UPDATE meta SET value = ?1 WHERE key = 'events_told_ms'", (int64_t)s->now_ms, fault) : err;
}
