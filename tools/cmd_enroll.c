/* enroll: lines of enrolments into the store, then the table; its other modes are the ceremony's (ceremony.h). */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "codec/emit.h"
#include "engine/pool.h"
#include "tools/ceremony/ceremony.h"
#include "tools/command.h"
#include "tools/store/store_config.h"

/* Whoever sends lines may let us wait, and then not others for the store as well: what is no regular file is read to its end before the
 * transaction begins, into a file of the home. So many bytes at most: a million lines of 4 KiB. */
static const uint64_t stream_bytes_max = 4ull << 30;

/* Lines are taken in chunks: their ids are read by all workers side by side, the store says which lines it knows, the rest is
 * parsed by all workers (keys and their constants are most of the work), and what was parsed goes into the store in order. */
enum { CHUNK_LINES = 512, CHUNK_BYTES = 8 * 1024 * 1024, ENROLL_WORKERS_MAX = 16 };

struct line {
    const char *text;
    size_t len;
    uint64_t number;
    uint8_t digest[32];
    bool known;
    qm_err err;
    struct qm_fault fault;
    struct qm_enrolment *enrolment;
};

struct job {
    struct qm_store *store;
    struct qm_enroll_options options;
    uint64_t lines, enrolled[QM_ENROLLED_COUNT], refused, weaker; /* enrolled: by enum qm_enrolled */
    bool progress;
    bool begun; /* its transaction */
    unsigned worker_count;
    struct worker *worker;
    struct line *line; /* CHUNK_LINES */
    size_t line_count;
    struct qm_lines *file; /* of the operands */
    size_t file_count;
    char *text; /* CHUNK_BYTES */
    size_t text_len;
    struct qm_enrolment *enrolments; /* CHUNK_LINES */
    bool whole;            /* what the workers do now: false the ids, true everything */
    _Atomic size_t next;   /* the line that is taken up next */
    _Atomic bool stop;
};

struct worker {
    struct job *job;
    struct qm_json *json;
};

static void parse(struct worker *w, struct line *l)
{
    if (!w->job->whole) {
        qm_hash_one(QM_HASH_SHA256, (struct qm_span){(const uint8_t *)l->text, l->len}, l->digest);
        l->err = l->len > QM_LINE_MAX ? qm_fail(&l->fault, QM_E_REFUSED, 0, "longer than %d bytes", QM_LINE_MAX)
                                      : qm_enrolment_id(w->json, l->text, l->len, l->enrolment, &l->fault);
    } else if (l->err == QM_OK && !l->known) {
        l->err = qm_enrolment_read(w->json, l->text, l->len, l->enrolment, &l->fault);
    }
}

static qm_err parse_some(void *worker, struct qm_fault *fault)
{
    struct worker *w = worker;
    (void)fault; /* every line keeps its own */
    for (size_t i; (i = atomic_fetch_add(&w->job->next, 1)) < w->job->line_count;)
        parse(w, &w->job->line[i]);
    return QM_OK;
}

static qm_err parse_all(struct job *j, bool whole, struct qm_fault *fault)
{
    void *workers[ENROLL_WORKERS_MAX];
    struct qm_pool *pool;
    j->whole = whole;
    atomic_store(&j->next, 0);
    if (j->worker_count == 1 || j->line_count < 8)
        return parse_some(&j->worker[0], fault);
    for (unsigned i = 0; i < j->worker_count; i++)
        workers[i] = &j->worker[i];
    qm_err err = qm_pool_start(&pool, j->worker_count, parse_some, workers, &j->stop, fault);
    return err == QM_OK ? qm_pool_join(pool, fault) : err;
}

/* Puts a parsed line into the store. */
static qm_err apply(struct job *j, struct line *l)
{
    enum qm_enrolled what;
    const bool parsed = !l->known; /* it was looked up before the lines above it were taken: one of them may have had its id */
    qm_err err = l->err == QM_OK ? qm_store_line_known(j->store, l->enrolment, l->digest, &l->known, &l->fault) : l->err;
    if (err == QM_OK && !l->known && !parsed)
        err = qm_enrolment_read(j->worker[0].json, l->text, l->len, l->enrolment, &l->fault);
    if (err != QM_OK)
        return err;
    if (l->known) {
        j->enrolled[QM_ENROLLED_SAME]++;
        return QM_OK;
    }
    err = qm_store_enroll(j->store, l->enrolment, l->digest, &j->options, &what, &l->fault);
    if (err != QM_OK)
        return err;
    j->enrolled[what]++;
    return QM_OK;
}

