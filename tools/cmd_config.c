/* config: policies of the home and of its groups. */
#include <stdio.h>

#include "codec/emit.h"
#include "tools/command.h"
#include "tools/options.h"
#include "tools/show.h"
#include "tools/store/store_config.h"

static const char command[] = "config";

struct ask {
    const char *home, *group, *key, *value;
    bool json, to_default, lists;
    bool found; /* the key that was asked for */
    struct qm_store *store;
    qm_err err; /* of a visit */
    struct qm_fault *fault;
};

/* Whose doing a value is. */
struct doer {
    char who[64];
    uint64_t since_ms; /* 0: nobody's, it is the default */
};

static void show_json(const struct ask *a, const char *key, const char *value, const char *from, const struct doer *by)
{
    char text[4096];
    struct qm_out o = qm_out_init(text, sizeof text);
    struct qm_emit e = qm_emit_init(&o, true);
    const struct {
        const char *key, *value;
    } fields[] = {{"key", key}, {"value", value}, {"from", from}};
    qm_emit_map(&e);
    qm_emit_key(&e, "kind");
    qm_emit_name(&e, "policy");
    qm_emit_key(&e, "group");
    if (a->group[0] != '\0')
        qm_emit_text(&e, (struct qm_span){(const uint8_t *)a->group, strlen(a->group)});
    else
        qm_emit_null(&e);
    for (size_t i = 0; i < QM_COUNT(fields); i++) {
        qm_emit_key(&e, fields[i].key);
        qm_emit_text(&e, (struct qm_span){(const uint8_t *)fields[i].value, strlen(fields[i].value)});
    }
    if (by->since_ms != 0) {
        qm_emit_key(&e, "who");
        qm_emit_text(&e, (struct qm_span){(const uint8_t *)by->who, strlen(by->who)});
        qm_emit_key(&e, "since");
        qm_emit_u64(&e, by->since_ms);
    }
    qm_emit_end(&e);
    qm_out_char(&o, '\n');
    fwrite(o.p, 1, o.len, stdout);
}

/* get: the value alone. list: all, or the one that is asked for, with where it is from and what it means. */
static void visit(void *ctx, const char *key, const char *value, const char *from, const char *help)
{
    struct ask *a = ctx;
    struct doer by;
    char when[QM_AGE_MAX];
    if (a->key != NULL && strcmp(a->key, key) != 0)
        return;
    a->found = true;
    if (a->err == QM_OK)
        a->err = qm_store_config_set_by(a->store, strcmp(from, "group") == 0 ? a->group : "", key, by.who, &by.since_ms, a->fault);
    if (a->err != QM_OK)
        return;
    if (a->json) {
        show_json(a, key, value, from, &by);
        return;
    }
    const struct qm_show show = qm_show_init(stdout);
    const struct qm_span text = {(const uint8_t *)value, strlen(value)};
    if (!a->lists) {
        qm_show_text(&show, text, 0);
        putchar('\n');
        return;
    }
    printf("%-19s", key);
    qm_show_text(&show, text, qm_show_width(text) > 12 ? 0 : 12);
    printf(" %-8s %s", from, help);
    if (by.since_ms != 0) {
        printf("; set %s by ", qm_moment(when, by.since_ms));
        qm_show_text(&show, (struct qm_span){(const uint8_t *)by.who, strlen(by.who)}, 0);
    }
    putchar('\n');
}

static qm_err look(struct ask *a, struct qm_store *s, struct qm_fault *fault)
{
    a->store = s;
    a->fault = fault;
    qm_err err = qm_store_config_each(s, a->group, visit, a, fault);
    if (err == QM_OK)
        err = a->err;
    if (err == QM_OK && a->key != NULL && !a->found)
        return qm_fail(fault, QM_E_USAGE, 0, "there is no policy '%.64s'%s; see quotemill config list", a->key,
                       a->group[0] != '\0' ? " of a group" : "");
    return err;
}

static qm_err set(const struct ask *a, struct qm_store *s, struct qm_fault *fault)
{
    bool built;
    qm_err err = qm_store_begin(s, fault);
    if (err == QM_OK)
        err = qm_store_config_set(s, a->group, a->key, a->to_default ? NULL : a->value, fault);
    if (err == QM_OK && a->group[0] != '\0' && !a->to_default)
        qm_group_tell(s, command, a->group);
    if (err == QM_OK)
        err = qm_store_commit(s, fault);
    return err == QM_OK ? qm_store_publish(s, &built, fault) : err;
}

static int run(struct ask *a, bool sets)
{
    struct qm_store *s = NULL;
    struct qm_fault fault = {0};
    qm_err err = qm_store_open(&s, qm_home_path(a->home), sets, &fault);
    if (err == QM_OK)
        err = sets ? set(a, s, &fault) : look(a, s, &fault);
    qm_store_close(s);
    if (err == QM_E_REFUSED)
        fault.err = QM_E_USAGE; /* nothing was found wrong with the fleet */
    int code = err == QM_OK ? QM_EXIT_OK : qm_complain(command, &fault);
    int flushed = qm_stdout_close(command);
    return flushed != QM_EXIT_OK ? flushed : code;
}

int qm_cmd_config(int argc, char **argv)
{
    struct ask a = {.group = ""};
    const struct qm_option options[] = {
        QM_HOME_OPTION(&a.home),
        {.name = "group",
         .kind = QM_OPT_TEXT,
         .to = &a.group,
         .value = "GROUP",
         .help = "of this group's machines, instead of the home"},
        {.name = "default",
         .kind = QM_OPT_FLAG,
         .to = &a.to_default,
         .help = "set: back to the default, a group's to the home's"},
        {.name = "json", .kind = QM_OPT_FLAG, .to = &a.json, .help = "get, list: one object a line"},
    };
    const struct qm_usage usage = {command, "get|set|list [KEY [VALUE]]",
                                   "Policies, of the home and of its groups, which have the home's where they have no own.",
                                   "list says what each means. Times are 90s, 15m, 6h, 7d, 2w, sizes 64M, 10G; off is none. "
                                   "Who set what and when is kept, and said.\n"};
    int first, code;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 1, 3, &first, &code))
        return code;
    const int count = argc - first - 1;
    char **rest = argv + first + 1;
    const char *verb = argv[first];
    a.key = count >= 1 ? rest[0] : NULL;
    a.value = count >= 2 ? rest[1] : NULL;
    a.lists = strcmp(verb, "list") == 0;
    if (a.lists && count <= 1)
        return run(&a, false);
    if (strcmp(verb, "get") == 0 && count == 1)
        return run(&a, false);
    if (strcmp(verb, "set") == 0 && count == (a.to_default ? 1 : 2))
        return run(&a, true);
    return qm_complain_usage(command,
                             "it takes 'get KEY', 'set KEY VALUE', 'set --default KEY' or 'list [KEY]'; see quotemill config --help");
}
