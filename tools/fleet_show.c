/* The fleet's summary, for people and as JSON. */
#include "tools/fleet_show.h"

#include <stdlib.h>

#include "codec/emit.h"

/* In the order in which they want attention; trusted ones are not listed. */
static const enum qm_standing_status order[] = {QM_STANDS_UNTRUSTED, QM_STANDS_INVALID, QM_STANDS_UNMEASURED, QM_STANDS_NEW,
                                                QM_STANDS_TRUSTED};

enum qm_colour qm_standing_colour(enum qm_standing_status s)
{
    static const enum qm_colour colour[QM_STANDS_COUNT] = {QM_RED, QM_GREY, QM_RED, QM_YELLOW, QM_GREEN};
    return colour[s];
}

static const char *reason_word(unsigned reason)
{
    return reason == QM_REASON_NO_RECORD ? "no_record" : qm_reason_name((enum qm_reason)reason);
}

/* ---- JSON -------------------------------------------------------------------------------------------------------------- */

static void number(struct qm_emit *e, const char *key, uint64_t v)
{
    qm_emit_key(e, key);
    qm_emit_u64(e, v);
}

static void json_more(struct qm_emit *e, const struct qm_fleet_summary *s)
{
    qm_emit_key(e, "by_reason");
    qm_emit_map(e);
    for (size_t i = 0; i < QM_COUNT(order); i++) {
        qm_emit_key(e, qm_standing_name(order[i]));
        qm_emit_map(e);
        for (unsigned r = 0; r < QM_STANDING_REASONS; r++)
            if (s->by_reason[order[i]][r] != 0)
                number(e, reason_word(r), s->by_reason[order[i]][r]);
        for (unsigned c = 0; order[i] == QM_STANDS_UNMEASURED && c < QM_SILENCE_COUNT; c++)
            if (s->by_silence[c] != 0)
                number(e, qm_silence_name((enum qm_silence)c), s->by_silence[c]);
        qm_emit_end(e);
    }
    qm_emit_end(e);
    qm_emit_key(e, "trusted_by");
    qm_emit_map(e);
    for (unsigned i = QM_FRESH_CLOCK; i < QM_FRESH_COUNT; i++)
        number(e, qm_fresh_name((enum qm_fresh)i), s->by_fresh[i]);
    qm_emit_end(e);
    number(e, "stale", s->stale);
    number(e, "held", s->held);
    number(e, "enrolments_pending", s->pending);
}

/* Trusted machines by the accepted set they pass on: a group's by its number, those of machines of their own by that of the values. A
 * fleet may have more of them than a line's buffer holds. */
static void json_sets(struct qm_emit *e, const struct qm_fleet *f, const struct qm_fleet_summary *s)
{
    qm_emit_key(e, "by_set");
    qm_emit_array(e);
    for (size_t i = 0; i < s->set_count; i++) {
        const struct qm_set_use *u = &s->set[i];
        fwrite(e->out->p, 1, e->out->len, stdout);
        e->out->len = 0;
        qm_emit_map(e);
        qm_emit_key(e, "group");
        if (u->group_no != 0)
            qm_emit_text(e, (struct qm_span){(const uint8_t *)f->scope[u->group_no].name, strlen(f->scope[u->group_no].name)});
        else
            qm_emit_null(e);
        qm_emit_key(e, "set");
        if (u->no != 0)
            qm_emit_u64(e, u->no);
        else
            qm_emit_null(e);
        number(e, "values", u->values);
        number(e, "instances", u->instances);
        qm_emit_end(e);
    }
    qm_emit_end(e);
    number(e, "alone", s->set_alone);
}

void qm_summary_json(const struct qm_fleet *f, uint64_t instances, const uint64_t by_status[QM_STANDS_COUNT],
                     const struct qm_fleet_summary *s)
{
    char line[8192];
    struct qm_out o = qm_out_init(line, sizeof line);
    struct qm_emit e = qm_emit_init(&o, true);
    qm_emit_map(&e);
    qm_emit_key(&e, "kind");
    qm_emit_name(&e, "summary");
    number(&e, "instances", instances);
    qm_emit_key(&e, "by_status");
    qm_emit_map(&e);
    for (size_t i = 0; i < QM_COUNT(order); i++)
        number(&e, qm_standing_name(order[i]), by_status[order[i]]);
    qm_emit_end(&e);
    qm_emit_key(&e, "last_run");
    if (f->last.known)
        qm_emit_u64(&e, f->last.end_ms);
    else
        qm_emit_null(&e);
    qm_emit_key(&e, "verifier_stopped");
    qm_emit_bool(&e, qm_fleet_verifier_stopped(f));
    if (s != NULL) {
        json_more(&e, s);
        json_sets(&e, f, s);
    }
    qm_emit_end(&e);
    qm_out_char(&o, '\n');
    fwrite(o.p, 1, o.len, stdout);
}

