/* One machine, for people and as JSON. */
#include <stdlib.h>

#include "codec/emit.h"
#include "codec/eventnames.h"
#include "tools/fleet_show.h"
#include "tools/json_read.h"
#include "tools/store/store_events.h"

enum { LINE_MAX_BYTES = 256 * 1024 };

static struct qm_span span(const char *text)
{
    return (struct qm_span){(const uint8_t *)text, strlen(text)};
}

/* ---- JSON -------------------------------------------------------------------------------------------------------------- */

static void number(struct qm_emit *e, const char *key, uint64_t v)
{
    qm_emit_key(e, key);
    qm_emit_u64(e, v);
}

static void moment(struct qm_emit *e, const char *key, uint64_t ms)
{
    qm_emit_key(e, key);
    if (ms != 0)
        qm_emit_u64(e, ms);
    else
        qm_emit_null(e);
}

static void text(struct qm_emit *e, const char *key, const char *value)
{
    qm_emit_key(e, key);
    qm_emit_text(e, span(value));
}

/* A JSON text that was checked when it was taken in, as ASCII: beyond ASCII there is something in strings only. */
static void ascii_json(struct qm_out *o, struct qm_span json)
{
    for (size_t i = 0; i < json.len;) {
        uint32_t code;
        const size_t n = qm_utf8_read(json.p + i, json.len - i, &code);
        char escaped[32];
        struct qm_out one = qm_out_init(escaped, sizeof escaped);
        if (n != 0 && code < 0x7f) {
            qm_out_char(o, code < 0x20 ? ' ' : (char)code);
        } else {
            qm_out_json_string(&one, (struct qm_span){json.p + i, n != 0 ? n : 1});
            qm_out_bytes(o, one.p + 1, one.len - 2); /* without its quotes */
        }
        i += n != 0 ? n : 1;
    }
}

static qm_err json_alert(void *ctx, const struct qm_machine_alert *a, struct qm_fault *fault)
{
    struct qm_emit *e = ctx;
    const char *kind = qm_alert_kind_name(a->kind);
    (void)fault;
    qm_emit_map(e);
    number(e, "no", a->no);
    text(e, "alert", kind != NULL ? kind : "");
    text(e, "change", a->change);
    text(e, "state", qm_alert_state_name(a->state));
    number(e, "first_seen", a->first_ms);
    number(e, "last_seen", a->last_ms);
    number(e, "count", a->count);
    qm_emit_end(e);
    return QM_OK;
}

static void json_head(struct qm_emit *e, const struct qm_machine *m)
{
    const struct qm_standing *st = &m->standing;
    qm_emit_key(e, "id");
    qm_emit_text(e, m->id);
    text(e, "status", qm_standing_name(st->status));
    text(e, "reason", qm_standing_reason(&m->entry, st));
    if (st->stale) {
        qm_emit_key(e, "stale");
        qm_emit_bool(e, true);
    }
    if (st->held)
        number(e, "held_until", (uint64_t)m->entry.hold_until_s * 1000);
    moment(e, "last_good", m->entry.good_ms);
    moment(e, "last_valid", m->entry.authentic_ms);
    qm_emit_key(e, "group");
    if (m->group.p != NULL)
        qm_emit_text(e, m->group);
    else
        qm_emit_null(e);
    qm_emit_key(e, "tags");
    if (m->tags.len != 0)
        ascii_json(e->out, m->tags);
    else
        qm_out_text(e->out, "{}");
}

static qm_err json_alerts(struct qm_emit *e, const struct qm_fleet *f, const struct qm_machine *m, bool ask, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    qm_emit_key(e, "alerts");
    qm_emit_array(e);
    if (ask)
        err = qm_machine_alerts(f, m, json_alert, e, fault);
    qm_emit_end(e);
    return err;
}

static qm_err finish(struct qm_out *o, struct qm_emit *e, struct qm_fault *fault)
{
    qm_emit_end(e);
    qm_out_char(o, '\n');
    if (o->full)
        return qm_fail(fault, QM_E_LIMIT, 0, "a machine's line is too long");
    fwrite(o->p, 1, o->len, stdout);
    return QM_OK;
}

