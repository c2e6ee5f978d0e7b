/* fleet.db -> fleet.tbl: one pass over the instances in slot order, beside it one over their live sets. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "tools/store/store_inside.h"

/* The live sets of the slot the cursor stands at; the cursor is ordered by slot, then newest first. */
struct set_cursor {
    sqlite3_stmt *st; /* slot, kind, and what store_set_column reads */
    bool row;
    struct store_live live;
    uint8_t value[2 * QM_SET_MAX][32 * QM_PCR_COUNT];
    uint8_t room[STORE_PAIRS_ROOM];
    struct qm_table_row to;
};

static qm_err set_cursor_step(struct qm_store *s, struct set_cursor *c, struct qm_fault *fault)
{
    int rc = sqlite3_step(c->st);
    c->row = rc == SQLITE_ROW;
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? QM_OK : store_fail(s, fault, "reading the accepted sets");
}

static qm_err take_set(struct qm_store *s, struct set_cursor *c, struct qm_fault *fault)
{
    struct store_live *live = &c->live;
    const bool whole = sqlite3_column_int(c->st, 1) == QM_SET_WHOLE;
    unsigned *count = whole ? &live->whole_count : &live->own_count;
    if (*count == QM_SET_MAX)
        return QM_OK;
    struct store_set *set = &(whole ? live->whole : live->own)[*count];
    if (!store_set_column(c->st, 2, set))
        return qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is damaged: the values of accepted set %llu", s->home,
                       (unsigned long long)set->no);
    uint8_t *to = c->value[live->whole_count + live->own_count];
    memcpy(to, set->value, 32 * (size_t)__builtin_popcount(set->mask));
    set->value = to;
    ++*count;
    return QM_OK;
}

static qm_err take_sets(struct qm_store *s, struct set_cursor *c, uint64_t slot, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    c->live = (struct store_live){0};
    while (err == QM_OK && c->row && (uint64_t)sqlite3_column_int64(c->st, 0) <= slot) {
        if ((uint64_t)sqlite3_column_int64(c->st, 0) == slot)
            err = take_set(s, c, fault);
        if (err == QM_OK)
            err = set_cursor_step(s, c, fault);
    }
    return err;
}

enum { C_SLOT, C_ID, C_NONCE, C_REQUIRE_LOG, C_GENERATION, C_MADE, C_PROFILE, C_GROUP, C_GROUP_NO };

/* Policies and sets of the instance's group, and its own sets, as the table wants them. */
static qm_err take_group_and_sets(struct qm_store *s, sqlite3_stmt *st, struct set_cursor *sets, struct qm_fault *fault)
{
    struct qm_table_row *row = &sets->to;
    const struct qm_policy *policy;
    const char *group = (const char *)sqlite3_column_text(st, C_GROUP);
    const uint32_t group_no = (uint32_t)sqlite3_column_int64(st, C_GROUP_NO);
    qm_err err = qm_store_policy(s, group != NULL ? group : "", (size_t)sqlite3_column_bytes(st, C_GROUP), &policy, fault);
    if (err == QM_OK)
        err = take_sets(s, sets, row->slot, fault);
    if (err == QM_OK && group_no != 0)
        err = store_group_sets(s, group_no, &sets->live.group, &sets->live.group_count, fault);
    if (err != QM_OK)
        return err;
    row->require_beacon = policy->freshness == QM_FRESHNESS_BEACON;
    row->set_count = 0;
    if ((row->profile.baselined & ~policy->class_ignored) == 0)
        return QM_OK; /* neither enroll nor config lets it come to that; without a set it never passes */
    row->profile.baselined &= ~policy->class_ignored;
    row->set_count = (uint8_t)store_pairs(&row->profile, policy->class_group, &sets->live, sets->room, row->set);
    return QM_OK;
}

