#include "tools/alert_show.h"

#include <inttypes.h>

#include "codec/eventtext.h"
#include "codec/result.h"
#include "codec/text.h"
#include "tools/alert_words.h"
#include "tools/json_read.h"

enum { PREFIX_BYTES = 8, WORDS_MAX = 4096 };

static struct qm_span span(const char *text)
{
    return (struct qm_span){(const uint8_t *)text, strlen(text)};
}

/* "10,240" */
static const char *grouped(char buf[32], uint64_t v)
{
    char plain[24];
    int n = snprintf(plain, sizeof plain, "%" PRIu64, v), at = 0;
    for (int i = 0; i < n; i++) {
        if (i != 0 && (n - i) % 3 == 0)
            buf[at++] = ',';
        buf[at++] = plain[i];
    }
    buf[at] = '\0';
    return buf;
}

/* As the group calls the stage. */
static qm_err stage_name(struct qm_alert_show *w, const struct qm_alert_view *a, unsigned pcr, const char **name,
                         struct qm_fault *fault)
{
    const struct qm_policy *policy;
    *name = qm_stage_name(pcr);
    qm_err err = qm_store_policy(w->store, a->group.len != 0 ? (const char *)a->group.p : "", a->group.len, &policy, fault);
    if (err == QM_OK && policy->stage_name[pcr][0] != '\0')
        *name = policy->stage_name[pcr];
    return err;
}

static enum qm_colour colour_of(const struct qm_alert_view *a)
{
    if (a->state == QM_ALERT_IGNORED)
        return QM_GREY;
    if (a->state != QM_ALERT_OPEN)
        return QM_GREEN;
    return qm_alert_severity(a->kind) == QM_SEVERITY_HIGH ? QM_RED : QM_YELLOW;
}

/* ---- what is stored as JSON --------------------------------------------------------------------------------------- */

struct told {
    char text[WORDS_MAX], cause[64];
    size_t text_len;
    char digest[65], expected[65];
    int64_t index, pcr, type;
    bool has_index, proved, has_digest, has_expected;
};

static void copy_text(const struct qm_json_item *item, char *to, size_t cap, size_t *len)
{
    *len = item->text.len < cap ? item->text.len : cap;
    if (*len != 0)
        memcpy(to, item->text.p, *len);
}

static qm_err take_member(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct told *t = user;
    size_t len;
    (void)fault;
    if (item->kind == QM_JSON_INT && qm_json_key_is(item, "index")) {
        t->index = item->number;
        t->has_index = true;
    } else if (item->kind == QM_JSON_INT && qm_json_key_is(item, "pcr")) {
        t->pcr = item->number;
    } else if (item->kind == QM_JSON_INT && qm_json_key_is(item, "type")) {
        t->type = item->number;
    } else if (item->kind == QM_JSON_BOOL && qm_json_key_is(item, "proved")) {
        t->proved = item->number != 0;
    } else if (item->kind == QM_JSON_TEXT && qm_json_key_is(item, "text")) {
        copy_text(item, t->text, sizeof t->text, &t->text_len);
    } else if (item->kind == QM_JSON_TEXT && qm_json_key_is(item, "cause")) {
        copy_text(item, t->cause, sizeof t->cause - 1, &len);
    } else if (item->kind == QM_JSON_TEXT && qm_json_key_is(item, "digest")) {
        copy_text(item, t->digest, sizeof t->digest - 1, &len);
        t->has_digest = true;
    } else if (item->kind == QM_JSON_TEXT && qm_json_key_is(item, "expected_digest")) {
        copy_text(item, t->expected, sizeof t->expected - 1, &len);
        t->has_expected = true;
    }
    return QM_OK;
}

static qm_err read_told(struct qm_alert_show *w, const char *json, struct told *t, struct qm_fault *fault)
{
    memset(t, 0, sizeof *t);
    if (json == NULL)
        return QM_OK;
    return qm_json_each(w->json, QM_JSON_OBJECT, json, strlen(json), take_member, t, fault);
}

