/* baseline: accepted sets shown, given, ended, exchanged. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "codec/result.h"
#include "tools/baseline_json.h"
#include "tools/command.h"
#include "tools/corim_read.h"
#include "tools/line_read.h"
#include "tools/moment_read.h"
#include "tools/options.h"
#include "tools/show.h"

static const char command[] = "baseline";

struct ask {
    const char *home, *group, *run, *reason, *until, *format;
    uint64_t end, until_ms;
    bool json, own;
    char **rest;
    int count;
    struct qm_store *store;
    struct qm_json *reader;
    struct qm_baseline_change change;
    uint64_t refused, shown;
    struct qm_show show;
    char *text; /* QM_BASELINE_JSON_MAX */
};

/* ---- show, history, export -------------------------------------------------------------------------------------------- */

static void show_who(const struct ask *a, const struct qm_baseline *b)
{
    char when[QM_AGE_MAX];
    printf("    %s by ", b->origin);
    qm_show_text(&a->show, (struct qm_span){(const uint8_t *)b->who, strlen(b->who)}, 0);
    printf(", %s", qm_moment(when, b->since_ms));
    if (b->alert != 0)
        printf(", alert %llu", (unsigned long long)b->alert);
    if (b->run != NULL)
        printf(", in run %s", b->run);
    if (b->why != NULL) {
        fputs(": ", stdout);
        qm_show_text(&a->show, (struct qm_span){(const uint8_t *)b->why, strlen(b->why)}, 0);
    }
    putchar('\n');
    if (b->until_ms != 0 && b->ended_ms == 0)
        printf("    until %s\n", qm_moment(when, b->until_ms));
    if (b->passed_ms != 0)
        printf("    first passed %s\n", qm_moment(when, b->passed_ms));
    if (b->ended_ms == 0)
        return;
    printf("    ended %s", qm_moment(when, b->ended_ms));
    if (b->ended_who != NULL) {
        fputs(" by ", stdout);
        qm_show_text(&a->show, (struct qm_span){(const uint8_t *)b->ended_who, strlen(b->ended_who)}, 0);
    }
    if (b->ended_why != NULL) {
        fputs(": ", stdout);
        qm_show_text(&a->show, (struct qm_span){(const uint8_t *)b->ended_why, strlen(b->ended_why)}, 0);
    }
    putchar('\n');
}

static void show_text(const struct ask *a, const struct qm_baseline *b)
{
    static const char *const of[] = {
        [QM_SET_WHOLE] = "whole, of ", [QM_SET_GROUP] = "of group ", [QM_SET_INSTANCE] = "beside its group's, of "};
    const uint8_t *value = b->value;
    const struct qm_policy *policy = NULL;
    printf("set %llu, %s", (unsigned long long)b->no, of[b->kind]);
    qm_show_text(&a->show, b->kind == QM_SET_GROUP ? b->group : b->id, 0);
    puts(b->retired ? ", which was taken out" : "");
    show_who(a, b);
    if (qm_store_policy(a->store, "", 0, &policy, NULL) != QM_OK)
        policy = NULL;
    for (unsigned pcr = 0; pcr < QM_PCR_COUNT; pcr++) {
        if ((b->mask >> pcr & 1) == 0)
            continue;
        const char *name = policy != NULL && policy->stage_name[pcr][0] != '\0' ? policy->stage_name[pcr] : qm_stage_name(pcr);
        printf("    PCR %-2u ", pcr);
        qm_show_hex(&a->show, value, 32);
        fputs("  ", stdout);
        qm_show_text(&a->show, (struct qm_span){(const uint8_t *)name, strlen(name)}, 0);
        putchar('\n');
        value += 32;
    }
}

static qm_err visit(void *ctx, const struct qm_baseline *b, struct qm_fault *fault)
{
    struct ask *a = ctx;
    (void)fault;
    a->shown++;
    if (!a->json) {
        show_text(a, b);
        return QM_OK;
    }
    struct qm_out o = qm_out_init(a->text, QM_BASELINE_JSON_MAX);
    qm_baseline_json(&o, b);
    fwrite(o.p, 1, o.len, stdout);
    return QM_OK;
}

