/* Machines of the fleet, one by one. */
#include <stdio.h>

#include "engine/compare.h"
#include "tools/show.h"
#include "tools/store/store_ceremony.h"
#include "tools/store/store_status_inside.h"

enum { BLOCK_BYTES = QM_LEDGER_BLOCK * (int)sizeof(struct qm_ledger) };

/* The ledger's block last read: machines come in slot order. */
struct block {
    bool held;
    uint64_t no;
    struct qm_ledger entry[QM_LEDGER_BLOCK];
};

static qm_err read_entry(struct qm_store *s, struct block *b, uint64_t slot, struct qm_ledger *out, struct qm_fault *fault)
{
    const uint64_t no = slot / QM_LEDGER_BLOCK;
    if (!b->held || b->no != no) {
        sqlite3_stmt *st = store_sql(s, "SELECT entries FROM ledger WHERE block = ?1", fault);
        if (st == NULL)
            return QM_E_STORE;
        sqlite3_bind_int64(st, 1, (sqlite3_int64)no);
        const int rc = sqlite3_step(st);
        if (rc != SQLITE_ROW && rc != SQLITE_DONE)
            return store_fail(s, fault, "reading the ledger");
        if (rc == SQLITE_ROW && sqlite3_column_bytes(st, 0) != BLOCK_BYTES)
            return qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is damaged: block %llu of the ledger", s->home, (unsigned long long)no);
        if (rc == SQLITE_ROW)
            memcpy(b->entry, sqlite3_column_blob(st, 0), BLOCK_BYTES);
        else
            memset(b->entry, 0, sizeof b->entry);
        sqlite3_reset(st);
        b->held = true;
        b->no = no;
    }
    *out = b->entry[slot % QM_LEDGER_BLOCK];
    if (!store_entry_sound(out))
        return qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is damaged: entry %llu of the ledger", s->home, (unsigned long long)slot);
    return QM_OK;
}

enum { M_SLOT, M_ID, M_GROUP, M_TAGS, M_TAG };
#define MACHINE_COLUMNS "SELECT slot, id, grp, tags, CASE WHEN ?2 IS NOT NULL THEN" \
    " (SELECT t.value FROM json_each(tags) t WHERE t.key = ?2) END tag FROM instance"

static struct qm_span text_of(sqlite3_stmt *st, int column)
{
    const uint8_t *text = sqlite3_column_text(st, column);
    return text != NULL ? (struct qm_span){text, (size_t)sqlite3_column_bytes(st, column)} : (struct qm_span){0};
}

static qm_err take_machine(const struct qm_fleet *f, sqlite3_stmt *st, struct block *b, qm_machine_visit visit, void *ctx,
                           struct qm_fault *fault)
{
    struct qm_machine m = {
        .slot = (uint64_t)sqlite3_column_int64(st, M_SLOT),
        .id = text_of(st, M_ID),
        .group = text_of(st, M_GROUP),
        .tags = text_of(st, M_TAGS),
        .tag = text_of(st, M_TAG),
    };
    m.group_no = m.group.p != NULL ? store_fleet_group(f, (const char *)m.group.p, m.group.len) : 0;
    qm_err err = read_entry(f->store, b, m.slot, &m.entry, fault);
    if (err != QM_OK)
        return err;
    const struct qm_standing_times times = qm_fleet_times(f, m.group_no);
    m.standing = qm_standing_of(&m.entry, &times);
    return visit(ctx, &m, fault);
}

/* Every machine that the statement gives; it is one of the store's own. */
static qm_err each(const struct qm_fleet *f, sqlite3_stmt *st, qm_machine_visit visit, void *ctx, uint64_t *count, struct qm_fault *fault)
{
    struct block b = {0};
    qm_err err = QM_OK;
    int rc = SQLITE_DONE;
    *count = 0;
    while (err == QM_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        ++*count;
        err = take_machine(f, st, &b, visit, ctx, fault);
    }
    if (err == QM_OK && rc != SQLITE_DONE)
        err = store_fail(f->store, fault, "reading the instances");
    sqlite3_reset(st);
    return err;
}

