/* alerts: what is wrong with the fleet, and what people decided about it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "codec/emit.h"
#include "codec/text.h"
#include "tools/alert_show.h"
#include "tools/command.h"
#include "tools/json_read.h"
#include "tools/moment_read.h"
#include "tools/ocsf.h"
#include "tools/options.h"
#include "tools/store/store_decisions.h"

enum verb { LIST, SHOW, IGNORE, ACCEPT, REOPEN, ACK, VERB_COUNT };
static const char *const verbs[] = {"list", "show", "ignore", "accept", "reopen", "ack"};
static const char *const done[] = {"", "", "ignored", "accepted", "reopened", "marked as seen"};

enum { NUMBERS_MAX = 4096, REFUSALS_SHOWN = 20 };

struct ask {
    enum verb verb;
    char command[24]; /* "alerts accept" */
    const char *home, *state, *kind, *id, *group, *tag, *format, *since, *until, *reason;
    uint64_t pcr;
    bool json, same, all_groups, yes, for_group;
    char tag_key[256];
    const char *tag_value;
    uint64_t until_ms;
    struct qm_alert_filter filter;
    uint64_t *no;
    size_t count;
    struct qm_store *store;
    uint64_t refused;
    char *buffer; /* QM_OCSF_MAX */
};

/* ---- list --------------------------------------------------------------------------------------------------------- */

static bool ocsf_wanted(const struct ask *k)
{
    return k->format != NULL && strcmp(k->format, "ocsf") == 0;
}

static bool text_wanted(const struct ask *k)
{
    return !k->json && (k->format == NULL || strcmp(k->format, "text") == 0);
}

struct writing {
    struct ask *ask;
    const char *home_name;
    uint64_t written;
};

static qm_err write_line(void *ctx, const struct qm_alert_view *a, struct qm_fault *fault)
{
    struct writing *w = ctx;
    struct qm_out o = qm_out_init(w->ask->buffer, QM_OCSF_MAX);
    w->written++;
    if (ocsf_wanted(w->ask))
        qm_ocsf_write(&o, a, w->home_name);
    else
        qm_alert_json(&o, a);
    if (fwrite(o.p, 1, o.len, stdout) != o.len)
        return qm_fail(fault, QM_E_IO, errno, "cannot write to standard output");
    return QM_OK;
}

struct listing {
    struct qm_alert_show show;
    const char *heading; /* before the first one; NULL: none, or said */
    uint64_t shown;
};

static qm_err list_cohort(void *ctx, const struct qm_cohort *c, struct qm_fault *fault)
{
    struct listing *l = ctx;
    if (l->heading != NULL)
        printf("%s%s\n", l->shown != 0 ? "\n" : "", l->heading);
    l->heading = NULL;
    l->shown++;
    return qm_cohort_show(&l->show, c, fault);
}

static qm_err list_text(struct ask *k, struct qm_fault *fault)
{
    struct listing l = {.show = {.store = k->store, .show = qm_show_init(stdout)}};
    qm_err err = qm_json_open(&l.show.json, fault);
    if (err == QM_OK)
        err = qm_cohorts_each(k->store, &k->filter, list_cohort, &l, fault);
    if (err == QM_OK && k->state == NULL) {
        struct qm_alert_filter unseen = k->filter;
        unseen.states = 0;
        unseen.unseen = true;
        l.heading = "passes again, not looked at:";
        err = qm_cohorts_each(k->store, &unseen, list_cohort, &l, fault);
    }
    if (err == QM_OK && l.shown == 0)
        err = qm_store_known(k->store, k->filter.id, k->filter.group, NULL, fault);
    if (err == QM_OK && l.shown == 0)
        fprintf(stderr, "quotemill alerts list: none\n");
    qm_json_close(l.show.json);
    return err;
}

static qm_err list(struct ask *k, struct qm_fault *fault)
{
    const struct qm_policy *policy;
    if (text_wanted(k))
        return list_text(k, fault);
    k->filter.history = true;
    qm_err err = qm_store_policy(k->store, "", 0, &policy, fault);
    if (err != QM_OK)
        return err;
    struct writing w = {k, policy->name, 0};
    err = qm_alerts_each(k->store, &k->filter, write_line, &w, fault);
    return err == QM_OK && w.written == 0 ? qm_store_known(k->store, k->filter.id, k->filter.group, NULL, fault) : err;
}