static qm_err list(struct ask *a, bool ended, struct qm_fault *fault)
{
    const struct qm_baseline_filter f = {
        .id = a->count != 0 ? a->rest[0] : NULL, .group = a->group, .run = a->run, .ended = ended};
    qm_err err = qm_baselines_each(a->store, &f, visit, a, fault);
    if (err == QM_OK && a->shown == 0)
        err = qm_store_known(a->store, f.id, f.group, f.run, fault);
    if (err == QM_OK && a->shown == 0)
        fputs("quotemill baseline: none\n", stderr);
    return err;
}

/* ---- set -------------------------------------------------------------------------------------------------------------- */

/* A small file, or standard input, whole. */
static qm_err read_file(const char *name, char *text, size_t cap, size_t *len, struct qm_fault *fault)
{
    FILE *in;
    qm_err err = qm_stream_open(name, &in, fault);
    if (err != QM_OK)
        return err;
    *len = fread(text, 1, cap, in);
    if (ferror(in))
        err = qm_fail(fault, QM_E_IO, errno, "cannot read %s", name);
    else if (*len == cap)
        err = qm_fail(fault, QM_E_REFUSED, 0, "%s is too long", name);
    qm_stream_close(in);
    return err;
}

/* PCR=HEX, or the name of a file with an object of them. */
static qm_err take_values(struct ask *a, const char *operand, struct qm_baseline_line *line, struct qm_fault *fault)
{
    const char *equals = strchr(operand, '=');
    size_t len;
    if (equals != NULL && operand[0] >= '0' && operand[0] <= '9')
        return qm_baseline_value_put(line, (struct qm_span){(const uint8_t *)operand, (size_t)(equals - operand)},
                                     (struct qm_span){(const uint8_t *)equals + 1, strlen(equals + 1)}, fault);
    qm_err err = read_file(operand, a->text, QM_BASELINE_JSON_MAX, &len, fault);
    return err == QM_OK ? qm_baseline_values_read(a->reader, a->text, len, line, fault) : err;
}

static qm_err set(struct ask *a, struct qm_fault *fault)
{
    struct qm_baseline_line line = {.set = {.origin = "set", .why = a->reason, .until_ms = a->until_ms}};
    const char *id = a->group == NULL ? a->rest[0] : NULL;
    qm_err err = QM_OK;
    uint64_t no;
    line.set.kind = a->group != NULL ? QM_SET_GROUP : a->own ? QM_SET_INSTANCE : QM_SET_WHOLE;
    for (int i = id != NULL; err == QM_OK && i < a->count; i++)
        err = take_values(a, a->rest[i], &line, fault);
    if (err == QM_OK && a->end != 0)
        err = qm_baseline_end(a->store, a->end, a->reason, &a->change, fault);
    if (err == QM_OK)
        err = qm_baseline_add(a->store, &line.set, id, a->group, &no, &a->change, fault);
    if (err == QM_E_LIMIT)
        fault->err = err = QM_E_REFUSED; /* a decision that is missing, not an environment that failed */
    return err;
}

/* ---- retire, import --------------------------------------------------------------------------------------------------- */

static bool read_number(const char *text, uint64_t *no)
{
    char *end;
    errno = 0;
    *no = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && *no != 0;
}

static qm_err retire(struct ask *a, struct qm_fault *fault)
{
    qm_err err = a->run != NULL ? qm_baseline_end_run(a->store, a->run, a->reason, &a->change, fault) : QM_OK;
    for (int i = 0; err == QM_OK && i < a->count; i++) {
        uint64_t no;
        err = read_number(a->rest[i], &no)
                  ? qm_baseline_end(a->store, no, a->reason, &a->change, fault)
                  : qm_fail(fault, QM_E_USAGE, 0, "'%.64s' is no number of an accepted set", a->rest[i]);
    }
    return err;
}

/* What is refused is said, and what else there is goes on. */
static qm_err or_refused(struct ask *a, qm_err err, const struct qm_fault *why, const char *what, const char *of, struct qm_fault *fault)
{
    char shown[1024], subject[512];
    if (err == QM_OK)
        return QM_OK;
    if (err != QM_E_REFUSED && err != QM_E_LIMIT) {
        *fault = *why;
        return err;
    }
    struct qm_out o = qm_out_init(shown, sizeof shown - 1), s = qm_out_init(subject, sizeof subject - 1);
    qm_out_line(&o, (struct qm_span){(const uint8_t *)why->text, strlen(why->text)});
    qm_out_line(&s, (struct qm_span){(const uint8_t *)of, strlen(of)});
    shown[o.len] = subject[s.len] = '\0';
    fprintf(stderr, "quotemill baseline: %s %s: refused: %s\n", what, subject, shown);
    a->refused++;
    return QM_OK;
}

