/* After the spool was taken in: which machines fell silent, and which stay new. One pass over the ledger finds them; a machine's
 * silence is a row of its own, unless a good part of its group fell silent at once, or the whole fleet. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/standing.h"
#include "tools/judge/judge_inside.h"
#include "tools/store/store_retire.h"
#include "tools/store/store_run.h"
#include "tools/store/store_status.h"

/* Of a group (0: machines without one). */
struct group_count {
    uint64_t machines;
    uint64_t silent;  /* unmeasured now */
    uint64_t fresh;   /* of them, those that were not before this run */
    uint64_t many;    /* of them, those that a row for many spoke for until now */
};

struct found {
    uint64_t slot;
    uint32_t group;
    bool silent;
    bool fresh;       /* silent, and no alert says so yet */
    bool many;        /* silent, and a row for many says so */
    bool over;        /* not silent any more, also where nothing came: the entry is to forget that an alert was raised */
    bool is_new;      /* without a baseline for too long */
};

struct scan {
    struct judge *j;
    struct qm_fleet fleet;
    struct group_count *group;
    size_t group_room;
    struct found *found;
    size_t count, room;
    bool all_silent;  /* nothing from anyone: one row speaks for all that are silent */
    bool one_spoke;   /* and that is over: those that stay silent need a row again */
};

static qm_err grow(struct scan *c, uint32_t group, struct qm_fault *fault)
{
    if (group >= c->group_room) {
        const size_t room = (size_t)group + 64;
        struct group_count *more = realloc(c->group, room * sizeof *more);
        if (more == NULL)
            return qm_fail(fault, QM_E_NOMEM, 0, "no memory for %zu groups", room);
        memset(more + c->group_room, 0, (room - c->group_room) * sizeof *more);
        c->group = more;
        c->group_room = room;
    }
    if (c->count == c->room) {
        const size_t room = c->room == 0 ? 1024 : 2 * c->room;
        struct found *more = realloc(c->found, room * sizeof *more);
        if (more == NULL)
            return qm_fail(fault, QM_E_NOMEM, 0, "no memory for %zu silent machines", room);
        c->found = more;
        c->room = room;
    }
    return QM_OK;
}

/* `new` is no hiding place. What was learned in this run is new only until the next record. */
static bool new_for_too_long(const struct qm_ledger *l, const struct qm_standing *s, const struct qm_standing_times *t)
{
    return s->status == QM_STANDS_NEW && (l->flags & QM_LEDGER_STATUS) != 0 && l->reason != QM_LEARNED && t->unmeasured_after_ms != 0 &&
           t->now_ms > (uint64_t)l->enrolled_s * 1000 && t->now_ms - (uint64_t)l->enrolled_s * 1000 > t->unmeasured_after_ms;
}

static qm_err scan_entry(struct scan *c, uint64_t slot, const struct qm_ledger *l, struct qm_fault *fault)
{
    qm_err err = grow(c, l->group, fault);
    if (err != QM_OK)
        return err;
    const struct qm_standing_times t = qm_fleet_times(&c->fleet, l->group);
    const struct qm_standing standing = qm_standing_of(l, &t);
    struct group_count *g = &c->group[l->group];
    struct found f = {.slot = slot, .group = l->group, .silent = standing.status == QM_STANDS_UNMEASURED};
    f.fresh = f.silent && (l->flags & QM_LEDGER_RAISED_SILENT) == 0;
    f.many = f.silent && !f.fresh && (l->flags & QM_LEDGER_SILENT_MANY) != 0;
    f.over = !f.silent && (l->flags & (QM_LEDGER_RAISED_SILENT | QM_LEDGER_SILENT_MANY)) != 0;
    f.is_new = new_for_too_long(l, &standing, &t);
    g->machines++;
    g->silent += f.silent;
    g->fresh += f.fresh;
    g->many += f.many;
    if (f.silent || f.over || f.is_new)
        c->found[c->count++] = f;
    return QM_OK;
}

static qm_err scan_block(void *ctx, uint64_t first, const struct qm_ledger entry[QM_LEDGER_BLOCK], struct qm_fault *fault)
{
    qm_err err = QM_OK;
    for (unsigned i = 0; err == QM_OK && i < QM_LEDGER_BLOCK; i++)
        if (entry[i].enrolled_s != 0)
            err = scan_entry(ctx, first + i, &entry[i], fault);
    return err;
}

/* Over a twentieth of a group at once, and more than one machine: one row. */
static bool in_bulk(const struct scan *c, uint32_t group)
{
    const struct group_count *g = &c->group[group];
    const uint64_t told = g->fresh + (c->one_spoke ? g->many : 0);
    return told > 1 && 20 * told > g->machines;
}

/* Of the fleet the cause is known, and tells its row from that of the machines without a group. */
static qm_err raise_shared(struct scan *c, uint32_t group, const char *subject, uint64_t machines, uint64_t of, struct qm_fault *fault)
{
    char detail[128], cause[48] = "";
    struct qm_alert_raised raised;
    if (c->all_silent)
        snprintf(cause, sizeof cause, "\"cause\":\"%s\",", qm_silence_name(QM_SILENCE_FLEET));
    snprintf(detail, sizeof detail, "{%s\"machines\":%llu,\"of\":%llu}", cause, (unsigned long long)machines, (unsigned long long)of);
    struct qm_alert_new a = {.kind = QM_ALERT_UNMEASURED,
                             .group_no = group,
                             .subject = {(const uint8_t *)subject, strlen(subject)},
                             .detail = detail,
                             .at_ms = c->fleet.now_ms};
    qm_err err = qm_alert_raise(c->j->store, &a, &raised, fault);
    c->j->out->opened += err == QM_OK && raised.opened;
    c->j->out->repeated += err == QM_OK && !raised.opened;
    return err;
}

