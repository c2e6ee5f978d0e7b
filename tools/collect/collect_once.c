/* quotemill-collect once: one evidence record, delivered. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "codec/text.h"
#include "tools/collect/collect.h"
#include "tools/collect/evidence_make.h"
#include "tools/collect/state_dir.h"
#include "tools/log_read.h"
#include "tools/spool/spool.h"

enum { RANDOM_EXTRA = 32 };

struct once {
    struct qm_collect common;
    const char *spool, *log_file, *beacon, *nonce, *pcrs;
    bool to_stdout, no_log;
    unsigned verbose;
    struct qm_queue_limits limits;
    uint64_t queue_mib;
    struct qm_identity identity;
    uint32_t mask;
    uint8_t extra[QM_EXTRA_MAX];
    size_t extra_len;
    struct qm_measured measured;
    struct qm_tpm_time spent;
};

static struct qm_span id_of(const struct once *o)
{
    return (struct qm_span){o->identity.id, o->identity.id_len};
}

static qm_err choose_extra(struct once *o, struct qm_fault *fault)
{
    o->extra_len = RANDOM_EXTRA;
    if (o->beacon != NULL)
        return qm_extra_beacon(o->beacon, id_of(o), o->extra, fault);
    if (o->nonce == NULL)
        return getrandom(o->extra, RANDOM_EXTRA, 0) == RANDOM_EXTRA ? QM_OK : qm_fail(fault, QM_E_IO, errno, "no random bytes");
    o->extra_len = strlen(o->nonce) / 2;
    if (strlen(o->nonce) % 2 != 0 || o->extra_len > sizeof o->extra || !qm_hex_read(o->nonce, o->extra, o->extra_len))
        return qm_fail(fault, QM_E_USAGE, 0, "--nonce wants at most %d bytes in hex", QM_EXTRA_MAX);
    return QM_OK;
}

static qm_err read_identity(struct once *o, struct qm_fault *fault)
{
    bool there;
    qm_err err = qm_identity_read(&o->identity, o->common.state, &there, fault);
    if (err == QM_OK && !there)
        err = qm_fail(fault, QM_E_REFUSED, 0, "there is no key yet: quotemill-collect init");
    if (err != QM_OK)
        return err;
    o->mask = o->identity.pcrs;
    if (o->pcrs != NULL && !qm_pcrs_read(o->pcrs, &o->mask))
        return qm_fail(fault, QM_E_USAGE, 0, "--pcrs wants a list like 0-9,14, not '%.64s'", o->pcrs);
    return QM_OK;
}

/* A log that was asked for must be there; without the kernel's a record still proves its PCR values. */
static qm_err read_log(const struct once *o, uint8_t **bytes, size_t *len, struct qm_fault *fault)
{
    *bytes = NULL;
    *len = 0;
    if (o->no_log)
        return QM_OK;
    qm_err err = qm_log_file_read(o->log_file != NULL ? o->log_file : QM_LOG_DEFAULT, bytes, len, fault);
    if (o->log_file != NULL || (err == QM_OK && *len != 0))
        return err;
    qm_collect_note("once", "no event log, so the record has none: %s", err == QM_OK ? "the kernel's is empty" : fault->text);
    free(*bytes);
    *bytes = NULL;
    *fault = (struct qm_fault){0};
    return QM_OK;
}

static qm_err job(struct qm_tpm *t, void *arg, struct qm_fault *fault)
{
    struct once *o = arg;
    struct qm_tpm_key ak;
    qm_err err = qm_identity_key(t, &o->identity, &ak, fault);
    if (err != QM_OK)
        return err;
    err = qm_measure(t, &ak, o->mask, (struct qm_span){o->extra, o->extra_len}, &o->measured, fault);
    qm_tpm_key_close(t, &ak);
    return err;
}

/* ---- delivery ---------------------------------------------------------------------------------------------------------- */

static int to_stdout(const struct once *o, struct qm_span record)
{
    struct qm_fault fault = {0};
    fwrite(record.p, 1, record.len, stdout);
    const int code = qm_stdout_close("once");
    if (code == QM_EXIT_OK && qm_delivery_write(o->common.state, QM_DELIVERY_STDOUT, &fault) != QM_OK)
        qm_collect_note("once", "written, but that is not remembered: %s", fault.text);
    return code;
}

/* What waits goes first, so that records arrive in the order in which they were made. */
static int to_spool(struct once *o, struct qm_span record)
{
    char name[QM_SPOOL_NAME_MAX] = "";
    struct qm_fault fault = {0}, why = {0};
    struct qm_queue q;
    uint64_t older = 0, lost = 0;
    const uint64_t parts = qm_spool_sweep(o->spool, id_of(o));
    qm_err err = qm_queue_deliver(o->common.state, o->spool, id_of(o), &older, &lost, &why);
    if (err == QM_OK)
        err = qm_spool_deliver(o->spool, id_of(o), record, name, &why);
    if (parts != 0)
        qm_collect_note("once", "%llu deliveries that were killed had left a hidden file in the spool; it is removed", (unsigned long long)parts);
    if (older != 0)
        qm_collect_note("once", "%llu older records from the queue were delivered", (unsigned long long)older);
    if (lost != 0)
        qm_collect_note("once", "%llu records of the queue could not be read, and are lost", (unsigned long long)lost);
    if (older != 0 || err == QM_OK)
        if (qm_delivery_write(o->common.state, o->spool, &fault) != QM_OK)
            qm_collect_note("once", "delivered, but that is not remembered: %s", fault.text);
    if (err == QM_OK) {
        if (o->verbose != 0)
            qm_collect_note("once", "%s: %zu bytes in %u tries; the TPM took %.1f ms for %u commands", name, record.len,
                            o->measured.tries, (double)o->spent.tpm_us / 1000, o->spent.commands);
        return QM_EXIT_OK;
    }
    if (qm_queue_add(o->common.state, id_of(o), record, &o->limits, &q, &fault) != QM_OK) {
        qm_collect_note("once", "%s", why.text);
        return qm_complain("once", &fault);
    }
    qm_collect_note("once", "%s; the record waits in the queue (%llu records, %llu KiB)", why.text, (unsigned long long)q.files,
                    (unsigned long long)((q.bytes + 1023) / 1024));
    if (q.dropped != 0)
        qm_collect_note("once", "the queue was full: %llu of the oldest records are lost", (unsigned long long)q.dropped);
    return QM_EXIT_FOUND;
}

