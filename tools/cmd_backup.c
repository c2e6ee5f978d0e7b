/* quotemill backup, quotemill restore: the home in one file, and back. */
#include <stdio.h>
#include <unistd.h>

#include "codec/emit.h"
#include "tools/command.h"
#include "tools/commit.h"
#include "tools/options.h"
#include "tools/show.h"
#include "tools/store/store_backup.h"

static void say_json(const char *kind, const char *file, const struct qm_backup *b)
{
    char line[32768];
    struct qm_out o = qm_out_init(line, sizeof line);
    struct qm_emit e = qm_emit_init(&o, true);
    qm_emit_map(&e);
    qm_emit_key(&e, "kind");
    qm_emit_name(&e, kind);
    qm_emit_key(&e, "file");
    qm_emit_text(&e, (struct qm_span){(const uint8_t *)file, strnlen(file, 4096)});
    qm_emit_key(&e, "instances");
    qm_emit_u64(&e, b->instances);
    qm_emit_key(&e, "generation");
    qm_emit_u64(&e, b->generation);
    qm_emit_key(&e, "bytes");
    qm_emit_u64(&e, b->bytes);
    qm_emit_key(&e, "made");
    if (b->made_ms != 0)
        qm_emit_u64(&e, b->made_ms);
    else
        qm_emit_null(&e);
    qm_emit_end(&e);
    qm_out_char(&o, '\n');
    fwrite(o.p, 1, o.len, stdout);
}

int qm_cmd_backup(int argc, char **argv)
{
    const char *home_option = NULL;
    bool json = false;
    const struct qm_option options[] = {
        QM_HOME_OPTION(&home_option),
        {.name = "json", .kind = QM_OPT_FLAG, .to = &json, .help = "say what was written as one JSON object"},
    };
    static const struct qm_usage usage = {
        "backup", "FILE", "Copies the home's store and ledger, as they are at one moment, into one file.",
        "Runs go on meanwhile. FILE is replaced when the copy is whole and synced. It holds keys, baselines, alerts and history, not the\n"
        "table (restore makes it), nor spool, results, quarantine and held evidence.\n"};
    int first, code;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 1, 1, &first, &code))
        return code;
    struct qm_store *s;
    struct qm_backup b;
    struct qm_fault fault = {0};
    qm_err err = qm_store_open(&s, qm_home_path(home_option), false, &fault);
    if (err == QM_OK)
        err = qm_store_backup(s, argv[first], &b, &fault);
    qm_store_close(s);
    if (err != QM_OK)
        return qm_complain("backup", &fault);
    if (json)
        say_json("backup", argv[first], &b);
    else
        fprintf(stderr, "quotemill backup: %llu instances, generation %llu, %llu bytes\n", (unsigned long long)b.instances,
                (unsigned long long)b.generation, (unsigned long long)b.bytes);
    return qm_stdout_close("backup");
}

static void say_restored(const struct qm_backup *b)
{
    char when[QM_AGE_MAX];
    fprintf(stderr, "quotemill restore: %llu instances, generation %llu", (unsigned long long)b->instances, (unsigned long long)b->generation);
    if (b->made_ms != 0)
        fprintf(stderr, ", as of %s", qm_moment(when, b->made_ms));
    fputs("; what machines sent since then is forgotten, and would be taken for new if it were sent again\n", stderr);
}

int qm_cmd_restore(int argc, char **argv)
{
    const char *home_option = NULL;
    bool json = false, force = false;
    const struct qm_option options[] = {
        QM_HOME_OPTION(&home_option),
        {.name = "force", .kind = QM_OPT_FLAG, .to = &force,
         .help = "also over a store that has instances; one that is damaged is put aside"},
        {.name = "json", .kind = QM_OPT_FLAG, .to = &json, .help = "say what was restored as one JSON object"},
    };
    static const struct qm_usage usage = {
        "restore", "FILE", "Puts a backup in the place of the home's store and ledger, and publishes the table.",
        "The backup is checked first. The home is made where there is none; one that a run holds is refused with exit code 75. The next\n"
        "run says what could be replayed.\n"};
    int first, code, lock = -1;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 1, 1, &first, &code))
        return code;
    const char *home = qm_home_path(home_option);
    struct qm_backup b;
    struct qm_fault fault = {0};
    bool made;
    qm_err err = qm_backup_check(argv[first], &b, &fault); /* before a home is made for it */
    if (err == QM_OK)
        err = qm_store_create(home, &made, &fault);
    if (err == QM_OK)
        err = qm_run_lock(home, &lock, &fault);
    if (err == QM_OK)
        err = qm_store_restore(home, argv[first], force, &b, &fault);
    if (lock >= 0)
        close(lock);
    if (err != QM_OK)
        return qm_complain("restore", &fault);
    if (json)
        say_json("restore", argv[first], &b);
    else
        say_restored(&b);
    return qm_stdout_close("restore");
}
