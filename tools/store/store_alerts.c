/* Raising and closing alerts: changes once by content, one narrow row for each machine. */
#include "tools/store/store_alerts.h"

#include "engine/kernel/kernel.h"
#include "tools/store/store_inside.h"

enum { ITEM_BYTES = 1 + 32 + 32, NAME_DIGITS = 16, KEY_SUBJECT_MAX = 4096, DAY_MS = 24 * 60 * 60 * 1000 };

static const char *const kind_names[] = {
    [QM_ALERT_PCR_MISMATCH] = "pcr_mismatch",
    [QM_ALERT_PCR_VALUES_MISSING] = "pcr_values_missing",
    [QM_ALERT_LOG_REQUIRED] = "log_required",
    [QM_ALERT_LOG_INCONSISTENT] = "log_inconsistent",
    [QM_ALERT_REPLAYED] = "replayed",
    [QM_ALERT_CLONED_OR_ROLLED_BACK] = "cloned_or_rolled_back",
    [QM_ALERT_TPM_STATE] = "tpm_state",
    [QM_ALERT_HELD_BACK] = "held_back",
    [QM_ALERT_NO_BASELINE] = "no_baseline",
    [QM_ALERT_KEY_CONFLICT] = "key_conflict",
    [QM_ALERT_UNMEASURED] = "unmeasured",
    [QM_ALERT_MALFORMED] = "malformed",
    [QM_ALERT_UNKNOWN_INSTANCE] = "unknown_instance",
    [QM_ALERT_NOT_A_QUOTE] = "not_a_quote",
    [QM_ALERT_BAD_SIGNATURE] = "bad_signature",
    [QM_ALERT_WRONG_SELECTION] = "wrong_selection",
    [QM_ALERT_STALE_NONCE] = "stale_nonce",
};
static const char *const state_names[] = {"open", "ignored", "accepted", "resolved"};

const char *qm_alert_kind_name(enum qm_alert_kind k)
{
    return (size_t)k < QM_COUNT(kind_names) ? kind_names[k] : NULL;
}

const char *qm_alert_state_name(enum qm_alert_state s)
{
    return (size_t)s < QM_COUNT(state_names) ? state_names[s] : NULL;
}

/* ---- changes ------------------------------------------------------------------------------------------------------ */

/* What makes a change, for its key: kind, class, which form the rest has, and the rest. */
enum form { FORM_ITEMS, FORM_DIGEST, FORM_SUBJECT, FORM_MANY, FORM_OVER };

struct change {
    enum qm_alert_kind kind;
    uint32_t group_no;
    uint8_t set_class;
    enum form form;
    struct qm_span content; /* items, digest or subject */
    const char *event;      /* NULL: none */
    uint64_t at_ms;
};

static void change_key(const struct change *c, uint8_t key[32])
{
    uint8_t text[3 + KEY_SUBJECT_MAX];
    const size_t len = c->content.len < KEY_SUBJECT_MAX ? c->content.len : KEY_SUBJECT_MAX;
    text[0] = (uint8_t)c->kind;
    text[1] = c->set_class;
    text[2] = (uint8_t)c->form;
    if (len != 0)
        memcpy(text + 3, c->content.p, len);
    qm_hash_one(QM_HASH_SHA256, (struct qm_span){text, 3 + len}, key);
}

static void change_name(const struct change *c, char name[NAME_DIGITS + 1])
{
    uint8_t digest[32];
    name[0] = '\0';
    if (c->form == FORM_MANY) {
        memcpy(name, "many", 5);
    } else if (c->kind == QM_ALERT_PCR_MISMATCH) {
        qm_hash_one(QM_HASH_SHA256, c->content, digest);
        qm_hex_write(name, digest, NAME_DIGITS / 2);
        name[NAME_DIGITS] = '\0';
    }
}

static void bind_text(sqlite3_stmt *st, int at, const char *text)
{
    if (text != NULL)
        sqlite3_bind_text(st, at, text, -1, SQLITE_STATIC);
}