/* ---- for people -------------------------------------------------------------------------------------------------------- */

static struct qm_span span(const char *text)
{
    return (struct qm_span){(const uint8_t *)text, strlen(text)};
}

void qm_verifier_show(const struct qm_fleet *f, const struct qm_show *show)
{
    char age[QM_AGE_MAX], text[160];
    const bool behind = f->last.known && f->now_ms < f->last.end_ms;
    if (!behind && !qm_fleet_verifier_stopped(f))
        return;
    if (behind)
        snprintf(text, sizeof text, "The clock is %s behind the end of the last run: who is silent cannot be told.",
                 qm_age(age, f->last.end_ms - f->now_ms));
    else if (f->last.known)
        snprintf(text, sizeof text, "The verifier has not run for %s: what follows is as old.", qm_age(age, f->now_ms - f->last.end_ms));
    else
        snprintf(text, sizeof text, "The verifier has never run in this home.");
    qm_show_word(show, QM_RED, text, 0);
    fprintf(show->to, "\n\n");
}

struct count {
    const char *name;
    uint64_t count;
};

/* "name 12, name 3", those that are not 0. */
static void show_counts(const struct qm_show *show, const struct count *c, size_t count, const char *before)
{
    bool first = true;
    for (size_t i = 0; i < count; i++) {
        if (c[i].count == 0)
            continue;
        fprintf(show->to, "%s%s %llu", first ? before : ", ", c[i].name, (unsigned long long)c[i].count);
        first = false;
    }
}

static void show_status(const struct qm_fleet_summary *s, enum qm_standing_status status, const struct qm_show *show)
{
    struct count c[QM_STANDING_REASONS + QM_SILENCE_COUNT];
    size_t n = 0;
    fputs("  ", show->to);
    qm_show_circle(show, qm_standing_colour(status));
    qm_show_word(show, s->by_status[status] != 0 ? qm_standing_colour(status) : QM_PLAIN, qm_standing_name(status), 10);
    fprintf(show->to, " %10llu", (unsigned long long)s->by_status[status]);
    if (status == QM_STANDS_TRUSTED)
        for (unsigned i = QM_FRESH_COUNT; i-- > QM_FRESH_CLOCK;)
            c[n++] = (struct count){qm_fresh_name((enum qm_fresh)i), s->by_fresh[i]};
    else if (status == QM_STANDS_UNMEASURED)
        for (unsigned i = 0; i < QM_SILENCE_COUNT; i++)
            c[n++] = (struct count){qm_silence_name((enum qm_silence)i), s->by_silence[i]};
    else
        for (unsigned i = 0; i < QM_STANDING_REASONS; i++)
            c[n++] = (struct count){reason_word(i), s->by_reason[status][i]};
    show_counts(show, c, n, status == QM_STANDS_TRUSTED ? "  fresh by " : "  ");
    fputc('\n', show->to);
}

static void show_last_run(const struct qm_fleet *f, const struct qm_show *show)
{
    char age[QM_AGE_MAX];
    if (!f->last.known)
        return;
    const uint64_t took = f->last.end_ms - f->last.start_ms;
    fprintf(show->to, "  last %s %s, ", f->last.kind, f->last.id);
    fprintf(show->to, "%s: %llu records in %llu.%03llu s%s\n", qm_ago(age, f->now_ms, f->last.end_ms), (unsigned long long)f->last.records,
            (unsigned long long)(took / 1000), (unsigned long long)(took % 1000), f->last.complete ? "" : ", not complete");
}

static void show_alerts(const struct qm_fleet_summary *s, const struct qm_show *show)
{
    struct count open[QM_COUNT(s->alerts)];
    uint64_t opened = 0, ignored = 0;
    size_t n = 0;
    for (unsigned i = 0; i < QM_COUNT(s->alerts); i++) {
        const char *name = qm_alert_kind_name((enum qm_alert_kind)i);
        if (name == NULL)
            continue;
        open[n++] = (struct count){name, s->alerts[i][0]};
        opened += s->alerts[i][0];
        ignored += s->alerts[i][1];
    }
    if (opened + ignored + s->alerts_unseen == 0)
        return;
    fprintf(show->to, "  alerts: %llu open", (unsigned long long)opened);
    show_counts(show, open, n, " (");
    fprintf(show->to, "%s, %llu ignored", opened != 0 ? ")" : "", (unsigned long long)ignored);
    if (s->alerts_unseen != 0)
        fprintf(show->to, ", %llu pass again and were not looked at", (unsigned long long)s->alerts_unseen);
    fputc('\n', show->to);
}

