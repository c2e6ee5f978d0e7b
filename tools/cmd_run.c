/* run: the cron job. Takes the spool in, judges it, records it in one transaction, then removes what was recorded. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/pool.h"
#include "tools/command.h"
#include "tools/commit.h"
#include "tools/framing.h"
#include "tools/metrics.h"
#include "tools/on_alert.h"
#include "tools/options.h"
#include "tools/setup.h"
#include "tools/spool/spool.h"
#include "tools/store/store_beacon.h"
#include "tools/store/store_run.h"

struct request {
    const char *home, *archive, *results, *crypto, *io, *exit, *on_alert, *metrics;
    uint64_t workers, audit, max_seconds, max_results;
    unsigned verbose;
    bool json, syslog;
    char **spools;
    int spool_count;
};

/* What a run holds; opened from top to bottom, closed the other way round. */
struct night {
    const struct request *q;
    char id[32], table_path[4096 + 64];
    int lock;
    struct qm_store *store;
    struct qm_table *table;
    struct qm_beacons beacons;
    struct qm_kernels kernels;
    struct qm_worklist *list;
    struct qm_spool *spool;
    struct qm_events_missing missing;
    struct qm_outcomes *outcomes[QM_WORKERS_MAX];
    _Atomic uint64_t found; /* what the outcomes count for */
    _Atomic bool enough;
    struct qm_event_keep *kept[QM_WORKERS_MAX];
    unsigned opened;
    struct qm_run run;
    struct qm_pipeline_stats stats;
    struct qm_judgment judgment;
    enum qm_commit_end end;
    struct qm_retention retention;
    char home_name[128];
    uint64_t forgotten;
    int signalled;
};

/* ---- in the workers ------------------------------------------------------------------------------------------------------ */

static qm_err take_results(void *ctx, unsigned worker, const struct qm_record *records, const struct qm_result *results, size_t count,
                           struct qm_fault *fault)
{
    struct night *n = ctx;
    uint64_t weight = 0;
    qm_err err = QM_OK;
    for (size_t i = 0; err == QM_OK && i < count; i++) {
        const struct qm_record *rec = &records[i];
        qm_event_keep_take(n->kept[worker], rec, &results[i]);
        if (rec->bad_file != NULL)
            qm_spool_quarantine(n->spool, (const char *)rec->source.p, rec->bad_file);
        if (results[i].reason == QM_UNKNOWN_INSTANCE)
            qm_spool_hold(n->spool, rec->evidence.id, rec->evidence.record);
        err = qm_outcomes_add(n->outcomes[worker], &results[i], fault);
        weight += qm_result_weight(results[i].source);
    }
    if (atomic_fetch_add(&n->found, weight) + weight >= n->q->max_results && n->q->max_results != 0)
        atomic_store(&n->enough, true);
    return err;
}

/* Names of sources are the worklist's, so the pointer says which. */
static const char *source_of(void *ctx, struct qm_span source)
{
    return qm_spool_source(ctx, (const char *)source.p);
}

/* ---- the run, step by step ------------------------------------------------------------------------------------------------ */

static qm_err open_home(struct night *n, struct qm_fault *fault)
{
    bool built;
    qm_err err = qm_home_file(n->table_path, sizeof n->table_path, n->q->home, "fleet.tbl", fault);
    if (err == QM_OK)
        err = qm_store_open(&n->store, n->q->home, true, fault);
    if (err == QM_OK)
        err = qm_run_lock(n->q->home, &n->lock, fault);
    if (err == QM_OK)
        err = qm_commit_prepare(n->store, &n->forgotten, fault);
    if (err == QM_OK)
        qm_store_defer_checkpoint(n->store);
    if (err == QM_OK)
        err = qm_beacons_load(n->store, &n->beacons, fault);
    if (err == QM_OK)
        err = qm_store_publish(n->store, &built, fault); /* a table of another version, or behind the store */
    if (err == QM_OK)
        err = qm_table_open(&n->table, n->table_path, fault);
    if (err == QM_OK)
        err = qm_run_id(n->id, sizeof n->id, fault);
    const struct qm_policy *policy;
    if (err == QM_OK)
        err = qm_store_policy(n->store, "", 0, &policy, fault);
    if (err == QM_OK)
        snprintf(n->home_name, sizeof n->home_name, "%s", policy->name);
    n->run.run = n->id;
    n->run.version = QM_VERSION;
    n->run.home = n->home_name;
    n->run.start_ms = qm_now_ms();
    n->run.generation = n->table != NULL ? qm_table_generation(n->table) : 0;
    return err;
}