static void bind_items(sqlite3_stmt *st, int at, const struct change *c)
{
    if (c->kind == QM_ALERT_PCR_MISMATCH && c->content.len != 0)
        sqlite3_bind_blob(st, at, c->content.p, (int)c->content.len, SQLITE_STATIC);
    else
        sqlite3_bind_zeroblob(st, at, 0);
}

static qm_err change_insert(struct qm_store *s, const struct change *c, const uint8_t key[32], uint64_t *no,
                            struct qm_fault *fault)
{
    char name[NAME_DIGITS + 1];
    sqlite3_stmt *st = store_sql(s,
                                 "INSERT INTO change(kind, grp, class, key, name, items, event, first_ms)"
                                 " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    change_name(c, name);
    sqlite3_bind_int(st, 1, (int)c->kind);
    sqlite3_bind_int64(st, 2, c->group_no);
    sqlite3_bind_int(st, 3, c->set_class);
    sqlite3_bind_blob(st, 4, key, 32, SQLITE_STATIC);
    bind_text(st, 5, name);
    bind_items(st, 6, c);
    bind_text(st, 7, c->event);
    sqlite3_bind_int64(st, 8, (sqlite3_int64)c->at_ms);
    qm_err err = store_run(s, st, fault);
    *no = (uint64_t)sqlite3_last_insert_rowid(s->db);
    return err;
}

static qm_err change_event(struct qm_store *s, uint64_t no, const char *event, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "UPDATE change SET event = ?2 WHERE no = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)no);
    bind_text(st, 2, event);
    return store_run(s, st, fault);
}

/* *no 0: it is not there yet. The first event that was told of a change stays. */
static qm_err change_find(struct qm_store *s, const struct change *c, const uint8_t key[32], uint64_t *no,
                          struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "SELECT no, event IS NULL FROM change WHERE kind = ?1 AND grp = ?2 AND key = ?3", fault);
    if (st == NULL)
        return QM_E_STORE;
    *no = 0;
    sqlite3_bind_int(st, 1, (int)c->kind);
    sqlite3_bind_int64(st, 2, c->group_no);
    sqlite3_bind_blob(st, 3, key, 32, SQLITE_STATIC);
    int rc = sqlite3_step(st);
    const bool wants_event = rc == SQLITE_ROW && c->event != NULL && sqlite3_column_int(st, 1) != 0;
    if (rc == SQLITE_ROW)
        *no = (uint64_t)sqlite3_column_int64(st, 0);
    else if (rc != SQLITE_DONE)
        return store_fail(s, fault, "reading the changes");
    sqlite3_reset(st);
    return wants_event ? change_event(s, *no, c->event, fault) : QM_OK;
}

static qm_err change_take(struct qm_store *s, const struct change *c, uint64_t *no, struct qm_fault *fault)
{
    uint8_t key[32];
    change_key(c, key);
    qm_err err = change_find(s, c, key, no, fault);
    return err == QM_OK && *no == 0 ? change_insert(s, c, key, no, fault) : err;
}

static struct change over_of(enum qm_alert_kind kind, uint8_t set_class, uint64_t slot, uint8_t subject[8])
{
    for (unsigned i = 0; i < 8; i++)
        subject[i] = (uint8_t)(slot >> 8 * i);
    return (struct change){.kind = kind, .set_class = set_class, .form = FORM_OVER, .content = {subject, 8}};
}

/* A machine with more changes than have rows of their own: what it differs in now is kept once for
 * each class, and replaced. */