/* ---- the list ----------------------------------------------------------------------------------------------------- */

static void show_times(FILE *to, uint64_t first_ms, uint64_t last_ms)
{
    char first[QM_AGE_MAX], last[QM_AGE_MAX];
    fprintf(to, "first %s, last %s", qm_moment(first, first_ms), qm_moment(last, last_ms));
}

static void show_numbers(FILE *to, const struct qm_cohort *c)
{
    if (c->alerts == 1)
        fprintf(to, "alert %" PRIu64, c->one.no);
    else
        fprintf(to, "alerts %" PRIu64 " to %" PRIu64, c->one.no, c->last_no);
}

static void show_states(FILE *to, const struct qm_cohort *c)
{
    char n[32], until[QM_AGE_MAX];
    const char *between = ": ";
    for (unsigned k = 0; k < 4; k++)
        if (c->by_state[k] != 0) {
            if (c->by_state[k] == c->alerts)
                fprintf(to, "%s%s", between, qm_alert_state_name((enum qm_alert_state)k));
            else
                fprintf(to, "%s%s %s", between, grouped(n, c->by_state[k]), qm_alert_state_name((enum qm_alert_state)k));
            if (k == QM_ALERT_IGNORED && c->until_ms != 0)
                fprintf(to, "%s until %s", c->by_state[k] > 1 ? ", the first" : "", qm_moment(until, c->until_ms));
            between = ", ";
        }
}

static qm_err show_items(struct qm_alert_show *w, const struct qm_alert_view *a, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    for (unsigned i = 0; err == QM_OK && i < a->item_count; i++) {
        const char *name;
        err = stage_name(w, a, a->item[i].pcr, &name, fault);
        if (err != QM_OK)
            return err;
        fprintf(w->show.to, "    PCR %-2u ", a->item[i].pcr);
        qm_show_text(&w->show, span(name), 44);
        fputs("expected ", w->show.to);
        qm_show_hex(&w->show, a->item[i].expected, PREFIX_BYTES);
        fputs("  measured ", w->show.to);
        qm_show_hex(&w->show, a->item[i].measured, PREFIX_BYTES);
        fputc('\n', w->show.to);
    }
    if (a->digest.len != 0) {
        fputs("    no values are proven; the signed digest is ", w->show.to);
        qm_show_hex(&w->show, a->digest.p, a->digest.len < PREFIX_BYTES ? a->digest.len : PREFIX_BYTES);
        fputc('\n', w->show.to);
    }
    return err;
}

/* What was escaped when it was made: words of an event, where records came from. */
static void show_words(struct qm_alert_show *w, struct qm_span words)
{
    char text[2 * WORDS_MAX];
    struct qm_out o = qm_out_init(text, sizeof text);
    qm_out_shown_again(&o, words);
    fprintf(w->show.to, "%.*s", (int)o.len, text);
}

/* "event 23, EV_IPL: grub_cmd …, proved" */
static void show_event_line(struct qm_alert_show *w, const struct told *t)
{
    if (!t->has_digest) {
        fputs("the received log has no such event any more", w->show.to);
        return;
    }
    fprintf(w->show.to, "event %" PRIi64, t->index);
    const char *type = qm_event_type_name((uint32_t)t->type);
    if (type != NULL)
        fprintf(w->show.to, ", %s", type);
    fputs(": ", w->show.to);
    show_words(w, (struct qm_span){(const uint8_t *)t->text, t->text_len});
    fputs(t->proved ? " (proved)" : " (only claimed)", w->show.to);
}