qm_err qm_each_json(void *ctx, const struct qm_machine *m, struct qm_fault *fault)
{
    struct qm_one_ask *one = ctx;
    char line[LINE_MAX_BYTES];
    struct qm_out o = qm_out_init(line, sizeof line);
    struct qm_emit e = qm_emit_init(&o, true);
    one->by_status[m->standing.status]++;
    qm_emit_map(&e);
    json_head(&e, m);
    /* A machine whose entry does not say so has none: most are not asked for. */
    qm_err err = json_alerts(&e, one->fleet, m, (m->entry.flags & (QM_LEDGER_ALERTS | QM_LEDGER_RAISED_SILENT)) != 0, fault);
    return err == QM_OK ? finish(&o, &e, fault) : err;
}

static void json_stages(struct qm_emit *e, const struct qm_machine_stages *s)
{
    qm_emit_key(e, "stages");
    qm_emit_array(e);
    for (unsigned i = 0; i < s->count; i++) {
        const struct qm_stage *stage = &s->stage[i];
        qm_emit_map(e);
        number(e, "pcr", stage->pcr);
        text(e, "name", s->name[i]);
        text(e, "state", qm_stage_state_name(stage->state));
        if (stage->measured != NULL) {
            qm_emit_key(e, "measured");
            qm_emit_bytes(e, stage->measured, 32);
        }
        if (stage->expected != NULL) {
            qm_emit_key(e, "expected");
            qm_emit_bytes(e, stage->expected, 32);
        }
        qm_emit_end(e);
    }
    qm_emit_end(e);
}

static qm_err json_set(void *ctx, const struct qm_machine_set *set, struct qm_fault *fault)
{
    static const char *const kind[] = {"whole", "group", "instance"};
    struct qm_emit *e = ctx;
    (void)fault;
    qm_emit_map(e);
    number(e, "set", set->no);
    text(e, "kind", (unsigned)set->kind < QM_COUNT(kind) ? kind[set->kind] : "");
    text(e, "origin", set->origin);
    text(e, "who", set->who);
    number(e, "since", set->since_ms);
    moment(e, "until", set->until_ms);
    qm_emit_key(e, "nearest");
    qm_emit_bool(e, set->nearest);
    qm_emit_end(e);
    return QM_OK;
}

static void json_tpm(struct qm_emit *e, const struct qm_ledger *l)
{
    if ((l->flags & QM_LEDGER_SEEN) != 0) {
        number(e, "clock", l->last.clock_ms);
        number(e, "reset", l->last.reset);
        number(e, "restart", l->last.restart);
        qm_emit_key(e, "safe");
        qm_emit_bool(e, (l->flags & QM_LEDGER_SAFE) != 0);
        text(e, "fresh", qm_fresh_name(l->fresh));
    }
    number(e, "boots", l->boots);
    number(e, "boots_silent", l->boots_silent);
    if (l->refused_count == 0)
        return;
    qm_emit_key(e, "refused");
    qm_emit_map(e);
    text(e, "reason", qm_reason_name(l->refused_reason));
    number(e, "count", l->refused_count);
    number(e, "last", (uint64_t)l->refused_s * 1000);
    qm_emit_end(e);
}

static void json_key(struct qm_emit *e, const struct qm_machine_key *key)
{
    qm_emit_key(e, "key");
    qm_emit_map(e);
    qm_emit_key(e, "fingerprint");
    qm_emit_bytes(e, key->digest, sizeof key->digest);
    number(e, "since", key->since_ms);
    text(e, "who", key->who);
    text(e, "how", key->how);
    number(e, "earlier", key->earlier);
    qm_emit_end(e);
}

static qm_err json_note(void *ctx, const struct qm_machine_note *n, struct qm_fault *fault)
{
    struct qm_emit *e = ctx;
    (void)fault;
    qm_emit_map(e);
    number(e, "at", n->at_ms);
    text(e, "who", n->who);
    text(e, "what", n->what);
    text(e, "why", n->why);
    qm_emit_end(e);
    return QM_OK;
}