qm_err qm_fleet_each(const struct qm_fleet *f, const struct qm_fleet_filter *filter, qm_machine_visit visit, void *ctx,
                     struct qm_fault *fault)
{
    static const char all[] = MACHINE_COLUMNS " WHERE (?3 IS NULL OR tag = ?3) ORDER BY slot";
    static const char of_group[] = MACHINE_COLUMNS " WHERE grp = ?1 AND (?3 IS NULL OR tag = ?3) ORDER BY slot";
    sqlite3_stmt *st = store_sql(f->store, filter->group != NULL ? of_group : all, fault);
    uint64_t count;
    if (st == NULL)
        return QM_E_STORE;
    if (filter->group != NULL)
        sqlite3_bind_text(st, 1, filter->group, -1, SQLITE_STATIC);
    if (filter->tag_key != NULL)
        sqlite3_bind_text(st, 2, filter->tag_key, -1, SQLITE_STATIC);
    if (filter->tag_value != NULL)
        sqlite3_bind_text(st, 3, filter->tag_value, -1, SQLITE_STATIC);
    return each(f, st, visit, ctx, &count, fault);
}

qm_err qm_fleet_slot(const struct qm_fleet *f, uint64_t slot, qm_machine_visit visit, void *ctx, bool *found, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(f->store, MACHINE_COLUMNS " WHERE slot = ?1", fault);
    uint64_t count;
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)slot);
    qm_err err = each(f, st, visit, ctx, &count, fault);
    *found = count != 0;
    return err;
}

qm_err qm_fleet_id(const struct qm_fleet *f, const char *id, size_t len, qm_machine_visit visit, void *ctx, bool *found,
                   struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(f->store, MACHINE_COLUMNS " WHERE id = ?1", fault);
    uint64_t count;
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_text(st, 1, id, (int)len, SQLITE_STATIC);
    qm_err err = each(f, st, visit, ctx, &count, fault);
    *found = count != 0;
    return err;
}

qm_err qm_fleet_unknown(const struct qm_fleet *f, const char *id, struct qm_fault *fault)
{
    static const char sql[] = "SELECT retired_ms AS at_ms, who, why, 1 FROM retired WHERE id = ?1 UNION ALL SELECT at_ms, who, why, 0 FROM journal"
                              " WHERE subject = ?1 AND what = '" STORE_NOTE_REJECTED "' ORDER BY at_ms DESC LIMIT 1";
    char shown[512], who[512], age[QM_AGE_MAX];
    struct qm_out o = qm_out_init(shown, sizeof shown - 1), w = qm_out_init(who, sizeof who - 1);
    sqlite3_stmt *st = store_sql(f->store, sql, fault);
    if (st == NULL)
        return QM_E_STORE;
    qm_out_shown(&o, (struct qm_span){(const uint8_t *)id, strnlen(id, QM_ID_MAX)});
    shown[o.len] = '\0';
    sqlite3_bind_text(st, 1, id, -1, SQLITE_STATIC);
    const int rc = sqlite3_step(st);
    qm_err err = QM_E_USAGE;
    if (rc == SQLITE_ROW) {
        const char *ago = qm_ago(age, f->now_ms, (uint64_t)sqlite3_column_int64(st, 0));
        qm_out_shown(&w, text_of(st, 1));
        if (sqlite3_column_bytes(st, 2) != 0) {
            qm_out_text(&w, ": ");
            qm_out_shown(&w, text_of(st, 2));
        }
        who[w.len] = '\0';
        if (sqlite3_column_int(st, 3) != 0)
            qm_fail(fault, err, 0, "'%.256s' was retired %s by %s", shown, ago, who);
        else
            qm_fail(fault, err, 0, "no instance '%.256s' is enrolled; an answer under this id was rejected %s by %s", shown, ago, who);
    } else if (rc == SQLITE_DONE) {
        qm_fail(fault, err, 0, "no instance '%.256s' is enrolled", shown);
    } else {
        err = store_fail(f->store, fault, "reading it");
    }
    sqlite3_reset(st);
    return err;
}