static qm_err import_line(struct ask *a, const char *text, size_t len, struct qm_fault *fault)
{
    struct qm_baseline_line line;
    uint64_t no;
    qm_err err = qm_baseline_line_read(a->reader, text, len, &line, fault);
    if (err != QM_OK || line.over || (line.set.until_ms != 0 && line.set.until_ms <= qm_store_now_ms(a->store)))
        return err;
    line.set.origin = "imported";
    if (a->reason != NULL)
        line.set.why = a->reason;
    return qm_baseline_add(a->store, &line.set, line.id, line.group, &no, &a->change, fault);
}

static qm_err import_file(struct ask *a, const char *name, struct qm_fault *fault)
{
    FILE *in;
    qm_err err = qm_stream_open(name, &in, fault);
    if (err != QM_OK)
        return err;
    for (uint64_t number = 1; err == QM_OK && fgets(a->text, QM_BASELINE_LINE_MAX, in) != NULL; number++) {
        const size_t len = strcspn(a->text, "\n");
        struct qm_fault why = {0};
        char line[400];
        if (len == strspn(a->text, " \t\r") && len < QM_BASELINE_LINE_MAX - 1)
            continue;
        err = a->text[len] == '\n' || feof(in)
                  ? import_line(a, a->text, len, &why)
                  : qm_fail(&why, QM_E_IO, 0, "%s: line %llu is too long", name, (unsigned long long)number);
        snprintf(line, sizeof line, strcmp(name, "-") == 0 ? "%llu" : "%llu of %s", (unsigned long long)number, name);
        err = or_refused(a, err, &why, "line", line, fault);
    }
    if (err == QM_OK && ferror(in))
        err = qm_fail(fault, QM_E_IO, errno, "cannot read %s", name);
    qm_stream_close(in);
    return err;
}

/* One CoMID of a manifest, for a machine, or for the group where id is NULL. */
static qm_err import_comid(struct ask *a, const struct qm_corim *corim, const struct qm_corim_set *from, const char *id, struct qm_fault *fault)
{
    char why[2 * QM_CORIM_NAME_MAX + 32];
    struct qm_set_new set = {.kind = id == NULL ? QM_SET_GROUP : a->own ? QM_SET_INSTANCE : QM_SET_WHOLE,
                             .mask = from->mask,
                             .origin = "imported",
                             .why = a->reason,
                             .until_ms = corim->not_after_ms};
    struct qm_fault refused = {0};
    uint64_t no;
    if (a->reason == NULL) {
        snprintf(why, sizeof why, "CoRIM %s, CoMID %s", corim->name, from->name);
        set.why = why;
    }
    for (unsigned pcr = 0; pcr < QM_CORIM_PCRS; pcr++)
        set.value[pcr] = from->value[pcr];
    qm_err err = qm_baseline_add(a->store, &set, id, a->group, &no, &a->change, &refused);
    return or_refused(a, err, &refused, id == NULL ? "group" : "instance", id == NULL ? a->group : id, fault);
}

