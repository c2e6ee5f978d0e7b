#include "tools/metrics.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/json_read.h"
#include "tools/options.h"
#include "tools/store/store_status.h"
#include "tools/whole_file.h"

struct metrics {
    FILE *to;
    char home[2 * 128 + 1]; /* the label's value, escaped */
};

/* The text format escapes backslash, quote and newline in values; what else is no printable ASCII has no business there. */
static void take_home(struct metrics *m, const char *name)
{
    size_t n = 0;
    for (; *name != '\0' && n + 2 < sizeof m->home; name++) {
        if (*name == '"' || *name == '\\')
            m->home[n++] = '\\';
        m->home[n++] = *name >= 0x20 && *name < 0x7f ? *name : '_';
    }
    m->home[n] = '\0';
}

static void head(const struct metrics *m, const char *name, const char *type, const char *help)
{
    fprintf(m->to, "# HELP quotemill_%s %s\n# TYPE quotemill_%s %s\n", name, help, name, type);
}

/* One or two labels beside the home's; their values are words of ours. */
static void sample(const struct metrics *m, const char *name, const char *key, const char *value, const char *key2, const char *value2,
                   uint64_t n)
{
    fprintf(m->to, "quotemill_%s{home=\"%s\"", name, m->home);
    if (key != NULL)
        fprintf(m->to, ",%s=\"%s\"", key, value);
    if (key2 != NULL)
        fprintf(m->to, ",%s=\"%s\"", key2, value2);
    fprintf(m->to, "} %llu\n", (unsigned long long)n);
}

static void gauge(const struct metrics *m, const char *name, const char *help, uint64_t n)
{
    head(m, name, "gauge", help);
    sample(m, name, NULL, NULL, NULL, NULL, n);
}

static void seconds(const struct metrics *m, const char *name, const char *help, uint64_t ms)
{
    head(m, name, "gauge", help);
    fprintf(m->to, "quotemill_%s{home=\"%s\"} %llu.%03llu\n", name, m->home, (unsigned long long)(ms / 1000), (unsigned long long)(ms % 1000));
}

/* ---- instances and alerts ---------------------------------------------------------------------------------------------- */

static void write_instances(const struct metrics *m, const struct qm_fleet_summary *s)
{
    head(m, "instances", "gauge", "Instances by status and the reason for it, as they stood when the last run had ended.");
    for (unsigned st = 0; st < QM_STANDS_COUNT; st++) {
        const char *status = qm_standing_name((enum qm_standing_status)st);
        uint64_t said = 0;
        for (unsigned r = 0; r < QM_STANDING_REASONS; r++)
            if (s->by_reason[st][r] != 0) {
                said++;
                sample(m, "instances", "status", status, "reason",
                       r == QM_REASON_NO_RECORD ? "no_record" : qm_reason_name((enum qm_reason)r), s->by_reason[st][r]);
            }
        for (unsigned c = 0; st == QM_STANDS_UNMEASURED && c < QM_SILENCE_COUNT; c++)
            if (s->by_silence[c] != 0) {
                said++;
                sample(m, "instances", "status", status, "reason", qm_silence_name((enum qm_silence)c), s->by_silence[c]);
            }
        if (said == 0)
            sample(m, "instances", "status", status, "reason", "", 0);
    }
    head(m, "trusted", "gauge", "Trusted instances by what speaks for their quotes being made recently.");
    for (unsigned i = QM_FRESH_CLOCK; i < QM_FRESH_COUNT; i++)
        sample(m, "trusted", "fresh", qm_fresh_name((enum qm_fresh)i), NULL, NULL, s->by_fresh[i]);
    gauge(m, "instances_stale", "Instances that are silent and keep the status they had: untrusted ones, and held ones.", s->stale);
    gauge(m, "instances_held", "Instances that are parked.", s->held);
}

