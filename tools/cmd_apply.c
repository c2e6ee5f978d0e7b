/* apply: feeds result records into the alert store, as a run would have. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/command.h"
#include "tools/commit.h"
#include "tools/line_read.h"
#include "tools/on_alert.h"
#include "tools/options.h"
#include "tools/pipeline.h"
#include "tools/result_read.h"
#include "tools/store/store_run.h"

struct request {
    const char *home, *file, *on_alert;
    bool json, syslog;
};

/* The stream's results, and its run record. */
struct stream {
    struct qm_outcomes *outcomes;
    struct qm_run run;
    char run_id[64], version[64];
    bool ended;
    uint64_t results;
};

/* The sender is the first part of the name, as far as a stream can tell. */
static const char *source_of(void *ctx, struct qm_span source)
{
    char *text = ctx;
    struct qm_out o = qm_out_init(text, 255);
    size_t len = 0;
    while (len < source.len && source.p[len] != '/')
        len++;
    qm_out_shown(&o, (struct qm_span){source.p, len == 0 || len == source.len ? (source.len < 60 ? source.len : 60) : len});
    text[o.len] = '\0';
    return text;
}

static qm_err take_result(struct qm_store *s, struct stream *t, struct qm_result *r, uint64_t now_ms, struct qm_fault *fault)
{
    qm_err err = r->id.len != 0 && r->id.len <= QM_ID_MAX && r->reason != QM_MALFORMED ? qm_store_slot(s, r->id, &r->slot, fault) : QM_OK;
    if (r->beacon != 0)
        r->fresh = QM_FRESH_BEACON;
    if (r->checked_ms > now_ms)
        r->checked_ms = now_ms; /* a clock elsewhere that is ahead says nothing about the time to come */
    t->results++;
    return err == QM_OK ? qm_outcomes_add(t->outcomes, r, fault) : err;
}

/* Reads it to its end; a result that comes from a home's own results has been through check 8 there already. */
static qm_err read_stream(struct qm_store *s, FILE *in, struct stream *t, struct qm_fault *fault)
{
    struct qm_result_reader *reader;
    const uint64_t now_ms = qm_now_ms();
    qm_err err = qm_result_reader_open(&reader, in, fault);
    while (err == QM_OK) {
        enum qm_result_kind kind;
        struct qm_result result;
        struct qm_run run;
        err = qm_result_reader_next(reader, &kind, &result, &run, fault);
        if (err != QM_OK || kind == QM_READ_END)
            break;
        if (t->ended)
            err = qm_fail(fault, QM_E_FORMAT, 0, "there are records behind the run record");
        else if (kind == QM_READ_STATUS)
            err = take_result(s, t, &result, now_ms, fault);
        else {
            t->ended = true;
            t->run = run;
            snprintf(t->run_id, sizeof t->run_id, "%s", run.run);
            snprintf(t->version, sizeof t->version, "%s", run.version);
            t->run.run = t->run_id;
            t->run.version = t->version;
        }
    }
    qm_result_reader_close(reader);
    if (err == QM_OK && !t->ended)
        err = qm_fail(fault, QM_E_FORMAT, 0, "the stream ends without its run record: it was cut; nothing was recorded");
    if (err == QM_OK && t->run.records != t->results)
        err = qm_fail(fault, QM_E_FORMAT, 0, "the run record counts %llu results, %llu came: nothing was recorded",
                      (unsigned long long)t->run.records, (unsigned long long)t->results);
    if (err == QM_OK && (t->run_id[0] == '\0' || t->run.start_ms > t->run.end_ms))
        err = qm_fail(fault, QM_E_FORMAT, 0, "the run record has no id, or ends before it starts");
    return err;
}

