/* quotemill doctor: is the home healthy, and what is to be done where it is not? */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "engine/table.h"
#include "tools/command.h"
#include "tools/finding.h"
#include "tools/options.h"
#include "tools/store/store_beacon.h"
#include "tools/store/store_health.h"
#include "tools/store/store_status.h"

/* ---- what the store says of runs and policies -------------------------------------------------------------------------- */

static void check_runs(struct qm_doctor *d, const struct qm_fleet *f)
{
    static const char check[] = "last run";
    static const char start_it[] = "start the timer: systemctl enable --now quotemill.timer, or see the line for cron";
    char age[QM_AGE_MAX];
    if (!f->last.known)
        qm_doctor_say(d, check, QM_HEALTH_WARN, start_it, "nothing was ever run in this home");
    else if (qm_fleet_verifier_stopped(f))
        qm_doctor_say(d, check, QM_HEALTH_FAIL, start_it, "the last run ended %s", qm_ago(age, f->now_ms, f->last.end_ms));
    else if (!f->last.complete)
        qm_doctor_say(d, check, QM_HEALTH_WARN, "look at what it said on standard error", "it ended %s, and was not complete",
            qm_ago(age, f->now_ms, f->last.end_ms));
    else
        qm_doctor_say(d, check, QM_HEALTH_PASS, NULL, "it ended %s", qm_ago(age, f->now_ms, f->last.end_ms));
}

/* Where a beacon is demanded: one that is missing makes every record stale, and one that is not made anew soon will be. */
static qm_err check_beacon(struct qm_doctor *d, struct qm_fleet *f, bool everywhere, struct qm_fault *fault)
{
    static const char check[] = "freshness", start_it[] = "systemctl enable --now quotemill-beacon.timer, or see the line for cron";
    struct qm_beacon_row row[QM_BEACONS_MAX];
    const struct qm_policy *p;
    char age[QM_AGE_MAX];
    unsigned count;
    qm_err err = qm_beacons_live(f->store, row, &count, fault);
    if (err == QM_OK)
        err = qm_store_policy(f->store, "", 0, &p, fault);
    if (err != QM_OK)
        return err;
    if (count == 0)
        qm_doctor_say(d, check, QM_HEALTH_FAIL, start_it, "a beacon is demanded, and none is live: every record is stale");
    else if (f->now_ms > row[0].since_ms + 2 * p->beacon_period_ms)
        qm_doctor_say(d, check, QM_HEALTH_FAIL, start_it, "a beacon is demanded, and the newest was made %s: it is to be rotated every beacon_period",
            qm_ago(age, f->now_ms, row[0].since_ms));
    else
        qm_doctor_say(d, check, QM_HEALTH_PASS, NULL, "%s demands a beacon; the newest was made %s", everywhere ? "every group" : "a group",
            qm_ago(age, f->now_ms, row[0].since_ms));
    return QM_OK;
}

static qm_err check_freshness(struct qm_doctor *d, struct qm_fleet *f, struct qm_fault *fault)
{
    const struct qm_policy *p;
    uint64_t by_clock = 0, by_beacon = 0;
    for (size_t i = 0; i < f->scope_count; i++) {
        qm_err err = qm_store_policy(f->store, f->scope[i].name, strlen(f->scope[i].name), &p, fault);
        if (err != QM_OK)
            return err;
        by_clock += p->freshness == QM_FRESHNESS_CLOCK;
        by_beacon += p->freshness == QM_FRESHNESS_BEACON;
    }
    if (by_clock != 0)
        qm_doctor_say(d, "freshness", QM_HEALTH_WARN, "demand a beacon where machines can fetch one: quotemill config set freshness beacon",
            "the policy clock does not stop quotes made in advance (the home, or a group: %llu of %zu)", (unsigned long long)by_clock,
            f->scope_count);
    return by_beacon != 0 ? check_beacon(d, f, by_clock == 0, fault) : QM_OK;
}

/* ---- the table --------------------------------------------------------------------------------------------------------- */

