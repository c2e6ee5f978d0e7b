/* quotemill status: the fleet at a glance, or one machine stage by stage. */
#include <stdlib.h>

#include "tools/command.h"
#include "tools/fleet_show.h"
#include "tools/options.h"
#include "tools/store/store_status.h"

static const char command[] = "status";

struct ask {
    const char *home, *tag, *group, *id;
    bool json, events;
    uint64_t limit;
    char tag_key[256];
    struct qm_fleet_filter filter;
};

/* --tag k=v, or k alone. */
static bool take_tag(struct ask *a)
{
    const char *equals = strchr(a->tag, '=');
    const size_t len = equals != NULL ? (size_t)(equals - a->tag) : strlen(a->tag);
    if (len == 0 || len >= sizeof a->tag_key)
        return false;
    memcpy(a->tag_key, a->tag, len);
    a->tag_key[len] = '\0';
    a->filter.tag_key = a->tag_key;
    a->filter.tag_value = equals != NULL ? equals + 1 : NULL;
    return true;
}

/* Something is untrusted, invalid or unmeasured. */
static int verdict(const uint64_t by_status[QM_STANDS_COUNT])
{
    return by_status[QM_STANDS_UNTRUSTED] + by_status[QM_STANDS_INVALID] + by_status[QM_STANDS_UNMEASURED] != 0 ? QM_EXIT_FOUND
                                                                                                               : QM_EXIT_OK;
}

static qm_err show_one(const struct ask *a, struct qm_fleet *f, const struct qm_show *show, int *code, struct qm_fault *fault)
{
    struct qm_one_ask one = {f, show, a->json, a->events, {0}};
    bool found;
    qm_err err = qm_fleet_id(f, a->id, strlen(a->id), qm_one_show, &one, &found, fault);
    if (err == QM_OK && !found)
        err = qm_fleet_unknown(f, a->id, fault);
    if (err == QM_OK && a->json)
        qm_summary_json(f, 1, one.by_status, NULL);
    *code = verdict(one.by_status);
    return err;
}

static qm_err show_fleet(const struct ask *a, struct qm_fleet *f, const struct qm_show *show, int *code, struct qm_fault *fault)
{
    const bool filtered = a->filter.group != NULL || a->filter.tag_key != NULL;
    struct qm_fleet_summary *s;
    struct qm_one_ask each = {f, show, true, false, {0}};
    qm_err err = qm_fleet_summarize(f, filtered ? &a->filter : NULL, &s, fault);
    if (err != QM_OK)
        return err;
    if (a->json) {
        err = qm_fleet_each(f, &a->filter, qm_each_json, &each, fault);
        if (err == QM_OK)
            qm_summary_json(f, s->instances, s->by_status, s);
    } else {
        err = qm_summary_show(f, s, &a->filter, a->limit, show, fault);
    }
    *code = verdict(s->by_status);
    qm_fleet_summary_close(s);
    return err;
}

static int answer(const struct ask *a)
{
    struct qm_store *s;
    struct qm_fleet f = {0};
    struct qm_fault fault = {0};
    const struct qm_show show = qm_show_init(stdout);
    int code = QM_EXIT_OK;
    qm_err err = qm_store_open(&s, qm_home_path(a->home), false, &fault);
    if (err == QM_OK)
        err = qm_fleet_open(&f, s, NULL, &fault);
    if (err == QM_OK && a->filter.group != NULL && !qm_fleet_has_group(&f, a->filter.group))
        err = qm_fail(&fault, QM_E_USAGE, 0, "there is no group '%.128s'", a->filter.group);
    if (err == QM_OK)
        err = a->id != NULL ? show_one(a, &f, &show, &code, &fault) : show_fleet(a, &f, &show, &code, &fault);
    qm_fleet_close(&f);
    qm_store_close(s);
    if (err != QM_OK)
        code = qm_complain(command, &fault);
    const int flushed = qm_stdout_close(command);
    return flushed != QM_EXIT_OK ? flushed : code;
}

int qm_cmd_status(int argc, char **argv)
{
    struct ask a = {.limit = 20};
    const struct qm_option options[] = {
        QM_HOME_OPTION(&a.home),
        {.name = "group", .kind = QM_OPT_TEXT, .to = &a.group, .value = "G", .help = "only machines of this group"},
        {.name = "tag", .kind = QM_OPT_TEXT, .to = &a.tag, .value = "K=V",
         .help = "only machines with this tag; K alone: count by the tag's values"},
        {.name = "limit", .kind = QM_OPT_COUNT, .to = &a.limit, .value = "N", .max = QM_FLEET_LISTED_MAX,
         .help = "list at most N machines of each status that is not trusted (default 20)"},
        {.name = "events", .kind = QM_OPT_FLAG, .to = &a.events, .help = "with an ID: the events behind each boot stage, where a log was kept"},
        {.name = "json", .kind = QM_OPT_FLAG, .to = &a.json, .help = "one JSON object for each machine, then one for the summary"},
    };
    static const struct qm_usage usage = {
        command, "[ID]", "Shows the fleet at a glance, or one machine with its boot stages.",
        "Status: trusted, untrusted, unmeasured (nothing authentic came for unmeasured_after, and it is not held), invalid (only\n"
        "refused records ever came), new. It is worked out when it is read, by the clock of this machine.\n"
        "Exit codes: 0 all is well, 1 a machine is untrusted, invalid or unmeasured.\n"};
    int first, code;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 0, 1, &first, &code))
        return code;
    a.id = first < argc ? argv[first] : NULL;
    a.filter.group = a.group;
    if (a.id != NULL && (a.group != NULL || a.tag != NULL))
        return qm_complain_usage(command, "an ID, or --group and --tag, not both");
    if (a.id == NULL && a.events)
        return qm_complain_usage(command, "--events goes with an ID");
    if (a.tag != NULL && !take_tag(&a))
        return qm_complain_usage(command, "--tag wants KEY=VALUE or KEY, not '%.64s'", a.tag);
    return answer(&a);
}
