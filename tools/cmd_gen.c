/* quotemill gen: makes a synthetic fleet, and measures it again. This file holds the command line
 * and the life of the directory; gen_round.c does the work. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "codec/text.h"
#include "tools/command.h"
#include "tools/gen/gen_fleet.h"
#include "tools/gen/gen_image.h"
#include "tools/gen/gen_keys.h"
#include "tools/gen/gen_round.h"
#include "tools/options.h"

enum {
    INSTANCES_MAX = 10000000,
    KEYS_MAX = 1000000,
    ROUND_MAX = 1000000,
    RSA_POOL = 64,
    EC_POOL = 4096, /* one key a machine up to here */
};

static const char *const key_choices[] = {"rsa2048", "rsapss2048", "p256", "p384", "mix", NULL};

/* Kinds of keys in turn. */
static size_t kinds_of(const char *key, enum qm_gen_key_kind kinds[QM_GEN_KEY_KINDS])
{
    for (size_t i = 0; i < QM_GEN_KEY_KINDS; i++) {
        kinds[i] = (enum qm_gen_key_kind)i;
        if (strcmp(key, key_choices[i]) == 0) {
            kinds[0] = (enum qm_gen_key_kind)i;
            return 1;
        }
    }
    return QM_GEN_KEY_KINDS;
}

static void take_defaults(struct qm_gen_params *p)
{
    if (p->key[0] == '\0')
        snprintf(p->key, sizeof p->key, "rsa2048");
    bool ec = p->key[0] == 'p';
    if (p->keys == QM_GEN_UNSET)
        p->keys = !ec ? RSA_POOL : p->instances < EC_POOL ? p->instances : EC_POOL;
    if (p->events == QM_GEN_UNSET)
        p->events = 0;
    if (p->log_bytes == QM_GEN_UNSET)
        p->log_bytes = 0;
    if (p->per_file == QM_GEN_UNSET)
        p->per_file = 1;
    if (p->seed == QM_GEN_UNSET)
        p->seed = 1;
}

static uint64_t key_count(const struct qm_gen_params *p)
{
    return p->keys < p->instances ? p->keys : p->instances;
}

struct fleet {
    const char *out;
    int dir_fd;
    struct qm_gen_params params; /* as asked, then as kept */
    struct qm_gen_round round;
    bool first; /* a new fleet */
    struct qm_gen_keys keys;
    struct qm_gen_state *state;
    struct qm_gen_tally tally;
};