/* How its key earned its place, and what its history has of it. */
static qm_err json_enrolment(struct qm_emit *e, const struct qm_fleet *f, const struct qm_machine *m, const struct qm_machine_key *key,
                             struct qm_fault *fault)
{
    qm_emit_key(e, "enrolment");
    qm_emit_map(e);
    text(e, "how", key->how);
    if (key->has_ek) {
        qm_emit_key(e, "ek");
        qm_emit_bytes(e, key->ek, sizeof key->ek);
    }
    if (key->bound[0] != '\0')
        text(e, "bound", key->bound);
    if (key->proven_ms != 0)
        number(e, "proven", key->proven_ms);
    if (key->ca.known) {
        qm_emit_key(e, "ca");
        qm_emit_map(e);
        text(e, "subject", key->ca.subject);
        qm_emit_key(e, "sha256");
        qm_emit_bytes(e, key->ca.sha256, sizeof key->ca.sha256);
        qm_emit_end(e);
    }
    qm_emit_key(e, "history");
    qm_emit_array(e);
    qm_err err = qm_machine_notes(f, m, json_note, e, fault);
    qm_emit_end(e);
    qm_emit_end(e);
    return err;
}

static qm_err json_hold(struct qm_emit *e, const struct qm_fleet *f, const struct qm_machine *m, struct qm_fault *fault)
{
    struct qm_machine_hold hold;
    if (!m->standing.held)
        return QM_OK;
    qm_err err = qm_machine_hold(f, m->slot, &hold, fault);
    qm_emit_key(e, "hold");
    qm_emit_map(e);
    number(e, "until", (uint64_t)m->entry.hold_until_s * 1000);
    number(e, "since", hold.since_ms);
    text(e, "who", hold.who);
    text(e, "why", hold.why);
    qm_emit_end(e);
    return err;
}

static qm_err one_json(const struct qm_fleet *f, const struct qm_machine *m, const struct qm_machine_stages *stages,
                       const struct qm_machine_key *key, struct qm_fault *fault)
{
    char line[LINE_MAX_BYTES];
    struct qm_out o = qm_out_init(line, sizeof line);
    struct qm_emit e = qm_emit_init(&o, true);
    qm_emit_map(&e);
    json_head(&e, m);
    json_stages(&e, stages);
    qm_err err = json_alerts(&e, f, m, true, fault);
    if (err != QM_OK)
        return err;
    err = json_hold(&e, f, m, fault);
    if (err != QM_OK)
        return err;
    number(&e, "enrolled", (uint64_t)m->entry.enrolled_s * 1000);
    json_key(&e, key);
    err = json_enrolment(&e, f, m, key, fault);
    if (err != QM_OK)
        return err;
    json_tpm(&e, &m->entry);
    qm_emit_key(&e, "sets");
    qm_emit_array(&e);
    err = qm_machine_sets(f, m, json_set, &e, fault);
    qm_emit_end(&e);
    return err == QM_OK ? finish(&o, &e, fault) : err;
}

/* ---- for people -------------------------------------------------------------------------------------------------------- */

static void label(const struct qm_show *show, const char *name)
{
    fprintf(show->to, "  %-11s", name);
}

static void show_status(const struct qm_fleet *f, const struct qm_machine *m, const struct qm_show *show)
{
    const struct qm_standing *st = &m->standing;
    char age[QM_AGE_MAX];
    qm_show_text(show, m->id, 0);
    fputs("  ", show->to);
    qm_show_circle(show, qm_standing_colour(st->status));
    qm_show_word(show, qm_standing_colour(st->status), qm_standing_name(st->status), 0);
    fprintf(show->to, "  %s", qm_standing_reason(&m->entry, st));
    if (st->status == QM_STANDS_UNMEASURED && st->silence == QM_SILENCE_REFUSED)
        fprintf(show->to, " (%s)", qm_reason_name(m->entry.refused_reason));
    if (st->silence != QM_SILENCE_NONE)
        fprintf(show->to, "  %s for %s", st->stale ? "stale: silent" : "silent", qm_age(age, f->now_ms - st->since_ms));
    fputc('\n', show->to);
}

