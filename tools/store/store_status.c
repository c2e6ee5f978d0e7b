/* What statuses depend on, and the fleet's summary. */
#include "tools/store/store_status.h"

#include <stdio.h>
#include <stdlib.h>

#include "tools/store/store_run.h"
#include "tools/store/store_status_inside.h"

/* ---- what statuses depend on ------------------------------------------------------------------------------------------- */

static void take_text(char *to, size_t cap, sqlite3_stmt *st, int column)
{
    const char *text = (const char *)sqlite3_column_text(st, column);
    const size_t len = (size_t)sqlite3_column_bytes(st, column);
    to[0] = '\0';
    if (text == NULL || len >= cap)
        return;
    memcpy(to, text, len);
    to[len] = '\0';
}

static qm_err read_last_run(struct qm_fleet *f, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(f->store, "SELECT id, kind, start_ms, end_ms, records, complete, record FROM run"
                                           " ORDER BY end_ms DESC LIMIT 1", fault);
    if (st == NULL)
        return QM_E_STORE;
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        f->last.known = true;
        take_text(f->last.id, sizeof f->last.id, st, 0);
        take_text(f->last.kind, sizeof f->last.kind, st, 1);
        f->last.start_ms = (uint64_t)sqlite3_column_int64(st, 2);
        f->last.end_ms = (uint64_t)sqlite3_column_int64(st, 3);
        f->last.records = (uint64_t)sqlite3_column_int64(st, 4);
        f->last.complete = sqlite3_column_int(st, 5) != 0;
        take_text(f->last.record, sizeof f->last.record, st, 6);
    }
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? QM_OK : store_fail(f->store, fault, "reading the runs");
}

/* Only a gap that ended within unmeasured_after can matter: silence is not counted from earlier. */
static qm_err read_gap(struct qm_fleet *f, const struct qm_run_now *run, struct qm_fleet_scope *scope, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(f->store,
                                 "SELECT coalesce(max(r.start_ms), 0) FROM run r WHERE r.end_ms > ?1 AND r.start_ms - (SELECT max(p.end_ms)"
                                 " FROM run p WHERE p.end_ms <= r.start_ms AND p.no <> r.no) > ?2", fault);
    const uint64_t after = scope->unmeasured_after_ms;
    bool found;
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, f->now_ms > after ? (sqlite3_int64)(f->now_ms - after) : 0);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)(after / 2));
    qm_err err = store_number(f->store, st, &scope->gap_end_ms, &found, fault);
    if (run != NULL && f->last.known && run->start_ms > f->last.end_ms && run->start_ms - f->last.end_ms > after / 2)
        scope->gap_end_ms = run->start_ms;
    return err;
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static qm_err read_heard(struct qm_fleet *f, const struct qm_run_now *run, struct qm_fault *fault)
{
    uint64_t heard = 0, made = 0;
    qm_err err = qm_store_meta_get(f->store, "authentic_ms", &heard, fault);
    if (err == QM_OK)
        err = qm_store_meta_get(f->store, "created_ms", &made, fault);
    f->heard_ms = later(later(heard, made), run != NULL ? run->newest_ms : 0);
    return err;
}

static qm_err read_scope(struct qm_fleet *f, const struct qm_run_now *run, struct qm_fleet_scope *scope, struct qm_fault *fault)
{
    const struct qm_policy *policy;
    qm_err err = qm_store_policy(f->store, scope->name, strlen(scope->name), &policy, fault);
    if (err != QM_OK)
        return err;
    scope->unmeasured_after_ms = policy->unmeasured_after_ms;
    if (scope != f->scope && scope->unmeasured_after_ms == f->scope[0].unmeasured_after_ms) {
        scope->gap_end_ms = f->scope[0].gap_end_ms;
        scope->silent = f->scope[0].silent;
        return QM_OK;
    }
    err = read_gap(f, run, scope, fault);
    const uint64_t from = later(f->heard_ms, scope->gap_end_ms), after = scope->unmeasured_after_ms;
    scope->silent = after != 0 && f->now_ms > from && f->now_ms - from > after;
    return err;
}

static qm_err name_scopes(struct qm_fleet *f, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(f->store, "SELECT no, name FROM grp", fault);
    int rc;
    if (st == NULL)
        return QM_E_STORE;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        const uint64_t no = (uint64_t)sqlite3_column_int64(st, 0);
        if (no != 0 && no < f->scope_count)
            take_text(f->scope[no].name, sizeof f->scope[no].name, st, 1);
    }
    sqlite3_reset(st);
    return rc == SQLITE_DONE ? QM_OK : store_fail(f->store, fault, "reading the groups");
}

