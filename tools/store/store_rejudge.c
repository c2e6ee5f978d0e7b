/* Judging again what was judged before, because what is accepted has changed. */
#include <stdlib.h>

#include "engine/compare.h"
#include "tools/store/store_inside.h"

enum { ITEM_BYTES = 1 + 32 + 32 };

/* The items of a change: triples, or a digest alone. */
static qm_err change_items(struct qm_store *s, uint32_t change, uint8_t *room, size_t cap, size_t *len, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "SELECT items FROM change WHERE no = ?1", fault);
    *len = 0;
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, change);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW && (size_t)sqlite3_column_bytes(st, 0) <= cap) {
        *len = (size_t)sqlite3_column_bytes(st, 0);
        if (*len != 0)
            memcpy(room, sqlite3_column_blob(st, 0), *len);
    }
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? QM_OK : store_fail(s, fault, "reading a change");
}

/* Puts the values numbered so into room, those of PCRs in `over` over what is there, others where nothing is yet. */
static qm_err lay(struct qm_store *s, uint32_t values_no, uint32_t over, uint8_t *room, uint32_t *mask, struct qm_fault *fault)
{
    uint8_t values[32 * QM_PCR_COUNT];
    const uint8_t *from = values;
    uint32_t have;
    bool found;
    if (values_no == 0)
        return QM_OK;
    qm_err err = qm_values_get(s, values_no, &have, values, &found, fault);
    if (err != QM_OK || !found)
        return err;
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++) {
        if ((have >> pcr & 1) == 0)
            continue;
        if (((over | ~*mask) >> pcr & 1) != 0)
            memcpy(room + 32 * (size_t)pcr, from, 32);
        from += 32;
    }
    *mask |= have;
    return QM_OK;
}

static qm_err class_group(struct qm_store *s, uint32_t group_no, uint32_t *mask, struct qm_fault *fault)
{
    const struct qm_policy *policy;
    *mask = 0;
    if (group_no == 0)
        return QM_OK;
    sqlite3_stmt *st = store_sql(s, "SELECT name FROM grp WHERE no = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, group_no);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_DONE) {
        sqlite3_reset(st);
        return QM_OK;
    }
    if (rc != SQLITE_ROW)
        return store_fail(s, fault, "reading a group");
    qm_err err =
        qm_store_policy(s, (const char *)sqlite3_column_text(st, 0), (size_t)sqlite3_column_bytes(st, 0), &policy, fault);
    *mask = err == QM_OK ? policy->class_group : 0;
    sqlite3_reset(st);
    return err;
}

qm_err qm_store_measured(struct qm_store *s, const struct qm_ledger *entry, uint8_t *room, const uint8_t *value[QM_PCR_COUNT],
                         uint32_t *mask, bool *known, struct qm_fault *fault)
{
    const uint8_t both = QM_LEDGER_STATUS | QM_LEDGER_PROVEN;
    uint32_t shared = 0;
    *known = false;
    *mask = 0;
    memset(value, 0, QM_PCR_COUNT * sizeof *value);
    if ((entry->flags & both) != both)
        return QM_OK;
    /* a whole set beside a group's has values for the group's PCRs too, which do not count */
    qm_err err = entry->set_a != 0 && entry->set_b != 0 ? class_group(s, entry->group, &shared, fault) : QM_OK;
    if (err == QM_OK)
        err = lay(s, entry->set_a, 0, room, mask, fault);
    if (err == QM_OK)
        err = lay(s, entry->set_b, ~shared, room, mask, fault);
    for (unsigned i = 0; err == QM_OK && i < QM_COUNT(entry->change); i++) {
        uint8_t items[ITEM_BYTES * QM_PCR_COUNT];
        size_t len = 0;
        if (entry->change[i] != 0)
            err = change_items(s, entry->change[i], items, sizeof items, &len, fault);
        for (size_t at = 0; err == QM_OK && len % ITEM_BYTES == 0 && at < len; at += ITEM_BYTES)
            if (items[at] < QM_PCR_COUNT) {
                memcpy(room + 32 * (size_t)items[at], items + at + 33, 32);
                *mask |= 1u << items[at];
            }
    }
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++)
        if ((*mask >> pcr & 1) != 0)
            value[pcr] = room + 32 * (size_t)pcr;
    *known = err == QM_OK && *mask != 0;
    return err;
}