static qm_err begin(struct job *j, struct qm_fault *fault)
{
    if (j->begun)
        return QM_OK;
    j->begun = true;
    return qm_store_begin(j->store, fault);
}

static qm_err take_chunk(struct job *j, const struct qm_lines *lines, struct qm_fault *fault)
{
    qm_err err = begin(j, fault);
    if (err == QM_OK)
        err = parse_all(j, false, fault);
    for (size_t i = 0; err == QM_OK && i < j->line_count; i++)
        if (j->line[i].err == QM_OK)
            err = qm_store_line_known(j->store, j->line[i].enrolment, j->line[i].digest, &j->line[i].known, fault);
    if (err == QM_OK)
        err = parse_all(j, true, fault);
    for (size_t i = 0; err == QM_OK && i < j->line_count; i++) {
        struct line *l = &j->line[i];
        err = apply(j, l);
        if (err == QM_E_REFUSED) {
            j->refused++;
            qm_lines_complain(&(struct qm_lines){.name = lines->name, .number = l->number}, "enroll", l->fault.text);
            err = QM_OK;
        } else if (err != QM_OK && fault != NULL) {
            *fault = l->fault;
        }
    }
    j->lines += j->line_count;
    j->line_count = 0;
    j->text_len = 0;
    if (j->progress)
        fprintf(stderr, "\r%llu lines\033[K", (unsigned long long)j->lines);
    return err;
}

/* in NULL: a regular file, not opened yet, since there may be more of them than descriptors. */
static qm_err take_file(struct job *j, struct qm_lines *lines, struct qm_fault *fault)
{
    qm_err err = lines->in == NULL ? qm_lines_open(lines, lines->name, fault) : QM_OK;
    if (err != QM_OK)
        return err;
    for (size_t len; err == QM_OK && qm_lines_next(lines, j->text + j->text_len, &len);) {
        j->line[j->line_count] = (struct line){
            .text = j->text + j->text_len, .len = len, .number = lines->number, .enrolment = &j->enrolments[j->line_count]};
        j->line_count++;
        j->text_len += len;
        if (j->line_count == CHUNK_LINES || CHUNK_BYTES - j->text_len < QM_LINE_MAX + 2)
            err = take_chunk(j, lines, fault);
    }
    if (err == QM_OK && !ferror(lines->in) && j->line_count != 0)
        err = take_chunk(j, lines, fault);
    qm_err closed = qm_lines_close(lines, err == QM_OK ? fault : NULL);
    if (j->progress)
        fputs("\r\033[K", stderr);
    return err == QM_OK ? closed : err;
}