static int by_name(const void *a, const void *b, void *f)
{
    const struct qm_fleet_scope *scope = ((const struct qm_fleet *)f)->scope;
    return strcmp(scope[*(const uint32_t *)a].name, scope[*(const uint32_t *)b].name);
}

static qm_err read_scopes(struct qm_fleet *f, const struct qm_run_now *run, struct qm_fault *fault)
{
    sqlite3_stmt *st = store_sql(f->store, "SELECT coalesce(max(no), 0) FROM grp", fault);
    uint64_t last = 0;
    bool found;
    if (st == NULL)
        return QM_E_STORE;
    qm_err err = store_number(f->store, st, &last, &found, fault);
    if (err != QM_OK)
        return err;
    f->scope_count = (size_t)last + 1;
    f->scope = calloc(f->scope_count, sizeof *f->scope);
    f->scope_by_name = calloc(f->scope_count, sizeof *f->scope_by_name);
    if (f->scope == NULL || f->scope_by_name == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory for the groups");
    err = name_scopes(f, fault);
    for (size_t i = 0; err == QM_OK && i < f->scope_count; i++) {
        f->scope_by_name[i] = (uint32_t)i;
        err = read_scope(f, run, &f->scope[i], fault);
    }
    qsort_r(f->scope_by_name, f->scope_count, sizeof *f->scope_by_name, by_name, f);
    return err;
}

uint32_t store_fleet_group(const struct qm_fleet *f, const char *name, size_t len)
{
    size_t low = 0, high = f->scope_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const char *there = f->scope[f->scope_by_name[middle]].name;
        int c = strncmp(there, name, len);
        if (c == 0)
            c = there[len] != '\0';
        if (c == 0)
            return f->scope_by_name[middle];
        if (c < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

bool qm_fleet_has_group(const struct qm_fleet *f, const char *name)
{
    return store_fleet_group(f, name, strlen(name)) != 0;
}

qm_err qm_fleet_open(struct qm_fleet *f, struct qm_store *s, const struct qm_run_now *run, struct qm_fault *fault)
{
    *f = (struct qm_fleet){.store = s, .now_ms = later(qm_store_now_ms(s), run != NULL ? run->end_ms : 0)};
    qm_err err = QM_OK;
    if (sqlite3_get_autocommit(s->db) != 0) {
        err = store_exec(s, "BEGIN", fault);
        f->reads = err == QM_OK;
    }
    if (err == QM_OK)
        err = read_last_run(f, fault);
    if (err == QM_OK)
        err = read_heard(f, run, fault);
    if (err == QM_OK)
        err = read_scopes(f, run, fault);
    if (err != QM_OK)
        qm_fleet_close(f);
    return err;
}

void qm_fleet_close(struct qm_fleet *f)
{
    if (f->reads)
        sqlite3_exec(f->store->db, "ROLLBACK", NULL, NULL, NULL); /* nothing was written */
    free(f->scope);
    free(f->scope_by_name);
    *f = (struct qm_fleet){0};
}

struct qm_standing_times qm_fleet_times(const struct qm_fleet *f, uint32_t group_no)
{
    const struct qm_fleet_scope *scope = &f->scope[group_no < f->scope_count ? group_no : 0];
    return (struct qm_standing_times){
        .now_ms = f->now_ms,
        .gap_end_ms = scope->gap_end_ms,
        .unmeasured_after_ms = scope->unmeasured_after_ms,
        .fleet_silent = scope->silent,
    };
}

bool qm_fleet_verifier_stopped(const struct qm_fleet *f)
{
    const uint64_t after = f->scope[0].unmeasured_after_ms;
    return !f->last.known || (after != 0 && f->now_ms > f->last.end_ms && f->now_ms - f->last.end_ms > after / 2);
}

bool store_entry_sound(const struct qm_ledger *l)
{
    return l->status < QM_STATUS_COUNT && l->reason < QM_REASON_COUNT && l->log < QM_LOG_STATE_COUNT && l->fresh < QM_FRESH_COUNT &&
           l->refused_reason < QM_REASON_COUNT;
}

/* ---- the summary ------------------------------------------------------------------------------------------------------- */

/* Trusted machines by what they pass on: what a group accepts, and values that stand alone. */
struct uses {
    struct use {
        uint32_t group_no, values, count;
    } *group;                         /* open addressing; values 0: free */
    size_t group_room, group_count;   /* room: a power of two */
    uint32_t *whole;                  /* by number of values */
    size_t whole_count;
};

struct summary {
    const struct qm_fleet *f;
    struct qm_fleet_summary *out;
    struct uses uses;
};

static struct use *use_find(const struct uses *u, uint32_t group_no, uint32_t values)
{
    size_t at = (((uint64_t)group_no << 32 | values) * 0x9e3779b97f4a7c15u >> 32) & (u->group_room - 1);
    while (u->group[at].values != 0 && (u->group[at].values != values || u->group[at].group_no != group_no))
        at = (at + 1) & (u->group_room - 1);
    return &u->group[at];
}

static qm_err uses_grow(struct uses *u, struct qm_fault *fault)
{
    struct uses more = *u;
    more.group_room = u->group_room == 0 ? 1024 : 2 * u->group_room;
    more.group = calloc(more.group_room, sizeof *more.group);
    if (more.group == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory to count accepted sets");
    for (size_t i = 0; i < u->group_room; i++)
        if (u->group[i].values != 0)
            *use_find(&more, u->group[i].group_no, u->group[i].values) = u->group[i];
    free(u->group);
    *u = more;
    return QM_OK;
}

static qm_err use_add(struct uses *u, const struct qm_ledger *l, uint32_t group_no, unsigned count, struct qm_fault *fault)
{
    if (l->set_b == 0) {
        if (l->set_a < u->whole_count)
            u->whole[l->set_a] += count;
        return QM_OK;
    }
    qm_err err = 2 * u->group_count >= u->group_room ? uses_grow(u, fault) : QM_OK;
    if (err != QM_OK || l->set_a == 0)
        return err;
    struct use *use = use_find(u, group_no, l->set_a);
    u->group_count += use->values == 0;
    use->group_no = group_no;
    use->values = l->set_a;
    use->count += count;
    return QM_OK;
}

static qm_err count_machine(struct summary *s, uint64_t slot, const struct qm_ledger *l, struct qm_fault *fault)
{
    struct qm_fleet_summary *out = s->out;
    const uint32_t group_no = l->group < s->f->scope_count ? l->group : 0;
    const struct qm_standing_times times = qm_fleet_times(s->f, group_no);
    const struct qm_standing st = qm_standing_of(l, &times);
    out->instances++;
    if (st.status != QM_STANDS_TRUSTED && out->by_status[st.status] < QM_FLEET_LISTED_MAX)
        out->listed[st.status][out->by_status[st.status]] = slot;
    out->by_status[st.status]++;
    out->group[group_no].instances++;
    out->group[group_no].by_status[st.status]++;
    out->stale += st.stale;
    out->held += st.held;
    if (st.status == QM_STANDS_UNMEASURED)
        out->by_silence[st.silence]++;
    else if (st.status == QM_STANDS_INVALID)
        out->by_reason[st.status][l->refused_reason]++;
    else
        out->by_reason[st.status][(l->flags & QM_LEDGER_STATUS) != 0 ? l->reason : QM_REASON_NO_RECORD]++;
    if (st.status != QM_STANDS_TRUSTED)
        return QM_OK;
    out->by_fresh[l->fresh]++;
    return use_add(&s->uses, l, group_no, 1, fault);
}

static qm_err count_block(void *ctx, uint64_t first, const struct qm_ledger entry[QM_LEDGER_BLOCK], struct qm_fault *fault)
{
    struct summary *s = ctx;
    qm_err err = QM_OK;
    for (unsigned i = 0; err == QM_OK && i < QM_LEDGER_BLOCK; i++) {
        if (!store_entry_sound(&entry[i]))
            return qm_fail(fault, QM_E_FORMAT, 0, "%s/fleet.db is damaged: entry %llu of the ledger", s->f->store->home,
                           (unsigned long long)(first + i));
        if (entry[i].enrolled_s != 0)
            err = count_machine(s, first + i, &entry[i], fault);
    }
    return err;
}

/* ---- accepted sets in use ---------------------------------------------------------------------------------------------- */

static int by_use(const void *a, const void *b)
{
    const struct qm_set_use *x = a, *y = b;
    if ((x->group_no == 0) != (y->group_no == 0))
        return x->group_no == 0 ? 1 : -1;
    if (x->group_no != y->group_no)
        return x->group_no < y->group_no ? -1 : 1;
    if (x->instances != y->instances)
        return x->instances > y->instances ? -1 : 1;
    return x->no != y->no ? (x->no > y->no ? -1 : 1) : x->values < y->values ? -1 : 1;
}

/* The live sets of groups take their counts; what is left over is of sets that have ended. */
static qm_err name_group_sets(struct summary *s, struct qm_fault *fault)
{
    struct qm_store *store = s->f->store;
    sqlite3_stmt *st = store_sql(store, "SELECT no, grp, vals, origin, since_ms FROM baseline WHERE grp IS NOT NULL AND ended_ms IS NULL"
                                        " AND (until_ms IS NULL OR until_ms > ?1)", fault);
    int rc;
    if (st == NULL)
        return QM_E_STORE;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)s->f->now_ms);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        const struct qm_ledger l = {.set_a = (uint32_t)sqlite3_column_int64(st, 2), .set_b = 1};
        const uint32_t group_no = (uint32_t)sqlite3_column_int64(st, 1);
        qm_err err = use_add(&s->uses, &l, group_no, 0, fault);
        void *more = realloc(s->out->set, (s->out->set_count + 1) * sizeof *s->out->set);
        if (more != NULL)
            s->out->set = more;
        if (err != QM_OK || more == NULL)
            return err != QM_OK ? err : qm_fail(fault, QM_E_NOMEM, 0, "no memory to count accepted sets");
        struct use *use = use_find(&s->uses, group_no, l.set_a);
        struct qm_set_use *to = &s->out->set[s->out->set_count++];
        *to = (struct qm_set_use){group_no, l.set_a, use->count, (uint64_t)sqlite3_column_int64(st, 0), "",
                                  (uint64_t)sqlite3_column_int64(st, 4)};
        take_text(to->origin, sizeof to->origin, st, 3);
        use->count = 0;
    }
    sqlite3_reset(st);
    return rc == SQLITE_DONE ? QM_OK : store_fail(store, fault, "reading the accepted sets");
}

enum { SHARED_MAX = 100 }; /* values shared by machines of their own that are listed, as they come */

static qm_err list_uses(struct summary *s, struct qm_fault *fault)
{
    const struct uses *u = &s->uses;
    size_t left = 0, shared = 0;
    qm_err err = name_group_sets(s, fault);
    for (size_t i = 0; i < u->group_room; i++)
        left += u->group[i].count != 0;
    for (size_t i = 1; i < u->whole_count; i++) {
        shared += u->whole[i] > 1;
        s->out->set_alone += u->whole[i] == 1;
    }
    shared = shared < SHARED_MAX ? shared : SHARED_MAX;
    if (err != QM_OK || left + shared == 0)
        return err;
    struct qm_set_use *more = realloc(s->out->set, (s->out->set_count + left + shared) * sizeof *more);
    if (more == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory to count accepted sets");
    s->out->set = more;
    for (size_t i = 0; i < u->group_room; i++)
        if (u->group[i].count != 0)
            more[s->out->set_count++] = (struct qm_set_use){u->group[i].group_no, u->group[i].values, u->group[i].count, 0, "", 0};
    for (size_t i = 1; i < u->whole_count && shared != 0; i++)
        if (u->whole[i] > 1) {
            more[s->out->set_count++] = (struct qm_set_use){0, (uint32_t)i, u->whole[i], 0, "", 0};
            shared--;
        }
    return QM_OK;
}

/* ---- alerts ------------------------------------------------------------------------------------------------------------ */

/* What waits for people. */
static qm_err count_alerts(struct summary *s, struct qm_fault *fault)
{
    struct qm_store *store = s->f->store;
    sqlite3_stmt *st = store_sql(store, "SELECT state, kind, count(*) FROM alert WHERE state IN (0, 1) GROUP BY state, kind", fault);
    int rc;
    bool found;
    if (st == NULL)
        return QM_E_STORE;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        const uint64_t kind = (uint64_t)sqlite3_column_int64(st, 1);
        if (kind < QM_COUNT(s->out->alerts))
            s->out->alerts[kind][sqlite3_column_int(st, 0) != QM_ALERT_OPEN] = (uint64_t)sqlite3_column_int64(st, 2);
    }
    sqlite3_reset(st);
    if (rc != SQLITE_DONE)
        return store_fail(store, fault, "reading the alerts");
    st = store_sql(store, "SELECT count(*) FROM alert WHERE closed_ms > ?1 AND state = 3 AND seen = 0 AND kind = 0", fault);
    if (st == NULL)
        return QM_E_STORE;
    const uint64_t month = 30ull * 24 * 3600 * 1000;
    sqlite3_bind_int64(st, 1, s->f->now_ms > month ? (sqlite3_int64)(s->f->now_ms - month) : 0);
    qm_err err = store_number(store, st, &s->out->alerts_unseen, &found, fault);
    st = err == QM_OK ? store_sql(store, "SELECT count(*) FROM challenge WHERE state = 1 AND until_ms > ?1", fault) : NULL;
    if (st == NULL)
        return err == QM_OK ? QM_E_STORE : err;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)s->f->now_ms);
    return store_number(store, st, &s->out->pending, &found, fault);
}

