#include "tools/options.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/text.h"

enum { OPTIONS_MAX = 40, LONG_BASE = 256, HELP_KEY = LONG_BASE + OPTIONS_MAX, HELP_COLUMN = 26, HELP_WIDTH = 100, CHOICES_CAP = 60 };

static const char *program = "quotemill";

void qm_program_is(const char *name)
{
    program = name;
}

static void print_wrapped(const char *text)
{
    int column = HELP_COLUMN;
    for (bool first = true; *text != '\0'; first = false) {
        int word = (int)strcspn(text, " ");
        if (!first && column + 1 + word > HELP_WIDTH) {
            printf("\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        } else if (!first) {
            putchar(' ');
            column++;
        }
        printf("%.*s", word, text);
        column += word;
        text += word;
        text += strspn(text, " ");
    }
    putchar('\n');
}

/* "a|b|c" */
static const char *join_choices(const struct qm_option *o, char joined[CHOICES_CAP])
{
    joined[0] = '\0';
    for (size_t i = 0; o->choices[i] != NULL; i++) {
        size_t used = strlen(joined);
        snprintf(joined + used, CHOICES_CAP - used, "%s%s", i == 0 ? "" : "|", o->choices[i]);
    }
    return joined;
}

static void print_option(const struct qm_option *o)
{
    char head[80];
    char choices[CHOICES_CAP];
    const char *value = o->kind == QM_OPT_CHOICE ? join_choices(o, choices) : o->value;
    char letter[8] = "    ";
    if (o->letter != 0)
        snprintf(letter, sizeof letter, "-%c, ", o->letter);
    int n = snprintf(head, sizeof head, "  %s--%s%s%s", letter, o->name, value != NULL ? " " : "", value != NULL ? value : "");
    if (n >= HELP_COLUMN)
        printf("%s\n%*s", head, HELP_COLUMN, "");
    else
        printf("%-*s", HELP_COLUMN, head);
    print_wrapped(o->help);
}

static void print_help(const struct qm_usage *usage, const struct qm_option *options, size_t count)
{
    printf("Usage: %s %s [options]%s%s\n%s\n\nOptions:\n", program, usage->command, usage->operands[0] != '\0' ? " " : "",
           usage->operands, usage->summary);
    for (size_t i = 0; i < count; i++)
        print_option(&options[i]);
    print_option(&(struct qm_option){.name = "help", .letter = 'h', .kind = QM_OPT_FLAG, .help = "show this help"});
    if (usage->text != NULL)
        printf("\n%s", usage->text);
}

static bool parse_count(const struct qm_option *o, const char *text)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end != '\0' || errno != 0 || v < o->min || (o->max != 0 && v > o->max))
        return false;
    *(uint64_t *)o->to = v;
    return true;
}

static bool parse_share(const struct qm_option *o, const char *text)
{
    char *end;
    double v = strtod(text, &end);
    if (!(isdigit((unsigned char)text[0]) || text[0] == '.') || *end != '\0' || !(v >= 0 && v <= 1))
        return false;
    *(double *)o->to = v;
    return true;
}

/* False after the complaint. */
static bool take_value(const struct qm_usage *usage, const struct qm_option *o, const char *text)
{
    char choices[CHOICES_CAP];
    switch (o->kind) {
    case QM_OPT_FLAG:
        *(bool *)o->to = true;
        return true;
    case QM_OPT_TALLY:
        ++*(unsigned *)o->to;
        return true;
    case QM_OPT_TEXT:
        *(const char **)o->to = text;
        return true;
    case QM_OPT_LIST: {
        struct qm_option_list *list = o->to;
        if (list->count == list->max) {
            qm_complain_usage(usage->command, "--%s can be given %zu times", o->name, list->max);
            return false;
        }
        list->value[list->count++] = text;
        return true;
    }
    case QM_OPT_COUNT:
        if (parse_count(o, text))
            return true;
        if (o->max != 0)
            qm_complain_usage(usage->command, "--%s wants a number from %llu to %llu, not '%.64s'", o->name,
                              (unsigned long long)o->min, (unsigned long long)o->max, text);
        else
            qm_complain_usage(usage->command, "--%s wants a number of at least %llu, not '%.64s'", o->name,
                              (unsigned long long)o->min, text);
        return false;
    case QM_OPT_SHARE:
        if (parse_share(o, text))
            return true;
        qm_complain_usage(usage->command, "--%s wants a fraction from 0 to 1, not '%.64s'", o->name, text);
        return false;
    case QM_OPT_CHOICE:
        for (size_t i = 0; o->choices[i] != NULL; i++)
            if (strcmp(o->choices[i], text) == 0) {
                *(const char **)o->to = text;
                return true;
            }
        qm_complain_usage(usage->command, "--%s takes %s, not '%.64s'", o->name, join_choices(o, choices), text);
        return false;
    }
    return false;
}