static qm_err take_instance(struct qm_store *s, sqlite3_stmt *st, struct set_cursor *sets, struct qm_table_builder *b,
                            struct qm_key *key, struct qm_fault *fault)
{
    struct qm_table_row *row = &sets->to;
    row->id = (struct qm_span){sqlite3_column_text(st, C_ID), (size_t)sqlite3_column_bytes(st, C_ID)};
    row->key = key;
    row->generation = (uint64_t)sqlite3_column_int64(st, C_GENERATION);
    row->slot = (uint64_t)sqlite3_column_int64(st, C_SLOT);
    row->require_log = sqlite3_column_int(st, C_REQUIRE_LOG) != 0;
    row->nonce = (struct qm_span){NULL, 0};
    if (sqlite3_column_type(st, C_NONCE) != SQLITE_NULL) {
        row->nonce.p = sqlite3_column_blob(st, C_NONCE);
        row->nonce.len = (size_t)sqlite3_column_bytes(st, C_NONCE);
        if (row->nonce.p == NULL)
            row->nonce.p = (const uint8_t *)""; /* SQLite gives no pointer for a blob of no bytes */
    }
    const size_t made = (size_t)sqlite3_column_bytes(st, C_MADE);
    if (made < sizeof *key || made > QM_KEY_BYTES_MAX || row->id.len == 0 || row->id.len > QM_ID_MAX ||
        row->nonce.len > QM_NONCE_MAX || sqlite3_column_bytes(st, C_PROFILE) != (int)sizeof row->profile)
        return qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is damaged: instance row %llu", s->home,
                       (unsigned long long)row->slot);
    memcpy(key, sqlite3_column_blob(st, C_MADE), made);
    memcpy(&row->profile, sqlite3_column_blob(st, C_PROFILE), sizeof row->profile);
    if (!qm_key_sound(key, made))
        return qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is damaged: the key of instance row %llu", s->home,
                       (unsigned long long)row->slot);
    qm_err err = take_group_and_sets(s, st, sets, fault);
    return err == QM_OK ? qm_table_builder_add(b, row, fault) : err;
}

static qm_err take_all(struct qm_store *s, sqlite3_stmt *st, struct set_cursor *sets, struct qm_table_builder *b,
                       struct qm_key *key, struct qm_fault *fault)
{
    qm_err err = set_cursor_step(s, sets, fault);
    while (err == QM_OK) {
        int rc = sqlite3_step(st);
        if (rc == SQLITE_DONE)
            return QM_OK;
        err = rc == SQLITE_ROW ? take_instance(s, st, sets, b, key, fault) : store_fail(s, fault, "reading the instances");
    }
    return err;
}

/* All lists of events that are kept: some are of values that no live set has any more, or not yet, and are never asked for. */
static qm_err take_events(struct qm_store *s, struct qm_table_builder *b, struct qm_fault *fault)
{
    sqlite3_stmt *st = NULL;
    qm_err err = QM_OK;
    if (sqlite3_prepare_v2(s->db, "SELECT pcr, value, events FROM pcr_events", -1, &st, NULL) != SQLITE_OK)
        return store_fail(s, fault, "reading the events of PCRs");
    while (err == QM_OK) {
        int rc = sqlite3_step(st);
        if (rc == SQLITE_DONE)
            break;
        const struct qm_span list = {sqlite3_column_blob(st, 2), (size_t)sqlite3_column_bytes(st, 2)};
        const int pcr = sqlite3_column_int(st, 0);
        struct qm_event_list sound;
        if (rc != SQLITE_ROW)
            err = store_fail(s, fault, "reading the events of PCRs");
        else if (pcr < 0 || pcr >= QM_PCR_COUNT || sqlite3_column_bytes(st, 1) != 32 || !qm_event_list_read(list, &sound))
            err = qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is damaged: the events of a PCR", s->home);
        else
            err = qm_table_builder_add_events(b, (unsigned)pcr, sqlite3_column_blob(st, 1), list, fault);
    }
    sqlite3_finalize(st);
    return err;
}