static qm_err change_over(struct qm_store *s, const struct change *c, uint64_t slot, uint64_t *no, struct qm_fault *fault)
{
    uint8_t subject[8];
    char name[NAME_DIGITS + 1];
    struct change over = over_of(c->kind, c->set_class, slot, subject);
    over.at_ms = c->at_ms;
    qm_err err = change_take(s, &over, no, fault);
    sqlite3_stmt *st =
        err == QM_OK ? store_sql(s, "UPDATE change SET name = ?2, items = ?3, event = ?4 WHERE no = ?1", fault) : NULL;
    if (st == NULL)
        return err != QM_OK ? err : QM_E_STORE;
    change_name(c, name);
    sqlite3_bind_int64(st, 1, (sqlite3_int64)*no);
    bind_text(st, 2, name);
    bind_items(st, 3, c);
    bind_text(st, 4, c->event);
    return store_run(s, st, fault);
}

qm_err store_alert_forget(struct qm_store *s, uint64_t slot, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    for (unsigned i = 0; err == QM_OK && i < (QM_ALERT_UNMEASURED + 1) * 3; i++) {
        uint8_t subject[8], key[32];
        const struct change over = over_of((enum qm_alert_kind)(i / 3), (uint8_t)(i % 3), slot, subject);
        change_key(&over, key);
        sqlite3_stmt *st = store_sql(s, "DELETE FROM change WHERE kind = ?1 AND grp = 0 AND key = ?2", fault);
        if (st == NULL)
            return QM_E_STORE;
        sqlite3_bind_int(st, 1, (int)over.kind);
        sqlite3_bind_blob(st, 2, key, sizeof key, SQLITE_STATIC);
        err = store_run(s, st, fault);
    }
    return err;
}

static struct change change_of(const struct qm_alert_new *a, uint8_t items[QM_PCR_COUNT * ITEM_BYTES])
{
    struct change c = {.kind = a->kind,
                       .group_no = a->group_no,
                       .event = a->event,
                       .at_ms = a->at_ms,
                       .form = FORM_SUBJECT,
                       .content = a->subject};
    if (a->kind != QM_ALERT_PCR_MISMATCH)
        return c;
    c.set_class = (uint8_t)a->set_kind;
    c.form = FORM_DIGEST;
    c.content = a->digest;
    if (a->item_count == 0)
        return c;
    uint8_t *to = items;
    for (unsigned i = 0; i < a->item_count && i < QM_PCR_COUNT; i++) {
        *to = a->item[i].pcr;
        memcpy(to + 1, a->item[i].expected, 32);
        memcpy(to + 33, a->item[i].measured, 32);
        to += ITEM_BYTES;
    }
    c.form = FORM_ITEMS;
    c.content = (struct qm_span){items, (size_t)(to - items)};
    return c;
}

/* ---- rows --------------------------------------------------------------------------------------------------------- */

struct standing {
    uint64_t no; /* of the open or ignored row; 0: none */
    enum qm_alert_state state;
    unsigned count; /* such rows of the machine and kind, "many" not among them */
    bool past;      /* there are closed ones of the machine and kind, or accepted ones */
};

static qm_err standing_of(struct qm_store *s, const struct qm_alert_new *a, uint64_t change, struct standing *out,
                          struct qm_fault *fault)
{
    static const char of_machine[] = "SELECT a.no, a.state, a.change, c.name = 'many' FROM alert a INDEXED BY alert_slot"
                                     " CROSS JOIN change c ON c.no = a.change WHERE a.slot = ?1 AND a.kind = ?2"
                                     " ORDER BY a.state";
    static const char of_home[] = "SELECT no, state, change, 0 FROM alert INDEXED BY alert_change"
                                  " WHERE slot IS NULL AND kind = ?2 AND change = ?1 AND state IN (0, 1)";
    sqlite3_stmt *st = store_sql(s, a->slot != 0 ? of_machine : of_home, fault);
    if (st == NULL)
        return QM_E_STORE;
    *out = (struct standing){0};
    sqlite3_bind_int64(st, 1, (sqlite3_int64)(a->slot != 0 ? a->slot : change));
    sqlite3_bind_int(st, 2, (int)a->kind);
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && !out->past) {
        out->past = sqlite3_column_int(st, 1) > QM_ALERT_IGNORED;
        if (out->past)
            continue;
        if ((uint64_t)sqlite3_column_int64(st, 2) == change && out->no == 0) { /* the open one, where there is an ignored one, too */
            out->no = (uint64_t)sqlite3_column_int64(st, 0);
            out->state = (enum qm_alert_state)sqlite3_column_int(st, 1);
        }
        out->count += sqlite3_column_int(st, 3) == 0;
    }
    sqlite3_reset(st);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? QM_OK : store_fail(s, fault, "reading the alerts");
}