/* A row of counts by status. */
static void show_row(const struct qm_show *show, struct qm_span name, int width, uint64_t instances, const uint64_t by_status[QM_STANDS_COUNT])
{
    char text[24];
    fputs("  ", show->to);
    qm_show_text(show, name, width);
    fprintf(show->to, " %10llu", (unsigned long long)instances);
    for (size_t i = 0; i < QM_COUNT(order); i++) {
        const uint64_t n = by_status[order[i]];
        snprintf(text, sizeof text, " %10llu", (unsigned long long)n);
        qm_show_word(show, n != 0 ? qm_standing_colour(order[i]) : QM_PLAIN, text, 0);
    }
    fputc('\n', show->to);
}

static void show_head(const struct qm_show *show, struct qm_span what, int width)
{
    fputs("\n  ", show->to);
    qm_show_text(show, what, width);
    fprintf(show->to, " %10s", "instances");
    for (size_t i = 0; i < QM_COUNT(order); i++)
        fprintf(show->to, " %10s", qm_standing_name(order[i]));
    fputc('\n', show->to);
}

enum { NAME_MIN = 12, NAME_MAX = 32, SETS_SHOWN_MAX = 20 };

static int name_width(int so_far, struct qm_span name)
{
    const int width = qm_show_width(name);
    return width > NAME_MAX ? NAME_MAX : width > so_far ? width : so_far;
}

static void show_groups(const struct qm_fleet *f, const struct qm_fleet_summary *s, const struct qm_show *show)
{
    int width = NAME_MIN;
    size_t used = 0;
    for (size_t i = 1; i < f->scope_count; i++)
        if (s->group[i].instances != 0) {
            width = name_width(width, span(f->scope[i].name));
            used++;
        }
    if (used == 0)
        return;
    show_head(show, span("group"), width);
    for (size_t i = 0; i < f->scope_count; i++) {
        const uint32_t no = f->scope_by_name[i];
        if (s->group[no].instances != 0)
            show_row(show, no != 0 ? span(f->scope[no].name) : span("(none)"), width, s->group[no].instances, s->group[no].by_status);
    }
}

static void show_tags(const struct qm_fleet_summary *s, const char *key, const struct qm_show *show)
{
    int width = name_width(NAME_MIN, span(key));
    for (size_t i = 0; i < s->tag_count; i++)
        width = name_width(width, span(s->tag[i].value));
    show_head(show, span(key), width);
    for (size_t i = 0; i < s->tag_count; i++) {
        const struct qm_tag_count *t = &s->tag[i];
        const bool others = i == QM_TAG_VALUES_MAX;
        show_row(show, others ? span("(others)") : t->value[0] != '\0' ? span(t->value) : span("(none)"), width, t->instances, t->by_status);
    }
}

static void show_set(const struct qm_fleet *f, const struct qm_set_use *u, const struct qm_show *show)
{
    char age[QM_AGE_MAX], what[96];
    if (u->group_no == 0)
        snprintf(what, sizeof what, "whole sets with values %u", u->values);
    else if (u->no == 0)
        snprintf(what, sizeof what, "a set that has ended, values %u", u->values);
    else
        snprintf(what, sizeof what, "set %llu, %s %s", (unsigned long long)u->no, u->origin, qm_ago(age, f->now_ms, u->since_ms));
    fputs("  ", show->to);
    qm_show_text(show, u->group_no != 0 ? span(f->scope[u->group_no].name) : span("(own)"), 16);
    fprintf(show->to, " %-40s %10llu\n", what, (unsigned long long)u->instances);
}

/* A set that nobody passes on yet is shown of the groups that were asked for: of all, or of one. */
static bool is_asked_for(const struct qm_fleet *f, const struct qm_set_use *u, const struct qm_fleet_filter *filter)
{
    if (u->instances != 0)
        return true;
    return filter->tag_value == NULL && (filter->group == NULL || strcmp(f->scope[u->group_no].name, filter->group) == 0);
}