/* What getopt_long did not take: optopt is 0 for a long option that is unknown or could be several, its key for one that is known. */
static int complain_option(const struct qm_usage *usage, const struct option *longs, char **argv, bool value_missing)
{
    const char *name = NULL;
    for (size_t i = 0; longs[i].name != NULL; i++)
        if (longs[i].val == optopt)
            name = longs[i].name;
    if (name != NULL && value_missing)
        return qm_complain_usage(usage->command, "--%s wants a value", name);
    if (name != NULL)
        return qm_complain_usage(usage->command, "--%s takes no value", name);
    if (optopt != 0 && value_missing)
        return qm_complain_usage(usage->command, "-%c wants a value", optopt);
    if (optopt != 0)
        return qm_complain_usage(usage->command, "there is no option -%c; see %s %s --help", optopt, program, usage->command);
    return qm_complain_usage(usage->command, "there is no option '%.64s', or several begin so; see %s %s --help",
                             argv[optind - 1], program, usage->command);
}

bool qm_options_parse(const struct qm_usage *usage, const struct qm_option *options, size_t count, int argc, char **argv,
                      int min_operands, int max_operands, int *first_operand, int *exit_code)
{
    struct option longs[OPTIONS_MAX + 2] = {{0}};
    char shorts[2 * OPTIONS_MAX + 4] = ":h"; /* ':' first: a value that is missing gives ':' */
    size_t short_len = 2;
    if (count > OPTIONS_MAX)
        abort();
    for (size_t i = 0; i < count; i++) {
        bool has_value = options[i].kind != QM_OPT_FLAG && options[i].kind != QM_OPT_TALLY;
        longs[i] = (struct option){options[i].name, has_value ? required_argument : no_argument, NULL, LONG_BASE + (int)i};
        if (options[i].letter != 0) {
            shorts[short_len++] = options[i].letter;
            if (has_value)
                shorts[short_len++] = ':';
        }
    }
    longs[count] = (struct option){"help", no_argument, NULL, HELP_KEY};
    optind = 0;
    opterr = 0; /* getopt would print what it was given as it is */
    for (int key; (key = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
        if (key == '?' || key == ':') {
            *exit_code = complain_option(usage, longs, argv, key == ':');
            return false;
        }
        if (key == HELP_KEY || key == 'h') {
            print_help(usage, options, count);
            *exit_code = qm_stdout_close(usage->command);
            return false;
        }
        size_t i = (size_t)(key - LONG_BASE);
        if (key < LONG_BASE)
            for (i = 0; options[i].letter != key; i++)
                ;
        if (!take_value(usage, &options[i], optarg)) {
            *exit_code = QM_EXIT_USAGE;
            return false;
        }
    }
    int operands = argc - optind;
    *first_operand = optind;
    *exit_code = QM_EXIT_USAGE;
    if (operands < min_operands) {
        qm_complain_usage(usage->command, "%s is missing; see %s %s --help", usage->operands, program, usage->command);
        return false;
    }
    if (max_operands >= 0 && operands > max_operands) {
        qm_complain_usage(usage->command, "too many operands, beginning with '%.64s'", argv[optind + max_operands]);
        return false;
    }
    *exit_code = QM_EXIT_OK;
    return true;
}

const char *qm_home_path(const char *option)
{
    if (option != NULL)
        return option;
    const char *env = getenv("QUOTEMILL_HOME");
    return env != NULL && env[0] != '\0' ? env : "/var/lib/quotemill";
}

bool qm_tag_read(const char *text, char *key, size_t cap, const char **value)
{
    const char *equals = strchr(text, '=');
    const size_t len = equals != NULL ? (size_t)(equals - text) : 0;
    if (len == 0 || len >= cap)
        return false;
    memcpy(key, text, len);
    key[len] = '\0';
    *value = equals + 1;
    return true;
}

bool qm_reason_ok(const char *text)
{
    const struct qm_span s = {(const uint8_t *)text, strlen(text)};
    uint32_t code;
    if (s.len == 0 || s.len > QM_REASON_BYTES_MAX || !qm_utf8_ok(s))
        return false;
    for (size_t i = 0; i < s.len; i += qm_utf8_read(s.p + i, s.len - i, &code))
        if (qm_utf8_read(s.p + i, s.len - i, &code) == 0 || code < 0x20 || (code >= 0x7f && code < 0xa0))
            return false;
    return true;
}

/* One line, whatever the user or the environment put into it. */
static void print_line(const char *command, const char *text)
{
    char line[2048];
    struct qm_out o = qm_out_init(line, sizeof line - 1);
    qm_out_line(&o, (struct qm_span){(const uint8_t *)text, strlen(text)});
    line[o.len] = '\0';
    fprintf(stderr, "%s%s%s: %s\n", program, command[0] != '\0' ? " " : "", command, line);
}

int qm_complain(const char *command, const struct qm_fault *fault)
{
    print_line(command, fault->text[0] != '\0' ? fault->text : qm_err_text(fault->err));
    return qm_err_exit(fault->err);
}

int qm_complain_usage(const char *command, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    print_line(command, text);
    return QM_EXIT_USAGE;
}

int qm_stdout_close(const char *command)
{
    const int sys = fflush(stdout) != 0 ? errno : 0; /* of an earlier write nobody kept the reason */
    if (sys == 0 && !ferror(stdout))
        return QM_EXIT_OK;
    fprintf(stderr, "%s %s: cannot write %s standard output%s%s\n", program, command, sys != 0 ? "to" : "all of it to", sys != 0 ? ": " : "",
            sys != 0 ? strerrordesc_np(sys) : "");
    return QM_EXIT_ENVIRONMENT;
}

void qm_standard_descriptors_hold(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
            exit(QM_EXIT_ENVIRONMENT);
}
