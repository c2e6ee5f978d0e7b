#include <stdio.h>

#include "tools/command.h"
#include "tools/options.h"
#include "codec/text.h"
#include "tools/store/store.h"

int qm_cmd_init(int argc, char **argv)
{
    const char *home_option = NULL;
    bool json = false;
    const struct qm_option options[] = {
        QM_HOME_OPTION(&home_option),
        {.name = "json", .kind = QM_OPT_FLAG, .to = &json, .help = "say what was made as one JSON object"},
    };
    const struct qm_usage usage = {
        "init", "", "Makes a home: the database, an empty table, the directories for spooled and recorded files.",
        "A home that is there already is left as it is.\n"};
    int first, code;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 0, 0, &first, &code))
        return code;
    const char *home = qm_home_path(home_option);
    struct qm_fault fault = {0};
    bool made;
    if (qm_store_create(home, &made, &fault) != QM_OK)
        return qm_complain("init", &fault);
    if (json) {
        char text[32768];
        struct qm_out o = qm_out_init(text, sizeof text);
        qm_out_text(&o, "{\"kind\":\"home\",\"home\":");
        qm_out_json_string(&o, (struct qm_span){(const uint8_t *)home, strlen(home)});
        qm_out_text(&o, made ? ",\"made\":true}\n" : ",\"made\":false}\n");
        fwrite(o.p, 1, o.len, stdout);
        return qm_stdout_close("init");
    }
    fprintf(stderr, made ? "quotemill init: made the home %s\n" : "quotemill init: %s is a home already\n", home);
    return QM_EXIT_OK;
}