/* ---- show --------------------------------------------------------------------------------------------------------- */

static qm_err explain(void *ctx, const struct qm_alert_view *a, struct qm_fault *fault)
{
    struct listing *l = ctx;
    if (l->shown++ != 0)
        putchar('\n');
    return qm_alert_explain(&l->show, a, fault);
}

static qm_err no_such(uint64_t no, struct qm_fault *fault)
{
    return qm_fail(fault, QM_E_USAGE, 0, "there is no alert %" PRIu64, no);
}

static qm_err show(struct ask *k, struct qm_fault *fault)
{
    struct listing l = {.show = {.store = k->store, .show = qm_show_init(stdout)}};
    struct writing w = {k, "", 0};
    qm_err err = qm_json_open(&l.show.json, fault);
    for (size_t i = 0; err == QM_OK && i < k->count; i++) {
        bool found;
        err =
            qm_alert_get(k->store, k->no[i], k->json ? write_line : explain, k->json ? (void *)&w : (void *)&l, &found, fault);
        if (err == QM_OK && !found)
            err = no_such(k->no[i], fault);
    }
    qm_json_close(l.show.json);
    return err;
}

/* ---- decisions ---------------------------------------------------------------------------------------------------- */

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

/* True: go on. */
static bool confirmed(const struct ask *k, const struct qm_picked *p)
{
    char answer[8] = "";
    if (k->yes || (!k->same && k->kind == NULL))
        return true;
    fprintf(stderr, "quotemill %s: %" PRIu64 " alert%s of %" PRIu64 " machine%s in %" PRIu64 " group%s", k->command, p->alerts,
            plural(p->alerts), p->machines, plural(p->machines), p->groups, plural(p->groups));
    if (isatty(STDIN_FILENO) != 1 || isatty(STDERR_FILENO) != 1) {
        fputs("; --yes goes on\n", stderr);
        return false;
    }
    fputs(". Go on? [y/N] ", stderr);
    if (fgets(answer, sizeof answer, stdin) == NULL)
        fputc('\n', stderr);
    return answer[0] == 'y' || answer[0] == 'Y';
}

static void say_refused(void *ctx, uint64_t no, const char *why)
{
    struct ask *k = ctx;
    char line[512];
    if (k->refused++ >= REFUSALS_SHOWN)
        return;
    struct qm_out o = qm_out_init(line, sizeof line - 1);
    qm_out_line(&o, (struct qm_span){(const uint8_t *)why, strlen(why)});
    line[o.len] = '\0';
    fprintf(stderr, "quotemill %s: alert %" PRIu64 " is not %s: %s\n", k->command, no, done[k->verb], line);
}

static void say_decided(const struct ask *k, const struct qm_decided *d)
{
    if (k->refused > REFUSALS_SHOWN)
        fprintf(stderr, "quotemill %s: and %" PRIu64 " more are not %s\n", k->command, k->refused - REFUSALS_SHOWN,
                done[k->verb]);
    if (k->json) {
        char text[512];
        struct qm_out o = qm_out_init(text, sizeof text);
        struct qm_emit e = qm_emit_init(&o, true);
        const struct {
            const char *key;
            uint64_t value;
        } numbers[] = {{"alerts", d->alerts}, {"refused", d->refused}, {"sets", d->sets},
                       {"judged", d->judged}, {"passing", d->passing}, {"generation", qm_store_generation(k->store)}};
        qm_emit_map(&e);
        qm_emit_key(&e, "kind");
        qm_emit_name(&e, "decision");
        qm_emit_key(&e, "what");
        qm_emit_name(&e, verbs[k->verb]);
        for (size_t i = 0; i < QM_COUNT(numbers); i++) {
            qm_emit_key(&e, numbers[i].key);
            qm_emit_u64(&e, numbers[i].value);
        }
        qm_emit_end(&e);
        qm_out_char(&o, '\n');
        fwrite(o.p, 1, o.len, stdout);
        return;
    }
    fprintf(stderr, "quotemill %s: %" PRIu64 " alert%s %s", k->command, d->alerts, plural(d->alerts), done[k->verb]);
    if (d->sets != 0)
        fprintf(stderr, ", %" PRIu64 " set%s %s", d->sets, plural(d->sets), k->verb == REOPEN ? "ended" : "made");
    if (d->judged != 0)
        fprintf(stderr, "; %" PRIu64 " machine%s judged again, %" PRIu64 " of them trusted now", d->judged, plural(d->judged),
                d->passing);
    fputc('\n', stderr);
}

