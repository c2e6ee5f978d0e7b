/* quotemill-collect: the machine's side. Finds the command and runs it. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tools/collect/collect.h"
#include "tools/collect/tpm_link.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"init", qm_collect_init, "makes an attestation key, or takes one over, and proposes this machine"},
    {"propose", qm_collect_propose, "prints the proposal again"},
    {"activate", qm_collect_activate, "answers a challenge of quotemill enroll --challenge"},
    {"certificate", qm_collect_certificate, "writes certificates that the TPM holds"},
    {"once", qm_collect_once, "measures, and delivers one evidence record"},
    {"doctor", qm_collect_doctor, "what keeps this machine from being measured, and what to do"},
};

static int help(void)
{
    puts("Usage: quotemill-collect COMMAND [options]\n"
         "The machine's side of quotemill: quotes its TPM, and delivers what quotemill run verifies.\n\nCommands:");
    for (size_t i = 0; i < QM_COUNT(commands); i++)
        printf("  %-12s%s\n", commands[i].name, commands[i].summary);
    puts("\n'quotemill-collect COMMAND --help' tells more. --version shows the version.\n"
         "Exit codes: 0 done, 1 refused, or measured and not delivered yet, 2 usage, 3 the environment failed, 75 busy.");
    return qm_stdout_close("help");
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        fputs("quotemill-collect: a command is missing; see quotemill-collect --help\n", stderr);
        return QM_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0)
        return help();
    if (strcmp(argv[1], "--version") == 0) {
        puts("quotemill-collect " QM_VERSION);
        return qm_stdout_close("--version");
    }
    for (size_t i = 0; i < QM_COUNT(commands); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    return qm_complain_usage("", "no command '%.64s'; see quotemill-collect --help", argv[1]);
}

int main(int argc, char **argv)
{
    qm_standard_descriptors_hold();
    qm_program_is("quotemill-collect");
    /* The libraries below write what they think of each answer to standard error; what matters comes back as an error. */
    setenv("TSS2_LOG", "all+none", 1);
    const int code = run(argc, argv);
    if (qm_tpm_abandoned()) {
        fflush(NULL);
        _exit(code); /* a thread still waits for the TPM */
    }
    return code;
}