static qm_err show_hold(const struct qm_fleet *f, const struct qm_machine *m, const struct qm_show *show, struct qm_fault *fault)
{
    struct qm_machine_hold hold;
    char when[QM_AGE_MAX];
    if (!m->standing.held)
        return QM_OK;
    qm_err err = qm_machine_hold(f, m->slot, &hold, fault);
    fprintf(show->to, "  held until %s by ", qm_moment(when, (uint64_t)m->entry.hold_until_s * 1000));
    qm_show_text(show, span(hold.who), 0);
    fputs(": ", show->to);
    qm_show_text(show, span(hold.why), 0);
    fputc('\n', show->to);
    return err;
}

static void show_when(const struct qm_fleet *f, const struct qm_show *show, const char *name, uint64_t ms)
{
    char age[QM_AGE_MAX], when[QM_AGE_MAX];
    label(show, name);
    if (ms == 0)
        fputs("never\n", show->to);
    else
        fprintf(show->to, "%s, %s\n", qm_moment(when, ms), qm_ago(age, f->now_ms, ms));
}

static void show_key(const struct qm_fleet *f, const struct qm_machine *m, const struct qm_machine_key *key, const struct qm_profile *p,
                     const struct qm_show *show)
{
    static const char *const scheme[] = {"", "rsassa", "rsapss", "ecdsa"};
    char age[QM_AGE_MAX];
    label(show, "key");
    fprintf(show->to, "%s-%s ", p->scheme < QM_COUNT(scheme) ? scheme[p->scheme] : "", qm_hash_name(p->hash));
    qm_show_hex(show, key->digest, 16);
    fprintf(show->to, ", since %s, by ", qm_ago(age, f->now_ms, key->since_ms));
    qm_show_text(show, span(key->who), 0);
    fputs(key->proven_ms == 0 ? " from a " : " by a ", show->to);
    qm_show_text(show, span(key->how), 0);
    if (key->earlier != 0)
        fprintf(show->to, "; %llu before it", (unsigned long long)key->earlier);
    if (key->since_ms / 1000 > m->entry.enrolled_s)
        fprintf(show->to, "; enrolled %s", qm_ago(age, f->now_ms, (uint64_t)m->entry.enrolled_s * 1000));
    fputc('\n', show->to);
}

static void show_proof(const struct qm_fleet *f, const struct qm_machine_key *key, const struct qm_show *show)
{
    static const struct {
        const char *bound, *words;
    } words[] = {{"expected", "the operator's list says whose it is"},
                 {"subject", "the certificate's subject says whose it is"},
                 {"confirmed", "a person said whose it is"}};
    char age[QM_AGE_MAX];
    if (key->proven_ms == 0)
        return;
    label(show, "proven");
    fputs(qm_ago(age, f->now_ms, key->proven_ms), show->to);
    if (key->has_ek) {
        fputs(" by EK ", show->to);
        qm_show_hex(show, key->ek, sizeof key->ek);
    }
    for (size_t i = 0; i < QM_COUNT(words); i++)
        if (strcmp(words[i].bound, key->bound) == 0)
            fprintf(show->to, "; %s", words[i].words);
    fputc('\n', show->to);
    if (!key->ca.known)
        return;
    label(show, "CA");
    qm_show_text(show, span(key->ca.subject), 0);
    fputs(", SHA-256 ", show->to);
    qm_show_hex(show, key->ca.sha256, sizeof key->ca.sha256);
    fputc('\n', show->to);
}

static void show_tpm(const struct qm_fleet *f, const struct qm_ledger *l, const struct qm_show *show)
{
    char age[QM_AGE_MAX];
    if ((l->flags & QM_LEDGER_SEEN) != 0) {
        label(show, "TPM");
        fprintf(show->to, "clock %s (%llu ms), reset %u, restart %u, %s", qm_age(age, l->last.clock_ms), (unsigned long long)l->last.clock_ms,
                l->last.reset, l->last.restart, (l->flags & QM_LEDGER_SAFE) != 0 ? "safe" : "not safe");
        if (l->fresh != QM_FRESH_UNKNOWN)
            fprintf(show->to, ", fresh by %s", qm_fresh_name(l->fresh));
        fputc('\n', show->to);
    }
    label(show, "boots");
    fprintf(show->to, "%u seen, %u of them sent nothing\n", l->boots, l->boots_silent);
    if (l->refused_count == 0)
        return;
    label(show, "refused");
    fprintf(show->to, "%u record%s under this id, the last %s: %s\n", l->refused_count, l->refused_count == 1 ? "" : "s",
            qm_ago(age, f->now_ms, (uint64_t)l->refused_s * 1000), qm_reason_name(l->refused_reason));
}