static qm_err decide(struct ask *k, bool *stopped, struct qm_fault *fault)
{
    static const enum qm_decide what[VERB_COUNT] = {
        [IGNORE] = QM_DECIDE_IGNORE, [ACCEPT] = QM_DECIDE_ACCEPT, [REOPEN] = QM_DECIDE_REOPEN, [ACK] = QM_DECIDE_ACK};
    const struct qm_pick pick = {.what = what[k->verb],
                                 .no = k->no,
                                 .count = k->count,
                                 .same = k->same,
                                 .all_groups = k->all_groups,
                                 .kind = k->kind,
                                 .tag_key = k->tag != NULL ? k->tag_key : NULL,
                                 .tag_value = k->tag_value};
    const struct qm_decision decision = {
        .what = pick.what, .reason = k->reason, .until_ms = k->until_ms, .group = k->for_group};
    struct qm_picked picked;
    struct qm_decided decided;
    bool built;
    qm_err err = qm_alerts_pick(k->store, &pick, &picked, fault);
    if (err == QM_OK && picked.unknown != 0)
        err = no_such(picked.unknown, fault);
    if (err != QM_OK)
        return err;
    *stopped = !confirmed(k, &picked);
    if (*stopped)
        return QM_OK;
    err = qm_store_begin(k->store, fault);
    if (err == QM_OK)
        err = qm_alerts_decide(k->store, &decision, say_refused, k, &decided, fault);
    if (err == QM_OK)
        err = qm_store_commit(k->store, fault);
    else
        qm_store_rollback(k->store);
    if (err == QM_OK)
        err = qm_store_publish(k->store, &built, fault);
    if (err == QM_OK)
        say_decided(k, &decided);
    return err;
}

/* ---- the command line --------------------------------------------------------------------------------------------- */

static bool known_kind(const char *name)
{
    for (int i = 0; i <= QM_ALERT_STALE_NONCE; i++)
        if (qm_alert_kind_name((enum qm_alert_kind)i) != NULL && strcmp(qm_alert_kind_name((enum qm_alert_kind)i), name) == 0)
            return true;
    return false;
}

/* "open,ignored" or "all". */
static bool read_states(const char *text, uint32_t *states)
{
    *states = 0;
    if (strcmp(text, "all") == 0)
        return true;
    while (*text != '\0') {
        const size_t len = strcspn(text, ",");
        bool known = false;
        for (unsigned i = 0; i < 4; i++) {
            const char *name = qm_alert_state_name((enum qm_alert_state)i);
            if (strlen(name) == len && memcmp(name, text, len) == 0) {
                *states |= 1u << i;
                known = true;
            }
        }
        text += len + (text[len] == ',');
        if (!known)
            return false;
    }
    return *states != 0;
}

static bool read_tag(struct ask *k)
{
    const char *equals = strchr(k->tag, '=');
    const size_t len = equals != NULL ? (size_t)(equals - k->tag) : 0;
    if (len == 0 || len >= sizeof k->tag_key)
        return false;
    memcpy(k->tag_key, k->tag, len);
    k->tag_key[len] = '\0';
    k->tag_value = equals + 1;
    return true;
}

static bool read_number(const char *text, uint64_t *no)
{
    *no = 0;
    for (const char *p = text; *p != '\0'; p++) {
        if (*p < '0' || *p > '9' || *no > (uint64_t)INT64_MAX / 10 - 10)
            return false;
        *no = *no * 10 + (uint64_t)(*p - '0');
    }
    return *no != 0;
}