static uint64_t day_before(uint64_t at_ms)
{
    return at_ms > DAY_MS ? at_ms - DAY_MS : 0;
}

/* Has the machine had as many rows of the kind within a day as may be? */
static qm_err had_enough(struct qm_store *s, const struct qm_alert_new *a, bool *enough, struct qm_fault *fault)
{
    uint64_t first_ms;
    sqlite3_stmt *st = store_sql(s,
                                 "SELECT first_ms FROM alert INDEXED BY alert_slot WHERE slot = ?1 AND kind = ?2 AND state = 3"
                                 " ORDER BY no DESC LIMIT 1 OFFSET ?3",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)a->slot);
    sqlite3_bind_int(st, 2, (int)a->kind);
    sqlite3_bind_int(st, 3, QM_ALERTS_A_DAY_MAX - 1);
    qm_err err = store_number(s, st, &first_ms, enough, fault);
    *enough &= first_ms > day_before(a->at_ms);
    return err;
}

/* Is there a row of that change, opened within the day and closed since, that nobody did anything about? */
static qm_err row_of_today(struct qm_store *s, const struct qm_alert_new *a, uint64_t change, uint64_t *no, struct qm_fault *fault)
{
    bool found;
    sqlite3_stmt *st = store_sql(s,
                                 "SELECT no FROM alert INDEXED BY alert_slot WHERE slot = ?1 AND kind = ?2 AND state = 3 AND change = ?3"
                                 " AND first_ms > ?4 AND NOT EXISTS (SELECT 1 FROM alert_decision d WHERE d.alert = alert.no)"
                                 " ORDER BY no DESC LIMIT 1",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)a->slot);
    sqlite3_bind_int(st, 2, (int)a->kind);
    sqlite3_bind_int64(st, 3, (sqlite3_int64)change);
    sqlite3_bind_int64(st, 4, (sqlite3_int64)day_before(a->at_ms));
    return store_number(s, st, no, &found, fault);
}

/* A closed row is open again, under a new number: what is new is known by its number. */
static qm_err row_again(struct qm_store *s, const struct qm_alert_new *a, uint64_t old, uint64_t *no, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s,
                                 "UPDATE alert SET no = (SELECT max(no) + 1 FROM alert), state = 0, seen = 0, last_ms = max(last_ms, ?2),"
                                 " count = count + 1, closed_ms = NULL, restarts = ?3, detail = coalesce(?4, detail)"
                                 " WHERE no = ?1 RETURNING no",
                                 fault);
    bool found;
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)old);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)a->at_ms);
    sqlite3_bind_int64(st, 3, a->restarts);
    bind_text(st, 4, a->detail);
    return store_number(s, st, no, &found, fault);
}

static qm_err row_open(struct qm_store *s, const struct qm_alert_new *a, uint64_t change, uint64_t *no, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s,
                                 "INSERT INTO alert(kind, slot, change, state, seen, first_ms, last_ms, count, restarts,"
                                 " detail) VALUES(?1, nullif(?2, 0), ?3, 0, 0, ?4, ?4, 1, ?5, ?6)",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int(st, 1, (int)a->kind);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)a->slot);
    sqlite3_bind_int64(st, 3, (sqlite3_int64)change);
    sqlite3_bind_int64(st, 4, (sqlite3_int64)a->at_ms);
    sqlite3_bind_int64(st, 5, a->restarts);
    bind_text(st, 6, a->detail);
    qm_err err = store_run(s, st, fault);
    *no = (uint64_t)sqlite3_last_insert_rowid(s->db);
    return err;
}