static void show_sets(const struct qm_fleet *f, const struct qm_fleet_summary *s, const struct qm_fleet_filter *filter, const struct qm_show *show)
{
    size_t asked = 0, shown = 0;
    for (size_t i = 0; i < s->set_count; i++)
        asked += is_asked_for(f, &s->set[i], filter);
    if (asked == 0 && s->set_alone == 0)
        return;
    fputs("\n  trusted machines by the accepted set they pass on\n", show->to);
    for (size_t i = 0; i < s->set_count && shown < SETS_SHOWN_MAX; i++)
        if (is_asked_for(f, &s->set[i], filter)) {
            show_set(f, &s->set[i], show);
            shown++;
        }
    if (asked > shown)
        fprintf(show->to, "  and %zu more sets\n", asked - shown);
    if (s->set_alone != 0)
        fprintf(show->to, "  %-16s %-40s %10llu\n", "(own)", "values that no other machine has", (unsigned long long)s->set_alone);
}

struct listing {
    const struct qm_fleet *f;
    const struct qm_show *show;
};

static qm_err list_one(void *ctx, const struct qm_machine *m, struct qm_fault *fault)
{
    const struct listing *l = ctx;
    const struct qm_standing *st = &m->standing;
    char age[QM_AGE_MAX];
    (void)fault;
    fputs("  ", l->show->to);
    qm_show_circle(l->show, qm_standing_colour(st->status));
    qm_show_word(l->show, qm_standing_colour(st->status), qm_standing_name(st->status), 11);
    qm_show_text(l->show, m->id, qm_show_width(m->id) < 36 ? 36 : 0);
    fprintf(l->show->to, " %-20s", qm_standing_reason(&m->entry, st));
    if (st->status == QM_STANDS_UNMEASURED && st->silence == QM_SILENCE_REFUSED)
        fprintf(l->show->to, " %s,", qm_reason_name(m->entry.refused_reason));
    if (m->entry.authentic_ms != 0)
        fprintf(l->show->to, " last record %s%s", qm_ago(age, l->f->now_ms, m->entry.authentic_ms), st->stale ? ", stale" : "");
    else
        fprintf(l->show->to, " no record yet");
    fputc('\n', l->show->to);
    return QM_OK;
}

static qm_err show_list(const struct qm_fleet *f, const struct qm_fleet_summary *s, uint64_t limit, const struct qm_show *show,
                        struct qm_fault *fault)
{
    struct listing l = {f, show};
    qm_err err = QM_OK;
    bool found;
    if (limit != 0 && s->instances != s->by_status[QM_STANDS_TRUSTED])
        fputs("\n  not trusted\n", show->to);
    for (size_t i = 0; limit != 0 && i < QM_COUNT(order) && order[i] != QM_STANDS_TRUSTED; i++) {
        const uint64_t count = s->by_status[order[i]];
        const uint64_t listed = count < limit ? count : limit;
        for (uint64_t n = 0; err == QM_OK && n < listed; n++)
            err = qm_fleet_slot(f, s->listed[order[i]][n], list_one, &l, &found, fault);
        if (count > listed)
            fprintf(show->to, "  and %llu more %s\n", (unsigned long long)(count - listed), qm_standing_name(order[i]));
    }
    return err;
}

qm_err qm_summary_show(const struct qm_fleet *f, const struct qm_fleet_summary *s, const struct qm_fleet_filter *filter, uint64_t limit,
                       const struct qm_show *show, struct qm_fault *fault)
{
    qm_verifier_show(f, show);
    fprintf(show->to, "  %s%-10s %10llu\n", show->colour ? "  " : "", "instances", (unsigned long long)s->instances);
    for (size_t i = QM_COUNT(order); i-- > 0;)
        show_status(s, order[i], show);
    if (s->held != 0)
        fprintf(show->to, "  held: %llu\n", (unsigned long long)s->held);
    if (s->stale != 0)
        fprintf(show->to, "  silent, and not counted as unmeasured: %llu\n", (unsigned long long)s->stale);
    show_last_run(f, show);
    show_alerts(s, show);
    if (s->pending != 0)
        fprintf(show->to, "  enrolments that wait for enroll --confirm: %llu\n", (unsigned long long)s->pending);
    show_groups(f, s, show);
    if (s->tag != NULL)
        show_tags(s, filter->tag_key, show);
    show_sets(f, s, filter, show);
    return show_list(f, s, limit, show, fault);
}