static bool reason_ok(const char *text)
{
    const struct qm_span s = {(const uint8_t *)text, strlen(text)};
    if (s.len == 0 || s.len > QM_REASON_MAX || !qm_utf8_ok(s))
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (s.p[i] < 0x20 || s.p[i] == 0x7f)
            return false;
    return true;
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* What the options say. 0, or the exit code after one line. */
static int check(struct ask *k)
{
    if (k->kind != NULL && !known_kind(k->kind))
        return qm_complain_usage(k->command, "there is no alert called '%.64s'", k->kind);
    if (k->tag != NULL && !read_tag(k))
        return qm_complain_usage(k->command, "--tag wants KEY=VALUE, not '%.64s'", k->tag);
    if (k->state != NULL && !read_states(k->state, &k->filter.states))
        return qm_complain_usage(k->command, "--state wants all, or some of open,ignored,accepted,resolved, not '%.64s'",
                                 k->state);
    if (k->since != NULL && !qm_moment_read(k->since, now_ms(), false, &k->filter.since_ms))
        return qm_complain_usage(k->command,
                                 "--since wants a time (2026-11-27T06:00:00Z, or 6h for that long ago), not '%.64s'", k->since);
    if (k->until != NULL && (!qm_moment_read(k->until, now_ms(), true, &k->until_ms) || k->until_ms <= now_ms()))
        return qm_complain_usage(
            k->command, "--until wants a time to come (2026-11-27T06:00:00Z, or 6h for that long), not '%.64s'", k->until);
    if (k->reason != NULL && !reason_ok(k->reason))
        return qm_complain_usage(k->command, "--reason wants 1 to %d bytes of text on one line", QM_REASON_MAX);
    if (k->reason == NULL && (k->verb == IGNORE || k->verb == ACCEPT))
        return qm_complain_usage(k->command, "--reason is missing: what was decided is kept with who, when and why");
    if (k->all_groups && !k->same)
        return qm_complain_usage(k->command, "--all-groups goes with --same");
    if (k->verb > SHOW && k->count == 0 && (k->kind == NULL || k->tag == NULL))
        return qm_complain_usage(k->command, "which alerts? give their numbers, or --alert and --tag");
    if (k->verb > SHOW && k->count != 0 && k->kind != NULL)
        return qm_complain_usage(k->command, "--alert is for decisions without numbers");
    if (k->same && k->count == 0)
        return qm_complain_usage(k->command, "--same wants the number of an alert of that change");
    return QM_EXIT_OK;
}

static int run(struct ask *k)
{
    struct qm_fault fault = {0};
    bool stopped = false;
    k->filter.kind = k->kind;
    k->filter.id = k->id;
    k->filter.group = k->group;
    k->filter.tag_key = k->tag != NULL ? k->tag_key : NULL;
    k->filter.tag_value = k->tag_value;
    k->filter.pcr = k->pcr < QM_PCR_COUNT ? (int)k->pcr : -1;
    if (k->state == NULL && text_wanted(k))
        k->filter.states = 1u << QM_ALERT_OPEN | 1u << QM_ALERT_IGNORED;
    k->buffer = malloc(QM_OCSF_MAX);
    qm_err err = k->buffer != NULL ? QM_OK : qm_fail(&fault, QM_E_NOMEM, 0, "no memory");
    if (err == QM_OK)
        err = qm_store_open(&k->store, qm_home_path(k->home), k->verb > SHOW, &fault);
    if (err == QM_OK)
        err = k->verb == LIST ? list(k, &fault) : k->verb == SHOW ? show(k, &fault) : decide(k, &stopped, &fault);
    qm_store_close(k->store);
    free(k->buffer);
    int code = stopped ? QM_EXIT_USAGE : k->refused != 0 ? QM_EXIT_FOUND : QM_EXIT_OK;
    if (err != QM_OK)
        code = qm_complain(k->command, &fault);
    int flushed = qm_stdout_close(k->command);
    return flushed != QM_EXIT_OK ? flushed : code;
}

static bool parse_list(struct ask *k, int argc, char **argv, int *first, int *code)
{
    static const char *const formats[] = {"text", "json", "ocsf", NULL};
    const struct qm_option options[] = {
        QM_HOME_OPTION(&k->home),
        {.name = "state",
         .kind = QM_OPT_TEXT,
         .to = &k->state,
         .value = "STATES",
         .help = "all, or some of open,ignored,accepted,resolved (default all with --json, else "
                 "open and ignored)"},
        {.name = "alert", .kind = QM_OPT_TEXT, .to = &k->kind, .value = "NAME", .help = "only these, for example pcr_mismatch"},
        {.name = "id", .kind = QM_OPT_TEXT, .to = &k->id, .value = "ID", .help = "only of this instance"},
        {.name = "group", .kind = QM_OPT_TEXT, .to = &k->group, .value = "GROUP", .help = "only of this group"},
        {.name = "tag", .kind = QM_OPT_TEXT, .to = &k->tag, .value = "KEY=VALUE", .help = "only of instances with this tag"},
        {.name = "pcr",
         .kind = QM_OPT_COUNT,
         .to = &k->pcr,
         .value = "N",
         .help = "only where this PCR differs",
         .max = QM_PCR_COUNT - 1},
        {.name = "since",
         .kind = QM_OPT_TEXT,
         .to = &k->since,
         .value = "TIME",
         .help = "only last seen since then: 2026-11-27T06:00:00Z, or 6h for that long ago"},
        {.name = "format",
         .kind = QM_OPT_CHOICE,
         .to = &k->format,
         .choices = formats,
         .help = "ocsf: OCSF " QM_OCSF_VERSION " Detection Findings (class 2004)"},
        {.name = "json", .kind = QM_OPT_FLAG, .to = &k->json, .help = "one JSON object an alert, as --format json"},
    };
    static const struct qm_usage usage = {
        "alerts list", "", "Lists alerts: as text by change, as JSON or OCSF one object an alert.",
        "A change is one line to look at, however many machines have it. Mismatches that passed "
        "again before anybody looked\n"
        "are listed until they are acknowledged, or for 30 days.\n"};
    return qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 0, 0, first, code);
}