/* ---- all of it --------------------------------------------------------------------------------------------------------- */

static qm_err summary_open(struct summary *s, struct qm_fault *fault)
{
    bool found;
    uint64_t last = 0;
    sqlite3_stmt *values = store_sql(s->f->store, "SELECT coalesce(max(no), 0) FROM pcr_values", fault);
    if (values == NULL)
        return QM_E_STORE;
    qm_err err = store_number(s->f->store, values, &last, &found, fault);
    if (err != QM_OK)
        return err;
    s->uses.whole_count = (size_t)last + 1;
    s->uses.whole = calloc(s->uses.whole_count, sizeof *s->uses.whole);
    s->out = calloc(1, sizeof *s->out);
    if (s->out != NULL)
        s->out->group = calloc(s->f->scope_count, sizeof *s->out->group);
    if (s->uses.whole == NULL || s->out == NULL || s->out->group == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory for the summary");
    return QM_OK;
}

/* The tag's value; where it is missing, "". */
static void count_tag(struct summary *s, const struct qm_machine *m)
{
    struct qm_fleet_summary *out = s->out;
    char value[sizeof out->tag->value];
    size_t low = 0, high = out->tag_count;
    snprintf(value, sizeof value, "%.*s", (int)m->tag.len, m->tag.p != NULL ? (const char *)m->tag.p : "");
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (strcmp(out->tag[middle].value, value) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == out->tag_count || strcmp(out->tag[low].value, value) != 0) {
        if (out->tag_count == QM_TAG_VALUES_MAX) {
            low = QM_TAG_VALUES_MAX; /* there is room for one more */
        } else {
            memmove(&out->tag[low + 1], &out->tag[low], (out->tag_count - low) * sizeof *out->tag);
            out->tag[low] = (struct qm_tag_count){0};
            memcpy(out->tag[low].value, value, sizeof value);
            out->tag_count++;
        }
    }
    out->tag[low].instances++;
    out->tag[low].by_status[m->standing.status]++;
}

static qm_err count_one(void *ctx, const struct qm_machine *m, struct qm_fault *fault)
{
    struct summary *s = ctx;
    if (s->out->tag != NULL)
        count_tag(s, m);
    return count_machine(s, m->slot, &m->entry, fault);
}

static qm_err count_some(struct summary *s, const struct qm_fleet_filter *filter, struct qm_fault *fault)
{
    if (filter->tag_key != NULL && filter->tag_value == NULL) {
        s->out->tag = calloc(QM_TAG_VALUES_MAX + 1, sizeof *s->out->tag);
        if (s->out->tag == NULL)
            return qm_fail(fault, QM_E_NOMEM, 0, "no memory for the summary");
    }
    qm_err err = qm_fleet_each(s->f, filter, count_one, s, fault);
    if (s->out->tag != NULL && s->out->tag[QM_TAG_VALUES_MAX].instances != 0)
        snprintf(s->out->tag[s->out->tag_count++].value, sizeof s->out->tag->value, "…");
    return err;
}

static qm_err count_all(struct summary *s, struct qm_fault *fault)
{
    qm_err err = qm_store_ledger_each(s->f->store, count_block, s, fault);
    return err == QM_OK ? count_alerts(s, fault) : err;
}

qm_err qm_fleet_summarize(const struct qm_fleet *f, const struct qm_fleet_filter *filter, struct qm_fleet_summary **out,
                          struct qm_fault *fault)
{
    struct summary s = {.f = f};
    *out = NULL;
    qm_err err = summary_open(&s, fault);
    if (err == QM_OK)
        err = filter == NULL ? count_all(&s, fault) : count_some(&s, filter, fault);
    if (err == QM_OK)
        err = list_uses(&s, fault);
    free(s.uses.group);
    free(s.uses.whole);
    if (err != QM_OK) {
        qm_fleet_summary_close(s.out);
        return err;
    }
    if (s.out->set_count != 0)
        qsort(s.out->set, s.out->set_count, sizeof *s.out->set, by_use);
    *out = s.out;
    return QM_OK;
}

void qm_fleet_summary_close(struct qm_fleet_summary *s)
{
    if (s == NULL)
        return;
    free(s->group);
    free(s->tag);
    free(s->set);
    free(s);
}