static qm_err was_committed(void *ctx, const char *run, bool *committed, struct qm_fault *fault)
{
    return qm_store_run_settled(ctx, run, committed, fault);
}

static bool is_enrolled(void *ctx, struct qm_span id)
{
    uint64_t slot = 0;
    return qm_store_slot(ctx, id, &slot, NULL) == QM_OK && slot != 0;
}

static qm_err open_spool(struct night *n, struct qm_fault *fault)
{
    static char command[] = "run";
    const struct qm_spool_past past = {.committed = was_committed, .ctx = n->store};
    qm_err err = qm_worklist_open(&n->list, qm_setup_report, command, fault);
    if (err == QM_OK)
        err = qm_spool_open(&n->spool, n->q->home, n->id, qm_setup_report, command, fault);
    if (err == QM_OK && n->q->spool_count == 0)
        err = qm_spool_add(n->spool, NULL, fault);
    for (int i = 0; err == QM_OK && i < n->q->spool_count; i++)
        err = qm_spool_add(n->spool, n->q->spools[i], fault);
    if (err == QM_OK && n->q->archive != NULL)
        err = qm_spool_archive(n->spool, n->q->archive, fault);
    if (err == QM_OK)
        err = qm_spool_recover(n->spool, &past, fault);
    if (err == QM_OK)
        err = qm_commit_recover(n->store, n->q->home, qm_setup_report, command, fault);
    if (err == QM_OK)
        err = qm_spool_take(n->spool, n->list, is_enrolled, n->store, fault);
    const uint64_t others = err == QM_OK ? qm_spool_others(n->spool) : 0;
    if (others != 0)
        fprintf(stderr, "quotemill run: %llu %s\n", (unsigned long long)others,
                others == 1 ? "name in the spool is no *.mpk file and stays" : "names in the spool are no *.mpk files and stay");
    return err;
}

static qm_err open_workers(struct night *n, struct qm_fault *fault)
{
    qm_err err = qm_store_events_missing(n->store, &n->missing, fault);
    while (err == QM_OK && n->opened < n->q->workers) {
        err = qm_outcomes_open(&n->outcomes[n->opened], QM_OUTCOME_BORROW, fault);
        if (err == QM_OK)
            err = qm_event_keep_open(&n->kept[n->opened], &n->missing, QM_EVENT_KEEP_BYTES, fault);
        n->opened++;
    }
    return err;
}

static qm_err verify(struct night *n, struct qm_fault *fault)
{
    struct timespec deadline;
    struct qm_pipeline_options options = {
        .workers = (unsigned)n->q->workers,
        .audit = n->q->audit,
        .beacon = n->beacons.beacon,
        .beacon_count = n->beacons.count,
        .out_fd = -1,
        .sink = take_results,
        .sink_ctx = n,
        .enough = &n->enough,
        .progress = isatty(STDERR_FILENO) == 1,
    };
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += (time_t)n->q->max_seconds;
    if (n->q->max_seconds != 0)
        options.deadline = &deadline;
    qm_err err = qm_setup_io("run", n->q->io, &options.io, fault);
    if (err == QM_OK)
        err = qm_setup_kernels(n->q->crypto, &n->kernels, fault);
    if (err != QM_OK)
        return err;
    qm_setup_name_kernels(&n->kernels, &n->run);
    return qm_pipeline_run(n->list, n->table, &n->kernels, &options, &n->run, &n->stats, &n->signalled, fault);
}

/* Files that broke while they were read go back to the spool and are read again: what they said so far does not count. */
static void drop_unread(struct night *n)
{
    for (unsigned i = 0; i < n->opened && qm_worklist_errors(n->list) != 0; i++) {
        struct qm_outcome_cursor at = {NULL, 0};
        for (struct qm_result *r; (r = qm_outcomes_next(n->outcomes[i], &at)) != NULL;)
            if (!qm_spool_recorded(n->spool, n->list, (const char *)r->source.p)) {
                qm_outcomes_drop(n->outcomes[i], r);
                n->run.records--;
            }
    }
}

