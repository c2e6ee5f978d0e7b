/* quotemill doctor: is the home healthy, and what is to be done where it is not? */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "codec/emit.h"
#include "engine/table.h"
#include "tools/command.h"
#include "tools/options.h"
#include "tools/show.h"
#include "tools/store_health.h"
#include "tools/store_status.h"

struct doctor {
    const char *home;
    bool json;
    struct qm_show show;
    uint64_t count[3]; /* by enum qm_health */
};

static struct qm_span span(const char *text)
{
    return (struct qm_span){(const uint8_t *)text, strlen(text)};
}

static void found(void *ctx, const char *check, enum qm_health health, const char *text, const char *todo)
{
    static const char *const word[] = {"pass", "warn", "FAIL"}, *const name[] = {"pass", "warn", "fail"};
    static const enum qm_colour colour[] = {QM_GREEN, QM_YELLOW, QM_RED};
    struct doctor *d = ctx;
    char line[16384];
    struct qm_out o = qm_out_init(line, sizeof line);
    d->count[health]++;
    if (d->json) {
        struct qm_emit e = qm_emit_init(&o, true);
        qm_emit_map(&e);
        qm_emit_key(&e, "check");
        qm_emit_text(&e, span(check));
        qm_emit_key(&e, "state");
        qm_emit_name(&e, name[health]);
        qm_emit_key(&e, "text");
        qm_emit_text(&e, span(text));
        qm_emit_key(&e, "do");
        if (todo != NULL)
            qm_emit_text(&e, span(todo));
        else
            qm_emit_null(&e);
        qm_emit_end(&e);
    } else {
        qm_show_circle(&d->show, colour[health]);
        qm_show_word(&d->show, colour[health], word[health], 5);
        printf(" %-12s ", check);
        qm_out_line(&o, span(text));
        if (todo != NULL) {
            qm_out_text(&o, "; ");
            qm_out_line(&o, span(todo));
        }
    }
    qm_out_char(&o, '\n');
    fwrite(o.p, 1, o.len, stdout);
}

static void say(struct doctor *d, const char *check, enum qm_health health, const char *todo, const char *format, ...) QM_PRINTF(5, 6);
static void say(struct doctor *d, const char *check, enum qm_health health, const char *todo, const char *format, ...)
{
    char text[600];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    found(d, check, health, text, todo);
}

/* ---- what the store says of runs and policies -------------------------------------------------------------------------- */

static void check_runs(struct doctor *d, const struct qm_fleet *f)
{
    static const char check[] = "last run";
    static const char start_it[] = "start the timer: systemctl enable --now quotemill.timer, or see the line for cron";
    char age[QM_AGE_MAX];
    if (!f->last.known)
        say(d, check, QM_HEALTH_WARN, start_it, "nothing was ever run in this home");
    else if (qm_fleet_verifier_stopped(f))
        say(d, check, QM_HEALTH_FAIL, start_it, "the last run ended %s", qm_ago(age, f->now_ms, f->last.end_ms));
    else if (!f->last.complete)
        say(d, check, QM_HEALTH_WARN, "look at what it said on standard error", "it ended %s, and was not complete",
            qm_ago(age, f->now_ms, f->last.end_ms));
    else
        say(d, check, QM_HEALTH_PASS, NULL, "it ended %s", qm_ago(age, f->now_ms, f->last.end_ms));
}

static qm_err check_freshness(struct doctor *d, struct qm_fleet *f, struct qm_fault *fault)
{
    const struct qm_policy *p;
    uint64_t by_clock = 0;
    for (size_t i = 0; i < f->scope_count; i++) {
        qm_err err = qm_store_policy(f->store, f->scope[i].name, strlen(f->scope[i].name), &p, fault);
        if (err != QM_OK)
            return err;
        by_clock += p->freshness == QM_FRESHNESS_CLOCK;
    }
    if (by_clock != 0)
        say(d, "freshness", QM_HEALTH_WARN, "demand a beacon where machines can fetch one: quotemill config set freshness beacon",
            "the policy clock does not stop quotes made in advance (the home, or a group: %llu of %zu)", (unsigned long long)by_clock,
            f->scope_count);
    else
        say(d, "freshness", QM_HEALTH_PASS, NULL, "every group demands a beacon");
    return QM_OK;
}