/* The live set that the signed digest of a record without proven values is of; NULL: none, or the digest was not kept. */
static qm_err set_of_digest(struct qm_store *s, const struct qm_ledger *entry, const struct qm_live_sets *live,
                            const struct qm_set **set, struct qm_fault *fault)
{
    uint8_t digest[QM_DIGEST_MAX];
    size_t len;
    *set = NULL;
    if ((entry->flags & QM_LEDGER_PROVEN) != 0 || entry->change[0] == 0)
        return QM_OK;
    qm_err err = change_items(s, entry->change[0], digest, sizeof digest, &len, fault);
    for (unsigned i = 0; err == QM_OK && *set == NULL && i < live->count; i++)
        if (len != 0 && live->set[i]->composite_size == len && memcmp(live->set[i]->composite, digest, len) == 0)
            *set = live->set[i];
    return err;
}

void store_entry_passes(struct qm_ledger *entry, uint32_t set_no, uint32_t pair_no)
{
    entry->set_a = set_no;
    entry->set_b = pair_no;
    entry->change[0] = entry->change[1] = 0;
    entry->first_fail = 0xff;
    entry->flags |= QM_LEDGER_PROVEN;
}

void store_entry_conclude(struct qm_ledger *entry, bool require_log, enum qm_status status, enum qm_reason reason)
{
    if (require_log && entry->log != QM_LOG_REPLAYED && (status == QM_TRUSTED || status == QM_NEW)) {
        status = QM_UNTRUSTED;
        reason = QM_LOG_REQUIRED;
    }
    entry->status = (uint8_t)status;
    entry->reason = (uint8_t)reason;
    if (status == QM_TRUSTED)
        entry->good_ms = entry->authentic_ms;
}

/* The verdict of the sets that live now on what the entry knows of its record. */
static qm_err judge(struct qm_store *s, const struct qm_instance_row *row, struct qm_ledger *entry,
                    const struct qm_live_sets *live, struct qm_fault *fault)
{
    uint8_t room[32 * QM_PCR_COUNT];
    const uint8_t *value[QM_PCR_COUNT];
    struct qm_stage stage[QM_STAGE_COUNT];
    struct qm_comparison c = {0};
    enum qm_status status;
    enum qm_reason reason;
    uint32_t mask;
    bool known;
    int8_t first_fail;
    const uint32_t baselined = row->profile.baselined;
    qm_err err = qm_store_measured(s, entry, room, value, &mask, &known, fault);
    if (err == QM_OK)
        err = set_of_digest(s, entry, live, &c.set, fault);
    if (err != QM_OK)
        return err;
    known &= (baselined & ~mask) == 0; /* baselined grew: what was measured does not say enough */
    if (!known && c.set == NULL && entry->reason != QM_PCR_MISMATCH && entry->reason != QM_PCR_VALUES_MISSING)
        return QM_OK; /* its values were proven then, and are not known now: the verdict stands until the next record */
    if (c.set != NULL && (baselined & ~c.set->mask) == 0) {
        c.passes = true;
        status = QM_TRUSTED;
        reason = QM_ALL_GOOD;
    } else {
        qm_conclude(known ? value : NULL, baselined, live->set, live->count, &status, &reason, &c);
    }
    if (c.passes && entry->reason == QM_LEARNED)
        return QM_OK;
    if (c.passes) {
        store_entry_passes(entry, c.set->set_no, c.set->pair_no);
    } else {
        qm_stages(known ? value : NULL, baselined, c.set, stage, &first_fail);
        entry->first_fail = first_fail < 0 ? 0xff : (uint8_t)first_fail;
    }
    store_entry_conclude(entry, row->require_log, status, reason);
    return QM_OK;
}

qm_err qm_store_rejudge(struct qm_store *s, uint64_t slot, struct qm_live_sets *live, struct qm_rejudged *out,
                        struct qm_fault *fault)
{
    struct qm_instance_row row;
    struct qm_ledger entry, before;
    bool found;
    qm_err err = qm_store_ledger_get(s, slot, &entry, fault);
    if (err != QM_OK)
        return err;
    *out = (struct qm_rejudged){entry.status, entry.reason, entry.status, entry.reason, false};
    if ((entry.flags & QM_LEDGER_STATUS) == 0)
        return QM_OK;
    before = entry;
    err = live == NULL ? store_live_sets(s, &live, fault) : QM_OK;
    if (err != QM_OK)
        return err;
    err = qm_store_instance(s, slot, &row, &found, fault);
    if (err != QM_OK || !found)
        return err;
    err = qm_live_sets_load(s, &row, live, fault);
    if (err == QM_OK)
        err = judge(s, &row, &entry, live, fault);
    if (err != QM_OK || memcmp(&entry, &before, sizeof entry) == 0)
        return err;
    out->status = entry.status;
    out->reason = entry.reason;
    out->changed = entry.status != before.status || entry.reason != before.reason;
    return qm_store_ledger_put(s, slot, &entry, fault);
}

