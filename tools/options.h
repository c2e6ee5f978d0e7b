/* One table for each command drives parsing (getopt_long) and help. Options and operands mix freely; "--" ends options.
 * --help is added to every command. */
#ifndef QM_OPTIONS_H
#define QM_OPTIONS_H

#include "codec/base.h"
#include "codec/error.h"

enum qm_option_kind {
    QM_OPT_FLAG,   /* to: bool *, set true */
    QM_OPT_TEXT,   /* to: const char ** */
    QM_OPT_COUNT,  /* to: uint64_t *, decimal, between min and max (max 0: no limit) */
    QM_OPT_SHARE,  /* to: double *, 0 to 1 */
    QM_OPT_CHOICE, /* to: const char **, one of choices (NULL-terminated) */
    QM_OPT_TALLY,  /* to: unsigned *, counts its uses (-v -v) */
    QM_OPT_LIST,   /* to: struct qm_option_list *, may be given again */
};

struct qm_option_list {
    const char **value; /* room for max */
    size_t count, max;
};

struct qm_option {
    const char *name; /* without the dashes */
    char letter;      /* 0: none */
    enum qm_option_kind kind;
    void *to;
    const char *value; /* how the help names the value, for example "N"; NULL for flags */
    const char *help;
    const char *const *choices;
    uint64_t min, max;
};

struct qm_usage {
    const char *command;  /* "verify" */
    const char *operands; /* "[PATH…]" */
    const char *summary;  /* one line */
    const char *text;     /* what else the help says, ends with a newline; may be NULL */
};

/* Whose commands they are, in help and complaints; static text. Not called: quotemill's. */
void qm_program_is(const char *name);

/* First thing in main. A standard descriptor that came closed would become the next file that is opened, a database among them. It is
 * taken here, the wrong way round, so that what reads or writes it fails. */
void qm_standard_descriptors_hold(void);

/* Parses argv (argv[0] is the command's name). True: go on, operands are argv[*first_operand .. argc). False: *exit_code is
 * what to end with (0 after --help, 2 after one line on stderr). min_operands/max_operands are checked (max -1: any). */
bool qm_options_parse(const struct qm_usage *usage, const struct qm_option *options, size_t count, int argc, char **argv,
                      int min_operands, int max_operands, int *first_operand, int *exit_code);

/* --home DIR, else QUOTEMILL_HOME, else /var/lib/quotemill. */
const char *qm_home_path(const char *option);

/* "KEY=VALUE": the key into key, *value into text. False: it is none, or the key does not fit. */
bool qm_tag_read(const char *text, char *key, size_t cap, const char **value);
/* What a person says for what is done: UTF-8 on one line. */
enum { QM_REASON_BYTES_MAX = 500 };
bool qm_reason_ok(const char *text);

/* "quotemill COMMAND: text", one line on stderr whatever is in the text, and the exit code for the fault. */
int qm_complain(const char *command, const struct qm_fault *fault);
/* The same for a usage error; gives QM_EXIT_USAGE. An empty command: the program's own. */
int qm_complain_usage(const char *command, const char *format, ...) QM_PRINTF(2, 3);
/* Flushes stdout and says whether everything arrived: 0, or QM_EXIT_ENVIRONMENT after one line on stderr. */
int qm_stdout_close(const char *command);

#define QM_HOME_OPTION(to_) \
    {.name = "home", .kind = QM_OPT_TEXT, .to = (to_), .value = "DIR", \
     .help = "the fleet's home (else $QUOTEMILL_HOME, else /var/lib/quotemill)"}

#endif