static bool parse_show(struct ask *k, int argc, char **argv, int *first, int *code)
{
    const struct qm_option options[] = {
        QM_HOME_OPTION(&k->home),
        {.name = "json", .kind = QM_OPT_FLAG, .to = &k->json, .help = "one JSON object an alert"},
    };
    static const struct qm_usage usage = {"alerts show", "NO…",
                                          "Explains alerts: the stage, both values, the first "
                                          "event that differs, what to do, who decided what.",
                                          NULL};
    return qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 1, -1, first, code);
}

#define DECIDED_SO                                                                                                             \
    "Alerts that cannot be decided so are named with the reason, the others are decided, and the "                             \
    "exit code is 1.\n"

static bool parse_decision(struct ask *k, int argc, char **argv, int *first, int *code)
{
    const struct qm_option common[] = {
        QM_HOME_OPTION(&k->home),
        {.name = "reason", .kind = QM_OPT_TEXT, .to = &k->reason, .value = "TEXT", .help = "why; kept with who and when"},
        {.name = "same", .kind = QM_OPT_FLAG, .to = &k->same, .help = "all alerts of the same change, within one group"},
        {.name = "all-groups", .kind = QM_OPT_FLAG, .to = &k->all_groups, .help = "with --same: of any group"},
        {.name = "tag", .kind = QM_OPT_TEXT, .to = &k->tag, .value = "KEY=VALUE", .help = "only of instances with this tag"},
        {.name = "alert",
         .kind = QM_OPT_TEXT,
         .to = &k->kind,
         .value = "NAME",
         .help = "without numbers, with --tag: all of this name that can be decided so"},
        {.name = "yes", .kind = QM_OPT_FLAG, .to = &k->yes, .help = "do not ask how many it may be"},
        {.name = "json",
         .kind = QM_OPT_FLAG,
         .to = &k->json,
         .help = "say what was done as one JSON object on standard output"},
    };
    static const struct qm_usage usage[VERB_COUNT] = {
        [IGNORE] = {"alerts ignore", "[NO…]",
                    "Ignores alerts: they are listed as ignored, go on counting, and change no status.", DECIDED_SO},
        [ACCEPT] = {"alerts accept", "[NO…]",
                    "Accepts what alerts show as a set of the instance, or of its group; judges "
                    "again at once.",
                    "A cloned_or_rolled_back alert is accepted by letting the TPM go on from the "
                    "sequence that was refused.\n" DECIDED_SO},
        [REOPEN] = {"alerts reopen", "[NO…]", "Opens alerts again; of an accepted one, what it accepted is withdrawn.",
                    DECIDED_SO},
        [ACK] = {"alerts ack", "[NO…]", "Marks alerts as seen.", DECIDED_SO},
    };
    struct qm_option options[QM_COUNT(common) + 1];
    size_t count = QM_COUNT(common);
    memcpy(options, common, sizeof common);
    if (k->verb == IGNORE)
        options[count++] = (struct qm_option){.name = "until",
                                              .kind = QM_OPT_TEXT,
                                              .to = &k->until,
                                              .value = "TIME",
                                              .help = "open again then: 2026-11-27T06:00:00Z, or 6h for that long"};
    if (k->verb == ACCEPT)
        options[count++] = (struct qm_option){.name = "group",
                                              .kind = QM_OPT_FLAG,
                                              .to = &k->for_group,
                                              .help = "for the group: all of it, now and whichever reboots later"};
    return qm_options_parse(&usage[k->verb], options, count, argc, argv, 0, -1, first, code);
}