/* ---- the table --------------------------------------------------------------------------------------------------------- */

static void check_table(struct doctor *d, struct qm_store *s)
{
    static const char check[] = "table", rebuild[] = "quotemill enroll /dev/null makes it anew";
    char path[4096];
    struct qm_table *t;
    struct qm_fault fault = {0};
    if (qm_home_file(path, sizeof path, d->home, "fleet.tbl", &fault) != QM_OK || qm_table_open(&t, path, &fault) != QM_OK) {
        say(d, check, QM_HEALTH_FAIL, rebuild, "%s", fault.text);
        return;
    }
    if (qm_table_check(t, &fault) != QM_OK)
        say(d, check, QM_HEALTH_FAIL, rebuild, "%s", fault.text);
    else if (s != NULL && memcmp(qm_table_home_id(t), qm_store_home_id(s), QM_HOME_ID_SIZE) != 0)
        say(d, check, QM_HEALTH_FAIL, rebuild, "it belongs to another home");
    else if (s != NULL && qm_table_generation(t) != qm_store_generation(s))
        say(d, check, QM_HEALTH_WARN, rebuild, "it is of generation %llu, the store of %llu", (unsigned long long)qm_table_generation(t),
            (unsigned long long)qm_store_generation(s));
    else
        say(d, check, QM_HEALTH_PASS, NULL, "every block is sound: %llu instances, generation %llu",
            (unsigned long long)qm_table_instances(t), (unsigned long long)qm_table_generation(t));
    qm_table_close(t);
}

static void check_store(struct doctor *d)
{
    struct qm_store *s;
    struct qm_fleet f = {0};
    struct qm_fault fault = {0};
    if (qm_store_open(&s, d->home, false, &fault) != QM_OK) {
        say(d, "store", QM_HEALTH_FAIL, "a newer program where it is of a newer one; else quotemill restore --force FILE", "%s", fault.text);
        check_table(d, NULL);
        return;
    }
    qm_err err = qm_store_check(s, found, d, &fault);
    check_table(d, s);
    if (err == QM_OK)
        err = qm_fleet_open(&f, s, NULL, &fault);
    if (err == QM_OK) {
        say(d, "schema", QM_HEALTH_PASS, NULL, "%d", QM_STORE_SCHEMA);
        qm_home_check_clock(f.now_ms, f.last.end_ms, found, d);
        check_runs(d, &f);
        err = check_freshness(d, &f, &fault);
    }
    if (err != QM_OK)
        say(d, "store", QM_HEALTH_FAIL, "quotemill restore --force FILE", "%s", fault.text);
    qm_fleet_close(&f);
    qm_store_close(s);
}

int qm_cmd_doctor(int argc, char **argv)
{
    const char *home_option = NULL;
    struct doctor d = {.show = qm_show_init(stdout)};
    const struct qm_option options[] = {
        QM_HOME_OPTION(&home_option),
        {.name = "json", .kind = QM_OPT_FLAG, .to = &d.json, .help = "one JSON object for each finding"},
    };
    static const struct qm_usage usage = {
        "doctor", "", "Checks the home: who may read and write, disk, clock, kernel, table, store, runs, policies; says what to do.",
        "All of the store and of the table is read. Changes nothing.\n"
        "Exit codes: 0 nothing failed, 1 something did, 3 there is no home.\n"};
    int first, code;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 0, 0, &first, &code))
        return code;
    d.home = qm_home_path(home_option);
    if (access(d.home, F_OK) != 0) {
        struct qm_fault fault = {0};
        qm_fail(&fault, QM_E_IO, errno, "%s", d.home);
        return qm_complain("doctor", &fault);
    }
    qm_home_check_modes(d.home, found, &d);
    qm_home_check_disk(d.home, found, &d);
    qm_home_check_kernel(found, &d);
    check_store(&d);
    code = qm_stdout_close("doctor");
    return code != QM_EXIT_OK ? code : d.count[QM_HEALTH_FAIL] != 0 ? QM_EXIT_FOUND : QM_EXIT_OK;
}
