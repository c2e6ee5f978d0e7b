/* verify: the filter. Evidence in, results out; changes no state. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "codec/text.h"
#include "engine/pool.h"
#include "tools/command.h"
#include "tools/options.h"
#include "tools/setup.h"
#include "tools/store/store_beacon.h"

struct request {
    const char *home, *format, *crypto, *io, *files0;
    uint64_t workers, audit;
    bool stages, no_memo;
    unsigned verbose;
    char **paths;
    int path_count;
};

/* The home's newer decisions are not in this table yet: whoever looks at the results should know. */
static void warn_if_behind(struct qm_store *s, const struct qm_table *table)
{
    if (memcmp(qm_store_home_id(s), qm_table_home_id(table), QM_HOME_ID_SIZE) != 0)
        fprintf(stderr, "quotemill verify: warning: the table belongs to another home\n");
    else if (qm_store_generation(s) > qm_table_generation(table))
        fprintf(stderr, "quotemill verify: warning: the store is ahead of the table (generation %llu, the table has %llu); "
                        "enroll or run brings it up to date\n",
                (unsigned long long)qm_store_generation(s), (unsigned long long)qm_table_generation(table));
    else if (qm_table_expires_ms(table) <= qm_store_now_ms(s))
        fprintf(stderr, "quotemill verify: warning: accepted sets have ended since the table was made; enroll or run brings it up to date\n");
}

/* What only the store knows: whether the table is behind, the beacons, and what the home is called. */
static void ask_store(const char *home, const struct qm_table *table, struct qm_beacons *beacons, char name[128])
{
    const struct qm_policy *policy;
    struct qm_store *s;
    struct qm_fault fault = {0};
    if (qm_store_open(&s, home, false, &fault) != QM_OK) {
        fprintf(stderr, "quotemill verify: warning: cannot compare the table with the store: %s\n", fault.text);
        return;
    }
    warn_if_behind(s, table);
    if (qm_store_policy(s, "", 0, &policy, &fault) == QM_OK)
        snprintf(name, 128, "%s", policy->name);
    if (qm_beacons_load(s, beacons, &fault) != QM_OK)
        fprintf(stderr, "quotemill verify: warning: no beacon is known: %s\n", fault.text);
    qm_store_close(s);
}

static qm_err fill_worklist(const struct request *q, struct qm_worklist *list, struct qm_fault *fault)
{
    qm_err err = q->files0 != NULL ? qm_worklist_add_files0(list, q->files0, fault) : QM_OK;
    for (int i = 0; err == QM_OK && i < q->path_count; i++)
        err = qm_worklist_add(list, q->paths[i], fault);
    return err;
}

static void say_before(const struct request *q, const struct qm_table *table, const struct qm_run *run, enum qm_io io)
{
    if (q->verbose == 0)
        return;
    fprintf(stderr, "quotemill verify: %u worker%s, %s; table: %llu instances, %.1f MiB, generation %llu; kernels:",
            (unsigned)q->workers, q->workers == 1 ? "" : "s", io == QM_IO_URING ? "io_uring" : "plain reads",
            (unsigned long long)qm_table_instances(table),
            (double)qm_table_bytes(table) / (1 << 20), (unsigned long long)qm_table_generation(table));
    for (size_t i = 0; i < run->kernel_count; i++)
        fprintf(stderr, " %s=%s", run->kernel[i].what, run->kernel[i].name);
    fputc('\n', stderr);
}