/* The verb is the first operand; what stands before it can only be the home. */
static bool take_verb(struct ask *k, int *argc, char **argv, int *code)
{
    static const struct qm_usage usage = {
        "alerts", "list|show|ignore|accept|reopen|ack", "Shows what is wrong with the fleet, and takes decisions about it.",
        "  list               alerts by change\n"
        "  show NO…           explained, with their history\n"
        "  ignore [NO…]       listed as ignored, go on counting\n"
        "  accept [NO…]       what they show is accepted, for the instance or with --group for its "
        "group\n"
        "  reopen [NO…]       what was accepted is withdrawn\n"
        "  ack [NO…]          seen\n"
        "\n'quotemill alerts list --help' tells more, likewise for the others.\n"};
    int at = 1, first;
    while (at < *argc && argv[at][0] == '-' && argv[at][1] != '\0')
        at += strcmp(argv[at], "--home") == 0 ? 2 : 1;
    for (unsigned i = 0; at < *argc && i < VERB_COUNT; i++)
        if (strcmp(argv[at], verbs[i]) == 0) {
            k->verb = (enum verb)i;
            snprintf(k->command, sizeof k->command, "alerts %s", verbs[i]);
            memmove(argv + at, argv + at + 1, (size_t)(*argc - at) * sizeof *argv);
            --*argc;
            return true;
        }
    const struct qm_option options[] = {QM_HOME_OPTION(&k->home)};
    if (qm_options_parse(&usage, options, QM_COUNT(options), *argc, argv, 1, -1, &first, code))
        *code = qm_complain_usage("alerts", "no '%.64s'; see quotemill alerts --help", argv[first]);
    return false;
}

static bool parse(struct ask *k, int argc, char **argv, int *first, int *code)
{
    return k->verb == LIST   ? parse_list(k, argc, argv, first, code)
           : k->verb == SHOW ? parse_show(k, argc, argv, first, code)
                             : parse_decision(k, argc, argv, first, code);
}

int qm_cmd_alerts(int argc, char **argv)
{
    struct ask k = {.pcr = UINT64_MAX};
    uint64_t no[NUMBERS_MAX];
    int first, code;
    if (!take_verb(&k, &argc, argv, &code) || !parse(&k, argc, argv, &first, &code))
        return code;
    k.no = no;
    if (k.format != NULL && strcmp(k.format, "json") == 0)
        k.json = true;
    for (int i = first; i < argc; i++) {
        if (k.count == NUMBERS_MAX)
            return qm_complain_usage(k.command, "more than %d numbers", NUMBERS_MAX);
        if (!read_number(argv[i], &k.no[k.count++]))
            return qm_complain_usage(k.command, "'%.64s' is no alert's number", argv[i]);
    }
    code = check(&k);
    return code != QM_EXIT_OK ? code : run(&k);
}