static int deliver(struct once *o, struct qm_span log)
{
    uint8_t *record;
    size_t len;
    struct qm_fault fault = {0};
    if (qm_evidence_make(&o->identity, &o->measured, log, qm_now_ms(), &record, &len, &fault) != QM_OK)
        return qm_complain("once", &fault);
    const struct qm_span s = {record, len};
    const int code = o->to_stdout ? to_stdout(o, s) : to_spool(o, s);
    free(record);
    return code;
}

static int collect(struct once *o)
{
    struct qm_fault fault = {0};
    uint8_t *log = NULL;
    size_t log_len = 0;
    int lock;
    qm_err err = qm_state_open(o->common.state, false, &lock, &fault);
    if (err == QM_OK)
        err = read_identity(o, &fault);
    if (err == QM_OK)
        err = choose_extra(o, &fault);
    /* The log first: a file that cannot be read costs the TPM nothing, and what is extended later is no part of it. */
    if (err == QM_OK)
        err = read_log(o, &log, &log_len, &fault);
    if (err == QM_OK)
        err = qm_collect_tpm(&o->common, job, o, &o->spent, &fault);
    const int code = err != QM_OK ? qm_complain("once", &fault) : deliver(o, (struct qm_span){log, log_len});
    free(log);
    if (lock >= 0)
        close(lock);
    return code;
}

int qm_collect_once(int argc, char **argv)
{
    static struct once o; /* a job that was left behind still has it */
    o = (struct once){.common = QM_COLLECT_INIT, .limits.files = 288, .queue_mib = 32};
    const struct qm_option options[] = {
        {.name = "spool",
         .kind = QM_OPT_TEXT,
         .to = &o.spool,
         .value = "DIR",
         .help = "where to deliver (else $QUOTEMILL_SPOOL)"},
        {.name = "stdout",
         .kind = QM_OPT_FLAG,
         .to = &o.to_stdout,
         .help = "write the record to standard output; nothing is queued"},
        {.name = "log",
         .kind = QM_OPT_TEXT,
         .to = &o.log_file,
         .value = "FILE",
         .help = "the event log (else the kernel's, " QM_LOG_DEFAULT ")"},
        {.name = "no-log", .kind = QM_OPT_FLAG, .to = &o.no_log, .help = "send none"},
        {.name = "beacon",
         .kind = QM_OPT_TEXT,
         .to = &o.beacon,
         .value = "FILE",
         .help = "the home's freshness beacon, as quotemill beacon show writes it"},
        {.name = "nonce", .kind = QM_OPT_TEXT, .to = &o.nonce, .value = "HEX", .help = "this extraData (else random)"},
        {.name = "pcrs",
         .kind = QM_OPT_TEXT,
         .to = &o.pcrs,
         .value = "LIST",
         .help = "PCRs of the SHA-256 bank (else those of init)"},
        {.name = "queue-records",
         .kind = QM_OPT_COUNT,
         .to = &o.limits.files,
         .value = "N",
         .max = 100000,
         .help = "how many records wait while the spool is away (288)"},
        {.name = "queue-mib",
         .kind = QM_OPT_COUNT,
         .to = &o.queue_mib,
         .value = "N",
         .max = 1 << 20,
         .help = "and how long they all are (32 MiB)"},
        {.name = "verbose", .letter = 'v', .kind = QM_OPT_TALLY, .to = &o.verbose, .help = "say what was delivered"},
        QM_STATE_OPTION(&o.common),
        QM_TPM_OPTIONS(&o.common),
    };
    static const struct qm_usage usage = {
        "once", "", "Reads the PCRs, quotes them, and delivers one evidence record.",
        "While the spool cannot be written to, records wait in the state directory; they are delivered first when it is back.\n"
        "Exit codes: 0 delivered, 1 measured but not delivered yet, or refused, 2 usage, 3 the environment or the TPM failed,\n"
        "75 another works with the state.\n"};
    int first, code;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 0, 0, &first, &code))
        return code;
    qm_collect_settle(&o.common);
    o.limits.bytes = o.queue_mib << 20;
    if (o.spool == NULL && !o.to_stdout) {
        o.spool = getenv("QUOTEMILL_SPOOL");
        if (o.spool == NULL || o.spool[0] == '\0')
            return qm_complain_usage("once", "--spool DIR or --stdout says where to");
    }
    if (o.spool != NULL && o.to_stdout)
        return qm_complain_usage("once", "--spool and --stdout are two places; one of them");
    if (o.beacon != NULL && o.nonce != NULL)
        return qm_complain_usage("once", "--beacon and --nonce are two kinds of extraData; one of them");
    return collect(&o);
}