static void say_after(const struct request *q, const struct qm_run *run, const struct qm_pipeline_stats *s)
{
    if (q->verbose == 0)
        return;
    double seconds = (double)(run->end_ms - run->start_ms) / 1000 + 1e-9;
    fprintf(stderr, "quotemill verify: memory at most %.1f MiB and the table's pages\n", (double)s->memory / (1 << 20));
    fprintf(stderr, "quotemill verify: %llu records in %.3f s (%.0f/s), %.1f MB (%.1f MB/s)\n", (unsigned long long)run->records,
            seconds, (double)run->records / seconds, (double)run->bytes / 1e6, (double)run->bytes / seconds / 1e6);
    fprintf(stderr, "quotemill verify: %llu signatures (%llu looked at twice, %llu audited), "
            "%llu PCR extends (%llu known from other logs), lanes %.1f %% full\n",
            (unsigned long long)s->verify.signatures, (unsigned long long)s->verify.signatures_rechecked,
            (unsigned long long)s->verify.signatures_audited, (unsigned long long)s->verify.extends,
            (unsigned long long)s->verify.extends_remembered,
            s->verify.lanes.steps != 0 ? 100 * (double)s->verify.lanes.filled / (double)s->verify.lanes.steps : 100.0);
}

static qm_err verify(const struct request *q, const struct qm_table *table, struct qm_worklist *list, const struct qm_beacons *beacons,
                     struct qm_run *run, int *signalled, struct qm_fault *fault)
{
    struct qm_kernels kernels;
    struct qm_pipeline_stats stats;
    struct qm_pipeline_options options = {
        .workers = (unsigned)q->workers,
        .format = strcmp(q->format, "ndjson") == 0 ? QM_FORMAT_NDJSON : QM_FORMAT_MSGPACK,
        .stages = q->stages,
        .audit = q->audit,
        .beacon = beacons->beacon,
        .beacon_count = beacons->count,
        .no_memo = q->no_memo,
        .out_fd = STDOUT_FILENO,
        .progress = isatty(STDERR_FILENO) == 1,
    };
    char id[32];
    run->start_ms = qm_now_ms();
    run->run = id;
    run->version = QM_VERSION;
    run->generation = qm_table_generation(table);
    qm_err err = qm_run_id(id, sizeof id, fault);
    if (err == QM_OK)
        err = qm_setup_io("verify", q->io, &options.io, fault);
    if (err == QM_OK)
        err = qm_setup_kernels(q->crypto, &kernels, fault);
    if (err == QM_OK)
        err = fill_worklist(q, list, fault);
    if (err != QM_OK)
        return err;
    qm_setup_name_kernels(&kernels, run);
    say_before(q, table, run, options.io);
    err = qm_pipeline_run(list, table, &kernels, &options, run, &stats, signalled, fault);
    if (err == QM_OK)
        say_after(q, run, &stats);
    return err;
}

static int exit_code(const struct qm_run *run, const struct qm_worklist *list, int signalled)
{
    if (signalled != 0) {
        fprintf(stderr, "quotemill verify: stopped by a signal after %llu records\n", (unsigned long long)run->records);
        return QM_EXIT_ENVIRONMENT;
    }
    if (qm_worklist_errors(list) != 0)
        return QM_EXIT_ENVIRONMENT;
    if (!run->complete)
        fputs("quotemill verify: standard input ended or broke inside a record: what followed is lost\n", stderr);
    return run->by_status[QM_UNTRUSTED] + run->by_status[QM_INVALID] != 0 ? QM_EXIT_FOUND : QM_EXIT_OK;
}

static int run_request(const struct request *q)
{
    struct qm_fault fault = {0};
    struct qm_table *table = NULL;
    struct qm_worklist *list = NULL;
    struct qm_run run = {0};
    struct qm_beacons beacons = {0};
    char path[4096 + 64], db[4096 + 64];
    char command[] = "verify", name[128] = "";
    int signalled = 0;
    qm_err err = qm_home_file(path, sizeof path, q->home, "fleet.tbl", &fault);
    if (err == QM_OK)
        err = qm_home_file(db, sizeof db, q->home, "fleet.db", &fault);
    if (err == QM_OK && access(db, F_OK) != 0 && access(path, F_OK) != 0)
        err = qm_fail(&fault, QM_E_IO, 0, "%s is no home; quotemill init makes one", q->home);
    if (err == QM_OK)
        err = qm_table_open(&table, path, &fault);
    if (err == QM_OK)
        err = qm_worklist_open(&list, qm_setup_report, command, &fault);
    int code = QM_EXIT_OK;
    if (err == QM_OK) {
        ask_store(q->home, table, &beacons, name);
        run.home = name;
        err = verify(q, table, list, &beacons, &run, &signalled, &fault);
    }
    if (err == QM_OK)
        code = exit_code(&run, list, signalled);
    else
        code = qm_complain("verify", &fault);
    qm_worklist_close(list);
    qm_table_close(table);
    return code;
}

