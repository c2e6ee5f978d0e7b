/* quotemill: finds the command and runs it. */
#include <stdio.h>
#include <string.h>

#include "codec/error.h"
#include "tools/command.h"
#include "tools/options.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"init", qm_cmd_init, "makes the home"},
    {"enroll", qm_cmd_enroll, "adds or updates instances"},
    {"verify", qm_cmd_verify, "evidence in, results out; changes no state"},
    {"run", qm_cmd_run, "the cron job: verifies the spool, records it, alerts, removes what was recorded"},
    {"apply", qm_cmd_apply, "feeds results of verify into the home, as a run would"},
    {"status", qm_cmd_status, "the fleet at a glance, or one machine stage by stage"},
    {"doctor", qm_cmd_doctor, "checks the home, and says what to do"},
    {"backup", qm_cmd_backup, "copies the home's store into a file"},
    {"restore", qm_cmd_restore, "puts a backup in its place"},
    {"alerts", qm_cmd_alerts, "what is wrong with the fleet, and decisions about it"},
    {"baseline", qm_cmd_baseline, "accepted values: shown, given, ended, exchanged"},
    {"config", qm_cmd_config, "policies of the home and of its groups"},
    {"hold", qm_cmd_hold, "parks machines that may be silent"},
    {"retire", qm_cmd_retire, "takes machines out"},
    {"beacon", qm_cmd_beacon, "the fleet's freshness beacon"},
    {"spool", qm_cmd_spool, "one record from standard input, checked, delivered whole"},
    {"gen", qm_cmd_gen, "make a synthetic fleet, and measure it again"},
    {"log", qm_cmd_log, "an event log decoded, with its replayed PCRs"},
    {"cpu", qm_cmd_cpu, "kernels found, chosen, and why"},
};

static int help(void)
{
    puts("Usage: quotemill COMMAND [options]\n"
         "Checks the boot integrity of a fleet: TPM 2.0 quotes in, one verdict a record out.\n\nCommands:");
    for (size_t i = 0; i < QM_COUNT(commands); i++)
        printf("  %-10s%s\n", commands[i].name, commands[i].summary);
    puts("\n'quotemill COMMAND --help' tells more. --version shows the version.\n"
         "Exit codes: 0 nothing wrong, 1 something is, 2 usage, 3 the environment failed, 4 self-test failed, 75 busy.");
    return qm_stdout_close("help");
}

int main(int argc, char **argv)
{
    qm_standard_descriptors_hold();
    if (argc < 2) {
        fputs("quotemill: a command is missing; see quotemill --help\n", stderr);
        return QM_EXIT_USAGE;
    }
    const bool helps = strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0;
    if (helps && argc == 2)
        return help();
    if (strcmp(argv[1], "--version") == 0) {
        puts("quotemill " QM_VERSION);
        return qm_stdout_close("--version");
    }
    /* "help COMMAND" is "COMMAND --help" */
    char *const name = argv[helps ? 2 : 1];
    char *asked[] = {name, (char[]){"--help"}, NULL};
    for (size_t i = 0; i < QM_COUNT(commands); i++)
        if (strcmp(name, commands[i].name) == 0 && commands[i].run != NULL)
            return helps ? commands[i].run(2, asked) : commands[i].run(argc - 1, argv + 1);
    return qm_complain_usage("", "no command '%.64s'; see quotemill --help", name);
}
