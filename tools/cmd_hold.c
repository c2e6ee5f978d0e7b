/* hold: parks machines; retire: takes them out. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "codec/emit.h"
#include "tools/command.h"
#include "tools/line_read.h"
#include "tools/moment_read.h"
#include "tools/options.h"
#include "tools/store/store_retire.h"

enum { IDS_MAX = 256 << 20 /* bytes of standard input: two million of the longest ids */ };

struct ask {
    const char *command;
    bool retires;
    const char *home, *tag, *until, *reason, *older;
    bool json, dry;
    char **ids;
    int id_count;
    char tag_key[256];
    const char *tag_value;
    uint64_t until_ms, older_ms;
    char *text; /* standard input, where one of the ids is "-" */
    size_t text_len;
};

/* ---- which ones ------------------------------------------------------------------------------------------------------- */

/* Ids, one a line. */
static qm_err add_ids(struct qm_store *s, struct qm_slots *l, const char *text, size_t text_len, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    for (const char *line = text, *end = text + text_len; err == QM_OK && line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        const size_t len = (size_t)((stop != NULL ? stop : end) - line);
        if (len > QM_ID_MAX)
            return qm_fail(fault, QM_E_REFUSED, 0, "a line of standard input is longer than an id");
        if (len != 0)
            err = qm_slots_add_id(s, l, line, len, fault);
        line = stop != NULL ? stop + 1 : end;
    }
    return err;
}

static qm_err pick(const struct ask *a, struct qm_store *s, struct qm_slots *l, struct qm_fault *fault)
{
    const char *key = a->tag != NULL ? a->tag_key : NULL;
    qm_err err = QM_OK;
    for (int i = 0; err == QM_OK && i < a->id_count; i++)
        err = strcmp(a->ids[i], "-") == 0 ? add_ids(s, l, a->text, a->text_len, fault) : qm_slots_add_id(s, l, a->ids[i], strlen(a->ids[i]), fault);
    if (err == QM_OK && a->id_count == 0)
        err = qm_slots_add_tag(s, l, key, a->tag_value, fault);
    return err == QM_OK ? qm_slots_narrow(s, l, key, a->tag_value, a->older_ms, fault) : err;
}

/* ---- doing it --------------------------------------------------------------------------------------------------------- */

static void say(const struct ask *a, uint64_t chosen, uint64_t changed)
{
    if (!a->json) {
        fprintf(stderr, "quotemill %s: %llu machine%s%s\n", a->command, (unsigned long long)changed, changed == 1 ? "" : "s",
                a->dry ? " would be; nothing was done" : "");
        return;
    }
    char text[512];
    struct qm_out o = qm_out_init(text, sizeof text);
    struct qm_emit e = qm_emit_init(&o, true);
    qm_emit_map(&e);
    qm_emit_key(&e, "kind");
    qm_emit_name(&e, a->retires ? "retired" : "held");
    qm_emit_key(&e, "chosen");
    qm_emit_u64(&e, chosen);
    qm_emit_key(&e, "machines");
    qm_emit_u64(&e, changed);
    if (!a->retires) {
        qm_emit_key(&e, "until");
        qm_emit_u64(&e, a->until_ms);
    }
    qm_emit_key(&e, "dry_run");
    qm_emit_bool(&e, a->dry);
    qm_emit_end(&e);
    qm_out_char(&o, '\n');
    fwrite(o.p, 1, o.len, stdout);
}

static qm_err act(const struct ask *a, struct qm_store *s, struct qm_slots *l, struct qm_fault *fault)
{
    uint64_t changed = 0;
    bool built;
    qm_err err = qm_store_begin(s, fault);
    if (err == QM_OK)
        err = pick(a, s, l, fault);
    if (err == QM_OK && a->retires) {
        changed = l->count;
        err = a->dry ? QM_OK : qm_store_retire(s, l, a->reason, fault);
    } else if (err == QM_OK) {
        err = qm_store_hold(s, l, a->until_ms, a->reason, &changed, fault);
    }
    if (err != QM_OK)
        return err;
    if (a->dry)
        qm_store_rollback(s);
    else
        err = qm_store_commit(s, fault);
    if (err == QM_OK && a->retires && !a->dry)
        err = qm_store_publish(s, &built, fault);
    if (err == QM_OK)
        say(a, l->count, changed);
    return err;
}

/* All of it before the store is locked: who types ids, or sends them slowly, keeps no run waiting. */
static qm_err read_ids(struct ask *a, struct qm_fault *fault)
{
    for (int i = 0; i < a->id_count && a->text == NULL; i++) {
        qm_err err = strcmp(a->ids[i], "-") == 0 ? qm_file_read("-", IDS_MAX, &a->text, &a->text_len, fault) : QM_OK;
        if (err != QM_OK)
            return err;
    }
    return QM_OK;
}