qm_err qm_cohort_show(struct qm_alert_show *w, const struct qm_cohort *c, struct qm_fault *fault)
{
    const struct qm_alert_view *a = &c->one;
    char who[1024], n[32];
    struct told t;
    struct qm_out o = qm_out_init(who, sizeof who - 1);
    qm_show_circle(&w->show, colour_of(a));
    qm_show_word(&w->show, colour_of(a), qm_alert_kind_name(a->kind) != NULL ? qm_alert_kind_name(a->kind) : "unknown", 0);
    fputs("  ", w->show.to);
    if (c->alerts > 1 && a->slot != 0 && a->source == NULL) {
        fprintf(w->show.to, "%s machines", grouped(n, c->alerts));
        if (a->group.len != 0) {
            fputs(" of group ", w->show.to);
            qm_show_text(&w->show, a->group, 0);
        }
    } else {
        qm_cohort_who(&o, c);
        who[o.len] = '\0';
        fputs(who, w->show.to);
    }
    show_states(w->show.to, c);
    if (a->name[0] != '\0')
        fprintf(w->show.to, "; change %s", a->name);
    fputs("\n    ", w->show.to);
    show_numbers(w->show.to, c);
    fputs("; seen ", w->show.to);
    show_times(w->show.to, c->first_ms, c->last_ms);
    fprintf(w->show.to, ", %s time%s\n", grouped(n, c->count), c->count == 1 ? "" : "s");
    qm_err err = show_items(w, a, fault);
    if (err == QM_OK && a->event != NULL && read_told(w, a->event, &t, NULL) == QM_OK) {
        fprintf(w->show.to, "    differs first in PCR %" PRIi64 ", ", t.pcr);
        show_event_line(w, &t);
        fputc('\n', w->show.to);
    }
    return err;
}

/* ---- one ---------------------------------------------------------------------------------------------------------- */

static void field(struct qm_alert_show *w, const char *name)
{
    fprintf(w->show.to, "  %-10s", name);
}

static void show_head(struct qm_alert_show *w, const struct qm_alert_view *a)
{
    char when[QM_AGE_MAX], n[32];
    fprintf(w->show.to, "alert %" PRIu64 ": ", a->no);
    qm_show_word(&w->show, colour_of(a), qm_alert_kind_name(a->kind) != NULL ? qm_alert_kind_name(a->kind) : "unknown", 0);
    fprintf(w->show.to, ", %s", qm_alert_state_name(a->state) != NULL ? qm_alert_state_name(a->state) : "unknown");
    if (a->state == QM_ALERT_IGNORED && a->until_ms != 0)
        fprintf(w->show.to, " until %s", qm_moment(when, a->until_ms));
    if (a->state == QM_ALERT_RESOLVED && a->kind == QM_ALERT_PCR_MISMATCH && !a->seen)
        fputs(" (passes again; nobody looked)", w->show.to);
    fprintf(w->show.to, "\n  %s\n", qm_alert_meaning(a->kind));
    if (a->slot != 0) {
        field(w, "machine");
        qm_show_text(&w->show, a->id, 0);
        if (a->retired)
            fputs(" (taken out)", w->show.to);
        fputc('\n', w->show.to);
    }
    if (a->group.len != 0) {
        field(w, "group");
        qm_show_text(&w->show, a->group, 0);
        fputc('\n', w->show.to);
    } else if (a->slot == 0 && a->source == NULL) {
        field(w, "machines");
        fputs(qm_alert_of_fleet(a) ? "the fleet\n" : "those without a group\n", w->show.to);
    }
    field(w, "seen");
    show_times(w->show.to, a->first_ms, a->last_ms);
    fprintf(w->show.to, ", %s time%s", grouped(n, a->count), a->count == 1 ? "" : "s");
    if (a->closed_ms != 0)
        fprintf(w->show.to, "; closed %s", qm_moment(when, a->closed_ms));
    fputc('\n', w->show.to);
}

