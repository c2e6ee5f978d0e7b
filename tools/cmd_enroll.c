/* enroll: lines of enrolments into the store, then the table. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "codec/emit.h"
#include "tools/command.h"
#include "tools/options.h"
#include "tools/store.h"

struct job {
    struct qm_store *store;
    struct qm_json *json;
    struct qm_enrolment *enrolment;
    struct qm_enroll_options options;
    uint64_t lines, taken_new, taken_changed, keys_replaced, same, refused;
    bool progress;
};

static void complain_line(const char *file, uint64_t line, const char *why)
{
    char shown[1024];
    struct qm_out o = qm_out_init(shown, sizeof shown - 1);
    qm_out_shown(&o, (struct qm_span){(const uint8_t *)file, strlen(file)});
    shown[o.len] = '\0';
    fprintf(stderr, "quotemill enroll: %s: line %llu: refused: %s\n", strcmp(file, "-") == 0 ? "standard input" : shown,
            (unsigned long long)line, why);
}

/* One line without its end. QM_E_REFUSED with the reason. */
static qm_err take_line(struct job *j, const char *line, size_t len, struct qm_fault *fault)
{
    uint8_t digest[32];
    bool known;
    enum qm_enrolled what;
    qm_hash_one(QM_HASH_SHA256, (struct qm_span){(const uint8_t *)line, len}, digest);
    /* The id alone first: a line that is known needs no key parsed. */
    qm_err err = qm_enrolment_id(j->json, line, len, j->enrolment, fault);
    if (err == QM_OK)
        err = qm_store_line_known(j->store, j->enrolment, digest, &known, fault);
    if (err != QM_OK)
        return err;
    if (known) {
        j->same++;
        return QM_OK;
    }
    err = qm_enrolment_read(j->json, line, len, j->enrolment, fault);
    if (err == QM_OK)
        err = qm_store_enroll(j->store, j->enrolment, digest, &j->options, &what, fault);
    if (err != QM_OK)
        return err;
    j->taken_new += what == QM_ENROLLED_NEW;
    j->taken_changed += what == QM_ENROLLED_CHANGED;
    j->keys_replaced += what == QM_ENROLLED_KEY_REPLACED;
    return QM_OK;
}

static bool blank(const char *line, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
            return false;
    return true;
}

/* One file, a bounded buffer at a time: a line over QM_LINE_MAX is refused and skipped. */
static qm_err take_file(struct job *j, const char *name, struct qm_fault *fault)
{
    FILE *in = strcmp(name, "-") == 0 ? stdin : fopen(name, "re");
    if (in == NULL)
        return qm_fail(fault, QM_E_IO, errno, "cannot open %s", name);
    char *line = malloc(QM_LINE_MAX + 2);
    qm_err err = line != NULL ? QM_OK : qm_fail(fault, QM_E_NOMEM, 0, "no memory for a line");
    uint64_t number = 0;
    for (bool more = true; err == QM_OK && more;) {
        size_t len = 0;
        bool any = false;
        int c;
        while ((c = getc_unlocked(in)) != EOF && c != '\n') {
            any = true;
            if (len <= QM_LINE_MAX)
                line[len++] = (char)c;
        }
        more = c != EOF;
        number++;
        if ((!any && !more) || (len <= QM_LINE_MAX && blank(line, len)))
            continue;
        if (len != 0 && line[len - 1] == '\r')
            len--;
        j->lines++;
        struct qm_fault why = {0};
        if (len > QM_LINE_MAX)
            err = qm_fail(&why, QM_E_REFUSED, 0, "longer than %d bytes", QM_LINE_MAX);
        else
            err = take_line(j, line, len, &why);
        if (err == QM_E_REFUSED) {
            j->refused++;
            complain_line(name, number, why.text);
            err = QM_OK;
        } else if (err != QM_OK && fault != NULL) {
            *fault = why;
        }
        if (j->progress && j->lines % 4096 == 0)
            fprintf(stderr, "\r%llu lines\033[K", (unsigned long long)j->lines);
    }
    if (err == QM_OK && ferror(in))
        err = qm_fail(fault, QM_E_IO, errno, "cannot read %s", name);
    if (j->progress)
        fputs("\r\033[K", stderr);
    free(line);
    if (in != stdin)
        fclose(in);
    return err;
}