static qm_err spool_synced(void *spool, struct qm_fault *fault)
{
    return qm_spool_synced(spool, fault);
}

static qm_err record(struct night *n, struct qm_fault *fault)
{
    struct qm_commit_options options = {.command = "run",
                                        .home = n->q->home,
                                        .results = n->q->results,
                                        .source_of = source_of,
                                        .source_ctx = n->spool,
                                        .kept = n->kept,
                                        .kept_count = n->opened,
                                        .missing = &n->missing,
                                        .retention = &n->retention,
                                        .ready = spool_synced,
                                        .ready_ctx = n->spool};
    const struct qm_policy *policy;
    uint64_t bytes;
    qm_err err = qm_spool_commit(n->spool, n->list, fault);
    if (err == QM_OK)
        err = qm_store_policy(n->store, "", 0, &policy, fault);
    if (err == QM_OK)
        err = qm_retention_plan(&n->retention, n->q->home, n->q->archive, n->id, policy, qm_now_ms(), fault);
    if (err != QM_OK)
        return err;
    drop_unread(n);
    options.forgotten = n->forgotten;
    options.quarantined = qm_spool_quarantined(n->spool);
    options.held = qm_spool_held(n->spool);
    options.not_held = qm_spool_not_held(n->spool, &bytes);
    return err == QM_OK ? qm_commit(n->store, n->outcomes, n->opened, &n->run, &options, &n->judgment, &n->end, fault) : err;
}

/* What a run that is recorded still does, each in a thread of its own. */
struct aside {
    void (*work)(struct night *n);
    struct night *n;
};

static qm_err do_aside(void *arg, struct qm_fault *fault)
{
    const struct aside *a = arg;
    (void)fault; /* they report by themselves, where it is worth it */
    a->work(a->n);
    return QM_OK;
}

static void finish_spool(struct night *n)
{
    qm_spool_finish(n->spool);
}

/* The store's log into its file, by a connection of its own. */
static void copy_log(struct night *n)
{
    struct qm_store *s;
    struct qm_fault ignored = {0}; /* a later commit does it */
    if (qm_store_open(&s, n->q->home, true, &ignored) != QM_OK)
        return;
    qm_store_defer_checkpoint(s);
    qm_store_checkpoint(s);
    qm_store_close(s);
}

/* Recorded: the spool lets go of its files, the store's log is copied, and beside that the table is made, as far as it must be, and
 * the numbers of the run are written. */
static qm_err settle(struct night *n, bool publish, struct qm_fault *fault)
{
    struct aside aside[] = {{finish_spool, n}, {copy_log, n}};
    void *arg[] = {&aside[0], &aside[1]};
    struct qm_pool *pool;
    _Atomic bool stop = false;
    bool built;
    const bool beside = qm_pool_start(&pool, QM_COUNT(aside), do_aside, arg, &stop, NULL) == QM_OK;
    if (!beside)
        finish_spool(n); /* what a thread that did start has done of it is not done again */
    qm_err err = publish ? qm_store_publish(n->store, &built, fault) : QM_OK;
    if (err == QM_OK)
        qm_metrics_tell(n->store, "run", n->q->home, n->q->metrics);
    qm_err finished = beside ? qm_pool_join(pool, err == QM_OK ? fault : NULL) : QM_OK;
    return err != QM_OK ? err : finished;
}

static qm_err whole_run(struct night *n, bool *recorded, struct qm_fault *fault)
{
    qm_err err = open_home(n, fault);
    if (err == QM_OK)
        err = open_spool(n, fault);
    if (err == QM_OK)
        err = open_workers(n, fault);
    if (err == QM_OK)
        err = verify(n, fault);
    if (err == QM_OK)
        err = record(n, fault);
    *recorded = n->end == QM_COMMIT_DONE;
    if (n->spool != NULL && n->end == QM_COMMIT_NOTHING)
        qm_spool_abandon(n->spool);
    if (!*recorded)
        return err;
    qm_err settled = settle(n, err == QM_OK, err == QM_OK ? fault : NULL);
    return err != QM_OK ? err : settled;
}