/* When the first set ends by itself. */
static qm_err note_expiry(struct qm_store *s, struct qm_table_builder *b, struct qm_fault *fault)
{
    uint64_t ms;
    bool found;
    sqlite3_stmt *st =
        store_sql(s, "SELECT until_ms FROM baseline WHERE until_ms > ?1 AND ended_ms IS NULL ORDER BY until_ms LIMIT 1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)s->now_ms);
    qm_err err = store_number(s, st, &ms, &found, fault);
    if (err == QM_OK && found)
        qm_table_builder_expires(b, ms);
    return err;
}

static qm_err build(struct qm_store *s, const char *path, struct qm_fault *fault)
{
    static const char instances[] = "SELECT i.slot, i.id, i.nonce, i.require_log, max(i.generation, ifnull(g.generation, 0)), "
                                    "a.made, p.content, i.grp, g.no"
                                    " FROM instance i CROSS JOIN ak a ON a.no = i.ak CROSS JOIN profile p ON p.no = i.profile "
                                    "LEFT JOIN grp g ON g.name = i.grp"
                                    " ORDER BY i.slot";
    static const char live[] =
        "SELECT b.slot, b.kind, b.no, b.vals, v.mask, v.value FROM baseline b CROSS JOIN pcr_values v ON v.no = b.vals"
        " WHERE b.slot IS NOT NULL AND b.ended_ms IS NULL AND (b.until_ms IS NULL OR b.until_ms > ?1) ORDER BY b.slot, b.no "
        "DESC";
    struct set_cursor *sets = calloc(1, sizeof *sets);
    struct qm_key *key = aligned_alloc(QM_CACHE_LINE, QM_KEY_BYTES_MAX);
    struct qm_table_builder *b = NULL;
    sqlite3_stmt *st = NULL;
    qm_err err = QM_OK;
    if (sets == NULL || key == NULL)
        err = qm_fail(fault, QM_E_NOMEM, 0, "no memory to build the table");
    else if (sqlite3_prepare_v2(s->db, instances, -1, &st, NULL) != SQLITE_OK ||
             sqlite3_prepare_v2(s->db, live, -1, &sets->st, NULL) != SQLITE_OK)
        err = store_fail(s, fault, "reading it");
    if (err == QM_OK) {
        sqlite3_bind_int64(sets->st, 1, (sqlite3_int64)s->now_ms);
        err = qm_table_builder_open(&b, path, fault);
    }
    if (err == QM_OK)
        err = note_expiry(s, b, fault);
    if (err == QM_OK)
        err = take_all(s, st, sets, b, key, fault);
    if (err == QM_OK)
        err = take_events(s, b, fault);
    if (err == QM_OK)
        err = qm_table_builder_publish(b, s->home_id, s->generation, fault);
    qm_table_builder_close(b);
    sqlite3_finalize(st);
    if (sets != NULL)
        sqlite3_finalize(sets->st);
    free(key);
    free(sets);
    return err;
}

static bool up_to_date(struct qm_store *s, const char *path)
{
    struct qm_table *t;
    if (qm_table_open(&t, path, NULL) != QM_OK)
        return false;
    bool same = qm_table_generation(t) == s->generation && qm_table_expires_ms(t) > s->now_ms &&
                memcmp(qm_table_home_id(t), s->home_id, QM_HOME_ID_SIZE) == 0 && qm_table_check(t, NULL) == QM_OK;
    qm_table_close(t);
    return same;
}

qm_err qm_store_publish(struct qm_store *s, bool *built, struct qm_fault *fault)
{
    char path[4096 + 64], lock[4096 + 64];
    *built = false;
    qm_err err = qm_home_file(path, sizeof path, s->home, "fleet.tbl", fault);
    if (err == QM_OK)
        err = qm_home_file(lock, sizeof lock, s->home, "fleet.tbl.lock", fault);
    if (err != QM_OK)
        return err;
    /* One builder at a time; each reads the store after it got the lock, so the last table has the last generation. */
    int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    while (fd >= 0 && flock(fd, LOCK_EX) != 0)
        if (errno != EINTR) {
            close(fd);
            fd = -1;
        }
    if (fd < 0)
        return qm_fail(fault, QM_E_IO, errno, "cannot lock %s", lock);
    err = store_exec(s, "BEGIN", fault); /* one snapshot for the generation and all that is read */
    if (err == QM_OK)
        err = store_read_meta(s, fault);
    s->snapshot = true;
    s->sets_version++;
    if (err == QM_OK && !up_to_date(s, path)) {
        err = build(s, path, fault);
        *built = err == QM_OK;
    }
    s->snapshot = false;
    if (sqlite3_get_autocommit(s->db) == 0 && store_exec(s, "COMMIT", err == QM_OK ? fault : NULL) != QM_OK && err == QM_OK)
        err = QM_E_STORE;
    close(fd);
    return err;
}