static void write_alerts(const struct metrics *m, const struct qm_fleet_summary *s)
{
    head(m, "alerts", "gauge", "Alerts by kind that are open or ignored.");
    for (unsigned i = 0; i < QM_COUNT(s->alerts); i++) {
        const char *kind = qm_alert_kind_name((enum qm_alert_kind)i);
        if (kind == NULL)
            continue;
        sample(m, "alerts", "alert", kind, "state", "open", s->alerts[i][0]);
        sample(m, "alerts", "alert", kind, "state", "ignored", s->alerts[i][1]);
    }
    gauge(m, "alerts_unseen", "Mismatches that pass again without anybody having looked at them.", s->alerts_unseen);
    gauge(m, "enrolments_pending", "Proven keys that wait for a person to say whose they are.", s->pending);
}

/* ---- the last run ------------------------------------------------------------------------------------------------------ */

/* Members of the run record that are numbers of a thing; a name that is not among them may be anybody's, in results that were applied. */
static const struct {
    const char *key, *help;
} counted[] = {
    {"files", "Files that it read."},
    {"records", "Records that it took in."},
    {"bytes", "Bytes that it read."},
    {"learned", "Instances that learned a baseline."},
    {"opened", "Alerts that it opened."},
    {"repeated", "Alerts that were seen again."},
    {"resolved", "Alerts that it closed."},
    {"unmeasured", "Instances that became unmeasured."},
    {"quarantined", "Files that went into quarantine."},
    {"held", "Records of unknown instances that are held."},
    {"not_held", "Records of unknown instances that there was no room for."},
    {"lost", "Files, records or rows that a limit on size or age removed."},
};

struct take {
    const struct metrics *m;
    struct qm_json *json;
};

static qm_err take_member(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    const struct take *t = user;
    char name[64];
    (void)fault;
    for (size_t i = 0; item->kind == QM_JSON_INT && item->number >= 0 && i < QM_COUNT(counted); i++)
        if (qm_json_key_is(item, counted[i].key)) {
            snprintf(name, sizeof name, "last_run_%s", counted[i].key);
            gauge(t->m, name, counted[i].help, (uint64_t)item->number);
        }
    return QM_OK;
}

static qm_err take_status(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    const struct take *t = user;
    (void)fault;
    for (unsigned i = 0; item->kind == QM_JSON_INT && item->number >= 0 && i < QM_STATUS_COUNT; i++)
        if (qm_json_key_is(item, qm_status_name((enum qm_status)i)))
            sample(t->m, "last_run_results", "status", qm_status_name((enum qm_status)i), NULL, NULL, (uint64_t)item->number);
    return QM_OK;
}

static qm_err take_reason(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    const struct take *t = user;
    (void)fault;
    for (unsigned i = 0; item->kind == QM_JSON_INT && item->number >= 0 && i < QM_REASON_COUNT; i++)
        if (qm_json_key_is(item, qm_reason_name((enum qm_reason)i)))
            sample(t->m, "last_run_reasons", "reason", qm_reason_name((enum qm_reason)i), NULL, NULL, (uint64_t)item->number);
    return QM_OK;
}

static qm_err take_parts(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    const struct take *t = user;
    const bool status = qm_json_key_is(item, "by_status"), reason = qm_json_key_is(item, "by_reason");
    if (item->kind != QM_JSON_OBJECT || (!status && !reason))
        return QM_OK;
    if (status)
        head(t->m, "last_run_results", "gauge", "Results of the last run by status.");
    else
        head(t->m, "last_run_reasons", "gauge", "Results of the last run by reason.");
    return qm_json_each(t->json, QM_JSON_OBJECT, (const char *)item->text.p, item->text.len, status ? take_status : take_reason, user, fault);
}