static int run(struct ask *a)
{
    struct qm_store *s = NULL;
    struct qm_fault fault = {0};
    struct qm_slots slots = {0};
    qm_err err = read_ids(a, &fault);
    if (err == QM_OK)
        err = qm_store_open(&s, qm_home_path(a->home), true, &fault);
    if (err == QM_OK)
        err = act(a, s, &slots, &fault);
    qm_slots_close(&slots);
    qm_store_close(s);
    free(a->text);
    int code = err == QM_OK ? QM_EXIT_OK : qm_complain(a->command, &fault);
    int flushed = qm_stdout_close(a->command);
    return flushed != QM_EXIT_OK ? flushed : code;
}

/* ---- the two commands ------------------------------------------------------------------------------------------------- */

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* What both ask for. 0, or the exit code after one line. */
static int check(struct ask *a)
{
    if (a->tag != NULL && !qm_tag_read(a->tag, a->tag_key, sizeof a->tag_key, &a->tag_value))
        return qm_complain_usage(a->command, "--tag wants KEY=VALUE, not '%.64s'", a->tag);
    if (a->reason != NULL && !qm_reason_ok(a->reason))
        return qm_complain_usage(a->command, "--reason wants 1 to %d bytes of text on one line", QM_REASON_BYTES_MAX);
    if (a->older != NULL && (!qm_duration_read(a->older, &a->older_ms) || a->older_ms == 0))
        return qm_complain_usage(a->command, "--older wants a time as 36h or 30d, not '%.64s'", a->older);
    if (a->id_count == 0 && a->tag == NULL && a->older == NULL)
        return qm_complain_usage(a->command,
                                 "which machines? give ids, '-' for ids from standard input%s; see quotemill %s --help",
                                 a->retires ? ", --tag, or --older" : ", or --tag", a->command);
    return QM_EXIT_OK;
}

int qm_cmd_hold(int argc, char **argv)
{
    struct ask a = {.command = "hold"};
    const struct qm_option options[] = {
        QM_HOME_OPTION(&a.home),
        {.name = "tag",
         .kind = QM_OPT_TEXT,
         .to = &a.tag,
         .value = "KEY=VALUE",
         .help = "machines with this tag (with ids: of these)"},
        {.name = "until",
         .kind = QM_OPT_TEXT,
         .to = &a.until,
         .value = "TIME",
         .help = "when it ends: 2026-11-27T06:00:00Z, 6h or 14d from now; now ends it"},
        {.name = "reason", .kind = QM_OPT_TEXT, .to = &a.reason, .value = "TEXT", .help = "why; kept with who and when"},
        {.name = "json", .kind = QM_OPT_FLAG, .to = &a.json, .help = "say the counts as one JSON object on standard output"},
    };
    const struct qm_usage usage = {
        "hold", "[ID…|-]", "Parks machines that may be silent for a while; '-' reads ids from standard input.",
        "A parked machine is not called unmeasured; what it sends is judged, and mismatches alert, as ever.\n"};
    int first, code;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 0, -1, &first, &code))
        return code;
    a.ids = argv + first;
    a.id_count = argc - first;
    code = check(&a);
    if (code != QM_EXIT_OK)
        return code;
    if (a.until == NULL)
        return qm_complain_usage("hold",
                                 "--until is missing: a machine that is parked for ever is forgotten; retire takes one out");
    const bool ends = strcmp(a.until, "now") == 0;
    if (!ends && (!qm_moment_read(a.until, now_ms(), true, &a.until_ms) || a.until_ms <= now_ms()))
        return qm_complain_usage(
            "hold", "--until wants a time to come (2026-11-27T06:00:00Z, or 6h for that long), or now, not '%.64s'", a.until);
    if (ends)
        a.until_ms = now_ms();
    else if (a.reason == NULL)
        return qm_complain_usage("hold", "--reason is missing: it is kept with who and when");
    return run(&a);
}

int qm_cmd_retire(int argc, char **argv)
{
    struct ask a = {.command = "retire", .retires = true};
    const struct qm_option options[] = {
        QM_HOME_OPTION(&a.home),
        {.name = "tag",
         .kind = QM_OPT_TEXT,
         .to = &a.tag,
         .value = "KEY=VALUE",
         .help = "machines with this tag (with ids: of these)"},
        {.name = "older",
         .kind = QM_OPT_TEXT,
         .to = &a.older,
         .value = "TIME",
         .help = "only those silent for so long, as 30d"},
        {.name = "reason", .kind = QM_OPT_TEXT, .to = &a.reason, .value = "TEXT", .help = "why; kept with who and when"},
        {.name = "dry-run", .kind = QM_OPT_FLAG, .to = &a.dry, .help = "say how many it would be, and do nothing"},
        {.name = "json", .kind = QM_OPT_FLAG, .to = &a.json, .help = "say the counts as one JSON object on standard output"},
    };
    const struct qm_usage usage = {
        "retire", "[ID…|-]",
        "Takes machines out of the table, the counts and the open alerts; '-' reads ids from standard input.",
        "Their history stays; an id may be enrolled again, as a new machine. One unknown id, and nothing is done.\n"
        "The policy retire_after does it for machines that fell silent (quotemill config).\n"};
    int first, code;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 0, -1, &first, &code))
        return code;
    a.ids = argv + first;
    a.id_count = argc - first;
    code = check(&a);
    return code == QM_EXIT_OK ? run(&a) : code;
}