static void say(const struct job *j, uint64_t instances, uint64_t shared, bool json)
{
    const uint64_t *n = j->enrolled;
    if (json) {
        char text[1024];
        struct qm_out o = qm_out_init(text, sizeof text);
        struct qm_emit e = qm_emit_init(&o, true);
        const struct {
            const char *key;
            uint64_t value;
        } numbers[] = {{"lines", j->lines},
                       {"new", n[QM_ENROLLED_NEW]},
                       {"changed", n[QM_ENROLLED_CHANGED]},
                       {"keys_replaced", n[QM_ENROLLED_KEY_REPLACED]},
                       {"unchanged", n[QM_ENROLLED_SAME]},
                       {"refused", j->refused},
                       {"weaker", j->weaker},
                       {"instances", instances},
                       {"shared_keys", shared},
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
            (unsigned long long)j->lines, (unsigned long long)n[QM_ENROLLED_NEW], (unsigned long long)n[QM_ENROLLED_CHANGED],
            (unsigned long long)n[QM_ENROLLED_KEY_REPLACED], (unsigned long long)n[QM_ENROLLED_SAME], (unsigned long long)j->refused,
            (unsigned long long)instances);
    if (j->weaker != 0)
        fprintf(stderr, "quotemill enroll: %llu lines weaken what was asked of their instance (status ID says in what)\n",
                (unsigned long long)j->weaker);
    if (shared != 0)
        fprintf(stderr, "quotemill enroll: %llu instances share their AK with another id (--unique-keys refuses that)\n",
                (unsigned long long)shared);
}

static qm_err read_streams(struct job *j, char **files, int count, const char *home, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    j->file = calloc((size_t)count, sizeof *j->file);
    if (j->file == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory for %d files", count);
    for (int i = 0; err == QM_OK && i < count; i++) {
        struct qm_lines *l = &j->file[j->file_count++];
        l->name = files[i];
        if (qm_lines_wait(files[i]))
            err = qm_lines_open_read(l, files[i], home, stream_bytes_max, fault);
    }
    return err;
}

static qm_err take_all(struct job *j, uint64_t *instances, uint64_t *shared, struct qm_fault *fault)
{
    qm_err err = QM_OK;
    for (size_t i = 0; err == QM_OK && i < j->file_count; i++)
        err = take_file(j, &j->file[i], fault);
    if (err == QM_OK)
        err = begin(j, fault);
    if (err == QM_OK)
        err = qm_store_count(j->store, instances, fault);
    if (err == QM_OK)
        err = qm_store_shared_keys(j->store, shared, fault);
    if (err == QM_OK)
        err = qm_store_commit(j->store, fault);
    bool built;
    return err == QM_OK ? qm_store_publish(j->store, &built, fault) : err;
}

static void job_close(struct job *j)
{
    for (unsigned i = 0; j->worker != NULL && i < j->worker_count; i++)
        qm_json_close(j->worker[i].json);
    for (size_t i = 0; i < j->file_count; i++)
        qm_stream_close(j->file[i].in);
    free(j->file);
    free(j->worker);
    free(j->line);
    free(j->text);
    free(j->enrolments);
}

static qm_err job_open(struct job *j, struct qm_fault *fault)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    j->worker_count = cpus < 1 ? 1 : cpus > ENROLL_WORKERS_MAX ? ENROLL_WORKERS_MAX : (unsigned)cpus;
    j->worker = calloc(j->worker_count, sizeof *j->worker);
    j->line = calloc(CHUNK_LINES, sizeof *j->line);
    j->text = malloc(CHUNK_BYTES);
    j->enrolments = aligned_alloc(QM_CACHE_LINE, CHUNK_LINES * sizeof *j->enrolments);
    if (j->worker == NULL || j->line == NULL || j->text == NULL || j->enrolments == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "no memory to read enrolments");
    qm_err err = QM_OK;
    for (unsigned i = 0; err == QM_OK && i < j->worker_count; i++) {
        j->worker[i].job = j;
        err = qm_json_open(&j->worker[i].json, fault);
    }
    return err;
}

static int take_files(struct job *j, const char *home, char **files, int count, bool json)
{
    struct qm_fault fault = {0};
    uint64_t instances = 0, shared = 0;
    j->progress = isatty(STDERR_FILENO) == 1;
    j->options.weaker = &j->weaker;
    qm_err err = job_open(j, &fault);
    if (err == QM_OK)
        err = qm_store_open(&j->store, qm_home_path(home), true, &fault);
    if (err == QM_OK)
        err = read_streams(j, files, count, qm_home_path(home), &fault);
    if (err == QM_OK)
        err = take_all(j, &instances, &shared, &fault);
    int code = j->refused != 0 ? QM_EXIT_FOUND : QM_EXIT_OK;
    if (err == QM_OK)
        say(j, instances, shared, json);
    else
        code = qm_complain("enroll", &fault);
    qm_store_close(j->store);
    job_close(j);
    const int flushed = qm_stdout_close("enroll");
    return flushed != QM_EXIT_OK ? flushed : code;
}

/* ---- the command --------------------------------------------------------------------------------------------------------- */

enum { PLAIN = 1, CHALLENGE = 1 << QM_CEREMONY_CHALLENGE, ANSWER = 1 << QM_CEREMONY_ANSWER, CONFIRM = 1 << QM_CEREMONY_CONFIRM,
       REJECT = 1 << QM_CEREMONY_REJECT, PENDING = 1 << QM_CEREMONY_PENDING, AK_CERT = 1 << QM_CEREMONY_AK_CERT };

struct flags {
    bool mode[QM_CEREMONY_AK_CERT + 1];
    bool unique_keys;
    const char *expires;
};

/* What was given beside a mode must be that mode's. 0, or the exit code after the complaint. */
static int check_usage(struct qm_ceremony_ask *a, const struct flags *f)
{
    const struct {
        const char *name;
        bool given;
        unsigned modes;
    } rules[] = {
        {"replace-key", a->replace_key, PLAIN | CHALLENGE | ANSWER | CONFIRM | AK_CERT},
        {"unique-keys", f->unique_keys, PLAIN},
        {"ca", a->ca.count != 0, CHALLENGE | AK_CERT},
        {"crl", a->crl.count != 0, CHALLENGE | AK_CERT},
        {"group", a->group != NULL, CHALLENGE | AK_CERT},
        {"defaults", a->defaults != NULL, CHALLENGE | AK_CERT},
        {"tag", a->tags.count != 0, CHALLENGE | AK_CERT},
        {"expires", f->expires != NULL, CHALLENGE | ANSWER},
        {"expect-ek", a->expect_ek != NULL, CHALLENGE | ANSWER},
        {"ek", a->ek != NULL, CONFIRM | REJECT},
        {"allow-weaker", a->allow_weaker, CHALLENGE | ANSWER | CONFIRM | AK_CERT},
        {"reason", a->reason != NULL, ANSWER | CONFIRM | REJECT | AK_CERT},
        {"json", a->json, PLAIN | ANSWER | CONFIRM | REJECT | PENDING | AK_CERT},
    };
    unsigned modes = 0;
    for (unsigned m = QM_CEREMONY_CHALLENGE; m <= QM_CEREMONY_AK_CERT; m++)
        if (f->mode[m]) {
            modes++;
            a->mode = (enum qm_ceremony_mode)m;
        }
    if (modes > 1)
        return qm_complain_usage("enroll", "--challenge, --answer, --confirm, --reject, --pending, --ak-cert: one of them");
    for (size_t i = 0; i < QM_COUNT(rules); i++)
        if (rules[i].given && (rules[i].modes & 1u << a->mode) == 0)
            return qm_complain_usage("enroll", "--%s is not for this; see quotemill enroll --help", rules[i].name);
    if (a->mode == QM_CEREMONY_PENDING ? a->operand_count != 0 : a->operand_count == 0)
        return qm_complain_usage("enroll", a->operand_count != 0 ? "--pending takes no operands"
                                                                 : "FILE… is missing; see quotemill enroll --help");
    if (a->mode == QM_CEREMONY_CHALLENGE && a->ca.count == 0 && a->expect_ek == NULL)
        return qm_complain_usage("enroll", "--challenge wants --ca, or --expect-ek, or both: somebody has to vouch for a TPM");
    if (a->ca.count == 0 && (a->mode == QM_CEREMONY_AK_CERT || a->crl.count != 0))
        return qm_complain_usage("enroll", "%s wants --ca", a->mode == QM_CEREMONY_AK_CERT ? "--ak-cert" : "--crl");
    if (f->expires != NULL && (!qm_duration_read(f->expires, &a->expires_ms) || a->expires_ms == 0 || a->expires_ms > 366ull * 86400 * 1000))
        return qm_complain_usage("enroll", "--expires wants a duration such as 90m or 2d, not '%.64s'", f->expires);
    if (a->reason != NULL && !qm_reason_ok(a->reason))
        return qm_complain_usage("enroll", "--reason wants 1 to %d bytes of text on one line", QM_REASON_BYTES_MAX);
    uint8_t prefix[QM_EK_FINGERPRINT_SIZE];
    const size_t digits = a->ek != NULL ? strlen(a->ek) : 2;
    if (digits == 0 || digits % 2 != 0 || digits > 2 * sizeof prefix || (a->ek != NULL && !qm_hex_read(a->ek, prefix, digits / 2)))
        return qm_complain_usage("enroll", "--ek wants the first hex digits of a fingerprint, an even number of them");
    return 0;
}

int qm_cmd_enroll(int argc, char **argv)
{
    struct job j = {0};
    const char *ca[QM_CEREMONY_LIST_MAX], *crl[QM_CEREMONY_LIST_MAX], *tags[QM_CEREMONY_LIST_MAX];
    struct qm_ceremony_ask a = {.ca = {ca, 0, QM_COUNT(ca)}, .crl = {crl, 0, QM_COUNT(crl)}, .tags = {tags, 0, QM_COUNT(tags)}};
    struct flags f = {0};
    const struct qm_option options[] = {
        QM_HOME_OPTION(&a.home),
        {.name = "replace-key", .kind = QM_OPT_FLAG, .to = &a.replace_key,
         .help = "let an enrolled id have another AK; who did it and when is kept"},
        {.name = "unique-keys", .kind = QM_OPT_FLAG, .to = &f.unique_keys, .help = "refuse an AK that another id has already"},
        {.name = "challenge", .kind = QM_OPT_FLAG, .to = &f.mode[QM_CEREMONY_CHALLENGE],
         .help = "FILE… are proposals of machines; writes a challenge for each that is found good"},
        {.name = "answer", .kind = QM_OPT_FLAG, .to = &f.mode[QM_CEREMONY_ANSWER],
         .help = "FILE… are answers to challenges; enrols, or lets wait for --confirm where nothing says whose the EK is"},
        {.name = "pending", .kind = QM_OPT_FLAG, .to = &f.mode[QM_CEREMONY_PENDING], .help = "list what waits for --confirm"},
        {.name = "confirm", .kind = QM_OPT_FLAG, .to = &f.mode[QM_CEREMONY_CONFIRM], .help = "FILE… are ids: a person says whose those EKs are"},
        {.name = "reject", .kind = QM_OPT_FLAG, .to = &f.mode[QM_CEREMONY_REJECT],
         .help = "FILE… are ids: a person says that those EKs are not theirs; what waits under them ends"},
        {.name = "ak-cert", .kind = QM_OPT_FLAG, .to = &f.mode[QM_CEREMONY_AK_CERT],
         .help = "FILE… are chains in PEM, an AK's certificate first; its subject is the id"},
        {.name = "ca", .kind = QM_OPT_LIST, .to = &a.ca, .value = "FILE", .help = "CA certificates that are trusted; may be given again"},
        {.name = "crl", .kind = QM_OPT_LIST, .to = &a.crl, .value = "FILE",
         .help = "revocation lists: then a certificate needs a valid one of its issuer; may be given again"},
        {.name = "expect-ek", .kind = QM_OPT_TEXT, .to = &a.expect_ek, .value = "FILE",
         .help = "whose EK is whose: lines of an id and a fingerprint"},
        {.name = "ek", .kind = QM_OPT_TEXT, .to = &a.ek, .value = "HEX",
         .help = "with --confirm or --reject: only the EK whose fingerprint begins so"},
        {.name = "group", .kind = QM_OPT_TEXT, .to = &a.group, .value = "G", .help = "enrol into this group"},
        {.name = "defaults", .kind = QM_OPT_TEXT, .to = &a.defaults, .value = "FILE",
         .help = "what machines get beside id, key and scheme: lines of enrolment without these, one for each group"},
        {.name = "tag", .kind = QM_OPT_LIST, .to = &a.tags, .value = "K=V", .help = "a tag, over those of the defaults; may be given again"},
        {.name = "expires", .kind = QM_OPT_TEXT, .to = &f.expires, .value = "D",
         .help = "how long a challenge can be answered (24h), or an answer confirmed (7d)"},
        {.name = "allow-weaker", .kind = QM_OPT_FLAG, .to = &a.allow_weaker, .help = "let it ask for less of an instance than is asked now"},
        {.name = "reason", .kind = QM_OPT_TEXT, .to = &a.reason, .value = "TEXT", .help = "why, for the history"},
        {.name = "json", .kind = QM_OPT_FLAG, .to = &a.json, .help = "say the counts as one JSON object on standard output"},
    };
    const struct qm_usage usage = {
        "enroll", "FILE…", "Adds or updates instances from files of NDJSON, one enrolment a line; '-' is standard input.",
        "A bad line is named with its number and the reason, and the others are taken; then the exit code is 1.\n"
        "A line equal to the last one taken for its id changes nothing. The table is published before the command ends.\n"
        "Where the way from the machine is not to be trusted, its TPM proves the key: --challenge, then --answer, then --confirm (or\n"
        "--reject) where nothing else says whose TPM it is. A cloud's keys come with certificates: --ak-cert.\n"};
    int first, code;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 0, -1, &first, &code))
        return code;
    a.operands = argv + first;
    a.operand_count = argc - first;
    code = check_usage(&a, &f);
    if (code != 0)
        return code;
    if (a.mode != QM_CEREMONY_NONE)
        return qm_ceremony(&a);
    j.options.replace_key = a.replace_key;
    j.options.unique_keys = f.unique_keys;
    return take_files(&j, a.home, a.operands, a.operand_count, a.json);
}