/* ---- more of one machine ----------------------------------------------------------------------------------------------- */

static const char *words(sqlite3_stmt *st, int column)
{
    const char *text = (const char *)sqlite3_column_text(st, column);
    return text != NULL ? text : "";
}

qm_err qm_machine_alerts(const struct qm_fleet *f, const struct qm_machine *m, qm_machine_alert_visit visit, void *ctx,
                         struct qm_fault *fault)
{
    static const char sql[] =
        "SELECT a.no, a.kind, a.state, a.first_ms, a.last_ms, a.count, a.until_ms, c.name, (SELECT d.why FROM alert_decision x"
        " JOIN decision d ON d.no = x.decision WHERE x.alert = a.no ORDER BY d.no DESC LIMIT 1)"
        " FROM alert a JOIN change c ON c.no = a.change WHERE a.slot = ?1 AND (a.state IN (0, 1)"
        " OR (a.state = 3 AND a.kind = 0 AND a.seen = 0 AND a.closed_ms > ?2)) ORDER BY a.no DESC";
    const uint64_t month = 30ull * 24 * 3600 * 1000;
    sqlite3_stmt *st = store_sql(f->store, sql, fault);
    qm_err err = QM_OK;
    int rc = SQLITE_DONE;
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)m->slot);
    sqlite3_bind_int64(st, 2, f->now_ms > month ? (sqlite3_int64)(f->now_ms - month) : 0);
    while (err == QM_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        const struct qm_machine_alert a = {
            .no = (uint64_t)sqlite3_column_int64(st, 0),
            .kind = (enum qm_alert_kind)sqlite3_column_int(st, 1),
            .state = (enum qm_alert_state)sqlite3_column_int(st, 2),
            .first_ms = (uint64_t)sqlite3_column_int64(st, 3),
            .last_ms = (uint64_t)sqlite3_column_int64(st, 4),
            .count = (uint64_t)sqlite3_column_int64(st, 5),
            .until_ms = (uint64_t)sqlite3_column_int64(st, 6),
            .change = words(st, 7),
            .why = words(st, 8),
        };
        err = visit(ctx, &a, fault);
    }
    if (err == QM_OK && rc != SQLITE_DONE)
        err = store_fail(f->store, fault, "reading the alerts");
    sqlite3_reset(st);
    return err;
}

qm_err qm_machine_key(const struct qm_fleet *f, uint64_t slot, struct qm_machine_key *out, struct qm_fault *fault)
{
    static const char sql[] = "SELECT a.digest, h.since_ms, h.who, h.how,"
                              " (SELECT count(*) FROM ak_history e WHERE e.slot = i.slot AND e.until_ms IS NOT NULL), h.ek, h.bound, h.proven_ms,"
                              " h.anchor"
                              " FROM instance i JOIN ak a ON a.no = i.ak LEFT JOIN ak_history h ON h.slot = i.slot AND h.until_ms IS NULL"
                              " WHERE i.slot = ?1";
    sqlite3_stmt *st = store_sql(f->store, sql, fault);
    *out = (struct qm_machine_key){0};
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)slot);
    if (sqlite3_step(st) != SQLITE_ROW)
        return store_fail(f->store, fault, "reading a key");
    if (sqlite3_column_bytes(st, 0) == sizeof out->digest)
        memcpy(out->digest, sqlite3_column_blob(st, 0), sizeof out->digest);
    out->since_ms = (uint64_t)sqlite3_column_int64(st, 1);
    snprintf(out->who, sizeof out->who, "%s", words(st, 2));
    snprintf(out->how, sizeof out->how, "%s", words(st, 3));
    out->earlier = (uint64_t)sqlite3_column_int64(st, 4);
    out->has_ek = sqlite3_column_bytes(st, 5) == sizeof out->ek;
    if (out->has_ek)
        memcpy(out->ek, sqlite3_column_blob(st, 5), sizeof out->ek);
    snprintf(out->bound, sizeof out->bound, "%s", words(st, 6));
    out->proven_ms = (uint64_t)sqlite3_column_int64(st, 7);
    const uint64_t anchor = (uint64_t)sqlite3_column_int64(st, 8);
    sqlite3_reset(st);
    return qm_store_anchor_get(f->store, anchor, &out->ca, fault);
}