static void say(const struct job *j, uint64_t instances, uint64_t shared, bool json)
{
    if (json) {
        char text[1024];
        struct qm_out o = qm_out_init(text, sizeof text);
        struct qm_emit e = qm_emit_init(&o, true);
        const struct {
            const char *key;
            uint64_t value;
        } numbers[] = {{"lines", j->lines},     {"new", j->taken_new},       {"changed", j->taken_changed}, {"keys_replaced", j->keys_replaced},
                       {"unchanged", j->same},  {"refused", j->refused},     {"instances", instances},      {"shared_keys", shared},
                       {"generation", qm_store_generation(j->store)}};
        qm_emit_map(&e);
        qm_emit_key(&e, "kind");
        qm_emit_name(&e, "enrolled");
        for (size_t i = 0; i < QM_COUNT(numbers); i++) {
            qm_emit_key(&e, numbers[i].key);
            qm_emit_u64(&e, numbers[i].value);
        }
        qm_emit_end(&e);
        qm_out_char(&o, '\n');
        fwrite(o.p, 1, o.len, stdout);
        return;
    }
    fprintf(stderr,
            "quotemill enroll: %llu lines: %llu new, %llu changed, %llu keys replaced, %llu unchanged, %llu refused; %llu instances\n",
            (unsigned long long)j->lines, (unsigned long long)j->taken_new, (unsigned long long)j->taken_changed,
            (unsigned long long)j->keys_replaced, (unsigned long long)j->same, (unsigned long long)j->refused,
            (unsigned long long)instances);
    if (shared != 0)
        fprintf(stderr, "quotemill enroll: %llu instances share their AK with another id (--unique-keys refuses that)\n",
                (unsigned long long)shared);
}

static qm_err take_all(struct job *j, char **files, int count, uint64_t *instances, uint64_t *shared, struct qm_fault *fault)
{
    qm_err err = qm_store_begin(j->store, fault);
    for (int i = 0; err == QM_OK && i < count; i++)
        err = take_file(j, files[i], fault);
    if (err == QM_OK)
        err = qm_store_count(j->store, instances, fault);
    if (err == QM_OK)
        err = qm_store_shared_keys(j->store, shared, fault);
    if (err == QM_OK)
        err = qm_store_commit(j->store, fault);
    bool built;
    return err == QM_OK ? qm_store_publish(j->store, &built, fault) : err;
}

int qm_cmd_enroll(int argc, char **argv)
{
    const char *home_option = NULL;
    bool json = false;
    struct job j = {0};
    const struct qm_option options[] = {
        QM_HOME_OPTION(&home_option),
        {.name = "replace-key", .kind = QM_OPT_FLAG, .to = &j.options.replace_key,
         .help = "let a line give an enrolled id another AK; who did it and when is kept"},
        {.name = "unique-keys", .kind = QM_OPT_FLAG, .to = &j.options.unique_keys, .help = "refuse an AK that another id has already"},
        {.name = "json", .kind = QM_OPT_FLAG, .to = &json, .help = "say the counts as one JSON object on standard output"},
    };
    const struct qm_usage usage = {
        "enroll", "FILE…", "Adds or updates instances from files of NDJSON, one enrolment a line; '-' is standard input.",
        "A bad line is named with its number and the reason, and the others are taken; then the exit code is 1.\n"
        "A line equal to the last one taken for its id changes nothing. The table is published before the command ends.\n"};
    int first, code;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 1, -1, &first, &code))
        return code;
    struct qm_fault fault = {0};
    uint64_t instances = 0, shared = 0;
    j.progress = isatty(STDERR_FILENO) == 1;
    j.enrolment = aligned_alloc(QM_CACHE_LINE, qm_align_up(sizeof *j.enrolment, QM_CACHE_LINE));
    qm_err err = j.enrolment != NULL ? QM_OK : qm_fail(&fault, QM_E_NOMEM, 0, "no memory");
    if (err == QM_OK)
        err = qm_store_open(&j.store, qm_home_path(home_option), true, &fault);
    if (err == QM_OK)
        err = qm_json_open(&j.json, &fault);
    if (err == QM_OK)
        err = take_all(&j, argv + first, argc - first, &instances, &shared, &fault);
    code = j.refused != 0 ? QM_EXIT_FOUND : QM_EXIT_OK;
    if (err == QM_OK)
        say(&j, instances, shared, json);
    else
        code = qm_complain("enroll", &fault);
    qm_json_close(j.json);
    qm_store_close(j.store);
    free(j.enrolment);
    int flushed = qm_stdout_close("enroll");
    return flushed != QM_EXIT_OK ? flushed : code;
}