int qm_cmd_verify(int argc, char **argv)
{
    static const char *const formats[] = {"msgpack", "ndjson", NULL};
    static const char *const cryptos[] = {"auto", "openssl", NULL};
    static const char *const ios[] = {"auto", "uring", "read", NULL};
    struct request q = {.format = "msgpack", .io = "auto", .workers = qm_setup_cpus(), .audit = 1024};
    const char *home = NULL;
    bool json = false;
    const struct qm_option options[] = {
        QM_HOME_OPTION(&home),
        {.name = "files0-from", .kind = QM_OPT_TEXT, .to = &q.files0, .value = "FILE",
         .help = "read NUL-separated names of files from FILE ('-': standard input); regular files only"},
        {.name = "workers", .kind = QM_OPT_COUNT, .to = &q.workers, .value = "N",
         .help = "worker threads (default: one for each CPU)", .min = 1, .max = QM_WORKERS_MAX},
        {.name = "format", .kind = QM_OPT_CHOICE, .to = &q.format, .help = "of the results (default: msgpack)", .choices = formats},
        {.name = "json", .kind = QM_OPT_FLAG, .to = &json, .help = "the same as --format ndjson"},
        {.name = "stages", .kind = QM_OPT_FLAG, .to = &q.stages, .help = "say the boot stages of trusted records too"},
        {.name = "crypto", .kind = QM_OPT_CHOICE, .to = &q.crypto,
         .help = "kernels: the fastest that run here, or OpenSSL's arithmetic (default: $QM_KERNEL, else auto)", .choices = cryptos},
        {.name = "io", .kind = QM_OPT_CHOICE, .to = &q.io, .help = "how files are read (default: auto)", .choices = ios},
        {.name = "audit", .kind = QM_OPT_COUNT, .to = &q.audit, .value = "N",
         .help = "check one in N valid signatures again with OpenSSL (default 1024; 0: none)"},
        {.name = "no-memo", .kind = QM_OPT_FLAG, .to = &q.no_memo,
         .help = "replay every log in full, also what other machines' logs had"},
        {.name = "verbose", .letter = 'v', .kind = QM_OPT_TALLY, .to = &q.verbose,
         .help = "say workers, kernels, memory and speed on standard error"},
    };
    const struct qm_usage usage = {
        "verify", "[PATH…]",
        "Checks spooled evidence against the home's table; writes one result for each record, then one for the run. Changes no state.",
        "PATH is a file, a directory (its *.mpk, recursively; symbolic links inside are not followed), or '-' for a stream of records.\n"
        "A stream has no bounds of files: after a record without an end the rest of it is lost. Feed spools that others write\n"
        "as directories or with --files0-from.\n"
        "Exit codes: 0 all trusted or new, 1 something untrusted or invalid, 3 a file could not be read.\n"};
    int first, code;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 0, -1, &first, &code))
        return code;
    q.home = qm_home_path(home);
    if (json)
        q.format = "ndjson";
    q.paths = argv + first;
    q.path_count = argc - first;
    if (q.path_count == 0 && q.files0 == NULL)
        return qm_complain_usage("verify", "nothing to verify: give a PATH, '-' or --files0-from; see quotemill verify --help");
    return run_request(&q);
}