static void show_value(const struct qm_show *show, const char *name, const uint8_t *value)
{
    fprintf(show->to, "      %s  ", name);
    qm_show_hex(show, value, 32);
    fputc('\n', show->to);
}

enum { SHORT_VALUE = 8 /* bytes shown of a value that nobody compares by eye */ };

/* The one value that there is, or that both are. */
static void show_short(const struct qm_show *show, const struct qm_stage *stage)
{
    const uint8_t *value = stage->measured != NULL ? stage->measured : stage->expected;
    if (value == NULL)
        return;
    fputs(stage->measured == NULL ? ", expected " : stage->expected == NULL ? ", measured " : "  ", show->to);
    qm_show_hex(show, value, SHORT_VALUE);
}

/* ---- what was measured, from logs that were kept ---- */

/* Room for the events behind two values. */
struct behind {
    uint8_t room[2][QM_EVENT_LIST_BYTES_MAX];
    struct qm_event_list measured, expected;
    bool has_measured, has_expected;
};

static qm_err behind_read(const struct qm_fleet *f, const struct qm_stage *stage, struct behind *b, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    b->has_measured = b->has_expected = false;
    if (stage->measured != NULL)
        err = qm_store_events_get(f->store, stage->pcr, stage->measured, b->room[0], &b->measured, &b->has_measured, fault);
    if (err == QM_OK && stage->expected != NULL)
        err = qm_store_events_get(f->store, stage->pcr, stage->expected, b->room[1], &b->expected, &b->has_expected, fault);
    return err;
}

static void show_event(const struct qm_show *show, const struct qm_event_list *list, uint32_t i)
{
    struct qm_span text;
    const struct qm_listed_event e = qm_event_list_at(list, i, &text);
    const char *type = qm_event_type_name(e.type);
    if (type != NULL)
        fprintf(show->to, "%s ", type);
    else
        fprintf(show->to, "0x%08x ", e.type);
    fprintf(show->to, "%.*s%s", (int)text.len, (const char *)text.p, e.proved != 0 ? " (proved)" : " (claimed)");
}

/* The first event that is not the one at its place behind the expected value. */
static void show_difference(const struct qm_show *show, const struct behind *b)
{
    uint32_t i = 0;
    struct qm_span text;
    if (!b->has_measured || !b->has_expected)
        return;
    while (i < b->measured.count && i < b->expected.count &&
           memcmp(qm_event_list_at(&b->measured, i, &text).digest, qm_event_list_at(&b->expected, i, &text).digest, 32) == 0)
        i++;
    fprintf(show->to, "      event %u of %u differs: ", i + 1, b->measured.count);
    if (i < b->measured.count)
        show_event(show, &b->measured, i);
    else
        fputs("there is none", show->to);
    fputs("\n      where there was: ", show->to);
    if (i < b->expected.count)
        show_event(show, &b->expected, i);
    else
        fputs("none", show->to);
    fputc('\n', show->to);
}

static void show_events(const struct qm_show *show, const struct behind *b)
{
    const struct qm_event_list *list = b->has_measured ? &b->measured : &b->expected;
    if (!b->has_measured && !b->has_expected)
        fputs("      no log of it was kept\n", show->to);
    for (uint32_t i = 0; (b->has_measured || b->has_expected) && i < list->count; i++) {
        fprintf(show->to, "    %5u  ", i + 1);
        show_event(show, list, i);
        fputc('\n', show->to);
    }
}