qm_err qm_machine_hold(const struct qm_fleet *f, uint64_t slot, struct qm_machine_hold *out, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(f->store, "SELECT hold_since_ms, hold_who, hold_why FROM instance WHERE slot = ?1", fault);
    *out = (struct qm_machine_hold){0};
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)slot);
    if (sqlite3_step(st) != SQLITE_ROW)
        return store_fail(f->store, fault, "reading a hold");
    out->since_ms = (uint64_t)sqlite3_column_int64(st, 0);
    snprintf(out->who, sizeof out->who, "%s", words(st, 1));
    snprintf(out->why, sizeof out->why, "%s", words(st, 2));
    sqlite3_reset(st);
    return QM_OK;
}

qm_err qm_machine_notes(const struct qm_fleet *f, const struct qm_machine *m, qm_machine_note_visit visit, void *ctx,
                        struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(f->store,
                                 "SELECT at_ms, who, what, why FROM journal WHERE subject = ?1"
                                 " AND what IN ('weaker enrolment', 'weaker enrolment refused', 'proven enrolment', '" STORE_NOTE_REJECTED "')"
                                 " ORDER BY no DESC LIMIT ?2",
                                 fault);
    qm_err err = QM_OK;
    int rc = SQLITE_DONE;
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_text(st, 1, (const char *)m->id.p, (int)m->id.len, SQLITE_STATIC);
    sqlite3_bind_int(st, 2, QM_MACHINE_NOTES_MAX);
    while (err == QM_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        const struct qm_machine_note note = {(uint64_t)sqlite3_column_int64(st, 0), words(st, 1), words(st, 2), words(st, 3)};
        err = visit(ctx, &note, fault);
    }
    if (err == QM_OK && rc != SQLITE_DONE)
        err = store_fail(f->store, fault, "reading the history");
    sqlite3_reset(st);
    return err;
}

/* ---- boot stages ------------------------------------------------------------------------------------------------------- */

/* Values by number laid over what is there. */
static qm_err lay_over(struct qm_store *s, uint32_t values_no, uint8_t *room, uint32_t *mask, struct qm_fault *fault)
{
    uint8_t values[QM_PCR_COUNT * 32];
    const uint8_t *p = values;
    uint32_t got = 0;
    bool found = false;
    if (values_no == 0)
        return QM_OK;
    qm_err err = qm_values_get(s, values_no, &got, values, &found, fault);
    for (unsigned pcr = 0; err == QM_OK && found && pcr < QM_PCR_COUNT; pcr++)
        if ((got >> pcr & 1) != 0) {
            memcpy(room + 32 * (size_t)pcr, p, 32);
            *mask |= 1u << pcr;
            p += 32;
        }
    return err;
}

/* What the newest record passes on, or is nearest to; without one, the newest live set. */
static qm_err expected_values(const struct qm_fleet *f, const struct qm_machine *m, const struct qm_instance_row *row, uint8_t *room,
                              uint32_t *mask, struct qm_fault *fault)
{
    struct qm_live_sets live = {0};
    *mask = 0;
    if (m->entry.set_a != 0) {
        /* The group's values over the instance's, which may be those of a whole set. */
        qm_err err = lay_over(f->store, m->entry.set_b, room, mask, fault);
        return err == QM_OK ? lay_over(f->store, m->entry.set_a, room, mask, fault) : err;
    }
    qm_err err = qm_live_sets_init(&live, fault);
    if (err == QM_OK)
        err = qm_live_sets_load(f->store, row, &live, fault);
    for (unsigned pcr = 0; err == QM_OK && live.count != 0 && pcr < QM_PCR_COUNT; pcr++) {
        const uint8_t *value = qm_set_value(live.set[0], pcr);
        if (value == NULL)
            continue;
        memcpy(room + 32 * (size_t)pcr, value, 32);
        *mask |= 1u << pcr;
    }
    qm_live_sets_close(&live);
    return err;
}