static int say(const struct request *q, const struct stream *t, const struct qm_judgment *j)
{
    if (q->json) {
        char text[8192];
        struct qm_out o = qm_out_init(text, sizeof text);
        qm_run_write(&o, &t->run, QM_FORMAT_NDJSON);
        fwrite(o.p, 1, o.len, stdout);
    }
    fprintf(stderr, "quotemill apply: %s: %llu results; %llu alerts opened, %llu repeated, %llu resolved; %llu learned; %llu became unmeasured\n",
            t->run_id, (unsigned long long)t->results, (unsigned long long)j->opened, (unsigned long long)j->repeated,
            (unsigned long long)j->resolved, (unsigned long long)j->learned, (unsigned long long)j->unmeasured);
    const int closed = qm_stdout_close("apply");
    if (closed != QM_EXIT_OK || j->clock_behind)
        return QM_EXIT_ENVIRONMENT;
    return t->run.by_status[QM_UNTRUSTED] + t->run.by_status[QM_INVALID] + j->unmeasured != 0 ? QM_EXIT_FOUND : QM_EXIT_OK;
}

/* The lock is taken when the stream is there: a pipe that stalls keeps nobody's run waiting. */
static qm_err apply(const struct request *q, struct qm_store *s, FILE *in, struct stream *t, struct qm_judgment *j, int *lock, bool *known,
                    struct qm_fault *fault)
{
    char label[256];
    bool built;
    enum qm_commit_end end;
    qm_err err = qm_outcomes_open(&t->outcomes, QM_OUTCOME_OWN, fault);
    if (err == QM_OK)
        err = read_stream(s, in, t, fault);
    if (err == QM_OK)
        err = qm_run_lock(q->home, lock, fault);
    if (err == QM_OK)
        err = qm_store_run_known(s, t->run_id, known, fault);
    if (err != QM_OK || *known)
        return err;
    struct qm_commit_options options = {.command = "apply", .home = q->home, .results = "none", .source_of = source_of,
                                        .source_ctx = label, .clock_ms = qm_now_ms()};
    err = qm_commit_prepare(s, &options.forgotten, fault);
    if (err == QM_OK)
        err = qm_commit(s, &t->outcomes, 1, &t->run, &options, j, &end, fault);
    if (err != QM_OK)
        return err;
    return qm_store_publish(s, &built, fault);
}

static int run_request(const struct request *q)
{
    struct qm_fault fault = {0};
    struct qm_store *s = NULL;
    struct stream t = {0};
    struct qm_judgment j = {0};
    int lock = -1;
    bool known = false;
    FILE *in = NULL;
    qm_err err = qm_store_open(&s, q->home, true, &fault);
    if (err == QM_OK)
        err = qm_stream_open(q->file, &in, &fault);
    if (err == QM_OK)
        err = apply(q, s, in, &t, &j, &lock, &known, &fault);
    int code = QM_EXIT_OK;
    if (err != QM_OK)
        code = qm_complain("apply", &fault);
    else if (known)
        fprintf(stderr, "quotemill apply: %s was applied before; nothing changed\n", t.run_id);
    else
        code = say(q, &t, &j);
    if (j.clock_behind)
        fputs("quotemill apply: the system's clock is behind the end of the last run; no machine was called unmeasured\n", stderr);
    qm_stream_close(in);
    if (lock >= 0)
        close(lock);
    if (err == QM_OK && !known)
        qm_alerts_tell(s, &(struct qm_tell){.command = "apply",
                                            .home = q->home,
                                            .on_alert = q->on_alert,
                                            .syslog = q->syslog,
                                            .after_no = j.alerts_before});
    qm_outcomes_close(t.outcomes);
    qm_store_close(s);
    return code;
}

int qm_cmd_apply(int argc, char **argv)
{
    struct request q = {.file = "-"};
    const char *home = NULL;
    const struct qm_option options[] = {
        QM_HOME_OPTION(&home),
        QM_TELL_OPTIONS(&q.on_alert, &q.syslog),
        {.name = "json", .kind = QM_OPT_FLAG, .to = &q.json, .help = "the run record on standard output"},
    };
    const struct qm_usage usage = {
        "apply", "[FILE]",
        "Feeds the results of verify into the home, with the effect of a run: status, baselines, alerts.",
        "FILE ('-', the default: standard input) is what verify wrote, msgpack or NDJSON, its run record last. A stream without one\n"
        "was cut: nothing is recorded, exit code 3. A run that was applied before changes nothing.\n"
        "The stream is believed: whoever can write it can make a machine trusted.\n"};
    int first, code;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 0, 1, &first, &code))
        return code;
    q.home = qm_home_path(home);
    if (first < argc)
        q.file = argv[first];
    return run_request(&q);
}