static qm_err show_stage(const struct qm_fleet *f, const struct qm_machine_stages *s, unsigned i, int width, const struct qm_one_ask *ask,
                         struct behind *b, struct qm_fault *fault)
{
    static const enum qm_colour colour[QM_STAGE_STATE_COUNT] = {QM_GREY, QM_GREEN, QM_RED, QM_GREY};
    static const char *const word[QM_STAGE_STATE_COUNT] = {"unknown", "pass", "FAIL", "not reached"};
    const struct qm_show *show = ask->show;
    const struct qm_stage *stage = &s->stage[i];
    const bool differs = stage->measured != NULL && stage->expected != NULL && memcmp(stage->measured, stage->expected, 32) != 0;
    qm_err err = differs || ask->events ? behind_read(f, stage, b, fault) : QM_OK;
    if (err != QM_OK)
        return err;
    fputs("  ", show->to);
    qm_show_circle(show, colour[stage->state]);
    fprintf(show->to, "%2u  ", stage->pcr);
    qm_show_text(show, span(s->name[i]), width);
    fputs("  ", show->to);
    qm_show_word(show, colour[stage->state], word[stage->state], 0);
    if (!differs)
        show_short(show, stage);
    fputc('\n', show->to);
    if (differs) {
        show_value(show, "measured", stage->measured);
        show_value(show, "expected", stage->expected);
        show_difference(show, b);
    }
    if (ask->events)
        show_events(show, b);
    return QM_OK;
}

static qm_err show_stages(const struct qm_fleet *f, const struct qm_machine *m, const struct qm_machine_stages *s,
                          const struct qm_one_ask *ask, struct qm_fault *fault)
{
    const struct qm_show *show = ask->show;
    struct behind *b = malloc(sizeof *b);
    qm_err err = b != NULL ? QM_OK : qm_fail(fault, QM_E_NOMEM, 0, "no memory for the events of a log");
    char age[QM_AGE_MAX];
    int width = 0;
    for (unsigned i = 0; i < s->count; i++)
        width = qm_show_width(span(s->name[i])) > width ? qm_show_width(span(s->name[i])) : width;
    if (m->entry.authentic_ms != 0)
        fprintf(show->to, "\n  boot stages, as measured %s\n", qm_ago(age, f->now_ms, m->entry.authentic_ms));
    else
        fputs("\n  boot stages\n", show->to);
    for (unsigned i = 0; err == QM_OK && i < s->count; i++)
        err = show_stage(f, s, i, width, ask, b, fault);
    free(b);
    return err;
}

struct showing {
    const struct qm_fleet *f;
    const struct qm_show *show;
    uint64_t count;
};

static qm_err show_set(void *ctx, const struct qm_machine_set *set, struct qm_fault *fault)
{
    static const char *const kind[] = {"whole", "the group's", "its own"};
    struct showing *s = ctx;
    char age[QM_AGE_MAX];
    (void)fault;
    if (s->count++ == 0)
        fputs("\n  accepted sets\n", s->show->to);
    fprintf(s->show->to, "  %s set %llu, %s, %s %s by ", set->nearest ? "*" : " ", (unsigned long long)set->no,
            (unsigned)set->kind < QM_COUNT(kind) ? kind[set->kind] : "", set->origin, qm_ago(age, s->f->now_ms, set->since_ms));
    qm_show_text(s->show, span(set->who), 0);
    if (set->alert != 0)
        fprintf(s->show->to, ", from alert %llu", (unsigned long long)set->alert);
    if (set->until_ms != 0)
        fprintf(s->show->to, ", ends %s", qm_ago(age, s->f->now_ms, set->until_ms));
    if (set->why[0] != '\0') {
        fputs(": ", s->show->to);
        qm_show_text(s->show, span(set->why), 0);
    }
    fputc('\n', s->show->to);
    return QM_OK;
}

static qm_err show_alert(void *ctx, const struct qm_machine_alert *a, struct qm_fault *fault)
{
    struct showing *s = ctx;
    const char *kind = qm_alert_kind_name(a->kind);
    char first[QM_AGE_MAX], last[QM_AGE_MAX];
    (void)fault;
    if (s->count++ == 0)
        fputs("\n  alerts\n", s->show->to);
    fprintf(s->show->to, "  %6llu  ", (unsigned long long)a->no);
    qm_show_word(s->show, a->state == QM_ALERT_OPEN ? QM_RED : QM_YELLOW,
                 a->state == QM_ALERT_RESOLVED ? "passes again" : qm_alert_state_name(a->state), 13);
    fprintf(s->show->to, "%s %s  first %s, last %s, %llu time%s", kind != NULL ? kind : "", a->change,
            qm_ago(first, s->f->now_ms, a->first_ms), qm_ago(last, s->f->now_ms, a->last_ms), (unsigned long long)a->count, a->count == 1 ? "" : "s");
    if (a->state == QM_ALERT_IGNORED && a->until_ms != 0)
        fprintf(s->show->to, ", until %s", qm_moment(first, a->until_ms));
    if (a->why[0] != '\0') {
        fputs(": ", s->show->to);
        qm_show_text(s->show, span(a->why), 0);
    }
    fputc('\n', s->show->to);
    return QM_OK;
}