static qm_err show_values(struct qm_alert_show *w, const struct qm_alert_view *a, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    if (a->name[0] != '\0') {
        field(w, "change");
        fprintf(w->show.to, "%s", a->name);
        if (strcmp(a->name, "many") == 0)
            fputs(": more changes of this machine than have rows of their own", w->show.to);
        else if (a->set_kind != QM_SET_WHOLE)
            fputs(a->set_kind == QM_SET_GROUP ? ": PCRs of its group" : ": PCRs of its own", w->show.to);
        fputc('\n', w->show.to);
    }
    if (a->item_count != 0) {
        const char *name;
        err = stage_name(w, a, a->item[0].pcr, &name, fault);
        if (err != QM_OK)
            return err;
        field(w, "fails at");
        fprintf(w->show.to, "PCR %u, ", a->item[0].pcr);
        qm_show_text(&w->show, span(name), 0);
        fputc('\n', w->show.to);
    }
    for (unsigned i = 0; err == QM_OK && i < a->item_count; i++) {
        const char *name;
        err = stage_name(w, a, a->item[i].pcr, &name, fault);
        if (err != QM_OK)
            return err;
        fprintf(w->show.to, "    PCR %-2u ", a->item[i].pcr);
        qm_show_text(&w->show, span(name), 0);
        fputs("\n      expected  ", w->show.to);
        qm_show_hex(&w->show, a->item[i].expected, 32);
        fputs("\n      measured  ", w->show.to);
        qm_show_hex(&w->show, a->item[i].measured, 32);
        fputc('\n', w->show.to);
    }
    if (a->digest.len != 0) {
        field(w, "digest");
        qm_show_hex(&w->show, a->digest.p, a->digest.len);
        fputs("\n            signed; which values it stands for is not proven\n", w->show.to);
    }
    return err;
}

static qm_err show_event(struct qm_alert_show *w, const struct qm_alert_view *a, struct qm_fault *fault)
{
    struct told t;
    qm_err err = read_told(w, a->event, &t, fault);
    if (err != QM_OK || a->event == NULL)
        return err;
    field(w, "event");
    fprintf(w->show.to, "of PCR %" PRIi64 " the first that differs: ", t.pcr);
    show_event_line(w, &t);
    fprintf(w->show.to, "\n      expected  %s\n      measured  %s\n", t.has_expected ? t.expected : "no event at this place",
            t.has_digest ? t.digest : "no event at this place");
    if (t.has_digest)
        fputs(t.proved ? "            The words are proved: they hash to the digest that the quote "
                         "stands for.\n"
                       : "            The words are only claimed: the digest is measured, what the "
                         "log says about it is not.\n",
              w->show.to);
    return QM_OK;
}

static qm_err show_id(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct qm_alert_show *w = user;
    (void)fault;
    fputs("\n            ", w->show.to);
    if (item->text.p != NULL)
        qm_show_text(&w->show, item->text, 0);
    return QM_OK;
}

static qm_err show_refused(struct qm_alert_show *w, const struct qm_alert_view *a, struct qm_fault *fault)
{
    char n[32];
    qm_err err = QM_OK;
    if (a->source == NULL)
        return QM_OK;
    const bool has_ids = a->ids != NULL && strcmp(a->ids, "[]") != 0;
    field(w, "source");
    show_words(w, span(a->source));
    fputc('\n', w->show.to);
    field(w, "ids");
    fprintf(w->show.to, "about %s%s", grouped(n, a->distinct), has_ids ? "; the first:" : "");
    if (has_ids)
        err = qm_json_each(w->json, QM_JSON_ARRAY, a->ids, strlen(a->ids), show_id, w, fault);
    fputc('\n', w->show.to);
    return err;
}

/* ---- what else is known of it ---- */

struct detail {
    struct qm_alert_show *w;
    int64_t machines;
    bool inner; /* within an object of the detail: "reset 7, restart 0, clock 7000" */
    unsigned count;
};

static void detail_label(struct detail *d, struct qm_span key)
{
    /* "seen" is when the alert was */
    const struct qm_span name = key.len == 4 && memcmp(key.p, "seen", 4) == 0 ? span("had seen") : key;
    fputs("  ", d->w->show.to);
    qm_show_text(&d->w->show, name, 9);
    fputc(' ', d->w->show.to);
}