static qm_err write_run(const struct metrics *m, const struct qm_last_run *run, struct qm_fault *fault)
{
    struct take t = {m, NULL};
    if (!run->known)
        return QM_OK;
    seconds(m, "last_run_start_timestamp_seconds", "When the last run started.", run->start_ms);
    seconds(m, "last_run_end_timestamp_seconds", "When it ended.", run->end_ms);
    seconds(m, "last_run_duration_seconds", "How long it took.", run->end_ms > run->start_ms ? run->end_ms - run->start_ms : 0);
    gauge(m, "last_run_complete", "Whether it read all there was: 0 after a signal, an I/O error or a cut stream.", run->complete);
    qm_err err = qm_json_open(&t.json, fault);
    if (err == QM_OK && run->record[0] != '\0')
        err = qm_json_each(t.json, QM_JSON_OBJECT, run->record, strlen(run->record), take_member, &t, fault);
    if (err == QM_OK && run->record[0] != '\0')
        err = qm_json_each(t.json, QM_JSON_OBJECT, run->record, strlen(run->record), take_parts, &t, fault);
    qm_json_close(t.json);
    return err;
}

/* ---- the file ---------------------------------------------------------------------------------------------------------- */

static qm_err write_all(struct metrics *m, struct qm_store *s, struct qm_fault *fault)
{
    struct qm_fleet f;
    struct qm_fleet_summary *summary;
    const struct qm_policy *policy;
    qm_err err = qm_fleet_open(&f, s, NULL, fault);
    if (err != QM_OK)
        return err;
    err = qm_store_policy(s, "", 0, &policy, fault);
    if (err == QM_OK)
        err = qm_fleet_summarize(&f, NULL, &summary, fault);
    if (err == QM_OK) {
        take_home(m, policy->name);
        head(m, "build_info", "gauge", "The version that wrote this.");
        sample(m, "build_info", "version", QM_VERSION, NULL, NULL, 1);
        write_instances(m, summary);
        write_alerts(m, summary);
        err = write_run(m, &f.last, fault);
        qm_fleet_summary_close(summary);
    }
    qm_fleet_close(&f);
    return err;
}

static qm_err default_path(char *path, size_t cap, const char *home, struct qm_fault *fault)
{
    qm_err err = qm_home_file(path, cap, home, "metrics", fault);
    if (err == QM_OK && mkdir(path, 0755) != 0 && errno != EEXIST)
        err = qm_fail(fault, QM_E_IO, errno, "cannot make %s", path);
    return err == QM_OK ? qm_home_file(path, cap, home, "metrics/quotemill.prom", fault) : err;
}

qm_err qm_metrics_write(struct qm_store *s, const char *home, const char *path, struct qm_fault *fault)
{
    char own[4096 + 64];
    struct qm_whole_file w;
    struct metrics m = {0};
    qm_err err = path == NULL ? default_path(own, sizeof own, home, fault) : QM_OK;
    if (err == QM_OK)
        err = qm_whole_open(&w, path != NULL ? path : own, 0644, fault);
    if (err != QM_OK)
        return err;
    const int fd = dup(w.fd);
    m.to = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (m.to == NULL)
        err = qm_fail(fault, QM_E_IO, errno, "cannot write %s", w.tmp);
    if (m.to == NULL && fd >= 0)
        close(fd);
    if (err == QM_OK)
        err = write_all(&m, s, fault);
    if (m.to != NULL && fclose(m.to) != 0 && err == QM_OK)
        err = qm_fail(fault, QM_E_IO, errno, "cannot write %s", w.tmp);
    if (err == QM_OK)
        err = qm_whole_finish(&w, fault);
    qm_whole_close(&w);
    return err;
}

void qm_metrics_tell(struct qm_store *s, const char *command, const char *home, const char *file)
{
    const struct qm_policy *policy;
    struct qm_fault fault = {0};
    qm_err err = QM_OK;
    if (file == NULL) {
        err = qm_store_policy(s, "", 0, &policy, &fault);
        file = err == QM_OK ? policy->metrics : NULL;
    }
    if (err == QM_OK && strcmp(file, "none") != 0)
        err = qm_metrics_write(s, home, file[0] != '\0' ? file : NULL, &fault);
    if (err != QM_OK)
        qm_complain(command, &fault);
}