static qm_err show_note(void *ctx, const struct qm_machine_note *n, struct qm_fault *fault)
{
    struct showing *s = ctx;
    char age[QM_AGE_MAX];
    (void)fault;
    if (s->count++ == 0)
        fputs("\n  history\n", s->show->to);
    fprintf(s->show->to, "    %s %s by ", n->what, qm_ago(age, s->f->now_ms, n->at_ms));
    qm_show_text(s->show, span(n->who), 0);
    fputs(": ", s->show->to);
    qm_show_text(s->show, span(n->why), 0);
    fputc('\n', s->show->to);
    return QM_OK;
}

static qm_err show_tag(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct showing *s = user;
    (void)fault;
    fputs(s->count++ != 0 ? " " : "", s->show->to);
    qm_show_text(s->show, item->key, 0);
    fputc('=', s->show->to);
    qm_show_text(s->show, item->text, 0);
    return QM_OK;
}

static qm_err show_tags(const struct qm_machine *m, const struct qm_show *show, struct qm_fault *fault)
{
    struct showing s = {NULL, show, 0};
    struct qm_json *json = NULL;
    if (m->tags.len == 0)
        return QM_OK;
    label(show, "tags");
    qm_err err = qm_json_open(&json, fault);
    if (err == QM_OK)
        err = qm_json_each(json, QM_JSON_OBJECT, (const char *)m->tags.p, m->tags.len, show_tag, &s, fault);
    qm_json_close(json);
    fputc('\n', show->to);
    return err;
}

static qm_err one_text(const struct qm_fleet *f, const struct qm_machine *m, const struct qm_machine_stages *stages,
                       const struct qm_machine_key *key, const struct qm_one_ask *ask, struct qm_fault *fault)
{
    const struct qm_show *show = ask->show;
    struct showing s = {f, show, 0};
    qm_verifier_show(f, show);
    show_status(f, m, show);
    qm_err err = show_hold(f, m, show, fault);
    if (err != QM_OK)
        return err;
    if (m->group.p != NULL) {
        label(show, "group");
        qm_show_text(show, m->group, 0);
        fputc('\n', show->to);
    }
    err = show_tags(m, show, fault);
    if (err != QM_OK)
        return err;
    show_when(f, show, "last good", m->entry.good_ms);
    show_when(f, show, "last valid", m->entry.authentic_ms);
    show_key(f, m, key, &stages->profile, show);
    show_proof(f, key, show);
    show_tpm(f, &m->entry, show);
    err = show_stages(f, m, stages, ask, fault);
    if (err == QM_OK)
        err = qm_machine_sets(f, m, show_set, &s, fault);
    s.count = 0;
    if (err == QM_OK)
        err = qm_machine_alerts(f, m, show_alert, &s, fault);
    s.count = 0;
    return err == QM_OK ? qm_machine_notes(f, m, show_note, &s, fault) : err;
}

qm_err qm_one_show(void *ctx, const struct qm_machine *m, struct qm_fault *fault)
{
    struct qm_one_ask *one = ctx;
    struct qm_machine_stages stages;
    struct qm_machine_key key;
    one->by_status[m->standing.status]++;
    qm_err err = qm_machine_stages(one->fleet, m, &stages, fault);
    if (err == QM_OK)
        err = qm_machine_key(one->fleet, m->slot, &key, fault);
    if (err != QM_OK)
        return err;
    if (one->json)
        return one_json(one->fleet, m, &stages, &key, fault);
    return one_text(one->fleet, m, &stages, &key, one, fault);
}