static qm_err row_repeat(struct qm_store *s, const struct qm_alert_new *a, uint64_t no, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s,
                                 "UPDATE alert SET last_ms = max(last_ms, ?2), count = count + 1, restarts = ?3,"
                                 " detail = coalesce(?4, detail) WHERE no = ?1",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)no);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)a->at_ms);
    sqlite3_bind_int64(st, 3, a->restarts);
    bind_text(st, 4, a->detail);
    return store_run(s, st, fault);
}

/* again: a closed row that is taken up, 0: none. */
static qm_err row_take(struct qm_store *s, const struct qm_alert_new *a, uint64_t change, const struct standing *row, uint64_t again,
                       struct qm_alert_raised *out, struct qm_fault *fault)
{
    out->no = row->no;
    out->state = row->state;
    out->opened = row->no == 0;
    if (again != 0)
        return row_again(s, a, again, &out->no, fault);
    if (out->opened)
        return row_open(s, a, change, &out->no, fault);
    return a->quiet ? QM_OK : row_repeat(s, a, row->no, fault);
}

/* Over a limit: the row is the one for many, and leaves no change of its own behind. */
static qm_err raise_many(struct qm_store *s, const struct qm_alert_new *a, const struct change *c, struct qm_alert_raised *out,
                         struct qm_fault *fault)
{
    const struct change many = {.kind = a->kind, .group_no = a->group_no, .form = FORM_MANY, .at_ms = a->at_ms};
    struct standing row = {0};
    uint64_t row_change = 0, old = 0;
    qm_err err = change_take(s, &many, &row_change, fault);
    if (err == QM_OK)
        err = standing_of(s, a, row_change, &row, fault);
    if (a->apart && row.state == QM_ALERT_IGNORED)
        row.no = 0;
    if (err == QM_OK)
        err = change_over(s, c, a->slot, &out->change, fault);
    if (err == QM_OK && row.no == 0)
        err = row_of_today(s, a, row_change, &old, fault);
    return err == QM_OK ? row_take(s, a, row_change, &row, old, out, fault) : err;
}

qm_err qm_alert_standing(struct qm_store *s, const struct qm_alert_new *a, uint64_t *no, struct qm_fault *fault)
{
    uint8_t items[QM_PCR_COUNT * ITEM_BYTES], key[32];
    struct standing row = {0};
    uint64_t change;
    struct change c = change_of(a, items);
    c.event = NULL; /* nothing is written */
    change_key(&c, key);
    qm_err err = change_find(s, &c, key, &change, fault);
    if (err == QM_OK && change != 0)
        err = standing_of(s, a, change, &row, fault);
    *no = row.no;
    return err;
}

qm_err qm_alert_raise(struct qm_store *s, const struct qm_alert_new *a, struct qm_alert_raised *out, struct qm_fault *fault)
{
    uint8_t items[QM_PCR_COUNT * ITEM_BYTES], key[32];
    struct standing row = {0};
    const struct change c = change_of(a, items);
    *out = (struct qm_alert_raised){0};
    change_key(&c, key);
    qm_err err = change_find(s, &c, key, &out->change, fault);
    if (err == QM_OK)
        err = standing_of(s, a, out->change, &row, fault);
    bool many = row.no == 0 && a->slot != 0 && row.count >= (a->alone_max != 0 ? a->alone_max : QM_ALERTS_ALONE_MAX);
    if (err == QM_OK && row.no == 0 && a->slot != 0 && row.past && !many)
        err = had_enough(s, a, &many, fault);
    if (err == QM_OK && many)
        return raise_many(s, a, &c, out, fault);
    if (err == QM_OK && out->change == 0)
        err = change_insert(s, &c, key, &out->change, fault);
    return err == QM_OK ? row_take(s, a, out->change, &row, 0, out, fault) : err;
}