static qm_err read_corim(struct ask *a, const char *name, struct qm_corim *corim, struct qm_fault *fault)
{
    const uint64_t now = qm_store_now_ms(a->store);
    size_t len;
    char *bytes = malloc(QM_CORIM_BYTES_MAX + 1);
    if (bytes == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory for a manifest");
    qm_err err = read_file(name, bytes, QM_CORIM_BYTES_MAX + 1, &len, fault);
    if (err == QM_OK)
        err = qm_corim_read((struct qm_span){(const uint8_t *)bytes, len}, corim, fault);
    if (err == QM_OK && corim->not_before_ms > now)
        err = qm_fail(fault, QM_E_REFUSED, 0, "it is not valid yet (rim-validity)");
    if (err == QM_OK && corim->not_after_ms != 0 && corim->not_after_ms <= now)
        err = qm_fail(fault, QM_E_REFUSED, 0, "it is not valid any more (rim-validity)");
    free(bytes);
    return err;
}

/* FILE ID…, or FILE with --group: every CoMID a set of each. */
static qm_err import_corim(struct ask *a, struct qm_fault *fault)
{
    struct qm_fault refused = {0};
    struct qm_corim corim;
    qm_err err = read_corim(a, a->rest[0], &corim, &refused);
    if (err != QM_OK)
        return or_refused(a, err, &refused, "manifest", a->rest[0], fault);
    for (unsigned i = 0; err == QM_OK && i < corim.count; i++) {
        if (a->group != NULL)
            err = import_comid(a, &corim, &corim.set[i], NULL, fault);
        for (int k = 1; err == QM_OK && k < a->count; k++)
            err = import_comid(a, &corim, &corim.set[i], a->rest[k], fault);
    }
    return err;
}

static qm_err import(struct ask *a, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    if (a->format != NULL && strcmp(a->format, "corim") == 0)
        return import_corim(a, fault);
    for (int i = 0; err == QM_OK && i < a->count; i++)
        err = import_file(a, a->rest[i], fault);
    return err;
}

/* ---- the command ------------------------------------------------------------------------------------------------------ */

static void say(const struct ask *a)
{
    const struct qm_baseline_change *c = &a->change;
    static const char text[] = "quotemill baseline: sets: %llu added, %llu there already, %llu ended, %llu refused; machines: %llu judged"
                               " again, %llu pass now\n";
    static const char json[] =
        "{\"kind\":\"baselines\",\"added\":%llu,\"known\":%llu,\"ended\":%llu,\"refused\":%llu,\"judged\":%llu,"
        "\"passing\":%llu}\n";
    const unsigned long long n[] = {c->added, c->known, c->ended, a->refused, c->judged, c->passing};
    if (a->json)
        printf(json, n[0], n[1], n[2], n[3], n[4], n[5]);
    else
        fprintf(stderr, text, n[0], n[1], n[2], n[3], n[4], n[5]);
}

static qm_err change(struct ask *a, qm_err (*act)(struct ask *a, struct qm_fault *fault), struct qm_fault *fault)
{
    bool built;
    qm_err err = qm_store_begin(a->store, fault);
    if (err == QM_OK && a->group != NULL)
        qm_group_tell(a->store, command, a->group); /* before it is one by having a set */
    if (err == QM_OK)
        err = act(a, fault);
    if (err == QM_OK)
        err = qm_store_commit(a->store, fault);
    if (err == QM_OK)
        err = qm_store_publish(a->store, &built, fault);
    if (err == QM_OK)
        say(a);
    return err;
}

enum verb { SHOW, HISTORY, EXPORT, SET, RETIRE, IMPORT, VERBS };
static const char *const verbs[VERBS] = {"show", "history", "export", "set", "retire", "import"};

static int run(struct ask *a, enum verb verb)
{
    static qm_err (*const acts[VERBS])(struct ask *, struct qm_fault *) = {[SET] = set, [RETIRE] = retire, [IMPORT] = import};
    struct qm_fault fault = {0};
    a->show = qm_show_init(stdout);
    a->text = malloc(QM_BASELINE_JSON_MAX);
    a->json |= verb == EXPORT;
    qm_err err = a->text != NULL ? qm_json_open(&a->reader, &fault) : qm_fail(&fault, QM_E_NOMEM, 0, "no memory");
    if (err == QM_OK)
        err = qm_store_open(&a->store, qm_home_path(a->home), acts[verb] != NULL, &fault);
    if (err == QM_OK)
        err = acts[verb] != NULL ? change(a, acts[verb], &fault) : list(a, verb == HISTORY, &fault);
    qm_store_close(a->store);
    qm_json_close(a->reader);
    free(a->text);
    int code = err == QM_OK ? QM_EXIT_OK : qm_complain(command, &fault);
    if (code == QM_EXIT_OK && a->refused != 0)
        code = QM_EXIT_FOUND;
    int flushed = qm_stdout_close(command);
    return flushed != QM_EXIT_OK ? flushed : code;
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* 0, or the exit code after one line. */
static int check(struct ask *a, enum verb verb)
{
    const bool lists = verb <= EXPORT, corim = a->format != NULL && strcmp(a->format, "corim") == 0;
    if (a->reason != NULL && !qm_reason_ok(a->reason))
        return qm_complain_usage(command, "--reason wants 1 to %d bytes of text on one line", QM_REASON_BYTES_MAX);
    if (a->until != NULL && (verb != SET || !qm_moment_read(a->until, now_ms(), true, &a->until_ms) || a->until_ms <= now_ms()))
        return qm_complain_usage(
            command, "--until goes with set, and wants a time to come (2026-11-27T06:00:00Z, or 14d for that long)");
    if (lists && (a->count > 1 || (a->count != 0) + (a->group != NULL) + (a->run != NULL) > 1))
        return qm_complain_usage(command, "%s takes one ID, or --group, or --run", verbs[verb]);
    if (verb == SET && a->count < (a->group != NULL ? 1 : 2))
        return qm_complain_usage(command, "set takes an ID (or --group) and values: PCR=HEX, or a file with {\"PCR\":\"HEX\"}");
    if (a->group != NULL && a->own)
        return qm_complain_usage(command, "--own goes with an ID");
    if (verb == RETIRE && (a->count != 0) == (a->run != NULL))
        return qm_complain_usage(command, "retire takes numbers of accepted sets, or --run");
    if (verb == IMPORT && a->count == 0)
        return qm_complain_usage(command, "import takes files of what export wrote, or a manifest; '-' is standard input");
    if (a->format != NULL && verb != IMPORT)
        return qm_complain_usage(command, "--format goes with import");
    if (verb == IMPORT && !corim && (a->group != NULL || a->own))
        return qm_complain_usage(command, "lines of JSON say themselves whose sets they are; --group and --own go with --format corim");
    if (corim && (a->count > 1) == (a->group != NULL))
        return qm_complain_usage(command, "import of a CoRIM takes its file and either IDs or --group: it does not say whose values it has");
    if ((verb == SET || verb == RETIRE) && a->reason == NULL)
        return qm_complain_usage(command, "--reason is missing: it is kept with who and when");
    return QM_EXIT_OK;
}

int qm_cmd_baseline(int argc, char **argv)
{
    struct ask a = {0};
    static const char *const formats[] = {"json", "corim", NULL};
    const struct qm_option options[] = {
        QM_HOME_OPTION(&a.home),
        {.name = "group",
         .kind = QM_OPT_TEXT,
         .to = &a.group,
         .value = "GROUP",
         .help = "the group's sets, instead of a machine's"},
        {.name = "own",
         .kind = QM_OPT_FLAG,
         .to = &a.own,
         .help = "set, import: the machine's own PCRs alone, beside its group's sets"},
        {.name = "run",
         .kind = QM_OPT_TEXT,
         .to = &a.run,
         .value = "RUN",
         .help = "what this run learned: show it, or retire it"},
        {.name = "end", .kind = QM_OPT_COUNT, .to = &a.end, .value = "SET", .help = "set: end this one for it", .min = 1},
        {.name = "until", .kind = QM_OPT_TEXT, .to = &a.until, .value = "TIME", .help = "set: it ends by itself then"},
        {.name = "reason", .kind = QM_OPT_TEXT, .to = &a.reason, .value = "TEXT", .help = "why; kept with who and when"},
        {.name = "format", .kind = QM_OPT_CHOICE, .to = &a.format, .choices = formats,
         .help = "import: lines of JSON (default), or a Concise Reference Integrity Manifest"},
        {.name = "json", .kind = QM_OPT_FLAG, .to = &a.json, .help = "one object a line"},
    };
    const struct qm_usage usage = {
        command, "show|history|set|retire|export|import …", "Accepted values: what machines are compared with.",
        "show [ID]                      the live sets of a machine and its group, of --group, of --run, or all\n"
        "history [ID]                   and those that are over: origin, who, when, why\n"
        "set ID PCR=HEX…                a value for every PCR that is compared; or a file with {\"PCR\":\"HEX\"}\n"
        "set --group GROUP PCR=HEX…     for all machines of a group, beside what is their own\n"
        "retire SET…                    ends sets; they stay in the history\n"
        "export [ID], import FILE…      the live sets as lines of JSON, and back\n"
        "import --format corim FILE ID… reference values of a manifest, for these machines or for --group\n"
        "Machines that this concerns are judged again at once. At most 8 sets of a kind live; one more asks which to end.\n"};
    int first, code;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 1, -1, &first, &code))
        return code;
    unsigned verb = SHOW;
    while (verb < VERBS && strcmp(argv[first], verbs[verb]) != 0)
        verb++;
    if (verb == VERBS)
        return qm_complain_usage(command, "no '%.64s' there; see quotemill baseline --help", argv[first]);
    a.rest = argv + first + 1;
    a.count = argc - first - 1;
    code = check(&a, (enum verb)verb);
    return code == QM_EXIT_OK ? run(&a, (enum verb)verb) : code;
}