static void check_table(struct qm_doctor *d, const char *home, struct qm_store *s)
{
    static const char check[] = "table", rebuild[] = "quotemill enroll /dev/null makes it anew";
    char path[4096];
    struct qm_table *t;
    struct qm_fault fault = {0};
    if (qm_home_file(path, sizeof path, home, "fleet.tbl", &fault) != QM_OK || qm_table_open(&t, path, &fault) != QM_OK) {
        qm_doctor_say(d, check, QM_HEALTH_FAIL, rebuild, "%s", fault.text);
        return;
    }
    if (qm_table_check(t, &fault) != QM_OK)
        qm_doctor_say(d, check, QM_HEALTH_FAIL, rebuild, "%s", fault.text);
    else if (s != NULL && memcmp(qm_table_home_id(t), qm_store_home_id(s), QM_HOME_ID_SIZE) != 0)
        qm_doctor_say(d, check, QM_HEALTH_FAIL, rebuild, "it belongs to another home");
    else if (s != NULL && qm_table_generation(t) != qm_store_generation(s))
        qm_doctor_say(d, check, QM_HEALTH_WARN, rebuild, "it is of generation %llu, the store of %llu", (unsigned long long)qm_table_generation(t),
            (unsigned long long)qm_store_generation(s));
    else
        qm_doctor_say(d, check, QM_HEALTH_PASS, NULL, "every block is sound: %llu instances, generation %llu",
            (unsigned long long)qm_table_instances(t), (unsigned long long)qm_table_generation(t));
    qm_table_close(t);
}

static void check_store(struct qm_doctor *d, const char *home)
{
    struct qm_store *s;
    struct qm_fleet f = {0};
    struct qm_fault fault = {0};
    if (qm_store_open(&s, home, false, &fault) != QM_OK) {
        qm_doctor_say(d, "store", QM_HEALTH_FAIL, "a newer program where it is of a newer one; else quotemill restore --force FILE", "%s",
            fault.text);
        check_table(d, home, NULL);
        return;
    }
    qm_err err = qm_store_check(s, qm_doctor_found, d, &fault);
    check_table(d, home, s);
    if (err == QM_OK)
        err = qm_fleet_open(&f, s, NULL, &fault);
    if (err == QM_OK) {
        qm_doctor_say(d, "schema", QM_HEALTH_PASS, NULL, "%d", QM_STORE_SCHEMA);
        qm_home_check_clock(f.now_ms, f.last.end_ms, qm_doctor_found, d);
        check_runs(d, &f);
        err = check_freshness(d, &f, &fault);
    }
    if (err != QM_OK)
        qm_doctor_say(d, "store", QM_HEALTH_FAIL, "quotemill restore --force FILE", "%s", fault.text);
    qm_fleet_close(&f);
    qm_store_close(s);
}

/* Is there none, or another directory? Then nothing is to be advised about it: a home has lost its store, at most, and not its table too. */
static qm_err find_home(const char *home, struct qm_fault *fault)
{
    static const char *const parts[] = {"fleet.db", "fleet.tbl"};
    char path[4096 + 64];
    bool found = false;
    if (access(home, F_OK) != 0 && errno != ENOENT)
        return qm_fail(fault, QM_E_IO, errno, "%s", home);
    for (size_t i = 0; i < QM_COUNT(parts); i++) {
        qm_err err = qm_home_file(path, sizeof path, home, parts[i], fault);
        if (err != QM_OK)
            return err;
        found = found || access(path, F_OK) == 0 || (errno != ENOENT && errno != ENOTDIR);
    }
    return found ? QM_OK : qm_fail(fault, QM_E_IO, 0, "%s is no home; quotemill init makes one", home);
}

int qm_cmd_doctor(int argc, char **argv)
{
    const char *home_option = NULL;
    struct qm_doctor d = {.show = qm_show_init(stdout)};
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
    const char *home = qm_home_path(home_option);
    struct qm_fault fault = {0};
    if (find_home(home, &fault) != QM_OK)
        return qm_complain("doctor", &fault);
    qm_home_check_modes(home, qm_doctor_found, &d);
    qm_home_check_disk(home, qm_doctor_found, &d);
    qm_home_check_kernel(qm_doctor_found, &d);
    check_store(&d, home);
    return qm_doctor_close(&d);
}