/* ---- closing ------------------------------------------------------------------------------------------------------ */

static qm_err row_resolve(struct qm_store *s, uint64_t no, uint64_t at_ms, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s, "UPDATE alert SET state = 3, closed_ms = ?2, until_ms = NULL WHERE no = ?1", fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)no);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)at_ms);
    return store_run(s, st, fault);
}

/* Open and ignored rows of a machine: nine of a kind at most. */
enum { ROWS_MAX = 16 * (QM_ALERTS_ALONE_MAX + 1) };
struct live_row {
    uint64_t no;
    uint8_t kind, state;
    uint32_t restarts;
};

static qm_err live_rows(struct qm_store *s, uint64_t slot, struct live_row row[ROWS_MAX], unsigned *count,
                        struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s,
                                 "SELECT no, kind, state, restarts FROM alert INDEXED BY "
                                 "alert_slot WHERE slot = ?1 AND state IN (0, 1)",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    *count = 0;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)slot);
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && *count < ROWS_MAX)
        row[(*count)++] = (struct live_row){.no = (uint64_t)sqlite3_column_int64(st, 0),
                                            .kind = (uint8_t)sqlite3_column_int(st, 1),
                                            .state = (uint8_t)sqlite3_column_int(st, 2),
                                            .restarts = (uint32_t)sqlite3_column_int64(st, 3)};
    sqlite3_reset(st);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? QM_OK : store_fail(s, fault, "reading the alerts");
}

qm_err qm_alert_resolve(struct qm_store *s, uint64_t slot, uint32_t kinds, uint64_t at_ms, uint32_t restarts, uint64_t *left,
                        uint64_t *closed, struct qm_fault *fault)
{
    struct live_row row[ROWS_MAX];
    unsigned count;
    *left = *closed = 0;
    qm_err err = live_rows(s, slot, row, &count, fault);
    for (unsigned i = 0; err == QM_OK && i < count; i++) {
        const bool meant = row[i].kind < 32 && (kinds >> row[i].kind & 1) != 0;
        const bool same_boot = row[i].restarts == restarts;
        if (!meant || (row[i].state == QM_ALERT_IGNORED && same_boot))
            ++*left;
        else if ((err = row_resolve(s, row[i].no, at_ms, fault)) == QM_OK)
            ++*closed;
    }
    return err;
}

qm_err qm_alert_resolve_shared(struct qm_store *s, enum qm_alert_kind kind, uint32_t group_no, struct qm_span subject,
                               uint64_t at_ms, uint64_t *closed, struct qm_fault *fault)
{
    const struct change c = {.kind = kind, .group_no = group_no, .form = FORM_SUBJECT, .content = subject};
    uint8_t key[32];
    uint64_t change;
    *closed = 0;
    change_key(&c, key);
    qm_err err = change_find(s, &c, key, &change, fault);
    if (err != QM_OK || change == 0)
        return err;
    sqlite3_stmt *st = store_sql(s,
                                 "UPDATE alert SET state = 3, closed_ms = ?2, until_ms = NULL"
                                 " WHERE slot IS NULL AND change = ?1 AND state IN (0, 1)",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)change);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)at_ms);
    err = store_run(s, st, fault);
    *closed = err == QM_OK ? (uint64_t)sqlite3_changes64(s->db) : 0;
    return err;
}

qm_err qm_alert_retire(struct qm_store *s, uint64_t slot, uint64_t at_ms, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(s,
                                 "UPDATE alert SET state = CASE WHEN state IN (0, 1) THEN 3 ELSE state END, seen = 1,"
                                 " closed_ms = coalesce(closed_ms, ?2), until_ms = NULL WHERE slot = ?1",
                                 fault);
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)slot);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)at_ms);
    return store_run(s, st, fault);
}