qm_err qm_machine_stages(const struct qm_fleet *f, const struct qm_machine *m, struct qm_machine_stages *out, struct qm_fault *fault)
{
    struct qm_instance_row row;
    const struct qm_policy *policy;
    const uint8_t *value[QM_PCR_COUNT] = {NULL};
    union {
        struct qm_set set;
        uint8_t bytes[sizeof(struct qm_set) + QM_PCR_COUNT * 32];
    } expected = {0};
    uint32_t measured_mask = 0, mask = 0;
    bool known = false, found = false;
    memset(out, 0, sizeof *out);
    qm_err err = qm_store_instance(f->store, m->slot, &row, &found, fault);
    if (err == QM_OK)
        err = qm_store_policy(f->store, row.group, strlen(row.group), &policy, fault);
    if (err == QM_OK && found)
        err = qm_store_measured(f->store, &m->entry, out->room[0], value, &measured_mask, &known, fault);
    if (err == QM_OK && found)
        err = expected_values(f, m, &row, out->room[1], &mask, fault);
    if (err != QM_OK || !found)
        return err;
    out->profile = row.profile;
    expected.set.mask = mask & row.profile.baselined;
    expected.set.value_off = sizeof expected.set;
    uint8_t *to = expected.bytes + sizeof expected.set;
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        if ((expected.set.mask >> pcr & 1) != 0) {
            memcpy(to, out->room[1] + 32 * (size_t)pcr, 32);
            to += 32;
        }
    known = known && (measured_mask & row.profile.baselined) == row.profile.baselined; /* else it was baselined otherwise then */
    out->count = qm_stages(known ? value : NULL, row.profile.baselined, expected.set.mask != 0 ? &expected.set : NULL, out->stage,
                           &out->first_fail);
    for (unsigned i = 0; i < out->count; i++) {
        struct qm_stage *stage = &out->stage[i];
        const char *name = policy->stage_name[stage->pcr];
        if (stage->expected != NULL)
            stage->expected = out->room[1] + 32 * (size_t)stage->pcr; /* the set goes out of scope */
        snprintf(out->name[i], sizeof out->name[i], "%s", name[0] != '\0' ? name : qm_stage_name(stage->pcr));
    }
    return QM_OK;
}

/* ---- accepted sets ----------------------------------------------------------------------------------------------------- */

qm_err qm_machine_sets(const struct qm_fleet *f, const struct qm_machine *m, qm_machine_set_visit visit, void *ctx,
                       struct qm_fault *fault)
{
    static const char sql[] = "SELECT no, kind, vals, origin, who, why, alert, since_ms, until_ms FROM baseline"
                              " WHERE (slot = ?1 OR grp = ?2) AND ended_ms IS NULL AND (until_ms IS NULL OR until_ms > ?3) ORDER BY no DESC";
    sqlite3_stmt *st = store_sql(f->store, sql, fault);
    qm_err err = QM_OK;
    int rc = SQLITE_DONE;
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)m->slot);
    sqlite3_bind_int64(st, 2, m->group_no);
    sqlite3_bind_int64(st, 3, (sqlite3_int64)f->now_ms);
    while (err == QM_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        const uint32_t values = (uint32_t)sqlite3_column_int64(st, 2);
        const struct qm_machine_set set = {
            .no = (uint64_t)sqlite3_column_int64(st, 0),
            .kind = (enum qm_set_kind)sqlite3_column_int(st, 1),
            .nearest = values != 0 && (values == m->entry.set_a || values == m->entry.set_b),
            .origin = words(st, 3),
            .who = words(st, 4),
            .why = words(st, 5),
            .alert = (uint64_t)sqlite3_column_int64(st, 6),
            .since_ms = (uint64_t)sqlite3_column_int64(st, 7),
            .until_ms = (uint64_t)sqlite3_column_int64(st, 8),
        };
        err = visit(ctx, &set, fault);
    }
    if (err == QM_OK && rc != SQLITE_DONE)
        err = store_fail(f->store, fault, "reading the accepted sets");
    sqlite3_reset(st);
    return err;
}