/* ---- what it says --------------------------------------------------------------------------------------------------------- */

static void say(const struct night *n)
{
    const struct qm_run *r = &n->run;
    const struct qm_judgment *j = &n->judgment;
    char text[8192];
    if (n->q->json) {
        struct qm_out o = qm_out_init(text, sizeof text);
        qm_run_write(&o, r, QM_FORMAT_NDJSON);
        fwrite(o.p, 1, o.len, stdout);
    }
    if (n->q->verbose == 0 && isatty(STDERR_FILENO) != 1)
        return;
    fprintf(stderr, "quotemill run: %s: %llu records of %llu files", n->id, (unsigned long long)r->records, (unsigned long long)r->files);
    const char *between = ": ";
    for (unsigned i = 0; i < QM_STATUS_COUNT; i++)
        if (r->by_status[i] != 0) {
            fprintf(stderr, "%s%llu %s", between, (unsigned long long)r->by_status[i], qm_status_name((enum qm_status)i));
            between = ", ";
        }
    fprintf(stderr, "; alerts: %llu opened, %llu repeated, %llu resolved; %llu learned; %llu became unmeasured\n",
            (unsigned long long)j->opened, (unsigned long long)j->repeated, (unsigned long long)j->resolved,
            (unsigned long long)j->learned, (unsigned long long)j->unmeasured);
    if (j->retired != 0)
        fprintf(stderr, "quotemill run: %llu machines were taken out, silent for longer than retire_after\n", (unsigned long long)j->retired);
}

static int exit_code(const struct night *n)
{
    const struct qm_run *r = &n->run;
    const struct qm_judgment *j = &n->judgment;
    if (n->signalled != 0)
        fputs("quotemill run: stopped by a signal; what was read is recorded, the rest stays in the spool\n", stderr);
    if (atomic_load(&n->enough) && !r->complete)
        fputs("quotemill run: stopped after as many results as --max-results allows; the rest stays in the spool\n", stderr);
    if (j->clock_behind)
        fputs("quotemill run: the system's clock is behind the end of the last run; no machine was called unmeasured\n", stderr);
    if (n->signalled != 0 || j->clock_behind || qm_worklist_errors(n->list) + qm_spool_errors(n->spool) != 0)
        return QM_EXIT_ENVIRONMENT;
    if (strcmp(n->q->exit, "new") == 0)
        return j->opened != 0 ? QM_EXIT_FOUND : QM_EXIT_OK;
    return r->by_status[QM_UNTRUSTED] + r->by_status[QM_INVALID] + j->unmeasured != 0 ? QM_EXIT_FOUND : QM_EXIT_OK;
}

static void close_all(struct night *n)
{
    for (unsigned i = 0; i < n->opened; i++) {
        qm_outcomes_close(n->outcomes[i]);
        qm_event_keep_close(n->kept[i]);
    }
    qm_events_missing_free(&n->missing);
    qm_retention_close(&n->retention);
    qm_spool_close(n->spool);
    qm_worklist_close(n->list);
    qm_table_close(n->table);
    qm_store_close(n->store);
    if (n->lock >= 0)
        close(n->lock);
}

/* What cannot fail a run that is recorded. The lock is free when the operator's command runs: it may take its time. */
static void tell(struct night *n)
{
    const struct qm_tell tell = {.command = "run",
                                 .home = n->q->home,
                                 .on_alert = n->q->on_alert,
                                 .syslog = n->q->syslog,
                                 .metrics = "none", /* they are written */
                                 .after_no = n->judgment.alerts_before};
    struct qm_fault fault = {0};
    if (qm_retention_apply(&n->retention, &fault) != QM_OK)
        fprintf(stderr, "quotemill run: warning: %s\n", fault.text);
    close(n->lock);
    n->lock = -1;
    qm_alerts_tell(n->store, &tell);
}