/* Slots of a group's instances, beginning after `after`; a part at a time, so that nothing is read while it is written. */
enum { SLOTS_AT_ONCE = 1024 };
static qm_err group_slots(struct qm_store *s, uint32_t group_no, uint64_t after, uint64_t slot[SLOTS_AT_ONCE], unsigned *count,
                          struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s,
                                 "SELECT slot FROM instance WHERE grp = (SELECT name FROM grp WHERE no = ?1) AND slot > ?2"
                                 " ORDER BY slot LIMIT ?3",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, group_no);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)after);
    sqlite3_bind_int(st, 3, SLOTS_AT_ONCE);
    int rc;
    *count = 0;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && *count < SLOTS_AT_ONCE)
        slot[(*count)++] = (uint64_t)sqlite3_column_int64(st, 0);
    sqlite3_reset(st);
    return rc == SQLITE_DONE ? QM_OK : store_fail(s, fault, "reading the instances");
}

qm_err qm_store_rejudge_group(struct qm_store *s, uint32_t group_no, qm_rejudge_visit visit, void *ctx, struct qm_fault *fault)
{
    uint64_t slot[SLOTS_AT_ONCE], after = 0;
    unsigned count = SLOTS_AT_ONCE;
    qm_err err = QM_OK;
    while (err == QM_OK && count == SLOTS_AT_ONCE) {
        err = group_slots(s, group_no, after, slot, &count, fault);
        for (unsigned i = 0; err == QM_OK && i < count; i++) {
            struct qm_rejudged r;
            err = qm_store_rejudge(s, slot[i], NULL, &r, fault);
            if (err == QM_OK && r.changed && visit != NULL)
                err = visit(ctx, slot[i], &r, fault);
            after = slot[i];
        }
    }
    return err;
}

/* Numbers of the groups; one, or all where name is "". */
static qm_err next_group(struct qm_store *s, const char *name, uint32_t *no, struct qm_fault *fault)
{
    uint64_t number;
    bool found;
    sqlite3_stmt *st = store_sql(s, "SELECT no FROM grp WHERE no > ?1 AND (?2 = '' OR name = ?2) ORDER BY no LIMIT 1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, *no);
    sqlite3_bind_text(st, 2, name, -1, SQLITE_STATIC);
    qm_err err = store_number(s, st, &number, &found, fault);
    *no = err == QM_OK && found ? (uint32_t)number : 0;
    return err;
}

/* Which values were measured is said by a group's set and what stood beside it, by the classes as they were: until the next
 * record they are not known. */
static qm_err forget_pairs(struct qm_store *s, uint32_t group_no, struct qm_fault *fault)
{
    uint64_t slot[SLOTS_AT_ONCE], after = 0;
    unsigned count = SLOTS_AT_ONCE;
    qm_err err = QM_OK;
    while (err == QM_OK && count == SLOTS_AT_ONCE) {
        err = group_slots(s, group_no, after, slot, &count, fault);
        for (unsigned i = 0; err == QM_OK && i < count; i++) {
            struct qm_ledger entry;
            after = slot[i];
            err = qm_store_ledger_get(s, slot[i], &entry, fault);
            if (err != QM_OK || entry.set_a == 0 || entry.set_b == 0)
                continue;
            entry.flags &= (uint8_t)~QM_LEDGER_PROVEN;
            err = qm_store_ledger_put(s, slot[i], &entry, fault);
        }
    }
    return err;
}

qm_err store_group_changed(struct qm_store *s, const char *group, bool classes, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "UPDATE grp SET generation = ?1 WHERE ?2 = '' OR name = ?2", fault);
    uint32_t no = 0;
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)s->generation);
    sqlite3_bind_text(st, 2, group, -1, SQLITE_STATIC);
    qm_err err = store_run(s, st, fault);
    s->changed = true;
    for (bool more = classes; err == QM_OK && more; more = no != 0) {
        err = next_group(s, group, &no, fault);
        if (err == QM_OK && no != 0)
            err = forget_pairs(s, no, fault);
    }
    return err;
}