static qm_err close_shared(struct scan *c, uint32_t group, const char *subject, uint64_t *closed, struct qm_fault *fault)
{
    qm_err err = qm_alert_resolve_shared(c->j->store, QM_ALERT_UNMEASURED, group, (struct qm_span){(const uint8_t *)subject, strlen(subject)},
                                         c->fleet.now_ms, closed, fault);
    c->j->out->resolved += err == QM_OK ? *closed : 0;
    return err;
}

static qm_err raise_own(struct scan *c, const struct found *f, struct qm_ledger *l, struct qm_fault *fault)
{
    const struct qm_standing_times t = qm_fleet_times(&c->fleet, f->group);
    const struct qm_standing standing = qm_standing_of(l, &t);
    char detail[128];
    struct qm_alert_raised raised;
    struct qm_alert_new a = {.slot = f->slot, .group_no = f->group, .at_ms = t.now_ms, .restarts = l->last.reset};
    if (f->is_new) {
        a.kind = l->reason == QM_PCR_VALUES_MISSING ? QM_ALERT_PCR_VALUES_MISSING : QM_ALERT_NO_BASELINE;
    } else {
        a.kind = QM_ALERT_UNMEASURED;
        snprintf(detail, sizeof detail, "{\"cause\":\"%s\",\"since\":%llu}", qm_silence_name(standing.silence),
                 (unsigned long long)standing.since_ms);
        a.detail = detail;
    }
    qm_err err = qm_alert_raise(c->j->store, &a, &raised, fault);
    if (err != QM_OK)
        return err;
    c->j->out->opened += raised.opened;
    c->j->out->repeated += !raised.opened;
    l->flags |= QM_LEDGER_ALERTS;
    return QM_OK;
}

/* Rows of their own for those that no shared row speaks for; entries that say so. */
static qm_err raise_found(struct scan *c, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    for (size_t i = 0; err == QM_OK && i < c->count; i++) {
        const struct found *f = &c->found[i];
        const bool anew = f->fresh || (f->many && c->one_spoke);
        const bool shared = anew && (c->all_silent || in_bulk(c, f->group));
        struct qm_ledger l;
        if (f->many && !anew)
            continue;
        err = qm_store_ledger_get(c->j->store, f->slot, &l, fault);
        if (err == QM_OK && !shared && (f->silent || f->is_new))
            err = raise_own(c, f, &l, fault);
        if (err != QM_OK)
            break;
        if (anew || f->over)
            l.flags &= (uint8_t) ~(QM_LEDGER_RAISED_SILENT | QM_LEDGER_SILENT_MANY);
        if (f->silent)
            l.flags |= QM_LEDGER_RAISED_SILENT;
        if (shared)
            l.flags |= QM_LEDGER_SILENT_MANY;
        err = qm_store_ledger_put(c->j->store, f->slot, &l, fault);
    }
    return err;
}

/* Rows for many: a group's is repeated while a part of it stays silent, and closed when nobody is. */
static qm_err raise_groups(struct scan *c, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    for (size_t g = 0; err == QM_OK && g < c->group_room; g++) {
        const struct group_count *n = &c->group[g];
        uint64_t closed;
        if (n->machines == 0)
            continue;
        if (!c->all_silent && in_bulk(c, (uint32_t)g))
            err = raise_shared(c, (uint32_t)g, "group", n->silent, n->machines, fault);
        else if (n->silent == 0)
            err = close_shared(c, (uint32_t)g, "group", &closed, fault);
    }
    return err;
}

/* One row for all, while nothing comes from anyone. */
static qm_err raise_fleet(struct scan *c, struct qm_fault *fault)
{
    uint64_t silent = 0, machines = 0, closed = 0;
    for (size_t g = 0; g < c->group_room; g++) {
        silent += c->group[g].silent;
        machines += c->group[g].machines;
        c->j->out->unmeasured += c->group[g].fresh;
    }
    c->all_silent = c->j->out->fleet_silent = c->fleet.scope[0].silent && silent != 0;
    if (c->all_silent)
        return raise_shared(c, 0, "fleet", silent, machines, fault);
    qm_err err = close_shared(c, 0, "fleet", &closed, fault);
    c->one_spoke = closed != 0;
    return err;
}

qm_err judge_silent(struct judge *j, struct qm_fault *fault)
{
    const struct qm_run_now run = {j->options->start_ms, j->options->end_ms, j->newest_ms};
    struct scan c = {.j = j};
    if (j->out->clock_behind)
        return QM_OK;
    qm_err err = qm_fleet_open(&c.fleet, j->store, &run, fault);
    if (err == QM_OK)
        err = qm_store_meta_set(j->store, "authentic_ms", c.fleet.heard_ms, fault);
    if (err == QM_OK)
        err = qm_store_ledger_each(j->store, scan_block, &c, fault);
    if (err == QM_OK)
        err = raise_fleet(&c, fault);
    if (err == QM_OK)
        err = raise_groups(&c, fault);
    if (err == QM_OK)
        err = raise_found(&c, fault);
    if (err == QM_OK && !c.all_silent) /* else it is the way to us that is broken, not every machine that is gone */
        err = qm_store_retire_silent(j->store, &c.fleet, &j->out->retired, fault);
    qm_fleet_close(&c.fleet);
    free(c.group);
    free(c.found);
    return err;
}