static int run_request(const struct request *q)
{
    struct qm_fault fault = {0};
    struct night *n = calloc(1, sizeof *n);
    bool recorded = false;
    if (n == NULL) {
        qm_fail(&fault, QM_E_NOMEM, 0, "no memory for the run");
        return qm_complain("run", &fault);
    }
    n->q = q;
    n->lock = -1;
    qm_err err = whole_run(n, &recorded, &fault);
    if (recorded) {
        tell(n);
        say(n);
    }
    int code = err == QM_OK ? exit_code(n) : qm_complain("run", &fault);
    if (n->end == QM_COMMIT_UNKNOWN)
        fputs("quotemill run: the disk does not say whether that is recorded; files and results stay as they are until the next run knows\n",
              stderr);
    if (qm_stdout_close("run") != QM_EXIT_OK && code <= QM_EXIT_FOUND)
        code = QM_EXIT_ENVIRONMENT;
    close_all(n);
    free(n);
    return code;
}

int qm_cmd_run(int argc, char **argv)
{
    static const char *const cryptos[] = {"auto", "openssl", NULL};
    static const char *const ios[] = {"auto", "uring", "read", NULL};
    static const char *const exits[] = {"found", "new", NULL};
    struct request q = {.io = "auto", .exit = "found", .workers = qm_setup_cpus(), .audit = 1024, .max_results = QM_FILE_RESULTS_MAX};
    const char *home = NULL;
    const struct qm_option options[] = {
        QM_HOME_OPTION(&home),
        {.name = "archive", .kind = QM_OPT_TEXT, .to = &q.archive, .value = "DIR",
         .help = "move recorded files there instead of removing them"},
        {.name = "results", .kind = QM_OPT_TEXT, .to = &q.results, .value = "FILE",
         .help = "where the results go: a file, '-' for standard output, 'none' (default: HOME/results/RUN.mpk)"},
        {.name = "max-seconds", .kind = QM_OPT_COUNT, .to = &q.max_seconds, .value = "N",
         .help = "stop reading after that time; the rest stays for the next run (default 0: never)"},
        {.name = "max-results", .kind = QM_OPT_COUNT, .to = &q.max_results, .value = "N",
         .help = "stop reading after about so many results, which are kept in memory, 300 bytes each (default 4194304; 0: never)"},
        {.name = "exit", .kind = QM_OPT_CHOICE, .to = &q.exit,
         .help = "when to exit with 1: anything was found (default), or only when the run opened an alert", .choices = exits},
        QM_TELL_OPTIONS(&q.on_alert, &q.syslog),
        {.name = "workers", .kind = QM_OPT_COUNT, .to = &q.workers, .value = "N",
         .help = "worker threads (default: one for each CPU)", .min = 1, .max = QM_WORKERS_MAX},
        {.name = "crypto", .kind = QM_OPT_CHOICE, .to = &q.crypto,
         .help = "kernels: the fastest that run here, or OpenSSL's arithmetic (default: $QM_KERNEL, else auto)", .choices = cryptos},
        {.name = "io", .kind = QM_OPT_CHOICE, .to = &q.io, .help = "how files are read (default: auto)", .choices = ios},
        {.name = "audit", .kind = QM_OPT_COUNT, .to = &q.audit, .value = "N",
         .help = "check one in N valid signatures again with OpenSSL (default 1024; 0: none)"},
        {.name = "metrics", .kind = QM_OPT_TEXT, .to = &q.metrics, .value = "FILE",
         .help = "where the numbers for Prometheus go, 'none' for nowhere (default: what the policy metrics says)"},
        {.name = "json", .kind = QM_OPT_FLAG, .to = &q.json, .help = "the run record on standard output"},
        {.name = "verbose", .letter = 'v', .kind = QM_OPT_TALLY, .to = &q.verbose,
         .help = "say what the run did on standard error"},
    };
    const struct qm_usage usage = {
        "run", "[SPOOL…]",
        "The cron job: verifies what is spooled, records it, alerts, then removes what was recorded.",
        "SPOOL is a directory (default: HOME/spool); its *.mpk are taken, recursively, other names are counted and stay.\n"
        "Killed at any moment, the next run finishes or begins anew: no record is lost or counted twice.\n"
        "Exit codes: 0 nothing wrong, 1 something is untrusted, invalid, or became unmeasured, 3 the environment failed,\n"
        "75 another run holds the home.\n"};
    int first, code;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 0, -1, &first, &code))
        return code;
    q.home = qm_home_path(home);
    q.spools = argv + first;
    q.spool_count = argc - first;
    return run_request(&q);
}