static bool there(int dir_fd, const char *name)
{
    struct stat st;
    return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* What round 1 makes in DIR. */
static const char *const ours[] = {"keys",         "enroll.ndjson", "enroll.ndjson.part", "spool-1",
                                   "spool-1.part", "state.bin",     "state.bin.part"};

/* Opens and locks DIR, for a new fleet or for one that is there, and settles the parameters. */
static qm_err open_fleet(struct fleet *f, bool round_given, struct qm_fault *fault)
{
    if (f->first && mkdir(f->out, 0755) != 0 && errno != EEXIST)
        return qm_fail(fault, QM_E_IO, errno, "cannot make %.200s", f->out);
    f->dir_fd = open(f->out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->dir_fd < 0 && errno == ENOENT)
        return qm_fail(fault, QM_E_USAGE, 0,
                       "there is no fleet in %.200s: make it without --round first", f->out);
    if (f->dir_fd < 0)
        return qm_fail(fault, QM_E_IO, errno, "cannot open %.200s", f->out);
    if (flock(f->dir_fd, LOCK_EX | LOCK_NB) != 0)
        return qm_fail(fault, QM_E_IO, errno, "cannot lock %.200s (is another gen at work there?)",
                       f->out);
    bool is_fleet = there(f->dir_fd, QM_GEN_FLEET_FILE);
    if (f->first && !round_given && is_fleet)
        return qm_fail(
            fault, QM_E_USAGE, 0,
            "%.200s holds a fleet: --round R measures it again, a new one needs another place",
            f->out);
    f->first = f->first && !is_fleet;
    if (!f->first && !is_fleet)
        return qm_fail(fault, QM_E_USAGE, 0,
                       "there is no fleet in %.200s: make it without --round first", f->out);
    if (!f->first) {
        struct qm_gen_params kept;
        qm_err err = qm_gen_params_read(f->dir_fd, &kept, fault);
        if (err == QM_OK)
            err = qm_gen_params_agree(&f->params, &kept, fault);
        f->params = kept;
        return err;
    }
    if (f->params.instances == QM_GEN_UNSET)
        return qm_fail(fault, QM_E_USAGE, 0, "a new fleet needs --instances N");
    take_defaults(&f->params);
    bool unfinished = there(f->dir_fd, QM_GEN_FLEET_PART);
    for (size_t i = 0; i < QM_COUNT(ours); i++) {
        if (!there(f->dir_fd, ours[i]))
            continue;
        if (!unfinished)
            return qm_fail(fault, QM_E_USAGE, 0,
                           "%.200s/%s is there already: a new fleet needs another place", f->out,
                           ours[i]);
        qm_err err = qm_gen_remove_tree(f->dir_fd, ours[i], fault);
        if (err != QM_OK)
            return err;
    }
    return QM_OK;
}

/* Keys and enrolments of a new fleet; keys and states of an old one. */
static qm_err prepare(struct fleet *f, struct qm_fault *fault)
{
    enum qm_gen_key_kind kinds[QM_GEN_KEY_KINDS];
    size_t kind_count = kinds_of(f->params.key, kinds);
    qm_err err;
    if (f->first) {
        err = qm_gen_params_write(f->dir_fd, &f->params, fault);
        if (err != QM_OK)
            return err;
        if (mkdirat(f->dir_fd, "keys", 0700) != 0)
            return qm_fail(fault, QM_E_IO, errno, "cannot make keys");
    }
    int keys_fd = openat(f->dir_fd, "keys", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (keys_fd < 0)
        return qm_fail(fault, QM_E_IO, errno, "cannot open keys");
    err = (f->first ? qm_gen_keys_make : qm_gen_keys_load)(
        &f->keys, key_count(&f->params), kinds, kind_count, keys_fd, f->round.workers, fault);
    close(keys_fd);
    if (err != QM_OK)
        return err;
    if (!f->first)
        return qm_gen_state_read(f->dir_fd, f->params.instances, &f->state, fault);
    f->state = calloc(f->params.instances, sizeof *f->state);
    if (f->state == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "out of memory");
    return qm_gen_enroll(f->dir_fd, &f->params, &f->keys, fault);
}

/* The spool appears whole or not at all; the states go first, so that a machine's clock never
 * stands still: a round lost between the two is a round that was not sent. */
static qm_err measure(struct fleet *f, struct qm_fault *fault)
{
    char name[32], part[40];
    bool has;
    snprintf(name, sizeof name, "spool-%llu", (unsigned long long)f->round.round);
    snprintf(part, sizeof part, "%s.part", name);
    qm_err err = qm_gen_tree_has_files(f->dir_fd, name, &has, fault);
    if (err == QM_OK && has)
        err = qm_fail(fault, QM_E_USAGE, 0, "%.200s/%s is there already: take another round",
                      f->out, name);
    if (err == QM_OK)
        err = qm_gen_remove_tree(f->dir_fd, part, fault);
    if (err == QM_OK)
        err = prepare(f, fault);
    if (err == QM_OK)
        err = qm_gen_round_make(f->dir_fd, &f->params, &f->keys, &f->round, f->state, f->first,
                                &f->tally, fault);
    if (err == QM_OK)
        err = qm_gen_remove_tree(f->dir_fd, name, fault); /* an empty one */
    if (err == QM_OK)
        err = qm_gen_state_write(f->dir_fd, f->params.instances, f->state, fault);
    if (err == QM_OK && renameat(f->dir_fd, part, f->dir_fd, name) != 0)
        err = qm_fail(fault, QM_E_IO, errno, "cannot rename %s", part);
    if (err == QM_OK && f->first)
        err = qm_gen_params_publish(f->dir_fd, fault);
    return err;
}

static void report(const struct fleet *f, double seconds, bool json)
{
    const struct qm_gen_tally *t = &f->tally;
    if (!json) {
        fprintf(stderr,
                "quotemill gen: %s/spool-%llu: %llu records in %llu files, %.1f MB, in %.1f s; "
                "%llu tampered, %llu updated, "
                "%llu rebooted, %llu resumed\n",
                f->out, (unsigned long long)f->round.round, (unsigned long long)t->records,
                (unsigned long long)t->files, (double)t->bytes / 1e6, seconds,
                (unsigned long long)t->tampered, (unsigned long long)t->updated,
                (unsigned long long)t->rebooted, (unsigned long long)t->resumed);
        return;
    }
    char text[8192];
    struct qm_out o = qm_out_init(text, sizeof text);
    qm_out_json_string(&o, (struct qm_span){(const uint8_t *)f->out, strlen(f->out)});
    printf("{\"v\":1,\"kind\":\"gen\",\"out\":%.*s,\"round\":%llu,\"instances\":%llu,\"keys\":%llu,"
           "\"files\":%llu,\"records\":%llu,"
           "\"bytes\":%llu,\"tampered\":%llu,\"updated\":%llu,\"rebooted\":%llu,\"resumed\":%llu,"
           "\"seconds\":%.3f}\n",
           (int)o.len, text, (unsigned long long)f->round.round,
           (unsigned long long)f->params.instances, (unsigned long long)f->keys.count,
           (unsigned long long)t->files, (unsigned long long)t->records,
           (unsigned long long)t->bytes, (unsigned long long)t->tampered,
           (unsigned long long)t->updated, (unsigned long long)t->rebooted,
           (unsigned long long)t->resumed, seconds);
}

static unsigned core_count(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

/* clang-format off */
static const struct qm_usage usage = {
    .command = "gen",
    .operands = "",
    .summary = "Makes a synthetic fleet that looks like the field: keys, enrolments, evidence with event logs.",
    .text =
        "The first call, with --instances, makes DIR/enroll.ndjson, DIR/keys/, DIR/spool-1/ and\n"
        "DIR/fleet.json, which keeps the parameters. Each later one, with --round R, measures the same\n"
        "machines again into DIR/spool-R/: clocks have moved on, one in ten machines has rebooted, and\n"
        "so has every one whose PCRs differ from its last measured ones. --tamper and --update hold for\n"
        "one round; all else is kept, and another value than the kept one is refused.\n"
        "\n"
        "Machines, images, events and what changes depend on the seed and the machine alone: --tamper\n"
        "changes the same machines and events to the same values in every round, and a larger fraction\n"
        "includes a smaller one's machines. --update is chosen likewise, independently of --tamper.\n"
        "FRACTION x N rounds to the nearest whole number, halves to even. Machine i has key i modulo the\n"
        "size of the pool. Above 10,000 files, a spool has directories of 1,000.\n"
        "\n"
        "PCRs 1, 5 and 6 are a machine's own, the others are those of its image, which is its group.\n"
        "One machine in twenty was installed by hand: it has no group, and PCR 8 (its root's UUID) is\n"
        "its own too. One collector in sixteen is an old one that sends no PCR values.\n",
};
/* clang-format on */

int qm_cmd_gen(int argc, char **argv)
{
    uint64_t round = QM_GEN_UNSET, workers = 0;
    const char *key = NULL;
    bool json = false;
    struct fleet f = {.dir_fd = -1,
                      .params = {.instances = QM_GEN_UNSET,
                                 .keys = QM_GEN_UNSET,
                                 .events = QM_GEN_UNSET,
                                 .log_bytes = QM_GEN_UNSET,
                                 .per_file = QM_GEN_UNSET,
                                 .seed = QM_GEN_UNSET}};
    /* clang-format off */
    const struct qm_option options[] = {
        {.name = "instances", .letter = 'n', .kind = QM_OPT_COUNT, .to = &f.params.instances, .value = "N", .min = 1,
         .max = INSTANCES_MAX, .help = "machines in the fleet"},
        {.name = "out", .letter = 'o', .kind = QM_OPT_TEXT, .to = &f.out, .value = "DIR", .help = "where the fleet is"},
        {.name = "round", .kind = QM_OPT_COUNT, .to = &round, .value = "R", .min = 1, .max = ROUND_MAX,
         .help = "measure the fleet in DIR again, into DIR/spool-R"},
        {.name = "key", .kind = QM_OPT_CHOICE, .to = &key, .choices = key_choices,
         .help = "attestation keys and their scheme (default rsa2048: RSASSA; mix: all four in turn)"},
        {.name = "keys", .kind = QM_OPT_COUNT, .to = &f.params.keys, .value = "N", .min = 1, .max = KEYS_MAX,
         .help = "keys in the pool that machines share (default 64; for EC one a machine, at most 4096)"},
        {.name = "events", .kind = QM_OPT_COUNT, .to = &f.params.events, .value = "N", .min = QM_GEN_EVENTS_MIN,
         .max = QM_GEN_EVENTS_MAX, .help = "events in every log, its header included (default: the image's, 58 to 112)"},
        {.name = "log-bytes", .kind = QM_OPT_COUNT, .to = &f.params.log_bytes, .value = "N", .min = QM_GEN_LOG_BYTES_MIN,
         .max = QM_LOG_MAX,
         .help = "size of every log, or as few more as its events need (default: the image's, 15,900 to 43,800)"},
        {.name = "per-file", .kind = QM_OPT_COUNT, .to = &f.params.per_file, .value = "N", .min = 1, .max = INSTANCES_MAX,
         .help = "records in a file (default 1)"},
        {.name = "tamper", .kind = QM_OPT_SHARE, .to = &f.round.tamper, .value = "FRACTION",
         .help = "change one event of a baselined PCR on that share of the machines, in this round"},
        {.name = "update", .kind = QM_OPT_SHARE, .to = &f.round.update, .value = "FRACTION",
         .help = "that share of the machines boots the next kernel in this round: PCRs 4, 8, 9 move"},
        {.name = "seed", .kind = QM_OPT_COUNT, .to = &f.params.seed, .value = "N", .max = INT64_MAX,
         .help = "another fleet for another seed (default 1)"},
        {.name = "baseline", .kind = QM_OPT_FLAG, .to = &f.params.baseline,
         .help = "known PCR values into enroll.ndjson: neither tampered nor updated"},
        {.name = "workers", .kind = QM_OPT_COUNT, .to = &workers, .value = "N", .min = 1, .max = 256,
         .help = "threads (default: all cores)"},
        {.name = "json", .kind = QM_OPT_FLAG, .to = &json, .help = "what was made, as one JSON object on stdout"},
    };
    /* clang-format on */
    int first_operand, code;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 0, 0, &first_operand,
                          &code))
        return code;
    if (f.out == NULL || f.out[0] == '\0')
        return qm_complain_usage("gen", "--out DIR is missing; see quotemill gen --help");
    if (round == QM_GEN_UNSET && f.params.instances == QM_GEN_UNSET)
        return qm_complain_usage(
            "gen", "--instances N (a new fleet) or --round R (measure one again) is missing");
    if (key != NULL)
        snprintf(f.params.key, sizeof f.params.key, "%s", key); /* one of the choices: it fits */
    f.first = round == QM_GEN_UNSET || round == 1;
    f.round.round = round == QM_GEN_UNSET ? 1 : round;
    f.round.workers = workers != 0 ? (unsigned)workers : core_count();
    f.round.progress = isatty(STDERR_FILENO) == 1;

    struct qm_fault fault = {0};
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    qm_err err = open_fleet(&f, round != QM_GEN_UNSET, &fault);
    if (err == QM_OK)
        err = measure(&f, &fault);
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (err == QM_OK)
        report(&f,
               (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9,
               json);
    qm_gen_keys_free(&f.keys);
    free(f.state);
    if (f.dir_fd >= 0)
        close(f.dir_fd);
    if (err != QM_OK)
        return qm_complain("gen", &fault);
    return qm_stdout_close("gen");
}