static qm_err show_member(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct detail *d = user;
    FILE *to = d->w->show.to;
    char when[QM_AGE_MAX];
    qm_err err = QM_OK;
    if (!d->inner && qm_json_key_is(item, "machines")) {
        d->machines = item->number;
        return QM_OK;
    }
    if (d->inner) {
        fputs(d->count++ != 0 ? ", " : "", to);
        qm_show_text(&d->w->show, item->key, 0);
        fputc(' ', to);
    } else {
        detail_label(d, qm_json_key_is(item, "of") ? span("silent") : item->key);
    }
    if (item->kind == QM_JSON_OBJECT && !d->inner) {
        struct detail in = {.w = d->w, .inner = true};
        err = qm_json_each(d->w->json, QM_JSON_OBJECT, (const char *)item->text.p, item->text.len, show_member, &in, fault);
    } else if (item->kind == QM_JSON_INT && !d->inner && qm_json_key_is(item, "since")) {
        fputs(qm_moment(when, (uint64_t)item->number), to);
    } else if (item->kind == QM_JSON_INT && !d->inner && qm_json_key_is(item, "of")) {
        fprintf(to, "%" PRIi64 " of %" PRIi64 " machines", d->machines, item->number);
    } else if (item->kind == QM_JSON_INT) {
        fprintf(to, "%" PRIi64 "%s", item->number, qm_json_key_is(item, "clock") ? " ms" : "");
    } else if (item->text.p != NULL) {
        qm_show_text(&d->w->show, item->text, 0);
    }
    if (!d->inner)
        fputc('\n', to);
    return err;
}

/* Lines of it, for whoever does not read JSON. */
static qm_err show_detail(struct qm_alert_show *w, const char *json, struct qm_fault *fault)
{
    struct detail d = {.w = w};
    return json != NULL ? qm_json_each(w->json, QM_JSON_OBJECT, json, strlen(json), show_member, &d, fault) : QM_OK;
}

static void show_history(struct qm_alert_show *w, const struct qm_alert_view *a)
{
    char at[QM_AGE_MAX], until[QM_AGE_MAX];
    for (unsigned i = a->decision_count; i-- > 0;) {
        const struct qm_alert_decided *d = &a->decision[i];
        field(w, i + 1 == a->decision_count ? "history" : "");
        fprintf(w->show.to, "%s  ", qm_moment(at, d->at_ms));
        qm_show_text(&w->show, span(d->who), 0);
        fprintf(w->show.to, "  %s", d->what);
        if (d->until_ms != 0)
            fprintf(w->show.to, " until %s", qm_moment(until, d->until_ms));
        if (d->why[0] != '\0') {
            fputs(": ", w->show.to);
            qm_show_text(&w->show, span(d->why), 0);
        }
        fputc('\n', w->show.to);
    }
}

/* Lines of advice, set in. */
static void show_advice(struct qm_alert_show *w, const char *text)
{
    const char *name = "to do";
    while (*text != '\0') {
        const int len = (int)strcspn(text, "\n");
        field(w, name);
        fprintf(w->show.to, "%.*s\n", len, text);
        text += len + (text[len] == '\n');
        name = "";
    }
}

qm_err qm_alert_explain(struct qm_alert_show *w, const struct qm_alert_view *a, struct qm_fault *fault)
{
    struct told t;
    show_head(w, a);
    qm_err err = show_values(w, a, fault);
    if (err == QM_OK)
        err = show_event(w, a, fault);
    if (err == QM_OK)
        err = read_told(w, a->detail, &t, fault);
    if (err != QM_OK)
        return err;
    err = show_refused(w, a, fault);
    if (err == QM_OK)
        err = show_detail(w, a->detail, fault);
    if (err != QM_OK)
        return err;
    if (a->state == QM_ALERT_ACCEPTED && a->set_no != 0) {
        field(w, "accepted");
        fprintf(w->show.to, "as set %" PRIu64 "\n", a->set_no);
    }
    show_history(w, a);
    if (a->state == QM_ALERT_OPEN || a->state == QM_ALERT_IGNORED)
        show_advice(w, qm_alert_advice(a->kind, t.cause));
    return QM_OK;
}
